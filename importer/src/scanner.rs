//! Between steps 5 and 6: a scanner of this site's own looks at every image manifest, after all of its blobs were verified
//! and before anything is signed.
//!
//! What answers what:
//!
//! | what goes wrong | answer |
//! |---|---|
//! | the step is left out | [`Vetted`] is made here only, and signing needs it |
//! | the scanner fails or is killed | any end but exit code 0 refuses the image |
//! | it cannot be started | nothing goes on ([`Scanner::is_ready`], [`Error::ScanStart`]) |
//! | it hangs, or never stops writing | a time limit, after which it and its process group are killed; a limit on what it writes |
//! | it says nothing | missing output refuses the image |
//! | it finds something and exits with 0 | a report in a known format is judged by the site's own gate |
//! | it reports of another image | the digests in its report must be of the image that it was given |
//! | it is given our keys | it starts with an empty environment, but for what is listed, and without our open files; that it cannot read key files is for the site to see to (docs/scanning.md) |
//! | the sender calls an image something else | what a manifest consists of decides, not what its index calls it ([`Document::may_run`]) |
//! | image data stays on the disk | only with `plaintext_dir`, in folders of this program that are removed afterwards, also after a crash |

mod archive;
mod plaintext;
mod program;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::path::PathBuf;

use console::Progress;
use ledger::{Ledger, RecordedScanner, Rule};
use manifest_schema::document::Platform;
use manifest_schema::{Digest, Document, OutsideText, PlatformManifest, Reference, Repository, Timestamp};
use registry::RepositoryClient;
use scan::{Carried, Dated, ImageFacts, PlatformFacts, Rules};

use crate::admit::{Admitted, Placed};
use crate::complete::Complete;
use crate::config::ScannerConfig;
use crate::error::Error;
use crate::gate;
use crate::media::Media;
use crate::site::Site;
use plaintext::{Plaintext, private_folder};
use program::Program;

/// A bundle whose images this site's scanner has let pass, if there is one.
#[must_use]
pub struct Vetted<'s> {
    pub(crate) admitted: Admitted<'s>,
}

/// The scanner, complete and checked.
#[derive(Debug, Clone)]
pub struct Scanner {
    program: Program,
    plaintext: Option<PathBuf>,
}

impl Scanner {
    /// Whether it could run now.
    ///
    /// # Errors
    /// [`Error::ScanStart`], [`Error::PlaintextDir`].
    pub fn is_ready(&self) -> Result<(), Error> {
        self.program.is_there()?;
        self.plaintext.as_ref().map_or(Ok(()), |folder| Plaintext::open(folder).map(|_| ()))
    }

    /// From a configuration.
    ///
    /// # Errors
    /// [`Error::ScanCommand`] if the command names no image, or one that there is no folder for.
    pub fn new(config: &ScannerConfig) -> Result<Self, Error> {
        let program = Program::new(config)?;
        if program.wants_archive() && config.plaintext_dir.is_none() {
            return Err(Error::ScanCommand("it has {archive}, and scan.plaintext_dir is not configured"));
        }
        Ok(Self { program, plaintext: config.plaintext_dir.clone() })
    }
}

/// An image manifest that is to be scanned, and where it is.
pub(crate) struct Target<'a> {
    /// Where to read it.
    client: &'a RepositoryClient,
    repository: &'a Repository,
    manifest: Digest,
    platform: Option<&'a Platform>,
    origin: &'a Reference,
}

/// The image manifests that the scanner does not let pass: the image, the manifest, and why.
#[derive(Debug, Default)]
pub struct Refused(Vec<(Reference, Digest, OutsideText)>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(origin, manifest, why)| write!(f, "\n  {origin} ({manifest}): {}", why.escaped()))
    }
}

/// What a run came to.
struct Ran {
    /// The image manifest's configuration.
    config: Digest,
    ended: program::Ended,
    /// When it ended.
    at: Timestamp,
}

/// Has every image scanned, each image manifest once.
///
/// # Errors
/// [`Error::Scanner`] names all that do not pass, unless the rule was overridden for its bundle; if the registry or the
/// scanner's folder fails.
pub fn vet<'s>(site: &Site, complete: Complete<'s>, ledger: &Ledger, progress: &Progress) -> Result<Vetted<'s>, Error> {
    let mut admitted = complete.admitted;
    let Some(scanner) = &site.scanner else { return Ok(Vetted { admitted }) };
    let overridden = ledger.override_of(&admitted.subject, Rule::Scanner)?;
    let plaintext = scanner.plaintext.as_ref().map(|folder| Plaintext::open(folder)).transpose()?;
    let mut uses: HashMap<Digest, usize> = HashMap::new();
    for placed in admitted.placement.images.iter().filter(|placed| !placed.is_skipped()) {
        placed.image.platforms.iter().for_each(|platform| *uses.entry(platform.digest).or_default() += 1);
    }
    // What is written of an image is held until it was judged by its last name.
    let mut known: HashMap<Digest, Option<Ran>> = HashMap::new();
    let mut of_images = Vec::new();
    let mut refused = Refused::default();
    for placed in &admitted.placement.images {
        let mut said = Vec::new();
        for platform in placed.image.platforms.iter().filter(|_| !placed.is_skipped()) {
            let ran = match known.entry(platform.digest) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let ran = run_one(scanner, plaintext.as_ref(), &admitted, placed, platform, progress)?;
                    new.insert(ran)
                }
            };
            // It runs once, and is judged for each image: exceptions are for names.
            if let Some(ran) = ran {
                let found = judge(&admitted, placed, platform, scanner, ran)?;
                if let Some(why) = &found.refused {
                    refused.0.push((placed.image.origin.clone(), platform.digest, why.clone()));
                }
                said.push(found);
            }
            match uses.get_mut(&platform.digest) {
                Some(left) if *left > 1 => *left -= 1,
                _ => drop(known.remove(&platform.digest)),
            }
        }
        of_images.push(said);
    }
    match overridden {
        _ if refused.0.is_empty() => {}
        Some(entry) => progress.warn(format_args!("let in all the same, by ledger entry {entry}:{refused}")),
        None => return Err(Error::Scanner(refused)),
    }
    for (placed, said) in admitted.placement.images.iter_mut().zip(of_images) {
        if let Some(scanned) = &mut placed.scanned {
            scanned.scanner = said;
        }
    }
    Ok(Vetted { admitted })
}

/// Scans one image manifest; `None` if it is none that could be run.
fn run_one(
    scanner: &Scanner,
    plaintext: Option<&Plaintext>,
    admitted: &Admitted<'_>,
    placed: &Placed,
    platform: &PlatformManifest,
    progress: &Progress,
) -> Result<Option<Ran>, Error> {
    let client = match &admitted.bundle.media {
        Media::Staged(staged) => staged.waits_at(&placed.image.origin),
        Media::Folders(_) | Media::Piped(_) => None,
    };
    let client = client.map_or_else(|| admitted.placement.client(&placed.destination.repository), Ok)?;
    let fetched = client.fetch_document(&platform.digest)?;
    let document = Document::parse(fetched.document.bytes(), &fetched.media_type)
        .map_err(|source| Error::Document { digest: platform.digest, source })?;
    let config = match &document {
        Document::Manifest { config, .. } if document.may_run() => config.digest,
        Document::Manifest { .. } | Document::Index { .. } => {
            progress
                .say(format_args!("not scanned, since it is no image: {} of {}", platform.digest, placed.image.origin));
            return Ok(None);
        }
    };
    let target = Target {
        client,
        repository: client.repository(),
        manifest: platform.digest,
        platform: platform.platform.as_ref(),
        origin: &placed.image.origin,
    };
    progress.say(format_args!("scanning {}", target.reference()));
    // What the scanner unpacks lies where image data may lie, if that is said.
    let ended = match plaintext {
        None => {
            let folder = private_folder("sealift-", &std::env::temp_dir()).map_err(|e| scanner.program.failed(e))?;
            let ended = scanner.program.run(&target, folder.path(), None)?;
            folder.close().map_err(|e| scanner.program.failed(e))?;
            ended
        }
        Some(plaintext) => {
            let folder = plaintext.folder()?;
            let archive = folder.path().join("image.tar");
            let wants_archive = scanner.program.wants_archive();
            if wants_archive {
                archive::write(&archive, &target, &fetched, &document)?;
            }
            let ended = scanner.program.run(&target, folder.path(), wants_archive.then_some(archive.as_path()))?;
            folder.remove()?;
            ended
        }
    };
    Ok(Some(Ran { config, ended, at: Timestamp::now() }))
}

impl Target<'_> {
    /// What it is called where it is.
    fn reference(&self) -> Reference {
        Reference::pinned(self.repository.clone(), self.manifest)
    }
}

/// Whether what came of a run is enough for an image, by its end and by the gate.
fn judge(
    admitted: &Admitted<'_>,
    placed: &Placed,
    platform: &PlatformManifest,
    scanner: &Scanner,
    ran: &Ran,
) -> Result<RecordedScanner, Error> {
    let Ran { config, ended, at } = ran;
    let (origin, production) = (placed.image.origin.repository(), &placed.production.repository);
    let facts = ImageFacts {
        names: vec![origin.clone(), production.clone()],
        digest: platform.digest,
        platforms: vec![PlatformFacts {
            digest: platform.digest,
            config: Some(*config),
            platform: platform.platform.clone(),
            may_run: true,
        }],
    };
    let gate = admitted.bundle.rules.gate.as_ref();
    let output = ended.output.as_deref().unwrap_or_default();
    let rules = gate.map(|gate| gate.rules().clone()).unwrap_or_default();
    let report = Carried::read(&rules, platform.digest, blobs::sha256(output), None, None, output);
    // It may have run long after this run began.
    let dated = Dated { now: *at, tolerance: signing::DEFAULT_CLOCK_TOLERANCE };
    let verdict = report.map(|report| {
        // Its own scanner is asked for what it can tell; what must be there besides was judged with what came along.
        let rules = Rules { required: Vec::new(), max_age: None, ..rules.clone() }.as_far_as(&report.report);
        let reports = std::slice::from_ref(&report);
        match gate {
            None => rules.judge(&facts, reports, &Vec::new(), dated),
            Some(gate) => gate.judge_by(&rules, &facts, reports, dated),
        }
    });
    let unused = verdict.as_ref().and_then(|v| v.reports.first()).and_then(|row| row.unused.as_ref());
    let refused = match (&ended.refused, unused, &verdict) {
        (Some(why), ..) => Some(why.clone()),
        (None, Some(unused), _) => Some(format!("its report does not count: {unused}")),
        (None, None, Some(verdict)) if !verdict.is_accepted() => {
            Some(verdict.reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        }
        (None, None, _) => None,
    };
    let (report, excused) = match verdict {
        None => (None, Vec::new()),
        Some(verdict) => (verdict.reports.into_iter().next(), verdict.excused),
    };
    Ok(RecordedScanner {
        manifest: platform.digest,
        command: OutsideText::new(scanner.program.to_string()),
        output: blobs::sha256(output),
        report: report.map(gate::report).transpose()?,
        excused: gate::excuses(excused)?,
        refused: refused.map(OutsideText::new),
    })
}

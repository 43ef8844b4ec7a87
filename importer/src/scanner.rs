//! Between steps 5 and 6: a scanner of this site's own looks at every image manifest, after all of its blobs were verified
//! and before anything is signed.
//!
//! What answers what:
//!
//! | what goes wrong | answer |
//! |---|---|
//! | the step is left out | [`Vetted`] is made here only, and signing needs it |
//! | the scanner fails, is killed, or is not there | any end but exit code 0 refuses the image |
//! | it hangs, or never stops writing | a time limit, after which it and all that it started is killed; a limit on what it writes |
//! | it says nothing | missing output refuses the image |
//! | it finds something and exits with 0 | a report in a known format is judged by the site's own gate |
//! | it reports of another image | the digests in its report must be of the image that it was given |
//! | it is given our keys | it starts with an empty environment, but for what is listed, and without our open files; that it cannot read key files is for the site to see to (docs/scanning.md) |
//! | image data stays on the disk | only with `plaintext_dir`, in folders of this program that are removed afterwards, also after a crash |

mod archive;
mod plaintext;
mod program;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;

use console::Progress;
use ledger::{Ledger, RecordedScanner, Rule};
use manifest_schema::document::Platform;
use manifest_schema::{Digest, Document, OutsideText, PlatformManifest, Reference, Repository};
use registry::RepositoryClient;
use scan::{Carried, ImageFacts, PlatformFacts, Rules};

use crate::admit::{Admitted, Placed};
use crate::complete::Complete;
use crate::config::ScannerConfig;
use crate::error::Error;
use crate::media::Media;
use crate::site::Site;
use plaintext::Plaintext;
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
    /// The configuration, which is what some scanners call the image's id.
    config: Digest,
    origin: &'a Reference,
}

/// What the scanner said of one image manifest.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    record: RecordedScanner,
    refused: Option<String>,
}

/// Has every image scanned, each image manifest once.
///
/// # Errors
/// [`Error::Scanner`] for one that does not pass, unless the rule was overridden for its bundle; if the registry or the
/// scanner's folder fails.
pub fn vet<'s>(site: &Site, complete: Complete<'s>, ledger: &Ledger, progress: &Progress) -> Result<Vetted<'s>, Error> {
    let mut admitted = complete.admitted;
    let Some(scanner) = &site.scanner else { return Ok(Vetted { admitted }) };
    let is_overridden = ledger.override_of(&admitted.subject, Rule::Scan)?.is_some();
    let plaintext = scanner.plaintext.as_ref().map(|folder| Plaintext::open(folder)).transpose()?;
    let mut known: HashMap<Digest, Option<Said>> = HashMap::new();
    let mut of_images = Vec::new();
    for placed in &admitted.placement.images {
        let mut said = Vec::new();
        for platform in placed.image.platforms.iter().filter(|_| !placed.is_skipped()) {
            let found = match known.entry(platform.digest) {
                Entry::Occupied(found) => found.into_mut(),
                Entry::Vacant(place) => {
                    place.insert(scan_one(site, scanner, plaintext.as_ref(), &admitted, placed, platform, progress)?)
                }
            };
            said.extend(found.clone());
        }
        if let Some(Said { record, refused: Some(why) }) = said.iter().find(|s| s.refused.is_some())
            && !is_overridden
        {
            let (origin, manifest) = (Box::new(placed.image.origin.clone()), record.manifest);
            return Err(Error::Scanner { origin, manifest, why: OutsideText::new(why) });
        }
        of_images.push(said);
    }
    for (placed, said) in admitted.placement.images.iter_mut().zip(of_images) {
        if let Some(scanned) = &mut placed.scanned {
            scanned.scanner = said.into_iter().map(|said| said.record).collect();
        }
    }
    Ok(Vetted { admitted })
}

/// Scans one image manifest; `None` if it has no file system that could be scanned.
fn scan_one(
    site: &Site,
    scanner: &Scanner,
    plaintext: Option<&Plaintext>,
    admitted: &Admitted<'_>,
    placed: &Placed,
    platform: &PlatformManifest,
    progress: &Progress,
) -> Result<Option<Said>, Error> {
    let client = match &admitted.bundle.media {
        Media::Staged(staged) => staged.waits_at(&placed.image.origin),
        Media::Folders(_) | Media::Piped(_) => None,
    };
    let client = client.map_or_else(|| admitted.placement.client(&placed.destination.repository), Ok)?;
    let fetched = client.fetch_document(&platform.digest)?;
    let document = Document::parse(fetched.document.bytes(), &fetched.media_type)
        .map_err(|source| Error::Document { digest: platform.digest, source })?;
    let Document::Manifest { config, layers, .. } = &document else { return Ok(None) };
    if !layers.iter().any(|layer| layer.media_type.is_image_layer()) {
        return Ok(None);
    }
    let target = Target {
        client,
        repository: client.repository(),
        manifest: platform.digest,
        platform: platform.platform.as_ref(),
        config: config.digest,
        origin: &placed.image.origin,
    };
    progress.say(format_args!("scanning {}", target.reference()));
    let ended = match plaintext.filter(|_| scanner.program.wants_archive()) {
        None => scanner.program.run(&target, None)?,
        Some(plaintext) => {
            let folder = plaintext.folder()?;
            let archive = folder.path().join("image.tar");
            archive::write(&archive, &target, &fetched, &document)?;
            let ended = scanner.program.run(&target, Some(&archive))?;
            folder.remove()?;
            ended
        }
    };
    Ok(Some(judge(site, admitted, &target, scanner, ended)))
}

impl Target<'_> {
    /// What it is called where it is.
    fn reference(&self) -> Reference {
        Reference::pinned(self.repository.clone(), self.manifest)
    }
}

/// Whether what came of a run is enough, by its end and by the gate.
fn judge(site: &Site, admitted: &Admitted<'_>, target: &Target<'_>, scanner: &Scanner, ended: program::Ended) -> Said {
    let facts = ImageFacts {
        names: vec![target.origin.repository().clone(), target.repository.clone()],
        digest: target.manifest,
        platforms: vec![PlatformFacts {
            digest: target.manifest,
            config: Some(target.config),
            platform: target.platform.cloned(),
        }],
    };
    let gate = admitted.bundle.rules.gate.as_ref();
    let output = ended.output.as_deref().unwrap_or_default();
    let rules = gate.map(|gate| gate.rules().clone()).unwrap_or_default();
    let report = Carried::read(&rules, target.manifest, blobs::sha256(output), None, None, output);
    let verdict = report.map(|report| {
        // Its own scanner is asked for what it can tell; what must be there besides was judged with what came along.
        let rules = Rules { required: Vec::new(), max_age: None, ..rules.clone() }.as_far_as(&report.report);
        gate.map_or_else(
            || rules.judge(&facts, std::slice::from_ref(&report), &Vec::new(), site.dated()),
            |gate| gate.judge_by(&rules, &facts, std::slice::from_ref(&report), site.dated()),
        )
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
    let report = verdict.and_then(|verdict| verdict.reports.into_iter().next());
    let record = RecordedScanner {
        manifest: target.manifest,
        command: OutsideText::new(scanner.program.to_string()),
        output: blobs::sha256(output),
        report: report.and_then(|row| crate::gate::report(row).ok()),
        refused: refused.as_ref().map(OutsideText::new),
    };
    Said { record, refused }
}

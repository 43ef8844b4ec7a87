//! The folders of one bundle, each with its seal.
//!
//! Every seal is judged before anything else of its folder is read, and all must be of one bundle. What one of them says of
//! a volume holds wherever the volume lies, so that a volume that was made again fits between the old ones.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bundle::{ContentsError, Folder, FolderError, LABEL, Repairable, SEAL, SEAL_SIGNATURE, Seal, TOOL, media_folders};
use commands::handover::Chain;
use console::Progress;
use manifest_schema::{BundleId, Digest, OutsideText, Sequence, Stream, Timestamp};
use signing::Authentic;

use crate::custody;
use crate::error::Error;
use crate::media::{Wait, Wanted};
use crate::site::{Site, StreamRules};

/// A folder with its seal, which is authentic.
struct SealedFolder {
    folder: Folder,
    seal: Arc<Authentic<Seal>>,
}

/// Which bundle the seals are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedAs {
    /// Its id.
    pub bundle: BundleId,
    /// `<stream>-<sequence>`.
    pub name: String,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// How many volumes it has.
    pub volumes: usize,
}

impl std::fmt::Display for SealedAs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { bundle, name, manifest, volumes } = self;
        write!(f, "{name} (bundle {bundle}, manifest {manifest}, {volumes} volumes)")
    }
}

impl SealedAs {
    fn of(seal: &Seal) -> Self {
        let (bundle, name, manifest) = (seal.bundle, seal.name.clone(), seal.manifest);
        Self { bundle, name, manifest, volumes: seal.volumes.len() }
    }
}

/// The folders of a bundle.
#[must_use]
pub struct Folders<'s> {
    site: &'s Site,
    pub(crate) stream: Stream,
    pub(crate) sequence: Sequence,
    pub(crate) rules: &'s StreamRules,
    pub(crate) sealed: SealedAs,
    state: Mutex<State>,
    wait: Box<dyn Wait>,
}

struct State {
    /// Those at hand, the highest revision of the seal first.
    folders: Vec<SealedFolder>,
    /// Every seal that was seen.
    seals: Vec<Arc<Authentic<Seal>>>,
    /// Copies of volumes that are not what was sealed.
    damaged: BTreeSet<PathBuf>,
    /// Copies of volumes that were read whole and are what was sealed.
    good: BTreeSet<PathBuf>,
    /// Where folders of the bundle were, one of which may be there still.
    places: BTreeSet<PathBuf>,
    /// The statements of custody of every folder that was seen.
    handover: Vec<Chain>,
}

/// A volume, opened.
pub struct OpenVolume {
    /// The ciphertext.
    pub file: File,
    /// Where it is.
    pub path: PathBuf,
}

impl<'s> Folders<'s> {
    /// Judges the seals of folders; see [`crate::open::seal`].
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(site: &'s Site, paths: &[PathBuf], wait: Box<dyn Wait>) -> Result<Self, Error> {
        let mut found = Vec::new();
        for path in paths.iter().flat_map(|path| media_folders(path)) {
            found.push(open_folder(site, &path)?);
        }
        let Some((rules, first)) = found.first().map(|(rules, folder)| (*rules, folder)) else {
            return Err(Error::Missing("a bundle"));
        };
        let sealed = SealedAs::of(first.seal.get());
        let (stream, sequence) = split_name(&sealed.name)?;
        let folders = Self {
            site,
            stream,
            sequence,
            rules,
            sealed,
            state: Mutex::new(State {
                folders: Vec::new(),
                seals: Vec::new(),
                damaged: BTreeSet::new(),
                good: BTreeSet::new(),
                places: BTreeSet::new(),
                handover: Vec::new(),
            }),
            wait,
        };
        for (_, folder) in found {
            folders.add(folder)?;
        }
        Ok(folders)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, new: SealedFolder) -> Result<(), Error> {
        let found = SealedAs::of(new.seal.get());
        if found != self.sealed {
            let (path, expected) = (new.folder.path().into(), Box::new(self.sealed.clone()));
            return Err(Error::OtherMedium { path, expected, found: Box::new(found) });
        }
        let mut state = self.state();
        if !state.seals.iter().any(|seal| seal.get() == new.seal.get()) {
            state.seals.push(new.seal.clone());
        }
        if let Some(chain) = custody::read(self.site, &new.folder, state.seals.iter().map(|seal| seal.get())) {
            // The same folder may come again; at the same place another medium may.
            if !state.handover.iter().any(|before| custody::is_same(before, &chain)) {
                state.handover.push(chain);
            }
        }
        state.places.insert(new.folder.path().into());
        state.folders.push(new);
        state.folders.sort_by_key(|f| std::cmp::Reverse(f.seal.get().revision));
        Ok(())
    }

    /// Every seal that was seen, each once.
    pub fn seals(&self) -> Vec<Arc<Authentic<Seal>>> {
        self.state().seals.clone()
    }

    /// Who stated to have handed over what of the folders that were seen.
    pub fn handover(&self) -> Vec<Chain> {
        self.state().handover.clone()
    }

    /// Where the folders are that are at hand.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state().folders.iter().map(|f| f.folder.path().to_path_buf()).collect()
    }

    /// Whether volumes should be read one after the other.
    pub fn one_at_a_time(&self) -> bool {
        self.waits() || self.state().folders.iter().any(|f| f.folder.one_at_a_time().is_some())
    }

    /// Whether somebody may bring what is missing.
    pub fn waits(&self) -> bool {
        self.wait.waits()
    }

    /// The digests of a volume's ciphertext that count: one for each time it was made.
    pub fn sealed_digests(&self, number: u32) -> BTreeSet<Digest> {
        self.state().seals.iter().filter_map(|seal| seal.get().volume(number)).map(|v| v.digest).collect()
    }

    /// The volumes that are at hand.
    pub fn here(&self) -> BTreeSet<u32> {
        let state = self.state();
        let all = 1..=u32::try_from(self.sealed.volumes).unwrap_or(u32::MAX);
        all.filter(|number| matches!(find(&state, *number), Ok(Some(_)))).collect()
    }

    /// The label of each folder is the one that was sealed; unless somebody may bring more, every volume is there.
    ///
    /// # Errors
    /// [`Error::MissingVolumes`] names all that are missing.
    pub fn check_here(&self) -> Result<(), Error> {
        for folder in &self.state().folders {
            check_label(folder)?;
        }
        if self.waits() {
            return Ok(());
        }
        let here = self.here();
        let missing: Vec<u32> = (1..=self.sealed.volumes as u32).filter(|number| !here.contains(number)).collect();
        if missing.is_empty() { Ok(()) } else { Err(self.missing(missing)) }
    }

    fn missing(&self, missing: Vec<u32>) -> Error {
        let media = missing.iter().filter_map(|number| self.wanted(*number).medium).map(|(medium, _)| medium);
        let media = media.collect::<BTreeSet<_>>();
        let can_be_made = |number: &u32| self.repairable(*number) == Repairable::Yes;
        let repairable: Vec<u32> = missing.iter().copied().filter(can_be_made).collect();
        let folders = self.paths();
        let bundle = self.sealed.name.clone();
        Error::MissingVolumes { bundle, missing, of: self.sealed.volumes, media, repairable, folders }
    }

    fn wanted(&self, volume: u32) -> Wanted {
        let medium = self.state().seals.iter().map(|s| s.get()).find_map(|seal| {
            let sealed = seal.volume(volume).filter(|_| seal.split)?;
            Some((sealed.medium, seal.media()))
        });
        let volumes = u32::try_from(self.sealed.volumes).unwrap_or(u32::MAX);
        Wanted { bundle: self.sealed.name.clone(), volume, volumes, medium }
    }

    /// Opens a volume, and waits for it if it is not at hand.
    ///
    /// # Errors
    /// [`Error::MissingVolumes`] if nobody brings it.
    pub fn volume(&self, number: u32) -> Result<OpenVolume, Error> {
        loop {
            if let Some(open) = find(&self.state(), number)? {
                return Ok(open);
            }
            if !self.waits() {
                return Err(self.missing(vec![number]));
            }
            // A medium that is held open cannot be taken out.
            self.state().folders.clear();
            self.state().damaged.clear();
            self.state().good.clear();
            let Some(paths) = self.wait.wait(&self.wanted(number))? else {
                return Err(self.missing(vec![number]));
            };
            let brought: BTreeSet<_> = paths.iter().flat_map(|path| media_folders(path)).collect();
            let before = self.state().places.clone();
            for path in brought.union(&before) {
                let added = open_folder(self.site, path).and_then(|(_, folder)| {
                    if SealedAs::of(folder.seal.get()) == self.sealed {
                        check_label(&folder)?;
                    }
                    self.add(folder)
                });
                if let Err(e) = added
                    && brought.contains(path)
                {
                    self.wait.reject(&e);
                }
            }
            // Nothing is received before the first volume says what the bundle is; that a medium is good can be told.
            if number == 1 && find(&self.state(), 1)?.is_none() {
                for here in self.here() {
                    let name = bundle::volume_name(&self.sealed.name, here);
                    let result = self.check_volume(here, |_| ());
                    self.wait.checked(&name, result.as_ref().err());
                }
            }
        }
    }

    /// A copy of a volume was read whole, and is what was sealed.
    pub(crate) fn note_good(&self, path: Option<PathBuf>) {
        self.state().good.extend(path);
    }

    /// Label and volumes, each against the seals; copies that were read whole before are not read again. Recovery data is of no
    /// account here.
    pub fn check_files(&self, progress: &Progress) -> Vec<(String, Result<(), Error>)> {
        let mut results = Vec::new();
        for SealedFolder { folder, seal } in &self.state().folders {
            results.push((LABEL.to_string(), check_small(folder, LABEL, seal.get().label)));
            if let Some(digest) = seal.get().tool.filter(|_| folder.open_file(TOOL).is_ok()) {
                results.push((TOOL.to_string(), check_small(folder, TOOL, digest)));
            }
        }
        let good = self.state().good.clone();
        let every_copy = |number| copies_but(&BTreeSet::new(), &self.state(), number);
        let numbers = 1..=u32::try_from(self.sealed.volumes).unwrap_or(u32::MAX);
        let to_read =
            |copy: OpenVolume| (!good.contains(&copy.path)).then(|| copy.file.metadata().ok().map(|m| m.len()));
        let sizes = numbers.clone().flat_map(every_copy).filter_map(|copy| to_read(copy.ok()?)?);
        match sizes.sum() {
            0 => {}
            bytes => progress.begin("checking files", bytes),
        }
        for number in numbers {
            let name = bundle::volume_name(&self.sealed.name, number);
            let copies = every_copy(number);
            if copies.is_empty() {
                results.push((name.clone(), Err(self.missing(vec![number]))));
            }
            for copy in copies {
                let result = match copy {
                    Ok(copy) if good.contains(&copy.path) => Ok(()),
                    Ok(copy) => self.check_copy(number, copy, |n| progress.advance(n)),
                    Err(e) => Err(e.into()),
                };
                results.push((name.clone(), result));
            }
        }
        progress.end();
        results
    }

    /// The ciphertext of a volume that is at hand, against the seals.
    fn check_volume(&self, number: u32, progress: impl FnMut(u64)) -> Result<(), Error> {
        let found = find(&self.state(), number)?;
        self.check_copy(number, found.ok_or_else(|| self.missing(vec![number]))?, progress)
    }

    fn check_copy(&self, number: u32, copy: OpenVolume, progress: impl FnMut(u64)) -> Result<(), Error> {
        let OpenVolume { file, path } = copy;
        match bundle::digest_of(file, progress) {
            Ok((found, _)) if self.sealed_digests(number).contains(&found) => Ok(()),
            Ok((found, _)) => Err(self.damaged(number, path, found)),
            Err(e) => Err(Error::UnreadableFile { file: path, reason: e.to_string() }),
        }
    }

    /// Passes over a damaged copy from now on. Whether there is another one, or somebody may bring it.
    fn pass_over(&self, path: &Path) -> bool {
        let mut state = self.state();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let numbers = 1..=u32::try_from(self.sealed.volumes).unwrap_or(u32::MAX);
        let number = numbers.into_iter().find(|number| bundle::volume_name(&self.sealed.name, *number) == name);
        let another = number.is_some_and(|number| {
            state.damaged.insert(path.into());
            matches!(find(&state, number), Ok(Some(_)))
        });
        drop(state);
        another || (number.is_some() && self.wait.brings())
    }

    /// Goes on after a copy of a volume that is damaged or cannot be read, if there is another or somebody may bring one.
    ///
    /// # Errors
    /// The error, if there is none.
    pub(crate) fn another_copy(&self, error: Error) -> Result<(), Error> {
        match &error {
            Error::Damaged { file, .. } | Error::UnreadableFile { file, .. } if self.pass_over(file) => {
                console::say(&format!("warning: {}; another copy is looked for", console::chain(&error)));
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Tells damage from deceit: if a volume's ciphertext is not what was sealed, the medium is at fault, whatever the
    /// error; otherwise the bundle is.
    pub(crate) fn diagnose(&self, number: u32, error: ContentsError) -> Error {
        let found = find(&self.state(), number);
        let open = match found {
            Ok(Some(open)) => open,
            Ok(None) => return self.missing(vec![number]),
            Err(e) => return e.into(),
        };
        let sealed = self.sealed_digests(number);
        match bundle::digest_of(open.file, |_| ()) {
            Ok((found, _)) if !sealed.contains(&found) => self.damaged(number, open.path, found),
            Ok(_) if matches!(&error, ContentsError::Volume(bundle::VolumeError::NoIdentity)) => {
                Error::NoIdentity { file: open.path }
            }
            Ok(_) => Error::Contents { file: open.path, source: Box::new(error) },
            Err(e) => Error::UnreadableFile { file: open.path, reason: e.to_string() },
        }
    }

    /// The copy of a volume that was read is not what was sealed.
    pub(crate) fn not_sealed(&self, number: u32, found: Digest) -> Error {
        let path = find(&self.state(), number).ok().flatten().map(|open| open.path).unwrap_or_default();
        self.damaged(number, path, found)
    }

    fn damaged(&self, number: u32, file: PathBuf, found: Digest) -> Error {
        match self.sealed_digests(number).into_iter().next() {
            Some(expected) => Error::Damaged { file, expected, found, repair: Some((number, self.repairable(number))) },
            None => self.missing(vec![number]),
        }
    }

    /// Whether the recovery data of a volume that is damaged or missing can repair it.
    fn repairable(&self, number: u32) -> Repairable {
        let state = self.state();
        let judge = |SealedFolder { folder, seal }: &SealedFolder| {
            let volume = seal.get().volume(number)?;
            let recovery: Vec<&str> = volume.recovery.iter().map(|file| file.name.as_str()).collect();
            if !recovery.iter().any(|name| folder.open_file(name).is_ok()) {
                return None;
            }
            Some(match bundle::recovery::assess(folder, &volume.name, &recovery, |_| ()) {
                // It belongs to this volume, and not to the one that was sealed.
                Ok(found) if found.is_intact() => Repairable::NoData,
                Ok(found) if found.is_repairable() => Repairable::Yes,
                Ok(_) => Repairable::TooLittle,
                Err(_) => Repairable::NoData,
            })
        };
        state.folders.iter().filter_map(judge).max().unwrap_or(Repairable::NoData)
    }
}

/// The copies of a volume that are not known to be damaged, those of the highest revision first.
fn copies(state: &State, number: u32) -> Vec<Result<OpenVolume, FolderError>> {
    copies_but(&state.damaged, state, number)
}

fn copies_but(left_out: &BTreeSet<PathBuf>, state: &State, number: u32) -> Vec<Result<OpenVolume, FolderError>> {
    let copy = |SealedFolder { folder, seal }: &SealedFolder| {
        let volume = seal.get().volume(number)?;
        let path = folder.path().join(&volume.name);
        if left_out.contains(&path) {
            return None;
        }
        match folder.open_file(&volume.name) {
            Err(FolderError::Missing(_)) => None,
            opened => Some(opened.map(|file| OpenVolume { file, path })),
        }
    };
    state.folders.iter().filter_map(copy).collect()
}

/// The first copy of a volume that can be opened.
fn find(state: &State, number: u32) -> Result<Option<OpenVolume>, FolderError> {
    let mut unreadable = None;
    for copy in copies(state, number) {
        match copy {
            Ok(open) => return Ok(Some(open)),
            Err(e) => unreadable = Some(e),
        }
    }
    unreadable.map_or(Ok(None), Err)
}

fn check_label(sealed: &SealedFolder) -> Result<(), Error> {
    check_small(&sealed.folder, LABEL, sealed.seal.get().label)
}

/// A sealed file that is no volume.
fn check_small(folder: &Folder, name: &str, expected: Digest) -> Result<(), Error> {
    let file = folder.path().join(name);
    match folder.digest_of(name, |_| ()) {
        Ok((found, _)) if found == expected => Ok(()),
        Ok((found, _)) => Err(Error::Damaged { file, expected, found, repair: None }),
        Err(FolderError::Missing(file)) => Err(Error::MissingFile { file }),
        Err(e) => Err(e.into()),
    }
}

/// Opens a folder and judges its seal.
fn open_folder<'s>(site: &'s Site, path: &Path) -> Result<(&'s StreamRules, SealedFolder), Error> {
    let folder = Folder::open(path)?;
    let (bytes, signature) = commands::check::read_seal(&folder)?;
    // Only to know whose signature is needed; what counts is parsed again from the authenticated bytes.
    let untrusted_seal = Seal::parse(&bytes)?;
    let (stream, _) = split_name(&untrusted_seal.name)?;
    let rules = site.stream(&stream)?;
    // A medium may be brought long after the first one was judged.
    let authentic = rules
        .trust
        .at(Timestamp::now().max(rules.trust.now()))
        .verify_detached(bytes, &signature)
        .map_err(|source| Error::SealRejected { stream: stream.clone(), source: Box::new(source) })?;
    let seal = authentic.parse(|bytes| Seal::parse(bytes))?;
    for signer in seal.signers() {
        tracing::info!("seal signed by {} at {}", signer.fingerprint, signer.signed_at);
    }
    let names: Vec<&str> = seal.get().files().map(|(name, _)| name).chain([SEAL, SEAL_SIGNATURE]).collect();
    folder.survey(&names)?;
    Ok((rules, SealedFolder { folder, seal: Arc::new(seal) }))
}

/// `<stream>-<sequence>`.
fn split_name(name: &str) -> Result<(Stream, Sequence), Error> {
    let parts = name.rsplit_once('-').and_then(|(stream, sequence)| {
        let number: u64 = sequence.parse().ok()?;
        Some((stream.parse().ok()?, Sequence::try_from(number).ok()?))
    });
    parts.ok_or_else(|| Error::BundleName(OutsideText::new(name)))
}

//! The files of a bundle while it is made: written side by side, noted when they are finished, taken over from a run that was
//! interrupted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

use blobs::threads;
use bundle::{
    DirectFile, Folder, Output, Outputs, Packer, Packing, SourceBlob, WrittenVolume, medium_name, volume_name,
};
use console::Progress;
use manifest_schema::Digest;

use crate::error::Error;
use crate::layout::PlannedVolume;
use crate::pull::Which;
use crate::record::{Claim, FinishedVolume};
use crate::request::Request;

/// Volumes that are written at once, at most: enough that one is under way while another waits for its medium.
const AT_ONCE: usize = 2;

/// Volumes that are being written.
pub(crate) struct Writing<'w> {
    place: &'w Place<'w>,
    request: &'w Request,
    which: Which<'w>,
    volumes: BTreeMap<u32, &'w PlannedVolume>,
    /// The digest of the manifest's signatures, which are in volume 1.
    signatures: Digest,
    state: Mutex<State<'w>>,
    /// Recovery data takes memory: it is made for one volume at a time.
    recovery: Mutex<()>,
    progress: &'w Progress,
}

struct State<'w> {
    claim: &'w mut Claim,
    written: BTreeMap<u32, FinishedVolume>,
}

impl<'w> Writing<'w> {
    pub fn new(
        place: &'w Place<'w>,
        request: &'w Request,
        claim: &'w mut Claim,
        which: Which<'w>,
        volumes: Vec<&'w PlannedVolume>,
        signatures: Digest,
        progress: &'w Progress,
    ) -> Self {
        let volumes = volumes.into_iter().map(|volume| (volume.number, volume)).collect();
        let state = Mutex::new(State { claim, written: BTreeMap::new() });
        Self { place, request, which, volumes, signatures, state, recovery: Mutex::new(()), progress }
    }

    fn planned(&self, number: u32) -> Result<&'w PlannedVolume, Error> {
        let last = self.volumes.keys().next_back().copied().unwrap_or(0);
        self.volumes.get(&number).copied().ok_or(Error::NoSuchVolume { number, last })
    }

    fn state(&self) -> MutexGuard<'_, State<'w>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes them all. `stopped` is set when one fails, for the others to end.
    ///
    /// # Errors
    /// The first that came up. What was finished until then is noted.
    pub fn write<S: SourceBlob<Error = Error>>(
        self,
        packing: Packing<'_, S>,
        stopped: &AtomicBool,
    ) -> Result<BTreeMap<u32, FinishedVolume>, Error> {
        let others = match self.which {
            Which::Missing => self.state().claim.volumes().clone(),
            Which::Again(_) => self.state().claim.sealed_volumes(),
        };
        let known: Vec<_> = others.values().flat_map(FinishedVolume::parts).collect();
        let one_at_a_time = Folder::open(self.place.folder).is_ok_and(|folder| folder.one_at_a_time().is_some());
        let runs = bundle::runs(packing.manifest, &self.volumes.keys().copied().collect::<Vec<_>>());
        let at_once = if one_at_a_time { 1 } else { AT_ONCE.min(self.request.jobs).min(runs.len()).max(1) };
        let packer = Packer::new(packing, self.request.jobs.div_ceil(at_once));
        threads::for_each_until(stopped, at_once, &runs, |run| packer.volumes(run, &known, &mut &self))?;
        Ok(self.state.into_inner().unwrap_or_else(PoisonError::into_inner).written)
    }
}

impl Outputs<Error> for &Writing<'_> {
    fn open(&mut self, number: u32) -> Result<Box<dyn Output>, Error> {
        let path = self.place.volume(self.planned(number)?);
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(|source| Error::Output { path, source })?;
        // Recovery data is made from it next, better from memory than from the medium.
        Ok(if self.request.cut.recovery.is_some() { Box::new(file) } else { Box::new(DirectFile::new(file)) })
    }

    fn ended(&mut self, number: u32, made: WrittenVolume) -> Result<(), Error> {
        let volume = self.planned(number)?;
        if made.size > volume.at_most_bytes {
            return Err(Error::LargerThanPlanned { number, size: made.size, planned: volume.at_most_bytes });
        }
        let cut = &self.request.cut;
        let recovery = match cut.recovery {
            Some(share) => {
                let _one_at_a_time = self.recovery.lock().unwrap_or_else(PoisonError::into_inner);
                crate::recovery::create(&self.place.volume(volume), share, cut.volume_size, self.progress)?
            }
            None => Vec::new(),
        };
        sync_folder(&self.place.medium(volume.medium))?;
        let mut state = self.state();
        let finished = FinishedVolume::new(made, recovery, (number == 1).then_some(self.signatures));
        if matches!(self.which, Which::Missing) {
            state.claim.note_volume(number, finished.clone())?;
        }
        state.written.insert(number, finished);
        Ok(())
    }
}

/// Where files are written.
pub(crate) struct Place<'a> {
    pub folder: &'a Path,
    /// A folder for each medium.
    pub split: bool,
    /// `<stream>-<sequence>`.
    pub name: String,
}

impl Place<'_> {
    pub fn medium(&self, number: u32) -> PathBuf {
        if self.split { self.folder.join(medium_name(number)) } else { self.folder.into() }
    }

    fn volume(&self, volume: &PlannedVolume) -> PathBuf {
        self.medium(volume.medium).join(volume_name(&self.name, volume.number))
    }
}

/// Removes a folder, if it is there.
pub(crate) fn remove(folder: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::Output { path: folder.into(), source: e }),
        _ => Ok(()),
    }
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|source| Error::Output { path: folder.into(), source })
}

/// Keeps the volumes of an interrupted run that are what the record says, and clears everything else away.
pub(crate) fn take_over(
    claim: &mut Claim,
    place: &Place<'_>,
    planned: &[PlannedVolume],
    signatures: Digest,
    progress: &Progress,
) -> Result<(), Error> {
    if !place.folder.exists() {
        return claim.keep_volumes(|_| false);
    }
    let candidates: Vec<_> =
        planned.iter().filter_map(|v| claim.volumes().get(&v.number).map(|noted| (v, noted.clone()))).collect();
    progress.begin("checking what is there", candidates.iter().map(|(_, noted)| noted.size).sum());
    let mut good = BTreeSet::new();
    let mut names: BTreeSet<PathBuf> = BTreeSet::new();
    for (volume, noted) in &candidates {
        let at = place.medium(volume.medium);
        let file = volume_name(&place.name, volume.number);
        let recovery: Vec<_> = noted.recovery().collect();
        let expected = recovery.iter().map(|f| (f.name.as_str(), f.digest)).chain([(file.as_str(), noted.digest)]);
        let is_there = Folder::open(&at).is_ok_and(|folder| {
            let mut all = expected.clone();
            all.all(|(name, digest)| {
                folder.digest_of(name, |n| progress.advance(n)).is_ok_and(|(found, _)| found == digest)
            })
        });
        // Signatures may have been added to the plan since.
        if is_there && noted.holds((volume.number == 1).then_some(signatures)) {
            good.insert(volume.number);
            names.extend(expected.map(|(name, _)| at.join(name)));
        }
    }
    progress.end();
    progress.say(format_args!(
        "taking over {}: {} of {} volumes are finished",
        place.folder.display(),
        good.len(),
        planned.len()
    ));
    claim.keep_volumes(|number| good.contains(&number))?;
    clear(place.folder, &names)
}

/// Removes every file of a folder and of the folders in it but these.
fn clear(folder: &Path, keep: &BTreeSet<PathBuf>) -> Result<(), Error> {
    let at = |source| Error::Output { path: folder.into(), source };
    for entry in std::fs::read_dir(folder).map_err(at)? {
        let entry = entry.map_err(at)?;
        let path = entry.path();
        if entry.file_type().map_err(at)?.is_dir() {
            clear(&path, keep)?;
            if !keep.iter().any(|kept| kept.starts_with(&path)) {
                std::fs::remove_dir(&path).map_err(at)?;
            }
        } else if !keep.contains(&path) {
            std::fs::remove_file(&path).map_err(at)?;
        }
    }
    Ok(())
}

/// Refuses to begin what cannot fit.
pub(crate) fn check_space(folder: &Path, needed: u64) -> Result<(), Error> {
    let free = bundle::free_space(folder).map_err(|source| Error::Output { path: folder.into(), source })?;
    if free < needed { Err(Error::NoSpace { path: folder.into(), needed, free }) } else { Ok(()) }
}

//! A damaged volume, made whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use blobs::Hasher;
use manifest_schema::Digest;

use super::assess::{Inspection, inspect};
use super::mix::{Input, MixError, mix};
use super::solve::solve;
use super::{CHUNK, ReadAt, RecoveryError};
use crate::folder::Folder;

/// What a file is called until it is known to be the sealed volume.
const REPAIRING: &str = ".repairing";

/// A volume was put in place that has the sealed digest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Repaired {
    /// Slices that were made from recovery blocks.
    pub rebuilt: usize,
    /// Bytes of the volume.
    pub size: u64,
}

/// Mends a volume: `<volume>.repairing` is written beside it, and takes its place when it is on the disk and has the sealed
/// digest. On any error the damaged volume is as it was. `progress` is told how many bytes are done with, of reading,
/// copying, calculating and checking; there is no telling beforehand how many there will be.
///
/// # Errors
/// As [`assess`](super::assess), and [`RecoveryError::TooFew`], [`RecoveryError::NotSealed`], [`RecoveryError::Busy`],
/// [`RecoveryError::Read`], [`RecoveryError::Write`].
pub fn repair(
    folder: &Folder,
    volume: &str,
    recovery: &[&str],
    sealed: Digest,
    jobs: usize,
    mut progress: impl FnMut(u64),
) -> Result<Repaired, RecoveryError> {
    let found = inspect(folder, volume, recovery, &mut progress)?;
    let (needed, usable) = (found.damaged.len(), found.set.blocks.len());
    if needed > usable {
        return Err(RecoveryError::TooFew { volume: volume.into(), needed, usable });
    }
    let new = NewVolume::create(folder, volume)?;
    new.copy_good(&found, &mut progress)?;
    new.rebuild(&found, recovery, jobs, &mut progress)?;
    let digest = new.digest(sealed, found.set.size, &mut progress)?;
    if digest != sealed {
        return Err(RecoveryError::NotSealed { volume: volume.into(), expected: sealed, found: digest });
    }
    new.put_in_place()?;
    Ok(Repaired { rebuilt: needed, size: found.set.size })
}

/// The file being written, which is removed unless it is put in place.
struct NewVolume<'a> {
    folder: &'a Folder,
    volume: &'a str,
    name: String,
    file: File,
    in_place: bool,
}

impl<'a> NewVolume<'a> {
    fn create(folder: &'a Folder, volume: &'a str) -> Result<Self, RecoveryError> {
        let name = format!("{volume}{REPAIRING}");
        // Another repair would take this one's file for a stale one.
        if !folder.try_lock() {
            return Err(RecoveryError::Busy(folder.path().into()));
        }
        match folder.create_file(&name) {
            Ok(file) => Ok(Self { folder, volume, name, file, in_place: false }),
            Err(source) => {
                folder.unlock();
                Err(RecoveryError::Write { path: folder.path().join(name), source })
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    fn write_error(&self, source: io::Error) -> RecoveryError {
        RecoveryError::Write { path: self.path(), source }
    }

    /// Copies the slices that are not damaged.
    fn copy_good(&self, found: &Inspection, mut progress: impl FnMut(u64)) -> Result<(), RecoveryError> {
        let Some(volume) = &found.volume else { return Ok(()) };
        let mut buffer = vec![0; CHUNK];
        for slice in (0..found.set.checks.len()).filter(|slice| found.damaged.binary_search(slice).is_err()) {
            let (start, length) = (slice as u64 * found.set.slice, found.set.length_of(slice));
            for at in (start..start + length).step_by(CHUNK) {
                let part = &mut buffer[..(start + length - at).min(CHUNK as u64) as usize];
                volume
                    .fill_at(part, at)
                    .map_err(|source| RecoveryError::Read { path: self.folder.path().join(self.volume), source })?;
                self.file.write_all_at(part, at).map_err(|e| self.write_error(e))?;
                progress(part.len() as u64);
            }
        }
        Ok(())
    }

    /// Makes the damaged slices from those copied and from recovery blocks.
    fn rebuild(
        &self,
        found: &Inspection,
        recovery: &[&str],
        jobs: usize,
        progress: impl FnMut(u64),
    ) -> Result<(), RecoveryError> {
        let Inspection { set, damaged, .. } = found;
        let exponents: Vec<u32> = set.blocks.iter().map(|block| block.exponent).collect();
        let solution = solve(set.checks.len(), damaged, &exponents).map_err(|independent| {
            RecoveryError::Dependent { volume: self.volume.into(), needed: damaged.len(), independent }
        })?;
        // In the place of a damaged slice stands the recovery block that is used for it.
        let mut inputs: Vec<Input<'_>> = (0..set.checks.len())
            .map(|slice| Input { file: &self.file, offset: slice as u64 * set.slice, length: set.length_of(slice) })
            .collect();
        let mut paths = vec![self.path(); inputs.len()];
        for (slice, block) in damaged.iter().zip(&solution.blocks) {
            let block = set.blocks[*block];
            if let Some(file) = &found.recovery[block.file] {
                inputs[*slice] = Input { file, offset: block.offset, length: set.slice };
                paths[*slice] = self.folder.path().join(recovery[block.file]);
            }
        }
        let sink = |row: usize, at: u64, data: &[u8]| {
            let slice = damaged[row];
            let length = set.length_of(slice).saturating_sub(at).min(data.len() as u64);
            self.file.write_all_at(&data[..length as usize], slice as u64 * set.slice + at)
        };
        mix(&inputs, &solution.rows, set.slice, jobs, sink, progress).map_err(|e| match e {
            MixError::Read(input, source) => RecoveryError::Read { path: paths[input].clone(), source },
            MixError::Thread(source) => RecoveryError::Thread(source),
            MixError::Sink(source) => self.write_error(source),
        })
    }

    fn digest(&self, sealed: Digest, size: u64, mut progress: impl FnMut(u64)) -> Result<Digest, RecoveryError> {
        let mut hasher = Hasher::new(sealed.algorithm());
        let mut buffer = vec![0; CHUNK];
        for at in (0..size).step_by(CHUNK) {
            let part = &mut buffer[..(size - at).min(CHUNK as u64) as usize];
            self.file.fill_at(part, at).map_err(|source| RecoveryError::Read { path: self.path(), source })?;
            hasher.update(part);
            progress(part.len() as u64);
        }
        Ok(hasher.finish())
    }

    fn put_in_place(mut self) -> Result<(), RecoveryError> {
        self.file.sync_all().map_err(|e| self.write_error(e))?;
        self.folder
            .replace_file(&self.name, self.volume)
            .map_err(|source| RecoveryError::Write { path: self.folder.path().join(self.volume), source })?;
        self.in_place = true;
        Ok(())
    }
}

impl Drop for NewVolume<'_> {
    fn drop(&mut self) {
        if !self.in_place {
            let _ = self.folder.remove_file(&self.name);
        }
        self.folder.unlock();
    }
}

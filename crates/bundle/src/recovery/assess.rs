//! What is damaged, and whether the recovery files can mend it.

use std::fs::File;

use serde::Serialize;

use super::packets::Checker;
use super::scan::{Found, Set, scan};
use super::{CHUNK, ReadAt, RecoveryError, stem};
use crate::folder::{Folder, FolderError};

/// A volume as its recovery files see it.
///
/// This says what can be tried, not that a volume is the sealed one: that is for its digest to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[must_use]
pub struct Assessment {
    /// Slices of the volume.
    pub slices: usize,
    /// Bytes of a slice; the last may be shorter.
    pub slice_size: u64,
    /// Slices that are damaged, missing or cannot be read.
    pub damaged: usize,
    /// Intact recovery blocks. Each mends one slice.
    pub usable: usize,
    /// Bytes that the volume should have.
    pub size: u64,
    /// Bytes that it has; `None` if it is missing.
    pub found_size: Option<u64>,
}

impl Assessment {
    /// Whether no damage was found.
    pub fn is_intact(&self) -> bool {
        self.damaged == 0 && self.found_size == Some(self.size)
    }

    /// Whether there are enough recovery blocks for the damage, if there is any.
    pub fn is_repairable(&self) -> bool {
        self.damaged <= self.usable
    }
}

/// Reads a volume and its recovery files, and compares. Either may be damaged, or made by an adversary. `progress` is told
/// how many bytes are done with.
///
/// Each slice is looked for at its own place only: after bytes were put in or taken out, all that follows counts as damaged.
/// (`par2 repair` does search.) Where recovery files contradict each other, the first counts: name those that the seal
/// vouches for first.
///
/// # Errors
/// [`RecoveryError::NoDescription`], [`RecoveryError::Name`], and [`RecoveryError::Folder`] for what is not a regular file.
/// What is missing or cannot be read counts as damaged.
pub fn assess(
    folder: &Folder,
    volume: &str,
    recovery: &[&str],
    progress: impl FnMut(u64),
) -> Result<Assessment, RecoveryError> {
    let found = inspect(folder, volume, recovery, progress)?;
    Ok(Assessment {
        slices: found.set.checks.len(),
        slice_size: found.set.slice,
        damaged: found.damaged.len(),
        usable: found.set.blocks.len(),
        size: found.set.size,
        found_size: found.found_size,
    })
}

/// A volume and its recovery files, open.
pub(super) struct Inspection {
    /// `None` if it is missing.
    pub(super) volume: Option<File>,
    pub(super) found_size: Option<u64>,
    /// In the order they were named.
    pub(super) recovery: Vec<Option<File>>,
    pub(super) set: Set,
    /// The slices that are.
    pub(super) damaged: Vec<usize>,
}

pub(super) fn inspect(
    folder: &Folder,
    name: &str,
    recovery: &[&str],
    mut progress: impl FnMut(u64),
) -> Result<Inspection, RecoveryError> {
    stem(name)?;
    let volume = open(folder, name)?;
    let mut found = Found::default();
    let mut files = Vec::new();
    for (number, recovery) in recovery.iter().enumerate() {
        let file = open(folder, recovery)?;
        if let Some((file, size)) = &file {
            scan(file, *size, number, name, &mut found, &mut progress);
        }
        files.push(file.map(|(file, _)| file));
    }
    let set = found.into_set().ok_or_else(|| RecoveryError::NoDescription(name.into()))?;
    let damaged = match &volume {
        Some((volume, size)) => damaged(volume, *size, &set, &mut progress),
        None => (0..set.checks.len()).collect(),
    };
    let (volume, found_size) = volume.unzip();
    Ok(Inspection { volume, found_size, recovery: files, set, damaged })
}

/// A file and its size; `None` if it is missing or cannot be opened.
fn open(folder: &Folder, name: &str) -> Result<Option<(File, u64)>, RecoveryError> {
    match folder.open_file(name) {
        Ok(file) => Ok(file.metadata().ok().map(|m| (file, m.len()))),
        Err(FolderError::Missing(_) | FolderError::Read { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The slices that are not as described, or cannot be read.
fn damaged(volume: &dyn ReadAt, size: u64, set: &Set, mut progress: impl FnMut(u64)) -> Vec<usize> {
    let mut buffer = vec![0; CHUNK.min(set.slice.try_into().unwrap_or(CHUNK))];
    let mut is_damaged = |slice: usize| {
        let (start, length) = (slice as u64 * set.slice, set.length_of(slice));
        if start + length > size {
            return true;
        }
        let mut checker = Checker::default();
        for at in (0..length).step_by(buffer.len()) {
            let part = &mut buffer[..(length - at).min(CHUNK as u64) as usize];
            if volume.fill_at(part, start + at).is_err() {
                progress(length - at);
                return true;
            }
            checker.update(part);
            progress(part.len() as u64);
        }
        checker.finish(set.slice - length) != set.checks[slice]
    };
    (0..set.checks.len()).filter(|slice| is_damaged(*slice)).collect()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// Sevens, of which some cannot be read.
    struct Medium(std::ops::Range<u64>);

    impl ReadAt for Medium {
        fn fill_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            buffer.fill(7);
            match offset < self.0.end && self.0.start < offset + buffer.len() as u64 {
                true => Err(io::Error::other("a bad sector")),
                false => Ok(()),
            }
        }
    }

    #[test]
    fn slices_that_cannot_be_read_are_damaged_and_the_others_are_not() {
        let (slice, size) = (3 << 20, (10 << 20) + 5);
        let check = |length: u64| {
            let mut checker = Checker::default();
            checker.update(&vec![7; length as usize]);
            checker.finish(slice - length)
        };
        let checks = [slice, slice, slice, size - 3 * slice].map(check).to_vec();
        let set = Set { slice, size, checks, blocks: Vec::new() };
        for (unreadable, size, expected) in [
            (0..0, size, vec![]),
            (5..6, size, vec![0]),
            (slice - 1..slice + 1, size, vec![0, 1]),
            (size - 1..size, size, vec![3]),
            (0..size, size, vec![0, 1, 2, 3]),
            (0..0, size - 1, vec![3]),
            (0..0, size + 9, vec![]),
            (0..0, 0, vec![0, 1, 2, 3]),
        ] {
            let mut told = 0;
            assert_eq!(damaged(&Medium(unreadable), size, &set, |n| told += n), expected);
            assert!(told <= set.size);
        }
    }
}

//! Recovery files for a finished volume.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use blobs::Hasher;
use manifest_schema::{Algorithm, Digest};
use md5::{Digest as _, Md5};

use super::layout::{Layout, Share};
use super::mix::{Input, MixError, mix};
use super::packets::{BEGINNING, BLOCK_HEADER, Check, Checker, Hash, NewBlock, NewSet, md5};
use super::solve::block_factors;
use super::{CHUNK, ReadAt, RecoveryError, stem};

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How much of the volume can be mended.
    pub share: Share,
    /// Bytes of a recovery file at most, such as [`FAT32_FILE`](super::FAT32_FILE).
    pub max_file: u64,
    /// Threads that calculate; with more than one, another reads and hashes beside them.
    pub jobs: usize,
}

/// A recovery file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryFile {
    /// Its name.
    pub name: String,
    /// Its SHA-256 digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// Writes recovery files for a volume of this name into a folder. Equal volumes of equal names get equal files. The volume
/// is read twice, once in order and once in stripes; `progress` is told of both, which is twice its size in all.
///
/// # Errors
/// [`RecoveryError`]; `Write` also if a file of that name is there already. Nothing stays behind then.
pub fn create(
    volume: &File,
    name: &str,
    folder: &Path,
    options: Options,
    mut progress: impl FnMut(u64),
) -> Result<Vec<RecoveryFile>, RecoveryError> {
    let stem = stem(name)?;
    let read_error = |source| RecoveryError::Read { path: folder.join(name), source };
    let size = volume.metadata().map_err(read_error)?.len();
    if size == 0 {
        return Err(RecoveryError::Empty(name.into()));
    }
    let layout = Layout::new(size, name.len(), options.share, options.max_file)?;
    let mut beginning = vec![0; size.min(BEGINNING) as usize];
    volume.fill_at(&mut beginning, 0).map_err(read_error)?;
    let set = NewSet::new(&md5(&beginning), size, name, layout.slice);
    let output = Output::create(folder, &stem, &layout)?;
    let (whole, checks) = if options.jobs > 1 {
        let hashed = AtomicU64::new(0);
        let result = std::thread::scope(|scope| {
            let hashing = std::thread::Builder::new()
                .spawn_scoped(scope, || {
                    hash(volume, size, layout.slice, |n| _ = hashed.fetch_add(n, Ordering::Relaxed))
                })
                .map_err(RecoveryError::Thread)?;
            output.blocks(volume, size, set.id, options.jobs, read_error, |n| {
                progress(n + hashed.swap(0, Ordering::Relaxed));
            })?;
            hashing.join().unwrap_or_else(|_| Err(io::Error::other("a worker thread panicked"))).map_err(read_error)
        })?;
        progress(hashed.into_inner());
        result
    } else {
        let result = hash(volume, size, layout.slice, &mut progress).map_err(read_error)?;
        output.blocks(volume, size, set.id, options.jobs, read_error, progress)?;
        result
    };
    output.finish(&set.description(&whole, &checks))
}

/// The hash of a volume and the checksums of its slices.
fn hash(volume: &File, size: u64, slice: u64, mut progress: impl FnMut(u64)) -> io::Result<(Hash, Vec<Check>)> {
    let mut whole = Md5::new();
    let mut checks = Vec::new();
    let mut buffer = vec![0; CHUNK];
    for start in (0..size).step_by(slice as usize) {
        let end = size.min(start + slice);
        let mut checker = Checker::default();
        for at in (start..end).step_by(CHUNK) {
            let part = &mut buffer[..(end - at).min(CHUNK as u64) as usize];
            volume.fill_at(part, at)?;
            whole.update(&*part);
            checker.update(part);
            progress(part.len() as u64);
        }
        checks.push(checker.finish(start + slice - end));
    }
    Ok((whole.finalize().into(), checks))
}

/// The files, which are removed unless they are finished.
struct Output<'a> {
    layout: &'a Layout,
    files: Vec<NewFile>,
    finished: bool,
}

struct NewFile {
    name: String,
    path: PathBuf,
    file: File,
    blocks: usize,
}

impl NewFile {
    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), RecoveryError> {
        self.file.write_all_at(bytes, offset).map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> RecoveryError {
        RecoveryError::Write { path: self.path.clone(), source }
    }
}

impl<'a> Output<'a> {
    fn create(folder: &Path, stem: &str, layout: &'a Layout) -> Result<Self, RecoveryError> {
        let mut output = Self { layout, files: Vec::new(), finished: false };
        for blocks in &layout.files {
            let name = layout.file_name(stem, blocks);
            let path = folder.join(&name);
            match File::options().read(true).write(true).create_new(true).open(&path) {
                Ok(file) => output.files.push(NewFile { name, path, file, blocks: blocks.len() }),
                Err(source) => return Err(RecoveryError::Write { path, source }),
            }
        }
        Ok(output)
    }

    /// Writes the packets of all recovery blocks.
    fn blocks(
        &self,
        volume: &File,
        size: u64,
        set: Hash,
        jobs: usize,
        read_error: impl Fn(io::Error) -> RecoveryError,
        progress: impl FnMut(u64),
    ) -> Result<(), RecoveryError> {
        let layout = self.layout;
        let slice = layout.slice;
        let input = |offset: u64| Input { file: volume, offset, length: slice.min(size - offset) };
        let inputs: Vec<_> = (0..size).step_by(slice as usize).map(input).collect();
        let exponents = 0..layout.blocks() as u32;
        let rows = block_factors(inputs.len(), exponents.clone());
        let mut heads: Vec<_> = exponents.map(|exponent| NewBlock::new(set, exponent)).collect();
        let places: Vec<(&NewFile, u64)> =
            self.files.iter().flat_map(|file| (0..file.blocks).map(move |n| (file, layout.block_offset(n)))).collect();
        let sink = |row: usize, at: u64, data: &[u8]| {
            heads[row].update(data);
            let (file, offset) = places[row];
            file.write(data, offset + BLOCK_HEADER + at)
        };
        mix(&inputs, &rows, slice, jobs, sink, progress).map_err(|e| match e {
            MixError::Read(_, source) => read_error(source),
            MixError::Thread(source) => RecoveryError::Thread(source),
            MixError::Sink(e) => e,
        })?;
        for (head, (file, offset)) in heads.into_iter().zip(&places) {
            file.write(&head.finish(), *offset)?;
        }
        Ok(())
    }

    /// Writes the descriptions, waits until all is on the disk, and gives the digests.
    fn finish(mut self, description: &[u8]) -> Result<Vec<RecoveryFile>, RecoveryError> {
        let mut made = Vec::new();
        for file in &self.files {
            let mut size = 0;
            for offset in self.layout.description_offsets(file.blocks) {
                file.write(description, offset)?;
                size = offset + description.len() as u64;
            }
            file.file.sync_all().map_err(|e| file.error(e))?;
            let digest =
                digest(&file.file, size).map_err(|source| RecoveryError::Read { path: file.path.clone(), source })?;
            made.push(RecoveryFile { name: file.name.clone(), digest, size });
        }
        self.finished = true;
        Ok(made)
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        if !self.finished {
            for file in &self.files {
                let _ = std::fs::remove_file(&file.path);
            }
        }
    }
}

fn digest(file: &File, size: u64) -> io::Result<Digest> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; CHUNK];
    for at in (0..size).step_by(CHUNK) {
        let part = &mut buffer[..(size - at).min(CHUNK as u64) as usize];
        file.fill_at(part, at)?;
        hasher.update(part);
    }
    Ok(hasher.finish())
}

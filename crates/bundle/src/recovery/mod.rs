//! Recovery data for volumes: PAR2 2.0 files, which stock `par2 verify` and `par2 repair` read too.
//!
//! A volume is cut into slices. Each recovery block is a sum of all slices, each times a factor of its own, and mends any
//! one damaged slice. One PAR2 set covers one volume; its files stand beside it: `payments-42.0001.vol000+100.par2`.
//!
//! PAR2 has no signatures and its checksums are MD5 and CRC-32: it finds and mends what accidents do and proves nothing.
//! What a medium says in these files is only ever a proposal:
//!
//! | attack | answer |
//! |---|---|
//! | numbers in packets that ask for memory, time or a place in another file | `packets` bounds them by constants and by the size of the file they are in |
//! | packets within packets, to be hashed again and again | `packets::scan`: work on packets that fail is bounded by the file's size |
//! | checksums and blocks that make a different volume | [`repair`] compares the result with the sealed digest before it replaces anything |
//! | file names in packets | compared with the volume's name, never used; [`repair`] writes that one name |
//! | links and special files in the folder | [`Folder`](crate::Folder) opens every file |

mod assess;
mod create;
mod layout;
mod mix;
mod packets;
mod repair;
mod scan;
mod solve;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use manifest_schema::{Digest, OutsideText};

pub use assess::{Assessment, assess};
pub use create::{Options, RecoveryFile, create};
pub use layout::{Bound, Share, bound};
pub use repair::{Repaired, repair};

use crate::folder::FolderError;
use crate::names::parse_volume_name;

/// The largest file that FAT32 holds, in bytes.
pub const FAT32_FILE: u64 = u32::MAX as u64;

/// Slices that a set read from a medium may have. `par2 create` makes 2000 unless told otherwise.
const MAX_SLICES: usize = 2048;
/// Bytes in one read where nothing asks for another number.
const CHUNK: usize = 1 << 20;

/// Recovery data cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Not the name of a volume.
    #[error("`{}` is not the name of a volume", .0.escaped())]
    Name(OutsideText),
    /// An empty volume.
    #[error("`{0}` is empty: there is nothing to recover")]
    Empty(String),
    /// One recovery block is larger than a file may be.
    #[error("a recovery file of this volume needs at least {needed} bytes; files may have {limit}")]
    MaxFile {
        /// Bytes of the smallest recovery file.
        needed: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file in the folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Cannot be read.
    #[error("{}: cannot be read", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Cannot be written.
    #[error("{}: cannot be written", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("no thread can be started")]
    Thread(#[source] io::Error),
    /// No usable recovery file.
    #[error("no recovery file has an intact description of `{0}`")]
    NoDescription(String),
    /// Too much is damaged.
    #[error("{volume}: needs {needed} recovery blocks, {usable} are usable")]
    TooFew {
        /// The volume's name.
        volume: String,
        /// Damaged slices, each of which takes a block.
        needed: usize,
        /// Intact recovery blocks.
        usable: usize,
    },
    /// The blocks that are left say the same thing twice: a rare weakness of PAR2.
    #[error("{volume}: needs {needed} independent recovery blocks; of those usable, {independent} are")]
    Dependent {
        /// The volume's name.
        volume: String,
        /// Damaged slices, each of which takes a block.
        needed: usize,
        /// Slices that the blocks do determine.
        independent: usize,
    },
    /// The recovery files belong to another volume, or were tampered with.
    #[error("{volume}: repaired, it would not be what was sealed: expected {expected}, found {found}")]
    NotSealed {
        /// The volume's name.
        volume: String,
        /// The sealed digest.
        expected: Digest,
        /// The digest of the result.
        found: Digest,
    },
    /// Another repair holds the folder.
    #[error("{}: another repair is at work in this folder", .0.display())]
    Busy(PathBuf),
}

/// `payments-42.0001` of `payments-42.0001.tar.zst.age`.
fn stem(volume: &str) -> Result<String, RecoveryError> {
    let (bundle, number) = parse_volume_name(volume).ok_or_else(|| RecoveryError::Name(OutsideText::new(volume)))?;
    Ok(format!("{bundle}.{number:04}"))
}

/// Reads at a position. Tests put failing sectors behind it.
trait ReadAt: Sync {
    /// Fills the buffer, or fails.
    fn fill_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn fill_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

//! How large a volume can become, for planning before anything exists.

use crate::entries::OCI_LAYOUT_CONTENT;
use crate::tarball;

/// Bytes that the manifest's signatures are counted with before they are made: enough for dozens of them.
const SIGNATURES: u64 = 64 << 10;

/// The largest that a volume can become, in bytes, entry by entry: every overhead at its bound.
#[derive(Debug, Clone, Copy)]
pub struct VolumeBound {
    tar: u64,
    entries: u64,
    recipients: u64,
}

impl VolumeBound {
    /// Volume 1, before its first blob.
    pub fn first(manifest_bytes: u64, index_bytes: u64, recipients: usize) -> Self {
        let entries = [manifest_bytes, SIGNATURES, OCI_LAYOUT_CONTENT.len() as u64, index_bytes];
        Self::with(entries, recipients)
    }

    /// Any later volume, before its first blob.
    pub fn later(recipients: usize) -> Self {
        // `sealift/volume.json`
        Self::with([512], recipients)
    }

    fn with(entries: impl IntoIterator<Item = u64>, recipients: usize) -> Self {
        let empty = Self { tar: 1024, entries: 0, recipients: recipients as u64 };
        entries.into_iter().fold(empty, Self::entry)
    }

    fn entry(self, size: u64) -> Self {
        Self { tar: self.tar.saturating_add(tarball::entry_bound(size)), entries: self.entries + 1, ..self }
    }

    /// With one more blob of this size in bytes.
    pub fn blob(self, size: u64) -> Self {
        self.entry(size)
    }

    /// With one more part of a blob.
    pub fn part(self, size: u64) -> Self {
        // Its digest follows.
        self.entry(size).entry(256)
    }

    /// How large a part can be with which the volume stays within so many bytes; 0 if none fits.
    pub fn room_for_part(self, volume: u64) -> u64 {
        let (mut fits, mut too_large) = (0, volume);
        while fits + 1 < too_large {
            let middle = fits + (too_large - fits) / 2;
            if self.part(middle).bytes() <= volume { fits = middle } else { too_large = middle }
        }
        fits
    }

    /// The bound in bytes.
    pub fn bytes(self) -> u64 {
        // zstd: 3 bytes a block of 128 KiB and a frame's header; age: 16 bytes a chunk of 64 KiB and the file's header, of
        // which the stanza of a post-quantum recipient takes most.
        let zstd = self.tar.saturating_add((self.tar / (128 << 10) + 1) * 3 + 64 * self.entries);
        zstd.saturating_add((zstd / (64 << 10) + 1) * 16 + 1024 + 4096 * self.recipients)
    }
}

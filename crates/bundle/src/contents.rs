//! What stands in the volumes, and in which order (docs/format.md, section 5).
//!
//! Writer and reader both walk the signed manifest: the archive has no say in what comes next.

use std::io::{self, Read};

use blobs::{BlobError, Hasher, sha256};
use manifest_schema::{Algorithm, Blob, Digest, LIMITS, Manifest, OutsideText, Piece, Section};

use crate::entries::{
    INDEX, MANIFEST, MANIFEST_SIGNATURE, OCI_LAYOUT, OCI_LAYOUT_CONTENT, STREAM_SEAL, STREAM_SEAL_SIGNATURE, VOLUME,
    entry_name, part_sum, volume_head,
};
use crate::keys::Identities;
use crate::tarball::EntryHeader;
use crate::volume::{VolumeError, VolumeReader, stream_error};

/// Why the content of a volume is refused.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// The volume itself.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// Another entry than the manifest demands here.
    #[error("expected the entry `{expected}`, found {}", match .found { Some(f) => format!("`{}`", f.escaped()), None => "the end".into() })]
    Entry {
        /// The entry's name.
        expected: String,
        /// The name that stands there.
        found: Option<OutsideText>,
    },
    /// An entry of another size than the manifest says.
    #[error("`{name}` has {found} bytes, expected {expected}")]
    Size {
        /// The entry's name.
        name: String,
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// An entry larger than it may be.
    #[error("`{name}` has {found} bytes; at most {limit} are accepted")]
    TooLarge {
        /// The entry's name.
        name: String,
        /// Bytes it has.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A small file differs from what follows from the manifest, or from the part before it.
    #[error("`{0}` is not what follows from the manifest")]
    Derived(String),
    /// Another manifest than the authenticated one.
    #[error("the volume holds another manifest: expected {expected}, found {found}")]
    OtherManifest {
        /// The authenticated manifest's digest.
        expected: Digest,
        /// The digest of the one in the volume.
        found: Digest,
    },
    /// A blob that is not what its digest promises.
    #[error("the bundle's blob is wrong: {0}")]
    Blob(BlobError),
}

/// The first two entries of volume 1. **Not authenticated.**
pub struct Head {
    /// The bytes of `sealift/manifest.json`.
    pub untrusted_manifest: Vec<u8>,
    /// The bytes of `sealift/manifest.json.asc`.
    pub untrusted_signature: Vec<u8>,
}

impl Head {
    /// Reads the head of volume 1.
    ///
    /// # Errors
    /// [`ContentsError`]; nothing larger than the limits is read.
    pub fn read(volume: Box<dyn Read + Send>, identities: &Identities) -> Result<Self, ContentsError> {
        let mut reader = VolumeReader::open(volume, identities, false)?;
        let untrusted_manifest = small(&mut reader, MANIFEST, LIMITS.manifest)?;
        let untrusted_signature = small(&mut reader, MANIFEST_SIGNATURE, LIMITS.signature)?;
        Ok(Self { untrusted_manifest, untrusted_signature })
    }
}

fn demand(reader: &mut VolumeReader, name: &str) -> Result<EntryHeader, ContentsError> {
    match reader.next_entry()? {
        Some(entry) if entry.name == name.as_bytes() => Ok(entry),
        found => Err(ContentsError::Entry {
            expected: name.into(),
            found: found.map(|e| OutsideText::new(String::from_utf8_lossy(&e.name))),
        }),
    }
}

fn small(reader: &mut VolumeReader, name: &str, limit: u64) -> Result<Vec<u8>, ContentsError> {
    let entry = demand(reader, name)?;
    if entry.size > limit {
        return Err(ContentsError::TooLarge { name: name.into(), found: entry.size, limit });
    }
    let mut bytes = Vec::new();
    reader.content().read_to_end(&mut bytes).map_err(stream_error)?;
    Ok(bytes)
}

fn derived(reader: &mut VolumeReader, name: &str, content: &[u8]) -> Result<(), ContentsError> {
    match small(reader, name, content.len() as u64)? {
        bytes if bytes == content => Ok(()),
        _ => Err(ContentsError::Derived(name.into())),
    }
}

/// Where a reader gets volumes from.
pub trait Volumes {
    /// Opens a volume's ciphertext, from its beginning.
    ///
    /// # Errors
    /// Any; it comes out again at [`Contents::next_blob`] or from reading a blob.
    fn open(&mut self, number: u32) -> io::Result<Box<dyn Read + Send>>;

    /// Is told the digest of the ciphertext of a volume that was read to its end, before anything else is read.
    ///
    /// # Errors
    /// If the digest is not the one that was sealed.
    fn ended(&mut self, number: u32, digest: Digest) -> io::Result<()>;
}

/// Which part of a bundle is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// The admission section, as far as it goes.
    Admission,
    /// These volumes, from the first to the last.
    Volumes(u32, u32),
}

/// The entry that is being read.
struct Open<'a> {
    blob: &'a Blob,
    /// The pieces behind the one that is being read.
    behind: Vec<Piece>,
    /// Of a part, its name and what was read of it.
    part: Option<(String, Hasher)>,
}

/// Reads the blobs of volumes in the manifest's order.
pub struct Contents<'a, V> {
    volumes: V,
    identities: &'a Identities,
    manifest: &'a Manifest,
    manifest_digest: Digest,
    range: Range,
    blobs: std::slice::Iter<'a, Blob>,
    /// The volume that is being read, or was read last.
    number: u32,
    reader: Option<VolumeReader>,
    open: Option<Open<'a>>,
}

impl<'a, V: Volumes> Contents<'a, V> {
    /// Begins to read. The manifest must be authenticated; `manifest_digest` is the digest of its bytes, and the volumes
    /// must carry or name the same.
    ///
    /// # Errors
    /// Of [`Volumes`], or [`ContentsError`] in an I/O error.
    pub fn open(
        volumes: V,
        identities: &'a Identities,
        manifest: &'a Manifest,
        manifest_digest: Digest,
        range: Range,
    ) -> io::Result<Self> {
        let first = match range {
            Range::Admission => 1,
            Range::Volumes(first, _) => first,
        };
        let blobs = manifest.blobs.iter();
        let mut contents = Self {
            volumes,
            identities,
            manifest,
            manifest_digest,
            range,
            blobs,
            number: first,
            reader: None,
            open: None,
        };
        contents.begin_volume()?;
        Ok(contents)
    }

    /// The volume that is being read, or was read last, from 1.
    pub fn volume(&self) -> u32 {
        self.number
    }

    fn begin_volume(&mut self) -> io::Result<()> {
        let file = self.volumes.open(self.number)?;
        let ahead = self.range != Range::Admission;
        self.reader = Some(self.head(file, ahead)?);
        Ok(())
    }

    fn head(&self, file: Box<dyn Read + Send>, ahead: bool) -> Result<VolumeReader, ContentsError> {
        let mut reader = VolumeReader::open(file, self.identities, ahead)?;
        if self.number > 1 {
            derived(&mut reader, VOLUME, &volume_head(self.manifest, &self.manifest_digest, self.number))?;
            return Ok(reader);
        }
        let found = sha256(&small(&mut reader, MANIFEST, LIMITS.manifest)?);
        if found != self.manifest_digest {
            return Err(ContentsError::OtherManifest { expected: self.manifest_digest, found });
        }
        small(&mut reader, MANIFEST_SIGNATURE, LIMITS.signature)?;
        derived(&mut reader, OCI_LAYOUT, OCI_LAYOUT_CONTENT)?;
        derived(&mut reader, INDEX, &self.manifest.layout_index())?;
        Ok(reader)
    }

    fn end_volume(&mut self) -> io::Result<()> {
        if let Some(reader) = self.reader.take() {
            let digest = reader.finish().map_err(ContentsError::from)?;
            self.volumes.ended(self.number, digest)?;
        }
        Ok(())
    }

    /// Reads on to the volume of this number.
    fn reach(&mut self, number: u32) -> io::Result<&mut VolumeReader> {
        while self.number < number {
            self.end_volume()?;
            self.number += 1;
            self.begin_volume()?;
        }
        self.reader.as_mut().ok_or_else(|| io::Error::other("the volume has ended"))
    }

    /// The next blob, or the parts of it that are in the range. Its content must be read to its end before the next call.
    ///
    /// # Errors
    /// As [`Contents::open`].
    pub fn next_blob(&mut self) -> io::Result<Option<BlobContent<'_, 'a, V>>> {
        if let Some(open) = &self.open {
            let name = entry_name(open.blob, None);
            return Err(io::Error::other(format!("{name} was not read to its end")));
        }
        let (range, last_of_admission) = (self.range, self.manifest.volumes.admission);
        let within = |blob: &Blob| {
            let pieces = blob.stored.pieces();
            let here = |piece: &Piece| match range {
                Range::Admission => blob.section == Section::Admission && piece.volume <= last_of_admission,
                Range::Volumes(first, last) => (first..=last).contains(&piece.volume),
            };
            pieces.filter(here).collect::<Vec<_>>()
        };
        let Some((blob, mut pieces)) =
            self.blobs.by_ref().map(|blob| (blob, within(blob))).find(|(_, pieces)| !pieces.is_empty())
        else {
            return Ok(None);
        };
        let whole = pieces.len() == blob.stored.pieces().count();
        pieces.reverse();
        self.open = Some(Open { blob, behind: pieces, part: None });
        self.next_piece()?;
        Ok(Some(BlobContent { contents: self, blob, whole }))
    }

    /// Begins the next piece of the open blob. `false` if there is none.
    fn next_piece(&mut self) -> io::Result<bool> {
        let Some(open) = &mut self.open else { return Ok(false) };
        let Some(piece) = open.behind.pop() else {
            self.open = None;
            return Ok(false);
        };
        let blob = open.blob;
        let name = entry_name(blob, piece.part);
        let expected = piece.part.map_or(blob.size, |part| part.size);
        let entry = demand(self.reach(piece.volume)?, &name)?;
        if entry.size != expected {
            return Err(ContentsError::Size { name, expected, found: entry.size }.into());
        }
        if let Some(open) = &mut self.open {
            open.part = piece.part.map(|_| (name, Hasher::new(Algorithm::Sha256)));
        }
        Ok(true)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let (Some(open), Some(reader)) = (&mut self.open, &mut self.reader) else { return Ok(0) };
            let n = reader.content().read(buffer)?;
            if let Some((_, hasher)) = &mut open.part {
                hasher.update(&buffer[..n]);
            }
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            if let Some((name, hasher)) = open.part.take() {
                let (sum, content) = part_sum(&name, &hasher.finish());
                derived(reader, &sum, &content)?;
            }
            if !self.next_piece()? {
                return Ok(0);
            }
        }
    }

    /// Demands the end of the last volume behind its last blob.
    ///
    /// # Errors
    /// As [`Contents::open`], also if something follows the last blob.
    pub fn finish(mut self) -> io::Result<V> {
        if let Range::Volumes(_, last) = self.range {
            self.reach(last)?;
        }
        self.end_volume()?;
        Ok(self.volumes)
    }

    /// Reads the seal that ends a bundle sent through a pipe, and demands the end behind it. Gives the bytes of the seal and
    /// of its signature; neither is authenticated.
    ///
    /// # Errors
    /// As [`Contents::open`].
    pub fn finish_stream(mut self) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let reader = self.reach(1)?;
        let seal = small(reader, STREAM_SEAL, LIMITS.seal)?;
        let signature = small(reader, STREAM_SEAL_SIGNATURE, LIMITS.signature)?;
        self.end_volume()?;
        Ok((seal, signature))
    }
}

/// The content of a blob, as it stands in one volume or in several behind each other. **Unchecked** but for the digests of
/// its parts.
pub struct BlobContent<'c, 'a, V> {
    contents: &'c mut Contents<'a, V>,
    blob: &'a Blob,
    whole: bool,
}

impl<'a, V> BlobContent<'_, 'a, V> {
    /// The blob.
    pub fn blob(&self) -> &'a Blob {
        self.blob
    }

    /// Whether all of it is in the range that is read.
    pub fn is_whole(&self) -> bool {
        self.whole
    }
}

impl<V: Volumes> Read for BlobContent<'_, '_, V> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.contents.read(buffer)
    }
}

impl From<ContentsError> for io::Error {
    fn from(error: ContentsError) -> Self {
        Self::other(error)
    }
}

impl ContentsError {
    /// What an error from reading contents means, unless it came from [`Volumes`].
    pub fn of(error: io::Error) -> Self {
        if let Some(blob) = BlobError::of(&error) {
            return Self::Blob(blob.clone());
        }
        match error.downcast::<Self>() {
            Ok(contents) => contents,
            Err(error) => Self::Volume(stream_error(error)),
        }
    }
}

//! What stands in the volumes, and in which order (docs/format.md, section 5).
//!
//! Writer and reader both walk the signed manifest: the archive has no say in what comes next.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use blobs::{BlobError, VerifyingReader, sha256};
use manifest_schema::manifest::Stored;
use manifest_schema::{Blob, Digest, LIMITS, Manifest, OutsideText, Section};

use crate::keys::{Identities, Recipients};
use crate::tarball::{self, EntryHeader};
use crate::volume::{VolumeError, VolumeReader, VolumeWriter, stream_error};

const MANIFEST: &str = "sealift/manifest.json";
const MANIFEST_SIGNATURE: &str = "sealift/manifest.json.asc";
const OCI_LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
const OCI_LAYOUT_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

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
    /// A file of the layout differs from what follows from the manifest.
    #[error("`{0}` is not what follows from the manifest")]
    Derived(&'static str),
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
    pub fn read(volume: File, identities: &Identities) -> Result<Self, ContentsError> {
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

/// Reads the blobs of one volume in the manifest's order.
pub struct Contents<'a> {
    reader: VolumeReader,
    blobs: std::slice::Iter<'a, Blob>,
    volume: u32,
    admission_only: bool,
}

impl<'a> Contents<'a> {
    /// Opens a volume to read all its blobs. The manifest must be authenticated; `manifest_digest` is the digest of its
    /// bytes, and the volume must carry the same.
    ///
    /// # Errors
    /// [`ContentsError`].
    pub fn open(
        file: File,
        identities: &Identities,
        manifest: &'a Manifest,
        manifest_digest: &Digest,
        volume: u32,
    ) -> Result<Self, ContentsError> {
        let reader = VolumeReader::open(file, identities, true)?;
        Self::begin(reader, manifest, manifest_digest, volume, false)
    }

    /// Opens a volume to read the blobs of its admission section only.
    ///
    /// # Errors
    /// [`ContentsError`].
    pub fn open_admission(
        file: File,
        identities: &Identities,
        manifest: &'a Manifest,
        manifest_digest: &Digest,
        volume: u32,
    ) -> Result<Self, ContentsError> {
        let reader = VolumeReader::open(file, identities, false)?;
        Self::begin(reader, manifest, manifest_digest, volume, true)
    }

    fn begin(
        mut reader: VolumeReader,
        manifest: &'a Manifest,
        manifest_digest: &Digest,
        volume: u32,
        admission_only: bool,
    ) -> Result<Self, ContentsError> {
        let bytes = small(&mut reader, MANIFEST, LIMITS.manifest)?;
        let found = sha256(&bytes);
        if found != *manifest_digest {
            return Err(ContentsError::OtherManifest { expected: *manifest_digest, found });
        }
        drop(bytes);
        small(&mut reader, MANIFEST_SIGNATURE, LIMITS.signature)?;
        let index = manifest.layout_index();
        for (name, content) in [(OCI_LAYOUT, OCI_LAYOUT_CONTENT), (INDEX, &index)] {
            if small(&mut reader, name, content.len() as u64)? != content {
                return Err(ContentsError::Derived(name));
            }
        }
        Ok(Self { reader, blobs: manifest.blobs.iter(), volume, admission_only })
    }

    /// The next blob with its content. The content must be read to its end before the next call.
    ///
    /// # Errors
    /// [`ContentsError`].
    #[allow(clippy::type_complexity)]
    pub fn next_blob(&mut self) -> Result<Option<(&'a Blob, VerifyingReader<&mut (dyn Read + Send)>)>, ContentsError> {
        let (volume, admission_only) = (self.volume, self.admission_only);
        let Some(blob) = self.blobs.find(|blob| {
            let Stored::Whole { volume: v } = blob.stored;
            v == volume && (!admission_only || blob.section == Section::Admission)
        }) else {
            return Ok(None);
        };
        let name = blob.digest.layout_path();
        let entry = demand(&mut self.reader, &name)?;
        if entry.size != blob.size {
            return Err(ContentsError::Size { name, expected: blob.size, found: entry.size });
        }
        Ok(Some((blob, VerifyingReader::new(self.reader.content(), blob.digest, blob.size))))
    }

    /// Demands the end of the volume after its last blob, and gives the digest of the whole ciphertext.
    ///
    /// # Errors
    /// [`ContentsError`], also if something follows the last blob.
    pub fn finish(self) -> Result<Digest, ContentsError> {
        Ok(self.reader.finish()?)
    }

    /// What an error while reading a blob's content means.
    pub fn content_error(error: io::Error) -> ContentsError {
        match BlobError::of(&error) {
            Some(blob) => ContentsError::Blob(blob.clone()),
            None => ContentsError::Volume(stream_error(error)),
        }
    }
}

/// Where the writer gets a blob from.
pub trait SourceBlob {
    /// The program's error.
    type Error: From<VolumeError>;
    /// Opens a blob; the reader must check it, so that what is written is right.
    ///
    /// # Errors
    /// The program's own.
    fn open<'s>(&'s self, blob: &Blob) -> Result<VerifyingReader<Box<dyn Read + Send + 's>>, Self::Error>;
    /// Turns a failure while the blob was copied into the program's error.
    fn failed(&self, blob: &Blob, error: io::Error) -> Self::Error;
}

/// A finished volume.
#[derive(Debug, Clone)]
pub struct VolumeFile {
    /// Where it is.
    pub path: PathBuf,
    /// Digest of the ciphertext.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
}

/// Writes volume 1 of 1: manifest, signature, layout files and every blob, in the manifest's order, in one pass.
///
/// # Errors
/// [`VolumeError`] as the program's error, or the source's.
pub fn write_volume<S: SourceBlob>(
    path: &Path,
    recipients: &Recipients,
    manifest: &Manifest,
    manifest_bytes: &[u8],
    signature: &[u8],
    source: &S,
) -> Result<VolumeFile, S::Error> {
    let io = |e| S::Error::from(VolumeError::Io(e));
    let file = File::options().write(true).create_new(true).open(path).map_err(io)?;
    let mtime = u64::try_from(manifest.created.unix()).unwrap_or(0);
    let mut writer = VolumeWriter::new(file, recipients, mtime)?;
    let index = manifest.layout_index();
    let head = [
        (MANIFEST, manifest_bytes),
        (MANIFEST_SIGNATURE, signature),
        (OCI_LAYOUT, OCI_LAYOUT_CONTENT),
        (INDEX, &index),
    ];
    for (name, bytes) in head {
        writer.entry(name, bytes.len() as u64, bytes).map_err(io)?;
    }
    for blob in &manifest.blobs {
        let content = source.open(blob)?;
        writer.entry(&blob.digest.layout_path(), blob.size, content).map_err(|e| source.failed(blob, e))?;
    }
    let (digest, size) = writer.finish().map_err(io)?;
    Ok(VolumeFile { path: path.into(), digest, size })
}

/// The largest that one volume with blobs of these sizes can become, in bytes: every overhead at its bound.
pub fn volume_bound(manifest_bytes: u64, index_bytes: u64, blobs: impl Iterator<Item = u64>) -> u64 {
    let mut entries = 0;
    let tar: u64 = [manifest_bytes, LIMITS.signature, 64, index_bytes]
        .into_iter()
        .chain(blobs)
        .map(|size| {
            entries += 1;
            tarball::entry_bound(size)
        })
        .sum::<u64>()
        + 1024;
    // zstd: 3 bytes a block of 128 KiB and a frame's header; age: 16 bytes a chunk of 64 KiB and the file's header.
    let zstd = tar + (tar / (128 << 10) + 1) * 3 + 64 * entries;
    zstd + (zstd / (64 << 10) + 1) * 16 + 8192
}

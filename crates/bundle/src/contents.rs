//! What stands in the volumes, and in which order (docs/format.md, section 5).
//!
//! Writer and reader both walk the signed manifest: the archive has no say in what comes next.

use std::io::{self, Read};

use blobs::{BlobError, Hasher, VerifyingReader, sha256};
use manifest_schema::{Algorithm, Blob, Digest, LIMITS, Manifest, OutsideText, Part, Piece, Section};
use serde::Serialize;

use crate::keys::{Identities, Recipients};
use crate::tarball::{self, EntryHeader};
use crate::volume::{Output, VolumeError, VolumeReader, VolumeWriter, stream_error};

const MANIFEST: &str = "sealift/manifest.json";
const MANIFEST_SIGNATURE: &str = "sealift/manifest.json.asc";
const VOLUME: &str = "sealift/volume.json";
const STREAM_SEAL: &str = "sealift/seal.json";
const STREAM_SEAL_SIGNATURE: &str = "sealift/seal.json.asc";
const OCI_LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
const OCI_LAYOUT_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Bytes that the manifest's signatures are counted with before they are made: enough for dozens of them.
const SIGNATURES: u64 = 64 << 10;

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

/// `sealift/volume.json`, at the head of every volume but the first.
fn volume_head(manifest: &Manifest, manifest_digest: &Digest, number: u32) -> Vec<u8> {
    #[derive(Serialize)]
    struct VolumeHead<'a> {
        r#type: &'static str,
        bundle: &'a manifest_schema::BundleId,
        manifest: &'a Digest,
        volume: u32,
    }
    let kind = "sealift/volume/1";
    let head = VolumeHead { r#type: kind, bundle: &manifest.bundle, manifest: manifest_digest, volume: number };
    serde_json::to_vec(&head).unwrap_or_default()
}

/// The seal of a bundle that is sent through a pipe: the last but one entry, which a signature follows.
pub fn stream_seal(manifest: &Manifest, manifest_digest: &Digest) -> Vec<u8> {
    #[derive(Serialize)]
    struct StreamSeal<'a> {
        r#type: &'static str,
        bundle: &'a manifest_schema::BundleId,
        manifest: &'a Digest,
    }
    let seal = StreamSeal { r#type: "sealift/seal/1", bundle: &manifest.bundle, manifest: manifest_digest };
    serde_json::to_vec(&seal).unwrap_or_default()
}

/// The name of a blob's entry, or of that of a part of it.
fn entry_name(blob: &Blob, part: Option<Part>) -> String {
    match part {
        None => blob.digest.layout_path(),
        Some(part) => format!("{}.part-{:04}", blob.digest.layout_path(), part.number),
    }
}

/// What follows a part: its digest, in the form that `sha256sum -c` reads.
fn part_sum(name: &str, digest: &Digest) -> (String, Vec<u8>) {
    let file = name.rsplit('/').next().unwrap_or(name);
    (format!("{name}.sha256"), format!("{}  {file}\n", digest.hex()).into_bytes())
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenVolume {
    /// Digest of the ciphertext.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// The parts of blobs in it.
    pub parts: Vec<WrittenPart>,
}

/// A part of a blob, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenPart {
    /// The blob.
    pub blob: Digest,
    /// The part's number, from 1.
    pub number: u32,
    /// The part's own digest.
    pub digest: Digest,
}

/// What is written into every volume.
pub struct Packing<'p, S> {
    /// For whom.
    pub recipients: &'p Recipients,
    /// The manifest.
    pub manifest: &'p Manifest,
    /// Its bytes.
    pub manifest_bytes: &'p [u8],
    /// Its signatures.
    pub signature: &'p [u8],
    /// Where blobs come from.
    pub source: &'p S,
}

/// A blob that is continued in the next volume.
struct Carried<'p> {
    blob: Digest,
    /// The next part.
    next: u32,
    reader: VerifyingReader<Box<dyn Read + Send + 'p>>,
}

/// Writes volumes one after another; a blob in parts is read once for all of them.
pub struct Packer<'p, S> {
    packing: Packing<'p, S>,
    manifest_digest: Digest,
    carried: Option<Carried<'p>>,
}

impl<'p, S: SourceBlob> Packer<'p, S> {
    /// Nothing is written yet.
    pub fn new(packing: Packing<'p, S>) -> Self {
        Self { manifest_digest: sha256(packing.manifest_bytes), packing, carried: None }
    }

    /// Writes a volume: its head, then its blobs in the manifest's order. `known` tells the parts that were written into other
    /// volumes before; what is read past must be the same.
    ///
    /// # Errors
    /// [`VolumeError`] as the program's error, or the source's.
    pub fn volume(
        &mut self,
        number: u32,
        out: Box<dyn Output>,
        known: &[WrittenPart],
    ) -> Result<WrittenVolume, S::Error> {
        let (writer, parts) = self.fill(number, out, known)?;
        let (digest, size) = writer.finish().map_err(VolumeError::Io)?;
        Ok(WrittenVolume { digest, size, parts })
    }

    /// Writes the only volume of a bundle that goes through a pipe; the seal follows in it, after `before_seal`.
    ///
    /// # Errors
    /// As [`Packer::volume`].
    pub fn stream(
        &mut self,
        out: Box<dyn Output>,
        seal: &[u8],
        signature: &[u8],
        before_seal: impl FnOnce() -> Result<(), S::Error>,
    ) -> Result<WrittenVolume, S::Error> {
        let (mut writer, parts) = self.fill(1, out, &[])?;
        before_seal()?;
        for (name, bytes) in [(STREAM_SEAL, seal), (STREAM_SEAL_SIGNATURE, signature)] {
            writer.entry(name, bytes.len() as u64, bytes).map_err(VolumeError::Io)?;
        }
        let (digest, size) = writer.finish().map_err(VolumeError::Io)?;
        Ok(WrittenVolume { digest, size, parts })
    }

    /// Reads what is left of a blob whose next part is not to be written, so that all of it is checked.
    ///
    /// # Errors
    /// The source's.
    pub fn close(&mut self) -> Result<(), S::Error> {
        let Some(Carried { blob, reader, .. }) = self.carried.take() else { return Ok(()) };
        match (reader.finish(), self.packing.manifest.blobs.iter().find(|b| b.digest == blob)) {
            (Err(e), Some(blob)) => Err(self.packing.source.failed(blob, e)),
            (Err(e), None) => Err(VolumeError::Io(e).into()),
            (Ok(_), _) => Ok(()),
        }
    }

    fn fill(
        &mut self,
        number: u32,
        out: Box<dyn Output>,
        known: &[WrittenPart],
    ) -> Result<(VolumeWriter, Vec<WrittenPart>), S::Error> {
        let Packing { recipients, manifest, manifest_bytes, signature, source } = self.packing;
        let io = |e| S::Error::from(VolumeError::Io(e));
        let mtime = u64::try_from(manifest.created.unix()).unwrap_or(0);
        let mut writer = VolumeWriter::new(out, recipients, mtime)?;
        let (index, head);
        let first: [(&str, &[u8]); 4];
        let entries: &[(&str, &[u8])] = if number == 1 {
            index = manifest.layout_index();
            first = [
                (MANIFEST, manifest_bytes),
                (MANIFEST_SIGNATURE, signature),
                (OCI_LAYOUT, OCI_LAYOUT_CONTENT),
                (INDEX, &index),
            ];
            &first
        } else {
            head = volume_head(manifest, &self.manifest_digest, number);
            &[(VOLUME, &head)]
        };
        for (name, bytes) in entries {
            writer.entry(name, bytes.len() as u64, *bytes).map_err(io)?;
        }
        let mut parts = Vec::new();
        for blob in &manifest.blobs {
            for piece in blob.stored.pieces().filter(|piece| piece.volume == number) {
                match piece.part {
                    None => {
                        let content = source.open(blob)?;
                        let name = entry_name(blob, None);
                        writer.entry(&name, blob.size, content).map_err(|e| source.failed(blob, e))?;
                    }
                    Some(part) => parts.push(self.part(&mut writer, blob, part, known)?),
                }
            }
        }
        Ok((writer, parts))
    }

    fn part(
        &mut self,
        writer: &mut VolumeWriter,
        blob: &Blob,
        part: Part,
        known: &[WrittenPart],
    ) -> Result<WrittenPart, S::Error> {
        let source = self.packing.source;
        let failed = |e| source.failed(blob, e);
        let mut reader = match self.carried.take() {
            Some(carried) if carried.blob == blob.digest && carried.next == part.number => carried.reader,
            _ => {
                let mut reader = source.open(blob)?;
                let before = blob.stored.pieces().filter_map(|p| p.part).take_while(|p| p.number < part.number);
                for part in before {
                    let digest = copy_part(&mut reader, part, &mut io::sink()).map_err(failed)?;
                    unchanged(blob, part, digest, known).map_err(failed)?;
                }
                reader
            }
        };
        let name = entry_name(blob, Some(part));
        let mut hashing =
            HashingReader { inner: reader.by_ref().take(part.size), hasher: Hasher::new(Algorithm::Sha256) };
        writer.entry(&name, part.size, &mut hashing).map_err(failed)?;
        let digest = hashing.hasher.finish();
        unchanged(blob, part, digest, known).map_err(failed)?;
        let (sum, content) = part_sum(&name, &digest);
        writer.entry(&sum, content.len() as u64, content.as_slice()).map_err(VolumeError::Io)?;
        if reader.position() < blob.size {
            self.carried = Some(Carried { blob: blob.digest, next: part.number + 1, reader });
        }
        Ok(WrittenPart { blob: blob.digest, number: part.number, digest })
    }
}

impl<S> Clone for Packing<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<S> Copy for Packing<'_, S> {}

fn copy_part(reader: &mut impl Read, part: Part, out: &mut impl io::Write) -> io::Result<Digest> {
    let mut hashing = HashingReader { inner: reader.take(part.size), hasher: Hasher::new(Algorithm::Sha256) };
    io::copy(&mut hashing, out)?;
    Ok(hashing.hasher.finish())
}

/// What was written into another volume stands there for good.
fn unchanged(blob: &Blob, part: Part, found: Digest, known: &[WrittenPart]) -> io::Result<()> {
    match known.iter().find(|k| k.blob == blob.digest && k.number == part.number) {
        Some(before) if before.digest != found => {
            let number = part.number;
            Err(io::Error::other(format!("part {number} is not what was written before: {} then", before.digest)))
        }
        _ => Ok(()),
    }
}

struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

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

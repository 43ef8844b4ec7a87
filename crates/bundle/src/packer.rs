//! Volumes, written along the manifest.

use std::io::{self, Read};

use blobs::{Hasher, VerifyingReader, sha256};
use manifest_schema::{Algorithm, Blob, Digest, Manifest, Part};

use crate::entries::{
    INDEX, MANIFEST, MANIFEST_SIGNATURE, OCI_LAYOUT, OCI_LAYOUT_CONTENT, STREAM_SEAL, STREAM_SEAL_SIGNATURE, VOLUME,
    entry_name, part_sum, volume_head,
};
use crate::keys::Recipients;
use crate::volume::{Output, VolumeError, VolumeWriter};

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

//! Volumes, written along the manifest.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Read};

use blobs::{Hasher, VerifyingReader, sha256};
use manifest_schema::{Algorithm, Blob, Digest, Manifest, Part};

use crate::ahead::Ahead;
use crate::entries::{
    INDEX, MANIFEST, MANIFEST_SIGNATURE, OCI_LAYOUT, OCI_LAYOUT_CONTENT, STREAM_SEAL, STREAM_SEAL_SIGNATURE, VOLUME,
    entry_name, part_sum, volume_head,
};
use crate::frames::is_compressed;
use crate::keys::Recipients;
use crate::volume::{Content, Output, VolumeError, VolumeWriter};

/// Where the writer gets a blob from.
pub trait SourceBlob: Sync {
    /// The program's error.
    type Error: From<VolumeError> + Send;
    /// Opens a blob; the reader must check it, so that what is written is right.
    ///
    /// # Errors
    /// The program's own.
    fn open<'s>(&'s self, blob: &Blob) -> Result<VerifyingReader<Box<dyn Read + Send + 's>>, Self::Error>;
    /// Turns a failure while the blob was copied into the program's error.
    fn failed(&self, blob: &Blob, error: io::Error) -> Self::Error;
}

/// Where volumes are written to, one after the other.
pub trait Outputs<E> {
    /// Makes the file of a volume.
    ///
    /// # Errors
    /// The program's own.
    fn open(&mut self, number: u32) -> Result<Box<dyn Output>, E>;
    /// Is told what was written, once it is on the medium.
    ///
    /// # Errors
    /// The program's own.
    fn ended(&mut self, number: u32, volume: WrittenVolume) -> Result<(), E>;
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

/// Splits volumes into runs: those of one run have parts of the same blob in them, which is read once for all.
pub fn runs(manifest: &Manifest, numbers: &[u32]) -> Vec<Vec<u32>> {
    let mut goes_on = BTreeSet::new();
    for (first, last) in manifest.blobs.iter().filter_map(|b| b.stored.volumes()) {
        goes_on.extend(first + 1..=last);
    }
    let mut runs: Vec<Vec<u32>> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some(run) if run.last().is_some_and(|last| (last + 1..=*number).all(|n| goes_on.contains(&n))) => {
                run.push(*number);
            }
            _ => runs.push(vec![*number]),
        }
    }
    runs
}

/// Writes volumes.
pub struct Packer<'p, S> {
    packing: Packing<'p, S>,
    manifest_digest: Digest,
    jobs: usize,
}

impl<'p, S: SourceBlob> Packer<'p, S> {
    /// Fetches up to `jobs` blobs at once.
    pub fn new(packing: Packing<'p, S>, jobs: usize) -> Self {
        Self { manifest_digest: sha256(packing.manifest_bytes), packing, jobs }
    }

    /// Writes the volumes of a run: each with its head, then its blobs in the manifest's order. `known` tells the parts that
    /// were written into other volumes before; what is read past must be the same.
    ///
    /// # Errors
    /// [`VolumeError`] as the program's error, the source's, or of `outputs`.
    pub fn volumes(
        &self,
        run: &[u32],
        known: &[WrittenPart],
        outputs: &mut impl Outputs<S::Error>,
    ) -> Result<(), S::Error> {
        let mut filling = Filling { packer: self, run: run.iter(), open: None, outputs };
        self.fill(run, known, &mut filling)?;
        filling.finish()
    }

    /// Writes the only volume of a bundle that goes through a pipe; the seal follows in it, after `before_seal`.
    ///
    /// # Errors
    /// As [`Packer::volumes`].
    pub fn stream(
        &self,
        out: Box<dyn Output>,
        seal: &[u8],
        signature: &[u8],
        before_seal: impl FnOnce() -> Result<(), S::Error>,
    ) -> Result<WrittenVolume, S::Error> {
        let mut piped = Piped { out: Some(out), written: None };
        let mut filling = Filling { packer: self, run: [1].iter(), open: None, outputs: &mut piped };
        self.fill(&[1], &[], &mut filling)?;
        before_seal()?;
        let volume = filling.reach(1)?;
        for (name, bytes) in [(STREAM_SEAL, seal), (STREAM_SEAL_SIGNATURE, signature)] {
            volume.writer.entry(name, bytes.len() as u64, Content::Plain, bytes).map_err(VolumeError::Io)?;
        }
        filling.finish()?;
        piped.written.ok_or_else(|| VolumeError::Io(io::Error::other("nothing was written")).into())
    }

    /// Writes every blob of which something belongs into one of these volumes.
    fn fill<O: Outputs<S::Error>>(
        &self,
        run: &[u32],
        known: &[WrittenPart],
        filling: &mut Filling<'_, '_, S, O>,
    ) -> Result<(), S::Error> {
        let source = self.packing.source;
        let blobs = || {
            let is_here = |blob: &&Blob| blob.stored.pieces().any(|piece| run.contains(&piece.volume));
            self.packing.manifest.blobs.iter().filter(is_here)
        };
        std::thread::scope(|scope| {
            let mut ahead = Ahead::new(scope, source, self.jobs, blobs())?;
            for blob in blobs() {
                let mut content = ahead.next()?;
                let failed = |e| source.failed(blob, e);
                let kind = match is_compressed(content.fill_buf().map_err(failed)?) {
                    true => Content::Compressed,
                    false => Content::Plain,
                };
                for piece in blob.stored.pieces() {
                    let (is_here, name) = (run.contains(&piece.volume), entry_name(blob, piece.part));
                    match piece.part {
                        None => {
                            let volume = filling.reach(piece.volume)?;
                            volume.writer.entry(&name, blob.size, kind, &mut content).map_err(failed)?;
                        }
                        Some(part) if is_here => {
                            let volume = filling.reach(piece.volume)?;
                            let mut hashing = HashingReader::new(content.by_ref().take(part.size));
                            volume.writer.entry(&name, part.size, kind, &mut hashing).map_err(failed)?;
                            let digest = hashing.hasher.finish();
                            unchanged(blob, part, digest, known).map_err(failed)?;
                            let (sum, line) = part_sum(&name, &digest);
                            let written = volume.writer.entry(&sum, line.len() as u64, Content::Plain, line.as_slice());
                            written.map_err(VolumeError::Io)?;
                            volume.parts.push(WrittenPart { blob: blob.digest, number: part.number, digest });
                        }
                        Some(part) => {
                            let mut hashing = HashingReader::new(content.by_ref().take(part.size));
                            io::copy(&mut hashing, &mut io::sink()).map_err(failed)?;
                            unchanged(blob, part, hashing.hasher.finish(), known).map_err(failed)?;
                        }
                    }
                }
            }
            Ok(())
        })
    }
}

/// A volume that is being written.
struct OpenVolume {
    number: u32,
    writer: VolumeWriter,
    parts: Vec<WrittenPart>,
}

/// The volumes of a run, one after the other.
struct Filling<'f, 'p, S, O> {
    packer: &'f Packer<'p, S>,
    run: std::slice::Iter<'f, u32>,
    open: Option<OpenVolume>,
    outputs: &'f mut O,
}

impl<S: SourceBlob, O: Outputs<S::Error>> Filling<'_, '_, S, O> {
    /// Goes on to the volume of this number.
    fn reach(&mut self, number: u32) -> Result<&mut OpenVolume, S::Error> {
        while self.open.as_ref().is_none_or(|open| open.number != number) {
            if !self.next()? {
                return Err(VolumeError::Io(io::Error::other(format!("volume {number} is not in this run"))).into());
            }
        }
        self.open.as_mut().ok_or_else(|| VolumeError::Io(io::Error::other("no volume is open")).into())
    }

    /// Ends the open volume and begins the next one. `false` if there is none.
    fn next(&mut self) -> Result<bool, S::Error> {
        if let Some(OpenVolume { number, writer, parts }) = self.open.take() {
            let (digest, size) = writer.finish().map_err(VolumeError::Io)?;
            self.outputs.ended(number, WrittenVolume { digest, size, parts })?;
        }
        let Some(number) = self.run.next().copied() else { return Ok(false) };
        let writer = self.begin(number)?;
        self.open = Some(OpenVolume { number, writer, parts: Vec::new() });
        Ok(true)
    }

    /// Begins a volume with its head.
    fn begin(&mut self, number: u32) -> Result<VolumeWriter, S::Error> {
        let Packing { recipients, manifest, manifest_bytes, signature, .. } = self.packer.packing;
        let mtime = u64::try_from(manifest.created.unix()).unwrap_or(0);
        let mut writer = VolumeWriter::new(self.outputs.open(number)?, recipients, mtime)?;
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
            head = volume_head(manifest, &self.packer.manifest_digest, number);
            &[(VOLUME, &head)]
        };
        for (name, bytes) in entries {
            writer.entry(name, bytes.len() as u64, Content::Plain, *bytes).map_err(VolumeError::Io)?;
        }
        Ok(writer)
    }

    /// Ends the run.
    fn finish(mut self) -> Result<(), S::Error> {
        while self.next()? {}
        Ok(())
    }
}

/// The one volume of a stream.
struct Piped {
    out: Option<Box<dyn Output>>,
    written: Option<WrittenVolume>,
}

impl<E: From<VolumeError>> Outputs<E> for Piped {
    fn open(&mut self, _: u32) -> Result<Box<dyn Output>, E> {
        self.out.take().ok_or_else(|| VolumeError::Io(io::Error::other("a stream has one volume")).into())
    }
    fn ended(&mut self, _: u32, volume: WrittenVolume) -> Result<(), E> {
        self.written = Some(volume);
        Ok(())
    }
}

impl<S> Clone for Packing<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<S> Copy for Packing<'_, S> {}

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

impl<R> HashingReader<R> {
    fn new(inner: R) -> Self {
        Self { inner, hasher: Hasher::new(Algorithm::Sha256) }
    }
}

impl<R: BufRead> BufRead for HashingReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }
    fn consume(&mut self, n: usize) {
        if let Ok(bytes) = self.inner.fill_buf() {
            self.hasher.update(&bytes[..n]);
        }
        self.inner.consume(n);
    }
}

impl<R: BufRead> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

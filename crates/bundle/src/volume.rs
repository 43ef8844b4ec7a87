//! One volume: `age(zstd(tar))`, written and read in one pass.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};

use blobs::Hasher;
use blobs::pipe::{BackgroundReader, BackgroundWriter};
use manifest_schema::{Algorithm, Digest};

use crate::frames::{FrameReader, FrameWriter};
use crate::keys::{AgeError, Identities, OpenError, Recipients};
use crate::payload::{self, OpeningReader, SealingWriter, Source};
use crate::tarball::{self, EntryHeader, TarError, TarReader};

/// Buffers in flight between two threads.
const BUFFERS: usize = 4;

/// A volume cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The file below failed: disk, medium.
    #[error("cannot read or write the volume")]
    Io(#[source] io::Error),
    /// No identity fits.
    #[error("none of the identities opens the volume")]
    NoIdentity,
    /// Not an age file, or one whose header is damaged.
    #[error("the volume is not an age file, or its header is damaged")]
    NotAge,
    /// Decryption or decompression fails.
    #[error("the volume cannot be decrypted or decompressed: {0}")]
    Corrupt(String),
    /// The archive inside is not as it should be.
    #[error("the archive in the volume: {0}")]
    Tar(TarError),
    /// A recipient is wrong.
    #[error(transparent)]
    Age(#[from] AgeError),
}

/// Where a volume is written to.
pub trait Output: Write + Send + 'static {
    /// Waits until everything is on the medium.
    ///
    /// # Errors
    /// Of the medium.
    fn settle(&mut self) -> io::Result<()>;
}

impl Output for File {
    fn settle(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// A pipe: what was written has left.
pub struct Pipe<W>(pub W);

impl<W: Write + Send + 'static> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write + Send + 'static> Output for Pipe<W> {
    fn settle(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Hashes what passes.
struct HashingWriter {
    inner: Box<dyn Output>,
    hasher: Hasher,
    written: u64,
}

impl Write for HashingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.written += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What an entry's content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// To be compressed.
    Plain,
    /// Compressed already.
    Compressed,
}

/// Writes a volume. Reading and digest checks are the caller's; compression and encryption run on the calling thread,
/// hashing and writing on another.
pub struct VolumeWriter {
    out: FrameWriter<SealingWriter<HashingWriter>>,
    mtime: u64,
}

impl VolumeWriter {
    /// Begins a volume. `mtime` (seconds since 1970) is written into every entry.
    ///
    /// # Errors
    /// [`VolumeError::Io`], [`VolumeError::Age`].
    pub fn new(out: Box<dyn Output>, recipients: &Recipients, mtime: u64) -> Result<Self, VolumeError> {
        let (head, key) = recipients.seal()?;
        let hashing = HashingWriter { inner: out, hasher: Hasher::new(Algorithm::Sha256), written: 0 };
        let out = BackgroundWriter::new("write", &payload::to_seal(BUFFERS), hashing)
            .and_then(|background| SealingWriter::new(key, &head, background))
            .and_then(FrameWriter::new);
        Ok(Self { out: out.map_err(VolumeError::Io)?, mtime })
    }

    /// Writes one entry of exactly `size` bytes.
    ///
    /// # Errors
    /// Of the reader, of the file, or `UnexpectedEof` if the reader gives fewer bytes. The volume is spoilt then.
    pub fn entry(&mut self, name: &str, size: u64, kind: Content, mut content: impl BufRead) -> io::Result<()> {
        let header = tarball::header(name, size, self.mtime)?;
        let padding = tarball::padding(size);
        if kind == Content::Compressed {
            self.out.begin_raw(header.len() as u64 + size + padding.len() as u64)?;
        }
        self.out.write_all(&header)?;
        let mut left = size;
        loop {
            // A read past the promised size lets a checking reader settle its account, also for an empty blob.
            let bytes = match content.fill_buf() {
                Ok(bytes) => bytes,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let n = bytes.len();
            if n as u64 > left || (n == 0 && left > 0) {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{name}: not of the size promised")));
            }
            if n == 0 {
                break;
            }
            self.out.write_all(bytes)?;
            content.consume(n);
            left -= n as u64;
        }
        self.out.write_all(padding)
    }

    /// Ends archive, compression and encryption, and waits until the file is on the medium. Gives the ciphertext's
    /// digest and size in bytes.
    ///
    /// # Errors
    /// Of the file.
    pub fn finish(mut self) -> io::Result<(Digest, u64)> {
        tarball::write_end(&mut self.out)?;
        let mut hashing = self.out.finish()?.finish()?;
        hashing.inner.settle()?;
        Ok((hashing.hasher.finish(), hashing.written))
    }
}

/// Hashes what is read.
struct HashingReader {
    inner: Box<dyn Read + Send>,
    hasher: Hasher,
}

/// Marks errors of the file below, so that they are not taken for corruption.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct MediumError(io::Error);

impl Read for HashingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer).map_err(|e| match e.kind() {
            io::ErrorKind::Interrupted => e,
            kind => io::Error::new(kind, MediumError(e)),
        })?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

type Ciphertext = BufReader<HashingReader>;

/// The archive in a volume.
type Archive = BufReader<FrameReader<OpeningReader<Ciphertext>>>;

/// Reads a volume entry by entry.
pub struct VolumeReader {
    tar: TarReader<Archive>,
}

impl VolumeReader {
    /// Opens a volume. With `ahead`, another thread reads and hashes: for reading it whole.
    ///
    /// # Errors
    /// [`VolumeError::NoIdentity`], [`VolumeError::NotAge`], [`VolumeError::Io`], [`VolumeError::Age`] for a plugin.
    pub fn open(file: Box<dyn Read + Send>, identities: &Identities, ahead: bool) -> Result<Self, VolumeError> {
        let hashing = HashingReader { inner: file, hasher: Hasher::new(Algorithm::Sha256) };
        let mut ciphertext = BufReader::with_capacity(64 << 10, hashing);
        let key = identities.open(&mut ciphertext).map_err(open_error)?;
        let source = match ahead {
            true => BackgroundReader::new("read", &payload::to_open(BUFFERS + 2), ciphertext).map(Source::Ahead),
            false => Ok(Source::Now(ciphertext, payload::to_open(2))),
        };
        let frames = FrameReader::new(OpeningReader::new(key, source.map_err(VolumeError::Io)?));
        Ok(Self { tar: TarReader::new(BufReader::with_capacity(64 << 10, frames)) })
    }

    /// The next entry, or `None` when the volume has ended as it should.
    ///
    /// # Errors
    /// [`VolumeError::Tar`] or [`VolumeError::Corrupt`] for what is inside, [`VolumeError::Io`] for the medium.
    pub fn next_entry(&mut self) -> Result<Option<EntryHeader>, VolumeError> {
        self.tar.next_entry().map_err(|e| match e {
            TarError::Io(e) => stream_error(e),
            other => VolumeError::Tar(other),
        })
    }

    /// The content of the current entry. Errors can be sorted with [`stream_error`].
    pub fn content(&mut self) -> &mut (dyn BufRead + Send) {
        &mut self.tar
    }

    /// Demands the end of the volume, and gives the digest of the whole ciphertext.
    ///
    /// # Errors
    /// As [`VolumeReader::next_entry`]; another entry is [`VolumeError::Tar`].
    pub fn finish(mut self) -> Result<Digest, VolumeError> {
        if self.next_entry()?.is_some() {
            return Err(VolumeError::Tar(TarError::Trailing("where the archive should end: one entry too many")));
        }
        let frames = self.tar.into_inner().into_inner();
        let payload = frames.into_inner().ok_or_else(|| VolumeError::Corrupt("a frame is left open".into()))?;
        let ciphertext = match payload.into_source() {
            Source::Now(ciphertext, _) => Ok(ciphertext),
            Source::Ahead(reader) => reader.finish(),
        };
        Ok(ciphertext.map_err(stream_error)?.into_inner().hasher.finish())
    }
}

fn open_error(error: OpenError) -> VolumeError {
    let error = match error {
        OpenError::Identity(e) => return VolumeError::Age(e),
        OpenError::File(e) => e,
    };
    match error {
        age::DecryptError::NoMatchingKeys => VolumeError::NoIdentity,
        age::DecryptError::Io(e) => match stream_error(e) {
            VolumeError::Corrupt(_) => VolumeError::NotAge,
            other => other,
        },
        _ => VolumeError::NotAge,
    }
}

/// Sorts an error from an entry's content: the medium's or the volume's own.
pub fn stream_error(error: io::Error) -> VolumeError {
    if error.get_ref().is_some_and(|e| e.is::<MediumError>()) {
        return VolumeError::Io(error);
    }
    match error.get_ref().is_some_and(|e| e.is::<TarError>()) {
        true => match error.into_inner().map(|e| e.downcast::<TarError>()) {
            Some(Ok(e)) => VolumeError::Tar(*e),
            _ => VolumeError::Corrupt("unknown".into()),
        },
        false => VolumeError::Corrupt(plain(&error.to_string())),
    }
}

/// Library messages without the direction marks some of them carry.
pub(crate) fn plain(text: &str) -> String {
    text.chars().filter(|c| !manifest_schema::text::is_unprintable(*c)).collect()
}

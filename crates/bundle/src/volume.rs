//! One volume: `age(zstd(tar))`, written and read in one pass.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use blobs::Hasher;
use blobs::pipe::{BackgroundReader, BackgroundWriter};
use manifest_schema::{Algorithm, Digest, LIMITS};
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

use crate::keys::{AgeError, Identities, OpenError, Recipients};
use crate::tarball::{self, EntryHeader, TarError, TarReader};

/// The zstd level of what is not compressed yet.
const LEVEL: i32 = 3;
/// The zstd level of what is compressed already: it gains about 1 % and must cost next to nothing.
const LEVEL_COMPRESSED: i32 = -5;
/// Bytes that are looked at to tell whether content is compressed.
const SNIFF: usize = 512;

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

/// Whether the first bytes are those of a compressed format: gzip, zstd, xz, bzip2, zip.
fn is_compressed(head: &[u8]) -> bool {
    const MAGICS: [&[u8]; 5] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh", b"PK\x03\x04"];
    MAGICS.iter().any(|magic| head.starts_with(magic))
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

type Encrypted = age::stream::StreamWriter<HashingWriter>;

/// Compresses into zstd frames; the level may change from frame to frame.
struct Compressor {
    encoder: Encoder<'static>,
    level: i32,
    open: bool,
    buffer: Vec<u8>,
    out: BackgroundWriter<Encrypted>,
}

impl Compressor {
    fn new(out: BackgroundWriter<Encrypted>) -> io::Result<Self> {
        let mut encoder = Encoder::new(LEVEL)?;
        encoder.set_parameter(CParameter::ChecksumFlag(false))?;
        Ok(Self { encoder, level: LEVEL, open: false, buffer: vec![0; 128 << 10], out })
    }

    fn set_level(&mut self, level: i32) -> io::Result<()> {
        if level != self.level {
            self.end_frame()?;
            self.encoder.set_parameter(CParameter::CompressionLevel(level))?;
            self.level = level;
        }
        Ok(())
    }

    fn end_frame(&mut self) -> io::Result<()> {
        while self.open {
            let mut out = OutBuffer::around(&mut self.buffer[..]);
            let left = self.encoder.finish(&mut out, true)?;
            let n = out.pos();
            self.out.write_all(&self.buffer[..n])?;
            self.open = left > 0;
        }
        Ok(())
    }
}

impl Write for Compressor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.open = true;
        let mut input = InBuffer::around(bytes);
        let mut output = OutBuffer::around(&mut self.buffer[..]);
        self.encoder.run(&mut input, &mut output)?;
        let (taken, n) = (input.pos(), output.pos());
        self.out.write_all(&self.buffer[..n])?;
        Ok(taken)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes a volume. Reading and digest checks are the caller's; compression runs on the calling thread, encryption,
/// hashing and writing on another.
pub struct VolumeWriter {
    out: Compressor,
    mtime: u64,
}

impl VolumeWriter {
    /// Begins a volume. `mtime` (seconds since 1970) is written into every entry.
    ///
    /// # Errors
    /// [`VolumeError::Io`], [`VolumeError::Age`].
    pub fn new(out: Box<dyn Output>, recipients: &Recipients, mtime: u64) -> Result<Self, VolumeError> {
        let hashing = HashingWriter { inner: out, hasher: Hasher::new(Algorithm::Sha256), written: 0 };
        let age = recipients.encryptor()?.wrap_output(hashing).map_err(VolumeError::Io)?;
        let background = BackgroundWriter::new("volume", age).map_err(VolumeError::Io)?;
        Ok(Self { out: Compressor::new(background).map_err(VolumeError::Io)?, mtime })
    }

    /// Writes one entry of exactly `size` bytes.
    ///
    /// # Errors
    /// Of the reader, of the file, or `UnexpectedEof` if the reader gives fewer bytes. The volume is spoilt then.
    pub fn entry(&mut self, name: &str, size: u64, mut content: impl Read) -> io::Result<()> {
        let mut head = Vec::with_capacity(SNIFF);
        content.by_ref().take(SNIFF.min(size.try_into().unwrap_or(SNIFF)) as u64).read_to_end(&mut head)?;
        self.out.set_level(if is_compressed(&head) { LEVEL_COMPRESSED } else { LEVEL })?;
        tarball::write_header(&mut self.out, name, size, self.mtime)?;
        self.out.write_all(&head)?;
        let mut buffer = vec![0; 128 << 10];
        let mut left = size - head.len() as u64;
        loop {
            // A read past the promised size lets a checking reader settle its account, also for an empty blob.
            let n = match content.read(&mut buffer) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if n as u64 > left || (n == 0 && left > 0) {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{name}: not of the size promised")));
            }
            if n == 0 {
                break;
            }
            self.out.write_all(&buffer[..n])?;
            left -= n as u64;
        }
        self.out.write_all(tarball::padding(size))
    }

    /// Ends archive, compression and encryption, and waits until the file is on the medium. Gives the ciphertext's
    /// digest and size in bytes.
    ///
    /// # Errors
    /// Of the file.
    pub fn finish(mut self) -> io::Result<(Digest, u64)> {
        self.out.set_level(LEVEL)?;
        tarball::write_end(&mut self.out)?;
        self.out.end_frame()?;
        let mut hashing = self.out.out.finish()?.finish()?;
        hashing.inner.settle()?;
        Ok((hashing.hasher.finish(), hashing.written))
    }
}

/// Hashes what is read, for someone else to ask.
struct HashingReader {
    inner: Box<dyn Read + Send>,
    hasher: Arc<Mutex<Option<Hasher>>>,
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
        if let Some(hasher) = self.hasher.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            hasher.update(&buffer[..n]);
        }
        Ok(n)
    }
}

type Decompressed = zstd::stream::read::Decoder<'static, BufReader<Box<dyn Read + Send>>>;

/// Reads a volume entry by entry.
pub struct VolumeReader {
    tar: TarReader<Decompressed>,
    hasher: Arc<Mutex<Option<Hasher>>>,
}

impl VolumeReader {
    /// Opens a volume. With `ahead`, decryption runs ahead on another thread: for reading it whole.
    ///
    /// # Errors
    /// [`VolumeError::NoIdentity`], [`VolumeError::NotAge`], [`VolumeError::Io`], [`VolumeError::Age`] for a plugin.
    pub fn open(file: Box<dyn Read + Send>, identities: &Identities, ahead: bool) -> Result<Self, VolumeError> {
        let hasher = Arc::new(Mutex::new(Some(Hasher::new(Algorithm::Sha256))));
        let hashing = BufReader::with_capacity(64 << 10, HashingReader { inner: file, hasher: hasher.clone() });
        let plain = identities.open(hashing).map_err(open_error)?;
        let source: Box<dyn Read + Send> = if ahead {
            Box::new(BackgroundReader::new("volume", plain).map_err(VolumeError::Io)?)
        } else {
            Box::new(plain)
        };
        let mut decoder = zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(64 << 10, source))
            .map_err(VolumeError::Io)?;
        decoder.window_log_max(LIMITS.zstd_window_log).map_err(VolumeError::Io)?;
        Ok(Self { tar: TarReader::new(decoder), hasher })
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
    pub fn content(&mut self) -> &mut (dyn Read + Send) {
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
        let hasher = self.hasher.lock().unwrap_or_else(PoisonError::into_inner).take();
        hasher.map(Hasher::finish).ok_or_else(|| VolumeError::Corrupt("its digest was not taken".into()))
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

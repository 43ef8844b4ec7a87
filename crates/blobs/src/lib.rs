//! Content-addressed bytes.
//!
//! [`VerifyingReader`] hands on what it reads and checks size and digest on the way. It never hands on the last byte of
//! content that is wrong, so whatever consumes exactly the promised size has consumed the right bytes; and it gives the
//! [`VerifiedBlob`] witness only at the end. There is no other way to make that witness.

#![deny(missing_docs)]

pub mod pipe;
pub mod threads;

use std::io::{self, Read};

use manifest_schema::{Algorithm, Digest};
use sha2::Digest as _;

/// Hashes bytes with the function a digest names.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// A new hash.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(sha2::Sha512::new()),
        })
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(h) => h.update(bytes),
            State::Sha512(h) => h.update(bytes),
        }
    }

    /// The digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(h) => Digest::Sha256(h.finalize().into()),
            State::Sha512(h) => Digest::Sha512(h.finalize().into()),
        }
    }
}

/// The SHA-256 digest of some bytes.
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(bytes);
    hasher.finish()
}

/// What was read is not what its digest promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// Fewer bytes than promised.
    #[error("{digest}: cut off after {found} of {expected} bytes")]
    Short {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        expected: u64,
        /// The bytes that came.
        found: u64,
    },
    /// More bytes than promised.
    #[error("{digest}: more than the expected {expected} bytes")]
    Long {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        expected: u64,
    },
    /// Other bytes than promised.
    #[error("expected {expected}, found {found}")]
    Digest {
        /// The digest promised.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
}

impl BlobError {
    /// The blob error inside an I/O error of a [`VerifyingReader`], if that is what it is.
    pub fn of(error: &io::Error) -> Option<&BlobError> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<BlobError> for io::Error {
    fn from(error: BlobError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// Proof that all bytes of a blob have been read and were the right ones.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the witness is what an upload is completed with"]
pub struct VerifiedBlob {
    digest: Digest,
    size: u64,
}

impl VerifiedBlob {
    /// The blob's digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The blob's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// A small blob held in memory, with the proof that its bytes are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedBytes {
    digest: Digest,
    bytes: Vec<u8>,
}

impl VerifiedBytes {
    /// Checks bytes against a digest.
    ///
    /// # Errors
    /// [`BlobError::Digest`] if they do not match.
    pub fn check(bytes: Vec<u8>, digest: Digest) -> Result<Self, BlobError> {
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        let found = hasher.finish();
        if found == digest { Ok(Self { digest, bytes }) } else { Err(BlobError::Digest { expected: digest, found }) }
    }

    /// Names bytes by their own SHA-256 digest.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self { digest: sha256(&bytes), bytes }
    }

    /// Reads a whole blob of a promised size.
    ///
    /// # Errors
    /// An I/O error; [`BlobError::of`] tells whether the content was wrong.
    pub fn read(reader: impl Read, digest: Digest, size: u64) -> io::Result<Self> {
        VerifyingReader::new(reader, digest, size).read_whole()
    }

    /// The digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, taken out.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads a blob and checks its size and digest. See the crate's documentation.
///
/// Every read error of wrong content carries a [`BlobError`]; after one, each further read fails the same way.
pub struct VerifyingReader<R> {
    inner: R,
    digest: Digest,
    size: u64,
    read: u64,
    hasher: Option<Hasher>,
    failed: Option<BlobError>,
}

impl<R: Read> VerifyingReader<R> {
    /// Wraps a reader that should give exactly `size` bytes with this digest.
    pub fn new(inner: R, digest: Digest, size: u64) -> Self {
        Self { inner, digest, size, read: 0, hasher: Some(Hasher::new(digest.algorithm())), failed: None }
    }

    /// The digest promised.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The size promised, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many bytes have been handed on.
    pub fn position(&self) -> u64 {
        self.read
    }

    /// The reader below, unchecked; what was read so far is forgotten.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Reads a whole small blob into memory.
    ///
    /// # Errors
    /// As reading does; [`io::ErrorKind::InvalidInput`] if bytes have been handed on already.
    pub fn read_whole(&mut self) -> io::Result<VerifiedBytes> {
        if self.read != 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "its first bytes have been read already"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(self.size.min(1 << 20)).unwrap_or(0));
        self.read_to_end(&mut bytes)?;
        Ok(VerifiedBytes { digest: self.digest, bytes })
    }

    /// Reads what is left, and gives the witness.
    ///
    /// # Errors
    /// As reading does.
    pub fn finish(mut self) -> io::Result<VerifiedBlob> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(VerifiedBlob { digest: self.digest, size: self.size })
    }

    fn fail(&mut self, error: BlobError) -> io::Error {
        self.failed = Some(error.clone());
        error.into()
    }

    /// Called when the promised size has been read: the inner reader must end here, and the digest must be right.
    fn settle(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let mut probe = [0];
        loop {
            match self.inner.read(&mut probe) {
                Ok(0) => break,
                Ok(_) => return Err(self.fail(BlobError::Long { digest: self.digest, expected: self.size })),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.hasher = Some(hasher);
                    return Err(e);
                }
            }
        }
        let found = hasher.finish();
        if found != self.digest {
            return Err(self.fail(BlobError::Digest { expected: self.digest, found }));
        }
        Ok(())
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(error) = &self.failed {
            return Err(error.clone().into());
        }
        if buf.is_empty() {
            return Ok(0);
        }
        let left = self.size - self.read;
        if left == 0 {
            self.settle()?;
            return Ok(0);
        }
        let want = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        let n = self.inner.read(&mut buf[..want])?;
        if n == 0 {
            let (digest, expected, found) = (self.digest, self.size, self.read);
            return Err(self.fail(BlobError::Short { digest, expected, found }));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buf[..n]);
        }
        if n as u64 == left {
            // The last byte is handed on only if everything is right.
            if let Err(e) = self.settle() {
                buf[..n].fill(0);
                if self.failed.is_none() {
                    // The inner reader failed where it should have ended; nothing can be proven any more.
                    let (digest, expected, found) = (self.digest, self.size, self.read);
                    self.failed = Some(BlobError::Short { digest, expected, found });
                }
                return Err(e);
            }
        }
        self.read += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consume(content: &[u8], digest: Digest, size: u64, step: usize) -> (usize, Option<BlobError>) {
        let mut reader = VerifyingReader::new(content, digest, size);
        let mut buf = vec![0; step];
        let mut got = 0;
        loop {
            match reader.read(&mut buf) {
                Ok(0) => return (got, None),
                Ok(n) => got += n,
                Err(e) => return (got, BlobError::of(&e).cloned()),
            }
        }
    }

    #[test]
    fn the_last_byte_of_wrong_content_is_never_handed_on() {
        let good = b"all the bytes of a layer".to_vec();
        let digest = sha256(&good);
        let size = good.len() as u64;
        for step in [1, 3, 7, 24, 100] {
            assert_eq!(consume(&good, digest, size, step), (good.len(), None));
            let mut flipped = good.clone();
            flipped[2] ^= 1;
            let (got, error) = consume(&flipped, digest, size, step);
            assert!(got < good.len() && matches!(error, Some(BlobError::Digest { .. })), "{step}: {got} {error:?}");
            let (got, error) = consume(&good[..20], digest, size, step);
            assert!(got <= 20 && matches!(error, Some(BlobError::Short { found, .. }) if found == got as u64));
            let long = [good.as_slice(), b"x"].concat();
            let (got, error) = consume(&long, digest, size, step);
            assert!(got < good.len() && matches!(error, Some(BlobError::Long { .. })), "{step}: {got} {error:?}");
        }
    }

    #[test]
    fn a_whole_blob_is_read_from_its_beginning_only() {
        let good = b"all the bytes".to_vec();
        let mut reader = VerifyingReader::new(good.as_slice(), sha256(&good), 13);
        assert_eq!(reader.read_whole().expect("right").bytes(), good);
        let error = reader.read_whole().expect_err("read before");
        assert_eq!((error.kind(), BlobError::of(&error)), (io::ErrorKind::InvalidInput, None));
        let error = VerifyingReader::new(good.as_slice(), sha256(b"x"), 13).read_whole().expect_err("other bytes");
        assert!(matches!(BlobError::of(&error), Some(BlobError::Digest { .. })));
    }

    #[test]
    fn the_witness_needs_every_byte() {
        let good = vec![5; 100_000];
        let digest = sha256(&good);
        let witness = VerifyingReader::new(good.as_slice(), digest, 100_000).finish().expect("right");
        assert_eq!((witness.digest(), witness.size()), (&digest, 100_000));
        assert!(VerifyingReader::new(&good[1..], digest, 100_000).finish().is_err());
        assert!(VerifyingReader::new(good.as_slice(), digest, 99_999).finish().is_err());
        let empty = sha256(b"");
        assert!(VerifyingReader::new(io::empty(), empty, 0).finish().is_ok());
        assert!(VerifyingReader::new(io::empty(), digest, 0).finish().is_err(), "an empty blob is checked too");
        assert!(VerifyingReader::new(b"x".as_slice(), empty, 0).finish().is_err());
    }

    #[test]
    fn sha512_is_checked_as_sha512() {
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(b"abc");
        let digest = hasher.finish();
        assert!(digest.to_string().starts_with("sha512:ddaf35a193617abacc417349ae204131"));
        assert!(VerifiedBytes::check(b"abc".to_vec(), digest).is_ok());
        assert!(VerifiedBytes::check(b"abd".to_vec(), digest).is_err());
    }
}

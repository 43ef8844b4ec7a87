//! The payload of an age file (<https://c2sp.org/age>, "Payload"): ChaCha20-Poly1305 over chunks of 64 KiB.
//!
//! Headers, recipients and identities are the age library's. The payload is here because the library's own cipher takes half
//! the time of everything that is done with a byte; this one works in place, in the buffers that go from thread to thread.

use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;

use blobs::pipe::{BackgroundReader, BackgroundWriter, Buffer, Pool};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use ring::hkdf;

/// Bytes of the nonce that stands between header and payload.
pub(crate) const NONCE: usize = 16;
/// Plaintext bytes of every chunk but the last.
const CHUNK: usize = 64 << 10;
/// Bytes of ciphertext of such a chunk: its tag stands behind it.
const SEALED: usize = CHUNK + TAG;
const TAG: usize = 16;
/// Chunks that are read at once.
const CHUNKS: usize = 4;
/// Bytes that are written at once: enough for a stick or disk to be as fast as it can.
pub(crate) const BLOCK: usize = 512 << 10;

/// Buffers for reading: they hold whole chunks.
pub(crate) fn to_open(buffers: usize) -> Arc<Pool> {
    Pool::new(CHUNKS * SEALED, buffers)
}

/// Buffers for writing: a block, and as much of a chunk as goes into the next one.
pub(crate) fn to_seal(buffers: usize) -> Arc<Pool> {
    Pool::new(BLOCK + SEALED, buffers)
}

/// The key of one payload, and which chunk is next.
pub(crate) struct PayloadKey {
    key: LessSafeKey,
    next: u64,
}

impl PayloadKey {
    /// HKDF-SHA-256 of the file key, with the nonce as salt.
    pub(crate) fn new(file_key: &[u8; 16], nonce: &[u8; NONCE]) -> Self {
        let key = hkdf::Salt::new(hkdf::HKDF_SHA256, nonce).extract(file_key);
        let info: [&[u8]; 1] = [b"payload"];
        let okm = key.expand(&info, &CHACHA20_POLY1305).expect("32 bytes are never too many for HKDF-SHA-256");
        Self { key: LessSafeKey::new(UnboundKey::from(okm)), next: 0 }
    }

    /// 11 bytes of counter, and one that says whether the chunk is the last. Every nonce is used once.
    fn nonce(&mut self, last: bool) -> ring::aead::Nonce {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&self.next.to_be_bytes());
        nonce[11] = last.into();
        self.next = self.next.checked_add(1).expect("nobody writes 2^64 chunks");
        ring::aead::Nonce::assume_unique_for_key(nonce)
    }

    /// Encrypts a chunk in place. Gives its tag.
    fn seal(&mut self, chunk: &mut [u8], last: bool) -> io::Result<ring::aead::Tag> {
        let nonce = self.nonce(last);
        let sealed = self.key.seal_in_place_separate_tag(nonce, Aad::empty(), chunk);
        sealed.map_err(|_| io::Error::other("a chunk cannot be encrypted"))
    }

    /// Decrypts a chunk, behind which its tag stands, in place. Gives the length of the plaintext.
    fn open(&mut self, chunk: &mut [u8], last: bool) -> Result<usize, PayloadError> {
        let nonce = self.nonce(last);
        let opened = self.key.open_in_place(nonce, Aad::empty(), chunk);
        opened.map(|plain| plain.len()).map_err(|_| PayloadError::Decrypt)
    }
}

/// Encrypts, and has the ciphertext written on another thread, in blocks of [`BLOCK`] bytes.
pub(crate) struct SealingWriter<W> {
    key: PayloadKey,
    out: BackgroundWriter<W>,
    buffer: Buffer,
    /// Where the chunk that is being filled begins.
    chunk: usize,
}

impl<W: Write + Send + 'static> SealingWriter<W> {
    /// `head`, of less than a block, stands before the payload. The buffers of `out` are those of [`to_seal`].
    pub(crate) fn new(key: PayloadKey, head: &[u8], out: BackgroundWriter<W>) -> io::Result<Self> {
        let mut buffer = out.buffer();
        if head.len() >= BLOCK {
            return Err(io::Error::other("the header of an age file is too large"));
        }
        let chunk = buffer.put(head);
        Ok(Self { key, buffer, out, chunk })
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        let tag = self.key.seal(&mut self.buffer[self.chunk..], last)?;
        self.buffer.put(tag.as_ref());
        if self.buffer.len() >= BLOCK {
            let mut next = self.out.buffer();
            next.put(&self.buffer[BLOCK..]);
            self.buffer.truncate(BLOCK);
            self.out.write(std::mem::replace(&mut self.buffer, next))?;
        }
        self.chunk = self.buffer.len();
        Ok(())
    }

    /// Ends the payload, and waits until everything is written.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        self.out.write(self.buffer)?;
        self.out.finish()
    }
}

impl<W: Write + Send + 'static> Write for SealingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        // A full chunk is sealed only when another follows: the last one is marked, and is empty only if all is.
        if self.buffer.len() - self.chunk == CHUNK {
            self.seal(false)?;
        }
        let n = bytes.len().min(CHUNK - (self.buffer.len() - self.chunk));
        Ok(self.buffer.put(&bytes[..n]))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where ciphertext comes from.
pub(crate) enum Source<R> {
    /// Read when it is needed.
    Now(R, Arc<Pool>),
    /// Read ahead.
    Ahead(BackgroundReader<R>),
}

impl<R: Read + Send + 'static> Source<R> {
    /// The next buffer: full, unless it is the last.
    fn next(&mut self) -> io::Result<Option<Buffer>> {
        match self {
            Self::Ahead(reader) => reader.pipe().next_buffer(),
            Self::Now(reader, pool) => {
                let mut buffer = pool.take();
                buffer.fill(reader)?;
                Ok(Some(buffer).filter(|buffer| !buffer.is_empty()))
            }
        }
    }
}

/// What is wrong with a payload.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PayloadError {
    #[error("decryption error")]
    Decrypt,
    #[error("the ciphertext is cut off")]
    Cut,
}

impl From<PayloadError> for io::Error {
    fn from(error: PayloadError) -> Self {
        let kind = match error {
            PayloadError::Decrypt => io::ErrorKind::InvalidData,
            PayloadError::Cut => io::ErrorKind::UnexpectedEof,
        };
        io::Error::new(kind, error)
    }
}

/// Decrypts. Gives no byte that was not authenticated, and ends only where the last chunk says so.
pub(crate) struct OpeningReader<R> {
    key: PayloadKey,
    source: Source<R>,
    current: Option<Buffer>,
    /// The buffer behind it: only there does it show which chunk is the last.
    behind: Option<Buffer>,
    begun: bool,
    ended: bool,
    /// Where the chunk behind the one that is open begins.
    next: usize,
    /// What is left of the open chunk's plaintext.
    plain: std::ops::Range<usize>,
}

impl<R: Read + Send + 'static> OpeningReader<R> {
    pub(crate) fn new(key: PayloadKey, source: Source<R>) -> Self {
        let (begun, ended) = (false, false);
        Self { key, source, current: None, behind: None, begun, ended, next: 0, plain: 0..0 }
    }

    /// Where the ciphertext came from.
    pub(crate) fn into_source(self) -> Source<R> {
        self.source
    }

    /// Decrypts the next chunk, if the one before was not the last.
    fn open(&mut self) -> io::Result<()> {
        if self.current.as_ref().is_none_or(|buffer| self.next == buffer.len()) {
            if !self.begun {
                self.behind = self.source.next()?;
                self.begun = true;
            }
            (self.next, self.plain) = (0, 0..0);
            self.current = self.behind.take();
            if self.current.is_some() {
                self.behind = self.source.next()?;
            }
        }
        let Some(buffer) = &mut self.current else { return Err(PayloadError::Cut.into()) };
        let end = buffer.len().min(self.next + SEALED);
        let (is_first, is_last) = (self.key.next == 0, end == buffer.len() && self.behind.is_none());
        let chunk = &mut buffer[self.next..end];
        if chunk.len() < TAG || (chunk.len() == TAG && !(is_first && is_last)) {
            return Err(PayloadError::Cut.into());
        }
        let length = self.key.open(chunk, is_last)?;
        self.plain = self.next..self.next + length;
        (self.next, self.ended) = (end, is_last);
        Ok(())
    }
}

impl<R: Read + Send + 'static> BufRead for OpeningReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.plain.is_empty() && !self.ended {
            self.open()?;
        }
        Ok(self.current.as_ref().map_or(&[], |buffer| &buffer[self.plain.clone()]))
    }

    fn consume(&mut self, n: usize) {
        self.plain.start += n;
    }
}

impl<R: Read + Send + 'static> Read for OpeningReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let plain = self.fill_buf()?;
        let n = out.len().min(plain.len());
        out[..n].copy_from_slice(&plain[..n]);
        self.consume(n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [usize; 15] = [
        0,
        1,
        CHUNK - 1,
        CHUNK,
        CHUNK + 1,
        2 * CHUNK,
        CHUNKS * CHUNK - 1,
        CHUNKS * CHUNK,
        CHUNKS * CHUNK + 1,
        2 * CHUNKS * CHUNK,
        3 * CHUNKS * CHUNK + 1,
        BLOCK - 1,
        BLOCK,
        15 * CHUNK + BLOCK,
        5_000_003,
    ];

    fn key() -> PayloadKey {
        PayloadKey::new(&[7; 16], &[9; NONCE])
    }

    fn content(size: usize) -> Vec<u8> {
        (0..size).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    fn sealed(content: &[u8], step: usize) -> Vec<u8> {
        let out = BackgroundWriter::new("w", &to_seal(3), Vec::new()).expect("a thread");
        let mut writer = SealingWriter::new(key(), b"head", out).expect("begun");
        content.chunks(step).for_each(|piece| writer.write_all(piece).expect("written"));
        writer.finish().expect("finished").split_off(4)
    }

    fn opened(sealed: &[u8], ahead: bool) -> io::Result<Vec<u8>> {
        let input = io::Cursor::new(sealed.to_vec());
        let source = match ahead {
            true => Source::Ahead(BackgroundReader::new("r", &to_open(4), input)?),
            false => Source::Now(input, to_open(2)),
        };
        let mut reader = OpeningReader::new(key(), source);
        let mut out = Vec::new();
        if let Err(e) = reader.read_to_end(&mut out) {
            for _ in 0..3 {
                assert!(reader.read(&mut [0; 9]).is_err(), "what failed once stays failed");
            }
            return Err(e);
        }
        Ok(out)
    }

    #[test]
    fn every_size_is_read_as_it_was_written() {
        for size in SIZES {
            let content = content(size);
            let ciphertext = sealed(&content, 100_003);
            let chunks = size.div_ceil(CHUNK).max(1);
            assert_eq!(ciphertext.len(), size + chunks * TAG, "{size}");
            for ahead in [false, true] {
                assert!(opened(&ciphertext, ahead).expect("opened") == content, "{size} {ahead}");
            }
        }
    }

    #[test]
    fn nothing_can_be_cut_off_added_moved_or_changed() {
        let whole = sealed(&content(2 * CHUNKS * CHUNK), CHUNK);
        let cuts = [0, 1, TAG, SEALED - 1, SEALED, SEALED + 1, CHUNKS * SEALED, whole.len() - SEALED, whole.len() - 1];
        for ahead in [false, true] {
            for cut in cuts {
                assert!(opened(&whole[..cut], ahead).is_err(), "cut at {cut}");
            }
            for at in [0, CHUNK, SEALED, CHUNKS * SEALED, whole.len() - 1] {
                let mut changed = whole.clone();
                changed[at] ^= 1;
                assert!(opened(&changed, ahead).is_err(), "changed at {at}");
            }
            for more in [&[0][..], &[0; TAG], &whole[..SEALED], &whole[whole.len() - SEALED..]] {
                assert!(opened(&[&whole, more].concat(), ahead).is_err(), "{} bytes more", more.len());
            }
            let swapped = [&whole[SEALED..2 * SEALED], &whole[..SEALED], &whole[2 * SEALED..]].concat();
            assert!(opened(&swapped, ahead).is_err(), "two chunks changed places");
        }
        // An empty last chunk behind others: the specification forbids it, whatever its tag.
        let mut key = key();
        let mut chunk = vec![5; CHUNK];
        let tag = key.seal(&mut chunk, false).expect("sealed");
        let last = key.seal(&mut [], true).expect("sealed");
        assert!(opened(&[&chunk, tag.as_ref(), last.as_ref()].concat(), true).is_err());
    }
}

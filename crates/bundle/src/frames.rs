//! The zstd frames of a volume (RFC 8878). Any number of them behind each other is one zstd file.

use std::io::{self, BufRead, Chain, Cursor, Read, Write};

use manifest_schema::LIMITS;
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};
use zstd::stream::read::Decoder;

/// The zstd level of what is not compressed yet.
const LEVEL: i32 = 3;
/// Threads that compress, at most, and bytes that each takes at once.
const WORKERS: usize = 4;
const JOB: u32 = 1 << 20;
/// The largest block of a frame, in bytes.
const BLOCK: u64 = 128 << 10;

/// How a frame of raw blocks begins (section 3.1.1): the magic number; a frame header without content size or checksum; a window
/// of 128 KiB.
const RAW_FRAME: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 7 << 3];

/// Whether the first bytes are those of a compressed format: gzip, zstd, xz, bzip2, zip.
pub(crate) fn is_compressed(head: &[u8]) -> bool {
    const MAGICS: [&[u8]; 5] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh", b"PK\x03\x04"];
    MAGICS.iter().any(|magic| head.starts_with(magic))
}

/// Writes frames: compressed ones, and such that only hold what is compressed already (zstd would gain about 1 % on it, at a
/// cost of half of everything else).
pub(crate) struct FrameWriter<W> {
    encoder: Encoder<'static>,
    /// A compressed frame has begun.
    open: bool,
    /// Bytes that are still to come in a frame of raw blocks, and in its current block.
    raw: (u64, u64),
    buffer: Vec<u8>,
    out: W,
}

impl<W: Write> FrameWriter<W> {
    pub(crate) fn new(out: W) -> io::Result<Self> {
        let mut encoder = Encoder::new(LEVEL)?;
        encoder.set_parameter(CParameter::ChecksumFlag(false))?;
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(WORKERS));
        if workers > 1 {
            encoder.set_parameter(CParameter::NbWorkers(workers as u32))?;
            encoder.set_parameter(CParameter::JobSize(JOB))?;
        }
        Ok(Self { encoder, open: false, raw: (0, 0), buffer: vec![0; BLOCK as usize], out })
    }

    /// The next so many bytes go into a frame of their own as they are.
    pub(crate) fn begin_raw(&mut self, bytes: u64) -> io::Result<()> {
        self.end_frame()?;
        self.out.write_all(&RAW_FRAME)?;
        self.raw = (bytes, 0);
        Ok(())
    }

    fn write_raw(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (frame, block) = &mut self.raw;
        if *block == 0 {
            *block = BLOCK.min(*frame);
            // Section 3.1.1.2: whether it is the last, the type (0, raw), the size.
            let header = u64::from(*block == *frame) | *block << 3;
            self.out.write_all(&header.to_le_bytes()[..3])?;
        }
        let n = usize::try_from(*block).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.out.write_all(&bytes[..n])?;
        *frame -= n as u64;
        *block -= n as u64;
        Ok(n)
    }

    fn end_frame(&mut self) -> io::Result<()> {
        if self.raw.0 > 0 {
            return Err(io::Error::other("fewer bytes came than were announced"));
        }
        while self.open {
            let mut out = OutBuffer::around(&mut self.buffer[..]);
            let left = self.encoder.finish(&mut out, true)?;
            let n = out.pos();
            self.out.write_all(&self.buffer[..n])?;
            self.open = left > 0;
        }
        Ok(())
    }

    /// Ends the last frame.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.end_frame()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for FrameWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.raw.0 > 0 {
            return self.write_raw(bytes);
        }
        self.open = true;
        loop {
            let mut input = InBuffer::around(bytes);
            let mut output = OutBuffer::around(&mut self.buffer[..]);
            self.encoder.run(&mut input, &mut output)?;
            let (taken, n) = (input.pos(), output.pos());
            self.out.write_all(&self.buffer[..n])?;
            // If all threads are busy, it may take nothing at first.
            if taken > 0 {
                return Ok(taken);
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads frames. Those of raw blocks need no decoder; all others are the library's.
pub(crate) struct FrameReader<R>(Option<Frame<R>>);

enum Frame<R> {
    /// Before a frame, or behind the last.
    Between(R),
    /// In a raw block, of which so many bytes are left. Whether it is the last.
    Raw {
        inner: R,
        left: u64,
        last: bool,
    },
    Compressed(Box<Decoder<'static, Chain<Cursor<Vec<u8>>, R>>>),
}

impl<R: BufRead> FrameReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self(Some(Frame::Between(inner)))
    }

    /// What was read from, if no frame is open.
    pub(crate) fn into_inner(self) -> Option<R> {
        match self.0 {
            Some(Frame::Between(inner)) => Some(inner),
            _ => None,
        }
    }

    fn begin(mut inner: R) -> io::Result<Frame<R>> {
        let mut head = vec![0; RAW_FRAME.len()];
        inner.read_exact(&mut head)?;
        if head != RAW_FRAME {
            return Self::compressed(head, inner);
        }
        let block = block_header(&mut inner)?;
        match raw_block(&block) {
            Some((left, last)) => Ok(Frame::Raw { inner, left, last }),
            None => Self::compressed([head.as_slice(), &block].concat(), inner),
        }
    }

    fn compressed(head: Vec<u8>, inner: R) -> io::Result<Frame<R>> {
        let mut decoder = Decoder::with_buffer(Cursor::new(head).chain(inner))?.single_frame();
        decoder.window_log_max(LIMITS.zstd_window_log)?;
        Ok(Frame::Compressed(Box::new(decoder)))
    }
}

/// Section 3.1.1.2.
fn block_header(inner: &mut impl Read) -> io::Result<[u8; 3]> {
    let mut header = [0; 3];
    inner.read_exact(&mut header)?;
    Ok(header)
}

/// The size of a raw block, and whether it is the last; `None` for a block of another kind.
fn raw_block(header: &[u8; 3]) -> Option<(u64, bool)> {
    let header = u64::from(header[0]) | u64::from(header[1]) << 8 | u64::from(header[2]) << 16;
    let (last, kind, size) = (header & 1 == 1, header >> 1 & 3, header >> 3);
    (kind == 0 && size <= BLOCK).then_some((size, last))
}

impl<R: BufRead> Read for FrameReader<R> {
    /// After an error, every read is one.
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            let frame = self.0.take().ok_or_else(|| io::Error::other("it could not be read before"))?;
            match frame {
                Frame::Between(mut inner) => {
                    if inner.fill_buf()?.is_empty() {
                        self.0 = Some(Frame::Between(inner));
                        return Ok(0);
                    }
                    self.0 = Some(Self::begin(inner)?);
                }
                Frame::Raw { inner, left: 0, last: true } => self.0 = Some(Frame::Between(inner)),
                Frame::Raw { mut inner, left: 0, last: false } => {
                    let block = raw_block(&block_header(&mut inner)?);
                    let other = || io::Error::new(io::ErrorKind::InvalidData, "among raw blocks there is another");
                    let (left, last) = block.ok_or_else(other)?;
                    self.0 = Some(Frame::Raw { inner, left, last });
                }
                Frame::Raw { mut inner, left, last } => {
                    let bytes = inner.fill_buf()?;
                    let n = bytes.len().min(out.len()).min(usize::try_from(left).unwrap_or(usize::MAX));
                    if n == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    out[..n].copy_from_slice(&bytes[..n]);
                    inner.consume(n);
                    self.0 = Some(Frame::Raw { inner, left: left - n as u64, last });
                    return Ok(n);
                }
                Frame::Compressed(mut decoder) => {
                    let n = decoder.read(out)?;
                    if n == 0 {
                        self.0 = Some(Frame::Between(decoder.finish().into_inner().1));
                        continue;
                    }
                    self.0 = Some(Frame::Compressed(decoder));
                    return Ok(n);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_and_compressed_frames_are_one_zstd_file() {
        let noise: Vec<u8> = (0..700_001_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for size in [1, 2, 131_071, 131_072, 131_073, 262_144, 700_001] {
            let mut frames = FrameWriter::new(Vec::new()).expect("an encoder");
            frames.write_all(&[7; 5000]).expect("written");
            frames.begin_raw(size as u64).expect("begun");
            for piece in noise[..size].chunks(70_000) {
                frames.write_all(piece).expect("written");
            }
            frames.write_all(&[8; 5000]).expect("written");
            let file = frames.finish().expect("finished");
            assert!(file.len() < size + 6 + 3 * (size / 131_072 + 1) + 200, "{size}: {}", file.len());
            let plain = zstd::decode_all(file.as_slice()).expect("zstd");
            assert!(plain == [&[7; 5000], &noise[..size], &[8; 5000]].concat(), "{size}");
            for buffer in [1, 7, 100, 100_000] {
                let mut reader = FrameReader::new(io::BufReader::with_capacity(buffer, file.as_slice()));
                let mut found = Vec::new();
                reader.read_to_end(&mut found).expect("read");
                assert!(found == plain && reader.into_inner().is_some(), "{size} by {buffer}");
            }
        }
        let mut frames = FrameWriter::new(Vec::new()).expect("an encoder");
        frames.begin_raw(10).and_then(|()| frames.write_all(&[1; 9])).expect("written");
        assert!(frames.finish().is_err(), "a byte is missing");
    }

    fn read(file: &[u8]) -> io::Result<Vec<u8>> {
        let mut reader = FrameReader::new(file);
        let mut found = Vec::new();
        if let Err(e) = reader.read_to_end(&mut found) {
            assert!(reader.read(&mut [0; 8]).is_err(), "what failed once stays failed");
            return Err(e);
        }
        Ok(found)
    }

    #[test]
    fn frames_that_are_cut_or_mixed_are_refused() {
        let mut frames = FrameWriter::new(Vec::new()).expect("an encoder");
        frames.begin_raw(200_000).and_then(|()| frames.write_all(&[3; 200_000])).expect("written");
        frames.write_all(&[4; 1000]).expect("written");
        let file = frames.finish().expect("finished");
        assert_eq!(read(&file).expect("whole").len(), 201_000);
        for cut in [1, 5, 6, 8, 9, 100, 131_080, 131_082, 200_000, file.len() - 1] {
            assert!(read(&file[..cut]).is_err(), "cut at {cut}");
        }
        assert!(read(&[&file, &[0; 9][..]].concat()).is_err(), "no frame behind the last");
        let second = RAW_FRAME.len() + 3 + BLOCK as usize;
        for kind in 1..4 {
            let mut mixed = file.clone();
            mixed[second] |= kind << 1;
            assert!(read(&mixed).is_err(), "a second block of type {kind}");
        }
        let size = BLOCK as u32 + 1;
        let too_large = [&RAW_FRAME[..], &(1 | size << 3).to_le_bytes()[..3], &vec![0; size as usize]].concat();
        assert!(read(&too_large).is_err(), "a block of more than 128 KiB");
        // The first block decides: a frame of the library's that begins alike is read by the library.
        let mut theirs = RAW_FRAME.to_vec();
        theirs.extend([0x43, 0x01, 0, b'x']);
        assert_eq!(read(&theirs).expect("a block of one byte, 40 times"), [b'x'; 40]);
        let mut skipped = vec![0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        skipped.extend(&file);
        assert_eq!(read(&skipped).expect("a frame to be skipped").len(), 201_000);
    }
}

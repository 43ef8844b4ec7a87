//! The zstd frames of a volume (RFC 8878). Any number of them behind each other is one zstd file.

use std::io::{self, Write};

use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

/// The zstd level of what is not compressed yet.
const LEVEL: i32 = 3;
/// The largest block of a frame, in bytes.
const BLOCK: u64 = 128 << 10;

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
        Ok(Self { encoder, open: false, raw: (0, 0), buffer: vec![0; BLOCK as usize], out })
    }

    /// The next so many bytes go into a frame of their own as they are.
    pub(crate) fn begin_raw(&mut self, bytes: u64) -> io::Result<()> {
        self.end_frame()?;
        // Section 3.1.1: the magic number; a frame header without content size or checksum; a window of 128 KiB.
        self.out.write_all(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 7 << 3])?;
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
        }
        let mut frames = FrameWriter::new(Vec::new()).expect("an encoder");
        frames.begin_raw(10).and_then(|()| frames.write_all(&[1; 9])).expect("written");
        assert!(frames.finish().is_err(), "a byte is missing");
    }
}

//! The arithmetic: rows of output, each a sum of all inputs times factors in GF(2^16).
//!
//! Slices are worked on in stripes: the same bytes of every slice at a time. So memory is bounded, whatever the volume's
//! size, and every input is read once.

use std::io;

use rust_par2::gf_simd::mul_add_multi;

use super::ReadAt;

/// Bytes of all buffers together.
const MEMORY: usize = 52 << 20;
/// Inputs that are read and worked on together.
const GROUP: usize = 16;
/// Bytes of each input worked on at a time: a group of them stays in the processor's cache.
const COLUMN: usize = 32 << 10;

/// One input: a slice of a file. Where it is shorter than a slice, zeros follow.
pub(super) struct Input<'a> {
    pub(super) file: &'a dyn ReadAt,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Why mixing stopped.
pub(super) enum MixError<E> {
    /// The input of this number cannot be read.
    Read(usize, io::Error),
    /// A thread cannot be started.
    Thread(io::Error),
    /// From `sink`.
    Sink(E),
}

/// Gives `sink` every row's bytes, in rising order: number of the row, offset within the slice, bytes. `rows` has a factor
/// for every input. `progress` is told how many bytes were read.
pub(super) fn mix<E>(
    inputs: &[Input<'_>],
    rows: &[Vec<u16>],
    slice: u64,
    jobs: usize,
    mut sink: impl FnMut(usize, u64, &[u8]) -> Result<(), E>,
    mut progress: impl FnMut(u64),
) -> Result<(), MixError<E>> {
    let stripe = stripe(rows.len(), slice);
    let part = rows.len().div_ceil(jobs.max(1)).max(1);
    let mut sums = vec![0; rows.len() * stripe];
    let (mut now, mut next) = (vec![0; GROUP * stripe], vec![0; GROUP * stripe]);
    for at in (0..slice).step_by(stripe) {
        let length = stripe.min((slice - at).try_into().unwrap_or(stripe));
        sums.fill(0);
        let mut ready = read_group(inputs, 0, at, length, &mut now).map_err(|(n, e)| MixError::Read(n, e))?;
        for first in (0..inputs.len()).step_by(GROUP) {
            let count = GROUP.min(inputs.len() - first);
            let sources: Vec<&[u8]> = now.chunks_exact(length).take(count).collect();
            progress(ready);
            ready = std::thread::scope(|scope| {
                for (sums, rows) in sums.chunks_mut(part * stripe).zip(rows.chunks(part)) {
                    let sources = &sources;
                    std::thread::Builder::new()
                        .spawn_scoped(scope, move || add(sums, stripe, sources, rows, first))
                        .map_err(MixError::Thread)?;
                }
                read_group(inputs, first + GROUP, at, length, &mut next).map_err(|(n, e)| MixError::Read(n, e))
            })?;
            std::mem::swap(&mut now, &mut next);
        }
        for (number, sum) in sums.chunks_exact(stripe).enumerate() {
            sink(number, at, &sum[..length]).map_err(MixError::Sink)?;
        }
    }
    Ok(())
}

/// Bytes of a stripe for so many rows.
fn stripe(rows: usize, slice: u64) -> usize {
    let fits = (MEMORY / (rows + 2 * GROUP) / 4096 * 4096).max(4096);
    fits.min(slice.try_into().unwrap_or(fits))
}

/// Reads these bytes of the next inputs, one after the other, and says how many there were.
fn read_group(
    inputs: &[Input<'_>],
    first: usize,
    at: u64,
    length: usize,
    buffer: &mut [u8],
) -> Result<u64, (usize, io::Error)> {
    let mut read = 0;
    for ((number, input), target) in
        inputs.iter().enumerate().skip(first).zip(buffer.chunks_exact_mut(length)).take(GROUP)
    {
        let there = input.length.saturating_sub(at).min(length as u64);
        let (head, tail) = target.split_at_mut(there as usize);
        input.file.fill_at(head, input.offset + at).map_err(|e| (number, e))?;
        tail.fill(0);
        read += there;
    }
    Ok(read)
}

/// Adds sources, which begin with the input of number `first`, to some rows.
fn add(sums: &mut [u8], stripe: usize, sources: &[&[u8]], rows: &[Vec<u16>], first: usize) {
    let length = sources.first().map_or(0, |s| s.len());
    for column in (0..length).step_by(COLUMN) {
        let end = length.min(column + COLUMN);
        let sources: Vec<&[u8]> = sources.iter().map(|s| &s[column..end]).collect();
        for (sum, factors) in sums.chunks_exact_mut(stripe).zip(rows) {
            mul_add_multi(&mut sum[column..end], &sources, &factors[first..first + sources.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use rust_par2::gf;

    use super::*;

    struct Bytes(Vec<u8>);

    impl ReadAt for Bytes {
        fn fill_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            let from = self.0.get(offset as usize..).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(from.get(..buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }
    }

    #[test]
    fn every_row_is_the_sum_it_should_be() {
        let slice = 4096 * 700 + 36;
        let bytes = Bytes((0..slice * 3 - 50).map(|i| (i * 31 + i / 977) as u8).collect());
        let input = |n: usize| Input {
            file: &bytes,
            offset: (n * slice) as u64,
            length: (bytes.0.len() - n * slice).min(slice) as u64,
        };
        let inputs: Vec<_> = (0..3).map(input).collect();
        let rows: Vec<Vec<u16>> = vec![vec![1, 0, 3], vec![7, 65535, 258], vec![0, 0, 0]];
        for jobs in [1, 2, 8] {
            let (mut out, mut read) = (vec![Vec::new(); 3], 0);
            let sink = |row: usize, at: u64, sum: &[u8]| -> Result<(), ()> {
                assert_eq!(out[row].len() as u64, at);
                out[row].extend_from_slice(sum);
                Ok(())
            };
            assert!(mix(&inputs, &rows, slice as u64, jobs, sink, |n| read += n).is_ok());
            assert_eq!(read as usize, bytes.0.len());
            let word = |n: usize, i: usize| {
                let at = |i: usize| if i < slice { bytes.0.get(n * slice + i).copied().unwrap_or(0) } else { 0 };
                u16::from_le_bytes([at(i), at(i + 1)])
            };
            for (row, out) in rows.iter().zip(&out) {
                assert_eq!(out.len(), slice);
                for i in (0..slice).step_by(2) {
                    let sum = (0..3).fold(0, |sum, n| sum ^ gf::mul(row[n], word(n, i)));
                    assert_eq!(out[i..i + 2], sum.to_le_bytes(), "{i}");
                }
            }
        }
    }

    #[test]
    fn buffers_stay_within_the_memory_set_aside() {
        for rows in [1, 2, 100, 200, 2000, 2048] {
            for slice in [4, 16 << 10, 1 << 20, 1 << 40] {
                let stripe = stripe(rows, slice);
                assert!(stripe > 0 && stripe as u64 <= slice);
                assert!(stripe * (rows + 2 * GROUP) <= MEMORY, "{rows} {slice}");
            }
        }
    }
}

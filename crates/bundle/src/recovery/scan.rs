//! Packets found in files that nobody vouches for.
//!
//! A packet counts if its own hash is right, and if what it says fits the file that it is in. Wherever a packet is damaged,
//! the search goes on behind its first bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use md5::{Digest as _, Md5};

use super::packets::{BLOCK, BLOCK_HEADER, CHECKS, Check, FILE, HASHED, HEADER, Hash, MAGIC, MAIN, file_id, md5};
use super::{CHUNK, MAX_SLICES, ReadAt};

/// Packets other than recovery blocks are not larger, in bytes.
const SMALL: u64 = 64 << 10;
/// Sets that the recovery files of one volume may speak of.
const MAX_SETS: usize = 16;
/// Recovery blocks there may be: PAR2 has as many exponents.
const MAX_BLOCKS: usize = 65535;
/// How often, in sizes of the file, the work on failed packets may go over it. Honest damage needs one.
const MAX_WASTE: u64 = 4;
/// Bytes that are given up around a failed read.
const SECTOR: u64 = 4096;
/// Failed reads after which the rest of a file is given up.
const MAX_FAILURES: u32 = 256;

/// A recovery block whose packet is intact.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    /// The number of the file that it is in.
    pub(super) file: usize,
    /// Where in it the data begins.
    pub(super) offset: u64,
    pub(super) exponent: u32,
}

/// A set that describes the volume.
pub(super) struct Set {
    /// Bytes of a slice.
    pub(super) slice: u64,
    /// Bytes of the volume.
    pub(super) size: u64,
    /// For each slice.
    pub(super) checks: Vec<Check>,
    /// No two of the same exponent.
    pub(super) blocks: Vec<Block>,
}

impl Set {
    /// The bytes of a slice, without the zeros that fill up the last.
    pub(super) fn length_of(&self, slice: usize) -> u64 {
        self.slice.min(self.size - slice as u64 * self.slice)
    }
}

/// All intact packets about one volume. Of packets that say different things, the first counts.
#[derive(Default)]
pub(super) struct Found {
    /// Of each set, in the order found: its id, the size of slices and the file.
    mains: Vec<(Hash, u64, Hash)>,
    /// Of each set and file its size.
    sizes: BTreeMap<(Hash, Hash), u64>,
    /// Of each set and file.
    checks: BTreeMap<(Hash, Hash), Vec<Check>>,
    /// With their set and the bytes of their data.
    blocks: Vec<(Hash, u64, Block)>,
}

impl Found {
    /// The first set that describes the volume.
    pub(super) fn into_set(mut self) -> Option<Set> {
        for (id, slice, file) in self.mains {
            let key = (id, file);
            let (Some(&size), Some(checks)) = (self.sizes.get(&key), self.checks.remove(&key)) else { continue };
            // Zeros that fill up the last slice are hashed: no more of them than the volume has bytes, or a few.
            if size.div_ceil(slice) != checks.len() as u64 || slice > size.saturating_add(CHUNK as u64) {
                continue;
            }
            let mut exponents = BTreeSet::new();
            let fits = |(set, length, block): &(Hash, u64, Block)| {
                (*set == id && *length == slice && exponents.insert(block.exponent)).then_some(*block)
            };
            let blocks = self.blocks.iter().filter_map(fits).collect();
            return Some(Set { slice, size, checks, blocks });
        }
        None
    }

    /// Takes note of an intact packet that is not a recovery block.
    fn note(&mut self, volume: &str, set: Hash, kind: &Hash, body: &[u8]) {
        if kind == MAIN {
            if let Some((slice, file)) = parse_main(body)
                && md5(body) == set
                && self.mains.len() < MAX_SETS
                && self.mains.iter().all(|(known, ..)| *known != set)
            {
                self.mains.push((set, slice, file));
            }
        } else if kind == FILE {
            if let Some((file, size)) = parse_file(body, volume)
                && self.sizes.len() < MAX_SETS
            {
                self.sizes.entry((set, file)).or_insert(size);
            }
        } else if kind == CHECKS
            && let Some((file, checks)) = parse_checks(body)
            && self.checks.len() < MAX_SETS
        {
            self.checks.entry((set, file)).or_insert(checks);
        }
    }
}

/// The size of slices and the file, if it is the only one of the set.
fn parse_main(body: &[u8]) -> Option<(u64, Hash)> {
    let (slice, body) = body.split_first_chunk()?;
    let (files, body) = body.split_first_chunk()?;
    let slice = u64::from_le_bytes(*slice);
    (u32::from_le_bytes(*files) == 1 && slice > 0 && slice.is_multiple_of(4)).then_some((slice, body.try_into().ok()?))
}

/// The file's id and size, if it has the volume's name.
fn parse_file(body: &[u8], volume: &str) -> Option<(Hash, u64)> {
    let (file, body) = body.split_first_chunk()?;
    let (_whole, body) = body.split_first_chunk::<16>()?;
    let (beginning, body) = body.split_first_chunk()?;
    let (size, name) = body.split_first_chunk()?;
    let size = u64::from_le_bytes(*size);
    let end = name.iter().rposition(|b| *b != 0)? + 1;
    (&name[..end] == volume.as_bytes() && file_id(beginning, size, &name[..end]) == *file).then_some((*file, size))
}

fn parse_checks(body: &[u8]) -> Option<(Hash, Vec<Check>)> {
    let (file, sums) = body.split_first_chunk()?;
    let (sums, rest) = sums.as_chunks::<20>();
    if !rest.is_empty() || sums.is_empty() || sums.len() > MAX_SLICES {
        return None;
    }
    let check = |sum: &[u8; 20]| {
        let (md5, crc) = sum.split_first_chunk()?;
        Some(Check { md5: *md5, crc: u32::from_le_bytes(crc.try_into().ok()?) })
    };
    Some((*file, sums.iter().map(check).collect::<Option<_>>()?))
}

/// Looks for packets about a volume in one of its recovery files. `progress` is told how many bytes are done with.
pub(super) fn scan(
    file: &dyn ReadAt,
    size: u64,
    number: usize,
    volume: &str,
    found: &mut Found,
    mut progress: impl FnMut(u64),
) {
    let mut reader = Reader { file, size, window: Vec::new(), start: 0, careful: 0, failures: 0 };
    let (mut at, mut wasted) = (0, 0u64);
    while let Some(start) = reader.next_magic(at) {
        let end = match reader.packet(start, number, volume, found) {
            Ok(end) => end,
            Err(waste) => {
                wasted = wasted.saturating_add(waste.max(SECTOR));
                start + MAGIC.len() as u64
            }
        };
        progress(end - at);
        at = end;
        if wasted / MAX_WASTE > size + SECTOR {
            break;
        }
    }
    progress(size.saturating_sub(at));
}

struct Reader<'a> {
    file: &'a dyn ReadAt,
    size: u64,
    /// Bytes read ahead, while packets do not stand one behind the other.
    window: Vec<u8>,
    /// Where they begin.
    start: u64,
    /// Up to here, sectors are read one by one.
    careful: u64,
    failures: u32,
}

impl Reader<'_> {
    /// Where the next packet may begin.
    fn next_magic(&mut self, mut at: u64) -> Option<u64> {
        let mut magic = [0; MAGIC.len()];
        if self.file.fill_at(&mut magic, at).is_ok() && magic == *MAGIC {
            return Some(at);
        }
        while self.size.saturating_sub(at) >= HEADER as u64 {
            let end = self.start + self.window.len() as u64;
            if !(self.start..end.saturating_sub(MAGIC.len() as u64 - 1)).contains(&at) {
                at = self.fill(at)?;
            }
            let ahead = &self.window[(at - self.start) as usize..];
            match ahead.windows(MAGIC.len()).position(|w| w == MAGIC) {
                Some(n) => return Some(at + n as u64),
                None => at += ahead.len() as u64 - (MAGIC.len() as u64 - 1),
            }
        }
        None
    }

    /// Reads ahead from here, or from behind the sectors that cannot be read.
    fn fill(&mut self, mut at: u64) -> Option<u64> {
        while self.size.saturating_sub(at) >= HEADER as u64 && self.failures < MAX_FAILURES {
            let sector = (at + MAGIC.len() as u64).next_multiple_of(SECTOR).min(self.size);
            let end = if at < self.careful { sector } else { self.size.min(at + CHUNK as u64) };
            self.window.resize((end - at) as usize, 0);
            match self.file.fill_at(&mut self.window, at) {
                Ok(()) => {
                    self.start = at;
                    return Some(at);
                }
                Err(_) if at < self.careful => at = sector,
                Err(_) => self.careful = end,
            }
            self.failures += 1;
        }
        None
    }

    /// Takes note of the packet that begins here, and gives its end. If it is not intact: how many bytes were looked at.
    fn packet(&self, at: u64, number: usize, volume: &str, found: &mut Found) -> Result<u64, u64> {
        let mut header = [0; HEADER];
        self.file.fill_at(&mut header, at).map_err(|_| 0u64)?;
        let (head, set_and_kind) = header.split_at(HASHED);
        let (set, kind): (Hash, Hash) = (part(set_and_kind, 0), part(set_and_kind, 16));
        let length = u64::from_le_bytes(part(head, 8));
        let hash: Hash = part(head, 16);
        if length < HEADER as u64 || !length.is_multiple_of(4) || length > self.size.saturating_sub(at) {
            return Err(0);
        }
        if kind == *BLOCK {
            let mut exponent = [0; 4];
            if length <= BLOCK_HEADER || self.file.fill_at(&mut exponent, at + HEADER as u64).is_err() {
                return Err(0);
            }
            if !self.hash(at + HASHED as u64, at + length).is_ok_and(|found| found == hash) {
                return Err(length);
            }
            let exponent = u32::from_le_bytes(exponent);
            if found.blocks.len() < MAX_BLOCKS && exponent < MAX_BLOCKS as u32 {
                let block = Block { file: number, offset: at + BLOCK_HEADER, exponent };
                found.blocks.push((set, length - BLOCK_HEADER, block));
            }
            return Ok(at + length);
        }
        if length > SMALL {
            return Err(0);
        }
        let mut hashed = vec![0; length as usize - HASHED];
        self.file.fill_at(&mut hashed, at + HASHED as u64).map_err(|_| length)?;
        if md5(&hashed) != hash {
            return Err(length);
        }
        found.note(volume, set, &kind, &hashed[HEADER - HASHED..]);
        Ok(at + length)
    }

    fn hash(&self, mut at: u64, end: u64) -> io::Result<Hash> {
        let mut hasher = Md5::new();
        let mut buffer = vec![0; (end - at).min(CHUNK as u64) as usize];
        while at < end {
            let n = (end - at).min(CHUNK as u64);
            let part = &mut buffer[..n as usize];
            self.file.fill_at(part, at)?;
            hasher.update(part);
            at += n;
        }
        Ok(hasher.finalize().into())
    }
}

/// A field of a header.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::recovery::packets::{NewBlock, NewSet};

    const NAME: &str = "a-1.0001.tar.zst.age";

    /// A file whose sectors may fail, and that counts what is read.
    #[derive(Default)]
    struct Medium {
        bytes: Vec<u8>,
        bad: BTreeSet<u64>,
        read: AtomicU64,
        failed: AtomicU64,
    }

    impl ReadAt for Medium {
        fn fill_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            let sectors = offset / SECTOR..=(offset + (buffer.len() as u64).max(1) - 1) / SECTOR;
            if self.bad.range(sectors).next().is_some() {
                self.failed.fetch_add(1, Ordering::Relaxed);
                return Err(io::Error::other("a bad sector"));
            }
            let from = self.bytes.get(offset as usize..).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(from.get(..buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
            self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
            Ok(())
        }
    }

    impl Medium {
        fn scan(&self) -> (Found, u64) {
            let (mut found, mut told) = (Found::default(), 0);
            scan(self, self.bytes.len() as u64, 0, NAME, &mut found, |n| told += n);
            (found, told)
        }
    }

    /// A description, and so many blocks of 16 KiB.
    fn recovery(blocks: u32) -> Vec<u8> {
        let set = NewSet::new(&[0; 16], 100_000, NAME, 16 << 10);
        let mut bytes = set.description(&[0; 16], &[Check { md5: [0; 16], crc: 0 }; 7]);
        for exponent in 0..blocks {
            let data: Vec<u8> = (0..16u32 << 10).map(|i| (i ^ exponent) as u8).collect();
            let mut block = NewBlock::new(set.id, exponent);
            block.update(&data);
            bytes.extend(block.finish());
            bytes.extend(data);
        }
        bytes
    }

    #[test]
    fn bad_sectors_take_the_packets_that_they_are_in() {
        let bytes = recovery(200);
        let sectors = bytes.len() as u64 / SECTOR;
        for bad in [vec![100], vec![3, 4, 5, 100, 101, 700], vec![sectors], (1..sectors).step_by(40).collect()] {
            // A copy of the description behind all else: the first may be lost.
            let bytes = [&bytes[..], &recovery(0)].concat();
            let packet = |sector: u64| (sector * SECTOR - 700) / ((16 << 10) + BLOCK_HEADER);
            let lost = bad.iter().flat_map(|s| [packet(*s), packet(*s + 1)]).collect::<BTreeSet<_>>().len();
            let medium = Medium { bytes, bad: bad.into_iter().collect(), ..Medium::default() };
            let (found, told) = medium.scan();
            assert_eq!(told, medium.bytes.len() as u64);
            let kept = found.into_set().expect("a set").blocks.len();
            assert!((200 - lost..200).contains(&kept), "{kept} kept, {lost} lost");
        }
    }

    #[test]
    fn a_dead_medium_is_given_up() {
        let bytes = recovery(2000);
        let bad = (1..=bytes.len() as u64 / SECTOR).collect();
        let medium = Medium { bytes, bad, ..Medium::default() };
        assert_eq!(medium.scan().1, medium.bytes.len() as u64);
        assert!(medium.failed.into_inner() <= 2 * u64::from(MAX_FAILURES));
    }

    #[test]
    fn honest_files_are_read_once_and_hostile_ones_a_few_times() {
        let honest = Medium { bytes: recovery(100), ..Medium::default() };
        assert_eq!(honest.scan().0.into_set().expect("a set").blocks.len(), 100);
        assert!(honest.read.into_inner() <= honest.bytes.len() as u64 + 200 * 100);
        // Headers within headers, each of a packet that goes on for a megabyte, as a block and as something else.
        for (kind, length) in [(BLOCK, 1 << 20), (CHECKS, 60 << 10)] {
            let header = [&MAGIC[..], &u64::to_le_bytes(length), &[1; 32], kind].concat();
            let medium = Medium { bytes: header.repeat(32 << 10), ..Medium::default() };
            let (_, told) = medium.scan();
            assert_eq!(told, medium.bytes.len() as u64);
            assert!(medium.read.into_inner() <= 8 * medium.bytes.len() as u64);
        }
    }

    #[test]
    fn of_many_sets_only_some_are_kept() {
        let mut bytes = Vec::new();
        for size in 1..100 {
            let set = NewSet::new(&[0; 16], size, NAME, 4 * size);
            bytes.extend(set.description(&[0; 16], &[Check { md5: [0; 16], crc: 0 }]));
        }
        let found = Medium { bytes, ..Medium::default() }.scan().0;
        assert_eq!([found.mains.len(), found.sizes.len(), found.checks.len()], [MAX_SETS; 3]);
    }
}

//! How much recovery data a volume gets, and in which files.

use std::ops::Range;

use super::RecoveryError;
use super::packets::{self, BLOCK_HEADER};

/// Slices of a volume at most: the cost of a share grows with their number, what one bad sector costs shrinks with it.
const SLICES: u64 = 1000;
/// The smallest slice in bytes.
const MIN_SLICE: u64 = 16 << 10;
/// Slices are multiples of this, so that a bad sector never lies in two of them.
const SECTOR: u64 = 4096;
/// Recovery blocks between two copies of the description within one file.
const INTERVAL: u64 = 32;
/// Bytes of the longest file name.
const LONGEST_NAME: usize = 255;

/// How much of a volume can be mended, in percent: 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u8);

impl Share {
    /// All of it: a volume that is missing can be made again.
    pub const ALL: Self = Self(100);

    /// A share in percent; `None` unless it is 1 to 100.
    pub fn percent(percent: u8) -> Option<Self> {
        (1..=100).contains(&percent).then_some(Self(percent))
    }

    fn blocks(self, slices: u64) -> u64 {
        (slices * u64::from(self.0)).div_ceil(100)
    }
}

/// What recovery data may take at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Bytes of all recovery files of one volume.
    pub bytes: u64,
    /// Their number.
    pub files: u64,
}

/// The most that recovery data takes for one volume of at most this size. It never falls when size or share rise.
///
/// # Errors
/// [`RecoveryError::MaxFile`] if files may not be large enough for one recovery block.
pub fn bound(volume_size: u64, share: Share, max_file: u64) -> Result<Bound, RecoveryError> {
    let slice = slice_size(volume_size);
    let blocks = share.blocks(volume_size.div_ceil(MIN_SLICE).min(SLICES));
    let description = packets::description_size(LONGEST_NAME, SLICES.min(volume_size.div_ceil(MIN_SLICE)));
    let files = blocks.div_ceil(blocks_per_file(slice, description, max_file)?);
    // In each file one copy ends it, and one may stand before less than a whole interval.
    let copies = blocks / INTERVAL + 2 * files;
    let bytes = blocks.saturating_mul(slice + BLOCK_HEADER).saturating_add(copies * description);
    Ok(Bound { bytes, files })
}

fn slice_size(volume_size: u64) -> u64 {
    volume_size.div_ceil(SLICES).div_ceil(SECTOR).saturating_mul(SECTOR).max(MIN_SLICE)
}

fn file_size(blocks: u64, slice: u64, description: u64) -> u64 {
    ((blocks.div_ceil(INTERVAL) + 1) * description).saturating_add(blocks.saturating_mul(slice + BLOCK_HEADER))
}

fn blocks_per_file(slice: u64, description: u64, max_file: u64) -> Result<u64, RecoveryError> {
    let needed = file_size(1, slice, description);
    if needed > max_file {
        return Err(RecoveryError::MaxFile { needed, limit: max_file });
    }
    Ok((1..=SLICES).take_while(|blocks| file_size(*blocks, slice, description) <= max_file).last().unwrap_or(1))
}

/// The slices and recovery files of one volume.
pub(super) struct Layout {
    /// Bytes of a slice.
    pub(super) slice: u64,
    /// The recovery blocks of each file.
    pub(super) files: Vec<Range<usize>>,
    /// Bytes of one copy of the description.
    description: u64,
}

impl Layout {
    /// For a volume that is not empty, and whose file name has so many bytes.
    pub(super) fn new(volume_size: u64, name: usize, share: Share, max_file: u64) -> Result<Self, RecoveryError> {
        let slice = slice_size(volume_size);
        let slices = volume_size.div_ceil(slice);
        let blocks = share.blocks(slices);
        let description = packets::description_size(name, slices);
        let files = blocks.div_ceil(blocks_per_file(slice, description, max_file)?);
        let (blocks, per_file) = (blocks as usize, blocks.div_ceil(files) as usize);
        let files = (0..blocks).step_by(per_file).map(|first| first..blocks.min(first + per_file)).collect();
        Ok(Self { slice, files, description })
    }

    /// Recovery blocks in all files.
    pub(super) fn blocks(&self) -> usize {
        self.files.last().map_or(0, |last| last.end)
    }

    /// The name of a recovery file: `par2` finds all that begin like the one it is given.
    pub(super) fn file_name(&self, stem: &str, blocks: &Range<usize>) -> String {
        let digits = self.blocks().to_string().len().max(3);
        format!("{stem}.vol{:0digits$}+{:0digits$}.par2", blocks.start, blocks.len())
    }

    /// Where the packet of the n-th block of a file begins.
    pub(super) fn block_offset(&self, n: usize) -> u64 {
        let n = n as u64;
        (n / INTERVAL + 1) * self.description + n * (self.slice + BLOCK_HEADER)
    }

    /// Where the copies of the description stand in a file of so many blocks.
    pub(super) fn description_offsets(&self, blocks: usize) -> impl Iterator<Item = u64> {
        let before = (0..blocks).step_by(INTERVAL as usize).map(|n| self.block_offset(n) - self.description);
        before.chain([file_size(blocks as u64, self.slice, self.description) - self.description])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [u64; 14] = [
        1,
        4095,
        16 << 10,
        (16 << 10) + 1,
        32_768_000,
        32_768_001,
        (32 << 20) - 5,
        (64 << 20) + 7,
        1 << 30,
        4_290_000_000,
        u32::MAX as u64,
        100 << 30,
        (4 << 40) + 9,
        1 << 43,
    ];

    #[test]
    fn no_layout_is_larger_than_its_bound() {
        for share in [1, 7, 10, 33, 99, 100].map(|p| Share::percent(p).expect("a share")) {
            let mut last = Bound { bytes: 0, files: 0 };
            for size in SIZES {
                // The largest of these slices alone fills four gigabytes.
                let max_file = if size < 4 << 40 { super::super::FAT32_FILE } else { u64::MAX };
                let bound = bound(size, share, max_file).expect("a bound");
                assert!(bound.bytes >= last.bytes, "{size} {share:?}");
                assert!(max_file == u64::MAX || bound.files >= last.files, "{size} {share:?}");
                last = bound;
                let layout = Layout::new(size, 40, share, max_file).expect("a layout");
                let file = |blocks: &Range<usize>| file_size(blocks.len() as u64, layout.slice, layout.description);
                let slices = size.div_ceil(layout.slice);
                assert!(slices <= SLICES);
                assert!(layout.files.iter().map(file).all(|f| f <= max_file));
                assert!(layout.files.iter().map(file).sum::<u64>() <= bound.bytes, "{size} {share:?}");
                assert!(layout.files.len() as u64 <= bound.files, "{size} {share:?}");
                assert_eq!(layout.blocks() as u64, share.blocks(slices));
            }
        }
    }

    #[test]
    fn a_limit_below_one_block_is_an_error() {
        let share = Share::percent(10).expect("a share");
        assert!(matches!(
            bound(1 << 30, share, 4096),
            Err(RecoveryError::MaxFile { needed: 1_077_248.., limit: 4096 })
        ));
        assert!(Share::percent(0).is_none() && Share::percent(101).is_none());
    }

    #[test]
    fn files_are_split_evenly_and_named_alike() {
        let layout = Layout::new(1 << 30, 30, Share::percent(100).expect("a share"), 300 << 20).expect("a layout");
        let names: Vec<_> = layout.files.iter().map(|f| layout.file_name("a-1.0001", f)).collect();
        assert_eq!(names.first().map(String::as_str), Some("a-1.0001.vol000+250.par2"));
        assert_eq!(layout.blocks(), 997);
    }
}

//! Recovery data of volumes, as far as planning needs it.

use crate::media::{Share, VolumeSize};

/// The bound of the recovery data of a volume of at most so many bytes, in bytes.
pub fn bound(volume: u64, share: Share, _largest_file: VolumeSize) -> u64 {
    volume / 100 * u64::from(share.0) + (volume / 50) + (1 << 20)
}

/// Not there yet.
pub fn create(
    _volume: &std::path::Path,
    _share: Share,
    _largest_file: VolumeSize,
    _progress: &console::Progress,
) -> Result<Vec<bundle::SealedFile>, crate::Error> {
    Ok(Vec::new())
}

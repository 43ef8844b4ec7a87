//! Recovery data of volumes: how much it can be, and making it.

use std::fs::File;
use std::path::Path;

use bundle::SealedFile;
use bundle::recovery::{self, Options};
use console::Progress;

use crate::error::Error;
use crate::media::{Share, VolumeSize};

/// The bound of the recovery data of a volume of at most so many bytes: bytes, and number of files.
pub fn bound(volume: u64, share: Share, largest_file: VolumeSize) -> (u64, u64) {
    // Where the files may not be large enough for a single block, nothing fits.
    match recovery::bound(volume, share.of_volume(), largest_file.bytes()) {
        Ok(bound) => (bound.bytes, bound.files),
        Err(_) => (u64::MAX, 1),
    }
}

/// Makes the recovery data of a finished volume, beside it.
///
/// # Errors
/// [`Error::MakeRecovery`].
pub fn create(
    volume: &Path,
    share: Share,
    largest_file: VolumeSize,
    progress: &Progress,
) -> Result<Vec<SealedFile>, Error> {
    let fail = |source| Error::MakeRecovery { path: volume.into(), source };
    let file = File::open(volume).map_err(|source| Error::Output { path: volume.into(), source })?;
    let folder = volume.parent().unwrap_or(Path::new("."));
    let name = volume.file_name().unwrap_or_default().to_string_lossy();
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let options = Options { share: share.of_volume(), max_file: largest_file.bytes(), jobs };
    progress.say(format_args!("making recovery data of {name}"));
    let files = recovery::create(&file, &name, folder, options, |_| ()).map_err(fail)?;
    Ok(files.into_iter().map(|file| SealedFile { name: file.name, digest: file.digest }).collect())
}

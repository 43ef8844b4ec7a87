//! Files that are written past the page cache.
//!
//! A bundle is written once and not read soon. Through the cache it would be copied once more, push out what else the machine
//! remembers, and be on the medium only long after the progress display said so.

use std::fs::File;
use std::io::{self, Write};

use blobs::pipe::ALIGNMENT;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::volume::Output;

/// A new file that is written from its beginning to its end, past the page cache as long as what is written begins and ends at a
/// sector, in memory and in the file. What does not, and all that follows, goes through the cache; so does everything where
/// the file system knows no other way.
pub struct DirectFile {
    file: File,
    direct: bool,
}

impl DirectFile {
    /// Takes an empty file.
    pub fn new(file: File) -> Self {
        let mut file = Self { file, direct: false };
        file.direct = file.set_direct(true).is_ok();
        file
    }

    fn set_direct(&self, direct: bool) -> rustix::io::Result<()> {
        let mut flags = fcntl_getfl(&self.file)?;
        flags.set(OFlags::DIRECT, direct);
        fcntl_setfl(&self.file, flags)
    }

    fn through_the_cache(&mut self) -> io::Result<()> {
        self.direct = false;
        Ok(self.set_direct(false)?)
    }
}

impl Write for DirectFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let is_aligned = bytes.len().is_multiple_of(ALIGNMENT) && bytes.as_ptr().align_offset(ALIGNMENT) == 0;
        if self.direct && !is_aligned {
            self.through_the_cache()?;
        }
        match self.file.write(bytes) {
            // The file system takes the flag, and not what comes of it.
            Err(e) if self.direct && e.kind() == io::ErrorKind::InvalidInput => {
                self.through_the_cache()?;
                self.file.write(bytes)
            }
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for DirectFile {
    fn settle(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blobs::pipe::Pool;

    const BLOCK: usize = 16 * ALIGNMENT;

    #[test]
    fn every_size_is_written_on_any_file_system() {
        let content: Vec<u8> = (0..3 * BLOCK as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let pool = Pool::new(BLOCK, 1);
        for folder in [tempfile::tempdir_in("/var/tmp"), tempfile::tempdir_in("/dev/shm")] {
            let path = folder.as_ref().expect("a folder").path().join("file");
            for size in [0, 1, 511, ALIGNMENT, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 7] {
                let mut file = DirectFile::new(File::create(&path).expect("created"));
                for piece in content[..size].chunks(BLOCK) {
                    let mut block = pool.take();
                    block.put(piece);
                    file.write_all(&block).expect("written");
                }
                file.settle().expect("settled");
                assert!(std::fs::read(&path).expect("read") == content[..size], "{size} in {}", path.display());
            }
            // From memory that is not aligned.
            let mut file = DirectFile::new(File::create(&path).expect("created"));
            content[1..].chunks(ALIGNMENT).for_each(|piece| file.write_all(piece).expect("written"));
            file.settle().expect("settled");
            assert!(std::fs::read(&path).expect("read") == content[1..]);
        }
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let full = File::options().write(true).open("/dev/full").expect("Linux has it");
        let mut block = Pool::new(BLOCK, 1).take();
        block.put(&[0; BLOCK]);
        assert_eq!(DirectFile::new(full).write_all(&block).expect_err("full").kind(), io::ErrorKind::StorageFull);
    }
}

//! Files that are added to a folder on a medium: whole or not at all, never over something that is there.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Access, AtFlags, Mode, OFlags, accessat, mkdirat, openat};
use rustix::io::Errno;

use crate::folder::{Folder, FolderError, rename_absent};

impl Folder {
    /// Makes a folder in the folder, unless there is one, and opens it without following a link.
    ///
    /// # Errors
    /// If it cannot be made, or is something else.
    pub fn make_folder(&self, name: &str) -> io::Result<Self> {
        match mkdirat(self.dir(), name, Mode::from_raw_mode(0o777)) {
            Ok(()) => self.dir().sync_all()?,
            Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        self.folder(name).map_err(|e| match e {
            FolderError::Read { source, .. } => source,
            other => io::Error::other(other),
        })
    }

    /// Whether files can be added.
    ///
    /// # Errors
    /// Why not.
    pub fn writable(&self) -> io::Result<()> {
        Ok(accessat(self.dir(), ".", Access::WRITE_OK, AtFlags::empty())?)
    }

    /// Writes a new file and waits until it is on the medium.
    ///
    /// # Errors
    /// `AlreadyExists` if there is something of that name; any other I/O error. Nothing is left behind then.
    pub fn write_new(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!(".{name}.{}", std::process::id());
        let written = self.write_and_rename(&temporary, name, bytes);
        if written.is_err() {
            let _ = self.remove_file(&temporary);
        }
        written?;
        self.dir().sync_all()
    }

    fn write_and_rename(&self, temporary: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(self.dir(), temporary, flags, Mode::from_raw_mode(0o644))?);
        file.write_all(bytes)?;
        file.sync_all()?;
        rename_absent(self.dir().as_fd(), Path::new(temporary), Path::new(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_overwritten_or_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(dir.path()).expect("open");
        folder.write_new("a", b"1").expect("written");
        assert_eq!(folder.write_new("a", b"2").expect_err("taken").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(folder.read_file("a", 9).expect("read"), b"1");
        assert_eq!(folder.names().expect("names"), ["a"], "nothing is left behind");

        folder.make_folder("sub").expect("made").write_new("b", b"3").expect("written");
        folder.make_folder("sub").expect("it is there");
        std::os::unix::fs::symlink("sub", dir.path().join("link")).expect("linked");
        assert!(folder.make_folder("link").is_err());
        assert!(folder.make_folder("a").is_err());
        assert_eq!(folder.write_new("link", b"4").expect_err("taken").kind(), io::ErrorKind::AlreadyExists);
    }
}

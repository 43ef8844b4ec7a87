//! A folder on a medium, read without trust.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use blobs::Hasher;
use manifest_schema::{Algorithm, Digest, LIMITS, OutsideText};
use rustix::fs::{Mode, OFlags};
use walkdir::WalkDir;

use crate::names::{SEAL, is_volume_like, medium_name};

/// The folder, or something in it, is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Cannot be read.
    #[error("{}: cannot be read", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not there.
    #[error("{}: not found", .0.display())]
    Missing(PathBuf),
    /// Not a plain file.
    #[error("{}: `{}` is {kind}; a bundle has regular files only", .folder.display(), .name.escaped())]
    Special {
        /// The bundle's folder.
        folder: PathBuf,
        /// The entry.
        name: OutsideText,
        /// What it is.
        kind: &'static str,
    },
    /// Too many entries.
    #[error("{}: more than {limit} entries", .path.display())]
    TooMany {
        /// The bundle's folder.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// Larger than it may be.
    #[error("{}: more than {limit} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// A volume that the seal does not name.
    #[error("{}: volume `{}` is not in the seal", .folder.display(), .name.escaped())]
    Foreign {
        /// The bundle's folder.
        folder: PathBuf,
        /// The file.
        name: OutsideText,
    },
}

/// A bundle's folder, held open. Names are opened relative to it; nothing is followed.
pub struct Folder {
    path: PathBuf,
    dir: File,
}

impl Folder {
    /// Opens a folder. (The path itself may lead through links: the person named it.)
    ///
    /// # Errors
    /// [`FolderError::Missing`] or [`FolderError::Read`].
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { path: path.into(), dir: File::from(fd) }),
            Err(rustix::io::Errno::NOENT) => Err(FolderError::Missing(path.into())),
            Err(e) => Err(FolderError::Read { path: path.into(), source: e.into() }),
        }
    }

    /// The folder as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a regular file in the folder, without following a link and without waiting for a FIFO's other end.
    ///
    /// # Errors
    /// [`FolderError::Missing`], [`FolderError::Special`], [`FolderError::Read`].
    pub fn open_file(&self, name: &str) -> Result<File, FolderError> {
        let path = self.path.join(name);
        let special = |kind| FolderError::Special { folder: self.path.clone(), name: OutsideText::new(name), kind };
        if name.contains('/') || name == "." || name == ".." {
            return Err(FolderError::Missing(path));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.dir, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT) => return Err(FolderError::Missing(path)),
            Err(rustix::io::Errno::LOOP) => return Err(special("a symbolic link")),
            Err(rustix::io::Errno::NXIO) => return Err(special("a socket")),
            Err(e) => return Err(FolderError::Read { path, source: e.into() }),
        };
        let metadata = file.metadata().map_err(|source| FolderError::Read { path, source })?;
        if metadata.is_file() { Ok(file) } else { Err(special(kind_of(metadata.file_type()))) }
    }

    /// Creates a file of this name, and removes what had the name before.
    pub(crate) fn create_file(&self, name: &str) -> std::io::Result<File> {
        match self.remove_file(name) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.dir, name, flags, Mode::from_raw_mode(0o666))?))
    }

    /// Removes a file, or a link but not what it leads to.
    pub(crate) fn remove_file(&self, name: &str) -> std::io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.dir, name, rustix::fs::AtFlags::empty())?)
    }

    /// Gives a file the name of another, which it replaces, and waits until that is on the disk.
    pub(crate) fn replace_file(&self, from: &str, to: &str) -> std::io::Result<()> {
        rustix::fs::renameat(&self.dir, from, &self.dir, to)?;
        self.dir.sync_all()
    }

    /// Locks the folder against others that lock it; `false` if one has. Where there are no locks, all may go on.
    pub(crate) fn try_lock(&self) -> bool {
        !matches!(self.dir.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Gives up the lock.
    pub(crate) fn unlock(&self) {
        let _ = self.dir.unlock();
    }

    /// Reads a small file whole.
    ///
    /// # Errors
    /// As [`Folder::open_file`], and [`FolderError::TooLarge`].
    pub fn read_file(&self, name: &str, limit: u64) -> Result<Vec<u8>, FolderError> {
        let path = self.path.join(name);
        let mut bytes = Vec::new();
        self.open_file(name)?
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| FolderError::Read { path: path.clone(), source })?;
        if bytes.len() as u64 > limit { Err(FolderError::TooLarge { path, limit }) } else { Ok(bytes) }
    }

    /// The SHA-256 digest and the size in bytes of a file. `progress` is told how many bytes were read.
    ///
    /// # Errors
    /// As [`Folder::open_file`].
    pub fn digest_of(&self, name: &str, progress: impl FnMut(u64)) -> Result<(Digest, u64), FolderError> {
        let file = self.open_file(name)?;
        digest_of(file, progress).map_err(|source| FolderError::Read { path: self.path.join(name), source })
    }

    /// The bytes of those of the files that are there, for a progress display.
    pub fn sizes(&self, names: &[&str]) -> u64 {
        names.iter().filter_map(|name| self.open_file(name).ok()?.metadata().ok()).map(|m| m.len()).sum()
    }

    /// Looks at every entry of the folder: links and special files are refused, and so are volumes that `sealed` does
    /// not name. Returns the names of other files that the seal does not cover.
    ///
    /// # Errors
    /// [`FolderError::Special`], [`FolderError::Foreign`], [`FolderError::TooMany`], [`FolderError::Read`].
    pub fn survey(&self, sealed: &[&str]) -> Result<Vec<OutsideText>, FolderError> {
        let mut strangers = Vec::new();
        let entries = WalkDir::new(&self.path).min_depth(1).max_depth(1).follow_root_links(true).sort_by_file_name();
        for (count, entry) in entries.into_iter().enumerate() {
            if count >= LIMITS.folder_entries {
                return Err(FolderError::TooMany { path: self.path.clone(), limit: LIMITS.folder_entries });
            }
            let entry = entry.map_err(|e| FolderError::Read {
                path: self.path.clone(),
                source: e.into_io_error().unwrap_or_else(|| std::io::Error::other("a loop of links")),
            })?;
            let name = entry.file_name().to_string_lossy();
            let kind = entry.file_type();
            if !kind.is_file() && !kind.is_dir() {
                return Err(FolderError::Special {
                    folder: self.path.clone(),
                    name: OutsideText::new(name),
                    kind: kind_of(kind),
                });
            }
            if sealed.contains(&name.as_ref()) && kind.is_file() {
                continue;
            }
            if is_volume_like(&name) {
                return Err(FolderError::Foreign { folder: self.path.clone(), name: OutsideText::new(name) });
            }
            strangers.push(OutsideText::new(name));
        }
        Ok(strangers)
    }
}

/// The SHA-256 digest and the size in bytes of what is read. `progress` is told how many bytes were.
///
/// # Errors
/// Of the reader.
pub fn digest_of(mut file: impl Read, mut progress: impl FnMut(u64)) -> std::io::Result<(Digest, u64)> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finish(), size)),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        hasher.update(&buffer[..n]);
        size += n as u64;
        progress(n as u64);
    }
}

/// The folders that a path stands for: itself, or the folders of its media if it has those and no seal of its own.
pub fn media_folders(path: &Path) -> Vec<PathBuf> {
    if path.join(SEAL).symlink_metadata().is_ok() {
        return vec![path.into()];
    }
    let media = (1..=LIMITS.volumes).map(|number| path.join(medium_name(number)));
    let found: Vec<_> = media.filter(|folder| folder.join(SEAL).symlink_metadata().is_ok()).collect();
    if found.is_empty() { vec![path.into()] } else { found }
}

/// Bytes that a user may still write to the file system of a folder.
///
/// # Errors
/// If the file system does not say.
pub fn free_space(folder: &Path) -> std::io::Result<u64> {
    let fs = rustix::fs::statvfs(folder)?;
    Ok(fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// Gives a folder its final name, unless there is something of that name, and waits until that is on the disk.
///
/// # Errors
/// `AlreadyExists`, or another I/O error.
pub fn rename_new(from: &Path, to: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        // FAT and some network file systems cannot do it in one step.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => match to.symlink_metadata() {
            Ok(_) => return Err(std::io::ErrorKind::AlreadyExists.into()),
            Err(_) => std::fs::rename(from, to)?,
        },
        Err(e) => return Err(e.into()),
    }
    let parent = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

fn kind_of(kind: std::fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_in_the_folder_itself_are_opened() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "abc").expect("written");
        std::os::unix::fs::symlink("file", at("link")).expect("linked");
        std::fs::create_dir(at("sub")).expect("made");
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .expect("a FIFO");
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("a socket");
        let folder = Folder::open(dir.path()).expect("open");
        assert_eq!(folder.read_file("file", 3).expect("read"), b"abc");
        assert!(matches!(folder.read_file("file", 2), Err(FolderError::TooLarge { .. })));
        for name in ["link", "sub", "fifo", "socket"] {
            assert!(matches!(folder.open_file(name), Err(FolderError::Special { .. })), "{name}");
        }
        for name in ["absent", "..", "sub/../file", "/etc/passwd"] {
            assert!(matches!(folder.open_file(name), Err(FolderError::Missing(_))), "{name}");
        }
        assert!(matches!(folder.survey(&["file"]), Err(FolderError::Special { .. })));
        for name in ["link", "fifo", "socket"] {
            std::fs::remove_file(at(name)).expect("removed");
        }
        assert_eq!(folder.survey(&["file"]).expect("a survey").len(), 1, "the folder `sub`");
        std::fs::write(at("other-1.0001.tar.zst.age"), "").expect("written");
        assert!(matches!(folder.survey(&["file"]), Err(FolderError::Foreign { .. })));
    }
}

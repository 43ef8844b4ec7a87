//! A folder on a medium, read without trust.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use blobs::Hasher;
use blobs::pipe::{BackgroundReader, Pool};
use manifest_schema::{Algorithm, Digest, LIMITS, OutsideText};
use rustix::fs::{Mode, OFlags};
use walkdir::WalkDir;

use crate::names::{HANDOVER, SEAL, is_volume_like, medium_number};

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

    /// Opens a folder in the folder, without following a link.
    ///
    /// # Errors
    /// [`FolderError::Missing`], [`FolderError::Special`], [`FolderError::Read`].
    pub fn folder(&self, name: &str) -> Result<Self, FolderError> {
        let path = self.path.join(name);
        if !is_plain(name) {
            return Err(FolderError::Missing(path));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.dir, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { path, dir: File::from(fd) }),
            Err(rustix::io::Errno::NOENT) => Err(FolderError::Missing(path)),
            Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => Err(FolderError::Special {
                folder: self.path.clone(),
                name: OutsideText::new(name),
                kind: "not a folder",
            }),
            Err(e) => Err(FolderError::Read { path, source: e.into() }),
        }
    }

    /// The folders `medium-1`, `medium-2` and so on in it, in this order.
    ///
    /// # Errors
    /// As [`Folder::folder`] and [`Folder::names`].
    pub fn media(&self) -> Result<Vec<Self>, FolderError> {
        let mut media: Vec<_> =
            self.names()?.into_iter().filter_map(|name| Some((medium_number(&name)?, name))).collect();
        media.sort();
        media.iter().map(|(_, name)| self.folder(name)).collect()
    }

    /// The names of everything in the folder, sorted.
    ///
    /// # Errors
    /// [`FolderError::TooMany`], [`FolderError::Read`].
    pub fn names(&self) -> Result<Vec<String>, FolderError> {
        let read = |e: rustix::io::Errno| FolderError::Read { path: self.path.clone(), source: e.into() };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.dir).map_err(read)? {
            let name = entry.map_err(read)?.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." {
                continue;
            }
            if names.len() >= LIMITS.folder_entries {
                return Err(FolderError::TooMany { path: self.path.clone(), limit: LIMITS.folder_entries });
            }
            names.push(name);
        }
        names.sort();
        Ok(names)
    }

    /// The folder as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn dir(&self) -> &File {
        &self.dir
    }

    /// Opens a regular file in the folder, without following a link and without waiting for a FIFO's other end.
    ///
    /// # Errors
    /// [`FolderError::Missing`], [`FolderError::Special`], [`FolderError::Read`].
    pub fn open_file(&self, name: &str) -> Result<File, FolderError> {
        let path = self.path.join(name);
        let special = |kind| FolderError::Special { folder: self.path.clone(), name: OutsideText::new(name), kind };
        if !is_plain(name) {
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

    /// The number of the device, if files on it should be read and written one after the other: a disc or disk that turns, a
    /// stick.
    pub fn one_at_a_time(&self) -> Option<u64> {
        crate::device::one_at_a_time(&self.dir)
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
        self.digest(self.open_file(name)?, name, progress)
    }

    /// As [`Folder::digest_of`], of what lies on the medium, not of what this machine still has in its memory.
    ///
    /// # Errors
    /// As [`Folder::open_file`].
    pub fn digest_on_medium(&self, name: &str, progress: impl FnMut(u64)) -> Result<(Digest, u64), FolderError> {
        let file = self.open_file(name)?;
        // Only what has been written can be forgotten. A medium that cannot be written, or a file system that cannot forget,
        // is read as it is.
        let _ = file.sync_data();
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        self.digest(file, name, progress)
    }

    fn digest(&self, file: File, name: &str, progress: impl FnMut(u64)) -> Result<(Digest, u64), FolderError> {
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
        let sealed: HashSet<&str> = sealed.iter().copied().collect();
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
            if sealed.contains(name.as_ref()) && kind.is_file() || name == HANDOVER && kind.is_dir() {
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

/// Bytes that are read in one piece, and pieces that are read ahead of the one that is hashed.
const PIECE: usize = 512 << 10;
const PIECES: usize = 4;

/// The SHA-256 digest and the size in bytes of a file. `progress` is told how many bytes were read.
///
/// # Errors
/// Of the file.
pub fn digest_of(mut file: File, mut progress: impl FnMut(u64)) -> std::io::Result<(Digest, u64)> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut size = 0;
    let mut take = |bytes: &[u8]| {
        hasher.update(bytes);
        size += bytes.len() as u64;
        progress(bytes.len() as u64);
    };
    let pool = Pool::new(PIECE, PIECES);
    let mut first = pool.take();
    first.fill(&mut file)?;
    take(&first);
    // A small file is not worth a thread.
    if first.room() == 0 {
        drop(first);
        let mut ahead = BackgroundReader::new("read", &pool, file)?;
        while let Some(piece) = ahead.pipe().next_buffer()? {
            take(&piece);
        }
    }
    Ok((hasher.finish(), size))
}

/// The folders that a path stands for: itself, or the folders of its media if it has those and no seal of its own. There is
/// at least one; whether it can be opened is for the opener to find out.
pub fn media_folders(path: &Path) -> Vec<PathBuf> {
    let has_seal = path.join(SEAL).symlink_metadata().is_ok();
    let media =
        Folder::open(path).and_then(|folder| folder.media()).ok().filter(|media| !has_seal && !media.is_empty());
    media.map_or(vec![path.into()], |media| media.iter().map(|medium| medium.path().to_path_buf()).collect())
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
    rename_absent(rustix::fs::CWD, from, to)?;
    let parent = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// Renames something in a folder, unless there is something of the new name.
pub(crate) fn rename_absent(dir: BorrowedFd<'_>, from: &Path, to: &Path) -> std::io::Result<()> {
    use rustix::fs::{AtFlags, RenameFlags, renameat, renameat_with, statat};
    use rustix::io::Errno;
    match renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        // FAT and some network file systems cannot do it in one step.
        Err(Errno::INVAL | Errno::NOSYS) => match statat(dir, to, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(std::io::ErrorKind::AlreadyExists.into()),
            Err(_) => Ok(renameat(dir, from, dir, to)?),
        },
        other => Ok(other?),
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != "." && name != ".."
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
        for name in ["link", "file", "fifo"] {
            assert!(matches!(folder.folder(name), Err(FolderError::Special { .. })), "{name}");
        }
        for name in ["absent", "..", ".", "", "sub/..", "/etc"] {
            assert!(matches!(folder.folder(name), Err(FolderError::Missing(_))), "{name}");
        }
        assert_eq!(folder.folder("sub").expect("opened").names().expect("names"), [""; 0]);
        assert!(matches!(folder.survey(&["file"]), Err(FolderError::Special { .. })));
        for name in ["link", "fifo", "socket"] {
            std::fs::remove_file(at(name)).expect("removed");
        }
        assert_eq!(folder.survey(&["file"]).expect("a survey").len(), 1, "the folder `sub`");
        std::fs::create_dir(at(HANDOVER)).expect("made");
        assert_eq!(folder.survey(&["file"]).expect("a survey").len(), 1, "statements are no strangers");
        std::fs::write(at("other-1.0001.tar.zst.age"), "").expect("written");
        assert!(matches!(folder.survey(&["file"]), Err(FolderError::Foreign { .. })));
    }

    #[test]
    fn media_are_found_by_their_names() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in ["medium-10", "medium-2", "medium-02", "medium-0", "medium-", "medium-2x"] {
            std::fs::create_dir(dir.path().join(name)).expect("made");
        }
        let media = Folder::open(dir.path()).expect("open").media().expect("media");
        let names: Vec<_> = media.iter().map(|m| m.path().file_name().expect("a name")).collect();
        assert_eq!(names, ["medium-2", "medium-10"]);
    }

    #[test]
    fn what_is_on_the_medium_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("file"), "abc").expect("written");
        let folder = Folder::open(dir.path()).expect("open");
        let seen = |result: Result<(Digest, u64), FolderError>| result.expect("read");
        assert_eq!(seen(folder.digest_on_medium("file", |_| ())), seen(folder.digest_of("file", |_| ())));
        // A regular file of which the first byte cannot be read.
        let process = Folder::open(Path::new("/proc/self")).expect("open");
        assert!(matches!(process.digest_on_medium("mem", |_| ()), Err(FolderError::Read { .. })));
    }
}

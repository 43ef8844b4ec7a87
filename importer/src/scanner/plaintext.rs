//! The folder where image data may lie in the clear while it is scanned: `scan.plaintext_dir`.

use std::fs::{File, Permissions, TryLockError};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::Error;

const PREFIX: &str = "sealift-scan-";
/// Held by whoever uses a folder.
const LOCK: &str = ".lock";

/// The configured folder.
pub(super) struct Plaintext(PathBuf);

/// A folder for one image. It is removed with all that is in it.
pub(super) struct Folder {
    folder: TempDir,
    _lock: File,
}

impl Plaintext {
    /// Opens the folder, and removes what runs have left there that were killed.
    ///
    /// # Errors
    /// [`Error::PlaintextDir`] if it is none, or open to others.
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let fail = |source| Error::PlaintextDir { path: folder.into(), source };
        let found = std::fs::metadata(folder).map_err(fail)?;
        if !found.is_dir() {
            return Err(fail(std::io::ErrorKind::NotADirectory.into()));
        }
        if found.mode() & 0o077 != 0 {
            let mode = found.mode() & 0o777;
            return Err(fail(std::io::Error::other(format!("others can reach it (mode {mode:o}, expected 700)"))));
        }
        let (owner, user) = (found.uid(), rustix::process::geteuid().as_raw());
        if owner != user {
            return Err(fail(std::io::Error::other(format!("it is user {owner}'s, expected {user}'s"))));
        }
        for entry in std::fs::read_dir(folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_ours && is_folder && !is_used(&entry.path()).map_err(fail)? {
                std::fs::remove_dir_all(entry.path()).map_err(fail)?;
            }
        }
        Ok(Self(folder.into()))
    }

    /// A new folder in it.
    ///
    /// # Errors
    /// [`Error::PlaintextDir`].
    pub(super) fn folder(&self) -> Result<Folder, Error> {
        let fail = |source| Error::PlaintextDir { path: self.0.clone(), source };
        let folder = private_folder(PREFIX, &self.0).map_err(fail)?;
        let lock = File::create(folder.path().join(LOCK)).map_err(fail)?;
        lock.lock().map_err(fail)?;
        Ok(Folder { folder, _lock: lock })
    }
}

/// A new folder that only this user can reach.
pub(super) fn private_folder(prefix: &str, within: &Path) -> std::io::Result<TempDir> {
    let mode = Permissions::from_mode(0o700);
    tempfile::Builder::new().prefix(prefix).permissions(mode).tempdir_in(within)
}

/// Whether a run that goes on uses a folder.
fn is_used(folder: &Path) -> std::io::Result<bool> {
    match File::open(folder.join(LOCK)) {
        Ok(lock) => match lock.try_lock() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(e)) => Err(e),
        },
        // Made a moment ago, or killed before it had one: nothing lies in it then.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(std::fs::read_dir(folder)?.next().is_none()),
        Err(e) => Err(e),
    }
}

impl Folder {
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Removes it.
    ///
    /// # Errors
    /// [`Error::PlaintextDir`] names what stays.
    pub(super) fn remove(self) -> Result<(), Error> {
        let path = self.folder.path().to_path_buf();
        self.folder.close().map_err(|source| Error::PlaintextDir { path, source })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_a_killed_run_left_is_removed_and_nothing_else() {
        let folder = private_folder("", &std::env::temp_dir()).expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["sealift-scan-old", "theirs"] {
            fs::create_dir(at(name)).expect("a folder");
            fs::write(at(name).join("image.tar"), "data").expect("a file");
        }
        fs::write(at("sealift-scan-old").join(LOCK), "").expect("a file");
        fs::write(at("sealift-scan-file"), "").expect("a file");
        // One without a lock: killed, if something lies in it, or made a moment ago.
        for name in ["sealift-scan-killed", "sealift-scan-new"] {
            fs::create_dir(at(name)).expect("a folder");
        }
        fs::write(at("sealift-scan-killed").join("image.tar"), "data").expect("a file");
        let plaintext = Plaintext::open(folder.path()).expect("the folder");
        assert!(!at("sealift-scan-old").exists() && !at("sealift-scan-killed").exists());
        assert!(at("sealift-scan-new").exists());
        assert!(at("theirs/image.tar").exists() && at("sealift-scan-file").exists());
        let used = plaintext.folder().expect("a folder");
        assert_eq!(fs::metadata(used.path()).expect("a folder").mode() & 0o777, 0o700);
        fs::write(used.path().join("image.tar"), "data").expect("a file");
        let _other = Plaintext::open(folder.path()).expect("the folder");
        assert!(used.path().join("image.tar").exists(), "it is in use");
        let path = used.path().to_path_buf();
        used.remove().expect("it goes");
        assert!(!path.exists());
    }

    #[test]
    fn nobody_else_may_look_into_it() {
        let folder = tempfile::tempdir().expect("a folder");
        for (mode, is_good) in [(0o700, true), (0o750, false), (0o701, false)] {
            fs::set_permissions(folder.path(), Permissions::from_mode(mode)).expect("a mode");
            let opened = Plaintext::open(folder.path());
            assert_eq!(opened.is_ok(), is_good, "{mode:o}");
        }
        assert!(Plaintext::open(&folder.path().join("missing")).is_err());
    }
}

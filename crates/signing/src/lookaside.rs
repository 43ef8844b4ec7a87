//! A lookaside tree of simple signatures (containers/image, `signature-protocols.md`).
//!
//! `<root>/<repository path>@<algorithm>=<hex>/signature-<N>`, N from 1 without holes. The registry's host is not part of
//! the path, so every registry needs a root of its own. Readers stop at the first N that is missing, fail at the first
//! file that is not a signature, and fail at 128 files.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use manifest_schema::{Digest, LIMITS, Reference, Repository};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::shown;
use crate::policy::looks_like_message;
use crate::simple::read_simple;
use crate::{Fingerprint, Trust};

/// Signatures of a release image that the cluster-version-operator reads (openshift/library-go, `pkg/verify`).
const RELEASE_SIGNATURES: usize = 9;

/// The root of a lookaside tree of one registry.
#[derive(Debug, Clone)]
pub struct Lookaside {
    root: PathBuf,
}

/// Why the tree cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LookasideError {
    /// A file or directory.
    #[error("{}: {what}", shown(path))]
    Io {
        /// Which.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A symbolic link, or something else that is neither a plain file nor a directory, where one belongs.
    #[error("{}: expected a plain {expected}; links are not followed", shown(path))]
    NotPlain {
        /// Which.
        path: PathBuf,
        /// `file` or `directory`.
        expected: &'static str,
    },
    /// A file that no reader takes for a signature, which makes them refuse the image.
    #[error("{}: not a simple signature; readers of this tree refuse the image because of it", shown(path))]
    NotASignature {
        /// Which.
        path: PathBuf,
    },
    /// A signature that is too large.
    #[error("{}: larger than {limit} bytes", shown(path))]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// No room for another signature.
    #[error("{}: {limit} signatures already; readers fail at {}", shown(path), limit + 1)]
    Full {
        /// The directory.
        path: PathBuf,
        /// How many signatures may be there.
        limit: usize,
    },
}

impl Lookaside {
    /// The tree below `root`, which may itself be reached through links.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of an image's signatures, relative to the root of the tree or to its URL.
    pub fn path_for(repository: &Repository, digest: &Digest) -> PathBuf {
        PathBuf::from(format!("{}@{}={}", repository.path(), digest.algorithm().name(), digest.hex()))
    }

    /// Reads the signatures of an image, in order; none if there are none.
    ///
    /// # Errors
    /// [`LookasideError`]; [`LookasideError::Full`] if there are more than `LIMITS.lookaside_signatures`.
    pub fn read(&self, repository: &Repository, digest: &Digest) -> Result<Vec<Vec<u8>>, LookasideError> {
        let relative = Self::path_for(repository, digest);
        match self.walk(&relative, false)? {
            Some(directory) => self.read_all(&directory, &self.root.join(relative)),
            None => Ok(Vec::new()),
        }
    }

    /// Adds a signature to those of an image, and gives its number. A file that is there is never replaced.
    ///
    /// # Errors
    /// [`LookasideError`]; [`LookasideError::NotASignature`] if it or one that is there already is no simple signature.
    pub fn add(&self, repository: &Repository, digest: &Digest, signature: &[u8]) -> Result<u32, LookasideError> {
        self.add_in(&Self::path_for(repository, digest), LIMITS.lookaside_signatures, signature)
    }

    /// The directory of a release image's signatures, in the layout that OpenShift's cluster-version-operator reads.
    pub fn release_path(digest: &Digest) -> PathBuf {
        PathBuf::from(format!("{}={}", digest.algorithm().name(), digest.hex()))
    }

    /// Adds a signature to those of a release image, unless it is there, and gives all of them in order.
    ///
    /// # Errors
    /// As [`Lookaside::add`]; [`LookasideError::Full`] for more than the nine that are read.
    pub fn add_release(&self, digest: &Digest, signature: &[u8]) -> Result<Vec<Vec<u8>>, LookasideError> {
        let relative = Self::release_path(digest);
        let read = || match self.walk(&relative, false)? {
            Some(directory) => self.read_all(&directory, &self.root.join(&relative)),
            None => Ok(Vec::new()),
        };
        if !read()?.iter().any(|there| there == signature) {
            self.add_in(&relative, RELEASE_SIGNATURES, signature)?;
        }
        read()
    }

    fn add_in(&self, relative: &Path, limit: usize, signature: &[u8]) -> Result<u32, LookasideError> {
        let path = self.root.join(relative);
        if !looks_like_message(signature) {
            return Err(LookasideError::NotASignature { path });
        }
        if signature.len() as u64 > LIMITS.signature {
            return Err(LookasideError::TooLarge { path, limit: LIMITS.signature });
        }
        let Some(directory) = self.walk(relative, true)? else {
            return Err(LookasideError::NotPlain { path, expected: "directory" });
        };
        let there = self.read_all(&directory, &path)?;
        if let Some(bad) = there.iter().position(|bytes| !looks_like_message(bytes)) {
            return Err(LookasideError::NotASignature { path: path.join(file_name(bad + 1)) });
        }
        sweep(&directory).map_err(|e| failed(&path, "cannot be cleaned up", e))?;
        let temporary = write_temporary(&directory, &path, signature)?;
        let placed = place(&directory, &path, &temporary, there.len() + 1, limit);
        if placed.is_err() {
            // The error that matters is the first one.
            let _ = rustix::fs::unlinkat(&directory, temporary.as_str(), AtFlags::empty());
        }
        let number = placed?;
        rustix::fs::fsync(&directory).map_err(|e| failed(&path, "cannot be made durable", e))?;
        u32::try_from(number).map_err(|_| LookasideError::Full { path, limit })
    }

    /// A good signature by `signer` for this reference and digest, with its number, so that a repeated run need not add
    /// another. Signatures that do not verify are passed over.
    ///
    /// `trust` is the signing key's own certificates with a threshold of one.
    ///
    /// # Errors
    /// [`LookasideError`].
    pub fn find_signature(
        &self,
        repository: &Repository,
        digest: &Digest,
        reference: &Reference,
        signer: &Fingerprint,
        trust: &Trust,
    ) -> Result<Option<(u32, Vec<u8>)>, LookasideError> {
        let wanted = reference.to_string();
        let fits = |bytes: &[u8]| {
            read_simple(bytes, trust).is_ok_and(|signature| {
                let simple = signature.get();
                simple.digest == *digest && simple.reference.raw() == wanted && simple.signer.fingerprint == *signer
            })
        };
        Ok((1..).zip(self.read(repository, digest)?).find(|(_, bytes)| fits(bytes)))
    }

    fn read_all(&self, directory: &OwnedFd, path: &Path) -> Result<Vec<Vec<u8>>, LookasideError> {
        let mut signatures = Vec::new();
        for number in 1.. {
            let path = path.join(file_name(number));
            let Some(bytes) = read_file(directory, &file_name(number), &path)? else { break };
            if number > LIMITS.lookaside_signatures {
                return Err(LookasideError::Full { path, limit: LIMITS.lookaside_signatures });
            }
            signatures.push(bytes);
        }
        Ok(signatures)
    }

    /// Opens a directory below the root, one component at a time, without following links.
    fn walk(&self, relative: &Path, create: bool) -> Result<Option<OwnedFd>, LookasideError> {
        const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
        let mut path = self.root.clone();
        if create {
            std::fs::create_dir_all(&path).map_err(|source| LookasideError::Io {
                path: path.clone(),
                what: "cannot be made",
                source,
            })?;
        }
        let mut directory = match rustix::fs::open(&path, DIRECTORY, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(failed(&path, "cannot be opened", e)),
        };
        for name in relative.iter() {
            path.push(name);
            let made = create && make_directory(&directory, name, &path)?;
            directory = match rustix::fs::openat(&directory, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(directory) => directory,
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    return Err(LookasideError::NotPlain { path, expected: "directory" });
                }
                Err(e) => return Err(failed(&path, "cannot be opened", e)),
            };
            if made {
                // A web server must be able to read it, whatever this process's umask.
                let mode = Mode::from_raw_mode(0o755);
                rustix::fs::fchmod(&directory, mode).map_err(|e| failed(&path, "cannot be made readable", e))?;
            }
        }
        Ok(Some(directory))
    }
}

/// Makes a directory if it is missing, durably; whether it was.
fn make_directory(parent: &OwnedFd, name: &std::ffi::OsStr, path: &Path) -> Result<bool, LookasideError> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => {
            rustix::fs::fsync(parent).map_err(|e| failed(path, "cannot be made durable", e))?;
            Ok(true)
        }
        Err(Errno::EXIST) => Ok(false),
        Err(e) => Err(failed(path, "cannot be made", e)),
    }
}

/// Reads a plain file, bounded; `None` if there is none.
fn read_file(directory: &OwnedFd, name: &str, path: &Path) -> Result<Option<Vec<u8>>, LookasideError> {
    // NONBLOCK: opening a named pipe would otherwise wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let not_plain = || LookasideError::NotPlain { path: path.into(), expected: "file" };
    let read = |source| LookasideError::Io { path: path.into(), what: "cannot be read", source };
    let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(not_plain()),
        Err(e) => return Err(failed(path, "cannot be opened", e)),
    };
    if !file.metadata().map_err(read)?.is_file() {
        return Err(not_plain());
    }
    let mut bytes = Vec::new();
    file.take(LIMITS.signature + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > LIMITS.signature {
        return Err(LookasideError::TooLarge { path: path.into(), limit: LIMITS.signature });
    }
    Ok(Some(bytes))
}

/// What the names of files begin with that are being written; the process id follows.
const TEMPORARY: &str = ".signature.";

/// Removes what processes left behind that were killed while they wrote.
fn sweep(directory: &OwnedFd) -> Result<(), Errno> {
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let owner = name.to_str().ok().and_then(|n| n.strip_prefix(TEMPORARY)).and_then(|n| n.split('.').next());
        if owner.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()) {
            match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

/// Writes a file under a name that no reader asks for.
fn write_temporary(directory: &OwnedFd, path: &Path, bytes: &[u8]) -> Result<String, LookasideError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut attempt = 0;
    let (name, file) = loop {
        let name = format!("{TEMPORARY}{}.{attempt}", std::process::id());
        match rustix::fs::openat(directory, name.as_str(), flags, Mode::from_raw_mode(0o644)) {
            Ok(file) => break (name, file),
            Err(Errno::EXIST) if attempt < 1000 => attempt += 1,
            Err(e) => return Err(failed(path, "no file can be made in it", e)),
        }
    };
    let write = || -> io::Result<()> {
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
        let mut file = File::from(file);
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| {
        let _ = rustix::fs::unlinkat(directory, name.as_str(), AtFlags::empty());
        LookasideError::Io { path: path.into(), what: "a signature cannot be written in it", source }
    })?;
    Ok(name)
}

/// Gives the file the first free number, without replacing what another process may put there meanwhile.
fn place(
    directory: &OwnedFd,
    path: &Path,
    temporary: &str,
    first: usize,
    limit: usize,
) -> Result<usize, LookasideError> {
    for number in first..=limit {
        let name = file_name(number);
        match rustix::fs::renameat_with(directory, temporary, directory, name.as_str(), RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(number),
            Err(Errno::EXIST) => continue,
            // Not every file system can rename without replacing.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            Err(e) => return Err(failed(&path.join(name), "cannot be made", e)),
        }
        match rustix::fs::linkat(directory, temporary, directory, name.as_str(), AtFlags::empty()) {
            Ok(()) => {
                let removed = rustix::fs::unlinkat(directory, temporary, AtFlags::empty());
                removed.map_err(|e| failed(&path.join(temporary), "cannot be removed", e))?;
                return Ok(number);
            }
            Err(Errno::EXIST) => {}
            Err(e) => return Err(failed(&path.join(name), "cannot be made", e)),
        }
    }
    Err(LookasideError::Full { path: path.into(), limit })
}

fn file_name(number: usize) -> String {
    format!("signature-{number}")
}

fn failed(path: &Path, what: &'static str, errno: Errno) -> LookasideError {
    LookasideError::Io { path: path.into(), what, source: errno.into() }
}

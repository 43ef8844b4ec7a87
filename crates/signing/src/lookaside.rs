//! A lookaside tree of simple signatures (containers/image, `signature-protocols.md`).
//!
//! `<root>/<repository path>@<algorithm>=<hex>/signature-<N>`, N from 1 without holes. The registry's host is not part of
//! the path, so every registry needs a root of its own. Readers stop at the first N that is missing, fail at the first
//! file that is not a signature, and fail at 128 files.
//!
//! Signatures are added and removed in single steps, after each of which a reader finds all that stay. Those who write take
//! turns: they lock the directory, which other machines that share the file system may not notice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use manifest_schema::{Digest, LIMITS, Reference, Repository};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::error::shown;
use crate::policy::looks_like_message;
use crate::simple::read_simple;
use crate::{Fingerprint, Trust};

/// Signatures of a release image that the cluster-version-operator reads (openshift/library-go, `pkg/verify`).
const RELEASE_SIGNATURES: usize = 9;

/// How long others may keep a directory locked; their work takes milliseconds.
const LOCK: Duration = Duration::from_secs(30);

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

    /// Whether a file's name is one of those that a signature has while it is being written.
    pub fn is_temporary(name: &std::ffi::OsStr) -> bool {
        name.to_str().is_some_and(|name| name.starts_with(TEMPORARY))
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

    /// One signature of a directory ([`Lookaside::path_for`], [`Lookaside::release_path`]), if it is there.
    ///
    /// # Errors
    /// [`LookasideError`].
    pub fn signature(&self, directory: &Path, number: usize) -> Result<Option<Vec<u8>>, LookasideError> {
        let Some(open) = self.walk(directory, false)? else { return Ok(None) };
        read_file(&open, &file_name(number), &self.root.join(directory).join(file_name(number)))
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
        let Some(directory) = self.lock(relative, true)? else {
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

    /// Takes signatures of an image out, and gives how many. What stays keeps its order; what is there twice, as an earlier
    /// run leaves it that was killed, stays once. The directory goes with the last file in it, its parents stay.
    ///
    /// Every number moves down in one step, so that at no time a number is missing before a signature that stays. Whoever reads
    /// meanwhile may see a signature twice, or miss one that moves down past the number they have come to.
    ///
    /// # Errors
    /// [`LookasideError`]; run it again to finish.
    pub fn remove(
        &self,
        repository: &Repository,
        digest: &Digest,
        is_gone: impl Fn(&[u8]) -> bool,
    ) -> Result<usize, LookasideError> {
        self.remove_in(&Self::path_for(repository, digest), is_gone)
    }

    fn remove_in(&self, relative: &Path, is_gone: impl Fn(&[u8]) -> bool) -> Result<usize, LookasideError> {
        let path = self.root.join(relative);
        let Some(directory) = self.lock(relative, false)? else { return Ok(0) };
        sweep(&directory).map_err(|e| failed(&path, "cannot be cleaned up", e))?;
        let there = numbered(&directory, &path)?;
        let Plan { steps, left } = Plan::new(&there, is_gone);
        for step in &steps {
            step.take(&directory, &path)?;
            rustix::fs::fsync(&directory).map_err(|e| failed(&path, "cannot be made durable", e))?;
        }
        if left == 0 {
            self.remove_directory(relative)?;
        }
        Ok(there.len() - left)
    }

    /// Removes a directory, durably, unless something else is in it.
    fn remove_directory(&self, relative: &Path) -> Result<(), LookasideError> {
        let path = self.root.join(relative);
        let (Some(parent), Some(name)) = (relative.parent(), relative.file_name()) else { return Ok(()) };
        let Some(parent) = self.walk(parent, false)? else { return Ok(()) };
        match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            Ok(()) => rustix::fs::fsync(&parent).map_err(|e| failed(&path, "cannot be made durable", e)),
            Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(e) => Err(failed(&path, "cannot be removed", e)),
        }
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

    /// Opens an image's directory for writing, and keeps other writers out until it is closed.
    fn lock(&self, relative: &Path, create: bool) -> Result<Option<OwnedFd>, LookasideError> {
        let path = self.root.join(relative);
        let began = Instant::now();
        loop {
            if let Some(directory) = self.walk(relative, create)? {
                lock(&directory, began).map_err(|e| failed(&path, "is being written by another process", e))?;
                // Whoever took the last signature out has removed the directory, and nobody would find it any more.
                let there = self.walk(relative, false)?.map(|there| same(&directory, &there)).transpose();
                if there.map_err(|e| failed(&path, "cannot be opened", e))? == Some(true) {
                    return Ok(Some(directory));
                }
            } else if !create {
                return Ok(None);
            }
            if began.elapsed() > LOCK {
                return Err(failed(&path, "is removed again and again", Errno::NOENT));
            }
        }
    }

    /// Opens a directory below the root, one component at a time, without following links.
    fn walk(&self, relative: &Path, create: bool) -> Result<Option<OwnedFd>, LookasideError> {
        const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
        let mut path = self.root.clone();
        if create {
            make_readable(&path).map_err(|source| LookasideError::Io {
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

/// Makes a directory and those above it, as far as they are not there. A web server must be able to read them, whatever this
/// process's umask.
///
/// # Errors
/// If one cannot be made, or is something else.
pub fn make_readable(path: &Path) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
    for directory in missing.into_iter().rev() {
        match std::fs::create_dir(directory) {
            Ok(()) => std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    // Another process may have made it, or something else in its place.
    std::fs::create_dir_all(path)
}

/// Waits for a directory's lock.
fn lock(directory: &OwnedFd, began: Instant) -> Result<(), Errno> {
    loop {
        match rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive) {
            // Not every file system has locks.
            Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL | Errno::BADF | Errno::NOLCK) => return Ok(()),
            Err(Errno::WOULDBLOCK | Errno::INTR) if began.elapsed() < LOCK => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(e) => return Err(e),
        }
    }
}

/// Whether two open files are one.
fn same(a: &OwnedFd, b: &OwnedFd) -> Result<bool, Errno> {
    let (a, b) = (rustix::fs::fstat(a)?, rustix::fs::fstat(b)?);
    Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// What removing signatures comes to: steps that each leave the tree readable.
struct Plan {
    steps: Vec<Step>,
    /// How many signatures stay.
    left: usize,
}

enum Step {
    /// A signature takes this number, in the place of what has it.
    Put(usize, Vec<u8>),
    /// What has this number goes.
    Take(usize),
}

impl Plan {
    fn new(there: &BTreeMap<usize, Vec<u8>>, is_gone: impl Fn(&[u8]) -> bool) -> Self {
        // Behind a number that is missing nobody sees anything; what goes must not be seen when the gap is closed.
        let seen = (1..).take_while(|number| there.contains_key(number)).count();
        let (gone, stay): (Vec<_>, Vec<_>) = there.iter().partition(|(_, bytes)| is_gone(bytes));
        let hidden = gone.into_iter().map(|(number, _)| *number).filter(|number| *number > seen);
        let mut steps: Vec<_> = hidden.map(Step::Take).collect();
        let mut known = BTreeSet::new();
        let mut left = 0;
        for (&number, bytes) in stay {
            if known.insert(bytes) {
                left += 1;
                if number != left {
                    steps.push(Step::Put(left, bytes.clone()));
                }
            }
        }
        // From the end, so that nothing is left behind a gap; what was taken already is no error.
        steps.extend(there.keys().rev().filter(|number| **number > left).map(|number| Step::Take(*number)));
        Self { steps, left }
    }
}

impl Step {
    fn take(&self, directory: &OwnedFd, path: &Path) -> Result<(), LookasideError> {
        match self {
            Step::Put(number, bytes) => {
                let temporary = write_temporary(directory, path, bytes)?;
                let name = file_name(*number);
                rustix::fs::renameat(directory, temporary.as_str(), directory, name.as_str()).map_err(|e| {
                    // The error that matters is the first one.
                    let _ = rustix::fs::unlinkat(directory, temporary.as_str(), AtFlags::empty());
                    failed(&path.join(name), "cannot be made", e)
                })
            }
            Step::Take(number) => {
                let name = file_name(*number);
                match rustix::fs::unlinkat(directory, name.as_str(), AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => Ok(()),
                    Err(e) => Err(failed(&path.join(name), "cannot be removed", e)),
                }
            }
        }
    }
}

/// All numbered files of a directory, also behind a number that is missing.
fn numbered(directory: &OwnedFd, path: &Path) -> Result<BTreeMap<usize, Vec<u8>>, LookasideError> {
    let list = |e| failed(path, "cannot be listed", e);
    let mut numbers = BTreeSet::new();
    for entry in rustix::fs::Dir::read_from(directory).map_err(list)? {
        let entry = entry.map_err(list)?;
        let number = entry.file_name().to_str().ok().and_then(|name| name.strip_prefix("signature-"));
        numbers.extend(number.and_then(|number| number.parse::<usize>().ok()).filter(|number| *number > 0));
    }
    if numbers.len() > LIMITS.lookaside_signatures {
        return Err(LookasideError::Full { path: path.into(), limit: LIMITS.lookaside_signatures });
    }
    let mut files = BTreeMap::new();
    for number in numbers {
        let name = file_name(number);
        if let Some(bytes) = read_file(directory, &name, &path.join(&name))? {
            files.insert(number, bytes);
        }
    }
    Ok(files)
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

#[cfg(test)]
mod tests {
    use super::*;

    type Tree = BTreeMap<usize, Vec<u8>>;

    /// Capitals stay, small letters go, a dot is a number that is missing.
    fn tree(text: &str) -> Tree {
        (1..).zip(text.bytes()).filter(|(_, b)| *b != b'.').map(|(number, b)| (number, vec![0x90, b])).collect()
    }

    fn is_gone(bytes: &[u8]) -> bool {
        bytes[1].is_ascii_lowercase()
    }

    /// What a reader sees.
    fn seen(tree: &Tree) -> Vec<Vec<u8>> {
        (1..).map_while(|number| tree.get(&number).cloned()).collect()
    }

    fn stays(seen: &[Vec<u8>]) -> BTreeSet<&Vec<u8>> {
        seen.iter().filter(|bytes| !is_gone(bytes)).collect()
    }

    fn take(tree: &mut Tree, step: &Step) {
        match step {
            Step::Put(number, bytes) => _ = tree.insert(*number, bytes.clone()),
            Step::Take(number) => _ = tree.remove(number),
        }
    }

    /// Every tree of five places, killed after every step.
    #[test]
    fn nothing_that_stays_is_hidden_by_any_step_and_a_second_run_finishes() {
        let kinds = b"ABCab.";
        for n in 0..kinds.len().pow(5) {
            let text: String = (0..5).map(|i| char::from(kinds[n / kinds.len().pow(i) % kinds.len()])).collect();
            let start = tree(&text);
            let mut expected = Vec::new();
            for bytes in start.values().filter(|bytes| !is_gone(bytes)) {
                if !expected.contains(bytes) {
                    expected.push(bytes.clone());
                }
            }
            let seen_before = seen(&start);
            let mut now = start.clone();
            let Plan { steps, left } = Plan::new(&start, is_gone);
            assert_eq!(left, expected.len(), "{text}");
            for step in std::iter::once(None).chain(steps.iter().map(Some)) {
                if let Some(step) = step {
                    take(&mut now, step);
                }
                let sees = seen(&now);
                assert!(stays(&sees).is_superset(&stays(&seen_before)), "{text}: {now:?}");
                if seen_before.len() == start.len() {
                    assert_eq!(sees.len(), now.len(), "{text}: {now:?}");
                }
                let uncovered = |bytes: &&Vec<u8>| is_gone(bytes) && !seen_before.contains(bytes);
                assert_eq!(sees.iter().find(uncovered), None, "{text}: {now:?}");
                let mut again = now.clone();
                for step in &Plan::new(&now, is_gone).steps {
                    take(&mut again, step);
                }
                assert_eq!((again.len(), seen(&again)), (left, expected.clone()), "{text}: {now:?}");
            }
            assert_eq!((now.len(), seen(&now)), (left, expected), "{text}");
        }
    }

    #[test]
    fn a_run_that_was_killed_is_finished_on_disk() {
        let repository: Repository = "registry.example/payments/api".parse().expect("a repository");
        let digest = blobs::sha256(b"a manifest");
        for text in ["aABbC", "AaB", "aa", "a", "ABa", "aA.Bb", "A"] {
            let steps = Plan::new(&tree(text), is_gone).steps;
            for killed in 0..=steps.len() {
                let folder = tempfile::tempdir().expect("a folder");
                let lookaside = Lookaside::new(folder.path());
                let path = folder.path().join(Lookaside::path_for(&repository, &digest));
                std::fs::create_dir_all(&path).expect("a directory");
                for (number, bytes) in tree(text) {
                    std::fs::write(path.join(file_name(number)), bytes).expect("a signature");
                }
                let directory = lookaside.walk(&Lookaside::path_for(&repository, &digest), false);
                let directory = directory.expect("no error").expect("a directory");
                for step in &steps[..killed] {
                    step.take(&directory, &path).expect("a step");
                }
                let before = numbered(&directory, &path).expect("a list").len();
                let removed = lookaside.remove(&repository, &digest, is_gone).expect("no error");
                let left = lookaside.read(&repository, &digest).expect("no error");
                let expected: Vec<_> = tree(text).into_values().filter(|bytes| !is_gone(bytes)).collect();
                assert_eq!((left.len() + removed, &left), (before, &expected), "{text} after {killed}");
                assert_eq!(path.exists(), !expected.is_empty(), "{text} after {killed}");
                assert!(path.parent().expect("a parent").exists());
                if !expected.is_empty() {
                    let files = std::fs::read_dir(&path).expect("a list").count();
                    assert_eq!(files, expected.len(), "nothing else is left");
                }
            }
        }
    }
}

//! The folder that is handed over: written complete or not at all, and replaced only if it holds nothing else.
//!
//! The end of README.txt is the record of what was written: the digest of every other file, as `sha256sum -c` reads it, and that
//! of the lines above it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use blobs::{VerifiedBlob, VerifyingReader};
use manifest_schema::Digest;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

use super::error::HandOverError;

const README: &str = "README.txt";

/// Files with the record at the end of README.txt.
#[derive(Debug)]
pub struct Complete {
    kind: &'static str,
    files: BTreeMap<String, Vec<u8>>,
}

impl Complete {
    /// Adds the record. `kind` says what the folder is for.
    pub fn new(kind: &'static str, mut files: BTreeMap<String, Vec<u8>>) -> Self {
        let mut readme = files.remove(README).unwrap_or_default();
        readme.extend_from_slice(b"\nSHA-256 of the other files\n\n");
        for (name, bytes) in &files {
            readme.extend_from_slice(format!("{}  {name}\n", blobs::sha256(bytes).hex()).as_bytes());
        }
        let end = end(kind, &readme);
        readme.extend_from_slice(end.as_bytes());
        files.insert(README.into(), readme);
        Self { kind, files }
    }

    /// What README.txt says.
    pub fn readme(&self) -> Option<&str> {
        self.files.get(README).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The files, by their names in the folder.
    pub fn files(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.files
    }
}

/// Where the folder is, and whether something of this is there.
fn place(folder: &Path, kind: &'static str) -> Result<(PathBuf, bool), HandOverError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| HandOverError::HandOver { path, source }
    };
    let absolute = std::path::absolute(folder).map_err(failed(folder))?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(HandOverError::NotHandedOver { path: folder.into(), kind });
    };
    // Without a `/` at the end, which would follow a link.
    let place = parent.join(name);
    let is_there = match place.symlink_metadata() {
        Ok(found) if found.is_dir() => true,
        Ok(_) => return Err(HandOverError::NotHandedOver { path: folder.into(), kind }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(failed(folder)(e)),
    };
    if is_there {
        ours(folder, kind)?;
    }
    Ok((place, is_there))
}

/// Whether a folder may be written, as far as that can be told without writing.
///
/// # Errors
/// As [`prepare`].
pub fn check(folder: &Path, complete: &Complete) -> Result<(), HandOverError> {
    place(folder, complete.kind).map(|_| ())
}

/// A folder that is complete, and has not got its name yet. It goes away if it never does.
#[must_use = "it has no name yet"]
pub struct Prepared {
    beside: TempDir,
    /// As it was asked for, and in full.
    folder: PathBuf,
    place: PathBuf,
    is_there: bool,
    kind: &'static str,
}

/// Writes files into a folder beside the one that it is to take the place of, which was written by this or is not there.
///
/// # Errors
/// [`HandOverError::NotHandedOver`] names what is there already and was not written by this; [`HandOverError::HandOver`].
pub fn prepare(folder: &Path, complete: &Complete) -> Result<Prepared, HandOverError> {
    let (place, is_there) = place(folder, complete.kind)?;
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| HandOverError::HandOver { path, source }
    };
    let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else {
        return Err(HandOverError::NotHandedOver { path: folder.into(), kind: complete.kind });
    };
    fs::create_dir_all(parent).map_err(failed(parent))?;
    // Beside it, so that it can be renamed.
    let prefix = format!(".{}.", name.to_string_lossy());
    let beside = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).map_err(failed(parent))?;
    fill(beside.path(), &complete.files).map_err(failed(folder))?;
    Ok(Prepared { beside, folder: folder.into(), place, is_there, kind: complete.kind })
}

impl Prepared {
    /// Gives it its name.
    ///
    /// # Errors
    /// As [`prepare`].
    pub fn publish(self) -> Result<(), HandOverError> {
        let Self { beside, folder, place, is_there, kind } = self;
        if is_there {
            replace(beside, &place, &folder, kind)?;
        } else {
            bundle::rename_new(beside.path(), &place)
                .map_err(|source| HandOverError::HandOver { path: folder, source })?;
        }
        let parent = place.parent().unwrap_or(&place);
        let synchronised = File::open(parent).and_then(|parent| parent.sync_all());
        synchronised.map_err(|source| HandOverError::HandOver { path: parent.into(), source })
    }
}

/// Puts one folder in the place of another one, in one step, and removes that.
fn replace(new: TempDir, place: &Path, folder: &Path, kind: &'static str) -> Result<(), HandOverError> {
    let exchange = || renameat_with(CWD, new.path(), CWD, place, RenameFlags::EXCHANGE).map_err(io::Error::from);
    exchange().map_err(|source| HandOverError::HandOver { path: folder.into(), source })?;
    // Somebody may have put something in it since it was looked at; nothing of theirs is removed.
    if let Err(error) = ours(new.path(), kind) {
        if let Err(source) = exchange() {
            return Err(HandOverError::HandOver { path: new.keep(), source });
        }
        // Where it is now.
        return ours(folder, kind).and(Err(error));
    }
    Ok(())
}

/// Writes the files. A web server or another user must be able to read them, whatever the umask.
fn fill(folder: &Path, files: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    let readable = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
    readable(folder, 0o755)?;
    for (name, bytes) in files {
        let path = folder.join(name);
        for inner in above(name) {
            let inner = folder.join(inner);
            if !inner.exists() {
                fs::create_dir(&inner)?;
                readable(&inner, 0o755)?;
            }
        }
        console::write_new(&path, bytes)?;
        readable(&path, 0o644)?;
    }
    File::open(folder)?.sync_all()
}

/// The folders that a file lies in, the outermost first, each with its `/`.
fn above(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').map(|(at, _)| &name[..=at])
}

/// The last line of README.txt.
fn end(kind: &str, above: &[u8]) -> String {
    format!("handover {kind}: the lines above have {}\n", blobs::sha256(above))
}

/// Whether a folder holds nothing but what was written by this, unchanged; it may be empty.
fn ours(folder: &Path, kind: &'static str) -> Result<(), HandOverError> {
    let foreign = |path: &Path| HandOverError::NotHandedOver { path: path.into(), kind };
    let failed = |path: &Path, source| HandOverError::HandOver { path: path.into(), source };
    let is_folder = |path: &Path| path.symlink_metadata().is_ok_and(|found| found.is_dir());
    let recorded = record(folder, kind);
    let mut folders = BTreeSet::from([String::new()]);
    folders.extend(recorded.keys().flat_map(|name| above(name)).map(String::from));
    for inner in &folders {
        let path = folder.join(inner);
        if !inner.is_empty() && !path.exists() {
            continue;
        }
        let entries = fs::read_dir(&path).and_then(|entries| entries.map(|e| Ok(e?.path())).collect());
        let mut entries: Vec<PathBuf> = entries.map_err(|e| failed(&path, e))?;
        entries.sort();
        for path in entries {
            let name = path.file_name().and_then(|name| name.to_str()).map(|name| format!("{inner}{name}"));
            let name = name.ok_or_else(|| foreign(&path))?;
            let is_ours = match recorded.get(&name) {
                Some(digest) => has(&path, digest).is_ok(),
                None => folders.contains(&format!("{name}/")) && is_folder(&path),
            };
            if !is_ours {
                return Err(foreign(&path));
            }
        }
    }
    Ok(())
}

/// What was written into a folder, by its README.txt; nothing if that is none of ours, or was changed.
fn record(folder: &Path, kind: &str) -> BTreeMap<String, Digest> {
    let recorded = || {
        let bytes = read(&folder.join(README)).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let last = text.trim_end_matches('\n').rfind('\n')? + 1;
        let (above, found) = text.split_at(last);
        if end(kind, above.as_bytes()) != found {
            return None;
        }
        let line = |line: &str| {
            let (hex, name) = line.split_once("  ")?;
            Some((name.to_string(), format!("sha256:{hex}").parse().ok()?))
        };
        let lines = above.lines().rev().take_while(|line| !line.is_empty());
        let mut files: BTreeMap<String, Digest> = lines.filter_map(line).collect();
        files.insert(README.into(), blobs::sha256(text.as_bytes()));
        Some(files)
    };
    recorded().unwrap_or_default()
}

/// The most of a README.txt that is read: it has some lines for every image that was withdrawn.
const README_LIMIT: u64 = 1 << 28;

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    plain(path)?.take(README_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether a plain file has this digest.
fn has(path: &Path, digest: &Digest) -> io::Result<VerifiedBlob> {
    let file = plain(path)?;
    let size = file.metadata()?.len();
    VerifyingReader::new(file, *digest, size).finish()
}

/// A plain file.
fn plain(path: &Path) -> io::Result<File> {
    match path.symlink_metadata()?.is_file() {
        true => File::open(path),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(kind: &'static str, text: &str) -> Complete {
        Complete::new(kind, BTreeMap::from([("x/y".to_string(), text.as_bytes().to_vec())]))
    }

    #[test]
    fn a_folder_for_something_else_is_not_replaced() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("a/b");
        prepare(&folder, &files("one", "1")).and_then(Prepared::publish).expect("a folder");
        prepare(&folder, &files("one", "2")).and_then(Prepared::publish).expect("the same folder");
        let error = prepare(&folder, &files("other", "3")).map(|_| ()).expect_err("another kind");
        assert!(
            matches!(&error, HandOverError::NotHandedOver { path, kind: "other" } if *path == folder.join(README)),
            "{error}"
        );
        assert_eq!(fs::read(folder.join("x/y")).expect("a file"), b"2");
        assert!(matches!(prepare(Path::new("/"), &files("one", "4")), Err(HandOverError::NotHandedOver { .. })));
        let left: Vec<_> = fs::read_dir(parent.path().join("a")).expect("a folder").collect();
        assert_eq!(left.len(), 1, "nothing is left beside it");
    }

    #[test]
    fn folders_within_folders_are_written_and_replaced() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("qa");
        let nested = |text: &str| {
            let file = ("x/y/z".to_string(), text.as_bytes().to_vec());
            Complete::new("one", BTreeMap::from([file]))
        };
        prepare(&folder, &nested("1")).and_then(Prepared::publish).expect("a folder");
        prepare(&folder, &nested("2")).and_then(Prepared::publish).expect("the same folder");
        assert_eq!(fs::read(folder.join("x/y/z")).expect("a file"), b"2");
        fs::write(folder.join("x/notes"), "mine").expect("a file");
        let error = prepare(&folder, &nested("3")).map(|_| ()).expect_err("somebody else's");
        assert!(
            matches!(&error, HandOverError::NotHandedOver { path, .. } if *path == folder.join("x/notes")),
            "{error}"
        );
    }

    #[test]
    fn what_somebody_puts_into_it_meanwhile_is_not_removed() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("qa");
        prepare(&folder, &files("one", "1")).and_then(Prepared::publish).expect("a folder");
        // It was looked at, and is to be replaced.
        let new = tempfile::tempdir_in(parent.path()).expect("a folder");
        fill(new.path(), files("one", "2").files()).expect("files");
        fs::write(folder.join("notes"), "mine").expect("a file");
        let error = replace(new, &folder, &folder, "one").expect_err("somebody else's");
        assert!(
            matches!(&error, HandOverError::NotHandedOver { path, .. } if *path == folder.join("notes")),
            "{error}"
        );
        assert_eq!(fs::read(folder.join("notes")).expect("a file"), b"mine");
        assert_eq!(fs::read(folder.join("x/y")).expect("a file"), b"1");
        assert_eq!(fs::read_dir(parent.path()).expect("a folder").count(), 1);
    }
}

//! The folder that is handed over: written complete or not at all, and replaced only if it holds nothing else.
//!
//! The end of README.txt is the record of what was written: the digest of every other file, as `sha256sum -c` reads it, and that
//! of the lines above it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use manifest_schema::{Digest, LIMITS};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::error::Error;

const README: &str = "README.txt";

/// Writes files into a folder, which takes the place of one that was written before. `kind` says what the folder is for.
///
/// # Errors
/// [`Error::NotHandedOver`] names what is there already and was not written by this; [`Error::HandOver`].
pub fn write(folder: &Path, kind: &'static str, files: &BTreeMap<String, Vec<u8>>) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::HandOver { path, source }
    };
    let absolute = std::path::absolute(folder).map_err(failed(folder))?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(Error::NotHandedOver { path: folder.into(), kind });
    };
    let is_there = match folder.symlink_metadata() {
        Ok(_) => true,
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(failed(folder)(e)),
    };
    if is_there {
        ours(folder, kind)?;
    }
    fs::create_dir_all(parent).map_err(failed(parent))?;
    // Beside it, so that it can be renamed.
    let prefix = format!(".{}.", name.to_string_lossy());
    let beside = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).map_err(failed(parent))?;
    fill(beside.path(), kind, files).map_err(failed(folder))?;
    if !is_there {
        return bundle::rename_new(beside.path(), &absolute).map_err(failed(folder));
    }
    let exchange = || renameat_with(CWD, beside.path(), CWD, &absolute, RenameFlags::EXCHANGE).map_err(io::Error::from);
    exchange().map_err(failed(folder))?;
    // Somebody may have put something in it since; nothing of theirs is removed.
    if let Err(error) = ours(beside.path(), kind) {
        if let Err(source) = exchange() {
            return Err(Error::HandOver { path: beside.keep(), source });
        }
        return Err(error);
    }
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed(parent))
}

/// Writes the files, and the record behind README.txt. A web server or another user must be able to read them, whatever the umask.
fn fill(folder: &Path, kind: &str, files: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    let readable = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        if let Some(inner) = path.parent().filter(|inner| *inner != folder && !inner.exists()) {
            fs::create_dir(inner)?;
            readable(inner, 0o755)?;
        }
        console::write_new(&path, bytes)?;
        readable(&path, 0o644)
    };
    readable(folder, 0o755)?;
    let mut readme = files.get(README).cloned().unwrap_or_default();
    readme.extend_from_slice(b"\nSHA-256 of the other files\n\n");
    for (name, bytes) in files.iter().filter(|(name, _)| *name != README) {
        put(name, bytes)?;
        readme.extend_from_slice(format!("{}  {name}\n", blobs::sha256(bytes).hex()).as_bytes());
    }
    let end = end(kind, &readme);
    readme.extend_from_slice(end.as_bytes());
    put(README, &readme)?;
    File::open(folder)?.sync_all()
}

/// The last line of README.txt.
fn end(kind: &str, above: &[u8]) -> String {
    format!("handover {kind}: the lines above have {}\n", blobs::sha256(above))
}

/// Whether a folder holds nothing but what was written by this, unchanged; it may be empty.
fn ours(folder: &Path, kind: &'static str) -> Result<(), Error> {
    let foreign = |path: &Path| Error::NotHandedOver { path: path.into(), kind };
    let failed = |path: &Path, source| Error::HandOver { path: path.into(), source };
    let is_folder = |path: &Path| path.symlink_metadata().is_ok_and(|found| found.is_dir());
    if !is_folder(folder) {
        return Err(foreign(folder));
    }
    let recorded = record(folder, kind);
    let mut folders = BTreeSet::from([String::new()]);
    folders.extend(recorded.keys().filter_map(|name| Some(name.rsplit_once('/')?.0.to_string() + "/")));
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
                Some(digest) => read(&path).is_ok_and(|bytes| blobs::sha256(&bytes) == *digest),
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

/// A plain file.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    if !path.symlink_metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LIMITS.config + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_for_something_else_is_not_replaced() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("a/b");
        let files = |text: &str| BTreeMap::from([("x/y".to_string(), text.as_bytes().to_vec())]);
        write(&folder, "one", &files("1")).expect("a folder");
        write(&folder, "one", &files("2")).expect("the same folder");
        let error = write(&folder, "other", &files("3")).expect_err("another kind");
        assert!(
            matches!(&error, Error::NotHandedOver { path, kind: "other" } if *path == folder.join(README)),
            "{error}"
        );
        assert_eq!(fs::read(folder.join("x/y")).expect("a file"), b"2");
        assert!(matches!(write(Path::new("/"), "one", &files("4")), Err(Error::NotHandedOver { .. })));
        let left: Vec<_> = fs::read_dir(parent.path().join("a")).expect("a folder").collect();
        assert_eq!(left.len(), 1, "nothing is left beside it");
    }
}

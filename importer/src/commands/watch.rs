//! `receive --watch`: for stations where the system mounts media. It acts only on folders whose seal verifies, and never asks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use blobs::sha256;
use bundle::{Folder, SEAL, media_folders};
use console::Progress;
use manifest_schema::{Digest, LIMITS};

use crate::commands::receive;
use crate::error::Error;
use crate::media::{AllHere, Wait, Wanted};
use crate::site::Site;
use crate::{From, Received, open};

/// How often the folder is looked at.
const EVERY: Duration = Duration::from_secs(2);
/// How deep below the folder bundles are looked for: a mount point, and a folder in it.
const DEPTH: usize = 2;

/// Receives one bundle after the other, until the program is stopped. What failed is tried again when its medium is put in
/// again.
///
/// # Errors
/// [`Error`] if the folder cannot be read. What is wrong with a bundle is said, and the next one is waited for.
pub(crate) fn watch(
    site: &Site,
    folder: &Path,
    json: bool,
    progress: &Progress,
    state: &mut String,
) -> Result<(), Error> {
    site.may_watch()?;
    let mut done: BTreeSet<Digest> = BTreeSet::new();
    progress.say(format_args!("watching {}", folder.display()));
    loop {
        let found = bundles(folder)?;
        done.retain(|seal| found.iter().any(|(_, other)| other == seal));
        let new = found.iter().find(|(_, seal)| !done.contains(seal));
        let Some((path, seal)) = new else {
            std::thread::sleep(EVERY);
            continue;
        };
        done.insert(*seal);
        // Every medium of a bundle has the same seal, unless a volume was made again.
        let paths: Vec<_> = found.iter().filter(|(_, other)| other == seal).map(|(path, _)| path.clone()).collect();
        match receive(site, folder, paths, progress, state) {
            Ok(Some(received)) => receive::print(received, json)?,
            Ok(None) => {}
            Err(e) => progress.warn(format_args!("{}: {}; {state}", path.display(), console::chain(&e))),
        }
    }
}

fn receive(
    site: &Site,
    folder: &Path,
    paths: Vec<PathBuf>,
    progress: &Progress,
    state: &mut String,
) -> Result<Option<Received>, Error> {
    let mut ours = Vec::new();
    for path in paths {
        // A medium may hold anything: what is not for this site is left alone, and hinders nothing.
        match open::seal(site, std::slice::from_ref(&path), Box::new(AllHere)) {
            Ok(sealed) if sealed.is_recorded(site)? => {
                progress.say(format_args!("{}: received before", path.display()));
                return Ok(None);
            }
            Ok(_) => ours.push(path),
            Err(e) => progress.warn(format_args!("{}: left alone: {}", path.display(), console::chain(&e))),
        }
    }
    let Some(shown) = ours.first().map(|path| path.display().to_string()) else { return Ok(None) };
    progress.say(format_args!("receiving {shown}"));
    let wait = Box::new(Watch { folder: folder.into(), seen: Mutex::new(BTreeSet::new()) });
    crate::receive(site, From::Folders(ours, wait), progress, state).map(Some)
}

/// The folders with a seal, each with the seal's digest.
fn bundles(folder: &Path) -> Result<BTreeSet<(PathBuf, Digest)>, Error> {
    let mut found = BTreeSet::new();
    look(folder, DEPTH, &mut found).map_err(|source| Error::Watch { path: folder.into(), source })?;
    Ok(found)
}

fn look(folder: &Path, depth: usize, found: &mut BTreeSet<(PathBuf, Digest)>) -> std::io::Result<()> {
    for path in media_folders(folder) {
        let seal = Folder::open(&path).and_then(|folder| folder.read_file(SEAL, LIMITS.seal));
        if let Ok(bytes) = seal {
            found.insert((path, sha256(&bytes)));
        }
    }
    if depth == 0 {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            // A medium may be taken out at any moment.
            let _ = look(&entry.path(), depth - 1, found);
        }
    }
    Ok(())
}

/// Waits for the system to mount another medium.
struct Watch {
    folder: PathBuf,
    /// What was there when it did not help.
    seen: Mutex<BTreeSet<(PathBuf, Digest)>>,
}

impl Wait for Watch {
    fn wait(&self, wanted: &Wanted) -> Result<Option<Vec<PathBuf>>, Error> {
        console::say(&format!("waiting for {wanted}"));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = bundles(&self.folder)?;
            if now != *seen {
                let paths = now.iter().map(|(path, _)| path.clone()).collect();
                *seen = now;
                return Ok(Some(paths));
            }
            std::thread::sleep(EVERY);
        }
    }

    fn reject(&self, reason: &Error) {
        tracing::info!("{reason}");
    }
}

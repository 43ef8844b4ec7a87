//! `receive --watch`: for stations where the system mounts media. It acts only on folders whose seal verifies, and never asks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blobs::sha256;
use bundle::{Folder, SEAL, SEAL_SIGNATURE, Seal, media_folders};
use console::Progress;
use manifest_schema::{BundleId, Digest, LIMITS};

use crate::commands::receive;
use crate::error::Error;
use crate::git::{self, When};
use crate::media::{AllHere, Wait, Wanted};
use crate::overrides::Overrides;
use crate::site::{Site, Stage};
use crate::{From, Received, open};

/// How often the folder is looked at.
const EVERY: Duration = Duration::from_secs(2);
/// How deep below the folder bundles are looked for: a mount point, and a folder in it.
const DEPTH: usize = 2;

/// A folder with a seal, of which nothing has been judged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    /// Stream and sequence as the seal says them, so that of two releases the earlier is received first.
    order: (String, u64),
    bundle: BundleId,
    /// The digest of seal and signature.
    seal: Digest,
    path: PathBuf,
    /// Names and sizes of what lies in it: a file that is still being copied changes them.
    content: Digest,
}

impl Found {
    fn key(&self) -> (PathBuf, Digest) {
        (self.path.clone(), self.seal)
    }
}

/// What became of a bundle.
enum Outcome {
    Received(Box<Received>),
    ReceivedBefore,
    LeftAlone,
}

/// Receives one bundle after the other, until the program is stopped. What failed is tried again when its medium is put in
/// again, or its files change. `site` reads keys and configuration afresh for each: they may have changed, and time has passed.
///
/// # Errors
/// [`Error`] if the folder cannot be read. What is wrong with a bundle is said, and the next one is waited for.
pub(crate) fn watch(
    site: &dyn Fn() -> Result<Site, Error>,
    folder: &Path,
    json: bool,
    progress: &Progress,
    state: &mut String,
) -> Result<(), Error> {
    site()?.may_watch()?;
    // With the content that failed; none if it was received, whatever is written beside it later.
    let mut done: BTreeMap<(PathBuf, Digest), Option<Digest>> = BTreeMap::new();
    progress.say(format_args!("watching {}", folder.display()));
    loop {
        let found = bundles(folder)?;
        done.retain(|key, _| found.iter().any(|f| f.key() == *key));
        let is_done = |f: &Found| done.get(&f.key()).is_some_and(|failed| failed.is_none_or(|c| c == f.content));
        let Some(new) = found.iter().find(|f| !is_done(f)) else {
            std::thread::sleep(EVERY);
            continue;
        };
        let paths = found.iter().filter(|f| f.bundle == new.bundle).map(|f| f.path.clone()).collect();
        *state = "nothing was published".into();
        let seen = Arc::new(Mutex::new(found.clone()));
        let wait = Watch { folder: folder.into(), bundle: new.bundle, seen: seen.clone() };
        let outcome = site().and_then(|site| receive(&site, paths, wait, progress, state));
        let failed = matches!(outcome, Err(_) | Ok(Outcome::LeftAlone));
        match outcome {
            Ok(Outcome::Received(received)) => receive::print(*received, "received", json)?,
            Ok(Outcome::ReceivedBefore | Outcome::LeftAlone) => {}
            Err(e) => progress.warn(format_args!("{}: {}; {state}", new.path.display(), console::chain(&e))),
        }
        *state = "nothing is being received".into();
        // What came meanwhile counts only if it was looked at, and what was taken out may be put in again.
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        done.retain(|key, _| seen.iter().any(|f| f.key() == *key));
        let looked_at = seen.iter().filter(|f| f.bundle == new.bundle);
        done.extend(looked_at.map(|f| (f.key(), failed.then_some(f.content))));
    }
}

fn receive(
    site: &Site,
    paths: Vec<PathBuf>,
    wait: Watch,
    progress: &Progress,
    state: &mut String,
) -> Result<Outcome, Error> {
    let mut ours = Vec::new();
    for path in paths {
        // A medium may hold anything: what is not for this site is left alone, and hinders nothing.
        match open::seal(site, std::slice::from_ref(&path), Box::new(AllHere)) {
            Ok(sealed) if sealed.is_recorded(site)? => {
                progress.say(format_args!("{}: received before", path.display()));
                // A run before may have been stopped just before its commit.
                if let (Stage::Production, Some(ledger)) = (site.stage(), site.read_ledger()?) {
                    git::settle(site, &ledger, When::After, progress)?;
                }
                return Ok(Outcome::ReceivedBefore);
            }
            Ok(_) => ours.push(path),
            Err(e) => progress.warn(format_args!("{}: left alone: {}", path.display(), console::chain(&e))),
        }
    }
    let Some(shown) = ours.first().map(|path| path.display().to_string()) else { return Ok(Outcome::LeftAlone) };
    progress.say(format_args!("receiving {shown}"));
    let from = From::Folders(ours, Box::new(wait));
    crate::receive(site, from, &Overrides::default(), progress, state).map(|r| Outcome::Received(Box::new(r)))
}

/// The folders with a seal.
fn bundles(folder: &Path) -> Result<BTreeSet<Found>, Error> {
    let mut found = BTreeSet::new();
    std::fs::read_dir(folder).map_err(|source| Error::Watch { path: folder.into(), source })?;
    look(folder, DEPTH, &mut found);
    Ok(found)
}

/// A medium may be taken out at any moment: what cannot be read is not there.
fn look(folder: &Path, depth: usize, found: &mut BTreeSet<Found>) {
    found.extend(media_folders(folder).into_iter().filter_map(|path| sealed(&path)));
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    if depth > 0 {
        folders.for_each(|entry| look(&entry.path(), depth - 1, found));
    }
}

fn sealed(path: &Path) -> Option<Found> {
    let folder = Folder::open(path).ok()?;
    let bytes = folder.read_file(SEAL, LIMITS.seal).ok()?;
    let signature = folder.read_file(SEAL_SIGNATURE, LIMITS.signature).ok()?;
    let seal = Seal::parse(&bytes).ok()?;
    let (stream, sequence) = seal.name.rsplit_once('-')?;
    let size = |name: &String| folder.open_file(name).map(|f| f.metadata().map_or(0, |m| m.len())).unwrap_or(0);
    let content: String = folder.names().ok()?.iter().map(|name| format!("{} {name}\n", size(name))).collect();
    Some(Found {
        order: (stream.into(), sequence.parse().ok()?),
        bundle: seal.bundle,
        seal: sha256(&[bytes, signature].concat()),
        path: path.into(),
        content: sha256(content.as_bytes()),
    })
}

/// Waits for the system to mount another medium.
struct Watch {
    folder: PathBuf,
    bundle: BundleId,
    /// What was there when receiving began, or came and was looked at, and has not been taken out since.
    seen: Arc<Mutex<BTreeSet<Found>>>,
}

impl Wait for Watch {
    /// Until something changes; if that is another bundle, this one has to be continued later.
    fn wait(&self, wanted: &Wanted) -> Result<Option<Vec<PathBuf>>, Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut said = false;
        loop {
            let (ours, others): (BTreeSet<_>, BTreeSet<_>) =
                bundles(&self.folder)?.into_iter().partition(|f| f.bundle == self.bundle);
            if ours.iter().any(|f| !seen.contains(f)) {
                seen.retain(|f| f.bundle != self.bundle);
                seen.extend(ours.iter().cloned());
                return Ok(Some(ours.into_iter().map(|f| f.path).collect()));
            }
            if others.iter().any(|f| !seen.iter().any(|s| (s.bundle, s.seal) == (f.bundle, f.seal))) {
                return Ok(None);
            }
            seen.retain(|s| ours.union(&others).any(|f| f.key() == s.key()));
            if !std::mem::replace(&mut said, true) {
                console::say(&format!("waiting for {wanted}"));
            }
            std::thread::sleep(EVERY);
        }
    }

    fn reject(&self, reason: &Error) {
        console::say(&format!("left alone: {}", console::chain(reason)));
    }

    fn checked(&self, name: &str, problem: Option<&Error>) {
        match problem {
            None => console::say(&format!("{name} is good, and has to wait for the first volume")),
            Some(problem) => self.reject(problem),
        }
    }
}

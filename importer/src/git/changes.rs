//! Which entry of the ledger a change of a signature tree belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use ledger::{Act, Announced, At, EntryNumber, Ledger};
use manifest_schema::{BundleId, Digest, LIMITS, OutsideText, Reference, Repository};
use signing::{Lookaside, Trust};

use super::GitError;
use super::program::{Files, Git, Id};
use crate::error::Error;

/// A signature tree of a registry.
pub(super) struct Tree {
    /// The registry.
    pub host: String,
    /// Where the tree is, relative to the top of the working tree.
    pub prefix: PathBuf,
}

/// A file that a commit changes.
pub(super) struct Change {
    /// Relative to the top of the working tree.
    pub path: PathBuf,
    /// What it holds; `None` if it is gone.
    pub content: Option<Id>,
}

/// The signatures of an image, in which something has changed.
struct Folder {
    repository: Repository,
    digest: Digest,
    /// The names of files that differ from the last commit.
    changed: BTreeSet<OsString>,
}

/// A signature that no entry has recorded.
struct Unrecorded {
    path: PathBuf,
    repository: Repository,
    digest: Digest,
    bytes: Vec<u8>,
}

/// The changes that are not committed, by the entry that made them. Those of an import or a withdrawal that has not ended are left
/// out. `trust` is in production's own keys.
///
/// # Errors
/// [`GitError::Foreign`] if there are others; or if git, the ledger or the tree fails.
pub(super) fn missing(
    git: &Git,
    trees: &[Tree],
    ledger: &Ledger,
    trust: Option<&Trust>,
) -> Result<BTreeMap<EntryNumber, Vec<Change>>, Error> {
    let mut foreign = BTreeSet::new();
    let mut folders: BTreeMap<PathBuf, Folder> = BTreeMap::new();
    let prefixes: Vec<_> = trees.iter().map(|tree| tree.prefix.as_path()).collect();
    for changed in git.changed(&prefixes)? {
        match trees.iter().find_map(|tree| tree.place(&changed.path)) {
            Some((_, _, name)) if Lookaside::is_temporary(name) => {}
            Some((repository, digest, name)) if is_signature(name) => {
                let path = changed.path.parent().unwrap_or(Path::new("")).to_path_buf();
                let folder = Folder { repository, digest, changed: BTreeSet::new() };
                folders.entry(path).or_insert(folder).changed.insert(name.into());
            }
            _ if changed.is_ignored => {}
            _ => _ = foreign.insert(changed.path),
        }
    }
    let mut found = Found { foreign, ..Found::default() };
    let committed = if folders.is_empty() { BTreeMap::new() } else { git.committed(&prefixes)? };
    for (path, folder) in &folders {
        found.judge(git, ledger, path, folder, committed.get(path).unwrap_or(&Files::new()))?;
    }
    found.settle_unrecorded(ledger, trust)?;
    for entry in found.withdrawals {
        if !has_ended(git, trees, ledger, entry)? {
            found.missing.remove(&entry);
        }
    }
    if found.foreign.is_empty() {
        return Ok(found.missing);
    }
    let paths = found.foreign.iter().map(|path| OutsideText::new(path.to_string_lossy())).collect();
    Err(GitError::Foreign { top: git.top().into(), paths }.into())
}

#[derive(Default)]
struct Found {
    foreign: BTreeSet<PathBuf>,
    missing: BTreeMap<EntryNumber, Vec<Change>>,
    withdrawals: BTreeSet<EntryNumber>,
    unrecorded: Vec<Unrecorded>,
}

impl Found {
    /// Whose the changes in a folder are, of which the last commit has these files.
    fn judge(
        &mut self,
        git: &Git,
        ledger: &Ledger,
        path: &Path,
        folder: &Folder,
        committed: &Files,
    ) -> Result<(), Error> {
        let there = signatures(&git.top().join(path))?;
        let stored = there.iter().map(|(name, bytes)| Ok((name, git.store(bytes)?)));
        let stored = stored.collect::<Result<BTreeMap<_, _>, GitError>>()?;
        let rows = ledger.signatures_in(&folder.repository, &folder.digest)?;
        let withdrawals = ledger.withdrawals(&folder.digest)?.into_iter();
        let withdrawals: Vec<_> =
            withdrawals.filter(|(_, reference)| *reference.repository() == folder.repository).collect();
        let withdrawn = withdrawals.iter().map(|(at, _)| at.entry).max();
        // What goes was made here, and was withdrawn since, under the name that it was made for.
        for (name, id) in committed.iter().filter(|(_, id)| !stored.values().any(|there| there == *id)) {
            let file = blobs::sha256(&git.content(id)?);
            let row = rows.iter().find(|row| row.file == file);
            let may_go = row.is_some_and(|row| {
                let since =
                    |(at, reference): &(At, Reference)| at.entry > row.recorded.entry && *reference == row.reference;
                withdrawals.iter().any(since)
            });
            if !may_go {
                self.foreign.insert(path.join(name));
            }
        }
        for name in &folder.changed {
            let path = path.join(name);
            let (content, before) = (stored.get(name), committed.get(name));
            let by = match content {
                _ if content == before => None,
                // Gone, or one that has moved up: only a withdrawal does that.
                Some(id) if committed.values().any(|there| there == id) => withdrawn,
                None => withdrawn,
                Some(_) => {
                    let bytes = there.get(name).cloned().unwrap_or_default();
                    let file = blobs::sha256(&bytes);
                    // Newest first; the one that made it is the oldest.
                    let by = rows.iter().rfind(|row| row.file == file).map(|row| row.recorded.entry);
                    if by.is_none() {
                        let (repository, digest) = (folder.repository.clone(), folder.digest);
                        self.unrecorded.push(Unrecorded { path, repository, digest, bytes });
                        continue;
                    }
                    by
                }
            };
            match by {
                Some(entry) => {
                    self.withdrawals.extend(by.filter(|_| by == withdrawn));
                    self.missing.entry(entry).or_default().push(Change { path, content: content.cloned() });
                }
                None => _ = self.foreign.insert(path),
            }
        }
        Ok(())
    }

    /// A signature that nothing has recorded was made by a run that was interrupted, or by somebody else.
    fn settle_unrecorded(&mut self, ledger: &Ledger, trust: Option<&Trust>) -> Result<(), Error> {
        if self.unrecorded.is_empty() {
            return Ok(());
        }
        let announced = announced(ledger)?;
        for signature in &self.unrecorded {
            let wanted = announced.iter().filter(|a| a.digest == signature.digest);
            let mut wanted = wanted.filter(|a| *a.reference.repository() == signature.repository);
            let is_ours = match trust.map(|trust| signing::read_simple(&signature.bytes, trust)) {
                Some(Ok(read)) => {
                    let simple = read.get();
                    simple.digest == signature.digest
                        && wanted.any(|a| a.reference.to_string() == simple.reference.raw())
                }
                Some(Err(_)) => false,
                // The key is not at hand, and nothing is signed.
                None => wanted.next().is_some(),
            };
            if !is_ours {
                self.foreign.insert(signature.path.clone());
            }
        }
        Ok(())
    }
}

/// What was announced to be signed by runs that have not ended.
fn announced(ledger: &Ledger) -> Result<BTreeSet<Announced>, Error> {
    let mut open: BTreeMap<(BundleId, bool), Vec<Announced>> = BTreeMap::new();
    for stored in ledger.entries(EntryNumber::FIRST) {
        match stored?.entry.act {
            Act::Signing(signing) => _ = open.insert((signing.subject.bundle, false), signing.images),
            Act::Resigning(signing) => _ = open.insert((signing.subject.bundle, true), signing.images),
            Act::Recorded(done) | Act::Promoted(done) => _ = open.remove(&(done.subject.bundle, false)),
            Act::Resigned(done) => _ = open.remove(&(done.subject.bundle, true)),
            _ => {}
        }
    }
    Ok(open.into_values().flatten().collect())
}

/// Whether all that was withdrawn with an entry is gone.
fn has_ended(git: &Git, trees: &[Tree], ledger: &Ledger, entry: EntryNumber) -> Result<bool, Error> {
    let Some(Act::Withdrawn(withdrawn)) = ledger.entry(entry)?.map(|stored| stored.entry.act) else { return Ok(true) };
    for image in withdrawn.images {
        let repository = image.reference.repository();
        let Some(tree) = trees.iter().find(|tree| tree.host == repository.registry()) else { continue };
        let folder = git.top().join(&tree.prefix).join(Lookaside::path_for(repository, &image.digest));
        let there: BTreeSet<Digest> = signatures(&folder)?.values().map(|bytes| blobs::sha256(bytes)).collect();
        let rows = ledger.signatures_in(repository, &image.digest)?;
        let mut gone = rows.iter().filter(|row| row.recorded.entry < entry && row.reference == image.reference);
        if gone.any(|row| there.contains(&row.file)) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Tree {
    /// Whose signature a file is, by its place, and its name; the path is relative to the top.
    fn place<'p>(&self, path: &'p Path) -> Option<(Repository, Digest, &'p OsStr)> {
        let below = path.strip_prefix(&self.prefix).ok()?;
        let (folder, name) = (below.parent()?, below.file_name()?);
        let (repository, digest) = folder.to_str()?.rsplit_once('@')?;
        let repository = Repository::new(&self.host, repository).ok()?;
        let digest: Digest = digest.replacen('=', ":", 1).parse().ok()?;
        (Lookaside::path_for(&repository, &digest) == folder).then_some((repository, digest, name))
    }
}

fn is_signature(name: &OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.strip_prefix("signature-"));
    number.is_some_and(|number| !number.starts_with('0') && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The signatures in a folder, by the names of their files; links and what is too large are not among them.
fn signatures(folder: &Path) -> Result<BTreeMap<OsString, Vec<u8>>, GitError> {
    let failed = |what| move |source| GitError::File { path: folder.into(), what, source };
    let list = match std::fs::read_dir(folder) {
        Ok(list) => list,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(failed("cannot be listed")(e)),
    };
    let mut found = BTreeMap::new();
    for entry in list {
        let entry = entry.map_err(failed("cannot be listed"))?;
        if !is_signature(&entry.file_name()) || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let mut bytes = Vec::new();
        let file = std::fs::File::open(entry.path()).map_err(failed("a signature in it cannot be read"))?;
        file.take(LIMITS.signature + 1).read_to_end(&mut bytes).map_err(failed("a signature in it cannot be read"))?;
        if bytes.len() as u64 <= LIMITS.signature {
            found.insert(entry.file_name(), bytes);
        }
    }
    Ok(found)
}

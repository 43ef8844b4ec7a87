//! Commits in the repository whose working tree holds production's signatures: one for each entry of the ledger that changed them.
//!
//! Which commit is missing is nowhere noted down. It follows from the ledger, which knows every signature by its digest, and from
//! what git says has changed in the tree: a change that belongs to an entry is committed for that entry, one that belongs to an
//! import which has not ended is left alone, and any other is somebody else's and refused. So a run that was killed at any moment is
//! finished by the next one, and no commit is made twice.

mod changes;
mod error;
mod message;
mod program;
mod settings;

pub use error::GitError;
pub use settings::{Author, GitArgs, GitSettings};

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::PathBuf;

use console::Progress;
use ledger::{EntryNumber, Ledger};

use crate::error::Error;
use crate::site::{Site, make_root};
use changes::{Change, Tree};
use message::Message;
use program::{Commit, Git, PUSH, PushTo};

/// When missing commits are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before anything is signed. What cannot be pushed is said, and stands in nobody's way.
    Before,
    /// When everything is published and recorded. Whatever is wrong then, another run may help.
    After,
}

/// A repository, and the signature trees in its working tree.
struct Repository {
    git: Git,
    trees: Vec<Tree>,
}

/// Makes every commit that the ledger says is missing; nothing, if the site keeps no signatures in git.
///
/// # Errors
/// [`GitError::Foreign`] if somebody else has changed a signature tree: nothing is written then; what git says otherwise. Running
/// it again finishes.
pub fn settle(site: &Site, ledger: &Ledger, when: When, progress: &Progress) -> Result<(), Error> {
    let Some(settings) = site.git() else { return Ok(()) };
    match (settle_as(settings, site, ledger, when, progress), when) {
        (Err(Error::Git(e @ GitError::Failed { what: PUSH, .. })), When::After) => Err(Error::NotPushed(e)),
        (Err(Error::Git(e)), When::After) => Err(Error::NotCommitted(e)),
        (result, _) => result,
    }
}

fn settle_as(
    settings: &GitSettings,
    site: &Site,
    ledger: &Ledger,
    when: When,
    progress: &Progress,
) -> Result<(), Error> {
    let mut repositories: BTreeMap<PathBuf, Repository> = BTreeMap::new();
    for (host, root) in site.signature_trees()? {
        make_root(root)?;
        let git = Git::around(root, settings.author.as_ref())?;
        let tree = Tree { host: host.into(), prefix: git.prefix(root)? };
        let top = git.top().to_path_buf();
        repositories.entry(top).or_insert_with(|| Repository { git, trees: Vec::new() }).trees.push(tree);
    }
    // A file belongs to the innermost tree.
    for repository in repositories.values_mut() {
        repository.trees.sort_by_key(|tree| Reverse(tree.prefix.components().count()));
    }
    let trust = site.production_trust(ledger);
    // All of them before the first is written to.
    let mut missing = Vec::new();
    for repository in repositories.values() {
        ready(repository, settings)?;
        missing.push(changes::missing(&repository.git, &repository.trees, ledger, trust.as_ref())?);
    }
    for (repository, missing) in repositories.values().zip(missing) {
        for (entry, changes) in missing {
            commit(&repository.git, settings, ledger, entry, &changes, progress)?;
        }
        if let Some(remote) = &settings.remote {
            let to = match settings.branch.as_ref().is_some_and(|pattern| pattern.contains('*')) {
                true => PushTo::BranchOfEach,
                false => PushTo::OneBranch,
            };
            match (repository.git.push(remote, to, progress), when) {
                (Err(e), When::Before) => progress.warn(format_args!("{}", console::chain(&e))),
                (result, _) => result?,
            }
        }
    }
    Ok(())
}

/// Whether commits can be made at all: now, and not when everything has been published.
fn ready(repository: &Repository, settings: &GitSettings) -> Result<(), GitError> {
    let git = &repository.git;
    git.is_at_rest()?;
    git.has_identity()?;
    repository.trees.iter().try_for_each(|tree| git.keeps_bytes(&tree.prefix.join("image@sha256=0/signature-1")))?;
    match (&settings.remote, &settings.branch) {
        (None, _) => Ok(()),
        (Some(_), Some(pattern)) => git.is_branch_name(&pattern.replace('*', "name")),
        (Some(_), None) => git.branch().map(|_| ()),
    }
}

fn commit(
    git: &Git,
    settings: &GitSettings,
    ledger: &Ledger,
    entry: EntryNumber,
    changes: &[Change],
    progress: &Progress,
) -> Result<(), Error> {
    let message = Message::of(ledger, entry, changes)?;
    let branch = match (&settings.remote, &settings.branch) {
        (None, _) => None,
        (Some(_), Some(pattern)) => Some(pattern.replace('*', &message.name)),
        (Some(_), None) => Some(git.branch()?),
    };
    match git.commit(changes, &message.text, branch.as_deref())? {
        Commit::Made(id) => {
            progress.say(format_args!("committed in {}: {id}, {}", git.top().display(), message.subject()));
        }
        Commit::NothingChanged => {}
    }
    Ok(())
}

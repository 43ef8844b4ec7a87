//! What can go wrong with the repository of the signatures.

use std::io;
use std::path::PathBuf;

use manifest_schema::OutsideText;

/// The repository of the signatures cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The program.
    #[error("git cannot be run")]
    Run(#[source] io::Error),
    /// The folder is in no working tree.
    #[error("{}: expected a folder in a git working tree: {}", .folder.display(), .says.escaped())]
    NoWorkingTree {
        /// The signature folder.
        folder: PathBuf,
        /// What git said.
        says: OutsideText,
    },
    /// git failed.
    #[error("{}: `git {what}` failed: {}", .top.display(), .says.escaped())]
    Failed {
        /// The top of the working tree.
        top: PathBuf,
        /// The command.
        what: &'static str,
        /// What it said.
        says: OutsideText,
    },
    /// git printed what is not expected of it.
    #[error("{}: `git {what}` printed what is not expected of it", .top.display())]
    Output {
        /// The top of the working tree.
        top: PathBuf,
        /// The command.
        what: &'static str,
    },
    /// Changes that no entry of the ledger accounts for.
    #[error("{}: changed, and the ledger says nothing of it: {}", .top.display(), listed(.paths))]
    Foreign {
        /// The top of the working tree.
        top: PathBuf,
        /// The files, relative to it.
        paths: Vec<OutsideText>,
    },
    /// Signatures would be converted on their way into the repository or out of it.
    #[error("{}: the attribute `{attribute}` of {} is {}: git would change signatures", .top.display(), .path.display(), .value.escaped())]
    Converted {
        /// The top of the working tree.
        top: PathBuf,
        /// A signature's path, relative to it.
        path: PathBuf,
        /// The attribute.
        attribute: &'static str,
        /// Its value.
        value: OutsideText,
    },
    /// Somebody merges or rebases.
    #[error("{}: a merge, rebase, cherry-pick or revert is in progress", .top.display())]
    Busy {
        /// The top of the working tree.
        top: PathBuf,
    },
    /// No name for the author.
    #[error("{}: git does not know who the author is: {}", .top.display(), .says.escaped())]
    NoIdentity {
        /// The top of the working tree.
        top: PathBuf,
        /// What git said.
        says: OutsideText,
    },
    /// No branch is checked out.
    #[error("{}: no branch is checked out, and none is named to push to", .top.display())]
    NoBranch {
        /// The top of the working tree.
        top: PathBuf,
    },
    /// Not the name of a branch.
    #[error("`{}` is not the name of a branch", .0.escaped())]
    BranchName(OutsideText),
    /// Not an author.
    #[error("`{}` is not an author: expected NAME <ADDRESS>", .0.escaped())]
    Author(OutsideText),
    /// Not a remote.
    #[error("`{}` is not a remote repository", .0.escaped())]
    Remote(OutsideText),
    /// The ledger has no such entry, or one of another kind.
    #[error("entry {0} of the ledger changes no signatures")]
    Entry(ledger::EntryNumber),
    /// A file.
    #[error("{}: {what}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// The first of many, and how many more.
fn listed(paths: &[OutsideText]) -> String {
    const SHOWN: usize = 10;
    let mut text: Vec<String> = paths.iter().take(SHOWN).map(|path| path.escaped().to_string()).collect();
    if paths.len() > SHOWN {
        text.push(format!("and {} more", paths.len() - SHOWN));
    }
    text.join(", ")
}

//! Of signatures that are committed.

use console::Fault;

use crate::git::GitError;

pub(super) fn git_fault(error: &GitError) -> Fault {
    match error {
        GitError::NoWorkingTree { .. }
        | GitError::Converted { .. }
        | GitError::Busy { .. }
        | GitError::NoIdentity { .. }
        | GitError::NoBranch { .. }
        | GitError::BranchName(_)
        | GitError::Author(_)
        | GitError::Remote(_) => Fault::Usage,
        // Somebody has changed what clusters are to believe.
        GitError::Foreign { .. } => Fault::Refused,
        GitError::Run(_)
        | GitError::Failed { .. }
        | GitError::Output { .. }
        | GitError::Entry(_)
        | GitError::File { .. } => Fault::Failed,
    }
}

pub(super) fn git_hint(error: &GitError) -> Option<String> {
    let text = match error {
        GitError::Run(_) => "install git, or leave `lookaside_git:` and --git out",
        GitError::NoWorkingTree { .. } => {
            "clone the repository of the signatures (or `git init` one), and name a folder in it with `production: {lookaside: DIR}`"
        }
        GitError::Foreign { .. } => "find out who changed it, and commit it or take it back (`git status` shows more)",
        GitError::Converted { .. } => {
            "except signatures from it in .gitattributes: `signature-* -filter -ident -text -working-tree-encoding`"
        }
        GitError::Busy { .. } => "finish it, or give it up (`git status` says how)",
        GitError::NoIdentity { .. } => {
            "say who, with `lookaside_git: {author: NAME <ADDRESS>}` or --git-author, or configure git's user.name and user.email"
        }
        GitError::NoBranch { .. } => {
            "check a branch out, or name one with `lookaside_git: {branch: NAME}` or --git-branch"
        }
        GitError::BranchName(_) => "name another with `lookaside_git: {branch: NAME}` or --git-branch",
        GitError::Author(_) | GitError::Remote(_) => return None,
        GitError::Failed { what: "push", .. } => {
            "if the branch there has gone on, bring the working tree up to date (`git pull --rebase`), then run the same command again"
        }
        GitError::Failed { .. } | GitError::Output { .. } | GitError::Entry(_) | GitError::File { .. } => {
            "repair the repository, then run the same command again"
        }
    };
    Some(text.into())
}

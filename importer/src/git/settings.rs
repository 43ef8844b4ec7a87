//! Whether signatures are committed, as whom, and where the commits are pushed.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use manifest_schema::OutsideText;
use manifest_schema::text::is_unprintable;

use super::GitError;
use crate::config::GitConfig;

/// The signature folder lies in a git working tree.
#[derive(Debug, Clone, Default, Args)]
pub struct GitArgs {
    /// The folder for signatures lies in a git working tree: commit what an import changes in it
    #[arg(long, env = "SEALIFT_GIT")]
    pub git: bool,
    /// Whom these commits are by [default: as git is configured]
    #[arg(long, value_name = "NAME <ADDRESS>", env = "SEALIFT_GIT_AUTHOR")]
    pub git_author: Option<String>,
    /// Push these commits to this remote repository [default: none]
    #[arg(long, value_name = "REMOTE", env = "SEALIFT_GIT_REMOTE")]
    pub git_remote: Option<String>,
    /// The branch there; with * for the name of each import, one for each [default: the one that is checked out]
    #[arg(long, value_name = "BRANCH", env = "SEALIFT_GIT_BRANCH")]
    pub git_branch: Option<String>,
}

/// How signatures are committed.
#[derive(Debug, Clone, Default)]
pub struct GitSettings {
    /// Whom commits are by; as git is configured if `None`.
    pub author: Option<Author>,
    /// Where commits are pushed.
    pub remote: Option<String>,
    /// The branch there, with `*` for the name of each import; the one that is checked out if `None`.
    pub branch: Option<String>,
}

impl GitSettings {
    /// Joins flags and configuration; flags win. `None` if neither says that signatures are committed.
    ///
    /// # Errors
    /// [`GitError::Author`], [`GitError::Remote`].
    pub fn resolve(args: GitArgs, config: Option<GitConfig>) -> Result<Option<Self>, GitError> {
        let given = args.git || args.git_author.is_some() || args.git_remote.is_some() || args.git_branch.is_some();
        if !given && config.is_none() {
            return Ok(None);
        }
        let config = config.unwrap_or_default();
        let remote = args.git_remote.or(config.remote);
        if let Some(remote) = remote.as_ref().filter(|remote| remote.is_empty() || remote.starts_with('-')) {
            return Err(GitError::Remote(OutsideText::new(remote)));
        }
        Ok(Some(Self {
            author: args.git_author.or(config.author).map(|text| text.parse()).transpose()?,
            remote,
            branch: args.git_branch.or(config.branch),
        }))
    }
}

/// Whom a commit is by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The name.
    pub name: String,
    /// The address.
    pub address: String,
}

impl FromStr for Author {
    type Err = GitError;
    fn from_str(text: &str) -> Result<Self, GitError> {
        let parts = text.strip_suffix('>').and_then(|text| text.split_once('<'));
        let author = parts.map(|(name, address)| Self { name: name.trim().into(), address: address.trim().into() });
        let is_good = |part: &str| !part.is_empty() && !part.contains(|c| matches!(c, '<' | '>') || is_unprintable(c));
        match author.filter(|a| is_good(&a.name) && is_good(&a.address) && a.to_string() == text) {
            Some(author) => Ok(author),
            None => Err(GitError::Author(OutsideText::new(text))),
        }
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <{}>", self.name, self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_is_a_name_and_an_address() {
        let author: Author = "Sealift <sealift@prod.example>".parse().expect("an author");
        assert_eq!((author.name.as_str(), author.address.as_str()), ("Sealift", "sealift@prod.example"));
        for text in ["", "Sealift", "<a@b>", "A <>", "A <a@b> ", "A <a<b>", "A\n <a@b>", "A <a@b>\nB <c@d>", "A<a@b>"] {
            assert!(text.parse::<Author>().is_err(), "{text}");
        }
    }
}

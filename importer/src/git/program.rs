//! The git program, in one working tree.
//!
//! It runs without the variables of this process, so that none of them leads it to another repository or tells it a secret; without
//! hooks, editor, prompts and signatures of its own. Commits are made from a tree of their own beside the index: what else is staged
//! stays staged, content is stored byte for byte whatever attributes say, and a branch that has moved meanwhile is not overwritten.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use console::Progress;
use manifest_schema::OutsideText;

use super::changes::Change;
use super::{Author, GitError};

/// What git may do besides, whatever its configuration says.
const CONFIGURATION: [&str; 5] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.autocrlf=false",
    "core.safecrlf=false",
    "i18n.commitEncoding=UTF-8",
];
/// What is passed on: where its configuration is, how to reach other hosts, and the agent for SSH keys.
const PASSED_ON: [&str; 10] = [
    "PATH",
    "HOME",
    "XDG_CONFIG_HOME",
    "SSH_AUTH_SOCK",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "NO_PROXY",
    "TMPDIR",
];
/// Commits that another repository does not have yet: below it a reference for each branch there.
const TO_PUSH: &str = "refs/sealift/to-push/";

/// The command that pushes.
pub(super) const PUSH: &str = "push";

/// The name of content, a tree or a commit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(String);

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The files of a folder, by their names.
pub(super) type Files = BTreeMap<OsString, Id>;

/// A file that is not as it was committed last.
pub(super) struct Changed {
    /// Relative to the top.
    pub path: PathBuf,
    /// Whether git is told to pass it over.
    pub is_ignored: bool,
}

/// What became of a commit.
pub(super) enum Commit {
    /// It was made.
    Made(Id),
    /// It would have changed nothing.
    NothingChanged,
}

/// Where commits are pushed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PushTo {
    /// Each to a branch of its own.
    BranchOfEach,
    /// All to one branch.
    OneBranch,
}

/// A working tree.
pub(super) struct Git {
    top: PathBuf,
    author: Option<Author>,
}

impl Git {
    /// The working tree that a folder lies in.
    ///
    /// # Errors
    /// [`GitError::NoWorkingTree`], [`GitError::Run`].
    pub fn around(folder: &Path, author: Option<&Author>) -> Result<Self, GitError> {
        let git = Self { top: folder.into(), author: author.cloned() };
        let output = git.run(git.command(&["rev-parse", "--show-toplevel"]), b"")?;
        match output.status.success() {
            true => Ok(Self { top: path(line(output.stdout)), ..git }),
            false => Err(GitError::NoWorkingTree { folder: folder.into(), says: says(&output) }),
        }
    }

    /// The top of the working tree.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// A folder, relative to the top.
    ///
    /// # Errors
    /// [`GitError`].
    pub fn prefix(&self, folder: &Path) -> Result<PathBuf, GitError> {
        let there = Self { top: folder.into(), author: None };
        Ok(path(line(there.output("rev-parse", &["--show-prefix"], b"")?)).components().collect())
    }

    /// # Errors
    /// [`GitError::Busy`] while somebody merges or rebases.
    pub fn is_at_rest(&self) -> Result<(), GitError> {
        let files = ["MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply"];
        let arguments: Vec<_> = files.iter().flat_map(|file| ["--git-path", file]).collect();
        let output = self.output("rev-parse", &arguments, b"")?;
        let mut paths = output.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        match paths.any(|line| self.top.join(OsStr::from_bytes(line)).exists()) {
            true => Err(GitError::Busy { top: self.top.clone() }),
            false => Ok(()),
        }
    }

    /// # Errors
    /// [`GitError::Converted`] if a file at this place would not be stored, or checked out, byte for byte.
    pub fn keeps_bytes(&self, path: &Path) -> Result<(), GitError> {
        const CONVERTING: [&str; 4] = ["filter", "ident", "text", "working-tree-encoding"];
        let mut command = self.command(&[&["check-attr", "-z"], &CONVERTING[..], &["--"]].concat());
        let output = self.run(command.arg(path), b"")?;
        let output = self.good("check-attr", output)?;
        // Path, attribute and value, each with an end.
        let values = output.split(|b| *b == 0).skip(2).step_by(3);
        for (attribute, value) in CONVERTING.into_iter().zip(values) {
            if !matches!((attribute, value), (_, b"unspecified" | b"unset") | ("text", b"auto")) {
                let (top, path, value) =
                    (self.top.clone(), path.into(), OutsideText::new(String::from_utf8_lossy(value)));
                return Err(GitError::Converted { top, path, attribute, value });
            }
        }
        Ok(())
    }

    /// # Errors
    /// [`GitError::NoIdentity`] if no commit could be made.
    pub fn has_identity(&self) -> Result<(), GitError> {
        for variable in ["GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"] {
            let output = self.run(self.command(&["var", variable]), b"")?;
            if !output.status.success() {
                return Err(GitError::NoIdentity { top: self.top.clone(), says: says(&output) });
            }
        }
        Ok(())
    }

    /// The branch that is checked out.
    ///
    /// # Errors
    /// [`GitError::NoBranch`].
    pub fn branch(&self) -> Result<String, GitError> {
        let output = self.run(self.command(&["symbolic-ref", "--quiet", "--short", "HEAD"]), b"")?;
        match String::from_utf8(line(output.stdout)) {
            Ok(branch) if output.status.success() => Ok(branch),
            _ => Err(GitError::NoBranch { top: self.top.clone() }),
        }
    }

    /// # Errors
    /// [`GitError::BranchName`] if no branch can have this name.
    pub fn is_branch_name(&self, name: &str) -> Result<(), GitError> {
        let reference = format!("refs/heads/{name}");
        let output = self.run(self.command(&["check-ref-format", &reference]), b"")?;
        match output.status.success() && !name.starts_with('-') {
            true => Ok(()),
            false => Err(GitError::BranchName(OutsideText::new(name))),
        }
    }

    /// What differs from the last commit below some folders, also what is only staged.
    ///
    /// # Errors
    /// [`GitError`].
    pub fn changed(&self, folders: &[&Path]) -> Result<Vec<Changed>, GitError> {
        let mut command = self.command(&["status", "--porcelain=v1", "-z", "--no-renames"]);
        command.args(["--untracked-files=all", "--ignored=traditional", "--"]);
        command.args(folders.iter().map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder }));
        let output = self.run(command, b"")?;
        let entries = self.good("status", output)?;
        let entries = entries.split(|b| *b == 0).filter(|entry| !entry.is_empty());
        let changed = entries.map(|entry| match (entry.get(..2), entry.get(3..)) {
            (Some(state), Some(name)) => Ok(Changed { path: path(name.to_vec()), is_ignored: state == b"!!" }),
            _ => Err(self.unexpected("status")),
        });
        changed.collect()
    }

    /// The files below some folders in the last commit, by their folders and names.
    ///
    /// # Errors
    /// [`GitError`].
    pub fn committed(&self, folders: &[&Path]) -> Result<BTreeMap<PathBuf, Files>, GitError> {
        let mut files: BTreeMap<PathBuf, Files> = BTreeMap::new();
        if self.head()?.is_none() {
            return Ok(files);
        }
        let mut command = self.command(&["ls-tree", "-r", "-z", "--full-tree", "HEAD", "--"]);
        // No name at all stands for everything.
        command.args(folders.iter().filter(|folder| !folder.as_os_str().is_empty()));
        let output = self.run(command, b"")?;
        for entry in self.good("ls-tree", output)?.split(|b| *b == 0).filter(|entry| !entry.is_empty()) {
            let tab = entry.iter().position(|b| *b == b'\t');
            let parsed = tab.map(|tab| (&entry[..tab], path(entry[tab + 1..].to_vec()))).and_then(|(facts, path)| {
                let id = std::str::from_utf8(facts).ok()?.split(' ').nth(2)?.to_string();
                Some((path.parent()?.to_path_buf(), path.file_name()?.to_os_string(), Id(id)))
            });
            let (folder, name, id) = parsed.ok_or_else(|| self.unexpected("ls-tree"))?;
            files.entry(folder).or_default().insert(name, id);
        }
        Ok(files)
    }

    /// Stores content, and gives its name.
    ///
    /// # Errors
    /// [`GitError`].
    pub fn store(&self, content: &[u8]) -> Result<Id, GitError> {
        self.id("hash-object", &["-w", "--no-filters", "--stdin"], content)
    }

    /// Content that is stored.
    ///
    /// # Errors
    /// [`GitError`].
    pub fn content(&self, id: &Id) -> Result<Vec<u8>, GitError> {
        self.output("cat-file", &["blob", &id.0], b"")
    }

    /// Commits these changes and no others on top of what is checked out, and notes that they have to be pushed to a branch.
    ///
    /// # Errors
    /// [`GitError`].
    pub fn commit(&self, changes: &[Change], message: &str, push_to: Option<&str>) -> Result<Commit, GitError> {
        let head = self.head()?;
        let nothing = "0".repeat(head.as_ref().map_or(40, |id| id.0.len()));
        let mut list = Vec::new();
        for Change { path, content } in changes {
            let (mode, id) = content.as_ref().map_or(("0", nothing.as_str()), |id| ("100644", id.0.as_str()));
            list.extend([format!("{mode} {id}\t").as_bytes(), path.as_os_str().as_bytes(), b"\0"].concat());
        }
        // First, so that whatever stops this here leaves changes that the next run finds.
        self.output("update-index", &["-z", "--index-info"], &list)?;
        let failed =
            |source| GitError::File { path: std::env::temp_dir(), what: "no folder can be made in it", source };
        let beside = tempfile::tempdir().map_err(failed)?;
        let index = beside.path().join("index");
        let with_index = |what, arguments: &[&str], input: &[u8]| {
            let mut command = self.command(&[&[what], arguments].concat());
            let output = self.run(command.env("GIT_INDEX_FILE", &index), input)?;
            self.good(what, output)
        };
        with_index("read-tree", &[if head.is_some() { "HEAD" } else { "--empty" }], b"")?;
        with_index("update-index", &["-z", "--index-info"], &list)?;
        let tree = self.parsed("write-tree", with_index("write-tree", &[], b"")?)?;
        if head.is_some() && self.id("rev-parse", &["--verify", "HEAD^{tree}"], b"")? == tree {
            return Ok(Commit::NothingChanged);
        }
        let mut arguments = vec![tree.0.as_str(), "-F", "-"];
        arguments.extend(head.iter().flat_map(|head| ["-p", head.0.as_str()]));
        let commit = self.id("commit-tree", &arguments, message.as_bytes())?;
        let old = head.map_or(nothing, |head| head.0);
        let mut moves = format!("update HEAD\0{commit}\0{old}\0");
        if let Some(branch) = push_to {
            moves += &format!("update {TO_PUSH}{branch}\0{commit}\0\0");
        }
        self.output("update-ref", &["-m", "sealift-import", "-z", "--stdin"], moves.as_bytes())?;
        Ok(Commit::Made(commit))
    }

    /// Pushes what has to be pushed: where each import has a branch there, its commit, otherwise all that is checked out.
    ///
    /// # Errors
    /// [`GitError`]; what has been pushed is not pushed again.
    pub fn push(&self, remote: &str, to: PushTo, progress: &Progress) -> Result<(), GitError> {
        let list = self.output("for-each-ref", &["--format=%(objectname) %(refname)", TO_PUSH], b"")?;
        for line in list.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let line = std::str::from_utf8(line).ok().and_then(|line| line.split_once(' '));
            let parts = line.and_then(|(id, name)| Some((id, name, name.strip_prefix(TO_PUSH)?)));
            let (id, name, branch) = parts.ok_or_else(|| self.unexpected("for-each-ref"))?;
            // After a rebase the commit that was noted is not the one that is checked out.
            let from = if to == PushTo::BranchOfEach { id } else { "HEAD" };
            self.output(PUSH, &["--quiet", "--", remote, &format!("{from}:refs/heads/{branch}")], b"")?;
            self.output("update-ref", &["-d", name, id], b"")?;
            progress.say(format_args!("pushed to {branch}"));
        }
        Ok(())
    }

    /// The last commit, if there is one.
    fn head(&self) -> Result<Option<Id>, GitError> {
        let output = self.run(self.command(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]), b"")?;
        match output.status.success() {
            true => self.parsed("rev-parse", output.stdout).map(Some),
            false => Ok(None),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.env_clear().current_dir("/");
        command.envs(PASSED_ON.iter().filter_map(|name| std::env::var_os(name).map(|value| (name, value))));
        command.envs([("LC_ALL", "C.UTF-8"), ("GIT_OPTIONAL_LOCKS", "0"), ("GIT_LITERAL_PATHSPECS", "1")]);
        command.envs([("GIT_TERMINAL_PROMPT", "0"), ("GIT_ASKPASS", "false"), ("GIT_EDITOR", "false")]);
        command.envs([("SSH_ASKPASS", "false"), ("SSH_ASKPASS_REQUIRE", "force")]);
        if let Some(author) = &self.author {
            for who in ["AUTHOR", "COMMITTER"] {
                command.env(format!("GIT_{who}_NAME"), &author.name).env(format!("GIT_{who}_EMAIL"), &author.address);
            }
        }
        let folder = std::path::absolute(&self.top).unwrap_or_else(|_| self.top.clone());
        command.arg("-C").arg(folder).args(CONFIGURATION.iter().flat_map(|setting| ["-c", setting])).args(arguments);
        command
    }

    fn run(&self, command: impl std::borrow::BorrowMut<Command>, input: &[u8]) -> Result<Output, GitError> {
        let mut command = command;
        let command = command.borrow_mut().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(GitError::Run)?;
        // One that ends without reading says why by itself.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input));
        child.wait_with_output().map_err(GitError::Run)
    }

    fn good(&self, what: &'static str, output: Output) -> Result<Vec<u8>, GitError> {
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(GitError::Failed { top: self.top.clone(), what, says: says(&output) }),
        }
    }

    fn output(&self, what: &'static str, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, GitError> {
        let output = self.run(self.command(&[&[what], arguments].concat()), input)?;
        self.good(what, output)
    }

    fn id(&self, what: &'static str, arguments: &[&str], input: &[u8]) -> Result<Id, GitError> {
        self.parsed(what, self.output(what, arguments, input)?)
    }

    fn parsed(&self, what: &'static str, output: Vec<u8>) -> Result<Id, GitError> {
        match String::from_utf8(line(output)) {
            Ok(id) if matches!(id.len(), 40 | 64) && id.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(Id(id)),
            _ => Err(self.unexpected(what)),
        }
    }

    fn unexpected(&self, what: &'static str) -> GitError {
        GitError::Output { top: self.top.clone(), what }
    }
}

/// What a program said that failed; of several lines the last ones matter as much as the first.
fn says(output: &Output) -> OutsideText {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let text = lines.join("; ");
    OutsideText::new(if text.is_empty() { output.status.to_string() } else { text })
}

fn line(mut output: Vec<u8>) -> Vec<u8> {
    if output.last() == Some(&b'\n') {
        output.pop();
    }
    output
}

fn path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

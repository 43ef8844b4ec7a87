//! Signatures in a git working tree: one commit for each import, made by the real git.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod imports;
mod interrupted;
mod refused;
mod remote;

use std::fs;
use std::path::PathBuf;

use manifest_schema::{Reference, Timestamp};
use serde_json::json;
use signing::Lookaside;
use testkit::layout::{API, digest, fixtures};
use testkit::{Key, Ran, Site, command, run, run_ok};

const NEEDS: &[&str] = &["docker-registry", "git"];
const NAME: &str = "payments/api:2.3.1";
/// Where the tree lies in the repository.
const TREE: &str = "production/sigstore";

/// A site whose signatures lie in a repository that has one commit.
struct Repository {
    site: Site,
    path: PathBuf,
}

impl Repository {
    fn new() -> Self {
        let mut site = Site::new();
        let path = site.scratch("signatures");
        site.import["production"]["lookaside"] = json!(path.join(TREE));
        site.import["production"]["lookaside_git"] = json!({ "author": "Sealift <sealift@prod.example>" });
        let repository = Self { site, path };
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository.by_hand("README", "Signatures of production.\n");
        repository
    }

    /// Somebody's git: in the working tree, with a name.
    fn command(&self) -> std::process::Command {
        let mut command = command("git", &self.site.scratch("somebody"));
        command.current_dir(&self.path).args(["-c", "user.name=Somebody", "-c", "user.email=somebody@prod.example"]);
        command
    }

    #[track_caller]
    fn git(&self, args: &[&str]) -> String {
        run_ok(self.command().args(args)).stdout.trim().into()
    }

    #[track_caller]
    fn by_hand(&self, name: &str, text: &str) {
        fs::write(self.path.join(name), text).unwrap();
        self.git(&["add", name]);
        self.git(&["commit", "--quiet", "-m", "By hand"]);
    }

    fn commits(&self) -> Vec<String> {
        self.git(&["log", "--reverse", "--format=%s"]).lines().skip(1).map(Into::into).collect()
    }

    fn message(&self) -> String {
        self.git(&["log", "-1", "--format=%B"])
    }

    fn state(&self) -> String {
        self.git(&["status", "--porcelain", "--untracked-files=all"])
    }

    /// The files of the tree in the last commit.
    fn committed(&self) -> Vec<String> {
        let list = self.git(&["ls-tree", "-r", "--name-only", "HEAD", "--", TREE]);
        list.lines().map(|line| line[TREE.len() + 1..].into()).collect()
    }

    fn there(&self) -> Vec<String> {
        common::files(&self.path.join(TREE)).into_keys().collect()
    }

    fn import(&self, args: &[&str]) -> Ran {
        run(&mut self.site.import(args))
    }

    fn image(&self) -> Reference {
        format!("{}/{NAME}", self.site.production.host()).parse().unwrap()
    }

    /// The folder of the index's signatures, relative to the tree.
    fn folder(&self) -> PathBuf {
        Lookaside::path_for(self.image().repository(), &digest(&fixtures(), API))
    }

    fn signature_by(&self, key: &Key) -> Vec<u8> {
        let image = digest(&fixtures(), API);
        key.secret.sign_simple(&self.image(), &image, Timestamp::now(), "test").unwrap()
    }

    fn last_entry(&self) -> String {
        common::ledger(&self.site).head().unwrap().number.to_string()
    }
}

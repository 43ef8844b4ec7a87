//! Branches and remote repositories.

use std::fs;

use serde_json::json;
use testkit::layout::BUSYBOX;
use testkit::{command, need, run_ok};

use crate::common::acts;
use crate::{NEEDS, Repository};

#[test]
fn each_import_has_a_branch_at_a_remote_repository_and_one_that_is_down_is_pushed_to_later() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    let remote = repository.site.scratch("remote");
    let settings = json!({ "author": "Sealift <sealift@prod.example>", "remote": "origin", "branch": "review/*" });
    repository.site.import["production"]["lookaside_git"] = settings;
    repository.git(&["remote", "add", "origin", remote.join("signatures.git").to_str().unwrap()]);
    let bundle = repository.site.packed(1);
    // Pushing is tried when everything is there, and does not stand in the way of the next import.
    for _ in 0..2 {
        let ran = repository.site.receive(&bundle, &[]).expect_code(1).expect_stderr("`git push` failed");
        assert!(ran.stderr.contains("published and recorded; its signatures are not committed and pushed"), "{ran}");
        assert!(ran.stderr.contains("the signatures are committed, and not pushed"), "{ran}");
    }
    assert_eq!(repository.commits().len(), 1);
    repository.site.receive(&repository.site.packed(2), &[]).expect_code(1).expect_stderr("warning: ");
    assert_eq!(acts(&repository.site).iter().filter(|act| **act == "recorded").count(), 2);
    let home = repository.site.scratch("somebody");
    let bare =
        |args: &[&str]| run_ok(command("git", &home).arg("-C").arg(remote.join("signatures.git")).args(args)).stdout;
    run_ok(repository.command().args(["init", "--quiet", "--bare"]).arg(remote.join("signatures.git")));
    repository.site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(bare(&["for-each-ref", "--format=%(refname)"]), "refs/heads/review/payments-1.entry-4\n");
    assert_eq!(bare(&["rev-parse", "review/payments-1.entry-4"]).trim(), repository.git(&["rev-parse", "HEAD"]));
    // A branch that was merged and removed does not come back.
    bare(&["update-ref", "-d", "refs/heads/review/payments-1.entry-4"]);
    repository.site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(bare(&["for-each-ref"]), "");
    let image = repository.image().to_string();
    repository.import(&["withdraw", &image, "--reason", "CVE-2026-1"]).expect_code(0);
    let branch = format!("refs/heads/review/withdrawn.entry-{}", repository.last_entry());
    assert_eq!(bare(&["for-each-ref", "--format=%(refname)"]).trim(), branch);

    // To one branch: also after a rebase.
    repository.site.import["production"]["lookaside_git"]["branch"] = json!(null);
    repository.git(&["push", "--quiet", "origin", "main"]);
    bare(&["symbolic-ref", "HEAD", "refs/heads/main"]);
    let other = repository.site.scratch("other").join("clone");
    run_ok(repository.command().args(["clone", "--quiet"]).arg(remote.join("signatures.git")).arg(&other));
    fs::write(other.join("README"), "changed").unwrap();
    run_ok(repository.command().current_dir(&other).args(["commit", "--quiet", "--all", "-m", "Elsewhere"]));
    run_ok(repository.command().current_dir(&other).args(["push", "--quiet", "origin", "main"]));
    let allowed = ["--override", "withdrawn", "--reason", "the report was wrong"];
    let third = repository.site.packed(3);
    repository.site.receive(&third, &allowed).expect_code(1).expect_stderr("git pull --rebase");
    repository.git(&["pull", "--quiet", "--rebase", "origin", "main"]);
    repository.site.receive(&third, &allowed).expect_code(0);
    assert_eq!(bare(&["rev-parse", "main"]).trim(), repository.git(&["rev-parse", "HEAD"]));
    assert_eq!(repository.commits().last().unwrap(), "Import payments-3: 3 signatures");
}

#[test]
fn the_branch_of_an_import_ends_with_it() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    let remote = repository.site.scratch("remote").join("signatures.git");
    repository.site.import["production"]["lookaside_git"] =
        json!({ "author": "Sealift <sealift@prod.example>", "remote": remote, "branch": "review/*" });
    repository.site.receive(&repository.site.packed(1), &[]).expect_code(1);
    repository.site.list_fixtures(&[BUSYBOX]);
    repository.site.receive(&repository.site.packed(2), &[]).expect_code(1);
    run_ok(repository.command().args(["init", "--quiet", "--bare"]).arg(&remote));
    repository.import(&["resign"]).expect_code(0);
    let heads = ["HEAD~1", "HEAD"].map(|commit| repository.git(&["rev-parse", commit]));
    let mut list = repository.command();
    let list = run_ok(list.arg("-C").arg(&remote).args(["for-each-ref", "--format=%(objectname)"])).stdout;
    assert_eq!(list.lines().collect::<Vec<_>>(), heads);
}

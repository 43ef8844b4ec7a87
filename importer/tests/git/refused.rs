//! What may not become part of a commit, and where none can be made.

use std::fs;
use std::path::Path;

use serde_json::json;
use signing::Lookaside;
use testkit::{Key, need, run, run_ok};

use crate::{NEEDS, Repository, TREE};

#[test]
fn changes_of_somebody_else_are_refused_by_name_before_anything_is_signed() {
    if !need(NEEDS) {
        return;
    }
    let repository = Repository::new();
    let site = &repository.site;
    site.receive(&site.packed(1), &[]).expect_code(0);
    let head = repository.git(&["rev-parse", "HEAD"]);
    let next = site.packed(2);
    let tree = repository.path.join(TREE);
    let signature = repository.folder().join("signature-1");
    let foreign = repository.signature_by(&Key::new(&site.import_dir(), "foreign"));
    let ours = repository.signature_by(&site.production_key);
    let elsewhere = Lookaside::path_for(repository.image().repository(), &blobs::sha256(b"x")).join("signature-1");
    type Change<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let write = |path: &Path, bytes: &[u8]| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let (second, elsewhere) = (repository.folder().join("signature-2"), elsewhere.as_path());
    let names = |path: &Path| path.display().to_string();
    let (signature_name, second_name, elsewhere_name) = (names(&signature), names(&second), names(elsewhere));
    // A signature of ours, where nodes do not look for it.
    let recorded = fs::read(tree.join(&signature)).unwrap();
    let unread_name = signature_name.replace("sha256=", "sha256:");
    let changes: [Change<'_>; 9] = [
        (&unread_name, Box::new(|| write(&tree.join(&unread_name), &recorded))),
        ("notes", Box::new(|| write(&tree.join("notes"), b"mine"))),
        (&signature_name, Box::new(|| write(&tree.join(&signature), b"changed"))),
        (&signature_name, Box::new(|| write(&tree.join(&signature), &ours))),
        (&signature_name, Box::new(|| fs::remove_file(tree.join(&signature)).unwrap())),
        (&second_name, Box::new(|| write(&tree.join(&second), &foreign))),
        // By the production key, but not announced in the ledger.
        (&second_name, Box::new(|| write(&tree.join(&second), &ours))),
        (&elsewhere_name, Box::new(|| write(&tree.join(elsewhere), &ours))),
        (
            &second_name,
            Box::new(|| {
                write(&tree.join(&second), &foreign);
                repository.git(&["add", TREE]);
                fs::remove_file(tree.join(&second)).unwrap();
            }),
        ),
    ];
    let image = repository.image().to_string();
    for (number, (name, change)) in changes.iter().enumerate() {
        change();
        let before = (site.traces(), repository.there());
        for command in [
            vec!["receive", next.to_str().unwrap()],
            vec!["resign"],
            vec!["withdraw", &image, "--reason", "CVE-2026-1"],
        ] {
            let ran = repository.import(&command).expect_code(3).expect_stderr("the ledger says nothing of it: ");
            assert!(ran.stderr.contains(*name), "{number}: {name}\n{ran}");
        }
        assert_eq!((site.traces(), repository.there()), before, "{number}");
        assert_eq!(repository.git(&["rev-parse", "HEAD"]), head);
        repository.git(&["reset", "--quiet", "--hard"]);
        repository.git(&["clean", "--quiet", "--force", "-d"]);
    }
    site.receive(&next, &[]).expect_code(0);
    assert_eq!(repository.state(), "");
}

#[test]
fn nothing_of_the_environment_and_no_hook_has_a_part_in_it() {
    if !need(NEEDS) {
        return;
    }
    let repository = Repository::new();
    let (site, ran) = (&repository.site, repository.site.scratch("ran"));
    for hook in ["pre-commit", "commit-msg", "prepare-commit-msg", "post-commit", "reference-transaction", "pre-push"] {
        use std::os::unix::fs::PermissionsExt;
        let path = repository.path.join(".git/hooks").join(hook);
        fs::write(&path, format!("#!/bin/sh\nenv >{}/{hook}\nexit 1\n", ran.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    // Nor what git is told to pass over.
    fs::write(repository.path.join(".git/info/exclude"), "sigstore\nnotes\n").unwrap();
    fs::create_dir_all(repository.path.join(TREE)).unwrap();
    fs::write(repository.path.join(TREE).join("notes"), "mine").unwrap();
    for (key, value) in [("commit.gpgSign", "true"), ("gpg.program", "false"), ("core.autocrlf", "true")] {
        run_ok(repository.command().args(["config", key, value]));
    }
    let bundle = site.packed(1);
    let elsewhere = site.scratch("elsewhere");
    let mut receive = site.import(&["receive"]);
    receive.arg(&bundle).envs([("GIT_DIR", &elsewhere), ("GIT_INDEX_FILE", &elsewhere.join("index"))]);
    receive.envs([("GIT_WORK_TREE", &elsewhere), ("GIT_OBJECT_DIRECTORY", &elsewhere)]);
    receive.envs([("GIT_AUTHOR_NAME", "Mallory"), ("GIT_AUTHOR_DATE", "2001-01-01T00:00:00Z")]);
    run(&mut receive).expect_code(0);
    assert_eq!(repository.git(&["log", "-1", "--format=%an %cn %G?"]), "Sealift Sealift N");
    assert!(!repository.git(&["log", "-1", "--format=%ad"]).contains("2001"));
    assert_eq!(fs::read_dir(&ran).unwrap().count(), 0, "a hook ran");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    let file = format!("HEAD:{TREE}/{}/signature-1", repository.folder().display());
    let committed = repository.command().args(["cat-file", "blob", &file]).output().unwrap().stdout;
    assert_eq!(committed, fs::read(repository.path.join(TREE).join(repository.folder()).join("signature-1")).unwrap());
}

#[test]
fn a_repository_that_cannot_take_a_commit_is_refused_before_anything_is_published() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    let bundle = repository.site.packed(1);
    let before = repository.site.traces();
    let refused = |repository: &Repository, says: &str| {
        repository.site.receive(&bundle, &[]).expect_code(2).expect_stderr(says);
        assert_eq!(repository.site.traces(), before, "{says}");
    };
    let good = repository.site.import["production"].clone();
    let broken = [
        (json!({ "author": "Sealift" }), "expected NAME <ADDRESS>"),
        (json!({ "remote": "--upload-pack=x" }), "is not a remote repository"),
        (json!({ "author": "S <s@x>", "remote": "origin", "branch": "a..b/*" }), "is not the name of a branch"),
        (json!({ "author": "S <s@x>", "remote": "origin", "branch": "-x" }), "is not the name of a branch"),
        (json!({}), "git does not know who the author is"),
    ];
    run_ok(repository.command().args(["config", "user.useConfigOnly", "true"]));
    for (settings, says) in broken {
        repository.site.import["production"]["lookaside_git"] = settings;
        refused(&repository, says);
    }
    // git says that over several lines, some of them empty.
    let ran = repository.site.receive(&bundle, &[]).expect_code(2);
    assert!(ran.stderr.contains("Please tell me who you are") && !ran.stderr.contains("; ;"), "{ran}");
    repository.site.import["production"] = good.clone();
    repository.site.import["production"]["lookaside"] = json!("sigstore/");
    refused(&repository, "expected a folder in a git working tree");
    repository.site.import["production"] = good;
    for attributes in ["* filter=lfs", "sigstore/** text", "signature-* ident"] {
        fs::create_dir_all(repository.path.join("production")).unwrap();
        repository.by_hand("production/.gitattributes", &format!("{attributes}\n"));
        refused(&repository, "git would change signatures");
    }
    let good = "* text=auto filter=lfs\nsignature-* -filter -ident -text -working-tree-encoding\n";
    repository.by_hand("production/.gitattributes", good);
    let head = repository.git(&["rev-parse", "HEAD"]);
    for name in ["MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply"] {
        let path = repository.path.join(".git").join(name);
        fs::write(&path, &head).unwrap();
        refused(&repository, "is in progress");
        fs::remove_file(path).unwrap();
    }
    repository.git(&["checkout", "--quiet", "--detach"]);
    repository.site.import["production"]["lookaside_git"]["remote"] = json!("origin");
    refused(&repository, "no branch is checked out");
    // Without a remote any commit will do, and the flags say the same.
    repository.site.import["production"].as_object_mut().unwrap().remove("lookaside_git");
    repository.site.receive(&bundle, &["--git-author", "Ada <ada@prod.example>"]).expect_code(0);
    assert_eq!(repository.commits().last().unwrap(), "Import payments-1: 3 signatures");
}

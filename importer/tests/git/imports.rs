//! One commit for each act that changes signatures.

use std::fs;

use serde_json::json;
use testkit::layout::{API, BUSYBOX, digest, fixtures};
use testkit::{Key, Node, need, run_ok};

use crate::common::acts;
use crate::{NEEDS, Repository, TREE, common};

#[test]
fn an_import_is_one_commit_and_a_clone_of_it_is_enough_for_a_cluster() {
    if !need(&[NEEDS, &["skopeo", "podman"]].concat()) {
        return;
    }
    let mut repository = Repository::new();
    repository.site.list_fixtures(&[API, BUSYBOX]);
    // What somebody else is about to commit elsewhere stays as it is.
    fs::write(repository.path.join("README"), "Signatures of production, and how to read them.\n").unwrap();
    repository.git(&["add", "README"]);
    fs::write(repository.path.join("notes"), "mine").unwrap();
    let (site, bundle) = (&repository.site, repository.site.packed(7));
    let ran = site.receive(&bundle, &[]).expect_code(0).expect_stderr("committed in ");
    assert_eq!(acts(site), ["created", "begun", "signing", "recorded"], "{ran}");
    let files = repository.there();
    assert_eq!(repository.commits(), [format!("Import payments-7: {} signatures", files.len())]);
    assert_eq!(repository.committed(), files);
    assert_eq!(repository.git(&["diff", "--name-only", "HEAD~1", "HEAD"]).lines().count(), files.len());
    assert_eq!(repository.state(), "M  README\n?? notes");

    let (message, ledger) = (repository.message(), common::ledger(site));
    let image = digest(&fixtures(), API);
    for line in [
        "Sealift-Stream: payments".into(),
        "Sealift-Sequence: 7".into(),
        format!("Sealift-Image: {}@{image}", repository.image()),
        format!("Sealift-Ledger: {}", ledger.id()),
        format!("Sealift-Entry: {}", repository.last_entry()),
    ] {
        assert!(message.lines().any(|there| there == line), "{line}\n{message}");
    }
    assert_eq!(message.matches("Sealift-Image").count(), 2, "{message}");
    let who = repository.git(&["log", "-1", "--format=%an <%ae> %cn <%ce>"]);
    assert_eq!(who, "Sealift <sealift@prod.example> Sealift <sealift@prod.example>");

    // Nothing is left to do, and nothing is done.
    let head = repository.git(&["rev-parse", "HEAD"]);
    site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(repository.git(&["rev-parse", "HEAD"]), head);

    let clone = site.scratch("clone");
    run_ok(repository.command().args(["clone", "--quiet"]).arg(&repository.path).arg(clone.join("signatures")));
    let folder = site.scratch("handed").join("production");
    let url = format!("file://{}", clone.join("signatures").join(TREE).display());
    let mut handover = site.import(&["handover", "production", "--lookaside-url", &url]);
    run_ok(handover.arg(&folder).arg("--key-dir").arg(folder.join("keys")));
    let node = Node::new(&folder, site.scratch("node"));
    node.pulls(&repository.image().to_string()).expect_code(0);
    fs::remove_dir_all(clone.join("signatures")).unwrap();
    node.refuses(&repository.image().to_string());
}

#[test]
fn what_is_withdrawn_under_one_name_is_one_commit_and_does_not_stand_for_others() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    repository.site.list_api_as("payments/api", "alias");
    repository.site.list_api_as("payments/web", "1.0");
    repository.site.receive(&repository.site.packed(1), &[]).expect_code(0);
    let host = repository.site.production.host().to_string();
    let withdraw = |name: &str| {
        repository.import(&["withdraw", &format!("{host}/{name}"), "--reason", "a mistake"]).expect_code(0);
        assert!(repository.commits().last().unwrap().starts_with("Withdraw "), "{:?}", repository.commits());
        assert_eq!(repository.state(), "");
    };
    let by_hand = repository.path.join(TREE).join(repository.folder()).join("signature-1");
    withdraw("payments/web:1.0");
    fs::remove_file(&by_hand).unwrap();
    repository.import(&["resign"]).expect_code(3).expect_stderr("signature-1");
    repository.git(&["checkout", "--quiet", "--", "."]);
    withdraw("payments/api:alias");
    // What was withdrawn was the other name.
    let before = repository.commits();
    fs::remove_file(&by_hand).unwrap();
    repository.import(&["resign"]).expect_code(3).expect_stderr("the ledger says nothing of it");
    assert_eq!(repository.commits(), before);
    repository.git(&["checkout", "--quiet", "--", "."]);
    // Its content is as it was committed.
    fs::set_permissions(&by_hand, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    repository.import(&["resign"]).expect_code(3).expect_stderr("signature-1");
}

#[test]
fn what_resign_adds_and_withdraw_removes_is_committed_and_what_stays_moves_up() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    repository.site.list_fixtures(&[API, BUSYBOX]);
    let bundle = repository.site.packed(1);
    repository.site.receive(&bundle, &[]).expect_code(0);
    // Somebody adds a signature of his own, and commits it.
    let kept = repository.signature_by(&Key::new(&repository.site.import_dir(), "kept"));
    let folder = repository.path.join(TREE).join(repository.folder());
    fs::write(folder.join("signature-2"), &kept).unwrap();
    repository.git(&["add", TREE]);
    repository.git(&["commit", "--quiet", "-m", "By hand"]);

    let second = Key::new(&repository.site.import_dir(), "second");
    repository.site.import["production"]["sign"]["key"] = "second.secret.asc".into();
    let files = repository.there().len() - 1;
    repository.import(&["resign"]).expect_code(0);
    assert_eq!(repository.commits().last().unwrap(), &format!("Sign payments-1 again: {files} signatures"));
    assert!(repository.message().contains(&format!("Sealift-Entry: {}", repository.last_entry())));
    assert_eq!((repository.committed(), repository.state()), (repository.there(), String::new()));

    // What was signed again has ended: one more by the same key is somebody else's.
    fs::write(folder.join("signature-4"), repository.signature_by(&second)).unwrap();
    repository.import(&["resign"]).expect_code(3).expect_stderr("signature-4");
    fs::remove_file(folder.join("signature-4")).unwrap();

    let image = repository.image().to_string();
    let before = repository.there();
    let lock = repository.path.join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    repository.import(&["withdraw", &image, "--reason", "CVE-2026-1\nSealift-Entry: 1"]).expect_code(1);
    fs::remove_file(&lock).unwrap();
    // What nobody has withdrawn does not go with it.
    fs::remove_dir_all(&folder).unwrap();
    repository.import(&["resign"]).expect_code(3).expect_stderr("signature-2");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("signature-1"), &kept).unwrap();
    repository.import(&["resign"]).expect_code(0);
    assert_eq!(repository.commits().last().unwrap(), "Withdraw 1 image");
    let message = repository.message();
    assert!(message.contains("Sealift-Reason: CVE-2026-1\\u{a}Sealift-Entry: 1\n"), "{message}");
    assert!(message.contains(&format!("Sealift-Image: {image}@{}\n", digest(&fixtures(), API))), "{message}");
    assert_eq!((repository.committed(), repository.state()), (repository.there(), String::new()));
    let gone: Vec<_> = before.iter().filter(|name| !repository.there().contains(name)).collect();
    assert_eq!(gone.len(), 6, "{gone:?}");
    let stays = run_ok(
        repository.command().args(["show", &format!("HEAD:{TREE}/{}/signature-1", repository.folder().display())]),
    );
    assert_eq!(stays.stdout, String::from_utf8_lossy(&kept));
    run_ok(&mut repository.site.import(&["ledger", "verify"]));
}

#[test]
fn a_promotion_is_a_commit_and_what_waits_is_none() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    let (production, staging) = (repository.site.production.host(), testkit::Registry::start());
    repository.site.import["staging"] = json!({
        "to": [{ "from": production, "to": staging.host() }],
        "lookaside": repository.path.join("qa-sigstore"),
    });
    let bundle = repository.site.packed(1);
    repository.site.receive(&bundle, &[]).expect_code(0);
    assert!(repository.commits().is_empty());
    let lock = repository.path.join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    fs::create_dir_all(repository.path.join(TREE)).unwrap();
    fs::write(repository.path.join(TREE).join("notes"), "mine").unwrap();
    repository.import(&["promote", "payments-1"]).expect_code(3).expect_stderr("sigstore/notes");
    assert_eq!(repository.site.production.tags().len(), 0);
    fs::remove_file(repository.path.join(TREE).join("notes")).unwrap();
    let ran = repository.import(&["promote", "payments-1"]).expect_code(1);
    assert!(ran.stderr.contains("published and recorded; its signatures are not committed"), "{ran}");
    fs::remove_file(&lock).unwrap();
    repository.import(&["promote", "payments-1"]).expect_code(0);
    assert_eq!(repository.commits(), ["Import payments-1: 3 signatures"]);
}

#[test]
fn trees_of_two_registries_in_one_repository_change_in_one_commit() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    let second = testkit::Registry::start();
    repository.site.list_fixtures(&[API, BUSYBOX]);
    let stream = &mut repository.site.import["streams"]["payments"];
    let (from, to) = (stream["to"][0]["from"].as_str().unwrap(), stream["to"][0]["to"].as_str().unwrap());
    let busybox = json!({ "from": format!("{from}/busybox"), "to": format!("{}/payments/busybox", second.host()) });
    stream["to"] = json!([{ "from": from, "to": to }, busybox]);
    // The first at the very top of the working tree.
    let trees = [(repository.site.production.host(), ""), (second.host(), "second")];
    let trees = trees.into_iter().map(|(host, folder)| (host.to_string(), json!(repository.path.join(folder))));
    repository.site.import["production"]["lookaside"] = serde_json::Value::Object(trees.collect());
    fs::remove_file(repository.path.join("README")).unwrap();
    repository.git(&["commit", "--quiet", "--all", "-m", "By hand"]);
    let bundle = repository.site.packed(1);
    repository.site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(repository.commits().len(), 2, "{:?}", repository.commits());
    let list = repository.git(&["ls-tree", "-r", "--name-only", "HEAD"]);
    assert!(list.lines().any(|name| name.starts_with("payments/api@sha256=")), "{list}");
    assert!(list.lines().any(|name| name.starts_with("second/payments/busybox@sha256=")), "{list}");
    assert_eq!(repository.state(), "");
}

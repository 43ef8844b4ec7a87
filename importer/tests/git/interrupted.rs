//! Commits that a run did not get to make: the next one makes them, and takes in nothing of others.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use manifest_schema::{Reference, Timestamp};
use serde_json::json;
use signing::Lookaside;
use testkit::layout::{API, BUSYBOX, digest, fixtures};
use testkit::{Fault, Key, Proxy, Rule, need};

use crate::common::acts;
use crate::{NAME, NEEDS, Repository, TREE, common};

#[test]
fn a_commit_that_failed_hides_nothing_and_the_same_command_makes_it() {
    if !need(NEEDS) {
        return;
    }
    let repository = Repository::new();
    let (site, bundle) = (&repository.site, repository.site.packed(1));
    let lock = repository.path.join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    for _ in 0..2 {
        let ran = site.receive(&bundle, &[]).expect_code(1).expect_stderr("index.lock");
        assert!(ran.stderr.contains("published and recorded; its signatures are not committed"), "{ran}");
    }
    assert_eq!(acts(site), ["created", "begun", "signing", "recorded"]);
    assert!(site.production.tags().contains_key(NAME));
    assert!(repository.commits().is_empty());
    // Only files with the names of signatures are.
    let (folder, beside) = (repository.path.join(TREE).join(repository.folder()), site.scratch("beside"));
    let (signature, away) = (folder.join("signature-1"), beside.join("signature-1"));
    fs::rename(&signature, folder.join("signature-01")).unwrap();
    repository.import(&["resign"]).expect_code(3).expect_stderr("signature-01");
    fs::rename(folder.join("signature-01"), &away).unwrap();
    std::os::unix::fs::symlink(&away, &signature).unwrap();
    repository.import(&["resign"]).expect_code(3).expect_stderr("signature-1");
    fs::rename(&away, &signature).unwrap();
    fs::remove_file(&lock).unwrap();
    let ran = site.receive(&bundle, &[]).expect_code(0);
    assert!(ran.stdout.contains("already received"), "{ran}");
    assert_eq!(repository.commits(), ["Import payments-1: 3 signatures"]);
    assert_eq!((repository.committed(), repository.state()), (repository.there(), String::new()));

    // Somebody was quicker than the commit: nothing is hidden by that either.
    fs::write(repository.path.join(TREE).join("notes"), "mine").unwrap();
    site.receive(&bundle, &[]).expect_code(1).expect_stderr("the signatures are not committed");
    fs::remove_file(repository.path.join(TREE).join("notes")).unwrap();

    // The same for a withdrawal; the next command of any kind makes the commit.
    fs::write(&lock, "").unwrap();
    let image = repository.image().to_string();
    let ran = repository.import(&["withdraw", &image, "--reason", "CVE-2026-1"]).expect_code(1);
    assert!(ran.stdout.contains("3 signatures taken away"), "{ran}");
    assert!(ran.stderr.contains("done and recorded; it is not committed"), "{ran}");
    fs::remove_file(&lock).unwrap();
    repository.import(&["resign"]).expect_code(0);
    assert_eq!(repository.commits().len(), 2);
    assert_eq!((repository.committed(), repository.state()), (vec![], String::new()));
}

#[test]
fn a_receive_that_was_killed_while_it_signed_ends_in_one_commit() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    let bundle = repository.site.packed(1);
    let proxy = Proxy::before(&repository.site.production);
    proxy.rule(Rule::new(Fault::Delay(Duration::from_millis(30))));
    let to = format!("{}/payments", proxy.host());
    repository.site.import["streams"]["payments"]["to"][0]["to"] = to.clone().into();
    let mut receive = repository.site.import(&["receive"]);
    let mut child = receive.arg(&bundle).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while repository.there().iter().filter(|name| name.ends_with("/signature-1")).count() < 3 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(acts(&repository.site), ["created", "begun", "signing"]);
    assert_ne!(repository.state(), "");
    // Others go on meanwhile, and leave these alone.
    repository.import(&["resign"]).expect_code(0);
    assert!(repository.commits().is_empty());
    // With another signature among them, they do not.
    let another = repository.path.join(TREE).join(repository.folder()).join("signature-2");
    fs::write(&another, repository.signature_by(&Key::new(&repository.site.import_dir(), "foreign"))).unwrap();
    repository.site.receive(&bundle, &[]).expect_code(3).expect_stderr("signature-2");
    fs::remove_file(&another).unwrap();
    repository.site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(repository.commits(), ["Import payments-1: 3 signatures"]);
    assert_eq!((repository.committed(), repository.state()), (repository.there(), String::new()));
}

#[test]
fn only_what_an_interrupted_run_announced_is_its_own() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    let site = &mut repository.site;
    // The same image elsewhere, and another one beside it.
    site.list_api_as("payments/web", "1.0");
    site.release["images"].as_array_mut().unwrap().push(format!("{}/payments/api:other", site.origin.host()).into());
    site.origin.load_layout(&fixtures(), BUSYBOX, "payments/api", "other");
    let bundle = site.packed(1);
    let proxy = Proxy::before(&site.production);
    site.import["streams"]["payments"]["to"][0]["to"] = format!("{}/payments", proxy.host()).into();
    proxy.rule(Rule::new(Fault::status(403)).method("PUT").path("/manifests/2.3.1"));
    site.receive(&bundle, &[]).expect_code(1);
    assert_eq!(acts(site), ["created", "begun", "signing"]);
    let another = repository.path.join(TREE).join(repository.folder()).join("signature-2");
    let sign = |name: &str, of: &str| {
        let reference: Reference = format!("{}/{name}", proxy.host()).parse().unwrap();
        let digest = digest(&fixtures(), of);
        repository.site.production_key.secret.sign_simple(&reference, &digest, Timestamp::now(), "test").unwrap()
    };
    for signature in [
        sign(NAME, BUSYBOX),
        sign("payments/api:other", API),
        sign("payments/web:1.0", API),
        sign("payments/api:9", API),
    ] {
        fs::write(&another, signature).unwrap();
        repository.import(&["resign"]).expect_code(3).expect_stderr("signature-2");
    }
    fs::remove_file(&another).unwrap();
    // What is about to be written is left alone.
    fs::write(another.with_file_name(".signature.x"), "").unwrap();
    repository.import(&["resign"]).expect_code(0);
    proxy.clear();
    repository.site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(repository.commits().len(), 1);
}

#[test]
fn without_the_key_what_a_run_announced_is_left_alone_and_nothing_else() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    let site = &mut repository.site;
    let proxy = Proxy::before(&site.production);
    site.import["streams"]["payments"]["to"][0]["to"] = format!("{}/payments", proxy.host()).into();
    site.list_fixtures(&[BUSYBOX]);
    site.receive(&site.packed(1), &[]).expect_code(0);
    site.list_fixtures(&[API]);
    proxy.rule(Rule::new(Fault::status(403)).method("PUT").path("/manifests/2.3.1"));
    site.receive(&site.packed(2), &[]).expect_code(1);
    site.import["production"]["sign"]["key"] = "away.secret.asc".into();
    let busybox = format!("{}/payments/busybox:1.36", proxy.host());
    let elsewhere = Lookaside::path_for(repository.image().repository(), &blobs::sha256(b"x"));
    let elsewhere = repository.path.join(TREE).join(elsewhere);
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("signature-1"), repository.signature_by(&repository.site.production_key)).unwrap();
    let withdraw = ["withdraw", &busybox, "--reason", "CVE-2026-1"];
    repository.import(&withdraw).expect_code(3).expect_stderr("signature-1");
    fs::remove_dir_all(&elsewhere).unwrap();
    repository.import(&withdraw).expect_code(0);
    assert_eq!(repository.commits().len(), 2);
}

#[test]
fn a_withdrawal_that_was_interrupted_is_one_commit_once_it_has_ended() {
    if !need(NEEDS) {
        return;
    }
    let repository = Repository::new();
    let (site, image) = (&repository.site, repository.image().to_string());
    site.receive(&site.packed(1), &[]).expect_code(0);
    let kept: Vec<_> = common::files(&repository.path.join(TREE)).into_iter().collect();
    let lock = repository.path.join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    repository.import(&["withdraw", &image, "--reason", "CVE-2026-1"]).expect_code(1);
    fs::remove_file(&lock).unwrap();
    // As if it had been killed after the first of three.
    for (name, bytes) in &kept[1..] {
        let path = repository.path.join(TREE).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    repository.import(&["resign"]).expect_code(0);
    assert_eq!(repository.commits().len(), 1, "not yet");
    repository.import(&["withdraw", &image, "--reason", "again"]).expect_code(0);
    assert_eq!(repository.commits()[1..], ["Withdraw 1 image"]);
    assert_eq!((repository.committed(), repository.state()), (vec![], String::new()));
}

#[test]
fn a_station_makes_the_commit_that_is_missing_of_a_bundle_received_before() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    repository.site.import["watch"] = json!({ "into": "production" });
    let bundle = repository.site.packed(1);
    let lock = repository.path.join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    repository.site.receive(&bundle, &[]).expect_code(1);
    fs::remove_file(&lock).unwrap();
    let mut station = repository.site.import(&["receive", "--watch"]);
    let mut child = station.arg(bundle.parent().unwrap()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let since = std::time::Instant::now();
    while repository.commits().is_empty() && since.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(100));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(repository.commits(), ["Import payments-1: 3 signatures"]);
}

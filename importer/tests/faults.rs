//! A production registry that fails for a while, or for good.

#![allow(clippy::unwrap_used)]

mod common;

use testkit::{Fault, Proxy, Rule, Site, need};

/// A site whose importer reaches production through a proxy.
fn behind_a_proxy() -> (Site, std::path::PathBuf, Proxy) {
    let mut site = Site::new();
    let bundle = site.packed(42);
    let proxy = Proxy::before(&site.production);
    site.import["streams"]["payments"]["to"][0]["to"] = format!("{}/payments", proxy.host()).into();
    (site, bundle, proxy)
}

#[test]
fn a_blob_whose_upload_breaks_is_read_and_sent_again() {
    if !need(Site::NEEDS) {
        return;
    }
    for fault in [Fault::status(503), Fault::CutRequest(20_000), Fault::Close] {
        let (site, bundle, proxy) = behind_a_proxy();
        let shown = format!("{fault:?}");
        proxy.rule(Rule::new(fault).method("PUT").path("/blobs/uploads/").first(2));
        let ran = site.receive(&bundle, &[]);
        assert_eq!(ran.code, Some(0), "{shown}\n{ran}");
        assert_eq!(site.production.tags().len(), 1, "{shown}");
        assert_eq!(common::acts(&site).iter().filter(|act| **act == "recorded").count(), 1, "{shown}");
    }
}

#[test]
fn what_fails_for_good_publishes_nothing_and_can_be_run_again() {
    if !need(Site::NEEDS) {
        return;
    }
    for (method, path) in [("POST", "/blobs/uploads/"), ("PUT", "/manifests/sha256:"), ("PUT", "/manifests/2.3.1")] {
        let (site, bundle, proxy) = behind_a_proxy();
        proxy.rule(Rule::new(Fault::status(403)).method(method).path(path));
        let ran = site.receive(&bundle, &[]).expect_code(1).expect_stderr("403");
        let state =
            if path.ends_with("2.3.1") { "state: 0 of 1 images published" } else { "state: nothing was published" };
        ran.expect_stderr(state);
        assert!(site.production.tags().is_empty(), "{method} {path}");
        proxy.clear();
        site.receive(&bundle, &[]).expect_code(0);
        assert_eq!(site.production.tags().len(), 1);
        // One signature for each document, however often it was begun.
        assert!(common::signatures(&site).keys().all(|file| file.ends_with("/signature-1")));
    }
}

#[test]
fn a_blob_that_the_registry_lost_keeps_the_image_from_being_published() {
    if !need(Site::NEEDS) {
        return;
    }
    let (site, bundle, proxy) = behind_a_proxy();
    proxy.rule(Rule::new(Fault::status(404)).method("HEAD").path("/blobs/sha256:"));
    let ran = site.receive(&bundle, &[]).expect_code(1).expect_stderr("no longer has sha256:");
    ran.expect_stderr("state: nothing was published");
    assert!(site.production.tags().is_empty() && site.production.manifests().is_empty());
    assert!(common::signatures(&site).is_empty());
}

#[test]
fn a_registry_that_lies_about_a_blobs_size_is_not_believed() {
    if !need(Site::NEEDS) {
        return;
    }
    let (site, bundle, proxy) = behind_a_proxy();
    let lie = Fault::status_with(200, "content-length", "0");
    proxy.rule(Rule::new(lie).method("HEAD").path("/blobs/sha256:").first(1));
    site.receive(&bundle, &[]).expect_code(1).expect_stderr(" has 0");
    assert!(site.production.manifests().is_empty());
}

#[test]
fn a_tag_that_somebody_else_moves_meanwhile_is_not_overwritten() {
    if !need(Site::NEEDS) {
        return;
    }
    // It is asked for at admission, before the first tag moves, and before it moves itself.
    for (nth, state) in [(2, "nothing was published"), (3, "0 of 1 images published, all are signed")] {
        let (site, bundle, proxy) = behind_a_proxy();
        let other = format!("sha256:{}", "ab".repeat(32));
        let headers = vec![("docker-content-digest".into(), other.clone())];
        let moved = Fault::Answer(200, headers, Vec::new());
        proxy.rule(Rule::new(moved).method("HEAD").path("/manifests/2.3.1").nth(nth));
        let ran = site.receive(&bundle, &[]).expect_code(1).expect_stderr(&format!("state: {state}"));
        assert!(ran.stderr.contains(&other), "{ran}");
        assert!(site.production.tags().is_empty(), "{ran}");
    }
}

#[test]
fn what_an_earlier_run_may_have_published_is_not_denied() {
    if !need(Site::NEEDS) {
        return;
    }
    let (site, bundle, proxy) = behind_a_proxy();
    proxy.rule(Rule::new(Fault::status(403)).method("PUT").path("/manifests/2.3.1"));
    site.receive(&bundle, &[]).expect_code(1).expect_stderr("state: 0 of 1 images published");
    proxy.clear();
    proxy.rule(Rule::new(Fault::status(403)).method("HEAD").path("/manifests/2.3.1"));
    let ran = site.receive(&bundle, &[]).expect_code(1);
    ran.expect_stderr("state: an earlier run may have published some of it; this run published nothing");
    proxy.clear();
    site.receive(&bundle, &[]).expect_code(0);
}

#[test]
fn a_registry_that_fails_for_every_blob_is_given_up() {
    if !need(Site::NEEDS) {
        return;
    }
    let (site, bundle, proxy) = behind_a_proxy();
    proxy.rule(Rule::new(Fault::status(503)).method("POST").path("/blobs/uploads/"));
    let ran = site.receive(&bundle, &["--retries", "1", "--jobs", "1"]).expect_code(1).expect_stderr("503");
    ran.expect_stderr("state: nothing was published");
    assert_eq!(proxy.count("POST", "/blobs/uploads/"), 5, "not every blob of four passes");
}

#[test]
fn flags_that_a_configuration_would_make_void_are_refused() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let bundle = site.packed(42);
    for (flag, value) in
        [("--threshold", "2"), ("--stream", "other"), ("--origin", "foo.example"), ("--to", "bar.example/x")]
    {
        let ran = site.receive(&bundle, &[flag, value]).expect_code(2);
        ran.expect_stderr(&format!("{flag} goes with --trust only"));
    }
    assert!(site.production.is_empty());
    // The ledger's configured id holds for another file too.
    let other = site.import_dir().join("other.db");
    let stamp = ledger::Stamp { now: manifest_schema::Timestamp::now(), tool: "test".parse().unwrap(), by: None };
    ledger::Ledger::create(&other, &stamp, ledger::Created { production: None, ledger_key: None }, None).unwrap();
    let ran = site.receive(&bundle, &["--ledger", other.to_str().unwrap()]).expect_code(2);
    ran.expect_stderr("expected");
    assert!(site.production.is_empty());
}

#[test]
fn a_signature_folder_that_cannot_be_made_is_found_before_anything_is_pushed() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(42);
    site.import["production"]["lookaside"] = "/proc/signatures".into();
    site.receive(&bundle, &[]).expect_code(2).expect_stderr("lookaside /proc/signatures: signatures cannot be written");
    assert!(site.production.is_empty());
}

#[test]
fn what_tags_named_before_is_recorded_even_if_an_earlier_run_moved_some_of_them() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (api, busybox) = (testkit::layout::API, "registry.dev.example/payments/busybox:1.36");
    site.list_fixtures(&[api, busybox]);
    let bundle = site.packed(42);
    // Under either tag there is another image.
    let other = testkit::layout::fixtures();
    let old = |tag: &str, name: &str, to: &str| site.production.load_layout(&other, name, to, tag);
    let before = [
        ("api", "2.3.1", old("2.3.1", busybox, "payments/api")),
        ("busybox", "1.36", old("1.36", api, "payments/busybox")),
    ];
    let proxy = Proxy::before(&site.production);
    site.import["streams"]["payments"]["to"][0]["to"] = format!("{}/payments", proxy.host()).into();
    let replace = ["--on-existing-tag", "replace", "--jobs", "1"];
    proxy.rule(Rule::new(Fault::status(403)).method("PUT").path("/manifests/1.36"));
    site.receive(&bundle, &replace).expect_code(1).expect_stderr("state: 1 of 2 images published");
    proxy.clear();
    site.receive(&bundle, &replace).expect_code(0);
    let last = common::ledger(&site).entries(ledger::EntryNumber::FIRST).last().unwrap().unwrap().entry.act;
    let ledger::Act::Recorded(recorded) = last else { panic!("not recorded") };
    for (repository, tag, names) in before {
        let moved = recorded.tags.iter().find(|m| m.tag.repository.path().ends_with(repository)).unwrap();
        assert_eq!((moved.tag.tag.as_str(), moved.previous), (tag, Some(names)));
    }
}

//! What somebody may let pass, for one bundle, with a reason; and that nothing else passes with it.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use ledger::{Act, EntryNumber, Rule};
use testkit::layout::noise;
use testkit::{Ran, Site, need};

fn overridden(site: &Site) -> Vec<(Vec<Rule>, String)> {
    let of = |act| match act {
        Act::Overridden(o) => Some((o.rules, o.reason.raw().to_string())),
        _ => None,
    };
    common::ledger(site).entries(EntryNumber::FIRST).filter_map(|e| of(e.unwrap().entry.act)).collect()
}

fn receive(site: &Site, bundle: &Path, rules: &str) -> Ran {
    site.receive(bundle, &["--override", rules, "--reason", "CHG-1299"])
}

#[test]
fn an_expired_bundle_passes_with_its_own_rule_only() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let bundle = site.packed(42);
    common::release_again(&site, &bundle, |m| {
        m["created"] = "2024-02-01T00:00:00Z".into();
        m["expires"] = "2024-02-02T00:00:00Z".into();
    });
    site.receive(&bundle, &[]).expect_code(3).expect_stderr("expired at 2024-02-02T00:00:00Z");
    receive(&site, &bundle, "rollback,base").expect_code(3).expect_stderr("expired at 2024-02-02T00:00:00Z");
    assert!(site.production.tags().is_empty());
    receive(&site, &bundle, "expired").expect_code(0).expect_stderr("overridden for this bundle: expired");
    // Said once, it stays.
    let before = site.traces();
    receive(&site, &bundle, "expired").expect_code(0);
    assert_eq!(site.traces(), before);
    let said = |rules: &[Rule]| (rules.to_vec(), "CHG-1299".to_string());
    assert_eq!(overridden(&site), [said(&[Rule::Rollback, Rule::Base]), said(&[Rule::Expired])]);
}

#[test]
fn nothing_is_overridden_without_a_reason_or_before_the_bundle_is_authentic() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let bundle = site.packed(42);
    site.receive(&bundle, &["--override", "expired"]).expect_code(2).expect_stderr("--reason");
    site.receive(&bundle, &["--reason", "because"]).expect_code(2).expect_stderr("--override");
    site.receive(&bundle, &["--override", "signature", "--reason", "x"]).expect_code(2);
    site.receive(&bundle, &["--override", "expired", "--reason", " "])
        .expect_code(2)
        .expect_stderr("a reason is missing");
    let stranger = testkit::Key::new(&site.scratch("keys"), "stranger");
    fs::copy(&stranger.certificate_file, site.import_dir().join("trust/release.asc")).unwrap();
    receive(&site, &bundle, "expired").expect_code(3);
    assert_eq!(overridden(&site), []);
}

#[test]
fn nothing_is_overridden_in_a_run_that_cannot_start_or_has_nothing_to_do() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let bundle = site.packed(42);
    let (secret, away) = (site.production_key.secret_file.clone(), site.import_dir().join("away"));
    fs::rename(&secret, &away).unwrap();
    receive(&site, &bundle, "expired").expect_code(2).expect_stderr("production.secret.asc");
    assert_eq!(overridden(&site), []);
    fs::rename(&away, &secret).unwrap();
    site.receive(&bundle, &[]).expect_code(0);
    let before = site.traces();
    let again = receive(&site, &bundle, "expired").expect_code(0);
    assert!(again.stdout.contains("already received"), "{again}");
    assert_eq!(site.traces(), before);
}

#[test]
fn another_bundle_takes_a_number_that_was_begun() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let first = site.packed(1);
    site.receive(&first, &[]).expect_code(0);
    // An exporter that has forgotten its record packs something else under the number.
    fs::remove_dir_all(site.export_dir().join("home")).unwrap();
    fs::create_dir(site.export_dir().join("home")).unwrap();
    fs::remove_dir_all(&first).unwrap();
    site.list_layers("other", &[b"something else"]);
    let other = site.packed(1);
    site.receive(&other, &[]).expect_code(3).expect_stderr("payments 1 was begun as bundle");
    receive(&site, &other, "number").expect_code(0);
    assert_eq!(site.production.tags().len(), 2);
    let again = site.receive(&other, &[]).expect_code(0);
    assert!(again.stdout.contains("already received: payments 1"), "{again}");
}

#[test]
fn a_base_that_the_ledger_does_not_know_is_read_instead() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_layers("v1", &[&noise(1, 100_000), &noise(2, 1000)]);
    let first: PathBuf = site.packed(1);
    let fresh = common::SavedLedger::of(&site);
    site.receive(&first, &[]).expect_code(0);
    site.list_layers("v2", &[&noise(1, 100_000), &noise(3, 1000)]);
    site.pack(2, &["--base", "payments-1"]).expect_code(0);
    let second = site.media().join("payments-2");
    // Production has it, and the ledger of now has not.
    fresh.put_back(&site);
    site.receive(&second, &[]).expect_code(3).expect_stderr("which the ledger does not have recorded");
    receive(&site, &second, "base").expect_code(0);
    assert!(site.production.tags().contains_key("payments/large:v2"));
}

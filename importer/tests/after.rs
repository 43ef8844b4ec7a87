//! After a release: another production key signs too, and an image is withdrawn.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::ledger;
use ledger::Act;
use testkit::layout::{API, closure, digest, fixtures};
use testkit::{Key, Ran, Site, need, run, run_ok};

const NAME: &str = "payments/api:2.3.1";

fn import(site: &Site, args: &[&str]) -> Ran {
    run(&mut site.import(args))
}

fn acts(site: &Site) -> Vec<&'static str> {
    ledger(site).entries(ledger::EntryNumber::FIRST).map(|e| e.unwrap().entry.act.kind()).collect()
}

fn verifies(site: &Site) -> Ran {
    let (repository, tag) = NAME.split_once(':').unwrap();
    site.skopeo_verifies(repository, tag)
}

/// The numbers of the signatures of every image, by its directory.
fn numbers(site: &Site) -> std::collections::BTreeMap<String, Vec<String>> {
    let mut found = std::collections::BTreeMap::<String, Vec<String>>::new();
    for file in site.traces().lookaside.into_keys() {
        let (directory, name) = file.rsplit_once('/').unwrap();
        found.entry(directory.into()).or_default().push(name.into());
    }
    found
}

#[test]
fn another_production_key_signs_what_is_in_production_and_the_first_ones_signatures_stay() {
    if !need(&[Site::NEEDS, &["skopeo"]].concat()) {
        return;
    }
    let mut site = Site::new();
    site.list_fixtures(&[API, "registry.dev.example/payments/busybox:1.36"]);
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    let second = Key::new(&site.import_dir(), "second");
    let first = std::mem::replace(&mut site.production_key, second);
    verifies(&site).expect_code(1);
    site.import["production"]["sign"]["key"] = "second.secret.asc".into();

    let (registry, before) = (site.production.snapshot(), numbers(&site));
    assert!(before.values().all(|n| n == &["signature-1"]));
    let image = format!("{}/{NAME}", site.production.host());
    import(&site, &["resign", "payments-7"]).expect_code(2).expect_stderr("payments-7");
    let none = format!("{}/payments/none:1", site.production.host());
    import(&site, &["resign", &none]).expect_code(2).expect_stderr("no signatures of such an image");
    import(&site, &["resign", &image]).expect_code(0);
    verifies(&site).expect_code(0);
    let signed = numbers(&site).values().filter(|n| n == &&["signature-1", "signature-2"]).count();
    assert!(signed > 0 && signed < before.len(), "{:?}", numbers(&site));
    let ran = import(&site, &["resign"]).expect_code(0);
    assert!(ran.stdout.contains("resigned: payments 1, "), "{ran}");
    assert!(numbers(&site).values().all(|n| n == &["signature-1", "signature-2"]), "{:?}", numbers(&site));
    assert_eq!(site.production.snapshot(), registry, "nothing is pushed");
    assert_eq!(acts(&site)[4..], ["resigning", "resigned", "resigning", "resigned"]);

    let before = site.traces();
    let ran = import(&site, &["resign", "payments-1"]).expect_code(0);
    assert!(ran.stdout.contains("signed before: payments 1"), "{ran}");
    assert_eq!(site.traces(), before);
    // Both keys stand side by side while clusters change.
    site.production_key = first;
    verifies(&site).expect_code(0);
    run_ok(&mut site.import(&["ledger", "verify"]));
}

#[test]
fn a_withdrawn_image_is_refused_by_clusters_and_does_not_come_back_by_itself() {
    if !need(&[Site::NEEDS, &["skopeo"]].concat()) {
        return;
    }
    let mut site = Site::new();
    site.list_fixtures(&[API, "registry.dev.example/payments/busybox:1.36"]);
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    // A second key, and somebody else's signature between: what stays must have no holes.
    let second = Key::new(&site.import_dir(), "second");
    let image = digest(&fixtures(), API);
    let reference = format!("{}/{NAME}", site.production.host());
    let tree = signing::Lookaside::new(site.lookaside());
    let named: manifest_schema::Reference = reference.parse().unwrap();
    let foreign = second.secret.sign_simple(&named, &image, manifest_schema::Timestamp::now(), "x").unwrap();
    tree.add(named.repository(), &image, &foreign).unwrap();
    site.import["production"]["sign"]["key"] = "second.secret.asc".into();
    // The foreign signature is the second key's own, and is found.
    import(&site, &["resign"]).expect_code(0);
    let third = Key::new(&site.import_dir(), "third");
    let kept = third.secret.sign_simple(&named, &image, manifest_schema::Timestamp::now(), "x").unwrap();
    tree.add(named.repository(), &image, &kept).unwrap();

    let others: std::collections::BTreeSet<_> = numbers(&site)
        .into_keys()
        .filter(|d| !closure(&fixtures(), API).iter().any(|c| d.contains(&c.hex())))
        .collect();
    import(&site, &["withdraw", &reference, "--reason", " "]).expect_code(2).expect_stderr("a reason is missing");
    let none = format!("{}/payments/none:1", site.production.host());
    import(&site, &["withdraw", &none, "--reason", "x"]).expect_code(2).expect_stderr("no signatures of such an image");
    import(&site, &["withdraw", &reference, &none, "--reason", "x"]).expect_code(2).expect_stderr(&none);
    verifies(&site).expect_code(0);
    let ran = import(&site, &["withdraw", &reference, "--reason", "CVE-2026-1"]).expect_code(0);
    assert!(ran.stdout.contains("6 signatures taken away"), "{ran}");
    verifies(&site).expect_code(1);
    assert_eq!(tree.read(named.repository(), &image).unwrap(), [kept], "what is not ours stays, as the first");
    let left = numbers(&site);
    assert_eq!(left.keys().filter(|d| others.contains(*d)).count(), others.len(), "other images keep theirs");
    assert_eq!(left.len(), others.len() + 1);
    assert!(site.production.tags().contains_key(NAME), "the tag stays");
    let Some(Act::Withdrawn(said)) =
        ledger(&site).entries(ledger::EntryNumber::FIRST).last().map(|e| e.unwrap().entry.act)
    else {
        panic!("no entry")
    };
    assert_eq!((said.images.len(), said.reason.raw()), (3, "CVE-2026-1"));

    let before = site.traces();
    let again = import(&site, &["withdraw", &reference, "--reason", "again"]).expect_code(0);
    assert!(again.stdout.contains("0 signatures taken away, withdrawn before"), "{again}");
    import(&site, &["resign"]).expect_code(0);
    assert_eq!(site.traces(), before, "it is not signed again");

    // In a later release, whatever its tag.
    let next = site.packed(2);
    site.receive(&next, &[]).expect_code(3).expect_stderr("was withdrawn from production at");
    assert_eq!(site.traces().lookaside, before.lookaside);
    let allowed = ["--override", "withdrawn", "--reason", "the report was wrong"];
    site.receive(&next, &allowed).expect_code(0);
    site.production_key = second;
    verifies(&site).expect_code(0);
    // It is in production again, so that a new key signs it too.
    site.import["production"]["sign"]["key"] = "third.secret.asc".into();
    import(&site, &["resign"]).expect_code(0);
    site.production_key = third;
    verifies(&site).expect_code(0);
    run_ok(&mut site.import(&["ledger", "verify"]));
}

#[test]
fn one_of_two_names_of_an_image_is_withdrawn_or_its_digest_under_both() {
    if !need(&[Site::NEEDS, &["skopeo"]].concat()) {
        return;
    }
    let mut site = Site::new();
    site.list_fixtures(&[API]);
    site.list_api_as("payments/api", "alias");
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    let name = |tag: &str| format!("{}/payments/api{tag}", site.production.host());
    import(&site, &["withdraw", &name(":alias"), "--reason", "a mistake"]).expect_code(0);
    verifies(&site).expect_code(0);
    site.skopeo_verifies("payments/api", "alias").expect_code(1);
    let image = digest(&fixtures(), API);
    let ran = import(&site, &["withdraw", &name(&format!("@{image}")), "--reason", "CVE-2026-1"]).expect_code(0);
    assert!(ran.stdout.contains("3 signatures taken away"), "{ran}");
    verifies(&site).expect_code(1);
    assert!(site.traces().lookaside.is_empty());
}

#[test]
fn signatures_in_the_form_of_cosign_are_withdrawn_too() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    run_ok(&mut site.import(&["keygen", "cosign", "--no-passphrase", "--output", "keys"]));
    site.import["production"]["cosign"] = serde_json::json!({ "key": "keys/cosign.key" });
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    let image = digest(&fixtures(), API);
    let tag = format!("sha256-{}.sig", image.hex());
    let layers = |site: &Site| {
        let answer = site.production.get(&format!("/v2/payments/api/manifests/{tag}"));
        match answer.status {
            404 => 0,
            200 => {
                let manifest: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                manifest["layers"].as_array().unwrap().len()
            }
            other => panic!("{other}"),
        }
    };
    assert_eq!(layers(&site), 1);
    let digest = format!("{}/payments/api@{image}", site.production.host());
    import(&site, &["withdraw", &digest, "--reason", "CVE-2026-1"]).expect_code(0);
    assert_eq!(layers(&site), 0);
    assert!(fs::read_dir(site.lookaside().join("payments")).unwrap().next().is_none(), "no directory without a file");
}

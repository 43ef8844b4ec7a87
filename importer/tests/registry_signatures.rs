//! Production's signatures in a registry that keeps them itself (containers/image, `signature-protocols.md`, "Docker Registry API
//! extension": support is announced with `X-Registry-Supports-Signatures: 1`; `PUT /extensions/v2/{name}/signatures/{digest}`).

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use base64::Engine as _;
use common::acts;
use manifest_schema::Digest;
use registry::Config;
use serde_json::json;
use testkit::layout::{API, digest, fixtures};
use testkit::{Fault, Features, Key, Modern, Node, Ran, Rule, Site, need, run, run_ok};

const NEEDS: &[&str] = &["docker-registry"];

/// A site that signs into a registry that keeps signatures.
fn site() -> (Site, Modern) {
    let mut site = Site::new();
    let modern = Modern::start(Features { signatures: true, ..Features::default() });
    site.import["streams"]["payments"]["to"][0]["to"] = format!("{}/payments", modern.host()).into();
    site.import["production"]["registry_signatures"] = true.into();
    (site, modern)
}

fn import(site: &Site, args: &[&str]) -> Ran {
    run(&mut site.import(args))
}

/// What the registry keeps of the documents that are signed, by their digests as in the lookaside tree.
fn kept(site: &Site, modern: &Modern) -> Vec<(String, Vec<Vec<u8>>)> {
    let folders = fs::read_dir(site.lookaside().join("payments")).unwrap();
    let mut names: Vec<String> = folders.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let of = |name: String| {
        let digest: Digest = name.split_once('@').unwrap().1.replace('=', ":").parse().unwrap();
        let content = |entry: &serde_json::Value| {
            base64::engine::general_purpose::STANDARD.decode(entry["content"].as_str().unwrap()).unwrap()
        };
        (name, modern.signatures("payments/api", &digest).iter().map(content).collect())
    };
    names.into_iter().map(of).collect()
}

/// What the lookaside tree has, in the same form.
fn tree(site: &Site) -> Vec<(String, Vec<Vec<u8>>)> {
    let mut found: Vec<(String, Vec<Vec<u8>>)> = Vec::new();
    for (file, bytes) in common::files(&site.lookaside().join("payments")) {
        let folder = file.split_once('/').unwrap().0.to_string();
        match found.last_mut().filter(|(last, _)| *last == folder) {
            Some((_, all)) => all.push(bytes),
            None => found.push((folder, vec![bytes])),
        }
    }
    found
}

/// Somebody else's signature of the image, which the registry is given.
fn by_somebody_else(site: &Site, modern: &Modern) -> Vec<u8> {
    let (image, key) = (digest(&fixtures(), API), Key::new(&site.scratch("keys"), "foreign"));
    let name: manifest_schema::Reference = format!("{}/payments/api:2.3.1", modern.host()).parse().unwrap();
    let signature = key.secret.sign_simple(&name, &image, manifest_schema::Timestamp::now(), "test").unwrap();
    let client = registry::Registries::new(Config::default()).unwrap().repository(name.repository());
    client.put_signature(&image, &signature).unwrap();
    signature
}

#[test]
fn the_registry_keeps_what_the_folder_has_and_clusters_read_it_there() {
    if !need(&[NEEDS, &["skopeo", "podman"]].concat()) {
        return;
    }
    let (site, modern) = site();
    site.receive(&site.packed(1), &[]).expect_code(0);
    assert_eq!((kept(&site, &modern).len(), kept(&site, &modern)), (3, tree(&site)));
    let image = digest(&fixtures(), API);
    let entry = &modern.signatures("payments/api", &image)[0];
    assert_eq!((&entry["schemaVersion"], &entry["type"]), (&json!(2), &json!("atomic")));
    assert!(entry["name"].as_str().unwrap().starts_with(&format!("{image}@")));
    // Both places are recorded.
    let name: manifest_schema::Reference = format!("{}/payments/api:2.3.1", modern.host()).parse().unwrap();
    let rows = common::ledger(&site).signatures_in(name.repository(), &image).unwrap();
    let mut paths: Vec<_> = rows.iter().map(|row| row.path.raw().to_string()).collect();
    paths.sort();
    assert_eq!(rows[0].file, rows[1].file);
    assert!(paths[0].ends_with(&format!("/extensions/v2/payments/api/signatures/{image}")), "{paths:?}");
    assert!(paths[1].ends_with("/signature-1"), "{paths:?}");

    // Nothing is given twice: by another release of the image, by resign, or by a second run.
    let puts = || modern.proxy().count("PUT", "/signatures/");
    assert_eq!(puts(), 3);
    site.receive(&site.packed(2), &[]).expect_code(0);
    let ran = import(&site, &["resign"]).expect_code(0);
    assert!(ran.stdout.contains("signed before: payments 1"), "{ran}");
    assert_eq!(puts(), 3);

    // The folder is not looked at.
    let folder = site.scratch("handed").join("production");
    run_ok(site.import(&["handover", "production"]).arg(&folder).arg("--key-dir").arg(folder.join("keys")));
    fs::rename(site.lookaside(), site.import_dir().join("away")).unwrap();
    let node = Node::new(&folder, site.scratch("node"));
    node.pulls(&name.to_string()).expect_code(0);
    let client = registry::Registries::new(Config::default()).unwrap().repository(name.repository());
    assert_eq!(client.fetch_signatures(&image).unwrap().len(), 1);
}

#[test]
fn a_registry_without_the_extension_is_refused_before_anything_is_pushed() {
    if !need(NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(1);
    let before = (site.traces(), acts(&site));
    let host = site.production.host().to_string();
    let says = format!("{host} keeps no signatures");
    site.receive(&bundle, &["--registry-signatures"]).expect_code(2).expect_stderr(&says);
    site.receive(&bundle, &["--registry-signatures", "--dry-run"]).expect_code(2).expect_stderr(&says);
    // Nor does anything pass in a run that cannot start.
    let allowed = ["--registry-signatures", "--override", "withdrawn", "--reason", "a trial"];
    site.receive(&bundle, &allowed).expect_code(2).expect_stderr(&says);
    assert_eq!((site.traces(), acts(&site)), before);
    assert!(site.production.uploaded_blobs().is_empty());
    site.receive(&bundle, &[]).expect_code(0);
    // And before a new key signs.
    Key::new(&site.import_dir(), "second");
    site.import["production"]["sign"]["key"] = "second.secret.asc".into();
    let before = site.traces();
    import(&site, &["resign", "--registry-signatures"]).expect_code(2).expect_stderr(&says);
    assert_eq!(site.traces(), before);

    // What waits in staging is not asked that: production is.
    let (mut site, modern) = self::site();
    let staging = testkit::Registry::start();
    site.import["staging"] = json!({ "to": [{ "from": modern.host(), "to": staging.host() }], "lookaside": "qa/" });
    site.receive(&site.packed(1), &[]).expect_code(0);
    import(&site, &["promote", "payments-1"]).expect_code(0);
    assert_eq!(kept(&site, &modern), tree(&site));
    let (mut site, _staging) = Site::staged();
    site.receive(&site.packed(1), &[]).expect_code(0);
    site.import["production"]["registry_signatures"] = true.into();
    let before = acts(&site);
    let says = format!("{} keeps no signatures", site.production.host());
    let command = ["promote", "payments-1", "--override", "scan", "--reason", "a trial"];
    import(&site, &command).expect_code(2).expect_stderr(&says);
    assert_eq!(acts(&site), before);
}

#[test]
fn what_was_not_given_is_told_and_given_later() {
    if !need(NEEDS) {
        return;
    }
    let (mut site, modern) = site();
    site.import["production"]["registry_signatures"] = false.into();
    let bundle = site.packed(1);
    let warning = format!("warning: {} keeps signatures itself", modern.host());
    site.receive(&bundle, &[]).expect_code(0).expect_stderr(&warning);
    assert!(kept(&site, &modern).iter().all(|(_, signatures)| signatures.is_empty()));
    // What it keeps of somebody else is none of ours.
    let foreign = by_somebody_else(&site, &modern);
    site.import["production"]["registry_signatures"] = true.into();
    let before = site.traces().lookaside;
    import(&site, &["resign"]).expect_code(0);
    let mut given = kept(&site, &modern);
    given.iter_mut().for_each(|(_, signatures)| signatures.retain(|signature| *signature != foreign));
    assert_eq!(given, tree(&site));
    assert_eq!(site.traces().lookaside, before, "the same signatures");

    // A registry that fails in between: the same command again gives the rest.
    let (site, modern) = self::site();
    let bundle = site.packed(1);
    modern.proxy().rule(Rule::new(Fault::status(403)).path("/signatures/").method("PUT"));
    site.receive(&bundle, &[]).expect_code(1);
    assert_eq!(acts(&site), ["created", "begun", "signing"]);
    modern.proxy().clear();
    site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(kept(&site, &modern), tree(&site));
    assert!(tree(&site).iter().all(|(_, signatures)| signatures.len() == 1));
}

#[test]
fn a_withdrawal_says_what_the_registry_does_not_give_up() {
    if !need(&[NEEDS, &["skopeo"]].concat()) {
        return;
    }
    let (site, modern) = site();
    site.receive(&site.packed(1), &[]).expect_code(0);
    by_somebody_else(&site, &modern);
    let image = format!("{}/payments/api:2.3.1", modern.host());
    let ran = import(&site, &["withdraw", &image, "--reason", "CVE-2026-1"]).expect_code(0);
    assert!(ran.stdout.contains("3 signatures taken away"), "{ran}");
    assert!(ran.stdout.contains(&format!("3 signatures stay: {} keeps them itself", modern.host())), "{ran}");
    assert!(site.traces().lookaside.is_empty());
    let again = import(&site, &["withdraw", &image, "--reason", "again", "--json"]).expect_code(0).json();
    assert_eq!((&again["withdrawn"]["removed"], &again["withdrawn"]["kept"]), (&json!(0), &json!(3)));
    // As the documents say: by digest it is refused from the next hand-over on.
    let folder = site.scratch("handed").join("production");
    run_ok(site.import(&["handover", "production"]).arg(&folder).arg("--key-dir").arg(folder.join("keys")));
    let node = Node::new(&folder, site.scratch("node"));
    node.takes(&image).expect_code(0);
    let digest = digest(&fixtures(), API);
    node.refuses(&format!("{}/payments/api@{digest}", modern.host()));
}

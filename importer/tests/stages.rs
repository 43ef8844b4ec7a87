//! Two stages: what is received waits in a staging registry, and is promoted, rejected, or promoted in parts.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::ledger;
use ledger::{Act, Status};
use manifest_schema::{Digest, Timestamp};
use serde_json::{Value, json};
use testkit::hostile;
use testkit::layout::{API, digest, fixtures};
use testkit::{Key, Ran, Registry, Site, command, need, run};

const NAME: &str = "payments/api:2.3.1";

/// A site with a staging registry.
struct Stages {
    site: Site,
    staging: Registry,
    /// Signs images at the origin.
    signer: Key,
}

impl Stages {
    fn new() -> Self {
        let (mut site, staging) = Site::staged();
        site.look_for_signatures();
        let signer = Key::new(&site.scratch("signer"), "images");
        Self { site, staging, signer }
    }

    /// Signs every document of the image at the origin, and has the stream's image policy ask for that.
    fn sign_at_origin(&mut self) {
        self.site.sign_at_origin(&self.signer);
        let docker = json!({ self.site.origin.host(): self.signer.signed_by() });
        self.site.judge_images("payments", &docker);
    }

    fn run(&self, args: &[&str]) -> Ran {
        run(&mut self.site.import(args))
    }

    fn status(&self, sequence: u64) -> Option<Status> {
        let stream = "payments".parse().unwrap();
        ledger(&self.site).state_of(&stream, sequence.try_into().unwrap()).unwrap().map(|row| row.status)
    }

    /// Whether nothing reached production.
    fn production_is_untouched(&self) -> bool {
        self.site.production.is_empty() && self.site.traces().lookaside.is_empty()
    }

    /// Packs and receives a release with one image under a tag of its own.
    fn received(&mut self, sequence: u64) -> Digest {
        let tag = format!("v{sequence}");
        let digest = self.site.list_layers(&tag, &[format!("layer {sequence}").as_bytes(), b"a layer they share"]);
        let bundle = self.site.packed(sequence);
        self.site.receive(&bundle, &[]).expect_code(0);
        digest
    }
}

fn tags(registry: &Registry) -> BTreeMap<String, Digest> {
    registry.tags()
}

fn acts(site: &Site) -> Vec<&'static str> {
    ledger(site).entries(ledger::EntryNumber::FIRST).map(|e| e.unwrap().entry.act.kind()).collect()
}

/// The reasons that people gave.
fn reasons(site: &Site) -> Vec<String> {
    let reason = |act| match act {
        Act::Rejected(rejected) => Some(rejected.reason.raw().to_string()),
        Act::Overridden(overridden) => Some(overridden.reason.raw().to_string()),
        _ => None,
    };
    ledger(site).entries(ledger::EntryNumber::FIRST).filter_map(|e| reason(e.unwrap().entry.act)).collect()
}

/// Copies out of a registry with stock skopeo under a policy.
fn skopeo(site: &Site, registry: &Registry, tree: &Path, requirement: Value) -> Ran {
    let home = tempfile::tempdir_in(site.scratch("skopeo")).unwrap();
    fs::create_dir(home.path().join("registries.d")).unwrap();
    let lookaside = json!({ "docker": { registry.host(): { "lookaside": format!("file://{}", tree.display()) } } });
    fs::write(home.path().join("registries.d/qa.yaml"), lookaside.to_string()).unwrap();
    let policy = json!({
        "default": [{ "type": "reject" }],
        "transports": { "docker": { registry.host(): [requirement] } },
    });
    fs::write(home.path().join("policy.json"), policy.to_string()).unwrap();
    run(command("skopeo", home.path())
        .args(["--policy", "policy.json", "--registries.d", "registries.d", "copy", "--all", "--src-tls-verify=false"])
        .arg("--remove-signatures")
        .args([format!("docker://{}/{NAME}", registry.host()), "dir:out".into()])
        .current_dir(home.path()))
}

#[test]
fn what_is_received_waits_with_its_origins_signatures_and_is_promoted() {
    if !need(&[Site::NEEDS, &["skopeo"]].concat()) {
        return;
    }
    let mut stages = Stages::new();
    stages.sign_at_origin();
    let bundle = stages.site.packed(42);
    let ran = stages.site.receive(&bundle, &[]).expect_code(0);
    assert!(ran.stdout.contains("it waits for `sealift-import promote payments-42`"), "{ran}");
    assert!(stages.production_is_untouched());
    let image = digest(&fixtures(), API);
    assert_eq!(tags(&stages.staging), BTreeMap::from([(NAME.to_string(), image)]));
    assert_eq!(stages.status(42), Some(Status::Received));
    assert_eq!(acts(&stages.site), ["created", "begun", "received"]);

    // A cluster that tries it out takes the origin's signatures, under the name that the image has there.
    let qa = stages.site.import_dir().join("qa-sigstore");
    let mut requirement =
        json!({ "type": "signedBy", "keyType": "GPGKeys", "keyPath": stages.signer.certificate_file });
    skopeo(&stages.site, &stages.staging, &qa, requirement.clone()).expect_code(1);
    requirement["signedIdentity"] = json!({
        "type": "remapIdentity", "prefix": stages.staging.host(), "signedPrefix": stages.site.origin.host(),
    });
    skopeo(&stages.site, &stages.staging, &qa, requirement).expect_code(0);

    // The same again changes nothing.
    stages.site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(acts(&stages.site), ["created", "begun", "received"]);

    let ran = stages.run(&["promote", "payments-42"]).expect_code(0);
    assert!(ran.stdout.contains("promoted: payments 42"), "{ran}");
    assert_eq!(tags(&stages.site.production), tags(&stages.staging));
    assert_eq!(acts(&stages.site), ["created", "begun", "received", "signing", "recorded"]);
    let (repository, tag) = NAME.split_once(':').unwrap();
    stages.site.skopeo_verifies(repository, tag).expect_code(0);
    assert_eq!(stages.status(42), Some(Status::Recorded));

    let before = stages.site.traces();
    let again = stages.run(&["promote", "payments-42"]).expect_code(0);
    assert!(again.stdout.contains("already promoted: payments 42"), "{again}");
    let again = stages.site.receive(&bundle, &[]).expect_code(0);
    assert!(again.stdout.contains("already received: payments 42"), "{again}");
    assert_eq!(stages.site.traces(), before);
    run(&mut stages.site.import(&["ledger", "verify"])).expect_code(0);
}

#[test]
fn a_rejected_bundle_is_not_promoted_and_not_received_again() {
    if !need(Site::NEEDS) {
        return;
    }
    let stages = Stages::new();
    let bundle = stages.site.packed(42);
    stages.site.receive(&bundle, &[]).expect_code(0);
    stages.run(&["reject", "payments-42", "--reason", " "]).expect_code(2).expect_stderr("a reason is missing");
    stages.run(&["reject", "payments-41", "--reason", "x"]).expect_code(2).expect_stderr("payments-41");
    let ran = stages.run(&["reject", "payments-42", "--reason", "the scanner found CVE-2026-1"]).expect_code(0);
    assert!(ran.stdout.contains("rejected: payments 42"), "{ran}");
    assert_eq!(stages.status(42), Some(Status::Rejected));
    stages.run(&["promote", "payments-42"]).expect_code(3).expect_stderr("was rejected at");
    // An override of something else changes nothing, and is not recorded.
    let other = ["promote", "payments-42", "--override", "rollback", "--reason", "x"];
    stages.run(&other).expect_code(3).expect_stderr("was rejected at");
    stages.site.receive(&bundle, &[]).expect_code(3).expect_stderr("was rejected at");
    assert!(stages.production_is_untouched());
    assert_eq!(reasons(&stages.site), ["the scanner found CVE-2026-1"]);

    let mut other = Stages::new();
    other.received(1);
    other.run(&["promote", "payments-1"]).expect_code(0);
    other.run(&["reject", "payments-1", "--reason", "late"]).expect_code(3).expect_stderr("is in production since");
    let again = stages.run(&["reject", "payments-42", "--reason", "once more"]).expect_code(0);
    assert!(again.stdout.contains("rejected before: payments 42"), "{again}");
}

#[test]
fn the_rest_of_what_was_promoted_in_part_is_rejected() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut stages = Stages::new();
    stages.site.list_fixtures(&[API]);
    stages.site.list_api_as("payments/other", "1");
    let bundle = stages.site.packed(1);
    stages.site.receive(&bundle, &[]).expect_code(0);
    let image = format!("{}/payments/other:1", stages.site.production.host());
    stages.run(&["promote", &image]).expect_code(0);
    let before = stages.site.traces();
    stages.run(&["reject", "payments-1", "--reason", "the rest is bad"]).expect_code(0);
    assert_eq!(stages.status(1), Some(Status::Rejected));
    let refused = stages.run(&["promote", "payments-1"]).expect_code(3);
    refused.expect_stderr("was rejected at").expect_stderr("images that were promoted before are published");
    let after = stages.site.traces();
    assert_eq!((after.registry, after.lookaside), (before.registry, before.lookaside));
    // What is in production stays, and is told.
    let receipt = stages.run(&["receipt", "payments-1"]).expect_code(0).stdout;
    assert!(receipt.contains("payments/other:1") && !receipt.contains("payments/api"), "{receipt}");
    stages.run(&["resign", "payments-1"]).expect_code(0);
    stages.run(&["ledger", "verify"]).expect_code(0);
}

#[test]
fn the_newest_that_was_promoted_keeps_older_ones_out_unless_that_is_overridden() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut stages = Stages::new();
    let (one, two) = (stages.received(1), stages.received(2));
    stages.run(&["promote", "payments-2"]).expect_code(0);
    let before = stages.site.traces();
    stages.run(&["promote", "payments-1"]).expect_code(3).expect_stderr("payments 1 is older than payments 2");
    let after = stages.site.traces();
    assert_eq!((after.registry, after.lookaside), (before.registry, before.lookaside));
    let without = ["promote", "payments-1", "--override", "rollback"];
    stages.run(&without).expect_code(2);
    stages.run(&[&without[..], &["--reason", "the board said so"]].concat()).expect_code(0);
    let tags = tags(&stages.site.production);
    assert_eq!((tags.get("payments/large:v1"), tags.get("payments/large:v2")), (Some(&one), Some(&two)));
    assert_eq!(reasons(&stages.site), ["the board said so"]);
    // The stream has not gone back.
    assert_eq!(ledger(&stages.site).newest(&"payments".parse().unwrap()).unwrap().map(|n| n.get()), Some(2));
}

#[test]
fn images_are_promoted_one_by_one_and_the_rest_waits() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut stages = Stages::new();
    stages.site.list_fixtures(&[API, "registry.dev.example/payments/busybox:1.36"]);
    let bundle = stages.site.packed(1);
    stages.site.receive(&bundle, &[]).expect_code(0);
    let image = |name: &str| format!("{}/payments/{name}", stages.site.production.host());
    stages.run(&["promote", &image("none:1")]).expect_code(2).expect_stderr("nothing of that name waits");
    let first = ["promote", &image("api:2.3.1")];
    stages.run(&first).expect_code(0);
    assert_eq!(tags(&stages.site.production).into_keys().collect::<Vec<_>>(), [NAME]);
    assert_eq!(stages.status(1), Some(Status::Promoted));
    stages.run(&first).expect_code(2).expect_stderr("nothing of that name waits");
    stages.run(&["promote", "payments-1"]).expect_code(0);
    assert_eq!(tags(&stages.site.production), tags(&stages.staging));
    assert_eq!(stages.status(1), Some(Status::Recorded));
    assert_eq!(acts(&stages.site), ["created", "begun", "received", "signing", "promoted", "signing", "recorded"]);
    run(&mut stages.site.import(&["ledger", "verify"])).expect_code(0);
}

#[test]
fn who_released_is_judged_again_expiry_as_of_the_receive_and_revocation_as_of_now() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut stages = Stages::new();
    let soon = Timestamp::from_unix(Timestamp::now().unix() + 20).unwrap();
    let key = Key::with(&stages.site.export_dir(), "short", "2024-01-01T00:00:00Z", Some(&soon.to_string()));
    fs::copy(&key.certificate_file, stages.site.import_dir().join("trust/release.asc")).unwrap();
    stages.site.release["sign"]["key"] = "short.secret.asc".into();
    stages.received(1);
    let bundle = stages.site.packed(1);
    let left = soon.unix() - Timestamp::now().unix();
    std::thread::sleep(std::time::Duration::from_secs(left.max(0).cast_unsigned() + 1));
    stages.site.receive(&bundle, &[]).expect_code(3).expect_stderr("the key expired on");

    // No longer configured; revoked; and good all the same, though it has expired since.
    let certificate = fs::read(&key.certificate_file).unwrap();
    let trusted = stages.site.import_dir().join("trust/release.asc");
    fs::copy(&stages.site.release_key.certificate_file, &trusted).unwrap();
    stages.run(&["promote", "payments-1"]).expect_code(3).expect_stderr("unknown key");
    key.revoke();
    fs::copy(&key.certificate_file, &trusted).unwrap();
    stages.run(&["promote", "payments-1"]).expect_code(3).expect_stderr("the key was revoked on");
    assert!(stages.site.production.is_empty());
    fs::write(&trusted, certificate).unwrap();
    stages.run(&["promote", "payments-1"]).expect_code(0);
}

#[test]
fn image_policy_and_destinations_are_those_of_now() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut stages = Stages::new();
    stages.sign_at_origin();
    let bundle = stages.site.packed(1);
    stages.site.receive(&bundle, &[]).expect_code(0);
    let promote = ["promote", "payments-1"];
    let to = stages.site.import["streams"]["payments"]["to"].clone();
    stages.site.import["streams"]["payments"]["to"][0]["to"] =
        format!("{}/elsewhere", stages.site.production.host()).into();
    stages.run(&promote).expect_code(3).expect_stderr("would go to").expect_stderr("/elsewhere/api:2.3.1");
    stages.site.import["streams"]["payments"]["to"] = to;
    let certificate = fs::read(&stages.signer.certificate_file).unwrap();
    stages.signer.revoke();
    stages.run(&promote).expect_code(3).expect_stderr("the key was revoked on");
    fs::write(&stages.signer.certificate_file, certificate).unwrap();
    stages.run(&promote).expect_code(0);
}

#[test]
fn what_was_kept_or_waits_in_staging_is_believed_as_little_as_a_medium() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut stages = Stages::new();
    stages.received(1);
    let bundle = stages.site.media().join("payments-1");
    let promote = ["promote", "payments-1"];
    let ledger = stages.site.import_dir().join("ledger.db");
    let change = |sql: &str| {
        let changed = rusqlite::Connection::open(&ledger).unwrap().execute(sql, []).unwrap();
        assert!(changed > 0, "{sql}");
    };
    for (name, says) in [
        ("manifest.json", "manifest"),
        ("manifest.json.asc", "signature"),
        ("sha256:%", "cannot be taken from what was kept"),
    ] {
        let flipped = "CAST(substr(bytes, 1, 40) || x'20' || substr(bytes, 42) AS BLOB)";
        change(&format!("UPDATE kept SET bytes = {flipped} WHERE name LIKE '{name}'"));
        let ran = stages.run(&promote);
        assert!(matches!(ran.code, Some(1 | 3)) && ran.stderr.contains(says), "{name}: {ran}");
        assert!(stages.production_is_untouched());
        change(&format!("DELETE FROM kept WHERE name LIKE '{name}'"));
        stages.run(&promote).expect_code(1).expect_stderr("hint: receive the bundle again");
        // The medium has it.
        stages.site.receive(&bundle, &[]).expect_code(0);
    }
    // Another manifest that the release key signed under the same name.
    let other = stages.site.copy(&bundle, "other");
    common::release_again(&stages.site, &other, |m| m["labels"] = json!({ "ticket": "CHG-2" }));
    let opened = common::open(&stages.site, &other);
    let raw = rusqlite::Connection::open(&ledger).unwrap();
    for (name, entry) in [("manifest.json", hostile::MANIFEST), ("manifest.json.asc", hostile::MANIFEST_SIGNATURE)] {
        let set = "UPDATE kept SET bytes = ?1 WHERE name = ?2";
        assert_eq!(raw.execute(set, (opened.content(entry), name)).unwrap(), 1);
    }
    drop(raw);
    stages.run(&promote).expect_code(3).expect_stderr("manifest");
    assert!(stages.production_is_untouched());
    stages.site.receive(&bundle, &[]).expect_code(0);

    // What was kept of another bundle, with a good signature too.
    stages.received(2);
    let id = |sequence: u64| {
        let stream = "payments".parse().unwrap();
        common::ledger(&stages.site).state_of(&stream, sequence.try_into().unwrap()).unwrap().unwrap().subject.bundle
    };
    let (one, two) = (id(1), id(2));
    change(&format!("DELETE FROM kept WHERE bundle = '{one}'"));
    change(&format!("INSERT INTO kept SELECT '{one}', name, bytes FROM kept WHERE bundle = '{two}'"));
    let ran = stages.run(&promote).expect_code(3);
    assert!(ran.stderr.contains("manifest") && stages.production_is_untouched(), "{ran}");
    stages.site.receive(&bundle, &[]).expect_code(0);

    let manifest: Value = serde_json::from_slice(&stages.staging.get("/v2/payments/large/manifests/v1").body).unwrap();
    let layer: Digest = manifest["layers"][1]["digest"].as_str().unwrap().parse().unwrap();
    for damaged in [false, true] {
        if damaged {
            stages.staging.damage_blob(&layer);
        } else {
            stages.staging.lose_blob(&layer);
        }
        let ran = stages.run(&promote);
        assert!(matches!(ran.code, Some(1 | 3)) && ran.stderr.contains("state: nothing was published"), "{ran}");
        assert!(tags(&stages.site.production).is_empty());
        if damaged {
            stages.staging.lose_blob(&layer);
        }
        stages.site.receive(&bundle, &[]).expect_code(0);
    }
    stages.run(&promote).expect_code(0);
}

#[test]
fn blobs_are_mounted_where_staging_and_production_are_one_registry() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut stages = Stages::new();
    let host = stages.site.production.host().to_string();
    stages.site.import["staging"]["to"] =
        json!([{ "from": format!("{host}/payments"), "to": format!("{host}/staging") }]);
    stages.received(1);
    let before = stages.site.production.uploaded_blobs();
    stages.run(&["promote", "payments-1"]).expect_code(0);
    assert_eq!(stages.site.production.uploaded_blobs().difference(&before).count(), 0);
    let log = stages.site.production.log();
    assert!(log.contains("mount=sha256"), "{log}");
    let names: Vec<_> = tags(&stages.site.production).into_keys().collect();
    assert_eq!(names, ["payments/large:v1", "staging/large:v1"]);
}

#[test]
fn staging_lies_apart_from_production() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut stages = Stages::new();
    let bundle: PathBuf = stages.site.packed(1);
    let good = stages.site.import["staging"].clone();
    let production = stages.site.production.host().to_string();
    stages.site.import["staging"]["to"][0]["to"] = format!("{production}/payments/staging").into();
    stages.site.receive(&bundle, &[]).expect_code(2).expect_stderr("which is production of a stream");
    stages.site.import["staging"] = good.clone();
    stages.site.import["staging"]["lookaside"] = "sigstore/".into();
    stages.site.receive(&bundle, &[]).expect_code(2).expect_stderr("the signature folder of production");
    stages.site.import["staging"] = good;
    stages.site.import["staging"]["to"][0]["from"] = "elsewhere.example".into();
    stages.site.receive(&bundle, &[]).expect_code(3).expect_stderr("no destination");
    assert!(stages.production_is_untouched() && stages.staging.is_empty());
}

#[test]
fn an_incremental_bundle_waits_with_all_that_it_left_to_its_base() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut stages = Stages::new();
    stages.received(1);
    let tag = "v2";
    stages.site.list_layers(tag, &[b"layer 2", b"a layer they share"]);
    stages.site.pack(2, &["--base", "payments-1"]).expect_code(0);
    let bundle = stages.site.media().join("payments-2");
    let early = stages.site.receive(&bundle, &[]).expect_code(3);
    early.expect_stderr("which the ledger does not have recorded");
    stages.run(&["promote", "payments-1"]).expect_code(0);
    stages.site.receive(&bundle, &[]).expect_code(0);
    stages.run(&["promote", "payments-2"]).expect_code(0);
    assert_eq!(tags(&stages.site.production).len(), 2);
}

/// Keys of people who may approve, of whom two must.
fn approvers(site: &mut Site, names: &[&str], needed: usize) -> Vec<Key> {
    fs::create_dir_all(site.import_dir().join("trust/approvers")).unwrap();
    let keys: Vec<_> = names.iter().map(|name| Key::new(&site.scratch("people"), name)).collect();
    for key in &keys {
        let name = key.certificate_file.file_name().unwrap();
        fs::copy(&key.certificate_file, site.import_dir().join("trust/approvers").join(name)).unwrap();
    }
    site.import["approvers"] = json!({ "certificates": ["trust/approvers/"], "threshold": needed });
    keys
}

fn approve(stages: &Stages, bundle: &str, key: &Key) -> Ran {
    stages.run(&["approve", bundle, "--sign-key", key.secret_file.to_str().unwrap(), "--for", "1d"])
}

#[test]
fn nothing_is_promoted_before_enough_people_have_approved_it() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut stages = Stages::new();
    let people = approvers(&mut stages.site, &["ada", "ben", "cyd"], 2);
    stages.received(1);
    let promote = ["promote", "payments-1"];
    stages.run(&promote).expect_code(3).expect_stderr("2 of 3 needed, 0 count");
    approve(&stages, "payments-1", &people[0]).expect_code(0);
    approve(&stages, "payments-1", &people[0]).expect_code(0);
    stages.run(&promote).expect_code(3).expect_stderr("2 of 3 needed, 1 counts");
    assert!(stages.production_is_untouched());
    approve(&stages, "payments-1", &people[2]).expect_code(0);
    stages.run(&promote).expect_code(0);
    let entries: Vec<_> =
        ledger(&stages.site).entries(ledger::EntryNumber::FIRST).map(|e| e.unwrap().entry.act).collect();
    let stated: Vec<_> = entries
        .iter()
        .filter_map(|act| match act {
            Act::Approved(approved) => Some(approved.statement),
            _ => None,
        })
        .collect();
    let Some(Act::Recorded(recorded)) = entries.last() else { panic!("not recorded") };
    assert_eq!(recorded.approvals.len(), 2);
    assert!(recorded.approvals.iter().all(|counted| stated.contains(counted)));

    // Only the recorded override does without.
    stages.received(2);
    let next = ["promote", "payments-2"];
    stages.run(&next).expect_code(3);
    // Not in a run that cannot start.
    let with = [&next[..], &["--override", "approvals", "--reason", "both are ill"]].concat();
    let no_key = stages.run(&[&with[..], &["--promoter-key", "none.secret.asc"]].concat()).expect_code(2);
    no_key.expect_stderr("none.secret.asc");
    let (secret, away) = (stages.site.production_key.secret_file.clone(), stages.site.import_dir().join("away"));
    fs::rename(&secret, &away).unwrap();
    stages.run(&with).expect_code(2).expect_stderr("production.secret.asc");
    fs::rename(&away, &secret).unwrap();
    assert_eq!(reasons(&stages.site), Vec::<String>::new());
    stages.run(&next).expect_code(3);
    stages.run(&[&next[..], &["--override", "approvals", "--reason", "both are ill"]].concat()).expect_code(0);
    assert_eq!(reasons(&stages.site), ["both are ill"]);
}

#[test]
fn with_approvers_and_one_stage_images_wait_in_production_without_tags_and_signatures() {
    if !need(&[Site::NEEDS, &["skopeo"]].concat()) {
        return;
    }
    let mut stages = Stages::new();
    stages.site.import.as_object_mut().unwrap().remove("staging");
    let people = approvers(&mut stages.site, &["ada"], 1);
    // The production key is not touched before the promotion.
    let secret = stages.site.production_key.secret_file.clone();
    let away = secret.with_extension("away");
    fs::rename(&secret, &away).unwrap();
    let bundle = stages.site.packed(1);
    let ran = stages.site.receive(&bundle, &[]).expect_code(0);
    assert!(ran.stdout.contains("it waits for `sealift-import promote payments-1`"), "{ran}");
    assert!(tags(&stages.site.production).is_empty() && stages.site.traces().lookaside.is_empty());
    assert!(!stages.site.production.uploaded_blobs().is_empty(), "its blobs are there");
    fs::rename(&away, &secret).unwrap();
    stages.run(&["promote", "payments-1"]).expect_code(3).expect_stderr("1 of 1 needed, 0 count");
    approve(&stages, "payments-1", &people[0]).expect_code(0);
    let uploaded = stages.site.production.uploaded_blobs();
    stages.run(&["promote", "payments-1"]).expect_code(0);
    let new = stages.site.production.uploaded_blobs().difference(&uploaded).count();
    assert_eq!(new, 0, "nothing is pushed again");
    let (repository, tag) = NAME.split_once(':').unwrap();
    stages.site.skopeo_verifies(repository, tag).expect_code(0);

    // What garbage collection took meanwhile, the medium brings back.
    stages.site.list_layers("v2", &[b"layer 2"]);
    let second = stages.site.packed(2);
    stages.site.receive(&second, &[]).expect_code(0);
    approve(&stages, "payments-2", &people[0]).expect_code(0);
    let lost = stages.site.production.uploaded_blobs();
    for blob in lost.difference(&uploaded) {
        stages.site.production.lose_blob(blob);
    }
    let ran = stages.run(&["promote", "payments-2"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("state: nothing was published"), "{ran}");
    stages.site.receive(&second, &[]).expect_code(0);
    stages.run(&["promote", "payments-2"]).expect_code(0);
}

#[test]
fn a_station_receives_into_staging_without_a_person() {
    if !need(Site::NEEDS) {
        return;
    }
    let stages = Stages::new();
    stages.site.packed(1);
    let watched = stages.site.media();
    let mut child = stages.site.import(&["receive", "--watch"]).arg(&watched).spawn().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while stages.status(1) != Some(Status::Received) {
        assert!(std::time::Instant::now() < deadline, "nothing was received");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(stages.production_is_untouched());
    assert_eq!(tags(&stages.staging).len(), 1);
}

#[test]
fn an_approval_that_ends_while_blobs_are_copied_does_not_count() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut stages = Stages::new();
    let people = approvers(&mut stages.site, &["ada"], 1);
    let proxy = testkit::Proxy::before(&stages.site.production);
    stages.site.import["streams"]["payments"]["to"][0]["to"] = format!("{}/payments", proxy.host()).into();
    stages.site.import["staging"]["to"][0]["from"] = proxy.host().into();
    stages.received(1);
    let end = Timestamp::from_unix(Timestamp::now().unix() + 5).unwrap();
    let key = people[0].secret_file.to_str().unwrap();
    stages.run(&["approve", "payments-1", "--sign-key", key, "--not-after", &end.to_string()]).expect_code(0);
    let slow = testkit::Fault::Delay(std::time::Duration::from_secs(7));
    proxy.rule(testkit::Rule::new(slow).method("HEAD").path("/blobs/").first(1));
    let ran = stages.run(&["promote", "payments-1"]).expect_code(3);
    ran.expect_stderr("1 of 1 needed, 0 count").expect_stderr("state: nothing was published");
    assert!(!proxy.seen().is_empty() && tags(&stages.site.production).is_empty());
    assert!(stages.site.traces().lookaside.is_empty());
    assert!(!acts(&stages.site).contains(&"signing"));
}

//! `handover production --merge-policy` and `--platform-scope`: nodes that pull from others too.

use std::fs;
use std::path::PathBuf;

use base64::Engine;
use ledger::{Act, EntryNumber, Ledger};
use manifest_schema::Reference;
use serde_json::{Value, json};
use testkit::layout::{API, digest, fixtures};
use testkit::{Key, Ran, Site, need};

use crate::production::{NAME, NEEDS, folder, handover, image, import, node};

const REJECT: &str = r#"[{ "type": "reject" }]"#;

/// The nodes' present policy, with these scopes of registries.
fn present(site: &Site, default: &Value, docker: &Value) -> PathBuf {
    let anything = json!([{ "type": "insecureAcceptAnything" }]);
    let transports = json!({ "docker": docker, "docker-daemon": { "": anything } });
    let path = site.scratch("nodes").join("policy.json");
    fs::write(&path, json!({ "default": default, "transports": transports }).to_string()).unwrap();
    path
}

fn reject() -> Value {
    serde_json::from_str(REJECT).unwrap()
}

fn anything() -> Value {
    json!([{ "type": "insecureAcceptAnything" }])
}

#[track_caller]
fn merged(site: &Site, file: &std::path::Path, args: &[&str]) -> Ran {
    handover(site, &[&["--merge-policy", file.to_str().unwrap()], args].concat())
}

pub(crate) fn policy(site: &Site) -> Value {
    serde_json::from_slice(&fs::read(folder(site).join("policy.json")).unwrap()).unwrap()
}

/// Neither a file nor an entry.
#[track_caller]
pub(crate) fn nothing_was_made(site: &Site) {
    assert!(!folder(site).join("policy.json").exists());
    let ledger = Ledger::open_read_only(&site.import_dir().join("ledger.db"), None).unwrap();
    let mut acts = ledger.entries(EntryNumber::FIRST).map(|stored| stored.unwrap().entry.act);
    assert!(!acts.any(|act| matches!(act, Act::HandedOver(_))));
}

#[test]
fn what_nodes_had_stays_and_production_is_demanded() {
    if !need(&[NEEDS, &["podman"]].concat()) {
        return;
    }
    let site = Site::new();
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    let platform = format!("{}/platform", site.origin.host());
    site.origin.load_layout(&fixtures(), API, "platform/api", "1");
    site.origin.load_layout(&fixtures(), API, "elsewhere/api", "1");
    let cosign = json!([{ "type": "sigstoreSigned", "keyPath": "/nowhere/cosign.pub" }]);
    let docker = json!({ &platform: anything(), "quay.example": reject(), "*.example": cosign });
    let file = present(&site, &reject(), &docker);
    let report = merged(&site, &file, &["--json"]).expect_code(0).json();
    let kept = report["merged"]["kept"].as_array().unwrap();
    assert_eq!(kept.len(), 4, "{report:#}");
    assert_eq!(policy(&site)["transports"]["docker-daemon"], json!({ "": anything() }));
    for (scope, rule) in docker.as_object().unwrap() {
        assert_eq!(policy(&site)["transports"]["docker"][scope], *rule);
    }
    let readme = fs::read_to_string(folder(&site).join("README.txt")).unwrap();
    assert!(readme.contains(&format!("docker: {platform}\n    insecureAcceptAnything")), "{readme}");

    // podman would read the keys of the whole policy; this one has none elsewhere.
    let file = present(&site, &reject(), &json!({ &platform: anything() }));
    merged(&site, &file, &[]).expect_code(0);
    node(&site).pulls(&format!("{platform}/api:1")).expect_code(0);
    node(&site).pulls(&image(&site, NAME)).expect_code(0);
    site.production.load_layout(&fixtures(), API, "payments/api", "9");
    node(&site).refuses(&image(&site, "payments/api:9"));
    node(&site).refuses(&format!("{}/elsewhere/api:1", site.origin.host()));

    // What nodes have after it, merged again, is the same; also with the keys in it.
    let once = policy(&site);
    let copy = site.scratch("nodes").join("merged.json");
    fs::copy(folder(&site).join("policy.json"), &copy).unwrap();
    let again = merged(&site, &copy, &["--json"]).expect_code(0).json();
    assert_eq!(policy(&site), once);
    assert_eq!(again["merged"]["kept"].as_array().unwrap().len(), 2, "{again:#}");
    // A key of before is no rule of somebody else.
    let second = Key::new(&site.import_dir(), "second");
    merged(&site, &copy, &["--certificate", second.certificate_file.to_str().unwrap()]).expect_code(0);
    node(&site).refuses(&image(&site, NAME));
}

#[test]
fn rules_of_an_earlier_hand_over_go_when_they_are_no_longer_said() {
    if !need(NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    let file = present(&site, &reject(), &json!({ site.production.host(): anything() }));
    import(&site, &["withdraw", &image(&site, NAME), "--reason", "CVE-2026-1"]).expect_code(0);
    let pinned = image(&site, &format!("payments/api@{}", digest(&fixtures(), API)));
    let somebodys = image(&site, &format!("payments/api@sha256:{}", "ab".repeat(32)));
    let mirrored = ["--mirrors", "both", "--json"];
    merged(&site, &file, &mirrored).expect_code(0);
    let mut nodes = policy(&site);
    let at_origin = format!("{}/payments/api@{}", site.origin.host(), digest(&fixtures(), API));
    let neighbours = image(&site, &format!("others/api@{}", digest(&fixtures(), API)));
    assert_eq!(nodes["transports"]["docker"][&pinned], reject());
    assert_eq!(nodes["transports"]["docker"][&at_origin], reject());
    let tagged = image(&site, &format!("payments/api:2.3.1@{}", digest(&fixtures(), API)));
    for scope in [&somebodys, &neighbours, &tagged] {
        nodes["transports"]["docker"][scope] = reject();
    }
    fs::write(&file, nodes.to_string()).unwrap();

    // It may run again: the refusal goes, that of somebody else stays.
    let next = site.packed(2);
    site.receive(&next, &["--override", "withdrawn", "--reason", "the report was wrong"]).expect_code(0);
    let report = merged(&site, &file, &mirrored).expect_code(0).json();
    let removed = report["merged"]["removed"].as_array().unwrap();
    assert!(removed.contains(&json!(pinned)) && removed.contains(&json!(at_origin)), "{report:#}");
    assert!(!removed.contains(&json!(somebodys)) && !removed.contains(&json!(neighbours)), "{report:#}");
    assert_eq!(policy(&site)["transports"]["docker"].get(&pinned), None);
    for scope in [&somebodys, &neighbours, &tagged] {
        assert_eq!(policy(&site)["transports"]["docker"][scope], reject());
    }
    node(&site).takes(&pinned).expect_code(0);

    // What a mapping brought that is no longer there is refused, although the platform's own rule around it accepts.
    fs::copy(folder(&site).join("policy.json"), &file).unwrap();
    site.import["streams"]["payments"]["to"][0]["to"] = image(&site, "other").into();
    merged(&site, &file, &[]).expect_code(0);
    assert_eq!(policy(&site)["transports"]["docker"][image(&site, "payments")], reject());
    node(&site).refuses(&image(&site, NAME));
}

#[test]
fn a_rule_of_others_does_not_decide_about_production() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let ours = image(&site, "payments");
    let signed_by = |path: String| json!([{ "type": "signedBy", "keyType": "GPGKeys", "keyPath": path }]);
    let other = signed_by("/etc/pki/other.asc".into());
    // Neither a file elsewhere nor one that is not named by its digest is one of a hand-over.
    let elsewhere = signed_by(format!("/etc/pki/{}.asc", "ab".repeat(32)));
    let unnamed = signed_by(format!("{}/keys/other.asc", folder(&site).display()));
    // Nor is every key in the file itself.
    let foreign = Key::new(&site.scratch("keys"), "foreign");
    let data = base64::engine::general_purpose::STANDARD.encode(fs::read(foreign.certificate_file).unwrap());
    let inside = json!([{ "type": "signedBy", "keyType": "GPGKeys", "keyData": data }]);
    for scope in [&ours, &format!("{ours}/api"), &format!("{ours}/api:1"), &format!("{ours}:1")] {
        for (rule, kind) in [
            (&anything(), "insecureAcceptAnything"),
            (&other, "signedBy"),
            (&elsewhere, "signedBy"),
            (&unnamed, "signedBy"),
            (&inside, "signedBy"),
        ] {
            let file = present(&site, &reject(), &json!({ scope: rule }));
            let ran = merged(&site, &file, &[]).expect_code(2);
            ran.expect_stderr(&format!("docker scope `{scope}`: ")).expect_stderr(&format!("({kind})"));
            nothing_was_made(&site);
        }
    }
    // One that refuses takes nothing away from it; a neighbour is none of its business.
    let docker = json!({ format!("{ours}/api"): reject(), format!("{ours}-of-others"): anything() });
    merged(&site, &present(&site, &reject(), &docker), &[]).expect_code(0);
    assert_eq!(policy(&site)["transports"]["docker"].as_object().unwrap().len(), 3);
}

#[test]
fn what_becomes_of_a_default_that_accepts_must_be_said() {
    if !need(NEEDS) {
        return;
    }
    let site = Site::new();
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    site.origin.load_layout(&fixtures(), API, "elsewhere/api", "1");
    let elsewhere = format!("{}/elsewhere/api:1", site.origin.host());
    for (default, docker) in [(anything(), json!({})), (reject(), json!({ "": anything() }))] {
        let file = present(&site, &default, &docker);
        merged(&site, &file, &[])
            .expect_code(2)
            .expect_stderr("what it does not name is accepted")
            .expect_stderr("--merge-default reject");
        let closed = merged(&site, &file, &["--merge-default", "reject"]).expect_code(0);
        assert!(!closed.stderr.contains("any image of a registry"), "{closed}");
        node(&site).refuses(&elsewhere);
        node(&site).takes(&image(&site, NAME)).expect_code(0);
        let kept = merged(&site, &file, &["--merge-default", "keep"]).expect_code(0);
        kept.expect_stderr("any image of a registry that policy.json does not name is accepted");
        node(&site).takes(&elsewhere).expect_code(0);
        site.production.load_layout(&fixtures(), API, "payments/api", "9");
        node(&site).refuses(&image(&site, "payments/api:9"));
    }
    // It decides about more than registries.
    let file = present(&site, &anything(), &json!({ "": reject() }));
    merged(&site, &file, &[]).expect_code(2).expect_stderr("what it does not name is accepted");
    merged(&site, &file, &["--merge-default", "reject"]).expect_code(0);
    assert_eq!(policy(&site)["default"], reject());
}

#[test]
fn a_policy_that_nodes_would_not_read_is_not_merged() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    for (text, reason) in [
        (format!(r#"{{ "default": {REJECT}, "more": 1 }}"#), "`more` is unknown"),
        (format!(r#"{{ "default": {REJECT}, "default": {REJECT} }}"#), "`default` is given twice"),
        (
            format!(r#"{{ "default": {REJECT}, "transports": {{ "docker": {{ "a": [] }} }} }}"#),
            "the list of requirements is empty",
        ),
        (r#"{ "transports": {} }"#.to_string(), "`default` is missing"),
    ] {
        let path = site.scratch("nodes").join("policy.json");
        fs::write(&path, text).unwrap();
        merged(&site, &path, &[]).expect_code(2).expect_stderr(reason);
        nothing_was_made(&site);
    }
    merged(&site, &site.scratch("nodes").join("none.json"), &[]).expect_code(2).expect_stderr("none.json");
}

#[test]
fn platform_scopes_are_accepted_by_their_own_keys() {
    if !need(NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    let vendor = Key::new(&site.scratch("keys"), "vendor");
    site.sign_at_origin(&vendor);
    let (scope, file) = (format!("{}/payments", site.origin.host()), vendor.certificate_file.display().to_string());
    let flag = format!("{scope}={file}");
    handover(&site, &["--platform-scope", &flag]).expect_code(0);
    let by_flag = policy(&site);
    site.look_for_signatures();
    let beside = site.scratch("registries.d").join("origin.yaml");
    fs::copy(&beside, folder(&site).join("registries.d/origin.yaml")).unwrap();
    let at_origin: Reference = format!("{}/{NAME}", site.origin.host()).parse().unwrap();
    node(&site).takes(&at_origin.to_string()).expect_code(0);
    node(&site).takes(&image(&site, NAME)).expect_code(0);
    site.origin.load_layout(&fixtures(), API, "payments/api", "9");
    node(&site).refuses(&format!("{}/payments/api:9", site.origin.host()));
    fs::remove_file(folder(&site).join("registries.d/origin.yaml")).unwrap();
    // The same by configuration.
    site.import["production"]["handover"] = json!({ "platform_scopes": { &scope: file } });
    handover(&site, &[]).expect_code(0);
    assert_eq!(policy(&site), by_flag);
    // Not for names of production, and not without a key.
    for part in ["payments", "payments/api"] {
        let part = format!("{}={file}", image(&site, part));
        handover(&site, &["--platform-scope", &part]).expect_code(2).expect_stderr("where production's keys decide");
    }
    let nothing = format!("{scope}=");
    handover(&site, &["--platform-scope", &nothing]).expect_code(2).expect_stderr("expected SCOPE=FILE");
    handover(&site, &["--platform-scope", &scope]).expect_code(2).expect_stderr("expected SCOPE=FILE");
    let secret = format!("{scope}={}", vendor.secret_file.display());
    handover(&site, &["--platform-scope", &secret]).expect_code(2).expect_stderr("secret");
}

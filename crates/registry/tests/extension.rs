//! The signature extension of OpenShift's registry, imitated, with real skopeo and gpg as its other users.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod common;

use blobs::{VerifiedBytes, sha256};
use manifest_schema::{Digest, LIMITS, MediaType};
use registry::source::SourceRef;
use registry::{Config, Error, RepositoryClient};
use serde_json::{Value, json};
use testkit::{Fault, Features, Gpg, Layout, Modern, Proxy, Rule, need, run, run_ok};

use self::common::*;

const SIGNATURES: Features = Features { referrers: false, page: 0, signatures: true };

/// Pushes a small image.
fn image(client: &RepositoryClient) -> Digest {
    let config = VerifiedBytes::of(b"{}".to_vec());
    assert_eq!(client.push_small_blob(&config).unwrap().digest(), config.digest());
    let document = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "layers": [],
        "config": { "mediaType": MediaType::OCI_CONFIG, "digest": config.digest().to_string(), "size": 2 },
    });
    let document = VerifiedBytes::of(document.to_string().into_bytes());
    *client.push_document(&document, &MediaType::OCI_MANIFEST.parse().unwrap()).unwrap().digest()
}

#[test]
fn signatures_are_put_once_and_read_back() {
    if !need(&["docker-registry"]) {
        return;
    }
    let modern = Modern::start(SIGNATURES);
    let client = client(modern.host());
    assert!(client.has_signature_extension().unwrap());
    assert!(!common::client(modern.registry().host()).has_signature_extension().unwrap());
    let digest = image(&client);
    assert!(client.fetch_signatures(&digest).unwrap().is_empty());
    assert!(client.fetch_signatures(&sha256(b"unknown")).unwrap().is_empty());
    assert!(matches!(client.put_signature(&sha256(b"unknown"), b"x"), Err(Error::NotFound { .. })));
    for signature in [b"first".as_slice(), b"second", b"first"] {
        client.put_signature(&digest, signature).unwrap();
    }
    assert_eq!(client.fetch_signatures(&digest).unwrap(), [b"first".to_vec(), b"second".to_vec()]);
    assert_eq!(modern.proxy().count("PUT", "/signatures/"), 3, "one of them for an unknown image");
    let kept = modern.signatures("a/b", &digest);
    assert_eq!(kept[0]["schemaVersion"], 2);
    assert_eq!(kept[0]["type"], "atomic");
    let name = kept[0]["name"].as_str().unwrap();
    assert_eq!(name, format!("{digest}@{}", &sha256(b"first").hex()[..32]));

    let large = vec![0; LIMITS.signature as usize + 1];
    assert!(matches!(client.put_signature(&digest, &large), Err(Error::TooLarge { .. })));
    modern.proxy().rule(Rule::new(Fault::status(403)).path("/signatures/").method("PUT"));
    assert!(matches!(client.put_signature(&digest, b"third"), Err(Error::Denied { .. })));
    modern.proxy().clear();
    // The name of the fourth is taken by something else.
    let name = format!("{digest}@{}", &sha256(b"fourth").hex()[..32]);
    modern.keep_signature(
        "a/b",
        &digest,
        json!({"schemaVersion": 2, "name": name, "type": "atomic", "content": "AA=="}),
    );
    assert!(matches!(client.put_signature(&digest, b"fourth"), Err(Error::Status { status: 409, .. })));
    for n in 3..LIMITS.lookaside_signatures {
        let name = format!("{digest}@{n}");
        modern.keep_signature(
            "a/b",
            &digest,
            json!({"schemaVersion": 2, "name": name, "type": "atomic", "content": "AA=="}),
        );
    }
    assert_eq!(client.fetch_signatures(&digest).unwrap().len(), LIMITS.lookaside_signatures);
    assert!(matches!(client.put_signature(&digest, b"fifth"), Err(Error::TooMany { .. })));
}

#[test]
fn an_answer_that_was_lost_is_no_failure() {
    if !need(&["docker-registry"]) {
        return;
    }
    let modern = Modern::start(SIGNATURES);
    let client = client(modern.host());
    let digest = image(&client);
    client.put_signature(&digest, b"first").unwrap();
    // The list is of before the signature came; then its name is taken.
    let empty = answer(200, &[], br#"{"signatures":null}"#);
    modern.proxy().rule(Rule::new(empty).path("/signatures/").method("GET").nth(1));
    client.put_signature(&digest, b"first").unwrap();
    assert_eq!(modern.signatures("a/b", &digest).len(), 1);
}

#[test]
fn lists_that_mislead_are_refused() {
    let digest = sha256(b"manifest");
    let entry = |change: &dyn Fn(&mut Value)| {
        let mut entry = json!({"schemaVersion": 2, "name": format!("{digest}@0"), "type": "atomic", "content": "c2ln"});
        change(&mut entry);
        json!({ "signatures": [entry] }).to_string()
    };
    let fetch = |body: &str| {
        let server = open_server();
        server.rule(Rule::new(answer(200, &[], body.as_bytes())).path("/extensions/v2/a/b/signatures/"));
        client(server.host()).fetch_signatures(&digest)
    };
    assert_eq!(fetch(&entry(&|_| ())).unwrap(), [b"sig".to_vec()]);
    assert!(fetch(r#"{"signatures":[]}"#).unwrap().is_empty());
    // What containers/image does not take for a simple signature either.
    assert!(fetch(&entry(&|e| e["type"] = json!("other"))).unwrap().is_empty());
    assert!(fetch(&entry(&|e| e["schemaVersion"] = json!(3))).unwrap().is_empty());
    let good = entry(&|_| ());
    for (body, why) in [
        (String::new(), "EOF"),
        ("[]".into(), "invalid"),
        ("{}".into(), "missing field `signatures`"),
        (format!("{good} x"), "trailing"),
        (good.replace(r#""signatures":"#, r#""signatures":[],"signatures":"#), "duplicate field"),
        (good.replace(r#""type":"#, r#""type":"x","type":"#), "duplicate field"),
        (entry(&|e| e["extra"] = json!(1)), "unknown field"),
        (entry(&|e| e["name"] = json!(format!("{}@0", sha256(b"other")))), "for something else"),
        (entry(&|e| e["name"] = json!("x\u{1b}")), "x\\u{1b}"),
        (entry(&|e| e["content"] = json!("c2l")), "padding"),
        (entry(&|e| e["content"] = json!("****")), "symbol"),
        (entry(&|e| e["content"] = json!(null)), "invalid type"),
    ] {
        let error = fetch(&body).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }) && error.to_string().contains(why), "{why}: {error}");
    }
    let large = "AAAA".repeat(LIMITS.signature as usize / 3 + 1);
    assert!(matches!(fetch(&entry(&|e| e["content"] = json!(large))), Err(Error::TooLarge { .. })));
    let one: Value = serde_json::from_str(&good).unwrap();
    let many = vec![one["signatures"][0].clone(); LIMITS.lookaside_signatures + 1];
    assert!(matches!(fetch(&json!({ "signatures": many }).to_string()), Err(Error::TooMany { .. })));
    let padded = format!("{good}{}", " ".repeat(LIMITS.registry_answer as usize));
    assert!(matches!(fetch(&padded), Err(Error::TooLarge { .. })));
    let server = open_server();
    server.rule(Rule::new(Fault::status(403)).path("/extensions/"));
    assert!(matches!(client(server.host()).fetch_signatures(&digest), Err(Error::Denied { .. })));
}

#[test]
fn only_the_header_says_that_there_is_an_extension() {
    for (value, expected) in [(Some("1"), true), (Some("0"), false), (Some("true"), false), (None, false)] {
        let server = Proxy::alone();
        let list: Vec<_> = value.iter().map(|v| ("x-registry-supports-signatures", *v)).collect();
        server.rule(Rule::new(answer(200, &list, b"")).path("/v2/").nth(1));
        assert_eq!(client(server.host()).has_signature_extension().unwrap(), expected, "{value:?}");
    }
    // Those who must log in are told too.
    let server = Proxy::alone();
    let list = [("x-registry-supports-signatures", "1"), ("www-authenticate", "Basic realm=\"x\"")];
    server.rule(Rule::new(answer(401, &list, b"")).path("/v2/").nth(1));
    assert!(client(server.host()).has_signature_extension().unwrap());
}

#[test]
fn skopeo_reads_ours_and_we_read_skopeos() {
    if !need(&["docker-registry", "skopeo", "gpg"]) {
        return;
    }
    let (modern, gpg, folder) = (Modern::start(SIGNATURES), Gpg::new(), tempfile::tempdir().unwrap());
    let key = gpg.generate("signer@example.org", "rsa2048");
    let path = |name: &str| folder.path().join(name);
    let mut layout = Layout::new();
    let image = layout.image(&[b"hello"]);
    let digest = layout.name("1.0", &image);
    let name = format!("{}/a/b:1", modern.host());
    let from = format!("oci:{}:1.0", layout.path().display());
    let skopeo = |policy: &str, args: &[&str]| {
        let mut command = gpg.with_home("skopeo", &["--policy", policy]);
        command.args(args);
        command
    };
    let open = path("open.json").display().to_string();
    std::fs::write(&open, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    let to = format!("docker://{name}");
    let copy = ["copy", "--preserve-digests", "--dest-tls-verify=false", "--sign-by", &key, &from, &to];
    run_ok(&mut skopeo(&open, &copy));

    let source = name.parse::<SourceRef>().unwrap().open(&registries(Config::default())).unwrap();
    let found = source.simple_signatures(&digest).unwrap();
    assert_eq!(found.len(), 1);
    std::fs::write(path("signature"), &found[0]).unwrap();
    let payload = run_ok(gpg.command().arg("--decrypt").arg(path("signature"))).stdout;
    assert!(payload.contains(&name) && payload.contains(&digest.to_string()), "{payload}");

    // The same signature, put by us under another name of the image, satisfies skopeo's policy there.
    let other =
        registries(Config::default()).repository(&manifest_schema::Repository::new(modern.host(), "c/d").unwrap());
    std::fs::write(path("key.asc"), gpg.export(&key)).unwrap();
    let policy = json!({ "default": [{ "type": "signedBy", "keyType": "GPGKeys", "keyPath": path("key.asc"),
        "signedIdentity": { "type": "exactReference", "dockerReference": name } }] });
    let strict = path("strict.json").display().to_string();
    std::fs::write(&strict, policy.to_string()).unwrap();
    let to = format!("docker://{}/c/d:1", modern.host());
    run_ok(&mut skopeo(&open, &["copy", "--preserve-digests", "--dest-tls-verify=false", &from, &to]));
    let back = format!("dir:{}", path("back").display());
    let copy_back = ["copy", "--src-tls-verify=false", &to, &back];
    let refused = run(&mut skopeo(&strict, &copy_back));
    assert!(refused.code != Some(0) && refused.stderr.contains("signature"), "{refused}");
    other.put_signature(&digest, &found[0]).unwrap();
    run_ok(&mut skopeo(&strict, &copy_back));
    assert_eq!(std::fs::read(path("back").join("signature-1")).unwrap(), found[0]);
}

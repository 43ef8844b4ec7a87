//! The manifest: whose signatures count, and what is strict JSON of this format.

use std::fs;
use std::path::Path;

use serde_json::json;
use testkit::hostile::{MANIFEST, MANIFEST_SIGNATURE};
use testkit::{Key, Site, need};

use crate::common::{Case, Leaves::Nothing, case, open, refused, release, release_again, seal};

/// The manifest signed by another key, everything else as it should be.
fn signed_by(key: Key) -> impl Fn(&mut Site, &Path) {
    move |site, folder| {
        let mut opened = open(site, folder);
        opened.sign_manifest(&|bytes| key.sign(bytes));
        seal(site, folder, &opened);
    }
}

/// The same, with the key among the stream's certificates.
fn signed_by_trusted(key: Key) -> impl Fn(&mut Site, &Path) {
    let certificate = key.certificate_file.display().to_string();
    let sign = signed_by(key);
    move |site, folder| {
        site.import["streams"]["payments"]["release"]["certificates"] = json!(["trust/release.asc", certificate]);
        sign(site, folder);
    }
}

#[test]
fn a_manifest_counts_only_with_the_streams_own_signatures() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(42);
    let keys = site.scratch("keys");
    let unknown = Key::new(&keys, "unknown");
    let of_web = Key::new(&keys, "web");
    let web_certificate = of_web.certificate_file.display().to_string();
    let expired = Key::with(&keys, "expired", "2024-01-01T00:00:00Z", Some("2025-01-01T00:00:00Z"));
    let revoked = Key::new(&keys, "revoked");
    revoked.revoke();
    let second = Key::new(&keys, "second");
    let second_certificate = second.certificate_file.display().to_string();
    let threshold = second_certificate.clone();
    let name = unknown.fingerprint.clone();
    let by_web = signed_by(of_web);
    refused(
        &mut site,
        &bundle,
        &[
            case(
                "an unknown key",
                3,
                &["the manifest is not signed", &name, "unknown key"],
                Nothing,
                signed_by(unknown),
            ),
            case("an expired key", 3, &["the key expired on 2025-01-01"], Nothing, signed_by_trusted(expired)),
            case("a revoked key", 3, &["the key was revoked"], Nothing, signed_by_trusted(revoked)),
            case(
                "the release key of another stream",
                3,
                &["stream payments", "unknown key"],
                Nothing,
                move |site, f| {
                    let mut web = site.import["streams"]["payments"].clone();
                    web["release"]["certificates"] = json!([web_certificate]);
                    web["to"][0]["to"] = format!("{}/web", site.production.host()).into();
                    site.import["streams"]["web"] = web;
                    by_web(site, f);
                },
            ),
            case("one signature where two are needed", 3, &["1 of 2 required signatures"], Nothing, move |site, f| {
                site.import["streams"]["payments"]["release"] =
                    json!({ "certificates": ["trust/release.asc", threshold], "threshold": 2 });
                // The same certificate twice counts once.
                let twice = |bytes: &[u8]| [site.release_key.sign(bytes), site.release_key.sign(bytes)].concat();
                let mut opened = open(site, f);
                opened.sign_manifest(&twice);
                seal(site, f, &opened);
                let both = |bytes: &[u8]| [site.release_key.sign(bytes), second.sign(bytes)].concat();
                testkit::hostile::sign_seal(f, &both);
            }),
            case(
                "the seal with one signature where two are needed",
                3,
                &["the seal", "1 of 2"],
                Nothing,
                move |site, _| {
                    site.import["streams"]["payments"]["release"] =
                        json!({ "certificates": ["trust/release.asc", second_certificate], "threshold": 2 });
                },
            ),
            case("a byte changed", 3, &["the manifest is not signed", "bad signature"], Nothing, |site, f| {
                let mut opened = open(site, f);
                opened.edit_manifest_text(|text| text.replacen("\"sequence\":42", "\"sequence\":43", 1));
                seal(site, f, &opened);
            }),
            case("another signature's bytes", 3, &["bad signature"], Nothing, |site, f| {
                let mut opened = open(site, f);
                opened.replace(MANIFEST_SIGNATURE, &site.release_key.sign(b"something else"));
                seal(site, f, &opened);
            }),
            case("no signature", 3, &["there is no signature"], Nothing, |site, f| {
                let mut opened = open(site, f);
                opened.replace(MANIFEST_SIGNATURE, b"");
                seal(site, f, &opened);
            }),
            case("a signature that is none", 3, &["the signature cannot be read"], Nothing, |site, f| {
                let mut opened = open(site, f);
                opened.replace(MANIFEST_SIGNATURE, &[0xff; 100]);
                seal(site, f, &opened);
            }),
        ],
    );
}

#[test]
fn two_release_keys_together_meet_a_threshold_of_two() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(42);
    let second = Key::new(&site.scratch("keys"), "second");
    site.import["streams"]["payments"]["release"] =
        json!({ "certificates": ["trust/release.asc", second.certificate_file], "threshold": 2 });
    let both = |bytes: &[u8]| [site.release_key.sign(bytes), second.sign(bytes)].concat();
    let mut opened = open(&site, &bundle);
    opened.sign_manifest(&both);
    opened.encrypt(&site.identity);
    testkit::hostile::reseal(&bundle, &both);
    let received = site.receive(&bundle, &["--json"]).expect_code(0).json();
    let signers = received["bundle"]["record"]["signers"].as_array().unwrap().clone();
    assert!(signers.contains(&json!(site.release_key.fingerprint)) && signers.contains(&json!(second.fingerprint)));
}

/// A change of the manifest's text by whoever has the release key.
fn released(name: &'static str, says: &'static str, edit: impl Fn(String) -> String + 'static) -> Case {
    case(name, 3, &[says], Nothing, move |site, folder| {
        let mut opened = open(site, folder);
        let before = opened.content(MANIFEST).to_vec();
        opened.edit_manifest_text(&edit);
        assert_ne!(opened.content(MANIFEST), before, "{name}");
        release(site, folder, opened);
    })
}

#[test]
fn a_signed_manifest_is_read_strictly() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.release["labels"] = json!({ "ticket": "CHG-1234" });
    let bundle = site.packed(42);
    let label = |to: &'static str| move |text: String| text.replacen("CHG-1234", to, 1);
    let tag = |to: &'static str| move |text: String| text.replacen(":2.3.1\",\"digest", &format!("{to}\",\"digest"), 1);
    refused(
        &mut site,
        &bundle,
        &[
            released("an unknown key", "unknown field", |t| t.replacen("\"stream\":", "\"note\":1,\"stream\":", 1)),
            released("a key twice", "duplicate field", |t| {
                t.replacen("\"sequence\":42", "\"sequence\":42,\"sequence\":42", 1)
            }),
            released("a label twice", "duplicate key", |t| {
                t.replacen("\"ticket\":\"CHG-1234\"", "\"ticket\":\"CHG-1234\",\"ticket\":\"x\"", 1)
            }),
            released("bytes after it", "trailing", |t| format!("{t}\n")),
            released("another type", "sealift/manifest/1", |t| {
                t.replacen("sealift/manifest/1", "sealift/manifest/2", 1)
            }),
            released("the type not first", "first member", |t| {
                format!("{{\"tool\":\"x\",{}", &t.replacen("\"tool\":\"", "\"tool2\":\"", 1)[1..])
            }),
            released("a newer feature", "needs sealift >= 9.0", |t| {
                t.replacen("\"requires\":[]", "\"requires\":[{\"feature\":\"teleport\",\"since\":\"9.0\"}]", 1)
            }),
            released("a label that clears the screen", "not a label value", label("\\u001b[2J")),
            released("a label that turns the text around", "not a label value", label("\u{202e}4321-GHC")),
            released("a label of two lines", "not a label value", label("a\\nb")),
            released("a label with a C1 control", "not a label value", label("\u{9b}2J")),
            released("a tag that clears the screen", "tag", tag(":2.3\\u001b[2J")),
            released("a tag that turns the text around", "tag", tag(":2.3\u{202e}")),
            released("a path that leads elsewhere", "manifest is not valid", |t| {
                t.replacen("/payments/api:2.3.1\",\"digest", "/../api:2.3.1\",\"digest", 1)
            }),
            case("another stream", 3, &["another name", "expected payments-42", "web-42"], Nothing, |site, f| {
                release_again(site, f, |m| m["stream"] = "web".into());
            }),
            case(
                "another sequence",
                3,
                &["another name", "expected payments-42", "payments-43"],
                Nothing,
                |site, f| {
                    release_again(site, f, |m| m["sequence"] = 43.into());
                },
            ),
            case("an image twice", 3, &["listed twice"], Nothing, |site, f| {
                release_again(site, f, |m| {
                    let image = m["images"][0].clone();
                    m["images"].as_array_mut().unwrap().push(image);
                });
            }),
            case("a blob twice", 3, &["listed twice"], Nothing, |site, f| {
                release_again(site, f, |m| {
                    let blob = m["blobs"].as_array().unwrap().last().unwrap().clone();
                    m["blobs"].as_array_mut().unwrap().push(blob);
                });
            }),
            case("a volume that does not exist", 3, &["volume"], Nothing, |site, f| {
                release_again(site, f, |m| {
                    m["blobs"].as_array_mut().unwrap().last_mut().unwrap()["stored"]["whole"]["volume"] = 2.into();
                });
            }),
            case("no manifest", 3, &["expected the entry `sealift/manifest.json`"], Nothing, |site, f| {
                let mut opened = open(site, f);
                let manifest = opened.content(MANIFEST).to_vec();
                opened.remove(MANIFEST);
                opened.encrypt(&site.identity);
                testkit::hostile::seal_names_manifest(f, &manifest);
                crate::common::reseal(&site.release_key, f);
            }),
        ],
    );
    let label = fs::read_to_string(bundle.join("LABEL.txt")).unwrap();
    assert!(label.contains("CHG-1234"));
}

//! Bundles, verified with keys.

use serde_json::{Value, json};
use signing::SigstoreKey;
use signing::sigstore::{BundleRejected, BundleSigner, Keyless, KeylessIdentity, SigstoreBundle, VerifiedBy};

use crate::common::have;
use crate::forge::{Forge, Key, b64, envelope, message, pae, statement, trusted_root};
use crate::support::{KINDS, OpenSsl, digest};

const SLSA: &str = "https://slsa.dev/provenance/v1";

fn bundle(content: (&str, Value)) -> Value {
    let mut bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": { "publicKey": { "hint": "\u{1b}[2J" }, "tlogEntries": [] },
    });
    bundle[content.0] = content.1;
    bundle
}

fn attestation() -> Value {
    let statement = statement(&[digest()], SLSA);
    bundle(("dsseEnvelope", envelope(&statement, &Key(7).sign(&pae(&statement)))))
}

fn key(key: Key) -> SigstoreKey {
    SigstoreKey::from_der(&key.spki()).unwrap()
}

fn parse(bundle: &Value) -> Result<SigstoreBundle, BundleRejected> {
    SigstoreBundle::parse(bundle.to_string().as_bytes())
}

#[test]
fn an_attestation_is_verified_with_a_key() {
    let read = parse(&attestation()).unwrap();
    assert_eq!(read.untrusted_claims().subjects, [digest()]);
    assert!(matches!(read.signer(), BundleSigner::Key { .. }));
    let verified = read.verify_with_keys(&[key(Key(8)), key(Key(7))]).unwrap();
    assert_eq!(verified.by, VerifiedBy::Key(key(Key(7)).fingerprint()));
    assert_eq!(verified.claims.subjects, [digest()]);
    assert_eq!(verified.claims.predicate_type.unwrap().raw(), SLSA);
    let refused = read.verify_with_keys(&[key(Key(8))]);
    assert_eq!(refused, Err(BundleRejected::UnknownKey { tried: vec![key(Key(8)).fingerprint()] }));
    assert_eq!(read.verify_with_keys(&[]), Err(BundleRejected::NoKeys));

    for version in ["+json;version=0.1", "+json;version=0.2", "+json;version=0.3"] {
        let mut older = attestation();
        older["mediaType"] = format!("application/vnd.dev.sigstore.bundle{version}").into();
        let _ = parse(&older).unwrap().verify_with_keys(&[key(Key(7))]).unwrap();
    }
}

#[test]
fn a_bundle_with_a_certificate_is_verified_with_a_key_too() {
    let read = parse(&Forge::new(Some(statement(&[digest()], SLSA))).bundle()).unwrap();
    assert_eq!(*read.signer(), BundleSigner::Certificate);
    let _ = read.verify_with_keys(&[key(Key(4))]).unwrap();
    assert!(matches!(read.verify_with_keys(&[key(Key(1))]), Err(BundleRejected::UnknownKey { .. })));
}

#[test]
fn a_bare_envelope_is_verified_with_a_key() {
    let text = attestation()["dsseEnvelope"].to_string();
    let read = SigstoreBundle::parse_envelope(text.as_bytes()).unwrap();
    assert_eq!(read.untrusted_claims().subjects, [digest()]);
    let verified = read.verify_with_keys(&[key(Key(7))]).unwrap();
    assert_eq!(verified.claims.predicate_type.unwrap().raw(), SLSA);
    assert!(matches!(read.verify_with_keys(&[key(Key(8))]), Err(BundleRejected::UnknownKey { .. })));
    let identities = vec![KeylessIdentity { issuer: "x".into(), subject: "y".into() }];
    let keyless = Keyless::new(trusted_root().to_string().as_bytes(), identities).unwrap();
    assert_eq!(read.verify_with_keyless(&keyless, &digest()), Err(BundleRejected::NoCertificate));
    for bad in [attestation().to_string(), format!("{text}{text}"), "[]".into()] {
        assert!(matches!(SigstoreBundle::parse_envelope(bad.as_bytes()), Err(BundleRejected::Unreadable(_))));
    }
    let large = SigstoreBundle::parse_envelope(&vec![b' '; (32 << 20) + 1]);
    assert!(matches!(large, Err(BundleRejected::TooLarge { .. })));
}

#[test]
fn a_signature_over_a_hash_is_verified_with_a_key() {
    let about = blobs::sha256(b"a manifest");
    let good = bundle(("messageSignature", message(about.as_bytes(), &Key(7).sign(b"a manifest"))));
    let read = parse(&good).unwrap();
    let verified = read.verify_with_keys(&[key(Key(7))]).unwrap();
    assert_eq!((verified.claims.subjects, verified.claims.predicate_type), (vec![about], None));
    assert!(matches!(read.verify_with_keys(&[key(Key(8))]), Err(BundleRejected::UnknownKey { .. })));
    let mut other = good.clone();
    other["messageSignature"]["messageDigest"]["digest"] = b64(digest().as_bytes()).into();
    let other = parse(&other).unwrap().verify_with_keys(&[key(Key(7))]);
    assert!(matches!(other, Err(BundleRejected::UnknownKey { .. })));
    if have(&["openssl"]) {
        let openssl = OpenSsl::new();
        for kind in &KINDS[1..] {
            let key = SigstoreKey::from_pem(&openssl.make("key", kind)).unwrap();
            assert_eq!(read.verify_with_keys(&[key]), Err(BundleRejected::NeedsContent));
        }
    }
}

#[test]
fn envelopes_by_every_kind_of_key_count() {
    if !have(&["openssl"]) {
        return;
    }
    let openssl = OpenSsl::new();
    let statement = statement(&[digest()], SLSA);
    for (i, kind) in KINDS.iter().enumerate() {
        let key = SigstoreKey::from_pem(&openssl.make("key", kind)).unwrap();
        let signed = openssl.sign("key", &pae(&statement));
        let good = bundle(("dsseEnvelope", envelope(&statement, &signed)));
        let _ = parse(&good).unwrap().verify_with_keys(std::slice::from_ref(&key)).unwrap();
        let bare = bundle(("dsseEnvelope", envelope(&statement, &openssl.sign("key", &statement))));
        assert!(parse(&bare).unwrap().verify_with_keys(std::slice::from_ref(&key)).is_err());
        // SHA-384, which cosign uses with P-384.
        if i < 2 {
            openssl.write("payload", &pae(&statement));
            let signed = openssl.run(&["dgst", "-sha384", "-sign", "key.key", "payload"]);
            let with_384 = parse(&bundle(("dsseEnvelope", envelope(&statement, &signed)))).unwrap();
            assert_eq!(with_384.verify_with_keys(&[key]).is_ok(), i == 1);
        }
    }
}

/// A bundle around a statement that is signed well.
fn signed(statement: &str) -> Value {
    bundle(("dsseEnvelope", envelope(statement.as_bytes(), &Key(7).sign(&pae(statement.as_bytes())))))
}

#[test]
fn statements_about_no_image_are_refused() {
    let good = String::from_utf8(statement(&[digest()], SLSA)).unwrap();
    let hex = digest().hex();
    parse(&signed(&good)).unwrap();
    parse(&signed(&good.replace("Statement/v1", "Statement/v0.1"))).unwrap();
    let both = good.replace(r#"{"sha256""#, r#"{"gitCommit":"abc","sha256""#);
    assert_eq!(parse(&signed(&both)).unwrap().untrusted_claims().subjects, [digest()]);
    for (from, to) in [
        ("Statement/v1", "Statement/v2"),
        (&*format!(r#""sha256":"{hex}""#), r#""gitCommit":"abc""#),
        (&*format!(r#""sha256":"{hex}""#), r#""sha256":"abc""#),
        (&*format!(r#""sha256":"{hex}""#), &*format!(r#""sha256":"{hex}","sha256":"{hex}""#)),
        (r#""subject":["#, r#""subject":[],"subject":["#),
        (r#""subject":["#, r#""subjects":["#),
        (r#""predicateType""#, r#""predicate_type""#),
        ("{", "{}{"),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from}");
        let error = parse(&signed(&changed)).unwrap_err();
        assert!(matches!(error, BundleRejected::Content(_)), "{changed}: {error}");
    }
    let empty = good.replace(&format!(r#"{{"digest":{{"sha256":"{hex}"}},"name":"image"}}"#), "");
    assert_ne!(empty, good);
    assert!(matches!(parse(&signed(&empty)), Err(BundleRejected::Content(_))));
    let many = vec![digest(); 10_001];
    assert!(matches!(
        parse(&signed(std::str::from_utf8(&statement(&many, SLSA)).unwrap())),
        Err(BundleRejected::Content(_))
    ));
}

#[test]
fn what_is_no_bundle_is_refused() {
    let good = attestation();
    let mut other = good.clone();
    other["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.4+json".into();
    assert!(matches!(parse(&other), Err(BundleRejected::Version(_))));
    for (pointer, value) in [
        ("/mediaType", json!(null)),
        ("/verificationMaterial/publicKey", json!(null)),
        ("/verificationMaterial", json!({ "publicKey": {}, "certificate": { "rawBytes": "" } })),
        ("/dsseEnvelope", json!(null)),
        ("/dsseEnvelope/signatures", json!([])),
        ("/dsseEnvelope/signatures", json!([{ "sig": "AAAA" }, { "sig": "AAAA" }])),
        ("/dsseEnvelope/signatures/0/sig", json!("*")),
        ("/dsseEnvelope/payload", json!("*")),
    ] {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        assert!(matches!(parse(&changed), Err(BundleRejected::Unreadable(_))), "{pointer}");
    }
    let mut both = good.clone();
    both["messageSignature"] = message(digest().as_bytes(), b"x");
    assert!(matches!(parse(&both), Err(BundleRejected::Unreadable(_))));
    let text = good.to_string();
    for (from, to) in [
        (r#"{"dsseEnvelope":"#, r#"{"dsseEnvelope":null,"dsseEnvelope":"#),
        (r#""payload":"#, r#""payload":"AAAA","payload":"#),
        (r#""mediaType":"#, r#""mediaType":"x","mediaType":"#),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        assert!(matches!(SigstoreBundle::parse(changed.as_bytes()), Err(BundleRejected::Unreadable(_))), "{from}");
    }
    for bytes in [&b""[..], b"\xff", b"[]", (text.clone() + "x").as_bytes()] {
        assert!(matches!(SigstoreBundle::parse(bytes), Err(BundleRejected::Unreadable(_))));
    }
    assert!(matches!(SigstoreBundle::parse(&vec![b' '; (32 << 20) + 1]), Err(BundleRejected::TooLarge { .. })));

    let mut kind = good.clone();
    kind["dsseEnvelope"]["payloadType"] = "text/plain".into();
    assert!(matches!(parse(&kind), Err(BundleRejected::Content(_))));
    let mut hash = bundle(("messageSignature", message(digest().as_bytes(), b"x")));
    parse(&hash).unwrap();
    hash["messageSignature"]["messageDigest"]["digest"] = "AAAA".into();
    assert!(matches!(parse(&hash), Err(BundleRejected::Unreadable(_))));
    hash["messageSignature"]["messageDigest"]["algorithm"] = "SHA2_512".into();
    assert!(matches!(parse(&hash), Err(BundleRejected::Content(_))));
}

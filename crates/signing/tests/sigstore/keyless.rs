//! Certificates and logs, verified offline against a trusted root.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::Digest;
use serde_json::json;
use signing::sigstore::{
    BundleRejected, Keyless, KeylessError, KeylessIdentity, SigstoreBundle, VerifiedBundle, VerifiedBy,
};

use crate::common::{from_now, have};
use crate::forge::{Forge, ISSUER, Key, SUBJECT, b64, statement, trusted_root};
use crate::support::{OpenSsl, digest};

fn identity(issuer: &str, subject: &str) -> KeylessIdentity {
    KeylessIdentity { issuer: issuer.into(), subject: subject.into() }
}

fn keyless() -> Keyless {
    Keyless::new(trusted_root().to_string().as_bytes(), vec![identity(ISSUER, SUBJECT)]).unwrap()
}

fn verify(bundle: &serde_json::Value, about: &Digest) -> Result<VerifiedBundle, BundleRejected> {
    SigstoreBundle::parse(bundle.to_string().as_bytes()).unwrap().verify_with_keyless(&keyless(), about)
}

fn attestation() -> Forge {
    Forge::new(Some(statement(&[digest()], "https://slsa.dev/provenance/v1")))
}

#[test]
fn an_attestation_by_the_right_identity_is_verified() {
    let verified = verify(&attestation().bundle(), &digest()).unwrap();
    assert_eq!(verified.by, VerifiedBy::Identity { subject: SUBJECT.into(), issuer: ISSUER.into() });
    assert_eq!(verified.claims.subjects, [digest()]);
    assert_eq!(verified.claims.predicate_type.unwrap().raw(), "https://slsa.dev/provenance/v1");
}

#[test]
fn a_bare_signature_by_the_right_identity_is_verified() {
    let forge = Forge::new(None);
    let about = blobs::sha256(&forge.message);
    let verified = verify(&forge.bundle(), &about).unwrap();
    assert_eq!((verified.claims.subjects, verified.claims.predicate_type), (vec![about], None));
    let other = verify(&forge.bundle(), &digest());
    assert_eq!(other, Err(BundleRejected::Subject { expected: digest() }));
}

#[test]
fn another_identity_is_named_and_refused() {
    let bundle = SigstoreBundle::parse(attestation().bundle().to_string().as_bytes()).unwrap();
    let root = trusted_root().to_string();
    let with = |identities| Keyless::new(root.as_bytes(), identities).unwrap();
    let wrong = [
        identity(ISSUER, "somebody@dev.example"),
        identity("https://accounts.evil.example", SUBJECT),
        identity(ISSUER, "release@dev.exampl"),
        identity(ISSUER, ".*"),
    ];
    for wrong in &wrong {
        let error = bundle.verify_with_keyless(&with(vec![wrong.clone()]), &digest()).unwrap_err().to_string();
        let expected =
            format!("signed by {SUBJECT}, issuer {ISSUER}; expected {}, issuer {}", wrong.subject, wrong.issuer);
        assert_eq!(error, expected);
    }
    let all = with([&wrong[..], &[identity(ISSUER, SUBJECT)]].concat());
    let _ = bundle.verify_with_keyless(&all, &digest()).unwrap();
}

#[test]
fn one_flaw_is_enough() {
    let good = attestation();
    let _ = verify(&good.bundle(), &digest()).unwrap();
    let evil = Some(statement(&[digest()], "https://evil.example"));
    for (flaw, why) in [
        (Forge { authority: Key(9), ..good.clone() }, "chain"),
        (Forge { code_signing: false, ..good.clone() }, "chain"),
        (Forge { transparency: Key(9), ..good.clone() }, "timestamp"),
        (Forge { with_sct: false, ..good.clone() }, "missing SCT"),
        (Forge { promise: Key(9), ..good.clone() }, "log"),
        (Forge { checkpoint: Key(9), ..good.clone() }, "checkpoint"),
        (Forge { included: false, ..good.clone() }, "inclusion proof"),
        (Forge { logged_at: "2025-01-01T00:10:01Z", ..good.clone() }, "chain"),
        (Forge { logged_at: "2024-12-31T23:59:59Z", ..good.clone() }, "chain"),
        (Forge { signer: Key(9), ..good.clone() }, "signature"),
        (Forge { logged_statement: evil, ..good.clone() }, "does not match"),
        (
            Forge { validity: ["210101000000Z", "210101001000Z"], logged_at: "2021-01-01T00:05:00Z", ..good.clone() },
            "No log key valid",
        ),
    ] {
        let error = verify(&flaw.bundle(), &digest()).unwrap_err();
        assert!(matches!(error, BundleRejected::Keyless(_)), "{why}: {error}");
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
    let bare = Forge::new(None);
    let about = blobs::sha256(&bare.message);
    for flaw in [
        Forge { signer: Key(9), ..bare.clone() },
        Forge { logged_statement: Some(b"other".to_vec()), ..bare.clone() },
        Forge { included: false, ..bare.clone() },
    ] {
        assert!(matches!(verify(&flaw.bundle(), &about), Err(BundleRejected::Keyless(_))));
    }
}

#[test]
fn parts_of_another_bundle_do_not_fit() {
    let good = attestation().bundle();
    let other = Forge { certified: Key(5), signer: Key(5), ..attestation() }.bundle();
    let _ = verify(&other, &digest()).unwrap();
    let refused = |bundle: &serde_json::Value| {
        let error = verify(bundle, &digest()).unwrap_err();
        assert!(matches!(error, BundleRejected::Keyless(_)), "{error}");
    };
    for pointer in [
        "/verificationMaterial/certificate",
        "/verificationMaterial/tlogEntries",
        "/verificationMaterial/tlogEntries/0/canonicalizedBody",
        "/verificationMaterial/tlogEntries/0/inclusionPromise",
        "/verificationMaterial/tlogEntries/0/inclusionProof",
        "/dsseEnvelope/signatures",
    ] {
        let mut mixed = good.clone();
        *mixed.pointer_mut(pointer).unwrap() = other.pointer(pointer).unwrap().clone();
        assert_ne!(mixed, good, "{pointer}");
        refused(&mixed);
    }
    let mut none = good.clone();
    none["verificationMaterial"]["tlogEntries"] = serde_json::json!([]);
    refused(&none);
    for member in ["inclusionProof", "inclusionPromise"] {
        let mut less = good.clone();
        less["verificationMaterial"]["tlogEntries"][0].as_object_mut().unwrap().remove(member);
        refused(&less);
    }
    let mut later = good.clone();
    later["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = "1735689660".into();
    refused(&later);
    let evil = statement(&[digest()], "https://evil.example");
    let mut changed = good;
    changed["dsseEnvelope"]["payload"] = b64(evil).into();
    refused(&changed);
}

#[test]
fn an_attestation_about_something_else_is_refused() {
    let other = blobs::sha256(b"another image");
    let error = verify(&attestation().bundle(), &other).unwrap_err();
    assert_eq!(error, BundleRejected::Subject { expected: other });
    let several = Forge::new(Some(statement(&[other, digest()], "https://slsa.dev/provenance/v1")));
    let _ = verify(&several.bundle(), &digest()).unwrap();
}

/// Logs of the second version give no time; a timestamp authority (RFC 3161) does.
#[test]
fn the_time_may_come_from_a_timestamp_authority() {
    if !have(&["openssl"]) {
        return;
    }
    let openssl = OpenSsl::new();
    let der = |name: &str| std::fs::read(openssl.path().join(name)).unwrap();
    openssl.write("leaf.ext", b"basicConstraints=critical,CA:false\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=critical,timeStamping\n");
    openssl.write("ts.cnf", b"[tsa]\ndefault_tsa=t\n[t]\nserial=serial\ndefault_policy=1.3.6.1.4.1.99999.1\ndigests=sha256\nsigner_digest=sha256\ness_cert_id_alg=sha256\n");
    openssl.write("serial", b"01\n");
    for name in ["root", "leaf"] {
        openssl.make(name, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]);
    }
    openssl.run(&[
        "req",
        "-x509",
        "-new",
        "-key",
        "root.key",
        "-subj",
        "/CN=time root",
        "-days",
        "30",
        "-out",
        "root.pem",
    ]);
    openssl.run(&["req", "-new", "-key", "leaf.key", "-subj", "/CN=time", "-out", "leaf.csr"]);
    openssl.run(&[
        "x509",
        "-req",
        "-in",
        "leaf.csr",
        "-CA",
        "root.pem",
        "-CAkey",
        "root.key",
        "-CAcreateserial",
        "-days",
        "30",
        "-extfile",
        "leaf.ext",
        "-out",
        "leaf.pem",
    ]);
    for name in ["root", "leaf"] {
        openssl.run(&["x509", "-in", &format!("{name}.pem"), "-outform", "DER", "-out", &format!("{name}.der")]);
    }
    let mut root = trusted_root();
    root["timestampAuthorities"] = json!([{ "uri": "https://time.dev.example",
        "certChain": { "certificates": [{ "rawBytes": b64(der("leaf.der")) }, { "rawBytes": b64(der("root.der")) }] } }]);
    let with_time = Keyless::new(root.to_string().as_bytes(), vec![identity(ISSUER, SUBJECT)]).unwrap();

    // As certificates write times: two digits of the year, no separators.
    let at = |seconds| from_now(seconds).to_string()[2..].replace(['-', ':', 'T'], "").leak() as &str;
    let stamped = |validity| {
        let mut bundle = Forge { validity, ..attestation() }.bundle();
        let entry = bundle["verificationMaterial"]["tlogEntries"][0].as_object_mut().unwrap();
        entry.remove("inclusionPromise");
        entry.remove("integratedTime");
        let signature = bundle["dsseEnvelope"]["signatures"][0]["sig"].as_str().unwrap();
        openssl.write("signature", &STANDARD.decode(signature).unwrap());
        openssl.run(&["ts", "-query", "-data", "signature", "-sha256", "-cert", "-out", "query"]);
        openssl.run(&[
            "ts",
            "-reply",
            "-queryfile",
            "query",
            "-config",
            "ts.cnf",
            "-signer",
            "leaf.pem",
            "-inkey",
            "leaf.key",
            "-out",
            "reply",
        ]);
        let token = json!({ "rfc3161Timestamps": [{ "signedTimestamp": b64(der("reply")) }] });
        bundle["verificationMaterial"]["timestampVerificationData"] = token;
        bundle
    };
    let read = |bundle: &serde_json::Value| SigstoreBundle::parse(bundle.to_string().as_bytes()).unwrap();
    let good = stamped([at(-300), at(300)]);
    let _ = read(&good).verify_with_keyless(&with_time, &digest()).unwrap();

    let refused = |bundle: &serde_json::Value, keyless: &Keyless, why: &str| {
        let error = read(bundle).verify_with_keyless(keyless, &digest()).unwrap_err();
        assert!(matches!(error, BundleRejected::Keyless(_)), "{error}");
        assert!(error.to_string().contains(why), "{why}: {error}");
    };
    refused(&good, &keyless(), "timestamp");
    refused(&stamped([at(-900), at(-300)]), &with_time, "chain");
    let mut none = good.clone();
    none["verificationMaterial"].as_object_mut().unwrap().remove("timestampVerificationData");
    refused(&none, &with_time, "no verified timestamp");
    // A time for another signature.
    let mut other = stamped([at(-300), at(299)]);
    other["dsseEnvelope"]["signatures"] = {
        let statement = statement(&[digest()], "https://evil.example");
        json!([{ "sig": b64(Key(4).sign(&statement)) }])
    };
    refused(&other, &with_time, "timestamp");
}

#[test]
fn a_trusted_root_must_be_whole() {
    let good = vec![identity(ISSUER, SUBJECT)];
    let new = |root: &[u8], identities| Keyless::new(root, identities).unwrap_err();
    let root = trusted_root();
    for identities in [vec![], vec![identity("", SUBJECT)], vec![identity(ISSUER, "")]] {
        assert!(matches!(new(root.to_string().as_bytes(), identities), KeylessError::NoIdentity));
    }
    for member in ["tlogs", "ctlogs", "certificateAuthorities"] {
        let mut less = root.clone();
        less[member] = serde_json::json!([]);
        assert!(matches!(new(less.to_string().as_bytes(), good.clone()), KeylessError::Missing(_)), "{member}");
        let mut damaged = root.clone();
        let text = damaged.to_string();
        assert!(text.contains("rawBytes"));
        let pointer = if member == "certificateAuthorities" {
            "/certificateAuthorities/0/certChain/certificates/0/rawBytes".into()
        } else {
            format!("/{member}/0/publicKey/rawBytes")
        };
        *damaged.pointer_mut(&pointer).unwrap() = "AAAA".into();
        assert!(matches!(new(damaged.to_string().as_bytes(), good.clone()), KeylessError::Unreadable(_)), "{member}");
    }
    let mut other = root.clone();
    other["mediaType"] = "application/json".into();
    for bytes in [other.to_string().as_bytes(), b"{}", b"\xff", b"[]"] {
        assert!(matches!(new(bytes, good.clone()), KeylessError::Unreadable(_)));
    }
    assert!(matches!(new(&vec![b' '; (16 << 20) + 1], good), KeylessError::TooLarge { .. }));
}

#[test]
fn a_certificate_is_needed() {
    let mut bundle = attestation().bundle();
    let material = bundle["verificationMaterial"].as_object_mut().unwrap();
    material.remove("certificate");
    material.insert("publicKey".into(), serde_json::json!({ "hint": "x" }));
    assert_eq!(verify(&bundle, &digest()), Err(BundleRejected::NoCertificate));
}

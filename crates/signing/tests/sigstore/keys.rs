//! Secret keys: made here, by OpenSSL, and by another implementation of cosign's encryption.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use signing::sigstore::{SIGNATURE_ANNOTATION, SigstoreSecretError, generate_sigstore};
use signing::{SigstoreKey, SigstoreSecretKey, verify_sigstore};

use crate::common::{have, time};
use crate::support::{KINDS, OpenSsl, digest, reference};

/// A P-256 key of OpenSSL, encrypted with the scrypt of Python's hashlib and the secretbox of libsodium.
const ENCRYPTED: &str = "\
-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\n\
eyJrZGYiOnsibmFtZSI6InNjcnlwdCIsInBhcmFtcyI6eyJOIjozMjc2OCwiciI6\n\
OCwicCI6MX0sInNhbHQiOiIvVzVlZVFwaXBubVhIdXJJaXVSa0RvcUVWY2xFWGFL\n\
ei9qSzJBMzJSMDA0PSJ9LCJjaXBoZXIiOnsibmFtZSI6Im5hY2wvc2VjcmV0Ym94\n\
Iiwibm9uY2UiOiJZOWtGWXBKeDB6U3MrbWZ2VGZCa0ZGMFc3TkVaNHR0WCJ9LCJj\n\
aXBoZXJ0ZXh0IjoiM2RZY1FIcXVFcFRPWWd3a2hhamdZUlpoUTd4RDhidCs5YVVM\n\
N2xaWEl4ZHJiclVFbi80QWd0RSswQ0dtaEppaHdjS2lRU2lTRmxMb1VJNWczMHpx\n\
SjFQZFIyYlBTRzhpZm1EVUwyR29BT2RobzVYRWlIWUpnZFFXOUhqT2x3WmE2YlZx\n\
dnNzMEdjQTQ3V2t4RnpLN09yUHk3MFA4TkNQdDdXWDBacWlBVXpzbUJJT0ZSRGZ0\n\
RldxRUtxL0hTNWJKOGR5dkswRFUvZEEyMWc9PSJ9\n\
-----END ENCRYPTED COSIGN PRIVATE KEY-----\n";
const FINGERPRINT: &str = "a3a5653813da653bea60cfebb60ff421facfa52fd60be932d5371e252b163b6c";

fn unlock(bytes: &[u8], passphrase: Option<&str>) -> Result<SigstoreSecretKey, SigstoreSecretError> {
    SigstoreSecretKey::from_bytes(bytes, Path::new("cosign.key"), || match passphrase {
        Some(passphrase) => Ok(SecretString::from(passphrase)),
        None => panic!("asked for a passphrase"),
    })
}

/// The encrypted key with its JSON changed.
fn changed(from: &str, to: &str) -> String {
    let body: String = ENCRYPTED.lines().filter(|line| !line.starts_with("-----")).collect();
    let json = String::from_utf8(STANDARD.decode(body).unwrap()).unwrap();
    let changed = json.replacen(from, to, 1);
    assert_ne!(changed, json, "{from}");
    let label = "ENCRYPTED SIGSTORE PRIVATE KEY";
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(changed))
}

#[test]
fn keys_of_cosign_are_unlocked() {
    let key = unlock(ENCRYPTED.as_bytes(), Some("sesame")).unwrap();
    assert_eq!(key.public().fingerprint(), FINGERPRINT);
    assert_eq!(format!("{key:?}"), format!("SigstoreSecretKey({FINGERPRINT})"));
    key.usable().unwrap();
    let renamed = ENCRYPTED.replace("COSIGN", "SIGSTORE");
    assert_eq!(unlock(renamed.as_bytes(), Some("sesame")).unwrap().public().fingerprint(), FINGERPRINT);
}

#[test]
fn a_wrong_passphrase_is_called_wrong_and_a_damaged_file_damaged() {
    let error = unlock(ENCRYPTED.as_bytes(), Some("Sesame")).unwrap_err();
    assert!(matches!(error, SigstoreSecretError::WrongPassphrase { .. }), "{error}");
    assert_eq!(error.to_string(), "cosign.key: wrong passphrase for the sigstore secret key");
    // None of these asks for the passphrase.
    for (from, to, why) in [
        ("scrypt", "argon2", "expected scrypt and nacl/secretbox, found argon2"),
        ("nacl/secretbox", "none", "found scrypt and none"),
        ("\"N\":32768", "\"N\":32767", "no power of two"),
        ("\"N\":32768", "\"N\":1", "no power of two"),
        ("\"N\":32768", "\"N\":0", "no power of two"),
        ("\"N\":32768", "\"N\":1152921504606846976", "bytes of work"),
        ("\"N\":32768", "\"N\":524288", "would take 536870912 bytes of work; at most 268435456"),
        ("\"r\":8", "\"r\":4294967295", "bytes of work"),
        ("\"p\":1", "\"p\":4294967295", "bytes of work"),
        ("\"r\":8", "\"r\":0", "scrypt cannot work"),
        ("\"p\":1", "\"p\":0", "scrypt cannot work"),
        ("\"p\":1", "\"p\":-1", "invalid value"),
        ("\"nonce\":\"", "\"nonce\":\"AAAA", "the nonce is not 24 bytes long"),
        ("\"salt\":\"", "\"salt\":\"*", "the salt is not base64"),
        ("\"ciphertext\":\"3dYc", "\"ciphertext\":\"*", "the ciphertext is not base64"),
        ("\"ciphertext\":\"", "\"ciphertext\":\"\",\"x\":\"", "the ciphertext is cut off"),
        ("\"cipher\":", "\"cypher\":", "missing field"),
    ] {
        let error = unlock(changed(from, to).as_bytes(), None).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
    let cut = &ENCRYPTED[..ENCRYPTED.len() - 60];
    assert!(matches!(unlock(cut.as_bytes(), None), Err(SigstoreSecretError::Unreadable { .. })));
}

#[test]
fn files_of_another_kind_are_named() {
    if !have(&["openssl"]) {
        return;
    }
    let openssl = OpenSsl::new();
    let public = openssl.make("key", KINDS[0]);
    let file = |name: &str| std::fs::read(openssl.path().join(name)).unwrap();
    openssl.run(&["ec", "-in", "key.key", "-out", "sec1.key"]);
    openssl.run(&["pkcs8", "-topk8", "-in", "key.key", "-passout", "pass:x", "-out", "pbes.key"]);
    for (bytes, found) in [
        (public, "found `PUBLIC KEY`"),
        (file("sec1.key"), "found `EC PRIVATE KEY`"),
        (file("pbes.key"), "found `ENCRYPTED PRIVATE KEY`"),
        ([file("key.key"), file("key.key")].concat(), "found `PRIVATE KEY`, `PRIVATE KEY`"),
        (b"hello".to_vec(), "found none"),
        (b"\xff".to_vec(), "not text"),
    ] {
        let error = unlock(&bytes, None).unwrap_err().to_string();
        assert!(error.contains(found), "{found}: {error}");
    }
    for (kind, name) in
        KINDS[1..].iter().zip(["1.2.840.10045.2.1 over 1.3.132.0.34", "1.3.101.112", "1.2.840.113549.1.1.1"])
    {
        openssl.make("other", kind);
        let error = unlock(&file("other.key"), None).unwrap_err().to_string();
        assert!(error.contains(&format!("a key of kind {name} cannot sign here")), "{error}");
    }
    let error = SigstoreSecretKey::load::<SigstoreSecretError>(Path::new("/nonexistent"), || unreachable!());
    assert!(matches!(error, Err(SigstoreSecretError::File(_))));
}

#[test]
fn openssl_verifies_what_is_signed_here() {
    if !have(&["openssl"]) {
        return;
    }
    let openssl = OpenSsl::new();
    let public = openssl.make("key", KINDS[0]);
    let bare = std::fs::read(openssl.path().join("key.key")).unwrap();
    openssl.write("made.pub", &public);
    let theirs = unlock(&bare, None).unwrap();
    assert_eq!(*theirs.public(), SigstoreKey::from_pem(&public).unwrap());
    let made = generate_sigstore(Some(&SecretString::from("sesame"))).unwrap();
    let ours = unlock(made.secret_pem.expose_secret().as_bytes(), Some("sesame")).unwrap();
    openssl.write("ours.pub", made.public_pem.as_bytes());
    for (key, file) in [(&theirs, "made.pub"), (&ours, "ours.pub")] {
        key.usable().unwrap();
        let created = time("2026-01-02T03:04:05Z");
        let signature = key.sign_image(&reference(), &digest(), created, "sealift 0.1.0").unwrap();
        assert_eq!(key.sign_image(&reference(), &digest(), created, "sealift 0.1.0").unwrap(), signature);
        openssl.write("payload", &signature.payload);
        openssl.write("sig", &STANDARD.decode(&signature.annotations[SIGNATURE_ANNOTATION]).unwrap());
        let said = openssl.run(&["dgst", "-sha256", "-verify", file, "-signature", "sig", "payload"]);
        assert_eq!(said, b"Verified OK\n");

        let payload = verify_sigstore(&signature, std::slice::from_ref(key.public())).unwrap();
        assert_eq!(payload.reference.raw(), "registry.prod.example/payments/api:2.3.1");
        assert_eq!((payload.digest, payload.timestamp), (digest(), Some(created)));
        assert!(key.has_signed(&signature, &reference(), &digest()));
        let other = manifest_schema::Reference::parse_normalized("registry.prod.example/payments/api:2.3.2").unwrap();
        assert!(!key.has_signed(&signature, &other, &digest()));
        assert!(!key.has_signed(&signature, &reference(), &blobs::sha256(b"other")));
    }
    let signature = ours.sign_image(&reference(), &digest(), time("2026-01-02T03:04:05Z"), "x").unwrap();
    assert!(!theirs.has_signed(&signature, &reference(), &digest()));
}

#[test]
fn made_keys_have_the_form_of_cosign() {
    let sesame = SecretString::from("sesame");
    let made = generate_sigstore(Some(&sesame)).unwrap();
    assert!(!format!("{made:?}").contains("PRIVATE"));
    let text = made.secret_pem.expose_secret();
    assert!(text.starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"));
    assert!(text.lines().all(|line| line.len() <= 64));
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let json = String::from_utf8(STANDARD.decode(body).unwrap()).unwrap();
    let kdf = r#"{"kdf":{"name":"scrypt","params":{"N":65536,"r":8,"p":1},"salt":""#;
    assert!(json.starts_with(kdf), "{json}");
    assert!(json.contains(r#""},"cipher":{"name":"nacl/secretbox","nonce":""#), "{json}");
    assert!(matches!(unlock(text.as_bytes(), Some("")), Err(SigstoreSecretError::WrongPassphrase { .. })));
    assert_eq!(unlock(text.as_bytes(), Some("sesame")).unwrap().public().fingerprint(), made.fingerprint);
    assert_eq!(SigstoreKey::from_pem(made.public_pem.as_bytes()).unwrap().fingerprint(), made.fingerprint);

    let bare = generate_sigstore(None).unwrap();
    assert!(bare.secret_pem.expose_secret().starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert_eq!(
        unlock(bare.secret_pem.expose_secret().as_bytes(), None).unwrap().public().fingerprint(),
        bare.fingerprint
    );
    assert_ne!(made.fingerprint, bare.fingerprint);
}

#[test]
fn a_signature_names_a_tag_or_a_digest() {
    let bare = generate_sigstore(None).unwrap();
    let key = unlock(bare.secret_pem.expose_secret().as_bytes(), None).unwrap();
    let both = reference().with_digest(digest());
    let error = key.sign_image(&both, &digest(), time("2026-01-02T03:04:05Z"), "x").unwrap_err();
    assert!(matches!(error, SigstoreSecretError::Identity { .. }));
}

//! Keys: made here and read by GnuPG, made by GnuPG and read here.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Gpg, certificates, fingerprint, from_now, have, key, request, time, trust, unlock};
use manifest_schema::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use signing::{Algorithm, Error, KeyRequest, KeyWarning, Reason, Rejected, distinct_roles, generate};

const DOCUMENT: &[u8] = b"{\"type\":\"sealift/test/1\"}\n";

#[test]
fn gpg_reads_every_kind_of_key_that_is_made_here() {
    if !have(&["gpg", "gpgv"]) {
        return;
    }
    for algorithm in [Algorithm::Rsa3072, Algorithm::Rsa4096, Algorithm::P256, Algorithm::Ed25519] {
        let gpg = Gpg::new();
        let (made, secret) = key(&KeyRequest { algorithm, ..request("release") });
        assert_eq!(secret.fingerprint(), made.fingerprint);
        assert_eq!(secret.signing_fingerprint(), made.fingerprint, "the primary key signs");
        secret.usable(Timestamp::now()).unwrap();

        gpg.import(&made.certificate_armored);
        assert_eq!(fingerprint(gpg.fingerprint("release")), made.fingerprint);
        let document = gpg.write("document", DOCUMENT);
        let signature = gpg.write("document.asc", &secret.sign_detached_armored(DOCUMENT).unwrap());
        gpg.run(&["--verify", &signature, &document]);
        gpg.run(&["--output", "ring.gpg", "--export", "release"]);
        let gpgv = gpg.command("gpgv").args(["--keyring", "./ring.gpg", &signature, &document]).output().unwrap();
        assert!(gpgv.status.success(), "{}", String::from_utf8_lossy(&gpgv.stderr));

        gpg.import(made.secret_armored.expose_secret().as_bytes());
        gpg.run(&["--armor", "--output", "theirs.asc", "--detach-sign", &document]);
        let _ =
            trust(&[&made.certificate_armored], 1).verify_detached(DOCUMENT.to_vec(), &gpg.read("theirs.asc")).unwrap();

        gpg.import(&made.revocation_armored);
        let listed = String::from_utf8(gpg.run(&["--with-colons", "--list-keys", "release"])).unwrap();
        assert!(listed.lines().any(|l| l.starts_with("pub:r:")), "{algorithm:?} not revoked: {listed}");
    }
}

#[test]
fn gpg_unlocks_a_protected_key_that_is_made_here() {
    if !have(&["gpg"]) {
        return;
    }
    let gpg = Gpg::new();
    let made = generate(&KeyRequest { passphrase: Some(SecretString::from("sesame")), ..request("locked") }).unwrap();
    let file = gpg.write("secret.asc", made.secret_armored.expose_secret().as_bytes());
    let document = gpg.write("document", DOCUMENT);
    for (passphrase, works) in [("wrong", false), ("sesame", true)] {
        let run = |args: &[&str]| {
            let mut command = gpg.command("gpg");
            command.args(["--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", passphrase]);
            command.args(args).output().unwrap().status.success()
        };
        run(&["--import", &file]);
        assert_eq!(run(&["--output", "sig", "--detach-sign", &document]), works, "{passphrase}");
    }
}

#[test]
fn keys_made_by_gpg_sign_here() {
    if !have(&["gpg"]) {
        return;
    }
    let gpg = Gpg::new();
    let plain = gpg.make("plain", "rsa3072", "sign");
    let exported = gpg.run(&["--armor", "--export-secret-keys", &plain]);
    let secret = unlock(&exported, None).unwrap();
    assert_eq!(secret.fingerprint(), fingerprint(&plain));
    secret.usable(from_now(5)).unwrap();
    let binary = gpg.run(&["--export-secret-keys", &plain]);
    assert_eq!(unlock(&binary, None).unwrap().fingerprint(), fingerprint(&plain));

    let document = gpg.write("document", DOCUMENT);
    let signature = gpg.write("document.asc", &secret.sign_detached_armored(DOCUMENT).unwrap());
    gpg.run(&["--verify", &signature, &document]);

    let locked = |args: &[&str]| {
        let mut command = gpg.command("gpg");
        command.args(["--batch", "--pinentry-mode", "loopback", "--passphrase", "sesame"]).args(args);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    locked(&["--quick-gen-key", "locked", "ed25519", "sign", "never"]);
    let exported = locked(&["--armor", "--export-secret-keys", "locked"]);
    let secret = unlock(&exported, Some("sesame")).unwrap();
    secret.usable(from_now(5)).unwrap();
    assert!(matches!(unlock(&exported, Some("Sesame")), Err(Error::WrongPassphrase { .. })));
}

#[test]
fn a_wrong_passphrase_is_called_wrong() {
    let made = generate(&KeyRequest { passphrase: Some(SecretString::from("sesame")), ..request("locked") }).unwrap();
    let bytes = made.secret_armored.expose_secret().as_bytes();
    let error = unlock(bytes, Some("open")).unwrap_err();
    assert_eq!(error.to_string(), format!("key.asc: wrong passphrase for secret key {}", made.fingerprint));
    let secret = unlock(bytes, Some("sesame")).unwrap();
    assert_eq!(format!("{secret:?}"), format!("SecretKey({})", made.fingerprint));
    assert!(!format!("{made:?}").contains("PRIVATE"));
}

#[test]
fn files_of_the_wrong_kind_are_refused() {
    let (made, _) = key(&request("release"));
    let secret = made.secret_armored.expose_secret().as_bytes();
    let origin = std::path::Path::new("key.asc");
    let certificate = |bytes: &[u8]| signing::Certificates::from_bytes(bytes, origin).unwrap_err();
    assert!(matches!(certificate(secret), Error::SecretKeyFile { .. }));
    assert!(matches!(certificate(b"hello"), Error::NoCertificate { .. }));
    assert!(matches!(certificate(b""), Error::NoCertificate { .. }));
    assert!(matches!(certificate(&made.revocation_armored), Error::StrayRevocation { .. }));
    let cut = &made.certificate_armored[..made.certificate_armored.len() - 40];
    assert!(matches!(certificate(cut), Error::Unreadable { .. }));
    let (other, _) = key(&request("other"));
    let both = [other.certificate_armored.as_slice(), &made.revocation_armored].concat();
    assert!(matches!(certificate(&both), Error::StrayRevocation { .. }));
    assert!(matches!(unlock(&made.certificate_armored, None), Err(Error::NoSecretKey { .. })));
    let two = [secret, other.secret_armored.expose_secret().as_bytes()].concat();
    assert!(matches!(unlock(&two, None), Err(Error::SeveralKeys { found: 2, .. })));
    let missing = signing::Certificates::load(&["/nonexistent/\u{1b}[2J".into()]).unwrap_err();
    assert_eq!(missing.to_string(), "/nonexistent/\\u{1b}[2J: cannot be read");
}

#[test]
fn several_certificates_in_one_file_are_all_read() {
    let (a, b) = (generate(&request("a")).unwrap(), generate(&request("b")).unwrap());
    let armored = [a.certificate_armored.as_slice(), b"\nnotes\n", &b.certificate_armored].concat();
    let mut expected = vec![a.fingerprint.clone(), b.fingerprint.clone()];
    expected.sort();
    assert_eq!(certificates(&[&armored]).fingerprints(), expected);
    assert_eq!(certificates(&[&a.certificate_armored, &armored]).count(), 2, "merged");
    if have(&["gpg"]) {
        let gpg = Gpg::new();
        gpg.import(&armored);
        assert_eq!(certificates(&[&gpg.run(&["--export"])]).fingerprints(), expected, "a binary keyring");
    }
    let info = certificates(&[&a.certificate_armored, &a.revocation_armored]).info(Timestamp::now());
    assert!(matches!(info[0].refused, Some(Reason::Revoked { .. })));
    assert_eq!(info[0].files.len(), 2);
    let info = certificates(&[&b.certificate_armored]).info(Timestamp::now());
    assert_eq!(info[0].user_id.as_ref().unwrap().raw(), "b <b@example.org>");
    assert_eq!(info[0].refused, None);
}

#[test]
fn a_key_says_what_others_will_not_like() {
    let now = Timestamp::now();
    let (_, secret) = key(&request("quiet"));
    assert_eq!(secret.warnings(now), []);
    let expires = from_now(86400);
    let (made, secret) = key(&KeyRequest { algorithm: Algorithm::Ed25519, expires: Some(expires), ..request("loud") });
    assert_eq!(
        secret.warnings(now),
        [
            KeyWarning::EdwardsCurve(made.fingerprint.clone()),
            KeyWarning::Expires { key: made.fingerprint.clone(), on: expires }
        ]
    );
    secret.usable(now).unwrap();
    assert!(matches!(
        secret.usable(from_now(2 * 86400)),
        Err(Error::Unusable { reason: Reason::Expired { on: Some(on) }, .. }) if on == expires
    ));
    assert!(matches!(
        secret.sign_detached_at(DOCUMENT, time("2020-01-01T00:00:00Z")),
        Err(Error::Unusable { reason: Reason::BeforeKey { .. }, .. })
    ));
}

#[test]
fn a_signing_subkey_counts_for_its_certificate_and_is_warned_about() {
    if !have(&["gpg"]) {
        return;
    }
    let gpg = Gpg::new();
    let primary = gpg.make("subkey", "rsa3072", "cert");
    let certify_only = gpg.run(&["--export-secret-keys", &primary]);
    assert!(matches!(unlock(&certify_only, None), Err(Error::NoSigningKey { .. })));
    gpg.run(&["--quick-add-key", &primary, "rsa3072", "sign", "never"]);
    for export in ["--export-secret-keys", "--export-secret-subkeys"] {
        let secret = unlock(&gpg.run(&[export, &primary]), None).unwrap();
        assert_eq!(secret.fingerprint(), fingerprint(&primary));
        let subkey = secret.signing_fingerprint();
        assert_ne!(subkey, secret.fingerprint());
        assert_eq!(secret.warnings(from_now(5)), [KeyWarning::SigningSubkey(subkey.clone())]);
        secret.usable(from_now(5)).unwrap();
        let trust = trust(&[&gpg.run(&["--export", &primary])], 1);
        let signature = secret.sign_detached_armored(DOCUMENT).unwrap();
        let authentic = trust.verify_detached(DOCUMENT.to_vec(), &signature).unwrap();
        assert_eq!(authentic.signers()[0].fingerprint, fingerprint(&primary));
        assert_eq!(authentic.signers()[0].key, subkey);
    }
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    for user_id in ["", "  ", "a\nb", "\u{202e}evil", &"x".repeat(257)] {
        let request = KeyRequest { user_id: user_id.into(), ..request("x") };
        assert!(matches!(generate(&request), Err(Error::UserId(_))), "{user_id:?}");
    }
    let past = KeyRequest { expires: Some(from_now(-3600)), ..request("x") };
    assert!(matches!(generate(&past), Err(Error::Expiry { .. })));
}

#[test]
fn one_key_cannot_have_two_roles() {
    let (a, b) = (generate(&request("a")).unwrap(), generate(&request("b")).unwrap());
    let (one, two) = (certificates(&[&a.certificate_armored]), certificates(&[&b.certificate_armored]));
    let both = certificates(&[&a.certificate_armored, &b.certificate_armored]);
    distinct_roles(&[("release", &one), ("production", &two)]).unwrap();
    let conflict = distinct_roles(&[("release", &two), ("production", &both)]).unwrap_err();
    assert_eq!((conflict.first.as_str(), conflict.second.as_str()), ("release", "production"));
    assert_eq!(conflict.fingerprint, b.fingerprint);
}

#[test]
fn a_key_too_weak_for_the_policy_is_refused() {
    if !have(&["gpg"]) {
        return;
    }
    let gpg = Gpg::new();
    let weak = gpg.make("weak", "rsa1024", "sign");
    let document = gpg.write("document", DOCUMENT);
    gpg.run(&["--output", "sig", "--detach-sign", &document]);
    let rejected = trust(&[&gpg.run(&["--export", &weak])], 1).verify_detached(DOCUMENT.to_vec(), &gpg.read("sig"));
    let Err(Rejected::BelowThreshold { faults, .. }) = rejected else { panic!("{rejected:?}") };
    assert!(matches!(&faults[0].reason, Reason::Weak(_)), "{faults:?}");
    let secret = unlock(&gpg.run(&["--export-secret-keys", &weak]), None).unwrap();
    assert!(matches!(secret.usable(from_now(5)), Err(Error::Unusable { reason: Reason::Weak(_), .. })));
}

//! Keys that a real gpg-agent holds, in a throwaway GnuPG home.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;

use common::{Gpg, fingerprint, from_now, have, key, request, time, trust};
use manifest_schema::{Digest, Reference, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use signing::{AgentAccess, AgentError, Error, Fingerprint, KeyRequest, KeyWarning, Reason, SecretKey};

const DOCUMENT: &[u8] = b"{\"type\":\"sealift/test/1\"}\n";

fn access(gpg: &Gpg) -> AgentAccess {
    AgentAccess { home: Some(gpg.home.path().into()), ..AgentAccess::default() }
}

fn with_passphrase(gpg: &Gpg, passphrase: &str) -> AgentAccess {
    AgentAccess { passphrase: Some(SecretString::from(passphrase)), ..access(gpg) }
}

fn fault<T: std::fmt::Debug>(result: Result<T, Error>) -> AgentError {
    match result {
        Err(Error::Agent { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

/// A key with a passphrase that the agent has forgotten.
fn locked(gpg: &Gpg, user_id: &str, passphrase: &str) -> Fingerprint {
    let mut command = gpg.command("gpg");
    command.args(["--batch", "--pinentry-mode", "loopback", "--passphrase", passphrase]);
    let made = command.args(["--quick-gen-key", user_id, "ed25519", "sign", "never"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    forget(gpg);
    fingerprint(gpg.fingerprint(user_id))
}

/// Ends the agent, and with it what it remembers.
fn forget(gpg: &Gpg) {
    assert!(gpg.command("gpgconf").args(["--kill", "gpg-agent"]).status().unwrap().success());
}

#[test]
fn keys_of_every_usual_kind_sign_through_the_agent() {
    if !have(&["gpg", "gpgv", "gpg-agent", "skopeo"]) {
        return;
    }
    let gpg = Gpg::new();
    for algorithm in ["rsa3072", "nistp256", "nistp384", "nistp521", "ed25519"] {
        let made = fingerprint(gpg.make(algorithm, algorithm, "sign"));
        let secret = SecretKey::from_agent(&made, access(&gpg)).unwrap();
        assert_eq!((secret.fingerprint(), secret.signing_fingerprint()), (made.clone(), made.clone()));
        secret.usable(from_now(5)).unwrap();
        assert_eq!(secret.warnings(from_now(5)).len(), usize::from(algorithm == "ed25519"));

        let ring = gpg.run(&["--export", made.as_str()]);
        let signature = secret.sign_detached_armored(DOCUMENT).unwrap();
        let authentic = trust(&[&ring], 1).verify_detached(DOCUMENT.to_vec(), &signature).unwrap();
        assert_eq!(authentic.signers()[0].key, made);
        let document = gpg.write("document", DOCUMENT);
        let signature = gpg.write("document.asc", &signature);
        gpg.run(&["--verify", &signature, &document]);

        // A simple signature, as production makes them.
        let manifest = gpg.write("manifest.json", b"{\"schemaVersion\":2}");
        let digest: Digest = blobs::sha256(&gpg.read("manifest.json"));
        let reference: Reference = "registry.prod.example/payments/api:1".parse().unwrap();
        let simple = secret.sign_simple(&reference, &digest, Timestamp::now(), "test").unwrap();
        let trust = trust(&[&ring], 1);
        assert_eq!(signing::read_simple(&simple, &trust).unwrap().get().digest, digest);
        let simple = gpg.write("signature-1", &simple);
        let verify = ["standalone-verify", &manifest, "registry.prod.example/payments/api:1", made.as_str(), &simple];
        let skopeo = gpg.command("skopeo").args(verify).output().unwrap();
        assert!(skopeo.status.success(), "{algorithm}: {}", String::from_utf8_lossy(&skopeo.stderr));
    }
}

#[test]
fn a_passphrase_is_given_to_the_agent_when_it_asks() {
    if !have(&["gpg", "gpg-agent"]) {
        return;
    }
    let gpg = Gpg::new();
    let made = locked(&gpg, "locked", "correct horse%\\");
    let wrong = SecretKey::from_agent(&made, with_passphrase(&gpg, "wrong")).unwrap();
    let error = wrong.usable(from_now(5)).unwrap_err();
    assert_eq!(error.to_string(), format!("key {made}: wrong passphrase"));
    let long = SecretKey::from_agent(&made, with_passphrase(&gpg, &"x".repeat(300))).unwrap();
    assert_eq!(fault(long.usable(from_now(5))), AgentError::LongPassphrase { limit: 255 });

    let right = SecretKey::from_agent(&made, with_passphrase(&gpg, "correct horse%\\")).unwrap();
    right.usable(from_now(5)).unwrap();
    // An agent that was restarted meanwhile is asked again, and so is whoever has the passphrase.
    forget(&gpg);
    let signature = right.sign_detached_armored(DOCUMENT).unwrap();
    let ring = gpg.run(&["--export"]);
    let _ = trust(&[&ring], 1).verify_detached(DOCUMENT.to_vec(), &signature).unwrap();
    assert_eq!(format!("{right:?}"), format!("SecretKey({made})"));
    assert!(!format!("{:?}", with_passphrase(&gpg, "correct horse")).contains("horse"));

    forget(&gpg);
    gpg.write("gpg-agent.conf", b"no-allow-loopback-pinentry\n");
    assert_eq!(fault(SecretKey::from_agent(&made, with_passphrase(&gpg, "x"))), AgentError::NoLoopback);
}

/// A pinentry that answers without a person.
fn pinentry(gpg: &Gpg, answer: &str) {
    use std::os::unix::fs::PermissionsExt;
    let script = format!(
        "#!/bin/sh\necho OK ready\nwhile read -r word rest; do case $word in\n\
         SETDESC) echo \"$rest\" >'{}'/asked; echo OK;;\nGETPIN) {answer};;\nBYE) echo OK; exit;;\n*) echo OK;;\nesac; done\n",
        gpg.home.path().display()
    );
    let path = gpg.write("pinentry", script.as_bytes());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    gpg.write("gpg-agent.conf", format!("pinentry-program {path}\n").as_bytes());
    forget(gpg);
}

#[test]
fn without_a_passphrase_the_agent_asks_by_itself() {
    if !have(&["gpg", "gpg-agent"]) {
        return;
    }
    let gpg = Gpg::new();
    let made = locked(&gpg, "locked", "sesame");
    let secret = SecretKey::from_agent(&made, access(&gpg)).unwrap();

    pinentry(&gpg, "echo D sesame; echo OK");
    secret.usable(from_now(5)).unwrap();
    let asked = String::from_utf8(gpg.read("asked")).unwrap();
    assert!(asked.contains("Sealift signs with the key") && asked.contains(made.as_str()), "{asked}");

    pinentry(&gpg, "echo ERR 83886179 Operation cancelled");
    assert_eq!(fault(secret.sign_detached_armored(DOCUMENT)), AgentError::Cancelled);
    pinentry(&gpg, "echo D wrong; echo OK");
    assert_eq!(fault(secret.sign_detached_armored(DOCUMENT)), AgentError::WrongPassphrase);
    gpg.write("gpg-agent.conf", b"pinentry-program /nonexistent\n");
    forget(&gpg);
    assert!(matches!(fault(secret.sign_detached_armored(DOCUMENT)), AgentError::NoPinentry(_)));
}

#[test]
fn a_signing_subkey_is_found_and_can_be_chosen() {
    if !have(&["gpg", "gpg-agent"]) {
        return;
    }
    let gpg = Gpg::new();
    let primary = gpg.make("subkey", "rsa3072", "cert");
    let made = fingerprint(&primary);
    assert_eq!(fault(SecretKey::from_agent(&made, access(&gpg))), AgentError::NoSigningKey);
    gpg.run(&["--quick-add-key", &primary, "ed25519", "sign", "never"]);
    let secret = SecretKey::from_agent(&made, access(&gpg)).unwrap();
    let first = secret.signing_fingerprint();
    assert_eq!(secret.fingerprint(), made);
    assert!(secret.warnings(from_now(5)).contains(&KeyWarning::SigningSubkey(first.clone())));
    secret.usable(from_now(5)).unwrap();
    let signature = secret.sign_detached_armored(DOCUMENT).unwrap();
    let trust = trust(&[&gpg.run(&["--export", &primary])], 1);
    let authentic = trust.verify_detached(DOCUMENT.to_vec(), &signature).unwrap();
    assert_eq!((&authentic.signers()[0].fingerprint, &authentic.signers()[0].key), (&made, &first));

    // By name, it is this subkey that signs, even if there is another.
    gpg.run(&["--quick-add-key", &primary, "rsa2048", "sign", "never"]);
    let chosen = SecretKey::from_agent(&first, access(&gpg)).unwrap();
    assert_eq!((chosen.fingerprint(), chosen.signing_fingerprint()), (made, first));
    chosen.usable(from_now(5)).unwrap();
}

#[test]
fn what_is_not_there_is_said() {
    if !have(&["gpg", "gpg-agent"]) {
        return;
    }
    let gpg = Gpg::new();
    let absent = "567E347AD0044ADE55BA8A5F199E2F91FD431D51".parse::<Fingerprint>().unwrap();
    assert_eq!(fault(SecretKey::from_agent(&absent, access(&gpg))), AgentError::NoCertificate);

    // Only the certificate is in the keyring; then only a file has it.
    let (made, _) = key(&request("release"));
    gpg.import(&made.certificate_armored);
    assert_eq!(fault(SecretKey::from_agent(&made.fingerprint, access(&gpg))), AgentError::NoSecretKey);
    let (other, _) = key(&request("other"));
    let file: PathBuf = gpg.write("other.asc", &other.certificate_armored).into();
    let from_file = AgentAccess { certificates: vec![file.clone()], ..access(&gpg) };
    assert_eq!(
        fault(SecretKey::from_agent(&made.fingerprint, from_file.clone())),
        AgentError::OtherCertificates { files: vec![file] }
    );
    assert_eq!(fault(SecretKey::from_agent(&other.fingerprint, from_file)), AgentError::NoSecretKey);
}

#[test]
fn a_certificate_from_a_file_counts_instead_of_the_keyring() {
    if !have(&["gpg", "gpg-agent"]) {
        return;
    }
    let gpg = Gpg::new();
    let made = generate_and_import(&gpg, &request("release"));
    let file = gpg.write("release.asc", &gpg.run(&["--export", made.as_str()]));
    gpg.run(&["--delete-keys", "--expert", made.as_str()]).is_empty().then_some(()).unwrap();
    assert_eq!(fault(SecretKey::from_agent(&made, access(&gpg))), AgentError::NoCertificate);
    let secret = SecretKey::from_agent(&made, AgentAccess { certificates: vec![file.into()], ..access(&gpg) }).unwrap();
    secret.usable(from_now(5)).unwrap();
}

/// A key made here that the agent holds.
fn generate_and_import(gpg: &Gpg, request: &KeyRequest) -> Fingerprint {
    let (made, _) = key(request);
    gpg.import(made.secret_armored.expose_secret().as_bytes());
    made.fingerprint
}

#[test]
fn an_expired_key_is_refused_before_the_agent_is_asked_for_anything() {
    if !have(&["gpg", "gpg-agent"]) {
        return;
    }
    let gpg = Gpg::new();
    let (created, expires) = (time("2024-01-01T00:00:00Z"), time("2025-01-01T00:00:00Z"));
    let made = generate_and_import(&gpg, &KeyRequest { created, expires: Some(expires), ..request("old") });
    let secret = SecretKey::from_agent(&made, access(&gpg)).unwrap();
    assert!(matches!(
        secret.usable(Timestamp::now()),
        Err(Error::Unusable { reason: Reason::Expired { on: Some(on) }, .. }) if on == expires
    ));
}

#[test]
fn an_agent_that_cannot_be_had_is_an_error() {
    if !have(&["gpg", "gpg-agent"]) {
        return;
    }
    let gpg = Gpg::new();
    let made = fingerprint(gpg.make("release", "ed25519", "sign"));
    let secret = SecretKey::from_agent(&made, access(&gpg)).unwrap();
    forget(&gpg);
    let (home, away) = (gpg.home.path(), gpg.home.path().with_extension("away"));
    std::fs::rename(home, &away).unwrap();
    std::fs::write(home, "no folder").unwrap();
    let failed = secret.sign_detached_armored(DOCUMENT);
    std::fs::remove_file(home).unwrap();
    std::fs::rename(&away, home).unwrap();
    assert!(matches!(fault(failed), AgentError::Failed { .. } | AgentError::Unreachable { .. }));
    let _ = secret.sign_detached_armored(DOCUMENT).unwrap();
}

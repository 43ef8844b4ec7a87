//! A folder of certificates, with keys that end: revoked and expired, by real gpg.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{Gpg, fingerprint, have, key, request, time};
use manifest_schema::Timestamp;
use signing::{Certificates, Error, Reason, Rejected, Trust};

const DOCUMENT: &[u8] = b"{\"type\":\"sealift/test/1\"}\n";

fn load(folder: &Path) -> Result<Certificates, Error> {
    Certificates::load(&[folder.to_path_buf()])
}

fn reason(folder: &Path, signature: &[u8]) -> Result<(), Reason> {
    let trust = Trust::new(load(folder).unwrap(), 1, Timestamp::now()).unwrap();
    match trust.verify_detached(DOCUMENT.to_vec(), signature) {
        Ok(_) => Ok(()),
        Err(Rejected::BelowThreshold { mut faults, .. }) if faults.len() == 1 => Err(faults.remove(0).reason),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn every_key_file_of_a_folder_is_read_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let ((a, secret), (b, _), (c, _)) = (key(&request("a")), key(&request("b")), key(&request("c")));
    fs::write(at("a.asc"), &a.certificate_armored).unwrap();
    fs::write(at("b.PGP"), &b.certificate_armored).unwrap();
    fs::write(at("README"), "nothing").unwrap();
    fs::create_dir(at("old.asc")).unwrap();
    fs::write(at("old.asc/c.asc"), &c.certificate_armored).unwrap();
    let mut expected = vec![a.fingerprint.clone(), b.fingerprint.clone()];
    expected.sort();
    assert_eq!(load(folder.path()).unwrap().fingerprints(), expected);
    let signature = secret.sign_detached_armored(DOCUMENT).unwrap();
    assert_eq!(reason(folder.path(), &signature), Ok(()));
    fs::write(at("a.revocation.asc"), &a.revocation_armored).unwrap();
    assert!(matches!(reason(folder.path(), &signature), Err(Reason::Revoked { on: Some(_), .. })));
    // A file and the folder it is in, as two entries: the same certificates, still revoked.
    let both = Certificates::load(&[at("a.asc"), folder.path().into()]).unwrap();
    assert_eq!(both.count(), 2);

    // What is there and cannot count is an error, never left out.
    for (name, content) in [
        ("broken.asc", &a.certificate_armored[..200]),
        ("note.gpg", b"hello"),
        ("stray.rev", &c.revocation_armored),
        ("secret.asc", secrecy::ExposeSecret::expose_secret(&a.secret_armored).as_bytes()),
    ] {
        fs::write(at(name), content).unwrap();
        assert!(load(folder.path()).is_err(), "{name}");
        fs::remove_file(at(name)).unwrap();
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(load(empty.path()), Err(Error::EmptyFolder { .. })));
    fs::write(empty.path().join("a.rev"), &a.revocation_armored).unwrap();
    assert!(matches!(load(empty.path()), Err(Error::EmptyFolder { .. })));
    assert!(matches!(
        Certificates::load(&[at("a.asc"), empty.path().into()]),
        Err(Error::EmptyFolder { path }) if path == empty.path()
    ));
}

#[test]
fn the_revocation_certificate_that_gpg_keeps_is_honoured_once_it_is_armed() {
    if !have(&["gpg"]) {
        return;
    }
    let gpg = Gpg::new();
    let made = gpg.make("release", "rsa3072", "sign");
    let document = gpg.write("document", DOCUMENT);
    gpg.run(&["--output", "sig", "--detach-sign", &document]);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("release.gpg"), gpg.run(&["--export", &made])).unwrap();
    assert_eq!(reason(folder.path(), &gpg.read("sig")), Ok(()));
    let revocation = fs::read_to_string(gpg.home.path().join(format!("openpgp-revocs.d/{made}.rev"))).unwrap();
    let file = folder.path().join(format!("{made}.rev"));
    fs::write(&file, &revocation).unwrap();
    let error = load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("remove the colon"), "{error}");
    fs::write(&file, revocation.replace(":-----BEGIN", "-----BEGIN")).unwrap();
    assert!(matches!(reason(folder.path(), &gpg.read("sig")), Err(Reason::Revoked { on: Some(_), .. })));
}

/// gpg that believes it is another day.
fn at(gpg: &Gpg, day: &str, args: &[&str]) {
    let clock = format!("{}T120000", day.replace('-', ""));
    gpg.run(&[&["--faked-system-time", &clock], args].concat());
}

#[test]
fn a_backdated_signature_by_an_expired_key_is_refused_and_an_extended_key_is_taken() {
    if !have(&["gpg"]) {
        return;
    }
    let gpg = Gpg::new();
    at(&gpg, "2024-01-01", &["--quick-gen-key", "release", "rsa3072", "sign", "2024-12-31"]);
    let made = gpg.fingerprint("release");
    let document = gpg.write("document", DOCUMENT);
    // Today, with the clock set back to a day on which the key was alive.
    at(&gpg, "2024-06-01", &["--output", "backdated", "--detach-sign", &document]);
    let signature = gpg.read("backdated");
    let folder = tempfile::tempdir().unwrap();
    let expired = gpg.run(&["--export", &made]);
    fs::write(folder.path().join("2024.gpg"), &expired).unwrap();
    let refused = reason(folder.path(), &signature).unwrap_err();
    let Reason::Expired { on: Some(on) } = refused else { panic!("{refused:?}") };
    assert_eq!(on.to_string().get(..10), Some("2024-12-31"));
    assert!(on > time("2024-12-30T00:00:00Z"));
    // It counted then: only today's judgement refuses it.
    let then = Trust::new(load(folder.path()).unwrap(), 1, time("2024-06-02T00:00:00Z")).unwrap();
    let _ = then.verify_detached(DOCUMENT.to_vec(), &signature).unwrap();

    // The owner extends the key: the new certificate beside the old one, in whatever order.
    at(&gpg, "2025-01-10", &["--quick-set-expire", &made, "20y"]);
    for name in ["2025.gpg", "0.gpg"] {
        fs::write(folder.path().join(name), gpg.run(&["--export", &made])).unwrap();
        assert_eq!(reason(folder.path(), &signature), Ok(()), "{name}");
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    assert_eq!(load(folder.path()).unwrap().fingerprints(), [fingerprint(&made)]);
}

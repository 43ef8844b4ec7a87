//! What was received earlier: judged as of then, but for revocations.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Gpg, certificates, from_now, have, key, request, time};
use manifest_schema::{Digest, Reference, Timestamp};
use openpgp::cert::{CertBuilder, CertRevocationBuilder, SubkeyRevocationBuilder};
use openpgp::crypto::KeyPair;
use openpgp::packet::signature::SignatureBuilder;
use openpgp::parse::Parse;
use openpgp::policy::StandardPolicy;
use openpgp::serialize::SerializeInto;
use openpgp::types::{HashAlgorithm, ReasonForRevocation, SignatureType};
use openpgp::{Cert, Packet};
use secrecy::ExposeSecret;
use sequoia_openpgp as openpgp;
use signing::{GeneratedKey, ImagePolicy, KeyRequest, PolicyImage, PolicyName, Reason, Rejected, SecretKey, Trust};

const DOCUMENT: &[u8] = b"{\"type\":\"sealift/test/1\"}\n";
const DAY: i64 = 86400;

fn system(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(at.unix().try_into().unwrap())
}

fn verify(trust: &Trust, signature: &[u8]) -> Result<(), Reason> {
    match trust.verify_detached(DOCUMENT.to_vec(), signature) {
        Ok(_) => Ok(()),
        Err(Rejected::BelowThreshold { mut faults, .. }) if faults.len() == 1 => Err(faults.remove(0).reason),
        other => panic!("{other:?}"),
    }
}

/// Trust in one certificate, now.
fn now(certificate: &[u8]) -> Trust {
    Trust::new(certificates(&[certificate]), 1, Timestamp::now()).unwrap()
}

/// A key made ten days ago, with a signature from eight days ago.
fn old(expires: Option<Timestamp>) -> (GeneratedKey, SecretKey, Vec<u8>) {
    let (made, secret) = key(&KeyRequest { created: from_now(-10 * DAY), expires, ..request("release") });
    let signature = secret.sign_detached_at(DOCUMENT, from_now(-8 * DAY)).unwrap();
    (made, secret, signature)
}

fn received() -> Timestamp {
    from_now(-7 * DAY)
}

fn secret_cert(made: &GeneratedKey) -> Cert {
    Cert::from_bytes(made.secret_armored.expose_secret()).unwrap()
}

/// What signs for the primary key.
fn primary(cert: &Cert) -> KeyPair {
    cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap()
}

/// The certificate, revoked.
fn revoked(cert: &Cert, reason: ReasonForRevocation, date: Timestamp) -> Vec<u8> {
    let revocation = CertRevocationBuilder::new()
        .set_signature_creation_time(system(date))
        .unwrap()
        .set_reason_for_revocation(reason, b"")
        .unwrap()
        .build(&mut primary(cert), cert, None)
        .unwrap();
    let (cert, _) = cert.clone().insert_packets(revocation).unwrap();
    cert.strip_secret_key_material().armored().to_vec().unwrap()
}

#[test]
fn a_key_that_expired_since_counts_as_of_then() {
    let expires = from_now(-2 * DAY);
    let (made, _, signature) = old(Some(expires));
    let trust = now(&made.certificate_armored);
    assert_eq!(verify(&trust, &signature), Err(Reason::Expired { on: Some(expires) }));
    assert_eq!(verify(&trust.as_received(received()), &signature), Ok(()));
    assert_eq!(verify(&trust.as_received(from_now(-DAY)), &signature), Err(Reason::Expired { on: Some(expires) }));
    // Whatever came before, `at` judges everything at one time; and no receive is later than now.
    assert!(verify(&trust.as_received(received()).at(Timestamp::now()), &signature).is_err());
    assert_eq!(verify(&trust.at(received()).as_received(Timestamp::now()), &signature), Ok(()));
    assert_eq!(trust.as_received(from_now(DAY)).now(), trust.now());
}

/// As a ledger is read, for which no other date is known than that of the signature.
#[test]
fn what_was_signed_in_its_keys_time_stays_good() {
    let expires = from_now(-2 * DAY);
    let (made, secret, signature) = old(Some(expires));
    let cert = secret_cert(&made);
    let trust = now(&made.certificate_armored).as_signed();
    assert_eq!(verify(&trust, &signature), Ok(()));
    assert_eq!(
        verify(&trust.at(from_now(-9 * DAY)), &signature).map_err(|r| matches!(r, Reason::Future { .. })),
        Err(true)
    );
    let signed = |at, builder: SignatureBuilder| {
        let signature = builder.set_signature_creation_time(system(at)).unwrap();
        Packet::from(signature.sign_message(&mut primary(&cert), DOCUMENT).unwrap()).to_vec().unwrap()
    };
    let binary = || SignatureBuilder::new(SignatureType::Binary);
    let late = signed(from_now(-DAY), binary());
    assert_eq!(verify(&trust, &late), Err(Reason::Expired { on: Some(expires) }));
    let early = signed(from_now(-11 * DAY), binary());
    assert!(matches!(verify(&trust, &early), Err(Reason::BeforeKey { .. })));
    // Only the key may have expired.
    let short = signed(from_now(-8 * DAY), binary().set_signature_validity_period(Duration::from_secs(86400)).unwrap());
    assert!(matches!(verify(&trust, &short), Err(Reason::SignatureExpired { .. })));
    let weak = signed(from_now(-8 * DAY), binary().set_hash_algo(HashAlgorithm::SHA1));
    assert!(matches!(verify(&trust, &weak), Err(Reason::Weak(_))));
    for (reason, date) in [(ReasonForRevocation::KeyRetired, -3 * DAY), (ReasonForRevocation::KeyCompromised, -DAY)] {
        let trust = now(&revoked(&cert, reason, from_now(date))).as_signed();
        assert!(matches!(verify(&trust, &signature), Err(Reason::Revoked { .. })));
    }
    assert!(secret.usable(Timestamp::now()).is_err(), "it signs no more");
}

/// Weakness is judged as of now: a date of then costs nothing.
#[test]
fn an_algorithm_that_became_weak_since_does_not_count_by_its_date() {
    let (made, _) = key(&KeyRequest { created: time("2010-01-01T00:00:00Z"), ..request("release") });
    let signature = SignatureBuilder::new(SignatureType::Binary)
        .set_hash_algo(HashAlgorithm::SHA1)
        .set_signature_creation_time(system(time("2011-01-01T00:00:00Z")))
        .unwrap()
        .sign_message(&mut primary(&secret_cert(&made)), DOCUMENT)
        .unwrap();
    let signature = Packet::from(signature).to_vec().unwrap();
    assert!(matches!(verify(&now(&made.certificate_armored).as_signed(), &signature), Err(Reason::Weak(_))));
}

#[test]
fn a_signature_that_expired_since_counts_as_of_then() {
    let (made, _, _) = old(None);
    let mut signer = primary(&secret_cert(&made));
    let signature = SignatureBuilder::new(SignatureType::Binary)
        .set_signature_creation_time(system(from_now(-8 * DAY)))
        .unwrap()
        .set_signature_validity_period(Duration::from_secs(3 * 86400))
        .unwrap()
        .sign_message(&mut signer, DOCUMENT)
        .unwrap();
    let signature = Packet::from(signature).to_vec().unwrap();
    let trust = now(&made.certificate_armored);
    assert!(matches!(verify(&trust, &signature), Err(Reason::SignatureExpired { .. })));
    assert_eq!(verify(&trust.as_received(received()), &signature), Ok(()));
    assert!(matches!(verify(&trust.as_received(from_now(-4 * DAY)), &signature), Err(Reason::SignatureExpired { .. })));
}

#[test]
fn an_algorithm_that_became_weak_since_counts_as_of_then() {
    let (made, _) = key(&KeyRequest { created: time("2010-01-01T00:00:00Z"), ..request("release") });
    let mut signer = primary(&secret_cert(&made));
    let signature = SignatureBuilder::new(SignatureType::Binary)
        .set_hash_algo(HashAlgorithm::SHA1)
        .set_signature_creation_time(system(time("2011-01-01T00:00:00Z")))
        .unwrap()
        .sign_message(&mut signer, DOCUMENT)
        .unwrap();
    let signature = Packet::from(signature).to_vec().unwrap();
    let trust = now(&made.certificate_armored);
    assert!(matches!(verify(&trust, &signature), Err(Reason::Weak(_))));
    assert_eq!(verify(&trust.as_received(time("2011-01-02T00:00:00Z")), &signature), Ok(()));
    assert!(matches!(verify(&trust.as_received(time("2020-01-01T00:00:00Z")), &signature), Err(Reason::Weak(_))));
}

#[test]
fn a_key_revoked_since_is_refused_whatever_the_reason_and_the_date() {
    let (made, _, signature) = old(None);
    let cert = secret_cert(&made);
    let as_received = |certificate: &[u8]| now(certificate).as_received(received());
    assert_eq!(verify(&as_received(&made.certificate_armored), &signature), Ok(()));
    use ReasonForRevocation as Why;
    for (reason, date) in [
        (Why::KeyCompromised, from_now(-DAY)),
        (Why::KeyRetired, from_now(-DAY)),
        (Why::KeySuperseded, from_now(-60)),
        (Why::KeyRetired, from_now(-9 * DAY)),
    ] {
        let revoked = revoked(&cert, reason, date);
        let found = verify(&as_received(&revoked), &signature);
        assert!(matches!(found, Err(Reason::Revoked { on: Some(on), .. }) if on == date), "{reason}: {found:?}");
        // As of the day of the receive alone, nobody would have known of a later one that is soft.
        let then = verify(&now(&revoked).at(received()), &signature);
        assert_eq!(then.is_ok(), date > received() && reason != Why::KeyCompromised, "{reason}");
    }
    // A retirement that lies in the future is none yet.
    assert_eq!(verify(&as_received(&revoked(&cert, Why::KeyRetired, from_now(DAY))), &signature), Ok(()));
}

#[test]
fn a_signing_subkey_revoked_since_is_refused() {
    let (cert, _) = CertBuilder::new()
        .set_creation_time(system(from_now(-10 * DAY)))
        .add_userid("release")
        .add_signing_subkey()
        .generate()
        .unwrap();
    let subkey = cert.keys().subkeys().next().unwrap();
    let mut signer = subkey.key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let signature = SignatureBuilder::new(SignatureType::Binary)
        .set_signature_creation_time(system(from_now(-8 * DAY)))
        .unwrap()
        .sign_message(&mut signer, DOCUMENT)
        .unwrap();
    let signature = Packet::from(signature).to_vec().unwrap();
    let public = cert.clone().strip_secret_key_material().armored().to_vec().unwrap();
    assert_eq!(verify(&now(&public).as_received(received()), &signature), Ok(()));
    for reason in [ReasonForRevocation::KeyRetired, ReasonForRevocation::KeyCompromised] {
        let revocation = SubkeyRevocationBuilder::new()
            .set_signature_creation_time(system(from_now(-DAY)))
            .unwrap()
            .set_reason_for_revocation(reason, b"")
            .unwrap()
            .build(&mut primary(&cert), &cert, subkey.key(), None)
            .unwrap();
        let (revoked, _) =
            cert.clone().insert_packets([Packet::from(subkey.key().clone()), revocation.into()]).unwrap();
        let revoked = revoked.strip_secret_key_material().armored().to_vec().unwrap();
        let found = verify(&now(&revoked).as_received(received()), &signature);
        assert!(matches!(found, Err(Reason::Revoked { .. })), "{reason}: {found:?}");
    }
}

#[test]
fn a_signature_from_after_the_receive_is_from_the_future() {
    let (made, secret, _) = old(None);
    let trust = now(&made.certificate_armored);
    let later = secret.sign_detached_at(DOCUMENT, from_now(-6 * DAY)).unwrap();
    assert_eq!(verify(&trust, &later), Ok(()));
    let found = verify(&trust.as_received(received()), &later);
    assert!(matches!(found, Err(Reason::Future { now, .. }) if now < from_now(-6 * DAY)), "{found:?}");
    let near = Timestamp::from_unix(received().unix() + 3000).unwrap();
    let near = secret.sign_detached_at(DOCUMENT, near).unwrap();
    assert_eq!(verify(&trust.as_received(received()), &near), Ok(()));
}

#[test]
fn certificates_and_threshold_are_those_of_now() {
    let (_, _, signature) = old(None);
    let (other, _, _) = old(None);
    assert_eq!(verify(&now(&other.certificate_armored).as_received(received()), &signature), Err(Reason::UnknownKey));
}

#[test]
fn a_certificate_renewed_since_counts() {
    let (made, _, signature) = old(Some(from_now(-2 * DAY)));
    let cert = secret_cert(&made);
    let policy = StandardPolicy::new();
    let renewed = |at: Timestamp, expires: Timestamp| {
        let valid = cert.with_policy(&policy, system(received())).unwrap();
        let user = valid.primary_userid().unwrap();
        let binding = SignatureBuilder::from(user.binding_signature().clone())
            .set_signature_creation_time(system(at))
            .unwrap()
            .set_key_expiration_time(cert.primary_key().key(), system(expires))
            .unwrap()
            .sign_userid_binding(&mut primary(&cert), None, user.userid())
            .unwrap();
        // The new binding alone, as GnuPG exports it.
        let packets: Vec<Packet> =
            vec![cert.primary_key().key().clone().take_secret().0.into(), user.userid().clone().into(), binding.into()];
        Cert::from_packets(packets.into_iter()).unwrap().armored().to_vec().unwrap()
    };
    let alive = now(&renewed(from_now(-3 * DAY), from_now(DAY)));
    assert_eq!(verify(&alive, &signature), Ok(()));
    assert!(matches!(verify(&alive.at(received()), &signature), Err(Reason::Invalid(_))));
    assert_eq!(verify(&alive.as_received(received()), &signature), Ok(()));
    let dead = now(&renewed(from_now(-3 * DAY), from_now(-DAY))).as_received(received());
    assert!(matches!(verify(&dead, &signature), Err(Reason::Expired { .. })));
}

#[test]
fn gpg_renews_and_retires_keys() {
    if !have(&["gpg"]) {
        return;
    }
    let at = |gpg: &Gpg, day: &str, args: &[&str]| {
        gpg.run(&[&["--faked-system-time", &format!("{day}T120000")], args].concat());
    };
    let gpg = Gpg::new();
    at(&gpg, "20240101", &["--quick-gen-key", "release", "rsa3072", "sign", "2024-12-31"]);
    let made = gpg.fingerprint("release");
    let document = gpg.write("document", DOCUMENT);
    at(&gpg, "20240601", &["--output", "sig", "--detach-sign", &document]);
    let received = time("2024-06-02T00:00:00Z");
    let signature = gpg.read("sig");
    let then = |gpg: &Gpg| now(&gpg.run(&["--export", &made])).as_received(received);
    assert_eq!(verify(&then(&gpg), &signature), Ok(()), "it has expired since");
    at(&gpg, "20240701", &["--quick-set-expire", &made, "20y"]);
    assert_eq!(verify(&then(&gpg), &signature), Ok(()));
    let revocation = std::fs::read_to_string(gpg.home.path().join(format!("openpgp-revocs.d/{made}.rev"))).unwrap();
    gpg.import(revocation.replace(":-----BEGIN", "-----BEGIN").as_bytes());
    assert!(matches!(verify(&then(&gpg), &signature), Err(Reason::Revoked { .. })));
}

#[test]
fn an_image_policy_judges_what_was_received_in_the_same_way() {
    let (made, secret, _) = old(Some(from_now(-2 * DAY)));
    let reference: Reference = "registry.example/team/app:1".parse().unwrap();
    let digest: Digest = blobs::sha256(b"a manifest");
    let bytes = secret.sign_simple(&reference, &digest, from_now(-8 * DAY), "x").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |certificate: &[u8]| std::fs::write(folder.path().join("a.asc"), certificate).unwrap();
    let load = || {
        let policy = serde_json::json!({ "default": [{
            "type": "signedBy", "keyType": "GPGKeys", "keyPath": "a.asc", "signedIdentity": {"type": "matchExact"}
        }] });
        ImagePolicy::parse(policy.to_string().as_bytes(), folder.path()).unwrap()
    };
    let image =
        PolicyImage { name: PolicyName::Docker(&reference), digests: &[digest], simple: &[&bytes], sigstore: &[] };
    write(&made.certificate_armored);
    let accepted = |received| load().judge_as_received(&image, received, Timestamp::now()).accepted;
    assert!(!load().judge(&image, Timestamp::now()).accepted, "the key has expired");
    assert!(accepted(received()) && !accepted(from_now(-DAY)) && !accepted(Timestamp::now()));
    assert!(!accepted(from_now(-9 * DAY)), "signed after that");
    // Revoked after the receive, which nobody could have known then.
    write(&revoked(&secret_cert(&made), ReasonForRevocation::KeyRetired, from_now(-DAY)));
    assert!(load().judge(&image, received()).accepted);
    let verdict = load().judge_as_received(&image, received(), Timestamp::now());
    assert!(!verdict.accepted && verdict.requirements[0].reasons[0].contains("revoked"), "{verdict:?}");
}

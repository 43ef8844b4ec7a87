//! One key vouches for another: made here and read by GnuPG, made by GnuPG and read here, and what does not count.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Gpg, certificates, fingerprint, from_now, have, key, request, unlock};
use manifest_schema::Timestamp;
use openpgp::cert::{CertBuilder, CertRevocationBuilder, UserIDRevocationBuilder};
use openpgp::crypto::KeyPair;
use openpgp::packet::UserID;
use openpgp::packet::signature::SignatureBuilder;
use openpgp::parse::Parse;
use openpgp::policy::StandardPolicy;
use openpgp::serialize::SerializeInto;
use openpgp::types::{HashAlgorithm, KeyFlags, ReasonForRevocation, SignatureType};
use openpgp::{Cert, Packet};
use secrecy::ExposeSecret;
use sequoia_openpgp as openpgp;
use signing::{
    AgentAccess, Algorithm, Certificates, CertificationError, Error, Fault, GeneratedKey, KeyRequest, Reason, SecretKey,
};

const DAY: i64 = 86400;

fn system(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(at.unix().try_into().unwrap())
}

fn cert(made: &GeneratedKey) -> Cert {
    Cert::from_bytes(made.secret_armored.expose_secret()).unwrap()
}

fn primary(cert: &Cert) -> KeyPair {
    cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap()
}

fn armored(cert: &Cert) -> Vec<u8> {
    cert.clone().strip_secret_key_material().armored().to_vec().unwrap()
}

fn user(cert: &Cert) -> UserID {
    cert.userids().next().unwrap().userid().clone()
}

/// The production key and the ledger key, ten days old.
struct Keys {
    production: Cert,
    ledger: Cert,
}

impl Keys {
    fn new() -> Self {
        Self::expiring(None)
    }

    fn expiring(expires: Option<Timestamp>) -> Self {
        let created = from_now(-10 * DAY);
        let (production, _) = key(&KeyRequest { created, expires, ..request("production") });
        let (ledger, _) = key(&KeyRequest { created, ..request("ledger") });
        Self { production: cert(&production), ledger: cert(&ledger) }
    }

    /// A certification of the ledger key, made eight days ago, with one thing changed.
    fn certification(&self, change: impl FnOnce(SignatureBuilder) -> SignatureBuilder) -> Packet {
        let builder = SignatureBuilder::new(SignatureType::PositiveCertification)
            .set_signature_creation_time(system(from_now(-8 * DAY)))
            .unwrap();
        let (ledger, mut signer) = (self.ledger.primary_key().key(), primary(&self.production));
        change(builder).sign_userid_binding(&mut signer, ledger, &user(&self.ledger)).unwrap().into()
    }

    /// The ledger's certificate with packets over its user id.
    fn ledger_with(&self, packets: impl IntoIterator<Item = Packet>) -> Vec<u8> {
        let user = Packet::from(user(&self.ledger));
        let packets = packets.into_iter().flat_map(|packet| [user.clone(), packet]);
        armored(&self.ledger.clone().insert_packets(packets).unwrap().0)
    }

    fn judge(&self, ledger: &[u8], production: &[u8]) -> Result<(), CertificationError> {
        let wanted = self.ledger.fingerprint().to_hex().parse().unwrap();
        let by = certificates(&[ledger]).certified_by(&wanted, &certificates(&[production]), Timestamp::now())?;
        assert_eq!(by.as_str(), self.production.fingerprint().to_hex());
        Ok(())
    }

    /// The only reason why the ledger's certificate does not count.
    fn reason(&self, ledger: &[u8], production: &[u8]) -> Reason {
        match self.judge(ledger, production) {
            Err(CertificationError::NotCertified { mut faults, .. }) if faults.len() == 1 => faults.remove(0).reason,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_certification_is_found_again_and_gpg_takes_it() {
    if !have(&["gpg"]) {
        return;
    }
    let ((ledger, _), (stranger, _)) = (key(&request("ledger")), key(&request("stranger")));
    for algorithm in [Algorithm::Rsa3072, Algorithm::P256, Algorithm::Ed25519] {
        let (made, secret) = key(&KeyRequest { algorithm, ..request("production") });
        let plain = certificates(&[&ledger.certificate_armored]);
        let certified = secret.certify(&plain, Timestamp::now()).unwrap();
        let issuers = certificates(&[&stranger.certificate_armored, &made.certificate_armored]);
        let by = certificates(&[&certified]).certified_by(&ledger.fingerprint, &issuers, Timestamp::now());
        assert_eq!(by.unwrap(), made.fingerprint);
        // It is the same certificate otherwise, and takes a second certification.
        assert_eq!(certificates(&[&certified, &ledger.certificate_armored]).count(), 1);
        let (_, second) = key(&request("second"));
        let both = certificates(&[&second.certify(&certificates(&[&certified]), Timestamp::now()).unwrap()]);
        for issuer in [secret.certificates(), second.certificates()] {
            both.certified_by(&ledger.fingerprint, &issuer, Timestamp::now()).unwrap();
        }

        let gpg = Gpg::new();
        gpg.import(&made.certificate_armored);
        gpg.import(&certified);
        let checked = gpg.run(&["--with-colons", "--check-sigs", ledger.fingerprint.as_str()]);
        let checked = String::from_utf8(checked).unwrap();
        let good = checked.lines().map(|line| line.split(':').collect::<Vec<_>>()).any(|fields| {
            fields[0] == "sig" && fields[1] == "!" && fields[10] == "13x" && fields[12] == made.fingerprint.as_str()
        });
        assert!(good, "{algorithm:?}: {checked}");
    }
}

#[test]
fn gpg_certifies_and_takes_it_back() {
    if !have(&["gpg", "gpg-agent"]) {
        return;
    }
    let gpg = Gpg::new();
    let production = gpg.make("production", "rsa3072", "sign");
    let (ledger, _) = key(&request("ledger"));
    let now = from_now(5);
    let judge = |gpg: &Gpg| {
        let issuers = certificates(&[&gpg.run(&["--export", &production])]);
        let ledger_now = certificates(&[&gpg.run(&["--export", ledger.fingerprint.as_str()])]);
        ledger_now.certified_by(&ledger.fingerprint, &issuers, now)
    };
    // By our program, with gpg's key.
    let access = AgentAccess { home: Some(gpg.home.path().into()), ..AgentAccess::default() };
    let held = SecretKey::from_agent(&fingerprint(&production), access).unwrap();
    let certified = held.certify(&certificates(&[&ledger.certificate_armored]), now).unwrap();
    let theirs = Gpg::new();
    theirs.import(&certified);
    let issuers = certificates(&[&gpg.run(&["--export", &production])]);
    let by = certificates(&[&certified]).certified_by(&ledger.fingerprint, &issuers, now);
    assert_eq!(by.unwrap(), fingerprint(&production));

    // By gpg itself.
    gpg.import(&ledger.certificate_armored);
    assert!(matches!(judge(&gpg), Err(CertificationError::NotCertified { faults, .. }) if faults.is_empty()));
    gpg.run(&["--quick-sign-key", ledger.fingerprint.as_str()]);
    assert_eq!(judge(&gpg).unwrap(), fingerprint(&production));
    gpg.run(&["--quick-revoke-sig", ledger.fingerprint.as_str(), &production]);
    let taken_back = judge(&gpg).unwrap_err();
    let CertificationError::NotCertified { faults, .. } = &taken_back else { panic!("{taken_back:?}") };
    assert!(matches!(faults[..], [Fault { reason: Reason::CertificationRevoked { on: Some(_) }, .. }]), "{faults:?}");
}

#[test]
fn a_certification_by_nobody_known_is_none() {
    let keys = Keys::new();
    let certified = keys.ledger_with([keys.certification(|b| b)]);
    keys.judge(&certified, &armored(&keys.production)).unwrap();
    let (other, _) = key(&request("other"));
    let error = keys.judge(&certified, &other.certificate_armored).unwrap_err();
    let expected = format!(
        "certificate {}: expected a certification by {}, found none",
        keys.ledger.fingerprint().to_hex(),
        other.fingerprint
    );
    assert_eq!(error.to_string(), expected);
    // Nobody vouches for themselves.
    let own = armored(&keys.ledger);
    assert!(matches!(keys.judge(&own, &own), Err(CertificationError::NotCertified { .. })));
    let absent = certificates(&[&certified]).certified_by(&other.fingerprint, &certificates(&[&own]), Timestamp::now());
    assert_eq!(absent, Err(CertificationError::NoCertificate { fingerprint: other.fingerprint }));
}

#[test]
fn a_certification_belongs_to_one_key_and_one_user_id() {
    let keys = Keys::new();
    let production = armored(&keys.production);
    let certification = keys.certification(|b| b);
    let refused = |keys: &Keys, file: &[u8]| match keys.judge(file, &production) {
        Err(CertificationError::NotCertified { faults, .. }) => faults,
        other => panic!("{other:?}"),
    };
    // Another key under the same name.
    let (forged, _) = key(&KeyRequest { created: from_now(-10 * DAY), ..request("ledger") });
    let forged = Keys { production: keys.production.clone(), ledger: cert(&forged) };
    refused(&forged, &forged.ledger_with([certification.clone()]));
    // Another name of the same key.
    let name = UserID::from("Production <production@example.org>");
    let own = SignatureBuilder::new(SignatureType::PositiveCertification);
    let own = own.sign_userid_binding(&mut primary(&keys.ledger), None, &name).unwrap();
    let ledger = keys.ledger.primary_key().key().clone();
    let packets: [Packet; 4] = [ledger.into(), name.into(), own.into(), certification];
    let renamed = armored(&Cert::from_packets(packets.into_iter()).unwrap());
    refused(&keys, &renamed);
    // Another key that says it is the production key.
    let (other, _) = key(&KeyRequest { created: from_now(-10 * DAY), ..request("other") });
    let other = Keys { production: cert(&other), ledger: keys.ledger.clone() };
    let posing = other.certification(|b| {
        let b = b.set_issuer_fingerprint(keys.production.fingerprint()).unwrap();
        b.set_issuer(keys.production.keyid()).unwrap()
    });
    assert!(matches!(keys.reason(&keys.ledger_with([posing]), &production), Reason::Bad(_)));
    // A name that the key itself does not have.
    let name = UserID::from("somebody else");
    let by = SignatureBuilder::new(SignatureType::PositiveCertification);
    let by = by.sign_userid_binding(&mut primary(&keys.production), keys.ledger.primary_key().key(), &name).unwrap();
    let packets: [Packet; 2] = [name.into(), by.into()];
    let given = armored(&keys.ledger.clone().insert_packets(packets).unwrap().0);
    assert_eq!(keys.reason(&given, &production), Reason::UserId);
}

#[test]
fn only_certifications_that_mean_something_count() {
    let keys = Keys::new();
    let production = armored(&keys.production);
    let judge = |change: &dyn Fn(SignatureBuilder) -> SignatureBuilder| {
        keys.judge(&keys.ledger_with([keys.certification(change)]), &production)
    };
    use SignatureType as Type;
    for kind in [Type::GenericCertification, Type::CasualCertification, Type::PositiveCertification] {
        judge(&|b| b.set_type(kind)).unwrap();
    }
    let reason = |change: &dyn Fn(SignatureBuilder) -> SignatureBuilder| {
        keys.reason(&keys.ledger_with([keys.certification(change)]), &production)
    };
    assert_eq!(reason(&|b| b.set_type(Type::PersonaCertification)), Reason::Unchecked);
    assert!(matches!(reason(&|b| b.set_hash_algo(HashAlgorithm::SHA1)), Reason::Weak(_)));
    let dated = |days: i64| move |b: SignatureBuilder| b.set_signature_creation_time(system(from_now(days))).unwrap();
    assert!(matches!(reason(&dated(DAY)), Reason::Future { tolerance: 3600, .. }));
    judge(&dated(3000)).unwrap();
    let lasting = |days: u64| {
        move |b: SignatureBuilder| b.set_signature_validity_period(Duration::from_secs(days * 86400)).unwrap()
    };
    judge(&lasting(9)).unwrap();
    let expired = reason(&lasting(7));
    assert!(matches!(expired, Reason::SignatureExpired { on } if on < from_now(-DAY + 5)), "{expired:?}");
    // Before the issuer was made, and before the certified key was.
    assert!(matches!(reason(&dated(-11 * DAY)), Reason::BeforeKey { .. }));
    let (older, _) = key(&KeyRequest { created: from_now(-20 * DAY), ..request("production") });
    let keys = Keys { production: cert(&older), ledger: keys.ledger };
    let early = keys.ledger_with([keys.certification(dated(-11 * DAY))]);
    assert!(matches!(keys.reason(&early, &older.certificate_armored), Reason::BeforeKey { .. }));
}

#[test]
fn a_certification_that_was_taken_back_does_not_count_until_it_is_made_again() {
    let keys = Keys::new();
    let production = armored(&keys.production);
    let revocation = |by: &Cert, day: i64| -> Packet {
        SignatureBuilder::new(SignatureType::CertificationRevocation)
            .set_signature_creation_time(system(from_now(day * DAY)))
            .unwrap()
            .set_reason_for_revocation(ReasonForRevocation::UIDRetired, b"")
            .unwrap()
            .sign_userid_binding(&mut primary(by), keys.ledger.primary_key().key(), &user(&keys.ledger))
            .unwrap()
            .into()
    };
    let certified = keys.certification(|b| b);
    for day in [-7, 1] {
        let found = keys.reason(&keys.ledger_with([certified.clone(), revocation(&keys.production, day)]), &production);
        assert!(matches!(found, Reason::CertificationRevoked { on: Some(_) }), "{found:?}");
    }
    let again = keys.certification(|b| b.set_signature_creation_time(system(from_now(-6 * DAY))).unwrap());
    let packets = [certified.clone(), revocation(&keys.production, -7), again];
    keys.judge(&keys.ledger_with(packets), &production).unwrap();
    // Somebody else cannot take it back.
    let (other, _) = key(&KeyRequest { created: from_now(-10 * DAY), ..request("other") });
    let file = keys.ledger_with([certified, revocation(&cert(&other), -7)]);
    keys.judge(&file, &production).unwrap();
    let secret = unlock(&keys.production.as_tsk().armored().to_vec().unwrap(), None).unwrap();
    secret.certify(&certificates(&[&file]), Timestamp::now()).unwrap();
}

#[test]
fn an_issuer_that_has_expired_since_counts_and_one_that_was_revoked_never() {
    let expires = from_now(-2 * DAY);
    let keys = Keys::expiring(Some(expires));
    let production = armored(&keys.production);
    keys.judge(&keys.ledger_with([keys.certification(|b| b)]), &production).unwrap();
    let late = keys.certification(|b| b.set_signature_creation_time(system(from_now(-DAY))).unwrap());
    assert_eq!(keys.reason(&keys.ledger_with([late]), &production), Reason::Expired { on: Some(expires) });

    use ReasonForRevocation as Why;
    for (why, day) in [(Why::KeyCompromised, -1), (Why::KeyRetired, -1), (Why::KeyRetired, -9)] {
        for keys in [Keys::expiring(Some(expires)), Keys::new()] {
            let revocation = CertRevocationBuilder::new()
                .set_signature_creation_time(system(from_now(day * DAY)))
                .unwrap()
                .set_reason_for_revocation(why, b"")
                .unwrap()
                .build(&mut primary(&keys.production), &keys.production, None)
                .unwrap();
            let revoked = armored(&keys.production.clone().insert_packets(revocation).unwrap().0);
            let found = keys.reason(&keys.ledger_with([keys.certification(|b| b)]), &revoked);
            assert!(matches!(found, Reason::Revoked { .. }), "{why}: {found:?}");
        }
    }
}

/// The certificate with a new binding of its user id in the place of the old one, as GnuPG renews keys.
fn rebound(cert: &Cert, at: Timestamp, change: impl FnOnce(SignatureBuilder) -> SignatureBuilder) -> Cert {
    let policy = StandardPolicy::new();
    let valid = cert.with_policy(&policy, None).unwrap();
    let user = valid.primary_userid().unwrap();
    let binding = SignatureBuilder::from(user.binding_signature().clone());
    let binding = change(binding.set_signature_creation_time(system(at)).unwrap());
    let binding = binding.sign_userid_binding(&mut primary(cert), None, user.userid()).unwrap();
    let packets: [Packet; 3] = [cert.primary_key().key().clone().into(), user.userid().clone().into(), binding.into()];
    Cert::from_packets(packets.into_iter()).unwrap()
}

#[test]
fn an_issuer_that_was_renewed_since_counts() {
    let keys = Keys::new();
    let expiring = |seconds: i64| {
        let key = keys.production.primary_key().key();
        rebound(&keys.production, from_now(-DAY), |b| {
            b.set_key_expiration_time(key, system(from_now(seconds))).unwrap()
        })
    };
    let certified = keys.ledger_with([keys.certification(|b| b)]);
    keys.judge(&certified, &armored(&expiring(DAY))).unwrap();
    // Nothing says whether it was alive then, and it isn't now.
    assert!(matches!(keys.reason(&certified, &armored(&expiring(-60))), Reason::Invalid(_)));
}

#[test]
fn an_issuer_must_be_meant_for_it_and_strong_enough() {
    let keys = Keys::new();
    let signing =
        rebound(&keys.production, from_now(-9 * DAY), |b| b.set_key_flags(KeyFlags::empty().set_signing()).unwrap());
    let certified = keys.ledger_with([keys.certification(|b| b)]);
    assert_eq!(keys.reason(&certified, &armored(&signing)), Reason::NotForCertification);
    let secret = unlock(&signing.as_tsk().armored().to_vec().unwrap(), None).unwrap();
    let plain = certificates(&[&armored(&keys.ledger)]);
    let error = secret.certify(&plain, Timestamp::now()).unwrap_err();
    assert!(matches!(error, Error::CannotCertify { reason: Reason::NotForCertification, .. }), "{error}");

    if !have(&["gpg"]) {
        return;
    }
    let gpg = Gpg::new();
    let weak = gpg.make("weak", "rsa1024", "sign");
    gpg.import(&armored(&keys.ledger));
    gpg.run(&["--quick-sign-key", &keys.ledger.fingerprint().to_hex()]);
    let certified = gpg.run(&["--export", &keys.ledger.fingerprint().to_hex()]);
    let found = keys.reason(&certified, &gpg.run(&["--export", &weak]));
    assert!(matches!(found, Reason::Weak(_)), "{found:?}");
}

#[test]
fn a_certificate_that_was_revoked_is_not_vouched_for() {
    let keys = Keys::new();
    let production = armored(&keys.production);
    let certification = keys.certification(|b| b);
    for reason in [ReasonForRevocation::KeyCompromised, ReasonForRevocation::KeyRetired] {
        let revocation = CertRevocationBuilder::new()
            .set_reason_for_revocation(reason, b"")
            .unwrap()
            .build(&mut primary(&keys.ledger), &keys.ledger, None)
            .unwrap();
        let ledger = keys.ledger.clone().insert_packets(revocation).unwrap().0;
        let revoked = Keys { production: keys.production.clone(), ledger };
        let file = revoked.ledger_with([certification.clone()]);
        let error = revoked.judge(&file, &production).unwrap_err();
        assert!(matches!(error, CertificationError::Revoked { reason: Reason::Revoked { .. }, .. }), "{error}");
        let secret = unlock(&keys.production.as_tsk().armored().to_vec().unwrap(), None).unwrap();
        let error = secret.certify(&certificates(&[&file]), Timestamp::now()).unwrap_err();
        assert!(matches!(error, Error::NotCertifiable { reason: Reason::Revoked { .. }, .. }), "{error}");
    }
    let revocation = UserIDRevocationBuilder::new()
        .set_reason_for_revocation(ReasonForRevocation::UIDRetired, b"")
        .unwrap()
        .build(&mut primary(&keys.ledger), &keys.ledger, &user(&keys.ledger), None)
        .unwrap();
    let file = keys.ledger_with([certification, revocation.into()]);
    assert_eq!(keys.reason(&file, &production), Reason::UserId);
    let secret = unlock(&keys.production.as_tsk().armored().to_vec().unwrap(), None).unwrap();
    let error = secret.certify(&certificates(&[&file]), Timestamp::now()).unwrap_err();
    assert!(matches!(error, Error::NotCertifiable { reason: Reason::UserId, .. }), "{error}");
}

#[test]
fn nobody_is_certified_by_the_wrong_key_or_at_the_wrong_time() {
    let now = Timestamp::now();
    let ((made, secret), (ledger, _)) = (key(&request("production")), key(&request("ledger")));
    let plain = certificates(&[&ledger.certificate_armored]);
    let error = secret.certify(&secret.certificates(), now).unwrap_err();
    assert_eq!(error.to_string(), format!("key {} cannot certify itself", made.fingerprint));
    let both = certificates(&[&ledger.certificate_armored, &made.certificate_armored]);
    let error = secret.certify(&both, now).unwrap_err();
    assert_eq!(error.to_string(), "expected one certificate to certify, found 2");

    let expiring = |name: &str| {
        let request = KeyRequest { created: from_now(-10 * DAY), expires: Some(from_now(-DAY)), ..request(name) };
        key(&request)
    };
    let (_, expired) = expiring("old");
    let error = expired.certify(&plain, now).unwrap_err();
    assert!(matches!(error, Error::CannotCertify { reason: Reason::Expired { .. }, .. }), "{error}");
    let (expired, _) = expiring("old");
    let error = secret.certify(&certificates(&[&expired.certificate_armored]), now).unwrap_err();
    assert!(matches!(error, Error::NotCertifiable { reason: Reason::Expired { .. }, .. }), "{error}");
    // Before either key was made.
    let (old, old_secret) = key(&KeyRequest { created: from_now(-10 * DAY), ..request("old") });
    assert!(matches!(secret.certify(&plain, from_now(-DAY)), Err(Error::CannotCertify { .. })));
    assert!(matches!(old_secret.certify(&plain, from_now(-DAY)), Err(Error::NotCertifiable { .. })));
    let old = Certificates::from_bytes(&old.certificate_armored, Path::new("old")).unwrap();
    secret.certify(&old, now).unwrap();

    // A subkey signs, and the primary key is elsewhere.
    let (cert, _) = CertBuilder::new().add_userid("production").add_signing_subkey().generate().unwrap();
    let secret = unlock(&cert.as_tsk().armored().to_vec().unwrap(), None).unwrap();
    let error = secret.certify(&plain, now).unwrap_err();
    let text = format!(
        "key {} cannot certify another key: expected the secret primary key, found that of subkey {}",
        secret.fingerprint(),
        secret.signing_fingerprint()
    );
    assert_eq!(error.to_string(), text);
}

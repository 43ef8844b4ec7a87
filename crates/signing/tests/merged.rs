//! What a certificate says elsewhere, taken into a key; a certificate given out again.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{certificates, from_now, key, request};
use signing::{Certificates, Error};

#[test]
fn a_key_takes_in_what_its_certificate_says_elsewhere() {
    let now = from_now(0);
    let ((made, bare), (_, production), (_, second)) =
        (key(&request("ledger")), key(&request("production")), key(&request("second")));
    let certified = production.certify(&bare.certificates(), now).unwrap();
    let certified = Certificates::from_bytes(&certified, Path::new("ledger.asc")).unwrap();
    let by =
        |certificates: &Certificates| certificates.certified_by(&bare.fingerprint(), &production.certificates(), now);
    assert!(by(&bare.certificates()).is_err());
    let merged = bare.clone().with_certificate(&certified).unwrap();
    assert_eq!(by(&merged.certificates()), Ok(production.fingerprint()));
    merged.usable(now).unwrap();
    // It is what the key hands out from then on, and what is certified the next time.
    let armored = merged.certificate_armored().unwrap();
    assert_eq!(by(&Certificates::from_bytes(&armored, Path::new("x")).unwrap()), Ok(production.fingerprint()));
    let twice = second.certify(&merged.certificates(), now).unwrap();
    let twice = Certificates::from_bytes(&twice, Path::new("x")).unwrap();
    assert_eq!(by(&twice), Ok(production.fingerprint()));
    assert!(twice.certified_by(&bare.fingerprint(), &second.certificates(), now).is_ok());

    // A revocation counts too, wherever it comes from.
    let revoked = [made.certificate_armored.clone(), made.revocation_armored.clone()].concat();
    let revoked = Certificates::from_bytes(&revoked, Path::new("x")).unwrap();
    let revoked = bare.clone().with_certificate(&revoked).unwrap();
    assert!(matches!(revoked.usable(now), Err(Error::Unusable { .. })));
    let other = bare.clone().with_certificate(&production.certificates());
    assert!(matches!(other, Err(Error::NoSuchCertificate { fingerprint, .. }) if fingerprint == bare.fingerprint()));
}

#[test]
fn one_certificate_of_several_is_given_out_whole() {
    let ((a, one), (b, other)) = (key(&request("a")), key(&request("b")));
    let (one, other) = (one.fingerprint(), other.fingerprint());
    let both = certificates(&[&a.certificate_armored, &b.certificate_armored]);
    let again = Certificates::from_bytes(&both.armored(&one).unwrap(), Path::new("x")).unwrap();
    assert_eq!(again.fingerprints(), [one]);
    let lone = certificates(&[&a.certificate_armored]);
    assert!(matches!(lone.armored(&other), Err(Error::NoSuchCertificate { found, .. }) if found.len() == 1));
}

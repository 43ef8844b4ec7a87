//! Verifying with keys.

use signing::sigstore::{SIGNATURE_ANNOTATION, SigstoreError};
use signing::{SigstoreKey, SigstoreRejected, SigstoreSignature, verify_sigstore};

use crate::common::{have, time};
use crate::support::{KINDS, OpenSsl, attached, digest, payload};

#[test]
fn signatures_of_every_kind_of_key_count() {
    if !have(&["openssl"]) {
        return;
    }
    let openssl = OpenSsl::new();
    let other = SigstoreKey::from_pem(&openssl.make("other", KINDS[0])).unwrap();
    for (i, kind) in KINDS.iter().enumerate() {
        let name = format!("k{i}");
        let key = SigstoreKey::from_pem(&openssl.make(&name, kind)).unwrap();
        openssl.run(&["pkey", "-pubin", "-in", &format!("{name}.pub"), "-outform", "DER", "-out", "der"]);
        let der = std::fs::read(openssl.path().join("der")).unwrap();
        assert_eq!(key.fingerprint(), blobs::sha256(&der).hex());
        assert_eq!(SigstoreKey::from_pem(key.to_pem().as_bytes()).unwrap(), key);

        let signature = attached(&payload(), &openssl.sign(&name, &payload()));
        let read = verify_sigstore(&signature, &[other.clone(), key.clone()]).unwrap();
        assert_eq!(read.reference.raw(), "registry.prod.example/payments/api:2.3.1");
        assert_eq!((read.digest, &read.key), (digest(), &key.fingerprint()));

        let refused = verify_sigstore(&signature, std::slice::from_ref(&other));
        assert_eq!(refused, Err(SigstoreRejected::UnknownKey { tried: vec![other.fingerprint()] }));
        let mut changed = signature.clone();
        *changed.payload.last_mut().unwrap() = b' ';
        assert!(matches!(verify_sigstore(&changed, &[key]), Err(SigstoreRejected::UnknownKey { .. })));
    }
}

#[test]
fn what_stands_beside_a_signature_does_not_matter() {
    if !have(&["openssl"]) {
        return;
    }
    let openssl = OpenSsl::new();
    let key = SigstoreKey::from_pem(&openssl.make("key", KINDS[0])).unwrap();
    let mut signature = attached(&payload(), &openssl.sign("key", &payload()));
    for name in ["certificate", "chain", "bundle"] {
        signature.annotations.insert(format!("dev.sigstore.cosign/{name}"), "nothing that can be read".into());
    }
    verify_sigstore(&signature, std::slice::from_ref(&key)).unwrap();
    // Of one that no key made, the certificate is no reason to believe it.
    for others in [vec![], vec![SigstoreKey::from_pem(&openssl.make("other", KINDS[0])).unwrap()]] {
        let tried = others.iter().map(SigstoreKey::fingerprint).collect();
        let error = verify_sigstore(&signature, &others).unwrap_err();
        assert!(error.to_string().contains("made with a certificate"), "{error}");
        assert_eq!(error, SigstoreRejected::Keyless { tried });
    }
    let text = signature.annotations.get_mut(SIGNATURE_ANNOTATION).unwrap();
    text.insert(20, '\n');
    verify_sigstore(&signature, std::slice::from_ref(&key)).unwrap();
}

#[test]
fn signatures_that_are_none_are_refused() {
    if !have(&["openssl"]) {
        return;
    }
    let openssl = OpenSsl::new();
    let key = [SigstoreKey::from_pem(&openssl.make("key", KINDS[0])).unwrap()];
    let good = attached(&payload(), &openssl.sign("key", &payload()));
    verify_sigstore(&good, &key).unwrap();
    assert_eq!(verify_sigstore(&good, &[]), Err(SigstoreRejected::NoKeys));

    let none = SigstoreSignature { annotations: Default::default(), ..good.clone() };
    assert_eq!(verify_sigstore(&none, &key), Err(SigstoreRejected::NoSignature));
    for (text, why) in [("", "not by key"), ("*", "not base64"), ("MEUCIQ", "not base64"), ("MEUC", "not by key")] {
        let mut bad = good.clone();
        bad.annotations.insert(SIGNATURE_ANNOTATION.into(), text.into());
        let error = verify_sigstore(&bad, &key).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }

    let mut large = good.clone();
    large.payload.resize(1 << 20 | 1, b' ');
    assert!(matches!(verify_sigstore(&large, &key), Err(SigstoreRejected::TooLarge { .. })));
    let mut large = good.clone();
    large.annotations.insert(SIGNATURE_ANNOTATION.into(), "A".repeat(1 << 20 | 1));
    assert!(matches!(verify_sigstore(&large, &key), Err(SigstoreRejected::TooLarge { .. })));

    // Signed with the right key, and still no signature of an image.
    let simple = signing::payload("r.example/a:1", &digest(), "test", time("2026-01-02T03:04:05Z"));
    let signed = attached(&simple, &openssl.sign("key", &simple));
    assert!(matches!(verify_sigstore(&signed, &key), Err(SigstoreRejected::Type(_))));
    let trailing = [payload(), b"{}".to_vec()].concat();
    let signed = attached(&trailing, &openssl.sign("key", &trailing));
    assert!(matches!(verify_sigstore(&signed, &key), Err(SigstoreRejected::Payload(_))));
}

#[test]
fn key_files_of_the_wrong_kind_are_refused() {
    if !have(&["openssl"]) {
        return;
    }
    let openssl = OpenSsl::new();
    let public = openssl.make("key", KINDS[0]);
    let read = |bytes: &[u8]| SigstoreKey::from_pem(bytes).unwrap_err();
    let secret = std::fs::read(openssl.path().join("key.key")).unwrap();
    assert_eq!(read(&secret), SigstoreError::SecretKey);
    assert_eq!(read(&[public.clone(), secret].concat()), SigstoreError::SecretKey);
    assert_eq!(read(&[public.clone(), public.clone()].concat()), SigstoreError::SeveralKeys { found: 2 });
    assert!(matches!(read(b""), SigstoreError::NoKey { .. }));
    assert!(matches!(read(b"\xff\xfe"), SigstoreError::Unreadable(_)));
    assert!(matches!(read(&vec![b' '; (16 << 20) + 1]), SigstoreError::TooLarge { .. }));
    let text = String::from_utf8(public.clone()).unwrap();
    SigstoreKey::from_pem(format!("notes\n{}", text.replace('\n', "\r\n")).as_bytes()).unwrap();
    assert!(matches!(read(text.replace("PUBLIC KEY", "CERTIFICATE").as_bytes()), SigstoreError::NoKey { .. }));
    assert!(matches!(read(&public[..public.len() - 20]), SigstoreError::Unreadable(_)));
    assert!(matches!(read(text.replacen("MFkw", "MFk*", 1).as_bytes()), SigstoreError::Unreadable(_)));
    for (kind, why) in [
        (&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"][..], "RSA with 1024 bits"),
        (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"], "elliptic curve 1.3.132.0.35"),
        (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"], "elliptic curve 1.3.132.0.10"),
        (&["-algorithm", "ED448"], "1.3.101.113"),
        (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"], "no name"),
    ] {
        let error = read(&openssl.make("other", kind)).to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
    // A point that is not on the curve.
    let mut der = SigstoreKey::from_pem(&public).unwrap().as_der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    assert!(matches!(SigstoreKey::from_der(&der), Err(SigstoreError::Unreadable(_))));
    der.truncate(der.len() - 1);
    assert!(matches!(SigstoreKey::from_der(&der), Err(SigstoreError::Unreadable(_))));
}

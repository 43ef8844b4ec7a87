//! Signatures that were published by others, where their files are at hand. They are not part of this repository.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;

use manifest_schema::{Reference, Timestamp};
use signing::{Certificates, ImagePolicy, PolicyImage, PolicyName, Reason, Rejected, Trust, peek_simple, read_simple};

fn data() -> Option<PathBuf> {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let folder = std::env::var_os("SEALIFT_TEST_DATA").map_or_else(default, PathBuf::from).join("redhat");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: {} is not there; SEALIFT_TEST_DATA names another folder", folder.display());
    None
}

#[test]
fn red_hat_signatures() {
    let Some(folder) = data() else { return };
    let certificates = Certificates::load(&[folder.join("verifier-public-key-redhat-release")]).unwrap();
    let trust = Trust::new(certificates, 1, Timestamp::now()).unwrap();
    for n in 1..=4 {
        let bytes = std::fs::read(folder.join(format!("noo-bundle-image/signature-{n}"))).unwrap();
        let manifest = std::fs::read(folder.join("noo-bundle-image/manifest.json")).unwrap();
        let signature = read_simple(&bytes, &trust).unwrap();
        assert_eq!(signature.get().signer.fingerprint.as_str(), "567E347AD0044ADE55BA8A5F199E2F91FD431D51");
        assert_eq!(signature.get().timestamp, None);
        assert_eq!(signature.get().digest, blobs::sha256(&manifest));
        let reference = signature.get().parsed_reference().unwrap().to_string();
        assert!(reference.contains("/albo/aws-load-balancer-operator-bundle:0.0.1"), "{reference}");
        for at in [200, 400, 600, 800] {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            assert!(read_simple(&changed, &trust).is_err(), "byte {at} of signature-{n}");
        }
    }
}

/// Red Hat's certificate is from 2009 and its signatures are of version 3 (RFC 9580 section 5.2.2).
#[test]
fn red_hat_signatures_under_a_policy() {
    let Some(folder) = data() else { return };
    let files: Vec<Vec<u8>> =
        (1..=4).map(|n| std::fs::read(folder.join(format!("noo-bundle-image/signature-{n}"))).unwrap()).collect();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let digest = blobs::sha256(&std::fs::read(folder.join("noo-bundle-image/manifest.json")).unwrap());
    let peeked = peek_simple(files[0]).unwrap();
    assert_eq!(peeked.issuer.as_deref(), Some("199E2F91FD431D51"));
    assert_eq!(peeked.digest, Some(digest));
    let name: Reference = peeked.reference.unwrap().raw().parse().unwrap();
    let elsewhere: Reference = format!("mirror.example/redhat/{}", name.repository().path())
        .parse::<manifest_schema::Repository>()
        .map(|repository| Reference::pinned(repository, digest))
        .unwrap();

    let judge = |key: &std::path::Path, identity: serde_json::Value, name: &Reference, files: &[&[u8]]| {
        let text = serde_json::json!({ "default": [{
            "type": "signedBy", "keyType": "GPGKeys", "keyPath": key, "signedIdentity": identity
        }] });
        let policy = ImagePolicy::parse(text.to_string().as_bytes(), &folder).unwrap();
        let image = PolicyImage { name: PolicyName::Docker(name), digests: &[digest], simple: files, sigstore: &[] };
        policy.judge(&image, Timestamp::now())
    };
    let red_hat = PathBuf::from("verifier-public-key-redhat-release");
    let exact = serde_json::json!({ "type": "matchRepoDigestOrExact" });
    let remap = serde_json::json!({
        "type": "remapIdentity", "prefix": "mirror.example/redhat", "signedPrefix": name.repository().registry()
    });
    let verdict = judge(&red_hat, exact.clone(), &name, &files);
    assert!(verdict.accepted, "{verdict:?}");
    assert_eq!(verdict.requirements[0].signer.as_deref(), Some("567E347AD0044ADE55BA8A5F199E2F91FD431D51"));
    assert!(judge(&red_hat, remap, &elsewhere, &files).accepted);
    assert!(!judge(&red_hat, exact.clone(), &elsewhere, &files).accepted);

    let others = tempfile::tempdir().unwrap();
    let other = others.path().join("other.asc");
    std::fs::write(&other, common::key(&common::request("other")).0.certificate_armored).unwrap();
    let verdict = judge(&other, exact, &name, &files);
    assert!(!verdict.accepted && verdict.requirements[0].reasons.len() == 4, "{verdict:?}");
    let trust = Trust::new(Certificates::load(&[other]).unwrap(), 1, Timestamp::now()).unwrap();
    for file in files {
        match read_simple(file, &trust) {
            Err(Rejected::BelowThreshold { faults, .. }) => assert_eq!(faults[0].reason, Reason::UnknownKey),
            other => panic!("{other:?}"),
        }
    }
}

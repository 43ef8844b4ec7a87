//! Signatures that were published by others, where their files are at hand. They are not part of this repository.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;

use manifest_schema::Timestamp;
use signing::{Certificates, Trust, read_simple};

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

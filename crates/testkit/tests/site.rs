//! A site is set up as the programs expect it. That the programs work with it is for their own tests.

#![cfg(feature = "site")]
#![allow(clippy::unwrap_used)]

use testkit::layout::{API, BUSYBOX, SHA512, fixtures};
use testkit::{Gpg, Key, Site, need, run_ok};

#[test]
fn a_site_has_keys_registries_and_a_ledger() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    assert!(site.production.is_empty());
    assert!(site.origin.tags().contains_key("payments/api:2.3.1"));
    for file in ["enclave.key", "production.secret.asc", "trust/release.asc", "ledger.db"] {
        assert!(site.import_dir().join(file).is_file(), "{file}");
    }
    assert_eq!(site.traces(), site.traces());
    assert_eq!(site.traces().ledger.0, "1");
    site.list_fixtures(&[API, BUSYBOX]);
    assert_eq!(site.release["images"].as_array().unwrap().len(), 2);
    site.list_from_layout(SHA512);
    assert!(site.release["images"][0].as_str().unwrap().starts_with("oci:/"));
    assert_eq!(site.import["streams"]["payments"]["origins"][0], "registry.dev.example/payments");
    std::fs::create_dir_all(site.lookaside().join("a")).unwrap();
    let before = site.traces();
    std::fs::write(site.lookaside().join("a/signature-1"), "x").unwrap();
    assert_ne!(site.traces(), before);
}

#[test]
fn gnupg_reads_the_keys_and_sees_a_revocation() {
    if !need(&["gpg"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let key = Key::new(folder.path(), "release");
    let gpg = Gpg::new();
    gpg.import(&std::fs::read(&key.certificate_file).unwrap());
    let document = folder.path().join("document");
    std::fs::write(&document, "words").unwrap();
    let signature = folder.path().join("document.asc");
    std::fs::write(&signature, key.sign(b"words")).unwrap();
    let verified = run_ok(gpg.command().args(["--status-fd", "1", "--verify"]).arg(&signature).arg(&document));
    assert!(verified.stdout.contains(&key.fingerprint), "{verified}");
    key.revoke();
    gpg.import(&std::fs::read(&key.certificate_file).unwrap());
    let verified = testkit::run(gpg.command().args(["--status-fd", "1", "--verify"]).arg(&signature).arg(&document));
    assert!(verified.stdout.contains("REVKEYSIG"), "{verified}");
}

#[test]
fn skopeo_takes_an_image_only_with_the_production_signature_on_each_digest() {
    if !need(&["docker-registry", "skopeo", "gpg"]) {
        return;
    }
    let site = Site::new();
    let index = site.production.load_layout(&fixtures(), API, "payments/api", "2.3.1");
    let refused = site.skopeo_verifies("payments/api", "2.3.1");
    assert!(refused.code != Some(0) && refused.stderr.contains("signature was required"), "{refused}");

    let reference = format!("{}/payments/api:2.3.1", site.production.host());
    let reference: manifest_schema::Reference = reference.parse().unwrap();
    let lookaside = signing::Lookaside::new(site.lookaside());
    let sign = |key: &Key, digest| {
        let now = manifest_schema::Timestamp::now();
        let signature = key.secret.sign_simple(&reference, &digest, now, "testkit").unwrap();
        lookaside.add(reference.repository(), &digest, &signature).unwrap();
    };
    let manifests: Vec<manifest_schema::Digest> =
        site.production.manifests().iter().map(|m| m.split_once('@').unwrap().1.parse().unwrap()).collect();
    assert!(manifests.contains(&index) && manifests.len() == 3);
    manifests.iter().for_each(|digest| sign(&site.release_key, *digest));
    assert_ne!(site.skopeo_verifies("payments/api", "2.3.1").code, Some(0), "signed by another key");
    manifests.iter().for_each(|digest| sign(&site.production_key, *digest));
    site.skopeo_verifies("payments/api", "2.3.1").expect_code(0);
}

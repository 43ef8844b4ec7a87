//! Keys as people hold them: made by gpg and age-keygen, protected by passphrases.

#![allow(clippy::unwrap_used)]

use std::fs;

use testkit::{Gpg, Site, command, need, run, run_ok};

/// Takes other keys for a site: files in the two folders, named in the configurations.
fn use_release_key(site: &mut Site, secret: &[u8], certificate: &[u8]) {
    fs::write(site.export_dir().join("own.secret.asc"), secret).unwrap();
    fs::write(site.import_dir().join("trust/own.asc"), certificate).unwrap();
    site.release["sign"]["key"] = "own.secret.asc".into();
    site.import["streams"]["payments"]["release"]["certificates"] = serde_json::json!(["trust/own.asc"]);
}

#[test]
fn keys_made_by_gpg_and_age_keygen_work_just_as_well() {
    if !need(&[Site::NEEDS, &["gpg", "age-keygen", "skopeo"]].concat()) {
        return;
    }
    let mut site = Site::new();
    let (release, production) = (Gpg::new(), Gpg::new());
    let release_key = release.generate("release <release@example.com>", "rsa3072");
    let production_key = production.generate("production <production@example.com>", "rsa3072");
    use_release_key(&mut site, &release.export_secret(&release_key), &release.export(&release_key));
    fs::write(site.import_dir().join("gpg.secret.asc"), production.export_secret(&production_key)).unwrap();
    site.import["production"]["sign"]["key"] = "gpg.secret.asc".into();

    let scratch = site.scratch("age");
    let identity = site.import_dir().join("age.key");
    run_ok(command("age-keygen", &scratch).arg("-o").arg(&identity));
    let recipient = run_ok(command("age-keygen", &scratch).arg("-y").arg(&identity)).stdout;
    site.release["recipients"] = serde_json::json!([recipient.trim()]);
    site.import["identity"] = "age.key".into();

    let bundle = site.packed(42);
    site.receive(&bundle, &[]).expect_code(0);
    let (repository, tag) = site
        .production
        .tags()
        .keys()
        .next()
        .unwrap()
        .rsplit_once(':')
        .map(|(r, t)| (r.to_string(), t.to_string()))
        .unwrap();
    fs::write(&site.production_key.certificate_file, production.export(&production_key)).unwrap();
    site.skopeo_verifies(&repository, &tag).expect_code(0);
}

#[test]
fn passphrases_come_from_a_file_or_the_environment() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let new = [("SEALIFT_NEW_PASSPHRASE", "correct horse")];
    run_ok(site.export(&["keygen", "--algorithm", "p256", "--output", "keys"]).envs(new));
    for role in ["production", "identity"] {
        run_ok(site.import(&["keygen", role, "--algorithm", "p256", "--output", "keys"]).envs(new));
    }
    let keys = site.import_dir().join("keys");
    for file in [keys.join("production.secret.asc"), keys.join("enclave.key")] {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    let made = site.export_dir().join("keys");
    let secret = fs::read(made.join("release.secret.asc")).unwrap();
    use_release_key(&mut site, &secret, &fs::read(made.join("release.asc")).unwrap());
    let recipient = fs::read_to_string(keys.join("enclave.recipient")).unwrap();
    site.release["recipients"] = serde_json::json!([recipient.trim()]);
    site.import["identity"] = "keys/enclave.key".into();
    site.import["production"]["sign"]["key"] = "keys/production.secret.asc".into();

    // No terminal, no file, no variable; a wrong one.
    site.pack(42, &[]).expect_code(2).expect_stderr("a passphrase for");
    fs::create_dir(site.export_dir().join("out")).unwrap();
    let pack = ["pack", "--sequence", "42", "--output", "out"];
    run(site.export(&pack).env("SEALIFT_SIGN_PASSPHRASE", "wrong")).expect_code(2).expect_stderr("wrong passphrase");
    run(site.export(&pack).env("SEALIFT_SIGN_PASSPHRASE", "correct horse")).expect_code(0);
    let bundle = site.export_dir().join("out/payments-42");

    fs::write(site.import_dir().join("passphrase"), "correct horse\n").unwrap();
    site.import["production"]["sign"]["passphrase_file"] = "passphrase".into();
    let ran = run(site.import(&["receive"]).arg(&bundle).env("SEALIFT_IDENTITY_PASSPHRASE", "wrong"));
    ran.expect_code(2).expect_stderr("wrong passphrase");
    assert!(site.production.tags().is_empty());
    run(site.import(&["receive"]).arg(&bundle).env("SEALIFT_IDENTITY_PASSPHRASE", "correct horse")).expect_code(0);
    assert_eq!(site.production.tags().len(), 1);
}

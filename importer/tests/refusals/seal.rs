//! The seal: "this is released, and this is all of it".

use std::fs;

use testkit::{Key, Site, hostile, need};

use crate::common::{Leaves::Nothing, case, open, refused, reseal, seal};

#[test]
fn a_bundle_is_believed_only_under_its_own_seal() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(42);
    let other = site.packed(43);
    let (other_seal, other_signature) =
        (fs::read(other.join("SHA256SUMS")).unwrap(), fs::read(other.join("SHA256SUMS.asc")).unwrap());
    let stranger = Key::new(&site.scratch("keys"), "stranger");
    let unknown = stranger.fingerprint.clone();
    let (second_seal, second_signature) = (other_seal.clone(), other_signature.clone());
    let other_label = fs::read(other.join("LABEL.txt")).unwrap();
    let id = |folder: &std::path::Path| {
        let text = fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
        text.split(' ').nth(2).unwrap().to_string()
    };
    let (own_id, other_id) = (id(&bundle), id(&other));
    assert_ne!(own_id, other_id);
    let (own, foreign) = (own_id.clone(), other_id.clone());
    use hostile::edit_seal as edit;
    refused(
        &mut site,
        &bundle,
        &[
            case("no seal", 3, &["there is no seal"], Nothing, |_, f| fs::remove_file(f.join("SHA256SUMS")).unwrap()),
            case("no seal signature", 3, &["there is no seal"], Nothing, |_, f| {
                fs::remove_file(f.join("SHA256SUMS.asc")).unwrap();
            }),
            case("an empty seal signature", 4, &["SHA256SUMS.asc: cut short"], Nothing, |_, f| {
                fs::write(f.join("SHA256SUMS.asc"), "").unwrap();
            }),
            case("a cut seal signature", 4, &["SHA256SUMS.asc: cut short"], Nothing, |_, f| {
                testkit::hostile::truncate(&f.join("SHA256SUMS.asc"), 100);
            }),
            case("a cut seal", 4, &["SHA256SUMS: cut short"], Nothing, |_, f| {
                testkit::hostile::truncate(&f.join("SHA256SUMS"), 100);
            }),
            case("a seal by an unknown key", 3, &["stream payments", &unknown, "unknown key"], Nothing, move |_, f| {
                reseal(&stranger, f);
            }),
            case("a seal by the production key", 3, &["stream payments", "unknown key"], Nothing, |site, f| {
                reseal(&site.production_key, f);
            }),
            case("a seal changed by one byte", 3, &["bad signature"], Nothing, move |_, f| {
                edit(f, |text| text.replacen(" 1 sha256", " 2 sha256", 1));
            }),
            case("the seal of another bundle", 3, &["payments-42.0001", "not in the seal"], Nothing, move |_, f| {
                fs::write(f.join("SHA256SUMS"), &other_seal).unwrap();
                fs::write(f.join("SHA256SUMS.asc"), &other_signature).unwrap();
            }),
            case("the seal of another bundle, volume renamed", 3, &["another manifest"], Nothing, move |_, f| {
                fs::write(f.join("SHA256SUMS"), &second_seal).unwrap();
                fs::write(f.join("SHA256SUMS.asc"), &second_signature).unwrap();
                fs::write(f.join("LABEL.txt"), &other_label).unwrap();
                fs::rename(f.join("payments-42.0001.tar.zst.age"), f.join("payments-43.0001.tar.zst.age")).unwrap();
            })
            .verify(4),
            case("another bundle's id", 3, &["another bundle", &other_id, &own_id], Nothing, move |site, f| {
                edit(f, |text| text.replacen(&own, &foreign, 1));
                reseal(&site.release_key, f);
            }),
            case("another manifest's digest", 3, &["another manifest", "expected sha256:"], Nothing, move |site, f| {
                hostile::seal_names_manifest(f, b"another");
                reseal(&site.release_key, f);
            }),
            case(
                "another sequence",
                3,
                &["another name", "expected payments-41", "payments-42"],
                Nothing,
                |site, f| {
                    fs::rename(f.join("payments-42.0001.tar.zst.age"), f.join("payments-41.0001.tar.zst.age")).unwrap();
                    edit(f, |text| text.replace("payments-42", "payments-41"));
                    reseal(&site.release_key, f);
                },
            ),
            case("another stream", 3, &["stream web is not configured"], Nothing, |site, f| {
                fs::rename(f.join("payments-42.0001.tar.zst.age"), f.join("web-42.0001.tar.zst.age")).unwrap();
                edit(f, |text| text.replace("payments-42", "web-42"));
                reseal(&site.release_key, f);
            }),
            case("no stream", 3, &["payments", "<stream>-<sequence>"], Nothing, |site, f| {
                fs::rename(f.join("payments-42.0001.tar.zst.age"), f.join("payments.0001.tar.zst.age")).unwrap();
                edit(f, |text| text.replace("payments-42", "payments"));
                reseal(&site.release_key, f);
            }),
            case("a seal of another format", 3, &["SHA256SUMS, line 1"], Nothing, |site, f| {
                edit(f, |text| text.replacen("sealift/seal/1", "sealift/seal/2", 1));
                reseal(&site.release_key, f);
            }),
            case("a seal that names a file elsewhere", 3, &["SHA256SUMS, line 3"], Nothing, |site, f| {
                edit(f, |text| text.replacen("  payments-42", "  ../payments-42", 1));
                hostile::sign_seal(f, &|bytes| site.release_key.sign(bytes));
            }),
            case("a seal with a control character", 3, &["SHA256SUMS, line 3"], Nothing, |site, f| {
                edit(f, |text| text.replacen("  payments-42", "  \u{1b}[2Jpayments-42", 1));
                hostile::sign_seal(f, &|bytes| site.release_key.sign(bytes));
            }),
            case("more volumes than the manifest has", 3, &["names 2 volumes, the manifest 1"], Nothing, |site, f| {
                fs::copy(f.join("payments-42.0001.tar.zst.age"), f.join("payments-42.0002.tar.zst.age")).unwrap();
                edit(f, |text| {
                    let line = text.lines().last().unwrap().replace(".0001.", ".0002.");
                    format!("{text}{line}\n")
                });
                reseal(&site.release_key, f);
            }),
        ],
    );
}

#[test]
fn a_later_revision_of_the_seal_vouches_for_a_volume_made_again() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let bundle = site.packed(42);
    let opened = open(&site, &bundle);
    let before = fs::read(hostile::volume_file(&bundle, 1)).unwrap();
    hostile::edit_seal(&bundle, |text| text.replacen(" 1 sha256", " 2 sha256", 1));
    seal(&site, &bundle, &opened);
    assert_ne!(fs::read(hostile::volume_file(&bundle, 1)).unwrap(), before, "age encrypts anew");
    site.receive(&bundle, &[]).expect_code(0);
}

#[test]
fn the_courier_sees_what_is_wrong_without_any_key() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let bundle = site.packed(42);
    let check = |args: &[&str]| {
        let mut command = testkit::sealift_import(&site.scratch("courier"));
        testkit::run(command.current_dir(site.scratch("courier")).arg("check").arg(&bundle).args(args))
    };
    let release = site.release_key.certificate_file.display().to_string();
    let production = site.production_key.certificate_file.display().to_string();
    let said = check(&[]).expect_code(0);
    assert!(said.stdout.contains("not checked"), "{said}");
    assert!(check(&["--trust", &release]).expect_code(0).stdout.contains(&site.release_key.fingerprint));
    check(&["--trust", &production]).expect_code(3).expect_stderr("unknown key");
    hostile::flip_bit(&hostile::volume_file(&bundle, 1));
    check(&["--trust", &release]).expect_code(4).expect_stderr("payments-42.0001.tar.zst.age");
    fs::remove_file(hostile::volume_file(&bundle, 1)).unwrap();
    let said = check(&[]).expect_code(4);
    assert!(said.stdout.contains("missing"), "{said}");
    // Nobody has vouched for these bytes, and they are shown.
    hostile::edit_seal(&bundle, |text| text.replace("payments-42.", "\u{1b}[2Jpayments-42."));
    let said = check(&[]).expect_code(3);
    crate::common::shows_no_control_characters(&said).unwrap();
}

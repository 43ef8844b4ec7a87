//! A receipt as the base of an incremental bundle.

use std::fs;

use manifest_schema::{BundleId, LedgerId};
use serde_json::json;
use testkit::hostile::MANIFEST;
use testkit::layout::noise;
use testkit::{Key, Opened, Site, need, run};

use crate::{BIG, Ledger, bytes, day, later, list, packed};

#[test]
fn what_production_has_received_is_left_to_it() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let ledger = Ledger::of(&mut site);
    let first = packed(&mut site, 1);
    site.receive(&first, &[]).expect_code(0);
    let receipt = ledger.receipt(&site, &first);
    // What it is, its content says: the name has neither an ending nor a slash.
    let file = ledger.file(&site, "from-the-other-side", &receipt);
    list(&mut site, "2", 102);
    let ran = site.pack(2, &["--base", "from-the-other-side"]).expect_code(0);
    let said = format!("base payments-1: delivered to ledger {} (since 2026-02-01T08:30:00Z)", ledger.id);
    assert!(ran.stderr.contains(&said) && !ran.stderr.contains("warning"), "{ran}");
    let second = site.media().join("payments-2");
    assert!(bytes(&first) > BIG as u64 && bytes(&second) < 50_000, "{} {}", bytes(&first), bytes(&second));
    let manifest = Opened::open(&second, 1, &site.identity).manifest();
    assert_eq!(manifest["base"]["bundle"], json!(receipt.bundle));
    assert_eq!(manifest["base"]["manifest"], json!(receipt.manifest));
    site.receive(&second, &[]).expect_code(0);

    // With a path, from release.yaml, and in a plan that is kept.
    let path = file.display().to_string();
    let plan = run(&mut site.export(&["plan", "--sequence", "3", "--base", &path])).expect_code(0);
    assert!(plan.stdout.contains("are left to the base payments-1"), "{plan}");
    site.release["base"] = "from-the-other-side".into();
    let elsewhere = site.scratch("elsewhere");
    let release = site.export_dir().join("release.yaml");
    let mut plan = site.export(&["plan", "--sequence", "3", "--json", "--lock", "lock.yaml", "--file"]);
    let json = run(plan.arg(&release).current_dir(&elsewhere)).expect_code(0).json();
    assert_eq!(json["base"]["sequence"], 1);
    let lock = elsewhere.join("lock.yaml");
    assert!(fs::read_to_string(&lock).unwrap().contains("base: \"payments-1\""));
    site.pack(3, &["--file", &lock.display().to_string()]).expect_code(0);
    assert!(bytes(&site.media().join("payments-3")) < 50_000);
    site.receive(&site.media().join("payments-3"), &[]).expect_code(0);
}

#[test]
fn a_receipt_counts_only_with_the_signature_of_a_configured_ledger() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let ledger = Ledger::of(&mut site);
    let first = packed(&mut site, 1);
    let receipt = ledger.receipt(&site, &first);
    let good = fs::read(ledger.file(&site, "good", &receipt)).unwrap();
    list(&mut site, "2", 102);
    let refused = |what: &str, bytes: &[u8], code: i32, words: &str| {
        fs::write(site.export_dir().join("receipt"), bytes).unwrap();
        for ran in [site.pack(2, &["--base", "receipt"]), crate::add(&site, "receipt".as_ref())] {
            assert!(ran.stderr.contains(words) && ran.stderr.contains("hint: "), "{what}: {ran}");
            let _ = ran.expect_code(code);
        }
        assert!(!site.export_dir().join("home/.local/state/sealift/receipts").exists(), "{what}");
    };
    let other = Ledger::new(&site, "other");
    let document = receipt.to_bytes().unwrap();
    refused("another key", &other.sign(&document), 3, "unknown key");
    refused("nobody", &[&document[..], b"\n"].concat(), 3, "not signed by a ledger");
    let mut two = receipt.clone();
    two.made = day(2);
    let two = ledger.sign(&two.to_bytes().unwrap());
    let line = document.len() + 1;
    refused("the signature of another document", &[&good[..line], &two[line..]].concat(), 3, "bad signature");
    // Behind the beginning, by which it is known for a receipt.
    for at in (25..document.len()).step_by(9) {
        let mut changed = good.clone();
        changed[at] ^= 1;
        refused(&format!("byte {at}"), &changed, 3, "is not signed by a ledger that is trusted here");
    }
    refused("cut", &good[..line + 100], 3, "is not signed by a ledger");
    refused("without a line end", &[&document[..], &good[line..]].concat(), 3, "is not signed by a ledger");
    let windows = [&document[..], b"\r\n", &good[line..]].concat();
    refused("another line end", &windows, 3, "is not signed by a ledger");
    // Signed, and not as a receipt is written.
    let text = String::from_utf8(document.clone()).unwrap();
    let wrong = ledger.sign(text.replacen("\"images\":", "\"production\":1,\"images\":", 1).as_bytes());
    refused("an unknown member", &wrong, 3, "what is signed is not a receipt");
    let wrong = ledger.sign(text.replacen("\"newest\":1", "\"newest\":0", 1).as_bytes());
    refused("a wrong number", &wrong, 3, "what is signed is not a receipt");
}

#[test]
fn without_a_certificate_no_receipt_counts() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let ledger = Ledger::of(&mut site);
    let first = packed(&mut site, 1);
    ledger.file(&site, "receipt", &ledger.receipt(&site, &first));
    site.release.as_object_mut().unwrap().remove("receipts");
    let refused = site.pack(2, &["--base", "receipt"]).expect_code(2);
    assert!(refused.stderr.contains("no certificate of a ledger is configured"), "{refused}");
    assert!(refused.stderr.contains("--receipt-trust"), "{refused}");
    list(&mut site, "2", 102);
    site.pack(2, &["--base", "receipt", "--receipt-trust", "trust/none.asc"]).expect_code(2);
    site.pack(2, &["--base", "receipt", "--receipt-trust", "trust"]).expect_code(0);
    // The release key vouches for releases, and for nothing else.
    fs::copy(&site.release_key.certificate_file, site.export_dir().join("trust/release.asc")).unwrap();
    let refused = site.pack(3, &["--base", "receipt", "--receipt-trust", "trust"]).expect_code(2);
    assert!(refused.stderr.contains("ledger") && refused.stderr.contains("release"), "{refused}");
    // A revoked ledger key, whatever the date of its signature.
    fs::remove_file(site.export_dir().join("trust/release.asc")).unwrap();
    fs::copy(&ledger.revocation_file, site.export_dir().join("trust/revocation.asc")).unwrap();
    let refused = site.pack(3, &["--base", "receipt", "--receipt-trust", "trust"]).expect_code(3);
    assert!(refused.stderr.contains("revoked"), "{refused}");
}

#[test]
fn a_receipt_is_for_the_bundle_that_was_packed_here() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let ledger = Ledger::of(&mut site);
    let (first, second) = (packed(&mut site, 1), packed(&mut site, 2));
    list(&mut site, "3", 103);
    let receipt = ledger.receipt(&site, &first);
    let two = ledger.receipt(&site, &second);
    let refused = |receipt: &manifest_schema::Receipt, code: i32, words: &str| {
        ledger.file(&site, "receipt", receipt);
        let ran = site.pack(3, &["--base", "receipt"]).expect_code(code);
        assert!(ran.stderr.contains(words) && ran.stderr.contains("hint: "), "{ran}");
        assert!(!site.media().join("payments-3").exists());
    };
    let mut other = receipt.clone();
    other.stream = "other".parse().unwrap();
    refused(&other, 3, "of stream other: expected one of payments");
    other = receipt.clone();
    other.bundle = BundleId::generate();
    refused(&other, 3, "the receipt is not for the payments-1 that was packed here: its bundle is");
    other = receipt.clone();
    other.manifest = two.manifest;
    refused(&other, 3, "its manifest is");
    other = receipt.clone();
    other.images = two.images.clone();
    refused(&other, 3, "its image is");
    (other.sequence, other.newest) = (77.try_into().unwrap(), 77.try_into().unwrap());
    refused(&other, 2, "the receipt is for payments-77");
    assert_eq!(receipt.images.len(), 1);

    // With another state folder, nothing is known of it.
    ledger.file(&site, "receipt", &receipt);
    let state = site.scratch("state").display().to_string();
    let ran = site.pack(3, &["--base", "receipt", "--state", &state]).expect_code(2);
    assert!(ran.stderr.contains("was not packed with this state folder"), "{ran}");
    assert!(ran.stderr.contains("manifest.json"), "{ran}");
    // A record that was changed is none.
    let bundles = site.export_dir().join("home/.local/state/sealift/bundles");
    let manifest = bundles.join("payments-1/manifest.json");
    let whole = fs::read(&manifest).unwrap();
    fs::write(&manifest, fs::read(bundles.join("payments-2/manifest.json")).unwrap()).unwrap();
    let ran = site.pack(3, &["--base", "receipt"]).expect_code(2);
    assert!(ran.stderr.contains("changed since it was sealed"), "{ran}");
    site.pack(3, &["--base", "payments-1"]).expect_code(2).expect_stderr("changed since it was sealed");
    fs::write(&manifest, whole).unwrap();
    site.pack(3, &["--base", "receipt"]).expect_code(0);
    // Of a named ledger only.
    let id = LedgerId::generate().to_string();
    let ran = site.pack(4, &["--base", "receipt", "--base-ledger", &id]).expect_code(3);
    assert!(ran.stderr.contains(&format!("expected one of {id}")), "{ran}");
}

/// Production left an image out: its layers are not there, and are carried.
#[test]
fn an_image_that_was_left_out_counts_for_nothing() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let ledger = Ledger::of(&mut site);
    // The tag of the second image is taken.
    site.list_layers("b", &[&noise(9, 1000)]);
    let taken = site.packed(1);
    site.receive(&taken, &[]).expect_code(0);
    site.list_layers("a", &[&noise(1, BIG), &noise(2, BIG)]);
    let a = site.release["images"][0].clone();
    site.list_layers("b", &[&noise(3, BIG), &noise(2, BIG)]);
    let b = site.release["images"][0].clone();
    site.release["images"] = json!([a, b]);
    let second = site.packed(2);
    site.receive(&second, &["--on-existing-tag", "skip"]).expect_code(0);

    // Image `a` is held, and with it the layer that both have.
    let mut receipt = ledger.receipt(&site, &second);
    let left_out = receipt.images.remove(1);
    assert!(left_out.origin.to_string().ends_with("/large:b"), "{}", left_out.origin);
    ledger.file(&site, "receipt", &receipt);
    site.list_layers("c", &[&noise(3, BIG), &noise(2, BIG), &noise(4, 1000)]);
    let ran = site.pack(3, &["--base", "receipt"]).expect_code(0);
    let said = format!("1 of its 2 images are not held there, and count for nothing: {}\n", left_out.origin);
    assert!(ran.stderr.contains(&said), "{ran}");
    let third = site.media().join("payments-3");
    assert!((BIG as u64..BIG as u64 + 50_000).contains(&bytes(&third)), "{}", bytes(&third));
    site.receive(&third, &[]).expect_code(0);

    // By its name the base is taken for whole, which production refuses.
    site.list_layers("d", &[&noise(3, BIG), &noise(5, 1000)]);
    site.pack(4, &["--base", "payments-2"]).expect_code(0);
    let refused = site.receive(&site.media().join("payments-4"), &[]).expect_code(3);
    assert!(refused.stderr.contains("production lacks"), "{refused}");

    // Held since, as a later receipt says.
    receipt = later(&receipt, 2, 20, 3);
    receipt.images.push(left_out);
    ledger.file(&site, "later", &receipt);
    assert_eq!(receipt.made, day(2));
    site.list_layers("e", &[&noise(3, BIG), &noise(6, 1000)]);
    // Another list of images is another request.
    site.pack(5, &["--base", "receipt"]).expect_code(0);
    site.pack(5, &["--base", "later"]).expect_code(2).expect_stderr("another request");
    site.pack(6, &["--base", "later"]).expect_code(0);
    assert!(bytes(&site.media().join("payments-5")) > BIG as u64 && bytes(&site.media().join("payments-6")) < 50_000);

    // Without what says which layers an image has, nothing is guessed.
    let bundles = site.export_dir().join("home/.local/state/sealift/bundles");
    let layers = bundles.join("payments-2/layers.json");
    fs::copy(bundles.join("payments-5/layers.json"), &layers).unwrap();
    let ran = site.pack(7, &["--base", "receipt"]).expect_code(2);
    assert!(ran.stderr.contains("layers.json: cannot serve as a base: it is not about this manifest"), "{ran}");
    fs::remove_file(&layers).unwrap();
    let ran = site.pack(7, &["--base", "receipt"]).expect_code(2);
    assert!(ran.stderr.contains("layers.json: cannot serve as a base"), "{ran}");
    site.pack(7, &["--base", "later"]).expect_code(0);
}

#[test]
fn a_short_form_is_a_hint() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let ledger = Ledger::of(&mut site);
    // Nobody's signature is needed.
    site.release.as_object_mut().unwrap().remove("receipts");
    let (first, second) = (packed(&mut site, 1), packed(&mut site, 2));
    site.receive(&first, &[]).expect_code(0);
    list(&mut site, "3", 103);
    let receipt = ledger.receipt(&site, &first);
    let short = receipt.short();
    let ran = site.pack(3, &["--base", &short.grouped().to_lowercase()]).expect_code(0);
    assert!(ran.stderr.contains("warning: base payments-1: a short form is a hint"), "{ran}");
    let third = site.media().join("payments-3");
    assert!(bytes(&third) < 50_000);
    let manifest = Opened::open(&third, 1, &site.identity).manifest();
    assert_eq!(manifest["base"]["manifest"], json!(receipt.manifest));
    site.receive(&third, &[]).expect_code(0);
    // In a file, too.
    fs::write(site.export_dir().join("paper.txt"), format!("{}\n", short.grouped())).unwrap();
    site.pack(4, &["--base", "paper.txt"]).expect_code(0);

    let refused = |short: &str, code: i32, words: &str| {
        let ran = site.pack(5, &["--base", short]).expect_code(code);
        assert!(ran.stderr.contains(words) && ran.stderr.contains("hint: "), "{ran}");
    };
    let text = short.to_string();
    refused(&text.replace("PAYMENTS/1/", "PAYMENTS/2/"), 2, "something was mistyped");
    refused(&text[..text.len() - 3], 2, "5 parts between slashes");
    refused(&text.replace("R1", "R2"), 2, "it does not begin with SEALIFT-R1/");
    let mut other = receipt.clone();
    other.stream = "other".parse().unwrap();
    refused(&other.short().to_string(), 3, "of stream other");
    other = receipt.clone();
    other.bundle = BundleId::generate();
    refused(&other.short().to_string(), 3, "its short form is");
    other = receipt.clone();
    other.manifest = blobs::sha256(Opened::open(&second, 1, &site.identity).content(MANIFEST));
    refused(&other.short().to_string(), 3, "its short form is");
    other.sequence = 77.try_into().unwrap();
    refused(&other.short().to_string(), 2, "was not packed with this state folder");
    // It says nothing of production: a base that is not there is refused.
    let second = ledger.receipt(&site, &second).short().to_string();
    site.pack(6, &["--base", &second]).expect_code(0);
    site.receive(&site.media().join("payments-6"), &[]).expect_code(3).expect_stderr("the bundle builds on payments-2");
}

#[test]
fn what_a_ledger_will_refuse_is_said_before() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let ledger = Ledger::of(&mut site);
    let first = packed(&mut site, 1);
    let receipt = ledger.receipt(&site, &first);
    ledger.file(&site, "receipt", &later(&receipt, 2, 9, 5));
    let warning = |sequence| format!("warning: ledger {} has payments-5 already", ledger.id) + sequence;
    // Of a receipt that is only named.
    let named = site.pack(3, &["--base", "receipt"]).expect_code(0);
    assert!(named.stderr.contains(&warning(" (as of 2026-02-02T08:30:00Z): it will refuse payments-3")), "{named}");
    list(&mut site, "4", 104);
    let none = site.pack(4, &[]).expect_code(0);
    assert!(!none.stderr.contains("warning"), "{none}");
    // Of one that is kept, whatever is packed.
    crate::add(&site, "receipt".as_ref()).expect_code(0);
    let plan = run(&mut site.export(&["plan", "--sequence", "4"])).expect_code(0);
    assert!(plan.stderr.contains(&warning("")), "{plan}");
    // Five was packed elsewhere; six is newer.
    let five = site.pack(5, &[]).expect_code(0);
    assert!(five.stderr.contains(&warning("")), "{five}");
    let six = site.pack(6, &["--base", "receipt"]).expect_code(0);
    assert!(!six.stderr.contains("warning"), "{six}");
    // A key of another role for receipts, and another stream, say nothing.
    let key = Key::new(&site.scratch("keys"), "key").certificate_file.display().to_string();
    site.release["receipts"] = json!({ "certificates": [key] });
    list(&mut site, "2", 102);
    let unknown = site.pack(2, &[]).expect_code(0);
    assert!(!unknown.stderr.contains("it will refuse"), "{unknown}");
}

//! What production reports back, from the ledger to the next bundle.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::PathBuf;

use manifest_schema::Receipt;
use serde_json::json;
use testkit::layout::noise;
use testkit::{Ran, Site, need, run};

fn import(site: &Site, args: &[&str]) -> Ran {
    run(&mut site.import(args))
}

/// A site whose exporting side knows the ledger key.
fn site() -> Site {
    let mut site = Site::new();
    let trust = site.export_dir().join("trust");
    fs::create_dir_all(&trust).unwrap();
    fs::copy(&site.ledger_key.certificate_file, trust.join("ledger.asc")).unwrap();
    site.release["receipts"] = json!({ "certificates": ["trust/ledger.asc"] });
    site
}

/// Packs and receives a release with a large layer that all share.
fn received(site: &mut Site, sequence: u64, args: &[&str]) -> PathBuf {
    site.list_layers(&format!("v{sequence}"), &[&noise(1, 900_000), &noise(sequence + 100, 1000)]);
    site.pack(sequence, args).expect_code(0);
    let bundle = site.media().join(format!("payments-{sequence}"));
    site.receive(&bundle, &[]).expect_code(0);
    bundle
}

fn document(file: &[u8]) -> Receipt {
    Receipt::parse(file.split(|b| *b == b'\n').next().unwrap()).unwrap()
}

#[test]
fn the_next_bundle_leaves_out_what_a_receipt_says_is_there() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = site();
    received(&mut site, 1, &[]);
    let file = site.export_dir().join("payments-1.receipt");
    import(&site, &["receipt", "payments-1", "-o", file.to_str().unwrap()]).expect_code(0);
    import(&site, &["receipt", "payments-1", "-o", file.to_str().unwrap()])
        .expect_code(2)
        .expect_stderr("is already there");
    let receipt = document(&fs::read(&file).unwrap());
    let head = common::ledger(&site).head().unwrap();
    assert_eq!((receipt.head.number, receipt.head.hash, receipt.head.root), (head.number, head.hash, head.root));
    assert_eq!((receipt.images.len(), receipt.newest.get()), (1, 1));
    // Nothing of the enclave but the ledger's id and head.
    let text = String::from_utf8(fs::read(&file).unwrap()).unwrap();
    assert!(!text.contains(site.production.host()), "{text}");

    run(site.export(&["receipts", "add"]).arg(&file)).expect_code(0);
    let second = received(&mut site, 2, &["--base", "payments-1.receipt"]);
    let size = |bundle: &PathBuf| fs::metadata(bundle.join("payments-2.0001.tar.zst.age")).unwrap().len();
    assert!(size(&second) < 100_000, "{}", size(&second));
    let listed = run(&mut site.export(&["receipts"])).expect_code(0);
    assert!(listed.stdout.contains(&receipt.bundle.to_string()), "{listed}");
}

#[test]
fn on_paper_goes_the_short_form() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = site();
    received(&mut site, 1, &[]);
    let page = import(&site, &["receipt", "payments-1", "--paper"]).expect_code(0).stdout;
    let short = page.lines().find_map(|l| l.trim().strip_prefix("SEALIFT-R1/")).unwrap();
    assert!(page.contains('█'), "a QR code\n{page}");
    run(site.export(&["receipts", "add"]).arg(format!("SEALIFT-R1/{short}"))).expect_code(0);
    let listed = run(&mut site.export(&["receipts"])).expect_code(0);
    assert!(listed.stdout.contains("not signed"), "{listed}");
}

#[test]
fn a_receipt_lists_what_production_holds_and_nothing_else() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = site();
    import(&site, &["receipt", "payments-1"]).expect_code(2).expect_stderr("payments-1");
    received(&mut site, 1, &[]);
    let receipt = || document(import(&site, &["receipt", "payments-1"]).expect_code(0).stdout.as_bytes());
    assert_eq!(receipt().images.len(), 1);
    let image = format!("{}/payments/large:v1", site.production.host());
    import(&site, &["withdraw", &image, "--reason", "CVE-2026-1"]).expect_code(0);
    assert_eq!(receipt().images.len(), 0, "what was withdrawn is nothing to build on");
}

#[test]
fn a_ledger_that_was_put_back_gives_no_receipt_and_the_sender_would_see_it() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = site();
    received(&mut site, 1, &[]);
    let old = common::SavedLedger::of(&site);
    received(&mut site, 2, &[]);
    let shown = site.export_dir().join("two.receipt");
    import(&site, &["receipt", "payments-2", "-o", shown.to_str().unwrap()]).expect_code(0);
    run(site.export(&["receipts", "add"]).arg(&shown)).expect_code(0);
    // The ledger alone, and then the second file too.
    let second = site.import_dir().join("ledger.db.head");
    let head = fs::read(&second).unwrap();
    old.put_back(&site);
    fs::write(&second, &head).unwrap();
    import(&site, &["receipt", "payments-1"]).expect_code(1).expect_stderr("put back from an old copy");
    let bundle = site.media().join("payments-2");
    site.receive(&bundle, &[]).expect_code(1).expect_stderr("put back from an old copy");
    old.put_back(&site);
    let forged = site.export_dir().join("one.receipt");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    import(&site, &["receipt", "payments-1", "-o", forged.to_str().unwrap()]).expect_code(0);
    let warned = run(site.export(&["receipts", "add"]).arg(&forged));
    assert!(warned.stderr.contains("CONTRADICTS ITSELF: it had 7 entries"), "{warned}");
}

//! Receipts that are kept: what is known delivered, and what exposes a ledger that was changed.

use std::fs;

use manifest_schema::Receipt;
use serde_json::json;
use testkit::{Site, need, run};

use crate::{Ledger, add, day, later, packed, receipts};

/// The files that are kept.
fn kept(site: &Site) -> Vec<String> {
    let folder = site.export_dir().join("home/.local/state/sealift/receipts/payments");
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_is_known_delivered_is_listed() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let nothing = receipts(&site, &[]).expect_code(0);
    assert_eq!(nothing.stdout, "nothing of the kind was packed with this state folder\n");
    let ledger = Ledger::of(&mut site);
    let bundles: Vec<_> = (1..=3).map(|n| packed(&mut site, n)).collect();
    let one = ledger.receipt(&site, &bundles[0]);
    let added = add(&site, &ledger.file(&site, "r", &later(&one, 2, 7, 2))).expect_code(0);
    let line = format!("kept: payments-1, delivered to ledger {} since 2026-02-01T08:30:00Z\n", ledger.id);
    assert_eq!(added.stdout, line);
    let short = ledger.receipt(&site, &bundles[1]).short().grouped();
    let added = receipts(&site, &["add", &short]).expect_code(0);
    assert_eq!(added.stdout, "kept: payments-2, reported, not signed\n");
    assert!(receipts(&site, &["add", &short]).expect_code(0).stdout.starts_with("already kept: "));

    let listed = receipts(&site, &[]).expect_code(0);
    let row = |n: usize| listed.stdout.lines().nth(n).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(row(0), ["stream", "payments"], "{listed}");
    assert_eq!(row(1), ["SEQUENCE", "BUNDLE", "PACKED", "DELIVERED", "LEDGER", "IMAGES"]);
    let id = ledger.id.to_string();
    assert_eq!((row(2)[0], &row(2)[3..]), ("1", &["2026-02-01T08:30:00Z", &id, "1"][..]), "{listed}");
    assert_eq!((row(3)[0], &row(3)[3..]), ("2", &["reported,", "not", "signed", "-", "-"][..]), "{listed}");
    assert_eq!((row(4)[0], &row(4)[3..]), ("3", &["not", "known", "-", "-"][..]), "{listed}");
    assert!(listed.stdout.contains(&format!("ledger {id}: newest 2, 7 entries (as of 2026-02-02T08:30:00Z)")));
    assert!(!listed.stderr.contains("warning"), "{listed}");

    let json = receipts(&site, &["--json"]).expect_code(0).json();
    let stream = &json["streams"][0];
    assert_eq!((&stream["stream"], stream["bundles"].as_array().unwrap().len()), (&json!("payments"), 3));
    let delivered = json!([{
        "ledger": id, "since": "2026-02-01T08:30:00Z", "made": "2026-02-02T08:30:00Z", "images": 1,
    }]);
    assert_eq!(stream["bundles"][0]["delivered"], delivered);
    assert_eq!((&stream["bundles"][1]["reported"], &stream["bundles"][1]["delivered"]), (&json!(true), &json!([])));
    assert_eq!(stream["bundles"][2]["bundle"], json!(ledger.receipt(&site, &bundles[2]).bundle));
    assert_eq!((&stream["ledgers"][0]["newest"], &stream["ledgers"][0]["head"]["number"]), (&json!(2), &json!(7)));
    assert_eq!((&json["contradictions"], &json["not_counted"]), (&json!([]), &json!([])));
    let other = receipts(&site, &["--json", "--stream", "other"]).expect_code(0).json();
    assert_eq!(other["streams"], json!([]));

    // Judged anew each time: a key that is revoked counts no longer, nor does a file that was changed.
    fs::copy(&ledger.revocation_file, site.export_dir().join("trust/revocation.asc")).unwrap();
    let trust = ["--receipt-trust", "trust/revocation.asc", "--json"];
    let revoked = receipts(&site, &trust).expect_code(0).expect_stderr("revoked").json();
    assert_eq!(revoked["streams"][0]["bundles"][0]["delivered"], json!([]));
    assert!(revoked["not_counted"][0]["reason"].as_str().unwrap().contains("revoked"), "{revoked}");
    let file = site.export_dir().join("home/.local/state/sealift/receipts/payments").join(&kept(&site)[0]);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("\"newest\":2", "\"newest\":9", 1)).unwrap();
    receipts(&site, &[]).expect_code(0).expect_stderr("does not count").expect_stderr("is not signed by a ledger");
}

#[test]
fn the_receipt_that_was_made_last_counts() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let ledger = Ledger::of(&mut site);
    let first = packed(&mut site, 1);
    let old = ledger.receipt(&site, &first);
    let new = later(&old, 3, 12, 4);
    let add = |receipt: &Receipt| add(&site, &ledger.file(&site, "r", receipt)).expect_code(0);
    assert!(add(&later(&old, 2, 7, 2)).stdout.starts_with("kept: payments-1"));
    let replaced = add(&new);
    assert!(replaced.stdout.contains("(the one before was made 2026-02-02T08:30:00Z)"), "{replaced}");
    let older = add(&old);
    let words = "older: payments-1, delivered to ledger";
    assert!(older.stdout.starts_with(words), "{older}");
    assert!(older.stdout.contains("one that was made 2026-02-03T08:30:00Z is kept"), "{older}");
    assert!(add(&new).stdout.starts_with("already kept: "));
    assert_eq!(kept(&site).len(), 1);
    let json = receipts(&site, &["--json"]).expect_code(0).json();
    assert_eq!(json["streams"][0]["ledgers"][0]["newest"], 4);

    // Another ledger has its own.
    let other = Ledger::new(&site, "other");
    let file = other.file(&site, "other", &other.receipt(&site, &first));
    let trust = ["--receipt-trust", "trust/other.asc"];
    run(site.export(&["receipts", "add", "--json"]).args(trust).arg(file)).expect_code(0);
    assert_eq!(kept(&site).len(), 2);
    let json = receipts(&site, &[&trust[..], &["--json"]].concat()).expect_code(0).json();
    assert_eq!(json["streams"][0]["bundles"][0]["delivered"].as_array().unwrap().len(), 2);
}

#[test]
fn receipts_of_bundles_that_were_packed_elsewhere_are_kept_only_if_asked_for() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let ledger = Ledger::of(&mut site);
    let (first, second) = (packed(&mut site, 1), packed(&mut site, 2));
    let receipt = ledger.receipt(&site, &first);
    let file = ledger.file(&site, "r", &receipt).display().to_string();
    let short = ledger.receipt(&site, &second).short().to_string();
    let state = site.scratch("state").display().to_string();
    let elsewhere = |args: &[&str]| run(site.export(&["receipts"]).args(args).args(["--state", &state]));
    for given in [&file, &short] {
        let ran = elsewhere(&["add", given]).expect_code(2);
        assert!(ran.stderr.contains("was not packed with this state folder"), "{ran}");
        assert!(ran.stderr.contains("--elsewhere") && ran.stderr.contains("0 of 1 receipts were taken in"), "{ran}");
    }
    elsewhere(&["add", "--elsewhere", &file, &short]).expect_code(0);
    let listed = elsewhere(&[]).expect_code(0);
    let rows = listed.stdout.lines().filter(|line| line.contains("elsewhere")).count();
    assert_eq!(rows, 2, "{listed}");
    // It is no base, but it shows how far the ledger is.
    let ran = site.pack(3, &["--base", "latest", "--state", &state]).expect_code(2);
    assert!(ran.stderr.contains("no bundle of payments before 3 is known to be delivered"), "{ran}");
    site.list_layers("0", &[b"x"]);
    let mut pack = site.export(&["pack", "--sequence", "1", "--state", &state, "--output"]);
    let ran = run(pack.arg(site.scratch("out"))).expect_code(0);
    assert!(ran.stderr.contains("has payments-1 already"), "{ran}");

    // What contradicts the record is refused all the same; and what is no receipt.
    let mut other = receipt.clone();
    other.manifest = ledger.receipt(&site, &second).manifest;
    let ran =
        run(site.export(&["receipts", "add", "--elsewhere"]).arg(ledger.file(&site, "other", &other))).expect_code(3);
    assert!(ran.stderr.contains("its manifest is"), "{ran}");
    let ran = receipts(&site, &["add", &file, "release.yaml"]).expect_code(2);
    assert!(ran.stderr.contains("release.yaml: neither a receipt nor the short form of one"), "{ran}");
    assert!(ran.stderr.contains("1 of 2 receipts were taken in"), "{ran}");
    receipts(&site, &["add", "nothing"]).expect_code(2).expect_stderr("nothing: cannot be read");
}

/// What production's ledger says to the outside cannot be taken back unseen.
#[test]
fn a_ledger_that_was_put_back_or_forked_is_exposed() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let ledger = Ledger::of(&mut site);
    let (first, second) = (packed(&mut site, 1), packed(&mut site, 2));
    let (one, two) = (later(&ledger.receipt(&site, &first), 2, 20, 2), ledger.receipt(&site, &second));
    let honest = later(&two, 3, 21, 2);
    let add = |name: &str, receipt: &Receipt| add(&site, &ledger.file(&site, name, receipt)).expect_code(0);
    for (name, receipt) in [("one", &one), ("honest", &honest)] {
        let ran = add(name, receipt);
        assert!(!ran.stderr.contains("CONTRADICTS"), "{ran}");
    }
    let loud = format!("warning: LEDGER {} CONTRADICTS ITSELF: ", ledger.id);
    // Put back: fewer entries later, for whatever bundle.
    let back = add("back", &later(&two, 4, 12, 2));
    assert!(back.stderr.contains(&loud), "{back}");
    assert!(
        back.stderr.contains("it had 20 entries on 2026-02-02T08:30:00Z, and 12 on 2026-02-04T08:30:00Z"),
        "{back}"
    );
    // Both are kept and shown each time, though one is for the bundle of the other.
    assert_eq!(kept(&site).len(), 3);
    let listed = receipts(&site, &["--json"]).expect_code(0).expect_stderr(&loud);
    assert_eq!(listed.json()["contradictions"].as_array().unwrap().len(), 2, "{listed}");

    // Forked: the same number with another hash, also if it is shown to be older.
    let mut fork = later(&two, 1, 21, 2);
    fork.head.hash = [7; 32].into();
    (fork.head.time, fork.made) = (day(2), day(2));
    let forked = add("fork", &fork);
    assert!(forked.stdout.starts_with("older: "), "{forked}");
    assert!(forked.stderr.contains(&loud) && forked.stderr.contains("its entry 21 has hash "), "{forked}");
    assert_eq!(kept(&site).len(), 4);
    let json = receipts(&site, &["add", "--json", "back"]).expect_code(0).json();
    assert_eq!(json[0]["result"], "already kept");
    assert!(!json[0]["contradictions"].as_array().unwrap().is_empty(), "{json}");

    // Of another ledger the same numbers say nothing.
    let other = Ledger::new(&site, "other");
    site.release["receipts"] = json!({ "certificates": ["trust"] });
    let ran = crate::add(&site, &other.file(&site, "other", &other.receipt(&site, &first))).expect_code(0);
    assert!(!ran.stderr.contains("CONTRADICTS"), "{ran}");
}

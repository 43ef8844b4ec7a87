//! `--base latest`: the newest bundle that is known to be delivered.

use std::fs;

use manifest_schema::LedgerId;
use serde_json::json;
use testkit::{Site, need, run};

use crate::{Ledger, add, bytes, later, list, packed, receipts};

#[test]
fn the_newest_that_every_ledger_has_is_taken() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let here = Ledger::of(&mut site);
    let there = Ledger::new(&site, "there");
    site.release["receipts"] = json!({ "certificates": ["trust"] });
    let bundles: Vec<_> = (1..=4).map(|n| packed(&mut site, n)).collect();
    list(&mut site, "5", 105);
    let plan = |site: &Site, args: &[&str]| run(site.export(&["plan", "--json", "--base", "latest"]).args(args));
    let five = ["--sequence", "5"];
    let none = plan(&site, &five).expect_code(2);
    assert!(
        none.stderr.contains("no bundle of payments before 5 is known to be delivered: there is no receipt"),
        "{none}"
    );
    assert!(none.stderr.contains("hint: ") && none.stderr.contains("--base-ledger"), "{none}");
    let add = |site: &Site, ledger: &Ledger, bundle: usize| {
        let receipt = ledger.receipt(site, &bundles[bundle - 1]);
        add(site, &ledger.file(site, "r", &receipt)).expect_code(0);
    };
    let base = |ran: testkit::Ran| ran.expect_code(0).json()["base"]["sequence"].as_u64().unwrap();

    add(&site, &here, 1);
    add(&site, &here, 3);
    assert_eq!(base(plan(&site, &five)), 3);
    let named = there.file(&site, "there", &there.receipt(&site, &bundles[3]));
    let ran = run(site.export(&["plan", "--sequence", "5", "--base"]).arg(&named)).expect_code(0);
    let unknown = format!("warning: base payments-4: ledger {} is not known to have it", here.id);
    assert!(ran.stderr.contains(&unknown), "{ran}");
    let only = there.id.to_string();
    let ran =
        run(site.export(&["plan", "--sequence", "5", "--base-ledger", &only, "--base"]).arg(&named)).expect_code(0);
    assert!(!ran.stderr.contains("warning"), "{ran}");
    // Another enclave receives the same stream.
    add(&site, &there, 2);
    let none = plan(&site, &five).expect_code(2);
    let newest = |ledger: &Ledger, n| format!("the newest receipt of ledger {} is for {n}", ledger.id);
    assert!(none.stderr.contains(&newest(&here, 3)) && none.stderr.contains(&newest(&there, 2)), "{none}");
    add(&site, &there, 1);
    assert_eq!(base(plan(&site, &five)), 1);
    add(&site, &here, 2);
    let ran = plan(&site, &five);
    for ledger in [&here, &there] {
        assert!(ran.stderr.contains(&format!("ledger {} (since 2026-02-01T08:30:00Z)", ledger.id)), "{ran}");
    }
    assert_eq!(base(ran), 2);
    // One of them, by flag, variable or file.
    let id = here.id.to_string();
    assert_eq!(base(plan(&site, &[&five[..], &["--base-ledger", &id]].concat())), 3);
    let mut by_variable = site.export(&["plan", "--json", "--sequence", "5"]);
    by_variable.envs([("SEALIFT_BASE", "latest"), ("SEALIFT_BASE_LEDGER", id.as_str())]);
    assert_eq!(base(run(&mut by_variable)), 3);
    site.release["base"] = "latest".into();
    site.release["base_ledger"] = id.as_str().into();
    assert_eq!(base(run(&mut site.export(&["plan", "--json", "--sequence", "5"]))), 3);
    let unknown = LedgerId::generate().to_string();
    let ran = plan(&site, &[&five[..], &["--base-ledger", &unknown]].concat()).expect_code(2);
    assert!(ran.stderr.contains(&format!("there is no receipt of ledger {unknown}")), "{ran}");
    // Nothing builds on what comes after it.
    assert_eq!(base(plan(&site, &["--sequence", "3"])), 2);

    // A ledger that is not trusted any more is not known: its receipts are named, and do not count.
    site.release.as_object_mut().unwrap().remove("base_ledger");
    fs::remove_file(site.export_dir().join("trust/there.asc")).unwrap();
    let ran = plan(&site, &five).expect_stderr("does not count");
    assert_eq!(base(ran), 3);
    site.release.as_object_mut().unwrap().remove("receipts");
    plan(&site, &five).expect_code(2).expect_stderr("no certificate of a ledger is configured");
}

#[test]
fn an_image_counts_if_every_ledger_holds_it() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let here = Ledger::of(&mut site);
    let there = Ledger::new(&site, "there");
    site.release["receipts"] = json!({ "certificates": ["trust"] });
    let first = packed(&mut site, 1);
    list(&mut site, "2", 102);
    let whole = here.receipt(&site, &first);
    add(&site, &here.file(&site, "r", &whole)).expect_code(0);
    site.pack(2, &["--base", "latest"]).expect_code(0);
    assert!(bytes(&site.media().join("payments-2")) < 50_000);
    // Pinned to what it was.
    run(&mut site.export(&["plan", "--sequence", "3", "--base", "latest", "--lock", "lock.yaml"])).expect_code(0);
    assert!(fs::read_to_string(site.export_dir().join("lock.yaml")).unwrap().contains("base: \"payments-1\""));

    let mut none = there.receipt(&site, &first);
    none.images.clear();
    add(&site, &there.file(&site, "r", &none)).expect_code(0).expect_stderr("");
    site.pack(3, &["--base", "latest"]).expect_code(0).expect_stderr("1 of its 1 images are not held there");
    assert!(bytes(&site.media().join("payments-3")) > 900_000);
    // Held now.
    let mut now = later(&none, 2, 9, 1);
    now.images = whole.images;
    add(&site, &there.file(&site, "r", &now)).expect_code(0);
    site.pack(4, &["--base", "latest"]).expect_code(0);
    assert!(bytes(&site.media().join("payments-4")) < 50_000);
}

#[test]
fn what_was_reported_on_paper_counts_where_nothing_is_signed() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let ledger = Ledger::of(&mut site);
    let (first, second) = (packed(&mut site, 1), packed(&mut site, 2));
    list(&mut site, "3", 103);
    let short = ledger.receipt(&site, &second).short().to_string();
    receipts(&site, &["add", &short]).expect_code(0);
    let plan = |site: &Site| run(&mut site.export(&["plan", "--json", "--sequence", "3", "--base", "latest"]));
    let ran = plan(&site).expect_code(0).expect_stderr("warning: base payments-2: a short form is a hint");
    assert_eq!(ran.json()["base"]["sequence"], 2);
    // A signed one goes before.
    add(&site, &ledger.file(&site, "r", &ledger.receipt(&site, &first))).expect_code(0);
    let ran = plan(&site).expect_code(0);
    assert_eq!(ran.json()["base"]["sequence"], 1);
    assert!(!ran.stderr.contains("hint"), "{ran}");
}

//! Statements of custody, from the courier into the ledger.
#![allow(clippy::unwrap_used, missing_docs)]

use serde_json::json;
use testkit::{Key, Site, need, run};

#[test]
fn who_carried_a_bundle_is_in_the_ledger() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(42);
    let here = site.scratch("courier");
    let key = |key: &Key| key.secret_file.display().to_string();
    let [ben, cleo] = ["ben", "cleo"].map(|name| Key::new(&here, name));
    let hand_over = |by: &str, args: &[&str]| {
        let mut command = testkit::sealift_export(&here);
        let trust = site.release_key.certificate_file.display().to_string();
        run(command.arg("check").arg(&bundle).args(["--trust", &trust, "--hand-over", "--by", by]).args(args))
            .expect_code(0)
    };
    hand_over("Ada", &["--to", "Ben", "--bag", "4711"]);
    hand_over("Ben", &["--to", "Cleo", "--sign-key", &key(&ben)]);
    let said = hand_over("Cleo", &["--sign-key", &key(&cleo)]);
    assert!(said.stdout.contains(&format!("by {}, not known here", ben.fingerprint)), "{said}");

    std::fs::copy(&ben.certificate_file, site.import_dir().join("trust/ben.courier")).unwrap();
    site.import["couriers"] = json!(["trust/ben.courier"]);
    let inspected = run(site.import(&["inspect", "--json"]).arg(&bundle)).expect_code(0).json();
    let states: Vec<_> = inspected["handover"][0]["statements"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["signature"]["state"].clone())
        .collect();
    assert_eq!(states, ["none", "known", "unknown"]);

    // A broken chain is told, and recorded as far as it can be read.
    std::fs::remove_file(bundle.join("handover/0001.json")).unwrap();
    site.receive(&bundle, &[]).expect_code(0).expect_stderr("statements are missing: 1");
    let shown = run(&mut site.import(&["ledger", "show", "payments-42"])).expect_code(0);
    for words in [
        format!("by Ben to Cleo, signed by {}\n", ben.fingerprint),
        format!("by Cleo, signed by {}, not known here\n", cleo.fingerprint),
    ] {
        assert!(shown.stdout.contains(&words), "{words}: {shown}");
    }
    assert!(!shown.stdout.contains("Ada"), "{shown}");
    run(&mut site.import(&["ledger", "verify"])).expect_code(0);

    // Whoever releases is no courier.
    site.import["couriers"] = json!(["trust/release.asc"]);
    run(site.import(&["inspect"]).arg(&bundle)).expect_code(2).expect_stderr("two roles");
}

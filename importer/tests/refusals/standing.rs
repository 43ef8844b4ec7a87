//! The ledger: no replay, no rollback, one bundle a number; and no work without the right ledger.

use std::fs;

use serde_json::json;
use testkit::layout::{API, BUSYBOX};
use testkit::{Site, need};

use crate::common::{Leaves::Nothing, Leaves::Refusal, World, acts, case, refused};

#[test]
fn nothing_is_done_without_the_ledger_that_is_configured() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(42);
    let other = Site::new();
    let other_ledger = other.import_dir().join("ledger.db");
    let found = other.import["ledger"]["id"].as_str().unwrap().to_string();
    refused(
        &mut site,
        &bundle,
        &[
            case("another ledger", 2, &["this is ledger", &found, "expected"], Nothing, move |site, _| {
                fs::copy(&other_ledger, site.import_dir().join("ledger.db")).unwrap();
            }),
            case("no id", 2, &["ledger id"], Nothing, |site, _| site.import["ledger"]["id"] = "42".into()),
            case("not a ledger", 2, &["not a ledger"], Nothing, |site, _| {
                fs::write(site.import_dir().join("notes"), "not a ledger, but long enough to be looked at".repeat(40))
                    .unwrap();
                site.import["ledger"]["file"] = "notes".into();
            }),
            case("a link that leads nowhere", 2, &["no ledger"], Nothing, |site, _| {
                let link = site.import_dir().join("link.db");
                let _ = fs::remove_file(&link);
                std::os::unix::fs::symlink("nowhere.db", link).unwrap();
                site.import["ledger"]["file"] = "link.db".into();
            }),
        ],
    );
    let file = site.import_dir().join("ledger.db");
    fs::rename(&file, site.import_dir().join("elsewhere.db")).unwrap();
    let before = site.production.snapshot();
    for command in ["receive", "verify"] {
        let ran = testkit::run(site.import(&[command]).arg(&bundle)).expect_code(2);
        assert!(format!("{}{}", ran.stdout, ran.stderr).contains("there is no ledger here"), "{ran}");
    }
    assert_eq!(site.production.snapshot(), before);
    assert!(!file.exists(), "a ledger that is missing is not made anew");
}

#[test]
fn a_number_is_used_once_and_never_goes_back() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (older, bundle) = (site.packed(41), site.packed(42));
    // The same number with other content, from an exporter that forgot its record; and the same id with another number.
    site.list_fixtures(&[BUSYBOX]);
    let id = crate::common::open(&site, &bundle).manifest()["bundle"].as_str().unwrap().to_string();
    let fresh = |site: &Site, sequence: &str, name: &str, args: &[&str]| {
        let (output, state) = (site.scratch(name), site.scratch(&format!("{name}-state")));
        let mut pack = site.export(&["pack", "--sequence", sequence]);
        pack.args(args).arg("--output").arg(&output).arg("--state").arg(state);
        testkit::run(&mut pack).expect_code(0);
        output.join(format!("payments-{sequence}"))
    };
    let another = fresh(&site, "42", "another", &[]);
    let renumbered = fresh(&site, "43", "renumbered", &["--bundle-id", &id]);

    site.list_fixtures(&[API]);
    site.receive(&bundle, &[]).expect_code(0);
    let received = World::of(&site);
    let again = site.receive(&bundle, &[]).expect_code(0);
    assert!(
        again.stdout.contains("already received: payments 42") && again.stdout.contains("nothing to do"),
        "{again}"
    );
    assert_eq!(site.receive(&bundle, &["--json"]).expect_code(0).json()["result"], "already received");
    assert_eq!(World::of(&site), received, "a replay changes nothing");
    testkit::run(site.import(&["verify"]).arg(&bundle)).expect_code(0);

    let flawless = |_: &mut Site, _: &std::path::Path| ();
    refused(&mut site, &older, &[case("rollback", 3, &["payments 41 is older than payments 42"], Refusal, flawless)]);
    let words = ["payments 42 was begun as bundle", id.as_str(), "given"];
    refused(&mut site, &another, &[case("another bundle under the same number", 3, &words, Refusal, flawless)]);
    let words = [id.as_str(), "is known as payments 42", "given as payments 43"];
    refused(&mut site, &renumbered, &[case("the same bundle under another number", 3, &words, Refusal, flawless)]);

    // Refusals are kept, and the record of what came in is still good.
    site.receive(&older, &[]).expect_code(3);
    assert_eq!(acts(&site), ["created", "begun", "signing", "recorded", "refused"]);
    let verified = testkit::run(&mut site.import(&["ledger", "verify", "--json"])).expect_code(0);
    assert!(verified.json().is_object(), "{verified}");
    let shown = testkit::run(&mut site.import(&["ledger", "show", "payments-42", "--json"])).expect_code(0).json();
    assert_eq!(shown["bundle"]["sequence"], json!(42));
    testkit::run(&mut site.import(&["ledger", "show", "payments-44"])).expect_code(2);
}

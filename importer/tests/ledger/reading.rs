//! `ledger list`, `show`, `refusals`, `log`: every kind of act, page by page.

use importer::access::stamp;
use ledger::{Refused, Resigned, Signing};

use crate::{
    Desk, HOSTILE, begin, bring_in, bring_in_with_everything, common, fingerprint, outside, reject, subject, text,
};

#[test]
fn every_kind_of_act_is_shown_in_words_with_who_ran_it() {
    let desk = Desk::new();
    let (everything, rejected) = (bring_in_with_everything(&mut desk.open(), "payments", 1), subject("payments", 2));
    {
        let mut ledger = desk.open();
        begin(&mut ledger, &rejected);
        reject(&mut ledger, &rejected, HOSTILE);
        let refused = Refused { subject: subject("payments", 3), reason: outside(HOSTILE) };
        ledger.refused(&stamp().unwrap(), refused).unwrap();
        let announced = Signing { subject: everything.clone(), production: None, images: vec![], tags: vec![] };
        ledger.resigning(&stamp().unwrap(), announced).unwrap();
        let resigned = Resigned { subject: everything.clone(), production: fingerprint('F'), signatures: vec![] };
        ledger.resigned(&stamp().unwrap(), resigned).unwrap();
    }
    let new = desk.keygen("ledger", "new");
    desk.ledger(&["rotate-key", "--new-key", text(&new)]).expect_code(0);
    let show = |what: &str| {
        let said = desk.ledger(&["show", what]).expect_code(0);
        common::shows_no_control_characters(&said).unwrap();
        said.stdout
    };
    let all = show("payments-1");
    for said in [
        "state     recorded",
        ", run by ",
        "waits in registry.qa.example/api:1",
        &format!("approver {}", "A".repeat(40)),
        "approvals: =the board said so",
        "approval that counted sha256:",
        "tag registry.prod.example/payments/api:1 -> sha256:",
        ": resigned\n  production key FFFF",
        "\nwithdrawn at ",
        "scan-gate: no policy configured",
        ": approval-withdrawn\n",
    ] {
        assert!(all.contains(said), "expected `{said}`\n{all}");
    }
    assert!(
        show("payments-2").contains(": rejected\n  </td><script>alert(1)</script>\\u{1b}[2J\\u{202e}\\u{d}\n  | =1+1,")
    );
    let log = desk.ledger(&["log"]).expect_code(0);
    common::shows_no_control_characters(&log).unwrap();
    let last = desk.entries();
    assert_eq!(log.stdout.lines().count() as u64, last + 1, "one line for each entry");
    let acts: Vec<_> = log.stdout.lines().skip(1).map(|l| l.split_whitespace().nth(2).unwrap().to_string()).collect();
    assert_eq!(acts[..5], ["key-changed", "resigned", "resigning", "refused", "rejected"]);
    assert_eq!(acts.last().unwrap(), "created");
    let changed = show(&last.to_string());
    assert!(changed.contains("to key ") && changed.contains("signed by both"), "{changed}");
    for number in 1..=last {
        let json = desk.ledger(&["show", &number.to_string(), "--json"]).expect_code(0).json();
        assert_eq!(json["number"], number);
        show(&number.to_string());
    }
    desk.ledger(&["show", "99"]).expect_code(2).expect_stderr("the ledger has no entry 99");
    desk.ledger(&["show", "payments-9"]).expect_code(2).expect_stderr("knows no bundle");
}

#[test]
fn lists_come_page_by_page_and_by_state() {
    let desk = Desk::new();
    {
        let mut ledger = desk.open();
        for n in 1..=4 {
            bring_in(&mut ledger, "payments", n);
        }
        for n in 5..=6 {
            begin(&mut ledger, &subject("payments", n));
        }
        for n in 7..=9 {
            let refused = Refused { subject: subject("payments", n), reason: outside("no") };
            ledger.refused(&stamp().unwrap(), refused).unwrap();
        }
    }
    let sequences = |args: &[&str]| {
        let rows = desk.ledger(&[args, &["--json"]].concat()).expect_code(0).json();
        rows.as_array().unwrap().iter().map(|row| row["sequence"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(sequences(&["list"]), [6, 5, 4, 3, 2, 1]);
    assert_eq!(sequences(&["list", "--status", "begun"]), [6, 5]);
    assert_eq!(sequences(&["list", "--status", "recorded", "--limit", "3"]), [4, 3, 2]);
    let page = desk.ledger(&["list", "--limit", "2"]).expect_code(0);
    let last = page.stdout.lines().last().unwrap().split_whitespace().next().unwrap();
    assert!(page.stderr.contains(&format!("what is before them: --before {last}")), "{page}");
    let all = desk.ledger(&["list"]).expect_code(0);
    assert_eq!(all.stderr, "");
    desk.ledger(&["log", "--limit", "0"]).expect_code(2);
    assert_eq!(sequences(&["list", "--before", last, "--limit", "2"]), [4, 3]);
    assert_eq!(sequences(&["refusals"]), [9, 8, 7]);
    assert_eq!(sequences(&["refusals", "--before", "18"]), [9, 8, 7][1..]);
    desk.ledger(&["list", "--status", "gone"]).expect_code(2).expect_stderr("expected one of begun, received");
    desk.ledger(&["list", "--before", "0"]).expect_code(2);
    let numbers = |args: &[&str]| {
        let entries = desk.ledger(&[&["log", "--json"], args].concat()).expect_code(0).json();
        entries.as_array().unwrap().iter().map(|e| e["number"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&["--limit", "3"]), [18, 17, 16]);
    assert_eq!(numbers(&["--before", "3"]), [2, 1]);
    assert_eq!(numbers(&["--before", "1"]), [0; 0]);
    assert_eq!(numbers(&["--before", "99", "--limit", "1"]), [18]);
}

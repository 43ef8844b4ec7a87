//! From the request to the approvals that count.

use super::*;
use common::{acts, shows_no_control_characters};
use importer::approvals::Grounds;
use testkit::{Gpg, need, run_fails, run_ok};

#[test]
fn a_bundle_is_approved_here_and_on_another_machine() {
    if !need(&["docker-registry", "gpg"]) {
        return;
    }
    let e = Enclave::new(2);
    let asked = e.approve(&["payments-42"]).expect_code(0);
    assert!(asked.stdout.contains("approvals  2 of 3 needed, 0 count\n"), "{asked}");
    assert_eq!(asked.stdout.matches("has not approved").count(), 3, "{asked}");

    // Here.
    let approved =
        e.approve(&["payments-42", "--sign-key", key(&e.ada), "--for", "7d", "--note", "CHG-1"]).expect_code(0);
    for image in images() {
        for shown in [image.production.to_string(), image.digest.to_string(), image.origin.to_string()] {
            assert!(approved.stderr.contains(&shown), "{shown}: {approved}");
        }
    }
    let shown = run(&mut e.site.import(&["ledger", "show", "payments-42"])).expect_code(0).stdout;
    assert!(shown.contains("says: CHG-1"), "{shown}");
    for shown in [e.subject.manifest.to_string(), e.subject.bundle.to_string()] {
        assert!(approved.stderr.contains(&shown), "{shown}: {approved}");
    }
    assert!(approved.stdout.contains(&format!("approved: payments-42 by {} until ", e.ada.fingerprint)), "{approved}");
    assert!(approved.stdout.contains("approvals: 2 of 3 needed, 1 counts\n"), "{approved}");
    let refused = e.counted().unwrap_err().to_string();
    assert!(refused.contains("payments-42 is not approved: 2 of 3 needed, 1 counts"), "{refused}");

    // Elsewhere: the request goes there, the statement comes back.
    let request = e.site.scratch("stick").join("payments-42.request");
    e.approve(&["payments-42", "--request", path(&request)]).expect_code(0);
    let printed = e.approve(&["payments-42", "--request", "-"]).expect_code(0).stdout;
    assert_eq!(printed, fs::read_to_string(&request).unwrap());
    e.approve(&["payments-42", "--request", path(&request)]).expect_code(2).expect_stderr("is already there");
    e.approve(&["--add", path(&request)]).expect_code(2).expect_stderr("this is a request for an approval");
    let file = e.site.scratch("stick").join("ben.approval");
    let until = later(86_400).to_string();
    let approve = ["--from", path(&request), "--sign-key", key(&e.ben), "--not-after", &until, "--output", path(&file)];
    let made = e.elsewhere(&approve).expect_code(0);
    assert!(made.stderr.contains("registry.prod.example/payments/web:1.0"), "{made}");
    assert!(made.stderr.contains(&until), "{made}");
    e.elsewhere(&approve).expect_code(2).expect_stderr("is already there");
    let added = e.approve(&["--add", path(&file)]).expect_code(0);
    assert!(added.stdout.contains(&format!("approval of payments-42 by {}", e.ben.fingerprint)), "{added}");
    assert!(added.stdout.contains("2 of 3 needed, 2 count"), "{added}");

    // Both count; once more is the same.
    let statements = e.counted().unwrap().statements();
    assert_eq!(statements.len(), 2);
    let again = e.approve(&["--add", path(&file), "--json"]).expect_code(0).json();
    let standing = e.standing();
    assert_eq!(again["standings"], json!([standing]));
    assert_eq!(standing["statements"].as_array().unwrap().len(), 2);
    assert_eq!(standing["statements"][0]["note"], "CHG-1");
    assert_eq!(standing["statements"][1]["statement"], statements[1].to_string());
    assert_eq!(standing["missing"].as_array().unwrap().len(), 1);
    assert_eq!(standing["missing"][0]["fingerprint"], e.cleo.fingerprint);
    assert_eq!(acts(&e.site), ["created", "begun", "received", "approved", "approved"]);
    run_ok(&mut e.site.import(&["ledger", "verify"]));

    // Without Sealift: the first line with its end, and a signature over it.
    let text = fs::read_to_string(&file).unwrap();
    let (line, signature) = text.split_once('\n').unwrap();
    let gpg = Gpg::new();
    gpg.import(&fs::read(&e.ben.certificate_file).unwrap());
    let write = |name: &str, bytes: String| {
        let path = e.site.scratch("stock").join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let (document, signature) = (write("document", format!("{line}\n")), write("signature", signature.into()));
    run_ok(gpg.command().arg("--verify").args([&signature, &document]));
    run_fails(gpg.command().arg("--verify").args([&signature, &write("line", line.into())]));
}

#[test]
fn a_site_with_approvers_receives_nothing_into_production() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let ada = Key::new(&site.scratch("people"), "ada");
    let bundle = site.packed(42);
    site.import["approvers"] = json!({ "certificates": [ada.certificate_file] });
    site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(acts(&site), ["created", "begun", "received"]);
    assert!(site.production.tags().is_empty() && common::signatures(&site).is_empty());
    let approved =
        run(&mut site.import(&["approve", "payments-42", "--sign-key", key(&ada), "--for", "1h"])).expect_code(0);
    let api = format!("{}/payments/api:2.3.1", site.production.host());
    assert!(approved.stderr.contains(&api) && approved.stdout.contains("1 of 1 needed, 1 counts"), "{approved}");
}

#[test]
fn what_is_approved_is_the_bundle_that_waits() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut e = Enclave::new(1);
    let sign = ["--sign-key", key(&e.ada), "--for", "1h"];
    let approve = |bundle: &str| e.approve(&[&[bundle], &sign[..]].concat());
    approve("payments-41").expect_code(2).expect_stderr("the ledger knows no bundle");
    approve("\u{1b}[2J").expect_code(2);
    approve(&e.subject.bundle.to_string()).expect_code(0);
    assert_eq!(e.counted().unwrap().grounds(), &Grounds::Approved(e.counted().unwrap().statements()));
    let approvals = e.counted().unwrap();
    let [(api, digest), (web, other)] = e.wanted().try_into().unwrap();
    assert!(approvals.allows(&api, &digest) && approvals.allows(&web, &other));
    assert!(!approvals.allows(&api, &other), "another image under that reference");
    assert_eq!(approvals.subject(), &e.subject);

    // A bundle that has only begun.
    let begun =
        Subject { bundle: BundleId::generate(), sequence: Sequence::try_from(43).unwrap(), ..e.subject.clone() };
    let begin = ledger::Begun { subject: begun, signed: None, newest_signed: None };
    let _ = e.site.open_ledger().begin(&stamp(), begin).unwrap();
    approve("payments-43").expect_code(1).expect_stderr("has not been received for promotion");
    e.approve(&["payments-43"]).expect_code(1).expect_stderr("hint: receive it first");

    // One that will not be promoted, and one that was.
    let mut ledger = e.site.open_ledger();
    let subject = e.subject.clone();
    ledger.rejected(&stamp(), ledger::Rejected { subject, reason: OutsideText::new("a bug") }).unwrap();
    drop(ledger);
    approve("payments-42").expect_code(3).expect_stderr("was rejected");
    let subject = let_wait(&e.site, 44);
    e.subject = subject.clone();
    let mut ledger = e.site.open_ledger();
    let signing = ledger::Signing { subject: subject.clone(), production: None, images: vec![], tags: vec![] };
    ledger.signing(&stamp(), signing).unwrap();
    ledger
        .record(
            &stamp(),
            ledger::Recorded {
                subject,
                signers: vec![],
                images: vec![],
                signatures: vec![],
                tags: vec![],
                no_policy: vec![],
                gate: None,
                handover: vec![],
                skipped: vec![],
                approvals: vec![],
                promoter: None,
            },
        )
        .unwrap();
    drop(ledger);
    let statement = Statement::signed(
        &{
            let mut d = e.document();
            d["sequence"] = json!(44);
            d
        },
        &e.ada,
    );
    let late = statement.to(&e.site, "late");
    for args in [&["payments-44", "--sign-key", key(&e.ada), "--for", "1h"][..], &["--add", path(&late)]] {
        e.approve(args).expect_code(2).expect_stderr("there is nothing left to approve");
    }
    e.approve(&["payments-44"]).expect_code(0);
}

#[test]
fn several_statements_are_recorded_at_once_and_each_fault_is_named() {
    if !need(Site::NEEDS) {
        return;
    }
    let e = Enclave::new(2);
    let good = Statement::signed(&e.document(), &e.ada).to(&e.site, "ada");
    let mut other = e.document();
    other["manifest"] = json!(blobs::sha256(b"another"));
    let bad = Statement::signed(&other, &e.ben).to(&e.site, "ben");
    let missing = e.site.scratch("statements").join("nobody");
    let stranger = Key::new(&e.site.scratch("people"), "stranger");
    let unknown = Statement::signed(&e.document(), &stranger).to(&e.site, "stranger");
    let all = [path(&good), path(&bad), path(&missing), path(&unknown)];
    let ran = e.approve(&[&["--add"], &all[..]].concat()).expect_code(3);
    assert!(ran.stderr.contains("3 of 4 statements cannot be recorded"), "{ran}");
    assert!(ran.stderr.contains("state: 1 of 4 statements are recorded"), "{ran}");
    assert!(ran.stderr.contains(&format!("{}: it does not count: it is of manifest", bad.display())), "{ran}");
    assert!(ran.stderr.contains(&format!("{}: cannot be read", missing.display())), "{ran}");
    assert!(ran.stderr.contains("unknown key"), "{ran}");
    assert!(ran.stdout.contains("2 of 3 needed, 1 counts"), "{ran}");
    assert_eq!(e.standing()["counts"], 1);
    e.approve(&["--add", path(&missing)]).expect_code(2).expect_stderr("state: nothing was recorded");
}

#[test]
fn a_key_of_another_role_or_no_key_approves_nothing() {
    if !need(Site::NEEDS) {
        return;
    }
    let e = Enclave::new(1);
    for other in [&e.site.production_key, &e.site.ledger_key, &e.site.release_key] {
        let ran = e.approve(&["payments-42", "--sign-key", key(other), "--for", "1h"]).expect_code(3);
        assert!(ran.stderr.contains("it does not count") && ran.stderr.contains("unknown key"), "{ran}");
    }
    // The variable of the production key is not that of an approver's.
    run(e.site.import(&["approve", "payments-42", "--for", "1h"]).env("SEALIFT_SIGN_KEY", &e.ada.secret_file))
        .expect_code(2)
        .expect_stderr("an approver's key is missing");
    run(e.site.import(&["approve", "payments-42"]).env("SEALIFT_APPROVER_KEY", &e.ada.secret_file))
        .expect_code(2)
        .expect_stderr("the time until which the approval counts is missing");
    run(e.site.import(&["approve", "payments-42", "--list"]).env("SEALIFT_APPROVER_KEY", &e.ada.secret_file))
        .expect_code(0);
    for until in [&["--for", "31d"][..], &["--not-after", "2020-01-01T00:00:00Z"]] {
        let ran = e.approve(&[&["payments-42", "--sign-key", key(&e.ada)], until].concat());
        assert!(ran.code != Some(0), "{ran}");
    }
    for wrong in ["0d", "d", "1y", "1.5d", "-1d", "+1d", "01d", "1000000d", ""] {
        e.approve(&["payments-42", "--sign-key", key(&e.ada), "--for", wrong]).expect_code(2);
    }
    assert_eq!(acts(&e.site), ["created", "begun", "received"]);
    // The ledger is written to with its key only.
    let ledger = e.site.import["ledger"]["file"].clone();
    let mut without = Enclave { site: e.site, ..e };
    without.site.import["ledger"] = json!({ "file": ledger, "id": without.site.import["ledger"]["id"] });
    without
        .approve(&["payments-42", "--sign-key", key(&without.ada), "--for", "1h"])
        .expect_code(2)
        .expect_stderr("which is needed to write to it");
}

#[test]
fn what_approvers_call_themselves_is_shown_and_does_nothing() {
    if !need(&["docker-registry", "gpg"]) {
        return;
    }
    let mut e = Enclave::new(1);
    let gpg = Gpg::new();
    let fingerprint = gpg.generate("ada \u{202e}evil\u{1b}[2J", "rsa3072");
    let file = e.site.scratch("people").join("evil.asc");
    fs::write(&file, gpg.export(&fingerprint)).unwrap();
    e.site.import["approvers"]["certificates"] = json!([e.ada.certificate_file, file]);
    for args in [&["payments-42"][..], &["payments-42", "--json"]] {
        let ran = e.approve(args).expect_code(0);
        shows_no_control_characters(&ran).unwrap_or_else(|e| panic!("{e}"));
        assert!(ran.stdout.contains("202e"), "{ran}");
    }
    // A request comes from outside too.
    let request = e.site.scratch("stick").join("request");
    e.approve(&["payments-42", "--request", path(&request)]).expect_code(0);
    let honest = fs::read_to_string(&request).unwrap();
    for (from, to) in [("promote", "pro\\u001bmote"), ("payments/web:1.0\"", "payments/web:\u{202e}1.0\""), ("{", "{ ")]
    {
        fs::write(&request, honest.replacen(from, to, 1)).unwrap();
        let output = e.site.scratch("stick").join("never");
        let args = ["--from", path(&request), "--sign-key", key(&e.ada), "--for", "1h", "--output", path(&output)];
        let ran = e.elsewhere(&args).expect_code(2).expect_stderr("no request for an approval");
        shows_no_control_characters(&ran).unwrap_or_else(|e| panic!("{e}"));
        assert!(!output.exists());
    }
}

//! Everything that keeps a statement from counting: one honest approval, one flaw, one reason. Each is tried with `approve
//! --add`, and put into the ledger past that, where the approvals are counted.

use super::*;
use common::acts;
use testkit::need;

/// A flaw, and what is said of it.
type Flaw = (&'static str, Box<dyn Fn(&Enclave) -> Statement>, &'static str);

/// A change of the honest document.
fn changed(what: &'static str, change: fn(&mut Value), says: &'static str) -> Flaw {
    let made = move |e: &Enclave| {
        let mut document = e.document();
        change(&mut document);
        Statement::signed(&document, &e.ada)
    };
    (what, Box::new(made), says)
}

/// Another statement altogether.
fn made(what: &'static str, make: fn(&Enclave) -> Statement, says: &'static str) -> Flaw {
    (what, Box::new(make), says)
}

fn flaws() -> Vec<Flaw> {
    vec![
        changed("another site", |d| d["ledger"] = json!("7f3c2b1a-0000-4000-8000-000000000001"), "it is for ledger"),
        changed("another bundle", |d| d["bundle"] = json!(BundleId::generate()), "it is of bundle"),
        changed("another release line", |d| d["stream"] = json!("api"), "it is of api-42, expected payments-42"),
        changed("another number", |d| d["sequence"] = json!(43), "it is of payments-43, expected payments-42"),
        changed("another manifest", |d| d["manifest"] = json!(blobs::sha256(b"x")), "it is of manifest"),
        changed("another digest", |d| d["images"][1]["digest"] = json!(blobs::sha256(b"x")), "it lists registry.prod"),
        changed(
            "another tag",
            |d| d["images"][1]["production"] = json!("registry.prod.example/payments/web:1.1"),
            "it does not list registry.prod.example/payments/web:1.0",
        ),
        changed(
            "another registry",
            |d| d["images"][1]["production"] = json!("registry.qa.example/payments/web:1.0"),
            "it does not list registry.prod.example/payments/web:1.0",
        ),
        changed(
            "an image is missing",
            |d| drop(d["images"].as_array_mut().unwrap().pop()),
            "it does not list registry.prod.example/payments/web:1.0",
        ),
        changed("no image", |d| d["images"] = json!([]), "it does not list"),
        changed(
            "an image with two digests",
            |d| {
                let mut other = d["images"][1].clone();
                other["digest"] = json!(blobs::sha256(b"x"));
                d["images"].as_array_mut().unwrap().push(other);
            },
            "is listed twice",
        ),
        changed(
            "it has ended",
            |d| (d["made"], d["not_after"]) = (json!(later(-3600)), json!(later(-1))),
            "it ended at",
        ),
        changed("it ends now", |d| (d["made"], d["not_after"]) = (json!(later(-3600)), json!(later(0))), "it ended at"),
        changed("it is from the future", |d| d["made"] = json!(later(3700)), "it was made in the future"),
        changed("it counts for too long", |d| d["not_after"] = json!(later(31 * 86_400)), "at most 30d are accepted"),
        changed("another action", |d| d["action"] = json!("withdraw"), "unknown variant `withdraw`"),
        changed("no end", |d| drop(d.as_object_mut().unwrap().remove("not_after")), "missing field `not_after`"),
        changed("an unknown member", |d| d["more"] = json!(1), "unknown field"),
        changed("another type", |d| d["type"] = json!("sealift/approval/2"), "unknown variant `sealift/approval/2`"),
        made("a receipt", |e| Statement::of(&other_document(e, "sealift/receipt/1"), &e.ada), "not an approval"),
        made("a head", |e| Statement::of(&other_document(e, "sealift/ledger-head/1"), &e.ada), "not an approval"),
        made("a statement of who promotes", |e| Statement::of(&promotion(e), &e.ada), "not an approval"),
        made("a request", |e| Statement::of(&request(e), &e.ada), "not an approval"),
        made(
            "spaces",
            |e| {
                Statement::of(
                    &String::from_utf8(compact(&e.document())).unwrap().replace(',', ", ").into_bytes(),
                    &e.ada,
                )
            },
            "not in canonical form",
        ),
        made(
            "a changed byte",
            |e| {
                let mut statement = Statement::signed(&e.document(), &e.ada);
                let at = statement.0.windows(10).position(|w| w == b"web:1.0\",\"").unwrap() + 6;
                statement.0[at] = b'1';
                statement
            },
            "bad signature",
        ),
        made(
            "a line end of another kind",
            |e| {
                let statement = Statement::signed(&e.document(), &e.ada);
                let line = statement.line().len();
                Statement([&statement.0[..line], b"\r", &statement.0[line..]].concat())
            },
            "lines that end with a line feed",
        ),
        made("no signature", |e| Statement([compact(&e.document()), b"\n".to_vec()].concat()), "signature"),
        made("nobody who may approve", |e| Statement::signed(&e.document(), &stranger(e)), "unknown key"),
        made("whoever releases", |e| Statement::signed(&e.document(), &e.site.release_key), "unknown key"),
        made(
            "two signatures",
            |e| {
                let document = compact(&e.document());
                let [one, two] =
                    [&e.ada, &e.ben].map(|key| Statement::of(&document, key).0.split_off(document.len() + 1));
                Statement([&document[..], b"\n", &signing::join_signatures(&[&one, &two]).unwrap()].concat())
            },
            "2 certificates have signed it",
        ),
    ]
}

fn stranger(e: &Enclave) -> Key {
    Key::new(&e.site.scratch("people"), "stranger")
}

/// An honest approval under another type.
fn other_document(e: &Enclave, kind: &str) -> Vec<u8> {
    let mut document = e.document();
    document["type"] = json!(kind);
    compact(&document)
}

fn promotion(e: &Enclave) -> Vec<u8> {
    let mut document = e.document();
    document["type"] = json!("sealift/promotion/1");
    for member in ["id", "action", "stream", "sequence", "not_after", "tool"] {
        document.as_object_mut().unwrap().remove(member);
    }
    compact(&document)
}

fn request(e: &Enclave) -> Vec<u8> {
    e.approve(&["payments-42", "--request", "-"]).expect_code(0).stdout.trim_end().into()
}

#[test]
fn what_is_wrong_with_a_statement_keeps_it_from_counting() {
    if !need(Site::NEEDS) {
        return;
    }
    let e = Enclave::new(1);
    let mut wrong = Vec::new();
    for (what, make, says) in flaws() {
        let statement = make(&e);
        let file = statement.to(&e.site, "flaw");
        let before = acts(&e.site).len();
        let ran = e.approve(&["--add", path(&file)]);
        let bundle_is_another = what == "another bundle";
        let expected = if bundle_is_another { "the ledger knows no bundle" } else { says };
        if ran.code == Some(0) || !ran.stderr.contains(expected) || acts(&e.site).len() != before {
            wrong.push(format!("=== {what}: approve --add\n{ran}"));
        }
        // What the entry says besides is honest; only the statement is not.
        let entry = e.force(&statement);
        let standing = e.standing();
        let last = standing["statements"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["entry"], json!(entry));
        let reason = last["reason"].as_str().unwrap_or("it counts").to_string();
        if !reason.contains(says) || standing["counts"] != 0 {
            wrong.push(format!("=== {what}: {standing:#}"));
        }
        match e.counted() {
            Err(error @ Error::NotApproved(_)) if error.to_string().contains(&reason) => {}
            other => wrong.push(format!("=== {what}: counted: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} cases\n{}", wrong.len(), wrong.join("\n"));
    // And without a flaw it does.
    let honest = Statement::signed(&e.document(), &e.ada);
    e.force(&honest);
    assert_eq!(e.counted().unwrap().statements(), [honest.digest()]);
}

#[test]
fn what_the_entry_says_beside_the_statement_is_not_believed() {
    if !need(Site::NEEDS) {
        return;
    }
    let e = Enclave::new(2);
    // Both are Ben's; the entry of one says that it is Ada's, and that of another's digest.
    let [one, two] = [1, 2].map(|n| {
        let mut document = e.document();
        document["note"] = json!(format!("number {n}"));
        Statement::signed(&document, &e.ben)
    });
    e.force(&one);
    let file = two.to(&e.site, "two");
    e.approve(&["--add", path(&file)]).expect_code(0);
    let standing = e.standing();
    assert_eq!(
        (&standing["counts"], &standing["statements"][1]["reason"]),
        (&json!(1), &json!("another approval of the same approver counts"))
    );
    assert_eq!(standing["statements"][0]["approver"]["fingerprint"], e.ben.fingerprint);
    assert!(e.counted().is_err(), "one approver is not two");
    // Ben takes it back, whoever the entry says that it is of.
    e.approve(&["payments-42", "--withdraw", "--sign-key", key(&e.ben)]).expect_code(0);
    assert_eq!(e.standing()["counts"], 0);

    // An entry that is about another bundle than its statement.
    let other = let_wait(&e.site, 43);
    let approved = Approved {
        subject: other.clone(),
        approver: e.ada.fingerprint.parse().unwrap(),
        statement: blobs::sha256(b"another"),
        not_after: later(86_400),
        file: OutsideText::whole(Statement::signed(&e.document(), &e.ada).text()),
    };
    e.site.open_ledger().approved(&stamp(), approved).unwrap();
    let standing = e.approve(&["payments-43", "--json"]).expect_code(0).json();
    assert_eq!(standing["counts"], 0);
    assert!(standing["statements"][0]["reason"].as_str().unwrap().contains("it is of bundle"), "{standing}");
}

#[test]
fn one_approver_counts_once() {
    if !need(Site::NEEDS) {
        return;
    }
    let e = Enclave::new(2);
    for _ in 0..2 {
        e.approve(&["payments-42", "--sign-key", key(&e.ada), "--for", "1d"]).expect_code(0);
    }
    let refused = e.counted().unwrap_err().to_string();
    assert!(refused.contains("2 of 3 needed, 1 counts"), "{refused}");
    assert!(refused.contains("another approval of the same approver counts"), "{refused}");
    e.approve(&["payments-42", "--sign-key", key(&e.ben), "--for", "1d"]).expect_code(0);
    assert_eq!(e.counted().unwrap().statements().len(), 2);
    // The first one of the same approver may have ended.
    let mut short = e.document();
    (short["made"], short["not_after"]) = (json!(later(-3600)), json!(later(2)));
    e.force(&Statement::signed(&short, &e.cleo));
    e.approve(&["payments-42", "--sign-key", key(&e.cleo), "--for", "1d"]).expect_code(0);
    std::thread::sleep(std::time::Duration::from_secs(3));
    let standing = e.standing();
    assert_eq!(standing["counts"], 3, "{standing:#}");
}

#[test]
fn an_approval_that_ends_while_the_program_runs_does_not_count() {
    if !need(Site::NEEDS) {
        return;
    }
    let e = Enclave::new(1);
    let mut short = e.document();
    short["not_after"] = json!(later(6));
    e.force(&Statement::signed(&short, &e.ada));
    let site = resolve(&e.site).unwrap();
    let ledger = site.read_ledger().unwrap().unwrap();
    let counted = || approvals::counted(&site, &ledger, &e.subject, &e.wanted(), None);
    assert_eq!(counted().unwrap().statements().len(), 1);
    std::thread::sleep(std::time::Duration::from_secs(7));
    assert!(matches!(counted(), Err(Error::NotApproved(_))));
}

#[test]
fn an_approver_whose_key_is_not_good_any_more_does_not_count() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut e = Enclave::new(1);
    let people = e.site.scratch("people");
    let expired = Key::with(&people, "expired", "2024-01-01T00:00:00Z", Some("2025-01-01T00:00:00Z"));
    e.site.import["approvers"]["certificates"] = json!([e.ada.certificate_file, expired.certificate_file]);
    e.force(&Statement::signed(&e.document(), &expired));
    let refused = e.counted().unwrap_err().to_string();
    assert!(refused.contains("the key expired on 2025-01-01T00:00:00Z"), "{refused}");
    let file = Statement::signed(&e.document(), &expired).to(&e.site, "expired");
    e.approve(&["--add", path(&file)]).expect_code(3).expect_stderr("the key expired");
    e.approve(&["payments-42", "--sign-key", key(&expired), "--for", "1h"]).expect_code(2).expect_stderr("cannot sign");

    // It counts until the key is revoked; the approval is older than the revocation.
    e.approve(&["payments-42", "--sign-key", key(&e.ada), "--for", "1h"]).expect_code(0);
    assert_eq!(e.counted().unwrap().statements().len(), 1);
    e.ada.revoke();
    let refused = e.counted().unwrap_err().to_string();
    assert!(refused.contains("the key was revoked"), "{refused}");
    // Nor after the certificate was taken out of the configuration.
    e.site.import["approvers"]["certificates"] = json!([e.ben.certificate_file]);
    let refused = e.counted().unwrap_err().to_string();
    assert!(refused.contains("unknown key"), "{refused}");
}

#[test]
fn clocks_may_differ_as_far_as_is_configured() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut e = Enclave::new(1);
    let mut ahead = e.document();
    ahead["made"] = json!(later(1800));
    e.force(&Statement::signed(&ahead, &e.ada));
    assert_eq!(e.counted().unwrap().statements().len(), 1);
    e.site.import["clock_tolerance"] = json!(600);
    let refused = e.counted().unwrap_err().to_string();
    assert!(refused.contains("(600 s of difference are accepted)"), "{refused}");
    e.site.import["clock_tolerance"] = json!(0);
    e.approve(&["payments-42", "--sign-key", key(&e.ada), "--for", "1h"]).expect_code(0);
    assert_eq!(e.counted().unwrap().statements().len(), 1);
    e.site.import["approvers"]["greatest_validity"] = json!("59h");
    e.approve(&["payments-42", "--sign-key", key(&e.ada), "--for", "60h"]).expect_code(3).expect_stderr("at most 59h");
    e.approve(&["payments-42", "--sign-key", key(&e.ada), "--for", "59h"]).expect_code(0);
}

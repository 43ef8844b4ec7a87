//! `ledger verify`, `head`, `adopt`: a ledger against heads that were kept elsewhere.

use std::fs;

use importer::access::{LedgerChecker, LedgerKey, stamp};
use ledger::{Begun, Custody, HeadStatement, Ledger, Signer};
use manifest_schema::{OutsideText, Timestamp};
use signing::SecretKey;
use testkit::{Key, Ran};

use crate::{Desk, bring_in, subject, text};

#[track_caller]
fn verify(desk: &Desk, args: &[&str]) -> Ran {
    desk.ledger(&[&["verify"], args].concat())
}

/// The head as it is now, in a file.
fn keep_head(desk: &Desk, name: &str) -> std::path::PathBuf {
    let file = desk.file(name);
    fs::write(&file, desk.ledger(&["head"]).expect_code(0).stdout).unwrap();
    file
}

/// A key, read from the site's folder.
fn secret(path: &std::path::Path) -> SecretKey {
    SecretKey::load(path, || -> Result<_, signing::Error> { panic!("no passphrase") }).unwrap()
}

/// What a statement says, changed, and signed by a key.
fn signed_again(statement: &str, key: &SecretKey, change: impl FnOnce(&mut HeadStatement)) -> Vec<u8> {
    let mut head = HeadStatement::parse(statement.lines().next().unwrap().as_bytes()).unwrap();
    change(&mut head);
    key.sign_statement(&serde_json::to_vec(&head).unwrap(), manifest_schema::Timestamp::now()).unwrap()
}

#[test]
fn verify_says_whose_key_signed_and_whether_it_is_the_expected_one() {
    let desk = Desk::new();
    bring_in(&mut desk.open(), "payments", 1);
    let keys = desk.read().keys().unwrap();
    let said = verify(&desk, &[]).expect_code(0);
    assert!(said.stdout.contains(&format!("head signed by key {} (Sealift ledger key) at 20", keys[0].1)), "{said}");
    let json = verify(&desk, &["--json"]).expect_code(0).json();
    assert_eq!((&json["key"], &json["signed"]["key"]), (&serde_json::json!(keys[0].1), &serde_json::json!(keys[0].1)));
    assert!(json["signed"]["signed_at"].as_str().unwrap().parse::<Timestamp>().is_ok());
    assert!(json["key_vouched"].is_null(), "nobody was expected");

    let own = verify(&desk, &["--certificate", "ledger.asc"]).expect_code(0);
    assert!(own.stdout.contains("the key is one that was given"), "{own}");
    let production = verify(&desk, &["--certificate", "production.asc"]).expect_code(0);
    assert!(production.stdout.contains("the key is certified by "), "{production}");
    // Somebody else's production key; a ledger key that nobody has certified.
    desk.keygen("production", "other");
    let other = verify(&desk, &["--certificate", "other/production.asc"]).expect_code(3);
    other.expect_stderr("expected a certification by").expect_stderr("found none");
    desk.keygen("ledger", "bare");
    verify(&desk, &["--certificate", "bare/ledger.asc"]).expect_code(3).expect_stderr("is not known");
    let both = ["--certificate", "other/production.asc", "--certificate", "production.asc"];
    verify(&desk, &both).expect_code(0);
    verify(&desk, &["--certificate", "nowhere.asc"]).expect_code(2);
}

#[test]
fn a_head_kept_elsewhere_shows_an_old_copy_and_stops_it_until_somebody_says_why() {
    let desk = Desk::new();
    bring_in(&mut desk.open(), "payments", 1);
    let early = keep_head(&desk, "early");
    let saved = desk.save();
    bring_in(&mut desk.open(), "payments", 2);
    let (late, receipt) = (keep_head(&desk, "late"), desk.file("receipt"));
    testkit::run_ok(&mut desk.import(&["receipt", "payments-2", "-o", text(&receipt)]));
    for file in [&early, &late, &receipt] {
        let has = verify(&desk, &["--head", text(file)]).expect_code(0);
        assert!(has.stdout.contains("which the ledger has"), "{has}");
    }
    // An old copy, with the second file of then: by itself it is right.
    desk.put_back(&saved);
    verify(&desk, &[]).expect_code(0);
    drop(desk.open());
    let behind = verify(&desk, &["--head", text(&early), "--head", text(&late)]).expect_code(1);
    assert!(behind.stdout.contains("entry 4, which the ledger has"), "{behind}");
    assert!(behind.stdout.contains("entry 7, which the ledger DOES NOT REACH"), "{behind}");
    let behind = behind.expect_stderr("ends with entry 4, but had entry 7").expect_stderr("hint: stop, keep the file");
    behind.expect_stderr("state: noted in the ledger: nothing is written to it from now on");
    let json = verify(&desk, &["--head", text(&late), "--json"]).expect_code(1).json();
    assert_eq!(json["heads"][0]["standing"], "behind");
    verify(&desk, &["--head", text(&receipt)]).expect_code(1).expect_stderr("but had entry 7");

    // From now on whatever writes is refused, and reading goes on.
    desk.ledger(&["certify"]).expect_code(1).expect_stderr("ends with entry 4, but had entry 7");
    desk.ledger(&["list"]).expect_code(0);
    desk.ledger(&["adopt"]).expect_code(2);
    desk.ledger(&["adopt", "--reason", " "]).expect_code(2).expect_stderr("a reason is missing");
    let adopted = desk.ledger(&["adopt", "--reason", "the disk died"]).expect_code(0);
    assert!(adopted.stdout.starts_with("adopted, in entry 5\n"), "{adopted}");
    assert!(adopted.stdout.contains("  lacks entry 7 of ") && !adopted.stderr.contains("warning"), "{adopted}");
    assert!(adopted.stdout.contains("  payments had come to 2\n"), "{adopted}");
    let known = verify(&desk, &["--head", text(&late)]).expect_code(0);
    assert!(known.stdout.contains("which the ledger lacks; somebody said why"), "{known}");
    desk.ledger(&["adopt", "--reason", "again"]).expect_code(2).expect_stderr("there is nothing to adopt");
    let shown = desk.ledger(&["show", "5"]).expect_code(0);
    assert!(shown.stdout.contains("the disk died") && shown.stdout.contains("lacks entry 7 of "), "{shown}");
    bring_in(&mut desk.open(), "payments", 3);
    verify(&desk, &["--certificate", "production.asc"]).expect_code(0);
}

#[test]
fn a_ledger_written_anew_is_found_by_any_head_or_proof_that_was_kept() {
    let desk = Desk::new();
    let saved = desk.save();
    bring_in(&mut desk.open(), "payments", 1);
    let (head, proof) = (keep_head(&desk, "kept"), desk.prove("4", "proof.json"));
    // Who has the machine and the key tells another story.
    desk.put_back(&saved);
    bring_in(&mut desk.open(), "payments", 7);
    verify(&desk, &[]).expect_code(0);
    for file in [&head, &proof] {
        let before = desk.save();
        let forked = verify(&desk, &["--head", text(file)]).expect_code(1);
        assert!(forked.stdout.contains("HAS ANOTHER ENTRY there"), "{forked}");
        forked.expect_stderr("is not the one that it had").expect_stderr("state: noted in the ledger");
        desk.ledger(&["certify"]).expect_code(1).expect_stderr("it was written anew");
        desk.put_back(&before);
    }
}

/// What proves nothing is refused, and stops nobody.
#[test]
fn a_head_that_is_not_validly_signed_is_refused_and_the_ledger_stays_as_it_is() {
    let desk = Desk::new();
    bring_in(&mut desk.open(), "payments", 1);
    let kept = fs::read_to_string(keep_head(&desk, "kept")).unwrap();
    let own = secret(&desk.file("ledger.secret.asc"));
    let other = secret(&desk.keygen("ledger", "other"));
    let named = |key: &SecretKey| key.fingerprint().as_str().parse::<ledger::Fingerprint>().unwrap();
    let far = |head: &mut HeadStatement| head.head.number = 99.try_into().unwrap();
    let foreign = Desk::new();
    let unknown = own
        .sign_statement(br#"{"type":"sealift/other/1","head":{"number":99}}"#, manifest_schema::Timestamp::now())
        .unwrap();
    let spaced = kept.lines().next().unwrap().replacen("\"number\":4", "\"number\": 9", 1);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("changed", kept.replacen("\"number\":4", "\"number\":9", 1).into_bytes(), "not a head that a key of"),
        (
            "without a signature",
            (kept.lines().next().unwrap().to_string() + "\n").into_bytes(),
            "not a head that a key of this ledger signed",
        ),
        ("empty", Vec::new(), "not a head that a key of this ledger signed"),
        ("by another key", signed_again(&kept, &other, |h| (far(h), h.key = named(&other)).1), "unknown key"),
        ("by another key in the name of ours", signed_again(&kept, &other, far), "unknown key"),
        ("in the name of another", signed_again(&kept, &own, |h| (far(h), h.key = named(&other)).1), "though it names"),
        ("another kind of statement", unknown, "of a type that carries no head"),
        (
            "not in its only form",
            own.sign_statement(spaced.as_bytes(), manifest_schema::Timestamp::now()).unwrap(),
            "not in canonical form",
        ),
        ("another ledger's", signed_again(&kept, &own, |h| h.head.ledger = *foreign.read().id()), "a head of ledger"),
    ];
    let mut wrong = Vec::new();
    for (what, bytes, says) in cases {
        let file = desk.file("bad");
        fs::write(&file, bytes).unwrap();
        let refused = verify(&desk, &["--head", text(&file)]);
        if refused.code != Some(3) || !refused.stderr.contains(says) {
            wrong.push(format!("{what}: expected `{says}`\n{refused}"));
        }
        // One of several: none of them counts.
        let good = desk.file("kept");
        if verify(&desk, &["--head", text(&good), "--head", text(&file)]).code != Some(3) {
            wrong.push(format!("{what}, beside a good one"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Nor does what a good one says beside it: first all of them have to be good.
    let saved = desk.save();
    bring_in(&mut desk.open(), "payments", 2);
    let late = keep_head(&desk, "late");
    desk.put_back(&saved);
    verify(&desk, &["--head", text(&late), "--head", "bad"]).expect_code(3);
    verify(&desk, &["--head", "nowhere"]).expect_code(2).expect_stderr("nowhere: cannot be read");
    drop(desk.open());
    desk.ledger(&["adopt", "--reason", "x"]).expect_code(2).expect_stderr("nothing to adopt");
}

/// A ledger key that hands out somebody else's certificate beside its own.
struct WithAnother(LedgerKey, Vec<u8>);

impl Signer for WithAnother {
    fn fingerprint(&self) -> ledger::Fingerprint {
        self.0.fingerprint()
    }
    fn certificate(&self) -> Result<Vec<u8>, OutsideText> {
        Ok([self.0.certificate()?, self.1.clone()].concat())
    }
    fn sign(&self, document: &[u8]) -> Result<Vec<u8>, OutsideText> {
        self.0.sign(document)
    }
}

#[test]
fn a_certificate_in_the_ledgers_file_is_no_key_of_the_ledger() {
    let desk = Desk::new();
    let theirs = Key::new(&desk.dir(), "theirs");
    let signer =
        WithAnother(LedgerKey(secret(&desk.file("ledger.secret.asc"))), fs::read(&theirs.certificate_file).unwrap());
    let (signer, checker) = (Box::new(signer), Box::new(LedgerChecker));
    let custody = Custody { signer, checker, second: desk.file("ledger.db.head") };
    bring_in(&mut Ledger::open(&desk.file("ledger.db"), None, Some(custody)).unwrap(), "payments", 1);
    // The certification is in the certificate's file.
    verify(&desk, &["--certificate", "production.asc"]).expect_code(0);
    verify(&desk, &["--certificate", text(&theirs.certificate_file)]).expect_code(3);
    let kept = fs::read_to_string(keep_head(&desk, "kept")).unwrap();
    let file = desk.file("bad");
    let named = theirs.secret.fingerprint().as_str().parse().unwrap();
    let made_up = signed_again(&kept, &theirs.secret, |h| (h.key = named, h.head.number = 99.try_into().unwrap()).0);
    fs::write(&file, made_up).unwrap();
    verify(&desk, &["--head", text(&file)]).expect_code(3).expect_stderr("it is signed by");
    drop(desk.open());
}

#[test]
fn heads_of_earlier_keys_count_and_so_do_those_of_a_certificate_that_is_given() {
    let desk = Desk::new();
    bring_in(&mut desk.open(), "payments", 1);
    let early = keep_head(&desk, "early");
    let new = desk.keygen("ledger", "new");
    desk.ledger(&["rotate-key", "--new-key", text(&new)]).expect_code(0);
    let has = verify(&desk, &["--head", text(&early)]).expect_code(0);
    assert!(has.stdout.contains("entry 4, which the ledger has"), "{has}");
    // But it signs for nothing that came after it.
    let old = secret(&desk.file("ledger.secret.asc"));
    let late = signed_again(&fs::read_to_string(&early).unwrap(), &old, |h| h.head.number = 5.try_into().unwrap());
    fs::write(desk.file("late"), late).unwrap();
    verify(&desk, &["--head", "late"]).expect_code(3).expect_stderr("signs for none from entry 5 on");
    // Who knows the key of before knows the one of now; so does who has the production key's certificate.
    let known = verify(&desk, &["--certificate", "ledger.asc"]).expect_code(0);
    assert!(known.stdout.contains("by changes that both keys signed"), "{known}");
    verify(&desk, &["--certificate", "new/ledger.asc"]).expect_code(0);
    verify(&desk, &["--certificate", "production.asc"]).expect_code(0);

    // A ledger of the same id that somebody made with a key of his own: only who kept the real key's certificate sees it.
    let theirs = Key::new(&desk.file("new"), "theirs");
    let kept = fs::read_to_string(&early).unwrap();
    let other = desk.file("other-head");
    let named = theirs.secret.fingerprint().as_str().parse().unwrap();
    let lost = signed_again(&kept, &theirs.secret, |h| {
        h.key = named;
        h.head.number = 99.try_into().unwrap();
    });
    fs::write(&other, lost).unwrap();
    verify(&desk, &["--head", text(&other)]).expect_code(3).expect_stderr("with --certificate");
    let given =
        ["--head", text(&other), "--certificate", text(&theirs.certificate_file), "--certificate", "ledger.asc"];
    verify(&desk, &given).expect_code(1).expect_stderr("but had entry 99");
    let only = ["--head", text(&other), "--certificate", text(&theirs.certificate_file)];
    verify(&desk, &only).expect_code(3).expect_stderr("is not known");
}

#[test]
fn a_copy_from_before_the_ledger_key_was_changed_keeps_what_the_second_file_says() {
    let desk = Desk::new();
    bring_in(&mut desk.open(), "payments", 1);
    let saved: Vec<_> = desk.save().into_iter().filter(|(path, _)| !path.ends_with("ledger.db.head")).collect();
    let new = desk.keygen("ledger", "new");
    desk.ledger(&["rotate-key", "--new-key", text(&new)]).expect_code(0);
    bring_in(&mut desk.open_with("new/ledger.secret.asc"), "payments", 2);
    let second = fs::read(desk.file("ledger.db.head")).unwrap();
    desk.put_back(&saved);
    fs::write(desk.file("ledger.db.head"), &second).unwrap();

    let not_then = desk.ledger(&["certify", "--ledger-key", "new/ledger.secret.asc"]).expect_code(2);
    not_then.expect_stderr("needs the key of then");
    let adopt = |more: &[&str]| desk.ledger(&[&["adopt", "--reason", "the disk died"], more].concat());
    for refused in [desk.ledger(&["certify"]), adopt(&[]), adopt(&["--certificate", "production.asc"])] {
        refused.expect_code(1).expect_stderr("unknown key").expect_stderr("--certificate FILE");
    }
    let entries = desk.entries();
    let adopted = adopt(&["--certificate", "new/ledger.asc"]).expect_code(0);
    assert!(adopted.stdout.contains("  payments had come to 2\n"), "{adopted}");
    assert_eq!(desk.entries(), entries + 1);
    desk.ledger(&["verify"]).expect_code(0);
    desk.ledger(&["rotate-key", "--new-key", text(&new)]).expect_code(0);
    bring_in(&mut desk.open_with("new/ledger.secret.asc"), "payments", 3);
    desk.ledger(&["verify", "--certificate", "production.asc"]).expect_code(0);
}

/// Nothing is left of the second file: receipts and heads that were kept elsewhere say how far streams had come.
#[test]
fn what_receipts_and_heads_say_of_streams_is_taken_over_and_where_there_are_none_it_is_said() {
    let desk = Desk::new();
    bring_in(&mut desk.open(), "payments", 1);
    let saved = desk.save();
    bring_in(&mut desk.open(), "payments", 2);
    bring_in(&mut desk.open(), "api", 4);
    let (receipt, head) = (desk.file("receipt"), keep_head(&desk, "head"));
    testkit::run_ok(&mut desk.import(&["receipt", "payments-2", "-o", text(&receipt)]));
    let gone = |desk: &Desk| {
        desk.put_back(&saved);
        fs::remove_file(desk.file("ledger.db.head")).unwrap();
        desk.ledger(&["certify"]).expect_code(1).expect_stderr("ledger verify --head FILE");
    };
    let adopt = || desk.ledger(&["adopt", "--reason", "the disks died"]).expect_code(0);

    gone(&desk);
    let adopted = adopt();
    assert!(adopted.stderr.contains("warning: nothing says what the ledger lacks"), "{adopted}");
    for (shown, marks) in
        [(&receipt, vec!["payments had come to 2"]), (&head, vec!["api had come to 4", "payments had come to 2"])]
    {
        gone(&desk);
        verify(&desk, &["--head", text(shown)]).expect_code(1);
        let adopted = adopt();
        let said: Vec<_> = adopted.stdout.lines().map(str::trim).filter(|line| line.contains("had come")).collect();
        assert_eq!(said, marks, "{adopted}");
    }
    let older = subject("api", 3);
    let begun = Begun { subject: older, signed: Some(Timestamp::now()), newest_signed: None };
    let refused = desk.open().begin(&stamp().unwrap(), begun);
    assert!(matches!(refused, Err(ledger::Error::Refusal(ledger::Refusal::Rollback { .. }))), "{refused:?}");
}

#[test]
fn the_second_file_is_looked_at_too_and_a_ledger_in_use_says_so() {
    let desk = Desk::new();
    bring_in(&mut desk.open(), "payments", 1);
    let saved = desk.save();
    bring_in(&mut desk.open(), "payments", 2);
    let second = fs::read(desk.file("ledger.db.head")).unwrap();
    desk.put_back(&saved);
    fs::write(desk.file("ledger.db.head"), &second).unwrap();
    let behind = verify(&desk, &[]).expect_code(1);
    behind.expect_stderr("ends with entry 4, but had entry 7");
    desk.put_back(&saved);
    // Somebody writes: what was found cannot be noted, and is said all the same.
    let late = desk.file("late");
    fs::write(&late, &second).unwrap();
    let writer = desk.open();
    let busy = verify(&desk, &["--head", text(&late)]).expect_code(1);
    busy.expect_stderr("but had entry 7").expect_stderr("state: this could not be noted in the ledger");
    drop(writer);
    verify(&desk, &["--head", text(&late)]).expect_code(1).expect_stderr("state: noted");
    fs::remove_file(desk.file("ledger.db.head")).unwrap();
    let second_is_gone = |ran: &Ran| ran.stdout.contains("ledger.db.head: the second file is not here");
    let stopped = verify(&desk, &[]).expect_code(1);
    assert!(stopped.stdout.contains("shown before: entry 7, which the ledger DOES NOT REACH"), "{stopped}");
    assert!(second_is_gone(&stopped), "{stopped}");
    stopped.expect_stderr("but had entry 7").expect_stderr("until `ledger adopt` says why");
    desk.ledger(&["adopt", "--reason", "the newer one is lost"]).expect_code(0);
    let good = verify(&desk, &[]).expect_code(0);
    assert!(!second_is_gone(&good), "{good}");
}

#[test]
fn a_ledger_whose_head_is_gone_is_gone_on_with_as_the_hint_says() {
    let desk = Desk::new();
    bring_in(&mut desk.open(), "payments", 1);
    rusqlite::Connection::open(desk.file("ledger.db")).unwrap().execute("DELETE FROM head", []).unwrap();
    let gone = verify(&desk, &[]).expect_code(1);
    gone.expect_stderr("the signed head of entry 4 is not right: there is none")
        .expect_stderr("`sealift-import ledger adopt");
    desk.ledger(&["adopt", "--reason", "lost"]).expect_code(0);
    verify(&desk, &[]).expect_code(0);
}

#[test]
fn a_ledger_without_a_key_can_be_verified_and_nothing_else() {
    let desk = Desk::new();
    let path = desk.file("plain.db");
    ledger::Ledger::create(&path, &stamp().unwrap(), ledger::Created::default(), None).unwrap();
    let with = |args: &[&str]| desk.ledger(&[args, &["--ledger", text(&path)]].concat());
    let said = with(&["verify"]).expect_code(0);
    assert!(said.stdout.contains("heads are not signed"), "{said}");
    keep_head(&desk, "kept");
    for args in
        [&["verify", "--head", "kept"][..], &["verify", "--certificate", "ledger.asc"], &["head"], &["prove", "1"]]
    {
        with(args).expect_code(2).expect_stderr("its heads are not signed");
    }
}

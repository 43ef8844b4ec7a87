//! Signed heads, the second file, and a ledger that is not what it was.

mod common;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use ledger::{
    Act, ApprovalWithdrawn, Checked, Checker, Created, Custody, Error, Fault, Fingerprint, Head, HeadStanding,
    HeadStatement, KeptHead, Ledger, Refusal, Rule, Signer, Signing, Standing,
};
use manifest_schema::OutsideText;

fn reason() -> OutsideText {
    OutsideText::new("the disk died, and the backup is of Monday")
}

fn second(place: &Place) -> HeadStatement {
    let file = fs::read_to_string(place.custody().second).expect("the second file");
    HeadStatement::parse(file.lines().next().expect("a line").as_bytes()).expect("a head")
}

#[test]
fn every_entry_brings_a_signed_head_into_the_database_and_the_second_file() {
    let place = place();
    assert_eq!(second(&place).head, place.read().head().expect("a head"), "from the first entry on");
    let mut ledger = place.open();
    import(&mut ledger, "payments", 7, 10);
    import(&mut ledger, "api", 2, 20);
    let head = ledger.head().expect("a head");
    let found = second(&place);
    assert_eq!((found.head, &found.key), (head, &ledger_key('A')));
    let marks: Vec<_> = found.marks.iter().map(|m| (m.stream.to_string(), m.sequence.get())).collect();
    assert_eq!(marks, [("api".into(), 2), ("payments".into(), 7)]);
    let KeptHead { statement, certificate } = ledger.signed_head().expect("read").expect("a head");
    assert_eq!(statement, fs::read(place.custody().second).expect("the second file"));
    assert_eq!(certificate, place.custody().signer.certificate().expect("the certificate"));
    let verified = ledger.verify(&Keys).expect("right");
    assert_eq!((verified.head, verified.key), (head, Some(ledger_key('A'))));
    // Nothing new, nothing signed.
    let _ = ledger.begin(&stamp(99), begun(&subject("api", 2))).expect("known");
    assert_eq!(second(&place), found);
}

#[test]
fn only_the_ledger_key_writes() {
    let place = place();
    let open = |custody| Ledger::open(&place.path, Some(&place.id), custody);
    assert!(matches!(open(None), Err(Error::NeedsKey { key, .. }) if key == ledger_key('A')));
    assert!(matches!(open(Some(custody(&place.path, 'B'))), Err(Error::OtherKey { expected: Some(key), given, .. })
            if key == ledger_key('A') && given == ledger_key('B')));
    // Somebody who has the file and another key signs for himself.
    import(&mut place.open(), "payments", 1, 10);
    let raw = place.raw();
    let forged = fs::read_to_string(place.custody().second).expect("a head").replace("AAAA", "BBBB");
    raw.execute(
        "UPDATE head SET statement = ?1, certificate = ?2",
        (forged.as_bytes(), ("B".repeat(40) + "\n").as_bytes()),
    )
    .expect("changed");
    drop(raw);
    let wrong = |result: Result<(), Error>| matches!(result, Err(Error::Tampered { fault: Fault::Head { .. }, .. }));
    assert!(wrong(place.read().verify(&Keys).map(|_| ())));
    assert!(wrong(place.try_open().map(|_| ())));
}

#[test]
fn a_kept_head_is_of_the_last_entry_and_says_how_far_streams_have_come() {
    for change in [
        ("a head before", "UPDATE head SET statement = (SELECT statement FROM before.head)"),
        ("no head", "DELETE FROM head"),
        ("another's", "UPDATE head SET certificate = x'00'"),
    ] {
        let place = place();
        import(&mut place.open(), "payments", 1, 10);
        let before = place.folder.path().join("before.db");
        fs::copy(&place.path, &before).expect("copied");
        import(&mut place.open(), "payments", 2, 20);
        let raw = place.raw();
        raw.execute("ATTACH ?1 AS before", [before.display().to_string()]).expect("attached");
        raw.execute_batch(change.1).expect(change.0);
        drop(raw);
        let found = place.read().verify(&Keys);
        assert!(matches!(found, Err(Error::Tampered { fault: Fault::Head { .. }, .. })), "{}: {found:?}", change.0);
        if change.0 != "no head" {
            assert!(place.try_open().is_err(), "{}", change.0);
        }
    }
}

#[test]
fn a_kept_head_differs_in_nothing_from_what_the_ledger_key_would_sign() {
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    let before = second(&place);
    // An entry that brings no stream further.
    let _ = place.open().begin(&stamp(20), begun(&subject("payments", 2))).expect("begun");
    let right = second(&place);
    assert_eq!((&right.key, &right.marks), (&before.key, &before.marks));
    let more = place.raw().execute("INSERT INTO head SELECT 2, statement, certificate FROM head", []);
    assert!(more.is_err(), "one is kept");
    let root = Head { root: before.head.root, ..right.head };
    let late = Head { time: stamp(21).now, ..right.head };
    for (what, statement, letter) in [
        ("nothing", right.clone(), 'A'),
        ("the key", HeadStatement { key: ledger_key('B'), ..right.clone() }, 'B'),
        ("the entry", before.clone(), 'A'),
        ("the root", HeadStatement { head: root, ..right.clone() }, 'A'),
        ("the time", HeadStatement { head: late, ..right.clone() }, 'A'),
        ("the marks", HeadStatement { marks: vec![], ..right.clone() }, 'A'),
    ] {
        let key = Key(ledger_key(letter));
        let signed = key.sign(&serde_json::to_vec(&statement).expect("bytes")).expect("signed");
        let row = (signed, key.certificate().expect("a certificate"));
        place.raw().execute("UPDATE head SET statement = ?1, certificate = ?2", row).expect("changed");
        let found = [
            place.read().verify(&Keys).map(|_| ()),
            place.read().checked_head(&Keys).map(|_| ()),
            place.try_open().map(|_| ()),
        ];
        for found in found {
            let is_head = matches!(found, Err(Error::Tampered { fault: Fault::Head { .. }, .. }));
            assert!(if what == "nothing" { found.is_ok() } else { is_head }, "{what}: {found:?}");
        }
    }
}

#[test]
fn an_old_copy_put_back_is_not_written_to_until_somebody_says_why() {
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    let old = fs::read(&place.path).expect("the file");
    import(&mut place.open(), "payments", 2, 20);
    let lost = place.read().head().expect("a head");
    place.put_back(&old);

    let refused = place.try_open().expect_err("behind");
    assert!(matches!(&refused, Error::Behind { head, .. } if **head == lost), "{refused}");
    let _ = place.read().verify(&Keys).expect("by itself it is right");
    assert_eq!(place.read().standing_of(&lost).expect("read"), HeadStanding::Behind);
    let adopt = |seconds| Ledger::adopt(&place.path, Some(&place.id), place.custody(), &stamp(seconds), reason(), &[]);
    let entry = adopt(30).expect("adopted");

    let mut ledger = place.open();
    let said = ledger.entry(entry).expect("read").expect("an entry").entry.act;
    assert!(
        matches!(&said, Act::Adopted(a) if a.heads == [lost] && a.marks.len() == 1 && a.marks[0].sequence.get() == 2)
    );
    assert_eq!(ledger.standing_of(&lost).expect("read"), HeadStanding::Adopted, "shown again, it is known");
    for other in
        [Head { hash: ledger::entry_hash(b"another entry"), ..lost }, Head { number: lost.number.next(), ..lost }]
    {
        assert_eq!(ledger.standing_of(&other).expect("read"), HeadStanding::Behind, "and no other");
    }
    // What had reached production is not forgotten, though the entries that said so are.
    let rolled_back = ledger.begin(&stamp(40), begun(&subject("payments", 1)));
    assert!(matches!(rolled_back, Ok(Standing::AlreadyRecorded { .. })));
    ledger.note_shown(&known(lost)).expect("noted");
    drop(ledger);
    let mut ledger = place.open();
    import(&mut ledger, "payments", 3, 50);
    let _ = ledger.verify(&Keys).expect("right");
    assert!(matches!(adopt(60), Err(Error::Busy { .. })));
    drop(ledger);
    assert!(matches!(adopt(60), Err(Error::NothingToAdopt(_))));
}

#[test]
fn marks_of_a_lost_head_keep_what_is_older_out() {
    let place = place();
    let _ = place.open().begin(&stamp(5), begun(&subject("payments", 1))).expect("begun");
    let old = fs::read(&place.path).expect("the file");
    import(&mut place.open(), "payments", 2, 20);
    place.put_back(&old);
    Ledger::adopt(&place.path, None, place.custody(), &stamp(30), reason(), &[]).expect("adopted");
    let mut ledger = place.open();
    let older = ledger.begin(&stamp(40), begun(&subject("payments", 1)));
    assert!(matches!(older, Err(Error::Refusal(Refusal::Rollback { newest, .. })) if newest.get() == 2), "{older:?}");
    assert_eq!(ledger.newest(&subject("payments", 1).stream).expect("read").map(|n| n.get()), Some(2));
    let _ = ledger.verify(&Keys).expect("right");
}

#[test]
fn a_ledger_written_anew_is_found() {
    let place = place();
    let old = fs::read(&place.path).expect("the file");
    import(&mut place.open(), "payments", 1, 10);
    place.put_back(&old);
    // The owner of file and key goes on from there, without the second file.
    fs::remove_file(place.custody().second).expect("removed");
    let honest = { Ledger::open(&place.path, None, Some(place.custody())).expect("one entry, as `create` left it") };
    drop(honest);
    import(&mut place.open(), "payments", 9, 10);
    import(&mut place.open(), "payments", 10, 20);
    let shown = Head { number: 2.try_into().expect("a number"), ..place.read().head().expect("a head") };
    let ledger = place.read();
    assert_eq!(ledger.standing_of(&shown).expect("read"), HeadStanding::Forked);
    drop(ledger);
    place.open().note_shown(&known(shown)).expect("noted");
    assert!(matches!(place.try_open(), Err(Error::Forked { head, .. }) if *head == shown));
    Ledger::adopt(&place.path, None, place.custody(), &stamp(40), reason(), &[]).expect("adopted");
    place.open();
}

#[test]
fn the_second_file_must_be_there_and_be_signed() {
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    let second = place.custody().second;
    let good = fs::read_to_string(&second).expect("the second file");
    for (what, bad) in [
        ("changed", good.replace("\"number\":4", "\"number\":3")),
        ("not signed", good.lines().next().expect("a line").to_string() + "\n"),
        ("empty", String::new()),
        ("by another key", good.replace("AAAA", "BBBB")),
    ] {
        assert_ne!(bad, good);
        fs::write(&second, bad).expect("written");
        assert!(matches!(place.try_open(), Err(Error::BadSecond { .. })), "{what}");
    }
    fs::remove_file(&second).expect("removed");
    assert!(matches!(place.try_open(), Err(Error::NoSecond { .. })));
    Ledger::adopt(&place.path, None, place.custody(), &stamp(30), reason(), &[]).expect("adopted");
    place.open();
    assert!(second.is_file());
}

#[test]
fn a_second_file_that_cannot_be_written_is_said_and_nothing_is_lost() {
    let place = place();
    let mut ledger = place.open();
    let _ = ledger.begin(&stamp(5), begun(&subject("payments", 1))).expect("begun");
    let second = place.custody().second;
    let new = second.with_extension("head.new");
    fs::create_dir(&new).expect("something in its way");
    let failed = ledger.signing(&stamp(6), signing(&subject("payments", 1)));
    assert!(matches!(failed, Err(Error::Io { .. })), "{failed:?}");
    fs::remove_dir(&new).expect("removed");
    drop(ledger);
    let mut ledger = place.open();
    let entry = ledger.signing(&stamp(7), signing(&subject("payments", 1))).expect("it is there already");
    assert_eq!(entry.get(), 3);
    ledger.record(&stamp(8), recorded(&subject("payments", 1))).expect("recorded");
    let _ = ledger.verify(&Keys).expect("right");
}

/// Believes that every key signed everything.
struct Gullible;

impl Checker for Gullible {
    fn check(&self, statement: &[u8], _: &[u8]) -> Result<Checked, OutsideText> {
        let document = statement.split(|b| *b == b'\n').next().unwrap_or_default().to_vec();
        Ok(Checked { document, signers: ['A', 'B', 'C'].map(ledger_key).to_vec() })
    }
}

/// Signs nothing, something else, or in the name of another key.
struct Broken(&'static str);

impl Signer for Broken {
    fn fingerprint(&self) -> Fingerprint {
        ledger_key('A')
    }
    fn certificate(&self) -> Result<Vec<u8>, OutsideText> {
        Key(ledger_key(if self.0 == "another key" { 'B' } else { 'A' })).certificate()
    }
    fn sign(&self, document: &[u8]) -> Result<Vec<u8>, OutsideText> {
        let text = String::from_utf8_lossy(document);
        match self.0 {
            "nothing" => Ok(text.into_owned().into_bytes()),
            "another state" => {
                Key(self.fingerprint()).sign(text.replacen("\"time\":\"2026", "\"time\":\"2027", 1).as_bytes())
            }
            "another key" => Key(ledger_key('B')).sign(document),
            _ => Key(self.fingerprint()).sign(document),
        }
    }
}

#[test]
fn a_head_that_nobody_would_believe_is_not_kept() {
    for what in ["nothing", "another state", "another key"] {
        let place = place();
        import(&mut place.open(), "payments", 1, 10);
        let before = (place.read().head().expect("a head"), second(&place));
        let broken = |path| Custody { signer: Box::new(Broken(what)), ..custody(path, 'A') };
        let mut ledger = Ledger::open(&place.path, None, Some(broken(&place.path))).expect("opens");
        let refused = ledger.begin(&stamp(20), begun(&subject("payments", 2)));
        assert!(matches!(refused, Err(Error::Key { .. })), "{what}: {refused:?}");
        assert!(matches!(ledger.sign_head(), Err(Error::Key { .. })), "{what}");
        drop(ledger);
        assert_eq!((place.read().head().expect("a head"), second(&place)), before, "{what}");
        let (new, facts) = (place.folder.path().join("new.db"), Created::default());
        let refused = Ledger::create(&new, &stamp(0), facts, Some(&broken(&new)));
        assert!(matches!(refused, Err(Error::Key { .. })), "{what}: {refused:?}");
        assert!(!new.exists(), "{what}");
    }
}

/// Another key from some time on.
struct Turning(Arc<AtomicBool>);

impl Turning {
    fn key(&self) -> Key {
        Key(ledger_key(if self.0.load(Ordering::SeqCst) { 'B' } else { 'A' }))
    }
}

impl Signer for Turning {
    fn fingerprint(&self) -> Fingerprint {
        self.key().0
    }
    fn certificate(&self) -> Result<Vec<u8>, OutsideText> {
        self.key().certificate()
    }
    fn sign(&self, document: &[u8]) -> Result<Vec<u8>, OutsideText> {
        self.key().sign(document)
    }
}

#[test]
fn no_other_key_signs_for_a_ledger_that_is_open() {
    let place = place();
    let turned = Arc::new(AtomicBool::new(false));
    let custody = Custody { signer: Box::new(Turning(turned.clone())), ..place.custody() };
    let mut ledger = Ledger::open(&place.path, None, Some(custody)).expect("opens");
    let _ = ledger.begin(&stamp(5), begun(&subject("payments", 1))).expect("begun");
    turned.store(true, Ordering::SeqCst);
    let refused = ledger.begin(&stamp(6), begun(&subject("payments", 2)));
    assert!(matches!(&refused, Err(Error::OtherKey { given, .. }) if *given == ledger_key('B')), "{refused:?}");
    assert_eq!(place.read().head().expect("a head").number.get(), 2);
    let known = ledger.begin(&stamp(6), begun(&subject("payments", 1)));
    assert!(matches!(known, Ok(Standing::Resumed { .. })), "where nothing is written, nothing is signed: {known:?}");
}

#[test]
fn a_key_change_is_signed_by_both_keys() {
    let mut place = place();
    let mut ledger = place.open();
    import(&mut ledger, "payments", 1, 10);
    assert!(matches!(ledger.change_key(&stamp(20), Box::new(Key(ledger_key('A'))), join), Err(Error::SameKey { .. })));
    let entry = ledger.change_key(&stamp(20), Box::new(Key(ledger_key('B'))), join).expect("changed");
    import(&mut ledger, "payments", 2, 30);
    let verified = ledger.verify(&Keys).expect("right");
    assert_eq!((verified.key, ledger.key().expect("read")), (Some(ledger_key('B')), Some(ledger_key('B'))));
    let Some(Act::KeyChanged(change)) = ledger.entry(entry).expect("read").map(|s| s.entry.act) else {
        panic!("no change")
    };
    assert_eq!((change.from, change.to), (Some(ledger_key('A')), ledger_key('B')));
    drop(ledger);
    assert!(matches!(place.try_open(), Err(Error::OtherKey { .. })), "the old key signs no more");
    place.key = 'B';
    let back = place.open().change_key(&stamp(40), Box::new(Key(ledger_key('A'))), join);
    assert!(matches!(back, Err(Error::EarlierKey { .. })), "each key has one time: {back:?}");

    // Only one of them signs: that is not written, and found if somebody writes it all the same.
    let half = |one: &[u8], two: &[u8]| join(one, two).map(|_| two.to_vec());
    let change = |ledger: &mut Ledger| ledger.change_key(&stamp(40), Box::new(Key(ledger_key('C'))), half);
    let before = place.read().head().expect("a head");
    let refused = change(&mut place.open());
    assert!(matches!(&refused, Err(Error::Key { key, .. }) if *key == ledger_key('C')), "{refused:?}");
    assert_eq!(place.read().head().expect("a head"), before);
    let custody = Custody { checker: Box::new(Gullible), ..place.custody() };
    change(&mut Ledger::open(&place.path, None, Some(custody)).expect("opens")).expect("written");
    let found = place.read().verify(&Keys);
    assert!(matches!(found, Err(Error::Tampered { fault: Fault::KeyChange { .. }, .. })), "{found:?}");
}

#[test]
fn an_inclusion_proof_leads_from_an_entry_to_the_signed_root() {
    let place = place();
    let mut ledger = place.open();
    for n in 1..=9 {
        import(&mut ledger, "payments", n, n as i64 * 10);
    }
    let head = second(&place).head;
    for number in 1..=head.number.get() {
        let stored = ledger.entry(number.try_into().expect("a number")).expect("read").expect("an entry");
        let proof = ledger.inclusion_proof(stored.entry.number, head.number).expect("read").expect("a proof");
        let leaf = ledger::leaf(&stored.bytes);
        assert!(ledger::proves(leaf, stored.entry.number, head.number.get(), &proof, &head.root), "{number}");
        let other = ledger::leaf(b"{\"type\":\"sealift/ledger-entry/1\"}");
        assert!(!ledger::proves(other, stored.entry.number, head.number.get(), &proof, &head.root), "{number}");
    }
}

#[test]
fn overrides_are_for_one_bundle_and_one_rule() {
    let place = place();
    let mut ledger = place.open();
    import(&mut ledger, "payments", 2, 10);
    let (old, other) = (subject("payments", 1), subject("payments", 0x1001));
    let begin = |ledger: &mut Ledger, s, seconds| ledger.begin(&stamp(seconds), begun(s));
    assert!(matches!(begin(&mut ledger, &old, 20), Err(Error::Refusal(Refusal::Rollback { .. }))));
    ledger.override_rules(&stamp(20), overridden(&old, &[Rule::Expired, Rule::Approvals])).expect("written");
    assert!(matches!(begin(&mut ledger, &old, 20), Err(Error::Refusal(Refusal::Rollback { .. }))), "another rule");
    let mut same_id = old.clone();
    same_id.manifest = digest("another manifest");
    ledger.override_rules(&stamp(20), overridden(&same_id, &[Rule::Rollback])).expect("written");
    assert!(matches!(begin(&mut ledger, &old, 20), Err(Error::Refusal(Refusal::Rollback { .. }))), "another manifest");
    let found = |ledger: &Ledger, s| ledger.override_of(s, Rule::Rollback).expect("read");
    assert_eq!(found(&ledger, &old), None);
    let entry = ledger.override_rules(&stamp(20), overridden(&old, &[Rule::Rollback])).expect("written");
    assert_eq!(found(&ledger, &old), Some(entry));
    let _ = begin(&mut ledger, &old, 20).expect("it may pass");
    ledger.signing(&stamp(21), signing(&old)).expect("it may pass here too");
    ledger.record(&stamp(22), recorded(&old)).expect("recorded");
    assert_eq!(ledger.newest(&old.stream).expect("read").map(|n| n.get()), Some(2), "the stream does not go back");

    // Another bundle under a number that was begun.
    let taken = ledger::Subject { bundle: other.bundle, ..subject("payments", 2) };
    let taken = ledger::Subject { manifest: digest("other content"), ..taken };
    assert!(matches!(begin(&mut ledger, &taken, 30), Err(Error::Refusal(Refusal::OtherBundle { .. }))));
    ledger.override_rules(&stamp(30), overridden(&taken, &[Rule::Number])).expect("written");
    assert!(matches!(begin(&mut ledger, &taken, 30), Ok(Standing::New { .. })));
    assert!(matches!(begin(&mut ledger, &taken, 30), Ok(Standing::Resumed { .. })));
    assert_eq!(ledger.state_of(&taken.stream, taken.sequence).expect("read").map(|r| r.subject), Some(taken.clone()));
    let first = subject("payments", 2);
    let before = begin(&mut ledger, &first, 30);
    let is_taken = |begun| begun == taken.bundle;
    assert!(matches!(before, Err(Error::Refusal(Refusal::OtherBundle { begun, .. })) if is_taken(begun)), "{before:?}");

    // A clock that is behind.
    let late = subject("payments", 3);
    assert!(matches!(begin(&mut ledger, &late, 1), Err(Error::Refusal(Refusal::ClockBehind { .. }))));
    ledger.override_rules(&stamp(1), overridden(&late, &[Rule::Clock])).expect("written");
    assert!(matches!(begin(&mut ledger, &late, 1), Ok(Standing::New { .. })));
    let _ = ledger.verify(&Keys).expect("right");
}

#[test]
fn a_bundle_waits_is_approved_and_promoted_in_parts() {
    let place = place();
    let mut ledger = place.open();
    let s = subject("payments", 1);
    let status = |ledger: &Ledger| ledger.state_of(&s.stream, s.sequence).expect("read").map(|r| r.status.as_str());
    assert!(matches!(ledger.received(&stamp(1), received(&s)), Err(Error::NotBegun(_))));
    assert!(matches!(ledger.approved(&stamp(1), approved(&s, 'B')), Err(Error::NotBegun(_))));
    let _ = ledger.begin(&stamp(1), begun(&s)).expect("begun");
    assert!(matches!(ledger.approved(&stamp(2), approved(&s, 'B')), Err(Error::NotReceived(_))));
    let entry = ledger.received(&stamp(2), received(&s)).expect("received");
    assert_eq!(ledger.received(&stamp(3), received(&s)).expect("again"), entry);
    assert_eq!(status(&ledger), Some("received"));
    let kept = |ledger: &Ledger| ledger.kept(&s, "small").expect("read");
    ledger.keep(&s, |keep| keep("small", b"bytes")).expect("kept");
    assert_eq!(kept(&ledger), Some(b"bytes".to_vec()));
    ledger.refused(&stamp(3), refused(&s)).expect("a later refusal");
    assert_eq!(kept(&ledger), Some(b"bytes".to_vec()), "a refusal does not end the wait");

    let other = ledger::Subject { manifest: digest("another manifest"), ..s.clone() };
    let others = ledger.approved(&stamp(4), approved(&other, 'B'));
    assert!(matches!(others, Err(Error::Refusal(Refusal::OtherManifest { .. }))), "{others:?}");
    let first = ledger.approved(&stamp(4), approved(&s, 'B')).expect("approved");
    assert_eq!(ledger.approved(&stamp(5), approved(&s, 'B')).expect("the same again"), first);
    let two = subject("payments", 2);
    let _ = ledger.begin(&stamp(5), begun(&two)).expect("begun");
    ledger.received(&stamp(5), received(&two)).expect("received");
    let same = ledger::Approved { statement: approved(&s, 'B').statement, ..approved(&two, 'B') };
    let others = ledger.approved(&stamp(5), same);
    assert!(
        matches!(others, Err(Error::Refusal(Refusal::ApprovalOfOther { entry, .. })) if entry == first),
        "{others:?}"
    );
    ledger.approval_withdrawn(&stamp(5), approval_withdrawn(&s, 'C')).expect("before it is known");
    let dead = ledger.approved(&stamp(6), approved(&s, 'C'));
    assert!(matches!(dead, Err(Error::Refusal(Refusal::ApprovalWithdrawn { .. }))));
    let counted = |ledger: &Ledger| ledger.approvals(&s.bundle).expect("read").len();
    assert_eq!(counted(&ledger), 1);
    let by = |letter| ApprovalWithdrawn { approver: ledger_key(letter), ..approval_withdrawn(&s, 'B') };
    ledger.approval_withdrawn(&stamp(7), by('C')).expect("written");
    assert_eq!(counted(&ledger), 1, "nobody takes back what somebody else approved");
    let entry = ledger.approval_withdrawn(&stamp(7), by('B')).expect("withdrawn");
    assert_eq!(ledger.approval_withdrawn(&stamp(8), by('B')).expect("again"), entry);
    assert_eq!(counted(&ledger), 0);
    assert_eq!(ledger.all_approvals(&s.bundle).expect("read").len(), 1);

    ledger.promoted(&stamp(8), recorded(&s)).expect_err("not announced");
    ledger.signing(&stamp(8), signing(&s)).expect("announced");
    assert_eq!(status(&ledger), Some("signing"));
    let late = ledger.rejected(&stamp(8), rejected(&s));
    assert!(matches!(late, Err(Error::Refusal(Refusal::Unfinished { .. }))), "its tags are about to move");
    ledger.promoted(&stamp(9), recorded(&s)).expect("promoted");
    assert_eq!(status(&ledger), Some("promoted"));
    assert!(kept(&ledger).is_some());
    ledger.record(&stamp(10), recorded(&s)).expect("the rest");
    let late = ledger.rejected(&stamp(10), rejected(&s));
    assert!(matches!(late, Err(Error::Refusal(Refusal::InProduction { .. }))));
    assert_eq!(kept(&ledger), None);
    let row = ledger.state_of(&s.stream, s.sequence).expect("read").expect("a row");
    assert_eq!((row.status.as_str(), row.images), ("recorded", Some(2)));
    let _ = ledger.verify(&Keys).expect("right");
}

#[test]
fn a_rejected_bundle_goes_no_further() {
    let place = place();
    let mut ledger = place.open();
    let s = subject("payments", 1);
    assert!(matches!(ledger.rejected(&stamp(1), rejected(&s)), Err(Error::NotBegun(_))));
    let _ = ledger.begin(&stamp(1), begun(&s)).expect("begun");
    ledger.received(&stamp(2), received(&s)).expect("received");
    ledger.keep(&s, |keep| keep("small", b"bytes")).expect("kept");
    let entry = ledger.rejected(&stamp(3), rejected(&s)).expect("rejected");
    assert_eq!(ledger.rejected(&stamp(4), rejected(&s)).expect("again"), entry);
    assert_eq!(ledger.kept(&s, "small").expect("read"), None);
    let is_rejected = |e: Error| matches!(e, Error::Refusal(Refusal::Rejected { .. }));
    assert!(is_rejected(ledger.begin(&stamp(5), begun(&s)).expect_err("rejected")));
    assert!(is_rejected(ledger.received(&stamp(5), received(&s)).expect_err("rejected")));
    assert!(is_rejected(ledger.approved(&stamp(5), approved(&s, 'B')).expect_err("rejected")));
    assert!(is_rejected(ledger.signing(&stamp(5), signing(&s)).expect_err("rejected")));
    let row = ledger.state_of(&s.stream, s.sequence).expect("read").expect("a row");
    assert_eq!(row.status.as_str(), "rejected");
}

#[test]
fn the_rest_of_a_bundle_is_rejected_once_nothing_of_it_is_on_its_way() {
    let place = place();
    let mut ledger = place.open();
    let s = subject("payments", 1);
    let _ = ledger.begin(&stamp(1), begun(&s)).expect("begun");
    ledger.received(&stamp(2), received(&s)).expect("received");
    ledger.keep(&s, |keep| keep("small", b"bytes")).expect("kept");
    ledger.signing(&stamp(3), signing(&s)).expect("announced");
    let unfinished = |ledger: &mut Ledger| {
        let refused = ledger.rejected(&stamp(4), rejected(&s));
        assert!(matches!(refused, Err(Error::Refusal(Refusal::Unfinished { .. }))), "{refused:?}");
        assert!(ledger.kept(&s, "small").expect("read").is_some());
    };
    unfinished(&mut ledger);
    ledger.promoted(&stamp(5), recorded(&s)).expect("promoted");
    let mut more = signing(&s);
    for announced in &mut more.images {
        announced.reference = "registry.prod.example/payments/web:1".parse().expect("a reference");
    }
    ledger.signing(&stamp(6), more.clone()).expect("another image");
    unfinished(&mut ledger);
    let mut web = recorded(&s);
    web.skipped = vec!["registry.prod.example/payments/web:1".parse().expect("a tag")];
    web.images.clear();
    web.signatures.clear();
    ledger.promoted(&stamp(7), web).expect("left out, and done");
    ledger.rejected(&stamp(8), rejected(&s)).expect("the rest");
    assert_eq!(ledger.kept(&s, "small").expect("read"), None);
    let again = ledger.signing(&stamp(9), Signing { tags: vec![], images: vec![], ..more });
    assert!(matches!(again, Err(Error::Refusal(Refusal::Rejected { .. }))), "{again:?}");
    let row = ledger.state_of(&s.stream, s.sequence).expect("read").expect("a row");
    assert_eq!((row.status.as_str(), row.images), ("rejected", Some(2)));
    let _ = ledger.verify(&Keys).expect("right");
}

#[test]
fn an_older_signature_is_noted() {
    let place = place();
    let mut ledger = place.open();
    let begin = |ledger: &mut Ledger, n, seconds| {
        let begun = ledger::Begun { signed: Some(stamp(seconds).now), ..begun(&subject("payments", n)) };
        match ledger.begin(&stamp(100), begun).expect("begun") {
            Standing::New { entry } => ledger.entry(entry).expect("read").expect("an entry").entry.act,
            other => panic!("{other:?}"),
        }
    };
    let noted = |act| match act {
        Act::Begun(begun) => begun.newest_signed,
        other => panic!("{other:?}"),
    };
    assert_eq!(noted(begin(&mut ledger, 1, 50)), None);
    assert_eq!(noted(begin(&mut ledger, 2, 50)), None, "as old is not older");
    assert_eq!(noted(begin(&mut ledger, 3, 49)), Some(stamp(50).now));
    assert_eq!(noted(begin(&mut ledger, 4, 60)), None);
}

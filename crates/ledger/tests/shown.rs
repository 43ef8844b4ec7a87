//! What is done to a ledger from outside of an import: heads shown to it, heads signed once more, bundles looked for.

mod common;

use std::fs;

use common::*;
use ledger::{Error, Filter, Head, HeadStanding, KeptHead, Known, Ledger, Mark, Rule, Signer, Status};
use manifest_schema::OutsideText;

#[test]
fn a_head_that_it_lacks_stops_a_ledger_without_a_key() {
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    let good = place.read().head().expect("a head");
    let other = Head { hash: ledger::entry_hash(b"another entry"), ..good };
    Ledger::refuse_from_now_on(&place.path, Some(&place.id), &known(other)).expect("noted");
    assert!(matches!(place.try_open(), Err(Error::Forked { head, .. }) if *head == other));
    let _ = place.read().verify(&Keys).expect("it is still read, and right by itself");
    let adopted = Ledger::adopt(&place.path, None, place.custody(), &stamp(30), OutsideText::new("a drill"), &[])
        .expect("adopted");
    assert_eq!(adopted.get(), good.number.get() + 1);
    let mut ledger = place.open();
    import(&mut ledger, "payments", 2, 40);
    // While somebody writes, nobody notes.
    let busy = Ledger::refuse_from_now_on(&place.path, None, &known(Head { number: good.number, ..other }));
    assert!(matches!(busy, Err(Error::Busy { .. })));
    let foreign = common::place();
    drop(ledger);
    let wrong = Ledger::refuse_from_now_on(&place.path, Some(&foreign.id), &known(other));
    assert!(matches!(wrong, Err(Error::OtherLedger { .. })));
}

#[test]
fn a_head_of_another_ledger_is_never_had() {
    let (place, other) = (place(), place());
    import(&mut place.open(), "payments", 1, 10);
    let first = other.read().head().expect("a head");
    import(&mut other.open(), "payments", 1, 10);
    import(&mut other.open(), "payments", 2, 20);
    let last = other.read().head().expect("a head");
    for head in [first, last] {
        assert_eq!(place.read().standing_of(&head).expect("read"), HeadStanding::Foreign);
    }
    // Both ledgers have the same key.
    let second = place.custody().second;
    let right = fs::read(&second).expect("the second file");
    fs::copy(other.custody().second, &second).expect("copied");
    let opened = place.try_open();
    assert!(matches!(&opened, Err(Error::BadSecond { .. })), "{opened:?}");
    fs::write(&second, right).expect("put back");
    let mark = Mark { stream: "payments".parse().expect("a stream"), sequence: 9.try_into().expect("a number") };
    place.open().note_shown(&Known { marks: vec![mark], ..known(first) }).expect("noted");
    let opened = place.try_open();
    assert!(matches!(&opened, Err(Error::Forked { head, .. }) if **head == first), "{opened:?}");
    Ledger::adopt(&place.path, None, place.custody(), &stamp(40), OutsideText::new("a mistake"), &[]).expect("adopted");
    let newest = place.open().newest(&"payments".parse().expect("a stream")).expect("read");
    assert_eq!(newest.map(|n| n.get()), Some(1), "its streams are not those of this one");
}

#[test]
fn a_head_that_was_shown_and_cannot_be_read_is_not_passed_over() {
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    place.raw().execute("INSERT INTO shown VALUES (9, x'00', 'something')", []).expect("noted");
    let opened = place.try_open();
    assert!(matches!(&opened, Err(Error::Database { reason, .. }) if reason.raw().contains("shown")), "{opened:?}");
}

/// The same key, with a certificate that says more.
struct Certified(Key);

impl Signer for Certified {
    fn fingerprint(&self) -> ledger::Fingerprint {
        self.0.fingerprint()
    }
    fn certificate(&self) -> Result<Vec<u8>, OutsideText> {
        Ok([self.0.certificate()?, b"certified\n".to_vec()].concat())
    }
    fn sign(&self, document: &[u8]) -> Result<Vec<u8>, OutsideText> {
        self.0.sign(document)
    }
}

#[test]
fn a_head_is_signed_once_more_without_an_entry() {
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    let head = place.read().head().expect("a head");
    let KeptHead { certificate: before, .. } = place.read().signed_head().expect("read").expect("a head");
    let mut custody = place.custody();
    custody.signer = Box::new(Certified(Key(ledger_key('A'))));
    let mut ledger = Ledger::open(&place.path, None, Some(custody)).expect("opens");
    fs::remove_file(place.custody().second).expect("removed");
    ledger.sign_head().expect("signed");
    drop(ledger);
    let (kept, statement) = place.read().checked_head(&Keys).expect("right");
    assert_eq!((statement.head, place.read().head().expect("a head")), (head, head));
    assert_eq!(kept.certificate, [before, b"certified\n".to_vec()].concat());
    assert_eq!(kept.statement, fs::read(place.custody().second).expect("the second file"));
    let _ = place.read().verify(&Keys).expect("right");
    assert!(matches!(place.read().checked_head(&Keys), Ok((k, _)) if k == kept));
    let mut read_only = place.read();
    assert!(matches!(read_only.sign_head(), Err(Error::ReadOnly(_))));
}

#[test]
fn keys_and_certificates_of_the_past_are_found() {
    let mut place = place();
    import(&mut place.open(), "payments", 1, 10);
    for (seconds, letter) in [(20, 'B'), (30, 'C')] {
        let new = Box::new(Key(ledger_key(letter)));
        place.open().change_key(&stamp(seconds), new, join).expect("changed");
        place.key = letter;
    }
    let keys: Vec<_> =
        place.read().keys().expect("read").into_iter().map(|(entry, key)| (entry.get(), key.to_string())).collect();
    assert_eq!(keys, [(1, "A".repeat(40)), (5, "B".repeat(40)), (6, "C".repeat(40))]);
    let certificates = String::from_utf8(place.read().certificates().expect("read")).expect("text");
    let lines = certificates.lines().map(|line| line.chars().next().expect("a letter"));
    let lines: Vec<_> = lines.filter(|letter| *letter != 'x').collect();
    assert_eq!(lines, ['A', 'B', 'B', 'C', 'C']);
}

#[test]
fn bundles_are_found_by_how_far_they_have_come() {
    let place = place();
    let mut ledger = place.open();
    let s = |n| subject("payments", n);
    for n in 1..=6 {
        let _ = ledger.begin(&stamp(10), begun(&s(n))).expect("begun");
    }
    for n in 2..=5 {
        ledger.received(&stamp(20), received(&s(n))).expect("received");
    }
    ledger.rejected(&stamp(30), rejected(&s(3))).expect("rejected");
    for n in [4, 5, 6] {
        ledger.signing(&stamp(40), signing(&s(n))).expect("announced");
    }
    ledger.promoted(&stamp(41), recorded(&s(5))).expect("promoted");
    ledger.override_rules(&stamp(42), overridden(&s(6), &[Rule::Expired])).expect("overridden");
    ledger.record(&stamp(43), recorded(&s(6))).expect("recorded");
    let found = |ledger: &Ledger, status, limit| {
        let filter = Filter { status: Some(status), limit, ..Filter::default() };
        let rows = ledger.bundles(&filter).expect("read");
        assert!(rows.iter().all(|row| row.status == status));
        rows.iter().map(|row| row.subject.sequence.get()).collect::<Vec<_>>()
    };
    let all: Vec<_> = Status::ALL.iter().map(|status| found(&ledger, *status, 100)).collect();
    assert_eq!(all, [[1], [2], [3], [4], [5], [6]]);
    let _ = ledger.begin(&stamp(50), begun(&s(7))).expect("begun");
    assert_eq!(found(&ledger, Status::Begun, 1), [7], "newest first");
    assert_eq!(found(&ledger, Status::Begun, 2), [7, 1]);
    let before = ledger.state_of(&s(7).stream, s(7).sequence).expect("read").expect("a row").begun.entry;
    let filter = Filter { status: Some(Status::Begun), before: Some(before), ..Filter::default() };
    assert_eq!(ledger.bundles(&filter).expect("read").len(), 1);
}

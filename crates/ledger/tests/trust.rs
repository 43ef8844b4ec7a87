//! What a ledger is believed for: its key, the head that is kept, the second file.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;
use ledger::{
    Act, Checked, Checker, Created, Custody, EntryNumber, Error, Fault, Head, HeadStanding, HeadStatement, Known,
    LaterKey, Ledger, Mark, Refusal, Signer,
};
use manifest_schema::{LIMITS, OutsideText};

fn reason() -> OutsideText {
    OutsideText::new("somebody looked into it")
}

fn adopt(place: &Place, seconds: i64) -> Result<EntryNumber, Error> {
    Ledger::adopt(&place.path, Some(&place.id), place.custody(), &stamp(seconds), reason(), &[])
}

fn certificate_of(letter: char) -> Vec<u8> {
    Key(ledger_key(letter)).certificate().expect("a certificate")
}

fn marks(of: &[(&str, u64)]) -> Vec<Mark> {
    let mark = |(stream, sequence): &(&str, u64)| Mark {
        stream: stream.parse().expect("a stream"),
        sequence: (*sequence).try_into().expect("a number"),
    };
    of.iter().map(mark).collect()
}

fn second(place: &Place) -> Vec<u8> {
    fs::read(place.custody().second).expect("the second file")
}

fn head_in(statement: &[u8]) -> HeadStatement {
    let line = statement.split(|b| *b == b'\n').next().expect("a line");
    HeadStatement::parse(line).expect("a head")
}

fn is_head(result: &Result<impl Sized, Error>) -> bool {
    matches!(result, Err(Error::Tampered { fault: Fault::Head { .. }, .. }))
}

#[test]
fn without_a_signed_head_nothing_is_written_until_somebody_says_why() {
    for second in ["there", "gone"] {
        let place = place();
        import(&mut place.open(), "payments", 1, 10);
        // An entry made up by somebody who has the file, and not the key.
        place.raw().execute_batch("DELETE FROM head").expect("deleted");
        if second == "gone" {
            fs::remove_file(place.custody().second).expect("removed");
        }
        let opened = place.try_open();
        assert!(is_head(&opened), "{second}: {opened:?}");
        let entry = adopt(&place, 20).expect("adopted");
        let ledger = place.open();
        let said = ledger.entry(entry).expect("read").expect("an entry").entry.act;
        assert!(matches!(said, Act::Adopted(a) if a.reason == reason() && a.heads.is_empty()));
        let _ = ledger.verify(&Keys).expect("right");
    }
}

#[test]
fn adopting_takes_the_ledger_key_and_a_head_that_it_signed() {
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    let old = fs::read(&place.path).expect("the file");
    import(&mut place.open(), "payments", 2, 20);
    place.put_back(&old);
    let by = |letter| Ledger::adopt(&place.path, None, custody(&place.path, letter), &stamp(30), reason(), &[]);
    assert!(matches!(by('B'), Err(Error::OtherKey { expected: Some(key), .. }) if key == ledger_key('A')));
    assert_eq!(fs::read(&place.path).expect("the file"), old, "nothing was written");

    // A head that was signed for an earlier state.
    let earlier: Vec<u8> = {
        let copy = common::place();
        copy.raw().query_row("SELECT statement FROM head", [], |r| r.get(0)).expect("a head")
    };
    place.raw().execute("UPDATE head SET statement = ?1", [earlier]).expect("changed");
    assert!(is_head(&by('A')), "{:?}", by('A'));
}

#[test]
fn a_ledger_whose_head_is_gone_is_adopted_by_no_other_key() {
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    place.raw().execute_batch("DELETE FROM head").expect("deleted");
    let before = place.read().head().expect("a head");
    let by = |letter| Ledger::adopt(&place.path, None, custody(&place.path, letter), &stamp(30), reason(), &[]);
    assert!(matches!(by('B'), Err(Error::BadSecond { .. })), "what the ledger key signed is nothing to another");
    fs::remove_file(place.custody().second).expect("removed");
    assert!(matches!(by('B'), Err(Error::OtherKey { expected: Some(key), .. }) if key == ledger_key('A')));
    assert_eq!(place.read().head().expect("a head"), before, "nothing was written");
    by('A').expect("adopted");
}

#[test]
fn an_act_that_is_there_already_brings_the_second_file_up_to_date() {
    let place = place();
    let s = subject("payments", 1);
    let blocked = place.custody().second.with_extension("head.new");
    let mut ledger = place.open();
    let _ = ledger.begin(&stamp(5), begun(&s)).expect("begun");
    let before = second(&place);
    fs::create_dir(&blocked).expect("something in its way");
    assert!(matches!(ledger.signing(&stamp(6), signing(&s)), Err(Error::Io { .. })));
    assert!(matches!(ledger.signing(&stamp(6), signing(&s)), Err(Error::Io { .. })), "not even if it is there");
    fs::remove_dir(&blocked).expect("removed");
    assert_eq!(second(&place), before);
    assert_eq!(ledger.signing(&stamp(6), signing(&s)).expect("announced").get(), 3);
    assert_eq!(head_in(&second(&place)).head, ledger.head().expect("a head"), "by the same program");
    drop(ledger);

    fs::write(place.custody().second, &before).expect("put back");
    drop(place.open());
    assert_eq!(head_in(&second(&place)).head, place.read().head().expect("a head"), "by the next one");
    fs::write(place.custody().second, &before).expect("put back");
    fs::create_dir(&blocked).expect("something in its way");
    assert!(matches!(place.try_open(), Err(Error::Io { .. })), "without it nothing is written");
}

#[test]
fn the_second_file_of_one_entry_is_made_when_the_ledger_is_opened() {
    let place = place();
    fs::remove_file(place.custody().second).expect("`create` was killed before it was written");
    assert!(matches!(adopt(&place, 5), Err(Error::NothingToAdopt(_))));
    place.open();
    assert_eq!(head_in(&second(&place)).head, place.read().head().expect("a head"));
}

#[test]
fn a_ledger_is_made_beside_no_second_file_of_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.db");
    let given = custody(&path, 'A');
    let create = || Ledger::create(&path, &stamp(0), Created::default(), Some(&given));
    fs::write(&given.second, "another's").expect("written");
    assert!(matches!(create(), Err(Error::Exists(second)) if second == given.second));
    assert_eq!(fs::read(&given.second).expect("there"), b"another's");
    fs::remove_file(&given.second).expect("removed");
    symlink("nowhere", &given.second).expect("a link");
    assert!(matches!(create(), Err(Error::Exists(_))), "a link to nowhere is there too");
    assert!(!path.exists());
    fs::remove_file(&given.second).expect("removed");
    create().expect("a ledger");
}

#[test]
fn a_head_of_one_entry_may_be_lacking_and_not_be_wrong() {
    let place = place();
    let wrong = "UPDATE head SET statement = x'00'";
    place.raw().execute_batch(wrong).expect("changed");
    assert!(is_head(&place.try_open()));
    // As a ledger of before heads were signed.
    place.raw().execute_batch("DELETE FROM head").expect("deleted");
    assert!(matches!(adopt(&place, 5), Err(Error::NothingToAdopt(_))));
    import(&mut place.open(), "payments", 1, 10);
    let _ = place.read().verify(&Keys).expect("right");
}

#[test]
fn no_key_signs_for_a_ledger_that_names_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.db");
    let facts = Created { production: None, ledger_key: Some(ledger_key('A')) };
    Ledger::create(&path, &stamp(0), facts, None).expect("a ledger");
    let before = Ledger::open(&path, None, None).expect("opens").head().expect("a head");
    let given = || custody(&path, 'A');
    let none = |result: Result<(), Error>| matches!(result, Err(Error::OtherKey { expected: None, .. }));
    assert!(none(Ledger::open(&path, None, Some(given())).map(|_| ())));
    assert!(none(Ledger::adopt(&path, None, given(), &stamp(10), reason(), &[]).map(|_| ())));
    assert!(!given().second.exists());
    assert_eq!(Ledger::open_read_only(&path, None).expect("opens").head().expect("a head"), before);
}

#[test]
fn the_key_changes_with_its_entry_even_if_the_second_file_fails() {
    let mut place = place();
    let blocked = place.custody().second.with_extension("head.new");
    let mut ledger = place.open();
    import(&mut ledger, "payments", 1, 10);
    let by_a = second(&place);

    let refuse = |_: &[u8], _: &[u8]| Err(OutsideText::new("no"));
    let refused = ledger.change_key(&stamp(20), Box::new(Key(ledger_key('B'))), refuse);
    assert!(matches!(refused, Err(Error::Key { .. })));
    let change = |ledger: &mut Ledger| ledger.change_key(&stamp(20), Box::new(Key(ledger_key('B'))), join);
    let raw = place.raw();
    raw.execute_batch("BEGIN IMMEDIATE").expect("another program's transaction");
    assert!(matches!(change(&mut ledger), Err(Error::Busy { .. })));
    raw.execute_batch("ROLLBACK").expect("rolled back");
    import(&mut ledger, "payments", 2, 30);
    assert_eq!(ledger.verify(&Keys).expect("right").key, Some(ledger_key('A')), "the old one goes on");

    fs::create_dir(&blocked).expect("something in its way");
    assert!(matches!(change(&mut ledger), Err(Error::Io { .. })));
    fs::remove_dir(&blocked).expect("removed");
    assert_eq!(ledger.key().expect("read"), Some(ledger_key('B')));
    import(&mut ledger, "payments", 3, 40);
    assert_eq!(ledger.verify(&Keys).expect("right").key, Some(ledger_key('B')));
    drop(ledger);

    // A second file from before the change: the program was killed between the two.
    place.key = 'B';
    fs::write(place.custody().second, by_a).expect("put back");
    drop(place.open());
    assert_eq!(head_in(&second(&place)).key, ledger_key('B'));
}

#[test]
fn each_key_signs_for_its_own_time() {
    let mut place = place();
    let mut ledger = place.open();
    import(&mut ledger, "payments", 1, 10);
    let by_a = second(&place);
    ledger.change_key(&stamp(20), Box::new(Key(ledger_key('B'))), join).expect("changed");
    drop(ledger);
    place.key = 'B';
    let statement = head_in(&by_a);
    let now = place.read().head().expect("a head");
    let signed = |letter, head: Head| {
        let statement = HeadStatement { head, key: ledger_key(letter), ..statement.clone() };
        let bytes = serde_json::to_vec(&statement).expect("bytes");
        Key(ledger_key(letter)).sign(&bytes).expect("signed")
    };
    let third = Head { number: 3.try_into().expect("a number"), ..now };
    for (what, file, right) in [
        ("the old key, then", by_a.clone(), true),
        ("the new key, now", signed('B', now), true),
        ("the old key, now", signed('A', now), false),
        (
            "the old key, of what is to come",
            signed('A', Head { number: 99.try_into().expect("a number"), ..now }),
            false,
        ),
        ("the new key, then", signed('B', third), false),
        ("a key that never was", signed('C', now), false),
    ] {
        fs::write(place.custody().second, file).expect("written");
        let opened = place.try_open().map(|_| ());
        assert_eq!(opened.is_ok(), right, "{what}: {opened:?}");
        assert!(right || matches!(opened, Err(Error::BadSecond { .. })), "{what}: {opened:?}");
    }
}

#[test]
fn the_second_file_is_a_file() {
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    let path = place.custody().second;
    let elsewhere = place.folder.path().join("elsewhere");
    fs::rename(&path, &elsewhere).expect("moved");
    symlink(&elsewhere, &path).expect("a link");
    let opened = place.try_open();
    assert!(matches!(opened, Err(Error::Io { .. })), "a link would be replaced: {opened:?}");
    fs::remove_file(&path).expect("removed");
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
    let opened = place.try_open();
    assert!(matches!(opened, Err(Error::BadSecond { .. } | Error::Io { .. })), "nobody waits for a pipe: {opened:?}");
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("a folder");
    assert!(matches!(place.try_open(), Err(Error::Io { .. })));
    fs::remove_dir(&path).expect("removed");
    fs::rename(&elsewhere, &path).expect("moved back");
    place.open();
}

#[test]
fn what_lies_where_the_second_file_is_made_does_not_get_into_it() {
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    let new = place.custody().second.with_extension("head.new");
    fs::write(&new, "of a program that was killed\n".repeat(1000)).expect("written");
    let _ = place.open().begin(&stamp(20), begun(&subject("payments", 2))).expect("begun");
    let kept = place.read().signed_head().expect("read").expect("a head");
    assert_eq!(second(&place), kept.statement, "nothing of what was there");
    assert!(!new.exists());

    let elsewhere = place.folder.path().join("elsewhere");
    fs::write(&elsewhere, "mine").expect("written");
    symlink(&elsewhere, &new).expect("a link");
    let opened = &mut place.open();
    let refused = opened.begin(&stamp(30), begun(&subject("payments", 3)));
    assert!(matches!(refused, Err(Error::Io { .. })), "a link is not followed: {refused:?}");
    assert_eq!(fs::read(&elsewhere).expect("there"), b"mine");
    assert_eq!(second(&place), kept.statement);
    assert!(fs::symlink_metadata(place.custody().second).expect("there").is_file());
}

/// Believes nothing, and remembers the most that it was asked to believe.
struct Longest(Arc<AtomicUsize>);

impl Checker for Longest {
    fn check(&self, statement: &[u8], _: &[u8]) -> Result<Checked, OutsideText> {
        self.0.fetch_max(statement.len(), Ordering::SeqCst);
        Err(OutsideText::new("no"))
    }
}

#[test]
fn of_a_second_file_no_more_is_read_than_a_head_can_have() {
    // Of one entry that nobody signed, only the second file is checked.
    let place = place();
    place.raw().execute_batch("DELETE FROM head").expect("deleted");
    fs::write(place.custody().second, vec![b'x'; 2 * LIMITS.config as usize]).expect("written");
    let longest = Arc::new(AtomicUsize::new(0));
    let custody = Custody { checker: Box::new(Longest(longest.clone())), ..place.custody() };
    let opened = Ledger::open(&place.path, None, Some(custody));
    assert!(matches!(opened, Err(Error::BadSecond { .. })), "{opened:?}");
    assert_eq!(longest.load(Ordering::SeqCst) as u64, LIMITS.config + 1);
}

#[test]
fn what_is_put_back_together_with_its_second_file_shows_against_heads_kept_elsewhere() {
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    let (old, its_second) = (fs::read(&place.path).expect("the file"), second(&place));
    import(&mut place.open(), "payments", 2, 20);
    let receipt = head_in(&second(&place)).head;
    place.put_back(&old);
    fs::write(place.custody().second, its_second).expect("put back");
    let mut ledger = place.open();
    let _ = ledger.verify(&Keys).expect("by itself it is right");
    assert_eq!(ledger.newest(&subject("payments", 2).stream).expect("read").map(|n| n.get()), Some(1), "forgotten");
    assert_eq!(ledger.standing_of(&receipt).expect("read"), HeadStanding::Behind);
    import(&mut ledger, "payments", 3, 30);
    assert_eq!(ledger.standing_of(&receipt).expect("read"), HeadStanding::Forked);
    ledger.note_shown(&known(receipt)).expect("noted");
    drop(ledger);
    assert!(matches!(place.try_open(), Err(Error::Forked { head, .. }) if *head == receipt));
}

/// A copy from before the ledger key was changed, with the second file of the key that came then.
fn put_back_from_before_the_key_change() -> (Place, Head) {
    let place = place();
    let mut ledger = place.open();
    let _ = ledger.begin(&stamp(5), begun(&subject("payments", 1))).expect("begun");
    drop(ledger);
    let old = fs::read(&place.path).expect("the file");
    let mut ledger = place.open();
    ledger.change_key(&stamp(20), Box::new(Key(ledger_key('B'))), join).expect("changed");
    import(&mut ledger, "payments", 2, 30);
    let lost = ledger.head().expect("a head");
    drop(ledger);
    place.put_back(&old);
    (place, lost)
}

#[test]
fn a_second_file_that_says_nothing_is_not_passed_over() {
    let (place, _) = put_back_from_before_the_key_change();
    let by = |later: &[LaterKey]| Ledger::adopt(&place.path, None, place.custody(), &stamp(40), reason(), later);
    let later = |letter| LaterKey { key: ledger_key(letter), certificate: certificate_of(letter) };
    let before = fs::read(&place.path).expect("the file");
    for (what, keys) in [
        ("no key that came later", vec![]),
        ("another key", vec![later('C')]),
        ("another key's certificate", vec![LaterKey { certificate: certificate_of('C'), ..later('B') }]),
        ("another key with the right certificate", vec![LaterKey { key: ledger_key('C'), ..later('B') }]),
    ] {
        let refused = by(&keys);
        assert!(matches!(refused, Err(Error::BadSecond { .. })), "{what}: its marks would be lost: {refused:?}");
    }
    fs::write(place.custody().second, "damaged").expect("written");
    assert!(matches!(by(&[later('B')]), Err(Error::BadSecond { .. })));
    assert_eq!(fs::read(&place.path).expect("the file"), before, "nothing was written");
    // Who takes it away says that it is lost.
    fs::remove_file(place.custody().second).expect("removed");
    by(&[]).expect("adopted");
}

#[test]
fn the_second_file_of_another_ledger_with_the_same_key_counts_for_nothing() {
    let (place, other) = (place(), place());
    import(&mut place.open(), "payments", 1, 10);
    import(&mut other.open(), "payments", 9, 10);
    fs::write(place.custody().second, second(&other)).expect("exchanged");
    let is_refused = |refused: Result<_, Error>| {
        assert!(
            matches!(&refused, Err(Error::BadSecond { reason, .. }) if reason.raw().contains(&other.id.to_string()))
        );
    };
    is_refused(place.try_open().map(|_| ()));
    is_refused(adopt(&place, 20).map(|_| ()));
    fs::remove_file(place.custody().second).expect("removed");
    adopt(&place, 20).expect("it is lost");
    assert_eq!(place.read().marks().expect("read"), marks(&[("payments", 1)]));
}

#[test]
fn what_a_later_key_signed_stays_known() {
    let (mut place, lost) = put_back_from_before_the_key_change();
    assert!(matches!(place.try_open(), Err(Error::BadSecond { .. })), "by itself it is nobody's");
    let later = ['C', 'B'].map(|letter| LaterKey { key: ledger_key(letter), certificate: certificate_of(letter) });
    let entry = Ledger::adopt(&place.path, None, place.custody(), &stamp(40), reason(), &later).expect("adopted");
    let mut ledger = place.open();
    let said = ledger.entry(entry).expect("read").expect("an entry").entry.act;
    assert!(matches!(said, Act::Adopted(a) if a.heads == [lost] && a.marks == marks(&[("payments", 2)])));
    let older = ledger.begin(&stamp(50), begun(&subject("payments", 1)));
    assert!(matches!(older, Err(Error::Refusal(Refusal::Rollback { newest, .. })) if newest.get() == 2), "{older:?}");
    ledger.change_key(&stamp(60), Box::new(Key(ledger_key('B'))), join).expect("once more");
    drop(ledger);
    place.key = 'B';
    import(&mut place.open(), "payments", 3, 70);
    let _ = place.read().verify(&Keys).expect("right");
}

#[test]
fn what_heads_that_were_shown_say_of_streams_stays_known() {
    let place = place();
    import(&mut place.open(), "payments", 3, 10);
    let head = place.read().head().expect("a head");
    let far = |number: u64| Head { number: number.try_into().expect("a number"), ..head };
    for (number, said) in [
        // Of one state several may be shown, which know of different streams.
        (10, &[("api", 4), ("payments", 2)][..]),
        (10, &[("web", 1), ("api", 2)]),
        (10, &[("web", 1), ("api", 2)]),
        (12, &[("api", 6)]),
        (14, &[("api", 5), ("payments", 3)]),
        // What the ledger has tells nothing new.
        (1, &[("payments", 3)]),
    ] {
        let known = Known { head: if number == 1 { head } else { far(number) }, marks: marks(said) };
        Ledger::refuse_from_now_on(&place.path, None, &known).expect("noted");
    }
    let entry = adopt(&place, 30).expect("adopted");
    let said = place.read().entry(entry).expect("read").expect("an entry").entry.act;
    let Act::Adopted(said) = said else { panic!("{said:?}") };
    assert_eq!(said.heads, [far(10), far(12), far(14)]);
    assert_eq!(said.marks, marks(&[("api", 6), ("web", 1)]));
    let mut ledger = place.open();
    for (stream, newest) in [("api", 6), ("web", 1), ("payments", 3)] {
        assert_eq!(ledger.newest(&stream.parse().expect("a stream")).expect("read").map(|n| n.get()), Some(newest));
    }
    let all = marks(&[("api", 6), ("payments", 3), ("web", 1)]);
    assert_eq!(ledger.marks().expect("read"), all);
    assert_eq!(head_in(&second(&place)).marks, all, "the next one who loses entries knows of them too");
    let older = ledger.begin(&stamp(40), begun(&subject("api", 5)));
    assert!(matches!(older, Err(Error::Refusal(Refusal::Rollback { .. }))), "{older:?}");
    let _ = ledger.verify(&Keys).expect("right");
}

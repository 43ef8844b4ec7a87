//! Working state: what an interrupted receive is continued with, beside the record and no part of it.

mod common;

use common::*;
use ledger::{Error, Fault, Ledger, Standing, Subject};
use manifest_schema::OutsideText;

const REPOSITORY: &str = "registry.prod.example/payments/api";

/// How many rows of working state there are, of whatever bundle.
fn rows(place: &Place) -> i64 {
    place.raw().query_row("SELECT count(*) FROM upload", [], |row| row.get(0)).expect("a count")
}

fn note_some(ledger: &Ledger, subject: &Subject) {
    ledger.note_upload(subject, REPOSITORY, &digest("layer"), Some(("https://r/u/1", 7))).expect("noted");
}

/// The file as a program that knows schema 1 only left it.
fn back_to_schema_1(place: &Place) {
    let raw = place.raw();
    for table in TABLES_OF_3.into_iter().chain(["head", "kept", "shown", "upload"]) {
        raw.execute_batch(&format!("DROP TABLE {table}")).expect("dropped");
    }
    let exists = |key: &str| format!("EXISTS (SELECT 1 FROM bundle WHERE {key})");
    let taken = [
        exists("entry = NEW.entry AND n = NEW.n"),
        exists("id = NEW.id"),
        exists("stream = NEW.stream AND sequence = NEW.sequence"),
    ];
    raw.execute_batch(&format!(
        "DROP INDEX bundle_by_stream_sequence; DROP TRIGGER bundle_insert;
         CREATE UNIQUE INDEX bundle_by_stream_sequence ON bundle (stream, sequence);
         CREATE TRIGGER bundle_insert BEFORE INSERT ON bundle WHEN NEW.entry IS NOT (SELECT max(number) FROM entry) OR {}
             BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;
         PRAGMA user_version = 1",
        taken.join(" OR ")
    ))
    .expect("older");
}

#[test]
fn uploads_are_found_again() {
    let place = place();
    let ledger = place.open();
    let (s, other) = (subject("payments", 1), subject("payments", 2));
    let (layer, location) = (digest("layer"), "https://r.example/v2/x/blobs/uploads/1?_state=abc");
    ledger.note_upload(&s, REPOSITORY, &layer, Some((location, 5))).expect("noted");
    ledger.note_upload(&s, REPOSITORY, &layer, Some((location, 1 << 40))).expect("noted again");
    drop(ledger);

    let ledger = place.open();
    let mark =
        |s: &Subject, repository: &str, name: &str| ledger.upload_mark(s, repository, &digest(name)).expect("read");
    assert_eq!(mark(&s, REPOSITORY, "layer"), Some((location.to_string(), 1 << 40)));
    let mut same_number = s.clone();
    same_number.manifest = digest("another manifest");
    assert_eq!(mark(&same_number, REPOSITORY, "layer"), None);
    assert_eq!(mark(&other, REPOSITORY, "layer"), None);
    assert_eq!(mark(&s, "elsewhere.example/x", "layer"), None);
    assert_eq!(mark(&s, REPOSITORY, "another layer"), None);

    ledger.note_upload(&s, REPOSITORY, &digest("another layer"), None).expect("there is none");
    ledger.note_upload(&s, REPOSITORY, &layer, None).expect("removed");
    assert_eq!(mark(&s, REPOSITORY, "layer"), None);
}

#[test]
fn it_goes_away_with_the_record_and_with_a_refusal() {
    let place = place();
    let mut ledger = place.open();
    let [old, now, next, elsewhere] =
        [("payments", 1), ("payments", 2), ("payments", 3), ("other", 1)].map(|(stream, n)| subject(stream, n));
    for s in [&old, &now, &next, &elsewhere] {
        let _ = ledger.begin(&stamp(1), begun(s)).expect("begun");
        note_some(&ledger, s);
    }
    ledger.record(&stamp(2), recorded(&now)).expect_err("not announced");
    assert_eq!(rows(&place), 4, "an act that fails takes nothing away");
    ledger.signing(&stamp(2), signing(&now)).expect("announced");
    assert_eq!(rows(&place), 4, "until it is recorded, it can be interrupted");
    ledger.record(&stamp(3), recorded(&now)).expect("recorded");
    for (s, kept) in [(&old, false), (&now, false), (&next, true), (&elsewhere, true)] {
        assert_eq!(ledger.upload_mark(s, REPOSITORY, &digest("layer")).expect("read").is_some(), kept, "{s:?}");
    }
    note_some(&ledger, &now);
    ledger.record(&stamp(4), recorded(&now)).expect("the same record again");
    assert_eq!(rows(&place), 2);

    let mut same_number = next.clone();
    same_number.manifest = digest("another manifest");
    ledger.refused(&stamp(5), refused(&same_number)).expect("recorded");
    assert_eq!(rows(&place), 2, "another bundle was refused");
    ledger.refused(&stamp(5), refused(&next)).expect("recorded");
    assert_eq!(rows(&place), 1);
    let _ = ledger.verify(&Keys).expect("right");
}

#[test]
fn files_are_kept_together_or_not_at_all() {
    let place = place();
    let mut ledger = place.open();
    let (s, other) = (subject("payments", 1), subject("payments", 2));
    let failed = ledger.keep(&s, |keep| {
        keep("one", b"bytes")?;
        Err(Error::NotBegun(s.bundle))
    });
    assert!(matches!(failed, Err(Error::NotBegun(_))));
    assert_eq!(ledger.kept(&s, "one").expect("read"), None);
    for (subject, bytes) in [(&s, b"these"), (&other, b"other")] {
        ledger.keep(subject, |keep| keep("one", bytes)).expect("kept");
    }
    assert_eq!(ledger.kept(&s, "one").expect("read"), Some(b"these".to_vec()));
    assert_eq!(ledger.kept(&s, "two").expect("read"), None);
    ledger.refused(&stamp(5), refused(&s)).expect("recorded");
    assert_eq!(ledger.kept(&s, "one").expect("read"), None, "nothing of it waits");
    assert!(ledger.kept(&other, "one").expect("read").is_some());
    let mut reader = place.read();
    assert!(matches!(reader.keep(&s, |keep| keep("one", b"bytes")), Err(Error::ReadOnly(_))));
}

#[test]
fn what_other_programs_do_to_it_does_not_touch_the_record() {
    let place = place();
    let mut ledger = place.open();
    import(&mut ledger, "payments", 1, 10);
    let s = subject("payments", 2);
    let _ = ledger.begin(&stamp(20), begun(&s)).expect("begun");
    note_some(&ledger, &s);
    let verified = ledger.verify(&Keys).expect("right");
    for sql in ["UPDATE upload SET taken = -1", "INSERT INTO upload VALUES ('payments', 1, 'x', '', '', char(27), 0)"] {
        place.raw().execute(sql, []).expect(sql);
        assert_eq!(ledger.verify(&Keys).expect(sql), verified);
    }
    assert_eq!(ledger.upload_mark(&s, REPOSITORY, &digest("layer")).expect("read"), None, "no such place");
    place.raw().execute_batch("DELETE FROM upload").expect("freely deleted");
    assert_eq!(ledger.verify(&Keys).expect("right"), verified);
    assert!(matches!(ledger.begin(&stamp(30), begun(&s)).expect("known"), Standing::Resumed { .. }));
}

#[test]
fn a_ledger_of_schema_1_is_migrated_to_be_written() {
    let place = place();
    {
        let (mut ledger, s) = (place.open(), subject("payments", 1));
        let begun = ledger::Begun { signed: None, ..begun(&s) };
        let _ = ledger.begin(&stamp(10), begun).expect("begun");
        ledger.signing(&stamp(11), signing(&s)).expect("announced");
        ledger.record(&stamp(12), recorded(&s)).expect("recorded");
    }
    let before = place.read().verify(&Keys).expect("right");
    back_to_schema_1(&place);
    let read = Ledger::open_read_only(&place.path, Some(&place.id));
    assert!(matches!(read, Err(Error::Older { found: 1, needed: 3, .. })), "{read:?}");
    let version = || place.raw().pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).expect("read");
    assert_eq!(version(), 1, "reading changes nothing");
    let refused = place.try_open();
    assert!(
        matches!(refused, Err(Error::Tampered { fault: Fault::Head { .. }, .. })),
        "nobody signed for it: {refused:?}"
    );
    assert_eq!(version(), 3);
    let reader = place.read();
    assert_eq!(reader.head().expect("a head"), before.head, "with the same tree");
    assert_eq!(reader.key().expect("read"), Some(ledger_key('A')));
    let reason = OutsideText::new("it is from before heads were signed");
    Ledger::adopt(&place.path, None, place.custody(), &stamp(15), reason, &[]).expect("adopted");
    let mut ledger = place.open();
    import(&mut ledger, "payments", 2, 20);
    let after = ledger.verify(&Keys).expect("right, with a signed head");
    assert_eq!(after.key, Some(ledger_key('A')));
    note_some(&ledger, &subject("payments", 3));
}

#[test]
fn a_schema_that_is_not_the_one_it_says_is_found() {
    let place = place();
    place.raw().pragma_update(None, "user_version", 1).expect("set");
    assert!(matches!(place.try_open(), Err(Error::Database { .. })), "tables that schema 1 has not");
    place.raw().pragma_update(None, "user_version", 3).expect("set");
    for table in ["upload", "kept"] {
        place.raw().execute_batch(&format!("DROP TABLE {table}")).expect("dropped");
        assert!(matches!(place.read().verify(&Keys), Err(Error::Tampered { .. })), "tables that are missing");
        assert!(matches!(place.try_open(), Err(Error::Tampered { .. })));
    }
}

#[test]
fn a_ledger_opened_to_be_read_notes_nothing() {
    let place = place();
    let (reader, s) = (place.read(), subject("payments", 1));
    assert!(matches!(reader.note_upload(&s, REPOSITORY, &digest("x"), None), Err(Error::ReadOnly(_))));
}

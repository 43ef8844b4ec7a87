//! Other programs that have the ledger open: readers, writers, and those that copy it.

mod common;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::*;
use ledger::{About, Checked, Checker, Error, HeadStanding, Ledger};
use manifest_schema::OutsideText;
use rusqlite::TransactionBehavior;

fn begin(ledger: &mut Ledger, sequence: u64) -> Result<ledger::Standing, Error> {
    ledger.begin(&stamp(sequence.cast_signed() * 10), begun(&subject("payments", sequence)))
}

#[test]
fn what_is_not_committed_yet_is_not_read_and_keeps_nobody_from_reading() {
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    let before = place.read().verify(&Keys).expect("right");
    let mut raw = place.raw();
    let long = raw.transaction_with_behavior(TransactionBehavior::Immediate).expect("a long transaction");
    long.execute("DELETE FROM head", []).expect("deleted");
    for n in 0..10_000 {
        let insert = "INSERT INTO upload VALUES ('payments', ?1, 'm', 'r', 'b', 'l', 0)";
        long.execute(insert, [n]).expect("inserted");
    }
    let reader = place.read();
    assert_eq!(reader.verify(&Keys).expect("right"), before);
    assert_eq!(reader.bundles(&ledger::Filter::default()).expect("read").len(), 1);
    drop(long);
    assert_eq!(place.open().verify(&Keys).expect("right"), before);
}

#[test]
fn a_second_writer_is_told_who_writes() {
    let place = place();
    let mut writer = place.open();
    let busy = place.try_open().expect_err("the first one writes").to_string();
    let expected = format!("another program is writing to this ledger (process {})", std::process::id());
    assert!(busy.ends_with(&expected), "{busy}");
    let adopt = Ledger::adopt(&place.path, None, place.custody(), &stamp(5), OutsideText::new("why not"), &[]);
    assert!(matches!(adopt, Err(Error::Busy { .. })), "{adopt:?}");
    let _ = begin(&mut writer, 1).expect("the first one goes on");
    drop(writer);
    let _ = begin(&mut place.open(), 1).expect("now the second one");
}

#[test]
fn a_short_transaction_of_another_program_is_waited_for() {
    let place = place();
    let mut ledger = place.open();
    let raw = place.raw();
    raw.execute_batch("BEGIN IMMEDIATE; INSERT INTO upload VALUES ('payments', 1, 'm', 'r', 'b', 'l', 0)")
        .expect("begun");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            raw.execute_batch("COMMIT").expect("committed");
        });
        let _ = begin(&mut ledger, 1).expect("written after it");
    });
    let _ = ledger.verify(&Keys).expect("right");
}

/// Writes whenever something is to be checked.
struct Meanwhile<'a>(&'a Mutex<(Ledger, u64)>);

impl Checker for Meanwhile<'_> {
    fn check(&self, statement: &[u8], certificates: &[u8]) -> Result<Checked, OutsideText> {
        let mut writer = self.0.lock().expect("the writer");
        let (ledger, sequence) = &mut *writer;
        *sequence += 1;
        import(ledger, "payments", *sequence, sequence.cast_signed() * 10);
        Keys.check(statement, certificates)
    }
}

#[test]
fn verify_sees_one_state_while_another_program_writes() {
    let mut place = place();
    let mut ledger = place.open();
    import(&mut ledger, "payments", 1, 10);
    ledger.change_key(&stamp(15), Box::new(Key(ledger_key('B'))), join).expect("changed");
    place.key = 'B';
    let writer = Mutex::new((ledger, 1));
    let reader = place.read();
    let mut before = reader.head().expect("a head");
    for _ in 0..5 {
        let verified = reader.verify(&Meanwhile(&writer)).expect("right");
        assert_eq!(verified.head, before, "as it was when it began");
        let after = reader.head().expect("a head");
        // A key change and a signed head were checked.
        assert_eq!(after.number.get(), before.number.get() + 6);
        before = after;
    }
}

#[test]
fn a_proof_is_of_one_state_while_another_program_writes() {
    let place = place();
    let mut ledger = place.open();
    import(&mut ledger, "payments", 1, 10);
    let writer = Mutex::new((ledger, 1));
    let reader = place.read();
    let next = reader.head().expect("a head").number.next();
    let proof = reader.prove(About::Entry(next), 1, &Meanwhile(&writer));
    assert!(matches!(proof, Err(Error::NoSuchEntry(n)) if n == next), "{proof:?}");
    let _ = reader.prove(About::Entry(next), 1, &Keys).expect("now it is there");
}

/// Copies a file as `cp` does to a slow disk, and what lies beside it, one after the other.
fn copy(from: &Path, to: &Path, log: bool) {
    let mut source = fs::File::open(from).expect("the ledger");
    let mut bytes = Vec::new();
    while source.by_ref().take(1 << 16).read_to_end(&mut bytes).expect("read") > 0 {
        std::thread::sleep(Duration::from_millis(2));
    }
    fs::write(to, bytes).expect("written");
    if log {
        let beside = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
        let _ = fs::copy(beside(from), beside(to));
    }
}

#[test]
fn a_copy_made_while_it_is_written_is_an_earlier_state_or_refused() {
    let place = place();
    let done = AtomicBool::new(false);
    let (mut right, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut ledger = place.open();
            // On a fast disk it would grow faster than it is copied.
            for sequence in 1..=150 {
                if done.load(Ordering::Relaxed) {
                    return sequence;
                }
                import(&mut ledger, "payments", sequence, sequence.cast_signed() * 10);
                std::thread::sleep(Duration::from_millis(10));
            }
            150
        });
        for n in 0..60 {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("copy.db");
            copy(&place.path, &path, n % 2 == 0);
            match Ledger::open_read_only(&path, Some(&place.id)).and_then(|copy| copy.verify(&Keys)) {
                Ok(verified) => {
                    right += 1;
                    let standing = place.read().standing_of(&verified.head).expect("read");
                    assert_eq!(standing, HeadStanding::Has, "{:?}", verified.head);
                }
                Err(Error::Tampered { .. } | Error::Damaged { .. } | Error::Database { .. }) => refused += 1,
                Err(e) => panic!("{e}"),
            }
        }
        done.store(true, Ordering::Relaxed);
        let written = writer.join().expect("the writer");
        println!("{right} copies of an earlier state, {refused} refused; {written} bundles written meanwhile");
    });
    assert!(right > 0);
    let _ = place.read().verify(&Keys).expect("right");
}

#[test]
fn a_reader_that_stays_lets_the_log_grow_until_it_is_gone() {
    let place = place();
    let log = || fs::metadata(place.path.with_extension("db-wal")).map_or(0, |m| m.len());
    let mut ledger = place.open();
    let mut sequence = 0;
    let mut some = |ledger: &mut Ledger| {
        for _ in 0..40 {
            sequence += 1;
            import(ledger, "payments", sequence, sequence.cast_signed() * 10);
        }
    };
    some(&mut ledger);
    some(&mut ledger);
    let usual = log();
    let raw = place.raw();
    raw.execute_batch("BEGIN").expect("a long transaction");
    let read = || raw.query_row("SELECT count(*) FROM entry", [], |r| r.get::<_, i64>(0)).expect("read");
    let then = read();
    some(&mut ledger);
    some(&mut ledger);
    let grown = log();
    assert_eq!(read(), then, "it reads what was there");
    raw.execute_batch("ROLLBACK").expect("gone");
    some(&mut ledger);
    some(&mut ledger);
    let after = log();
    println!("the log: {usual} bytes, with a reader {grown}, afterwards {after}");
    assert!(usual < 6 << 20, "{usual}");
    assert!(grown > usual, "{grown}");
    assert!(after < grown + (1 << 20), "it is written from its beginning again: {after}");
    let _ = ledger.verify(&Keys).expect("right");
    drop((ledger, raw));
    assert_eq!(log(), 0);
}

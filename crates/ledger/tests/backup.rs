//! Copies of a ledger that is in use.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use ledger::{Error, Ledger};

fn names(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.folder.path()).expect("read").map(|e| e.expect("read"));
    let mut names: Vec<_> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Ends the writer, however the test ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_copy_is_complete_while_somebody_writes() {
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut ledger = place.open();
            for n in 2.. {
                import(&mut ledger, "payments", n, 10 * n.cast_signed());
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let stop = Stop(&done);
        let mut before = 0;
        for n in 0..5 {
            let to = place.folder.path().join(format!("copy-{n}"));
            let verified = place.read().backup(&to, &Keys).expect("a copy");
            let copy = Ledger::open_read_only(&to, Some(&place.id)).expect("opens");
            assert_eq!(copy.verify(&Keys).expect("right").head, verified.head);
            assert!(verified.head.number.get() >= before);
            before = verified.head.number.get();
            assert_eq!(fs::metadata(&to).expect("there").permissions().mode() & 0o777, 0o600);
        }
        drop(stop);
        writer.join().expect("written");
    });
    let left: Vec<_> = names(&place).into_iter().filter(|name| name.contains("copy") && name.len() > 6).collect();
    assert_eq!(left, [""; 0], "a copy is one file");
}

#[test]
fn a_copy_can_take_the_ledgers_place() {
    let place = place();
    let journal =
        |place: &Place| -> String { place.raw().pragma_query_value(None, "journal_mode", |r| r.get(0)).expect("read") };
    assert_eq!(journal(&place), "wal");
    import(&mut place.open(), "payments", 1, 10);
    let to = place.folder.path().join("copy");
    let verified = place.read().backup(&to, &Keys).expect("a copy");
    assert_eq!(verified.head, place.read().head().expect("a head"));
    place.put_back(&fs::read(&to).expect("the copy"));
    assert_eq!(journal(&place), "delete", "a copy needs no log");
    import(&mut place.open(), "payments", 2, 20);
    assert_eq!(journal(&place), "wal");
    let _ = place.read().verify(&Keys).expect("right");
    // A copy of a copy that lies where nothing can be written.
    fs::set_permissions(&to, fs::Permissions::from_mode(0o400)).expect("read-only");
    let again = place.folder.path().join("again");
    let copy = Ledger::open_read_only(&to, None).expect("opens");
    assert_eq!(copy.backup(&again, &Keys).expect("a copy").head, verified.head);
}

#[test]
fn nothing_is_overwritten_and_nothing_wrong_is_kept() {
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    for taken in ["copy", "copy-wal", "copy-journal"] {
        let taken = place.folder.path().join(taken);
        fs::write(&taken, "mine").expect("written");
        let refused = place.read().backup(&place.folder.path().join("copy"), &Keys);
        assert!(matches!(refused, Err(Error::Exists(path)) if path == taken));
        assert_eq!(fs::read(&taken).expect("there"), b"mine");
        fs::remove_file(taken).expect("removed");
    }
    assert!(matches!(place.read().backup(&place.path, &Keys), Err(Error::Exists(_))));
    let nowhere = place.folder.path().join("nowhere/copy");
    assert!(matches!(place.read().backup(&nowhere, &Keys), Err(Error::Io { .. })));
    let before = names(&place);
    place.raw().execute_batch("DROP TRIGGER tag_delete; DELETE FROM tag").expect("deleted");
    let wrong = place.read().backup(&place.folder.path().join("copy"), &Keys);
    assert!(matches!(&wrong, Err(Error::Tampered { path, .. }) if *path == place.read().path()), "{wrong:?}");
    let sound = |name: &String| !name.starts_with("ledger.db-");
    let after: Vec<_> = names(&place).into_iter().filter(sound).collect();
    assert_eq!(after, before.into_iter().filter(sound).collect::<Vec<_>>());
}

//! Bundles on their way through the ledger, and ledgers that cannot be opened.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::*;
use ledger::{Created, Custody, EntryNumber, Error, Filter, Ledger, Refusal, Signer, Standing, Status};
use manifest_schema::{OutsideText, Sequence};

fn number(n: u64) -> EntryNumber {
    EntryNumber::try_from(n).expect("a number")
}

#[test]
fn a_bundle_goes_from_begun_to_recorded() {
    let place = place();
    let mut ledger = place.open();
    let s = subject("payments", 42);
    assert_eq!(ledger.state_of(&s.stream, s.sequence).expect("read"), None);

    let standing = ledger.begin(&stamp(10), begun(&s)).expect("begun");
    assert_eq!(standing, Standing::New { entry: number(2) });
    let standing = ledger.begin(&stamp(20), begun(&s)).expect("begun again");
    assert_eq!(standing, Standing::Resumed { since: stamp(10).now, entry: number(2) });
    assert_eq!(ledger.newest(&s.stream).expect("read"), None, "nothing has reached production");

    assert_eq!(ledger.signing(&stamp(30), signing(&s)).expect("announced"), number(3));
    assert_eq!(ledger.signing(&stamp(31), signing(&s)).expect("announced again"), number(3));
    let state = ledger.state_of(&s.stream, s.sequence).expect("read").expect("known");
    assert_eq!((state.status, state.images), (Status::Signing, None));
    assert_eq!(ledger.newest(&s.stream).expect("read"), Some(s.sequence));

    assert_eq!(ledger.record(&stamp(40), recorded(&s)).expect("recorded"), number(4));
    assert_eq!(ledger.record(&stamp(41), recorded(&s)).expect("recorded again"), number(4));
    let standing = ledger.begin(&stamp(50), begun(&s)).expect("known");
    assert_eq!(standing, Standing::AlreadyRecorded { at: stamp(40).now, entry: number(4) });
    let standing = ledger.begin(&stamp(1), begun(&s)).expect("nothing is written, so the clock does not matter");
    assert_eq!(standing, Standing::AlreadyRecorded { at: stamp(40).now, entry: number(4) });

    let details = ledger.bundle(&s.bundle).expect("read").expect("known");
    assert_eq!(details.entries.iter().map(|e| e.act.kind()).collect::<Vec<_>>(), ["begun", "signing", "recorded"]);
    let row = details.bundle.expect("begun");
    assert_eq!((row.status, row.images, row.begun.time), (Status::Recorded, Some(1), stamp(10).now));
    let json = serde_json::to_value(&row).expect("json");
    assert_eq!(json["stream"], "payments");
    assert_eq!(json["recorded"]["entry"], 4);
    assert_eq!(json["status"], "recorded");

    let verified = ledger.verify(&Keys).expect("all is right");
    assert_eq!((verified.head, verified.begun, verified.recorded), (ledger.head().expect("a head"), 1, 1));
    drop(ledger);
    assert_eq!(place.read().head().expect("a head"), verified.head, "what was written is there after closing");
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let place = place();
    let mut ledger = place.open();
    import(&mut ledger, "payments", 42, 10);
    let s = subject("payments", 43);
    let _ = ledger.begin(&stamp(20), begun(&s)).expect("gaps and the next number are normal");
    let before = ledger.head().expect("a head");
    let refuse = |ledger: &mut Ledger, seconds, subject| match ledger.begin(&stamp(seconds), begun(&subject)) {
        Err(Error::Refusal(refusal)) => refusal,
        other => panic!("{subject:?}: {other:?}"),
    };

    let mut other = s.clone();
    other.manifest = digest("another manifest");
    let refusal = refuse(&mut ledger, 30, other.clone());
    assert!(
        matches!(&refusal, Refusal::OtherManifest { begun, given, .. } if **begun == s.manifest && **given == other.manifest)
    );

    let mut other = s.clone();
    other.bundle = subject("other", 1).bundle;
    assert!(matches!(refuse(&mut ledger, 30, other), Refusal::OtherBundle { begun, .. } if begun == s.bundle));

    let mut other = s.clone();
    other.sequence = Sequence::try_from(44).expect("a sequence");
    let refusal = refuse(&mut ledger, 30, other);
    assert!(matches!(refusal, Refusal::SameBundleOtherNumber { known_sequence, .. } if known_sequence == s.sequence));
    let mut other = s.clone();
    other.stream = "elsewhere".parse().expect("a stream");
    assert!(matches!(refuse(&mut ledger, 30, other), Refusal::SameBundleOtherNumber { .. }));

    let refusal = refuse(&mut ledger, 30, subject("payments", 41));
    assert!(matches!(refusal, Refusal::Rollback { newest, .. } if newest.get() == 42));
    let refusal = refuse(&mut ledger, 19, subject("payments", 50));
    assert_eq!(refusal, Refusal::ClockBehind { now: stamp(19).now, last: stamp(20).now });
    assert!(matches!(refuse(&mut ledger, 19, s.clone()), Refusal::ClockBehind { .. }), "also when resumed");

    assert_eq!(ledger.head().expect("a head"), before, "refusals write nothing by themselves");
    let _ = ledger.begin(&stamp(20), begun(&subject("other", 1))).expect("each stream has its own numbers");
}

#[test]
fn a_preview_says_what_begin_would_and_writes_nothing() {
    let place = place();
    import(&mut place.open(), "payments", 2, 10);
    let _ = place.open().begin(&stamp(20), begun(&subject("payments", 3))).expect("begun");
    let reader = place.read();
    let before = reader.head().expect("a head");
    let preview = |seconds, n| reader.preview(&stamp(seconds), &subject("payments", n));
    assert_eq!(preview(30, 4).expect("it may be begun"), None);
    let resumed = Standing::Resumed { since: stamp(20).now, entry: number(5) };
    assert_eq!(preview(30, 3).expect("known"), Some(resumed));
    let recorded = Standing::AlreadyRecorded { at: stamp(12).now, entry: number(4) };
    assert_eq!(preview(30, 2).expect("known"), Some(recorded));
    assert!(matches!(preview(30, 1), Err(Error::Refusal(Refusal::Rollback { .. }))));
    assert!(matches!(preview(19, 4), Err(Error::Refusal(Refusal::ClockBehind { .. }))));
    assert_eq!(reader.head().expect("a head"), before);
}

#[test]
fn a_stream_rises_when_tags_are_about_to_move() {
    let place = place();
    let mut ledger = place.open();
    let (old, new) = (subject("payments", 1), subject("payments", 2));
    let _ = ledger.begin(&stamp(1), begun(&old)).expect("begun");
    let _ = ledger.begin(&stamp(2), begun(&new)).expect("begun");
    let _ = ledger.begin(&stamp(3), begun(&old)).expect("nothing has reached production yet");
    ledger.signing(&stamp(4), signing(&new)).expect("announced");
    for result in
        [ledger.begin(&stamp(5), begun(&old)).map(|_| ()), ledger.signing(&stamp(5), signing(&old)).map(|_| ())]
    {
        assert!(matches!(result, Err(Error::Refusal(Refusal::Rollback { .. }))), "{result:?}");
    }
    let _ = ledger.begin(&stamp(6), begun(&new)).expect("the newer one can go on");
    ledger.record(&stamp(7), recorded(&new)).expect("recorded");
}

#[test]
fn the_order_of_acts_is_kept() {
    let place = place();
    let mut ledger = place.open();
    let s = subject("payments", 1);
    assert!(matches!(ledger.signing(&stamp(1), signing(&s)), Err(Error::NotBegun(id)) if id == s.bundle));
    assert!(matches!(ledger.record(&stamp(1), recorded(&s)), Err(Error::NotBegun(_))));
    let _ = ledger.begin(&stamp(1), begun(&s)).expect("begun");
    assert!(matches!(ledger.record(&stamp(1), recorded(&s)), Err(Error::NotAnnounced(_))));
    let mut other = s.clone();
    other.manifest = digest("another manifest");
    for result in [ledger.signing(&stamp(1), signing(&other)), ledger.record(&stamp(1), recorded(&other))] {
        assert!(matches!(result, Err(Error::Refusal(Refusal::OtherManifest { .. }))), "{result:?}");
    }

    let mut few = signing(&s);
    few.images.pop();
    ledger.signing(&stamp(2), few).expect("announced");
    let result = ledger.record(&stamp(3), recorded(&s));
    assert!(matches!(result, Err(Error::SignatureNotAnnounced { .. })), "{result:?}");
    let result = ledger.promoted(&stamp(3), recorded(&other));
    assert!(matches!(result, Err(Error::Refusal(Refusal::OtherManifest { .. }))), "{result:?}");
    let unknown = ledger.promoted(&stamp(3), recorded(&subject("payments", 2)));
    assert!(matches!(unknown, Err(Error::NotBegun(_))), "{unknown:?}");
    let mut renamed = recorded(&s);
    renamed.signatures.truncate(1);
    renamed.signatures[0].reference = "registry.prod.example/payments/api:latest".parse().expect("a reference");
    let result = ledger.record(&stamp(3), renamed);
    assert!(matches!(result, Err(Error::SignatureNotAnnounced { .. })), "{result:?}");
    assert_eq!(ledger.signing(&stamp(4), signing(&s)).expect("announced"), number(4), "another announcement");
    ledger.record(&stamp(5), recorded(&s)).expect("recorded");
    let result = ledger.record(&stamp(6), recorded(&other));
    assert!(matches!(result, Err(Error::Refusal(Refusal::OtherManifest { .. }))), "{result:?}");
    let mut other = recorded(&s);
    other.tags.clear();
    assert!(
        matches!(ledger.record(&stamp(6), other), Err(Error::RecordedOtherwise { entry, .. }) if entry == number(5))
    );
    assert_eq!(ledger.head().expect("a head").number, number(5));
}

#[test]
fn what_is_announced_for_another_key_is_announced_once_more() {
    let place = place();
    let mut ledger = place.open();
    let s = subject("payments", 1);
    let _ = ledger.begin(&stamp(1), begun(&s)).expect("begun");
    assert_eq!(ledger.signing(&stamp(2), signing(&s)).expect("announced"), number(3));
    let other = || ledger::Signing { production: Some(ledger_key('B')), ..signing(&s) };
    assert_eq!(ledger.signing(&stamp(3), other()).expect("announced"), number(4));
    assert_eq!(ledger.signing(&stamp(4), other()).expect("again"), number(4));
    assert_eq!(ledger.signing(&stamp(5), signing(&s)).expect("again"), number(3));
}

#[test]
fn the_image_manifests_of_an_index_are_those_of_all_bundles_that_brought_it() {
    let place = place();
    let mut ledger = place.open();
    let index = recorded(&subject("payments", 1)).images[0].digest;
    let mut expected = Vec::new();
    for sequence in [1, 2] {
        let s = subject("payments", sequence);
        let mut brought = recorded(&s);
        brought.images[0].digest = index;
        expected.push(brought.images[0].platforms[0].digest);
        let _ = ledger.begin(&stamp(10), begun(&s)).expect("begun");
        ledger.signing(&stamp(10), signing(&s)).expect("announced");
        ledger.record(&stamp(10), brought).expect("recorded");
    }
    import(&mut ledger, "payments", 3, 10);
    let mut found = ledger.platforms_of(&index).expect("read");
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn more_signatures_are_announced_for_a_bundle_that_was_begun_and_by_a_right_clock() {
    let place = place();
    let mut ledger = place.open();
    let s = subject("payments", 1);
    assert!(matches!(ledger.resigning(&stamp(1), signing(&s)), Err(Error::NotBegun(id)) if id == s.bundle));
    import(&mut ledger, "payments", 1, 10);
    import(&mut ledger, "payments", 2, 20);
    let mut other = s.clone();
    other.manifest = digest("another manifest");
    let result = ledger.resigning(&stamp(30), signing(&other));
    assert!(matches!(result, Err(Error::Refusal(Refusal::OtherManifest { .. }))), "{result:?}");
    let result = ledger.resigning(&stamp(21), signing(&s));
    assert!(matches!(result, Err(Error::Refusal(Refusal::ClockBehind { .. }))), "{result:?}");
    let result = ledger.resigned(&stamp(30), resigned(&s));
    assert!(matches!(result, Err(Error::NotAnnounced(id)) if id == s.bundle), "{result:?}");
    let announced = ledger.resigning(&stamp(30), signing(&s)).expect("it is in production, however old");
    let mut elsewhere = resigned(&s);
    elsewhere.signatures[0].reference = "registry.prod.example/payments/other:1".parse().expect("a reference");
    let result = ledger.resigned(&stamp(31), elsewhere);
    assert!(matches!(result, Err(Error::SignatureNotAnnounced { .. })), "{result:?}");
    let made = ledger.resigned(&stamp(31), resigned(&s)).expect("recorded");
    assert_eq!((announced, made), (number(8), number(9)));
    assert_eq!(ledger.newest(&s.stream).expect("read").map(|n| n.get()), Some(2));
    let _ = ledger.verify(&Keys).expect("right");
}

#[test]
fn facts_are_recorded_even_if_the_clock_was_set_back() {
    let place = place();
    let mut ledger = place.open();
    let s = subject("payments", 1);
    let _ = ledger.begin(&stamp(10), begun(&s)).expect("begun");
    assert!(matches!(ledger.signing(&stamp(9), signing(&s)), Err(Error::Refusal(Refusal::ClockBehind { .. }))));
    ledger.signing(&stamp(10), signing(&s)).expect("announced");
    ledger.record(&stamp(5), recorded(&s)).expect("recorded");
    ledger.refused(&stamp(4), refused(&subject("payments", 9))).expect("recorded");
    assert_eq!(ledger.head().expect("a head").time, stamp(10).now);
    let _ = ledger.verify(&Keys).expect("times never go back");
}

#[test]
fn refusals_and_lists_are_found() {
    let place = place();
    let mut ledger = place.open();
    import(&mut ledger, "payments", 1, 10);
    let bad = subject("payments", 2);
    ledger.refused(&stamp(20), refused(&bad)).expect("recorded");
    ledger.refused(&stamp(21), refused(&bad)).expect("each attempt counts");
    import(&mut ledger, "billing", 7, 30);

    assert_eq!(ledger.bundles(&Filter::default()).expect("read").len(), 2);
    let filter = Filter { stream: Some(bad.stream.clone()), ..Filter::default() };
    assert_eq!(ledger.bundles(&filter).expect("read").len(), 1);
    let refusals = ledger.refusals(&filter).expect("read");
    assert_eq!(refusals.len(), 2);
    assert_eq!((&refusals[0].subject, refusals[0].refused.time), (&bad, stamp(21).now));
    let details = ledger.bundle(&bad.bundle).expect("read").expect("known");
    assert_eq!((details.bundle, details.entries.len()), (None, 2));
    assert_eq!(ledger.bundle(&subject("none", 1).bundle).expect("read"), None);

    let (index, amd64) = (digest("index payments 1"), digest("amd64 payments 1"));
    let by_index = ledger.images_by_digest(&index, 10).expect("read");
    let by_platform = ledger.images_by_digest(&amd64, 10).expect("read");
    assert_eq!((by_index.len(), by_platform.len()), (1, 1));
    assert_eq!((by_index[0].digest, by_index[0].platform.as_ref()), (index, None));
    assert_eq!(by_platform[0].digest, index);
    assert_eq!(by_platform[0].platform.as_ref().map(ToString::to_string).as_deref(), Some("linux/amd64"));
    assert_eq!(by_platform[0].recorded.time, stamp(12).now);
    assert!(ledger.images_by_digest(&digest("unknown"), 10).expect("read").is_empty());
    assert_eq!(ledger.signatures_by_digest(&amd64, 10).expect("read").len(), 1);
    let tag = "registry.prod.example/payments/api:1".parse().expect("a tag");
    let moves = ledger.moves_of(&tag, 10).expect("read");
    assert_eq!((moves.len(), moves[0].digest, moves[0].previous), (1, index, Some(digest("before"))));

    let entries = ledger.entries(number(3)).collect::<Result<Vec<_>, _>>().expect("read");
    assert_eq!(entries.iter().map(|e| e.entry.number.get()).collect::<Vec<_>>(), [3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(entries[1].entry.previous, entries[0].hash);
    assert_eq!(entries[6].hash, ledger.head().expect("a head").hash);
}

#[test]
fn what_is_listed_comes_newest_first_and_once() {
    let place = place();
    let mut ledger = place.open();
    let tag: manifest_schema::TagRef = "registry.prod.example/payments/api:stable".parse().expect("a tag");
    let one = digest("an image that is no index");
    let mut entries = Vec::new();
    for n in [1, 2, 3] {
        let s = subject("payments", n);
        let mut record = recorded(&s);
        if n != 3 {
            record.images[0].digest = one;
        }
        record.images[0].platforms[0].digest = one;
        let twice = record.images[0].platforms[0].clone();
        record.images[0].platforms.push(twice);
        record.tags[0].tag = tag.clone();
        record.signatures.truncate(1);
        record.signatures[0].digest = one;
        let mut announced = signing(&s);
        announced.images[0].digest = one;
        let _ = ledger.begin(&stamp(10), begun(&s)).expect("begun");
        ledger.signing(&stamp(10), announced).expect("announced");
        entries.push(ledger.record(&stamp(10), record).expect("recorded"));
        ledger.refused(&stamp(10), refused(&s)).expect("recorded");
    }
    entries.reverse();
    let images = ledger.images_by_digest(&one, 10).expect("read");
    assert_eq!(images.iter().map(|i| i.recorded.entry).collect::<Vec<_>>(), entries);
    assert_eq!(ledger.images_by_digest(&one, 1).expect("read").len(), 1);
    let signatures = ledger.signatures_by_digest(&one, 10).expect("read");
    assert_eq!(signatures.iter().map(|s| s.recorded.entry).collect::<Vec<_>>(), entries);
    let moves = ledger.moves_of(&tag, 10).expect("read");
    assert_eq!(moves.iter().map(|m| m.recorded.entry).collect::<Vec<_>>(), entries);
    let refusals = |before| ledger.refusals(&Filter { before, ..Filter::default() }).expect("read");
    let newest = refusals(None)[0].refused.entry;
    assert_eq!((refusals(None).len(), refusals(Some(newest)).len()), (3, 2));
    ledger.withdrawn(&stamp(20), withdrawn(&subject("payments", 9))).expect("withdrawn");
    assert_eq!(ledger.withdrawals(&one).expect("read"), []);
    assert_eq!(ledger.withdrawals(&digest("index payments 9")).expect("read").len(), 1);
}

#[test]
fn the_lock_is_a_file_of_its_own_that_names_the_writer() {
    let place = place();
    let lock = place.folder.path().join("ledger.db.lock");
    let elsewhere = place.folder.path().join("elsewhere");
    fs::write(&elsewhere, "mine").expect("written");
    std::os::unix::fs::symlink(&elsewhere, &lock).expect("a link");
    let opened = place.try_open();
    assert!(matches!(opened, Err(Error::Io { .. })), "a link is not followed: {opened:?}");
    assert_eq!(fs::read(&elsewhere).expect("there"), b"mine");
    fs::remove_file(&lock).expect("removed");
    fs::write(&lock, "4294967295 of long ago").expect("written");
    let writer = place.open();
    for _ in 0..2 {
        let busy = place.try_open();
        assert!(matches!(busy, Err(Error::Busy { process: Some(p), .. }) if p == std::process::id()), "{busy:?}");
    }
    assert_eq!(fs::read_to_string(&lock).expect("read"), format!("{}\n", std::process::id()));
    fs::remove_file(&lock).expect("removed");
    drop(writer);
    place.open();
    assert_eq!(fs::metadata(&lock).expect("there").permissions().mode() & 0o777, 0o600);
}

#[test]
fn one_writer_at_a_time() {
    let place = place();
    let mut ledger = place.open();
    let busy = place.try_open().expect_err("locked");
    assert!(
        matches!(&busy, Error::Busy { path, process: Some(p) } if path.ends_with("ledger.db") && *p == std::process::id())
    );
    assert!(busy.to_string().contains("ledger.db"), "{busy}");
    let reader = place.read();
    import(&mut ledger, "payments", 1, 10);
    assert_eq!(reader.head().expect("a head"), ledger.head().expect("a head"), "readers see what is written");
    let mut reader = reader;
    assert!(matches!(reader.begin(&stamp(20), begun(&subject("payments", 2))), Err(Error::ReadOnly(_))));

    let link = place.folder.path().join("link.db");
    std::os::unix::fs::symlink(&place.path, &link).expect("a link");
    assert!(
        matches!(Ledger::open(&link, None, None), Err(Error::Busy { .. })),
        "the lock is the file's, not the name's"
    );
    drop(ledger);
    let _ = place.open();
    assert!(matches!(place.raw().execute_batch("BEGIN EXCLUSIVE"), Ok(())));
}

#[test]
fn an_exclusive_transaction_of_another_program_is_busy() {
    let place = place();
    let mut ledger = place.open();
    let raw = place.raw();
    raw.execute_batch("BEGIN IMMEDIATE").expect("another program's transaction");
    let result = ledger.refused(&stamp(1), refused(&subject("payments", 1)));
    assert!(matches!(result, Err(Error::Busy { process: None, .. })), "{result:?}");
    raw.execute_batch("ROLLBACK").expect("rolled back");
    ledger.refused(&stamp(1), refused(&subject("payments", 1))).expect("written");
}

#[test]
fn what_is_no_ledger_is_not_opened() {
    let place = place();
    let folder = place.folder.path();
    let both = |path: &std::path::Path| {
        let write = Ledger::open(path, None, None).expect_err("not a ledger");
        let read = Ledger::open_read_only(path, None).expect_err("not a ledger");
        assert_eq!(std::mem::discriminant(&write), std::mem::discriminant(&read), "{write:?} {read:?}");
        read
    };
    assert!(matches!(both(&folder.join("none.db")), Error::Missing(_)));
    assert!(matches!(both(folder), Error::NotAFile(_)));
    let file = folder.join("file.db");
    fs::write(&file, "").expect("written");
    assert!(matches!(both(&file), Error::NotALedger { .. }), "an empty file is no new ledger");
    fs::write(&file, "text\n".repeat(1000)).expect("written");
    assert!(matches!(both(&file), Error::NotALedger { .. }));
    fs::remove_file(&file).expect("removed");
    rusqlite::Connection::open(&file).expect("opened").execute_batch("CREATE TABLE entry (number)").expect("made");
    assert!(matches!(both(&file), Error::NotALedger { .. }), "another program's database");

    let other = common::place();
    let result = Ledger::open(&place.path, Some(&other.id), None);
    assert!(
        matches!(result, Err(Error::OtherLedger { expected, found, .. }) if expected == other.id && found == place.id)
    );

    for (name, value) in [("application_id", 0), ("user_version", 0), ("user_version", -1)] {
        let before: i64 = place.raw().pragma_query_value(None, name, |r| r.get(0)).expect("read");
        place.raw().pragma_update(None, name, value).expect("changed");
        assert!(matches!(both(&place.path), Error::NotALedger { .. }), "{name} {value}");
        place.raw().pragma_update(None, name, before).expect("changed back");
    }
    place.raw().pragma_update(None, "user_version", 4).expect("changed");
    assert!(matches!(both(&place.path), Error::Newer { found: 4, known: 3, .. }));
}

#[test]
fn a_ledger_is_never_overwritten() {
    let place = place();
    let before = fs::read(&place.path).expect("the file");
    let create = |path: &std::path::Path| Ledger::create(path, &stamp(0), Created::default(), None);
    assert!(matches!(create(&place.path), Err(Error::Exists(_))));
    assert_eq!(fs::read(&place.path).expect("the file"), before);
    let second = place.folder.path().join("second.db");
    for beside in ["second.db-shm", "second.db-journal", "second.db-wal"] {
        let left = place.folder.path().join(beside);
        fs::write(&left, "of a ledger that was here").expect("written");
        assert!(matches!(create(&second), Err(Error::Exists(path)) if path == left));
        assert!(!second.exists());
        if beside != "second.db-wal" {
            fs::remove_file(&left).expect("removed");
        }
    }
    let third = place.folder.path().join("third.db");
    std::os::unix::fs::symlink("nowhere", place.folder.path().join("third.db-wal")).expect("a link");
    assert!(matches!(create(&third), Err(Error::Exists(path)) if path.ends_with("third.db-wal")), "to nowhere");
    fs::remove_file(place.folder.path().join("third.db-wal")).expect("removed");
    std::os::unix::fs::symlink("nowhere", place.folder.path().join("dangling.db")).expect("a link");
    assert!(matches!(create(&place.folder.path().join("dangling.db")), Err(Error::Exists(_))));
    assert!(matches!(create(&place.folder.path().join("no/folder.db")), Err(Error::Io { .. })));

    let mode = fs::metadata(&place.path).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut names: Vec<_> =
        fs::read_dir(place.folder.path()).expect("the folder").map(|e| e.expect("an entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["dangling.db", "ledger.db", "ledger.db.head", "second.db-wal"], "nothing unfinished is left");
}

#[test]
fn a_ledger_on_read_only_media_is_read() {
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    let copy = place.folder.path().join("media ?#%41");
    fs::create_dir(&copy).expect("a folder");
    let file = copy.join("ledger.db");
    fs::copy(&place.path, &file).expect("copied");
    // Permissions do not stop the superuser from making a log. A link to nowhere in its place stops anyone.
    std::os::unix::fs::symlink("nowhere/log", copy.join("ledger.db-wal")).expect("a link");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o500)).expect("set");
    let plain =
        rusqlite::Connection::open_with_flags(&file, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).expect("opens");
    plain.query_row("SELECT count(*) FROM entry", [], |r| r.get::<_, i64>(0)).expect_err("there is no log");
    let ledger = Ledger::open_read_only(&file, Some(&place.id)).expect("opens");
    assert_eq!(ledger.verify(&Keys).expect("right").recorded, 1);
    drop(ledger);
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o700)).expect("set");
    // Where there is a log that cannot be read, the file alone is an older state.
    fs::remove_file(copy.join("ledger.db-wal")).expect("removed");
    fs::create_dir(copy.join("ledger.db-wal")).expect("in the log's place");
    fs::write(copy.join("ledger.db-wal/something"), "in it").expect("written");
    let opened = Ledger::open_read_only(&file, Some(&place.id));
    assert!(matches!(opened, Err(Error::Database { .. })), "{opened:?}");
}

/// Makes a file while it signs.
struct Meanwhile(std::path::PathBuf);

impl Signer for Meanwhile {
    fn fingerprint(&self) -> ledger::Fingerprint {
        ledger_key('A')
    }
    fn certificate(&self) -> Result<Vec<u8>, OutsideText> {
        Key(ledger_key('A')).certificate()
    }
    fn sign(&self, document: &[u8]) -> Result<Vec<u8>, OutsideText> {
        fs::write(&self.0, "mine").expect("written");
        Key(ledger_key('A')).sign(document)
    }
}

#[test]
fn what_comes_into_being_meanwhile_is_not_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.db");
    let custody = Custody { signer: Box::new(Meanwhile(path.clone())), ..custody(&path, 'A') };
    let created = Ledger::create(&path, &stamp(0), Created::default(), Some(&custody));
    assert!(matches!(&created, Err(Error::Exists(p)) if *p == path), "{created:?}");
    assert_eq!(fs::read(&path).expect("there"), b"mine");
    let names = fs::read_dir(folder.path()).expect("the folder").map(|e| e.expect("an entry").file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["ledger.db"], "nothing unfinished is left");
}

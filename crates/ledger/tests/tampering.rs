//! The ledger against other programs that open its file.

mod common;

use std::fs;

use common::*;
use ledger::{
    Act, Created, Entry, EntryHash, EntryNumber, Error, Fault, Head, KeyChange, KeyChangeType, KeyChanged, Ledger,
    Rule, Signer, Stored,
};
use manifest_schema::OutsideText;
use rusqlite::Connection;
use rusqlite::types::Value;

/// A ledger with a row in every table, more than one in most.
fn filled() -> Place {
    let mut place = place();
    let mut ledger = place.open();
    let s = |n| subject("payments", n);
    import(&mut ledger, "payments", 1, 10);
    ledger.refused(&stamp(30), refused(&s(3))).expect("recorded");
    for n in [4, 5] {
        let _ = ledger.begin(&stamp(40), begun(&s(n))).expect("begun");
        ledger.received(&stamp(40), received(&s(n))).expect("received");
    }
    ledger.approved(&stamp(42), approved(&s(4), 'B')).expect("approved");
    ledger.approved(&stamp(42), approved(&s(4), 'C')).expect("approved");
    ledger.approval_withdrawn(&stamp(43), approval_withdrawn(&s(4), 'C')).expect("withdrawn");
    ledger.rejected(&stamp(44), rejected(&s(5))).expect("rejected");
    ledger.override_rules(&stamp(45), overridden(&s(4), &[Rule::Approvals, Rule::Expired])).expect("overridden");
    ledger.signing(&stamp(46), signing(&s(4))).expect("announced");
    ledger.promoted(&stamp(47), recorded(&s(4))).expect("promoted");
    ledger.withdrawn(&stamp(48), withdrawn(&s(4))).expect("withdrawn");
    ledger.change_key(&stamp(49), Box::new(Key(ledger_key('D'))), join).expect("changed");
    drop(ledger);
    place.key = 'D';
    let old = fs::read(&place.path).expect("the file");
    let mut ledger = place.open();
    let _ = ledger.begin(&stamp(50), begun(&s(6))).expect("begun");
    ledger.signing(&stamp(50), signing(&s(6))).expect("announced");
    drop(ledger);
    place.put_back(&old);
    let reason = OutsideText::new("the disk died");
    Ledger::adopt(&place.path, Some(&place.id), place.custody(), &stamp(60), reason, &[]).expect("adopted");
    place
}

fn fault(place: &Place) -> Fault {
    match Ledger::open_read_only(&place.path, None).and_then(|l| l.verify(&Keys)) {
        Err(Error::Tampered { fault, .. }) => fault,
        other => panic!("expected a fault, found {other:?}"),
    }
}

fn columns(raw: &Connection, table: &str) -> Vec<String> {
    raw.prepare(&format!("SELECT name FROM pragma_table_info('{table}')"))
        .and_then(|mut s| s.query_map([], |r| r.get(0))?.collect())
        .expect("columns")
}

/// A value that a column takes.
fn any(column: &str) -> &'static str {
    if column == "hash" { "x'07'" } else { "'7'" }
}

fn dump(raw: &Connection) -> rusqlite::Result<Vec<Vec<Value>>> {
    let mut all = Vec::new();
    for table in TABLES.into_iter().chain(TABLES_OF_3) {
        let mut statement = raw.prepare(&format!("SELECT * FROM {table} NOT INDEXED"))?;
        let width = statement.column_count();
        let rows = statement.query_map([], |r| (0..width).map(|i| r.get(i)).collect())?;
        all.extend(rows.collect::<rusqlite::Result<Vec<Vec<Value>>>>()?);
    }
    Ok(all)
}

fn drop_triggers(raw: &Connection) {
    let names: Vec<String> = raw
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
        .and_then(|mut s| s.query_map([], |r| r.get(0))?.collect())
        .expect("triggers");
    assert_eq!(names.len(), 66, "three of every table");
    let raw = raw.unchecked_transaction().expect("a transaction");
    for name in names {
        raw.execute_batch(&format!("DROP TRIGGER {name}")).expect("dropped");
    }
    raw.commit().expect("committed");
}

#[test]
fn every_table_is_append_only_for_any_program() {
    let place = filled();
    let raw = place.raw();
    let before = dump(&raw).expect("a dump");
    for recursive in [true, false] {
        raw.pragma_update(None, "recursive_triggers", recursive).expect("set");
        raw.pragma_update(None, "foreign_keys", false).expect("set");
        for table in TABLES.into_iter().chain(TABLES_OF_3) {
            let first = &columns(&raw, table)[0];
            let key = if table == "entry" { "number" } else { "entry, n" };
            for sql in [
                format!("UPDATE {table} SET {first} = {first} + 1"),
                format!("UPDATE OR REPLACE {table} SET {first} = 1"),
                format!("DELETE FROM {table}"),
                format!("DELETE FROM {table} WHERE {first} = (SELECT max({first}) FROM {table})"),
                format!("INSERT OR REPLACE INTO {table} SELECT * FROM {table}"),
                format!("REPLACE INTO {table} SELECT * FROM {table} ORDER BY {first} DESC LIMIT 1"),
                format!(
                    "INSERT INTO {table} SELECT * FROM {table} WHERE true ON CONFLICT ({key}) DO UPDATE SET {first} = 1"
                ),
                format!("INSERT OR IGNORE INTO {table} SELECT * FROM {table}"),
            ] {
                let result = raw.execute(&sql, []);
                let message = result.expect_err(&sql).to_string();
                assert!(message.contains("append-only"), "{sql}: {message}");
            }
        }
        for table in TABLES.into_iter().chain(TABLES_OF_3).skip(1) {
            let rest = columns(&raw, table).iter().skip(2).map(|c| format!(", {}", any(c))).collect::<String>();
            for entry in ["1", "(SELECT max(number) + 1 FROM entry)"] {
                let sql = format!("INSERT INTO {table} VALUES ({entry}, 99{rest})");
                let message = raw.execute(&sql, []).expect_err(&sql).to_string();
                assert!(message.contains("append-only"), "{sql}: {message}");
            }
        }
        // Through the keys that are not the primary one: under the newest entry's number, with a free place.
        for sql in [
            "REPLACE INTO entry SELECT (SELECT max(number) + 1 FROM entry), hash, x'00' FROM entry LIMIT 1",
            "REPLACE INTO entry SELECT NULL, x'00', x'00'",
            "REPLACE INTO entry SELECT 100, x'00', x'00'",
            "REPLACE INTO bundle SELECT (SELECT max(number) FROM entry), 99, id, 'x', 9, manifest FROM bundle LIMIT 1",
            "REPLACE INTO approval SELECT (SELECT max(number) FROM entry), 99, 'x', 'x', statement FROM approval LIMIT 1",
            "REPLACE INTO received SELECT (SELECT max(number) FROM entry), 99, bundle, 0 FROM received LIMIT 1",
            "REPLACE INTO rejection SELECT (SELECT max(number) FROM entry), 99, bundle FROM rejection LIMIT 1",
            "REPLACE INTO approval_withdrawal SELECT (SELECT max(number) FROM entry), 99, 'x', approver, statement
                 FROM approval_withdrawal LIMIT 1",
            "REPLACE INTO recorded SELECT (SELECT max(number) FROM entry), 99, bundle, 'x', 9, 0 FROM recorded LIMIT 1",
        ] {
            let message = raw.execute(sql, []).expect_err(sql).to_string();
            assert!(message.contains("append-only"), "{sql}: {message}");
        }
    }
    assert_eq!(dump(&raw).expect("a dump"), before);
    let _ = place.read().verify(&Keys).expect("nothing changed");
}

#[test]
fn a_row_added_by_another_program_is_found() {
    for table in TABLES.into_iter().chain(TABLES_OF_3).skip(1) {
        let place = filled();
        let raw = place.raw();
        let rest = columns(&raw, table).iter().skip(2).map(|c| any(c)).collect::<Vec<_>>().join(", ");
        raw.execute(&format!("INSERT INTO {table} VALUES ((SELECT max(number) FROM entry), 99, {rest})"), [])
            .expect("appending is what the triggers allow");
        let found = fault(&place);
        assert!(matches!(found, Fault::ExtraRow { table: t, .. } if t == table), "{table}: {found}");
    }
    let place = filled();
    let next = place.read().head().expect("a head").number.get() + 1;
    let raw = place.raw();
    drop_triggers(&raw);
    raw.pragma_update(None, "foreign_keys", false).expect("set");
    raw.execute("INSERT INTO tag SELECT ?1, n, bundle, tag, digest, previous FROM tag LIMIT 1", [next.cast_signed()])
        .expect("a row of an entry that is still to come");
    drop(raw);
    assert!(matches!(fault(&place), Fault::ExtraRow { table: "tag", entry } if entry == next.cast_signed()));
    let place = filled();
    place.raw().execute("INSERT INTO entry VALUES (?1, x'00', x'00')", [next.cast_signed()]).expect("appended");
    assert!(matches!(fault(&place), Fault::Hash { number, .. } if number.get() == next));
    assert!(place.try_open().is_err(), "nothing is written after a wrong entry");
}

#[test]
fn a_changed_value_in_any_column_is_named() {
    let original = filled();
    drop_triggers(&original.raw());
    let bytes = fs::read(&original.path).expect("the file");
    let count = |t: &str| original.raw().query_row(&format!("SELECT count(*) FROM {t}"), [], |r| r.get::<_, i64>(0));
    for table in TABLES.into_iter().chain(TABLES_OF_3) {
        for row in 0..count(table).expect("a count") {
            for column in columns(&original.raw(), table) {
                let copy = Place {
                    folder: tempfile::tempdir().expect("a folder"),
                    path: "".into(),
                    id: original.id,
                    key: original.key,
                };
                let copy = Place { path: copy.folder.path().join("ledger.db"), ..copy };
                fs::write(&copy.path, &bytes).expect("copied");
                let raw = copy.raw();
                raw.pragma_update(None, "synchronous", false).expect("set");
                raw.pragma_update(None, "foreign_keys", false).expect("set");
                let keys = if table == "entry" { "number" } else { "entry, n" };
                let place = format!("SELECT {keys} FROM {table} ORDER BY {keys} LIMIT 1 OFFSET {row}");
                let sql = format!("SELECT {column} FROM {table} WHERE ({keys}) = ({place})");
                let changed = match raw.query_row(&sql, [], |r| r.get(0)).expect("a value") {
                    Value::Null => Value::Text("x".into()),
                    Value::Integer(n) => Value::Integer(n + 100),
                    Value::Text(mut t) => {
                        let last = if t.ends_with('0') { '1' } else { '0' };
                        t.pop();
                        t.push(last);
                        Value::Text(t)
                    }
                    Value::Blob(mut b) => {
                        let middle = b.len() / 2;
                        b[middle] ^= 1;
                        Value::Blob(b)
                    }
                    Value::Real(_) => unreachable!("no table has one"),
                };
                raw.execute(&format!("UPDATE {table} SET {column} = ?1 WHERE ({keys}) = ({place})"), [changed])
                    .expect("changed");
                drop(raw);
                let what = format!("{table} row {row} column {column}");
                // A first entry that is wrong keeps the ledger from being opened at all.
                let found = fault(&copy);
                match found {
                    Fault::Row { table: t, .. } | Fault::ExtraRow { table: t, .. } => {
                        assert_eq!(t, table, "{what}: {found}")
                    }
                    Fault::Hash { number, .. } => {
                        assert!(table == "entry" && number.get() as i64 == row + 1, "{what}: {found}")
                    }
                    Fault::Gap { expected, .. } => {
                        assert_eq!((table, expected.get() as i64), ("entry", row + 1), "{what}")
                    }
                    Fault::Empty => assert_eq!((table, column.as_str()), ("entry", "number"), "{what}: {found}"),
                    other => panic!("{what}: {other}"),
                }
            }
        }
    }
}

#[test]
fn a_missing_row_is_named() {
    for table in TABLES.into_iter().chain(TABLES_OF_3) {
        let place = filled();
        let raw = place.raw();
        drop_triggers(&raw);
        raw.pragma_update(None, "foreign_keys", false).expect("set");
        let first = &columns(&raw, table)[0];
        raw.execute(
            &format!("DELETE FROM {table} WHERE {first} = (SELECT min({first}) FROM {table} WHERE {first} > 1)"),
            [],
        )
        .expect("deleted");
        drop(raw);
        match fault(&place) {
            Fault::Row { table: t, present: false, .. } => assert_eq!(t, table),
            Fault::Gap { expected, found } => assert_eq!((table, expected.get(), found), ("entry", 2, 3)),
            other => panic!("{table}: {other}"),
        }
    }
}

#[test]
fn the_chain_holds_even_if_hashes_are_made_again() {
    let place = filled();
    let raw = place.raw();
    drop_triggers(&raw);
    let bytes: Vec<u8> = raw.query_row("SELECT bytes FROM entry WHERE number = 3", [], |r| r.get(0)).expect("bytes");
    let changed = String::from_utf8(bytes).expect("text").replace("sealift-import 0.1.0", "sealift-import 0.1.1");
    let hash = ledger::entry_hash(changed.as_bytes());
    raw.execute("UPDATE entry SET hash = ?1, bytes = ?2 WHERE number = 3", (hash.as_bytes(), changed.as_bytes()))
        .expect("changed");
    assert!(matches!(fault(&place), Fault::Row { table: "node", entry, .. } if entry.get() == 3), "the tree holds too");
    raw.execute("UPDATE node SET hash = ?1 WHERE entry = 3", [ledger::leaf(changed.as_bytes()).as_bytes()])
        .expect("changed");
    drop(raw);
    assert!(matches!(fault(&place), Fault::Chain { number, .. } if number.get() == 4));
}

/// Appends an entry as the triggers let any program do, with the right hash; without the rows that belong to it.
fn append(place: &Place, change: impl FnOnce(&mut Entry)) {
    let ledger = place.read();
    let last = ledger.head().expect("a head").number;
    let Stored { mut entry, hash, .. } = ledger.entry(last).expect("read").expect("an entry");
    (entry.number, entry.previous) = (last.next(), hash);
    change(&mut entry);
    let bytes = serde_json::to_vec(&entry).expect("bytes");
    let row = (last.next().get().cast_signed(), ledger::entry_hash(&bytes).as_bytes().to_vec(), bytes);
    place.raw().execute("INSERT INTO entry VALUES (?1, ?2, ?3)", row).expect("appended");
}

#[test]
fn an_entry_that_may_not_stand_where_it_stands_is_named() {
    let other = place().id;
    type Change = Box<dyn FnOnce(&mut Entry)>;
    let cases: [(Change, &str); 4] = [
        (Box::new(move |e| e.ledger = other), "it belongs to another ledger"),
        (Box::new(|e| e.act = Act::Created(Created::default())), "the first entry, and no other, creates the ledger"),
        (Box::new(|e| e.time = stamp(1).now), "its time is before the time of the entry before it"),
        (Box::new(|e| e.number = e.number.next()), "it has another number"),
    ];
    for (change, expected) in cases {
        let place = place();
        import(&mut place.open(), "payments", 1, 10);
        append(&place, change);
        let found = fault(&place);
        assert!(
            matches!(found, Fault::Misplaced { number, reason } if number.get() == 5 && reason == expected),
            "{found}"
        );
    }
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    append(&place, |e| e.previous = EntryHash::NONE);
    assert!(matches!(fault(&place), Fault::Chain { number, .. } if number.get() == 5));
}

#[test]
fn a_ledger_begins_with_what_creates_it() {
    let place = place();
    let mut first = place.read().entry(EntryNumber::FIRST).expect("read").expect("an entry").entry;
    first.act = Act::Refused(refused(&subject("payments", 1)));
    let bytes = serde_json::to_vec(&first).expect("bytes");
    let reader = place.read();
    let raw = place.raw();
    drop_triggers(&raw);
    let row = (ledger::entry_hash(&bytes).as_bytes().to_vec(), bytes);
    raw.execute("UPDATE entry SET hash = ?1, bytes = ?2", row).expect("changed");
    drop(raw);
    for (result, expected) in [
        (Ledger::open_read_only(&place.path, None).map(|_| ()), "the first entry does not create the ledger"),
        (reader.verify(&Keys).map(|_| ()), "the first entry, and no other, creates the ledger"),
    ] {
        let misplaced = |fault: &Fault| matches!(fault, Fault::Misplaced { reason, .. } if *reason == expected);
        assert!(matches!(&result, Err(Error::Tampered { fault, .. }) if misplaced(fault)), "{result:?}");
    }
}

#[test]
fn the_first_row_that_is_wrong_is_named() {
    for (entry, n) in [(0, 0), (4, -1), (4, 99), (5, 0)] {
        let place = place();
        import(&mut place.open(), "payments", 1, 10);
        import(&mut place.open(), "payments", 2, 20);
        let raw = place.raw();
        drop_triggers(&raw);
        raw.pragma_update(None, "foreign_keys", false).expect("set");
        raw.execute("INSERT INTO tag VALUES (?1, ?2, 'x', 'x', 'x', NULL)", (entry, n)).expect("a row of nobody");
        raw.execute("UPDATE entry SET bytes = x'00' WHERE number = 6", []).expect("changed");
        drop(raw);
        let found = fault(&place);
        assert!(matches!(found, Fault::ExtraRow { table: "tag", entry: e } if e == entry), "{entry} {n}: {found}");
    }
}

#[test]
fn a_change_of_the_key_that_was_not_signed_by_both_for_this_place_is_named() {
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    let before = fs::read(&place.path).expect("the file");
    let after = place.read().head().expect("a head");
    let earlier = Head { number: 3.try_into().expect("a number"), ..after };
    let key = |letter| Some(ledger_key(letter));
    for (what, from, said, signers, expected) in [
        ("from another key", key('C'), (after, key('C'), 'B'), "CB", "it changes from CCCC"),
        ("from no key", None, (after, None, 'B'), "B", "it changes from none"),
        ("without the old key", key('A'), (after, key('A'), 'B'), "B", "AAAA did not sign it"),
        ("without the new key", key('A'), (after, key('A'), 'B'), "A", "BBBB did not sign it"),
        ("signed from another key", key('A'), (after, key('C'), 'B'), "AB", "another change"),
        ("signed to another key", key('A'), (after, key('A'), 'C'), "AB", "another change"),
        ("signed after another entry", key('A'), (earlier, key('A'), 'B'), "AB", "another change"),
        // It lacks its rows only.
        ("as it should be", key('A'), (after, key('A'), 'B'), "AB", ""),
    ] {
        place.put_back(&before);
        let (after, said_from, said_to) = said;
        let document = KeyChange { kind: KeyChangeType::V1, after, from: said_from, to: ledger_key(said_to) };
        let document = serde_json::to_vec(&document).expect("bytes");
        let signed = signers.chars().map(|letter| Key(ledger_key(letter)).sign(&document).expect("signed"));
        let file = signed.reduce(|one, two| join(&one, &two).expect("joined")).expect("a signature");
        let text = |bytes| OutsideText::whole(String::from_utf8(bytes).expect("text"));
        let certificates = signers.chars().flat_map(|letter| Key(ledger_key(letter)).certificate().expect("bytes"));
        let certificates = text(certificates.collect());
        let change = KeyChanged { from, to: ledger_key('B'), certificates, file: text(file) };
        append(&place, |e| e.act = Act::KeyChanged(change));
        match fault(&place) {
            Fault::KeyChange { number, reason } => {
                assert!(
                    number.get() == 5 && !expected.is_empty() && reason.raw().contains(expected),
                    "{what}: {reason:?}"
                )
            }
            other => {
                assert!(expected.is_empty() && matches!(other, Fault::Row { table: "act", .. }), "{what}: {other}")
            }
        }
    }
}

/// Cuts the ledger off behind an entry, with triggers as they were.
fn cut_off(place: &Place, last: u64) {
    let raw = place.raw();
    let triggers: Vec<String> = raw
        .prepare("SELECT sql FROM sqlite_schema WHERE type = 'trigger'")
        .and_then(|mut s| s.query_map([], |r| r.get(0))?.collect())
        .expect("triggers");
    drop_triggers(&raw);
    for table in TABLES.into_iter().chain(TABLES_OF_3).rev() {
        let first = &columns(&raw, table)[0];
        raw.execute(&format!("DELETE FROM {table} WHERE {first} > {last}"), []).expect("deleted");
    }
    for trigger in triggers {
        raw.execute_batch(&trigger).expect("made again");
    }
}

#[test]
fn a_ledger_cut_off_is_not_what_its_key_signed() {
    let mut place = filled();
    cut_off(&place, 15);
    place.key = 'A';
    assert!(matches!(fault(&place), Fault::Head { number, .. } if number.get() == 15));
    assert!(matches!(place.try_open(), Err(Error::Tampered { fault: Fault::Head { .. }, .. })));
}

#[test]
fn a_ledger_cut_off_with_its_head_of_then_shows_against_the_second_file() {
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    let head: Vec<u8> = place.raw().query_row("SELECT statement FROM head", [], |r| r.get(0)).expect("a head");
    let last = place.read().head().expect("a head");
    import(&mut place.open(), "payments", 2, 20);
    cut_off(&place, last.number.get());
    place.raw().execute("UPDATE head SET statement = ?1", [head]).expect("put back");
    let cut = place.read().verify(&Keys).expect("by itself it is right").head;
    assert_eq!(cut, last);
    assert!(
        matches!(place.try_open(), Err(Error::Behind { head, last: l, .. }) if head.number > last.number && l == last.number)
    );
}

#[test]
fn other_tables_and_triggers_are_found_and_not_written_with() {
    for (sql, state) in [
        ("DROP TRIGGER act_update", "missing"),
        ("DROP INDEX image_by_digest_entry", "missing"),
        ("DROP TRIGGER tag_delete; CREATE TRIGGER tag_delete BEFORE DELETE ON tag BEGIN SELECT 1; END", "changed"),
        ("CREATE TRIGGER more AFTER INSERT ON bundle BEGIN SELECT 1; END", "not part of a ledger"),
        ("CREATE VIEW v AS SELECT 1", "not part of a ledger"),
        ("ALTER TABLE tag ADD COLUMN x TEXT", "changed"),
    ] {
        let place = filled();
        place.raw().execute_batch(sql).expect(sql);
        assert!(matches!(fault(&place), Fault::Schema { state: s, .. } if s == state), "{sql}");
        let opened = place.try_open();
        assert!(matches!(opened, Err(Error::Tampered { fault: Fault::Schema { .. }, .. })), "{sql}: {opened:?}");
    }
    let place = filled();
    place.raw().execute_batch("ANALYZE").expect("statistics are no part of the record");
    let _ = place.open().verify(&Keys).expect("right");
}

#[test]
fn what_is_read_and_is_not_what_was_written_is_said() {
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    let before = fs::read(&place.path).expect("the file");
    let changed = |sql: &str| {
        place.put_back(&before);
        let raw = place.raw();
        drop_triggers(&raw);
        raw.pragma_update(None, "foreign_keys", false).expect("set");
        raw.execute_batch(sql).expect(sql);
        drop(raw);
        place.read()
    };
    let ledger = changed("UPDATE entry SET bytes = x'00' WHERE number = 3");
    let read: Vec<_> = ledger.entries(EntryNumber::FIRST).map(|entry| entry.is_ok()).collect();
    assert_eq!(read, [true, true, false], "nothing comes after what is wrong");
    drop(ledger);
    let head = changed("DELETE FROM act WHERE entry = 4").head();
    assert!(
        matches!(head, Err(Error::Tampered { fault: Fault::Row { table: "act", present: false, .. }, .. })),
        "{head:?}"
    );
    let head = changed("UPDATE entry SET hash = x'00' WHERE number = 4").head();
    assert!(matches!(head, Err(Error::Tampered { fault: Fault::Misplaced { .. }, .. })), "{head:?}");
    let ledger = changed("UPDATE bundle SET sequence = -1");
    let bundles = ledger.bundles(&ledger::Filter::default());
    assert!(matches!(bundles, Err(Error::Database { .. })), "{bundles:?}");
}

#[test]
fn the_first_and_the_last_entry_are_looked_at_when_a_ledger_is_opened() {
    let place = place();
    import(&mut place.open(), "payments", 1, 10);
    let raw = place.raw();
    // As it was made, so that only the entry is wrong.
    let trigger: String = raw
        .query_row("SELECT sql FROM sqlite_schema WHERE name = 'entry_update'", [], |r| r.get(0))
        .expect("a trigger");
    raw.execute_batch("DROP TRIGGER entry_update; UPDATE entry SET bytes = x'00' WHERE number = 4").expect("changed");
    raw.execute_batch(&trigger).expect("made again");
    drop(raw);
    let opened = place.try_open();
    assert!(matches!(opened, Err(Error::Tampered { fault: Fault::Hash { .. }, .. })), "{opened:?}");
    let raw = place.raw();
    raw.pragma_update(None, "foreign_keys", false).expect("set");
    raw.execute_batch("DROP TRIGGER entry_delete; DELETE FROM entry WHERE number = 1").expect("deleted");
    drop(raw);
    let opened = Ledger::open_read_only(&place.path, None);
    assert!(matches!(opened, Err(Error::Tampered { fault: Fault::Gap { found: 2, .. }, .. })), "{opened:?}");
}

#[test]
fn a_file_that_was_cut_is_damaged() {
    let place = filled();
    let bytes = fs::read(&place.path).expect("the file");
    place.put_back(&bytes[..8192]);
    let opened = place.try_open();
    assert!(matches!(opened, Err(Error::Damaged { .. })), "{opened:?}");
}

#[test]
fn an_index_that_hides_rows_is_found() {
    let place = filled();
    let withdrawn = digest("index payments 4");
    let withdrawals = |ledger: &Ledger| ledger.withdrawals(&withdrawn).expect("read").len();
    assert_eq!(withdrawals(&place.read()), 1);
    // The index of an empty table, in place of that of the withdrawals.
    let raw = place.raw();
    raw.execute_batch(
        "CREATE TABLE empty (digest TEXT, entry INTEGER, n INTEGER); CREATE INDEX none ON empty (digest, entry, n);
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'none')
             WHERE name = 'withdrawal_by_digest_entry';
         DELETE FROM sqlite_schema WHERE name IN ('empty', 'none');",
    )
    .expect("changed");
    drop(raw);
    assert_eq!(withdrawals(&place.read()), 0);
    assert!(matches!(fault(&place), Fault::Integrity(_)), "{}", fault(&place));
    // Also if only the file that is open already can be looked at.
    let reader = place.read();
    fs::rename(&place.path, place.path.with_extension("moved")).expect("moved");
    let found = reader.verify(&Keys);
    assert!(matches!(found, Err(Error::Tampered { fault: Fault::Integrity(_), .. })), "{found:?}");
}

#[test]
fn a_changed_byte_anywhere_in_the_file_changes_nothing_unseen() {
    let place = filled();
    let original = fs::read(&place.path).expect("the file");
    let before = dump(&place.raw()).expect("a dump");
    fs::remove_file(&place.path).expect("removed");
    let (mut found, mut harmless) = (0, 0);
    // A prime step visits every kind of place: headers, cell pointers, keys, values, free space.
    for at in (0..original.len()).step_by(211) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ledger.db");
        let mut changed = original.clone();
        changed[at] ^= 0x11;
        fs::write(&path, changed).expect("written");
        match Ledger::open_read_only(&path, Some(&place.id)).and_then(|l| l.verify(&Keys)) {
            Err(_) => found += 1,
            Ok(_) => {
                let after = Connection::open(&path).and_then(|raw| dump(&raw)).expect("a dump");
                assert!(after == before, "byte {at} changed the record and was not found");
                harmless += 1;
            }
        }
    }
    assert!(found > 0 && harmless > 0, "{found} found, {harmless} in free space");
}

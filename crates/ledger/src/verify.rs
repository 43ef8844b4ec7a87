//! Proving that the ledger is what was written.
//!
//! One pass over the entries in order, with every other table read beside them in the same order: memory does not grow
//! with the ledger, and the first thing that is wrong is named. Someone who has the file and not the ledger key can put an old
//! copy back, with the head that was signed then; someone who has both can write it anew. Those show only against a
//! [`Head`] that was kept elsewhere.

use manifest_schema::{OutsideText, Timestamp};
use rusqlite::types::Value;
use rusqlite::{Connection, Rows};
use serde::Serialize;

use crate::acts::KeyChanged;
use crate::entry::{Act, Entry};
use crate::error::{Error, Fault};
use crate::head::{self, Checker, Head, KeyChange};
use crate::names::{EntryHash, EntryNumber, Fingerprint, TreeHash};
use crate::query::checked;
use crate::schema::{self, Table};
use crate::tree::{self, Edge};
use crate::{Ledger, custody, rows};

/// What was found right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[must_use = "the head says what was verified"]
pub struct Verified {
    /// The last entry; its number is how many there are.
    pub head: Head,
    /// Bundles begun.
    pub begun: u64,
    /// Bundles recorded.
    pub recorded: u64,
    /// Refusals.
    pub refused: u64,
    /// The certificate of the key that signed the head; none if heads are not signed.
    pub key: Option<Fingerprint>,
}

impl Ledger {
    /// Checks everything: the chain of entries, each row of the other tables, the signed head, the tables and triggers
    /// themselves, and the database file.
    ///
    /// # Errors
    /// [`Error::Tampered`] names the first thing that is wrong; [`Error::Busy`], [`Error::Database`].
    pub fn verify(&self, checker: &dyn Checker) -> Result<Verified, Error> {
        // One view of the ledger for all of it, even if another program writes meanwhile.
        let view = self.sql(self.connection.unchecked_transaction())?;
        let verified = walk(&view, self, checker)?;
        if let Some(key) = &verified.key {
            let kept = custody::check_kept(&view, &verified.head, key, checker, Timestamp::now());
            let kept = kept.map_err(|e| self.tampered(broken("head", verified.head.number.get())(e)))?;
            kept.map_err(|fault| self.tampered(fault))?;
        }
        if let Some((name, state)) = self.sql(schema::difference(&view))? {
            return Err(self.tampered(Fault::Schema { name: OutsideText::new(name), state }));
        }
        let found: rusqlite::Result<String> = view.query_row("PRAGMA integrity_check(1)", [], |r| r.get(0));
        match found {
            Ok(ok) if ok == "ok" => Ok(verified),
            Ok(wrong) => Err(self.tampered(Fault::Integrity(OutsideText::new(wrong)))),
            Err(e) => Err(self.tampered(Fault::Integrity(OutsideText::new(e.to_string())))),
        }
    }
}

fn walk(view: &Connection, ledger: &Ledger, checker: &dyn Checker) -> Result<Verified, Error> {
    let tampered = |fault| ledger.tampered(fault);
    let mut statements = Vec::with_capacity(Table::ALL.len());
    for table in Table::ALL {
        let sql = format!("SELECT * FROM {} NOT INDEXED ORDER BY entry, n", table.name());
        statements.push(view.prepare(&sql).map_err(|e| tampered(broken(table.name(), 0)(e)))?);
    }
    let mut cursors = Vec::with_capacity(Table::ALL.len());
    for (table, statement) in Table::ALL.into_iter().zip(&mut statements) {
        let rows = statement.query([]).map_err(|e| tampered(broken(table.name(), 0)(e)))?;
        cursors.push(Cursor { table, rows, next: None });
    }
    let entries = "SELECT number, hash, bytes FROM entry NOT INDEXED ORDER BY number";
    let mut entries = view.prepare(entries).map_err(|e| tampered(broken("entry", 0)(e)))?;
    let mut entries = entries.query([]).map_err(|e| tampered(broken("entry", 0)(e)))?;

    let mut last: Option<Head> = None;
    let (mut edge, mut key) = (Edge::default(), None);
    let (mut begun, mut recorded, mut refused) = (0, 0, 0);
    loop {
        let after = last.map_or(0, |h| h.number.get());
        let read =
            entries.next().and_then(|row| row.map(|r| Ok((r.get(0)?, r.get::<_, Vec<u8>>(1)?, r.get(2)?))).transpose());
        let Some((found, hash, bytes)) = read.map_err(|e| tampered(broken("entry", after)(e)))? else { break };
        let number = last.map_or(EntryNumber::FIRST, |h| h.number.next());
        if found != i64::from(number) {
            return Err(tampered(Fault::Gap { expected: number, found }));
        }
        let stored = checked(number, &hash, bytes).map_err(tampered)?;
        follows(&stored.entry, last.as_ref(), ledger).map_err(tampered)?;
        let nodes = edge.push(tree::leaf(&stored.bytes));
        compare(&stored.entry, &nodes, &mut cursors).map_err(tampered)?;
        match &stored.entry.act {
            Act::Begun(_) => begun += 1,
            Act::Recorded(_) => recorded += 1,
            Act::Refused(_) => refused += 1,
            Act::Created(created) => key.clone_from(&created.ledger_key),
            Act::KeyChanged(change) => {
                let checked = changes_key(change, stored.entry.time, key.as_ref(), last.as_ref(), checker);
                checked.map_err(|reason| tampered(Fault::KeyChange { number, reason }))?;
                key = Some(change.to.clone());
            }
            _ => {}
        }
        let root = edge.root().unwrap_or_else(|| tree::leaf(&stored.bytes));
        last = Some(Head { ledger: ledger.id, number, hash: stored.hash, root, time: stored.entry.time });
    }
    let head = last.ok_or_else(|| tampered(Fault::Empty))?;
    for cursor in &mut cursors {
        if let Some(row) = cursor.peek(head.number.get()).map_err(tampered)? {
            let entry = integer(row, 0);
            return Err(tampered(Fault::ExtraRow { table: cursor.table.name(), entry }));
        }
    }
    Ok(Verified { head, begun, recorded, refused, key })
}

/// Whether an entry may stand after the one before it.
fn follows(entry: &Entry, last: Option<&Head>, ledger: &Ledger) -> Result<(), Fault> {
    let number = entry.number;
    let expected = last.map_or(EntryHash::NONE, |h| h.hash);
    if entry.previous != expected {
        return Err(Fault::Chain { number, expected, found: entry.previous });
    }
    let misplaced = |reason| Err(Fault::Misplaced { number, reason });
    if entry.ledger != ledger.id {
        return misplaced("it belongs to another ledger");
    }
    if matches!(entry.act, Act::Created(_)) != last.is_none() {
        return misplaced("the first entry, and no other, creates the ledger");
    }
    if last.is_some_and(|h| entry.time < h.time) {
        return misplaced("its time is before the time of the entry before it");
    }
    Ok(())
}

/// Whether a change of the ledger key is signed by both keys: judged as of then, since a key that was replaced may have
/// expired since.
fn changes_key(
    change: &KeyChanged,
    at: Timestamp,
    key: Option<&Fingerprint>,
    last: Option<&Head>,
    checker: &dyn Checker,
) -> Result<(), OutsideText> {
    let wrong = |reason: String| Err(OutsideText::new(reason));
    if change.from.as_ref() != key {
        let name = |key: Option<&Fingerprint>| key.map_or("none".into(), ToString::to_string);
        return wrong(format!("it changes from {}, expected {}", name(change.from.as_ref()), name(key)));
    }
    let (file, certificates) = (change.file.raw().as_bytes(), change.certificates.raw().as_bytes());
    let checked = checker.check(file, certificates, at)?;
    if let Some(missing) = change.from.iter().chain([&change.to]).find(|key| !checked.signers.contains(key)) {
        return wrong(format!("{missing} did not sign it"));
    }
    let said: KeyChange = head::parse(&checked.document).map_err(OutsideText::new)?;
    if (said.from.as_ref(), &said.to, Some(&said.after)) != (key, &change.to, last) {
        return wrong("what was signed is another change".into());
    }
    Ok(())
}

/// Compares the rows that an entry should have with those that are there.
fn compare(entry: &Entry, nodes: &[TreeHash], cursors: &mut [Cursor<'_>]) -> Result<(), Fault> {
    let mut derived = rows::of(entry, nodes).into_iter().peekable();
    let (number, after) = (entry.number, entry.number.get() - 1);
    for cursor in cursors {
        let table = cursor.table;
        let mut row = 0;
        while let Some((_, expected)) = derived.next_if(|(t, _)| *t == table) {
            // A row that sorts before the expected one belongs to no entry.
            match cursor.peek(after)? {
                Some(found) if *found == expected => cursor.next = None,
                Some(found)
                    if (integer(found, 0), integer(found, 1)) < (integer(&expected, 0), integer(&expected, 1)) =>
                {
                    return Err(Fault::ExtraRow { table: table.name(), entry: integer(found, 0) });
                }
                found => {
                    let present = found.is_some_and(|f| f.iter().take(2).eq(expected.iter().take(2)));
                    return Err(Fault::Row { table: table.name(), entry: number, row, present });
                }
            }
            row += 1;
        }
        if let Some(found) = cursor.peek(after)?.filter(|f| integer(f, 0) <= i64::from(number)) {
            return Err(Fault::ExtraRow { table: table.name(), entry: integer(found, 0) });
        }
    }
    Ok(())
}

fn integer(row: &[Value], column: usize) -> i64 {
    match row.get(column) {
        Some(Value::Integer(n)) => *n,
        _ => i64::MIN,
    }
}

/// A table read in the entries' order.
struct Cursor<'a> {
    table: Table,
    rows: Rows<'a>,
    next: Option<Vec<Value>>,
}

impl Cursor<'_> {
    /// The next row, or `None` at the end. `after` is the last entry that was right.
    fn peek(&mut self, after: u64) -> Result<Option<&Vec<Value>>, Fault> {
        if self.next.is_none() {
            let wrong = broken(self.table.name(), after);
            let width = self.table.width();
            let read = self.rows.next().and_then(|row| {
                row.map(|r| (0..width).map(|i| r.get(i)).collect::<rusqlite::Result<Vec<Value>>>()).transpose()
            });
            self.next = read.map_err(wrong)?;
        }
        Ok(self.next.as_ref())
    }
}

fn broken(table: &'static str, after: u64) -> impl FnOnce(rusqlite::Error) -> Fault {
    move |e| Fault::Broken { table, after, reason: OutsideText::new(e.to_string()) }
}

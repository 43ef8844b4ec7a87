//! Proving that the ledger is what was written.
//!
//! One pass over the entries in order, with every other table read beside them in the same order: memory does not grow
//! with the ledger, and the first thing that is wrong is named. What this cannot see is a ledger that was cut off
//! after an entry, put back from an old copy, or written anew from some entry on with every hash made again: those
//! show only against a [`Head`] that was kept elsewhere.

use manifest_schema::OutsideText;
use rusqlite::types::Value;
use rusqlite::{Connection, Rows};
use serde::Serialize;

use crate::entry::{Act, Entry};
use crate::error::{Error, Fault};
use crate::names::{EntryHash, EntryNumber};
use crate::query::checked;
use crate::schema::{self, Table};
use crate::{Head, Ledger, rows};

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
}

impl Ledger {
    /// Checks everything: the chain of entries, each row of the other tables, the tables and triggers themselves, and
    /// the database file.
    ///
    /// # Errors
    /// [`Error::Tampered`] names the first thing that is wrong; [`Error::Busy`], [`Error::Database`].
    pub fn verify(&self) -> Result<Verified, Error> {
        // One view of the ledger for all of it, even if another program writes meanwhile.
        let view = self.sql(self.connection.unchecked_transaction())?;
        let verified = walk(&view, self)?;
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

    /// Whether an entry with this number and hash is in the ledger: whether it is the ledger, or a later state of it,
    /// that the head was taken from.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn contains(&self, head: &Head) -> Result<bool, Error> {
        if head.ledger != self.id {
            return Ok(false);
        }
        let sql = "SELECT count(*) FROM entry WHERE number = ?1 AND hash = ?2";
        let count = self.connection.query_row(sql, (head.number.sql(), head.hash.as_bytes()), |r| r.get::<_, i64>(0));
        Ok(self.sql(count)? == 1)
    }
}

fn walk(view: &Connection, ledger: &Ledger) -> Result<Verified, Error> {
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
    let (mut begun, mut recorded, mut refused) = (0, 0, 0);
    loop {
        let after = last.map_or(0, |h| h.number.get());
        let read =
            entries.next().and_then(|row| row.map(|r| Ok((r.get(0)?, r.get::<_, Vec<u8>>(1)?, r.get(2)?))).transpose());
        let Some((found, hash, bytes)) = read.map_err(|e| tampered(broken("entry", after)(e)))? else { break };
        let number = last.map_or(EntryNumber::FIRST, |h| h.number.next());
        if found != number.sql() {
            return Err(tampered(Fault::Gap { expected: number, found }));
        }
        let stored = checked(number, &hash, bytes).map_err(tampered)?;
        follows(&stored.entry, last.as_ref(), ledger).map_err(tampered)?;
        compare(&stored.entry, &mut cursors).map_err(tampered)?;
        match stored.entry.act {
            Act::Begun(_) => begun += 1,
            Act::Recorded(_) => recorded += 1,
            Act::Refused(_) => refused += 1,
            Act::Created(_) | Act::Signing(_) => {}
        }
        last = Some(Head { ledger: ledger.id, number, hash: stored.hash, time: stored.entry.time });
    }
    let head = last.ok_or_else(|| tampered(Fault::Empty))?;
    for cursor in &mut cursors {
        if let Some(row) = cursor.peek(head.number.get()).map_err(tampered)? {
            let entry = integer(row, 0);
            return Err(tampered(Fault::ExtraRow { table: cursor.table.name(), entry }));
        }
    }
    Ok(Verified { head, begun, recorded, refused })
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

/// Compares the rows that an entry should have with those that are there.
fn compare(entry: &Entry, cursors: &mut [Cursor<'_>]) -> Result<(), Fault> {
    let mut derived = rows::of(entry).into_iter().peekable();
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
        if let Some(found) = cursor.peek(after)?.filter(|f| integer(f, 0) <= number.sql()) {
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

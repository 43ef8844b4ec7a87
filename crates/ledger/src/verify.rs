//! Proving that the ledger is what was written.
//!
//! One pass over the entries in order, with every other table read beside them in the same order: memory does not grow
//! with the ledger, and the first thing that is wrong is named. Hashing and parsing, and SQLite's look at its file, are done
//! on other threads. Someone who has the file and not the ledger key can put an old
//! copy back, with the head that was signed then; someone who has both can write it anew. Those show only against a
//! [`Head`] that was kept elsewhere.

use manifest_schema::{OutsideText, Timestamp};
use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row, Rows};
use serde::Serialize;

use crate::acts::KeyChanged;
use crate::entry::{Act, Entry};
use crate::error::{Error, Fault};
use crate::head::{self, Checker, Head, KeyChange};
use crate::lanes::in_order;
use crate::names::{EntryHash, EntryNumber, Fingerprint, LedgerId, TreeHash};
use crate::query::{Stored, checked};
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
        // One view of the ledger for all that is compared, even if another program writes meanwhile.
        let view = self.sql(self.connection.unchecked_transaction())?;
        // The file's own structure is another matter, and is looked at beside it if the file can be opened once more.
        let Ok(other) = Self::open_read_only(&self.path, Some(&self.id)) else {
            let verified = self.compare(&view, checker)?;
            return integrity(&view).map(|()| verified).map_err(|fault| self.tampered(fault));
        };
        let stop = other.connection.get_interrupt_handle();
        std::thread::scope(|scope| {
            let integrity = scope.spawn(move || integrity(&other.connection));
            let verified = self.compare(&view, checker).inspect_err(|_| stop.interrupt())?;
            match integrity.join() {
                Ok(found) => found.map(|()| verified).map_err(|fault| self.tampered(fault)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn compare(&self, view: &Connection, checker: &dyn Checker) -> Result<Verified, Error> {
        let verified = walk(view, self, checker).map_err(|fault| self.tampered(fault))?;
        if let Some(key) = &verified.key {
            let kept = custody::check_kept(view, &verified.head, key, checker);
            let kept = kept.map_err(|e| self.tampered(broken("head", verified.head.number.get())(e)))?;
            kept.map_err(|fault| self.tampered(fault))?;
        }
        match self.sql(schema::difference(view))? {
            Some((name, state)) => Err(self.tampered(Fault::Schema { name: OutsideText::new(name), state })),
            None => Ok(verified),
        }
    }
}

/// Whether the tables and indexes of the file agree with each other.
fn integrity(connection: &Connection) -> Result<(), Fault> {
    let found: rusqlite::Result<String> = connection.query_row("PRAGMA integrity_check(1)", [], |r| r.get(0));
    match found {
        Ok(ok) if ok == "ok" => Ok(()),
        Ok(wrong) => Err(Fault::Integrity(OutsideText::new(wrong))),
        Err(e) => Err(Fault::Integrity(OutsideText::new(e.to_string()))),
    }
}

/// How many entries, and about how many bytes of them, are hashed and parsed in one go.
const BATCH: (usize, usize) = (64, 1 << 20);

/// How many bytes of entries may be under way, as long as no entry alone is larger.
const UNDER_WAY: usize = 16 << 20;

fn walk(view: &Connection, ledger: &Ledger, checker: &dyn Checker) -> Result<Verified, Fault> {
    let mut statements = Vec::with_capacity(Table::ALL.len());
    for table in Table::ALL {
        let sql = format!("SELECT * FROM {} NOT INDEXED ORDER BY entry, n", table.name());
        statements.push(view.prepare(&sql).map_err(broken(table.name(), 0))?);
    }
    let mut cursors = Vec::with_capacity(Table::ALL.len());
    for (table, statement) in Table::ALL.into_iter().zip(&mut statements) {
        let rows = statement.query([]).map_err(broken(table.name(), 0))?;
        cursors.push(Cursor { table, rows, is_read: false });
    }
    let entries = "SELECT number, hash, bytes FROM entry NOT INDEXED ORDER BY number";
    let mut entries = view.prepare(entries).map_err(broken("entry", 0))?;
    let mut read = Reader { rows: entries.query([]).map_err(broken("entry", 0))?, next: 1, ended: false };

    let mut walk = Walk::default();
    let take = |batch: Vec<Result<(Stored, TreeHash), Fault>>| {
        batch.into_iter().try_for_each(|stored| {
            let (stored, leaf) = stored?;
            walk.step(stored, leaf, ledger, &mut cursors, checker)
        })
    };
    let work = |batch: Vec<Result<Raw, Fault>>| batch.into_iter().map(|raw| Raw::check(raw?)).collect();
    in_order(|| read.batch(), UNDER_WAY, work, take)?;

    let Walk { last, key, begun, recorded, refused, edge } = walk;
    let head = last.and_then(|last| last.head(ledger.id, &edge)).ok_or(Fault::Empty)?;
    for cursor in &mut cursors {
        if let Some((entry, _)) = cursor.peek(head.number.get())?.map(place_of) {
            return Err(Fault::ExtraRow { table: cursor.table.name(), entry });
        }
    }
    Ok(Verified { head, begun, recorded, refused, key })
}

/// An entry as it stands in the table, under the number that is its turn.
struct Raw {
    number: EntryNumber,
    hash: Vec<u8>,
    bytes: Vec<u8>,
}

impl Raw {
    fn check(self) -> Result<(Stored, TreeHash), Fault> {
        let stored = checked(self.number, &self.hash, self.bytes)?;
        let leaf = tree::leaf(&stored.bytes);
        Ok((stored, leaf))
    }
}

/// Reads entries one after the other, up to the first that is wrong.
struct Reader<'a> {
    rows: Rows<'a>,
    next: u64,
    ended: bool,
}

impl Reader<'_> {
    fn batch(&mut self) -> Option<(Vec<Result<Raw, Fault>>, usize)> {
        let (mut batch, mut size) = (Vec::new(), 0);
        while !self.ended && batch.len() < BATCH.0 && size < BATCH.1 {
            let Some(raw) = self.entry().transpose() else { break };
            self.ended = raw.is_err();
            size += raw.as_ref().map_or(0, |raw| raw.bytes.len());
            batch.push(raw);
        }
        (!batch.is_empty()).then_some((batch, size))
    }

    fn entry(&mut self) -> Result<Option<Raw>, Fault> {
        let wrong = broken("entry", self.next - 1);
        let read = self.rows.next().and_then(|row| row.map(|r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).transpose());
        let Some((found, hash, bytes)) = read.map_err(wrong)? else { return Ok(None) };
        let number = EntryNumber::try_from(self.next).unwrap_or(EntryNumber::FIRST);
        if found != i64::from(number) {
            return Err(Fault::Gap { expected: number, found });
        }
        self.next += 1;
        Ok(Some(Raw { number, hash, bytes }))
    }
}

/// The entry before the one that is compared.
#[derive(Clone, Copy)]
struct Last {
    number: EntryNumber,
    hash: EntryHash,
    time: Timestamp,
}

impl Last {
    /// The state that it is the last entry of.
    fn head(self, ledger: LedgerId, edge: &Edge) -> Option<Head> {
        let Last { number, hash, time } = self;
        Some(Head { ledger, number, hash, root: edge.root()?, time })
    }
}

/// What is known of all entries up to one.
#[derive(Default)]
struct Walk {
    last: Option<Last>,
    edge: Edge,
    key: Option<Fingerprint>,
    begun: u64,
    recorded: u64,
    refused: u64,
}

impl Walk {
    fn step(
        &mut self,
        stored: Stored,
        leaf: TreeHash,
        ledger: &Ledger,
        cursors: &mut [Cursor<'_>],
        checker: &dyn Checker,
    ) -> Result<(), Fault> {
        let Stored { entry, hash, .. } = stored;
        follows(&entry, self.last.as_ref(), ledger)?;
        let number = entry.number;
        if let Act::KeyChanged(change) = &entry.act {
            let before = self.last.and_then(|last| last.head(ledger.id, &self.edge));
            let checked = changes_key(change, self.key.as_ref(), before.as_ref(), checker);
            checked.map_err(|reason| Fault::KeyChange { number, reason })?;
        }
        let nodes = self.edge.push(leaf);
        compare(&entry, &nodes, cursors)?;
        match entry.act {
            Act::Begun(_) => self.begun += 1,
            Act::Recorded(_) => self.recorded += 1,
            Act::Refused(_) => self.refused += 1,
            Act::Created(created) => self.key = created.ledger_key,
            Act::KeyChanged(change) => self.key = Some(change.to),
            _ => {}
        }
        self.last = Some(Last { number, hash, time: entry.time });
        Ok(())
    }
}

/// Whether an entry may stand after the one before it.
fn follows(entry: &Entry, last: Option<&Last>, ledger: &Ledger) -> Result<(), Fault> {
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

/// Whether a change of the ledger key is signed by both keys.
pub(crate) fn changes_key(
    change: &KeyChanged,
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
    let checked = checker.check(file, certificates)?;
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
            let place = (integer((&expected[0]).into()), integer((&expected[1]).into()));
            // A row that sorts before the expected one belongs to no entry.
            match cursor.peek(after)?.map(|found| (place_of(found), is(found, &expected))) {
                Some((_, true)) => cursor.is_read = false,
                Some((found, false)) if found < place => {
                    return Err(Fault::ExtraRow { table: table.name(), entry: found.0 });
                }
                found => {
                    let present = found.is_some_and(|(found, _)| found == place);
                    return Err(Fault::Row { table: table.name(), entry: number, row, present });
                }
            }
            row += 1;
        }
        if let Some((entry, _)) = cursor.peek(after)?.map(place_of).filter(|(entry, _)| *entry <= i64::from(number)) {
            return Err(Fault::ExtraRow { table: table.name(), entry });
        }
    }
    Ok(())
}

/// Whether a row has exactly these values.
fn is(row: &Row<'_>, values: &[Value]) -> bool {
    values.iter().enumerate().all(|(i, value)| row.get_ref(i).is_ok_and(|found| found == ValueRef::from(value)))
}

/// A row's entry, and its place among those of the entry.
fn place_of(row: &Row<'_>) -> (i64, i64) {
    let column = |i| row.get_ref(i).map_or(i64::MIN, integer);
    (column(0), column(1))
}

fn integer(value: ValueRef<'_>) -> i64 {
    match value {
        ValueRef::Integer(n) => n,
        _ => i64::MIN,
    }
}

/// A table read in the entries' order.
struct Cursor<'a> {
    table: Table,
    rows: Rows<'a>,
    /// Whether the row that `rows` is at is still to be compared.
    is_read: bool,
}

impl Cursor<'_> {
    /// The next row, or `None` at the end. `after` is the last entry that was right.
    fn peek(&mut self, after: u64) -> Result<Option<&Row<'_>>, Fault> {
        if !self.is_read {
            self.rows.advance().map_err(broken(self.table.name(), after))?;
            self.is_read = true;
        }
        Ok(self.rows.get())
    }
}

fn broken(table: &'static str, after: u64) -> impl FnOnce(rusqlite::Error) -> Fault {
    move |e| Fault::Broken { table, after, reason: OutsideText::new(e.to_string()) }
}

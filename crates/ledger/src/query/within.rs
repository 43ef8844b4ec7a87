//! What acts ask within their transaction.

use std::path::Path;

use manifest_schema::{BundleId, Digest, OutsideText, Sequence, Stream, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row};

use super::Stored;
use super::columns::{from_integer, maybe_parsed, number, parsed, subject};
use super::sql::*;
use crate::acts::{Rule, Subject};
use crate::entry::Entry;
use crate::error::{Error, Fault, database, missing_node};
use crate::head::{Head, Mark};
use crate::names::{EntryHash, EntryNumber, Fingerprint, LedgerId, entry_hash};
use crate::{Ledger, tree};

/// A bundle as it was begun.
pub(crate) struct Known {
    pub(crate) subject: Subject,
    pub(crate) begun: EntryNumber,
    pub(crate) begun_at: Timestamp,
}

pub(crate) fn known_by_number(c: &Connection, stream: &Stream, sequence: Sequence) -> rusqlite::Result<Option<Known>> {
    let sql = format!("{KNOWN} WHERE b.stream = ?1 AND b.sequence = ?2");
    let sql = format!("{sql} ORDER BY b.entry DESC LIMIT 1");
    c.prepare_cached(&sql)?.query_row((stream.as_str(), sequence.get().cast_signed()), known).optional()
}

pub(crate) fn known_by_id(c: &Connection, id: &BundleId) -> rusqlite::Result<Option<Known>> {
    c.prepare_cached(&format!("{KNOWN} WHERE b.id = ?1"))?.query_row([id.to_string()], known).optional()
}

fn known(row: &Row<'_>) -> rusqlite::Result<Known> {
    Ok(Known { subject: subject(row, 0)?, begun: number(row, 4)?, begun_at: parsed(row, 5)? })
}

/// The entry that recorded a bundle, and its time.
pub(crate) fn recorded(c: &Connection, id: &BundleId) -> rusqlite::Result<Option<(EntryNumber, Timestamp)>> {
    c.prepare_cached(RECORDED)?.query_row([id.to_string()], |r| Ok((number(r, 0)?, parsed(r, 1)?))).optional()
}

/// The entry that said that a bundle's images wait.
pub(crate) fn received(c: &Connection, id: &BundleId) -> rusqlite::Result<Option<EntryNumber>> {
    c.prepare_cached(RECEIVED)?.query_row([id.to_string()], |r| number(r, 0)).optional()
}

/// The entry that rejected a bundle, and its time.
pub(crate) fn rejected(c: &Connection, id: &BundleId) -> rusqlite::Result<Option<(EntryNumber, Timestamp)>> {
    c.prepare_cached(REJECTED)?.query_row([id.to_string()], |r| Ok((number(r, 0)?, parsed(r, 1)?))).optional()
}

/// The entries that put some images of a bundle into production.
pub(crate) fn promotions(c: &Connection, id: &BundleId) -> rusqlite::Result<Vec<EntryNumber>> {
    c.prepare_cached(PROMOTIONS)?.query_map([id.to_string()], |r| number(r, 0))?.collect()
}

/// The entry with an approval's statement, and the bundle.
pub(crate) fn approval(c: &Connection, statement: &Digest) -> rusqlite::Result<Option<(EntryNumber, BundleId)>> {
    c.prepare_cached(APPROVAL)?.query_row([statement.to_string()], |r| Ok((number(r, 0)?, parsed(r, 1)?))).optional()
}

/// The entry in which its approver took an approval back.
pub(crate) fn approval_withdrawn(
    c: &Connection,
    statement: &Digest,
    approver: &Fingerprint,
) -> rusqlite::Result<Option<EntryNumber>> {
    c.prepare_cached(APPROVAL_WITHDRAWN)?
        .query_row((statement.to_string(), approver.as_str()), |r| number(r, 0))
        .optional()
}

/// The entries that let a bundle with this id pass a rule.
pub(crate) fn overrides(c: &Connection, id: &BundleId, rule: Rule) -> rusqlite::Result<Vec<EntryNumber>> {
    c.prepare_cached(OVERRIDES)?.query_map((id.to_string(), rule.as_str()), |r| number(r, 0))?.collect()
}

/// When the manifest of a stream's bundles was signed last.
pub(crate) fn newest_signed(c: &Connection, stream: &Stream) -> rusqlite::Result<Option<Timestamp>> {
    c.prepare_cached(NEWEST_SIGNED)?.query_row([stream.as_str()], |r| maybe_parsed(r, 0))
}

/// How far every stream has come.
pub(crate) fn marks(c: &Connection) -> rusqlite::Result<Vec<Mark>> {
    let mark = |r: &Row<'_>| Ok(Mark { stream: parsed(r, 0)?, sequence: from_integer(1, r.get(1)?)? });
    c.prepare_cached(&marks_sql())?.query_map([], mark)?.collect()
}

/// Everything about a bundle, oldest first.
pub(crate) fn entries_of_bundle(c: &Connection, id: &BundleId) -> rusqlite::Result<Vec<EntryNumber>> {
    c.prepare_cached(ENTRIES_OF_BUNDLE)?.query_map([id.to_string()], |r| number(r, 0))?.collect()
}

/// The entries that announced a bundle's signatures.
pub(crate) fn announcements(c: &Connection, id: &BundleId) -> rusqlite::Result<Vec<EntryNumber>> {
    c.prepare_cached(ANNOUNCEMENTS)?.query_map([id.to_string()], |r| number(r, 0))?.collect()
}

/// The newest sequence of a stream whose tags were about to move.
pub(crate) fn newest(c: &Connection, stream: &Stream) -> rusqlite::Result<Option<Sequence>> {
    let found: Option<i64> = c.prepare_cached(&newest_sql())?.query_row([stream.as_str()], |r| r.get(0))?;
    found.map(|n| from_integer(0, n)).transpose()
}

/// The last entry.
pub(crate) fn head(connection: &Connection, path: &Path, ledger: LedgerId) -> Result<Head, Error> {
    let read = |r: &Row<'_>| Ok((number(r, 0)?, r.get::<_, Vec<u8>>(1)?, maybe_parsed(r, 2)?));
    let found = connection.prepare_cached(HEAD).and_then(|mut s| s.query_row([], read).optional());
    let tampered = |fault| Error::Tampered { path: path.into(), fault };
    let (number, hash, time) = found.map_err(|e| database(path, e))?.ok_or_else(|| tampered(Fault::Empty))?;
    let time = time.ok_or_else(|| tampered(Fault::Row { table: "act", entry: number, row: 0, present: false }))?;
    let hash = EntryHash::try_from(hash.as_slice())
        .map_err(|_| tampered(Fault::Misplaced { number, reason: "its hash does not have 32 bytes" }))?;
    let root = tree::root(connection, number.get()).map_err(|e| database(path, e))?;
    let root = root.ok_or_else(|| missing_node(path, number.get()))?;
    Ok(Head { ledger, number, hash, root, time })
}

/// One entry, checked against its hash.
pub(crate) fn stored(ledger: &Ledger, number: EntryNumber) -> Result<Option<Stored>, Error> {
    stored_in(&ledger.connection, &ledger.path, number)
}

pub(crate) fn stored_in(connection: &Connection, path: &Path, number: EntryNumber) -> Result<Option<Stored>, Error> {
    let found = connection
        .prepare_cached(ENTRY)
        .and_then(|mut s| s.query_row([i64::from(number)], |r| Ok((r.get::<_, Vec<u8>>(0)?, r.get(1)?))).optional());
    match found.map_err(|e| database(path, e))? {
        None => Ok(None),
        Some((hash, bytes)) => match checked(number, &hash, bytes) {
            Ok(stored) => Ok(Some(stored)),
            Err(fault) => Err(Error::Tampered { path: path.into(), fault }),
        },
    }
}

/// Checks an entry's bytes against its hash and its number, and parses them.
pub(crate) fn checked(number: EntryNumber, hash: &[u8], bytes: Vec<u8>) -> Result<Stored, Fault> {
    let found = entry_hash(&bytes);
    if hash != found.as_bytes() {
        let expected = OutsideText::new(manifest_schema::digest::to_hex(hash));
        return Err(Fault::Hash { number, expected, found });
    }
    let entry = Entry::parse(&bytes).map_err(|reason| Fault::Unreadable { number, reason })?;
    if entry.number != number {
        return Err(Fault::Misplaced { number, reason: "it has another number" });
    }
    Ok(Stored { entry, hash: found, bytes })
}

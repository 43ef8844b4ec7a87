//! Reading: what is known of a bundle, an image, an entry. Every question is answered from an index.

use std::path::Path;
use std::str::FromStr;

use manifest_schema::document::Platform;
use manifest_schema::{BundleId, Digest, OutsideText, Reference, Sequence, Stream, TagRef, Timestamp};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};
use serde::Serialize;

use crate::acts::{Approved, Rule, Subject};
use crate::entry::{Act, Entry};
use crate::error::{Error, Fault, database, missing_node};
use crate::head::{Head, Mark};
use crate::names::{EntryHash, EntryNumber, Fingerprint, LedgerId, TreeHash, entry_hash};
use crate::{Ledger, custody, tree};

/// An entry as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The entry.
    pub entry: Entry,
    /// The hash of its bytes.
    pub hash: EntryHash,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// When something happened, and the entry that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct At {
    /// The entry.
    pub entry: EntryNumber,
    /// Its time.
    pub time: Timestamp,
}

/// How far a bundle has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Admitted; its number is reserved.
    Begun,
    /// Its images wait for their promotion.
    Received,
    /// It will not be promoted, or nothing more of it.
    Rejected,
    /// Its signatures and tags are being made.
    Signing,
    /// Some of its images are in production; the rest waits.
    Promoted,
    /// In production.
    Recorded,
}

impl Status {
    /// Every status, in the order of a bundle's way.
    pub const ALL: [Status; 6] =
        [Status::Begun, Status::Received, Status::Rejected, Status::Signing, Status::Promoted, Status::Recorded];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Begun => "begun",
            Status::Received => "received",
            Status::Rejected => "rejected",
            Status::Signing => "signing",
            Status::Promoted => "promoted",
            Status::Recorded => "recorded",
        }
    }
}

/// A bundle that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BundleRow {
    /// The bundle.
    #[serde(flatten)]
    pub subject: Subject,
    /// How far it has come.
    pub status: Status,
    /// When it was admitted.
    pub begun: At,
    /// When its images were there to be promoted.
    pub received: Option<At>,
    /// When it was rejected.
    pub rejected: Option<At>,
    /// When its signatures and tags were first announced.
    pub signing: Option<At>,
    /// When it was recorded.
    pub recorded: Option<At>,
    /// The number of images recorded.
    pub images: Option<u64>,
}

/// Everything the ledger has about a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BundleDetails {
    /// The bundle, if it was begun.
    pub bundle: Option<BundleRow>,
    /// All entries about it, oldest first.
    pub entries: Vec<Entry>,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusalRow {
    /// The bundle.
    #[serde(flatten)]
    pub subject: Subject,
    /// When it was refused.
    pub refused: At,
    /// Why.
    pub reason: OutsideText,
}

/// An image in production.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageRow {
    /// When it was recorded.
    pub recorded: At,
    /// The bundle that brought it.
    pub bundle: BundleId,
    /// The reference that the sender claims for it.
    pub origin: Reference,
    /// Where it was put.
    pub production: TagRef,
    /// The digest of its index or image manifest.
    pub digest: Digest,
    /// The platform, if the digest asked for is one of its image manifests and the index names its platform.
    pub platform: Option<Platform>,
}

/// A production signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignatureRow {
    /// When it was recorded.
    pub recorded: At,
    /// The bundle.
    pub bundle: BundleId,
    /// The reference that it names.
    pub reference: Reference,
    /// The digest that it names.
    pub digest: Digest,
    /// Its file, below the lookaside tree.
    pub path: OutsideText,
    /// The SHA-256 digest of that file.
    pub file: Digest,
}

/// A move of a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TagRow {
    /// When it was recorded.
    pub recorded: At,
    /// The bundle that moved it.
    pub bundle: BundleId,
    /// What it named from then on.
    pub digest: Digest,
    /// What it named before.
    pub previous: Option<Digest>,
}

/// What to list, newest first.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Only this stream.
    pub stream: Option<Stream>,
    /// Only bundles that have come so far, and no further.
    pub status: Option<Status>,
    /// Only what was first written before this entry: where the page before ended.
    pub before: Option<EntryNumber>,
    /// At most so many.
    pub limit: u32,
}

impl Default for Filter {
    fn default() -> Self {
        Self { stream: None, status: None, before: None, limit: 100 }
    }
}

impl Filter {
    fn before(&self) -> i64 {
        self.before.map_or(i64::MAX, i64::from)
    }
}

impl Ledger {
    /// How the bundle with this number stands, if one was begun.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn state_of(&self, stream: &Stream, sequence: Sequence) -> Result<Option<BundleRow>, Error> {
        let sql = format!("{BUNDLE} WHERE b.stream = ?1 AND b.sequence = ?2 ORDER BY b.entry DESC LIMIT 1");
        let parameters = (stream.as_str(), sequence.get().cast_signed());
        self.sql(self.connection.prepare_cached(&sql).and_then(|mut s| s.query_row(parameters, bundle_row).optional()))
    }

    /// The newest sequence of a stream that has reached production.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn newest(&self, stream: &Stream) -> Result<Option<Sequence>, Error> {
        self.sql(newest(&self.connection, stream))
    }

    /// The bundles that were begun, newest first.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn bundles(&self, filter: &Filter) -> Result<Vec<BundleRow>, Error> {
        let stream = filter.stream.as_ref().map(Stream::as_str);
        // How far a bundle has come follows from several tables: the rows are looked through until there are enough.
        let all = if filter.status.is_some() { -1 } else { i64::from(filter.limit) };
        let wanted = |row: &BundleRow| filter.status.is_none_or(|status| row.status == status);
        let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        let read = self.connection.prepare_cached(&bundles_sql(stream.is_some())).and_then(|mut s| {
            let rows = s.query_map((filter.before(), all, stream), bundle_row)?;
            rows.filter(|row| row.as_ref().map_or(true, wanted)).take(limit).collect()
        });
        self.sql(read)
    }

    /// Everything about one bundle; `None` if no entry names it.
    ///
    /// # Errors
    /// [`Error::Tampered`], [`Error::Database`], [`Error::Damaged`].
    pub fn bundle(&self, id: &BundleId) -> Result<Option<BundleDetails>, Error> {
        let sql = format!("{BUNDLE} WHERE b.id = ?1");
        let found =
            self.connection.prepare_cached(&sql).and_then(|mut s| s.query_row([id.to_string()], bundle_row).optional());
        let bundle = self.sql(found)?;
        let numbers = self.numbers(ENTRIES_OF_BUNDLE, id)?;
        let entries = numbers.into_iter().map(|n| stored(self, n)).filter_map(Result::transpose).map(|s| Ok(s?.entry));
        let entries = entries.collect::<Result<Vec<_>, Error>>()?;
        Ok((bundle.is_some() || !entries.is_empty()).then_some(BundleDetails { bundle, entries }))
    }

    /// The entry that says that a bundle's images wait, if one does.
    ///
    /// # Errors
    /// [`Error::Tampered`], [`Error::Database`], [`Error::Damaged`].
    pub fn received_entry(&self, id: &BundleId) -> Result<Option<Stored>, Error> {
        match self.sql(received(&self.connection, id))? {
            Some(number) => stored(self, number),
            None => Ok(None),
        }
    }

    /// The approvals of a bundle that their approvers did not withdraw, with their entries, oldest first.
    ///
    /// # Errors
    /// [`Error::Tampered`], [`Error::Database`], [`Error::Damaged`].
    pub fn approvals(&self, id: &BundleId) -> Result<Vec<(EntryNumber, Approved)>, Error> {
        self.approvals_by(APPROVALS, id)
    }

    /// All approvals of a bundle with their entries, oldest first: also those that were withdrawn.
    ///
    /// # Errors
    /// [`Error::Tampered`], [`Error::Database`], [`Error::Damaged`].
    pub fn all_approvals(&self, id: &BundleId) -> Result<Vec<(EntryNumber, Approved)>, Error> {
        self.approvals_by(ALL_APPROVALS, id)
    }

    fn approvals_by(&self, sql: &str, id: &BundleId) -> Result<Vec<(EntryNumber, Approved)>, Error> {
        let mut approvals = Vec::new();
        for number in self.numbers(sql, id)? {
            if let Some(Act::Approved(approved)) = stored(self, number)?.map(|s| s.entry.act) {
                approvals.push((number, approved));
            }
        }
        Ok(approvals)
    }

    /// The approval with this statement, if it was recorded, with its entry.
    ///
    /// # Errors
    /// [`Error::Tampered`], [`Error::Database`], [`Error::Damaged`].
    pub fn approval(&self, statement: &Digest) -> Result<Option<(EntryNumber, Approved)>, Error> {
        let Some((number, _)) = self.sql(approval(&self.connection, statement))? else { return Ok(None) };
        match stored(self, number)?.map(|s| s.entry.act) {
            Some(Act::Approved(approved)) => Ok(Some((number, approved))),
            _ => Ok(None),
        }
    }

    /// The entry in which this approver took an approval back, if he did; whether the approval was recorded or not.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn approval_withdrawal(
        &self,
        statement: &Digest,
        approver: &Fingerprint,
    ) -> Result<Option<EntryNumber>, Error> {
        self.sql(approval_withdrawn(&self.connection, statement, approver))
    }

    /// The entry that let this very bundle pass a rule, if somebody did.
    ///
    /// # Errors
    /// [`Error::Tampered`], [`Error::Database`], [`Error::Damaged`].
    pub fn override_of(&self, subject: &Subject, rule: Rule) -> Result<Option<EntryNumber>, Error> {
        for number in self.sql(overrides(&self.connection, &subject.bundle, rule))? {
            if let Some(Act::Overridden(found)) = stored(self, number)?.map(|s| s.entry.act)
                && found.subject == *subject
            {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// The withdrawals of a digest: of each the entry, its time, and the production reference.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn withdrawals(&self, digest: &Digest) -> Result<Vec<(At, Reference)>, Error> {
        self.list(WITHDRAWALS, [digest.to_string()], |row| Ok((at(row, 0)?, parsed(row, 2)?)))
    }

    /// Everything that was withdrawn and has not been signed since, oldest first: of each the last withdrawal, its time, the
    /// production reference and the digest.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn all_withdrawn(&self) -> Result<Vec<(At, Reference, Digest)>, Error> {
        self.list(ALL_WITHDRAWN, [], |row| Ok((at(row, 0)?, parsed(row, 2)?, parsed(row, 3)?)))
    }

    /// How far every stream has come, by the streams' names.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn marks(&self) -> Result<Vec<Mark>, Error> {
        self.sql(marks(&self.connection))
    }

    /// The certificate of the key that signs heads now; none if none does.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn key(&self) -> Result<Option<Fingerprint>, Error> {
        self.sql(custody::current_key(&self.connection))
    }

    /// The certificates of the keys that have signed heads, in their order: of each the entry that it begins with.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn keys(&self) -> Result<Vec<(EntryNumber, Fingerprint)>, Error> {
        self.list("SELECT entry, fingerprint FROM ledger_key ORDER BY entry", [], |row| {
            Ok((number(row, 0)?, parsed(row, 1)?))
        })
    }

    /// The inclusion proof of an entry in the tree over the first `size` entries (RFC 9162, section 2.1.3.1); `None` if it
    /// is not among them.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn inclusion_proof(&self, number: EntryNumber, size: EntryNumber) -> Result<Option<Vec<TreeHash>>, Error> {
        self.sql(tree::path(&self.connection, number, size.get()))
    }

    /// The refusals, newest first.
    ///
    /// # Errors
    /// [`Error::Tampered`], [`Error::Database`], [`Error::Damaged`].
    pub fn refusals(&self, filter: &Filter) -> Result<Vec<RefusalRow>, Error> {
        let stream = filter.stream.as_ref().map(Stream::as_str);
        let numbers =
            self.list(&refusals_sql(stream.is_some()), (filter.before(), filter.limit, stream), |r| number(r, 0))?;
        let mut rows = Vec::with_capacity(numbers.len());
        for number in numbers {
            if let Some(Stored { entry: Entry { act: Act::Refused(refused), time, .. }, .. }) = stored(self, number)? {
                let refused_at = At { entry: number, time };
                rows.push(RefusalRow { subject: refused.subject, refused: refused_at, reason: refused.reason });
            }
        }
        Ok(rows)
    }

    /// The images that have this digest, or an image manifest with it; newest first, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn images_by_digest(&self, digest: &Digest, limit: u32) -> Result<Vec<ImageRow>, Error> {
        self.list(IMAGES_BY_DIGEST, (digest.to_string(), limit), |row| {
            Ok(ImageRow {
                recorded: at(row, 0)?,
                bundle: parsed(row, 2)?,
                origin: parsed(row, 3)?,
                production: parsed(row, 4)?,
                digest: parsed(row, 5)?,
                platform: maybe_parsed(row, 6)?,
            })
        })
    }

    /// The production signatures that name this digest, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn signatures_by_digest(&self, digest: &Digest, limit: u32) -> Result<Vec<SignatureRow>, Error> {
        self.list(SIGNATURES_BY_DIGEST, (digest.to_string(), limit), |row| {
            Ok(SignatureRow {
                recorded: at(row, 0)?,
                bundle: parsed(row, 2)?,
                reference: parsed(row, 3)?,
                digest: parsed(row, 4)?,
                path: OutsideText::new(row.get::<_, String>(5)?),
                file: parsed(row, 6)?,
            })
        })
    }

    /// How a tag moved, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn moves_of(&self, tag: &TagRef, limit: u32) -> Result<Vec<TagRow>, Error> {
        self.list(MOVES_OF_TAG, (tag.to_string(), limit), |row| {
            Ok(TagRow {
                recorded: at(row, 0)?,
                bundle: parsed(row, 2)?,
                digest: parsed(row, 3)?,
                previous: maybe_parsed(row, 4)?,
            })
        })
    }

    /// The entries from a number on, one at a time. Each is checked against its hash when it is read; whether they
    /// follow one another is [`Ledger::verify`]'s to say.
    pub fn entries(&self, from: EntryNumber) -> Entries<'_> {
        Entries { ledger: self, next: Some(from) }
    }

    /// One entry.
    ///
    /// # Errors
    /// [`Error::Tampered`], [`Error::Database`], [`Error::Damaged`].
    pub fn entry(&self, number: EntryNumber) -> Result<Option<Stored>, Error> {
        stored(self, number)
    }

    /// The last entry.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn head(&self) -> Result<Head, Error> {
        head(&self.connection, &self.path, self.id)
    }

    /// The numbers that a query finds for a bundle.
    pub(crate) fn numbers(&self, sql: &str, bundle: &BundleId) -> Result<Vec<EntryNumber>, Error> {
        self.list(sql, [bundle.to_string()], |r| number(r, 0))
    }

    fn list<T>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        self.sql(self.connection.prepare_cached(sql).and_then(|mut s| s.query_map(parameters, read)?.collect()))
    }

    pub(crate) fn sql<T>(&self, result: rusqlite::Result<T>) -> Result<T, Error> {
        result.map_err(|e| database(&self.path, e))
    }

    pub(crate) fn tampered(&self, fault: Fault) -> Error {
        Error::Tampered { path: self.path.clone(), fault }
    }
}

/// The entries of a ledger, one at a time. Ends after the first error.
pub struct Entries<'a> {
    ledger: &'a Ledger,
    next: Option<EntryNumber>,
}

impl Iterator for Entries<'_> {
    type Item = Result<Stored, Error>;
    fn next(&mut self) -> Option<Self::Item> {
        let number = self.next.take()?;
        let stored = stored(self.ledger, number).transpose()?;
        if stored.is_ok() {
            self.next = Some(number.next());
        }
        Some(stored)
    }
}

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

/// The first entry that put images of a bundle into production, or was about to.
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

const HEAD: &str = "SELECT e.number, e.hash, a.time FROM entry e LEFT JOIN act a ON a.entry = e.number AND a.n = 0
    WHERE e.number = (SELECT max(number) FROM entry)";
const ENTRY: &str = "SELECT hash, bytes FROM entry WHERE number = ?1";
const ENTRIES_OF_BUNDLE: &str = "SELECT entry FROM act WHERE bundle = ?1 ORDER BY entry";
const KNOWN: &str = "SELECT b.id, b.stream, b.sequence, b.manifest, b.entry, a.time
    FROM bundle b JOIN act a ON a.entry = b.entry AND a.n = 0";
const RECORDED: &str = "SELECT r.entry, a.time FROM recorded r JOIN act a ON a.entry = r.entry AND a.n = 0
    WHERE r.bundle = ?1";
const RECEIVED: &str = "SELECT entry FROM received WHERE bundle = ?1";
const REJECTED: &str = "SELECT r.entry, a.time FROM rejection r JOIN act a ON a.entry = r.entry AND a.n = 0
    WHERE r.bundle = ?1";
const APPROVAL: &str = "SELECT entry, bundle FROM approval WHERE statement = ?1";
const APPROVAL_WITHDRAWN: &str = "SELECT entry FROM approval_withdrawal WHERE statement = ?1 AND approver = ?2";
const ANNOUNCEMENTS: &str = "SELECT entry FROM signing WHERE bundle = ?1 ORDER BY entry";
const PROMOTIONS: &str = "SELECT entry FROM promoted WHERE bundle = ?1 ORDER BY entry";
const OVERRIDES: &str = "SELECT entry FROM override WHERE bundle = ?1 AND rule = ?2 ORDER BY entry";
const APPROVALS: &str = "SELECT entry FROM approval WHERE bundle = ?1
    AND NOT EXISTS (SELECT 1 FROM approval_withdrawal w
        WHERE w.statement = approval.statement AND w.approver = approval.approver) ORDER BY entry";
const ALL_APPROVALS: &str = "SELECT entry FROM approval WHERE bundle = ?1 ORDER BY entry";
const WITHDRAWALS: &str =
    "SELECT w.entry, a.time, w.reference FROM withdrawal w JOIN act a ON a.entry = w.entry AND a.n = 0
    WHERE w.digest = ?1 ORDER BY w.entry, w.n";
// A CROSS JOIN keeps its order (sqlite.org/optoverview.html): the withdrawals are few, the acts are many.
const ALL_WITHDRAWN: &str =
    "SELECT w.entry, a.time, w.reference, w.digest FROM withdrawal w CROSS JOIN act a ON a.entry = w.entry AND a.n = 0
    WHERE NOT EXISTS (SELECT 1 FROM signature s
        WHERE s.digest = w.digest AND s.reference = w.reference AND s.entry > w.entry)
    AND NOT EXISTS (SELECT 1 FROM withdrawal l
        WHERE l.digest = w.digest AND l.reference = w.reference AND l.entry > w.entry)
    ORDER BY w.entry, w.n";
const NEWEST_SIGNED: &str = "SELECT max(time) FROM signed WHERE stream = ?1";
const BUNDLE: &str =
    "SELECT b.id, b.stream, b.sequence, b.manifest, b.entry, ba.time, sa.entry, sa.time, ra.entry, ra.time,
        r.images, va.entry, va.time, ja.entry, ja.time,
        (SELECT sum(p.images) FROM promoted p WHERE p.bundle = b.id)
    FROM bundle b JOIN act ba ON ba.entry = b.entry AND ba.n = 0
    LEFT JOIN act sa ON sa.entry = (SELECT min(s.entry) FROM signing s WHERE s.bundle = b.id) AND sa.n = 0
    LEFT JOIN recorded r ON r.bundle = b.id
    LEFT JOIN act ra ON ra.entry = r.entry AND ra.n = 0
    LEFT JOIN received v ON v.bundle = b.id
    LEFT JOIN act va ON va.entry = v.entry AND va.n = 0
    LEFT JOIN rejection j ON j.bundle = b.id
    LEFT JOIN act ja ON ja.entry = j.entry AND ja.n = 0";
// Both lists are cut off by themselves, so that a digest that is everywhere costs no more than another. An image that is no
// index is in both, and shown once.
const IMAGES_BY_DIGEST: &str = "SELECT i.entry, a.time, i.bundle, i.origin, i.production, i.digest, d.platform
    FROM (SELECT * FROM (SELECT entry, n, NULL AS platform, 1 AS itself FROM image WHERE digest = ?1
              ORDER BY entry DESC, n LIMIT ?2)
          UNION ALL
          SELECT * FROM (SELECT DISTINCT entry, image, platform, 0 FROM platform WHERE digest = ?1
              ORDER BY entry DESC, image LIMIT ?2)) d
    JOIN image i ON i.entry = d.entry AND i.n = d.n
    JOIN act a ON a.entry = i.entry AND a.n = 0
    WHERE d.itself OR i.digest <> ?1
    ORDER BY i.entry DESC, i.n LIMIT ?2";
const SIGNATURES_BY_DIGEST: &str = "SELECT s.entry, a.time, s.bundle, s.reference, s.digest, s.path, s.file
    FROM signature s JOIN act a ON a.entry = s.entry AND a.n = 0
    WHERE s.digest = ?1 ORDER BY s.entry DESC, s.n LIMIT ?2";
const MOVES_OF_TAG: &str = "SELECT t.entry, a.time, t.bundle, t.digest, t.previous
    FROM tag t JOIN act a ON a.entry = t.entry AND a.n = 0
    WHERE t.tag = ?1 ORDER BY t.entry DESC, t.n LIMIT ?2";

/// The newest sequence of a stream whose tags were about to move; 0 for none.
fn newest_of(stream: &str) -> String {
    let newest = |table| format!("coalesce((SELECT max(sequence) FROM {table} WHERE stream = {stream}), 0)");
    format!("max({})", ["signing", "recorded", "mark"].map(newest).join(", "))
}

fn newest_sql() -> String {
    format!("SELECT nullif({}, 0)", newest_of("?1"))
}

/// Steps from one stream to the next in the indexes.
fn marks_sql() -> String {
    let streams = |name: &str, table: &str| {
        let next = format!("SELECT min(stream) FROM {table} WHERE stream > {name}.stream");
        format!(
            "{name}(stream) AS (SELECT (SELECT min(stream) FROM {table}) UNION ALL
                SELECT ({next}) FROM {name} WHERE {name}.stream IS NOT NULL)"
        )
    };
    format!(
        "WITH RECURSIVE {}, {} SELECT d.stream, {} FROM (SELECT stream FROM s UNION SELECT stream FROM m) d
         WHERE d.stream IS NOT NULL ORDER BY d.stream",
        streams("s", "signing"),
        streams("m", "mark"),
        newest_of("d.stream")
    )
}

fn bundles_sql(of_stream: bool) -> String {
    let stream = if of_stream { "b.stream = ?3" } else { "?3 IS NULL" };
    format!("{BUNDLE} WHERE {stream} AND b.entry < ?1 ORDER BY b.entry DESC LIMIT ?2")
}

fn refusals_sql(of_stream: bool) -> String {
    let stream = if of_stream { "stream = ?3" } else { "?3 IS NULL" };
    format!("SELECT entry FROM refusal WHERE {stream} AND entry < ?1 ORDER BY entry DESC LIMIT ?2")
}

fn bundle_row(row: &Row<'_>) -> rusqlite::Result<BundleRow> {
    let maybe_at = |i| if row.get_ref(i)?.data_type() == Type::Null { Ok(None) } else { at(row, i).map(Some) };
    let (signing, recorded, received, rejected) = (maybe_at(6)?, maybe_at(8)?, maybe_at(11)?, maybe_at(13)?);
    let count = |i| row.get::<_, Option<i64>>(i).map(|n| n.map(i64::cast_unsigned));
    let (last, promoted) = (count(10)?, count(15)?);
    let status = match () {
        () if recorded.is_some() => Status::Recorded,
        () if rejected.is_some() => Status::Rejected,
        () if promoted.is_some() => Status::Promoted,
        () if signing.is_some() => Status::Signing,
        () if received.is_some() => Status::Received,
        () => Status::Begun,
    };
    let images = last.or(promoted).map(|_| last.unwrap_or(0) + promoted.unwrap_or(0));
    let (subject, begun) = (subject(row, 0)?, at(row, 4)?);
    Ok(BundleRow { subject, status, begun, received, rejected, signing, recorded, images })
}

fn subject(row: &Row<'_>, i: usize) -> rusqlite::Result<Subject> {
    Ok(Subject {
        bundle: parsed(row, i)?,
        stream: parsed(row, i + 1)?,
        sequence: from_integer(i + 2, row.get(i + 2)?)?,
        manifest: parsed(row, i + 3)?,
    })
}

fn at(row: &Row<'_>, i: usize) -> rusqlite::Result<At> {
    Ok(At { entry: number(row, i)?, time: parsed(row, i + 1)? })
}

pub(crate) fn number(row: &Row<'_>, i: usize) -> rusqlite::Result<EntryNumber> {
    from_integer(i, row.get(i)?)
}

fn from_integer<T: TryFrom<u64>>(i: usize, n: i64) -> rusqlite::Result<T> {
    let wrong = || rusqlite::Error::IntegralValueOutOfRange(i, n);
    T::try_from(u64::try_from(n).map_err(|_| wrong())?).map_err(|_| wrong())
}

fn parsed<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(row: &Row<'_>, i: usize) -> rusqlite::Result<T> {
    let text: String = row.get(i)?;
    text.parse().map_err(|e| rusqlite::Error::FromSqlConversionFailure(i, Type::Text, Box::new(e)))
}

fn maybe_parsed<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    i: usize,
) -> rusqlite::Result<Option<T>> {
    if row.get_ref(i)?.data_type() == Type::Null { Ok(None) } else { parsed(row, i).map(Some) }
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;

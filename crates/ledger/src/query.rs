//! Reading: what is known of a bundle, an image, an entry. Every question about one is answered from an index.
//!
//! Here is what anyone may ask ([`Ledger`]), in `within` what an act asks in its transaction; both use the statements of `sql`
//! and read rows with `columns`.

mod columns;
mod sql;
mod within;

use std::collections::{BTreeMap, BTreeSet};

use manifest_schema::document::Platform;
use manifest_schema::{BundleId, Digest, OutsideText, Reference, Repository, Sequence, Stream, TagRef, Timestamp};
use rusqlite::{OptionalExtension, Row};
use serde::Serialize;

use crate::acts::{Approved, Rule, Subject};
use crate::entry::{Act, Entry};
use crate::error::{Error, Fault, database};
use crate::head::{Head, Mark};
use crate::names::{EntryHash, EntryNumber, Fingerprint, TreeHash};
use crate::{Ledger, custody, tree};
use columns::*;
use sql::*;

pub(crate) use columns::number;
pub(crate) use within::*;

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

    /// The entries that brought what production tags named last, oldest first, each with these tags. Every image ever recorded
    /// is looked at.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn newest_images(&self) -> Result<BTreeMap<EntryNumber, BTreeSet<TagRef>>, Error> {
        let rows: Vec<(EntryNumber, TagRef)> =
            self.list("SELECT max(entry), production FROM image GROUP BY production", [], |row| {
                Ok((number(row, 0)?, parsed(row, 1)?))
            })?;
        let mut newest: BTreeMap<EntryNumber, BTreeSet<TagRef>> = BTreeMap::new();
        for (entry, tag) in rows {
            newest.entry(entry).or_default().insert(tag);
        }
        Ok(newest)
    }

    /// Every digest that was withdrawn at some time.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn ever_withdrawn(&self) -> Result<BTreeSet<Digest>, Error> {
        Ok(self.list("SELECT DISTINCT digest FROM withdrawal", [], |row| parsed(row, 0))?.into_iter().collect())
    }

    /// The bundles that will not be promoted, oldest first.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn rejected_bundles(&self) -> Result<Vec<BundleId>, Error> {
        self.list("SELECT bundle FROM rejection ORDER BY entry", [], |row| parsed(row, 0))
    }

    /// The production signatures that name this digest, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn signatures_by_digest(&self, digest: &Digest, limit: u32) -> Result<Vec<SignatureRow>, Error> {
        self.list(SIGNATURES_BY_DIGEST, (digest.to_string(), limit), signature_row)
    }

    /// The image manifests below an index in production. A bundle may have brought some of them only, so all that did are
    /// looked at.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn platforms_of(&self, index: &Digest) -> Result<Vec<Digest>, Error> {
        self.list(PLATFORMS_OF, [index.to_string()], |row| parsed(row, 0))
    }

    /// All production signatures that name this digest in a repository, newest first.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn signatures_in(&self, repository: &Repository, digest: &Digest) -> Result<Vec<SignatureRow>, Error> {
        self.list(SIGNATURES_IN, (digest.to_string(), repository.to_string()), signature_row)
    }

    /// Whether a production reference of a digest was withdrawn, and not signed since.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn is_withdrawn(&self, reference: &Reference, digest: &Digest) -> Result<bool, Error> {
        let parameters = (digest.to_string(), reference.to_string());
        let asked = self.connection.prepare_cached(IS_WITHDRAWN);
        self.sql(asked.and_then(|mut s| s.query_row(parameters, |row| row.get(0))))
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

#[cfg(test)]
mod tests;

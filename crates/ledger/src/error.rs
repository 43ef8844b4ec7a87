//! What can go wrong, and what is refused.

use std::io;
use std::path::{Path, PathBuf};

use manifest_schema::text::escape;
use manifest_schema::{BundleId, Digest, OutsideText, Sequence, Stream, Timestamp};

use crate::entry::EntryError;
use crate::names::{EntryHash, EntryNumber, LedgerId};

/// A path as it is shown.
pub(crate) fn shown(path: &Path) -> String {
    escape(&path.display().to_string()).to_string()
}

/// Why the ledger could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The act is refused. Nothing was written.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// There is no ledger.
    #[error("{}: there is no ledger here", shown(.0))]
    Missing(PathBuf),
    /// Something is there already.
    #[error("{}: exists already; a ledger is never overwritten", shown(.0))]
    Exists(PathBuf),
    /// Not a regular file.
    #[error("{}: not a regular file", shown(.0))]
    NotAFile(PathBuf),
    /// Not a ledger.
    #[error("{}: not a ledger ({})", shown(.path), .reason.escaped())]
    NotALedger {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        reason: OutsideText,
    },
    /// A ledger, but not the one the configuration names.
    #[error("{}: this is ledger {found}, expected {expected}", shown(.path))]
    OtherLedger {
        /// The file.
        path: PathBuf,
        /// The id expected.
        expected: LedgerId,
        /// The id of its first entry.
        found: LedgerId,
    },
    /// Written by a newer program.
    #[error("{}: the ledger has schema {found}; this program knows up to {known}", shown(.path))]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema known.
        known: i64,
    },
    /// A network file system, on which SQLite's locks cannot be relied on.
    #[error("{}: lies on a network file system ({kind}), where a ledger cannot be kept safely", shown(.path))]
    NetworkFileSystem {
        /// The file or its folder.
        path: PathBuf,
        /// The kind of file system.
        kind: &'static str,
    },
    /// Somebody else writes.
    #[error("{}: another program is writing to this ledger{}", shown(.path), .process.map(|p| format!(" (process {p})")).unwrap_or_default())]
    Busy {
        /// The ledger.
        path: PathBuf,
        /// The process that holds it, as far as known.
        process: Option<u32>,
    },
    /// The ledger was opened for reading.
    #[error("{}: opened for reading only", shown(.0))]
    ReadOnly(PathBuf),
    /// No space left.
    #[error("{}: no space left on the file system", shown(.0))]
    Full(PathBuf),
    /// The database file is damaged.
    #[error("{}: the database is damaged: {}", shown(.path), .reason.escaped())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: OutsideText,
    },
    /// The file system failed.
    #[error("{}: {action}", shown(.path))]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// SQLite failed.
    #[error("{}: the database failed: {}", shown(.path), .reason.escaped())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: OutsideText,
    },
    /// A new entry cannot be written.
    #[error("the new entry cannot be written: {0}")]
    Unwritable(EntryError),
    /// The bundle was never begun, so nothing can be signed or recorded for it.
    #[error("bundle {0} was never begun")]
    NotBegun(BundleId),
    /// The bundle has no entry that says signing begins.
    #[error("bundle {0} has no entry that announces its signatures")]
    NotAnnounced(BundleId),
    /// A signature is to be recorded that was not announced.
    #[error("a signature of bundle {bundle} was not announced: {digest} as {reference}")]
    SignatureNotAnnounced {
        /// The bundle.
        bundle: BundleId,
        /// The reference the signature names.
        reference: Box<manifest_schema::Reference>,
        /// The digest it names.
        digest: Box<Digest>,
    },
    /// The bundle is recorded already, with other content.
    #[error("bundle {bundle} is recorded already, with other content, in entry {entry}")]
    RecordedOtherwise {
        /// The bundle.
        bundle: BundleId,
        /// The entry.
        entry: EntryNumber,
    },
    /// The record is not what was written.
    #[error("{}: {fault}", shown(.path))]
    Tampered {
        /// The ledger.
        path: PathBuf,
        /// The first thing found wrong.
        fault: Fault,
    },
}

/// Why an act is refused. The bundle is at fault, or this machine's clock; trying again will not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The same bundle, with another manifest.
    #[error("{stream} {sequence} was begun with manifest {begun}, given {given}")]
    OtherManifest {
        /// The stream.
        stream: Stream,
        /// The sequence.
        sequence: Sequence,
        /// The digest of the manifest begun.
        begun: Box<Digest>,
        /// The digest of the manifest given.
        given: Box<Digest>,
    },
    /// Another bundle under a number that is taken.
    #[error("{stream} {sequence} was begun as bundle {begun}, given {given}")]
    OtherBundle {
        /// The stream.
        stream: Stream,
        /// The sequence.
        sequence: Sequence,
        /// The bundle begun.
        begun: BundleId,
        /// The bundle given.
        given: BundleId,
    },
    /// A number below one that has reached production.
    #[error("{stream} {sequence} is older than {stream} {newest}, which has reached production")]
    Rollback {
        /// The stream.
        stream: Stream,
        /// The sequence given.
        sequence: Sequence,
        /// The newest sequence of the stream.
        newest: Sequence,
    },
    /// A bundle that is known under another number.
    #[error("bundle {bundle} is known as {known_stream} {known_sequence}, given as {stream} {sequence}")]
    SameBundleOtherNumber {
        /// The bundle.
        bundle: BundleId,
        /// The stream it was begun in.
        known_stream: Stream,
        /// The sequence it was begun with.
        known_sequence: Sequence,
        /// The stream given.
        stream: Stream,
        /// The sequence given.
        sequence: Sequence,
    },
    /// The clock is behind the last entry.
    #[error("this machine's clock says {now}, but the ledger's last entry was written at {last}")]
    ClockBehind {
        /// The local time.
        now: Timestamp,
        /// The last entry's time.
        last: Timestamp,
    },
}

/// What is wrong with a ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is no entry at all.
    #[error("there are no entries")]
    Empty,
    /// An entry is missing or out of place.
    #[error("expected entry {expected}, found entry {found}")]
    Gap {
        /// The number that should follow.
        expected: EntryNumber,
        /// The number found.
        found: i64,
    },
    /// An entry's bytes do not have the hash kept beside them.
    #[error("entry {number} was changed: its hash is {}, its bytes have {found}", .expected.escaped())]
    Hash {
        /// The entry.
        number: EntryNumber,
        /// The hash kept beside it.
        expected: OutsideText,
        /// The hash of its bytes.
        found: EntryHash,
    },
    /// An entry's bytes are not an entry.
    #[error("entry {number} was changed: {reason}")]
    Unreadable {
        /// The entry.
        number: EntryNumber,
        /// Which rule the bytes break.
        reason: EntryError,
    },
    /// The chain is broken.
    #[error("entry {number} does not follow entry {}: it names {found}, expected {expected}", number.get().saturating_sub(1))]
    Chain {
        /// The entry.
        number: EntryNumber,
        /// The hash of the entry before it.
        expected: EntryHash,
        /// The hash that it names.
        found: EntryHash,
    },
    /// An entry says something that its place does not allow.
    #[error("entry {number} is out of place: {reason}")]
    Misplaced {
        /// The entry.
        number: EntryNumber,
        /// Why.
        reason: &'static str,
    },
    /// A row is not what its entry says.
    #[error("row {row} of entry {entry} in table `{table}` is {}", if *.present { "not what the entry says" } else { "missing" })]
    Row {
        /// The table.
        table: &'static str,
        /// The entry that the row comes from.
        entry: EntryNumber,
        /// The row's place among the entry's rows in this table, from 0.
        row: usize,
        /// Whether there is a row, with other content.
        present: bool,
    },
    /// A row that no entry accounts for.
    #[error("table `{table}` has a row of entry {entry} that the entry does not account for")]
    ExtraRow {
        /// The table.
        table: &'static str,
        /// The entry that the row claims to come from.
        entry: i64,
    },
    /// A table, index or trigger is missing, changed, or not ours.
    #[error("the database's `{}` is {state}", .name.escaped())]
    Schema {
        /// The table, index or trigger.
        name: OutsideText,
        /// `missing`, `changed` or `not part of a ledger`.
        state: &'static str,
    },
    /// A table cannot be read on.
    #[error("table `{table}` cannot be read after entry {after}: {}", .reason.escaped())]
    Broken {
        /// The table.
        table: &'static str,
        /// The last entry that was right; 0 for none.
        after: u64,
        /// What SQLite says.
        reason: OutsideText,
    },
    /// The database file contradicts itself.
    #[error("the database file is damaged: {}", .0.escaped())]
    Integrity(OutsideText),
}

/// Names the ledger's file in what SQLite says.
pub(crate) fn database(path: &Path, error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    let path = path.to_path_buf();
    let code = error.sqlite_error_code();
    let reason = OutsideText::new(error.to_string());
    match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Busy { path, process: None },
        Some(ErrorCode::DiskFull) => Error::Full(path),
        Some(ErrorCode::ReadOnly) => Error::ReadOnly(path),
        Some(ErrorCode::NotADatabase) => Error::NotALedger { path, reason },
        Some(ErrorCode::DatabaseCorrupt) => Error::Damaged { path, reason },
        _ => Error::Database { path, reason },
    }
}

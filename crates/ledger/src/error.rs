//! What can go wrong, and what is refused.

use std::io;
use std::path::{Path, PathBuf};

use manifest_schema::text::escape;
use manifest_schema::{BundleId, Digest, OutsideText, Reference, Sequence, Stream, Timestamp};

use crate::entry::EntryError;
use crate::head::Head;
use crate::names::{EntryHash, EntryNumber, Fingerprint, LedgerId};

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
    /// Written by an older program, and opened for reading.
    #[error("{}: the ledger has schema {found}, from before schema {needed}; the next command that writes to it brings it there", shown(.path))]
    Older {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The schema that is read.
        needed: i64,
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
    /// The bundle does not wait for a promotion.
    #[error("bundle {0} has not been received for promotion")]
    NotReceived(BundleId),
    /// The bundle has no entry that says signing begins.
    #[error("bundle {0} has no entry that announces its signatures")]
    NotAnnounced(BundleId),
    /// A signature is to be recorded that was not announced.
    #[error("a signature of bundle {bundle} was not announced: {digest} as {reference}")]
    SignatureNotAnnounced {
        /// The bundle.
        bundle: BundleId,
        /// The reference the signature names.
        reference: Box<Reference>,
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
    /// The ledger's heads are signed, and no key was given.
    #[error("{}: its heads are signed by key {key}, which is needed to write to it", shown(.path))]
    NeedsKey {
        /// The ledger.
        path: PathBuf,
        /// The key's certificate.
        key: Fingerprint,
    },
    /// The ledger's heads are not signed.
    #[error("{}: its heads are not signed; it was made without a key", shown(.0))]
    NotSigned(PathBuf),
    /// The key given is not the one that signs this ledger's heads.
    #[error("{}: its heads are signed by {}, given {given}", shown(.path), .expected.as_ref().map_or("no key".into(), |key| format!("key {key}")))]
    OtherKey {
        /// The ledger.
        path: PathBuf,
        /// The certificate of the key that signs.
        expected: Option<Fingerprint>,
        /// The certificate of the key given.
        given: Fingerprint,
    },
    /// The new ledger key is the old one.
    #[error("key {key} signs the ledger's heads already")]
    SameKey {
        /// The key's certificate.
        key: Fingerprint,
    },
    /// The new ledger key was the ledger's key before.
    #[error("key {key} has signed the ledger's heads before; each key has one time")]
    EarlierKey {
        /// The key's certificate.
        key: Fingerprint,
    },
    /// The ledger key failed.
    #[error("ledger key {key}: {}", .reason.escaped())]
    Key {
        /// The key's certificate.
        key: Fingerprint,
        /// Why.
        reason: OutsideText,
    },
    /// The second file of the head is missing.
    #[error("{}: the second file of its head, {}, is missing", shown(.path), shown(.second))]
    NoSecond {
        /// The ledger.
        path: PathBuf,
        /// The second file.
        second: PathBuf,
    },
    /// The second file is not a head that the ledger key signed.
    #[error("{}: not a head that the ledger key signed: {}", shown(.second), .reason.escaped())]
    BadSecond {
        /// The second file.
        second: PathBuf,
        /// What is wrong with it.
        reason: OutsideText,
    },
    /// The ledger lacks entries of a head that it was shown.
    #[error("{}: ends with entry {last}, but had entry {} with hash {}: it was cut off, or put back from an old copy", shown(.path), .head.number, .head.hash)]
    Behind {
        /// The ledger.
        path: PathBuf,
        /// The head that it was shown.
        head: Box<Head>,
        /// Its last entry.
        last: EntryNumber,
    },
    /// The ledger has other entries than a head says that it was shown.
    #[error("{}: its entry {} is not the one that it had, with hash {}: it was written anew", shown(.path), .head.number, .head.hash)]
    Forked {
        /// The ledger.
        path: PathBuf,
        /// The head that it was shown.
        head: Box<Head>,
    },
    /// No image with this digest.
    #[error("the ledger has no image {0}")]
    NoSuchImage(Box<Digest>),
    /// No entry with this number.
    #[error("the ledger has no entry {0}")]
    NoSuchEntry(EntryNumber),
    /// The ledger has every head that it was shown.
    #[error("{}: it has every head that it was shown; there is nothing to adopt", shown(.0))]
    NothingToAdopt(PathBuf),
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
    /// The bundle was rejected.
    #[error("bundle {bundle} was rejected at {at}, in entry {entry}")]
    Rejected {
        /// The bundle.
        bundle: BundleId,
        /// The entry.
        entry: EntryNumber,
        /// When.
        at: Timestamp,
    },
    /// Some of the bundle is on its way into production.
    #[error("{image} of bundle {bundle} was announced in entry {entry}, and may be in production in part")]
    Unfinished {
        /// The bundle.
        bundle: BundleId,
        /// The image that is not recorded.
        image: Box<Reference>,
        /// The entry.
        entry: EntryNumber,
    },
    /// All of the bundle is in production.
    #[error("bundle {bundle} is in production since {at}, by entry {entry}")]
    InProduction {
        /// The bundle.
        bundle: BundleId,
        /// The entry.
        entry: EntryNumber,
        /// When.
        at: Timestamp,
    },
    /// The approval is another bundle's.
    #[error("approval {statement} is of bundle {bundle}, in entry {entry}")]
    ApprovalOfOther {
        /// The digest of its statement.
        statement: Box<Digest>,
        /// The bundle that it is of.
        bundle: BundleId,
        /// The entry.
        entry: EntryNumber,
    },
    /// The approval was taken back.
    #[error("approval {statement} was withdrawn, in entry {entry}")]
    ApprovalWithdrawn {
        /// The digest of its statement.
        statement: Box<Digest>,
        /// The entry.
        entry: EntryNumber,
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
    /// The head that is kept is not that of the last entry, or not signed by the ledger key.
    #[error("the signed head of entry {number} is not right: {}", .reason.escaped())]
    Head {
        /// The last entry.
        number: EntryNumber,
        /// What is wrong.
        reason: OutsideText,
    },
    /// The ledger key was changed without the signature of both keys.
    #[error("entry {number} changes the ledger key, and is not right: {}", .reason.escaped())]
    KeyChange {
        /// The entry.
        number: EntryNumber,
        /// What is wrong.
        reason: OutsideText,
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
    let failed = error.sqlite_error().and_then(|e| io_failure(e.extended_code));
    let reason = OutsideText::new(failed.map_or_else(|| error.to_string(), |failed| format!("{error}: {failed}")));
    match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Busy { path, process: None },
        Some(ErrorCode::DiskFull) => Error::Full(path),
        Some(ErrorCode::ReadOnly) => Error::ReadOnly(path),
        Some(ErrorCode::NotADatabase) => Error::NotALedger { path, reason },
        Some(ErrorCode::DatabaseCorrupt) => Error::Damaged { path, reason },
        _ => Error::Database { path, reason },
    }
}

/// What SQLite calls a "disk I/O error", and does not say of what kind.
fn io_failure(code: i32) -> Option<&'static str> {
    use rusqlite::ffi;
    Some(match code {
        ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_SHORT_READ => "it cannot be read",
        ffi::SQLITE_IOERR_WRITE => "it cannot be written",
        ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC => "it cannot be synchronised with the disk",
        ffi::SQLITE_IOERR_TRUNCATE => "it cannot be cut to size",
        ffi::SQLITE_IOERR_SHMOPEN | ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_IOERR_SHMMAP => {
            "its shared memory (-shm) cannot be made or enlarged"
        }
        _ => return None,
    })
}

/// The tree over the first entries cannot be gone on with.
pub(crate) fn missing_node(path: &Path, entries: u64) -> Error {
    let entry = EntryNumber::try_from(entries.max(1)).unwrap_or(EntryNumber::FIRST);
    Error::Tampered { path: path.into(), fault: Fault::Row { table: "node", entry, row: 0, present: false } }
}

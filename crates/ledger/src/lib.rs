//! The importer's record of what came in: append-only, and able to show that it is.
//!
//! A ledger is one SQLite file. Its table `entry` holds a chain of entries, each the canonical bytes of a JSON document
//! that names the hash of the one before it; all other tables only find things in it. Bundles go through [`Ledger::begin`],
//! [`Ledger::signing`] and [`Ledger::record`]; each is one transaction, safe on the disk when it returns. Beside the record
//! lies what an interrupted receive is continued with (`working.rs`), which nothing relies on.
//!
//! | attack or accident | answer |
//! |---|---|
//! | an old bundle again, an older one after a newer one | [`Ledger::begin`]: [`Standing::AlreadyRecorded`], [`Refusal::Rollback`] |
//! | other content under a number that is taken | [`Refusal::OtherManifest`], [`Refusal::OtherBundle`] |
//! | the clock set back, so that something expired counts again | [`Refusal::ClockBehind`] |
//! | an empty or foreign ledger in place of the real one | [`Error::Missing`], [`Error::OtherLedger`]; [`Ledger::create`] never overwrites |
//! | made up entries shown to somebody who does not have the ledger | [`Proof::included`]: not in the tree of a signed head |
//! | an old copy put back, a ledger cut off or written anew | the second file and every other [`Head`] that was kept elsewhere: [`Error::Behind`], [`Error::Forked`] |
//! | entries made up by someone who has the file and not the key | [`Ledger::open`] and [`Ledger::verify`]: the kept head is not signed, or gone ([`Fault::Head`]) |
//! | rows changed, deleted or replaced through another program | triggers on every table (`schema.rs`) |
//! | the same with the triggers dropped, or in the file's bytes | [`Ledger::verify`] names the first entry or row; [`Ledger::open`] refuses other triggers |
//! | a crash, a kill, a power cut, a disk that is full or fails | WAL with full synchronisation; the second file whole or not at all, and brought up to date by the next [`Ledger::open`]; the same call again goes on where it was |
//! | two programs that write at once | [`Error::Busy`] |
//! | finished volumes or uploads made up | at worst a volume is read again: the registry is asked for every blob |
//! | a hostile database file | `configure` in `schema.rs`: defensive, untrusted schema, no views, bounded values |

#![deny(missing_docs)]

mod acts;
mod append;
mod backup;
mod custody;
mod entry;
mod error;
mod head;
mod lanes;
mod names;
mod open;
mod place;
mod proof;
mod query;
mod rows;
mod schema;
mod tree;
mod verify;
mod working;

// The tests' own, which name this crate as others do.
#[cfg(test)]
extern crate self as ledger;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
#[cfg(test)]
mod scale_tests;

use std::path::{Path, PathBuf};

use manifest_schema::{LabelValue, Timestamp};

pub use acts::{
    Adopted, Announced, ApprovalWithdrawn, Approved, Begun, Clusters, Created, EvidenceKind, HandedFile, HandedOver,
    KeyChanged, MovedTag, Overridden, PromotedBy, Received, ReceivedImage, Recorded, RecordedEvidence, RecordedExcuse,
    RecordedHandover, RecordedImage, RecordedReport, RecordedScan, RecordedScanner, RecordedSignature, Refused,
    Rejected, Resigned, Rule, Signing, Subject, Vouched, Withdrawn,
};
pub use append::Standing;
pub use custody::KeptHead;
pub use entry::{Act, Entry, EntryError, EntryType};
pub use error::{Error, Fault, Refusal};
pub use head::{
    Checked, Checker, Custody, Head, HeadStanding, HeadStatement, HeadType, KeyChange, KeyChangeType, Known, LaterKey,
    Mark, Signer,
};
pub use names::{EntryHash, EntryNumber, Fingerprint, FingerprintError, LedgerId, TreeHash, entry_hash};
pub use proof::{About, Included, Proof, ProofEntry, ProofError, ProofType};
pub use query::{
    At, BundleDetails, BundleRow, Entries, Filter, ImageRow, RefusalRow, SignatureRow, Status, Stored, TagRow,
};
pub use tree::{leaf, proves};
pub use verify::Verified;

/// An open ledger: one connection, and while it may write, the lock that keeps other writers out.
#[derive(Debug)]
pub struct Ledger {
    // Before the lock, so that it is closed first.
    connection: rusqlite::Connection,
    path: PathBuf,
    id: LedgerId,
    lock: Option<place::WriteLock>,
    custody: Option<Custody>,
    /// A signed head that the second file may not have yet.
    unsaved: Option<Vec<u8>>,
}

impl Ledger {
    /// The id.
    pub fn id(&self) -> &LedgerId {
        &self.id
    }

    /// The file, with symbolic links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Who writes an entry, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// The time, by the caller's clock.
    pub now: Timestamp,
    /// The program with its version.
    pub tool: LabelValue,
    /// Who runs it, as the operating system says.
    pub by: Option<LabelValue>,
}

//! What can be checked without trusting the ledger's machine: heads that were kept elsewhere, and proofs.
//!
//! | attack | answer |
//! |---|---|
//! | a head or a proof made up, or signed by another key | [`signed::SignedHead`]: made only of a statement that a known key signed |
//! | an old copy put back, a ledger written anew | [`signed::SignedHead`], of a head that was kept elsewhere, stops it |
//! | another key that signs in the ledger's name | [`proof::Proven`]: the key is certified by the certificate that the auditor has |
//! | entries changed, moved or taken from another ledger | [`ledger::Proof::included`] |
//! | a proof of something else | [`proof::Proven::images`] finds the digest in the entries, never beside them |

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ledger::LedgerId;
use manifest_schema::{Digest, OutsideText};
use signing::{CertificationError, Fingerprint};

pub mod certify;
pub mod proof;
pub mod signed;

/// Why a head, a key or a proof is not believed.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file.
    #[error("{}: cannot be read", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A head that no key of the ledger signed, or none at all.
    #[error("{}: not a head that a key of this ledger signed: {}", .path.display(), .reason.escaped())]
    NoHead {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: OutsideText,
    },
    /// A head of another ledger.
    #[error("{}: a head of ledger {found}, expected {expected}", .path.display())]
    OtherLedger {
        /// The file.
        path: PathBuf,
        /// The ledger that is looked at.
        expected: LedgerId,
        /// The ledger that the head is of.
        found: LedgerId,
    },
    /// The ledger key is none that the certificates vouch for.
    #[error("the ledger's heads are signed by key {key}, which is not known")]
    UnknownKey {
        /// The key.
        key: Fingerprint,
        /// Who could have vouched for it.
        source: CertificationError,
    },
    /// A proof that is not what it says.
    #[error("{}: proves nothing", .path.display())]
    Proof {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ledger::ProofError,
    },
    /// A proof about something else.
    #[error("{}: proves nothing about image {digest}", .path.display())]
    OtherImage {
        /// The file.
        path: PathBuf,
        /// The image asked for.
        digest: Box<Digest>,
    },
    /// A proof about another entry.
    #[error("{}: entry {number}, which it says to prove, is not in it", .path.display())]
    OtherEntry {
        /// The file.
        path: PathBuf,
        /// The entry.
        number: ledger::EntryNumber,
    },
    /// The production key does not vouch for the ledger key.
    #[error("the ledger key cannot be certified by the production key")]
    Certify {
        /// The ledger key.
        key: Fingerprint,
        /// Why.
        source: signing::Error,
    },
}

/// Reads a file of a bounded size.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, AuditError> {
    let failed = |source| AuditError::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}

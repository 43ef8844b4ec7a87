//! Proofs: what a ledger says of an image, for those who do not have the ledger.
//!
//! A proof carries a signed head, and the bytes of some entries with their paths to its root. It can leave entries out; it
//! cannot make any up.

use std::collections::BTreeSet;

use manifest_schema::{Digest, LIMITS, OutsideText};
use serde::{Deserialize, Serialize};

use crate::acts::Subject;
use crate::entry::{Entry, EntryError};
use crate::error::Error;
use crate::head::{Checker, Head};
use crate::names::{EntryHash, EntryNumber, LedgerId, TreeHash, entry_hash};
use crate::query::stored;
use crate::{Ledger, custody, tree};

/// A proof's `type`, its first member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProofType {
    /// Format 1.
    #[serde(rename = "sealift/ledger-proof/1")]
    V1,
}

/// What a proof is about. Like all of a proof that is not an entry or a head, this is only said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// An image: the digest of an index or image manifest.
    Digest(Digest),
    /// An entry.
    Entry(EntryNumber),
}

/// A proof, in the order its members are written. Nothing of it is believed before it was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// `sealift/ledger-proof/1`.
    #[serde(rename = "type")]
    pub kind: ProofType,
    /// What was asked for.
    pub about: About,
    /// A signed head, as a file.
    pub head: OutsideText,
    /// The armored certificate of the key that signed it.
    pub certificate: OutsideText,
    /// The entries, in their order.
    pub entries: Vec<ProofEntry>,
}

/// An entry of a proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofEntry {
    /// Its number.
    pub number: EntryNumber,
    /// Its inclusion path in the head's tree, from the leaf up (RFC 9162, section 2.1.3.1).
    pub path: Vec<TreeHash>,
    /// Its bytes.
    pub entry: OutsideText,
}

/// Why a proof does not prove what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Too large.
    #[error("the proof has {size} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Not strict JSON of this format.
    #[error("not a proof: {}", .0.escaped())]
    Json(OutsideText),
    /// Valid, but not as this program writes it.
    #[error("the proof is not in canonical form")]
    NotCanonical,
    /// Entries that do not rise.
    #[error("entry {number} does not come after entry {before}")]
    Order {
        /// The entry.
        number: EntryNumber,
        /// The one before it in the proof.
        before: EntryNumber,
    },
    /// Not in the tree of the head.
    #[error("entry {number} is not in the tree of the signed head: it was changed, or is no entry of this ledger")]
    NotIncluded {
        /// The entry.
        number: EntryNumber,
    },
    /// Not an entry.
    #[error("entry {number}: {reason}")]
    Unreadable {
        /// The entry.
        number: EntryNumber,
        /// Which rule its bytes break.
        reason: EntryError,
    },
    /// An entry under another number than its own.
    #[error("entry {number} says that it is entry {found}")]
    OtherNumber {
        /// The number in the proof.
        number: EntryNumber,
        /// The number in the entry.
        found: EntryNumber,
    },
    /// Of another ledger.
    #[error("entry {number} is of ledger {found}, expected {expected}")]
    OtherLedger {
        /// The entry.
        number: EntryNumber,
        /// The ledger of the head.
        expected: LedgerId,
        /// The ledger that the entry names.
        found: LedgerId,
    },
}

/// An entry that is in the tree of a head.
///
/// Only [`Proof::included`] makes one:
///
/// ```compile_fail
/// fn forged(entry: ledger::Entry, hash: ledger::EntryHash) -> ledger::Included {
///     ledger::Included { entry, hash }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Included {
    entry: Entry,
    hash: EntryHash,
}

impl Included {
    /// The entry.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The hash of its bytes.
    pub fn hash(&self) -> &EntryHash {
        &self.hash
    }
}

impl Proof {
    /// How every proof begins.
    pub const BEGINNING: &str = r#"{"type":"sealift/ledger-proof/"#;

    /// The file: compact JSON and a line end.
    ///
    /// # Errors
    /// [`ProofError::TooLarge`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, ProofError> {
        let mut bytes = serde_json::to_vec(self).map_err(|e| ProofError::Json(OutsideText::new(e.to_string())))?;
        bytes.push(b'\n');
        within_limit(&bytes)?;
        Ok(bytes)
    }

    /// Reads a proof strictly: exactly the bytes that [`Proof::to_bytes`] gives.
    ///
    /// # Errors
    /// [`ProofError`] says which rule the bytes break.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofError> {
        within_limit(bytes)?;
        if !bytes.starts_with(b"{\"type\":") {
            return Err(ProofError::Json(OutsideText::new("the first member is not `type`")));
        }
        let proof: Self =
            serde_json::from_slice(bytes).map_err(|e| ProofError::Json(OutsideText::new(e.to_string())))?;
        if proof.to_bytes()? == bytes { Ok(proof) } else { Err(ProofError::NotCanonical) }
    }

    /// The entries, if each of them is in the tree of a head. Whether the head is to be believed is the caller's to know.
    ///
    /// # Errors
    /// [`ProofError`] says which entry is not what it should be.
    pub fn included(&self, head: &Head) -> Result<Vec<Included>, ProofError> {
        let mut included: Vec<Included> = Vec::with_capacity(self.entries.len());
        for ProofEntry { number, path, entry: bytes } in &self.entries {
            let (number, bytes) = (*number, bytes.raw().as_bytes());
            if let Some(before) = included.last().map(|i| i.entry.number).filter(|before| *before >= number) {
                return Err(ProofError::Order { number, before });
            }
            if !tree::proves(tree::leaf(bytes), number, head.number.get(), path, &head.root) {
                return Err(ProofError::NotIncluded { number });
            }
            let entry = Entry::parse(bytes).map_err(|reason| ProofError::Unreadable { number, reason })?;
            if entry.number != number {
                return Err(ProofError::OtherNumber { number, found: entry.number });
            }
            if entry.ledger != head.ledger {
                return Err(ProofError::OtherLedger { number, expected: head.ledger, found: entry.ledger });
            }
            included.push(Included { entry, hash: entry_hash(bytes) });
        }
        Ok(included)
    }
}

fn within_limit(bytes: &[u8]) -> Result<(), ProofError> {
    let (size, limit) = (bytes.len() as u64, LIMITS.proof);
    if size > limit { Err(ProofError::TooLarge { size, limit }) } else { Ok(()) }
}

/// What led to a bundle's images being in production. Refusals did not; nor does it matter what was signed once more.
const LED_TO_IT: &str = "SELECT entry FROM act WHERE bundle = ?1
    AND kind IN ('begun', 'received', 'approved', 'approval-withdrawn', 'overridden', 'signing') ORDER BY entry";

impl Ledger {
    /// Proves what the ledger says of an image, or one entry, under the head that it has now. Of an image that came in several
    /// times, the newest `limit` times count.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::NoSuchEntry`]; as [`Ledger::checked_head`].
    pub fn prove(&self, about: About, limit: u32, checker: &dyn Checker) -> Result<Proof, Error> {
        // One view for all of it, even if another program writes meanwhile.
        let view = self.sql(self.connection.unchecked_transaction())?;
        let (kept, statement) = custody::checked_head(self, &view, checker)?;
        let numbers = match about {
            About::Digest(digest) => self.of_image(&digest, limit)?,
            About::Entry(number) => self.of_entry(number)?,
        };
        let size = statement.head.number;
        let mut entries = Vec::with_capacity(numbers.len());
        for number in numbers {
            let missing = || crate::error::missing_node(&self.path, number.get());
            let path = self.inclusion_proof(number, size)?.ok_or_else(missing)?;
            let entry = stored(self, number)?.ok_or(Error::NoSuchEntry(number))?;
            let entry = text(entry.bytes);
            entries.push(ProofEntry { number, path, entry });
        }
        let (head, certificate) = (text(kept.statement), text(kept.certificate));
        Ok(Proof { kind: ProofType::V1, about, head, certificate, entries })
    }

    fn of_image(&self, digest: &Digest, limit: u32) -> Result<BTreeSet<EntryNumber>, Error> {
        let images = self.images_by_digest(digest, limit)?;
        if images.is_empty() {
            return Err(Error::NoSuchImage(Box::new(*digest)));
        }
        let mut numbers: BTreeSet<_> = images.iter().map(|image| image.recorded.entry).collect();
        for number in numbers.clone() {
            numbers.extend(self.led_to(number)?);
        }
        numbers.extend(self.withdrawals(digest)?.into_iter().map(|(at, _)| at.entry));
        Ok(numbers)
    }

    fn of_entry(&self, number: EntryNumber) -> Result<BTreeSet<EntryNumber>, Error> {
        let mut numbers = self.led_to(number)?;
        numbers.insert(number);
        Ok(numbers)
    }

    /// What led to what an entry says of a bundle.
    fn led_to(&self, number: EntryNumber) -> Result<BTreeSet<EntryNumber>, Error> {
        let entry = stored(self, number)?.ok_or(Error::NoSuchEntry(number))?.entry;
        match entry.act.subject() {
            Some(subject) => self.about_subject(subject),
            None => Ok(BTreeSet::new()),
        }
    }

    fn about_subject(&self, subject: &Subject) -> Result<BTreeSet<EntryNumber>, Error> {
        let mut numbers = BTreeSet::new();
        for number in self.numbers(LED_TO_IT, &subject.bundle)? {
            if stored(self, number)?.is_some_and(|s| s.entry.act.subject() == Some(subject)) {
                numbers.insert(number);
            }
        }
        Ok(numbers)
    }
}

fn text(bytes: Vec<u8>) -> OutsideText {
    // Entries, statements and armor are text.
    OutsideText::whole(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_not_read() {
        let limit = LIMITS.proof;
        let bytes = vec![0; limit as usize + 1];
        assert_eq!(within_limit(&bytes[1..]), Ok(()));
        assert_eq!(Proof::parse(&bytes), Err(ProofError::TooLarge { size: limit + 1, limit }));
    }
}

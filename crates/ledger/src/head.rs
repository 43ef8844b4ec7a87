//! Heads: states of a ledger, as the ledger key signs them.
//!
//! The latest stands in the database, written with the entry it is about, and in a second file that may lie on another disk.
//! A ledger that does not have an entry of a head that it is shown was cut off, put back from an old copy or written anew;
//! nothing more is written to it until somebody says why ([`Ledger::adopt`](crate::Ledger::adopt)).

use std::fmt;
use std::path::PathBuf;

use manifest_schema::{LIMITS, OutsideText, Sequence, Stream, Timestamp};
use serde::{Deserialize, Serialize};

use crate::names::{EntryHash, EntryNumber, Fingerprint, LedgerId, TreeHash};

/// A state of a ledger: its last entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The ledger.
    pub ledger: LedgerId,
    /// The number of the last entry: how many there are.
    pub number: EntryNumber,
    /// Its hash, and by the chain that of every entry before it.
    pub hash: EntryHash,
    /// The root of the tree over all entries.
    pub root: TreeHash,
    /// Its time.
    pub time: Timestamp,
}

/// How far a stream has come: the newest of its bundles whose tags were about to move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// The stream.
    pub stream: Stream,
    /// Its high-water mark.
    pub sequence: Sequence,
}

/// A head that is known from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The head.
    pub head: Head,
    /// How far streams had come by it, as far as that is known too.
    pub marks: Vec<Mark>,
}

/// A signed head's `type`, its first member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeadType {
    /// Format 1.
    #[serde(rename = "sealift/ledger-head/1")]
    V1,
}

/// What the ledger key signs of a state, in the order its members are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadStatement {
    /// `sealift/ledger-head/1`.
    #[serde(rename = "type")]
    pub kind: HeadType,
    /// The state.
    pub head: Head,
    /// The certificate of the key that signs.
    pub key: Fingerprint,
    /// How far every stream has come, by the streams' names.
    pub marks: Vec<Mark>,
}

/// A key change's `type`, its first member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyChangeType {
    /// Format 1.
    #[serde(rename = "sealift/ledger-key-change/1")]
    V1,
}

/// What both keys sign when another key is to sign a ledger's heads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyChange {
    /// `sealift/ledger-key-change/1`.
    #[serde(rename = "type")]
    pub kind: KeyChangeType,
    /// The last state that the old key signs for.
    pub after: Head,
    /// The old key's certificate; none if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Fingerprint>,
    /// The new key's certificate.
    pub to: Fingerprint,
}

/// Reads a document strictly: exactly the bytes that it is written as.
pub(crate) fn parse<'a, T: Serialize + Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    let value: T = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    match serde_json::to_vec(&value) {
        Ok(again) if again == bytes => Ok(value),
        Ok(_) => Err("not in canonical form".into()),
        Err(e) => Err(e.to_string()),
    }
}

impl HeadStatement {
    /// Reads it from bytes that were signed.
    ///
    /// # Errors
    /// Which rule the bytes break.
    pub fn parse(bytes: &[u8]) -> Result<Self, OutsideText> {
        parse(bytes).map_err(OutsideText::new)
    }

    /// The bytes to sign: compact JSON.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The ledger key: signs statements, each as one file of document and signature.
pub trait Signer: Send + Sync {
    /// The fingerprint of its certificate.
    fn fingerprint(&self) -> Fingerprint;

    /// Its certificate, armored.
    ///
    /// # Errors
    /// Why it cannot be encoded.
    fn certificate(&self) -> Result<Vec<u8>, OutsideText>;

    /// Signs a document.
    ///
    /// # Errors
    /// Why the key failed.
    fn sign(&self, document: &[u8]) -> Result<Vec<u8>, OutsideText>;
}

/// A statement whose signatures were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The document.
    pub document: Vec<u8>,
    /// The certificates whose signatures are good.
    pub signers: Vec<Fingerprint>,
}

/// Checks statements.
///
/// A ledger outlives the keys that sign it: whether a key has expired is judged as of when it signed.
pub trait Checker {
    /// Checks a statement, as one file of document and signatures, with the certificates given.
    ///
    /// # Errors
    /// Why none of its signatures counts.
    fn check(&self, statement: &[u8], certificates: &[u8]) -> Result<Checked, OutsideText>;
}

/// What it takes to write to a ledger: the key that signs its heads, and the second place where they are kept.
pub struct Custody {
    /// The ledger key.
    pub signer: Box<dyn Signer>,
    /// Checks what it signed.
    pub checker: Box<dyn Checker + Send>,
    /// The second file.
    pub second: PathBuf,
}

impl fmt::Debug for Custody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custody").field("key", &self.signer.fingerprint()).field("second", &self.second).finish()
    }
}

/// A ledger key that a ledger does not know, because it came after what the ledger has.
#[derive(Debug, Clone)]
pub struct LaterKey {
    /// The fingerprint of its certificate.
    pub key: Fingerprint,
    /// Its certificate, armored.
    pub certificate: Vec<u8>,
}

/// What a ledger has to say of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadStanding {
    /// It has that entry: it is that state, or a later one.
    Has,
    /// It does not, and somebody said why.
    Adopted,
    /// It does not reach that far: it was cut off, or put back from an old copy.
    Behind,
    /// It has another entry there: it was written anew from some entry on.
    Forked,
    /// The head is another ledger's.
    Foreign,
}

/// Reads a signed head from the second file, or one that was kept elsewhere.
pub(crate) fn read(statement: &[u8], certificates: &[u8], checker: &dyn Checker) -> Result<HeadStatement, OutsideText> {
    let checked = checker.check(statement, certificates)?;
    let head = HeadStatement::parse(&checked.document)?;
    if checked.signers.contains(&head.key) {
        Ok(head)
    } else {
        Err(OutsideText::new(format!("it is not signed by {}, the key that it names", head.key)))
    }
}

/// The largest statement that is read, in bytes.
pub(crate) const STATEMENT: u64 = LIMITS.config;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::{Key, Keys, ledger_key, stamp};

    fn statement() -> HeadStatement {
        let (hash, root) = (crate::entry_hash(b"entry"), crate::leaf(b"entry"));
        let (ledger, number) = (LedgerId::generate(), EntryNumber::FIRST);
        let head = Head { ledger, number, hash, root, time: stamp(0).now };
        HeadStatement { kind: HeadType::V1, head, key: ledger_key('A'), marks: vec![] }
    }

    #[test]
    fn only_one_byte_string_means_a_head() {
        let statement = statement();
        let good = String::from_utf8(statement.to_bytes()).expect("text");
        assert_eq!(HeadStatement::parse(good.as_bytes()), Ok(statement));
        for (what, bad) in [
            ("space", good.replacen(',', ", ", 1)),
            ("trailing", format!("{good}\n")),
            ("unknown member", good.replacen("\"key\"", "\"note\":1,\"key\"", 1)),
            ("other type", good.replacen("ledger-head/1", "ledger-head/2", 1)),
            ("lower-case fingerprint", good.replacen(&"A".repeat(40), &"a".repeat(40), 1)),
            ("number", good.replacen("\"number\":1", "\"number\":1.0", 1)),
        ] {
            assert_ne!(bad, good, "{what}");
            assert!(HeadStatement::parse(bad.as_bytes()).is_err(), "{what}");
        }
    }

    #[test]
    fn a_head_is_signed_by_the_key_that_it_names() {
        let document = statement().to_bytes();
        for (letter, right) in [('A', true), ('B', false)] {
            let key = Key(ledger_key(letter));
            let signed = key.sign(&document).expect("signed");
            let read = read(&signed, &key.certificate().expect("a certificate"), &Keys);
            assert_eq!(read.is_ok(), right, "{read:?}");
        }
    }
}

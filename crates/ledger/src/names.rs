//! The names in an entry: ledger, number, hash, fingerprint.

use std::fmt;
use std::str::FromStr;

use blobs::Hasher;
use manifest_schema::digest::{Algorithm, Digest, from_hex, to_hex};
use manifest_schema::text::escape;

/// A name does not follow its grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a ledger id.
    #[error("`{}` is not a ledger id: expected a UUID of version 4 in lower case", escape(.0))]
    Ledger(String),
    /// Not an entry number.
    #[error("`{0}` is not an entry number: expected 1 to 9007199254740991")]
    Number(u64),
    /// Not a hash.
    #[error("`{}` is not a hash: expected 64 hexadecimal digits in lower case", escape(.0))]
    Hash(String),
    /// Not a fingerprint.
    #[error("`{}` is not a key fingerprint: expected 40 or 64 hexadecimal digits", escape(.0))]
    Fingerprint(String),
}

/// The SHA-256 hash of some bytes, one part behind the other.
fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    parts.iter().for_each(|part| hasher.update(part));
    match hasher.finish() {
        Digest::Sha256(hash) => hash,
        Digest::Sha512(_) => unreachable!("a SHA-256 digest was asked for"),
    }
}

fn beginning(text: &str) -> String {
    text.chars().take(100).collect()
}

/// `Serialize` and `Deserialize` for a type that is a string with a grammar, and `Debug` as it is written.
macro_rules! as_string {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

/// A ledger's id: a UUID of version 4 (RFC 9562), in lower case with hyphens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerId(uuid::Uuid);

impl LedgerId {
    pub(crate) fn generate() -> Self {
        Self(uuid::Uuid::new_v4())
    }
}

impl FromStr for LedgerId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        match uuid::Uuid::try_parse(text) {
            Ok(id) if id.get_version_num() == 4 && id.hyphenated().to_string() == text => Ok(Self(id)),
            _ => Err(NameError::Ledger(beginning(text))),
        }
    }
}

impl fmt::Display for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

as_string!(LedgerId);

/// The place of an entry in the ledger, from 1 without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct EntryNumber(u64);

impl EntryNumber {
    /// The entry that created the ledger.
    pub const FIRST: Self = Self(1);

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The number after this one.
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number as SQLite keeps it.
    pub(crate) fn sql(self) -> i64 {
        self.0.cast_signed()
    }
}

impl TryFrom<u64> for EntryNumber {
    type Error = NameError;
    fn try_from(n: u64) -> Result<Self, NameError> {
        if n == 0 || n >= 1 << 53 { Err(NameError::Number(n)) } else { Ok(Self(n)) }
    }
}

impl From<EntryNumber> for u64 {
    fn from(number: EntryNumber) -> u64 {
        number.0
    }
}

impl fmt::Display for EntryNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The SHA-256 hash of an entry's bytes, in lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryHash([u8; 32]);

impl EntryHash {
    /// What the first entry has for its predecessor.
    pub(crate) const NONE: Self = Self([0; 32]);

    /// The hash of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha256(&[bytes]))
    }

    /// The hash itself.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&[u8]> for EntryHash {
    type Error = std::array::TryFromSliceError;
    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self)
    }
}

impl FromStr for EntryHash {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        from_hex(text).map(Self).ok_or_else(|| NameError::Hash(beginning(text)))
    }
}

impl fmt::Display for EntryHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

as_string!(EntryHash);

/// A node of the tree over the entries, in lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeHash([u8; 32]);

impl TreeHash {
    /// The hash of some bytes, one part behind the other.
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        Self(sha256(parts))
    }

    /// The hash itself.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&[u8]> for TreeHash {
    type Error = std::array::TryFromSliceError;
    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self)
    }
}

impl FromStr for TreeHash {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        from_hex(text).map(Self).ok_or_else(|| NameError::Hash(beginning(text)))
    }
}

impl fmt::Display for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

as_string!(TreeHash);

/// The fingerprint of an OpenPGP key (RFC 9580 section 5.5.4): 40 or 64 hexadecimal digits, kept in upper case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Fingerprint {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(text.to_ascii_uppercase()))
        } else {
            Err(NameError::Fingerprint(beginning(text)))
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_string!(Fingerprint);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_strict() {
        let id = LedgerId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().to_uppercase().parse::<LedgerId>().is_err());
        let bundle = manifest_schema::BundleId::generate();
        assert!(bundle.to_string().parse::<LedgerId>().is_err(), "a bundle's id is no ledger's id");
        assert!(EntryNumber::try_from(0).is_err());
        assert!(EntryNumber::try_from(1 << 53).is_err());
        assert_eq!(EntryHash::NONE.to_string(), "0".repeat(64));
        assert_eq!(
            EntryHash::of(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let lower: Fingerprint = "ab".repeat(20).parse().expect("a fingerprint");
        assert_eq!(lower.as_str(), "AB".repeat(20));
        for bad in ["", "199E2F91FD431D51", &"G".repeat(40), "\u{1b}[2J"] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad:?}");
        }
    }
}

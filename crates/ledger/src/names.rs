//! The names in an entry. What both sides know of a ledger stands in `manifest-schema`; here is what only this one does.

use std::fmt;
use std::str::FromStr;

use blobs::Hasher;
pub use manifest_schema::ledger::{EntryHash, EntryNumber, LedgerId, TreeHash};
use manifest_schema::text::escape;
use manifest_schema::{Algorithm, Digest};

/// Not a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a key fingerprint: expected 40 or 64 hexadecimal digits", escape(.0))]
pub struct FingerprintError(String);

/// The hash of an entry's bytes.
pub fn entry_hash(bytes: &[u8]) -> EntryHash {
    hash(&[bytes]).into()
}

/// The hash of a tree's node: of some bytes, one part behind the other.
pub(crate) fn tree_hash(parts: &[&[u8]]) -> TreeHash {
    hash(parts).into()
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    parts.iter().for_each(|part| hasher.update(part));
    match hasher.finish() {
        Digest::Sha256(hash) => hash,
        Digest::Sha512(_) => unreachable!("a SHA-256 digest was asked for"),
    }
}

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
    type Err = FingerprintError;
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        if matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(text.to_ascii_uppercase()))
        } else {
            Err(FingerprintError(text.chars().take(100).collect()))
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_strict() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((entry_hash(b"abc").to_string(), tree_hash(&[b"a", b"bc"]).to_string()), (abc.into(), abc.into()));
        let lower: Fingerprint = "ab".repeat(20).parse().expect("a fingerprint");
        assert_eq!(lower.as_str(), "AB".repeat(20));
        for bad in ["", "199E2F91FD431D51", &"G".repeat(40), "\u{1b}[2J"] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad:?}");
        }
        let long = "x".repeat(1000).parse::<Fingerprint>().expect_err("far too long").to_string();
        assert!(long.len() < 200, "{long}");
    }
}

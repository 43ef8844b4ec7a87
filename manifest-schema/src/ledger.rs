//! What both sides call a ledger and its states: id, entry number, hashes.

use std::fmt;
use std::str::FromStr;

use crate::digest::{from_hex, to_hex};
use crate::json::string_serde;
use crate::text::escape;

/// A name in a ledger does not follow its grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerNameError {
    /// Not a ledger id.
    #[error("`{}` is not a ledger id: expected a UUID of version 4 in lower case", escape(.0))]
    Ledger(String),
    /// Not an entry number.
    #[error("`{0}` is not an entry number: expected 1 to 9007199254740991")]
    Number(u64),
    /// Not a hash.
    #[error("`{}` is not a hash: expected 64 hexadecimal digits in lower case", escape(.0))]
    Hash(String),
}

/// A ledger's id: a UUID of version 4 (RFC 9562), in lower case with hyphens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerId(uuid::Uuid);

impl LedgerId {
    /// A new id.
    pub fn generate() -> Self {
        Self(uuid::Uuid::new_v4())
    }
}

impl FromStr for LedgerId {
    type Err = LedgerNameError;
    fn from_str(text: &str) -> Result<Self, LedgerNameError> {
        match uuid::Uuid::try_parse(text) {
            Ok(id) if id.get_version_num() == 4 && id.hyphenated().to_string() == text => Ok(Self(id)),
            _ => Err(LedgerNameError::Ledger(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

string_serde!(LedgerId, "LedgerId", "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$");

/// The place of an entry in a ledger, from 1 without gaps.
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
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl TryFrom<u64> for EntryNumber {
    type Error = LedgerNameError;
    fn try_from(n: u64) -> Result<Self, LedgerNameError> {
        if n == 0 || n >= 1 << 53 { Err(LedgerNameError::Number(n)) } else { Ok(Self(n)) }
    }
}

impl From<EntryNumber> for u64 {
    fn from(number: EntryNumber) -> u64 {
        number.0
    }
}

/// Always above zero: that is how databases keep numbers.
impl From<EntryNumber> for i64 {
    fn from(number: EntryNumber) -> i64 {
        number.0.cast_signed()
    }
}

impl fmt::Display for EntryNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A type for one kind of SHA-256 hash, written in lower-case hexadecimal.
macro_rules! hash {
    ($(#[$doc:meta])* $type:ident, $name:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type([u8; 32]);

        impl $type {
            /// The hash itself.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl From<[u8; 32]> for $type {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl TryFrom<&[u8]> for $type {
            type Error = std::array::TryFromSliceError;
            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                bytes.try_into().map(Self)
            }
        }

        impl FromStr for $type {
            type Err = LedgerNameError;
            fn from_str(text: &str) -> Result<Self, LedgerNameError> {
                from_hex(text).map(Self).ok_or_else(|| LedgerNameError::Hash(text.chars().take(80).collect()))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }

        string_serde!($type, $name, "^[0-9a-f]{64}$");
    };
}

hash! {
    /// The SHA-256 hash of an entry's bytes.
    EntryHash, "EntryHash"
}

impl EntryHash {
    /// What the first entry has for its predecessor.
    pub const NONE: Self = Self([0; 32]);
}

hash! {
    /// A node of the tree over a ledger's entries, such as its root.
    TreeHash, "TreeHash"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_strict() {
        let id = LedgerId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().to_uppercase().parse::<LedgerId>().is_err());
        let bundle = crate::BundleId::generate();
        assert!(bundle.to_string().parse::<LedgerId>().is_err(), "a bundle's id is no ledger's id");
        assert!(EntryNumber::try_from(0).is_err());
        assert!(EntryNumber::try_from(1 << 53).is_err());
        assert_eq!(EntryHash::NONE.to_string(), "0".repeat(64));
        let hash = EntryHash::from([0xab; 32]);
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for bad in ["", &"AB".repeat(32), &"ab".repeat(31), &format!("{hash}\n")] {
            assert!(bad.parse::<EntryHash>().is_err() && bad.parse::<TreeHash>().is_err(), "{bad}");
        }
    }
}

//! Fingerprints of OpenPGP keys (RFC 9580 section 5.5.4).

use std::fmt;
use std::str::FromStr;

use manifest_schema::text::escape;
use sequoia_openpgp as openpgp;

/// The fingerprint of a key: 40 hexadecimal digits in upper case, or 64 for a key of version 6.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<openpgp::Fingerprint> for Fingerprint {
    fn from(fingerprint: openpgp::Fingerprint) -> Self {
        Self(fingerprint.to_hex())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a key fingerprint: expected 40 or 64 hexadecimal digits (key ids are too short)", escape(.0))]
pub struct FingerprintError(String);

impl FromStr for Fingerprint {
    type Err = FingerprintError;
    /// Reads a fingerprint as people copy it: either case, with the spaces GnuPG puts between groups, `0x` in front.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let bare = text.strip_prefix("0x").unwrap_or(text);
        let digits: String = bare.chars().filter(|c| *c != ' ').collect();
        if matches!(digits.len(), 40 | 64) && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(digits.to_ascii_uppercase()))
        } else {
            Err(FingerprintError(text.chars().take(100).collect()))
        }
    }
}

impl serde::Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_as_people_copy_them() {
        let full = "567E347AD0044ADE55BA8A5F199E2F91FD431D51";
        for text in
            [full, "0x567e347ad0044ade55ba8a5f199e2f91fd431d51", "567E 347A D004 4ADE 55BA  8A5F 199E 2F91 FD43 1D51"]
        {
            assert_eq!(text.parse::<Fingerprint>().expect(text).to_string(), full);
        }
        for bad in ["", "199E2F91FD431D51", "567E347AD0044ADE55BA8A5F199E2F91FD431D5G", "\u{1b}[2J"] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad:?}");
        }
    }
}

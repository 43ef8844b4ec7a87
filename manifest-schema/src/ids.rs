//! The names of a bundle: id, stream, sequence, times.

use std::fmt;
use std::str::FromStr;

use crate::json::string_serde;
use crate::text::escape;

/// A name or number of a bundle does not follow its grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a stream name.
    #[error("`{}` is not a stream name: expected a lower-case letter or digit, then up to 62 of a-z 0-9 -", escape(.0))]
    Stream(String),
    /// Not a bundle id.
    #[error("`{}` is not a bundle id: expected a UUID of version 7 in lower case", escape(.0))]
    Bundle(String),
    /// Not a sequence number.
    #[error("`{0}` is not a sequence number: expected 1 to 9007199254740991")]
    Sequence(u64),
    /// Not a time.
    #[error("`{}` is not a time: expected UTC to the second, such as 2026-01-31T09:00:00Z", escape(.0))]
    Time(String),
}

/// A release line: `[a-z0-9][a-z0-9-]{0,62}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream(String);

impl Stream {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Stream {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let alnum = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let b = text.as_bytes();
        if (1..=63).contains(&b.len()) && alnum(b[0]) && b.iter().all(|&c| alnum(c) || c == b'-') {
            Ok(Self(text.into()))
        } else {
            Err(IdError::Stream(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_serde!(Stream, "Stream", "^[a-z0-9][a-z0-9-]{0,62}$");

/// A bundle's id: a UUID of version 7 (RFC 9562), in lower case with hyphens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleId(uuid::Uuid);

impl BundleId {
    /// A new id, made now.
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7())
    }
}

impl FromStr for BundleId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        match uuid::Uuid::try_parse(text) {
            Ok(id) if id.get_version_num() == 7 && id.hyphenated().to_string() == text => Ok(Self(id)),
            _ => Err(IdError::Bundle(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

string_serde!(BundleId, "BundleId", "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$");

/// The place of a bundle in its stream: 1 to 2^53 - 1, strictly increasing from release to release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Sequence(u64);

impl Sequence {
    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for Sequence {
    type Error = IdError;
    fn try_from(n: u64) -> Result<Self, IdError> {
        if n == 0 || n >= 1 << 53 { Err(IdError::Sequence(n)) } else { Ok(Self(n)) }
    }
}

impl From<Sequence> for u64 {
    fn from(sequence: Sequence) -> u64 {
        sequence.0
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl schemars::JsonSchema for Sequence {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Sequence".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": 1, "maximum": 9_007_199_254_740_991_u64 })
    }
}

/// A moment in UTC to the second, written `2026-01-31T09:00:00Z` (RFC 3339).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// Now, by this machine's clock.
    pub fn now() -> Self {
        let now = jiff::Timestamp::now();
        Self(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))
    }

    /// A number of seconds since 1970-01-01T00:00:00Z; `None` if it is beyond the year 9999.
    pub fn from_unix(seconds: i64) -> Option<Self> {
        jiff::Timestamp::from_second(seconds).ok().map(Self)
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    pub fn unix(self) -> i64 {
        self.0.as_second()
    }
}

impl FromStr for Timestamp {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.parse::<jiff::Timestamp>() {
            Ok(t) if t.subsec_nanosecond() == 0 && t.to_string() == text => Ok(Self(t)),
            _ => Err(IdError::Time(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

string_serde!(Timestamp, "Timestamp", "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_times_are_strict() {
        assert!("payments".parse::<Stream>().is_ok());
        for bad in ["", "-x", "Payments", "a/b", "..", "a b", &"x".repeat(64)] {
            assert!(bad.parse::<Stream>().is_err(), "{bad}");
        }
        let id = BundleId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("6ba7b810-9dad-11d1-80b4-00c04fd430c8".parse::<BundleId>().is_err());
        assert!(id.to_string().to_uppercase().parse::<BundleId>().is_err());
        assert!(Sequence::try_from(0).is_err());
        assert!(Sequence::try_from(1 << 53).is_err());
        let t: Timestamp = "2026-01-31T09:00:00Z".parse().expect("a time");
        assert_eq!(t.to_string(), "2026-01-31T09:00:00Z");
        for bad in ["2026-01-31T09:00:00+00:00", "2026-01-31T09:00:00.5Z", "2026-01-31", "now"] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }
}

//! Statements of custody: who handed a medium over, and what a check of it found then (docs/format.md, "Custody").

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{BundleId, Timestamp};
use crate::json::string_serde;
use crate::limits::LIMITS;
use crate::text::{LabelValue, escape};

/// A statement's `type`, its first member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StatementType {
    /// Format 1.
    #[serde(rename = "sealift/hand-over/1")]
    V1,
}

/// One statement, in the order its members are written. What it says is the courier's word: nobody else has checked it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// `sealift/hand-over/1`.
    #[serde(rename = "type")]
    pub kind: StatementType,
    /// The bundle.
    pub bundle: BundleId,
    /// The digest of `SHA256SUMS`.
    pub seal: Digest,
    /// Its place among the statements of a folder, from 1.
    pub number: u32,
    /// The digest of the statement before it; none in the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// When it was made.
    pub at: Timestamp,
    /// Who hands over.
    pub by: LabelValue,
    /// Who takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<LabelValue>,
    /// The number on the bag's seal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bag: Option<LabelValue>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<LabelValue>,
    /// The program that wrote it, with its version.
    pub tool: LabelValue,
    /// What the check found.
    pub volumes: CheckedVolumes,
}

/// The volumes of the media that were there, by what a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckedVolumes {
    /// As they were sealed.
    #[serde(default, skip_serializing_if = "VolumeNumbers::is_empty")]
    pub good: VolumeNumbers,
    /// Changed.
    #[serde(default, skip_serializing_if = "VolumeNumbers::is_empty")]
    pub damaged: VolumeNumbers,
    /// Not there, though others of their medium are.
    #[serde(default, skip_serializing_if = "VolumeNumbers::is_empty")]
    pub missing: VolumeNumbers,
    /// There, and cannot be read.
    #[serde(default, skip_serializing_if = "VolumeNumbers::is_empty")]
    pub unreadable: VolumeNumbers,
}

impl CheckedVolumes {
    fn all(&self) -> [&VolumeNumbers; 4] {
        [&self.good, &self.damaged, &self.missing, &self.unreadable]
    }
}

/// Why bytes are not a statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Too large.
    #[error("{size} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Not strict JSON of this format.
    #[error("not a statement: {}", escape(.0))]
    Json(String),
    /// Valid, but not as this program writes it.
    #[error("not in canonical form")]
    NotCanonical,
    /// A member that says what it cannot.
    #[error("{0}")]
    Wrong(&'static str),
}

impl Statement {
    /// The bytes to keep and to sign: compact JSON.
    ///
    /// # Errors
    /// As [`Statement::parse`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, StatementError> {
        self.check()?;
        let bytes = serde_json::to_vec(self).map_err(|e| StatementError::Json(e.to_string()))?;
        within_limit(&bytes)?;
        Ok(bytes)
    }

    /// Reads a statement strictly: exactly the bytes that [`Statement::to_bytes`] gives.
    ///
    /// # Errors
    /// [`StatementError`] says which rule the bytes break.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatementError> {
        within_limit(bytes)?;
        if !bytes.starts_with(b"{\"type\":") {
            return Err(StatementError::Json("the first member is not `type`".into()));
        }
        let statement: Self = serde_json::from_slice(bytes).map_err(|e| StatementError::Json(e.to_string()))?;
        if statement.to_bytes()? == bytes { Ok(statement) } else { Err(StatementError::NotCanonical) }
    }

    fn check(&self) -> Result<(), StatementError> {
        if !(1..=LIMITS.statements).contains(&self.number) {
            return Err(StatementError::Wrong("the number is out of range"));
        }
        if (self.number == 1) != self.previous.is_none() {
            return Err(StatementError::Wrong("the first statement, and no other, names none before it"));
        }
        if self.by.to_string().trim().is_empty() {
            return Err(StatementError::Wrong("nobody hands over"));
        }
        let sets = self.volumes.all();
        let distinct: BTreeSet<u32> = sets.iter().flat_map(|set| set.iter()).collect();
        if distinct.len() != sets.iter().map(|set| set.len()).sum::<usize>() {
            return Err(StatementError::Wrong("a volume in two states"));
        }
        Ok(())
    }
}

fn within_limit(bytes: &[u8]) -> Result<(), StatementError> {
    let (size, limit) = (bytes.len() as u64, LIMITS.statement);
    if size > limit { Err(StatementError::TooLarge { size, limit }) } else { Ok(()) }
}

/// Numbers of volumes, written `1-7,9`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeNumbers(Vec<RangeInclusive<u32>>);

impl VolumeNumbers {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether a number is among them.
    pub fn contains(&self, number: u32) -> bool {
        self.0.iter().any(|range| range.contains(&number))
    }

    /// The numbers, rising.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().cloned().flatten()
    }

    /// Adds a number that is higher than any before.
    fn push(&mut self, number: u32) {
        match self.0.last_mut() {
            Some(last) if last.end() + 1 == number => *last = *last.start()..=number,
            _ => self.0.push(number..=number),
        }
    }
}

impl FromIterator<u32> for VolumeNumbers {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut ranges = Self::default();
        for number in numbers.into_iter().collect::<BTreeSet<u32>>() {
            ranges.push(number);
        }
        ranges
    }
}

impl fmt::Display for VolumeNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "," };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{separator}{first}")?,
                (first, last) => write!(f, "{separator}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// The text is not a list of volume numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a list of volumes: expected rising numbers from 1 to {}, such as 1-7,9", escape(.0), LIMITS.volumes)]
pub struct VolumeNumbersError(String);

impl FromStr for VolumeNumbers {
    type Err = VolumeNumbersError;
    fn from_str(text: &str) -> Result<Self, VolumeNumbersError> {
        let wrong = || VolumeNumbersError(text.chars().take(80).collect());
        let mut ranges = Vec::new();
        let mut before = 0;
        for range in text.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u32, u32) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
            // What follows without a gap belongs to the range before.
            if first <= before || (before > 0 && first == before + 1) || last < first || last > LIMITS.volumes {
                return Err(wrong());
            }
            ranges.push(first..=last);
            before = last;
        }
        let numbers = Self(ranges);
        if numbers.to_string() == text { Ok(numbers) } else { Err(wrong()) }
    }
}

string_serde!(VolumeNumbers, "VolumeNumbers", "^[0-9]{1,4}([,-][0-9]{1,4})*$");

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: &str = concat!(
        r#"{"type":"sealift/hand-over/1","bundle":"019c133c-3ed0-7b6e-9d3c-52e5d1a7f0c4","#,
        r#""seal":"sha256:7a0edbc37b327075e554b10f05c60cf36778cc77acefa98a2910ca68c94ad8b2","number":2,"#,
        r#""previous":"sha256:cbb888f27dfd53f5372d94f3d26ef25884a7f5d4e8adfb882eef7ccd40889e46","#,
        r#""at":"2026-01-31T09:00:00Z","by":"Ada","to":"Ben","bag":"4711","tool":"sealift 0.1.0","#,
        r#""volumes":{"good":"1-7,9","damaged":"8"}}"#
    );

    #[test]
    fn a_statement_reads_back_as_written() {
        let statement = Statement::parse(SECOND.as_bytes()).expect("a statement");
        assert_eq!((statement.number, statement.volumes.good.len()), (2, 8));
        assert_eq!(statement.to_bytes().expect("bytes"), SECOND.as_bytes());
    }

    #[test]
    fn only_one_byte_string_means_a_statement() {
        for (what, from, to) in [
            ("another type", "hand-over/1", "manifest/1"),
            ("type is not first", r#"{"type":"sealift/hand-over/1","#, r#"{"#),
            ("a space", ",", ", "),
            ("an unknown member", r#""by""#, r#""x":1,"by""#),
            ("a repeated member", r#""number":2,"#, r#""number":2,"number":2,"#),
            ("a null", r#""bag":"4711""#, r#""bag":null"#),
            ("an escape", "Ada", r"\u0041da"),
            ("a line break", "Ada", r"Ada\n"),
            ("nobody", "Ada", " "),
            ("number 0", r#""number":2"#, r#""number":0"#),
            ("a first one with one before", r#""number":2"#, r#""number":1"#),
            ("too high a number", r#""number":2"#, r#""number":1001"#),
            ("a volume in two states", r#""damaged":"8""#, r#""damaged":"7""#),
            ("an unknown state", "damaged", "lost"),
            ("an empty list", "\"8\"", "\"\""),
        ] {
            let bad = SECOND.replacen(from, to, 1);
            assert_ne!(bad, SECOND, "{what}");
            assert!(Statement::parse(bad.as_bytes()).is_err(), "{what}: {bad}");
        }
        for bad in [format!("{SECOND}\n"), format!(" {SECOND}"), SECOND.replace("Ada", &"A".repeat(257))] {
            assert!(Statement::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let large = vec![b'{'; usize::try_from(LIMITS.statement).expect("small") + 1];
        assert!(matches!(Statement::parse(&large), Err(StatementError::TooLarge { .. })));
    }

    #[test]
    fn the_largest_result_fits() {
        let mut statement = Statement::parse(SECOND.as_bytes()).expect("a statement");
        let half = |odd| (1..=LIMITS.volumes).filter(|n| n % 2 == odd).collect();
        (statement.volumes.good, statement.volumes.damaged) = (half(0), half(1));
        let bytes = statement.to_bytes().expect("within the limit");
        assert_eq!(Statement::parse(&bytes), Ok(statement));
    }

    #[test]
    fn volume_numbers_have_one_form() {
        for good in ["1", "9999", "1-2", "1-7,9", "3,7"] {
            assert_eq!(good.parse::<VolumeNumbers>().expect(good).to_string(), good);
        }
        for bad in [
            "",
            "0",
            "01",
            "2,1",
            "1,1",
            "1,2",
            "1-3,4",
            "1-1",
            "3-1",
            "1-",
            "-1",
            "1-3,3",
            "10000",
            "1-4294967295",
            "1 ",
        ] {
            assert!(bad.parse::<VolumeNumbers>().is_err(), "{bad}");
        }
    }
}

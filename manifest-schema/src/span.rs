//! Spans of time in configurations.

use crate::ids::Timestamp;
use crate::json::string_serde;
use crate::text::OutsideText;

/// A whole number of hours, days or weeks, such as `36h` or `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    count: u32,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Hours,
    Days,
    Weeks,
}

impl Span {
    /// So many days.
    pub const fn days(count: u32) -> Self {
        Self { count, unit: Unit::Days }
    }

    /// Its seconds.
    pub fn seconds(self) -> i64 {
        let unit = match self.unit {
            Unit::Hours => 3600,
            Unit::Days => 86_400,
            Unit::Weeks => 7 * 86_400,
        };
        i64::from(self.count) * unit
    }

    /// The time that is so much later; `None` if that is beyond the year 9999.
    pub fn after(self, time: Timestamp) -> Option<Timestamp> {
        Timestamp::from_unix(time.unix() + self.seconds())
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = match self.unit {
            Unit::Hours => 'h',
            Unit::Days => 'd',
            Unit::Weeks => 'w',
        };
        write!(f, "{}{unit}", self.count)
    }
}

/// The text is no span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a span of time: expected hours, days or weeks from 1 to 100000, such as 36h or 30d", .0.escaped())]
pub struct SpanError(OutsideText);

impl std::str::FromStr for Span {
    type Err = SpanError;
    fn from_str(text: &str) -> Result<Self, SpanError> {
        let bad = || SpanError(OutsideText::new(text));
        let unit = match text.bytes().last() {
            Some(b'h') => Unit::Hours,
            Some(b'd') => Unit::Days,
            Some(b'w') => Unit::Weeks,
            _ => return Err(bad()),
        };
        let span = Self { count: text[..text.len() - 1].parse().map_err(|_| bad())?, unit };
        if (1..=100_000).contains(&span.count) && span.to_string() == text { Ok(span) } else { Err(bad()) }
    }
}

string_serde!(Span, "Span", "^[1-9][0-9]{0,5}[hdw]$");

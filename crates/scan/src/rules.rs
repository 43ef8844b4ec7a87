//! What a site demands of an image's reports, as it stands in a configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use manifest_schema::json::unique_map;
use manifest_schema::{OutsideText, Repository, Scope, Span, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::report::{Format, Kind, Severity};

/// What reports an image must have, and how much they may find.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// What must be there: a kind (`vulnerabilities`, `policy`, `compliance`, `sbom`, `vex`, `provenance`) or a format
    /// (`trivy`, `roxctl-check`, ...). What a limit below counts must be there too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<Required>,
    /// The greatest age of reports of vulnerabilities, policy and compliance. An older one does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
    /// The most vulnerabilities of a severity or worse; those of unknown severity are counted by themselves. A
    /// vulnerability of a package is counted once, whoever reports it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "unique_map")]
    pub max: BTreeMap<Severity, u64>,
    /// Vulnerabilities for which there is no fixed version are not counted.
    #[serde(default)]
    pub only_fixed: bool,
    /// The most rules of policy and compliance of a severity or worse that are not kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "unique_map")]
    pub max_failed: BTreeMap<Severity, u64>,
    /// A rule that is not kept may enter although the program says that it must stop a release.
    #[serde(default)]
    pub ignore_enforced: bool,
    /// Whether each platform of an image must have the reports, or one of them.
    #[serde(default)]
    pub platforms: Platforms,
    /// What is let in in spite of it, until when, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<Exception>,
    /// Whose statements of exploitability (VEX) are believed beside those of `vex_files`.
    #[serde(default)]
    pub vex: Honoured,
    /// Statements of exploitability of this site's own: OpenVEX or CycloneDX files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vex_files: Vec<PathBuf>,
}

/// What must be so before an image may pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// What its reports must be.
    pub scan: Rules,
}

impl Gate {
    /// Makes its paths relative to a folder.
    pub fn make_relative_to(&mut self, base: &std::path::Path) {
        for file in &mut self.scan.vex_files {
            *file = base.join(&*file);
        }
    }
}

/// For which platforms of an image reports must be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platforms {
    /// For each.
    #[default]
    Each,
    /// For any.
    Any,
}

/// Whose statements of exploitability are believed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Honoured {
    /// Only this site's own.
    #[default]
    Own,
    /// Those that come with the image, too: whoever releases it then decides what does not count.
    Carried,
}

/// A kind of reports, or a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Required {
    /// Any report that tells of this.
    Kind(Kind),
    /// A report of this format.
    Format(Format),
}

/// The text names neither a kind nor a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is neither a kind nor a format of reports: expected one of {}", .0.escaped(), Required::words().join(", "))]
pub struct RequiredError(OutsideText);

impl Required {
    fn all() -> impl Iterator<Item = Self> {
        Kind::ALL.into_iter().map(Self::Kind).chain(Format::KNOWN.into_iter().map(Self::Format))
    }

    fn words() -> Vec<String> {
        Self::all().map(|required| required.to_string()).collect()
    }
}

impl fmt::Display for Required {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => kind.fmt(f),
            Self::Format(format) => format.fmt(f),
        }
    }
}

impl FromStr for Required {
    type Err = RequiredError;
    fn from_str(text: &str) -> Result<Self, RequiredError> {
        Self::all().find(|known| known.to_string() == text).ok_or_else(|| RequiredError(OutsideText::new(text)))
    }
}

impl Serialize for Required {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Required {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Required {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Required".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "enum": Self::words() })
    }
}

/// Something that is let in although a report names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// The vulnerability by any of its names, or the rule that is not kept.
    pub id: String,
    /// Only in this package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Only in images of these parts of the name space, at the origin or in production.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Scope>,
    /// Until when: a day (to its end, UTC) or a time. It counts no more afterwards.
    pub expires: Until,
    /// Why. It stands in the ledger.
    pub reason: Why,
}

impl Exception {
    /// Whether it is about an image that has these names.
    pub fn is_about(&self, names: &[Repository]) -> bool {
        self.images.is_empty() || self.images.iter().any(|scope| names.iter().any(|name| scope.contains(name)))
    }
}

/// A day or a time until which something counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until(Timestamp);

impl Until {
    /// Whether it is over.
    pub fn is_over(self, now: Timestamp) -> bool {
        self.0 <= now
    }
}

/// The text is neither a day nor a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is neither a day nor a time: expected the form 2027-01-31 or 2027-01-31T09:00:00Z", .0.escaped())]
pub struct UntilError(OutsideText);

impl FromStr for Until {
    type Err = UntilError;
    fn from_str(text: &str) -> Result<Self, UntilError> {
        let day = || {
            let day: jiff::civil::Date = text.parse().ok().filter(|day: &jiff::civil::Date| day.to_string() == text)?;
            let next = day.tomorrow().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
            Timestamp::from_unix(next.timestamp().as_second())
        };
        let until = text.parse().ok().or_else(day).map(Self);
        until.ok_or_else(|| UntilError(OutsideText::new(text)))
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Until {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Until {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Until {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Until".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)?$";
        schemars::json_schema!({ "type": "string", "pattern": pattern })
    }
}

/// A reason: at least one character that can be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("minLength" = 1))]
pub struct Why(OutsideText);

impl Why {
    /// The text.
    pub fn text(&self) -> &OutsideText {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Why {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        match text.trim().is_empty() {
            true => Err(serde::de::Error::custom("an exception needs a reason")),
            false => Ok(Self(OutsideText::new(text))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_required_is_a_kind_or_a_format() {
        for required in Required::all() {
            assert_eq!(required.to_string().parse(), Ok(required));
        }
        let words = Required::words();
        assert_eq!(words.iter().collect::<std::collections::BTreeSet<_>>().len(), words.len(), "no word twice");
        let error = "trivvy".parse::<Required>().expect_err("no such thing").to_string();
        assert!(
            error.starts_with("`trivvy` is neither a kind nor a format") && error.contains("cyclone-dx"),
            "{error}"
        );
        assert!("other".parse::<Required>().is_err());
    }

    #[test]
    fn an_exception_counts_to_the_end_of_its_day() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let until: Until = "2027-01-31".parse().expect("a day");
        assert!(!until.is_over(at("2027-01-31T23:59:59Z")) && until.is_over(at("2027-02-01T00:00:00Z")));
        let until: Until = "2027-01-31T09:00:00Z".parse().expect("a time");
        assert!(!until.is_over(at("2027-01-31T08:59:59Z")) && until.is_over(at("2027-01-31T09:00:00Z")));
        for bad in ["", "2027-1-31", "2027-02-30", "31.01.2027", "2027-01-31T09:00", "never"] {
            assert!(bad.parse::<Until>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rules_are_read_strictly() {
        let read = |text: &str| serde_json::from_str::<Rules>(text);
        let one = r#"{"max":{"critical":0},"exceptions":[{"id":"CVE-1","expires":"2027-01-31","reason":"r"}]}"#;
        assert_eq!(read(one).expect("rules").max, BTreeMap::from([(Severity::Critical, 0)]));
        for (flaw, with) in [(r#""reason":"r""#, r#""reason":" ""#), (r#","reason":"r""#, ""), (r#""id":"CVE-1","#, "")]
        {
            assert!(read(&one.replace(flaw, with)).is_err(), "{with}");
        }
        assert!(read(&one.replace(r#""expires":"2027-01-31","#, "")).is_err(), "every exception ends");
        assert!(read(r#"{"max":{"critical":0,"critical":9}}"#).is_err());
        assert!(read(r#"{"maximum":{"critical":0}}"#).is_err());
    }
}

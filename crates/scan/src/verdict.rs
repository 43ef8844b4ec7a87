//! What came out, with its reasons, for people, programs and the ledger.

use std::collections::BTreeSet;
use std::fmt;

use manifest_schema::{Digest, OutsideText, Reference, Timestamp};
use serde::Serialize;

use crate::report::{Counts, Format, Kind, Severity};
use crate::rules::{Required, Until};

/// Whether an image's reports are enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[must_use]
pub struct Verdict {
    /// The reports, those that did not count too.
    pub reports: Vec<ReportRow>,
    /// Vulnerabilities that counted, by severity.
    pub findings: Counts,
    /// Rules not kept that counted, by severity.
    pub failed: Counts,
    /// What was found and did not count.
    pub excused: Vec<Excused>,
    /// Why the image is refused; it is not if there is none.
    pub reasons: Vec<Reason>,
}

impl Verdict {
    /// Whether the image may pass.
    pub fn is_accepted(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// An image that is refused, with the reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// What it is called.
    pub image: Reference,
    /// The reasons.
    pub reasons: Vec<Reason>,
}

/// Images that are refused, a reason a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Refusals(pub Vec<Refusal>);

impl Refusals {
    /// Whether reports are missing, and nothing else is wrong.
    pub fn only_lacks_reports(&self) -> bool {
        self.0.iter().flat_map(|refusal| &refusal.reasons).all(|reason| matches!(reason, Reason::Missing { .. }))
    }

    /// The images of these that do not pass.
    ///
    /// # Errors
    /// The reasons.
    pub fn demand<'v>(judged: impl Iterator<Item = (&'v Reference, &'v Verdict)>) -> Result<(), Self> {
        let refused = judged.filter(|(_, verdict)| !verdict.is_accepted());
        let refused: Vec<Refusal> =
            refused.map(|(image, v)| Refusal { image: image.clone(), reasons: v.reasons.clone() }).collect();
        if refused.is_empty() { Ok(()) } else { Err(Self(refused)) }
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Refusal { image, reasons } in &self.0 {
            for reason in reasons {
                write!(f, "\n  {image}: {reason}")?;
            }
        }
        Ok(())
    }
}

/// A report of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportRow {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its file name, if it came with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<OutsideText>,
    /// What wrote it.
    pub format: Format,
    /// The program and its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<OutsideText>,
    /// What it tells of.
    pub kinds: BTreeSet<Kind>,
    /// When it was made, and who says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made: Option<Made>,
    /// The image manifests that it counts for.
    pub covers: BTreeSet<Digest>,
    /// The vulnerabilities in it.
    pub findings: Counts,
    /// The rules not kept in it.
    pub failed: Counts,
    /// Why it does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unused: Option<Unused>,
}

/// When a report was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Made {
    /// The time.
    pub at: Timestamp,
    /// Whether the report says so itself; if not, whoever attached it does.
    pub by_report: bool,
}

/// Why a report does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "because")]
pub enum Unused {
    /// It names digests, and none of them is of this image.
    OfAnother,
    /// It is attached to a part of the image of which nothing is known.
    Elsewhere,
    /// It is older than allowed.
    TooOld {
        /// The greatest age.
        limit: String,
    },
    /// It lies in the future.
    Future,
    /// There is a greatest age, and nobody says when it was made.
    Undated,
    /// It says what does not affect images, and only this site's own word counts.
    NotBelieved,
    /// It cannot be read.
    Unreadable {
        /// Why, with the line.
        why: String,
    },
}

impl fmt::Display for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfAnother => f.write_str("it names another image's digest"),
            Self::Elsewhere => f.write_str("it is attached to no image manifest"),
            Self::TooOld { limit } => write!(f, "it is older than {limit}"),
            Self::Future => f.write_str("its time is in the future"),
            Self::Undated => f.write_str("it does not say when it was made"),
            Self::NotBelieved => f.write_str("only this site's own statements do"),
            Self::Unreadable { why } => write!(f, "it cannot be read: {why}"),
        }
    }
}

/// Something that was found and did not count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Excused {
    /// The vulnerability or rule.
    pub id: OutsideText,
    /// The package, of a vulnerability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<OutsideText>,
    /// How bad it is.
    pub severity: Severity,
    /// What excuses it.
    #[serde(flatten)]
    pub by: Excuse,
}

/// What excuses something that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Excuse {
    /// An exception of the configuration.
    Exception {
        /// Its reason.
        reason: OutsideText,
        /// Until when it counts.
        expires: String,
    },
    /// A statement of exploitability.
    Vex {
        /// The digest of the report that has it; of a file of this site's own, that of the file.
        digest: Digest,
        /// Whether it is of this site's own.
        own: bool,
        /// What it says.
        #[serde(skip_serializing_if = "Option::is_none")]
        justification: Option<OutsideText>,
    },
}

impl fmt::Display for Excuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exception { reason, expires } => write!(f, "exception until {expires}: {}", reason.escaped()),
            Self::Vex { own, justification, digest } => {
                write!(f, "{} ({digest})", if *own { "VEX of this site" } else { "VEX that came with it" })?;
                justification.as_ref().map_or(Ok(()), |why| write!(f, ": {}", why.escaped()))
            }
        }
    }
}

/// Why an image is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "reason")]
pub enum Reason {
    /// A report is missing.
    Missing {
        /// What must be there.
        required: Required,
        /// For which platform; for the image if it has but one.
        #[serde(skip_serializing_if = "Option::is_none")]
        platform: Option<String>,
        /// What is there and does not count, and why.
        unused: Vec<String>,
    },
    /// Too many vulnerabilities.
    Vulnerabilities {
        /// Of this severity or worse.
        severity: Severity,
        /// So many.
        found: u64,
        /// The most that is allowed.
        allowed: u64,
        /// The first of them, the worst first.
        first: Vec<String>,
    },
    /// Too many rules that are not kept.
    Failed {
        /// Of this severity or worse.
        severity: Severity,
        /// So many.
        found: u64,
        /// The most that is allowed.
        allowed: u64,
        /// The first of them, the worst first.
        first: Vec<String>,
    },
    /// A rule is not kept that must stop a release, as the program says.
    Enforced {
        /// The first of them.
        first: Vec<String>,
        /// How many there are.
        found: u64,
    },
    /// An exception for something that was found counts no more.
    ExceptionOver {
        /// What it is for.
        id: String,
        /// Since when.
        expires: Until,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_worse = |severity: Severity| match severity {
            Severity::Critical | Severity::Unknown => "",
            _ => " or worse",
        };
        match self {
            Self::Missing { required, platform, unused } => {
                let what = match required {
                    Required::Kind(kind) => format!("no report of {kind}"),
                    Required::Format(format) => format!("no report of format {format}"),
                };
                f.write_str(&what)?;
                platform.as_ref().map_or(Ok(()), |platform| write!(f, " for {platform}"))?;
                if unused.is_empty() { Ok(()) } else { write!(f, " ({})", unused.join("; ")) }
            }
            Self::Vulnerabilities { severity, found, allowed, first } => write!(
                f,
                "{found} {} of severity {severity}{}, allowed {allowed}: {}",
                if *found == 1 { "vulnerability" } else { "vulnerabilities" },
                or_worse(*severity),
                list(first, *found)
            ),
            Self::Failed { severity, found, allowed, first } => write!(
                f,
                "{found} {} of severity {severity}{} {} not kept, allowed {allowed}: {}",
                rules(*found),
                or_worse(*severity),
                are(*found),
                list(first, *found)
            ),
            Self::Enforced { first, found } => {
                let (rules, are) = (rules(*found), are(*found));
                write!(f, "{found} {rules} {are} not kept that must stop a release: {}", list(first, *found))
            }
            Self::ExceptionOver { id, expires } => {
                write!(f, "the exception for {} counts no more since {expires}", manifest_schema::text::escape(id))
            }
        }
    }
}

fn rules(count: u64) -> &'static str {
    if count == 1 { "rule" } else { "rules" }
}

fn are(count: u64) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

fn list(first: &[String], found: u64) -> String {
    let more = found.saturating_sub(first.len() as u64);
    let list = first.join(", ");
    if more == 0 { list } else { format!("{list} and {more} more") }
}

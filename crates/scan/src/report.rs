//! What a report says, whatever program wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use manifest_schema::{Digest, LIMITS, OutsideText, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What wrote a report, or the format that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `roxctl image check --output json` (Red Hat Advanced Cluster Security, StackRox).
    RoxctlCheck,
    /// `roxctl image scan --output json`.
    RoxctlScan,
    /// `trivy image --format json`.
    Trivy,
    /// `grype --output json`.
    Grype,
    /// A vulnerability report of Clair 4, as `clairctl report --out json` prints it.
    Clair,
    /// SARIF 2.1.0 (OASIS).
    Sarif,
    /// Results of XCCDF 1.1 or 1.2, as OpenSCAP writes them.
    Xccdf,
    /// ARF 1.1, an envelope of such results.
    Arf,
    /// CycloneDX 1.x, JSON or XML: a list of contents, vulnerabilities, or statements of exploitability.
    CycloneDx,
    /// SPDX 2.x, JSON or tag-value, or 3.0 JSON.
    Spdx,
    /// OpenVEX 0.2.
    OpenVex,
    /// An in-toto statement whose predicate is none of the above (SLSA provenance, for example).
    InToto,
    /// Anything else. It is carried as it is, and says nothing here.
    Other,
}

impl Format {
    /// All of them, but [`Format::Other`].
    pub const KNOWN: [Self; 12] = [
        Self::RoxctlCheck,
        Self::RoxctlScan,
        Self::Trivy,
        Self::Grype,
        Self::Clair,
        Self::Sarif,
        Self::Xccdf,
        Self::Arf,
        Self::CycloneDx,
        Self::Spdx,
        Self::OpenVex,
        Self::InToto,
    ];

    /// The word in configurations and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoxctlCheck => "roxctl-check",
            Self::RoxctlScan => "roxctl-scan",
            Self::Trivy => "trivy",
            Self::Grype => "grype",
            Self::Clair => "clair",
            Self::Sarif => "sarif",
            Self::Xccdf => "xccdf",
            Self::Arf => "arf",
            Self::CycloneDx => "cyclone-dx",
            Self::Spdx => "spdx",
            Self::OpenVex => "open-vex",
            Self::InToto => "in-toto",
            Self::Other => "other",
        }
    }

    /// Whether its reports say of a vulnerability that there is no version without it; those of others may just not tell.
    pub fn tells_fixes(self) -> bool {
        matches!(self, Self::Trivy | Self::Grype | Self::Clair | Self::RoxctlScan)
    }

    /// The media type of such a report, where one is registered or its project names one.
    pub fn media_type(self) -> Option<&'static str> {
        Some(match self {
            Self::Sarif => "application/sarif+json",
            Self::CycloneDx => "application/vnd.cyclonedx+json",
            Self::Spdx => "application/spdx+json",
            Self::InToto => "application/vnd.in-toto+json",
            Self::OpenVex => "application/openvex+json",
            _ => return None,
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a report tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Known vulnerabilities of what the image contains.
    Vulnerabilities,
    /// Whether the image keeps an organisation's rules (roxctl).
    Policy,
    /// Whether its configuration keeps a benchmark's (OpenSCAP).
    Compliance,
    /// What the image contains.
    Sbom,
    /// Which vulnerabilities do not affect it.
    Vex,
    /// How it was built.
    Provenance,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Vulnerabilities, Self::Policy, Self::Compliance, Self::Sbom, Self::Vex, Self::Provenance];

    /// The word in configurations and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vulnerabilities => "vulnerabilities",
            Self::Policy => "policy",
            Self::Compliance => "compliance",
            Self::Sbom => "sbom",
            Self::Vex => "vex",
            Self::Provenance => "provenance",
        }
    }

    /// Whether what it tells grows old: new vulnerabilities become known, contents do not change.
    pub fn ages(self) -> bool {
        matches!(self, Self::Vulnerabilities | Self::Policy | Self::Compliance)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How bad something is. The words of the programs are mapped to these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Nobody has said yet, or in words that are not known here.
    Unknown,
    /// Also: informational.
    Negligible,
    /// Low.
    Low,
    /// Also: moderate.
    Medium,
    /// Also: important, error.
    High,
    /// Critical.
    Critical,
}

impl Severity {
    /// All of them, the worst first.
    pub const ALL: [Self; 6] = [Self::Critical, Self::High, Self::Medium, Self::Low, Self::Negligible, Self::Unknown];

    /// The word in configurations and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
            Self::Negligible => "negligible",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many there are of each severity.
pub type Counts = BTreeMap<Severity, u64>;

/// What a report says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What wrote it.
    pub format: Format,
    /// What it tells of; nothing if that is not known.
    pub kinds: BTreeSet<Kind>,
    /// The program and its version, as the report names them.
    pub tool: Option<OutsideText>,
    /// When it was made, by itself, in whole seconds.
    pub created: Option<Timestamp>,
    /// What it says it is about.
    pub about: About,
    /// Vulnerabilities.
    pub findings: Vec<Finding>,
    /// Rules that are not kept.
    pub failed: Vec<FailedCheck>,
    /// Statements of exploitability (VEX).
    pub statements: Vec<Statement>,
}

/// What a report names as its subject. Empty: it names nothing that could be compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Digests of an index, an image manifest or an image configuration (which some programs call the image's id).
    pub digests: BTreeSet<Digest>,
    /// Names as they stand in the report.
    pub names: BTreeSet<OutsideText>,
}

/// A vulnerability of something that the image contains.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// `CVE-2021-44228`, or the name that a distribution or language gives it.
    pub id: OutsideText,
    /// Other names of the same.
    pub aliases: BTreeSet<OutsideText>,
    /// What has it.
    pub package: OutsideText,
    /// Its version.
    pub version: Option<OutsideText>,
    /// The package URL, if the report has one.
    pub purl: Option<OutsideText>,
    /// The first version without it.
    pub fixed: Option<OutsideText>,
    /// How bad it is.
    pub severity: Severity,
}

/// A rule that is not kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FailedCheck {
    /// The rule's name or id.
    pub name: OutsideText,
    /// How bad that is.
    pub severity: Severity,
    /// Whether the program itself says that this must stop a release (`failingCheck` of roxctl).
    pub enforced: bool,
}

/// What somebody says of a vulnerability of a product (VEX).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The vulnerability, by all its names.
    pub vulnerability: BTreeSet<OutsideText>,
    /// What it is said of; never empty.
    pub products: Vec<Product>,
    /// What is said.
    pub status: Status,
    /// Why (`vulnerable_code_not_present`), or what was written about it.
    pub justification: Option<OutsideText>,
    /// When it was said, if that is told.
    pub at: Option<Timestamp>,
}

/// A product of a statement, with the parts of it that are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Digests by which it is an image.
    pub digests: BTreeSet<Digest>,
    /// Package URLs, and other ids.
    pub ids: BTreeSet<OutsideText>,
    /// Package URLs or ids of the parts; all of the product if empty.
    pub parts: BTreeSet<OutsideText>,
}

/// What is said of a vulnerability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It does nothing to the product.
    NotAffected,
    /// It does.
    Affected,
    /// It did.
    Fixed,
    /// Nobody knows yet.
    UnderInvestigation,
}

/// Why a report cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is JSON or XML, but broken, or a member of a known format is not what the format says.
    #[error("line {line}, column {column}: {}", what.escaped())]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// The column, from 1; 0 if it is not known.
        column: usize,
        /// What is wrong there.
        what: OutsideText,
    },
    /// A member of a known format is missing, or says what it must not.
    #[error("it is a report of {format}, but {}", what.escaped())]
    Wrong {
        /// The format.
        format: Format,
        /// What is wrong.
        what: OutsideText,
    },
    /// More findings, checks and statements than are looked at.
    #[error("it has more than {limit} findings")]
    TooMany {
        /// How many are accepted.
        limit: usize,
    },
}

/// Whether a blob that is attached to an image may hold a report, by its media type and its size in bytes. What is large must
/// say that it is text.
pub fn may_be_report(media_type: &str, size: u64) -> bool {
    const TEXT: [&str; 6] = ["json", "xml", "text/", "spdx", "cyclonedx", "sealift.report"];
    const NEVER: [&str; 5] = [
        "application/vnd.dev.cosign.simplesigning.",
        "application/vnd.oci.image.layer.",
        "application/vnd.docker.image.rootfs.",
        "application/vnd.oci.empty.",
        "application/jose+json",
    ];
    let is_text = || TEXT.iter().any(|part| media_type.contains(part));
    (size <= LIMITS.document || (size <= LIMITS.report && is_text()))
        && !NEVER.iter().any(|prefix| media_type.starts_with(prefix))
}

impl ReadError {
    /// The format of what could not be read, as far as that is known.
    pub fn format(&self) -> Format {
        match self {
            Self::Wrong { format, .. } => *format,
            Self::Malformed { .. } | Self::TooMany { .. } => Format::Other,
        }
    }
}

impl Report {
    /// A report of which nothing is known yet.
    pub(crate) fn new(format: Format, kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self {
            format,
            kinds: kinds.into_iter().collect(),
            tool: None,
            created: None,
            about: About::default(),
            findings: Vec::new(),
            failed: Vec::new(),
            statements: Vec::new(),
        }
    }

    /// Reads a report. What it is follows from its content alone; what is not recognised is [`Format::Other`].
    ///
    /// # Errors
    /// [`ReadError`]: what begins like JSON or XML and is broken, or is a known format and contradicts it. A report that
    /// was cut off must not pass for one that found nothing.
    pub fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        crate::formats::read(bytes)
    }

    /// How many vulnerabilities there are of each severity, each of a package counted once.
    pub fn counts(&self) -> Counts {
        let mut worst: BTreeMap<(&OutsideText, &OutsideText), Severity> = BTreeMap::new();
        for finding in &self.findings {
            let severity = worst.entry((finding.name(), &finding.package)).or_insert(finding.severity);
            *severity = (*severity).max(finding.severity);
        }
        let mut counts = Counts::new();
        for severity in worst.into_values() {
            *counts.entry(severity).or_default() += 1;
        }
        counts
    }

    /// How many rules are not kept, by severity.
    pub fn failed_counts(&self) -> Counts {
        let mut counts = Counts::new();
        for failed in &self.failed {
            *counts.entry(failed.severity).or_default() += 1;
        }
        counts
    }
}

impl Finding {
    /// Its name of all names by which it is counted: that of CVE, if it has one.
    pub fn name(&self) -> &OutsideText {
        let is_cve = |name: &&OutsideText| name.raw().starts_with("CVE-");
        std::iter::once(&self.id).chain(&self.aliases).find(is_cve).unwrap_or(&self.id)
    }

    /// All its names.
    pub fn names(&self) -> impl Iterator<Item = &OutsideText> {
        std::iter::once(&self.id).chain(&self.aliases)
    }
}

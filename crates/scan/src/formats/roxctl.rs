//! `roxctl image check` and `roxctl image scan` with `--output json` (Red Hat Advanced Cluster Security, StackRox):
//! `pkg/printers`' policy summary and `roxctl/image/scan/cve.go`.
//!
//! Both leave out empty lists, but count what they list in `summary`; the two are compared. The older `--format json`,
//! which prints Central's own objects, is not read.

use std::collections::BTreeSet;

use manifest_schema::OutsideText;
use serde::Deserialize;

use super::gathered::Gathered;
use super::json::{self, Object, Objects};
use super::{some, tool, wrong};
use crate::report::{FailedCheck, Finding, Format, Kind, ReadError, Report, Severity};

#[derive(Deserialize)]
struct Check {
    results: Option<Objects<Entity>>,
    summary: Object<Total>,
}

#[derive(Deserialize)]
struct Total {
    #[serde(rename = "TOTAL")]
    total: usize,
}

#[derive(Deserialize)]
struct Entity {
    metadata: Object<Metadata>,
    summary: Object<Total>,
    #[serde(rename = "violatedPolicies")]
    violated: Option<Objects<Policy>>,
}

#[derive(Deserialize)]
struct Metadata {
    id: String,
    #[serde(rename = "additionalInfo")]
    info: Option<Object<Info>>,
}

#[derive(Deserialize)]
struct Info {
    name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Policy {
    name: String,
    severity: String,
    #[serde(rename = "failingCheck")]
    failing: bool,
}

#[derive(Deserialize)]
struct Scan {
    result: Object<Scanned>,
}

#[derive(Deserialize)]
struct Scanned {
    summary: Object<TotalVulnerabilities>,
    vulnerabilities: Option<Objects<Vulnerability>>,
}

#[derive(Deserialize)]
struct TotalVulnerabilities {
    #[serde(rename = "TOTAL-VULNERABILITIES")]
    total: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vulnerability {
    cve_id: String,
    cve_severity: String,
    component_name: String,
    component_version: Option<String>,
    component_fixed_version: Option<String>,
}

/// Reads the report of a check.
pub(crate) fn read_check(text: &str) -> Result<Report, ReadError> {
    let check: Check = json::parse(text)?;
    let mut report = Gathered::new(Format::RoxctlCheck, [Kind::Policy]);
    report.tool = tool("roxctl", None);
    for entity in json::all(check.results) {
        let before = report.failed.len();
        let Object(metadata) = entity.metadata;
        let (name, kind) = metadata.info.map_or((None, None), |info| (info.0.name, info.0.kind));
        // `roxctl deployment check` prints the same of deployments.
        if kind.is_some_and(|kind| kind != "image") {
            report.kinds.clear();
        }
        for name in [Some(metadata.id), name].into_iter().flatten().filter(|name| name != "unknown") {
            report.about.name(name);
        }
        for policy in json::all(entity.violated) {
            report.fail(FailedCheck {
                name: OutsideText::new(policy.name),
                severity: Severity::from_word(&policy.severity),
                enforced: policy.failing,
            })?;
        }
        counted(Format::RoxctlCheck, entity.summary.0.total, report.failed.len() - before)?;
    }
    counted(Format::RoxctlCheck, check.summary.0.total, report.failed.len())?;
    Ok(report.report())
}

/// Reads the report of a scan.
pub(crate) fn read_scan(text: &str) -> Result<Report, ReadError> {
    let Object(scanned) = json::parse::<Scan>(text)?.result;
    let mut report = Gathered::new(Format::RoxctlScan, [Kind::Vulnerabilities]);
    report.tool = tool("roxctl", None);
    for vulnerability in json::all(scanned.vulnerabilities) {
        report.find(Finding {
            id: OutsideText::new(vulnerability.cve_id),
            aliases: BTreeSet::new(),
            package: OutsideText::new(vulnerability.component_name),
            version: some(vulnerability.component_version),
            purl: None,
            fixed: some(vulnerability.component_fixed_version),
            severity: Severity::from_word(&vulnerability.cve_severity),
        })?;
    }
    // Versions of roxctl differ in whether they count a vulnerability of two components once or twice.
    let distinct: BTreeSet<_> = report.findings.iter().map(|finding| &finding.id).collect();
    if scanned.summary.0.total != distinct.len() {
        counted(Format::RoxctlScan, scanned.summary.0.total, report.findings.len())?;
    }
    Ok(report.report())
}

fn counted(format: Format, total: usize, listed: usize) -> Result<(), ReadError> {
    if total == listed {
        return Ok(());
    }
    Err(wrong(format, format!("its summary counts {total} and {listed} are listed")))
}

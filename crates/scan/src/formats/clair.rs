//! A vulnerability report of Clair 4: claircore's `VulnerabilityReport`, as the matcher answers and `clairctl report --out
//! json` prints it.
//!
//! The indexer's own report is about the same manifest but says nothing of vulnerabilities. It has no kind, and is refused
//! if indexing failed.

use std::collections::{BTreeSet, HashSet};

use manifest_schema::{Digest, OutsideText};
use serde::Deserialize;

use super::gathered::Gathered;
use super::json::{self, List, Map, Object, Seen};
use super::{some, tool, wrong};
use crate::report::{Finding, Format, Kind, ReadError, Report, Severity};

#[derive(Deserialize)]
struct Index {
    manifest_hash: Digest,
    state: Option<String>,
    success: Option<bool>,
    #[serde(default)]
    err: String,
    #[serde(default)]
    vulnerabilities: Seen,
    #[serde(default)]
    package_vulnerabilities: Seen,
}

#[derive(Deserialize)]
struct Document {
    packages: Map<Object<Package>>,
    vulnerabilities: Map<Object<Vulnerability>>,
    package_vulnerabilities: Map<List<String>>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: Option<String>,
}

#[derive(Deserialize)]
struct Vulnerability {
    name: String,
    #[serde(default)]
    normalized_severity: String,
    fixed_in_version: Option<String>,
    package: Option<Object<Package>>,
}

/// Reads a report.
pub(crate) fn read(text: &str) -> Result<Report, ReadError> {
    let index: Index = json::parse(text)?;
    if index.success == Some(false) || index.state.as_deref() == Some("IndexError") || !index.err.is_empty() {
        return Err(wrong(Format::Clair, "indexing failed"));
    }
    let mut report = Gathered::new(Format::Clair, []);
    report.tool = tool("clair", None);
    report.about.digests.insert(index.manifest_hash);
    let has_vulnerabilities = index.vulnerabilities.0 || index.package_vulnerabilities.0;
    if !has_vulnerabilities && (index.success.is_some() || index.state.is_some()) {
        return Ok(report.report());
    }
    report.kinds.insert(Kind::Vulnerabilities);
    let document: Document = json::parse(text)?;
    let mut used = HashSet::new();
    for (package, vulnerabilities) in &document.package_vulnerabilities.0 {
        let Some(Object(package)) = document.packages.0.get(package) else {
            return Err(wrong(Format::Clair, format!("its package `{package}` is not listed")));
        };
        for id in &vulnerabilities.0 {
            let Some(Object(vulnerability)) = document.vulnerabilities.0.get(id) else {
                return Err(wrong(Format::Clair, format!("its vulnerability `{id}` is not listed")));
            };
            used.insert(id);
            report.find(finding(vulnerability, Some(package)))?;
        }
    }
    for (id, Object(vulnerability)) in &document.vulnerabilities.0 {
        if !used.contains(id) {
            report.find(finding(vulnerability, vulnerability.package.as_ref().map(|package| &package.0)))?;
        }
    }
    Ok(report.report())
}

/// Names of Red Hat's advisories have their title after a colon.
fn finding(vulnerability: &Vulnerability, package: Option<&Package>) -> Finding {
    let name = vulnerability.name.split_once(": ").map_or(vulnerability.name.as_str(), |(id, _)| id);
    Finding {
        id: OutsideText::new(name),
        aliases: BTreeSet::new(),
        package: package.map(|package| OutsideText::new(package.name.as_str())).unwrap_or_default(),
        version: some(package.and_then(|package| package.version.clone())),
        purl: None,
        fixed: some(vulnerability.fixed_in_version.clone()),
        severity: Severity::from_word(&vulnerability.normalized_severity),
    }
}

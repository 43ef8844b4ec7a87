//! `trivy image --format json`: the `Report` of Trivy's `pkg/types/report.go`, schema version 2.
//!
//! Trivy leaves out what is empty. A result without `Vulnerabilities` has none; a report without results of packages says
//! nothing of vulnerabilities, for it may be that of a scan for secrets alone or of an image in which nothing was
//! recognised (`--list-all-pkgs` has results for whatever was).

use std::collections::BTreeSet;

use serde::Deserialize;

use super::gathered::Gathered;
use super::json::{self, List, Object, Objects, Time};
use super::{some, tool, wrong};
use crate::report::{Finding, Format, Kind, ReadError, Report, Severity};
use manifest_schema::OutsideText;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    schema_version: u64,
    #[serde(default)]
    created_at: Time,
    artifact_name: Option<String>,
    artifact_type: Option<String>,
    trivy: Option<Object<Program>>,
    metadata: Option<Object<Metadata>>,
    results: Option<Objects<Target>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Program {
    version: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "ImageID")]
    image_id: Option<String>,
    #[serde(rename = "RepoTags")]
    repo_tags: Option<List<String>>,
    #[serde(rename = "RepoDigests")]
    repo_digests: Option<List<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Target {
    class: Option<String>,
    vulnerabilities: Option<Objects<Vulnerability>>,
}

#[derive(Deserialize)]
struct Vulnerability {
    #[serde(rename = "VulnerabilityID")]
    id: String,
    #[serde(rename = "PkgName")]
    package: String,
    #[serde(rename = "InstalledVersion")]
    version: Option<String>,
    #[serde(rename = "FixedVersion")]
    fixed: Option<String>,
    #[serde(rename = "PkgIdentifier")]
    identifier: Option<Object<Identifier>>,
    #[serde(rename = "Severity")]
    severity: Option<String>,
}

#[derive(Deserialize)]
struct Identifier {
    #[serde(rename = "PURL")]
    purl: Option<String>,
}

/// Reads a report.
pub(crate) fn read(text: &str) -> Result<Report, ReadError> {
    let document: Document = json::parse(text)?;
    if document.schema_version != 2 {
        return Err(wrong(Format::Trivy, "its SchemaVersion is not 2"));
    }
    let mut report = Gathered::new(Format::Trivy, []);
    report.tool = tool("trivy", document.trivy.and_then(|program| program.0.version).as_deref());
    report.created = document.created_at.0;
    if let Some(name) = document.artifact_name {
        report.about.name(name);
    }
    if let Some(Object(metadata)) = document.metadata {
        if let Some(id) = metadata.image_id.filter(|id| !id.is_empty()) {
            report.about.digest(Format::Trivy, &id)?;
        }
        for tag in metadata.repo_tags.unwrap_or_default().0 {
            report.about.name(tag);
        }
        for digest in metadata.repo_digests.unwrap_or_default().0 {
            report.about.repo_digest(Format::Trivy, digest)?;
        }
    }
    let mut has_packages = false;
    for target in json::all(document.results) {
        has_packages |=
            matches!(target.class.as_deref(), Some("os-pkgs" | "lang-pkgs")) || target.vulnerabilities.is_some();
        for vulnerability in json::all(target.vulnerabilities) {
            report.find(finding(vulnerability))?;
        }
    }
    // A list of contents may be that of an image; files, repositories and machines are none.
    let is_image = matches!(document.artifact_type.as_deref(), Some("container_image" | "cyclonedx" | "spdx"));
    if is_image && has_packages {
        report.kinds.insert(Kind::Vulnerabilities);
    }
    Ok(report.report())
}

fn finding(vulnerability: Vulnerability) -> Finding {
    Finding {
        id: OutsideText::new(vulnerability.id),
        aliases: BTreeSet::new(),
        package: OutsideText::new(vulnerability.package),
        version: some(vulnerability.version),
        purl: some(vulnerability.identifier.and_then(|identifier| identifier.0.purl)),
        fixed: some(vulnerability.fixed),
        severity: Severity::from_word(&vulnerability.severity.unwrap_or_default()),
    }
}

//! `grype --output json`: the `Document` of Grype's `grype/presenter/models`.
//!
//! `ignoredMatches` are what Grype was told not to count, or knows to be none, and are no findings.

use manifest_schema::OutsideText;
use serde::Deserialize;

use super::gathered::Gathered;
use super::json::{self, List, Object, Objects, TextOr, Time};
use super::{some, tool, wrong};
use crate::report::{About, Finding, Format, Kind, ReadError, Report, Severity};

#[derive(Deserialize)]
struct Document {
    matches: Objects<Match>,
    source: Option<Object<Source>>,
    descriptor: Object<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    name: String,
    version: Option<String>,
    #[serde(default)]
    timestamp: Time,
}

#[derive(Deserialize)]
struct Source {
    #[serde(rename = "type")]
    kind: String,
    /// An image, or the path of anything else.
    target: Option<TextOr<Image>>,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "userInput")]
    user_input: Option<String>,
    #[serde(rename = "imageID")]
    image_id: Option<String>,
    #[serde(rename = "manifestDigest")]
    manifest_digest: Option<String>,
    tags: Option<List<String>>,
    #[serde(rename = "repoDigests")]
    repo_digests: Option<List<String>>,
}

#[derive(Deserialize)]
struct Match {
    vulnerability: Object<Vulnerability>,
    #[serde(rename = "relatedVulnerabilities")]
    related: Option<Objects<Related>>,
    artifact: Object<Artifact>,
}

#[derive(Deserialize)]
struct Vulnerability {
    id: String,
    severity: Option<String>,
    cvss: Option<Objects<Cvss>>,
    fix: Option<Object<Fix>>,
}

#[derive(Deserialize)]
struct Cvss {
    metrics: Object<Metrics>,
}

#[derive(Deserialize)]
struct Metrics {
    #[serde(rename = "baseScore")]
    base_score: f64,
}

#[derive(Deserialize)]
struct Fix {
    versions: Option<List<String>>,
}

#[derive(Deserialize)]
struct Related {
    id: String,
}

#[derive(Deserialize)]
struct Artifact {
    name: String,
    version: Option<String>,
    purl: Option<String>,
}

/// Reads a report.
pub(crate) fn read(text: &str) -> Result<Report, ReadError> {
    let document: Document = json::parse(text)?;
    let Object(descriptor) = document.descriptor;
    if descriptor.name != "grype" {
        return Err(wrong(Format::Grype, "its descriptor does not name Grype"));
    }
    let mut report = Gathered::new(Format::Grype, []);
    report.tool = tool("grype", descriptor.version.as_deref());
    report.created = descriptor.timestamp.0;
    if let Some(Object(source)) = document.source {
        // A list of contents may be that of an image; folders, files and single packages are none.
        if matches!(source.kind.as_str(), "image" | "sbom-file") {
            report.kinds.insert(Kind::Vulnerabilities);
        }
        match source.target {
            Some(TextOr::Object(image)) => name_image(&mut report.about, image)?,
            Some(TextOr::Text(path)) => report.about.name(path),
            None => {}
        }
    }
    for Object(found) in document.matches.0 {
        add(&mut report, found)?;
    }
    Ok(report.report())
}

fn name_image(about: &mut About, image: Image) -> Result<(), ReadError> {
    for digest in [image.image_id, image.manifest_digest].into_iter().flatten().filter(|text| !text.is_empty()) {
        about.digest(Format::Grype, &digest)?;
    }
    for name in image.user_input.into_iter().chain(image.tags.unwrap_or_default().0) {
        about.name(name);
    }
    for digest in image.repo_digests.unwrap_or_default().0 {
        about.repo_digest(Format::Grype, digest)?;
    }
    Ok(())
}

fn add(report: &mut Gathered, found: Match) -> Result<(), ReadError> {
    let Object(vulnerability) = found.vulnerability;
    let Object(artifact) = found.artifact;
    let scores = json::all(vulnerability.cvss).map(|cvss| cvss.metrics.0.base_score);
    let severity = Severity::from_word_or_scores(&vulnerability.severity.unwrap_or_default(), scores);
    let fixed = vulnerability.fix.and_then(|fix| fix.0.versions.unwrap_or_default().0.into_iter().next());
    report.find(Finding {
        id: OutsideText::new(vulnerability.id),
        aliases: json::all(found.related).map(|related| OutsideText::new(related.id)).collect(),
        package: OutsideText::new(artifact.name),
        version: some(artifact.version),
        purl: some(artifact.purl),
        fixed: some(fixed),
        severity,
    })
}

//! CycloneDX 1.x (ECMA-424), JSON and XML: what both forms are made into, and what that says.
//!
//! A document can be three things at once. It is a list of contents if it lists a component. If one of its vulnerabilities
//! has no analysis it is a report of vulnerabilities, and all of them are findings; if all have one, it is statements of
//! exploitability alone. Without any it is no report that found none: nobody says that one was looked for.

mod json;
mod xml;

use std::collections::{BTreeMap, BTreeSet};

use manifest_schema::{Digest, OutsideText, Timestamp};

pub(crate) use self::json::read as read_json;
pub(crate) use self::xml::{is_bom, read as read_xml};
use super::about::digest_of_name;
use super::gathered::Gathered;
use super::{some, tool, wrong};
use crate::report::{About, Finding, Format, Kind, Product, ReadError, Report, Severity, Statement, Status};

/// A document, in either form.
#[derive(Default)]
struct Bom {
    spec_version: String,
    /// `urn:uuid:` and the identifier of the document.
    serial: Option<String>,
    created: Option<Timestamp>,
    /// The name and version of the first program.
    tool: Option<(String, Option<String>)>,
    subject: Option<Component>,
    has_components: bool,
    /// All of them, those inside of others as well; they may be left out of a document without vulnerabilities.
    components: Vec<Component>,
    vulnerabilities: Vec<Vulnerability>,
}

#[derive(Default)]
struct Component {
    kind: String,
    reference: Option<String>,
    name: String,
    version: Option<String>,
    purl: Option<String>,
    /// Algorithm and hexadecimal.
    hashes: Vec<(String, String)>,
    properties: Vec<(String, String)>,
}

#[derive(Default)]
struct Vulnerability {
    id: String,
    /// Ids of the same in other databases.
    references: Vec<String>,
    ratings: Vec<Rating>,
    affects: Vec<Affected>,
    analysis: Analysis,
}

#[derive(Default)]
struct Rating {
    severity: Option<String>,
    score: Option<f64>,
    method: Option<String>,
}

#[derive(Default)]
struct Affected {
    reference: String,
    /// Versions and whether each is affected.
    versions: Vec<(Option<String>, Option<String>)>,
}

#[derive(Default)]
struct Analysis {
    state: Option<String>,
    justification: Option<String>,
    detail: Option<String>,
    at: Option<Timestamp>,
}

impl Bom {
    /// The `bom-ref` that a reference means if it is one of this document: itself, or in a BOM-Link
    /// `urn:cdx:serial/version#bom-ref`.
    fn own<'a>(&self, reference: &'a str) -> Option<&'a str> {
        let Some(link) = reference.strip_prefix("urn:cdx:") else {
            return Some(reference);
        };
        let serial = self.serial.as_deref()?.strip_prefix("urn:uuid:")?;
        Some(link.strip_prefix(serial)?.strip_prefix('/')?.split_once('#')?.1)
    }

    fn report(self) -> Result<Report, ReadError> {
        if !self.spec_version.starts_with("1.") {
            return Err(wrong(Format::CycloneDx, "its version is not 1"));
        }
        let mut report = Gathered::new(Format::CycloneDx, self.has_components.then_some(Kind::Sbom));
        report.created = self.created;
        report.tool = self.tool.as_ref().and_then(|(name, version)| tool(name, version.as_deref()));
        if let Some(subject) = &self.subject {
            subject.name_in(&mut report.about)?;
        }
        let is_open = |vulnerability: &Vulnerability| vulnerability.analysis.state.is_none();
        let has_findings = self.vulnerabilities.iter().any(is_open);
        if has_findings {
            report.kinds.insert(Kind::Vulnerabilities);
        }
        let known = self.components.iter().chain(&self.subject);
        let known: BTreeMap<&str, &Component> = known.filter_map(|c| Some((c.reference.as_deref()?, c))).collect();
        let whole = self.subject.as_ref().map(Component::product).transpose()?;
        for vulnerability in &self.vulnerabilities {
            if vulnerability.id.is_empty() {
                return Err(wrong(Format::CycloneDx, "one of its vulnerabilities has no id"));
            }
            if has_findings {
                self.find(&mut report, vulnerability, &known)?;
            }
            if let Some(state) = &vulnerability.analysis.state {
                report.kinds.insert(Kind::Vex);
                let statement = self.statement(vulnerability, status(state)?, whole.clone(), &known)?;
                report.state(statement)?;
            }
        }
        Ok(report.report())
    }

    fn find(
        &self,
        report: &mut Gathered,
        vulnerability: &Vulnerability,
        known: &BTreeMap<&str, &Component>,
    ) -> Result<(), ReadError> {
        let finding = Finding {
            id: OutsideText::new(vulnerability.id.as_str()),
            aliases: vulnerability.references.iter().map(OutsideText::new).collect(),
            package: self.subject.as_ref().map(|subject| OutsideText::new(subject.name.as_str())).unwrap_or_default(),
            version: None,
            purl: None,
            fixed: None,
            severity: vulnerability.severity(),
        };
        if vulnerability.affects.is_empty() {
            return report.find(finding);
        }
        for affected in &vulnerability.affects {
            let component = self.own(&affected.reference).and_then(|own| known.get(own));
            let mut one = finding.clone();
            match component {
                Some(component) => {
                    one.package = OutsideText::new(component.name.as_str());
                    one.version = some(component.version.clone());
                    one.purl = some(component.purl.clone());
                }
                None => one.package = OutsideText::new(affected.reference.as_str()),
            }
            let mut fixed = affected.versions.iter().filter(|(_, status)| status.as_deref() == Some("unaffected"));
            one.fixed = some(fixed.find_map(|(version, _)| version.clone()));
            report.find(one)?;
        }
        Ok(())
    }

    /// What is affected is a part of what the document is about, or that itself. A document that does not say what it is
    /// about is about what is affected.
    fn statement(
        &self,
        vulnerability: &Vulnerability,
        status: Status,
        mut whole: Option<Product>,
        known: &BTreeMap<&str, &Component>,
    ) -> Result<Statement, ReadError> {
        let mut products = Vec::new();
        let mut is_of_whole = vulnerability.affects.is_empty();
        let subject = self.subject.as_ref().and_then(|subject| subject.reference.as_deref());
        for affected in &vulnerability.affects {
            let own = self.own(&affected.reference);
            let component = own.and_then(|own| known.get(own));
            let name =
                component.and_then(|component| component.purl.as_deref()).unwrap_or(outside_name(&affected.reference));
            let is_whole = subject.is_some() && own == subject;
            match &mut whole {
                Some(_) if is_whole => is_of_whole = true,
                Some(whole) => drop(whole.parts.insert(OutsideText::new(name))),
                None => products.push(match component {
                    Some(component) => component.product()?,
                    None => Product {
                        digests: digest_of_name(name).into_iter().collect(),
                        ids: [OutsideText::new(name)].into(),
                        parts: BTreeSet::new(),
                    },
                }),
            }
        }
        products.extend(whole.map(|whole| match is_of_whole {
            true => Product { parts: BTreeSet::new(), ..whole },
            false => whole,
        }));
        if products.is_empty() {
            return Err(wrong(Format::CycloneDx, format!("its analysis of {} is of no component", vulnerability.id)));
        }
        let analysis = &vulnerability.analysis;
        Ok(Statement {
            vulnerability: vulnerability.references.iter().chain([&vulnerability.id]).map(OutsideText::new).collect(),
            products,
            status,
            justification: some(analysis.justification.clone()).or_else(|| some(analysis.detail.clone())),
            at: analysis.at.or(self.created),
        })
    }
}

/// States of an impact analysis (`impactAnalysisState`).
fn status(state: &str) -> Result<Status, ReadError> {
    Ok(match state {
        "not_affected" | "false_positive" => Status::NotAffected,
        "resolved" | "resolved_with_pedigree" => Status::Fixed,
        "exploitable" => Status::Affected,
        "in_triage" => Status::UnderInvestigation,
        _ => return Err(wrong(Format::CycloneDx, format!("`{state}` is no state of an analysis"))),
    })
}

/// What a reference that leads out of the document says of the component: many tools make a `bom-ref` of its package URL.
fn outside_name(reference: &str) -> &str {
    match reference.split_once('#') {
        Some((link, part)) if link.starts_with("urn:cdx:") && part.starts_with("pkg:") => part,
        _ => reference,
    }
}

impl Vulnerability {
    /// The worst of all ratings. Scores of other methods than CVSS are of other scales: Grype lists that of EPSS.
    fn severity(&self) -> Severity {
        let of_rating = |rating: &Rating| {
            let is_cvss = rating.method.as_deref().is_some_and(|method| method.starts_with("CVSS"));
            let score = rating.score.filter(|_| is_cvss);
            Severity::from_word_or_scores(rating.severity.as_deref().unwrap_or_default(), score)
        };
        self.ratings.iter().map(of_rating).max().unwrap_or(Severity::Unknown)
    }
}

impl Component {
    /// Names and digests: by the package URL, by a version that is a digest (Syft), by the hash of a container, and by the
    /// properties that Trivy has registered.
    fn name_in(&self, about: &mut About) -> Result<(), ReadError> {
        about.name(self.name.as_str());
        about.digests.extend(self.version.as_deref().and_then(|version| version.parse::<Digest>().ok()));
        if let Some(purl) = &self.purl {
            about.name(purl.as_str());
        }
        if self.kind == "container" {
            for (algorithm, hex) in &self.hashes {
                let algorithm = match algorithm.as_str() {
                    "SHA-256" => "sha256",
                    "SHA-512" => "sha512",
                    _ => continue,
                };
                about.digest(Format::CycloneDx, &format!("{algorithm}:{}", hex.to_ascii_lowercase()))?;
            }
        }
        for (name, value) in &self.properties {
            match name.as_str() {
                "aquasecurity:trivy:ImageID" => about.digest(Format::CycloneDx, value)?,
                "aquasecurity:trivy:RepoDigest" => about.repo_digest(Format::CycloneDx, value.clone())?,
                "aquasecurity:trivy:RepoTag" => about.name(value.as_str()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Itself as the product of a statement. A `bom-ref` means something in its own document alone.
    fn product(&self) -> Result<Product, ReadError> {
        let mut about = About::default();
        self.name_in(&mut about)?;
        let ids = self.purl.as_ref().map(|purl| [OutsideText::new(purl.as_str())].into()).unwrap_or(about.names);
        Ok(Product { digests: about.digests, ids, parts: BTreeSet::new() })
    }
}

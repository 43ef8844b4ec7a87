//! OpenVEX 0.2 (`OPENVEX-SPEC.md`), and the versions before it, which named vulnerabilities and products by texts alone.
//!
//! A document of which one statement is invalid is refused as a whole.

use std::collections::BTreeSet;

use manifest_schema::{Digest, OutsideText, Timestamp};
use serde::Deserialize;

use super::about::digest_of_name;
use super::gathered::Gathered;
use super::json::{self, List, Object, Objects, TextOr, Time};
use super::{LIMIT, some, wrong};
use crate::report::{Format, Kind, Product, ReadError, Report, Statement, Status};

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "@id")]
    _id: String,
    #[serde(rename = "author")]
    _author: String,
    #[serde(default)]
    timestamp: Time,
    tooling: Option<String>,
    statements: Objects<Said>,
}

#[derive(Deserialize)]
struct Said {
    vulnerability: TextOr<Vulnerability>,
    products: Option<List<TextOr<Component>>>,
    /// Of the versions before 0.2; since then they are those of a product.
    subcomponents: Option<List<TextOr<Component>>>,
    status: Status,
    justification: Option<Justification>,
    impact_statement: Option<String>,
    #[serde(default)]
    timestamp: Time,
}

#[derive(Deserialize)]
struct Vulnerability {
    name: String,
    aliases: Option<List<String>>,
}

#[derive(Deserialize)]
struct Component {
    #[serde(rename = "@id")]
    id: Option<String>,
    identifiers: Option<Object<Identifiers>>,
    hashes: Option<Object<Hashes>>,
    subcomponents: Option<List<TextOr<Component>>>,
}

#[derive(Deserialize)]
struct Identifiers {
    purl: Option<String>,
    #[serde(alias = "@cpe22")]
    cpe22: Option<String>,
    #[serde(alias = "@cpe23")]
    cpe23: Option<String>,
}

#[derive(Deserialize)]
struct Hashes {
    #[serde(rename = "sha-256")]
    sha256: Option<String>,
    #[serde(rename = "sha-512")]
    sha512: Option<String>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Justification {
    ComponentNotPresent,
    VulnerableCodeNotPresent,
    VulnerableCodeNotInExecutePath,
    VulnerableCodeCannotBeControlledByAdversary,
    InlineMitigationsAlreadyExist,
}

impl Justification {
    fn as_str(self) -> &'static str {
        match self {
            Self::ComponentNotPresent => "component_not_present",
            Self::VulnerableCodeNotPresent => "vulnerable_code_not_present",
            Self::VulnerableCodeNotInExecutePath => "vulnerable_code_not_in_execute_path",
            Self::VulnerableCodeCannotBeControlledByAdversary => "vulnerable_code_cannot_be_controlled_by_adversary",
            Self::InlineMitigationsAlreadyExist => "inline_mitigations_already_exist",
        }
    }
}

/// Reads a document.
pub(crate) fn read(text: &str) -> Result<Report, ReadError> {
    read_about(text, &[])
}

/// Reads a document whose statements are about `subjects` if they name no product ("Inheritance Flow").
pub(crate) fn read_about(text: &str, subjects: &[Product]) -> Result<Report, ReadError> {
    let document: Document = json::parse(text)?;
    let mut report = Gathered::new(Format::OpenVex, [Kind::Vex]);
    report.tool = some(document.tooling);
    report.created = document.timestamp.0;
    if document.statements.0.is_empty() {
        return Err(wrong(Format::OpenVex, "it has no statement"));
    }
    for Object(said) in document.statements.0 {
        report.state(statement(said, document.timestamp.0, subjects)?)?;
    }
    Ok(report.report())
}

fn statement(said: Said, issued: Option<Timestamp>, subjects: &[Product]) -> Result<Statement, ReadError> {
    let vulnerability: BTreeSet<OutsideText> = match said.vulnerability {
        TextOr::Text(name) => [OutsideText::new(name)].into(),
        TextOr::Object(vulnerability) => {
            let aliases = vulnerability.aliases.unwrap_or_default().0;
            aliases.into_iter().chain([vulnerability.name]).map(OutsideText::new).collect()
        }
    };
    if vulnerability.contains(&OutsideText::default()) {
        return Err(wrong(Format::OpenVex, "one of its vulnerabilities has an empty name"));
    }
    let justification = said.justification.map(|justification| OutsideText::new(justification.as_str()));
    let justification = justification.or(some(said.impact_statement));
    if said.status == Status::NotAffected && justification.is_none() {
        return Err(wrong(Format::OpenVex, "one of its statements says `not_affected` and not why"));
    }
    let at = said.timestamp.0.or(issued);
    if at.is_none() {
        return Err(wrong(Format::OpenVex, "one of its statements has no time, nor has the document"));
    }
    let mut parts = BTreeSet::new();
    for part in said.subcomponents.unwrap_or_default().0 {
        add_part(&mut parts, part)?;
    }
    let count = said.products.as_ref().map_or(subjects.len(), |products| products.0.len().max(subjects.len()));
    if count.saturating_mul(parts.len()) > LIMIT {
        return Err(ReadError::TooMany { limit: LIMIT });
    }
    let mut products = Vec::new();
    for one in said.products.unwrap_or_default().0 {
        products.push(product(one, &parts)?);
    }
    if products.is_empty() {
        products = subjects.to_vec();
        products.iter_mut().for_each(|product| product.parts = parts.clone());
    }
    if products.is_empty() {
        return Err(wrong(Format::OpenVex, "one of its statements is about no product"));
    }
    Ok(Statement { vulnerability, products, status: said.status, justification, at })
}

fn product(one: TextOr<Component>, parts: &BTreeSet<OutsideText>) -> Result<Product, ReadError> {
    let mut component = one.or_else(component_of_text);
    let mut parts = parts.clone();
    for part in component.subcomponents.take().unwrap_or_default().0 {
        add_part(&mut parts, part)?;
    }
    let (digests, ids) = names(component)?;
    Ok(Product { digests, ids, parts })
}

/// A part that has only a digest is named by that: a product without parts would be meant as a whole.
fn add_part(parts: &mut BTreeSet<OutsideText>, part: TextOr<Component>) -> Result<(), ReadError> {
    let (digests, ids) = names(part.or_else(component_of_text))?;
    if ids.is_empty() {
        parts.extend(digests.iter().map(|digest| OutsideText::new(digest.to_string())));
    }
    parts.extend(ids);
    Ok(())
}

fn component_of_text(id: String) -> Component {
    Component { id: Some(id), identifiers: None, hashes: None, subcomponents: None }
}

fn names(component: Component) -> Result<(BTreeSet<Digest>, BTreeSet<OutsideText>), ReadError> {
    let mut digests = BTreeSet::new();
    if let Some(Object(hashes)) = component.hashes {
        for (algorithm, hex) in [("sha256", hashes.sha256), ("sha512", hashes.sha512)] {
            if let Some(hex) = hex {
                let digest = format!("{algorithm}:{}", hex.to_ascii_lowercase());
                digests.insert(digest.parse().map_err(|error| wrong(Format::OpenVex, format!("{error}")))?);
            }
        }
    }
    let identifiers = component.identifiers.map(|identifiers| identifiers.0);
    let identifiers = identifiers.map_or([None, None, None], |all| [all.purl, all.cpe22, all.cpe23]);
    let ids: Vec<String> =
        [component.id].into_iter().chain(identifiers).flatten().filter(|id| !id.is_empty()).collect();
    digests.extend(ids.iter().filter_map(|id| digest_of_name(id)));
    if digests.is_empty() && ids.is_empty() {
        return Err(wrong(Format::OpenVex, "one of its products or their parts has no name"));
    }
    Ok((digests, ids.into_iter().map(OutsideText::new).collect()))
}

//! SPDX 3.0 in JSON-LD: a graph of elements, of which one is the document.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Package, hash, report};
use crate::formats::json::{self, Choose, Chosen, List, Objects, Time};
use crate::formats::{some, wrong};
use crate::report::{Format, ReadError, Report};

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "@graph")]
    graph: Chosen<Element>,
}

/// The members of the types that are read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Element {
    #[serde(rename = "type", alias = "@type")]
    kind: String,
    spdx_id: Option<String>,
    name: Option<String>,
    #[serde(default)]
    created: Time,
    root_element: Option<List<String>>,
    #[serde(rename = "software_packageVersion")]
    version: Option<String>,
    #[serde(rename = "software_packageUrl")]
    purl: Option<String>,
    #[serde(rename = "software_primaryPurpose")]
    purpose: Option<String>,
    verified_using: Option<Objects<IntegrityMethod>>,
    external_identifier: Option<Objects<ExternalIdentifier>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntegrityMethod {
    algorithm: Option<String>,
    hash_value: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExternalIdentifier {
    external_identifier_type: String,
    identifier: String,
}

impl Choose for Element {
    fn is_kept(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "CreationInfo" | "SpdxDocument" | "software_Sbom" | "Bom" | "Tool" | "software_Package"
        )
    }
}

impl Element {
    fn package(self) -> Result<Package, ReadError> {
        let hashes = json::all(self.verified_using)
            .filter_map(|method| hash(method.algorithm.as_deref()?, method.hash_value.as_deref()?));
        let others = json::all(self.external_identifier).filter(|id| id.external_identifier_type == "packageUrl");
        Ok(Package {
            id: self.spdx_id.unwrap_or_default(),
            name: self.name.unwrap_or_default(),
            version: self.version,
            purls: self.purl.into_iter().chain(others.map(|id| id.identifier)).collect(),
            hashes: hashes.collect::<Result<_, _>>()?,
            is_container: self.purpose.as_deref() == Some("container"),
        })
    }
}

/// Reads a document.
pub(super) fn read(text: &str) -> Result<Report, ReadError> {
    let elements = json::parse::<Document>(text)?.graph.kept;
    let is_a = |kind: &'static str| move |element: &&Element| element.kind == kind;
    let mut report = report(elements.iter().filter(is_a("software_Package")).count());
    let mut documents = elements.iter().filter(is_a("SpdxDocument"));
    let (Some(document), None) = (documents.next(), documents.next()) else {
        return Err(wrong(Format::Spdx, "its @graph has not one SpdxDocument"));
    };
    if let Some(name) = &document.name {
        report.about.name(name.as_str());
    }
    report.created = elements.iter().filter(is_a("CreationInfo")).filter_map(|info| info.created.0).min();
    if report.created.is_none() {
        return Err(wrong(Format::Spdx, "it has no time of creation"));
    }
    report.tool = some(elements.iter().find(is_a("Tool")).and_then(|tool| tool.name.clone()));
    // The root of a document may be a list of contents, whose root is the image.
    let collections = elements.iter().filter(|element| element.kind != "software_Package");
    let roots = collections.filter_map(|element| element.root_element.as_ref());
    let roots: BTreeSet<String> = roots.flat_map(|roots| roots.0.iter().cloned()).collect();
    for element in elements.into_iter().filter(|element| element.kind == "software_Package") {
        let package = element.package()?;
        if roots.contains(&package.id) && package.may_be_image() {
            package.name_in(&mut report.about);
        }
    }
    Ok(report)
}

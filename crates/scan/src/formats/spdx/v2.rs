//! SPDX 2.x in JSON.

use std::collections::BTreeSet;

use manifest_schema::Digest;
use serde::Deserialize;

use super::{Package, hash, is_image_purl, report, tool_of};
use crate::formats::json::{self, Choose, Chosen, List, Object, Objects, Time};
use crate::formats::{some, wrong};
use crate::report::{Format, ReadError, Report};

/// The identifier of the document itself.
pub(super) const DOCUMENT: &str = "SPDXRef-DOCUMENT";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    spdx_version: String,
    name: String,
    creation_info: Object<CreationInfo>,
    document_describes: Option<List<String>>,
    packages: Option<Chosen<OnePackage>>,
    relationships: Option<Chosen<Relationship>>,
}

#[derive(Deserialize)]
struct CreationInfo {
    created: Time,
    creators: List<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OnePackage {
    #[serde(rename = "SPDXID")]
    id: String,
    name: String,
    version_info: Option<String>,
    primary_package_purpose: Option<String>,
    checksums: Option<Objects<Checksum>>,
    external_refs: Option<Objects<ExternalRef>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: String,
    checksum_value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_type: String,
    reference_locator: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: String,
    related_spdx_element: String,
}

impl Choose for OnePackage {
    fn is_kept(&self) -> bool {
        let refs = self.external_refs.as_ref().map_or(&[][..], |refs| &refs.0);
        self.is_container()
            || refs.iter().any(|Object(reference)| is_image_purl(&reference.reference_locator))
            || self.version_info.as_deref().is_some_and(|version| version.parse::<Digest>().is_ok())
    }
}

impl OnePackage {
    fn is_container(&self) -> bool {
        self.primary_package_purpose.as_deref() == Some("CONTAINER")
    }

    fn package(self) -> Result<Package, ReadError> {
        let is_container = self.is_container();
        let hashes = json::all(self.checksums).filter_map(|sum| hash(&sum.algorithm, &sum.checksum_value));
        let purls = json::all(self.external_refs).filter(|reference| reference.reference_type == "purl");
        Ok(Package {
            id: self.id,
            name: self.name,
            version: self.version_info,
            purls: purls.map(|reference| reference.reference_locator).collect(),
            hashes: hashes.collect::<Result<_, _>>()?,
            is_container,
        })
    }
}

impl Choose for Relationship {
    fn is_kept(&self) -> bool {
        self.described().is_some()
    }
}

impl Relationship {
    fn described(&self) -> Option<&str> {
        match self.relationship_type.as_str() {
            "DESCRIBES" if self.spdx_element_id == DOCUMENT => Some(&self.related_spdx_element),
            "DESCRIBED_BY" if self.related_spdx_element == DOCUMENT => Some(&self.spdx_element_id),
            _ => None,
        }
    }
}

/// Reads a document.
pub(super) fn read(text: &str) -> Result<Report, ReadError> {
    let document: Document = json::parse(text)?;
    if !document.spdx_version.starts_with("SPDX-2.") {
        return Err(wrong(Format::Spdx, "its version is not 2"));
    }
    let packages = document.packages.unwrap_or_default();
    let mut report = report(packages.count);
    report.created = document.creation_info.0.created.0;
    if report.created.is_none() {
        return Err(wrong(Format::Spdx, "it has no time of creation"));
    }
    report.tool = some(tool_of(document.creation_info.0.creators.0));
    report.about.name(document.name);
    let relationships = document.relationships.unwrap_or_default().kept;
    let mut described: BTreeSet<&str> = relationships.iter().filter_map(Relationship::described).collect();
    let listed = document.document_describes.unwrap_or_default().0;
    described.extend(listed.iter().map(String::as_str));
    for package in packages.kept {
        let package = package.package()?;
        if described.contains(package.id.as_str()) {
            package.name_in(&mut report.about);
        }
    }
    Ok(report)
}

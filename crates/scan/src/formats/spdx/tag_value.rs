//! SPDX 2.x as lines `Tag: value`; a value may be `<text>` over many lines.
//!
//! The form has no end: a document that was cut off between two lines cannot be told from a shorter one.

use std::collections::BTreeSet;

use super::v2::DOCUMENT;
use super::{Package, hash, report, tool_of};
use crate::formats::json::time;
use crate::formats::{malformed, some, wrong};
use crate::report::{Format, ReadError, Report};

/// Whether the first line that is no comment names the version, as it must.
pub(crate) fn is_tag_value(text: &str) -> bool {
    let is_content = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    text.lines().find(is_content).is_some_and(|line| line.starts_with("SPDXVersion:"))
}

/// Reads a document.
pub(crate) fn read(text: &str) -> Result<Report, ReadError> {
    let mut document = Document::default();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |what: &str| malformed(number + 1, 1, what);
        let Some((tag, value)) = line.split_once(':') else {
            return Err(at("the line is not `Tag: value`"));
        };
        let value = value.trim();
        if value.starts_with("<text>") && !value.ends_with("</text>") {
            let end = lines.find(|(_, line)| line.contains("<text>") || line.trim_end().ends_with("</text>"));
            if end.is_none_or(|(_, line)| line.contains("<text>")) {
                return Err(at("the text has no end"));
            }
            continue;
        }
        document.take(tag, value).map_err(|what| at(&what))?;
    }
    document.report()
}

#[derive(Default)]
struct Document {
    version: Option<String>,
    name: Option<String>,
    created: Option<String>,
    creators: Vec<String>,
    packages: usize,
    /// The package whose lines these are, if it is one.
    current: Option<Package>,
    images: Vec<Package>,
    described: BTreeSet<String>,
}

impl Document {
    fn take(&mut self, tag: &str, value: &str) -> Result<(), String> {
        let once = |member: &mut Option<String>| match member.replace(value.to_owned()) {
            Some(_) => Err(format!("`{tag}` is there twice")),
            None => Ok(()),
        };
        match tag {
            "SPDXVersion" => once(&mut self.version)?,
            "DocumentName" => once(&mut self.name)?,
            "Created" => once(&mut self.created)?,
            "Creator" => self.creators.push(value.to_owned()),
            "PackageName" => {
                self.end_package();
                self.packages += 1;
                self.current = Some(Package { name: value.to_owned(), ..Package::default() });
            }
            "FileName" | "SnippetSPDXID" | "LicenseID" => self.end_package(),
            "Relationship" => {
                let mut words = value.split_whitespace();
                match (words.next(), words.next(), words.next()) {
                    (Some(DOCUMENT), Some("DESCRIBES"), Some(id))
                    | (Some(id), Some("DESCRIBED_BY"), Some(DOCUMENT)) => {
                        self.described.insert(id.to_owned());
                    }
                    (Some(_), Some(_), Some(_)) => {}
                    _ => return Err("a relationship is not `A TYPE B`".into()),
                }
            }
            _ => {
                if let Some(package) = &mut self.current {
                    take_of_package(package, tag, value)?;
                }
            }
        }
        Ok(())
    }

    fn end_package(&mut self) {
        self.images.extend(self.current.take().filter(Package::may_be_image));
    }

    fn report(mut self) -> Result<Report, ReadError> {
        self.end_package();
        if !self.version.is_some_and(|version| version.starts_with("SPDX-2.")) {
            return Err(wrong(Format::Spdx, "its version is not 2"));
        }
        let mut report = report(self.packages);
        let Some(created) = self.created.as_deref().and_then(time) else {
            return Err(wrong(Format::Spdx, "it has no time of creation"));
        };
        report.created = created;
        report.tool = some(tool_of(self.creators));
        let Some(name) = self.name else {
            return Err(wrong(Format::Spdx, "it has no name"));
        };
        report.about.name(name);
        for package in self.images.into_iter().filter(|package| self.described.contains(&package.id)) {
            package.name_in(&mut report.about);
        }
        Ok(report)
    }
}

fn take_of_package(package: &mut Package, tag: &str, value: &str) -> Result<(), String> {
    match tag {
        "SPDXID" => package.id = value.to_owned(),
        "PackageVersion" => package.version = Some(value.to_owned()),
        "PrimaryPackagePurpose" => package.is_container = value == "CONTAINER",
        "PackageChecksum" => {
            let Some((algorithm, hex)) = value.split_once(':') else {
                return Err("a checksum is not `ALGORITHM: hexadecimal`".into());
            };
            if let Some(digest) = hash(algorithm.trim(), hex.trim()) {
                package.hashes.push(digest.map_err(|_| "a checksum is not one of its algorithm".to_owned())?);
            }
        }
        "ExternalRef" => {
            let mut words = value.split_whitespace();
            if let (Some(_), Some("purl"), Some(purl)) = (words.next(), words.next(), words.next()) {
                package.purls.push(purl.to_owned());
            }
        }
        _ => {}
    }
    Ok(())
}

//! The formats of reports: one file for each family of programs, and what they share.
//!
//! A further format is a file here with its reader, a member of [`Format`], a mark in `recognise.rs`, and a sample in
//! `tests/samples`, which the tests for damage then take up by themselves.

mod about;
mod clair;
mod cyclonedx;
mod grype;
mod intoto;
mod json;
mod openscap;
mod openvex;
mod recognise;
mod roxctl;
mod sarif;
mod severity;
mod spdx;
mod trivy;
mod xml;

use std::collections::BTreeSet;

use manifest_schema::OutsideText;

use self::xml::Xml;
use crate::report::{FailedCheck, Finding, Format, ReadError, Report, Statement};

/// The most findings, checks and statements that are looked at.
const LIMIT: usize = 200_000;

/// Reads a report.
pub(crate) fn read(bytes: &[u8]) -> Result<Report, ReadError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    refuse_other_encodings(bytes)?;
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{' | b'[') => read_json(utf8(bytes)?),
        Some(b'<') => read_xml(utf8(bytes)?),
        _ => match utf8(bytes) {
            Ok(text) if spdx::is_tag_value(text) => spdx::read_tag_value(text),
            _ => Ok(Report::new(Format::Other, [])),
        },
    }
}

fn read_json(text: &str) -> Result<Report, ReadError> {
    match recognise::format_of(text)? {
        Format::Trivy => trivy::read(text),
        Format::Grype => grype::read(text),
        Format::RoxctlCheck => roxctl::read_check(text),
        Format::RoxctlScan => roxctl::read_scan(text),
        Format::Clair => clair::read(text),
        Format::Sarif => sarif::read(text),
        Format::CycloneDx => cyclonedx::read_json(text),
        Format::Spdx => spdx::read_json(text),
        Format::OpenVex => openvex::read(text),
        Format::InToto => intoto::read(text),
        Format::Xccdf | Format::Arf | Format::Other => Ok(Report::new(Format::Other, [])),
    }
}

fn read_xml(text: &str) -> Result<Report, ReadError> {
    let mut xml = Xml::new(text);
    let root = xml.root()?;
    if let Some(format) = openscap::format_of(&root) {
        return openscap::read(&mut xml, &root, format);
    }
    if cyclonedx::is_bom(&root) {
        return cyclonedx::read_xml(&mut xml, &root);
    }
    xml.finish()?;
    Ok(Report::new(Format::Other, []))
}

/// UTF-16 and UTF-32 are what some shells make of a program's output; such a report would otherwise say nothing silently.
fn refuse_other_encodings(bytes: &[u8]) -> Result<(), ReadError> {
    let is_wide = matches!(
        bytes,
        [0xff, 0xfe, ..]
            | [0xfe, 0xff, ..]
            | [0, 0, 0xfe, 0xff, ..]
            | [0, 0, 0, b'{' | b'[' | b'<', ..]
            | [0, b'{' | b'[' | b'<', ..]
            | [b'{' | b'[' | b'<', 0, ..]
    );
    if is_wide { Err(malformed(1, 1, "it is UTF-16 or UTF-32, reports are read as UTF-8")) } else { Ok(()) }
}

fn utf8(bytes: &[u8]) -> Result<&str, ReadError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let (line, column) = position(bytes, error.valid_up_to());
        malformed(line, column, "it is not UTF-8 from here on")
    })
}

/// Line and column of a byte, both from 1.
fn position(bytes: &[u8], offset: usize) -> (usize, usize) {
    let before = &bytes[..offset.min(bytes.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    (line, column)
}

fn malformed(line: usize, column: usize, what: impl Into<String>) -> ReadError {
    ReadError::Malformed { line, column, what: OutsideText::new(what) }
}

fn wrong(format: Format, what: impl Into<String>) -> ReadError {
    ReadError::Wrong { format, what: OutsideText::new(what) }
}

/// Text of a member that may be absent; an empty one says nothing.
fn some(text: Option<String>) -> Option<OutsideText> {
    text.filter(|text| !text.is_empty()).map(OutsideText::new)
}

/// A program and its version, as `Report::tool` has them.
fn tool(name: &str, version: Option<&str>) -> Option<OutsideText> {
    let version = version.filter(|version| !version.is_empty());
    let tool = version.map_or_else(|| name.to_owned(), |version| format!("{name} {version}"));
    some(Some(tool))
}

impl Report {
    /// Adds a vulnerability. An advisory is often of several CVEs: those are vulnerabilities of their own and not names of
    /// one, so that a statement about one of them says nothing of the others.
    fn find(&mut self, mut finding: Finding) -> Result<(), ReadError> {
        let is_cve = |name: &OutsideText| name.raw().starts_with("CVE-");
        let is_of_cve = is_cve(&finding.id);
        let aliases = std::mem::take(&mut finding.aliases).into_iter().filter(|alias| *alias != finding.id);
        let (cves, others): (BTreeSet<_>, BTreeSet<_>) = aliases.partition(is_cve);
        finding.aliases = others;
        if is_of_cve || cves.len() < 2 {
            finding.aliases.extend(cves.into_iter().filter(|_| !is_of_cve));
            return self.push(finding);
        }
        for cve in cves {
            let mut one = finding.clone();
            one.aliases.insert(std::mem::replace(&mut one.id, cve));
            self.push(one)?;
        }
        Ok(())
    }

    fn push(&mut self, finding: Finding) -> Result<(), ReadError> {
        self.has_room()?;
        self.findings.push(finding);
        Ok(())
    }

    fn fail(&mut self, check: FailedCheck) -> Result<(), ReadError> {
        self.has_room()?;
        self.failed.push(check);
        Ok(())
    }

    fn state(&mut self, statement: Statement) -> Result<(), ReadError> {
        self.has_room()?;
        self.statements.push(statement);
        Ok(())
    }

    fn has_room(&self) -> Result<(), ReadError> {
        let have = self.findings.len() + self.failed.len() + self.statements.len();
        if have < LIMIT { Ok(()) } else { Err(ReadError::TooMany { limit: LIMIT }) }
    }
}

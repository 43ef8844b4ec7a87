//! The formats of reports: one file for each family of programs, and what they share.
//!
//! A further format is a file here with its reader, a member of [`Format`], a mark in `recognise.rs`, and a sample in
//! `tests/samples`, which the tests for damage then take up by themselves.

mod about;
mod clair;
mod cyclonedx;
mod gathered;
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

use manifest_schema::OutsideText;

use self::xml::Xml;
use crate::report::{Format, ReadError, Report};

/// The most findings, checks and statements that are looked at, and the most items of any other list.
const LIMIT: usize = 200_000;

/// Reads a report.
pub(crate) fn read(bytes: &[u8]) -> Result<Report, ReadError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    refuse_other_encodings(bytes)?;
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => read_json(utf8(bytes)?),
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

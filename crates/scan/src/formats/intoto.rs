//! In-toto statements, v0.1 and v1 (`in-toto/attestation`, `spec/v1/statement.md`), alone, in a DSSE envelope, or in one that a
//! sigstore bundle holds.
//!
//! Signatures are not looked at. A predicate that is a report of another format is read as that; the statement's subject is
//! then what the report is about, and digests that the predicate names itself do not add to it.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use manifest_schema::{Digest, OutsideText};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{self, List, Object, Objects, Seen, Time};
use super::{malformed, openvex, recognise, spdx, utf8, wrong};
use crate::report::{About, Format, Kind, Product, ReadError, Report};

/// `spec/v1/envelope.md`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    #[serde(rename = "signatures")]
    _signatures: List<serde::de::IgnoredAny>,
    #[serde(rename = "_type", default)]
    statement_type: Seen,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement<'a> {
    #[serde(rename = "_type")]
    statement_type: String,
    subject: Objects<Subject>,
    predicate_type: String,
    #[serde(borrow)]
    predicate: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Subject {
    name: Option<String>,
    digest: Option<Object<DigestSet>>,
}

#[derive(Deserialize)]
struct DigestSet {
    sha256: Option<String>,
    sha512: Option<String>,
}

/// Reads a statement, an envelope of one, or a bundle with such an envelope.
pub(crate) fn read(text: &str) -> Result<Report, ReadError> {
    #[derive(Deserialize)]
    struct Which<'a> {
        #[serde(default)]
        payload: Seen,
        #[serde(rename = "_type", default)]
        statement_type: Seen,
        #[serde(rename = "dsseEnvelope", borrow)]
        envelope: Option<&'a RawValue>,
    }
    let which: Which<'_> = json::parse(text)?;
    match which.envelope {
        None if which.payload.0 => read_envelope(text),
        None => read_statement(text),
        Some(_) if which.payload.0 || which.statement_type.0 => {
            Err(wrong(Format::InToto, "it is a bundle and what a bundle holds"))
        }
        Some(envelope) => read_envelope(envelope.get()),
    }
}

fn read_envelope(text: &str) -> Result<Report, ReadError> {
    let envelope: Envelope = json::parse(text)?;
    if envelope.statement_type.0 {
        return Err(wrong(Format::InToto, "it is a statement and an envelope of one"));
    }
    let payload = STANDARD.decode(&envelope.payload).or_else(|_| URL_SAFE.decode(&envelope.payload));
    let payload = payload.map_err(|_| wrong(Format::InToto, "its payload is not base64"))?;
    drop(envelope);
    utf8(&payload).and_then(read_statement).map_err(in_payload)
}

/// Lines and columns are those of the decoded payload.
fn in_payload(error: ReadError) -> ReadError {
    match error {
        ReadError::Malformed { line, column, what } => {
            malformed(line, column, format!("in the payload, {}", what.raw()))
        }
        other => other,
    }
}

fn read_statement(text: &str) -> Result<Report, ReadError> {
    let statement: Statement<'_> = json::parse(text)?;
    if !matches!(
        statement.statement_type.as_str(),
        "https://in-toto.io/Statement/v0.1" | "https://in-toto.io/Statement/v1"
    ) {
        return Err(wrong(Format::InToto, "it is of a version that is not known"));
    }
    let about = subjects(statement.subject)?;
    let predicate = statement.predicate.map_or("null", RawValue::get);
    let mut report = read_predicate(&statement.predicate_type, predicate, &about)
        .map_err(|error| if statement.predicate.is_some() { json::in_whole(error, text, predicate) } else { error })?;
    report.about.digests = about.digests;
    report.about.names.extend(about.names);
    Ok(report)
}

fn subjects(subjects: Objects<Subject>) -> Result<About, ReadError> {
    let mut about = About::default();
    for Object(subject) in subjects.0 {
        let digests = subject.digest.map(|set| [("sha256", set.0.sha256), ("sha512", set.0.sha512)]);
        for (algorithm, hex) in digests.into_iter().flatten() {
            if let Some(hex) = hex {
                about.digest(Format::InToto, &format!("{algorithm}:{hex}"))?;
            }
        }
        if let Some(name) = subject.name.filter(|name| !name.is_empty()) {
            about.names.insert(OutsideText::new(name));
        }
    }
    if about.digests.is_empty() {
        return Err(wrong(Format::InToto, "its subject has no SHA-256 or SHA-512"));
    }
    Ok(about)
}

fn read_predicate(predicate_type: &str, predicate: &str, about: &About) -> Result<Report, ReadError> {
    let is_of =
        |prefix: &str| predicate_type.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if is_of("https://slsa.dev/provenance") {
        json::parse::<serde::de::IgnoredAny>(predicate)?;
        return Ok(Report::new(Format::InToto, [Kind::Provenance]));
    }
    if is_of("https://cyclonedx.org/bom") {
        return of_format(Format::CycloneDx, predicate);
    }
    if is_of("https://spdx.dev/Document") {
        return read_spdx(predicate);
    }
    if is_of("https://openvex.dev/ns") {
        let of = |digest: &Digest| Product { digests: [*digest].into(), ids: [].into(), parts: [].into() };
        let products: Vec<Product> = about.digests.iter().map(of).collect();
        return openvex::read_about(predicate, &products);
    }
    if is_of("https://cosign.sigstore.dev/attestation/vuln") || is_of("cosign.sigstore.dev/attestation/vuln") {
        return read_vuln(predicate);
    }
    Ok(Report::new(Format::InToto, []))
}

/// A predicate whose type says what it must be.
fn of_format(format: Format, predicate: &str) -> Result<Report, ReadError> {
    let is_object = predicate.starts_with('{');
    if !is_object || recognise::format_of(predicate)? != format {
        return Err(wrong(Format::InToto, format!("its predicate is not of {format}, as its type says")));
    }
    super::read_json(predicate)
}

/// Cosign carries the tag-value form as a text.
fn read_spdx(predicate: &str) -> Result<Report, ReadError> {
    if !predicate.starts_with('"') {
        return of_format(Format::Spdx, predicate);
    }
    let text: String = serde_json::from_str(predicate).map_err(json::error)?;
    if !spdx::is_tag_value(&text) {
        return Err(wrong(Format::InToto, "its predicate is not of spdx, as its type says"));
    }
    spdx::read_tag_value(&text).map_err(|error| wrong(Format::Spdx, error.to_string()))
}

/// `COSIGN_VULN_ATTESTATION_SPEC.md`: the output of a scanner, with the time of the scan.
fn read_vuln(predicate: &str) -> Result<Report, ReadError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Predicate<'a> {
        #[serde(borrow)]
        scanner: Option<Object<Scanner<'a>>>,
        #[serde(borrow)]
        scanners: Option<Objects<Scanner<'a>>>,
        metadata: Option<Object<Metadata>>,
    }
    #[derive(Deserialize)]
    struct Scanner<'a> {
        #[serde(borrow)]
        result: &'a RawValue,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        #[serde(default)]
        scan_finished_on: Time,
    }
    let read: Predicate<'_> = json::parse(predicate)?;
    let mut scanners = read.scanner.into_iter().map(|scanner| scanner.0).chain(json::all(read.scanners));
    let (Some(scanner), None) = (scanners.next(), scanners.next()) else {
        return Err(wrong(Format::InToto, "its predicate has not one scanner"));
    };
    let result = scanner.result.get();
    let format = recognise::format_of(result).map_err(|error| json::in_whole(error, predicate, result))?;
    if !result.starts_with('{') || matches!(format, Format::Other | Format::InToto) {
        return Err(wrong(Format::InToto, "what its scanner found is not in a format that is known"));
    }
    let mut report = super::read_json(result).map_err(|error| json::in_whole(error, predicate, result))?;
    report.created = report.created.or(read.metadata.and_then(|metadata| metadata.0.scan_finished_on.0));
    Ok(report)
}

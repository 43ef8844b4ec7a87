//! Which format a JSON document has: by the members that each format must have, whatever their order.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::json::{self, Seen};
use super::wrong;
use crate::report::{Format, ReadError};

/// The format of a document, which is checked to be JSON from its beginning to its end.
///
/// # Errors
/// It is not JSON, has a mark twice, or has the marks of two formats.
pub(crate) fn format_of(text: &str) -> Result<Format, ReadError> {
    if text.trim_start().starts_with('[') {
        serde_json::from_str::<IgnoredAny>(text).map_err(json::error)?;
        return Ok(Format::Other);
    }
    let marks = json::parse::<Marks>(text)?;
    let mut found = Format::KNOWN.into_iter().filter(|format| marks.are_of(*format));
    match (found.next(), found.next()) {
        (None, _) => Ok(Format::Other),
        (Some(format), None) => Ok(format),
        (Some(format), Some(other)) => Err(wrong(format, format!("it has the marks of {other} as well"))),
    }
}

/// The members by which formats are told apart.
#[derive(Deserialize)]
struct Marks {
    #[serde(rename = "SchemaVersion", default)]
    schema_version: Seen,
    #[serde(rename = "ArtifactName", default)]
    artifact_name: Seen,
    #[serde(rename = "ArtifactType", default)]
    artifact_type: Seen,
    #[serde(rename = "Results", default)]
    artifact_results: Seen,
    #[serde(default)]
    matches: Seen,
    #[serde(default)]
    descriptor: Seen,
    #[serde(default)]
    manifest_hash: Seen,
    #[serde(rename = "$schema", default)]
    schema: Shape,
    #[serde(default)]
    version: Shape,
    #[serde(default)]
    runs: Seen,
    #[serde(rename = "bomFormat", default)]
    bom_format: Shape,
    #[serde(rename = "spdxVersion", default)]
    spdx_version: Seen,
    #[serde(rename = "@context", default)]
    context: Shape,
    #[serde(rename = "_type", default)]
    statement_type: Shape,
    #[serde(rename = "payloadType", default)]
    payload_type: Shape,
    #[serde(rename = "mediaType", default)]
    media_type: Shape,
    #[serde(rename = "dsseEnvelope", default)]
    envelope: Seen,
    #[serde(default)]
    result: Shape,
    #[serde(default)]
    summary: Shape,
}

impl Marks {
    fn are_of(&self, format: Format) -> bool {
        match format {
            Format::RoxctlCheck => self.summary.has("TOTAL") && self.summary.has("CRITICAL"),
            Format::RoxctlScan => self.result.member("summary").is_some_and(|s| s.has("TOTAL-VULNERABILITIES")),
            Format::Trivy => {
                self.schema_version.0 && (self.artifact_name.0 || self.artifact_type.0 || self.artifact_results.0)
            }
            Format::Grype => self.matches.0 && self.descriptor.0,
            Format::Clair => self.manifest_hash.0,
            Format::Sarif => {
                self.runs.0 && (self.schema.says(|s| s.contains("sarif")) || self.version.says(|v| v.starts_with("2.")))
            }
            Format::CycloneDx => self.bom_format.says(|name| name == "CycloneDX"),
            Format::Spdx => {
                self.spdx_version.0 || self.context.says(|context| context.starts_with("https://spdx.org/rdf/3"))
            }
            Format::OpenVex => self.context.says(|context| context.starts_with("https://openvex.dev/ns")),
            Format::InToto => {
                self.statement_type.says(|name| name.starts_with("https://in-toto.io/Statement/"))
                    || self.payload_type.says(|name| name == "application/vnd.in-toto+json")
                    || (self.envelope.0
                        && self.media_type.says(|name| name.starts_with("application/vnd.dev.sigstore.bundle")))
            }
            Format::Xccdf | Format::Arf | Format::Other => false,
        }
    }
}

/// As much of a value as tells formats apart.
#[derive(Default)]
enum Shape {
    #[default]
    Absent,
    /// A text, or the texts of a list.
    Texts(Vec<String>),
    /// The members of an object, to the second level.
    Members(BTreeMap<String, Shape>),
    Other,
}

impl Shape {
    fn says(&self, is: impl Fn(&str) -> bool) -> bool {
        matches!(self, Self::Texts(texts) if texts.iter().any(|text| is(text)))
    }

    fn member(&self, name: &str) -> Option<&Shape> {
        if let Self::Members(members) = self { members.get(name) } else { None }
    }

    fn has(&self, name: &str) -> bool {
        self.member(name).is_some()
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Level(2).deserialize(deserializer)
    }
}

/// How many levels of objects are still looked into.
#[derive(Clone, Copy)]
struct Level(usize);

/// The most members or texts that are kept of a value.
const KEPT: usize = 32;

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Shape;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shape, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
        Ok(Shape::Texts(vec![text.chars().take(200).collect()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let mut texts = Vec::new();
        while let Some(item) = seq.next_element_seed(Level(0))? {
            if let Shape::Texts(more) = item {
                texts.extend(more.into_iter().take(KEPT.saturating_sub(texts.len())));
            }
        }
        Ok(Shape::Texts(texts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut members = BTreeMap::new();
        if self.0 == 0 {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        }
        while let Some(name) = map.next_key::<String>()? {
            if members.len() >= KEPT {
                map.next_value::<IgnoredAny>()?;
            } else {
                members.insert(name, map.next_value_seed(Level(self.0 - 1))?);
            }
        }
        Ok(Shape::Members(members))
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }
}

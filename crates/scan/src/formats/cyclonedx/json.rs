//! CycloneDX in JSON (`bom-1.x.schema.json`).

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Affected, Analysis, Bom, Component, Rating, Vulnerability};
use crate::formats::json::{self, Counted, Object, Objects, Time};
use crate::report::{ReadError, Report};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    spec_version: String,
    serial_number: Option<String>,
    metadata: Option<Object<Metadata>>,
    components: Option<Counted>,
    vulnerabilities: Option<Objects<OneVulnerability>>,
}

/// Read a second time only for a document with vulnerabilities: a list of contents is often long.
#[derive(Deserialize)]
struct Components {
    components: Option<Objects<OneComponent>>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    timestamp: Time,
    tools: Option<Tools>,
    component: Option<Object<OneComponent>>,
}

/// A list of programs, since 1.5 an object with components.
struct Tools(Vec<Tool>);

#[derive(Deserialize)]
struct Tool {
    name: Option<String>,
    version: Option<String>,
}

#[derive(Deserialize)]
struct ToolComponents {
    components: Option<Objects<Tool>>,
}

#[derive(Deserialize)]
struct OneComponent {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "bom-ref")]
    reference: Option<String>,
    name: String,
    version: Option<String>,
    purl: Option<String>,
    hashes: Option<Objects<Hash>>,
    properties: Option<Objects<Property>>,
    components: Option<Objects<OneComponent>>,
}

#[derive(Deserialize)]
struct Hash {
    alg: String,
    content: String,
}

#[derive(Deserialize)]
struct Property {
    name: Option<String>,
    value: Option<String>,
}

#[derive(Deserialize)]
struct OneVulnerability {
    id: Option<String>,
    references: Option<Objects<Reference>>,
    ratings: Option<Objects<OneRating>>,
    affects: Option<Objects<Target>>,
    analysis: Option<Object<OneAnalysis>>,
}

#[derive(Deserialize)]
struct Reference {
    id: String,
}

#[derive(Deserialize)]
struct OneRating {
    score: Option<f64>,
    severity: Option<String>,
    method: Option<String>,
}

#[derive(Deserialize)]
struct Target {
    #[serde(rename = "ref")]
    reference: String,
    versions: Option<Objects<Version>>,
}

#[derive(Deserialize)]
struct Version {
    version: Option<String>,
    status: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OneAnalysis {
    state: Option<String>,
    justification: Option<String>,
    detail: Option<String>,
    #[serde(default)]
    first_issued: Time,
    #[serde(default)]
    last_updated: Time,
}

impl<'de> Deserialize<'de> for Tools {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Tools;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list or an object")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Tools, A::Error> {
                let list = Objects::<Tool>::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(Tools(json::all(Some(list)).collect()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Tools, A::Error> {
                let tools = ToolComponents::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Tools(json::all(tools.components).collect()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Reads a document.
pub(crate) fn read(text: &str) -> Result<Report, ReadError> {
    let document: Document = json::parse(text)?;
    let mut bom = Bom {
        spec_version: document.spec_version,
        serial: document.serial_number,
        has_components: document.components.is_some_and(|count| count.0 > 0),
        vulnerabilities: json::all(document.vulnerabilities).map(vulnerability).collect(),
        ..Bom::default()
    };
    if let Some(Object(metadata)) = document.metadata {
        bom.created = metadata.timestamp.0;
        let tool = metadata.tools.and_then(|tools| tools.0.into_iter().next());
        bom.tool = tool.and_then(|tool| Some((tool.name?, tool.version)));
        let mut flat = Vec::new();
        if let Some(Object(component)) = metadata.component {
            flatten(component, &mut flat);
        }
        let mut flat = flat.into_iter();
        bom.subject = flat.next();
        bom.components.extend(flat);
    }
    if !bom.vulnerabilities.is_empty() {
        for component in json::all(json::parse::<Components>(text)?.components) {
            flatten(component, &mut bom.components);
        }
    }
    bom.report()
}

fn flatten(one: OneComponent, into: &mut Vec<Component>) {
    let properties = json::all(one.properties).filter_map(|property| Some((property.name?, property.value?)));
    into.push(Component {
        kind: one.kind,
        reference: one.reference,
        name: one.name,
        version: one.version,
        purl: one.purl,
        hashes: json::all(one.hashes).map(|hash| (hash.alg, hash.content)).collect(),
        properties: properties.collect(),
    });
    for inner in json::all(one.components) {
        flatten(inner, into);
    }
}

fn vulnerability(one: OneVulnerability) -> Vulnerability {
    let analysis = one.analysis.map(|analysis| analysis.0);
    Vulnerability {
        id: one.id.unwrap_or_default(),
        references: json::all(one.references).map(|reference| reference.id).collect(),
        ratings: json::all(one.ratings).map(rating).collect(),
        affects: json::all(one.affects).map(affected).collect(),
        analysis: analysis.map_or_else(Analysis::default, |analysis| Analysis {
            state: analysis.state,
            justification: analysis.justification,
            detail: analysis.detail,
            at: analysis.last_updated.0.or(analysis.first_issued.0),
        }),
    }
}

fn rating(one: OneRating) -> Rating {
    Rating { severity: one.severity, score: one.score, method: one.method }
}

fn affected(target: Target) -> Affected {
    let versions = json::all(target.versions).map(|version| (version.version, version.status)).collect();
    Affected { reference: target.reference, versions }
}

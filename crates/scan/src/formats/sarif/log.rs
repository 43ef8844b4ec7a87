//! The members of a SARIF log that are read (`sarif-schema-2.1.0.json`).

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::formats::json::{List, Object, Objects, Seen, Time};

#[derive(Deserialize)]
pub(super) struct Log<'a> {
    pub(super) version: String,
    #[serde(borrow)]
    pub(super) runs: Objects<Run<'a>>,
    #[serde(default, rename = "inlineExternalProperties")]
    pub(super) inline_external_properties: Seen,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run<'a> {
    pub(super) tool: Object<Tool>,
    pub(super) results: Option<Objects<Found>>,
    pub(super) invocations: Option<Objects<Invocation>>,
    #[serde(borrow)]
    pub(super) properties: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) external_property_file_references: Seen,
}

#[derive(Deserialize)]
pub(super) struct Tool {
    pub(super) driver: Object<Driver>,
    pub(super) extensions: Option<Objects<Extension>>,
}

#[derive(Deserialize)]
pub(super) struct Extension {
    pub(super) rules: Option<Objects<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Driver {
    pub(super) name: String,
    pub(super) version: Option<String>,
    pub(super) semantic_version: Option<String>,
    pub(super) rules: Option<Objects<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) default_configuration: Option<Object<Configuration>>,
    pub(super) help: Option<Object<Message>>,
    pub(super) properties: Option<Object<RuleProperties>>,
}

#[derive(Deserialize)]
pub(super) struct Configuration {
    pub(super) level: Option<Level>,
}

#[derive(Deserialize, Default)]
pub(super) struct RuleProperties {
    #[serde(rename = "security-severity")]
    pub(super) security_severity: Option<Value>,
    pub(super) tags: Option<List<String>>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    None,
    Note,
    Warning,
    Error,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Invocation {
    pub(super) execution_successful: bool,
    #[serde(default)]
    pub(super) end_time_utc: Time,
}

/// What Trivy tells of an image; for anything else it has no such properties.
#[derive(Deserialize)]
pub(super) struct RunProperties {
    #[serde(rename = "imageName")]
    pub(super) image_name: Option<String>,
    #[serde(rename = "imageID")]
    pub(super) image_id: Option<String>,
    #[serde(rename = "repoTags")]
    pub(super) repo_tags: Option<List<String>>,
    #[serde(rename = "repoDigests")]
    pub(super) repo_digests: Option<List<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Found {
    pub(super) rule_id: Option<String>,
    pub(super) rule_index: Option<i64>,
    pub(super) rule: Option<Object<RuleReference>>,
    pub(super) level: Option<Level>,
    #[serde(default)]
    pub(super) kind: ResultKind,
    pub(super) baseline_state: Option<String>,
    pub(super) message: Object<Message>,
    pub(super) locations: Option<Objects<Location>>,
}

#[derive(Deserialize)]
pub(super) struct RuleReference {
    pub(super) id: Option<String>,
    pub(super) index: Option<i64>,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) enum ResultKind {
    #[default]
    Fail,
    Pass,
    Open,
    Review,
    NotApplicable,
    Informational,
}

#[derive(Deserialize)]
pub(super) struct Message {
    pub(super) text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Location {
    pub(super) physical_location: Option<Object<PhysicalLocation>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PhysicalLocation {
    pub(super) artifact_location: Option<Object<ArtifactLocation>>,
}

#[derive(Deserialize)]
pub(super) struct ArtifactLocation {
    pub(super) uri: Option<String>,
}

//! Documents for clusters against the schemas of their kinds (`CustomResourceDefinition`), unknown members being errors. The
//! schemas are not part of this repository.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

/// The folder of the schemas, if it is there.
pub(crate) fn schemas() -> Option<PathBuf> {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let folder = std::env::var_os("SEALIFT_TEST_DATA").map_or_else(default, PathBuf::from).join("crds");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: {} is not there; SEALIFT_TEST_DATA names another folder", folder.display());
    None
}

/// What is wrong with a document, by the schema of its kind and version among these files.
pub(crate) fn problems(schemas: &std::path::Path, document: &str) -> Vec<String> {
    let document: Value = serde_saphyr::from_str(document).unwrap();
    let (group, version) = document["apiVersion"].as_str().unwrap().split_once('/').unwrap();
    let mut problems = Vec::new();
    let schema = schema(schemas, group, version, document["kind"].as_str().unwrap());
    check(&schema.expect("a schema of this kind"), &document, "", &mut problems);
    problems
}

fn schema(schemas: &std::path::Path, group: &str, version: &str, kind: &str) -> Option<Value> {
    let files = fs::read_dir(schemas).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let definitions = files.flat_map(|text| {
        let of_one = |text: &str| serde_saphyr::from_str::<Value>(text).ok();
        text.split("\n---\n").filter_map(of_one).collect::<Vec<_>>()
    });
    let of_kind = |d: &Value| d["spec"]["group"] == group && d["spec"]["names"]["kind"] == kind;
    let versions = definitions.filter(of_kind).flat_map(|d| d["spec"]["versions"].as_array().unwrap().clone());
    versions.filter(|v| v["name"] == version).map(|v| v["schema"]["openAPIV3Schema"].clone()).next()
}

/// As far as the schemas go that are used here; a keyword that is not known fails.
fn check(schema: &Value, value: &Value, at: &str, problems: &mut Vec<String>) {
    let mut wrong = |what: String| problems.push(format!("{at}: {what}"));
    for (keyword, rule) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "type" => {
                let is_right = match rule.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_i64(),
                    "boolean" => value.is_boolean(),
                    other => panic!("type {other}"),
                };
                if !is_right {
                    wrong(format!("expected {rule}, found {value}"));
                }
            }
            "enum" if !rule.as_array().unwrap().contains(value) => wrong(format!("expected one of {rule}")),
            "pattern" if !regex::Regex::new(rule.as_str().unwrap()).unwrap().is_match(value.as_str().unwrap_or("")) => {
                wrong(format!("{value} does not match {rule}"));
            }
            "required" => {
                for name in rule.as_array().unwrap().iter().filter_map(Value::as_str) {
                    if value.get(name).is_none() {
                        wrong(format!("{name} is missing"));
                    }
                }
            }
            "maxLength" if value.as_str().is_some_and(|text| text.chars().count() as u64 > rule.as_u64().unwrap()) => {
                wrong(format!("longer than {rule}"));
            }
            "minLength"
                if value.as_str().is_some_and(|text| (text.chars().count() as u64) < rule.as_u64().unwrap()) =>
            {
                wrong(format!("shorter than {rule}"));
            }
            "maxItems" if value.as_array().is_some_and(|list| list.len() as u64 > rule.as_u64().unwrap()) => {
                wrong(format!("more than {rule}"));
            }
            "minItems" if value.as_array().is_some_and(|list| (list.len() as u64) < rule.as_u64().unwrap()) => {
                wrong(format!("fewer than {rule}"));
            }
            "enum"
            | "maxLength"
            | "minLength"
            | "maxItems"
            | "minItems"
            | "nullable"
            | "pattern"
            | "properties"
            | "items"
            | "additionalProperties"
            | "description"
            | "format"
            | "default" => {}
            kubernetes if kubernetes.starts_with("x-kubernetes-") => {}
            other => panic!("{at}: keyword {other}"),
        }
    }
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        values.iter().enumerate().for_each(|(n, value)| check(items, value, &format!("{at}[{n}]"), problems));
    }
    // The server checks metadata by rules of its own, and every document has the other two.
    if let (Some(properties), Some(members)) = (schema.get("properties"), value.as_object()) {
        for (name, value) in members.iter().filter(|(name, _)| !(at.is_empty() && *name == "metadata")) {
            match properties.get(name) {
                Some(schema) => check(schema, value, &format!("{at}.{name}"), problems),
                None if at.is_empty() && ["apiVersion", "kind"].contains(&name.as_str()) => {}
                None if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
                None => problems.push(format!("{at}.{name}: there is no such member")),
            }
        }
    }
}

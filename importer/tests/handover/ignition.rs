//! The parts of the Ignition 3.2 specification and of Butane's for OpenShift that files need. Nothing unknown is taken; later
//! versions take the same.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    ignition: About,
    storage: Storage,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    version: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Storage {
    files: Vec<File>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    path: String,
    overwrite: bool,
    mode: u32,
    contents: Resource,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Butane {
    variant: String,
    version: String,
    metadata: Metadata,
    storage: ButaneStorage,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ButaneStorage {
    files: Vec<ButaneFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ButaneFile {
    path: String,
    overwrite: bool,
    mode: u32,
    contents: Inline,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inline {
    inline: String,
}

/// What Butane would have a node write, and the name of the MachineConfig.
pub(crate) fn butane_files(source: &str, version: &str) -> (String, BTreeMap<String, String>) {
    let butane: Butane = serde_saphyr::from_str(source).unwrap();
    assert_eq!((butane.variant.as_str(), butane.version.as_str()), ("openshift", version));
    assert!(butane.metadata.labels.contains_key("machineconfiguration.openshift.io/role"));
    let file = |file: ButaneFile| {
        assert!(file.overwrite && file.mode == 0o644, "{}", file.path);
        (file.path, file.contents.inline)
    };
    (butane.metadata.name, butane.storage.files.into_iter().map(file).collect())
}

/// What a node writes: files that everybody may read and that take the place of what is there, by their paths.
pub(crate) fn files(config: &serde_json::Value, version: &str) -> BTreeMap<String, String> {
    let config: Config = serde_json::from_value(config.clone()).unwrap();
    assert_eq!(config.ignition.version, version);
    let mut found = BTreeMap::new();
    for file in config.storage.files {
        assert!(file.path.starts_with('/') && file.overwrite, "{}", file.path);
        assert_eq!(file.mode, 0o644, "decimal, as JSON has no other");
        let data = file.contents.source.strip_prefix("data:text/plain;charset=utf-8;base64,").expect("a data URL");
        let text = String::from_utf8(STANDARD.decode(data).unwrap()).unwrap();
        assert_eq!(found.insert(file.path, text), None, "a path is given twice");
    }
    found
}

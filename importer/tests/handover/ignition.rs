//! The part of the Ignition 3.2 specification that a MachineConfig with files needs. Nothing unknown is taken; later versions 3
//! take the same.

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

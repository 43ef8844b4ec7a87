//! Who may depend on whom: data <- mechanisms <- flows (docs/architecture.md). A new arrow is a decision, not an accident.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

type Arrows = BTreeMap<String, BTreeSet<String>>;

/// What `manifest-schema` may stand on: data structures and their text forms, no input or output, no cryptography.
const SCHEMA: [&str; 7] = ["jiff", "oci-spec", "schemars", "serde", "serde_json", "thiserror", "uuid"];

/// What each crate may use of this workspace.
const ALLOWED: [(&str, &[&str]); 12] = [
    ("manifest-schema", &[]),
    ("blobs", &["manifest-schema"]),
    ("registry", &["manifest-schema", "blobs"]),
    ("bundle", &["manifest-schema", "blobs"]),
    ("signing", &["manifest-schema", "blobs"]),
    ("ledger", &["manifest-schema", "blobs"]),
    ("scan", &["manifest-schema"]),
    ("sealift-console", &["manifest-schema", "blobs"]),
    ("commands", &["manifest-schema", "blobs", "registry", "bundle", "signing", "scan", "sealift-console"]),
    ("exporter", &["manifest-schema", "blobs", "registry", "bundle", "signing", "scan", "sealift-console", "commands"]),
    (
        "importer",
        &["manifest-schema", "blobs", "registry", "bundle", "signing", "scan", "ledger", "sealift-console", "commands"],
    ),
    ("testkit", &["manifest-schema", "blobs", "signing", "ledger"]),
];

/// The dependencies of each crate of the workspace: those it is built with, and those its tests are built with.
fn arrows() -> (Arrows, Arrows) {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let (mut built, mut tested) = (Arrows::new(), Arrows::new());
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name").to_string();
        let (built, tested) = (built.entry(name.clone()).or_default(), tested.entry(name).or_default());
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let set = if dependency["kind"] == "dev" { &mut *tested } else { &mut *built };
            set.insert(dependency["name"].as_str().expect("a name").to_string());
        }
    }
    (built, tested)
}

#[test]
fn no_crate_depends_on_what_it_must_not_know() {
    let (built, tested) = arrows();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into();
    let found: Vec<&str> = built.keys().map(String::as_str).collect();
    assert_eq!(found, allowed.keys().copied().collect::<Vec<_>>(), "a crate without a rule, or a rule without a crate");
    let ours =
        |set: &BTreeSet<String>| -> Vec<String> { set.iter().filter(|d| built.contains_key(*d)).cloned().collect() };
    for (name, dependencies) in &built {
        for dependency in ours(dependencies) {
            assert!(allowed[name.as_str()].contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
        for dependency in ours(&tested[name]) {
            let may = dependency == "testkit" || allowed[name.as_str()].contains(&dependency.as_str());
            assert!(may, "the tests of {name} must not depend on {dependency}");
        }
    }
}

#[test]
fn manifest_schema_is_data_only() {
    let (built, _) = arrows();
    let found: Vec<&str> = built["manifest-schema"].iter().map(String::as_str).collect();
    assert_eq!(found, SCHEMA);
}

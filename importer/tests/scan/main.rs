//! Reports of scanners: they travel byte for byte, and decide on both sides by the rules of that side.

#![allow(clippy::unwrap_used)]

mod annotations;
#[path = "../common/mod.rs"]
mod common;
mod rules;
mod scanner;
mod travel;

use std::fs;
use std::path::PathBuf;

use ledger::{Act, EntryNumber, RecordedScan};
use manifest_schema::{Digest, Timestamp};
use serde_json::{Value, json};
use testkit::Site;
use testkit::layout::{API, digest, fixtures};

/// A time so many days ago.
fn days_ago(days: i64) -> String {
    Timestamp::from_unix(Timestamp::now().unix() - days * 86_400).unwrap().to_string()
}

/// The digest of the image that sites pack.
fn api() -> Digest {
    digest(&fixtures(), API)
}

/// What `trivy image --format json` prints of an image, made so many days ago: each vulnerability with its severity.
fn trivy(image: &Digest, days: i64, found: &[(&str, &str)]) -> Value {
    let found: Vec<_> = found
        .iter()
        .map(|(id, severity)| {
            json!({
                "VulnerabilityID": id, "PkgName": "openssl", "InstalledVersion": "3.0.1", "FixedVersion": "3.0.2",
                "PkgIdentifier": { "PURL": "pkg:deb/debian/openssl@3.0.1?arch=amd64" }, "Severity": severity,
            })
        })
        .collect();
    json!({
        "SchemaVersion": 2, "CreatedAt": days_ago(days), "ArtifactName": "api", "ArtifactType": "container_image",
        "Metadata": { "RepoDigests": [format!("registry.dev.example/payments/api@{image}")] },
        "Results": [{ "Target": "api (debian 12)", "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": found }],
    })
}

/// What `roxctl image check --output json` prints of an image that breaks a rule; whether that must stop a release.
fn check(stops: bool) -> Value {
    let broken = json!({ "name": "no root", "severity": "LOW", "failingCheck": stops });
    let metadata = json!({ "id": "unknown", "additionalInfo": { "name": "unknown", "type": "image" } });
    let total = json!({ "CRITICAL": 0, "TOTAL": 1 });
    json!({ "results": [{ "metadata": metadata, "summary": total, "violatedPolicies": [broken] }], "summary": total })
}

/// Writes a report into the exporting side's folder.
fn write(site: &Site, name: &str, report: &Value) -> PathBuf {
    let path = site.export_dir().join(name);
    fs::write(&path, report.to_string()).unwrap();
    path
}

/// A site whose release has this report, of the image that it packs.
fn attached(report: &Value) -> Site {
    let mut site = Site::new();
    write(&site, "trivy.json", report);
    site.release["attach"] = json!(["trivy.json"]);
    site
}

/// What the ledger says of reports in its last entry about images.
fn recorded(site: &Site) -> RecordedScan {
    let scan = |act| match act {
        Act::Recorded(act) => act.images.into_iter().next(),
        Act::Received(act) => act.images.into_iter().next().map(|waiting| waiting.image),
        _ => None,
    };
    let images = common::ledger(site).entries(EntryNumber::FIRST).filter_map(|e| scan(e.unwrap().entry.act)).last();
    images.expect("an image").scan.expect("what reports said")
}

//! Signatures and referrers of the origin: what travels with an image, what the image policy says of it, and what is found
//! beside the image in production.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod cosign;
mod policy;
mod redhat;
mod referrers;
mod release;

use std::path::PathBuf;

use serde_json::{Value, json};
use testkit::Site;

/// Gives the stream an image policy. Paths in it begin in the importing side's folder.
fn set_policy(site: &mut Site, docker: Value) {
    let policy = json!({ "default": [{ "type": "reject" }], "transports": { "docker": docker } });
    std::fs::write(site.import_dir().join("policy.json"), policy.to_string()).unwrap();
    site.import["streams"]["payments"]["images"] = "policy.json".into();
}

/// `signedBy` with a key file.
fn signed_by(key: &std::path::Path) -> Value {
    json!({ "type": "signedBy", "keyType": "GPGKeys", "keyPath": key })
}

/// Data from public projects, which is not part of the repository; `None` with a printed reason where it is absent.
fn shared(name: &str) -> Option<PathBuf> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: there is no {}", path.display());
    None
}

//! What clusters need so that they accept what this site vouches for: files for their nodes, made from `import.yaml`.
//!
//! [`production`] is for clusters that run what was promoted, [`staging`] for those that try out what waits in the staging
//! registry. What each kind of cluster accepts is a module of its own; names ([`places`]), policy.json and keys
//! ([`policy`]), where signatures lie ([`registries_d`]) and the folder that is handed over ([`folder`]) are shared. Nodes that have
//! a policy keep what it says of others ([`merge`]); clusters that are more than nodes take documents of their own ([`clusters`]).

mod annotations;
pub mod clusters;
mod earlier;
pub mod error;
pub mod folder;
mod image_policy;
pub mod in_use;
pub mod machine_config;
pub mod merge;
pub mod mirrors;
pub mod places;
pub mod platform;
pub mod policy;
mod portieris;
pub mod production;
mod readme;
mod readme_clusters;
pub mod registries_d;
pub mod staging;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use manifest_schema::text::is_unprintable;
use manifest_schema::{Digest, LIMITS};
use serde::Serialize;

use crate::config::ClusterKind;
use crate::error::Error;
pub use error::HandOverError;
use in_use::Accepted;
use merge::MergeReport;
use mirrors::Mirror;
use policy::KeyRow;
use production::Denied;
use registries_d::Section;

/// The files, by their names in the folder, and what is in them.
#[derive(Debug)]
#[must_use]
pub struct Made {
    /// The files.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What is in them, and what is not.
    pub report: Report,
}

/// What was made, for people and programs.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Where the key files must lie on the nodes.
    pub key_dir: String,
    /// What the policy says, scope by scope.
    pub scopes: Vec<ScopeRow>,
    /// The key files.
    pub keys: Vec<KeyRow>,
    /// Where signatures are looked for.
    pub lookaside: Vec<Section>,
    /// What clusters will refuse although something of the kind may be received.
    pub left_out: Vec<LeftOut>,
    /// What clusters get from production when they ask for an origin.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
    /// What must not run any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<Denied>,
    /// The kinds of clusters that take more than the files for podman and CRI-O.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<ClusterKind>,
    /// What nodes keep of the policy that they have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merged: Option<MergeReport>,
    /// The images in use that the policy accepts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_use: Option<Accepted>,
    /// The release images whose signatures are handed over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub releases: Vec<Digest>,
    /// How many images have annotations.
    #[serde(skip_serializing_if = "is_none")]
    pub annotated: usize,
    /// How many of them say that it must not run.
    #[serde(skip_serializing_if = "is_none")]
    pub annotated_denied: usize,
}

impl Report {
    /// The sections whose signatures lie in a folder of the node itself.
    pub fn folders(&self) -> impl Iterator<Item = &Section> {
        self.lookaside.iter().filter(|section| section.lookaside.starts_with("file:"))
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// A file that somebody names.
fn read(path: &Path) -> Result<Vec<u8>, HandOverError> {
    let text = console::read_text(path, LIMITS.config);
    text.map(String::into_bytes).map_err(|source| HandOverError::ClusterInput { path: path.into(), source })
}

/// A document for a cluster.
pub(crate) fn yaml(document: &serde_json::Value) -> Vec<u8> {
    // Strings, numbers, lists and maps with strings for keys.
    serde_saphyr::to_string(document).unwrap_or_else(|_| unreachable!("YAML by construction")).into_bytes()
}

/// A folder as policy.json can name it. One that is not absolute would begin wherever podman was started.
fn node_folder(folder: &Path) -> Result<String, Error> {
    let text = folder.to_str().filter(|text| text.starts_with('/') && !text.chars().any(is_unprintable));
    let text = text.ok_or_else(|| HandOverError::KeyDir(folder.into()))?;
    Ok(text.trim_end_matches('/').into())
}

/// One scope of the policy.
#[derive(Debug, Serialize)]
pub struct ScopeRow {
    /// The scope.
    pub scope: String,
    /// What it demands: the types of the requirements.
    pub demands: Vec<&'static str>,
    /// What signatures have to call the images, where they are asked for.
    pub identities: Vec<signing::MovedIdentity>,
    /// The origins whose images lie there; none if none do.
    pub origins: Vec<OriginRow>,
}

impl ScopeRow {
    /// Whether no signature is asked for.
    pub fn accepts_anything(&self) -> bool {
        self.demands.iter().all(|demand| *demand == "insecureAcceptAnything")
    }
}

/// A part of an origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OriginRow {
    /// The stream that brings its images.
    pub stream: String,
    /// The scope or reference.
    pub origin: String,
    /// The part of the stream's image policy that decides; `None` if there is no policy.
    pub policy: Option<String>,
}

/// Something that clusters will refuse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The scope, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The streams.
    pub streams: Vec<String>,
    /// Why.
    pub reason: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams = self.streams.join(", ");
        match &self.scope {
            Some(scope) if self.streams.is_empty() => write!(f, "{scope}: {}", self.reason),
            Some(scope) => write!(f, "{scope} (stream {streams}): {}", self.reason),
            None if self.streams.is_empty() => f.write_str(&self.reason),
            None => write!(f, "stream {streams}: {}", self.reason),
        }
    }
}

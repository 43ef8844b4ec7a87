//! SPDX 2.x (ISO/IEC 5962, JSON and tag-value) and 3.0 (JSON-LD): lists of contents.
//!
//! Of the packages only those are looked at that may be the image itself: what the document describes, if a package URL, a
//! digest for a version, or its purpose says that it is an image.

mod tag_value;
mod v2;
mod v3;

use manifest_schema::Digest;
use serde::Deserialize;

pub(crate) use self::tag_value::{is_tag_value, read as read_tag_value};
use super::{json, wrong};
use crate::report::{About, Format, Kind, ReadError, Report};

/// Reads a document in JSON of either version.
pub(crate) fn read_json(text: &str) -> Result<Report, ReadError> {
    #[derive(Deserialize)]
    struct Version {
        #[serde(rename = "spdxVersion", default)]
        version_2: json::Seen,
        #[serde(rename = "@graph", default)]
        graph: json::Seen,
    }
    let version: Version = json::parse(text)?;
    match (version.version_2.0, version.graph.0) {
        (true, false) => v2::read(text),
        (false, true) => v3::read(text),
        (true, true) => Err(wrong(Format::Spdx, "it is of version 2 and of version 3")),
        (false, false) => Err(wrong(Format::Spdx, "it has no @graph")),
    }
}

/// A package that may be an image.
#[derive(Default)]
struct Package {
    id: String,
    name: String,
    version: Option<String>,
    purls: Vec<String>,
    /// Digests of SHA-256 and SHA-512.
    hashes: Vec<Digest>,
    is_container: bool,
}

impl Package {
    fn may_be_image(&self) -> bool {
        self.is_container || self.purls.iter().any(|purl| is_image_purl(purl)) || self.version_digest().is_some()
    }

    /// Syft writes the manifest's digest for the version of an image.
    fn version_digest(&self) -> Option<Digest> {
        self.version.as_deref()?.parse().ok()
    }

    fn name_in(self, about: &mut About) {
        about.digests.extend(self.version_digest());
        if self.is_container {
            about.digests.extend(self.hashes);
        }
        for purl in self.purls {
            about.name(purl);
        }
        about.name(self.name);
    }
}

fn is_image_purl(purl: &str) -> bool {
    purl.starts_with("pkg:oci/") || purl.starts_with("pkg:docker/")
}

/// A document without a package lists nothing.
fn report(packages: usize) -> Report {
    Report::new(Format::Spdx, (packages > 0).then_some(Kind::Sbom))
}

/// The name of a program among the creators, `Tool: name-version`.
fn tool_of(creators: impl IntoIterator<Item = String>) -> Option<String> {
    creators.into_iter().find_map(|creator| Some(creator.strip_prefix("Tool:")?.trim().to_owned()))
}

/// A checksum of an algorithm that names images.
fn hash(algorithm: &str, hex: &str) -> Option<Result<Digest, ReadError>> {
    let algorithm = match algorithm.to_ascii_lowercase().as_str() {
        "sha256" => "sha256",
        "sha512" => "sha512",
        _ => return None,
    };
    let digest = format!("{algorithm}:{}", hex.to_ascii_lowercase());
    Some(digest.parse().map_err(|error| wrong(Format::Spdx, format!("{error}"))))
}

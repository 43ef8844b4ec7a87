//! The signed manifest of a bundle, `sealift/manifest.json` (docs/format.md, section 4).
//!
//! It lists everything the bundle carries. Reading is strict: no unknown or repeated key, no trailing byte, nothing that
//! contradicts itself. `extensions` is the one place where unknown keys are allowed; `requires` is read before the rest, so
//! that an old program says which version it needs instead of complaining of a key it does not know.

mod check;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attachment::{ImageSignature, Referrer};
use crate::digest::Digest;
use crate::document::{MediaType, Platform, WrittenDescriptor};
use crate::ids::{BundleId, Sequence, Stream, Timestamp};
use crate::json::unique_map;
use crate::limits::LIMITS;
use crate::reference::Reference;
use crate::stored::Stored;
use crate::text::{LabelKey, LabelValue, OutsideText};

/// The manifest's `type`, its first member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ManifestType {
    /// Format 1.
    #[serde(rename = "sealift/manifest/1")]
    V1,
}

/// Everything a bundle carries, as the release key signs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `sealift/manifest/1`. The first member of every document that Sealift signs.
    #[serde(rename = "type")]
    pub kind: ManifestType,
    /// What a reader must understand beyond format 1.
    pub requires: Vec<Requirement>,
    /// The bundle's id.
    pub bundle: BundleId,
    /// The release line.
    pub stream: Stream,
    /// The place in the release line.
    pub sequence: Sequence,
    /// When the export began.
    pub created: Timestamp,
    /// After this moment the bundle is not admitted any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The program that made the bundle, with its version.
    pub tool: LabelValue,
    /// Labels for people: ticket, classification.
    #[serde(deserialize_with = "unique_map")]
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// How many volumes there are.
    pub volumes: Volumes,
    /// The earlier bundle that holds what this one leaves out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// The images, in the order asked for.
    pub images: Vec<Image>,
    /// Every blob, in the order it stands in the volumes: the admission section first, each digest once.
    pub blobs: Vec<Blob>,
    /// Keys that a reader may ignore.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "unique_map")]
    pub extensions: BTreeMap<String, serde_json::Value>,
}

/// A feature beyond format 1 without which the bundle must not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// The feature's name.
    pub feature: LabelKey,
    /// The first version of Sealift that knows it.
    pub since: LabelValue,
}

/// The number of volumes, and how many of them hold the admission section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Volumes {
    /// All volumes.
    pub count: u32,
    /// The first so many hold everything but layers.
    pub admission: u32,
}

/// An earlier bundle, of which the receiving side still has what this bundle does not carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// Its id.
    pub bundle: BundleId,
    /// Its release line.
    pub stream: Stream,
    /// Its place there.
    pub sequence: Sequence,
    /// The digest of its manifest.
    pub manifest: Digest,
}

/// An image (or any other OCI artifact) that the bundle carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The source as it was asked for, such as `docker://registry.dev.example/payments/api:2.3.1`.
    pub asked: OutsideText,
    /// The full reference the sender claims for it.
    pub origin: Reference,
    /// The digest of the document that the reference named when it was resolved.
    pub digest: Digest,
    /// The media type of that document.
    pub media_type: MediaType,
    /// Its size in bytes.
    pub size: u64,
    /// The image manifests below it, in the index's order; the image itself if it is no index.
    pub platforms: Vec<PlatformManifest>,
    /// Some entries of the index are left out on purpose.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sparse: bool,
    /// Its simple signatures, and those of the documents below it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<ImageSignature>,
    /// What refers to it and to the documents below it, and what refers to that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub referrers: Vec<Referrer>,
    /// Of an OpenShift release image: where it lists the images of the release, for each of its image manifests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub release: Vec<ReleaseList>,
}

/// The layers of an image manifest that decide what its `release-manifests/image-references` is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseList {
    /// The image manifest.
    pub manifest: Digest,
    /// Its topmost layers, from the one that holds the file; they stand in the admission section.
    pub layers: Vec<Digest>,
}

/// One image manifest of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlatformManifest {
    /// The platform as the index says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The digest of the image manifest.
    pub digest: Digest,
}

/// Where in the bundle a blob stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    /// Image indexes and manifests, configurations, signatures, small blobs of referrers: what is needed to decide on
    /// admission.
    Admission,
    /// Layers.
    Layers,
}

/// One blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type, from the first descriptor that names it.
    pub media_type: MediaType,
    /// The section it stands in.
    pub section: Section,
    /// How it is stored.
    pub stored: Stored,
}

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Too large.
    #[error("the manifest has {size} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Not strict JSON of this format.
    #[error("the manifest is not valid: {}", crate::text::escape(.0))]
    Json(String),
    /// It needs a newer program.
    #[error("the bundle needs sealift >= {since} (feature `{feature}`)")]
    Requires {
        /// The feature.
        feature: LabelKey,
        /// The version.
        since: LabelValue,
    },
    /// It contradicts itself.
    #[error("the manifest contradicts itself: {0}")]
    Inconsistent(String),
}

/// What is read before anything else.
#[derive(Deserialize)]
struct Prelude {
    #[serde(rename = "type")]
    kind: Option<OutsideText>,
    #[serde(default)]
    requires: Vec<Requirement>,
}

/// The features beyond format 1 that this version reads.
const KNOWN_FEATURES: [&str; 0] = [];

impl Manifest {
    /// The bytes that are signed: compact JSON, members in the order of this type.
    ///
    /// # Errors
    /// [`ManifestError::Inconsistent`] if the manifest would not be accepted by [`Manifest::parse`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        serde_json::to_vec(self).map_err(|e| ManifestError::Json(e.to_string()))
    }

    /// Reads a manifest strictly.
    ///
    /// # Errors
    /// [`ManifestError`] says which rule the bytes break.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > LIMITS.manifest {
            return Err(ManifestError::TooLarge { size: bytes.len() as u64, limit: LIMITS.manifest });
        }
        if !bytes.starts_with(b"{\"type\":") {
            return Err(ManifestError::Json("the first member is not `type`".into()));
        }
        if !bytes.ends_with(b"}") {
            return Err(ManifestError::Json("trailing bytes after the last member".into()));
        }
        let json = |e: serde_json::Error| ManifestError::Json(e.to_string());
        let prelude: Prelude = serde_json::from_slice(bytes).map_err(json)?;
        if let Some(kind) = prelude.kind.filter(|k| k.raw() != "sealift/manifest/1") {
            return Err(ManifestError::Json(format!("`type` is {}, expected sealift/manifest/1", kind.escaped())));
        }
        for r in prelude.requires {
            if !KNOWN_FEATURES.contains(&r.feature.to_string().as_str()) {
                return Err(ManifestError::Requires { feature: r.feature, since: r.since });
            }
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(json)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The release line that bytes name which nothing vouches for yet: only to know whose signature they need.
    pub fn untrusted_stream(bytes: &[u8]) -> Option<Stream> {
        #[derive(Deserialize)]
        struct Named {
            stream: Stream,
        }
        serde_json::from_slice::<Named>(bytes).ok().map(|named| named.stream)
    }

    /// The blob of each digest.
    pub fn blobs_by_digest(&self) -> HashMap<Digest, &Blob> {
        self.blobs.iter().map(|b| (b.digest, b)).collect()
    }

    /// The bytes of all blobs together that the bundle carries.
    pub fn total_bytes(&self) -> u64 {
        self.blobs.iter().filter(|b| b.stored != Stored::Base).map(|b| b.size).sum()
    }

    /// `<stream>-<sequence>`: the bundle's folder and the beginning of its volumes' names.
    pub fn name(&self) -> String {
        format!("{}-{}", self.stream, self.sequence)
    }

    /// `index.json` of the OCI layout that the volumes make: one entry an image, named by its origin reference; behind
    /// them one entry for each referrer, named if a digest tag names it.
    pub fn layout_index(&self) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Index {
            schema_version: u32,
            media_type: &'static str,
            manifests: Vec<WrittenDescriptor>,
        }
        const NAME: &str = "org.opencontainers.image.ref.name";
        let blobs = self.blobs_by_digest();
        let images = self.images.iter().map(|image| WrittenDescriptor {
            media_type: image.media_type.clone(),
            digest: image.digest,
            size: image.size,
            annotations: [(NAME.to_string(), image.origin.to_string())].into(),
        });
        let mut seen = BTreeSet::new();
        let referrers = self.images.iter().flat_map(|image| image.referrers.iter().map(move |r| (image, r)));
        let referrers = referrers.filter_map(|(image, referrer)| {
            let tag = referrer.tag.and_then(|tag| tag.for_subject(&referrer.subject));
            let name = tag.map(|tag| format!("{}:{tag}", image.origin.repository()));
            let blob = blobs.get(&referrer.digest)?;
            seen.insert((referrer.digest, name.clone())).then(|| WrittenDescriptor {
                media_type: blob.media_type.clone(),
                digest: blob.digest,
                size: blob.size,
                annotations: name.map(|name| (NAME.to_string(), name)).into_iter().collect(),
            })
        });
        let manifests = images.chain(referrers).collect();
        serde_json::to_vec(&Index { schema_version: 2, media_type: MediaType::OCI_INDEX, manifests })
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;

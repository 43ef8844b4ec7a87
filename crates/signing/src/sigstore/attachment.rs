//! The manifest that cosign attaches to an image under the tag `sha256-<hex>.sig` (cosign `specs/SIGNATURE_SPEC.md`),
//! in the form containers/image writes (`docker/docker_image_dest.go`): one layer per signature.
//!
//! Bytes only: fetching and pushing them is up to the caller.

use std::collections::BTreeMap;

use manifest_schema::document::{Document, DocumentError, MediaType};
use manifest_schema::json::unique_map;
use manifest_schema::{Digest, LIMITS};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{SIGNATURE_ANNOTATION, SigstoreSignature};
use crate::simple::go_json;

/// The media type of a layer that is a cosign payload.
pub const PAYLOAD_MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// Why an attachment cannot be read or extended.
#[derive(Debug, thiserror::Error)]
pub enum AttachmentError {
    /// Not an OCI image manifest.
    #[error("the manifest of attached signatures is refused: {0}")]
    Document(#[from] DocumentError),
    /// Not of the shape attachments have.
    #[error("the manifest of attached signatures is refused: {}", .0.escaped())]
    Shape(manifest_schema::OutsideText),
    /// A signature without its annotation.
    #[error("annotation `{SIGNATURE_ANNOTATION}` is missing")]
    NoSignature,
    /// More than a registry takes.
    #[error("the manifest of attached signatures would have {found} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Its size in bytes.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
}

/// One layer of an attachment: a signature, or something else that is attached in the same way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachedLayer {
    /// The media type.
    pub media_type: MediaType,
    /// The digest of the layer.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The annotations: signature, certificate and log entry stand here.
    #[serde(default, deserialize_with = "unique_map", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Members that are kept as they are.
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

impl AttachedLayer {
    fn of(signature: &SigstoreSignature) -> Result<Self, AttachmentError> {
        if !signature.annotations.contains_key(SIGNATURE_ANNOTATION) {
            return Err(AttachmentError::NoSignature);
        }
        Ok(Self {
            media_type: PAYLOAD_MEDIA_TYPE.parse()?,
            digest: blobs::sha256(&signature.payload),
            size: signature.payload.len() as u64,
            annotations: signature.annotations.clone(),
            other: BTreeMap::new(),
        })
    }

    /// Whether it is a cosign signature.
    pub fn is_signature(&self) -> bool {
        self.media_type.as_str() == PAYLOAD_MEDIA_TYPE
    }
}

/// The signatures attached to one image manifest or index.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attachment {
    layers: Vec<AttachedLayer>,
    /// Members of the manifest that are kept as they are, such as `annotations`.
    other: BTreeMap<String, Value>,
}

/// An attachment as it is pushed: first the layers and the configuration, then the manifest under its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentBytes {
    /// The configuration.
    pub config: Vec<u8>,
    /// Its digest.
    pub config_digest: Digest,
    /// The manifest, an OCI image manifest.
    pub manifest: Vec<u8>,
    /// Its digest.
    pub manifest_digest: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    #[serde(default = "oci_manifest")]
    media_type: String,
    config: AttachedLayer,
    layers: Vec<AttachedLayer>,
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

fn oci_manifest() -> String {
    MediaType::OCI_MANIFEST.into()
}

impl Attachment {
    /// An attachment without a signature.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the manifest that an image's `.sig` tag names.
    ///
    /// # Errors
    /// [`AttachmentError`] unless it is an OCI image manifest that can be kept whole.
    pub fn parse(manifest: &[u8]) -> Result<Self, AttachmentError> {
        Document::parse(manifest, &MediaType::OCI_MANIFEST.parse()?)?;
        let shape = |e: serde_json::Error| AttachmentError::Shape(manifest_schema::OutsideText::new(e.to_string()));
        let Manifest { layers, other, .. } = serde_json::from_slice(manifest).map_err(shape)?;
        Ok(Self { layers, other })
    }

    /// All layers, in order.
    pub fn layers(&self) -> &[AttachedLayer] {
        &self.layers
    }

    /// The layers that are cosign signatures: their blobs are the payloads.
    pub fn payload_descriptors(&self) -> impl Iterator<Item = &AttachedLayer> {
        self.layers.iter().filter(|layer| layer.is_signature())
    }

    fn has(&self, layer: &AttachedLayer) -> bool {
        let same =
            |l: &AttachedLayer| (&l.media_type, &l.digest, l.size) == (&layer.media_type, &layer.digest, layer.size);
        self.layers.iter().any(|l| same(l) && l.annotations == layer.annotations)
    }

    /// Adds a signature behind what is there, unless it is there.
    ///
    /// # Errors
    /// [`AttachmentError::NoSignature`].
    pub fn with(mut self, signature: &SigstoreSignature) -> Result<Self, AttachmentError> {
        let layer = AttachedLayer::of(signature)?;
        if !self.has(&layer) {
            self.layers.push(layer);
        }
        Ok(self)
    }

    /// Adds the layers of another attachment behind what is there, each unless it is there.
    #[must_use]
    pub fn union(mut self, other: &Attachment) -> Self {
        for layer in &other.layers {
            if !self.has(layer) {
                self.layers.push(layer.clone());
            }
        }
        self
    }

    /// Takes cosign signatures out; other layers, and the order, stay. Without any layer left, what remains is a manifest that
    /// a reader takes for no signature.
    ///
    /// [`SigstoreKey::has_signed`](super::SigstoreKey::has_signed) tells whose they are, once their payloads are fetched.
    #[must_use]
    pub fn without(&self, is_gone: impl Fn(&AttachedLayer) -> bool) -> Self {
        let stays = |layer: &&AttachedLayer| !(layer.is_signature() && is_gone(layer));
        Self { layers: self.layers.iter().filter(stays).cloned().collect(), other: self.other.clone() }
    }

    /// The configuration and manifest, in the form containers/image writes. The same layers give the same bytes.
    ///
    /// The configuration is written anew; it lists the layers, and nothing reads it.
    ///
    /// # Errors
    /// [`AttachmentError::TooLarge`] for more than a registry takes.
    pub fn to_bytes(&self) -> Result<AttachmentBytes, AttachmentError> {
        let shape = |e: serde_json::Error| AttachmentError::Shape(manifest_schema::OutsideText::new(e.to_string()));
        let diff_ids: Vec<Digest> = self.layers.iter().map(|layer| layer.digest).collect();
        let rootfs = RootFs { kind: "layers", diff_ids };
        let config = Config { architecture: "", os: "", config: BTreeMap::new(), rootfs };
        let config = serde_json::to_vec(&config).map_err(shape)?;
        let config_digest = blobs::sha256(&config);
        let manifest = Manifest {
            schema_version: 2,
            media_type: oci_manifest(),
            config: AttachedLayer {
                media_type: MediaType::OCI_CONFIG.parse()?,
                digest: config_digest,
                size: config.len() as u64,
                annotations: BTreeMap::new(),
                other: BTreeMap::new(),
            },
            layers: self.layers.clone(),
            other: self.other.clone(),
        };
        let manifest = go_json(serde_json::to_string(&manifest).map_err(shape)?).into_bytes();
        let found = manifest.len() as u64;
        if found > LIMITS.document || self.layers.len() > LIMITS.children {
            return Err(AttachmentError::TooLarge { found, limit: LIMITS.document });
        }
        Ok(AttachmentBytes { config_digest, config, manifest_digest: blobs::sha256(&manifest), manifest })
    }
}

/// An image configuration of which nothing but the layers is filled in.
#[derive(Serialize)]
struct Config {
    architecture: &'static str,
    os: &'static str,
    config: BTreeMap<String, Value>,
    rootfs: RootFs,
}

#[derive(Serialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: Vec<Digest>,
}

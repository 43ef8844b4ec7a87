//! Image manifests and indexes: OCI image specification 1.1 and Docker's schema 2.
//!
//! The bytes come from a registry or a medium and may lie. A document is accepted only if its descriptor's media type,
//! its own `mediaType` and its shape say the same, and if no reader could take it for something else (an index that is
//! also a manifest, keys that differ in case only, keys given twice).

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use oci_spec::image as oci;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::Timestamp;
use crate::limits::LIMITS;
use crate::text::{OutsideText, escape};

/// A media type, such as `application/vnd.oci.image.manifest.v1+json`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaType(String);

impl MediaType {
    /// `application/vnd.oci.image.index.v1+json`
    pub const OCI_INDEX: &'static str = "application/vnd.oci.image.index.v1+json";
    /// `application/vnd.oci.image.manifest.v1+json`
    pub const OCI_MANIFEST: &'static str = "application/vnd.oci.image.manifest.v1+json";
    /// `application/vnd.docker.distribution.manifest.list.v2+json`
    pub const DOCKER_LIST: &'static str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// `application/vnd.docker.distribution.manifest.v2+json`
    pub const DOCKER_MANIFEST: &'static str = "application/vnd.docker.distribution.manifest.v2+json";
    /// `application/vnd.oci.image.config.v1+json`
    pub const OCI_CONFIG: &'static str = "application/vnd.oci.image.config.v1+json";
    /// `application/vnd.docker.container.image.v1+json`
    pub const DOCKER_CONFIG: &'static str = "application/vnd.docker.container.image.v1+json";
    /// `application/vnd.oci.image.layer.v1.tar`
    pub const OCI_LAYER_TAR: &'static str = "application/vnd.oci.image.layer.v1.tar";
    /// A simple signature, as the bundle carries it. No registry has blobs of this type.
    pub const SIMPLE_SIGNATURE: &'static str = "application/vnd.sealift.simple-signature.v1";

    /// The media types of the documents that are carried, in the order a client asks for them.
    pub const DOCUMENTS: [&'static str; 4] =
        [Self::OCI_INDEX, Self::OCI_MANIFEST, Self::DOCKER_LIST, Self::DOCKER_MANIFEST];

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names an index or a manifest list.
    pub fn is_index(&self) -> bool {
        self.0 == Self::OCI_INDEX || self.0 == Self::DOCKER_LIST
    }

    /// Whether it names an index or an image manifest.
    pub fn is_document(&self) -> bool {
        Self::DOCUMENTS.contains(&self.0.as_str())
    }

    /// Whether it names a simple signature.
    pub fn is_simple_signature(&self) -> bool {
        self.0 == Self::SIMPLE_SIGNATURE
    }

    /// Whether it names a layer that a registry need not hold (`urls` say where it is).
    pub fn is_foreign(&self) -> bool {
        self.0.contains(".nondistributable.") || self.0.contains(".foreign.")
    }

    /// Whether it names a layer of a file system, which makes the document that has it an image that could be run.
    pub fn is_image_layer(&self) -> bool {
        self.0.contains(".image.layer.") || self.0.contains(".image.rootfs.")
    }

    /// Whether the bytes are compressed already, by what the media type says.
    pub fn is_compressed(&self) -> bool {
        ["gzip", "zstd", ".gz", "+xz", "zip"].iter().any(|s| self.0.ends_with(s))
    }
}

impl std::str::FromStr for MediaType {
    type Err = DocumentError;
    /// RFC 6838: `type/subtype` of restricted names; parameters are not accepted.
    fn from_str(text: &str) -> Result<Self, DocumentError> {
        let name = |s: &str| {
            (1..=127).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
        };
        match text.split_once('/') {
            Some((a, b)) if name(a) && name(b) => Ok(Self(text.into())),
            _ => Err(DocumentError::MediaType(OutsideText::new(text))),
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::json::string_serde!(MediaType, "MediaType", "^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+$");

/// What a document says of something it refers to (`descriptor.md`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Media type of the target.
    pub media_type: MediaType,
    /// Digest of the target.
    pub digest: Digest,
    /// Size of the target in bytes.
    pub size: u64,
    /// Where a foreign layer can be fetched.
    pub urls: Vec<OutsideText>,
}

/// An operating system and processor: `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform(String);

impl Platform {
    /// Whether this platform answers what was asked: equal, or equal but for a variant that was not asked for.
    pub fn satisfies(&self, asked: &Platform) -> bool {
        self == asked || self.0.strip_prefix(&asked.0).is_some_and(|r| r.starts_with('/') && asked.0.contains('/'))
    }
}

impl std::str::FromStr for Platform {
    type Err = DocumentError;
    fn from_str(text: &str) -> Result<Self, DocumentError> {
        let parts: Vec<_> = text.split('/').collect();
        let ok = (2..=3).contains(&parts.len())
            && parts.iter().all(|p| {
                (1..=64).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            });
        if ok { Ok(Self(text.into())) } else { Err(DocumentError::Platform(OutsideText::new(text))) }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::json::string_serde!(Platform, "Platform", "^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$");

/// One entry of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// The document it points to.
    pub descriptor: Descriptor,
    /// The platform it is for, if the index says one.
    pub platform: Option<Platform>,
}

/// A parsed index or image manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// An index or manifest list.
    Index {
        /// Its entries.
        children: Vec<Child>,
        /// What it is attached to.
        attached: Attached,
    },
    /// An image manifest; of a container image, a Helm chart, or any other artifact.
    Manifest {
        /// The configuration.
        config: Descriptor,
        /// The layers, lowest first.
        layers: Vec<Descriptor>,
        /// What it is attached to.
        attached: Attached,
    },
}

/// What a document says of itself as a referrer (image-spec 1.1, `subject` and `artifactType`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attached {
    /// The document it refers to.
    pub subject: Option<Digest>,
    /// Its own `artifactType`, or of a manifest without one the media type of its configuration.
    pub artifact_type: Option<OutsideText>,
    /// When it was made, by its annotation `org.opencontainers.image.created`, in whole seconds.
    pub created: Option<Timestamp>,
    /// The file names of its layers, by their annotations `org.opencontainers.image.title`.
    pub titles: BTreeMap<Digest, OutsideText>,
}

/// Why a document is refused.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not a media type.
    #[error("`{}` is not a media type", .0.escaped())]
    MediaType(OutsideText),
    /// Not a platform.
    #[error("`{}` is not a platform: expected os/architecture[/variant], such as linux/arm64/v8", .0.escaped())]
    Platform(OutsideText),
    /// A media type that is not carried.
    #[error("media type {0} is not one that can be carried (OCI index or manifest, Docker schema 2 list or manifest)")]
    Unsupported(MediaType),
    /// Docker's schema 1.
    #[error(
        "Docker schema 1 manifests have no fixed bytes and cannot be carried; push the image again with a current client"
    )]
    Schema1,
    /// Too large.
    #[error("the document has {size} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Not JSON, or not of the shape its media type demands.
    #[error("the document is not a valid {media_type}: {}", escape(.reason))]
    Shape {
        /// What it should be.
        media_type: MediaType,
        /// What is wrong.
        reason: String,
    },
    /// The descriptor says one media type and the document another.
    #[error("the descriptor says {expected}, the document says {}", .found.escaped())]
    Mismatch {
        /// From the descriptor or the `Content-Type`.
        expected: MediaType,
        /// From the document.
        found: OutsideText,
    },
    /// Some reader could take it for something else.
    #[error("the document is ambiguous: {}", escape(.0))]
    Ambiguous(String),
}

/// A map's keys with repetition refused, values skipped.
#[derive(Deserialize)]
struct Keys(#[serde(deserialize_with = "crate::json::unique_map")] BTreeMap<String, serde::de::IgnoredAny>);

impl Document {
    /// Parses the bytes of an index or image manifest, as the descriptor's media type demands.
    ///
    /// # Errors
    /// [`DocumentError`] says which rule the bytes break.
    pub fn parse(bytes: &[u8], media_type: &MediaType) -> Result<Self, DocumentError> {
        if bytes.len() as u64 > LIMITS.document {
            return Err(DocumentError::TooLarge { size: bytes.len() as u64, limit: LIMITS.document });
        }
        let shape = |reason: String| DocumentError::Shape { media_type: media_type.clone(), reason };
        if media_type.as_str().starts_with("application/vnd.docker.distribution.manifest.v1") {
            return Err(DocumentError::Schema1);
        }
        if !media_type.is_document() {
            return Err(DocumentError::Unsupported(media_type.clone()));
        }
        let keys: Keys = serde_json::from_slice(bytes).map_err(|e| shape(e.to_string()))?;
        unambiguous(&keys.0, media_type)?;
        let says = |found: Option<&str>| match found {
            Some(found) if found != media_type.as_str() => {
                Err(DocumentError::Mismatch { expected: media_type.clone(), found: OutsideText::new(found) })
            }
            // OCI manifests may leave it out; Docker's may not.
            None if media_type.as_str().contains("docker") => Err(shape("`mediaType` is missing".into())),
            _ => Ok(()),
        };
        let document = if media_type.is_index() {
            let index: oci::ImageIndex = serde_json::from_slice(bytes).map_err(|e| shape(e.to_string()))?;
            says(index.media_type().as_ref().map(|m| m.to_string()).as_deref())?;
            if index.schema_version() != 2 {
                return Err(shape("`schemaVersion` is not 2".into()));
            }
            let children = index.manifests().iter().map(child).collect::<Result<Vec<_>, _>>().map_err(shape)?;
            let attached =
                attached(index.subject(), index.artifact_type(), None, index.annotations()).map_err(shape)?;
            Document::Index { children, attached }
        } else {
            let manifest: oci::ImageManifest = serde_json::from_slice(bytes).map_err(|e| shape(e.to_string()))?;
            says(manifest.media_type().as_ref().map(|m| m.to_string()).as_deref())?;
            if manifest.schema_version() != 2 {
                return Err(shape("`schemaVersion` is not 2".into()));
            }
            let config = descriptor(manifest.config()).map_err(shape)?;
            let layers = manifest.layers().iter().map(descriptor).collect::<Result<Vec<_>, _>>().map_err(shape)?;
            let (subject, artifact_type, says) = (manifest.subject(), manifest.artifact_type(), manifest.annotations());
            let mut attached = attached(subject, artifact_type, Some(&config.media_type), says).map_err(shape)?;
            attached.titles = layers.iter().zip(manifest.layers()).filter_map(title).collect();
            Document::Manifest { config, layers, attached }
        };
        let count = match &document {
            Document::Index { children, .. } => children.len(),
            Document::Manifest { layers, .. } => layers.len(),
        };
        if count > LIMITS.children {
            return Err(shape(format!("{count} entries; at most {} are accepted", LIMITS.children)));
        }
        Ok(document)
    }

    /// The documents it points to (an index's entries; none for a manifest).
    pub fn children(&self) -> &[Child] {
        match self {
            Document::Index { children, .. } => children,
            Document::Manifest { .. } => &[],
        }
    }

    /// Whether it is a manifest that could be run: it has a layer of a file system, or an image's configuration and anything but
    /// statements about images (in-toto, cosign) as layers. What its index calls its platform does not count.
    pub fn may_run(&self) -> bool {
        const STATEMENTS: [&str; 3] = [
            "application/vnd.in-toto+json",
            "application/vnd.dsse.envelope.v1+json",
            "application/vnd.dev.cosign.simplesigning.v1+json",
        ];
        let Document::Manifest { config, layers, .. } = self else { return false };
        let states = |layer: &Descriptor| STATEMENTS.contains(&layer.media_type.as_str());
        let is_image = [MediaType::OCI_CONFIG, MediaType::DOCKER_CONFIG].contains(&config.media_type.as_str());
        layers.iter().any(|layer| layer.media_type.is_image_layer())
            || (is_image && (layers.is_empty() || !layers.iter().all(states)))
    }

    /// What it says of itself as a referrer.
    pub fn attached(&self) -> &Attached {
        match self {
            Document::Index { attached, .. } | Document::Manifest { attached, .. } => attached,
        }
    }
}

/// The rule of containers/image and of CVE-2021-41190: no document may be read as two kinds. Go's JSON decoder takes
/// keys of any case, so keys are compared in lower case.
fn unambiguous(keys: &BTreeMap<String, serde::de::IgnoredAny>, media_type: &MediaType) -> Result<(), DocumentError> {
    let mut seen = BTreeMap::new();
    for key in keys.keys() {
        if let Some(other) = seen.insert(key.to_lowercase(), key) {
            return Err(DocumentError::Ambiguous(format!("it has both `{other}` and `{key}`")));
        }
    }
    let forbidden: &[&str] = if media_type.is_index() {
        &["config", "layers", "fslayers", "history", "signatures"]
    } else {
        &["manifests", "fslayers", "history", "signatures"]
    };
    for key in forbidden {
        if seen.contains_key(*key) {
            return Err(DocumentError::Ambiguous(format!("a {media_type} must not have `{key}`")));
        }
    }
    Ok(())
}

fn attached(
    subject: &Option<oci::Descriptor>,
    own: &Option<oci::MediaType>,
    config: Option<&MediaType>,
    annotations: &Option<HashMap<String, String>>,
) -> Result<Attached, String> {
    let subject = subject.as_ref().map(descriptor).transpose()?.map(|d| d.digest);
    let own = own.as_ref().map(ToString::to_string).filter(|t| !t.is_empty());
    let artifact_type = own.or(config.map(ToString::to_string)).map(OutsideText::new);
    let created = annotations.as_ref().and_then(|a| a.get("org.opencontainers.image.created"));
    let created = created.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let created = created.and_then(|time| Timestamp::from_unix(time.as_second()));
    Ok(Attached { subject, artifact_type, created, titles: BTreeMap::new() })
}

fn title((layer, says): (&Descriptor, &oci::Descriptor)) -> Option<(Digest, OutsideText)> {
    let title = says.annotations().as_ref()?.get("org.opencontainers.image.title")?;
    Some((layer.digest, OutsideText::new(title)))
}

fn descriptor(d: &oci::Descriptor) -> Result<Descriptor, String> {
    let digest = d.digest().to_string().parse::<Digest>().map_err(|e| e.to_string())?;
    if d.size() > LIMITS.blob {
        return Err(format!("{digest}: {} bytes; at most {} are accepted", d.size(), LIMITS.blob));
    }
    Ok(Descriptor {
        media_type: d.media_type().to_string().parse().map_err(|e: DocumentError| e.to_string())?,
        digest,
        size: d.size(),
        urls: d.urls().iter().flatten().map(OutsideText::new).collect(),
    })
}

fn child(d: &oci::Descriptor) -> Result<Child, String> {
    let platform = match d.platform() {
        None => None,
        Some(p) => {
            let mut text = format!("{}/{}", p.os(), p.architecture());
            if let Some(variant) = p.variant().as_deref().filter(|v| !v.is_empty()) {
                text = format!("{text}/{variant}");
            }
            Some(text.parse().map_err(|e: DocumentError| e.to_string())?)
        }
    };
    Ok(Child { descriptor: descriptor(d)?, platform })
}

/// A descriptor as an OCI layout's `index.json` and a manifest that we make ourselves write it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WrittenDescriptor {
    /// Media type of the target.
    pub media_type: MediaType,
    /// Digest of the target.
    pub digest: Digest,
    /// Size of the target in bytes.
    pub size: u64,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

    fn media(text: &str) -> MediaType {
        text.parse().expect("a media type")
    }
    fn manifest(extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{D}","size":2}},"layers":[]{extra}}}"#,
            MediaType::OCI_MANIFEST
        )
    }

    #[test]
    fn a_manifest_and_an_index_are_read() {
        let d = Document::parse(manifest("").as_bytes(), &media(MediaType::OCI_MANIFEST)).expect("a manifest");
        assert!(matches!(d, Document::Manifest { ref config, .. } if config.size == 2));
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{D}","size":7,"platform":{{"os":"linux","architecture":"arm64","variant":"v8"}}}}]}}"#,
            MediaType::OCI_MANIFEST
        );
        let d = Document::parse(index.as_bytes(), &media(MediaType::OCI_INDEX)).expect("an index");
        let platform = d.children()[0].platform.clone().expect("a platform");
        assert_eq!(platform.to_string(), "linux/arm64/v8");
        assert!(platform.satisfies(&"linux/arm64".parse().expect("platform")));
        assert!(!platform.satisfies(&"linux/arm64/v7".parse().expect("platform")));
    }

    #[test]
    fn a_document_that_is_two_things_is_refused() {
        for (text, kind, why) in [
            (manifest(r#","manifests":[]"#), MediaType::OCI_MANIFEST, "manifests"),
            (manifest(r#","Layers":[]"#), MediaType::OCI_MANIFEST, "Layers"),
            (manifest(r#","layers":[]"#), MediaType::OCI_MANIFEST, "duplicate"),
            (manifest(r#","fsLayers":[]"#), MediaType::OCI_MANIFEST, "fslayers"),
            (manifest(""), MediaType::OCI_INDEX, "config"),
            (manifest(""), MediaType::DOCKER_MANIFEST, "the document says"),
            (format!("{} x", manifest("")), MediaType::OCI_MANIFEST, "trailing"),
            ("[]".into(), MediaType::OCI_MANIFEST, "invalid type"),
            ("{}".into(), "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
            ("{}".into(), "text/html", "not one that can be carried"),
        ] {
            let error = Document::parse(text.as_bytes(), &media(kind)).expect_err(&text).to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
        let huge = manifest(&format!(r#","annotations":{{"a":"{}"}}"#, "x".repeat(LIMITS.document as usize)));
        assert!(matches!(
            Document::parse(huge.as_bytes(), &media(MediaType::OCI_MANIFEST)),
            Err(DocumentError::TooLarge { .. })
        ));
    }
}

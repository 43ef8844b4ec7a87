//! The signed manifest of a bundle, `sealift/manifest.json` (docs/format.md, section 4).
//!
//! It lists everything the bundle carries. Reading is strict: no unknown or repeated key, no trailing byte, nothing that
//! contradicts itself. `extensions` is the one place where unknown keys are allowed; `requires` is read before the rest, so
//! that an old program says which version it needs instead of complaining of a key it does not know.

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

/// How a blob is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Stored {
    /// In one piece.
    Whole {
        /// The volume, from 1.
        volume: u32,
    },
    /// In parts, because it is larger than a volume: each but the last ends its volume. A writer gives such a blob volumes of
    /// its own; a reader also takes what follows the last part in the same volume.
    Parts {
        /// The volume of the first part; the others are in the volumes behind it.
        volume: u32,
        /// The sizes of the parts in bytes.
        sizes: Vec<u64>,
    },
    /// Not at all: it came with the base.
    Base,
}

impl Stored {
    /// The pieces in the bundle, in order: the volume of each, and its number from 1 with its size if it is a part.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        let (whole, first, sizes): (_, _, &[u64]) = match self {
            Self::Whole { volume } => (Some(Piece { volume: *volume, part: None }), 0, &[]),
            Self::Parts { volume, sizes } => (None, *volume, sizes),
            Self::Base => (None, 0, &[]),
        };
        let parts = (0_u32..).zip(sizes).map(move |(n, size)| {
            let part = Some(Part { number: n.saturating_add(1), size: *size });
            Piece { volume: first.saturating_add(n), part }
        });
        whole.into_iter().chain(parts)
    }

    /// The volumes of its first and last piece; `None` if it is not carried.
    pub fn volumes(&self) -> Option<(u32, u32)> {
        let first = self.pieces().next()?.volume;
        self.pieces().last().map(|last| (first, last.volume))
    }
}

/// A blob, or a part of one, in a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The volume, from 1.
    pub volume: u32,
    /// Which part it is; `None` for the whole blob.
    pub part: Option<Part>,
}

/// A part of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u32,
    /// In bytes.
    pub size: u64,
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

    fn check(&self) -> Result<(), ManifestError> {
        let wrong = |text: String| Err(ManifestError::Inconsistent(text));
        if self.images.is_empty() || self.images.len() > LIMITS.images {
            return wrong(format!("{} images; expected 1 to {}", self.images.len(), LIMITS.images));
        }
        if self.blobs.len() > LIMITS.blobs {
            return wrong(format!("{} blobs; at most {} are accepted", self.blobs.len(), LIMITS.blobs));
        }
        if self.labels.len() > LIMITS.labels {
            return wrong(format!("{} labels; at most {} are accepted", self.labels.len(), LIMITS.labels));
        }
        if self.expires.is_some_and(|e| e <= self.created) {
            return wrong("it expires before it was created".into());
        }
        let v = self.volumes;
        if v.count == 0 || v.count > LIMITS.volumes || v.admission == 0 || v.admission > v.count {
            return wrong(format!("{} volumes, {} of them for admission", v.count, v.admission));
        }
        self.check_blobs()?;
        let blobs = self.blobs_by_digest();
        let mut origins = BTreeSet::new();
        for image in &self.images {
            if !origins.insert(&image.origin) {
                return wrong(format!("{} is listed twice", image.origin));
            }
            if image.origin.digest().is_some_and(|d| *d != image.digest) {
                return wrong(format!("{} is listed with {}", image.origin, image.digest));
            }
            if !image.media_type.is_document() {
                return wrong(format!("{}: media type {}", image.origin, image.media_type));
            }
            for digest in image.platforms.iter().map(|p| &p.digest).chain([&image.digest]) {
                match blobs.get(digest) {
                    Some(b) if b.section == Section::Admission && b.media_type.is_document() => {}
                    _ => return wrong(format!("{}: {digest} is not in the admission section", image.origin)),
                }
            }
            let blob = blobs[&image.digest];
            if blob.size != image.size || blob.media_type != image.media_type {
                return wrong(format!("{}: its blob has another size or media type", image.origin));
            }
            check_attachments(image, &blobs)?;
        }
        Ok(())
    }

    fn check_blobs(&self) -> Result<(), ManifestError> {
        let wrong = |text: String| Err(ManifestError::Inconsistent(text));
        let mut seen = BTreeSet::new();
        let mut total = 0_u64;
        // The last volume that something was in, and the last of them for the admission section.
        let (mut at, mut admission) = (1_u32, 1_u32);
        let mut in_layers = false;
        for blob in &self.blobs {
            let digest = blob.digest;
            if !seen.insert(digest) {
                return wrong(format!("{digest} is listed twice"));
            }
            if blob.size > LIMITS.blob {
                return wrong(format!("{digest}: {} bytes; at most {} are accepted", blob.size, LIMITS.blob));
            }
            total = total.saturating_add(blob.size);
            let admitted = blob.section == Section::Admission;
            if admitted && in_layers {
                return wrong(format!("{digest} is out of order"));
            }
            in_layers = !admitted;
            if !admitted && blob.media_type.is_document() {
                return wrong(format!("{digest}: a {} among the layers", blob.media_type));
            }
            if admitted && blob.media_type.is_document() && blob.size > LIMITS.document {
                return wrong(format!("{digest}: {} bytes of {}", blob.size, blob.media_type));
            }
            match &blob.stored {
                Stored::Base if admitted || self.base.is_none() => {
                    return wrong(format!("{digest} is left to a base, and must not be or there is none"));
                }
                Stored::Parts { sizes, .. }
                    if sizes.len() < 2
                        || sizes.contains(&0)
                        || sizes.iter().fold(0_u64, |sum, size| sum.saturating_add(*size)) != blob.size =>
                {
                    return wrong(format!("the parts of {digest} do not make {} bytes", blob.size));
                }
                Stored::Whole { .. } | Stored::Parts { .. } | Stored::Base => {}
            }
            for piece in blob.stored.pieces() {
                // Each volume but the first begins with something new, and none is left out.
                let new = piece.part.is_some_and(|part| part.number > 1);
                if piece.volume < at + u32::from(new) || piece.volume > at + 1 || piece.volume > self.volumes.count {
                    return wrong(format!("{digest} is out of order or in a volume that does not exist"));
                }
                at = piece.volume;
            }
            if admitted {
                admission = at;
            }
        }
        if at != self.volumes.count || admission != self.volumes.admission {
            let v = self.volumes;
            return wrong(format!(
                "{} volumes, {} of them for admission, where {at} and {admission} are used",
                v.count, v.admission
            ));
        }
        if let Some(base) =
            self.base.as_ref().filter(|base| base.stream != self.stream || base.sequence >= self.sequence)
        {
            return wrong(format!(
                "its base is {} {}, which is not before it in its stream",
                base.stream, base.sequence
            ));
        }
        if self.base.is_some() && !self.blobs.iter().any(|b| b.stored == Stored::Base) {
            return wrong("it has a base, and leaves nothing to it".into());
        }
        if total > LIMITS.total {
            return wrong(format!("{total} bytes in all; at most {} are accepted", LIMITS.total));
        }
        Ok(())
    }
}

/// Signatures and referrers: listed once, in the admission section, of something that is a document.
fn check_attachments(image: &Image, blobs: &HashMap<Digest, &Blob>) -> Result<(), ManifestError> {
    let wrong = |text: String| Err(ManifestError::Inconsistent(format!("{}: {text}", image.origin)));
    let count = image.signatures.len() + image.referrers.len() + image.release.len();
    if count > LIMITS.attachments {
        return wrong(format!("{count} signatures and referrers; at most {} are accepted", LIMITS.attachments));
    }
    let admitted = |digest: &Digest| blobs.get(digest).filter(|b| b.section == Section::Admission);
    let is_document = |digest: &Digest| admitted(digest).is_some_and(|b| b.media_type.is_document());
    let (mut seen, mut subjects) = (BTreeSet::new(), BTreeMap::<_, usize>::new());
    for signature in &image.signatures {
        let digest = &signature.digest;
        match admitted(digest) {
            Some(b) if b.media_type.is_simple_signature() && b.size <= LIMITS.signature => {}
            _ => return wrong(format!("{digest} is not a simple signature of the admission section")),
        }
        if !is_document(&signature.subject) {
            return wrong(format!("{digest} signs {}, which is no document of the bundle", signature.subject));
        }
        if !seen.insert((signature.subject, *digest)) {
            return wrong(format!("the signature {digest} is listed twice"));
        }
        let of_subject = subjects.entry(signature.subject).or_default();
        *of_subject += 1;
        if *of_subject > LIMITS.lookaside_signatures {
            let limit = LIMITS.lookaside_signatures;
            return wrong(format!("{} has more than {limit} signatures", signature.subject));
        }
    }
    let mut seen = BTreeSet::new();
    for list in &image.release {
        if !seen.insert(list.manifest) {
            return wrong(format!("the release list of {} is listed twice", list.manifest));
        }
        if !image.platforms.iter().any(|p| p.digest == list.manifest) || list.layers.is_empty() {
            return wrong(format!("{} is not one of its image manifests, or has no layers", list.manifest));
        }
        if let Some(missing) = list.layers.iter().find(|layer| admitted(layer).is_none()) {
            return wrong(format!("the layer {missing} is not in the admission section"));
        }
    }
    let (mut seen, mut tags) = (BTreeSet::new(), BTreeSet::new());
    for referrer in &image.referrers {
        let digest = &referrer.digest;
        if !is_document(digest) || !is_document(&referrer.subject) || *digest == referrer.subject {
            return wrong(format!("{digest}, which refers to {}, is not in the admission section", referrer.subject));
        }
        if !seen.insert(referrer) {
            return wrong(format!("the referrer {digest} is listed twice"));
        }
        if let Some(tag) = referrer.tag
            && !tags.insert((referrer.subject, tag))
        {
            return wrong(format!(
                "two documents are listed under the tag `.{}` of {}",
                tag.suffix(),
                referrer.subject
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let digest = Digest::Sha256([7; 32]);
        let media_type: MediaType = MediaType::OCI_MANIFEST.parse().expect("a media type");
        Manifest {
            kind: ManifestType::V1,
            requires: vec![],
            bundle: BundleId::generate(),
            stream: "payments".parse().expect("a stream"),
            sequence: 42.try_into().expect("a sequence"),
            created: "2026-01-31T09:00:00Z".parse().expect("a time"),
            expires: None,
            tool: "sealift-export 0.1.0".parse().expect("a line"),
            labels: BTreeMap::new(),
            volumes: Volumes { count: 1, admission: 1 },
            base: None,
            images: vec![Image {
                asked: OutsideText::new("docker://r.example/x:1"),
                origin: "r.example/x:1".parse().expect("a reference"),
                digest,
                media_type: media_type.clone(),
                size: 10,
                platforms: vec![PlatformManifest { platform: None, digest }],
                sparse: false,
                signatures: vec![],
                referrers: vec![],
                release: vec![],
            }],
            blobs: vec![
                Blob { digest, size: 10, media_type, section: Section::Admission, stored: Stored::Whole { volume: 1 } },
                Blob {
                    digest: Digest::Sha512([9; 64]),
                    size: 1 << 40,
                    media_type: MediaType::OCI_LAYER_TAR.parse().expect("a media type"),
                    section: Section::Layers,
                    stored: Stored::Whole { volume: 1 },
                },
            ],
            extensions: BTreeMap::new(),
        }
    }

    fn refused(text: &str, why: &str) {
        let error = Manifest::parse(text.as_bytes()).expect_err(why).to_string();
        assert!(error.contains(why), "expected `{why}` in: {error}");
    }

    #[test]
    fn a_manifest_reads_back_as_written_and_type_comes_first() {
        let bytes = sample().to_bytes().expect("bytes");
        assert!(bytes.starts_with(br#"{"type":"sealift/manifest/1","requires":"#));
        assert_eq!(Manifest::parse(&bytes).expect("the same"), sample_with(&bytes));
    }

    fn sample_with(bytes: &[u8]) -> Manifest {
        serde_json::from_slice(bytes).expect("the manifest")
    }

    #[test]
    fn reading_is_strict() {
        let good = String::from_utf8(sample().to_bytes().expect("bytes")).expect("text");
        refused(&format!("{good} "), "trailing");
        refused(&format!("{good}{good}"), "trailing");
        refused(&format!(" {good}"), "first member");
        refused(&good.replacen("{\"type\"", "{\"x\":1,\"type\"", 1), "first member");
        refused(&good.replacen("manifest/1", "manifest/2", 1), "expected sealift/manifest/1");
        refused(&good.replacen("manifest/1", "receipt/1", 1), "expected sealift/manifest/1");
        refused(&good.replacen("\"stream\"", "\"stream\":\"a\",\"stream\"", 1), "duplicate field");
        refused(&good.replacen("\"stream\"", "\"strEam\":1,\"stream\"", 1), "unknown field");
        refused(&good.replacen("\"labels\":{}", "\"labels\":{\"a\":\"1\",\"a\":\"2\"}", 1), "duplicate key");
        refused(&good.replacen("\"labels\":{}", "\"labels\":{\"a\":\"\\u001b[2J\"}", 1), "printable");
        refused(&good.replacen("\"sequence\":42", "\"sequence\":0", 1), "sequence");
        refused(&good.replacen("\"sequence\":42", "\"sequence\":42.5", 1), "expected u64");
        refused(&good.replacen("\"asked\"", "\"extra\":0,\"asked\"", 1), "unknown field");
        refused(&good.replacen("{\"whole\":{\"volume\":1}}", "{\"whole\":{\"volume\":1,\"x\":1}}", 1), "unknown field");
        refused(&good.replacen("{\"whole\":{\"volume\":1}}", "{\"whole\":{\"volume\":2}}", 1), "does not exist");
        refused(&good.replacen("1099511627776", "18446744073709551615", 1), "at most");
        refused(&good.replacen("\"size\":10", "\"size\":11", 1), "another size");
        refused(&good.replacen("\"count\":1", "\"count\":10000", 1), "10000 volumes");
    }

    #[test]
    fn what_is_required_is_said_before_unknown_keys_are_complained_of() {
        let good = String::from_utf8(sample().to_bytes().expect("bytes")).expect("text");
        let newer =
            good.replacen("\"requires\":[]", "\"requires\":[{\"feature\":\"parts\",\"since\":\"0.2\"}],\"news\":1", 1);
        refused(&newer, "needs sealift >= 0.2 (feature `parts`)");
    }

    #[test]
    fn extensions_may_hold_anything() {
        let good = String::from_utf8(sample().to_bytes().expect("bytes")).expect("text");
        let extended = format!("{},\"extensions\":{{\"site\":{{\"x\":[1,2]}}}}}}", &good[..good.len() - 1]);
        assert_eq!(Manifest::parse(extended.as_bytes()).expect("accepted").extensions.len(), 1);
        let doubled = format!("{},\"extensions\":{{\"a\":1,\"a\":2}}}}", &good[..good.len() - 1]);
        refused(&doubled, "duplicate key");
    }

    #[test]
    fn a_manifest_that_contradicts_itself_is_neither_written_nor_read() {
        let broken: [fn(&mut Manifest); 8] = [
            |m| m.images.clear(),
            |m| m.images.push(m.images[0].clone()),
            |m| m.blobs.push(m.blobs[0].clone()),
            |m| m.blobs.swap(0, 1),
            |m| m.blobs.remove(0).size = 0,
            |m| m.blobs[0].section = Section::Layers,
            |m| m.expires = Some(m.created),
            |m| m.images[0].digest = Digest::Sha256([8; 32]),
        ];
        for (i, change) in broken.into_iter().enumerate() {
            let mut m = sample();
            change(&mut m);
            assert!(m.to_bytes().is_err(), "case {i} is written");
            let raw = serde_json::to_vec(&m).expect("json");
            assert!(Manifest::parse(&raw).is_err(), "case {i} is read");
        }
    }

    #[test]
    fn blobs_stand_in_volumes_one_after_the_other() {
        let layer = |n: u8, stored| Blob {
            digest: Digest::Sha256([n; 32]),
            size: 10,
            media_type: MediaType::OCI_LAYER_TAR.parse().expect("a media type"),
            section: Section::Layers,
            stored,
        };
        let whole = |volume| Stored::Whole { volume };
        let parts = |volume, sizes: &[u64]| Stored::Parts { volume, sizes: sizes.into() };
        let with = |count, layers: &[Stored]| {
            let mut m = sample();
            m.volumes.count = count;
            m.blobs.truncate(1);
            m.blobs.extend((20..).zip(layers).map(|(n, stored)| layer(n, stored.clone())));
            m
        };
        let base = || Base {
            bundle: BundleId::generate(),
            stream: "payments".parse().expect("a stream"),
            sequence: 41.try_into().expect("a sequence"),
            manifest: Digest::Sha256([8; 32]),
        };
        for (count, layers) in [
            (1, vec![whole(1)]),
            (2, vec![whole(1), whole(2), whole(2)]),
            (2, vec![whole(2)]),
            (3, vec![parts(1, &[3, 3, 4]), whole(3)]),
            (3, vec![parts(2, &[5, 5])]),
            (4, vec![whole(1), parts(1, &[5, 5]), parts(2, &[1, 1, 8]), whole(4)]),
        ] {
            let bytes = with(count, &layers).to_bytes().unwrap_or_else(|e| panic!("{layers:?}: {e}"));
            Manifest::parse(&bytes).unwrap_or_else(|e| panic!("{layers:?}: {e}"));
        }
        for (count, layers) in [
            (1, vec![whole(2)]),
            (2, vec![whole(1)]),
            (3, vec![whole(1), whole(3)]),
            (2, vec![whole(2), whole(1)]),
            (2, vec![whole(0), whole(2)]),
            (1, vec![parts(1, &[10])]),
            (2, vec![parts(1, &[5, 6])]),
            (2, vec![parts(1, &[4, 5])]),
            (3, vec![parts(1, &[10, 0, 0])]),
            (2, vec![parts(1, &[u64::MAX, 11])]),
            (2, vec![parts(1, &[3, 3, 4])]),
            (4, vec![parts(3, &[5, 5])]),
            (2, vec![whole(2), parts(1, &[5, 5])]),
            (1, vec![Stored::Base]),
        ] {
            let m = with(count, &layers);
            assert!(m.to_bytes().is_err(), "written: {count} {layers:?}");
            assert!(Manifest::parse(&serde_json::to_vec(&m).expect("json")).is_err(), "read: {count} {layers:?}");
        }
        let mut incremental = with(1, &[Stored::Base, whole(1)]);
        incremental.base = Some(base());
        let bytes = incremental.to_bytes().expect("a base");
        assert_eq!(Manifest::parse(&bytes).expect("a base").total_bytes(), 20, "what is carried");
        for (stream, sequence) in [("payments", 42), ("other", 41)] {
            let mut wrong = incremental.clone();
            let base = wrong.base.as_mut().expect("a base");
            base.stream = stream.parse().expect("a stream");
            base.sequence = sequence.try_into().expect("a sequence");
            assert!(wrong.to_bytes().is_err(), "only what came before in the stream is a base");
        }
        // Documents and configurations are always carried, and a base that nothing is left to is none.
        incremental.blobs[0].stored = Stored::Base;
        assert!(incremental.to_bytes().is_err());
        let mut idle = with(1, &[whole(1)]);
        idle.base = Some(base());
        assert!(idle.to_bytes().is_err());
        // The admission section ends where it is said to end.
        let mut wrong = with(2, &[whole(2)]);
        wrong.volumes.admission = 2;
        assert!(wrong.to_bytes().is_err());
        // A layer in front of the end of the admission section.
        let mut early = with(2, &[]);
        early.blobs.insert(0, layer(30, whole(1)));
        early.blobs[1].stored = whole(2);
        early.volumes.admission = 2;
        assert!(early.to_bytes().is_err());
    }

    /// A manifest with one image, one signature, one referrer and the list of a release.
    fn with_attachments() -> Manifest {
        let digest = |n| Digest::Sha256([n; 32]);
        let blob = |n, media_type: &str, section| Blob {
            digest: digest(n),
            size: 10,
            media_type: media_type.parse().expect("a media type"),
            section,
            stored: Stored::Whole { volume: 1 },
        };
        let mut manifest = sample();
        manifest.blobs = vec![
            blob(3, MediaType::OCI_LAYER_TAR, Section::Admission),
            blob(7, MediaType::OCI_MANIFEST, Section::Admission),
            blob(4, MediaType::SIMPLE_SIGNATURE, Section::Admission),
            blob(5, MediaType::OCI_MANIFEST, Section::Admission),
            blob(6, MediaType::OCI_LAYER_TAR, Section::Layers),
        ];
        let image = &mut manifest.images[0];
        image.signatures =
            vec![ImageSignature { subject: digest(7), digest: digest(4), found: crate::Found::Lookaside }];
        image.referrers = vec![Referrer { subject: digest(7), digest: digest(5), tag: Some(crate::DigestTag::Sig) }];
        image.release = vec![ReleaseList { manifest: digest(7), layers: vec![digest(3)] }];
        manifest
    }

    #[test]
    fn what_is_attached_is_listed_once_and_in_the_admission_section() {
        let digest = |n| Digest::Sha256([n; 32]);
        with_attachments().to_bytes().expect("a good manifest");
        type Edit = fn(&mut Image, &dyn Fn(u8) -> Digest);
        let cases: [(&str, Edit); 14] = [
            ("is not a simple signature", |i, d| i.signatures[0].digest = d(3)),
            ("is not a simple signature", |i, d| i.signatures[0].digest = d(9)),
            ("which is no document of the bundle", |i, d| i.signatures[0].subject = d(3)),
            ("which is no document of the bundle", |i, d| i.signatures[0].subject = d(9)),
            ("is listed twice", |i, _| i.signatures.push(i.signatures[0].clone())),
            ("is not in the admission section", |i, d| i.referrers[0].digest = d(6)),
            ("is not in the admission section", |i, d| i.referrers[0].subject = d(3)),
            ("is not in the admission section", |i, d| i.referrers[0].digest = d(7)),
            ("is listed twice", |i, _| i.referrers.push(i.referrers[0].clone())),
            ("two documents are listed under the tag `.sig`", |i, d| {
                i.referrers.push(Referrer { digest: d(8), ..i.referrers[0].clone() });
            }),
            ("is not one of its image manifests", |i, d| i.release[0].manifest = d(5)),
            ("or has no layers", |i, _| i.release[0].layers.clear()),
            ("is not in the admission section", |i, d| i.release[0].layers = vec![d(6)]),
            ("is listed twice", |i, _| i.release.push(i.release[0].clone())),
        ];
        for (why, edit) in cases {
            let mut manifest = with_attachments();
            if why.starts_with("two documents") {
                let mut more = manifest.blobs[3].clone();
                more.digest = digest(8);
                manifest.blobs.insert(4, more);
            }
            edit(&mut manifest.images[0], &digest);
            let error = manifest.to_bytes().expect_err(why).to_string();
            assert!(error.contains(why), "expected `{why}` in: {error}");
        }
    }

    #[test]
    fn what_is_attached_is_bounded() {
        let number = |n: u32| {
            let mut bytes = [9; 32];
            bytes[..4].copy_from_slice(&n.to_be_bytes());
            Digest::Sha256(bytes)
        };
        let mut manifest = with_attachments();
        let signature = manifest.blobs[2].clone();
        for n in 0..LIMITS.lookaside_signatures as u32 {
            manifest.blobs.insert(2, Blob { digest: number(n), ..signature.clone() });
            let image = &mut manifest.images[0];
            image.signatures.push(ImageSignature { digest: number(n), ..image.signatures[0].clone() });
        }
        let error = manifest.to_bytes().expect_err("too many for one document").to_string();
        assert!(error.contains("more than 127 signatures"), "{error}");
        let mut manifest = with_attachments();
        let image = &mut manifest.images[0];
        image.referrers = vec![image.referrers[0].clone(); LIMITS.attachments];
        let error = manifest.to_bytes().expect_err("too many in all").to_string();
        assert!(error.contains("at most 10000 are accepted"), "{error}");
    }
}

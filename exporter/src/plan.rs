//! Stage 3: what goes where, and how large it is.

use std::collections::{BTreeMap, HashMap};

use manifest_schema::manifest::{ManifestType, Stored};
use manifest_schema::{
    Blob, BundleId, Descriptor, Digest, Image, LIMITS, Manifest, OutsideText, Section, Timestamp, Volumes,
};
use serde::Serialize;

use crate::attached;
use crate::error::Error;
use crate::request::{Expiry, Request};
use crate::resolve::{Resolved, ResolvedImage};

/// A release, planned. Consumed by packing; printing it is a dry run.
#[must_use]
pub struct Plan {
    /// What was resolved; `resolved.blobs` is in the order in which the volume will hold them.
    pub(crate) resolved: Resolved,
    report: Report,
}

/// What `plan` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The release line.
    pub stream: manifest_schema::Stream,
    /// The images.
    pub images: Vec<ImageReport>,
    /// Number of blobs, each counted once.
    pub blobs: usize,
    /// Bytes of all blobs, each counted once.
    pub bytes: u64,
    /// Bytes that images share, and that are therefore carried once.
    pub shared_bytes: u64,
    /// The volumes.
    pub volumes: Vec<VolumeReport>,
}

/// One image of a plan.
#[derive(Debug, Serialize)]
pub struct ImageReport {
    /// As asked for.
    pub asked: OutsideText,
    /// The full reference.
    pub origin: manifest_schema::Reference,
    /// The digest that is carried.
    pub digest: Digest,
    /// The index's digest, if one platform was chosen from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index_digest: Option<Digest>,
    /// The digest the tag names now, if the reference pins another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag_moved_to: Option<Digest>,
    /// Platforms, as the index names them.
    pub platforms: Vec<String>,
    /// Entries of the index are left out.
    pub sparse: bool,
    /// Number of blobs.
    pub blobs: usize,
    /// Bytes of its blobs.
    pub bytes: u64,
    /// Bytes of its blobs that another image of the bundle has too.
    pub shared_bytes: u64,
    /// Signatures and referrers that travel with it. Nothing of it is judged on this side.
    pub evidence: Vec<attached::Evidence>,
}

/// One volume of a plan.
#[derive(Debug, Serialize)]
pub struct VolumeReport {
    /// From 1.
    pub number: u32,
    /// It will not be larger than this, in bytes.
    pub at_most_bytes: u64,
}

/// Plans a resolved request.
///
/// # Errors
/// If the bundle would break a limit of the format.
pub fn plan(request: &Request, mut resolved: Resolved) -> Result<Plan, Error> {
    let total = resolved.blobs.iter().fold(0_u64, |sum, b| sum.saturating_add(b.descriptor.size));
    if total > LIMITS.total || resolved.blobs.len() > LIMITS.blobs || resolved.images.len() > LIMITS.images {
        return Err(Error::TooMuch { images: resolved.images.len(), blobs: resolved.blobs.len(), bytes: total });
    }
    // A stable sort: the admission section first, otherwise in the order in which blobs were reached.
    resolved.blobs.sort_by_key(|b| b.section != Section::Admission);
    let sizes: HashMap<Digest, u64> = resolved.blobs.iter().map(|b| (b.descriptor.digest, b.descriptor.size)).collect();
    let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
    for image in &resolved.images {
        for digest in &image.blobs {
            *users.entry(*digest).or_default() += 1;
        }
    }
    let size = |digest: &Digest| sizes.get(digest).copied().unwrap_or(0);
    let images: Vec<_> = resolved
        .images
        .iter()
        .map(|image| ImageReport {
            asked: image.asked.clone(),
            origin: image.origin.clone(),
            digest: image.top.digest,
            index_digest: image.chosen_from,
            tag_moved_to: image.moved,
            platforms: image
                .chosen_platform
                .iter()
                .chain(image.platforms.iter().filter_map(|p| p.platform.as_ref()))
                .map(ToString::to_string)
                .collect(),
            sparse: image.sparse,
            blobs: image.blobs.len(),
            bytes: image.blobs.iter().map(size).sum(),
            shared_bytes: image.blobs.iter().filter(|d| users[*d] > 1).map(size).sum(),
            evidence: image.evidence.clone(),
        })
        .collect();
    let mut plan = Plan {
        report: Report {
            stream: request.stream.clone(),
            blobs: resolved.blobs.len(),
            bytes: total,
            shared_bytes: images.iter().map(|i| i.bytes).sum::<u64>().saturating_sub(total),
            images,
            volumes: Vec::new(),
        },
        resolved,
    };
    let sequence = 1.try_into().map_err(Error::Id)?;
    let sample = plan.manifest(request, BundleId::generate(), sequence, request.now)?;
    let manifest_bytes = sample.to_bytes()?.len() as u64 + 32;
    if manifest_bytes > LIMITS.manifest {
        return Err(Error::TooMuch { images: plan.report.images.len(), blobs: plan.report.blobs, bytes: total });
    }
    let at_most_bytes =
        bundle::volume_bound(manifest_bytes, sample.layout_index().len() as u64, sample.blobs.iter().map(|b| b.size));
    plan.report.volumes.push(VolumeReport { number: 1, at_most_bytes });
    Ok(plan)
}

impl Plan {
    /// What the plan says, for printing.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The manifest of this plan.
    pub(crate) fn manifest(
        &self,
        request: &Request,
        bundle: BundleId,
        sequence: manifest_schema::Sequence,
        created: Timestamp,
    ) -> Result<Manifest, Error> {
        let expires = match request.expires {
            None => None,
            Some(Expiry::At(time)) => Some(time),
            Some(Expiry::After(seconds)) => Timestamp::from_unix(created.unix().saturating_add(seconds)),
        };
        let now = Timestamp::now();
        if let Some(expires) = expires.filter(|e| *e <= now) {
            return Err(Error::Expired { expires, now });
        }
        let tool = concat!("sealift-export ", env!("CARGO_PKG_VERSION")).parse().map_err(Error::Label)?;
        Ok(Manifest {
            kind: ManifestType::V1,
            requires: Vec::new(),
            bundle,
            stream: request.stream.clone(),
            sequence,
            created,
            expires,
            tool,
            labels: request.labels.clone(),
            volumes: Volumes { count: 1, admission: 1 },
            base: None,
            images: self.resolved.images.iter().map(image).collect(),
            blobs: self.resolved.blobs.iter().map(|b| blob(&b.descriptor, b.section)).collect(),
            extensions: BTreeMap::new(),
        })
    }
}

fn image(image: &ResolvedImage) -> Image {
    Image {
        asked: image.asked.clone(),
        origin: image.origin.clone(),
        digest: image.top.digest,
        media_type: image.top.media_type.clone(),
        size: image.top.size,
        platforms: image.platforms.clone(),
        sparse: image.sparse,
        signatures: image.signatures.clone(),
        referrers: image.referrers.clone(),
        release: image.release.clone(),
    }
}

fn blob(descriptor: &Descriptor, section: Section) -> Blob {
    Blob {
        digest: descriptor.digest,
        size: descriptor.size,
        media_type: descriptor.media_type.clone(),
        section,
        stored: Stored::Whole { volume: 1 },
    }
}

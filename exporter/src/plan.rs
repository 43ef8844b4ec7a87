//! Stage 3: what goes where, and how large it is.

use std::collections::{BTreeMap, HashMap};

use bundle::VolumeBound;
use manifest_schema::manifest::ManifestType;
use manifest_schema::{
    Base, Blob, BundleId, Digest, Image, LIMITS, Manifest, OutsideText, Section, Stored, Timestamp, Volumes,
};
use registry::source::SourceRef;
use serde::Serialize;

use crate::attached;
use crate::error::Error;
use crate::layout::{Cut, Layout, PlannedMedium, PlannedVolume, ToPlace, lay_out};
use crate::media::VolumeSize;
use crate::request::{Expiry, Request};
use crate::resolve::{Resolved, ResolvedBlob, ResolvedImage};

/// A release, planned. Consumed by packing; printing it is a dry run.
#[must_use]
pub struct Plan {
    /// What was resolved; `resolved.blobs` is in the order in which the volume will hold them.
    pub(crate) resolved: Resolved,
    /// Where each of these blobs goes.
    pub(crate) layout: Layout,
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
    /// Bytes of all blobs that are carried, each counted once.
    pub bytes: u64,
    /// The base, if one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Bytes of blobs that are left to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_bytes: Option<u64>,
    /// Bytes that images share, and that are therefore carried once.
    pub shared_bytes: u64,
    /// The volumes.
    pub volumes: Vec<PlannedVolume>,
    /// The media, if the bundle is laid out on several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<PlannedMedium>,
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
    /// What its reports come to, if there is a gate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scan: Option<scan::Verdict>,
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
    let left = resolved.blobs.iter().filter(|b| left_to_base(request, b)).map(|b| b.descriptor.size).sum::<u64>();
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
            scan: image.verdict.clone(),
        })
        .collect();
    let mut plan = Plan {
        report: Report {
            stream: request.stream.clone(),
            blobs: resolved.blobs.len(),
            bytes: total - left,
            base: request.base.as_ref().map(|base| base.base.clone()),
            base_bytes: request.base.as_ref().map(|_| left),
            shared_bytes: images.iter().map(|i| i.bytes).sum::<u64>().saturating_sub(total),
            images,
            volumes: Vec::new(),
            media: Vec::new(),
        },
        layout: Layout {
            stored: vec![Stored::Whole { volume: 1 }; resolved.blobs.len()],
            volumes: vec![],
            media: vec![],
        },
        resolved,
    };
    let to_place: Vec<ToPlace> = plan
        .resolved
        .blobs
        .iter()
        .map(|b| match left_to_base(request, b) {
            true => ToPlace::Left,
            false => ToPlace::Carried(b.descriptor.size),
        })
        .collect();
    // The highest there is, and the longest to write.
    let sequence = ((1_u64 << 53) - 1).try_into().map_err(Error::Id)?;
    let mut cut =
        if request.is_stream() { Cut { volume_size: VolumeSize::Unlimited, ..request.cut } } else { request.cut };
    let recipients = request.recipients.len();
    let mut index_bytes = None;
    // How long the manifest is depends on the layout, and the layout on that.
    let mut manifest_bytes = 0;
    loop {
        let later = VolumeBound::later(recipients);
        let first = VolumeBound::first(manifest_bytes, index_bytes.unwrap_or(0), recipients);
        plan.layout = lay_out(&cut, first, later, &to_place)?;
        // Label and seal have a line or two for every volume and recovery file, on each medium.
        let sealing = (256 << 10) + 512 * plan.layout.volumes.len() as u64;
        if sealing > cut.sealing {
            cut.sealing = sealing + sealing / 4;
            continue;
        }
        let sample = plan.manifest(request, BundleId::generate(), sequence, request.now)?;
        let index = *index_bytes.get_or_insert_with(|| sample.layout_index().len() as u64);
        let needed = sample.to_bytes()?.len() as u64 + 32;
        if needed > LIMITS.manifest {
            return Err(Error::TooMuch { images: plan.report.images.len(), blobs: plan.report.blobs, bytes: total });
        }
        if needed <= manifest_bytes {
            tracing::debug!("manifest of at most {manifest_bytes} bytes, index of {index}");
            break;
        }
        manifest_bytes = needed + 1024;
    }
    plan.report.volumes = plan.layout.volumes.clone();
    plan.report.media = plan.layout.media.clone();
    Ok(plan)
}

fn left_to_base(request: &Request, blob: &ResolvedBlob) -> bool {
    request.base.as_ref().is_some_and(|base| base.has(&blob.descriptor.digest, blob.descriptor.size, blob.section))
}

impl Plan {
    /// What the plan says, for printing.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The layers of each image, as places among all layers of the manifest.
    pub(crate) fn image_layers(&self) -> Vec<Vec<usize>> {
        let layers = self.resolved.blobs.iter().filter(|b| b.section == Section::Layers);
        let places: HashMap<Digest, usize> = layers.enumerate().map(|(at, b)| (b.descriptor.digest, at)).collect();
        let of_image = |image: &ResolvedImage| {
            let mut found: Vec<usize> = image.blobs.iter().filter_map(|digest| places.get(digest).copied()).collect();
            found.sort_unstable();
            found
        };
        self.resolved.images.iter().map(of_image).collect()
    }

    fn leaves_something(&self) -> bool {
        self.layout.stored.contains(&Stored::Base)
    }

    fn volumes(&self) -> Volumes {
        let placed = self.resolved.blobs.iter().zip(&self.layout.stored);
        let admitted = placed.filter(|(b, _)| b.section == Section::Admission);
        let last = admitted.filter_map(|(_, stored)| stored.volumes()).map(|(_, last)| last).max();
        let count = self.layout.stored.iter().filter_map(Stored::volumes).map(|(_, last)| last).max();
        Volumes { count: count.unwrap_or(1), admission: last.unwrap_or(1) }
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
        Ok(Manifest {
            kind: ManifestType::V1,
            requires: Vec::new(),
            bundle,
            stream: request.stream.clone(),
            sequence,
            created,
            expires,
            tool: request.tool.clone(),
            labels: request.labels.clone(),
            volumes: self.volumes(),
            base: self.leaves_something().then(|| request.base.as_ref().map(|base| base.base.clone())).flatten(),
            images: self.resolved.images.iter().map(image).collect(),
            blobs: self.resolved.blobs.iter().zip(&self.layout.stored).map(|(b, stored)| blob(b, stored)).collect(),
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

fn blob(blob: &ResolvedBlob, stored: &Stored) -> Blob {
    Blob {
        digest: blob.descriptor.digest,
        size: blob.descriptor.size,
        media_type: blob.descriptor.media_type.clone(),
        section: blob.section,
        stored: stored.clone(),
    }
}

/// The images as they are to be asked for, each pinned to its digest.
pub(crate) fn pinned(request: &Request, report: &Report) -> Vec<String> {
    let here = std::env::current_dir().unwrap_or_default();
    let mut by_name: HashMap<&str, &ImageReport> = HashMap::new();
    for image in &report.images {
        by_name.entry(image.asked.raw()).or_insert(image);
    }
    let pin = |source: &SourceRef| {
        let asked = source.to_string();
        let found = by_name.get(asked.as_str()).copied();
        // The digest pinned is the one the reference named: the index, if one platform was chosen from it.
        found.map_or(asked, |i| {
            source.pinned(&i.index_digest.unwrap_or(i.digest), &i.origin).relative_to(&here).to_string()
        })
    };
    request.images.iter().map(pin).collect()
}

//! Stage 4: the manifest is signed, then every blob goes from its source through its digest check into its volume, in one
//! pass, without a temporary copy. Finished volumes are noted, and kept by a run that takes over.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Cursor, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use blobs::{VerifiedBytes, VerifyingReader};
use bundle::{Packer, Packing, SourceBlob, VolumeError};
use console::{Item, Progress};
use manifest_schema::{Blob, Digest, Manifest, Piece};
use registry::source::Source;
use signing::{Fingerprint, SecretKey, join_signatures};

use crate::error::Error;
use crate::layout::PlannedVolume;
use crate::plan::{Plan, pinned};
use crate::planned::{PlanSignatures, Planned, Sources};
use crate::record::{Claim, FinishedVolume};
use crate::request::Request;
use crate::resolve::{Resolved, ResolvedBlob};
use crate::seal::Sealed;
use crate::volumes::{Place, Writing, check_space, remove, take_over};

/// What label and seal need on a disk, about.
const LABEL_AND_SEAL: u64 = 1 << 20;

/// A plan whose manifest is signed.
#[must_use]
pub struct Signed {
    plan: Plan,
    manifest: Manifest,
    bytes: Vec<u8>,
    signatures: Vec<u8>,
    signers: Vec<Fingerprint>,
}

/// A bundle whose volumes are written, without a seal.
#[must_use]
pub struct Pulled {
    /// The manifest.
    pub manifest: Manifest,
    /// The digest of the manifest's bytes.
    pub manifest_digest: Digest,
    /// Who signed the manifest.
    pub signers: Vec<Fingerprint>,
    /// The medium of each volume, from 1; `None` if nothing was said of media.
    pub media: Option<Vec<u32>>,
    /// The volumes that were written now.
    pub written: BTreeMap<u32, FinishedVolume>,
    /// The folder in which they are.
    pub folder: PathBuf,
}

/// Makes the manifest and signs it with every key. A manifest that was planned before must be the same, and keeps the
/// signatures that were made over it.
///
/// # Errors
/// If a key fails, if this number was released with other content, or if the manifest is not the planned one.
pub fn sign(
    claim: &mut Claim,
    plan: Plan,
    request: &Request,
    planned: Option<&Planned>,
    keys: &[SecretKey],
    progress: &Progress,
) -> Result<Signed, Error> {
    let manifest = plan.manifest(request, claim.bundle(), claim.sequence(), claim.created())?;
    let bytes = manifest.to_bytes()?;
    if let Some(planned) = planned {
        planned.demand(&manifest, &bytes)?;
    }
    let sources = Sources::new(request, pinned(request, plan.report()));
    claim.note_manifest(sources, &manifest, &bytes, plan.image_layers(), &request.reports)?;
    // The record keeps them all: volume 1 may have to be made again, by one of several signers.
    let recorded = claim.plan()?;
    if let Some(planned) = planned {
        recorded.take_signatures(planned)?;
    }
    for key in keys {
        let _ = recorded.sign(key)?;
    }
    let mut left_out = |e: &Error| progress.warn(format_args!("a signature is left out: {}", console::chain(e)));
    let PlanSignatures { signers, signatures } = recorded.good_signatures(&mut left_out)?;
    let signatures = join_signatures(&signatures.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    Ok(Signed { plan, manifest, bytes, signatures, signers })
}

/// What is to be written.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// Every volume that is not finished yet.
    Missing,
    /// These again, of a bundle that was sealed before.
    Again(&'a [u32]),
}

/// Writes volumes.
///
/// # Errors
/// [`Error`] names the blob or the volume.
pub fn pull(
    signed: Signed,
    request: &Request,
    claim: &mut Claim,
    which: Which<'_>,
    progress: &Progress,
) -> Result<Pulled, Error> {
    let Signed { plan, manifest, bytes, signatures, signers } = signed;
    let recipients = request.recipients()?;
    let folder = match which {
        Which::Missing => claim.partial(),
        Which::Again(_) => claim.revision_partial(),
    };
    let split = !plan.layout.media.is_empty();
    let place = Place { folder: &folder, split, name: manifest.name() };
    let mut to_write: Vec<&PlannedVolume> = plan.layout.volumes.iter().collect();
    match which {
        Which::Missing => {
            take_over(claim, &place, &plan.layout.volumes, blobs::sha256(&signatures), progress)?;
            to_write.retain(|v| !claim.volumes().contains_key(&v.number));
        }
        Which::Again(numbers) => {
            remove(&folder)?;
            to_write.retain(|v| numbers.contains(&v.number));
        }
    }
    for volume in &to_write {
        let at = place.medium(volume.medium);
        std::fs::create_dir_all(&at).map_err(|source| Error::Output { path: at.clone(), source })?;
    }
    let volumes: u64 = to_write.iter().map(|v| v.at_most_bytes.saturating_add(v.recovery_bytes)).sum();
    check_space(&request.output, volumes.saturating_add(request.cut.tool).saturating_add(LABEL_AND_SEAL))?;
    let is_written = |piece: &Piece| to_write.iter().any(|v| v.number == piece.volume);
    let sizes = manifest.blobs.iter().flat_map(|b| b.stored.pieces().filter(is_written).map(move |p| (b.size, p.part)));
    progress.begin("packing", sizes.map(|(size, part)| part.map_or(size, |part| part.size)).sum());
    let resolved = plan.resolved;
    let stopped = AtomicBool::new(false);
    let puller = Puller::new(&resolved, &stopped, progress);
    let packing = Packing {
        recipients: &recipients,
        manifest: &manifest,
        manifest_bytes: &bytes,
        signature: &signatures,
        source: &puller,
    };
    let writing = Writing::new(&place, request, claim, which, to_write, blobs::sha256(&signatures), progress);
    let written = writing.write(packing, &stopped)?;
    progress.end();
    let media = split.then(|| plan.layout.volumes.iter().map(|v| v.medium).collect());
    Ok(Pulled { manifest_digest: blobs::sha256(&bytes), manifest, signers, media, written, folder })
}

/// Sends a bundle through a pipe: one volume, with the seal as its last entry.
///
/// # Errors
/// [`Error`] names the blob.
pub fn send(
    signed: Signed,
    request: &Request,
    claim: &mut Claim,
    keys: &[SecretKey],
    out: Box<dyn bundle::Output>,
    progress: &Progress,
) -> Result<Sealed, Error> {
    let Signed { plan, manifest, bytes, signatures, .. } = signed;
    let recipients = request.recipients()?;
    let manifest_digest = blobs::sha256(&bytes);
    let seal = bundle::stream_seal(&manifest, &manifest_digest);
    let sealed = keys.iter().map(|key| key.sign_detached_armored(&seal)).collect::<Result<Vec<_>, _>>()?;
    let seal_signature = join_signatures(&sealed.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    progress.begin("sending", manifest.total_bytes());
    let resolved = plan.resolved;
    let stopped = AtomicBool::new(false);
    let puller = Puller::new(&resolved, &stopped, progress);
    let packing = Packing {
        recipients: &recipients,
        manifest: &manifest,
        manifest_bytes: &bytes,
        signature: &signatures,
        source: &puller,
    };
    let mut sealed = Sealed {
        path: "-".into(),
        bundle: manifest.bundle,
        manifest: manifest_digest,
        revision: claim.revision(),
        media: None,
        volumes: vec![1],
        tool: claim.tool(),
        bytes: None,
    };
    // What was packed into a folder before can still be made again.
    let volumes = claim.sealed_volumes();
    // Before the seal leaves: from then on the number stands for this content.
    let made = Packer::new(packing, request.jobs)
        .stream(out, &seal, &seal_signature, || claim.note_sealed(&sealed, volumes))?;
    progress.end();
    sealed.bytes = Some(made.size);
    Ok(sealed)
}

/// Where the packer gets blobs from.
struct Puller<'a> {
    sources: &'a [Box<dyn Source>],
    blobs: HashMap<Digest, &'a ResolvedBlob>,
    documents: &'a HashMap<Digest, VerifiedBytes>,
    /// Something else has failed: what is under way need not go on.
    stopped: &'a AtomicBool,
    progress: &'a Progress,
}

impl<'a> Puller<'a> {
    fn new(resolved: &'a Resolved, stopped: &'a AtomicBool, progress: &'a Progress) -> Self {
        let blobs = resolved.blobs.iter().map(|b| (b.descriptor.digest, b)).collect();
        Self { sources: &resolved.sources, blobs, documents: &resolved.documents, stopped, progress }
    }
}

/// Counts for the progress display, and takes the item away at the end.
struct Counted<'a> {
    inner: Box<dyn Read + Send + 'a>,
    item: Item<'a>,
    stopped: &'a AtomicBool,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped, because something else failed"));
        }
        let n = self.inner.read(buffer)?;
        self.item.advance(n as u64);
        Ok(n)
    }
}

impl SourceBlob for Puller<'_> {
    type Error = Error;

    fn open<'s>(&'s self, blob: &Blob) -> Result<VerifyingReader<Box<dyn Read + Send + 's>>, Error> {
        let inner: Box<dyn Read + Send + 's> = match (self.documents.get(&blob.digest), self.blobs.get(&blob.digest)) {
            (Some(document), _) => Box::new(Cursor::new(document.bytes())),
            (None, Some(b)) if b.descriptor.media_type.is_document() => {
                Box::new(Cursor::new(self.sources[b.source].document(&blob.digest, blob.size)?.into_bytes()))
            }
            (None, Some(b)) => self.sources[b.source].blob(&b.descriptor)?,
            (None, None) => {
                return Err(Error::Volume(VolumeError::Corrupt(format!("{} was not planned", blob.digest))));
            }
        };
        tracing::info!("packing {} ({})", blob.digest, blob.media_type);
        let item = self.progress.item(&blob.digest.to_string(), blob.size);
        Ok(VerifyingReader::new(Box::new(Counted { inner, item, stopped: self.stopped }), blob.digest, blob.size))
    }

    fn failed(&self, blob: &Blob, source: io::Error) -> Error {
        Error::Pull { digest: blob.digest, source }
    }
}

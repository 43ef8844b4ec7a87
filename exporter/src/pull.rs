//! Stage 4: the manifest is signed, then every blob goes from its source through its digest check into its volume, in one
//! pass, without a temporary copy. Finished volumes are noted, and kept by a run that takes over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use blobs::{VerifiedBytes, VerifyingReader};
use bundle::{Folder, Packer, Packing, SourceBlob, VolumeError, medium_name, volume_name};
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
    claim.note_manifest(Sources::new(request, pinned(request, plan.report())), &manifest, &bytes)?;
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
    let puller = Puller::new(&resolved, progress);
    let packing = Packing {
        recipients: &recipients,
        manifest: &manifest,
        manifest_bytes: &bytes,
        signature: &signatures,
        source: &puller,
    };
    let mut packer = Packer::new(packing);
    let others = match which {
        Which::Missing => claim.volumes().clone(),
        Which::Again(_) => claim.sealed_volumes(),
    };
    let mut written: BTreeMap<u32, FinishedVolume> = BTreeMap::new();
    let mut last = 0;
    for volume in to_write {
        if volume.number != last + 1 {
            packer.close()?;
        }
        last = volume.number;
        let path = place.volume(volume);
        let fail = |source| Error::Output { path: path.clone(), source };
        let known: Vec<_> = others.values().chain(written.values()).flat_map(FinishedVolume::parts).collect();
        let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(fail)?;
        let made = packer.volume(volume.number, Box::new(file), &known)?;
        if made.size > volume.at_most_bytes {
            let (number, planned) = (volume.number, volume.at_most_bytes);
            return Err(Error::LargerThanPlanned { number, size: made.size, planned });
        }
        let recovery = match request.cut.recovery {
            Some(share) => crate::recovery::create(&path, share, request.cut.volume_size, progress)?,
            None => Vec::new(),
        };
        sync_folder(&place.medium(volume.medium))?;
        let held = (volume.number == 1).then(|| blobs::sha256(&signatures));
        let finished = FinishedVolume::new(made, recovery, held);
        if matches!(which, Which::Missing) {
            claim.note_volume(volume.number, finished.clone())?;
        }
        written.insert(volume.number, finished);
    }
    packer.close()?;
    drop(packer);
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
    let puller = Puller::new(&resolved, progress);
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
    let made = Packer::new(packing).stream(out, &seal, &seal_signature, || claim.note_sealed(&sealed, volumes))?;
    progress.end();
    sealed.bytes = Some(made.size);
    Ok(sealed)
}

/// Where files are written.
struct Place<'a> {
    folder: &'a Path,
    /// A folder for each medium.
    split: bool,
    /// `<stream>-<sequence>`.
    name: String,
}

impl Place<'_> {
    fn medium(&self, number: u32) -> PathBuf {
        if self.split { self.folder.join(medium_name(number)) } else { self.folder.into() }
    }

    fn volume(&self, volume: &PlannedVolume) -> PathBuf {
        self.medium(volume.medium).join(volume_name(&self.name, volume.number))
    }
}

fn remove(folder: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::Output { path: folder.into(), source: e }),
        _ => Ok(()),
    }
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|source| Error::Output { path: folder.into(), source })
}

/// Keeps the volumes of an interrupted run that are what the record says, and clears everything else away.
fn take_over(
    claim: &mut Claim,
    place: &Place<'_>,
    planned: &[PlannedVolume],
    signatures: Digest,
    progress: &Progress,
) -> Result<(), Error> {
    if !place.folder.exists() {
        return claim.keep_volumes(|_| false);
    }
    let candidates: Vec<_> =
        planned.iter().filter_map(|v| claim.volumes().get(&v.number).map(|noted| (v, noted.clone()))).collect();
    progress.begin("checking what is there", candidates.iter().map(|(_, noted)| noted.size).sum());
    let mut good = BTreeSet::new();
    let mut names: BTreeSet<PathBuf> = BTreeSet::new();
    for (volume, noted) in &candidates {
        let at = place.medium(volume.medium);
        let file = volume_name(&place.name, volume.number);
        let recovery: Vec<_> = noted.recovery().collect();
        let expected = recovery.iter().map(|f| (f.name.as_str(), f.digest)).chain([(file.as_str(), noted.digest)]);
        let is_there = Folder::open(&at).is_ok_and(|folder| {
            let mut all = expected.clone();
            all.all(|(name, digest)| {
                folder.digest_of(name, |n| progress.advance(n)).is_ok_and(|(found, _)| found == digest)
            })
        });
        // Signatures may have been added to the plan since.
        if is_there && noted.holds((volume.number == 1).then_some(signatures)) {
            good.insert(volume.number);
            names.extend(expected.map(|(name, _)| at.join(name)));
        }
    }
    progress.end();
    progress.say(format_args!(
        "taking over {}: {} of {} volumes are finished",
        place.folder.display(),
        good.len(),
        planned.len()
    ));
    claim.keep_volumes(|number| good.contains(&number))?;
    clear(place.folder, &names)
}

/// Removes every file of a folder and of the folders in it but these.
fn clear(folder: &Path, keep: &BTreeSet<PathBuf>) -> Result<(), Error> {
    let at = |source| Error::Output { path: folder.into(), source };
    for entry in std::fs::read_dir(folder).map_err(at)? {
        let entry = entry.map_err(at)?;
        let path = entry.path();
        if entry.file_type().map_err(at)?.is_dir() {
            clear(&path, keep)?;
            if !keep.iter().any(|kept| kept.starts_with(&path)) {
                std::fs::remove_dir(&path).map_err(at)?;
            }
        } else if !keep.contains(&path) {
            std::fs::remove_file(&path).map_err(at)?;
        }
    }
    Ok(())
}

/// Refuses to begin what cannot fit.
fn check_space(folder: &std::path::Path, needed: u64) -> Result<(), Error> {
    let free = bundle::free_space(folder).map_err(|source| Error::Output { path: folder.into(), source })?;
    if free < needed { Err(Error::NoSpace { path: folder.into(), needed, free }) } else { Ok(()) }
}

struct Puller<'a> {
    sources: &'a [Box<dyn Source>],
    blobs: HashMap<Digest, &'a ResolvedBlob>,
    documents: &'a HashMap<Digest, VerifiedBytes>,
    progress: &'a Progress,
}

impl<'a> Puller<'a> {
    fn new(resolved: &'a Resolved, progress: &'a Progress) -> Self {
        let blobs = resolved.blobs.iter().map(|b| (b.descriptor.digest, b)).collect();
        Self { sources: &resolved.sources, blobs, documents: &resolved.documents, progress }
    }
}

/// Counts for the progress display, and takes the item away at the end.
struct Counted<'a> {
    inner: Box<dyn Read + Send + 'a>,
    item: Item<'a>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
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
        Ok(VerifyingReader::new(Box::new(Counted { inner, item }), blob.digest, blob.size))
    }

    fn failed(&self, blob: &Blob, source: io::Error) -> Error {
        Error::Pull { digest: blob.digest, source }
    }
}

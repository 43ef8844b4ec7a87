//! Stage 4: the manifest is signed, then every blob goes from its source through its digest check into the volume, in one
//! pass, without a temporary copy.

use std::collections::HashMap;
use std::io::{self, Cursor, Read};

use blobs::{VerifiedBytes, VerifyingReader};
use bundle::{SourceBlob, VolumeError, VolumeFile, volume_name};
use console::{Item, Progress};
use manifest_schema::{Blob, Digest, Manifest};
use registry::source::Source;
use signing::{Fingerprint, SecretKey, join_signatures};

use crate::error::Error;
use crate::plan::Plan;
use crate::planned::{PlanSignatures, Planned};
use crate::record::Claim;
use crate::request::Request;
use crate::resolve::ResolvedBlob;

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
    /// The volumes.
    pub volumes: Vec<VolumeFile>,
}

/// Makes the manifest and signs it with every key. A manifest that was planned before must be the same, and keeps the
/// signatures that were made over it.
///
/// # Errors
/// If a key fails, if this number was released with other content, or if the manifest is not the planned one.
pub fn sign(
    claim: &Claim,
    mut plan: Plan,
    request: &Request,
    planned: Option<&Planned>,
    keys: &[SecretKey],
) -> Result<Signed, Error> {
    if let Some(planned) = planned {
        // What was asked for by tag is fetched by digest now, and is still called what it was called.
        for (image, said) in plan.resolved.images.iter_mut().zip(&planned.manifest().images) {
            (image.asked, image.origin) = (said.asked.clone(), said.origin.clone());
        }
    }
    let manifest = plan.manifest(request, claim.bundle(), claim.sequence(), claim.created())?;
    let bytes = manifest.to_bytes()?;
    let (mut signers, mut signatures) = (Vec::new(), Vec::new());
    if let Some(planned) = planned {
        planned.demand(&manifest, &bytes)?;
        PlanSignatures { signers, signatures } = planned.signatures()?;
    }
    claim.note_manifest(blobs::sha256(&bytes), &bytes)?;
    for key in keys {
        if !signers.contains(&key.fingerprint()) {
            signers.push(key.fingerprint());
            signatures.push(key.sign_detached_armored(&bytes)?);
        }
    }
    let signatures = join_signatures(&signatures.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    Ok(Signed { plan, manifest, bytes, signatures, signers })
}

/// Writes the volume.
///
/// # Errors
/// [`Error`] names the blob.
pub fn pull(signed: Signed, request: &Request, claim: &Claim, progress: &Progress) -> Result<Pulled, Error> {
    let Signed { plan, manifest, bytes, signatures, signers } = signed;
    let recipients = request.recipients()?;
    let folder = claim.partial();
    let at = |source| Error::Output { path: folder.clone(), source };
    match std::fs::remove_dir_all(&folder) {
        Ok(()) => progress.say(format_args!("taking over {}", folder.display())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(at(e)),
    }
    std::fs::create_dir(&folder).map_err(at)?;
    check_space(&folder, plan.report().volumes.iter().map(|v| v.at_most_bytes).sum())?;
    progress.begin("packing", manifest.total_bytes());
    let resolved = plan.resolved;
    let puller = Puller {
        sources: &resolved.sources,
        blobs: resolved.blobs.iter().map(|b| (b.descriptor.digest, b)).collect(),
        documents: &resolved.documents,
        progress,
    };
    let path = folder.join(volume_name(&manifest.name(), 1));
    let volume = bundle::write_volume(&path, &recipients, &manifest, &bytes, &signatures, &puller)?;
    progress.end();
    Ok(Pulled { manifest_digest: blobs::sha256(&bytes), manifest, signers, volumes: vec![volume] })
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

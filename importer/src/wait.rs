//! Where images wait for their promotion: in a staging registry with tags and the signatures that they had at their origin, or in
//! production with neither.

use std::collections::HashMap;

use bundle::{Head, Volumes as _};
use console::Progress;
use ledger::{EntryNumber, Ledger, Received, ReceivedImage, RecordedImage};
use manifest_schema::{Digest, OutsideText, Repository};
use serde::Serialize;
use signing::Lookaside;

use crate::access::{stamp, to_ledger};
use crate::admit::{Admitted, no_policy};
use crate::attach;
use crate::complete::Complete;
use crate::custody;
use crate::documents;
use crate::error::Error;
use crate::gate::{Scanned, rules_text};
use crate::media::{MANIFEST, SIGNATURE};
use crate::publish;
use crate::site::{Site, Stage, Staging};

/// A bundle whose images wait for their promotion, and that is in the ledger.
#[derive(Debug, Serialize)]
#[must_use]
pub struct Waiting {
    /// The ledger's entry.
    pub entry: EntryNumber,
    /// What was recorded.
    pub record: Received,
}

/// Keeps what a promotion needs of a bundle and no registry has: the signed manifest, documents, simple signatures.
///
/// # Errors
/// If the medium or the ledger fails.
pub fn keep(admitted: &Admitted<'_>, ledger: &mut Ledger) -> Result<(), Error> {
    let bundle = &admitted.bundle;
    let head = bundle.media.reading(|| {
        let file = bundle.media.volumes(false).open(1).map_err(|e| bundle.media.judge(1, e))?;
        Head::read(file, &bundle.identities).map_err(|e| bundle.media.judge(1, e.into()))
    })?;
    let found = blobs::sha256(&head.untrusted_manifest);
    if found != bundle.digest {
        return Err(Error::OtherManifest { sealed: bundle.digest, found });
    }
    ledger.keep(&admitted.subject, |keep| {
        keep(MANIFEST, &head.untrusted_manifest)?;
        keep(SIGNATURE, &head.untrusted_signature)?;
        documents::for_each_kept(bundle, |blob, bytes| Ok(keep(&blob.digest.to_string(), bytes.bytes())?))
    })
}

/// Lets the images wait, and records it.
///
/// # Errors
/// [`Error`]; running the same command again continues.
pub fn wait(
    site: &Site,
    complete: Complete<'_>,
    ledger: &mut Ledger,
    progress: &Progress,
    state: &mut String,
) -> Result<Waiting, Error> {
    let admitted = complete.admitted;
    let stage = site.stage();
    if let (Stage::Staging, Some(staging)) = (stage, site.staging()) {
        attach::attach(&admitted, progress)?;
        hand_over_signatures(&admitted, staging, progress)?;
        let says = |done, total| {
            format!(
                "nothing was published; {done} of {total} images are in staging; run the same command again to continue"
            )
        };
        let _tags = publish::move_tags(&admitted, site.jobs, &says, state)?;
    }
    let record = record(admitted, stage, progress)?;
    let entry = ledger.received(&stamp()?, record.clone())?;
    Ok(Waiting { entry, record })
}

fn record(admitted: Admitted<'_>, stage: Stage, progress: &Progress) -> Result<Received, Error> {
    let signers = admitted.bundle.manifest.signers().iter().map(|s| to_ledger(&s.fingerprint)).collect();
    let gate = rules_text(admitted.bundle.rules).map(OutsideText::whole);
    let no_policy = no_policy(admitted.bundle.rules).map(str::parse).collect::<Result<_, _>>().map_err(Error::Label)?;
    let handover = custody::records(&admitted.bundle.media.handover(), progress)?;
    let mut images = Vec::new();
    for placed in admitted.placement.images.into_iter().filter(|placed| !placed.is_skipped()) {
        let (vouched, evidence) = placed.provenance.into_record();
        let scan = placed.scanned.map(Scanned::into_record).transpose()?.flatten();
        let image = RecordedImage {
            origin: placed.image.origin,
            production: placed.production,
            digest: placed.image.digest,
            platforms: placed.image.platforms,
            vouched,
            evidence,
            scan,
        };
        images.push(ReceivedImage { image, staging: (stage == Stage::Staging).then_some(placed.destination) });
    }
    Ok(Received { subject: admitted.subject, signers, images, no_policy, handover, gate })
}

/// Puts the signatures that images had at their origin where the clusters look that pull from staging. They say the names that
/// images had there; a policy with `remapIdentity` takes them.
fn hand_over_signatures(admitted: &Admitted<'_>, staging: &Staging, progress: &Progress) -> Result<(), Error> {
    let mut wanted: HashMap<Digest, Vec<(&Repository, Digest)>> = HashMap::new();
    for placed in admitted.placement.images() {
        for signature in &placed.image.signatures {
            wanted.entry(signature.digest).or_default().push((&placed.destination.repository, signature.subject));
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    documents::for_each_kept(&admitted.bundle, |blob, bytes| {
        for (repository, subject) in wanted.get(&blob.digest).into_iter().flatten() {
            add(&staging.lookaside(repository)?, repository, subject, bytes.bytes(), progress)?;
        }
        Ok(())
    })
}

/// Adds a signature unless it is there. One that no reader would take keeps the others from being read, and is left out.
fn add(
    lookaside: &Lookaside,
    repository: &Repository,
    subject: &Digest,
    signature: &[u8],
    progress: &Progress,
) -> Result<(), Error> {
    if lookaside.read(repository, subject)?.iter().any(|there| there == signature) {
        return Ok(());
    }
    match lookaside.add(repository, subject, signature) {
        Ok(_) => Ok(()),
        Err(e @ (signing::LookasideError::NotASignature { .. } | signing::LookasideError::Full { .. })) => {
            progress.warn(format_args!("a signature of {subject} is left out: {e}"));
            Ok(())
        }
        Err(e) => Err(e.into()),
    }
}

//! Step 6: signed. A ledger entry first, then the production signature of every tag and digest.

use std::collections::BTreeSet;

use console::Progress;
use ledger::{Act, Announced, Ledger, MovedTag, RecordedSignature, Signing};
use manifest_schema::{Digest, OutsideText, Reference, Repository, Timestamp};
use registry::RepositoryClient;
use signing::Lookaside;

use crate::access::stamp;
use crate::admit::{Admitted, TagAction};
use crate::approvals::Approvals;
use crate::attach;
use crate::error::Error;
use crate::registry_signatures;
use crate::release_signatures;
use crate::scanner::Vetted;
use crate::site::Production;

/// A bundle whose images have their production signatures; no tag has moved.
#[must_use]
pub struct SignedImages<'s> {
    pub(crate) admitted: Admitted<'s>,
    pub(crate) signatures: Vec<RecordedSignature>,
    pub(crate) production: String,
    /// The approvals that counted.
    pub(crate) approvals: Approvals,
    /// The tags that were to move away from another image when the signatures were first announced.
    pub(crate) moves: Vec<MovedTag>,
}

/// Signs every image: the index and each document below it, as its production reference; in the lookaside tree, in the registry if
/// it is to keep signatures, and in the form of cosign if there is a key for that.
///
/// Signatures that are there already, by the same key for the same reference and digest, are found and kept.
///
/// # Errors
/// [`Error`] if the ledger, the key or the lookaside tree fails.
pub fn sign<'s>(
    vetted: Vetted<'s>,
    approvals: Approvals,
    production: &Production,
    ledger: &mut Ledger,
    progress: &Progress,
) -> Result<SignedImages<'s>, Error> {
    let admitted = vetted.admitted;
    for placed in admitted.placement.images.iter().filter(|p| !p.is_skipped()) {
        if *approvals.subject() != admitted.subject || !approvals.allows(&placed.production, &placed.image.digest) {
            let (production, digest) = (Box::new(placed.production.clone()), placed.image.digest);
            return Err(Error::NotAllowed { production, digest });
        }
    }
    let mut wanted: Vec<(Repository, Reference, Digest)> = Vec::new();
    let mut seen = BTreeSet::new();
    for placed in admitted.placement.images.iter().filter(|p| !p.is_skipped()) {
        let to = &placed.destination;
        let reference = Reference::tagged(to.repository.clone(), to.tag.clone());
        for digest in &placed.closure.documents {
            if seen.insert((reference.clone(), *digest)) {
                wanted.push((to.repository.clone(), reference.clone(), *digest));
            }
        }
    }
    let fingerprint = production.key.fingerprint().to_string();
    let announced = wanted
        .iter()
        .map(|(_, reference, digest)| Announced { reference: reference.clone(), digest: *digest })
        .collect();
    let entry = ledger.signing(
        &stamp()?,
        Signing {
            subject: admitted.subject.clone(),
            production: Some(fingerprint.parse().map_err(Error::LedgerName)?),
            images: announced,
            tags: moves(&admitted),
        },
    )?;
    let moves = match ledger.entry(entry)?.map(|stored| stored.entry.act) {
        Some(Act::Signing(announced)) => announced.tags,
        _ => Vec::new(),
    };
    progress.say(format_args!("signing {} images and platform manifests", wanted.len()));
    let mut signatures = Vec::new();
    for (repository, reference, digest) in wanted {
        let client = admitted.placement.client(&repository)?;
        signatures.extend(sign_document(production, client, &reference, &digest)?);
    }
    for placed in admitted.placement.images.iter().filter(|p| !p.is_skipped()) {
        if let Some(folder) = &production.release_signatures {
            release_signatures::hand_over(folder, &placed.release_signatures, progress)?;
        }
    }
    Ok(SignedImages { admitted, signatures, production: fingerprint, approvals, moves })
}

/// The tags that will move away from another image, as they were found.
fn moves(admitted: &Admitted<'_>) -> Vec<MovedTag> {
    let moved = admitted.placement.images.iter().filter_map(|placed| match placed.action {
        TagAction::Move { from } => {
            Some(MovedTag { tag: placed.destination.clone(), digest: placed.image.digest, previous: Some(from) })
        }
        TagAction::Create | TagAction::Keep | TagAction::Skip { .. } => None,
    });
    moved.collect()
}

/// Signs one document as its production reference: in the lookaside tree, in the registry if it is to keep signatures, and in the
/// form of cosign if there is a key for that. Signatures that are there already are found and kept.
///
/// # Errors
/// [`Error`] if a key, the lookaside tree or the registry fails.
pub(crate) fn sign_document(
    production: &Production,
    client: &RepositoryClient,
    reference: &Reference,
    digest: &Digest,
) -> Result<Vec<RecordedSignature>, Error> {
    let (simple, bytes) = sign_one(production, reference, digest)?;
    let mut signatures = vec![simple];
    if production.registry_signatures {
        signatures.push(registry_signatures::keep(client, reference, digest, &bytes)?);
    }
    if let Some(key) = &production.cosign {
        let signed = attach::cosign(client, key, reference, digest)?;
        let path = OutsideText::new(format!("{}:{}", reference.repository(), signed.tag));
        signatures.push(RecordedSignature {
            reference: reference.clone(),
            digest: *digest,
            path,
            file: signed.payload,
        });
    }
    Ok(signatures)
}

/// The simple signature that this production key has made, and its number.
///
/// # Errors
/// If the lookaside tree cannot be read.
pub(crate) fn find(
    production: &Production,
    reference: &Reference,
    digest: &Digest,
) -> Result<Option<(u32, Vec<u8>)>, Error> {
    let repository = reference.repository();
    let lookaside = production.lookaside(repository)?;
    let signer = production.key.fingerprint();
    Ok(lookaside.find_signature(repository, digest, reference, &signer, &production.trust)?)
}

fn sign_one(
    production: &Production,
    reference: &Reference,
    digest: &Digest,
) -> Result<(RecordedSignature, Vec<u8>), Error> {
    let repository = reference.repository();
    let (number, bytes) = match find(production, reference, digest)? {
        Some(found) => {
            tracing::info!("{reference}: {digest} is signed already");
            found
        }
        None => {
            let creator = concat!("sealift-import ", env!("CARGO_PKG_VERSION"));
            let bytes = production.key.sign_simple(reference, digest, Timestamp::now(), creator)?;
            tracing::info!("{reference}: signing {digest}");
            (production.lookaside(repository)?.add(repository, digest, &bytes)?, bytes)
        }
    };
    let path = Lookaside::path_for(repository, digest).join(format!("signature-{number}"));
    let recorded = RecordedSignature {
        reference: reference.clone(),
        digest: *digest,
        path: OutsideText::new(path.to_string_lossy()),
        file: blobs::sha256(&bytes),
    };
    Ok((recorded, bytes))
}

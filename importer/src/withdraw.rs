//! Taking an image's production signatures away. Which they are the ledger says, by the digest of each file: no key is needed, and
//! signatures of keys that have been replaced since are found too.

use std::collections::{BTreeMap, BTreeSet};

use console::Progress;
use ledger::{Announced, EntryNumber, Ledger, SignatureRow, Withdrawn};
use manifest_schema::{Digest, OutsideText, Reference, Repository, TagRef};
use serde::Serialize;

use crate::access::stamp;
use crate::attach;
use crate::error::Error;
use crate::registry_signatures;
use crate::site::{ProductionPlaces, Site};

/// What was withdrawn.
#[derive(Debug, Serialize)]
#[must_use]
pub struct Done {
    /// The ledger's entry; none if it was withdrawn before, and nothing has been signed since.
    pub entry: Option<EntryNumber>,
    /// What it is about.
    pub images: Vec<Announced>,
    /// Signatures that were taken away now.
    pub removed: usize,
    /// Signatures that registries keep themselves, and do not give up.
    pub kept: usize,
}

/// Withdraws an image: records it, then takes away the signatures of its index and of every image manifest below it. `image` is a
/// production reference: with a tag it is what that was last made to name, with a digest that under every tag of the repository.
///
/// # Errors
/// [`Error::NotPublished`] if the ledger has no such image in production; [`Error`]. Running it again finishes.
pub fn withdraw(
    site: &Site,
    ledger: &mut Ledger,
    image: &Reference,
    reason: OutsideText,
    progress: &Progress,
) -> Result<Done, Error> {
    let places = site.production_places()?;
    let signatures = known(ledger, image)?;
    let named = |s: &SignatureRow| Announced { reference: s.reference.clone(), digest: s.digest };
    let images: BTreeSet<Announced> = signatures.iter().map(named).collect();
    let images: Vec<_> = images.into_iter().collect();
    let entry = match is_withdrawn(ledger, &images)? {
        true => None,
        false => Some(ledger.withdrawn(&stamp()?, Withdrawn { images: images.clone(), reason })?),
    };
    let mut files: BTreeMap<(&Reference, Digest), BTreeSet<Digest>> = BTreeMap::new();
    for s in &signatures {
        files.entry((&s.reference, s.digest)).or_default().insert(s.file);
    }
    let (mut removed, mut kept) = (0, 0);
    for ((reference, digest), files) in files {
        removed += remove(site, &places, reference, &digest, &files, progress)?;
        kept += left(site, reference.repository(), &digest, &files, progress);
    }
    Ok(Done { entry, images, removed, kept })
}

/// The signatures of an image that is in production.
///
/// # Errors
/// [`Error::NotPublished`] if the ledger has no such image in production; or if it cannot be read.
pub fn known(ledger: &Ledger, image: &Reference) -> Result<Vec<SignatureRow>, Error> {
    let signatures = signatures(ledger, image)?;
    match signatures.is_empty() {
        true => Err(Error::NotPublished(Box::new(image.clone()))),
        false => Ok(signatures),
    }
}

/// The signatures of an image that the ledger has: of its index or image manifest, and of every image manifest below it.
fn signatures(ledger: &Ledger, image: &Reference) -> Result<Vec<SignatureRow>, Error> {
    let (repository, tag): (&Repository, _) = (image.repository(), image.tag());
    let digest = match (image.digest(), tag) {
        (Some(digest), _) => *digest,
        (None, Some(tag)) => {
            let tag = TagRef { repository: repository.clone(), tag: tag.clone() };
            match ledger.moves_of(&tag, 1)?.first() {
                Some(last) => last.digest,
                None => return Ok(Vec::new()),
            }
        }
        (None, None) => return Ok(Vec::new()),
    };
    let mut digests = BTreeSet::from([digest]);
    digests.extend(ledger.platforms_of(&digest)?);
    let mut found = Vec::new();
    for digest in digests {
        let wanted = |s: &SignatureRow| tag.is_none_or(|tag| s.reference.tag() == Some(tag));
        found.extend(ledger.signatures_in(repository, &digest)?.into_iter().filter(wanted));
    }
    Ok(found)
}

/// Whether all of them were withdrawn since they were signed last.
fn is_withdrawn(ledger: &Ledger, images: &[Announced]) -> Result<bool, Error> {
    for image in images {
        if !ledger.is_withdrawn(&image.reference, &image.digest)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How many of these signatures stay in the registry, as far as it can be asked.
fn left(site: &Site, repository: &Repository, digest: &Digest, files: &BTreeSet<Digest>, progress: &Progress) -> usize {
    registry_signatures::left(&site.registries.repository(repository), digest, files).unwrap_or_else(|e| {
        progress.warn(format_args!("{repository}: the registry may keep signatures: {e}"));
        0
    })
}

fn remove(
    site: &Site,
    places: &ProductionPlaces,
    reference: &Reference,
    digest: &Digest,
    files: &BTreeSet<Digest>,
    progress: &Progress,
) -> Result<usize, Error> {
    let repository = reference.repository();
    let lookaside = places.lookaside(repository)?;
    let simple = lookaside.remove(repository, digest, |bytes| files.contains(&blobs::sha256(bytes)))?;
    let client = site.registries.repository(repository);
    let cosign = match attach::remove_cosign(&client, digest, files) {
        Ok(removed) => removed,
        // A registry that is gone needs no signatures taken away, and one that is down must not keep the others there.
        Err(e) => {
            progress.warn(format_args!("{repository}: signatures in the form of cosign may be left: {e}"));
            0
        }
    };
    Ok(simple + cosign)
}

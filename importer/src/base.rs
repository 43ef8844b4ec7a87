//! The base of an incremental bundle: what it does not carry must be in production, proven before anything is pushed.

use std::collections::{BTreeMap, BTreeSet};

use blobs::VerifyingReader;
use console::Progress;
use ledger::{Act, Ledger, Rule, Status};
use manifest_schema::{Base, Digest, Document, LIMITS, Repository, Stored};
use registry::RepositoryClient;

use crate::admit::{Placement, subject};
use crate::authenticate::Authenticated;
use crate::config::BaseProof;
use crate::error::Error;
use crate::site::Site;

/// Blobs that the bundle leaves to its base, each with a repository that has it.
pub type Proven = BTreeMap<Digest, RepositoryClient>;

/// Proves that every blob that an image needs, and the bundle does not carry, is in production.
///
/// By default a blob counts if the ledger has the base recorded, and an image manifest of the base, fetched by digest from the
/// repository that was recorded, refers to it, and the registry has it there; or a referrer that this bundle lists, if its
/// image goes into such a repository. With [`BaseProof::Read`] it counts if it was
/// read and its digest is right, whatever the ledger knows.
///
/// # Errors
/// [`Error::UnknownBase`], [`Error::BaseLacks`] with every blob that is not there.
pub fn prove(
    site: &Site,
    ledger: Option<&Ledger>,
    bundle: &Authenticated<'_>,
    placement: &Placement,
    progress: &Progress,
) -> Result<Proven, Error> {
    let manifest = bundle.manifest.get();
    let Some(base) = &manifest.base else { return Ok(Proven::new()) };
    let users = placement.users(|closure| closure.blobs.iter());
    let left = manifest.blobs.iter().filter(|b| b.stored == Stored::Base && users.contains_key(&b.digest));
    let mut open: BTreeMap<Digest, u64> = left.map(|b| (b.digest, b.size)).collect();
    let overridden = ledger.map(|ledger| ledger.override_of(&subject(bundle), Rule::Base)).transpose()?.flatten();
    let proof = if overridden.is_some() { BaseProof::Read } else { site.base_proof };
    let published = match published(ledger, base) {
        Err(Error::UnknownBase { .. }) if proof == BaseProof::Read => Vec::new(),
        other => other?,
    };
    let mut proven = Proven::new();
    match proof {
        BaseProof::Published => {
            let repositories: BTreeSet<_> = published.iter().map(|(repository, _)| repository.clone()).collect();
            for (repository, digest) in published {
                let client = site.registries.repository(&repository);
                referred(&client, &digest, &mut open, &mut proven, 0)?;
            }
            // What is attached to an image is beside it, under the digest that it has in this bundle too.
            for placed in placement.images().iter().filter(|p| repositories.contains(&p.destination.repository)) {
                let client = site.registries.repository(&placed.destination.repository);
                for referrer in &placed.image.referrers {
                    referred(&client, &referrer.digest, &mut open, &mut proven, 0)?;
                }
            }
        }
        BaseProof::Read => {
            progress.begin("reading what the base left", open.values().sum());
            let wanted: BTreeSet<_> = users.iter().filter(|(digest, _)| open.contains_key(digest)).collect();
            let of_users = wanted.into_iter().flat_map(|(_, repositories)| repositories.iter().cloned());
            let repositories: BTreeSet<_> =
                published.into_iter().map(|(repository, _)| repository).chain(of_users).collect();
            for repository in repositories {
                let client = site.registries.repository(&repository);
                for (digest, size) in open.clone() {
                    if client.has_blob(&digest, size)? {
                        let content = client.fetch_blob(&digest, size)?;
                        let _read = VerifyingReader::new(content, digest, size).finish().map_err(Error::BaseRead)?;
                        progress.advance(size);
                        open.remove(&digest);
                        proven.insert(digest, client.clone());
                    }
                }
            }
            progress.end();
        }
    }
    if open.is_empty() {
        return Ok(proven);
    }
    let missing = open.into_keys().collect();
    Err(Error::BaseLacks { base: format!("{}-{}", base.stream, base.sequence), missing })
}

/// Whether the ledger has the base recorded, if the bundle has one; nothing is asked of a registry.
///
/// # Errors
/// [`Error::UnknownBase`].
pub fn is_recorded(ledger: &Ledger, bundle: &Authenticated<'_>) -> Result<(), Error> {
    match &bundle.manifest.get().base {
        Some(base) => published(Some(ledger), base).map(|_| ()),
        None => Ok(()),
    }
}

/// What the ledger says of the base: repository and digest of each image.
fn published(ledger: Option<&Ledger>, base: &Base) -> Result<Vec<(Repository, Digest)>, Error> {
    let unknown = || Error::UnknownBase {
        base: format!("{}-{}", base.stream, base.sequence),
        bundle: base.bundle,
        manifest: base.manifest,
    };
    let ledger = ledger.ok_or_else(unknown)?;
    let details = ledger.bundle(&base.bundle)?.ok_or_else(unknown)?;
    let is_recorded = |row: &ledger::BundleRow| row.status == Status::Recorded && row.subject.manifest == base.manifest;
    if !details.bundle.as_ref().is_some_and(is_recorded) {
        return Err(unknown());
    }
    let mut images = Vec::new();
    for entry in details.entries {
        if let Act::Recorded(recorded) | Act::Promoted(recorded) = entry.act {
            images.extend(recorded.images.into_iter().map(|i| (i.production.repository, i.digest)));
        }
    }
    Ok(images)
}

/// Looks through an image for blobs that are not proven yet.
fn referred(
    client: &RepositoryClient,
    digest: &Digest,
    open: &mut BTreeMap<Digest, u64>,
    proven: &mut Proven,
    depth: usize,
) -> Result<(), Error> {
    if open.is_empty() || depth > LIMITS.nesting {
        return Ok(());
    }
    let fetched = match client.fetch_document(digest) {
        Ok(fetched) => fetched,
        // Taken away since; what only it referred to is not proven.
        Err(registry::Error::NotFound { .. }) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let Ok(document) = Document::parse(fetched.document.bytes(), &fetched.media_type) else { return Ok(()) };
    match document {
        Document::Index { children, .. } => {
            for child in children {
                referred(client, &child.descriptor.digest, open, proven, depth + 1)?;
            }
        }
        Document::Manifest { config, layers, .. } => {
            for blob in layers.into_iter().chain([config]) {
                if open.get(&blob.digest) == Some(&blob.size) && client.has_blob(&blob.digest, blob.size)? {
                    open.remove(&blob.digest);
                    proven.insert(blob.digest, client.clone());
                }
            }
        }
    }
    Ok(())
}

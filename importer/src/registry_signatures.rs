//! Production's signatures in registries that keep signatures themselves: the extension of OpenShift's registry
//! (containers/image, `signature-protocols.md`). Whoever pulls from such a registry reads the signatures that it keeps, and no
//! lookaside tree.

use std::collections::{BTreeMap, BTreeSet};

use console::Progress;
use ledger::RecordedSignature;
use manifest_schema::{Digest, OutsideText, Reference, Repository};
use registry::RepositoryClient;

use crate::error::Error;
use crate::site::Site;

/// Whether all these registries keep signatures, if they are to. One that does, and is given none, is warned of.
///
/// # Errors
/// [`Error::KeepsNoSignatures`] names the first that does not; or if one does not answer.
pub fn check<'c>(
    wanted: bool,
    clients: impl IntoIterator<Item = &'c RepositoryClient>,
    progress: &Progress,
) -> Result<(), Error> {
    let registries: BTreeMap<&str, _> = clients.into_iter().map(|c| (c.repository().registry(), c)).collect();
    for (registry, client) in registries {
        match (wanted, client.has_signature_extension()?) {
            (true, false) => return Err(Error::KeepsNoSignatures { registry: registry.into() }),
            (false, true) => progress.warn(format_args!(
                "{registry} keeps signatures itself, so that clusters do not look at the folder for signatures: \
                 `production: {{registry_signatures: true}}` gives them to it"
            )),
            (true, true) | (false, false) => {}
        }
    }
    Ok(())
}

/// Whether the registries of these repositories keep signatures, if they are to: before a run leaves anything behind.
///
/// # Errors
/// As [`check`].
pub fn are_kept<'r>(
    site: &Site,
    repositories: impl Iterator<Item = &'r Repository>,
    progress: &Progress,
) -> Result<(), Error> {
    if !site.registry_signatures {
        return Ok(());
    }
    let clients: Vec<_> = repositories.map(|repository| site.registries.repository(repository)).collect();
    check(true, &clients, progress)
}

/// Gives the registry a signature, unless it keeps it.
///
/// # Errors
/// If the registry fails.
pub fn keep(
    client: &RepositoryClient,
    reference: &Reference,
    digest: &Digest,
    signature: &[u8],
) -> Result<RecordedSignature, Error> {
    client.put_signature(digest, signature)?;
    Ok(RecordedSignature {
        reference: reference.clone(),
        digest: *digest,
        path: OutsideText::new(path(reference.repository(), digest)),
        file: blobs::sha256(signature),
    })
}

/// Whether the registry keeps a signature.
///
/// # Errors
/// If the registry fails.
pub fn is_kept(client: &RepositoryClient, digest: &Digest, signature: &[u8]) -> Result<bool, Error> {
    Ok(client.fetch_signatures(digest)?.iter().any(|kept| kept == signature))
}

/// How many of these signatures the registry keeps. It has no way to give one up.
///
/// # Errors
/// If the registry fails.
pub fn left(client: &RepositoryClient, digest: &Digest, files: &BTreeSet<Digest>) -> Result<usize, Error> {
    match client.has_signature_extension()? {
        true => {
            let kept = client.fetch_signatures(digest)?;
            Ok(kept.iter().filter(|kept| files.contains(&blobs::sha256(kept))).count())
        }
        false => Ok(0),
    }
}

/// Where the registry keeps the signatures of a document.
fn path(repository: &Repository, digest: &Digest) -> String {
    format!("{}/extensions/v2/{}/signatures/{digest}", repository.registry(), repository.path())
}

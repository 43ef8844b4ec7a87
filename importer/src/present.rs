//! What the registry has already.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use blobs::threads;
use manifest_schema::{Blob, Digest, Repository};

use crate::admit::Placement;
use crate::error::Error;

/// Repositories, by the blob that they need or have.
pub(crate) type Users = BTreeMap<Digest, BTreeSet<Repository>>;

/// Asks every repository for every blob that it needs, several at once. Gives those that have it.
///
/// # Errors
/// If a registry does not answer as it should.
pub(crate) fn ask(
    placement: &Placement,
    users: &Users,
    blobs: &HashMap<Digest, &Blob>,
    jobs: usize,
) -> Result<Users, Error> {
    let wanted = users.iter().filter_map(|(digest, repositories)| Some((blobs.get(digest)?, repositories)));
    let wanted: Vec<_> = wanted.flat_map(|(blob, repositories)| repositories.iter().map(move |r| (blob, r))).collect();
    let present = Mutex::new(Users::new());
    threads::for_each(jobs, wanted, |(blob, repository)| {
        if placement.client(repository)?.has_blob(&blob.digest, blob.size)? {
            let mut present = present.lock().unwrap_or_else(PoisonError::into_inner);
            present.entry(blob.digest).or_default().insert(repository.clone());
        }
        Ok::<_, Error>(())
    })?;
    Ok(present.into_inner().unwrap_or_else(PoisonError::into_inner))
}

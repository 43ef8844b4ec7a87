//! Step 5: complete. Every blob is asked for again, then the documents go in by digest, children first. No tag yet.

use console::Progress;
use manifest_schema::Repository;

use crate::admit::Admitted;
use crate::documents::for_each_document_at_once;
use crate::error::Error;
use crate::present;
use crate::push::Pushed;

/// A bundle of which everything but signatures and tags is in the registry.
#[must_use]
pub struct Complete<'s> {
    pub(crate) admitted: Admitted<'s>,
}

/// Asks for every blob again, and pushes image manifests and indexes by digest.
///
/// # Errors
/// [`Error::Lost`] if the registry no longer has a blob; otherwise what failed.
pub fn complete<'s>(pushed: Pushed<'s>, jobs: usize, progress: &Progress) -> Result<Complete<'s>, Error> {
    let admitted = pushed.admitted;
    let placement = &admitted.placement;
    let sizes = admitted.bundle.manifest.get().blobs_by_digest();
    let needed = placement.users(|closure| closure.blobs.iter());
    let present = present::ask(placement, &needed, &sizes, jobs)?;
    for (digest, repositories) in &needed {
        let has = |repository: &&Repository| present.get(digest).is_some_and(|has| has.contains(*repository));
        if let Some(repository) = repositories.iter().find(|repository| !has(repository)) {
            return Err(Error::Lost { digest: *digest, repository: repository.clone() });
        }
    }
    progress.say("pushing image manifests");
    let users = placement.users(|closure| closure.documents.iter().chain(&closure.attached));
    for_each_document_at_once(&admitted.bundle, jobs, |blob, document| {
        for repository in users.get(&blob.digest).into_iter().flatten() {
            let client = placement.client(repository)?;
            if !client.has_document(&blob.digest)? {
                let _pushed = client.push_document(document, &blob.media_type)?;
            }
        }
        Ok(())
    })?;
    Ok(Complete { admitted })
}

//! Step 5: complete. Every blob is asked for again, then the documents go in by digest, children first. No tag yet.

use console::Progress;

use crate::admit::{Admitted, for_each_document};
use crate::error::Error;
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
pub fn complete<'s>(pushed: Pushed<'s>, progress: &Progress) -> Result<Complete<'s>, Error> {
    let admitted = pushed.admitted;
    let placement = &admitted.placement;
    let sizes = admitted.bundle.manifest.get().blobs_by_digest();
    for (digest, repositories) in placement.users(|closure| closure.blobs.iter()) {
        let size = sizes.get(&digest).map_or(0, |b| b.size);
        for repository in repositories {
            if !placement.client(&repository)?.has_blob(&digest, size)? {
                return Err(Error::Lost { digest, repository });
            }
        }
    }
    progress.say("pushing image manifests");
    let users = placement.users(|closure| closure.documents.iter().chain(&closure.attached));
    for_each_document(&admitted.bundle, |blob, document| {
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

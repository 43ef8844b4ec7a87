//! Step 7: published. Tags move, last.

use std::collections::HashMap;

use console::Progress;
use ledger::MovedTag;
use manifest_schema::Digest;

use crate::admit::{Placed, TagAction, for_each_document};
use crate::attach;
use crate::error::Error;
use crate::sign::SignedImages;

/// A bundle whose images can be pulled by tag.
#[must_use]
pub struct Published<'s> {
    pub(crate) signed: SignedImages<'s>,
    pub(crate) tags: Vec<MovedTag>,
}

/// Makes what is attached to the images findable, then moves the tags. All are asked for once more before the first moves, and each again before it does: what changed since
/// admission is refused, not overwritten.
///
/// # Errors
/// [`Error::TagMoved`] if somebody else moved a tag meanwhile; otherwise what failed.
pub fn publish<'s>(signed: SignedImages<'s>, progress: &Progress, state: &mut String) -> Result<Published<'s>, Error> {
    let placement = &signed.admitted.placement;
    let mut images: HashMap<Digest, Vec<&Placed>> = HashMap::new();
    for placed in placement.images.iter().filter(|p| !p.is_skipped()) {
        images.entry(placed.image.digest).or_default().push(placed);
    }
    let total: usize = images.values().map(Vec::len).sum();
    for placed in images.values().flatten() {
        unmoved(placed, placement.client(&placed.destination.repository)?.head_tag(&placed.destination.tag)?)?;
    }
    attach::attach(&signed.admitted, progress)?;
    *state = format!("0 of {total} images published, all are signed; run the same command again to continue");
    let mut done = 0;
    let mut tags = Vec::new();
    for_each_document(&signed.admitted.bundle, |blob, document| {
        for placed in images.get(&blob.digest).into_iter().flatten() {
            let to = &placed.destination;
            let client = placement.client(&to.repository)?;
            let now = client.head_tag(&to.tag)?;
            let previous = unmoved(placed, now)?;
            if now != Some(blob.digest) {
                client.push_tag(&to.tag, document, &blob.media_type)?;
                tracing::info!("{to} names {}", blob.digest);
            }
            // Two origins may have one tag.
            if !tags.iter().any(|moved: &MovedTag| moved.tag == *to) {
                tags.push(MovedTag { tag: to.clone(), digest: blob.digest, previous });
            }
            done += 1;
            *state = format!("{done} of {total} images published; run the same command again to continue");
        }
        Ok(())
    })?;
    progress.say(format_args!("{total} images published"));
    Ok(Published { signed, tags })
}

/// What the tag named before, if it is moved; refused if it names what it did not name at admission.
fn unmoved(placed: &Placed, now: Option<Digest>) -> Result<Option<Digest>, Error> {
    match (&placed.action, now) {
        (_, None) => Ok(None),
        (_, Some(now)) if now == placed.image.digest => Ok(None),
        (TagAction::Move { from }, Some(now)) if now == *from => Ok(Some(now)),
        (_, Some(names)) => Err(Error::TagMoved { tag: Box::new(placed.destination.clone()), names }),
    }
}

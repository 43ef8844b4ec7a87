//! Step 7: published. Tags move, last.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use blobs::threads;
use console::Progress;
use ledger::MovedTag;
use manifest_schema::{Digest, TagRef};

use crate::admit::{Admitted, Placed, TagAction};
use crate::attach;
use crate::documents::for_each_document_at_once;
use crate::error::Error;
use crate::sign::SignedImages;

/// A bundle whose images can be pulled by tag.
#[must_use]
pub struct Published<'s> {
    pub(crate) signed: SignedImages<'s>,
    pub(crate) tags: Vec<MovedTag>,
}

/// Makes what is attached to the images findable, then moves the tags.
///
/// # Errors
/// As [`move_tags`]; otherwise what failed.
pub fn publish<'s>(
    signed: SignedImages<'s>,
    jobs: usize,
    progress: &Progress,
    state: &mut String,
) -> Result<Published<'s>, Error> {
    let says = |done, total| {
        let rest = if done == 0 { ", all are signed" } else { "" };
        format!("{done} of {total} images published{rest}; run the same command again to continue")
    };
    // All of them before the first moves.
    unmoved_all(&signed.admitted, jobs)?;
    attach::attach(&signed.admitted, progress)?;
    let mut tags = move_tags(&signed.admitted, jobs, &says, state)?;
    for tag in tags.iter_mut().filter(|tag| tag.previous.is_none()) {
        // An earlier run may have moved it: what it named before that was announced.
        let announced = signed.moves.iter().find(|m| m.tag == tag.tag && m.digest == tag.digest);
        tag.previous = announced.and_then(|m| m.previous);
    }
    progress.say(format_args!("{} images published", published(&signed.admitted).count()));
    Ok(Published { signed, tags })
}

fn published<'a>(admitted: &'a Admitted<'_>) -> impl Iterator<Item = &'a Placed> {
    admitted.placement.images.iter().filter(|p| !p.is_skipped())
}

fn unmoved_all(admitted: &Admitted<'_>, jobs: usize) -> Result<(), Error> {
    threads::for_each(jobs, published(admitted).collect::<Vec<_>>(), |placed| {
        let client = admitted.placement.client(&placed.destination.repository)?;
        unmoved(placed, client.head_tag(&placed.destination.tag)?).map(|_| ())
    })
}

/// Moves the tags. Each is asked for again before it moves: what changed since admission is refused, not overwritten. `says`
/// gives the state of the world for so many tags done, of how many.
///
/// # Errors
/// [`Error::TagMoved`] if somebody else moved a tag meanwhile; otherwise what failed.
pub fn move_tags(
    admitted: &Admitted<'_>,
    jobs: usize,
    says: &dyn Fn(usize, usize) -> String,
    state: &mut String,
) -> Result<Vec<MovedTag>, Error> {
    let placement = &admitted.placement;
    let mut images: HashMap<Digest, Vec<&Placed>> = HashMap::new();
    for placed in published(admitted) {
        images.entry(placed.image.digest).or_default().push(placed);
    }
    let total: usize = images.values().map(Vec::len).sum();
    *state = says(0, total);
    // Two origins may have one tag.
    let moved: Mutex<(usize, BTreeMap<TagRef, MovedTag>)> = Mutex::default();
    let publishing = for_each_document_at_once(&admitted.bundle, jobs, |blob, document| {
        for placed in images.get(&blob.digest).into_iter().flatten() {
            let to = &placed.destination;
            let client = placement.client(&to.repository)?;
            let now = client.head_tag(&to.tag)?;
            let previous = unmoved(placed, now)?;
            if now != Some(blob.digest) {
                client.push_tag(&to.tag, document, &blob.media_type)?;
                tracing::info!("{to} names {}", blob.digest);
            }
            let mut moved = moved.lock().unwrap_or_else(PoisonError::into_inner);
            let tag = MovedTag { tag: to.clone(), digest: blob.digest, previous };
            moved.1.entry(to.clone()).or_insert(tag);
            moved.0 += 1;
        }
        Ok(())
    });
    let (done, tags) = moved.into_inner().unwrap_or_else(PoisonError::into_inner);
    *state = says(done, total);
    publishing?;
    Ok(tags.into_values().collect())
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

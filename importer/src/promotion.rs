//! Which of the images that wait are promoted.

use std::collections::BTreeSet;

use ledger::{Act, BundleRow, Filter, Ledger, Received, ReceivedImage, Status, Subject};
use manifest_schema::{BundleId, Digest, OutsideText, Sequence, Stream, TagRef};

use crate::error::Error;
use crate::record::{Before, Rest};

/// What is asked to be promoted: a bundle, or some of its images.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The bundle.
    pub subject: Subject,
    /// Production references; all that still wait if there are none.
    pub images: BTreeSet<TagRef>,
}

impl Asked {
    /// What these names ask for: bundle ids, `<stream>-<sequence>`, or production references of images that wait. Each bundle
    /// once, the oldest first.
    ///
    /// # Errors
    /// [`Error::NothingWaits`]; or if the ledger fails.
    pub fn of(ledger: &Ledger, names: &[String]) -> Result<Vec<Self>, Error> {
        let mut all: Vec<Self> = Vec::new();
        for name in names {
            let nothing = || Error::NothingWaits(OutsideText::new(name));
            let (row, image) = match bundle(ledger, name)? {
                Some(row) => (row, None),
                None => {
                    let image: TagRef = name.parse().map_err(|_| nothing())?;
                    (waiting_for(ledger, &image)?.ok_or_else(nothing)?, Some(image))
                }
            };
            let place = all.iter().position(|asked| asked.subject == row.subject);
            match (place, image) {
                // The whole bundle is more than one image of it.
                (Some(place), None) => all[place].images.clear(),
                (Some(place), Some(_)) if all[place].images.is_empty() => {}
                (Some(place), Some(image)) => {
                    all[place].images.insert(image);
                }
                (None, image) => all.push(Self { subject: row.subject, images: image.into_iter().collect() }),
            }
        }
        all.sort_by(|a, b| (&a.subject.stream, a.subject.sequence).cmp(&(&b.subject.stream, b.subject.sequence)));
        Ok(all)
    }
}

/// The bundle with an id, or `<stream>-<sequence>`; `None` if the name is no such name, or nothing has it.
///
/// # Errors
/// If the ledger fails.
pub fn bundle(ledger: &Ledger, name: &str) -> Result<Option<BundleRow>, Error> {
    if let Ok(id) = name.parse::<BundleId>() {
        return Ok(ledger.bundle(&id)?.and_then(|details| details.bundle));
    }
    let numbered = name.rsplit_once('-').and_then(|(stream, sequence)| {
        Some((stream.parse::<Stream>().ok()?, Sequence::try_from(sequence.parse::<u64>().ok()?).ok()?))
    });
    match numbered {
        Some((stream, sequence)) => Ok(ledger.state_of(&stream, sequence)?),
        None => Ok(None),
    }
}

/// What the ledger says if all that is asked for is in production.
///
/// # Errors
/// If the ledger fails.
pub fn before(ledger: &Ledger, asked: &Asked) -> Result<Option<Before>, Error> {
    let row = ledger.state_of(&asked.subject.stream, asked.subject.sequence)?;
    let Some(at) = row.filter(|row| row.subject == asked.subject).and_then(|row| row.recorded) else { return Ok(None) };
    let (subject, at, entry) = (asked.subject.clone(), at.time, at.entry);
    Ok(Some(Before { subject, at, entry }))
}

/// The newest bundle of which an image waits to go to a place in production.
fn waiting_for(ledger: &Ledger, image: &TagRef) -> Result<Option<BundleRow>, Error> {
    const PAGE: u32 = 1000;
    let mut before = None;
    loop {
        let page = ledger.bundles(&Filter { before, limit: PAGE, ..Filter::default() })?;
        let Some(last) = page.last().map(|row| row.begun.entry) else { return Ok(None) };
        for row in page {
            let waits = matches!(row.status, Status::Received | Status::Signing | Status::Promoted);
            if waits
                && let Some(received) = received(ledger, &row.subject)?
                && received.images.iter().any(|waits| waits.image.production == *image)
            {
                return Ok(Some(row));
            }
        }
        before = Some(last);
    }
}

/// What the ledger says of a bundle that was received to wait.
///
/// # Errors
/// If the ledger fails.
pub fn received(ledger: &Ledger, subject: &Subject) -> Result<Option<Received>, Error> {
    match ledger.received_entry(&subject.bundle)?.map(|stored| stored.entry.act) {
        Some(Act::Received(received)) if received.subject == *subject => Ok(Some(received)),
        _ => Ok(None),
    }
}

/// The images that are promoted now.
#[derive(Debug)]
#[must_use]
pub struct Promotion {
    /// Their production references.
    pub images: BTreeSet<TagRef>,
    /// What waits on.
    pub rest: Rest,
}

impl Promotion {
    /// What is to be signed: each image's production reference and digest.
    pub fn wanted(&self, received: &Received) -> Vec<(TagRef, Digest)> {
        let of = |waits: &ReceivedImage| (waits.image.production.clone(), waits.image.digest);
        received.images.iter().map(of).filter(|(production, _)| self.images.contains(production)).collect()
    }

    /// Of the images that still wait those that are asked for.
    ///
    /// # Errors
    /// [`Error::NothingWaits`] if one that is asked for does not wait, or none does.
    pub fn of(ledger: &Ledger, received: &Received, asked: &Asked) -> Result<Self, Error> {
        let mut waiting: BTreeSet<TagRef> =
            received.images.iter().map(|waits| waits.image.production.clone()).collect();
        for entry in ledger.bundle(&received.subject.bundle)?.into_iter().flat_map(|details| details.entries) {
            if let Act::Promoted(done) | Act::Recorded(done) = entry.act {
                done.images.iter().for_each(|image| {
                    waiting.remove(&image.production);
                });
                done.skipped.iter().for_each(|tag| {
                    waiting.remove(tag);
                });
            }
        }
        if let Some(other) = asked.images.iter().find(|image| !waiting.contains(image)) {
            return Err(Error::NothingWaits(OutsideText::new(other.to_string())));
        }
        let images = if asked.images.is_empty() { waiting.clone() } else { asked.images.clone() };
        if images.is_empty() {
            return Err(Error::NothingWaits(OutsideText::new(received.subject.bundle.to_string())));
        }
        let rest = if images.len() == waiting.len() { Rest::Nothing } else { Rest::Waits };
        Ok(Self { images, rest })
    }
}

//! Steps 0 and 1: sealed, opened.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use bundle::{Head, Identities, Volumes as _};
use manifest_schema::Stream;

use crate::error::Error;
use crate::media::{Folders, Media, Piped, SealedAs, Wait};
use crate::site::{Site, StreamRules};

/// A bundle whose seals are signed by the release certificates of a configured stream.
#[must_use]
pub struct Sealed<'s> {
    pub(crate) folders: Arc<Folders<'s>>,
}

/// A bundle of which volume 1 could be opened. age names no sender: nothing inside is believed yet.
#[must_use]
pub struct Opened<'s> {
    pub(crate) media: Media<'s>,
    /// What the seals say; of a stream nothing, for its seal comes last.
    pub(crate) sealed: Option<(SealedAs, Stream, &'s StreamRules)>,
    pub(crate) site: &'s Site,
    pub(crate) identities: Identities,
    pub(crate) head: Head,
}

/// Step 0: judges the seal of each folder. No volume is opened before.
///
/// # Errors
/// [`Error`] if there is no seal, its stream is not configured, its signature does not count, a folder holds what a
/// bundle does not have, or the folders are of several bundles.
pub fn seal<'s>(site: &'s Site, paths: &[PathBuf], wait: Box<dyn Wait>) -> Result<Sealed<'s>, Error> {
    Ok(Sealed { folders: Arc::new(Folders::open(site, paths, wait)?) })
}

impl<'s> Sealed<'s> {
    /// Whether this very bundle was received before: it is recorded in the ledger, or waits for its promotion.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub fn is_recorded(&self, site: &Site) -> Result<bool, Error> {
        let Some(ledger) = site.read_ledger()? else { return Ok(false) };
        let row = ledger.state_of(&self.folders.stream, self.folders.sequence)?;
        let same = |row: ledger::BundleRow| {
            use ledger::Status::{Promoted, Received, Recorded};
            row.subject.manifest == self.folders.sealed.manifest && matches!(row.status, Received | Promoted | Recorded)
        };
        Ok(row.is_some_and(same))
    }

    /// Step 1: opens volume 1.
    ///
    /// # Errors
    /// [`Error`] if no identity fits, or the volume is damaged.
    pub fn open(self, site: &'s Site, identities: &Identities) -> Result<Opened<'s>, Error> {
        let folders = self.folders;
        folders.check_here()?;
        let sealed = Some((folders.sealed.clone(), folders.stream.clone(), folders.rules));
        let media = Media::Folders(folders);
        let head = media.reading(|| {
            let file = media.volumes(false).open(1).map_err(|e| media.judge(1, e))?;
            Head::read(file, identities).map_err(|e| media.judge(1, e.into()))
        })?;
        Ok(Opened { identities: identities.clone(), head, media, sealed, site })
    }
}

/// Step 1 of a bundle that comes through a pipe. Its seal is its last entry, and nothing is signed or published before.
///
/// # Errors
/// [`Error`] if no identity fits, or the stream is no bundle.
pub fn stream<'s>(site: &'s Site, input: Box<dyn Read + Send>, identities: &Identities) -> Result<Opened<'s>, Error> {
    let piped = Piped::new(input)?;
    let first = piped.open(false);
    let media = Media::Piped(piped);
    let head = Head::read(first, identities).map_err(|e| media.judge(1, e.into()))?;
    Ok(Opened { identities: identities.clone(), head, media, sealed: None, site })
}

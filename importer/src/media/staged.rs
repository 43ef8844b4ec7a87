//! A bundle that waits for its promotion. What admission needs was kept in the ledger's file when it was received; everything
//! else is in the registry where it waits. Both are believed as little as a medium: all of it is checked again, against the
//! manifest's signature and by digest.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use blobs::VerifyingReader;
use ledger::{Ledger, Received, Subject};
use manifest_schema::{Blob, Manifest, Reference, Repository, Section, TagRef, Timestamp};
use registry::RepositoryClient;

use crate::error::Error;
use crate::evidence::Evidence;
use crate::reading::Stop;
use crate::site::Site;

/// The names that the manifest and its signature are kept under; blobs are kept under their digests.
pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const SIGNATURE: &str = "manifest.json.asc";

/// Whether a blob is kept while its bundle waits: what no registry has, and the documents.
pub(crate) fn is_kept(blob: &Blob) -> bool {
    Evidence::wants(blob) && (blob.media_type.is_document() || blob.media_type.is_simple_signature())
}

/// A bundle that waits.
pub struct Staged {
    /// Opened for reading.
    ledger: Mutex<Ledger>,
    subject: Subject,
    /// When it was received, by the ledger.
    received: Timestamp,
    /// Where each image is to go, and where it waits.
    places: BTreeMap<Reference, (TagRef, TagRef)>,
    /// The repositories where images wait.
    clients: BTreeMap<Repository, RepositoryClient>,
}

impl Staged {
    /// The bundle that an entry of the ledger says is waiting.
    ///
    /// # Errors
    /// [`Error::NothingWaits`] if none says so; or if the ledger cannot be read.
    pub fn open(site: &Site, subject: &Subject) -> Result<(Self, Received), Error> {
        let ledger = site.ledger()?.read()?;
        let nothing = || Error::NothingWaits(manifest_schema::OutsideText::new(subject.bundle.to_string()));
        let entry = ledger.received_entry(&subject.bundle)?.ok_or_else(nothing)?.entry;
        let ledger::Act::Received(received) = entry.act else { return Err(nothing()) };
        let place = |waits: &ledger::ReceivedImage| {
            let production = waits.image.production.clone();
            let waits_at = waits.staging.clone().unwrap_or_else(|| production.clone());
            (waits.image.origin.clone(), (production, waits_at))
        };
        let places: BTreeMap<_, _> = received.images.iter().map(place).collect();
        let client = |(_, at): &(TagRef, TagRef)| (at.repository.clone(), site.registries.repository(&at.repository));
        let clients = places.values().map(client).collect();
        let (subject, received_at) = (received.subject.clone(), entry.time);
        Ok((Self { ledger: Mutex::new(ledger), subject, received: received_at, places, clients }, received))
    }

    /// When the bundle was received, by this site's own record.
    pub fn received(&self) -> Timestamp {
        self.received
    }

    /// Where an image is to go, as was recorded when it was received.
    pub fn production(&self, origin: &Reference) -> Option<&TagRef> {
        self.places.get(origin).map(|(production, _)| production)
    }

    /// The repository where an image waits.
    pub fn waits_at(&self, origin: &Reference) -> Option<&RepositoryClient> {
        self.places.get(origin).and_then(|(_, at)| self.clients.get(&at.repository))
    }

    /// A small file that was kept.
    ///
    /// # Errors
    /// [`Error::NotKept`]; or if the ledger cannot be read.
    pub fn kept(&self, name: &str) -> Result<Vec<u8>, Error> {
        let found = self.ledger.lock().unwrap_or_else(PoisonError::into_inner).kept(&self.subject, name)?;
        found.ok_or_else(|| Error::NotKept { bundle: self.subject.bundle, what: name.into(), source: None })
    }

    /// Shows every blob of the admission section. What is read of one is checked against its digest; what is not read is not
    /// fetched.
    pub(crate) fn each_admitted(
        &self,
        manifest: &Manifest,
        mut look: impl FnMut(&Blob, &mut dyn Read) -> Result<(), Stop>,
    ) -> Result<(), Error> {
        for blob in manifest.blobs.iter().filter(|blob| blob.section == Section::Admission) {
            let opened = Cell::new(false);
            let lazy = Lazy { staged: self, blob, opened: &opened, reader: None };
            let mut content = VerifyingReader::new(lazy, blob.digest, blob.size);
            let looked = look(blob, &mut content).and_then(|()| match opened.get() {
                true => content.finish().map(|_| ()).map_err(Stop::Content),
                false => Ok(()),
            });
            looked.map_err(|stop| match stop {
                Stop::Ours(e) => *e,
                Stop::Content(e) => self.judge(blob.digest.to_string(), e),
            })?;
        }
        Ok(())
    }

    /// What an error from reading means.
    pub(crate) fn judge(&self, what: String, error: io::Error) -> Error {
        match error.downcast::<Error>() {
            Ok(ours) => ours,
            Err(source) => Error::NotKept { bundle: self.subject.bundle, what, source: Some(source) },
        }
    }

    fn content(&self, blob: &Blob) -> Result<Box<dyn Read + Send>, Error> {
        if is_kept(blob) {
            return Ok(Box::new(io::Cursor::new(self.kept(&blob.digest.to_string())?)));
        }
        for client in self.clients.values() {
            if client.has_blob(&blob.digest, blob.size)? {
                return Ok(client.fetch_blob(&blob.digest, blob.size)?);
            }
        }
        Err(Error::NotKept { bundle: self.subject.bundle, what: blob.digest.to_string(), source: None })
    }
}

/// A blob that is fetched when it is first read.
struct Lazy<'a> {
    staged: &'a Staged,
    blob: &'a Blob,
    opened: &'a Cell<bool>,
    reader: Option<Box<dyn Read + Send>>,
}

impl Read for Lazy<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.opened.set(true);
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => self.reader.insert(self.staged.content(self.blob).map_err(io::Error::other)?),
        };
        reader.read(buffer)
    }
}

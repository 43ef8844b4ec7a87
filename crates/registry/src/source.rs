//! Where images are taken from: registries, OCI layouts, archives.
//!
//! A [`SourceRef`] is what a person asked for. Opening it gives a [`Source`], which reads one image: its top document
//! once, then child documents and blobs by digest.
//!
//! What comes from a source may be hostile; this is the list of attacks and what answers each:
//!
//! | attack | answer |
//! |---|---|
//! | content that is not what its digest promises | documents are [`VerifiedBytes`]; whoever reads a blob wraps it in a `VerifyingReader` |
//! | a document of one kind offered as another | `Document::parse` of every top document, by the media type offered |
//! | links, pipes and devices in a layout | `layout.rs`: every part of a path is opened without following links |
//! | names that lead elsewhere, two entries of one name, endless headers in an archive | `source/tar_index.rs` |
//! | layers exchanged in an old docker archive | `docker_archive.rs`: compared with the configuration's `diff_ids` |
//! | a name that claims another image's digest | `SourceError::NameDigest` |
//! | huge files where small ones should be | [`LIMITS`], before anything is read |
//!
//! To add a source: a transport in `source/reference.rs`, a file that makes a [`Source`], a line in
//! [`SourceRef::open`].

pub(crate) mod error;
pub(crate) mod reference;
pub(crate) mod tar_index;

use std::io::Read;

use blobs::VerifiedBytes;
use manifest_schema::{Descriptor, Digest, Document, LIMITS, MediaType, OutsideText, Reference};

pub use self::error::{ArchiveFault, SourceError};
pub use self::reference::{SourceRef, SourceRefError, Transport};

use self::reference::Target;
use crate::layout::{Folder, Layout};
use crate::{FetchedDocument, Registries, RepositoryClient, docker_archive, oci_archive};

/// What a source offers under the reference asked for.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// What the image is called: for a registry the whole reference as it was asked for, with tag, digest or both.
    pub origin: Reference,
    /// Media type of the top document.
    pub media_type: MediaType,
    /// The top document, an index or an image manifest that [`Document::parse`] accepts.
    pub document: VerifiedBytes,
    /// The digest that the tag names now, where tag and digest were asked for and the tag names another digest.
    /// `None` too if the tag does not exist any more.
    pub moved: Option<Digest>,
}

/// One image, where it can be read.
pub trait Source: Send + Sync {
    /// The top document. A registry is asked anew each time, so ask once.
    ///
    /// # Errors
    /// [`SourceError`].
    fn resolve(&self) -> Result<Resolved, SourceError>;

    /// A child document of at most [`LIMITS.document`](manifest_schema::Limits::document) bytes, `size` as its
    /// descriptor says.
    ///
    /// # Errors
    /// [`SourceError`]; among others, if the size is another.
    fn document(&self, digest: &Digest, size: u64) -> Result<VerifiedBytes, SourceError>;

    /// A blob's bytes, not verified yet: wrap the reader in a `VerifyingReader`.
    ///
    /// Where the image is comes first, then the descriptor's `urls`.
    ///
    /// # Errors
    /// [`SourceError`]; [`SourceError::Foreign`] for a foreign layer that is nowhere.
    fn blob(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, SourceError>;
}

impl SourceRef {
    /// Opens what was asked for.
    ///
    /// A registry is not asked yet. Of a layout or archive the lists are read, and an old docker archive is read from
    /// end to end, since its image manifest has to be made.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn open(&self, registries: &Registries) -> Result<Box<dyn Source>, SourceError> {
        match &self.target {
            Target::Registry(reference) => Ok(Box::new(RegistrySource {
                reference: reference.clone(),
                client: registries.repository(reference.repository()),
                registries: registries.clone(),
            })),
            Target::File { transport, path, wanted } => match transport {
                Transport::OciArchive => Ok(Box::new(oci_archive::open(path, wanted, registries)?)),
                Transport::DockerArchive => docker_archive::open(path, wanted, registries),
                Transport::Oci | Transport::Docker => {
                    let layout = Layout::read(Box::new(Folder::open(path)?))?;
                    Ok(Box::new(layout.source(path, wanted, registries)?))
                }
            },
        }
    }
}

/// An image of a registry.
struct RegistrySource {
    reference: Reference,
    client: RepositoryClient,
    registries: Registries,
}

impl Source for RegistrySource {
    fn resolve(&self) -> Result<Resolved, SourceError> {
        let mut moved = None;
        let FetchedDocument { media_type, document } = match (self.reference.digest(), self.reference.tag()) {
            (None, Some(tag)) => self.client.fetch_tag(tag)?,
            (Some(digest), tag) => {
                if let Some(tag) = tag {
                    moved = self.client.head_tag(tag)?.filter(|now| now != digest);
                }
                self.client.fetch_document(digest)?
            }
            (None, None) => return Err(SourceError::Empty { place: OutsideText::new(self.reference.to_string()) }),
        };
        Document::parse(document.bytes(), &media_type)
            .map_err(|source| SourceError::Document { file: OutsideText::new(self.reference.to_string()), source })?;
        Ok(Resolved { origin: self.reference.clone(), media_type, document, moved })
    }

    fn document(&self, digest: &Digest, size: u64) -> Result<VerifiedBytes, SourceError> {
        let file = || OutsideText::new(format!("{}@{digest}", self.reference.repository()));
        if size > LIMITS.document {
            return Err(SourceError::TooLarge { file: file(), size, limit: LIMITS.document });
        }
        let document = self.client.fetch_document(digest)?.document;
        let found = document.bytes().len() as u64;
        if found != size {
            return Err(SourceError::Size { file: file(), expected: size, found });
        }
        Ok(document)
    }

    fn blob(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        match self.client.fetch_blob(&blob.digest, blob.size) {
            Ok(reader) => Ok(reader),
            Err(error) => carried_elsewhere(&self.registries, blob, error.into()),
        }
    }
}

/// Fetches a blob from its `urls`, after it could not be had where the image is. A blob that is not foreign fails with
/// the first error.
pub(crate) fn carried_elsewhere(
    registries: &Registries,
    blob: &Descriptor,
    first: SourceError,
) -> Result<Box<dyn Read + Send + 'static>, SourceError> {
    if blob.urls.is_empty() && !blob.media_type.is_foreign() {
        return Err(first);
    }
    let mut last = first;
    for url in &blob.urls {
        match registries.fetch_url(url.raw(), blob.size) {
            Ok(reader) => return Ok(reader),
            Err(error) => last = error.into(),
        }
    }
    Err(SourceError::Foreign { digest: Box::new(blob.digest), urls: blob.urls.clone(), source: Box::new(last) })
}

//! Where images are taken from: registries, OCI layouts, archives, folders.
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
//! | links, pipes and devices in a layout or folder | `layout.rs`: every part of a path is opened without following links |
//! | names that lead elsewhere, two entries of one name, endless headers in an archive | `source/tar_index.rs` |
//! | layers exchanged in an old docker archive | `docker_archive.rs`: compared with the configuration's `diff_ids` |
//! | a name that claims another image's digest | `SourceError::NameDigest` |
//! | endless lists of referrers and signatures, entries listed twice | `referrers.rs`, `extension.rs`, `attached.rs`, with [`LIMITS`] |
//! | a signature or attestation that belongs to another image | `attached.rs`: what cannot be tied to a digest is not taken; the caller looks at each `subject` |
//! | huge files where small ones should be | [`LIMITS`], before anything is read |
//!
//! To add a source: a transport in `source/reference.rs`, a file that makes a [`Source`], a line in
//! [`Sources::open`].

pub(crate) mod error;
pub(crate) mod reference;
pub(crate) mod tar_index;

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use blobs::VerifiedBytes;
use manifest_schema::{Descriptor, Digest, DigestTag, Document, LIMITS, MediaType, OutsideText, Reference};

pub use self::error::{ArchiveFault, SourceError};
pub use self::reference::{SourceRef, SourceRefError, Transport};

use self::reference::Target;
use crate::docker_archive::Archive;
use crate::error::Error as RegistryError;
use crate::layout::{Folder, Layout};
use crate::referrers::FoundReferrer;
use crate::{FetchedDocument, Registries, RepositoryClient, dir, oci_archive};

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

    /// What is said to refer to a document, each once. Whoever fetches one of them looks whether it names the subject.
    ///
    /// Of a registry: its referrers API, or the tag schema (distribution specification 1.1). Of a layout: the documents
    /// of `index.json` that name the subject, and the list under the tag of the tag schema.
    ///
    /// # Errors
    /// [`SourceError`]; among others, if a list is none, or over
    /// [`LIMITS.referrers`](manifest_schema::Limits::referrers).
    fn referrers(&self, subject: &Digest) -> Result<Vec<FoundReferrer>, SourceError>;

    /// The document that cosign's tag for a digest names, if there is one.
    ///
    /// # Errors
    /// [`SourceError`]; among others, if it is neither an index nor an image manifest.
    fn digest_tag(&self, subject: &Digest, tag: DigestTag) -> Result<Option<(MediaType, VerifiedBytes)>, SourceError>;

    /// The signatures that are kept with the image for an index or image manifest: by a registry with
    /// `X-Registry-Supports-Signatures`, or in files named `signature-N`. Their content is not verified; current versions
    /// of containers/image keep signatures of other kinds in such files too.
    ///
    /// # Errors
    /// [`SourceError`]; among others, over [`LIMITS`].
    fn simple_signatures(&self, manifest: &Digest) -> Result<Vec<Vec<u8>>, SourceError>;
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
        Sources::new(registries).open(self)
    }
}

/// What images are taken from. A layout or archive is opened and listed once, however many images are taken from it.
pub struct Sources {
    registries: Registries,
    layouts: Mutex<HashMap<(Transport, PathBuf), Opened>>,
}

#[derive(Clone)]
enum Opened {
    Layout(Arc<Layout>),
    Docker(Arc<Archive>),
}

impl Sources {
    /// Nothing is opened yet.
    pub fn new(registries: &Registries) -> Self {
        Self { registries: registries.clone(), layouts: Mutex::default() }
    }

    /// Opens an image, see [`SourceRef::open`].
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn open(&self, image: &SourceRef) -> Result<Box<dyn Source>, SourceError> {
        match &image.target {
            Target::Registry(reference) => Ok(Box::new(RegistrySource {
                reference: reference.clone(),
                client: self.registries.repository(reference.repository()),
                registries: self.registries.clone(),
            })),
            Target::File { transport: Transport::Dir, path, wanted } => {
                Ok(Box::new(dir::open(path, wanted, &self.registries)?))
            }
            Target::File { transport, path, wanted } => match self.opened(*transport, path)? {
                Opened::Layout(layout) => Ok(Box::new(layout.source(path, wanted, &self.registries)?)),
                Opened::Docker(archive) => archive.source(path, wanted, &self.registries),
            },
        }
    }

    fn opened(&self, transport: Transport, path: &Path) -> Result<Opened, SourceError> {
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (transport, path.to_path_buf());
        if let Some(opened) = layouts.get(&key) {
            return Ok(opened.clone());
        }
        let opened = match transport {
            Transport::OciArchive => Opened::Layout(Arc::new(oci_archive::open(path)?)),
            Transport::DockerArchive => Opened::Docker(Arc::new(Archive::open(path)?)),
            Transport::Oci | Transport::Docker | Transport::Dir => {
                Opened::Layout(Arc::new(Layout::read(Box::new(Folder::open(path)?))?))
            }
        };
        layouts.insert(key, opened.clone());
        Ok(opened)
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
            (Some(digest), None) => self.client.fetch_document(digest)?,
            // The tag's document is the one that is pinned, most often.
            (Some(digest), Some(tag)) => match self.client.fetch_tag(tag) {
                Ok(now) if now.document.digest() == digest => now,
                now => {
                    moved = match now {
                        Ok(now) => Some(*now.document.digest()),
                        Err(RegistryError::NotFound { .. }) => None,
                        // What it names now need not be anything that can be read.
                        Err(
                            RegistryError::Malformed { .. }
                            | RegistryError::Digest { .. }
                            | RegistryError::Content(_)
                            | RegistryError::TooLarge { .. },
                        ) => self.client.head_tag(tag)?.filter(|now| now != digest),
                        Err(error) => return Err(error.into()),
                    };
                    self.client.fetch_document(digest)?
                }
            },
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

    fn referrers(&self, subject: &Digest) -> Result<Vec<FoundReferrer>, SourceError> {
        Ok(self.client.list_referrers(subject)?)
    }

    fn digest_tag(&self, subject: &Digest, tag: DigestTag) -> Result<Option<(MediaType, VerifiedBytes)>, SourceError> {
        let Some(FetchedDocument { media_type, document }) = self.client.fetch_digest_tag(subject, tag)? else {
            return Ok(None);
        };
        let file = || OutsideText::new(format!("{}@{}", self.reference.repository(), document.digest()));
        Document::parse(document.bytes(), &media_type)
            .map_err(|source| SourceError::Document { file: file(), source })?;
        Ok(Some((media_type, document)))
    }

    fn simple_signatures(&self, manifest: &Digest) -> Result<Vec<Vec<u8>>, SourceError> {
        Ok(if self.client.has_signature_extension()? { self.client.fetch_signatures(manifest)? } else { Vec::new() })
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

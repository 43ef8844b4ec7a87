//! OCI image layouts (image-spec 1.1, `image-layout.md`), in a folder or in an archive.
//!
//! A file's name is one of two constants or derived from a digest, and only regular files are read: neither a link in
//! the folder nor a name in `index.json` leads anywhere else.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use blobs::{BlobError, VerifiedBytes};
use manifest_schema::document::DocumentError;
use manifest_schema::{Descriptor, Digest, DigestTag, Document, LIMITS, MediaType, OutsideText};
use oci_spec::image as oci;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::Registries;
use crate::attached::Subjects;
use crate::lookup::Lookup;
use crate::referrers::FoundReferrer;
use crate::source::error::SourceError;
use crate::source::reference::{Wanted, full, origin};
use crate::source::tar_index::{Section, kind_of};
use crate::source::{Resolved, Source, carried_elsewhere};

/// The annotation with the name of an entry of `index.json` (image-spec, `annotations.md`).
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation in which containerd and `docker save` give the full name, and only the tag in the other.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The annotation in which `cosign save` says what an entry is.
const KIND: &str = "kind";
/// The annotation in which `cosign save` says which image it is, or belongs to.
const IMAGE_REF: &str = "dev.cosignproject.cosign/imageRef";

/// The files of a layout, by their path in it.
pub(crate) trait Files: Send + Sync {
    /// The file of this name, `None` if there is none.
    fn file(&self, name: &str) -> Result<Option<Section>, SourceError>;
    /// A file, for a message.
    fn at(&self, name: &str) -> OutsideText;
    /// The whole, for a message.
    fn place(&self) -> OutsideText;
}

/// A layout in a folder.
pub(crate) struct Folder {
    dir: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens the folder; the path itself may be a link, nothing inside it.
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        let file = || OutsideText::new(path.to_string_lossy());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(dir) => Ok(Self { dir, path: path.into() }),
            Err(Errno::NOENT) => Err(SourceError::Missing { file: file() }),
            Err(errno) => Err(SourceError::Io { file: file(), source: errno.into() }),
        }
    }
}

impl Files for Folder {
    fn file(&self, name: &str) -> Result<Option<Section>, SourceError> {
        let failed = |source| SourceError::Io { file: self.at(name), source };
        let not_regular = |found| SourceError::NotRegular { file: self.at(name), found };
        let common = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let (folders, last) = name.rsplit_once('/').map_or((None, name), |(folders, last)| (Some(folders), last));
        let mut dir = None::<OwnedFd>;
        for folder in folders.into_iter().flat_map(|folders| folders.split('/')) {
            let flags = common | OFlags::DIRECTORY;
            dir = match rustix::fs::openat(dir.as_ref().unwrap_or(&self.dir), folder, flags, Mode::empty()) {
                Ok(dir) => Some(dir),
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::NOTDIR | Errno::LOOP) => return Err(not_regular("behind a link")),
                Err(errno) => return Err(failed(errno.into())),
            };
        }
        let flags = common | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file: File = match rustix::fs::openat(dir.as_ref().unwrap_or(&self.dir), last, flags, Mode::empty()) {
            Ok(file) => file.into(),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(not_regular("a link")),
            Err(errno) => return Err(failed(errno.into())),
        };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(not_regular(kind_of(&metadata)));
        }
        Ok(Some(Section::whole(file, metadata.len())))
    }

    fn at(&self, name: &str) -> OutsideText {
        OutsideText::new(self.path.join(name).to_string_lossy())
    }

    fn place(&self) -> OutsideText {
        OutsideText::new(self.path.to_string_lossy())
    }
}

/// Reads a file of the size of a document whole.
pub(crate) fn small(section: Section, file: OutsideText) -> Result<Vec<u8>, SourceError> {
    bounded(section, file, LIMITS.document)
}

/// Reads a file of at most `limit` bytes whole.
pub(crate) fn bounded(section: Section, file: OutsideText, limit: u64) -> Result<Vec<u8>, SourceError> {
    let size = section.size();
    if size > limit {
        return Err(SourceError::TooLarge { file, size, limit });
    }
    let mut bytes = Vec::new();
    section.take(limit).read_to_end(&mut bytes).map_err(|source| SourceError::Io { file, source })?;
    Ok(bytes)
}

/// An entry of `index.json`.
pub(crate) struct Entry {
    pub(crate) descriptor: Descriptor,
    /// Its names, the fullest first.
    pub(crate) names: Vec<String>,
    /// What `cosign save` says that it is.
    pub(crate) kind: Option<String>,
    /// Which image `cosign save` says that it is, or belongs to.
    pub(crate) image_ref: Option<String>,
}

/// A layout whose `oci-layout` and `index.json` have been read, shared by the images that are taken from it.
pub(crate) struct Layout {
    pub(crate) files: Box<dyn Files>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) lookup: Lookup,
    /// The positions of the entries that are images of their own, once they have been asked for.
    pub(crate) images: OnceLock<Vec<usize>>,
    /// What refers to what, once it has been asked for.
    pub(crate) subjects: OnceLock<Subjects>,
}

impl Layout {
    pub(crate) fn read(files: Box<dyn Files>) -> Result<Self, SourceError> {
        let entries = Self::entries(&*files)?;
        Ok(Self::new(files, entries))
    }

    pub(crate) fn new(files: Box<dyn Files>, entries: Vec<Entry>) -> Self {
        let lookup = Lookup::of(&entries);
        Self { files, entries, lookup, images: OnceLock::new(), subjects: OnceLock::new() }
    }

    /// Reads `oci-layout` and `index.json`.
    pub(crate) fn entries(files: &dyn Files) -> Result<Vec<Entry>, SourceError> {
        check_version(files)?;
        let at = || files.at("index.json");
        let section = files.file("index.json")?.ok_or_else(|| SourceError::Missing { file: at() })?;
        let bytes = small(section, at())?;
        let refused = |source| SourceError::Document { file: at(), source };
        let media_type: MediaType = MediaType::OCI_INDEX.parse().map_err(refused)?;
        let document = Document::parse(&bytes, &media_type).map_err(refused)?;
        let index: oci::ImageIndex = serde_json::from_slice(&bytes)
            .map_err(|e| SourceError::Json { file: at(), reason: OutsideText::new(e.to_string()) })?;
        let entries = document.children().iter().zip(index.manifests()).map(|(child, raw)| {
            let annotation = |key| raw.annotations().as_ref().and_then(|all| all.get(key)).cloned();
            let names = [annotation(CONTAINERD_NAME), annotation(REF_NAME)].into_iter().flatten();
            Entry {
                descriptor: child.descriptor.clone(),
                names: names.collect(),
                kind: annotation(KIND),
                image_ref: annotation(IMAGE_REF),
            }
        });
        Ok(entries.collect())
    }

    /// Chooses the wanted image and reads its top document.
    pub(crate) fn source(
        self: Arc<Self>,
        path: &Path,
        wanted: &Wanted,
        registries: &Registries,
    ) -> Result<LayoutSource, SourceError> {
        let (media_type, document, names) = match self.choose(wanted)? {
            Some(entry) => {
                let d = &entry.descriptor;
                let document = read_document(&*self.files, &d.digest, d.size)?;
                (d.media_type.clone(), document, entry.names.as_slice())
            }
            None => {
                let digest = wanted.digest.ok_or_else(|| SourceError::Empty { place: self.files.place() })?;
                let (media_type, document) = self.unlisted(wanted, &digest)?;
                (media_type, document, [].as_slice())
            }
        };
        let digest = document.digest();
        Document::parse(document.bytes(), &media_type)
            .map_err(|source| SourceError::Document { file: self.files.at(&digest.layout_path()), source })?;
        let origin = origin(wanted, names, digest, path)?;
        let resolved = Resolved { origin, media_type, document, moved: None };
        Ok(LayoutSource { layout: self, resolved, registries: registries.clone() })
    }

    /// The one entry that is wanted; `None` if a digest is wanted that `index.json` does not list.
    fn choose(&self, wanted: &Wanted) -> Result<Option<&Entry>, SourceError> {
        let place = || self.files.place();
        if self.entries.is_empty() && wanted.digest.is_none() {
            return Err(SourceError::Empty { place: place() });
        }
        let asked = wanted.name.is_some() || wanted.digest.is_some() || wanted.position.is_some();
        let fits = |position: usize, entry: &Entry| {
            wanted.position.is_none_or(|p| p == position)
                && wanted.digest.is_none_or(|d| d == entry.descriptor.digest)
                && wanted.names(&entry.names, &entry.descriptor.digest)
                && (wanted.digest.is_some() || !entry.is_cosigns())
        };
        let found: Vec<&Entry> = match asked {
            true => {
                let likely = match (&wanted.digest, &wanted.name, &wanted.position) {
                    (Some(digest), ..) => self.lookup.of_digest(digest),
                    (None, Some(name), _) => self.lookup.named(name),
                    (None, None, position) => position.as_slice(),
                };
                let likely = likely.iter().filter_map(|at| Some((*at, self.entries.get(*at)?)));
                likely.filter(|(at, entry)| fits(*at, entry)).map(|(_, entry)| entry).collect()
            }
            false => self.images(),
        };
        let Some(first) = found.first() else {
            if !asked {
                return Err(SourceError::Empty { place: place() });
            }
            if wanted.digest.is_some() && wanted.name.is_none() {
                return Ok(None);
            }
            let names = shown(&self.entries);
            return Err(SourceError::NoSuchImage { place: place(), asked: wanted.shown(), names });
        };
        if found.len() == 1 {
            return Ok(Some(first));
        }
        if wanted.name.is_some() {
            let digests = found.iter().map(|entry| entry.descriptor.digest).collect();
            return Err(SourceError::Twice { place: place(), asked: wanted.shown(), digests });
        }
        let one_image = found.iter().all(|entry| entry.descriptor == first.descriptor);
        let repository = |entry: &Entry| entry.names.iter().find_map(|n| full(n)).map(|r| r.repository().clone());
        // One image under several names will do where the name is not taken from the entry, or is the same.
        let one_name = wanted.called.is_some()
            || (wanted.digest.is_some() && found.iter().all(|entry| repository(entry) == repository(first)));
        if one_image && one_name {
            return Ok(Some(first));
        }
        Err(SourceError::Several { place: place(), names: shown(found.iter().copied()) })
    }

    /// A document of the layout that `index.json` does not list.
    fn unlisted(&self, wanted: &Wanted, digest: &Digest) -> Result<(MediaType, VerifiedBytes), SourceError> {
        let name = digest.layout_path();
        let Some(section) = self.files.file(&name)? else {
            let (place, asked) = (self.files.place(), wanted.shown());
            return Err(SourceError::NoSuchImage { place, asked, names: shown(&self.entries) });
        };
        let document = read_document(&*self.files, digest, section.size())?;
        let refused = |source| SourceError::Document { file: self.files.at(&name), source };
        Ok((kind_of_document(document.bytes()).map_err(refused)?, document))
    }
}

fn check_version(files: &dyn Files) -> Result<(), SourceError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct OciLayout {
        image_layout_version: String,
    }
    let at = || files.at("oci-layout");
    let section = files.file("oci-layout")?.ok_or_else(|| SourceError::Missing { file: at() })?;
    let layout: OciLayout = serde_json::from_slice(&small(section, at())?)
        .map_err(|e| SourceError::Json { file: at(), reason: OutsideText::new(e.to_string()) })?;
    if layout.image_layout_version != "1.0.0" {
        return Err(SourceError::LayoutVersion { file: at(), found: OutsideText::new(layout.image_layout_version) });
    }
    Ok(())
}

/// The names of some entries for a message: the fullest of each, else its digest.
fn shown<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<OutsideText> {
    let name = |entry: &Entry| entry.names.first().cloned().unwrap_or_else(|| entry.descriptor.digest.to_string());
    entries.into_iter().map(|entry| OutsideText::new(name(entry))).collect()
}

/// A blob's file, if it is there and as large as its descriptor says.
fn sized(files: &dyn Files, digest: &Digest, size: u64) -> Result<Section, SourceError> {
    let name = digest.layout_path();
    let section = files.file(&name)?.ok_or_else(|| SourceError::Missing { file: files.at(&name) })?;
    if section.size() != size {
        return Err(SourceError::Size { file: files.at(&name), expected: size, found: section.size() });
    }
    Ok(section)
}

/// Reads and checks an index or image manifest.
pub(crate) fn read_document(files: &dyn Files, digest: &Digest, size: u64) -> Result<VerifiedBytes, SourceError> {
    let file = || files.at(&digest.layout_path());
    if size > LIMITS.document {
        return Err(SourceError::TooLarge { file: file(), size, limit: LIMITS.document });
    }
    let section = sized(files, digest, size)?;
    VerifiedBytes::read(section, *digest, size).map_err(|error| match BlobError::of(&error) {
        Some(wrong) => SourceError::Content { file: file(), source: Box::new(wrong.clone()) },
        None => SourceError::Io { file: file(), source: error },
    })
}

/// The one kind of document that some bytes are; no bytes are two of them.
pub(crate) fn kind_of_document(bytes: &[u8]) -> Result<MediaType, DocumentError> {
    let mut last = None;
    for media_type in MediaType::DOCUMENTS {
        let media_type: MediaType = media_type.parse()?;
        match Document::parse(bytes, &media_type) {
            Ok(_) => return Ok(media_type),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| DocumentError::Ambiguous("it is no document".into())))
}

/// One image of a layout.
pub(crate) struct LayoutSource {
    layout: Arc<Layout>,
    resolved: Resolved,
    registries: Registries,
}

impl Source for LayoutSource {
    fn resolve(&self) -> Result<Resolved, SourceError> {
        Ok(self.resolved.clone())
    }

    fn document(&self, digest: &Digest, size: u64) -> Result<VerifiedBytes, SourceError> {
        read_document(&*self.layout.files, digest, size)
    }

    fn blob(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        match sized(&*self.layout.files, &blob.digest, blob.size) {
            Ok(section) => Ok(Box::new(section)),
            Err(error @ SourceError::Missing { .. }) => carried_elsewhere(&self.registries, blob, error),
            Err(error) => Err(error),
        }
    }

    fn referrers(&self, subject: &Digest) -> Result<Vec<FoundReferrer>, SourceError> {
        self.layout.referrers(subject)
    }

    fn digest_tag(&self, subject: &Digest, tag: DigestTag) -> Result<Option<(MediaType, VerifiedBytes)>, SourceError> {
        self.layout.digest_tag(subject, tag)
    }

    fn simple_signatures(&self, manifest: &Digest) -> Result<Vec<Vec<u8>>, SourceError> {
        self.layout.simple_signatures(manifest)
    }
}

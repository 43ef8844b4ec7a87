//! Folders in skopeo's `dir:` form: one image, its files side by side (containers/image, `directory`).
//!
//! | file | what it is |
//! |---|---|
//! | `manifest.json` | the top document |
//! | `<hex>.manifest.json` | a document that an index lists |
//! | `<hex>` | a configuration or layer; foreign layers may be missing |
//! | `signature-N`, `<hex>.signature-N` | a signature of the top document, of one that an index lists |
//! | `version` | the version of the form |
//!
//! As in a layout, a file's name is a constant or made of a digest, and no link is followed.

use std::io::Read;
use std::path::Path;

use blobs::{BlobError, VerifiedBytes};
use manifest_schema::{Algorithm, Descriptor, Digest, DigestTag, LIMITS, MediaType, OutsideText};

use crate::Registries;
use crate::attached::signature_files;
use crate::layout::{Files, Folder, bounded, kind_of_document, small};
use crate::referrers::FoundReferrer;
use crate::source::error::SourceError;
use crate::source::reference::{Wanted, origin};
use crate::source::tar_index::Section;
use crate::source::{Resolved, Source, carried_elsewhere};

const MANIFEST: &str = "manifest.json";
const VERSION: &str = "version";
/// What the file `version` begins with. Within version 1 nothing changed that matters to a reader, but that names of
/// digests other than SHA-256 may have the algorithm before them.
const READABLE: &str = "Directory Transport Version: 1.";
/// Bytes of the file `version`.
const VERSION_LIMIT: u64 = 256;

/// Opens the image of a folder, or one of its instances by digest.
pub(crate) fn open(path: &Path, wanted: &Wanted, registries: &Registries) -> Result<Dir, SourceError> {
    let files = Folder::open(path)?;
    check_version(&files)?;
    let section = files.file(MANIFEST)?.ok_or_else(|| SourceError::Missing { file: files.at(MANIFEST) })?;
    let top = VerifiedBytes::of(small(section, files.at(MANIFEST))?);
    let top_digest = *top.digest();
    let (name, document) = match wanted.digest {
        Some(digest) if digest != top_digest => match instance(&files, &digest)? {
            Some((name, section)) => {
                let size = section.size();
                (name.clone(), checked(&files, &name, section, &digest, size)?)
            }
            None => {
                let names = vec![OutsideText::new(top_digest.to_string())];
                return Err(SourceError::NoSuchImage { place: files.place(), asked: wanted.shown(), names });
            }
        },
        _ => (MANIFEST.to_string(), top),
    };
    let media_type =
        kind_of_document(document.bytes()).map_err(|source| SourceError::Document { file: files.at(&name), source })?;
    let origin = origin(wanted, &[], document.digest(), path)?;
    let resolved = Resolved { origin, media_type, document, moved: None };
    Ok(Dir { files, top: top_digest, resolved, registries: registries.clone() })
}

fn check_version(files: &Folder) -> Result<(), SourceError> {
    // The oldest skopeo wrote none.
    let Some(section) = files.file(VERSION)? else { return Ok(()) };
    let bytes = bounded(section, files.at(VERSION), VERSION_LIMIT)?;
    let text = String::from_utf8_lossy(&bytes);
    if !text.starts_with(READABLE) {
        return Err(SourceError::DirVersion { file: files.at(VERSION), found: OutsideText::new(text.trim_end()) });
    }
    Ok(())
}

/// A file by the first of its possible names that is there.
fn named(files: &Folder, digest: &Digest, suffix: &str) -> Result<Option<(String, Section)>, SourceError> {
    let mut names = vec![format!("{}{suffix}", digest.hex())];
    if digest.algorithm() != Algorithm::Sha256 {
        names.push(format!("{}-{}{suffix}", digest.algorithm().name(), digest.hex()));
    }
    for name in names {
        if let Some(section) = files.file(&name)? {
            return Ok(Some((name, section)));
        }
    }
    Ok(None)
}

fn instance(files: &Folder, digest: &Digest) -> Result<Option<(String, Section)>, SourceError> {
    named(files, digest, ".manifest.json")
}

/// Reads a document and compares it with its digest and size.
fn checked(
    files: &Folder,
    name: &str,
    section: Section,
    digest: &Digest,
    size: u64,
) -> Result<VerifiedBytes, SourceError> {
    let file = || files.at(name);
    if size > LIMITS.document {
        return Err(SourceError::TooLarge { file: file(), size, limit: LIMITS.document });
    }
    if section.size() != size {
        return Err(SourceError::Size { file: file(), expected: size, found: section.size() });
    }
    VerifiedBytes::read(section, *digest, size).map_err(|error| match BlobError::of(&error) {
        Some(wrong) => SourceError::Content { file: file(), source: Box::new(wrong.clone()) },
        None => SourceError::Io { file: file(), source: error },
    })
}

/// The image of a folder.
pub(crate) struct Dir {
    files: Folder,
    /// The digest of `manifest.json`.
    top: Digest,
    resolved: Resolved,
    registries: Registries,
}

impl Source for Dir {
    fn resolve(&self) -> Result<Resolved, SourceError> {
        Ok(self.resolved.clone())
    }

    fn document(&self, digest: &Digest, size: u64) -> Result<VerifiedBytes, SourceError> {
        let found = match instance(&self.files, digest)? {
            None if *digest == self.top => self.files.file(MANIFEST)?.map(|section| (MANIFEST.to_string(), section)),
            found => found,
        };
        let missing = || SourceError::Missing { file: self.files.at(&format!("{}.manifest.json", digest.hex())) };
        let (name, section) = found.ok_or_else(missing)?;
        checked(&self.files, &name, section, digest, size)
    }

    fn blob(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        let Some((name, section)) = named(&self.files, &blob.digest, "")? else {
            let missing = SourceError::Missing { file: self.files.at(&blob.digest.hex()) };
            return carried_elsewhere(&self.registries, blob, missing);
        };
        if section.size() != blob.size {
            let (expected, found) = (blob.size, section.size());
            return Err(SourceError::Size { file: self.files.at(&name), expected, found });
        }
        Ok(Box::new(section))
    }

    /// The form has no place for any.
    fn referrers(&self, _subject: &Digest) -> Result<Vec<FoundReferrer>, SourceError> {
        Ok(Vec::new())
    }

    /// The form has no place for any.
    fn digest_tag(&self, _: &Digest, _: DigestTag) -> Result<Option<(MediaType, VerifiedBytes)>, SourceError> {
        Ok(None)
    }

    fn simple_signatures(&self, manifest: &Digest) -> Result<Vec<Vec<u8>>, SourceError> {
        signature_files(&self.files, manifest, *manifest == self.top)
    }
}

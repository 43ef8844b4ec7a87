//! What belongs to the images of a layout: referrers, digest tags, files with signatures.
//!
//! A layout has three ways to say what refers to a document: the document that refers names it as its `subject`
//! (image-spec 1.1); an entry of `index.json` is named as a tag of a registry would be (the tag schema, cosign); an entry
//! is annotated as `cosign save` does. The last says only which *image* it belongs to, so it counts only if all entries
//! of that image are the document asked for.

use std::collections::HashMap;

use blobs::VerifiedBytes;
use manifest_schema::{
    Digest, DigestTag, Document, LIMITS, MediaType, OutsideText, Tag, is_made_from_digest, referrers_tag,
};

use crate::layout::{Entry, Files, Layout, bounded, read_document};
use crate::referrers::{About, Fault, FoundReferrer, Referrers};
use crate::source::error::SourceError;
use crate::source::reference::full;

/// The values of `kind` of an image.
const COSIGN_IMAGES: [&str; 2] = ["dev.cosignproject.cosign/image", "dev.cosignproject.cosign/imageIndex"];

/// The value of `kind` for what a digest tag names.
fn cosign_kind(tag: DigestTag) -> &'static str {
    match tag {
        DigestTag::Sig => "dev.cosignproject.cosign/sigs",
        DigestTag::Att => "dev.cosignproject.cosign/atts",
        DigestTag::Sbom => "dev.cosignproject.cosign/sboms",
    }
}

/// What documents of `index.json` refer to: by subject, in the order listed.
pub(crate) type Subjects = HashMap<Digest, Vec<FoundReferrer>>;

impl Entry {
    /// Whether `cosign save` says that it is what was attached to an image.
    pub(crate) fn is_cosigns(&self) -> bool {
        self.cosign_tag().is_some()
    }

    /// The tag under which cosign would put what it says that this is.
    pub(crate) fn cosign_tag(&self) -> Option<DigestTag> {
        let kind = self.kind.as_deref()?;
        DigestTag::ALL.into_iter().find(|tag| cosign_kind(*tag) == kind)
    }

    pub(crate) fn is_cosign_image(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| COSIGN_IMAGES.contains(&kind))
    }

    /// Its names as tags, whether they are full or not.
    pub(crate) fn tags(&self) -> impl Iterator<Item = String> {
        self.names.iter().map(|name| match full(name) {
            Some(reference) => reference.tag().map(Tag::to_string).unwrap_or_default(),
            None => name.clone(),
        })
    }
}

impl Layout {
    /// The entries that are images of their own: neither under a tag that belongs to another document, nor what cosign
    /// attached; of several, those whose document names no subject. If such a tag is all that there is, it is the image's.
    pub(crate) fn images(&self) -> Vec<&Entry> {
        self.at(self.own_images())
    }

    fn own_images(&self) -> &[usize] {
        self.images.get_or_init(|| self.find_images())
    }

    fn at(&self, positions: &[usize]) -> Vec<&Entry> {
        positions.iter().filter_map(|at| self.entries.get(*at)).collect()
    }

    fn find_images(&self) -> Vec<usize> {
        let own = |entry: &Entry| {
            !entry.is_cosigns() && !entry.tags().any(|tag| tag.parse().is_ok_and(|tag| is_made_from_digest(&tag)))
        };
        let all = || self.entries.iter().enumerate();
        let images: Vec<(usize, &Entry)> = all().filter(|(_, entry)| own(entry)).collect();
        match images.as_slice() {
            [] => return all().filter(|(_, entry)| !entry.is_cosigns()).map(|(at, _)| at).collect(),
            [(only, _)] => return vec![*only],
            _ => {}
        }
        // A document that cannot be read is told of when it is chosen.
        let refers = |entry: &Entry| self.about(entry).ok().flatten().is_some_and(|about| about.subject.is_some());
        images.into_iter().filter(|(_, entry)| !refers(entry)).map(|(at, _)| at).collect()
    }

    /// What refers to what in `index.json`. Every document that it lists is read, once.
    fn subjects(&self) -> Result<&Subjects, SourceError> {
        if let Some(subjects) = self.subjects.get() {
            return Ok(subjects);
        }
        let mut subjects = Subjects::new();
        for entry in &self.entries {
            let Some(about) = self.about(entry)? else { continue };
            let Some(subject) = about.subject else { continue };
            let artifact_type = about.artifact_type;
            let found = FoundReferrer { descriptor: entry.descriptor.clone(), artifact_type };
            subjects.entry(subject).or_default().push(found);
        }
        Ok(self.subjects.get_or_init(|| subjects))
    }

    /// What refers to a document.
    pub(crate) fn referrers(&self, subject: &Digest) -> Result<Vec<FoundReferrer>, SourceError> {
        let mut found = Referrers::default();
        let index = self.files.at("index.json");
        for referrer in self.subjects()?.get(subject).into_iter().flatten() {
            found.push(referrer.clone()).map_err(|fault| refused(fault, index.clone()))?;
        }
        let tag = referrers_tag(subject);
        // An image under its own digest as a tag is no list.
        if let Some(entry) = self.tagged(&tag)?.filter(|entry| entry.descriptor.digest != *subject) {
            let d = &entry.descriptor;
            if d.media_type.as_str() != MediaType::OCI_INDEX {
                let reason = format!(
                    "the name {tag} is for a list of referrers (an OCI index) and names a document of type {}",
                    d.media_type
                );
                return Err(refused(Fault::NoList(reason), index));
            }
            let document = read_document(&*self.files, &d.digest, d.size)?;
            let file = || self.files.at(&d.digest.layout_path());
            found.add(document.bytes()).map_err(|fault| refused(fault, file()))?;
        }
        Ok(found.list)
    }

    /// What cosign attached to a document.
    pub(crate) fn digest_tag(
        &self,
        subject: &Digest,
        kind: DigestTag,
    ) -> Result<Option<(MediaType, VerifiedBytes)>, SourceError> {
        let named = kind.for_subject(subject).map(|tag| self.tagged(&tag)).transpose()?.flatten();
        let entry = match named {
            Some(entry) => Some(entry),
            None => self.saved_by_cosign(subject, kind)?,
        };
        let Some(Entry { descriptor: d, .. }) = entry else { return Ok(None) };
        let document = read_document(&*self.files, &d.digest, d.size)?;
        Document::parse(document.bytes(), &d.media_type)
            .map_err(|source| SourceError::Document { file: self.files.at(&d.digest.layout_path()), source })?;
        Ok(Some((d.media_type.clone(), document)))
    }

    /// The signatures in files: `<hex>.signature-N` for any document; `signature-N` if all images of the layout are this
    /// one.
    pub(crate) fn simple_signatures(&self, manifest: &Digest) -> Result<Vec<Vec<u8>>, SourceError> {
        let images = self.own_images();
        let is_it = |at: &usize| self.entries.get(*at).is_some_and(|entry| entry.descriptor.digest == *manifest);
        let only = !images.is_empty() && images.iter().all(is_it);
        signature_files(&*self.files, manifest, only)
    }

    /// The one document under a tag.
    fn tagged(&self, tag: &Tag) -> Result<Option<&Entry>, SourceError> {
        self.one(self.at(self.lookup.tagged(tag.as_str())), tag.as_str())
    }

    fn saved_by_cosign(&self, subject: &Digest, kind: DigestTag) -> Result<Option<&Entry>, SourceError> {
        self.one(self.at(self.lookup.saved(subject, kind)), cosign_kind(kind))
    }

    fn one<'a>(&'a self, found: Vec<&'a Entry>, asked: &str) -> Result<Option<&'a Entry>, SourceError> {
        let Some(first) = found.first() else { return Ok(None) };
        if found.iter().all(|entry| entry.descriptor == first.descriptor) {
            return Ok(Some(first));
        }
        let digests = found.iter().map(|entry| entry.descriptor.digest).collect();
        Err(SourceError::Twice { place: self.files.place(), asked: OutsideText::new(asked), digests })
    }

    /// What the document of an entry says of itself; `None` if it is no document.
    fn about(&self, entry: &Entry) -> Result<Option<About>, SourceError> {
        let d = &entry.descriptor;
        if !d.media_type.is_document() {
            return Ok(None);
        }
        let document = read_document(&*self.files, &d.digest, d.size)?;
        let file = || self.files.at(&d.digest.layout_path());
        let about = About::read(document.bytes(), &d.media_type);
        about.map(Some).map_err(|reason| SourceError::Json { file: file(), reason: OutsideText::new(reason) })
    }
}

/// The signatures in files beside an image: `signature-N` if it is the `top` one, and `<hex>.signature-N`; N from 1
/// without holes (containers/image, `dir:`). Each content once.
pub(crate) fn signature_files(files: &dyn Files, manifest: &Digest, top: bool) -> Result<Vec<Vec<u8>>, SourceError> {
    let own = format!("{}.", manifest.hex());
    let mut found: Vec<Vec<u8>> = Vec::new();
    for prefix in top.then_some("").into_iter().chain([own.as_str()]) {
        for n in 1.. {
            let name = format!("{prefix}signature-{n}");
            let Some(section) = files.file(&name)? else { break };
            let bytes = bounded(section, files.at(&name), LIMITS.signature)?;
            if found.contains(&bytes) {
                continue;
            }
            if found.len() >= LIMITS.lookaside_signatures {
                let (place, limit) = (files.place(), LIMITS.lookaside_signatures);
                return Err(SourceError::TooMany { place, what: "signatures of one image", limit });
            }
            found.push(bytes);
        }
    }
    Ok(found)
}

/// Why a list in a file is refused.
fn refused(fault: Fault, file: OutsideText) -> SourceError {
    match fault {
        Fault::NoList(reason) => SourceError::Json { file, reason: OutsideText::new(reason) },
        Fault::TooMany => {
            SourceError::TooMany { place: file, what: "referrers of one document", limit: LIMITS.referrers }
        }
        Fault::TooLarge => SourceError::TooLarge { file, size: LIMITS.document + 1, limit: LIMITS.document },
    }
}

//! What belongs to the images of a layout: referrers, digest tags, files with signatures.
//!
//! A layout has three ways to say what refers to a document: the document that refers names it as its `subject`
//! (image-spec 1.1); an entry of `index.json` is named as a tag of a registry would be (the tag schema, cosign); an entry
//! is annotated as `cosign save` does. The last says only which *image* it belongs to, so it counts only if all entries
//! of that image are the document asked for.

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

/// What each document of `index.json` refers to: the subject, and the document.
pub(crate) type Subjects = Vec<(Digest, FoundReferrer)>;

impl Entry {
    /// Whether `cosign save` says that it is what was attached to an image.
    pub(crate) fn is_cosigns(&self) -> bool {
        DigestTag::ALL.iter().any(|t| self.kind.as_deref() == Some(cosign_kind(*t)))
    }

    fn is_cosign_image(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| COSIGN_IMAGES.contains(&kind))
    }

    /// Its names as tags, whether they are full or not.
    fn tags(&self) -> impl Iterator<Item = String> {
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
        let own = |entry: &&Entry| {
            !entry.is_cosigns() && !entry.tags().any(|tag| tag.parse().is_ok_and(|tag| is_made_from_digest(&tag)))
        };
        let images: Vec<&Entry> = self.entries.iter().filter(own).collect();
        match images.len() {
            0 => return self.entries.iter().filter(|entry| !entry.is_cosigns()).collect(),
            1 => return images,
            _ => {}
        }
        // A document that cannot be read is told of when it is chosen.
        let refers = |entry: &Entry| self.about(entry).ok().flatten().is_some_and(|about| about.subject.is_some());
        images.into_iter().filter(|entry| !refers(entry)).collect()
    }

    /// What refers to what in `index.json`. Every document that it lists is read.
    pub(crate) fn subjects(&self) -> Result<Subjects, SourceError> {
        let mut subjects = Vec::new();
        for entry in &self.entries {
            let Some(about) = self.about(entry)? else { continue };
            let Some(subject) = about.subject else { continue };
            let artifact_type = about.artifact_type;
            subjects.push((subject, FoundReferrer { descriptor: entry.descriptor.clone(), artifact_type }));
        }
        Ok(subjects)
    }

    /// What refers to a document.
    pub(crate) fn referrers(&self, subject: &Digest, subjects: &Subjects) -> Result<Vec<FoundReferrer>, SourceError> {
        let mut found = Referrers::default();
        let index = self.files.at("index.json");
        for (_, referrer) in subjects.iter().filter(|(of, _)| of == subject) {
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
        let images = self.images();
        let only = !images.is_empty() && images.iter().all(|entry| entry.descriptor.digest == *manifest);
        signature_files(&*self.files, manifest, only)
    }

    /// The one document under a tag.
    fn tagged(&self, tag: &Tag) -> Result<Option<&Entry>, SourceError> {
        self.one(
            self.entries.iter().filter(|entry| entry.tags().any(|own| own == tag.as_str())).collect(),
            tag.as_str(),
        )
    }

    fn saved_by_cosign(&self, subject: &Digest, kind: DigestTag) -> Result<Option<&Entry>, SourceError> {
        let belongs = |entry: &&Entry| {
            let mut images =
                self.entries.iter().filter(|e| e.is_cosign_image() && e.image_ref == entry.image_ref).peekable();
            entry.kind.as_deref() == Some(cosign_kind(kind))
                && images.peek().is_some()
                && images.all(|image| image.descriptor.digest == *subject)
        };
        self.one(self.entries.iter().filter(belongs).collect(), cosign_kind(kind))
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

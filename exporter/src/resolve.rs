//! Stage 2: every reference is resolved once, and every image walked down to its blobs. Nothing is written.

use std::collections::{BTreeSet, HashMap};

use blobs::VerifiedBytes;
use console::Progress;
use manifest_schema::document::{Child, Platform};
use manifest_schema::{
    Descriptor, Digest, Document, LIMITS, MediaType, OutsideText, PlatformManifest, Reference, Section,
};
use registry::source::Source;

use crate::error::Error;
use crate::request::Request;

/// Documents that are kept in memory between planning and packing; others are fetched again.
const KEEP: usize = 32 << 20;

/// The images of a request, with everything they consist of.
#[must_use]
pub struct Resolved {
    /// The sources, one an image asked for.
    pub sources: Vec<Box<dyn Source>>,
    /// The images, in the order asked for, each once.
    pub images: Vec<ResolvedImage>,
    /// Every blob once, in the order it was reached.
    pub blobs: Vec<ResolvedBlob>,
    /// Some documents' bytes.
    pub documents: HashMap<Digest, VerifiedBytes>,
}

/// An image and what it consists of.
pub struct ResolvedImage {
    /// As asked for.
    pub asked: OutsideText,
    /// The index of its source.
    pub source: usize,
    /// The full reference.
    pub origin: Reference,
    /// The digest the reference named before a platform was chosen, if that is another one.
    pub chosen_from: Option<Digest>,
    /// The platform that was chosen then.
    pub chosen_platform: Option<Platform>,
    /// The document that is carried.
    pub top: Descriptor,
    /// The image manifests below it.
    pub platforms: Vec<PlatformManifest>,
    /// Entries of the index are left out.
    pub sparse: bool,
    /// Every blob it consists of.
    pub blobs: BTreeSet<Digest>,
    /// Where the tag points now, if it was pinned to something else.
    pub moved: Option<Digest>,
}

/// A blob and where to get it.
pub struct ResolvedBlob {
    /// What it is.
    pub descriptor: Descriptor,
    /// Where in the bundle it goes.
    pub section: Section,
    /// The index of a source that has it.
    pub source: usize,
}

/// Resolves a request.
///
/// # Errors
/// [`Error`] names the reference.
pub fn resolve(request: &Request, progress: &Progress) -> Result<Resolved, Error> {
    let mut walk = Walk::default();
    let mut sources = Vec::new();
    let mut images: Vec<ResolvedImage> = Vec::new();
    for asked in &request.images {
        let source = asked.open(&request.registries)?;
        let image = walk.image(request, asked.to_string(), source.as_ref(), sources.len(), progress)?;
        tracing::info!("{asked} is {}", image.top.digest);
        if let Some(now) = &image.moved {
            progress.warn(format_args!("{}: the tag now names {now}; the pinned digest is packed", image.origin));
        }
        sources.push(source);
        match images.iter().find(|other| other.origin == image.origin) {
            Some(other) if other.top.digest == image.top.digest => {}
            Some(other) => {
                return Err(Error::SameName {
                    origin: Box::new(image.origin),
                    first: other.top.digest,
                    second: image.top.digest,
                });
            }
            None => images.push(image),
        }
    }
    Ok(Resolved { sources, images, blobs: walk.blobs, documents: walk.documents })
}

#[derive(Default)]
struct Walk {
    blobs: Vec<ResolvedBlob>,
    by_digest: HashMap<Digest, usize>,
    documents: HashMap<Digest, VerifiedBytes>,
    kept: usize,
}

impl Walk {
    fn image(
        &mut self,
        request: &Request,
        asked: String,
        source: &dyn Source,
        number: usize,
        progress: &Progress,
    ) -> Result<ResolvedImage, Error> {
        let resolved = source.resolve()?;
        let origin = resolved.origin;
        let describe = |bytes: &VerifiedBytes, media_type: MediaType| Descriptor {
            media_type,
            digest: *bytes.digest(),
            size: bytes.bytes().len() as u64,
            urls: Vec::new(),
        };
        let mut top = describe(&resolved.document, resolved.media_type);
        let mut bytes = resolved.document;
        let (mut chosen_from, mut chosen_platform) = (None, None);
        let mut keep: Option<BTreeSet<Digest>> = None;
        if top.media_type.is_index() && !request.platforms.is_empty() {
            let mut choice = Choice::default();
            choice.among(&origin, source, &bytes, &top, &request.platforms, 0)?;
            for asked in request.platforms.iter().filter(|asked| !choice.has(asked)) {
                progress.warn(format_args!("{origin} has no {asked}"));
            }
            let distinct: BTreeSet<_> = choice.found.iter().map(|(_, d)| d.digest).collect();
            match (distinct.len(), choice.found.into_iter().next()) {
                (0, _) | (_, None) => {
                    let platforms = request.platforms.iter().map(ToString::to_string).collect();
                    return Err(Error::NoPlatform { origin: Box::new(origin), platforms });
                }
                _ if choice.others == 0 => {}
                (1, Some((platform, only))) => {
                    (chosen_from, chosen_platform) = (Some(top.digest), Some(platform));
                    bytes = source.document(&only.digest, only.size)?;
                    top = only;
                }
                (_, Some(_)) => {
                    if !request.sparse_index {
                        return Err(Error::Sparse { origin: Box::new(origin) });
                    }
                    keep = Some(distinct);
                }
            }
        }
        let mut image = ResolvedImage {
            asked: OutsideText::new(asked),
            source: number,
            chosen_from,
            chosen_platform,
            top: top.clone(),
            platforms: Vec::new(),
            sparse: false,
            blobs: BTreeSet::new(),
            moved: resolved.moved,
            // A tag that was resolved to one platform of an index by digest must not claim the index's digest.
            origin: match (origin.digest(), origin.tag()) {
                (Some(d), Some(tag)) if *d != top.digest => Reference::tagged(origin.repository().clone(), tag.clone()),
                (Some(d), None) if *d != top.digest => Reference::pinned(origin.repository().clone(), top.digest),
                _ => origin,
            },
        };
        self.document(&mut image, source, &top, bytes, None, keep.as_ref(), 0)?;
        Ok(image)
    }

    #[allow(clippy::too_many_arguments)]
    fn document(
        &mut self,
        image: &mut ResolvedImage,
        source: &dyn Source,
        descriptor: &Descriptor,
        bytes: VerifiedBytes,
        platform: Option<Platform>,
        keep: Option<&BTreeSet<Digest>>,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > LIMITS.nesting {
            return Err(Error::Nesting { origin: Box::new(image.origin.clone()) });
        }
        let document = parse(&image.origin, &bytes, &descriptor.media_type)?;
        if self.kept + bytes.bytes().len() <= KEEP && !self.documents.contains_key(&descriptor.digest) {
            self.kept += bytes.bytes().len();
            self.documents.insert(descriptor.digest, bytes);
        }
        match document {
            Document::Index { children, .. } => {
                for Child { descriptor: child, platform } in children {
                    let wanted = keep.is_none_or(|keep| keep.contains(&child.digest));
                    if !wanted && !child.media_type.is_index() {
                        image.sparse = true;
                        continue;
                    }
                    if image.blobs.contains(&child.digest) {
                        continue;
                    }
                    let bytes = source.document(&child.digest, child.size)?;
                    self.document(image, source, &child, bytes, platform, keep, depth + 1)?;
                }
            }
            Document::Manifest { config, layers, .. } => {
                image.platforms.push(PlatformManifest { platform, digest: descriptor.digest });
                self.blob(image, &config, Section::Admission)?;
                for layer in &layers {
                    self.blob(image, layer, Section::Layers)?;
                }
            }
        }
        // After what it refers to: the format lists a document behind its children, so that they can be pushed in order.
        self.blob(image, descriptor, Section::Admission)
    }

    fn blob(&mut self, image: &mut ResolvedImage, descriptor: &Descriptor, section: Section) -> Result<(), Error> {
        image.blobs.insert(descriptor.digest);
        match self.by_digest.get(&descriptor.digest) {
            None => {
                self.by_digest.insert(descriptor.digest, self.blobs.len());
                self.blobs.push(ResolvedBlob { descriptor: descriptor.clone(), section, source: image.source });
                Ok(())
            }
            Some(&at) => {
                let known = &mut self.blobs[at];
                if known.descriptor.size != descriptor.size {
                    return Err(Error::TwoSizes {
                        origin: Box::new(image.origin.clone()),
                        digest: descriptor.digest,
                        sizes: (known.descriptor.size, descriptor.size),
                    });
                }
                let document = descriptor.media_type.is_document();
                if document != known.descriptor.media_type.is_document() {
                    return Err(Error::TwoKinds { origin: Box::new(image.origin.clone()), digest: descriptor.digest });
                }
                if section == Section::Admission {
                    known.section = Section::Admission;
                }
                Ok(())
            }
        }
    }
}

/// The image manifests of an index that are for the platforms asked for.
#[derive(Default)]
struct Choice {
    found: Vec<(Platform, Descriptor)>,
    /// How many manifests are for others, or for none.
    others: usize,
    /// Indexes that were looked into.
    seen: BTreeSet<Digest>,
}

impl Choice {
    fn among(
        &mut self,
        origin: &Reference,
        source: &dyn Source,
        bytes: &VerifiedBytes,
        index: &Descriptor,
        platforms: &[Platform],
        depth: usize,
    ) -> Result<(), Error> {
        if depth > LIMITS.nesting {
            return Err(Error::Nesting { origin: Box::new(origin.clone()) });
        }
        for child in parse(origin, bytes, &index.media_type)?.children() {
            if child.descriptor.media_type.is_index() {
                if !self.seen.insert(child.descriptor.digest) {
                    continue;
                }
                let bytes = source.document(&child.descriptor.digest, child.descriptor.size)?;
                self.among(origin, source, &bytes, &child.descriptor, platforms, depth + 1)?;
                continue;
            }
            match &child.platform {
                Some(p) if platforms.iter().any(|asked| p.satisfies(asked)) => {
                    self.found.push((p.clone(), child.descriptor.clone()));
                }
                _ => self.others += 1,
            }
        }
        Ok(())
    }

    fn has(&self, asked: &Platform) -> bool {
        self.found.iter().any(|(p, _)| p.satisfies(asked))
    }
}

fn parse(origin: &Reference, bytes: &VerifiedBytes, media_type: &MediaType) -> Result<Document, Error> {
    Document::parse(bytes.bytes(), media_type).map_err(|source| Error::Document {
        origin: Box::new(origin.clone()),
        digest: *bytes.digest(),
        source,
    })
}

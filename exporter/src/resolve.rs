//! Stage 2: every reference is resolved once, and every image walked down to its blobs. Nothing is written.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Display;

use blobs::VerifiedBytes;
use console::Progress;
use manifest_schema::document::{Child, Platform};
use manifest_schema::manifest::ReleaseList;
use manifest_schema::{
    Descriptor, Digest, Document, ImageSignature, LIMITS, MediaType, OutsideText, PlatformManifest, Reference,
    Referrer, Section, is_made_from_digest,
};
use registry::source::{Source, SourceRef, Sources};
use scan::Verdict;

use crate::ahead::{self, Answers, Remembered};
use crate::attached::{self, Carry};
use crate::error::Error;
use crate::gate;
use crate::release;
use crate::request::Request;

/// Documents that are kept in memory between planning and packing; others are fetched again.
const KEEP: usize = 32 << 20;
/// Images that are resolved before what registries answered is forgotten.
const WINDOW: usize = 128;

/// The images of a request, with everything they consist of.
#[must_use]
pub struct Resolved {
    /// The sources: that of the reports, then one for each image asked for.
    pub sources: Vec<Box<dyn Source>>,
    /// The images, in the order asked for, each once.
    pub images: Vec<ResolvedImage>,
    /// Every blob once, in the order it was reached.
    pub blobs: Vec<ResolvedBlob>,
    /// Some documents' bytes, and all signatures'.
    pub documents: HashMap<Digest, VerifiedBytes>,
}

/// An image and what it consists of.
#[derive(Clone)]
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
    /// The same, with what reports may call them.
    pub manifests: Vec<ResolvedManifest>,
    /// Entries of the index are left out.
    pub sparse: bool,
    /// Its indexes and image manifests, children first.
    pub documents: Vec<Digest>,
    /// Every blob it consists of, and what is attached to it.
    pub blobs: BTreeSet<Digest>,
    /// Simple signatures of its documents.
    pub signatures: Vec<ImageSignature>,
    /// What refers to its documents, and what refers to that.
    pub referrers: Vec<Referrer>,
    /// The documents that refer so, as its source has them.
    pub attached: BTreeMap<Digest, Descriptor>,
    /// What its reports come to, if there is a gate.
    pub verdict: Option<Verdict>,
    /// Of an OpenShift release image: where it lists the images of the release.
    pub release: Vec<ReleaseList>,
    /// Signatures and referrers, for people.
    pub evidence: Vec<attached::Evidence>,
    /// Where the tag points now, if it was pinned to something else.
    pub moved: Option<Digest>,
}

/// An image manifest of an image.
#[derive(Debug, Clone)]
pub struct ResolvedManifest {
    /// What it is.
    pub descriptor: Descriptor,
    /// The digest of its configuration.
    pub config: Digest,
    /// The platform, if the index says so.
    pub platform: Option<Platform>,
    /// Whether it could be run.
    pub may_run: bool,
}

impl ResolvedImage {
    /// The same image as if it had no other documents.
    pub(crate) fn with_documents(&self, documents: Vec<Digest>) -> Self {
        Self { documents, ..self.clone() }
    }
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

/// An image that is to be resolved.
struct Asked {
    image: SourceRef,
    is_release: bool,
}

impl Asked {
    fn new(image: SourceRef, is_release: bool) -> Self {
        Self { image, is_release }
    }
}

/// What the walk of every image needs.
pub(crate) struct Context<'a> {
    pub(crate) request: &'a Request,
    pub(crate) carry: &'a Carry<'a>,
    pub(crate) talk: Talk<'a>,
    /// What registries answered.
    pub(crate) answers: &'a Answers,
}

/// Where things are said: nowhere, while answers are fetched ahead.
#[derive(Clone, Copy)]
pub(crate) struct Talk<'a>(Option<&'a Progress>);

impl<'a> Talk<'a> {
    pub(crate) fn to(progress: &'a Progress) -> Self {
        Self(Some(progress))
    }

    pub(crate) fn nowhere() -> Self {
        Self(None)
    }

    pub(crate) fn warn(self, text: impl Display) {
        if let Some(progress) = self.0 {
            progress.warn(text);
        }
    }
}

/// Resolves a request.
///
/// # Errors
/// [`Error`] names the reference.
pub(crate) fn resolve(request: &Request, carry: &Carry<'_>, progress: &Progress) -> Result<Resolved, Error> {
    let mut walk = Walk::default();
    let places = Sources::new(&request.registries);
    // The first source is that of the reports.
    let mut sources = vec![request.reports.source()];
    let (mut attached_reports, mut weight) = (BTreeSet::new(), 0);
    let only = request.images.len() == 1 && !request.release;
    let mut images: Vec<ResolvedImage> = Vec::new();
    let mut names: HashMap<Reference, Digest> = HashMap::new();
    let mut open: VecDeque<Asked> =
        request.images.iter().map(|image| Asked::new(image.clone(), request.release)).collect();
    while !open.is_empty() {
        let window: Vec<Asked> = open.drain(..open.len().min(WINDOW)).collect();
        let answers = Answers::default();
        let context = Context { request, carry, talk: Talk::to(progress), answers: &answers };
        let asked: Vec<_> = window.iter().map(|asked| &asked.image).collect();
        ahead::fetch(request, carry, &answers, &places, &asked);
        for Asked { image: asked, is_release } in &window {
            let source = places.open(asked)?;
            let remembered;
            let place: &dyn Source = match asked.reference() {
                Some(reference) => {
                    remembered = Remembered { source: source.as_ref(), reference, answers: &answers };
                    &remembered
                }
                None => source.as_ref(),
            };
            let (mut image, layers) = walk.image(&context, asked.to_string(), place, sources.len())?;
            tracing::info!("{asked} is {}", image.top.digest);
            let known = names.insert(image.origin.clone(), image.top.digest);
            if let Some(first) = known.filter(|first| *first != image.top.digest) {
                return Err(Error::SameName { origin: Box::new(image.origin), first, second: image.top.digest });
            }
            if let Some(tag) = image.origin.tag().filter(|tag| is_made_from_digest(tag)) {
                return Err(Error::ReservedTag { origin: Box::new(image.origin.clone()), tag: tag.clone() });
            }
            if known.is_none() {
                if *is_release {
                    for member in release::members(&mut walk, &mut image, &layers, place, progress)? {
                        open.push_back(Asked::new(member, false));
                    }
                }
                attached::collect(&mut walk, &mut image, asked, place, &context)?;
                let called = carry.called(&image);
                let reports = request.reports.attach(&mut walk, &mut image, sources[0].as_ref(), &called, only)?;
                attached_reports.extend(reports.iter().map(|report| report.at));
                image.verdict = match &request.gate {
                    Some(scan) => Some(gate::judge(scan, &image, &reports, place, request.now, &mut weight)?),
                    None if reports.is_empty() => None,
                    None => Some(gate::show(&image, &reports, request.now)),
                };
                if let Some(now) = &image.moved {
                    let origin = &image.origin;
                    progress.warn(format_args!("{origin}: the tag now names {now}; the pinned digest is packed"));
                }
                images.push(image);
            }
            sources.push(source);
        }
    }
    request.reports.all_attached(&attached_reports, &images)?;
    gate::demand(&images)?;
    if images.len() > LIMITS.images {
        return Err(Error::TooMuch { images: images.len(), blobs: walk.blobs.len(), bytes: 0 });
    }
    Ok(Resolved { sources, images, blobs: walk.blobs, documents: walk.documents })
}

/// The layers of each image manifest of an image, lowest first.
pub(crate) type Layers = Vec<(Digest, Vec<Descriptor>)>;

/// What has been reached so far.
#[derive(Default)]
pub(crate) struct Walk {
    blobs: Vec<ResolvedBlob>,
    by_digest: HashMap<Digest, usize>,
    documents: HashMap<Digest, VerifiedBytes>,
    kept: usize,
    /// Bytes of signatures, simple ones and cosign's.
    signatures: u64,
}

/// Where a document is read.
pub(crate) struct Place<'a> {
    /// What its image is called.
    pub(crate) origin: &'a Reference,
    pub(crate) source: &'a dyn Source,
    /// The source's number.
    pub(crate) number: usize,
}

/// A document with everything below it, as it is walked.
#[derive(Default)]
pub(crate) struct Tree {
    /// Documents, children first.
    pub(crate) documents: Vec<Digest>,
    pub(crate) blobs: BTreeSet<Digest>,
    pub(crate) platforms: Vec<PlatformManifest>,
    pub(crate) manifests: Vec<ResolvedManifest>,
    pub(crate) sparse: bool,
    /// The layers of each image manifest, lowest first.
    pub(crate) layers: Layers,
    /// Attached to an image: its small blobs decide on admission.
    pub(crate) attached: bool,
}

impl Walk {
    /// A walk whose result is thrown away: it keeps no documents.
    pub(crate) fn thrown_away() -> Self {
        Self { kept: KEEP, ..Self::default() }
    }

    /// Resolves an image and takes in everything below it.
    pub(crate) fn image(
        &mut self,
        context: &Context<'_>,
        asked: String,
        source: &dyn Source,
        number: usize,
    ) -> Result<(ResolvedImage, Layers), Error> {
        let Context { request, talk, .. } = context;
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
                talk.warn(format_args!("{origin} has no {asked}"));
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
        // A tag that was resolved to one platform of an index by digest must not claim the index's digest.
        let origin = match (origin.digest(), origin.tag()) {
            (Some(d), Some(tag)) if *d != top.digest => Reference::tagged(origin.repository().clone(), tag.clone()),
            (Some(d), None) if *d != top.digest => Reference::pinned(origin.repository().clone(), top.digest),
            _ => origin,
        };
        let mut tree = Tree::default();
        let place = Place { origin: &origin, source, number };
        self.document(&mut tree, &place, &top, bytes, None, keep.as_ref(), 0)?;
        let image = ResolvedImage {
            asked: OutsideText::new(asked),
            source: number,
            chosen_from,
            chosen_platform,
            top,
            platforms: tree.platforms,
            manifests: tree.manifests,
            sparse: tree.sparse,
            documents: tree.documents,
            blobs: tree.blobs,
            signatures: Vec::new(),
            referrers: Vec::new(),
            attached: BTreeMap::new(),
            verdict: None,
            release: Vec::new(),
            evidence: Vec::new(),
            moved: resolved.moved,
            origin,
        };
        Ok((image, tree.layers))
    }

    /// Puts a blob that was reached among those that decide on admission.
    pub(crate) fn admit(&mut self, digest: &Digest) {
        if let Some(&at) = self.by_digest.get(digest) {
            self.blobs[at].section = Section::Admission;
        }
    }

    /// Takes in a document and everything below it.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn document(
        &mut self,
        tree: &mut Tree,
        place: &Place<'_>,
        descriptor: &Descriptor,
        bytes: VerifiedBytes,
        platform: Option<Platform>,
        keep: Option<&BTreeSet<Digest>>,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > LIMITS.nesting {
            return Err(Error::Nesting { origin: Box::new(place.origin.clone()) });
        }
        let document = parse(place.origin, &bytes, &descriptor.media_type)?;
        if self.kept + bytes.bytes().len() <= KEEP && !self.documents.contains_key(&descriptor.digest) {
            self.kept += bytes.bytes().len();
            self.documents.insert(descriptor.digest, bytes);
        }
        let may_run = document.may_run();
        match document {
            Document::Index { children, .. } => {
                for Child { descriptor: child, platform } in children {
                    let wanted = keep.is_none_or(|keep| keep.contains(&child.digest));
                    if !wanted && !child.media_type.is_index() {
                        tree.sparse = true;
                        continue;
                    }
                    if tree.blobs.contains(&child.digest) {
                        continue;
                    }
                    let bytes = place.source.document(&child.digest, child.size)?;
                    self.document(tree, place, &child, bytes, platform, keep, depth + 1)?;
                }
            }
            Document::Manifest { config, layers, .. } => {
                tree.manifests.push(ResolvedManifest {
                    descriptor: descriptor.clone(),
                    config: config.digest,
                    platform: platform.clone(),
                    may_run,
                });
                tree.platforms.push(PlatformManifest { platform, digest: descriptor.digest });
                self.blob(tree, place, &config, Section::Admission)?;
                for layer in &layers {
                    let is_report = scan::may_be_report(layer.media_type.as_str(), layer.size);
                    let decides = tree.attached && (layer.size <= LIMITS.document || is_report);
                    self.blob(tree, place, layer, if decides { Section::Admission } else { Section::Layers })?;
                }
                tree.layers.push((descriptor.digest, layers));
            }
        }
        // After what it refers to: the format lists a document behind its children, so that they can be pushed in order.
        tree.documents.push(descriptor.digest);
        self.blob(tree, place, descriptor, Section::Admission)
    }

    /// Keeps a document that no source has.
    pub(crate) fn keep(&mut self, bytes: VerifiedBytes) {
        self.documents.insert(*bytes.digest(), bytes);
    }

    /// Counts a document with cosign signatures, and their payloads: the other side holds them to judge images by.
    pub(crate) fn cosign(
        &mut self,
        place: &Place<'_>,
        descriptor: &Descriptor,
        document: &Document,
    ) -> Result<(), Error> {
        if self.by_digest.contains_key(&descriptor.digest) {
            return Ok(());
        }
        let payloads = match document {
            Document::Manifest { layers, .. } => layers.iter().map(|l| l.size.min(LIMITS.cosign_payload)).sum(),
            Document::Index { .. } => 0,
        };
        self.evidence(place, descriptor.size.saturating_add(payloads))
    }

    fn evidence(&mut self, place: &Place<'_>, bytes: u64) -> Result<(), Error> {
        self.signatures = self.signatures.saturating_add(bytes);
        if self.signatures > LIMITS.evidence {
            return Err(Error::TooManySignatures { origin: Box::new(place.origin.clone()) });
        }
        Ok(())
    }

    /// Takes in a simple signature. It is kept: a server need not give it again.
    pub(crate) fn signature(&mut self, tree: &mut Tree, place: &Place<'_>, bytes: Vec<u8>) -> Result<Digest, Error> {
        let bytes = VerifiedBytes::of(bytes);
        let (digest, size) = (*bytes.digest(), bytes.bytes().len() as u64);
        if !self.documents.contains_key(&digest) {
            self.evidence(place, size)?;
            self.documents.insert(digest, bytes);
        }
        let media_type = MediaType::SIMPLE_SIGNATURE.parse().map_err(|source| Error::Document {
            origin: Box::new(place.origin.clone()),
            digest,
            source,
        })?;
        self.blob(tree, place, &Descriptor { media_type, digest, size, urls: Vec::new() }, Section::Admission)?;
        Ok(digest)
    }

    fn blob(
        &mut self,
        tree: &mut Tree,
        place: &Place<'_>,
        descriptor: &Descriptor,
        section: Section,
    ) -> Result<(), Error> {
        tree.blobs.insert(descriptor.digest);
        match self.by_digest.get(&descriptor.digest) {
            None => {
                self.by_digest.insert(descriptor.digest, self.blobs.len());
                self.blobs.push(ResolvedBlob { descriptor: descriptor.clone(), section, source: place.number });
                Ok(())
            }
            Some(&at) => {
                let known = &mut self.blobs[at];
                if known.descriptor.size != descriptor.size {
                    return Err(Error::TwoSizes {
                        origin: Box::new(place.origin.clone()),
                        digest: descriptor.digest,
                        sizes: (known.descriptor.size, descriptor.size),
                    });
                }
                let document = descriptor.media_type.is_document();
                if document != known.descriptor.media_type.is_document() {
                    return Err(Error::TwoKinds { origin: Box::new(place.origin.clone()), digest: descriptor.digest });
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

pub(crate) fn parse(origin: &Reference, bytes: &VerifiedBytes, media_type: &MediaType) -> Result<Document, Error> {
    Document::parse(bytes.bytes(), media_type).map_err(|source| Error::Document {
        origin: Box::new(origin.clone()),
        digest: *bytes.digest(),
        source,
    })
}

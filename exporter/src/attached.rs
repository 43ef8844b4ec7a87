//! What is attached to an image and travels with it: simple signatures, OCI referrers, and what digest tags name.
//!
//! Nothing is judged on this side; nothing is left out silently either. A signature or referrer that is listed and cannot
//! be fetched fails the export, so that the other side never takes an image for unsigned that was signed.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use blobs::{VerifiedBytes, sha256};
use manifest_schema::{
    Blob, Descriptor, Digest, DigestTag, Document, Found, Image, ImageSignature, LIMITS, Manifest, MediaType,
    OutsideText, Reference, Referrer, Timestamp,
};
use registry::source::{Source, SourceRef, Transport};
use serde::Serialize;
use signing::sigstore::EvidenceKind;
use signing::{Lookaside, RegistriesD, SecretKey, Trust};

use crate::ahead::RememberedFiles;
use crate::error::Error;
use crate::resolve::{Context, Place, ResolvedImage, Tree, Walk, parse};

/// Which referrers are carried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Referrers {
    /// All of them.
    #[default]
    All,
    /// None.
    None,
    /// Those of these types: an artifact type, or `sig`, `att`, `sbom` for what digest tags name.
    Types(Vec<String>),
}

impl Referrers {
    fn takes_type(&self, artifact_type: Option<&OutsideText>) -> bool {
        match self {
            Referrers::All => true,
            Referrers::None => false,
            Referrers::Types(types) => artifact_type.is_some_and(|t| types.iter().any(|wanted| wanted == t.raw())),
        }
    }

    fn takes_tag(&self, tag: DigestTag) -> bool {
        match self {
            Referrers::All => true,
            Referrers::None => false,
            Referrers::Types(types) => types.iter().any(|wanted| wanted == tag.suffix()),
        }
    }
}

impl fmt::Display for Referrers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Referrers::All => f.write_str("all"),
            Referrers::None => f.write_str("none"),
            Referrers::Types(types) => f.write_str(&types.join(",")),
        }
    }
}

impl FromStr for Referrers {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "all" => return Ok(Self::All),
            "none" => return Ok(Self::None),
            _ => {}
        }
        let types: Vec<String> = text.split(',').map(|t| t.trim().to_string()).collect();
        let known = |t: &String| {
            DigestTag::ALL.iter().any(|tag| tag.suffix() == t) || (t.contains('/') && t.parse::<MediaType>().is_ok())
        };
        if types.iter().all(known) {
            Ok(Self::Types(types))
        } else {
            Err(Error::ReferrersChoice(OutsideText::new(text)))
        }
    }
}

/// Something that travels with an image to vouch for it or to describe it, as it was found; nothing of it is judged here.
#[derive(Debug, Clone, Serialize)]
pub struct Evidence {
    /// What it is attached to.
    pub subject: Digest,
    /// Its digest.
    pub digest: Digest,
    /// What it is: `simple signature`, `cosign signature`, `SPDX SBOM`, or an artifact type.
    pub kind: OutsideText,
    /// Where it was found: `lookaside`, `registry`, `folder`, `made`, `referrers`, or a digest tag (`.sig`).
    pub found: String,
    /// What a simple signature says: the key that it names, and the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<Claims>,
}

/// What a simple signature says, unverified.
#[derive(Debug, Clone, Serialize)]
pub struct Claims {
    /// The fingerprint or key id that it names.
    pub key: Option<String>,
    /// The reference that it names.
    pub reference: Option<OutsideText>,
}

impl Evidence {
    /// For a simple signature.
    pub(crate) fn signature(subject: Digest, digest: Digest, found: Found, bytes: &[u8]) -> Self {
        let claims =
            signing::peek_simple(bytes).ok().map(|says| Claims { key: says.issuer, reference: says.reference });
        let kind = OutsideText::new("simple signature");
        Self { subject, digest, kind, found: found.as_str().into(), claims }
    }
}

/// Signs images with the release keys, for sites whose clusters demand signatures of the origin.
///
/// A signature differs each time it is made. Those that were made are kept beside the exporter's record, so that the same
/// release made again has the same manifest.
pub(crate) struct ImageSigner<'a> {
    keys: Vec<(&'a SecretKey, Trust)>,
    kept: Lookaside,
}

impl<'a> ImageSigner<'a> {
    /// A signer that keeps its signatures in a folder.
    ///
    /// # Errors
    /// [`Error::Signing`].
    pub(crate) fn new(keys: &'a [SecretKey], folder: PathBuf) -> Result<Self, Error> {
        let trusted = |key: &'a SecretKey| Ok((key, Trust::new(key.certificates(), 1, Timestamp::now())?));
        let keys = keys.iter().map(trusted).collect::<Result<_, Error>>()?;
        Ok(Self { keys, kept: Lookaside::new(folder) })
    }

    /// A signature by each key of a document under its image's reference: by tag, or by digest if there is no tag.
    fn sign(&self, origin: &Reference, subject: &Digest) -> Result<Vec<Vec<u8>>, Error> {
        let repository = origin.repository();
        let reference = match origin.tag() {
            Some(tag) => Reference::tagged(repository.clone(), tag.clone()),
            None => origin.clone(),
        };
        let mut made = Vec::new();
        for (key, trust) in &self.keys {
            let kept = self.kept.find_signature(repository, subject, &reference, &key.fingerprint(), trust)?;
            if let Some((_, bytes)) = kept {
                made.push(bytes);
                continue;
            }
            let creator = concat!("sealift-export ", env!("CARGO_PKG_VERSION"));
            let bytes = key.sign_simple(&reference, subject, Timestamp::now(), creator)?;
            self.kept.add(repository, subject, &bytes)?;
            made.push(bytes);
        }
        Ok(made)
    }
}

/// Which attachments are carried, of those that the request wants.
pub(crate) enum Carry<'a> {
    /// Whatever is found.
    Found,
    /// Whatever is found, and signatures that are made now.
    Signed(&'a ImageSigner<'a>),
    /// Those of a plan, whatever was attached since.
    Planned(PlannedManifest<'a>),
}

/// A plan's manifest, with what is looked up in it for each image.
pub(crate) struct PlannedManifest<'a> {
    /// The images of a digest.
    images: HashMap<Digest, Vec<&'a Image>>,
    blobs: HashMap<Digest, &'a Blob>,
}

impl<'a> Carry<'a> {
    /// The same without what is made.
    pub(crate) fn found_only(&self) -> &Carry<'a> {
        if let Self::Signed(_) = self { &Carry::Found } else { self }
    }

    /// What a plan has.
    pub(crate) fn planned_in(manifest: &'a Manifest) -> Self {
        let mut images: HashMap<Digest, Vec<&Image>> = HashMap::new();
        for image in &manifest.images {
            images.entry(image.digest).or_default().push(image);
        }
        let blobs = manifest.blobs.iter().map(|blob| (blob.digest, blob)).collect();
        Self::Planned(PlannedManifest { images, blobs })
    }

    /// How a plan calls an image; nothing if there is no plan.
    pub(crate) fn called(&self, image: &ResolvedImage) -> Vec<&'a Image> {
        match self {
            Self::Planned(planned) => planned.images.get(&image.top.digest).cloned().unwrap_or_default(),
            Self::Found | Self::Signed(_) => Vec::new(),
        }
    }

    /// What a plan has of an image: all that may be carried. `None` if there is no plan.
    fn planned(&self, image: &ResolvedImage) -> Option<PlannedAttachments<'_>> {
        let Self::Planned(PlannedManifest { images, blobs }) = self else { return None };
        let is_it = |i: &&&Image| i.origin.repository() == image.origin.repository();
        // The plan's images are fetched by digest; several tags of one digest have the same attached to them.
        let images = || images.get(&image.top.digest).into_iter().flatten().filter(is_it);
        Some(PlannedAttachments {
            blobs,
            signatures: images().flat_map(|i| &i.signatures).map(|s| (s.subject, s.digest)).collect(),
            referrers: images().flat_map(|i| &i.referrers).collect(),
        })
    }
}

/// What a plan has of an image.
struct PlannedAttachments<'a> {
    blobs: &'a HashMap<Digest, &'a Blob>,
    /// Each with what it signs.
    signatures: BTreeSet<(Digest, Digest)>,
    referrers: BTreeSet<&'a Referrer>,
}

impl PlannedAttachments<'_> {
    fn has(&self, subject: &Digest, digest: &Digest, tag: Option<DigestTag>) -> bool {
        self.referrers.contains(&Referrer { subject: *subject, digest: *digest, tag })
    }

    /// What a digest tag named.
    fn tagged(&self, subject: &Digest, tag: DigestTag) -> Option<Descriptor> {
        let named = self.referrers.iter().find(|r| r.subject == *subject && r.tag == Some(tag))?;
        let blob = self.blobs.get(&named.digest)?;
        let (media_type, digest, size) = (blob.media_type.clone(), blob.digest, blob.size);
        Some(Descriptor { media_type, digest, size, urls: Vec::new() })
    }
}

/// Finds what is attached to an image, after the image itself was walked.
///
/// # Errors
/// [`Error`]; whatever is listed and cannot be had is an error.
pub(crate) fn collect(
    walk: &mut Walk,
    image: &mut ResolvedImage,
    asked: &SourceRef,
    source: &dyn Source,
    context: &Context<'_>,
) -> Result<(), Error> {
    let origin = image.origin.clone();
    let place = Place { origin: &origin, source, number: image.source };
    let mut tree = Tree { attached: true, ..Tree::default() };
    let wanted = Wanted { context, planned: context.carry.planned(image) };
    signatures(walk, image, &mut tree, &place, asked, &wanted)?;
    referrers(walk, image, &mut tree, &place, &wanted)?;
    image.blobs.append(&mut tree.blobs);
    Ok(())
}

/// What is to be carried of an image.
struct Wanted<'a> {
    context: &'a Context<'a>,
    /// Nothing but this, if it was planned.
    planned: Option<PlannedAttachments<'a>>,
}

impl Wanted<'_> {
    /// Whether something was planned; if not, it is said that it is left out.
    fn is_planned(&self, place: &Place<'_>, digest: &Digest, is_in: impl Fn(&PlannedAttachments<'_>) -> bool) -> bool {
        let planned = self.planned.as_ref().is_none_or(is_in);
        if !planned {
            self.left_out(place, digest);
        }
        planned
    }

    fn left_out(&self, place: &Place<'_>, digest: &Digest) {
        let origin = place.origin;
        self.context.talk.warn(format_args!("{origin}: {digest} was attached to it after the plan; it is left out"));
    }
}

/// Simple signatures of every document of the image.
fn signatures(
    walk: &mut Walk,
    image: &mut ResolvedImage,
    tree: &mut Tree,
    place: &Place<'_>,
    asked: &SourceRef,
    wanted: &Wanted<'_>,
) -> Result<(), Error> {
    let Context { request, answers, .. } = wanted.context;
    let files = RememberedFiles { registries: &request.registries, answers };
    let signer = if let Carry::Signed(signer) = wanted.context.carry { Some(*signer) } else { None };
    let in_registry = asked.transport() == Transport::Docker;
    let repository = image.origin.repository();
    let lookaside = in_registry.then(|| {
        let configured = request.registries_d.lookaside(repository, image.origin.tag());
        configured.map_or_else(RegistriesD::built_in, String::from)
    });
    let beside = if in_registry { Found::Registry } else { Found::Folder };
    let mut seen = BTreeSet::new();
    for subject in &image.documents {
        let mut found: Vec<(Found, Vec<u8>)> =
            place.source.simple_signatures(subject)?.into_iter().map(|bytes| (beside, bytes)).collect();
        if let Some(base) = &lookaside {
            let fetched = signing::fetch_signatures(base, repository, subject, &files);
            let fetched = fetched.map_err(|e| unreadable(place, e))?;
            found.extend(fetched.into_iter().map(|bytes| (Found::Lookaside, bytes)));
        }
        for store in request.release_signatures.iter().filter(|_| !image.release.is_empty()) {
            let fetched = signing::fetch_release_signatures(store, subject, &files);
            let fetched = fetched.map_err(|e| unreadable(place, e))?;
            found.extend(fetched.into_iter().map(|bytes| (Found::ReleaseStore, bytes)));
        }
        if let Some(signer) = signer {
            let made = signer.sign(&image.origin, subject)?;
            found.extend(made.into_iter().map(|bytes| (Found::Made, bytes)));
        }
        found.retain(|(_, bytes)| {
            let digest = sha256(bytes);
            wanted.is_planned(place, &digest, |planned| planned.signatures.contains(&(*subject, digest)))
        });
        if found.len() > LIMITS.lookaside_signatures {
            return Err(Error::TooManySignatures { origin: Box::new(image.origin.clone()) });
        }
        for (found, bytes) in found {
            let claims = Evidence::signature(*subject, sha256(&bytes), found, &bytes);
            let digest = walk.signature(tree, place, bytes)?;
            if seen.insert((*subject, digest)) {
                image.evidence.push(claims);
                image.signatures.push(ImageSignature { subject: *subject, digest, found });
            }
        }
    }
    if image.signatures.len() > LIMITS.attachments {
        return Err(Error::TooManyReferrers { origin: Box::new(image.origin.clone()) });
    }
    Ok(())
}

fn unreadable(place: &Place<'_>, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Signatures { origin: Box::new(place.origin.clone()), source: Box::new(error) }
}

/// Everything that refers to a document of the image, and to what was found so; each document once, loops or not.
fn referrers(
    walk: &mut Walk,
    image: &mut ResolvedImage,
    tree: &mut Tree,
    place: &Place<'_>,
    wanted: &Wanted<'_>,
) -> Result<(), Error> {
    if wanted.context.request.referrers == Referrers::None {
        return Ok(());
    }
    let mut seen: BTreeSet<Digest> = image.documents.iter().copied().collect();
    let mut queue: VecDeque<(Digest, usize)> = image.documents.iter().map(|d| (*d, 0)).collect();
    while let Some((subject, depth)) = queue.pop_front() {
        // One at a time: a thousand of them may be listed, each as large as a document gets.
        for listed in listed(&subject, place, wanted)? {
            let Some(Attachment { tag, descriptor, bytes, kind }) = fetch(&subject, listed, place, wanted)? else {
                continue;
            };
            let digest = descriptor.digest;
            if digest == subject {
                continue;
            }
            if depth == LIMITS.referrer_depth || image.signatures.len() + image.referrers.len() >= LIMITS.attachments {
                return Err(Error::TooManyReferrers { origin: Box::new(image.origin.clone()) });
            }
            if tag == Some(DigestTag::Sig) {
                walk.cosign(place, &descriptor, &parse(place.origin, &bytes, &descriptor.media_type)?)?;
            }
            image.referrers.push(Referrer { subject, digest, tag });
            image.attached.insert(digest, descriptor.clone());
            let found = tag.map_or("referrers".into(), |tag| format!(".{}", tag.suffix()));
            image.evidence.push(Evidence { subject, digest, kind, found, claims: None });
            if seen.contains(&digest) {
                continue;
            }
            let before = tree.documents.len();
            walk.document(tree, place, &descriptor, bytes, None, None, 0)?;
            for new in &tree.documents[before..] {
                if seen.insert(*new) {
                    queue.push_back((*new, depth + 1));
                }
            }
        }
    }
    Ok(())
}

/// Something that may refer to a document.
enum Listed {
    /// Listed as a referrer.
    Referrer(Descriptor),
    /// Whatever this tag names.
    Tag(DigestTag),
}

/// A document that refers to another.
struct Attachment {
    tag: Option<DigestTag>,
    descriptor: Descriptor,
    bytes: VerifiedBytes,
    /// What it is, for people.
    kind: OutsideText,
}

/// What is listed as referring to a document, and the tags that may name something that does.
fn listed(subject: &Digest, place: &Place<'_>, wanted: &Wanted<'_>) -> Result<Vec<Listed>, Error> {
    let listed = place.source.referrers(subject)?;
    let tags = DigestTag::ALL.into_iter().filter(|tag| wanted.context.request.referrers.takes_tag(*tag));
    Ok(listed.into_iter().map(|l| Listed::Referrer(l.descriptor)).chain(tags.map(Listed::Tag)).collect())
}

/// Fetches what is listed; `None` if it was not asked for, is not there, or does not refer to the document.
fn fetch(
    subject: &Digest,
    listed: Listed,
    place: &Place<'_>,
    wanted: &Wanted<'_>,
) -> Result<Option<Attachment>, Error> {
    let (tag, descriptor, bytes) = match listed {
        Listed::Referrer(descriptor) => {
            let bytes = place.source.document(&descriptor.digest, descriptor.size)?;
            (None, descriptor, bytes)
        }
        Listed::Tag(tag) => match tagged(subject, tag, place, wanted)? {
            None => return Ok(None),
            Some((descriptor, bytes)) => (Some(tag), descriptor, bytes),
        },
    };
    let document = parse(place.origin, &bytes, &descriptor.media_type)?;
    let says = document.attached();
    if tag.is_none() && says.subject != Some(*subject) {
        wanted.context.talk.warn(format_args!(
            "{}: {} is listed as a referrer of {subject}, but does not refer to it; it is left out",
            place.origin, descriptor.digest
        ));
        return Ok(None);
    }
    if tag.is_none() && !wanted.context.request.referrers.takes_type(says.artifact_type.as_ref()) {
        return Ok(None);
    }
    if !wanted.is_planned(place, &descriptor.digest, |planned| planned.has(subject, &descriptor.digest, tag)) {
        return Ok(None);
    }
    Ok(Some(Attachment { tag, kind: kind_of(&document), descriptor, bytes }))
}

/// What a digest tag names; if it was planned, what it named then.
fn tagged(
    subject: &Digest,
    tag: DigestTag,
    place: &Place<'_>,
    wanted: &Wanted<'_>,
) -> Result<Option<(Descriptor, VerifiedBytes)>, Error> {
    let now = place.source.digest_tag(subject, tag)?.map(|(media_type, bytes)| {
        let (digest, size) = (*bytes.digest(), bytes.bytes().len() as u64);
        (Descriptor { media_type, digest, size, urls: Vec::new() }, bytes)
    });
    let planned = wanted.planned.as_ref().and_then(|planned| planned.tagged(subject, tag));
    match (planned, now) {
        (Some(planned), Some((now, _))) if now.digest != planned.digest => {
            wanted.left_out(place, &now.digest);
            let bytes = place.source.document(&planned.digest, planned.size)?;
            Ok(Some((planned, bytes)))
        }
        (_, now) => Ok(now),
    }
}

/// What a document that refers to another is.
fn kind_of(document: &Document) -> OutsideText {
    OutsideText::new(EvidenceKind::of_document(document).label())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_of_referrers_is_strict() {
        assert_eq!("all".parse::<Referrers>().expect("all"), Referrers::All);
        assert_eq!("none".parse::<Referrers>().expect("none"), Referrers::None);
        let types: Referrers = "sig, application/spdx+json".parse().expect("types");
        assert!(types.takes_tag(DigestTag::Sig) && !types.takes_tag(DigestTag::Att));
        assert!(types.takes_type(Some(&OutsideText::new("application/spdx+json"))));
        assert!(!types.takes_type(Some(&OutsideText::new("application/json"))) && !types.takes_type(None));
        for bad in ["", "All", "sig,", "sbom;att", "spdx", "a/b/c"] {
            assert!(bad.parse::<Referrers>().is_err(), "{bad:?}");
        }
    }
}

//! `trust check`: what podman or CRI-O would say of an image, by a policy.json and a registries.d as they are.
//!
//! The signatures are those that containers/image would find (`docker/docker_image_src.go`, `directory/directory_src.go`,
//! `oci/layout/oci_src.go`): of a registry with the signature extension those it keeps, of any other registry those of the
//! lookaside tree, and with `use-sigstore-attachments` those of cosign; of `dir:` those beside the image; of a layout or an
//! archive none. A pull through a mirror is not imitated.

use std::collections::BTreeSet;
use std::path::Path;

use blobs::VerifiedBytes;
use commands::settings::SmallFiles;
use manifest_schema::document::{Child, Platform};
use manifest_schema::{
    Descriptor, Digest, DigestTag, Document, Image, LIMITS, MediaType, OutsideText, Reference, TagRef, Timestamp,
};
use registry::Registries;
use registry::source::{Source, SourceError, SourceRef, Transport};
use serde::Serialize;
use signing::sigstore::Attachment;
use signing::{ImagePolicy, PolicyName, PolicyVerdict, RegistriesD, SigstoreSignature};

use crate::authenticate::{Authenticated, authenticate};
use crate::destination::destination;
use crate::documents;
use crate::error::Error;
use crate::evidence::{Evidence, other_digest};
use crate::graph::Closure;
use crate::media::AsFarAsNeeded;
use crate::open;
use crate::provenance::{AsOf, Judging, named};
use crate::site::Site;

/// What BuildKit gives its attestation manifests in an index.
const NO_PLATFORM: &str = "unknown/unknown";

/// What clusters judge images by.
pub struct Cluster {
    /// The policy.
    pub policy: ImagePolicy,
    /// Where signatures are looked for.
    pub registries_d: RegistriesD,
    /// Which manifests decide.
    pub counted: Counted,
    /// When keys must be good.
    pub now: Timestamp,
}

/// Which manifests of an image decide whether it is accepted.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    /// Image manifests for these platforms only; for all if there are none.
    pub platforms: Vec<Platform>,
    /// The index, which podman and CRI-O do not ask about.
    pub index: bool,
    /// BuildKit's attestation manifests, which nobody runs.
    pub attestations: bool,
}

/// As what the images of a bundle are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    /// What the sender calls them, by the signatures that the bundle carries.
    Origin,
    /// What they are called in production, by the signatures in the lookaside tree and the cosign signatures that travel.
    Production,
}

/// What a manifest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An index or manifest list.
    Index,
    /// An image manifest.
    Manifest,
    /// An image manifest with BuildKit's attestations.
    Attestation,
}

/// The verdict on an image.
#[derive(Debug, Clone, Serialize)]
#[must_use]
pub struct ImageVerdict {
    /// The image, as it was asked for or as the sender calls it.
    pub image: String,
    /// Its top document.
    pub digest: Digest,
    /// The name that the policy is asked about.
    pub judged_as: String,
    /// Where simple signatures were looked for.
    pub signatures: String,
    /// Whether cosign signatures were looked for.
    pub use_sigstore_attachments: bool,
    /// Whether every manifest that counts is accepted.
    pub accepted: bool,
    /// Each index and image manifest, the top document first.
    pub manifests: Vec<ManifestVerdict>,
}

impl ImageVerdict {
    /// The manifests that count.
    pub fn counted(&self) -> impl Iterator<Item = &ManifestVerdict> {
        self.manifests.iter().filter(|m| m.counted)
    }
}

/// The verdict on one index or image manifest.
#[derive(Debug, Clone, Serialize)]
pub struct ManifestVerdict {
    /// Its digest.
    pub digest: Digest,
    /// What it is.
    pub kind: Kind,
    /// The platform, if the index says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Whether it decides.
    pub counted: bool,
    /// The verdict; `None` if an index lists it and it is not there.
    pub verdict: Option<PolicyVerdict>,
    /// What the verdict does not say, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Cluster {
    /// Judges an image of a registry, or in files; these by their path, as skopeo does, or by the name given with `=`.
    ///
    /// # Errors
    /// [`Error`] if the image or its signatures cannot be read, or it has nothing to count.
    pub fn image(&self, asked: &SourceRef, registries: &Registries) -> Result<ImageVerdict, Error> {
        self.image_as(asked, None, registries)
    }

    /// The same, of an image that is asked for by another name and pulled from here, a mirror: the policy is asked about that
    /// name, and signatures are looked for here.
    ///
    /// # Errors
    /// As [`Cluster::image`].
    pub fn image_as(
        &self,
        asked: &SourceRef,
        named: Option<&Reference>,
        registries: &Registries,
    ) -> Result<ImageVerdict, Error> {
        let source = asked.open(registries)?;
        let resolved = source.resolve()?;
        let (digest, bytes) = (*resolved.document.digest(), resolved.document);
        let mut walk = Walk { source: source.as_ref(), asked, seen: BTreeSet::new(), found: Vec::new() };
        walk.document(bytes, &resolved.media_type, None, 0)?;
        let mut manifests = walk.found;
        self.count(&asked.to_string(), &mut manifests)?;

        let called =
            asked.called().map(|TagRef { repository, tag }| Reference::tagged(repository.clone(), tag.clone()));
        let name = match (asked.reference().cloned().or(called), asked.path()) {
            (Some(reference), _) => Name::Docker(reference),
            (None, path) => Name::path(asked.transport(), path.unwrap_or(Path::new(""))),
        };
        let place = Place::of(asked, &name, self, registries)?;
        let looks = name.attachments(&self.registries_d);
        let name = named.map_or(name, |named| Name::Docker(named.clone()));
        self.judge(asked.to_string(), digest, &name, place.describe(), manifests, |digest| {
            let unreadable = |source| Error::ImageSignatures { image: asked.to_string(), digest: *digest, source };
            let mut found =
                Signatures { simple: place.simple(source.as_ref(), digest, registries)?, cosign: Vec::new() };
            if looks {
                found.cosign = attached(source.as_ref(), digest).map_err(unreadable)?;
            }
            Ok(found)
        })
    }

    /// Judges every image of a bundle.
    ///
    /// # Errors
    /// [`Error`] if the bundle is refused, or a signature of production cannot be read.
    pub fn bundle(&self, site: &Site, folder: &Path, judged_as: As) -> Result<Vec<ImageVerdict>, Error> {
        let bundle = authenticate(
            open::seal(site, &[folder.into()], Box::new(AsFarAsNeeded))?.open(site, &site.identities()?)?,
        )?;
        let (graph, evidence) = documents::read(&bundle)?;
        let images = &bundle.manifest.get().images;
        let judge = |image| self.carried(site, &bundle, image, &graph.closure(image)?, &evidence, judged_as);
        images.iter().map(judge).collect()
    }

    fn carried(
        &self,
        site: &Site,
        bundle: &Authenticated<'_>,
        image: &Image,
        closure: &Closure,
        evidence: &Evidence<'_>,
        judged_as: As,
    ) -> Result<ImageVerdict, Error> {
        let mut manifests = carried_manifests(image, closure, evidence);
        self.count(&image.origin.to_string(), &mut manifests)?;
        let reference = match judged_as {
            As::Origin => named(&image.origin),
            As::Production => {
                let TagRef { repository, tag } = destination(image, &bundle.rules.to)?;
                Reference::tagged(repository, tag)
            }
        };
        let place = match judged_as {
            As::Origin => None,
            As::Production => Some(Place::lookaside(&reference, &self.registries_d)),
        };
        let described = place.as_ref().map_or("in the bundle".into(), Place::describe);
        let name = Name::Docker(reference);
        let looks = name.attachments(&self.registries_d);
        self.judge(image.origin.to_string(), image.digest, &name, described, manifests, |digest| {
            let simple = match &place {
                Some(place) => place.fetched(digest, &site.registries)?,
                None => evidence.simple(image, digest).map(|(_, bytes)| bytes.to_vec()).collect(),
            };
            let (cosign, faults) = if looks { evidence.cosign(image, digest) } else { Default::default() };
            match faults.into_iter().next() {
                Some((digest, reason)) => Err(Error::Attachment { digest, reason }),
                None => Ok(Signatures { simple, cosign }),
            }
        })
    }

    /// Says which manifests count, and leaves out those for platforms that were not asked for.
    fn count(&self, image: &str, manifests: &mut Vec<Found>) -> Result<(), Error> {
        let Counted { platforms, index, attestations } = &self.counted;
        let is_index = manifests.first().is_some_and(|top| top.kind == Kind::Index);
        let platform_of = |m: &Found| m.platform.clone().filter(|_| m.kind == Kind::Manifest);
        let mut wanted = BTreeSet::new();
        for asked in platforms.iter().filter(|_| is_index) {
            let fits = |m: &&Found| platform_of(m).is_some_and(|p| p.satisfies(asked));
            // Of an index, containers/image takes an entry without a platform where none fits.
            let without = |m: &&Found| m.kind == Kind::Manifest && m.platform.is_none();
            let mut chosen: Vec<_> = manifests.iter().filter(fits).map(|m| m.digest).collect();
            if chosen.is_empty() {
                chosen = manifests.iter().filter(without).map(|m| m.digest).collect();
            }
            if chosen.is_empty() {
                return Err(Error::NoPlatform { image: image.into(), platform: asked.clone() });
            }
            wanted.extend(chosen);
        }
        // An image that is no index is run on any platform.
        let all = platforms.is_empty() || !is_index;
        manifests.retain(|m| all || m.kind != Kind::Manifest || wanted.contains(&m.digest));
        for manifest in manifests.iter_mut() {
            manifest.counted = match manifest.kind {
                Kind::Manifest => manifest.is_here() || !all,
                Kind::Index => *index,
                Kind::Attestation => *attestations && manifest.is_here(),
            };
        }
        match manifests.iter().find(|m| m.counted && !m.is_here()) {
            Some(missing) => Err(Error::NoManifest { image: image.into(), digest: missing.digest }),
            None if manifests.iter().any(|m| m.counted && m.kind == Kind::Manifest) => Ok(()),
            None => Err(Error::NothingToRun { image: image.into() }),
        }
    }

    fn judge(
        &self,
        image: String,
        digest: Digest,
        name: &Name,
        signatures: String,
        manifests: Vec<Found>,
        mut find: impl FnMut(&Digest) -> Result<Signatures, Error>,
    ) -> Result<ImageVerdict, Error> {
        let use_sigstore_attachments = name.attachments(&self.registries_d);
        let mut verdicts = Vec::new();
        for Found { digest, digests, kind, platform, counted } in manifests {
            let (verdict, note) = if digests.is_empty() {
                (None, Some("the index lists it, and it is not there".into()))
            } else {
                let found = find(&digest)?;
                let simple: Vec<&[u8]> = found.simple.iter().map(Vec::as_slice).collect();
                let judging =
                    Judging { policy: &self.policy, name: name.policy(), digests: &digests, at: AsOf::now(self.now) };
                let verdict = judging.judge(&simple, &found.cosign);
                let note = name.missed(&verdict, use_sigstore_attachments);
                (Some(verdict), note)
            };
            verdicts.push(ManifestVerdict { digest, kind, platform, counted, verdict, note });
        }
        let accepted = |m: &ManifestVerdict| m.verdict.as_ref().is_some_and(|v| v.accepted);
        let accepted = verdicts.iter().filter(|m| m.counted).all(accepted);
        let judged_as = name.to_string();
        Ok(ImageVerdict {
            image,
            digest,
            judged_as,
            signatures,
            use_sigstore_attachments,
            accepted,
            manifests: verdicts,
        })
    }
}

/// An index or image manifest of an image.
struct Found {
    digest: Digest,
    /// The digests of its bytes; none if it is not there.
    digests: Vec<Digest>,
    kind: Kind,
    platform: Option<Platform>,
    counted: bool,
}

impl Found {
    fn new(digest: Digest, digests: Vec<Digest>, is_index: bool, platform: Option<Platform>) -> Self {
        let kind = match &platform {
            _ if is_index => Kind::Index,
            Some(platform) if platform.to_string() == NO_PLATFORM => Kind::Attestation,
            _ => Kind::Manifest,
        };
        Self { digest, digests, kind, platform, counted: false }
    }

    fn is_here(&self) -> bool {
        !self.digests.is_empty()
    }
}

/// The documents of an image that is read where it is.
struct Walk<'a> {
    source: &'a dyn Source,
    asked: &'a SourceRef,
    seen: BTreeSet<(Digest, Option<Platform>)>,
    found: Vec<Found>,
}

impl Walk<'_> {
    fn document(
        &mut self,
        bytes: VerifiedBytes,
        media_type: &MediaType,
        platform: Option<Platform>,
        depth: usize,
    ) -> Result<(), Error> {
        let place = || OutsideText::new(self.asked.to_string());
        let too_many = |what, limit| SourceError::TooMany { place: place(), what, limit };
        if depth > LIMITS.nesting {
            return Err(too_many("levels of indexes", LIMITS.nesting).into());
        }
        if self.found.len() >= LIMITS.children {
            return Err(too_many("manifests", LIMITS.children).into());
        }
        let digest = *bytes.digest();
        let file = || OutsideText::new(format!("{} of {}", digest, self.asked));
        let document = Document::parse(bytes.bytes(), media_type)
            .map_err(|source| SourceError::Document { file: file(), source })?;
        self.found.push(Found::new(digest, vec![digest, other_digest(&bytes)], media_type.is_index(), platform));
        drop(bytes);
        for Child { descriptor: child, platform } in document.children() {
            if !self.seen.insert((child.digest, platform.clone())) {
                continue;
            }
            match self.source.document(&child.digest, child.size) {
                Ok(bytes) => self.document(bytes, &child.media_type, platform.clone(), depth + 1)?,
                Err(SourceError::Missing { .. } | SourceError::Registry(registry::Error::NotFound { .. })) => {
                    let is_index = child.media_type.is_index();
                    self.found.push(Found::new(child.digest, Vec::new(), is_index, platform.clone()));
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

/// The documents of an image in a bundle, the top document first.
fn carried_manifests(image: &Image, closure: &Closure, evidence: &Evidence<'_>) -> Vec<Found> {
    let is_manifest = |digest: &Digest| closure.platforms.iter().any(|p| p.digest == *digest);
    let mut indexes: Vec<&Digest> = closure.documents.iter().filter(|d| !is_manifest(d)).collect();
    indexes.sort_by_key(|digest| **digest != image.digest);
    let indexes = indexes.into_iter().map(|digest| (*digest, true, None));
    let manifests = closure.platforms.iter().map(|p| (p.digest, false, p.platform.clone()));
    let found = indexes.chain(manifests);
    found.map(|(digest, index, platform)| Found::new(digest, evidence.digests(&digest), index, platform)).collect()
}

/// What an image is called.
enum Name {
    Docker(Reference),
    /// The transport, and what it calls the image.
    Other(&'static str, String),
}

impl Name {
    /// As containers/image calls an image in files: by its path without links, an archive of Docker's by nothing at all.
    fn path(transport: Transport, path: &Path) -> Self {
        let scope = match transport {
            Transport::DockerArchive => String::new(),
            _ => path.canonicalize().unwrap_or_else(|_| path.into()).to_string_lossy().into_owned(),
        };
        Self::Other(transport.prefix().trim_end_matches([':', '/']), scope)
    }

    fn policy(&self) -> PolicyName<'_> {
        match self {
            Name::Docker(reference) => PolicyName::Docker(reference),
            Name::Other(transport, scope) => PolicyName::Other { transport, scope },
        }
    }

    /// Whether cosign signatures are looked for.
    fn attachments(&self, registries_d: &RegistriesD) -> bool {
        match self {
            Name::Docker(reference) => registries_d.sigstore_attachments(reference.repository(), tag_of(reference)),
            Name::Other(..) => false,
        }
    }

    /// Signatures that a refusal may be for want of, since nobody looks for them.
    fn missed(&self, verdict: &PolicyVerdict, attachments: bool) -> Option<String> {
        let wants = |kind: &str| verdict.requirements.iter().any(|r| !r.accepted && r.requirement == kind);
        match self {
            Name::Docker(_) if wants("sigstoreSigned") && !attachments => {
                Some("registries.d does not say `use-sigstore-attachments: true` for it, so nobody looks for cosign signatures".into())
            }
            Name::Other("dir", _) => None,
            Name::Other(transport, _) if wants("signedBy") || wants("sigstoreSigned") => {
                Some(format!("containers/image reads no signatures of {transport}: images"))
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Name::Docker(reference) => write!(f, "docker: {reference}"),
            Name::Other(transport, scope) => write!(f, "{transport}: {}", manifest_schema::text::escape(scope)),
        }
    }
}

/// The tag that takes part in choosing a scope: with a digest beside it, it is dropped.
fn tag_of(reference: &Reference) -> Option<&manifest_schema::Tag> {
    reference.tag().filter(|_| reference.digest().is_none())
}

/// The signatures of one manifest.
struct Signatures {
    simple: Vec<Vec<u8>>,
    cosign: Vec<SigstoreSignature>,
}

/// Where simple signatures are.
struct Place {
    /// With the image: kept by its registry, or in files.
    beside: Option<&'static str>,
    lookaside: Option<Tree>,
}

/// A lookaside tree.
struct Tree {
    url: String,
    /// Said by registries.d, not built in.
    configured: bool,
    reference: Reference,
}

impl Place {
    fn of(asked: &SourceRef, name: &Name, cluster: &Cluster, registries: &Registries) -> Result<Self, Error> {
        let lookaside = |reference: &Reference| Self::lookaside(reference, &cluster.registries_d);
        Ok(match (name, asked.transport()) {
            (Name::Docker(reference), Transport::Docker) => {
                if registries.repository(reference.repository()).has_signature_extension()? {
                    Self { beside: Some("kept by the registry"), lookaside: None }
                } else {
                    lookaside(reference)
                }
            }
            (Name::Docker(reference), _) => Self { beside: Some("beside the image"), ..lookaside(reference) },
            (Name::Other(..), Transport::Dir) => Self { beside: Some("beside the image"), lookaside: None },
            (Name::Other(..), _) => Self { beside: None, lookaside: None },
        })
    }

    fn lookaside(reference: &Reference, registries_d: &RegistriesD) -> Self {
        let configured = registries_d.lookaside(reference.repository(), tag_of(reference));
        let url = configured.map_or_else(RegistriesD::built_in, String::from);
        let tree = Tree { url, configured: configured.is_some(), reference: reference.clone() };
        Self { beside: None, lookaside: Some(tree) }
    }

    /// For people.
    fn describe(&self) -> String {
        let tree = self.lookaside.as_ref().map(|tree| {
            let from = if tree.configured { "as registries.d says" } else { "registries.d names none for it" };
            format!("{} ({from})", manifest_schema::text::escape(&tree.url))
        });
        let all: Vec<String> = self.beside.map(String::from).into_iter().chain(tree).collect();
        if all.is_empty() { "none are read".into() } else { all.join(", and ") }
    }

    fn simple(&self, source: &dyn Source, digest: &Digest, registries: &Registries) -> Result<Vec<Vec<u8>>, Error> {
        let mut found = match self.beside {
            Some(_) => source.simple_signatures(digest)?,
            None => Vec::new(),
        };
        found.extend(self.fetched(digest, registries)?);
        Ok(found)
    }

    /// The signatures of the lookaside tree.
    fn fetched(&self, digest: &Digest, registries: &Registries) -> Result<Vec<Vec<u8>>, Error> {
        let Some(Tree { url, reference, .. }) = &self.lookaside else { return Ok(Vec::new()) };
        signing::fetch_signatures(url, reference.repository(), digest, &SmallFiles(registries))
            .map_err(|e| Error::ImageSignatures { image: reference.to_string(), digest: *digest, source: Box::new(e) })
    }
}

/// The cosign signatures of a document, from where its image is. What is not a signature is passed over; one that cannot
/// be had fails the read.
fn attached(
    source: &dyn Source,
    subject: &Digest,
) -> Result<Vec<SigstoreSignature>, Box<dyn std::error::Error + Send + Sync>> {
    let Some((_, manifest)) = source.digest_tag(subject, DigestTag::Sig)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for layer in Attachment::parse(manifest.bytes())?.payload_descriptors() {
        if layer.size > LIMITS.signature {
            let file = OutsideText::new(layer.digest.to_string());
            return Err(SourceError::TooLarge { file, size: layer.size, limit: LIMITS.signature }.into());
        }
        let (media_type, digest, size) = (layer.media_type.clone(), layer.digest, layer.size);
        let content = source.blob(&Descriptor { media_type, digest, size, urls: Vec::new() })?;
        let payload = VerifiedBytes::read(content, digest, size)?.into_bytes();
        found.push(SigstoreSignature { payload, annotations: layer.annotations.clone() });
    }
    Ok(found)
}

//! Step 3: admitted, from the admission section, before any layer is pushed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use blobs::threads;
use console::Progress;
use glob_match::glob_match;
use ledger::{Act, Begun, Ledger, Rule, Standing, Subject};
use manifest_schema::manifest::ReleaseList;
use manifest_schema::release::IMAGE_REFERENCES;
use manifest_schema::{
    Digest, DigestTag, Found, Image, ImageSignature, LIMITS, Reference, Repository, TagRef, is_made_from_digest,
};
use registry::{RepositoryClient, find_in_layer};

use crate::access::stamp;
use crate::authenticate::Authenticated;
use crate::base;
use crate::config::OnExistingTag;
use crate::destination::{destination, staging};
use crate::documents;
use crate::error::Error;
use crate::evidence::Evidence;
use crate::gate::{self, Scanned};
use crate::graph::{Closure, Graph};
use crate::media::Media;
use crate::provenance::{self, AsOf, Judged, Provenance, Releases};
use crate::reading::Stop;
use crate::registry_signatures;
use crate::site::{Site, StreamRules};
use crate::sparse;

/// The steps of admission for which this site has no policy; the ledger says so of every bundle.
pub fn no_policy(rules: &StreamRules) -> impl Iterator<Item = &'static str> {
    let image_policy = rules.images.is_none().then_some("image-policy");
    image_policy.into_iter().chain(["referrers"]).chain(rules.gate.is_none().then_some("scan-gate"))
}

/// What will become of an image's tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagAction {
    /// The tag is new.
    Create,
    /// The tag names this very image already.
    Keep,
    /// The tag names another image, and is moved.
    Move {
        /// What it names.
        from: Digest,
    },
    /// The tag names another image, and stays; this image is left out.
    Skip {
        /// What it names.
        names: Digest,
    },
}

/// An image with its place in production.
#[derive(Debug)]
pub struct Placed {
    /// The image.
    pub image: Image,
    /// Where it is put now: its production reference, or where it waits for its promotion.
    pub destination: TagRef,
    /// Its production reference.
    pub production: TagRef,
    /// What will become of the tag.
    pub action: TagAction,
    /// Everything it consists of.
    pub closure: Closure,
    /// Why it may enter, and what is attached to it.
    pub provenance: Provenance,
    /// What its reports come to.
    pub scanned: Option<Scanned>,
    /// Of a release image: its signatures, each with the digest that it is for.
    pub release_signatures: Vec<(Digest, Vec<u8>)>,
}

impl Placed {
    /// Whether the image is left out.
    pub fn is_skipped(&self) -> bool {
        matches!(self.action, TagAction::Skip { .. })
    }
}

/// What a dry run prints, and what the next steps carry out.
#[must_use]
pub struct Placement {
    pub(crate) images: Vec<Placed>,
    /// A client for each repository written to.
    pub(crate) repositories: BTreeMap<Repository, RepositoryClient>,
    /// Where the blobs are that the bundle leaves to its base.
    pub(crate) base: base::Proven,
}

impl Placement {
    /// The images with their places.
    pub fn images(&self) -> &[Placed] {
        &self.images
    }

    /// What is to be signed: each image's production reference and digest.
    pub(crate) fn wanted(&self) -> Vec<(TagRef, Digest)> {
        self.images.iter().map(|placed| (placed.production.clone(), placed.image.digest)).collect()
    }

    /// The repositories that need a blob or document.
    pub(crate) fn users<'p, I: Iterator<Item = &'p Digest>>(
        &'p self,
        select: impl Fn(&'p Closure) -> I,
    ) -> BTreeMap<Digest, BTreeSet<Repository>> {
        let mut users: BTreeMap<Digest, BTreeSet<Repository>> = BTreeMap::new();
        for placed in self.images.iter().filter(|p| !p.is_skipped()) {
            for digest in select(&placed.closure) {
                users.entry(*digest).or_default().insert(placed.destination.repository.clone());
            }
        }
        users
    }

    pub(crate) fn client(&self, repository: &Repository) -> Result<&RepositoryClient, Error> {
        self.repositories.get(repository).ok_or_else(|| Error::NoClient { repository: repository.clone() })
    }
}

/// A bundle that may enter: its number is reserved in the ledger.
#[must_use]
pub struct Admitted<'s> {
    pub(crate) bundle: Authenticated<'s>,
    pub(crate) placement: Placement,
    pub(crate) subject: Subject,
}

/// Admits a bundle. The ledger's reservation is the last step, so that a refusal leaves nothing but itself; of a stream it
/// comes with the seal.
///
/// # Errors
/// [`Error`] names the rule that is broken.
pub fn admit<'s>(
    site: &Site,
    ledger: &mut Ledger,
    bundle: Authenticated<'s>,
    progress: &Progress,
) -> Result<Admitted<'s>, Error> {
    let placement = examine(site, Some(ledger), &bundle, progress, Probe::Ask)?;
    let admitted = Admitted { subject: subject(&bundle), bundle, placement };
    if !admitted.bundle.media.is_sealed_last() {
        admitted.reserve(ledger, progress)?;
    }
    Ok(admitted)
}

/// Whether production's registries keep signatures, if they are to: of the images that have a place there. Admission asks once more,
/// and names what has none.
///
/// # Errors
/// As [`registry_signatures::are_kept`].
pub fn registries_keep_signatures(site: &Site, bundle: &Authenticated<'_>, progress: &Progress) -> Result<(), Error> {
    let images = bundle.manifest.get().images.iter();
    let places: Vec<TagRef> = images.filter_map(|image| destination(image, &bundle.rules.to).ok()).collect();
    registry_signatures::are_kept(site, places.iter().map(|place| &place.repository), progress)
}

/// Admits images of a bundle that waits for its promotion: all of step 3 once more, by the rules of now. Its number was
/// reserved when it was received.
///
/// # Errors
/// As [`admit`]; [`Error::OtherDestination`].
pub fn admit_again<'s>(
    site: &Site,
    ledger: &Ledger,
    bundle: Authenticated<'s>,
    only: &BTreeSet<TagRef>,
    progress: &Progress,
) -> Result<Admitted<'s>, Error> {
    let placement = examine_some(site, Some(ledger), &bundle, Some(only), progress, Probe::Ask)?;
    Ok(Admitted { subject: subject(&bundle), bundle, placement })
}

impl Admitted<'_> {
    /// Reserves the bundle's number. What has not been released holds none: of a stream, this waits for the seal.
    ///
    /// # Errors
    /// If the number is taken, or the ledger fails.
    pub fn reserve(&self, ledger: &mut Ledger, progress: &Progress) -> Result<(), Error> {
        let signed = self.bundle.manifest.signers().iter().map(|signer| signer.signed_at).max();
        let begun = Begun { subject: self.subject.clone(), signed, newest_signed: None };
        match ledger.begin(&stamp()?, begun)? {
            Standing::New { entry } => {
                let older = match ledger.entry(entry)?.map(|stored| stored.entry.act) {
                    Some(Act::Begun(Begun { signed: Some(signed), newest_signed: Some(newest), .. })) => {
                        Some((signed, newest))
                    }
                    _ => None,
                };
                if let Some((signed, newest)) = older {
                    progress.warn(format_args!(
                        "the manifest was signed at {signed}, and one of {} that came before at {newest}: is a clock wrong, or a \
                         release old?",
                        self.subject.stream
                    ));
                }
                Ok(())
            }
            Standing::Resumed { since, .. } => {
                progress.say(format_args!("continuing what was begun at {since}"));
                Ok(())
            }
            Standing::AlreadyRecorded { at, .. } => Err(Error::RecordedMeanwhile { at }),
        }
    }
}

/// Whether a registry may be asked with a probe, which is a write, if it takes an index with missing entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Push one, and take it away again.
    Ask,
    /// Write nothing.
    Leave,
}

/// Everything of admission but the reservation: reads the ledger and the registry, and writes to neither but for the
/// probe.
///
/// # Errors
/// As [`admit`].
pub fn examine(
    site: &Site,
    ledger: Option<&Ledger>,
    bundle: &Authenticated<'_>,
    progress: &Progress,
    probe: Probe,
) -> Result<Placement, Error> {
    examine_some(site, ledger, bundle, None, progress, probe)
}

fn examine_some(
    site: &Site,
    ledger: Option<&Ledger>,
    bundle: &Authenticated<'_>,
    only: Option<&BTreeSet<TagRef>>,
    progress: &Progress,
    probe: Probe,
) -> Result<Placement, Error> {
    sequence(ledger, bundle)?;
    expiry(site, ledger, bundle)?;
    let mut destinations = destinations(bundle)?;
    let (graph, evidence) = documents::read(bundle)?;
    // What is recorded besides is bounded by the manifest's own size.
    let provenance = provenance::accept(judged(site, bundle, &graph, &evidence)?, LIMITS.ledger_entry / 2)?;
    if let Some(only) = only {
        destinations.retain(|(_, production)| only.contains(production));
    }
    let mut scanned = gate::scanned(site, bundle, &graph, &evidence)?;
    gate::demand(ledger, bundle, &scanned, destinations.iter().map(|(image, _)| &image.origin), progress)?;
    let mut placement = tags(site, bundle, destinations, &graph, provenance, progress, probe)?;
    not_withdrawn(ledger, &subject(bundle), &placement)?;
    for placed in &mut placement.images {
        if site.signs_for_cosign() {
            let nameless = placed.closure.documents.iter().find(|d| DigestTag::Sig.for_subject(d).is_none());
            if let Some(digest) = nameless {
                return Err(Error::NoDigestTag { digest: *digest });
            }
        }
        placed.scanned = scanned.remove(&placed.image.origin);
        placed.release_signatures = release_signatures(&placed.image, &placed.provenance, &evidence);
    }
    // What waits has everything where it waits.
    if !matches!(bundle.media, Media::Staged(_)) {
        placement.base = base::prove(site, ledger, bundle, &placement, progress)?;
    }
    Ok(placement)
}

/// No image, nor anything below it, that was withdrawn from production.
fn not_withdrawn(ledger: Option<&Ledger>, subject: &Subject, placement: &Placement) -> Result<(), Error> {
    let Some(ledger) = ledger else { return Ok(()) };
    for placed in &placement.images {
        for digest in &placed.closure.documents {
            if let Some((at, _)) = ledger.withdrawals(digest)?.last() {
                if ledger.override_of(subject, Rule::Withdrawn)?.is_some() {
                    return Ok(());
                }
                let (origin, digest) = (Box::new(placed.image.origin.clone()), *digest);
                return Err(Error::Withdrawn { origin, digest, at: at.time, entry: at.entry });
            }
        }
    }
    Ok(())
}

/// The signatures of a release image that clusters are to get: those that the policy took for good; without a policy those
/// that came from a store of release signatures.
fn release_signatures(image: &Image, provenance: &Provenance, evidence: &Evidence<'_>) -> Vec<(Digest, Vec<u8>)> {
    let manifests: BTreeSet<&Digest> = image.release.iter().map(|list| &list.manifest).chain([&image.digest]).collect();
    let is_for_release = |s: &&ImageSignature| !image.release.is_empty() && manifests.contains(&s.subject);
    let is_good = |s: &&ImageSignature| match provenance.is_verified(&s.digest) {
        Some(good) => good,
        None => s.found == Found::ReleaseStore,
    };
    let of = |s: &ImageSignature| {
        let held = evidence.simple(image, &s.subject).find(|(other, _)| other.digest == s.digest);
        held.map(|(_, bytes)| (s.subject, bytes.to_vec()))
    };
    image.signatures.iter().filter(is_for_release).filter(is_good).filter_map(of).collect()
}

/// Every image judged by the stream's image policy, under the name that the sender claims for it.
///
/// # Errors
/// As [`provenance::judge`].
pub fn judged(
    site: &Site,
    bundle: &Authenticated<'_>,
    graph: &Graph,
    evidence: &Evidence<'_>,
) -> Result<Vec<Judged>, Error> {
    let at = match &bundle.media {
        Media::Staged(staged) => AsOf { received: staged.received(), now: site.now },
        Media::Folders(_) | Media::Piped(_) => AsOf::now(site.now),
    };
    let judge = |image: &Image| {
        let closure = graph.closure(image)?;
        provenance::judge(image, &closure, graph, evidence, bundle.rules, at)
    };
    let images = &bundle.manifest.get().images;
    let mut judged = images.iter().map(judge).collect::<Result<Vec<_>, Error>>()?;
    let releases = releases(bundle, &Releases::to_read(images, &judged, graph, bundle.rules)?)?;
    judged.iter_mut().for_each(|image| image.vouched_by(&releases));
    Ok(judged)
}

/// What the release images list that a signature vouches for, from their layers in the admission section.
fn releases(bundle: &Authenticated<'_>, lists: &[&ReleaseList]) -> Result<Releases, Error> {
    let mut releases = Releases::default();
    let wanted: BTreeSet<Digest> = lists.iter().flat_map(|list| list.layers.iter().copied()).collect();
    if wanted.is_empty() {
        return Ok(releases);
    }
    let mut says = HashMap::new();
    bundle.media.reading(|| {
        documents::each_admitted(bundle, |blob, content| {
            if wanted.contains(&blob.digest) {
                let found = find_in_layer(&mut *content, IMAGE_REFERENCES).or_else(|source| {
                    // What the layer says is at fault only if the bundle can be read on and the layer is what it should be.
                    std::io::copy(content, &mut std::io::sink()).map_err(Stop::Content)?;
                    Err(Stop::Ours(Box::new(Error::ReleaseLayer { digest: blob.digest, source })))
                })?;
                says.insert(blob.digest, found);
            }
            Ok(())
        })
    })?;
    for list in lists {
        releases.add(list, &says)?;
    }
    Ok(releases)
}

/// What the ledger calls this bundle.
pub fn subject(bundle: &Authenticated<'_>) -> Subject {
    let m = bundle.manifest.get();
    Subject { bundle: m.bundle, stream: m.stream.clone(), sequence: m.sequence, manifest: bundle.digest }
}

/// No replay, no rollback.
pub fn sequence(ledger: Option<&Ledger>, bundle: &Authenticated<'_>) -> Result<(), Error> {
    match ledger {
        Some(ledger) => Ok(ledger.preview(&stamp()?, &subject(bundle)).map(|_| ())?),
        None => Ok(()),
    }
}

/// Not after its end.
pub fn expiry(site: &Site, ledger: Option<&Ledger>, bundle: &Authenticated<'_>) -> Result<(), Error> {
    let Some(expires) = bundle.manifest.get().expires.filter(|expires| *expires <= site.now) else { return Ok(()) };
    match ledger.map(|ledger| ledger.override_of(&subject(bundle), Rule::Expired)).transpose()?.flatten() {
        Some(_) => Ok(()),
        None => Err(Error::Expired { expires, now: site.now }),
    }
}

/// Origins within the stream's scopes; destinations by its mapping; no two images on one tag.
pub fn destinations(bundle: &Authenticated<'_>) -> Result<Vec<(Image, TagRef)>, Error> {
    let rules = bundle.rules;
    let mut taken: BTreeMap<TagRef, &Image> = BTreeMap::new();
    let mut placed = Vec::new();
    for image in &bundle.manifest.get().images {
        if rules.origins.as_ref().is_some_and(|scopes| !scopes.iter().any(|s| s.contains(image.origin.repository()))) {
            return Err(Error::Origin { origin: Box::new(image.origin.clone()), stream: bundle.stream.clone() });
        }
        let to = destination(image, &rules.to)?;
        if let Media::Staged(staged) = &bundle.media
            && let Some(recorded) = staged.production(&image.origin).filter(|recorded| **recorded != to)
        {
            let (origin, recorded) = (Box::new(image.origin.clone()), Box::new(recorded.clone()));
            return Err(Error::OtherDestination { origin, recorded, now: Box::new(to) });
        }
        if is_made_from_digest(&to.tag) {
            return Err(Error::ReservedTag { origin: Box::new(image.origin.clone()), tag: to.tag });
        }
        match taken.insert(to.clone(), image) {
            Some(other) if other.digest != image.digest => {
                return Err(Error::TwoOrigins {
                    first: Box::new(other.origin.clone()),
                    second: Box::new(image.origin.clone()),
                    destination: Box::new(to),
                });
            }
            _ => placed.push((image.clone(), to)),
        }
    }
    Ok(placed)
}

/// What becomes of each tag; and whether the registry takes a sparse index, before anything is pushed.
fn tags(
    site: &Site,
    bundle: &Authenticated<'_>,
    destinations: Vec<(Image, TagRef)>,
    graph: &Graph,
    mut provenance: HashMap<Reference, Provenance>,
    progress: &Progress,
    probe: Probe,
) -> Result<Placement, Error> {
    let destinations = places(site, bundle, destinations)?;
    let of = |to: &TagRef| (to.repository.clone(), site.registries.repository(&to.repository));
    let repositories: BTreeMap<_, _> = destinations.iter().map(|(_, to, _)| of(to)).collect();
    if destinations.iter().all(|(_, to, production)| to == production) {
        registry_signatures::check(site.registry_signatures, repositories.values(), progress)?;
    }
    let named = threads::map(site.jobs, &destinations, |(_, to, _)| repositories[&to.repository].head_tag(&to.tag))?;
    let mut images = Vec::new();
    for ((image, destination, production), named) in destinations.into_iter().zip(named) {
        let client = &repositories[&destination.repository];
        let action = match named {
            None => TagAction::Create,
            Some(names) if names == image.digest => TagAction::Keep,
            Some(names) => {
                let meant_to_move = bundle.rules.replace_tags.iter().any(|p| glob_match(p, destination.tag.as_str()));
                match site.on_existing_tag {
                    // Where images wait, the newest is tried.
                    _ if destination != production => TagAction::Move { from: names },
                    _ if meant_to_move => TagAction::Move { from: names },
                    OnExistingTag::Replace => TagAction::Move { from: names },
                    OnExistingTag::Skip => {
                        progress.warn(format_args!("{destination} names {names} already; left as it is"));
                        TagAction::Skip { names }
                    }
                    OnExistingTag::Fail => {
                        return Err(Error::TagTaken { tag: Box::new(destination), names, image: image.digest });
                    }
                }
            }
        };
        if image.sparse && !matches!(action, TagAction::Skip { .. } | TagAction::Keep) {
            match probe {
                Probe::Ask if sparse::is_taken(client)? => {}
                Probe::Ask => return Err(Error::SparseRefused { tag: Box::new(destination) }),
                Probe::Leave => progress.warn(format_args!(
                    "{destination}: whether the registry takes an index with missing entries shows only on receiving"
                )),
            }
        }
        let closure = graph.closure(&image)?;
        let judged = provenance.remove(&image.origin);
        // Every image of the manifest was judged, and none is listed twice.
        let provenance = judged.ok_or_else(|| Error::NotJudged { origin: Box::new(image.origin.clone()) })?;
        images.push(Placed {
            image,
            destination,
            production,
            action,
            closure,
            provenance,
            scanned: None,
            release_signatures: Vec::new(),
        });
    }
    Ok(Placement { images, repositories, base: base::Proven::new() })
}

/// Where each image is put now, and its production reference.
fn places(
    site: &Site,
    bundle: &Authenticated<'_>,
    destinations: Vec<(Image, TagRef)>,
) -> Result<Vec<(Image, TagRef, TagRef)>, Error> {
    let waits = site.staging().filter(|_| !matches!(bundle.media, Media::Staged(_)));
    let mut taken: BTreeMap<TagRef, (Reference, Digest)> = BTreeMap::new();
    let mut places = Vec::new();
    for (image, production) in destinations {
        let to = match waits {
            Some(waits) => staging(&production, &waits.to)?,
            None => production.clone(),
        };
        let (origin, digest) = (image.origin.clone(), image.digest);
        match taken.insert(to.clone(), (origin.clone(), digest)) {
            Some((other, names)) if names != digest => {
                let (first, second, destination) = (Box::new(other), Box::new(origin), Box::new(to));
                return Err(Error::TwoOrigins { first, second, destination });
            }
            _ => places.push((image, to, production)),
        }
    }
    Ok(places)
}

//! More signatures, by the production key of now, for what production holds already: so that a key can be replaced while clusters
//! run. Those of the key before stay; no tag moves and nothing is pushed but signatures.

use std::collections::{BTreeMap, BTreeSet};

use console::Progress;
use ledger::{Act, Announced, BundleRow, EntryNumber, Filter, Ledger, RecordedSignature, Resigned, Signing, Subject};
use manifest_schema::{Digest, OutsideText, Reference, TagRef};
use serde::Serialize;

use crate::access::{stamp, to_ledger};
use crate::error::Error;
use crate::promotion;
use crate::registry_signatures;
use crate::sign;
use crate::site::{Production, Site};

/// What was signed of one bundle.
#[derive(Debug, Serialize)]
#[must_use]
pub struct Done {
    /// The bundle that brought the images.
    pub subject: Subject,
    /// The ledger's entry; none if this key had signed everything before.
    pub entry: Option<EntryNumber>,
    /// The signatures that were recorded now.
    pub signatures: Vec<RecordedSignature>,
}

/// What is asked to be signed again: bundles, and of each all images or those under some production references.
pub type Asked = Vec<(Subject, BTreeSet<TagRef>)>;

/// What these names ask for: bundle ids, `<stream>-<sequence>`, or production references. Without names, everything.
///
/// # Errors
/// [`Error::NotPublished`], [`Error::NoSuchBundle`]; or if the ledger fails.
pub fn asked(ledger: &Ledger, names: &[String]) -> Result<Asked, Error> {
    let mut asked: BTreeMap<EntryNumber, (Subject, BTreeSet<TagRef>)> = BTreeMap::new();
    if names.is_empty() {
        for_each_bundle(ledger, |row| {
            asked.insert(row.begun.entry, (row.subject, BTreeSet::new()));
            Ok(())
        })?;
    }
    for name in names {
        if let Some(row) = promotion::bundle(ledger, name)? {
            if row.images.is_none() {
                return Err(Error::NotInProduction { bundle: row.subject.bundle, status: row.status.as_str() });
            }
            asked.insert(row.begun.entry, (row.subject, BTreeSet::new()));
            continue;
        }
        let unknown = || Error::NoSuchBundle(OutsideText::new(name));
        let tag: TagRef = name.parse().map_err(|_| unknown())?;
        let not_there = || Error::NotPublished(Box::new(Reference::tagged(tag.repository.clone(), tag.tag.clone())));
        let last = ledger.moves_of(&tag, 1)?.into_iter().next().ok_or_else(not_there)?;
        let row = ledger.bundle(&last.bundle)?.and_then(|details| details.bundle).ok_or_else(unknown)?;
        let (_, images) = asked.entry(row.begun.entry).or_insert_with(|| (row.subject, BTreeSet::new()));
        images.insert(tag);
    }
    Ok(asked.into_values().collect())
}

/// Every bundle of which something is in production, a page at a time.
fn for_each_bundle(ledger: &Ledger, mut act: impl FnMut(BundleRow) -> Result<(), Error>) -> Result<(), Error> {
    let mut before = None;
    loop {
        let page = ledger.bundles(&Filter { before, limit: 1000, ..Filter::default() })?;
        let Some(last) = page.last().map(|row| row.begun.entry) else { return Ok(()) };
        page.into_iter().filter(|row| row.images.is_some()).try_for_each(&mut act)?;
        before = Some(last);
    }
}

/// Signs what a bundle brought with the production key of now, unless that has signed it, or it was withdrawn.
///
/// # Errors
/// [`Error`]. Running it again finishes.
pub fn resign(
    site: &Site,
    production: &Production,
    ledger: &mut Ledger,
    subject: &Subject,
    only: &BTreeSet<TagRef>,
    progress: &Progress,
) -> Result<Done, Error> {
    let missing = missing(site, production, ledger, subject, only)?;
    if missing.is_empty() {
        return Ok(Done { subject: subject.clone(), entry: None, signatures: Vec::new() });
    }
    let clients: Vec<_> = missing.iter().map(|(name, _)| site.registries.repository(name.repository())).collect();
    registry_signatures::check(production.registry_signatures, &clients, progress)?;
    let images: Vec<_> =
        missing.iter().map(|(reference, digest)| Announced { reference: reference.clone(), digest: *digest }).collect();
    let key = to_ledger(&production.key.fingerprint());
    let announced = Signing { subject: subject.clone(), production: Some(key.clone()), images, tags: Vec::new() };
    ledger.resigning(&stamp()?, announced)?;
    progress.say(format_args!("signing {} images and platform manifests of {}", missing.len(), subject.bundle));
    let mut signatures = Vec::new();
    for (reference, digest) in missing {
        let client = site.registries.repository(reference.repository());
        signatures.extend(sign::sign_document(production, &client, &reference, &digest)?);
    }
    let resigned = Resigned { subject: subject.clone(), production: key, signatures: signatures.clone() };
    let entry = ledger.resigned(&stamp()?, resigned)?;
    Ok(Done { subject: subject.clone(), entry: Some(entry), signatures })
}

/// What a bundle brought that has no signature by the production key of now, or none that is recorded.
fn missing(
    site: &Site,
    production: &Production,
    ledger: &Ledger,
    subject: &Subject,
    only: &BTreeSet<TagRef>,
) -> Result<BTreeSet<(Reference, Digest)>, Error> {
    let is_wanted = |reference: &Reference| {
        let tagged = |tag: &TagRef| tag.repository == *reference.repository() && reference.tag() == Some(&tag.tag);
        only.is_empty() || only.iter().any(tagged)
    };
    let mut recorded: BTreeMap<(Reference, Digest), BTreeSet<Digest>> = BTreeMap::new();
    for entry in ledger.bundle(&subject.bundle)?.into_iter().flat_map(|details| details.entries) {
        let signatures = match entry.act {
            Act::Recorded(recorded) | Act::Promoted(recorded) => recorded.signatures,
            Act::Resigned(resigned) => resigned.signatures,
            _ => continue,
        };
        for s in signatures.into_iter().filter(|s| is_wanted(&s.reference)) {
            recorded.entry((s.reference, s.digest)).or_default().insert(s.file);
        }
    }
    let mut missing = BTreeSet::new();
    for ((reference, digest), files) in recorded {
        if ledger.is_withdrawn(&reference, &digest)? {
            continue;
        }
        let found = sign::find(production, &reference, &digest)?;
        let found = found.filter(|(_, bytes)| files.contains(&blobs::sha256(bytes)));
        let is_there = match found {
            Some((_, bytes)) if production.registry_signatures => {
                let client = site.registries.repository(reference.repository());
                registry_signatures::is_kept(&client, &digest, &bytes)?
            }
            found => found.is_some(),
        };
        if !is_there {
            missing.insert((reference, digest));
        }
    }
    Ok(missing)
}

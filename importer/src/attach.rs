//! What is attached to the images is found beside them in production too: by the registry's list of referrers, and under
//! the tags that are made from a digest.
//!
//! Such a tag may be there already, for example with the production key's own signature. Signatures and attestations are
//! joined then, what is there first; nothing that was there is lost. Anything else that is there stays as it is.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::io::Cursor;
use std::time::Duration;

use blobs::{VerifiedBytes, VerifyingReader};
use console::Progress;
use manifest_schema::{Digest, DigestTag, LIMITS, MediaType, Referrer, Repository, Tag};
use registry::RepositoryClient;
use signing::SigstoreSignature;
use signing::sigstore::{Attachment, AttachmentError, SigstoreSecretKey};

use crate::admit::{Admitted, Placed};
use crate::documents::for_each_document;
use crate::error::Error;

/// Makes everything attached to the images findable in production. Its documents and blobs are there already.
///
/// # Errors
/// [`Error`]; running again continues.
pub fn attach(admitted: &Admitted<'_>, progress: &Progress) -> Result<(), Error> {
    let placement = &admitted.placement;
    let mut wanted: HashMap<Digest, Vec<(&Placed, &Referrer)>> = HashMap::new();
    for placed in placement.images.iter().filter(|p| !p.is_skipped()) {
        for referrer in &placed.image.referrers {
            wanted.entry(referrer.digest).or_default().push((placed, referrer));
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let mut lists: HashMap<(&Repository, Digest), BTreeSet<Digest>> = HashMap::new();
    for_each_document(&admitted.bundle, |blob, document| {
        for (placed, referrer) in wanted.get(&blob.digest).into_iter().flatten() {
            let repository = &placed.destination.repository;
            let client = placement.client(repository)?;
            let found = match referrer.tag {
                Some(kind) => tagged(client, &referrer.subject, kind, document, &blob.media_type, progress),
                None => {
                    let list = lists.entry((repository, referrer.subject));
                    listed(client, &referrer.subject, document, &blob.media_type, list)
                }
            };
            match found {
                // What is attached is there, by its digest. That it cannot be found otherwise must not stop a release.
                Err(Error::Registry(e)) if !e.is_transient() => progress.warn(format_args!(
                    "{repository}: {} is there, but not listed as attached to {}: {e}",
                    blob.digest, referrer.subject
                )),
                other => other?,
            }
        }
        Ok(())
    })
}

/// The registry lists the document as a referrer, by itself or under the tag of the tag schema. `list` is what it was found
/// to list before.
fn listed(
    client: &RepositoryClient,
    subject: &Digest,
    document: &VerifiedBytes,
    media_type: &MediaType,
    list: Entry<'_, (&Repository, Digest), BTreeSet<Digest>>,
) -> Result<(), Error> {
    let list = match list {
        Entry::Occupied(list) => list.into_mut(),
        Entry::Vacant(list) => {
            let there = client.list_referrers(subject)?;
            list.insert(there.iter().map(|found| found.descriptor.digest).collect())
        }
    };
    if list.insert(*document.digest()) {
        client.add_referrer_to_tag(subject, document, media_type)?;
    }
    Ok(())
}

/// The digest tag names the document, or what was there joined with it.
fn tagged(
    client: &RepositoryClient,
    subject: &Digest,
    kind: DigestTag,
    document: &VerifiedBytes,
    media_type: &MediaType,
    progress: &Progress,
) -> Result<(), Error> {
    // The manifest lists it only where there is such a tag.
    let Some(tag) = kind.for_subject(subject) else { return Ok(()) };
    let theirs = Attachment::parse(document.bytes()).ok();
    // Nodes read every signature under the tag; more than they would read are not put before them.
    let too_many = |a: &Attachment| kind == DigestTag::Sig && a.layers().len() > LIMITS.lookaside_signatures;
    let there = client.fetch_digest_tag(subject, kind)?;
    let ours = there.as_ref().map(|there| there.document.digest());
    match (ours, theirs) {
        (Some(ours), _) if ours == document.digest() => Ok(()),
        (None, theirs) if !theirs.as_ref().is_some_and(too_many) => Ok(client.push_tag(&tag, document, media_type)?),
        (Some(_), Some(theirs)) if kind != DigestTag::Sbom && !too_many(&theirs) => {
            match join(client, subject, kind, &tag, theirs) {
                Err(Error::CosignTag { tag, source }) => {
                    progress.warn(format_args!(
                        "{tag} stays as it is: {source}; {} is there by its digest",
                        document.digest()
                    ));
                    Ok(())
                }
                other => other,
            }
        }
        _ => {
            progress.warn(format_args!(
                "{}:{tag} stays as it is; {} is there by its digest",
                client.repository(),
                document.digest()
            ));
            Ok(())
        }
    }
}

/// How often a document of signatures is changed before other writers have won.
const ATTEMPTS: u32 = 5;

/// Adds layers to what a digest tag names. Nothing that was there at any look is lost; the layers are there.
fn join(
    client: &RepositoryClient,
    subject: &Digest,
    kind: DigestTag,
    tag: &Tag,
    mut all: Attachment,
) -> Result<(), Error> {
    let failed = |source| Error::CosignTag { tag: format!("{}:{tag}", client.repository()), source };
    for attempt in 0..ATTEMPTS {
        if attempt > 1 {
            std::thread::sleep(Duration::from_millis(100 << attempt));
        }
        let there = match client.fetch_digest_tag(subject, kind)? {
            Some(found) => Attachment::parse(found.document.bytes()).map_err(failed)?,
            None => Attachment::new(),
        };
        let joined = there.clone().union(&all);
        if joined == there && !there.layers().is_empty() {
            return Ok(());
        }
        let bytes = joined.to_bytes().map_err(failed)?;
        push(client, VerifiedBytes::of(bytes.config))?;
        let media_type = MediaType::OCI_MANIFEST.parse().map_err(|e| failed(AttachmentError::Document(e)))?;
        match client.push_tag(tag, &VerifiedBytes::of(bytes.manifest), &media_type) {
            // Another writer's document is there already, or the own one: the next look says which.
            Ok(()) | Err(registry::Error::Digest { .. }) => {}
            Err(e) => return Err(e.into()),
        }
        all = joined;
    }
    let there = client.fetch_digest_tag(subject, kind)?;
    let there = there.and_then(|found| Attachment::parse(found.document.bytes()).ok()).unwrap_or_default();
    if there.clone().union(&all) == there {
        return Ok(());
    }
    Err(Error::Contended { tag: format!("{}:{tag}", client.repository()) })
}

fn push(client: &RepositoryClient, blob: VerifiedBytes) -> Result<(), Error> {
    let (digest, bytes) = (*blob.digest(), blob.into_bytes());
    let size = bytes.len() as u64;
    if !client.has_blob(&digest, size)? {
        let _pushed = client.push_blob(&mut VerifyingReader::new(Cursor::new(bytes), digest, size))?;
    }
    Ok(())
}

/// Takes signatures in the form of cosign away, whose payloads have these digests; gives how many. Nothing else under the tag
/// changes.
///
/// # Errors
/// [`Error`] if the registry fails, or the tag names something else than signatures.
pub fn remove_cosign(client: &RepositoryClient, digest: &Digest, payloads: &BTreeSet<Digest>) -> Result<usize, Error> {
    let Some(tag) = DigestTag::Sig.for_subject(digest) else { return Ok(0) };
    let failed = |source| Error::CosignTag { tag: format!("{}:{tag}", client.repository()), source };
    let Some(found) = client.fetch_digest_tag(digest, DigestTag::Sig)? else { return Ok(0) };
    let there = Attachment::parse(found.document.bytes()).map_err(failed)?;
    let left = there.without(|layer| payloads.contains(&layer.digest));
    let removed = there.layers().len() - left.layers().len();
    if removed == 0 || (left.layers().is_empty() && client.delete_document(found.document.digest())?) {
        return Ok(removed);
    }
    let bytes = left.to_bytes().map_err(failed)?;
    push(client, VerifiedBytes::of(bytes.config))?;
    let media_type = MediaType::OCI_MANIFEST.parse().map_err(|e| failed(AttachmentError::Document(e)))?;
    client.push_tag(&tag, &VerifiedBytes::of(bytes.manifest), &media_type)?;
    Ok(removed)
}

/// A signature in the form of cosign for one document, and where it is.
pub struct CosignSigned {
    /// The tag.
    pub tag: Tag,
    /// The digest of the payload that is signed.
    pub payload: Digest,
}

/// Signs a document for production in the form of cosign, unless this key has signed it under this reference already.
///
/// # Errors
/// [`Error`] if the registry fails, or the tag names something else than signatures.
pub fn cosign(
    client: &RepositoryClient,
    key: &SigstoreSecretKey,
    reference: &manifest_schema::Reference,
    digest: &Digest,
) -> Result<CosignSigned, Error> {
    let tag = DigestTag::Sig.for_subject(digest).ok_or_else(|| Error::NoDigestTag { digest: *digest })?;
    let failed = |source| Error::CosignTag { tag: format!("{}:{tag}", client.repository()), source };
    let there = match client.fetch_digest_tag(digest, DigestTag::Sig)? {
        Some(found) => Attachment::parse(found.document.bytes()).map_err(failed)?,
        None => Attachment::new(),
    };
    for layer in there.payload_descriptors().filter(|l| l.size <= LIMITS.cosign_payload) {
        let content = match client.fetch_blob(&layer.digest, layer.size) {
            // Collected as garbage, or never there: not ours to mend.
            Err(registry::Error::NotFound { .. }) => continue,
            content => content?,
        };
        let payload = VerifiedBytes::read(content, layer.digest, layer.size);
        let payload = payload.map_err(|source| Error::Payload { digest: layer.digest, source })?;
        let signature = SigstoreSignature { payload: payload.into_bytes(), annotations: layer.annotations.clone() };
        if key.has_signed(&signature, reference, digest) {
            return Ok(CosignSigned { tag, payload: layer.digest });
        }
    }
    let creator = concat!("sealift-import ", env!("CARGO_PKG_VERSION"));
    let signature = key.sign_image(reference, digest, manifest_schema::Timestamp::now(), creator)?;
    let payload = VerifiedBytes::of(signature.payload.clone());
    let payload_digest = *payload.digest();
    push(client, payload)?;
    join(client, digest, DigestTag::Sig, &tag, Attachment::new().with(&signature).map_err(failed)?)?;
    Ok(CosignSigned { tag, payload: payload_digest })
}

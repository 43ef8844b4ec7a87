//! What is attached to the images is found beside them in production too: by the registry's list of referrers, and under
//! the tags that are made from a digest.
//!
//! Such a tag may be there already, for example with the production key's own signature. Signatures and attestations are
//! joined then, what is there first; nothing that was there is lost. Anything else that is there stays as it is.

use std::collections::HashMap;
use std::io::Cursor;

use blobs::{VerifiedBytes, VerifyingReader};
use console::Progress;
use manifest_schema::{Digest, DigestTag, LIMITS, MediaType, Referrer, Tag};
use registry::RepositoryClient;
use signing::SigstoreSignature;
use signing::sigstore::{Attachment, SigstoreSecretKey};

use crate::admit::{Admitted, Placed, for_each_document};
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
    for_each_document(&admitted.bundle, |blob, document| {
        for (placed, referrer) in wanted.get(&blob.digest).into_iter().flatten() {
            let client = placement.client(&placed.destination.repository)?;
            match referrer.tag {
                None => listed(client, &referrer.subject, &document, &blob.media_type)?,
                Some(kind) => tagged(client, &referrer.subject, kind, &document, &blob.media_type, progress)?,
            }
        }
        Ok(())
    })
}

/// The registry lists the document as a referrer, by itself or under the tag of the tag schema.
fn listed(
    client: &RepositoryClient,
    subject: &Digest,
    document: &VerifiedBytes,
    media_type: &MediaType,
) -> Result<(), Error> {
    let there = client.list_referrers(subject)?;
    if there.iter().any(|found| found.descriptor.digest == *document.digest()) {
        return Ok(());
    }
    Ok(client.add_referrer_to_tag(subject, document, media_type)?)
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
    let Some(there) = client.fetch_digest_tag(subject, kind)? else {
        return Ok(client.push_tag(&tag, document, media_type)?);
    };
    if there.document.digest() == document.digest() {
        return Ok(());
    }
    let both = match kind {
        DigestTag::Sig | DigestTag::Att => parse(&there.document).and_then(|ours| Ok((ours, parse(document)?))).ok(),
        // There is one, whatever it says.
        DigestTag::Sbom => None,
    };
    match both {
        Some((ours, theirs)) => {
            let joined = ours.clone().union(&theirs);
            if joined == ours { Ok(()) } else { put(client, &tag, &joined) }
        }
        None => {
            progress.warn(format_args!(
                "{}:{tag} names {} already, with which it cannot be joined, and stays; {} is there by its digest",
                client.repository(),
                there.document.digest(),
                document.digest()
            ));
            Ok(())
        }
    }
}

fn parse(document: &VerifiedBytes) -> Result<Attachment, Error> {
    let wrong = |source| Error::Attachment { digest: *document.digest(), source };
    Attachment::parse(document.bytes()).map_err(wrong)
}

/// Pushes an attachment whose layers are there under its tag.
fn put(client: &RepositoryClient, tag: &Tag, attachment: &Attachment) -> Result<(), Error> {
    let failed = |source| Error::CosignTag { tag: format!("{}:{tag}", client.repository()), source };
    let bytes = attachment.to_bytes().map_err(failed)?;
    push(client, VerifiedBytes::of(bytes.config))?;
    let media_type =
        MediaType::OCI_MANIFEST.parse().map_err(|e| failed(signing::sigstore::AttachmentError::Document(e)))?;
    Ok(client.push_tag(tag, &VerifiedBytes::of(bytes.manifest), &media_type)?)
}

fn push(client: &RepositoryClient, blob: VerifiedBytes) -> Result<(), Error> {
    let (digest, bytes) = (*blob.digest(), blob.into_bytes());
    let size = bytes.len() as u64;
    if !client.has_blob(&digest, size)? {
        let _pushed = client.push_blob(&mut VerifyingReader::new(Cursor::new(bytes), digest, size))?;
    }
    Ok(())
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
    let there = match client.fetch_digest_tag(digest, DigestTag::Sig)? {
        Some(found) => parse(&found.document)?,
        None => Attachment::new(),
    };
    for layer in there.payload_descriptors().filter(|l| l.size <= LIMITS.signature) {
        let content = client.fetch_blob(&layer.digest, layer.size)?;
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
    let failed = |source| Error::CosignTag { tag: format!("{}:{tag}", client.repository()), source };
    put(client, &tag, &there.with(&signature).map_err(failed)?)?;
    Ok(CosignSigned { tag, payload: payload_digest })
}

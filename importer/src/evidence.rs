//! What a bundle carries to judge its images by: simple signatures, and the documents and payloads of cosign signatures
//! and sigstore bundles. It is read with the admission section and held, within a limit, until the images were judged.

use std::collections::{HashMap, HashSet};

use blobs::{Hasher, VerifiedBytes};
use manifest_schema::{
    Algorithm, Blob, Descriptor, Digest, DigestTag, Document, Image, ImageSignature, LIMITS, Manifest, MediaType,
    Section,
};
use signing::SigstoreSignature;
use signing::sigstore::{Attachment, AttachmentError, BundleRejected, PAYLOAD_MEDIA_TYPE, SigstoreBundle};

use crate::error::Error;

/// What was held.
#[derive(Default)]
pub struct Evidence {
    /// Documents listed as referrers.
    referrers: HashSet<Digest>,
    held: HashMap<Digest, (MediaType, Vec<u8>)>,
    /// The digest by the other algorithm of every document: a signature may name either.
    others: HashMap<Digest, Digest>,
    bytes: u64,
}

impl Evidence {
    /// For the bundle of a manifest; nothing has been read yet.
    pub fn of(manifest: &Manifest) -> Self {
        let referrers = manifest.images.iter().flat_map(|i| &i.referrers).map(|r| r.digest).collect();
        Self { referrers, ..Self::default() }
    }

    /// Whether a blob of the admission section is taken in.
    pub fn wants(&self, blob: &Blob) -> bool {
        blob.section == Section::Admission
            && (blob.media_type.is_document()
                || blob.media_type.is_simple_signature()
                || (decides(&blob.media_type) && blob.size <= LIMITS.document))
    }

    /// Takes in a blob that is wanted.
    ///
    /// # Errors
    /// [`Error::TooMuchEvidence`].
    pub fn take(&mut self, blob: &Blob, bytes: VerifiedBytes) -> Result<(), Error> {
        if blob.media_type.is_document() {
            self.others.insert(blob.digest, other_digest(&bytes));
            if !self.referrers.contains(&blob.digest) {
                return Ok(());
            }
        }
        self.bytes += bytes.bytes().len() as u64;
        if self.bytes > LIMITS.evidence {
            return Err(Error::TooMuchEvidence);
        }
        self.held.insert(blob.digest, (blob.media_type.clone(), bytes.into_bytes()));
        Ok(())
    }

    /// Every digest by which a signature may name a document.
    pub fn digests(&self, document: &Digest) -> Vec<Digest> {
        [Some(document), self.others.get(document)].into_iter().flatten().copied().collect()
    }

    /// The bytes of something that was held.
    pub fn bytes(&self, digest: &Digest) -> Option<&[u8]> {
        self.held.get(digest).map(|(_, bytes)| bytes.as_slice())
    }

    /// The simple signatures of a document of an image.
    pub fn simple<'e>(
        &'e self,
        image: &'e Image,
        document: &'e Digest,
    ) -> impl Iterator<Item = (&'e ImageSignature, &'e [u8])> {
        let of = image.signatures.iter().filter(move |s| s.subject == *document);
        of.filter_map(|s| Some((s, self.bytes(&s.digest)?)))
    }

    /// The cosign signatures of a document of an image: the layers of what its `.sig` tag names. What is no such document
    /// is told apart, with the reason.
    pub fn cosign(
        &self,
        image: &Image,
        document: &Digest,
    ) -> (Vec<SigstoreSignature>, Vec<(Digest, AttachmentError)>) {
        let (mut found, mut faults) = (Vec::new(), Vec::new());
        let tagged = image.referrers.iter().filter(|r| r.subject == *document && r.tag == Some(DigestTag::Sig));
        for referrer in tagged {
            let Some(bytes) = self.bytes(&referrer.digest) else { continue };
            match Attachment::parse(bytes) {
                Err(fault) => faults.push((referrer.digest, fault)),
                Ok(attachment) => found.extend(attachment.payload_descriptors().filter_map(|layer| {
                    // One that is too large to decide was not held, and counts for nothing.
                    let payload = self.bytes(&layer.digest)?.to_vec();
                    Some(SigstoreSignature { payload, annotations: layer.annotations.clone() })
                })),
            }
        }
        (found, faults)
    }

    /// The sigstore bundles and bare DSSE envelopes that a referrer's document holds, with their digests.
    pub fn bundles(&self, referrer: &Digest) -> Vec<(Digest, Result<SigstoreBundle, BundleRejected>)> {
        let Some((media_type, bytes)) = self.held.get(referrer) else { return Vec::new() };
        let layers = match Document::parse(bytes, media_type) {
            Ok(Document::Manifest { layers, .. }) => layers,
            _ => Vec::new(),
        };
        let read = |layer: Descriptor| {
            let bytes = self.bytes(&layer.digest)?;
            let bundle = match () {
                () if is_bundle(&layer.media_type) => SigstoreBundle::parse(bytes),
                () if is_envelope(&layer.media_type) => SigstoreBundle::parse_envelope(bytes),
                () => return None,
            };
            Some((layer.digest, bundle))
        };
        layers.into_iter().filter_map(read).collect()
    }
}

/// The digest of a document by the algorithm that it was not asked for by.
pub(crate) fn other_digest(document: &VerifiedBytes) -> Digest {
    let mut hasher = Hasher::new(match document.digest().algorithm() {
        Algorithm::Sha256 => Algorithm::Sha512,
        Algorithm::Sha512 => Algorithm::Sha256,
    });
    hasher.update(document.bytes());
    hasher.finish()
}

fn is_bundle(media_type: &MediaType) -> bool {
    media_type.as_str().starts_with("application/vnd.dev.sigstore.bundle")
}

/// What `cosign attest` without a log attaches under a `.att` tag.
fn is_envelope(media_type: &MediaType) -> bool {
    media_type.as_str() == "application/vnd.dsse.envelope.v1+json"
}

/// Whether a blob of this type is looked into to judge an image.
fn decides(media_type: &MediaType) -> bool {
    media_type.as_str() == PAYLOAD_MEDIA_TYPE || is_bundle(media_type) || is_envelope(media_type)
}

#[cfg(test)]
mod tests {
    use manifest_schema::manifest::Stored;

    use super::*;

    #[test]
    fn what_is_held_is_bounded() {
        let bytes = VerifiedBytes::of(b"signature".to_vec());
        let blob = Blob {
            digest: *bytes.digest(),
            size: 9,
            media_type: MediaType::SIMPLE_SIGNATURE.parse().expect("a media type"),
            section: Section::Admission,
            stored: Stored::Whole { volume: 1 },
        };
        let with = |held| Evidence { bytes: held, ..Evidence::default() };
        let mut full = with(LIMITS.evidence - 9);
        assert!(full.wants(&blob));
        full.take(&blob, bytes.clone()).expect("it just fits");
        assert_eq!(full.bytes(&blob.digest), Some(&b"signature"[..]));
        assert!(matches!(with(LIMITS.evidence - 8).take(&blob, bytes), Err(Error::TooMuchEvidence)));
        let among_layers = Blob { section: Section::Layers, ..blob };
        assert!(!with(0).wants(&among_layers));
    }
}

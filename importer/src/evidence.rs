//! What a bundle carries to judge its images by: simple signatures, cosign signatures, sigstore bundles. It is read with the
//! admission section. Signatures are held, within a limit, until the images were judged; bundles are judged as they stream
//! by, and only what was found of them is kept.

use std::collections::{BTreeMap, HashMap, HashSet};

use blobs::{Hasher, VerifiedBytes};
use manifest_schema::{
    Algorithm, Blob, Digest, DigestTag, Document, Image, ImageSignature, LIMITS, Manifest, MediaType, OutsideText,
    Section, Timestamp,
};
use signing::SigstoreSignature;
use signing::sigstore::{
    Attachment, BundleRejected, BundleSigner, EvidenceKind, PAYLOAD_MEDIA_TYPE, SigstoreBundle, VerifiedBy,
};

use crate::error::Error;
use crate::site::StreamRules;

/// What was found.
pub struct Evidence<'r> {
    rules: &'r StreamRules,
    /// Documents of the bundle, as far as a statement may be about them.
    documents: HashSet<Digest>,
    /// Documents listed as referrers, and whether a `.sig` tag names them.
    referrers: HashMap<Digest, bool>,
    /// Simple signatures, and payloads of cosign signatures.
    held: HashMap<Digest, Vec<u8>>,
    /// What `.sig` tags name, or why it holds no signatures.
    attachments: HashMap<Digest, Result<Attachment, String>>,
    /// Sigstore bundles and bare envelopes.
    bundles: HashMap<Digest, JudgedBundle>,
    /// Which of these each referrer's document holds.
    holds: HashMap<Digest, Vec<Digest>>,
    /// What each referrer's document holds that may be reports of scanners.
    reports: HashMap<Digest, MayBeReports>,
    /// The digest by the other algorithm of every document: a signature may name either.
    others: HashMap<Digest, Digest>,
    bytes: u64,
}

/// What a referrer's document holds that may be reports.
#[derive(Debug, Clone)]
pub struct MayBeReports {
    /// The blobs, with their file names.
    pub blobs: BTreeMap<Digest, Option<OutsideText>>,
    /// When the document says that it was made.
    pub dated: Option<Timestamp>,
}

/// A sigstore bundle or bare envelope, judged by the stream's keys and identities.
#[derive(Debug, Clone)]
pub struct JudgedBundle {
    /// What it is about, of the documents of this bundle.
    pub about: Vec<Digest>,
    /// What it says of them.
    pub what: Option<OutsideText>,
    /// Whether its signature is good; `None` if there is nothing to verify it with.
    pub verified: Option<bool>,
    /// Who signed.
    pub signer: Option<OutsideText>,
    /// Why it is not good, or not verified.
    pub note: Option<OutsideText>,
}

impl<'r> Evidence<'r> {
    /// For the bundle of a manifest, judged by a stream's rules; nothing has been read yet.
    pub fn of(manifest: &Manifest, rules: &'r StreamRules) -> Self {
        let mut referrers = HashMap::new();
        for referrer in manifest.images.iter().flat_map(|i| &i.referrers) {
            *referrers.entry(referrer.digest).or_default() |= referrer.tag == Some(DigestTag::Sig);
        }
        let documents = manifest.blobs.iter().filter(|b| b.media_type.is_document()).map(|b| b.digest).collect();
        Self {
            rules,
            documents,
            referrers,
            held: HashMap::new(),
            attachments: HashMap::new(),
            bundles: HashMap::new(),
            holds: HashMap::new(),
            reports: HashMap::new(),
            others: HashMap::new(),
            bytes: 0,
        }
    }

    /// Whether a blob is looked into.
    pub fn wants(blob: &Blob) -> bool {
        let decides = match () {
            () if blob.media_type.is_document() || blob.media_type.is_simple_signature() => true,
            () if is_payload(&blob.media_type) => blob.size <= LIMITS.cosign_payload,
            () => is_bundle(&blob.media_type) || is_envelope(&blob.media_type),
        };
        decides && blob.section == Section::Admission
    }

    /// Takes in a blob that is wanted.
    ///
    /// # Errors
    /// [`Error::TooMuchEvidence`].
    pub fn take(&mut self, blob: &Blob, bytes: VerifiedBytes) -> Result<(), Error> {
        if blob.media_type.is_document() {
            self.others.insert(blob.digest, other_digest(&bytes));
            return match self.referrers.get(&blob.digest) {
                None => Ok(()),
                Some(under_sig) => self.take_referrer(blob, bytes.bytes(), *under_sig),
            };
        }
        if is_bundle(&blob.media_type) || is_envelope(&blob.media_type) {
            let read = if is_bundle(&blob.media_type) { SigstoreBundle::parse } else { SigstoreBundle::parse_envelope };
            let judged = self.judge(read(bytes.bytes()));
            self.bundles.insert(blob.digest, judged);
            return Ok(());
        }
        self.count(bytes.bytes().len())?;
        self.held.insert(blob.digest, bytes.into_bytes());
        Ok(())
    }

    fn take_referrer(&mut self, blob: &Blob, document: &[u8], under_sig: bool) -> Result<(), Error> {
        if let Ok(Document::Manifest { layers, attached, .. }) = Document::parse(document, &blob.media_type) {
            let may_be = layers.iter().filter(|l| scan::may_be_report(l.media_type.as_str(), l.size));
            let blobs = may_be.map(|l| (l.digest, attached.titles.get(&l.digest).cloned())).collect::<BTreeMap<_, _>>();
            self.reports.insert(blob.digest, MayBeReports { blobs, dated: attached.created });
            let bundles = layers.iter().filter(|l| is_bundle(&l.media_type) || is_envelope(&l.media_type));
            let mut bundles: Vec<Digest> = bundles.map(|l| l.digest).collect();
            bundles.sort_unstable();
            bundles.dedup();
            self.holds.insert(blob.digest, bundles);
        }
        if under_sig {
            self.count(document.len())?;
            let attachment = Attachment::parse(document).map_err(|e| e.to_string());
            let attachment = attachment.and_then(|a| match a.payload_descriptors().count() {
                n if n > LIMITS.lookaside_signatures => {
                    Err(format!("it holds {n} signatures; at most {} are looked at", LIMITS.lookaside_signatures))
                }
                _ => Ok(a),
            });
            self.attachments.insert(blob.digest, attachment);
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes as u64;
        if self.bytes > LIMITS.evidence { Err(Error::TooMuchEvidence) } else { Ok(()) }
    }

    /// Whether a sigstore bundle is signed by a key or an identity that the stream names; by whom, or why not.
    fn judge(&self, bundle: Result<SigstoreBundle, BundleRejected>) -> JudgedBundle {
        let note = |text: &dyn std::fmt::Display| Some(OutsideText::new(text.to_string()));
        let mut judged =
            JudgedBundle { about: Vec::new(), what: None, verified: Some(false), signer: None, note: None };
        let bundle = match bundle {
            Ok(bundle) => bundle,
            Err(e) => return JudgedBundle { note: note(&e), ..judged },
        };
        let claims = bundle.untrusted_claims();
        let predicate = claims.predicate_type.as_ref().map(OutsideText::raw);
        judged.what = Some(OutsideText::new(EvidenceKind::of(None, &[], predicate).label()));
        judged.about = claims.subjects.iter().filter(|d| self.documents.contains(d)).copied().collect();
        let Some(about) = claims.subjects.first() else {
            return JudgedBundle { note: note(&"it is about nothing"), ..judged };
        };
        let result = match (bundle.signer(), &self.rules.sigstore_keys, &self.rules.keyless) {
            (BundleSigner::Key { .. }, keys, _) if !keys.is_empty() => bundle.verify_with_keys(keys),
            (BundleSigner::Certificate, _, Some(keyless)) => bundle.verify_with_keyless(keyless, about),
            (BundleSigner::Key { .. }, ..) => {
                let note = note(&"not verified: no sigstore keys are configured");
                return JudgedBundle { verified: None, note, ..judged };
            }
            (BundleSigner::Certificate, ..) => {
                let note = note(&"not verified: no trusted root is configured");
                return JudgedBundle { verified: None, note, ..judged };
            }
        };
        match result {
            Err(e) => JudgedBundle { note: note(&e), ..judged },
            Ok(good) => {
                let by = match good.by {
                    VerifiedBy::Key(fingerprint) => fingerprint,
                    VerifiedBy::Identity { subject, issuer } => format!("{subject} ({issuer})"),
                };
                JudgedBundle { verified: Some(true), signer: note(&by), ..judged }
            }
        }
    }

    /// Every digest by which a signature may name a document.
    pub fn digests(&self, document: &Digest) -> Vec<Digest> {
        [Some(document), self.others.get(document)].into_iter().flatten().copied().collect()
    }

    /// The simple signatures of a document of an image.
    pub fn simple<'e>(
        &'e self,
        image: &'e Image,
        document: &'e Digest,
    ) -> impl Iterator<Item = (&'e ImageSignature, &'e [u8])> {
        let of = image.signatures.iter().filter(move |s| s.subject == *document);
        of.filter_map(|s| Some((s, self.held.get(&s.digest)?.as_slice())))
    }

    /// The cosign signatures of a document of an image: the layers of what its `.sig` tag names. A document that holds none,
    /// and a payload that is too large, are told apart, each with the reason.
    pub fn cosign(&self, image: &Image, document: &Digest) -> (Vec<SigstoreSignature>, Vec<(Digest, String)>) {
        let (mut found, mut faults) = (Vec::new(), Vec::new());
        let tagged = image.referrers.iter().filter(|r| r.subject == *document && r.tag == Some(DigestTag::Sig));
        for referrer in tagged {
            let attachment = match self.attachments.get(&referrer.digest) {
                Some(Ok(attachment)) => attachment,
                Some(Err(fault)) => {
                    faults.push((referrer.digest, fault.clone()));
                    continue;
                }
                None => continue,
            };
            for layer in attachment.payload_descriptors() {
                let Some(payload) = self.held.get(&layer.digest) else {
                    let reason = format!("a payload of {} bytes is not looked at", layer.size);
                    faults.push((layer.digest, reason));
                    continue;
                };
                let signature = SigstoreSignature { payload: payload.clone(), annotations: layer.annotations.clone() };
                if !found.contains(&signature) {
                    found.push(signature);
                }
            }
        }
        (found, faults)
    }

    /// What a referrer's document holds that may be reports of scanners.
    pub fn may_be_reports(&self, referrer: &Digest) -> Option<&MayBeReports> {
        self.reports.get(referrer)
    }

    /// The sigstore bundles and bare envelopes that a referrer's document holds.
    pub fn bundles<'e>(&'e self, referrer: &Digest) -> impl Iterator<Item = (&'e Digest, &'e JudgedBundle)> {
        let held = self.holds.get(referrer).into_iter().flatten();
        held.filter_map(|digest| Some((digest, self.bundles.get(digest)?)))
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

fn is_payload(media_type: &MediaType) -> bool {
    media_type.as_str() == PAYLOAD_MEDIA_TYPE
}

fn is_bundle(media_type: &MediaType) -> bool {
    media_type.as_str().starts_with("application/vnd.dev.sigstore.bundle")
}

/// What `cosign attest` without a log attaches under a `.att` tag.
fn is_envelope(media_type: &MediaType) -> bool {
    media_type.as_str() == "application/vnd.dsse.envelope.v1+json"
}

#[cfg(test)]
mod tests {
    use manifest_schema::Stored;
    use signing::{Algorithm, Certificates, KeyRequest, Trust};

    use super::*;
    use crate::destination::Rules;

    fn rules() -> StreamRules {
        let request = KeyRequest {
            user_id: "release".into(),
            algorithm: Algorithm::P256,
            passphrase: None,
            expires: None,
            created: Timestamp::now(),
        };
        let made = signing::generate(&request).expect("a key");
        let certificates = Certificates::from_bytes(&made.certificate_armored, "release.asc".as_ref());
        StreamRules {
            trust: Trust::new(certificates.expect("a certificate"), 1, Timestamp::now()).expect("trust"),
            origins: None,
            images: None,
            allow_unsigned_index: false,
            releases: vec![],
            sigstore_keys: vec![],
            keyless: None,
            gate: None,
            to: Rules::default(),
            replace_tags: vec![],
        }
    }

    fn evidence(rules: &StreamRules, bytes: u64) -> Evidence<'_> {
        Evidence {
            rules,
            documents: HashSet::new(),
            referrers: HashMap::new(),
            held: HashMap::new(),
            attachments: HashMap::new(),
            bundles: HashMap::new(),
            holds: HashMap::new(),
            reports: HashMap::new(),
            others: HashMap::new(),
            bytes,
        }
    }

    fn blob(bytes: &VerifiedBytes, media_type: &str, size: u64) -> Blob {
        Blob {
            digest: *bytes.digest(),
            size,
            media_type: media_type.parse().expect("a media type"),
            section: Section::Admission,
            stored: Stored::Whole { volume: 1 },
        }
    }

    #[test]
    fn what_is_held_is_bounded() {
        let rules = rules();
        let bytes = VerifiedBytes::of(b"signature".to_vec());
        let simple = blob(&bytes, MediaType::SIMPLE_SIGNATURE, 9);
        evidence(&rules, LIMITS.evidence - 9).take(&simple, bytes.clone()).expect("it just fits");
        let full = evidence(&rules, LIMITS.evidence - 8).take(&simple, bytes.clone());
        assert!(matches!(full, Err(Error::TooMuchEvidence)));
        assert!(Evidence::wants(&simple));
        assert!(!Evidence::wants(&Blob { section: Section::Layers, ..simple }));
        let payload = blob(&bytes, PAYLOAD_MEDIA_TYPE, LIMITS.cosign_payload);
        assert!(Evidence::wants(&payload));
        assert!(!Evidence::wants(&Blob { size: LIMITS.cosign_payload + 1, ..payload }));
        // Of a bundle only what was found of it is kept.
        let bundle = blob(&bytes, "application/vnd.dev.sigstore.bundle.v0.3+json", 9);
        let mut full = evidence(&rules, LIMITS.evidence);
        full.take(&bundle, bytes).expect("bundles are not held");
        assert_eq!(full.bundles[&bundle.digest].verified, Some(false));
    }
}

//! Sigstore bundles (`application/vnd.dev.sigstore.bundle.v0.3+json`; sigstore/protobuf-specs `sigstore_bundle.proto`):
//! what cosign 3 attaches to images as referrers.

use std::collections::BTreeMap;

use manifest_schema::json::unique_map;
use manifest_schema::{Digest, LIMITS, OutsideText};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::SigstoreKey;
use super::keyless::Keyless;
use super::verify::decode;

/// The versions that are read, as a bundle itself writes them.
const VERSIONS: [&str; 4] = [
    "application/vnd.dev.sigstore.bundle+json;version=0.1",
    "application/vnd.dev.sigstore.bundle+json;version=0.2",
    "application/vnd.dev.sigstore.bundle+json;version=0.3",
    "application/vnd.dev.sigstore.bundle.v0.3+json",
];
const STATEMENT: &str = "application/vnd.in-toto+json";

/// Why a bundle is refused, or is not verified.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BundleRejected {
    /// Larger than `LIMITS.sigstore_bundle`.
    #[error("the sigstore bundle has {found} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Its size in bytes.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Not a bundle, or damaged.
    #[error("the sigstore bundle cannot be read: {}", .0.escaped())]
    Unreadable(OutsideText),
    /// A version that is not known.
    #[error("a sigstore bundle of version `{}` cannot be read", .0.escaped())]
    Version(OutsideText),
    /// What is signed is not about images.
    #[error("what the sigstore bundle signs says nothing about an image: {}", .0.escaped())]
    Content(OutsideText),
    /// No key to verify with.
    #[error("there is no key to verify with")]
    NoKeys,
    /// No key made it.
    #[error("the signature is not by key {}", .tried.join(", nor by "))]
    UnknownKey {
        /// The fingerprints of the keys it was compared with.
        tried: Vec<String>,
    },
    /// The kind of key needs the signed bytes, and the bundle has only their hash.
    #[error("a signature over a hash is verified with ECDSA keys over P-256 only; there is none")]
    NeedsContent,
    /// A key made it, so no certificate can say who.
    #[error("the bundle has no certificate")]
    NoCertificate,
    /// The certificate, the log entry or the signature does not hold.
    #[error("{}", .0.escaped())]
    Keyless(OutsideText),
    /// It is good, but by somebody else.
    #[error("signed by {}, issuer {}; expected {}", subject.escaped(), issuer.escaped(), expected.join(" or "))]
    Identity {
        /// Whom the certificate names.
        subject: OutsideText,
        /// Who says so.
        issuer: OutsideText,
        /// The identities that are accepted.
        expected: Vec<String>,
    },
    /// It is good, but about something else.
    #[error("the sigstore bundle is not about {expected}")]
    Subject {
        /// The digest it should be about.
        expected: Digest,
    },
}

impl BundleRejected {
    pub(super) fn unreadable(reason: impl ToString) -> Self {
        Self::Unreadable(OutsideText::new(reason.to_string()))
    }
}

/// What a bundle says. Of an unverified bundle, it is what a stranger says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleClaims {
    /// The digests of what it is about; at least one.
    pub subjects: Vec<Digest>,
    /// What is said about it: the predicate type of an in-toto statement; none for a bare signature.
    pub predicate_type: Option<OutsideText>,
}

/// What a bundle is to be verified with, as it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleSigner {
    /// A key that the verifier must have.
    Key {
        /// A hint which.
        hint: OutsideText,
    },
    /// A certificate inside the bundle.
    Certificate,
}

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifiedBy {
    /// The fingerprint of the key.
    Key(String),
    /// The identity that a certificate authority vouches for; one of those that were required.
    Identity {
        /// Whom the certificate names.
        subject: String,
        /// Who says so.
        issuer: String,
    },
}

/// A bundle whose signature is good.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct VerifiedBundle {
    /// What it says: the signer's claim. Compare the subjects with the image at hand.
    pub claims: BundleClaims,
    /// Who says so.
    pub by: VerifiedBy,
}

/// A bundle that was read, and not verified yet.
#[derive(Debug, Clone)]
pub struct SigstoreBundle {
    /// The bytes, for the library that verifies certificates.
    json: String,
    content: Content,
    signer: BundleSigner,
    claims: BundleClaims,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Envelope { payload: Vec<u8>, signature: Vec<u8> },
    Message { sha256: [u8; 32], signature: Vec<u8> },
}

impl SigstoreBundle {
    /// Reads a bundle.
    ///
    /// # Errors
    /// [`BundleRejected`] if it is not a bundle, or not about anything with a digest.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleRejected> {
        let found = bytes.len() as u64;
        if found > LIMITS.sigstore_bundle {
            return Err(BundleRejected::TooLarge { found, limit: LIMITS.sigstore_bundle });
        }
        let json = std::str::from_utf8(bytes).map_err(BundleRejected::unreadable)?;
        let Wire { media_type, verification_material, message_signature, dsse_envelope, .. } =
            serde_json::from_str(json).map_err(BundleRejected::unreadable)?;
        if !VERSIONS.contains(&media_type.as_str()) {
            return Err(BundleRejected::Version(OutsideText::new(media_type)));
        }
        let Material { certificate, x509_certificate_chain, public_key } = verification_material;
        let signer = match (certificate.or(x509_certificate_chain), public_key) {
            (Some(_), None) => BundleSigner::Certificate,
            (None, Some(key)) => BundleSigner::Key { hint: OutsideText::new(key.hint) },
            _ => return Err(BundleRejected::unreadable("expected a certificate or a key")),
        };
        let (content, claims) = match (message_signature, dsse_envelope) {
            (Some(message), None) => message.read()?,
            (None, Some(envelope)) => envelope.read()?,
            _ => return Err(BundleRejected::unreadable("expected a message signature or an envelope")),
        };
        Ok(Self { json: json.into(), content, signer, claims })
    }

    /// Reads a bare envelope: a layer of what cosign attaches under `sha256-<hex>.att` (`specs/ATTESTATION_SPEC.md`).
    /// It can be verified with keys only.
    ///
    /// # Errors
    /// As [`SigstoreBundle::parse`].
    pub fn parse_envelope(bytes: &[u8]) -> Result<Self, BundleRejected> {
        let found = bytes.len() as u64;
        if found > LIMITS.sigstore_bundle {
            return Err(BundleRejected::TooLarge { found, limit: LIMITS.sigstore_bundle });
        }
        let envelope: Envelope = serde_json::from_slice(bytes).map_err(BundleRejected::unreadable)?;
        let (content, claims) = envelope.read()?;
        Ok(Self { json: String::new(), content, signer: BundleSigner::Key { hint: OutsideText::default() }, claims })
    }

    /// What it says; nobody has verified it.
    pub fn untrusted_claims(&self) -> &BundleClaims {
        &self.claims
    }

    /// What it is to be verified with.
    pub fn signer(&self) -> &BundleSigner {
        &self.signer
    }

    /// Verifies that one of the keys signed it. Log entries and certificates are neither needed nor looked at.
    ///
    /// # Errors
    /// [`BundleRejected`].
    pub fn verify_with_keys(&self, keys: &[SigstoreKey]) -> Result<VerifiedBundle, BundleRejected> {
        if keys.is_empty() {
            return Err(BundleRejected::NoKeys);
        }
        let key = match &self.content {
            Content::Envelope { payload, signature } => {
                let message = encode(STATEMENT, payload);
                keys.iter().find(|key| key.verifies_in_bundle(&message, signature))
            }
            Content::Message { sha256, signature } => {
                if keys.iter().all(|key| key.verifies_sha256(sha256, signature).is_none()) {
                    return Err(BundleRejected::NeedsContent);
                }
                keys.iter().find(|key| key.verifies_sha256(sha256, signature) == Some(true))
            }
        };
        let key = key
            .ok_or_else(|| BundleRejected::UnknownKey { tried: keys.iter().map(SigstoreKey::fingerprint).collect() })?;
        Ok(VerifiedBundle { claims: self.claims.clone(), by: VerifiedBy::Key(key.fingerprint()) })
    }

    /// Verifies that it was signed with a certificate for one of the required identities, and that it is about this
    /// digest: chain, certificate transparency, log entry and times, all offline against the trusted root.
    ///
    /// # Errors
    /// [`BundleRejected`].
    pub fn verify_with_keyless(&self, keyless: &Keyless, about: &Digest) -> Result<VerifiedBundle, BundleRejected> {
        if self.signer != BundleSigner::Certificate {
            return Err(BundleRejected::NoCertificate);
        }
        if !self.claims.subjects.contains(about) {
            return Err(BundleRejected::Subject { expected: *about });
        }
        let by = keyless.verify(&self.json, &self.content, about)?;
        Ok(VerifiedBundle { claims: self.claims.clone(), by })
    }
}

/// What an envelope's signature is over (DSSE, `protocol.md`).
fn encode(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

/// Unknown members are allowed, as in all JSON of protocol buffers; known ones are not given twice.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    media_type: String,
    verification_material: Material,
    message_signature: Option<MessageSignature>,
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    certificate: Option<IgnoredAny>,
    x509_certificate_chain: Option<IgnoredAny>,
    public_key: Option<PublicKey>,
}

#[derive(Deserialize)]
struct PublicKey {
    #[serde(default)]
    hint: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageSignature {
    message_digest: MessageDigest,
    signature: String,
}

#[derive(Deserialize)]
struct MessageDigest {
    algorithm: String,
    digest: String,
}

impl MessageSignature {
    fn read(self) -> Result<(Content, BundleClaims), BundleRejected> {
        let MessageDigest { algorithm, digest } = self.message_digest;
        if algorithm != "SHA2_256" {
            return Err(BundleRejected::Content(OutsideText::new(format!("a message hashed with {algorithm}"))));
        }
        let digest = decode(&digest).and_then(|digest| <[u8; 32]>::try_from(digest).ok());
        let sha256 = digest.ok_or_else(|| BundleRejected::unreadable("the digest is not a SHA-256 in base64"))?;
        let signature = base64("the signature", &self.signature)?;
        let claims = BundleClaims { subjects: vec![Digest::Sha256(sha256)], predicate_type: None };
        Ok((Content::Message { sha256, signature }, claims))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

/// An in-toto statement (in-toto/attestation `spec/v1/statement.md`); what is predicated is not looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(deserialize_with = "unique_map")]
    digest: BTreeMap<String, String>,
}

impl Envelope {
    fn read(self) -> Result<(Content, BundleClaims), BundleRejected> {
        let content = |reason: String| BundleRejected::Content(OutsideText::new(reason));
        if self.payload_type != STATEMENT {
            return Err(content(format!("an envelope of type {}", self.payload_type)));
        }
        let [signature] = self.signatures.as_slice() else {
            let found = self.signatures.len();
            return Err(BundleRejected::unreadable(format!("the envelope has {found} signatures; expected one")));
        };
        let signature = base64("the signature", &signature.sig)?;
        let payload = base64("the payload", &self.payload)?;
        let statement: Statement = serde_json::from_slice(&payload).map_err(|e| content(e.to_string()))?;
        if !matches!(&*statement.kind, "https://in-toto.io/Statement/v1" | "https://in-toto.io/Statement/v0.1") {
            return Err(content(format!("a statement of type {}", statement.kind)));
        }
        if statement.subject.len() > LIMITS.children {
            return Err(content(format!(
                "{} subjects; at most {} are accepted",
                statement.subject.len(),
                LIMITS.children
            )));
        }
        let mut subjects = Vec::new();
        for (algorithm, hex) in statement.subject.iter().flat_map(|subject| &subject.digest) {
            // Other algorithms are for other things than images, such as commits.
            if matches!(&**algorithm, "sha256" | "sha512") {
                let digest = format!("{algorithm}:{hex}").parse::<Digest>().map_err(|e| content(e.to_string()))?;
                if !subjects.contains(&digest) {
                    subjects.push(digest);
                }
            }
        }
        if subjects.is_empty() {
            return Err(content("no subject with a SHA-256 or SHA-512".into()));
        }
        let predicate_type = Some(OutsideText::new(statement.predicate_type));
        Ok((Content::Envelope { payload, signature }, BundleClaims { subjects, predicate_type }))
    }
}

fn base64(what: &str, text: &str) -> Result<Vec<u8>, BundleRejected> {
    decode(text).ok_or_else(|| BundleRejected::unreadable(format!("{what} is not base64")))
}

//! Signatures with short-lived certificates (Fulcio) whose use a public log has recorded (Rekor), verified offline.
//!
//! The library `sigstore-verify` does it, with none of its checks switched off. It judges a certificate at the time that the log
//! has recorded: a bundle that was good when it was received is good later, under the same trusted root and identities.

use manifest_schema::{Digest, LIMITS, OutsideText};
use sigstore_verify::crypto::parse_certificate_info;
use sigstore_verify::trust_root::TrustedRoot;
use sigstore_verify::types::{ArtifactDigest, Bundle, HashAlgorithm, SignatureContent};
use sigstore_verify::{Error, VerificationPolicy, Verifier};

use super::bundle::{BundleRejected, Content, VerifiedBy};
use super::provider;

/// Whom a certificate has to name, and who has to say so. Both are compared as they are, without patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeylessIdentity {
    /// The OpenID Connect issuer, such as `https://accounts.example.com`.
    pub issuer: String,
    /// The subject alternative name: an email address, or the URI of a workflow.
    pub subject: String,
}

/// Why a trusted root cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeylessError {
    /// Larger than `LIMITS.config`.
    #[error("the trusted root has {found} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Its size in bytes.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Not a trusted root, or damaged.
    #[error("not a sigstore trusted root: {}", .0.escaped())]
    Unreadable(OutsideText),
    /// Something is missing without which nothing can be verified.
    #[error("the trusted root has no {0}, so that nothing could be verified with it")]
    Missing(&'static str),
    /// No identity, or an empty one.
    #[error("a certificate must be for somebody: expected at least one identity, with issuer and subject")]
    NoIdentity,
}

/// A trusted root, and the identities that may sign.
pub struct Keyless {
    verifier: Verifier,
    identities: Vec<KeylessIdentity>,
}

impl std::fmt::Debug for Keyless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyless").field("identities", &self.identities).finish_non_exhaustive()
    }
}

impl Keyless {
    /// Takes a trusted root (sigstore/protobuf-specs `sigstore_trustroot.proto`, JSON) and the identities that may sign.
    ///
    /// # Errors
    /// [`KeylessError`].
    pub fn new(trusted_root: &[u8], identities: Vec<KeylessIdentity>) -> Result<Self, KeylessError> {
        if identities.is_empty() || identities.iter().any(|i| i.issuer.is_empty() || i.subject.is_empty()) {
            return Err(KeylessError::NoIdentity);
        }
        let found = trusted_root.len() as u64;
        if found > LIMITS.config {
            return Err(KeylessError::TooLarge { found, limit: LIMITS.config });
        }
        provider::install();
        let unreadable = |e: &dyn std::error::Error| KeylessError::Unreadable(OutsideText::new(e.to_string()));
        let json = std::str::from_utf8(trusted_root).map_err(|e| unreadable(&e))?;
        let root = TrustedRoot::from_json(json).map_err(|e| unreadable(&e))?;
        if !root.media_type.starts_with("application/vnd.dev.sigstore.trustedroot") {
            return Err(KeylessError::Unreadable(OutsideText::new(root.media_type)));
        }
        for (none, what) in [
            (root.certificate_authorities.is_empty(), "certificate authority"),
            (root.tlogs.is_empty(), "transparency log"),
            (root.ctlogs.is_empty(), "certificate transparency log"),
        ] {
            if none {
                return Err(KeylessError::Missing(what));
            }
        }
        let verifier = Verifier::new(&root).map_err(|e| unreadable(&e))?;
        Ok(Self { verifier, identities })
    }

    pub(super) fn verify(&self, json: &str, content: &Content, about: &Digest) -> Result<VerifiedBy, BundleRejected> {
        let keyless = |e: &dyn std::error::Error| BundleRejected::Keyless(OutsideText::new(e.to_string()));
        let bundle = read_as(json, content)?;
        let algorithm = match about {
            Digest::Sha256(_) => HashAlgorithm::Sha2256,
            Digest::Sha512(_) => HashAlgorithm::Sha2512,
        };
        let artifact = ArtifactDigest::new(algorithm, about.as_bytes().to_vec()).map_err(|e| keyless(&e))?;
        for KeylessIdentity { issuer, subject } in &self.identities {
            let policy = VerificationPolicy::new(subject.as_str(), issuer.as_str());
            match self.verifier.verify(artifact.clone(), &bundle, &policy) {
                Ok(result) => {
                    // What our policy demands; should the library ever change its mind.
                    let complete = result.certificate_verified() && result.sct_verified() && result.tlog_verified();
                    if !(complete && result.identity_policy_checked()) {
                        return Err(BundleRejected::Keyless(OutsideText::new("a check was left out")));
                    }
                    return Ok(VerifiedBy::Identity { subject: subject.clone(), issuer: issuer.clone() });
                }
                Err(Error::IdentityMismatch { .. } | Error::IssuerMismatch { .. }) => {}
                Err(e) => return Err(keyless(&e)),
            }
        }
        Err(self.somebody_else(&bundle))
    }

    /// Names the signer nobody asked for. The library compares identities after it has verified the certificate.
    fn somebody_else(&self, bundle: &Bundle) -> BundleRejected {
        let named = bundle.signing_certificate().and_then(|certificate| parse_certificate_info(certificate).ok());
        let (subject, issuer) = named.map_or((None, None), |info| (info.identity, info.issuer));
        BundleRejected::Identity {
            subject: OutsideText::new(subject.as_ref().map_or("nobody", |name| name.as_str())),
            issuer: OutsideText::new(issuer.unwrap_or_else(|| "nobody".into())),
            expected: self.identities.iter().map(|i| format!("{}, issuer {}", i.subject, i.issuer)).collect(),
        }
    }
}

/// Reads a bundle for the library, which must read what is read here.
fn read_as(json: &str, content: &Content) -> Result<Bundle, BundleRejected> {
    let bundle = Bundle::from_json(json).map_err(BundleRejected::unreadable)?;
    let read = match &bundle.content {
        SignatureContent::DsseEnvelope(envelope) => Some(Content::Envelope {
            payload: envelope.payload.as_bytes().to_vec(),
            signature: envelope.signature.sig.as_bytes().to_vec(),
        }),
        SignatureContent::MessageSignature(message) => {
            let digest = message.message_digest.as_ref().filter(|digest| digest.algorithm == HashAlgorithm::Sha2256);
            digest.and_then(|digest| digest.digest.as_bytes().try_into().ok()).map(|sha256| {
                let signature = message.signature.as_bytes().to_vec();
                Content::Message { sha256, signature }
            })
        }
        _ => None,
    };
    if read.as_ref() == Some(content) {
        Ok(bundle)
    } else {
        Err(BundleRejected::unreadable("it can be read in two ways"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_that_the_library_reads_otherwise_is_refused() {
        let bundle = |content: &str| {
            let media_type = "application/vnd.dev.sigstore.bundle.v0.3+json";
            format!(r#"{{"mediaType":"{media_type}","verificationMaterial":{{"publicKey":{{}}}},{content}}}"#)
        };
        let hash = format!("{}=", "A".repeat(43));
        let message = bundle(&format!(
            r#""messageSignature":{{"messageDigest":{{"algorithm":"SHA2_256","digest":"{hash}"}},"signature":"AAAA"}}"#
        ));
        let envelope = bundle(r#""dsseEnvelope":{"payloadType":"x","payload":"AAAA","signatures":[{"sig":"AAAA"}]}"#);
        let signed = |signature: &[u8]| Content::Message { sha256: [0; 32], signature: signature.into() };
        let packed = |payload: &[u8]| Content::Envelope { payload: payload.into(), signature: vec![0; 3] };
        assert!(read_as(&message, &signed(&[0; 3])).is_ok());
        assert!(read_as(&envelope, &packed(&[0; 3])).is_ok());
        for (json, content) in [
            (&message, signed(&[1; 3])),
            (&message, Content::Message { sha256: [1; 32], signature: vec![0; 3] }),
            (&message, packed(&[0; 3])),
            (&envelope, packed(&[1; 3])),
            (&envelope, signed(&[0; 3])),
            (&message.replace("SHA2_256", "SHA2_512"), signed(&[0; 3])),
        ] {
            assert!(matches!(read_as(json, &content), Err(BundleRejected::Unreadable(_))), "{json}");
        }
    }
}

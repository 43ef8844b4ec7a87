//! Verifying cosign signatures with keys.

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use manifest_schema::LIMITS;

use super::{SigstoreKey, SigstorePayload, SigstoreRejected, payload};

/// The annotation that holds the signature of a layer, in base64.
pub const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";

/// base64 as Go reads it: padded, and whatever the bits are that nothing is made of.
const GO: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// One cosign signature as it is attached to an image: a layer of the manifest that `sha256-<hex>.sig` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigstoreSignature {
    /// The layer.
    pub payload: Vec<u8>,
    /// The annotations of the layer's descriptor.
    pub annotations: BTreeMap<String, String>,
}

impl SigstoreSignature {
    /// Whether a certificate came with it, as with signatures that no lasting key made.
    pub fn has_certificate(&self) -> bool {
        self.annotations.get("dev.sigstore.cosign/certificate").is_some_and(|certificate| !certificate.is_empty())
    }
}

/// Verifies a cosign signature: its payload is signed by one of the keys and has exactly the members of a cosign payload.
///
/// A certificate or log entry beside the signature is neither needed nor looked at.
///
/// # Errors
/// [`SigstoreRejected`].
pub fn verify_sigstore(
    signature: &SigstoreSignature,
    keys: &[SigstoreKey],
) -> Result<SigstorePayload, SigstoreRejected> {
    let encoded = signature.annotations.get(SIGNATURE_ANNOTATION).ok_or(SigstoreRejected::NoSignature)?;
    for found in [signature.payload.len() as u64, encoded.len() as u64] {
        if found > LIMITS.signature {
            return Err(SigstoreRejected::TooLarge { found, limit: LIMITS.signature });
        }
    }
    if keys.is_empty() && !signature.has_certificate() {
        return Err(SigstoreRejected::NoKeys);
    }
    let bytes = decode(encoded).ok_or(SigstoreRejected::Base64)?;
    let key = keys.iter().find(|key| key.verifies(&signature.payload, &bytes));
    let Some(key) = key else {
        let tried = keys.iter().map(SigstoreKey::fingerprint).collect();
        return Err(match signature.has_certificate() {
            true => SigstoreRejected::Keyless { tried },
            false => SigstoreRejected::UnknownKey { tried },
        });
    };
    payload::read(&signature.payload, key.fingerprint())
}

/// Reads base64 that may be broken into lines.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let bare: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    GO.decode(bare).ok()
}

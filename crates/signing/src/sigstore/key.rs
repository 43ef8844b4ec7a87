//! Public keys of sigstore signatures.

use std::fmt;

use manifest_schema::{Digest, LIMITS, OutsideText, Reference};
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::ecdsa::{Signature, VerifyingKey};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256,
    UnparsedPublicKey, VerificationAlgorithm,
};
use spki::der::{Decode, Reader, SliceReader, asn1::UintRef};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use super::{SigstoreError, SigstoreSignature, pem, verify_sigstore};

pub(crate) const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
pub(crate) const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// How signatures by a key are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    P256,
    P384,
    Ed25519,
    Rsa,
}

/// A public key that cosign signatures are verified with: ECDSA over P-256 or P-384, Ed25519, or RSA (PKCS #1 v1.5) with
/// 2048 to 8192 bits; SHA-256 in all of them but Ed25519.
#[derive(Clone, PartialEq, Eq)]
pub struct SigstoreKey {
    kind: Kind,
    /// SubjectPublicKeyInfo (RFC 5280 section 4.1), DER.
    spki: Vec<u8>,
    /// What is inside its bit string.
    point: Vec<u8>,
}

impl SigstoreKey {
    /// Reads a public key from PEM: one block `PUBLIC KEY`, such as `cosign.pub`.
    ///
    /// # Errors
    /// [`SigstoreError`].
    pub fn from_pem(bytes: &[u8]) -> Result<Self, SigstoreError> {
        if bytes.len() as u64 > LIMITS.config {
            return Err(SigstoreError::TooLarge { found: bytes.len() as u64, limit: LIMITS.config });
        }
        let blocks = pem::blocks(bytes).map_err(|reason| SigstoreError::Unreadable(reason.into()))?;
        if blocks.iter().any(|block| block.label.contains("PRIVATE KEY")) {
            return Err(SigstoreError::SecretKey);
        }
        match blocks.as_slice() {
            [key] if key.label == "PUBLIC KEY" => Self::from_der(&key.bytes),
            [] => Err(SigstoreError::NoKey { found: OutsideText::new("none") }),
            [other] => Err(SigstoreError::NoKey { found: OutsideText::new(&*other.label) }),
            several => Err(SigstoreError::SeveralKeys { found: several.len() }),
        }
    }

    /// Reads a public key from its SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// [`SigstoreError`].
    pub fn from_der(der: &[u8]) -> Result<Self, SigstoreError> {
        let unreadable = |what: &str| SigstoreError::Unreadable(what.into());
        let unsupported = |what: String| SigstoreError::Unsupported(OutsideText::new(what));
        let spki = SubjectPublicKeyInfoRef::from_der(der).map_err(|e| unreadable(&e.to_string()))?;
        let point = spki.subject_public_key.as_bytes().ok_or_else(|| unreadable("its bits are no whole bytes"))?;
        let parameter = || spki.algorithm.parameters_oid().map_err(|_| unreadable("the curve has no name"));
        let (kind, ok) = match spki.algorithm.oid {
            EC => match parameter()? {
                P256 => (Kind::P256, point.len() == 65 && p256::PublicKey::from_sec1_bytes(point).is_ok()),
                // ring looks whether the point is on the curve each time.
                P384 => (Kind::P384, point.len() == 97 && point[0] == 4),
                curve => return Err(unsupported(format!("elliptic curve {curve}"))),
            },
            ED => (Kind::Ed25519, point.len() == 32),
            RSA => {
                let bits = modulus_bits(point).ok_or_else(|| unreadable("it is not an RSA key"))?;
                if !(2048..=8192).contains(&bits) {
                    return Err(unsupported(format!("RSA with {bits} bits")));
                }
                (Kind::Rsa, true)
            }
            other => return Err(unsupported(other.to_string())),
        };
        if !ok {
            return Err(unreadable("it is not a point of its curve, uncompressed"));
        }
        Ok(Self { kind, spki: der.to_vec(), point: point.to_vec() })
    }

    /// SHA-256 of the SubjectPublicKeyInfo, in hexadecimal: what names this key in reports.
    pub fn fingerprint(&self) -> String {
        blobs::sha256(&self.spki).hex()
    }

    /// The key in PEM, as `cosign.pub` is written.
    pub fn to_pem(&self) -> String {
        pem::write("PUBLIC KEY", &self.spki).to_string()
    }

    /// The SubjectPublicKeyInfo in DER.
    pub fn as_der(&self) -> &[u8] {
        &self.spki
    }

    /// Whether this key made the signature, for this image: under this reference, or under any if there is none.
    ///
    /// Certificates and log entries beside the signature are neither needed nor looked at.
    pub fn has_signed(&self, signature: &SigstoreSignature, reference: Option<&Reference>, digest: &Digest) -> bool {
        verify_sigstore(signature, std::slice::from_ref(self)).is_ok_and(|payload| {
            let fits = |reference: &Reference| payload.reference.raw() == reference.to_string();
            reference.is_none_or(fits) && payload.digest == *digest
        })
    }

    /// Whether this key signed the message.
    #[must_use]
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match self.kind {
            Kind::P256 => &ECDSA_P256_SHA256_ASN1,
            Kind::P384 => &ECDSA_P384_SHA256_ASN1,
            Kind::Ed25519 => &ED25519,
            Kind::Rsa => &RSA_PKCS1_2048_8192_SHA256,
        };
        UnparsedPublicKey::new(algorithm, &self.point).verify(message, signature).is_ok()
    }

    /// Whether this key signed the message with a hash that sigstore bundles may use: P-384 goes with SHA-384 there.
    #[must_use]
    pub(crate) fn verifies_in_bundle(&self, message: &[u8], signature: &[u8]) -> bool {
        let with_384 = || UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, &self.point).verify(message, signature);
        self.verifies(message, signature) || (self.kind == Kind::P384 && with_384().is_ok())
    }

    /// Whether this key signed the message of which only the SHA-256 is known; `None` if such a key cannot tell.
    #[must_use]
    pub(crate) fn verifies_sha256(&self, hash: &[u8; 32], signature: &[u8]) -> Option<bool> {
        (self.kind == Kind::P256).then(|| p256_verifies_sha256(&self.point, hash, signature))
    }
}

/// ECDSA over P-256 with a hash that is computed already, which ring does not offer.
pub(crate) fn p256_verifies_sha256(point: &[u8], hash: &[u8; 32], signature: &[u8]) -> bool {
    let Ok(key) = VerifyingKey::from_sec1_bytes(point) else { return false };
    Signature::from_der(signature).is_ok_and(|signature| key.verify_prehash(hash, &signature).is_ok())
}

impl fmt::Debug for SigstoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigstoreKey({})", self.fingerprint())
    }
}

/// The size of an RSA key: `RSAPublicKey` of RFC 8017 appendix A.1.1.
fn modulus_bits(der: &[u8]) -> Option<u32> {
    let mut outer = SliceReader::new(der).ok()?;
    let modulus = outer
        .sequence(|inner| {
            let modulus = UintRef::decode(inner)?;
            UintRef::decode(inner)?;
            Ok(modulus)
        })
        .ok()?;
    outer.finish(()).ok()?;
    let bytes = modulus.as_bytes();
    let bits = u32::try_from(bytes.len()).ok()?.checked_mul(8)?;
    Some(bits - bytes.first()?.leading_zeros())
}

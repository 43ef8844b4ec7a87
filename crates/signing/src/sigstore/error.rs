//! What can go wrong with sigstore keys and signatures.

use manifest_schema::OutsideText;

use crate::simple::PayloadError;

/// Why a public key cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SigstoreError {
    /// Larger than `LIMITS.config`.
    #[error("the key has {found} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Its size in bytes.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Not PEM, or not a key inside.
    #[error("not a readable public key in PEM: {0}")]
    Unreadable(String),
    /// No public key in the file.
    #[error("holds no public key: expected a PEM block `PUBLIC KEY`, found {}", .found.escaped())]
    NoKey {
        /// The blocks that are there.
        found: OutsideText,
    },
    /// A file with a secret key was given where a public key belongs.
    #[error("holds a secret key; expected a public key only")]
    SecretKey,
    /// More than one key.
    #[error("holds {found} keys; expected one")]
    SeveralKeys {
        /// How many.
        found: usize,
    },
    /// A kind of key that signatures are not made with, or that is not supported.
    #[error(
        "a key of kind {} is not supported: expected ECDSA over P-256 or P-384, Ed25519, or RSA with 2048 to 8192 bits",
        .0.escaped()
    )]
    Unsupported(OutsideText),
}

/// Why a cosign signature does not count.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SigstoreRejected {
    /// Larger than `LIMITS.signature` allows.
    #[error("the signature has {found} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Size of the payload or annotation in bytes.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// No key to verify with.
    #[error("there is no key to verify with")]
    NoKeys,
    /// The layer has no signature.
    #[error("annotation `dev.cosignproject.cosign/signature` is missing")]
    NoSignature,
    /// The signature is not base64.
    #[error("annotation `dev.cosignproject.cosign/signature` is not base64")]
    Base64,
    /// No key made it.
    #[error("the signature is not by key {}", .tried.join(", nor by "))]
    UnknownKey {
        /// The fingerprints of the keys it was compared with.
        tried: Vec<String>,
    },
    /// No key made it, but a certificate came with it.
    #[error(
        "the signature was made with a certificate; those of attached signatures are not verified{}",
        tried.iter().map(|key| format!(", nor is it by key {key}")).collect::<String>()
    )]
    Keyless {
        /// The fingerprints of the keys it was compared with.
        tried: Vec<String>,
    },
    /// The signature is good, but what it signs is of another type.
    #[error("critical.type: expected `cosign container image signature`, found `{}`", .0.escaped())]
    Type(OutsideText),
    /// The signature is good, but what it signs is not a cosign payload.
    #[error("what is signed is not a cosign signature: {0}")]
    Payload(#[from] PayloadError),
}

//! Why bytes did not become [`Authentic`](crate::Authentic).

use std::fmt;

use manifest_schema::{OutsideText, Timestamp};

use crate::simple::PayloadError;

/// Why a document or message is refused, with the reason of every signature that did not count.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejected {
    /// The signature is larger than `LIMITS.signature` allows.
    #[error("the signature has {found} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Its size in bytes.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A document that is larger than is accepted here.
    #[error("the document has {found} bytes; at most {limit} are accepted")]
    LongDocument {
        /// Its size in bytes.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Another form of data than is needed here.
    #[error("expected {expected}, found {found}")]
    Form {
        /// What is needed.
        expected: &'static str,
        /// What was found.
        found: &'static str,
    },
    /// Not OpenPGP data, or damaged.
    #[error("the signature cannot be read: {}", .0.escaped())]
    Unreadable(OutsideText),
    /// More signatures than are looked at.
    #[error("more than {limit} signatures or packets")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// No signature at all.
    #[error("there is no signature")]
    NoSignature,
    /// A simple signature with more than one signer; containers/image refuses it too.
    #[error("the message has {found} signatures; a simple signature has exactly one")]
    SeveralSigners {
        /// How many signatures.
        found: usize,
    },
    /// Too few good signatures by distinct certificates.
    #[error("{found} of {required} required signatures: {}", list(faults))]
    BelowThreshold {
        /// How many certificates must have signed.
        required: usize,
        /// How many have.
        found: usize,
        /// Why the other signatures did not count.
        faults: Vec<Fault>,
    },
    /// The signature is good, but what it signs is not a simple signature.
    #[error("what is signed is not a simple signature: {0}")]
    Payload(#[from] PayloadError),
}

fn list(faults: &[Fault]) -> String {
    if faults.is_empty() {
        return "no other signature was found".into();
    }
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")
}

/// One signature that did not count.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The fingerprint or key id the signature names, in hexadecimal.
    pub key: Option<String>,
    /// Why it did not count.
    pub reason: Reason,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "key {key}: {}", self.reason),
            None => write!(f, "a signature: {}", self.reason),
        }
    }
}

/// Why a signature does not count, or a key cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Reason {
    /// No configured certificate has the key.
    #[error("unknown key: no certificate configured for this role has it")]
    UnknownKey,
    /// The signature names no key.
    #[error("it does not say which key made it")]
    NoIssuer,
    /// The packet cannot be understood.
    #[error("it cannot be read: {}", .0.escaped())]
    Unreadable(OutsideText),
    /// A signature over something else than a document.
    #[error("it is of type {0}, not a signature over these bytes")]
    Type(String),
    /// No creation time.
    #[error("it does not say when it was made")]
    NoTime,
    /// A hash or key algorithm the policy no longer accepts.
    #[error("too weak: {}", .0.escaped())]
    Weak(OutsideText),
    /// The signature is not over these bytes.
    #[error("bad signature: {}", .0.escaped())]
    Bad(OutsideText),
    /// Dated later than now.
    #[error("signed in the future: {signed_at}, now is {now} ({tolerance} s of difference are accepted)")]
    Future {
        /// When the signature says it was made.
        signed_at: Timestamp,
        /// The reference time.
        now: Timestamp,
        /// The difference accepted, in seconds.
        tolerance: u32,
    },
    /// Dated before the key existed.
    #[error("signed on {signed_at}, before the key was made on {created}")]
    BeforeKey {
        /// When the signature says it was made.
        signed_at: Timestamp,
        /// When the key was made.
        created: Timestamp,
    },
    /// The signature has an expiry of its own, which has passed.
    #[error("the signature expired on {on}")]
    SignatureExpired {
        /// When.
        on: Timestamp,
    },
    /// The certificate or signing key has expired, whenever the signature was made.
    #[error("the key expired{}", on.map_or(String::new(), |on| format!(" on {on}")))]
    Expired {
        /// When, if the key says so.
        on: Option<Timestamp>,
    },
    /// The certificate or signing key has been revoked, whenever the signature was made.
    #[error(
        "the key was revoked{} ({})",
        on.map_or(String::new(), |on| format!(" on {on}")),
        reason.escaped()
    )]
    Revoked {
        /// The reason the revocation gives.
        reason: OutsideText,
        /// When the revocation was made.
        on: Option<Timestamp>,
    },
    /// The key may not sign documents.
    #[error("the key is not meant for signing")]
    NotForSigning,
    /// The key may not certify other keys.
    #[error("the key is not meant for certifying other keys")]
    NotForCertification,
    /// A certification that says that its maker checked nothing.
    #[error("it certifies nothing: its maker did not check whose key it is")]
    Unchecked,
    /// A certification that its maker has taken back.
    #[error("the certification was revoked{}", on.map_or(String::new(), |on| format!(" on {on}")))]
    CertificationRevoked {
        /// When.
        on: Option<Timestamp>,
    },
    /// A certification over a user id that the owner of the key does not, or no longer, stand by.
    #[error("the user id is not bound to the key, or was revoked")]
    UserId,
    /// The certificate is not valid now under the policy.
    #[error("the certificate is not valid now: {}", .0.escaped())]
    Invalid(OutsideText),
    /// A second signature by a certificate that already counts.
    #[error("a second signature by certificate {0}, which counts once")]
    Duplicate(crate::Fingerprint),
}

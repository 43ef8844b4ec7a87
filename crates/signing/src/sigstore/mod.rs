//! cosign and sigstore signatures, verified and made offline.
//!
//! What an attacker may try, and what answers it:
//!
//! | attack | answer |
//! |---|---|
//! | a signature by a key nobody configured, or one broken in any byte | `verify::verify_sigstore`: the key decides, before anything is parsed |
//! | a certificate, chain or log entry in the annotations that vouches for itself | [`verify_sigstore`] looks at the signature and the configured keys only |
//! | a payload of another type, such as a simple signature's, signed with the same key | `payload::read`: the type is compared |
//! | duplicate or unknown JSON members, bytes after the document | `payload::read` |
//! | a key file that holds several keys, of which one is overlooked | [`SigstoreKey::from_pem`] takes one key |
//! | a short RSA key, a point that is not on its curve | [`SigstoreKey::from_pem`] |

mod error;
mod key;
mod payload;
mod pem;
mod verify;

pub use error::{SigstoreError, SigstoreRejected};
pub use key::SigstoreKey;
pub use payload::{SigstorePayload, sigstore_payload};
pub use verify::{SIGNATURE_ANNOTATION, SigstoreSignature, verify_sigstore};

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
//! | parameters that make unlocking a key take hours or all memory | `secret::Sealed::parse`: `LIMITS.scrypt_work`, before the passphrase is asked for |
//! | a signature that pushes another out of a shared manifest | `Attachment::with` adds, and takes nothing away |
//! | a bundle whose envelope says one thing to us and another to the library | `keyless`: both readings are compared |
//! | a bundle with a good certificate of somebody else | [`Keyless`] cannot be made without an identity: issuer and subject |
//! | a certificate used after it expired, a log entry of another signature, an entry that no log has | `sigstore-verify`, with no check switched off |
//! | an attestation about another image | [`SigstoreBundle::verify_with_keyless`] compares; with keys the caller compares [`BundleClaims::subjects`] |
//! | a short RSA key, a point that is not on its curve | [`SigstoreKey::from_pem`] |

mod attachment;
mod bundle;
mod classify;
mod error;
mod key;
mod keyless;
mod payload;
mod pem;
mod provider;
mod secret;
mod verify;

pub use attachment::{AttachedLayer, Attachment, AttachmentBytes, AttachmentError, PAYLOAD_MEDIA_TYPE};
pub use bundle::{BundleClaims, BundleRejected, BundleSigner, SigstoreBundle, VerifiedBundle, VerifiedBy};
pub use classify::EvidenceKind;
pub use error::{SigstoreError, SigstoreRejected};
pub use key::SigstoreKey;
pub use keyless::{Keyless, KeylessError, KeylessIdentity};
pub use payload::{SigstorePayload, sigstore_payload};
pub use secret::{GeneratedSigstoreKey, SigstoreSecretError, SigstoreSecretKey, generate_sigstore};
pub use verify::{SIGNATURE_ANNOTATION, SigstoreSignature, verify_sigstore};

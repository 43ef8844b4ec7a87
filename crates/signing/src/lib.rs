//! OpenPGP trust, cosign signatures, production signatures.
//!
//! Bytes become trusted in one place only: [`Trust`] checks a signature and gives an [`Authentic`] value. What an
//! attacker may try, and what answers it:
//!
//! | attack | answer |
//! |---|---|
//! | a signature by a key nobody configured, or one broken in any byte | `trust::Trust::judge` |
//! | a key that has expired or been revoked since it signed; a signature dated back to when it was alive | `judge`: keys are judged now, never at the signature's own time |
//! | a key revoked after the bundle was received and before it was promoted | [`Trust::as_received`]: what expires is judged as of the receive, revocations as of now |
//! | a head of the ledger whose key has expired since | [`Trust::as_signed`]: it had not when it signed; for the ledger's own heads only, whose keys the ledger names |
//! | a certification moved to another key or user id, made in another's name, or taken back | `certification::judge` |
//! | a signature dated in the future, to outlive a revocation | `judge`: one clock tolerance |
//! | SHA-1 or another weak hash, a short key | `judge`: sequoia's policy at the reference time |
//! | one key signing twice to reach a threshold of two | `Trust::count`: distinct primary fingerprints |
//! | a detached signature over another document, put in front of it as an inline message | `packets::inline` takes no such message; and `simple::read_payload` takes exactly the members of a simple signature, where our own documents begin with a `type` |
//! | cleartext, armored, encrypted, unsigned messages where an inline one belongs | `packets::inline` |
//! | compressed messages that unfold to gigabytes, or have bytes behind them | `packets::unfold` |
//! | duplicate or unknown JSON members, bytes after the document | `simple::read_payload` |
//! | a signature for another image or under another name; a policy that is misread | [`ImagePolicy`]: containers/image's rules, unknown members refused |
//! | a signature that a server withholds | `fetch`: what is not simply missing fails the whole read |
//! | one key in two roles | [`distinct_roles`] |
//! | something else than gpg-agent behind its socket: endless answers, a signature by another key | `agent::assuan` bounds every answer; [`SecretKey::usable`] verifies a trial signature |
//! | something unsigned beside a signed statement | `statement::split_statement` takes a line and one armored block, nothing else |
//! | a withdrawal that is cut short, so that a withdrawn signature comes back or a good one is hidden | `lookaside::Plan` |
//! | symbolic links in a lookaside tree | [`Lookaside`] opens every component without following links |
//! | cosign signatures, sigstore bundles, certificates and logs | the table of [`sigstore`] |

#![deny(missing_docs)]

mod agent;
mod certificates;
mod certification;
mod error;
mod fetch;
mod fingerprint;
mod generate;
mod lookaside;
mod packets;
mod policy;
mod registries_d;
mod rejected;
mod secret;
pub mod sigstore;
mod simple;
mod statement;
mod time;
mod trust;

pub use agent::{AgentAccess, AgentError};
pub use certificates::{CertificateInfo, Certificates, RoleConflict, distinct_roles};
pub use certification::CertificationError;
pub use error::Error;
pub use fetch::{FetchSignaturesError, FetchSmall, fetch_release_signatures, fetch_signatures};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use generate::{Algorithm, GeneratedKey, KeyRequest, generate};
pub use lookaside::{Lookaside, LookasideError, make_readable};
pub use packets::join_signatures;
pub use policy::{
    Demand, ImagePolicy, KeyFile, KeySource, Moved, MovedIdentity, PolicyError, PolicyImage, PolicyName, PolicyVerdict,
    RequirementVerdict, Unmovable,
};
pub use registries_d::{IgnoredMember, RegistriesD, RegistriesDError};
pub use rejected::{Fault, Reason, Rejected};
pub use secret::{KeyWarning, SecretKey};
pub use sigstore::{
    SigstoreKey, SigstorePayload, SigstoreRejected, SigstoreSecretKey, SigstoreSignature, verify_sigstore,
};
pub use simple::{PayloadError, SimpleSignature, UntrustedSimple, payload, peek_simple, read_simple};
pub use statement::{join_statements, split_statement};
pub use trust::{Authentic, DEFAULT_CLOCK_TOLERANCE, Signer, Trust};

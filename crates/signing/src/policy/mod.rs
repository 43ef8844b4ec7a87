//! Image policies (`containers-policy.json(5)`), with the verdicts of containers/image and the reasons for them.
//!
//! The rules are those of current containers/image (`signature/policy_config*.go`, `policy_eval*.go`,
//! `policy_reference_match.go`, `docker/policyconfiguration/naming.go`). Where this is stricter, on purpose:
//!
//! - keys are read when the policy is: a key file that is missing, damaged, holds no certificate or a secret key refuses the
//!   whole policy, not only the images it is meant for; relative paths begin in the policy's folder;
//! - OpenPGP signatures are judged by [`Trust`]: no SHA-1 or other weak hash, no short key, no signature in front of its
//!   document, none from the future; a revoked or expired key is refused whenever it signed (so does GnuPG);
//! - a `null` is refused everywhere, as is text that is not Unicode;
//! - what needs Rekor, Fulcio or a PKI is never accepted, and the verdict says so.

mod file;
mod identity;
mod json;
mod moved;
mod scope;
mod signature_file;

use std::fmt;
use std::path::{Path, PathBuf};

use manifest_schema::{Digest, OutsideText, Reference, Timestamp};

use crate::certificates::read_key_file;
use crate::error::shown;
use crate::sigstore::SigstoreError;
use crate::{
    Certificates, DEFAULT_CLOCK_TOLERANCE, SigstoreKey, SigstoreSignature, Trust, read_simple, verify_sigstore,
};
use file::{CosignKeys, Document, GpgKeys, Requirement};
pub(crate) use identity::Named;
use identity::SignedIdentity;
pub use moved::{Demand, KeyFile, KeySource, Moved, MovedIdentity, Unmovable};
pub(crate) use scope::docker_scopes;
pub(crate) use signature_file::{SignatureFile, looks_like_message};

/// Characters of one reason of a verdict: verdicts are written into ledgers, and a signature says what it likes.
const REASON: usize = 300;
/// Characters of what a signature calls the image, within a reason.
const REFERENCE: usize = 80;

/// The scope of a verdict that follows from the policy's default.
const DEFAULT: &str = "default";
/// Why nothing meets a requirement of a policy that was read for its format alone.
const UNREAD: &str = "its keys were not read";
/// What the empty scope of a transport is called in a verdict.
const WHOLE_TRANSPORT: &str = "\"\"";

/// A `containers-policy.json(5)` file with its keys.
#[derive(Debug)]
pub struct ImagePolicy {
    document: Document,
    clock_tolerance: u32,
}

/// Why a file is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be used.
    #[error("{}: not a usable image policy", shown(path))]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<PolicyError>,
    },
    /// The file cannot be read.
    #[error("it cannot be read")]
    Read(#[source] crate::Error),
    /// Larger than `LIMITS.config`.
    #[error("larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Not JSON, or a member is given twice.
    #[error("{}", .0.escaped())]
    Json(OutsideText),
    /// JSON, but not a policy.
    #[error("{place}: {reason}")]
    Format {
        /// Where in the file, such as `transports.docker."registry.example/team"[0].keyPath`.
        place: String,
        /// What is wrong there.
        reason: String,
    },
    /// The certificates of a requirement cannot be loaded.
    #[error("{place}: the keys cannot be loaded")]
    Keys {
        /// Where in the file.
        place: String,
        /// Why.
        source: crate::Error,
    },
    /// A sigstore key of a requirement cannot be loaded.
    #[error("{place}: {} cannot be loaded", shown(path))]
    SigstoreKey {
        /// Where in the file.
        place: String,
        /// The key's file.
        path: PathBuf,
        /// Why.
        source: SigstoreError,
    },
}

impl PolicyError {
    fn format(place: &str, reason: impl fmt::Display) -> Self {
        let place = if place.is_empty() { "the policy".into() } else { place.into() };
        Self::Format { place, reason: reason.to_string() }
    }
}

/// What an image is called where it comes from.
#[derive(Debug, Clone, Copy)]
pub enum PolicyName<'a> {
    /// An image in a registry, by tag or by digest. With both, the tag is dropped, as podman and CRI-O do.
    Docker(&'a Reference),
    /// An image of a transport whose images have no Docker reference.
    Other {
        /// The transport: `oci`, `dir`, `oci-archive`, `docker-archive`, ...
        transport: &'a str,
        /// What the transport calls the image: for `oci`, `dir` and `oci-archive` the absolute path, without links and
        /// without the name of an image in it; for `docker-archive` nothing.
        scope: &'a str,
    },
}

/// One manifest (a platform's or an index) under one name.
///
/// That the name leads to these bytes is for the caller to know, for example that a digest in the name is theirs or that of
/// the index that lists them.
#[derive(Debug, Clone, Copy)]
pub struct PolicyImage<'a> {
    /// What it is called.
    pub name: PolicyName<'a>,
    /// The digests of the manifest's bytes, one for each algorithm that a signature may use.
    pub digests: &'a [Digest],
    /// Files of signatures that were found for it, in order: `signature-1` and so on.
    pub simple: &'a [&'a [u8]],
    /// Signatures attached to it as cosign does. containers/image sees them only where registries.d says so
    /// ([`RegistriesD::sigstore_attachments`](crate::RegistriesD::sigstore_attachments)).
    pub sigstore: &'a [SigstoreSignature],
}

/// Whether an image may be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PolicyVerdict {
    /// Whether every requirement is met.
    pub accepted: bool,
    /// The part of the policy that decides: `docker: registry.dev.example/payments`, `docker: ""` or `default`.
    pub scope: String,
    /// Each requirement of that part, in order.
    pub requirements: Vec<RequirementVerdict>,
}

impl PolicyVerdict {
    /// Whether the decision is that for whatever has no scope of its own: the policy's, or the transport's.
    pub fn is_by_default(&self) -> bool {
        self.scope == DEFAULT || self.scope.split_once(": ").is_some_and(|(_, scope)| scope == WHOLE_TRANSPORT)
    }
}

/// Whether an image meets a requirement, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RequirementVerdict {
    /// The type: `signedBy` and so on.
    pub requirement: String,
    /// Whether it is met.
    pub accepted: bool,
    /// The signer of the signature that meets it: the certificate's fingerprint, or that of the sigstore key.
    pub signer: Option<String>,
    /// What that signature calls the image.
    pub identity: Option<OutsideText>,
    /// Why it is not met; for signatures that were looked at, why each of them does not count. One line each, printable,
    /// of at most 300 characters.
    pub reasons: Vec<String>,
}

impl ImagePolicy {
    /// The file that containers/image would read: the user's if it is there, otherwise the machine's.
    pub fn standard() -> PathBuf {
        let user = std::env::var_os("HOME").map(|home| Path::new(&home).join(".config/containers/policy.json"));
        user.filter(|file| file.exists()).unwrap_or_else(|| "/etc/containers/policy.json".into())
    }

    /// Whether this is a policy, as far as can be told without its key files, which may be on other machines.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn check_format(bytes: &[u8]) -> Result<(), PolicyError> {
        file::read_without_keys(bytes).map(|_| ())
    }

    /// Reads a policy and its keys; paths of keys that are not absolute begin in the policy's folder.
    ///
    /// # Errors
    /// [`PolicyError::File`].
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        let failed = |source| PolicyError::File { path: path.into(), source: Box::new(source) };
        let bytes = read_key_file(path).map_err(|e| failed(PolicyError::Read(e)))?;
        let base = path.parent().unwrap_or(Path::new(""));
        Self::parse(&bytes, base).map_err(failed)
    }

    /// Reads a policy and its keys; paths of keys that are not absolute begin in `base`.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(bytes: &[u8], base: &Path) -> Result<Self, PolicyError> {
        Ok(Self { document: file::read(bytes, base)?, clock_tolerance: DEFAULT_CLOCK_TOLERANCE })
    }

    /// Accepts OpenPGP signatures dated up to this many seconds in the future, as
    /// [`Trust::with_clock_tolerance`] does. Nobody knows when a cosign signature was made.
    #[must_use]
    pub fn with_clock_tolerance(self, seconds: u32) -> Self {
        Self { clock_tolerance: seconds, ..self }
    }

    /// The OpenPGP certificates of all its requirements.
    pub fn certificates(&self) -> Vec<&Certificates> {
        let certificates = |requirement| match requirement {
            &Requirement::SignedBy { keys: GpgKeys::Certificates { ref certificates, .. }, .. } => Some(certificates),
            _ => None,
        };
        self.all_requirements().filter_map(certificates).collect()
    }

    /// The sigstore keys of all its requirements, also of those that nothing meets because they need more than a key.
    pub fn sigstore_keys(&self) -> Vec<&SigstoreKey> {
        let keys = |requirement| match requirement {
            &Requirement::SigstoreSigned {
                keys: CosignKeys::Keys { ref keys, .. } | CosignKeys::Unsupported { ref keys, .. },
                ..
            } => keys.as_slice(),
            _ => &[],
        };
        self.all_requirements().flat_map(keys).collect()
    }

    fn all_requirements(&self) -> impl Iterator<Item = &Requirement> {
        let scopes = self.document.transports.values().flat_map(|scopes| scopes.values());
        scopes.flatten().chain(&self.document.default)
    }

    /// Judges an image, with keys as they are at a time.
    pub fn judge(&self, image: &PolicyImage<'_>, at: Timestamp) -> PolicyVerdict {
        self.judge_as_received(image, at, at)
    }

    /// Judges an image that this site received earlier, and noted when, with OpenPGP keys as [`Trust::as_received`] takes
    /// them: as they were then, but for what has been revoked by now. cosign keys have neither expiry nor revocation: one
    /// that is in the policy counts.
    pub fn judge_as_received(&self, image: &PolicyImage<'_>, received: Timestamp, now: Timestamp) -> PolicyVerdict {
        let named = match image.name {
            PolicyName::Docker(reference) => Some(Named::of(reference)),
            PolicyName::Other { .. } => None,
        };
        let (scope, requirements) = self.requirements(image.name, named.as_ref());
        let found = Found::of(image);
        let (digests, clock_tolerance) = (image.digests, self.clock_tolerance);
        let judging = Judging { named: named.as_ref(), digests, found: &found, received, now, clock_tolerance };
        let judged = |requirement| {
            let verdict = judging.judge(requirement);
            let reasons = verdict.reasons.iter().map(|reason| cut(reason, REASON)).collect();
            RequirementVerdict { reasons, ..verdict }
        };
        let requirements: Vec<_> = requirements.iter().map(judged).collect();
        // A list is never empty, but if it were it would accept nothing.
        let accepted = !requirements.is_empty() && requirements.iter().all(|requirement| requirement.accepted);
        PolicyVerdict { accepted, scope, requirements }
    }

    /// The requirements of the most specific scope, and its name.
    fn requirements(&self, name: PolicyName<'_>, named: Option<&Named>) -> (String, &[Requirement]) {
        let (transport, scopes) = match (name, named) {
            (PolicyName::Other { transport, scope }, _) => (transport, scope::other_scopes(scope)),
            (PolicyName::Docker(_), Some(named)) => ("docker", docker_scopes(named)),
            (PolicyName::Docker(reference), None) => ("docker", docker_scopes(&Named::of(reference))),
        };
        self.first(transport, scopes)
    }

    /// The requirements of the first of these scopes that the policy has; those for what has no scope otherwise.
    fn first(&self, transport: &str, mut scopes: Vec<String>) -> (String, &[Requirement]) {
        scopes.push(String::new());
        if let Some(known) = self.document.transports.get(transport) {
            for scope in scopes {
                if let Some(requirements) = known.get(&scope) {
                    let scope = if scope.is_empty() { WHOLE_TRANSPORT.into() } else { scope };
                    let name = manifest_schema::text::escape(&scope).to_string();
                    return (format!("{transport}: {name}"), requirements);
                }
            }
        }
        (DEFAULT.into(), &self.document.default)
    }
}

/// The signatures of an image, by kind. A file that is neither kind spoils the rest: containers/image reads on no further.
struct Found<'a> {
    simple: Vec<(usize, &'a [u8])>,
    sigstore: Vec<(String, std::borrow::Cow<'a, SigstoreSignature>)>,
    unreadable: Option<String>,
}

impl<'a> Found<'a> {
    fn of(image: &PolicyImage<'a>) -> Self {
        use std::borrow::Cow;
        let mut found = Self { simple: Vec::new(), sigstore: Vec::new(), unreadable: None };
        for (number, file) in (1..).zip(image.simple) {
            match SignatureFile::read(file) {
                Ok(SignatureFile::Simple(bytes)) => found.simple.push((number, bytes)),
                Ok(SignatureFile::Sigstore(Some(signature))) => {
                    found.sigstore.push((format!("signature {number}"), Cow::Owned(signature)));
                }
                // An attachment of another kind.
                Ok(SignatureFile::Sigstore(None)) => {}
                Err(reason) => {
                    let reason = format!("signature {number} is {reason}, for which no signature of the image counts");
                    found.unreadable.get_or_insert(reason);
                }
            }
        }
        let attached = (1..).zip(image.sigstore);
        found.sigstore.extend(attached.map(|(n, s)| (format!("cosign signature {n}"), Cow::Borrowed(s))));
        found
    }
}

struct Judging<'a> {
    named: Option<&'a Named>,
    digests: &'a [Digest],
    found: &'a Found<'a>,
    received: Timestamp,
    now: Timestamp,
    clock_tolerance: u32,
}

/// A signature that counts: who made it, and what it calls the image.
type Good = (String, OutsideText);

impl Judging<'_> {
    fn judge(&self, requirement: &Requirement) -> RequirementVerdict {
        let never = |requirement: &str, reason: &str| RequirementVerdict {
            requirement: requirement.into(),
            accepted: false,
            signer: None,
            identity: None,
            reasons: vec![reason.into()],
        };
        match requirement {
            Requirement::InsecureAcceptAnything => RequirementVerdict {
                requirement: "insecureAcceptAnything".into(),
                accepted: true,
                signer: None,
                identity: None,
                reasons: Vec::new(),
            },
            Requirement::Reject => never("reject", "the policy refuses every image here"),
            Requirement::SignedBaseLayer => {
                never("signedBaseLayer", "nothing meets this requirement, in containers/image neither")
            }
            Requirement::SignedBy { keys: GpgKeys::Unimplemented(kind), .. } => {
                never("signedBy", &format!("nothing meets keyType {kind}, in containers/image neither"))
            }
            Requirement::SignedBy { keys: GpgKeys::Unread, .. } => never("signedBy", UNREAD),
            Requirement::SigstoreSigned { keys: CosignKeys::Unread, .. } => never("sigstoreSigned", UNREAD),
            Requirement::SignedBy { keys: GpgKeys::Certificates { certificates, .. }, identity } => {
                let trust = Trust::new(certificates.clone(), 1, self.now)
                    .map(|trust| trust.as_received(self.received).with_clock_tolerance(self.clock_tolerance));
                let signatures = self.found.simple.iter().map(|(number, bytes)| {
                    let judged = match &trust {
                        Ok(trust) => self.simple(bytes, trust, identity),
                        Err(e) => Err(e.to_string()),
                    };
                    judged.map_err(|reason| format!("signature {number}: {reason}"))
                });
                self.any("signedBy", signatures, self.found.sigstore.len())
            }
            Requirement::SigstoreSigned { keys: CosignKeys::Unsupported { needs, .. }, .. } => {
                never("sigstoreSigned", &format!("it demands {needs}, which is not supported"))
            }
            Requirement::SigstoreSigned { keys: CosignKeys::Keys { keys, .. }, identity } => {
                let signatures = self.found.sigstore.iter().map(|(name, signature)| {
                    let judged = self.sigstore(signature, keys, identity);
                    judged.map_err(|reason| format!("{name}: {reason}"))
                });
                self.any("sigstoreSigned", signatures, self.found.simple.len())
            }
        }
    }

    /// One good signature is enough; `others` is how many there are of another kind.
    fn any(
        &self,
        requirement: &str,
        signatures: impl Iterator<Item = Result<Good, String>>,
        others: usize,
    ) -> RequirementVerdict {
        let mut verdict = RequirementVerdict {
            requirement: requirement.into(),
            accepted: false,
            signer: None,
            identity: None,
            reasons: Vec::new(),
        };
        if let Some(reason) = &self.found.unreadable {
            verdict.reasons.push(reason.clone());
            return verdict;
        }
        for signature in signatures {
            match signature {
                Ok((signer, identity)) => {
                    return RequirementVerdict {
                        accepted: true,
                        signer: Some(signer),
                        identity: Some(identity),
                        reasons: Vec::new(),
                        ..verdict
                    };
                }
                Err(reason) => verdict.reasons.push(reason),
            }
        }
        if verdict.reasons.is_empty() {
            verdict.reasons.push(match others {
                0 => "there is no signature".into(),
                n => format!("there is no signature of this kind ({n} of another)"),
            });
        }
        verdict
    }

    fn simple(&self, bytes: &[u8], trust: &Trust, identity: &SignedIdentity) -> Result<Good, String> {
        let signature = read_simple(bytes, trust).map_err(|e| e.to_string())?;
        let simple = signature.get();
        let signer = simple.signer.fingerprint.to_string();
        self.fits(&simple.digest, &simple.reference, identity).map_err(|reason| format!("by {signer}, {reason}"))?;
        Ok((signer, simple.reference.clone()))
    }

    fn sigstore(
        &self,
        signature: &SigstoreSignature,
        keys: &[SigstoreKey],
        identity: &SignedIdentity,
    ) -> Result<Good, String> {
        let payload = verify_sigstore(signature, keys).map_err(|e| e.to_string())?;
        self.fits(&payload.digest, &payload.reference, identity)
            .map_err(|reason| format!("by key {}, {reason}", payload.key))?;
        Ok((payload.key, payload.reference))
    }

    /// Whether what a good signature says is about this image.
    fn fits(&self, digest: &Digest, reference: &OutsideText, identity: &SignedIdentity) -> Result<(), String> {
        if !self.digests.contains(digest) {
            let known: Vec<_> = self.digests.iter().map(ToString::to_string).collect();
            return Err(format!("it is for {digest}, the image is {}", known.join(" or ")));
        }
        if !identity.accepts(self.named, reference.raw()) {
            let named = cut(&reference.escaped().to_string(), REFERENCE);
            return Err(format!("it is for `{named}`, {}", identity.wanted(self.named)));
        }
        Ok(())
    }
}

/// At most so many characters of a text.
fn cut(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.into(),
        Some(_) => text.chars().take(limit.saturating_sub(1)).chain(['…']).collect(),
    }
}

//! The only place where bytes become [`Authentic`].
//!
//! A signature counts if its key belongs to a configured certificate, the key is good *now* under the policy (alive, not
//! revoked, meant for signing, strong enough), and the signature is over these bytes, not weak, not expired and not from
//! the future. What the key was when it signed doesn't matter: an attacker chooses the date of a signature.
//!
//! What this site has received and judged once may be judged again as of then ([`Trust::as_received`]): that date is ours.
//! A ledger is read for longer than its keys last ([`Trust::as_signed`]). A revocation counts all the same, whenever it came.

use manifest_schema::{OutsideText, Timestamp};
use openpgp::Cert;
use openpgp::cert::amalgamation::key::{ErasedKeyAmalgamation, SubordinateKeyAmalgamation, ValidErasedKeyAmalgamation};
use openpgp::cert::amalgamation::{ValidAmalgamation, ValidateAmalgamation};
use openpgp::packet::Signature;
use openpgp::packet::key::PublicParts;
use openpgp::policy::{HashAlgoSecurity, Policy, StandardPolicy};
use openpgp::types::{RevocationStatus, SignatureType};
use sequoia_openpgp as openpgp;

use crate::error::outside;
use crate::packets::{self, Inline};
use crate::rejected::{Fault, Reason, Rejected};
use crate::{Certificates, Error, Fingerprint, time};

/// How far a signature may be dated in the future, in seconds, unless told otherwise: clocks on two sides of a gap differ.
pub const DEFAULT_CLOCK_TOLERANCE: u32 = 3600;

/// Certificates, how many of them must have signed, and the time to judge by.
#[derive(Debug, Clone)]
pub struct Trust {
    certificates: Certificates,
    threshold: usize,
    now: Timestamp,
    /// The time by which revocations count; later than `now` if something is judged as of when it was received.
    revocations_at: Timestamp,
    clock_tolerance: u32,
    /// Whether a key may have expired after it signed.
    as_signed: bool,
}

impl Trust {
    /// Trusts signatures of at least `threshold` distinct certificates, judged at `now`.
    ///
    /// # Errors
    /// [`Error::Threshold`] if the threshold is zero or more than there are certificates.
    pub fn new(certificates: Certificates, threshold: usize, now: Timestamp) -> Result<Self, Error> {
        if threshold == 0 || threshold > certificates.count() {
            return Err(Error::Threshold { threshold, certificates: certificates.count() });
        }
        let clock_tolerance = DEFAULT_CLOCK_TOLERANCE;
        Ok(Self { certificates, threshold, now, revocations_at: now, clock_tolerance, as_signed: false })
    }

    /// Accepts signatures dated up to this many seconds in the future.
    #[must_use]
    pub fn with_clock_tolerance(self, seconds: u32) -> Self {
        Self { clock_tolerance: seconds, ..self }
    }

    /// The same, with everything judged at another time, revocations too.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Self {
        Self { now, revocations_at: now, ..self.clone() }
    }

    /// The same for something that this site received earlier, and noted when.
    ///
    /// Expiry of keys and signatures, weakness and dates in the future are judged as of then. A key that has been revoked
    /// by now is refused, whatever the reason and date of the revocation, and certificates and threshold are those of now.
    /// A certificate of which nothing valid is left from then, because its owner has renewed it since, is judged as of now.
    ///
    /// The date must be this site's own record, never one that came with the signature.
    #[must_use]
    pub fn as_received(&self, received: Timestamp) -> Self {
        Self { now: received.min(self.now), ..self.clone() }
    }

    /// The same for what must stay good after its key has expired: whether a key was alive is judged as of the date of its
    /// signature. Everything else is judged as before.
    ///
    /// That date is the signer's word: who has the key of an expired certificate can still make signatures that count here. It
    /// is for records that are held to what is known of them otherwise, never for what lets something in.
    #[must_use]
    pub fn as_signed(&self) -> Self {
        Self { as_signed: true, ..self.clone() }
    }

    /// The certificates.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// How many distinct certificates must have signed.
    pub fn threshold(&self) -> usize {
        self.threshold
    }

    /// The time judged by: now, or when something was received.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// How far a signature may be dated in the future, in seconds.
    pub fn clock_tolerance(&self) -> u32 {
        self.clock_tolerance
    }

    /// Verifies detached signatures (RFC 9580 section 10.4), armored or binary, over exactly these bytes.
    ///
    /// # Errors
    /// [`Rejected`], with the reason of every signature that did not count.
    pub fn verify_detached(&self, document: Vec<u8>, signature: &[u8]) -> Result<Authentic<Vec<u8>>, Rejected> {
        let (signatures, mut faults) = packets::detached(signature)?;
        let mut signers = Vec::new();
        for signature in &signatures {
            // A text signature would also cover the document with other line ends.
            let judged = match signature.typ() {
                SignatureType::Binary => self.judge(signature, |key| signature.verify_message(key.key(), &document)),
                other => Err(fault(signature, Reason::Type(other.to_string()))),
            };
            match judged {
                Ok(signer) => signers.push(signer),
                Err(fault) => faults.push(fault),
            }
        }
        let signers = self.count(signers, faults)?;
        Ok(Authentic { value: document, signers })
    }

    /// Verifies a binary inline message with one signature (RFC 9580 section 10.3).
    pub(crate) fn verify_inline(&self, message: &[u8]) -> Result<Authentic<Vec<u8>>, Rejected> {
        let Inline { content, signature } = packets::inline(message)?;
        let signers = match signature {
            // The parser computed the digest; for a text signature, with the line ends it is made over.
            Ok(signature) => match self.judge(&signature, |key| signature.verify_document(key.key())) {
                Ok(signer) => self.count(vec![signer], Vec::new())?,
                Err(fault) => self.count(Vec::new(), vec![fault])?,
            },
            Err(fault) => self.count(Vec::new(), vec![fault])?,
        };
        Ok(Authentic { value: content, signers })
    }

    /// Counts distinct certificates.
    fn count(&self, found: Vec<Signer>, mut faults: Vec<Fault>) -> Result<Vec<Signer>, Rejected> {
        if found.is_empty() && faults.is_empty() {
            return Err(Rejected::NoSignature);
        }
        let mut signers: Vec<Signer> = Vec::new();
        for signer in found {
            if signers.iter().any(|known| known.fingerprint == signer.fingerprint) {
                let reason = Reason::Duplicate(signer.fingerprint.clone());
                faults.push(Fault { key: Some(signer.key.to_string()), reason });
            } else {
                signers.push(signer);
            }
        }
        if signers.len() < self.threshold {
            return Err(Rejected::BelowThreshold { required: self.threshold, found: signers.len(), faults });
        }
        Ok(signers)
    }

    /// Judges one signature; `check` verifies the cryptographic signature with a key.
    fn judge(
        &self,
        signature: &Signature,
        check: impl Fn(&ErasedKeyAmalgamation<'_, PublicParts>) -> openpgp::Result<()>,
    ) -> Result<Signer, Fault> {
        let issuers = signature.get_issuers();
        if issuers.is_empty() {
            return Err(fault(signature, Reason::NoIssuer));
        }
        let keys = self.certificates.iter().flat_map(|cert| cert.keys().key_handles(issuers.iter()));
        let mut reason = Reason::UnknownKey;
        for key in keys {
            match self.judge_with(signature, &key, &check) {
                Ok(signer) => return Ok(signer),
                Err(found) => reason = found,
            }
        }
        Err(fault(signature, reason))
    }

    fn judge_with(
        &self,
        signature: &Signature,
        key: &ErasedKeyAmalgamation<'_, PublicParts>,
        check: impl Fn(&ErasedKeyAmalgamation<'_, PublicParts>) -> openpgp::Result<()>,
    ) -> Result<Signer, Reason> {
        let policy = policy(self.now);
        policy.signature(signature, HashAlgoSecurity::CollisionResistance).map_err(|e| weak_or(&e, Reason::Bad))?;
        let signed_at = signature.signature_creation_time().and_then(time::from_system).ok_or(Reason::NoTime)?;
        if let Some(created) = time::from_system(key.key().creation_time()).filter(|created| signed_at < *created) {
            return Err(Reason::BeforeKey { signed_at, created });
        }
        check(key).map_err(|e| Reason::Bad(outside(&e)))?;
        if signed_at.unix() > self.now.unix() + i64::from(self.clock_tolerance) {
            return Err(Reason::Future { signed_at, now: self.now, tolerance: self.clock_tolerance });
        }
        // A signature from a clock that is slightly ahead may be by a key that was made on that clock.
        let at = self.now.max(signed_at);
        if let Some(on) = signature.signature_expiration_time().and_then(time::from_system).filter(|on| *on <= at) {
            return Err(Reason::SignatureExpired { on });
        }
        let revocations_at = self.revocations_at.max(at);
        let at = if self.as_signed { signed_at } else { at };
        not_revoked(key, revocations_at)?;
        // GnuPG puts the new binding of a renewed key in the place of the old one.
        let later = self::policy(revocations_at);
        let valid = match key.with_policy(&policy, time::to_system(at)).map_err(|e| weak_or(&e, Reason::Invalid)) {
            Err(Reason::Invalid(_)) if revocations_at > at => {
                key.with_policy(&later, time::to_system(revocations_at)).map_err(|e| weak_or(&e, Reason::Invalid))
            }
            valid => valid,
        }?;
        good(&valid)?;
        Ok(Signer {
            fingerprint: key.cert().fingerprint().into(),
            user_id: valid.valid_cert().primary_userid().ok().map(|u| user_id(u.userid().value())),
            signed_at,
            key: key.key().fingerprint().into(),
        })
    }
}

/// A value that trusted signatures vouch for.
///
/// Only [`Trust`] makes one:
///
/// ```compile_fail
/// let forged = signing::Authentic { value: b"anything".to_vec(), signers: Vec::new() };
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Authentic<T> {
    value: T,
    signers: Vec<Signer>,
}

impl<T> Authentic<T> {
    /// The value.
    pub fn get(&self) -> &T {
        &self.value
    }

    /// Who signed it: distinct certificates, at least as many as the threshold.
    pub fn signers(&self) -> &[Signer] {
        &self.signers
    }

    /// Makes a trusted value of trusted bytes; the signatures vouch for it as they do for the bytes.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn parse<U, E>(self, f: impl FnOnce(&T) -> Result<U, E>) -> Result<Authentic<U>, E> {
        Ok(Authentic { value: f(&self.value)?, signers: self.signers })
    }
}

/// Who made a signature that counts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Signer {
    /// The certificate: its primary key's fingerprint.
    pub fingerprint: Fingerprint,
    /// The certificate's primary user id, which its owner chose.
    pub user_id: Option<OutsideText>,
    /// When the signature says it was made.
    pub signed_at: Timestamp,
    /// The key that signed: the primary key or a subkey.
    pub key: Fingerprint,
}

/// What can be said of a certificate at a time.
pub(crate) struct Standing {
    pub user_id: Option<OutsideText>,
    pub expires: Option<Timestamp>,
    pub refused: Option<Reason>,
}

/// Whether a certificate has a key that may sign at a time; otherwise why not.
pub(crate) fn standing(cert: &Cert, at: Timestamp) -> Standing {
    let policy = policy(at);
    let valid = match cert.with_policy(&policy, time::to_system(at)) {
        Ok(valid) => valid,
        Err(e) => {
            return Standing { user_id: None, expires: None, refused: Some(weak_or(&e, Reason::Invalid)) };
        }
    };
    let mut refused = Some(Reason::NotForSigning);
    for key in valid.keys() {
        match good(&key) {
            Ok(()) => {
                refused = None;
                break;
            }
            Err(Reason::NotForSigning) => {}
            Err(reason) => refused = Some(reason),
        }
    }
    Standing {
        user_id: valid.primary_userid().ok().map(|u| user_id(u.userid().value())),
        expires: valid.primary_key().key_expiration_time().and_then(time::from_system),
        refused,
    }
}

/// Whether a key and its certificate are not revoked, not expired and meant for signing, at the time they were asked for.
pub(crate) fn good(key: &ValidErasedKeyAmalgamation<'_, PublicParts>) -> Result<(), Reason> {
    alive(key)?;
    if !key.for_signing() {
        return Err(Reason::NotForSigning);
    }
    Ok(())
}

/// The same for certifying other keys.
pub(crate) fn may_certify(key: &ValidErasedKeyAmalgamation<'_, PublicParts>) -> Result<(), Reason> {
    alive(key)?;
    if !key.for_certification() {
        return Err(Reason::NotForCertification);
    }
    Ok(())
}

/// Whether a key and its certificate are neither revoked nor expired, at the time they were asked for.
pub(crate) fn alive(key: &ValidErasedKeyAmalgamation<'_, PublicParts>) -> Result<(), Reason> {
    let cert = key.valid_cert();
    unrevoked(&cert.revocation_status())?;
    unrevoked(&key.revocation_status())?;
    if cert.alive().is_err() {
        return Err(Reason::Expired { on: cert.primary_key().key_expiration_time().and_then(time::from_system) });
    }
    if key.alive().is_err() {
        return Err(Reason::Expired { on: key.key_expiration_time().and_then(time::from_system) });
    }
    Ok(())
}

/// Whether neither a key nor its certificate is revoked at a time, whatever else is wrong with them.
pub(crate) fn not_revoked(key: &ErasedKeyAmalgamation<'_, PublicParts>, at: Timestamp) -> Result<(), Reason> {
    let (policy, at) = (policy(at), time::to_system(at));
    unrevoked(&key.cert().revocation_status(&policy, at))?;
    match SubordinateKeyAmalgamation::<PublicParts>::try_from(key.clone()) {
        Ok(subkey) => unrevoked(&subkey.revocation_status(&policy, at)),
        Err(_) => Ok(()),
    }
}

fn unrevoked(status: &RevocationStatus<'_>) -> Result<(), Reason> {
    match status {
        // A revocation by another, designated key can't be checked here; whoever put it there meant it.
        RevocationStatus::Revoked(signatures) | RevocationStatus::CouldBe(signatures) => Err(revoked(signatures)),
        RevocationStatus::NotAsFarAsWeKnow => Ok(()),
    }
}

fn revoked(signatures: &[&Signature]) -> Reason {
    let first = signatures.first();
    let reason = first.and_then(|s| s.reason_for_revocation()).map_or_else(
        || "no reason given".to_string(),
        |(code, text)| match String::from_utf8_lossy(text) {
            text if text.is_empty() => code.to_string(),
            text => format!("{code}: {text}"),
        },
    );
    let on = first.and_then(|s| s.signature_creation_time()).and_then(time::from_system);
    Reason::Revoked { reason: OutsideText::new(reason), on }
}

/// Sequoia's policy: which algorithms are too weak at a time.
pub(crate) fn policy(at: Timestamp) -> StandardPolicy<'static> {
    StandardPolicy::at(time::to_system(at))
}

/// Weakness, if that is what the policy says, or another reason.
pub(crate) fn weak_or(error: &openpgp::anyhow::Error, other: fn(OutsideText) -> Reason) -> Reason {
    let weak = |cause: &(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(openpgp::Error::PolicyViolation(..)))
    };
    match error.chain().find(|cause| weak(*cause)) {
        Some(cause) => Reason::Weak(OutsideText::new(cause.to_string())),
        None => other(outside(error)),
    }
}

fn user_id(bytes: &[u8]) -> OutsideText {
    OutsideText::new(String::from_utf8_lossy(bytes).into_owned())
}

fn fault(signature: &Signature, reason: Reason) -> Fault {
    Fault { key: packets::issuer(signature), reason }
}

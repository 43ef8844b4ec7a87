//! One key vouches for another: certifications of user ids (RFC 9580 section 5.2.1.5) by keys that are known already.
//!
//! This is read years later, by whoever has the older key only. So a certification outlives the expiry of the key that made
//! it, if that was alive when it did; nothing outlives a revocation.

use manifest_schema::Timestamp;
use openpgp::Cert;
use openpgp::cert::amalgamation::key::ErasedKeyAmalgamation;
use openpgp::cert::amalgamation::{UserIDAmalgamation, ValidateAmalgamation};
use openpgp::packet::Signature;
use openpgp::packet::key::PublicParts;
use openpgp::policy::{HashAlgoSecurity, Policy};
use openpgp::types::{RevocationStatus, SignatureType};
use sequoia_openpgp as openpgp;

use crate::error::outside;
use crate::trust::{self, policy, weak_or};
use crate::{Certificates, DEFAULT_CLOCK_TOLERANCE, Fault, Fingerprint, Reason, time};

/// Why no certification of a certificate counts.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CertificationError {
    /// The certificate is not among those that were given.
    #[error("certificate {fingerprint} is not there")]
    NoCertificate {
        /// Which.
        fingerprint: Fingerprint,
    },
    /// The certificate has been revoked by its owner.
    #[error("certificate {fingerprint}: {reason}")]
    Revoked {
        /// Which.
        fingerprint: Fingerprint,
        /// When and why.
        reason: Reason,
    },
    /// None of the issuers vouches for it.
    #[error("certificate {fingerprint}: expected a certification by {}, found {}", any_of(issuers), listed(faults))]
    NotCertified {
        /// Which.
        fingerprint: Fingerprint,
        /// Who could have certified it.
        issuers: Vec<Fingerprint>,
        /// Why the certifications in their names do not count.
        faults: Vec<Fault>,
    },
}

fn any_of(issuers: &[Fingerprint]) -> String {
    issuers.iter().map(Fingerprint::as_str).collect::<Vec<_>>().join(" or ")
}

fn listed(faults: &[Fault]) -> String {
    if faults.is_empty() {
        return "none".into();
    }
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")
}

/// Faults that are reported; the certificate's file says how many certifications there are.
const FAULTS: usize = 16;

impl Certificates {
    /// Whether one of the issuers has certified the certificate with this fingerprint; gives the issuer's fingerprint.
    ///
    /// The certification is by the issuer's primary key, over one of the user ids, and has neither expired nor been revoked
    /// by the issuer. The issuer was alive when it certified, or is now, and has not been revoked; neither has the
    /// certificate.
    ///
    /// # Errors
    /// [`CertificationError`].
    pub fn certified_by(
        &self,
        fingerprint: &Fingerprint,
        issuers: &Certificates,
        now: Timestamp,
    ) -> Result<Fingerprint, CertificationError> {
        let fingerprint = fingerprint.clone();
        let Some(cert) = self.get(&fingerprint) else { return Err(CertificationError::NoCertificate { fingerprint }) };
        if let Err(reason) = trust::not_revoked(&cert.primary_key().into(), now) {
            return Err(CertificationError::Revoked { fingerprint, reason });
        }
        let mut faults = Vec::new();
        for issuer in issuers.iter() {
            let by = Fingerprint::from(issuer.fingerprint());
            for user in cert.userids() {
                let handle = issuer.key_handle();
                let named = user.certifications().filter(|s| s.get_issuers().iter().any(|i| i.aliases(&handle)));
                for certification in named {
                    match judge(certification, &user, issuer, now) {
                        Ok(()) => return Ok(by),
                        Err(reason) => faults.push(Fault { key: Some(by.to_string()), reason }),
                    }
                }
            }
        }
        faults.truncate(FAULTS);
        Err(CertificationError::NotCertified { fingerprint, issuers: issuers.fingerprints(), faults })
    }
}

fn judge(
    certification: &Signature,
    user: &UserIDAmalgamation<'_>,
    issuer: &Cert,
    now: Timestamp,
) -> Result<(), Reason> {
    match certification.typ() {
        SignatureType::GenericCertification
        | SignatureType::CasualCertification
        | SignatureType::PositiveCertification => {}
        // GnuPG doesn't count these either (`--min-cert-level`).
        SignatureType::PersonaCertification => return Err(Reason::Unchecked),
        other => return Err(Reason::Type(other.to_string())),
    }
    let policy = policy(now);
    policy.signature(certification, HashAlgoSecurity::CollisionResistance).map_err(|e| weak_or(&e, Reason::Bad))?;
    let signed_at = certification.signature_creation_time().and_then(time::from_system).ok_or(Reason::NoTime)?;
    let key = issuer.primary_key();
    let certified = user.cert().primary_key().key();
    for created in [key.key().creation_time(), certified.creation_time()] {
        if let Some(created) = time::from_system(created).filter(|created| signed_at < *created) {
            return Err(Reason::BeforeKey { signed_at, created });
        }
    }
    let by = key.key();
    certification.verify_userid_binding(by, certified, user.userid()).map_err(|e| Reason::Bad(outside(&e)))?;
    if signed_at.unix() > now.unix() + i64::from(DEFAULT_CLOCK_TOLERANCE) {
        return Err(Reason::Future { signed_at, now, tolerance: DEFAULT_CLOCK_TOLERANCE });
    }
    let at = now.max(signed_at);
    if let Some(on) = certification.signature_expiration_time().and_then(time::from_system).filter(|on| *on <= at) {
        return Err(Reason::SignatureExpired { on });
    }
    // A later certification by the same key counts again.
    let withdrawn = user.other_revocations().find(|revocation| {
        let date = revocation.signature_creation_time().and_then(time::from_system);
        date.is_none_or(|date| date >= signed_at)
            && revocation.verify_userid_revocation(by, certified, user.userid()).is_ok()
    });
    if let Some(revocation) = withdrawn {
        let on = revocation.signature_creation_time().and_then(time::from_system);
        return Err(Reason::CertificationRevoked { on });
    }
    // A revocation by somebody else only takes back their certification.
    let revoked = matches!(user.revocation_status(&policy, time::to_system(at)), RevocationStatus::Revoked(_));
    if revoked || user.self_signatures().next().is_none() {
        return Err(Reason::UserId);
    }
    could_certify(&key.into(), signed_at, at)
}

/// Whether a primary key that has not been revoked by now could certify then. GnuPG puts the new binding of a renewed key in
/// the place of the old one; then what it is now counts.
fn could_certify(
    key: &ErasedKeyAmalgamation<'_, PublicParts>,
    signed_at: Timestamp,
    now: Timestamp,
) -> Result<(), Reason> {
    trust::not_revoked(key, now)?;
    let policy = policy(now);
    let good = |at: Timestamp| {
        let valid = key.with_policy(&policy, time::to_system(at)).map_err(|e| weak_or(&e, Reason::Invalid))?;
        trust::may_certify(&valid)
    };
    good(signed_at).or_else(|reason| good(now).map_err(|_| reason))
}

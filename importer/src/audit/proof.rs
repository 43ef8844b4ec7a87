//! Checking a proof, with nothing but a certificate.
//!
//! 1. the file is a proof, read strictly
//! 2. its head is signed by the key that it names
//! 3. that key is one that the auditor knows, or the certificate that he has certifies it
//! 4. every entry is in the tree of that head, under its number, and of that ledger
//! 5. the image asked for is in one of them
//!
//! A proof can leave entries out, and it ends with its head: that there is no entry which says something is not proven.

use std::path::Path;

use ledger::{About, Act, Entry, EntryNumber, Included, LedgerId, Proof, Recorded, RecordedImage, Subject};
use manifest_schema::document::Platform;
use manifest_schema::{Digest, LIMITS, LabelValue, OutsideText, TagRef, Timestamp};
use serde::Serialize;
use signing::{Certificates, Fingerprint};

use super::signed::{LedgerKeys, SignedHead};
use super::{AuditError, read};
use crate::error::Error;

/// What a proof proves.
///
/// Only [`check`] makes one:
///
/// ```compile_fail
/// use importer::audit::{proof::Proven, signed::SignedHead};
/// fn forged(head: SignedHead, proven: Proven) -> Proven {
///     Proven { head, ..proven }
/// }
/// ```
#[must_use]
pub struct Proven {
    head: SignedHead,
    vouched: KeyVouched,
    about: About,
    entries: Vec<Included>,
}

/// Why the ledger key is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyVouched {
    /// Its certificate was given.
    Given,
    /// A certificate that was given certifies it.
    CertifiedBy(Fingerprint),
    /// It follows an earlier key that is believed, by changes that both keys signed.
    After(Fingerprint),
}

impl KeyVouched {
    /// In words.
    pub fn text(&self) -> String {
        match self {
            Self::Given => "the key is one that was given".into(),
            Self::CertifiedBy(issuer) => format!("the key is certified by {issuer}"),
            Self::After(earlier) => format!("the key follows {earlier}, by changes that both keys signed"),
        }
    }
}

/// Whether a key is one of those that are trusted, or certified by one of them.
///
/// # Errors
/// [`AuditError::UnknownKey`].
pub fn vouched_for(
    key: &Fingerprint,
    certificates: &Certificates,
    trusted: &Certificates,
    now: Timestamp,
) -> Result<KeyVouched, AuditError> {
    if trusted.fingerprints().contains(key) {
        return Ok(KeyVouched::Given);
    }
    let certified = certificates.certified_by(key, trusted, now).map(KeyVouched::CertifiedBy);
    certified.map_err(|source| AuditError::UnknownKey { key: key.clone(), source })
}

/// Checks a proof; `expected` is the ledger that it must be of, if that is known.
///
/// # Errors
/// [`AuditError`] says what it fails to prove.
pub fn check(
    path: &Path,
    trusted: &Certificates,
    expected: Option<&LedgerId>,
    now: Timestamp,
) -> Result<Proven, Error> {
    let wrong = |source| AuditError::Proof { path: path.into(), source };
    let no_head = |reason| AuditError::NoHead { path: path.into(), reason };
    let proof = Proof::parse(&read(path, LIMITS.proof)?).map_err(wrong)?;
    let certificates = Certificates::from_bytes(proof.certificate.raw().as_bytes(), path)
        .map_err(|e| no_head(OutsideText::new(console::chain(&e))))?;
    // A certificate that the auditor has says more than the one that came with the proof: that it was revoked, for example.
    let mut judged = Vec::new();
    for fingerprint in certificates.fingerprints() {
        let known = if trusted.fingerprints().contains(&fingerprint) { trusted } else { &certificates };
        judged.extend(known.armored(&fingerprint)?);
    }
    let keys = LedgerKeys::all(Certificates::from_bytes(&judged, path)?);
    let head = keys.judge(proof.head.raw().as_bytes(), now).map_err(no_head)?;
    let vouched = vouched_for(head.key(), &certificates, trusted, now)?;
    let found = head.head().ledger;
    if let Some(expected) = expected.filter(|expected| **expected != found) {
        return Err(AuditError::OtherLedger { path: path.into(), expected: *expected, found }.into());
    }
    let entries = proof.included(head.head()).map_err(wrong)?;
    if let About::Entry(number) = proof.about
        && !entries.iter().any(|included| included.entry().number == number)
    {
        return Err(AuditError::OtherEntry { path: path.into(), number }.into());
    }
    let proven = Proven { head, vouched, about: proof.about, entries };
    if let About::Digest(digest) = proof.about {
        proven.has(path, &digest)?;
    }
    Ok(proven)
}

impl Proven {
    /// The head that the proof goes up to.
    pub fn head(&self) -> &SignedHead {
        &self.head
    }

    /// Why its key is believed.
    pub fn vouched(&self) -> &KeyVouched {
        &self.vouched
    }

    /// What the proof was made for, and has.
    pub fn about(&self) -> About {
        self.about
    }

    /// The entries, in their order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map(Included::entry)
    }

    /// That there is something about an image.
    ///
    /// # Errors
    /// [`AuditError::OtherImage`].
    pub fn has(&self, path: &Path, digest: &Digest) -> Result<(), AuditError> {
        if self.images(digest).is_empty() {
            return Err(AuditError::OtherImage { path: path.into(), digest: Box::new(*digest) });
        }
        Ok(())
    }

    /// The times at which an image was put into production, by the digest of an index or image manifest, newest first.
    pub fn images(&self, digest: &Digest) -> Vec<ProvenImage<'_>> {
        let mut found = Vec::new();
        for entry in self.entries() {
            let (Act::Promoted(recorded) | Act::Recorded(recorded)) = &entry.act else { continue };
            let platform = |image: &RecordedImage| image.platforms.iter().any(|p| p.digest == *digest);
            let images = recorded.images.iter().filter(|image| image.digest == *digest || platform(image));
            found.extend(images.map(|image| self.image(entry, recorded, image, digest)));
        }
        found.reverse();
        found
    }

    fn image<'a>(
        &'a self,
        entry: &'a Entry,
        recorded: &'a Recorded,
        image: &'a RecordedImage,
        digest: &Digest,
    ) -> ProvenImage<'a> {
        let subject = &recorded.subject;
        let at = |entry: &Entry| Happened { entry: entry.number, time: entry.time, by: entry.by.clone() };
        let of_bundle = || self.entries().filter(|e| e.act.subject() == Some(subject) && e.number < entry.number);
        let first = |wanted: fn(&Act) -> bool| of_bundle().find(|e| wanted(&e.act)).map(at);
        let approvals = of_bundle().filter_map(|e| match &e.act {
            Act::Approved(approved) => Some(ProvenApproval {
                approved: at(e),
                approver: &approved.approver,
                statement: &approved.statement,
                not_after: approved.not_after,
                counted: recorded.approvals.contains(&approved.statement),
                withdrawn: self.entries().find_map(|e| match &e.act {
                    Act::ApprovalWithdrawn(withdrawn) if withdrawn.approval == approved.statement => Some(at(e)),
                    _ => None,
                }),
            }),
            _ => None,
        });
        let overrides = of_bundle().filter_map(|e| match &e.act {
            Act::Overridden(overridden) => {
                Some(ProvenOverride { overridden: at(e), rules: &overridden.rules, reason: &overridden.reason })
            }
            _ => None,
        });
        let withdrawals = self.entries().filter(|e| e.number > entry.number).flat_map(|e| match &e.act {
            Act::Withdrawn(withdrawn) => {
                let named = withdrawn.images.iter().filter(|i| i.digest == *digest || i.digest == image.digest);
                named.map(|i| (at(e), &i.reference, &withdrawn.reason)).collect::<Vec<_>>()
            }
            _ => Vec::new(),
        });
        ProvenImage {
            recorded: at(entry),
            subject,
            image,
            platform: image.platforms.iter().find(|p| p.digest == *digest).and_then(|p| p.platform.as_ref()),
            tag: &image.production,
            previous: recorded.tags.iter().find(|t| t.tag == image.production).and_then(|t| t.previous.as_ref()),
            signers: &recorded.signers,
            promoter: recorded.promoter.as_ref().map(|by| &by.promoter),
            begun: first(|act| matches!(act, Act::Begun(_))),
            received: first(|act| matches!(act, Act::Received(_))),
            signing: first(|act| matches!(act, Act::Signing(_))),
            approvals: approvals.collect(),
            counted: &recorded.approvals,
            overrides: overrides.collect(),
            withdrawals: withdrawals
                .map(|(withdrawn, reference, reason)| ProvenWithdrawal { withdrawn, reference, reason })
                .collect(),
        }
    }
}

/// When something happened, and who ran it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Happened {
    /// The entry.
    pub entry: EntryNumber,
    /// Its time.
    pub time: Timestamp,
    /// Who ran it, as the operating system said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<LabelValue>,
}

/// An image that was put into production.
#[derive(Debug, Serialize)]
pub struct ProvenImage<'a> {
    /// When.
    pub recorded: Happened,
    /// The bundle that brought it.
    pub subject: &'a Subject,
    /// The image.
    pub image: &'a RecordedImage,
    /// The platform of the digest that was asked for, if it is an image manifest whose platform the index names.
    pub platform: Option<&'a Platform>,
    /// The tag that it was put under.
    #[serde(skip)]
    pub tag: &'a TagRef,
    /// What that tag named before.
    pub previous: Option<&'a Digest>,
    /// The certificates that released it.
    pub signers: &'a [ledger::Fingerprint],
    /// The certificate of who promoted it, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promoter: Option<&'a ledger::Fingerprint>,
    /// When the bundle was admitted.
    pub begun: Option<Happened>,
    /// When its images were there to be promoted.
    pub received: Option<Happened>,
    /// When its signatures were announced.
    pub signing: Option<Happened>,
    /// Who approved it before.
    pub approvals: Vec<ProvenApproval<'a>>,
    /// The approvals that counted: the digests of their statements.
    pub counted: &'a [Digest],
    /// Rules that somebody let it pass.
    pub overrides: Vec<ProvenOverride<'a>>,
    /// When it lost its signatures.
    pub withdrawals: Vec<ProvenWithdrawal<'a>>,
}

/// An approval.
#[derive(Debug, Serialize)]
pub struct ProvenApproval<'a> {
    /// When it was taken in.
    pub approved: Happened,
    /// The approver's certificate.
    pub approver: &'a ledger::Fingerprint,
    /// The digest of the statement.
    pub statement: &'a Digest,
    /// Until when it counts.
    pub not_after: Timestamp,
    /// Whether the promotion rested on it.
    pub counted: bool,
    /// When it was taken back.
    pub withdrawn: Option<Happened>,
}

/// Rules that somebody let a bundle pass.
#[derive(Debug, Serialize)]
pub struct ProvenOverride<'a> {
    /// When.
    pub overridden: Happened,
    /// The rules.
    pub rules: &'a [ledger::Rule],
    /// Why.
    pub reason: &'a OutsideText,
}

/// A withdrawal.
#[derive(Debug, Serialize)]
pub struct ProvenWithdrawal<'a> {
    /// When.
    pub withdrawn: Happened,
    /// The production reference that lost its signature.
    pub reference: &'a manifest_schema::Reference,
    /// Why.
    pub reason: &'a OutsideText,
}

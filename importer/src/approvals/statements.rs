//! Making and reading statements: approvals, withdrawals, and who promotes.

use std::path::PathBuf;

use clap::Args;
use commands::settings::KeySource;
use ledger::{Ledger, PromotedBy, ReceivedImage, Subject};
use manifest_schema::approval::{ApprovalType, PromotionType, RequestType, WithdrawalType};
use manifest_schema::{
    Action, Approval, ApprovalId, ApprovalRequest, ApprovalWithdrawal, ApprovedImage, BundleId, Digest, LIMITS,
    LabelValue, LedgerId, OneLine, OutsideText, Promotion, RequestedImage, TagRef, Timestamp,
};
use signing::{Fingerprint, SecretKey, Signer, Trust};

use crate::access::{stamp, to_ledger};
use crate::approvals::judge::{authentic, one_signer};
use crate::approvals::{Approvers, NotCounted};
use crate::error::Error;
use crate::site::Site;

/// A statement that was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// The digest of its document.
    pub statement: Digest,
    /// The document with its signature.
    pub file: String,
}

/// What is to be approved of a bundle that waits.
pub fn request(ledger: LedgerId, subject: &Subject, images: &[ReceivedImage]) -> ApprovalRequest {
    let image = |ReceivedImage { image, .. }: &ReceivedImage| RequestedImage {
        production: image.production.clone(),
        digest: image.digest,
        origin: image.origin.clone(),
    };
    ApprovalRequest {
        kind: RequestType::V1,
        action: Action::Promote,
        ledger,
        bundle: subject.bundle,
        stream: subject.stream.clone(),
        sequence: subject.sequence,
        manifest: subject.manifest,
        images: images.iter().map(image).collect(),
    }
}

/// Approves what a request asks for.
///
/// # Errors
/// If the approval would have ended when it is made, or the key fails.
pub fn make_approval(
    key: &SecretKey,
    request: &ApprovalRequest,
    made: Timestamp,
    not_after: Timestamp,
    note: Option<LabelValue>,
) -> Result<Made, Error> {
    let approval = Approval {
        kind: ApprovalType::V1,
        id: ApprovalId::generate(),
        action: request.action,
        ledger: request.ledger,
        bundle: request.bundle,
        stream: request.stream.clone(),
        sequence: request.sequence,
        manifest: request.manifest,
        images: request.approved(),
        made,
        not_after,
        note,
        tool: stamp()?.tool,
    };
    sign(key, &approval, made)
}

/// Takes an approval back.
///
/// # Errors
/// If the key fails.
pub fn make_withdrawal(
    key: &SecretKey,
    (ledger, bundle): (LedgerId, BundleId),
    approval: Digest,
    made: Timestamp,
    reason: Option<LabelValue>,
) -> Result<Made, Error> {
    sign(key, &ApprovalWithdrawal { kind: WithdrawalType::V1, ledger, bundle, approval, made, reason }, made)
}

fn sign(key: &SecretKey, document: &impl OneLine, now: Timestamp) -> Result<Made, Error> {
    let document = document.to_bytes()?;
    let file = key.sign_statement(&document, now)?;
    Ok(Made { statement: blobs::sha256(&document), file: String::from_utf8_lossy(&file).into_owned() })
}

/// An approval that this very key has signed, and the digest of its document.
///
/// # Errors
/// [`NotCounted`]: another key has signed it, or it is no approval.
pub fn own_approval(file: &[u8], key: &SecretKey, now: Timestamp) -> Result<(Digest, Approval), Error> {
    let trust = Trust::new(key.certificates(), 1, now)?;
    let read = || -> Result<_, NotCounted> {
        let (statement, _, document) = one_signer(trust.verify_statement(file, LIMITS.approval)?)?;
        Ok((statement, Approval::parse(&document)?))
    };
    read().map_err(|source| Error::NotOwnApproval { key: key.fingerprint(), source })
}

/// A statement that an approver has signed.
#[derive(Debug, Clone)]
pub enum Statement {
    /// An approval. Whether it counts is still to be judged.
    Approval(Approval),
    /// A withdrawal, and who made it.
    Withdrawal(ApprovalWithdrawal, Signer),
}

/// Reads a statement that was made elsewhere.
///
/// # Errors
/// [`NotCounted`] if no approver has signed it, or it is neither an approval nor a withdrawal.
pub fn read_statement(approvers: &Approvers, file: &[u8]) -> Result<Statement, NotCounted> {
    let (_, signer, document) = authentic(approvers, file)?;
    if document.starts_with(br#"{"type":"sealift/approval-withdrawal/"#) {
        return Ok(Statement::Withdrawal(ApprovalWithdrawal::parse(&document)?, signer));
    }
    Ok(Statement::Approval(Approval::parse(&document)?))
}

/// The key of whoever promotes.
#[derive(Debug, Clone, Default, Args)]
pub struct PromoterArgs {
    /// Your own OpenPGP secret key file, to state who promotes
    #[arg(
        long,
        value_name = "FILE",
        env = "SEALIFT_PROMOTER_KEY",
        conflicts_with = "promoter_by",
        help_heading = "Approvals"
    )]
    pub promoter_key: Option<PathBuf>,
    /// State who promotes through gpg-agent, with the key of this fingerprint
    #[arg(long, value_name = "FINGERPRINT", env = "SEALIFT_PROMOTER_BY", help_heading = "Approvals")]
    pub promoter_by: Option<Fingerprint>,
    /// A file whose first line is that key's passphrase [also: SEALIFT_PROMOTER_PASSPHRASE]
    #[arg(long, value_name = "FILE", env = "SEALIFT_PROMOTER_PASSPHRASE_FILE", help_heading = "Approvals")]
    pub promoter_passphrase_file: Option<PathBuf>,
}

/// Whoever promotes, as a signature shows.
#[derive(Debug, Clone)]
#[must_use]
pub struct Promoter {
    fingerprint: Fingerprint,
    file: OutsideText,
}

impl Promoter {
    /// The certificate.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// For the ledger.
    pub fn into_entry(self) -> PromotedBy {
        PromotedBy { promoter: to_ledger(&self.fingerprint), file: self.file }
    }
}

/// The key of whoever promotes, which is an approver's or a promoter's.
pub struct PromoterKey<'s> {
    key: SecretKey,
    known: Vec<&'s Trust>,
}

impl<'s> PromoterKey<'s> {
    /// Unlocks it, where approvers are configured and it is named.
    ///
    /// # Errors
    /// [`Error::Missing`] if it has to be known who promotes and no key is named; [`Error::UnknownPromoter`] if the key's
    /// certificate is neither an approver's nor a promoter's; or if the key fails.
    pub fn unlock(site: &'s Site, args: &PromoterArgs) -> Result<Option<Self>, Error> {
        let PromoterArgs { promoter_key, promoter_by, promoter_passphrase_file } = args.clone();
        let given = (promoter_key, promoter_by);
        let source = KeySource::of_role(given, None, promoter_passphrase_file, "SEALIFT_PROMOTER_PASSPHRASE")?;
        let (source, approvers) = match (source, site.approvers()) {
            (None, Some(approvers)) if approvers.exclude_promoter => {
                return Err(Error::Missing("the key of whoever promotes"));
            }
            (None, _) => return Ok(None),
            (Some(_), None) => return Err(Error::Missing("a list of approvers")),
            (Some(source), Some(approvers)) => (source, approvers),
        };
        let key = source.unlock(site.now)?;
        // By the certificates that are configured: that of the key itself may be older, and lack a revocation.
        let lists = [Some(&approvers.trust), approvers.promoters.as_ref()].into_iter().flatten();
        let known: Vec<_> = lists.filter(|t| t.certificates().fingerprints().contains(&key.fingerprint())).collect();
        if known.is_empty() {
            return Err(Error::UnknownPromoter { key: key.fingerprint() });
        }
        Ok(Some(Self { key, known }))
    }

    /// Has whoever promotes state that he does.
    ///
    /// # Errors
    /// [`Error::PromoterRejected`] if the key is not good now; or if it fails.
    pub fn states(self, ledger: &Ledger, subject: &Subject, wanted: &[(TagRef, Digest)]) -> Result<Promoter, Error> {
        let image =
            |(production, digest): &(TagRef, Digest)| ApprovedImage { production: production.clone(), digest: *digest };
        let promotion = Promotion {
            kind: PromotionType::V1,
            ledger: *ledger.id(),
            bundle: subject.bundle,
            manifest: subject.manifest,
            images: ApprovedImage::once(wanted.iter().map(image)),
            made: Timestamp::now(),
        };
        let Made { file, .. } = sign(&self.key, &promotion, promotion.made)?;
        for trust in self.known {
            let verified = trust.at(Timestamp::now()).verify_statement(file.as_bytes(), LIMITS.approval);
            let _ = verified.map_err(|source| Error::PromoterRejected { source: Box::new(source) })?;
        }
        Ok(Promoter { fingerprint: self.key.fingerprint(), file: OutsideText::whole(file) })
    }
}

//! Whether one statement counts as an approval.

use std::collections::HashMap;

use ledger::{EntryNumber, Ledger, Subject};
use manifest_schema::{
    Action, Approval, ApprovalError, BundleId, Digest, LIMITS, LedgerId, OneLine, Span, TagRef, Timestamp,
};
use signing::{Authentic, Rejected, Signer};

use crate::access::to_ledger;
use crate::approvals::Approvers;
use crate::error::Error;

/// What an approval must be of.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// This site's ledger.
    pub ledger: LedgerId,
    /// The bundle.
    pub subject: &'a Subject,
    /// Every image that is to be signed, under its production reference.
    pub images: &'a [(TagRef, Digest)],
}

/// An approval that counts, as far as it alone is concerned.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The digest of its document.
    pub statement: Digest,
    /// Who made it.
    pub approver: Signer,
    /// What it says.
    pub approval: Approval,
}

/// Why a statement does not count.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotCounted {
    /// Its signature does not count.
    #[error("its signature does not count")]
    Signature(#[from] Rejected),
    /// More than one person signed it.
    #[error("{found} certificates have signed it; a statement is of one")]
    Signers {
        /// How many.
        found: usize,
    },
    /// Its approver took it back.
    #[error("it was withdrawn, in ledger entry {entry}")]
    Withdrawn {
        /// The ledger's entry.
        entry: EntryNumber,
    },
    /// It is no approval.
    #[error(transparent)]
    Document(#[from] ApprovalError),
    /// It is for another site.
    #[error("it is for ledger {found}, expected {expected}")]
    Ledger {
        /// This site's.
        expected: LedgerId,
        /// The one it names.
        found: LedgerId,
    },
    /// It is of another bundle.
    #[error("it is of bundle {found}, expected {expected}")]
    Bundle {
        /// The one that is to be promoted.
        expected: BundleId,
        /// The one it names.
        found: BundleId,
    },
    /// It is of another number.
    #[error("it is of {found}, expected {expected}")]
    Name {
        /// The name of the bundle that is to be promoted.
        expected: String,
        /// The one it names.
        found: String,
    },
    /// It is of another manifest.
    #[error("it is of manifest {found}, expected {expected}")]
    Manifest {
        /// The one that is to be promoted.
        expected: Digest,
        /// The one it names.
        found: Digest,
    },
    /// It leaves an image out.
    #[error("it does not list {production}")]
    NotListed {
        /// The image.
        production: TagRef,
    },
    /// It lists another image under a reference.
    #[error("it lists {production} with {found}, expected {expected}")]
    Image {
        /// The reference.
        production: TagRef,
        /// The digest that is to be promoted.
        expected: Digest,
        /// The one it lists.
        found: Digest,
    },
    /// It has ended.
    #[error("it ended at {not_after}; now is {now}")]
    Ended {
        /// When.
        not_after: Timestamp,
        /// Now.
        now: Timestamp,
    },
    /// It is from the future.
    #[error("it was made in the future: {made}, now is {now} ({tolerance} s of difference are accepted)")]
    Future {
        /// When it was made.
        made: Timestamp,
        /// Now.
        now: Timestamp,
        /// The difference accepted, in seconds.
        tolerance: u32,
    },
    /// It was made to count for too long.
    #[error("it was made at {made} to count until {not_after}; at most {greatest} are accepted")]
    TooLong {
        /// When it was made.
        made: Timestamp,
        /// Until when it would count.
        not_after: Timestamp,
        /// What is accepted.
        greatest: Span,
    },
    /// It is of whoever promotes.
    #[error("its approver is the one who promotes")]
    Promoter,
    /// Its approver counts already.
    #[error("another approval of the same approver counts")]
    Again,
}

/// Judges a statement: a file of a document and a signature. Everything is decided from its bytes, the configuration and the
/// withdrawals in the ledger.
///
/// # Errors
/// If the ledger fails.
pub fn judge(
    approvers: &Approvers,
    ledger: &Ledger,
    wanted: &Wanted<'_>,
    file: &[u8],
) -> Result<Result<Judged, NotCounted>, Error> {
    let (statement, approver, document) = match authentic(approvers, file) {
        Ok(authentic) => authentic,
        Err(why) => return Ok(Err(why)),
    };
    // Before all else: whatever it says, it says no more.
    if let Some(entry) = ledger.approval_withdrawal(&statement, &to_ledger(&approver.fingerprint))? {
        return Ok(Err(NotCounted::Withdrawn { entry }));
    }
    let judged = Approval::parse(&document).map_err(NotCounted::from).and_then(|approval| {
        of_bundle(&approval, wanted)?;
        of_images(&approval, wanted)?;
        in_time(&approval, approvers)?;
        Ok(Judged { statement, approver, approval })
    });
    Ok(judged)
}

/// The document of a statement, its digest, and the approver who signed it.
pub(super) fn authentic(approvers: &Approvers, file: &[u8]) -> Result<(Digest, Signer, Vec<u8>), NotCounted> {
    one_signer(approvers.trust.verify_statement(file, LIMITS.approval)?)
}

/// Of a statement that was verified the document, its digest, and who signed it.
pub(super) fn one_signer(authentic: Authentic<Vec<u8>>) -> Result<(Digest, Signer, Vec<u8>), NotCounted> {
    let [signer] = authentic.signers() else { return Err(NotCounted::Signers { found: authentic.signers().len() }) };
    let document = authentic.get();
    Ok((blobs::sha256(document), signer.clone(), document.clone()))
}

/// Who made an approval that the ledger has: as its signature shows, or if that does not count, as it was recorded.
pub fn made_by(approvers: &Approvers, recorded: &ledger::Approved) -> ledger::Fingerprint {
    match authentic(approvers, recorded.file.raw().as_bytes()) {
        Ok((_, signer, _)) => to_ledger(&signer.fingerprint),
        Err(_) => recorded.approver.clone(),
    }
}

/// What a statement says of itself, for people; nothing is decided by it.
pub(super) fn peek(file: &str) -> Option<Approval> {
    Approval::parse(file.lines().next()?.as_bytes()).ok()
}

fn of_bundle(approval: &Approval, wanted: &Wanted<'_>) -> Result<(), NotCounted> {
    let Wanted { ledger, subject, .. } = wanted;
    let Action::Promote = approval.action;
    if approval.ledger != *ledger {
        return Err(NotCounted::Ledger { expected: *ledger, found: approval.ledger });
    }
    if approval.bundle != subject.bundle {
        return Err(NotCounted::Bundle { expected: subject.bundle, found: approval.bundle });
    }
    if (&approval.stream, approval.sequence) != (&subject.stream, subject.sequence) {
        let expected = format!("{}-{}", subject.stream, subject.sequence);
        return Err(NotCounted::Name { expected, found: format!("{}-{}", approval.stream, approval.sequence) });
    }
    if approval.manifest != subject.manifest {
        return Err(NotCounted::Manifest { expected: subject.manifest, found: approval.manifest });
    }
    Ok(())
}

/// Every image that is wanted is listed, under its very reference. What is listed besides does not matter.
fn of_images(approval: &Approval, wanted: &Wanted<'_>) -> Result<(), NotCounted> {
    let listed: HashMap<&TagRef, &Digest> = approval.images.iter().map(|i| (&i.production, &i.digest)).collect();
    for (production, expected) in wanted.images {
        match listed.get(production) {
            Some(found) if **found == *expected => {}
            Some(found) => {
                let production = production.clone();
                return Err(NotCounted::Image { production, expected: *expected, found: **found });
            }
            None => return Err(NotCounted::NotListed { production: production.clone() }),
        }
    }
    Ok(())
}

fn in_time(approval: &Approval, approvers: &Approvers) -> Result<(), NotCounted> {
    let (now, tolerance) = (approvers.trust.now(), approvers.trust.clock_tolerance());
    let Approval { made, not_after, .. } = *approval;
    if not_after <= now {
        return Err(NotCounted::Ended { not_after, now });
    }
    if made.unix() > now.unix() + i64::from(tolerance) {
        return Err(NotCounted::Future { made, now, tolerance });
    }
    if not_after.unix() - made.unix() > approvers.greatest.seconds() {
        return Err(NotCounted::TooLong { made, not_after, greatest: approvers.greatest });
    }
    Ok(())
}

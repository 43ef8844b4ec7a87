//! Step 8: recorded, in one ledger transaction; and what the ledger says of a bundle that was received before.

use console::Progress;
use ledger::{EntryNumber, Ledger, Recorded as Entry, RecordedImage, Refused, Standing, Subject};
use manifest_schema::{OutsideText, Timestamp};
use serde::Serialize;

use crate::access::{stamp, to_ledger};
use crate::admit::{no_policy, subject};
use crate::approvals::Promoter;
use crate::authenticate::Authenticated;
use crate::custody;
use crate::error::Error;
use crate::gate::{Scanned, rules_text};
use crate::publish::Published;

/// A bundle that is in production, and in the ledger.
#[derive(Debug, Serialize)]
#[must_use]
pub struct Recorded {
    /// The ledger's entry.
    pub entry: EntryNumber,
    /// What was recorded.
    pub record: Entry,
    /// Images that were left out because their tag names another one.
    pub skipped: Vec<manifest_schema::TagRef>,
    /// The production key's fingerprint.
    pub production: String,
}

/// What else there is of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    Nothing,
    /// Images that wait for their promotion.
    Waits,
}

/// A bundle that was received before.
#[derive(Debug, Serialize)]
#[must_use]
pub struct Before {
    /// What it is.
    pub subject: Subject,
    /// When it was recorded.
    pub at: Timestamp,
    /// The ledger's entry.
    pub entry: EntryNumber,
}

/// Records a bundle; or some of its images, if `rest` of it waits.
///
/// # Errors
/// If the ledger fails; everything is published then, and the same command again records it.
pub fn record(
    published: Published<'_>,
    rest: Rest,
    promoter: Option<Promoter>,
    ledger: &mut Ledger,
    progress: &Progress,
) -> Result<Recorded, Error> {
    let Published { signed, tags } = published;
    let admitted = signed.admitted;
    let mut skipped = Vec::new();
    let mut images = Vec::new();
    for placed in admitted.placement.images {
        if placed.is_skipped() {
            skipped.push(placed.destination);
        } else {
            let (vouched, evidence) = placed.provenance.into_record();
            let scan = placed.scanned.map(Scanned::into_record).transpose()?.flatten();
            images.push(RecordedImage {
                origin: placed.image.origin,
                production: placed.destination,
                digest: placed.image.digest,
                platforms: placed.image.platforms,
                vouched,
                evidence,
                scan,
            });
        }
    }
    let signers = admitted.bundle.manifest.signers().iter().map(|s| to_ledger(&s.fingerprint)).collect();
    let gate = rules_text(admitted.bundle.rules).map(OutsideText::whole);
    let no_policy = no_policy(admitted.bundle.rules).map(str::parse).collect::<Result<_, _>>().map_err(Error::Label)?;
    let record = Entry {
        subject: admitted.subject,
        signers,
        images,
        signatures: signed.signatures,
        tags,
        no_policy,
        handover: custody::records(&admitted.bundle.media.handover(), progress)?,
        gate,
        skipped: skipped.clone(),
        approvals: signed.approvals.statements(),
        promoter: promoter.map(Promoter::into_entry),
    };
    let entry = match rest {
        Rest::Nothing => ledger.record(&stamp()?, record.clone())?,
        Rest::Waits => ledger.promoted(&stamp()?, record.clone())?,
    };
    Ok(Recorded { entry, record, skipped, production: signed.production })
}

/// Whether this very bundle was received before.
///
/// # Errors
/// If the ledger fails.
pub fn before(ledger: &Ledger, bundle: &Authenticated<'_>) -> Result<Option<Before>, Error> {
    let subject = subject(bundle);
    match ledger.preview(&stamp()?, &subject) {
        Ok(Some(Standing::AlreadyRecorded { at, entry })) => Ok(Some(Before { subject, at, entry })),
        // Admission refuses it, and notes that.
        Ok(_) | Err(ledger::Error::Refusal(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// A refusal that can be noted in the ledger once the bundle has been consumed.
pub struct Refusal(Subject);

impl Refusal {
    /// For an authenticated bundle.
    pub fn of(bundle: &Authenticated<'_>) -> Self {
        Self(subject(bundle))
    }

    /// For a bundle that is known.
    pub fn of_subject(subject: &Subject) -> Self {
        Self(subject.clone())
    }

    /// Notes a refusal; other failures are not noted. If that fails too, the refusal is what counts.
    pub fn note(self, ledger: &mut Ledger, error: &Error) {
        use console::{Explain, Fault};
        if error.fault() != Fault::Refused {
            return;
        }
        let refused = Refused { subject: self.0, reason: OutsideText::new(error.to_string()) };
        let noted = stamp().and_then(|stamp| Ok(ledger.refused(&stamp, refused)?));
        if let Err(e) = noted {
            tracing::warn!("the refusal could not be noted in the ledger: {e}");
        }
    }
}

//! Approvals: who must have approved a bundle before its images are signed for production, and whether they have.
//!
//! Approvals are statements of people, which the ledger keeps as they came. Everything that makes one count is checked when
//! the bundle is promoted, by [`judge()`], from the statement itself; nothing that was found out when it came
//! is believed then. What an attacker may try, and what answers it:
//!
//! | attack | answer |
//! |---|---|
//! | an approval by nobody who may approve, or by a key that was revoked or has expired since | the signature is verified again, with the certificates of now |
//! | an approval of another bundle, for another site, of other images or under other names | the statement names ledger, bundle, manifest, and every image with its production reference |
//! | another statement that an approver signed, taken for an approval | the document's `type` |
//! | one approver who approves twice | distinct certificates, by the fingerprints of their primary keys |
//! | an old approval, or one that was made to count for ever | its end, and the greatest span; one that is dated in the future does not count |
//! | an approval that its approver has taken back | a withdrawal kills it for ever, also one that came first; nobody else's does |
//! | approving what one promotes oneself | `exclude_promoter`: who promotes signs that he does |
//! | a member of the ledger's entry that says something else than the statement | only the statement is read |

mod judge;
mod statements;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use ledger::{EntryNumber, Ledger, Rule, Subject};
use manifest_schema::{Digest, LabelValue, OutsideText, Span, TagRef, Timestamp};
use serde::Serialize;
use signing::{CertificateInfo, Certificates, Fingerprint, Trust};

use crate::config::{ApproversConfig, thirty_days};
use crate::error::Error;
use crate::site::Site;

pub use judge::{Judged, NotCounted, Wanted, judge, made_by};
pub use statements::{
    Made, Promoter, PromoterArgs, PromoterKey, Statement, make_approval, make_withdrawal, own_approval, read_statement,
    request,
};

/// Who must approve, for a site without a configuration.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Approvals")]
pub struct ApproverArgs {
    /// With --trust: certificate of one who may approve, or a folder of them; several may be given
    #[arg(long, value_name = "FILE", env = "SEALIFT_APPROVER", value_delimiter = ',')]
    pub approver: Vec<PathBuf>,
    /// With --approver: how many of them must have approved [default: 1]
    #[arg(long, value_name = "N", env = "SEALIFT_APPROVER_THRESHOLD", requires = "approver")]
    pub approver_threshold: Option<usize>,
    /// With --approver: an approval by whoever promotes does not count
    #[arg(long, env = "SEALIFT_EXCLUDE_PROMOTER", requires = "approver")]
    pub exclude_promoter: bool,
    /// With --approver: certificate of one who may promote beside the approvers, or a folder of them
    #[arg(long, value_name = "FILE", env = "SEALIFT_PROMOTER", value_delimiter = ',', requires = "approver")]
    pub promoter: Vec<PathBuf>,
    /// With --approver: how long an approval may count [default: 30d]
    #[arg(long, value_name = "SPAN", env = "SEALIFT_GREATEST_VALIDITY", requires = "approver")]
    pub greatest_validity: Option<Span>,
}

impl ApproverArgs {
    /// Whether approvers are named.
    pub fn is_given(&self) -> bool {
        !self.approver.is_empty()
    }

    /// As a configuration would say it.
    pub fn into_config(self) -> Option<ApproversConfig> {
        self.is_given().then(|| ApproversConfig {
            certificates: self.approver,
            threshold: self.approver_threshold.unwrap_or(1),
            exclude_promoter: self.exclude_promoter,
            promoters: self.promoter,
            greatest_validity: self.greatest_validity.unwrap_or_else(thirty_days),
        })
    }
}

/// Who must approve.
#[derive(Debug, Clone)]
pub struct Approvers {
    /// Of one: each statement is judged for itself.
    trust: Trust,
    needed: usize,
    promoters: Option<Trust>,
    exclude_promoter: bool,
    greatest: Span,
}

impl Approvers {
    /// Reads the certificates.
    ///
    /// # Errors
    /// If one cannot be read, or so many approvals as are needed can never be had.
    pub fn new(config: &ApproversConfig, now: Timestamp, clock_tolerance: u32) -> Result<Self, Error> {
        let trust = |certificates, threshold| -> Result<Trust, Error> {
            Ok(Trust::new(certificates, threshold, now)?.with_clock_tolerance(clock_tolerance))
        };
        let certificates = Certificates::load(&config.certificates)?;
        let (needed, of) = (config.threshold, certificates.count());
        if needed == 0 || needed > of {
            return Err(Error::ApproverThreshold { needed, of });
        }
        if config.exclude_promoter && config.promoters.is_empty() && needed == certificates.count() {
            return Err(Error::NobodyMayPromote { needed });
        }
        let promoters = (!config.promoters.is_empty()).then(|| Certificates::load(&config.promoters)).transpose()?;
        Ok(Self {
            trust: trust(certificates, 1)?,
            needed,
            promoters: promoters.map(|promoters| trust(promoters, 1)).transpose()?,
            exclude_promoter: config.exclude_promoter,
            greatest: config.greatest_validity,
        })
    }

    /// The same, judged at another time.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Self {
        Self { trust: self.trust.at(now), promoters: self.promoters.as_ref().map(|t| t.at(now)), ..self.clone() }
    }

    /// The certificates, with what they are for.
    pub fn certificates(&self) -> Vec<(&'static str, &Certificates)> {
        let promoters = self.promoters.iter().map(|promoters| ("promoter", promoters.certificates()));
        [("approver", self.trust.certificates())].into_iter().chain(promoters).collect()
    }

    /// How many must have approved.
    pub fn needed(&self) -> usize {
        self.needed
    }
}

/// That images of a bundle may be signed for production, as far as approvals go: given in number, overridden, or not asked
/// for here.
///
/// Only [`counted`] makes one:
///
/// ```compile_fail
/// fn of_other_images(approvals: &mut importer::approvals::Approvals) {
///     approvals.images.clear();
/// }
/// ```
#[derive(Debug)]
#[must_use = "images are signed on the strength of it"]
pub struct Approvals {
    subject: Subject,
    images: BTreeSet<(TagRef, Digest)>,
    grounds: Grounds,
}

/// Why images may be signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grounds {
    /// No approvers are configured.
    NoneRequired,
    /// Enough approvals count: the digests of their statements.
    Approved(Vec<Digest>),
    /// Somebody let the bundle pass without: the ledger's entry that says so.
    Overridden(EntryNumber),
}

impl Approvals {
    /// The bundle.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Whether this image may be signed under this reference.
    pub fn allows(&self, production: &TagRef, digest: &Digest) -> bool {
        self.images.contains(&(production.clone(), *digest))
    }

    /// Why the images may be signed.
    pub fn grounds(&self) -> &Grounds {
        &self.grounds
    }

    /// The digests of the statements that counted, for the ledger.
    pub fn statements(&self) -> Vec<Digest> {
        match &self.grounds {
            Grounds::Approved(statements) => statements.clone(),
            Grounds::NoneRequired | Grounds::Overridden(_) => Vec::new(),
        }
    }
}

/// Whether a bundle's images may be signed for production. Each statement that the ledger has is judged anew, by the time of
/// this moment: to be asked right before they are signed.
///
/// `promoter` is whoever promotes, as [`PromoterKey`] has it.
///
/// # Errors
/// [`Error::NotApproved`] with every statement that does not count and why; [`Error::Missing`] if it must be known who
/// promotes; or if the ledger fails.
pub fn counted(
    site: &Site,
    ledger: &Ledger,
    subject: &Subject,
    wanted: &[(TagRef, Digest)],
    promoter: Option<&Fingerprint>,
) -> Result<Approvals, Error> {
    let allow = |grounds| Ok(Approvals { subject: subject.clone(), images: wanted.iter().cloned().collect(), grounds });
    let Some(approvers) = site.approvers() else { return allow(Grounds::NoneRequired) };
    if approvers.exclude_promoter && promoter.is_none() {
        return Err(Error::Missing("the key of whoever promotes"));
    }
    let standing = standing_of(&approvers.at(Timestamp::now()), ledger, subject, wanted, promoter)?;
    if standing.is_approved() {
        return allow(Grounds::Approved(standing.counting().map(|stated| stated.statement).collect()));
    }
    match standing.overridden {
        Some(entry) => allow(Grounds::Overridden(entry)),
        None => Err(Error::NotApproved(Box::new(standing))),
    }
}

/// How the approvals of a bundle stand.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// The bundle.
    #[serde(flatten)]
    pub subject: Subject,
    /// How many approvals are needed; 0 if no approvers are configured.
    pub needed: usize,
    /// How many approvers there are.
    pub approvers: usize,
    /// How many approvals count.
    pub counts: usize,
    /// An approval by whoever promotes will not count.
    pub exclude_promoter: bool,
    /// The statements that the ledger has, oldest first.
    pub statements: Vec<Stated>,
    /// The approvers of whom no statement counts.
    pub missing: Vec<Approver>,
    /// The entry that lets the bundle pass without.
    pub overridden: Option<EntryNumber>,
}

/// An approver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Approver {
    /// The certificate.
    pub fingerprint: Fingerprint,
    /// What its owner calls himself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<OutsideText>,
}

/// A statement that the ledger has.
#[derive(Debug, Clone, Serialize)]
pub struct Stated {
    /// The ledger's entry.
    pub entry: EntryNumber,
    /// The digest of its document.
    pub statement: Digest,
    /// Who made it: of a statement whose signature does not count, as it was recorded.
    pub approver: Approver,
    /// Until when it counts, if it can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// What its approver had to say besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<LabelValue>,
    /// Why it does not count; it does if there is nothing here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Standing {
    /// Whether as many count as are needed.
    pub fn is_approved(&self) -> bool {
        self.counts >= self.needed
    }

    /// The statements that count.
    pub fn counting(&self) -> impl Iterator<Item = &Stated> {
        self.statements.iter().filter(|stated| stated.reason.is_none())
    }

    /// `2 of 3 needed, 1 counts`
    pub fn summary(&self) -> String {
        match self.needed {
            0 => "none needed".into(),
            needed => {
                let word = if self.counts == 1 { "counts" } else { "count" };
                format!("{needed} of {} needed, {} {word}", self.approvers, self.counts)
            }
        }
    }
}

/// How the approvals of a bundle stand for these images, as long as it is not known who promotes.
///
/// # Errors
/// If the ledger fails.
pub fn standing(
    site: &Site,
    ledger: &Ledger,
    subject: &Subject,
    wanted: &[(TagRef, Digest)],
) -> Result<Standing, Error> {
    match site.approvers() {
        // Of this moment: an approval may have been made a moment ago.
        Some(approvers) => standing_of(&approvers.at(Timestamp::now()), ledger, subject, wanted, None),
        None => Ok(Standing {
            subject: subject.clone(),
            needed: 0,
            approvers: 0,
            counts: 0,
            exclude_promoter: false,
            statements: Vec::new(),
            missing: Vec::new(),
            overridden: ledger.override_of(subject, Rule::Approvals)?,
        }),
    }
}

fn standing_of(
    approvers: &Approvers,
    ledger: &Ledger,
    subject: &Subject,
    wanted: &[(TagRef, Digest)],
    promoter: Option<&Fingerprint>,
) -> Result<Standing, Error> {
    let known = approvers.trust.certificates().info(approvers.trust.now());
    let approver = |fingerprint: &Fingerprint| Approver {
        fingerprint: fingerprint.clone(),
        user_id: known.iter().find(|info| info.fingerprint == *fingerprint).and_then(|info| info.user_id.clone()),
    };
    let wanted = Wanted { ledger: *ledger.id(), subject, images: wanted };
    let mut counting: BTreeSet<Fingerprint> = BTreeSet::new();
    let mut statements = Vec::new();
    for (entry, recorded) in ledger.all_approvals(&subject.bundle)? {
        let judged = judge(approvers, ledger, &wanted, recorded.file.raw().as_bytes())?;
        let judged = judged.and_then(|judged| {
            let fingerprint = &judged.approver.fingerprint;
            if approvers.exclude_promoter && promoter == Some(fingerprint) {
                Err(NotCounted::Promoter)
            } else if counting.contains(fingerprint) {
                Err(NotCounted::Again)
            } else {
                Ok(judged)
            }
        });
        let peeked = judge::peek(recorded.file.raw());
        let (not_after, note) = (peeked.as_ref().map(|a| a.not_after), peeked.and_then(|a| a.note));
        let stated = match judged {
            Ok(Judged { statement, approver: signer, .. }) => {
                counting.insert(signer.fingerprint.clone());
                Stated { entry, statement, approver: approver(&signer.fingerprint), not_after, note, reason: None }
            }
            Err(why) => {
                let fingerprint = recorded.approver.as_str().parse().map_err(Error::Fingerprint)?;
                let (statement, reason) = (recorded.statement, Some(console::chain(&why)));
                Stated { entry, statement, approver: approver(&fingerprint), not_after, note, reason }
            }
        };
        statements.push(stated);
    }
    let is_missing = |info: &&CertificateInfo| !counting.contains(&info.fingerprint);
    Ok(Standing {
        subject: subject.clone(),
        needed: approvers.needed,
        approvers: known.len(),
        counts: counting.len(),
        exclude_promoter: approvers.exclude_promoter,
        statements,
        missing: known.iter().filter(is_missing).map(|info| approver(&info.fingerprint)).collect(),
        overridden: ledger.override_of(subject, Rule::Approvals)?,
    })
}

//! `ledger check-proof`

use std::path::PathBuf;

use clap::Args;
use ledger::{About, Entry, EntryNumber, Head, LedgerId};
use manifest_schema::{Digest, Timestamp};
use serde::Serialize;
use signing::Certificates;

use super::{Context, acts};
use crate::audit::proof::{self, Happened, KeyVouched, Proven, ProvenImage};
use crate::audit::signed::SignedHead;
use crate::commands::evidence;
use crate::error::Error;

/// Checks a proof that `ledger prove` wrote; needs production's certificate, and no ledger
///
/// With --ledger-id it must be of that ledger.
#[derive(Debug, Args)]
pub(super) struct CheckProof {
    /// The proof
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The production key's certificate, which certifies the ledger key; or the ledger key's own. Several may be given
    #[arg(long, value_name = "FILE", required = true)]
    certificate: Vec<PathBuf>,
    /// The image that it must be about
    #[arg(long)]
    digest: Option<Digest>,
}

#[derive(Serialize)]
struct Report<'a> {
    ledger: LedgerId,
    head: &'a Head,
    signed: &'a SignedHead,
    key_vouched: &'a KeyVouched,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    images: Vec<ProvenImage<'a>>,
    /// The entry that was asked for, if it was no image.
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<&'a Entry>,
    /// All entries of the proof.
    entries: Vec<EntryNumber>,
}

impl CheckProof {
    pub(super) fn run(self, context: Context) -> Result<(), Error> {
        let trusted = Certificates::load(&self.certificate)?;
        let proven = proof::check(&self.file, &trusted, context.ledger.ledger_id.as_ref(), Timestamp::now())?;
        if let Some(digest) = &self.digest {
            proven.has(&self.file, digest)?;
        }
        context.print(&Report::of(&proven, self.digest), text)
    }
}

impl<'a> Report<'a> {
    fn of(proven: &'a Proven, digest: Option<Digest>) -> Self {
        let (of_proof, number) = match proven.about() {
            About::Digest(digest) => (Some(digest), None),
            About::Entry(number) => (None, Some(number)),
        };
        let digest = digest.or(of_proof);
        Self {
            ledger: proven.head().head().ledger,
            head: proven.head().head(),
            signed: proven.head(),
            key_vouched: proven.vouched(),
            digest,
            images: digest.map(|digest| proven.images(&digest)).unwrap_or_default(),
            entry: number.and_then(|number| proven.entries().find(|entry| entry.number == number)),
            entries: proven.entries().map(|entry| entry.number).collect(),
        }
    }
}

fn text(report: &Report<'_>) -> String {
    let head = report.head;
    let mut text = format!("good: ledger {}, as of its entry {} of {}\n", report.ledger, head.number, head.time);
    text += &format!("  head signed by {}\n  {}\n", report.signed.by(), report.key_vouched.text());
    if let Some(entry) = report.entry {
        text += &format!("\n{}", acts::entry_text(entry));
    }
    for image in &report.images {
        text.push('\n');
        text += &image_text(image, report.digest.as_ref());
    }
    if !report.images.is_empty() {
        text += "\nA proof shows what the ledger has; that it has nothing else, and nothing newer, is not proven.\n";
    }
    text
}

fn image_text(proven: &ProvenImage<'_>, asked: Option<&Digest>) -> String {
    let (image, subject) = (proven.image, proven.subject);
    let mut rows = vec![("image", image.digest.to_string())];
    if let Some(asked) = asked.filter(|asked| **asked != image.digest) {
        let platform = proven.platform.map(|p| format!(" ({p})")).unwrap_or_default();
        rows.push(("of it", format!("{asked}{platform}")));
    }
    rows.push(("production", proven.tag.to_string()));
    rows.extend(proven.previous.map(|previous| ("in place of", previous.to_string())));
    rows.push(("origin", format!("{} (as claimed)", image.origin)));
    rows.push(("let in", evidence::vouched_for(&image.vouched)));
    rows.push(("bundle", format!("{} {}", acts::name(subject), subject.bundle)));
    rows.push(("manifest", subject.manifest.to_string()));
    rows.extend(proven.signers.iter().map(|signer| ("released by", format!("key {signer}"))));
    rows.extend(proven.begun.as_ref().map(|at| ("begun", happened(at))));
    rows.extend(proven.received.as_ref().map(|at| ("received", happened(at))));
    for approval in &proven.approvals {
        let mut text =
            format!("by {}, {}, statement {}", approval.approver, happened(&approval.approved), approval.statement);
        text += if approval.counted { "; it counted" } else { "; it did not count" };
        text += &approval.withdrawn.as_ref().map(|at| format!("; withdrawn {}", happened(at))).unwrap_or_default();
        rows.push(("approved", text));
    }
    let has = |statement| proven.approvals.iter().any(|approval| approval.statement == statement);
    let missing = proven.counted.iter().filter(|statement| !has(*statement));
    rows.extend(
        missing.map(|statement| ("approved", format!("statement {statement}, whose entry is not in the proof"))),
    );
    for overridden in &proven.overrides {
        let rules: Vec<_> = overridden.rules.iter().map(|rule| rule.as_str()).collect();
        let (rules, reason) = (rules.join(", "), overridden.reason.escaped());
        rows.push(("overridden", format!("{rules}, {}: {reason}", happened(&overridden.overridden))));
    }
    rows.extend(proven.promoter.map(|promoter| ("promoted by", format!("key {promoter}"))));
    rows.extend(proven.signing.as_ref().map(|at| ("signing", happened(at))));
    rows.push(("recorded", happened(&proven.recorded)));
    for withdrawal in &proven.withdrawals {
        let (at, reason) = (happened(&withdrawal.withdrawn), withdrawal.reason.escaped());
        rows.push(("withdrawn", format!("{at}, as {}: {reason}", withdrawal.reference)));
    }
    if proven.withdrawals.is_empty() {
        rows.push(("withdrawn", "no entry in this proof says so".into()));
    }
    rows.into_iter().map(|(what, text)| format!("{what:<12} {text}\n")).collect()
}

fn happened(at: &Happened) -> String {
    let by = at.by.as_ref().map(|by| format!(", run by {by}")).unwrap_or_default();
    format!("at {}, entry {}{by}", at.time, at.entry)
}

//! `ledger show`

use clap::Args;
use ledger::{Act, At, BundleDetails, Entry, EntryNumber, Ledger};
use manifest_schema::{BundleId, Digest, OutsideText, Reference, Sequence, Stream};
use serde::Serialize;

use super::{Context, acts};
use crate::error::Error;

/// Shows a bundle or an entry: images, digests, signers, approvals, signatures, who ran it
#[derive(Debug, Args)]
pub(super) struct Show {
    /// A bundle id, <stream>-<sequence>, or the number of an entry
    #[arg(value_name = "BUNDLE|ENTRY")]
    what: String,
}

/// A bundle, and what became of its images.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    details: BundleDetails,
    /// Images of it that lost their signatures since.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    withdrawn: Vec<Withdrawal>,
}

#[derive(Serialize)]
struct Withdrawal {
    #[serde(flatten)]
    at: At,
    reference: Reference,
    digest: Digest,
}

impl Show {
    pub(super) fn run(self, context: Context) -> Result<(), Error> {
        let ledger = context.read()?;
        if let Some(number) = self.what.parse().ok().and_then(|n: u64| EntryNumber::try_from(n).ok()) {
            let missing = || ledger::Error::NoSuchEntry(number);
            return context.print(&ledger.entry(number)?.ok_or_else(missing)?.entry, acts::entry_text);
        }
        let details = find(&ledger, &self.what)?;
        let withdrawn = withdrawals(&ledger, &details.entries)?;
        context.print(&Shown { details, withdrawn }, text)
    }
}

fn find(ledger: &Ledger, text: &str) -> Result<BundleDetails, Error> {
    let unknown = || Error::NoSuchBundle(OutsideText::new(text));
    let by_name = || {
        let (stream, sequence) = text.rsplit_once('-')?;
        let sequence = Sequence::try_from(sequence.parse::<u64>().ok()?).ok()?;
        Some((stream.parse::<Stream>().ok()?, sequence))
    };
    let id: BundleId = match (text.parse(), by_name()) {
        (Ok(id), _) => id,
        (Err(_), Some((stream, sequence))) => ledger.state_of(&stream, sequence)?.ok_or_else(unknown)?.subject.bundle,
        (Err(_), None) => return Err(unknown()),
    };
    ledger.bundle(&id)?.ok_or_else(unknown)
}

fn withdrawals(ledger: &Ledger, entries: &[Entry]) -> Result<Vec<Withdrawal>, Error> {
    let mut found: Vec<Withdrawal> = Vec::new();
    for entry in entries {
        let (Act::Promoted(recorded) | Act::Recorded(recorded)) = &entry.act else { continue };
        for image in &recorded.images {
            for (at, reference) in ledger.withdrawals(&image.digest)? {
                let digest = image.digest;
                if at.entry > entry.number
                    && !found.iter().any(|f| (f.at, &f.reference, f.digest) == (at, &reference, digest))
                {
                    found.push(Withdrawal { at, reference, digest });
                }
            }
        }
    }
    found.sort_by_key(|withdrawal| withdrawal.at.entry);
    Ok(found)
}

fn text(shown: &Shown) -> String {
    let mut text = String::new();
    if let Some(row) = &shown.details.bundle {
        let s = &row.subject;
        text += &format!("bundle    {}\nstream    {} {}\nmanifest  {}\n", s.bundle, s.stream, s.sequence, s.manifest);
        text += &format!("state     {}\n", row.status.as_str());
    }
    for entry in &shown.details.entries {
        text += &format!("\n{}\n", acts::title(entry));
        for line in acts::lines(&entry.act) {
            text += &format!("  {line}\n");
        }
    }
    if !shown.withdrawn.is_empty() {
        text.push('\n');
    }
    for Withdrawal { at, reference, digest } in &shown.withdrawn {
        text += &format!("withdrawn at {}, in entry {}: {reference} {digest}\n", at.time, at.entry);
    }
    text
}

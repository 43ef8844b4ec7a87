//! `ledger`: what came in.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use console::Failure;
use ledger::{Act, BundleDetails, Filter, Ledger, RecordedHandover};
use manifest_schema::{BundleId, OutsideText, Sequence, Stream};

use crate::access::{LedgerAccess, LedgerArgs, LedgerChecker};
use crate::commands::evidence;
use crate::error::Error;

/// Shows what the ledger has
#[derive(Debug, Args)]
pub struct LedgerCommand {
    #[command(subcommand)]
    command: Command,
    /// The configuration [default: import.yaml, if it is there and --ledger is not given]
    #[arg(short, long, value_name = "FILE", env = "SEALIFT_CONFIG", global = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Print as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists bundles, newest first
    List {
        /// Only this release line
        #[arg(long)]
        stream: Option<Stream>,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Shows a bundle: images, digests, signers, signatures, every entry
    Show {
        /// A bundle id, or <stream>-<sequence>
        bundle: String,
    },
    /// Lists refusals, newest first
    Refusals {
        /// Only this release line
        #[arg(long)]
        stream: Option<Stream>,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Checks the chain of entries and every table against it
    Verify,
}

impl LedgerCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub fn run(self) -> Result<(), Failure> {
        self.command().map_err(|e| Failure::new(&e))
    }

    fn command(self) -> Result<(), Error> {
        let json = self.json;
        let ledger = LedgerAccess::find(self.ledger, self.config.as_deref())?.read()?;
        let print = match self.command {
            Command::List { stream, limit } => {
                let rows = ledger.bundles(&Filter { stream, limit, ..Filter::default() })?;
                if json { console::print_json(&rows) } else { console::print(&list(&rows)) }
            }
            Command::Refusals { stream, limit } => {
                let rows = ledger.refusals(&Filter { stream, limit, ..Filter::default() })?;
                if json { console::print_json(&rows) } else { console::print(&refusals(&rows)) }
            }
            Command::Show { bundle } => {
                let details = find(&ledger, &bundle)?;
                if json { console::print_json(&details) } else { console::print(&show(&details)) }
            }
            Command::Verify => {
                let verified = ledger.verify(&LedgerChecker)?;
                if json {
                    console::print_json(&verified)
                } else {
                    let head = ledger.head()?;
                    console::print(&format!(
                        "ledger {}: good, {} entries, head {}\n",
                        ledger.id(),
                        head.number,
                        head.hash
                    ))
                }
            }
        };
        print.map_err(Error::Stdout)
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

fn list(rows: &[ledger::BundleRow]) -> String {
    let cells: Vec<_> = rows
        .iter()
        .map(|r| {
            vec![
                r.subject.stream.to_string(),
                r.subject.sequence.to_string(),
                r.status.as_str().into(),
                r.images.map_or("-".into(), |n| n.to_string()),
                r.recorded.map_or(r.begun.time, |at| at.time).to_string(),
                r.subject.bundle.to_string(),
            ]
        })
        .collect();
    console::table(&["STREAM", ">SEQUENCE", "STATE", ">IMAGES", "TIME", "BUNDLE"], &cells)
}

fn refusals(rows: &[ledger::RefusalRow]) -> String {
    let cells: Vec<_> = rows
        .iter()
        .map(|r| {
            vec![
                r.subject.stream.to_string(),
                r.subject.sequence.to_string(),
                r.refused.time.to_string(),
                r.subject.bundle.to_string(),
                r.reason.escaped().to_string(),
            ]
        })
        .collect();
    console::table(&["STREAM", ">SEQUENCE", "TIME", "BUNDLE", "REASON"], &cells)
}

fn show(details: &BundleDetails) -> String {
    let mut text = String::new();
    if let Some(row) = &details.bundle {
        let s = &row.subject;
        text += &format!("bundle    {}\nstream    {} {}\nmanifest  {}\n", s.bundle, s.stream, s.sequence, s.manifest);
    }
    for entry in &details.entries {
        text += &format!("\nentry {} at {} by {}: {}\n", entry.number, entry.time, entry.tool, entry.act.kind());
        match &entry.act {
            Act::Signing(signing) => {
                if let Some(key) = &signing.production {
                    text += &format!("  production key {key}\n");
                }
                text += &format!("  {} signatures announced\n", signing.images.len());
            }
            Act::Recorded(recorded) | Act::Promoted(recorded) => {
                for signer in &recorded.signers {
                    text += &format!("  manifest signed by {signer}\n");
                }
                for image in &recorded.images {
                    text += &format!(
                        "  image {} {}\n    from {} (as claimed)\n",
                        image.production, image.digest, image.origin
                    );
                    text += &format!("    {}\n", evidence::vouched_for(&image.vouched));
                    for row in &image.evidence {
                        text += &format!("    {}\n", evidence::cells(row).join("  "));
                    }
                }
                for signature in &recorded.signatures {
                    text += &format!("  signature {} for {}\n", signature.path.escaped(), signature.reference);
                }
                for tag in &recorded.tags {
                    let before = tag.previous.map(|d| format!(", before {d}")).unwrap_or_default();
                    text += &format!("  tag {} -> {}{before}\n", tag.tag, tag.digest);
                }
                for row in &recorded.handover {
                    text += &format!("  {}\n", handed_over(row));
                }
                for step in &recorded.no_policy {
                    text += &format!("  {step}: no policy configured\n");
                }
            }
            Act::Refused(refused) => text += &format!("  {}\n", refused.reason.escaped()),
            _ => {}
        }
    }
    text
}

fn handed_over(row: &RecordedHandover) -> String {
    let mut text = format!("handed over at {} by {}", row.at, row.by);
    if let Some(to) = &row.to {
        text += &format!(" to {to}");
    }
    if let Some(bag) = &row.bag {
        text += &format!(", bag {bag}");
    }
    match (&row.signer, row.known) {
        (None, _) => text + ", not signed (as stated)",
        (Some(signer), true) => text + &format!(", signed by {signer}"),
        (Some(signer), false) => text + &format!(", signed by {signer}, not known here"),
    }
}

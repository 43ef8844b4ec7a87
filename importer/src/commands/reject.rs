//! `reject`: what waits will not go into production.

use std::path::PathBuf;

use clap::Args;
use console::Failure;
use ledger::Rejected;
use manifest_schema::{OutsideText, Timestamp};

use crate::access::{LedgerAccess, LedgerArgs, stamp};
use crate::error::Error;
use crate::promotion;

/// Records that a bundle will not be promoted, and why; that cannot be taken back
#[derive(Debug, Args)]
pub struct Reject {
    /// A bundle id, or <stream>-<sequence>
    bundle: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// The configuration [default: import.yaml, if it is there and --ledger is not given]
    #[arg(short, long, value_name = "FILE", env = "SEALIFT_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    ledger: LedgerArgs,
}

impl Reject {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub fn run(self) -> Result<(), Failure> {
        self.reject().map_err(|e| Failure::new(&e))
    }

    fn reject(self) -> Result<(), Error> {
        let mut ledger = LedgerAccess::named(self.ledger, self.config.as_deref())?.open(Timestamp::now())?;
        let row = promotion::bundle(&ledger, &self.bundle)?;
        let row = row.ok_or_else(|| Error::NoSuchBundle(OutsideText::new(&self.bundle)))?;
        let (subject, before) = (row.subject, row.rejected.is_some());
        let reason = self.reason.trim();
        if reason.is_empty() {
            return Err(Error::NoReason);
        }
        let rejected = Rejected { subject: subject.clone(), reason: OutsideText::new(reason) };
        let entry = ledger.rejected(&stamp()?, rejected)?;
        let print = if self.json {
            console::print_json(&serde_json::json!({ "result": "rejected", "bundle": subject, "entry": entry }))
        } else {
            let (stream, sequence, bundle) = (&subject.stream, subject.sequence, subject.bundle);
            let done = if before { "rejected before" } else { "rejected" };
            console::print(&format!("{done}: {stream} {sequence} (bundle {bundle}), ledger entry {entry}\n"))
        };
        print.map_err(Error::Stdout)
    }
}

//! `ledger backup`

use std::path::PathBuf;

use clap::Args;
use ledger::Verified;
use serde::Serialize;

use super::Context;
use crate::access::LedgerChecker;
use crate::error::Error;

/// Writes a copy of the ledger while it is in use, and verifies it before it gets its name
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The copy, on any file system; nothing is overwritten
    #[arg(value_name = "FILE")]
    to: PathBuf,
}

#[derive(Serialize)]
struct Report {
    file: PathBuf,
    #[serde(flatten)]
    verified: Verified,
}

impl Backup {
    pub(super) fn run(self, context: Context) -> Result<(), Error> {
        let verified = context.read()?.backup(&self.to, &LedgerChecker)?;
        context.print(&Report { file: self.to, verified }, |report| {
            let head = &report.verified.head;
            let (file, ledger) = (report.file.display(), head.ledger);
            format!("{file}: ledger {ledger}, {} entries up to {}, head {}\n", head.number, head.time, head.hash)
        })
    }
}

//! `ledger adopt`

use clap::Args;
use ledger::{EntryNumber, Ledger};
use manifest_schema::{OutsideText, Timestamp};
use serde::Serialize;

use super::Context;
use crate::access::stamp;
use crate::error::Error;

/// Goes on with a ledger that lacks a head which it was shown: an old copy that had to be put back, for example
///
/// An entry says which heads, how far the streams had come by them, and why. What had reached production by then stays the
/// least that may come.
#[derive(Debug, Args)]
pub(super) struct Adopt {
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Serialize)]
struct Report {
    entry: EntryNumber,
}

impl Adopt {
    pub(super) fn run(self, context: Context) -> Result<(), Error> {
        if self.reason.trim().is_empty() {
            return Err(Error::Missing("a reason"));
        }
        let access = context.access()?;
        let custody = access.custody(Timestamp::now())?.ok_or(Error::Missing("a ledger key"))?;
        let reason = OutsideText::new(self.reason);
        let entry = Ledger::adopt(access.path(), access.id(), custody, &stamp()?, reason)?;
        context.print(&Report { entry }, |report| format!("adopted, in entry {}\n", report.entry))
    }
}

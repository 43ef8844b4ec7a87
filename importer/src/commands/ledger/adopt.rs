//! `ledger adopt`

use std::path::PathBuf;

use clap::Args;
use ledger::{Act, EntryNumber, Ledger};
use manifest_schema::{OutsideText, Timestamp};
use serde::Serialize;
use signing::Certificates;

use super::{Context, acts};
use crate::access::stamp;
use crate::audit::signed::later_keys;
use crate::error::Error;

/// Goes on with a ledger that lacks a head which it was shown: an old copy that had to be put back, for example
///
/// An entry says which heads, how far the streams had come by them, and why. What had reached production by then stays the
/// least that may come. The second file says how far that was, and so do heads and receipts that were kept elsewhere: show them
/// first, with `ledger verify --head`.
#[derive(Debug, Args)]
pub(super) struct Adopt {
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Certificate of a ledger key that signed the second file, where the ledger was put back from before its key was changed to
    /// that one; several may be given
    #[arg(long, value_name = "FILE")]
    certificate: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    entry: EntryNumber,
    /// What the entry says, for people.
    #[serde(skip)]
    lines: Vec<String>,
}

impl Adopt {
    pub(super) fn run(self, context: Context) -> Result<(), Error> {
        if self.reason.trim().is_empty() {
            return Err(Error::Missing("a reason"));
        }
        let access = context.access()?;
        let custody = access.custody(Timestamp::now())?.ok_or(Error::Missing("a ledger key"))?;
        let later = match self.certificate.as_slice() {
            [] => Vec::new(),
            files => later_keys(&Certificates::load(files)?)?,
        };
        let reason = OutsideText::new(self.reason);
        let entry = Ledger::adopt(access.path(), access.id(), custody, &stamp()?, reason, &later)?;
        let written = access.read()?.entry(entry)?.ok_or(ledger::Error::NoSuchEntry(entry))?;
        let act = written.entry.act;
        if matches!(&act, Act::Adopted(adopted) if adopted.heads.is_empty()) {
            console::say(
                "warning: nothing says what the ledger lacks, nor how far streams had come: a bundle that is older than what \
                 reached production may come in",
            );
        }
        context.print(&Report { entry, lines: acts::lines(&act) }, |report| {
            let lines: String = report.lines.iter().map(|line| format!("  {line}\n")).collect();
            format!("adopted, in entry {}\n{lines}", report.entry)
        })
    }
}

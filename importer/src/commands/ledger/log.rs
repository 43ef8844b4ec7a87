//! `ledger log`

use clap::Args;
use ledger::{Entry, EntryNumber, Ledger};

use super::{Context, acts, entry_number};
use crate::error::Error;

/// Lists entries, newest first, one line each
#[derive(Debug, Args)]
pub(super) struct Log {
    /// Only entries before this one: where the page before ended
    #[arg(long, value_name = "ENTRY", value_parser = entry_number)]
    before: Option<EntryNumber>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl Log {
    pub(super) fn run(self, context: Context) -> Result<(), Error> {
        let entries = newest(&context.read()?, self.before, self.limit)?;
        context.print_page(&entries, self.limit, |entry| entry.number, table)
    }
}

fn newest(ledger: &Ledger, before: Option<EntryNumber>, limit: u32) -> Result<Vec<Entry>, Error> {
    let last = ledger.head()?.number.get();
    let last = before.map_or(last, |before| last.min(before.get() - 1));
    let mut entries = Vec::new();
    for number in (1..=last).rev().take(limit as usize) {
        let Ok(number) = EntryNumber::try_from(number) else { break };
        let missing = || ledger::Error::NoSuchEntry(number);
        entries.push(ledger.entry(number)?.ok_or_else(missing)?.entry);
    }
    Ok(entries)
}

fn table(entries: &[Entry]) -> String {
    let cells: Vec<_> = entries
        .iter()
        .map(|e| {
            vec![
                e.number.to_string(),
                e.time.to_string(),
                e.act.kind().into(),
                e.act.subject().map_or("-".into(), acts::name),
                e.by.as_ref().map_or("-".into(), ToString::to_string),
                acts::summary(&e.act),
            ]
        })
        .collect();
    console::table(&[">ENTRY", "TIME", "ACT", "BUNDLE", "RUN BY", "WHAT"], &cells)
}

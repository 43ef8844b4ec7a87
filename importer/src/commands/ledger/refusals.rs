//! `ledger refusals`

use clap::Args;
use ledger::{EntryNumber, Filter, RefusalRow};
use manifest_schema::Stream;

use super::{Context, acts, entry_number};
use crate::error::Error;

/// Lists refusals, newest first
#[derive(Debug, Args)]
pub(super) struct Refusals {
    /// Only this release line
    #[arg(long)]
    stream: Option<Stream>,
    /// Only refusals before this entry: where the page before ended
    #[arg(long, value_name = "ENTRY", value_parser = entry_number)]
    before: Option<EntryNumber>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl Refusals {
    pub(super) fn run(self, context: Context) -> Result<(), Error> {
        let Self { stream, before, limit } = self;
        let rows = context.read()?.refusals(&Filter { stream, before, limit, ..Filter::default() })?;
        context.print_page(&rows, limit, |row| row.refused.entry, table)
    }
}

fn table(rows: &[RefusalRow]) -> String {
    let cells: Vec<_> = rows
        .iter()
        .map(|r| {
            vec![
                r.refused.entry.to_string(),
                r.subject.stream.to_string(),
                r.subject.sequence.to_string(),
                r.refused.time.to_string(),
                r.subject.bundle.to_string(),
                acts::in_one_line(&r.reason),
            ]
        })
        .collect();
    console::table(&[">ENTRY", "STREAM", ">SEQUENCE", "TIME", "BUNDLE", "REASON"], &cells)
}

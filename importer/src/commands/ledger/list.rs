//! `ledger list`

use clap::Args;
use ledger::{BundleRow, EntryNumber, Filter, Status};
use manifest_schema::Stream;

use super::{Context, entry_number};
use crate::error::Error;

/// Lists bundles, newest first
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only this release line
    #[arg(long)]
    stream: Option<Stream>,
    /// Only bundles that have come so far and no further: begun, received, rejected, signing, promoted or recorded
    #[arg(long, value_parser = status)]
    status: Option<Status>,
    /// Only bundles that were begun before this entry: where the page before ended
    #[arg(long, value_name = "ENTRY", value_parser = entry_number)]
    before: Option<EntryNumber>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

fn status(text: &str) -> Result<Status, String> {
    let names: Vec<_> = Status::ALL.iter().map(|status| status.as_str()).collect();
    let found = Status::ALL.into_iter().find(|status| status.as_str() == text);
    found.ok_or_else(|| format!("expected one of {}", names.join(", ")))
}

impl List {
    pub(super) fn run(self, context: Context) -> Result<(), Error> {
        let Self { stream, status, before, limit } = self;
        let rows = context.read()?.bundles(&Filter { stream, status, before, limit })?;
        context.print_page(&rows, limit, |row| row.begun.entry, table)
    }
}

fn table(rows: &[BundleRow]) -> String {
    let cells: Vec<_> = rows
        .iter()
        .map(|r| {
            vec![
                r.begun.entry.to_string(),
                r.subject.stream.to_string(),
                r.subject.sequence.to_string(),
                r.status.as_str().into(),
                r.images.map_or("-".into(), |n| n.to_string()),
                r.recorded.map_or(r.begun.time, |at| at.time).to_string(),
                r.subject.bundle.to_string(),
            ]
        })
        .collect();
    console::table(&[">ENTRY", "STREAM", ">SEQUENCE", "STATE", ">IMAGES", "TIME", "BUNDLE"], &cells)
}

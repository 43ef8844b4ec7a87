//! `ledger export`: the entries one after the other, for other programs, for spreadsheets, on paper.

mod csv;
mod html;
mod jsonl;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ledger::{EntryNumber, Ledger, Stored};
use manifest_schema::Stream;

use super::output::Output;
use super::{Context, entry_number};
use crate::error::Error;

/// Writes the entries as JSON lines, as a table for spreadsheets, or as a page to print
#[derive(Debug, Args)]
pub(super) struct Export {
    /// The form
    #[arg(long, value_enum)]
    format: Format,
    /// The file, which must not be there yet; `-` is stdout [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Begin with this entry
    #[arg(long, value_name = "ENTRY", value_parser = entry_number, default_value = "1")]
    from: EntryNumber,
    /// Only entries about bundles of this release line
    #[arg(long)]
    stream: Option<Stream>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// One line for each entry: number, hash, and the entry, byte for byte
    Jsonl,
    /// One row for each image, and for each act without images (RFC 4180)
    Csv,
    /// One page, with what `verify` says at its top
    Html,
}

impl Export {
    pub(super) fn run(self, context: Context) -> Result<(), Error> {
        let ledger = context.read()?;
        let Self { format, output, from, stream } = self;
        // The entries that are there now, however many are written meanwhile.
        let page = match format {
            Format::Html => Some(html::Page::of(&ledger, stream.as_ref())?),
            Format::Jsonl | Format::Csv => None,
        };
        let last = match &page {
            Some(page) => page.last(),
            None => ledger.head()?.number,
        };
        let entries = Selected { ledger: &ledger, from, last, stream: stream.as_ref() };
        let mut output = Output::open(output.as_deref(), 0o600)?;
        let escaped = output.is_terminal();
        let written = match (format, page) {
            (Format::Html, Some(page)) => page.write(&mut output, entries),
            (Format::Csv, _) => csv::write(&mut output, entries),
            _ => jsonl::write(&mut output, entries, escaped),
        };
        match written {
            Ok(()) => output.finish(),
            Err(Failed::Ledger(e)) => Err(*e),
            Err(Failed::Write(e)) => output.error(e).map_or(Ok(()), Err),
        }
    }
}

/// What stops an export.
enum Failed {
    Ledger(Box<Error>),
    Write(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

impl From<ledger::Error> for Failed {
    fn from(error: ledger::Error) -> Self {
        Self::Ledger(Box::new(error.into()))
    }
}

/// The entries that are written; one at a time is in memory.
struct Selected<'a> {
    ledger: &'a Ledger,
    from: EntryNumber,
    last: EntryNumber,
    stream: Option<&'a Stream>,
}

impl Selected<'_> {
    fn each(&self, mut write: impl FnMut(Stored) -> io::Result<()>) -> Result<(), Failed> {
        for stored in self.ledger.entries(self.from) {
            let stored = stored?;
            if stored.entry.number > self.last {
                break;
            }
            let of_stream =
                |stream: &Stream| stored.entry.act.subject().is_some_and(|subject| subject.stream == *stream);
            if self.stream.is_none_or(of_stream) {
                write(stored)?;
            }
        }
        Ok(())
    }
}

/// Writes text with a line end.
fn line(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")
}

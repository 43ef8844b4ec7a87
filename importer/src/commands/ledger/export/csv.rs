//! A table for spreadsheets (RFC 4180): one row for each image of an act, one for each act without images.
//!
//! The cells' text comes from outside, and spreadsheets take some of it for formulas: such cells begin with an apostrophe.

use std::io::Write;

use ledger::{Act, Entry, Fingerprint, MovedTag, RecordedImage, Stored};
use manifest_schema::text::escape;
use manifest_schema::{OutsideText, TagRef};

use super::{Failed, Selected};
use crate::commands::evidence;
use crate::commands::ledger::acts;

/// A column, and what it has for a row.
type Column = (&'static str, fn(&Row<'_>) -> String);

/// The columns. New ones come last.
const COLUMNS: [Column; 20] = [
    ("entry", |row| row.entry.number.to_string()),
    ("time", |row| row.entry.time.to_string()),
    ("act", |row| row.entry.act.kind().into()),
    ("run_by", |row| row.entry.by.as_ref().map(ToString::to_string).unwrap_or_default()),
    ("tool", |row| row.entry.tool.to_string()),
    ("stream", |row| row.entry.act.subject().map(|s| s.stream.to_string()).unwrap_or_default()),
    ("sequence", |row| row.entry.act.subject().map(|s| s.sequence.to_string()).unwrap_or_default()),
    ("bundle", |row| row.entry.act.subject().map(|s| s.bundle.to_string()).unwrap_or_default()),
    ("manifest", |row| row.entry.act.subject().map(|s| s.manifest.to_string()).unwrap_or_default()),
    ("production", |row| row.production.clone()),
    ("digest", |row| row.digest.clone()),
    ("origin_as_claimed", |row| row.image.map(|image| image.origin.to_string()).unwrap_or_default()),
    ("platforms", |row| row.image.map(platforms).unwrap_or_default()),
    ("in_place_of", |row| row.previous().unwrap_or_default()),
    ("staging", |row| row.staging.map(ToString::to_string).unwrap_or_default()),
    ("let_in", |row| row.image.map(|image| evidence::vouched_for(&image.vouched)).unwrap_or_default()),
    ("keys", |row| keys(&row.entry.act)),
    ("approvals", |row| approvals(&row.entry.act)),
    ("note", |row| note(&row.entry.act)),
    ("hash", |row| row.hash.clone()),
];

/// One row.
struct Row<'a> {
    entry: &'a Entry,
    hash: String,
    image: Option<&'a RecordedImage>,
    production: String,
    digest: String,
    staging: Option<&'a TagRef>,
}

impl Row<'_> {
    fn previous(&self) -> Option<String> {
        let tags: &[MovedTag] = match &self.entry.act {
            Act::Promoted(a) | Act::Recorded(a) => &a.tags,
            _ => &[],
        };
        let image = self.image?;
        tags.iter().find(|tag| tag.tag == image.production)?.previous.map(|digest| digest.to_string())
    }
}

pub(super) fn write(out: &mut impl Write, entries: Selected<'_>) -> Result<(), Failed> {
    record(out, COLUMNS.iter().map(|(name, _)| (*name).to_string()))?;
    entries.each(|stored| {
        for row in rows(&stored) {
            record(out, COLUMNS.iter().map(|(_, of)| of(&row)))?;
        }
        Ok(())
    })
}

fn record(out: &mut impl Write, cells: impl Iterator<Item = String>) -> std::io::Result<()> {
    let cells: Vec<_> = cells.map(|text| cell(&text)).collect();
    out.write_all(cells.join(",").as_bytes())?;
    out.write_all(b"\r\n")
}

/// The encoder of this output.
fn cell(text: &str) -> String {
    let text = escape(text).to_string();
    let guard = match text.trim_start().chars().next() {
        // As they are, and as they are wide.
        Some('=' | '+' | '-' | '@' | '\u{ff1d}' | '\u{ff0b}' | '\u{ff0d}' | '\u{ff20}') => "'",
        _ => "",
    };
    if guard.is_empty() && !text.contains(['"', ',', ';', '\'', ' ']) {
        return text;
    }
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

fn rows(stored: &Stored) -> Vec<Row<'_>> {
    let entry = &stored.entry;
    let hash = stored.hash.to_string();
    let empty = || Row {
        entry,
        hash: hash.clone(),
        image: None,
        production: String::new(),
        digest: String::new(),
        staging: None,
    };
    let of_image = |image| Row {
        image: Some(image),
        production: image.production.to_string(),
        digest: image.digest.to_string(),
        ..empty()
    };
    let rows: Vec<_> = match &entry.act {
        Act::Received(a) => {
            a.images.iter().map(|i| Row { staging: i.staging.as_ref(), ..of_image(&i.image) }).collect()
        }
        Act::Promoted(a) | Act::Recorded(a) => a.images.iter().map(of_image).collect(),
        Act::Withdrawn(a) => {
            let named = |i: &ledger::Announced| Row {
                production: i.reference.to_string(),
                digest: i.digest.to_string(),
                ..empty()
            };
            a.images.iter().map(named).collect()
        }
        _ => Vec::new(),
    };
    if rows.is_empty() { vec![empty()] } else { rows }
}

fn platforms(image: &RecordedImage) -> String {
    let shown = image.platforms.iter().map(|p| match &p.platform {
        Some(platform) => format!("{platform} {}", p.digest),
        None => p.digest.to_string(),
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// Whose keys the act rests on: those who released, approved, signed.
fn keys(act: &Act) -> String {
    let join = |keys: Vec<&Fingerprint>| keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    match act {
        Act::Received(a) => join(a.signers.iter().collect()),
        Act::Promoted(a) | Act::Recorded(a) => {
            join(a.signers.iter().chain(a.promoter.as_ref().map(|by| &by.promoter)).collect())
        }
        Act::Approved(a) => join(vec![&a.approver]),
        Act::ApprovalWithdrawn(a) => join(vec![&a.approver]),
        Act::Signing(a) | Act::Resigning(a) => join(a.production.iter().collect()),
        Act::Resigned(a) => join(vec![&a.production]),
        Act::KeyChanged(a) => join(vec![&a.to]),
        Act::Created(a) => join(a.production.iter().chain(&a.ledger_key).collect()),
        Act::Begun(_)
        | Act::Rejected(_)
        | Act::Overridden(_)
        | Act::Refused(_)
        | Act::Withdrawn(_)
        | Act::HandedOver(_)
        | Act::Adopted(_) => String::new(),
    }
}

/// The approvals by the digests of their statements: of an image those that counted.
fn approvals(act: &Act) -> String {
    match act {
        Act::Promoted(a) | Act::Recorded(a) => {
            a.approvals.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        }
        Act::Approved(a) => a.statement.to_string(),
        Act::ApprovalWithdrawn(a) => a.approval.to_string(),
        _ => String::new(),
    }
}

fn note(act: &Act) -> String {
    let raw = |reason: &OutsideText| reason.raw().to_string();
    match act {
        Act::Rejected(a) => raw(&a.reason),
        Act::Refused(a) => raw(&a.reason),
        Act::Withdrawn(a) => raw(&a.reason),
        Act::Adopted(a) => raw(&a.reason),
        Act::Overridden(a) => {
            let rules: Vec<_> = a.rules.iter().map(|rule| rule.as_str()).collect();
            format!("{}: {}", rules.join(" "), a.reason.raw())
        }
        _ => acts::summary(act),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_or_leaves_its_place() {
        for (text, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("two words", "\"two words\""),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("=1+1", "\"'=1+1\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@sum", "\"'@sum\""),
            ("  =1", "\"'  =1\""),
            ("\u{ff1d}1", "\"'\u{ff1d}1\""),
            ("\t=1", "\\u{9}=1"),
            ("a\r\nb", "a\\u{d}\\u{a}b"),
            ("\u{202e}x", "\\u{202e}x"),
        ] {
            assert_eq!(cell(text), expected, "{text:?}");
        }
    }
}

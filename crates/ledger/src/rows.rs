//! From an entry to the rows that find it. Writing inserts them; verifying derives them again and compares.

use std::fmt::Display;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::acts::{Recorded, RecordedSignature, Subject};
use crate::entry::{Act, Entry};
use crate::names::TreeHash;
use crate::schema::Table;

/// The rows of an entry and of the nodes that it completes, in the order of [`Table::ALL`], and in each table by `n`.
pub(crate) fn of(entry: &Entry, nodes: &[TreeHash]) -> Vec<(Table, Vec<Value>)> {
    let mut rows = Rows { entry: entry.number.into(), rows: Vec::new() };
    let bundle = entry.act.subject().map_or(Value::Null, |s| text(s.bundle));
    rows.add(Table::Act, 0, [text(entry.act.kind()), text(entry.time), bundle]);
    for (level, node) in nodes.iter().enumerate() {
        rows.add(Table::Node, level, [Value::Blob(node.as_bytes().to_vec())]);
    }
    match entry.act.subject() {
        Some(subject) => rows.of_bundle(&entry.act, subject),
        None => rows.of_ledger(&entry.act),
    }
    // Within a table they are in order already.
    rows.rows.sort_by_key(|(table, _)| *table);
    rows.rows
}

struct Rows {
    entry: i64,
    rows: Vec<(Table, Vec<Value>)>,
}

impl Rows {
    fn of_bundle(&mut self, act: &Act, subject: &Subject) {
        let (bundle, stream, manifest) = (text(subject.bundle), text(&subject.stream), text(subject.manifest));
        let sequence = Value::Integer(subject.sequence.get().cast_signed());
        match act {
            Act::Created(_)
            | Act::Withdrawn(_)
            | Act::HandedOver(_)
            | Act::KeyChanged(_)
            | Act::Adopted(_)
            | Act::Resigning(_) => {}
            Act::Begun(a) => {
                self.add(Table::Bundle, 0, [bundle, stream.clone(), sequence, manifest]);
                if let Some(signed) = a.signed {
                    self.add(Table::Signed, 0, [stream, text(signed)]);
                }
            }
            Act::Received(a) => self.add(Table::Received, 0, [bundle, count(a.images.len())]),
            Act::Approved(a) => self.add(Table::Approval, 0, [bundle, text(&a.approver), text(a.statement)]),
            Act::ApprovalWithdrawn(a) => {
                self.add(Table::ApprovalWithdrawal, 0, [bundle, text(&a.approver), text(a.approval)]);
            }
            Act::Rejected(_) => self.add(Table::Rejection, 0, [bundle]),
            Act::Overridden(a) => {
                for (n, rule) in a.rules.iter().enumerate() {
                    self.add(Table::Override, n, [bundle.clone(), text(rule.as_str())]);
                }
            }
            Act::Signing(a) => {
                self.add(Table::Signing, 0, [bundle, stream, sequence, optional(a.production.as_ref())]);
            }
            Act::Promoted(a) => {
                self.add(Table::Promoted, 0, [bundle.clone(), count(a.images.len() + a.skipped.len())]);
                self.of_images(a, &bundle);
            }
            Act::Recorded(a) => {
                self.add(Table::Recorded, 0, [bundle.clone(), stream, sequence, count(a.images.len())]);
                self.of_images(a, &bundle);
            }
            Act::Refused(_) => self.add(Table::Refusal, 0, [bundle, stream, sequence, manifest]),
            Act::Resigned(a) => self.of_signatures(&a.signatures, &bundle),
        }
    }

    fn of_images(&mut self, recorded: &Recorded, bundle: &Value) {
        for (n, image) in recorded.images.iter().enumerate() {
            let row = [bundle.clone(), text(&image.origin), text(&image.production), text(image.digest)];
            self.add(Table::Image, n, row);
        }
        let platforms =
            recorded.images.iter().enumerate().flat_map(|(i, image)| image.platforms.iter().map(move |p| (i, p)));
        for (n, (image, platform)) in platforms.enumerate() {
            let row = [count(image), optional(platform.platform.as_ref()), text(platform.digest)];
            self.add(Table::Platform, n, row);
        }
        self.of_signatures(&recorded.signatures, bundle);
        for (n, tag) in recorded.tags.iter().enumerate() {
            let row = [bundle.clone(), text(&tag.tag), text(tag.digest), optional(tag.previous.as_ref())];
            self.add(Table::Tag, n, row);
        }
    }

    fn of_signatures(&mut self, signatures: &[RecordedSignature], bundle: &Value) {
        for (n, s) in signatures.iter().enumerate() {
            let path = Value::Text(s.path.raw().to_string());
            self.add(Table::Signature, n, [bundle.clone(), text(&s.reference), text(s.digest), path, text(s.file)]);
        }
    }

    fn of_ledger(&mut self, act: &Act) {
        match act {
            Act::Created(a) => {
                if let Some(key) = &a.ledger_key {
                    self.add(Table::LedgerKey, 0, [text(key)]);
                }
            }
            Act::KeyChanged(a) => self.add(Table::LedgerKey, 0, [text(&a.to)]),
            Act::Withdrawn(a) => {
                for (n, image) in a.images.iter().enumerate() {
                    self.add(Table::Withdrawal, n, [text(&image.reference), text(image.digest)]);
                }
            }
            Act::Adopted(a) => {
                for (n, head) in a.heads.iter().enumerate() {
                    let hash = Value::Blob(head.hash.as_bytes().to_vec());
                    self.add(Table::Adoption, n, [Value::Integer(head.number.into()), hash]);
                }
                for (n, mark) in a.marks.iter().enumerate() {
                    let sequence = Value::Integer(mark.sequence.get().cast_signed());
                    self.add(Table::Mark, n, [text(&mark.stream), sequence]);
                }
            }
            // The others are about a bundle.
            _ => {}
        }
    }

    fn add<const N: usize>(&mut self, table: Table, n: usize, columns: [Value; N]) {
        let mut row = Vec::with_capacity(N + 2);
        row.push(Value::Integer(self.entry));
        row.push(count(n));
        row.extend(columns);
        self.rows.push((table, row));
    }
}

fn text(value: impl Display) -> Value {
    Value::Text(value.to_string())
}

fn optional(value: Option<&impl Display>) -> Value {
    value.map_or(Value::Null, text)
}

fn count(n: usize) -> Value {
    Value::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}

/// Inserts the rows of an entry.
pub(crate) fn insert(connection: &Connection, entry: &Entry, nodes: &[TreeHash]) -> rusqlite::Result<()> {
    for (table, row) in of(entry, nodes) {
        let marks = vec!["?"; row.len()].join(", ");
        let sql = format!("INSERT INTO {} VALUES ({marks})", table.name());
        connection.prepare_cached(&sql)?.execute(params_from_iter(row))?;
    }
    Ok(())
}

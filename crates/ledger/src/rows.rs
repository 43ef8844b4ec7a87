//! From an entry to the rows that find it. Writing inserts them; verifying derives them again and compares.

use std::fmt::Display;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::entry::{Act, Entry};
use crate::schema::Table;

/// The rows of an entry, in the order of [`Table::ALL`], and in each table by `n`.
pub(crate) fn of(entry: &Entry) -> Vec<(Table, Vec<Value>)> {
    let mut rows = Rows { entry: entry.number.sql(), rows: Vec::new() };
    let subject = entry.act.subject();
    let bundle = subject.map_or(Value::Null, |s| text(s.bundle));
    rows.add(Table::Act, 0, [text(entry.act.kind()), text(entry.time), bundle.clone()]);
    let Some(subject) = subject else { return rows.rows };
    let stream = text(&subject.stream);
    let sequence = Value::Integer(subject.sequence.get().cast_signed());
    let manifest = text(subject.manifest);
    match &entry.act {
        Act::Created(_) => {}
        Act::Begun(_) => rows.add(Table::Bundle, 0, [bundle, stream, sequence, manifest]),
        Act::Signing(a) => rows.add(Table::Signing, 0, [bundle, stream, sequence, optional(a.production.as_ref())]),
        Act::Recorded(a) => {
            rows.add(Table::Recorded, 0, [bundle.clone(), stream, sequence, count(a.images.len())]);
            for (n, image) in a.images.iter().enumerate() {
                let row = [bundle.clone(), text(&image.origin), text(&image.production), text(image.digest)];
                rows.add(Table::Image, n, row);
            }
            let platforms =
                a.images.iter().enumerate().flat_map(|(i, image)| image.platforms.iter().map(move |p| (i, p)));
            for (n, (image, platform)) in platforms.enumerate() {
                let row = [count(image), optional(platform.platform.as_ref()), text(platform.digest)];
                rows.add(Table::Platform, n, row);
            }
            for (n, s) in a.signatures.iter().enumerate() {
                let path = Value::Text(s.path.raw().to_string());
                rows.add(Table::Signature, n, [bundle.clone(), text(&s.reference), text(s.digest), path, text(s.file)]);
            }
            for (n, tag) in a.tags.iter().enumerate() {
                let row = [bundle.clone(), text(&tag.tag), text(tag.digest), optional(tag.previous.as_ref())];
                rows.add(Table::Tag, n, row);
            }
        }
        Act::Refused(_) => rows.add(Table::Refusal, 0, [bundle, stream, sequence, manifest]),
    }
    rows.rows
}

struct Rows {
    entry: i64,
    rows: Vec<(Table, Vec<Value>)>,
}

impl Rows {
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
pub(crate) fn insert(connection: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    for (table, row) in of(entry) {
        let marks = vec!["?"; row.len()].join(", ");
        let sql = format!("INSERT INTO {} VALUES ({marks})", table.name());
        connection.prepare_cached(&sql)?.execute(params_from_iter(row))?;
    }
    Ok(())
}

//! The tables, how they are migrated, and how every connection is set up.
//!
//! `entry` is the record. All other tables only find things in it: their rows follow from the entries
//! ([`crate::rows`]) and could be made again. Triggers make every table append-only, for this program and for anyone
//! who opens the file with another one. They hold even where `recursive_triggers` is off and `INSERT OR REPLACE` would
//! delete rows without firing a delete trigger, because a row that is there already is refused before SQLite comes to
//! replace it. Whoever owns the file can drop triggers all the same; [`crate::Ledger::verify`] finds what they do.
//!
//! The tables of [`crate::working`] are no part of that: they may be changed and emptied.

use std::time::Duration;

use manifest_schema::LIMITS;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;

use crate::entry::{Act, Entry};
use crate::tree::{self, Edge};

/// In the file's header: "SLft". See `PRAGMA application_id`.
pub(crate) const APPLICATION_ID: i64 = 0x534c_6674;

/// How long one statement waits for another program's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A table whose rows follow from the entries. Its first two columns are `entry` and `n`, the row's place among those
/// of the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Table {
    Act,
    Bundle,
    Signing,
    Recorded,
    Image,
    Platform,
    Signature,
    Tag,
    Refusal,
    Node,
    Signed,
    Received,
    Approval,
    ApprovalWithdrawal,
    Rejection,
    Override,
    Promoted,
    Withdrawal,
    LedgerKey,
    Adoption,
    Mark,
}

impl Table {
    pub(crate) const ALL: [Table; 21] = [
        Table::Act,
        Table::Bundle,
        Table::Signing,
        Table::Recorded,
        Table::Image,
        Table::Platform,
        Table::Signature,
        Table::Tag,
        Table::Refusal,
        Table::Node,
        Table::Signed,
        Table::Received,
        Table::Approval,
        Table::ApprovalWithdrawal,
        Table::Rejection,
        Table::Override,
        Table::Promoted,
        Table::Withdrawal,
        Table::LedgerKey,
        Table::Adoption,
        Table::Mark,
    ];

    pub(crate) fn name(self) -> &'static str {
        self.definition().name
    }

    fn definition(self) -> Definition {
        let one = |name, columns, unique, keys| Definition { name, since: 1, columns, unique, keys };
        let three = |name, columns, unique, keys| Definition { name, since: 3, columns, unique, keys };
        match self {
            Table::Act => one("act", "kind TEXT NOT NULL, time TEXT NOT NULL, bundle TEXT", &[], &["bundle, entry"]),
            Table::Bundle => one(
                "bundle",
                "id TEXT NOT NULL, stream TEXT NOT NULL, sequence INTEGER NOT NULL, manifest TEXT NOT NULL",
                &["id", "stream, sequence"],
                &["stream, entry"],
            ),
            Table::Signing => one(
                "signing",
                "bundle TEXT NOT NULL, stream TEXT NOT NULL, sequence INTEGER NOT NULL, production TEXT",
                &[],
                &["bundle, entry", "stream, sequence"],
            ),
            Table::Recorded => one(
                "recorded",
                "bundle TEXT NOT NULL, stream TEXT NOT NULL, sequence INTEGER NOT NULL, images INTEGER NOT NULL",
                &["bundle"],
                &["stream, sequence"],
            ),
            Table::Image => one(
                "image",
                "bundle TEXT NOT NULL, origin TEXT NOT NULL, production TEXT NOT NULL, digest TEXT NOT NULL",
                &[],
                &["digest, entry"],
            ),
            Table::Platform => {
                one("platform", "image INTEGER NOT NULL, platform TEXT, digest TEXT NOT NULL", &[], &["digest, entry"])
            }
            Table::Signature => one(
                "signature",
                "bundle TEXT NOT NULL, reference TEXT NOT NULL, digest TEXT NOT NULL, path TEXT NOT NULL, file TEXT NOT NULL",
                &[],
                &["digest, entry"],
            ),
            Table::Tag => one(
                "tag",
                "bundle TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL, previous TEXT",
                &[],
                &["tag, entry"],
            ),
            Table::Refusal => one(
                "refusal",
                "bundle TEXT NOT NULL, stream TEXT NOT NULL, sequence INTEGER NOT NULL, manifest TEXT NOT NULL",
                &[],
                &["bundle, entry", "stream, entry"],
            ),
            // A node of the tree that the entry completes; `n` is its level, 0 for the entry's leaf.
            Table::Node => three("node", "hash BLOB NOT NULL", &[], &[]),
            Table::Signed => three("signed", "stream TEXT NOT NULL, time TEXT NOT NULL", &[], &["stream, time"]),
            Table::Received => three("received", "bundle TEXT NOT NULL, images INTEGER NOT NULL", &["bundle"], &[]),
            Table::Approval => three(
                "approval",
                "bundle TEXT NOT NULL, approver TEXT NOT NULL, statement TEXT NOT NULL",
                &["statement"],
                &["bundle, entry"],
            ),
            Table::ApprovalWithdrawal => three(
                "approval_withdrawal",
                "bundle TEXT NOT NULL, approver TEXT NOT NULL, statement TEXT NOT NULL",
                &["statement, approver"],
                &[],
            ),
            Table::Rejection => three("rejection", "bundle TEXT NOT NULL", &["bundle"], &[]),
            Table::Override => {
                three("override", "bundle TEXT NOT NULL, rule TEXT NOT NULL", &[], &["bundle, rule, entry"])
            }
            Table::Promoted => {
                three("promoted", "bundle TEXT NOT NULL, images INTEGER NOT NULL", &[], &["bundle, entry"])
            }
            Table::Withdrawal => {
                three("withdrawal", "reference TEXT NOT NULL, digest TEXT NOT NULL", &[], &["digest, entry"])
            }
            Table::LedgerKey => three("ledger_key", "fingerprint TEXT NOT NULL", &[], &[]),
            Table::Adoption => {
                three("adoption", "number INTEGER NOT NULL, hash BLOB NOT NULL", &[], &["number, entry"])
            }
            Table::Mark => three("mark", "stream TEXT NOT NULL, sequence INTEGER NOT NULL", &[], &["stream, sequence"]),
        }
    }
}

/// How a table is made.
struct Definition {
    name: &'static str,
    /// The schema that it came with.
    since: i64,
    /// The columns after `entry` and `n`.
    columns: &'static str,
    /// Keys that must be unique.
    unique: &'static [&'static str],
    /// Other keys.
    keys: &'static [&'static str],
}

/// Each migration brings the schema to the next number. They only grow: a released one never changes.
const MIGRATIONS: [fn(&Connection) -> rusqlite::Result<()>; 3] = [first, second, third];

/// The newest schema.
pub(crate) const VERSION: i64 = MIGRATIONS.len() as i64;

/// The schema that a database says it has.
pub(crate) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings a database from one schema to the newest. The caller has begun the transaction.
pub(crate) fn migrate(connection: &Connection, from: i64) -> rusqlite::Result<()> {
    run(connection, from, VERSION)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", VERSION)
}

fn run(connection: &Connection, from: i64, to: i64) -> rusqlite::Result<()> {
    let place = |version: i64| usize::try_from(version).unwrap_or(0).min(MIGRATIONS.len());
    for migration in MIGRATIONS.iter().take(place(to)).skip(place(from)) {
        migration(connection)?;
    }
    Ok(())
}

/// What a connection needs before anything is read or written.
pub(crate) fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    // An entry with its number and hash; nothing else comes near.
    let longest = i32::try_from(LIMITS.ledger_entry).unwrap_or(i32::MAX).saturating_add(1024);
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, longest)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "recursive_triggers", true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Every table, index and trigger: type, name, SQL.
pub(crate) fn objects(connection: &Connection) -> rusqlite::Result<Vec<(String, String, String)>> {
    connection
        .prepare(
            "SELECT type, name, coalesce(sql, '') FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_stat%' ESCAPE '\\'
             ORDER BY type, name",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}

/// Names the first object that is not as the schema has it that the database says it has, and how.
pub(crate) fn difference(connection: &Connection) -> rusqlite::Result<Option<(String, &'static str)>> {
    let model = Connection::open_in_memory()?;
    run(&model, 0, version(connection)?)?;
    let (expected, found) = (objects(&model)?, objects(connection)?);
    if let Some(object) = expected.iter().find(|o| !found.contains(o)) {
        let there = found.iter().any(|o| (&o.0, &o.1) == (&object.0, &object.1));
        return Ok(Some((object.1.clone(), if there { "changed" } else { "missing" })));
    }
    Ok(found.into_iter().find(|o| !expected.contains(o)).map(|o| (o.1, "not part of a ledger")))
}

/// Schema 1.
fn first(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE entry (number INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, bytes BLOB NOT NULL) STRICT;
         CREATE TRIGGER entry_insert BEFORE INSERT ON entry
         WHEN NEW.number IS NOT (SELECT coalesce(max(number), 0) + 1 FROM entry)
           OR EXISTS (SELECT 1 FROM entry WHERE hash = NEW.hash)
         BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;",
    )?;
    forbid_changes(connection, "entry")?;

    Table::ALL.into_iter().filter(|table| table.definition().since == 1).try_for_each(|table| make(connection, table))
}

/// Makes a table whose rows follow from the entries.
fn make(connection: &Connection, table: Table) -> rusqlite::Result<()> {
    make_table(connection, table)?;
    make_append_only(connection, table)
}

fn make_table(connection: &Connection, table: Table) -> rusqlite::Result<()> {
    let Definition { name, columns, unique, keys, .. } = table.definition();
    let mut sql = format!(
        "CREATE TABLE {name} (entry INTEGER NOT NULL REFERENCES entry (number), n INTEGER NOT NULL, {columns},
             PRIMARY KEY (entry, n)) STRICT, WITHOUT ROWID;"
    );
    for key in unique {
        sql += &format!("CREATE UNIQUE INDEX {name}_by_{} ON {name} ({key});", key.replace(", ", "_"));
    }
    for key in keys {
        sql += &format!("CREATE INDEX {name}_by_{} ON {name} ({key});", key.replace(", ", "_"));
    }
    connection.execute_batch(&sql)
}

fn make_append_only(connection: &Connection, table: Table) -> rusqlite::Result<()> {
    let Definition { name, unique, .. } = table.definition();
    make_insert_trigger(connection, name, unique)?;
    forbid_changes(connection, name)
}

fn make_insert_trigger(connection: &Connection, name: &str, unique: &[&str]) -> rusqlite::Result<()> {
    let mut taken = format!("NEW.entry IS NOT (SELECT max(number) FROM entry) OR {}", exists(name, "entry, n"));
    for key in unique {
        taken += &format!(" OR {}", exists(name, key));
    }
    connection.execute_batch(&format!(
        "CREATE TRIGGER {name}_insert BEFORE INSERT ON {name} WHEN {taken}
             BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;"
    ))
}

/// Schema 2: working state.
fn second(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE upload (
             stream TEXT NOT NULL, sequence INTEGER NOT NULL, manifest TEXT NOT NULL, repository TEXT NOT NULL,
             blob TEXT NOT NULL, location TEXT NOT NULL, taken INTEGER NOT NULL,
             PRIMARY KEY (stream, sequence, manifest, repository, blob)) STRICT, WITHOUT ROWID;",
    )
}

/// Schema 3: the tree over the entries, signed heads, stages and approvals. Of what there was, the tree and the ledger's key
/// have rows in the new tables.
fn third(connection: &Connection) -> rusqlite::Result<()> {
    let tables = || Table::ALL.into_iter().filter(|table| table.definition().since == 3);
    tables().try_for_each(|table| make_table(connection, table))?;
    let mut edge = Edge::default();
    let mut entries = connection.prepare("SELECT number, bytes FROM entry ORDER BY number")?;
    let mut entries = entries.query([])?;
    while let Some(row) = entries.next()? {
        let (number, bytes): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let key = match Entry::parse(&bytes).map(|entry| entry.act) {
            Ok(Act::Created(created)) => created.ledger_key,
            _ => None,
        };
        for (level, node) in (0_i64..).zip(&edge.push(tree::leaf(&bytes))) {
            connection.prepare_cached("INSERT INTO node VALUES (?1, ?2, ?3)")?.execute((
                number,
                level,
                node.as_bytes(),
            ))?;
        }
        if let Some(key) = key {
            connection.execute("INSERT INTO ledger_key VALUES (?1, 0, ?2)", (number, key.as_str()))?;
        }
    }
    tables().try_for_each(|table| make_append_only(connection, table))?;
    // A second bundle under one number needs an override, and that is the ledger's rule to check, not the table's.
    connection.execute_batch("DROP INDEX bundle_by_stream_sequence; DROP TRIGGER bundle_insert;")?;
    connection.execute_batch("CREATE INDEX bundle_by_stream_sequence ON bundle (stream, sequence, entry);")?;
    make_insert_trigger(connection, "bundle", &["id"])?;
    connection.execute_batch(
        "CREATE TABLE head (only INTEGER PRIMARY KEY CHECK (only = 1), statement BLOB NOT NULL,
             certificate BLOB NOT NULL) STRICT;
         CREATE TABLE kept (bundle TEXT NOT NULL, name TEXT NOT NULL, bytes BLOB NOT NULL,
             PRIMARY KEY (bundle, name)) STRICT;
         CREATE TABLE shown (number INTEGER NOT NULL, hash BLOB NOT NULL, known TEXT NOT NULL,
             PRIMARY KEY (number, hash, known)) STRICT, WITHOUT ROWID;",
    )
}

/// `EXISTS (...)`: a row with the new row's key is there already.
fn exists(table: &str, key: &str) -> String {
    let same: Vec<_> = key.split(", ").map(|column| format!("{column} = NEW.{column}")).collect();
    format!("EXISTS (SELECT 1 FROM {table} WHERE {})", same.join(" AND "))
}

fn forbid_changes(connection: &Connection, table: &str) -> rusqlite::Result<()> {
    for what in ["UPDATE", "DELETE"] {
        connection.execute_batch(&format!(
            "CREATE TRIGGER {table}_{} BEFORE {what} ON {table}
             BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;",
            what.to_lowercase()
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_trusts_no_file() {
        let place = crate::common::place();
        trusts_no_file(&place.open().connection);
        trusts_no_file(&place.read().connection);
    }

    fn trusts_no_file(connection: &Connection) {
        for (setting, expected) in [
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
            (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
        ] {
            assert_eq!(connection.db_config(setting).expect("read"), expected, "{setting:?}");
        }
        let longest = LIMITS.ledger_entry as i32 + 1024;
        assert_eq!(connection.limit(Limit::SQLITE_LIMIT_LENGTH).expect("read"), longest);
        for (name, expected) in
            [("recursive_triggers", 1), ("cell_size_check", 1), ("synchronous", 2), ("busy_timeout", 5000)]
        {
            let found: i64 = connection.pragma_query_value(None, name, |row| row.get(0)).expect("read");
            assert_eq!(found, expected, "{name}");
        }
    }
}

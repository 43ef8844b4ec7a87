//! What is remembered of a receive that is under way, so that it can be continued: how far uploads have come,
//! the small files of bundles that wait for their promotion, heads that the ledger was shown.
//!
//! None of it is part of the record: nothing here is hashed, [`Ledger::verify`] does not read it, and any program may
//! change or delete it. So whoever reads it must not believe it: a registry is asked whether it still has an upload. It
//! goes away in the transaction that records the bundle, or its refusal.

use manifest_schema::Digest;
use rusqlite::{Connection, OptionalExtension, Params, TransactionBehavior};

use crate::Ledger;
use crate::acts::Subject;
use crate::error::{Error, database};

impl Ledger {
    /// Where an upload of a blob to a repository can be continued: its location at the registry, and how many bytes the
    /// registry had taken.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn upload_mark(
        &self,
        subject: &Subject,
        repository: &str,
        blob: &Digest,
    ) -> Result<Option<(String, u64)>, Error> {
        let (stream, sequence, manifest) = key(subject);
        let found = self.connection.prepare_cached(UPLOAD).and_then(|mut statement| {
            let parameters = (stream, sequence, manifest, repository, blob.to_string());
            statement.query_row(parameters, |row| Ok((row.get(0)?, row.get::<_, i64>(1)?))).optional()
        });
        Ok(self.sql(found)?.and_then(|(location, taken)| Some((location, u64::try_from(taken).ok()?))))
    }

    /// Notes where an upload can be continued, or with `None` that it cannot.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Busy`], [`Error::Full`], [`Error::Database`].
    pub fn note_upload(
        &self,
        subject: &Subject,
        repository: &str,
        blob: &Digest,
        mark: Option<(&str, u64)>,
    ) -> Result<(), Error> {
        let (stream, sequence, manifest) = key(subject);
        let blob = blob.to_string();
        match mark {
            Some((location, taken)) => self.note(
                "INSERT OR REPLACE INTO upload VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                (stream, sequence, manifest, repository, blob, location, taken.cast_signed()),
            ),
            None => self.note(
                "DELETE FROM upload
                 WHERE stream = ?1 AND sequence = ?2 AND manifest = ?3 AND repository = ?4 AND blob = ?5",
                (stream, sequence, manifest, repository, blob),
            ),
        }
    }

    pub(crate) fn note(&self, sql: &str, parameters: impl Params) -> Result<(), Error> {
        if self.lock.is_none() {
            return Err(Error::ReadOnly(self.path.clone()));
        }
        self.sql(self.connection.prepare_cached(sql).and_then(|mut statement| statement.execute(parameters)))?;
        Ok(())
    }

    /// Keeps small files of a bundle that waits for its promotion, by their names. They are believed as little as anything
    /// else here: who reads them checks them again.
    ///
    /// # Errors
    /// What `files` returns; [`Error::ReadOnly`], [`Error::Busy`], [`Error::Full`], [`Error::Database`]. Nothing is kept then.
    pub fn keep<E: From<Error>>(
        &mut self,
        subject: &Subject,
        files: impl FnOnce(&mut dyn FnMut(&str, &[u8]) -> Result<(), Error>) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = &self.path;
        if self.lock.is_none() {
            return Err(Error::ReadOnly(path.clone()).into());
        }
        let sql = |e| database(path, e);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
        let bundle = subject.bundle.to_string();
        files(&mut |name, bytes| {
            let insert = "INSERT OR REPLACE INTO kept (bundle, name, bytes) VALUES (?1, ?2, ?3)";
            let inserted =
                transaction.prepare_cached(insert).and_then(|mut insert| insert.execute((&bundle, name, bytes)));
            inserted.map(|_| ()).map_err(sql)
        })?;
        Ok(transaction.commit().map_err(sql)?)
    }

    /// A small file that was kept for a bundle.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn kept(&self, subject: &Subject, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let sql = "SELECT bytes FROM kept WHERE bundle = ?1 AND name = ?2";
        let parameters = (subject.bundle.to_string(), name);
        let found = self.connection.prepare_cached(sql);
        self.sql(found.and_then(|mut select| select.query_row(parameters, |row| row.get(0)).optional()))
    }
}

const UPLOAD: &str = "SELECT location, taken FROM upload
     WHERE stream = ?1 AND sequence = ?2 AND manifest = ?3 AND repository = ?4 AND blob = ?5";

/// Forgets the working state of a bundle.
pub(crate) fn forget(connection: &Connection, subject: &Subject) -> rusqlite::Result<()> {
    let sql = "DELETE FROM upload WHERE stream = ?1 AND sequence = ?2 AND manifest = ?3";
    connection.prepare_cached(sql)?.execute(key(subject))?;
    forget_kept(connection, subject)
}

fn forget_kept(connection: &Connection, subject: &Subject) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM kept WHERE bundle = ?1")?.execute([subject.bundle.to_string()]).map(|_| ())
}

/// Forgets the working state of a bundle that is in production, and of all before it in the stream: those cannot be
/// continued any more.
pub(crate) fn forget_up_to(connection: &Connection, subject: &Subject) -> rusqlite::Result<()> {
    let (stream, sequence, _) = key(subject);
    let sql = "DELETE FROM upload WHERE stream = ?1 AND sequence <= ?2";
    connection.prepare_cached(sql)?.execute((stream, sequence))?;
    forget_kept(connection, subject)
}

fn key(subject: &Subject) -> (&str, i64, String) {
    (subject.stream.as_str(), subject.sequence.get().cast_signed(), subject.manifest.to_string())
}

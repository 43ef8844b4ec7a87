//! Making a ledger, and opening one.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use manifest_schema::OutsideText;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use crate::acts::Created;
use crate::append::write_entry;
use crate::entry::{Act, Entry, EntryType};
use crate::error::{Error, Fault, database};
use crate::head::Custody;
use crate::names::{EntryHash, EntryNumber, LedgerId};
use crate::place::{WriteLock, beside, io, must_be_local};
use crate::query::stored;
use crate::{Ledger, Stamp, custody, query, schema};

impl Ledger {
    /// Makes a new ledger. It appears under its name complete, or not at all. The key that signs its heads is the one in
    /// `custody`; without, nothing is signed.
    ///
    /// # Errors
    /// [`Error::Exists`] if the file, or anything that SQLite would take for a part of it, is there already;
    /// [`Error::NetworkFileSystem`], [`Error::Full`], [`Error::Io`], [`Error::Database`].
    pub fn create(path: &Path, at: &Stamp, facts: Created, custody: Option<&Custody>) -> Result<LedgerId, Error> {
        let (folder, path) = free(path)?;
        must_be_local(&folder)?;
        if let Some(custody) = custody
            && fs::symlink_metadata(&custody.second).is_ok()
        {
            return Err(Error::Exists(custody.second.clone()));
        }
        let id = LedgerId::generate();
        let new = Unfinished(beside(&path, &format!(".{id}.new")));
        let facts = Created { ledger_key: custody.map(|custody| custody.signer.fingerprint()), ..facts };
        let statement = fill(&new.0, id, at, facts, custody)?;
        publish(&new.0, &path)?;
        File::open(&folder).and_then(|f| f.sync_all()).map_err(io(&folder, "the folder cannot be synchronised"))?;
        if let (Some(custody), Some(statement)) = (custody, statement) {
            custody::write_second(&custody.second, &statement)?;
        }
        Ok(id)
    }

    /// Opens a ledger to write to it. It stays locked against other writers until the value is dropped.
    ///
    /// # Errors
    /// [`Error::Busy`] if another program writes; [`Error::Tampered`] if a table or trigger is not as it should be, the
    /// last entry is not what was written or its head is not signed; [`Error::NeedsKey`], [`Error::OtherKey`];
    /// [`Error::Behind`], [`Error::Forked`], [`Error::NoSecond`], [`Error::BadSecond`] if it may not be what it was; and
    /// those of [`Ledger::open_read_only`].
    pub fn open(path: &Path, expected: Option<&LedgerId>, custody: Option<Custody>) -> Result<Self, Error> {
        let mut ledger = Self::open_unchecked(path, expected, custody)?;
        ledger.check_custody()?;
        Ok(ledger)
    }

    /// Opens a ledger to write to it, whatever heads it was shown.
    pub(crate) fn open_unchecked(
        path: &Path,
        expected: Option<&LedgerId>,
        custody: Option<Custody>,
    ) -> Result<Self, Error> {
        let path = existing(path)?;
        let lock = WriteLock::take(&path)?;
        let mut ledger = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, expected)?;
        ledger.lock = Some(lock);
        ledger.custody = custody;
        ledger.prepare_to_write()?;
        Ok(ledger)
    }

    /// Opens a ledger to read it, beside a program that writes to it if need be.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NotAFile`], [`Error::NotALedger`], [`Error::OtherLedger`] if its id is not the one
    /// expected, [`Error::Newer`], [`Error::NetworkFileSystem`], [`Error::Damaged`], [`Error::Database`];
    /// [`Error::Tampered`] if the first entry is not what was written.
    pub fn open_read_only(path: &Path, expected: Option<&LedgerId>) -> Result<Self, Error> {
        connect(existing(path)?, OpenFlags::SQLITE_OPEN_READ_ONLY, expected)
    }

    fn prepare_to_write(&mut self) -> Result<(), Error> {
        if !self.connection.is_readonly("main").is_ok_and(|r| !r) {
            return Err(Error::ReadOnly(self.path.clone()));
        }
        let mode: String = self.sql(self.connection.pragma_query_value(None, "journal_mode", |r| r.get(0)))?;
        if mode != "wal" {
            let mode: String =
                self.sql(self.connection.pragma_update_and_check(None, "journal_mode", "wal", |r| r.get(0)))?;
            if mode != "wal" {
                let reason = OutsideText::new(format!("journal mode is `{mode}`, expected `wal`"));
                return Err(Error::Database { path: self.path.clone(), reason });
            }
        }
        let version = version(&self.connection, &self.path)?;
        if version < schema::VERSION {
            let path = &self.path;
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(|e| database(path, e))?;
            schema::migrate(&transaction, version).map_err(|e| database(path, e))?;
            transaction.commit().map_err(|e| database(path, e))?;
        }
        if let Some((name, state)) = self.sql(schema::difference(&self.connection))? {
            return Err(self.tampered(Fault::Schema { name: OutsideText::new(name), state }));
        }
        // What the next entry will name as its predecessor must be what was written.
        let head = self.head()?;
        stored(self, head.number)?;
        Ok(())
    }
}

/// The real folder and path of a file that is to be made, if nothing is there.
pub(crate) fn free(path: &Path) -> Result<(PathBuf, PathBuf), Error> {
    let name = path.file_name().ok_or_else(|| Error::NotAFile(path.into()))?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let folder = fs::canonicalize(folder).map_err(io(folder, "the folder cannot be opened"))?;
    let path = folder.join(name);
    // A write-ahead log that an earlier ledger left behind would be played into the new one.
    for taken in [path.clone(), beside(&path, "-wal"), beside(&path, "-shm"), beside(&path, "-journal")] {
        if fs::symlink_metadata(&taken).is_ok() {
            return Err(Error::Exists(taken));
        }
    }
    Ok((folder, path))
}

/// The file's real path, if a ledger could be there.
fn existing(path: &Path) -> Result<PathBuf, Error> {
    let real = fs::canonicalize(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::Missing(path.into()),
        _ => io(path, "cannot be opened")(e),
    })?;
    if !fs::metadata(&real).map_err(io(&real, "cannot be examined"))?.is_file() {
        return Err(Error::NotAFile(path.into()));
    }
    must_be_local(&real)?;
    Ok(real)
}

fn connect(path: PathBuf, access: OpenFlags, expected: Option<&LedgerId>) -> Result<Ledger, Error> {
    let flags =
        access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let open = |name: &Path, flags| {
        let connection = configured(name, flags)?;
        let version = version(&connection, &path)?;
        Ok::<_, Error>((connection, version))
    };
    let mut opened = open(&path, flags);
    let cannot_open = matches!(opened, Err(Error::Database { .. } | Error::ReadOnly(_)));
    if access == OpenFlags::SQLITE_OPEN_READ_ONLY && cannot_open && nothing_in_wal(&path) {
        // On media that cannot be written, SQLite cannot make the files that WAL mode needs; and where nothing can be
        // written and no log is waiting, the file cannot change either.
        opened = open(&immutable_uri(&path), flags | OpenFlags::SQLITE_OPEN_URI).or(opened);
    }
    let (connection, found) = opened?;
    assemble(connection, path, found, access == OpenFlags::SQLITE_OPEN_READ_ONLY, expected)
}

/// Opens a finished copy that nobody writes to, wherever it lies.
pub(crate) fn open_copy(path: &Path, expected: LedgerId) -> Result<Ledger, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE
        | OpenFlags::SQLITE_OPEN_URI;
    let connection = configured(&immutable_uri(path), flags)?;
    let found = version(&connection, path)?;
    assemble(connection, path.into(), found, true, Some(&expected))
}

/// A ledger of a connection, if it is one.
fn assemble(
    connection: Connection,
    path: PathBuf,
    found: i64,
    read_only: bool,
    expected: Option<&LedgerId>,
) -> Result<Ledger, Error> {
    if found > schema::VERSION {
        return Err(Error::Newer { path, found, known: schema::VERSION });
    }
    if found < schema::VERSION && read_only {
        return Err(Error::Older { path, found, needed: schema::VERSION });
    }
    let id = LedgerId::generate();
    let mut ledger = Ledger { connection, path, id, lock: None, custody: None, unsaved: None };
    ledger.id = ledger.first_entry()?.ledger;
    match expected {
        Some(expected) if *expected != ledger.id => {
            Err(Error::OtherLedger { path: ledger.path, expected: *expected, found: ledger.id })
        }
        _ => Ok(ledger),
    }
}

fn configured(path: &Path, flags: OpenFlags) -> Result<Connection, Error> {
    let connection = Connection::open_with_flags(path, flags).map_err(|e| database(path, e))?;
    schema::configure(&connection).map_err(|e| database(path, e))?;
    Ok(connection)
}

fn nothing_in_wal(path: &Path) -> bool {
    fs::metadata(beside(path, "-wal")).map_or(true, |m| m.len() == 0)
}

/// `file:<path>?immutable=1` (sqlite.org/uri.html), with every unusual byte encoded.
fn immutable_uri(path: &Path) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            b if b.is_ascii_alphanumeric() => uri.push(char::from(*b)),
            b => uri += &format!("%{b:02X}"),
        }
    }
    PathBuf::from(uri + "?immutable=1")
}

/// The schema's number, of a file that is a ledger.
fn version(connection: &Connection, path: &Path) -> Result<i64, Error> {
    let application = connection.pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0));
    let application = application.map_err(|e| database(path, e))?;
    let version = schema::version(connection).map_err(|e| database(path, e))?;
    if application != schema::APPLICATION_ID || version < 1 {
        let reason = OutsideText::new(format!("a database with application id {application}, schema {version}"));
        return Err(Error::NotALedger { path: path.into(), reason });
    }
    Ok(version)
}

impl Ledger {
    fn first_entry(&self) -> Result<Entry, Error> {
        let found = self
            .connection
            .query_row("SELECT number FROM entry ORDER BY number LIMIT 1", [], |r| r.get::<_, i64>(0))
            .optional();
        match self.sql(found)? {
            None => return Err(self.tampered(Fault::Empty)),
            Some(1) => {}
            Some(found) => return Err(self.tampered(Fault::Gap { expected: EntryNumber::FIRST, found })),
        }
        let first = stored(self, EntryNumber::FIRST)?.ok_or_else(|| self.tampered(Fault::Empty))?;
        if !matches!(first.entry.act, Act::Created(_)) {
            let reason = "the first entry does not create the ledger";
            return Err(self.tampered(Fault::Misplaced { number: EntryNumber::FIRST, reason }));
        }
        Ok(first.entry)
    }
}

/// A file that goes away unless it gets its final name.
pub(crate) struct Unfinished(pub(crate) PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(beside(&self.0, suffix));
        }
    }
}

/// Writes a whole ledger of one entry, and closes it.
fn fill(
    path: &Path,
    id: LedgerId,
    at: &Stamp,
    facts: Created,
    custody: Option<&Custody>,
) -> Result<Option<Vec<u8>>, Error> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    drop(file.map_err(io(path, "cannot be made"))?);
    let sql = |e| database(path, e);
    let mut connection = configured(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())).map_err(sql)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
    schema::migrate(&transaction, 0).map_err(sql)?;
    let first = Entry {
        kind: EntryType::V1,
        ledger: id,
        number: EntryNumber::FIRST,
        previous: EntryHash::NONE,
        time: at.now,
        tool: at.tool.clone(),
        by: at.by.clone(),
        act: Act::Created(facts),
    };
    write_entry(&transaction, path, &first)?;
    let head = query::head(&transaction, path, id)?;
    let statement = custody.map(|custody| custody::sign(&transaction, path, custody, head)).transpose()?;
    transaction.commit().map_err(sql)?;
    // Closing would move the log into the file as well, and synchronise it, but not say if that failed.
    let moved = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)).map_err(sql)?;
    if moved != 0 {
        return Err(Error::Busy { path: path.into(), process: None });
    }
    connection.close().map_err(|(_, e)| database(path, e))?;
    Ok(statement)
}

/// Gives the finished file its name, unless something has that name.
pub(crate) fn publish(new: &Path, path: &Path) -> Result<(), Error> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, new, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(Error::Exists(path.into())),
        // File systems without it have hard links, which do not replace either.
        Err(Errno::INVAL | Errno::NOSYS) => fs::hard_link(new, path).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => Error::Exists(path.into()),
            _ => io(path, "cannot be given its name")(e),
        }),
        Err(e) => Err(io(path, "cannot be given its name")(e.into())),
    }
}

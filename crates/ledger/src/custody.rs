//! The ledger key and the second file: heads are signed, and a ledger that does not have what it once had is not written to.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use manifest_schema::OutsideText;
use rusqlite::{Connection, OptionalExtension};

use crate::acts::{Adopted, KeyChanged};
use crate::entry::Act;
use crate::error::{Error, Fault, database};
use crate::head::{
    self, Checker, Custody, Head, HeadStanding, HeadStatement, HeadType, KeyChange, KeyChangeType, Known, LaterKey,
    Mark, Signer,
};
use crate::names::{EntryHash, EntryNumber, Fingerprint};
use crate::place::{beside, io};
use crate::{Ledger, Stamp, query, verify};

/// A signed head as it is kept in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptHead {
    /// The statement with its signature, as a file.
    pub statement: Vec<u8>,
    /// The armored certificate of the key that signed.
    pub certificate: Vec<u8>,
}

pub(crate) const HEAD: &str = "SELECT statement, certificate FROM head WHERE only = 1";

/// The head that is kept; `None` if nothing was ever signed.
pub(crate) fn kept(connection: &Connection) -> rusqlite::Result<Option<KeptHead>> {
    let row = |r: &rusqlite::Row<'_>| Ok(KeptHead { statement: r.get(0)?, certificate: r.get(1)? });
    connection.prepare_cached(HEAD)?.query_row([], row).optional()
}

/// Signs a state, and keeps it in the database in place of the one before.
pub(crate) fn sign(connection: &Connection, path: &Path, custody: &Custody, head: Head) -> Result<Vec<u8>, Error> {
    let given = custody.signer.fingerprint();
    let key = current_key(connection).map_err(|e| database(path, e))?;
    if key.as_ref() != Some(&given) {
        return Err(Error::OtherKey { path: path.into(), expected: key, given });
    }
    let failed = |reason| Error::Key { key: given.clone(), reason };
    let said = HeadStatement {
        kind: HeadType::V1,
        head,
        key: given.clone(),
        marks: query::marks(connection).map_err(|e| database(path, e))?,
    };
    let statement = custody.signer.sign(&said.to_bytes()).map_err(failed)?;
    let certificate = custody.signer.certificate().map_err(failed)?;
    // A head that nobody will believe is not kept: the key may have expired since it was unlocked.
    if head::read(&statement, &certificate, custody.checker.as_ref()).map_err(failed)? != said {
        return Err(failed(OutsideText::new("it signed something else")));
    }
    connection
        .prepare_cached("INSERT OR REPLACE INTO head (only, statement, certificate) VALUES (1, ?1, ?2)")
        .and_then(|mut insert| insert.execute((&statement, &certificate)))
        .map_err(|e| database(path, e))?;
    Ok(statement)
}

/// Puts a signed head into the second file, whole or not at all.
pub(crate) fn write_second(path: &Path, statement: &[u8]) -> Result<(), Error> {
    let new = beside(path, ".new");
    let write = || -> std::io::Result<()> {
        let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o644).custom_flags(flags).open(&new)?;
        file.write_all(statement)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    };
    write().map_err(io(path, "the second file of the ledger's head cannot be written"))
}

fn read_second(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let mut bytes = Vec::new();
    // A link would be replaced by what is written next, and a pipe would keep us waiting.
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed();
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => {
            let read = file.take(head::STATEMENT + 1).read_to_end(&mut bytes);
            read.map_err(io(path, "the second file of the ledger's head cannot be read"))?;
            Ok(Some(bytes))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io(path, "the second file of the ledger's head cannot be read")(e)),
    }
}

/// The certificate of the key that signs heads now; none if none does.
pub(crate) fn current_key(connection: &Connection) -> rusqlite::Result<Option<Fingerprint>> {
    key_at(connection, i64::MAX)
}

/// The certificate of the key that signed heads when an entry was the last.
fn key_at(connection: &Connection, entry: i64) -> rusqlite::Result<Option<Fingerprint>> {
    let found: Option<String> = connection.prepare_cached(KEY)?.query_row([entry], |r| r.get(0)).optional()?;
    let wrong = |e| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(e));
    found.map(|text| text.parse().map_err(wrong)).transpose()
}

pub(crate) const KEY: &str = "SELECT fingerprint FROM ledger_key WHERE entry <= ?1 ORDER BY entry DESC, n DESC LIMIT 1";

/// The head that is kept, checked against the entries.
pub(crate) fn checked_head(
    ledger: &Ledger,
    view: &Connection,
    checker: &dyn Checker,
) -> Result<(KeptHead, HeadStatement), Error> {
    let head = query::head(view, &ledger.path, ledger.id)?;
    let key = ledger.sql(current_key(view))?.ok_or_else(|| Error::NotSigned(ledger.path.clone()))?;
    let statement = ledger.sql(check_kept(view, &head, &key, checker))?.map_err(|fault| ledger.tampered(fault))?;
    // It was there to be checked.
    let kept = ledger.sql(kept(view))?.ok_or_else(|| Error::NotSigned(ledger.path.clone()))?;
    Ok((kept, statement))
}

/// Checks the head that is kept against the entries.
pub(crate) fn check_kept(
    connection: &Connection,
    head: &Head,
    key: &Fingerprint,
    checker: &dyn Checker,
) -> rusqlite::Result<Result<HeadStatement, Fault>> {
    let fault = |reason: String| Ok(Err(Fault::Head { number: head.number, reason: OutsideText::new(reason) }));
    let Some(kept) = kept(connection)? else { return fault("there is none".into()) };
    let statement = match head::read(&kept.statement, &kept.certificate, checker) {
        Ok(statement) => statement,
        Err(reason) => return fault(reason.raw().to_string()),
    };
    if statement.key != *key {
        return fault(format!("it is signed by {}, expected {key}", statement.key));
    }
    if statement.head != *head {
        return fault(format!("it is of entry {} with hash {}", statement.head.number, statement.head.hash));
    }
    if statement.marks != query::marks(connection)? {
        return fault("the streams have not come as far as it says".into());
    }
    Ok(Ok(statement))
}

impl Ledger {
    /// What the ledger has to say of a head.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn standing_of(&self, head: &Head) -> Result<HeadStanding, Error> {
        if head.ledger != self.id {
            return Ok(HeadStanding::Foreign);
        }
        let last = self.head()?.number;
        self.sql(standing(&self.connection, head.number, &head.hash, last))
    }

    /// The signed head that the ledger keeps.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn signed_head(&self) -> Result<Option<KeptHead>, Error> {
        self.sql(kept(&self.connection))
    }

    /// The signed head that the ledger keeps, if it is that of the last entry and its key is the one that the entries name.
    ///
    /// # Errors
    /// [`Error::NotSigned`]; [`Error::Tampered`], [`Error::Database`], [`Error::Damaged`].
    pub fn checked_head(&self, checker: &dyn Checker) -> Result<(KeptHead, HeadStatement), Error> {
        let view = self.sql(self.connection.unchecked_transaction())?;
        checked_head(self, &view, checker)
    }

    /// The certificates of the ledger key and of those before it, armored, as the entries that changed the key have them, and
    /// as it lies beside the signed head. Which of them count, [`Ledger::keys`] says.
    ///
    /// # Errors
    /// [`Error::Tampered`], [`Error::Database`], [`Error::Damaged`].
    pub fn certificates(&self) -> Result<Vec<u8>, Error> {
        let mut certificates = Vec::new();
        for at in self.keys()? {
            if let Some(Act::KeyChanged(change)) = query::stored(self, at.0)?.map(|s| s.entry.act) {
                certificates.extend_from_slice(change.certificates.raw().as_bytes());
            }
        }
        if let Some(kept) = self.signed_head()? {
            certificates.extend(kept.certificate);
        }
        Ok(certificates)
    }

    /// Notes in a ledger a head that it was shown and does not have. No key is needed: it can only stop what others write.
    ///
    /// # Errors
    /// As [`Ledger::note_shown`], and those of [`Ledger::open`] that are not about keys and heads.
    pub fn refuse_from_now_on(path: &Path, expected: Option<&crate::LedgerId>, known: &Known) -> Result<(), Error> {
        Self::open_unchecked(path, expected, None)?.note_shown(known)
    }

    /// Signs the state that the ledger has once more, for a certificate that says more than before.
    ///
    /// # Errors
    /// [`Error::ReadOnly`]; [`Error::Key`], [`Error::Busy`], [`Error::Full`], [`Error::Io`], [`Error::Database`].
    pub fn sign_head(&mut self) -> Result<(), Error> {
        // Only a ledger that was opened to write to it has a key.
        let custody = self.custody.as_ref().ok_or_else(|| Error::ReadOnly(self.path.clone()))?;
        let path = &self.path;
        let view = self.connection.unchecked_transaction().map_err(|e| database(path, e))?;
        let head = query::head(&view, path, self.id)?;
        let statement = sign(&view, path, custody, head)?;
        view.commit().map_err(|e| database(path, e))?;
        self.unsaved = Some(statement);
        self.save_second()
    }

    /// Notes a head that the ledger was shown and does not have. From then on it refuses to be written to.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Busy`], [`Error::Full`], [`Error::Database`].
    pub fn note_shown(&self, known: &Known) -> Result<(), Error> {
        let text = serde_json::to_string(known).unwrap_or_default();
        self.note(
            "INSERT OR IGNORE INTO shown (number, hash, known) VALUES (?1, ?2, ?3)",
            (i64::from(known.head.number), known.head.hash.as_bytes(), text),
        )
    }

    /// The heads that the ledger was shown and lacks: it is not written to until somebody adopts it.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn lacking(&self) -> Result<Vec<(Head, HeadStanding)>, Error> {
        let missing = self.missing(self.shown()?)?;
        Ok(missing.into_iter().map(|(known, standing)| (known.head, standing)).collect())
    }

    /// Whether the ledger is what its key signed, and has every head that it was shown. A second file that is behind is
    /// brought up to date: the program may have died before it could do that.
    pub(crate) fn check_custody(&mut self) -> Result<(), Error> {
        self.check_signed()?;
        let Some(custody) = &self.custody else { return Ok(()) };
        let last = self.head()?.number;
        let mut missing = self.missing(self.shown()?)?;
        let second = self.second(custody, &[])?;
        match &second {
            Some((_, known)) => missing.extend(self.missing(vec![known.clone()])?),
            None if last == EntryNumber::FIRST => {}
            None => return Err(Error::NoSecond { path: self.path.clone(), second: custody.second.clone() }),
        }
        match missing.first() {
            Some((shown, HeadStanding::Forked | HeadStanding::Foreign)) => {
                return Err(Error::Forked { path: self.path.clone(), head: Box::new(shown.head) });
            }
            Some((shown, _)) => {
                return Err(Error::Behind { path: self.path.clone(), head: Box::new(shown.head), last });
            }
            None => {}
        }
        let kept = self.sql(kept(&self.connection))?.map(|kept| kept.statement);
        self.unsaved = kept.filter(|kept| second.is_none_or(|(second, _)| second != *kept));
        self.save_second()
    }

    /// Whether the ledger is what its key signed, and that key was given.
    fn check_signed(&self) -> Result<(), Error> {
        let path = || self.path.clone();
        let key = self.sql(current_key(&self.connection))?;
        let (key, custody) = match (key, &self.custody) {
            (Some(key), Some(custody)) if key == custody.signer.fingerprint() => (key, custody),
            (Some(key), None) => return Err(Error::NeedsKey { path: path(), key }),
            (expected, Some(custody)) => {
                return Err(Error::OtherKey { path: path(), expected, given: custody.signer.fingerprint() });
            }
            (None, None) => return Ok(()),
        };
        if self.is_unsigned()? {
            return Ok(());
        }
        let head = self.head()?;
        let kept = self.sql(check_kept(&self.connection, &head, &key, custody.checker.as_ref()))?;
        kept.map(|_| ()).map_err(|fault| self.tampered(fault))
    }

    /// A ledger of before heads were signed that has its first entry only: nothing can have been lost or made up.
    fn is_unsigned(&self) -> Result<bool, Error> {
        Ok(self.head()?.number == EntryNumber::FIRST && self.sql(kept(&self.connection))?.is_none())
    }

    /// Writes what the second file lacks.
    pub(crate) fn save_second(&mut self) -> Result<(), Error> {
        if let (Some(custody), Some(statement)) = (&self.custody, &self.unsaved) {
            write_second(&custody.second, statement)?;
        }
        self.unsaved = None;
        Ok(())
    }

    /// Of these heads those that the ledger does not have.
    fn missing(&self, heads: Vec<Known>) -> Result<Vec<(Known, HeadStanding)>, Error> {
        let mut missing = Vec::new();
        for known in heads {
            let standing = self.standing_of(&known.head)?;
            if !matches!(standing, HeadStanding::Has | HeadStanding::Adopted) {
                missing.push((known, standing));
            }
        }
        Ok(missing)
    }

    /// The second file, and what it says: a head signed by the key that then signed, or by one that came later.
    fn second(&self, custody: &Custody, later: &[LaterKey]) -> Result<Option<(Vec<u8>, Known)>, Error> {
        let Some(bytes) = read_second(&custody.second)? else { return Ok(None) };
        let wrong = |reason| Error::BadSecond { second: custody.second.clone(), reason };
        let failed = |reason| Error::Key { key: custody.signer.fingerprint(), reason };
        let mut certificates = custody.signer.certificate().map_err(failed)?;
        certificates.extend(self.certificates()?);
        certificates.extend(later.iter().flat_map(|later| &later.certificate));
        let statement = head::read(&bytes, &certificates, custody.checker.as_ref()).map_err(wrong)?;
        let HeadStatement { head, key, marks, .. } = statement;
        // The same key may sign for another ledger, whose streams are not those of this one.
        if head.ledger != self.id {
            return Err(wrong(OutsideText::new(format!("it is of ledger {}", head.ledger))));
        }
        let then = self.sql(key_at(&self.connection, head.number.into()))?;
        if then.as_ref() != Some(&key) && later.iter().all(|later| later.key != key) {
            return Err(wrong(OutsideText::new(format!("{key} did not sign then"))));
        }
        Ok(Some((bytes, Known { head, marks })))
    }

    fn shown(&self) -> Result<Vec<Known>, Error> {
        let read = self
            .connection
            .prepare_cached("SELECT known FROM shown ORDER BY number")
            .and_then(|mut s| s.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>());
        let wrong = |e: serde_json::Error| {
            let reason = OutsideText::new(format!("a head that was shown: {e}"));
            Error::Database { path: self.path.clone(), reason }
        };
        self.sql(read)?.iter().map(|text| serde_json::from_str(text).map_err(wrong)).collect()
    }

    /// Opens a ledger that lacks heads it was shown, and goes on with it: an entry says which, how far streams had come by
    /// them, and why. `later` are keys that may have signed the second file though the ledger knows nothing of them.
    ///
    /// # Errors
    /// [`Error::NothingToAdopt`] if it has them all; and as [`Ledger::open`], but that a second file may be lacking. One that
    /// is there must be good: what it says would be lost.
    pub fn adopt(
        path: &Path,
        expected: Option<&crate::LedgerId>,
        custody: Custody,
        at: &Stamp,
        reason: OutsideText,
        later: &[LaterKey],
    ) -> Result<EntryNumber, Error> {
        let mut ledger = Self::open_unchecked(path, expected, Some(custody))?;
        // A ledger of before heads were signed, or one whose head was taken away, is adopted as well.
        let is_signed = ledger.sql(kept(&ledger.connection))?.is_some() || ledger.is_unsigned()?;
        if is_signed {
            ledger.check_signed()?;
        }
        let custody = ledger.custody.as_ref().ok_or_else(|| Error::NothingToAdopt(ledger.path.clone()))?;
        let second = ledger.second(custody, later)?;
        let is_kept = second.is_some() || ledger.head()?.number == EntryNumber::FIRST;
        let known = ledger.shown()?.into_iter().chain(second.map(|(_, known)| known)).collect();
        let missing = ledger.missing(known)?;
        if is_signed && is_kept && missing.is_empty() {
            return Err(Error::NothingToAdopt(ledger.path));
        }
        let mut marks = BTreeMap::new();
        let mut heads = Vec::new();
        for (known, _) in missing {
            let its_own = known.marks.into_iter().filter(|_| known.head.ledger == ledger.id);
            for Mark { stream, sequence } in its_own {
                marks.entry(stream).and_modify(|most| *most = sequence.max(*most)).or_insert(sequence);
            }
            if !heads.contains(&known.head) {
                heads.push(known.head);
            }
        }
        for mark in ledger.sql(query::marks(&ledger.connection))? {
            marks.retain(|stream, sequence| *stream != mark.stream || *sequence > mark.sequence);
        }
        let marks = marks.into_iter().map(|(stream, sequence)| Mark { stream, sequence }).collect();
        ledger.transaction(|open| {
            let entry = open.append(at, Act::Adopted(Adopted { reason, heads, marks }))?;
            open.sql(open.connection.execute("DELETE FROM shown", []))?;
            Ok(entry)
        })
    }

    /// Lets another key sign from here on. Both keys sign the statement of the change; with the entry the new one begins.
    ///
    /// `join` puts the signatures of two statements over the same document into one statement.
    ///
    /// # Errors
    /// [`Error::SameKey`], [`Error::EarlierKey`], [`Error::Key`]; and as [`Ledger::refused`].
    pub fn change_key(
        &mut self,
        at: &Stamp,
        new: Box<dyn Signer>,
        join: impl FnOnce(&[u8], &[u8]) -> Result<Vec<u8>, OutsideText>,
    ) -> Result<EntryNumber, Error> {
        let to = new.fingerprint();
        let old = self.custody.as_ref().ok_or_else(|| Error::ReadOnly(self.path.clone()))?;
        let from = old.signer.fingerprint();
        if from == to {
            return Err(Error::SameKey { key: to });
        }
        // Heads say which key signed, and not which time of a key.
        if self.keys()?.iter().any(|(_, key)| *key == to) {
            return Err(Error::EarlierKey { key: to });
        }
        let change =
            KeyChange { kind: KeyChangeType::V1, after: self.head()?, from: Some(from.clone()), to: to.clone() };
        let document = serde_json::to_vec(&change).unwrap_or_default();
        let by_old = |reason| Error::Key { key: from.clone(), reason };
        let by_new = |reason| Error::Key { key: to.clone(), reason };
        let (one, two) = (old.signer.sign(&document).map_err(by_old)?, new.sign(&document).map_err(by_new)?);
        let file = join(&one, &two).map_err(by_new)?;
        let certificates = [old.signer.certificate().map_err(by_old)?, new.certificate().map_err(by_new)?].concat();
        let text = |bytes: Vec<u8>| OutsideText::whole(String::from_utf8_lossy(&bytes).into_owned());
        let act =
            KeyChanged { from: Some(from.clone()), to: to.clone(), certificates: text(certificates), file: text(file) };
        verify::changes_key(&act, Some(&from), Some(&change.after), old.checker.as_ref()).map_err(by_new)?;
        let old = match &mut self.custody {
            Some(custody) => std::mem::replace(&mut custody.signer, new),
            None => return Err(Error::ReadOnly(self.path.clone())),
        };
        let changed = self.transaction(|open| open.append(at, Act::KeyChanged(act)));
        // If only the second file failed, the new key signs already.
        if changed.is_err()
            && !self.sql(current_key(&self.connection)).is_ok_and(|key| key.as_ref() == Some(&to))
            && let Some(custody) = &mut self.custody
        {
            custody.signer = old;
        }
        changed
    }
}

pub(crate) const HAS: &str = "SELECT count(*) FROM entry WHERE number = ?1 AND hash = ?2";
pub(crate) const ADOPTED: &str = "SELECT count(*) FROM adoption WHERE number = ?1 AND hash = ?2";

/// What a ledger has to say of an entry's hash.
pub(crate) fn standing(
    connection: &Connection,
    number: EntryNumber,
    hash: &EntryHash,
    last: EntryNumber,
) -> rusqlite::Result<HeadStanding> {
    let count = |sql: &str| {
        connection.prepare_cached(sql)?.query_row((i64::from(number), hash.as_bytes()), |row| row.get::<_, i64>(0))
    };
    if count(HAS)? > 0 {
        return Ok(HeadStanding::Has);
    }
    if count(ADOPTED)? > 0 {
        return Ok(HeadStanding::Adopted);
    }
    Ok(if number > last { HeadStanding::Behind } else { HeadStanding::Forked })
}

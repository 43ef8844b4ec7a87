//! Writing: one act, one transaction.
//!
//! The order of a bundle is begun, signing, recorded. A stream's number rises with `signing`, which is written before
//! the first production signature or tag is made: from then on nothing older in the stream is begun or signed, even if
//! the program dies before it can write `recorded`.

use std::path::Path;

use manifest_schema::Timestamp;
use rusqlite::{Connection, TransactionBehavior};

use crate::entry::{Act, Begun, Entry, EntryType, Recorded, Refused, Signing, Subject};
use crate::error::{Error, Refusal, database};
use crate::names::EntryNumber;
use crate::query::{self, Known};
use crate::{Head, Ledger, Stamp, rows, working};

/// How a bundle stands when its import begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a bundle that is recorded already is not imported again"]
pub enum Standing {
    /// Not known until now; its number is reserved.
    New {
        /// The entry that reserves it.
        entry: EntryNumber,
    },
    /// Begun before, not yet recorded.
    Resumed {
        /// When it was begun.
        since: Timestamp,
        /// The entry of that time.
        entry: EntryNumber,
    },
    /// In production already.
    AlreadyRecorded {
        /// When it was recorded.
        at: Timestamp,
        /// The entry of that time.
        entry: EntryNumber,
    },
}

impl Ledger {
    /// Admits a bundle and reserves its stream and sequence for it.
    ///
    /// # Errors
    /// A [`Refusal`]; or [`Error::ReadOnly`], [`Error::Busy`], [`Error::Full`], [`Error::Database`]. In all cases
    /// nothing was written.
    pub fn begin(&mut self, at: &Stamp, begun: Begun) -> Result<Standing, Error> {
        self.transaction(|open| match open.judge(at, &begun.subject)? {
            Some(standing) => Ok(standing),
            None => Ok(Standing::New { entry: open.append(at, Act::Begun(begun))? }),
        })
    }

    /// What [`Ledger::begin`] would say of a bundle, without writing: `None` for one that would be new.
    ///
    /// # Errors
    /// As [`Ledger::begin`]; a ledger that is open for reading only will do.
    pub fn preview(&self, at: &Stamp, subject: &Subject) -> Result<Option<Standing>, Error> {
        let path = &self.path;
        let transaction = self.connection.unchecked_transaction().map_err(|e| database(path, e))?;
        let head = query::head(&transaction, path, self.id)?;
        Open { connection: &transaction, path, head }.judge(at, subject)
    }

    /// Announces the production signatures and tags of a bundle. To be called before the first of them is made, also
    /// where no signatures are made: it is what keeps older bundles of the stream out from here on.
    ///
    /// The same announcement again gives the entry it has already.
    ///
    /// # Errors
    /// [`Error::NotBegun`]; [`Refusal::OtherManifest`] and the like if the subject is not the one begun;
    /// [`Refusal::Rollback`], [`Refusal::ClockBehind`]; and as [`Ledger::begin`].
    pub fn signing(&mut self, at: &Stamp, signing: Signing) -> Result<EntryNumber, Error> {
        self.transaction(|open| {
            let subject = &signing.subject;
            open.known(subject)?.ok_or(Error::NotBegun(subject.bundle))?;
            for (entry, earlier) in open.announcements(subject)? {
                if earlier == signing {
                    return Ok(entry);
                }
            }
            open.refuse_rollback(subject)?;
            open.refuse_clock_behind(at)?;
            open.append(at, Act::Signing(signing))
        })
    }

    /// Records that a bundle is in production, and forgets its working state.
    ///
    /// The same record again gives the entry it has already. A clock that was set back since the last entry does not
    /// keep from recording what has happened: the entry then has the last entry's time.
    ///
    /// # Errors
    /// [`Error::NotBegun`], [`Error::NotAnnounced`], [`Error::SignatureNotAnnounced`], [`Error::RecordedOtherwise`];
    /// [`Refusal::OtherManifest`] and the like if the subject is not the one begun; and as [`Ledger::begin`].
    pub fn record(&mut self, at: &Stamp, recorded: Recorded) -> Result<EntryNumber, Error> {
        self.transaction(|open| {
            let subject = &recorded.subject;
            let bundle = subject.bundle;
            open.known(subject)?.ok_or(Error::NotBegun(bundle))?;
            if let Some((entry, _)) = open.sql(query::recorded(open.connection, &bundle))? {
                return match query::stored_in(open.connection, open.path, entry)?.map(|s| s.entry.act) {
                    Some(Act::Recorded(earlier)) if earlier == recorded => open.forget_up_to(subject).map(|()| entry),
                    _ => Err(Error::RecordedOtherwise { bundle, entry }),
                };
            }
            let announcements = open.announcements(subject)?;
            if announcements.is_empty() {
                return Err(Error::NotAnnounced(bundle));
            }
            let announced: std::collections::HashSet<_> =
                announcements.iter().flat_map(|(_, a)| &a.images).map(|i| (&i.reference, &i.digest)).collect();
            if let Some(s) = recorded.signatures.iter().find(|s| !announced.contains(&(&s.reference, &s.digest))) {
                let (reference, digest) = (Box::new(s.reference.clone()), Box::new(s.digest));
                return Err(Error::SignatureNotAnnounced { bundle, reference, digest });
            }
            open.forget_up_to(subject)?;
            open.append(at, Act::Recorded(recorded))
        })
    }

    /// Records that a bundle was refused after its manifest had been authenticated, and forgets its working state. Each
    /// attempt is an entry.
    ///
    /// # Errors
    /// As [`Ledger::begin`], but no refusal: a clock that was set back gives the entry the last entry's time.
    pub fn refused(&mut self, at: &Stamp, refused: Refused) -> Result<EntryNumber, Error> {
        self.transaction(|open| {
            open.sql(working::forget(open.connection, &refused.subject))?;
            open.append(at, Act::Refused(refused))
        })
    }

    fn transaction<T>(&mut self, act: impl FnOnce(&Open<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let (path, ledger) = (&self.path, self.id);
        if self.lock.is_none() {
            return Err(Error::ReadOnly(path.clone()));
        }
        let sql = |e| database(path, e);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
        let head = query::head(&transaction, path, ledger)?;
        let result = act(&Open { connection: &transaction, path, head })?;
        transaction.commit().map_err(sql)?;
        Ok(result)
    }
}

/// An open transaction, and the last entry before it.
struct Open<'a> {
    connection: &'a Connection,
    path: &'a Path,
    head: Head,
}

impl Open<'_> {
    fn sql<T>(&self, result: rusqlite::Result<T>) -> Result<T, Error> {
        result.map_err(|e| database(self.path, e))
    }

    /// How a bundle stands; `None` if it is new and may be begun.
    fn judge(&self, at: &Stamp, subject: &Subject) -> Result<Option<Standing>, Error> {
        let known = self.known(subject)?;
        if known.is_some()
            && let Some((entry, time)) = self.sql(query::recorded(self.connection, &subject.bundle))?
        {
            return Ok(Some(Standing::AlreadyRecorded { at: time, entry }));
        }
        self.refuse_rollback(subject)?;
        self.refuse_clock_behind(at)?;
        Ok(known.map(|known| Standing::Resumed { since: known.begun_at, entry: known.begun }))
    }

    /// The bundle as it was begun, if it was; refused if the number or the id belongs to another.
    fn known(&self, subject: &Subject) -> Result<Option<Known>, Error> {
        let Subject { bundle, stream, sequence, manifest } = subject;
        let (stream_, sequence) = (|| stream.clone(), *sequence);
        if let Some(known) = self.sql(query::known_by_number(self.connection, stream, sequence))? {
            if known.subject.bundle != *bundle {
                let (begun, given) = (known.subject.bundle, *bundle);
                return Err(Refusal::OtherBundle { stream: stream_(), sequence, begun, given }.into());
            }
            if known.subject.manifest != *manifest {
                let (begun, given) = (Box::new(known.subject.manifest), Box::new(*manifest));
                return Err(Refusal::OtherManifest { stream: stream_(), sequence, begun, given }.into());
            }
            return Ok(Some(known));
        }
        if let Some(known) = self.sql(query::known_by_id(self.connection, bundle))? {
            return Err(Refusal::SameBundleOtherNumber {
                bundle: *bundle,
                known_stream: known.subject.stream,
                known_sequence: known.subject.sequence,
                stream: stream_(),
                sequence,
            }
            .into());
        }
        Ok(None)
    }

    fn refuse_rollback(&self, subject: &Subject) -> Result<(), Error> {
        match self.sql(query::newest(self.connection, &subject.stream))? {
            Some(newest) if newest > subject.sequence => {
                let (stream, sequence) = (subject.stream.clone(), subject.sequence);
                Err(Refusal::Rollback { stream, sequence, newest }.into())
            }
            _ => Ok(()),
        }
    }

    fn refuse_clock_behind(&self, at: &Stamp) -> Result<(), Error> {
        let (now, last) = (at.now, self.head.time);
        if now < last { Err(Refusal::ClockBehind { now, last }.into()) } else { Ok(()) }
    }

    fn announcements(&self, subject: &Subject) -> Result<Vec<(EntryNumber, Signing)>, Error> {
        let mut found = Vec::new();
        for number in self.sql(query::announcements(self.connection, &subject.bundle))? {
            if let Some(Act::Signing(signing)) =
                query::stored_in(self.connection, self.path, number)?.map(|s| s.entry.act)
            {
                found.push((number, signing));
            }
        }
        Ok(found)
    }

    fn forget_up_to(&self, subject: &Subject) -> Result<(), Error> {
        self.sql(working::forget_up_to(self.connection, subject))
    }

    fn append(&self, at: &Stamp, act: Act) -> Result<EntryNumber, Error> {
        let entry = Entry {
            kind: EntryType::V1,
            ledger: self.head.ledger,
            number: self.head.number.next(),
            previous: self.head.hash,
            time: at.now.max(self.head.time),
            tool: at.tool.clone(),
            act,
        };
        write_entry(self.connection, self.path, &entry)?;
        Ok(entry.number)
    }
}

/// Writes an entry and the rows that find it.
pub(crate) fn write_entry(connection: &Connection, path: &Path, entry: &Entry) -> Result<(), Error> {
    let bytes = entry.to_bytes().map_err(Error::Unwritable)?;
    let hash = crate::EntryHash::of(&bytes);
    let insert = || {
        connection.prepare_cached("INSERT INTO entry (number, hash, bytes) VALUES (?1, ?2, ?3)")?.execute((
            entry.number.sql(),
            hash.as_bytes(),
            &bytes,
        ))?;
        rows::insert(connection, entry)
    };
    insert().map_err(|e| database(path, e))
}

//! Writing: one act, one transaction.
//!
//! The order of a bundle is begun, received (where its images wait for their promotion), signing, recorded. A stream's
//! number rises with `signing`, which is written before the first production signature or tag is made: from then on nothing
//! older in the stream is begun or signed, even if the program dies before it can write `recorded`.
//!
//! An act that was written already is not written again: the same call gives the entry that it has.

use std::collections::HashSet;
use std::path::Path;

use manifest_schema::{Reference, TagRef, Timestamp};
use rusqlite::{Connection, TransactionBehavior};

use crate::acts::{
    ApprovalWithdrawn, Approved, Begun, HandedOver, Overridden, Received, Recorded, RecordedSignature, Refused,
    Rejected, Resigned, Rule, Signing, Subject, Withdrawn,
};
use crate::entry::{Act, Entry, EntryType};
use crate::error::{Error, Refusal, database};
use crate::head::Head;
use crate::names::{EntryNumber, entry_hash};
use crate::query::{self, Known};
use crate::tree::{self, Edge};
use crate::{Ledger, Stamp, custody, rows, working};

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
    /// A signature time that is older than the newest of the stream is noted in the entry.
    ///
    /// # Errors
    /// A [`Refusal`]; or [`Error::ReadOnly`], [`Error::Busy`], [`Error::Full`], [`Error::Database`]. In all cases
    /// nothing was written.
    pub fn begin(&mut self, at: &Stamp, begun: Begun) -> Result<Standing, Error> {
        self.transaction(|open| match open.judge(at, &begun.subject)? {
            Some(standing) => Ok(standing),
            None => {
                let newest = open.sql(query::newest_signed(open.connection, &begun.subject.stream))?;
                let newest_signed = newest.filter(|newest| begun.signed.is_some_and(|signed| signed < *newest));
                Ok(Standing::New { entry: open.append(at, Act::Begun(Begun { newest_signed, ..begun }))? })
            }
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

    /// Records that somebody lets a bundle pass rules that refuse it. To be called before the act that they would refuse.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Busy`], [`Error::Full`], [`Error::Database`].
    pub fn override_rules(&mut self, at: &Stamp, overridden: Overridden) -> Result<EntryNumber, Error> {
        self.transaction(|open| open.append(at, Act::Overridden(overridden)))
    }

    /// Records that a bundle's images wait for their promotion.
    ///
    /// # Errors
    /// [`Error::NotBegun`], [`Error::RecordedOtherwise`]; [`Refusal::Rejected`]; and as [`Ledger::begin`].
    pub fn received(&mut self, at: &Stamp, received: Received) -> Result<EntryNumber, Error> {
        self.transaction(|open| {
            let subject = &received.subject;
            open.known(subject)?.ok_or(Error::NotBegun(subject.bundle))?;
            open.refuse_rejected(subject)?;
            if let Some(entry) = open.sql(query::received(open.connection, &subject.bundle))? {
                return Ok(entry);
            }
            open.append(at, Act::Received(received))
        })
    }

    /// Records an approval of a bundle that waits for its promotion. Whether it counts is judged at the promotion.
    ///
    /// # Errors
    /// [`Error::NotReceived`]; [`Refusal::Rejected`], [`Refusal::ApprovalWithdrawn`]; and as [`Ledger::begin`].
    pub fn approved(&mut self, at: &Stamp, approved: Approved) -> Result<EntryNumber, Error> {
        self.transaction(|open| {
            let subject = &approved.subject;
            open.waits(subject)?;
            match open.sql(query::approval(open.connection, &approved.statement))? {
                Some((entry, bundle)) if bundle == subject.bundle => return Ok(entry),
                Some((entry, bundle)) => {
                    return Err(
                        Refusal::ApprovalOfOther { statement: Box::new(approved.statement), bundle, entry }.into()
                    );
                }
                None => {}
            }
            if let Some(entry) =
                open.sql(query::approval_withdrawn(open.connection, &approved.statement, &approved.approver))?
            {
                return Err(Refusal::ApprovalWithdrawn { statement: Box::new(approved.statement), entry }.into());
            }
            open.append(at, Act::Approved(approved))
        })
    }

    /// Records that an approver took an approval back. It need not be known yet: it never counts from then on. Of an
    /// approval by somebody else this changes nothing.
    ///
    /// # Errors
    /// As [`Ledger::refused`].
    pub fn approval_withdrawn(&mut self, at: &Stamp, withdrawn: ApprovalWithdrawn) -> Result<EntryNumber, Error> {
        self.transaction(|open| {
            match open.sql(query::approval_withdrawn(open.connection, &withdrawn.approval, &withdrawn.approver))? {
                Some(entry) => Ok(entry),
                None => open.append(at, Act::ApprovalWithdrawn(withdrawn)),
            }
        })
    }

    /// Records that a bundle will not be promoted, or nothing more of it, and forgets what was kept for that.
    ///
    /// # Errors
    /// [`Error::NotBegun`]; [`Refusal::InProduction`] if all of it is, [`Refusal::Unfinished`] if images are on their way; and
    /// as [`Ledger::begin`].
    pub fn rejected(&mut self, at: &Stamp, rejected: Rejected) -> Result<EntryNumber, Error> {
        self.transaction(|open| {
            let subject = &rejected.subject;
            open.known(subject)?.ok_or(Error::NotBegun(subject.bundle))?;
            if let Some((entry, at)) = open.sql(query::recorded(open.connection, &subject.bundle))? {
                return Err(Refusal::InProduction { bundle: subject.bundle, entry, at }.into());
            }
            open.refuse_unfinished(subject)?;
            if let Some((entry, _)) = open.sql(query::rejected(open.connection, &subject.bundle))? {
                return Ok(entry);
            }
            open.sql(working::forget(open.connection, subject))?;
            open.append(at, Act::Rejected(rejected))
        })
    }

    /// Announces the production signatures and tags of a bundle. To be called before the first of them is made, also
    /// where no signatures are made: it is what keeps older bundles of the stream out from here on.
    ///
    /// # Errors
    /// [`Error::NotBegun`]; [`Refusal::OtherManifest`] and the like if the subject is not the one begun;
    /// [`Refusal::Rollback`], [`Refusal::Rejected`], [`Refusal::ClockBehind`]; and as [`Ledger::begin`].
    pub fn signing(&mut self, at: &Stamp, signing: Signing) -> Result<EntryNumber, Error> {
        self.transaction(|open| {
            let subject = &signing.subject;
            open.known(subject)?.ok_or(Error::NotBegun(subject.bundle))?;
            for (entry, earlier) in open.announcements(subject)? {
                // What tags name changes as they move: the first announcement is what was there before.
                if (&earlier.production, &earlier.images) == (&signing.production, &signing.images) {
                    return Ok(entry);
                }
            }
            open.refuse_rejected(subject)?;
            open.refuse_rollback(subject)?;
            open.refuse_clock_behind(at, subject)?;
            open.append(at, Act::Signing(signing))
        })
    }

    /// Records that some images of a bundle are in production, while the rest of it waits.
    ///
    /// # Errors
    /// As [`Ledger::record`].
    pub fn promoted(&mut self, at: &Stamp, recorded: Recorded) -> Result<EntryNumber, Error> {
        self.transaction(|open| {
            open.announced(&recorded)?;
            open.append(at, Act::Promoted(recorded))
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
            open.announced(&recorded)?;
            open.forget_up_to(subject)?;
            open.append(at, Act::Recorded(recorded))
        })
    }

    /// Records that a bundle was refused after its manifest had been authenticated, and forgets its working state unless it
    /// waits for its promotion. Each attempt is an entry.
    ///
    /// # Errors
    /// As [`Ledger::begin`], but no refusal: a clock that was set back gives the entry the last entry's time.
    pub fn refused(&mut self, at: &Stamp, refused: Refused) -> Result<EntryNumber, Error> {
        self.transaction(|open| {
            let subject = &refused.subject;
            if open.sql(query::received(open.connection, &subject.bundle))?.is_none() {
                open.sql(working::forget(open.connection, subject))?;
            }
            open.append(at, Act::Refused(refused))
        })
    }

    /// Announces more production signatures for images of a bundle that is in production. To be called before the first is
    /// made.
    ///
    /// # Errors
    /// [`Error::NotBegun`]; [`Refusal::ClockBehind`]; and as [`Ledger::begin`].
    pub fn resigning(&mut self, at: &Stamp, signing: Signing) -> Result<EntryNumber, Error> {
        self.transaction(|open| {
            open.known(&signing.subject)?.ok_or(Error::NotBegun(signing.subject.bundle))?;
            open.refuse_clock_behind(at, &signing.subject)?;
            open.append(at, Act::Resigning(signing))
        })
    }

    /// Records that images in production have more signatures.
    ///
    /// # Errors
    /// [`Error::NotAnnounced`], [`Error::SignatureNotAnnounced`]; and as [`Ledger::refused`].
    pub fn resigned(&mut self, at: &Stamp, resigned: Resigned) -> Result<EntryNumber, Error> {
        self.transaction(|open| {
            let Resigned { subject, signatures, .. } = &resigned;
            open.known(subject)?.ok_or(Error::NotBegun(subject.bundle))?;
            are_announced(subject, signatures, &open.resignings(subject)?)?;
            open.append(at, Act::Resigned(resigned))
        })
    }

    /// Records that images are to lose their production signatures. To be called before the first is taken away.
    ///
    /// # Errors
    /// As [`Ledger::refused`].
    pub fn withdrawn(&mut self, at: &Stamp, withdrawn: Withdrawn) -> Result<EntryNumber, Error> {
        self.transaction(|open| open.append(at, Act::Withdrawn(withdrawn)))
    }

    /// Records that files for clusters are made. To be called before they are written.
    ///
    /// # Errors
    /// As [`Ledger::refused`].
    pub fn handed_over(&mut self, at: &Stamp, handed: HandedOver) -> Result<EntryNumber, Error> {
        self.transaction(|open| open.append(at, Act::HandedOver(handed)))
    }

    pub(crate) fn transaction<T>(&mut self, act: impl FnOnce(&Open<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let (path, ledger) = (&self.path, self.id);
        if self.lock.is_none() {
            return Err(Error::ReadOnly(path.clone()));
        }
        let sql = |e| database(path, e);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
        let before = query::head(&transaction, path, ledger)?;
        let result = act(&Open { connection: &transaction, path, head: before })?;
        let head = query::head(&transaction, path, ledger)?;
        let signed = match &self.custody {
            Some(custody) if head != before => Some(custody::sign(&transaction, path, custody, head)?),
            _ => None,
        };
        transaction.commit().map_err(sql)?;
        self.unsaved = signed.or(self.unsaved.take());
        self.save_second()?;
        Ok(result)
    }
}

/// An open transaction, and the last entry before it.
pub(crate) struct Open<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) path: &'a Path,
    pub(crate) head: Head,
}

impl Open<'_> {
    pub(crate) fn sql<T>(&self, result: rusqlite::Result<T>) -> Result<T, Error> {
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
        self.refuse_rejected(subject)?;
        self.refuse_rollback(subject)?;
        self.refuse_clock_behind(at, subject)?;
        Ok(known.map(|known| Standing::Resumed { since: known.begun_at, entry: known.begun }))
    }

    /// The bundle as it was begun, if it was; refused if the number or the id belongs to another.
    fn known(&self, subject: &Subject) -> Result<Option<Known>, Error> {
        let Subject { bundle, stream, sequence, manifest } = subject;
        let (stream_, sequence) = (|| stream.clone(), *sequence);
        if let Some(known) = self.sql(query::known_by_number(self.connection, stream, sequence))? {
            if known.subject == *subject {
                return Ok(Some(known));
            }
            if !self.may_pass(subject, Rule::Number)? {
                if known.subject.bundle != *bundle {
                    let (begun, given) = (known.subject.bundle, *bundle);
                    return Err(Refusal::OtherBundle { stream: stream_(), sequence, begun, given }.into());
                }
                let (begun, given) = (Box::new(known.subject.manifest), Box::new(*manifest));
                return Err(Refusal::OtherManifest { stream: stream_(), sequence, begun, given }.into());
            }
        }
        match self.sql(query::known_by_id(self.connection, bundle))? {
            Some(known) if known.subject == *subject => Ok(Some(known)),
            Some(known) => Err(Refusal::SameBundleOtherNumber {
                bundle: *bundle,
                known_stream: known.subject.stream,
                known_sequence: known.subject.sequence,
                stream: stream_(),
                sequence,
            }
            .into()),
            None => Ok(None),
        }
    }

    /// Whether somebody let this very bundle pass a rule.
    fn may_pass(&self, subject: &Subject, rule: Rule) -> Result<bool, Error> {
        for number in self.sql(query::overrides(self.connection, &subject.bundle, rule))? {
            if let Some(Act::Overridden(overridden)) =
                query::stored_in(self.connection, self.path, number)?.map(|s| s.entry.act)
                && overridden.subject == *subject
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A bundle of which images wait for their promotion.
    fn waits(&self, subject: &Subject) -> Result<(), Error> {
        self.known(subject)?.ok_or(Error::NotBegun(subject.bundle))?;
        self.refuse_rejected(subject)?;
        match self.sql(query::received(self.connection, &subject.bundle))? {
            Some(_) => Ok(()),
            None => Err(Error::NotReceived(subject.bundle)),
        }
    }

    fn refuse_rejected(&self, subject: &Subject) -> Result<(), Error> {
        match self.sql(query::rejected(self.connection, &subject.bundle))? {
            Some((entry, at)) => Err(Refusal::Rejected { bundle: subject.bundle, entry, at }.into()),
            None => Ok(()),
        }
    }

    /// Signatures and tags that were announced may be there, so what they are for must be recorded.
    fn refuse_unfinished(&self, subject: &Subject) -> Result<(), Error> {
        let mut promoted = HashSet::new();
        for number in self.sql(query::promotions(self.connection, &subject.bundle))? {
            if let Some(Act::Promoted(of)) = query::stored_in(self.connection, self.path, number)?.map(|s| s.entry.act)
            {
                // What was left out keeps its tag, and has no signature of this bundle.
                promoted.extend(of.images.into_iter().map(|image| image.production).chain(of.skipped));
            }
        }
        let is_promoted = |image: &Reference| {
            image.tag().is_some_and(|tag| {
                promoted.contains(&TagRef { repository: image.repository().clone(), tag: tag.clone() })
            })
        };
        for (entry, signing) in self.announcements(subject)? {
            if let Some(image) = signing.images.into_iter().map(|i| i.reference).find(|image| !is_promoted(image)) {
                let image = Box::new(image);
                return Err(Refusal::Unfinished { bundle: subject.bundle, image, entry }.into());
            }
        }
        Ok(())
    }

    fn refuse_rollback(&self, subject: &Subject) -> Result<(), Error> {
        match self.sql(query::newest(self.connection, &subject.stream))? {
            Some(newest) if newest > subject.sequence && !self.may_pass(subject, Rule::Rollback)? => {
                let (stream, sequence) = (subject.stream.clone(), subject.sequence);
                Err(Refusal::Rollback { stream, sequence, newest }.into())
            }
            _ => Ok(()),
        }
    }

    fn refuse_clock_behind(&self, at: &Stamp, subject: &Subject) -> Result<(), Error> {
        let (now, last) = (at.now, self.head.time);
        if now < last && !self.may_pass(subject, Rule::Clock)? {
            return Err(Refusal::ClockBehind { now, last }.into());
        }
        Ok(())
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

    /// What was announced for images of a bundle that were in production already.
    fn resignings(&self, subject: &Subject) -> Result<Vec<Signing>, Error> {
        let mut found = Vec::new();
        for number in self.sql(query::entries_of_bundle(self.connection, &subject.bundle))? {
            if let Some(Act::Resigning(signing)) =
                query::stored_in(self.connection, self.path, number)?.map(|s| s.entry.act)
            {
                found.push(signing);
            }
        }
        Ok(found)
    }

    /// Every signature that is to be recorded was announced.
    fn announced(&self, recorded: &Recorded) -> Result<(), Error> {
        let Recorded { subject, signatures, .. } = recorded;
        self.known(subject)?.ok_or(Error::NotBegun(subject.bundle))?;
        let announcements: Vec<_> = self.announcements(subject)?.into_iter().map(|(_, signing)| signing).collect();
        are_announced(subject, signatures, &announcements)
    }

    fn forget_up_to(&self, subject: &Subject) -> Result<(), Error> {
        self.sql(working::forget_up_to(self.connection, subject))
    }

    pub(crate) fn append(&self, at: &Stamp, act: Act) -> Result<EntryNumber, Error> {
        let entry = Entry {
            kind: EntryType::V1,
            ledger: self.head.ledger,
            number: self.head.number.next(),
            previous: self.head.hash,
            time: at.now.max(self.head.time),
            tool: at.tool.clone(),
            by: at.by.clone(),
            act,
        };
        write_entry(self.connection, self.path, &entry)?;
        Ok(entry.number)
    }
}

fn are_announced(subject: &Subject, signatures: &[RecordedSignature], announcements: &[Signing]) -> Result<(), Error> {
    let bundle = subject.bundle;
    if announcements.is_empty() {
        return Err(Error::NotAnnounced(bundle));
    }
    let announced: HashSet<_> =
        announcements.iter().flat_map(|a| &a.images).map(|i| (&i.reference, &i.digest)).collect();
    match signatures.iter().find(|s| !announced.contains(&(&s.reference, &s.digest))) {
        Some(s) => {
            let (reference, digest) = (Box::new(s.reference.clone()), Box::new(s.digest));
            Err(Error::SignatureNotAnnounced { bundle, reference, digest })
        }
        None => Ok(()),
    }
}

/// Writes an entry and the rows that find it.
pub(crate) fn write_entry(connection: &Connection, path: &Path, entry: &Entry) -> Result<(), Error> {
    let bytes = entry.to_bytes().map_err(Error::Unwritable)?;
    let hash = entry_hash(&bytes);
    let before = entry.number.get() - 1;
    let insert = || -> rusqlite::Result<Option<()>> {
        let Some(mut edge) = Edge::load(connection, before)? else { return Ok(None) };
        let nodes = edge.push(tree::leaf(&bytes));
        connection.prepare_cached("INSERT INTO entry (number, hash, bytes) VALUES (?1, ?2, ?3)")?.execute((
            i64::from(entry.number),
            hash.as_bytes(),
            &bytes,
        ))?;
        rows::insert(connection, entry, &nodes).map(Some)
    };
    match insert().map_err(|e| database(path, e))? {
        Some(()) => Ok(()),
        None => Err(crate::error::missing_node(path, before)),
    }
}

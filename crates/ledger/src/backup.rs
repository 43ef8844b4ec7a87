//! A copy of the ledger, made while it is in use.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use manifest_schema::OutsideText;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use crate::error::{Error, database};
use crate::head::Checker;
use crate::open::{Unfinished, free, open_copy, publish};
use crate::place::io;
use crate::{Ledger, LedgerId, Verified};

impl Ledger {
    /// Writes a copy, which is a ledger in one file on any file system. It appears under its name complete and verified, or not
    /// at all. Other programs may write to the ledger meanwhile; the copy has what was there at one moment.
    ///
    /// # Errors
    /// [`Error::Exists`]; [`Error::Tampered`] if what was copied is not right; [`Error::Busy`], [`Error::Full`],
    /// [`Error::Io`], [`Error::Database`].
    pub fn backup(&self, to: &Path, checker: &dyn Checker) -> Result<Verified, Error> {
        let (folder, to) = free(to)?;
        let new = Unfinished(crate::place::beside(&to, &format!(".{}.new", LedgerId::generate())));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new.0);
        drop(file.map_err(io(&new.0, "cannot be made"))?);
        self.copy(&new.0)?;
        File::open(&new.0).and_then(|f| f.sync_all()).map_err(io(&new.0, "cannot be synchronised"))?;
        let verified = open_copy(&new.0, self.id)?.verify(checker).map_err(|e| match e {
            // What was copied is not right: the ledger is not.
            Error::Tampered { fault, .. } => self.tampered(fault),
            e => e,
        })?;
        publish(&new.0, &to)?;
        File::open(&folder).and_then(|f| f.sync_all()).map_err(io(&folder, "the folder cannot be synchronised"))?;
        Ok(verified)
    }

    fn copy(&self, to: &Path) -> Result<(), Error> {
        let sql = |e| database(to, e);
        // Nobody else knows the file, and not every file system has locks.
        let flags =
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let mut copy = Connection::open_with_flags_and_vfs(to, flags, c"unix-none").map_err(sql)?;
        // All pages in one step: in one view of the ledger, which nobody can make begin again.
        let step = Backup::new(&self.connection, &mut copy).and_then(|backup| backup.step(-1));
        match step.map_err(|e| database(&self.path, e))? {
            StepResult::Done => {}
            _ => return Err(Error::Busy { path: self.path.clone(), process: None }),
        }
        // Like the ledger, the copy would have a log beside it: a second file. With an exclusive lock, leaving that mode needs
        // no shared memory, which not every file system has.
        copy.pragma_update(None, "locking_mode", "exclusive").map_err(sql)?;
        let mode: String = copy.pragma_update_and_check(None, "journal_mode", "delete", |r| r.get(0)).map_err(sql)?;
        if mode != "delete" {
            let reason = OutsideText::new(format!("journal mode is `{mode}`, expected `delete`"));
            return Err(Error::Database { path: to.into(), reason });
        }
        copy.close().map_err(|(_, e)| database(to, e))
    }
}

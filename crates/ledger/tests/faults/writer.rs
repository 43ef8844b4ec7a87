//! The program that is killed, or that cannot write.

use std::path::{Path, PathBuf};

use ledger::{Created, EntryNumber, Error, Head, Ledger, Stamp, Standing, Subject};
use manifest_schema::OutsideText;

use crate::common::*;

/// What the writer writes: the acts of its entries, in order.
pub const ACTS: [&str; 11] = [
    "created",
    "begun",
    "received",
    "approved",
    "signing",
    "promoted",
    "recorded",
    "key-changed",
    "adopted",
    "begun",
    "refused",
];
pub const ALL: u64 = ACTS.len() as u64;

pub const LEDGER: &str = "LEDGER_TO_WRITE_TO";
pub const RETRIES: &str = "HOW_OFTEN_TO_TRY_AGAIN";
pub const ENTRIES: &str = "HOW_MANY_ENTRIES_TO_WRITE";

/// What the child does: it makes a ledger, unless it is there, and writes the acts that it lacks. It says each that it was told
/// is written, and each failure. Then it ends.
pub fn write_if_told_to() {
    let Some(path) = std::env::var_os(LEDGER) else { return };
    let number = |name, default| std::env::var(name).map_or(default, |n| n.parse().expect("a number"));
    let mut writer = Writer { path: path.into(), ledger: None, retries: number(RETRIES, 0) };
    std::process::exit(i32::from(writer.write(number(ENTRIES, ALL)).is_err()));
}

struct Writer {
    path: PathBuf,
    ledger: Option<Ledger>,
    retries: u64,
}

impl Writer {
    fn write(&mut self, entries: u64) -> Result<(), Error> {
        self.again(|w| match Ledger::create(&w.path, &stamp(1), Created::default(), Some(&custody(&w.path, 'A'))) {
            Ok(_) | Err(Error::Exists(_)) => Ok(()),
            Err(e) => Err(e),
        })?;
        let _ = self.again(|w| Ledger::open_read_only(&w.path, None)?.verify(&Keys))?;
        // The last that is there is done once more.
        for number in self.again(Self::entries)?..=entries {
            let entry = self.again(|w| w.act(number))?;
            assert_eq!(entry, number);
            let entry =
                self.again(|w| Ledger::open_read_only(&w.path, None)?.entry(number.try_into().expect("a number")))?;
            println!("\nacknowledged {number} {}", entry.expect("an entry").hash);
        }
        Ok(())
    }

    fn again<T>(&mut self, act: impl Fn(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        loop {
            match act(self) {
                Err(e) => {
                    println!("\nfailed {e:?}\nmessage {e}");
                    self.retries = self.retries.checked_sub(1).ok_or(e)?;
                }
                ok => return ok,
            }
        }
    }

    fn ledger(&mut self) -> Result<&mut Ledger, Error> {
        if self.ledger.is_none() {
            self.ledger = Some(open(&self.path)?);
        }
        Ok(self.ledger.as_mut().expect("an open ledger"))
    }

    fn entries(&mut self) -> Result<u64, Error> {
        Ok(Ledger::open_read_only(&self.path, None)?.head()?.number.get())
    }

    fn act(&mut self, number: u64) -> Result<u64, Error> {
        let (s, other) = (subject("payments", 1), subject("payments", 2));
        let at = stamp(number.cast_signed());
        // Where the same call again would be another entry.
        let once = matches!(number, 1 | 6 | 8 | 9 | 11);
        if once && self.entries()? >= number {
            return Ok(number);
        }
        if number == 9 {
            return self.adopt(&at);
        }
        let ledger = self.ledger()?;
        let entry = match number {
            2 => begin(ledger, &at, &s)?,
            3 => ledger.received(&at, received(&s))?,
            4 => ledger.approved(&at, approved(&s, 'C'))?,
            5 => ledger.signing(&at, signing(&s))?,
            6 => ledger.promoted(&at, recorded(&s))?,
            7 => ledger.record(&at, recorded(&s))?,
            8 => ledger.change_key(&at, Box::new(Key(ledger_key('B'))), join)?,
            10 => begin(ledger, &at, &other)?,
            _ => ledger.refused(&at, refused(&other))?,
        };
        Ok(entry.get())
    }

    /// Shows the ledger a head that it does not have, and adopts it.
    fn adopt(&mut self, at: &Stamp) -> Result<u64, Error> {
        match self.ledger() {
            Ok(ledger) => {
                let head = Head { number: LOST.try_into().expect("a number"), ..ledger.head()? };
                ledger.note_shown(&known(head))?;
            }
            Err(Error::Behind { .. }) => {}
            Err(e) => return Err(e),
        }
        self.ledger = None;
        let reason = OutsideText::new("it never had it");
        Ok(Ledger::adopt(&self.path, None, custody(&self.path, 'B'), at, reason, &[])?.get())
    }
}

/// The number of a head that no ledger has.
pub const LOST: u64 = 1000;

fn begin(ledger: &mut Ledger, at: &Stamp, subject: &Subject) -> Result<EntryNumber, Error> {
    let (Standing::New { entry } | Standing::Resumed { entry, .. } | Standing::AlreadyRecorded { entry, .. }) =
        ledger.begin(at, begun(subject))?;
    Ok(entry)
}

/// Opens a ledger with the key that is its own.
pub fn open(path: &Path) -> Result<Ledger, Error> {
    let key = Ledger::open_read_only(path, None)?.key()?.expect("a key").as_str().chars().next().expect("a letter");
    Ledger::open(path, None, Some(custody(path, key)))
}

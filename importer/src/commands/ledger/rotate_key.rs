//! `ledger rotate-key`

use std::path::PathBuf;

use clap::Args;
use commands::settings::{KeySource, SignArgs};
use ledger::EntryNumber;
use manifest_schema::Timestamp;
use serde::Serialize;
use signing::Fingerprint;

use super::{Context, production};
use crate::access::{LedgerKey, beside_key, join, stamp, unlock};
use crate::audit::certify::certify_or_warn;
use crate::error::Error;

/// Lets another key sign the ledger's heads from here on; both keys sign that
///
/// The production key certifies the new one, if it is named. Name the new key in the configuration afterwards, and keep the
/// certificate of the old one: heads and receipts that it signed stay good.
#[derive(Debug, Args)]
pub(super) struct RotateKey {
    /// OpenPGP secret key file of the new ledger key
    #[arg(long, value_name = "FILE", required_unless_present = "new_by", conflicts_with = "new_by")]
    new_key: Option<PathBuf>,
    /// The new key is held by gpg-agent: its fingerprint
    #[arg(long, value_name = "FINGERPRINT")]
    new_by: Option<Fingerprint>,
    /// File for the new key's certificate [default: for a key file ending in `.secret.asc`, the one ending in `.asc` beside it]
    #[arg(long, value_name = "FILE")]
    new_certificate: Option<PathBuf>,
    /// A file whose first line is the new key's passphrase [also: SEALIFT_NEW_PASSPHRASE]
    #[arg(long, value_name = "FILE", env = "SEALIFT_NEW_PASSPHRASE_FILE")]
    new_passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    sign: SignArgs,
}

#[derive(Serialize)]
struct Report {
    entry: EntryNumber,
    from: String,
    to: String,
}

impl RotateKey {
    pub(super) fn run(self, context: Context) -> Result<(), Error> {
        let now = Timestamp::now();
        let (config, access) = (context.configuration()?, context.access()?);
        let given = (self.new_key.clone(), self.new_by.clone());
        let source = KeySource::of_role(given, None, self.new_passphrase_file, "SEALIFT_NEW_PASSPHRASE")?;
        let source = source.ok_or(Error::Missing("a new ledger key"))?;
        let file = self.new_certificate.clone().or_else(|| beside_key(&source));
        let new = unlock(&source, self.new_certificate.as_deref().filter(|path| path.exists()), now)?;
        context.suits(&new)?;
        let from = access.key(now)?.fingerprint();
        let new = match (production(self.sign, config.as_ref(), now)?, &file) {
            (Some(production), Some(file)) => certify_or_warn(&production, &new, file)?,
            _ => {
                console::say(
                    "warning: no production key certifies the new key; `sealift-import ledger certify` does so later",
                );
                new
            }
        };
        let to = new.fingerprint();
        let mut ledger = access.open(now)?;
        let entry = ledger.change_key(&stamp()?, Box::new(LedgerKey(new)), join)?;
        let absolute =
            |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string();
        let sign = match (&self.new_key, &self.new_by) {
            (Some(path), _) => format!("key: {}", absolute(path)),
            (None, by) => format!("by: {}", by.as_ref().map_or("", Fingerprint::as_str)),
        };
        console::say(&format!("from now on, in import.yaml under `ledger:` or with the flags: sign: {{{sign}}}"));
        if let Some(file) = &file {
            console::say(&format!("and if `certificate:` is there: certificate: {}", absolute(file)));
        }
        console::say("keep the old key's certificate: what was kept elsewhere is signed by it");
        let report = Report { entry, from: from.to_string(), to: to.to_string() };
        context.print(&report, |r| {
            format!("entry {}: heads are signed by key {} from here on, before by {}\n", r.entry, r.to, r.from)
        })
    }
}

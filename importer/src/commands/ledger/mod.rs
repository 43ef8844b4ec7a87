//! `ledger`: what came in, and what proves it.

mod acts;
mod adopt;
mod backup;
mod certify;
mod check_proof;
mod create;
mod export;
mod head;
mod list;
mod log;
mod output;
mod prove;
mod refusals;
mod rotate_key;
mod show;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use commands::settings::{KeySource, SignArgs};
use console::Failure;
use ledger::{EntryNumber, Ledger};
use manifest_schema::Timestamp;
use signing::SecretKey;

use crate::access::{LedgerAccess, LedgerArgs};
use crate::config::Import;
use crate::error::Error;
use crate::site::{ProductionArgs, Site, SiteArgs};

/// Shows, proves and keeps what came in
#[derive(Debug, Args)]
pub struct LedgerCommand {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    context: Context,
}

/// Which ledger, and how to print.
#[derive(Debug, Args)]
struct Context {
    /// The configuration [default: import.yaml, if it is there and --ledger is not given]
    #[arg(short, long, value_name = "FILE", env = "SEALIFT_CONFIG", global = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    ledger: LedgerArgs,
    /// Print as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::List),
    Show(show::Show),
    Refusals(refusals::Refusals),
    Log(log::Log),
    Verify(verify::Verify),
    Head(head::PrintHead),
    Adopt(adopt::Adopt),
    Prove(prove::Prove),
    CheckProof(check_proof::CheckProof),
    Export(export::Export),
    Backup(backup::Backup),
    Certify(certify::Certify),
    RotateKey(rotate_key::RotateKey),
    Create(create::Create),
}

impl LedgerCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub fn run(self) -> Result<(), Failure> {
        let context = self.context;
        let done = match self.command {
            Command::List(command) => command.run(context),
            Command::Show(command) => command.run(context),
            Command::Refusals(command) => command.run(context),
            Command::Log(command) => command.run(context),
            Command::Verify(command) => return command.run(context),
            Command::Head(command) => command.run(context),
            Command::Adopt(command) => command.run(context),
            Command::Prove(command) => command.run(context),
            Command::CheckProof(command) => command.run(context),
            Command::Export(command) => command.run(context),
            Command::Backup(command) => command.run(context),
            Command::Certify(command) => command.run(context),
            Command::RotateKey(command) => command.run(context),
            Command::Create(command) => command.run(context),
        };
        done.map_err(|e| Failure::new(&e))
    }
}

impl Context {
    fn configuration(&self) -> Result<Option<Import>, Error> {
        LedgerAccess::configuration(&self.ledger, self.config.as_deref())
    }

    /// Whether a ledger key is nobody else's, as far as the configuration knows others.
    fn suits(&self, key: &SecretKey) -> Result<(), Error> {
        if self.configuration()?.is_none() {
            return Ok(());
        }
        let config = self.config.clone().unwrap_or_else(|| "import.yaml".into());
        let args = SiteArgs { config: Some(config), ledger: self.ledger.clone(), ..SiteArgs::default() };
        Site::resolve(args, ProductionArgs::default())?.suits("ledger", &key.certificates())
    }

    fn access(&self) -> Result<LedgerAccess, Error> {
        LedgerAccess::named(self.ledger.clone(), self.config.as_deref())
    }

    fn read(&self) -> Result<Ledger, Error> {
        self.access()?.read()
    }

    /// Prints a page of rows, newest first, and says how to see what is before them.
    fn print_page<T: serde::Serialize>(
        &self,
        rows: &[T],
        limit: u32,
        entry: impl Fn(&T) -> EntryNumber,
        table: impl FnOnce(&[T]) -> String,
    ) -> Result<(), Error> {
        self.print(&rows, |rows| table(rows))?;
        match rows.last().map(entry) {
            Some(last) if rows.len() as u64 == u64::from(limit) && last != EntryNumber::FIRST => {
                console::say(&format!("what is before them: --before {last}"));
            }
            _ => {}
        }
        Ok(())
    }

    fn print<T: serde::Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), Error> {
        let printed = if self.json { console::print_json(value) } else { console::print(&text(value)) };
        printed.map_err(Error::Stdout)
    }
}

/// The production key, if one is named.
fn production(sign: SignArgs, config: Option<&Import>, now: Timestamp) -> Result<Option<SecretKey>, Error> {
    let source = KeySource::one(sign, config.map(|c| c.production.sign.clone()))?;
    Ok(source.map(|source| source.unlock(now)).transpose()?)
}

/// The number of an entry, as an argument.
fn entry_number(text: &str) -> Result<EntryNumber, String> {
    let number: u64 = text.parse().map_err(|_| "expected the number of an entry".to_string())?;
    EntryNumber::try_from(number).map_err(|e| e.to_string())
}

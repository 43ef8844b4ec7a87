//! `resign`: a new production key signs what production holds.

use clap::Args;
use console::{Failure, Progress};

use crate::error::Error;
use crate::resign::{Done, asked, resign};
use crate::site::{ProductionArgs, Site, SiteArgs};

/// Adds signatures by the production key of now to what production holds, so that a key can be replaced while clusters run
#[derive(Debug, Args)]
pub struct Resign {
    /// A bundle id, <stream>-<sequence>, or a production reference [default: everything]
    #[arg(value_name = "BUNDLE|IMAGE")]
    names: Vec<String>,
    /// Print the result as JSON, one line for each bundle
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    production: ProductionArgs,
    #[command(flatten)]
    site: SiteArgs,
}

impl Resign {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub fn run(self, quiet: bool) -> Result<(), Failure> {
        self.resign(quiet).map_err(|e| Failure::new(&e))
    }

    fn resign(self, quiet: bool) -> Result<(), Error> {
        let progress = Progress::new(quiet);
        let site = Site::resolve(self.site, self.production)?;
        let mut ledger = site.open_ledger()?;
        let asked = asked(&ledger, &self.names)?;
        let production = site.production(&ledger)?;
        for (subject, only) in &asked {
            let done = resign(&site, &production, &mut ledger, subject, only, &progress)?;
            let print = match self.json {
                true => console::print_json(&serde_json::json!({ "result": "resigned", "bundle": done })),
                false => console::print(&text(&done, &production.key.fingerprint())),
            };
            print.map_err(Error::Stdout)?;
        }
        Ok(())
    }
}

fn text(done: &Done, key: &signing::Fingerprint) -> String {
    let name = format!("{} {}", done.subject.stream, done.subject.sequence);
    match done.entry {
        Some(entry) => {
            format!("resigned: {name}, {} signatures by {key}, ledger entry {entry}\n", done.signatures.len())
        }
        None => format!("signed before: {name}\n"),
    }
}

//! `resign`: a new production key signs what production holds.

use clap::Args;
use console::{Failure, Progress};

use crate::error::Error;
use crate::git::{self, When};
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

const NOT_COMMITTED: &str =
    "all that was said above is recorded; its signatures are not committed and pushed yet: run the same command again";

impl Resign {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub fn run(self, quiet: bool) -> Result<(), Failure> {
        let mut state = None;
        self.resign(quiet, &mut state).map_err(|e| match state {
            Some(state) => Failure::new(&e).with_state(state),
            None => Failure::new(&e),
        })
    }

    fn resign(self, quiet: bool, state: &mut Option<&str>) -> Result<(), Error> {
        let progress = Progress::new(quiet);
        let site = Site::resolve(self.site, self.production)?;
        let mut ledger = site.open_ledger()?;
        let asked = asked(&ledger, &self.names)?;
        let production = site.production(&ledger)?;
        git::settle(&site, &ledger, When::Before, &progress)?;
        for (subject, only) in &asked {
            let done = resign(&site, &production, &mut ledger, subject, only, &progress)?;
            let print = match self.json {
                true => console::print_json(&serde_json::json!({ "result": "resigned", "bundle": done })),
                false => console::print(&text(&done, &production.key.fingerprint())),
            };
            print.map_err(Error::Stdout)?;
            *state = Some(NOT_COMMITTED);
            git::settle(&site, &ledger, When::After, &progress)?;
            *state = None;
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

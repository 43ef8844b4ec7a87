//! `promote`: what waits goes into production.

use clap::Args;
use console::{Failure, Progress};

use crate::approvals::PromoterArgs;
use crate::commands::receive;
use crate::error::Error;
use crate::overrides::Overrides;
use crate::promotion::Asked;
use crate::site::{ProductionArgs, Site, SiteArgs};

/// Moves bundles that wait, or some of their images, into production, signs them and records it
#[derive(Debug, Args)]
pub struct Promote {
    /// A bundle id, <stream>-<sequence>, or the production reference of an image that waits
    #[arg(value_name = "BUNDLE|IMAGE", required = true)]
    names: Vec<String>,
    /// Print the result as JSON, one line for each bundle
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    promoter: PromoterArgs,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    production: ProductionArgs,
    #[command(flatten)]
    site: SiteArgs,
}

impl Promote {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code, and one line that says what was published.
    pub fn run(self, quiet: bool) -> Result<(), Failure> {
        let mut state = "nothing was published".to_string();
        self.promote(quiet, &mut state).map_err(|e| Failure::new(&e).with_state(state))
    }

    fn promote(self, quiet: bool, state: &mut String) -> Result<(), Error> {
        let progress = Progress::new(quiet);
        let site = Site::resolve(self.site, self.production)?;
        let mut ledger = site.open_ledger()?;
        let all = Asked::of(&ledger, &self.names)?;
        for (done, asked) in all.iter().enumerate() {
            let result = crate::promote(&site, &mut ledger, asked, &self.promoter, &self.overrides, &progress, state);
            if result.is_err() && done > 0 {
                *state += &format!("; {done} of {} bundles were promoted before", all.len());
            }
            receive::print(result?, "promoted", self.json)?;
        }
        Ok(())
    }
}

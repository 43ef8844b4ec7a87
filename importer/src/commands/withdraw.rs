//! `withdraw`: an image may not run any more.

use clap::Args;
use console::{Failure, Progress};
use manifest_schema::{OutsideText, Reference};

use crate::error::Error;
use crate::git::{self, When};
use crate::site::{ProductionArgs, Site, SiteArgs};
use crate::withdraw::{Done, known, withdraw};

/// Takes an image's production signatures away, so that clusters refuse it, and records why
#[derive(Debug, Args)]
pub struct Withdraw {
    /// Production references: with a tag, what that was last made to name; with a digest, that under every tag
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<Reference>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    production: ProductionArgs,
    #[command(flatten)]
    site: SiteArgs,
}

const NOT_COMMITTED: &str =
    "all that was said above is done and recorded; it is not committed and pushed yet: run the same command again";

impl Withdraw {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub fn run(self, quiet: bool) -> Result<(), Failure> {
        let mut state = None;
        self.withdraw(quiet, &mut state).map_err(|e| match state {
            Some(state) => Failure::new(&e).with_state(state),
            None => Failure::new(&e),
        })
    }

    fn withdraw(self, quiet: bool, state: &mut Option<&str>) -> Result<(), Error> {
        let progress = Progress::new(quiet);
        let reason = self.reason.trim();
        if reason.is_empty() {
            return Err(Error::NoReason);
        }
        let site = Site::resolve(self.site, self.production)?;
        let mut ledger = site.open_ledger()?;
        // Names first: nothing is withdrawn beside one that is mistyped.
        for image in &self.images {
            known(&ledger, image)?;
        }
        git::settle(&site, &ledger, When::Before, &progress)?;
        for image in &self.images {
            let done = withdraw(&site, &mut ledger, image, OutsideText::new(reason), &progress)?;
            let print = match self.json {
                true => console::print_json(
                    &serde_json::json!({ "result": "withdrawn", "image": image, "withdrawn": done }),
                ),
                false => console::print(&text(image, &done)),
            };
            print.map_err(Error::Stdout)?;
            *state = Some(NOT_COMMITTED);
            git::settle(&site, &ledger, When::After, &progress)?;
            *state = None;
        }
        Ok(())
    }
}

fn text(image: &Reference, done: &Done) -> String {
    let rows: Vec<_> = done.images.iter().map(|i| vec![i.reference.to_string(), i.digest.to_string()]).collect();
    let entry = done.entry.map_or("withdrawn before".into(), |entry| format!("ledger entry {entry}"));
    let table = console::table(&["REFERENCE", "DIGEST"], &rows);
    let mut text = format!("{table}\nwithdrawn: {image}, {} signatures taken away, {entry}\n", done.removed);
    if done.kept > 0 {
        text += &format!(
            "{} signatures stay: {} keeps them itself, and has no request that gives them up. Until the image is deleted there, \
             clusters take it by tag, and by digest until they have the policy of `sealift-import handover production`\n",
            done.kept,
            image.repository().registry()
        );
    }
    text
}

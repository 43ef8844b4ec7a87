//! `receive`: from the medium into production.

use std::path::PathBuf;

use clap::Args;
use console::{Failure, Progress};
use manifest_schema::{Digest, TagRef};
use serde::Serialize;

use crate::admit::{Placed, Probe, TagAction};
use crate::authenticate::authenticate;
use crate::error::Error;
use crate::site::{ProductionArgs, Site, SiteArgs};
use crate::{Received, admit, open, record};

/// Verifies a bundle, pushes its images, signs them and records it
#[derive(Debug, Args)]
pub struct Receive {
    /// The bundle's folder
    bundle: PathBuf,
    /// Show what would be pushed; write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    production: ProductionArgs,
    #[command(flatten)]
    site: SiteArgs,
}

impl Receive {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code, and one line that says what was published.
    pub fn run(self, quiet: bool) -> Result<(), Failure> {
        let mut state = "nothing was published".to_string();
        self.receive(quiet, &mut state).map_err(|e| Failure::new(&e).with_state(state))
    }

    fn receive(self, quiet: bool, state: &mut String) -> Result<(), Error> {
        let site = Site::resolve(self.site, self.production)?;
        let progress = Progress::new(quiet);
        if self.dry_run {
            return dry_run(&site, &self.bundle, self.json, &progress);
        }
        let received = crate::receive(&site, &self.bundle, &progress, state)?;
        let print = match (received, self.json) {
            (Received::Before(before), json) => return already(&before, json),
            (Received::Now(recorded), true) => {
                console::print_json(&serde_json::json!({ "result": "received", "bundle": recorded }))
            }
            (Received::Now(recorded), false) => {
                let rows: Vec<_> = recorded
                    .record
                    .images
                    .iter()
                    .map(|i| vec![i.production.to_string(), i.digest.to_string(), i.origin.to_string()])
                    .collect();
                let s = &recorded.record.subject;
                let mut text = console::table(&["PRODUCTION", "DIGEST", "ORIGIN (AS CLAIMED)"], &rows);
                for tag in &recorded.skipped {
                    text += &format!("left out: {tag} names another image\n");
                }
                text += &format!(
                    "\nreceived: {} {} (bundle {}), {} signatures by {}, ledger entry {}\n",
                    s.stream,
                    s.sequence,
                    s.bundle,
                    recorded.record.signatures.len(),
                    recorded.production,
                    recorded.entry
                );
                console::print(&text)
            }
        };
        print.map_err(Error::Stdout)
    }
}

fn already(before: &record::Before, json: bool) -> Result<(), Error> {
    let print = if json {
        console::print_json(&serde_json::json!({ "result": "already received", "bundle": before }))
    } else {
        console::print(&format!(
            "already received: {} {} (bundle {}) at {}, ledger entry {}; nothing to do\n",
            before.subject.stream, before.subject.sequence, before.subject.bundle, before.at, before.entry
        ))
    };
    print.map_err(Error::Stdout)
}

#[derive(Serialize)]
struct Move<'a> {
    origin: &'a manifest_schema::Reference,
    production: &'a TagRef,
    digest: Digest,
    tag: &'static str,
    names_now: Option<Digest>,
}

fn dry_run(site: &Site, bundle: &std::path::Path, json: bool, progress: &Progress) -> Result<(), Error> {
    let sealed = open::seal(site, bundle)?;
    let authenticated = authenticate(sealed.open(&site.identities()?)?)?;
    let ledger = site.read_ledger()?;
    if let Some(ledger) = &ledger
        && let Some(before) = record::before(ledger, &authenticated)?
    {
        return already(&before, json);
    }
    let placement = admit::examine(site, ledger.as_ref(), &authenticated, progress, Probe::Leave)?;
    let moves: Vec<Move<'_>> = placement.images().iter().map(describe).collect();
    let print = if json {
        console::print_json(&serde_json::json!({ "result": "would be received", "images": moves }))
    } else {
        let rows: Vec<_> = moves
            .iter()
            .map(|m| vec![m.production.to_string(), m.tag.into(), m.digest.to_string(), m.origin.to_string()])
            .collect();
        console::print(&console::table(&["PRODUCTION", "TAG", "DIGEST", "ORIGIN (AS CLAIMED)"], &rows))
    };
    print.map_err(Error::Stdout)
}

fn describe(placed: &Placed) -> Move<'_> {
    let (tag, names_now) = match &placed.action {
        TagAction::Create => ("new", None),
        TagAction::Keep => ("same", Some(placed.image.digest)),
        TagAction::Move { from } => ("moves", Some(*from)),
        TagAction::Skip { names } => ("left out", Some(*names)),
    };
    Move { origin: &placed.image.origin, production: &placed.destination, digest: placed.image.digest, tag, names_now }
}

//! `receive`: from the medium into production.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use console::{Failure, Progress};
use ledger::{ReceivedImage, RecordedImage};
use manifest_schema::{Digest, TagRef};
use serde::Serialize;

use crate::admit::{Placed, Probe, TagAction};
use crate::authenticate::authenticate;
use crate::commands::watch;
use crate::error::Error;
use crate::media::{AllHere, AsFarAsNeeded, Wait, Wanted};
use crate::overrides::Overrides;
use crate::site::{ProductionArgs, Site, SiteArgs};
use crate::{From, Received, admit, record, wait};

/// Verifies a bundle, pushes its images, signs them and records it; or lets them wait for `promote`
#[derive(Debug, Args)]
pub struct Receive {
    /// The bundle's folder; several if it is on several media; `-` reads a stream from stdin
    #[arg(value_name = "BUNDLE", required_unless_present = "watch")]
    bundle: Vec<PathBuf>,
    /// Ask for missing media even if stdin is no terminal; each line on stdin goes on
    #[arg(long)]
    prompt: bool,
    /// Receive what is mounted below this folder, one bundle after the other, and never ask; the configuration must allow it
    #[arg(long, value_name = "DIR", conflicts_with_all = ["bundle", "prompt", "dry_run", "rules"])]
    watch: Option<PathBuf>,
    /// Show what would be pushed; write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    overrides: Overrides,
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
        let progress = Progress::new(quiet);
        if let Some(folder) = &self.watch {
            let site = || Site::resolve(self.site.clone(), self.production.clone());
            return watch::watch(&site, folder, self.json, &progress, state);
        }
        let site = Site::resolve(self.site, self.production)?;
        if self.dry_run {
            return dry_run(&site, from(&self.bundle, Box::new(AsFarAsNeeded))?, self.json, &progress);
        }
        let asks = self.prompt || (std::io::stdin().is_terminal() && std::io::stderr().is_terminal());
        let wait: Box<dyn Wait> =
            if asks { Box::new(Prompt { folders: self.bundle.clone() }) } else { Box::new(AllHere) };
        let received = crate::receive(&site, from(&self.bundle, wait)?, &self.overrides, &progress, state)?;
        print(received, "received", self.json)
    }
}

/// Where the bundle comes from.
pub(crate) fn from(paths: &[PathBuf], wait: Box<dyn Wait>) -> Result<From, Error> {
    match paths {
        [one] if one.as_os_str() == "-" => Ok(From::Stream(Box::new(std::io::stdin()))),
        many if many.iter().any(|path| path.as_os_str() == "-") => Err(Error::StreamAndFolders),
        many => Ok(From::Folders(many.to_vec(), wait)),
    }
}

/// Says what was done; `done` is the word for it.
pub(crate) fn print(received: Received, done: &str, json: bool) -> Result<(), Error> {
    match received {
        Received::Before(before) => already(&before, done, json),
        Received::Now(recorded) => published(&recorded, done, json),
        Received::Waits(waiting) => waits(&waiting, json),
    }
}

fn published(recorded: &record::Recorded, done: &str, json: bool) -> Result<(), Error> {
    if json {
        let value = serde_json::json!({ "result": done, "bundle": recorded });
        return console::print_json(&value).map_err(Error::Stdout);
    }
    let row = |i: &RecordedImage| vec![i.production.to_string(), i.digest.to_string(), i.origin.to_string()];
    let rows: Vec<_> = recorded.record.images.iter().map(row).collect();
    let s = &recorded.record.subject;
    let mut text = console::table(&["PRODUCTION", "DIGEST", "ORIGIN (AS CLAIMED)"], &rows);
    for tag in &recorded.skipped {
        text += &format!("left out: {tag} names another image\n");
    }
    text += &format!(
        "\n{done}: {} {} (bundle {}), {} signatures by {}, ledger entry {}\n",
        s.stream,
        s.sequence,
        s.bundle,
        recorded.record.signatures.len(),
        recorded.production,
        recorded.entry
    );
    console::print(&text).map_err(Error::Stdout)
}

fn waits(waiting: &wait::Waiting, json: bool) -> Result<(), Error> {
    if json {
        let value = serde_json::json!({ "result": "waits", "bundle": waiting });
        return console::print_json(&value).map_err(Error::Stdout);
    }
    let row = |waits: &ReceivedImage| {
        let place = waits.staging.as_ref().map_or_else(|| "without a tag".into(), ToString::to_string);
        vec![place, waits.image.digest.to_string(), waits.image.production.to_string()]
    };
    let rows: Vec<_> = waiting.record.images.iter().map(row).collect();
    let s = &waiting.record.subject;
    let mut text = console::table(&["WAITS AT", "DIGEST", "FOR"], &rows);
    text += &format!(
        "\nreceived: {} {} (bundle {}), ledger entry {}; it waits for `sealift-import promote {}-{}`\n",
        s.stream, s.sequence, s.bundle, waiting.entry, s.stream, s.sequence
    );
    console::print(&text).map_err(Error::Stdout)
}

fn already(before: &record::Before, done: &str, json: bool) -> Result<(), Error> {
    let print = if json {
        console::print_json(&serde_json::json!({ "result": format!("already {done}"), "bundle": before }))
    } else {
        console::print(&format!(
            "already {done}: {} {} (bundle {}) at {}, ledger entry {}; nothing to do\n",
            before.subject.stream, before.subject.sequence, before.subject.bundle, before.at, before.entry
        ))
    };
    print.map_err(Error::Stdout)
}

#[derive(Serialize)]
struct Move<'a> {
    origin: &'a manifest_schema::Reference,
    production: &'a TagRef,
    #[serde(skip_serializing_if = "Option::is_none")]
    staging: Option<&'a TagRef>,
    digest: Digest,
    tag: &'static str,
    names_now: Option<Digest>,
}

fn dry_run(site: &Site, from: From, json: bool, progress: &Progress) -> Result<(), Error> {
    let authenticated = authenticate(from.open(site)?)?;
    let ledger = site.read_ledger()?;
    if let Some(ledger) = &ledger
        && let Some(before) = record::before(ledger, &authenticated)?
    {
        return already(&before, "received", json);
    }
    let placement = admit::examine(site, ledger.as_ref(), &authenticated, progress, Probe::Leave)?;
    let moves: Vec<Move<'_>> = placement.images().iter().map(describe).collect();
    let print = if json {
        console::print_json(&serde_json::json!({ "result": "would be received", "images": moves }))
    } else {
        let rows: Vec<_> = moves
            .iter()
            .map(|m| {
                let place = m.staging.unwrap_or(m.production);
                vec![place.to_string(), m.tag.into(), m.digest.to_string(), m.origin.to_string()]
            })
            .collect();
        let place = if moves.iter().any(|m| m.staging.is_some()) { "STAGING" } else { "PRODUCTION" };
        console::print(&console::table(&[place, "TAG", "DIGEST", "ORIGIN (AS CLAIMED)"], &rows))
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
    let staging = Some(&placed.destination).filter(|place| **place != placed.production);
    Move {
        origin: &placed.image.origin,
        production: &placed.production,
        staging,
        digest: placed.image.digest,
        tag,
        names_now,
    }
}

/// Asks the person at the terminal for media.
struct Prompt {
    /// Where media are mounted.
    folders: Vec<PathBuf>,
}

impl Wait for Prompt {
    fn wait(&self, wanted: &Wanted) -> Result<Option<Vec<PathBuf>>, Error> {
        let places: Vec<_> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
        let places = places.join(" or ");
        console::say(&format!("{wanted}, please: put it at {places} and press Enter, or name another folder"));
        let mut line = String::new();
        match std::io::stdin().read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) if line.trim().is_empty() => Ok(Some(self.folders.clone())),
            Ok(_) => Ok(Some(vec![line.trim().into()])),
            Err(e) => Err(Error::Stdin(e)),
        }
    }

    fn reject(&self, reason: &Error) {
        console::say(&format!("this does not help: {}", console::chain(reason)));
    }

    fn checked(&self, name: &str, problem: Option<&Error>) {
        match problem {
            None => console::say(&format!("{name} is good; it will be needed again")),
            Some(problem) => self.reject(problem),
        }
    }
}

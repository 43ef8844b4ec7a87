//! `pack`: makes a bundle.

use std::io::IsTerminal;
use std::path::Path;

use clap::Args;
use console::{Failure, Progress};
use manifest_schema::Timestamp;
use signing::SecretKey;

use crate::Packed;
use crate::error::Error;
use crate::planned::Planned;
use crate::request::{Request, RequestArgs};
use crate::seal::Sealed;

/// Packs images into a sealed bundle
///
/// IMAGE may also be one folder that `plan --write` made: what was planned is packed, with the signatures that were added to
/// it, or nothing.
#[derive(Debug, Args)]
pub struct Pack {
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Make only these volumes (3,7) again, of a bundle that was packed before, in a folder beside it
    #[arg(long, value_name = "NUMBER", value_delimiter = ',')]
    volume: Vec<u32>,
    /// Do not read back from the medium what was written
    #[arg(long)]
    no_check: bool,
    #[command(flatten)]
    request: RequestArgs,
}

impl Pack {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub fn run(self, quiet: bool) -> Result<(), Failure> {
        let mut state = "nothing was packed";
        self.pack(quiet, &mut state).map_err(|e| Failure::new(&e).with_state(state))
    }

    fn pack(self, quiet: bool, state: &mut &'static str) -> Result<(), Error> {
        let planned = match self.request.images.as_slice() {
            [folder] if Planned::is_at(Path::new(folder)) => Some(Planned::open(Path::new(folder))?),
            _ => None,
        };
        let request = match &planned {
            Some(planned) => Request::of_plan(self.request.clone(), planned)?,
            None => Request::resolve(self.request.clone())?,
        };
        request.recipients()?;
        let progress = Progress::new(quiet);
        request.say_remarks(&progress);
        let keys = request.unlock().map_err(|e| match e {
            Error::Missing("a release key") if planned.is_some() => Error::NoSealKey,
            other => other,
        })?;
        for warning in keys.iter().flat_map(|key| key.warnings(Timestamp::now())) {
            progress.warn(format_args!("release key: {warning}"));
        }
        if request.is_stream() {
            return self.send(&request, planned.as_ref(), &keys, &progress, state);
        }
        *state = "no bundle was finished; volumes that were finished stay for a run that goes on";
        let (sealed, word) = if self.volume.is_empty() {
            match crate::pack(&request, planned.as_ref(), &keys, &progress)? {
                Packed::New(sealed) => (sealed, "packed"),
                Packed::Already(sealed) => (sealed, "already packed"),
            }
        } else {
            let mut volumes = self.volume.clone();
            volumes.sort_unstable();
            volumes.dedup();
            (crate::pack_again(request, &volumes, &keys, &progress)?, "made again")
        };
        *state = "the bundle is sealed and complete";
        if word != "already packed" && !self.no_check {
            *state = "the bundle is sealed, but the medium does not give back what was written";
            check(&sealed, &progress)?;
        }
        if self.json {
            return console::print_json(&serde_json::json!({ "result": word, "bundle": sealed }))
                .map_err(Error::Stdout);
        }
        console::print(&format!("{}\n", line(word, &sealed))).map_err(Error::Stdout)
    }

    /// Sends the bundle to stdout; what there is to say goes to stderr.
    fn send(
        &self,
        request: &Request,
        planned: Option<&Planned>,
        keys: &[SecretKey],
        progress: &Progress,
        state: &mut &'static str,
    ) -> Result<(), Error> {
        let given = [
            ("--volume", !self.volume.is_empty()),
            ("--json", self.json),
            ("--media", request.cut.medium.is_some()),
            ("--recovery", request.cut.recovery.is_some()),
            ("--with-importer", request.with_importer.is_some()),
        ];
        if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) {
            return Err(Error::NotForStream { flag });
        }
        if let Some(count) = planned.map(|p| p.manifest().volumes.count).filter(|count| *count != 1) {
            return Err(Error::PlannedVolumes { count });
        }
        let stdout = std::io::stdout();
        if stdout.is_terminal() {
            return Err(Error::Terminal);
        }
        *state = "what was sent has no seal, and is not accepted; the same command sends it again from the beginning";
        let sealed = crate::send(request, planned, keys, Box::new(bundle::Pipe(stdout)), progress)?;
        progress.say(line("sent", &sealed));
        Ok(())
    }
}

/// Reads back from the medium what was written to it.
fn check(sealed: &Sealed, progress: &Progress) -> Result<(), Error> {
    let folders = std::slice::from_ref(&sealed.path);
    let report = commands::check::check_bundle(folders, &commands::check::Options::default(), progress)?;
    report.verdict(false)?;
    let rate = console::bytes(report.bytes_per_second);
    progress.say(format_args!("checked: the medium gives back what was written, {rate} a second"));
    Ok(())
}

fn line(word: &str, sealed: &Sealed) -> String {
    let size = sealed.bytes.map_or(String::new(), |b| format!(", {}", console::bytes(b)));
    let volumes = match sealed.volumes.as_slice() {
        [1] | [] => String::new(),
        [one] => format!(", volume {one}"),
        many => format!(", {} volumes", many.len()),
    };
    let media = match sealed.media {
        None => String::new(),
        Some(1) => " for 1 medium".into(),
        Some(n) => format!(" for {n} media"),
    };
    let revision = if sealed.revision > 1 { format!(", seal revision {}", sealed.revision) } else { String::new() };
    format!("{word}: {} (bundle {}{volumes}{media}{size}{revision})", sealed.path.display(), sealed.bundle)
}

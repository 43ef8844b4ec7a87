//! `pack`: makes a bundle.

use std::path::Path;

use clap::Args;
use console::{Failure, Progress};
use manifest_schema::Timestamp;

use crate::Packed;
use crate::error::Error;
use crate::planned::Planned;
use crate::request::{Request, RequestArgs};

/// Packs images into a sealed bundle
///
/// IMAGE may also be one folder that `plan --write` made: what was planned is packed, with the signatures that were added to
/// it, or nothing.
#[derive(Debug, Args)]
pub struct Pack {
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    request: RequestArgs,
}

impl Pack {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub fn run(self, quiet: bool) -> Result<(), Failure> {
        let mut state = "no bundle was finished; the same command begins it again";
        self.pack(quiet, &mut state).map_err(|e| Failure::new(&e).with_state(state))
    }

    fn pack(self, quiet: bool, state: &mut &'static str) -> Result<(), Error> {
        let planned = match self.request.images.as_slice() {
            [folder] if Planned::is_at(Path::new(folder)) => Some(Planned::open(Path::new(folder))?),
            _ => None,
        };
        let request = match &planned {
            Some(planned) => Request::of_plan(self.request, planned)?,
            None => Request::resolve(self.request)?,
        };
        request.recipients()?;
        let keys = request.unlock().map_err(|e| match e {
            Error::Missing("a release key") if planned.is_some() => Error::NoSealKey,
            other => other,
        })?;
        let progress = Progress::new(quiet);
        for warning in keys.iter().flat_map(|key| key.warnings(Timestamp::now())) {
            progress.warn(format_args!("release key: {warning}"));
        }
        let (sealed, word) = match crate::pack(&request, planned.as_ref(), &keys, &progress)? {
            Packed::New(sealed) => (sealed, "packed"),
            Packed::Already(sealed) => (sealed, "already packed"),
        };
        *state = "the bundle is sealed and complete";
        if self.json {
            return console::print_json(&serde_json::json!({ "result": word, "bundle": sealed }))
                .map_err(Error::Stdout);
        }
        let size = sealed.bytes.map_or(String::new(), |b| format!(", {}", console::bytes(b)));
        console::print(&format!("{word}: {} (bundle {}{size})\n", sealed.path.display(), sealed.bundle))
            .map_err(Error::Stdout)
    }
}

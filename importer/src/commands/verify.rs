//! `verify`: everything that can be checked without a registry.

use std::path::PathBuf;

use clap::Args;
use console::{Explain, Failure, Fault, Progress};

use crate::error::Error;
use crate::gate;
use crate::site::{ProductionArgs, Site, SiteArgs};
use crate::verify::{Verification, verify, verify_stream};

/// Checks a whole bundle, down to every byte, and reports all problems; writes nothing
#[derive(Debug, Args)]
pub struct Verify {
    /// The bundle's folder; several if it is on several media; `-` reads a stream from stdin
    #[arg(value_name = "BUNDLE", required = true)]
    bundle: Vec<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    site: SiteArgs,
}

/// Problems were found; each was printed.
#[derive(Debug, thiserror::Error)]
#[error("{count} {}", if *count == 1 { "problem" } else { "problems" })]
struct Problems {
    count: usize,
    fault: Fault,
    hint: Option<String>,
}

impl Explain for Problems {
    fn fault(&self) -> Fault {
        self.fault
    }
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl Verify {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with the highest exit code of all problems.
    pub fn run(self, quiet: bool) -> Result<(), Failure> {
        let site = Site::resolve(self.site, ProductionArgs::default()).map_err(|e| Failure::new(&e))?;
        let progress = Progress::new(quiet);
        let result = match self.bundle.as_slice() {
            [one] if one.as_os_str() == "-" => verify_stream(&site, Box::new(std::io::stdin()), &progress),
            many => verify(&site, many, &progress),
        };
        if self.json { console::print_json(&result) } else { console::print(&text(&result)) }
            .map_err(|e| Failure::new(&Error::Stdout(e)))?;
        match result.worst() {
            None => Ok(()),
            Some((fault, hint)) => Err(Failure::new(&Problems { count: result.problems().count(), fault, hint })),
        }
    }
}

fn text(v: &Verification) -> String {
    let mut text = String::new();
    if let Some(b) = &v.bundle {
        text += &format!("bundle {} {} {}\n", b.id, b.stream, b.sequence);
        text += &format!("manifest {} signed by {}\n", b.manifest, b.signers.join(", "));
    }
    for check in &v.checks {
        match &check.problem {
            None => text += &format!("good     {}\n", check.name),
            Some(problem) => text += &format!("PROBLEM  {}: {problem}\n", check.name),
        }
    }
    text + &gate::text(&v.scanned)
}

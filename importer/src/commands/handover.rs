//! `handover`: files for clusters.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use console::{Failure, Progress};
use serde::Serialize;

use crate::error::Error;
use crate::handover::registries_d::Urls;
use crate::handover::{Report, folder, staging};
use crate::site::{ProductionArgs, Site, SiteArgs};

/// Writes what clusters need so that they accept what this site vouches for
#[derive(Debug, Args)]
pub struct HandoverCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Staging(Staging),
}

/// For clusters that pull from the staging registry: policy.json, registries.d and keys, by the streams' image policies
///
/// Nodes then accept by the signatures that images had at their origin what the policies accept there, and refuse the rest.
/// README.txt says where each file goes, and what was left out.
#[derive(Debug, Args)]
struct Staging {
    /// The folder; one that this command has written before is replaced
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Where the key files will lie on the nodes
    #[arg(long, value_name = "DIR", env = "SEALIFT_KEY_DIR", default_value = "/etc/pki/sealift/staging")]
    key_dir: PathBuf,
    /// Where nodes find the folder for signatures; HOST=URL for each registry if there are several [default: file:// and the
    /// folder]
    #[arg(long, value_name = "[HOST=]URL", env = "SEALIFT_LOOKASIDE_URL", value_delimiter = ',')]
    lookaside_url: Vec<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// The configuration [default: import.yaml]
    #[arg(short, long, value_name = "FILE", env = "SEALIFT_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Serialize)]
struct Written<'a> {
    result: &'static str,
    folder: &'a PathBuf,
    files: Vec<&'a str>,
    #[serde(flatten)]
    report: &'a Report,
}

impl HandoverCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub fn run(self, quiet: bool) -> Result<(), Failure> {
        let Command::Staging(staging) = self.command;
        staging.write(&Progress::new(quiet)).map_err(|e| Failure::new(&e))
    }
}

impl Staging {
    fn write(self, progress: &Progress) -> Result<(), Error> {
        let site = Site::resolve(SiteArgs { config: self.config, ..SiteArgs::default() }, ProductionArgs::default())?;
        let configured = site.staging().and_then(|staging| staging.lookaside_url.as_ref());
        let urls = Urls::new(&self.lookaside_url, configured)?;
        let made = staging::make(&site, &self.key_dir, &urls)?;
        folder::write(&self.folder, staging::KIND, &made.files)?;
        warn(&made.report, progress);
        let files = made.files.keys().map(String::as_str).collect();
        let written = Written { result: "written", folder: &self.folder, files, report: &made.report };
        let print = match self.json {
            true => console::print_json(&written),
            false => console::print(&text(&written)),
        };
        print.map_err(Error::Stdout)
    }
}

/// What somebody should know before the files go to a cluster.
fn warn(report: &Report, progress: &Progress) {
    for row in report.scopes.iter().filter(|row| row.accepts_anything()) {
        let origins: Vec<_> = row.origins.iter().map(|origin| origin.origin.as_str()).collect();
        let (scope, origins) = (&row.scope, origins.join(", "));
        progress.warn(format_args!("{scope}: any image is accepted, as the image policy says of {origins}"));
    }
    for left in &report.left_out {
        progress.warn(format_args!("left out: {left}"));
    }
}

fn text(written: &Written<'_>) -> String {
    let rows: Vec<_> = written
        .report
        .scopes
        .iter()
        .map(|row| {
            let origins: Vec<_> = row.origins.iter().map(|o| format!("{} ({})", o.origin, o.stream)).collect();
            let origins = if origins.is_empty() { "-".into() } else { origins.join(", ") };
            vec![row.scope.clone(), row.demands.join(" and "), origins]
        })
        .collect();
    let mut text = console::table(&["SCOPE", "DEMANDS", "ORIGIN"], &rows);
    let folder = written.folder.display();
    text += &format!("\nwritten: {folder}, {} files; {folder}/README.txt says where they go\n", written.files.len());
    text
}

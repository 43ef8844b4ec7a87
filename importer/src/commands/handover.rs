//! `handover`: files for clusters.

mod clusters;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use console::{Failure, Progress};
use ledger::{Clusters, EntryNumber, HandedFile, HandedOver, Ledger};
use manifest_schema::OutsideText;
use serde::Serialize;
use signing::MovedIdentity;

use crate::access::{LedgerArgs, stamp};
use crate::config::{ClusterKind, LookasideUrlConfig, Mirrors};
use crate::error::Error;
use crate::handover::folder::Complete;
use crate::handover::production::Asked;
use crate::handover::registries_d::Urls;
use crate::handover::{Made, Report, folder, production, staging};
use crate::site::{ProductionArgs, Site, SiteArgs};
use clusters::ClusterArgs;

/// Writes what clusters need so that they accept what this site vouches for
#[derive(Debug, Args)]
pub struct HandoverCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Production(Box<Production>),
    Staging(Box<Staging>),
}

/// For clusters that pull from production: policy.json, registries.d and keys, and what must not run any more
///
/// Nodes then accept what a production key has signed under the name by which it is pulled, and refuse the rest; what was
/// withdrawn they refuse by digest even if its signatures come back. README.txt says where each file goes.
#[derive(Debug, Args)]
struct Production {
    /// Where the key files will lie on the nodes
    #[arg(long, value_name = "DIR", env = "SEALIFT_PRODUCTION_KEY_DIR", default_value = "/etc/pki/sealift/production")]
    key_dir: PathBuf,
    /// A certificate that clusters are to accept, instead of the configured ones; several may be given, also folders of them
    #[arg(long, value_name = "FILE", env = "SEALIFT_PRODUCTION_CERTIFICATE", value_delimiter = ',')]
    certificate: Vec<PathBuf>,
    /// Where nodes find the folder for signatures; HOST=URL for each registry if there are several [default: file:// and the
    /// folder]
    #[arg(long, value_name = "[HOST=]URL", env = "SEALIFT_PRODUCTION_LOOKASIDE_URL", value_delimiter = ',')]
    lookaside_url: Vec<String>,
    /// For which pulls production stands in for the origins: clusters ask by the names that images have there
    #[arg(long, value_enum, value_name = "PULLS", env = "SEALIFT_MIRRORS")]
    mirrors: Option<Mirrors>,
    #[command(flatten)]
    clusters: ClusterArgs,
    #[command(flatten)]
    to: To,
}

/// For clusters that pull from the staging registry: policy.json, registries.d and keys, by the streams' image policies
///
/// Nodes then accept by the signatures that images had at their origin what the policies accept there, and refuse the rest.
/// README.txt says where each file goes, and what was left out.
#[derive(Debug, Args)]
struct Staging {
    /// Where the key files will lie on the nodes
    #[arg(long, value_name = "DIR", env = "SEALIFT_KEY_DIR", default_value = "/etc/pki/sealift/staging")]
    key_dir: PathBuf,
    /// Where nodes find the folder for signatures; HOST=URL for each registry if there are several [default: file:// and the
    /// folder]
    #[arg(long, value_name = "[HOST=]URL", env = "SEALIFT_LOOKASIDE_URL", value_delimiter = ',')]
    lookaside_url: Vec<String>,
    #[command(flatten)]
    to: To,
}

/// What both kinds have.
#[derive(Debug, Args)]
struct To {
    /// The folder; one that this command has written before is replaced
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Show what would be written, and README.txt; write neither the folder nor an entry of the ledger
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// The configuration [default: import.yaml]
    #[arg(short, long, value_name = "FILE", env = "SEALIFT_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    ledger: LedgerArgs,
}

#[derive(Serialize)]
struct Written<'a> {
    result: &'static str,
    folder: &'a PathBuf,
    /// The ledger's entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<EntryNumber>,
    files: Vec<&'a str>,
    /// What README.txt would say.
    #[serde(skip_serializing_if = "Option::is_none")]
    readme: Option<&'a str>,
    #[serde(flatten)]
    report: &'a Report,
}

impl HandoverCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub fn run(self, quiet: bool) -> Result<(), Failure> {
        let progress = Progress::new(quiet);
        let mut state = None;
        let done = match self.command {
            Command::Production(production) => production.write(&progress, &mut state),
            Command::Staging(staging) => staging.write(&progress, &mut state),
        };
        done.map_err(|e| match state {
            Some(state) => Failure::new(&e).with_state(state),
            None => Failure::new(&e),
        })
    }
}

impl Production {
    fn write(self, progress: &Progress, state: &mut Option<String>) -> Result<(), Error> {
        let Self { key_dir, certificate, lookaside_url, mirrors, clusters, to } = self;
        to.write(Clusters::Production, progress, state, |site, ledger| {
            let asked = Asked {
                certificates: &site.production_certificates(ledger, &certificate)?,
                mirrors: mirrors.unwrap_or(site.mirrors),
                key_dir: &key_dir,
                urls: &Urls::new(&lookaside_url, site.lookaside_url())?,
                wanted: &clusters.resolve(&site.handover)?,
            };
            production::make(site, ledger, &asked)
        })
    }
}

impl Staging {
    fn write(self, progress: &Progress, state: &mut Option<String>) -> Result<(), Error> {
        let (key_dir, flags) = (self.key_dir, self.lookaside_url);
        self.to.write(Clusters::Staging, progress, state, |site, _| {
            let configured: Option<&LookasideUrlConfig> = site.staging().and_then(|s| s.lookaside_url.as_ref());
            staging::make(site, &key_dir, &Urls::new(&flags, configured)?)
        })
    }
}

impl To {
    /// Makes the files, records them, and writes the folder; a dry run shows them.
    fn write(
        self,
        clusters: Clusters,
        progress: &Progress,
        state: &mut Option<String>,
        make: impl FnOnce(&Site, &Ledger) -> Result<Made, Error>,
    ) -> Result<(), Error> {
        let args = SiteArgs { config: self.config, ledger: self.ledger, ..SiteArgs::default() };
        let site = Site::resolve(args, ProductionArgs::default())?;
        let (Made { files, report }, ledger) = match self.dry_run {
            true => {
                site.ledger()?;
                (make(&site, &site.read_ledger()?.ok_or(Error::Missing("the ledger"))?)?, None)
            }
            false => {
                let ledger = site.open_ledger()?;
                (make(&site, &ledger)?, Some(ledger))
            }
        };
        let files = Complete::new(clusters.as_str(), files);
        let entry = match ledger {
            None => {
                folder::check(&self.folder, &files)?;
                None
            }
            Some(mut ledger) => {
                let prepared = folder::prepare(&self.folder, &files)?;
                let entry = ledger.handed_over(&stamp()?, handed_over(clusters, &files, &report))?;
                *state = Some(format!("ledger entry {entry} says what was made; the folder is what it was before"));
                prepared.publish()?;
                *state = Some(format!("the folder is written, as ledger entry {entry} says"));
                Some(entry)
            }
        };
        warn(&report, progress);
        let written = Written {
            result: if entry.is_some() { "written" } else { "would be written" },
            // Without a `/` at the end.
            folder: &self.folder.components().collect(),
            entry,
            files: files.files().keys().map(String::as_str).collect(),
            readme: files.readme().filter(|_| entry.is_none()),
            report: &report,
        };
        let print = match self.json {
            true => console::print_json(&written),
            false => console::print(&text(&written)),
        };
        print.map_err(Error::Stdout)
    }
}

/// What the ledger's entry says.
fn handed_over(clusters: Clusters, files: &Complete, report: &Report) -> HandedOver {
    let file =
        |(name, bytes): (&String, &Vec<u8>)| HandedFile { name: OutsideText::new(name), digest: blobs::sha256(bytes) };
    let denied = u64::try_from(report.denied.len()).unwrap_or(u64::MAX);
    HandedOver { clusters, files: files.files().iter().map(file).collect(), denied }
}

/// What somebody should know before the files go to a cluster.
fn warn(report: &Report, progress: &Progress) {
    for row in report.scopes.iter().filter(|row| row.accepts_anything()) {
        let origins: Vec<_> = row.origins.iter().map(|origin| origin.origin.as_str()).collect();
        let (scope, origins) = (&row.scope, origins.join(", "));
        progress.warn(format_args!("{scope}: any image is accepted, as the image policy says of {origins}"));
    }
    if let Some(merged) = &report.merged {
        if merged.accepts_anything() {
            let file = manifest_schema::text::escape(&merged.file);
            progress.warn(format_args!(
                "any image of a registry that policy.json does not name is accepted, as {file} says"
            ));
        }
        if merged.has_cosign() && report.kinds.contains(&ClusterKind::Openshift) {
            progress.warn(
                "the cluster seems to have image policies, and writes policy.json for them too: this MachineConfig's takes its place, \
                 and what is changed there later has no effect; README.txt says more",
            );
        }
    }
    if let Some(in_use) = report.in_use.as_ref().filter(|in_use| in_use.others == 0) {
        let file = in_use.file.escaped();
        progress.warn(format_args!("{file} lists no image of others: whether the platform still runs was not judged"));
    }
    if report.kinds.contains(&ClusterKind::OpenshiftCosign) {
        progress.warn(
            "image policies of OpenShift know cosign keys only: production's OpenPGP signatures do not count there; if images were signed before \
             there was a cosign key, run `sealift-import resign` first",
        );
    }
    if report.kinds.contains(&ClusterKind::Openshift) {
        for section in report.folders() {
            let (scope, url) = (&section.scope, &section.lookaside);
            progress.warn(format_args!(
                "{scope}: nodes look for signatures in a folder of their own, {url}: without it they pull nothing of production"
            ));
        }
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
            let origins = match row.identities.as_slice() {
                [MovedIdentity::RemapIdentity { signed_prefix, .. }] if row.origins.is_empty() => {
                    format!("comes from {signed_prefix}")
                }
                _ => origins,
            };
            vec![row.scope.clone(), row.demands.join(" and "), origins]
        })
        .collect();
    let mut text = console::table(&["SCOPE", "DEMANDS", "ORIGIN"], &rows);
    let folder = written.folder.display();
    if !written.report.denied.is_empty() {
        text += &format!("\nmust not run: {}, in {folder}/deny.json\n", count(written.report.denied.len(), "image"));
    }
    if let Some(merged) = &written.report.merged {
        let (rules, file) = (count(merged.kept.len(), "rule"), manifest_schema::text::escape(&merged.file));
        text += &format!("\nkept of {file}: {rules}\n");
    }
    if let Some(in_use) = &written.report.in_use {
        text += &format!("\nin use, and accepted: {}\n", count(in_use.images.len(), "image"));
    }
    let files = count(written.files.len(), "file");
    text += &match (written.entry, written.readme) {
        (Some(entry), _) => {
            format!("\nwritten: {folder}, {files}, ledger entry {entry}; {folder}/README.txt says where they go\n")
        }
        (None, readme) => {
            let readme = readme.unwrap_or_default();
            format!("\nwould be written: {folder}, {files}; nothing was written or recorded. README.txt:\n\n{readme}")
        }
    };
    text
}

fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

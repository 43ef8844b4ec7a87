//! `inspect`: what is inside a bundle.

use std::path::PathBuf;

use clap::Args;
use commands::handover::{self, Chain};
use console::Failure;
use manifest_schema::{Manifest, Stored};
use serde::Serialize;

use crate::admit;
use crate::authenticate::authenticate;
use crate::commands::evidence;
use crate::commands::receive::from;
use crate::documents;
use crate::error::Error;
use crate::gate::{self, ScannedImage};
use crate::media::AsFarAsNeeded;
use crate::provenance::Judged;
use crate::site::{ProductionArgs, Site, SiteArgs};

/// Shows what is inside a bundle, and what vouches for it; reads no layer
#[derive(Debug, Args)]
pub struct Inspect {
    /// The bundle's folder, or of several media the first; `-` reads a stream from stdin
    #[arg(value_name = "BUNDLE", required = true)]
    bundle: Vec<PathBuf>,
    /// Print the whole manifest as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    site: SiteArgs,
}

#[derive(Serialize)]
struct Report<'a> {
    signers: &'a [signing::Signer],
    manifest_digest: manifest_schema::Digest,
    manifest: &'a Manifest,
    /// What the image policy says of each image, in the manifest's order.
    judged: Vec<Judged>,
    /// What the reports of scanners come to, in the manifest's order.
    scanned: Vec<ScannedImage>,
    /// Who handed over what, as stated.
    handover: Vec<Chain>,
}

impl Inspect {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub fn run(self) -> Result<(), Failure> {
        self.inspect().map_err(|e| Failure::new(&e))
    }

    fn inspect(self) -> Result<(), Error> {
        let site = Site::resolve(self.site, ProductionArgs::default())?;
        let bundle = authenticate(from(&self.bundle, Box::new(AsFarAsNeeded))?.open(&site)?)?;
        let (graph, evidence) = documents::read(&bundle)?;
        let report = Report {
            scanned: gate::in_order(&gate::scanned(&site, &bundle, &graph, &evidence)?, &bundle.manifest.get().images),
            judged: admit::judged(&site, &bundle, &graph, &evidence)?,
            signers: bundle.manifest.signers(),
            manifest_digest: bundle.digest,
            manifest: bundle.manifest.get(),
            handover: bundle.media.handover(),
        };
        if self.json { console::print_json(&report) } else { console::print(&text(&report)) }.map_err(Error::Stdout)
    }
}

/// What the reports come to: nothing if there are none and no gate asks for any.
fn scanned(images: &[ScannedImage]) -> String {
    let mut text = gate::text(images);
    let judged = images.iter().map(|image| (&image.image, &image.verdict));
    if let Err(refused) = scan::Refusals::demand(judged) {
        text += &format!("\nREFUSED by the gate:{refused}\n");
    }
    text
}

fn text(report: &Report<'_>) -> String {
    let m = report.manifest;
    let mut text = format!("bundle    {}\n", m.bundle);
    text += &format!("stream    {} {}\n", m.stream, m.sequence);
    text += &format!("created   {} by {}\n", m.created, m.tool);
    if let Some(expires) = m.expires {
        text += &format!("expires   {expires}\n");
    }
    text += &format!("manifest  {}\n", report.manifest_digest);
    for signer in report.signers {
        let name = signer.user_id.as_ref().map(|u| format!(" ({})", u.escaped())).unwrap_or_default();
        text += &format!("signed    {}{name} at {}\n", signer.fingerprint, signer.signed_at);
    }
    for (key, value) in &m.labels {
        text += &format!("label     {key}: {value}\n");
    }
    let rows: Vec<_> = m
        .images
        .iter()
        .map(|i| {
            let platforms: Vec<_> =
                i.platforms.iter().filter_map(|p| p.platform.as_ref()).map(ToString::to_string).collect();
            vec![
                i.origin.to_string(),
                i.digest.to_string(),
                if platforms.is_empty() { "-".into() } else { platforms.join(",") },
                i.asked.escaped().to_string(),
            ]
        })
        .collect();
    text.push('\n');
    text += &console::table(&["ORIGIN (AS CLAIMED)", "DIGEST", "PLATFORMS", "ASKED FOR"], &rows);
    text += &evidence::text(&report.judged);
    text += &scanned(&report.scanned);
    for chain in &report.handover {
        text += &format!("\n{}", handover::text(chain));
    }
    let left: Vec<_> = m.blobs.iter().filter(|b| b.stored == Stored::Base).collect();
    let carried = m.blobs.len() - left.len();
    text += &format!("\n{carried} blobs, {}, in {} volumes\n", console::bytes(m.total_bytes()), m.volumes.count);
    if let Some(base) = &m.base {
        let bytes = console::bytes(left.iter().map(|b| b.size).sum());
        text += &format!("{} blobs, {bytes}, are left to the base {}-{}\n", left.len(), base.stream, base.sequence);
    }
    text
}

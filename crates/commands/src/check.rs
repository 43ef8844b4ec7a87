//! `check`: what a courier can tell without any key, and who handed over what.

mod hand_over;
mod media;
mod repair;
mod report;
mod text;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Args;
use console::{Failure, Progress};
use manifest_schema::Timestamp;
use signing::{Certificates, Trust, distinct_roles};

use crate::error::Error;
use crate::handover::{ChainRules, read_chain, read_chain_at};

pub use hand_over::{HandOver, HandOverArgs};
pub use media::read_seal;
pub use report::{CheckedFolder, CheckedMedium, Damage, Presence, Report};
pub use text::text;

use hand_over::Places;
use media::Media;
use report::Rate;

/// Checks the files of a bundle against its seal; needs no key
///
/// The seal's signature is checked if --trust names the sender's certificate.
#[derive(Debug, Args)]
pub struct Check {
    /// The bundle's folder; of a bundle on several media, as many of their folders as are here
    #[arg(required = true, value_name = "BUNDLE")]
    bundles: Vec<PathBuf>,
    /// The sender's release certificate, or a folder of them; several may be given
    #[arg(long, value_name = "FILE", env = "SEALIFT_TRUST", value_delimiter = ',')]
    trust: Vec<PathBuf>,
    /// Every medium of the bundle must be here
    #[arg(long)]
    all: bool,
    /// Repair damaged volumes with their recovery data, on the medium itself
    #[arg(long)]
    repair: bool,
    /// How many threads repair [default: as many as there are processors]
    #[arg(long, value_name = "N", env = "SEALIFT_JOBS")]
    jobs: Option<NonZeroUsize>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hand_over: HandOverArgs,
    /// Certificate of a courier, or a folder of them: whose statements count as signed by someone known
    #[arg(long, value_name = "FILE", env = "SEALIFT_COURIERS", value_delimiter = ',', help_heading = "Custody")]
    couriers: Vec<PathBuf>,
    /// The folder of the statements of custody, where the media cannot be written [default: `handover` in each folder]
    #[arg(long, value_name = "DIR", env = "SEALIFT_STATEMENTS", help_heading = "Custody")]
    statements: Option<PathBuf>,
}

/// How a bundle is checked.
#[derive(Debug, Default)]
pub struct Options {
    /// Whose signatures on the seal count; `None` does not look at them.
    pub trust: Option<Trust>,
    /// Repair what can be repaired, with so many threads.
    pub repair: Option<NonZeroUsize>,
    /// The certificates of known couriers.
    pub couriers: Option<Certificates>,
    /// A further folder of statements of custody.
    pub statements: Option<PathBuf>,
}

impl Check {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code: 3 for the seal, 4 for files that differ from it.
    pub fn run(self, quiet: bool) -> Result<(), Failure> {
        self.check(quiet).map_err(|e| Failure::new(&e))
    }

    fn check(self, quiet: bool) -> Result<(), Error> {
        let (all, json) = (self.all, self.json);
        let certificates = |paths: &[PathBuf]| match paths {
            [] => Ok(None),
            paths => Certificates::load(paths).map(Some),
        };
        let (release, couriers) = (certificates(&self.trust)?, certificates(&self.couriers)?);
        if let (Some(release), Some(couriers)) = (&release, &couriers) {
            distinct_roles(&[("release", release), ("courier", couriers)])?;
        }
        let hand_over = self.hand_over.resolve(release.as_ref())?;
        let options = Options {
            trust: release.map(|release| Trust::new(release, 1, Timestamp::now())).transpose()?,
            repair: self.repair.then(|| self.jobs.unwrap_or_else(processors)),
            couriers,
            statements: self.statements,
        };
        let progress = Progress::new(quiet);
        let media = Media::open(&self.bundles, options.trust.as_ref())?;
        let places = hand_over.as_ref().map(|_| Places::make(&media, options.statements.as_deref())).transpose()?;
        let mut report = judge(&media, &options, &progress)?;
        let written = match hand_over.zip(places) {
            Some((hand_over, places)) => hand_over.write(&places, &media, &report),
            None => Ok(Vec::new()),
        };
        read_chains(&media, &options, &mut report);
        if json { console::print_json(&report) } else { console::print(&text(&report)) }.map_err(Error::Stdout)?;
        match (written, report.verdict(all)) {
            (Ok(files), verdict) => {
                files.iter().for_each(|file| console::say(&format!("{}: written", file.display())));
                verdict
            }
            (Err(e), Ok(())) => Err(e),
            // Damage has the higher exit code.
            (Err(e), damaged) => {
                console::say(&format!("warning: {e}"));
                damaged
            }
        }
    }
}

/// Checks the folders of one bundle and prints nothing. What is wrong with files is in the report; [`Report::verdict`] makes
/// an error of it.
///
/// # Errors
/// [`Error`] for a seal that does not count, seals of different bundles, and what a bundle's folder does not have.
pub fn check_bundle(folders: &[PathBuf], options: &Options, progress: &Progress) -> Result<Report, Error> {
    let media = Media::open(folders, options.trust.as_ref())?;
    let mut report = judge(&media, options, progress)?;
    read_chains(&media, options, &mut report);
    Ok(report)
}

fn judge(media: &Media, options: &Options, progress: &Progress) -> Result<Report, Error> {
    progress.begin("checking", media.bytes);
    let (begun, bytes) = (Instant::now(), AtomicU64::new(0));
    let mut files = bundle::check_media(&media.media, |n| {
        bytes.fetch_add(n, Ordering::Relaxed);
        progress.advance(n);
    })?;
    let rate = Rate { bytes: bytes.into_inner(), seconds: begun.elapsed().as_secs_f64() };
    progress.end();
    repair::assess(&media.media, &mut files, progress);
    let mut outcome = repair::Outcome::default();
    if let Some(jobs) = options.repair {
        outcome = repair::repair(&media.media, &files, jobs.get(), progress);
        let names: Vec<&str> = outcome.repaired.iter().map(String::as_str).collect();
        files = bundle::check_again(&media.media, files, &names)?;
    }
    let report = Report::new(media, files, rate)?;
    Ok(Report { repaired: outcome.repaired, not_repaired: outcome.failed, ..report })
}

fn read_chains(media: &Media, options: &Options, report: &mut Report) {
    let seals = media.seals();
    let couriers = options.couriers.as_ref();
    let rules = ChainRules { bundle: report.bundle, seals: &seals, couriers, now: Timestamp::now() };
    report.handover = media.media.iter().map(|medium| read_chain(&medium.folder, &rules)).collect();
    report.handover.extend(options.statements.as_deref().map(|folder| read_chain_at(folder, &rules)));
}

fn processors() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

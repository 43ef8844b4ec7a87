//! `receipts`: what is known delivered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use console::{Failure, Progress};
use manifest_schema::{BundleId, Contradiction, LedgerId, ReceiptHead, Sequence, Stream, Timestamp};
use serde::Serialize;
use serde_json::json;

use crate::error::Error;
use crate::receipts::{Given, Judge, Kept, KeptReceipt, Outcome, Receipts as Store, delivered, reported};
use crate::record::{self, SealedBundle};
use crate::request::{ReceiptArgs, StateArgs, release_file};

/// Shows what production has received, as far as its receipts are known, and takes in receipts
///
/// Without a command, lists every bundle that was packed with this state folder.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Receipts {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only this release line
    #[arg(long)]
    stream: Option<Stream>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(Add),
}

/// Verifies receipts and keeps them in the state folder
#[derive(Debug, Args)]
struct Add {
    /// A receipt, or its short form (SEALIFT-R1/..., between quotes if it has spaces)
    #[arg(value_name = "FILE|SHORT-FORM", required = true)]
    receipts: Vec<String>,
    /// Keep receipts of bundles that were packed with another state folder, too: they show how far a ledger has come
    #[arg(long)]
    elsewhere: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// The release file that names the ledgers' certificates [default: release.yaml, if it is there]
    #[arg(short, long, value_name = "FILE", env = "SEALIFT_FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    receipts: ReceiptArgs,
    #[command(flatten)]
    state: StateArgs,
}

impl Common {
    fn store(self) -> Result<Store, Error> {
        let release = release_file(self.file.as_deref())?;
        let judge = Judge::load(&[release.receipts.certificates, self.receipts.receipt_trust].concat())?;
        Ok(Store::new(self.state.folder()?, judge))
    }
}

impl Receipts {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub fn run(self, quiet: bool) -> Result<(), Failure> {
        let progress = Progress::new(quiet);
        match self.command {
            None => list(self.stream, self.common, &progress).map_err(|e| Failure::new(&e)),
            Some(Command::Add(add)) => {
                let (mut done, all) = (0, add.receipts.len());
                add.run(&mut done, &progress)
                    .map_err(|e| Failure::new(&e).with_state(format!("{done} of {all} receipts were taken in")))
            }
        }
    }
}

impl Add {
    fn run(self, done: &mut usize, progress: &Progress) -> Result<(), Error> {
        let json = self.common.json;
        let store = self.common.store()?;
        let mut results = Vec::new();
        for text in &self.receipts {
            let given = match Given::short(text)? {
                Some(short) => short,
                None => Given::file(Path::new(text))?,
            };
            let (line, result) = match given {
                Given::File { path, bytes } => add_signed(&store, &path, &bytes, self.elsewhere, progress)?,
                Given::Short(short) => {
                    unless_elsewhere(self.elsewhere, reported(store.state(), &short))?;
                    let outcome = store.add_reported(&short)?;
                    let result = json!({
                        "stream": short.stream(), "sequence": short.sequence(), "bundle": short.bundle(),
                        "result": word(outcome), "signed": false,
                    });
                    (format!("{}: {}, reported, not signed", word(outcome), short.name()), result)
                }
                Given::Other { path, .. } => return Err(Error::NotAReceipt(path)),
            };
            *done += 1;
            results.push(result);
            if !json {
                console::print(&format!("{line}\n")).map_err(Error::Stdout)?;
            }
        }
        if json { console::print_json(&results).map_err(Error::Stdout) } else { Ok(()) }
    }
}

fn add_signed(
    store: &Store,
    path: &Path,
    bytes: &[u8],
    elsewhere: bool,
    progress: &Progress,
) -> Result<(String, serde_json::Value), Error> {
    let receipt = store.judge().judge(path, bytes)?;
    let found = unless_elsewhere(elsewhere, delivered(store.state(), receipt.clone()))?;
    let (outcome, contradictions) = store.add(&receipt, bytes)?;
    let r = receipt.get();
    for contradiction in &contradictions {
        warn(r.ledger, contradiction, progress);
    }
    let lacks = found.map_or(0, |found| found.lacks().count());
    let mut line = format!("{}: {}, delivered to ledger {} since {}", word(outcome), r.name(), r.ledger, r.published);
    match outcome {
        Outcome::Instead(made) => line += &format!(" (the one before was made {made})"),
        Outcome::Older(made) => line += &format!(" (made {}; one that was made {made} is kept)", r.made),
        Outcome::Kept | Outcome::Already => {}
    }
    if lacks > 0 {
        line += &format!("; {lacks} of its images are not held there");
    }
    let contradictions: Vec<_> = contradictions.iter().map(ToString::to_string).collect();
    let result = json!({
        "stream": r.stream, "sequence": r.sequence, "bundle": r.bundle, "result": word(outcome), "signed": true,
        "ledger": r.ledger, "since": r.published, "made": r.made, "lacks": lacks, "newest": r.newest,
        "contradictions": contradictions,
    });
    Ok((line, result))
}

/// What is not in the record, if that is allowed.
fn unless_elsewhere<T>(elsewhere: bool, found: Result<T, Error>) -> Result<Option<T>, Error> {
    match found {
        Err(Error::ReceiptUnknown { .. }) if elsewhere => Ok(None),
        other => other.map(Some),
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Kept | Outcome::Instead(_) => "kept",
        Outcome::Already => "already kept",
        Outcome::Older(_) => "older",
    }
}

fn warn(ledger: LedgerId, contradiction: &Contradiction, progress: &Progress) {
    progress.warn(format_args!(
        "LEDGER {ledger} CONTRADICTS ITSELF: {contradiction}. It was put back from a copy, written anew or forked, or a clock was wrong. \
         Both receipts are kept: show them to its auditor"
    ));
}

/// Everything that is known.
#[derive(Serialize)]
struct Report {
    streams: Vec<StreamReport>,
    contradictions: Vec<ContradictionReport>,
    not_counted: Vec<NotCounted>,
}

#[derive(Serialize)]
struct StreamReport {
    stream: Stream,
    bundles: Vec<BundleReport>,
    ledgers: Vec<LedgerReport>,
}

#[derive(Serialize)]
struct BundleReport {
    sequence: Sequence,
    bundle: BundleId,
    /// When its export began; none if it was packed elsewhere.
    packed: Option<Timestamp>,
    delivered: Vec<Delivery>,
    /// A short form says so.
    reported: bool,
}

#[derive(Serialize)]
struct Delivery {
    ledger: LedgerId,
    since: Timestamp,
    made: Timestamp,
    /// Images that production holds.
    images: usize,
}

#[derive(Serialize)]
struct LedgerReport {
    ledger: LedgerId,
    newest: Sequence,
    head: ReceiptHead,
    made: Timestamp,
}

#[derive(Serialize)]
struct ContradictionReport {
    ledger: LedgerId,
    what: String,
}

#[derive(Serialize)]
struct NotCounted {
    file: PathBuf,
    reason: String,
}

fn list(stream: Option<Stream>, common: Common, progress: &Progress) -> Result<(), Error> {
    let json = common.json;
    let store = common.store()?;
    let kept = store.all_kept()?;
    let contradictions = kept.contradictions();
    for (ledger, contradiction) in &contradictions {
        warn(*ledger, contradiction, progress);
    }
    for (path, why) in &kept.not_counted {
        progress.warn(format_args!("{}: does not count: {why}", path.display()));
    }
    let streams = streams(&store, &kept, stream.as_ref())?;
    if !json {
        return console::print(&text(&streams)).map_err(Error::Stdout);
    }
    let contradictions =
        contradictions.into_iter().map(|(ledger, c)| ContradictionReport { ledger, what: c.to_string() }).collect();
    let not_counted = kept.not_counted.into_iter().map(|(file, reason)| NotCounted { file, reason }).collect();
    console::print_json(&Report { streams, contradictions, not_counted }).map_err(Error::Stdout)
}

/// What is known of a stream.
#[derive(Default)]
struct Known {
    bundles: BTreeMap<(Sequence, BundleId), BundleReport>,
    ledgers: BTreeMap<LedgerId, LedgerReport>,
}

impl Known {
    fn bundle(&mut self, sequence: Sequence, bundle: BundleId) -> &mut BundleReport {
        let new = || BundleReport { sequence, bundle, packed: None, delivered: Vec::new(), reported: false };
        self.bundles.entry((sequence, bundle)).or_insert_with(new)
    }
}

fn streams(store: &Store, kept: &Kept, only: Option<&Stream>) -> Result<Vec<StreamReport>, Error> {
    let mut streams: BTreeMap<Stream, Known> = BTreeMap::new();
    for SealedBundle { base, created, .. } in record::all_sealed(store.state())? {
        streams.entry(base.stream).or_default().bundle(base.sequence, base.bundle).packed = Some(created);
    }
    for receipt in kept.newest().into_iter().map(KeptReceipt::receipt) {
        let known = streams.entry(receipt.stream.clone()).or_default();
        let (ledger, made, since) = (receipt.ledger, receipt.made, receipt.published);
        let delivery = Delivery { ledger, since, made, images: receipt.images.len() };
        known.bundle(receipt.sequence, receipt.bundle).delivered.push(delivery);
        let report = LedgerReport { ledger, newest: receipt.newest, head: receipt.head, made };
        match known.ledgers.get(&ledger) {
            Some(known) if known.made >= made => {}
            _ => drop(known.ledgers.insert(ledger, report)),
        }
    }
    for short in &kept.reported {
        let known = streams.entry(short.stream().clone()).or_default();
        known.bundle(short.sequence(), short.bundle()).reported = true;
    }
    streams.retain(|stream, _| only.is_none_or(|only| only == stream));
    let report = |(stream, known): (Stream, Known)| StreamReport {
        stream,
        bundles: known.bundles.into_values().collect(),
        ledgers: known.ledgers.into_values().collect(),
    };
    Ok(streams.into_iter().map(report).collect())
}

fn text(streams: &[StreamReport]) -> String {
    let mut text = String::new();
    for StreamReport { stream, bundles, ledgers } in streams {
        let mut rows = Vec::new();
        for bundle in bundles {
            let packed = bundle.packed.map_or("elsewhere".into(), |time| time.to_string());
            let mut row = |delivered: String, ledger: String, images: String| {
                rows.push(vec![
                    bundle.sequence.to_string(),
                    bundle.bundle.to_string(),
                    packed.clone(),
                    delivered,
                    ledger,
                    images,
                ]);
            };
            for Delivery { ledger, since, images, .. } in &bundle.delivered {
                row(since.to_string(), ledger.to_string(), images.to_string());
            }
            if bundle.delivered.is_empty() {
                let said = if bundle.reported { "reported, not signed" } else { "not known" };
                row(said.into(), "-".into(), "-".into());
            }
        }
        text += &format!("stream {stream}\n");
        text += &console::table(&[">SEQUENCE", "BUNDLE", "PACKED", "DELIVERED", "LEDGER", ">IMAGES"], &rows);
        for LedgerReport { ledger, newest, head, made } in ledgers {
            text += &format!("ledger {ledger}: newest {newest}, {} entries (as of {made})\n", head.number);
        }
        text.push('\n');
    }
    if text.is_empty() {
        "nothing of the kind was packed with this state folder\n".into()
    } else {
        text.trim_end().to_string() + "\n"
    }
}

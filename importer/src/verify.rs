//! `verify`: steps 0 to 4 without pushing. It goes on after a problem wherever something is left to check.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use blobs::{BlobError, VerifyingReader, threads};
use console::{Explain, Fault, Progress};
use manifest_schema::{BundleId, Digest, Sequence, Stream};
use serde::Serialize;

use crate::admit;
use crate::authenticate::{Authenticated, authenticate};
use crate::base;
use crate::config::BaseProof;
use crate::documents;
use crate::error::Error;
use crate::gate::{self, ScannedImage};
use crate::media::AllHere;
use crate::open::{self, Opened};
use crate::push::stream_sealed;
use crate::reading::{self, Dealer, Ended, Run, Stop};
use crate::site::Site;

/// The result of a verification.
#[derive(Debug, Serialize)]
pub struct Verification {
    /// The bundle, once it was authenticated.
    pub bundle: Option<Verified>,
    /// What was checked, step by step.
    pub checks: Vec<Check>,
    /// What the reports of scanners come to, in the manifest's order.
    pub scanned: Vec<ScannedImage>,
}

/// An authenticated bundle.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// Its id.
    pub id: BundleId,
    /// Its release line.
    pub stream: Stream,
    /// Its number.
    pub sequence: Sequence,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Fingerprints of the certificates that signed the manifest.
    pub signers: Vec<String>,
}

/// One check.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// The problem; `None` if it is good.
    pub problem: Option<String>,
    #[serde(skip)]
    failure: Option<(Fault, Option<String>)>,
}

impl Verification {
    /// The problems.
    pub fn problems(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|c| c.problem.is_some())
    }

    /// The highest exit code and the hint that belongs to it; `None` if all is good.
    pub fn worst(&self) -> Option<(Fault, Option<String>)> {
        self.checks.iter().filter_map(|c| c.failure.clone()).max_by_key(|(fault, _)| *fault)
    }

    fn note<T>(&mut self, name: &str, result: Result<T, Error>) -> Option<T> {
        let (value, problem, failure) = match result {
            Ok(value) => (Some(value), None, None),
            Err(e) => (None, Some(console::chain(&e)), Some((e.fault(), e.hint()))),
        };
        self.checks.push(Check { name: name.into(), problem, failure });
        value
    }
}

/// Verifies a bundle. Nothing is written anywhere.
pub fn verify(site: &Site, paths: &[PathBuf], progress: &Progress) -> Verification {
    let mut v = Verification { bundle: None, checks: Vec::new(), scanned: Vec::new() };
    let Some(sealed) = v.note("seal", open::seal(site, paths, Box::new(AllHere))) else { return v };
    let folders = sealed.folders.clone();
    if let Some(identities) = v.note("identity", site.identities())
        && let Some(opened) = v.note("open", sealed.open(site, &identities))
    {
        judge(&mut v, site, opened, progress);
    }
    // All damage is named, not only the first, and also where the content could not be looked at. What was read whole
    // is not read again.
    for (name, result) in folders.check_files(progress) {
        v.note(&format!("file {name}"), result);
    }
    v
}

/// Verifies a bundle that comes through a pipe.
pub fn verify_stream(site: &Site, input: Box<dyn Read + Send>, progress: &Progress) -> Verification {
    let mut v = Verification { bundle: None, checks: Vec::new(), scanned: Vec::new() };
    let Some(identities) = v.note("identity", site.identities()) else { return v };
    let Some(opened) = v.note("open", open::stream(site, input, &identities)) else { return v };
    judge(&mut v, site, opened, progress);
    v
}

fn judge(v: &mut Verification, site: &Site, opened: Opened<'_>, progress: &Progress) {
    let Some(bundle) = v.note("manifest", authenticate(opened)) else { return };
    v.bundle = Some(describe(&bundle));
    let ledger = match site.read_ledger() {
        Ok(ledger) => ledger,
        Err(e) => {
            v.note::<()>("sequence", Err(e));
            None
        }
    };
    if let Some(ledger) = &ledger {
        v.note("sequence", admit::sequence(Some(ledger), &bundle));
        // A base that is proven by reading needs no entry; the registry that is read is not asked here.
        if bundle.manifest.get().base.is_some() && site.base_proof == BaseProof::Published {
            v.note("base in the ledger", base::is_recorded(ledger, &bundle));
        }
    }
    v.note("expiry", admit::expiry(site, ledger.as_ref(), &bundle));
    v.note("origins and destinations", admit::destinations(&bundle));
    if let Some((graph, evidence)) = v.note("image manifests", documents::read(&bundle)) {
        for judged in v.note("signatures", admit::judged(site, &bundle, &graph, &evidence)).into_iter().flatten() {
            v.note(&format!("image policy for {}", judged.origin), judged.accept());
        }
        if let Some(scanned) = v.note("reports", gate::scanned(site, &bundle, &graph, &evidence)) {
            v.scanned = gate::in_order(&scanned, &bundle.manifest.get().images);
            for image in bundle.manifest.get().images.iter().filter(|_| bundle.rules.gate.is_some()) {
                let passes = gate::demand(ledger.as_ref(), &bundle, &scanned, std::iter::once(&image.origin), progress);
                v.note(&format!("gate for {}", image.origin), passes);
            }
        }
    }
    progress.begin("verifying blobs", bundle.manifest.get().total_bytes());
    // Each run for itself: what is wrong with one volume says nothing of the others.
    let runs = Run::all(bundle.manifest.get(), &BTreeSet::new());
    let at_once = bundle.media.volumes_at_once(site.jobs).min(runs.len()).max(1);
    let dealer =
        Dealer { hands: site.jobs.div_ceil(at_once), buffers: &reading::buffers(), stopped: &AtomicBool::new(false) };
    let read = threads::map(at_once, runs, |run| Ok::<_, Infallible>((run, read(&bundle, run, &dealer, progress))));
    for (run, (wrong, ended)) in read.unwrap_or_else(|never| match never {}) {
        for problem in wrong {
            v.note::<()>("blob", Err(Error::Blob(problem)));
        }
        let name = match (run.first, run.last) {
            (first, last) if first == last => format!("volume {first}"),
            (first, last) => format!("volumes {first} to {last}"),
        };
        if let Some(Ended::Stream { seal, signature }) = v.note(&name, ended) {
            v.note("seal", stream_sealed(&bundle, seal, &signature));
        }
    }
    progress.end();
}

/// Reads a run. Gives the blobs that are wrong, and how it ended.
fn read(
    bundle: &Authenticated<'_>,
    run: Run,
    dealer: &Dealer<'_>,
    progress: &Progress,
) -> (Vec<BlobError>, Result<Ended, Error>) {
    let wrong = Mutex::new(BTreeMap::new());
    let ended = dealer.deal(bundle, run, |blob, content| {
        let item = progress.item(&blob.digest.to_string(), blob.size);
        let mut content = VerifyingReader::new(item.reader(content), blob.digest, blob.size);
        let Err(e) = io::copy(&mut content, &mut io::sink()) else { return Ok(()) };
        let Some(problem) = BlobError::of(&e) else { return Err(Stop::Content(e)) };
        wrong.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.digest, problem.clone());
        // The next blob begins where this one ends.
        io::copy(&mut content.into_inner(), &mut io::sink()).map(|_| ()).map_err(Stop::Content)
    });
    (wrong.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect(), ended)
}

fn describe(bundle: &Authenticated<'_>) -> Verified {
    let m = bundle.manifest.get();
    Verified {
        id: m.bundle,
        stream: m.stream.clone(),
        sequence: m.sequence,
        manifest: bundle.digest,
        signers: bundle.manifest.signers().iter().map(|s| s.fingerprint.to_string()).collect(),
    }
}

//! Step 3, the gate: whether what scanners reported of each image is enough, by this site's rules and at this time.
//!
//! Reports are what is attached to an image and recognised as one, whoever attached it: the signed manifest vouches for all
//! of it. Where no gate is configured they are read and recorded all the same, and decide nothing.

use std::collections::{BTreeMap, HashMap};

use commands::gate::ScanGate;
use console::Progress;
use ledger::{Ledger, RecordedExcuse, RecordedReport, RecordedScan, RecordedScanner, Rule};
use manifest_schema::{Digest, Image, LIMITS, LabelKey, OutsideText, Reference, Timestamp};
use scan::{Carried, Counts, ImageFacts, PlatformFacts, Refusals, Rules, Verdict};
use serde::Serialize;

use crate::admit::subject;
use crate::authenticate::Authenticated;
use crate::destination::destination;
use crate::documents;
use crate::error::Error;
use crate::evidence::Evidence;
use crate::graph::Graph;
use crate::site::{Site, StreamRules};

/// What the reports of one image come to.
#[derive(Debug, Clone)]
pub struct Scanned {
    /// The verdict, by the rules of the stream.
    pub verdict: Verdict,
    /// The digest of these rules, if there are any.
    pub rules: Option<Digest>,
    /// What this site's own scanner said.
    pub scanner: Vec<RecordedScanner>,
}

/// Judges every image of a bundle by its reports.
///
/// # Errors
/// If the admission section cannot be read again; [`Error::TooManyReports`].
pub fn scanned(
    site: &Site,
    bundle: &Authenticated<'_>,
    graph: &Graph,
    evidence: &Evidence<'_>,
) -> Result<HashMap<Reference, Scanned>, Error> {
    let nothing = Rules::nothing();
    let rules = bundle.rules.gate.as_ref().map_or(&nothing, ScanGate::rules);
    let images = &bundle.manifest.get().images;
    let mut carried = read(bundle, images, evidence, rules)?;
    let digest = rules_text(bundle.rules).map(|text| blobs::sha256(text.as_bytes()));
    let mut scanned = HashMap::new();
    let mut recorded = 0;
    for (at, image) in images.iter().enumerate() {
        let reports = carried.remove(&at).unwrap_or_default();
        let facts = facts(image, graph, bundle.rules);
        let verdict = match &bundle.rules.gate {
            Some(gate) => gate.judge(&facts, &reports, site.dated()),
            None => nothing.judge(
                &facts,
                &reports,
                &Vec::new(),
                scan::Dated { now: site.now, tolerance: site.clock_tolerance },
            ),
        };
        let found = Scanned { verdict, rules: digest, scanner: Vec::new() };
        // Before anything is pushed: what is published must fit into the ledger.
        recorded += found.recorded_size()?;
        if recorded > LIMITS.ledger_entry / 4 {
            return Err(Error::TooMuchToRecord { found: recorded, limit: LIMITS.ledger_entry / 4 });
        }
        scanned.insert(image.origin.clone(), found);
    }
    Ok(scanned)
}

/// The rules of a stream's gate as the ledger keeps them: compact JSON, members in the order of their type.
pub fn rules_text(rules: &StreamRules) -> Option<String> {
    rules.gate.as_ref().map(|gate| serde_json::to_string(gate.rules()).unwrap_or_default())
}

/// The reports of each image, by its place in the manifest.
fn read(
    bundle: &Authenticated<'_>,
    images: &[Image],
    evidence: &Evidence<'_>,
    rules: &Rules,
) -> Result<HashMap<usize, Vec<Carried>>, Error> {
    struct Use<'e> {
        image: usize,
        subject: Digest,
        name: Option<&'e OutsideText>,
        dated: Option<Timestamp>,
    }
    let mut wanted: HashMap<Digest, Vec<Use<'_>>> = HashMap::new();
    for (at, image) in images.iter().enumerate() {
        let is_of_image = |subject: &Digest| {
            *subject == image.digest || image.platforms.iter().any(|platform| platform.digest == *subject)
        };
        for referrer in image.referrers.iter().filter(|r| is_of_image(&r.subject)) {
            let Some(holds) = evidence.may_be_reports(&referrer.digest) else { continue };
            for (blob, name) in &holds.blobs {
                let (subject, dated) = (referrer.subject, holds.dated);
                wanted.entry(*blob).or_default().push(Use { image: at, subject, name: name.as_ref(), dated });
            }
        }
    }
    let mut carried: HashMap<usize, Vec<Carried>> = HashMap::new();
    if wanted.is_empty() {
        return Ok(carried);
    }
    let mut weight = 0;
    bundle.media.reading(|| {
        carried.clear();
        weight = 0;
        documents::for_each_admitted(
            bundle,
            |blob| wanted.contains_key(&blob.digest) && scan::may_be_report(blob.media_type.as_str(), blob.size),
            |blob, bytes| {
                let read = Carried::read(rules, blob.digest, blob.digest, None, None, bytes.bytes());
                for Use { image, subject, name, dated } in wanted.get(&blob.digest).into_iter().flatten() {
                    let Some(report) = &read else { break };
                    let report = report.used(*subject, name.cloned(), *dated);
                    // With what it is said to be of.
                    weight += report.weight() + 64 * images[*image].platforms.len();
                    if weight > LIMITS.reports {
                        return Err(Error::TooManyReports);
                    }
                    carried.entry(*image).or_default().push(report);
                }
                Ok(())
            },
        )
    })?;
    Ok(carried)
}

fn facts(image: &Image, graph: &Graph, rules: &StreamRules) -> ImageFacts {
    let production = destination(image, &rules.to).ok().map(|to| to.repository);
    let platform = |p: &manifest_schema::PlatformManifest| PlatformFacts {
        digest: p.digest,
        config: graph.config(&p.digest),
        platform: p.platform.clone(),
        may_run: graph.may_run(&p.digest),
    };
    ImageFacts {
        names: std::iter::once(image.origin.repository().clone()).chain(production).collect(),
        digest: image.digest,
        platforms: image.platforms.iter().map(platform).collect(),
    }
}

/// What the reports of one image come to, for people and programs.
#[derive(Debug, Clone, Serialize)]
pub struct ScannedImage {
    /// The image, as the sender calls it.
    pub image: Reference,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What was found of images, in their order.
pub fn in_order(scanned: &HashMap<Reference, Scanned>, images: &[Image]) -> Vec<ScannedImage> {
    let of_image = |image: &Image| {
        let verdict = scanned.get(&image.origin)?.verdict.clone();
        Some(ScannedImage { image: image.origin.clone(), verdict })
    };
    images.iter().filter_map(of_image).collect()
}

/// The reports of images as tables: nothing if there are none, and no gate asks for any.
pub fn text(images: &[ScannedImage]) -> String {
    let is_said = |image: &&ScannedImage| !image.verdict.reports.is_empty() || !image.verdict.is_accepted();
    commands::gate::table(images.iter().filter(is_said).map(|image| (&image.image, &image.verdict)))
}

/// Demands that these images pass, unless that rule was overridden for their bundle.
///
/// # Errors
/// [`Error::Gate`] with the reasons; or if the ledger fails.
pub fn demand<'i>(
    ledger: Option<&Ledger>,
    bundle: &Authenticated<'_>,
    scanned: &HashMap<Reference, Scanned>,
    images: impl Iterator<Item = &'i Reference>,
    progress: &Progress,
) -> Result<(), Error> {
    let judged: Vec<_> = images.filter_map(|image| Some((image, &scanned.get(image)?.verdict))).collect();
    let count = judged.len();
    let Err(refused) = Refusals::demand(judged.into_iter()) else { return Ok(()) };
    match ledger.map(|ledger| ledger.override_of(&subject(bundle), Rule::Scan)).transpose()?.flatten() {
        Some(entry) => {
            progress.warn(format_args!("let in all the same, by ledger entry {entry}:{refused}"));
            Ok(())
        }
        None => Err(Error::Gate { refused, images: count }),
    }
}

/// How many excuses of one image the ledger lists.
const LISTED: usize = 1000;

impl Scanned {
    /// About how many bytes the ledger's entry has for it.
    fn recorded_size(&self) -> Result<u64, Error> {
        let record = self.clone().into_record()?;
        Ok(record.map_or(0, |record| serde_json::to_vec(&record).map_or(0, |bytes| bytes.len() as u64)))
    }

    /// What the ledger says of it; nothing if there were neither reports nor rules.
    ///
    /// # Errors
    /// [`Error::Label`] if a word of it is none that the ledger takes.
    pub fn into_record(self) -> Result<Option<RecordedScan>, Error> {
        let Self { verdict, rules, scanner } = self;
        if rules.is_none() && verdict.reports.is_empty() && scanner.is_empty() {
            return Ok(None);
        }
        Ok(Some(RecordedScan {
            rules,
            reports: verdict.reports.into_iter().map(report).collect::<Result<_, _>>()?,
            findings: counts(&verdict.findings)?,
            failed: counts(&verdict.failed)?,
            excused: excuses(verdict.excused)?,
            scanner,
            reasons: verdict.reasons.iter().map(|reason| OutsideText::new(reason.to_string())).collect(),
        }))
    }
}

/// What the ledger says of a report.
///
/// # Errors
/// [`Error::Label`] if a word of it is none that the ledger takes.
pub(crate) fn report(row: scan::ReportRow) -> Result<RecordedReport, Error> {
    Ok(RecordedReport {
        digest: row.digest,
        format: word(row.format.as_str())?,
        tool: row.tool,
        made: row.made.map(|made| made.at),
        kinds: row.kinds.iter().map(|kind| word(kind.as_str())).collect::<Result<_, _>>()?,
        covers: row.covers.into_iter().collect(),
        findings: counts(&row.findings)?,
        failed: counts(&row.failed)?,
        unused: row.unused.map(|why| OutsideText::new(why.to_string())),
    })
}

/// What the ledger says of what was excused.
///
/// # Errors
/// As [`report`].
pub(crate) fn excuses(excused: Vec<scan::Excused>) -> Result<Vec<RecordedExcuse>, Error> {
    let excuse = |what: scan::Excused| {
        Ok(RecordedExcuse {
            id: what.id,
            package: what.package,
            severity: word(what.severity.as_str())?,
            because: OutsideText::new(what.by.to_string()),
        })
    };
    excused.into_iter().take(LISTED).map(excuse).collect()
}

fn word(text: &str) -> Result<LabelKey, Error> {
    text.parse().map_err(Error::Label)
}

fn counts(counts: &Counts) -> Result<BTreeMap<LabelKey, u64>, Error> {
    counts.iter().map(|(severity, count)| Ok((word(severity.as_str())?, *count))).collect()
}

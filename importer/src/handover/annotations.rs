//! What scanners said of the images in production, as annotations of OpenShift's image objects ("Integrating external
//! scanning" of its security guide), and which images must not run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ledger::{Act, Ledger, RecordedImage, RecordedReport};
use manifest_schema::{Digest, LabelKey, OutsideText, Reference, Repository, Timestamp};
use serde::Serialize;

use super::production::Denied;
use crate::error::Error;

/// The annotations of each image, by its digest; `None` is one that is to go.
#[derive(Debug, Default)]
pub struct Annotations {
    images: BTreeMap<Digest, BTreeMap<String, Option<String>>>,
}

impl Annotations {
    /// How many images are annotated.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// How many of them must not run.
    pub fn denied(&self) -> usize {
        self.images.values().filter(|values| values.get(DENY).is_some_and(Option::is_some)).count()
    }
}

/// The script's name in the folder.
pub const FILE: &str = "openshift/image-annotations.sh";
/// Says that an image must not run.
const DENY: &str = "images.openshift.io/deny-execution";

/// The value of an annotation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Quality<'a> {
    name: &'a str,
    timestamp: Timestamp,
    description: &'static str,
    reference: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scanner_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compliant: Option<bool>,
    summary: Vec<Summary>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    label: &'static str,
    data: String,
    severity_index: u8,
}

/// What stands before the images. An image that the cluster does not know is passed over; any other answer is a failure.
const SCRIPT: &str = r#"#!/bin/sh
# Annotates the images that this cluster knows: what scanners said of them, and what must not run.
set -u
command -v oc >/dev/null || { echo "oc is not installed" >&2; exit 1; }
annotated=0 unknown=0 failed=0
annotate() {
  name=$1
  shift
  if answer=$(oc get image "$name" -o name 2>&1); then
    if oc annotate --overwrite image "$name" "$@" >/dev/null; then
      annotated=$((annotated + 1))
    else
      failed=$((failed + 1))
    fi
    return
  fi
  case $answer in
  *NotFound*) unknown=$((unknown + 1)) ;;
  *)
    echo "$name: $answer" >&2
    failed=$((failed + 1))
    ;;
  esac
}
"#;

/// What clusters show, and by what our severities are counted there.
const SEVERITIES: [(&str, &[&str], u8); 4] = [
    ("Critical", &["critical"], 3),
    ("Important", &["high"], 2),
    ("Moderate", &["medium"], 1),
    ("Low", &["low", "negligible"], 0),
];

/// Makes the annotations: of what each production tag named last and was not withdrawn since, what its reports said; of what
/// was withdrawn, and of the images of rejected bundles that are not in production, that it must not run; of what was withdrawn
/// or rejected once and is in production again, that it may.
///
/// # Errors
/// If the ledger cannot be read.
pub fn of(ledger: &Ledger, denied: &[Denied]) -> Result<Annotations, Error> {
    let mut said: BTreeMap<Digest, BTreeMap<String, Said>> = BTreeMap::new();
    for (number, tags) in ledger.newest_images()? {
        let Some(stored) = ledger.entry(number)? else { continue };
        let Act::Recorded(act) = stored.entry.act else { continue };
        for image in act.images.iter().filter(|image| tags.contains(&image.production)) {
            let reference = Reference::tagged(image.production.repository.clone(), image.production.tag.clone());
            if !ledger.is_withdrawn(&reference, &image.digest)? {
                add(&mut said, image, stored.entry.time);
            }
        }
    }
    let mut images: BTreeMap<Digest, BTreeMap<String, Option<String>>> = said
        .into_iter()
        .map(|(digest, said)| (digest, said.into_iter().map(|(key, said)| (key, Some(said.value()))).collect()))
        .collect();
    let refused: BTreeSet<Digest> = denied.iter().filter(|image| image.refused).map(|image| image.digest).collect();
    let mut may_run: BTreeMap<Digest, bool> =
        ledger.ever_withdrawn()?.into_iter().map(|digest| (digest, !refused.contains(&digest))).collect();
    for bundle in ledger.rejected_bundles()? {
        let received = ledger.received_entry(&bundle)?.map(|stored| stored.entry.act);
        let Some(Act::Received(received)) = received else { continue };
        for waiting in received.images {
            let digests = waiting.image.platforms.iter().map(|p| p.digest).chain([waiting.image.digest]);
            for digest in digests.filter(|digest| !refused.contains(digest)) {
                may_run.insert(digest, !ledger.images_by_digest(&digest, 1)?.is_empty());
            }
        }
    }
    for (digest, may_run) in may_run {
        images.entry(digest).or_default().insert(DENY.into(), (!may_run).then(|| "true".into()));
    }
    Ok(Annotations { images })
}

/// What reports of one format said of an image.
struct Said {
    format: String,
    made: Timestamp,
    tool: Option<OutsideText>,
    reference: String,
    compliant: Option<bool>,
    /// The worst of all of them: one may be of one platform only.
    counts: BTreeMap<String, u64>,
}

fn add(said: &mut BTreeMap<Digest, BTreeMap<String, Said>>, image: &RecordedImage, recorded: Timestamp) {
    let Some(scan) = &image.scan else { return };
    let passed = scan.reasons.is_empty() && scan.scanner.iter().all(|said| said.refused.is_none());
    let compliant = (scan.rules.is_some() || !scan.scanner.is_empty()).then_some(passed);
    // Where a report is in the registry, or the image manifest that it is of.
    let carried = scan.reports.iter().filter(|report| report.unused.is_none());
    let carried = carried.map(|report| (report, format!("blobs/{}", report.digest)));
    let own = scan.scanner.iter().filter_map(|said| {
        let report = said.report.as_ref().filter(|report| report.unused.is_none())?;
        Some((report, format!("manifests/{}", said.manifest)))
    });
    for (report, at) in carried.chain(own) {
        let tells = |kinds: &[&str]| report.kinds.iter().any(|kind| kinds.contains(&kind.to_string().as_str()));
        let kinds = [
            ("vulnerability", &report.findings, tells(&["vulnerabilities"])),
            ("policy", &report.failed, tells(&["policy", "compliance"])),
        ];
        for (kind, counts, _) in kinds.into_iter().filter(|(.., tells)| *tells) {
            let key = format!("quality.images.openshift.io/{kind}.{}", report.format);
            for digest in report.covers.iter().chain([&image.digest]).collect::<BTreeSet<_>>() {
                let new = Said::new(report, counts, &image.production.repository, &at, compliant, recorded);
                let of_image = said.entry(*digest).or_default();
                match of_image.get_mut(&key) {
                    Some(known) => known.join(new),
                    None => drop(of_image.insert(key.clone(), new)),
                }
            }
        }
    }
}

impl Said {
    fn new(
        report: &RecordedReport,
        counts: &BTreeMap<LabelKey, u64>,
        repository: &Repository,
        at: &str,
        compliant: Option<bool>,
        recorded: Timestamp,
    ) -> Self {
        let path = repository.to_string();
        let path = path.strip_prefix(repository.registry()).unwrap_or(&path);
        Self {
            format: report.format.to_string(),
            made: report.made.unwrap_or(recorded),
            tool: report.tool.clone(),
            reference: format!("https://{}/v2{path}/{at}", repository.registry()),
            compliant,
            counts: counts.iter().map(|(severity, count)| (severity.to_string(), *count)).collect(),
        }
    }

    /// Takes another report in: what was made last is named, and the worst is told.
    fn join(&mut self, other: Self) {
        let (mut newest, older) = if other.made >= self.made { (other, &*self) } else { return self.worsen(&other) };
        newest.worsen(older);
        *self = newest;
    }

    fn worsen(&mut self, other: &Self) {
        for (severity, count) in &other.counts {
            let worst = self.counts.entry(severity.clone()).or_default();
            *worst = (*worst).max(*count);
        }
        self.compliant = match (self.compliant, other.compliant) {
            (Some(one), Some(two)) => Some(one && two),
            (one, two) => one.or(two),
        };
    }

    fn value(&self) -> String {
        let count = |words: &[&str]| words.iter().filter_map(|word| self.counts.get(*word)).sum::<u64>();
        let known = SEVERITIES.iter().map(|(label, words, index)| (*label, count(words), *index));
        let unknown = Some(("Unknown", count(&["unknown"]), 0)).filter(|(_, count, _)| *count > 0);
        let summary = known.chain(unknown).map(|(label, count, severity_index)| Summary {
            label,
            data: count.to_string(),
            severity_index,
        });
        let quality = Quality {
            name: &self.format,
            timestamp: self.made,
            description: "as recorded by sealift",
            reference: self.reference.clone(),
            scanner_version: self.tool.as_ref().map(OutsideText::raw),
            compliant: self.compliant,
            summary: summary.collect(),
        };
        serde_json::to_string(&quality).unwrap_or_default()
    }
}

/// A script that annotates the images that a cluster knows.
pub fn script(annotations: &Annotations) -> Vec<u8> {
    let mut text = String::from(SCRIPT);
    for (digest, values) in &annotations.images {
        let _ = write!(text, "annotate {}", quoted(&digest.to_string()));
        for (key, value) in values {
            let word = value.as_ref().map_or_else(|| format!("{key}-"), |value| format!("{key}={value}"));
            let _ = write!(text, " \\\n  {}", quoted(&word));
        }
        text.push('\n');
    }
    text.push_str("echo \"$annotated annotated, $unknown not known here, $failed failed\"\n[ \"$failed\" -eq 0 ]\n");
    text.into_bytes()
}

/// A word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_whatever_is_in_it() {
        let word = "it's $(id) \\ \"x\" `y`\n; z";
        let command = format!("printf %s {}", quoted(word));
        let ran = std::process::Command::new("sh").args(["-c", &command]).output().expect("a shell");
        assert_eq!(String::from_utf8_lossy(&ran.stdout), word);
    }
}

//! What scanners said of the images in production, as annotations of OpenShift's image objects ("Integrating external
//! scanning" of its security guide), and which images must not run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ledger::{Act, Ledger, RecordedImage, RecordedReport};
use manifest_schema::{Digest, LabelKey, OutsideText, Reference, Repository, Timestamp};
use serde::Serialize;

use super::production::Denied;
use crate::error::Error;

/// The annotations of each image, by its digest.
pub type Annotations = BTreeMap<Digest, BTreeMap<String, String>>;

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

/// What clusters show, and by what our severities are counted there.
const SEVERITIES: [(&str, &[&str], u8); 4] = [
    ("Critical", &["critical"], 3),
    ("Important", &["high"], 2),
    ("Moderate", &["medium"], 1),
    ("Low", &["low", "negligible", "unknown"], 0),
];

/// Makes the annotations: of what each production tag named last and was not withdrawn since, what its reports said; of what
/// was withdrawn, and of the images of rejected bundles that are not in production, that it must not run.
///
/// # Errors
/// If the ledger cannot be read.
pub fn of(ledger: &Ledger, denied: &[Denied]) -> Result<Annotations, Error> {
    let mut annotations = Annotations::new();
    for (number, tags) in ledger.newest_images()? {
        let Some(stored) = ledger.entry(number)? else { continue };
        let Act::Recorded(act) = stored.entry.act else { continue };
        for image in act.images.iter().filter(|image| tags.contains(&image.production)) {
            let reference = Reference::tagged(image.production.repository.clone(), image.production.tag.clone());
            if !ledger.is_withdrawn(&reference, &image.digest)? {
                add(&mut annotations, image, stored.entry.time);
            }
        }
    }
    let mut refused: Vec<Digest> = denied.iter().filter(|image| image.refused).map(|image| image.digest).collect();
    for bundle in ledger.rejected_bundles()? {
        let received = ledger.received_entry(&bundle)?.map(|stored| stored.entry.act);
        let Some(Act::Received(received)) = received else { continue };
        for waiting in received.images {
            let digests = waiting.image.platforms.iter().map(|p| p.digest).chain([waiting.image.digest]);
            for digest in digests {
                if ledger.images_by_digest(&digest, 1)?.is_empty() {
                    refused.push(digest);
                }
            }
        }
    }
    for digest in refused {
        annotations.entry(digest).or_default().insert(DENY.into(), "true".into());
    }
    Ok(annotations)
}

fn add(annotations: &mut Annotations, image: &RecordedImage, recorded: Timestamp) {
    let Some(scan) = &image.scan else { return };
    let compliant = scan.rules.as_ref().map(|_| scan.reasons.is_empty());
    let carried = scan.reports.iter().filter(|report| report.unused.is_none());
    // What was seen here, and last, takes the place of what came along.
    let own = scan.scanner.iter().filter_map(|said| said.report.as_ref());
    for report in carried.chain(own) {
        let said = [("vulnerability", &report.findings, "vulnerabilities"), ("policy", &report.failed, "policy")];
        for (kind, counts, needed) in said {
            let tells = |kind: &LabelKey| {
                let kind = kind.to_string();
                kind == needed || (needed == "policy" && kind == "compliance")
            };
            if !report.kinds.iter().any(tells) {
                continue;
            }
            let key = format!("quality.images.openshift.io/{kind}.{}", report.format);
            let value = quality(report, counts, &image.production.repository, compliant, recorded);
            for digest in report.covers.iter().chain([&image.digest]) {
                annotations.entry(*digest).or_default().insert(key.clone(), value.clone());
            }
        }
    }
}

fn quality(
    report: &RecordedReport,
    counts: &BTreeMap<LabelKey, u64>,
    repository: &Repository,
    compliant: Option<bool>,
    recorded: Timestamp,
) -> String {
    let name = report.format.to_string();
    let count = |words: &[&str]| -> u64 {
        counts.iter().filter(|(severity, _)| words.contains(&severity.to_string().as_str())).map(|(_, n)| n).sum()
    };
    let summary = SEVERITIES.iter().map(|(label, words, severity_index)| Summary {
        label,
        data: count(words).to_string(),
        severity_index: *severity_index,
    });
    let path = repository.to_string();
    let path = path.strip_prefix(repository.registry()).unwrap_or(&path);
    let quality = Quality {
        name: &name,
        timestamp: report.made.unwrap_or(recorded),
        description: "as recorded by sealift",
        reference: format!("https://{}/v2{path}/blobs/{}", repository.registry(), report.digest),
        scanner_version: report.tool.as_ref().map(OutsideText::raw),
        compliant,
        summary: summary.collect(),
    };
    serde_json::to_string(&quality).unwrap_or_default()
}

/// A script that annotates the images that a cluster knows.
pub fn script(annotations: &Annotations) -> Vec<u8> {
    let mut text = String::from(
        "#!/bin/sh\n# Annotates the images that this cluster knows: what scanners said of them, and what must not run.\n\
         # An image that it does not know is passed over.\nset -u\nannotate() {\n  name=$1\n  shift\n  \
         oc get image \"$name\" >/dev/null 2>&1 || return 0\n  \
         oc annotate --overwrite image \"$name\" \"$@\" || failed=1\n}\nfailed=0\n",
    );
    for (digest, values) in annotations {
        let _ = write!(text, "annotate {}", quoted(&digest.to_string()));
        for (key, value) in values {
            let _ = write!(text, " \\\n  {}", quoted(&format!("{key}={value}")));
        }
        text.push('\n');
    }
    text.push_str("exit \"$failed\"\n");
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

//! What an entry says, in words. Every line may go to a terminal.

use std::collections::BTreeMap;

use ledger::{
    Act, Entry, Overridden, Received, Recorded, RecordedHandover, RecordedImage, RecordedScan, RecordedSignature,
    Signing, Subject,
};
use manifest_schema::{Approval, ApprovalWithdrawal, LabelKey, LabelValue, OneLine, OutsideText};

use crate::commands::evidence;

/// Which bundle: stream and number.
pub(super) fn name(subject: &Subject) -> String {
    format!("{}-{}", subject.stream, subject.sequence)
}

/// An entry's first line.
pub(super) fn title(entry: &Entry) -> String {
    let by = entry.by.as_ref().map(|by| format!(", run by {by}")).unwrap_or_default();
    format!("entry {} at {} by {}{by}: {}", entry.number, entry.time, entry.tool, entry.act.kind())
}

/// What an act comes to, in one line.
pub(super) fn summary(act: &Act) -> String {
    match act {
        Act::Created(_) => "the ledger begins".into(),
        Act::Begun(a) => match a.newest_signed {
            Some(_) => "admitted; signed before one that came earlier".into(),
            None => "admitted".into(),
        },
        Act::Received(a) => format!("{} for promotion", images(a.images.len())),
        Act::Approved(a) => format!("by {}, until {}", a.approver, a.not_after),
        Act::ApprovalWithdrawn(a) => format!("by {}", a.approver),
        Act::Rejected(a) => in_one_line(&a.reason),
        Act::Overridden(a) => overridden(a),
        Act::Signing(a) | Act::Resigning(a) => format!("{} announced", signatures(a.images.len())),
        Act::Promoted(a) | Act::Recorded(a) if a.skipped.is_empty() => images(a.images.len()),
        Act::Promoted(a) | Act::Recorded(a) => format!("{}, {} left out", images(a.images.len()), a.skipped.len()),
        Act::Refused(a) => in_one_line(&a.reason),
        Act::Resigned(a) => signatures(a.signatures.len()),
        Act::Withdrawn(a) => format!("{} no longer signed: {}", documents(a.images.len()), in_one_line(&a.reason)),
        Act::HandedOver(a) => format!("{} files for the clusters of {}", a.files.len(), a.clusters.as_str()),
        Act::KeyChanged(a) => format!("to {}", a.to),
        Act::Adopted(a) => format!("{} that it lacks: {}", count(a.heads.len(), "head"), in_one_line(&a.reason)),
    }
}

fn images(number: usize) -> String {
    count(number, "image")
}

fn signatures(number: usize) -> String {
    count(number, "signature")
}

/// Indexes and image manifests.
fn documents(number: usize) -> String {
    count(number, "manifest")
}

fn count(number: usize, of: &str) -> String {
    if number == 1 { format!("1 {of}") } else { format!("{number} {of}s") }
}

/// What somebody said beside a statement: a note, or a reason.
fn stated(file: &OutsideText, of: impl FnOnce(&[u8]) -> Option<LabelValue>) -> Option<String> {
    Some(format!("says: {}", of(file.raw().lines().next()?.as_bytes())?))
}

/// The first line of a text, and that there is more.
pub(super) fn in_one_line(text: &OutsideText) -> String {
    match text.raw().trim().split_once('\n') {
        Some((first, _)) => format!("{} ...", OutsideText::new(first.trim_end()).escaped()),
        None => text.escaped().to_string(),
    }
}

/// A text, line by line; those after the first are marked, so that none passes for something that the entry says.
fn in_lines(text: &OutsideText) -> impl Iterator<Item = String> {
    let lines = text.raw().trim_end_matches('\n').split('\n').enumerate();
    lines.map(|(n, line)| format!("{}{}", if n == 0 { "" } else { "| " }, OutsideText::new(line).escaped()))
}

fn overridden(act: &Overridden) -> String {
    let rules: Vec<_> = act.rules.iter().map(|rule| rule.as_str()).collect();
    format!("{}: {}", rules.join(", "), in_one_line(&act.reason))
}

/// Everything that an act says.
pub(super) fn lines(act: &Act) -> Vec<String> {
    match act {
        Act::Created(a) => {
            let key =
                |role: &str, key: &Option<ledger::Fingerprint>| key.as_ref().map(|key| format!("{role} key {key}"));
            key("production", &a.production).into_iter().chain(key("ledger", &a.ledger_key)).collect()
        }
        Act::Begun(a) => {
            let mut lines: Vec<_> = a.signed.map(|at| format!("manifest signed at {at}")).into_iter().collect();
            lines.extend(
                a.newest_signed.map(|at| format!("a bundle of the stream that came earlier was signed at {at}")),
            );
            lines
        }
        Act::Received(a) => received(a),
        Act::Approved(a) => vec![
            format!("approver {}", a.approver),
            format!("statement {}", a.statement),
            format!("counts until {}", a.not_after),
        ]
        .into_iter()
        .chain(stated(&a.file, |d| Approval::parse(d).ok()?.note))
        .collect(),
        Act::ApprovalWithdrawn(a) => vec![format!("approver {}", a.approver), format!("approval {}", a.approval)]
            .into_iter()
            .chain(stated(&a.file, |d| ApprovalWithdrawal::parse(d).ok()?.reason))
            .collect(),
        Act::Rejected(a) => in_lines(&a.reason).collect(),
        Act::Overridden(a) => vec![overridden(a)],
        Act::Signing(a) | Act::Resigning(a) => signing(a),
        Act::Promoted(a) | Act::Recorded(a) => recorded(a),
        Act::Refused(a) => in_lines(&a.reason).collect(),
        Act::Resigned(a) => {
            let key = format!("production key {}", a.production);
            std::iter::once(key).chain(a.signatures.iter().map(signature)).collect()
        }
        Act::Withdrawn(a) => {
            let images = a.images.iter().map(|image| format!("no longer signed: {} {}", image.reference, image.digest));
            in_lines(&a.reason).chain(images).collect()
        }
        Act::HandedOver(a) => {
            let files = a.files.iter().map(|file| format!("{} {}", file.name.escaped(), file.digest));
            let denied = format!("{} must not run", images(usize::try_from(a.denied).unwrap_or(usize::MAX)));
            files.chain((a.denied > 0).then_some(denied)).collect()
        }
        Act::KeyChanged(a) => {
            let from = a.from.as_ref().map_or("none".into(), ToString::to_string);
            vec![format!("from key {from}"), format!("to key {}", a.to), "signed by both".into()]
        }
        Act::Adopted(a) => {
            let heads = a
                .heads
                .iter()
                .map(|head| format!("lacks entry {} of {}, with hash {}", head.number, head.time, head.hash));
            let marks = a.marks.iter().map(|mark| format!("{} had come to {}", mark.stream, mark.sequence));
            in_lines(&a.reason).chain(heads).chain(marks).collect()
        }
    }
}

fn signing(act: &Signing) -> Vec<String> {
    let mut lines: Vec<_> = act.production.iter().map(|key| format!("production key {key}")).collect();
    lines.push(format!("{} announced", signatures(act.images.len())));
    lines.extend(act.tags.iter().map(|tag| moved(tag, "will move")));
    lines
}

fn received(act: &Received) -> Vec<String> {
    let mut lines: Vec<_> = act.signers.iter().map(|signer| format!("manifest signed by {signer}")).collect();
    for waiting in &act.images {
        lines.extend(image(&waiting.image));
        lines.extend(waiting.staging.iter().map(|staging| format!("  waits in {staging}")));
    }
    lines.extend(act.gate.iter().map(|rules| format!("reports judged by {}", rules.escaped())));
    lines.extend(act.handover.iter().map(handed_over));
    lines.extend(act.no_policy.iter().map(|step| format!("{step}: no policy configured")));
    lines
}

fn recorded(act: &Recorded) -> Vec<String> {
    let mut lines: Vec<_> = act.signers.iter().map(|signer| format!("manifest signed by {signer}")).collect();
    lines.extend(act.approvals.iter().map(|approval| format!("approval that counted {approval}")));
    lines.extend(act.promoter.iter().map(|by| format!("promoted by {}, who has signed for it", by.promoter)));
    lines.extend(act.images.iter().flat_map(image));
    lines.extend(act.signatures.iter().map(signature));
    lines.extend(act.tags.iter().map(|tag| moved(tag, "tag")));
    lines.extend(act.skipped.iter().map(|tag| format!("left out {tag}, which names another image")));
    lines.extend(act.gate.iter().map(|rules| format!("reports judged by {}", rules.escaped())));
    lines.extend(act.handover.iter().map(handed_over));
    lines.extend(act.no_policy.iter().map(|step| format!("{step}: no policy configured")));
    lines
}

fn image(image: &RecordedImage) -> Vec<String> {
    let mut lines = vec![
        format!("image {} {}", image.production, image.digest),
        format!("  from {} (as claimed)", image.origin),
        format!("  {}", evidence::vouched_for(&image.vouched)),
    ];
    lines.extend(image.evidence.iter().map(|row| format!("  {}", evidence::cells(row).join("  "))));
    lines.extend(image.scan.iter().flat_map(scan).map(|line| format!("  {line}")));
    lines
}

/// What reports of scanners said.
fn scan(scan: &RecordedScan) -> Vec<String> {
    let by = match &scan.rules {
        Some(rules) => format!("judged by the rules {rules}"),
        None => "not judged: no gate was configured".into(),
    };
    let mut lines = vec![format!("reports: {}, {by}", scan.reports.len())];
    lines.extend(scan.reports.iter().map(|report| {
        let made = report.made.map(|at| format!(" of {at}")).unwrap_or_default();
        let found = [counts(&report.findings, "vulnerabilities"), counts(&report.failed, "rules not kept")].concat();
        let unused = report.unused.as_ref().map(|why| format!(", not counted: {}", why.escaped())).unwrap_or_default();
        format!("  {}{made} {}{found}{unused}", report.format, report.digest)
    }));
    lines.extend(scan.scanner.iter().map(|said| {
        let report = said.report.as_ref().map(|report| {
            let found = [counts(&report.findings, "vulnerabilities"), counts(&report.failed, "rules not kept")];
            format!(", {}{}", report.format, found.concat())
        });
        let refused = said.refused.as_ref().map(|why| format!(", REFUSED: {}", why.escaped())).unwrap_or_default();
        let (manifest, command) = (said.manifest, said.command.escaped());
        format!("  scanned here: {manifest} by `{command}`{}{refused}", report.unwrap_or_default())
    }));
    lines.extend(scan.excused.iter().map(|excuse| {
        let package = excuse.package.as_ref().map(|package| format!(" in {}", package.escaped())).unwrap_or_default();
        format!("  not counted: {}{package} ({}): {}", excuse.id.escaped(), excuse.severity, excuse.because.escaped())
    }));
    lines.extend(scan.reasons.iter().map(|reason| format!("  let in although: {}", reason.escaped())));
    lines
}

fn counts(counts: &BTreeMap<LabelKey, u64>, of: &str) -> String {
    let each: Vec<_> = counts.iter().map(|(severity, count)| format!("{count} {severity}")).collect();
    if each.is_empty() { String::new() } else { format!(", {of}: {}", each.join(", ")) }
}

fn signature(signature: &RecordedSignature) -> String {
    format!("signature {} for {}", signature.path.escaped(), signature.reference)
}

fn moved(tag: &ledger::MovedTag, what: &str) -> String {
    let before = tag.previous.map(|d| format!(", before {d}")).unwrap_or_default();
    format!("{what} {} -> {}{before}", tag.tag, tag.digest)
}

fn handed_over(row: &RecordedHandover) -> String {
    let mut text = format!("handed over at {} by {}", row.at, row.by);
    if let Some(to) = &row.to {
        text += &format!(" to {to}");
    }
    if let Some(bag) = &row.bag {
        text += &format!(", bag {bag}");
    }
    match (&row.signer, row.known) {
        (None, _) => text + ", not signed (as stated)",
        (Some(signer), true) => text + &format!(", signed by {signer}"),
        (Some(signer), false) => text + &format!(", signed by {signer}, not known here"),
    }
}

/// An entry in full.
pub(super) fn entry_text(entry: &Entry) -> String {
    let mut text = title(entry) + "\n";
    if let Some(Subject { bundle, manifest, .. }) = entry.act.subject() {
        let name = entry.act.subject().map(name).unwrap_or_default();
        text += &format!("  bundle {name} {bundle}\n  manifest {manifest}\n");
    }
    for line in lines(&entry.act) {
        text += &format!("  {line}\n");
    }
    text
}

//! The gate of both programs: what an image's reports must be.

use std::path::Path;

use manifest_schema::{LIMITS, OutsideText, Reference};
use scan::{Carried, Counts, Dated, Gate, ImageFacts, Kind, OwnVex, Report, ReportRow, Rules, Verdict};

use crate::error::Error;
use crate::settings;

/// Rules, with this site's own statements of exploitability.
#[derive(Debug, Clone)]
pub struct ScanGate {
    rules: Rules,
    own: OwnVex,
}

impl ScanGate {
    /// The gate of a file in YAML, as `gate:` of a configuration.
    ///
    /// # Errors
    /// If it, or a file that it names, cannot be read.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let mut gate: Gate = settings::load(path)?;
        gate.make_relative_to(path.parent().unwrap_or(Path::new("")));
        Self::load(gate.scan)
    }

    /// Reads the files that rules name.
    ///
    /// # Errors
    /// [`Error::ReadConfig`]; [`Error::Config`] for one that says nothing.
    pub fn load(rules: Rules) -> Result<Self, Error> {
        let mut own = OwnVex::new();
        for path in &rules.vex_files {
            if path.to_str().is_none() {
                let message = OutsideText::new("its name is not UTF-8, and the ledger could not name it");
                return Err(Error::Config { path: path.clone(), message });
            }
            let text = console::read_text(path, LIMITS.report)
                .map_err(|source| Error::ReadConfig { path: path.clone(), source })?;
            let wrong = |message: String| Error::Config { path: path.clone(), message: OutsideText::new(message) };
            let report = Report::read(text.as_bytes()).map_err(|e| wrong(e.to_string()))?;
            if report.statements.is_empty() {
                return Err(wrong(format!("it has no statements of exploitability (format {})", report.format)));
            }
            own.push((blobs::sha256(text.as_bytes()), report.statements));
        }
        Ok(Self { rules, own })
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Judges an image by its reports.
    pub fn judge(&self, image: &ImageFacts, carried: &[Carried], at: Dated) -> Verdict {
        self.judge_by(&self.rules, image, carried, at)
    }

    /// As [`ScanGate::judge`], by other rules with the same statements of exploitability.
    pub fn judge_by(&self, rules: &Rules, image: &ImageFacts, carried: &[Carried], at: Dated) -> Verdict {
        rules.judge(image, carried, &self.own, at)
    }
}

/// The reports of images, and what excused what was found; nothing if no image was judged.
pub fn table<'v>(judged: impl Iterator<Item = (&'v Reference, &'v Verdict)>) -> String {
    let (mut rows, mut excused) = (Vec::new(), Vec::new());
    for (image, verdict) in judged {
        rows.extend(verdict.reports.iter().map(|report| row(image, report)));
        if verdict.reports.is_empty() {
            rows.push(vec![image.to_string(), "no reports".into(), "-".into(), "-".into(), "-".into()]);
        }
        excused.extend(verdict.excused.iter().map(|what| {
            let package = what.package.as_ref().map(|package| package.escaped().to_string());
            let package = package.unwrap_or_else(|| "-".into());
            let id = what.id.escaped().to_string();
            vec![image.to_string(), id, package, what.severity.to_string(), what.by.to_string()]
        }));
    }
    let mut text = String::new();
    if !rows.is_empty() {
        text += &format!("\n{}", console::table(&["IMAGE", "REPORT", "MADE", "SAYS", "COUNTS"], &rows));
    }
    if !excused.is_empty() {
        text += &format!("\n{}", console::table(&["IMAGE", "NOT COUNTED", "IN", "SEVERITY", "BECAUSE OF"], &excused));
    }
    text
}

fn row(image: &Reference, report: &ReportRow) -> Vec<String> {
    let name = report.name.as_ref().map(|name| format!(" ({})", name.escaped())).unwrap_or_default();
    let made = report.made.map_or_else(|| "-".into(), |made| made.at.to_string());
    let says: Vec<String> = report
        .kinds
        .iter()
        .map(|kind| match kind {
            Kind::Vulnerabilities => format!("{kind}: {}", counts(&report.findings)),
            Kind::Policy | Kind::Compliance => format!("{kind}, not kept: {}", counts(&report.failed)),
            Kind::Sbom | Kind::Vex | Kind::Provenance => kind.to_string(),
        })
        .collect();
    let says = if says.is_empty() { "-".into() } else { says.join("; ") };
    let counts = match &report.unused {
        Some(why) => format!("no: {why}"),
        None if report.kinds.is_empty() && report.failed.is_empty() => "-".into(),
        None => "yes".into(),
    };
    vec![image.to_string(), format!("{}{name}", report.format), made, says, counts]
}

fn counts(counts: &Counts) -> String {
    let each: Vec<String> = counts.iter().rev().map(|(severity, count)| format!("{count} {severity}")).collect();
    if each.is_empty() { "none".into() } else { each.join(", ") }
}

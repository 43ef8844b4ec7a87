//! SARIF 2.1.0 (OASIS), as scanners of images write it.
//!
//! SARIF is a format of static analysis: what is wrong with the image must be told from the names of tools and rules. A run
//! of a scanner that is known to look for vulnerabilities of images has that kind; a run of any other program has none, and
//! what it found is listed as rules that are not kept.
//!
//! Suppressed results count. A suppression does not say who decided it, and one scanner wrote one for all that it found.

mod log;
mod scanner;

use std::collections::{BTreeSet, HashMap};

use manifest_schema::OutsideText;
use serde_json::Value;

use self::log::{Found, Level, Log, ResultKind, Rule, Run, RunProperties, Tool};
use self::scanner::{Scanner, Told, vulnerability_in};
use super::gathered::Gathered;
use super::json::{self, Object};
use super::{some, tool, wrong};
use crate::report::{FailedCheck, Finding, Format, Kind, ReadError, Report, Severity};

/// Reads a report.
pub(crate) fn read(text: &str) -> Result<Report, ReadError> {
    let log: Log<'_> = json::parse(text)?;
    if !log.version.starts_with("2.1.") {
        return Err(wrong(Format::Sarif, "its version is not 2.1"));
    }
    if log.inline_external_properties.0 {
        return Err(wrong(Format::Sarif, "parts of its runs are outside of them, which is not read"));
    }
    if log.runs.0.is_empty() {
        return Err(wrong(Format::Sarif, "it has no run"));
    }
    let mut report = Gathered::new(Format::Sarif, []);
    for Object(run) in log.runs.0 {
        add(&mut report, text, run)?;
    }
    Ok(report.report())
}

fn add(report: &mut Gathered, text: &str, run: Run<'_>) -> Result<(), ReadError> {
    let Object(Tool { driver: Object(driver), extensions }) = run.tool;
    for invocation in json::all(run.invocations) {
        if !invocation.execution_successful {
            return Err(wrong(Format::Sarif, format!("the execution of {} was not successful", driver.name)));
        }
        if let Some(end) = invocation.end_time_utc.0 {
            report.created = Some(report.created.map_or(end, |other| other.min(end)));
        }
    }
    if run.external_property_file_references.0 {
        return Err(wrong(Format::Sarif, "parts of it are in other files"));
    }
    let Some(results) = run.results else {
        return Err(wrong(Format::Sarif, format!("the run of {} has no results, not even an empty list", driver.name)));
    };
    let version = driver.version.as_deref().or(driver.semantic_version.as_deref());
    let this = tool(&driver.name, version);
    report.tool = match (report.tool.take(), this) {
        (Some(others), Some(this)) => Some(OutsideText::new(format!("{}, {}", others.raw(), this.raw()))),
        (others, this) => others.or(this),
    };
    let scanner = Scanner::by_name(&driver.name);
    let mut is_of_image = scanner == Scanner::Images;
    if let (Scanner::Trivy, Some(properties)) = (scanner, run.properties) {
        let Object(properties) = json::parse_part::<Object<RunProperties>>(text, properties)?;
        is_of_image = properties.image_name.is_some();
        name_image(report, properties)?;
    }
    if is_of_image {
        report.kinds.insert(Kind::Vulnerabilities);
    }
    let rules: Vec<Rule> = json::all(driver.rules).collect();
    let others: Vec<Rule> = json::all(extensions).flat_map(|extension| json::all(extension.rules)).collect();
    let by_id: HashMap<&str, &Rule> = others.iter().chain(&rules).map(|rule| (rule.id.as_str(), rule)).collect();
    for Object(result) in results.0 {
        if matches!(result.kind, ResultKind::Pass | ResultKind::NotApplicable | ResultKind::Informational)
            || result.baseline_state.as_deref() == Some("absent")
        {
            continue;
        }
        let (id, index) = result.rule.as_ref().map_or((None, None), |rule| (rule.0.id.as_deref(), rule.0.index));
        let index = result.rule_index.or(index).and_then(|index| usize::try_from(index).ok());
        let id = result.rule_id.as_deref().or(id);
        // An id is more exact than an index: that of all results is 0 in the output of some programs.
        let rule = id.and_then(|id| by_id.get(id).copied()).or_else(|| rules.get(index?));
        let Some(id) = id.or(rule.map(|rule| rule.id.as_str())) else {
            return Err(wrong(Format::Sarif, "one of its results is of no rule"));
        };
        let told = if scanner == Scanner::Other { Told::default() } else { Told::of(&result, rule) };
        let severity = severity(&result, rule, &told);
        if scanner.is_vulnerability(id, rule) {
            report.find(finding(id, &result, &told, severity))?;
        } else {
            report.fail(FailedCheck { name: OutsideText::new(id), severity, enforced: false })?;
        }
    }
    Ok(())
}

fn name_image(report: &mut Gathered, properties: RunProperties) -> Result<(), ReadError> {
    let about = &mut report.about;
    if let Some(id) = properties.image_id.filter(|id| !id.is_empty()) {
        about.digest(Format::Sarif, &id)?;
    }
    for name in properties.image_name.into_iter().chain(properties.repo_tags.unwrap_or_default().0) {
        about.name(name);
    }
    for digest in properties.repo_digests.unwrap_or_default().0 {
        about.repo_digest(Format::Sarif, digest)?;
    }
    Ok(())
}

fn finding(rule: &str, result: &Found, told: &Told<'_>, severity: Severity) -> Finding {
    let id = vulnerability_in(rule).unwrap_or(rule);
    let told = |names: &[&str]| told.value(names).map(str::to_owned);
    let of_rule = || rule.strip_prefix(id)?.strip_prefix('-').map(str::to_owned);
    let of_place = || {
        let place = result.locations.as_ref()?.0.first()?;
        place.0.physical_location.as_ref()?.0.artifact_location.as_ref()?.0.uri.clone()
    };
    let package = told(&["Package"]).or_else(of_rule).or_else(of_place).unwrap_or_default();
    Finding {
        id: OutsideText::new(id),
        aliases: BTreeSet::new(),
        purl: package.starts_with("pkg:").then(|| OutsideText::new(package.as_str())),
        package: OutsideText::new(package),
        version: some(told(&["Installed Version", "Version"])),
        fixed: some(told(&["Fixed Version", "Fix Version"])),
        severity,
    }
}

/// The scanner's word among the rule's tags (Trivy) or in what is told (Grype), or the worse of the rule's
/// `security-severity` and the level. What is still open has no level.
fn severity(result: &Found, rule: Option<&Rule>, told: &Told<'_>) -> Severity {
    let properties = rule.and_then(|rule| rule.properties.as_ref()).map(|properties| &properties.0);
    let tags = properties.and_then(|properties| properties.tags.as_ref()).map_or(&[][..], |tags| &tags.0);
    let is_word = |word: &&str| word.eq_ignore_ascii_case("unknown") || Severity::from_word(word) != Severity::Unknown;
    let words = tags.iter().map(String::as_str).chain(told.value(&["Severity"]));
    if let Some(word) = words.into_iter().find(is_word) {
        return Severity::from_word(word);
    }
    let score = properties.and_then(|properties| match properties.security_severity.as_ref()? {
        Value::String(score) => score.parse().ok(),
        score => score.as_f64(),
    });
    let score = score.map_or(Severity::Unknown, Severity::from_score);
    if result.kind != ResultKind::Fail {
        return score;
    }
    let of_rule = || rule?.default_configuration.as_ref()?.0.level;
    let level = match result.level.or_else(of_rule).unwrap_or(Level::Warning) {
        Level::Error => Severity::High,
        Level::Warning => Severity::Medium,
        Level::Note => Severity::Low,
        // The specification (3.27.10) has it for results that are no failure; `roxctl` writes it for all.
        Level::None => Severity::Unknown,
    };
    level.max(score)
}

//! Results of XCCDF 1.1 and 1.2 (NIST IR 7275 r4), alone or in ARF 1.1 (NIST IR 7694), as `oscap xccdf eval` writes them with
//! `--results` and `--results-arf`.
//!
//! A rule is not kept if its result is one that lowers the score (IR 7275 r4, 7.3.2): `fail`, and `error` and `unknown`, of
//! which nobody can say that it is kept. Results that have no part in the score (`notchecked`, `notselected`,
//! `notapplicable`, `informational`) say nothing; if all of them are of that kind, nothing was evaluated and the report is
//! refused.

use manifest_schema::{Digest, OutsideText, Timestamp};

use super::gathered::Gathered;
use super::xml::{Element, Xml};
use super::{tool, wrong};
use crate::report::{FailedCheck, Format, Kind, ReadError, Report, Severity};

const XCCDF: [&str; 2] = ["http://checklists.nist.gov/xccdf/1.1", "http://checklists.nist.gov/xccdf/1.2"];
const ARF: &str = "http://scap.nist.gov/schema/asset-reporting-format/1.1";

/// Whether the outermost element is that of XCCDF or ARF.
pub(crate) fn format_of(root: &Element) -> Option<Format> {
    if root.namespace == ARF && root.name == "asset-report-collection" {
        return Some(Format::Arf);
    }
    let is_result =
        XCCDF.contains(&root.namespace.as_str()) && matches!(root.name.as_str(), "Benchmark" | "TestResult");
    is_result.then_some(Format::Xccdf)
}

/// Reads what is inside the outermost element.
pub(crate) fn read(xml: &mut Xml<'_>, root: &Element, format: Format) -> Result<Report, ReadError> {
    let mut results = Results { report: Gathered::new(format, [Kind::Compliance]), found: 0, evaluated: 0 };
    match format {
        Format::Arf => xml.children(|xml, element| match is_arf(&element, "reports") {
            true => xml.children(|xml, element| match is_arf(&element, "report") {
                true => xml.children(|xml, element| match is_arf(&element, "content") {
                    true => xml.children(|xml, element| results.read_if_result(xml, &element)),
                    false => Ok(()),
                }),
                false => Ok(()),
            }),
            false => Ok(()),
        })?,
        _ if root.name == "TestResult" => results.read(xml, root)?,
        _ => xml.children(|xml, element| results.read_if_result(xml, &element))?,
    }
    xml.finish()?;
    if results.found == 0 {
        return Err(wrong(format, "it has no TestResult"));
    }
    if results.evaluated == 0 {
        return Err(wrong(format, "none of its rules was evaluated"));
    }
    Ok(results.report.report())
}

fn is_arf(element: &Element, name: &str) -> bool {
    element.namespace == ARF && element.name == name
}

/// All results of a document; a benchmark may have been evaluated more than once.
struct Results {
    report: Gathered,
    found: usize,
    evaluated: usize,
}

impl Results {
    fn read_if_result(&mut self, xml: &mut Xml<'_>, element: &Element) -> Result<(), ReadError> {
        let is_result = XCCDF.contains(&element.namespace.as_str()) && element.name == "TestResult";
        if is_result { self.read(xml, element) } else { Ok(()) }
    }

    fn read(&mut self, xml: &mut Xml<'_>, result: &Element) -> Result<(), ReadError> {
        self.found += 1;
        let Some(end) = result.attribute("end-time") else {
            return Err(xml.error("the TestResult has no end-time"));
        };
        let end = time(end).ok_or_else(|| xml.error("the end-time is not a time"))?;
        self.report.created = Some(self.report.created.map_or(end, |other| other.min(end)));
        let mut scanner = (result.attribute("test-system").map(str::to_owned), None);
        let namespace = &result.namespace;
        xml.children(|xml, element| {
            if element.namespace != *namespace {
                return Ok(());
            }
            match element.name.as_str() {
                "target" => {
                    let target = xml.text()?;
                    self.name(target);
                }
                "target-facts" => xml.children(|xml, fact| {
                    match fact.attribute("name") {
                        Some("urn:xccdf:fact:scanner:name") => scanner.0 = Some(xml.text()?),
                        Some("urn:xccdf:fact:scanner:version") => scanner.1 = Some(xml.text()?),
                        // Of a scan of an image the target is `unknown`, and the image is named here.
                        Some("urn:xccdf:fact:identifier") => {
                            let identifier = xml.text()?;
                            self.name(identifier);
                        }
                        _ => {}
                    }
                    Ok(())
                })?,
                "rule-result" => self.read_rule(xml, &element)?,
                _ => {}
            }
            Ok(())
        })?;
        if let (Some(name), version) = scanner {
            self.report.tool = tool(&name, version.as_deref());
        }
        Ok(())
    }

    /// `oscap-podman` writes `podman-image://id [tag tag]`, the id without the name of its algorithm.
    fn name(&mut self, target: String) {
        let about = &mut self.report.about;
        about.digests.extend(digests_in(&target));
        if let Some(image) = target.strip_prefix("podman-image://") {
            let (id, tags) = image.split_once(' ').unwrap_or((image, ""));
            about.digests.extend(format!("sha256:{id}").parse::<Digest>());
            tags.trim_matches(['[', ']']).split_whitespace().for_each(|tag| about.name(tag));
        }
        if target != "unknown" {
            about.name(target);
        }
    }

    fn read_rule(&mut self, xml: &mut Xml<'_>, rule: &Element) -> Result<(), ReadError> {
        let Some(name) = rule.attribute("idref") else {
            return Err(xml.error("a rule-result has no idref"));
        };
        let mut result = None;
        xml.children(|xml, element| {
            if element.namespace == rule.namespace && element.name == "result" && result.replace(xml.text()?).is_some()
            {
                return Err(xml.error("a rule-result has two results"));
            }
            Ok(())
        })?;
        match result.as_deref() {
            Some("pass" | "fixed") => self.evaluated += 1,
            Some("fail" | "error" | "unknown") => {
                self.evaluated += 1;
                let severity = Severity::from_word(rule.attribute("severity").unwrap_or("unknown"));
                self.report.fail(FailedCheck { name: OutsideText::new(name), severity, enforced: false })?;
            }
            Some("notapplicable" | "notchecked" | "notselected" | "informational") => {}
            Some(_) => return Err(xml.error("a rule-result has a result that is none of XCCDF")),
            None => return Err(xml.error("a rule-result has no result")),
        }
        Ok(())
    }
}

/// `xs:dateTime`. One without an offset is of the scanner's own time, which is not told; it is taken for UTC.
fn time(text: &str) -> Option<Timestamp> {
    let with_offset = || text.parse::<jiff::Timestamp>().ok();
    let without =
        || Some(text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp());
    Timestamp::from_unix(with_offset().or_else(without)?.as_second())
}

/// Scanners of images write the digest somewhere in the target's name.
fn digests_in(target: &str) -> impl Iterator<Item = Digest> + '_ {
    target.match_indices("sha256:").filter_map(|(at, _)| target.get(at..at + 71)?.parse().ok())
}

//! Whether an image's reports are enough.
//!
//! What answers what:
//!
//! | somebody | answer |
//! |---|---|
//! | leaves the report out | [`Rules::required`], and whatever a limit counts is required ([`Rules::demands`]) |
//! | shows a good report of another image | it names digests: one of them must be of this image ([`Examined::covers`]) |
//! | shows a report of one platform for all | a platform counts only if a report is of it, or of the whole image |
//! | shows last year's report | [`Rules::max_age`]; without a time it is too old, in the future it does not count |
//! | cuts a report off | [`Report::read`] refuses it, and it does not count |
//! | names a vulnerability otherwise | exceptions and statements match by all its names, limits count it once |
//! | sends a VEX with the image that excuses all | only with `vex: carried`; an own statement has precedence |
//! | lets an exception stand for ever | every exception ends, and says why |

use std::collections::{BTreeMap, BTreeSet};

use manifest_schema::document::Platform;
use manifest_schema::{Digest, OutsideText, Repository, Timestamp};

use crate::report::{Counts, FailedCheck, Finding, Format, Kind, ReadError, Report, Severity, Statement, Status};
use crate::rules::{Exception, Honoured, Platforms, Required, Rules};
use crate::verdict::{Excuse, Excused, Made, Reason, ReportRow, Unused, Verdict};
use crate::vex::{self, Answer};

/// How many names a reason lists.
const LISTED: usize = 10;

/// An image, as far as reports may be about it.
#[derive(Debug, Clone)]
pub struct ImageFacts {
    /// What it is called: at the origin and, where that is known, in production.
    pub names: Vec<Repository>,
    /// The digest of the index, or of the image manifest if there is none.
    pub digest: Digest,
    /// The image manifests.
    pub platforms: Vec<PlatformFacts>,
}

/// An image manifest.
#[derive(Debug, Clone)]
pub struct PlatformFacts {
    /// Its digest.
    pub digest: Digest,
    /// The digest of its configuration.
    pub config: Option<Digest>,
    /// What it is for, if the index says so.
    pub platform: Option<Platform>,
    /// Whether it could be run, by what it consists of: not what builders add to an index to vouch for its images.
    pub may_run: bool,
}

impl PlatformFacts {
    fn name(&self) -> String {
        self.platform.as_ref().map_or_else(|| self.digest.to_string(), ToString::to_string)
    }
}

/// A report that came with an image.
#[derive(Debug, Clone)]
pub struct Carried {
    /// What it is attached to: the image's digest or that of one of its image manifests.
    pub subject: Digest,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its file name.
    pub name: Option<OutsideText>,
    /// When it was made, as whoever attached it says.
    pub dated: Option<Timestamp>,
    /// What it says; of findings only what can matter.
    pub report: Report,
    findings: Counts,
    failed: Counts,
    /// Why it could not be read.
    unreadable: Option<ReadError>,
}

impl Carried {
    /// The same for another use of it.
    pub fn used(&self, subject: Digest, name: Option<OutsideText>, dated: Option<Timestamp>) -> Self {
        Self { subject, name, dated, ..self.clone() }
    }

    /// Reads something that came with an image; `None` if it is none of the known formats, or tells of
    /// nothing that is known. What is one and cannot be read
    /// does not count.
    pub fn read(
        rules: &Rules,
        subject: Digest,
        digest: Digest,
        name: Option<OutsideText>,
        dated: Option<Timestamp>,
        bytes: &[u8],
    ) -> Option<Self> {
        let (report, unreadable) = match Report::read(bytes) {
            Ok(report) if report.format == Format::Other => return None,
            // A signature, for one: it tells nothing that could be judged here.
            Ok(report) if report.format == Format::InToto && report.kinds.is_empty() => return None,
            Ok(report) => (report, None),
            Err(error) => (Report::new(error.format(), []), Some(error)),
        };
        Some(Self { unreadable, ..Self::new(rules, subject, digest, name, dated, report) })
    }

    /// A report, without the findings that no rule can ask for.
    pub fn new(
        rules: &Rules,
        subject: Digest,
        digest: Digest,
        name: Option<OutsideText>,
        dated: Option<Timestamp>,
        mut report: Report,
    ) -> Self {
        let (findings, failed) = (report.counts(), report.failed_counts());
        report.findings.retain(|finding| rules.max.keys().any(|limit| is_counted(*limit, finding.severity)));
        report.findings.shrink_to_fit();
        Self { subject, digest, name, dated, report, findings, failed, unreadable: None }
    }

    /// About how many bytes of memory it takes.
    pub fn weight(&self) -> usize {
        let text = |text: &OutsideText| text.raw().len() + 24;
        let finding = |f: &Finding| {
            let optional = [&f.version, &f.purl, &f.fixed].into_iter().flatten();
            200 + f.names().chain(optional).chain([&f.package]).map(text).sum::<usize>()
        };
        let statement = |s: &Statement| {
            let products = s.products.iter().flat_map(|p| p.ids.iter().chain(&p.parts));
            200 * (1 + s.products.len())
                + s.vulnerability.iter().chain(&s.justification).chain(products).map(text).sum::<usize>()
        };
        let Report { findings, failed, statements, about, tool, .. } = &self.report;
        // What is told of it, found or not.
        let row = 1024 + tool.iter().chain(&self.name).map(text).sum::<usize>();
        row + findings.iter().map(finding).sum::<usize>()
            + failed.iter().map(|check| 64 + text(&check.name)).sum::<usize>()
            + statements.iter().map(statement).sum::<usize>()
            + about.digests.len() * 100
            + about.names.iter().map(text).sum::<usize>()
    }
}

/// When something is judged.
#[derive(Debug, Clone, Copy)]
pub struct Dated {
    /// Now.
    pub now: Timestamp,
    /// How far a clock may be ahead, in seconds.
    pub tolerance: u32,
}

/// Statements of exploitability of the site's own: a file's digest, and what it says.
pub type OwnVex = Vec<(Digest, Vec<Statement>)>;

impl Rules {
    /// Rules that decide nothing: reports are only looked at.
    pub fn nothing() -> Self {
        Self { ignore_enforced: true, ..Self::default() }
    }

    /// Without the limits on what a report does not tell of.
    pub fn as_far_as(self, report: &Report) -> Self {
        let tells = |kind| report.kinds.contains(&kind);
        let has_findings = tells(Kind::Vulnerabilities) || !report.findings.is_empty();
        let has_rules = tells(Kind::Policy) || tells(Kind::Compliance) || !report.failed.is_empty();
        let max = if has_findings { self.max } else { BTreeMap::new() };
        let max_failed = if has_rules { self.max_failed } else { BTreeMap::new() };
        Self { max, max_failed, ..self }
    }

    /// What must be there: what is required, and what limits count.
    fn demands(&self) -> Vec<Vec<Required>> {
        let mut demands: Vec<Vec<Required>> = self.required.iter().map(|required| vec![*required]).collect();
        if !self.max.is_empty() {
            demands.push(vec![Required::Kind(Kind::Vulnerabilities)]);
        }
        if !self.max_failed.is_empty() {
            demands.push(vec![Required::Kind(Kind::Policy), Required::Kind(Kind::Compliance)]);
        }
        demands.sort();
        demands.dedup();
        demands
    }

    /// Judges an image by its reports.
    pub fn judge(&self, image: &ImageFacts, carried: &[Carried], own: &OwnVex, at: Dated) -> Verdict {
        let examined: Vec<Examined<'_>> = carried.iter().map(|c| Examined::new(self, image, c, at)).collect();
        let mut reasons = self.missing(image, &examined);
        let counted = || examined.iter().filter(|e| e.unused.is_none()).map(|e| &e.carried.report);
        let own = own.iter().flat_map(|(digest, statements)| statements.iter().map(|s| (*digest, s, true)));
        let brought = examined.iter().filter(|e| self.vex == Honoured::Carried && e.unused.is_none());
        let brought = brought.flat_map(|e| e.carried.report.statements.iter().map(|s| (e.carried.digest, s, false)));
        let statements = vex::Statements::new(image, own.chain(brought));
        let mut excuses = Excuses { rules: self, image, now: at.now, excused: BTreeSet::new(), over: BTreeMap::new() };

        let mut vulnerabilities: BTreeMap<(&OutsideText, &OutsideText), Severity> = BTreeMap::new();
        for (format, finding) in counted().flat_map(|report| report.findings.iter().map(|f| (report.format, f))) {
            if self.only_fixed && finding.fixed.is_none() && format.tells_fixes() {
                continue;
            }
            if !excuses.finding(finding, &statements) {
                let worst = vulnerabilities.entry((finding.name(), &finding.package)).or_insert(finding.severity);
                *worst = (*worst).max(finding.severity);
            }
        }
        let failed: BTreeMap<&OutsideText, &FailedCheck> = {
            let mut failed: BTreeMap<&OutsideText, &FailedCheck> = BTreeMap::new();
            for check in counted().flat_map(|report| &report.failed).filter(|check| !excuses.check(check)) {
                let worst = failed.entry(&check.name).or_insert(check);
                if (check.enforced, check.severity) > (worst.enforced, worst.severity) {
                    *worst = check;
                }
            }
            failed
        };
        let of_packages: Vec<(Severity, String)> = vulnerabilities
            .iter()
            .map(|((id, package), severity)| (*severity, format!("{} in {}", id.escaped(), package.escaped())))
            .collect();
        let of_rules: Vec<(Severity, String)> =
            failed.values().map(|check| (check.severity, check.name.escaped().to_string())).collect();
        reasons.extend(over(&self.max, &of_packages, |severity, found, allowed, first| Reason::Vulnerabilities {
            severity,
            found,
            allowed,
            first,
        }));
        reasons.extend(over(&self.max_failed, &of_rules, |severity, found, allowed, first| Reason::Failed {
            severity,
            found,
            allowed,
            first,
        }));
        if !self.ignore_enforced {
            let enforced: Vec<String> =
                failed.values().filter(|c| c.enforced).map(|c| c.name.escaped().to_string()).collect();
            if !enforced.is_empty() {
                let found = enforced.len() as u64;
                reasons.push(Reason::Enforced { first: enforced.into_iter().take(LISTED).collect(), found });
            }
        }
        // It says why something counts that did not before; it is no reason alone.
        if !reasons.is_empty() {
            reasons.extend(
                excuses
                    .over
                    .iter()
                    .map(|(id, exception)| Reason::ExceptionOver { id: id.clone(), expires: exception.expires }),
            );
        }
        let excused = excuses.excused.into_iter().collect();
        let counts = |rows: &[(Severity, String)]| {
            rows.iter().fold(Counts::new(), |mut counts, (severity, _)| {
                *counts.entry(*severity).or_default() += 1;
                counts
            })
        };
        let (findings, failed) = (counts(&of_packages), counts(&of_rules));
        Verdict { reports: examined.iter().map(Examined::row).collect(), findings, failed, excused, reasons }
    }

    /// What must be there and is not, platform by platform.
    fn missing(&self, image: &ImageFacts, examined: &[Examined<'_>]) -> Vec<Reason> {
        let images: Vec<&PlatformFacts> = image.platforms.iter().filter(|p| p.may_run).collect();
        let mut reasons = Vec::new();
        for demand in self.demands() {
            let meets = |e: &&Examined<'_>| demand.iter().any(|required| e.is(*required));
            let is_met_for = |p: &&&PlatformFacts| {
                examined.iter().filter(meets).any(|e| e.is_there() && e.covers.contains(&p.digest))
            };
            let lacking: Vec<&&PlatformFacts> = images.iter().filter(|p| !is_met_for(p)).collect();
            let is_enough = match self.platforms {
                Platforms::Each => lacking.is_empty() && !images.is_empty(),
                Platforms::Any => lacking.len() < images.len(),
            };
            if is_enough {
                continue;
            }
            let could = |e: &&Examined<'_>| e.carried.unreadable.is_some() || meets(e);
            let unused: Vec<String> = examined.iter().filter(could).filter_map(Examined::unused).take(LISTED).collect();
            let required = demand[0];
            let one = self.platforms == Platforms::Any || images.len() < 2;
            let platforms: Vec<Option<String>> =
                if one { vec![None] } else { lacking.iter().map(|p| Some(p.name())).collect() };
            reasons.extend(platforms.into_iter().map(|platform| Reason::Missing {
                required,
                platform,
                unused: unused.clone(),
            }));
        }
        reasons
    }
}

/// Whether a severity counts against a limit: those on the scale by being as bad or worse, the unknown by itself.
fn is_counted(limit: Severity, severity: Severity) -> bool {
    if limit == Severity::Unknown { severity == Severity::Unknown } else { severity >= limit }
}

/// Each limit that is exceeded.
fn over(
    limits: &BTreeMap<Severity, u64>,
    found: &[(Severity, String)],
    reason: impl Fn(Severity, u64, u64, Vec<String>) -> Reason,
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for (limit, allowed) in limits.iter().rev() {
        let mut counted: Vec<_> = found.iter().filter(|(severity, _)| is_counted(*limit, *severity)).collect();
        if counted.len() as u64 > *allowed {
            counted.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
            let first = counted.iter().take(LISTED).map(|(_, text)| text.clone()).collect();
            reasons.push(reason(*limit, counted.len() as u64, *allowed, first));
        }
    }
    reasons
}

/// A report beside the image that it came with.
struct Examined<'c> {
    carried: &'c Carried,
    made: Option<Made>,
    covers: BTreeSet<Digest>,
    unused: Option<Unused>,
}

impl<'c> Examined<'c> {
    fn new(rules: &Rules, image: &ImageFacts, carried: &'c Carried, at: Dated) -> Self {
        let by_report = carried.report.created.map(|at| Made { at, by_report: true });
        let made = by_report.or_else(|| carried.dated.map(|at| Made { at, by_report: false }));
        let readable = match &carried.unreadable {
            Some(why) => Err(Unused::Unreadable { why: why.to_string() }),
            None => Self::covers(image, carried),
        };
        let (covers, unused) = match readable {
            Ok(covers) => (covers, Self::belief(rules, carried).or_else(|| Self::age(rules, carried, made, at))),
            Err(unused) => (BTreeSet::new(), Some(unused)),
        };
        Self { carried, made, covers, unused }
    }

    /// The image manifests that the report is of: by what it is attached to, and by the digests that it names.
    fn covers(image: &ImageFacts, carried: &Carried) -> Result<BTreeSet<Digest>, Unused> {
        let attached: BTreeSet<Digest> = image
            .platforms
            .iter()
            .map(|p| p.digest)
            .filter(|digest| carried.subject == image.digest || carried.subject == *digest)
            .collect();
        if attached.is_empty() {
            return Err(Unused::Elsewhere);
        }
        let named = &carried.report.about.digests;
        let is_named = |p: &&PlatformFacts| named.contains(&p.digest) || p.config.is_some_and(|c| named.contains(&c));
        let platforms: BTreeSet<Digest> = image.platforms.iter().filter(is_named).map(|p| p.digest).collect();
        let covers = match () {
            () if named.is_empty() => attached,
            () if !platforms.is_empty() => &attached & &platforms,
            () if named.contains(&image.digest) => attached,
            () => BTreeSet::new(),
        };
        if covers.is_empty() { Err(Unused::OfAnother) } else { Ok(covers) }
    }

    /// Statements alone, of which none is believed.
    fn belief(rules: &Rules, carried: &Carried) -> Option<Unused> {
        let only_states = carried.report.kinds.iter().eq([&Kind::Vex]);
        (only_states && rules.vex == Honoured::Own).then_some(Unused::NotBelieved)
    }

    fn age(rules: &Rules, carried: &Carried, made: Option<Made>, at: Dated) -> Option<Unused> {
        if !carried.report.kinds.iter().any(|kind| kind.ages()) {
            return None;
        }
        let Some(made) = made else { return rules.max_age.map(|_| Unused::Undated) };
        if made.at.unix() > at.now.unix() + i64::from(at.tolerance) {
            return Some(Unused::Future);
        }
        let limit = rules.max_age?;
        (at.now.unix() - made.at.unix() > limit.seconds()).then(|| Unused::TooOld { limit: limit.to_string() })
    }

    fn is(&self, required: Required) -> bool {
        match required {
            Required::Kind(kind) => self.carried.report.kinds.contains(&kind),
            Required::Format(format) => self.carried.report.format == format,
        }
    }

    /// Whether it is there, as far as that is asked for: a statement that is not believed is.
    fn is_there(&self) -> bool {
        matches!(self.unused, None | Some(Unused::NotBelieved))
    }

    /// Why it does not count, in words.
    fn unused(&self) -> Option<String> {
        let made = self.made.map(|made| format!(" of {}", made.at)).unwrap_or_default();
        Some(format!("{}{made}: {}", self.carried.report.format, self.unused.as_ref()?))
    }

    fn row(&self) -> ReportRow {
        let Carried { digest, name, report, findings, failed, .. } = self.carried;
        ReportRow {
            digest: *digest,
            name: name.clone(),
            format: report.format,
            tool: report.tool.clone(),
            kinds: report.kinds.clone(),
            made: self.made,
            covers: self.covers.clone(),
            findings: findings.clone(),
            failed: failed.clone(),
            unused: self.unused.clone(),
        }
    }
}

/// What does not count although it was found.
struct Excuses<'r> {
    rules: &'r Rules,
    image: &'r ImageFacts,
    now: Timestamp,
    excused: BTreeSet<Excused>,
    /// Exceptions that would have counted once.
    over: BTreeMap<String, &'r Exception>,
}

impl<'r> Excuses<'r> {
    /// Whether a vulnerability does not count.
    fn finding(&mut self, finding: &Finding, statements: &vex::Statements<'_>) -> bool {
        let by = self.exception(|exception| {
            let is_it = finding.names().any(|name| name.raw() == exception.id);
            is_it && exception.package.as_ref().is_none_or(|package| package == finding.package.raw())
        });
        let by = by.or_else(|| match statements.answer(finding)? {
            Answer { status: Status::NotAffected | Status::Fixed, digest, own, justification } => {
                Some(Excuse::Vex { digest, own, justification: justification.cloned() })
            }
            _ => None,
        });
        self.note(finding.name(), Some(&finding.package), finding.severity, by)
    }

    /// Whether a rule that is not kept does not count.
    fn check(&mut self, check: &FailedCheck) -> bool {
        let by = self.exception(|exception| exception.package.is_none() && check.name.raw() == exception.id);
        self.note(&check.name, None, check.severity, by)
    }

    fn note(
        &mut self,
        id: &OutsideText,
        package: Option<&OutsideText>,
        severity: Severity,
        by: Option<Excuse>,
    ) -> bool {
        let Some(by) = by else { return false };
        self.excused.insert(Excused { id: id.clone(), package: package.cloned(), severity, by });
        true
    }

    fn exception(&mut self, is_for: impl Fn(&Exception) -> bool) -> Option<Excuse> {
        let fits = |e: &&Exception| e.is_about(&self.image.names) && is_for(e);
        let mut over = None;
        for exception in self.rules.exceptions.iter().filter(fits) {
            if !exception.expires.is_over(self.now) {
                let (reason, expires) = (exception.reason.text().clone(), exception.expires.to_string());
                return Some(Excuse::Exception { reason, expires });
            }
            over = Some(exception);
        }
        if let Some(exception) = over {
            self.over.insert(exception.id.clone(), exception);
        }
        None
    }
}

#[cfg(test)]
mod tests;

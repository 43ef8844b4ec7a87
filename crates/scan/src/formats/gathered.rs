//! What was gathered from a report so far, within bounds.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

use manifest_schema::OutsideText;

use super::LIMIT;
use crate::report::{FailedCheck, Finding, Format, Kind, ReadError, Report, Statement};

/// The most bytes of names. A name may be that of many findings or statements and stand in the report once.
const NAMES: usize = 1 << 27;

/// A report that is being read.
pub(crate) struct Gathered {
    report: Report,
    names: usize,
}

impl Deref for Gathered {
    type Target = Report;
    fn deref(&self) -> &Report {
        &self.report
    }
}

impl DerefMut for Gathered {
    fn deref_mut(&mut self) -> &mut Report {
        &mut self.report
    }
}

impl Gathered {
    pub(crate) fn new(format: Format, kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self { report: Report::new(format, kinds), names: 0 }
    }

    pub(crate) fn report(self) -> Report {
        self.report
    }

    /// Adds a vulnerability. An advisory is often of several CVEs: those are vulnerabilities of their own and not names of
    /// one, so that a statement about one of them says nothing of the others.
    pub(crate) fn find(&mut self, mut finding: Finding) -> Result<(), ReadError> {
        let is_cve = |name: &OutsideText| name.raw().starts_with("CVE-");
        let is_of_cve = is_cve(&finding.id);
        let aliases = std::mem::take(&mut finding.aliases).into_iter().filter(|alias| *alias != finding.id);
        let (cves, others): (BTreeSet<_>, BTreeSet<_>) = aliases.partition(is_cve);
        finding.aliases = others;
        if is_of_cve || cves.len() < 2 {
            finding.aliases.extend(cves.into_iter().filter(|_| !is_of_cve));
            return self.push(finding);
        }
        for cve in cves {
            let mut one = finding.clone();
            one.aliases.insert(std::mem::replace(&mut one.id, cve));
            self.push(one)?;
        }
        Ok(())
    }

    fn push(&mut self, finding: Finding) -> Result<(), ReadError> {
        self.has_room(finding.names().chain([&finding.package]))?;
        self.report.findings.push(finding);
        Ok(())
    }

    /// Adds a rule that is not kept.
    pub(crate) fn fail(&mut self, check: FailedCheck) -> Result<(), ReadError> {
        self.has_room([&check.name])?;
        self.report.failed.push(check);
        Ok(())
    }

    /// Adds a statement.
    pub(crate) fn state(&mut self, statement: Statement) -> Result<(), ReadError> {
        let of_products = statement.products.iter().flat_map(|product| product.ids.iter().chain(&product.parts));
        self.has_room(statement.vulnerability.iter().chain(of_products))?;
        self.report.statements.push(statement);
        Ok(())
    }

    fn has_room<'a>(&mut self, names: impl IntoIterator<Item = &'a OutsideText>) -> Result<(), ReadError> {
        const EACH: usize = std::mem::size_of::<OutsideText>();
        self.names += names.into_iter().map(|name| name.raw().len() + EACH).sum::<usize>();
        let report = &self.report;
        let have = report.findings.len() + report.failed.len() + report.statements.len();
        if have < LIMIT && self.names <= NAMES { Ok(()) } else { Err(ReadError::TooMany { limit: LIMIT }) }
    }
}

//! Reports as programs write them, each with variants that have one flaw.

#![allow(clippy::unwrap_used)]

mod clair;
mod cyclonedx;
mod damage;
mod grype;
mod handed;
mod intoto;
mod openscap;
mod openvex;
mod recognise;
mod roxctl;
mod sarif;
mod spdx;
mod trivy;

use std::fs;
use std::path::PathBuf;

use scan::{ReadError, Report};

/// A sample of this crate.
pub fn sample(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    fs::read_to_string(folder.join(name)).unwrap()
}

/// The names of all samples.
pub fn samples() -> Vec<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What a sample says.
pub fn read(name: &str) -> Report {
    Report::read(sample(name).as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A sample with one change.
pub fn changed(name: &str, from: &str, to: &str) -> Result<Report, ReadError> {
    let text = sample(name);
    assert_eq!(text.matches(from).count(), 1, "{name}: {from:?} is there once");
    Report::read(text.replace(from, to).as_bytes())
}

/// Samples with one flaw each (what there is, what is put there instead) are refused, and the refusal says so.
pub fn refused(flaws: &[(&str, &str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (name, from, to, why) in flaws {
        match changed(name, from, to) {
            Ok(report) => wrong.push(format!("{name} with {to:?} for {from:?} is read: {report:?}")),
            Err(error) if error.to_string().contains(why) => {}
            Err(error) => wrong.push(format!("{name} with {to:?} for {from:?}: {error}\n    instead of {why}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// One line for each finding, check and statement.
pub fn lines(report: &Report) -> Vec<String> {
    let joined = |texts: Vec<&str>| texts.join(",");
    let findings = report.findings.iter().map(|f| {
        let raw =
            |text: &Option<manifest_schema::OutsideText>| text.as_ref().map_or("-".into(), |t| t.raw().to_owned());
        let aliases = joined(f.aliases.iter().map(|alias| alias.raw()).collect());
        format!(
            "{} [{aliases}] {} {} {} fixed {} {}",
            f.id.raw(),
            f.package.raw(),
            raw(&f.version),
            raw(&f.purl),
            raw(&f.fixed),
            f.severity
        )
    });
    let failed = report
        .failed
        .iter()
        .map(|f| format!("{} {}{}", f.name.raw(), f.severity, if f.enforced { " enforced" } else { "" }));
    let statements = report.statements.iter().map(|s| {
        let products: Vec<String> = s
            .products
            .iter()
            .map(|p| {
                let mut ids: Vec<String> = p.digests.iter().map(ToString::to_string).collect();
                ids.extend(p.ids.iter().map(|id| id.raw().to_owned()));
                let parts = joined(p.parts.iter().map(|part| part.raw()).collect());
                format!("{}({parts})", ids.join(","))
            })
            .collect();
        let justification = s.justification.as_ref().map_or("-", |text| text.raw());
        let at = s.at.map_or("-".into(), |at| at.to_string());
        let names = joined(s.vulnerability.iter().map(|name| name.raw()).collect());
        format!("{names} {:?} of {} because {justification} at {at}", s.status, products.join(" "))
    });
    findings.chain(failed).chain(statements).collect()
}

/// The names and digests that a report is about, digests short.
pub fn about(report: &Report) -> Vec<String> {
    let digests = report.about.digests.iter().map(|digest| digest.to_string()[..11].to_owned());
    digests.chain(report.about.names.iter().map(|name| name.raw().to_owned())).collect()
}

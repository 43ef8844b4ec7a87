//! Reports of the programs' own projects. They are not part of this repository.

use std::fs;
use std::path::PathBuf;

use scan::{Format, Kind, Report};

fn folder() -> Option<PathBuf> {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let folder = std::env::var_os("SEALIFT_TEST_DATA").map_or_else(default, PathBuf::from).join("scan");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: {} is not there; SEALIFT_TEST_DATA names another folder", folder.display());
    None
}

#[test]
fn are_read() {
    let Some(folder) = folder() else { return };
    for (name, format, kind, findings, failed) in [
        ("roxctl-image-check-failing.json", Format::RoxctlCheck, Kind::Policy, 0, 7),
        ("roxctl-image-check-passing.json", Format::RoxctlCheck, Kind::Policy, 0, 6),
        ("roxctl-image-scan.json", Format::RoxctlScan, Kind::Vulnerabilities, 17, 0),
        ("trivy-alpine-310.json", Format::Trivy, Kind::Vulnerabilities, 4, 0),
    ] {
        let report = Report::read(&fs::read(folder.join(name)).unwrap()).unwrap();
        assert_eq!((report.format, &report.kinds), (format, &[kind].into()), "{name}");
        assert_eq!((report.findings.len(), report.failed.len()), (findings, failed), "{name}");
        let enforced = report.failed.iter().filter(|check| check.enforced).count();
        assert_eq!(enforced, usize::from(name.contains("failing")), "{name}");
    }
}

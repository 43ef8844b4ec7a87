use scan::{Format, Kind, Report};

use crate::{about, changed, lines, read, refused};

#[test]
fn a_check_says_which_policies_are_not_kept() {
    let report = read("roxctl-check.json");
    assert_eq!((report.format, &report.kinds), (Format::RoxctlCheck, &[Kind::Policy].into()));
    assert_eq!(about(&report), ["registry.example/shop/cart:1.4"]);
    assert_eq!(lines(&report), ["Fixable severity at least important high enforced", "90-day image age low"]);
}

#[test]
fn a_check_that_found_nothing_has_only_a_summary() {
    let report = read("roxctl-check-clean.json");
    assert_eq!((report.format, &report.kinds), (Format::RoxctlCheck, &[Kind::Policy].into()));
    assert!(report.failed.is_empty());
}

#[test]
fn a_check_of_a_deployment_is_not_one_of_an_image() {
    let report = changed("roxctl-check.json", "\"type\": \"image\"", "\"type\": \"Deployment\"").unwrap();
    assert!(report.kinds.is_empty());
}

#[test]
fn a_scan_says_what_was_found() {
    let report = read("roxctl-scan.json");
    assert_eq!((report.format, &report.kinds), (Format::RoxctlScan, &[Kind::Vulnerabilities].into()));
    assert_eq!(
        lines(&report),
        [
            "CVE-2031-0008 [] libexample 1.2-3.el9 - fixed 1.2-4.el9 high",
            "CVE-2031-0008 [] libexample-tools 1.2-3.el9 - fixed - high",
            "CVE-2031-0009 [] libexample 1.2-3.el9 - fixed - medium",
        ]
    );
    let counted_twice = changed("roxctl-scan.json", "\"TOTAL-VULNERABILITIES\": 2", "\"TOTAL-VULNERABILITIES\": 3");
    assert_eq!(lines(&counted_twice.unwrap()), lines(&report));
}

#[test]
fn flaws_are_refused() {
    const CHECK: &str = "roxctl-check.json";
    const SCAN: &str = "roxctl-scan.json";
    refused(&[
        (CHECK, "\"violatedPolicies\"", "\"violated\"", "its summary counts 2 and 0 are listed"),
        (CHECK, "\"failingCheck\": true", "\"failingCheck\": \"true\"", "line 25, column "),
        (CHECK, "\"failingCheck\": true", "\"failing\": true", "missing field `failingCheck`"),
        (CHECK, "\"results\"", "\"result\"", "its summary counts 2 and 0 are listed"),
        (CHECK, "\"results\"", "\"results\": [], \"results\"", "duplicate field `results`"),
        (CHECK, "\"metadata\"", "\"meta\"", "missing field `metadata`"),
        (SCAN, "\"vulnerabilities\"", "\"weaknesses\"", "its summary counts 2 and 0 are listed"),
        (
            SCAN,
            "\"TOTAL-VULNERABILITIES\": 2",
            "\"TOTAL-VULNERABILITIES\": 11",
            "its summary counts 11 and 3 are listed",
        ),
        (SCAN, "\"TOTAL-VULNERABILITIES\": 2", "\"TOTAL-VULNERABILITIES\": -2", "line 9, column "),
        (SCAN, "\"cveSeverity\": \"MODERATE\"", "\"cveSeverity\": 3", "line 36, column "),
        (SCAN, "\"cveId\": \"CVE-2031-0009\",", "", "missing field `cveId`"),
    ]);
}

#[test]
fn the_older_output_says_nothing() {
    let older = r#"{"alerts": [{"policy": {"id": "a", "name": "b"}, "violations": [{"message": "c"}]}]}"#;
    assert_eq!(Report::read(older.as_bytes()).unwrap().format, Format::Other);
}

use scan::{Format, Kind, Report};

use crate::{about, changed, lines, read, refused, sample};

const NAME: &str = "sarif.json";

#[test]
fn says_what_was_found() {
    let report = read(NAME);
    assert_eq!((report.format, &report.kinds), (Format::Sarif, &[Kind::Vulnerabilities].into()));
    assert_eq!(report.tool.as_ref().map(|tool| tool.raw()), Some("Trivy 0.67.2, Linter"));
    assert_eq!(report.created.map(|time| time.to_string()).as_deref(), Some("2026-02-03T09:11:12Z"));
    assert_eq!(about(&report)[..3], ["sha256:1111", "sha256:3333", "registry.example/shop/cart:1.4"]);
    assert_eq!(
        lines(&report),
        [
            "CVE-2031-0001 [] libexample1 1.2-3 - fixed 1.2-4 critical",
            "GHSA-aaaa-bbbb-cccc [] wire - - fixed - low",
            "private-key high",
            "L1 medium",
            "L3 unknown",
            "L5 unknown",
        ]
    );
}

#[test]
fn what_a_scanner_tells_in_the_help_of_a_rule_is_read() {
    let report = read("sarif-grype.json");
    assert_eq!(report.kinds, [Kind::Vulnerabilities].into());
    assert_eq!(lines(&report), ["CVE-2031-0012 [] busybox 1.37.0-r1 - fixed 1.37.0-r2 low"]);
}

#[test]
fn a_score_makes_a_level_worse_and_never_better() {
    let text = sample(NAME).replace("\\nSeverity: CRITICAL", "");
    let of_rule = "\"security-severity\": \"5.0\", \"tags\": [\"vulnerability\", \"security\", \"CRITICAL\"]";
    assert!(text.contains(of_rule));
    for (properties, severity) in [
        ("\"security-severity\": \"9.8\"", "critical"),
        ("\"security-severity\": 9.8", "critical"),
        ("\"security-severity\": \"2.0\"", "high"),
        ("\"security-severity\": \"no number\"", "high"),
        ("\"tags\": [\"security\"]", "high"),
        ("\"tags\": [\"UNKNOWN\"]", "unknown"),
    ] {
        let report = Report::read(text.replace(of_rule, properties).as_bytes()).unwrap();
        assert_eq!(report.findings[0].severity.as_str(), severity, "{properties}");
    }
}

#[test]
fn a_run_of_another_program_is_no_report_of_vulnerabilities() {
    let report = changed(NAME, "\"name\": \"Trivy\"", "\"name\": \"Bandit\"").unwrap();
    assert!(report.kinds.is_empty());
    assert_eq!(report.findings.len(), 2);
    let report = changed(NAME, "\"name\": \"Trivy\"", "\"name\": \"grype\"").unwrap();
    assert_eq!((report.kinds.len(), report.findings.len()), (1, 3));
    let report = changed(NAME, "\"imageName\"", "\"folder\"").unwrap();
    assert!(report.kinds.is_empty());
}

#[test]
fn flaws_are_refused() {
    refused(&[
        (NAME, "\"version\": \"2.1.0\"", "\"version\": \"2.0.0\"", "its version is not 2.1"),
        (NAME, "\"version\": \"2.1.0\",", "", "missing field `version`"),
        (
            NAME,
            "\"executionSuccessful\": true",
            "\"executionSuccessful\": false",
            "the execution of Trivy was not successful",
        ),
        (NAME, "\"executionSuccessful\": true, ", "", "line 26, column "),
        (
            NAME,
            "\"results\": [\n        {\n          \"ruleId\": \"CVE",
            "\"x\": [\n        {\n          \"ruleId\": \"CVE",
            "the run of Trivy has no results",
        ),
        (
            NAME,
            "\"results\": [\n        { \"ruleId\"",
            "\"results\": null, \"x\": [\n        { \"ruleId\"",
            "the run of Linter has no results",
        ),
        (NAME, "{ \"id\": \"L5\" }", "{}", "one of its results is of no rule"),
        (NAME, "\"level\": \"note\"", "\"level\": \"grave\"", "line 54, column "),
        (NAME, "\"kind\": \"review\"", "\"kind\": \"maybe\"", "unknown variant `maybe`"),
        (
            NAME,
            "\"invocations\"",
            "\"externalPropertyFileReferences\": {}, \"invocations\"",
            "parts of it are in other files",
        ),
        (
            NAME,
            "\"runs\": [",
            "\"inlineExternalProperties\": [{}], \"runs\": [",
            "parts of its runs are outside of them",
        ),
        (NAME, "\"imageID\": \"sha256:", "\"imageID\": \"", "is not a digest"),
        (NAME, "\"level\": \"note\"", "\"level\": \"note\", \"level\": \"none\"", "duplicate field `level`"),
    ]);
    let empty = Report::read(br#"{"version": "2.1.0", "runs": []}"#).unwrap_err();
    assert!(empty.to_string().contains("it has no run"));
}

use scan::{Format, Kind};

use crate::{about, changed, lines, read, refused};

const NAME: &str = "clair.json";

#[test]
fn says_what_was_found() {
    let report = read(NAME);
    assert_eq!((report.format, &report.kinds), (Format::Clair, &[Kind::Vulnerabilities].into()));
    assert_eq!(about(&report), ["sha256:3333"]);
    assert_eq!(
        lines(&report),
        [
            "CVE-2031-0008 [] libexample 1.2-3.el9 - fixed 0:1.2-4.el9 high",
            "RHSA-2031:0009 [] libexample 1.2-3.el9 - fixed - medium",
            "CVE-2031-0010 [] elsewhere 3 - fixed - unknown",
        ]
    );
}

#[test]
fn a_report_of_the_indexer_says_nothing_of_vulnerabilities() {
    let report = read("clair-index.json");
    assert_eq!((report.format, report.kinds.len()), (Format::Clair, 0));
    assert_eq!(about(&report), ["sha256:3333"]);
}

#[test]
fn a_report_of_vulnerabilities_may_tell_the_state_of_the_index() {
    let report = changed(NAME, "\"enrichments\"", "\"success\": true, \"enrichments\"").unwrap();
    assert_eq!((report.kinds.len(), report.findings.len()), (1, 3));
}

#[test]
fn flaws_are_refused() {
    const INDEX: &str = "clair-index.json";
    refused(&[
        (NAME, "\"manifest_hash\": \"sha256:", "\"manifest_hash\": \"sha1:", "line 2, column "),
        (NAME, "\"vulnerabilities\": {", "\"vulns\": {", "missing field `vulnerabilities`"),
        (NAME, "\"package_vulnerabilities\": {", "\"pv\": {", "missing field `package_vulnerabilities`"),
        (NAME, "\"packages\": {", "\"packages\": null, \"p\": {", "line 3, column 18: invalid type: null"),
        (NAME, "[\"100\", \"101\"]", "[\"100\", \"103\"]", "its vulnerability `103` is not listed"),
        (NAME, "\"7\": [\"100\", \"101\"]", "\"8\": [\"100\"]", "its package `8` is not listed"),
        (NAME, "\"101\": {", "\"100\": {", "line 26, column 5: a member is there twice"),
        (NAME, "\"name\": \"CVE-2031-0008\",", "", "line 19, column 5: missing field `name`"),
        (NAME, "\"enrichments\"", "\"err\": \"matcher failed\", \"enrichments\"", "indexing failed"),
        (INDEX, "\"success\": true", "\"success\": false", "indexing failed"),
        (INDEX, "\"err\": \"\"", "\"err\": \"no such layer\"", "indexing failed"),
        (INDEX, "IndexFinished", "IndexError", "indexing failed"),
    ]);
}

#[test]
fn a_vulnerability_that_no_package_is_said_to_have_counts() {
    let report = changed(NAME, "\"7\": [\"100\", \"101\"]", "").unwrap();
    assert_eq!(report.findings.len(), 3);
}

use scan::{Format, Kind};

use crate::{about, changed, lines, read, refused};

const NAME: &str = "grype.json";

#[test]
fn says_what_was_found() {
    let report = read(NAME);
    assert_eq!(report.format, Format::Grype);
    assert_eq!(report.kinds, [Kind::Vulnerabilities].into());
    assert_eq!(report.tool.as_ref().map(|tool| tool.raw()), Some("grype 0.104.0"));
    assert_eq!(report.created.map(|time| time.to_string()).as_deref(), Some("2026-02-03T09:11:12Z"));
    assert_eq!(about(&report)[..3], ["sha256:1111", "sha256:3333", "sha256:4444"]);
    assert_eq!(
        lines(&report),
        [
            "GHSA-aaaa-bbbb-cccc [CVE-2031-0003] example.org/wire v0.3.0 pkg:golang/example.org/wire@v0.3.0 \
             fixed 0.3.1 high",
            "CVE-2031-0004 [ELSA-2031-0042] libexample 1.2 - fixed - medium",
            "CVE-2031-0005 [ELSA-2031-0042] libexample 1.2 - fixed - medium",
            "CVE-2031-0006 [] busybox - - fixed - critical",
        ]
    );
}

#[test]
fn another_cve_is_no_name_of_a_cve() {
    let report = changed(NAME, "\"ELSA-2031-0042\"", "\"CVE-2031-0011\"").unwrap();
    assert_eq!(lines(&report)[1], "CVE-2031-0011 [] libexample 1.2 - fixed - medium");
}

#[test]
fn a_folder_is_no_image() {
    let report = changed(NAME, "\"type\": \"image\"", "\"type\": \"directory\"").unwrap();
    assert!(report.kinds.is_empty());
    let report = changed(NAME, "\"source\"", "\"origin\"").unwrap();
    assert!(report.kinds.is_empty());
}

#[test]
fn flaws_are_refused() {
    refused(&[
        (NAME, "\"matches\": [", "\"matches\": null, \"m\": [", "line 2, column 17: invalid type: null"),
        (NAME, "\"name\": \"grype\"", "\"name\": \"syft\"", "its descriptor does not name Grype"),
        (NAME, "\"descriptor\": {", "\"descriptor\": \"grype\", \"d\": {", "line 56, column "),
        (NAME, "\"timestamp\": \"2026", "\"timestamp\": \"26", "a time is not one of RFC 3339"),
        (NAME, "sha256:4444", "sha256:44", "is not a digest"),
        (NAME, "\"id\": \"CVE-2031-0006\",", "", "missing field `id`"),
        (
            NAME,
            "\"artifact\": { \"name\": \"libexample\", \"version\": \"1.2\" }",
            "\"x\": 1",
            "missing field `artifact`",
        ),
        (NAME, "\"baseScore\": 9.8", "\"baseScore\": \"9.8\"", "line 32, column "),
        (
            NAME,
            "\"id\": \"CVE-2031-0006\"",
            "\"id\": \"CVE-2031-0006\", \"id\": \"CVE-2031-0010\"",
            "duplicate field `id`",
        ),
    ]);
}

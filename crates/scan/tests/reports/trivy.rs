use scan::{Format, Kind};

use crate::{about, changed, lines, read, refused};

const NAME: &str = "trivy.json";

#[test]
fn says_what_was_found() {
    let report = read(NAME);
    assert_eq!(report.format, Format::Trivy);
    assert_eq!(report.kinds, [Kind::Vulnerabilities].into());
    assert_eq!(report.tool.as_ref().map(|tool| tool.raw()), Some("trivy 0.67.2"));
    assert_eq!(report.created.map(|time| time.to_string()).as_deref(), Some("2026-02-03T09:11:12Z"));
    assert_eq!(
        about(&report),
        [
            "sha256:1111",
            "sha256:3333",
            "registry.example/shop/cart:1.4",
            "registry.example/shop/cart@sha256:3333333333333333333333333333333333333333333333333333333333333333",
        ]
    );
    assert_eq!(
        lines(&report),
        [
            "CVE-2031-0001 [] libexample1 1.2-3 pkg:deb/debian/libexample1@1.2-3?arch=amd64 fixed 1.2-4 critical",
            "CVE-2031-0002 [] libexample1 1.2-3 - fixed - unknown",
        ]
    );
}

#[test]
fn a_report_of_something_else_says_nothing_of_vulnerabilities() {
    for (from, to) in
        [("\"container_image\"", "\"filesystem\""), ("\"ArtifactType\"", "\"Kind\""), ("\"Results\"", "\"Nothing\"")]
    {
        assert!(changed(NAME, from, to).unwrap().kinds.is_empty(), "{to}");
    }
    // The result of a scan for secrets alone, and one in which nothing was recognised.
    for results in [r#"[{ "Target": "app", "Class": "secret", "Secrets": [] }]"#, "[]", "null"] {
        let text = format!(
            r#"{{"SchemaVersion": 2, "ArtifactName": "a", "ArtifactType": "container_image", "Results": {results}}}"#
        );
        assert!(scan::Report::read(text.as_bytes()).unwrap().kinds.is_empty(), "{results}");
    }
}

#[test]
fn what_has_none_is_a_report_of_none() {
    let text = r#"{"SchemaVersion": 2, "CreatedAt": "0001-01-01T00:00:00Z", "ArtifactName": "a",
        "ArtifactType": "container_image", "Results": [{ "Target": "a", "Class": "os-pkgs", "Vulnerabilities": null }]}"#;
    let report = scan::Report::read(text.as_bytes()).unwrap();
    assert_eq!((report.kinds, report.created), ([Kind::Vulnerabilities].into(), None));
    assert!(report.findings.is_empty());
}

#[test]
fn flaws_are_refused() {
    refused(&[
        (
            NAME,
            "\"SchemaVersion\": 2",
            "\"SchemaVersion\": 3",
            "it is a report of trivy, but its SchemaVersion is not 2",
        ),
        (NAME, "\"SchemaVersion\": 2", "\"SchemaVersion\": \"2\"", "line 2, column 22: invalid type: string"),
        (NAME, "2026-02-03T10:11:12", "yesterday", "line 4, column "),
        (NAME, "\"sha256:11111", "\"md5:11111", "is not a digest"),
        (NAME, "cart@sha256:33333", "cart@sha256:3333", "is not a digest"),
        (NAME, "\"Class\": \"os-pkgs\"", "\"Class\": 7", "line 18, column "),
        (NAME, "\"VulnerabilityID\": \"CVE-2031-0002\",", "", "line 36, column 9: missing field `VulnerabilityID`"),
        (
            NAME,
            "\"PkgName\": \"libexample1\",\n          \"InstalledVersion\": \"1.2-3\",\n          \"Status\"",
            "\"S\"",
            "missing field",
        ),
        (NAME, "\"Results\"", "\"Results\": [], \"Results\"", "line 15, column "),
        (NAME, "\"Status\": \"affected\"", "\"Severity\": \"LOW\"", "duplicate field `Severity`"),
        (NAME, "\"Vulnerabilities\": [", "\"Vulnerabilities\": [[\"CVE-2031-0003\", \"a\"],", "invalid type: sequence"),
        (NAME, "\"PkgName\": \"libexample1\",\n          \"PkgId", "\"PkgName\": null,\n          \"PkgId", "line 23"),
    ]);
}

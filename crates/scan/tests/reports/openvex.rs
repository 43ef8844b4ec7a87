use scan::{Format, Kind};

use crate::{lines, read, refused};

const NAME: &str = "openvex.json";

#[test]
fn says_what_does_not_affect_whom() {
    let report = read(NAME);
    assert_eq!((report.format, &report.kinds), (Format::OpenVex, &[Kind::Vex].into()));
    assert_eq!(report.tool.as_ref().map(|tool| tool.raw()), Some("vexctl 0.4"));
    assert_eq!(report.created.map(|time| time.to_string()).as_deref(), Some("2026-02-03T09:11:12Z"));
    let (three, four, five) = ("3".repeat(64), "4".repeat(64), "5".repeat(64));
    assert_eq!(
        lines(&report),
        [
            format!(
                "CVE-2031-0001,GHSA-aaaa-bbbb-cccc NotAffected of sha256:{three},\
                 cpe:2.3:a:example:cart:1.4:*:*:*:*:*:*:*,pkg:oci/cart@sha256%3A{three}(pkg:deb/debian/libexample1@1.2-3) \
                 sha256:{four}(sha256:{five}) because vulnerable_code_not_present at 2026-02-01T00:00:00Z"
            ),
            "CVE-2031-0002 NotAffected of pkg:oci/cart() because It is never called. at 2026-02-03T09:11:12Z".into(),
            "CVE-2031-0003 UnderInvestigation of pkg:oci/cart() because - at 2026-02-03T09:11:12Z".into(),
            "CVE-2031-0004 Affected of pkg:oci/cart() because - at 2026-02-03T09:11:12Z".into(),
        ]
    );
}

#[test]
fn flaws_are_refused() {
    refused(&[
        (NAME, ",\n      \"justification\": \"vulnerable_code_not_present\"", "", "says `not_affected` and not why"),
        (
            NAME,
            "\"impact_statement\": \"It is never called.\"",
            "\"impact_statement\": \"\"",
            "says `not_affected` and not why",
        ),
        (NAME, "\"vulnerable_code_not_present\"", "\"trust_me\"", "line 24, column "),
        (NAME, "\"status\": \"under_investigation\"", "\"status\": \"unknown\"", "line 35, column "),
        (NAME, "\"status\": \"under_investigation\"", "\"state\": \"\"", "missing field `status`"),
        (NAME, "\"products\": [\"pkg:oci/cart\"],", "", "one of its statements is about no product"),
        (NAME, "\"products\": [\"pkg:oci/cart\"],", "\"products\": [],", "one of its statements is about no product"),
        (NAME, "\"products\": [\"pkg:oci/cart\"],", "\"products\": [{}],", "has no name"),
        (NAME, "\"name\": \"CVE-2031-0004\"", "\"title\": \"CVE-2031-0004\"", "line 38, column "),
        (NAME, "\"name\": \"CVE-2031-0004\"", "\"name\": \"\"", "has an empty name"),
        (NAME, "\"sha-256\": \"4444", "\"sha-256\": \"44", "is not a digest"),
        (NAME, "[{ \"hashes\": { \"sha-256\": \"555", "[{ \"hash\": { \"sha-256\": \"555", "has no name"),
        (NAME, "\"author\"", "\"writer\"", "missing field `author`"),
        (NAME, "\"@id\": \"https://vex", "\"id\": \"https://vex", "missing field `@id`"),
        (NAME, "\"timestamp\": \"2026-02-03T09:11:12.75Z\",", "", "has no time, nor has the document"),
        (NAME, "\"timestamp\": \"2026-02-03T09", "\"timestamp\": \"2026-02-33T09", "line 5, column "),
        (NAME, "\"statements\": [", "\"statements\": [], \"statements\": [", "duplicate field `statements`"),
        (NAME, "\"statements\": [", "\"statements\": [], \"s\": [", "it has no statement"),
    ]);
}

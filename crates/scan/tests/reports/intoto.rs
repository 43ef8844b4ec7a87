use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use scan::{Format, Kind, Report};

use crate::{about, changed, lines, read, refused, sample};

const PROVENANCE: &str = "intoto-provenance.json";
const VEX: &str = "intoto-openvex.json";
const VULN: &str = "intoto-vuln.json";
const DSSE: &str = "dsse-cyclonedx.json";

fn enveloped(statement: &str) -> String {
    let payload = STANDARD.encode(statement);
    format!(r#"{{"payload": "{payload}", "payloadType": "application/vnd.in-toto+json", "signatures": []}}"#)
}

#[test]
fn provenance_says_how_an_image_was_built() {
    let report = read(PROVENANCE);
    assert_eq!((report.format, &report.kinds), (Format::InToto, &[Kind::Provenance].into()));
    assert_eq!(about(&report), ["sha256:3333", "registry.example/shop/cart"]);
    let other = changed(PROVENANCE, "https://slsa.dev/provenance/v1", "https://slsa.dev/provenances").unwrap();
    assert_eq!((other.format, other.kinds.len()), (Format::InToto, 0));
}

#[test]
fn a_predicate_of_another_format_is_read_as_that() {
    let report = read(VULN);
    assert_eq!((report.format, &report.kinds), (Format::Trivy, &[Kind::Vulnerabilities].into()));
    assert_eq!(report.created.map(|time| time.to_string()).as_deref(), Some("2026-02-03T09:11:12Z"));
    assert_eq!(lines(&report), ["CVE-2031-0001 [] libexample1 - - fixed - high"]);
    let report = read(VEX);
    assert_eq!((report.format, &report.kinds), (Format::OpenVex, &[Kind::Vex].into()));
    let report = read(DSSE);
    assert_eq!((report.format, &report.kinds), (Format::CycloneDx, &[Kind::Sbom].into()));
    for name in ["spdx2.json", "spdx3.json"] {
        let text = with_predicate("https://spdx.dev/Document/v2.3", &sample(name));
        assert_eq!(Report::read(text.as_bytes()).unwrap().kinds, [Kind::Sbom].into());
    }
    let lines = serde_json::to_string(&sample("tag-value.spdx")).unwrap();
    let text = with_predicate("https://spdx.dev/Document", &lines);
    assert_eq!(Report::read(text.as_bytes()).unwrap().format, Format::Spdx);
}

fn with_predicate(predicate_type: &str, predicate: &str) -> String {
    let digest = "3".repeat(64);
    format!(
        r#"{{"_type": "https://in-toto.io/Statement/v1", "subject": [{{"digest": {{"sha256": "{digest}"}}}}],
        "predicateType": "{predicate_type}", "predicate": {predicate}}}"#
    )
}

#[test]
fn a_sigstore_bundle_holds_an_envelope() {
    let bundle = |envelope: &str, more: &str| {
        format!(r#"{{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "dsseEnvelope": {envelope}{more}}}"#)
    };
    let report = Report::read(bundle(&enveloped(&sample(VULN)), "").as_bytes()).unwrap();
    assert_eq!((report.format, report.findings.len()), (Format::Trivy, 1));
    let refused = Report::read(bundle(&enveloped("{"), "").as_bytes()).unwrap_err().to_string();
    assert!(refused.contains("in the payload"), "{refused}");
    for more in [r#", "payload": """#, r#", "_type": "https://in-toto.io/Statement/v1""#] {
        assert!(Report::read(bundle(&enveloped(&sample(VULN)), more).as_bytes()).is_err(), "{more}");
    }
    // One that holds a signature of bytes tells of nothing.
    let signature = r#"{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "messageSignature": {}}"#;
    assert_eq!(Report::read(signature.as_bytes()).unwrap().format, Format::Other);
}

#[test]
fn the_subject_is_what_a_predicate_is_about() {
    // Both predicates name other digests themselves.
    assert_eq!(about(&read(VULN))[0], "sha256:3333");
    assert_eq!(read(VULN).about.digests.len(), 1);
    assert_eq!(about(&read(DSSE))[0], "sha256:4444");
    assert_eq!(read(DSSE).about.digests.len(), 1);
    let digest = "3".repeat(64);
    assert_eq!(
        lines(&read(VEX)),
        [format!(
            "CVE-2031-0001 NotAffected of sha256:{digest}() because component_not_present at 2026-02-03T09:11:12Z"
        )]
    );
}

#[test]
fn an_envelope_is_opened_and_its_signatures_are_not_looked_at() {
    for name in [PROVENANCE, VEX, VULN] {
        let opened = Report::read(enveloped(&sample(name)).as_bytes()).unwrap();
        assert_eq!(opened, read(name));
    }
    let other = r#"{"payload": "", "payloadType": "text/plain", "signatures": []}"#;
    assert_eq!(Report::read(other.as_bytes()).unwrap().format, Format::Other);
}

#[test]
fn flaws_are_refused() {
    refused(&[
        (PROVENANCE, "Statement/v1", "Statement/v9", "it is of a version that is not known"),
        (PROVENANCE, "\"subject\"", "\"about\"", "missing field `subject`"),
        (PROVENANCE, "\"sha256\"", "\"sha1\"", "its subject has no SHA-256 or SHA-512"),
        (PROVENANCE, "\"sha256\": \"3333", "\"sha256\": \"33", "is not a digest"),
        (PROVENANCE, "\"predicate\": {", "\"p\": {", "invalid type: null"),
        (
            PROVENANCE,
            "\"predicateType\"",
            "\"predicateType\": \"\", \"predicateType\"",
            "duplicate field `predicateType`",
        ),
        (VEX, "\"status\": \"not_affected\"", "\"status\": \"never\"", "line 19, column 25: unknown variant"),
        (VEX, "\"author\": \"Example", "\"author\": [\"Example", "line 14, column "),
        (VULN, "\"SchemaVersion\": 2", "\"Schema\": 2", "what its scanner found is not in a format that is known"),
        (VULN, "\"Severity\": \"HIGH\"", "\"Severity\": 3", "line 25, column "),
        (VULN, "\"scanner\": {", "\"scanning\": {", "its predicate has not one scanner"),
        (VULN, "\"result\": {", "\"results\": {", "missing field `result`"),
        (VULN, "attestation/vuln/v1", "attestation/vuln/v1\", \"_type\": \"", "duplicate field `_type`"),
        (DSSE, "\"payload\": \"", "\"payload\": \"!", "its payload is not base64"),
        (DSSE, "\"signatures\"", "\"signs\"", "missing field `signatures`"),
        (
            DSSE,
            "\"payloadType\"",
            "\"_type\": \"https://in-toto.io/Statement/v1\", \"payloadType\"",
            "it is a statement and an envelope",
        ),
    ]);
    let cut = sample(PROVENANCE);
    let refusal = Report::read(enveloped(&cut[..cut.len() - 4]).as_bytes()).unwrap_err().to_string();
    assert!(refusal.contains("in the payload, EOF"), "{refusal}");
    let other = with_predicate("https://cyclonedx.org/bom", &sample("spdx2.json"));
    let refusal = Report::read(other.as_bytes()).unwrap_err().to_string();
    assert!(refusal.contains("its predicate is not of cyclone-dx, as its type says"), "{refusal}");
}

#[test]
fn statements_within_statements_are_not_followed() {
    let mut text = sample(PROVENANCE);
    for _ in 0..2000 {
        text = with_predicate("https://cyclonedx.org/bom", &text);
    }
    assert!(Report::read(text.as_bytes()).is_err());
}

use scan::{Format, Kind, Report};

use crate::{about, changed, lines, read, refused};

const JSON: &str = "cyclonedx.json";
const VEX: &str = "cyclonedx-vex.json";
const XML: &str = "cyclonedx.xml";

#[test]
fn one_document_can_be_three_things() {
    let report = read(JSON);
    assert_eq!(report.format, Format::CycloneDx);
    assert_eq!(report.kinds, [Kind::Vulnerabilities, Kind::Sbom, Kind::Vex].into());
    assert_eq!(report.tool.as_ref().map(|tool| tool.raw()), Some("syft 1.38.0"));
    assert_eq!(about(&report)[..3], ["sha256:1111", "sha256:3333", "sha256:4444"]);
    let product = "sha256:1111111111111111111111111111111111111111111111111111111111111111,\
        sha256:3333333333333333333333333333333333333333333333333333333333333333,\
        sha256:4444444444444444444444444444444444444444444444444444444444444444,\
        pkg:oci/cart@sha256%3A4444444444444444444444444444444444444444444444444444444444444444?arch=amd64";
    assert_eq!(
        lines(&report),
        [
            "CVE-2031-0001 [GHSA-aaaa-bbbb-cccc] libexample1 1.2-3 pkg:deb/debian/libexample1@1.2-3 fixed 1.2-4 critical"
                .to_owned(),
            "CVE-2031-0001 [GHSA-aaaa-bbbb-cccc] wire 0.3.0 - fixed - critical".to_owned(),
            "CVE-2031-0002 [] libexample1 1.2-3 pkg:deb/debian/libexample1@1.2-3 fixed - unknown".to_owned(),
            "CVE-2031-0003 [] registry.example/shop/cart - - fixed - unknown".to_owned(),
            format!(
                "CVE-2031-0002 NotAffected of {product}(pkg:deb/debian/libexample1@1.2-3) \
                 because code_not_reachable at 2026-02-01T00:00:00Z"
            ),
        ]
    );
}

#[test]
fn a_link_to_another_document_is_not_to_a_component_of_this_one() {
    let report = changed(JSON, "urn:cdx:3e671687", "urn:cdx:00000000").unwrap();
    let package = "urn:cdx:00000000-395b-41f5-a30f-a58921a69b79/1#b";
    assert_eq!(lines(&report)[1], format!("CVE-2031-0001 [GHSA-aaaa-bbbb-cccc] {package} - - fixed - critical"));
}

#[test]
fn a_list_of_contents_without_vulnerabilities_is_only_that() {
    let report = changed(JSON, "\"vulnerabilities\"", "\"others\"").unwrap();
    assert_eq!(report.kinds, [Kind::Sbom].into());
    let report = changed(JSON, "\"vulnerabilities\"", "\"vulnerabilities\": [], \"others\"").unwrap();
    assert_eq!(report.kinds, [Kind::Sbom].into());
    let empty = br#"{"bomFormat": "CycloneDX", "specVersion": "1.5", "components": []}"#;
    assert!(Report::read(empty).unwrap().kinds.is_empty());
}

#[test]
fn statements_alone_are_no_report_of_vulnerabilities() {
    let report = read(VEX);
    assert_eq!(report.kinds, [Kind::Vex].into());
    let purl = "pkg:oci/cart@sha256%3A3333333333333333333333333333333333333333333333333333333333333333";
    assert_eq!(
        lines(&report),
        [
            format!(
                "CVE-2031-0001 NotAffected of sha256:{},{purl}() because Another library of that name. \
                 at 2026-02-03T09:11:12Z",
                "3".repeat(64)
            ),
            "CVE-2031-0002 Affected of urn:cdx:3e671687-395b-41f5-a30f-a58921a69b79/1#a() \
             because - at 2026-02-03T09:11:12Z"
                .to_owned(),
        ]
    );
}

#[test]
fn a_link_to_another_document_tells_the_package_it_names() {
    let report = changed(VEX, "/1#a", "/1#pkg:deb/debian/libexample1@1.2-3").unwrap();
    assert!(lines(&report)[1].contains(" of pkg:deb/debian/libexample1@1.2-3() "));
}

#[test]
fn the_form_in_xml_says_the_same() {
    let report = read(XML);
    assert_eq!((report.format, report.kinds.len()), (Format::CycloneDx, 3));
    assert_eq!(report.tool.as_ref().map(|tool| tool.raw()), Some("lister 3"));
    assert_eq!(about(&report), ["sha256:3333", "registry.example/shop/cart"]);
    assert_eq!(
        lines(&report),
        [
            "CVE-2031-0001 [] wire 0.3.0 - fixed - critical".to_owned(),
            "CVE-2031-0002 [] registry.example/shop/cart 1.4 - fixed - unknown".to_owned(),
            format!(
                "CVE-2031-0002 Fixed of sha256:{},registry.example/shop/cart() because - at 2026-02-01T00:00:00Z",
                "3".repeat(64)
            ),
        ]
    );
}

#[test]
fn flaws_are_refused() {
    refused(&[
        (JSON, "\"specVersion\": \"1.6\"", "\"specVersion\": \"2.0\"", "its version is not 1"),
        (JSON, "\"specVersion\": \"1.6\",", "", "missing field `specVersion`"),
        (JSON, "\"components\": [\n    {", "\"components\": {}, \"c\": [\n    {", "line 20, column 16"),
        (JSON, "{ \"id\": \"CVE-2031-0003\" }", "{}", "one of its vulnerabilities has no id"),
        (JSON, "{ \"id\": \"CVE-2031-0003\" }", "7", "line 54, column 5: invalid type: integer"),
        (JSON, "\"not_affected\"", "\"harmless\"", "`harmless` is no state of an analysis"),
        (JSON, "\"score\": 9.8", "\"score\": \"9.8\"", "line 36, column "),
        (JSON, "\"timestamp\": \"2026", "\"timestamp\": \"x", "line 7, column "),
        (JSON, "\"bom-ref\": \"b\", \"type\": \"library\", \"name\": \"wire\",", "", "line 27, column "),
        (JSON, "\"analysis\": {", "\"analysis\": {}, \"analysis\": {", "duplicate field `analysis`"),
        (
            VEX,
            "\"affects\": [{ \"ref\": \"urn",
            "\"affected\": [{ \"ref\": \"urn",
            "its analysis of CVE-2031-0002 is of no component",
        ),
        (XML, "<ref>b</ref>", "", "line 27, column "),
        (XML, "<score>5.0</score>", "<score>five</score>", "the score is not a number"),
        (XML, "<state>resolved</state>", "<state>resolved</state><state>exploitable</state>", "is there twice"),
        (XML, "<state>resolved</state>", "<state>gone</state>", "`gone` is no state"),
        (XML, "<id>CVE-2031-0001</id>", "", "one of its vulnerabilities has no id"),
        (XML, "bom/1.5", "bom/2.0", "its version is not 1"),
        (XML, "<hash alg=\"SHA-256\">3333", "<hash alg=\"SHA-256\">33", "is not a digest"),
    ]);
}

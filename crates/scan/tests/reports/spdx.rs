use scan::{Format, Kind, Report};

use crate::{about, changed, read, refused, sample};

#[test]
fn all_forms_say_the_same() {
    for (name, tool) in [("spdx2.json", "syft-1.38.0"), ("tag-value.spdx", "lister-3"), ("spdx3.json", "lister 3")] {
        let report = read(name);
        assert_eq!((report.format, &report.kinds), (Format::Spdx, &[Kind::Sbom].into()), "{name}");
        assert_eq!(report.tool.as_ref().map(|tool| tool.raw()), Some(tool), "{name}");
        assert_eq!(report.created.map(|time| time.to_string()).as_deref(), Some("2026-02-03T09:11:12Z"), "{name}");
        let about = about(&report);
        assert_eq!(about[..2], ["sha256:3333", "sha256:4444"], "{name}");
        assert!(about.contains(&"registry.example/shop/cart".to_owned()), "{name}: {about:?}");
    }
}

#[test]
fn only_what_is_described_is_the_subject() {
    for (name, from, to) in [
        ("spdx2.json", "\"DESCRIBES\"", "\"CONTAINS\""),
        ("tag-value.spdx", " DESCRIBES ", " CONTAINS "),
        ("spdx3.json", "\"rootElement\": [\"https://sboms.example/image\"]", "\"element\": []"),
    ] {
        let report = changed(name, from, to).unwrap();
        assert!(report.about.digests.is_empty(), "{name}");
    }
    let report = changed("spdx2.json", "\"dataLicense\"", "\"documentDescribes\": [\"SPDXRef-Base\"], \"dataLicense\"");
    assert_eq!(about(&report.unwrap())[..3], ["sha256:3333", "sha256:4444", "sha256:5555"]);
}

#[test]
fn a_document_without_packages_lists_nothing() {
    let report = changed("spdx2.json", "\"packages\"", "\"parcels\"").unwrap();
    assert!(report.kinds.is_empty());
}

#[test]
fn flaws_are_refused() {
    const JSON: &str = "spdx2.json";
    const LINES: &str = "tag-value.spdx";
    const GRAPH: &str = "spdx3.json";
    refused(&[
        (JSON, "\"SPDX-2.3\"", "\"SPDX-4.0\"", "its version is not 2"),
        (JSON, "\"creationInfo\"", "\"creation\"", "missing field `creationInfo`"),
        (JSON, "\"created\": \"2026-02-03T09:11:12Z\",", "", "it has no time of creation"),
        (JSON, "\"created\": \"2026", "\"created\": \"26", "line 8, column "),
        (JSON, "\"SPDXID\": \"SPDXRef-Package-1\",", "", "line 33, column "),
        (JSON, "\"checksumValue\": \"3333", "\"checksumValue\": \"33", "is not a digest"),
        (JSON, "\"packages\"", "\"packages\": [], \"packages\"", "duplicate field `packages`"),
        (JSON, "\"dataLicense\"", "\"@graph\": [], \"dataLicense\"", "it is of version 2 and of version 3"),
        (LINES, "SPDXVersion: SPDX-2.3", "SPDXVersion: SPDX-3.0", "its version is not 2"),
        (LINES, "\n</text>", "", "line 9, column 1: the text has no end"),
        (LINES, "PackageVersion: 1.2-3", "PackageVersion 1.2-3", "line 23, column 1: the line is not `Tag: value`"),
        (LINES, "Created: 2026-02-03T09:11:12Z\n", "", "it has no time of creation"),
        (LINES, "Creator:", "Created: 2026-02-04T09:11:12Z\nCreator:", "line 9, column 1: `Created` is there twice"),
        (LINES, "SHA256: 3333", "SHA256: 33", "line 18, column 1: a checksum"),
        (LINES, "DESCRIBES SPDXRef-Image", "DESCRIBES", "line 26, column 1: a relationship"),
        (GRAPH, "\"@graph\"", "\"graph\"", "it has no @graph"),
        (GRAPH, "\"type\": \"SpdxDocument\"", "\"type\": \"Document\"", "its @graph has not one SpdxDocument"),
        (GRAPH, "\"created\": \"2026-02-03T09:11:12Z\", ", "", "it has no time of creation"),
        (GRAPH, "{ \"type\": \"Relationship\",", "{", "line 24, column "),
        (GRAPH, "\"hashValue\": \"3333", "\"hashValue\": \"33", "is not a digest"),
    ]);
}

#[test]
fn lines_that_were_cut_off_never_say_more() {
    let text = sample("tag-value.spdx");
    let whole = read("tag-value.spdx");
    for end in 0..text.len() {
        if let Ok(report) = Report::read(&text.as_bytes()[..end]) {
            assert!(report.kinds.is_subset(&whole.kinds), "{end}");
            assert!(report.about.digests.is_subset(&whole.about.digests), "{end}");
        }
    }
}

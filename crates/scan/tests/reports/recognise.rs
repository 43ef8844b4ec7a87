use scan::{Format, ReadError, Report};

use crate::{changed, sample, samples};

fn format(bytes: &[u8]) -> Format {
    Report::read(bytes).unwrap().format
}

#[test]
fn what_is_not_known_says_nothing() {
    for text in [
        "",
        " \n",
        "hello",
        "42",
        "\"text\"",
        "{}",
        "[]",
        "[{\"SchemaVersion\": 2}]",
        "{\"result\": \"pass\"}",
        "\u{1f}\u{8b}",
    ] {
        let report = Report::read(text.as_bytes()).unwrap();
        assert_eq!(report.format, Format::Other, "{text}");
        assert!(report.kinds.is_empty());
    }
    assert_eq!(format(b"\x1f\x8b\x08\xff\xfe"), Format::Other);
}

#[test]
fn a_byte_order_mark_and_space_change_nothing() {
    for name in samples() {
        let text = sample(&name);
        let plain = Report::read(text.as_bytes()).unwrap();
        assert_eq!(Report::read(format!("\u{feff}{text}").as_bytes()).unwrap(), plain, "{name}");
        assert_eq!(Report::read(format!("{text}\n\n").as_bytes()).unwrap(), plain, "{name}");
    }
}

#[test]
fn other_encodings_are_refused() {
    let wide = |text: &str, to: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(to).collect::<Vec<u8>>();
    for text in ["\u{feff}{}", "{\"matches\": []}", "<a/>"] {
        for bytes in [wide(text, u16::to_le_bytes), wide(text, u16::to_be_bytes)] {
            let refusal = Report::read(&bytes).unwrap_err().to_string();
            assert!(refusal.contains("UTF-16"), "{refusal}");
        }
    }
    let refusal = Report::read(b"{\n  \"a\": \"\xe9\"}").unwrap_err();
    assert!(matches!(refusal, ReadError::Malformed { line: 2, column: 9, .. }), "{refusal}");
}

#[test]
fn broken_json_is_refused_with_its_place() {
    for (text, line, column) in [("{", 1, 1), ("{\"a\": 1,\n \"b\": }", 2, 7), ("{} {}", 1, 4), ("{\"a\": 01}", 1, 8)] {
        match Report::read(text.as_bytes()) {
            Err(ReadError::Malformed { line: l, column: c, .. }) => assert_eq!((l, c), (line, column), "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    // No known format is a list: it may as well be a log that begins with a time in brackets.
    assert_eq!(Report::read(b"[2026-11-26] clean").expect("a text").format, Format::Other);
    let deep = "{\"matches\": ".to_owned() + &"[".repeat(100_000);
    assert!(Report::read(deep.as_bytes()).is_err());
}

#[test]
fn what_is_found_is_bounded() {
    let some = |count: usize| format!("[{}]", vec![r#"{"VulnerabilityID": "a", "PkgName": "b"}"#; count].join(","));
    let report = |lists: &[usize]| {
        let results: Vec<String> = lists
            .iter()
            .map(|count| format!(r#"{{"Class": "os-pkgs", "Vulnerabilities": {}}}"#, some(*count)))
            .collect();
        let results = results.join(",");
        Report::read(format!(r#"{{"SchemaVersion": 2, "ArtifactName": "a", "Results": [{results}]}}"#).as_bytes())
    };
    assert_eq!(report(&[200_000]).unwrap().findings.len(), 200_000);
    for lists in [&[200_001][..], &[100_000, 100_001]] {
        assert_eq!(report(lists).unwrap_err(), ReadError::TooMany { limit: 200_000 });
    }
}

#[test]
fn a_name_is_not_repeated_without_end() {
    let references: Vec<String> = (0..3000).map(|n| format!(r#"{{"id": "{n}-{}"}}"#, "x".repeat(300))).collect();
    let affects: Vec<String> = (0..3000).map(|n| format!(r#"{{"ref": "{n}"}}"#)).collect();
    let text = format!(
        r#"{{"bomFormat": "CycloneDX", "specVersion": "1.6", "vulnerabilities": [
            {{"id": "a", "references": [{}], "affects": [{}]}}]}}"#,
        references.join(","),
        affects.join(",")
    );
    assert!(matches!(Report::read(text.as_bytes()), Err(ReadError::TooMany { .. })));
}

#[test]
fn marks_of_two_formats_are_refused() {
    let refusal = changed("trivy.json", "\"SchemaVersion\"", "\"matches\": [], \"descriptor\": {}, \"SchemaVersion\"");
    let refusal = refusal.unwrap_err().to_string();
    assert_eq!(refusal, "it is a report of trivy, but it has the marks of grype as well");
    let refusal = changed("trivy.json", "\"SchemaVersion\"", "\"SchemaVersion\": 1, \"SchemaVersion\"");
    assert!(refusal.unwrap_err().to_string().contains("duplicate field `SchemaVersion`"));
}

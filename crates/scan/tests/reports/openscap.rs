use scan::{Format, Kind, Report};

use crate::{about, changed, lines, read, refused, sample};

const XCCDF: &str = "xccdf.xml";
const ARF: &str = "arf.xml";

#[test]
fn results_say_which_rules_are_not_kept() {
    let report = read(XCCDF);
    assert_eq!((report.format, &report.kinds), (Format::Xccdf, &[Kind::Compliance].into()));
    assert_eq!(report.tool.as_ref().map(|tool| tool.raw()), Some("OpenSCAP 1.3.10"));
    assert_eq!(report.created.map(|time| time.to_string()).as_deref(), Some("2026-02-03T09:11:12Z"));
    assert_eq!(about(&report)[0], "sha256:3333");
    assert_eq!(
        lines(&report),
        ["xccdf_example_rule_shadow high", "xccdf_example_rule_probe low", "xccdf_example_rule_odd unknown"]
    );
}

#[test]
fn an_envelope_is_opened() {
    let report = read(ARF);
    assert_eq!((report.format, &report.kinds), (Format::Arf, &[Kind::Compliance].into()));
    assert_eq!(report.created.map(|time| time.to_string()).as_deref(), Some("2026-02-03T10:11:12Z"));
    assert_eq!(about(&report)[..2], ["sha256:1111", "localhost/cart:1"]);
    assert_eq!(about(&report)[3], "registry.example/shop/cart:1.4");
    assert_eq!(lines(&report), ["xccdf_example_rule_owner medium"]);
    let report = changed(ARF, "fact:identifier", "fact:other").unwrap();
    assert!(about(&report).is_empty());
}

#[test]
fn of_two_evaluations_the_older_time_and_all_rules_count() {
    let text = sample(XCCDF);
    let (start, end) = (text.find("  <TestResult").unwrap(), text.find("</Benchmark>").unwrap());
    let older = text[start..end].replace("T10:11:12", "T08:11:12").replace("rule_shadow", "rule_other");
    let report = Report::read(text.replace("</Benchmark>", &format!("{older}</Benchmark>")).as_bytes()).unwrap();
    assert_eq!(report.created.map(|time| time.to_string()).as_deref(), Some("2026-02-03T07:11:12Z"));
    assert_eq!(report.failed.len(), 6);
}

#[test]
fn flaws_are_refused() {
    refused(&[
        (XCCDF, "<result>error</result>", "<result>fine</result>", "line 19, column "),
        (XCCDF, "<result>error</result>", "", "line 19, column 80: a rule-result has no result"),
        (
            XCCDF,
            "<result>error</result>",
            "<result>pass</result><result>fail</result>",
            "a rule-result has two results",
        ),
        (XCCDF, "<rule-result idref=\"xccdf_example_rule_odd\">", "<rule-result>", "a rule-result has no idref"),
        (XCCDF, "end-time=\"2026-02-03T10:11:12+01:00\"", "", "the TestResult has no end-time"),
        (XCCDF, "end-time=\"2026-02-03T10:11:12+01:00\"", "end-time=\"soon\"", "the end-time is not a time"),
        (XCCDF, "end-time=\"2026-02-03T10:11:12+01:00\"", "start-time=\"\"", "line 7, column "),
        (XCCDF, "<target-facts>", "<target-facts", "line "),
        (XCCDF, "</target-facts>", "", "line 24, column "),
        (XCCDF, "&amp;", "&nbsp;", "the entity `nbsp` is not defined"),
        (XCCDF, "<Benchmark ", "<!DOCTYPE x [<!ENTITY a \"b\">]><Benchmark ", "line 2, column "),
        (XCCDF, "</Benchmark>", "</Benchmark><a/>", "there is a second outermost element"),
        (XCCDF, "</Benchmark>", "</Benchmark>text", "there is text outside of elements"),
        (XCCDF, "encoding=\"UTF-8\"", "encoding=\"UTF-16\"", "its encoding is not UTF-8"),
        (XCCDF, "<status date", "<status date=\"\" date", "line 3, column "),
        (XCCDF, "<status date", "<y:status date", "nothing is bound to `y:`"),
        (ARF, "<arf:reports>", "<arf:reports xmlns:arf=\"urn:other\">", "it has no TestResult"),
        (ARF, "<x:result>fail</x:result>", "<result>fail</result>", "a rule-result has no result"),
    ]);
}

#[test]
fn an_evaluation_of_nothing_is_refused() {
    let text = ["fail", "pass", "error", " unknown "]
        .iter()
        .fold(sample(XCCDF), |text, word| text.replace(&format!("<result>{word}<"), "<result>notapplicable<"));
    let refusal = Report::read(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(refusal, "it is a report of xccdf, but none of its rules was evaluated");
    assert!(changed(XCCDF, "<result>fail</result>", "<result>notselected</result>").is_ok());
}

#[test]
fn text_may_be_written_in_every_way() {
    for text in ["<![CDATA[fail]]>", "fa<!-- x -->il", "&#102;ail", "\n  fail <?x?>\n"] {
        let report = changed(XCCDF, "<result>fail</result>", &format!("<result>{text}</result>")).unwrap();
        assert_eq!(report.failed.len(), 3, "{text}");
    }
}

#[test]
fn depth_is_bounded() {
    let deep = |levels: usize| format!("{}{}", "<a>".repeat(levels), "</a>".repeat(levels));
    assert_eq!(Report::read(deep(64).as_bytes()).unwrap().format, Format::Other);
    let refusal = Report::read(deep(65).as_bytes()).unwrap_err().to_string();
    assert!(refusal.contains("more than 64 elements"), "{refusal}");
    assert!(Report::read("<a>".repeat(1_000_000).as_bytes()).is_err());
}

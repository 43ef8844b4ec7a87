use super::*;
use crate::report::{Format, Product};

const NOW: &str = "2026-11-26T12:00:00Z";

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn at() -> Dated {
    Dated { now: time(NOW), tolerance: 300 }
}

fn digest(byte: u8) -> Digest {
    Digest::Sha256([byte; 32])
}

fn text(text: &str) -> OutsideText {
    OutsideText::new(text)
}

const INDEX: u8 = 1;
const AMD64: u8 = 2;
const ARM64: u8 = 3;

/// An index of two platforms with configurations, and what a builder adds to vouch for one of them.
fn image() -> ImageFacts {
    let platform = |manifest, config, name: &str| PlatformFacts {
        digest: digest(manifest),
        config: Some(digest(config)),
        platform: Some(name.parse().expect("a platform")),
        may_run: manifest != 4,
    };
    ImageFacts {
        names: vec!["registry.dev.example/payments/api".parse().expect("a repository")],
        digest: digest(INDEX),
        platforms: vec![
            platform(AMD64, 12, "linux/amd64"),
            platform(ARM64, 13, "linux/arm64"),
            platform(4, 14, "unknown/unknown"),
        ],
    }
}

fn rules(yaml_as_json: &str) -> Rules {
    serde_json::from_str(yaml_as_json).expect("rules")
}

fn finding(id: &str, severity: Severity) -> Finding {
    Finding {
        id: text(id),
        aliases: BTreeSet::new(),
        package: text("openssl"),
        version: Some(text("3.0.1")),
        purl: Some(text("pkg:deb/debian/openssl@3.0.1?arch=amd64")),
        fixed: Some(text("3.0.2")),
        severity,
    }
}

fn report(findings: Vec<Finding>) -> Report {
    Report {
        created: Some(time("2026-11-25T12:00:00Z")),
        findings,
        ..Report::new(Format::Trivy, [Kind::Vulnerabilities])
    }
}

fn attached(rules: &Rules, subject: u8, report: Report) -> Carried {
    Carried::new(rules, digest(subject), digest(99), Some(text("trivy.json")), None, report)
}

fn judge(rules: &Rules, reports: Vec<(u8, Report)>) -> Verdict {
    let carried: Vec<_> = reports.into_iter().map(|(subject, report)| attached(rules, subject, report)).collect();
    rules.judge(&image(), &carried, &Vec::new(), at())
}

fn why(verdict: &Verdict) -> Vec<String> {
    verdict.reasons.iter().map(ToString::to_string).collect()
}

#[test]
fn without_rules_everything_passes_but_what_a_program_itself_stops() {
    let nothing = Rules::default();
    assert!(judge(&nothing, vec![]).is_accepted());
    assert!(judge(&nothing, vec![(INDEX, report(vec![finding("CVE-1", Severity::Critical)]))]).is_accepted());
    let failed = |enforced| Report {
        failed: vec![FailedCheck { name: text("no latest tag"), severity: Severity::Low, enforced }],
        ..Report::new(Format::RoxctlCheck, [Kind::Policy])
    };
    assert!(judge(&nothing, vec![(INDEX, failed(false))]).is_accepted());
    let refused = judge(&nothing, vec![(INDEX, failed(true))]);
    assert_eq!(why(&refused), ["1 rule is not kept that must stop a release: no latest tag"]);
    assert!(judge(&rules(r#"{"ignore_enforced":true}"#), vec![(INDEX, failed(true))]).is_accepted());
    let excepted = r#"{"exceptions":[{"id":"no latest tag","expires":"2026-12-31","reason":"r"}]}"#;
    assert!(judge(&rules(excepted), vec![(INDEX, failed(true))]).is_accepted());
    let of_a_package = excepted.replace(r#""id""#, r#""package":"x","id""#);
    assert!(!judge(&rules(&of_a_package), vec![(INDEX, failed(true))]).is_accepted());
}

#[test]
fn what_is_required_must_be_there_for_each_platform() {
    let one = rules(r#"{"required":["trivy"]}"#);
    assert_eq!(
        why(&judge(&one, vec![])),
        ["no report of format trivy for linux/amd64", "no report of format trivy for linux/arm64"]
    );
    assert!(judge(&one, vec![(INDEX, report(vec![]))]).is_accepted());
    assert_eq!(why(&judge(&one, vec![(AMD64, report(vec![]))])), ["no report of format trivy for linux/arm64"]);
    assert!(judge(&one, vec![(AMD64, report(vec![])), (ARM64, report(vec![]))]).is_accepted());
    let any = rules(r#"{"required":["trivy"],"platforms":"any"}"#);
    assert!(judge(&any, vec![(AMD64, report(vec![]))]).is_accepted());
    assert_eq!(why(&judge(&any, vec![])), ["no report of format trivy"]);
    let kind = rules(r#"{"required":["vulnerabilities","sbom"],"platforms":"any"}"#);
    assert_eq!(why(&judge(&kind, vec![(INDEX, report(vec![]))])), ["no report of sbom"]);
    let grype = Report { format: Format::Grype, ..report(vec![]) };
    assert!(!judge(&one, vec![(INDEX, grype)]).is_accepted(), "another format is not the one");
}

#[test]
fn what_an_index_calls_a_platform_exempts_nothing() {
    let limit = rules(r#"{"required":["trivy"]}"#);
    let mut image = image();
    image.platforms[2].may_run = true;
    let reports = [AMD64, ARM64].map(|subject| attached(&limit, subject, report(vec![])));
    let verdict = limit.judge(&image, &reports, &Vec::new(), at());
    assert_eq!(why(&verdict), ["no report of format trivy for unknown/unknown"]);
}

#[test]
fn an_image_without_image_manifests_lacks_what_is_required() {
    let empty = ImageFacts { platforms: vec![], ..image() };
    for rules in [rules(r#"{"required":["sbom"]}"#), rules(r#"{"required":["sbom"],"platforms":"any"}"#)] {
        let sbom = attached(&rules, INDEX, Report::new(Format::Spdx, [Kind::Sbom]));
        assert!(!rules.judge(&empty, &[sbom], &Vec::new(), at()).is_accepted());
    }
}

#[test]
fn a_limit_needs_what_it_counts() {
    assert_eq!(
        why(&judge(&rules(r#"{"max":{"critical":0},"platforms":"any"}"#), vec![])),
        ["no report of vulnerabilities"]
    );
    let failed = rules(r#"{"max_failed":{"high":0},"platforms":"any"}"#);
    assert_eq!(why(&judge(&failed, vec![])), ["no report of policy"]);
    for kind in [Kind::Policy, Kind::Compliance] {
        let kept = Report { created: Some(time(NOW)), ..Report::new(Format::Xccdf, [kind]) };
        assert!(judge(&failed, vec![(INDEX, kept)]).is_accepted(), "{kind}");
    }
}

#[test]
fn a_report_of_another_image_does_not_count() {
    let rules = rules(r#"{"required":["trivy"]}"#);
    let naming = |digests: &[u8]| {
        let about = crate::About { digests: digests.iter().map(|d| digest(*d)).collect(), ..Default::default() };
        Report { about, ..report(vec![]) }
    };
    let verdict = judge(&rules, vec![(INDEX, naming(&[50]))]);
    assert_eq!(verdict.reports[0].unused, Some(Unused::OfAnother));
    assert!(
        why(&verdict)[0].contains("(trivy of 2026-11-25T12:00:00Z: it names another image's digest)"),
        "{verdict:?}"
    );
    assert!(judge(&rules, vec![(INDEX, naming(&[INDEX]))]).is_accepted());
    assert!(judge(&rules, vec![(INDEX, naming(&[INDEX, 50]))]).is_accepted(), "one of the names is enough");
    // It was made of one platform, whatever it is attached to: by the manifest's digest, or the configuration's.
    for named in [AMD64, 12] {
        assert_eq!(
            why(&judge(&rules, vec![(INDEX, naming(&[INDEX, named]))])),
            ["no report of format trivy for linux/arm64"]
        );
    }
    assert!(judge(&rules, vec![(INDEX, naming(&[12])), (INDEX, naming(&[ARM64]))]).is_accepted());
    // Attached to one platform, of the other.
    let verdict = judge(&rules, vec![(ARM64, naming(&[AMD64]))]);
    assert_eq!(verdict.reports[0].unused, Some(Unused::OfAnother));
    let verdict = judge(&rules, vec![(77, report(vec![]))]);
    assert_eq!(verdict.reports[0].unused, Some(Unused::Elsewhere));
}

#[test]
fn what_does_not_count_neither_accuses_nor_excuses() {
    let limit = rules(r#"{"max":{"low":0},"vex":"carried"}"#);
    let of_another = |report: Report| Report {
        about: crate::About { digests: [digest(50)].into(), ..Default::default() },
        ..report
    };
    let critical = || report(vec![finding("CVE-1", Severity::Critical)]);
    let clean = judge(&limit, vec![(INDEX, report(vec![])), (INDEX, of_another(critical()))]);
    assert!(clean.is_accepted() && clean.findings.is_empty());
    let vex = Report {
        statements: vec![says(Status::NotAffected, "pkg:deb/debian/openssl", &[], None)],
        ..Report::new(Format::OpenVex, [Kind::Vex])
    };
    assert!(judge(&limit, vec![(INDEX, critical()), (INDEX, vex.clone())]).is_accepted());
    assert!(!judge(&limit, vec![(INDEX, critical()), (INDEX, of_another(vex))]).is_accepted());
}

#[test]
fn what_cannot_be_read_does_not_count() {
    let rules = rules(r#"{"required":["sbom"]}"#);
    assert!(Carried::read(&rules, digest(INDEX), digest(9), None, None, b"a chart").is_none());
    let cut = Carried::read(&rules, digest(INDEX), digest(9), None, None, br#"{"a":"#).expect("something broken");
    let verdict = rules.judge(&image(), &[cut], &Vec::new(), at());
    assert!(matches!(verdict.reports[0].unused, Some(Unused::Unreadable { .. })), "{verdict:?}");
    assert!(why(&verdict)[0].contains("it cannot be read: line 1"), "{verdict:?}");
}

#[test]
fn reports_grow_old() {
    let rules = rules(r#"{"max":{"critical":0},"max_age":"2d"}"#);
    let made = |created: Option<&str>, dated: Option<&str>| {
        let report = Report { created: created.map(time), ..report(vec![]) };
        let carried = Carried::new(&rules, digest(INDEX), digest(99), None, dated.map(time), report);
        rules.judge(&image(), &[carried], &Vec::new(), at())
    };
    let unused = |verdict: Verdict| {
        assert_eq!(verdict.is_accepted(), verdict.reports[0].unused.is_none());
        verdict.reports[0].unused.clone()
    };
    assert_eq!(unused(made(Some("2026-11-24T12:00:00Z"), None)), None);
    let too_old = Some(Unused::TooOld { limit: "2d".into() });
    assert_eq!(unused(made(Some("2026-11-24T11:59:59Z"), None)), too_old);
    // What the report says of itself decides; without, what is said of it.
    assert_eq!(unused(made(Some("2026-11-24T11:59:59Z"), Some(NOW))), too_old);
    assert_eq!(unused(made(None, Some(NOW))), None);
    assert_eq!(unused(made(None, Some("2026-11-24T11:59:59Z"))), too_old);
    assert_eq!(unused(made(None, None)), Some(Unused::Undated));
    assert_eq!(unused(made(Some("2026-11-26T12:05:00Z"), None)), None);
    assert_eq!(unused(made(Some("2026-11-26T12:05:01Z"), None)), Some(Unused::Future));
    // A list of contents does not grow old.
    let sbom = self::rules(r#"{"required":["sbom"],"max_age":"2d"}"#);
    let old = Report { created: Some(time("2020-01-01T00:00:00Z")), ..Report::new(Format::Spdx, [Kind::Sbom]) };
    assert!(judge(&sbom, vec![(INDEX, old)]).is_accepted());
}

#[test]
fn limits_count_what_is_as_bad_or_worse_once() {
    let found = |list: &[(&str, Severity)]| report(list.iter().map(|(id, s)| finding(id, *s)).collect());
    let limit = rules(r#"{"max":{"critical":0,"medium":2}}"#);
    let some = [("CVE-1", Severity::High), ("CVE-2", Severity::Medium), ("CVE-3", Severity::Low)];
    assert!(judge(&limit, vec![(INDEX, found(&some))]).is_accepted());
    let one_more = [&some[..], &[("CVE-4", Severity::Medium)]].concat();
    let verdict = judge(&limit, vec![(INDEX, found(&one_more))]);
    assert_eq!(
        why(&verdict),
        [
            "3 vulnerabilities of severity medium or worse, allowed 2: CVE-1 in openssl, CVE-2 in openssl, CVE-4 in openssl"
        ]
    );
    assert_eq!(verdict.reports[0].findings[&Severity::Low], 1, "the row has what no rule asks for, too");
    let critical = judge(&limit, vec![(INDEX, found(&[("CVE-9", Severity::Critical)]))]);
    assert_eq!(why(&critical), ["1 vulnerability of severity critical, allowed 0: CVE-9 in openssl"]);
    // Two reports of the same, one of which is harder on it, and calls it otherwise.
    let aliased = Finding { aliases: [text("CVE-2")].into(), ..finding("GHSA-2", Severity::High) };
    let both = judge(&limit, vec![(INDEX, found(&some)), (INDEX, report(vec![aliased]))]);
    assert!(both.is_accepted());
    assert_eq!(both.findings, Counts::from([(Severity::High, 2)]));
    // The unknown is not on the scale.
    let unknown = found(&[("CVE-1", Severity::Unknown)]);
    assert!(judge(&rules(r#"{"max":{"negligible":0}}"#), vec![(INDEX, unknown.clone())]).is_accepted());
    assert!(!judge(&rules(r#"{"max":{"unknown":0}}"#), vec![(INDEX, unknown)]).is_accepted());
    assert!(judge(&rules(r#"{"max":{"unknown":0}}"#), vec![(INDEX, found(&some))]).is_accepted());
    // What cannot be repaired.
    let fixed = rules(r#"{"max":{"low":0},"only_fixed":true}"#);
    let unfixed = Finding { fixed: None, ..finding("CVE-1", Severity::Critical) };
    assert!(judge(&fixed, vec![(INDEX, report(vec![unfixed]))]).is_accepted());
    assert!(!judge(&fixed, vec![(INDEX, found(&some))]).is_accepted());
    // Who does not say that there is no fix may just not tell.
    let unfixed = Finding { fixed: None, ..finding("CVE-1", Severity::Critical) };
    let silent = Report { format: Format::CycloneDx, ..report(vec![unfixed]) };
    assert!(!judge(&fixed, vec![(INDEX, silent)]).is_accepted());
}

#[test]
fn rules_that_are_not_kept_have_limits_too() {
    let failed = |severity| Report {
        created: Some(time(NOW)),
        failed: vec![FailedCheck { name: text("root user"), severity, enforced: false }],
        ..Report::new(Format::Xccdf, [Kind::Compliance])
    };
    let limit = rules(r#"{"max_failed":{"medium":0}}"#);
    assert!(judge(&limit, vec![(INDEX, failed(Severity::Low))]).is_accepted());
    let enforced = Report {
        failed: vec![FailedCheck { name: text("root user"), severity: Severity::Low, enforced: true }],
        ..failed(Severity::Low)
    };
    for reports in [vec![failed(Severity::Low), enforced.clone()], vec![enforced, failed(Severity::Low)]] {
        let reports = reports.into_iter().map(|report| (INDEX, report)).collect();
        assert!(!judge(&Rules::default(), reports).is_accepted(), "one of them stops it");
    }
    // The same rule twice is counted once, by what is worse.
    let both = judge(&limit, vec![(INDEX, failed(Severity::High)), (INDEX, failed(Severity::Low))]);
    assert_eq!(why(&both), ["1 rule of severity medium or worse is not kept, allowed 0: root user"]);
    assert_eq!(both.failed, Counts::from([(Severity::High, 1)]));
}

#[test]
fn exceptions_end() {
    let found = || vec![(INDEX, report(vec![finding("CVE-1", Severity::Critical)]))];
    let with = |members: &str| {
        let text = format!(r#"{{"max":{{"low":0}},"exceptions":[{{"reason":"behind a proxy",{members}}}]}}"#);
        judge(&rules(&text), found())
    };
    let excused = with(r#""id":"CVE-1","expires":"2026-11-26""#);
    assert!(excused.is_accepted());
    assert_eq!(excused.excused[0].by.to_string(), "exception until 2026-11-27T00:00:00Z: behind a proxy");
    assert!(excused.findings.is_empty());
    let over = with(r#""id":"CVE-1","expires":"2026-11-25""#);
    assert_eq!(why(&over)[1], "the exception for CVE-1 counts no more since 2026-11-26T00:00:00Z");
    assert!(!with(r#""id":"CVE-2","expires":"2027-01-01""#).is_accepted());
    assert!(with(r#""id":"CVE-1","package":"openssl","expires":"2027-01-01""#).is_accepted());
    assert!(!with(r#""id":"CVE-1","package":"bash","expires":"2027-01-01""#).is_accepted());
    assert!(with(r#""id":"CVE-1","images":["registry.dev.example/payments"],"expires":"2027-01-01""#).is_accepted());
    assert!(!with(r#""id":"CVE-1","images":["registry.dev.example/pay"],"expires":"2027-01-01""#).is_accepted());
    // By another of its names.
    let aliased = Finding { aliases: [text("CVE-1")].into(), ..finding("GHSA-1", Severity::High) };
    let limit = r#"{"max":{"low":0},"exceptions":[{"id":"GHSA-1","expires":"2027-01-01","reason":"r"}]}"#;
    assert!(judge(&rules(limit), vec![(INDEX, report(vec![aliased]))]).is_accepted());
}

fn says(status: Status, product: &str, parts: &[&str], at: Option<&str>) -> Statement {
    Statement {
        vulnerability: [text("CVE-1")].into(),
        products: vec![Product {
            digests: BTreeSet::new(),
            ids: [text(product)].into(),
            parts: parts.iter().map(|part| text(part)).collect(),
        }],
        status,
        justification: Some(text("vulnerable_code_not_present")),
        at: at.map(time),
    }
}

#[test]
fn own_statements_count_and_carried_ones_if_it_is_said() {
    let own = rules(r#"{"max":{"low":0}}"#);
    let carried = rules(r#"{"max":{"low":0},"vex":"carried"}"#);
    let not_affected = || says(Status::NotAffected, "pkg:deb/debian/openssl", &[], None);
    let vex =
        |statement: Statement| Report { statements: vec![statement], ..Report::new(Format::OpenVex, [Kind::Vex]) };
    let verdict = |rules: &Rules, brought: Option<Statement>, of_site: Option<Statement>| {
        let mut reports = vec![attached(rules, INDEX, report(vec![finding("CVE-1", Severity::High)]))];
        reports.extend(brought.map(|s| attached(rules, INDEX, vex(s))));
        let own: OwnVex = of_site.map(|s| (digest(98), vec![s])).into_iter().collect();
        rules.judge(&image(), &reports, &own, at())
    };
    assert!(!verdict(&own, None, None).is_accepted());
    assert!(!verdict(&own, Some(not_affected()), None).is_accepted());
    let brought = verdict(&carried, Some(not_affected()), None);
    assert!(brought.is_accepted());
    assert_eq!(
        brought.excused[0].by.to_string(),
        format!("VEX that came with it ({}): vulnerable_code_not_present", digest(99))
    );
    // That it is there can be asked for without believing it.
    let there = rules(r#"{"required":["vex"]}"#);
    assert!(judge(&there, vec![(INDEX, vex(not_affected()))]).is_accepted());
    assert!(!judge(&there, vec![]).is_accepted());
    let of_site = verdict(&own, None, Some(not_affected()));
    assert!(of_site.is_accepted());
    assert_eq!(
        of_site.excused[0].by.to_string(),
        format!("VEX of this site ({}): vulnerable_code_not_present", digest(98))
    );
    // This site knows better, however old its word is.
    let affected = || says(Status::Affected, "pkg:deb/debian/openssl", &[], Some("2020-01-01T00:00:00Z"));
    let later = says(Status::NotAffected, "pkg:deb/debian/openssl", &[], Some(NOW));
    assert!(!verdict(&carried, Some(later), Some(affected())).is_accepted());
}

#[test]
fn a_statement_is_about_a_package_or_the_image_or_a_part_of_it() {
    let limit = rules(r#"{"max":{"low":0}}"#);
    let excuses = |statements: Vec<Statement>| {
        let reports = [attached(&limit, INDEX, report(vec![finding("CVE-1", Severity::High)]))];
        limit.judge(&image(), &reports, &vec![(digest(98), statements)], at()).is_accepted()
    };
    let not = |product: &str, parts: &[&str]| excuses(vec![says(Status::NotAffected, product, parts, None)]);
    for package in [
        "pkg:deb/debian/openssl",
        "pkg:deb/debian/openssl@3.0.1",
        "pkg:deb/debian/openssl@3.0.1?arch=amd64",
        "pkg:deb/debian/openssl?arch=amd64",
    ] {
        assert!(not(package, &[]), "{package}");
    }
    for other in [
        "pkg:deb/debian/bash",
        "pkg:deb/ubuntu/openssl",
        "pkg:rpm/debian/openssl",
        "pkg:deb/debian/openssl@3.0.2",
        "pkg:deb/debian/openssl@3.0.1?arch=arm64",
        "openssl",
        "",
    ] {
        assert!(!not(other, &[]), "{other}");
    }
    let oci = |byte: u8| format!("pkg:oci/api@{}", digest(byte).to_string().replace(':', "%3A"));
    for known in [INDEX, AMD64, 12] {
        assert!(not(&oci(known), &[]), "{known}");
        assert!(not(&oci(known), &["pkg:deb/debian/openssl"]), "{known}");
        assert!(!not(&oci(known), &["pkg:deb/debian/bash"]), "{known}");
    }
    assert!(!not(&oci(INDEX).replace("pkg:oci", "pkg:generic"), &[]));
    assert!(!not(&oci(50), &[]));
    assert!(!not(&oci(50), &["pkg:deb/debian/openssl"]), "a part of another image");
    let mut by_digest = says(Status::Fixed, "api", &[], None);
    assert!(!excuses(vec![by_digest.clone()]));
    by_digest.products[0].digests.insert(digest(ARM64));
    assert!(excuses(vec![by_digest]));
    // The latest counts; of two at one time the one that excuses less.
    let said = |status, at| says(status, "pkg:deb/debian/openssl", &[], at);
    let (early, late) = (Some("2026-01-01T00:00:00Z"), Some("2026-02-01T00:00:00Z"));
    assert!(excuses(vec![said(Status::Affected, early), said(Status::NotAffected, late)]));
    assert!(!excuses(vec![said(Status::NotAffected, early), said(Status::UnderInvestigation, late)]));
    assert!(!excuses(vec![said(Status::NotAffected, late), said(Status::Affected, late)]));
    assert!(!excuses(vec![said(Status::Affected, late), said(Status::NotAffected, late)]));
}

#[test]
fn what_cannot_matter_is_not_kept() {
    let limit = rules(r#"{"max":{"high":0}}"#);
    let found = report(vec![finding("CVE-1", Severity::Low), finding("CVE-2", Severity::Unknown)]);
    let carried = attached(&limit, INDEX, found.clone());
    assert!(carried.report.findings.is_empty());
    assert_eq!(carried.findings.values().sum::<u64>(), 2);
    let all = attached(&rules(r#"{"max":{"low":0,"unknown":0}}"#), INDEX, found);
    assert_eq!(all.report.findings.len(), 2);
    assert!(all.weight() > 2 * 200 && all.weight() < 4000, "{}", all.weight());
    assert!(carried.weight() >= 1024, "a report without findings is told of, too");
}

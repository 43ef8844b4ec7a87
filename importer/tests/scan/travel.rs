//! How reports travel: as referrers, byte for byte; to the image that they are about, or not at all.

use std::fs;

use manifest_schema::{Digest, referrers_tag};
use serde_json::{Value, json};
use testkit::layout::{blob, fixtures};
use testkit::{Site, need, run, run_ok};

use super::{api, attached, recorded, trivy, write};

/// The referrers of a document in production, by the tag that lists them (distribution specification 1.1, "Referrers Tag
/// Schema": Debian's registry has no referrers API).
fn referrers(site: &Site, subject: &Digest) -> Vec<Value> {
    let answer = site.production.get(&format!("/v2/payments/api/manifests/{}", referrers_tag(subject)));
    let list: Value = serde_json::from_slice(&answer.body).expect("a list of referrers");
    list["manifests"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_report_arrives_in_production_byte_for_byte() {
    if !need(Site::NEEDS) {
        return;
    }
    let report = trivy(&api(), 1, &[("CVE-2026-1", "HIGH"), ("CVE-2026-2", "LOW")]);
    let site = attached(&report);
    let plan = run(&mut site.export(&["plan", "--sequence", "1"])).expect_code(0);
    plan.expect_stdout("trivy report").expect_stdout("attached");
    let bundle = site.packed(1);
    // With stock tools it is an OCI layout that has the report under its digest.
    let unpacked = site.unpack_with_stock_tools(&bundle);
    let bytes = report.to_string().into_bytes();
    assert_eq!(blob(&unpacked, &blobs::sha256(&bytes)), bytes);

    let inspected = run(site.import(&["inspect"]).arg(&bundle)).expect_code(0);
    inspected.expect_stdout("trivy (trivy.json)").expect_stdout("1 high, 1 low");
    site.receive(&bundle, &[]).expect_code(0);
    let found = referrers(&site, &api());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["artifactType"], "application/vnd.sealift.report.trivy.v1");
    let digest = found[0]["digest"].as_str().unwrap();
    let answer = site.production.get(&format!("/v2/payments/api/manifests/{digest}"));
    let referrer: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(referrer["subject"]["digest"], api().to_string());
    assert_eq!(referrer["layers"][0]["annotations"]["org.opencontainers.image.title"], "trivy.json");
    assert_eq!(referrer["annotations"]["org.opencontainers.image.created"], report["CreatedAt"]);
    let layer = referrer["layers"][0]["digest"].as_str().unwrap();
    assert_eq!(site.production.get(&format!("/v2/payments/api/blobs/{layer}")).body, bytes);

    let scan = recorded(&site);
    assert_eq!(scan.rules, None, "no gate was configured");
    assert_eq!(scan.reports[0].digest, blobs::sha256(&bytes));
    assert_eq!(scan.reports[0].unused, None);
    let shown = run(&mut site.import(&["ledger", "show", "payments-1"])).expect_code(0);
    shown.expect_stdout("reports: 1, not judged: no gate was configured").expect_stdout("trivy of ");
}

#[test]
fn a_report_of_one_platform_is_attached_to_that_platform() {
    if !need(Site::NEEDS) {
        return;
    }
    let platform = site_platform("arm64");
    let site = attached(&trivy(&platform, 1, &[]));
    site.receive(&site.packed(1), &[]).expect_code(0);
    assert_eq!(referrers(&site, &platform).len(), 1);
    assert_eq!(recorded(&site).reports[0].covers, [platform]);
    // The same if it names it by its configuration, as some scanners do; one that names two of them is about the image.
    let (site, other) = (Site::new(), site_platform("amd64"));
    let manifest: Value = serde_json::from_slice(&blob(&fixtures(), &platform)).unwrap();
    let mut by_configuration = trivy(&api(), 1, &[]);
    by_configuration["Metadata"] = json!({ "ImageID": manifest["config"]["digest"] });
    write(&site, "trivy.json", &by_configuration);
    let mut of_both = trivy(&platform, 1, &[]);
    let names = of_both["Metadata"]["RepoDigests"].as_array_mut().unwrap();
    names.push(json!(format!("registry.dev.example/payments/api@{other}")));
    write(&site, "both.json", &of_both);
    // A file that is named twice is one report.
    site.pack(1, &["--attach", "trivy.json,both.json,trivy.json"]).expect_code(0);
    site.receive(&site.media().join("payments-1"), &[]).expect_code(0);
    assert_eq!([&platform, &other, &api()].map(|subject| referrers(&site, subject).len()), [1, 0, 1]);
    let mut covers: Vec<_> = recorded(&site).reports.into_iter().map(|report| report.covers.len()).collect();
    covers.sort();
    assert_eq!(covers, [1, 2]);
}

/// The image manifest of the image for an architecture.
fn site_platform(architecture: &str) -> Digest {
    let index: Value = serde_json::from_slice(&blob(&fixtures(), &api())).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["platform"]["architecture"] == architecture).unwrap();
    entry["digest"].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_report_finds_its_image_or_nothing_is_packed() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_api_as("payments/web", "1.0");
    let busybox = format!("{}/payments/busybox:1.36", site.origin.host());
    site.release["images"].as_array_mut().unwrap().push(busybox.clone().into());
    let plan =
        |site: &Site, attach: &str| run(&mut site.export(&["plan", "--sequence", "1", "--json", "--attach", attach]));
    let attached_to = |report: Value| {
        let images = report["images"].as_array().unwrap().clone();
        let has = |image: &&Value| image["evidence"].as_array().unwrap().iter().any(|e| e["found"] == "attached");
        images.iter().filter(has).map(|image| image["asked"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    // By the digest in the report: to every name that has it.
    let report = trivy(&api(), 1, &[]);
    write(&site, "trivy.json", &report);
    let to = attached_to(plan(&site, "trivy.json").expect_code(0).json());
    assert_eq!(to.len(), 2, "{to:?}");
    // By the name that is given.
    let mut nameless = report.clone();
    nameless["Metadata"] = json!({});
    write(&site, "nameless.json", &nameless);
    for name in [busybox.clone(), format!("docker://{busybox}"), busybox.replace(":1.36", "")] {
        let to = attached_to(plan(&site, &format!("nameless.json={name}")).expect_code(0).json());
        assert_eq!(to, std::slice::from_ref(&busybox), "{name}");
    }
    plan(&site, "nameless.json")
        .expect_code(2)
        .expect_stderr("names none of the images that are packed; it is about api");
    let another = format!("nameless.json={}@{}", busybox.replace(":1.36", ""), api());
    plan(&site, &another).expect_code(2).expect_stderr("which is not packed");
    // By the name in the report.
    let mut named = nameless.clone();
    named["ArtifactName"] = busybox.clone().into();
    write(&site, "named.json", &named);
    assert_eq!(attached_to(plan(&site, "named.json").expect_code(0).json()), std::slice::from_ref(&busybox));
    for name in ["registry.dev.example/else:1.36".to_string(), busybox.replace(":1.36", ":1")] {
        plan(&site, &format!("nameless.json={name}")).expect_code(2).expect_stderr("which is not packed");
    }
    // The report says otherwise.
    let refused = plan(&site, &format!("trivy.json={busybox}"));
    refused.expect_code(3).expect_stderr("is about another image").expect_stderr(&api().to_string());
    let other = trivy(&Digest::Sha256([7; 32]), 1, &[]);
    write(&site, "other.json", &other);
    plan(&site, "other.json").expect_code(2).expect_stderr("names none of the images");
    // A name that fits, with another digest.
    let mut named = trivy(&Digest::Sha256([7; 32]), 1, &[]);
    named["ArtifactName"] = busybox.clone().into();
    write(&site, "named.json", &named);
    plan(&site, "named.json").expect_code(3).expect_stderr("is about another image than").expect_stderr("busybox");
    site.release["images"] = json!([busybox]);
    plan(&site, "other.json").expect_code(3).expect_stderr("is about another image");
}

#[test]
fn what_is_broken_is_not_attached() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let good = serde_json::to_string_pretty(&trivy(&api(), 1, &[("CVE-2026-1", "HIGH")])).unwrap();
    let lines = good.lines().count();
    let pack = |text: &str| {
        fs::write(site.export_dir().join("trivy.json"), text).unwrap();
        site.pack(1, &["--attach", "trivy.json"])
    };
    let cut = &good[..good.len() - 3];
    pack(cut)
        .expect_code(3)
        .expect_stderr("trivy.json is refused: line ")
        .expect_stderr(&format!("line {}", lines - 1));
    let severity = good.lines().position(|line| line.contains("\"Severity\"")).unwrap() + 1;
    pack(&good.replace("\"HIGH\"", "7")).expect_code(3).expect_stderr(&format!("line {severity}"));
    site.pack(1, &["--attach", "missing.json"]).expect_code(2).expect_stderr("missing.json cannot be read");
    site.pack(1, &["--attach", "/dev/null"]).expect_code(1).expect_stderr("it is no regular file");
    let large = fs::File::create(site.export_dir().join("large.json")).unwrap();
    large.set_len((64 << 20) + 1).unwrap();
    site.pack(1, &["--attach", "large.json"]).expect_code(1).expect_stderr("it has more than 67108864 bytes");
    assert_eq!(fs::read_dir(site.media()).unwrap().count(), 0, "nothing was packed");
}

#[test]
fn what_is_unknown_is_carried_as_it_is() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    fs::write(site.export_dir().join("notes.bin"), b"\x00\x01 whatever").unwrap();
    site.pack(1, &["--attach", "notes.bin"]).expect_code(0);
    let bundle = site.media().join("payments-1");
    site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(referrers(&site, &api())[0]["artifactType"], "application/vnd.sealift.report.other.v1");
}

#[test]
fn what_was_attached_can_be_packed_again_when_the_file_is_gone() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = attached(&trivy(&api(), 1, &[]));
    let bundle = site.packed(1);
    // The same release does nothing again; another report is another release.
    site.pack(1, &[]).expect_code(0).expect_stdout("already packed");
    write(&site, "trivy.json", &trivy(&api(), 2, &[]));
    site.pack(1, &[]).expect_code(2).expect_stderr("payments-1");
    write(&site, "trivy.json", &trivy(&api(), 1, &[]));

    let planned = site.scratch("plans").join("payments-2");
    let mut plan = site.export(&["plan", "--sequence", "2", "--write"]);
    run_ok(plan.arg(&planned));
    fs::remove_file(site.export_dir().join("trivy.json")).unwrap();
    let mut site = site;
    site.release["attach"] = json!([]);
    run(site.export(&["pack"]).arg("--output").arg(site.media()).arg(&planned)).expect_code(0);
    site.receive(&bundle, &[]).expect_code(0);
    site.receive(&site.media().join("payments-2"), &[]).expect_code(0);
    assert_eq!(recorded(&site).reports.len(), 1);
    // Who changes the copy in the plan changes the plan.
    let report = fs::read_dir(planned.join("reports")).unwrap().next().unwrap().unwrap().path();
    fs::write(&report, "{}").unwrap();
    let mut pack = site.export(&["pack"]);
    run(pack.arg("--output").arg(site.scratch("other")).arg(&planned))
        .expect_code(3)
        .expect_stderr("has changed: expected");
}

#[test]
fn a_volume_is_made_again_with_its_reports() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = attached(&trivy(&api(), 1, &[]));
    let bundle = site.packed(1);
    // It was judged when it was packed.
    site.release["gate"] = json!({ "scan": { "required": ["sbom"] } });
    site.pack(1, &["--volume", "1"]).expect_code(0);
    let again = site.media().join("payments-1.revision-2");
    fs::remove_file(testkit::hostile::volume_file(&bundle, 1)).unwrap();
    run(site.import(&["receive"]).arg(&again).arg(&bundle)).expect_code(0);
    assert_eq!(recorded(&site).reports.len(), 1);
}

#[test]
fn the_reports_of_public_programs_travel() {
    if !need(Site::NEEDS) {
        return;
    }
    let samples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/scan");
    if !samples.is_dir() {
        println!("skipped: {} is not there", samples.display());
        return;
    }
    let site = Site::new();
    let name = site.release["images"][0].as_str().unwrap().to_string();
    let mut given = Vec::new();
    for sample in ["roxctl-image-check-failing.json", "roxctl-image-scan.json"] {
        given.push(format!("{}={name}", samples.join(sample).display()));
    }
    site.pack(1, &["--attach", &given.join(",")]).expect_code(0);
    let bundle = site.media().join("payments-1");
    let inspected = run(site.import(&["inspect"]).arg(&bundle)).expect_code(0);
    inspected
        .expect_stdout("roxctl-check (roxctl-image-check-failing.json)")
        .expect_stdout("policy, not kept: 1 critical")
        .expect_stdout("roxctl-scan (roxctl-image-scan.json)");
}

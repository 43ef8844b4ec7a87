//! What reports decide: on the exporting side before anything is pulled, on the importing side before anything is pushed and
//! once more before anything is promoted.

use std::fs;

use ledger::{Act, EntryNumber, Rule};
use manifest_schema::{Digest, MediaType, referrers_tag};
use serde_json::{Value, json};
use testkit::layout::{API, blob, fixtures, repository_and_tag};
use testkit::{Site, need, run};

use super::{api, attached, recorded, trivy, write};
use crate::common;

/// No critical vulnerability, by a report of at most a week.
fn no_critical() -> Value {
    json!({ "scan": { "max": { "critical": 0 }, "max_age": "7d" } })
}

const CRITICAL: &[(&str, &str)] = &[("CVE-2026-1", "CRITICAL"), ("CVE-2026-2", "LOW")];

#[test]
fn the_exporting_side_refuses_before_anything_is_pulled() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = attached(&trivy(&api(), 1, CRITICAL));
    site.release["gate"] = no_critical();
    let refused = site.pack(1, &[]);
    refused
        .expect_code(3)
        .expect_stderr("the gate refuses 1 of 1 images")
        .expect_stderr("no bundle was finished")
        .expect_stderr("1 vulnerability of severity critical, allowed 0: CVE-2026-1 in openssl");
    assert!(!site.media().join("payments-1").exists());
    run(&mut site.export(&["plan", "--sequence", "1"])).expect_code(3);
    site.release["gate"]["scan"]["exceptions"] =
        json!([{ "id": "CVE-2026-1", "expires": "2999-01-01", "reason": "not reachable" }]);
    let plan = run(&mut site.export(&["plan", "--sequence", "1"])).expect_code(0);
    plan.expect_stdout("NOT COUNTED").expect_stdout("exception until 2999-01-02T00:00:00Z: not reachable");
    site.packed(1);
    // The lock file asks for the same.
    let lock = site.scratch("lock").join("release.lock.yaml");
    run(site.export(&["plan", "--sequence", "1", "--lock"]).arg(&lock)).expect_code(0);
    let text = fs::read_to_string(&lock).unwrap();
    assert!(text.contains("not reachable") && text.contains("trivy.json"), "{text}");
    // Without a report there is nothing that could pass.
    site.release["attach"] = json!([]);
    site.pack(2, &[]).expect_code(3).expect_stderr("no report of vulnerabilities for linux/");
    // A file in place of what is configured.
    let gate = site.export_dir().join("gate.yaml");
    fs::write(&gate, r#"{"scan":{}}"#).unwrap();
    site.pack(2, &["--gate", "gate.yaml"]).expect_code(0);
    fs::write(&gate, no_critical().to_string()).unwrap();
    site.release.as_object_mut().unwrap().remove("gate");
    site.pack(3, &["--gate", "gate.yaml"]).expect_code(3).expect_stderr("no report of vulnerabilities for linux/");
    // What was planned is judged when it is packed.
    let planned = site.scratch("plans").join("payments-3");
    run(site.export(&["plan", "--sequence", "3", "--write"]).arg(&planned)).expect_code(0);
    site.release["gate"] = no_critical();
    run(site.export(&["pack"]).arg("--output").arg(site.media()).arg(&planned))
        .expect_code(3)
        .expect_stderr("no report of vulnerabilities for linux/");
}

#[test]
fn the_importing_side_refuses_by_its_own_rules_and_nothing_is_pushed() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = attached(&trivy(&api(), 1, CRITICAL));
    let bundle = site.packed(1);
    site.import["gate"] = no_critical();
    let before = site.production.snapshot();
    let verified = run(site.import(&["verify"]).arg(&bundle)).expect_code(3);
    verified.expect_stdout("gate for").expect_stdout("CVE-2026-1 in openssl");
    run(site.import(&["inspect"]).arg(&bundle)).expect_code(0).expect_stdout("REFUSED by the gate");
    run(site.import(&["receive", "--dry-run"]).arg(&bundle)).expect_code(3);
    site.receive(&bundle, &[])
        .expect_code(3)
        .expect_stderr("CVE-2026-1 in openssl")
        .expect_stderr("nothing was published");
    assert_eq!(site.production.snapshot(), before, "nothing was pushed");
    let refused = |act| matches!(act, Act::Refused(refused) if refused.reason.raw().contains("CVE-2026-1"));
    assert!(common::ledger(&site).entries(EntryNumber::FIRST).any(|e| refused(e.unwrap().entry.act)));
    // The rules of the stream take the place of the site's.
    site.import["streams"]["payments"]["gate"] = json!({ "scan": { "max": { "critical": 1 } } });
    site.receive(&bundle, &[]).expect_code(0);
    let scan = recorded(&site);
    assert!(scan.rules.is_some() && scan.reasons.is_empty());
    assert_eq!(scan.findings.iter().map(|(s, n)| (s.to_string(), *n)).collect::<Vec<_>>(), [("critical".into(), 1)]);
}

#[test]
fn a_stream_without_a_report_is_refused() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(1);
    site.import["gate"] = json!({ "scan": { "required": ["trivy"] } });
    site.receive(&bundle, &[]).expect_code(3).expect_stderr("no report of format trivy for linux/amd64");
    // A report of another image is none of this one, however it came here.
    let mut other = trivy(&api(), 1, &[]);
    other["Metadata"]["RepoDigests"] = json!([]);
    other["Metadata"]["ImageID"] = json!(format!("sha256:{}", "7".repeat(64)));
    write(&site, "other.json", &other);
    site.pack(2, &["--attach", "other.json"]).expect_code(3).expect_stderr("is about another image");
}

#[test]
fn a_bundle_passes_all_the_same_if_somebody_says_why() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = attached(&trivy(&api(), 1, CRITICAL));
    let bundle = site.packed(1);
    site.import["gate"] = no_critical();
    site.receive(&bundle, &["--override", "expired", "--reason", "CHG-1"]).expect_code(3);
    let passed = site.receive(&bundle, &["--override", "scan", "--reason", "CHG-2"]).expect_code(0);
    passed.expect_stderr("warning: let in all the same, by ledger entry").expect_stderr("CVE-2026-1 in openssl");
    site.receive(&bundle, &["--override", "scan", "--reason", "CHG-2"]).expect_code(0);
    let verified = run(site.import(&["verify"]).arg(&bundle));
    assert!(!verified.stdout.contains("CVE-2026-1"), "{verified}");
    let scan = recorded(&site);
    assert_eq!(scan.reasons.len(), 1);
    assert!(scan.reasons[0].raw().contains("CVE-2026-1 in openssl"), "{:?}", scan.reasons);
    let overridden = |act| matches!(act, Act::Overridden(o) if o.rules == [Rule::Scan] && o.reason.raw() == "CHG-2");
    assert!(common::ledger(&site).entries(EntryNumber::FIRST).any(|e| overridden(e.unwrap().entry.act)));
    run(&mut site.import(&["ledger", "show", "payments-1"]))
        .expect_code(0)
        .expect_stdout("let in although: 1 vulnerability");
}

#[test]
fn statements_that_come_with_an_image_count_if_production_says_so() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = attached(&trivy(&api(), 1, CRITICAL));
    let vex = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": { "timestamp": super::days_ago(0) },
        "components": [{ "type": "library", "bom-ref": "a", "name": "openssl", "purl": "pkg:deb/debian/openssl@3.0.1" }],
        "vulnerabilities": [{
            "id": "CVE-2026-1",
            "analysis": { "state": "not_affected", "justification": "code_not_reachable" },
            "affects": [{ "ref": "a" }],
        }],
    });
    let file = write(&site, "vex.json", &vex);
    site.release["attach"] = json!(["trivy.json", "vex.json"]);
    let bundle = site.packed(1);
    site.import["gate"] = no_critical();
    site.receive(&bundle, &[]).expect_code(3);
    site.import["gate"]["scan"]["vex"] = "carried".into();
    run(site.import(&["verify"]).arg(&bundle)).expect_code(0);
    site.import["gate"]["scan"]["vex"] = "own".into();
    fs::copy(&file, site.import_dir().join("ours.json")).unwrap();
    site.import["gate"]["scan"]["vex_files"] = json!(["ours.json"]);
    site.receive(&bundle, &[]).expect_code(0);
    let excused = recorded(&site).excused;
    assert_eq!(excused.len(), 1);
    assert!(excused[0].because.raw().starts_with("VEX of this site"), "{excused:?}");
    // A file that says nothing is a mistake.
    fs::write(site.import_dir().join("ours.json"), super::trivy(&api(), 1, &[]).to_string()).unwrap();
    run(site.import(&["inspect"]).arg(&bundle)).expect_code(2).expect_stderr("it has no statements of exploitability");
}

#[test]
fn what_waits_is_judged_once_more_when_it_is_promoted() {
    if !need(Site::NEEDS) {
        return;
    }
    let (mut site, _staging) = Site::staged();
    write(&site, "trivy.json", &trivy(&api(), 3, &[("CVE-2026-2", "LOW")]));
    site.release["attach"] = json!(["trivy.json"]);
    site.import["gate"] = no_critical();
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(recorded(&site).reports.len(), 1);
    // Time goes on.
    site.import["gate"]["scan"]["max_age"] = "2d".into();
    let refused = run(&mut site.import(&["promote", "payments-1"]));
    refused.expect_code(3).expect_stderr("no report of vulnerabilities").expect_stderr("it is older than 2d");
    assert!(site.production.tags().is_empty());
    site.import["gate"]["scan"]["max_age"] = "7d".into();
    run(&mut site.import(&["promote", "payments-1"])).expect_code(0);
    assert_eq!(recorded(&site).reports[0].unused, None);
}

#[test]
fn a_stream_through_a_pipe_is_judged_too() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = attached(&trivy(&api(), 1, CRITICAL));
    site.import["gate"] = no_critical();
    let sent = site.scratch("pipe").join("stream");
    let mut send = site.export(&["pack", "--sequence", "1", "--output", "-"]);
    let out = send.stdout(fs::File::create(&sent).unwrap()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let receive = |site: &Site| run(site.import(&["receive", "-"]).stdin(fs::File::open(&sent).unwrap()));
    receive(&site).expect_code(3).expect_stderr("CVE-2026-1 in openssl");
    site.import["gate"]["scan"]["max"]["critical"] = 1.into();
    receive(&site).expect_code(0);
    assert_eq!(recorded(&site).reports.len(), 1);
}

#[test]
fn a_gate_on_the_command_line_is_for_sites_without_a_configuration() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = attached(&trivy(&api(), 1, CRITICAL));
    let bundle = site.packed(1);
    let gate = site.import_dir().join("gate.yaml");
    fs::write(&gate, no_critical().to_string()).unwrap();
    run(site.import(&["inspect", "--gate", "gate.yaml"]).arg(&bundle)).expect_code(2).expect_stderr("--gate");
    let to = format!("{}/payments", site.production.host());
    let mut verify = site.import(&["verify", "--trust", "trust/release.asc", "--identity", "enclave.key", "--to", &to]);
    run(verify.args(["--gate", "gate.yaml"]).arg(&bundle)).expect_code(3).expect_stdout("CVE-2026-1 in openssl");
}

#[test]
fn what_is_attached_at_the_origin_counts_on_both_sides() {
    if !need(Site::NEEDS) {
        return;
    }
    // What one site has received is the next one's origin: the report is a referrer there.
    let first = attached(&trivy(&api(), 1, CRITICAL));
    first.receive(&first.packed(1), &[]).expect_code(0);
    let mut site = Site::between(first.production, testkit::Registry::start());
    site.release["gate"] = no_critical();
    site.pack(1, &[]).expect_code(3).expect_stderr("CVE-2026-1 in openssl");
    site.release.as_object_mut().unwrap().remove("gate");
    site.import["gate"] = no_critical();
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(3).expect_stderr("CVE-2026-1 in openssl");
    site.import["gate"]["scan"]["max"]["critical"] = 1.into();
    site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(recorded(&site).reports[0].unused, None);
    // The time that the first site gave it came along.
    let mut undated = trivy(&api(), 1, &[]);
    undated.as_object_mut().unwrap().remove("CreatedAt");
    let dated = attached(&undated);
    dated.receive(&dated.packed(1), &[]).expect_code(0);
    let mut site = Site::between(dated.production, testkit::Registry::start());
    site.release["gate"] = no_critical();
    site.import["gate"] = no_critical();
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
}

#[test]
fn the_time_of_a_file_counts_where_the_report_has_none_but_is_never_later_than_now() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut undated = trivy(&api(), 1, &[]);
    undated.as_object_mut().unwrap().remove("CreatedAt");
    let mut site = attached(&undated);
    site.release["gate"] = no_critical();
    let month = std::time::Duration::from_secs(30 * 86_400);
    let now = std::time::SystemTime::now();
    for (modified, code) in [(now - month, 3), (now + month, 0)] {
        let file = fs::File::options().write(true).open(site.export_dir().join("trivy.json")).unwrap();
        file.set_modified(modified).unwrap();
        site.pack(1, &[]).expect_code(code);
    }
}

#[test]
fn without_a_gate_reports_decide_nothing() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = attached(&super::check(true));
    let bundle = site.packed(1);
    let inspected = run(site.import(&["inspect"]).arg(&bundle)).expect_code(0);
    assert!(!inspected.stdout.contains("REFUSED"), "{inspected}");
    site.import["gate"] = json!({ "scan": {} });
    site.receive(&bundle, &[]).expect_code(3).expect_stderr("no root");
    site.import.as_object_mut().unwrap().remove("gate");
    site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(recorded(&site).failed.len(), 1);
}

/// Puts a document at the origin that refers to another one there.
fn attach_at_origin(site: &Site, subject: &Digest, media_type: &str, content: &[u8]) -> Digest {
    let (repository, _) = repository_and_tag(API);
    let (config, layer) = (blobs::sha256(b"{}"), blobs::sha256(content));
    site.origin.put_blob(repository, &config, b"{}");
    site.origin.put_blob(repository, &layer, content);
    let referred = site.origin.get(&format!("/v2/{repository}/manifests/{subject}"));
    let document = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_MANIFEST,
        "artifactType": media_type,
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2 },
        "layers": [{ "mediaType": media_type, "digest": layer, "size": content.len() }],
        "subject": { "mediaType": referred.headers["content-type"], "digest": subject, "size": referred.body.len() },
    });
    let bytes = document.to_string().into_bytes();
    let digest = blobs::sha256(&bytes);
    site.origin.put_manifest(repository, &digest.to_string(), MediaType::OCI_MANIFEST, &bytes);
    let entry = json!({ "mediaType": MediaType::OCI_MANIFEST, "digest": digest, "size": bytes.len() });
    let list = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [entry] });
    let tag = referrers_tag(subject).to_string();
    site.origin.put_manifest(repository, &tag, MediaType::OCI_INDEX, list.to_string().as_bytes());
    digest
}

#[test]
fn a_report_about_what_is_attached_is_none_about_the_image() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let nameless = |found| {
        let mut report = trivy(&api(), 1, found);
        report["Metadata"] = json!({});
        report.to_string().into_bytes()
    };
    let first = attach_at_origin(&site, &api(), "application/json", &nameless(&[]));
    attach_at_origin(&site, &first, "application/json", &nameless(CRITICAL));
    site.release["gate"] = no_critical();
    site.import["gate"] = no_critical();
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(recorded(&site).reports.len(), 1);
    assert_eq!(recorded(&site).findings.len(), 0);
}

#[test]
fn a_signature_is_no_report() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let mut content = trivy(&api(), 1, CRITICAL);
    content["Metadata"] = json!({});
    let media_type = "application/vnd.dev.cosign.simplesigning.v1+json";
    attach_at_origin(&site, &api(), media_type, content.to_string().as_bytes());
    site.release["gate"] = json!({ "scan": {} });
    run(&mut site.export(&["plan", "--sequence", "1"])).expect_code(0).expect_stdout("no reports");
    let bundle = site.packed(1);
    site.import["gate"] = json!({ "scan": {} });
    site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(recorded(&site).reports.len(), 0);
}

#[test]
fn a_report_may_name_the_image_by_its_configuration_and_an_exception_by_its_names() {
    if !need(Site::NEEDS) {
        return;
    }
    let index: Value = serde_json::from_slice(&blob(&fixtures(), &api())).unwrap();
    let mut site = Site::new();
    let mut files = Vec::new();
    for (n, entry) in index["manifests"].as_array().unwrap().iter().enumerate() {
        let digest: Digest = entry["digest"].as_str().unwrap().parse().unwrap();
        let manifest: Value = serde_json::from_slice(&blob(&fixtures(), &digest)).unwrap();
        let mut report = trivy(&api(), 1, CRITICAL);
        report["Metadata"] = json!({ "ImageID": manifest["config"]["digest"] });
        write(&site, &format!("{n}.json"), &report);
        files.push(format!("{n}.json"));
    }
    site.release["attach"] = json!(files);
    let exception = |host: &str| {
        let images = [format!("{host}/payments")];
        json!([{ "id": "CVE-2026-1", "images": images, "expires": "2999-01-01", "reason": "not reachable" }])
    };
    site.release["gate"] = no_critical();
    site.pack(1, &[]).expect_code(3).expect_stderr("CVE-2026-1 in openssl");
    site.release["gate"]["scan"]["exceptions"] = exception("elsewhere.example");
    site.pack(1, &[]).expect_code(3).expect_stderr("CVE-2026-1 in openssl");
    site.release["gate"]["scan"]["exceptions"] = exception(site.origin.host());
    let bundle = site.packed(1);
    for (host, code) in [("elsewhere.example", 3), (site.production.host(), 0), (site.origin.host(), 0)] {
        site.import["gate"] = no_critical();
        site.import["gate"]["scan"]["exceptions"] = exception(host);
        run(site.import(&["verify"]).arg(&bundle)).expect_code(code);
    }
    site.receive(&bundle, &[]).expect_code(0);
    assert!(recorded(&site).reports.iter().all(|report| report.unused.is_none() && report.covers.len() == 1));
}

#[test]
fn reports_that_would_take_too_much_memory_are_refused_on_both_sides() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    // Each of them has almost as much as one report may have.
    let products = vec![r#"{"@id":"a"}"#; 199_000].join(",");
    let files = ["1", "2", "3", "4", "5", "6", "7"].map(|name| format!("{name}.json"));
    for name in &files {
        let vex = format!(
            r#"{{"@context":"https://openvex.dev/ns/v0.2.0","@id":"{name}","author":"x","timestamp":"2026-01-01T00:00:00Z",
            "version":1,"statements":[{{"vulnerability":{{"name":"CVE-1"}},"status":"fixed","products":[{products}]}}]}}"#
        );
        fs::write(site.export_dir().join(name), vex).unwrap();
    }
    site.release["attach"] = json!(files);
    site.release["gate"] = json!({ "scan": {} });
    site.pack(1, &[]).expect_code(2).expect_stderr("more findings than are looked at in one bundle");
    site.release.as_object_mut().unwrap().remove("gate");
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(3).expect_stderr("more findings than are looked at");
    assert!(site.production.tags().is_empty());
}

#[test]
fn what_the_documents_show_is_a_gate_and_a_scanner() {
    if !need(Site::NEEDS) {
        return;
    }
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scanning.md");
    let document = fs::read_to_string(document).unwrap();
    let blocks = document.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let shown: Vec<Value> = blocks.map(|block| serde_saphyr::from_str(block).unwrap()).collect();
    assert_eq!(shown.len(), 2);
    let mut site = attached(&trivy(&api(), 1, &[]));
    let bundle = site.packed(1);
    let vex = json!({
        "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://prod.example/vex/1", "author": "production",
        "timestamp": "2026-01-01T00:00:00Z", "version": 1,
        "statements": [{
            "vulnerability": { "name": "CVE-2026-1" }, "products": [{ "@id": "pkg:deb/debian/openssl" }],
            "status": "not_affected", "justification": "vulnerable_code_not_in_execute_path",
        }],
    });
    for folder in [site.import_dir(), site.export_dir()] {
        fs::write(folder.join("ours.openvex.json"), vex.to_string()).unwrap();
    }
    site.import["gate"] = shown[0]["gate"].clone();
    site.import["scan"] = shown[1]["scan"].clone();
    run(site.import(&["inspect"]).arg(&bundle)).expect_code(0).expect_stdout("no report of sbom");
    site.release["gate"] = shown[0]["gate"].clone();
    run(&mut site.export(&["plan", "--sequence", "2"])).expect_code(3).expect_stderr("no report of sbom");
}

//! What clusters show of the reports: annotations of OpenShift's image objects. `oc` is no Debian package: a program that takes
//! its arguments stands in for it, and knows some images only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use testkit::layout::{API, BUSYBOX, blob, digest, fixtures};
use testkit::{Site, command, need, run, run_ok};

use super::{api, attached, trivy};

/// Every image that `oc` was told to annotate, with what.
type Annotated = BTreeMap<String, BTreeMap<String, String>>;

/// The script, for a cluster that knows these images.
fn script(site: &Site, folder: &Path, known: &[String]) -> (Command, PathBuf) {
    let bin = site.scratch("bin");
    let seen = site.scratch("oc").join("seen");
    let _ = fs::remove_file(&seen);
    let oc = r#"#!/bin/sh
case $1 in
get)
  [ -z "${REFUSE-}" ] || { echo "error: You must be logged in to the server (Unauthorized)" >&2; exit 1; }
  grep -qx "$3" "$KNOWN" || { echo "Error from server (NotFound): images \"$3\" not found" >&2; exit 1; } ;;
annotate)
  [ "$2 $3" = "--overwrite image" ] || exit 9
  name=$4
  shift 4
  for value; do printf '%s %s\n' "$name" "$value" >>"$SEEN"; done ;;
esac
"#;
    fs::write(bin.join("oc"), oc).unwrap();
    fs::set_permissions(bin.join("oc"), fs::Permissions::from_mode(0o755)).unwrap();
    let list = site.scratch("oc").join("known");
    fs::write(&list, known.join("\n") + "\n").unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let mut script = command("sh", &site.scratch("home"));
    script.arg(folder.join("openshift/image-annotations.sh")).env("PATH", path).env("KNOWN", &list).env("SEEN", &seen);
    (script, seen)
}

/// What the script does to a cluster that knows these images.
fn annotate(site: &Site, folder: &Path, known: &[String]) -> Annotated {
    let (mut script, seen) = script(site, folder, known);
    run_ok(&mut script).expect_stdout(" annotated, ").expect_stdout(" 0 failed");
    let mut annotated = Annotated::new();
    for line in fs::read_to_string(&seen).unwrap_or_default().lines() {
        let (image, annotation) = line.split_once(' ').unwrap();
        // `KEY-` takes an annotation away.
        let (key, value) = annotation.split_once('=').unwrap_or_else(|| (annotation.strip_suffix('-').unwrap(), ""));
        annotated.entry(image.into()).or_default().insert(key.into(), value.into());
    }
    annotated
}

fn hand_over(site: &Site, name: &str) -> std::path::PathBuf {
    let folder = site.scratch("handover").join(name);
    run(site.import(&["handover", "production"]).arg(&folder)).expect_code(0);
    folder
}

/// The image that sites pack, and its image manifests.
fn manifests() -> Vec<String> {
    let index: Value = serde_json::from_slice(&blob(&fixtures(), &api())).unwrap();
    let entries = index["manifests"].as_array().unwrap().iter();
    entries.map(|entry| entry["digest"].as_str().unwrap().to_string()).chain([api().to_string()]).collect()
}

const DENY: &str = "images.openshift.io/deny-execution";

#[test]
fn clusters_show_what_scanners_said_and_what_must_not_run() {
    if !need(Site::NEEDS) {
        return;
    }
    let report = trivy(&api(), 1, &[("CVE-2026-1", "HIGH"), ("CVE-2026-2", "LOW"), ("CVE-2026-3", "LOW")]);
    let mut site = attached(&report);
    let empty = hand_over(&site, "empty");
    assert!(!empty.join("openshift").exists(), "there is nothing to say");
    site.import["gate"] = serde_json::json!({ "scan": { "max": { "critical": 0 } } });
    site.receive(&site.packed(1), &[]).expect_code(0);
    let image = digest(&fixtures(), API).to_string();
    let folder = hand_over(&site, "one");
    assert!(
        fs::read_to_string(folder.join("README.txt"))
            .unwrap()
            .contains("openshift/image-annotations.sh is for OpenShift")
    );
    let annotated = annotate(&site, &folder, &manifests());
    assert_eq!(annotated.keys().cloned().collect::<BTreeSet<_>>(), manifests().into_iter().collect());
    assert_eq!(annotated.values().collect::<BTreeSet<_>>().len(), 1, "what it covers has the same");
    let annotated = annotate(&site, &folder, std::slice::from_ref(&image));
    assert_eq!(annotated.keys().collect::<Vec<_>>(), [&image], "those that the cluster knows");
    assert_eq!(annotated[&image].len(), 1, "nothing of what it does not tell");
    let value: Value =
        serde_json::from_str(&annotated[&image]["quality.images.openshift.io/vulnerability.trivy"]).unwrap();
    assert_eq!((&value["name"], &value["compliant"]), (&"trivy".into(), &true.into()));
    assert_eq!(value["timestamp"], report["CreatedAt"]);
    let summary: Vec<_> = value["summary"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (row["label"].as_str().unwrap(), row["data"].as_str().unwrap(), row["severityIndex"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(summary, [("Critical", "0", 3), ("Important", "1", 2), ("Moderate", "0", 1), ("Low", "2", 0)]);
    // The reference is where the report can be had.
    let reference = value["reference"].as_str().unwrap();
    let path = reference.strip_prefix(&format!("https://{}", site.production.host())).unwrap();
    assert_eq!(site.production.get(path).body, report.to_string().into_bytes());

    let tag = format!("{}/payments/api:2.3.1", site.production.host());
    run(&mut site.import(&["withdraw", &tag, "--reason", "it isn't good"])).expect_code(0);
    let annotated = annotate(&site, &hand_over(&site, "two"), std::slice::from_ref(&image));
    assert_eq!(annotated[&image], BTreeMap::from([(DENY.to_string(), "true".to_string())]));
}

#[test]
fn a_cluster_that_does_not_answer_is_not_one_that_knows_nothing() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = attached(&trivy(&api(), 1, &[]));
    site.receive(&site.packed(1), &[]).expect_code(0);
    let folder = hand_over(&site, "one");
    let (mut refused, _) = script(&site, &folder, &[]);
    run(refused.env("REFUSE", "1")).expect_code(1).expect_stderr("Unauthorized");
    let (mut unknown, _) = script(&site, &folder, &[]);
    run(&mut unknown).expect_code(0).expect_stdout("0 annotated, 3 not known here, 0 failed");
    let (mut without, _) = script(&site, &folder, &[]);
    run(without.env("PATH", "/usr/bin:/bin")).expect_code(1).expect_stderr("oc is not installed");
}

#[test]
fn an_index_is_told_the_worst_of_its_platforms() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let index: Value = serde_json::from_slice(&testkit::layout::blob(&fixtures(), &api())).unwrap();
    let platforms: Vec<String> =
        index["manifests"].as_array().unwrap().iter().map(|m| m["digest"].as_str().unwrap().to_string()).collect();
    for (at, found) in [&[("CVE-2026-1", "CRITICAL")][..], &[]].into_iter().enumerate() {
        super::write(&site, &format!("{at}.json"), &trivy(&platforms[at].parse().unwrap(), 1, found));
    }
    site.release["attach"] = serde_json::json!(["0.json", "1.json"]);
    site.receive(&site.packed(1), &[]).expect_code(0);
    let known = [api().to_string(), platforms[0].clone(), platforms[1].clone()];
    let annotated = annotate(&site, &hand_over(&site, "one"), &known);
    let critical = |image: &String| {
        let value = &annotated[image]["quality.images.openshift.io/vulnerability.trivy"];
        let value: Value = serde_json::from_str(value).unwrap();
        value["summary"][0]["data"].as_str().unwrap().to_string()
    };
    assert_eq!(known.each_ref().map(critical), ["1", "1", "0"]);
}

#[test]
fn images_of_a_rejected_bundle_must_not_run_unless_another_brought_them() {
    if !need(Site::NEEDS) {
        return;
    }
    let (mut site, _staging) = Site::staged();
    site.receive(&site.packed(1), &[]).expect_code(0);
    run(&mut site.import(&["reject", "payments-1", "--reason", "no"])).expect_code(0);
    let image = api().to_string();
    let annotated = annotate(&site, &hand_over(&site, "one"), &manifests());
    assert!(manifests().iter().all(|digest| annotated[digest][DENY] == "true"), "{annotated:?}");
    super::write(&site, "trivy.json", &trivy(&api(), 1, &[]));
    site.release["attach"] = serde_json::json!(["trivy.json"]);
    site.receive(&site.packed(2), &[]).expect_code(0);
    run(&mut site.import(&["promote", "payments-2"])).expect_code(0);
    let annotated = annotate(&site, &hand_over(&site, "two"), std::slice::from_ref(&image));
    assert_eq!(annotated[&image][DENY], "", "it may run again: the annotation goes");
    let value: Value =
        serde_json::from_str(&annotated[&image]["quality.images.openshift.io/vulnerability.trivy"]).unwrap();
    assert!(value.get("compliant").is_none(), "no gate has judged it");
}

#[test]
fn what_does_not_count_is_not_shown_and_what_was_seen_here_is_added() {
    if !need(Site::NEEDS) {
        return;
    }
    const VULNERABILITIES: &str = "quality.images.openshift.io/vulnerability.trivy";
    let mut site = attached(&trivy(&api(), 30, &[("CVE-2026-1", "CRITICAL")]));
    site.import["gate"] = serde_json::json!({ "scan": { "max_age": "7d" } });
    site.receive(&site.packed(1), &[]).expect_code(0);
    assert!(!hand_over(&site, "old").join("openshift").exists());

    super::write(&site, "trivy.json", &trivy(&api(), 1, &[("CVE-2026-1", "CRITICAL")]));
    site.import["gate"]["scan"]["max"] = serde_json::json!({ "critical": 0 });
    site.receive(&site.packed(2), &["--override", "scan", "--reason", "CHG-1"]).expect_code(0);
    let of = |site: &Site, name: &str| {
        let annotated = annotate(site, &hand_over(site, name), &manifests());
        let value = &annotated[&manifests()[0]][VULNERABILITIES];
        serde_json::from_str::<Value>(value).unwrap()
    };
    let value = of(&site, "overridden");
    assert_eq!((&value["compliant"], &value["summary"][0]["data"]), (&false.into(), &"1".into()));

    let mut found = trivy(&api(), 0, &[("CVE-2026-2", "LOW")]);
    found["Metadata"] = serde_json::json!({});
    let file = super::write(&site, "found.json", &found);
    site.import["scan"] = serde_json::json!({ "command": ["sh", "-c", "cat $0 # {reference}", file] });
    site.receive(&site.packed(3), &["--override", "scan", "--reason", "CHG-2"]).expect_code(0);
    let value = of(&site, "seen");
    assert_eq!((&value["summary"][0]["data"], &value["summary"][3]["data"]), (&"1".into(), &"1".into()));
    // The scanner refuses it, whatever came along.
    super::write(&site, "trivy.json", &trivy(&api(), 1, &[]));
    site.import["scan"] = serde_json::json!({ "command": ["sh", "-c", "exit 1 # {reference}"] });
    site.receive(&site.packed(4), &["--override", "scanner", "--reason", "CHG-3"]).expect_code(0);
    assert_eq!(of(&site, "refused")["compliant"], false);
}

#[test]
fn an_image_that_a_tag_named_before_is_not_spoken_of() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    super::write(&site, "trivy.json", &trivy(&api(), 1, &[]));
    let images: Vec<String> = [1, 2]
        .map(|sequence| {
            let image = site.list_layers("1", &[&[sequence]]);
            let mut report = trivy(&image, 1, &[]);
            report["Metadata"]["RepoDigests"] = serde_json::json!([format!("registry.dev.example/x@{image}")]);
            super::write(&site, "large.json", &report);
            site.release["attach"] = serde_json::json!(["large.json"]);
            let busybox = format!("{}/{}", site.origin.host(), BUSYBOX.split_once('/').unwrap().1);
            if sequence == 1 {
                site.release["images"].as_array_mut().unwrap().push(busybox.into());
            }
            let bundle = site.packed(sequence.into());
            site.receive(&bundle, &["--on-existing-tag", "replace"]).expect_code(0);
            image.to_string()
        })
        .to_vec();
    let annotated = annotate(&site, &hand_over(&site, "one"), &images);
    assert_eq!(annotated.keys().collect::<Vec<_>>(), [&images[1]]);
}

#[test]
fn what_another_tag_has_with_signatures_may_run() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = attached(&trivy(&api(), 1, &[]));
    site.list_api_as("payments/api", "alias");
    site.receive(&site.packed(1), &[]).expect_code(0);
    let alias = format!("{}/payments/api:alias", site.production.host());
    run(&mut site.import(&["withdraw", &alias, "--reason", "a mistake"])).expect_code(0);
    let annotated = annotate(&site, &hand_over(&site, "one"), &manifests());
    assert!(annotated.values().all(|values| values[DENY].is_empty()), "the annotation goes: {annotated:?}");
}

#[test]
fn rules_that_are_not_kept_are_shown_as_policy() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/scan/tests/samples/xccdf.xml");
    let text = fs::read_to_string(sample).unwrap().replace(&format!("sha256:{}", "3".repeat(64)), &api().to_string());
    fs::write(site.export_dir().join("compliance.xml"), text).unwrap();
    super::write(&site, "check.json", &super::check(false));
    site.release["attach"] = serde_json::json!(["compliance.xml", "check.json"]);
    site.receive(&site.packed(1), &[]).expect_code(0);
    let annotated = annotate(&site, &hand_over(&site, "one"), &[api().to_string()]);
    let keys: Vec<_> = annotated[&api().to_string()].keys().map(String::as_str).collect();
    let policy = ["roxctl-check", "xccdf"].map(|format| format!("quality.images.openshift.io/policy.{format}"));
    assert_eq!(keys, policy);
}

//! What clusters show of the reports: annotations of OpenShift's image objects. `oc` is no Debian package: a program that takes
//! its arguments stands in for it, and knows some images only.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use testkit::layout::{API, digest, fixtures};
use testkit::{Site, command, need, run, run_ok};

use super::{api, attached, trivy};

/// Every image that `oc` was told to annotate, with what.
type Annotated = BTreeMap<String, BTreeMap<String, String>>;

/// Runs the script against a cluster that knows these images.
fn annotate(site: &Site, folder: &Path, known: &[String]) -> Annotated {
    let bin = site.scratch("bin");
    let seen = site.scratch("oc").join("seen");
    let _ = fs::remove_file(&seen);
    let oc = r#"#!/bin/sh
case $1 in
get) grep -qx "$3" "$KNOWN" ;;
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
    run_ok(
        script
            .arg(folder.join("openshift/image-annotations.sh"))
            .envs([("PATH", path)])
            .env("KNOWN", &list)
            .env("SEEN", &seen),
    );
    let mut annotated = Annotated::new();
    for line in fs::read_to_string(&seen).unwrap_or_default().lines() {
        let (image, annotation) = line.split_once(' ').unwrap();
        let (key, value) = annotation.split_once('=').unwrap();
        annotated.entry(image.into()).or_default().insert(key.into(), value.into());
    }
    annotated
}

fn hand_over(site: &Site, name: &str) -> std::path::PathBuf {
    let folder = site.scratch("handover").join(name);
    run(site.import(&["handover", "production"]).arg(&folder)).expect_code(0);
    folder
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
    let annotated = annotate(&site, &folder, std::slice::from_ref(&image));
    assert_eq!(annotated.keys().collect::<Vec<_>>(), [&image], "those that the cluster knows");
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
fn images_of_a_rejected_bundle_must_not_run_unless_another_brought_them() {
    if !need(Site::NEEDS) {
        return;
    }
    let (mut site, _staging) = Site::staged();
    site.receive(&site.packed(1), &[]).expect_code(0);
    run(&mut site.import(&["reject", "payments-1", "--reason", "no"])).expect_code(0);
    let image = api().to_string();
    let annotated = annotate(&site, &hand_over(&site, "one"), std::slice::from_ref(&image));
    assert_eq!(annotated[&image][DENY], "true");
    super::write(&site, "trivy.json", &trivy(&api(), 1, &[]));
    site.release["attach"] = serde_json::json!(["trivy.json"]);
    site.receive(&site.packed(2), &[]).expect_code(0);
    run(&mut site.import(&["promote", "payments-2"])).expect_code(0);
    let annotated = annotate(&site, &hand_over(&site, "two"), std::slice::from_ref(&image));
    assert!(!annotated[&image].contains_key(DENY), "{annotated:?}");
    let value: Value =
        serde_json::from_str(&annotated[&image]["quality.images.openshift.io/vulnerability.trivy"]).unwrap();
    assert!(value.get("compliant").is_none(), "no gate has judged it");
}

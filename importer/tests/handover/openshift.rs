//! `handover production --for openshift`: nodes that get their files from a MachineConfig.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use serde_json::{Value, json};
use testkit::layout::{API, digest, fixtures};
use testkit::{Node, Ran, Site, need, run};

use crate::merge::nothing_was_made;
use crate::production::{NAME, NEEDS, folder, handover, image, names_what_is_there, readme};
use crate::{crd, ignition};

const POLICY: &str = "/etc/containers/policy.json";
const REGISTRIES_D: &str = "/etc/containers/registries.d/sealift-production.yaml";

/// A stock policy, a list of images in use, and where nodes find signatures.
fn inputs(site: &Site, in_use: &str) -> [String; 6] {
    let folder = site.scratch("nodes");
    let platform = format!("{}/platform", site.origin.host());
    let anything = json!([{ "type": "insecureAcceptAnything" }]);
    let transports = json!({ "docker": { platform: anything }, "docker-daemon": { "": anything } });
    let policy = json!({ "default": [{ "type": "reject" }], "transports": transports });
    fs::write(folder.join("policy.json"), policy.to_string()).unwrap();
    fs::write(folder.join("images.txt"), in_use).unwrap();
    let at = |name: &str| folder.join(name).display().to_string();
    let [lookaside, url] = lookaside(site);
    ["--merge-policy".into(), at("policy.json"), "--images-in-use".into(), at("images.txt"), lookaside, url]
}

/// A folder, which nodes have where it is here.
fn lookaside(site: &Site) -> [String; 2] {
    ["--lookaside-url".into(), format!("file://{}", site.lookaside().display())]
}

/// An image of others.
fn platform(site: &Site) -> String {
    format!("{}/platform/api:1", site.origin.host())
}

#[track_caller]
fn openshift(site: &Site, in_use: &str, args: &[&str]) -> Ran {
    let inputs = inputs(site, in_use);
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).chain(["--for", "openshift"]).collect();
    handover(site, &[&inputs, args].concat())
}

fn document(site: &Site, name: &str) -> (String, Value) {
    let text = fs::read_to_string(folder(site).join("openshift").join(name)).unwrap();
    let value = serde_saphyr::from_str(&text).unwrap();
    (text, value)
}

/// A node with what a MachineConfig writes.
fn node_of(site: &Site, files: &std::collections::BTreeMap<String, String>) -> Node {
    let root = site.scratch("machine");
    fs::create_dir_all(root.join("registries.d")).unwrap();
    fs::write(root.join("policy.json"), &files[POLICY]).unwrap();
    fs::write(root.join("registries.d/sealift-production.yaml"), &files[REGISTRIES_D]).unwrap();
    Node::new(root, site.scratch("node"))
}

fn received() -> Site {
    let site = Site::new();
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    site.origin.load_layout(&fixtures(), API, "platform/api", "1");
    site
}

#[test]
fn a_machine_config_has_all_that_a_node_needs() {
    if !need(&[NEEDS, &["podman"]].concat()) {
        return;
    }
    let mut site = received();
    let platform = format!("{}/platform/api:1", site.origin.host());
    let in_use = format!("# as `oc get pods` says\n{platform}\n\n{}\n", image(&site, NAME));
    let report = openshift(&site, &in_use, &["--json"]).expect_code(0).json();
    assert_eq!(report["in_use"]["images"].as_array().unwrap().len(), 2, "{report:#}");
    assert_eq!(report["kinds"], json!(["openshift"]));
    assert!(!folder(&site).join("keys").exists(), "a key file would have nodes rebooted");
    for role in ["master", "worker"] {
        let (text, config) = document(&site, &format!("machine-config-{role}.yaml"));
        if let Some(schemas) = crd::schemas() {
            assert_eq!(crd::problems(&schemas, &text), [""; 0], "{text}");
            assert_ne!(crd::problems(&schemas, &text.replace("config:", "configs:")), [""; 0]);
        }
        assert_eq!(config["metadata"]["labels"], json!({ "machineconfiguration.openshift.io/role": role }));
        // Of two that write one file the last one counts, and the cluster's own for image policies is one.
        let name = config["metadata"]["name"].as_str().unwrap();
        assert!(name > "99-zzz-generated-registries", "{name}");
        let files = ignition::files(&config["spec"]["config"], "3.2.0");
        assert_eq!(files.keys().collect::<Vec<_>>(), [POLICY, REGISTRIES_D]);
        assert_eq!(files[POLICY], fs::read_to_string(folder(&site).join("policy.json")).unwrap());
        let node = node_of(&site, &files);
        node.pulls(&image(&site, NAME)).expect_code(0);
        node.takes(&platform).expect_code(0);
        site.production.load_layout(&fixtures(), API, "payments/api", "9");
        node.refuses(&image(&site, "payments/api:9"));
    }
    let readme = readme(&site);
    names_what_is_there(&site);
    // What the cluster gets stands before what would break it.
    let at = |text: &str| readme.find(text).unwrap_or_else(|| panic!("{text}: {readme}"));
    assert!(at("Attention: nodes look for signatures in a folder of their own") < at("oc apply"));
    assert!(at("openshift/machine-config-worker.yaml") < at("Nodes outside OpenShift"));
    assert!(at("Nodes outside OpenShift") < at("/etc/containers/policy.json\n"));
    for said in ["reloads CRI-O on each node", &image(&site, NAME), "insecureAcceptAnything", "in policy.json"] {
        assert!(readme.contains(said), "{said}: {readme}");
    }
    // The same again from what nodes have then.
    let before = fs::read(folder(&site).join("policy.json")).unwrap();
    fs::write(site.scratch("nodes").join("merged.json"), &before).unwrap();
    let merged = site.scratch("nodes").join("merged.json").display().to_string();
    let told = openshift(&site, &in_use, &[]).expect_code(0);
    assert!(told.stdout.contains("kept of ") && told.stdout.contains("in use, and accepted: 2 images"), "{told}");
    let folder_alone = |line: &str| line.contains("nodes look for signatures in a folder of their own, file:///");
    assert!(told.stderr.lines().all(folder_alone) && !told.stderr.is_empty(), "{told}");
    let images = site.scratch("nodes").join("images.txt").display().to_string();
    let [flag, url] = &lookaside(&site);
    let args = ["--for", "openshift", "--merge-policy", &merged, "--images-in-use", &images, flag, url];
    handover(&site, &args).expect_code(0);
    assert_eq!(fs::read(folder(&site).join("policy.json")).unwrap(), before);
    // While another key takes the place of the first, the rule with the first one is known again.
    let second = testkit::Key::new(&site.import_dir(), "second");
    let both = ["--certificate", "production.asc", "--certificate", "second.asc"];
    let report = handover(&site, &[&args[..], &both, &["--json"]].concat()).expect_code(0).json();
    assert!(report["keys"][0]["fingerprints"].as_array().unwrap().contains(&json!(second.fingerprint)), "{report:#}");
    // And where the site has no such scope any more.
    site.import["streams"]["payments"]["to"][0]["to"] = image(&site, "other").into();
    fs::write(&images, &platform).unwrap();
    let report = handover(&site, &[&args[..], &["--json"]].concat()).expect_code(0).json();
    assert_eq!(report["merged"]["removed"], json!([image(&site, "payments")]));
}

#[test]
fn butane_has_the_same_files() {
    if !need(NEEDS) {
        return;
    }
    let mut site = received();
    let in_use = format!("{}\n{}\n", image(&site, NAME), platform(&site));
    for (args, ignition, butane) in
        [(&[][..], "3.2.0", "4.8.0"), (&["--ignition", "3.4.0", "--role", "infra"], "3.4.0", "4.14.0")]
    {
        openshift(&site, &in_use, args).expect_code(0);
        let role = if args.is_empty() { "worker" } else { "infra" };
        let (_, config) = document(&site, &format!("machine-config-{role}.yaml"));
        let (text, source) = document(&site, &format!("machine-config-{role}.bu"));
        assert_eq!(source["metadata"], config["metadata"]);
        let files = ignition::files(&config["spec"]["config"], ignition);
        let (name, inline) = ignition::butane_files(&text, butane);
        assert_eq!((json!(name), inline), (config["metadata"]["name"].clone(), files));
        // No package of Debian's has it.
        let source = folder(&site).join(format!("openshift/machine-config-{role}.bu"));
        match Command::new("butane").arg("--strict").arg(source).output() {
            Ok(made) => {
                assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
                let made: Value = serde_saphyr::from_str(&String::from_utf8(made.stdout).unwrap()).unwrap();
                assert_eq!(made["metadata"], config["metadata"]);
            }
            Err(e) => println!("skipped: butane does not run here ({e})"),
        }
    }
    assert!(!folder(&site).join("openshift/machine-config-master.yaml").exists());
    // By configuration.
    let inputs = inputs(&site, &in_use);
    site.import["production"]["lookaside_url"] = inputs[5].clone().into();
    site.import["production"]["handover"] = json!({
        "for": ["openshift"], "roles": ["edge"], "ignition": "3.4.0", "merge_policy": inputs[1], "images_in_use": inputs[3],
    });
    handover(&site, &[]).expect_code(0);
    let (_, config) = document(&site, "machine-config-edge.yaml");
    ignition::files(&config["spec"]["config"], "3.4.0");
}

#[test]
fn a_machine_config_that_could_stop_the_cluster_is_not_made() {
    if !need(NEEDS) {
        return;
    }
    let site = received();
    let refused = |args: &[&str], code, reason: &str| {
        let ran = handover(&site, args).expect_code(code).expect_stderr(reason);
        nothing_was_made(&site);
        ran
    };
    let (platform, unsigned) =
        (format!("{}/platform/api:1", site.origin.host()), format!("{}/elsewhere/api:1", site.origin.host()));
    site.origin.load_layout(&fixtures(), API, "elsewhere/api", "1");
    let [merge, policy, in_use, list, ..] = &inputs(&site, &format!("{platform}\n"));
    refused(&["--for", "openshift"], 2, "no MachineConfig without rules for the platform");
    refused(&["--for", "openshift", in_use, list], 2, "no MachineConfig without rules for the platform");
    refused(&["--for", "openshift", merge, policy], 2, "no MachineConfig without a list of the images in use");
    refused(&["--for", "openshift,openshift-cosign", merge, policy, in_use, list], 2, "names a scope twice");
    let with = |images: &str, code, reason: &str| {
        let args = inputs(&site, images);
        let args: Vec<&str> = args.iter().map(String::as_str).chain(["--for", "openshift"]).collect();
        refused(&args, code, reason)
    };
    let ran = with(&format!("{platform}\n{unsigned}\n"), 3, "refuses 1 of 2 images in use: ");
    assert!(ran.stderr.contains(&unsigned) && ran.stderr.contains("default: reject"), "{ran}");
    // Signed for another tag.
    site.production.load_layout(&fixtures(), API, "payments/api", "9");
    with(&image(&site, "payments/api:9"), 3, "signedBy");
    let ran = with(&format!("{}/platform/none:1", site.origin.host()), 1, "cannot be judged");
    ran.expect_stderr("say behind it in the list where it is: IMAGE MIRROR");
    // Production's images alone say nothing about the platform's, though production has a mirror for them.
    let ran = with(&image(&site, NAME), 3, "found only production's (1)");
    ran.expect_stderr("initContainers").expect_stderr("jobs that do not run at the moment");
    // Nodes have no folder of this machine unless somebody says so.
    let both = format!("{platform}\n{}\n", image(&site, NAME));
    let [merge, policy, in_use, list, ..] = &inputs(&site, &both);
    refused(
        &["--for", "openshift", merge, policy, in_use, list],
        2,
        "to be told where nodes find them; found file:///",
    )
    .expect_stderr("--lookaside-url");
    with("# nothing\n", 2, "it lists no image");
    for role in ["../x", &"x".repeat(64)] {
        let args = inputs(&site, &platform);
        let args: Vec<&str> = args.iter().map(String::as_str).chain(["--for", "openshift", "--role", role]).collect();
        refused(&args, 2, &format!("--role {role}: expected a name"));
    }
    // A key that is on the nodes alone.
    let args = inputs(&site, &platform);
    let mut nodes: Value = serde_json::from_slice(&fs::read(&args[1]).unwrap()).unwrap();
    nodes["transports"]["docker"]["quay.example"] =
        json!([{ "type": "signedBy", "keyType": "GPGKeys", "keyPath": "/nowhere/vendor.asc" }]);
    fs::write(&args[1], nodes.to_string()).unwrap();
    refused(&args.each_ref().map(String::as_str), 2, &format!("{}: the new policy cannot be used", args[1]))
        .expect_stderr("/nowhere/vendor.asc")
        .expect_stderr("copy it from a node to the same path");
    // Images in use are judged without a MachineConfig, too.
    let args = inputs(&site, &unsigned);
    refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), 3, "refuses 1 of 1 images in use");
}

#[test]
fn rules_that_the_cluster_made_of_image_policies_are_told() {
    if !need(NEEDS) {
        return;
    }
    let site = received();
    let key = signing::sigstore::generate_sigstore(None).unwrap().public_pem;
    let data = base64::engine::general_purpose::STANDARD.encode(key);
    let cosign =
        json!([{ "type": "sigstoreSigned", "keyData": data, "signedIdentity": { "type": "matchRepository" } }]);
    let inputs = inputs(&site, &platform(&site));
    let mut policy: Value = serde_json::from_slice(&fs::read(&inputs[1]).unwrap()).unwrap();
    policy["transports"]["docker"]["quay.example/release"] = cosign.clone();
    fs::write(&inputs[1], policy.to_string()).unwrap();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).chain(["--for", "openshift"]).collect();
    handover(&site, &inputs).expect_code(0).expect_stderr("the cluster seems to have image policies");
    let (_, config) = document(&site, "machine-config-worker.yaml");
    let files = ignition::files(&config["spec"]["config"], "3.2.0");
    let written: Value = serde_json::from_str(&files[POLICY]).unwrap();
    assert_eq!(written["transports"]["docker"]["quay.example/release"], cosign);
}

#[test]
fn images_in_use_are_found_where_nodes_find_them() {
    if !need(NEEDS) {
        return;
    }
    let site = received();
    let origin = format!("{}/payments/api", site.origin.host());
    let by_digest = format!("{origin}@{}", digest(&fixtures(), API));
    // The origin has no signatures; production, which stands in for it, has.
    let platform = platform(&site);
    let in_use = format!("{origin}:2.3.1\n{by_digest}\n{platform}\n");
    openshift(&site, &in_use, &["--mirrors", "both"]).expect_code(0);
    // The same without the image of others.
    openshift(&site, &format!("{origin}:2.3.1\n"), &["--mirrors", "both"])
        .expect_code(3)
        .expect_stderr("found only production's");
    openshift(&site, &in_use, &[]).expect_code(3);
    // Where it is can be said: the name decides, and the signatures are where the image is.
    let (named, there) = (format!("{}/platform/gone:1", site.origin.host()), image(&site, NAME));
    openshift(&site, &format!("{named} {there}\n"), &[]).expect_code(0);
    openshift(&site, &format!("{}/elsewhere/api:1 {there}\n", site.origin.host()), &[]).expect_code(3);
}

#[test]
fn what_nodes_have_in_registries_d_is_where_signatures_are_looked_for() {
    if !need(NEEDS) {
        return;
    }
    let mut site = received();
    let vendor = testkit::Key::new(&site.scratch("keys"), "vendor");
    site.sign_at_origin(&vendor);
    site.look_for_signatures();
    let in_use = site.scratch("nodes").join("images.txt");
    fs::write(&in_use, format!("{}/{NAME}\n{}\n", site.origin.host(), image(&site, NAME))).unwrap();
    let scope = format!("{}/payments={}", site.origin.host(), vendor.certificate_file.display());
    let others = site.scratch("registries.d");
    let run = |extra: &[&Path]| {
        let mut command = site.import(&["handover", "production", "--for", "openshift", "--platform-scope", &scope]);
        command.arg("--images-in-use").arg(&in_use).arg(folder(&site)).args(lookaside(&site));
        for folder in extra {
            command.arg("--node-registries-d").arg(folder);
        }
        run(&mut command)
    };
    run(&[]).expect_code(3).expect_stderr("there is no signature");
    run(&[&others]).expect_code(0);
    // What a hand-over before this one wrote is replaced on the nodes.
    let before = json!({ "docker": { image(&site, "payments"): { "lookaside": "file:///nowhere" } } });
    fs::write(others.join("sealift-production.yaml"), before.to_string()).unwrap();
    fs::write(&in_use, format!("{}\n{}/{NAME}\n", image(&site, NAME), site.origin.host())).unwrap();
    run(&[&others]).expect_code(0);
    run(&[&site.scratch("nodes").join("none")]).expect_code(2).expect_stderr("the folder cannot be read");
}

#[test]
fn a_rule_with_the_key_in_it_goes_when_it_is_no_longer_said() {
    if !need(NEEDS) {
        return;
    }
    let mut site = received();
    let platform = format!("{}/platform/api:1", site.origin.host());
    openshift(&site, &format!("{platform}\n{}", image(&site, NAME)), &[]).expect_code(0);
    let inputs = inputs(&site, &platform);
    fs::copy(folder(&site).join("policy.json"), &inputs[1]).unwrap();
    site.import["streams"]["payments"]["to"][0]["to"] = image(&site, "other").into();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).chain(["--for", "openshift", "--json"]).collect();
    let report = handover(&site, &inputs).expect_code(0).json();
    assert_eq!(report["merged"]["removed"], json!([image(&site, "payments")]));
}

#[test]
fn a_platform_key_in_the_policy_may_change_as_long_as_one_of_them_stays() {
    if !need(NEEDS) {
        return;
    }
    let site = received();
    let [first, second] = ["first", "second"].map(|name| testkit::Key::new(&site.scratch("keys"), name));
    let in_use = format!("{}/platform/api:1", site.origin.host());
    let file = site.scratch("keys").join("vendor.asc");
    let flag = format!("vendor.example={}", file.display());
    let hand_over = |keys: &[&testkit::Key]| {
        let texts: Vec<_> = keys.iter().map(|key| fs::read_to_string(&key.certificate_file).unwrap()).collect();
        fs::write(&file, texts.concat()).unwrap();
        let policy = folder(&site).join("policy.json");
        let inputs = inputs(&site, &in_use);
        if policy.exists() {
            fs::copy(policy, &inputs[1]).unwrap();
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).chain(["--for", "openshift"]).collect();
        handover(&site, &[&inputs[..], &["--platform-scope", &flag]].concat())
    };
    hand_over(&[&first]).expect_code(0);
    hand_over(&[&first, &second]).expect_code(0);
    hand_over(&[&second]).expect_code(0);
    hand_over(&[&first]).expect_code(2).expect_stderr("docker scope `vendor.example`: ");
}

#[test]
fn release_signatures_come_as_config_maps() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.import["production"]["release_signatures"] = "releases/".into();
    handover(&site, &[]).expect_code(0);
    assert!(!folder(&site).join("openshift").exists(), "there are none");
    let release = digest(&fixtures(), API);
    let name: manifest_schema::Reference = "quay.example/ocp/release:4".parse().unwrap();
    let sign = || site.release_key.secret.sign_simple(&name, &release, manifest_schema::Timestamp::now(), "t").unwrap();
    let tree = signing::Lookaside::new(site.import_dir().join("releases"));
    let (first, second) = (sign(), testkit::Key::new(&site.scratch("keys"), "other"));
    let second = second.secret.sign_simple(&name, &release, manifest_schema::Timestamp::now(), "t").unwrap();
    tree.add_release(&release, &first).unwrap();
    tree.add_release(&release, &second).unwrap();
    fs::write(site.import_dir().join("releases/notes.txt"), "mine").unwrap();
    let report = handover(&site, &["--json"]).expect_code(0).json();
    assert_eq!(report["releases"], json!([release]));
    names_what_is_there(&site);
    assert!(readme(&site).contains("openshift/release-signatures/  nothing on nodes"), "{}", readme(&site));
    let hex = release.hex();
    let (_, map) = document(&site, &format!("release-signatures/sha256-{hex}.yaml"));
    assert_eq!(map["metadata"]["namespace"], "openshift-config-managed");
    assert_eq!(map["metadata"]["labels"], json!({ "release.openshift.io/verification-signatures": "" }));
    let data = map["binaryData"].as_object().unwrap();
    let decoded = |n: u32| {
        let text = data[&format!("sha256-{hex}-{n}")].as_str().unwrap();
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    };
    assert_eq!((data.len(), decoded(1), decoded(2)), (2, first, second));
}

#[test]
fn the_signatures_of_a_withdrawn_release_are_not_handed_over() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    let release = digest(&fixtures(), API);
    let name: manifest_schema::Reference = "quay.example/ocp/release:4".parse().unwrap();
    let signed = site.release_key.secret.sign_simple(&name, &release, manifest_schema::Timestamp::now(), "t").unwrap();
    signing::Lookaside::new(site.import_dir().join("releases")).add_release(&release, &signed).unwrap();
    site.import["production"]["release_signatures"] = "releases/".into();
    let file = folder(&site).join(format!("openshift/release-signatures/sha256-{}.yaml", release.hex()));
    handover(&site, &[]).expect_code(0);
    assert!(file.exists());
    crate::production::import(&site, &["withdraw", &image(&site, NAME), "--reason", "CVE-2026-1"]).expect_code(0);
    handover(&site, &[])
        .expect_code(0)
        .expect_stderr(&format!("signatures of the release {release}: it was withdrawn"));
    assert!(!file.exists());
}

//! Planning: what would be packed, how large it is, and a plan that keeps what it saw.

#![allow(clippy::unwrap_used)]

use std::fs;

use serde_json::json;
use testkit::hostile::volume_file;
use testkit::layout::{API, BUSYBOX, NESTED, closure, digest, find, fixtures, repository_and_tag, with_platform};
use testkit::{Layout, Opened, Ran, Registry, Site, need, run};

fn plan(site: &Site, args: &[&str]) -> Ran {
    run(site.export(&["plan", "--sequence", "42"]).args(args))
}

/// The digest of a platform's manifest in an index of the fixtures.
fn child(name: &str, architecture: &str) -> String {
    let top = find(&fixtures(), name)["digest"].as_str().unwrap().parse().unwrap();
    let index: serde_json::Value = serde_json::from_slice(&testkit::layout::blob(&fixtures(), &top)).unwrap();
    let mut entries = index["manifests"].as_array().unwrap().iter();
    let entry = entries.find(|e| e["platform"]["architecture"] == architecture).unwrap();
    entry["digest"].as_str().unwrap().into()
}

#[test]
fn a_plan_says_what_would_be_packed_and_writes_nothing() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_fixtures(&[API, BUSYBOX]);
    let said = plan(&site, &[]).expect_code(0);
    for name in [API, BUSYBOX] {
        assert!(said.stdout.contains(&digest(&fixtures(), name).to_string()), "{said}");
    }
    let json = plan(&site, &["--json"]).expect_code(0).json();
    let (api, busybox) = (closure(&fixtures(), API), closure(&fixtures(), BUSYBOX));
    let size = |d: &manifest_schema::Digest| fs::metadata(fixtures().join(d.layout_path())).unwrap().len();
    assert_eq!(json["blobs"], api.union(&busybox).count());
    assert_eq!(json["bytes"], api.union(&busybox).map(size).sum::<u64>());
    let shared: u64 = api.intersection(&busybox).map(size).sum();
    assert!(shared > 0);
    assert_eq!(json["shared_bytes"], shared);
    assert_eq!(json["images"][0]["shared_bytes"], shared);
    assert_eq!(json["images"][0]["platforms"], json!(["linux/amd64", "linux/arm64/v8"]));
    assert!(fs::read_dir(site.media()).unwrap().next().is_none());
    assert!(!site.export_dir().join("home/.local/state/sealift").exists(), "a plan keeps no record");

    let bundle = site.packed(42);
    let at_most = json["volumes"][0]["at_most_bytes"].as_u64().unwrap();
    let is = fs::metadata(volume_file(&bundle, 1)).unwrap().len();
    assert!(is <= at_most && at_most < is * 3, "{is} bytes, planned at most {at_most}");
    assert_eq!(Opened::open(&bundle, 1, &site.identity).manifest()["blobs"].as_array().unwrap().len(), json["blobs"]);
}

#[test]
fn a_variable_that_is_empty_counts_as_none() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_fixtures(&[API]);
    let help = run(&mut site.export(&["plan", "--help"])).expect_code(0).stdout;
    let variables: Vec<_> = help.split("[env: ").skip(1).filter_map(|rest| rest.split_once('=')).map(|v| v.0).collect();
    assert!(variables.contains(&"SEALIFT_LABEL") && variables.contains(&"SEALIFT_ATTACH"), "{variables:?}");
    let empty = || variables.iter().map(|name| (*name, "")).chain([("SEALIFT_LOG", "")]);
    run(site.export(&["plan", "--sequence", "42"]).envs(empty())).expect_code(0);
    run(site.export(&["pack", "--sequence", "42"]).arg("--output").arg(site.media()).envs(empty())).expect_code(0);
    // What is given empty is not left out.
    run(&mut site.export(&["plan", "--sequence", "42", "--label", ""])).expect_code(2);

    let help = run(&mut site.import(&["receive", "--help"])).expect_code(0).stdout;
    let variables = help.split("[env: ").skip(1).filter_map(|rest| rest.split_once('=')).map(|v| (v.0, ""));
    run(site.import(&["receive"]).arg(site.media().join("payments-42")).envs(variables)).expect_code(0);
}

#[test]
fn a_locked_plan_packs_what_it_saw_although_the_tag_has_moved() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let seen = digest(&fixtures(), API);
    let lock = site.export_dir().join("release.lock.yaml");
    let locked = plan(&site, &["--lock", "release.lock.yaml"]).expect_code(0);
    assert!(fs::read_to_string(&lock).unwrap().contains(&seen.to_string()), "{locked}");
    plan(&site, &["--lock", "release.lock.yaml"]).expect_code(1).expect_stderr("release.lock.yaml");

    let moved = site.origin.load_layout(&fixtures(), BUSYBOX, "payments/api", "2.3.1");
    let mut pack = site.export(&["pack", "--file", "release.lock.yaml"]);
    let ran = run(pack.arg("--output").arg(site.media())).expect_code(0);
    assert!(ran.stderr.contains("the tag now names") && ran.stderr.contains(&moved.to_string()), "{ran}");
    let bundle = site.media().join("payments-42");
    let manifest = Opened::open(&bundle, 1, &site.identity).manifest();
    assert_eq!(manifest["images"][0]["digest"], seen.to_string());
    // The tag goes along, so that production gets it.
    site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(site.production.tags()["payments/api:2.3.1"], seen);
}

#[test]
fn a_locked_layout_is_packed_by_digest_under_its_name() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let mut layout = Layout::new();
    let (first, second) = (layout.image(&[b"first"]), layout.image(&[b"second"]));
    let seen = layout.name("1.0", &first);
    site.release["images"] =
        json!([format!("oci:{}:1.0=registry.dev.example/payments/web:1.0", layout.path().display())]);
    plan(&site, &["--lock", "release.lock.yaml"]).expect_code(0);
    layout.name("1.0", &second);
    plan(&site, &[]).expect_code(2).expect_stderr("more than once");
    let mut pack = site.export(&["pack", "--file", "release.lock.yaml"]);
    run(pack.arg("--output").arg(site.media())).expect_code(0);
    let manifest = Opened::open(&site.media().join("payments-42"), 1, &site.identity).manifest();
    assert_eq!(manifest["images"][0]["digest"], seen.to_string());
    assert_eq!(manifest["images"][0]["origin"], "registry.dev.example/payments/web:1.0");
}

#[test]
fn one_platform_of_an_index_is_packed_as_that_image() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let (index, amd64) = (digest(&fixtures(), API).to_string(), child(API, "amd64"));
    let said = plan(&site, &["--platform", "linux/amd64"]).expect_code(0);
    assert!(said.stdout.contains(&index) && said.stdout.contains(&amd64), "both digests\n{said}");
    let json = plan(&site, &["--platform", "linux/amd64", "--json"]).expect_code(0).json();
    assert_eq!((&json["images"][0]["digest"], &json["images"][0]["index_digest"]), (&json!(amd64), &json!(index)));
    site.pack(42, &["--platform", "linux/amd64"]).expect_code(0);
    let bundle = site.media().join("payments-42");
    site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(site.production.tags()["payments/api:2.3.1"].to_string(), amd64);
    assert_eq!(site.production.manifests().len(), 1, "nothing of the other platform");

    // A variant that is not asked for is taken; one that is not there is not.
    let arm64 = plan(&site, &["--platform", "linux/arm64", "--json"]).expect_code(0).json();
    assert_eq!(arm64["images"][0]["digest"], child(API, "arm64"));
    plan(&site, &["--platform", "linux/arm64/v7"]).expect_code(2).expect_stderr("none of the platforms");
    plan(&site, &["--platform", "windows/amd64"]).expect_code(2).expect_stderr("windows/amd64");
    // All the platforms there are: nothing is missing.
    let all = plan(&site, &["--platform", "linux/amd64,linux/arm64", "--json"]).expect_code(0).json();
    assert_eq!((&all["images"][0]["digest"], &all["images"][0]["sparse"]), (&json!(index), &json!(false)));
}

#[test]
fn some_platforms_of_more_leave_a_sparse_index_which_must_be_asked_for() {
    if !need(Site::NEEDS) {
        return;
    }
    let origin = Registry::start();
    let mut layout = Layout::new();
    let entries: Vec<_> = ["amd64", "arm64", "s390x"]
        .iter()
        .map(|a| with_platform(layout.image_for(a, &[b"base", a.as_bytes()]), a, None))
        .collect();
    let index = layout.index(&entries);
    layout.name("x", &index);
    origin.load_layout(layout.path(), "x", "payments/multi", "1");
    let mut site = Site::between(origin, Registry::start());
    site.release["images"] = json!([format!("{}/payments/multi:1", site.origin.host())]);
    let two = ["--platform", "linux/amd64", "--platform", "linux/arm64"];
    let refused = plan(&site, &two).expect_code(2).expect_stderr("missing entries");
    assert!(refused.stderr.contains("--sparse-index"), "{refused}");
    let json = plan(&site, &[&two[..], &["--sparse-index", "--json"]].concat()).expect_code(0).json();
    assert_eq!((&json["images"][0]["digest"], &json["images"][0]["sparse"]), (&index["digest"], &json!(true)));
    assert_eq!(json["images"][0]["platforms"], json!(["linux/amd64", "linux/arm64"]));

    site.pack(42, &[&two[..], &["--sparse-index"]].concat()).expect_code(0);
    let manifest = Opened::open(&site.media().join("payments-42"), 1, &site.identity).manifest();
    let listed = manifest["blobs"].to_string();
    assert_eq!(manifest["images"][0]["sparse"], true);
    for (entry, there) in entries.iter().zip([true, true, false]) {
        assert_eq!(listed.contains(entry["digest"].as_str().unwrap()), there, "{entry}");
    }
}

#[test]
fn images_come_from_a_file_and_each_name_stands_for_one() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let at = |name: &str| {
        let (repository, tag) = repository_and_tag(name);
        format!("{}/{repository}:{tag}", site.origin.host())
    };
    let (api, busybox, nested) = (at(API), at(BUSYBOX), at(NESTED));
    let list = format!("# the release\n\n  {busybox}  \ndocker://{nested}\r\n{api}\n");
    fs::write(site.export_dir().join("images.txt"), list).unwrap();
    // The release file has the API already; what is named twice is packed once.
    let json = plan(&site, &["--images-file", "images.txt", "--json"]).expect_code(0).json();
    let origins: Vec<_> = json["images"].as_array().unwrap().iter().map(|i| i["origin"].as_str().unwrap()).collect();
    assert_eq!(origins, [api.as_str(), &busybox, &nested]);
    plan(&site, &["--images-file", "nothing.txt"]).expect_code(2).expect_stderr("nothing.txt");

    let layout = format!("oci:{}:{BUSYBOX}={api}", fixtures().display());
    let two = plan(&site, &[&layout]).expect_code(2).expect_stderr("stands for two images");
    for name in [API, BUSYBOX] {
        assert!(two.stderr.contains(&digest(&fixtures(), name).to_string()), "{two}");
    }
    site.release["images"] = json!([]);
    plan(&site, &["registry.dev.example/x:1\u{1b}"]).expect_code(2);
}

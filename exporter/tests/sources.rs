//! The same image from a registry, a layout and archives; and sources that are damaged.

#![allow(clippy::unwrap_used)]

use std::fs;

use serde_json::json;
use testkit::hostile::flip_bit;
use testkit::layout::{API, BUSYBOX, LEGACY, SHA512, closure, digest, fixtures};
use testkit::{Layout, Opened, Ran, Site, command, need, run, run_ok};

fn plan(site: &Site, image: &str) -> Ran {
    run(&mut site.export(&["plan", "--sequence", "42", "--json", image]))
}

/// A site whose release lists nothing yet.
fn site() -> Site {
    let mut site = Site::new();
    site.release["images"] = json!([]);
    site
}

#[test]
fn every_source_gives_the_same_digests() {
    if !need(&["docker-registry", "skopeo"]) {
        return;
    }
    let site = site();
    let name = "registry.dev.example/payments/api:2.3.1";
    let archive = site.scratch("archives").join("api.tar");
    // skopeo writes an archive of an image for one platform, or of all.
    let from = format!("oci:{}:{API}", fixtures().display());
    let to = format!("oci-archive:{}:{API}", archive.display());
    run_ok(command("skopeo", &site.scratch("home")).args(["--insecure-policy", "copy", "--all", &from, &to]));
    let folder = format!("dir:{}", site.scratch("folders").join("api").display());
    run_ok(command("skopeo", &site.scratch("home")).args(["--insecure-policy", "copy", "--all", &from, &folder]));
    let expected = digest(&fixtures(), API).to_string();
    for image in [
        format!("docker://{}/payments/api:2.3.1", site.origin.host()),
        format!("{}/payments/api@{expected}", site.origin.host()),
        format!("oci:{}:{API}", fixtures().display()),
        format!("oci:{}@{expected}={name}", fixtures().display()),
        format!("oci-archive:{}:{API}", archive.display()),
        format!("oci-archive:{}", archive.display()),
        format!("{folder}={name}"),
        format!("{folder}@{expected}={name}"),
    ] {
        let report = plan(&site, &image).expect_code(0).json();
        assert_eq!(report["images"][0]["digest"], expected, "{image}");
        assert_eq!(report["blobs"], closure(&fixtures(), API).len(), "{image}");
        if !image.contains(site.origin.host()) {
            assert_eq!(report["images"][0]["origin"], name, "{image}");
        }
    }
}

#[test]
fn a_docker_archive_is_packed_as_the_image_it_holds() {
    if !need(&["docker-registry", "skopeo"]) {
        return;
    }
    let mut site = site();
    let archive = site.scratch("archives").join("busybox.tar");
    let from = format!("docker://{}/payments/busybox:1.36", site.origin.host());
    let to = format!("docker-archive:{}:{BUSYBOX}", archive.display());
    let skopeo = ["--insecure-policy", "--override-os", "linux", "--override-arch", "amd64", "copy"];
    run_ok(command("skopeo", &site.scratch("home")).args(skopeo).args(["--src-tls-verify=false", &from, &to]));
    let image = format!("docker-archive:{}", archive.display());
    let (once, twice) = (plan(&site, &image).expect_code(0).json(), plan(&site, &image).expect_code(0).json());
    assert_eq!(once, twice, "the same archive gives the same digests");
    assert_eq!(once["images"][0]["origin"], BUSYBOX);

    site.list_from_layout(BUSYBOX);
    site.release["images"] = json!([image]);
    let bundle = site.packed(42);
    site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(
        site.production.tags()["payments/busybox:1.36"].to_string(),
        once["images"][0]["digest"].as_str().unwrap()
    );
    site.skopeo_verifies("payments/busybox", "1.36").expect_code(0);
}

#[test]
fn an_image_by_sha512_is_carried_and_opened_with_stock_tools() {
    if !need(&["docker-registry", "age", "zstd", "tar", "sha512sum"]) {
        return;
    }
    let mut site = Site::new();
    site.list_from_layout(SHA512);
    let bundle = site.packed(42);
    let layout = site.unpack_with_stock_tools(&bundle);
    let digests = closure(&fixtures(), SHA512);
    assert!(digests.iter().all(|d| d.to_string().starts_with("sha512:")));
    for digest in digests {
        let sum = run_ok(command("sha512sum", &layout).arg(layout.join(digest.layout_path()))).stdout;
        assert_eq!(sum.split(' ').next().unwrap(), digest.hex());
    }
    assert_eq!(testkit::layout::digest(&layout, SHA512), digest(&fixtures(), SHA512));
    run(site.import(&["verify"]).arg(&bundle)).expect_code(0);
    // Debian's registry knows SHA-256 only; it says so, and nothing is published.
    site.receive(&bundle, &[]).expect_code(1).expect_stderr("nothing was published");
    assert!(site.production.tags().is_empty());
}

#[test]
fn several_sources_make_one_bundle() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_from_layout(LEGACY);
    let from_layout = site.release["images"][0].clone();
    let from_registry = format!("{}/payments/api:2.3.1", site.origin.host());
    site.release["images"] = json!([from_registry, from_layout]);
    let bundle = site.packed(42);
    let manifest = Opened::open(&bundle, 1, &site.identity).manifest();
    assert_eq!(manifest["images"][0]["origin"], from_registry);
    assert_eq!(manifest["images"][1]["origin"], LEGACY);
    // The stream may claim the layout's names only.
    site.receive(&bundle, &[]).expect_code(3).expect_stderr(&from_registry);
    let stream = &mut site.import["streams"]["payments"];
    stream["origins"] = json!([format!("{}/payments", site.origin.host()), "registry.dev.example/payments"]);
    let to = format!("{}/payments", site.production.host());
    stream["to"] = json!([
        { "from": format!("{}/payments", site.origin.host()), "to": to },
        { "from": "registry.dev.example/payments", "to": to },
    ]);
    site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(site.production.tags().len(), 2);
}

#[test]
fn a_damaged_source_is_named_and_nothing_is_sealed() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let mut layout = Layout::new();
    let image = layout.image(&[b"one", b"two"]);
    layout.name("registry.dev.example/payments/x:1", &image);
    site.release["images"] = json!([format!("oci:{}", layout.path().display())]);
    let blobs = layout.path().join("blobs/sha256");
    let files: Vec<_> = fs::read_dir(&blobs).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), 4);
    for file in &files {
        let good = fs::read(file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        flip_bit(file);
        site.pack(42, &[]).expect_code(1).expect_stderr(name);
        fs::write(file, &good[1..]).unwrap();
        site.pack(42, &[]).expect_code(1).expect_stderr(name);
        fs::remove_file(file).unwrap();
        site.pack(42, &[]).expect_code(2).expect_stderr(&format!("{name} is missing"));
        fs::write(file, good).unwrap();
        assert!(!site.media().join("payments-42").exists());
    }
    site.packed(42);

    let nowhere = format!("oci:{}", site.scratch("empty").display());
    plan(&site, &nowhere).expect_code(2);
    for wrong in ["dir:/tmp", "oci:", "docker-daemon:x:1", "oci:/tmp:x=not a name"] {
        plan(&site, wrong).expect_code(2);
    }
}

//! Several images resolved at once: what comes of it is what one after the other gives.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::{MediaType, Timestamp};
use serde_json::{Value, json};
use testkit::hostile::MANIFEST;
use testkit::layout::blob;
use testkit::modern::{Features, Modern};
use testkit::proxy::{Handler, Seen};
use testkit::{Fault, Layout, Opened, Proxy, Ran, Registry, Rule, Site, need, run};

const IMAGES: usize = 12;

/// A layout of images, some for two platforms; they share a layer.
fn layout() -> Layout {
    let mut layout = Layout::new();
    for number in 0..IMAGES {
        let own = format!("image {number}");
        let layers = [b"shared".as_slice(), own.as_bytes()];
        let image = if number % 3 == 0 { layout.multi(&layers) } else { layout.image(&layers) };
        layout.name(&format!("r.example/many/image-{number}:1"), &image);
    }
    layout
}

/// A registry with these images.
fn load(registry: &Registry, layout: &Layout) {
    for number in 0..IMAGES {
        let name = format!("r.example/many/image-{number}:1");
        registry.load_layout(layout.path(), &name, &format!("many/image-{number}"), "1");
    }
}

fn names(host: &str) -> Vec<String> {
    (0..IMAGES).map(|number| format!("{host}/many/image-{number}:1")).collect()
}

fn plan(site: &Site, jobs: &str) -> Ran {
    let platforms = ["--platform", "linux/amd64,linux/arm64,linux/s390x"];
    run(site.export(&["plan", "--sequence", "42", "--json", "--jobs", jobs]).args(platforms))
}

/// A manifest that refers to a document, or a cosign signature.
fn artifact(registry: &Registry, repository: &str, tag: Option<&str>, extra: Value) {
    let config = blobs::sha256(b"{}");
    registry.put_blob(repository, &config, b"{}");
    let empty = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": config.to_string(), "size": 2 });
    let mut manifest =
        json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": empty, "layers": [empty] });
    manifest.as_object_mut().unwrap().append(extra.clone().as_object_mut().unwrap());
    let bytes = manifest.to_string().into_bytes();
    let reference = tag.map_or_else(|| blobs::sha256(&bytes).to_string(), String::from);
    registry.put_manifest(repository, &reference, MediaType::OCI_MANIFEST, &bytes);
}

/// A site whose origin keeps signatures and referrers of all kinds, and the servers that do so.
fn attached() -> (Site, Modern, Proxy) {
    let modern = Modern::start(Features { referrers: true, page: 0, signatures: true });
    let lookaside = Proxy::alone();
    let layout = layout();
    let mut site = Site::between(Registry::start(), Registry::start());
    load(modern.registry(), &layout);
    let mut images = names(modern.host());
    for (number, name) in images.iter_mut().enumerate() {
        let repository = format!("many/image-{number}");
        let top = testkit::layout::find(layout.path(), &format!("r.example/{repository}:1"));
        let digest: manifest_schema::Digest = top["digest"].as_str().unwrap().parse().unwrap();
        let subject = json!({ "mediaType": top["mediaType"], "digest": top["digest"], "size": top["size"] });
        let sbom = json!({ "artifactType": "application/spdx+json", "subject": subject });
        artifact(modern.registry(), &repository, None, sbom);
        let tag = format!("sha256-{}.sig", digest.hex());
        artifact(modern.registry(), &repository, Some(&tag), json!({ "annotations": { "of": number.to_string() } }));
        let sign = |creator: &str| {
            site.release_key.secret.sign_simple(&name.parse().unwrap(), &digest, Timestamp::now(), creator).unwrap()
        };
        let entry = json!({
            "schemaVersion": 2, "name": format!("{digest}@{number:032}"), "type": "atomic", "content": STANDARD.encode(sign("registry")),
        });
        modern.keep_signature(&repository, &digest, entry);
        let path = format!("/{repository}@sha256={}/signature-1", digest.hex());
        lookaside.rule(Rule::new(Fault::Answer(200, Vec::new(), sign("lookaside"))).path(&path));
        if number % 4 == 1 {
            // Its tag names another image by now, of which is told.
            *name = format!("{name}@{digest}");
            let other = format!("r.example/many/image-{}:1", number + 1);
            modern.registry().load_layout(layout.path(), &other, &repository, "1");
        }
    }
    site.release["images"] = json!(images);
    let configuration = site.scratch("registries.d");
    let section = json!({ "docker": { modern.host(): { "lookaside": lookaside.url() } } });
    std::fs::write(configuration.join("origin.yaml"), section.to_string()).unwrap();
    site.release["registries_d"] = json!([configuration]);
    (site, modern, lookaside)
}

#[test]
fn plan_and_manifest_do_not_depend_on_how_many_images_are_resolved_at_once() {
    if !need(Site::NEEDS) {
        return;
    }
    let (site, _modern, _lookaside) = attached();
    let (one, many) = (plan(&site, "1").expect_code(0), plan(&site, "8").expect_code(0));
    assert_eq!(one.stdout, many.stdout);
    assert_eq!(one.stderr, many.stderr);
    assert_eq!(one.stderr.matches("has no linux/s390x").count(), IMAGES.div_ceil(3), "{one}");
    assert_eq!(one.stderr.matches("the tag now names").count(), IMAGES.div_ceil(4), "{one}");
    for image in one.json()["images"].as_array().unwrap() {
        let found: Vec<_> =
            image["evidence"].as_array().unwrap().iter().map(|e| e["found"].as_str().unwrap()).collect();
        assert_eq!(found, ["registry", "lookaside", "referrers", ".sig"], "{image}");
    }
    let manifest = |jobs: &str| {
        let mut pack = site.export(&["pack", "--sequence", "42", "--jobs", jobs]);
        pack.args(["--bundle-id", "01890a5d-ac96-774b-bcce-b302099a8057"]).env("SOURCE_DATE_EPOCH", "1767225600");
        pack.arg("--output").arg(site.scratch(jobs)).arg("--state").arg(site.scratch(&format!("{jobs}-state")));
        run(&mut pack).expect_code(0);
        Opened::open(&site.scratch(jobs).join("payments-42"), 1, &site.identity).content(MANIFEST).to_vec()
    };
    assert_eq!(manifest("1"), manifest("8"));
}

#[test]
fn the_first_error_is_told_however_many_images_are_resolved_at_once() {
    if !need(Site::NEEDS) {
        return;
    }
    let registry = Registry::start();
    load(&registry, &layout());
    let proxy = Proxy::before(&registry);
    let mut site = Site::between(Registry::start(), Registry::start());
    let both = |site: &Site| {
        let (one, many) = (plan(site, "1").expect_code(1), plan(site, "8").expect_code(1));
        assert_eq!((&one.stdout, &one.stderr), (&many.stdout, &many.stderr));
        one.stderr
    };
    // What is attached to either cannot be had.
    let mut images = names(proxy.host());
    site.release["images"] = json!(images);
    for number in [5, 7] {
        let path = format!("/image-{number}/manifests/sha256-");
        proxy.rule(Rule::new(Fault::status(403)).path(&path));
    }
    let said = both(&site);
    assert!(said.contains("image-5") && !said.contains("image-7"), "{said}");
    // One is not there; the other is refused before that is known.
    proxy.clear();
    images[5] = images[5].replace("image-5", "missing");
    site.release["images"] = json!(images);
    proxy.rule(Rule::new(Fault::Delay(Duration::from_millis(300))).path("/missing/"));
    proxy.rule(Rule::new(Fault::status(403)).path("/image-7/"));
    let said = both(&site);
    assert!(said.contains("missing") && !said.contains("image-7"), "{said}");
}

/// Answers for manifests and for referrers only once so many requests of a kind are there.
struct Together {
    manifests: BTreeMap<String, Vec<u8>>,
    wanted: usize,
    /// The requests there now, and the most there were, by kind.
    there: Mutex<BTreeMap<&'static str, (usize, usize)>>,
    changed: Condvar,
}

impl Together {
    fn kind(seen: &Seen) -> Option<&'static str> {
        ["/manifests/1", "/referrers/"].into_iter().find(|part| seen.path.contains(part))
    }
}

impl Handler for Together {
    fn wants(&self, seen: &Seen) -> bool {
        Self::kind(seen).is_some()
    }

    fn answer(&self, seen: &Seen, _: &[u8]) -> (u16, Vec<(String, String)>, Vec<u8>) {
        let kind = Self::kind(seen).unwrap();
        let mut there = self.there.lock().unwrap();
        let (now, most) = there.entry(kind).or_default();
        *now += 1;
        *most = (*now).max(*most);
        self.changed.notify_all();
        let few = |all: &mut BTreeMap<_, (usize, usize)>| all[kind].1 < self.wanted;
        let (there, _) = self.changed.wait_timeout_while(there, Duration::from_secs(20), few).unwrap();
        drop(there);
        // One too many has time to come.
        std::thread::sleep(Duration::from_millis(100));
        let mut there = self.there.lock().unwrap();
        there.get_mut(kind).unwrap().0 -= 1;
        let index = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [] });
        let (media_type, body) = match kind {
            "/referrers/" => (MediaType::OCI_INDEX, index.to_string().into_bytes()),
            _ => (MediaType::OCI_MANIFEST, self.manifests[&seen.path].clone()),
        };
        (200, vec![("Content-Type".into(), media_type.into())], body)
    }
}

#[test]
fn images_are_asked_for_at_once_and_no_more_than_was_said() {
    if !need(Site::NEEDS) {
        return;
    }
    let registry = Registry::start();
    let layout = layout();
    load(&registry, &layout);
    let wanted: Vec<_> = (0..IMAGES).filter(|number| number % 3 != 0).collect();
    let manifest = |number: &usize| {
        let digest = testkit::layout::digest(layout.path(), &format!("r.example/many/image-{number}:1"));
        (format!("/v2/many/image-{number}/manifests/1"), blob(layout.path(), &digest))
    };
    let together = Arc::new(Together {
        manifests: wanted.iter().map(manifest).collect(),
        wanted: 4,
        there: Mutex::default(),
        changed: Condvar::new(),
    });
    let proxy = Proxy::with_handler(registry.host(), together.clone());
    let mut site = Site::between(Registry::start(), Registry::start());
    let names: Vec<_> = wanted.iter().map(|number| format!("{}/many/image-{number}:1", proxy.host())).collect();
    site.release["images"] = json!(names);
    plan(&site, "4").expect_code(0);
    let most: Vec<_> = together.there.lock().unwrap().values().map(|(_, most)| *most).collect();
    assert_eq!(most, [4, 4]);
}

#[test]
fn what_several_images_have_in_common_is_asked_for_once() {
    if !need(Site::NEEDS) {
        return;
    }
    let registry = Registry::start();
    let layout = layout();
    let shared = "r.example/many/image-0:1";
    for tag in ["1", "2", "3"] {
        registry.load_layout(layout.path(), shared, "many/shared", tag);
    }
    let index: Value =
        serde_json::from_slice(&blob(layout.path(), &testkit::layout::digest(layout.path(), shared))).unwrap();
    for jobs in ["1", "8"] {
        let proxy = Proxy::before(&registry);
        let mut site = Site::between(Registry::start(), Registry::start());
        site.release["images"] = json!(["1", "2", "3"].map(|tag| format!("{}/many/shared:{tag}", proxy.host())));
        plan(&site, jobs).expect_code(0);
        for child in index["manifests"].as_array().unwrap() {
            let digest = child["digest"].as_str().unwrap();
            assert_eq!(proxy.count("GET", &format!("/manifests/{digest}")), 1, "{jobs} jobs");
            let tag = digest.replace(':', "-");
            assert_eq!(proxy.count("GET", &format!("/manifests/{tag}.sig")), 1, "{jobs} jobs");
        }
        assert_eq!(["1", "2", "3"].map(|tag| proxy.count("GET", &format!("/manifests/{tag}"))), [1; 3]);
    }
}

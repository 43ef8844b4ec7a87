//! OpenShift releases: a signed release image vouches for every image that it lists by digest.
//!
//! The payload has the shape of a real one (openshift/oc `pkg/cli/admin/release`, openshift/cluster-version-operator):
//! component images without signatures of their own, and a release image whose topmost layer holds
//! `release-manifests/image-references`, signed under its digest in a store `sha256=<hex>/signature-<N>`.

use std::fs;
use std::path::{Path, PathBuf};

use manifest_schema::{Digest, MediaType, Reference, Timestamp};
use serde_json::{Value, json};
use testkit::layout::tar_of;
use testkit::{Key, Layout, Registry, Site, need, run_ok};

use crate::common::{self, Leaves, World};
use crate::{set_policy, signed_by};

const RELEASE: &str = "ocp/release:4.14.1-x86_64";
const PATH: &str = "release-manifests/image-references";

struct Payload {
    site: Site,
    key: Key,
    /// The release image.
    release: Digest,
    /// The images that it lists.
    components: Vec<Digest>,
    /// The store of its signatures.
    store: PathBuf,
}

/// The list of a release, as `oc adm release new` writes it.
fn image_references(host: &str, components: &[(&str, Digest)]) -> String {
    let tag = |(name, digest): &(&str, Digest)| {
        json!({
            "name": name,
            "annotations": { "io.openshift.build.commit.id": "" },
            "from": { "kind": "DockerImage", "name": format!("{host}/ocp/art-dev@{digest}") },
            "generation": 2, "importPolicy": {}, "referencePolicy": { "type": "Source" },
        })
    };
    json!({
        "kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
        "metadata": { "name": "4.14.1", "creationTimestamp": "2026-01-31T09:00:00Z" },
        "spec": { "lookupPolicy": { "local": false }, "tags": components.iter().map(tag).collect::<Vec<_>>() },
        "status": { "dockerImageRepository": "" },
    })
    .to_string()
}

fn payload() -> Payload {
    let site = Site::between(Registry::start(), Registry::start());
    let key = Key::new(&site.scratch("keys"), "openshift");
    let store = site.scratch("store");
    let mut layout = Layout::new();
    let base = tar_of("etc/os-release", b"base");
    let mut components = Vec::new();
    for name in ["cli", "cluster-version-operator"] {
        let image = layout.image_of("amd64", &[base.clone(), tar_of("usr/bin/it", name.as_bytes())]);
        let digest = layout.name(name, &image);
        site.origin.load_layout(layout.path(), name, "ocp/art-dev", name);
        components.push(digest);
    }
    let names = ["cli", "cluster-version-operator"];
    let listed: Vec<(&str, Digest)> = names.into_iter().zip(components.iter().copied()).collect();
    let list = image_references(site.origin.host(), &listed);
    let image = layout.image_of("amd64", &[base.clone(), tar_of(PATH, list.as_bytes())]);
    let release = layout.name("release", &image);
    let (repository, tag) = RELEASE.rsplit_once(':').unwrap();
    site.origin.load_layout(layout.path(), "release", repository, tag);
    let mut payload = Payload { site, key, release, components, store };
    sign(&payload, &payload.release);
    let host = payload.site.origin.host().to_string();
    let release = &mut payload.site.release;
    release["images"] = json!([format!("{host}/{RELEASE}")]);
    release["release"] = true.into();
    release["release_signatures"] = json!([payload.store]);
    let stream = &mut payload.site.import["streams"]["payments"];
    stream["origins"] = json!([format!("{host}/ocp")]);
    stream["releases"] = json!([format!("{host}/ocp/release")]);
    stream["to"] =
        json!([{ "from": format!("{host}/ocp"), "to": format!("{}/openshift", payload.site.production.host()) }]);
    let policy = json!({ format!("{host}/ocp"): [signed_by(&payload.key.certificate_file)] });
    set_policy(&mut payload.site, policy);
    payload
}

/// Signs a release image as the store has it.
fn sign(payload: &Payload, digest: &Digest) {
    sign_as(payload, &format!("{}/{RELEASE}", payload.site.origin.host()), digest);
}

fn sign_as(payload: &Payload, reference: &str, digest: &Digest) {
    let reference: Reference = reference.parse().unwrap();
    let signature = payload.key.secret.sign_simple(&reference, digest, Timestamp::now(), "test").unwrap();
    let folder = payload.store.join(format!("sha256={}", digest.hex()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("signature-1"), signature).unwrap();
}

#[test]
fn a_signed_release_vouches_for_its_images() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut payload = payload();
    let site = &mut payload.site;
    site.import["production"]["release_signatures"] = "release-signatures".into();
    // Somebody else's signature, which is carried, and not handed over.
    let reference = format!("{}/{RELEASE}", site.origin.host()).parse().unwrap();
    let other = Key::new(&site.scratch("keys"), "other").secret;
    let other = other.sign_simple(&reference, &payload.release, Timestamp::now(), "test").unwrap();
    fs::write(payload.store.join(format!("sha256={}/signature-2", payload.release.hex())), other).unwrap();
    let bundle = site.packed(1);
    let inspected = run_ok(site.import(&["inspect"]).arg(&bundle));
    let listed = format!("listed by the release image {}", payload.release);
    assert_eq!(inspected.stdout.matches(&listed).count(), 2, "{inspected}");
    site.receive(&bundle, &[]).expect_code(0);

    let tags = site.production.tags();
    assert_eq!(tags["openshift/release:4.14.1-x86_64"], payload.release);
    for digest in &payload.components {
        assert_eq!(tags[&format!("openshift/art-dev:sealift-{}", &digest.hex()[..16])], *digest);
    }
    let shown = run_ok(&mut site.import(&["ledger", "show", "payments-1", "--json"])).json();
    let recorded = shown["entries"].as_array().unwrap().iter().find_map(|e| e["act"].get("recorded")).unwrap().clone();
    let vouched: Vec<&Value> = recorded["images"].as_array().unwrap().iter().map(|i| &i["vouched"]).collect();
    assert!(vouched[0].get("policy").is_some(), "{recorded}");
    assert_eq!(vouched[1], &json!({ "release": { "by": payload.release.to_string() } }));
    assert_eq!(vouched[2], vouched[1]);

    // Handed over: the store's layout, and the form a cluster takes.
    let folder = site.import_dir().join("release-signatures");
    let hex = payload.release.hex();
    let original = fs::read(payload.store.join(format!("sha256={hex}/signature-1"))).unwrap();
    assert!(fs::read(folder.join(format!("sha256={hex}/signature-1"))).unwrap() == original);
    let map: Value = serde_json::from_slice(&fs::read(folder.join(format!("sha256-{hex}.json"))).unwrap()).unwrap();
    assert_eq!((&map["kind"], &map["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    assert_eq!(map["metadata"]["namespace"], "openshift-config-managed");
    assert_eq!(map["metadata"]["labels"], json!({ "release.openshift.io/verification-signatures": "" }));
    let encoded = map["binaryData"][format!("sha256-{hex}-1")].as_str().unwrap();
    assert!(decoded(&site.scratch("decode"), encoded) == original);

    assert_eq!(map["binaryData"].as_object().unwrap().len(), 1);

    // Again: nothing is written twice.
    site.receive(&site.packed(2), &[]).expect_code(0);
    assert!(!folder.join(format!("sha256={hex}/signature-2")).exists());

    // A store that does not answer.
    let file = payload.store.join(format!("sha256={hex}/signature-1"));
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    payload.site.pack(3, &[]).expect_code(1).expect_stderr("signature-1");
}

/// base64, as `base64 -d` of the system reads it.
fn decoded(folder: &Path, text: &str) -> Vec<u8> {
    fs::write(folder.join("text"), text).unwrap();
    run_ok(testkit::command("sh", folder).arg("-c").arg("base64 -d text >bytes").current_dir(folder));
    fs::read(folder.join("bytes")).unwrap()
}

#[test]
fn what_no_signed_release_lists_is_refused() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut payload = payload();
    let host = payload.site.origin.host().to_string();
    let refused = |site: &Site, bundle: &Path, reason: &str| {
        let before = World::of(site);
        let ran = site.receive(bundle, &[]).expect_code(3);
        assert!(ran.stderr.contains(reason), "expected {reason}\n{ran}");
        before.leaves_only(Leaves::Refusal, &World::of(site)).unwrap();
    };

    // A component alone.
    let release = payload.site.release.clone();
    payload.site.release["release"] = false.into();
    payload.site.release["images"] = json!([format!("{host}/ocp/art-dev@{}", payload.components[0])]);
    let bundle = payload.site.packed(1);
    refused(&payload.site, &bundle, "there is no signature");

    payload.site.release = release.clone();
    let bundle = payload.site.packed(2);
    // Nothing vouches for anything where no origin of releases is configured.
    let releases = payload.site.import["streams"]["payments"]["releases"].take();
    for elsewhere in [json!([]), json!([format!("{host}/ocp/art-dev")])] {
        payload.site.import["streams"]["payments"]["releases"] = elsewhere;
        refused(&payload.site, &bundle, "there is no signature");
    }
    payload.site.import["streams"]["payments"]["releases"] = releases;
    // What the policy rejects by name stays rejected.
    let policy = |art: Value| {
        json!({
            format!("{host}/ocp"): [signed_by(&payload.key.certificate_file)],
            format!("{host}/ocp/art-dev"): [art],
        })
    };
    let reject = policy(json!({ "type": "reject" }));
    set_policy(&mut payload.site, reject);
    refused(&payload.site, &bundle, "the policy refuses every image here");
    set_policy(&mut payload.site, json!({ format!("{host}/ocp"): [signed_by(&payload.key.certificate_file)] }));

    // An image that the release lists, under another name.
    for name in [format!("{host}/ocp/art-dev:cli"), format!("{host}/ocp/api@{}", payload.components[0])] {
        let forged = forge(&payload.site, &bundle, |m| {
            let images = m["images"].as_array_mut().unwrap();
            let component = images.iter_mut().find(|i| i["digest"] == payload.components[0].to_string()).unwrap();
            component["origin"] = name.into();
        });
        refused(&payload.site, &forged, "there is no signature");
    }
    // An image that only another release lists, whose origin is none of releases, though the same key signed it.
    let mut layout = Layout::new();
    let list = |digest: Digest| tar_of(PATH, image_references(&host, &[("it", digest)]).as_bytes());
    // The first has another list further down, which its own hides.
    let hidden = list(payload.components[1]);
    for (name, layers) in [("one", vec![hidden.clone(), list(payload.components[0])]), ("two", vec![hidden.clone()])] {
        let image = layout.image_of("amd64", &layers);
        let digest = layout.name(name, &image);
        payload.site.origin.load_layout(layout.path(), name, &format!("ocp/release-{name}"), "1");
        sign_as(&payload, &format!("{host}/ocp/release-{name}:1"), &digest);
    }
    payload.site.release["images"] = json!([format!("{host}/ocp/release-one:1"), format!("{host}/ocp/release-two:1")]);
    let two = payload.site.packed(20);
    let releases = payload.site.import["streams"]["payments"]["releases"].clone();
    payload.site.import["streams"]["payments"]["releases"] = json!([format!("{host}/ocp/release-one")]);
    let shown = forge(&payload.site, &two, |m| {
        let lower = blobs::sha256(&hidden).to_string();
        m["images"][0]["release"][0]["layers"].as_array_mut().unwrap().insert(0, json!(lower));
        let blob = m["blobs"].as_array_mut().unwrap().iter_mut().find(|b| b["digest"] == lower).unwrap();
        blob["section"] = "admission".into();
    });
    for bundle in [&two, &shown] {
        let reason = format!("art-dev@{}: the image policy refuses", payload.components[1]);
        refused(&payload.site, bundle, &reason);
    }
    payload.site.import["streams"]["payments"]["releases"] =
        json!([format!("{host}/ocp/release-one"), format!("{host}/ocp/release-two")]);
    testkit::run(payload.site.import(&["receive", "--dry-run"]).arg(&two)).expect_code(0);
    payload.site.import["streams"]["payments"]["releases"] = releases;
    payload.site.release = release;

    let forged = forge(&payload.site, &bundle, |m| {
        // The sender claims another layer to be the list.
        let other = m["images"][1]["platforms"][0]["digest"].clone();
        m["images"][0]["release"][0]["manifest"] = other;
    });
    refused_at_parsing(&payload.site, &forged, "is not one of its image manifests");
    let forged = forge(&payload.site, &bundle, |m| {
        m["images"][0].as_object_mut().unwrap().remove("release");
    });
    refused(&payload.site, &forged, "the image policy refuses");
    // Layers that are not the topmost ones: the configuration, and a lower one, which another could hide.
    let image: Value = serde_json::from_slice(
        &payload.site.origin.get(&format!("/v2/ocp/release/manifests/{}", payload.release)).body,
    )
    .unwrap();
    for other in [image["config"]["digest"].clone(), image["layers"][0]["digest"].clone()] {
        let forged = forge(&payload.site, &bundle, |m| {
            m["images"][0]["release"][0]["layers"] = json!([other]);
            // So that it stands where it is claimed to.
            let blobs = m["blobs"].as_array_mut().unwrap();
            let at = blobs.iter().position(|b| b["digest"] == other).unwrap();
            if blobs[at]["section"] == "layers" {
                blobs[at]["section"] = "admission".into();
                let layers_begin = blobs.iter().position(|b| b["section"] == "layers").unwrap();
                assert!(at <= layers_begin, "the base layer comes first");
            }
        });
        refused(&payload.site, &forged, "are not its topmost ones");
    }

    // A release image that nobody signed, and one whose policy asks for no signature.
    fs::remove_dir_all(&payload.store).unwrap();
    fs::create_dir_all(&payload.store).unwrap();
    let bundle = payload.site.packed(3);
    refused(&payload.site, &bundle, "there is no signature");
    let anything = json!([{ "type": "insecureAcceptAnything" }]);
    let policy = json!({
        format!("{host}/ocp/release"): anything,
        format!("{host}/ocp/art-dev"): [signed_by(&payload.key.certificate_file)],
    });
    set_policy(&mut payload.site, policy);
    refused(&payload.site, &bundle, "there is no signature");
}

/// Changes the manifest of a copy of a bundle, and signs and seals it again.
fn forge(site: &Site, bundle: &Path, edit: impl FnOnce(&mut Value)) -> PathBuf {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let copy = site.copy(bundle, &format!("forged-{number}"));
    common::release_again(site, &copy, edit);
    copy
}

fn refused_at_parsing(site: &Site, bundle: &Path, reason: &str) {
    let before = World::of(site);
    let ran = site.receive(bundle, &[]).expect_code(3);
    assert!(ran.stderr.contains(reason), "expected {reason}\n{ran}");
    before.leaves_only(Leaves::Nothing, &World::of(site)).unwrap();
}

#[test]
fn an_image_that_is_no_release_cannot_be_packed_as_one() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut payload = payload();
    let host = payload.site.origin.host().to_string();
    payload.site.release["images"] = json!([format!("{host}/ocp/art-dev:cli")]);
    let ran = payload.site.pack(1, &[]).expect_code(2);
    assert!(ran.stderr.contains("is not an OpenShift release image"), "{ran}");

    // A whiteout above the list takes it away.
    let mut layout = Layout::new();
    let list = image_references(&host, &[("cli", payload.components[0])]);
    let hidden = layout
        .image_of("amd64", &[tar_of(PATH, list.as_bytes()), tar_of("release-manifests/.wh.image-references", b"")]);
    layout.name("hidden", &hidden);
    payload.site.origin.load_layout(layout.path(), "hidden", "ocp/release", "hidden");
    payload.site.release["images"] = json!([format!("{host}/ocp/release:hidden")]);
    payload.site.pack(1, &[]).expect_code(2);
    assert_eq!(MediaType::OCI_MANIFEST, hidden["mediaType"]);
}

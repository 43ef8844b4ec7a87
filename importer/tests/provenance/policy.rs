//! Image policies over the signatures that travel with the images.

use std::fs;
use std::path::{Path, PathBuf};

use manifest_schema::{Digest, Reference, Timestamp};
use serde_json::{Value, json};
use signing::Lookaside;
use testkit::hostile::{self, MANIFEST, Opened};
use testkit::layout::{API, closure, digest, fixtures, repository_and_tag};
use testkit::{Gpg, Key, Registry, Site, need, run_ok};

use crate::common::{Leaves, World};
use crate::{set_policy, signed_by};

/// A site that looks for signatures of its origin in a folder, which is returned.
pub fn with_lookaside() -> (Site, PathBuf) {
    let mut site = Site::new();
    let tree = configure_lookaside(&mut site);
    (site, tree)
}

fn configure_lookaside(site: &mut Site) -> PathBuf {
    let tree = site.scratch("lookaside");
    let configuration = site.scratch("registries.d");
    let url = format!("file://{}", tree.display());
    let section = json!({ "lookaside": url, "lookaside-staging": url });
    let text = json!({ "docker": { site.origin.host(): section } }).to_string();
    fs::write(configuration.join("origin.yaml"), text).unwrap();
    site.release["registries_d"] = json!([configuration]);
    tree
}

/// The documents of the image: index and image manifests.
fn documents(site: &Site) -> Vec<Digest> {
    let (repository, _) = repository_and_tag(API);
    let all = closure(&fixtures(), API);
    let is_document = |d: &&Digest| site.origin.get(&format!("/v2/{repository}/manifests/{d}")).status == 200;
    all.iter().filter(is_document).copied().collect()
}

/// Signs documents of the image as `reference`.
pub fn sign(tree: &Path, site: &Site, key: &Key, reference: &str, documents: &[Digest]) {
    let origin: Reference = format!("{}/{}", site.origin.host(), "payments/api:2.3.1").parse().unwrap();
    let reference: Reference = reference.parse().unwrap();
    for digest in documents {
        let signature = key.secret.sign_simple(&reference, digest, Timestamp::now(), "test").unwrap();
        Lookaside::new(tree).add(origin.repository(), digest, &signature).unwrap();
    }
}

fn origin_name(site: &Site) -> String {
    format!("{}/payments/api:2.3.1", site.origin.host())
}

#[test]
fn images_that_skopeo_signed_are_accepted_with_their_reasons_in_the_ledger() {
    if !need(&["docker-registry", "skopeo", "gpg"]) {
        return;
    }
    let mut site = Site::between(Registry::start(), Registry::start());
    configure_lookaside(&mut site);
    let gpg = Gpg::new();
    let signer = gpg.generate("Payments images <images@example.com>", "rsa3072");
    let configuration = site.scratch("registries.d");
    run_ok(
        gpg.with_home("skopeo", &["--insecure-policy", "--registries.d"])
            .arg(&configuration)
            .args(["copy", "--all", "--dest-tls-verify=false", "--sign-by", &signer])
            .arg(format!("oci:{}:{API}", fixtures().display()))
            .arg(format!("docker://{}", origin_name(&site))),
    );
    fs::write(site.import_dir().join("images.asc"), gpg.export(&signer)).unwrap();
    let host = site.origin.host().to_string();
    set_policy(&mut site, json!({ host: [signed_by(Path::new("images.asc"))] }));
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    let shown = run_ok(&mut site.import(&["ledger", "show", "payments-1", "--json"])).json();
    let recorded = shown["entries"].as_array().unwrap().iter().find_map(|e| e["act"].get("recorded")).unwrap().clone();
    let image = &recorded["images"][0];
    assert_eq!(image["vouched"], json!({ "policy": { "scopes": [format!("docker: {}", site.origin.host())] } }));
    let evidence = image["evidence"].as_array().unwrap();
    assert_eq!(evidence.len(), 3, "two platforms and the index: {evidence:?}");
    for row in evidence {
        assert_eq!((&row["verified"], &row["signer"]), (&json!(true), &json!(signer)), "{row}");
        assert_eq!(row["what"], json!(origin_name(&site)), "{row}");
    }
    assert_eq!(recorded["no_policy"], json!(["referrers", "scan-gate"]));
}

#[test]
fn what_the_policy_does_not_accept_publishes_nothing() {
    if !need(Site::NEEDS) {
        return;
    }
    let (mut site, tree) = with_lookaside();
    let key = Key::new(&site.scratch("keys"), "images");
    let other = Key::new(&site.scratch("keys"), "other");
    let documents = documents(&site);
    assert_eq!(documents.len(), 3);
    let name = origin_name(&site);
    sign(&tree, &site, &key, &name, &documents);
    let bundle = site.packed(1);
    let host = site.origin.host().to_string();
    let requirement = |identity: Value| {
        let mut requirement = signed_by(&key.certificate_file);
        requirement["signedIdentity"] = identity;
        requirement
    };
    let repository = name.rsplit_once(':').unwrap().0.to_string();
    let refused: Vec<(Value, &str)> = vec![
        (json!({}), "scope default: reject: the policy refuses every image here"),
        (json!({ &host: [{ "type": "reject" }] }), "reject"),
        (json!({ &host: [signed_by(&other.certificate_file)] }), "unknown key"),
        (json!({ &host: [signed_by(&key.certificate_file), signed_by(&other.certificate_file)] }), "unknown key"),
        (json!({ &host: [signed_by(&key.certificate_file)], &name: [{ "type": "reject" }] }), "reject"),
        (
            json!({ &host: [requirement(json!({ "type": "exactReference", "dockerReference": format!("{repository}:3") }))] }),
            "it is for `",
        ),
        (
            json!({ &host: [requirement(json!({ "type": "exactRepository", "dockerRepository": "r.example/other" }))] }),
            "it is for `",
        ),
        (
            json!({ &host: [requirement(json!({ "type": "remapIdentity", "prefix": &host, "signedPrefix": "r.example" }))] }),
            "it is for `",
        ),
    ];
    for (number, (docker, reason)) in (1..).zip(refused) {
        set_policy(&mut site, docker.clone());
        let before = World::of(&site);
        let ran = site.receive(&bundle, &[]).expect_code(3);
        assert!(ran.stderr.contains("the image policy refuses sha256:"), "{number}: {docker}\n{ran}");
        assert!(ran.stderr.contains(reason), "{number}: expected {reason}\n{ran}");
        assert!(ran.stderr.contains("state: nothing was published"), "{ran}");
        before.leaves_only(Leaves::Refusal, &World::of(&site)).unwrap();
        testkit::run(site.import(&["verify", "-q"]).arg(&bundle)).expect_code(3);
        testkit::run(site.import(&["receive", "--dry-run"]).arg(&bundle)).expect_code(3);
        let inspected = run_ok(site.import(&["inspect"]).arg(&bundle));
        assert!(inspected.stdout.contains("REFUSED by the image policy"), "{inspected}");
    }
    for docker in [
        json!({ &host: [requirement(json!({ "type": "matchExact" }))] }),
        json!({ &repository: [requirement(json!({ "type": "matchRepository" }))], &host: [{ "type": "reject" }] }),
        json!({ &host: [requirement(json!({ "type": "exactReference", "dockerReference": name }))] }),
    ] {
        set_policy(&mut site, docker);
        testkit::run(site.import(&["receive", "--dry-run"]).arg(&bundle)).expect_code(0);
        let inspected = run_ok(site.import(&["inspect"]).arg(&bundle));
        assert!(inspected.stdout.contains("accepted by the image policy"), "{inspected}");
    }
}

#[test]
fn every_platform_and_the_index_need_a_signature() {
    if !need(Site::NEEDS) {
        return;
    }
    let (mut site, tree) = with_lookaside();
    let key = Key::new(&site.scratch("keys"), "images");
    let name = origin_name(&site);
    let index = digest(&fixtures(), API);
    let platforms: Vec<Digest> = documents(&site).into_iter().filter(|d| *d != index).collect();
    let host = site.origin.host().to_string();
    set_policy(&mut site, json!({ host: [signed_by(&key.certificate_file)] }));

    sign(&tree, &site, &key, &name, &[index, platforms[0]]);
    let bundle = site.packed(1);
    let ran = site.receive(&bundle, &[]).expect_code(3);
    assert!(ran.stderr.contains(&format!("the image policy refuses {} (linux/", platforms[1])), "{ran}");
    assert!(ran.stderr.contains("there is no signature"), "{ran}");

    // A signature of another image of the same name does not help.
    let origin: Reference = name.parse().unwrap();
    let of_the_other = Lookaside::new(&tree).read(origin.repository(), &platforms[0]).unwrap().remove(0);
    Lookaside::new(&tree).add(origin.repository(), &platforms[1], &of_the_other).unwrap();
    let bundle = site.packed(2);
    let ran = site.receive(&bundle, &[]).expect_code(3);
    assert!(ran.stderr.contains(&format!("it is for {}, the image is {}", platforms[0], platforms[1])), "{ran}");

    fs::remove_dir_all(&tree).unwrap();
    sign(&tree, &site, &key, &name, &platforms);
    let bundle = site.packed(3);
    let ran = site.receive(&bundle, &[]).expect_code(3);
    assert!(ran.stderr.contains(&format!("the image policy refuses {index} (the index)")), "{ran}");
    assert!(ran.stderr.contains("allow_unsigned_index"), "{ran}");
    assert_eq!(site.production.tags().len(), 0);
    site.import["streams"]["payments"]["allow_unsigned_index"] = true.into();
    site.receive(&bundle, &[]).expect_code(0);

    // That leave is for the index alone, and for one that lists nothing but what was accepted.
    fs::remove_dir_all(&tree).unwrap();
    sign(&tree, &site, &key, &name, &platforms[..1]);
    let bundle = site.packed(4);
    let ran = site.receive(&bundle, &[]).expect_code(3);
    assert!(ran.stderr.contains(&format!("the image policy refuses {}", platforms[1])), "{ran}");
    fs::remove_dir_all(&tree).unwrap();
    sign(&tree, &site, &key, &name, &platforms);
    let mut layout = testkit::Layout::new();
    let (repository, _) = repository_and_tag(API);
    let image = |architecture| {
        let image = layout.image_for(architecture, &[b"layer"]);
        testkit::layout::with_platform(image, architecture, None)
    };
    let three = [image("amd64"), image("arm64"), image("s390x")];
    for (sequence, name, entries) in [(5, "empty", &three[..0]), (6, "sparse", &three[..])] {
        let index = layout.index(entries);
        layout.name(name, &index);
        site.origin.load_layout(layout.path(), name, repository, name);
        let reference = format!("{}/{repository}:{name}", site.origin.host());
        let manifests: Vec<Digest> = entries.iter().map(|e| e["digest"].as_str().unwrap().parse().unwrap()).collect();
        sign(&tree, &site, &key, &reference, &manifests);
        site.release["images"] = json!([reference]);
        if name == "sparse" {
            site.release["platforms"] = json!(["linux/amd64", "linux/s390x"]);
            site.release["sparse_index"] = true.into();
        }
        let bundle = site.packed(sequence);
        let ran = site.receive(&bundle, &[]).expect_code(3);
        assert!(ran.stderr.contains("(the index): scope"), "{name}: {ran}");
    }
}

#[test]
fn a_withheld_or_broken_signature_fails_the_export() {
    if !need(Site::NEEDS) {
        return;
    }
    let (site, tree) = with_lookaside();
    let key = Key::new(&site.scratch("keys"), "images");
    let documents = documents(&site);
    sign(&tree, &site, &key, &origin_name(&site), &documents);
    let origin: Reference = origin_name(&site).parse().unwrap();
    let file = tree.join(Lookaside::path_for(origin.repository(), &documents[0])).join("signature-1");
    fs::write(&file, "<html>not found</html>").unwrap();
    let ran = site.pack(1, &[]).expect_code(1);
    assert!(ran.stderr.contains("its signatures cannot be read"), "{ran}");
    assert!(ran.stderr.contains("signature-1"), "{ran}");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    site.pack(1, &[]).expect_code(1);
    fs::remove_dir(&file).unwrap();
    site.pack(1, &[]).expect_code(0);
}

#[test]
fn without_a_policy_the_signed_manifest_vouches_and_says_so() {
    if !need(Site::NEEDS) {
        return;
    }
    let (site, tree) = with_lookaside();
    let key = Key::new(&site.scratch("keys"), "images");
    sign(&tree, &site, &key, &origin_name(&site), &documents(&site));
    let bundle = site.packed(1);
    let inspected = run_ok(site.import(&["inspect"]).arg(&bundle));
    assert!(
        inspected.stdout.contains("the signed manifest vouches for it; no image policy is configured"),
        "{inspected}"
    );
    assert_eq!(inspected.stdout.matches("not judged: no image policy").count(), 3, "{inspected}");
    site.receive(&bundle, &[]).expect_code(0);
    let shown = run_ok(&mut site.import(&["ledger", "show", "payments-1"]));
    assert!(shown.stdout.contains("the signed manifest vouches for it"), "{shown}");
    assert!(shown.stdout.contains("image-policy: no policy configured"), "{shown}");
}

#[test]
fn the_release_key_signs_images_on_packing() {
    if !need(&["docker-registry", "skopeo"]) {
        return;
    }
    let mut site = Site::new();
    site.release["sign_images"] = true.into();
    let release = site.import_dir().join("trust/release.asc");
    let host = site.origin.host().to_string();
    set_policy(&mut site, json!({ host: [signed_by(&release)] }));
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);

    // The bytes are what skopeo takes too.
    let manifest = Opened::open(&bundle, 1, &site.identity).manifest();
    let signature = &manifest["images"][0]["signatures"][0];
    assert_eq!(signature["found"], "made");
    let unpacked = site.unpack_with_stock_tools(&bundle);
    let file = |digest: &Value| unpacked.join(digest.as_str().unwrap().parse::<Digest>().unwrap().layout_path());
    let gpg = Gpg::new();
    gpg.import(&fs::read(&release).unwrap());
    run_ok(
        gpg.with_home("skopeo", &["standalone-verify"])
            .arg(file(&signature["subject"]))
            .args([&origin_name(&site), &site.release_key.fingerprint])
            .arg(file(&signature["digest"])),
    );

    // The same release made again is the same release: its signatures are those that were made first.
    fs::rename(&bundle, site.scratch("away").join("payments-1")).unwrap();
    let again = site.packed(1);
    assert_eq!(Opened::open(&again, 1, &site.identity).manifest(), manifest);
}

#[test]
fn a_signature_that_the_sender_took_away_or_moved_is_missed() {
    if !need(Site::NEEDS) {
        return;
    }
    let (mut site, tree) = with_lookaside();
    let key = Key::new(&site.scratch("keys"), "images");
    sign(&tree, &site, &key, &origin_name(&site), &documents(&site));
    let host = site.origin.host().to_string();
    set_policy(&mut site, json!({ host: [signed_by(&key.certificate_file)] }));
    let bundle = site.packed(1);
    let release = |bytes: &[u8]| site.release_key.sign(bytes);
    let forged = |edit: &dyn Fn(&mut Opened)| {
        let copy = site.copy(&bundle, "forged");
        let mut opened = Opened::open(&copy, 1, &site.identity);
        edit(&mut opened);
        opened.sign_manifest(&release);
        opened.encrypt(&site.identity);
        hostile::seal_names_manifest(&copy, opened.content(MANIFEST));
        hostile::reseal(&copy, &release);
        let ran = site.receive(&copy, &[]).expect_code(3);
        fs::remove_dir_all(&copy).unwrap();
        ran.stderr
    };
    let entry = |digest: &Value| digest.as_str().unwrap().parse::<Digest>().unwrap().layout_path();

    let said = forged(&|opened| {
        let mut gone = Value::Null;
        opened.edit_manifest(|m| {
            gone = m["images"][0]["signatures"].as_array_mut().unwrap().remove(0)["digest"].clone();
            m["blobs"].as_array_mut().unwrap().retain(|b| b["digest"] != gone);
        });
        opened.remove(&entry(&gone));
    });
    assert!(said.contains("there is no signature"), "{said}");

    let said = forged(&|opened| {
        opened.edit_manifest(|m| {
            let subject = m["images"][0]["signatures"][1]["subject"].clone();
            m["images"][0]["signatures"][0]["subject"] = subject;
        });
    });
    assert!(said.contains("there is no signature") || said.contains("it is for sha256:"), "{said}");

    let said = forged(&|opened| {
        opened.edit_manifest(|m| {
            m["images"][0]["signatures"].as_array_mut().unwrap().remove(0);
        });
    });
    assert!(said.contains("no image of the bundle needs it"), "{said}");

    let said = forged(&|opened| {
        opened.edit_manifest(|m| {
            let digest = m["images"][0]["signatures"][0]["digest"].clone();
            let blobs = m["blobs"].as_array_mut().unwrap();
            let blob = blobs.iter_mut().find(|b| b["digest"] == digest).unwrap();
            blob["media_type"] = "text/plain".into();
        });
    });
    assert!(said.contains("is not a simple signature of the admission section"), "{said}");

    let said = forged(&|opened| {
        opened.edit_manifest(|m| {
            let first = m["images"][0]["signatures"][0].clone();
            m["images"][0]["signatures"].as_array_mut().unwrap().push(first);
        });
    });
    assert!(said.contains("is listed twice"), "{said}");
    assert_eq!(site.production.tags().len(), 0);
}

#[test]
fn the_production_key_is_nobody_elses() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let host = site.origin.host().to_string();
    let production = site.production_key.certificate_file.clone();
    set_policy(&mut site, json!({ host: [signed_by(&production)] }));
    site.release["sign_images"] = true.into();
    let bundle = site.packed(1);
    let before = World::of(&site);
    let ran = site.receive(&bundle, &[]).expect_code(2);
    assert!(ran.stderr.contains("is configured for two roles, production and image policy (payments)"), "{ran}");
    before.leaves_only(Leaves::Nothing, &World::of(&site)).unwrap();
}

#[test]
fn a_policy_that_cannot_be_used_stops_everything() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(1);
    site.import["streams"]["payments"]["images"] = "policy.json".into();
    for (text, reason) in [
        (None, "policy.json"),
        (Some("{}".to_string()), "default"),
        (Some(r#"{"default":[{"type":"insecureAcceptAnything"}],"surplus":1}"#.into()), "surplus"),
        (
            Some(r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"missing.asc"}]}"#.into()),
            "missing.asc",
        ),
    ] {
        if let Some(text) = &text {
            fs::write(site.import_dir().join("policy.json"), text).unwrap();
        }
        let ran = site.receive(&bundle, &[]).expect_code(2);
        assert!(ran.stderr.contains(reason), "expected {reason}\n{ran}");
        testkit::run(site.import(&["verify", "-q"]).arg(&bundle)).expect_code(2);
    }
}

#[test]
fn an_image_with_tag_and_digest_is_judged_by_its_tag() {
    if !need(Site::NEEDS) {
        return;
    }
    let (mut site, tree) = with_lookaside();
    let key = Key::new(&site.scratch("keys"), "images");
    let host = site.origin.host().to_string();
    let index = digest(&fixtures(), API);
    let pinned = format!("{}@{index}", origin_name(&site));
    // By digest, the default rule takes a signature for any tag of the repository.
    let documents = documents(&site);
    sign(&tree, &site, &key, &format!("{host}/payments/api:1.0"), &documents);
    set_policy(&mut site, json!({ host: [signed_by(&key.certificate_file)] }));
    site.release["images"] = json!([pinned]);
    let bundle = site.packed(1);
    let ran = site.receive(&bundle, &[]).expect_code(3);
    assert!(ran.stderr.contains("it is for `"), "{ran}");
    sign(&tree, &site, &key, &origin_name(&site), &documents);
    site.receive(&site.packed(2), &[]).expect_code(0);
}

#[test]
fn an_image_named_twice_travels_once() {
    if !need(Site::NEEDS) {
        return;
    }
    let (mut site, tree) = with_lookaside();
    let key = Key::new(&site.scratch("keys"), "images");
    sign(&tree, &site, &key, &origin_name(&site), &documents(&site));
    // The same image from a layout, with another signature beside it.
    let copy = site.scratch("copy");
    run_ok(testkit::command("cp", &copy).arg("-r").arg(fixtures()).arg(copy.join("layout")));
    let index = digest(&fixtures(), API);
    let other = Key::new(&site.scratch("keys"), "other");
    let reference: Reference = origin_name(&site).parse().unwrap();
    let signature = other.secret.sign_simple(&reference, &index, Timestamp::now(), "test").unwrap();
    fs::write(copy.join(format!("layout/{}.signature-1", index.hex())), signature).unwrap();
    let again = format!("oci:{}:{API}={}", copy.join("layout").display(), origin_name(&site));
    site.release["images"] = json!([origin_name(&site), again, origin_name(&site)]);
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
}

#[test]
fn two_names_of_one_image_are_both_judged_and_recorded() {
    if !need(Site::NEEDS) {
        return;
    }
    let (mut site, tree) = with_lookaside();
    let key = Key::new(&site.scratch("keys"), "images");
    let host = site.origin.host().to_string();
    site.origin.load_layout(&fixtures(), API, "more/api", "2.3.1");
    let to = format!("{}/payments", site.production.host());
    let stream = &mut site.import["streams"]["payments"];
    stream["origins"] = json!([format!("{host}/payments"), format!("{host}/more")]);
    stream["to"] =
        json!([{ "from": format!("{host}/payments"), "to": to }, { "from": format!("{host}/more"), "to": to }]);
    set_policy(&mut site, json!({ &host: [signed_by(&key.certificate_file)] }));
    let documents = documents(&site);
    sign(&tree, &site, &key, &origin_name(&site), &documents);
    site.release["images"] = json!([origin_name(&site), format!("{host}/more/api:2.3.1")]);
    let ran = site.receive(&site.packed(1), &[]).expect_code(3);
    assert!(ran.stderr.contains("more/api:2.3.1: the image policy refuses"), "{ran}");
    let more: Reference = format!("{host}/more/api:2.3.1").parse().unwrap();
    for digest in &documents {
        let signature = key.secret.sign_simple(&more, digest, Timestamp::now(), "test").unwrap();
        Lookaside::new(&tree).add(more.repository(), digest, &signature).unwrap();
    }
    site.receive(&site.packed(2), &[]).expect_code(0);
    let shown = run_ok(&mut site.import(&["ledger", "show", "payments-2"]));
    assert_eq!(shown.stdout.matches("(as claimed)").count(), 2, "{shown}");
    assert_eq!(shown.stdout.matches("  tag ").count(), 1, "{shown}");
}

//! OCI referrers and digest tags: they travel with their image and are found beside it in production.

use manifest_schema::{Digest, DigestTag, LIMITS, MediaType, referrers_tag};
use serde_json::{Value, json};
use testkit::hostile::{self, MANIFEST, Opened};
use testkit::layout::{API, BUSYBOX, digest, fixtures, repository_and_tag};
use testkit::proxy::{Fault, Rule};
use testkit::{Key, Proxy, Registry, Site, need, run, run_ok};

use crate::common::{self, Leaves, World};
use crate::policy::{sign, with_lookaside};

const SPDX: &str = "application/spdx+json";

/// An artifact in the origin's repository of the image, as a document that may have a subject; its descriptor.
pub fn artifact(registry: &Registry, layer_type: &str, content: &[u8], subject: Option<&Digest>) -> Value {
    let (repository, _) = repository_and_tag(API);
    let (config, layer) = (blobs::sha256(b"{}"), blobs::sha256(content));
    registry.put_blob(repository, &config, b"{}");
    registry.put_blob(repository, &layer, content);
    let mut document = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_MANIFEST,
        "artifactType": layer_type,
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config.to_string(), "size": 2 },
        "layers": [{ "mediaType": layer_type, "digest": layer.to_string(), "size": content.len() }],
    });
    if let Some(subject) = subject {
        let length = registry.get(&format!("/v2/{repository}/manifests/{subject}")).body.len();
        document["subject"] =
            json!({ "mediaType": MediaType::OCI_INDEX, "digest": subject.to_string(), "size": length });
    }
    let bytes = document.to_string().into_bytes();
    let digest = blobs::sha256(&bytes);
    registry.put_manifest(repository, &digest.to_string(), MediaType::OCI_MANIFEST, &bytes);
    json!({ "mediaType": MediaType::OCI_MANIFEST, "digest": digest.to_string(), "size": bytes.len() })
}

pub fn digest_of(descriptor: &Value) -> Digest {
    descriptor["digest"].as_str().unwrap().parse().unwrap()
}

/// Puts documents into the list of the tag schema.
fn list(registry: &Registry, subject: &Digest, listed: &[Value]) {
    let (repository, _) = repository_and_tag(API);
    let index = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": listed });
    let tag = referrers_tag(subject).to_string();
    registry.put_manifest(repository, &tag, MediaType::OCI_INDEX, index.to_string().as_bytes());
}

/// Makes a digest tag name a document that is there.
fn tag(registry: &Registry, subject: &Digest, kind: DigestTag, document: &Digest) {
    let (repository, _) = repository_and_tag(API);
    let there = registry.get(&format!("/v2/{repository}/manifests/{document}"));
    let tag = kind.for_subject(subject).unwrap().to_string();
    registry.put_manifest(repository, &tag, &there.headers["content-type"], &there.body);
}

/// The digests that production's list of the tag schema has.
fn listed(site: &Site, subject: &Digest) -> Vec<Value> {
    let (repository, _) = repository_and_tag(API);
    let there = site.production.get(&format!("/v2/{repository}/manifests/{}", referrers_tag(subject)));
    let index: Value = serde_json::from_slice(&there.body).unwrap();
    index["manifests"].as_array().cloned().unwrap_or_default()
}

#[test]
fn what_refers_to_an_image_is_found_beside_it_in_production() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let (repository, _) = repository_and_tag(API);
    let image = digest(&fixtures(), API);
    let big = vec![7; 5 << 20];
    let sbom = artifact(&site.origin, SPDX, b"{\"spdxVersion\":\"SPDX-2.3\"}", Some(&image));
    let scan = artifact(&site.origin, "application/vnd.example.scan", &big, Some(&image));
    list(&site.origin, &image, &[sbom.clone(), scan.clone()]);
    // Of the list itself: a signature of the SBOM, and an attestation of the image, found by their tags.
    let attestation = artifact(&site.origin, "application/vnd.dsse.envelope.v1+json", b"attested", None);
    tag(&site.origin, &image, DigestTag::Att, &digest_of(&attestation));
    let of_sbom = artifact(&site.origin, "application/vnd.example.note", b"of the SBOM", Some(&digest_of(&sbom)));
    list(&site.origin, &digest_of(&sbom), std::slice::from_ref(&of_sbom));
    // A circle.
    tag(&site.origin, &image, DigestTag::Sbom, &digest_of(&sbom));
    tag(&site.origin, &digest_of(&sbom), DigestTag::Sbom, &digest_of(&attestation));
    tag(&site.origin, &digest_of(&attestation), DigestTag::Sbom, &digest_of(&sbom));

    let plan = run_ok(&mut site.export(&["plan", "--sequence", "1"]));
    for text in ["SPDX SBOM", "application/vnd.example.scan", "in-toto attestation", "referrers", ".att", ".sbom"] {
        assert!(plan.stdout.contains(text), "expected {text}\n{plan}");
    }
    let bundle = site.packed(1);
    let inspected = run_ok(site.import(&["inspect"]).arg(&bundle));
    assert!(inspected.stdout.contains("SPDX SBOM"), "{inspected}");
    site.receive(&bundle, &[]).expect_code(0);

    let tags = site.production.tags();
    for (subject, kind, document) in [
        (image, DigestTag::Att, &attestation),
        (image, DigestTag::Sbom, &sbom),
        (digest_of(&sbom), DigestTag::Sbom, &attestation),
        (digest_of(&attestation), DigestTag::Sbom, &sbom),
    ] {
        let name = format!("{repository}:{}", kind.for_subject(&subject).unwrap());
        assert_eq!(tags.get(&name), Some(&digest_of(document)), "{name}");
    }
    let found: Vec<Digest> = listed(&site, &image).iter().map(digest_of).collect();
    assert_eq!(found, [digest_of(&sbom), digest_of(&scan)]);
    assert_eq!(listed(&site, &image)[0]["artifactType"], SPDX);
    assert_eq!(listed(&site, &digest_of(&sbom)).iter().map(digest_of).collect::<Vec<_>>(), [digest_of(&of_sbom)]);
    let blob = site.production.get(&format!("/v2/{repository}/blobs/{}", blobs::sha256(&big)));
    assert!(blob.body == big, "the large blob of a referrer is there too");
    let shown = run_ok(&mut site.import(&["ledger", "show", "payments-1"]));
    assert!(shown.stdout.contains("SPDX SBOM"), "{shown}");
    // No production signatures for what only refers to the image.
    let of_referrers = |path: &String| path.contains(&digest_of(&sbom).hex());
    assert!(!crate::common::signatures(&site).keys().any(of_referrers));

    // The stock tools' layout has them too.
    let index = std::fs::read(site.unpack_with_stock_tools(&bundle).join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let all: Vec<Digest> = index["manifests"].as_array().unwrap().iter().map(digest_of).collect();
    assert!(all.contains(&digest_of(&sbom)) && all.contains(&digest_of(&of_sbom)), "{index}");

    // A second release of the same image changes nothing.
    let before = (site.production.snapshot(), site.production.tags());
    let again = site.packed(2);
    site.receive(&again, &[]).expect_code(0);
    assert!(before == (site.production.snapshot(), site.production.tags()));
}

#[test]
fn what_is_not_wanted_stays_and_what_cannot_be_had_fails() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let (repository, _) = repository_and_tag(API);
    let image = digest(&fixtures(), API);
    let sbom = artifact(&site.origin, SPDX, b"{}", Some(&image));
    let other = artifact(&site.origin, "application/vnd.example.scan", b"scan", Some(&image));
    let stranger = artifact(&site.origin, SPDX, b"of nothing", None);
    list(&site.origin, &image, &[sbom.clone(), other.clone(), stranger.clone()]);
    let attached = |args: &[&str]| {
        let ran = testkit::run(site.export(&["plan", "--sequence", "1", "--json"]).args(args)).expect_code(0);
        let rows = ran.json()["images"][0]["evidence"].as_array().unwrap().clone();
        (rows.iter().map(digest_of).collect::<Vec<_>>(), ran.stderr)
    };
    let (all, said) = attached(&[]);
    assert_eq!(all, [digest_of(&sbom), digest_of(&other)]);
    assert!(said.contains("does not refer to it; it is left out"), "{said}");
    assert_eq!(attached(&["--referrers", "none"]).0, []);
    assert_eq!(attached(&["--referrers", SPDX]).0, [digest_of(&sbom)]);
    assert_eq!(attached(&["--referrers", "sig,sbom"]).0, []);
    testkit::run(site.export(&["plan", "--sequence", "1", "--referrers", "everything"]).arg("-q")).expect_code(2);

    let gone = json!({ "mediaType": MediaType::OCI_MANIFEST, "digest": blobs::sha256(b"gone").to_string(), "size": 4 });
    // The registry takes no list with an entry that is not there; a document that is lost later is.
    list(&site.origin, &image, std::slice::from_ref(&sbom));
    assert_ne!(digest_of(&gone), digest_of(&sbom));
    site.origin.send("DELETE", &format!("/v2/{repository}/manifests/{}", digest_of(&sbom)), &[], b"");
    site.origin.lose_blob(&digest_of(&sbom));
    let ran = site.pack(1, &[]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.contains(&digest_of(&sbom).to_string()), "{ran}");
}

/// What the origin may keep back: its list of referrers, a digest tag, the signatures it keeps.
#[test]
fn what_the_origin_does_not_answer_fails_the_export() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let origin = Proxy::before(&site.origin);
    site.release["images"] = json!([format!("{}/payments/api:2.3.1", origin.host())]);
    let plan = || run(&mut site.export(&["plan", "--sequence", "1"]));
    plan().expect_code(0);
    for path in ["/referrers/", ".sig", "/extensions/v2/payments/api/signatures/"] {
        origin.clear();
        origin.rule(Rule::new(Fault::status(403)).path(path));
        origin.rule(Rule::new(Fault::Header("x-registry-supports-signatures".into(), Some("1".into()))));
        let ran = plan();
        assert_eq!((ran.code, origin.count("GET", path) > 0), (Some(1), true), "{path}\n{ran}");
    }
}

#[test]
fn a_row_of_referrers_is_bounded() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let mut row = vec![digest(&fixtures(), API)];
    let mut add = |n: usize| {
        let note = artifact(&site.origin, "application/vnd.example.note", format!("note {n}").as_bytes(), row.last());
        list(&site.origin, &row[n], std::slice::from_ref(&note));
        row.push(digest_of(&note));
    };
    (0..LIMITS.referrer_depth).for_each(&mut add);
    let manifest = Opened::open(&site.packed(1), 1, &site.identity).manifest();
    assert_eq!(manifest["images"][0]["referrers"].as_array().unwrap().len(), LIMITS.referrer_depth);
    add(LIMITS.referrer_depth);
    site.pack(2, &[]).expect_code(2).expect_stderr("more than 8 referrers in a row");
}

#[test]
fn what_is_attached_after_the_plan_is_left_out() {
    if !need(Site::NEEDS) {
        return;
    }
    let (site, tree) = with_lookaside();
    let image = digest(&fixtures(), API);
    let name = format!("{}/payments/api:2.3.1", site.origin.host());
    let key = Key::new(&site.scratch("keys"), "images");
    sign(&tree, &site, &key, &name, &[image]);
    let sbom = artifact(&site.origin, SPDX, b"{\"spdxVersion\":\"SPDX-2.3\"}", Some(&image));
    let attestation = artifact(&site.origin, "application/vnd.example.a", b"attested", None);
    list(&site.origin, &image, std::slice::from_ref(&sbom));
    tag(&site.origin, &image, DigestTag::Att, &digest_of(&attestation));
    let plan = site.scratch("plans").join("p");
    run_ok(site.export(&["plan", "--sequence", "1", "--write"]).arg(&plan));
    let pack = || run(site.export(&["pack"]).arg(&plan).arg("--output").arg(site.media()));

    // Another signature, a scan of the next night, an attestation in place of the first, a tag that was not there.
    sign(&tree, &site, &key, &format!("{name}-later"), &[image]);
    let scan = artifact(&site.origin, "application/vnd.example.scan", b"night", Some(&image));
    list(&site.origin, &image, &[scan.clone(), sbom.clone()]);
    let second = artifact(&site.origin, "application/vnd.example.a", b"attested again", None);
    tag(&site.origin, &image, DigestTag::Att, &digest_of(&second));
    tag(&site.origin, &image, DigestTag::Sbom, &digest_of(&sbom));

    // What was planned is still needed.
    list(&site.origin, &image, std::slice::from_ref(&scan));
    let gone = format!("{} is not attached to {image} any more", digest_of(&sbom));
    pack().expect_code(3).expect_stderr("payments-1 is not what was planned any more").expect_stderr(&gone);
    list(&site.origin, &image, &[scan.clone(), sbom.clone()]);
    let packed = pack().expect_code(0);
    let left_out =
        packed.stderr.lines().filter(|l| l.contains("was attached to it after the plan")).collect::<Vec<_>>();
    assert_eq!(left_out.len(), 4, "{packed}");
    for digest in [&scan, &second, &sbom].map(digest_of) {
        assert!(left_out.iter().any(|l| l.contains(&digest.to_string())), "{digest}\n{packed}");
    }
    let opened = Opened::open(&site.media().join("payments-1"), 1, &site.identity);
    assert_eq!(opened.content(MANIFEST), std::fs::read(plan.join("manifest.json")).unwrap());
    site.receive(&site.media().join("payments-1"), &[]).expect_code(0);
    assert_eq!(listed(&site, &image).iter().map(digest_of).collect::<Vec<_>>(), [digest_of(&sbom)]);
}

#[test]
fn a_manifest_that_lies_about_referrers_is_refused() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let image = digest(&fixtures(), API);
    let sbom = artifact(&site.origin, SPDX, b"{}", Some(&image));
    list(&site.origin, &image, std::slice::from_ref(&sbom));
    let note = artifact(&site.origin, "application/vnd.example.note", b"note", None);
    let other = artifact(&site.origin, "application/vnd.example.note", b"another", None);
    let list_of_notes = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [&note, &other] });
    let (repository, _) = repository_and_tag(API);
    let att = DigestTag::Att.for_subject(&image).unwrap().to_string();
    site.origin.put_manifest(repository, &att, MediaType::OCI_INDEX, list_of_notes.to_string().as_bytes());
    site.list_fixtures(&[API, BUSYBOX]);
    site.release["sign_images"] = true.into();
    let bundle = site.packed(1);
    let refused = |edit: &dyn Fn(&mut Value), reason: &str, leaves: Leaves| {
        let copy = site.copy(&bundle, "forged");
        let mut opened = Opened::open(&copy, 1, &site.identity);
        let before: Vec<Value> = opened.manifest()["blobs"].as_array().unwrap().clone();
        opened.edit_manifest(|m| edit(m));
        let after = opened.manifest()["blobs"].as_array().unwrap().clone();
        for gone in before.iter().filter(|b| !after.contains(b)) {
            opened.remove(&digest_of(gone).layout_path());
        }
        common::release(&site, &copy, opened);
        let before = World::of(&site);
        let ran = site.receive(&copy, &[]).expect_code(3);
        assert!(ran.stderr.contains(reason), "expected {reason}\n{ran}");
        before.leaves_only(leaves, &World::of(&site)).unwrap();
        std::fs::remove_dir_all(&copy).unwrap();
    };
    let platform = |m: &Value| m["images"][0]["platforms"][0]["digest"].clone();
    let at = |m: &Value, tagged: bool| {
        let all = m["images"][0]["referrers"].as_array().unwrap();
        all.iter().position(|r| r.get("tag").is_some() == tagged).unwrap()
    };
    refused(
        &|m| {
            let (n, other) = (at(m, false), platform(m));
            m["images"][0]["referrers"][n]["subject"] = other;
        },
        "but does not refer to it",
        Leaves::Refusal,
    );
    refused(
        &|m| {
            let n = at(m, true);
            m["images"][0]["referrers"][n].as_object_mut().unwrap().remove("tag");
        },
        "but does not refer to it",
        Leaves::Refusal,
    );
    // Attached to a document of another image.
    let of_the_other = |m: &Value| m["images"][1]["digest"].clone();
    refused(
        &|m| {
            let (n, other) = (at(m, true), of_the_other(m));
            m["images"][0]["referrers"][n]["subject"] = other;
        },
        "which is no document of",
        Leaves::Refusal,
    );
    refused(
        &|m| m["images"][0]["signatures"][0]["subject"] = of_the_other(m),
        "which is no document of",
        Leaves::Refusal,
    );
    refused(
        &|m| m["blobs"].as_array_mut().unwrap().retain(|b| b["digest"] != note["digest"]),
        "it is a referrer of which entries are missing",
        Leaves::Refusal,
    );
    refused(&|m| m["images"][0]["referrers"] = json!([]), "no image of the bundle needs it", Leaves::Refusal);
    refused(
        &|m| {
            let first = m["images"][0]["referrers"][0].clone();
            m["images"][0]["referrers"].as_array_mut().unwrap().push(first);
        },
        "is listed twice",
        Leaves::Nothing,
    );
    refused(&|m| m["images"][0]["referrers"][0]["tag"] = "cosign".into(), "unknown variant", Leaves::Nothing);
    assert_eq!(site.production.tags().len(), 0);
}

#[test]
fn an_image_that_hides_as_an_attachment_is_refused_where_images_are_judged() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let image = digest(&fixtures(), API);
    let layer = "application/vnd.oci.image.layer.v1.tar";
    let hidden = artifact(&site.origin, layer, b"malware", None);
    tag(&site.origin, &image, DigestTag::Sbom, &digest_of(&hidden));
    site.release["sign_images"] = true.into();
    let bundle = site.packed(1);
    let host = site.origin.host().to_string();
    let release = site.import_dir().join("trust/release.asc");
    crate::set_policy(&mut site, json!({ host: [crate::signed_by(&release)] }));
    let before = World::of(&site);
    let ran = site.receive(&bundle, &[]).expect_code(3);
    assert!(ran.stderr.contains(&format!("{} is attached to it, and is an image itself", digest_of(&hidden))), "{ran}");
    before.leaves_only(Leaves::Refusal, &World::of(&site)).unwrap();
    let inspected = run_ok(site.import(&["inspect"]).arg(&bundle));
    assert!(inspected.stdout.contains("REFUSED by the image policy"), "{inspected}");
    // Left out, nothing is wrong.
    site.release["referrers"] = "sig,att".into();
    site.receive(&site.packed(2), &[]).expect_code(0);
}

#[test]
fn tags_made_from_digests_are_for_attachments() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (repository, _) = repository_and_tag(API);
    let image = digest(&fixtures(), API);
    let note = artifact(&site.origin, "application/vnd.example.note", b"note", None);
    tag(&site.origin, &image, DigestTag::Sig, &digest_of(&note));
    let name = format!("{}/{repository}:{}", site.origin.host(), DigestTag::Sig.for_subject(&image).unwrap());
    let listed = site.release["images"].take();
    site.release["images"] = json!([name]);
    let ran = site.pack(1, &[]).expect_code(2);
    assert!(ran.stderr.contains("is for what is attached to an image"), "{ran}");
    // A bundle of somebody else's making.
    site.release["images"] = listed;
    let bundle = site.packed(2);
    let mut opened = Opened::open(&bundle, 1, &site.identity);
    opened.edit_manifest(|m| m["images"][0]["origin"] = name.clone().into());
    let manifest = manifest_schema::Manifest::parse(opened.content(MANIFEST)).unwrap();
    opened.replace("index.json", &manifest.layout_index());
    let release = |bytes: &[u8]| site.release_key.sign(bytes);
    opened.sign_manifest(&release);
    opened.encrypt(&site.identity);
    hostile::seal_names_manifest(&bundle, opened.content(MANIFEST));
    hostile::reseal(&bundle, &release);
    let ran = site.receive(&bundle, &[]).expect_code(3);
    assert!(ran.stderr.contains("is for what is attached to an image"), "{ran}");
}

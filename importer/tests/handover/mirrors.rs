//! `handover production --mirrors`: clusters that ask by the names of the origin.

use std::fs;

use manifest_schema::Reference;
use serde_json::json;
use signing::Lookaside;
use testkit::layout::{API, closure, digest, fixtures};
use testkit::{Node, Site, need};

use crate::crd;
use crate::production::{NAME, NEEDS, folder, handover, image, import, names_what_is_there, node, readme};

/// A node with the mirrors that were handed over.
fn mirrored(site: &Site) -> Node {
    node(site).with_registries(folder(site).join("registries.conf.d/sealift-mirrors.conf"))
}

fn at_origin(site: &Site, name: &str) -> String {
    format!("{}/{name}", site.origin.host())
}

fn pinned() -> String {
    format!("payments/api@{}", digest(&fixtures(), API))
}

#[test]
fn a_cluster_that_asks_for_the_origin_gets_what_production_signed() {
    if !need(&[NEEDS, &["podman"]].concat()) {
        return;
    }
    let site = Site::new();
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    let report = handover(&site, &["--mirrors", "both", "--json"]).expect_code(0).json();
    let (origin, production) = (at_origin(&site, "payments"), image(&site, "payments"));
    assert_eq!(report["mirrors"], json!([{ "origin": origin, "production": production, "stream": "payments" }]));
    mirrored(&site).pulls(&at_origin(&site, NAME)).expect_code(0);
    mirrored(&site).pulls(&at_origin(&site, &pinned())).expect_code(0);
    mirrored(&site).takes(&image(&site, NAME)).expect_code(0);

    // Half of it: the policy without mirrors asks the origin, which nobody signed for; mirrors without the policy are refused.
    node(&site).refuses(&at_origin(&site, NAME));
    let conf = site.scratch("half").join("mirrors.conf");
    fs::copy(folder(&site).join("registries.conf.d/sealift-mirrors.conf"), &conf).unwrap();
    handover(&site, &[]).expect_code(0);
    node(&site).with_registries(&conf).refuses(&at_origin(&site, NAME));
    assert!(!folder(&site).join("openshift").exists());

    // What was signed under another name is nothing that the origin has.
    handover(&site, &["--mirrors", "both"]).expect_code(0);
    site.production.load_layout(&fixtures(), API, "payments/other", "2.3.1");
    let (from, to): (Reference, Reference) =
        (image(&site, NAME).parse().unwrap(), image(&site, "payments/other:2.3.1").parse().unwrap());
    let tree = Lookaside::new(site.lookaside());
    for document in closure(&fixtures(), API) {
        for signature in tree.read(from.repository(), &document).unwrap() {
            tree.add(to.repository(), &document, &signature).unwrap();
        }
    }
    mirrored(&site).refuses(&at_origin(&site, "payments/other:2.3.1"));
}

#[test]
fn pulls_by_tag_or_by_digest_alone_are_mirrored() {
    if !need(NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    handover(&site, &["--mirrors", "digest"]).expect_code(0);
    assert!(folder(&site).join("openshift/image-digest-mirror-set.yaml").exists());
    assert!(!folder(&site).join("openshift/image-tag-mirror-set.yaml").exists());
    names_what_is_there(&site);
    // The mirrors come before the policy that is about what comes from them.
    let readme = readme(&site);
    let at = |text: &str| readme.find(text).unwrap_or_else(|| panic!("{text}: {readme}"));
    let order = ["/etc/containers/registries.d/", "/etc/containers/registries.conf.d/", "/etc/containers/policy.json"];
    assert!(order.map(at).is_sorted(), "{readme}");
    assert!(readme.contains("image-digest-mirror-set.yaml  registries.conf"), "{readme}");
    mirrored(&site).takes(&at_origin(&site, &pinned())).expect_code(0);
    mirrored(&site).takes(&at_origin(&site, NAME)).expect_code(1).expect_stderr("blocked");
    site.import["production"]["mirrors"] = "tag".into();
    handover(&site, &[]).expect_code(0);
    assert!(!folder(&site).join("openshift/image-digest-mirror-set.yaml").exists());
    assert!(folder(&site).join("openshift/image-tag-mirror-set.yaml").exists());
    mirrored(&site).takes(&at_origin(&site, NAME)).expect_code(0);
    mirrored(&site).takes(&at_origin(&site, &pinned())).expect_code(1).expect_stderr("blocked");
}

#[test]
fn what_was_withdrawn_is_refused_by_the_name_of_its_origin_too() {
    if !need(NEEDS) {
        return;
    }
    let site = Site::new();
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    let saved = site.scratch("saved").join("sigstore");
    copy_tree(&site.lookaside(), &saved);
    import(&site, &["withdraw", &image(&site, NAME), "--reason", "CVE-2026-1"]).expect_code(0);
    // Its signatures come back.
    copy_tree(&saved, &site.lookaside());
    handover(&site, &["--mirrors", "both"]).expect_code(0);
    mirrored(&site).refuses(&at_origin(&site, &pinned()));
    mirrored(&site).refuses(&image(&site, &pinned()));
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    testkit::registry::walk(from, &mut |file| {
        let place = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(file, place).unwrap();
    });
}

#[test]
fn the_mirror_sets_are_what_openshift_takes() {
    if !need(Site::NEEDS) {
        return;
    }
    let Some(schemas) = crd::schemas() else { return };
    let site = Site::new();
    handover(&site, &["--mirrors", "both"]).expect_code(0);
    for name in ["image-digest-mirror-set", "image-tag-mirror-set"] {
        let document = fs::read_to_string(folder(&site).join(format!("openshift/{name}.yaml"))).unwrap();
        assert_eq!(crd::problems(&schemas, &document), [""; 0], "{document}");
        assert!(document.contains(&at_origin(&site, "payments")), "{document}");
        // The check itself finds what is wrong.
        for (from, to) in [("mirrors:", "mirror:"), ("NeverContactSource", "Never"), ("payments", "Payments")] {
            let wrong = document.replace(from, to);
            assert_ne!(crd::problems(&schemas, &wrong), [""; 0], "{wrong}");
        }
    }
}

#[test]
fn an_origin_without_a_mirror_is_refused_although_it_lies_in_one_that_has() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (origin, production) = (at_origin(&site, "payments/x"), site.production.host().to_string());
    let to = site.import["streams"]["payments"]["to"].as_array_mut().unwrap();
    to.extend(["b", "c"].map(|place| json!({ "from": origin, "to": format!("{production}/{place}") })));
    handover(&site, &["--mirrors", "both"]).expect_code(0).expect_stderr(&format!("left out: {origin} "));
    let policy: serde_json::Value =
        serde_json::from_slice(&fs::read(folder(&site).join("policy.json")).unwrap()).unwrap();
    let docker = &policy["transports"]["docker"];
    assert_eq!(docker[&origin], json!([{ "type": "reject" }]));
    assert_eq!(docker[at_origin(&site, "payments")][0]["signedIdentity"]["type"], "remapIdentity");
}

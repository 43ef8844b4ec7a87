//! `handover production --for portieris`: an admission controller that judges simple signatures.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testkit::layout::{API, digest, fixtures};
use testkit::{Node, Site, need};

use crate::crd;
use crate::merge::nothing_was_made;
use crate::production::{NAME, NEEDS, folder, handover, image, import, names_what_is_there};

fn document(site: &Site, name: &str) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(folder(site).join("portieris").join(name)).unwrap()).unwrap()
}

/// What Portieris does with a rule: all images of registries by these demands (`pkg/verifier/simple`). skopeo has no server here,
/// so the tree is read where it is.
fn judged_by(site: &Site, rule: &Value) -> Node {
    let secret = document(site, "key.yaml");
    let demand = |demand: &Value| {
        if demand["type"] == "reject" {
            return demand.clone();
        }
        assert_eq!(
            (&demand["keySecret"], &demand["keySecretNamespace"]),
            (&secret["metadata"]["name"], &secret["metadata"]["namespace"])
        );
        let mut signed = json!({ "type": "signedBy", "keyType": "GPGKeys", "keyData": secret["data"]["key"] });
        if let Some(identity) = demand.get("signedIdentity") {
            signed["signedIdentity"] = identity.clone();
        }
        signed
    };
    let simple = &rule["policy"]["simple"];
    let demands: Vec<Value> = simple["requirements"].as_array().unwrap().iter().map(demand).collect();
    let files = site.scratch("portieris");
    fs::create_dir_all(files.join("registries.d")).unwrap();
    let policy = json!({ "default": [{ "type": "reject" }], "transports": { "docker": { "": demands } } });
    fs::write(files.join("policy.json"), policy.to_string()).unwrap();
    let tree = json!({ "default-docker": { "sigstore": format!("file://{}", site.lookaside().display()) } });
    fs::write(files.join("registries.d/tree.yaml"), tree.to_string()).unwrap();
    Node::new(files, site.scratch("node"))
}

#[test]
fn portieris_admits_what_production_signed() {
    if !need(NEEDS) {
        return;
    }
    let site = Site::new();
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    let url = "https://signatures.prod.example/sigstore";
    let args = ["--for", "portieris", "--lookaside-url", url];
    handover(&site, &args).expect_code(0);
    let policy = document(&site, "cluster-image-policy.yaml");
    assert_eq!(policy["spec"], document(&site, "image-policy.yaml")["spec"]);
    let rules = policy["spec"]["repositories"].as_array().unwrap();
    let ours = image(&site, "payments");
    assert_eq!(rules.iter().map(|r| r["name"].clone()).collect::<Vec<_>>(), [json!(ours), json!(format!("{ours}/*"))]);
    assert!(rules.iter().all(|rule| rule["policy"]["simple"]["storeURL"] == url));
    let key = STANDARD.decode(document(&site, "key.yaml")["data"]["key"].as_str().unwrap()).unwrap();
    assert!(key.starts_with(b"-----BEGIN PGP PUBLIC KEY BLOCK-----"), "Portieris takes armored keys only");
    if let Some(schemas) = crd::schemas() {
        for name in ["cluster-image-policy", "image-policy"] {
            let text = fs::read_to_string(folder(&site).join(format!("portieris/{name}.yaml"))).unwrap();
            assert_eq!(crd::problems(&schemas, &text), [""; 0], "{text}");
            for (from, to) in [("keySecret:", "keysecret:"), ("signedBy", "signed"), ("storeURL", "storeUrl")] {
                assert_ne!(crd::problems(&schemas, &text.replace(from, to)), [""; 0], "{from}");
            }
        }
    }
    let node = judged_by(&site, &rules[1]);
    node.takes(&image(&site, NAME)).expect_code(0);
    site.production.load_layout(&fixtures(), API, "payments/api", "9");
    node.refuses(&image(&site, "payments/api:9"));

    // What was withdrawn is refused by digest, and an origin is judged by production's names.
    import(&site, &["withdraw", &image(&site, NAME), "--reason", "CVE-2026-1"]).expect_code(0);
    handover(&site, &[&args[..], &["--mirrors", "both"]].concat()).expect_code(0);
    let policy = document(&site, "cluster-image-policy.yaml");
    let rules = policy["spec"]["repositories"].as_array().unwrap();
    let named =
        |name: String| rules.iter().find(|rule| rule["name"] == name).expect("a rule")["policy"]["simple"].clone();
    let pinned = digest(&fixtures(), API);
    assert_eq!(named(format!("{ours}/api@{pinned}"))["requirements"], json!([{ "type": "reject" }]));
    let origin = format!("{}/payments", site.origin.host());
    assert_eq!(named(format!("{origin}/api@{pinned}"))["requirements"], json!([{ "type": "reject" }]));
    let remap = json!({ "type": "remapIdentity", "prefix": origin, "signedPrefix": ours });
    assert_eq!(named(format!("{origin}/*"))["requirements"][0]["signedIdentity"], remap);
    if let Some(schemas) = crd::schemas() {
        let text = fs::read_to_string(folder(&site).join("portieris/cluster-image-policy.yaml")).unwrap();
        assert_eq!(crd::problems(&schemas, &text), [""; 0], "{text}");
    }
}

#[test]
fn what_another_tag_has_with_signatures_is_not_refused_by_digest() {
    if !need(NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_api_as("payments/api", "alias");
    site.receive(&site.packed(1), &[]).expect_code(0);
    import(&site, &["withdraw", &image(&site, "payments/api:alias"), "--reason", "a mistake"]).expect_code(0);
    handover(&site, &["--for", "portieris", "--lookaside-url", "https://signatures.prod.example/sigstore"])
        .expect_code(0);
    let policy = document(&site, "cluster-image-policy.yaml");
    assert_eq!(policy["spec"]["repositories"].as_array().unwrap().len(), 2, "{policy:#}");
}

#[test]
fn a_folder_is_no_place_where_portieris_finds_signatures() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    for extra in [&[][..], &["--lookaside-url", "file:///srv/signatures"]] {
        handover(&site, &[&["--for", "portieris", "--mirrors", "both"], extra].concat())
            .expect_code(2)
            .expect_stderr("for portieris: expected http://... or https://...; found file:///")
            .expect_stderr("--lookaside-url URL");
        nothing_was_made(&site);
    }
    // One of two registries is served.
    site.import["streams"]["payments"]["to"][0]["to"] = "other.example/payments".into();
    let beside = json!({ "from": "registry.dev.example/beside", "to": "prod.example/beside" });
    site.import["streams"]["payments"]["to"].as_array_mut().unwrap().push(beside);
    site.import["production"]["lookaside"] = json!({ "other.example": "a", "prod.example": "b" });
    let urls = "other.example=file:///srv/signatures,prod.example=https://s.example";
    let ran = handover(&site, &["--for", "portieris", "--lookaside-url", urls]).expect_code(0);
    ran.expect_stderr(
        "left out: other.example/payments: not for Portieris, which reads signatures over HTTP only: file:",
    );
    assert!(folder(&site).join("portieris/key.yaml").exists());
    names_what_is_there(&site);
}

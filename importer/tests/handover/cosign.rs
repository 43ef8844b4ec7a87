//! `handover production --for openshift-cosign`: clusters that judge cosign signatures by image policies of their own.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::Reference;
use serde_json::{Value, json};
use signing::sigstore::{SigstoreSecretError, SigstoreSecretKey};
use testkit::layout::{API, fixtures};
use testkit::{Site, need};

use crate::crd;
use crate::merge::nothing_was_made;
use crate::production::{NAME, folder, handover, image, import, names_what_is_there, readme};
use crate::staging::attach;

fn site() -> Site {
    let mut site = Site::new();
    import(&site, &["keygen", "cosign", "--no-passphrase", "--output", "keys"]).expect_code(0);
    site.import["production"]["cosign"] = json!({ "key": "keys/cosign.key" });
    site
}

fn document(site: &Site, name: &str) -> (String, Value) {
    let text = fs::read_to_string(folder(site).join("openshift").join(name)).unwrap();
    let value = serde_saphyr::from_str(&text).unwrap();
    (text, value)
}

/// The policy.json and registries.d that the cluster makes of image policies, in a folder.
fn on_nodes(site: &Site, policies: &[Value]) -> std::path::PathBuf {
    let (mut docker, mut sections) = (json!({}), json!({}));
    for policy in policies {
        let root = &policy["spec"]["policy"]["rootOfTrust"];
        assert_eq!(root["policyType"], "PublicKey");
        let identity = match policy["spec"]["policy"]["signedIdentity"]["matchPolicy"].as_str().unwrap() {
            "MatchRepoDigestOrExact" => json!({ "type": "matchRepoDigestOrExact" }),
            "RemapIdentity" => {
                let remap = &policy["spec"]["policy"]["signedIdentity"]["remapIdentity"];
                json!({ "type": "remapIdentity", "prefix": remap["prefix"], "signedPrefix": remap["signedPrefix"] })
            }
            other => panic!("{other}"),
        };
        let signed =
            json!({ "type": "sigstoreSigned", "keyData": root["publicKey"]["keyData"], "signedIdentity": identity });
        for scope in policy["spec"]["scopes"].as_array().unwrap() {
            docker[scope.as_str().unwrap()] = json!([signed]);
            sections[scope.as_str().unwrap()] = json!({ "use-sigstore-attachments": true });
        }
    }
    let files = site.scratch("cluster");
    let policy = json!({ "default": [{ "type": "insecureAcceptAnything" }], "transports": { "docker": docker } });
    fs::write(files.join("policy.json"), policy.to_string()).unwrap();
    fs::create_dir_all(files.join("registries.d")).unwrap();
    let text = json!({ "docker": sections }).to_string();
    fs::write(files.join("registries.d/sigstore-registries.yaml"), text).unwrap();
    files
}

/// Debian's skopeo refuses `sigstoreSigned` whatever the signature; `trust check` judges it as containers/image does.
#[test]
fn image_policies_accept_what_production_signed_in_the_form_of_cosign() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = site();
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    let ran = handover(&site, &["--for", "openshift-cosign", "--mirrors", "both"]).expect_code(0);
    ran.expect_stderr("production's OpenPGP signatures do not count there")
        .expect_stderr("`sealift-import resign` first");
    let (text, policy) = document(&site, "cluster-image-policy-production.yaml");
    let (_, single) = document(&site, "image-policy-production.yaml");
    let (mirrored_text, mirror) = document(&site, "cluster-image-policy-mirror-1.yaml");
    assert_eq!(policy["spec"], single["spec"]);
    assert_eq!(policy["spec"]["scopes"], json!([image(&site, "payments")]));
    let data = policy["spec"]["policy"]["rootOfTrust"]["publicKey"]["keyData"].as_str().unwrap();
    let public = fs::read(site.import_dir().join("keys/cosign.pub")).unwrap();
    assert_eq!(STANDARD.decode(data).unwrap(), public);
    if let Some(schemas) = crd::schemas() {
        let single = fs::read_to_string(folder(&site).join("openshift/image-policy-production.yaml")).unwrap();
        for text in [&text, &mirrored_text, &single] {
            assert_eq!(crd::problems(&schemas, text), [""; 0], "{text}");
            for (from, to) in [("keyData", "keydata"), ("PublicKey", "Key"), ("policy:", "policies:")] {
                assert_ne!(crd::problems(&schemas, &text.replace(from, to)), [""; 0], "{from}");
            }
        }
    }
    let nodes = on_nodes(&site, &[policy, mirror]);
    let check = |image: &str| {
        let (policy, folder) = (nodes.join("policy.json"), nodes.join("registries.d"));
        let (policy, folder) = (policy.display().to_string(), folder.display().to_string());
        import(&site, &["trust", "check", image, "--policy", &policy, "--registries-d", &folder])
    };
    check(&image(&site, NAME)).expect_code(0);
    site.production.load_layout(&fixtures(), API, "payments/api", "9");
    check(&image(&site, "payments/api:9")).expect_code(3);
    // By the origin's name, what production's key signed as production's; nothing else.
    let (at_origin, ours): (Reference, Reference) =
        (format!("{}/{NAME}", site.origin.host()).parse().unwrap(), image(&site, NAME).parse().unwrap());
    let no_passphrase = || -> Result<_, SigstoreSecretError> { panic!("not encrypted") };
    let key = SigstoreSecretKey::load(&site.import_dir().join("keys/cosign.key"), no_passphrase).unwrap();
    check(&at_origin.to_string()).expect_code(3);
    for (name, code) in [(&at_origin, 3), (&ours, 0)] {
        for document in site.documents_at_origin() {
            attach(&site.origin, &key, at_origin.repository(), name, &document);
        }
        check(&at_origin.to_string()).expect_code(code);
    }
    let readme = readme(&site);
    names_what_is_there(&site);
    let at = |text: &str| readme.find(text).unwrap_or_else(|| panic!("{text}: {readme}"));
    assert!(at("openshift/cluster-image-policy-production.yaml") < at("Nodes outside OpenShift"));
    assert!(at("These files are not for the cluster's nodes") < at("/etc/containers/policy.json\n"));
    assert!(readme.contains("from OpenShift 4.20 on"), "{readme}");
    assert!(readme.contains("Image policies know cosign keys only, no OpenPGP keys"), "{readme}");
}

#[test]
fn without_a_cosign_key_of_productions_own_there_is_no_image_policy() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut without = Site::new();
    handover(&without, &["--for", "openshift-cosign"]).expect_code(2).expect_stderr("--cosign-public-key");
    nothing_was_made(&without);
    import(&without, &["keygen", "cosign", "--no-passphrase", "--output", "keys"]).expect_code(0);
    handover(&without, &["--for", "openshift-cosign", "--cosign-public-key", "keys/cosign.key"])
        .expect_code(2)
        .expect_stderr("secret");
    // The key of somebody else.
    without.import["streams"]["payments"]["sigstore"] = json!({ "keys": ["keys/cosign.pub"] });
    handover(&without, &["--for", "openshift-cosign", "--cosign-public-key", "keys/cosign.pub"])
        .expect_code(2)
        .expect_stderr("cosign");
    nothing_was_made(&without);
}

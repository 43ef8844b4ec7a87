//! Which name may a signature give the image?

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::Timestamp;
use serde_json::{Value, json};
use signing::payload;
use testkit::tools::need;

use crate::common::{from_now, key, request, sign_message};
use crate::world::World;
use crate::{Verdicts, each};

/// Every kind of `signedIdentity`, for images by tag and by digest, against what a signature may call the image.
#[test]
fn identities_are_matched_as_skopeo_does() {
    if !need(&["gpg", "skopeo", "docker-registry"]) {
        return;
    }
    let world = World::new();
    let signer = key(&request("signer")).0;
    let digest = world.image.digest();
    let key_data = STANDARD.encode(&signer.certificate_armored);
    let names = [
        "registry.dev.example/team/app:1".to_string(),
        format!("registry.dev.example/team/app@{digest}"),
        "registry.dev.example:5000/team/sub/app:latest".into(),
        "docker.io/library/busybox:1".into(),
        format!("docker.io/team/app@{digest}"),
    ];
    let other_digest = format!("sha256:{}", "0".repeat(64));
    let mut cases = Vec::new();
    for name in &names {
        let repository = name.split('@').next().unwrap();
        let repository = match repository.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => repository,
            _ => repository,
        };
        let (host, path) = repository.split_once('/').unwrap();
        let parent = repository.rsplit_once('/').unwrap().0;
        let remap =
            |prefix: &str, signed: &str| json!({ "type": "remapIdentity", "prefix": prefix, "signedPrefix": signed });
        let identities = [
            Value::Null,
            json!({ "type": "matchExact" }),
            json!({ "type": "matchRepository" }),
            json!({ "type": "exactReference", "dockerReference": format!("vendor.example/{path}:1") }),
            json!({ "type": "exactRepository", "dockerRepository": format!("vendor.example/{path}") }),
            remap(host, "vendor.example"),
            remap(parent, "vendor.example:5000/x"),
            remap(repository, "vendor.example/x/y"),
            remap(&host[..host.len() - 1], "vendor.example"),
        ];
        let short = repository.strip_prefix("docker.io/library/").or(repository.strip_prefix("docker.io/"));
        let signed: BTreeSet<String> = BTreeSet::from([
            name.clone(),
            format!("{repository}:1"),
            format!("{repository}:other"),
            repository.to_string(),
            format!("{repository}@{digest}"),
            format!("{repository}@{other_digest}"),
            format!("{}:1", short.unwrap_or("team/app")),
            format!("vendor.example/{path}:1"),
            format!("vendor.example:5000/x/{}:1", path.rsplit('/').next().unwrap()),
            "vendor.example/x/y:1".into(),
        ]);
        for signed in signed {
            let bytes = sign_message(&signer, &payload(&signed, &digest, "test", Timestamp::now()), from_now(-1));
            for identity in &identities {
                let mut requirement = json!({ "type": "signedBy", "keyType": "GPGKeys", "keyData": key_data });
                if !identity.is_null() {
                    requirement["signedIdentity"] = identity.clone();
                }
                let policy = json!({ "default": [requirement] });
                cases.push((format!("{name} signed as {signed}: {identity}"), name, policy, bytes.clone()));
            }
        }
    }
    // A third of them, spread evenly: all take a minute.
    let cases: Vec<_> = cases.into_iter().enumerate().filter(|(i, _)| i * 5 % 13 < 6).map(|(_, case)| case).collect();
    let verdicts = Verdicts::new("identities");
    each(&cases, |(case, name, policy, bytes)| world.compare(&verdicts, case, policy, name, &[bytes]));
    verdicts.end(150);
}

//! Do the signatures meet the requirements?

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::{Digest, Timestamp};
use serde_json::{Value, json};
use signing::payload;
use testkit::tools::need;

use crate::keys::{Keys, NAME};
use crate::world::{ACCEPT, World};
use crate::{Numbers, Verdicts, each};

/// Random lists of requirements against random lists of signatures by keys in every state.
#[test]
fn requirements_are_weighed_as_skopeo_does() {
    if !need(&["gpg", "skopeo", "docker-registry"]) {
        return;
    }
    let (world, keys) = (World::new(), Keys::new());
    let digest = world.image.digest();
    let payload = |name: &str, digest: &Digest| payload(name, digest, "test", Timestamp::now());
    let honest = payload(NAME, &digest);
    let mut corrupt = keys.sign("b", &honest);
    let last = corrupt.len() - 1;
    corrupt[last] ^= 1;
    let armored = keys.gpg(&["-u", keys.fingerprint("a"), "--armor"], &honest);
    let mut pool: Vec<(&str, Vec<u8>)> =
        ["a", "b", "expired", "revoked", "stranger", "subkey"].map(|k| (k, keys.sign(k, &honest))).into();
    pool.extend([
        ("a, other tag", keys.sign("a", &payload("registry.example:5000/team/app:2", &digest))),
        ("b, other image", keys.sign("b", &payload(NAME, &blobs::sha256(b"x")))),
        ("b, not JSON", keys.sign("b", b"not JSON")),
        ("b, corrupt", corrupt),
        ("armored", armored),
        ("a page", b"<html>".to_vec()),
        ("typed", [b"\0simple-signing\n", &keys.sign("a", &honest)[..]].concat()),
    ]);
    let certificates = world.home.path().join("keys");
    std::fs::create_dir(&certificates).unwrap();
    for name in ["a", "b", "expired", "revoked", "subkey"] {
        std::fs::write(certificates.join(name), keys.certificate(name)).unwrap();
    }
    let path = |name: &str| certificates.join(name).display().to_string();
    let data = |names: &[&str]| STANDARD.encode(names.iter().flat_map(|n| keys.certificate(n)).collect::<Vec<_>>());
    let exact = json!({ "type": "exactReference", "dockerReference": NAME });
    let repository = json!({ "type": "exactRepository", "dockerRepository": "registry.example:5000/team/app" });
    let signed_by = |source: (&str, Value), identity: &Value| json!({ "type": "signedBy", "keyType": "GPGKeys", source.0: source.1, "signedIdentity": identity });
    let demands = [
        ("a", signed_by(("keyPath", json!(path("a"))), &exact)),
        ("a in its repository", signed_by(("keyPath", json!(path("a"))), &repository)),
        ("b", signed_by(("keyData", json!(data(&["b"]))), &exact)),
        ("a or b", signed_by(("keyPaths", json!([path("a"), path("b")])), &exact)),
        ("a and b in one file", signed_by(("keyData", json!(data(&["a", "b"]))), &exact)),
        ("expired", signed_by(("keyPath", json!(path("expired"))), &exact)),
        ("revoked", signed_by(("keyPath", json!(path("revoked"))), &exact)),
        ("a or revoked", signed_by(("keyPaths", json!([path("revoked"), path("a")])), &exact)),
        ("b by name", signed_by(("keyPath", json!(path("b"))), &json!({ "type": "matchRepository" }))),
        ("X.509", json!({ "type": "signedBy", "keyType": "X509Certificates", "keyPath": path("a") })),
        ("base layer", json!({ "type": "signedBaseLayer", "baseLayerIdentity": exact })),
        ("anything", json!({ "type": ACCEPT })),
        ("nothing", json!({ "type": "reject" })),
    ];
    let mut numbers = Numbers(99);
    let mut cases = Vec::new();
    let case = |signatures: Vec<&(&str, Vec<u8>)>, demands: Vec<&(&str, Value)>| {
        let names = |list: Vec<&str>| list.join(" + ");
        let name = format!(
            "{} demanded, signed by {}",
            names(demands.iter().map(|d| d.0).collect()),
            names(signatures.iter().map(|s| s.0).collect())
        );
        let policy = json!({ "default": demands.iter().map(|d| &d.1).collect::<Vec<_>>() });
        (name, policy.to_string(), signatures.iter().map(|s| s.1.clone()).collect::<Vec<_>>())
    };
    // Each demand against a good signature of each key, then mixtures; mostly of those that can be met.
    for demand in &demands {
        cases.push(case(vec![&pool[0]], vec![demand]));
        cases.push(case(vec![&pool[1], &pool[0]], vec![demand]));
        cases.push(case(Vec::new(), vec![demand]));
    }
    for signature in &pool {
        cases.push(case(vec![signature], vec![&demands[3]]));
        cases.push(case(vec![signature], vec![&demands[11]]));
    }
    for key in ["expired", "revoked", "subkey"] {
        let signature = pool.iter().find(|s| s.0 == key).unwrap();
        let demand = (key, signed_by(("keyPath", json!(path(key))), &exact));
        cases.push(case(vec![signature], vec![&demand]));
    }
    for _ in 0..60 {
        let signatures =
            (0..numbers.below(4)).map(|_| numbers.below(pool.len())).map(|i| &pool[i]).collect::<Vec<_>>().into_iter();
        let demanded = (0..=numbers.below(3)).map(|_| &demands[numbers.below(demands.len()).min(numbers.below(13))]);
        let demanded: Vec<_> = demanded.collect();
        let mut signatures: Vec<_> = signatures.collect();
        if demanded.iter().all(|demand| demand.0 == "anything") {
            signatures.retain(|signature| !matches!(signature.0, "armored" | "a page"));
        }
        cases.push(case(signatures, demanded));
    }
    let verdicts = Verdicts::new("requirements");
    each(&cases, |(case, policy, signatures)| {
        let signatures: Vec<&[u8]> = signatures.iter().map(Vec::as_slice).collect();
        world.compare_folder(&verdicts, case, policy, &signatures);
    });
    verdicts.end(100);
}

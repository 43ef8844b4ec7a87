//! Clusters with Portieris: an admission controller that judges simple signatures (`portieris.cloud.ibm.com/v1`).
//!
//! It judges before nodes pull, by the name in the pod, with one URL for signatures in each rule, and only over HTTP.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::Scope;
use serde_json::{Value, json};

use super::mirrors::Mirror;
use super::production::Denied;
use super::{LeftOut, mirrors, yaml};

/// Where Portieris is, by default, and where the key lies.
const NAMESPACE: &str = "portieris";
/// The secret with the key, and the policies.
const NAME: &str = "sealift-production";

/// What policies are made of.
pub struct Signed<'a> {
    /// The certificates, in one armored block.
    pub keyring: &'a [u8],
    /// The parts of production, each with the URL of its signatures.
    pub parts: Vec<(&'a Scope, &'a str)>,
    /// What production stands in for.
    pub mirrors: &'a [Mirror],
    /// What must not run.
    pub denied: &'a [Denied],
}

/// The files, by their names in the folder, and what cannot be said.
pub fn files(signed: &Signed<'_>) -> (BTreeMap<String, Vec<u8>>, Vec<LeftOut>) {
    let mut left_out = Vec::new();
    let mut repositories = Vec::new();
    let mut url_of = BTreeMap::new();
    for (part, url) in &signed.parts {
        if url.starts_with("file:") {
            let reason = format!("not for Portieris, which reads signatures over HTTP only: {url}");
            left_out.push(LeftOut { scope: Some(part.to_string()), streams: Vec::new(), reason });
            continue;
        }
        url_of.insert(part.registry(), *url);
        repositories.extend(rules(part, url, &json!({})));
    }
    for mirror in signed.mirrors {
        if let Some(url) = url_of.get(mirror.production.registry()) {
            let identity = json!({ "signedIdentity": mirror.identity() });
            repositories.extend(rules(&mirror.origin, url, &identity));
        }
    }
    for image in signed.denied.iter().filter(|image| image.refused) {
        let repository = image.reference.repository();
        for name in std::iter::once(repository.to_string()).chain(mirrors::origins(signed.mirrors, repository)) {
            let name = format!("{name}@{}", image.digest);
            repositories
                .push(json!({ "name": name, "policy": { "simple": { "requirements": [{ "type": "reject" }] } } }));
        }
    }
    if url_of.is_empty() {
        return (BTreeMap::new(), left_out);
    }
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": NAME, "namespace": NAMESPACE },
        "type": "Opaque",
        "data": { "key": STANDARD.encode(signed.keyring) },
    });
    let policy = |kind: &str| {
        yaml(&json!({
            "apiVersion": "portieris.cloud.ibm.com/v1",
            "kind": kind,
            "metadata": { "name": NAME },
            "spec": { "repositories": repositories },
        }))
    };
    let files = BTreeMap::from([
        ("portieris/key.yaml".to_string(), yaml(&secret)),
        ("portieris/cluster-image-policy.yaml".to_string(), policy("ClusterImagePolicy")),
        ("portieris/image-policy.yaml".to_string(), policy("ImagePolicy")),
    ]);
    (files, left_out)
}

/// The rules for a scope: for a repository of that name, which a host alone is not, and for those below.
fn rules(scope: &Scope, url: &str, identity: &Value) -> Vec<Value> {
    let mut requirement = json!({ "type": "signedBy", "keySecret": NAME, "keySecretNamespace": NAMESPACE });
    if let (Some(requirement), Some(identity)) = (requirement.as_object_mut(), identity.as_object()) {
        requirement.extend(identity.clone());
    }
    let policy = json!({ "simple": { "storeURL": url, "requirements": [requirement] } });
    let scope = scope.to_string();
    let below = format!("{scope}/*");
    let names = if scope.contains('/') { vec![scope, below] } else { vec![below] };
    names.into_iter().map(|name| json!({ "name": name, "policy": policy })).collect()
}

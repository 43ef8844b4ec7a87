//! OpenShift by cosign signatures: ClusterImagePolicy, and ImagePolicy for single namespaces (`config.openshift.io/v1`).
//!
//! The cluster makes policy.json and registries.d of them itself. They know no OpenPGP keys.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::Scope;
use serde_json::{Value, json};
use signing::sigstore::SigstoreKey;

use super::mirrors::Mirror;
use super::{LeftOut, yaml};

/// As many scopes as one document takes.
const SCOPES: usize = 256;

/// What images of these names must be signed by, and as what.
struct Policy {
    name: String,
    scopes: Vec<String>,
    identity: Value,
}

/// The files, by their names in the folder, and what cannot be said.
pub fn files<'s>(
    key: &SigstoreKey,
    parts: impl IntoIterator<Item = &'s Scope>,
    mirrors: &[Mirror],
) -> (BTreeMap<String, Vec<u8>>, Vec<LeftOut>) {
    let (parts, unnamable): (Vec<&Scope>, Vec<&Scope>) = parts.into_iter().partition(|part| is_namable(part));
    let (mirrors, unmirrored): (Vec<&Mirror>, Vec<&Mirror>) =
        mirrors.iter().partition(|mirror| is_namable(&mirror.origin) && is_namable(&mirror.production));
    let mut policies: Vec<Policy> = (1..)
        .zip(parts.chunks(SCOPES))
        .map(|(n, scopes)| Policy {
            name: if n == 1 { "sealift-production".into() } else { format!("sealift-production-{n}") },
            scopes: scopes.iter().map(ToString::to_string).collect(),
            identity: json!({ "matchPolicy": "MatchRepoDigestOrExact" }),
        })
        .collect();
    policies.extend((1..).zip(&mirrors).map(|(n, mirror)| Policy {
        name: format!("sealift-mirror-{n}"),
        scopes: vec![mirror.origin.to_string()],
        identity: json!({
            "matchPolicy": "RemapIdentity",
            "remapIdentity": { "prefix": mirror.origin, "signedPrefix": mirror.production },
        }),
    }));
    let mut files = BTreeMap::new();
    for policy in &policies {
        for (kind, name) in [("ClusterImagePolicy", "cluster-image-policy"), ("ImagePolicy", "image-policy")] {
            let file = format!("openshift/{name}-{}.yaml", policy.name.trim_start_matches("sealift-"));
            files.insert(file, yaml(&document(kind, policy, key)));
        }
    }
    let origins = unmirrored.into_iter().map(|mirror| &mirror.origin);
    let left_out = unnamable.into_iter().chain(origins).map(|scope| LeftOut {
        scope: Some(scope.to_string()),
        streams: Vec::new(),
        reason: "no image policy of OpenShift: there a registry's name has a dot, or is localhost".into(),
    });
    (files, left_out.collect())
}

/// Whether the cluster takes a scope: the rules of the schema say so.
fn is_namable(scope: &Scope) -> bool {
    let host = scope.registry();
    host.contains('.') || host.split(':').next() == Some("localhost")
}

fn document(kind: &str, policy: &Policy, key: &SigstoreKey) -> Value {
    json!({
        "apiVersion": "config.openshift.io/v1",
        "kind": kind,
        "metadata": { "name": policy.name },
        "spec": {
            "scopes": policy.scopes,
            "policy": {
                "rootOfTrust": {
                    "policyType": "PublicKey",
                    "publicKey": { "keyData": STANDARD.encode(key.to_pem()) },
                },
                "signedIdentity": policy.identity,
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_schema_does_not_take_is_split_or_left_out() {
        let made = signing::sigstore::generate_sigstore(None).expect("a key");
        let key = SigstoreKey::from_pem(made.public_pem.as_bytes()).expect("its public half");
        let scope = |text: String| -> Scope { text.parse().expect("a scope") };
        let mut parts: Vec<Scope> = (0..300).map(|n| scope(format!("prod.example/{n}"))).collect();
        parts.extend(["registry/a", "registry:5000/a", "localhost/a", "localhost:5000/a"].map(|s| scope(s.into())));
        let mirror = |origin: &str, production: &str| Mirror {
            origin: scope(origin.into()),
            production: scope(production.into()),
            stream: "a".into(),
        };
        let mirrors = [mirror("dev:5000/x", "prod.example/1"), mirror("dev.example/y", "prod:5000/1")];
        let (files, left_out) = files(&key, &parts, &mirrors);
        assert_eq!(files.len(), 4, "{:?}", files.keys());
        let count = |name: &str| {
            let document: Value = serde_saphyr::from_slice(&files[name]).expect("YAML");
            document["spec"]["scopes"].as_array().expect("a list").len()
        };
        assert_eq!(count("openshift/cluster-image-policy-production.yaml"), 256);
        assert_eq!(count("openshift/cluster-image-policy-production-2.yaml"), 300 + 2 - 256);
        let left_out: Vec<_> = left_out.iter().map(|left| left.scope.clone().expect("a scope")).collect();
        assert_eq!(left_out, ["registry/a", "registry:5000/a", "dev:5000/x", "dev.example/y"]);
    }
}

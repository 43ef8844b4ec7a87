//! A registry with what Debian's docker-registry has not: the referrers API and the signature extension.
//!
//! A proxy stands before a real registry, which keeps all blobs, manifests and tags. What is imitated follows the OCI
//! distribution specification 1.1 and, for signatures, the route of OpenShift's registry as containers/image describes it
//! (`docs/signature-protocols.md`); each function says which section.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use manifest_schema::{Digest, MediaType};
use serde_json::{Value, json};

use crate::http::Answer;
use crate::proxy::{Handler, Proxy, Seen};
use crate::registry::Registry;

/// What is imitated.
#[derive(Debug, Clone, Copy, Default)]
pub struct Features {
    /// The referrers API, with `OCI-Subject` on pushing.
    pub referrers: bool,
    /// Referrers on one page; 0 = all of them.
    pub page: usize,
    /// `X-Registry-Supports-Signatures` with its route.
    pub signatures: bool,
}

/// A real registry behind the imitation. Both end with this value.
pub struct Modern {
    inner: Arc<Inner>,
    proxy: Proxy,
}

struct Inner {
    registry: Registry,
    features: Features,
    /// By repository and digest.
    signatures: Mutex<BTreeMap<(String, String), Vec<Value>>>,
}

type Reply = (u16, Vec<(String, String)>, Vec<u8>);

impl Modern {
    pub fn start(features: Features) -> Self {
        let inner = Arc::new(Inner { registry: Registry::start(), features, signatures: Mutex::default() });
        let proxy = Proxy::with_handler(inner.registry.host(), inner.clone());
        Self { inner, proxy }
    }

    /// The proxy, for rules and what was seen.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// The registry behind it, which has none of the features.
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// `127.0.0.1:<port>`
    pub fn host(&self) -> &str {
        self.proxy.host()
    }

    /// The entries that the signature extension keeps for a manifest.
    pub fn signatures(&self, repository: &str, digest: &Digest) -> Vec<Value> {
        let kept = self.inner.signatures.lock().unwrap();
        kept.get(&(repository.into(), digest.to_string())).cloned().unwrap_or_default()
    }

    /// Keeps an entry, whatever it is.
    pub fn keep_signature(&self, repository: &str, digest: &Digest, entry: Value) {
        let mut kept = self.inner.signatures.lock().unwrap();
        kept.entry((repository.into(), digest.to_string())).or_default().push(entry);
    }
}

impl Handler for Inner {
    fn wants(&self, seen: &Seen) -> bool {
        let path = seen.path.split('?').next().unwrap_or_default();
        (self.features.signatures && (path == "/v2/" || path.starts_with("/extensions/v2/")))
            || (self.features.referrers
                && (path.contains("/referrers/") || (seen.method == "PUT" && path.contains("/manifests/"))))
    }

    fn answer(&self, seen: &Seen, body: &[u8]) -> Reply {
        let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
        if let Some(rest) = path.strip_prefix("/extensions/v2/") {
            let (repository, digest) = rest.split_once("/signatures/").expect("a route of the extension");
            return match seen.method.as_str() {
                "GET" => self.list_signatures(repository, digest),
                "PUT" => self.put_signature(repository, digest, body),
                _ => error(405, "UNSUPPORTED"),
            };
        }
        if path == "/v2/" {
            return self.base(seen);
        }
        let rest = path.strip_prefix("/v2/").unwrap_or_default();
        match rest.split_once("/referrers/") {
            Some((repository, digest)) if seen.method == "GET" => self.list_referrers(repository, digest, query),
            Some(_) => error(405, "UNSUPPORTED"),
            None => self.put_manifest(seen, body),
        }
    }
}

impl Inner {
    /// signature-protocols.md, "Docker Registry API extension": support is announced with
    /// `X-Registry-Supports-Signatures: 1` on `/v2/`.
    fn base(&self, seen: &Seen) -> Reply {
        let mut reply = relayed(self.registry.send(&seen.method, "/v2/", &[], &[]));
        reply.1.push(("X-Registry-Supports-Signatures".into(), "1".into()));
        reply
    }

    /// The same section: `GET /extensions/v2/{name}/signatures/{digest}` gives `{"signatures": [...]}`, all of them at
    /// once; an unknown manifest is 404.
    fn list_signatures(&self, repository: &str, digest: &str) -> Reply {
        if !self.has_manifest(repository, digest) {
            return error(404, "MANIFEST_UNKNOWN");
        }
        let kept = self.signatures.lock().unwrap();
        let list = kept.get(&(repository.into(), digest.into())).cloned().unwrap_or_default();
        (200, json_type("application/json"), json!({ "signatures": list }).to_string().into_bytes())
    }

    /// The same section: `PUT` adds one, 201. `schemaVersion` is 2, `type` is `atomic`, `name` is
    /// `<digest>@<up to 32 characters>` and not taken (409), `content` is base64.
    fn put_signature(&self, repository: &str, digest: &str, body: &[u8]) -> Reply {
        if !self.has_manifest(repository, digest) {
            return error(404, "MANIFEST_UNKNOWN");
        }
        let Ok(entry) = serde_json::from_slice::<Value>(body) else { return error(400, "SIGNATURE_INVALID") };
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_string();
        let name = text("name");
        let valid = entry["schemaVersion"] == 2
            && entry["type"] == "atomic"
            && name.strip_prefix(&format!("{digest}@")).is_some_and(|name| (1..=32).contains(&name.len()))
            && base64::engine::general_purpose::STANDARD.decode(text("content")).is_ok_and(|bytes| !bytes.is_empty());
        if !valid {
            return error(400, "SIGNATURE_INVALID");
        }
        let mut kept = self.signatures.lock().unwrap();
        let list = kept.entry((repository.into(), digest.into())).or_default();
        if list.iter().any(|other| other["name"] == *name) {
            return error(409, "SIGNATURE_EXISTS");
        }
        list.push(entry);
        (201, Vec::new(), Vec::new())
    }

    /// Distribution specification, "Pushing Manifests with Subject": a registry with the referrers API answers the push of
    /// a manifest that has a `subject` with that digest in `OCI-Subject`, whether the subject is there or not.
    fn put_manifest(&self, seen: &Seen, body: &[u8]) -> Reply {
        let media_type = seen.header("content-type").unwrap_or_default();
        let mut reply = relayed(self.registry.send("PUT", &seen.path, &[("content-type", media_type)], body));
        let document: Value = serde_json::from_slice(body).unwrap_or_default();
        if let (201, Some(subject)) = (reply.0, document["subject"]["digest"].as_str()) {
            reply.1.push(("OCI-Subject".into(), subject.into()));
        }
        reply
    }

    /// Distribution specification, "Listing Referrers": 200 with an image index whose descriptors have `artifactType` and
    /// the annotations of the manifest; an empty list rather than 404; 400 for what is no digest. `artifactType` in the
    /// query filters, which `OCI-Filters-Applied` tells. More pages are told by `Link` with `rel="next"`.
    ///
    /// "Enabling the Referrers API": what was pushed before is listed too; so every manifest of the repository is looked
    /// at here.
    fn list_referrers(&self, repository: &str, digest: &str, query: &str) -> Reply {
        if digest.parse::<Digest>().is_err() {
            return error(400, "DIGEST_INVALID");
        }
        let asked = |name: &str| {
            let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
            Some(value.replace("%2F", "/").replace("%2B", "+"))
        };
        let mut list = self.referrers(repository, digest);
        let mut headers = json_type(MediaType::OCI_INDEX);
        if let Some(kind) = asked("artifactType") {
            list.retain(|descriptor| descriptor["artifactType"] == *kind);
            headers.push(("OCI-Filters-Applied".into(), "artifactType".into()));
        }
        let from: usize = asked("from").and_then(|from| from.parse().ok()).unwrap_or(0);
        let mut page: Vec<Value> = list.iter().skip(from).cloned().collect();
        if self.features.page > 0 && page.len() > self.features.page {
            page.truncate(self.features.page);
            let kind = asked("artifactType").map(|kind| format!("&artifactType={kind}")).unwrap_or_default();
            let next = format!("/v2/{repository}/referrers/{digest}?from={}{kind}", from + page.len());
            headers.push(("Link".into(), format!("<{next}>; rel=\"next\"")));
        }
        let index = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": page });
        (200, headers, index.to_string().into_bytes())
    }

    fn referrers(&self, repository: &str, subject: &str) -> Vec<Value> {
        let mut list = Vec::new();
        for name in self.registry.manifests() {
            let Some(digest) = name.strip_prefix(&format!("{repository}@")) else { continue };
            let answer = self.registry.get(&format!("/v2/{repository}/manifests/{digest}"));
            let Ok(document) = serde_json::from_slice::<Value>(&answer.body) else { continue };
            if document["subject"]["digest"] != subject {
                continue;
            }
            let own = document["artifactType"].as_str().filter(|kind| !kind.is_empty());
            let mut descriptor = json!({
                "mediaType": answer.headers["content-type"], "digest": digest, "size": answer.body.len(),
            });
            if let Some(kind) = own.or(document["config"]["mediaType"].as_str()) {
                descriptor["artifactType"] = kind.into();
            }
            if let Some(annotations) = document.get("annotations") {
                descriptor["annotations"] = annotations.clone();
            }
            list.push(descriptor);
        }
        list
    }

    fn has_manifest(&self, repository: &str, digest: &str) -> bool {
        self.registry.get(&format!("/v2/{repository}/manifests/{digest}")).status == 200
    }
}

/// The registry's own answer.
fn relayed(answer: Answer) -> Reply {
    let headers = answer.headers.into_iter().filter(|(name, _)| name != "transfer-encoding");
    (answer.status, headers.collect(), answer.body)
}

fn json_type(media_type: &str) -> Vec<(String, String)> {
    vec![("Content-Type".into(), media_type.into())]
}

/// Distribution specification, "Error Codes".
fn error(status: u16, code: &str) -> Reply {
    let body = json!({ "errors": [{ "code": code, "message": "imitated" }] });
    (status, json_type("application/json"), body.to_string().into_bytes())
}

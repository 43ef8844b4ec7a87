//! Signatures in the form of cosign: carried, judged, made for production, and joined under one tag.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use manifest_schema::{Digest, DigestTag, MediaType, Reference, Timestamp};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use signing::sigstore::{Attachment, SigstoreKey, SigstoreSecretKey, SigstoreSignature, generate_sigstore};
use testkit::http::Client;
use testkit::layout::{API, SHA512, closure, digest, fixtures, repository_and_tag};
use testkit::proxy::{Handler, Seen};
use testkit::{Proxy, Registry, Site, command, need, run_ok};

use crate::common::{Leaves, World};
use crate::set_policy;

/// A key with its files.
struct Cosign {
    secret: SigstoreSecretKey,
    secret_file: PathBuf,
    public_file: PathBuf,
}

impl Cosign {
    fn new(folder: &Path, name: &str) -> Self {
        let made = generate_sigstore(None).unwrap();
        let (secret_file, public_file) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.pub")));
        fs::write(&secret_file, made.secret_pem.expose_secret()).unwrap();
        fs::write(&public_file, &made.public_pem).unwrap();
        let no_passphrase = || -> Result<_, signing::sigstore::SigstoreSecretError> { panic!("not encrypted") };
        let secret = SigstoreSecretKey::load(&secret_file, no_passphrase).unwrap();
        Self { secret, secret_file, public_file }
    }

    fn policy(&self, identity: &str) -> Value {
        json!([{ "type": "sigstoreSigned", "keyPath": self.public_file, "signedIdentity": { "type": identity } }])
    }
}

fn documents(registry: &Registry) -> Vec<Digest> {
    let (repository, _) = repository_and_tag(API);
    let is_document = |d: &Digest| registry.get(&format!("/v2/{repository}/manifests/{d}")).status == 200;
    closure(&fixtures(), API).into_iter().filter(is_document).collect()
}

/// Signs documents in a registry as `cosign sign --key` would.
fn sign(registry: &Registry, key: &Cosign, reference: &str, documents: &[Digest]) {
    let (repository, _) = repository_and_tag(API);
    let reference: Reference = reference.parse().unwrap();
    for digest in documents {
        let signature = key.secret.sign_image(&reference, digest, Timestamp::now(), "test").unwrap();
        let bytes = Attachment::new().with(&signature).unwrap().to_bytes().unwrap();
        registry.put_blob(repository, &blobs::sha256(&signature.payload), &signature.payload);
        registry.put_blob(repository, &bytes.config_digest, &bytes.config);
        let tag = DigestTag::Sig.for_subject(digest).unwrap().to_string();
        registry.put_manifest(repository, &tag, MediaType::OCI_MANIFEST, &bytes.manifest);
    }
}

/// The signatures under a document's tag, with their payloads.
fn signatures(registry: &Registry, digest: &Digest) -> Vec<SigstoreSignature> {
    let (repository, _) = repository_and_tag(API);
    let tag = DigestTag::Sig.for_subject(digest).unwrap();
    let manifest = registry.get(&format!("/v2/{repository}/manifests/{tag}"));
    assert_eq!(manifest.status, 200, "{}", manifest.text());
    let attachment = Attachment::parse(&manifest.body).unwrap();
    let payload = |d: &Digest| registry.get(&format!("/v2/{repository}/blobs/{d}")).body;
    let signature = |l: &signing::sigstore::AttachedLayer| SigstoreSignature {
        payload: payload(&l.digest),
        annotations: l.annotations.clone(),
    };
    attachment.layers().iter().map(signature).collect()
}

#[test]
fn cosign_signatures_travel_and_decide() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let keys = site.scratch("keys");
    let (key, other) = (Cosign::new(&keys, "images"), Cosign::new(&keys, "other"));
    let documents = documents(&site.origin);
    let name = format!("{}/payments/api:2.3.1", site.origin.host());
    let host = site.origin.host().to_string();
    sign(&site.origin, &key, &name, &documents);
    let bundle = site.packed(1);

    for (policy, reason) in [
        (other.policy("matchExact"), "cosign signature 1"),
        (
            json!([{ "type": "signedBy", "keyType": "GPGKeys", "keyPath": site.release_key.certificate_file }]),
            "there is no signature",
        ),
    ] {
        set_policy(&mut site, json!({ &host: policy }));
        let before = World::of(&site);
        let ran = site.receive(&bundle, &[]).expect_code(3);
        assert!(ran.stderr.contains(reason), "expected {reason}\n{ran}");
        before.leaves_only(Leaves::Refusal, &World::of(&site)).unwrap();
    }
    set_policy(&mut site, json!({ &host: key.policy("matchExact") }));
    let inspected = run_ok(site.import(&["inspect"]).arg(&bundle));
    assert_eq!(inspected.stdout.matches("cosign signature  sha256:").count(), 3, "{inspected}");
    assert_eq!(inspected.stdout.matches(&key.secret.public().fingerprint()).count(), 3, "{inspected}");
    site.receive(&bundle, &[]).expect_code(0);
    let (repository, _) = repository_and_tag(API);
    for digest in &documents {
        let tag = format!("{repository}:{}", DigestTag::Sig.for_subject(digest).unwrap());
        assert_eq!(site.production.tags()[&tag], site.origin.tags()[&tag], "the origin's own document");
    }
}

#[test]
fn production_signs_in_the_form_of_cosign_beside_the_origins_signatures() {
    if !need(&["docker-registry", "openssl"]) {
        return;
    }
    let mut site = Site::new();
    let keys = site.scratch("keys");
    let (theirs, ours) = (Cosign::new(&keys, "images"), Cosign::new(&site.import_dir(), "production"));
    let documents = documents(&site.origin);
    let name = format!("{}/payments/api:2.3.1", site.origin.host());
    sign(&site.origin, &theirs, &name, &documents);
    site.import["production"]["cosign"] = json!({ "key": "production.key" });
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);

    let production = format!("{}/payments/api:2.3.1", site.production.host());
    let public = SigstoreKey::from_pem(&fs::read(&ours.public_file).unwrap()).unwrap();
    let check = |expected: usize| {
        for digest in &documents {
            let found = signatures(&site.production, digest);
            assert_eq!(found.len(), expected, "{digest}");
            let own: Vec<_> = found
                .iter()
                .filter_map(|s| signing::verify_sigstore(s, std::slice::from_ref(&public)).ok().map(|p| (s, p)))
                .collect();
            assert_eq!(own.len(), 1, "one signature by the production key");
            let (signature, payload) = &own[0];
            assert_eq!((payload.reference.raw(), payload.digest), (production.as_str(), *digest));
            openssl_verifies(&keys, &ours.public_file, signature);
        }
    };
    check(2);
    let shown = run_ok(&mut site.import(&["ledger", "show", "payments-1"]));
    let index = digest(&fixtures(), API);
    assert!(
        shown
            .stdout
            .contains(&format!("payments/api:{} for {production}", DigestTag::Sig.for_subject(&index).unwrap())),
        "{shown}"
    );

    // Nothing is added for what is there already, and another origin's signature is joined.
    let before = site.production.tags();
    site.receive(&site.packed(2), &[]).expect_code(0);
    assert_eq!(site.production.tags(), before);
    check(2);
    let more = Cosign::new(&keys, "more");
    sign(&site.origin, &more, &name, &documents);
    site.receive(&site.packed(3), &[]).expect_code(0);
    check(3);
}

/// What cosign's specification says: the annotation is the signature over the payload, in base64.
fn openssl_verifies(folder: &Path, public: &Path, signature: &SigstoreSignature) {
    let (payload, file) = (folder.join("payload"), folder.join("signature"));
    fs::write(&payload, &signature.payload).unwrap();
    fs::write(folder.join("signature.b64"), &signature.annotations["dev.cosignproject.cosign/signature"]).unwrap();
    run_ok(
        command("openssl", folder)
            .args(["base64", "-d", "-A", "-in"])
            .arg(folder.join("signature.b64"))
            .arg("-out")
            .arg(&file),
    );
    run_ok(
        command("openssl", folder)
            .args(["dgst", "-sha256", "-verify"])
            .arg(public)
            .arg("-signature")
            .arg(&file)
            .arg(&payload),
    );
}

#[test]
fn a_signature_tag_that_names_something_else_is_not_overwritten() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let ours = Cosign::new(&site.import_dir(), "production");
    assert!(ours.secret_file.is_file());
    site.import["production"]["cosign"] = json!({ "key": "production.key" });
    let bundle = site.packed(1);
    let (repository, _) = repository_and_tag(API);
    let tag = DigestTag::Sig.for_subject(&digest(&fixtures(), API)).unwrap().to_string();
    let empty = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [] }).to_string();
    site.production.put_manifest(repository, &tag, MediaType::OCI_INDEX, empty.as_bytes());
    let ran = site.receive(&bundle, &[]).expect_code(1);
    assert!(ran.stderr.contains(&format!("{tag}: the cosign signatures cannot be put under it")), "{ran}");
    assert!(!ran.stderr.contains("do not use it"), "the bundle is not at fault: {ran}");
    assert_eq!(site.production.tags()[&format!("{repository}:{tag}")], blobs::sha256(empty.as_bytes()));
    assert!(!site.production.tags().contains_key("payments/api:2.3.1"), "no image was published");
}

/// What the origin has under a `.sig` tag, but is no such document.
#[test]
fn what_is_no_cosign_signature_counts_for_nothing() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let keys = site.scratch("keys");
    let key = Cosign::new(&keys, "images");
    let (repository, _) = repository_and_tag(API);
    let host = site.origin.host().to_string();
    let name = format!("{host}/payments/api:2.3.1");
    let documents = documents(&site.origin);
    sign(&site.origin, &key, &name, &documents);
    let empty = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [] }).to_string();
    let index = digest(&fixtures(), API);
    let tag = DigestTag::Sig.for_subject(&index).unwrap().to_string();
    site.origin.put_manifest(repository, &tag, MediaType::OCI_INDEX, empty.as_bytes());
    let bundle = site.packed(1);
    set_policy(&mut site, json!({ &host: key.policy("matchExact") }));
    let ran = site.receive(&bundle, &[]).expect_code(3);
    assert!(ran.stderr.contains(&format!("the image policy refuses {index} (the index)")), "{ran}");
    assert!(ran.stderr.contains("the manifest of attached signatures is refused"), "{ran}");
    // Without a policy it stops nothing, and travels as it is.
    site.import["streams"]["payments"].as_object_mut().unwrap().remove("images");
    let inspected = run_ok(site.import(&["inspect"]).arg(&bundle));
    assert!(inspected.stdout.contains("NO        the manifest of attached signatures is refused"), "{inspected}");
    site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(site.production.tags()[&format!("{repository}:{tag}")], blobs::sha256(empty.as_bytes()));
}

#[test]
fn more_signatures_than_a_node_would_read_are_not_looked_at() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let keys = site.scratch("keys");
    let key = Cosign::new(&keys, "images");
    let (repository, _) = repository_and_tag(API);
    let host = site.origin.host().to_string();
    let documents = documents(&site.origin);
    let reference: Reference = format!("{host}/payments/api:2.3.1").parse().unwrap();
    for digest in &documents {
        let mut attachment = Attachment::new();
        for n in 0..=manifest_schema::LIMITS.lookaside_signatures {
            let signature = key.secret.sign_image(&reference, digest, Timestamp::now(), &n.to_string()).unwrap();
            site.origin.put_blob(repository, &blobs::sha256(&signature.payload), &signature.payload);
            attachment = attachment.with(&signature).unwrap();
        }
        let bytes = attachment.to_bytes().unwrap();
        site.origin.put_blob(repository, &bytes.config_digest, &bytes.config);
        let tag = DigestTag::Sig.for_subject(digest).unwrap().to_string();
        site.origin.put_manifest(repository, &tag, MediaType::OCI_MANIFEST, &bytes.manifest);
    }
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0).expect_stderr(".sig stays as it is");
    assert!(!site.production.tags().keys().any(|tag| tag.ends_with(".sig")));
    set_policy(&mut site, json!({ &host: key.policy("matchExact") }));
    let bundle = site.packed(2);
    let ran = site.receive(&bundle, &[]).expect_code(3);
    assert!(ran.stderr.contains("it holds 128 signatures; at most 127 are looked at"), "{ran}");
}

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// A sigstore bundle with an in-toto statement about a digest, signed with a key by `openssl`.
fn sigstore_bundle(folder: &Path, key: &Cosign, about: &Digest) -> Vec<u8> {
    use base64::Engine;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": "api", "digest": { "sha256": about.hex() } }],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {},
    })
    .to_string();
    let kind = "application/vnd.in-toto+json";
    let message = format!("DSSEv1 {} {kind} {} {statement}", kind.len(), statement.len());
    fs::write(folder.join("message"), message).unwrap();
    run_ok(
        command("openssl", folder)
            .args(["dgst", "-sha256", "-out", "signature", "-sign"])
            .arg(&key.secret_file)
            .arg("message")
            .current_dir(folder),
    );
    json!({
        "mediaType": BUNDLE,
        "verificationMaterial": { "publicKey": { "hint": "images" }, "tlogEntries": [] },
        "dsseEnvelope": {
            "payload": encode(statement.as_bytes()),
            "payloadType": kind,
            "signatures": [{ "sig": encode(&fs::read(folder.join("signature")).unwrap()), "keyid": "" }],
        },
    })
    .to_string()
    .into_bytes()
}

#[test]
fn sigstore_bundles_are_verified_with_the_streams_keys_and_told_of() {
    if !need(&["docker-registry", "openssl"]) {
        return;
    }
    let mut site = Site::new();
    let keys = site.scratch("keys");
    let (key, other) = (Cosign::new(&keys, "images"), Cosign::new(&keys, "other"));
    let image = digest(&fixtures(), API);
    let (repository, _) = repository_and_tag(API);
    let about_it =
        crate::referrers::artifact(&site.origin, BUNDLE, &sigstore_bundle(&keys, &key, &image), Some(&image));
    let elsewhere = sigstore_bundle(&keys, &key, &blobs::sha256(b"another image"));
    let about_another = crate::referrers::artifact(&site.origin, BUNDLE, &elsewhere, Some(&image));
    let index =
        json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [about_it, about_another] });
    let tag = manifest_schema::referrers_tag(&image).to_string();
    site.origin.put_manifest(repository, &tag, MediaType::OCI_INDEX, index.to_string().as_bytes());
    let bundle = site.packed(1);

    let rows = |site: &Site| -> Vec<(Value, Value)> {
        let report = run_ok(site.import(&["inspect", "--json"]).arg(&bundle)).json();
        let rows = report["judged"][0]["evidence"].as_array().unwrap().clone();
        assert!(rows.iter().all(|r| r["kind"] == "sigstore-bundle"), "{rows:?}");
        assert!(rows.iter().all(|r| r["what"] == "in-toto attestation: https://slsa.dev/provenance/v1"), "{rows:?}");
        rows.iter().map(|r| (r["verified"].clone(), r["note"].clone())).collect()
    };
    let another = (json!(false), json!("it is about something else"));
    assert_eq!(rows(&site), [(Value::Null, json!("not verified: no sigstore keys are configured")), another.clone()]);
    site.import["streams"]["payments"]["sigstore"] = json!({ "keys": [other.public_file] });
    let found = rows(&site);
    assert_eq!(found[0].0, json!(false));
    assert!(found[0].1.as_str().unwrap().contains(&other.secret.public().fingerprint()), "{found:?}");
    site.import["streams"]["payments"]["sigstore"] = json!({ "keys": [other.public_file, key.public_file] });
    assert_eq!(rows(&site), [(json!(true), Value::Null), another]);
    site.receive(&bundle, &[]).expect_code(0);
    let shown = run_ok(&mut site.import(&["ledger", "show", "payments-1"]));
    assert!(
        shown.stdout.contains(&format!(
            "yes  in-toto attestation: https://slsa.dev/provenance/v1 by {}",
            key.secret.public().fingerprint()
        )),
        "{shown}"
    );
}

#[test]
fn a_key_that_keygen_made_signs_for_production() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let passphrase = site.import_dir().join("cosign.passphrase");
    fs::write(&passphrase, "correct horse\n").unwrap();
    let made = run_ok(site.import(&["keygen", "cosign", "--passphrase-file"]).arg(&passphrase));
    let public = SigstoreKey::from_pem(&fs::read(site.import_dir().join("cosign.pub")).unwrap()).unwrap();
    assert_eq!(made.stdout.trim(), public.fingerprint());
    let secret = fs::read_to_string(site.import_dir().join("cosign.key")).unwrap();
    assert!(secret.starts_with("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----"), "{secret}");
    let bundle = site.packed(1);
    let key = ["--cosign-key", "cosign.key", "--cosign-passphrase-file"];
    fs::write(site.import_dir().join("wrong"), "battery staple\n").unwrap();
    let ran = site.receive(&bundle, &[key[0], key[1], key[2], "wrong"]).expect_code(2);
    assert!(ran.stderr.contains("wrong passphrase") && !ran.stderr.contains("battery"), "{ran}");
    site.receive(&bundle, &[key[0], key[1], key[2], "cosign.passphrase"]).expect_code(0);
    let found = signatures(&site.production, &digest(&fixtures(), API));
    assert_eq!(found.len(), 1);
    assert!(signing::verify_sigstore(&found[0], &[public]).is_ok());
    // A key is never overwritten.
    testkit::run(site.import(&["keygen", "cosign", "--no-passphrase"]).arg("-q")).expect_code(2);
}

#[test]
fn an_image_that_no_tag_can_name_is_refused_before_anything_is_pushed() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_from_layout(SHA512);
    let bundle = site.packed(1);
    let key = Cosign::new(&site.import_dir(), "production");
    let before = World::of(&site);
    let ran = site.receive(&bundle, &["--cosign-key", key.secret_file.to_str().unwrap()]).expect_code(2);
    ran.expect_stderr("no tag is that long").expect_stderr("leave --cosign-key out");
    before.leaves_only(Leaves::Nothing, &World::of(&site)).unwrap();
}

#[test]
fn the_production_cosign_key_is_nobody_elses() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let key = Cosign::new(&site.import_dir(), "production");
    let host = site.origin.host().to_string();
    let bundle = site.packed(1);
    site.import["production"]["cosign"] = json!({ "key": "production.key" });
    let before = World::of(&site);
    set_policy(&mut site, json!({ &host: key.policy("matchExact") }));
    let refused = "is configured for two roles, production and a stream";
    site.receive(&bundle, &[]).expect_code(2).expect_stderr(refused);
    site.import["streams"]["payments"].as_object_mut().unwrap().remove("images");
    site.import["streams"]["payments"]["sigstore"] = json!({ "keys": [key.public_file] });
    site.receive(&bundle, &[]).expect_code(2).expect_stderr(refused);
    before.leaves_only(Leaves::Nothing, &World::of(&site)).unwrap();
}

/// A registry in which somebody else overwrites the index's signatures, each time after they were changed.
struct Racing {
    registry: String,
    document: Vec<u8>,
    times: AtomicUsize,
}

impl Handler for Racing {
    fn wants(&self, seen: &Seen) -> bool {
        seen.method == "PUT" && seen.path.ends_with(".sig")
    }

    fn answer(&self, seen: &Seen, body: &[u8]) -> (u16, Vec<(String, String)>, Vec<u8>) {
        let url = format!("http://{}{}", self.registry, seen.path);
        let put = |bytes: &[u8]| {
            Client::new(None, None).send("PUT", &url, &[("Content-Type", MediaType::OCI_MANIFEST)], bytes)
        };
        let answer = put(body);
        if self.times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            put(&self.document);
        }
        (answer.status, answer.headers.into_iter().collect(), answer.body)
    }
}

#[test]
fn signatures_that_somebody_else_makes_meanwhile_are_not_lost() {
    if !need(Site::NEEDS) {
        return;
    }
    for (times, wins) in [(2, true), (1000, false)] {
        let mut site = Site::new();
        let keys = site.scratch("keys");
        let (ours, theirs) = (Cosign::new(&site.import_dir(), "production"), Cosign::new(&keys, "theirs"));
        site.import["production"]["cosign"] = json!({ "key": "production.key" });
        let (repository, tag) = repository_and_tag(API);
        // One document, so that it is clear whose signatures are overwritten.
        let platform = documents(&site.origin).into_iter().find(|d| *d != digest(&fixtures(), API)).unwrap();
        site.release["images"] = json!([format!("{}/{repository}@{platform}", site.origin.host())]);
        let reference: Reference = format!("{}/{repository}:{tag}", site.production.host()).parse().unwrap();
        let signature = theirs.secret.sign_image(&reference, &platform, Timestamp::now(), "theirs").unwrap();
        let bytes = Attachment::new().with(&signature).unwrap().to_bytes().unwrap();
        site.production.put_blob(repository, &blobs::sha256(&signature.payload), &signature.payload);
        site.production.put_blob(repository, &bytes.config_digest, &bytes.config);
        let registry = site.production.host().to_string();
        let racing = Racing { registry: registry.clone(), document: bytes.manifest, times: AtomicUsize::new(times) };
        let proxy = Proxy::with_handler(&registry, Arc::new(racing));
        let to = format!("{}/payments", proxy.host());
        site.import["streams"]["payments"]["to"][0]["to"] = to.into();
        let bundle = site.packed(1);
        let ran = site.receive(&bundle, &[]);
        if !wins {
            ran.expect_code(1).expect_stderr("somebody else changes it at the same time");
            assert!(!site.production.tags().keys().any(|tag| tag.contains("sealift-")), "no image was published");
            continue;
        }
        ran.expect_code(0);
        let found = signatures(&site.production, &platform);
        for key in [&ours, &theirs] {
            let public = std::slice::from_ref(key.secret.public());
            assert_eq!(found.iter().filter(|s| signing::verify_sigstore(s, public).is_ok()).count(), 1);
        }
    }
}

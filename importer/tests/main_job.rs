//! From the registry of the developers to that of the clusters: what came in is what went out, to the byte and signed.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use common::{World, acts, signatures};
use manifest_schema::{Digest, MediaType};
use serde_json::json;
use testkit::layout::{API, BUSYBOX, CHART, LEGACY, REGISTRY_FIXTURES, closure, digest, fixtures, repository_and_tag};
use testkit::{Fault, Gpg, Options, Proxy, Ran, Registry, Rule, Site, command, need, run, run_fails, run_ok};

/// The documents of the fixtures: `(repository, digest)`.
fn documents(names: &[&'static str]) -> BTreeSet<(String, Digest)> {
    let mut found = BTreeSet::new();
    for name in names {
        let (repository, _) = repository_and_tag(name);
        for digest in closure(&fixtures(), name) {
            let bytes = testkit::layout::blob(&fixtures(), &digest);
            let media_type = serde_json::from_slice::<serde_json::Value>(&bytes).ok().and_then(|v| {
                let said = v["mediaType"].as_str().map(String::from);
                said.or_else(|| v.get("layers").map(|_| MediaType::OCI_MANIFEST.into()))
            });
            if media_type.is_some_and(|m| MediaType::DOCUMENTS.contains(&m.as_str())) {
                found.insert((repository.to_string(), digest));
            }
        }
    }
    found
}

/// What is at a digest in a registry, whether it is a document or a blob: media type and bytes.
fn at(registry: &Registry, repository: &str, digest: &Digest) -> (String, Vec<u8>) {
    let manifest = registry.get(&format!("/v2/{repository}/manifests/{digest}"));
    if manifest.status == 200 {
        return (manifest.headers["content-type"].clone(), manifest.body);
    }
    let blob = registry.get(&format!("/v2/{repository}/blobs/{digest}"));
    assert_eq!(blob.status, 200, "{repository}@{digest}: {}", blob.text());
    ("blob".into(), blob.body)
}

#[test]
fn every_digest_of_the_origin_is_in_production_with_its_signatures() {
    if !need(&["docker-registry", "skopeo", "gpg"]) {
        return;
    }
    let mut site = Site::new();
    site.list_fixtures(&REGISTRY_FIXTURES);
    let bundle = site.packed(42);
    let ran = site.receive(&bundle, &[]).expect_code(0);
    assert!(ran.stdout.contains("received: payments 42"), "{ran}");

    for name in REGISTRY_FIXTURES {
        let (repository, tag) = repository_and_tag(name);
        for digest in closure(&fixtures(), name) {
            let (there, here) = (at(&site.origin, repository, &digest), at(&site.production, repository, &digest));
            assert!(there == here, "{name}: {digest} is {} in production, {} at the origin", here.0, there.0);
        }
        assert_eq!(site.production.tags()[&format!("{repository}:{tag}")], digest(&fixtures(), name));
    }
    assert_eq!(site.production.tags().len(), REGISTRY_FIXTURES.len());
    assert_eq!(site.production.manifests(), site.origin.manifests());
    assert_eq!(site.production.open_uploads(), 0);

    let expected: BTreeSet<String> = documents(&REGISTRY_FIXTURES)
        .iter()
        .map(|(repository, digest)| format!("{repository}@sha256={}/signature-1", digest.hex()))
        .collect();
    assert_eq!(signatures(&site).into_keys().collect::<BTreeSet<_>>(), expected);

    // skopeo reads no nested index with --all.
    for name in [BUSYBOX, API, LEGACY, CHART] {
        let (repository, tag) = repository_and_tag(name);
        site.skopeo_verifies(repository, tag).expect_code(0);
    }
    ledger_says_so(&site, &bundle);

    let before = World::of(&site);
    let again = site.receive(&bundle, &[]).expect_code(0);
    assert!(again.stdout.contains("already received") && again.stdout.contains("nothing to do"), "{again}");
    assert_eq!(World::of(&site), before, "a second run changes nothing");
}

/// What an auditor can read years later.
fn ledger_says_so(site: &Site, bundle: &Path) {
    assert_eq!(acts(site), ["created", "begun", "signing", "recorded"]);
    let manifest = common::open(site, bundle).manifest();
    let list = run(&mut site.import(&["ledger", "list", "--json"])).expect_code(0).json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["bundle"], manifest["bundle"]);
    assert_eq!((&list[0]["stream"], &list[0]["sequence"]), (&json!("payments"), &json!(42)));
    assert_eq!((&list[0]["status"], &list[0]["images"]), (&json!("recorded"), &json!(5)));

    let show = |what: &str| run(&mut site.import(&["ledger", "show", what, "--json"])).expect_code(0).json();
    let shown = show("payments-42");
    assert_eq!(shown, show(manifest["bundle"].as_str().unwrap()));
    let recorded = &shown["entries"].as_array().unwrap().last().unwrap()["act"]["recorded"];
    assert_eq!(recorded["signers"], json!([site.release_key.fingerprint]));
    let documents = documents(&REGISTRY_FIXTURES);
    assert_eq!(recorded["signatures"].as_array().unwrap().len(), documents.len());
    assert_eq!(recorded["no_policy"], json!(["image-policy", "referrers", "scan-gate"]));
    for (image, name) in recorded["images"].as_array().unwrap().iter().zip(REGISTRY_FIXTURES) {
        let (repository, tag) = repository_and_tag(name);
        assert_eq!(image["origin"], format!("{}/{repository}:{tag}", site.origin.host()));
        assert_eq!(image["production"], format!("{}/{repository}:{tag}", site.production.host()));
        assert_eq!(image["digest"], digest(&fixtures(), name).to_string());
    }
    let on_disk = signatures(site);
    for signature in recorded["signatures"].as_array().unwrap() {
        let file = &on_disk[signature["path"].as_str().unwrap()];
        assert_eq!(signature["file"], file.to_string());
    }
    let signing = shown["entries"].as_array().unwrap().iter().find_map(|e| e["act"].get("signing")).unwrap();
    assert_eq!(signing["production"], site.production_key.fingerprint);
    assert_eq!(signing["images"].as_array().unwrap().len(), documents.len());

    let text = run(&mut site.import(&["ledger", "show", "payments-42"])).expect_code(0);
    for words in
        [&site.release_key.fingerprint, &site.production_key.fingerprint, "(as claimed)", "no policy configured"]
    {
        assert!(text.stdout.contains(words), "{words}\n{text}");
    }
    run(&mut site.import(&["ledger", "verify"])).expect_code(0);
}

/// `podman pull` with an image store of its own, under a policy that rejects all but the production key.
fn podman_pulls(site: &Site, repository: &str, tag: &str) -> Ran {
    let home = site.scratch("podman");
    let (registries, policy) = (home.join(".config/containers/registries.d"), home.join("policy.json"));
    fs::create_dir_all(&registries).unwrap();
    let lookaside = format!("file://{}", site.lookaside().display());
    fs::write(registries.join("d.yaml"), json!({ "default-docker": { "lookaside": lookaside } }).to_string()).unwrap();
    let by_production = json!({
        "type": "signedBy", "keyType": "GPGKeys", "keyPath": site.production_key.certificate_file,
        "signedIdentity": { "type": "matchExact" },
    });
    let accepts = json!({ "docker": { site.production.host(): [by_production] } });
    fs::write(&policy, json!({ "default": [{ "type": "reject" }], "transports": accepts }).to_string()).unwrap();
    let mut podman = command("podman", &home);
    podman.arg("--root").arg(home.join("root")).arg("--runroot").arg(home.join("run"));
    podman.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
    podman.args(["pull", "-q", "--tls-verify=false", "--signature-policy"]).arg(policy);
    run(podman.arg(format!("docker://{}/{repository}:{tag}", site.production.host())))
}

fn says_signature(ran: &Ran) -> bool {
    ran.stderr.to_lowercase().contains("signature")
}

#[test]
fn clusters_take_what_production_signed_and_nothing_else() {
    if !need(&["docker-registry", "skopeo", "podman", "gpg"]) {
        return;
    }
    let site = Site::new();
    let bundle = site.packed(42);
    site.receive(&bundle, &[]).expect_code(0);
    site.skopeo_verifies("payments/api", "2.3.1").expect_code(0);
    podman_pulls(&site, "payments/api", "2.3.1").expect_code(0);

    // The same image under a name that nobody signed.
    let index = digest(&fixtures(), API);
    let (media_type, bytes) = at(&site.production, "payments/api", &index);
    site.production.put_manifest("payments/api", "2.4.0", &media_type, &bytes);
    // An image that nobody received.
    site.production.load_layout(&fixtures(), BUSYBOX, "payments/busybox", "1.36");
    for (repository, tag) in [("payments/api", "2.4.0"), ("payments/busybox", "1.36")] {
        for refused in [site.skopeo_verifies(repository, tag), podman_pulls(&site, repository, tag)] {
            assert!(refused.code != Some(0) && says_signature(&refused), "{refused}");
        }
    }

    // A byte of each signature in turn. The index's is for those who pull it whole: skopeo and podman ask for the manifests'.
    let (gpg, document) = (Gpg::new(), site.scratch("podman").join("index.json"));
    gpg.import(&fs::read(&site.production_key.certificate_file).unwrap());
    fs::write(&document, &bytes).unwrap();
    let reference = format!("{}/payments/api:2.3.1", site.production.host());
    let verifies = |file: &Path| {
        if file.to_string_lossy().contains(&index.hex()) {
            let mut skopeo = gpg.with_home("skopeo", &["standalone-verify"]);
            return run(skopeo.arg(&document).args([&reference, &site.production_key.fingerprint]).arg(file));
        }
        site.skopeo_verifies("payments/api", "2.3.1")
    };
    for name in signatures(&site).into_keys() {
        let file = site.lookaside().join(name);
        let good = fs::read(&file).unwrap();
        verifies(&file).expect_code(0);
        testkit::hostile::flip_bit(&file);
        let refused = verifies(&file);
        assert!(refused.code != Some(0) && says_signature(&refused), "{refused}");
        fs::write(file, good).unwrap();
    }
    site.skopeo_verifies("payments/api", "2.3.1").expect_code(0);
}

#[test]
fn stock_tools_check_and_open_a_bundle() {
    if !need(&["docker-registry", "skopeo", "gpg", "gpgv", "age", "zstd", "tar", "sha256sum"]) {
        return;
    }
    let mut site = Site::new();
    site.list_fixtures(&REGISTRY_FIXTURES);
    let bundle = site.packed(42);
    let gpg = Gpg::new();
    let ring = bundle.join("../release.gpg");
    run_ok(gpg.command().arg("--dearmor").arg("--output").arg(&ring).arg(&site.release_key.certificate_file));
    let gpgv = || {
        let mut gpgv = gpg.with_home("gpgv", &["--keyring"]);
        gpgv.arg(ring.canonicalize().unwrap()).args(["SHA256SUMS.asc", "SHA256SUMS"]).current_dir(&bundle);
        gpgv
    };
    run_ok(&mut gpgv());
    let sums = || {
        let mut sums = command("sha256sum", &bundle);
        sums.args(["-c", "--strict", "--ignore-missing", "SHA256SUMS"]).current_dir(&bundle);
        sums
    };
    assert_eq!(run_ok(&mut sums()).stdout, "LABEL.txt: OK\npayments-42.0001.tar.zst.age: OK\n");

    let layout = site.unpack_with_stock_tools(&bundle);
    let manifest = common::open(&site, &bundle).manifest();
    let mut expected: BTreeSet<String> =
        ["sealift/manifest.json", "sealift/manifest.json.asc", "oci-layout", "index.json"].map(String::from).into();
    for blob in manifest["blobs"].as_array().unwrap() {
        let digest: Digest = blob["digest"].as_str().unwrap().parse().unwrap();
        let bytes = fs::read(layout.join(digest.layout_path())).unwrap();
        assert_eq!((blobs::sha256(&bytes), json!(bytes.len())), (digest, blob["size"].clone()));
        expected.insert(digest.layout_path());
    }
    assert_eq!(common::files(&layout).into_keys().collect::<BTreeSet<_>>(), expected, "no more and no less");
    for name in REGISTRY_FIXTURES {
        for digest in closure(&fixtures(), name) {
            assert!(expected.contains(&digest.layout_path()), "{name}: {digest}");
        }
    }
    // skopeo's oci: reads what is OCI, and flat.
    for name in [API, BUSYBOX, CHART] {
        let (repository, tag) = repository_and_tag(name);
        let from = format!("oci:{}:{}/{repository}:{tag}", layout.display(), site.origin.host());
        let to = site.scratch("copied").join(tag);
        let mut skopeo = command("skopeo", &layout);
        skopeo.args(["--insecure-policy", "copy", "--all", "--preserve-digests", &from]);
        run_ok(skopeo.arg(format!("dir:{}", to.display())));
        assert_eq!(blobs::sha256(&fs::read(to.join("manifest.json")).unwrap()), digest(&fixtures(), name));
    }

    let label = fs::read_to_string(bundle.join("LABEL.txt")).unwrap();
    for words in [manifest["bundle"].as_str().unwrap(), &site.release_key.fingerprint, "gpgv --keyring", "sha256sum -c"]
    {
        assert!(label.contains(words), "{words}\n{label}");
    }
    testkit::hostile::flip_bit(&bundle.join("LABEL.txt"));
    run_fails(&mut sums());
    testkit::hostile::edit_seal(&bundle, |text| text.replacen(" 1 sha256", " 2 sha256", 1));
    run_fails(&mut gpgv());
}

/// A detached signature in front of a literal packet of what it signs: an inline message (RFC 9580, section 10.3).
fn inline(gpg: &Gpg, armored: &[u8], document: &[u8], folder: &Path) -> PathBuf {
    let (armor, out) = (folder.join("armored"), folder.join("message"));
    fs::write(&armor, armored).unwrap();
    let _ = fs::remove_file(&out);
    run_ok(gpg.command().arg("--dearmor").arg("--output").arg(&out).arg(&armor));
    let length = u32::try_from(document.len() + 6).unwrap().to_be_bytes();
    // A literal packet in the old format with a length of four bytes: binary, no name, no date.
    let literal = [&[0xae][..], &length, &[b'b', 0, 0, 0, 0, 0], document].concat();
    fs::write(&out, [fs::read(&out).unwrap(), literal].concat()).unwrap();
    out
}

#[test]
fn no_signature_of_the_bundle_can_be_turned_into_an_image_signature() {
    if !need(&["docker-registry", "skopeo", "gpg"]) {
        return;
    }
    let site = Site::new();
    let bundle = site.packed(42);
    let opened = common::open(&site, &bundle);
    let (gpg, folder) = (Gpg::new(), site.scratch("inline"));
    gpg.import(&fs::read(&site.release_key.certificate_file).unwrap());
    let reference = format!("{}/payments/api:2.3.1", site.origin.host());
    let manifest = folder.join("manifest.json");
    let index = digest(&fixtures(), API);
    fs::write(&manifest, testkit::layout::blob(&fixtures(), &index)).unwrap();
    let verify = |message: &Path| {
        let mut skopeo = gpg.with_home("skopeo", &["standalone-verify"]);
        run(skopeo.arg(&manifest).args([&reference, &site.release_key.fingerprint]).arg(message))
    };

    // What could be done if the key signed bytes of somebody else's choice.
    let payload = json!({
        "critical": {
            "identity": { "docker-reference": reference }, "image": { "docker-manifest-digest": index.to_string() },
            "type": "atomic container signature",
        },
        "optional": {},
    })
    .to_string();
    let chosen = inline(&gpg, &site.release_key.sign(payload.as_bytes()), payload.as_bytes(), &folder);
    verify(&chosen).expect_code(0);

    let seal = fs::read(bundle.join("SHA256SUMS")).unwrap();
    let (of_seal, of_manifest) = (
        fs::read(bundle.join("SHA256SUMS.asc")).unwrap(),
        opened.content(testkit::hostile::MANIFEST_SIGNATURE).to_vec(),
    );
    for (signature, document) in [(of_seal, seal.as_slice()), (of_manifest, opened.content(testkit::hostile::MANIFEST))]
    {
        let message = inline(&gpg, &signature, document, &folder);
        let decrypted = run_ok(gpg.command().arg("--decrypt").arg(&message));
        assert_eq!(decrypted.stdout.as_bytes(), document, "gpg takes it for a signed message");
        let refused = verify(&message);
        assert!(refused.code != Some(0), "{refused}");
    }
}

#[test]
fn registries_have_passwords_and_certificates_of_their_own() {
    if !need(&["docker-registry", "openssl", "htpasswd"]) {
        return;
    }
    let origin = Registry::with(Options { user: Some(("dev", "one word")), ..Options::default() });
    origin.load_fixtures();
    let production = Registry::with(Options { user: Some(("ops", "another")), tls: true, ..Options::default() });
    let site = Site::between(origin, production);
    let path = |path: PathBuf| path.display().to_string();
    let (dev, ops) = (path(site.origin.authfile("dev", "one word")), path(site.production.authfile("ops", "another")));
    let certs = path(site.production.certs_dir());

    let denied = site.pack(42, &[]).expect_code(1);
    assert!(denied.stderr.contains("denies access") && denied.stderr.contains("401"), "{denied}");
    site.pack(42, &["--authfile", &dev]).expect_code(0);
    let bundle = site.media().join("payments-42");
    let untrusted = site.receive(&bundle, &["--authfile", &ops, "--retries", "0"]).expect_code(1);
    assert!(untrusted.stderr.contains("TLS with"), "{untrusted}");
    site.receive(&bundle, &["--cert-dir", &certs]).expect_code(1).expect_stderr("denies access");
    site.receive(&bundle, &["--cert-dir", &certs, "--authfile", &dev]).expect_code(1).expect_stderr("denies access");
    assert!(site.production.is_empty());
    let received = site.receive(&bundle, &["--cert-dir", &certs, "--authfile", &ops, "-vv"]).expect_code(0);
    assert_eq!(site.production.tags()["payments/api:2.3.1"], digest(&fixtures(), API));
    for ran in [denied, untrusted, received] {
        assert!(
            !ran.stderr.contains("another") && !ran.stderr.contains("b3BzOmFub3RoZXI"),
            "a password is shown\n{ran}"
        );
    }
}

#[test]
fn a_blob_that_one_repository_has_is_put_into_the_other_too() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_fixtures(&[API]);
    let first = site.packed(41);
    site.receive(&first, &[]).expect_code(0);
    let digest = site.list_api_as("payments/twin", "2.3.1");
    let second = site.packed(42);
    let ran = site.receive(&second, &[]).expect_code(0);
    assert!(!ran.stderr.contains("not read"), "{ran}");
    assert_eq!(site.production.tags().get("payments/twin:2.3.1"), Some(&digest));
}

#[test]
fn a_blob_that_two_repositories_need_is_sent_once() {
    if !need(Site::NEEDS) {
        return;
    }
    let shared: BTreeSet<Digest> = {
        let [api, busybox] = [API, BUSYBOX].map(|name| closure(&fixtures(), name));
        api.intersection(&busybox).copied().collect()
    };
    assert!(!shared.is_empty());
    for mounts in [true, false] {
        let mut site = Site::new();
        site.list_fixtures(&[API, BUSYBOX]);
        let bundle = site.packed(42);
        let proxy = Proxy::before(&site.production);
        site.import["streams"]["payments"]["to"][0]["to"] = format!("{}/payments", proxy.host()).into();
        if !mounts {
            // As a registry answers that does not mount: with an upload to be filled.
            for n in 1..=shared.len() {
                let begun = site.production.send("POST", "/v2/payments/busybox/blobs/uploads/", &[], &[]);
                let location = begun.headers["location"].strip_prefix(&site.production.url()).unwrap().to_string();
                let answer = Fault::Answer(202, vec![("location".into(), location)], Vec::new());
                proxy.rule(Rule::new(answer).method("POST").path("mount=").nth(n));
            }
        }
        site.receive(&bundle, &[]).expect_code(0);
        assert_eq!(proxy.count("POST", "mount="), shared.len());
        let blobs: BTreeSet<_> = [API, BUSYBOX].iter().flat_map(|name| closure(&fixtures(), name)).collect();
        let uploads = blobs.len() - documents(&[API, BUSYBOX]).iter().map(|(_, d)| d).collect::<BTreeSet<_>>().len();
        let puts = proxy.count("PUT", "/blobs/uploads/");
        let read_back = shared.iter().filter(|d| proxy.count("GET", &format!("/payments/api/blobs/{d}")) > 0).count();
        if mounts {
            assert_eq!((puts, read_back), (uploads, 0), "each blob is sent once");
        } else {
            assert_eq!(
                (puts, read_back),
                (uploads + shared.len(), shared.len()),
                "read back from the first repository"
            );
        }
        for digest in &shared {
            assert!(site.production.linked_blobs().contains(&format!("payments/busybox@{digest}")), "{digest}");
        }
    }
}

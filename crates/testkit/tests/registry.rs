//! The throwaway registry, the proxy and the fixtures do what other tests take for granted.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use manifest_schema::{Digest, MediaType};
use testkit::layout::{API, BUSYBOX, CHART, LEGACY, NESTED, REGISTRY_FIXTURES, SHA512};
use testkit::layout::{closure, digest, fixtures, repository_and_tag};
use testkit::{Fault, Layout, Options, Proxy, Registry, Rule, command, need, run_fails, run_ok};

const MANIFEST: &str = "/v2/payments/chart/manifests/0.1.0";

#[test]
fn the_fixtures_are_whole_and_small() {
    let mut all = std::collections::BTreeSet::new();
    for name in REGISTRY_FIXTURES.into_iter().chain([SHA512]) {
        all.extend(closure(&fixtures(), name));
    }
    let mut total = 0;
    for digest in &all {
        let bytes = testkit::layout::blob(&fixtures(), digest);
        let mut hasher = blobs::Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        assert_eq!(hasher.finish(), *digest);
        assert!(bytes.len() < 1_500_000);
        total += bytes.len();
    }
    assert!(total < 4_000_000, "{total} bytes");
    let files: usize =
        ["sha256", "sha512"].iter().map(|a| std::fs::read_dir(fixtures().join("blobs").join(a)).unwrap().count()).sum();
    assert_eq!(files, all.len(), "a blob that no image needs");
    assert!(closure(&fixtures(), SHA512).iter().all(|d| d.to_string().starts_with("sha512:")));
    assert!(closure(&fixtures(), NESTED).is_superset(&closure(&fixtures(), BUSYBOX)));
    let shared = closure(&fixtures(), API).intersection(&closure(&fixtures(), BUSYBOX)).count();
    assert_eq!(shared, 2, "the base layers are shared");
}

#[test]
fn every_fixture_goes_through_a_registry_unchanged() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    assert!(registry.is_empty());
    registry.load_fixtures();
    for name in REGISTRY_FIXTURES {
        let (repository, tag) = repository_and_tag(name);
        let by_tag = registry.get(&format!("/v2/{repository}/manifests/{tag}"));
        assert_eq!(by_tag.status, 200, "{name}: {}", by_tag.text());
        assert_eq!(blobs::sha256(&by_tag.body), digest(&fixtures(), name), "{name}");
        for digest in closure(&fixtures(), name) {
            let blob = registry.get(&format!("/v2/{repository}/blobs/{digest}"));
            let found =
                if blob.status == 200 { blob } else { registry.get(&format!("/v2/{repository}/manifests/{digest}")) };
            assert_eq!(blobs::sha256(&found.body), digest, "{name}: {}", found.status);
        }
    }
    let tags: Vec<_> = registry.tags().into_iter().collect();
    assert_eq!(tags.len(), REGISTRY_FIXTURES.len());
    assert!(tags.contains(&("payments/api:2.3.1".into(), digest(&fixtures(), API))));
    assert!(registry.manifests().contains(&format!("payments/legacy@{}", digest(&fixtures(), LEGACY))));
    let expected: std::collections::BTreeSet<Digest> =
        REGISTRY_FIXTURES.iter().flat_map(|name| closure(&fixtures(), name)).collect();
    assert_eq!(registry.uploaded_blobs(), expected);
}

#[test]
fn skopeo_copies_multi_platform_images_from_it() {
    if !need(&["docker-registry", "skopeo"]) {
        return;
    }
    let registry = Registry::start();
    registry.load_fixtures();
    let home = tempfile::tempdir().unwrap();
    let mut policy = std::fs::File::create(home.path().join("policy.json")).unwrap();
    std::io::Write::write_all(&mut policy, br#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    for name in [BUSYBOX, API, LEGACY, CHART] {
        let (repository, tag) = repository_and_tag(name);
        let to = home.path().join(tag);
        run_ok(
            command("skopeo", home.path())
                .args(["--policy", "policy.json", "copy", "--all", "--preserve-digests", "--src-tls-verify=false"])
                .arg(format!("docker://{}/{repository}:{tag}", registry.host()))
                .arg(format!("dir:{}", to.display()))
                .current_dir(home.path()),
        );
        let copied = std::fs::read(to.join("manifest.json")).unwrap();
        assert_eq!(blobs::sha256(&copied), digest(&fixtures(), name), "{name}");
    }
}

#[test]
fn nothing_runs_on_when_the_registry_is_dropped() {
    if !need(&["docker-registry"]) {
        return;
    }
    let host = {
        let registry = Registry::start();
        assert_eq!(registry.get("/v2/").status, 200);
        registry.host().to_string()
    };
    assert!(std::net::TcpStream::connect(host).is_err());
}

#[test]
fn credentials_tls_and_options_are_in_force() {
    if !need(&["docker-registry", "htpasswd", "openssl"]) {
        return;
    }
    let registry = Registry::with(Options { user: Some(("ci", "s3cret")), tls: true, ..Options::default() });
    assert!(registry.url().starts_with("https://127.0.0.1:"));
    registry.load_layout(&fixtures(), CHART, "payments/chart", "0.1.0");
    assert_eq!(registry.get(MANIFEST).status, 200);
    let ca = std::fs::read(registry.ca()).unwrap();
    let nobody = testkit::http::Client::new(Some(&ca), None);
    assert_eq!(nobody.send("GET", &format!("{}{MANIFEST}", registry.url()), &[], &[]).status, 401);
    assert!(registry.certs_dir().join(registry.host()).join("ca.crt").is_file());

    let read_only = Registry::with(Options { read_only: true, ..Options::default() });
    assert_eq!(read_only.send("POST", "/v2/a/blobs/uploads/", &[], &[]).status, 405);
    let deleting = Registry::with(Options { delete: true, ..Options::default() });
    let digest = deleting.load_layout(&fixtures(), CHART, "payments/chart", "0.1.0");
    let path = format!("/v2/payments/chart/manifests/{digest}");
    assert_eq!(deleting.send("DELETE", &path, &[], &[]).status, 202);
    assert_eq!(deleting.get(&path).status, 404);
}

#[test]
fn a_snapshot_shows_even_an_upload_that_was_only_begun() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    registry.load_layout(&fixtures(), CHART, "payments/chart", "0.1.0");
    let before = registry.snapshot();
    assert_eq!(registry.get(MANIFEST).status, 200);
    assert_eq!(registry.snapshot(), before, "reading writes nothing");
    assert_eq!(registry.open_uploads(), 0);
    assert_eq!(registry.send("POST", "/v2/payments/chart/blobs/uploads/", &[], &[]).status, 202);
    assert_ne!(registry.snapshot(), before);
    assert_eq!(registry.open_uploads(), 1);
}

#[test]
fn a_registry_can_lose_and_damage_blobs() {
    if !need(&["docker-registry"]) {
        return;
    }
    let mut layout = Layout::new();
    let image = layout.multi(&[b"one layer"]);
    layout.name("x", &image);
    let registry = Registry::start();
    registry.load_layout(layout.path(), "x", "a/b", "1");
    let layer = blobs::sha256(&testkit::layout::tar_of("file-0", b"one layer"));
    let path = format!("/v2/a/b/blobs/{layer}");
    registry.damage_blob(&layer);
    assert_ne!(blobs::sha256(&registry.get(&path).body), layer);
    registry.lose_blob(&layer);
    assert_eq!(registry.get(&path).status, 404);
}

#[test]
fn layouts_made_on_the_spot_are_read_by_skopeo() {
    if !need(&["skopeo"]) {
        return;
    }
    let mut layout = Layout::new();
    let (image, chart) = (layout.multi(&[b"one", b"two"]), layout.chart(b"not a chart"));
    layout.name("r.example/a:1", &image);
    layout.name("r.example/c:1", &chart);
    let docker = layout.docker_image(b"old");
    let list = layout.index(&[docker]);
    assert_eq!(list["mediaType"], MediaType::DOCKER_LIST);
    let inspect = |home: &Path, what: &str| {
        let mut command = command("skopeo", home);
        command.args(["inspect", "--raw", what]).current_dir(home);
        command
    };
    let home = tempfile::tempdir().unwrap();
    let oci = |name: &str| format!("oci:{}:{name}", layout.path().display());
    assert_eq!(
        run_ok(&mut inspect(home.path(), &oci("r.example/a:1"))).json()["manifests"].as_array().unwrap().len(),
        2
    );
    run_ok(&mut inspect(home.path(), &oci("r.example/c:1")));
    run_fails(&mut inspect(home.path(), &oci("r.example/z:1")));
    layout.archive(&home.path().join("a.tar"));
    run_ok(&mut inspect(home.path(), "oci-archive:a.tar:r.example/a:1"));
}

#[test]
fn the_proxy_records_and_makes_the_faults_it_is_told() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let digest = registry.load_layout(&fixtures(), CHART, "payments/chart", "0.1.0");
    let proxy = Proxy::before(&registry);
    let client = testkit::http::Client::new(None, Some(("ci", "x")));
    let accept = [("accept", MediaType::OCI_MANIFEST)];
    let get = || client.send("GET", &format!("{}{MANIFEST}", proxy.url()), &accept, &[]);
    let fails = || std::panic::catch_unwind(std::panic::AssertUnwindSafe(get)).is_err();

    assert_eq!(blobs::sha256(&get().body), digest);
    let seen = proxy.seen();
    assert_eq!((seen[0].method.as_str(), seen[0].path.as_str(), seen[0].authorized()), ("GET", MANIFEST, true));

    proxy.rule(Rule::new(Fault::status_with(429, "retry-after", "1")).method("GET").path("chart").nth(2));
    assert_eq!(get().status, 200);
    let limited = get();
    assert_eq!((limited.status, limited.headers["retry-after"].as_str()), (429, "1"));
    assert_eq!(get().status, 200);
    assert_eq!(proxy.count("GET", "chart"), 4);

    proxy.clear();
    proxy.rule(Rule::new(Fault::Close).first(1));
    assert!(fails());
    assert_eq!(get().status, 200);
    proxy.rule(Rule::new(Fault::CutAnswer(10)));
    assert!(fails());
    proxy.clear();
    proxy.rule(Rule::new(Fault::FlipAnswer(10)));
    let flipped = get();
    assert_eq!(flipped.body.len(), testkit::layout::blob(&fixtures(), &digest).len());
    assert_ne!(blobs::sha256(&flipped.body), digest);
    proxy.clear();
    proxy.rule(Rule::new(Fault::Header("Docker-Content-Digest".into(), None)));
    assert!(!get().headers.contains_key("docker-content-digest"));
    proxy.clear();
    proxy.rule(Rule::new(Fault::Delay(std::time::Duration::from_millis(200))));
    let start = std::time::Instant::now();
    assert_eq!(get().status, 200);
    assert!(start.elapsed().as_millis() >= 200);
}

#[test]
fn an_upload_through_the_proxy_can_be_refused_or_cut() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let proxy = Proxy::before(&registry);
    let client = testkit::http::Client::new(None, None);
    let bytes = vec![7_u8; 3 << 20];
    let digest = blobs::sha256(&bytes);
    let upload = || {
        let opened = client.send("POST", &format!("{}/v2/a/blobs/uploads/", proxy.url()), &[], &[]);
        let url = format!("{}&digest={digest}", opened.headers["location"]);
        assert!(url.contains(proxy.host()), "uploads stay behind the proxy");
        client.send("PUT", &url, &[("content-type", "application/octet-stream")], &bytes).status
    };
    proxy.rule(Rule::new(Fault::status(503)).method("PUT").nth(1));
    assert_eq!(upload(), 503);
    proxy.rule(Rule::new(Fault::CutRequest(1 << 20)).method("PUT").nth(1));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(upload)).is_err());
    assert!(!registry.uploaded_blobs().contains(&digest));
    assert_eq!(upload(), 201);
    assert!(registry.uploaded_blobs().contains(&digest));
    assert_eq!(proxy.count("PUT", "/v2/a/"), 3);

    let alone = Proxy::alone();
    alone.rule(Rule::new(Fault::Answer(200, vec![], br#"{"token":"t"}"#.to_vec())).path("/token"));
    assert_eq!(client.send("GET", &format!("{}/token?scope=a", alone.url()), &[], &[]).text(), r#"{"token":"t"}"#);
    assert_eq!(client.send("GET", &format!("{}/v2/", alone.url()), &[], &[]).status, 404);
}

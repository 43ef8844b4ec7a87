//! Against Debian's docker-registry.

#![allow(clippy::unwrap_used)]

use std::io::Read;

use blobs::{BlobError, VerifiedBytes, VerifyingReader, sha256};
use manifest_schema::{Digest, MediaType, Repository, Tag};
use registry::{Config, Error, Registries, RepositoryClient};
use testkit::{Options, Registry, need};

fn config() -> Config {
    // Nothing of the machine that runs the tests.
    Config { authfile: None, certs_dirs: Some(Vec::new()), ..Config::default() }
}

fn client(registries: &Registries, host: &str, path: &str) -> RepositoryClient {
    registries.repository(&Repository::new(host, path).unwrap())
}

/// Uploads that hold bytes. (This registry leaves an empty upload's notes behind when one is cancelled.)
fn open_uploads(registry: &Registry) -> usize {
    registry.snapshot().keys().filter(|path| path.contains("/_uploads/") && path.ends_with("/data")).count()
}

/// Bytes that do not repeat.
fn content(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..size.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(size);
    bytes
}

fn reader(bytes: &[u8], digest: Digest, size: usize) -> VerifyingReader<&[u8]> {
    VerifyingReader::new(bytes, digest, size as u64)
}

fn manifest(config: &VerifiedBytes, layer: &[u8]) -> VerifiedBytes {
    let text = format!(
        r#"{{"schemaVersion":2,  "mediaType":"{}","config":{{"mediaType":"{}","digest":"{}","size":{}}},
        "layers":[{{"mediaType":"{}","digest":"{}","size":{}}}]}}"#,
        MediaType::OCI_MANIFEST,
        MediaType::OCI_CONFIG,
        config.digest(),
        config.bytes().len(),
        MediaType::OCI_LAYER_TAR,
        sha256(layer),
        layer.len()
    );
    VerifiedBytes::of(text.into_bytes())
}

/// Pushes an image, reads all of it back, and compares every byte.
fn round_trip(client: &RepositoryClient) {
    let layer = content(3_000_000, 7);
    let digest = sha256(&layer);
    let config = VerifiedBytes::of(br#"{"architecture":"amd64","os":"linux"}"#.to_vec());
    let document = manifest(&config, &layer);
    let oci: MediaType = MediaType::OCI_MANIFEST.parse().unwrap();
    let tag: Tag = "v1".parse().unwrap();

    assert!(!client.has_blob(&digest, layer.len() as u64).unwrap());
    assert_eq!(client.head_tag(&tag).unwrap(), None);
    assert!(!client.has_document(document.digest()).unwrap());
    assert!(matches!(client.fetch_tag(&tag), Err(Error::NotFound { .. })));
    assert!(matches!(client.fetch_document(document.digest()), Err(Error::NotFound { .. })));
    assert!(matches!(client.fetch_blob(&digest, 1).map(|_| ()), Err(Error::NotFound { .. })));

    let pushed = client.push_blob(&mut reader(&layer, digest, layer.len())).unwrap();
    assert_eq!((pushed.digest(), pushed.size()), (&digest, layer.len() as u64));
    let pushed = client.push_small_blob(&config).unwrap();
    assert_eq!(pushed.digest(), config.digest());
    let pushed = client.push_document(&document, &oci).unwrap();
    assert_eq!((pushed.digest(), pushed.subject()), (document.digest(), None));
    client.push_tag(&tag, &document, &oci).unwrap();

    assert!(client.has_blob(&digest, layer.len() as u64).unwrap());
    assert!(client.has_document(document.digest()).unwrap());
    assert_eq!(client.head_tag(&tag).unwrap().as_ref(), Some(document.digest()));
    for fetched in [client.fetch_tag(&tag).unwrap(), client.fetch_document(document.digest()).unwrap()] {
        assert_eq!(fetched.document.bytes(), document.bytes(), "byte by byte");
        assert_eq!(fetched.media_type, oci);
    }
    let mut back = Vec::new();
    client.fetch_blob(&digest, layer.len() as u64).unwrap().read_to_end(&mut back).unwrap();
    assert!(back == layer);
}

#[test]
fn images_go_there_and_back() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let registries = Registries::new(config()).unwrap();
    round_trip(&client(&registries, registry.host(), "pay/api"));
    assert_eq!(open_uploads(&registry), 0);
}

#[test]
fn images_go_there_and_back_with_a_password() {
    if !need(&["docker-registry", "htpasswd"]) {
        return;
    }
    let registry = Registry::with(Options { user: Some(("ann", "s3cret:with colon")), ..Options::default() });
    let authfile = Some(registry.authfile("ann", "s3cret:with colon"));
    let registries = Registries::new(Config { authfile, ..config() }).unwrap();
    round_trip(&client(&registries, registry.host(), "pay/api"));

    let authfile = Some(registry.authfile("ann", "wrong"));
    let registries = Registries::new(Config { authfile, ..config() }).unwrap();
    let error = client(&registries, registry.host(), "pay/api").head_tag(&"v1".parse().unwrap()).unwrap_err();
    assert!(matches!(error, Error::Denied { status: 401, .. }), "{error}");
    assert!(!error.is_transient() && !format!("{error} {error:?}").contains("wrong"));

    let missing = Some("/nonexistent/auth.json".into());
    let registries = Registries::new(Config { authfile: missing, ..config() }).unwrap();
    let error = client(&registries, registry.host(), "pay/api").head_tag(&"v1".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/auth.json"), "{error}");
}

#[test]
fn images_go_there_and_back_over_tls() {
    if !need(&["docker-registry", "openssl"]) {
        return;
    }
    let registry = Registry::with(Options { tls: true, ..Options::default() });
    let certs_dirs = Some(vec![registry.certs_dir()]);
    let registries = Registries::new(Config { certs_dirs, ..config() }).unwrap();
    round_trip(&client(&registries, registry.host(), "pay/api"));

    let registries = Registries::new(config()).unwrap();
    let error = client(&registries, registry.host(), "pay/api").head_tag(&"v1".parse().unwrap()).unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "an unknown authority: {error}");
    assert!(!error.is_transient());
}

#[test]
fn clients_show_their_certificate_where_it_is_wanted() {
    if !need(&["docker-registry", "openssl"]) {
        return;
    }
    let registry = Registry::with(Options { client_certificates: true, ..Options::default() });
    let with = |certs: std::path::PathBuf| {
        let registries = Registries::new(Config { certs_dirs: Some(vec![certs]), ..config() }).unwrap();
        client(&registries, registry.host(), "pay/api")
    };
    round_trip(&with(registry.client_certs_dir()));

    let before = registry.snapshot();
    let refused = |certs| {
        let error = with(certs).head_tag(&"v1".parse().unwrap()).unwrap_err();
        assert!(matches!(error, Error::Tls { .. }) && !error.is_transient(), "{error:?}");
        let shown = error.to_string();
        assert!(shown.contains(registry.host()) && shown.contains("wants a client certificate"), "{shown}");
    };
    refused(registry.certs_dir());
    // A certificate by somebody else.
    let other = Registry::with(Options { client_certificates: true, ..Options::default() });
    let (certs, others) = (registry.certs_dir(), other.client_certs_dir().join(other.host()));
    for file in ["client.cert", "client.key"] {
        std::fs::copy(others.join(file), certs.join(registry.host()).join(file)).unwrap();
    }
    refused(certs);
    assert_eq!(registry.snapshot(), before);
}

#[test]
fn a_ca_certificate_used_by_a_server_is_explained() {
    if !need(&["docker-registry", "openssl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    testkit::run_ok(
        testkit::command("openssl", folder.path())
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "1",
                "-subj",
                "/CN=own",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-addext",
                "basicConstraints=critical,CA:TRUE",
                "-keyout",
            ])
            .arg(at("own.key"))
            .arg("-out")
            .arg(at("own.crt")),
    );
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let host = format!("127.0.0.1:{port}");
    let server = serde_json::json!({
        "version": "0.1",
        "storage": { "inmemory": {} },
        "http": { "addr": host, "tls": { "certificate": at("own.crt"), "key": at("own.key") } }
    });
    std::fs::write(at("config.yml"), server.to_string()).unwrap();
    let mut child = testkit::command("docker-registry", folder.path())
        .arg("serve")
        .arg(at("config.yml"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let certs = at("certs.d").join(&host);
    std::fs::create_dir_all(&certs).unwrap();
    std::fs::copy(at("own.crt"), certs.join("own.crt")).unwrap();
    for _ in 0..200 {
        if std::net::TcpStream::connect(&host).is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let registries = Registries::new(Config { certs_dirs: Some(vec![at("certs.d")]), ..config() }).unwrap();
    let outcome = client(&registries, &host, "a").head_tag(&"v1".parse().unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("CaUsedAsEndEntity") && error.contains("own certificate"), "{error}");
}

#[test]
fn wrong_content_is_never_completed() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let registries = Registries::new(config()).unwrap();
    let client = client(&registries, registry.host(), "pay/api");
    let good = content(1_000_000, 3);
    let (digest, size) = (sha256(&good), good.len());
    let mut flipped = good.clone();
    flipped[size - 1] ^= 1;
    for (wrong, short) in [(flipped.as_slice(), false), (&good[..size - 1], true)] {
        let error = client.push_blob(&mut reader(wrong, digest, size)).unwrap_err();
        assert!(error.is_content() && !error.is_transient(), "{error}");
        let cut = matches!(error, Error::Content(BlobError::Short { .. }));
        assert_eq!(cut, short);
    }
    let long = [good.as_slice(), b"x"].concat();
    assert!(client.push_blob(&mut reader(&long, digest, size)).unwrap_err().is_content());
    assert!(client.push_blob(&mut reader(b"x", sha256(b""), 0)).unwrap_err().is_content());
    assert!(!client.has_blob(&digest, size as u64).unwrap());
    assert!(registry.linked_blobs().is_empty() && registry.uploaded_blobs().is_empty());
    // This registry can't do what it was asked, since the connection broke in the middle of each upload.
    let log = registry.log();
    let cancelled = log.lines().filter(|line| line.contains("\"DELETE /v2/pay/api/blobs/uploads/")).count();
    assert_eq!(cancelled, 4, "every upload was cancelled: {log}");

    let mut begun = reader(&good, digest, size);
    begun.read_exact(&mut [0; 10]).unwrap();
    assert!(matches!(client.push_blob(&mut begun), Err(Error::Read { .. })), "a reader that has begun");
}

#[test]
fn an_empty_blob_is_a_blob() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let registries = Registries::new(config()).unwrap();
    let client = client(&registries, registry.host(), "pay/api");
    let _ = client.push_blob(&mut reader(b"", sha256(b""), 0)).unwrap();
    assert!(registry.linked_blobs().contains(&format!("pay/api@{}", sha256(b""))));
    let mut back = Vec::new();
    client.fetch_blob(&sha256(b""), 0).unwrap().read_to_end(&mut back).unwrap();
    assert!(back.is_empty());
}

#[test]
fn blobs_are_mounted_from_the_same_registry_only() {
    if !need(&["docker-registry"]) {
        return;
    }
    let (registry, other) = (Registry::start(), Registry::start());
    let registries = Registries::new(config()).unwrap();
    let from = client(&registries, registry.host(), "a/from");
    let to = client(&registries, registry.host(), "b/to");
    let blob = VerifiedBytes::of(content(1000, 5));
    let _ = from.push_small_blob(&blob).unwrap();
    assert!(to.mount_blob(blob.digest(), from.repository()).unwrap());
    assert!(to.has_blob(blob.digest(), 1000).unwrap());
    assert!(!to.mount_blob(&sha256(b"absent"), from.repository()).unwrap());
    assert_eq!(open_uploads(&registry), 0, "the upload that was opened instead is cancelled");
    let elsewhere = client(&registries, other.host(), "b/to");
    assert!(!elsewhere.mount_blob(blob.digest(), from.repository()).unwrap());
    assert!(other.is_empty());
}

#[test]
fn a_size_that_is_not_the_blobs_is_an_error() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let registries = Registries::new(config()).unwrap();
    let client = client(&registries, registry.host(), "a");
    let blob = VerifiedBytes::of(content(1000, 5));
    let _ = client.push_small_blob(&blob).unwrap();
    for size in [999, 1001] {
        assert!(matches!(client.has_blob(blob.digest(), size), Err(Error::Size { found: 1000, .. })));
        assert!(matches!(client.fetch_blob(blob.digest(), size).map(|_| ()), Err(Error::Size { found: 1000, .. })));
    }
}

#[test]
fn deleting_is_up_to_the_registry() {
    if !need(&["docker-registry"]) {
        return;
    }
    for delete in [true, false] {
        let registry = Registry::with(Options { delete, ..Options::default() });
        let registries = Registries::new(config()).unwrap();
        let client = client(&registries, registry.host(), "a");
        round_trip(&client);
        let digest = client.head_tag(&"v1".parse().unwrap()).unwrap().unwrap();
        assert_eq!(client.delete_document(&digest).unwrap(), delete);
        assert_eq!(client.has_document(&digest).unwrap(), !delete);
    }
}

#[test]
fn a_manifest_without_its_blobs_is_refused_in_the_registrys_words() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let registries = Registries::new(config()).unwrap();
    let client = client(&registries, registry.host(), "a");
    let document = manifest(&VerifiedBytes::of(b"{}".to_vec()), b"layer");
    let error = client.push_document(&document, &MediaType::OCI_MANIFEST.parse().unwrap()).unwrap_err();
    let shown = error.to_string();
    assert!(shown.contains("MANIFEST_BLOB_UNKNOWN") && shown.contains(&document.digest().to_string()), "{shown}");
    assert!(!error.is_transient());
}

#[test]
fn nobody_listens() {
    let registries = Registries::new(Config { retries: 2, ..config() }).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = client(&registries, &format!("127.0.0.1:{port}"), "a").head_tag(&"v1".parse().unwrap()).unwrap_err();
    assert!(error.is_transient() && error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
}

//! Faults in answers that no real registry can be made to show.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use blobs::{BlobError, VerifiedBytes, VerifyingReader, sha256};
use common::{answer, client, content, headers, open_server, reader, registries, token_servers};
use manifest_schema::{LIMITS, MediaType, Repository, Tag};
use registry::{Config, Error};
use testkit::{Fault, Proxy, Registry, Rule, need};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;

fn v1() -> Tag {
    "v1".parse().unwrap()
}

fn manifest_answer() -> Fault {
    answer(200, &[("content-type", MediaType::OCI_MANIFEST)], MANIFEST)
}

#[test]
fn a_server_that_is_busy_is_asked_again_when_it_says() {
    let server = open_server();
    server.rule(Rule::new(Fault::status_with(429, "retry-after", "1")).path("manifests").nth(1));
    server.rule(Rule::new(Fault::status(503)).path("manifests").nth(2));
    server.rule(Rule::new(Fault::Close).path("manifests").nth(3));
    server.rule(Rule::new(Fault::status_with(503, "retry-after", "0")).path("manifests").nth(4));
    server.rule(Rule::new(manifest_answer()).path("manifests"));
    let start = Instant::now();
    assert_eq!(client(server.host()).fetch_tag(&v1()).unwrap().document.bytes(), MANIFEST);
    assert!(start.elapsed().as_secs() >= 1, "Retry-After is kept");
    assert_eq!(server.count("GET", "manifests"), 5);
}

#[test]
fn a_server_that_stays_busy_is_a_transient_error() {
    let server = open_server();
    server.rule(Rule::new(Fault::status_with(503, "retry-after", "0")).path("manifests"));
    let error = client(server.host()).fetch_tag(&v1()).unwrap_err();
    assert!(error.is_transient() && matches!(error, Error::Status { status: 503, .. }), "{error}");
    assert_eq!(server.count("GET", "manifests"), 5);
    server.clear();
    server.rule(Rule::new(Fault::status(418)).path("manifests"));
    assert!(!client(server.host()).fetch_tag(&v1()).unwrap_err().is_transient());
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let bytes = content(500_000);
    let digest = sha256(&bytes);
    registry.put_blob("a/b", &digest, &bytes);
    let proxy = Proxy::before(&registry);
    proxy.rule(Rule::new(Fault::CutAnswer(200_000)).method("GET").path("blobs").nth(1));
    proxy.rule(Rule::new(Fault::CutAnswer(100_000)).method("GET").path("blobs").nth(2));
    let body = client(proxy.host()).fetch_blob(&digest, bytes.len() as u64).unwrap();
    assert!(VerifyingReader::new(body, digest, bytes.len() as u64).finish().is_ok());
    let ranges: Vec<_> = proxy.seen().iter().filter_map(|s| s.header("range").map(str::to_string)).collect();
    assert_eq!(ranges, ["bytes=200000-", "bytes=300000-"]);

    proxy.clear();
    proxy.rule(Rule::new(Fault::CutAnswer(1000)).method("GET").path("blobs"));
    let limited = registries(Config { retries: 2, ..Config::default() });
    let client = limited.repository(&Repository::new(proxy.host(), "a/b").unwrap());
    let mut body = client.fetch_blob(&digest, bytes.len() as u64).unwrap();
    let error = body.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(Error::of(&error).is_some_and(Error::is_transient), "{error}");
    assert_eq!(proxy.count("GET", "blobs"), 2, "not for ever");
}

#[test]
fn a_download_may_break_as_often_as_it_gets_on() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let bytes = content(60_000_000);
    let digest = sha256(&bytes);
    registry.put_blob("a/b", &digest, &bytes);
    let limited = registries(Config { retries: 2, ..Config::default() });
    // Each time with more, or with less, than counts as getting on.
    for (each, breaks, whole) in [(17_000_000, 3, true), (16_000_000, 2, false)] {
        let proxy = Proxy::before(&registry);
        proxy.rule(Rule::new(Fault::CutAnswer(each)).method("GET").path("blobs"));
        let client = limited.repository(&Repository::new(proxy.host(), "a/b").unwrap());
        let body = client.fetch_blob(&digest, bytes.len() as u64).unwrap();
        let outcome = VerifyingReader::new(body, digest, bytes.len() as u64).finish();
        assert_eq!(outcome.is_ok(), whole, "{each}");
        assert_eq!(proxy.count("GET", "blobs"), if whole { breaks + 1 } else { breaks });
    }
}

#[test]
fn a_registry_without_ranges_is_read_again_from_the_beginning() {
    let server = open_server();
    let bytes = content(5000);
    let digest = sha256(&bytes);
    let length = bytes.len().to_string();
    server.rule(Rule::new(answer(200, &[("content-length", &length)], &bytes[..3000])).path("blobs").nth(1));
    server.rule(Rule::new(answer(200, &[], &bytes)).path("blobs"));
    let body = client(server.host()).fetch_blob(&digest, 5000).unwrap();
    assert!(VerifyingReader::new(body, digest, 5000).finish().is_ok());

    let server = open_server();
    server.rule(Rule::new(answer(200, &[("content-length", &length)], &bytes[..3000])).path("blobs").nth(1));
    let jump = answer(206, &[("content-range", "bytes 2000-4999/5000")], &bytes[2000..]);
    server.rule(Rule::new(jump).path("blobs"));
    let error = client(server.host()).fetch_blob(&digest, 5000).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
    assert!(matches!(Error::of(&error), Some(Error::Malformed { .. })), "{error}");
}

#[test]
fn content_that_changes_on_the_way_is_noticed() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let bytes = content(100_000);
    let digest = sha256(&bytes);
    registry.put_blob("a/b", &digest, &bytes);
    let proxy = Proxy::before(&registry);
    proxy.rule(Rule::new(Fault::FlipAnswer(50_000)).method("GET").path("blobs"));
    let body = client(proxy.host()).fetch_blob(&digest, 100_000).unwrap();
    let error = VerifyingReader::new(body, digest, 100_000).finish().unwrap_err();
    assert!(matches!(BlobError::of(&error), Some(BlobError::Digest { .. })));
}

#[test]
fn a_header_that_lies_about_the_digest_is_refused() {
    let lie = sha256(b"lie").to_string();
    let server = open_server();
    let lying = [("docker-content-digest", lie.as_str()), ("content-type", MediaType::OCI_MANIFEST)];
    server.rule(Rule::new(answer(200, &lying, MANIFEST)).path("manifests"));
    let client = client(server.host());
    for outcome in [client.fetch_tag(&v1()).map(|_| ()), client.has_document(&sha256(MANIFEST)).map(|_| ())] {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Digest { .. }), "{error}");
        assert!(error.to_string().contains(&lie));
    }
    assert!(matches!(client.fetch_document(&sha256(b"other")), Err(Error::Digest { .. })), "content by digest");
    let pushed = answer(201, &lying[..1], b"");
    server.clear();
    server.rule(Rule::new(pushed).path("manifests"));
    let document = VerifiedBytes::of(MANIFEST.to_vec());
    let oci: MediaType = MediaType::OCI_MANIFEST.parse().unwrap();
    assert!(matches!(client.push_document(&document, &oci), Err(Error::Digest { .. })));
    assert!(matches!(client.push_tag(&v1(), &document, &oci), Err(Error::Digest { .. })));

    server.clear();
    server.rule(Rule::new(Fault::status_with(200, "docker-content-digest", "sha256:x")).path("manifests"));
    assert!(matches!(client.head_tag(&v1()), Err(Error::Malformed { .. })));
}

#[test]
fn a_registry_that_does_not_confirm_is_asked() {
    let document = VerifiedBytes::of(MANIFEST.to_vec());
    let oci: MediaType = MediaType::OCI_MANIFEST.parse().unwrap();
    for (kept, confirmed) in [(MANIFEST, true), (b"{}".as_slice(), false)] {
        let server = open_server();
        server.rule(Rule::new(Fault::status(201)).method("PUT"));
        server.rule(Rule::new(answer(200, &[("content-type", MediaType::OCI_MANIFEST)], kept)).path("manifests"));
        assert_eq!(client(server.host()).push_tag(&v1(), &document, &oci).is_ok(), confirmed);
    }
    let server = open_server();
    server.rule(Rule::new(Fault::status(201)).method("PUT"));
    assert!(client(server.host()).push_document(&document, &oci).is_err(), "taken, and not there");
}

#[test]
fn an_endless_manifest_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let mut sent = 0_u64;
        for stream in listener.incoming().take(2) {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            if head.starts_with(b"GET /v2/ ") {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
                continue;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").unwrap();
            while stream.write_all(&[b' '; 65536]).is_ok() {
                sent += 65536;
            }
        }
        sent
    });
    let error = client(&host).fetch_tag(&v1()).unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit, .. } if limit == LIMITS.document), "{error}");
    assert!(server.join().unwrap() < 2 * LIMITS.document + (16 << 20), "the connection is closed");
}

#[test]
fn errors_in_the_registrys_words_are_short_and_escaped() {
    let server = open_server();
    let body = "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"\u{1b}[2Jno\u{202e}\"}]}".replace('\u{1b}', "\\u001b");
    server.rule(Rule::new(answer(403, &[], body.as_bytes())).path("manifests").nth(1));
    server.rule(Rule::new(answer(400, &[], &vec![b'x'; 5 << 20])).path("manifests"));
    let client = client(server.host());
    let shown = client.fetch_tag(&v1()).unwrap_err().to_string();
    assert!(shown.contains("DENIED (\\u{1b}[2Jno\\u{202e})") && !shown.contains('\u{1b}'), "{shown}");
    assert!(client.fetch_tag(&v1()).unwrap_err().to_string().len() < 300);
}

#[test]
fn a_missing_manifest_has_several_spellings() {
    let server = open_server();
    let unknown = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
    server.rule(Rule::new(answer(404, &[], b"Not Found")).path("manifests").nth(1));
    server.rule(Rule::new(answer(400, &[], unknown)).path("manifests").nth(2));
    server.rule(Rule::new(Fault::status(400)).method("HEAD").path("manifests"));
    server.rule(Rule::new(answer(400, &[], unknown)).method("GET").path("manifests"));
    let client = client(server.host());
    for _ in 0..2 {
        assert!(matches!(client.fetch_tag(&v1()), Err(Error::NotFound { .. })));
    }
    assert_eq!(client.head_tag(&v1()).unwrap(), None, "a HEAD without words");
}

#[test]
fn credentials_do_not_follow_redirects_or_locations() {
    let (server, elsewhere) = (Proxy::alone(), Proxy::alone());
    let folder = tempfile::tempdir().unwrap();
    let authfile = folder.path().join("auth.json");
    // user:pass
    let auth = format!(r#"{{"auths":{{"{}":{{"auth":"dXNlcjpwYXNz"}}}}}}"#, server.host());
    std::fs::write(&authfile, auth).unwrap();
    server.rule(Rule::new(Fault::status_with(401, "www-authenticate", "Basic realm=x")).path("/v2/").nth(1));
    let blob = format!("{}/blob", elsewhere.url());
    server.rule(Rule::new(Fault::status_with(307, "location", &blob)).method("GET").path("blobs"));
    let upload = format!("{}/upload?x=1", elsewhere.url());
    server.rule(Rule::new(Fault::status_with(202, "location", &upload)).method("POST"));
    let bytes = content(1000);
    elsewhere.rule(Rule::new(answer(200, &[], &bytes)).method("GET"));
    elsewhere.rule(Rule::new(Fault::status(201)).method("PUT"));
    let registries = registries(Config { authfile: Some(authfile), ..Config::default() });
    let client = registries.repository(&Repository::new(server.host(), "a/b").unwrap());
    let mut back = Vec::new();
    client.fetch_blob(&sha256(&bytes), 1000).unwrap().read_to_end(&mut back).unwrap();
    assert!(back == bytes);
    let _ = client.push_blob(&mut reader(&bytes, sha256(&bytes))).unwrap();
    assert!(server.seen().iter().skip(1).all(|s| s.header("authorization") == Some("Basic dXNlcjpwYXNz")));
    assert_eq!(elsewhere.seen().len(), 2);
    assert!(elsewhere.seen().iter().all(|s| !s.authorized()));
    assert_eq!(elsewhere.count("PUT", "/upload?x=1&digest=sha256%3A"), 1);
    let _ = registries.fetch_url(&format!("{}/v2/foreign", server.url()), 1000);
    assert!(!server.seen().last().unwrap().authorized(), "a foreign layer's URL");
}

#[test]
fn redirects_lead_to_http_servers_and_end() {
    for (location, fault) in [
        ("ftp://127.0.0.1/x", "only http and https"),
        ("file:///etc/passwd", "only http and https"),
        ("http://registry.example/x", "may not be asked without TLS"),
        ("http://user@127.0.0.1/x", "user name"),
        ("http://", "not a URL"),
    ] {
        let server = open_server();
        server.rule(Rule::new(Fault::status_with(302, "location", location)).path("manifests"));
        let error = client(server.host()).fetch_tag(&v1()).unwrap_err();
        assert!(matches!(error, Error::Url { .. }) && error.to_string().contains(fault), "{location}: {error}");
    }
    let server = open_server();
    server.rule(Rule::new(Fault::status_with(302, "location", "/v2/a/b/manifests/v1")).path("manifests"));
    assert!(matches!(client(server.host()).fetch_tag(&v1()), Err(Error::Redirects { .. })));
    assert_eq!(server.count("GET", "manifests"), LIMITS.redirects as usize + 1);
    let registries = registries(Config::default());
    for url in ["ftp://127.0.0.1/x", "/etc/passwd", "data:,x", "http://a@b/"] {
        assert!(matches!(registries.fetch_url(url, 1).map(|_| ()), Err(Error::Url { .. })), "{url}");
    }
}

#[test]
fn tokens_are_fetched_used_and_fetched_again() {
    let (server, tokens, client, _folder) =
        token_servers(Proxy::alone(), r#"{"auths":{"HOST/a":{"auth":"dXNlcjpwYXNz"}}}"#);
    tokens.rule(Rule::new(answer(200, &[], br#"{"token":"t1","expires_in":300}"#)).nth(1));
    tokens.rule(Rule::new(answer(200, &[], br#"{"access_token":"t2"}"#)));
    server.rule(Rule::new(Fault::status(401)).path("manifests").nth(3));
    server.rule(Rule::new(manifest_answer()).path("manifests"));
    for _ in 0..3 {
        let _ = client.fetch_tag(&v1()).unwrap();
    }
    let used: Vec<_> =
        server.seen().iter().map(|s| s.header("authorization").unwrap_or_default().to_string()).collect();
    assert_eq!(used, ["", "Bearer t1", "Bearer t1", "Bearer t1", "Bearer t2"], "a refused token is replaced");
    let asked = tokens.seen();
    assert_eq!(asked[0].path, "/token?service=the%20registry&scope=repository%3Aa%2Fb%3Apull&account=user");
    assert_eq!(asked[0].header("authorization"), Some("Basic dXNlcjpwYXNz"));
    assert_eq!(asked.len(), 2);

    server.clear();
    server.rule(Rule::new(Fault::status_with(202, "location", "/v2/a/b/blobs/uploads/1")).method("POST"));
    server.rule(Rule::new(Fault::status(202)).method("DELETE"));
    let from = Repository::new(server.host(), "c").unwrap();
    assert!(!client.mount_blob(&sha256(b""), &from).unwrap());
    let path = tokens.seen()[2].path.clone();
    let scopes = "scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Ac%3Apull";
    assert!(path.contains(scopes), "push first: {path}");
    assert_eq!(server.count("DELETE", "uploads/1"), 1);
}

#[test]
fn the_registry_may_ask_for_another_scope() {
    let (server, tokens, client, _folder) = token_servers(Proxy::alone(), "{}");
    tokens.rule(Rule::new(answer(200, &[], br#"{"token":"t"}"#)));
    let wider = r#"Bearer realm="https://x.example/t",error="insufficient_scope",scope="repository:a/b:pull,other""#;
    let wider = wider.replace("https://x.example/t", &format!("{}/token", tokens.url()));
    server.rule(Rule::new(Fault::status_with(401, "www-authenticate", &wider)).path("manifests").nth(1));
    server.rule(Rule::new(manifest_answer()).path("manifests"));
    let _ = client.fetch_tag(&v1()).unwrap();
    assert!(tokens.seen()[1].path.contains("scope=repository%3Aa%2Fb%3Apull%2Cother"));
    assert!(!tokens.seen()[1].authorized(), "no credentials are configured");
}

#[test]
fn an_identity_token_is_exchanged() {
    let (server, tokens, client, _folder) =
        token_servers(Proxy::alone(), r#"{"auths":{"HOST":{"auth":"dXNlcjpwYXNz","identitytoken":"refresh me"}}}"#);
    tokens.rule(Rule::new(answer(200, &[], br#"{"access_token":"t1"}"#)).method("POST").nth(1));
    tokens.rule(Rule::new(answer(200, &[], br#"{"token":"t2"}"#)).method("GET"));
    server.rule(Rule::new(Fault::status(401)).path("manifests").nth(1));
    server.rule(Rule::new(manifest_answer()).path("manifests"));
    let _ = client.fetch_tag(&v1()).unwrap();
    let asked = tokens.seen();
    assert_eq!(
        asked.iter().map(|s| s.method.as_str()).collect::<Vec<_>>(),
        ["POST", "POST", "GET"],
        "404 to the second"
    );
    assert_eq!(asked[0].header("content-type"), Some("application/x-www-form-urlencoded"));
    assert!(!asked[0].authorized() && asked[2].authorized());
    assert_eq!(server.seen().last().unwrap().header("authorization"), Some("Bearer t2"));
}

#[test]
fn token_servers_are_not_trusted_either() {
    for (body, hint) in [
        (br#"{"token":"a\r\nX: y"}"#.to_vec(), "no header can hold"),
        (br#"{}"#.to_vec(), "no token"),
        (b"\x00".to_vec(), "no token"),
        (vec![b' '; 5 << 20], "more than"),
    ] {
        let (_server, tokens, client, _folder) = token_servers(Proxy::alone(), "{}");
        tokens.rule(Rule::new(answer(200, &[], &body)));
        let error = client.fetch_tag(&v1()).unwrap_err().to_string();
        assert!(error.contains(hint), "{error}");
    }
    for realm in ["http://tokens.example/t", "ftp://127.0.0.1/t", "gopher", "http://u@127.0.0.1/"] {
        let server = Proxy::alone();
        let challenge = format!("Bearer realm=\"{realm}\"");
        server.rule(Rule::new(Fault::status_with(401, "www-authenticate", &challenge)));
        let error = client(server.host()).fetch_tag(&v1()).unwrap_err();
        assert!(matches!(error, Error::Url { .. }), "{realm}: {error}");
    }
}

#[test]
fn a_small_file_is_there_or_not() {
    let server = Proxy::alone();
    server.rule(Rule::new(answer(200, &[], b"signature")).path("/signature-1"));
    server.rule(Rule::new(Fault::status(410)).path("/gone"));
    for (status, path) in [(401, "/401"), (403, "/403"), (204, "/204"), (301, "/301")] {
        server.rule(Rule::new(Fault::status(status)).path(path));
    }
    let registries = registries(Config::default());
    let url = |path: &str| format!("{}{path}", server.url());
    assert_eq!(registries.fetch_small(&url("/signature-1"), 9).unwrap().as_deref(), Some(b"signature".as_slice()));
    assert!(matches!(registries.fetch_small(&url("/signature-1"), 8), Err(Error::TooLarge { .. })));
    assert_eq!(registries.fetch_small(&url("/signature-2"), 9).unwrap(), None);
    assert_eq!(registries.fetch_small(&url("/gone"), 9).unwrap(), None);
    for path in ["/401", "/403", "/204", "/301"] {
        let error = registries.fetch_small(&url(path), 9).unwrap_err();
        assert!(matches!(error, Error::Denied { .. } | Error::Status { .. }), "{path}: {error}");
    }
}

#[test]
fn a_small_file_is_fetched_without_credentials() {
    let (server, folder) = (Proxy::alone(), tempfile::tempdir().unwrap());
    server.rule(Rule::new(Fault::status_with(302, "location", "/there")).path("/here"));
    server.rule(Rule::new(answer(200, &[], b"signature")).path("/there"));
    server.rule(Rule::new(Fault::status_with(302, "location", "file:///etc/passwd")).path("/out"));
    server.rule(Rule::new(Fault::status_with(302, "location", "/round")).path("/round"));
    let authfile = folder.path().join("auth.json");
    let auths = format!(r#"{{"auths":{{"{}":{{"auth":"bmFtZTpwYXNzd29yZA=="}}}}}}"#, server.host());
    std::fs::write(&authfile, auths).unwrap();
    let registries = registries(Config { authfile: Some(authfile), ..Config::default() });
    let fetch = |path: &str| registries.fetch_small(&format!("{}{path}", server.url()), 9);
    assert_eq!(fetch("/here").unwrap().as_deref(), Some(b"signature".as_slice()));
    assert!(matches!(fetch("/out"), Err(Error::Url { .. })), "no way from a server to a file");
    assert!(matches!(fetch("/round"), Err(Error::Redirects { .. })));
    assert!(server.seen().iter().all(|seen| !seen.authorized()));
}

#[test]
fn a_small_file_of_this_machine_is_a_regular_file() {
    let folder = tempfile::tempdir().unwrap();
    let registries = registries(Config::default());
    let path = |name: &str| folder.path().join(name);
    let fetch = |name: &str| registries.fetch_small(&format!("file://{}", path(name).display()), 9);
    std::fs::create_dir(path("a@sha256=00")).unwrap();
    std::fs::write(path("a@sha256=00/signature-1"), b"signature").unwrap();
    std::os::unix::fs::symlink(path("a@sha256=00"), path("link")).unwrap();
    assert_eq!(fetch("a@sha256=00/signature-1").unwrap().as_deref(), Some(b"signature".as_slice()));
    assert_eq!(fetch("a%40sha256=00/signature-1").unwrap().as_deref(), Some(b"signature".as_slice()));
    assert_eq!(
        fetch("link/signature-1").unwrap().as_deref(),
        Some(b"signature".as_slice()),
        "the tree's owner decides"
    );
    assert_eq!(fetch("a@sha256=00/signature-2").unwrap(), None);
    assert_eq!(fetch("b@sha256=00/signature-1").unwrap(), None);
    std::fs::write(path("large"), b"0123456789").unwrap();
    assert!(matches!(fetch("large"), Err(Error::TooLarge { limit: 9, .. })));
    assert!(matches!(fetch("a@sha256=00"), Err(Error::File { .. })), "a folder");
    assert!(matches!(fetch("large/signature-1"), Err(Error::File { .. })), "below a file");
    assert!(matches!(registries.fetch_small("file:///dev/zero", 9), Err(Error::File { .. })), "a device");
    let made = std::process::Command::new("mkfifo").arg(path("pipe")).status();
    if made.is_ok_and(|status| status.success()) {
        assert!(matches!(fetch("pipe"), Err(Error::File { .. })), "and is not waited for");
    }
    assert!(matches!(registries.fetch_small("file://host.example/a", 9), Err(Error::Url { .. })));
    assert!(matches!(registries.fetch_small("ftp://127.0.0.1/a", 9), Err(Error::Url { .. })));
}

#[test]
fn referrers_are_listed_where_the_registry_can() {
    let subject = sha256(MANIFEST);
    let index = br#"{"schemaVersion":2,"manifests":[]}"#;
    let page = |link: Option<&str>| {
        let mut list = headers(&[("content-type", MediaType::OCI_INDEX)]);
        list.extend(link.map(|link| ("link".to_string(), link.to_string())));
        Fault::Answer(200, list, index.to_vec())
    };
    let server = open_server();
    server.rule(Rule::new(page(Some(r#"</v2/a/b/referrers/more?n=2>; rel="next""#))).path("referrers").nth(1));
    server.rule(Rule::new(page(None)).path("more"));
    assert_eq!(client(server.host()).fetch_referrers(&subject).unwrap().unwrap().len(), 2);

    for fault in [Fault::status(404), Fault::status(405), answer(200, &[("content-type", "text/html")], b"<html>")] {
        let server = open_server();
        server.rule(Rule::new(fault).path("referrers"));
        assert!(client(server.host()).fetch_referrers(&subject).unwrap().is_none());
    }
    let server = open_server();
    server.rule(Rule::new(Fault::status(403)).path("referrers"));
    assert!(matches!(client(server.host()).fetch_referrers(&subject), Err(Error::Denied { .. })));
}

#[test]
fn subjects_that_the_registry_lists_are_told() {
    let server = open_server();
    let subject = sha256(b"subject");
    let (own, listed) = (sha256(MANIFEST).to_string(), subject.to_string());
    let taken = answer(201, &[("docker-content-digest", &own), ("oci-subject", &listed)], b"");
    server.rule(Rule::new(taken).method("PUT"));
    let document = VerifiedBytes::of(MANIFEST.to_vec());
    let pushed = client(server.host()).push_document(&document, &MediaType::OCI_MANIFEST.parse().unwrap()).unwrap();
    assert_eq!((pushed.digest(), pushed.subject()), (document.digest(), Some(&subject)));
}

/// What is logged meanwhile.
fn said(run: impl FnOnce()) -> String {
    let log = Arc::new(Mutex::new(Vec::new()));
    let writer = Writer(log.clone());
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, run);
    String::from_utf8(log.lock().unwrap().clone()).unwrap()
}

#[derive(Clone)]
struct Writer(Arc<Mutex<Vec<u8>>>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_registrys_warning_is_shown_once() {
    let server = open_server();
    let Fault::Answer(status, list, body) = manifest_answer() else { unreachable!() };
    for (n, text) in [
        "299 - \"this tag is deprecated\"",
        "299 - \"this tag is deprecated\"",
        "299 - \"moving \u{9b}2J to elsewhere\"",
        "110 - \"stale\"",
    ]
    .iter()
    .enumerate()
    {
        let mut list = list.clone();
        list.push(("warning".into(), text.to_string()));
        server.rule(Rule::new(Fault::Answer(status, list, body.clone())).path("manifests").nth(n + 1));
    }
    let shown = said(|| {
        let client = client(server.host());
        for _ in 0..4 {
            let _ = client.fetch_tag(&v1()).unwrap();
        }
    });
    assert_eq!(shown.matches("this tag is deprecated").count(), 1, "{shown}");
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(shown.contains(&format!("{} warns", server.host())) && !shown.contains('\u{9b}'), "{shown}");
}

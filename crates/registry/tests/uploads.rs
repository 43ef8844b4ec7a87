//! Uploads to servers that take blobs in their own ways, or break.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod common;

use std::io::Read;
use std::net::TcpListener;

use blobs::{VerifiedBytes, VerifyingReader, sha256};
use common::{answer, client, content, open_server, open_uploads, reader, sent, token_servers};
use registry::Error;
use testkit::{Fault, Proxy, Registry, Rule, need};

#[test]
fn a_front_that_limits_bodies_gets_chunks() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let proxy = Proxy::before(&registry);
    for fault in [Fault::status(413), Fault::CutRequest(100_000)] {
        proxy.clear();
        proxy.rule(Rule::new(fault.clone()).method("PUT").nth(1));
        let client = client(proxy.host());
        let bytes = content(20_000_000 + proxy.seen().len());
        let digest = sha256(&bytes);
        let error = client.push_blob(&mut reader(&bytes, digest)).unwrap_err();
        assert!(error.is_transient() && !error.is_content(), "{fault:?}: {error}");
        assert_eq!(proxy.count("PATCH", ""), 0);
        let pushed = client.push_blob(&mut reader(&bytes, digest)).unwrap();
        assert_eq!(pushed.digest(), &digest);
        assert_eq!(proxy.count("PATCH", ""), 3, "8 MiB each");
        assert!(client.has_blob(&digest, bytes.len() as u64).unwrap());
        assert_eq!(proxy.count("DELETE", "uploads"), 1);
        let left = open_uploads(&registry);
        // This registry can't cancel an upload whose connection broke.
        assert!(left == 0 || matches!(fault, Fault::CutRequest(_)) && left == 1);

        // Wrong content is kept back in chunks too.
        let mut wrong = bytes.clone();
        wrong[0] ^= 1;
        let other = sha256(b"other");
        let error =
            client.push_blob(&mut VerifyingReader::new(wrong.as_slice(), other, wrong.len() as u64)).unwrap_err();
        assert!(error.is_content(), "{error}");
        assert!(!client.has_blob(&other, wrong.len() as u64).unwrap());
        assert_eq!(open_uploads(&registry), left);
        let _ = client.push_blob(&mut reader(b"", sha256(b""))).unwrap();
    }
}

#[test]
fn a_small_blob_is_sent_again_and_in_another_way() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let proxy = Proxy::before(&registry);
    proxy.rule(Rule::new(Fault::status(503)).method("POST").nth(1));
    proxy.rule(Rule::new(Fault::status(413)).method("PUT").nth(1));
    proxy.rule(Rule::new(Fault::Close).method("PATCH").nth(1));
    let blob = VerifiedBytes::of(content(5000));
    let _ = client(proxy.host()).push_small_blob(&blob).unwrap();
    assert_eq!((proxy.count("PATCH", ""), proxy.count("GET", "uploads")), (2, 1), "asked what it holds, then again");
    assert!(registry.uploaded_blobs().contains(blob.digest()));
}

#[test]
fn chunks_become_smaller_where_they_must() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let proxy = Proxy::before(&registry);
    proxy.rule(Rule::new(Fault::status(413)).method("PUT").nth(1));
    proxy.rule(Rule::new(Fault::status(413)).method("PATCH").first(2));
    proxy.rule(Rule::new(Fault::Close).method("PATCH").nth(3));
    let bytes = content(5_000_000);
    let digest = sha256(&bytes);
    let client = client(proxy.host());
    assert!(client.push_blob(&mut reader(&bytes, digest)).unwrap_err().is_transient());
    let _ = client.push_blob(&mut reader(&bytes, digest)).unwrap();
    let sent: Vec<_> = proxy.seen().iter().filter_map(|s| s.header("content-range").map(str::to_string)).collect();
    assert_eq!(sent[..4], ["0-4999999", "0-4194303", "0-2097151", "0-1048575"]);
    assert_eq!(sent.last().unwrap(), "4194304-4999999");
    assert!(registry.uploaded_blobs().contains(&digest));
}

#[test]
fn a_chunk_that_was_taken_without_an_answer_is_not_sent_twice() {
    let server = open_server();
    let (bytes, digest) = (content(1000), sha256(&content(1000)));
    server.rule(Rule::new(Fault::status_with(202, "location", "/v2/a/b/blobs/uploads/1?s=1")).method("POST"));
    server.rule(Rule::new(Fault::status(413)).method("PUT").nth(1));
    server.rule(Rule::new(Fault::Close).method("PATCH"));
    let held = answer(204, &[("range", "0-999"), ("location", "/v2/a/b/blobs/uploads/1?s=2")], b"");
    server.rule(Rule::new(held).method("GET").path("uploads"));
    server.rule(Rule::new(Fault::status(201)).method("PUT"));
    let client = client(server.host());
    assert!(client.push_blob(&mut reader(&bytes, digest)).unwrap_err().is_transient());
    let _ = client.push_blob(&mut reader(&bytes, digest)).unwrap();
    assert_eq!(server.count("PATCH", ""), 1);
    assert_eq!(server.count("PUT", &format!("?s=2&digest=sha256%3A{}", digest.hex())), 1, "the latest location");
}

#[test]
fn chunks_that_do_not_add_up_are_refused() {
    let server = open_server();
    let (bytes, digest) = (content(1000), sha256(&content(1000)));
    server.rule(Rule::new(Fault::status_with(202, "location", "/v2/a/b/blobs/uploads/1")).method("POST"));
    server.rule(Rule::new(Fault::status(413)).method("PUT").nth(1));
    server.rule(Rule::new(Fault::status_with(202, "range", "0-499")).method("PATCH"));
    let client = client(server.host());
    assert!(client.push_blob(&mut reader(&bytes, digest)).is_err());
    let error = client.push_blob(&mut reader(&bytes, digest)).unwrap_err();
    assert!(matches!(error, Error::Way { .. }), "{error}");
    assert_eq!(server.count("PUT", ""), 1, "not completed");
    assert_eq!(server.count("DELETE", "uploads"), 2, "both were cancelled");
}

#[test]
fn a_registry_that_refuses_chunks_gets_whole_blobs() {
    let server = open_server();
    let (bytes, digest) = (content(1000), sha256(&content(1000)));
    server.rule(Rule::new(Fault::status_with(202, "location", "/v2/a/b/blobs/uploads/1")).method("POST"));
    server.rule(Rule::new(Fault::Close).method("PUT").nth(1));
    server.rule(Rule::new(Fault::status(405)).method("PATCH"));
    server.rule(Rule::new(Fault::status(201)).method("PUT"));
    let client = client(server.host());
    assert!(client.push_blob(&mut reader(&bytes, digest)).unwrap_err().is_transient(), "the connection broke");
    assert!(client.push_blob(&mut reader(&bytes, digest)).unwrap_err().is_transient(), "no chunks");
    assert!(client.push_blob(&mut reader(&bytes, digest)).is_ok());
}

#[test]
fn a_registry_that_takes_chunks_and_then_not_gets_whole_blobs() {
    let server = open_server();
    let (bytes, digest) = (content(1000), sha256(&content(1000)));
    server.rule(Rule::new(Fault::status_with(202, "location", "/v2/a/b/blobs/uploads/1")).method("POST"));
    server.rule(Rule::new(Fault::status(413)).method("PUT").nth(1));
    server.rule(Rule::new(Fault::status(201)).method("PATCH"));
    server.rule(Rule::new(Fault::status(400)).method("PUT").nth(2));
    server.rule(Rule::new(Fault::status(201)).method("PUT"));
    let client = client(server.host());
    for _ in 0..2 {
        assert!(client.push_blob(&mut reader(&bytes, digest)).unwrap_err().is_transient());
    }
    let _ = client.push_blob(&mut reader(&bytes, digest)).unwrap();
    assert_eq!((server.count("PATCH", ""), server.count("PUT", "")), (1, 3));
}

#[test]
fn an_upload_without_an_answer_is_looked_for() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let proxy = Proxy::before(&registry);
    // The registry answers, and the answer's head is lost with the connection.
    let bytes = content(1000);
    let digest = sha256(&bytes);
    registry.put_blob("a/b", &digest, &bytes);
    proxy.rule(Rule::new(Fault::status_with(202, "location", "/v2/a/b/blobs/uploads/1")).method("POST"));
    let client = client(proxy.host());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let location = format!("http://{}/up", listener.local_addr().unwrap());
    let swallow = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        let mut read = 0;
        while read < 1000 {
            read += stream.read(&mut buffer).unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    });
    proxy.clear();
    proxy.rule(Rule::new(Fault::status_with(202, "location", &location)).method("POST"));
    let pushed = client.push_blob(&mut reader(&bytes, digest)).unwrap();
    swallow.join().unwrap();
    assert_eq!(pushed.digest(), &digest);
    assert_eq!(proxy.count("HEAD", "blobs"), 1);
}

#[test]
fn chunks_are_as_long_as_the_registry_asks() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let bytes = content(21_000_000);
    let digest = sha256(&bytes);
    for (asked, chunks) in [
        ("10000000", ["0-9999999", "10000000-19999999", "20000000-20999999"]),
        // Less than is sent anyway.
        ("1000", ["0-8388607", "8388608-16777215", "16777216-20999999"]),
    ] {
        let proxy = Proxy::before(&registry);
        proxy.rule(Rule::new(Fault::status(413)).method("PUT").nth(1));
        proxy.rule(Rule::new(Fault::Header("OCI-Chunk-Min-Length".into(), Some(asked.into()))).method("POST"));
        let client = client(proxy.host());
        assert!(client.push_blob(&mut reader(&bytes, digest)).unwrap_err().is_transient());
        let _ = client.push_blob(&mut reader(&bytes, digest)).unwrap();
        assert_eq!(sent(&proxy), chunks);
    }

    // Smaller chunks do not become shorter than that, the last one apart.
    let proxy = Proxy::before(&registry);
    proxy.rule(Rule::new(Fault::status(413)).method("PUT").nth(1));
    proxy.rule(Rule::new(Fault::status(413)).method("PATCH").nth(1));
    proxy.rule(Rule::new(Fault::Header("OCI-Chunk-Min-Length".into(), Some("5000000".into()))).method("POST"));
    let client = client(proxy.host());
    assert!(client.push_blob(&mut reader(&bytes, digest)).unwrap_err().is_transient());
    let _ = client.push_blob(&mut reader(&bytes, digest)).unwrap();
    let cut = ["0-4999999", "5000000-9999999", "10000000-14999999", "15000000-19999999", "20000000-20999999"];
    assert_eq!(sent(&proxy), [["0-8388607"].as_slice(), &cut].concat());
    assert!(registry.uploaded_blobs().contains(&digest));
}

#[test]
fn a_registry_that_asks_for_huge_chunks_is_refused() {
    let server = open_server();
    let session = [("location", "/v2/a/b/blobs/uploads/1"), ("oci-chunk-min-length", "1000000000000")];
    server.rule(Rule::new(answer(202, &session, b"")).method("POST"));
    let error = client(server.host()).push_blob(&mut reader(b"x", sha256(b"x"))).unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }) && error.to_string().contains("1000000000000"), "{error}");
}

#[test]
fn a_chunk_goes_on_where_the_registry_says() {
    // What the registry holds is said by the refusal itself, or only where one asks for the upload.
    for asked in [true, false] {
        let server = open_server();
        let (bytes, digest) = (content(1000), sha256(&content(1000)));
        server.rule(Rule::new(Fault::status_with(202, "location", "/v2/a/b/blobs/uploads/1?s=1")).method("POST"));
        server.rule(Rule::new(Fault::status(413)).method("PUT").nth(1));
        let range: &[_] = if asked { &[] } else { &[("range", "0-399")] };
        server.rule(Rule::new(answer(416, range, b"")).method("PATCH").nth(1));
        let held = [("range", "0-399"), ("location", "/v2/a/b/blobs/uploads/1?s=2")];
        let held = if asked { answer(204, &held, b"") } else { Fault::status(405) };
        server.rule(Rule::new(held).method("GET").path("uploads"));
        server.rule(Rule::new(Fault::status_with(202, "range", "0-999")).method("PATCH"));
        server.rule(Rule::new(Fault::status(201)).method("PUT"));
        let client = client(server.host());
        assert!(client.push_blob(&mut reader(&bytes, digest)).unwrap_err().is_transient());
        let _ = client.push_blob(&mut reader(&bytes, digest)).unwrap();
        assert_eq!(sent(&server), ["0-999", "400-999"]);
        let rest = server.seen().into_iter().rfind(|s| s.method == "PATCH").unwrap();
        assert_eq!(rest.header("content-length"), Some("600"));
        assert_eq!(rest.path.ends_with("?s=2"), asked, "the latest location");
    }
}

#[test]
fn a_registry_that_forgets_what_it_took_ends_the_upload() {
    for held in ["0-99", "0-1999", "5-9"] {
        let server = open_server();
        let (bytes, digest) = (content(9_000_000), sha256(&content(9_000_000)));
        server.rule(Rule::new(Fault::status_with(202, "location", "/v2/a/b/blobs/uploads/1")).method("POST"));
        server.rule(Rule::new(Fault::status(413)).method("PUT").nth(1));
        server.rule(Rule::new(Fault::status(202)).method("PATCH").nth(1));
        server.rule(Rule::new(Fault::status_with(416, "range", held)).method("PATCH"));
        let client = client(server.host());
        assert!(client.push_blob(&mut reader(&bytes, digest)).unwrap_err().is_transient());
        let error = client.push_blob(&mut reader(&bytes, digest)).unwrap_err();
        assert!(matches!(error, Error::Way { .. }) && error.is_transient(), "{error}");
        assert_eq!((server.count("PATCH", ""), server.count("PUT", "")), (2, 1), "not completed");
        assert_eq!(server.count("DELETE", "uploads"), 2);
    }
}

#[test]
fn a_single_byte_goes_up_in_chunks() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let proxy = Proxy::before(&registry);
    proxy.rule(Rule::new(Fault::status(413)).method("PUT").nth(1));
    let client = client(proxy.host());
    assert!(client.push_blob(&mut reader(b"x", sha256(b"x"))).unwrap_err().is_transient());
    // Registries say 0-0 of one byte, and of none.
    let _ = client.push_blob(&mut reader(b"x", sha256(b"x"))).unwrap();
    assert_eq!(proxy.count("PATCH", ""), 1);
    assert!(registry.uploaded_blobs().contains(&sha256(b"x")));
}

#[test]
fn a_token_that_is_refused_in_the_middle_is_replaced() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let (proxy, tokens, client, _folder) = token_servers(Proxy::before(&registry), "{}");
    for n in 1..=3 {
        let token = format!(r#"{{"token":"t{n}"}}"#);
        tokens.rule(Rule::new(answer(200, &[], token.as_bytes())).nth(n));
    }
    // A body that is streamed can't be sent again: the next attempt has the new token.
    proxy.rule(Rule::new(Fault::status(401)).method("PUT").nth(1));
    proxy.rule(Rule::new(Fault::status(413)).method("PUT").nth(2));
    proxy.rule(Rule::new(Fault::status(401)).method("PATCH").nth(2));
    let bytes = content(20_000_000);
    let digest = sha256(&bytes);
    for way in ["the token", "the length"] {
        assert!(client.push_blob(&mut reader(&bytes, digest)).unwrap_err().is_transient(), "{way}");
    }
    let _ = client.push_blob(&mut reader(&bytes, digest)).unwrap();
    let used = |method: &str| -> Vec<_> {
        let seen = proxy.seen().into_iter().filter(|s| s.method == method);
        seen.map(|s| s.header("authorization").unwrap_or_default().to_string()).collect()
    };
    assert_eq!(used("POST"), ["Bearer t1", "Bearer t2", "Bearer t2"]);
    assert_eq!(used("PATCH"), ["Bearer t2", "Bearer t2", "Bearer t3", "Bearer t3"]);
    assert_eq!(sent(&proxy)[1..3], ["8388608-16777215", "8388608-16777215"]);
    assert_eq!(used("PUT"), ["Bearer t1", "Bearer t2", "Bearer t3"]);
    assert!(registry.uploaded_blobs().contains(&digest));
}

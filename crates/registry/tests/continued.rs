//! Uploads that are interrupted between two runs, and continued.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use blobs::{BlobError, VerifyingReader, sha256};
use common::{CHUNK, answer, client, content, open_server, open_uploads, reader, sent, token_servers};
use manifest_schema::{Digest, Repository};
use registry::{Error, NoJournal, RepositoryClient, UploadJournal, UploadMark};
use testkit::{Ending, Fault, IdleRelay, Proxy, Registry, Rule, need};

/// Three chunks, and some bytes.
const SIZE: usize = 3 * CHUNK + 1000;

fn blob() -> (&'static [u8], Digest) {
    static BLOB: LazyLock<(Vec<u8>, Digest)> = LazyLock::new(|| {
        let bytes = content(SIZE);
        let digest = sha256(&bytes);
        (bytes, digest)
    });
    (&BLOB.0, BLOB.1)
}

#[derive(Default)]
struct Journal(RefCell<BTreeMap<(Repository, Digest), UploadMark>>);

impl UploadJournal for Journal {
    fn mark(&self, repository: &Repository, digest: &Digest) -> Option<UploadMark> {
        self.0.borrow().get(&(repository.clone(), *digest)).cloned()
    }

    fn note(&self, repository: &Repository, digest: &Digest, mark: Option<&UploadMark>) {
        let key = (repository.clone(), *digest);
        match mark {
            Some(mark) => self.0.borrow_mut().insert(key, mark.clone()),
            None => self.0.borrow_mut().remove(&key),
        };
    }
}

impl Journal {
    fn only(&self) -> UploadMark {
        let marks = self.0.borrow();
        assert_eq!(marks.len(), 1);
        marks.values().next().unwrap().clone()
    }

    fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    fn with(client: &RepositoryClient, digest: &Digest, location: &str, offset: u64) -> Self {
        let journal = Self::default();
        journal.note(client.repository(), digest, Some(&UploadMark { location: location.into(), offset }));
        journal
    }
}

/// Gives some bytes, then fails as a medium does that was taken away.
struct Taken<'a>(&'a [u8]);

impl Read for Taken<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err(io::Error::other("the medium was taken away")) } else { self.0.read(buf) }
    }
}

/// A run that is interrupted after so many bytes were read.
fn interrupted(client: &RepositoryClient, bytes: &[u8], digest: Digest, after: usize, journal: &Journal) {
    let mut blob = VerifyingReader::new(Taken(&bytes[..after]), digest, bytes.len() as u64);
    let error = client.push_or_continue(&mut blob, journal).unwrap_err();
    assert!(matches!(&error, Error::Read { source, .. } if source.to_string().contains("taken away")), "{error}");
}

fn range(from: usize, to: usize) -> String {
    format!("{from}-{}", to - 1)
}

#[test]
fn an_interrupted_upload_goes_on_where_it_was() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let (bytes, digest) = blob();
    // Between two chunks, in the middle of the third, and between the last chunk and the end.
    for (after, held) in [(2 * CHUNK, 2 * CHUNK), (5 * CHUNK / 2, 2 * CHUNK), (3 * CHUNK, 3 * CHUNK)] {
        let proxy = Proxy::before(&registry);
        let journal = Journal::default();
        interrupted(&client(proxy.host()), bytes, digest, after, &journal);
        let mark = journal.only();
        assert_eq!(mark.offset, held as u64);
        assert!(!format!("{mark:?}").contains("_state"), "a location may hold a token: {mark:?}");
        assert_eq!(open_uploads(&registry), 1, "not cancelled");
        assert_eq!(proxy.count("DELETE", ""), 0);
        assert!(!client(registry.host()).has_blob(&digest, SIZE as u64).unwrap());

        proxy.clear();
        let mut blob = reader(bytes, digest);
        let pushed = client(proxy.host()).push_or_continue(&mut blob, &journal).unwrap();
        assert_eq!((pushed.digest(), pushed.size()), (&digest, SIZE as u64));
        assert_eq!(blob.position(), SIZE as u64, "read through the check from the first byte");
        let rest: &[_] = match held == 3 * CHUNK {
            false => &[range(2 * CHUNK, 3 * CHUNK), range(3 * CHUNK, SIZE)],
            true => &[range(3 * CHUNK, SIZE)],
        };
        assert_eq!(sent(&proxy), rest);
        assert_eq!((proxy.count("POST", "uploads"), proxy.count("GET", "uploads")), (0, 1));
        assert!(journal.is_empty());
        assert!(registry.uploaded_blobs().contains(&digest));
        assert_eq!(open_uploads(&registry), 0);
        registry.lose_blob(&digest);
    }
}

#[test]
fn an_upload_whose_last_byte_is_there_is_completed_after_the_check() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let proxy = Proxy::before(&registry);
    let (bytes, digest) = blob();
    let journal = Journal::default();
    // Nobody answers the request that completes it.
    proxy.rule(Rule::new(Fault::status(503)).method("PUT"));
    let error = client(proxy.host()).push_or_continue(&mut reader(bytes, digest), &journal).unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(journal.only().offset, SIZE as u64);
    let kept = journal.only();

    // Other content than was sent, which only the check of the second run can see.
    let mut wrong = bytes.to_vec();
    wrong[SIZE - 1] ^= 1;
    proxy.clear();
    let error = client(proxy.host()).push_or_continue(&mut reader(&wrong, digest), &journal).unwrap_err();
    assert!(error.is_content(), "{error}");
    assert_eq!((proxy.count("PUT", ""), proxy.count("DELETE", "uploads")), (0, 1));
    assert!(journal.is_empty() && registry.linked_blobs().is_empty());
    assert_eq!(open_uploads(&registry), 0, "cancelled");

    // What was cancelled is not there to be continued.
    let stale = Journal::with(&client(proxy.host()), &digest, &kept.location, kept.offset);
    proxy.clear();
    let _ = client(proxy.host()).push_or_continue(&mut reader(bytes, digest), &stale).unwrap();
    assert_eq!((proxy.count("GET", "uploads"), proxy.count("POST", "uploads")), (1, 1));
    assert_eq!(sent(&proxy)[0], range(0, CHUNK));
    assert!(stale.is_empty() && registry.uploaded_blobs().contains(&digest));
}

#[test]
fn nothing_is_sent_where_only_the_end_was_missing() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let proxy = Proxy::before(&registry);
    let (bytes, digest) = blob();
    let journal = Journal::default();
    proxy.rule(Rule::new(Fault::status(503)).method("PUT"));
    assert!(client(proxy.host()).push_or_continue(&mut reader(bytes, digest), &journal).is_err());
    proxy.clear();
    let _ = client(proxy.host()).push_or_continue(&mut reader(bytes, digest), &journal).unwrap();
    assert_eq!((proxy.count("PATCH", ""), proxy.count("PUT", "")), (0, 1));
    assert!(registry.uploaded_blobs().contains(&digest));
}

#[test]
fn content_that_differs_is_refused_and_its_upload_is_cancelled() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let (bytes, digest) = blob();
    // A byte that was sent before, a byte that was not, and an end that is missing.
    let flipped = |at: usize| {
        let mut wrong = bytes.to_vec();
        wrong[at] ^= 1;
        wrong
    };
    for wrong in [flipped(5), flipped(SIZE - 5), bytes[..5 * CHUNK / 4].to_vec()] {
        let proxy = Proxy::before(&registry);
        let journal = Journal::default();
        interrupted(&client(proxy.host()), bytes, digest, 5 * CHUNK / 2, &journal);
        let mut blob = VerifyingReader::new(wrong.as_slice(), digest, SIZE as u64);
        let error = client(proxy.host()).push_or_continue(&mut blob, &journal).unwrap_err();
        assert!(error.is_content() && !error.is_transient(), "{error}");
        assert_eq!((proxy.count("PUT", ""), proxy.count("DELETE", "uploads")), (0, 1));
        assert!(journal.is_empty());
        assert_eq!(open_uploads(&registry), 0);
    }

    // What was wrong in the first run, and is right in the second: the registry's own check is the last.
    let proxy = Proxy::before(&registry);
    let journal = Journal::default();
    interrupted(&client(proxy.host()), &flipped(5), digest, 5 * CHUNK / 2, &journal);
    let client = client(proxy.host());
    let error = client.push_or_continue(&mut reader(bytes, digest), &journal).unwrap_err();
    assert!(matches!(error, Error::Way { .. }) && error.is_transient(), "{error}");
    assert!(journal.is_empty() && registry.linked_blobs().is_empty());
    proxy.clear();
    let _ = client.push_or_continue(&mut reader(bytes, digest), &journal).unwrap();
    assert_eq!(sent(&proxy).len(), 4, "chunks are still good");
    assert!(registry.uploaded_blobs().contains(&digest));
}

#[test]
fn a_chunk_that_is_cut_begins_the_blob_anew() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let (bytes, digest) = blob();
    // While this program runs: the registry says that the upload is dead, and it is given up.
    let proxy = Proxy::before(&registry);
    proxy.rule(Rule::new(Fault::CutRequest(1_000_000)).method("PATCH").nth(2));
    let journal = Journal::default();
    let error = client(proxy.host()).push_or_continue(&mut reader(bytes, digest), &journal).unwrap_err();
    assert!(matches!(error, Error::Way { .. }) && error.is_transient(), "{error}");
    assert!(journal.is_empty());

    // While it is killed: the mark says where it was, and the next run finds that out.
    interrupted(&client(proxy.host()), bytes, digest, 5 * CHUNK / 2, &journal);
    let mark = journal.only();
    proxy.clear();
    proxy.rule(Rule::new(Fault::CutRequest(1000)).method("PATCH"));
    let path = mark.location.strip_prefix(&proxy.url()).unwrap();
    let before = registry.snapshot();
    let mut stream = std::net::TcpStream::connect(proxy.host()).unwrap();
    write!(stream, "PATCH {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 5000\r\n\r\n", proxy.host()).unwrap();
    stream.write_all(&[0; 5000]).unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
    // The registry writes what came of it once it notices, one file after the other.
    let mut last = before.clone();
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let now = registry.snapshot();
        if now != before && now == last {
            break;
        }
        last = now;
    }
    proxy.clear();
    let _ = client(proxy.host()).push_or_continue(&mut reader(bytes, digest), &journal).unwrap();
    assert_eq!((proxy.count("GET", "uploads"), proxy.count("POST", "uploads")), (1, 1));
    assert_eq!(sent(&proxy)[0], range(0, CHUNK));
    assert!(journal.is_empty() && registry.uploaded_blobs().contains(&digest));
}

#[test]
fn a_registry_that_knows_nothing_of_it_gets_the_blob_anew() {
    if !need(&["docker-registry"]) {
        return;
    }
    let (first, second) = (Registry::start(), Registry::start());
    let (bytes, digest) = blob();
    let journal = Journal::default();
    interrupted(&client(first.host()), bytes, digest, 5 * CHUNK / 2, &journal);
    let location = journal.only().location.replace(first.host(), second.host());
    let client = client(second.host());
    let journal = Journal::with(&client, &digest, &location, journal.only().offset);
    let _ = client.push_or_continue(&mut reader(bytes, digest), &journal).unwrap();
    assert!(journal.is_empty() && second.uploaded_blobs().contains(&digest));
}

/// A server that has an upload of which it says this, and takes a new one in chunks of which it says nothing.
fn server_that_holds(status: u16, list: &[(&str, &str)]) -> Proxy {
    let server = open_server();
    server.rule(Rule::new(answer(status, list, b"")).method("GET").path("uploads/old"));
    server.rule(Rule::new(Fault::status_with(202, "location", "/v2/a/b/blobs/uploads/new")).method("POST"));
    server.rule(Rule::new(Fault::status(202)).method("PATCH"));
    server.rule(Rule::new(Fault::status(201)).method("PUT"));
    server
}

#[test]
fn an_upload_is_continued_only_from_what_the_registry_holds() {
    let (bytes, digest) = blob();
    let offset = 2 * CHUNK as u64;
    let whole = range(0, SIZE);
    for (status, said, from) in [
        (204, Some("0-4194303"), Some(2 * CHUNK)),
        (204, Some("bytes=0-4194303"), Some(2 * CHUNK)),
        // The answer to the last chunk was lost.
        (204, Some("0-6291455"), Some(3 * CHUNK)),
        (204, Some(whole.as_str()), Some(SIZE)),
        // Less than it had taken, more than there is, a hole, nothing, nonsense.
        (204, Some("0-4194302"), None),
        (204, Some("0-2097151"), None),
        (204, Some("0-6292456"), None),
        (204, Some("1-4194303"), None),
        (204, Some("0-0"), None),
        (204, Some("all"), None),
        (204, Some("0-18446744073709551615"), None),
        (204, None, None),
        // Not the answer for an upload.
        (200, Some("0-4194303"), None),
        (404, Some("0-4194303"), None),
        (410, None, None),
        (500, None, None),
    ] {
        let list: Vec<_> = said.map(|said| ("range", said)).into_iter().collect();
        let server = server_that_holds(status, &[list.as_slice(), &[("retry-after", "0")]].concat());
        let client = client(server.host());
        let journal =
            Journal::with(&client, &digest, &format!("{}/v2/a/b/blobs/uploads/old?s=1", server.url()), offset);
        let _ = client.push_or_continue(&mut reader(bytes, digest), &journal).unwrap();
        let first = sent(&server).first().cloned();
        let expected = Some(from.unwrap_or(0)).filter(|from| *from < SIZE);
        assert_eq!(first, expected.map(|at| range(at, (at + CHUNK).min(SIZE))), "{status} {said:?}");
        assert_eq!(server.count("POST", "uploads"), usize::from(from.is_none()), "{status} {said:?}");
        let completed = if from.is_some() { "old?s=1&digest=" } else { "new?digest=" };
        assert_eq!(server.count("PUT", completed), 1);
        assert!(journal.is_empty());
        assert_eq!(server.count("DELETE", ""), 0, "nothing is deleted that a mark names");
    }
}

#[test]
fn the_latest_location_is_continued() {
    let (bytes, digest) = blob();
    let list = [("range", "0-4194303"), ("location", "/v2/a/b/blobs/uploads/old?s=2")];
    let server = server_that_holds(204, &list);
    let client = client(server.host());
    let journal =
        Journal::with(&client, &digest, &format!("{}/v2/a/b/blobs/uploads/old?s=1", server.url()), 2 * CHUNK as u64);
    let _ = client.push_or_continue(&mut reader(bytes, digest), &journal).unwrap();
    assert_eq!(server.count("PATCH", "old?s=2"), 2);

    // It may lead elsewhere as little as the mark itself.
    let elsewhere = Proxy::alone();
    let list = [("range", "0-4194303"), ("location", &format!("{}/x", elsewhere.url()))];
    let server = server_that_holds(204, &list);
    let client = common::client(server.host());
    let journal =
        Journal::with(&client, &digest, &format!("{}/v2/a/b/blobs/uploads/old?s=1", server.url()), 2 * CHUNK as u64);
    let _ = client.push_or_continue(&mut reader(bytes, digest), &journal).unwrap();
    assert_eq!((elsewhere.seen().len(), server.count("POST", "uploads")), (0, 1));
}

#[test]
fn a_mark_that_leads_elsewhere_is_not_followed() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let (bytes, digest) = blob();
    let elsewhere = Proxy::alone();
    elsewhere.rule(Rule::new(Fault::status_with(204, "range", "0-4194303")).method("GET"));
    elsewhere.rule(Rule::new(Fault::status(202)).method("PATCH"));
    elsewhere.rule(Rule::new(Fault::status(201)).method("PUT"));
    let client = client(registry.host());
    for location in [
        format!("{}/v2/a/b/blobs/uploads/old", elsewhere.url()),
        format!("//{}/v2/a/b/blobs/uploads/old", elsewhere.host()),
        format!("http://{}@{}/", registry.host(), elsewhere.host()),
        "file:///etc/passwd".into(),
        "http://registry.example/x".into(),
        format!("ftp://{}/x", registry.host()),
        "\u{1b}[2J\r\nX: y".into(),
        String::new(),
    ] {
        let journal = Journal::with(&client, &digest, &location, 2 * CHUNK as u64);
        let _ = client.push_or_continue(&mut reader(bytes, digest), &journal).unwrap();
        assert!(journal.is_empty(), "{location:?}");
        assert!(registry.uploaded_blobs().contains(&digest), "{location:?}");
        registry.lose_blob(&digest);
    }
    assert!(elsewhere.seen().is_empty());
}

#[test]
fn an_upload_at_another_server_leaves_no_mark() {
    let (server, elsewhere) = (open_server(), Proxy::alone());
    let upload = format!("{}/upload", elsewhere.url());
    server.rule(Rule::new(Fault::status_with(202, "location", &upload)).method("POST"));
    elsewhere.rule(Rule::new(Fault::status(202)).method("PATCH"));
    let ((bytes, digest), journal) = (blob(), Journal::default());
    interrupted(&client(server.host()), bytes, digest, 5 * CHUNK / 2, &journal);
    assert!(journal.is_empty());
    assert_eq!((elsewhere.count("PATCH", ""), elsewhere.count("DELETE", "")), (2, 1), "cancelled");
}

#[test]
fn a_registry_that_cannot_be_asked_is_asked_in_the_next_run() {
    let (bytes, digest) = blob();
    for fault in [Fault::Close, Fault::status(401), Fault::status(403), Fault::status_with(429, "retry-after", "0")] {
        let server = open_server();
        server.rule(Rule::new(fault.clone()).path("uploads"));
        let limited = common::registries(registry::Config { retries: 2, ..registry::Config::default() });
        let client = limited.repository(&Repository::new(server.host(), "a/b").unwrap());
        let location = format!("{}/v2/a/b/blobs/uploads/old", server.url());
        let journal = Journal::with(&client, &digest, &location, 2 * CHUNK as u64);
        let mut blob = reader(bytes, digest);
        let error = client.push_or_continue(&mut blob, &journal).unwrap_err();
        assert!(matches!(error, Error::Network { .. } | Error::Denied { .. } | Error::Status { .. }), "{error}");
        assert_eq!(journal.only().location, location, "{fault:?}");
        assert_eq!(blob.position(), 0, "nothing was read in vain");
    }
}

#[test]
fn a_passing_failure_leaves_the_upload_and_another_ends_it() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let (bytes, digest) = blob();
    for (fault, kept) in [
        (Fault::status_with(503, "retry-after", "0"), true),
        (Fault::Close, true),
        (Fault::status(403), true),
        (Fault::status(401), true),
        (Fault::status(418), false),
        (Fault::status_with(202, "range", "0-99"), false),
    ] {
        let proxy = Proxy::before(&registry);
        let journal = Journal::default();
        let limited = common::registries(registry::Config { retries: 1, ..registry::Config::default() });
        let client = limited.repository(&Repository::new(proxy.host(), "a/b").unwrap());
        for nth in 3..20 {
            proxy.rule(Rule::new(fault.clone()).method("PATCH").nth(nth));
        }
        let error = client.push_or_continue(&mut reader(bytes, digest), &journal).unwrap_err();
        assert_eq!((journal.is_empty(), proxy.count("DELETE", "")), (!kept, usize::from(!kept)), "{fault:?}: {error}");
        assert_eq!(open_uploads(&registry), usize::from(kept), "{fault:?}: {error}");
        proxy.clear();
        let _ = client.push_or_continue(&mut reader(bytes, digest), &journal).unwrap();
        let first = if kept { 2 * CHUNK } else { 0 };
        assert_eq!(sent(&proxy)[0], range(first, first + CHUNK), "{fault:?}");
        assert!(registry.uploaded_blobs().contains(&digest));
        registry.lose_blob(&digest);
    }
}

#[test]
fn a_registry_without_chunks_gets_the_blob_whole_with_what_was_read() {
    let server = open_server();
    let (bytes, digest) = blob();
    server.rule(Rule::new(Fault::status_with(202, "location", "/v2/a/b/blobs/uploads/1")).method("POST"));
    server.rule(Rule::new(Fault::status(405)).method("PATCH"));
    server.rule(Rule::new(Fault::status(201)).method("PUT"));
    let (client, journal) = (client(server.host()), Journal::default());
    for _ in 0..2 {
        let _ = client.push_or_continue(&mut reader(bytes, digest), &journal).unwrap();
    }
    assert_eq!((server.count("PATCH", ""), server.count("PUT", ""), server.count("DELETE", "")), (1, 2, 1));
    let put = server.seen().into_iter().find(|seen| seen.method == "PUT").unwrap();
    assert_eq!(put.header("content-length"), Some(SIZE.to_string().as_str()));
    assert!(journal.is_empty());

    // Wrong content is not completed in that way either.
    let server = open_server();
    server.rule(Rule::new(Fault::status_with(202, "location", "/v2/a/b/blobs/uploads/1")).method("POST"));
    server.rule(Rule::new(Fault::status(405)).method("PATCH"));
    server.rule(Rule::new(Fault::status(201)).method("PUT"));
    let mut wrong = bytes.to_vec();
    wrong[5] ^= 1;
    let error = common::client(server.host()).push_or_continue(&mut reader(&wrong, digest), &NoJournal).unwrap_err();
    assert!(matches!(error, Error::Content(BlobError::Digest { .. })), "{error}");
    assert_eq!(server.count("DELETE", ""), 2);
}

#[test]
fn a_registry_without_chunks_takes_the_very_bytes() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let proxy = Proxy::before(&registry);
    proxy.rule(Rule::new(Fault::status(405)).method("PATCH"));
    let (bytes, digest) = blob();
    let _ = client(proxy.host()).push_or_continue(&mut reader(bytes, digest), &NoJournal).unwrap();
    assert!(registry.uploaded_blobs().contains(&digest));
    assert_eq!(open_uploads(&registry), 0);
}

#[test]
fn small_blobs_are_read_before_they_are_sent() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let proxy = Proxy::before(&registry);
    proxy.rule(Rule::new(Fault::Close).method("PUT").nth(1));
    let (client, journal) = (client(proxy.host()), Journal::default());
    let bytes = content(CHUNK);
    let digest = sha256(&bytes);
    let _ = client.push_or_continue(&mut reader(&bytes, digest), &journal).unwrap();
    assert!(registry.uploaded_blobs().contains(&digest), "sent again from memory");
    let _ = client.push_or_continue(&mut reader(b"", sha256(b"")), &journal).unwrap();
    proxy.clear();
    let error = client.push_or_continue(&mut reader(&bytes, sha256(b"other")), &journal).unwrap_err();
    assert!(error.is_content(), "{error}");
    assert!(proxy.seen().is_empty(), "nobody hears of it");
    let mut begun = reader(&bytes, digest);
    begun.read_exact(&mut [0; 10]).unwrap();
    assert!(matches!(client.push_or_continue(&mut begun, &journal), Err(Error::Read { .. })));
}

#[test]
fn a_mark_that_is_of_no_use_is_dropped_at_once() {
    let server = server_that_holds(404, &[]);
    let ((bytes, digest), client) = (blob(), client(server.host()));
    let journal =
        Journal::with(&client, &digest, &format!("{}/v2/a/b/blobs/uploads/old", server.url()), 2 * CHUNK as u64);
    interrupted(&client, bytes, digest, CHUNK / 2, &journal);
    assert!(journal.is_empty());
}

/// Gives bytes, and waits before some of them.
struct Slow<'a> {
    bytes: &'a [u8],
    at: usize,
    waits: Vec<usize>,
    wait: Duration,
}

impl Read for Slow<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.waits.first().is_some_and(|at| *at <= self.at) {
            self.waits.remove(0);
            std::thread::sleep(self.wait);
        }
        let n = (&self.bytes[self.at..]).read(buf)?;
        self.at += n;
        Ok(n)
    }
}

#[test]
fn a_reader_may_wait_longer_than_connections_live() {
    if !need(&["docker-registry"]) {
        return;
    }
    let (bytes, digest) = blob();
    for ending in [Ending::Closed, Ending::Unseen] {
        for tls in [false, true] {
            let registry = Registry::with(testkit::Options { tls, ..testkit::Options::default() });
            let relay = IdleRelay::to(registry.host(), Duration::from_millis(1000), ending);
            let folder = tempfile::tempdir().unwrap();
            if tls {
                let own = folder.path().join(relay.host());
                std::fs::create_dir(&own).unwrap();
                std::fs::copy(registry.ca(), own.join("ca.crt")).unwrap();
            }
            let config = registry::Config {
                certs_dirs: Some(vec![folder.path().into()]),
                upload_chunk: CHUNK as u64,
                ..Default::default()
            };
            let client =
                registry::Registries::new(config).unwrap().repository(&Repository::new(relay.host(), "a/b").unwrap());
            let waits = vec![0, CHUNK / 2, 5 * CHUNK / 4, 5 * CHUNK / 2, SIZE];
            let slow = Slow { bytes, at: 0, waits, wait: Duration::from_millis(1500) };
            let journal = Journal::default();
            let _ = client
                .push_or_continue(&mut VerifyingReader::new(slow, digest, SIZE as u64), &journal)
                .unwrap_or_else(|e| panic!("{ending:?}, TLS {tls}: {e}"));
            assert!(registry.uploaded_blobs().contains(&digest));
            let log = registry.log();
            let chunks = log.lines().filter(|line| line.contains("\"PATCH /v2/a/b/blobs/uploads/")).count();
            assert_eq!(chunks, 4, "each chunk once, none made smaller: {ending:?}, TLS {tls}");
            assert!(relay.ended() > 0, "connections were ended: {} of {}", relay.ended(), relay.made());
        }
    }
}

#[test]
fn a_token_that_expires_while_the_reader_waits_is_replaced() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let (proxy, tokens, client, _folder) = token_servers(Proxy::before(&registry), "{}");
    for n in 1..=3 {
        let token = format!(r#"{{"token":"t{n}"}}"#);
        tokens.rule(Rule::new(answer(200, &[], token.as_bytes())).nth(n));
    }
    proxy.rule(Rule::new(Fault::status(401)).method("GET").path("uploads").nth(1));
    proxy.rule(Rule::new(Fault::status(401)).method("PATCH").nth(3));
    let (bytes, digest) = blob();
    let slow = Slow { bytes, at: 0, waits: vec![5 * CHUNK / 4], wait: Duration::from_millis(1200) };
    let journal = Journal::default();
    let _ = client.push_or_continue(&mut VerifyingReader::new(slow, digest, SIZE as u64), &journal).unwrap();
    let used: Vec<_> = proxy
        .seen()
        .iter()
        .filter(|s| s.path.contains("uploads"))
        .map(|s| format!("{} {}", s.method, s.header("authorization").unwrap_or_default()))
        .collect();
    let expected =
        ["POST t1", "PATCH t1", "GET t1", "GET t2", "PATCH t2", "PATCH t2", "PATCH t3", "PATCH t3", "PUT t3"];
    assert_eq!(used, expected.map(|line| line.replace(' ', " Bearer ")));
    assert!(registry.uploaded_blobs().contains(&digest));
}

const KILLED: &str = "UPLOAD_TO_BE_KILLED";

/// Keeps its one mark in a file, as whole as a rename leaves it.
struct FileJournal(PathBuf);

impl UploadJournal for FileJournal {
    fn mark(&self, _: &Repository, _: &Digest) -> Option<UploadMark> {
        let text = std::fs::read_to_string(&self.0).ok()?;
        let (offset, location) = text.split_once(' ')?;
        Some(UploadMark { location: location.into(), offset: offset.parse().ok()? })
    }

    fn note(&self, _: &Repository, _: &Digest, mark: Option<&UploadMark>) {
        let Some(mark) = mark else { return std::fs::remove_file(&self.0).unwrap() };
        let new = self.0.with_extension("new");
        std::fs::write(&new, format!("{} {}", mark.offset, mark.location)).unwrap();
        std::fs::rename(&new, &self.0).unwrap();
    }
}

/// Says how much has been read, and then waits for ever.
struct Stuck<'a>(&'a [u8]);

impl Read for Stuck<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            println!("\nwaiting");
            std::thread::sleep(Duration::from_secs(600));
        }
        self.0.read(buf)
    }
}

/// Does nothing by itself. As the child of the other test it uploads until it is killed.
#[test]
fn uploader() {
    let Ok(to) = std::env::var(KILLED) else { return };
    let (host, journal) = to.split_once(' ').unwrap();
    let (bytes, digest) = blob();
    let mut blob = VerifyingReader::new(Stuck(&bytes[..5 * CHUNK / 2]), digest, SIZE as u64);
    let _ = client(host).push_or_continue(&mut blob, &FileJournal(Path::new(journal).into()));
}

#[test]
fn a_program_that_was_killed_goes_on() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let proxy = Proxy::before(&registry);
    let folder = tempfile::tempdir().unwrap();
    let journal = FileJournal(folder.path().join("mark"));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "uploader", "--nocapture"])
        .env(KILLED, format!("{} {}", proxy.host(), journal.0.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "waiting"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(sent(&proxy), [range(0, CHUNK), range(CHUNK, 2 * CHUNK)]);

    proxy.clear();
    let (bytes, digest) = blob();
    let _ = client(proxy.host()).push_or_continue(&mut reader(bytes, digest), &journal).unwrap();
    assert_eq!(sent(&proxy), [range(2 * CHUNK, 3 * CHUNK), range(3 * CHUNK, SIZE)]);
    assert!(registry.uploaded_blobs().contains(&digest));
    assert!(!journal.0.exists());
}

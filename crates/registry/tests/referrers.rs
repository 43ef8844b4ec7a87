//! Referrers and digest tags: against Debian's registry, one that imitates the referrers API, and hostile ones.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use blobs::{VerifiedBytes, sha256};
use manifest_schema::{Digest, DigestTag, LIMITS, MediaType, Repository, Tag, referrers_tag};
use registry::source::{Source, SourceRef};
use registry::{Config, Error, FoundReferrer, RepositoryClient};
use serde_json::{Value, json};
use testkit::proxy::{Handler, Seen};
use testkit::{Fault, Features, Modern, Proxy, Registry, Rule, need};

use self::common::*;

const SBOM: &str = "application/spdx+json";

fn oci() -> MediaType {
    MediaType::OCI_MANIFEST.parse().unwrap()
}

fn artifact(config: &VerifiedBytes, extra: Value) -> VerifiedBytes {
    let mut document = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "layers": [],
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config.digest().to_string(), "size": 2 },
    });
    document.as_object_mut().unwrap().append(extra.clone().as_object_mut().unwrap());
    VerifiedBytes::of(document.to_string().into_bytes())
}

/// Pushes a manifest with these members; whether the registry lists it under its subject.
fn push(client: &RepositoryClient, extra: Value) -> (VerifiedBytes, bool) {
    let config = VerifiedBytes::of(b"{}".to_vec());
    assert_eq!(client.push_small_blob(&config).unwrap().digest(), config.digest());
    let document = artifact(&config, extra);
    let listed = client.push_document(&document, &oci()).unwrap().subject().is_some();
    (document, listed)
}

fn image(client: &RepositoryClient, name: &str) -> VerifiedBytes {
    push(client, json!({ "annotations": { "name": name } })).0
}

fn about(subject: &VerifiedBytes) -> Value {
    let (digest, size) = (subject.digest().to_string(), subject.bytes().len());
    json!({ "mediaType": MediaType::OCI_MANIFEST, "digest": digest, "size": size })
}

fn sbom(client: &RepositoryClient, subject: &VerifiedBytes, name: &str) -> (VerifiedBytes, bool) {
    push(client, json!({ "artifactType": SBOM, "subject": about(subject), "annotations": { "name": name } }))
}

fn digests(found: &[FoundReferrer]) -> Vec<Digest> {
    let mut digests: Vec<_> = found.iter().map(|f| f.descriptor.digest).collect();
    digests.sort();
    digests
}

fn sorted(documents: &[VerifiedBytes]) -> Vec<Digest> {
    let mut digests: Vec<_> = documents.iter().map(|d| *d.digest()).collect();
    digests.sort();
    digests
}

fn source(host: &str, of: &VerifiedBytes) -> Box<dyn Source> {
    let text = format!("{host}/a/b@{}", of.digest());
    text.parse::<SourceRef>().unwrap().open(&registries(Config::default())).unwrap()
}

#[test]
fn the_api_lists_page_by_page() {
    if !need(&["docker-registry"]) {
        return;
    }
    let modern = Modern::start(Features { referrers: true, page: 2, signatures: false });
    let client = client(modern.host());
    let subject = image(&client, "subject");
    let mut all = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        let (document, listed) = sbom(&client, &subject, name);
        assert!(listed, "the registry says OCI-Subject");
        all.push(document);
    }
    let found = client.list_referrers(subject.digest()).unwrap();
    assert_eq!(digests(&found), sorted(&all));
    assert!(found.iter().all(|f| f.artifact_type.as_ref().unwrap().raw() == SBOM));
    assert!(found.iter().all(|f| f.descriptor.media_type == oci()));
    assert_eq!(modern.proxy().count("GET", "/referrers/"), 3, "pages");
    assert_eq!(modern.proxy().count("GET", &format!("/manifests/{}", referrers_tag(subject.digest()))), 0);
    assert_eq!(source(modern.host(), &subject).referrers(subject.digest()).unwrap(), found);

    // Signatures of signatures, and what nothing refers to.
    let (second, _) = sbom(&client, &all[0], "of a");
    assert_eq!(digests(&client.list_referrers(all[0].digest()).unwrap()), [*second.digest()]);
    assert!(client.list_referrers(second.digest()).unwrap().is_empty());
    // An answer of this registry that filters says so; nothing of ours asks for that.
    let path = format!("/v2/a/b/referrers/{}?artifactType=none", subject.digest());
    let filtered =
        testkit::http::Client::new(None, None).send("GET", &format!("{}{path}", modern.proxy().url()), &[], &[]);
    assert_eq!(filtered.headers["oci-filters-applied"], "artifactType");
    assert!(filtered.text().contains(r#""manifests":[]"#));
}

#[test]
fn without_the_api_the_list_is_kept_under_a_tag() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let proxy = Proxy::before(&registry);
    let client = client(proxy.host());
    let subject = image(&client, "subject");
    assert!(client.list_referrers(subject.digest()).unwrap().is_empty(), "no tag is no referrers");
    let (first, listed) = sbom(&client, &subject, "first");
    assert!(!listed);
    let (second, _) = push(&client, json!({ "subject": about(&subject) }));
    for document in [&first, &second, &first] {
        client.add_referrer_to_tag(subject.digest(), document, &oci()).unwrap();
    }
    let tag = referrers_tag(subject.digest());
    assert_eq!(proxy.count("PUT", &format!("/manifests/{tag}")), 2, "what is listed is not listed again");
    let answer = registry.get(&format!("/v2/a/b/manifests/{tag}"));
    assert_eq!(answer.headers["content-type"], MediaType::OCI_INDEX);
    let list: Value = serde_json::from_slice(&answer.body).unwrap();
    let mut entry = about(&first);
    entry["artifactType"] = json!(SBOM);
    entry["annotations"] = json!({ "name": "first" });
    assert_eq!(list["manifests"][0], entry);
    let mut entry = about(&second);
    entry["artifactType"] = json!("application/vnd.oci.empty.v1+json");
    assert_eq!(list["manifests"][1], entry, "without a type of its own, that of the configuration");
    let found = client.list_referrers(subject.digest()).unwrap();
    assert_eq!(digests(&found), sorted(&[first, second]));
    assert_eq!(source(proxy.host(), &subject).referrers(subject.digest()).unwrap(), found);

    // An index can refer to something too.
    let index = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [], "artifactType": SBOM,
        "subject": about(&subject),
    });
    let index = VerifiedBytes::of(index.to_string().into_bytes());
    let media_type = MediaType::OCI_INDEX.parse().unwrap();
    assert!(client.push_document(&index, &media_type).unwrap().subject().is_none());
    client.add_referrer_to_tag(subject.digest(), &index, &media_type).unwrap();
    let found = client.list_referrers(subject.digest()).unwrap();
    assert_eq!(found.last().unwrap().descriptor.media_type, media_type);
}

#[test]
fn what_is_in_a_list_stays_as_it_is() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let client = client(registry.host());
    let subject = image(&client, "subject");
    let (old, _) = sbom(&client, &subject, "old");
    let mut entry = about(&old);
    entry["artifactType"] = json!("x/wrong");
    entry["data"] = json!("AA==");
    let before = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [entry],
        "annotations": { "by": "another client" }, "x-unknown": [1.5, null],
    });
    let tag = referrers_tag(subject.digest());
    registry.put_manifest("a/b", tag.as_str(), MediaType::OCI_INDEX, before.to_string().as_bytes());
    let (new, _) = sbom(&client, &subject, "new");
    client.add_referrer_to_tag(subject.digest(), &new, &oci()).unwrap();
    let mut after: Value = serde_json::from_slice(&registry.get(&format!("/v2/a/b/manifests/{tag}")).body).unwrap();
    let added = after["manifests"].as_array_mut().unwrap().pop().unwrap();
    assert_eq!(added["digest"], new.digest().to_string());
    assert_eq!(after, before);
}

#[test]
fn writers_of_one_process_lose_nothing() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let client = client(registry.host());
    let subject = image(&client, "subject");
    let all: Vec<_> = (0..8).map(|n| sbom(&client, &subject, &n.to_string()).0).collect();
    std::thread::scope(|scope| {
        for document in &all {
            let host = registry.host();
            let subject = subject.digest();
            // Each with connections of its own, as two parts of a program may have.
            scope.spawn(move || common::client(host).add_referrer_to_tag(subject, document, &oci()).unwrap());
        }
    });
    assert_eq!(digests(&client.list_referrers(subject.digest()).unwrap()), sorted(&all));
}

/// Another program that puts its own list over the one just pushed, so many times.
struct Racing {
    registry: Arc<Registry>,
    list: Vec<u8>,
    times: AtomicUsize,
}

impl Handler for Racing {
    fn wants(&self, seen: &Seen) -> bool {
        seen.method == "PUT" && seen.path.contains("/manifests/sha256-")
    }

    fn answer(&self, seen: &Seen, body: &[u8]) -> (u16, Vec<(String, String)>, Vec<u8>) {
        let answer = self.registry.put(&seen.path, MediaType::OCI_INDEX, body);
        let left = self.times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() {
            self.registry.put(&seen.path, MediaType::OCI_INDEX, &self.list);
        }
        (answer.status, answer.headers.into_iter().collect(), answer.body)
    }
}

#[test]
fn a_faster_writer_is_noticed() {
    if !need(&["docker-registry"]) {
        return;
    }
    for (times, wins) in [(2, true), (100, false)] {
        let registry = Arc::new(Registry::start());
        let plain = client(registry.host());
        let subject = image(&plain, "subject");
        let (other, _) = sbom(&plain, &subject, "other");
        let list = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [about(&other)] });
        let list = list.to_string().into_bytes();
        let racing = Racing { registry: registry.clone(), list, times: AtomicUsize::new(times) };
        let proxy = Proxy::with_handler(registry.host(), Arc::new(racing));
        let client = client(proxy.host());
        let (own, _) = sbom(&client, &subject, "own");
        let outcome = client.add_referrer_to_tag(subject.digest(), &own, &oci());
        let found = digests(&plain.list_referrers(subject.digest()).unwrap());
        if wins {
            outcome.unwrap();
            assert_eq!(found, sorted(&[other, own]));
        } else {
            let error = outcome.unwrap_err();
            assert!(matches!(error, Error::Contended { .. }) && error.is_transient(), "{error}");
            assert_eq!(found, [*other.digest()]);
        }
    }
}

#[test]
fn a_tag_that_is_no_list_is_named_and_left_alone() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let client = client(registry.host());
    let subject = image(&client, "subject");
    let (document, _) = sbom(&client, &subject, "x");
    let tag = referrers_tag(subject.digest());
    let other = image(&client, "other");
    client.push_tag(&tag, &other, &oci()).unwrap();
    for outcome in [
        client.list_referrers(subject.digest()).map(|_| ()),
        client.add_referrer_to_tag(subject.digest(), &document, &oci()),
    ] {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(tag.as_str()) && error.contains("list of referrers"), "{error}");
        assert!(error.contains(MediaType::OCI_MANIFEST), "{error}");
    }
    assert_eq!(client.head_tag(&tag).unwrap().as_ref(), Some(other.digest()));
    // What does not name the subject is not listed under it.
    for (document, of) in [(&document, document.digest()), (&document, &sha256(b"")), (&subject, subject.digest())] {
        let error = client.add_referrer_to_tag(of, document, &oci()).unwrap_err();
        assert!(matches!(error, Error::Subject { .. }), "{error}");
    }
    assert_eq!(client.head_tag(&referrers_tag(document.digest())).unwrap(), None);
    assert_eq!(client.head_tag(&referrers_tag(&sha256(b""))).unwrap(), None);
}

#[test]
fn an_image_under_its_own_digest_is_no_list() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let client = client(registry.host());
    let image = image(&client, "image");
    let index = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [about(&image)] });
    let index = VerifiedBytes::of(index.to_string().into_bytes());
    for (document, media_type) in [(&image, MediaType::OCI_MANIFEST), (&index, MediaType::OCI_INDEX)] {
        let (tag, media_type) = (referrers_tag(document.digest()), media_type.parse().unwrap());
        client.push_tag(&tag, document, &media_type).unwrap();
        assert!(client.list_referrers(document.digest()).unwrap().is_empty());
        let mut subject = about(document);
        subject["mediaType"] = json!(media_type.as_str());
        let (sbom, _) = push(&client, json!({ "artifactType": SBOM, "subject": subject }));
        let error = client.add_referrer_to_tag(document.digest(), &sbom, &oci()).unwrap_err().to_string();
        assert!(error.contains("names the image itself"), "{error}");
        assert_eq!(client.head_tag(&tag).unwrap().as_ref(), Some(document.digest()), "the tag is left alone");
    }
}

fn entry(n: usize, extra: &str) -> String {
    let digest = sha256(&n.to_le_bytes());
    format!(r#"{{"mediaType":"{}","digest":"{digest}","size":{n}{extra}}}"#, MediaType::OCI_MANIFEST)
}

fn list(entries: &[String]) -> String {
    format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#, MediaType::OCI_INDEX, entries.join(","))
}

#[test]
fn lists_that_are_none_are_refused() {
    let subject = sha256(b"subject");
    let many = |count: usize| list(&(0..count).map(|n| entry(n, "")).collect::<Vec<_>>());
    let padded = format!("{}{}", list(&[]), " ".repeat(LIMITS.document as usize));
    let cases: Vec<(String, &str)> = vec![
        ("".into(), "EOF"),
        ("<html>".into(), "expected value"),
        ("[]".into(), "invalid type"),
        ("{}".into(), "missing field"),
        (list(&[]).replace(":2,", ":1,"), "schemaVersion"),
        (list(&[]).replace("manifests", "layers"), "must not have"),
        (list(&[]).replace(MediaType::OCI_INDEX, MediaType::DOCKER_LIST), "the document says"),
        (list(&[entry(1, "").replace("sha256:", "md5:")]), "md5"),
        (list(&[entry(1, "").replace(":1}", ":-1}")]), "invalid value"),
        (list(&[entry(1, ""), entry(1, "").replace(":1}", ":2}")]), "twice, with another size"),
        (many(LIMITS.referrers + 1), "more than 1000 are listed"),
        (padded, "more than 4194304 bytes"),
    ];
    for (body, why) in &cases {
        // By the API, and under the tag.
        for api in [true, false] {
            let server = open_server();
            let fault = answer(200, &[("content-type", MediaType::OCI_INDEX)], body.as_bytes());
            server.rule(Rule::new(fault).path(if api { "/referrers/" } else { "/manifests/sha256-" }));
            let error = client(server.host()).list_referrers(&subject).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
            assert!(error.contains(if api { ": referrers" } else { ":sha256-" }), "{error}");
        }
    }
    let server = open_server();
    let body = list(&[entry(1, r#","artifactType":"a/b""#), entry(2, ""), entry(1, r#","artifactType":"c/d""#)]);
    server.rule(Rule::new(answer(200, &[("content-type", MediaType::OCI_INDEX)], body.as_bytes())).path("/referrers/"));
    let found = client(server.host()).list_referrers(&subject).unwrap();
    assert_eq!(digests(&found).len(), 2, "each once");
    assert_eq!(found[0].artifact_type.as_ref().unwrap().raw(), "a/b");
    let server = open_server();
    let body = many(LIMITS.referrers);
    server.rule(Rule::new(answer(200, &[("content-type", MediaType::OCI_INDEX)], body.as_bytes())).path("/referrers/"));
    assert_eq!(client(server.host()).list_referrers(&subject).unwrap().len(), LIMITS.referrers);
}

#[test]
fn pages_end() {
    let subject = sha256(b"subject");
    let page = |link: Option<&str>, body: &str| {
        let mut list = headers(&[("content-type", MediaType::OCI_INDEX)]);
        list.extend(link.map(|link| ("link".to_string(), format!("<{link}>; rel=\"next\""))));
        Fault::Answer(200, list, body.as_bytes().to_vec())
    };
    let refused = |second: Fault, link: &str| {
        let server = open_server();
        server.rule(Rule::new(page(Some(link), &list(&[entry(1, "")]))).path("/referrers/sha256"));
        server.rule(Rule::new(second).path("/referrers/more"));
        (client(server.host()).list_referrers(&subject).unwrap_err(), server.seen().len())
    };
    let own = format!("/v2/a/b/referrers/{subject}");
    let (error, requests) = refused(Fault::status(404), &own);
    assert!(error.to_string().contains("in a circle"), "{error}");
    assert_eq!(requests, 2, "/v2/ and one page");
    let (error, _) = refused(page(Some(&own), &list(&[])), "/v2/a/b/referrers/more");
    assert!(error.to_string().contains("in a circle"), "{error}");
    // What follows a page is a page: it cannot turn out that there is no API.
    let (error, _) = refused(Fault::status(404), "/v2/a/b/referrers/more");
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    let (error, _) = refused(answer(200, &[("content-type", "text/html")], b"<html>"), "/v2/a/b/referrers/more");
    assert!(error.to_string().contains("a page is of type `text/html`"), "{error}");
    let (error, _) = refused(page(None, "[]"), "/v2/a/b/referrers/more");
    assert!(matches!(error, Error::Malformed { .. }), "{error}");

    // The next page, however it is told; a list whose next page cannot be told has not ended.
    let following = |links: &[&str]| {
        let server = open_server();
        let mut first = headers(&[("content-type", MediaType::OCI_INDEX)]);
        first.extend(links.iter().map(|link| ("link".to_string(), link.to_string())));
        let first = Fault::Answer(200, first, list(&[entry(1, "")]).into_bytes());
        server.rule(Rule::new(first).path("/referrers/sha256"));
        server.rule(Rule::new(page(None, &list(&[entry(2, "")]))).path("/referrers/more"));
        client(server.host()).list_referrers(&subject)
    };
    let (previous, next) = (r#"</v2/>; rel="prev""#, "</v2/a/b/referrers/more>; Rel=\"last next\"");
    for links in [&[previous, next][..], &[&format!("{previous}, {next}")], &[next]] {
        assert_eq!(following(links).unwrap().len(), 2, "{links:?}");
    }
    assert_eq!(following(&[previous]).unwrap().len(), 1);
    let garbled = next.replace("last", "l\u{e4}st");
    assert_eq!(following(&[&garbled]).unwrap().len(), 2);
    for links in [&["/v2/a/b/referrers/more; rel=next"][..], &[previous, "</v2/a/b/referrers/more; rel=next"]] {
        let error = following(links).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }) && error.to_string().contains("Link: "), "{error}");
    }

    // Ever new pages.
    struct Endless(AtomicUsize);
    impl Handler for Endless {
        fn wants(&self, seen: &Seen) -> bool {
            seen.path.contains("/referrers/")
        }
        fn answer(&self, _: &Seen, _: &[u8]) -> (u16, Vec<(String, String)>, Vec<u8>) {
            let n = self.0.fetch_add(1, Ordering::SeqCst);
            let link = format!("</v2/a/b/referrers/more?n={n}>; rel=\"next\"");
            let body = format!("{}{}", list(&[entry(n, "")]), " ".repeat(1 << 19));
            (200, headers(&[("content-type", MediaType::OCI_INDEX), ("link", &link)]), body.into_bytes())
        }
    }
    let upstream = open_server();
    let endless = Proxy::with_handler(upstream.host(), Arc::new(Endless(AtomicUsize::new(1))));
    let error = client(endless.host()).list_referrers(&subject).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert!(endless.count("GET", "/referrers/") < 10);
}

#[test]
fn digest_tags_are_found() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let client = client(registry.host());
    let subject = image(&client, "subject");
    let signature = image(&client, "signature");
    let tag: Tag = format!("sha256-{}.sig", subject.digest().hex()).parse().unwrap();
    client.push_tag(&tag, &signature, &oci()).unwrap();
    let source = source(registry.host(), &subject);
    let (media_type, document) = source.digest_tag(subject.digest(), DigestTag::Sig).unwrap().unwrap();
    assert_eq!((media_type, document.digest()), (oci(), signature.digest()));
    assert!(source.digest_tag(subject.digest(), DigestTag::Att).unwrap().is_none());
    assert!(source.digest_tag(subject.digest(), DigestTag::Sbom).unwrap().is_none());
    let long = Digest::Sha512([7; 64]);
    assert!(source.digest_tag(&long, DigestTag::Sig).unwrap().is_none(), "no tag is that long");
    assert!(source.simple_signatures(subject.digest()).unwrap().is_empty(), "no such extension");

    let server = open_server();
    server.rule(Rule::new(answer(200, &[("content-type", MediaType::OCI_MANIFEST)], b"{}")).path(".sig"));
    server.rule(Rule::new(Fault::status(403)).path(".att"));
    let source = self::source(server.host(), &subject);
    assert!(source.digest_tag(subject.digest(), DigestTag::Sig).is_err(), "no image manifest");
    assert!(source.digest_tag(subject.digest(), DigestTag::Att).is_err(), "not an answer");
}

#[test]
fn an_api_that_is_not_there_is_asked_for_once() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let proxy = Proxy::before(&registry);
    let registries = registries(Config::default());
    let asked = |repository: &str| {
        let client = registries.repository(&Repository::new(proxy.host(), repository).unwrap());
        for name in ["first", "second"] {
            assert!(client.list_referrers(image(&client, name).digest()).unwrap().is_empty());
        }
        let tags = proxy.count("GET", &format!("/v2/{repository}/manifests/sha256-"));
        assert_eq!(tags, 2, "the tag schema is asked nevertheless");
        proxy.count("GET", &format!("/v2/{repository}/referrers/"))
    };
    assert_eq!([asked("team/a"), asked("team/b")], [1, 0]);
    // Another registry may answer for other paths.
    assert_eq!([asked("team/deep/a"), asked("other/a"), asked("a"), asked("b")], [1; 4]);
}

#[test]
fn an_api_that_knows_nothing_of_a_document_is_asked_for_the_next() {
    let unknown = br#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#;
    for fault in [answer(404, &[], unknown), answer(404, &[], b""), answer(404, &[], b"{}"), answer(405, &[], b"no")] {
        let server = open_server();
        server.rule(Rule::new(fault.clone()).path("/referrers/"));
        let client = client(server.host());
        for subject in [sha256(b"one"), sha256(b"other")] {
            assert!(client.list_referrers(&subject).unwrap().is_empty());
        }
        assert_eq!(server.count("GET", "/referrers/"), 2, "{fault:?}");
    }
}

#[test]
fn a_pinned_tag_takes_one_request_unless_it_has_moved() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let proxy = Proxy::before(&registry);
    let client = client(proxy.host());
    let (pinned, other) = (image(&client, "pinned"), image(&client, "other"));
    let text = format!("{}/a/b:1@{}", proxy.host(), pinned.digest());
    let resolve =
        || text.parse::<SourceRef>().unwrap().open(&registries(Config::default())).unwrap().resolve().unwrap();
    let asked = |part: &str| (proxy.count("GET", part), proxy.count("HEAD", part));
    for (names, moved) in [(None, None), (Some(&pinned), None), (Some(&other), Some(&other))] {
        if let Some(document) = names {
            client.push_tag(&"1".parse().unwrap(), document, &oci()).unwrap();
        }
        proxy.clear();
        let resolved = resolve();
        assert_eq!((&resolved.document, resolved.moved.as_ref()), (&pinned, moved.map(VerifiedBytes::digest)));
        assert_eq!(asked("/manifests/1"), (1, 0));
        let by_digest = usize::from(names != Some(&pinned));
        assert_eq!(asked(&format!("/manifests/{}", pinned.digest())), (by_digest, 0));
    }
    // What the tag names now cannot be read: it has moved all the same.
    proxy.clear();
    proxy.rule(Rule::new(Fault::FlipAnswer(0)).method("GET").path("/manifests/1"));
    let resolved = resolve();
    assert_eq!((resolved.document, resolved.moved.as_ref()), (pinned, Some(other.digest())));
}

/// A server that keeps connections open and has nothing, which it says to so many at once; how many connections were made
/// to it.
fn keeping_server(at_once: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let made = Arc::new(AtomicUsize::new(0));
    let (counted, all_ask) = (made.clone(), Arc::new(Barrier::new(at_once)));
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let all_ask = all_ask.clone();
            std::thread::spawn(move || {
                let mut answers = client.try_clone().unwrap();
                let mut path = String::new();
                for line in BufReader::new(client).lines() {
                    let Ok(line) = line else { return };
                    if let Some(rest) = line.strip_prefix("GET ") {
                        path = rest.into();
                    } else if line.is_empty() {
                        let answer = if path.starts_with("/v2/ ") {
                            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
                        } else {
                            all_ask.wait();
                            "HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nabsent"
                        };
                        answers.write_all(answer.as_bytes()).unwrap();
                    }
                }
            });
        }
    });
    (host, made)
}

#[test]
fn connections_serve_again_however_many_there_are() {
    const THREADS: usize = 20;
    let (host, made) = keeping_server(THREADS);
    let client = client(&host);
    let all_wait = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..3 {
                    // Each has its answer, and its connection is idle, before any asks again.
                    all_wait.wait();
                    assert!(matches!(client.fetch_tag(&"1".parse().unwrap()), Err(Error::NotFound { .. })));
                }
            });
        }
    });
    assert_eq!(made.load(Ordering::SeqCst), THREADS);
}

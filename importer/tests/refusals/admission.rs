//! What a stream may claim, where it may write, until when, and what becomes of tags that exist.

use serde_json::json;
use testkit::layout::{API, BUSYBOX, digest, fixtures};
use testkit::{Layout, Proxy, Registry, Site, need};

use crate::common::{Leaves, Leaves::Nothing, Leaves::Refusal, World, case, refused, release_again};

#[test]
fn streams_origins_and_destinations_exist_only_by_configuration() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_fixtures(&[API, BUSYBOX]);
    let bundle = site.packed(42);
    let (origin, production) = (site.origin.host().to_string(), site.production.host().to_string());
    let api = format!("{origin}/payments/api");
    let (from, to) = (format!("{origin}/payments/api"), format!("{production}/one/repository"));
    let (other_from, other_to) = (format!("{origin}/payments/busybox"), to.clone());
    let taken = format!("{to}:2.3.1");
    let elsewhere = format!("{origin}/payments/busybox");
    let host_only = production.clone();
    refused(
        &mut site,
        &bundle,
        &[
            case("a stream that is not configured", 3, &["stream payments is not configured"], Nothing, |site, _| {
                let rules = site.import["streams"]["payments"].take();
                site.import["streams"] = json!({ "web": rules });
            }),
            case("an origin that is not configured", 3, &[&api, "stream payments"], Refusal, |site, _| {
                site.import["streams"]["payments"]["origins"] = json!(["registry.dev.example/payments"]);
            }),
            case("an origin whose name only begins alike", 3, &[&api, "stream payments"], Refusal, move |site, _| {
                site.import["streams"]["payments"]["origins"] = json!([format!("{origin}/pay")]);
            }),
            case("a destination that is not configured", 3, &[&api, "no destination"], Refusal, move |site, _| {
                site.import["streams"]["payments"]["to"][0]["from"] = elsewhere.clone().into();
            }),
            case("a destination that is no repository", 3, &["its destination is not a repository"], Refusal, {
                let api = api.clone();
                move |site, _| {
                    site.import["streams"]["payments"]["to"] = json!([{ "from": api, "to": host_only }]);
                }
            }),
            case("two origins on one tag", 3, &[&api, "payments/busybox:2.3.1", &taken], Refusal, move |site, f| {
                release_again(site, f, |m| {
                    for text in m["images"].as_array_mut().unwrap() {
                        let same = text["origin"].as_str().unwrap().replace(":1.36", ":2.3.1");
                        text["origin"] = same.into();
                    }
                });
                site.import["streams"]["payments"]["to"] =
                    json!([{ "from": from, "to": to }, { "from": other_from, "to": other_to }]);
            }),
            case("after its end", 3, &["expired at 2024-02-02T00:00:00Z"], Refusal, |site, f| {
                release_again(site, f, |m| {
                    m["created"] = "2024-02-01T00:00:00Z".into();
                    m["expires"] = "2024-02-02T00:00:00Z".into();
                });
            }),
            case("two streams for one destination", 2, &["streams payments and web both write"], Nothing, |site, _| {
                let mut web = site.import["streams"]["payments"].clone();
                web["to"][0]["to"] = format!("{}/payments/web", site.production.host()).into();
                site.import["streams"]["web"] = web;
            }),
            case("one signature tree for two registries", 2, &["one signature folder"], Nothing, |site, _| {
                let more = json!({ "from": "registry.dev.example", "to": "registry.prod.example" });
                site.import["streams"]["payments"]["to"].as_array_mut().unwrap().push(more);
            }),
            case("one key in two roles", 2, &["production", "release (payments)"], Nothing, |site, _| {
                let both = json!(["trust/release.asc", site.production_key.certificate_file]);
                site.import["streams"]["payments"]["release"]["certificates"] = both;
            })
            // The production key is not asked for by `verify`.
            .verify(None),
            case("an expired production key", 2, &["cannot sign", "expired on 2025-01-01"], Nothing, |site, _| {
                let (created, expires) = ("2024-01-01T00:00:00Z", Some("2025-01-01T00:00:00Z"));
                let old = testkit::Key::with(&site.scratch("keys"), "old", created, expires);
                site.import["production"]["sign"]["key"] = old.secret_file.display().to_string().into();
            })
            .verify(None),
        ],
    );
}

#[test]
fn a_tag_that_names_another_image_is_not_moved_unless_it_is_meant_to() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(42);
    let there = site.production.load_layout(&fixtures(), BUSYBOX, "payments/api", "2.3.1");
    let image = digest(&fixtures(), API);
    let tag = format!("{}/payments/api:2.3.1", site.production.host());
    let words = ["names", &there.to_string(), &image.to_string(), &tag].map(String::from);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    refused(
        &mut site,
        &bundle,
        &[
            case("fail is the default", 3, &words, Refusal, |_, _| ()).verify(None),
            case("fail, in words", 3, &words, Refusal, |site, _| site.import["on_existing_tag"] = "fail".into())
                .verify(None),
            case("another tag is meant to move", 3, &words, Refusal, |site, _| {
                site.import["streams"]["payments"]["replace_tags"] = json!(["latest", "3.*"]);
            })
            .verify(None),
        ],
    );
    let tagged = |site: &Site| site.production.tags()["payments/api:2.3.1"];

    let before = World::of(&site);
    let dry = site.receive(&bundle, &["--dry-run", "--json", "--on-existing-tag", "replace"]).expect_code(0).json();
    assert_eq!(
        (&dry["images"][0]["tag"], &dry["images"][0]["names_now"]),
        (&json!("moves"), &json!(there.to_string()))
    );
    assert_eq!(World::of(&site), before, "a dry run writes nothing");

    let ran = site.receive(&bundle, &["--on-existing-tag", "skip"]).expect_code(0);
    assert!(ran.stdout.contains("left out") && ran.stderr.contains("left as it is"), "{ran}");
    assert_eq!(tagged(&site), there);
    assert!(crate::common::signatures(&site).is_empty(), "what is left out is not signed");

    for (sequence, how) in [(43, &["--on-existing-tag", "replace"][..]), (44, &["--replace-tag", "2.*"])] {
        site.production.load_layout(&fixtures(), BUSYBOX, "payments/api", "2.3.1");
        let bundle = site.packed(sequence);
        let ran = site.receive(&bundle, &[how, &["--json"]].concat()).expect_code(0).json();
        assert_eq!(tagged(&site), image);
        let moved = &ran["bundle"]["record"]["tags"][0];
        assert_eq!((&moved["tag"], &moved["previous"]), (&json!(tag), &json!(there.to_string())));
    }
}

#[test]
fn a_tag_that_somebody_else_moves_meanwhile_is_not_overwritten() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(42);
    // The tag is asked for twice: at admission it is not there, before it is moved it is.
    let proxy = Proxy::before(&site.production);
    let to = format!("{}/payments", proxy.host());
    site.import["streams"]["payments"]["to"][0]["to"] = to.into();
    let other = digest(&fixtures(), BUSYBOX);
    let there = vec![("docker-content-digest".to_string(), other.to_string())];
    proxy.rule(
        testkit::Rule::new(testkit::Fault::Answer(200, there, Vec::new()))
            .path("/manifests/2.3.1")
            .method("HEAD")
            .nth(2),
    );
    let ran = site.receive(&bundle, &[]).expect_code(1);
    assert!(ran.stderr.contains("meanwhile") && ran.stderr.contains(&other.to_string()), "{ran}");
    assert!(site.production.tags().is_empty());
    proxy.clear();
    site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(site.production.tags().len(), 1);
}

/// An index for three processors, of which two are packed.
#[test]
fn a_sparse_index_is_refused_before_any_layer_by_a_registry_that_does_not_take_it() {
    if !need(Site::NEEDS) {
        return;
    }
    let origin = Registry::start();
    let mut layout = Layout::new();
    let entries: Vec<_> = ["amd64", "arm64", "s390x"]
        .iter()
        .map(|a| testkit::layout::with_platform(layout.image_for(a, &[b"base", a.as_bytes()]), a, None))
        .collect();
    let index = layout.index(&entries);
    layout.name("x", &index);
    origin.load_layout(layout.path(), "x", "payments/multi", "1");
    let mut site = Site::between(origin, Registry::start());
    site.release["images"] = json!([format!("{}/payments/multi:1", site.origin.host())]);
    site.release["platforms"] = json!(["linux/amd64", "linux/arm64"]);
    site.pack(42, &[]).expect_code(2).expect_stderr("missing entries");
    site.release["sparse_index"] = true.into();
    let bundle = site.packed(42);
    let tag = format!("{}/payments/multi:1", site.production.host());
    // A dry run asks nothing by writing, and says so. The sequence stays free.
    let proxy = Proxy::before(&site.production);
    let import = site.import.clone();
    site.import["streams"]["payments"]["to"][0]["to"] = format!("{}/payments", proxy.host()).into();
    site.receive(&bundle, &["--dry-run"]).expect_code(0).expect_stderr("shows only on receiving");
    assert_eq!(proxy.count("PUT", "") + proxy.count("POST", ""), 0);
    site.import = import;
    let leaves = if site.production.snapshot().is_empty() { Leaves::Refusal } else { unreachable!("a new registry") };
    refused(
        &mut site,
        &bundle,
        &[case("a sparse index", 3, &[&tag, "entries are missing"], leaves, |_, _| ()).verify(Some(0))],
    );
    assert!(site.production.uploaded_blobs().is_empty());
}

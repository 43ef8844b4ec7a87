//! Packing: once, again, interrupted, damaged on the way; and what is refused before anything is made.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use manifest_schema::Digest;
use manifest_schema::text::is_unprintable;
use serde_json::json;
use testkit::hostile::{MANIFEST, MANIFEST_SIGNATURE, volume_file};
use testkit::layout::{API, BUSYBOX, closure, fixtures};
use testkit::{Fault, Opened, Proxy, Ran, Rule, Site, need, run};

/// `pack` with an output folder and a record of its own.
fn pack_elsewhere(site: &Site, name: &str, args: &[&str], environment: &[(&str, &str)]) -> Ran {
    let mut pack = site.export(&["pack"]);
    pack.args(args).envs(environment.iter().copied());
    pack.arg("--output").arg(site.scratch(name)).arg("--state").arg(site.scratch(&format!("{name}-state")));
    run(&mut pack)
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_same_command_again_finds_its_bundle_and_another_is_refused() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let first = site.pack(42, &["--json"]).expect_code(0).json();
    assert_eq!(first["result"], "packed");
    let bundle = site.media().join("payments-42");
    assert_eq!(files(&site.media()), ["payments-42"]);
    assert_eq!(files(&bundle), ["LABEL.txt", "SHA256SUMS", "SHA256SUMS.asc", "payments-42.0001.tar.zst.age"]);
    let volume = fs::read(volume_file(&bundle, 1)).unwrap();

    let again = site.pack(42, &[]).expect_code(0);
    assert!(again.stdout.starts_with("already packed: "), "{again}");
    let again = site.pack(42, &["--json"]).expect_code(0).json();
    assert_eq!((&again["result"], &again["bundle"]), (&json!("already packed"), &first["bundle"]));
    assert_eq!(fs::read(volume_file(&bundle, 1)).unwrap(), volume);

    let other = site.pack(42, &["--label", "ticket=CHG-1"]).expect_code(2);
    assert!(other.stderr.contains("payments-42 has been begun or packed from another request"), "{other}");
    site.list_fixtures(&[BUSYBOX]);
    site.pack(42, &[]).expect_code(2).expect_stderr("another request");
    assert_eq!(fs::read(volume_file(&bundle, 1)).unwrap(), volume);
    // Without the record the folder is somebody else's.
    pack_elsewhere_into(&site, &site.media(), "42").expect_code(2).expect_stderr("is already there");
    site.pack(43, &[]).expect_code(0);
}

fn pack_elsewhere_into(site: &Site, output: &Path, sequence: &str) -> Ran {
    let mut pack = site.export(&["pack", "--sequence", sequence]);
    run(pack.arg("--output").arg(output).arg("--state").arg(site.scratch("other-state")))
}

#[test]
fn a_bundle_made_again_has_the_same_manifest_and_a_later_seal() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let bundle = site.packed(42);
    let head =
        |bundle: &Path| fs::read_to_string(bundle.join("SHA256SUMS")).unwrap().lines().next().unwrap().to_string();
    let (first, volume) = (head(&bundle), fs::read(volume_file(&bundle, 1)).unwrap());
    fs::remove_dir_all(&bundle).unwrap();
    let second = head(&site.packed(42));
    assert_ne!(fs::read(volume_file(&bundle, 1)).unwrap(), volume, "age encrypts anew");
    assert_eq!(second, first.replacen(" 1 sha256:", " 2 sha256:", 1));

    // A number stands for one content.
    fs::remove_dir_all(&bundle).unwrap();
    site.origin.load_layout(&fixtures(), BUSYBOX, "payments/api", "2.3.1");
    site.pack(42, &[])
        .expect_code(2)
        .expect_stderr("has been released before, and its images or volumes have changed since");
    assert!(!bundle.exists());
}

#[test]
fn a_request_that_fails_before_it_signs_uses_nothing_up() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let good = site.release["images"].take();
    site.release["images"] = json!([format!("{}/payments/nothing:1", site.origin.host())]);
    site.pack(42, &[]).expect_code(1).expect_stderr("payments/nothing:1");
    assert!(files(&site.media()).is_empty());
    site.release["images"] = good;
    site.packed(42);
}

#[test]
fn the_same_input_gives_the_same_entries() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_fixtures(&[API, BUSYBOX]);
    site.release["labels"] = json!({ "ticket": "CHG-1234" });
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let entries = |name: &str| {
        let environment = [("SOURCE_DATE_EPOCH", "1767225600")];
        pack_elsewhere(&site, name, &["--sequence", "42", "--bundle-id", id], &environment).expect_code(0);
        let opened = Opened::open(&site.scratch(name).join("payments-42"), 1, &site.identity);
        assert_eq!(opened.manifest()["created"], "2026-01-01T00:00:00Z");
        assert_eq!(opened.manifest()["bundle"], id);
        opened
    };
    let (a, b) = (entries("a"), entries("b"));
    assert_eq!(a.names(), b.names());
    assert_eq!(a.content(MANIFEST), b.content(MANIFEST));
    for (one, other) in a.entries.iter().zip(&b.entries) {
        assert!(one == other || one.header_name() == MANIFEST_SIGNATURE, "{one:?} {other:?}");
    }
    pack_elsewhere(&site, "c", &["--sequence", "42"], &[("SOURCE_DATE_EPOCH", "yesterday")]).expect_code(2);
}

#[test]
fn an_interrupted_bundle_has_no_seal_and_is_taken_over() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let proxy = Proxy::before(&site.origin);
    let from = format!("{}/payments", proxy.host());
    site.release["images"] = json!([format!("{from}/api:2.3.1")]);
    site.import["streams"]["payments"]["origins"] = json!([from]);
    site.import["streams"]["payments"]["to"][0]["from"] = from.clone().into();
    let last = closure(&fixtures(), API).into_iter().map(|d| d.to_string());
    let layer = last.max_by_key(|d| fs::metadata(fixtures().join("blobs").join(d.replace(':', "/"))).unwrap().len());
    proxy.rule(Rule::new(Fault::status(503)).path(&layer.unwrap()));

    let failed = site.pack(42, &["--retries", "0"]).expect_code(1);
    assert!(failed.stderr.contains("state: no bundle was finished"), "{failed}");
    assert_eq!(files(&site.media()), ["payments-42.partial"]);
    let partial = site.media().join("payments-42.partial");
    assert!(!partial.join("SHA256SUMS").exists() && !partial.join("LABEL.txt").exists());
    site.receive(&partial, &[]).expect_code(3).expect_stderr("there is no seal");

    // Another request does not take it over, nor does one that has no record of it.
    site.pack(42, &["--label", "a=b"]).expect_code(2).expect_stderr("another request");
    pack_elsewhere_into(&site, &site.media(), "42").expect_code(2).expect_stderr("no record here knows");
    proxy.clear();
    site.pack(42, &[]).expect_code(0).expect_stderr("taking over");
    assert_eq!(files(&site.media()), ["payments-42"]);
    site.receive(&site.media().join("payments-42"), &[]).expect_code(0);
}

#[test]
fn content_that_is_damaged_on_the_way_is_never_packed() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let proxy = Proxy::before(&site.origin);
    site.release["images"] = json!([format!("{}/payments/api:2.3.1", proxy.host())]);
    let index = testkit::layout::digest(&fixtures(), API);
    for digest in closure(&fixtures(), API) {
        // The index is asked for by its tag.
        let path = if digest == index { "manifests/2.3.1".into() } else { digest.to_string() };
        let digest = digest.to_string();
        proxy.clear();
        proxy.rule(Rule::new(Fault::FlipAnswer(20)).method("GET").path(&path));
        let failed = site.pack(42, &["--retries", "0"]).expect_code(1);
        assert!(failed.stderr.contains(&digest), "{failed}");
        assert!(!site.media().join("payments-42").exists());
    }
    // A connection that breaks once is no reason to fail.
    proxy.clear();
    let size = |d: &Digest| fs::metadata(fixtures().join(d.layout_path())).unwrap().len();
    let layer = closure(&fixtures(), API).into_iter().max_by_key(size).unwrap().to_string();
    proxy.rule(Rule::new(Fault::CutAnswer(1000)).path(&layer).first(3));
    site.packed(42);
    let continued = proxy.seen().iter().filter(|seen| seen.header("range") == Some("bytes=1000-")).count();
    assert!(continued > 0, "what has come is not fetched again");
}

#[test]
fn one_number_is_packed_by_one_process() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let proxy = Proxy::before(&site.origin);
    site.release["images"] = json!([format!("{}/payments/api:2.3.1", proxy.host())]);
    proxy.rule(Rule::new(Fault::Delay(Duration::from_secs(2))).first(1));
    let mut pack = site.export(&["pack", "--sequence", "42", "--output"]);
    let mut first = pack.arg(site.media()).spawn().unwrap();
    while proxy.seen().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    site.pack(42, &[]).expect_code(1).expect_stderr("payments-42 is being packed by another process");
    assert!(first.wait().unwrap().success());
    assert!(site.pack(42, &[]).expect_code(0).stdout.starts_with("already packed"));
}

#[test]
fn what_is_missing_or_wrong_is_said_before_anything_is_made() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let whole = site.release.clone();
    let without = |site: &mut Site, key: &str| {
        site.release = whole.clone();
        site.release.as_object_mut().unwrap().remove(key);
    };
    for (key, words) in [
        ("stream", "a stream is missing"),
        ("recipients", "no recipient is named"),
        ("images", "an image is missing"),
        ("sign", "a release key is missing"),
    ] {
        without(&mut site, key);
        let ran = site.pack(42, &[]).expect_code(2).expect_stderr(words);
        assert!(ran.stderr.contains("hint: "), "{ran}");
    }
    site.release = whole.clone();
    run(site.export(&["pack", "--output"]).arg(site.media())).expect_code(2).expect_stderr("a sequence is missing");

    let long = format!("note={}", "x".repeat(257));
    let origin = site.origin.host().to_string();
    let tags = ["\u{1b}[2J", "\u{202e}x", "a\nb", "\u{9b}2J"].map(|tag| format!("{origin}/payments/api:{tag}"));
    let mut hostile: Vec<Vec<&str>> =
        ["note=\u{1b}[2J", "note=\u{202e}txt", "note=a\nb", "note=\u{9b}2J", "\u{1b}=x", "Note=x", &long]
            .into_iter()
            .map(|label| vec!["--label", label])
            .collect();
    hostile.extend(tags.iter().map(|tag| vec![tag.as_str()]));
    hostile.push(vec!["--expires", "\u{1b}[2J"]);
    hostile.push(vec!["--recipient", "age1\u{1b}[2J"]);
    for args in hostile {
        let ran = site.pack(42, &args).expect_code(2);
        let shown = ran.stderr.chars().chain(ran.stdout.chars()).find(|c| *c != '\n' && is_unprintable(*c));
        assert_eq!(shown, None, "{:?}", ran.stderr);
    }
    site.release["labels"] = json!({ "note": "a\u{1b}[2Jb" });
    let ran = site.pack(42, &[]).expect_code(2).expect_stderr("\\u{1b}[2J");
    assert!(!ran.stderr.contains('\u{1b}'), "{:?}", ran.stderr);
    assert!(files(&site.media()).is_empty());

    site.release = whole;
    let (created, expires) = ("2024-01-01T00:00:00Z", Some("2025-01-01T00:00:00Z"));
    let old = testkit::Key::with(&site.scratch("keys"), "old", created, expires);
    let old = old.secret_file.display().to_string();
    site.pack(42, &["--sign-key", &old]).expect_code(2).expect_stderr("the key expired on 2025-01-01");
    assert!(files(&site.media()).is_empty());
}

#[test]
fn labels_and_the_end_of_admission_are_in_manifest_and_label() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.release["labels"] = json!({ "ticket": "CHG-1", "class": "intern" });
    let mut pack =
        site.export(&["pack", "--sequence", "time", "--expires", "8000d", "--label", "ticket=CHG-2", "--json"]);
    pack.env("SOURCE_DATE_EPOCH", "1767225600").arg("--output").arg(site.media());
    let packed = run(&mut pack).expect_code(0).json();
    let bundle = site.media().join("payments-20260101000000");
    assert_eq!(packed["bundle"]["path"], bundle.display().to_string());
    let manifest = Opened::open(&bundle, 1, &site.identity).manifest();
    assert_eq!(manifest["labels"], json!({ "ticket": "CHG-2", "class": "intern" }), "flags win");
    assert_eq!(manifest["expires"], "2047-11-27T00:00:00Z");
    let past = ["--expires", "2020-01-01T00:00:00Z"];
    site.pack(43, &past).expect_code(2).expect_stderr("would have expired already");
    site.pack(43, &["--label", "ticket"]).expect_code(2).expect_stderr("NAME=VALUE");
    let label = fs::read_to_string(bundle.join("LABEL.txt")).unwrap();
    for words in ["CHG-2", "intern", "2047-11-27T00:00:00Z", "20260101000000"] {
        assert!(label.contains(words), "{words}\n{label}");
    }
}

//! `kill -9` at any moment, then the same command again: it ends as if nothing had happened.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{SavedLedger, acts, signatures};
use manifest_schema::Digest;
use serde_json::json;
use testkit::hostile::MANIFEST_SIGNATURE;
use testkit::layout::{API, BUSYBOX};
use testkit::{Fault, Opened, Proxy, Registry, Rule, Site, need, run};

/// How many moments are tried, spread over the requests of a run that nobody interrupts.
const MOMENTS: usize = 10;

/// The number of the request after which the run is killed.
fn request(moment: usize, of: usize) -> usize {
    (of * (2 * moment + 1) / (2 * MOMENTS)).max(1)
}

/// A proxy that keeps each request waiting, long enough for the program to be killed meanwhile.
fn slow(registry: &Registry) -> Proxy {
    let proxy = Proxy::before(registry);
    proxy.rule(Rule::new(Fault::Delay(Duration::from_millis(10))));
    proxy
}

/// Starts a command and kills it when something has happened. Whether it was still running then.
fn killed_when(command: &mut Command, happened: impl Fn() -> bool) -> bool {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !happened() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let running = child.try_wait().unwrap().is_none();
    // SIGKILL
    child.kill().unwrap();
    child.wait().unwrap();
    running
}

/// What a run leaves behind on the importing side, without times.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    tags: BTreeMap<String, Digest>,
    manifests: BTreeSet<String>,
    blobs: BTreeSet<String>,
    content: BTreeSet<Digest>,
    signatures: Vec<String>,
    acts: Vec<&'static str>,
}

impl Left {
    fn by(site: &Site) -> Self {
        run(&mut site.import(&["ledger", "verify"])).expect_code(0);
        Self {
            tags: site.production.tags(),
            manifests: site.production.manifests(),
            blobs: site.production.linked_blobs(),
            content: site.production.uploaded_blobs(),
            // A signature that a killed run was writing is hidden, and nobody reads it.
            signatures: signatures(site).into_keys().collect(),
            acts: acts(site),
        }
    }
}

/// An empty production registry behind a slow proxy, an empty signature tree and a ledger that knows nothing.
fn begin_anew(site: &mut Site, ledger: &SavedLedger) -> Proxy {
    site.production = Registry::start();
    let proxy = slow(&site.production);
    site.import["streams"]["payments"]["to"][0]["to"] = format!("{}/payments", proxy.host()).into();
    let _ = std::fs::remove_dir_all(site.lookaside());
    ledger.put_back(site);
    proxy
}

#[test]
fn a_killed_receive_is_continued_by_the_same_command() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_fixtures(&[API, BUSYBOX]);
    let bundle = site.packed(42);
    let ledger = SavedLedger::of(&site);

    let proxy = begin_anew(&mut site, &ledger);
    site.receive(&bundle, &[]).expect_code(0);
    let whole = proxy.seen().len();
    drop(proxy);
    let expected = Left::by(&site);
    assert_eq!(expected.acts, ["created", "begun", "signing", "recorded"]);
    assert_eq!(expected.signatures.len(), expected.manifests.len());
    assert!(expected.signatures.iter().all(|s| s.ends_with("/signature-1")), "{expected:?}");

    for moment in 0..MOMENTS {
        let proxy = begin_anew(&mut site, &ledger);
        let at = request(moment, whole);
        assert!(killed_when(site.import(&["receive"]).arg(&bundle), || proxy.seen().len() >= at));
        // The same command, on the same way.
        let again = site.receive(&bundle, &[]).expect_code(0);
        assert_eq!(Left::by(&site), expected, "killed after request {at} of {whole}\n{again}");
        drop(proxy);
    }

    // Moments that are too short to be met by chance.
    type Happened = fn(&Site, &Proxy) -> bool;
    let moments: [(&str, Happened); 6] = [
        ("the first signature", |site, _| !signatures(site).is_empty()),
        ("some signatures", |site, _| signatures(site).len() >= 3),
        ("the first image manifest", |_, proxy| proxy.count("PUT", "/manifests/sha256:") > 0),
        ("a tag is about to move", |_, proxy| proxy.count("PUT", "/manifests/2.3.1") > 0),
        ("a tag has moved", |site, _| !site.production.tags().is_empty()),
        ("all tags have moved", |site, _| site.production.tags().len() == 2),
    ];
    for (name, happened) in moments {
        let proxy = begin_anew(&mut site, &ledger);
        let running = killed_when(site.import(&["receive"]).arg(&bundle), || happened(&site, &proxy));
        let there = signatures(&site).len();
        let again = site.receive(&bundle, &[]).expect_code(0);
        assert_eq!(Left::by(&site), expected, "{name} ({there} signatures, running: {running})\n{again}");
    }
}

/// The content of a bundle, without what differs from run to run.
fn content(site: &Site, bundle: &Path) -> Vec<testkit::hostile::TarEntry> {
    let opened = Opened::open(bundle, 1, &site.identity);
    opened.entries.into_iter().filter(|e| e.header_name() != MANIFEST_SIGNATURE).collect()
}

#[test]
fn a_killed_pack_is_continued_by_the_same_command() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let proxy = slow(&site.origin);
    let from = format!("{}/payments", proxy.host());
    site.release["images"] = json!([format!("{from}/api:2.3.1"), format!("{from}/busybox:1.36")]);
    site.import["streams"]["payments"]["origins"] = json!([from]);
    site.import["streams"]["payments"]["to"][0]["from"] = from.into();
    let pack = |site: &Site, name: &str| {
        let mut pack =
            site.export(&["pack", "--sequence", "42", "--bundle-id", "01890a5d-ac96-774b-bcce-b302099a8057"]);
        pack.env("SOURCE_DATE_EPOCH", "1767225600").arg("--output").arg(site.scratch(name));
        pack.arg("--state").arg(site.scratch(&format!("{name}-state")));
        pack
    };
    run(&mut pack(&site, "whole")).expect_code(0);
    let whole = proxy.seen().len();
    let expected = content(&site, &site.scratch("whole").join("payments-42"));

    let taken_over = |name: &str, happened: &dyn Fn(&Path, usize) -> bool| {
        let (folder, before) = (site.scratch(name), proxy.seen().len());
        killed_when(&mut pack(&site, name), || happened(&folder, proxy.seen().len() - before));
        // What is there is either sealed, or is not a bundle.
        let bundle = folder.join("payments-42");
        if bundle.exists() {
            run(site.import(&["verify"]).arg(&bundle)).expect_code(0);
        }
        let again = run(&mut pack(&site, name)).expect_code(0);
        let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["payments-42"], "killed after {name}\n{again}");
        run(site.import(&["verify"]).arg(&bundle)).expect_code(0);
        assert!(content(&site, &bundle) == expected, "killed after {name}\n{again}");
        assert!(run(&mut pack(&site, name)).expect_code(0).stdout.starts_with("already packed"));
    };
    for moment in 0..MOMENTS {
        let at = request(moment, whole);
        taken_over(&format!("request-{at}"), &|_, seen| seen >= at);
    }
    // While it is sealed no registry is asked.
    for file in ["payments-42.0001.tar.zst.age", "LABEL.txt", "SHA256SUMS", "SHA256SUMS.asc"] {
        let name = format!("payments-42.partial/{file}");
        taken_over(file, &|folder, seen| {
            (folder.join(&name).exists() && seen == whole) || folder.join("payments-42").exists()
        });
    }
}

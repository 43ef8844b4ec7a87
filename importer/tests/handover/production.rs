//! `handover production`: clusters that run what was promoted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ledger::{Act, Clusters, EntryNumber, HandedOver, Ledger};
use manifest_schema::Reference;
use serde_json::{Value, json};
use signing::Lookaside;
use testkit::layout::{API, closure, digest, fixtures};
use testkit::{Key, Node, Ran, Site, need, run, run_ok};

pub(crate) const NEEDS: &[&str] = &["docker-registry", "skopeo"];
pub(crate) const NAME: &str = "payments/api:2.3.1";

pub(crate) fn folder(site: &Site) -> PathBuf {
    site.scratch("handed").join("production")
}

/// For nodes that have the keys where they lie in the folder.
#[track_caller]
pub(crate) fn handover(site: &Site, args: &[&str]) -> Ran {
    let mut command = site.import(&["handover", "production"]);
    run(command.arg(folder(site)).arg("--key-dir").arg(folder(site).join("keys")).args(args))
}

pub(crate) fn node(site: &Site) -> Node {
    Node::new(folder(site), site.scratch("node"))
}

fn json_of(site: &Site, name: &str) -> Value {
    serde_json::from_slice(&fs::read(folder(site).join(name)).unwrap()).unwrap()
}

pub(crate) fn image(site: &Site, name: &str) -> String {
    format!("{}/{name}", site.production.host())
}

pub(crate) fn import(site: &Site, args: &[&str]) -> Ran {
    run(&mut site.import(args))
}

pub(crate) fn readme(site: &Site) -> String {
    fs::read_to_string(folder(site).join("README.txt")).unwrap()
}

/// README.txt names no file that is not in the folder, and its lines are no longer than people like to read.
#[track_caller]
pub(crate) fn names_what_is_there(site: &Site) {
    let text = readme(site);
    let there = files(&folder(site));
    for word in text.split(|c: char| c.is_whitespace() || "(),;:`".contains(c)) {
        let folders = ["openshift/", "portieris/", "keys/", "registries.d/", "registries.conf.d/"];
        if folders.iter().any(|folder| word.starts_with(folder)) {
            let word = word.trim_end_matches('.');
            let (start, end) = word.split_once('*').unwrap_or((word, ""));
            assert!(there.keys().any(|name| name.starts_with(start) && name.ends_with(end)), "{word}: {text}");
        }
    }
    // Tables, names and digests are as long as they are.
    let prose = text.lines().filter(|line| !line.contains("  "));
    assert_eq!(prose.filter(|line| line.chars().count() > 125).collect::<Vec<_>>(), [""; 0]);
}

fn handed_over(site: &Site) -> Vec<HandedOver> {
    let ledger = Ledger::open_read_only(&site.import_dir().join("ledger.db"), None).unwrap();
    let acts = ledger.entries(EntryNumber::FIRST).map(|stored| stored.unwrap().entry.act);
    acts.filter_map(|act| if let Act::HandedOver(handed) = act { Some(handed) } else { None }).collect()
}

/// The files of a folder and those below it, by their names.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    testkit::registry::walk(folder, &mut |file| {
        let name = file.strip_prefix(folder).unwrap().display().to_string();
        found.insert(name, fs::read(file).unwrap());
    });
    found
}

#[test]
fn a_cluster_takes_what_production_signed_under_its_name_and_nothing_else() {
    if !need(NEEDS) {
        return;
    }
    let site = Site::new();
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    let ran = handover(&site, &[]).expect_code(0);
    assert!(ran.stdout.contains("README.txt says where they go"), "{ran}");
    assert_eq!(ran.stderr, "", "nothing to warn of");
    let (api, pinned) = (image(&site, NAME), image(&site, &format!("payments/api@{}", digest(&fixtures(), API))));
    node(&site).takes(&api).expect_code(0);
    node(&site).takes(&pinned).expect_code(0);

    // Another tag, another repository with the signatures that the image has, one that nobody signed, another registry.
    site.production.load_layout(&fixtures(), API, "payments/api", "9");
    node(&site).refuses(&image(&site, "payments/api:9"));
    site.production.load_layout(&fixtures(), API, "payments/other", "2.3.1");
    let (from, to): (Reference, Reference) =
        (api.parse().unwrap(), image(&site, "payments/other:2.3.1").parse().unwrap());
    let tree = Lookaside::new(site.lookaside());
    for document in closure(&fixtures(), API) {
        for signature in tree.read(from.repository(), &document).unwrap() {
            tree.add(to.repository(), &document, &signature).unwrap();
        }
    }
    node(&site).refuses(&to.to_string());
    node(&site).refuses(&image(&site, &format!("payments/other@{}", digest(&fixtures(), API))));
    node(&site).refuses(&format!("{}/payments/api:2.3.1", site.origin.host()));
    site.production.load_layout(&fixtures(), API, "elsewhere/api", "2.3.1");
    node(&site).refuses(&image(&site, "elsewhere/api:2.3.1"));

    // Every run is an entry, which has the digest of every file.
    let before = files(&folder(&site));
    let report = handover(&site, &["--json"]).expect_code(0).json();
    assert_eq!(files(&folder(&site)), before, "the same again");
    let handed = handed_over(&site);
    assert_eq!((handed.len(), handed[0].clusters, handed[0].denied), (2, Clusters::Production, 0));
    assert_eq!(handed[0], handed[1]);
    let said: BTreeMap<_, _> = handed[0].files.iter().map(|file| (file.name.raw().to_string(), file.digest)).collect();
    assert_eq!(said, before.iter().map(|(name, bytes)| (name.clone(), blobs::sha256(bytes))).collect());
    assert_eq!(report["files"], json!(before.keys().collect::<Vec<_>>()));
    assert_eq!(report["keys"][0]["fingerprints"], json!([site.production_key.fingerprint]));
    let entry = report["entry"].to_string();
    let shown = import(&site, &["ledger", "log"]).expect_code(0).stdout;
    assert!(shown.contains(&entry) && shown.contains("5 files for the clusters of production"), "{shown}");
    run_ok(&mut site.import(&["ledger", "verify"]));
    names_what_is_there(&site);
}

#[test]
fn a_dry_run_shows_everything_and_leaves_no_trace() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let ran = handover(&site, &["--dry-run"]).expect_code(0);
    for said in ["would be written: ", "nothing was written or recorded", "GOES TO", "SHA-256 of the other files"] {
        assert!(ran.stdout.contains(said), "{said}: {ran}");
    }
    let tried = handover(&site, &["--dry-run", "--json"]).expect_code(0).json();
    assert_eq!((&tried["result"], tried.get("entry")), (&json!("would be written"), None));
    assert!(!folder(&site).exists() && handed_over(&site).is_empty());
    // It says what would be refused, and needs no ledger key.
    let list = site.scratch("nodes").join("images.txt");
    fs::write(&list, format!("{}/nobodys:1\n", site.production.host())).unwrap();
    handover(&site, &["--dry-run", "--images-in-use", list.to_str().unwrap()]).expect_code(1);
    fs::create_dir_all(folder(&site)).unwrap();
    fs::write(folder(&site).join("notes"), "mine").unwrap();
    handover(&site, &["--dry-run"]).expect_code(2).expect_stderr("notes");
    fs::remove_file(folder(&site).join("notes")).unwrap();
    assert_eq!(files(&folder(&site)).len(), 0);
    // What is written then is what was shown; a `/` behind the folder's name is no part of it.
    let mut command = site.import(&["handover", "production"]);
    command.arg(format!("{}/", folder(&site).display())).arg("--key-dir").arg(folder(&site).join("keys"));
    let ran = run(&mut command).expect_code(0);
    assert!(ran.stdout.contains("production/README.txt") && !ran.stdout.contains("//README.txt"), "{ran}");
    assert_eq!(tried["readme"], json!(readme(&site)));
    assert_eq!(handed_over(&site).len(), 1);
}

#[test]
fn a_flag_that_would_do_nothing_is_refused() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    for (args, reason) in [
        (["--role", "infra"], "--role: it has no effect without --for openshift"),
        (["--ignition", "3.4.0"], "--ignition: it has no effect without --for openshift"),
        (["--merge-default", "keep"], "--merge-default: it has no effect without --merge-policy"),
        (["--node-registries-d", "."], "--node-registries-d: it has no effect without --images-in-use"),
        (["--cosign-public-key", "c.pub"], "--cosign-public-key: it has no effect without --for openshift-cosign"),
    ] {
        handover(&site, &args).expect_code(2).expect_stderr(reason);
        assert_eq!(handed_over(&site), []);
    }
}

#[test]
fn what_was_withdrawn_is_refused_by_digest_even_if_its_signatures_come_back() {
    if !need(NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_fixtures(&[API]);
    site.list_api_as("payments/copy", "2.3.1");
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    let name: Reference = image(&site, NAME).parse().unwrap();
    let pinned = image(&site, &format!("payments/api@{}", digest(&fixtures(), API)));
    let tree = Lookaside::new(site.lookaside());
    let signatures: Vec<_> =
        closure(&fixtures(), API).into_iter().map(|d| (d, tree.read(name.repository(), &d).unwrap())).collect();
    import(&site, &["withdraw", &name.to_string(), "--reason", "CVE-2026-1"]).expect_code(0);
    for (document, signatures) in &signatures {
        for signature in signatures {
            tree.add(name.repository(), document, signature).unwrap();
        }
    }
    let ran = handover(&site, &[]).expect_code(0);
    assert!(ran.stdout.contains("must not run: 3 images, in "), "{ran}");
    node(&site).refuses(&pinned);
    // By its tag nobody can tell: that is for what reads deny.json.
    node(&site).takes(&name.to_string()).expect_code(0);
    // Another repository has the same image, and nobody withdrew it there.
    node(&site).takes(&image(&site, &format!("payments/copy@{}", digest(&fixtures(), API)))).expect_code(0);
    assert_eq!(handed_over(&site)[0].denied, 3);
    let list = json_of(&site, "deny.json");
    assert_eq!(list["type"], "sealift/deny-list/1");
    let denied = list["images"].as_array().unwrap();
    assert_eq!(denied.len(), 3);
    for image in denied {
        assert_eq!(image["reference"], name.to_string());
        assert_eq!((&image["reason"], &image["refused"]), (&json!("CVE-2026-1"), &json!(true)));
        assert_eq!(image["entry"], 5);
    }
    let readme = fs::read_to_string(folder(&site).join("README.txt")).unwrap();
    assert!(readme.contains("entry 5: CVE-2026-1\n    refused by digest, signed or not"), "{readme}");

    // Somebody says why it may run again.
    let next = site.packed(2);
    site.receive(&next, &["--override", "withdrawn", "--reason", "the report was wrong"]).expect_code(0);
    handover(&site, &[]).expect_code(0);
    node(&site).takes(&pinned).expect_code(0);
    assert_eq!(json_of(&site, "deny.json")["images"], json!([]));
    // And that was wrong again: the last withdrawal counts.
    let again = import(&site, &["withdraw", &name.to_string(), "--reason", "CVE-2026-2", "--json"]).expect_code(0);
    handover(&site, &[]).expect_code(0);
    let list = json_of(&site, "deny.json");
    let denied = list["images"].as_array().unwrap();
    assert_eq!(denied.len(), 3);
    let is_last =
        |image: &Value| image["reason"] == json!("CVE-2026-2") && image["entry"] == again.json()["withdrawn"]["entry"];
    assert!(denied.iter().all(is_last), "{list:#}");
    run_ok(&mut site.import(&["ledger", "verify"]));
}

#[test]
fn what_another_tag_has_with_signatures_is_listed_and_not_refused_by_digest() {
    if !need(NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_fixtures(&[API]);
    site.list_api_as("payments/api", "alias");
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    import(&site, &["withdraw", &image(&site, "payments/api:alias"), "--reason", "a mistake"]).expect_code(0);
    handover(&site, &[]).expect_code(0);
    let pinned = image(&site, &format!("payments/api@{}", digest(&fixtures(), API)));
    node(&site).takes(&image(&site, NAME)).expect_code(0);
    node(&site).takes(&pinned).expect_code(0);
    node(&site).refuses(&image(&site, "payments/api:alias"));
    let refused = |list: &Value| list["images"].as_array().unwrap().iter().all(|image| image["refused"] == json!(true));
    let list = json_of(&site, "deny.json");
    assert_eq!(list["images"].as_array().unwrap().len(), 3);
    assert!(!refused(&list));
    // Under every tag, also the one that it was withdrawn under before.
    import(&site, &["withdraw", &pinned, "--reason", "CVE-2026-1"]).expect_code(0);
    handover(&site, &[]).expect_code(0);
    let list = json_of(&site, "deny.json");
    assert_eq!(list["images"].as_array().unwrap().len(), 6);
    assert!(refused(&list));
    node(&site).refuses(&pinned);
}

#[test]
fn both_production_keys_count_while_one_takes_the_others_place() {
    if !need(NEEDS) {
        return;
    }
    let mut site = Site::new();
    let first = site.packed(1);
    site.receive(&first, &[]).expect_code(0);
    let second = Key::new(&site.import_dir(), "second");
    site.import["production"]["sign"]["key"] = "second.secret.asc".into();
    site.list_fixtures(&["registry.dev.example/payments/busybox:1.36"]);
    let next = site.packed(2);
    site.receive(&next, &[]).expect_code(0);
    let (old, new) = (image(&site, NAME), image(&site, "payments/busybox:1.36"));
    // The certificate beside the key that signs now.
    handover(&site, &[]).expect_code(0);
    node(&site).refuses(&old);
    node(&site).takes(&new).expect_code(0);
    site.import["production"]["certificates"] = json!(["production.asc", "second.asc"]);
    let report = handover(&site, &["--json"]).expect_code(0).json();
    let mut keys = vec![site.production_key.fingerprint.clone(), second.fingerprint.clone()];
    keys.sort();
    assert_eq!(report["keys"][0]["fingerprints"], json!(keys));
    node(&site).takes(&old).expect_code(0);
    node(&site).takes(&new).expect_code(0);
    // A flag goes before the configuration.
    let old_alone = handover(&site, &["--certificate", "production.asc"]).expect_code(0);
    old_alone.expect_stderr(&format!("left out: production key {}, which signs now", second.fingerprint));
    node(&site).takes(&old).expect_code(0);
    node(&site).refuses(&new);
    // The first key is revoked.
    site.production_key.revoke();
    let told = handover(&site, &[]).expect_code(0);
    told.expect_stderr(&format!("left out: production key {}: ", site.production_key.fingerprint));
    node(&site).refuses(&old);
    node(&site).takes(&new).expect_code(0);
    let readme = fs::read_to_string(folder(&site).join("README.txt")).unwrap();
    assert!(readme.contains("What was left out"), "{readme}");
    handover(&site, &["--certificate", "production.asc"])
        .expect_code(2)
        .expect_stderr(&site.production_key.fingerprint);
}

#[test]
fn what_is_wrong_is_said_before_anything_is_recorded_or_written() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let refused = |site: &Site, args: &[&str], code| {
        let ran = handover(site, args).expect_code(code);
        assert!(!folder(site).join("policy.json").exists(), "{ran}");
        assert_eq!(handed_over(site), [], "{ran}");
        ran
    };
    let other = Key::new(&site.import_dir(), "couriers");
    site.import["couriers"] = json!(["couriers.asc"]);
    refused(&site, &["--certificate", "couriers.asc"], 2).expect_stderr(&other.fingerprint);
    refused(&site, &["--certificate", "trust/release.asc"], 2).expect_stderr("configured for two roles");
    refused(&site, &["--certificate", "production.secret.asc"], 2).expect_stderr("secret");
    refused(&site, &["--certificate", "ledger.asc"], 2)
        .expect_stderr("configured for two roles, production and ledger");
    site.import["production"]["sign"]["key"] = "ledger.secret.asc".into();
    import(&site, &["resign"]).expect_code(2).expect_stderr("configured for two roles, production and ledger");
    site.import["production"]["sign"]["key"] = "production.secret.asc".into();
    // Where nothing can be written nothing is recorded.
    fs::write(site.scratch("in-the-way").join("file"), "").unwrap();
    let mut blocked = site.import(&["handover", "production"]);
    run(blocked.arg(site.scratch("in-the-way").join("file/production"))).expect_code(1);
    assert_eq!(handed_over(&site), []);
    let mut relative = site.import(&["handover", "production", "--key-dir", "keys"]);
    run(relative.arg(folder(&site))).expect_code(2).expect_stderr("--key-dir keys: expected an absolute path");
    refused(&site, &["--lookaside-url", "sigstore"], 2).expect_stderr("lookaside URL `sigstore`: expected http://");
    fs::rename(site.import_dir().join("production.asc"), site.import_dir().join("away.asc")).unwrap();
    refused(&site, &[], 2)
        .expect_stderr("the production key's certificate is missing")
        .expect_stderr("`production: {certificates: [FILE]}`");
    site.import["production"]["certificates"] = json!(["away.asc"]);
    fs::create_dir_all(folder(&site)).unwrap();
    fs::write(folder(&site).join("notes"), "mine").unwrap();
    refused(&site, &[], 2).expect_stderr("notes");
    fs::remove_file(folder(&site).join("notes")).unwrap();
    let writer = site.open_ledger();
    refused(&site, &[], 1).expect_stderr("another program is writing");
    drop(writer);
    // The configured URL counts, unless a flag says another.
    site.import["production"]["lookaside_url"] = "https://s.example/signatures/".into();
    let yaml = |args: &[&str]| {
        handover(&site, args).expect_code(0);
        fs::read_to_string(folder(&site).join("registries.d/sealift-production.yaml")).unwrap()
    };
    let scope = image(&site, "payments");
    assert_eq!(yaml(&[]), format!("docker:\n  \"{scope}\":\n    lookaside: \"https://s.example/signatures\"\n"));
    assert!(yaml(&["--lookaside-url", "http://t.example"]).contains("\"http://t.example\""));
}

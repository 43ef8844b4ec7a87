//! What was interrupted goes on where it stopped.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use testkit::hostile::volume_file;
use testkit::{Fault, Opened, Proxy, Rule, Site, need, run};

use crate::{is_in_production, large, names, packed, receive};

#[test]
fn an_interrupted_pack_keeps_its_finished_volumes() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let digest = large(&mut site);
    let proxy = Proxy::before(&site.origin);
    let direct = site.release["images"][0].as_str().unwrap().to_string();
    site.release["images"][0] = direct.replace(site.origin.host(), proxy.host()).into();
    let origins = &mut site.import["streams"]["payments"];
    origins["origins"][0] = format!("{}/payments", proxy.host()).into();
    origins["to"][0]["from"] = format!("{}/payments", proxy.host()).into();
    // The third layer is the last: 1 is small, 2 is in parts.
    proxy.rule(Rule::new(Fault::status(403)).method("GET").path("/blobs/").nth(4));
    let args = ["--volume-size", "1MiB", "--recovery", "5%"];
    let stopped = site.pack(1, &args).expect_code(1);
    assert!(stopped.stderr.contains("volumes that were finished stay"), "{stopped}");
    let partial = site.media().join("payments-1.partial");
    let there: BTreeMap<_, _> = names(&partial)
        .into_iter()
        .map(|name| (name.clone(), blobs::sha256(&fs::read(partial.join(name)).unwrap())))
        .collect();
    assert!(there.len() > 2, "{there:?}");
    assert!(!there.contains_key("SHA256SUMS"));
    // One of them rots meanwhile, and somebody leaves a file.
    let second = volume_file(&partial, 2);
    fs::write(&second, "rotten").unwrap();
    fs::write(partial.join("notes.txt"), "mine").unwrap();
    proxy.clear();
    let ran = site.pack(1, &args).expect_code(0);
    assert!(ran.stderr.contains("taking over"), "{ran}");
    let bundle = site.media().join("payments-1");
    assert!(!bundle.join("notes.txt").exists());
    let kept = there
        .iter()
        .filter(|(name, digest)| fs::read(bundle.join(name)).is_ok_and(|bytes| blobs::sha256(&bytes) == **digest));
    let kept: Vec<_> = kept.map(|(name, _)| name.as_str()).collect();
    assert!(kept.contains(&"payments-1.0001.tar.zst.age"), "{kept:?}");
    assert!(!kept.contains(&"payments-1.0002.tar.zst.age"), "{kept:?}");
    run(site.import(&["verify"]).arg(&bundle)).expect_code(0);
    // The same as one that nobody interrupted, but for what is random.
    let whole = site.scratch("whole");
    let id = run(site.import(&["inspect", "--json"]).arg(&bundle)).expect_code(0).json()["manifest"]["bundle"].clone();
    let created = Opened::open(&bundle, 1, &site.identity).manifest()["created"].as_str().unwrap().to_string();
    let epoch = created.parse::<manifest_schema::Timestamp>().unwrap().unix().to_string();
    let mut command = site.export(&["pack", "--sequence", "1", "--bundle-id", id.as_str().unwrap()]);
    command.args(args).arg("--output").arg(&whole).arg("--state").arg(site.scratch("state"));
    run(command.env("SOURCE_DATE_EPOCH", epoch)).expect_code(0);
    for number in 1..=names(&whole.join("payments-1")).iter().filter(|n| n.ends_with(".age")).count() {
        let entries = |bundle: &std::path::Path| {
            let mut opened = Opened::open(bundle, number as u32, &site.identity);
            if number == 1 {
                opened.remove(testkit::hostile::MANIFEST_SIGNATURE);
            }
            opened.entries
        };
        assert!(entries(&bundle) == entries(&whole.join("payments-1")), "volume {number}");
    }
    receive(&site, &[&bundle], &[]).expect_code(0);
    is_in_production(&site, &digest);
}

/// What the tags name has changed: nothing of the old volumes is kept.
#[test]
fn a_pack_that_goes_on_with_other_images_begins_anew() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    large(&mut site);
    let proxy = Proxy::before(&site.origin);
    let at_proxy = site.release["images"][0].as_str().unwrap().replace(site.origin.host(), proxy.host());
    site.release["images"][0] = at_proxy.clone().into();
    proxy.rule(Rule::new(Fault::status(403)).method("GET").path("/blobs/").nth(4));
    site.pack(1, &["--volume-size", "1MiB"]).expect_code(1);
    let partial = site.media().join("payments-1.partial");
    let first = fs::read(volume_file(&partial, 1)).unwrap();
    proxy.clear();
    site.list_layers("1", &[b"fixed"]);
    site.release["images"][0] = at_proxy.into();
    let ran = site.pack(1, &["--volume-size", "1MiB"]).expect_code(0);
    assert!(ran.stderr.contains("0 of 1 volumes are finished"), "{ran}");
    let bundle = site.media().join("payments-1");
    assert_ne!(fs::read(volume_file(&bundle, 1)).unwrap(), first);
    assert_eq!(names(&bundle).iter().filter(|n| n.ends_with(".age")).count(), 1);
}

#[test]
fn volumes_are_not_read_if_production_has_what_is_in_them() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let digest = large(&mut site);
    let bundle = packed(&site, 1, &["--volume-size", "1MiB"]);
    let last = names(&bundle).iter().filter(|n| n.ends_with(".age")).count() as u32;
    let whole = fs::read(volume_file(&bundle, last)).unwrap();
    testkit::hostile::flip_bit(&volume_file(&bundle, last));
    receive(&site, &[&bundle], &[]).expect_code(4);
    let uploaded = site.production.uploaded_blobs();
    fs::write(volume_file(&bundle, last), whole).unwrap();
    // What is done is not even opened: of volume 1 no more than admission needs, of the second nothing at all.
    fs::write(volume_file(&bundle, 2), "unreadable").unwrap();
    let ran = receive(&site, &[&bundle], &[]).expect_code(0);
    assert!(ran.stderr.contains("the registry has all that is in volume 1, 2, 3, 4, 5: not read"), "{ran}");
    is_in_production(&site, &digest);
    assert!(site.production.uploaded_blobs().is_superset(&uploaded));

    // The registry has lost a blob meanwhile: its volume is read again.
    let mut site = Site::new();
    let digest = large(&mut site);
    let bundle = packed(&site, 1, &["--volume-size", "1MiB"]);
    testkit::hostile::flip_bit(&volume_file(&bundle, last));
    receive(&site, &[&bundle], &[]).expect_code(4);
    let manifest = Opened::open(&bundle, 1, &site.identity).manifest();
    let small = manifest["blobs"].as_array().unwrap().iter().find(|b| b["section"] == "layers").unwrap();
    let small: manifest_schema::Digest = small["digest"].as_str().unwrap().parse().unwrap();
    site.production.lose_blob(&small);
    testkit::hostile::flip_bit(&volume_file(&bundle, last));
    let ran = receive(&site, &[&bundle], &[]).expect_code(0);
    assert!(!ran.stderr.contains("in volume 1,"), "{ran}");
    is_in_production(&site, &digest);
}

const CHUNK: usize = 32 << 20;

/// A layer that is larger than two chunks of an upload, in parts, on its way through a proxy.
struct Uploading {
    site: Site,
    proxy: Proxy,
    digest: manifest_schema::Digest,
    bundle: std::path::PathBuf,
    /// The ranges of the chunks.
    chunks: Vec<String>,
}

impl Uploading {
    fn new() -> Self {
        let mut site = Site::new();
        let layer: Vec<u8> = (0..(2 * CHUNK + (6 << 20)) / 4096).flat_map(|page| [page as u8; 4096]).collect();
        let digest = site.list_layers("1", &[&layer]);
        let bundle = packed(&site, 1, &["--volume-size", "24MiB"]);
        let volumes = names(&bundle).iter().filter(|name| name.ends_with(".age")).count();
        assert!(volumes >= 3, "the layer comes in parts: {volumes} volumes");
        let proxy = Proxy::before(&site.production);
        site.import["streams"]["payments"]["to"][0]["to"] = format!("{}/payments", proxy.host()).into();
        let size = testkit::layout::tar_of("file-0", &layer).len();
        let chunks = [(0, CHUNK), (CHUNK, 2 * CHUNK), (2 * CHUNK, size)];
        let chunks = chunks.map(|(from, to)| format!("{from}-{}", to - 1)).into();
        Self { site, proxy, digest, bundle, chunks }
    }

    /// The ranges that were sent since the proxy was cleared.
    fn sent(&self) -> Vec<String> {
        let seen = self.proxy.seen();
        let patches = seen.iter().filter(|seen| seen.method == "PATCH");
        patches.map(|seen| seen.header("content-range").unwrap().to_string()).collect()
    }

    /// Kills the program at the nth request of a kind, which does not reach the registry.
    fn killed_at(&self, method: &str, path: &str, n: usize) {
        let hangs = Fault::Delay(Duration::from_secs(3600));
        self.proxy.rule(Rule::new(hangs).method(method).path(path).nth(n));
        let mut child = self.site.import(&["receive", "-q"]).arg(&self.bundle).spawn().unwrap();
        while self.proxy.count(method, path) < n {
            assert!(child.try_wait().unwrap().is_none(), "it has ended: {:?}", self.sent());
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(self.site.production.tags().is_empty());
    }

    fn ends(&self) {
        receive(&self.site, &[&self.bundle], &[]).expect_code(0);
        assert_eq!(self.site.production.tags().values().collect::<Vec<_>>(), [&self.digest]);
    }
}

/// What the registry took is not sent again by another process.
#[test]
fn a_killed_upload_goes_on_in_the_middle_of_a_blob() {
    if !need(Site::NEEDS) {
        return;
    }
    let uploading = Uploading::new();
    for run in 0..2 {
        uploading.proxy.clear();
        uploading.killed_at("PATCH", "", 2);
        assert_eq!(uploading.sent(), uploading.chunks[run..run + 2], "run {run}");
    }
    uploading.proxy.clear();
    uploading.ends();
    assert_eq!(uploading.sent(), uploading.chunks[2..], "what the registry has is not sent again");
    assert_eq!(uploading.site.production.open_uploads(), 0);
}

/// The registry has some bytes of a chunk that it did not confirm. Debian's gives such an upload up; the blob is sent anew.
#[test]
fn an_upload_that_is_killed_within_a_chunk_ends_all_the_same() {
    if !need(Site::NEEDS) {
        return;
    }
    let uploading = Uploading::new();
    uploading.proxy.rule(Rule::new(Fault::CutRequest(10 << 20)).method("PATCH").nth(2));
    uploading.killed_at("GET", "/blobs/uploads/", 1);
    assert_eq!(uploading.sent(), uploading.chunks[..2]);
    uploading.proxy.clear();
    uploading.ends();
    assert_eq!(uploading.sent(), uploading.chunks);
}

/// A signature that comes between two runs is in the bundle, or the label would name a signer in vain.
#[test]
fn a_signature_that_comes_between_two_runs_is_carried() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let digest = large(&mut site);
    let second = testkit::Key::new(&site.scratch("second"), "second");
    let proxy = Proxy::before(&site.origin);
    let at_proxy = site.release["images"][0].as_str().unwrap().replace(site.origin.host(), proxy.host());
    site.release["images"][0] = at_proxy.into();
    let payments = &mut site.import["streams"]["payments"];
    payments["origins"][0] = format!("{}/payments", proxy.host()).into();
    payments["to"][0]["from"] = format!("{}/payments", proxy.host()).into();
    payments["release"]["certificates"] = serde_json::json!(["trust/release.asc", &second.certificate_file]);
    payments["release"]["threshold"] = 2.into();
    let plan = site.scratch("plans").join("plan");
    run(site.export(&["plan", "--sequence", "1", "--volume-size", "1MiB", "--write"]).arg(&plan)).expect_code(0);
    let pack = || run(site.export(&["pack"]).arg(&plan).arg("--output").arg(site.media()));
    proxy.rule(Rule::new(Fault::status(403)).method("GET").path("/blobs/").nth(4));
    pack().expect_code(1);
    let partial = site.media().join("payments-1.partial");
    assert!(volume_file(&partial, 1).exists() && volume_file(&partial, 2).exists());
    proxy.clear();
    let sign = |what: &std::path::Path| {
        run(site.export(&["sign", "--sign-key"]).arg(&second.secret_file).arg(what)).expect_code(0);
    };
    sign(&plan);
    let before = fs::read(volume_file(&partial, 2)).unwrap();
    pack().expect_code(0);
    let bundle = site.media().join("payments-1");
    assert_eq!(before, fs::read(volume_file(&bundle, 2)).unwrap(), "only the first volume is made anew");
    sign(&bundle);
    receive(&site, &[&bundle], &[]).expect_code(0);
    is_in_production(&site, &digest);
}

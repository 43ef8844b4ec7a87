//! One-way links: a bundle as one stream, sealed by its last entry.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

use testkit::hostile::{self, MANIFEST, MANIFEST_SIGNATURE, Opened};
use testkit::layout::API;
use testkit::{Ran, Site, need, run};

use crate::{is_in_production, large};

/// Sends the release, as `payments-<sequence>`.
#[track_caller]
fn sent(site: &Site, sequence: u64) -> Vec<u8> {
    let to = site.scratch("stream").join("payments.sealift");
    let mut command = site.export(&["pack", "--output", "-", "--sequence", &sequence.to_string()]);
    let ran = run_into(&mut command, &to);
    assert_eq!(ran.0, Some(0), "{}", ran.1);
    assert!(ran.1.contains("sent: - (bundle "), "{}", ran.1);
    std::fs::read(to).unwrap()
}

fn run_into(command: &mut Command, to: &std::path::Path) -> (Option<i32>, String) {
    let child = command.stdout(File::create(to).unwrap()).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Runs a command of the importer that reads a stream.
#[track_caller]
fn fed(site: &Site, args: &[&str], bytes: &[u8]) -> Ran {
    let from = site.scratch("stream").join("received");
    std::fs::write(&from, bytes).unwrap();
    run(site.import(args).stdin(File::open(from).unwrap()))
}

#[test]
fn a_bundle_goes_through_a_pipe() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let digest = large(&mut site);
    let stream = sent(&site, 1);
    fed(&site, &["inspect", "-"], &stream).expect_code(0);
    fed(&site, &["verify", "-"], &stream).expect_code(0);
    fed(&site, &["receive", "--dry-run", "-"], &stream).expect_code(0);
    assert!(site.production.is_empty());
    // Through a pipe for real, which cannot be read twice.
    let mut child = site.import(&["receive", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&stream).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    is_in_production(&site, &digest);
    let again = fed(&site, &["receive", "-"], &stream).expect_code(0);
    assert!(again.stdout.contains("already received"), "{again}");
}

#[test]
fn a_stream_that_is_cut_publishes_nothing() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    large(&mut site);
    let stream = sent(&site, 1);
    for length in [0, 100, 5000, 20_000, stream.len() / 2, stream.len() - 70_000, stream.len() - 1] {
        for command in [&["receive", "-"][..], &["verify", "-"]] {
            let ran = fed(&site, command, &stream[..length]);
            assert_eq!(ran.code, Some(4), "cut at {length}: {ran}");
        }
        assert!(site.production.tags().is_empty() && !site.lookaside().join("payments").exists(), "cut at {length}");
    }
    fed(&site, &["receive", "-"], &[&stream[..], b"x"].concat()).expect_code(4);
    assert!(site.production.tags().is_empty());
    // All of it, a minute later.
    fed(&site, &["receive", "-"], &stream).expect_code(0);
}

/// Whoever can encrypt to the enclave cannot release: every change to the seal at the end is refused.
#[test]
fn a_stream_without_its_seal_is_not_released() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_fixtures(&[API]);
    let stream = sent(&site, 1);
    const SEAL: &str = "sealift/seal.json";
    const SEAL_SIGNATURE: &str = "sealift/seal.json.asc";
    let edited = |edit: &dyn Fn(&mut Opened)| {
        let folder = site.scratch("edited");
        let file = folder.join("payments-1.0001.tar.zst.age");
        std::fs::write(&file, &stream).unwrap();
        let mut opened = Opened::open(&folder, 1, &site.identity);
        edit(&mut opened);
        opened.encrypt(&site.identity);
        std::fs::read(&file).unwrap()
    };
    let refused = |what: &str, says: &str, edit: &dyn Fn(&mut Opened)| {
        let bytes = edited(edit);
        let ran = fed(&site, &["receive", "-"], &bytes);
        assert_eq!(ran.code, Some(3), "{what}: {ran}");
        assert!(ran.stderr.contains(says), "{what}: {ran}");
        assert!(site.production.tags().is_empty() && !site.lookaside().join("payments").exists(), "{what}");
        assert_eq!(fed(&site, &["verify", "-"], &bytes).code, Some(3), "{what}");
    };
    let by_release = |bytes: &[u8]| site.release_key.sign(bytes);
    refused("no seal", "expected the entry", &|o| {
        o.remove(SEAL);
        o.remove(SEAL_SIGNATURE);
    });
    refused("no signature", "expected the entry", &|o| drop(o.remove(SEAL_SIGNATURE)));
    refused("the manifest's signature", "the seal is not signed", &|o| {
        let signature = o.content(MANIFEST_SIGNATURE).to_vec();
        o.replace(SEAL_SIGNATURE, &signature);
    });
    refused("signed by another", "the seal is not signed", &|o| {
        let signature = testkit::Key::new(&site.scratch("mallory"), "mallory").sign(o.content(SEAL));
        o.replace(SEAL_SIGNATURE, &signature);
    });
    refused("the manifest in the seal's place", "seal is not the one", &|o| {
        let (manifest, signature) = (o.content(MANIFEST).to_vec(), o.content(MANIFEST_SIGNATURE).to_vec());
        o.replace(SEAL, &manifest);
        o.replace(SEAL_SIGNATURE, &signature);
    });
    refused("the seal of another bundle", "seal is not the one", &|o| {
        let seal = String::from_utf8(o.content(SEAL).to_vec()).unwrap();
        let at = seal.find("sha256:").unwrap() + 10;
        let mut other = seal.into_bytes();
        other[at] = if other[at] == b'0' { b'1' } else { b'0' };
        let signature = by_release(&other);
        o.replace(SEAL, &other);
        o.replace(SEAL_SIGNATURE, &signature);
    });
    refused("something behind the seal", "one entry too many", &|o| {
        o.entries.push(hostile::TarEntry::file("more", b"x"));
    });
    // A volume of a folder is no stream, and a stream no volume.
    let bundle = site.packed(2);
    let volume = std::fs::read(hostile::volume_file(&bundle, 1)).unwrap();
    fed(&site, &["receive", "-"], &volume).expect_code(3);
    assert!(site.production.tags().is_empty());
    fed(&site, &["receive", "-"], &edited(&|_| ())).expect_code(0);
    let mut site = site;
    large(&mut site);
    site.pack(3, &["--volume-size", "1MiB"]).expect_code(0);
    let first = std::fs::read(hostile::volume_file(&site.media().join("payments-3"), 1)).unwrap();
    let ran = fed(&site, &["receive", "-"], &first).expect_code(3);
    assert!(ran.stderr.contains("the seal names 1 volumes, the manifest"), "{ran}");
}

#[test]
fn what_a_stream_cannot_have_is_said() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    for (flag, value) in
        [("--media", "cd"), ("--recovery", "10%"), ("--volume", "1"), ("--with-importer", "release.yaml")]
    {
        let ran = run(&mut site.export(&["pack", "--output", "-", "--sequence", "1", flag, value])).expect_code(2);
        assert!(ran.stderr.contains(&format!("{flag} and --output -")), "{ran}");
        assert!(ran.stdout.is_empty());
    }
    let both = run(site.import(&["receive", "-"]).arg(site.media())).expect_code(2);
    assert!(both.stderr.contains("`-` reads one stream"), "{both}");
}

/// What was cut is sent again under the same number and id; until the seal has come it holds no number.
#[test]
fn a_stream_that_broke_is_sent_again() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let digest = large(&mut site);
    let proxy = testkit::Proxy::before(&site.origin);
    let direct = site.release.clone();
    let at_proxy = site.release["images"][0].as_str().unwrap().replace(site.origin.host(), proxy.host());
    site.release["images"][0] = at_proxy.into();
    for part in ["origins", "to"] {
        let value = &mut site.import["streams"]["payments"][part][0];
        let slot = if part == "to" { &mut value["from"] } else { value };
        *slot = format!("{}/payments", proxy.host()).into();
    }
    proxy.rule(testkit::Rule::new(testkit::Fault::status(403)).method("GET").path("/blobs/").nth(3));
    let to = site.scratch("stream").join("cut");
    let (code, said) = run_into(&mut site.export(&["pack", "--output", "-", "--sequence", "1"]), &to);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the same command sends it again"), "{said}");
    let cut = std::fs::read(&to).unwrap();
    let record = site.export_dir().join("home/.local/state/sealift/bundles/payments-1/record.json");
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    fed(&site, &["receive", "-"], &cut).expect_code(4);
    proxy.clear();
    let whole = sent(&site, 1);
    // Whoever holds the number now is the first that is sealed.
    let begun = run(&mut site.import(&["ledger", "list", "--json"])).expect_code(0);
    assert!(!begun.stdout.contains("payments"), "{begun}");
    fed(&site, &["receive", "-"], &whole).expect_code(0);
    is_in_production(&site, &digest);
    let manifest = |bytes: &[u8]| {
        let folder = site.scratch("opened");
        std::fs::write(folder.join("payments-1.0001.tar.zst.age"), bytes).unwrap();
        Opened::open(&folder, 1, &site.identity).manifest()
    };
    assert_eq!(manifest(&whole)["bundle"], record["bundle"], "what was begun goes on under its id");
    let again = sent(&site, 1);
    assert_eq!(manifest(&whole), manifest(&again), "the same bundle each time");
    site.release = direct;
}

/// What could not be kept on this side is not the stream's fault.
#[test]
fn a_full_folder_for_temporary_files_is_said() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    large(&mut site);
    let stream = sent(&site, 1);
    let from = site.scratch("stream").join("whole");
    std::fs::write(&from, &stream).unwrap();
    let mut command = site.import(&["receive", "-"]);
    command.stdin(File::open(from).unwrap()).env("TMPDIR", "/nonexistent");
    let ran = run(&mut command).expect_code(1);
    assert!(ran.stderr.contains("temporary files cannot be written") && ran.stderr.contains("TMPDIR"), "{ran}");
    // No file may grow beyond 8 KiB.
    let mut command = testkit::command("bash", &site.scratch("limited"));
    const LIMITED: &str = "trap '' XFSZ; ulimit -f 8; exec \"$@\"";
    let importer = testkit::sealift_import(&site.scratch("limited"));
    command.args(["-c", LIMITED, "bash"]).arg(importer.get_program()).args(["verify", "-", "--config"]);
    command.arg(site.import_dir().join("import.yaml")).stdin(File::open(site.scratch("stream").join("whole")).unwrap());
    let ran = run(&mut command).expect_code(1);
    assert!(ran.stdout.contains("temporary files cannot be written"), "{ran}");
}

#[test]
fn a_plan_for_a_folder_is_not_streamed() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    large(&mut site);
    let plan = site.scratch("plans").join("plan");
    run(site.export(&["plan", "--sequence", "1", "--volume-size", "1MiB", "--write"]).arg(&plan)).expect_code(0);
    let ran = run(site.export(&["pack", "--output", "-"]).arg(&plan)).expect_code(2);
    assert!(ran.stderr.contains("and a stream is one"), "{ran}");
}

/// Sent as a stream after it was packed into a folder, it is still known what lies in the folder.
#[test]
fn a_bundle_that_is_sent_too_can_be_made_again() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let bundle = site.packed(1);
    sent(&site, 1);
    site.pack(1, &["--volume", "1"]).expect_code(0);
    let again = site.media().join("payments-1.revision-3");
    run(site.import(&["verify"]).arg(&bundle).arg(&again)).expect_code(0);
}

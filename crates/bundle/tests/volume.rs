//! A volume, written and read, against stock tools and against damage.

mod common;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use blobs::sha256;
use bundle::{Content, Identities, Recipients, VolumeError, VolumeReader, VolumeWriter};

/// Names and contents.
type Entries = Vec<(String, Vec<u8>)>;

struct Fixture {
    dir: tempfile::TempDir,
    identities: Identities,
    recipients: Recipients,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let (recipient, identities) = common::identity(dir.path());
        Self { dir, identities, recipients: Recipients::parse([recipient.as_str()]).expect("a recipient") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, entries: &[(String, Vec<u8>)]) -> (PathBuf, manifest_schema::Digest) {
        let path = self.path("volume");
        let file = File::create(&path).expect("created");
        let mut writer = VolumeWriter::new(Box::new(file), &self.recipients, 0).expect("begun");
        for (name, content) in entries {
            let kind = if name.ends_with("compressed") { Content::Compressed } else { Content::Plain };
            writer.entry(name, content.len() as u64, kind, content.as_slice()).expect("written");
        }
        let (digest, size) = writer.finish().expect("finished");
        assert_eq!(size, path.metadata().expect("there").len());
        (path, digest)
    }

    fn read(&self, path: &Path, ahead: bool) -> Result<(Entries, manifest_schema::Digest), VolumeError> {
        let mut reader = VolumeReader::open(Box::new(File::open(path).expect("open")), &self.identities, ahead)?;
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            let mut content = Vec::new();
            if let Err(e) = reader.content().read_to_end(&mut content) {
                return Err(VolumeError::Corrupt(e.to_string()));
            }
            entries.push((String::from_utf8(entry.name).expect("text"), content));
        }
        Ok((entries, reader.finish()?))
    }
}

/// Bytes that do not compress.
fn noise(n: usize) -> Vec<u8> {
    let mut state = 1_u64;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

fn entries() -> Entries {
    let mut gzip = vec![0x1f, 0x8b];
    gzip.extend(noise(3_000_000));
    vec![
        ("sealift/manifest.json".into(), b"{}".to_vec()),
        ("empty".into(), Vec::new()),
        (format!("blobs/sha512/{}", "ab".repeat(64)), vec![b'x'; 1_000_000]),
        ("blobs/sha256/compressed".into(), gzip),
        ("blobs/sha256/plain".into(), vec![7; 512 * 3]),
    ]
}

#[test]
fn a_volume_reads_back_as_written() {
    let fixture = Fixture::new();
    let entries = entries();
    let (path, digest) = fixture.write(&entries);
    assert_eq!(digest, sha256(&std::fs::read(&path).expect("read")));
    for ahead in [false, true] {
        let (read, found) = fixture.read(&path, ahead).expect("read");
        assert!(read == entries);
        assert_eq!(found, digest);
    }
    // What is compressed already grows by less than a per mille; the rest shrinks.
    assert!(path.metadata().expect("there").len() < 3_020_000);
}

#[test]
fn stock_tools_open_a_volume() {
    for tool in ["age", "zstd", "tar"] {
        if Command::new(tool).arg("--version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "{tool} is missing");
            println!("skipped: {tool} is not installed");
            return;
        }
    }
    let fixture = Fixture::new();
    let entries = entries();
    fixture.write(&entries);
    let script = "set -eo pipefail; age -d -i enclave.key volume | zstd -d | tar -x -C out";
    std::fs::create_dir(fixture.path("out")).expect("made");
    let status = Command::new("bash").args(["-c", script]).current_dir(fixture.dir.path()).status().expect("run");
    assert!(status.success());
    for (name, content) in &entries {
        assert!(std::fs::read(fixture.path("out").join(name)).expect(name) == *content, "{name}");
    }
}

#[test]
fn a_damaged_volume_is_never_read_to_its_end() {
    let fixture = Fixture::new();
    let (path, _) = fixture.write(&entries());
    let good = std::fs::read(&path).expect("read");
    let broken = fixture.path("broken");
    for cut in [0, 10, 150, 200, 65_536, good.len() / 2, good.len() - 20, good.len() - 1] {
        std::fs::write(&broken, &good[..cut]).expect("written");
        assert!(fixture.read(&broken, true).is_err(), "cut at {cut}");
    }
    for at in [0, 30, 120, 180, 300, 70_000, good.len() / 2, good.len() - 1] {
        let mut flipped = good.clone();
        flipped[at] ^= 4;
        std::fs::write(&broken, &flipped).expect("written");
        assert!(fixture.read(&broken, false).is_err(), "flipped at {at}");
    }
    std::fs::write(&broken, [good.as_slice(), b"x"].concat()).expect("written");
    assert!(fixture.read(&broken, true).is_err(), "a byte more");
    std::fs::write(&broken, [good.as_slice(), &good].concat()).expect("written");
    assert!(fixture.read(&broken, true).is_err(), "twice");
}

#[test]
fn another_identity_does_not_open_it() {
    let fixture = Fixture::new();
    let (path, _) = fixture.write(&entries());
    let other = Fixture::new();
    assert!(matches!(other.read(&path, false), Err(VolumeError::NoIdentity)));
}

#[test]
fn bytes_behind_the_archive_are_refused() {
    let fixture = Fixture::new();
    let (path, _) = fixture.write(&entries());
    let plain = |input: &[u8], program: &str, args: &[&str]| {
        let mut child =
            Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run");
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || stdin.write_all(&input));
        let out = child.wait_with_output().expect("output").stdout;
        let _ = feeder.join();
        out
    };
    if Command::new("age").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "age is missing");
        println!("skipped: age is not installed");
        return;
    }
    let key = fixture.path("enclave.key");
    let key = key.to_str().expect("a path");
    let recipient = &fixture.identities.recipients()[0];
    let compressed = plain(&std::fs::read(&path).expect("read"), "age", &["-d", "-i", key]);
    let smuggled = [
        ("after the compressed data", [compressed.as_slice(), b"hidden"].concat()),
        ("another frame", [compressed.as_slice(), &plain(b"hidden", "zstd", &["-c"])].concat()),
        ("another archive", [compressed.as_slice(), &compressed].concat()),
    ];
    for (what, bytes) in smuggled {
        let bad = fixture.path("bad");
        std::fs::write(&bad, plain(&bytes, "age", &["-r", recipient])).expect("written");
        assert!(fixture.read(&bad, true).is_err(), "{what}");
    }
}

#[test]
fn a_window_larger_than_the_limit_is_refused() {
    let fixture = Fixture::new();
    let (bad, input) = (fixture.path("bad"), fixture.path("input"));
    if Command::new("age").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "age is missing");
        println!("skipped: age is not installed");
        return;
    }
    // A frame that announces a window of 1 GiB.
    std::fs::write(&input, noise(1 << 20)).expect("written");
    let script = format!(
        "zstd --ultra --long=30 -c < '{}' | age -r {} > '{}'",
        input.display(),
        fixture.identities.recipients()[0],
        bad.display()
    );
    assert!(Command::new("bash").args(["-c", &script]).status().expect("run").success());
    let error = fixture.read(&bad, false).expect_err("refused");
    assert!(error.to_string().contains("memory"), "{error}");
}

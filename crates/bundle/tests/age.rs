//! Volumes against the age library and, in both directions, the age program: header by the library, payload by this crate.

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use bundle::{Content, Identities, Recipients, VolumeReader, VolumeWriter};

/// Around the sizes at which chunks (64 KiB) and buffers (256 KiB) end.
fn sizes() -> impl Iterator<Item = usize> {
    const CHUNK: usize = 64 << 10;
    // What header, padding and end of the archive take of a chunk, and what zstd's raw blocks take.
    let around = |end: usize| (0..=1).map(move |over| end + over);
    [0, CHUNK, 4 * CHUNK, 8 * CHUNK].into_iter().flat_map(around).chain([3_000_001])
}

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

struct Fixture {
    dir: tempfile::TempDir,
    recipient: String,
    identities: Identities,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let (recipient, identities) = common::identity(dir.path());
        Self { dir, recipient, identities }
    }

    fn volume(&self, size: usize) -> std::path::PathBuf {
        let path = self.dir.path().join("volume");
        let file = std::fs::File::create(&path).expect("created");
        let recipients = Recipients::parse([self.recipient.as_str()]).expect("a recipient");
        let mut writer = VolumeWriter::new(Box::new(file), &recipients, 0).expect("begun");
        writer.entry("it", size as u64, Content::Compressed, content(size).as_slice()).expect("written");
        writer.finish().expect("finished");
        path
    }

    fn read(&self, ciphertext: &Path) -> Vec<u8> {
        let file = std::fs::File::open(ciphertext).expect("open");
        let mut reader = VolumeReader::open(Box::new(file), &self.identities, true).expect("opened");
        reader.next_entry().expect("read").expect("an entry");
        let mut found = Vec::new();
        reader.content().read_to_end(&mut found).expect("read");
        reader.finish().expect("whole");
        found
    }
}

#[test]
fn the_library_reads_what_is_written_here_and_the_other_way_round() {
    let fixture = Fixture::new();
    let key = std::fs::read_to_string(fixture.dir.path().join("enclave.key")).expect("read");
    let line = key.lines().find(|line| line.starts_with("AGE-SECRET")).expect("a key");
    let identity: age::x25519::Identity = line.parse().expect("a key");
    for size in sizes() {
        let ciphertext = std::fs::read(fixture.volume(size)).expect("read");
        let plain = age::decrypt(&identity, &ciphertext).expect("opened by the library");
        let archive = zstd::decode_all(plain.as_slice()).expect("zstd");
        assert!(archive[512..512 + size] == content(size), "{size}");

        let path = fixture.dir.path().join("theirs");
        std::fs::write(&path, age::encrypt(&identity.to_public(), &plain).expect("encrypted")).expect("written");
        assert!(fixture.read(&path) == content(size), "{size}");
    }
}

#[test]
fn the_program_reads_what_is_written_here_and_the_other_way_round() {
    if Command::new("age").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "age is missing");
        println!("skipped: age is not installed");
        return;
    }
    let fixture = Fixture::new();
    let age = |arguments: &[&str], input: &[u8]| {
        let mut command = Command::new("age");
        let command = command.args(arguments).current_dir(fixture.dir.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run");
        let mut stdin = child.stdin.take().expect("stdin");
        std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input));
            let output = child.wait_with_output().expect("run");
            assert!(output.status.success());
            output.stdout
        })
    };
    for size in sizes() {
        let ciphertext = std::fs::read(fixture.volume(size)).expect("read");
        let plain = age(&["-d", "-i", "enclave.key"], &ciphertext);
        let archive = zstd::decode_all(plain.as_slice()).expect("zstd");
        assert!(archive[512..512 + size] == content(size), "{size}");

        let path = fixture.dir.path().join("theirs");
        std::fs::write(&path, age(&["-r", &fixture.recipient], &plain)).expect("written");
        assert!(fixture.read(&path) == content(size), "{size}");
    }
}

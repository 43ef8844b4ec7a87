//! Recovery data against stock `par2`, damage, and files made to mislead.

mod damage;
mod hostile;
mod stock;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use blobs::sha256;
use bundle::Folder;
use bundle::recovery::{
    Assessment, FAT32_FILE, Options, RecoveryError, RecoveryFile, Repaired, Share, assess, bound, create, repair,
};
use manifest_schema::Digest;
use md5::{Digest as _, Md5};
use testkit::tools::{command, need, run, run_ok};

const NAME: &str = "payments-42.0001.tar.zst.age";
const SLICE: usize = 16 << 10;

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(n).collect()
    }
}

fn options(percent: u8) -> Options {
    Options { share: Share::percent(percent).expect("a share"), max_file: FAT32_FILE, jobs: 2 }
}

/// A folder with a volume and its recovery files.
struct Fixture {
    dir: tempfile::TempDir,
    good: Vec<u8>,
    recovery: Vec<RecoveryFile>,
}

impl Fixture {
    fn new(size: usize, options: Options) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let good = Random(size as u64 + 1).bytes(size);
        std::fs::write(dir.path().join(NAME), &good).expect("written");
        let volume = File::open(dir.path().join(NAME)).expect("open");
        let recovery = create(&volume, NAME, dir.path(), options, |_| ()).expect("created");
        Self { dir, good, recovery }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn names(&self) -> Vec<&str> {
        self.recovery.iter().map(|r| r.name.as_str()).collect()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("read")
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).expect("written");
    }

    /// Changes a file.
    fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.read(name);
        change(&mut bytes);
        self.write(name, &bytes);
    }

    /// Damages one byte of each of the first slices.
    fn damage_slices(&self, slices: usize) {
        self.damage(NAME, |bytes| (0..slices).for_each(|n| bytes[n * SLICE + 77] ^= 1));
    }

    fn folder(&self) -> Folder {
        Folder::open(self.dir.path()).expect("open")
    }

    fn assess(&self) -> Result<Assessment, RecoveryError> {
        assess(&self.folder(), NAME, &self.names(), |_| ())
    }

    fn repair(&self) -> Result<Repaired, RecoveryError> {
        self.repair_with(&self.names(), sha256(&self.good))
    }

    fn repair_with(&self, recovery: &[&str], sealed: Digest) -> Result<Repaired, RecoveryError> {
        repair(&self.folder(), NAME, recovery, sealed, 2, |_| ())
    }

    fn everything(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(self.dir.path()).expect("read");
        let names = entries.map(|e| e.expect("an entry").file_name().into_string().expect("text"));
        names.filter(|n| self.path(n).is_file()).map(|n| (n.clone(), self.read(&n))).collect()
    }

    /// Repairs, and demands that the volume is whole and nothing else changed.
    #[track_caller]
    fn expect_repaired(&self, rebuilt: usize) {
        let mut expected = self.everything();
        assert_eq!(self.repair().expect("repaired"), Repaired { rebuilt, size: self.good.len() as u64 });
        expected.insert(NAME.into(), self.good.clone());
        assert!(self.everything() == expected, "a file is not as it should be");
    }

    /// Tries to repair, and demands that nothing changed.
    #[track_caller]
    fn expect_refused(&self) -> RecoveryError {
        let before = self.everything();
        let error = self.repair().expect_err("refused");
        assert!(self.everything() == before, "something changed: {error}");
        error
    }
}

/// `par2` in a folder.
fn par2(fixture: &Fixture, args: &[&str]) -> std::process::Command {
    let mut par2 = command("par2", fixture.dir.path());
    par2.args(args).current_dir(fixture.dir.path());
    par2
}

//! Recovery data against stock `par2`, damage, and files made to mislead.

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

#[test]
fn stock_par2_verifies_and_repairs_with_our_files() {
    if !need(&["par2"]) {
        return;
    }
    let sizes = [1, 3, SLICE - 1, SLICE, SLICE + 1, 1_200_001, 17 << 20];
    for (size, max_file) in sizes.map(|s| (s, FAT32_FILE)).into_iter().chain([(1_200_001, 60_000)]) {
        let fixture = Fixture::new(size, Options { max_file, ..options(10) });
        let first = fixture.names()[0];
        run_ok(&mut par2(&fixture, &["verify", first]));
        fixture.damage(NAME, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x80;
        });
        assert_eq!(run(&mut par2(&fixture, &["verify", first])).code, Some(1), "{size}: repairable");
        run_ok(&mut par2(&fixture, &["repair", first]));
        assert!(fixture.read(NAME) == fixture.good, "{size}");
    }
}

#[test]
fn stock_par2_makes_a_missing_volume_from_a_full_share() {
    if !need(&["par2"]) {
        return;
    }
    let fixture = Fixture::new(1_200_001, Options { max_file: 200_000, ..options(100) });
    std::fs::remove_file(fixture.path(NAME)).expect("removed");
    run_ok(&mut par2(&fixture, &["repair", fixture.names()[3]]));
    assert!(fixture.read(NAME) == fixture.good);
}

#[test]
fn files_that_stock_par2_made_repair_a_volume() {
    if !need(&["par2"]) {
        return;
    }
    for arguments in [&["-s4096", "-r20"][..], &["-b100", "-r20", "-n3"], &["-r20"]] {
        let mut fixture = Fixture::new(1_200_001, options(10));
        let ours = std::mem::take(&mut fixture.recovery);
        ours.iter().for_each(|r| std::fs::remove_file(fixture.path(&r.name)).expect("removed"));
        run_ok(&mut par2(&fixture, &[&["create"], arguments, &["payments-42.0001.par2", NAME]].concat()));
        let names: Vec<_> = fixture.everything().into_keys().filter(|n| n.ends_with(".par2")).collect();
        fixture.damage(NAME, |bytes| bytes[300_000..350_000].fill(7));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let repaired = fixture.repair_with(&names, sha256(&fixture.good)).expect("repaired");
        assert!(repaired.rebuilt > 0);
        assert!(fixture.read(NAME) == fixture.good, "{arguments:?}");
    }
}

#[test]
fn output_is_the_same_every_time_and_within_its_bound() {
    for (size, percent, max_file) in [
        (1, 1, FAT32_FILE),
        (70_000, 50, 40_000),
        (1_200_001, 10, FAT32_FILE),
        (1_200_001, 100, 100_000),
        (17 << 20, 3, 200_000),
    ] {
        let wanted = Options { max_file, ..options(percent) };
        let one = Fixture::new(size, Options { jobs: 1, ..wanted });
        let two = Fixture::new(size, wanted);
        assert_eq!(one.recovery, two.recovery);
        assert!(one.everything() == two.everything());
        for file in &one.recovery {
            let bytes = one.read(&file.name);
            assert_eq!((file.size, file.digest), (bytes.len() as u64, sha256(&bytes)));
            assert!(file.size <= max_file);
        }
        let bound = bound(size as u64, wanted.share, max_file).expect("a bound");
        let total: u64 = one.recovery.iter().map(|r| r.size).sum();
        assert!(total <= bound.bytes && one.recovery.len() as u64 <= bound.files, "{total} {bound:?}");
        assert!(one.assess().expect("assessed").is_intact());
    }
}

#[test]
fn names_are_those_that_stock_par2_looks_for() {
    let fixture = Fixture::new(1_200_001, Options { max_file: 45_000, ..options(10) });
    let numbers = ["000+002", "002+002", "004+002", "006+002"];
    assert_eq!(fixture.names(), numbers.map(|n| format!("payments-42.0001.vol{n}.par2")));
}

#[test]
fn nothing_stays_behind_when_recovery_files_cannot_be_made() {
    let fixture = Fixture::new(300_000, options(10));
    let volume = File::open(fixture.path(NAME)).expect("open");
    let make = |name: &str, max_file| {
        create(&volume, name, fixture.dir.path(), Options { max_file, ..options(100) }, |_| ()).expect_err("refused")
    };
    // The last of the new names is taken.
    fixture.write("payments-42.0001.vol016+003.par2", b"mine");
    let before = fixture.everything();
    let error = make(NAME, 80_000);
    assert!(
        matches!(&error, RecoveryError::Write { path, .. } if path.ends_with("payments-42.0001.vol016+003.par2")),
        "{error}"
    );
    assert!(matches!(make(NAME, 10_000), RecoveryError::MaxFile { limit: 10_000, .. }));
    for name in ["volume", "../a-1.0001.tar.zst.age", "payments-42.0001.tar.zst.age.repairing", ""] {
        assert!(matches!(make(name, FAT32_FILE), RecoveryError::Name(_)));
    }
    let empty = tempfile::tempfile().expect("a file");
    let made = create(&empty, NAME, fixture.dir.path(), options(10), |_| ());
    assert!(matches!(made, Err(RecoveryError::Empty(_))));
    assert!(fixture.everything() == before);
}

#[test]
fn progress_adds_up_to_two_readings() {
    let fixture = Fixture::new(1_200_001, options(10));
    let elsewhere = tempfile::tempdir().expect("a folder");
    let volume = File::open(fixture.path(NAME)).expect("open");
    for jobs in [1, 2] {
        let mut told = 0;
        let options = Options { jobs, ..options(10) };
        let made = create(&volume, NAME, elsewhere.path(), options, |n| told += n).expect("created");
        assert_eq!(told, 2_400_002);
        made.iter().for_each(|r| std::fs::remove_file(elsewhere.path().join(&r.name)).expect("removed"));
    }
    let mut told = 0;
    let _ = assess(&fixture.folder(), NAME, &fixture.names(), |n| told += n).expect("assessed");
    assert_eq!(told, 1_200_001 + fixture.recovery.iter().map(|r| r.size).sum::<u64>());
}

#[test]
fn every_kind_of_damage_is_found_and_mended() {
    type Damage = (&'static str, usize, fn(&mut Vec<u8>));
    let kinds: [Damage; 9] = [
        ("none", 0, |_| ()),
        ("a bit in the first byte", 1, |b| b[0] ^= 1),
        ("a bit in the last byte", 1, |b| *b.last_mut().expect("a byte") ^= 0x80),
        ("zeroed sectors on the border of two slices", 2, |b| b[SLICE - 4096..SLICE + 4096].fill(0)),
        ("one byte cut off", 1, |b| _ = b.pop()),
        ("three slices cut off", 3, |b| b.truncate(71 * SLICE)),
        ("bytes added", 0, |b| b.extend_from_slice(&[0; 5000])),
        ("one byte put in near the end", 3, |b| b.insert(71 * SLICE + 5, 9)),
        ("slices swapped", 2, |b| {
            let (one, two) = b.split_at_mut(10 * SLICE);
            one[..SLICE].swap_with_slice(&mut two[..SLICE]);
        }),
    ];
    for (kind, damaged, change) in kinds {
        let fixture = Fixture::new(1_200_001, options(10));
        fixture.damage(NAME, change);
        let found = fixture.assess().expect("assessed");
        assert_eq!((found.slices, found.damaged, found.usable, found.size), (74, damaged, 8, 1_200_001), "{kind}");
        assert_eq!(found.found_size, Some(fixture.read(NAME).len() as u64), "{kind}");
        assert_eq!((found.is_intact(), found.is_repairable()), (kind == "none", true), "{kind}");
        fixture.expect_repaired(damaged);
    }
}

#[test]
fn a_missing_or_empty_volume_is_made_from_a_full_share() {
    for max_file in [FAT32_FILE, 300_000] {
        let fixture = Fixture::new(1_200_001, Options { max_file, ..options(100) });
        std::fs::remove_file(fixture.path(NAME)).expect("removed");
        let found = fixture.assess().expect("assessed");
        assert_eq!((found.damaged, found.usable, found.found_size), (74, 74, None));
        fixture.expect_repaired(74);
        fixture.write(NAME, b"");
        fixture.expect_repaired(74);
    }
}

#[test]
fn as_many_slices_as_promised_are_mended_and_not_one_more() {
    for size in [1_200_001, 20 << 20] {
        let fixture = Fixture::new(size, options(10));
        let (slices, usable) = fixture.assess().map(|a| (a.slices, a.usable)).expect("assessed");
        assert!(usable * 10 >= slices);
        let slice = fixture.assess().expect("assessed").slice_size as usize;
        let damage = |n| fixture.damage(NAME, |bytes| (0..n).for_each(|n| bytes[n * slice + 77] ^= 1));
        damage(usable);
        fixture.expect_repaired(usable);
        damage(usable + 1);
        assert!(!fixture.assess().expect("assessed").is_repairable());
        let error = fixture.expect_refused().to_string();
        assert_eq!(error, format!("{NAME}: needs {} recovery blocks, {usable} are usable", usable + 1));
    }
}

#[test]
fn recovery_files_may_be_damaged_too() {
    let fixture = Fixture::new(1_200_001, Options { max_file: 45_000, ..options(10) });
    let names: Vec<String> = fixture.names().into_iter().map(String::from).collect();
    // One block, one description, the whole of a file but its last description, one file gone.
    fixture.damage(&names[0], |bytes| bytes[10_000] ^= 1);
    fixture.damage(&names[1], |bytes| bytes[..500].fill(0));
    fixture.damage(&names[2], |bytes| {
        let keep = bytes.len() - 2500;
        bytes[..keep].fill(0);
    });
    std::fs::remove_file(fixture.path(&names[3])).expect("removed");
    assert_eq!(fixture.assess().expect("assessed").usable, 3);
    fixture.damage_slices(3);
    fixture.expect_repaired(3);
    fixture.damage_slices(4);
    assert!(matches!(fixture.expect_refused(), RecoveryError::TooFew { needed: 4, usable: 3, .. }));
    // A checksum within the first description: the next copy counts.
    fixture.write(NAME, &fixture.good);
    fixture.damage(&names[0], |bytes| bytes[400] ^= 1);
    assert_eq!(fixture.assess().expect("assessed").damaged, 0);
    // Bytes put in before all else: packets are found wherever they are.
    fixture.damage(&names[0], |bytes| drop(bytes.splice(..0, *b"PAR2\0PKTPAR2")));
    assert_eq!(fixture.assess().expect("assessed").usable, 3);
    for name in &names[..3] {
        fixture.damage(name, |bytes| bytes.iter_mut().for_each(|b| *b = !*b));
    }
    let error = fixture.expect_refused();
    assert_eq!(error.to_string(), format!("no recovery file has an intact description of `{NAME}`"));
}

#[test]
fn one_bad_sector_never_takes_all_descriptions() {
    let fixture = Fixture::new(1_200_001, options(1));
    let name = fixture.names()[0];
    let good = fixture.read(name);
    for sector in (0..good.len()).step_by(4096) {
        let end = good.len().min(sector + 4096);
        let mut bytes = good.clone();
        bytes[sector..end].fill(0);
        fixture.write(name, &bytes);
        let found = fixture.assess().unwrap_or_else(|e| panic!("sector at {sector}: {e}"));
        assert!(found.is_intact() && found.usable <= 1);
    }
}

#[test]
fn what_is_not_the_sealed_volume_is_never_put_in_place() {
    // A complete, consistent set for other content under the same name.
    let fixture = Fixture::new(1_200_001, options(10));
    fixture.damage_slices(2);
    let before = fixture.everything();
    let other = sha256(b"another volume");
    let error = fixture.repair_with(&fixture.names(), other).expect_err("refused");
    assert!(matches!(error, RecoveryError::NotSealed { expected, found, .. }
        if expected == other && found == sha256(&fixture.good)));
    assert!(fixture.everything() == before);
    // Nor is an undamaged one of another seal taken for repaired.
    fixture.write(NAME, &fixture.good);
    assert!(matches!(fixture.repair_with(&fixture.names(), other), Err(RecoveryError::NotSealed { .. })));
    // SHA-512 seals work alike.
    assert!(matches!(
        fixture.repair_with(&fixture.names(), Digest::Sha512([0; 64])),
        Err(RecoveryError::NotSealed { .. })
    ));
}

#[test]
fn links_and_special_files_are_not_followed_or_written_through() {
    let fixture = Fixture::new(300_000, options(10));
    let outside = tempfile::tempdir().expect("a folder");
    let precious = outside.path().join("precious");
    std::fs::write(&precious, b"precious").expect("written");
    let repairing = fixture.path(&format!("{NAME}.repairing"));
    // A stale file, or a link, in the place of the temporary file is replaced.
    fixture.damage_slices(1);
    std::os::unix::fs::symlink(&precious, &repairing).expect("linked");
    let _ = fixture.repair().expect("repaired");
    assert_eq!(std::fs::read(&precious).expect("read"), b"precious");
    fixture.damage_slices(1);
    std::fs::write(&repairing, b"stale").expect("written");
    let _ = fixture.repair().expect("repaired");
    assert!(!repairing.exists() && fixture.read(NAME) == fixture.good);
    // A folder is not.
    fixture.damage_slices(1);
    std::fs::create_dir(&repairing).expect("made");
    assert!(matches!(fixture.expect_refused(), RecoveryError::Write { path, .. } if path == repairing));
    std::fs::remove_dir(&repairing).expect("removed");
    // The volume itself, and a recovery file.
    for name in [NAME, fixture.names()[0]] {
        let moved = outside.path().join("moved");
        std::fs::rename(fixture.path(name), &moved).expect("moved");
        std::os::unix::fs::symlink(&moved, fixture.path(name)).expect("linked");
        assert!(matches!(fixture.repair(), Err(RecoveryError::Folder(bundle::FolderError::Special { .. }))));
        std::fs::remove_file(fixture.path(name)).expect("removed");
        std::fs::rename(&moved, fixture.path(name)).expect("moved");
    }
    for name in ["precious", "../precious", "/etc/passwd", ""] {
        let sealed = sha256(&fixture.good);
        let refused = repair(&fixture.folder(), name, &fixture.names(), sealed, 1, |_| ());
        assert!(matches!(refused, Err(RecoveryError::Name(_))));
    }
    fixture.expect_repaired(1);
}

#[test]
fn two_repairs_do_not_meet_in_one_folder() {
    let fixture = Fixture::new(300_000, options(10));
    fixture.damage_slices(1);
    let other = File::open(fixture.dir.path()).expect("open");
    other.try_lock().expect("locked");
    assert!(matches!(fixture.expect_refused(), RecoveryError::Busy(_)));
    drop(other);
    fixture.expect_repaired(1);
    // The lock does not outlive a repair, though its folder stays open.
    let folder = fixture.folder();
    for sealed in [sha256(&fixture.good), sha256(b"")] {
        let _ = repair(&folder, NAME, &fixture.names(), sealed, 1, |_| ());
        assert!(fixture.repair().is_ok());
    }
}

const MAIN: &[u8; 16] = b"PAR 2.0\0Main\0\0\0\0";
const FILE: &[u8; 16] = b"PAR 2.0\0FileDesc";
const CHECKS: &[u8; 16] = b"PAR 2.0\0IFSC\0\0\0\0";
const BLOCK: &[u8; 16] = b"PAR 2.0\0RecvSlic";

fn md5(parts: &[&[u8]]) -> [u8; 16] {
    Md5::digest(parts.concat()).into()
}

/// A packet with a right hash.
fn packet(set: &[u8; 16], kind: &[u8; 16], body: &[u8]) -> Vec<u8> {
    let hash = md5(&[set, kind, body]);
    [b"PAR2\0PKT", &(64 + body.len() as u64).to_le_bytes()[..], &hash, set, kind, body].concat()
}

/// A set of its own, consistent in itself: what it says of the volume, with blocks of zeros.
fn set(slice: u64, size: u64, slices: usize, exponents: &[u32], block: usize) -> Vec<u8> {
    set_of(NAME, 1, slice, size, slices, exponents, block)
}

/// The same for a file of this name, said to be one of so many.
fn set_of(name: &str, files: u32, slice: u64, size: u64, slices: usize, exponents: &[u32], block: usize) -> Vec<u8> {
    let file = md5(&[&[7; 16], &size.to_le_bytes(), name.as_bytes()]);
    let main = [&slice.to_le_bytes()[..], &files.to_le_bytes(), &file].concat();
    let id = md5(&[&main]);
    let described = [&file[..], &[8; 16], &[7; 16], &size.to_le_bytes(), name.as_bytes()].concat();
    let checks = [&file[..], &vec![9; 20 * slices]].concat();
    let mut packets = [packet(&id, MAIN, &main), packet(&id, FILE, &described), packet(&id, CHECKS, &checks)].concat();
    for exponent in exponents {
        packets.extend(packet(&id, BLOCK, &[&exponent.to_le_bytes()[..], &vec![0; block]].concat()));
    }
    packets
}

/// The honest set's id.
fn set_id(recovery: &[u8]) -> [u8; 16] {
    recovery[32..48].try_into().expect("an id")
}

#[test]
fn hostile_packets_are_passed_over() {
    let fixture = Fixture::new(1_200_001, options(10));
    let honest = fixture.names()[0];
    let honest_bytes = fixture.read(honest);
    let id = set_id(&honest_bytes);
    let file = &honest_bytes[76..92];
    let length = |length: u64| [b"PAR2\0PKT", &length.to_le_bytes()[..], &[0; 112]].concat();
    let block =
        |exponent: u32, bytes: usize| packet(&id, BLOCK, &[&exponent.to_le_bytes()[..], &vec![3; bytes]].concat());
    let main = |slice: u64, files: u32, ids: usize| {
        let body = [&slice.to_le_bytes()[..], &files.to_le_bytes(), &vec![5; 16 * ids]].concat();
        packet(&md5(&[&body]), MAIN, &body)
    };
    let hostile: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("magic only", b"PAR2\0PKT".to_vec()),
        ("cut within a header", length(200)[..63].to_vec()),
        ("length 0", length(0)),
        ("length below a header", length(60)),
        ("length of a header", length(64)),
        ("length not a multiple of 4", length(66)),
        ("length beyond the file", length(1 << 20)),
        ("length 2^60", length(1 << 60)),
        ("length 2^64 - 4", length(u64::MAX - 3)),
        ("blocks beyond the file", {
            let header = |length: u64| [b"PAR2\0PKT", &length.to_le_bytes()[..], &[0; 32], BLOCK, &[0; 8]].concat();
            [header(1 << 60), header(u64::MAX - 3)].concat()
        }),
        ("headers within headers", length(100_000).repeat(2000)),
        ("magic all over", b"PAR2\0PKT".repeat(50_000)),
        ("an exponent out of range", block(65535, SLICE)),
        ("the largest exponent", block(u32::MAX, SLICE)),
        ("a block too short", block(9, SLICE - 4)),
        ("a block too long", block(9, SLICE + 4)),
        ("an empty block", block(9, 0)),
        ("a block without exponent", packet(&id, BLOCK, &[])),
        ("a block of another set", packet(&[1; 16], BLOCK, &vec![0; SLICE + 4])),
        ("slices of size 0", main(0, 1, 1)),
        ("slices of an odd size", main(6, 1, 1)),
        ("no files", main(16384, 0, 0)),
        ("2^32 files", main(16384, u32::MAX, 1)),
        ("two files", main(16384, 2, 2)),
        ("an empty main packet", packet(&md5(&[]), MAIN, &[])),
        ("a main packet under the id of another set", packet(&id, MAIN, &main(4, 1, 1)[64..])),
        ("a file of another size under the same id", {
            let described = [file, &[8; 16], &[7; 16], &5u64.to_le_bytes(), NAME.as_bytes()].concat();
            packet(&id, FILE, &described)
        }),
        ("all of another file", set_of("payments-42.0002.tar.zst.age", 1, 4, 40, 10, &[0, 1], 4)),
        ("all of a set of two files", set_of(NAME, 2, 4, 40, 10, &[0, 1], 4)),
        ("all with slices of size 0", set(0, 40, 10, &[0, 1], 4)),
        ("all with slices of an odd size", set(6, 60, 10, &[0, 1], 6)),
        ("all with 3000 slices", set(4, 12_000, 3000, &[0, 1], 4)),
        ("an empty file description", packet(&id, FILE, &[])),
        ("a nameless file", packet(&id, FILE, &[0; 56])),
        ("a name of zeros", packet(&id, FILE, &[0; 64])),
        ("empty checksums", packet(&id, CHECKS, &[])),
        ("checksums of no slice", packet(&id, CHECKS, &[0; 16])),
        ("half a checksum", packet(&id, CHECKS, &[0; 28])),
        ("3000 checksums", packet(&id, CHECKS, &[0; 16 + 20 * 3000])),
        ("a set of 2^60 bytes, one slice", set(1 << 60, 1 << 60, 1, &[0], 4)),
        ("a set of 2^64 - 1 bytes", set(1 << 63, u64::MAX, 2, &[0, 1], 4)),
        ("no bytes at all", set(4, 0, 0, &[0], 4)),
        ("a slice much larger than the volume", set(1 << 40, 10, 1, &[0], 4)),
        ("fewer slices than bytes need", set(4, 1_200_001, 3, &[0, 1, 2], 4)),
        ("a set with more blocks", set(16384, 1_200_001, 74, &(0..20).collect::<Vec<_>>(), SLICE)),
        ("forty sets", (1..40).flat_map(|n| set(4 * n, 4 * n, 1, &[0], 4)).collect()),
    ];
    for (what, bytes) in hostile {
        fixture.write("hostile.par2", &bytes);
        for names in [["hostile.par2", honest], [honest, "hostile.par2"]] {
            // A complete set in a file named first does stand in the way of the honest one. It still does no harm.
            if (what.starts_with("a set") || what == "forty sets") && names[0] == "hostile.par2" {
                let _ = assess(&fixture.folder(), NAME, &names, |_| ());
                continue;
            }
            let found = assess(&fixture.folder(), NAME, &names, |_| ()).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!((found.slices, found.damaged, found.usable), (74, 0, 8), "{what}");
        }
        // Honest packets behind them are found, unless looking for them takes too long.
        if !["headers within headers", "magic all over", "forty sets"].contains(&what) && !what.starts_with("a set") {
            fixture.write("both.par2", &[&bytes[..], &honest_bytes].concat());
            let found = assess(&fixture.folder(), NAME, &["both.par2"], |_| ()).expect(what);
            assert_eq!((found.slices, found.damaged, found.usable), (74, 0, 8), "{what}");
            std::fs::remove_file(fixture.path("both.par2")).expect("removed");
        }
        fixture.damage_slices(8);
        let _ = fixture.repair_with(&[honest, "hostile.par2"], sha256(&fixture.good)).expect(what);
        assert!(fixture.read(NAME) == fixture.good, "{what}");
        // On their own they achieve nothing.
        fixture.damage_slices(8);
        let before = fixture.everything();
        assert!(fixture.repair_with(&["hostile.par2"], sha256(&fixture.good)).is_err(), "{what}");
        assert!(fixture.everything() == before, "{what}");
        fixture.write(NAME, &fixture.good);
    }
}

#[test]
fn blocks_that_come_twice_count_once_and_lies_change_nothing() {
    let fixture = Fixture::new(1_200_001, options(10));
    let honest = fixture.names()[0];
    let bytes = fixture.read(honest);
    let id = set_id(&bytes);
    fixture.write("copy.par2", &bytes.repeat(3));
    let count = |names: &[&str]| assess(&fixture.folder(), NAME, names, |_| ()).expect("assessed").usable;
    assert_eq!(count(&["copy.par2", honest, honest]), 8);
    // Blocks that nobody calculated, of the right set, size and exponents.
    let lies: Vec<u8> =
        (0..60u32).flat_map(|e| packet(&id, BLOCK, &[&e.to_le_bytes()[..], &vec![0x5A; SLICE]].concat())).collect();
    fixture.write("lies.par2", &lies);
    assert_eq!(count(&["lies.par2", honest]), 60);
    fixture.damage_slices(8);
    let before = fixture.everything();
    let refused = fixture.repair_with(&["lies.par2", honest], sha256(&fixture.good));
    assert!(matches!(refused, Err(RecoveryError::NotSealed { .. })));
    assert!(fixture.everything() == before);
    let _ = fixture.repair_with(&[honest, "lies.par2"], sha256(&fixture.good)).expect("repaired");
    // Checksums that nobody calculated.
    let slices = packet(&id, CHECKS, &[&bytes[76..92], &vec![1; 20 * 74]].concat());
    fixture.write("lies.par2", &slices);
    let found = assess(&fixture.folder(), NAME, &["lies.par2", honest], |_| ()).expect("assessed");
    assert_eq!(found.damaged, 74);
    // A set that praises what is there: no damage is found, and still it is not the sealed volume.
    fixture.damage_slices(1);
    let elsewhere = tempfile::tempdir().expect("a folder");
    let volume = File::open(fixture.path(NAME)).expect("open");
    let praise = create(&volume, NAME, elsewhere.path(), options(10), |_| ()).expect("created");
    std::fs::copy(elsewhere.path().join(&praise[0].name), fixture.path("lies.par2")).expect("copied");
    let before = fixture.everything();
    assert!(assess(&fixture.folder(), NAME, &["lies.par2"], |_| ()).expect("assessed").is_intact());
    let refused = fixture.repair_with(&["lies.par2"], sha256(&fixture.good));
    assert!(matches!(refused, Err(RecoveryError::NotSealed { .. })));
    assert!(fixture.everything() == before);
}

#[test]
fn random_damage_is_mended_or_nothing_changes() {
    let fixture = Fixture::new(600_001, Options { max_file: 50_000, ..options(30) });
    let good = fixture.everything();
    let mut random = Random(42);
    let (mut mended, mut refused) = (0, 0);
    for round in 0..150 {
        for name in good.keys() {
            fixture.write(name, &good[name]);
            for _ in 0..random.below(if name == NAME { 10 } else { 2 }) {
                fixture.damage(name, |bytes| {
                    let at = random.below(bytes.len().max(1)).min(bytes.len());
                    let end = bytes.len().min(at + 1 + random.below(9000));
                    match random.below(if name == NAME { 12 } else { 5 }) {
                        0 => bytes.truncate(at.max(bytes.len() / 2)),
                        1 => bytes.splice(at..at, random.bytes(4)).for_each(drop),
                        2 => drop(bytes.drain(at..(at + 3).min(end))),
                        _ => bytes[at..end].iter_mut().for_each(|b| *b = random.next() as u8),
                    }
                });
            }
        }
        let found = fixture.assess();
        let before = fixture.everything();
        match fixture.repair() {
            Ok(repaired) => {
                assert_eq!(found.expect("assessed").damaged, repaired.rebuilt);
                assert!(fixture.read(NAME) == fixture.good, "round {round}");
                mended += 1;
            }
            Err(RecoveryError::TooFew { .. } | RecoveryError::NoDescription(_)) => {
                assert!(!found.is_ok_and(|f| f.is_repairable()));
                assert!(fixture.everything() == before, "round {round}");
                refused += 1;
            }
            Err(e) => panic!("round {round}: {e}"),
        }
    }
    assert!(mended > 20 && refused > 20, "{mended} mended, {refused} refused");
}

#[test]
fn packets_changed_at_random_and_hashed_again_do_no_harm() {
    let fixture = Fixture::new(100_000, options(30));
    let honest = fixture.names()[0];
    let good = fixture.read(honest);
    let mut packets = Vec::new();
    let mut rest = &good[..];
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[8..16].try_into().expect("a length")) as usize;
        let (packet, behind) = rest.split_at(length);
        packets.push(packet);
        rest = behind;
    }
    let mut random = Random(7);
    let mut mended = 0;
    for round in 0..400 {
        let mut bytes = Vec::new();
        for &part in &packets {
            let mut part = part.to_vec();
            if random.below(4) == 0 {
                let at = 64 + random.below(part.len().min(200) - 64);
                part[at] = [0, 1, 0x7F, 0xFF, random.next() as u8][random.below(5)];
                if random.below(2) == 0 {
                    part.truncate(64 + random.below(part.len() - 64) / 4 * 4);
                }
                let set = if random.below(2) == 0 { md5(&[&part[64..]]) } else { set_id(&part) };
                part = packet(&set, &part[48..64].try_into().expect("a kind"), &part[64..]);
            }
            bytes.extend(part);
        }
        fixture.write(honest, &bytes);
        fixture.write(NAME, &fixture.good);
        fixture.damage_slices(1 + round % 2);
        let before = fixture.everything();
        match fixture.repair() {
            Ok(_) => {
                assert!(fixture.read(NAME) == fixture.good, "round {round}");
                mended += 1;
            }
            Err(_) => assert!(fixture.everything() == before, "round {round}"),
        }
    }
    assert!(mended > 20, "{mended}");
}

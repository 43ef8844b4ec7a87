//! Our files with stock `par2`, and what is said before anything exists.

use super::*;

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

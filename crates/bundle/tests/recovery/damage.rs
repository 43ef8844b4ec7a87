//! Damage, what it takes to mend it, and what must not be written meanwhile.

use super::*;

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

//! Recovery files made to mislead.

use super::*;

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

//! The medium: damage, files of two bundles, and what is no regular file.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use testkit::hostile::{self, volume_file};
use testkit::{Site, command, need, run};

use crate::common::{Leaves, Leaves::Nothing, case, refused, reseal};

const VOLUME: &str = "payments-42.0001.tar.zst.age";

fn mknod(path: &Path, kind: &[&str]) -> bool {
    run(command("mknod", Path::new("/")).arg(path).args(kind)).code == Some(0)
}

#[test]
fn damage_is_told_from_deceit() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(42);
    let other = site.packed(43);
    let sealed = blobs::sha256(&fs::read(volume_file(&bundle, 1)).unwrap()).to_string();
    let (foreign, disguised) = (volume_file(&other, 1), volume_file(&other, 1));
    let elsewhere = site.scratch("keys").join("other.key");
    let stranger = {
        let folder = site.scratch("keys");
        run(command("age-keygen", &folder).arg("-o").arg(&elsewhere)).expect_code(0);
        elsewhere
    };
    let differs = ["differs from the seal", &sealed, VOLUME];
    let end = |path: &Path| fs::metadata(path).unwrap().len();
    refused(
        &mut site,
        &bundle,
        &[
            case("a bit in the middle", 4, &differs, Leaves::Blobs, |_, f| hostile::flip_bit(&volume_file(f, 1))),
            case("a bit in the header", 4, &differs, Nothing, |_, f| {
                let mut bytes = fs::read(volume_file(f, 1)).unwrap();
                bytes[60] ^= 1;
                fs::write(volume_file(f, 1), bytes).unwrap();
            }),
            case("a bit in the first chunk", 4, &differs, Nothing, |_, f| {
                let mut bytes = fs::read(volume_file(f, 1)).unwrap();
                bytes[400] ^= 1;
                fs::write(volume_file(f, 1), bytes).unwrap();
            }),
            case("the last byte", 4, &differs, Leaves::Blobs, |_, f| {
                let mut bytes = fs::read(volume_file(f, 1)).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(volume_file(f, 1), bytes).unwrap();
            }),
            case("cut by a byte", 4, &differs, Leaves::Blobs, |_, f| hostile::truncate(&volume_file(f, 1), 1)),
            case("cut in the middle", 4, &differs, Leaves::Blobs, move |_, f| {
                hostile::truncate(&volume_file(f, 1), end(&volume_file(f, 1)) / 2);
            }),
            case("empty", 4, &differs, Nothing, |_, f| fs::write(volume_file(f, 1), "").unwrap()),
            case("bytes at the end", 4, &differs, Leaves::Blobs, |_, f| {
                let more = [fs::read(volume_file(f, 1)).unwrap(), vec![0; 100]].concat();
                fs::write(volume_file(f, 1), more).unwrap();
            }),
            case("made again, under the old seal", 4, &differs, Leaves::Blobs, |site, f| {
                crate::common::open(site, f).encrypt(&site.identity);
            }),
            case("a volume is missing", 4, &["payments-42: volume 1 of 1 is missing"], Nothing, |_, f| {
                fs::remove_file(volume_file(f, 1)).unwrap();
            }),
            case("the label is changed", 4, &["differs from the seal", "LABEL.txt"], Nothing, |_, f| {
                hostile::flip_bit(&f.join("LABEL.txt"));
            }),
            case("the label is missing", 4, &["LABEL.txt", "is missing"], Nothing, |_, f| {
                fs::remove_file(f.join("LABEL.txt")).unwrap();
            }),
            case("cut, and sealed like this", 3, &["not what a bundle holds"], Leaves::Blobs, |site, f| {
                hostile::truncate(&volume_file(f, 1), 1000);
                reseal(&site.release_key, f);
            }),
            case(
                "a flipped bit, and sealed like this",
                3,
                &["what a bundle holds", "decryption error"],
                Leaves::Blobs,
                |site, f| {
                    hostile::flip_bit(&volume_file(f, 1));
                    reseal(&site.release_key, f);
                },
            ),
            case("no age file, and sealed like this", 3, &["not an age file"], Nothing, |site, f| {
                fs::write(volume_file(f, 1), "hello").unwrap();
                reseal(&site.release_key, f);
            }),
            case(
                "a volume of another bundle beside",
                3,
                &["payments-43.0001", "not in the seal"],
                Nothing,
                move |_, f| {
                    fs::copy(&foreign, f.join("payments-43.0001.tar.zst.age")).unwrap();
                },
            ),
            case("a volume of another bundle under this name", 3, &["another manifest"], Nothing, move |_, f| {
                fs::copy(&disguised, f.join(VOLUME)).unwrap();
            })
            .verify(4),
            case(
                "an identity that fits nothing",
                2,
                &["the identity here does not open it"],
                Nothing,
                move |site, _| {
                    site.import["identity"] = stranger.display().to_string().into();
                },
            ),
        ],
    );
    let asked =
        |method: &str| site.production.log().matches(&format!("\"{method} /v2/payments/api/blobs/uploads/")).count();
    assert!(asked("DELETE") > 0, "uploads that fail are cancelled");
}

#[test]
fn a_medium_holds_regular_files_only() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(42);
    let device = mknod(&site.scratch("probe").join("null"), &["c", "1", "3"]);
    let mut cases = vec![
        case("a link beside", 3, &["`x` is a symbolic link"], Nothing, |_, f| {
            symlink("/etc/passwd", f.join("x")).unwrap()
        }),
        case("a link to the volume", 3, &[VOLUME, "is a symbolic link"], Nothing, |_, f| {
            fs::create_dir(f.join("sub")).unwrap();
            fs::rename(f.join(VOLUME), f.join("sub/volume")).unwrap();
            symlink("sub/volume", f.join(VOLUME)).unwrap();
        }),
        case("a link to the seal", 3, &["`SHA256SUMS` is a symbolic link"], Nothing, |_, f| {
            fs::rename(f.join("SHA256SUMS"), f.join("sums")).unwrap();
            symlink("sums", f.join("SHA256SUMS")).unwrap();
        }),
        case("a link to the label", 3, &["`LABEL.txt` is a symbolic link"], Nothing, |_, f| {
            fs::rename(f.join("LABEL.txt"), f.join("label")).unwrap();
            symlink("label", f.join("LABEL.txt")).unwrap();
        }),
        case("a FIFO beside", 3, &["`x` is a FIFO"], Nothing, |_, f| assert!(mknod(&f.join("x"), &["p"]))),
        case("a FIFO as the seal", 3, &["`SHA256SUMS` is a FIFO"], Nothing, |_, f| {
            fs::remove_file(f.join("SHA256SUMS")).unwrap();
            assert!(mknod(&f.join("SHA256SUMS"), &["p"]));
        }),
        case("a FIFO as the volume", 3, &[VOLUME, "is a FIFO"], Nothing, |_, f| {
            fs::remove_file(f.join(VOLUME)).unwrap();
            assert!(mknod(&f.join(VOLUME), &["p"]));
        }),
        case("a socket beside", 3, &["`x` is a socket"], Nothing, |_, f| {
            std::os::unix::net::UnixListener::bind(f.join("x")).unwrap();
        }),
        case("a folder as the volume", 3, &[VOLUME], Nothing, |_, f| {
            fs::remove_file(f.join(VOLUME)).unwrap();
            fs::create_dir(f.join(VOLUME)).unwrap();
        }),
        case("a name that clears the screen", 3, &["not in the seal", "\\u{1b}[2J"], Nothing, |_, f| {
            fs::write(f.join("\u{1b}[2J\u{202e}x.tar.zst.age"), "x").unwrap();
        }),
    ];
    if device {
        cases.push(case("a device beside", 3, &["`x` is a device"], Nothing, |_, f| {
            assert!(mknod(&f.join("x"), &["c", "1", "3"]));
        }));
        cases.push(case("a device as the volume", 3, &[VOLUME, "is a device"], Nothing, |_, f| {
            fs::remove_file(f.join(VOLUME)).unwrap();
            assert!(mknod(&f.join(VOLUME), &["c", "1", "5"]));
        }));
    } else {
        eprintln!("skipped: devices cannot be made here");
    }
    refused(&mut site, &bundle, &cases);

    // What is no volume is no part of the bundle, and is not read.
    fs::write(bundle.join("\u{1b}[2J\u{202e}notes.txt"), "hello").unwrap();
    let said = run(site.import(&["check"]).arg(&bundle)).expect_code(0);
    crate::common::shows_no_control_characters(&said).unwrap();
    assert!(said.stdout.contains("not part of the bundle: \\u{1b}[2J\\u{202e}notes.txt"), "{said}");
    site.receive(&bundle, &[]).expect_code(0);
}

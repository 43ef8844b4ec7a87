//! Layouts and archives made to mislead.

use blobs::sha256;
use manifest_schema::{LIMITS, MediaType};

use crate::images::*;

#[test]
fn nothing_in_a_layout_leads_elsewhere() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    let image = web(&place);
    let blob = image.digest.layout_path();
    let fresh = |name: &str| {
        let folder = place.path(name);
        let mut tree = Tree::default();
        let image = tree.image("hello");
        tree.layout(&[image.named("1.0")]).write_folder(&folder);
        folder
    };
    for file in [blob.as_str(), "index.json", "oci-layout"] {
        let name = format!("link-{}", file.replace('/', "-"));
        let folder = fresh(&name);
        std::fs::remove_file(folder.join(file)).expect("removed");
        symlink(place.path("web").join(file), folder.join(file)).expect("a link");
        let error = place.refused("oci", &name);
        assert!(error.contains(&format!("{file} is a link; only a regular file")), "{error}");
    }
    for linked in ["blobs", "blobs/sha256"] {
        let name = format!("link-{}", linked.replace('/', "-"));
        let folder = fresh(&name);
        std::fs::remove_dir_all(folder.join(linked)).expect("removed");
        symlink(place.path("web").join(linked), folder.join(linked)).expect("a link");
        let error = place.refused("oci", &name);
        assert!(error.contains("is behind a link"), "{error}");
    }
    let folder = fresh("pipe");
    std::fs::remove_file(folder.join(&blob)).expect("removed");
    if run("mkfifo", &[text(&folder.join(&blob))]).is_some() {
        assert!(place.refused("oci", "pipe").contains("is a pipe or a device"), "and is not waited for");
    }
    if run("mkfifo", &[text(&place.path("pipe.tar"))]).is_some() {
        assert!(place.refused("oci-archive", "pipe.tar").contains("is a pipe or a device"));
    }
    assert!(place.refused("oci-archive", "web").contains("is a folder"));
}

#[test]
fn a_layout_that_lies_is_refused() {
    let place = Place::new();
    let write = |name: &str, change: &dyn Fn(&mut Tree, &Pointer)| {
        let mut tree = Tree::default();
        let image = tree.image("hello");
        tree.layout(&[image.named("1.0")]);
        change(&mut tree, &image);
        tree.write_folder(&place.path(name));
    };
    type Change = Box<dyn Fn(&mut Tree, &Pointer)>;
    let entry = |change: fn(&mut Pointer)| -> Change {
        Box::new(move |tree, image| {
            let mut image = image.clone();
            change(&mut image);
            tree.layout(&[image.named("1.0")]);
        })
    };
    let refused: [(&str, Change, &str); 9] = [
        ("larger", entry(|p| p.size += 1), "expected "),
        ("smaller", entry(|p| p.size -= 1), "expected "),
        ("huge", entry(|p| p.size = 5 << 20), "at most 4194304 are accepted"),
        ("index", entry(|p| p.media_type = MediaType::OCI_INDEX.into()), "must not have `config`"),
        ("docker", entry(|p| p.media_type = MediaType::DOCKER_MANIFEST.into()), "the document says"),
        ("html", entry(|p| p.media_type = "text/html".into()), "not one that can be carried"),
        (
            "version",
            Box::new(|t, _| _ = t.file("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#)),
            "`2.0.0`, expected",
        ),
        ("5mib", Box::new(|t, _| _ = t.file("index.json", vec![b' '; 5 << 20])), "5242880 bytes; at most 4194304"),
        (
            "content",
            Box::new(|t, p| {
                if let Some(bytes) = t.0.get_mut(&p.digest.layout_path()) {
                    bytes[1] ^= 1;
                }
            }),
            "wrong content",
        ),
    ];
    for (name, change, why) in &refused {
        write(name, &**change);
        let error = place.refused("oci", name);
        assert!(error.contains(why), "{name}: {error}");
    }
    let layer_path = sha256(&layer("hello")).layout_path();
    for (name, bytes, why) in
        [("short", layer("hello")[1..].to_vec(), "bytes, found"), ("other", layer("jello"), "found sha256:")]
    {
        write(name, &|tree, _| _ = tree.file(&layer_path, bytes.clone()));
        let error = read_refused(&*place.open("oci", name).expect("the document is right"));
        assert!(error.contains(why), "{name}: {error}");
    }
    write("missing", &|tree, _| _ = tree.0.remove(&layer_path));
    let error = read_refused(&*place.open("oci", "missing").expect("the document is right"));
    assert!(error.contains(&format!("{layer_path} is missing")), "{error}");
}

#[test]
fn an_archive_that_can_be_read_in_two_ways_is_refused() {
    let place = Place::new();
    let mut tree = Tree::default();
    let image = tree.image("hello");
    tree.layout(&[image.named("1.0")]);
    let blob = image.digest.layout_path();
    let honest = tree.tar().into_inner().expect("an archive");
    let appended = |append: &dyn Fn(&mut tar::Builder<Vec<u8>>)| {
        let mut tar = tree.tar();
        append(&mut tar);
        tar.into_inner().expect("an archive")
    };
    let regular = tar::EntryType::Regular;
    let without_blob = |append: &dyn Fn(&mut tar::Builder<Vec<u8>>)| {
        let mut tree = tree.clone();
        tree.0.remove(&blob);
        let mut tar = tree.tar();
        append(&mut tar);
        tar.into_inner().expect("an archive")
    };
    let mut checksum = honest.clone();
    checksum[1024] ^= 1;
    let mut giant = header(regular, "giant", 0);
    giant.as_old_mut().size = [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    giant.set_cksum();
    let pax = |record: &str| {
        appended(&|t| {
            entry(t, tar::EntryType::XHeader, "pax", record.as_bytes());
            entry(t, regular, "file", b"");
        })
    };
    for (name, bytes, why) in [
        ("up", appended(&|t| entry(t, regular, "../x", b"")), "`../x` is not a plain relative path"),
        ("middle", appended(&|t| entry(t, regular, "a/../b", b"")), "not a plain relative path"),
        ("absolute", appended(&|t| entry(t, regular, "/etc/x", b"")), "not a plain relative path"),
        ("pax-up", pax("13 path=../x\n"), "`../x` is not a plain relative path"),
        ("pax-lie", pax("99 path=x\n"), "damaged header"),
        ("pax-size", pax("12 size=999\n"), "cut off"),
        ("duplicate", appended(&|t| entry(t, regular, &blob, b"")), "two entries are named"),
        ("dot", appended(&|t| entry(t, regular, "./index.json", b"")), "two entries are named `index.json`"),
        ("fifo", appended(&|t| entry(t, tar::EntryType::Fifo, "p", b"")), "of kind `6`"),
        ("sparse", appended(&|t| entry(t, tar::EntryType::GNUSparse, "s", b"")), "of kind `S`"),
        ("symlink", without_blob(&|t| link(t, tar::EntryType::Symlink, &blob, "../../x")), "is a link"),
        ("hardlink", without_blob(&|t| link(t, tar::EntryType::Link, &blob, "index.json")), "is a link"),
        ("linksize", appended(&|t| entry(t, tar::EntryType::Link, "l", b"data")), "damaged header"),
        (
            "longname",
            appended(&|t| entry(t, tar::EntryType::GNULongName, "L", &vec![b'a'; LIMITS.pax as usize + 1])),
            "extended header",
        ),
        ("giant", appended(&|t| t.append(&giant, std::io::empty()).expect("an entry")), "cut off"),
        ("checksum", checksum, "damaged header at offset 1024"),
        ("trailing", [honest.as_slice(), &honest].concat(), "after the end marker"),
        ("text", b"not an archive ".repeat(100), "not a tar archive"),
        ("empty", Vec::new(), "cut off after 0 bytes"),
        ("gzip", gzip(&honest), "compressed with gzip"),
        ("zstd", b"\x28\xb5\x2f\xfd rest".to_vec(), "compressed with zstd"),
    ] {
        std::fs::write(place.path(name), bytes).expect("a file");
        let error = place.refused("oci-archive", name);
        assert!(error.contains(why), "{name}: {error}");
    }
    // Wherever an archive is cut off, it is noticed. Two zero blocks are its end; one is accepted.
    let end = honest.len() - 1024;
    for length in (0..=end).step_by(512).chain((100..end).step_by(700)) {
        std::fs::write(place.path("cut"), &honest[..length]).expect("a file");
        let error = place.refused("oci-archive", "cut");
        assert!(error.contains(&format!("cut off after {length} bytes")), "{length}: {error}");
    }
    std::fs::write(place.path("whole"), &honest).expect("a file");
    let source = place.open("oci-archive", "whole").expect("whole");
    assert_eq!(read_all(&*source).expect("all").len(), 3);
}

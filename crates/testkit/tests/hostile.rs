//! Opening, changing and closing a volume is exact: what was not changed stays the same to the byte.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use secrecy::ExposeSecret;
use testkit::hostile::{self, MANIFEST, MANIFEST_SIGNATURE, Opened, TarEntry, field, read_tar, write_tar};
use testkit::{Gpg, command, need, run_fails, run_ok};

/// The smallest thing that has a bundle's form.
fn bundle(folder: &Path, identity: &age::x25519::Identity) -> Vec<u8> {
    let mut entries = vec![
        TarEntry::file(MANIFEST, br#"{"type":"sealift/manifest/1","sequence":42,"blobs":[]}"#),
        TarEntry::file(MANIFEST_SIGNATURE, b"none yet"),
    ];
    let long = format!("blobs/sha512/{}", "ab".repeat(64));
    entries.push(TarEntry::pax(&[("path", &long)]));
    entries.push(TarEntry::file("blobs/sha512/short", b"content"));
    let tar = write_tar(&entries);
    let compressed = zstd::encode_all(tar.as_slice(), 3).unwrap();
    fs::write(folder.join("a-1.0001.tar.zst.age"), hostile::age_encrypt(&identity.to_public(), &compressed)).unwrap();
    fs::write(folder.join("LABEL.txt"), "a label\n").unwrap();
    let zeros = "0".repeat(64);
    let seal = format!("# sealift/seal/1 id 1 sha256:{zeros}\n{zeros}  LABEL.txt\n{zeros}  a-1.0001.tar.zst.age\n");
    fs::write(folder.join("SHA256SUMS"), seal).unwrap();
    tar
}

#[test]
fn a_volume_that_is_not_changed_stays_the_same() {
    let (folder, identity) = (tempfile::tempdir().unwrap(), age::x25519::Identity::generate());
    let secret = identity.to_string().expose_secret().to_string();
    let tar = bundle(folder.path(), &identity);
    let opened = Opened::open(folder.path(), 1, &secret);
    assert_eq!(write_tar(&opened.entries), tar);
    let long = format!("blobs/sha512/{}", "ab".repeat(64));
    assert_eq!(opened.names(), [MANIFEST, MANIFEST_SIGNATURE, &long]);
    assert_eq!(opened.content(&long), b"content");
    opened.encrypt(&secret);
    assert_eq!(write_tar(&Opened::open(folder.path(), 1, &secret).entries), tar);
}

#[test]
fn stock_tools_agree_on_what_was_written() {
    if !need(&["tar", "zstd", "age", "sha256sum", "gpg", "gpgv"]) {
        return;
    }
    let (folder, identity) = (tempfile::tempdir().unwrap(), age::x25519::Identity::generate());
    let secret = identity.to_string().expose_secret().to_string();
    let dir = folder.path();
    bundle(dir, &identity);
    let gpg = Gpg::new();
    let key = gpg.generate("release@example.com", "ed25519");
    let sign = |bytes: &[u8]| gpg.sign_detached(&key, bytes);

    let mut opened = Opened::open(dir, 1, &secret);
    opened.edit_manifest(|m| m["sequence"] = 7.into());
    assert!(opened.content(MANIFEST).starts_with(br#"{"type":"sealift/manifest/1","#));
    opened.sign_manifest(&sign);
    opened.encrypt(&secret);
    fs::write(dir.join("key"), &secret).unwrap();
    let unpack = "set -e; mkdir -p out; age -d -i key a-1.0001.tar.zst.age | zstd -d | tar -x -C out";
    run_ok(command("sh", dir).args(["-c", unpack]).current_dir(dir));
    let manifest = fs::read_to_string(dir.join("out").join(MANIFEST)).unwrap();
    assert!(manifest.contains("\"sequence\":7"), "{manifest}");
    assert_eq!(fs::read(dir.join(format!("out/blobs/sha512/{}", "ab".repeat(64)))).unwrap(), b"content");

    let check = || {
        let mut c = command("sha256sum", dir);
        c.args(["--quiet", "-c", "SHA256SUMS"]).current_dir(dir);
        c
    };
    run_fails(&mut check());
    fs::write(
        dir.join("release.gpg"),
        run_ok(gpg.command().args(["--export-options", "export-minimal", "--armor", "--export"])).stdout,
    )
    .unwrap();
    run_ok(gpg.command().arg("--dearmor").arg("--output").arg(dir.join("ring.gpg")).arg(dir.join("release.gpg")));
    let verify = || {
        let mut c = command("gpgv", dir);
        c.args(["--keyring", "./ring.gpg", "SHA256SUMS.asc", "SHA256SUMS"]).current_dir(dir);
        c
    };
    hostile::seal_names_manifest(dir, manifest.as_bytes());
    hostile::reseal(dir, &sign);
    run_ok(&mut check());
    run_ok(&mut verify());
    let head = fs::read_to_string(dir.join("SHA256SUMS")).unwrap();
    assert!(head.starts_with(&format!("# sealift/seal/1 id 1 {}\n", blobs::sha256(manifest.as_bytes()))));

    hostile::flip_bit(&hostile::volume_file(dir, 1));
    run_fails(&mut check());
    hostile::rehash(dir);
    run_ok(&mut check());
    run_fails(&mut verify());
}

#[test]
fn headers_can_be_made_to_lie() {
    let mut entry = TarEntry::file("a", b"1234");
    entry.set_size(1 << 30).set(field::NAME, b"../../etc/passwd");
    let mut archive = tar::Archive::new(&entry.header[..]);
    let first = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(first.size(), 1 << 30, "the checksum is right, the size is not");
    assert_eq!(first.path().unwrap().to_str(), Some("../../etc/passwd"));

    let entries = vec![
        TarEntry::link(b'2', "link", "/etc/passwd"),
        TarEntry::of_kind(b'3', "device", b""),
        TarEntry::of_kind(b'L', "././@LongLink", b"long\0"),
        TarEntry::file("short", b"x"),
    ];
    let bytes = write_tar(&entries);
    assert_eq!(read_tar(&bytes), entries);
    let mut archive = tar::Archive::new(bytes.as_slice());
    let read: Vec<_> = archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
    assert_eq!(read, ["link", "device", "long"], "the tar crate reads them as they are meant");
}

#[test]
fn entries_move_with_their_pax_headers() {
    let (folder, identity) = (tempfile::tempdir().unwrap(), age::x25519::Identity::generate());
    let secret = identity.to_string().expose_secret().to_string();
    bundle(folder.path(), &identity);
    let long = format!("blobs/sha512/{}", "ab".repeat(64));
    let mut opened = Opened::open(folder.path(), 1, &secret);
    let taken = opened.remove(&long);
    assert_eq!(taken.len(), 2);
    opened.entries.splice(0..0, taken);
    opened.insert_before(&long, TarEntry::file("first", b""));
    assert_eq!(opened.names(), ["first", &long, MANIFEST, MANIFEST_SIGNATURE]);
    opened.edit_manifest_text(|t| t.replacen("\"sequence\":42", "\"sequence\":42,\"sequence\":43", 1));
    assert!(String::from_utf8_lossy(opened.content(MANIFEST)).contains("\"sequence\":43"));
}

//! What is inside a volume that was sealed like this: blobs that are not what the manifest promises, entries that are no
//! plain files, archives and frames without end.

use std::io::Write;
use std::path::Path;

use testkit::hostile::{Opened, TarEntry, field, write_tar};
use testkit::{Site, need};

use crate::common::{Case, Leaves, Leaves::Nothing, case, last_blob, open, refused, reseal};

/// A change of the archive, sealed with the release key; the manifest and its signature stay.
fn archive(name: &'static str, says: &[&str], leaves: Leaves, change: impl Fn(&mut Opened) + 'static) -> Case {
    case(name, 3, says, leaves, move |site, folder| {
        let mut opened = open(site, folder);
        change(&mut opened);
        opened.encrypt(&site.identity);
        reseal(&site.release_key, folder);
    })
}

/// The last layer replaced by an entry of another kind.
fn instead(name: &'static str, says: &'static str, entry: impl Fn(&str, &[u8]) -> Vec<TarEntry> + 'static) -> Case {
    archive(name, &[says], Leaves::Blobs, move |opened| {
        let (_, name) = last_blob(opened);
        let at = opened.position(&name);
        let content = opened.content(&name).to_vec();
        opened.entries.splice(at..=at, entry(&name, &content));
    })
}

#[test]
fn blobs_are_exactly_those_of_the_manifest() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(42);
    let (digest, name) = last_blob(&open(&site, &bundle));
    let wanted = digest.to_string();
    let other = open(&site, &site.packed(43));
    let size = open(&site, &bundle).content(&name).len();
    let (shorter, longer) = (format!("has {} bytes", size - 1), format!("has {} bytes", size + 1));
    let expected = format!("expected {size}");
    let last = |change: fn(&mut Vec<u8>)| {
        move |opened: &mut Opened| {
            let (_, name) = last_blob(opened);
            let mut content = opened.content(&name).to_vec();
            change(&mut content);
            opened.replace(&name, &content);
        }
    };
    let admission = |change: fn(&mut Opened, &str)| {
        move |opened: &mut Opened| {
            let name = opened.names().into_iter().find(|n| n.starts_with("blobs/")).unwrap();
            change(opened, &name);
        }
    };
    let left = refused(
        &mut site,
        &bundle,
        &[
            archive(
                "a layer changed",
                &["blob is wrong", &wanted, "found sha256:"],
                Leaves::Blobs,
                last(|c| c[99] ^= 1),
            ),
            archive(
                "a layer's last byte changed",
                &["blob is wrong", &wanted],
                Leaves::Blobs,
                last(|c| {
                    *c.last_mut().unwrap() ^= 1;
                }),
            ),
            archive("a layer cut", &[&name, &shorter, &expected], Leaves::Blobs, last(|c| c.truncate(c.len() - 1))),
            archive("a layer with a byte more", &[&name, &longer, &expected], Leaves::Blobs, last(|c| c.push(0))),
            archive(
                "a layer missing",
                &[&format!("expected the entry `{name}`"), "the end"],
                Leaves::Blobs,
                |opened| {
                    let (_, name) = last_blob(opened);
                    opened.remove(&name);
                },
            ),
            archive(
                "a document changed",
                &["blob is wrong"],
                Leaves::Refusal,
                admission(|opened, name| {
                    let mut content = opened.content(name).to_vec();
                    content[10] ^= 1;
                    opened.replace(name, &content);
                }),
            ),
            archive(
                "a document missing",
                &["expected the entry"],
                Leaves::Refusal,
                admission(|opened, name| {
                    opened.remove(name);
                }),
            ),
            archive(
                "a document doubled",
                &["expected the entry"],
                Leaves::Refusal,
                admission(|opened, name| {
                    let twice = opened.entries[opened.position(name)].clone();
                    opened.insert_before(name, twice);
                }),
            ),
            archive("another layout index", &["`index.json` is not what follows"], Leaves::Refusal, |opened| {
                let index = String::from_utf8(opened.content("index.json").to_vec()).unwrap();
                opened.replace("index.json", index.replace("2.3.1", "2.3.2").as_bytes());
            }),
            archive("another layout version", &["`oci-layout` is not what follows"], Leaves::Refusal, |opened| {
                let other = String::from_utf8(opened.content("oci-layout").to_vec()).unwrap().replace("1.0.0", "1.0.1");
                opened.replace("oci-layout", other.as_bytes());
            }),
            archive("nothing at all", &["expected the entry `sealift/manifest.json`"], Nothing, |o| o.entries.clear()),
            case("the content of another bundle", 3, &["another manifest"], Nothing, move |site, f| {
                let mut copy = open(site, f);
                copy.entries.clone_from(&other.entries);
                copy.encrypt(&site.identity);
                reseal(&site.release_key, f);
            }),
        ],
    );
    assert!(!left.is_empty(), "sound blobs that came before lay there");
    assert!(!left.contains(&digest), "the flawed blob never");
    // Here the last layer itself is sound.
    refused(
        &mut site,
        &bundle,
        &[
            archive("a layer doubled", &["one entry too many"], Leaves::Blobs, |opened| {
                let (_, name) = last_blob(opened);
                let twice = opened.entries[opened.position(&name)].clone();
                opened.entries.push(twice);
            }),
            archive("a layer too many", &["one entry too many"], Leaves::Blobs, |opened| {
                opened.entries.push(TarEntry::file(&format!("blobs/sha256/{}", "ab".repeat(32)), b"x"));
            }),
            archive("two layers in another order", &["expected the entry"], Leaves::Blobs, |opened| {
                let last = opened.entries.len() - 1;
                opened.entries.swap(last, last - 1);
            }),
        ],
    );
}

#[test]
fn entries_are_plain_files_under_the_names_that_follow_from_digests() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(42);
    let (digest, _) = last_blob(&open(&site, &bundle));
    const KIND: &str = "plain files only";
    let link = |kind: u8, target: &'static str| move |name: &str, _: &[u8]| vec![TarEntry::link(kind, name, target)];
    let kind = |kind: u8| move |name: &str, _: &[u8]| vec![TarEntry::of_kind(kind, name, b"")];
    let named = |other: fn(&str) -> String| move |name: &str, c: &[u8]| vec![TarEntry::file(&other(name), c)];
    let pax = |records: &'static [(&'static str, &'static str)]| {
        move |name: &str, c: &[u8]| vec![TarEntry::pax(records), TarEntry::file(name, c)]
    };
    let left = refused(
        &mut site,
        &bundle,
        &[
            instead("a hard link", KIND, link(b'1', "index.json")),
            instead("a symbolic link", KIND, link(b'2', "/etc/passwd")),
            instead("a character device", KIND, kind(b'3')),
            instead("a block device", KIND, kind(b'4')),
            instead("a folder", KIND, kind(b'5')),
            instead("a FIFO", KIND, kind(b'6')),
            instead("a sparse file", KIND, kind(b'S')),
            instead("a GNU long name", KIND, |name, c| {
                vec![TarEntry::of_kind(b'L', "././@LongLink", b"/etc/passwd\0"), TarEntry::file(name, c)]
            }),
            instead("a global PAX header", KIND, |name, c| {
                vec![TarEntry::of_kind(b'g', "pax", b"18 path=elsewhere\n"), TarEntry::file(name, c)]
            }),
            instead("a plain file with a link's target", KIND, |name, c| {
                let mut entry = TarEntry::file(name, c);
                entry.set(field::LINK, b"/etc/passwd");
                vec![entry]
            }),
            instead("a PAX sparse file", "only path and size", pax(&[("GNU.sparse.major", "1")])),
            instead("a PAX link", "only path and size", pax(&[("linkpath", "/etc/passwd")])),
            instead("a PAX path elsewhere", "expected the entry", pax(&[("path", "../../etc/passwd")])),
            instead("an absolute name", "expected the entry", named(|n| format!("/{n}"))),
            instead("a name with ..", "expected the entry", named(|n| format!("blobs/../{n}"))),
            instead("a name with ./", "expected the entry", named(|n| format!("./{n}"))),
            instead("a name that clears the screen", "\\u{1b}[2J", named(|_| "\u{1b}[2J\u{202e}x".into())),
            instead("said longer than it is", "bytes", |name, c| {
                let mut entry = TarEntry::file(name, c);
                entry.set_size(c.len() as u64 + 4096);
                vec![entry]
            }),
            instead("a damaged header", "tar header is damaged", |name, c| {
                let mut entry = TarEntry::file(name, c);
                entry.header[0] ^= 1;
                vec![entry]
            }),
            archive("a link before the manifest", &[KIND], Nothing, |opened| {
                opened.entries.insert(0, TarEntry::link(b'2', "sealift/manifest.json", "/etc/passwd"));
            }),
        ],
    );
    assert!(!left.contains(&digest));
    // Here the blob is sound, and what follows it is not.
    refused(
        &mut site,
        &bundle,
        &[instead("longer than said", "there are bytes in an entry's padding", |name, c| {
            let mut entry = TarEntry::file(name, &[c, &[7; 2048]].concat());
            entry.set_size(c.len() as u64);
            vec![entry]
        })],
    );
}

/// Bytes of a bomb once it is unpacked.
const BOMB: u64 = 256 << 20;

/// Zeros, compressed to almost nothing, with a window of 2^`window`.
fn zeros(bytes: u64, window: u32) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(window).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), bytes), &mut encoder).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn archives_and_frames_without_end_are_cut_short() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(42);
    let compressed = |name, says: &'static str, leaves, bytes: fn(&Opened) -> Vec<u8>| {
        case(name, 3, &[says], leaves, move |site: &mut Site, folder: &Path| {
            let opened = open(site, folder);
            opened.encrypt_compressed(&site.identity, &bytes(&opened));
            reseal(&site.release_key, folder);
        })
    };
    refused(
        &mut site,
        &bundle,
        &[
            compressed("zeros behind the archive", "there are bytes", Leaves::Blobs, |opened| {
                [zstd::encode_all(write_tar(&opened.entries).as_slice(), 1).unwrap(), zeros(BOMB, 20)].concat()
            }),
            compressed("nothing but zeros", "not what a bundle holds", Nothing, |_| zeros(BOMB, 20)),
            compressed("a manifest beyond all measure", "at most 268435456 are accepted", Nothing, |_| {
                let mut entry = TarEntry::file("sealift/manifest.json", b"");
                entry.set_size((8 << 30) - 1);
                [zstd::encode_all(&entry.header[..], 1).unwrap(), zeros(BOMB, 20)].concat()
            }),
            compressed("a signature beyond all measure", "at most 1048576 are accepted", Nothing, |opened| {
                let mut signature = TarEntry::file("sealift/manifest.json.asc", b"");
                signature.set_size(1 << 30);
                let mut tar = write_tar(&opened.entries[..1]);
                tar.truncate(tar.len() - 1024);
                tar.extend_from_slice(&signature.header);
                [zstd::encode_all(tar.as_slice(), 1).unwrap(), zeros(BOMB, 20)].concat()
            }),
            compressed("a window beyond all measure", "cannot be decrypted or decompressed", Nothing, |opened| {
                let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
                encoder.window_log(30).unwrap();
                encoder.write_all(&write_tar(&opened.entries)).unwrap();
                encoder.finish().unwrap()
            }),
            compressed("an archive that is not compressed", "cannot be decrypted or decompressed", Nothing, |opened| {
                write_tar(&opened.entries)
            }),
            compressed("bytes behind the last frame", "not what a bundle holds", Leaves::Blobs, |opened| {
                [zstd::encode_all(write_tar(&opened.entries).as_slice(), 1).unwrap(), b"more".to_vec()].concat()
            }),
        ],
    );
}

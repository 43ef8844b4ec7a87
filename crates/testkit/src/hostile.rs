//! Hostile bundles: an honest one, opened, changed in one step, and closed again as far as the attacker can.
//!
//! What an attacker knows is up to the test: [`Opened::encrypt`] needs nothing secret (anyone can encrypt to a recipient),
//! [`Opened::sign_manifest`] and [`reseal`] take whatever signs.
//!
//! ```no_run
//! # fn example(bundle: &std::path::Path, identity: &str, release: &testkit::Gpg, copy: &std::path::Path) {
//! use testkit::hostile;
//! hostile::copy(bundle, copy);
//! let mut opened = hostile::Opened::open(copy, 1, identity);
//! opened.edit_manifest(|manifest| manifest["sequence"] = 7.into());
//! opened.sign_manifest(&|bytes| release.sign_detached("release", bytes));
//! opened.encrypt(identity);
//! hostile::seal_names_manifest(copy, opened.content(hostile::MANIFEST));
//! hostile::reseal(copy, &|bytes| release.sign_detached("release", bytes));
//! # }
//! ```

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Makes an armored detached signature over some bytes.
pub type Sign<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;

pub const MANIFEST: &str = "sealift/manifest.json";
pub const MANIFEST_SIGNATURE: &str = "sealift/manifest.json.asc";

const BLOCK: usize = 512;

/// A tar header and its content, as raw as it gets. PAX and GNU extension headers are entries of their own.
#[derive(Clone, PartialEq, Eq)]
pub struct TarEntry {
    pub header: [u8; BLOCK],
    pub content: Vec<u8>,
}

/// Fields of a tar header: where they begin and how long they are (POSIX.1-2001, ustar).
pub mod field {
    pub const NAME: (usize, usize) = (0, 100);
    pub const SIZE: (usize, usize) = (124, 12);
    pub const CHECKSUM: (usize, usize) = (148, 8);
    pub const KIND: (usize, usize) = (156, 1);
    pub const LINK: (usize, usize) = (157, 100);
    pub const MAGIC: (usize, usize) = (257, 8);
    pub const PREFIX: (usize, usize) = (345, 155);
}

impl TarEntry {
    /// A plain file. The name must fit 100 bytes.
    pub fn file(name: &str, content: &[u8]) -> Self {
        Self::of_kind(b'0', name, content)
    }

    /// An entry of any kind: `b'0'` a file, `1` hard link, `2` symbolic link, `3` character device, `4` block device, `5`
    /// folder, `6` FIFO, `x` PAX, `g` PAX global, `L` GNU long name, `K` GNU long link, `S` GNU sparse.
    pub fn of_kind(kind: u8, name: &str, content: &[u8]) -> Self {
        let mut entry = Self { header: [0; BLOCK], content: content.into() };
        entry.header[100..108].copy_from_slice(b"0000644\0");
        entry.header[108..116].copy_from_slice(b"0000000\0");
        entry.header[116..124].copy_from_slice(b"0000000\0");
        entry.header[136..148].copy_from_slice(b"00000000000\0");
        entry.set(field::MAGIC, b"ustar\x0000").set(field::KIND, &[kind]).set(field::NAME, name.as_bytes());
        entry.set_size(content.len() as u64);
        entry
    }

    /// A link to a target.
    pub fn link(kind: u8, name: &str, target: &str) -> Self {
        let mut entry = Self::of_kind(kind, name, b"");
        entry.set(field::LINK, target.as_bytes());
        entry
    }

    /// A PAX header with these records.
    pub fn pax(records: &[(&str, &str)]) -> Self {
        let record = |(key, value): &(&str, &str)| {
            let rest = key.len() + value.len() + 3;
            let length = (rest..).find(|n| n - n.to_string().len() == rest).unwrap();
            format!("{length} {key}={value}\n")
        };
        Self::of_kind(b'x', "pax", records.iter().map(record).collect::<String>().as_bytes())
    }

    /// Overwrites a field and corrects the checksum.
    pub fn set(&mut self, (at, length): (usize, usize), bytes: &[u8]) -> &mut Self {
        assert!(bytes.len() <= length, "{} bytes do not fit {length}", bytes.len());
        self.header[at..at + length].fill(0);
        self.header[at..at + bytes.len()].copy_from_slice(bytes);
        self.correct_checksum()
    }

    /// Says a size, true or not.
    pub fn set_size(&mut self, size: u64) -> &mut Self {
        self.set(field::SIZE, format!("{size:011o}\0").as_bytes())
    }

    fn correct_checksum(&mut self) -> &mut Self {
        let (at, length) = field::CHECKSUM;
        self.header[at..at + length].fill(b' ');
        let sum: u32 = self.header.iter().map(|b| u32::from(*b)).sum();
        self.header[at..at + length].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self
    }

    /// The kind, as the header says it.
    pub fn kind(&self) -> u8 {
        self.header[field::KIND.0]
    }

    /// The name in the header (in an entry behind a PAX header, not the real one).
    pub fn header_name(&self) -> String {
        let text = |(at, length): (usize, usize)| {
            let bytes = &self.header[at..at + length];
            String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
        };
        match text(field::PREFIX) {
            prefix if prefix.is_empty() => text(field::NAME),
            prefix => format!("{prefix}/{}", text(field::NAME)),
        }
    }
}

impl std::fmt::Debug for TarEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {} ({} bytes)", self.kind() as char, self.header_name(), self.content.len())
    }
}

/// Splits an archive into its entries.
pub fn read_tar(mut bytes: &[u8]) -> Vec<TarEntry> {
    let mut entries = Vec::new();
    while bytes.len() >= BLOCK && bytes[..BLOCK].iter().any(|b| *b != 0) {
        let header: [u8; BLOCK] = bytes[..BLOCK].try_into().unwrap();
        let digits = String::from_utf8_lossy(&header[field::SIZE.0..field::SIZE.0 + 11]).into_owned();
        let size = usize::from_str_radix(digits.trim_matches(['\0', ' ']), 8).expect("an octal size");
        let padded = size.div_ceil(BLOCK) * BLOCK;
        entries.push(TarEntry { header, content: bytes[BLOCK..BLOCK + size].into() });
        bytes = &bytes[BLOCK + padded..];
    }
    entries
}

/// Joins entries to an archive with its end marker.
pub fn write_tar(entries: &[TarEntry]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        out.extend_from_slice(&entry.header);
        out.extend_from_slice(&entry.content);
        out.resize(out.len().div_ceil(BLOCK) * BLOCK, 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

/// A volume of a bundle, opened.
pub struct Opened {
    file: PathBuf,
    pub entries: Vec<TarEntry>,
}

impl Opened {
    /// Opens a volume, numbered from 1, with an age identity (`AGE-SECRET-KEY-1...`).
    #[track_caller]
    pub fn open(bundle: &Path, volume: u32, identity: &str) -> Self {
        let file = volume_file(bundle, volume);
        let identity: age::x25519::Identity = identity.trim().parse().expect("an age identity");
        let decryptor = age::Decryptor::new(fs::File::open(&file).unwrap()).expect("an age file");
        let plain = decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).expect("a matching identity");
        let mut tar = Vec::new();
        zstd::stream::read::Decoder::new(plain).unwrap().read_to_end(&mut tar).expect("a whole volume");
        Self { file, entries: read_tar(&tar) }
    }

    /// The names, in order. Of an entry with a PAX path, that path; extension headers are left out.
    pub fn names(&self) -> Vec<String> {
        (0..self.entries.len()).filter_map(|i| self.name_at(i)).collect()
    }

    fn name_at(&self, at: usize) -> Option<String> {
        if matches!(self.entries[at].kind(), b'x' | b'g' | b'L' | b'K') {
            return None;
        }
        let before = at.checked_sub(1).and_then(|i| self.entries.get(i)).filter(|e| e.kind() == b'x');
        let records = before.map(|e| String::from_utf8_lossy(&e.content).into_owned()).unwrap_or_default();
        let path = records.lines().find_map(|l| l.split_once(" path=")).map(|(_, path)| path.to_string());
        Some(path.unwrap_or_else(|| self.entries[at].header_name()))
    }

    /// Where in `entries` the file of this name is.
    #[track_caller]
    pub fn position(&self, name: &str) -> usize {
        let found = (0..self.entries.len()).find(|i| self.name_at(*i).as_deref() == Some(name));
        found.unwrap_or_else(|| panic!("{name} is not among {:?}", self.names()))
    }

    /// The content of a file.
    #[track_caller]
    pub fn content(&self, name: &str) -> &[u8] {
        &self.entries[self.position(name)].content
    }

    /// Replaces a file's content, its header's size with it.
    #[track_caller]
    pub fn replace(&mut self, name: &str, content: &[u8]) {
        let at = self.position(name);
        self.entries[at].content = content.into();
        self.entries[at].set_size(content.len() as u64);
    }

    /// Takes a file out, its PAX header with it.
    #[track_caller]
    pub fn remove(&mut self, name: &str) -> Vec<TarEntry> {
        let at = self.position(name);
        let from = if at > 0 && self.entries[at - 1].kind() == b'x' { at - 1 } else { at };
        self.entries.drain(from..=at).collect()
    }

    /// Puts an entry before the file of this name.
    #[track_caller]
    pub fn insert_before(&mut self, name: &str, entry: TarEntry) {
        let at = self.position(name);
        let at = if at > 0 && self.entries[at - 1].kind() == b'x' { at - 1 } else { at };
        self.entries.insert(at, entry);
    }

    /// The manifest as it is.
    pub fn manifest(&self) -> Value {
        serde_json::from_slice(self.content(MANIFEST)).expect("a JSON manifest")
    }

    /// Changes the manifest; `type` stays its first member. Its signature does not fit any more.
    pub fn edit_manifest(&mut self, edit: impl FnOnce(&mut Value)) {
        let mut manifest = self.manifest();
        edit(&mut manifest);
        let kind = manifest.as_object_mut().and_then(|m| m.remove("type"));
        let rest = manifest.to_string();
        let text = match kind {
            Some(kind) => format!("{{\"type\":{kind},{}", &rest[1..]),
            None => rest,
        };
        self.replace(MANIFEST, text.as_bytes());
    }

    /// Changes the manifest's text: for what a JSON value can't hold, such as a key given twice.
    pub fn edit_manifest_text(&mut self, edit: impl FnOnce(String) -> String) {
        let text = String::from_utf8(self.content(MANIFEST).into()).unwrap();
        self.replace(MANIFEST, edit(text).as_bytes());
    }

    /// Signs the manifest as it is now.
    pub fn sign_manifest(&mut self, sign: Sign<'_>) {
        let signature = sign(self.content(MANIFEST));
        self.replace(MANIFEST_SIGNATURE, &signature);
    }

    /// Writes the volume again, encrypted to the recipient of an identity. The seal does not fit any more.
    pub fn encrypt(&self, identity: &str) {
        self.encrypt_bytes(identity, &write_tar(&self.entries));
    }

    /// Writes any bytes, as if they were the archive.
    pub fn encrypt_bytes(&self, identity: &str, tar: &[u8]) {
        self.encrypt_compressed(identity, &zstd::encode_all(tar, 1).unwrap());
    }

    /// Writes any bytes, as if they were the compressed archive.
    pub fn encrypt_compressed(&self, identity: &str, compressed: &[u8]) {
        let identity: age::x25519::Identity = identity.trim().parse().expect("an age identity");
        fs::write(&self.file, age_encrypt(&identity.to_public(), compressed)).unwrap();
    }
}

/// Encrypts with age, as anyone who knows the recipient can.
pub fn age_encrypt(recipient: &age::x25519::Recipient, bytes: &[u8]) -> Vec<u8> {
    let recipients = std::iter::once(recipient as &dyn age::Recipient);
    let mut out = Vec::new();
    let mut writer = age::Encryptor::with_recipients(recipients).unwrap().wrap_output(&mut out).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap();
    out
}

/// The file of a volume, numbered from 1.
#[track_caller]
pub fn volume_file(bundle: &Path, number: u32) -> PathBuf {
    let end = format!(".{number:04}.tar.zst.age");
    let files = fs::read_dir(bundle).unwrap_or_else(|e| panic!("{}: {e}", bundle.display())).map(|e| e.unwrap().path());
    let mut files: Vec<_> = files.filter(|p| p.to_str().is_some_and(|p| p.ends_with(&end))).collect();
    assert_eq!(files.len(), 1, "volume {number} of {}", bundle.display());
    files.remove(0)
}

/// Copies a bundle's folder.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Changes a bit in the middle of a file.
pub fn flip_bit(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// Cuts bytes off the end of a file.
pub fn truncate(file: &Path, bytes: u64) {
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
}

/// Computes the digests in the seal anew and signs it: [`rehash`], then [`sign_seal`]. The first line stays as it is.
pub fn reseal(bundle: &Path, sign: Sign<'_>) {
    rehash(bundle);
    sign_seal(bundle, sign);
}

/// Computes the digests in the seal anew; its signature does not fit any more.
pub fn rehash(bundle: &Path) {
    edit_seal(bundle, |text| {
        let mut out = String::new();
        for line in text.lines() {
            match line.split_once("  ").filter(|(_, name)| bundle.join(name).is_file()) {
                Some((_, name)) => {
                    let digest = blobs::sha256(&fs::read(bundle.join(name)).unwrap());
                    out += &format!("{}  {name}\n", digest.hex());
                }
                None => out += &format!("{line}\n"),
            }
        }
        out
    });
}

/// Changes the seal's text; its signature does not fit any more.
pub fn edit_seal(bundle: &Path, edit: impl FnOnce(String) -> String) {
    let file = bundle.join("SHA256SUMS");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file, edit(text)).unwrap();
}

/// Writes a manifest's digest into the first line of the seal.
pub fn seal_names_manifest(bundle: &Path, manifest: &[u8]) {
    let digest = blobs::sha256(manifest);
    edit_seal(bundle, |text| {
        let (head, rest) = text.split_once('\n').unwrap();
        let (before, _) = head.rsplit_once(' ').unwrap();
        format!("{before} {digest}\n{rest}")
    });
}

/// Signs the seal as it is.
pub fn sign_seal(bundle: &Path, sign: Sign<'_>) {
    let signature = sign(&fs::read(bundle.join("SHA256SUMS")).unwrap());
    fs::write(bundle.join("SHA256SUMS.asc"), signature).unwrap();
}

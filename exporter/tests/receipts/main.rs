//! Receipts: what production reports back, as a base, as what is known, and as evidence against a ledger. The receipts are
//! made here and signed with a key of the test, as production would.

#![allow(clippy::unwrap_used)]

mod base;
mod kept;
mod latest;

use std::fs;
use std::path::{Path, PathBuf};

use manifest_schema::{LedgerId, Manifest, Receipt, ReceiptHead, ReceiptImage, ReceiptType, Timestamp};
use serde_json::json;
use signing::SecretKey;
use testkit::hostile::{MANIFEST, volume_file};
use testkit::layout::noise;
use testkit::{Key, Opened, Ran, Site, run};

/// A layer that is worth leaving out.
const BIG: usize = 900_000;

/// A ledger with its key.
struct Ledger {
    id: LedgerId,
    key: SecretKey,
    /// `<name>.revocation.asc`
    revocation_file: PathBuf,
}

impl Ledger {
    /// The one of the site, whose certificate the exporter gets.
    fn of(site: &mut Site) -> Self {
        site.release["receipts"] = json!({ "certificates": ["trust/ledger.asc"] });
        let id = site.import["ledger"]["id"].as_str().unwrap().parse().unwrap();
        Self::with(site, id, &site.ledger_key)
    }

    /// Another one. Its certificate lies in the exporter's folder `trust`.
    fn new(site: &Site, name: &str) -> Self {
        Self::with(site, LedgerId::generate(), &Key::new(&site.scratch("keys"), name))
    }

    fn with(site: &Site, id: LedgerId, key: &Key) -> Self {
        let trust = site.export_dir().join("trust");
        fs::create_dir_all(&trust).unwrap();
        fs::copy(&key.certificate_file, trust.join(key.certificate_file.file_name().unwrap())).unwrap();
        Self { id, key: key.secret.clone(), revocation_file: key.revocation_file.clone() }
    }

    /// A receipt for a bundle, in which all images are held.
    fn receipt(&self, site: &Site, bundle: &Path) -> Receipt {
        let opened = Opened::open(bundle, 1, &site.identity);
        let manifest = Manifest::parse(opened.content(MANIFEST)).unwrap();
        let time: Timestamp = "2026-02-01T08:30:00Z".parse().unwrap();
        let held = |image: &manifest_schema::Image| ReceiptImage {
            origin: image.origin.clone(),
            digest: image.digest,
            since: time,
        };
        Receipt {
            kind: ReceiptType::V1,
            ledger: self.id,
            bundle: manifest.bundle,
            stream: manifest.stream,
            sequence: manifest.sequence,
            manifest: blobs::sha256(opened.content(MANIFEST)),
            published: time,
            images: manifest.images.iter().map(held).collect(),
            newest: manifest.sequence,
            head: ReceiptHead {
                number: manifest.sequence.get().try_into().unwrap(),
                hash: [1; 32].into(),
                root: [2; 32].into(),
                time,
            },
            made: time,
            tool: "sealift-import 0.1.0".parse().unwrap(),
        }
    }

    /// The file of a receipt, whose name says nothing.
    fn file(&self, site: &Site, name: &str, receipt: &Receipt) -> PathBuf {
        let path = site.export_dir().join(name);
        fs::write(&path, self.sign(&receipt.to_bytes().unwrap())).unwrap();
        path
    }

    /// A document and the signature over it and its line end.
    fn sign(&self, document: &[u8]) -> Vec<u8> {
        let line = [document, b"\n"].concat();
        let signature = self.key.sign_detached_armored(&line).unwrap();
        [line, signature].concat()
    }
}

/// Lists one image with a large layer that all share and one of its own.
fn list(site: &mut Site, tag: &str, own: u64) {
    site.list_layers(tag, &[&noise(1, BIG), &noise(own, 1000)]);
}

/// A bundle with one image.
fn packed(site: &mut Site, sequence: u64) -> PathBuf {
    list(site, &sequence.to_string(), 100 + sequence);
    site.packed(sequence)
}

fn bytes(bundle: &Path) -> u64 {
    fs::metadata(volume_file(bundle, 1)).unwrap().len()
}

fn receipts(site: &Site, args: &[&str]) -> Ran {
    run(site.export(&["receipts"]).args(args))
}

fn add(site: &Site, receipt: &Path) -> Ran {
    run(site.export(&["receipts", "add"]).arg(receipt))
}

/// A time in February 2026.
fn day(day: u8) -> Timestamp {
    format!("2026-02-{day:02}T08:30:00Z").parse().unwrap()
}

/// The same receipt, made later, of a ledger that has grown.
fn later(receipt: &Receipt, on: u8, entries: u64, newest: u64) -> Receipt {
    let mut later = receipt.clone();
    later.head.number = entries.try_into().unwrap();
    later.head.hash = [u8::try_from(entries).unwrap(); 32].into();
    (later.head.time, later.made) = (day(on), day(on));
    later.newest = newest.try_into().unwrap();
    later
}

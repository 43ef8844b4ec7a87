//! Bundles on media: volumes, several discs, what is missing or damaged, streams, bases.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod base;
mod damage;
mod discs;
mod resume;
mod stream;
mod volumes;

use std::fs;
use std::path::{Path, PathBuf};

use manifest_schema::Digest;
use testkit::layout::noise;
use testkit::{Ran, Site, run};

/// An image of which one layer is larger than three of the smallest volumes, between smaller ones; about 5 MB.
pub fn large(site: &mut Site) -> Digest {
    let layers = [noise(1, 700_000), noise(2, 3_400_000), noise(3, 300_000), noise(4, 600_000)];
    site.list_layers("1", &layers.each_ref().map(Vec::as_slice))
}

/// Packs as `payments-<sequence>`, which must succeed.
#[track_caller]
pub fn packed(site: &Site, sequence: u64, args: &[&str]) -> PathBuf {
    site.pack(sequence, args).expect_code(0);
    site.media().join(format!("payments-{sequence}"))
}

/// Receives folders.
#[track_caller]
pub fn receive(site: &Site, folders: &[&Path], args: &[&str]) -> Ran {
    run(site.import(&["receive"]).args(folders).args(args))
}

/// The names in a folder, in order.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The image is in production, and its signature is good.
#[track_caller]
pub fn is_in_production(site: &Site, digest: &Digest) {
    assert_eq!(site.production.tags().values().collect::<Vec<_>>(), [digest]);
    if testkit::need(&["skopeo"]) {
        site.skopeo_verifies("payments/large", "1").expect_code(0);
    }
}

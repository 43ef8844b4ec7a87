//! The entries of volumes that are no blobs, and the names of those that are.

use manifest_schema::{Blob, BundleId, Digest, Manifest, Part};
use serde::Serialize;

pub const MANIFEST: &str = "sealift/manifest.json";
pub const MANIFEST_SIGNATURE: &str = "sealift/manifest.json.asc";
pub const VOLUME: &str = "sealift/volume.json";
pub const STREAM_SEAL: &str = "sealift/seal.json";
pub const STREAM_SEAL_SIGNATURE: &str = "sealift/seal.json.asc";
pub const OCI_LAYOUT: &str = "oci-layout";
pub const INDEX: &str = "index.json";
pub const OCI_LAYOUT_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// `sealift/volume.json`, at the head of every volume but the first.
pub fn volume_head(manifest: &Manifest, manifest_digest: &Digest, number: u32) -> Vec<u8> {
    #[derive(Serialize)]
    struct VolumeHead<'a> {
        r#type: &'static str,
        bundle: &'a BundleId,
        manifest: &'a Digest,
        volume: u32,
    }
    let kind = "sealift/volume/1";
    let head = VolumeHead { r#type: kind, bundle: &manifest.bundle, manifest: manifest_digest, volume: number };
    serde_json::to_vec(&head).unwrap_or_default()
}

/// The seal of a bundle that is sent through a pipe: the last but one entry, which a signature follows.
pub fn stream_seal(manifest: &Manifest, manifest_digest: &Digest) -> Vec<u8> {
    #[derive(Serialize)]
    struct StreamSeal<'a> {
        r#type: &'static str,
        bundle: &'a BundleId,
        manifest: &'a Digest,
    }
    let seal = StreamSeal { r#type: "sealift/seal/1", bundle: &manifest.bundle, manifest: manifest_digest };
    serde_json::to_vec(&seal).unwrap_or_default()
}

/// The name of a blob's entry, or of that of a part of it.
pub fn entry_name(blob: &Blob, part: Option<Part>) -> String {
    match part {
        None => blob.digest.layout_path(),
        Some(part) => format!("{}.part-{:04}", blob.digest.layout_path(), part.number),
    }
}

/// What follows a part: its digest, in the form that `sha256sum -c` reads.
pub fn part_sum(name: &str, digest: &Digest) -> (String, Vec<u8>) {
    let file = name.rsplit('/').next().unwrap_or(name);
    (format!("{name}.sha256"), format!("{}  {file}\n", digest.hex()).into_bytes())
}

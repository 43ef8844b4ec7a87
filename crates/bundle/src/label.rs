//! `LABEL.txt`: what a person reads who holds the medium.

use std::fmt::Write;

use manifest_schema::Manifest;

use crate::names::{SEAL, SEAL_SIGNATURE};

/// What the label says beyond the manifest.
pub struct Label<'a> {
    /// Fingerprints of the release certificates that sign.
    pub signers: &'a [String],
    /// Volumes: file name and size in bytes.
    pub volumes: &'a [(String, u64)],
}

/// The label's text. Every value is one printable line: the manifest's types see to that.
pub fn render(manifest: &Manifest, label: &Label<'_>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{:<12} {value}", format!("{name}:"));
    };
    line("Bundle", &manifest.bundle);
    line("Stream", &manifest.stream);
    line("Sequence", &manifest.sequence);
    line("Created", &manifest.created);
    match &manifest.expires {
        Some(expires) => line("Expires", expires),
        None => line("Expires", &"never"),
    }
    line("Made by", &manifest.tool);
    for signer in label.signers {
        line("Signed by", signer);
    }
    for (key, value) in &manifest.labels {
        line(&format!("[{key}]"), value);
    }
    line("Images", &manifest.images.len());
    for (name, size) in label.volumes {
        line("Volume", &format_args!("{name}  {size} bytes"));
    }
    let _ = write!(
        text,
        "
This folder is sealed: every file above must be present and unchanged. Nobody can read the content without
the receiving side's key. To check it with nothing but stock tools (the keyring comes from the sender by
another way, never from this medium):

    gpgv --keyring ./release.gpg {SEAL_SIGNATURE} {SEAL}
    sha256sum -c --ignore-missing {SEAL}

To open it with nothing but stock tools, which gives an OCI image layout:

    set -o pipefail; for v in *.tar.zst.age; do age -d -i enclave.key \"$v\" | zstd -d | tar -x || break; done
"
    );
    text
}

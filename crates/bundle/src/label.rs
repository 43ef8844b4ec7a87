//! `LABEL.txt`: what a person reads who holds the medium.

use std::fmt::Write;

use manifest_schema::{Digest, Manifest, Stored};

use crate::names::{SEAL, SEAL_SIGNATURE, TOOL};

/// What the label says beyond the manifest.
pub struct Label<'a> {
    /// Fingerprints of the release certificates that sign.
    pub signers: &'a [String],
    /// The volumes.
    pub volumes: &'a [LabelVolume],
    /// The digest of the importing program, if it is on the first medium.
    pub tool: Option<&'a Digest>,
}

/// A volume, as the label shows it.
pub struct LabelVolume {
    /// File name.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// The medium that it is on, if there are several.
    pub medium: Option<u32>,
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
    if let Some(base) = &manifest.base {
        line("Base", &format_args!("{}-{}, which must have been received before", base.stream, base.sequence));
    }
    for LabelVolume { name, size, medium } in label.volumes {
        match medium {
            Some(medium) => line("Volume", &format_args!("{name}  {size} bytes, on medium {medium}")),
            None => line("Volume", &format_args!("{name}  {size} bytes")),
        }
    }
    if let Some(digest) = label.tool {
        line("Program", &format_args!("{TOOL}  {digest}"));
    }
    let _ = write!(
        text,
        "
This bundle is sealed: every file above must be present and unchanged. Nobody can read the content without
the receiving side's key. To check it with nothing but stock tools (the keyring comes from the sender by
another way, never from this medium):

    gpgv --keyring ./release.gpg {SEAL_SIGNATURE} {SEAL}
    sha256sum -c --ignore-missing {SEAL}

To open it with nothing but stock tools, which gives an OCI image layout:

    set -o pipefail; for v in *.tar.zst.age; do age -d -i enclave.key \"$v\" | zstd -d | tar -x || break; done
"
    );
    if manifest.blobs.iter().any(|blob| matches!(blob.stored, Stored::Parts { .. })) {
        text += "
Some blobs are larger than a volume and come in parts. With all volumes opened into one folder:

    find blobs -name '*.part-*.sha256' -execdir sha256sum -c --quiet {} +
    for p in blobs/*/*.part-0001; do b=${p%.part-0001}; cat $b.part-???? > $b && rm $b.part-*; done
";
    }
    if label.tool.is_some() {
        let _ = write!(
            text,
            "
{TOOL} is here for a first installation. That its digest stands on this medium proves nothing: compare it with
the one that the sender gives you by another way, before you run it:

    sha256sum {TOOL}
"
        );
    }
    text
}

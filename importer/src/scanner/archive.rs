//! An image as an OCI archive: a tar file with an OCI image layout (image specification, `image-layout.md`).

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use blobs::VerifyingReader;
use manifest_schema::{Digest, Document, MediaType};
use registry::FetchedDocument;
use serde_json::json;

use super::Target;
use crate::error::Error;

/// Writes an archive of one image manifest; every blob goes through its digest check.
///
/// # Errors
/// [`Error::PlaintextDir`], [`Error::ScanImage`]; if the registry fails.
pub(super) fn write(
    path: &Path,
    target: &Target<'_>,
    fetched: &FetchedDocument,
    document: &Document,
) -> Result<(), Error> {
    let fail = |source: io::Error| Error::PlaintextDir { path: path.into(), source };
    let file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(fail)?;
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, file));
    let manifest = fetched.document.bytes();
    let name = target.origin.to_string();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_INDEX,
        "manifests": [{
            "mediaType": fetched.media_type, "digest": target.manifest, "size": manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": name },
        }],
    });
    append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).map_err(fail)?;
    append(&mut tar, "index.json", index.to_string().as_bytes()).map_err(fail)?;
    append(&mut tar, &blob_path(&target.manifest), manifest).map_err(fail)?;
    let Document::Manifest { config, layers, .. } = document else { return Ok(()) };
    let mut seen = std::collections::BTreeSet::new();
    for blob in std::iter::once(config).chain(layers).filter(|blob| seen.insert(blob.digest)) {
        let content = target.client.fetch_blob(&blob.digest, blob.size)?;
        let mut content = VerifyingReader::new(content, blob.digest, blob.size);
        let read = |source| Error::ScanImage { digest: blob.digest, source };
        append_from(&mut tar, &blob_path(&blob.digest), blob.size, &mut content).map_err(read)?;
        let _verified = content.finish().map_err(read)?;
    }
    tar.into_inner().and_then(|mut file| file.flush()).map_err(fail)
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    append_from(tar, name, bytes.len() as u64, &mut &*bytes)
}

fn append_from(tar: &mut tar::Builder<impl Write>, name: &str, size: u64, content: &mut impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o600);
    tar.append_data(&mut header, name, content)
}

//! Whether a registry takes an index of which entries are missing. It says so only when asked with one.

use blobs::{VerifiedBytes, sha256};
use manifest_schema::MediaType;
use registry::RepositoryClient;

use crate::error::Error;

/// Pushes an index with one entry that cannot exist, by digest, and takes it away again if the registry kept it.
///
/// # Errors
/// If the registry fails for another reason than the missing entry.
pub fn is_taken(client: &RepositoryClient) -> Result<bool, Error> {
    let absent = sha256(b"sealift: an image manifest that does not exist");
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{absent}","size":2}}]}}"#,
        MediaType::OCI_INDEX,
        MediaType::OCI_MANIFEST
    );
    let probe = VerifiedBytes::of(text.into_bytes());
    let media_type =
        MediaType::OCI_INDEX.parse().map_err(|source| Error::Document { digest: *probe.digest(), source })?;
    match client.push_document(&probe, &media_type) {
        Ok(_pushed) => {
            if let Err(e) = client.delete_document(probe.digest()) {
                tracing::info!("the probe {} stays in the registry: {e}", probe.digest());
            }
            Ok(true)
        }
        Err(registry::Error::Status { status: 400 | 404 | 422, .. } | registry::Error::NotFound { .. }) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

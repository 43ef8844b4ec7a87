//! Stage 5: label, checksums, signature. The manifest was intent; the seal is release.

use std::path::PathBuf;

use bundle::{LABEL, Label, SEAL, SEAL_SIGNATURE, Seal, SealedFile};
use manifest_schema::{BundleId, Digest};
use serde::Serialize;
use signing::{SecretKey, join_signatures};

use crate::error::Error;
use crate::pull::Pulled;
use crate::record::Claim;

/// A sealed bundle.
#[derive(Debug, Clone, Serialize)]
#[must_use]
pub struct Sealed {
    /// Its folder.
    pub path: PathBuf,
    /// Its id.
    pub bundle: BundleId,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Bytes of all volumes, if known.
    pub bytes: Option<u64>,
}

/// Seals a bundle, signs the seal with every key, and gives the bundle's folder the final name.
///
/// # Errors
/// If a file cannot be written, a key fails, or the final name has been taken meanwhile.
pub fn seal(pulled: Pulled, claim: &Claim, keys: &[SecretKey]) -> Result<Sealed, Error> {
    let folder = claim.partial();
    let at = |name: &str| {
        let path = folder.join(name);
        move |source| Error::Output { path, source }
    };
    let names: Vec<String> =
        pulled.volumes.iter().map(|v| v.path.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect();
    let sizes: Vec<_> = names.iter().cloned().zip(pulled.volumes.iter().map(|v| v.size)).collect();
    let signers: Vec<String> = pulled.signers.iter().map(ToString::to_string).collect();
    let label = bundle::render(&pulled.manifest, &Label { signers: &signers, volumes: &sizes });
    console::write_new(&folder.join(LABEL), label.as_bytes()).map_err(at(LABEL))?;
    let seal = Seal {
        bundle: pulled.manifest.bundle,
        revision: claim.revision(),
        manifest: pulled.manifest_digest,
        name: pulled.manifest.name(),
        label: blobs::sha256(label.as_bytes()),
        volumes: names
            .into_iter()
            .zip(&pulled.volumes)
            .map(|(name, volume)| SealedFile { name, digest: volume.digest })
            .collect(),
    };
    let bytes = seal.to_bytes();
    let signatures = keys.iter().map(|key| key.sign_detached_armored(&bytes)).collect::<Result<Vec<_>, _>>()?;
    let signature = join_signatures(&signatures.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    let sealed = Sealed {
        path: claim.complete(),
        bundle: seal.bundle,
        manifest: seal.manifest,
        bytes: Some(pulled.volumes.iter().map(|v| v.size).sum()),
    };
    // Before there is a seal: what has one is never made again with other content under the same number.
    claim.note_sealed(&sealed)?;
    console::write_new(&folder.join(SEAL), &bytes).map_err(at(SEAL))?;
    console::write_new(&folder.join(SEAL_SIGNATURE), &signature).map_err(at(SEAL_SIGNATURE))?;
    bundle::rename_new(&folder, &sealed.path).map_err(|source| Error::Output { path: sealed.path.clone(), source })?;
    Ok(sealed)
}

//! Step 2: authenticated.

use blobs::sha256;
use bundle::Identities;
use manifest_schema::{Digest, Manifest};
use signing::Authentic;

use crate::error::Error;
use crate::open::{Opened, Sealed};

/// A bundle whose manifest is signed and is the one that was sealed.
#[must_use]
pub struct Authenticated<'s> {
    pub(crate) sealed: Sealed<'s>,
    pub(crate) identities: Identities,
    pub(crate) manifest: Authentic<Manifest>,
    /// The digest of the manifest's bytes as received.
    pub(crate) digest: Digest,
}

/// Checks the manifest's signatures over its bytes as received, then parses them, then holds them against the seal.
///
/// # Errors
/// [`Error`] says which of these failed.
pub fn authenticate(opened: Opened<'_>) -> Result<Authenticated<'_>, Error> {
    let Opened { sealed, identities, head } = opened;
    let digest = sha256(&head.untrusted_manifest);
    let authentic = sealed
        .rules
        .trust
        .verify_detached(head.untrusted_manifest, &head.untrusted_signature)
        .map_err(|source| Error::ManifestRejected { stream: sealed.stream.clone(), source: Box::new(source) })?;
    let seal = sealed.seal.get();
    if digest != seal.manifest {
        return Err(Error::OtherManifest { sealed: seal.manifest, found: digest });
    }
    let manifest = authentic.parse(|bytes| Manifest::parse(bytes))?;
    let m = manifest.get();
    if m.bundle != seal.bundle {
        return Err(Error::OtherBundle { sealed: seal.bundle, found: m.bundle });
    }
    if m.stream != sealed.stream || m.name() != seal.name {
        return Err(Error::OtherName { sealed: seal.name.clone(), found: m.name() });
    }
    if m.volumes.count as usize != seal.volumes.len() {
        return Err(Error::VolumeCount { sealed: seal.volumes.len(), manifest: m.volumes.count });
    }
    for signer in manifest.signers() {
        tracing::info!("manifest {digest} signed by {} at {}", signer.fingerprint, signer.signed_at);
    }
    Ok(Authenticated { sealed, identities, manifest, digest })
}

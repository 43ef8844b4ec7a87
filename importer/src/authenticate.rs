//! Step 2: authenticated.

use std::sync::OnceLock;

use blobs::{VerifiedBytes, sha256};
use bundle::Identities;
use manifest_schema::{Digest, Manifest, Stream};
use signing::Authentic;

use crate::error::Error;
use crate::media::Media;
use crate::open::Opened;
use crate::site::StreamRules;

/// A bundle whose manifest is signed and is the one that was sealed.
#[must_use]
pub struct Authenticated<'s> {
    pub(crate) media: Media<'s>,
    pub(crate) stream: Stream,
    pub(crate) rules: &'s StreamRules,
    pub(crate) identities: Identities,
    pub(crate) manifest: Authentic<Manifest>,
    /// The digest of the manifest's bytes as received.
    pub(crate) digest: Digest,
    /// Its documents in the manifest's order, if they are few: they are needed three times.
    pub(crate) documents: OnceLock<Vec<VerifiedBytes>>,
}

/// Checks the manifest's signatures over its bytes as received, then parses them, then holds them against the seal.
///
/// # Errors
/// [`Error`] says which of these failed.
pub fn authenticate(opened: Opened<'_>) -> Result<Authenticated<'_>, Error> {
    let Opened { media, sealed, site, identities, head } = opened;
    let digest = sha256(&head.untrusted_manifest);
    let (stream, rules) = match &sealed {
        Some((_, stream, rules)) => (stream.clone(), *rules),
        None => {
            // Only to know whose signature is needed; what counts is parsed again from the authenticated bytes.
            let stream = Manifest::untrusted_stream(&head.untrusted_manifest).ok_or(Error::NoStreamNamed)?;
            let rules = site.stream(&stream)?;
            (stream, rules)
        }
    };
    let authentic = rules
        .trust
        .verify_detached(head.untrusted_manifest, &head.untrusted_signature)
        .map_err(|source| Error::ManifestRejected { stream: stream.clone(), source: Box::new(source) })?;
    if let Some((seal, _, _)) = sealed.as_ref().filter(|(seal, _, _)| seal.manifest != digest) {
        return Err(Error::OtherManifest { sealed: seal.manifest, found: digest });
    }
    let manifest = authentic.parse(|bytes| Manifest::parse(bytes))?;
    let m = manifest.get();
    if let Some((seal, _, _)) = &sealed {
        if m.bundle != seal.bundle {
            return Err(Error::OtherBundle { sealed: seal.bundle, found: m.bundle });
        }
        if m.name() != seal.name {
            return Err(Error::OtherName { sealed: seal.name.clone(), found: m.name() });
        }
        if m.volumes.count as usize != seal.volumes {
            return Err(Error::VolumeCount { sealed: seal.volumes, manifest: m.volumes.count });
        }
    } else if m.volumes.count != 1 {
        return Err(Error::VolumeCount { sealed: 1, manifest: m.volumes.count });
    }
    if m.stream != stream {
        return Err(Error::OtherName { sealed: stream.to_string(), found: m.name() });
    }
    for signer in manifest.signers() {
        tracing::info!("manifest {digest} signed by {} at {}", signer.fingerprint, signer.signed_at);
    }
    Ok(Authenticated { media, stream, rules, identities, manifest, digest, documents: OnceLock::new() })
}

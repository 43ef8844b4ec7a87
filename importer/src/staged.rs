//! A bundle that was received before and waits for its promotion: steps 0 to 2 once more, from what was kept.

use std::sync::OnceLock;

use bundle::Identities;
use ledger::{Received, Subject};
use manifest_schema::{Digest, Manifest};

use crate::authenticate::Authenticated;
use crate::error::Error;
use crate::media::{MANIFEST, Media, SIGNATURE, Staged};
use crate::site::Site;

/// Authenticates a bundle that waits. Its stream's certificates and threshold are those of now, and what is revoked by now
/// does not count; expiry and weakness are judged as of the recorded receive.
///
/// # Errors
/// [`Error::NothingWaits`], [`Error::NotKept`], [`Error::ManifestRejected`].
pub fn authenticate<'s>(site: &'s Site, subject: &Subject) -> Result<(Authenticated<'s>, Received), Error> {
    let (staged, received) = Staged::open(site, subject)?;
    let (bytes, signature) = (staged.kept(MANIFEST)?, staged.kept(SIGNATURE)?);
    let digest: Digest = blobs::sha256(&bytes);
    // By its digest it is the one that was received, with the name that it had then.
    if digest != subject.manifest {
        return Err(Error::OtherManifest { sealed: subject.manifest, found: digest });
    }
    let stream = subject.stream.clone();
    let rules = site.stream(&stream)?;
    let authentic = rules
        .trust
        .as_received(staged.received())
        .verify_detached(bytes, &signature)
        .map_err(|source| Error::ManifestRejected { stream: stream.clone(), source: Box::new(source) })?;
    let manifest = authentic.parse(|bytes| Manifest::parse(bytes))?;
    let authenticated = Authenticated {
        media: Media::Staged(Box::new(staged)),
        stream,
        rules,
        identities: Identities::none(),
        manifest,
        digest,
        documents: OnceLock::new(),
    };
    Ok((authenticated, received))
}

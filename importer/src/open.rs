//! Steps 0 and 1: sealed, opened.

use std::path::Path;

use bundle::{Folder, FolderError, Head, Identities, LABEL, SEAL, SEAL_SIGNATURE, Seal};
use manifest_schema::{Sequence, Stream};
use signing::Authentic;

use crate::error::Error;
use crate::site::{Site, StreamRules};

/// A bundle whose seal is signed by the release certificates of a configured stream.
#[must_use]
pub struct Sealed<'s> {
    pub(crate) folder: Folder,
    pub(crate) seal: Authentic<Seal>,
    pub(crate) stream: Stream,
    pub(crate) rules: &'s StreamRules,
}

/// A sealed bundle of which volume 1 could be opened. age names no sender: nothing inside is believed yet.
#[must_use]
pub struct Opened<'s> {
    pub(crate) sealed: Sealed<'s>,
    pub(crate) identities: Identities,
    pub(crate) head: Head,
}

/// Step 0: judges the seal. No volume is opened before.
///
/// # Errors
/// [`Error`] if there is no seal, its stream is not configured, its signature does not count, or the folder holds what a
/// bundle does not have.
pub fn seal<'s>(site: &'s Site, path: &Path) -> Result<Sealed<'s>, Error> {
    let folder = Folder::open(path)?;
    let (bytes, signature) = commands::check::read_seal(&folder)?;
    // Only to know whose signature is needed; what counts is parsed again from the authenticated bytes.
    let untrusted_seal = Seal::parse(&bytes)?;
    let (stream, _) = split_name(&untrusted_seal.name)?;
    let rules = site.stream(&stream)?;
    let authentic = rules
        .trust
        .verify_detached(bytes, &signature)
        .map_err(|source| Error::SealRejected { stream: stream.clone(), source: Box::new(source) })?;
    let seal = authentic.parse(|bytes| Seal::parse(bytes))?;
    for signer in seal.signers() {
        tracing::info!("seal signed by {} at {}", signer.fingerprint, signer.signed_at);
    }
    let names: Vec<&str> = seal.get().files().map(|(name, _)| name).chain([SEAL, SEAL_SIGNATURE]).collect();
    folder.survey(&names)?;
    Ok(Sealed { folder, seal, stream, rules })
}

/// `<stream>-<sequence>`.
fn split_name(name: &str) -> Result<(Stream, Sequence), Error> {
    let parts = name.rsplit_once('-').and_then(|(stream, sequence)| {
        let number: u64 = sequence.parse().ok()?;
        Some((stream.parse().ok()?, Sequence::try_from(number).ok()?))
    });
    parts.ok_or_else(|| Error::BundleName(manifest_schema::OutsideText::new(name)))
}

impl<'s> Sealed<'s> {
    /// Step 1: opens volume 1.
    ///
    /// # Errors
    /// [`Error`] if no identity fits, or the volume is damaged.
    pub fn open(self, identities: &Identities) -> Result<Opened<'s>, Error> {
        self.all_here()?;
        let name = &self.seal.get().volumes[0].name;
        let head = Head::read(self.folder.open_file(name)?, identities).map_err(|e| self.diagnose(0, e))?;
        Ok(Opened { identities: identities.clone(), head, sealed: self })
    }

    /// Every sealed file is there, and the label is the one that was sealed. Volumes are read later, once.
    fn all_here(&self) -> Result<(), Error> {
        let missing = |e| match e {
            FolderError::Missing(file) => Error::MissingFile { file },
            other => other.into(),
        };
        for (name, _) in self.seal.get().files() {
            self.folder.open_file(name).map_err(missing)?;
        }
        let expected = self.seal.get().label;
        let (found, _) = self.folder.digest_of(LABEL, |_| ())?;
        if found != expected {
            return Err(Error::Damaged { file: self.folder.path().join(LABEL), expected, found });
        }
        Ok(())
    }

    /// Tells damage from deceit: if a volume's ciphertext is not what was sealed, the medium is at fault, whatever the
    /// error; otherwise the bundle is.
    pub(crate) fn diagnose(&self, volume: usize, error: bundle::ContentsError) -> Error {
        let sealed = &self.seal.get().volumes[volume];
        match self.folder.digest_of(&sealed.name, |_| ()) {
            Ok((found, _)) if found != sealed.digest => {
                Error::Damaged { file: self.folder.path().join(&sealed.name), expected: sealed.digest, found }
            }
            Ok(_) if matches!(&error, bundle::ContentsError::Volume(bundle::VolumeError::NoIdentity)) => {
                Error::NoIdentity { file: self.folder.path().join(&sealed.name) }
            }
            Ok(_) => Error::Contents { file: self.folder.path().join(&sealed.name), source: Box::new(error) },
            Err(e) => e.into(),
        }
    }
}

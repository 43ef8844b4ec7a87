//! The folders of a bundle and their seals.

use std::path::PathBuf;

use bundle::{Folder, FolderError, Medium, SEAL, SEAL_SIGNATURE, Seal};
use manifest_schema::{Digest, LIMITS, OutsideText};
use signing::Trust;

use crate::error::Error;

/// The folders of one bundle, all with seals of it.
pub struct Media {
    /// The folders.
    pub media: Vec<Medium>,
    /// Who signed the seal of each; `None` if that was not checked.
    pub signed_by: Option<Vec<Vec<String>>>,
    /// What lies in them and is in no seal.
    pub not_sealed: Vec<OutsideText>,
    /// Bytes of the sealed files that are there.
    pub bytes: u64,
}

impl Media {
    /// Opens folders and judges their seals. A folder without a seal stands for the folders `medium-1`, `medium-2` and so on
    /// in it.
    ///
    /// # Errors
    /// If a folder has no seal, or one that does not count or is of another bundle; if it holds what a bundle does not have.
    pub fn open(paths: &[PathBuf], trust: Option<&Trust>) -> Result<Self, Error> {
        let (mut media, mut signed_by) = (Vec::new(), Vec::new());
        for folder in folders(paths)? {
            let (bytes, signature) = read_seal(&folder)?;
            if let Some(trust) = trust {
                let rejected = |source| Error::Rejected { folder: folder.path().into(), source };
                let authentic = trust.verify_detached(bytes.clone(), &signature).map_err(rejected)?;
                signed_by.push(authentic.signers().iter().map(|s| s.fingerprint.to_string()).collect());
            }
            let seal = Seal::parse(&bytes)?;
            media.push(Medium::new(folder, seal, &bytes));
        }
        let Some(first) = media.first() else { return Err(Error::NoFolder) };
        if let Some(other) = media.iter().find(|medium| !same_bundle(&medium.seal, &first.seal)) {
            let [found, expected] = names_apart(&other.seal, &first.seal);
            return Err(Error::OtherBundle { folder: other.folder.path().into(), found, expected });
        }
        let sealed: Vec<&str> = media.iter().flat_map(|medium| medium.seal.files().map(|(name, _)| name)).collect();
        let mut sealed: Vec<&str> = sealed.into_iter().chain([SEAL, SEAL_SIGNATURE]).collect();
        sealed.sort_unstable();
        sealed.dedup();
        let mut not_sealed = Vec::new();
        for medium in &media {
            not_sealed.extend(medium.folder.survey(&sealed)?);
        }
        let bytes = media.iter().map(|medium| medium.folder.sizes(&sealed)).sum();
        Ok(Self { signed_by: trust.map(|_| signed_by), not_sealed, bytes, media })
    }

    /// The digests of all seals.
    pub fn seals(&self) -> Vec<Digest> {
        self.media.iter().map(|medium| medium.seal_digest).collect()
    }
}

fn folders(paths: &[PathBuf]) -> Result<Vec<Folder>, Error> {
    let mut folders = Vec::new();
    for path in paths {
        let folder = Folder::open(path)?;
        match folder.open_file(SEAL) {
            Err(FolderError::Missing(_)) => match folder.media()? {
                media if media.is_empty() => folders.push(folder),
                media => folders.extend(media),
            },
            _ => folders.push(folder),
        }
    }
    Ok(folders)
}

fn same_bundle(one: &Seal, other: &Seal) -> bool {
    (&one.bundle, &one.name, &one.manifest) == (&other.bundle, &other.name, &other.manifest)
}

/// What two bundles are called, with as much as tells them apart.
fn names_apart(one: &Seal, other: &Seal) -> [String; 2] {
    let name = |seal: &Seal| {
        if one.name != other.name {
            seal.name.clone()
        } else if one.bundle != other.bundle {
            format!("{} with id {}", seal.name, seal.bundle)
        } else {
            format!("{} with manifest {}", seal.name, seal.manifest)
        }
    };
    [name(one), name(other)]
}

/// Reads the seal and its signature.
///
/// # Errors
/// [`Error::NoSeal`] if either is missing, [`Error::CutSeal`] if either is plainly cut short.
pub fn read_seal(folder: &Folder) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let read = |file, limit| match folder.read_file(file, limit) {
        Err(FolderError::Missing(_)) => Err(Error::NoSeal { folder: folder.path().into(), file }),
        other => Ok(other?),
    };
    let (seal, signature) = (read(SEAL, LIMITS.seal)?, read(SEAL_SIGNATURE, LIMITS.signature)?);
    for (name, whole) in [(SEAL, seal.ends_with(b"\n")), (SEAL_SIGNATURE, is_whole(&signature))] {
        if !whole {
            return Err(Error::CutSeal(folder.path().join(name)));
        }
    }
    Ok((seal, signature))
}

/// Whether an armored signature has its last line; one that is not armored cannot be told without a key.
fn is_whole(signature: &[u8]) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN PGP SIGNATURE-----";
    const END: &[u8] = b"-----END PGP SIGNATURE-----";
    !signature.is_empty() && (!signature.starts_with(BEGIN) || signature.trim_ascii_end().ends_with(END))
}

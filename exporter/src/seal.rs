//! Stage 5: label, checksums, signature. The manifest was intent; the seal is release.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use blobs::Hasher;
use bundle::{LABEL, Label, LabelVolume, SEAL, SEAL_SIGNATURE, Seal, SealedVolume, TOOL, medium_name, volume_name};
use manifest_schema::{Algorithm, BundleId, Digest};
use serde::Serialize;
use signing::{SecretKey, join_signatures};

use crate::error::Error;
use crate::pull::Pulled;
use crate::record::Claim;
use crate::request::Request;

/// A sealed bundle.
#[derive(Debug, Clone, Serialize)]
#[must_use]
pub struct Sealed {
    /// Its folder; `-` if it was sent through a pipe.
    pub path: PathBuf,
    /// Its id.
    pub bundle: BundleId,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The seal's revision.
    pub revision: u32,
    /// How many media it is on, with a folder for each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media: Option<u32>,
    /// The volumes in the folder.
    pub volumes: Vec<u32>,
    /// Bytes of all volumes in it, if known.
    pub bytes: Option<u64>,
    /// The digest of the importing program, if it is on the first medium.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<Digest>,
}

/// Where the sealed files get their final name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Into {
    /// The bundle's own folder.
    Bundle,
    /// A folder beside it, with the volumes that were made again.
    Revision,
}

/// Seals a bundle, signs the seal with every key, and gives the folder its final name. The seal names every volume,
/// also those that are not in the folder because they were not made again.
///
/// # Errors
/// If a file cannot be written, a key fails, or the final name has been taken meanwhile.
pub fn seal(
    pulled: Pulled,
    request: &Request,
    claim: &mut Claim,
    keys: &[SecretKey],
    into: Into,
) -> Result<Sealed, Error> {
    let folder = &pulled.folder;
    let mut finished = match into {
        Into::Bundle => claim.volumes().clone(),
        Into::Revision => claim.sealed_volumes(),
    };
    finished.extend(pulled.written.clone());
    // The seal says that this is all of it.
    if !finished.keys().copied().eq(1..=pulled.manifest.volumes.count) {
        return Err(Error::NotAllVolumes { noted: finished.len(), of: pulled.manifest.volumes.count });
    }
    let name = pulled.manifest.name();
    let medium_of = |number: u32| {
        let index = usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
        pulled.media.as_ref().and_then(|media| media.get(index).copied()).unwrap_or(1)
    };
    let volumes: Vec<SealedVolume> = finished
        .iter()
        .map(|(number, volume)| SealedVolume {
            name: volume_name(&name, *number),
            digest: volume.digest,
            medium: medium_of(*number),
            recovery: volume.recovery().collect(),
        })
        .collect();
    let sizes: Vec<LabelVolume> = finished
        .iter()
        .zip(&volumes)
        .map(|((_, volume), sealed)| LabelVolume {
            name: sealed.name.clone(),
            size: volume.size,
            medium: pulled.media.is_some().then_some(sealed.medium),
        })
        .collect();
    let here: BTreeSet<u32> = match into {
        Into::Bundle => finished.keys().copied().collect(),
        Into::Revision => pulled.written.keys().copied().collect(),
    };
    let media: BTreeSet<u32> = here.iter().map(|number| medium_of(*number)).collect();
    let medium = |number: u32| match pulled.media {
        Some(_) => folder.join(medium_name(number)),
        None => folder.clone(),
    };
    let first = medium(1);
    let tool = match &request.with_importer {
        Some(path) => Some(carry(path, media.contains(&1).then_some(&first))?),
        None if into == Into::Revision && media.contains(&1) && claim.tool().is_some() => {
            return Err(Error::Missing("the importing program (--with-importer), which is on the first medium,"));
        }
        None if into == Into::Revision => claim.tool(),
        None => None,
    };
    let signers: Vec<String> = pulled.signers.iter().map(ToString::to_string).collect();
    let label = bundle::render(&pulled.manifest, &Label { signers: &signers, volumes: &sizes, tool: tool.as_ref() });
    let revision = claim.revision();
    let seal = Seal {
        bundle: pulled.manifest.bundle,
        revision,
        manifest: pulled.manifest_digest,
        name,
        again: match into {
            Into::Bundle => Vec::new(),
            Into::Revision => here.iter().copied().collect(),
        },
        label: blobs::sha256(label.as_bytes()),
        tool,
        split: pulled.media.is_some(),
        volumes,
    };
    let bytes = seal.to_bytes();
    let signatures = keys.iter().map(|key| key.sign_detached_armored(&bytes)).collect::<Result<Vec<_>, _>>()?;
    let signature = join_signatures(&signatures.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    let sealed = Sealed {
        path: match into {
            Into::Bundle => claim.complete(),
            Into::Revision => claim.revision_complete(),
        },
        bundle: seal.bundle,
        manifest: seal.manifest,
        revision,
        media: seal.split.then(|| seal.media()),
        tool: seal.tool,
        bytes: Some(here.iter().filter_map(|number| finished.get(number)).map(|v| v.size).sum()),
        volumes: here.into_iter().collect(),
    };
    // Before there is a seal: what has one is never made again with other content under the same number.
    claim.note_sealed(&sealed, finished)?;
    for number in media {
        let at = medium(number);
        for (name, bytes) in [(LABEL, label.as_bytes()), (SEAL, &bytes), (SEAL_SIGNATURE, &signature)] {
            let path = at.join(name);
            console::write_new(&path, bytes).map_err(|source| Error::Output { path, source })?;
        }
    }
    bundle::rename_new(folder, &sealed.path).map_err(|source| Error::Output { path: sealed.path.clone(), source })?;
    claim.note_named()?;
    Ok(sealed)
}

/// Copies the importing program to the first medium, if that is made now. Gives its digest.
fn carry(path: &Path, to: Option<&PathBuf>) -> Result<Digest, Error> {
    let fail = |source| Error::Importer { path: path.into(), source };
    let mut from = File::open(path).map_err(fail)?;
    let mut hasher = Hashing { hasher: Hasher::new(Algorithm::Sha256), copy: None };
    if let Some(folder) = to {
        use std::os::unix::fs::OpenOptionsExt;
        let target = folder.join(TOOL);
        let file = File::options().write(true).create_new(true).mode(0o755).open(&target);
        hasher.copy = Some(file.map_err(|source| Error::Output { path: target, source })?);
    }
    io::copy(&mut from, &mut hasher).map_err(fail)?;
    if let Some(copy) = hasher.copy {
        copy.sync_all().map_err(fail)?;
    }
    Ok(hasher.hasher.finish())
}

struct Hashing {
    hasher: Hasher,
    copy: Option<File>,
}

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(copy) = &mut self.copy {
            copy.write_all(bytes)?;
        }
        self.hasher.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

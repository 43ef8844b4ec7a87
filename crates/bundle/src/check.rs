//! The files of a bundle against its seal.

use manifest_schema::Digest;
use serde::Serialize;

use crate::folder::{Folder, FolderError};
use crate::names::{LABEL, TOOL};
use crate::seal::{Seal, SealedVolume};

/// A sealed file as it was found.
#[derive(Debug, Clone, Serialize)]
pub struct FileState {
    /// Its name.
    pub name: String,
    /// The sealed digest.
    pub expected: Digest,
    /// The digest found; `None` if the file is missing.
    pub found: Option<Digest>,
    /// Its size in bytes, if it is there.
    pub size: Option<u64>,
    /// Why it cannot be read, if it is there and cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

impl FileState {
    /// Whether the file is what was sealed.
    pub fn is_good(&self) -> bool {
        self.found == Some(self.expected)
    }

    /// `good`, `missing`, `unreadable` or `damaged`.
    pub fn word(&self) -> &'static str {
        match self.found {
            None if self.unreadable.is_some() => "unreadable",
            None => "missing",
            Some(found) if found == self.expected => "good",
            Some(_) => "damaged",
        }
    }
}

impl Seal {
    /// Every sealed file with its digest, the label first.
    pub fn files(&self) -> impl Iterator<Item = (&str, Digest)> {
        let of_volume = |v| {
            let SealedVolume { name, digest, recovery, .. }: &SealedVolume = v;
            let recovery = recovery.iter().map(|file| (file.name.as_str(), file.digest));
            std::iter::once((name.as_str(), *digest)).chain(recovery)
        };
        let everywhere = std::iter::once((LABEL, self.label)).chain(self.tool.map(|digest| (TOOL, digest)));
        everywhere.chain(self.volumes.iter().flat_map(of_volume))
    }
}

/// Reads every sealed file. `progress` is told how many bytes were read.
///
/// # Errors
/// [`FolderError`] for what is not a regular file; missing, unreadable and damaged files are in the result.
pub fn check_files(folder: &Folder, seal: &Seal, mut progress: impl FnMut(u64)) -> Result<Vec<FileState>, FolderError> {
    let mut states = Vec::new();
    for (name, expected) in seal.files() {
        let mut state = FileState { name: name.into(), expected, found: None, size: None, unreadable: None };
        match folder.digest_of(name, &mut progress) {
            Ok((found, size)) => (state.found, state.size) = (Some(found), Some(size)),
            Err(FolderError::Missing(_)) => {}
            // A bad sector in one file says nothing about the others.
            Err(FolderError::Read { source, .. }) => state.unreadable = Some(source.to_string()),
            Err(e) => return Err(e),
        }
        states.push(state);
    }
    Ok(states)
}

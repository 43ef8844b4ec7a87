//! The media of one bundle, as far as they are at hand: folders with a seal each, or a stream.

mod folders;
mod piped;
mod staged;

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use bundle::{ContentsError, TarError};
use commands::handover::Chain;
use manifest_schema::Digest;

use crate::error::Error;

pub use folders::{Folders, OpenVolume, SealedAs};
pub use piped::Piped;
pub use staged::Staged;
pub(crate) use staged::{MANIFEST, SIGNATURE, is_kept};

/// Volumes that are read at once, at most.
const VOLUMES_AT_ONCE: usize = 2;

/// What is being waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// `<stream>-<sequence>`.
    pub bundle: String,
    /// The volume, from 1.
    pub volume: u32,
    /// How many volumes there are.
    pub volumes: u32,
    /// The medium that it is on, and how many there are, if the bundle is split.
    pub medium: Option<(u32, u32)>,
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "volume {} of {} of {}", self.volume, self.volumes, self.bundle)?;
        match self.medium {
            Some((medium, media)) => write!(f, " (on medium {medium} of {media})"),
            None => Ok(()),
        }
    }
}

/// Who brings media that are not there yet.
pub trait Wait: Send + Sync {
    /// Whether the bundle may be begun before all of it is there.
    fn waits(&self) -> bool {
        true
    }
    /// Whether anybody brings what is missing.
    fn brings(&self) -> bool {
        self.waits()
    }
    /// Waits for another medium, and gives the folders to look into; `None` if it will not come. No folder is held open
    /// meanwhile.
    ///
    /// # Errors
    /// If there is no way to ask.
    fn wait(&self, wanted: &Wanted) -> Result<Option<Vec<PathBuf>>, Error>;
    /// Says why a folder that was brought does not help.
    fn reject(&self, reason: &Error);
    /// Says what became of a volume that was brought too early.
    fn checked(&self, name: &str, problem: Option<&Error>) {
        let _ = (name, problem);
    }
}

/// Nobody: everything must be there from the beginning.
pub struct AllHere;

impl Wait for AllHere {
    fn waits(&self) -> bool {
        false
    }
    fn wait(&self, _: &Wanted) -> Result<Option<Vec<PathBuf>>, Error> {
        Ok(None)
    }
    fn reject(&self, _: &Error) {}
}

/// Nobody, and it does not matter: only the first volumes are read.
pub struct AsFarAsNeeded;

impl Wait for AsFarAsNeeded {
    fn brings(&self) -> bool {
        false
    }
    fn wait(&self, _: &Wanted) -> Result<Option<Vec<PathBuf>>, Error> {
        Ok(None)
    }
    fn reject(&self, _: &Error) {}
}

/// Where the volumes of a bundle come from.
#[must_use]
pub enum Media<'s> {
    /// Folders with seals.
    Folders(Arc<Folders<'s>>),
    /// A stream, of which the seal is the last entry.
    Piped(Piped),
    /// What was kept of a bundle that waits for its promotion.
    Staged(Box<Staged>),
}

impl Media<'_> {
    /// What an error from reading contents means.
    pub(crate) fn judge(&self, volume: u32, error: io::Error) -> Error {
        use bundle::VolumeError::{Corrupt, Io, NotAge, Tar};
        if let Self::Piped(piped) = self
            && let Some(ours) = piped.failure()
        {
            return ours;
        }
        let error = match error.downcast::<Error>() {
            Ok(ours) => return ours,
            Err(other) => ContentsError::of(other),
        };
        match (self, error) {
            (Self::Folders(folders), error) => folders.diagnose(volume, error),
            (Self::Piped(_), ContentsError::Volume(bundle::VolumeError::NoIdentity)) => {
                Error::NoIdentity { file: "-".into() }
            }
            // Nothing says what the ciphertext should be: what cannot be decrypted was cut or damaged on its way.
            (Self::Piped(_), ContentsError::Volume(source @ (Io(_) | NotAge | Corrupt(_)))) => Error::Stream { source },
            (Self::Piped(_), ContentsError::Volume(source @ Tar(TarError::Cut(_)))) => Error::Stream { source },
            (Self::Piped(_) | Self::Staged(_), error) => Error::Contents { file: "-".into(), source: Box::new(error) },
        }
    }

    /// Reads, and again if a copy of a volume turns out to be damaged and there is another.
    pub(crate) fn reading<T>(&self, mut read: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        loop {
            match (read(), self) {
                (Err(e), Self::Folders(folders)) => folders.another_copy(e)?,
                (result, _) => return result,
            }
        }
    }

    /// Who stated to have handed over what; of a stream nobody.
    pub(crate) fn handover(&self) -> Vec<Chain> {
        match self {
            Self::Folders(folders) => folders.handover(),
            Self::Piped(_) | Self::Staged(_) => Vec::new(),
        }
    }

    /// Whether the seal comes last, so that until then nothing has been released.
    pub(crate) fn is_sealed_last(&self) -> bool {
        matches!(self, Self::Piped(_))
    }

    /// Whether somebody may bring what is not at hand.
    pub(crate) fn waits(&self) -> bool {
        matches!(self, Self::Folders(folders) if folders.waits())
    }

    /// How many volumes are read at once, if so many blobs are handled at once.
    pub(crate) fn volumes_at_once(&self, jobs: usize) -> usize {
        match self {
            Self::Folders(folders) if !folders.one_at_a_time() => VOLUMES_AT_ONCE.min(jobs),
            _ => 1,
        }
    }

    /// The volumes that are at hand.
    pub(crate) fn here(&self) -> BTreeSet<u32> {
        match self {
            Self::Folders(folders) => folders.here(),
            Self::Piped(_) => [1].into(),
            Self::Staged(_) => BTreeSet::new(),
        }
    }

    /// For reading contents; `last` if nothing will be read again.
    pub(crate) fn volumes(&self, last: bool) -> FromMedia<'_> {
        FromMedia { media: self, last, open: None }
    }
}

/// Volumes from media, each held against the seals when it has been read.
pub struct FromMedia<'m> {
    media: &'m Media<'m>,
    last: bool,
    /// The copy that is being read.
    open: Option<PathBuf>,
}

impl bundle::Volumes for FromMedia<'_> {
    fn open(&mut self, number: u32) -> io::Result<Box<dyn Read + Send>> {
        match self.media {
            Media::Folders(folders) => {
                let OpenVolume { file, path } = folders.volume(number).map_err(io::Error::other)?;
                self.open = Some(path);
                Ok(Box::new(file))
            }
            Media::Piped(piped) => Ok(piped.open(self.last)),
            Media::Staged(_) => Err(io::Error::other("what waits has no volumes")),
        }
    }

    fn ended(&mut self, number: u32, digest: Digest) -> io::Result<()> {
        let Media::Folders(folders) = self.media else { return Ok(()) };
        if folders.sealed_digests(number).contains(&digest) {
            folders.note_good(self.open.take());
            return Ok(());
        }
        Err(io::Error::other(folders.not_sealed(number, digest)))
    }
}

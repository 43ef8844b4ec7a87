//! What a check found.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bundle::{CheckedFile, FileKind, Repairable, Verdict};
use manifest_schema::{BundleId, CheckedVolumes, Digest, OutsideText, VolumeNumbers};
use serde::Serialize;

use crate::check::media::Media;
use crate::error::Error;
use crate::handover::Chain;

/// A bundle as it was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The bundle.
    pub bundle: BundleId,
    /// The highest revision of its seals.
    pub revision: u32,
    /// `<stream>-<sequence>`
    pub name: String,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Who signed the seal of that revision; `None` if that was not checked.
    pub signed_by: Option<Vec<String>>,
    /// The folders that were given.
    pub folders: Vec<CheckedFolder>,
    /// The media, if the bundle is split.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<CheckedMedium>,
    /// Every sealed file.
    pub files: Vec<CheckedFile>,
    /// What no seal covers.
    pub not_sealed: Vec<OutsideText>,
    /// The volumes that were repaired.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repaired: Vec<String>,
    /// Why volumes could not be repaired, though that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_repaired: Vec<String>,
    /// Who handed over what, as stated.
    pub handover: Vec<Chain>,
    /// Bytes that were read and held against the seal.
    pub bytes: u64,
    /// How long that took.
    pub seconds: f64,
    /// How fast that was.
    pub bytes_per_second: u64,
}

/// A folder that was given.
#[derive(Debug, Clone, Serialize)]
pub struct CheckedFolder {
    /// The folder.
    pub path: PathBuf,
    /// The revision of its seal.
    pub revision: u32,
    /// The digest of its seal.
    pub seal: Digest,
    /// Who signed it; `None` if that was not checked.
    pub signed_by: Option<Vec<String>>,
    /// The volumes in it, whatever became of them.
    pub volumes: VolumeNumbers,
}

/// A medium of a split bundle.
#[derive(Debug, Clone, Serialize)]
pub struct CheckedMedium {
    /// Its number.
    pub number: u32,
    /// How much of it is here.
    pub state: Presence,
    /// Its volumes.
    pub volumes: VolumeNumbers,
}

/// How much of a medium is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// All of its volumes.
    Here,
    /// Some of its files.
    PartlyHere,
    /// Nothing.
    NotHere,
}

/// How long reading took.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Bytes that were read.
    pub bytes: u64,
    /// In so many seconds.
    pub seconds: f64,
}

impl Report {
    pub(crate) fn new(media: &Media, files: Vec<CheckedFile>, rate: Rate) -> Result<Self, Error> {
        let newest = bundle::newest(&media.media).ok_or(Error::NoFolder)?;
        let seal = &newest.seal;
        let folders: Vec<_> = media
            .media
            .iter()
            .enumerate()
            .map(|(i, medium)| CheckedFolder {
                path: medium.folder.path().into(),
                revision: medium.seal.revision,
                seal: medium.seal_digest,
                signed_by: media.signed_by.as_ref().and_then(|all| all.get(i).cloned()),
                volumes: volumes(files.iter().filter(|f| f.folder.as_deref() == Some(medium.folder.path()))),
            })
            .collect();
        let signed_by = folders.iter().find(|f| f.seal == newest.seal_digest).and_then(|f| f.signed_by.clone());
        let on = |number| files.iter().filter(move |f: &&CheckedFile| f.medium == Some(number));
        let presence = |number| {
            if on(number).all(|f| f.state == Verdict::Elsewhere) {
                Presence::NotHere
            } else if on(number).any(|f| f.kind == FileKind::Volume && f.state == Verdict::Missing) {
                Presence::PartlyHere
            } else {
                Presence::Here
            }
        };
        let medium = |number| CheckedMedium { number, state: presence(number), volumes: volumes(on(number)) };
        Ok(Self {
            bundle: seal.bundle,
            revision: seal.revision,
            name: seal.name.clone(),
            manifest: seal.manifest,
            signed_by,
            media: if seal.split { (1..=seal.media()).map(medium).collect() } else { Vec::new() },
            folders,
            not_sealed: media.not_sealed.clone(),
            repaired: Vec::new(),
            not_repaired: Vec::new(),
            handover: Vec::new(),
            bytes: rate.bytes,
            seconds: rate.seconds,
            bytes_per_second: if rate.seconds > 0.0 { (rate.bytes as f64 / rate.seconds) as u64 } else { 0 },
            files,
        })
    }

    /// What was found of the volumes of one folder, or of all. A volume that is nowhere counts where its medium is.
    pub fn volumes(&self, folder: Option<&CheckedFolder>) -> CheckedVolumes {
        let here: BTreeSet<u32> = folder.map_or_else(
            || self.files.iter().filter_map(|f| f.medium).collect(),
            |folder| {
                self.files.iter().filter(|f| f.folder.as_ref() == Some(&folder.path)).filter_map(|f| f.medium).collect()
            },
        );
        let inside = |f: &&CheckedFile| match (&f.folder, folder) {
            (Some(path), Some(folder)) => *path == folder.path,
            (None, Some(_)) => f.medium.is_some_and(|medium| here.contains(&medium)),
            (_, None) => true,
        };
        // Of several copies of a volume, the best counts.
        let mut left: BTreeSet<u32> = BTreeSet::new();
        let mut with = |state| -> VolumeNumbers {
            let found = self.files.iter().filter(inside).filter(|f| f.kind == FileKind::Volume && f.state == state);
            found.filter_map(|f| f.volume).filter(|volume| left.insert(*volume)).collect()
        };
        CheckedVolumes {
            good: with(Verdict::Good),
            damaged: with(Verdict::Damaged),
            unreadable: with(Verdict::Unreadable),
            missing: with(Verdict::Missing),
        }
    }

    /// Damaged, missing and unreadable files, without recovery data: that is a loss only once it is needed. Nor is a copy a
    /// problem of which there is a good one in another folder, such as one that was sent again.
    pub fn problems(&self) -> impl Iterator<Item = &CheckedFile> {
        let good = self.good_copies();
        self.bad_files().filter(move |f| !good.contains(f.name.as_str()))
    }

    /// Damaged and unreadable copies of files of which there is a good one in another folder.
    pub fn replaced(&self) -> impl Iterator<Item = &CheckedFile> {
        let good = self.good_copies();
        self.bad_files().filter(move |f| good.contains(f.name.as_str()))
    }

    /// The volumes that are not here, and need not be.
    pub fn others(&self) -> impl Iterator<Item = &CheckedFile> {
        self.files.iter().filter(|f| f.kind == FileKind::Volume && f.state == Verdict::Elsewhere)
    }

    fn bad_files(&self) -> impl Iterator<Item = &CheckedFile> {
        self.files.iter().filter(|f| f.state.is_problem() && f.kind != FileKind::Recovery)
    }

    fn good_copies(&self) -> BTreeSet<&str> {
        let good = self.files.iter().filter(|f| f.state == Verdict::Good && f.kind != FileKind::Label);
        good.map(|f| f.name.as_str()).collect()
    }

    /// Recovery files that are damaged, missing or unreadable.
    pub fn recovery_problems(&self) -> impl Iterator<Item = &CheckedFile> {
        self.files.iter().filter(|f| f.state.is_problem() && f.kind == FileKind::Recovery)
    }

    /// Folders of a split bundle in which no volume is.
    fn empty_folders(&self) -> impl Iterator<Item = &CheckedFolder> {
        self.folders.iter().filter(|f| !self.media.is_empty() && f.volumes.is_empty())
    }

    /// Fails if something is wrong; with `all` also if a medium is not here.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn verdict(&self, all: bool) -> Result<(), Error> {
        let lost = |wanted: fn(Option<Repairable>) -> bool| -> VolumeNumbers {
            volumes(self.problems().filter(|f| wanted(f.repairable)))
        };
        let repairable = lost(|r| r == Some(Repairable::Yes));
        let resend = lost(|r| r != Some(Repairable::Yes)).iter().filter(|v| !repairable.contains(*v)).collect();
        // Of a bundle that is not split, everything is wanted with `all`.
        let others = self.others().filter(|_| all && self.media.is_empty());
        let damage = Damage {
            files: self.problems().chain(others).map(|f| f.name.clone()).collect(),
            sealed: self.files.iter().filter(|f| f.state != Verdict::Elsewhere).count(),
            empty: self.empty_folders().map(|f| f.path.clone()).collect(),
            absent: self.media.iter().filter(|m| all && m.state == Presence::NotHere).map(|m| m.number).collect(),
            resend,
            repairable,
        };
        if damage.is_none() { Ok(()) } else { Err(Error::Damaged(Box::new(damage))) }
    }
}

/// The volumes among files.
fn volumes<'f>(files: impl Iterator<Item = &'f CheckedFile>) -> VolumeNumbers {
    files.filter(|f| f.kind == FileKind::Volume).filter_map(|f| f.volume).collect()
}

/// What is wrong with the files of a bundle.
#[derive(Debug, Default)]
pub struct Damage {
    /// The names of the files.
    pub files: Vec<String>,
    /// Of how many.
    pub sealed: usize,
    /// Folders of a split bundle without any volume.
    pub empty: Vec<PathBuf>,
    /// Media that should be here.
    pub absent: VolumeNumbers,
    /// Volumes that only the sender can help with.
    pub resend: VolumeNumbers,
    /// Volumes that recovery data can repair.
    pub repairable: VolumeNumbers,
}

impl Damage {
    /// What to do about it.
    pub fn hint(&self) -> String {
        if !self.repairable.is_empty() {
            let volumes = words("volume", "volumes", &self.repairable);
            format!("recovery data can repair {volumes}: run the same command with --repair")
        } else if self.files.is_empty() {
            "name the folders of all media".into()
        } else {
            "copy these files from the medium again, or ask the sender for them; the others are good".into()
        }
    }

    fn is_none(&self) -> bool {
        self.files.is_empty() && self.empty.is_empty() && self.absent.is_empty()
    }
}

impl std::error::Error for Damage {}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 20;
        let mut parts = Vec::new();
        if !self.files.is_empty() {
            let mut names = self.files.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
            if let Some(more) = self.files.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                names += &format!(" and {more} more");
            }
            parts.push(format!("{} of {} sealed files are missing or damaged: {names}", self.files.len(), self.sealed));
        }
        parts.extend(self.empty.iter().map(|folder| format!("{}: no volume is there", folder.display())));
        if !self.absent.is_empty() {
            parts.push(format!("{} not in the folders given", is("medium", "media", &self.absent)));
        }
        if !self.resend.is_empty() {
            let numbers: Vec<String> = self.resend.iter().map(|n| n.to_string()).collect();
            let volumes = words("volume", "volumes", &self.resend);
            parts.push(format!("{volumes} must be sent again: `sealift-export pack --volume {}`", numbers.join(",")));
        }
        f.write_str(&parts.join("; "))
    }
}

fn is(one: &str, many: &str, numbers: &VolumeNumbers) -> String {
    format!("{} {}", words(one, many, numbers), if numbers.len() == 1 { "is" } else { "are" })
}

/// `volumes 3, 7 and 9`
pub(crate) fn words(one: &str, many: &str, numbers: &VolumeNumbers) -> String {
    let mut numbers: Vec<String> = numbers.iter().map(|n| n.to_string()).collect();
    match numbers.pop() {
        Some(last) if numbers.is_empty() => format!("{one} {last}"),
        Some(last) => format!("{many} {} and {last}", numbers.join(", ")),
        None => format!("no {one}"),
    }
}

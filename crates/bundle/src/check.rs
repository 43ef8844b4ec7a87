//! The files of a bundle against its seals.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use blobs::threads;
use manifest_schema::Digest;
use serde::Serialize;

use crate::folder::{Folder, FolderError};
use crate::names::{LABEL, TOOL};
use crate::seal::{Seal, SealedVolume};

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

enum Reading {
    Absent,
    /// A bad sector in one file says nothing about the others.
    Failed(String),
    Whole(Digest, u64),
}

fn read(folder: &Folder, name: &str, progress: impl FnMut(u64)) -> Result<Reading, FolderError> {
    match folder.digest_on_medium(name, progress) {
        Ok((digest, size)) => Ok(Reading::Whole(digest, size)),
        Err(FolderError::Missing(_)) => Ok(Reading::Absent),
        Err(FolderError::Read { source, .. }) => Ok(Reading::Failed(source.to_string())),
        Err(e) => Err(e),
    }
}

/// A folder of a bundle, with the seal that lies in it.
pub struct Medium {
    /// The folder.
    pub folder: Folder,
    /// Its seal.
    pub seal: Seal,
    /// The digest of the seal's bytes.
    pub seal_digest: Digest,
}

impl Medium {
    /// A folder with its seal, of which these are the bytes.
    pub fn new(folder: Folder, seal: Seal, seal_bytes: &[u8]) -> Self {
        Self { folder, seal, seal_digest: blobs::sha256(seal_bytes) }
    }
}

/// The seal of the highest revision.
pub fn newest(media: &[Medium]) -> Option<&Medium> {
    media.iter().rev().max_by_key(|medium| medium.seal.revision)
}

/// What a sealed file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// `LABEL.txt`
    Label,
    /// The importing program.
    Tool,
    /// A volume.
    Volume,
    /// Recovery data of a volume.
    Recovery,
}

/// What became of a sealed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is what one of the seals says.
    Good,
    /// It is something else.
    Damaged,
    /// It is not there, and its medium is.
    Missing,
    /// It is there, and cannot be read.
    Unreadable,
    /// It is on a medium of which nothing is here.
    Elsewhere,
}

impl Verdict {
    /// For tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Damaged => "damaged",
            Verdict::Missing => "missing",
            Verdict::Unreadable => "unreadable",
            Verdict::Elsewhere => "on another medium",
        }
    }

    /// Whether something is wrong.
    pub fn is_problem(self) -> bool {
        matches!(self, Verdict::Damaged | Verdict::Missing | Verdict::Unreadable)
    }
}

/// Whether recovery data can repair a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repairable {
    /// There is none.
    NoData,
    /// There is too little of it for the damage.
    TooLittle,
    /// It can.
    Yes,
}

/// A sealed file in one folder, or one that is in none.
#[derive(Debug, Clone, Serialize)]
pub struct CheckedFile {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// The number of the volume that it is, or is recovery data of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<u32>,
    /// The medium that it belongs to; none for the label, which is on each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub medium: Option<u32>,
    /// The folder that it is in, or should be in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// What became of it.
    pub state: Verdict,
    /// The sealed digest, of the newest seal that has it.
    pub expected: Digest,
    /// The digest found.
    pub found: Option<Digest>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// The revisions whose seals vouch for it, if not all do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<u32>,
    /// Whether a volume can be repaired, if there is something wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repairable: Option<Repairable>,
}

/// A file as the seals name it.
struct Sealed<'s> {
    name: &'s str,
    kind: FileKind,
    volume: Option<u32>,
    medium: Option<u32>,
    /// By revision, the newest seal's first.
    digests: Vec<(u32, Digest)>,
    /// Whether the newest seal names it.
    current: bool,
}

/// Files that are read at once, at most.
const AT_ONCE: usize = 8;

/// Reads every sealed file in every folder, several at once unless they lie on one medium that would go back and forth between
/// them. All seals must be of one bundle; a file is good if it is what any of them says. `progress` is told how many bytes
/// were read.
///
/// # Errors
/// [`FolderError`] for what is not a regular file; missing, unreadable and damaged files are in the result.
pub fn check_media(media: &[Medium], progress: impl Fn(u64) + Sync) -> Result<Vec<CheckedFile>, FolderError> {
    check_some(media, |_| true, progress)
}

/// Reads files of these names once more, and puts what is found in the place of what was found before.
///
/// # Errors
/// As [`check_media`].
pub fn check_again(
    media: &[Medium],
    before: Vec<CheckedFile>,
    names: &[&str],
) -> Result<Vec<CheckedFile>, FolderError> {
    let mut again = check_some(media, |name| names.contains(&name), |_| ())?;
    let mut files = Vec::new();
    for file in before {
        if !names.contains(&file.name.as_str()) {
            files.push(file);
        } else {
            files.extend(again.extract_if(.., |row| row.name == file.name));
        }
    }
    Ok(files)
}

fn check_some(
    media: &[Medium],
    wanted: impl Fn(&str) -> bool,
    progress: impl Fn(u64) + Sync,
) -> Result<Vec<CheckedFile>, FolderError> {
    let sealed: Vec<_> = sealed_files(media).into_iter().filter(|file| wanted(file.name)).collect();
    // What lies on one disc or stick is in one queue.
    let (mut queues, mut slow) = (Vec::new(), BTreeMap::<u64, Vec<_>>::new());
    for medium in media {
        let files = (0..sealed.len()).map(|place| (medium, place));
        match medium.folder.one_at_a_time() {
            Some(device) => slow.entry(device).or_default().extend(files),
            None => queues.extend(files.map(|file| vec![file])),
        }
    }
    queues.extend(slow.into_values());
    let jobs = std::thread::available_parallelism().map_or(1, usize::from).min(AT_ONCE);
    let read = threads::map(jobs, queues, |queue: Vec<(&Medium, usize)>| {
        let judged = |(medium, place): (&Medium, usize)| {
            let file = &sealed[place];
            let reading = read(&medium.folder, file.name, &progress)?;
            let is_here = !matches!(reading, Reading::Absent) || file.kind == FileKind::Label;
            Ok(is_here.then(|| (place, file.judged(reading, media.len(), medium.folder.path()))))
        };
        queue.into_iter().map(judged).collect::<Result<Vec<_>, FolderError>>()
    })?;
    let mut rows: Vec<(usize, CheckedFile)> = read.into_iter().flatten().flatten().collect();
    let mut here: BTreeSet<u32> = rows.iter().filter_map(|(_, row)| row.medium).collect();
    // A seal of volumes that were made again comes without the others.
    let comes = |medium: &Medium, volume| medium.seal.again.is_empty() || medium.seal.again.contains(&volume);
    let demanded = |volume: Option<u32>| volume.is_none_or(|number| media.iter().any(|medium| comes(medium, number)));
    if newest(media).is_some_and(|medium| !medium.seal.split) {
        here.insert(1);
    }
    let found: BTreeSet<usize> = rows.iter().map(|(place, _)| *place).collect();
    for (place, file) in sealed.iter().enumerate().filter(|(place, file)| file.current && !found.contains(place)) {
        let state = match file.medium {
            Some(medium) if !here.contains(&medium) || !demanded(file.volume) => Verdict::Elsewhere,
            _ => Verdict::Missing,
        };
        rows.push((place, CheckedFile { state, ..file.row() }));
    }
    rows.sort_by_key(|(place, _)| *place);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

impl Sealed<'_> {
    fn row(&self) -> CheckedFile {
        CheckedFile {
            name: self.name.into(),
            kind: self.kind,
            volume: self.volume,
            medium: self.medium,
            folder: None,
            state: Verdict::Missing,
            expected: self.digests[0].1,
            found: None,
            size: None,
            unreadable: None,
            revisions: Vec::new(),
            repairable: None,
        }
    }

    fn judged(&self, reading: Reading, seals: usize, folder: &std::path::Path) -> CheckedFile {
        let mut row = CheckedFile { folder: Some(folder.into()), ..self.row() };
        match reading {
            Reading::Absent => {}
            Reading::Failed(reason) => (row.state, row.unreadable) = (Verdict::Unreadable, Some(reason)),
            Reading::Whole(digest, size) => {
                (row.found, row.size) = (Some(digest), Some(size));
                let vouch: Vec<u32> = self.digests.iter().filter(|(_, d)| *d == digest).map(|(r, _)| *r).collect();
                row.state = if vouch.is_empty() { Verdict::Damaged } else { Verdict::Good };
                if vouch.len() < seals {
                    row.revisions = vouch.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
                }
            }
        }
        row
    }
}

/// Every file that any of the seals names, in the order of the newest.
fn sealed_files(media: &[Medium]) -> Vec<Sealed<'_>> {
    let mut seals: Vec<&Seal> = media.iter().map(|medium| &medium.seal).collect();
    seals.sort_by_key(|seal| std::cmp::Reverse(seal.revision));
    let mut files: Vec<Sealed<'_>> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (age, seal) in seals.into_iter().enumerate() {
        let mut add = |name, digest, kind, volume, medium| {
            let place = *places.entry(name).or_insert_with(|| {
                files.push(Sealed { name, kind, volume, medium, digests: Vec::new(), current: age == 0 });
                files.len() - 1
            });
            files[place].digests.push((seal.revision, digest));
        };
        add(LABEL, seal.label, FileKind::Label, None, None);
        if let Some(tool) = seal.tool {
            add(TOOL, tool, FileKind::Tool, None, Some(1));
        }
        for (number, volume) in (1..).zip(&seal.volumes) {
            let medium = Some(volume.medium);
            add(&volume.name, volume.digest, FileKind::Volume, Some(number), medium);
            for file in &volume.recovery {
                add(&file.name, file.digest, FileKind::Recovery, Some(number), medium);
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_told_from_one_that_is_missing() {
        let process = Folder::open(std::path::Path::new("/proc/self")).expect("open");
        assert!(matches!(read(&process, "mem", &mut |_| ()), Ok(Reading::Failed(_))));
        assert!(matches!(read(&process, "absent", &mut |_| ()), Ok(Reading::Absent)));
        assert!(matches!(read(&process, "exe", &mut |_| ()), Err(FolderError::Special { .. })));
    }
}

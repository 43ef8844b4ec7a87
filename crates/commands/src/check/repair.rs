//! Recovery data: what it can repair, and repairing it.

use std::path::Path;

use bundle::recovery::{self, RecoveryError};
use bundle::{CheckedFile, FileKind, Medium, Repairable, Seal};
use console::Progress;
use manifest_schema::Digest;

/// A way to repair a volume.
struct Attempt<'a> {
    medium: &'a Medium,
    volume: &'a str,
    /// Recovery files that are in the same folder, those first that the seal vouches for.
    recovery: Vec<&'a str>,
    /// What one of the seals says the volume is.
    sealed: Digest,
}

/// Says of every volume with which something is wrong whether it can be repaired.
pub fn assess(media: &[Medium], files: &mut [CheckedFile], progress: &Progress) {
    for place in broken(files) {
        let attempts = attempts(media, files, &files[place]);
        let judged = attempts.iter().map(|attempt| attempt.assess(progress));
        files[place].repairable = judged.max().or(Some(Repairable::NoData));
    }
}

/// What became of the volumes that should be repaired.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Names of volumes that are good now.
    pub repaired: Vec<String>,
    /// Why others are not.
    pub failed: Vec<String>,
}

/// Repairs what can be repaired.
pub fn repair(media: &[Medium], files: &[CheckedFile], jobs: usize, progress: &Progress) -> Outcome {
    let mut outcome = Outcome::default();
    for file in broken(files).into_iter().map(|place| &files[place]) {
        if file.repairable != Some(Repairable::Yes) {
            continue;
        }
        let mut reason = String::new();
        let repaired = attempts(media, files, file).iter().any(|attempt| match attempt.repair(jobs, progress) {
            Ok(()) => true,
            Err(e) => {
                reason = with_causes(&e);
                false
            }
        });
        if repaired {
            outcome.repaired.push(file.name.clone());
        } else {
            outcome.failed.push(reason);
        }
    }
    outcome
}

fn broken(files: &[CheckedFile]) -> Vec<usize> {
    let broken = |file: &CheckedFile| file.kind == FileKind::Volume && file.state.is_problem();
    (0..files.len()).filter(|place| broken(&files[*place])).collect()
}

/// A volume that was made again has other recovery data: each seal's is tried for what that seal says, the newest first.
fn attempts<'a>(media: &'a [Medium], files: &'a [CheckedFile], volume: &'a CheckedFile) -> Vec<Attempt<'a>> {
    let recovery_of = |folder: &Path| {
        let there = move |f: &&CheckedFile| {
            f.kind == FileKind::Recovery && f.volume == volume.volume && (f.found.is_some() || f.unreadable.is_some())
        };
        files.iter().filter(there).filter(|f| f.folder.as_deref() == Some(folder)).collect::<Vec<_>>()
    };
    let mut seals: Vec<&Seal> = media.iter().map(|medium| &medium.seal).collect();
    seals.sort_by_key(|seal| std::cmp::Reverse(seal.revision));
    let mut attempts: Vec<Attempt<'_>> = Vec::new();
    for medium in media {
        let path = medium.folder.path();
        if volume.folder.as_deref().is_some_and(|folder| folder != path) {
            continue;
        }
        let there = recovery_of(path);
        for seal in seals.iter().filter(|_| !there.is_empty()) {
            let Some(sealed) = seal.volumes.iter().find(|v| v.name == volume.name) else { continue };
            if attempts.iter().any(|other| other.sealed == sealed.digest && std::ptr::eq(other.medium, medium)) {
                continue;
            }
            let vouched =
                |f: &CheckedFile| sealed.recovery.iter().any(|r| r.name == f.name && Some(r.digest) == f.found);
            let (good, rest): (Vec<&CheckedFile>, Vec<&CheckedFile>) = there.iter().partition(|f| vouched(f));
            let recovery = good.into_iter().chain(rest).map(|f| f.name.as_str()).collect();
            attempts.push(Attempt { medium, volume: &volume.name, recovery, sealed: sealed.digest });
        }
    }
    attempts
}

impl Attempt<'_> {
    fn assess(&self, progress: &Progress) -> Repairable {
        self.begin("assessing damage", 1, progress);
        let advance = |n| progress.advance(n);
        let assessed = recovery::assess(&self.medium.folder, self.volume, &self.recovery, advance);
        progress.end();
        match assessed {
            Ok(found) if found.is_intact() => Repairable::NoData,
            Ok(found) if found.is_repairable() => Repairable::Yes,
            Ok(_) => Repairable::TooLittle,
            Err(_) => Repairable::NoData,
        }
    }

    fn repair(&self, jobs: usize, progress: &Progress) -> Result<(), RecoveryError> {
        // It reads, copies, calculates and checks.
        self.begin(&format!("repairing {}", self.volume), 4, progress);
        let advance = |n| progress.advance(n);
        let done = recovery::repair(&self.medium.folder, self.volume, &self.recovery, self.sealed, jobs, advance);
        progress.end();
        done.map(|_| ())
    }

    fn begin(&self, what: &str, passes: u64, progress: &Progress) {
        let names: Vec<&str> = self.recovery.iter().copied().chain([self.volume]).collect();
        progress.begin(what, self.medium.folder.sizes(&names).saturating_mul(passes));
    }
}

fn with_causes(error: &RecoveryError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

//! Bundles of a few bytes a volume, sealed and signed like any other. Nobody looks into volumes here.

use std::fs;
use std::path::{Path, PathBuf};

use bundle::{
    Folder, LABEL, SEAL, SEAL_SIGNATURE, Seal, SealedFile, SealedVolume, TOOL, medium_name, recovery, volume_name,
};
use clap::Parser;
use commands::check::{Check, Options, Report, check_bundle};
use console::{Failure, Fault, Progress};
use manifest_schema::{BundleId, Digest, Timestamp};
use signing::{Certificates, Trust};
use tempfile::TempDir;
use testkit::Key;

pub struct Release {
    pub dir: TempDir,
    pub key: Key,
    pub id: BundleId,
    pub name: String,
    /// The volumes of each medium.
    pub plan: Vec<Vec<u32>>,
    pub recovery: Recovery,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    None,
    /// Files with the right names.
    Names,
    /// A quarter of each volume can be repaired.
    Real,
}

impl Release {
    pub fn of(plan: &[&[u32]]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = Key::new(dir.path(), "release");
        let plan = plan.iter().map(|volumes| volumes.to_vec()).collect();
        Self { key, dir, id: BundleId::generate(), name: "payments-42".into(), plan, recovery: Recovery::None }
    }

    /// Three media with two volumes each, the importing program on the first.
    pub fn split() -> Self {
        Self::of(&[&[1, 2], &[3, 4], &[5, 6]])
    }

    /// One medium with three volumes.
    pub fn single() -> Self {
        Self::of(&[&[1, 2, 3]])
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a revision in which these volumes were made again: `<to>/medium-1` and so on, or `<to>` if there is one medium.
    pub fn pack(&self, to: &str, revision: u32, made_again: &[u32]) -> Vec<PathBuf> {
        let split = self.plan.len() > 1;
        let folders: Vec<PathBuf> = (1..)
            .zip(&self.plan)
            .map(|(n, _)| if split { self.path(to).join(medium_name(n)) } else { self.path(to) })
            .collect();
        let mut volumes = Vec::new();
        for (folder, numbers) in folders.iter().zip(&self.plan) {
            fs::create_dir_all(folder).unwrap();
            let medium =
                if split { u32::try_from(folders.iter().position(|f| f == folder).unwrap()).unwrap() + 1 } else { 1 };
            for n in numbers {
                let name = volume_name(&self.name, *n);
                let again = if made_again.contains(n) { format!(", revision {revision}") } else { String::new() };
                let times = if self.recovery == Recovery::Real { 100_000 } else { 1000 };
                let content = format!("volume {n} of {}{again}\n", self.name).repeat(times);
                let digest = put(folder, &name, content.as_bytes());
                let recovery = self.recovery_of(folder, &name, *n);
                volumes.push(SealedVolume { name, digest, medium, recovery });
            }
        }
        let tool = split.then(|| put(&folders[0], TOOL, b"the program"));
        let label = folders.iter().fold(None, |_, folder| Some(put(folder, LABEL, b"a label\n"))).unwrap();
        let manifest = Digest::Sha256([u8::try_from(self.name.len()).unwrap(); 32]);
        let (bundle, name) = (self.id, self.name.clone());
        let seal = Seal { bundle, revision, manifest, name, again: Vec::new(), label, tool, split, volumes };
        for folder in &folders {
            fs::write(folder.join(SEAL), seal.to_bytes()).unwrap();
            fs::write(folder.join(SEAL_SIGNATURE), self.key.sign(&seal.to_bytes())).unwrap();
        }
        folders
    }

    fn recovery_of(&self, folder: &Path, volume: &str, n: u32) -> Vec<SealedFile> {
        match self.recovery {
            Recovery::None => Vec::new(),
            Recovery::Names => [0, 4]
                .map(|first| {
                    let name = format!("{}.{n:04}.vol{first:03}+4.par2", self.name);
                    let digest = put(folder, &name, format!("not even recovery data of {n}, {first}").as_bytes());
                    SealedFile { name, digest }
                })
                .into(),
            Recovery::Real => {
                for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                    let name = entry.file_name().into_string().unwrap();
                    if name.starts_with(&format!("{}.{n:04}.vol", self.name)) {
                        fs::remove_file(entry.path()).unwrap();
                    }
                }
                let options = recovery::Options {
                    share: recovery::Share::percent(25).unwrap(),
                    max_file: recovery::FAT32_FILE,
                    jobs: 1,
                };
                let file = fs::File::open(folder.join(volume)).unwrap();
                let made = recovery::create(&file, volume, folder, options, |_| ()).unwrap();
                made.into_iter().map(|f| SealedFile { name: f.name, digest: f.digest }).collect()
            }
        }
    }

    pub fn trust(&self) -> Options {
        let certificates = Certificates::load(std::slice::from_ref(&self.key.certificate_file)).unwrap();
        Options { trust: Some(Trust::new(certificates, 1, Timestamp::now()).unwrap()), ..Options::default() }
    }

    pub fn check(&self, folders: &[PathBuf]) -> Report {
        self.checked(folders).unwrap()
    }

    pub fn checked(&self, folders: &[PathBuf]) -> Result<Report, commands::Error> {
        check_bundle(folders, &self.trust(), &Progress::new(true))
    }

    pub fn volume(&self, folder: &Path, n: u32) -> PathBuf {
        folder.join(volume_name(&self.name, n))
    }
}

fn put(folder: &Path, name: &str, content: &[u8]) -> Digest {
    fs::write(folder.join(name), content).unwrap();
    digest(folder, name)
}

pub fn digest(folder: &Path, name: &str) -> Digest {
    Folder::open(folder).unwrap().digest_of(name, |_| ()).unwrap().0
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    check: Check,
}

/// Runs the command as a program would; the fault and the words of its failure.
pub fn run(folders: &[PathBuf], args: &[&str]) -> Result<(), (Fault, String)> {
    let args = args.iter().map(|arg| std::ffi::OsString::from(*arg));
    let folders = folders.iter().map(|folder| folder.clone().into_os_string());
    let cli = Cli::try_parse_from(std::iter::once("check".into()).chain(folders).chain(args)).map_err(usage)?;
    cli.check.run(true).map_err(|failure: Failure| (failure.fault(), failure.text("check")))
}

fn usage(error: clap::Error) -> (Fault, String) {
    (Fault::Usage, error.to_string())
}

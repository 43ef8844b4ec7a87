//! `check`: what a courier can tell without any key.

use std::path::PathBuf;

use bundle::{FileState, Folder, SEAL, SEAL_SIGNATURE, Seal};
use clap::Args;
use console::{Failure, Progress};
use manifest_schema::{BundleId, LIMITS, OutsideText, Timestamp};
use serde::Serialize;
use signing::{Certificates, Trust};

use crate::error::Error;

/// Checks the files of a bundle against its seal; needs no key
///
/// The seal's signature is checked if --trust names the sender's certificate.
#[derive(Debug, Args)]
pub struct Check {
    /// The bundle's folder
    bundle: PathBuf,
    /// The sender's release certificate, or a folder of them; several may be given
    #[arg(long, value_name = "FILE", env = "SEALIFT_TRUST", value_delimiter = ',')]
    trust: Vec<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    bundle: BundleId,
    revision: u32,
    name: String,
    /// `None`: not checked.
    signed_by: Option<Vec<String>>,
    files: Vec<FileState>,
    not_sealed: Vec<OutsideText>,
}

impl Check {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code: 3 for the seal, 4 for files that differ from it.
    pub fn run(self, quiet: bool) -> Result<(), Failure> {
        self.check(quiet).map_err(|e| Failure::new(&e))
    }

    fn check(self, quiet: bool) -> Result<(), Error> {
        let folder = Folder::open(&self.bundle)?;
        let (seal, signature) = read_seal(&folder)?;
        let (seal, signed_by) = if self.trust.is_empty() {
            (Seal::parse(&seal)?, None)
        } else {
            let trust = Trust::new(Certificates::load(&self.trust)?, 1, Timestamp::now())?;
            let authentic = trust.verify_detached(seal, &signature)?;
            let signers = authentic.signers().iter().map(|s| s.fingerprint.to_string()).collect();
            (Seal::parse(authentic.get())?, Some(signers))
        };
        let progress = Progress::new(quiet);
        let report = survey(&folder, seal, signed_by, &progress)?;
        if self.json {
            console::print_json(&report).map_err(Error::Stdout)?;
        } else {
            console::print(&text(&report)).map_err(Error::Stdout)?;
        }
        let bad: Vec<_> = report.files.iter().filter(|f| !f.is_good()).map(|f| f.name.clone()).collect();
        if bad.is_empty() {
            Ok(())
        } else {
            Err(Error::Damaged { damaged: bad.len(), sealed: report.files.len(), names: bad.join(", ") })
        }
    }
}

/// Reads the seal and its signature.
///
/// # Errors
/// [`Error::NoSeal`] if either is missing, [`Error::CutSeal`] if either is plainly cut short.
pub fn read_seal(folder: &Folder) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let read = |file, limit| match folder.read_file(file, limit) {
        Err(bundle::FolderError::Missing(_)) => Err(Error::NoSeal { folder: folder.path().into(), file }),
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

fn survey(folder: &Folder, seal: Seal, signed_by: Option<Vec<String>>, progress: &Progress) -> Result<Report, Error> {
    let names: Vec<_> = seal.files().map(|(name, _)| name.to_string()).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).chain([SEAL, SEAL_SIGNATURE]).collect();
    let not_sealed = folder.survey(&all)?;
    progress.begin("checking", folder.sizes(&all));
    let files = bundle::check_files(folder, &seal, |n| progress.advance(n))?;
    progress.end();
    Ok(Report { bundle: seal.bundle, revision: seal.revision, name: seal.name, signed_by, files, not_sealed })
}

fn text(report: &Report) -> String {
    let mut text = format!("bundle {} {}, seal revision {}\n", report.name, report.bundle, report.revision);
    match &report.signed_by {
        Some(signers) => text += &format!("seal signed by {}\n", signers.join(", ")),
        None => text += "seal signature not checked: name the sender's certificate with --trust\n",
    }
    let rows: Vec<_> = report
        .files
        .iter()
        .map(|f| vec![f.name.clone(), f.size.map_or("-".into(), console::bytes), f.word().into()])
        .collect();
    text += &console::table(&["FILE", ">SIZE", "STATE"], &rows);
    for name in &report.not_sealed {
        text += &format!("not part of the bundle: {}\n", name.escaped());
    }
    text
}

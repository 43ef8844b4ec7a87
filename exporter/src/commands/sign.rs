//! `sign`: one signer's part in a release that several people sign.

use std::path::PathBuf;

use bundle::{Folder, LABEL, SEAL_SIGNATURE, Seal, media_folders};
use clap::Args;
use commands::settings::{KeySource, SignArgs};
use console::{Failure, Progress};
use manifest_schema::{LIMITS, Manifest, OutsideText, Timestamp};
use serde_json::json;
use signing::{SecretKey, Trust, join_signatures};

use crate::error::Error;
use crate::planned::Planned;
use crate::request;

/// Signs a plan, or the seal of a bundle, as one of several signers
///
/// Shows what is signed, and adds a signature; no registry is needed. A plan (`plan --write`) gets a signature over its
/// manifest. A bundle's files are checked against the seal, which then gets one.
#[derive(Debug, Args)]
pub struct Sign {
    /// The folder that `plan --write` made, or a bundle's folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// For a bundle: the plan that it must have been packed from
    #[arg(long, value_name = "DIR", env = "SEALIFT_PLAN")]
    plan: Option<PathBuf>,
    /// The release file that names the key [default: release.yaml, if it is there]
    #[arg(short, long, value_name = "FILE", env = "SEALIFT_FILE")]
    file: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sign: SignArgs,
}

impl Sign {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub fn run(self, quiet: bool) -> Result<(), Failure> {
        self.sign(quiet).map_err(|e| Failure::new(&e).with_state("no signature was added, or not all of them"))
    }

    fn sign(self, quiet: bool) -> Result<(), Error> {
        let progress = Progress::new(quiet);
        if Planned::is_at(&self.folder) {
            self.sign_plan(&progress)
        } else if media_folders(&self.folder)[0].join(bundle::SEAL).is_file() {
            self.sign_seal(&progress)
        } else {
            Err(Error::NothingToSign(self.folder))
        }
    }

    fn keys(&self, progress: &Progress) -> Result<Vec<SecretKey>, Error> {
        let release = request::release_file(self.file.as_deref())?;
        let keys = request::unlock(&KeySource::several(self.sign.clone(), release.sign.0)?)?;
        for warning in keys.iter().flat_map(|key| key.warnings(Timestamp::now())) {
            progress.warn(format_args!("release key: {warning}"));
        }
        Ok(keys)
    }

    fn sign_plan(&self, progress: &Progress) -> Result<(), Error> {
        let planned = Planned::open(&self.folder)?;
        if !self.json {
            console::print(&text(&planned)).map_err(Error::Stdout)?;
        }
        let mut signed = Vec::new();
        for key in self.keys(progress)? {
            signed.push((key.fingerprint(), planned.sign(&key)?));
        }
        let m = planned.manifest();
        self.report(json!({ "plan": m.name(), "bundle": m.bundle, "manifest": planned.digest() }), &signed)
    }

    fn sign_seal(&self, progress: &Progress) -> Result<(), Error> {
        let folders = media_folders(&self.folder);
        let first = Folder::open(&folders[0])?;
        let (bytes, _) = commands::check::read_seal(&first)?;
        let seal = Seal::parse(&bytes).map_err(commands::Error::Seal)?;
        if let Some(plan) = &self.plan {
            let planned = Planned::open(plan)?;
            let (expected, sealed) = (planned.digest(), seal.manifest);
            if expected != sealed || planned.manifest().bundle != seal.bundle || planned.manifest().name() != seal.name
            {
                return Err(Error::OtherPlan { path: self.folder.clone(), expected, sealed });
            }
        }
        let report = commands::check::check_bundle(&folders, &commands::check::Options::default(), progress)?;
        report.verdict(false)?;
        if !self.json {
            let label = first.read_file(LABEL, LIMITS.seal)?;
            console::print(&seal_text(&seal, &commands::check::text(&report), &label)).map_err(Error::Stdout)?;
        }
        let mut signed = Vec::new();
        for key in self.keys(progress)? {
            let trust = Trust::new(key.certificates(), 1, Timestamp::now())?;
            let mut new = false;
            // The same seal is on every medium.
            for path in &folders {
                let (found, signature) = commands::check::read_seal(&Folder::open(path)?)?;
                if found != bytes {
                    return Err(Error::OtherSeal { first: folders[0].clone(), other: path.clone() });
                }
                // Whose they are is not known here; that they are signatures is.
                let signatures = join_signatures(&[&signature])?;
                if trust.verify_detached(found, &signatures).is_err() {
                    new = true;
                    let signatures = join_signatures(&[&signatures, &key.sign_detached_armored(&bytes)?])?;
                    let output = |source| Error::Output { path: path.join(SEAL_SIGNATURE), source };
                    crate::record::replace(path, SEAL_SIGNATURE, &signatures).map_err(output)?;
                }
            }
            signed.push((key.fingerprint(), new));
        }
        self.report(json!({ "bundle": seal.bundle, "name": seal.name, "manifest": seal.manifest }), &signed)
    }

    fn report(&self, mut what: serde_json::Value, signed: &[(signing::Fingerprint, bool)]) -> Result<(), Error> {
        let word = |new: bool| if new { "signed" } else { "already signed" };
        if self.json {
            let signers = signed.iter().map(|(key, new)| json!({ "key": key, "result": word(*new) }));
            what["signers"] = signers.collect();
            return console::print_json(&what).map_err(Error::Stdout);
        }
        let lines: String = signed.iter().map(|(key, new)| format!("{}: {key}\n", word(*new))).collect();
        console::print(&lines).map_err(Error::Stdout)
    }
}

/// What a signer of a plan says yes to.
fn text(planned: &Planned) -> String {
    let m: &Manifest = planned.manifest();
    let mut text = format!("plan {} (bundle {})\nmanifest {}\n", m.name(), m.bundle, planned.digest());
    text += &format!("created {}", m.created);
    match &m.expires {
        Some(expires) => text += &format!(", expires {expires}\n"),
        None => text += ", does not expire\n",
    }
    for (key, value) in &m.labels {
        text += &format!("label {key}: {value}\n");
    }
    let platforms = |image: &manifest_schema::Image| {
        let all: Vec<_> = image.platforms.iter().filter_map(|p| p.platform.as_ref().map(ToString::to_string)).collect();
        if all.is_empty() { "-".into() } else { all.join(",") }
    };
    let rows: Vec<_> =
        m.images.iter().map(|i| vec![i.origin.to_string(), i.digest.to_string(), platforms(i)]).collect();
    text += &console::table(&["IMAGE", "DIGEST", "PLATFORMS"], &rows);
    text += &format!("{} images, {} blobs, {}\n", m.images.len(), m.blobs.len(), console::bytes(m.total_bytes()));
    text += "recipients (in the plan, but not part of what is signed):\n";
    for recipient in &planned.sources().recipients {
        text += &format!("  {}\n", OutsideText::new(recipient).escaped());
    }
    text
}

/// What a signer of a seal says yes to.
fn seal_text(seal: &Seal, files: &str, label: &[u8]) -> String {
    let mut text = format!("manifest {}\n{files}the label says:\n", seal.manifest);
    for line in String::from_utf8_lossy(label).lines().take_while(|line| !line.is_empty()) {
        text += &format!("  {}\n", OutsideText::new(line).escaped());
    }
    text
}

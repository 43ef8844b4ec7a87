//! Handing over: a statement of who had the media, and of what a check found.

use std::io;
use std::path::{Path, PathBuf};

use bundle::{Folder, FolderError, HANDOVER, Medium, StatementSignature};
use clap::Args;
use manifest_schema::{Digest, LIMITS, LabelValue, Statement, StatementType, Timestamp};
use signing::{Certificates, Fingerprint, SecretKey, distinct_roles};

use crate::check::media::Media;
use crate::check::report::{CheckedFolder, Report};
use crate::error::Error;
use crate::settings::{KeySource, SignArgs};

/// Handing over.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Custody")]
pub struct HandOverArgs {
    /// After the check, write a statement of who hands over what into the folder `handover` of each folder given
    #[arg(long, requires = "by")]
    hand_over: bool,
    /// Who hands over
    #[arg(long, value_name = "NAME", requires = "hand_over")]
    by: Option<LabelValue>,
    /// Who takes over
    #[arg(long, value_name = "NAME", requires = "hand_over")]
    to: Option<LabelValue>,
    /// The number on the seal of the bag
    #[arg(long, value_name = "NUMBER", requires = "hand_over")]
    bag: Option<LabelValue>,
    /// Anything else that should be known
    #[arg(long, value_name = "TEXT", requires = "hand_over")]
    note: Option<LabelValue>,
    #[command(flatten)]
    key: CourierKeyArgs,
}

/// The courier's own key. Its variables are not those of the keys that sign releases and production.
#[derive(Debug, Default, Args)]
struct CourierKeyArgs {
    /// The courier's own OpenPGP secret key file, to sign the statement
    #[arg(long, value_name = "FILE", env = "SEALIFT_COURIER_KEY")]
    sign_key: Option<PathBuf>,
    /// Sign the statement through gpg-agent, with the key of this fingerprint
    #[arg(long, value_name = "FINGERPRINT", env = "SEALIFT_COURIER_BY")]
    sign_by: Option<Fingerprint>,
    /// With --sign-by: a file with the key's certificate [default: the one in GnuPG's keyring]
    #[arg(long, value_name = "FILE", env = "SEALIFT_COURIER_CERTIFICATE")]
    sign_certificate: Option<PathBuf>,
    /// A file whose first line is the key's passphrase [also: SEALIFT_COURIER_PASSPHRASE]
    #[arg(long, value_name = "FILE", env = "SEALIFT_COURIER_PASSPHRASE_FILE")]
    sign_passphrase_file: Option<PathBuf>,
}

/// Who hands over, ready to write.
pub struct HandOver {
    by: LabelValue,
    to: Option<LabelValue>,
    bag: Option<LabelValue>,
    note: Option<LabelValue>,
    key: Option<SecretKey>,
}

impl HandOverArgs {
    /// Unlocks the courier's key before anything is read. `None`: nothing is handed over. No other role's key may sign.
    ///
    /// # Errors
    /// If the key cannot be used.
    pub fn resolve(self, release: Option<&Certificates>) -> Result<Option<HandOver>, Error> {
        let Self { hand_over: true, by: Some(by), to, bag, note, key } = self else { return Ok(None) };
        if by.to_string().trim().is_empty() {
            return Err(Error::Nobody);
        }
        let key = key.unlock()?;
        if let (Some(key), Some(release)) = (&key, release) {
            distinct_roles(&[("release", release), ("courier", &key.certificates())])?;
        }
        Ok(Some(HandOver { by, to, bag, note, key }))
    }
}

impl CourierKeyArgs {
    fn unlock(self) -> Result<Option<SecretKey>, Error> {
        let args = SignArgs {
            sign_key: self.sign_key.into_iter().collect(),
            sign_by: self.sign_by.into_iter().collect(),
            sign_certificate: self.sign_certificate.into_iter().collect(),
            sign_passphrase_file: self.sign_passphrase_file,
        };
        let Some(mut source) = KeySource::one(args, None)? else { return Ok(None) };
        source.passphrase.variable = "SEALIFT_COURIER_PASSPHRASE";
        source.unlock(Timestamp::now()).map(Some)
    }
}

/// Where statements go.
pub struct Places {
    /// In the order of the folders given, or one for all of them.
    folders: Vec<Folder>,
    together: bool,
}

impl Places {
    /// Makes the folders for the statements, before hours of reading: `handover` in each folder given, or `statements`.
    ///
    /// # Errors
    /// [`Error::HandOver`] if one cannot be written.
    pub fn make(media: &Media, statements: Option<&Path>) -> Result<Self, Error> {
        let folders = match statements {
            Some(path) => {
                std::fs::create_dir_all(path).map_err(|source| cannot_write(path, source))?;
                vec![Folder::open(path)?]
            }
            None => {
                let make = |medium: &Medium| {
                    let path = medium.folder.path().join(HANDOVER);
                    medium.folder.make_folder(HANDOVER).map_err(|source| cannot_write(&path, source))
                };
                media.media.iter().map(make).collect::<Result<_, _>>()?
            }
        };
        for folder in &folders {
            folder.writable().map_err(|source| cannot_write(folder.path(), source))?;
        }
        Ok(Self { folders, together: statements.is_some() })
    }
}

impl HandOver {
    /// Writes a statement into each folder, or one for all media together. Gives the files.
    ///
    /// # Errors
    /// [`Error::HandOver`] if it cannot be written; [`Error::OtherStatements`] if those there are of another bundle.
    pub fn write(&self, places: &Places, media: &Media, report: &Report) -> Result<Vec<PathBuf>, Error> {
        let mut written = Vec::new();
        for (i, folder) in places.folders.iter().enumerate() {
            let (medium, checked) = match places.together {
                true => (bundle::newest(&media.media), None),
                false => (media.media.get(i), report.folders.get(i)),
            };
            written.extend(self.write_in(folder, medium.ok_or(Error::NoFolder)?, report, checked)?);
        }
        Ok(written)
    }

    fn write_in(
        &self,
        folder: &Folder,
        medium: &Medium,
        report: &Report,
        checked: Option<&CheckedFolder>,
    ) -> Result<Vec<PathBuf>, Error> {
        let (number, previous) = next(folder, report)?;
        let statement = Statement {
            kind: StatementType::V1,
            bundle: report.bundle,
            seal: medium.seal_digest,
            number,
            previous,
            at: Timestamp::now(),
            by: self.by.clone(),
            to: self.to.clone(),
            bag: self.bag.clone(),
            note: self.note.clone(),
            tool: concat!("sealift ", env!("CARGO_PKG_VERSION")).parse().map_err(Error::Label)?,
            volumes: report.volumes(checked),
        };
        let bytes = statement.to_bytes()?;
        let sign = |key: &SecretKey| -> Result<StatementSignature, Error> {
            let signature = key.sign_detached_at(&bytes, statement.at)?;
            Ok(StatementSignature { signature, certificate: key.certificate_armored()? })
        };
        let signed = self.key.as_ref().map(sign).transpose()?;
        let names = bundle::write_statement(folder, number, &bytes, signed.as_ref())
            .map_err(|source| cannot_write(&folder.path().join(bundle::statement_name(number)), source))?;
        Ok(names.into_iter().map(|name| folder.path().join(name)).collect())
    }
}

/// The number of the next statement, and the digest of the one before it.
fn next(folder: &Folder, report: &Report) -> Result<(u32, Option<Digest>), Error> {
    let last = bundle::last_statement(folder).map_err(|e| match e {
        FolderError::Read { path, source } => cannot_write(&path, source),
        FolderError::Missing(path) => cannot_write(&path, io::ErrorKind::NotFound.into()),
        other => other.into(),
    })?;
    match last {
        None => Ok((1, None)),
        Some((_, _, Some(statement))) if statement.bundle != report.bundle => Err(Error::OtherStatements {
            folder: folder.path().into(),
            found: statement.bundle,
            expected: report.bundle,
        }),
        Some((number, ..)) if number >= LIMITS.statements => {
            Err(Error::StatementsFull { folder: folder.path().into(), limit: LIMITS.statements })
        }
        Some((number, digest, _)) => Ok((number + 1, Some(digest))),
    }
}

fn cannot_write(path: &Path, source: io::Error) -> Error {
    Error::HandOver { path: path.into(), source }
}

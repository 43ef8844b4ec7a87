//! Configuration files, registry access and signing keys, as both programs read them.

use std::path::{Path, PathBuf};

use clap::Args;
use console::PassphraseSource;
use console::args::RegistryArgs;
use manifest_schema::{LIMITS, OutsideText, Timestamp};
use registry::Registries;
use serde::de::DeserializeOwned;
use signing::{FetchSmall, RegistriesD, SecretKey};

use crate::error::Error;

/// Reads a YAML file strictly.
///
/// # Errors
/// [`Error::ReadConfig`], or [`Error::Config`] with the line.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = read(path)?;
    serde_saphyr::from_str(&text)
        .map_err(|e| Error::Config { path: path.into(), message: OutsideText::new(e.to_string()) })
}

/// The lines of a file with their numbers, without empty ones and those that begin with `#`.
///
/// # Errors
/// [`Error::ReadConfig`].
pub fn lines(path: &Path) -> Result<Vec<(usize, String)>, Error> {
    let text = read(path)?;
    let lines = (1..).zip(text.lines().map(str::trim)).filter(|(_, l)| !l.is_empty() && !l.starts_with('#'));
    Ok(lines.map(|(number, line)| (number, line.to_string())).collect())
}

fn read(path: &Path) -> Result<String, Error> {
    console::read_text(path, LIMITS.config).map_err(|source| Error::ReadConfig { path: path.into(), source })
}

/// Registry access as the flags say; `user_agent` is `program/version`.
///
/// # Errors
/// If a file that the flags or the environment name cannot be used.
pub fn registries(args: RegistryArgs, user_agent: &str) -> Result<Registries, Error> {
    Ok(Registries::new(registry::Config {
        authfile: args.authfile,
        certs_dirs: (!args.cert_dir.is_empty()).then_some(args.cert_dir),
        plain_http: args.plain_http,
        retries: args.retries,
        user_agent: user_agent.into(),
        ..registry::Config::default()
    })?)
}

/// Where signatures are looked for: these folders, or the usual ones if there are none.
///
/// # Errors
/// If a file in them cannot be used.
pub fn registries_d(folders: &[PathBuf]) -> Result<RegistriesD, Error> {
    let found =
        if folders.is_empty() { RegistriesD::load(&RegistriesD::standard()) } else { RegistriesD::load(folders) }?;
    for ignored in found.ignored() {
        let (file, member) = (ignored.path.display().to_string(), ignored.member.escaped());
        tracing::warn!("{}: `{member}` means nothing there", manifest_schema::text::escape(&file));
    }
    Ok(found)
}

/// Fetches signatures from lookaside servers and signature stores.
pub struct SmallFiles<'a>(pub &'a Registries);

impl FetchSmall for SmallFiles<'_> {
    type Error = registry::Error;
    fn fetch(&self, url: &str, limit: u64) -> Result<Option<Vec<u8>>, registry::Error> {
        self.0.fetch_small(url, limit)
    }
}

/// A signing key on the command line.
#[derive(Debug, Clone, Default, Args)]
pub struct SignArgs {
    /// OpenPGP secret key that signs
    #[arg(long, value_name = "FILE", env = "SEALIFT_SIGN_KEY")]
    pub sign_key: Option<PathBuf>,
    /// A file whose first line is the key's passphrase [also: SEALIFT_SIGN_PASSPHRASE]
    #[arg(long, value_name = "FILE", env = "SEALIFT_SIGN_PASSPHRASE_FILE")]
    pub sign_passphrase_file: Option<PathBuf>,
}

/// A secret key file and where its passphrase comes from.
#[derive(Debug, Clone)]
pub struct KeyFile {
    /// The file.
    pub path: PathBuf,
    /// The passphrase.
    pub passphrase: PassphraseSource,
}

impl KeyFile {
    /// Joins flags and configuration (key and passphrase file); flags win.
    pub fn resolve(args: SignArgs, configured: Option<(PathBuf, Option<PathBuf>)>) -> Option<Self> {
        let (path, file) = match (args.sign_key, configured) {
            (Some(path), _) => (path, args.sign_passphrase_file),
            (None, Some((path, file))) => (path, args.sign_passphrase_file.or(file)),
            (None, None) => return None,
        };
        Some(Self { path, passphrase: PassphraseSource { file, variable: "SEALIFT_SIGN_PASSPHRASE" } })
    }

    /// Unlocks the key and proves it with a trial signature.
    ///
    /// # Errors
    /// [`Error`] says what is wrong with the key or the passphrase.
    pub fn unlock(&self, now: Timestamp) -> Result<SecretKey, Error> {
        let what = self.path.display().to_string();
        let key = SecretKey::load::<Error>(&self.path, || Ok(self.passphrase.get(&what)?))?;
        key.usable(now)?;
        Ok(key)
    }
}

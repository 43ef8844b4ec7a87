//! Configuration files, registry access and signing keys, as both programs read them.

use std::path::{Path, PathBuf};

use bundle::PluginTalk;
use clap::Args;
use console::PassphraseSource;
use console::args::RegistryArgs;
use manifest_schema::{LIMITS, OutsideText, Timestamp};
use registry::Registries;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use signing::{AgentAccess, FetchSmall, Fingerprint, RegistriesD, SecretKey};

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

/// Where signatures are looked for: these folders, or the usual one if there are none.
///
/// # Errors
/// If one of these folders is missing, or a file cannot be used.
pub fn registries_d(folders: &[PathBuf]) -> Result<RegistriesD, Error> {
    let found = if folders.is_empty() { RegistriesD::load_standard() } else { RegistriesD::load(folders) }?;
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

/// Signing keys on the command line.
#[derive(Debug, Clone, Default, Args)]
pub struct SignArgs {
    /// OpenPGP secret key file that signs
    #[arg(long, value_name = "FILE", env = "SEALIFT_SIGN_KEY")]
    pub sign_key: Vec<PathBuf>,
    /// Sign through gpg-agent, with the key of this fingerprint
    #[arg(long, value_name = "FINGERPRINT", env = "SEALIFT_SIGN_BY", value_delimiter = ',')]
    pub sign_by: Vec<Fingerprint>,
    /// With --sign-by: a file with the key's certificate [default: the one in GnuPG's keyring]
    #[arg(long, value_name = "FILE", env = "SEALIFT_SIGN_CERTIFICATE")]
    pub sign_certificate: Vec<PathBuf>,
    /// A file whose first line is the key's passphrase [also: SEALIFT_SIGN_PASSPHRASE]
    #[arg(long, value_name = "FILE", env = "SEALIFT_SIGN_PASSPHRASE_FILE")]
    pub sign_passphrase_file: Option<PathBuf>,
}

/// A signing key in a configuration file: `{key: FILE}`, or `{by: FINGERPRINT}` for one that gpg-agent holds.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Sign", extend("oneOf" = [{"required": ["key"]}, {"required": ["by"]}]))]
pub struct SignConfig {
    /// OpenPGP secret key file.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// Fingerprint of a key that gpg-agent holds.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub by: Option<Fingerprint>,
    /// With `by`: a file with the key's certificate, instead of the one in GnuPG's keyring.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// File whose first line is the passphrase.
    #[serde(default)]
    pub passphrase_file: Option<PathBuf>,
}

impl SignConfig {
    /// Makes its paths relative to a folder.
    pub fn make_relative_to(&mut self, base: &Path) {
        for path in [&mut self.key, &mut self.certificate, &mut self.passphrase_file].into_iter().flatten() {
            *path = base.join(&*path);
        }
    }

    fn holder(self) -> Result<KeyHolder, Error> {
        match (self.key, self.by, self.certificate) {
            (Some(path), None, None) => Ok(KeyHolder::File(path)),
            (None, Some(fingerprint), certificate) => {
                Ok(KeyHolder::Agent { fingerprint, certificates: certificate.into_iter().collect() })
            }
            _ => Err(Error::SignConfig),
        }
    }
}

/// Who holds a signing key.
#[derive(Debug, Clone)]
pub enum KeyHolder {
    /// A file.
    File(PathBuf),
    /// gpg-agent.
    Agent {
        /// The fingerprint of the certificate, or of one subkey.
        fingerprint: Fingerprint,
        /// Files to take the certificate from; GnuPG's keyring if there are none.
        certificates: Vec<PathBuf>,
    },
}

/// A signing key, and where its passphrase comes from.
#[derive(Debug, Clone)]
pub struct KeySource {
    /// Who holds it.
    pub holder: KeyHolder,
    /// The passphrase.
    pub passphrase: PassphraseSource,
}

impl KeySource {
    /// Joins flags and configuration where several keys may sign; flags win.
    ///
    /// # Errors
    /// [`Error::SignConfig`], [`Error::NeedsSignBy`].
    pub fn several(args: SignArgs, configured: Vec<SignConfig>) -> Result<Vec<Self>, Error> {
        let source =
            |holder, file| Self { holder, passphrase: PassphraseSource { file, variable: "SEALIFT_SIGN_PASSPHRASE" } };
        let SignArgs { sign_key, sign_by, sign_certificate, sign_passphrase_file: given } = args;
        if !sign_certificate.is_empty() && sign_by.is_empty() {
            return Err(Error::NeedsSignBy);
        }
        if !sign_key.is_empty() || !sign_by.is_empty() {
            let files = sign_key.into_iter().map(KeyHolder::File);
            let held = sign_by
                .into_iter()
                .map(|fingerprint| KeyHolder::Agent { fingerprint, certificates: sign_certificate.clone() });
            return Ok(files.chain(held).map(|holder| source(holder, given.clone())).collect());
        }
        let one = |config: SignConfig| {
            let file = given.clone().or(config.passphrase_file.clone());
            Ok(source(config.holder()?, file))
        };
        configured.into_iter().map(one).collect()
    }

    /// A key of another role than the one that the flags of [`SignArgs`] are for: from a flag for a file or one for a
    /// fingerprint, or from the configuration.
    ///
    /// # Errors
    /// [`Error::SignConfig`].
    pub fn of_role(
        given: (Option<PathBuf>, Option<Fingerprint>),
        configured: Option<SignConfig>,
        passphrase_file: Option<PathBuf>,
        variable: &'static str,
    ) -> Result<Option<Self>, Error> {
        let (holder, file) = match (given, configured) {
            ((Some(path), _), _) => (KeyHolder::File(path), None),
            ((None, Some(fingerprint)), _) => (KeyHolder::Agent { fingerprint, certificates: Vec::new() }, None),
            ((None, None), Some(config)) => {
                let file = config.passphrase_file.clone();
                (config.holder()?, file)
            }
            ((None, None), None) => return Ok(None),
        };
        Ok(Some(Self { holder, passphrase: PassphraseSource { file: passphrase_file.or(file), variable } }))
    }

    /// Joins flags and configuration where one key signs; flags win.
    ///
    /// # Errors
    /// [`Error::SeveralKeys`], [`Error::SignConfig`], [`Error::NeedsSignBy`].
    pub fn one(args: SignArgs, configured: Option<SignConfig>) -> Result<Option<Self>, Error> {
        let mut all = Self::several(args, configured.into_iter().collect())?;
        if all.len() > 1 { Err(Error::SeveralKeys) } else { Ok(all.pop()) }
    }

    /// Unlocks the key and proves it with a trial signature.
    ///
    /// # Errors
    /// [`Error`] says what is wrong with the key or the passphrase.
    pub fn unlock(&self, now: Timestamp) -> Result<SecretKey, Error> {
        let key = match &self.holder {
            KeyHolder::File(path) => {
                let what = path.display().to_string();
                SecretKey::load::<Error>(path, || Ok(self.passphrase.get(&what)?))?
            }
            KeyHolder::Agent { fingerprint, certificates } => {
                let passphrase = self.passphrase.given()?;
                let access = AgentAccess { certificates: certificates.clone(), passphrase, ..AgentAccess::default() };
                SecretKey::from_agent(fingerprint, access)?
            }
        };
        key.usable(now)?;
        Ok(key)
    }
}

/// Lets age plugins talk with the person: messages go to stderr; secrets come from where the passphrase comes from.
#[derive(Debug, Default)]
pub struct Talk {
    /// The passphrase.
    pub passphrase: PassphraseSource,
}

impl PluginTalk for Talk {
    fn message(&self, plugin: &str, text: &OutsideText) {
        console::say(&format!("{plugin}: {}", text.escaped()));
    }

    fn secret(&self, plugin: &str, prompt: &OutsideText, again: bool) -> Option<SecretString> {
        let what = format!("{plugin} ({})", prompt.escaped());
        let fail = |e: console::PassphraseError| console::say(&format!("{plugin}: {e}"));
        match self.passphrase.given() {
            Ok(Some(_)) if again => None,
            Ok(Some(secret)) => Some(secret),
            Ok(None) => self.passphrase.get(&what).map_err(fail).ok(),
            Err(e) => {
                fail(e);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_named_is_there() {
        let missing = PathBuf::from("/does/not/exist/registries.d");
        let error = registries_d(&[missing]).expect_err("missing").to_string();
        assert!(error.contains("/does/not/exist/registries.d"), "{error}");
        registries_d(&[]).expect("the usual one may be missing");
    }
}

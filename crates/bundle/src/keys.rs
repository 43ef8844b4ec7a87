//! age recipients and identities.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use age::secrecy::{ExposeSecret, SecretString};
use manifest_schema::{LIMITS, OutsideText};

/// A recipient or an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AgeError {
    /// Not a recipient.
    #[error("`{}` is not an age recipient: expected age1...", .0.escaped())]
    Recipient(OutsideText),
    /// A secret where a recipient belongs; it is not repeated.
    #[error("a secret key was given where a recipient belongs: expected age1...")]
    SecretRecipient,
    /// There is no recipient.
    #[error("no recipient is named: the bundle could not be opened by anybody")]
    NoRecipient,
    /// A file cannot be read.
    #[error("{}: cannot be read", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds no identity.
    #[error("{}: not an age identity file (a line AGE-SECRET-KEY-1..., or such a file encrypted with a passphrase)", .0.display())]
    Identity(PathBuf),
    /// Wrong passphrase.
    #[error("{}: wrong passphrase", .0.display())]
    WrongPassphrase(PathBuf),
    /// The passphrase could not be had.
    #[error("{}: {reason}", .path.display())]
    Passphrase {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The library refuses.
    #[error("age: {0}")]
    Library(String),
}

/// Reads one recipient.
///
/// # Errors
/// [`AgeError::Recipient`].
pub fn parse_recipient(text: &str) -> Result<String, AgeError> {
    if text.to_ascii_uppercase().contains("SECRET") {
        return Err(AgeError::SecretRecipient);
    }
    age::x25519::Recipient::from_str(text)
        .map(|r| r.to_string())
        .map_err(|_| AgeError::Recipient(OutsideText::new(text)))
}

/// Who can open the volumes.
#[derive(Clone)]
pub struct Recipients(Vec<age::x25519::Recipient>);

impl Recipients {
    /// Takes recipients in the form `age1...`.
    ///
    /// # Errors
    /// [`AgeError::Recipient`] names the bad one; [`AgeError::NoRecipient`] if there is none.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, AgeError> {
        let recipients = texts
            .into_iter()
            .map(|t| age::x25519::Recipient::from_str(t).map_err(|_| AgeError::Recipient(OutsideText::new(t))))
            .collect::<Result<Vec<_>, _>>()?;
        if recipients.is_empty() { Err(AgeError::NoRecipient) } else { Ok(Self(recipients)) }
    }

    pub(crate) fn encryptor(&self) -> Result<age::Encryptor, AgeError> {
        age::Encryptor::with_recipients(self.0.iter().map(|r| r as &dyn age::Recipient))
            .map_err(|e| AgeError::Library(e.to_string()))
    }
}

/// The secret keys that open volumes.
#[derive(Clone)]
pub struct Identities(Vec<age::x25519::Identity>);

impl Identities {
    /// Reads an identity file as `age-keygen` writes it, or one that was encrypted with a passphrase (`age -p`).
    ///
    /// `passphrase` is asked only if the file is encrypted.
    ///
    /// # Errors
    /// [`AgeError`] names the file.
    pub fn load(path: &Path, passphrase: impl FnOnce() -> Result<SecretString, String>) -> Result<Self, AgeError> {
        let read = |source| AgeError::Read { path: path.into(), source };
        let mut bytes = Vec::new();
        std::fs::File::open(path).map_err(read)?.take(LIMITS.config).read_to_end(&mut bytes).map_err(read)?;
        let not_one = || AgeError::Identity(path.into());
        let text = if bytes.starts_with(b"age-encryption.org/") || bytes.starts_with(b"-----BEGIN AGE ENCRYPTED") {
            let secret = passphrase().map_err(|reason| AgeError::Passphrase { path: path.into(), reason })?;
            let mut identity = age::scrypt::Identity::new(secret);
            identity.set_max_work_factor(LIMITS.scrypt_log_n);
            let armored = age::armor::ArmoredReader::new(bytes.as_slice());
            let decryptor = age::Decryptor::new(armored).map_err(|_| not_one())?;
            let mut text = String::new();
            decryptor
                .decrypt(std::iter::once(&identity as &dyn age::Identity))
                .map_err(|e| match e {
                    age::DecryptError::DecryptionFailed | age::DecryptError::KeyDecryptionFailed => {
                        AgeError::WrongPassphrase(path.into())
                    }
                    _ => not_one(),
                })?
                .take(LIMITS.config)
                .read_to_string(&mut text)
                .map_err(|_| not_one())?;
            SecretString::from(text)
        } else {
            SecretString::from(String::from_utf8(bytes).map_err(|_| not_one())?)
        };
        let identities = text
            .expose_secret()
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| age::x25519::Identity::from_str(line).map_err(|_| not_one()))
            .collect::<Result<Vec<_>, _>>()?;
        if identities.is_empty() { Err(not_one()) } else { Ok(Self(identities)) }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0.iter().map(|i| i as &dyn age::Identity)
    }

    /// The recipients these identities belong to.
    pub fn recipients(&self) -> Vec<String> {
        self.0.iter().map(|i| i.to_public().to_string()).collect()
    }
}

/// A new identity.
pub struct GeneratedIdentity {
    /// The identity file's content: as `age-keygen` writes it, or encrypted with the passphrase in armor.
    pub file: SecretString,
    /// The recipient that belongs to it.
    pub recipient: String,
}

/// Makes an X25519 identity.
///
/// # Errors
/// [`AgeError::Library`] if it cannot be encrypted.
pub fn generate_identity(created: &str, passphrase: Option<SecretString>) -> Result<GeneratedIdentity, AgeError> {
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let plain = format!("# created: {created}\n# public key: {recipient}\n{}\n", identity.to_string().expose_secret());
    let file = match passphrase {
        None => plain,
        Some(passphrase) => {
            let library = |e: std::io::Error| AgeError::Library(e.to_string());
            let armor =
                age::armor::ArmoredWriter::wrap_output(Vec::new(), age::armor::Format::AsciiArmor).map_err(library)?;
            let mut writer = age::Encryptor::with_user_passphrase(passphrase).wrap_output(armor).map_err(library)?;
            writer.write_all(plain.as_bytes()).map_err(library)?;
            let bytes = writer.finish().and_then(|armor| armor.finish()).map_err(library)?;
            String::from_utf8(bytes).map_err(|e| AgeError::Library(e.to_string()))?
        }
    };
    Ok(GeneratedIdentity { file: SecretString::from(file), recipient })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_read_back_with_and_without_a_passphrase() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("enclave.key");
        for passphrase in [None, Some(SecretString::from("correct horse".to_string()))] {
            let made = generate_identity("2026-01-31T09:00:00Z", passphrase.clone()).expect("an identity");
            std::fs::write(&path, made.file.expose_secret()).expect("written");
            let read = Identities::load(&path, || passphrase.clone().ok_or_else(|| "asked".into())).expect("read");
            assert_eq!(read.recipients(), [made.recipient]);
        }
        let wrong = Identities::load(&path, || Ok(SecretString::from("wrong".to_string())));
        assert!(matches!(wrong, Err(AgeError::WrongPassphrase(_))));
        std::fs::write(&path, "not a key\n").expect("written");
        assert!(matches!(Identities::load(&path, || Err("asked".into())), Err(AgeError::Identity(_))));
        assert!(matches!(Recipients::parse(["age1x"]), Err(AgeError::Recipient(_))));
        assert!(matches!(Recipients::parse([]), Err(AgeError::NoRecipient)));
        assert!(matches!(parse_recipient("AGE-SECRET-KEY-1QQQ"), Err(AgeError::SecretRecipient)));
    }
}

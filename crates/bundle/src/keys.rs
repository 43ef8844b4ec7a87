//! age recipients and identities: native, of SSH keys (ssh-ed25519), and of plugins (<https://c2sp.org/age-plugin>).

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use age::secrecy::{ExposeSecret, SecretString};
use age_core::format::{FileKey, Stanza};
use manifest_schema::{LIMITS, OutsideText};

use crate::payload::{NONCE, PayloadKey};
use crate::volume::plain;

/// A recipient or an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AgeError {
    /// Not a recipient.
    #[error("`{}` is not an age recipient: expected age1... or ssh-ed25519 AAAA...", .0.escaped())]
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
    #[error(
        "{}: not an age identity file (lines AGE-SECRET-KEY-1... or AGE-PLUGIN-..., such a file encrypted with a passphrase, \
         or a private key of OpenSSH)",
        .0.display()
    )]
    Identity(PathBuf),
    /// An RSA key of SSH.
    #[error(
        "{0}: RSA keys of SSH are not taken: the implementation at hand leaks them through its timing (RUSTSEC-2023-0071)"
    )]
    SshRsa(String),
    /// An SSH key of another kind.
    #[error("{}: this kind of SSH key cannot be used: expected ssh-ed25519", .0.display())]
    SshKind(PathBuf),
    /// A plugin is not there.
    #[error("{0} is not installed: nothing of this name is in PATH")]
    NoPlugin(String),
    /// A plugin failed.
    #[error("age plugin: {}", .0.escaped())]
    Plugin(OutsideText),
    /// The library would print what it tells the plugin.
    #[error("AGEDEBUG is set: with it, secret keys would be printed")]
    Debugging,
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

/// How a plugin talks with the person: it may say something, ask for a PIN, or have something confirmed.
///
/// What it says is text from outside.
pub trait PluginTalk: Send + Sync {
    /// Shows a message, such as "touch your token".
    fn message(&self, plugin: &str, text: &OutsideText);
    /// Asks for a secret. `None` if nobody can be asked. `again`: the plugin has been given one in this run; the same one once
    /// more would use up a token's attempts.
    fn secret(&self, plugin: &str, prompt: &OutsideText, again: bool) -> Option<SecretString>;
}

/// Nobody is there: messages are lost, and nothing is answered.
struct Silent;

impl PluginTalk for Silent {
    fn message(&self, _: &str, _: &OutsideText) {}
    fn secret(&self, _: &str, _: &OutsideText, _: bool) -> Option<SecretString> {
        None
    }
}

/// The callbacks of one run of a plugin, as the library wants them.
#[derive(Clone)]
struct Talk {
    program: String,
    with: Arc<dyn PluginTalk>,
    asked: Arc<AtomicBool>,
}

impl Talk {
    fn new(plugin: &str, with: &Arc<dyn PluginTalk>) -> Self {
        Self { program: program(plugin), with: with.clone(), asked: Arc::default() }
    }
}

impl age::Callbacks for Talk {
    fn display_message(&self, message: &str) {
        self.with.message(&self.program, &OutsideText::new(message));
    }
    // Whoever wants to be asked for more than a secret is told that nobody can be asked.
    fn confirm(&self, _: &str, _: &str, _: Option<&str>) -> Option<bool> {
        None
    }
    fn request_public_string(&self, _: &str) -> Option<String> {
        None
    }
    fn request_passphrase(&self, description: &str) -> Option<SecretString> {
        let again = self.asked.swap(true, Ordering::Relaxed);
        self.with.secret(&self.program, &OutsideText::new(description), again)
    }
}

fn program(plugin: &str) -> String {
    format!("age-plugin-{plugin}")
}

/// With `AGEDEBUG=plugin` the library prints what passes between it and a plugin, file keys included.
fn no_debugging() -> Result<(), AgeError> {
    if std::env::var_os("AGEDEBUG").is_some() { Err(AgeError::Debugging) } else { Ok(()) }
}

/// One recipient of whichever kind.
enum AnyRecipient {
    Native(age::x25519::Recipient),
    Ssh(age::ssh::Recipient),
    Plugin(age::plugin::Recipient),
}

impl FromStr for AnyRecipient {
    type Err = AgeError;
    fn from_str(text: &str) -> Result<Self, AgeError> {
        let upper = text.to_ascii_uppercase();
        if ["AGE-SECRET-KEY", "AGE-PLUGIN-", "PRIVATE KEY"].iter().any(|secret| upper.contains(secret)) {
            return Err(AgeError::SecretRecipient);
        }
        let wrong = || AgeError::Recipient(OutsideText::new(text));
        if let Some((kind, _)) = text.split_once(' ') {
            return match (kind, age::ssh::Recipient::from_str(text)) {
                ("ssh-rsa", _) => Err(AgeError::SshRsa("ssh-rsa".into())),
                ("ssh-ed25519", Ok(recipient)) => Ok(Self::Ssh(recipient)),
                _ => Err(wrong()),
            };
        }
        if let Ok(recipient) = age::x25519::Recipient::from_str(text) {
            return Ok(Self::Native(recipient));
        }
        age::plugin::Recipient::from_str(text).map(Self::Plugin).map_err(|_| wrong())
    }
}

impl AgeError {
    /// What a plugin complained of.
    pub(crate) fn plugin(error: Option<&impl std::fmt::Display>) -> Self {
        let text = error.map_or_else(|| "it failed and does not say why".to_string(), ToString::to_string);
        AgeError::Plugin(OutsideText::new(plain(&text)))
    }
}

/// Reads one recipient, and gives it in its plain form: without the comment of an SSH key.
///
/// # Errors
/// [`AgeError::Recipient`], [`AgeError::SecretRecipient`], [`AgeError::SshRsa`].
pub fn parse_recipient(text: &str) -> Result<String, AgeError> {
    Ok(match text.parse()? {
        AnyRecipient::Native(recipient) => recipient.to_string(),
        AnyRecipient::Ssh(recipient) => recipient.to_string(),
        AnyRecipient::Plugin(recipient) => recipient.to_string(),
    })
}

/// Who can open the volumes.
#[derive(Clone)]
pub struct Recipients {
    plain: Arc<Vec<Box<dyn age::Recipient + Send + Sync>>>,
    plugins: BTreeMap<String, Vec<age::plugin::Recipient>>,
    talk: Arc<dyn PluginTalk>,
}

impl Recipients {
    /// Takes recipients in the forms `age1...`, `ssh-ed25519 AAAA...` and `age1name1...` (of the plugin `age-plugin-name`).
    ///
    /// # Errors
    /// [`AgeError::Recipient`] names the bad one; [`AgeError::NoRecipient`] if there is none; [`AgeError::NoPlugin`].
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, AgeError> {
        let mut plain: Vec<Box<dyn age::Recipient + Send + Sync>> = Vec::new();
        let mut plugins: BTreeMap<String, Vec<age::plugin::Recipient>> = BTreeMap::new();
        for text in texts {
            match text.parse()? {
                AnyRecipient::Native(recipient) => plain.push(Box::new(recipient)),
                AnyRecipient::Ssh(recipient) => plain.push(Box::new(recipient)),
                AnyRecipient::Plugin(recipient) => {
                    plugins.entry(recipient.plugin().into()).or_default().push(recipient);
                }
            }
        }
        if plain.is_empty() && plugins.is_empty() {
            return Err(AgeError::NoRecipient);
        }
        let recipients = Self { plain: Arc::new(plain), plugins, talk: Arc::new(Silent) };
        // Now, and not after everything was fetched.
        recipients.plugins()?;
        Ok(recipients)
    }

    /// Says how plugins can talk with the person.
    #[must_use]
    pub fn with_talk(self, talk: Arc<dyn PluginTalk>) -> Self {
        Self { talk, ..self }
    }

    fn plugins(&self) -> Result<Vec<age::plugin::RecipientPluginV1<Talk>>, AgeError> {
        if !self.plugins.is_empty() {
            no_debugging()?;
        }
        let plugin = |(name, recipients): (&String, &Vec<_>)| {
            age::plugin::RecipientPluginV1::new(name, recipients, &[], Talk::new(name, &self.talk))
                .map_err(|_| AgeError::NoPlugin(program(name)))
        };
        self.plugins.iter().map(plugin).collect()
    }

    /// Makes the header of an age file, with the nonce behind it, and the key of its payload.
    pub(crate) fn seal(&self) -> Result<(Vec<u8>, PayloadKey), AgeError> {
        let plugins = self.plugins()?;
        let own = self.plain.iter().map(|r| r.as_ref() as &dyn age::Recipient);
        let seen = Seen::default();
        let all: Vec<_> = own
            .chain(plugins.iter().map(|p| p as &dyn age::Recipient))
            .map(|inner| Watched { inner, seen: &seen })
            .collect();
        let library = |e: &dyn std::fmt::Display| AgeError::Library(plain(&e.to_string()));
        let encryptor = age::Encryptor::with_recipients(all.iter().map(|r| r as &dyn age::Recipient));
        let encryptor = encryptor.map_err(|e| match e {
            age::EncryptError::Plugin(errors) => AgeError::plugin(errors.first()),
            other => library(&other),
        })?;
        let mut head = Vec::new();
        drop(encryptor.wrap_output(&mut head).map_err(|e| library(&e))?);
        let key = seen.payload_key(head.last_chunk()).ok_or_else(|| library(&"it gave no key"))?;
        Ok((head, key))
    }
}

/// The library tells the key of a file only to those who wrap and unwrap it. These do, and keep it.
struct Watched<'a, T: ?Sized> {
    inner: &'a T,
    seen: &'a Seen,
}

#[derive(Default)]
struct Seen(RefCell<Option<FileKey>>);

impl Seen {
    fn note(&self, key: &FileKey) {
        let copy = FileKey::init_with_mut(|copy| copy.copy_from_slice(key.expose_secret()));
        *self.0.borrow_mut() = Some(copy);
    }

    fn payload_key(&self, nonce: Option<&[u8; NONCE]>) -> Option<PayloadKey> {
        Some(PayloadKey::new(self.0.borrow().as_ref()?.expose_secret(), nonce?))
    }
}

impl age::Recipient for Watched<'_, dyn age::Recipient + '_> {
    fn wrap_file_key(&self, key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
        self.seen.note(key);
        self.inner.wrap_file_key(key)
    }
}

impl age::Identity for Watched<'_, dyn age::Identity + '_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, age::DecryptError>> {
        self.inner.unwrap_stanza(stanza)
    }
    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, age::DecryptError>> {
        let found = self.inner.unwrap_stanzas(stanzas);
        if let Some(Ok(key)) = &found {
            self.seen.note(key);
        }
        found
    }
}

/// Keeps the last bytes that were read.
struct Tail<'r, R> {
    inner: &'r mut R,
    last: [u8; NONCE],
}

impl<R: BufRead> BufRead for Tail<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }
    fn consume(&mut self, n: usize) {
        if let Ok(read) = self.inner.fill_buf() {
            let kept = [&self.last[..], &read[..n.min(read.len())]].concat();
            if let Some(last) = kept.last_chunk() {
                self.last = *last;
            }
        }
        self.inner.consume(n);
    }
}

impl<R: BufRead> Read for Tail<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?;
        let n = out.len().min(read.len());
        out[..n].copy_from_slice(&read[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// The secret keys that open volumes.
#[derive(Clone)]
pub struct Identities {
    plain: Arc<Vec<Plain>>,
    plugins: Arc<Vec<PluginIdentities>>,
}

/// Why an age file cannot be opened.
pub(crate) enum OpenError {
    Identity(AgeError),
    File(age::DecryptError),
}

impl From<AgeError> for OpenError {
    fn from(error: AgeError) -> Self {
        Self::Identity(error)
    }
}

impl From<age::DecryptError> for OpenError {
    fn from(error: age::DecryptError) -> Self {
        match error {
            age::DecryptError::Plugin(errors) => Self::Identity(AgeError::plugin(errors.first())),
            other => Self::File(other),
        }
    }
}

/// An identity whose secret is in memory.
enum Plain {
    Native(age::x25519::Identity),
    Ssh(age::ssh::Identity),
}

/// All identities of one plugin: it is run once for them.
#[derive(Clone)]
struct PluginIdentities {
    name: String,
    identities: Vec<age::plugin::Identity>,
    talk: Arc<dyn PluginTalk>,
}

impl PluginIdentities {
    fn plugin(&self) -> Result<age::plugin::IdentityPluginV1<Talk>, AgeError> {
        no_debugging()?;
        age::plugin::IdentityPluginV1::new(&self.name, &self.identities, Talk::new(&self.name, &self.talk))
            .map_err(|_| AgeError::NoPlugin(program(&self.name)))
    }
}

impl Identities {
    /// None: they open nothing.
    pub fn none() -> Self {
        Self { plain: Arc::new(Vec::new()), plugins: Arc::new(Vec::new()) }
    }

    /// Reads an identity file: as `age-keygen` or a plugin writes it, such a file encrypted with a passphrase (`age -p`), or a
    /// private key of OpenSSH of kind ssh-ed25519.
    ///
    /// `passphrase` is asked only if the file is protected. A plugin is run when a volume is opened.
    ///
    /// # Errors
    /// [`AgeError`] names the file.
    pub fn load(path: &Path, passphrase: impl FnOnce() -> Result<SecretString, String>) -> Result<Self, AgeError> {
        let read = |source| AgeError::Read { path: path.into(), source };
        let mut bytes = Vec::new();
        std::fs::File::open(path).map_err(read)?.take(LIMITS.config).read_to_end(&mut bytes).map_err(read)?;
        let not_one = || AgeError::Identity(path.into());
        let passphrase = || passphrase().map_err(|reason| AgeError::Passphrase { path: path.into(), reason });
        if bytes.starts_with(b"age-encryption.org/") || bytes.starts_with(b"-----BEGIN AGE ENCRYPTED") {
            let text = decrypt(path, &bytes, passphrase()?)?;
            return Self::of_lines(path, text.expose_secret());
        }
        let text = SecretString::from(String::from_utf8(bytes).map_err(|_| not_one())?);
        if text.expose_secret().trim_start().starts_with("-----BEGIN ") {
            return Self::of_ssh(path, text.expose_secret(), passphrase);
        }
        Self::of_lines(path, text.expose_secret())
    }

    /// Says how plugins can talk with the person.
    #[must_use]
    pub fn with_talk(self, talk: Arc<dyn PluginTalk>) -> Self {
        let told = self.plugins.iter().map(|p| PluginIdentities { talk: talk.clone(), ..p.clone() });
        Self { plugins: Arc::new(told.collect()), ..self }
    }

    fn of_lines(path: &Path, text: &str) -> Result<Self, AgeError> {
        let mut plain = Vec::new();
        let mut plugins: BTreeMap<String, Vec<age::plugin::Identity>> = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Ok(identity) = age::x25519::Identity::from_str(line) {
                plain.push(Plain::Native(identity));
            } else {
                // Not repeated in an error: it may be a secret with a typing error.
                let identity = age::plugin::Identity::from_str(line).map_err(|_| AgeError::Identity(path.into()))?;
                plugins.entry(identity.plugin().into()).or_default().push(identity);
            }
        }
        if plain.is_empty() && plugins.is_empty() {
            return Err(AgeError::Identity(path.into()));
        }
        let plugin = |(name, identities)| {
            let plugin = PluginIdentities { name, identities, talk: Arc::new(Silent) };
            plugin.plugin()?;
            Ok(plugin)
        };
        let plugins = plugins.into_iter().map(plugin).collect::<Result<_, AgeError>>()?;
        Ok(Self { plain: Arc::new(plain), plugins: Arc::new(plugins) })
    }

    fn of_ssh(
        path: &Path,
        text: &str,
        passphrase: impl FnOnce() -> Result<SecretString, AgeError>,
    ) -> Result<Self, AgeError> {
        use age::ssh;
        let shown = || path.display().to_string();
        if text.contains("-----BEGIN RSA PRIVATE KEY-----") {
            return Err(AgeError::SshRsa(shown()));
        }
        if !text.contains("-----BEGIN OPENSSH PRIVATE KEY-----") {
            return Err(AgeError::SshKind(path.into()));
        }
        let identity = ssh::Identity::from_buffer(text.trim_start().as_bytes(), None)
            .map_err(|_| AgeError::Identity(path.into()))?;
        // The public half is not encrypted: its kind is known before anybody is asked for a passphrase.
        match ssh::Recipient::try_from(identity.clone()) {
            Ok(ssh::Recipient::SshEd25519(..)) => {}
            Ok(ssh::Recipient::SshRsa(..)) | Err(ssh::ParseRecipientKeyError::RsaModulusTooLarge) => {
                return Err(AgeError::SshRsa(shown()));
            }
            Err(_) => return Err(AgeError::SshKind(path.into())),
        }
        let identity = match identity {
            ssh::Identity::Encrypted(key) => {
                let key = key.decrypt(passphrase()?).map_err(|_| AgeError::WrongPassphrase(path.into()))?;
                ssh::Identity::from(key)
            }
            other => other,
        };
        Ok(Self { plain: Arc::new(vec![Plain::Ssh(identity)]), plugins: Arc::default() })
    }

    /// Reads the header of an age file, and the nonce behind it; gives the key of its payload, which follows.
    pub(crate) fn open(&self, input: &mut impl BufRead) -> Result<PayloadKey, OpenError> {
        let plugins = self.plugins.iter().map(PluginIdentities::plugin).collect::<Result<Vec<_>, _>>()?;
        let own = self.plain.iter().map(|identity| match identity {
            Plain::Native(identity) => identity as &dyn age::Identity,
            Plain::Ssh(identity) => identity,
        });
        let seen = Seen::default();
        let all: Vec<_> = own
            .chain(plugins.iter().map(|p| p as &dyn age::Identity))
            .map(|inner| Watched { inner, seen: &seen })
            .collect();
        let mut tail = Tail { inner: input, last: [0; NONCE] };
        let decryptor = age::Decryptor::new_buffered(&mut tail)?;
        // What this reader would give is not read: that the header is good is all that it is made for.
        drop(decryptor.decrypt(all.iter().map(|i| i as &dyn age::Identity))?);
        seen.payload_key(Some(&tail.last)).ok_or(OpenError::File(age::DecryptError::NoMatchingKeys))
    }

    /// The recipients these identities belong to; only a plugin itself could say it of its own.
    pub fn recipients(&self) -> Vec<String> {
        let recipient = |identity: &Plain| match identity {
            Plain::Native(identity) => Some(identity.to_public().to_string()),
            Plain::Ssh(identity) => age::ssh::Recipient::try_from(identity.clone()).ok().map(|r| r.to_string()),
        };
        self.plain.iter().filter_map(recipient).collect()
    }
}

/// Opens an identity file that is encrypted with a passphrase.
fn decrypt(path: &Path, bytes: &[u8], passphrase: SecretString) -> Result<SecretString, AgeError> {
    let not_one = || AgeError::Identity(path.into());
    let mut identity = age::scrypt::Identity::new(passphrase);
    identity.set_max_work_factor(LIMITS.scrypt_log_n);
    let decryptor = age::Decryptor::new(age::armor::ArmoredReader::new(bytes)).map_err(|_| not_one())?;
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
    Ok(SecretString::from(text))
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
        for secret in ["AGE-SECRET-KEY-1QQQ", "age-plugin-yubikey-1qqq", "-----BEGIN OPENSSH PRIVATE KEY-----"] {
            assert!(matches!(parse_recipient(secret), Err(AgeError::SecretRecipient)), "{secret}");
        }
    }
}

//! The ledger of this site, and the key that signs its heads.

use std::path::{Path, PathBuf};

use clap::Args;
use commands::settings::KeySource;
use ledger::{Checked, Checker, Custody, Ledger, LedgerId, Signer, Stamp};
use manifest_schema::{LIMITS, LabelValue, OutsideText, Timestamp};
use signing::{Certificates, Fingerprint, SecretKey, Trust};

use crate::config::{Import, LedgerConfig};
use crate::error::Error;

/// Which ledger, and its key.
#[derive(Debug, Clone, Default, Args)]
pub struct LedgerArgs {
    /// The ledger
    #[arg(long, value_name = "FILE", env = "SEALIFT_LEDGER", global = true)]
    pub ledger: Option<PathBuf>,
    /// The id that the ledger must have
    #[arg(long, value_name = "UUID", env = "SEALIFT_LEDGER_ID", global = true)]
    pub ledger_id: Option<LedgerId>,
    /// OpenPGP secret key file of the ledger key, which signs the ledger's heads
    #[arg(long, value_name = "FILE", env = "SEALIFT_LEDGER_KEY", global = true, conflicts_with = "ledger_by")]
    pub ledger_key: Option<PathBuf>,
    /// Sign the ledger's heads through gpg-agent, with the key of this fingerprint
    #[arg(long, value_name = "FINGERPRINT", env = "SEALIFT_LEDGER_BY", global = true)]
    pub ledger_by: Option<Fingerprint>,
    /// A file whose first line is that key's passphrase [also: SEALIFT_LEDGER_PASSPHRASE]
    #[arg(long, value_name = "FILE", env = "SEALIFT_LEDGER_PASSPHRASE_FILE", global = true)]
    pub ledger_passphrase_file: Option<PathBuf>,
    /// The second file of the ledger's head, best on another disk [default: the ledger's name with `.head`]
    #[arg(long, value_name = "FILE", env = "SEALIFT_LEDGER_HEAD", global = true)]
    pub ledger_head: Option<PathBuf>,
}

/// The ledger, as flags and configuration name it.
#[derive(Debug, Clone)]
pub struct LedgerAccess {
    path: PathBuf,
    id: Option<LedgerId>,
    key: Option<KeySource>,
    second: PathBuf,
}

impl LedgerAccess {
    /// Joins flags and configuration; flags win. `None` if neither names a ledger.
    ///
    /// # Errors
    /// [`Error`] names what is wrong.
    pub fn resolve(args: LedgerArgs, config: Option<&LedgerConfig>) -> Result<Option<Self>, Error> {
        let Some(path) = args.ledger.or_else(|| config.map(|c| c.file.clone())) else { return Ok(None) };
        let configured = match config {
            Some(c) => Some(c.id.parse().map_err(|_| Error::LedgerId(OutsideText::new(&c.id)))?),
            None => None,
        };
        let sign = config.and_then(|c| c.sign.clone());
        let key = KeySource::of_role(
            (args.ledger_key, args.ledger_by),
            sign,
            args.ledger_passphrase_file,
            "SEALIFT_LEDGER_PASSPHRASE",
        )?;
        let second = args.ledger_head.or_else(|| config.and_then(|c| c.head.clone()));
        let second = second.unwrap_or_else(|| default_second(&path));
        // The configured id holds for another file too: a copy that was moved is the same ledger.
        Ok(Some(Self { path, id: args.ledger_id.or(configured), key, second }))
    }

    /// As [`LedgerAccess::resolve`], with import.yaml if it is named or there.
    ///
    /// # Errors
    /// [`Error::Missing`] if no ledger is named; otherwise what is wrong.
    pub fn find(args: LedgerArgs, config: Option<&Path>) -> Result<Self, Error> {
        let default = Path::new("import.yaml");
        let config = match config {
            Some(path) => Some(Import::load(path)?),
            None if default.exists() && args.ledger.is_none() => Some(Import::load(default)?),
            None => None,
        };
        Self::resolve(args, config.as_ref().map(|c| &c.ledger))?.ok_or(Error::Missing("a ledger"))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id that it must have.
    pub fn id(&self) -> Option<&LedgerId> {
        self.id.as_ref()
    }

    /// Opens the ledger for writing.
    ///
    /// # Errors
    /// [`Error`] if it is missing, another one, in use, or may not be what it was.
    pub fn open(&self, now: Timestamp) -> Result<Ledger, Error> {
        Ok(Ledger::open(&self.path, self.id.as_ref(), self.custody(now)?)?)
    }

    /// Opens the ledger for reading.
    ///
    /// # Errors
    /// [`Error`] if it is missing or another one.
    pub fn read(&self) -> Result<Ledger, Error> {
        Ok(Ledger::open_read_only(&self.path, self.id.as_ref())?)
    }

    /// The unlocked ledger key.
    ///
    /// # Errors
    /// [`Error::Missing`] if none is named; [`Error`] says what is wrong with it.
    pub fn key(&self, now: Timestamp) -> Result<SecretKey, Error> {
        let source = self.key.as_ref().ok_or(Error::Missing("a ledger key"))?;
        Ok(source.unlock(now)?)
    }

    /// What it takes to write to the ledger; nothing if no key is named, which the ledger then asks for.
    ///
    /// # Errors
    /// As [`LedgerAccess::key`].
    pub fn custody(&self, now: Timestamp) -> Result<Option<Custody>, Error> {
        match self.key {
            Some(_) => Ok(Some(custody(self.key(now)?, self.second.clone()))),
            None => Ok(None),
        }
    }
}

/// The second file of a ledger's head if none is named.
pub fn default_second(ledger: &Path) -> PathBuf {
    let mut name = ledger.as_os_str().to_owned();
    name.push(".head");
    name.into()
}

/// A ledger key and a second file.
pub fn custody(key: SecretKey, second: PathBuf) -> Custody {
    Custody { signer: Box::new(LedgerKey(key)), checker: Box::new(LedgerChecker), second }
}

/// The ledger key.
pub struct LedgerKey(pub SecretKey);

impl Signer for LedgerKey {
    fn fingerprint(&self) -> ledger::Fingerprint {
        to_ledger(&self.0.fingerprint())
    }

    fn certificate(&self) -> Result<Vec<u8>, OutsideText> {
        self.0.certificate_armored().map_err(|e| OutsideText::new(console::chain(&e)))
    }

    fn sign(&self, document: &[u8]) -> Result<Vec<u8>, OutsideText> {
        self.0.sign_statement(document, Timestamp::now()).map_err(|e| OutsideText::new(console::chain(&e)))
    }
}

/// Checks what ledger keys signed.
pub struct LedgerChecker;

impl Checker for LedgerChecker {
    fn check(&self, statement: &[u8], certificates: &[u8], now: Timestamp) -> Result<Checked, OutsideText> {
        let check = || -> Result<Checked, String> {
            let certificates = Certificates::from_bytes(certificates, Path::new("the ledger's certificates"))
                .map_err(|e| e.to_string())?;
            let trust = Trust::new(certificates, 1, now).map_err(|e| e.to_string())?;
            let authentic = trust.verify_statement(statement, LIMITS.config).map_err(|e| e.to_string())?;
            let signers = authentic.signers().iter().map(|s| to_ledger(&s.fingerprint)).collect();
            Ok(Checked { document: authentic.get().clone(), signers })
        };
        check().map_err(OutsideText::new)
    }
}

/// A fingerprint as the ledger has it.
pub fn to_ledger(fingerprint: &Fingerprint) -> ledger::Fingerprint {
    // Both are 40 or 64 hexadecimal digits.
    fingerprint.as_str().parse().unwrap_or_else(|_| unreachable!("a fingerprint by construction"))
}

/// The time, program and person of a ledger entry made now.
///
/// # Errors
/// If the program's name is no label.
pub fn stamp() -> Result<Stamp, Error> {
    Ok(Stamp {
        now: Timestamp::now(),
        tool: concat!("sealift-import ", env!("CARGO_PKG_VERSION")).parse().map_err(Error::Label)?,
        by: who(),
    })
}

/// The user who runs this, as the operating system says: the kernel's number, and the name that /etc/passwd has for it.
fn who() -> Option<LabelValue> {
    let uid = rustix::process::getuid().as_raw();
    let passwd = console::read_text(Path::new("/etc/passwd"), LIMITS.config).unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    let text = name.map_or_else(|| format!("uid {uid}"), |name| format!("{name} (uid {uid})"));
    text.parse().ok()
}

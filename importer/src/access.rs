//! The ledger of this site, and the key that signs its heads.

use std::path::{Path, PathBuf};

use clap::Args;
use commands::settings::{KeyHolder, KeySource};
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
    /// File with the ledger key's certificate, which the production key has certified [default: for a key file ending in
    /// `.secret.asc`, the one ending in `.asc` beside it, if it is there]
    #[arg(long, value_name = "FILE", env = "SEALIFT_LEDGER_CERTIFICATE", global = true)]
    pub ledger_certificate: Option<PathBuf>,
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
    certificate: Option<PathBuf>,
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
        let certificate = args.ledger_certificate.or_else(|| config.and_then(|c| c.certificate.clone()));
        let second = args.ledger_head.or_else(|| config.and_then(|c| c.head.clone()));
        let second = second.unwrap_or_else(|| default_second(&path));
        // The configured id holds for another file too: a copy that was moved is the same ledger.
        Ok(Some(Self { path, id: args.ledger_id.or(configured), key, certificate, second }))
    }

    /// As [`LedgerAccess::resolve`], where a ledger must be named.
    ///
    /// # Errors
    /// [`Error::Missing`] if none is; otherwise what is wrong.
    pub fn find(args: LedgerArgs, config: Option<&LedgerConfig>) -> Result<Self, Error> {
        Self::resolve(args, config)?.ok_or(Error::Missing("a ledger"))
    }

    /// As [`LedgerAccess::find`], with [`LedgerAccess::configuration`].
    ///
    /// # Errors
    /// As both.
    pub fn named(args: LedgerArgs, config: Option<&Path>) -> Result<Self, Error> {
        let import = Self::configuration(&args, config)?;
        Self::find(args, import.as_ref().map(|import| &import.ledger))
    }

    /// import.yaml, if it is named, or there and the flags name no ledger.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn configuration(args: &LedgerArgs, config: Option<&Path>) -> Result<Option<Import>, Error> {
        let default = Path::new("import.yaml");
        match config {
            Some(path) => Ok(Some(Import::load(path)?)),
            None if default.exists() && args.ledger.is_none() => Ok(Some(Import::load(default)?)),
            None => Ok(None),
        }
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
        self.open_if(now, |_| Ok(()))
    }

    /// Opens the ledger for writing, if its key suits.
    ///
    /// # Errors
    /// As [`LedgerAccess::open`], or what `suits` returns.
    pub fn open_if(
        &self,
        now: Timestamp,
        suits: impl FnOnce(&Certificates) -> Result<(), Error>,
    ) -> Result<Ledger, Error> {
        let custody = match self.key {
            Some(_) => {
                let key = self.key(now)?;
                suits(&key.certificates())?;
                Some(custody(key, self.second.clone()))
            }
            None => None,
        };
        Ok(Ledger::open(&self.path, self.id.as_ref(), custody)?)
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
        unlock(source, self.certificate.as_deref(), now)
    }

    /// Whether a key is named.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// The file for the certificate of the ledger key, which need not be there.
    pub fn certificate_file(&self) -> Option<PathBuf> {
        self.certificate.clone().or_else(|| self.key.as_ref().and_then(beside_key))
    }

    /// These certificates of ledger keys, with what the certificate's file says besides, if it is there and says something of
    /// one of them.
    ///
    /// # Errors
    /// If one of them is no certificate.
    pub fn with_certificate_file(&self, certificates: Certificates) -> Result<Certificates, Error> {
        let Some(path) = self.certificate_file().filter(|path| path.exists()) else { return Ok(certificates) };
        let (known, file) = (certificates.fingerprints(), Certificates::load(&[path])?);
        let mut bytes = Vec::new();
        for fingerprint in &known {
            bytes.extend(certificates.armored(fingerprint)?);
            if file.fingerprints().contains(fingerprint) {
                bytes.extend(file.armored(fingerprint)?);
            }
        }
        Ok(Certificates::from_bytes(&bytes, &self.path)?)
    }

    /// The second file of the head.
    pub fn second(&self) -> &Path {
        &self.second
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

/// Unlocks a ledger key, with all that its certificate says. The certificate's file is the one named, or the one beside the key.
///
/// # Errors
/// [`Error::LedgerCertificate`] if the file is of another key; [`Error`] says what is wrong with the key.
pub fn unlock(source: &KeySource, certificate: Option<&Path>, now: Timestamp) -> Result<SecretKey, Error> {
    let key = source.unlock(now)?;
    let file = match certificate {
        Some(path) => Some(path.to_path_buf()),
        None => beside_key(source).filter(|path| path.exists()),
    };
    let Some(path) = file else { return Ok(key) };
    let wrong = |source| Error::LedgerCertificate { path: path.clone(), source };
    let key = key.with_certificate(&Certificates::load(std::slice::from_ref(&path))?).map_err(wrong)?;
    // The file may say that the key was revoked.
    match key.certificates().info(now).into_iter().find_map(|info| info.refused) {
        Some(reason) => Err(signing::Error::Unusable { fingerprint: key.fingerprint(), reason }.into()),
        None => Ok(key),
    }
}

/// The certificate's file as `init` and `keygen` put it beside the secret key's.
pub fn beside_key(source: &KeySource) -> Option<PathBuf> {
    let KeyHolder::File(path) = &source.holder else { return None };
    let stem = path.file_name()?.to_str()?.strip_suffix(".secret.asc")?;
    Some(path.with_file_name(format!("{stem}.asc")))
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

/// Joins two statements over the same document: the document, and one block with the signatures of both.
///
/// # Errors
/// If they are not over the same document, or one has no readable signature.
pub fn join(one: &[u8], two: &[u8]) -> Result<Vec<u8>, OutsideText> {
    let split = |statement: &[u8]| statement.iter().position(|b| *b == b'\n').map_or(0, |end| end + 1);
    let ((line, first), (other, second)) = (one.split_at(split(one)), two.split_at(split(two)));
    if line != other {
        return Err(OutsideText::new("the two statements are not over the same document"));
    }
    let signatures = signing::join_signatures(&[first, second]).map_err(|e| OutsideText::new(e.to_string()))?;
    Ok([line, &signatures].concat())
}

/// Checks what ledger keys signed: a key that has expired since counts, one that was revoked does not.
pub struct LedgerChecker;

impl Checker for LedgerChecker {
    fn check(&self, statement: &[u8], certificates: &[u8]) -> Result<Checked, OutsideText> {
        let check = || -> Result<Checked, String> {
            let certificates = Certificates::from_bytes(certificates, Path::new("the ledger's certificates"))
                .map_err(|e| e.to_string())?;
            let trust = Trust::new(certificates, 1, Timestamp::now()).map_err(|e| e.to_string())?.as_signed();
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

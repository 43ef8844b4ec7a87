//! `keygen`: keys for people who have none.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use console::{Failure, PassphraseSource};
use manifest_schema::Timestamp;
use secrecy::SecretString;
use signing::{Algorithm, KeyRequest, SecretKey};

use crate::error::Error;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Signs manifests and seals on the exporting side.
    Release,
    /// Signs images for production.
    Production,
    /// Signs the ledger's heads and receipts.
    Ledger,
    /// Approves bundles before they go into production.
    Approver,
    /// Signs images for production in the form of cosign.
    Cosign,
    /// Opens bundles (age).
    Identity,
}

impl Role {
    /// The stem of the files' names.
    pub fn stem(self) -> &'static str {
        match self {
            Role::Release => "release",
            Role::Production => "production",
            Role::Ledger => "ledger",
            Role::Approver => "approver",
            Role::Cosign => "cosign",
            Role::Identity => "enclave",
        }
    }
}

/// How a secret key is protected.
#[derive(Debug, Clone, Args)]
pub struct ProtectArgs {
    /// Write the secret key without a passphrase
    #[arg(long)]
    pub no_passphrase: bool,
    /// A file whose first line is the new passphrase [also: SEALIFT_NEW_PASSPHRASE]
    #[arg(long, value_name = "FILE", conflicts_with = "no_passphrase", env = "SEALIFT_NEW_PASSPHRASE_FILE")]
    pub passphrase_file: Option<PathBuf>,
}

impl ProtectArgs {
    /// The passphrase for a new key; `None` if it shall have none.
    ///
    /// # Errors
    /// If none can be had.
    pub fn passphrase(&self, what: &str) -> Result<Option<SecretString>, Error> {
        if self.no_passphrase {
            return Ok(None);
        }
        let source = PassphraseSource { file: self.passphrase_file.clone(), variable: "SEALIFT_NEW_PASSPHRASE" };
        Ok(Some(console::new_passphrase(&source, what)?))
    }
}

/// The signature algorithm of a new key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AlgorithmArg {
    /// RSA with 3072 bits: read by every verifier in the field
    Rsa3072,
    /// RSA with 4096 bits
    Rsa4096,
    /// ECDSA with NIST P-256
    P256,
    /// Ed25519: some builds of skopeo cannot read it
    Ed25519,
}

impl From<AlgorithmArg> for Algorithm {
    fn from(arg: AlgorithmArg) -> Self {
        match arg {
            AlgorithmArg::Rsa3072 => Algorithm::Rsa3072,
            AlgorithmArg::Rsa4096 => Algorithm::Rsa4096,
            AlgorithmArg::P256 => Algorithm::P256,
            AlgorithmArg::Ed25519 => Algorithm::Ed25519,
        }
    }
}

/// Arguments of `keygen`.
#[derive(Debug, Args)]
pub struct Keygen {
    /// The folder to write to
    #[arg(short, long, value_name = "DIR", default_value = ".", env = "SEALIFT_OUTPUT")]
    output: PathBuf,
    /// The user id, such as "Payments release <release@dev.example>" [default: "Sealift ROLE key"]
    #[arg(long, value_name = "TEXT", env = "SEALIFT_USER_ID")]
    user_id: Option<String>,
    /// The signature algorithm
    #[arg(long, value_enum, default_value = "rsa3072", env = "SEALIFT_ALGORITHM")]
    algorithm: AlgorithmArg,
    /// The key ends at this time [default: it does not end]
    #[arg(long, value_name = "TIME", env = "SEALIFT_KEY_EXPIRES")]
    expires: Option<Timestamp>,
    #[command(flatten)]
    protect: ProtectArgs,
}

impl Keygen {
    /// Makes a key of a role.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub fn run(self, role: Role) -> Result<(), Failure> {
        self.make(role).map_err(|e| Failure::new(&e))
    }

    fn make(self, role: Role) -> Result<(), Error> {
        std::fs::create_dir_all(&self.output).map_err(|source| Error::Write { path: self.output.clone(), source })?;
        let made = match role {
            Role::Identity => identity(&self.output, &self.protect)?,
            Role::Cosign => cosign(&self.output, &self.protect)?,
            _ => {
                let Made { public, secret, notes, .. } =
                    openpgp(&self.output, role, self.user_id, self.algorithm, self.expires, &self.protect)?;
                Made { public, secret, notes, key: () }
            }
        };
        for line in &made.notes {
            console::say(line);
        }
        console::print(&format!("{}\n", made.public)).map_err(Error::Stdout)
    }
}

/// A key that was made.
#[derive(Debug)]
pub struct Made<K = ()> {
    /// The fingerprint, or the age recipient.
    pub public: String,
    /// The file with the secret.
    pub secret: PathBuf,
    /// What to tell the person.
    pub notes: Vec<String>,
    /// The key, unlocked.
    pub key: K,
}

/// Makes an OpenPGP key: `<role>.secret.asc` (0600), `<role>.asc`, `<role>.revocation.asc`.
///
/// # Errors
/// [`Error::KeyExists`] before anything is made; otherwise what failed.
pub fn openpgp(
    folder: &Path,
    role: Role,
    user_id: Option<String>,
    algorithm: AlgorithmArg,
    expires: Option<Timestamp>,
    protect: &ProtectArgs,
) -> Result<Made<SecretKey>, Error> {
    let stem = role.stem();
    let [secret, certificate, revocation] =
        ["secret.asc", "asc", "revocation.asc"].map(|end| folder.join(format!("{stem}.{end}")));
    absent([&secret, &certificate, &revocation])?;
    let passphrase = protect.passphrase(&format!("the new {stem} key"))?;
    let key = signing::generate(&KeyRequest {
        user_id: user_id.unwrap_or_else(|| format!("Sealift {stem} key")),
        algorithm: algorithm.into(),
        passphrase: passphrase.clone(),
        expires,
        created: Timestamp::now(),
    })?;
    console::write_secret(&secret, &key.secret_armored).map_err(written(&secret))?;
    console::write_secret(&revocation, &String::from_utf8_lossy(&key.revocation_armored).into_owned().into())
        .map_err(written(&revocation))?;
    console::write_new(&certificate, &key.certificate_armored).map_err(written(&certificate))?;
    let mut notes = vec![
        format!("{}: the secret key; keep it, and a copy of it in a safe place", secret.display()),
        format!("{}: the certificate; give it to those who verify", certificate.display()),
        format!("{}: ends the key if it is ever lost or stolen; keep it apart from it", revocation.display()),
    ];
    if protect.no_passphrase {
        notes.push("warning: the secret key has no passphrase; whoever reads the file can sign".into());
    }
    let public = key.fingerprint.to_string();
    let loaded = SecretKey::load(&secret, || passphrase.ok_or(signing::Error::NoSecretKey { path: secret.clone() }))?;
    notes.extend(loaded.warnings(Timestamp::now()).iter().map(|w| format!("warning: {w}")));
    Ok(Made { public, secret, notes, key: loaded })
}

/// Makes an age identity: `enclave.key` (0600) and `enclave.recipient`.
///
/// # Errors
/// As [`openpgp`].
pub fn identity(folder: &Path, protect: &ProtectArgs) -> Result<Made, Error> {
    let [secret, public] = ["key", "recipient"].map(|end| folder.join(format!("enclave.{end}")));
    absent([&secret, &public])?;
    let passphrase = protect.passphrase("the new identity")?;
    let made = bundle::generate_identity(&Timestamp::now().to_string(), passphrase)?;
    console::write_secret(&secret, &made.file).map_err(written(&secret))?;
    console::write_new(&public, format!("{}\n", made.recipient).as_bytes()).map_err(written(&public))?;
    let notes = vec![
        format!("{}: opens bundles; keep it, and a copy of it in a safe place", secret.display()),
        format!("{}: the recipient; give it to those who pack", public.display()),
    ];
    Ok(Made { public: made.recipient, secret, notes, key: () })
}

/// Makes a key for signatures in the form of cosign (ECDSA over P-256): `cosign.key` (0600) and `cosign.pub`.
///
/// # Errors
/// As [`openpgp`].
pub fn cosign(folder: &Path, protect: &ProtectArgs) -> Result<Made, Error> {
    let [secret, public] = ["key", "pub"].map(|end| folder.join(format!("cosign.{end}")));
    absent([&secret, &public])?;
    let made = signing::sigstore::generate_sigstore(protect.passphrase("the new cosign key")?.as_ref())?;
    console::write_secret(&secret, &made.secret_pem).map_err(written(&secret))?;
    console::write_new(&public, made.public_pem.as_bytes()).map_err(written(&public))?;
    let notes = vec![
        format!("{}: the secret key; keep it, and a copy of it in a safe place", secret.display()),
        format!("{}: the public key; give it to those who verify", public.display()),
    ];
    Ok(Made { public: made.fingerprint, secret, notes, key: () })
}

fn absent<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), Error> {
    match paths.into_iter().find(|p| p.symlink_metadata().is_ok()) {
        Some(path) => Err(Error::KeyExists(path.clone())),
        None => Ok(()),
    }
}

fn written(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::KeyExists(path),
        _ => Error::Write { path, source },
    }
}

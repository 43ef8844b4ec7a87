//! What can go wrong with keys and certificates, outside of judging a signature.

use std::io;
use std::path::{Path, PathBuf};

use manifest_schema::{OutsideText, text::escape};

use crate::{Fingerprint, Reason};

/// Why a key or certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{}: cannot be read", shown(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is larger than `LIMITS.config`.
    #[error("{}: larger than {limit} bytes", shown(path))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file is not OpenPGP data, or damaged.
    #[error("{}: not a readable OpenPGP key file: {}", shown(path), reason.escaped())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: OutsideText,
    },
    /// A file holds no certificate.
    #[error("{}: holds no OpenPGP certificate (public key)", shown(path))]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A folder holds no certificate.
    #[error("{}: no file in this folder (*.asc, *.gpg, *.pgp) holds an OpenPGP certificate (public key)", shown(path))]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A folder holds more files than are read.
    #[error("{}: more than {limit} files", shown(path))]
    TooManyFiles {
        /// The folder.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// A file with a secret key was given where only certificates belong.
    #[error("{}: holds the secret key of {fingerprint}; expected certificates (public keys) only", shown(path))]
    SecretKeyFile {
        /// The file.
        path: PathBuf,
        /// Whose secret key.
        fingerprint: Fingerprint,
    },
    /// A revocation certificate that belongs to none of the certificates.
    #[error("{}: holds a revocation that fits none of the certificates", shown(path))]
    StrayRevocation {
        /// The file.
        path: PathBuf,
    },
    /// No certificate was configured.
    #[error("no certificates were given")]
    NoCertificates,
    /// A threshold that can't be met, or that is met by nothing.
    #[error("a threshold of {threshold} does not fit {certificates} certificates: expected 1 to {certificates}")]
    Threshold {
        /// The threshold.
        threshold: usize,
        /// How many certificates there are.
        certificates: usize,
    },
    /// A file holds no secret key.
    #[error("{}: holds no OpenPGP secret key", shown(path))]
    NoSecretKey {
        /// The file.
        path: PathBuf,
    },
    /// A file holds more than one secret key.
    #[error("{}: holds {found} secret keys; expected one", shown(path))]
    SeveralKeys {
        /// The file.
        path: PathBuf,
        /// How many.
        found: usize,
    },
    /// A secret key without any part that can sign and is in the file.
    #[error("{}: secret key {fingerprint} has no signing key in this file (it may be on a card)", shown(path))]
    NoSigningKey {
        /// The file.
        path: PathBuf,
        /// The certificate.
        fingerprint: Fingerprint,
    },
    /// The passphrase is wrong.
    #[error("{}: wrong passphrase for secret key {fingerprint}", shown(path))]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
        /// The certificate.
        fingerprint: Fingerprint,
    },
    /// The key is protected in a way that is not supported.
    #[error("{}: secret key {fingerprint} cannot be unlocked: {}", shown(path), reason.escaped())]
    Locked {
        /// The file.
        path: PathBuf,
        /// The certificate.
        fingerprint: Fingerprint,
        /// Why.
        reason: OutsideText,
    },
    /// A key that gpg-agent holds cannot be used.
    #[error("key {fingerprint}: {fault}")]
    Agent {
        /// The fingerprint that was asked for, or the certificate's.
        fingerprint: Fingerprint,
        /// Why.
        fault: crate::AgentError,
    },
    /// The key must not sign now.
    #[error("key {fingerprint} cannot sign: {reason}")]
    Unusable {
        /// The certificate.
        fingerprint: Fingerprint,
        /// Why.
        reason: Reason,
    },
    /// The key must not certify another key now.
    #[error("key {fingerprint} cannot certify another key: {reason}")]
    CannotCertify {
        /// The certificate.
        fingerprint: Fingerprint,
        /// Why.
        reason: Reason,
    },
    /// Only the primary key can certify.
    #[error(
        "key {fingerprint} cannot certify another key: expected the secret primary key, found that of subkey {subkey}"
    )]
    SubkeyOnly {
        /// The certificate.
        fingerprint: Fingerprint,
        /// The subkey whose secret key is there.
        subkey: Fingerprint,
    },
    /// Not one certificate to certify.
    #[error("expected one certificate to certify, found {found}")]
    OneCertificate {
        /// How many.
        found: usize,
    },
    /// A certificate that nobody should vouch for.
    #[error("certificate {fingerprint} cannot be certified: {reason}")]
    NotCertifiable {
        /// The certificate.
        fingerprint: Fingerprint,
        /// Why.
        reason: Reason,
    },
    /// A key that would vouch for itself.
    #[error("key {fingerprint} cannot certify itself")]
    OwnCertificate {
        /// The certificate.
        fingerprint: Fingerprint,
    },
    /// A certificate that is not among others.
    #[error("expected the certificate {fingerprint}, found {}", .found.iter().map(Fingerprint::as_str).collect::<Vec<_>>().join(", "))]
    NoSuchCertificate {
        /// Which.
        fingerprint: Fingerprint,
        /// Those that are there.
        found: Vec<Fingerprint>,
    },
    /// The trial signature does not verify.
    #[error("key {fingerprint}: the trial signature does not verify: {}", reason.escaped())]
    Trial {
        /// The certificate.
        fingerprint: Fingerprint,
        /// Why.
        reason: OutsideText,
    },
    /// A signature could not be made.
    #[error("key {fingerprint}: the signature could not be made: {}", reason.escaped())]
    Sign {
        /// The certificate.
        fingerprint: Fingerprint,
        /// Why.
        reason: OutsideText,
    },
    /// A reference that cannot be a signature's identity.
    #[error("{reference}: a simple signature names a tag or a digest, not both")]
    Identity {
        /// The reference.
        reference: String,
    },
    /// A document that cannot be signed as a statement.
    #[error("a statement: expected {expected}, found {found}")]
    Statement {
        /// What it has to be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A user id that would not simply appear.
    #[error("`{}` cannot be a key's user id: expected one printable line of 1 to 256 bytes", escape(.0))]
    UserId(String),
    /// An expiry that is not after the creation.
    #[error("a key made on {created} cannot expire on {expires}")]
    Expiry {
        /// When the key is made.
        created: manifest_schema::Timestamp,
        /// When it should expire.
        expires: manifest_schema::Timestamp,
    },
    /// A key could not be made.
    #[error("the key could not be made: {}", .0.escaped())]
    Generate(OutsideText),
}

/// A path on one line, whatever it holds.
pub(crate) fn shown(path: &Path) -> String {
    escape(&path.display().to_string()).to_string()
}

/// An OpenPGP error with its causes, as text from outside: it may quote what was parsed.
pub(crate) fn outside(error: &sequoia_openpgp::anyhow::Error) -> OutsideText {
    OutsideText::new(error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

//! The production key vouches for the ledger key, so that whoever has production's certificate can check what the ledger key
//! signed.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use console::Explain;
use manifest_schema::Timestamp;
use signing::{Certificates, Fingerprint, SecretKey};

use super::AuditError;
use crate::error::Error;

/// A ledger key whose certificate carries the production key's certification.
#[must_use]
pub struct Certified {
    /// The ledger key.
    pub key: SecretKey,
    /// The certificate's file.
    pub file: PathBuf,
    /// The production key.
    pub by: Fingerprint,
}

/// Lets the production key certify the ledger key, beside the certifications that it has, and writes its certificate's file.
///
/// # Errors
/// [`AuditError::Certify`]; if the file cannot be written.
pub fn certify(production: &SecretKey, ledger: &SecretKey, file: &Path) -> Result<Certified, Error> {
    let (of_production, of_ledger) = (production.certificates(), ledger.certificates());
    signing::distinct_roles(&[("production", &of_production), ("ledger", &of_ledger)])?;
    let key = ledger.fingerprint();
    // The key may just have been made: no time from before that will do.
    let certified =
        production.certify(&of_ledger, Timestamp::now()).map_err(|source| AuditError::Certify { key, source })?;
    replace(file, &certified)?;
    let key = ledger.clone().with_certificate(&Certificates::from_bytes(&certified, file)?)?;
    Ok(Certified { key, file: file.into(), by: production.fingerprint() })
}

/// The same where the ledger can do without: a production key that cannot certify is a warning, with what to do about it.
///
/// # Errors
/// As [`certify`], but for [`AuditError::Certify`].
pub fn certify_or_warn(production: &SecretKey, ledger: &SecretKey, file: &Path) -> Result<SecretKey, Error> {
    match certify(production, ledger, file) {
        Ok(certified) => Ok(certified.key),
        Err(e @ Error::Audit(AuditError::Certify { .. })) => {
            console::say(&format!("warning: {}", console::chain(&e)));
            if let Some(hint) = e.hint() {
                console::say(&format!("  hint: {hint}"));
            }
            Ok(ledger.clone())
        }
        Err(e) => Err(e),
    }
}

/// Puts a file in place of another, whole or not at all.
fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let readable = std::fs::Permissions::from_mode(0o644);
        let mut file = tempfile::Builder::new().prefix(".sealift-").permissions(readable).tempfile_in(folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().map_err(|source| commands::Error::Write { path: path.into(), source }.into())
}

//! Certificates (public keys) of one role.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use manifest_schema::{LIMITS, OutsideText, Timestamp};
use openpgp::armor;
use openpgp::cert::CertParser;
use openpgp::packet::Signature;
use openpgp::serialize::{Serialize, SerializeInto};
use openpgp::types::SignatureType;
use openpgp::{Cert, Packet};
use sequoia_openpgp as openpgp;

use crate::error::outside;
use crate::packets::{armored, is_binary, packets};
use crate::trust::{Standing, standing};
use crate::{Error, Fingerprint, Reason};

/// Packets in one key file; a certificate with many certifications has thousands.
const FILE_PACKETS: usize = 100_000;

/// The OpenPGP certificates of one role, with the files they came from.
///
/// A certificate that appears several times is merged into one, so that a file with its revocation certificate beside
/// it revokes it. A clone shares them.
#[derive(Debug, Clone)]
pub struct Certificates {
    certificates: Arc<BTreeMap<Fingerprint, Entry>>,
}

#[derive(Debug, Clone)]
struct Entry {
    cert: Cert,
    files: BTreeSet<PathBuf>,
}

/// What a certificate says of itself, for people.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct CertificateInfo {
    /// The primary key's fingerprint.
    pub fingerprint: Fingerprint,
    /// The primary user id, if there is a valid one.
    pub user_id: Option<OutsideText>,
    /// When the primary key expires.
    pub expires: Option<Timestamp>,
    /// Why its signatures do not count at the time asked about, if they don't.
    #[serde(skip)]
    pub refused: Option<Reason>,
    /// The files it came from.
    pub files: Vec<PathBuf>,
}

impl Certificates {
    /// Reads certificate files: armored or binary, one or several certificates in each, revocation certificates too.
    /// Of a folder, every file is read whose name ends in `.asc`, `.gpg`, `.pgp` or `.rev`.
    ///
    /// # Errors
    /// [`Error`] if a file cannot be read, is larger than `LIMITS.config`, holds a secret key, holds no certificate, or
    /// holds a revocation that fits none of them; [`Error::EmptyFolder`] for a folder without certificates;
    /// [`Error::NoCertificates`] if there are no files.
    pub fn load(paths: &[PathBuf]) -> Result<Self, Error> {
        let mut reading = Reading::default();
        for path in paths {
            if !path.is_dir() {
                reading.file(path, &read_key_file(path)?)?;
                continue;
            }
            let mut certificates = 0;
            for file in key_files(path)? {
                certificates += reading.file(&file, &read_key_file(&file)?)?;
            }
            if certificates == 0 {
                return Err(Error::EmptyFolder { path: path.clone() });
            }
        }
        reading.finish()
    }

    /// Reads certificates from bytes, as [`Certificates::load`] does; `origin` stands for the file in errors.
    ///
    /// # Errors
    /// As [`Certificates::load`].
    pub fn from_bytes(bytes: &[u8], origin: &Path) -> Result<Self, Error> {
        Self::from_files([(origin, bytes)])
    }

    /// Reads certificates from files that were read before, as [`Certificates::load`] does.
    pub(crate) fn from_files<'a>(files: impl IntoIterator<Item = (&'a Path, &'a [u8])>) -> Result<Self, Error> {
        let mut reading = Reading::default();
        for (path, bytes) in files {
            reading.file(path, bytes)?;
        }
        reading.finish()
    }

    /// The certificate that belongs to a secret key.
    pub(crate) fn of(cert: Cert) -> Self {
        let cert = cert.strip_secret_key_material();
        let fingerprint = Fingerprint::from(cert.fingerprint());
        let entry = Entry { cert, files: BTreeSet::new() };
        Self { certificates: Arc::new(BTreeMap::from([(fingerprint, entry)])) }
    }

    /// The fingerprints of the primary keys, in order.
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        self.certificates.keys().cloned().collect()
    }

    /// How many distinct certificates there are; at least one.
    pub fn count(&self) -> usize {
        self.certificates.len()
    }

    /// What the certificates say of themselves, judged at a time.
    pub fn info(&self, at: Timestamp) -> Vec<CertificateInfo> {
        self.certificates
            .iter()
            .map(|(fingerprint, entry)| {
                let Standing { user_id, expires, refused } = standing(&entry.cert, at);
                let files = entry.files.iter().cloned().collect();
                CertificateInfo { fingerprint: fingerprint.clone(), user_id, expires, refused, files }
            })
            .collect()
    }

    /// The certificate with a fingerprint, armored, with all that is known of it.
    ///
    /// # Errors
    /// [`Error::NoSuchCertificate`].
    pub fn armored(&self, fingerprint: &Fingerprint) -> Result<Vec<u8>, Error> {
        let missing = || Error::NoSuchCertificate { fingerprint: fingerprint.clone(), found: self.fingerprints() };
        let cert = self.get(fingerprint).ok_or_else(missing)?;
        cert.armored().to_vec().map_err(|_| missing())
    }

    /// Whether a key is among them, as a primary key or a subkey.
    pub fn has_key(&self, fingerprint: &Fingerprint) -> bool {
        self.iter().flat_map(Cert::keys).any(|key| Fingerprint::from(key.key().fingerprint()) == *fingerprint)
    }

    /// The certificates whose signatures count at a time, in one armored block, for readers that take no second one from a file.
    ///
    /// # Errors
    /// [`Error::Unusable`] if none does.
    pub fn keyring(&self, at: Timestamp) -> Result<Vec<u8>, Error> {
        let mut refused = None;
        let mut good = Vec::new();
        for (fingerprint, entry) in self.certificates.iter() {
            match standing(&entry.cert, at).refused {
                None => good.push(&entry.cert),
                Some(reason) => refused = Some(Error::Unusable { fingerprint: fingerprint.clone(), reason }),
            }
        }
        if let (true, Some(refused)) = (good.is_empty(), refused) {
            return Err(refused);
        }
        let write = || {
            let mut writer = armor::Writer::new(Vec::new(), armor::Kind::PublicKey)?;
            good.iter().try_for_each(|cert| cert.serialize(&mut writer).map_err(std::io::Error::other))?;
            writer.finalize()
        };
        // Written to memory.
        write().map_err(|_| Error::NoCertificates)
    }

    /// The certificate with a fingerprint.
    pub(crate) fn get(&self, fingerprint: &Fingerprint) -> Option<&Cert> {
        self.certificates.get(fingerprint).map(|entry| &entry.cert)
    }

    /// The certificates.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Cert> {
        self.certificates.values().map(|entry| &entry.cert)
    }
}

/// One key was configured for two roles.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("key {fingerprint} is configured for two roles, {first} and {second}; each role needs a key of its own")]
pub struct RoleConflict {
    /// One role.
    pub first: String,
    /// The other role.
    pub second: String,
    /// The fingerprint of the primary key or subkey that both have.
    pub fingerprint: Fingerprint,
}

/// Checks that no key, primary or subkey, appears in two roles.
///
/// # Errors
/// [`RoleConflict`] for the first key that does.
pub fn distinct_roles(roles: &[(&str, &Certificates)]) -> Result<(), RoleConflict> {
    let mut seen: BTreeMap<Fingerprint, &str> = BTreeMap::new();
    for (role, certificates) in roles {
        for key in certificates.iter().flat_map(|cert| cert.keys()) {
            let fingerprint = Fingerprint::from(key.key().fingerprint());
            match seen.get(&fingerprint) {
                Some(first) if first != role => {
                    return Err(RoleConflict { first: (*first).into(), second: (*role).into(), fingerprint });
                }
                _ => seen.insert(fingerprint, role),
            };
        }
    }
    Ok(())
}

/// The key files of a folder, in order of their names; what lies deeper is left alone.
fn key_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = |source| Error::Read { path: folder.into(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        if matches!(ending.as_deref(), Some("asc" | "gpg" | "pgp" | "rev")) && !path.is_dir() {
            files.push(path);
        }
        if files.len() > LIMITS.folder_entries {
            return Err(Error::TooManyFiles { path: folder.into(), limit: LIMITS.folder_entries });
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a key or certificate file, bounded by `LIMITS.config`.
pub(crate) fn read_key_file(path: &Path) -> Result<Vec<u8>, Error> {
    let read = |source| Error::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(read)?.take(LIMITS.config + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > LIMITS.config {
        return Err(Error::TooLarge { path: path.into(), limit: LIMITS.config });
    }
    Ok(bytes)
}

/// The certificates, secret keys and revocations of one key file.
pub(crate) fn read_certs(path: &Path, bytes: &[u8]) -> Result<(Vec<Cert>, Vec<Signature>), Error> {
    let (mut certs, mut revocations) = (Vec::new(), Vec::new());
    for block in read_blocks(path, bytes)? {
        match block {
            Block::Certificates(more) => certs.extend(more),
            Block::Revocations(more) => revocations.extend(more),
        }
    }
    Ok((certs, revocations))
}

/// A part of a key file: all of a binary one, or one armored block.
pub(crate) enum Block {
    /// Certificates, or secret keys.
    Certificates(Vec<Cert>),
    /// Revocations without the certificates that they revoke.
    Revocations(Vec<Signature>),
}

/// The blocks of a key file, in their order.
pub(crate) fn read_blocks(path: &Path, bytes: &[u8]) -> Result<Vec<Block>, Error> {
    let unreadable = |reason: OutsideText| Error::Unreadable { path: path.into(), reason };
    let blocks: Vec<&[u8]> = if is_binary(bytes) {
        vec![bytes]
    } else {
        let text = std::str::from_utf8(bytes).map_err(|_| unreadable(OutsideText::new("neither binary nor text")))?;
        let armored = armored(text);
        if armored.open {
            return Err(unreadable(OutsideText::new("an armored block does not end")));
        }
        // A file that shall revoke a key and does not would be the worst of surprises.
        if text.lines().any(|line| line.starts_with(":-----BEGIN PGP ")) {
            let disarmed =
                "GnuPG has disarmed this revocation certificate; to use it, remove the colon before -----BEGIN";
            return Err(unreadable(OutsideText::new(disarmed)));
        }
        // People keep notes beside their keys; a block of another kind is refused by what is in it.
        armored.blocks.iter().map(|(_, block)| block.as_bytes()).collect()
    };
    let mut read = Vec::new();
    for block in blocks {
        let packets = packets(block, FILE_PACKETS).map_err(unreadable)?;
        if packets.iter().any(|packet| matches!(packet, Packet::CompressedData(_))) {
            return Err(unreadable(OutsideText::new("there is a compressed packet")));
        }
        let lone = |packet: &Packet| matches!(packet, Packet::Signature(s) if s.typ() == SignatureType::KeyRevocation);
        if !packets.is_empty() && packets.iter().all(lone) {
            let revocations = packets.into_iter().filter_map(|packet| match packet {
                Packet::Signature(signature) => Some(signature),
                _ => None,
            });
            read.push(Block::Revocations(revocations.collect()));
            continue;
        }
        let certs = CertParser::from(packets).collect::<Result<_, _>>();
        read.push(Block::Certificates(certs.map_err(|e| unreadable(outside(&e)))?));
    }
    Ok(read)
}

/// Whether a revocation revokes a certificate.
pub(crate) fn revokes(revocation: &Signature, cert: &Cert) -> bool {
    let primary = cert.primary_key();
    revocation.verify_primary_key_revocation(primary.key(), primary.key()).is_ok()
}

#[derive(Default)]
struct Reading {
    certificates: BTreeMap<Fingerprint, Entry>,
    revocations: Vec<(PathBuf, Signature)>,
}

impl Reading {
    /// Takes in a file; gives the number of certificates in it.
    fn file(&mut self, path: &Path, bytes: &[u8]) -> Result<usize, Error> {
        let (certs, revocations) = read_certs(path, bytes)?;
        if certs.is_empty() && revocations.is_empty() {
            return Err(Error::NoCertificate { path: path.into() });
        }
        let count = certs.len();
        for cert in certs {
            let fingerprint = Fingerprint::from(cert.fingerprint());
            if cert.is_tsk() {
                return Err(Error::SecretKeyFile { path: path.into(), fingerprint });
            }
            let (cert, mut files) = match self.certificates.remove(&fingerprint) {
                Some(known) => {
                    let merged = known.cert.merge_public(cert);
                    (merged.map_err(|e| Error::Unreadable { path: path.into(), reason: outside(&e) })?, known.files)
                }
                None => (cert, BTreeSet::new()),
            };
            files.insert(path.into());
            self.certificates.insert(fingerprint, Entry { cert, files });
        }
        self.revocations.extend(revocations.into_iter().map(|revocation| (path.to_path_buf(), revocation)));
        Ok(count)
    }

    fn finish(mut self) -> Result<Certificates, Error> {
        for (path, revocation) in self.revocations {
            let stray = || Error::StrayRevocation { path: path.clone() };
            let fits = |entry: &&mut Entry| revokes(&revocation, &entry.cert);
            let entry = self.certificates.values_mut().find(fits).ok_or_else(stray)?;
            let (revoked, _) = entry.cert.clone().insert_packets(revocation.clone()).map_err(|_| stray())?;
            entry.cert = revoked;
            entry.files.insert(path);
        }
        if self.certificates.is_empty() {
            return Err(Error::NoCertificates);
        }
        Ok(Certificates { certificates: Arc::new(self.certificates) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Algorithm, KeyRequest, Trust, generate};

    #[test]
    fn trust_at_another_time_shares_the_certificates() {
        let created = Timestamp::from_unix(1_700_000_000).expect("a time");
        let (user_id, algorithm) = ("a".into(), Algorithm::P256);
        let request = KeyRequest { user_id, algorithm, passphrase: None, expires: None, created };
        let key = generate(&request).expect("a key");
        let certificates = Certificates::from_bytes(&key.certificate_armored, Path::new("a")).expect("a certificate");
        let trust = Trust::new(certificates.clone(), 1, created).expect("trust");
        let cert = |certificates: &Certificates| certificates.iter().next().map(std::ptr::from_ref);
        assert_eq!(cert(trust.certificates()), cert(&certificates));
    }
}

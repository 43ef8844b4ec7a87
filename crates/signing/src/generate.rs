//! New keys.

use std::time::Duration;

use manifest_schema::Timestamp;
use manifest_schema::text::is_unprintable;
use openpgp::Profile;
use openpgp::armor::{Kind, Writer};
use openpgp::cert::{CertBuilder, CipherSuite};
use openpgp::crypto::Password;
use openpgp::packet::Packet;
use openpgp::serialize::{Marshal, SerializeInto};
use openpgp::types::KeyFlags;
use secrecy::{ExposeSecret, SecretString};
use sequoia_openpgp as openpgp;

use crate::error::outside;
use crate::{Error, Fingerprint, time};

/// The algorithm of a new key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA with 3072 bits: read by every verifier.
    #[default]
    Rsa3072,
    /// RSA with 4096 bits: read by every verifier.
    Rsa4096,
    /// ECDSA over NIST P-256: read by every verifier.
    P256,
    /// Ed25519: not read by container tools built with Go's own OpenPGP.
    Ed25519,
}

/// What key to make.
#[derive(Debug)]
pub struct KeyRequest {
    /// The user id, such as `Payments release <release@example.com>`.
    pub user_id: String,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Protects the secret key; none leaves it bare.
    pub passphrase: Option<SecretString>,
    /// When the key expires; verifiers then refuse its older signatures too.
    pub expires: Option<Timestamp>,
    /// When the key is made.
    pub created: Timestamp,
}

/// A new key, ready to be written to files.
#[derive(Debug)]
pub struct GeneratedKey {
    /// The secret key, armored, protected with the passphrase if there was one.
    pub secret_armored: SecretString,
    /// The certificate (public key), armored.
    pub certificate_armored: Vec<u8>,
    /// A revocation certificate, armored: beside the certificate, it revokes it.
    pub revocation_armored: Vec<u8>,
    /// The fingerprint.
    pub fingerprint: Fingerprint,
}

/// Makes a key that every verifier reads: version 4 (RFC 4880), one primary key that certifies and signs, no subkeys.
///
/// # Errors
/// [`Error::UserId`], [`Error::Expiry`], [`Error::Generate`].
pub fn generate(request: &KeyRequest) -> Result<GeneratedKey, Error> {
    let KeyRequest { user_id, algorithm, passphrase, expires, created } = request;
    if user_id.trim().is_empty() || user_id.len() > 256 || user_id.chars().any(is_unprintable) {
        return Err(Error::UserId(user_id.chars().take(300).collect()));
    }
    let validity = match expires {
        Some(expires) => {
            let seconds = u64::try_from(expires.unix() - created.unix()).ok().filter(|s| *s > 0);
            let seconds = seconds.ok_or(Error::Expiry { created: *created, expires: *expires })?;
            Some(Duration::from_secs(seconds))
        }
        None => None,
    };
    let suite = match algorithm {
        Algorithm::Rsa3072 => CipherSuite::RSA3k,
        Algorithm::Rsa4096 => CipherSuite::RSA4k,
        Algorithm::P256 => CipherSuite::P256,
        Algorithm::Ed25519 => CipherSuite::Cv25519,
    };
    let make = || -> openpgp::Result<GeneratedKey> {
        let (cert, revocation) = CertBuilder::new()
            .set_profile(Profile::RFC4880)?
            .set_creation_time(time::to_system(*created))
            .set_cipher_suite(suite)
            .set_primary_key_flags(KeyFlags::empty().set_certification().set_signing())
            .set_validity_period(validity)
            .set_password(passphrase.as_ref().map(|p| Password::from(p.expose_secret())))
            .add_userid(user_id.as_str())
            .generate()?;
        let comment = format!("Revocation certificate of {}", cert.fingerprint().to_hex());
        let mut writer = Writer::with_headers(Vec::new(), Kind::PublicKey, [("Comment", comment.as_str())])?;
        Packet::from(revocation).serialize(&mut writer)?;
        let secret = secrecy::zeroize::Zeroizing::new(cert.as_tsk().armored().to_vec()?);
        Ok(GeneratedKey {
            secret_armored: SecretString::from(std::str::from_utf8(&secret)?),
            certificate_armored: cert.armored().to_vec()?,
            revocation_armored: writer.finalize()?,
            fingerprint: cert.fingerprint().into(),
        })
    };
    make().map_err(|e| Error::Generate(outside(&e)))
}

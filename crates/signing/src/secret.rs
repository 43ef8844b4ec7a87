//! Secret keys that sign releases and production images.

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use manifest_schema::{Digest, OutsideText, Reference, Timestamp};
use openpgp::Cert;
use openpgp::armor::{Kind, Writer};
use openpgp::cert::amalgamation::ValidAmalgamation;
use openpgp::cert::amalgamation::key::{ErasedKeyAmalgamation, PrimaryKey};
use openpgp::crypto::{self, KeyPair, Password, S2K, Signer as _, mpi};
use openpgp::packet::key::{PublicParts, SecretKeyMaterial, SecretParts, UnspecifiedRole};
use openpgp::packet::signature::SignatureBuilder;
use openpgp::packet::{Key, Packet, UserID};
use openpgp::serialize::stream::{LiteralWriter, Message, Signer};
use openpgp::serialize::{Marshal, SerializeInto};
use openpgp::types::{Curve, DataFormat, HashAlgorithm, RevocationStatus, SignatureType};
use secrecy::{ExposeSecret, SecretString};
use sequoia_openpgp as openpgp;

use crate::agent::{self, AgentAccess, AgentError, AgentKey};
use crate::certificates::{read_certs, read_key_file};
use crate::error::outside;
use crate::trust::{self, policy, weak_or};
use crate::{Certificates, Error, Fingerprint, Reason, Trust, simple, time};

/// An OpenPGP secret key with its certificate: from a file, unlocked, or held by gpg-agent.
///
/// It can't be printed: `Debug` shows the fingerprint.
#[derive(Clone)]
pub struct SecretKey {
    cert: Cert,
    signer: Holder,
}

/// Who holds the secret.
#[derive(Clone)]
enum Holder {
    Here(KeyPair),
    Agent(AgentKey),
}

impl crypto::Signer for Holder {
    fn public(&self) -> &Key<PublicParts, UnspecifiedRole> {
        match self {
            Holder::Here(pair) => pair.public(),
            Holder::Agent(key) => key.public(),
        }
    }

    fn sign(&mut self, hash: HashAlgorithm, digest: &[u8]) -> openpgp::Result<mpi::Signature> {
        match self {
            Holder::Here(pair) => pair.sign(hash, digest),
            Holder::Agent(key) => key.sign(hash, digest),
        }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.fingerprint())
    }
}

/// Something about a key that another verifier, or this one later, will not like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyWarning {
    /// A subkey signs.
    #[error("key {0} is a signing subkey: skopeo 1.9 and podman 4 with GPGME refuse its simple signatures")]
    SigningSubkey(Fingerprint),
    /// A key of version 6.
    #[error("key {0} has version 6: GnuPG 2.2 and current skopeo and podman cannot read it")]
    Version6(Fingerprint),
    /// An Edwards curve key.
    #[error("key {0} is an Edwards curve key: skopeo and podman builds with Go's own OpenPGP cannot read it")]
    EdwardsCurve(Fingerprint),
    /// The key will expire.
    #[error("key {key} expires on {on}: from then on this program, skopeo and podman refuse its older signatures too")]
    Expires {
        /// The key or certificate.
        key: Fingerprint,
        /// When.
        on: Timestamp,
    },
}

impl SecretKey {
    /// Reads an OpenPGP secret key file, armored or binary, and unlocks its signing key; the primary key if it can sign.
    ///
    /// The passphrase is asked for only if the key is protected.
    ///
    /// # Errors
    /// [`Error`] for the file or the key, [`Error::WrongPassphrase`], or what `passphrase` returns.
    pub fn load<E: From<Error>>(path: &Path, passphrase: impl FnOnce() -> Result<SecretString, E>) -> Result<Self, E> {
        let bytes = secrecy::zeroize::Zeroizing::new(read_key_file(path)?);
        Self::from_bytes(&bytes, path, passphrase)
    }

    /// Reads a secret key from bytes, as [`SecretKey::load`] does; `origin` stands for the file in errors.
    ///
    /// # Errors
    /// As [`SecretKey::load`].
    pub fn from_bytes<E: From<Error>>(
        bytes: &[u8],
        origin: &Path,
        passphrase: impl FnOnce() -> Result<SecretString, E>,
    ) -> Result<Self, E> {
        let (certs, _) = read_certs(origin, bytes)?;
        let mut secret: Vec<Cert> = certs.into_iter().filter(Cert::is_tsk).collect();
        let cert = match (secret.pop(), secret.len()) {
            (None, _) => return Err(Error::NoSecretKey { path: origin.into() }.into()),
            (Some(cert), 0) => cert,
            (Some(_), more) => return Err(Error::SeveralKeys { path: origin.into(), found: more + 1 }.into()),
        };
        let fingerprint = Fingerprint::from(cert.fingerprint());
        let key = signing_key(&cert)
            .ok_or_else(|| Error::NoSigningKey { path: origin.into(), fingerprint: fingerprint.clone() })?;
        let key = match key.secret() {
            SecretKeyMaterial::Unencrypted(_) => key,
            SecretKeyMaterial::Encrypted(_) => {
                let passphrase = passphrase()?;
                unlock(key, &Password::from(passphrase.expose_secret()), origin, &fingerprint)?
            }
        };
        let signer =
            key.into_keypair().map_err(|e| Error::Locked { path: origin.into(), fingerprint, reason: outside(&e) })?;
        Ok(Self { cert: cert.strip_secret_key_material(), signer: Holder::Here(signer) })
    }

    /// Takes a key that gpg-agent holds, by its certificate's fingerprint, or by that of one signing subkey.
    ///
    /// Nothing is unlocked yet: the agent asks for the passphrase or PIN at the first signature. RSA, ECDSA and EdDSA keys
    /// of version 4 can be used.
    ///
    /// # Errors
    /// [`Error::Agent`], or [`Error`] for a certificate file.
    pub fn from_agent(fingerprint: &Fingerprint, access: AgentAccess) -> Result<Self, Error> {
        let (cert, key) = agent::find(fingerprint, access)?;
        Ok(Self { cert, signer: Holder::Agent(key) })
    }

    /// The certificate's fingerprint: that of the primary key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.cert.fingerprint().into()
    }

    /// The fingerprint of the key that signs: the primary key or a subkey.
    pub fn signing_fingerprint(&self) -> Fingerprint {
        self.signer.public().fingerprint().into()
    }

    /// The certificate (public key), as certificates of a role.
    pub fn certificates(&self) -> Certificates {
        Certificates::of(self.cert.clone())
    }

    /// The certificate (public key), armored, to hand out.
    ///
    /// # Errors
    /// [`Error::Sign`] if it cannot be encoded.
    pub fn certificate_armored(&self) -> Result<Vec<u8>, Error> {
        self.cert.armored().to_vec().map_err(|e| self.failed(&e))
    }

    /// The same key, with what its certificate says elsewhere besides: certifications by others, a later end, a revocation.
    ///
    /// # Errors
    /// [`Error::NoSuchCertificate`] if it is not among them.
    pub fn with_certificate(self, certificates: &Certificates) -> Result<Self, Error> {
        let fingerprint = self.fingerprint();
        let missing =
            || Error::NoSuchCertificate { fingerprint: fingerprint.clone(), found: certificates.fingerprints() };
        let other = certificates.get(&fingerprint).ok_or_else(missing)?.clone();
        let cert = self.cert.merge_public(other).map_err(|_| missing())?;
        Ok(Self { cert, signer: self.signer })
    }

    /// What other verifiers, or this one later, will not like about the key.
    pub fn warnings(&self, now: Timestamp) -> Vec<KeyWarning> {
        let (primary, key) = (self.fingerprint(), self.signing_fingerprint());
        let public = self.signer.public();
        let mut warnings = Vec::new();
        if key != primary {
            warnings.push(KeyWarning::SigningSubkey(key.clone()));
        }
        if public.version() == 6 {
            warnings.push(KeyWarning::Version6(key.clone()));
        }
        if is_edwards(public) {
            warnings.push(KeyWarning::EdwardsCurve(key.clone()));
        }
        let policy = policy(now);
        let expiry = self.cert.with_policy(&policy, time::to_system(now)).ok().and_then(|valid| {
            let own = valid.keys().key_handle(public.key_handle()).next().and_then(|k| k.key_expiration_time());
            [valid.primary_key().key_expiration_time(), own].into_iter().flatten().min()
        });
        if let Some(on) = expiry.and_then(time::from_system) {
            warnings.push(KeyWarning::Expires { key: primary, on });
        }
        warnings
    }

    /// Proves that the key can sign now: neither expired nor revoked, strong enough, and a trial signature verifies.
    ///
    /// # Errors
    /// [`Error::Unusable`] or [`Error::Trial`].
    pub fn usable(&self, now: Timestamp) -> Result<(), Error> {
        // A document of no type that anything accepts, so that the signature is worth nothing.
        const TRIAL: &[u8] = b"{\"type\":\"sealift/trial/1\"}\n";
        let policy = policy(now);
        let unusable = |reason| Error::Unusable { fingerprint: self.fingerprint(), reason };
        let valid =
            self.cert.with_policy(&policy, time::to_system(now)).map_err(|e| unusable(weak_or(&e, Reason::Invalid)))?;
        let key = valid.keys().key_handle(self.signer.public().key_handle()).next();
        let key = key.ok_or_else(|| unusable(Reason::Invalid(OutsideText::new("the signing key is not bound"))))?;
        trust::good(&key).map_err(unusable)?;
        let signature = self.sign_detached_at(TRIAL, now)?;
        let trust = Trust::new(self.certificates(), 1, now)?;
        match trust.verify_detached(TRIAL.to_vec(), &signature) {
            Ok(_) => Ok(()),
            Err(e) => Err(Error::Trial { fingerprint: self.fingerprint(), reason: OutsideText::new(e.to_string()) }),
        }
    }

    /// Vouches for another key: gives its certificate, armored, with a positive certification of its primary user id by
    /// this key. [`Certificates::certified_by`] finds it.
    ///
    /// # Errors
    /// [`Error::OneCertificate`] unless there is one; [`Error::OwnCertificate`], [`Error::NotCertifiable`] for one nobody
    /// should vouch for; [`Error::SubkeyOnly`], [`Error::CannotCertify`] unless this is a primary key that may certify now;
    /// [`Error::Sign`].
    pub fn certify(&self, certificate: &Certificates, now: Timestamp) -> Result<Vec<u8>, Error> {
        let (fingerprint, signer) = (self.fingerprint(), self.signing_fingerprint());
        let mut certificates = certificate.iter();
        let (Some(cert), None) = (certificates.next(), certificates.next()) else {
            return Err(Error::OneCertificate { found: certificate.count() });
        };
        let certified = Fingerprint::from(cert.fingerprint());
        if certified == fingerprint {
            return Err(Error::OwnCertificate { fingerprint });
        }
        if signer != fingerprint {
            return Err(Error::SubkeyOnly { fingerprint, subkey: signer });
        }
        let (policy, at) = (policy(now), time::to_system(now));
        let own = self.cert.with_policy(&policy, at).map_err(|e| weak_or(&e, Reason::Invalid));
        own.and_then(|own| trust::may_certify(&own.primary_key().into()))
            .map_err(|reason| Error::CannotCertify { fingerprint, reason })?;
        let user = primary_user(cert, now)
            .map_err(|reason| Error::NotCertifiable { fingerprint: certified.clone(), reason })?;
        let certify = || -> openpgp::Result<Cert> {
            let certification = SignatureBuilder::new(SignatureType::PositiveCertification)
                .set_hash_algo(self.hash())
                .set_signature_creation_time(at)?
                .sign_userid_binding(&mut self.signer.clone(), cert.primary_key().key(), &user)?;
            Ok(cert.clone().insert_packets([Packet::from(user.clone()), certification.into()])?.0)
        };
        let result = certify().map_err(|e| self.failed(&e))?;
        Certificates::of(result.clone())
            .certified_by(&certified, &self.certificates(), now)
            .map_err(|e| Error::Sign { fingerprint: self.fingerprint(), reason: OutsideText::new(e.to_string()) })?;
        result.armored().to_vec().map_err(|e| self.failed(&e))
    }

    /// Makes an armored detached signature, dated now.
    ///
    /// # Errors
    /// [`Error::Sign`].
    pub fn sign_detached_armored(&self, document: &[u8]) -> Result<Vec<u8>, Error> {
        self.sign_detached_at(document, Timestamp::now())
    }

    /// Makes an armored detached signature with a given date, such as `SOURCE_DATE_EPOCH`.
    ///
    /// # Errors
    /// [`Error::Sign`], also for a date before the key was made.
    pub fn sign_detached_at(&self, document: &[u8], signed_at: Timestamp) -> Result<Vec<u8>, Error> {
        let sign = || -> openpgp::Result<Vec<u8>> {
            let signature = SignatureBuilder::new(SignatureType::Binary)
                .set_hash_algo(self.hash())
                .set_signature_creation_time(time::to_system(signed_at))?
                .sign_message(&mut self.signer.clone(), document)?;
            let mut writer = Writer::new(Vec::new(), Kind::Signature)?;
            Packet::from(signature).serialize(&mut writer)?;
            Ok(writer.finalize()?)
        };
        self.check_date(signed_at)?;
        sign().map_err(|e| self.failed(&e))
    }

    /// Makes a simple signature: this manifest digest is the image of this reference (`containers-signature(5)`).
    ///
    /// The reference names a tag or a digest; most policies want a tag. `created` is written into the payload and dates
    /// the signature.
    ///
    /// # Errors
    /// [`Error::Identity`] for a reference with both, [`Error::Sign`].
    pub fn sign_simple(
        &self,
        reference: &Reference,
        manifest_digest: &Digest,
        created: Timestamp,
        creator: &str,
    ) -> Result<Vec<u8>, Error> {
        if reference.tag().is_some() && reference.digest().is_some() {
            return Err(Error::Identity { reference: reference.to_string() });
        }
        self.check_date(created)?;
        let payload = simple::payload(&reference.to_string(), manifest_digest, creator, created);
        self.sign_inline(&payload, created).map_err(|e| self.failed(&e))
    }

    /// Neither armored nor compressed: the form every reader of simple signatures takes.
    fn sign_inline(&self, content: &[u8], signed_at: Timestamp) -> openpgp::Result<Vec<u8>> {
        let mut out = Vec::new();
        let message = Signer::new(Message::new(&mut out), self.signer.clone())?
            .hash_algo(self.hash())?
            .creation_time(time::to_system(signed_at))
            .build()?;
        let mut message = LiteralWriter::new(message).format(DataFormat::Binary).build()?;
        std::io::Write::write_all(&mut message, content)?;
        message.finalize()?;
        Ok(out)
    }

    /// SHA-256, which every verifier has; larger curves want a hash of their own size.
    fn hash(&self) -> HashAlgorithm {
        use openpgp::crypto::mpi::PublicKey as Mpi;
        match self.signer.public().mpis() {
            Mpi::ECDSA { curve: Curve::NistP384 | Curve::BrainpoolP384, .. } => HashAlgorithm::SHA384,
            Mpi::ECDSA { curve: Curve::NistP521 | Curve::BrainpoolP512, .. } | Mpi::Ed448 { .. } => {
                HashAlgorithm::SHA512
            }
            _ => HashAlgorithm::SHA256,
        }
    }

    /// Verifiers refuse a signature that is older than its key.
    fn check_date(&self, signed_at: Timestamp) -> Result<(), Error> {
        match time::from_system(self.signer.public().creation_time()) {
            Some(created) if signed_at < created => {
                let reason = Reason::BeforeKey { signed_at, created };
                Err(Error::Unusable { fingerprint: self.fingerprint(), reason })
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, error: &openpgp::anyhow::Error) -> Error {
        if let Some(fault) = error.chain().find_map(|cause| cause.downcast_ref::<AgentError>()) {
            return Error::Agent { fingerprint: self.fingerprint(), fault: fault.clone() };
        }
        Error::Sign { fingerprint: self.fingerprint(), reason: outside(error) }
    }
}

fn is_edwards(key: &Key<PublicParts, UnspecifiedRole>) -> bool {
    use openpgp::crypto::mpi::PublicKey as Mpi;
    matches!(key.mpis(), Mpi::EdDSA { .. } | Mpi::Ed25519 { .. } | Mpi::Ed448 { .. })
}

/// The user id that speaks for a certificate which is good now.
fn primary_user(cert: &Cert, now: Timestamp) -> Result<UserID, Reason> {
    let policy = policy(now);
    let valid = cert.with_policy(&policy, time::to_system(now)).map_err(|e| weak_or(&e, Reason::Invalid))?;
    trust::alive(&valid.primary_key().into())?;
    let user = valid.primary_userid().map_err(|e| weak_or(&e, Reason::Invalid))?;
    match user.revocation_status() {
        RevocationStatus::Revoked(_) => Err(Reason::UserId),
        // Somebody else has taken back a certification of theirs.
        RevocationStatus::CouldBe(_) | RevocationStatus::NotAsFarAsWeKnow => Ok(user.userid().clone()),
    }
}

/// Chooses the key that signs, of those that are in the file.
fn signing_key(cert: &Cert) -> Option<Key<SecretParts, UnspecifiedRole>> {
    let present = |secret: &SecretKeyMaterial| match secret {
        SecretKeyMaterial::Unencrypted(_) => true,
        // GnuPG's stub for a key on a card, or one that was left out of the export.
        SecretKeyMaterial::Encrypted(secret) => !matches!(secret.s2k(), S2K::Private { .. } | S2K::Unknown { .. }),
    };
    let held = cert.keys().secret().filter(|ka| present(ka.key().secret()));
    let ranked =
        held.filter_map(|ka| Some((rank(cert, &ka.clone().into())?, ka.key().clone().role_into_unspecified())));
    ranked.max_by_key(|(rank, _)| *rank).map(|(_, key)| key)
}

/// How well a key is suited to sign: one that is good now before one that is not, the primary key before subkeys, then the
/// newest. `None` if it is not meant for signing.
pub(crate) fn rank(cert: &Cert, key: &ErasedKeyAmalgamation<'_, PublicParts>) -> Option<(u8, bool, SystemTime)> {
    let now = Timestamp::now();
    let policy = policy(now);
    let valid = cert.with_policy(&policy, time::to_system(now)).ok();
    let valid = valid.and_then(|valid| valid.keys().key_handle(key.key().key_handle()).next());
    let rank = match valid.as_ref().map(trust::good) {
        Some(Ok(())) => 2,
        Some(Err(Reason::NotForSigning)) => return None,
        Some(Err(_)) => 1,
        None => 0,
    };
    Some((rank, key.primary(), key.key().creation_time()))
}

fn unlock(
    key: Key<SecretParts, UnspecifiedRole>,
    passphrase: &Password,
    origin: &Path,
    fingerprint: &Fingerprint,
) -> Result<Key<SecretParts, UnspecifiedRole>, Error> {
    key.decrypt_secret(passphrase).map_err(|e| {
        let unsupported = e.chain().any(|cause| {
            use openpgp::Error as E;
            matches!(
                cause.downcast_ref(),
                Some(
                    E::UnsupportedSymmetricAlgorithm(_)
                        | E::UnsupportedAEADAlgorithm(_)
                        | E::UnsupportedHashAlgorithm(_)
                        | E::UnsupportedPublicKeyAlgorithm(_)
                        | E::UnsupportedEllipticCurve(_)
                )
            )
        });
        let (path, fingerprint) = (origin.into(), fingerprint.clone());
        if unsupported {
            Error::Locked { path, fingerprint, reason: outside(&e) }
        } else {
            // A wrong passphrase gives wrong bytes, and their parser's message is all there is.
            Error::WrongPassphrase { path, fingerprint }
        }
    })
}

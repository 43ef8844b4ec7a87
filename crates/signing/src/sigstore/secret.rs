//! Secret keys that sign production images for cosign's verifiers, in the files cosign and skopeo make.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::Aead;
use crypto_secretbox::{KeyInit, Nonce, XSalsa20Poly1305};
use manifest_schema::{Digest, LIMITS, OutsideText, Reference, Timestamp};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, PrivateKeyInfo};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::verify::SIGNATURE_ANNOTATION;
use super::{SigstoreKey, SigstoreSignature, key, payload, pem};
use crate::certificates::read_key_file;
use crate::error::shown;

/// What cosign, skopeo and podman call the file now, and what cosign called it before.
const ENCRYPTED: [&str; 2] = ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];
const PKCS8: &str = "PRIVATE KEY";
const NONCE: usize = 24;

/// Why a sigstore secret key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SigstoreSecretError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] crate::Error),
    /// Not a secret key file, or damaged.
    #[error("{}: not a readable sigstore secret key: {}", shown(path), reason.escaped())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: OutsideText,
    },
    /// Another kind of file.
    #[error(
        "{}: expected one PEM block `{}` or `{PKCS8}`, found {}", shown(path), ENCRYPTED[0], found.escaped()
    )]
    Form {
        /// The file.
        path: PathBuf,
        /// The blocks that are there.
        found: OutsideText,
    },
    /// A kind of key that is not supported.
    #[error("{}: a key of kind {} cannot sign here: expected ECDSA over P-256", shown(path), kind.escaped())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Algorithm and curve.
        kind: OutsideText,
    },
    /// Parameters that would take more time and memory than a key is worth.
    #[error("{}: unlocking the key would take {found} bytes of work; at most {limit} are accepted", shown(path))]
    Work {
        /// The file.
        path: PathBuf,
        /// 128 · N · r · p.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// The passphrase is wrong. (Nothing tells it from encrypted bytes that were changed.)
    #[error("{}: wrong passphrase for the sigstore secret key", shown(path))]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// The trial signature does not verify.
    #[error("sigstore key {key}: the trial signature does not verify")]
    Trial {
        /// The fingerprint of the public key.
        key: String,
    },
    /// A reference that cannot be a signature's identity.
    #[error("{reference}: a signature names a tag or a digest, not both")]
    Identity {
        /// The reference.
        reference: String,
    },
    /// A key could not be made.
    #[error("the key could not be made: {0}")]
    Generate(&'static str),
}

/// A secret key, unlocked, that makes cosign signatures: ECDSA over P-256 with SHA-256.
///
/// It can't be printed: `Debug` shows the fingerprint of the public key.
#[derive(Clone)]
pub struct SigstoreSecretKey {
    signer: SigningKey,
    public: SigstoreKey,
}

impl fmt::Debug for SigstoreSecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigstoreSecretKey({})", self.public.fingerprint())
    }
}

impl SigstoreSecretKey {
    /// Reads a secret key file: encrypted as cosign and `skopeo generate-sigstore-key` write it, or PKCS #8 in PEM.
    ///
    /// The passphrase is asked for only if the key is encrypted.
    ///
    /// # Errors
    /// [`SigstoreSecretError`], or what `passphrase` returns.
    pub fn load<E: From<SigstoreSecretError>>(
        path: &Path,
        passphrase: impl FnOnce() -> Result<SecretString, E>,
    ) -> Result<Self, E> {
        let bytes = Zeroizing::new(read_key_file(path).map_err(SigstoreSecretError::from)?);
        Self::from_bytes(&bytes, path, passphrase)
    }

    /// Reads a secret key from bytes, as [`SigstoreSecretKey::load`] does; `origin` stands for the file in errors.
    ///
    /// # Errors
    /// As [`SigstoreSecretKey::load`].
    pub fn from_bytes<E: From<SigstoreSecretError>>(
        bytes: &[u8],
        origin: &Path,
        passphrase: impl FnOnce() -> Result<SecretString, E>,
    ) -> Result<Self, E> {
        let blocks = pem::blocks(bytes).map_err(|reason| unreadable(origin, reason))?;
        let key = match blocks.as_slice() {
            [block] if block.label == PKCS8 => from_pkcs8(&block.bytes, origin)?,
            [block] if ENCRYPTED.contains(&&*block.label) => {
                // What can be known before the passphrase is, so that nobody types it for nothing.
                let sealed = Sealed::parse(&block.bytes, origin)?;
                let passphrase = passphrase()?;
                from_pkcs8(&sealed.open(&passphrase, origin)?, origin)?
            }
            blocks => {
                let found: Vec<String> = blocks.iter().map(|block| format!("`{}`", block.label)).collect();
                let found = if found.is_empty() { "none".into() } else { found.join(", ") };
                return Err(SigstoreSecretError::Form { path: origin.into(), found: OutsideText::new(found) }.into());
            }
        };
        Ok(key)
    }

    /// The public key.
    pub fn public(&self) -> &SigstoreKey {
        &self.public
    }

    /// Proves that the key can sign: a trial signature verifies.
    ///
    /// # Errors
    /// [`SigstoreSecretError::Trial`].
    pub fn usable(&self) -> Result<(), SigstoreSecretError> {
        // A document of no type that anything accepts, so that the signature is worth nothing.
        const TRIAL: &[u8] = b"{\"type\":\"sealift/trial/1\"}\n";
        if self.public.verifies(TRIAL, &self.sign(TRIAL)) {
            Ok(())
        } else {
            Err(SigstoreSecretError::Trial { key: self.public.fingerprint() })
        }
    }

    /// Makes a cosign signature: this manifest digest is the image of this reference.
    ///
    /// The reference names a tag or a digest; most policies want a tag. The same arguments give the same bytes (RFC
    /// 6979).
    ///
    /// # Errors
    /// [`SigstoreSecretError::Identity`] for a reference with both.
    pub fn sign_image(
        &self,
        reference: &Reference,
        manifest_digest: &Digest,
        created: Timestamp,
        creator: &str,
    ) -> Result<SigstoreSignature, SigstoreSecretError> {
        let payload = payload::sigstore_payload(reference, manifest_digest, creator, created)
            .map_err(|_| SigstoreSecretError::Identity { reference: reference.to_string() })?;
        let signature = STANDARD.encode(self.sign(&payload));
        Ok(SigstoreSignature { payload, annotations: [(SIGNATURE_ANNOTATION.to_string(), signature)].into() })
    }

    /// Whether a signature that is there already says the same, so that no other is needed.
    pub fn has_signed(&self, signature: &SigstoreSignature, reference: &Reference, manifest_digest: &Digest) -> bool {
        self.public.has_signed(signature, Some(reference), manifest_digest)
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.signer.sign(message);
        signature.to_der().as_bytes().to_vec()
    }
}

fn unreadable(path: &Path, reason: impl Into<String>) -> SigstoreSecretError {
    SigstoreSecretError::Unreadable { path: path.into(), reason: OutsideText::new(reason) }
}

/// Reads a private key (RFC 5208) of the one kind that signs here.
fn from_pkcs8(der: &[u8], origin: &Path) -> Result<SigstoreSecretKey, SigstoreSecretError> {
    let info = PrivateKeyInfo::try_from(der).map_err(|e| unreadable(origin, e.to_string()))?;
    let curve = info.algorithm.parameters_oid().ok();
    if (info.algorithm.oid, curve) != (key::EC, Some(key::P256)) {
        let curve = curve.map_or(String::new(), |curve| format!(" over {curve}"));
        let kind = OutsideText::new(format!("{}{curve}", info.algorithm.oid));
        return Err(SigstoreSecretError::Unsupported { path: origin.into(), kind });
    }
    let secret = p256::SecretKey::from_pkcs8_der(der).map_err(|e| unreadable(origin, e.to_string()))?;
    let spki = secret.public_key().to_public_key_der().map_err(|e| unreadable(origin, e.to_string()))?;
    let public = SigstoreKey::from_der(spki.as_bytes()).map_err(|e| unreadable(origin, e.to_string()))?;
    Ok(SigstoreSecretKey { signer: SigningKey::from(&secret), public })
}

/// The JSON inside an encrypted key (secure-systems-lab/go-securesystemslib `encrypted`).
#[derive(serde::Serialize, serde::Deserialize)]
struct Envelope {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Params {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

const KDF: &str = "scrypt";
const CIPHER: &str = "nacl/secretbox";

/// An encrypted key whose form and parameters are known to be good.
struct Sealed {
    params: scrypt::Params,
    salt: Vec<u8>,
    nonce: [u8; NONCE],
    ciphertext: Vec<u8>,
}

impl Sealed {
    fn parse(json: &[u8], origin: &Path) -> Result<Self, SigstoreSecretError> {
        let bad = |reason: String| unreadable(origin, reason);
        let Envelope { kdf, cipher, ciphertext } = serde_json::from_slice(json).map_err(|e| bad(e.to_string()))?;
        if (&*kdf.name, &*cipher.name) != (KDF, CIPHER) {
            return Err(bad(format!("expected {KDF} and {CIPHER}, found {} and {}", kdf.name, cipher.name)));
        }
        let Params { n, r, p } = kdf.params;
        if !n.is_power_of_two() || n < 2 {
            return Err(bad(format!("scrypt's N is {n}, which is no power of two above one")));
        }
        let work = [n, r.into(), p.into()].into_iter().fold(128_u64, u64::saturating_mul);
        if work > LIMITS.scrypt_work {
            return Err(SigstoreSecretError::Work { path: origin.into(), found: work, limit: LIMITS.scrypt_work });
        }
        let params = u8::try_from(n.ilog2()).ok().and_then(|log_n| scrypt::Params::new(log_n, r, p, 32).ok());
        let params = params.ok_or_else(|| bad(format!("scrypt cannot work with N {n}, r {r}, p {p}")))?;
        let decode = |what: &str, text: &str| STANDARD.decode(text).map_err(|_| bad(format!("{what} is not base64")));
        let nonce = decode("the nonce", &cipher.nonce)?;
        let nonce = nonce.try_into().map_err(|_| bad(format!("the nonce is not {NONCE} bytes long")))?;
        let (salt, ciphertext) = (decode("the salt", &kdf.salt)?, decode("the ciphertext", &ciphertext)?);
        // Shorter than the authentication tag: no passphrase opens it.
        if ciphertext.len() <= 16 {
            return Err(bad("the ciphertext is cut off".into()));
        }
        Ok(Self { params, salt, nonce, ciphertext })
    }

    fn open(&self, passphrase: &SecretString, origin: &Path) -> Result<Zeroizing<Vec<u8>>, SigstoreSecretError> {
        let cipher = self.cipher(passphrase).map_err(|e| unreadable(origin, e))?;
        let opened = cipher.decrypt(Nonce::from_slice(&self.nonce), self.ciphertext.as_slice());
        opened.map(Zeroizing::new).map_err(|_| SigstoreSecretError::WrongPassphrase { path: origin.into() })
    }

    fn cipher(&self, passphrase: &SecretString) -> Result<XSalsa20Poly1305, &'static str> {
        let mut key = Zeroizing::new([0; 32]);
        scrypt::scrypt(passphrase.expose_secret().as_bytes(), &self.salt, &self.params, &mut *key)
            .map_err(|_| "scrypt failed")?;
        XSalsa20Poly1305::new_from_slice(&*key).map_err(|_| "a key of the wrong length")
    }
}

/// A new sigstore key pair, ready to be written to files.
#[derive(Debug)]
pub struct GeneratedSigstoreKey {
    /// The secret key: encrypted as cosign and skopeo read it, or PKCS #8 if there was no passphrase.
    pub secret_pem: SecretString,
    /// The public key, as in `cosign.pub`.
    pub public_pem: String,
    /// The fingerprint of the public key.
    pub fingerprint: String,
}

/// Makes a P-256 key, as `cosign generate-key-pair` and `skopeo generate-sigstore-key` do.
///
/// # Errors
/// [`SigstoreSecretError::Generate`].
pub fn generate_sigstore(passphrase: Option<&SecretString>) -> Result<GeneratedSigstoreKey, SigstoreSecretError> {
    let failed = SigstoreSecretError::Generate;
    let random = SystemRandom::new();
    let fill = |bytes: &mut [u8]| random.fill(bytes).map_err(|_| failed("the system gives no random numbers"));
    let secret = loop {
        let mut scalar = Zeroizing::new([0; 32]);
        fill(&mut *scalar)?;
        // Zero and what is beyond the order of the curve are not keys.
        if let Ok(secret) = p256::SecretKey::from_slice(&*scalar) {
            break secret;
        }
    };
    let pkcs8 = secret.to_pkcs8_der().map_err(|_| failed("it cannot be encoded"))?;
    let key = from_pkcs8(pkcs8.as_bytes(), Path::new("new key"))?;
    key.usable()?;
    let secret_pem = match passphrase {
        None => pem::write(PKCS8, pkcs8.as_bytes()),
        Some(passphrase) => {
            // The parameters of cosign; other values are refused by its reader.
            let Params { n, r, p } = Params { n: 65_536, r: 8, p: 1 };
            let params = scrypt::Params::new(16, r, p, 32).map_err(|_| failed("scrypt refuses its parameters"))?;
            let (mut salt, mut nonce) = (vec![0; 32], [0; NONCE]);
            fill(&mut salt)?;
            fill(&mut nonce)?;
            let sealed = Sealed { params, salt, nonce, ciphertext: Vec::new() };
            let cipher = sealed.cipher(passphrase).map_err(failed)?;
            let ciphertext = cipher.encrypt(Nonce::from_slice(&nonce), pkcs8.as_bytes());
            let ciphertext = ciphertext.map_err(|_| failed("it cannot be encrypted"))?;
            let envelope = Envelope {
                kdf: Kdf { name: KDF.into(), params: Params { n, r, p }, salt: STANDARD.encode(&sealed.salt) },
                cipher: Cipher { name: CIPHER.into(), nonce: STANDARD.encode(nonce) },
                ciphertext: STANDARD.encode(ciphertext),
            };
            let json = serde_json::to_vec(&envelope).map_err(|_| failed("it cannot be encoded"))?;
            pem::write(ENCRYPTED[0], &json)
        }
    };
    Ok(GeneratedSigstoreKey {
        secret_pem: SecretString::from(secret_pem.as_str()),
        public_pem: key.public.to_pem(),
        fingerprint: key.public.fingerprint(),
    })
}

//! The cryptography that `sigstore-verify` works with here: ring and p256, which are linked already.
//!
//! What neither offers (hashed messages of other keys than P-256, ML-DSA) is refused.

use std::sync::Once;

use ring::digest::{self, Context};
use ring::signature as algorithm;
use ring::signature::{UnparsedPublicKey, VerificationAlgorithm};
use sigstore_verify::crypto::SigningScheme;
use sigstore_verify::crypto::error::{Error, Result};
use sigstore_verify::crypto::provider::{CryptoProvider, HashContext, install_default_provider};
use sigstore_verify::types::HashAlgorithm;

use super::key::p256_verifies_sha256;

/// Makes this the library's cryptography, for the whole process. Nothing else in this workspace uses the library.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    // It fails only if another provider is there, which then does the same work.
    ONCE.call_once(|| _ = install_default_provider(&Provider));
}

#[derive(Debug)]
struct Provider;

struct Hashing(Context);

impl HashContext for Hashing {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self: Box<Self>) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
    }
}

fn unsupported(scheme: SigningScheme) -> Error {
    Error::UnsupportedAlgorithm(format!("{} is not supported here", scheme.name()))
}

fn invalid(scheme: SigningScheme) -> Error {
    Error::Verification(format!("the {} signature is wrong", scheme.name()))
}

impl CryptoProvider for Provider {
    fn hash(&self, algorithm: HashAlgorithm) -> Result<Box<dyn HashContext>> {
        let algorithm = match algorithm {
            HashAlgorithm::Sha2256 => &digest::SHA256,
            HashAlgorithm::Sha2384 => &digest::SHA384,
            HashAlgorithm::Sha2512 => &digest::SHA512,
            other => return Err(Error::UnsupportedAlgorithm(format!("{other} is not supported here"))),
        };
        Ok(Box::new(Hashing(Context::new(algorithm))))
    }

    fn verify_raw(&self, scheme: SigningScheme, key: &[u8], data: &[u8], signature: &[u8]) -> Result<()> {
        let algorithm: &'static dyn VerificationAlgorithm = match scheme {
            SigningScheme::EcdsaP256Sha256 => &algorithm::ECDSA_P256_SHA256_ASN1,
            SigningScheme::EcdsaP256Sha384 => &algorithm::ECDSA_P256_SHA384_ASN1,
            SigningScheme::EcdsaP384Sha256 => &algorithm::ECDSA_P384_SHA256_ASN1,
            SigningScheme::EcdsaP384Sha384 => &algorithm::ECDSA_P384_SHA384_ASN1,
            SigningScheme::Ed25519 => &algorithm::ED25519,
            SigningScheme::RsaPssSha256 => &algorithm::RSA_PSS_2048_8192_SHA256,
            SigningScheme::RsaPssSha384 => &algorithm::RSA_PSS_2048_8192_SHA384,
            SigningScheme::RsaPssSha512 => &algorithm::RSA_PSS_2048_8192_SHA512,
            SigningScheme::RsaPkcs1Sha256 => &algorithm::RSA_PKCS1_2048_8192_SHA256,
            SigningScheme::RsaPkcs1Sha384 => &algorithm::RSA_PKCS1_2048_8192_SHA384,
            SigningScheme::RsaPkcs1Sha512 => &algorithm::RSA_PKCS1_2048_8192_SHA512,
            other => return Err(unsupported(other)),
        };
        UnparsedPublicKey::new(algorithm, key).verify(data, signature).map_err(|_| invalid(scheme))
    }

    fn verify_prehashed(&self, scheme: SigningScheme, key: &[u8], hash: &[u8], signature: &[u8]) -> Result<()> {
        match (scheme, <&[u8; 32]>::try_from(hash)) {
            (SigningScheme::EcdsaP256Sha256, Ok(hash)) if p256_verifies_sha256(key, hash, signature) => Ok(()),
            (SigningScheme::EcdsaP256Sha256, _) => Err(invalid(scheme)),
            _ => Err(unsupported(scheme)),
        }
    }
}

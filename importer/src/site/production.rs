//! The production key, its certificates, and where its signatures go.

use std::path::PathBuf;

use manifest_schema::Repository;
use signing::sigstore::SigstoreSecretKey;
use signing::{Certificates, Lookaside, SecretKey, Trust};

use super::Site;
use super::places::{ProductionPlaces, make_roots, tree};
use crate::access::beside_key;
use crate::config::LookasideConfig;
use crate::error::Error;

/// The production key and where its signatures go.
pub struct Production {
    /// The key.
    pub key: SecretKey,
    /// The key's own certificate, to find signatures that are there already.
    pub trust: Trust,
    /// The key that signs in the form of cosign, if there is one.
    pub cosign: Option<SigstoreSecretKey>,
    /// Where signatures of release images are handed over.
    pub release_signatures: Option<PathBuf>,
    lookaside: LookasideConfig,
}

impl Production {
    /// The signature tree of a repository's registry.
    ///
    /// # Errors
    /// [`Error::NoLookaside`].
    pub fn lookaside(&self, repository: &Repository) -> Result<Lookaside, Error> {
        tree(&self.lookaside, repository)
    }
}

impl Site {
    /// Unlocks the production key, proves it with a trial signature, and holds it against the release certificates.
    ///
    /// # Errors
    /// [`Error`] says what is wrong with it.
    pub fn production(&self) -> Result<Production, Error> {
        let file = self.sign.as_ref().ok_or(Error::Missing("a production key"))?;
        let lookaside = self.lookaside.clone().ok_or(Error::Missing("a folder for signatures"))?;
        let key = file.unlock(self.now)?;
        // Now, and not when everything has been pushed.
        make_roots(&lookaside)?;
        let own = key.certificates();
        self.suits("production", &own)?;
        let trust = Trust::new(own, 1, self.now)?;
        let cosign = self.cosign.as_ref().map(|(path, passphrase)| -> Result<_, Error> {
            let what = path.display().to_string();
            let key = SigstoreSecretKey::load::<Error>(path, || Ok(passphrase.get(&what)?))?;
            key.usable()?;
            let fingerprint = key.public().fingerprint();
            if self.foreign_sigstore_keys().any(|other| other.fingerprint() == fingerprint) {
                return Err(Error::CosignRole { fingerprint });
            }
            Ok(key)
        });
        Ok(Production {
            key,
            trust,
            lookaside,
            cosign: cosign.transpose()?,
            release_signatures: self.release_signatures.clone(),
        })
    }

    /// Where production's signatures are; the key is not touched.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn production_places(&self) -> Result<ProductionPlaces, Error> {
        self.lookaside.clone().map(ProductionPlaces).ok_or(Error::Missing("a folder for signatures"))
    }

    /// The certificate of the key that signs, if it lies beside it.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn signing_certificate(&self) -> Result<Option<Certificates>, Error> {
        let beside = self.sign.as_ref().and_then(beside_key).filter(|path| path.exists());
        Ok(beside.map(|path| Certificates::load(&[path])).transpose()?)
    }

    /// The certificates that clusters are to accept: these, or else the configured ones, or the one beside the production key.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::RoleConflict`] if one of them is a key of somebody else; what is wrong with a file.
    pub fn production_certificates(&self, given: &[PathBuf]) -> Result<Certificates, Error> {
        let certificates = match [given, &self.certificates].into_iter().find(|files| !files.is_empty()) {
            Some(files) => Certificates::load(files)?,
            None => self.signing_certificate()?.ok_or(Error::Missing("the production key's certificate"))?,
        };
        self.suits("production", &certificates)?;
        Ok(certificates)
    }
}

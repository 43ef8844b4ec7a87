//! The production key, its certificates, and where its signatures go.

use std::path::PathBuf;

use commands::settings::KeyHolder;
use ledger::Ledger;
use manifest_schema::{Digest, Repository};
use signing::sigstore::{SigstoreKey, SigstoreSecretKey};
use signing::{Certificates, Fingerprint, Lookaside, RoleConflict, SecretKey, Trust};

use super::Site;
use super::places::{ProductionPlaces, make_root, make_roots, tree};
use crate::access::{beside_key, to_ledger};
use crate::config::LookasideConfig;
use crate::error::Error;
use crate::release_signatures::config_maps;

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
    /// Whether the registries are given signatures.
    pub registry_signatures: bool,
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
    pub fn production(&self, ledger: &Ledger) -> Result<Production, Error> {
        let file = self.sign.as_ref().ok_or(Error::Missing("a production key"))?;
        let lookaside = self.lookaside.clone().ok_or(Error::Missing("a folder for signatures"))?;
        let key = file.unlock(self.now)?;
        // Now, and not when everything has been pushed.
        make_roots(&lookaside)?;
        self.release_signatures.as_deref().map_or(Ok(()), make_root)?;
        let own = key.certificates();
        self.suits("production", &own)?;
        is_no_ledger_key(ledger, &own)?;
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
            registry_signatures: self.registry_signatures,
        })
    }

    /// Where production's signatures are; the key is not touched.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn production_places(&self) -> Result<ProductionPlaces, Error> {
        self.lookaside.clone().map(ProductionPlaces).ok_or(Error::Missing("a folder for signatures"))
    }

    /// The key that signs, as far as that can be told without unlocking it: a primary key or a subkey.
    ///
    /// # Errors
    /// What is wrong with the certificate beside a key file.
    pub fn signing_keys(&self) -> Result<Vec<Fingerprint>, Error> {
        match self.sign.as_ref().map(|sign| &sign.holder) {
            Some(KeyHolder::Agent { fingerprint, .. }) => Ok(vec![fingerprint.clone()]),
            _ => Ok(self.signing_certificate()?.map(|certificates| certificates.fingerprints()).unwrap_or_default()),
        }
    }

    /// Trust in production's keys, as far as their certificates are at hand: the configured ones, or the one beside the key.
    pub fn production_trust(&self, ledger: &Ledger) -> Option<Trust> {
        let certificates = self.production_certificates(ledger, &[]).ok()?;
        Trust::new(certificates, 1, self.now).ok()
    }

    /// The certificate that lies beside the key file, if it is one and has one.
    fn signing_certificate(&self) -> Result<Option<Certificates>, Error> {
        let beside = self.sign.as_ref().and_then(beside_key).filter(|path| path.exists());
        Ok(beside.map(|path| Certificates::load(&[path])).transpose()?)
    }

    /// The ConfigMaps for the releases whose signatures are handed over; none if no folder is configured for them.
    ///
    /// # Errors
    /// Those of [`config_maps`].
    pub fn release_config_maps(&self) -> Result<Vec<(Digest, Vec<u8>)>, Error> {
        self.release_signatures.as_deref().map_or(Ok(Vec::new()), config_maps)
    }

    /// The public half of production's cosign key: this file, or else the configured one, or the one beside the key, which is
    /// not touched.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::CosignRole`] if it is the key of somebody else; what is wrong with the file.
    pub fn cosign_public_key(&self, given: Option<&PathBuf>) -> Result<SigstoreKey, Error> {
        let beside = || self.cosign.as_ref().map(|(key, _)| key.with_extension("pub")).filter(|path| path.exists());
        let path = given.or(self.handover.cosign_public_key.as_ref()).cloned().or_else(beside);
        let path = path.ok_or(Error::Missing("the public half of production's cosign key"))?;
        let failed = |source| Error::SigstoreKey { path: path.clone(), source };
        let key = SigstoreKey::from_pem(&super::sigstore_file(&path)?).map_err(failed)?;
        let fingerprint = key.fingerprint();
        match self.foreign_sigstore_keys().any(|other| other.fingerprint() == fingerprint) {
            true => Err(Error::CosignRole { fingerprint }),
            false => Ok(key),
        }
    }

    /// The certificates that clusters are to accept: these, or else the configured ones, or the one beside the production key.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::RoleConflict`] if one of them is a key of somebody else; what is wrong with a file.
    pub fn production_certificates(&self, ledger: &Ledger, given: &[PathBuf]) -> Result<Certificates, Error> {
        let certificates = match [given, &self.certificates].into_iter().find(|files| !files.is_empty()) {
            Some(files) => Certificates::load(files)?,
            None => self.signing_certificate()?.ok_or(Error::Missing("the production key's certificate"))?,
        };
        self.suits("production", &certificates)?;
        is_no_ledger_key(ledger, &certificates)?;
        Ok(certificates)
    }
}

/// No key that signs the ledger's heads, or has, makes production signatures.
fn is_no_ledger_key(ledger: &Ledger, certificates: &Certificates) -> Result<(), Error> {
    let keys = ledger.keys()?;
    let is_one = |fingerprint: &Fingerprint| keys.iter().any(|(_, key)| *key == to_ledger(fingerprint));
    match certificates.fingerprints().into_iter().find(is_one) {
        Some(fingerprint) => {
            Err(RoleConflict { first: "production".into(), second: "ledger".into(), fingerprint }.into())
        }
        None => Ok(()),
    }
}

//! What a cluster's platform pulls from registries of its own, by whose signatures: so that it goes on where everything that no
//! scope names is refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use manifest_schema::{OutsideText, Scope};
use signing::{Certificates, KeyFile};

use super::error::HandOverError;
use super::merge::is_part;
use super::policy::{Keys, Requirement};
use super::{ScopeRow, read};
use crate::error::Error;

/// Scopes, each with a file of certificates.
#[derive(Debug, Default)]
pub struct Platform(BTreeMap<Scope, KeyFile>);

impl Platform {
    /// What flags (`SCOPE=FILE`) say, or else the configuration.
    ///
    /// # Errors
    /// [`HandOverError::PlatformScope`], [`Error::Reference`]; what is wrong with a file.
    pub fn new(flags: &[String], configured: &BTreeMap<String, PathBuf>) -> Result<Self, Error> {
        let pair = |flag: &String| {
            let pair = flag.split_once('=').filter(|(_, file)| !file.is_empty());
            let (scope, file) = pair.ok_or_else(|| HandOverError::PlatformFlag(OutsideText::new(flag)))?;
            Ok((scope.to_string(), PathBuf::from(file)))
        };
        let given: BTreeMap<String, PathBuf> = match flags {
            [] => configured.clone(),
            flags => flags.iter().map(pair).collect::<Result<_, Error>>()?,
        };
        let mut scopes = BTreeMap::new();
        for (scope, path) in given {
            let scope = scope.parse().map_err(Error::Reference)?;
            let bytes = read(&path)?;
            Certificates::from_bytes(&bytes, &path)?;
            scopes.insert(scope, KeyFile { path, bytes });
        }
        Ok(Self(scopes))
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rules; `ours` are those of this site, which decide about their scopes alone.
    ///
    /// # Errors
    /// [`HandOverError::PlatformScope`].
    pub fn rules(
        &self,
        keys: &mut Keys,
        ours: &BTreeMap<String, Vec<Requirement>>,
    ) -> Result<Vec<(ScopeRow, Requirement)>, HandOverError> {
        let rule = |(scope, file): (&Scope, &KeyFile)| {
            let name = scope.to_string();
            if let Some(ours) = ours.keys().find(|ours| **ours == name || is_part(&name, ours)) {
                return Err(HandOverError::PlatformScope { scope: name, ours: ours.clone() });
            }
            let signed = keys.signed_by(file, None);
            let demands = vec![signed.kind()];
            Ok((ScopeRow { scope: name, demands, identities: Vec::new(), origins: Vec::new() }, signed))
        };
        self.0.iter().map(rule).collect()
    }
}

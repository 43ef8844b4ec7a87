//! Which rules of a policy.json an earlier hand-over wrote. A policy has no room for a mark, so they are known by their keys, and
//! by what the ledger says was withdrawn.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ledger::{Act, EntryNumber, Ledger};
use manifest_schema::{Digest, Reference};
use serde_json::Value;
use signing::{Certificates, Fingerprint};

use super::mirrors::{self, Mirror};
use super::policy::{NodeKeys, Requirement};
use crate::error::Error;

/// What tells rules of this site from those of others.
pub struct Earlier<'a> {
    key_dir: &'a str,
    certificates: &'a Certificates,
    mirrors: &'a [Mirror],
    ledger: &'a Ledger,
    /// Digests that were withdrawn, each with its repository or what that is called at its origin; read when they are asked for.
    withdrawn: OnceCell<BTreeSet<(String, Digest)>>,
}

impl<'a> Earlier<'a> {
    /// By where the key files of hand-overs lie on the nodes, production's certificates, and what was withdrawn, under the names that
    /// production stands in for too.
    pub fn new(key_dir: &'a str, certificates: &'a Certificates, mirrors: &'a [Mirror], ledger: &'a Ledger) -> Self {
        Self { key_dir, certificates, mirrors, ledger, withdrawn: OnceCell::new() }
    }

    /// Whether a hand-over wrote this rule: a single demand for a signature by a key of production, or the refusal of a digest that
    /// was withdrawn at some time.
    ///
    /// # Errors
    /// Those of reading the ledger.
    pub fn wrote(&self, scope: &str, rule: &Value) -> Result<bool, Error> {
        let Some([requirement]) = rule.as_array().map(Vec::as_slice) else { return Ok(false) };
        match requirement["type"].as_str() {
            Some("reject") => self.was_withdrawn(scope),
            Some("signedBy") => Ok(self.is_key_file(requirement) || self.has_key(requirement, self.certificates)),
            _ => Ok(false),
        }
    }

    /// Whether a hand-over wrote this rule for a scope that now has `mine`: as [`Earlier::wrote`], or by one of the same keys.
    ///
    /// # Errors
    /// Those of reading the ledger.
    pub fn wrote_instead(&self, scope: &str, rule: &Value, mine: &[Requirement]) -> Result<bool, Error> {
        if self.wrote(scope, rule)? {
            return Ok(true);
        }
        let ([Requirement::SignedBy { keys: NodeKeys::KeyData(mine), .. }], Some([found])) =
            (mine, rule.as_array().map(Vec::as_slice))
        else {
            return Ok(false);
        };
        Ok(certificates(mine).is_some_and(|mine| self.has_key(found, &mine)))
    }

    /// A file named by its digest, where hand-overs have theirs.
    fn is_key_file(&self, requirement: &Value) -> bool {
        let path = requirement["keyPath"].as_str().and_then(|path| path.strip_prefix(self.key_dir)?.strip_prefix('/'));
        let stem = path.and_then(|name| name.strip_suffix(".asc").or(name.strip_suffix(".gpg")));
        stem.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
    }

    fn has_key(&self, requirement: &Value, of: &Certificates) -> bool {
        let found = requirement["keyData"].as_str().and_then(certificates);
        let known: BTreeSet<Fingerprint> = of.fingerprints().into_iter().collect();
        requirement["type"] == "signedBy"
            && found.is_some_and(|found| found.fingerprints().iter().any(|found| known.contains(found)))
    }

    /// Whether a scope is a digest that was withdrawn at some time, whatever happened since.
    fn was_withdrawn(&self, scope: &str) -> Result<bool, Error> {
        let Ok(asked) = scope.parse::<Reference>() else { return Ok(false) };
        let Some(digest) = asked.digest().filter(|_| asked.tag().is_none()) else { return Ok(false) };
        let known = match self.withdrawn.get() {
            Some(known) => known,
            None => {
                let read = self.all_withdrawn()?;
                self.withdrawn.get_or_init(|| read)
            }
        };
        Ok(known.contains(&(asked.repository().to_string(), *digest)))
    }

    fn all_withdrawn(&self) -> Result<BTreeSet<(String, Digest)>, Error> {
        let mut withdrawn = BTreeSet::new();
        for stored in self.ledger.entries(EntryNumber::FIRST) {
            let Act::Withdrawn(act) = stored?.entry.act else { continue };
            for image in act.images {
                let repository = image.reference.repository();
                let names = mirrors::origins(self.mirrors, repository).chain([repository.to_string()]);
                withdrawn.extend(names.map(|name| (name, image.digest)));
            }
        }
        Ok(withdrawn)
    }
}

/// The certificates of a `keyData`; none if they are none that this reads.
fn certificates(data: &str) -> Option<Certificates> {
    Certificates::from_bytes(&STANDARD.decode(data).ok()?, Path::new("")).ok()
}

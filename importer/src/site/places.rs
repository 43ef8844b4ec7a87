//! Where images and their signatures go: production, and the registry before it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use manifest_schema::{Repository, Scope, Stream};
use signing::Lookaside;

use super::{Site, StreamRules};
use crate::config::{LookasideConfig, LookasideUrlConfig};
use crate::destination::Rules;
use crate::error::Error;

/// A registry before production.
#[derive(Debug, Clone)]
pub struct Staging {
    /// From production to where its images wait.
    pub to: Rules,
    /// Where clusters find the signature trees, if that is said.
    pub lookaside_url: Option<LookasideUrlConfig>,
    pub(super) lookaside: LookasideConfig,
}

impl Staging {
    /// The signature tree of a repository's registry.
    ///
    /// # Errors
    /// [`Error::NoLookaside`].
    pub fn lookaside(&self, repository: &Repository) -> Result<Lookaside, Error> {
        tree(&self.lookaside, repository)
    }

    /// The folder of a registry's signature tree.
    ///
    /// # Errors
    /// [`Error::NoLookaside`].
    pub fn root(&self, registry: &str) -> Result<&Path, Error> {
        root(&self.lookaside, registry)
    }

    /// Makes the folders for signatures, if they are not there.
    ///
    /// # Errors
    /// [`Error::LookasideRoot`].
    pub fn make_roots(&self) -> Result<(), Error> {
        make_roots(&self.lookaside)
    }
}

/// Where production's signatures are.
#[derive(Debug, Clone)]
pub struct ProductionPlaces(pub(super) LookasideConfig);

impl ProductionPlaces {
    /// The signature tree of a repository's registry.
    ///
    /// # Errors
    /// [`Error::NoLookaside`].
    pub fn lookaside(&self, repository: &Repository) -> Result<Lookaside, Error> {
        tree(&self.0, repository)
    }

    /// The folder of a registry's signature tree.
    ///
    /// # Errors
    /// [`Error::NoLookaside`].
    pub fn root(&self, registry: &str) -> Result<&Path, Error> {
        root(&self.0, registry)
    }
}

impl Site {
    /// The parts of production that streams write.
    pub(crate) fn production_scopes(&self) -> Vec<&Scope> {
        self.all_rules()
            .into_iter()
            .flat_map(|(_, r)| r.to.mappings.iter().map(|m| &m.to).chain(&r.to.prefix))
            .collect()
    }

    /// Production's signature trees, each with its registry.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn signature_trees(&self) -> Result<Vec<(&str, &Path)>, Error> {
        match self.lookaside.as_ref().ok_or(Error::Missing("a folder for signatures"))? {
            LookasideConfig::PerHost(trees) => {
                Ok(trees.iter().map(|(host, root)| (host.as_str(), root.as_path())).collect())
            }
            LookasideConfig::One(root) => {
                let hosts: BTreeSet<&str> = self.production_scopes().into_iter().map(Scope::registry).collect();
                Ok(hosts.into_iter().map(|host| (host, root.as_path())).collect())
            }
        }
    }

    /// A lookaside path has no host in it: two production registries must not share a tree.
    pub(super) fn check_lookaside(&self) -> Result<(), Error> {
        let Some(lookaside) = &self.lookaside else { return Ok(()) };
        one_tree_each(lookaside, self.production_scopes())
    }

    /// What waits lies apart from production, and every part of production has a place where it can wait.
    pub(super) fn check_staging(&self) -> Result<(), Error> {
        let Some(staging) = &self.staging else { return Ok(()) };
        let scopes = || staging.to.mappings.iter().map(|m| &m.to);
        one_tree_each(&staging.lookaside, scopes().collect())?;
        for production in self.production_scopes() {
            if let Some(shared) = scopes().find(|scope| scope.overlaps(production)) {
                return Err(Error::StagingIsProduction { staging: Box::new(shared.clone()) });
            }
        }
        let shared = self.lookaside.iter().flat_map(LookasideConfig::roots);
        match shared.into_iter().find(|root| staging.lookaside.roots().contains(root)) {
            Some(root) => Err(Error::StagingLookaside { path: root.clone() }),
            None => Ok(()),
        }
    }
}

pub(super) fn make_roots(lookaside: &LookasideConfig) -> Result<(), Error> {
    lookaside.roots().into_iter().try_for_each(|root| make_root(root))
}

/// Makes a folder for signatures, if it is not there.
///
/// # Errors
/// [`Error::LookasideRoot`].
pub fn make_root(root: &Path) -> Result<(), Error> {
    signing::make_readable(root).map_err(|source| Error::LookasideRoot { path: root.into(), source })
}

fn root<'l>(lookaside: &'l LookasideConfig, registry: &str) -> Result<&'l Path, Error> {
    lookaside.root_of(registry).ok_or_else(|| Error::NoLookaside { host: registry.into() })
}

pub(super) fn tree(lookaside: &LookasideConfig, repository: &Repository) -> Result<Lookaside, Error> {
    match lookaside.root_for(repository) {
        Some(root) => Ok(Lookaside::new(root)),
        None => Err(Error::NoLookaside { host: repository.registry().into() }),
    }
}

/// A lookaside path has no host in it: no two registries share a tree.
fn one_tree_each(lookaside: &LookasideConfig, scopes: Vec<&Scope>) -> Result<(), Error> {
    let mut hosts: Vec<&str> = scopes.into_iter().map(Scope::registry).collect();
    hosts.sort_unstable();
    hosts.dedup();
    match lookaside {
        LookasideConfig::One(_) if hosts.len() > 1 => {
            Err(Error::SharedLookaside { hosts: hosts.iter().map(ToString::to_string).collect() })
        }
        LookasideConfig::PerHost(trees) => match hosts.iter().find(|h| !trees.contains_key(**h)) {
            Some(host) => Err(Error::NoLookaside { host: (*host).into() }),
            None => Ok(()),
        },
        LookasideConfig::One(_) => Ok(()),
    }
}

/// No two release lines write the same part of production.
pub(super) fn distinct_destinations(streams: &BTreeMap<Stream, StreamRules>) -> Result<(), Error> {
    let all: Vec<(&Stream, &Scope)> =
        streams.iter().flat_map(|(name, r)| r.to.mappings.iter().map(move |m| (name, &m.to))).collect();
    for (i, (first, a)) in all.iter().enumerate() {
        for (second, b) in &all[i + 1..] {
            if first != second && a.overlaps(b) {
                return Err(Error::SharedDestination {
                    streams: ((*first).clone(), (*second).clone()),
                    destinations: (Box::new((*a).clone()), Box::new((*b).clone())),
                });
            }
        }
    }
    Ok(())
}

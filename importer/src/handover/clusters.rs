//! What clusters take that are more than nodes with podman or CRI-O: which kinds are wanted, and the files of each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use manifest_schema::Scope;
use signing::sigstore::SigstoreKey;

use super::error::HandOverError;
use super::in_use::{self, Accepted, Nodes};
use super::machine_config::{self, NodeFile, Role};
use super::mirrors::Mirror;
use super::platform::Platform;
use super::policy::Keys;
use super::portieris::{self, Signed};
use super::{LeftOut, image_policy};
use crate::config::{ClusterKind, Ignition, MergeDefault};
use crate::error::Error;
use crate::site::Site;

/// The name of the file for registries.d.
pub const REGISTRIES_D: &str = "sealift-production.yaml";

/// What is wanted beside the files for podman and CRI-O, and what nodes have already.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The kinds of clusters.
    pub kinds: BTreeSet<ClusterKind>,
    /// The policy that nodes have now.
    pub merge_policy: Option<PathBuf>,
    /// What becomes of its default.
    pub merge_default: Option<MergeDefault>,
    /// What the platform pulls.
    pub platform: Platform,
    /// The machine config pools.
    pub roles: Vec<Role>,
    /// The version of the Ignition configuration.
    pub ignition: Ignition,
    /// The list of images in use.
    pub images_in_use: Option<PathBuf>,
    /// What nodes have in registries.d.
    pub registries_d: Vec<PathBuf>,
    /// The public half of the cosign key.
    pub cosign_public_key: Option<PathBuf>,
}

/// What files are made from.
pub struct Material<'a> {
    /// policy.json
    pub policy: &'a str,
    /// The keys that it names.
    pub keys: &'a Keys,
    /// The file for registries.d.
    pub registries_d: &'a str,
    /// Production's certificates.
    pub keyring: &'a [u8],
    /// The parts of production, each with the URL of its signatures.
    pub parts: Vec<(&'a Scope, &'a str)>,
    /// What production stands in for.
    pub mirrors: &'a [Mirror],
    /// What must not run.
    pub denied: &'a [super::production::Denied],
}

/// The files, by their names in the folder, and what is to be told.
#[derive(Default)]
pub struct Files {
    /// The files.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What cannot be said.
    pub left_out: Vec<LeftOut>,
    /// Images in use that the policy accepts, if any were asked for.
    pub in_use: Option<Accepted>,
}

impl Wanted {
    /// Whether a kind is wanted.
    pub fn has(&self, kind: ClusterKind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Whether what is wanted can be had at all.
    ///
    /// # Errors
    /// [`HandOverError::TwoWays`], [`HandOverError::NoPlatformRules`], [`HandOverError::NoImagesInUse`].
    pub fn check(&self) -> Result<(), Error> {
        if !self.has(ClusterKind::Openshift) {
            return Ok(());
        }
        if self.has(ClusterKind::OpenshiftCosign) {
            return Err(HandOverError::TwoWays.into());
        }
        if self.merge_policy.is_none() && self.platform.is_empty() {
            return Err(HandOverError::NoPlatformRules.into());
        }
        if self.images_in_use.is_none() { Err(HandOverError::NoImagesInUse.into()) } else { Ok(()) }
    }

    /// Whether clusters can get at the signatures; `given` says whether somebody named where they are.
    ///
    /// # Errors
    /// [`HandOverError::FolderForCluster`].
    pub fn check_urls<'u>(&self, urls: impl Iterator<Item = &'u str>, given: bool) -> Result<(), HandOverError> {
        let (folders, served): (Vec<&str>, Vec<&str>) = urls.partition(|url| url.starts_with("file:"));
        let Some(&found) = folders.first() else { return Ok(()) };
        let found = found.to_string();
        if self.has(ClusterKind::Openshift) && !given {
            let expected = "to be told where nodes find them";
            return Err(HandOverError::FolderForCluster { kind: "openshift", expected, found, of: "this machine" });
        }
        if self.has(ClusterKind::Portieris) && served.is_empty() {
            let expected = "http://... or https://...";
            return Err(HandOverError::FolderForCluster { kind: "portieris", expected, found, of: "a machine" });
        }
        Ok(())
    }

    /// Makes the files.
    ///
    /// # Errors
    /// Those of [`in_use::judge`], [`Accepted::with_others`] and [`Site::cosign_public_key`].
    pub fn files(&self, site: &Site, material: &Material<'_>) -> Result<Files, Error> {
        let mut made = Files::default();
        if let Some(list) = &self.images_in_use {
            let policy = material.keys.written_into(material.policy);
            let nodes = Nodes {
                merged: self.merge_policy.as_deref(),
                policy: policy.as_bytes(),
                registries_d: (REGISTRIES_D, material.registries_d.as_bytes()),
                others: &self.registries_d,
                mirrors: material.mirrors,
                parts: &material.parts,
            };
            let accepted = in_use::judge(list, &nodes, site)?;
            if self.has(ClusterKind::Openshift) {
                let tried = accepted.with_others()?;
                made.files.extend(machine_config::files(&self.roles, self.ignition, &on_nodes(material), &tried));
            }
            made.in_use = Some(accepted);
        }
        if self.has(ClusterKind::OpenshiftCosign) {
            let key: SigstoreKey = site.cosign_public_key(self.cosign_public_key.as_ref())?;
            let parts = material.parts.iter().map(|(part, _)| *part);
            made.add(image_policy::files(&key, parts, material.mirrors));
        }
        if self.has(ClusterKind::Portieris) {
            let Material { keyring, parts, mirrors, denied, .. } = material;
            made.add(portieris::files(&Signed { keyring, parts: parts.clone(), mirrors, denied }));
        }
        Ok(made)
    }
}

impl Files {
    fn add(&mut self, (files, left_out): (BTreeMap<String, Vec<u8>>, Vec<LeftOut>)) {
        self.files.extend(files);
        self.left_out.extend(left_out);
    }
}

fn on_nodes<'a>(material: &Material<'a>) -> [NodeFile<'a>; 2] {
    let registries_d = format!("/etc/containers/registries.d/{REGISTRIES_D}");
    [
        NodeFile { path: "/etc/containers/policy.json".into(), text: material.policy },
        NodeFile { path: registries_d, text: material.registries_d },
    ]
}

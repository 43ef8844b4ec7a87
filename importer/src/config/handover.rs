//! `production: handover:`: for which clusters files are made, and what their nodes have already.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What `handover production` writes beside the files for podman and CRI-O.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HandoverConfig {
    /// What kinds of clusters there are.
    #[serde(default, rename = "for")]
    pub kinds: Vec<ClusterKind>,
    /// The policy.json that nodes have now: its rules for others than this site are kept.
    #[serde(default)]
    pub merge_policy: Option<PathBuf>,
    /// What becomes of that file's default, if it accepts anything.
    #[serde(default)]
    pub merge_default: Option<MergeDefault>,
    /// What the platform pulls from elsewhere: a scope, and the OpenPGP certificates whose signatures count there.
    #[serde(default)]
    pub platform_scopes: BTreeMap<String, PathBuf>,
    /// For OpenShift: the machine config pools.
    #[serde(default)]
    pub roles: Vec<String>,
    /// For OpenShift: the version of the Ignition configuration.
    #[serde(default)]
    pub ignition: Option<Ignition>,
    /// For OpenShift: the images that clusters run now, one a line. The new policy must accept all of them.
    #[serde(default)]
    pub images_in_use: Option<PathBuf>,
    /// Folders with what nodes have in registries.d, to judge those images.
    #[serde(default)]
    pub registries_d: Vec<PathBuf>,
    /// The public half of the cosign key; without, for a key file ending in `.key`, the one ending in `.pub` beside it.
    #[serde(default)]
    pub cosign_public_key: Option<PathBuf>,
}

impl HandoverConfig {
    pub(super) fn make_relative_to(&mut self, base: &Path) {
        let relative = |p: &mut PathBuf| *p = base.join(&*p);
        self.merge_policy.iter_mut().for_each(relative);
        self.platform_scopes.values_mut().for_each(relative);
        self.images_in_use.iter_mut().for_each(relative);
        self.registries_d.iter_mut().for_each(relative);
        self.cosign_public_key.iter_mut().for_each(relative);
    }
}

/// A kind of cluster that takes more than the files for podman and CRI-O.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterKind {
    /// OpenShift, by simple signatures: a MachineConfig for each pool, and its Butane source.
    Openshift,
    /// OpenShift, by cosign signatures: ClusterImagePolicy and ImagePolicy.
    OpenshiftCosign,
    /// Clusters with Portieris, by simple signatures: ClusterImagePolicy and ImagePolicy.
    Portieris,
}

/// What becomes of the default of a policy that is merged, if it accepts anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum MergeDefault {
    /// What no scope names is refused from now on.
    Reject,
    /// What no scope names is still accepted as the file says.
    Keep,
}

/// A version of the Ignition configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
pub enum Ignition {
    /// OpenShift 4.7 and later.
    #[default]
    #[serde(rename = "3.2.0")]
    #[value(name = "3.2.0")]
    V3_2,
    /// OpenShift 4.14 and later.
    #[serde(rename = "3.4.0")]
    #[value(name = "3.4.0")]
    V3_4,
}

impl Ignition {
    /// As Ignition names it.
    pub fn version(self) -> &'static str {
        match self {
            Self::V3_2 => "3.2.0",
            Self::V3_4 => "3.4.0",
        }
    }

    /// The version of Butane's `openshift` variant that makes it.
    pub fn butane(self) -> &'static str {
        match self {
            Self::V3_2 => "4.8.0",
            Self::V3_4 => "4.14.0",
        }
    }
}

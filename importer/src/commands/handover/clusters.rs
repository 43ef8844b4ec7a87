//! The flags for clusters that are more than nodes with podman or CRI-O.

use std::path::PathBuf;

use clap::Args;

use crate::config::{ClusterKind, HandoverConfig, Ignition, MergeDefault};
use crate::error::Error;
use crate::handover::HandOverError;
use crate::handover::clusters::Wanted;
use crate::handover::machine_config::Role;
use crate::handover::platform::Platform;

/// Each is also a key of `production: handover:`; flags go before it.
#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    /// Write what a kind of cluster takes, too; several may be given
    #[arg(long = "for", value_enum, value_name = "KIND", env = "SEALIFT_FOR", value_delimiter = ',')]
    kinds: Vec<ClusterKind>,
    /// The policy.json that nodes have now: its rules for others are kept
    #[arg(long, value_name = "FILE", env = "SEALIFT_MERGE_POLICY")]
    merge_policy: Option<PathBuf>,
    /// With --merge-policy: what becomes of a default that accepts anything
    #[arg(long, value_enum, value_name = "WHAT", env = "SEALIFT_MERGE_DEFAULT")]
    merge_default: Option<MergeDefault>,
    /// What the platform pulls from elsewhere, with the certificates whose signatures count there; several may be given
    #[arg(long, value_name = "SCOPE=FILE", env = "SEALIFT_PLATFORM_SCOPE", value_delimiter = ',')]
    platform_scope: Vec<String>,
    /// For openshift: a machine config pool; several may be given [default: master,worker]
    #[arg(long, value_name = "ROLE", env = "SEALIFT_ROLE", value_delimiter = ',')]
    role: Vec<String>,
    /// For openshift: the version of the Ignition configuration [default: 3.2.0]
    #[arg(long, value_enum, value_name = "VERSION", env = "SEALIFT_IGNITION")]
    ignition: Option<Ignition>,
    /// A list of the images that clusters run now, which the new policy must accept: one a line, and behind it where it is if a
    /// mirror has it
    #[arg(long, value_name = "FILE", env = "SEALIFT_IMAGES_IN_USE")]
    images_in_use: Option<PathBuf>,
    /// What nodes have in registries.d, to judge those images; several may be given
    #[arg(long, value_name = "DIR", env = "SEALIFT_NODE_REGISTRIES_D", value_delimiter = ',')]
    node_registries_d: Vec<PathBuf>,
    /// For openshift-cosign: the public half of production's cosign key [default: the .pub beside the key]
    #[arg(long, value_name = "FILE", env = "SEALIFT_COSIGN_PUBLIC_KEY")]
    cosign_public_key: Option<PathBuf>,
}

impl ClusterArgs {
    /// What flags say, or else the configuration.
    ///
    /// # Errors
    /// What is wrong with a flag or a file.
    pub(super) fn resolve(self, configured: &HandoverConfig) -> Result<Wanted, Error> {
        let several = |given: Vec<PathBuf>, configured: &[PathBuf]| {
            if given.is_empty() { configured.to_vec() } else { given }
        };
        self.check(configured)?;
        let kinds = if self.kinds.is_empty() { configured.kinds.clone() } else { self.kinds };
        let roles = if self.role.is_empty() { &configured.roles } else { &self.role };
        let roles = match roles.as_slice() {
            [] => Role::usual(),
            named => named.iter().map(|role| role.parse()).collect::<Result<_, _>>()?,
        };
        Ok(Wanted {
            kinds: kinds.into_iter().collect(),
            merge_policy: self.merge_policy.or_else(|| configured.merge_policy.clone()),
            merge_default: self.merge_default.or(configured.merge_default),
            platform: Platform::new(&self.platform_scope, &configured.platform_scopes)?,
            roles,
            ignition: self.ignition.or(configured.ignition).unwrap_or_default(),
            images_in_use: self.images_in_use.or_else(|| configured.images_in_use.clone()),
            registries_d: several(self.node_registries_d, &configured.registries_d),
            cosign_public_key: self.cosign_public_key,
        })
    }

    /// Whether every flag does something.
    fn check(&self, configured: &HandoverConfig) -> Result<(), HandOverError> {
        let kinds = if self.kinds.is_empty() { &configured.kinds } else { &self.kinds };
        let (openshift, cosign) =
            (kinds.contains(&ClusterKind::Openshift), kinds.contains(&ClusterKind::OpenshiftCosign));
        let merges = self.merge_policy.is_some() || configured.merge_policy.is_some();
        let judges = self.images_in_use.is_some() || configured.images_in_use.is_some();
        let idle = [
            (!self.role.is_empty() && !openshift, "--role", "--for openshift"),
            (self.ignition.is_some() && !openshift, "--ignition", "--for openshift"),
            (self.merge_default.is_some() && !merges, "--merge-default", "--merge-policy"),
            (!self.node_registries_d.is_empty() && !judges, "--node-registries-d", "--images-in-use"),
            (self.cosign_public_key.is_some() && !cosign, "--cosign-public-key", "--for openshift-cosign"),
        ];
        match idle.into_iter().find(|(is_idle, ..)| *is_idle) {
            Some((_, flag, without)) => Err(HandOverError::NoEffect { flag, without }),
            None => Ok(()),
        }
    }
}

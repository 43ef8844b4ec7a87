//! What can go wrong when files for clusters are made.

use std::io;
use std::path::PathBuf;

use manifest_schema::OutsideText;
use signing::PolicyError;

/// Files for clusters cannot be made, or not as they were asked for.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// Where keys lie on nodes.
    #[error("--key-dir {}: expected an absolute path of printable characters", .0.display())]
    KeyDir(PathBuf),
    /// Where nodes find signatures.
    #[error("lookaside URL `{}`: expected http://HOST/..., https://HOST/... or file:///..., without ? and #", .0.escaped())]
    LookasideUrl(OutsideText),
    /// Several URLs need hosts.
    #[error("--lookaside-url {}: of several, each must be HOST=URL", .0.escaped())]
    LookasideUrlFlag(OutsideText),
    /// One URL for two hosts.
    #[error("one lookaside URL for several registries ({}): a lookaside path has no host in it", .hosts.join(", "))]
    SharedLookasideUrl {
        /// The registries.
        hosts: Vec<String>,
    },
    /// No URL for a host.
    #[error("no lookaside URL is configured for registry {host}")]
    NoLookasideUrl {
        /// The registry.
        host: String,
    },
    /// Something in the folder to replace that is somebody else's.
    #[error("{}: `handover {kind}` did not write it, or it was changed since", .path.display())]
    NotHandedOver {
        /// The file or folder.
        path: PathBuf,
        /// What the folder is for.
        kind: &'static str,
    },
    /// A file that clusters' files are made from.
    #[error("{}: cannot be read", .path.display())]
    ClusterInput {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder of nodes.
    #[error("{}: the folder cannot be read", .path.display())]
    ClusterFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nodes accept whatever their policy does not name.
    #[error("{}: what it does not name is accepted ({found}); expected `reject`, or to be told what becomes of that", .file.escaped())]
    PolicyDefault {
        /// The policy.
        file: OutsideText,
        /// What it demands.
        found: String,
    },
    /// Nodes have another rule for a scope of this site.
    #[error("{}: docker scope `{}`: expected no rule, or one that `handover production` wrote; found another ({found})", .file.escaped(), .scope.escaped())]
    PolicyScope {
        /// The policy.
        file: OutsideText,
        /// The scope.
        scope: OutsideText,
        /// What it demands.
        found: String,
    },
    /// Nodes have a rule for a part of a scope of this site.
    #[error("{}: docker scope `{}`: it would decide for a part of {outer}; expected the same demand as there, or `reject`; found another ({found})", .file.escaped(), .scope.escaped())]
    PolicyPart {
        /// The policy.
        file: OutsideText,
        /// The scope.
        scope: OutsideText,
        /// This site's scope.
        outer: String,
        /// What it demands.
        found: String,
    },
    /// A flag without its file.
    #[error("--platform-scope {}: expected SCOPE=FILE", .0.escaped())]
    PlatformFlag(OutsideText),
    /// The platform has no say about this site's names.
    #[error("platform scope {scope}: it lies in {ours}, where production's keys decide")]
    PlatformScope {
        /// The scope.
        scope: String,
        /// This site's.
        ours: String,
    },
    /// The name of a machine config pool.
    #[error("--role {}: expected a name of small letters, digits and -", .0.escaped())]
    PoolRole(OutsideText),
    /// A MachineConfig that would refuse the platform's own images.
    #[error(
        "no MachineConfig without rules for the platform: policy.json would refuse the images that the cluster itself needs"
    )]
    NoPlatformRules,
    /// A MachineConfig that nobody tried.
    #[error("no MachineConfig without a list of the images in use: the new policy must accept all of them")]
    NoImagesInUse,
    /// A MachineConfig that only production's images were tried with.
    #[error(
        "{}: expected images of others than production too, as those that the platform runs; found only production's ({images})",
        .file.escaped()
    )]
    OnlyOwnImages {
        /// The list.
        file: OutsideText,
        /// How many there are.
        images: usize,
    },
    /// Signatures that a cluster cannot get at.
    #[error("signatures for --for {kind}: expected {expected}; found {found}, a folder of {of}")]
    FolderForCluster {
        /// The kind of cluster.
        kind: &'static str,
        /// What it needs.
        expected: &'static str,
        /// The URL.
        found: String,
        /// Whose folder that is.
        of: &'static str,
    },
    /// A flag that does nothing by itself.
    #[error("{flag}: it has no effect without {without}")]
    NoEffect {
        /// The flag.
        flag: &'static str,
        /// What it belongs to.
        without: &'static str,
    },
    /// The new policy cannot be read as nodes would.
    #[error("{}: the new policy cannot be used on this machine to judge the images in use", .file.escaped())]
    NodePolicy {
        /// The file whose rules were kept, or else policy.json.
        file: OutsideText,
        /// Why.
        source: Box<PolicyError>,
    },
    /// Two ways that stop each other.
    #[error(
        "files for OpenShift by simple signatures and by cosign's: a node that gets both pulls nothing, since registries.d then names a scope twice"
    )]
    TwoWays,
    /// A list of images.
    #[error("{}{}: {reason}", .file.escaped(), line_of(*.line))]
    ImagesInUseList {
        /// The list.
        file: OutsideText,
        /// The line; 0 for all of it.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Images in use that the new policy refuses.
    #[error("{}: the new policy refuses {} of {all} images in use: {}", .file.escaped(), .refused.len(), .refused.join("; "))]
    ImagesInUse {
        /// The list.
        file: OutsideText,
        /// How many there are.
        all: usize,
        /// Those that are refused, each with the reason.
        refused: Vec<String>,
    },
    /// An image in use that cannot be judged.
    #[error("image in use {image}: it cannot be judged")]
    ImageInUse {
        /// The image.
        image: String,
        /// Why.
        source: Box<crate::error::Error>,
    },
    /// A file for clusters.
    #[error("{}: cannot be written", .path.display())]
    HandOver {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Where in a file something is.
fn line_of(line: usize) -> String {
    if line == 0 { String::new() } else { format!(", line {line}") }
}

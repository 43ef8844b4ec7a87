//! Of files for clusters.

use console::{Explain, Fault};

use crate::handover::HandOverError;

pub(super) fn handover_fault(error: &HandOverError) -> Fault {
    use HandOverError as E;
    match error {
        E::KeyDir(_)
        | E::LookasideUrl(_)
        | E::LookasideUrlFlag(_)
        | E::SharedLookasideUrl { .. }
        | E::NoLookasideUrl { .. }
        | E::NotHandedOver { .. }
        | E::ClusterInput { .. }
        | E::ClusterFolder { .. }
        | E::PolicyDefault { .. }
        | E::PolicyScope { .. }
        | E::PolicyPart { .. }
        | E::PlatformFlag(_)
        | E::PlatformScope { .. }
        | E::PoolRole(_)
        | E::NoPlatformRules
        | E::NoImagesInUse
        | E::TwoWays
        | E::FolderForCluster { .. }
        | E::NoEffect { .. }
        | E::NodePolicy { .. }
        | E::ImagesInUseList { .. } => Fault::Usage,
        E::ImagesInUse { .. } | E::OnlyOwnImages { .. } => Fault::Refused,
        E::ImageInUse { source, .. } => source.fault(),
        E::HandOver { .. } => Fault::Failed,
    }
}

/// Where a list of the images in use comes from.
const LISTS_OF_IMAGES: &str = "such as from `oc get pods -A -o jsonpath=\"{.items[*].spec['initContainers','containers'][*].image}\" | tr -s ' ' '\\n' | \
     sort -u` and `oc adm release info --pullspecs`; images of jobs that do not run at the moment are not in it";

pub(super) fn handover_hint(error: &HandOverError) -> Option<String> {
    use HandOverError as E;
    let text = match error {
        E::SharedLookasideUrl { .. } | E::NoLookasideUrl { .. } => {
            "give each registry a URL of its own: `lookaside_url: {HOST: URL}` below `production:` or `staging:`, or --lookaside-url HOST=URL"
        }
        E::NotHandedOver { .. } => "name another folder, or take out of this one what does not belong there",
        E::PolicyDefault { .. } => {
            "with --merge-default reject (or `production: {handover: {merge_default: reject}}`) that is refused from now on, and what the \
             platform pulls needs rules; with --merge-default keep it stays accepted"
        }
        E::PolicyScope { .. } | E::PolicyPart { .. } => {
            "take that rule out of the file, if production's keys are to decide there"
        }
        E::PlatformScope { .. } => "name scopes of registries that no stream writes to",
        E::NoPlatformRules => {
            "give the nodes' present policy.json with --merge-policy FILE, or name what the platform pulls with --platform-scope SCOPE=FILE"
        }
        E::NoImagesInUse => {
            return Some(format!("list them, one a line, and name the file with --images-in-use; {LISTS_OF_IMAGES}"));
        }
        E::OnlyOwnImages { .. } => {
            return Some(format!(
                "nothing says yet whether the platform still runs: add its images; {LISTS_OF_IMAGES}"
            ));
        }
        E::FolderForCluster { .. } => {
            "name where clusters find the signatures with --lookaside-url URL, or `production: {lookaside_url: URL}`; `sealift-import serve` \
             serves the folder"
        }
        E::NoEffect { .. } => "give both, or neither",
        E::NodePolicy { .. } => {
            "a key file that it names must be on this machine too: copy it from a node to the same path, or leave out --images-in-use where \
             it need not be given"
        }
        E::TwoWays => "make a folder for each kind of cluster: --for openshift, or --for openshift-cosign",
        E::ImagesInUse { .. } => {
            "name the scopes of those that are the platform's with --platform-scope SCOPE=FILE, or in the policy given with --merge-policy; \
             `sealift-import trust check` explains each"
        }
        E::ImageInUse { source, .. } => {
            let elsewhere =
                "if its registry is not to be had from here, say behind it in the list where it is: IMAGE MIRROR";
            return Some(source.hint().map_or_else(|| elsewhere.into(), |hint| format!("{hint}; {elsewhere}")));
        }
        E::ImagesInUseList { .. } => {
            "one image a line, by its full name; behind it where it is, if clusters get it from a mirror"
        }
        E::LookasideUrlFlag(_)
        | E::LookasideUrl(_)
        | E::KeyDir(_)
        | E::ClusterInput { .. }
        | E::ClusterFolder { .. }
        | E::PlatformFlag(_)
        | E::PoolRole(_)
        | E::HandOver { .. } => return None,
    };
    Some(text.into())
}

//! README.txt: what each file is, where it goes, and what was left out.

use std::collections::BTreeSet;

use manifest_schema::text::escape;
use signing::MovedIdentity;

use super::mirrors::{self, Mirror};
use super::production::Denied;
use super::{OriginRow, Report, ScopeRow, readme_clusters};
use crate::config::ClusterKind;

/// For clusters that pull from staging. No date and no path of this machine but those that nodes need: the same configuration
/// gives the same text.
pub fn staging(report: &Report) -> String {
    let mut text = "For clusters that pull from the staging registry. With these files their nodes accept an image if the image policy of its\n\
        stream accepts it under the name that it had at its origin, and refuse every other.\n\n\
        On every node, in this order:\n\n"
        .to_string();
    text += &steps(report, "registries.d/sealift-staging.yaml", false);
    text += "\npolicy.json comes last: a policy whose keys are missing refuses every pull. It takes the place of the node's own policy, and\n\
        refuses every registry that it does not name. If nodes pull from others too, their policy needs all of its scopes under\n\
        `transports: docker:`, also those that say `reject`: each may stand below one that accepts.\n\n\
        When the image policies, their keys or the mappings change, run the command again, and replace the files.\n";
    text += &format!("\nWhat is accepted (policy.json)\n\n{}", scopes(&report.scopes));
    text += "\nAn image that came by digest has the tag sealift-<digest> in staging, which no signature names: pull it by digest.\n";
    text += &format!("\nWhere signatures are (registries.d)\n\n{}", lookaside(report, "staging"));
    text += &keys(report);
    text += &left_out(report);
    text
}

/// For clusters that run what is in production. The same configuration and the same withdrawals give the same text. It names
/// no file but those that were `written`.
pub fn production(report: &Report, written: &BTreeSet<&str>) -> String {
    let mut text = "For clusters that pull from production. With these files their nodes accept an image if a production key has signed it\n\
        under the name by which it is pulled, and refuse every other.\n"
        .to_string();
    let is_openshift = |kind: &ClusterKind| matches!(kind, ClusterKind::Openshift | ClusterKind::OpenshiftCosign);
    if report.kinds.contains(&ClusterKind::Openshift) {
        text += &folders(report);
    }
    // What would break every pull of a cluster does not stand before what the cluster is to get.
    if report.kinds.iter().any(is_openshift) {
        text += &readme_clusters::clusters(report, written);
        text += &nodes(report, written);
    } else {
        text += &nodes(report, written);
        text += &readme_clusters::clusters(report, written);
        text += &readme_clusters::other_openshift(written);
    }
    if !report.mirrors.is_empty() {
        text += &mirrored(report);
    }
    if report.annotated > 0 {
        text += &readme_clusters::annotations(report);
    }
    text += "\ndeny.json is for admission controllers and people. Run the command again after every withdrawal, when the production key is\n\
        about to change, and when mappings change; replace the files, and remove what is no longer in the folder. What was brought\n\
        by a mapping that import.yaml has no longer is refused from then on.\n";
    text += "\nWhat is accepted (policy.json)\n\n";
    if report.scopes.is_empty() {
        text += "Nothing.\n";
    }
    for scope in &report.scopes {
        text += &format!("{}\n    {}\n", scope.scope, scope.demands.join(" and "));
        text +=
            &scope.identities.iter().map(|identity| format!("    signed as {}\n", named(identity))).collect::<String>();
        let of = |origin: &OriginRow| format!("    stream {}, from {}\n", origin.stream, origin.origin);
        text += &scope.origins.iter().map(of).collect::<String>();
    }
    text += &readme_clusters::merged(report);
    text += &format!("\nWhere signatures are (registries.d)\n\n{}", lookaside(report, "production"));
    text += &keys(report);
    if !report.left_out.is_empty() {
        text += &left_out(report);
    }
    text += "\nWhat must not run (deny.json)\n\n";
    if report.denied.is_empty() {
        text += "Nothing was withdrawn.\n";
    }
    for image in &report.denied {
        let how = match image.refused {
            true => "refused by digest, signed or not",
            false => "no longer signed; another tag has it with signatures",
        };
        let Denied { reference, digest, withdrawn, entry, reason, .. } = image;
        text += &format!(
            "{reference}\n    {digest}\n    withdrawn at {withdrawn}, entry {entry}: {}\n    {how}\n",
            reason.escaped()
        );
    }
    text
}

/// What stands in for the origins.
fn mirrored(report: &Report) -> String {
    let mut text =
        "\nImages are asked for by the names that they have at their origin, too, and come from production:\n\n"
            .to_string();
    let row = |mirror: &Mirror| vec![mirror.origin.to_string(), mirror.production.to_string(), mirror.stream.clone()];
    text +=
        &console::table(&["ASKED FOR", "COMES FROM", "STREAM"], &report.mirrors.iter().map(row).collect::<Vec<_>>());
    text += "\nWithout the scopes of the origins in policy.json, or without the mirrors, nothing is pulled by these names.\n";
    text
}

/// What nodes get that no cluster writes files for.
fn nodes(report: &Report, written: &BTreeSet<&str>) -> String {
    let has = |kind| report.kinds.contains(&kind);
    let mut text = match (has(ClusterKind::Openshift), has(ClusterKind::OpenshiftCosign)) {
        (_, true) => {
            "\nNodes outside OpenShift\n\nThese files are not for the cluster's nodes: there registries.d would name a scope twice, and every pull would fail. \
             On every\nother node, in this order:\n\n"
        }
        (true, _) => {
            "\nNodes outside OpenShift\n\nThe cluster's nodes get these from the MachineConfigs: do not copy them there. On every other node, in this order:\n\n"
        }
        _ => "\nOn every node, in this order:\n\n",
    }
    .to_string();
    text += &steps(report, "registries.d/sealift-production.yaml", written.contains(mirrors::CONF));
    text += "\npolicy.json comes last: a policy whose keys are missing refuses every pull. It takes the place of the node's own policy";
    text += match &report.merged {
        Some(_) => ",\nwhose rules for others it has too.\n",
        None => {
            ", and\nrefuses every registry that it does not name, those of the platform too. If nodes pull from others, give the command their\n\
             policy with --merge-policy, or name what they pull with --platform-scope.\n"
        }
    };
    if written.contains(mirrors::CONF) {
        text += "What it says of the origins fits only what comes from the mirrors, so these come before it.\n";
    }
    text
}

/// Where nodes look for signatures without asking anybody.
fn folders(report: &Report) -> String {
    let urls: BTreeSet<&str> = report.folders().map(|section| section.lookaside.as_str()).collect();
    if urls.is_empty() {
        return String::new();
    }
    let urls: String = urls.into_iter().map(|url| format!("    {url}\n")).collect();
    format!(
        "\nAttention: nodes look for signatures in a folder of their own, and without it pull nothing of production:\n\n{urls}\n\
         Mount it on every node first, or give the command the URL of a server with --lookaside-url.\n"
    )
}

/// What goes where.
fn steps(report: &Report, registries_d: &str, has_mirrors: bool) -> String {
    let mut steps = Vec::new();
    if report.keys.iter().any(|key| key.file.is_some()) {
        steps.push(vec!["keys/*".into(), format!("{}/", report.key_dir)]);
    }
    steps.push(vec![registries_d.into(), "/etc/containers/registries.d/".into()]);
    if has_mirrors {
        steps.push(vec![mirrors::CONF.into(), "/etc/containers/registries.conf.d/".into()]);
    }
    steps.push(vec!["policy.json".into(), "/etc/containers/policy.json".into()]);
    console::table(&["FILE", "GOES TO"], &steps)
}

fn left_out(report: &Report) -> String {
    let mut text = "\nWhat was left out\n\n".to_string();
    if report.left_out.is_empty() {
        text += "Nothing.\n";
    }
    for left in &report.left_out {
        text += &format!("{}\n", escape(&left.to_string()));
    }
    text
}

fn keys(report: &Report) -> String {
    if report.keys.is_empty() {
        return String::new();
    }
    let row = |key: &super::KeyRow| {
        let from: Vec<_> = key.from.iter().map(|from| from.escaped().to_string()).collect();
        let file = key.file.as_deref().unwrap_or("in policy.json");
        format!("{file}\n    {}, from {}\n", key.kind, from.join(", "))
            + &key.fingerprints.iter().map(|fingerprint| format!("    {fingerprint}\n")).collect::<String>()
    };
    format!("\nKeys, by the SHA-256 of the file\n\n{}", report.keys.iter().map(row).collect::<String>())
}

fn scopes(scopes: &[ScopeRow]) -> String {
    if scopes.is_empty() {
        return "Nothing.\n".into();
    }
    let row = |scope: &ScopeRow| {
        let mut text = format!("{}\n    {}\n", scope.scope, scope.demands.join(" and "));
        for identity in &scope.identities {
            text += &format!("    signed as {}\n", named(identity));
        }
        for OriginRow { stream, origin, policy } in &scope.origins {
            let policy = policy.as_deref().unwrap_or("no image policy");
            text += &format!("    stream {stream}, from {origin}, by {}\n", escape(policy));
        }
        if scope.origins.is_empty() {
            text += "    no stream has its images there\n";
        }
        text
    };
    scopes.iter().map(row).collect()
}

fn named(identity: &MovedIdentity) -> String {
    match identity {
        MovedIdentity::ExactReference { docker_reference } => docker_reference.clone(),
        MovedIdentity::ExactRepository { docker_repository } => format!("any reference of {docker_repository}"),
        MovedIdentity::RemapIdentity { prefix, signed_prefix } => format!("{signed_prefix}... instead of {prefix}..."),
    }
}

fn lookaside(report: &Report, of: &str) -> String {
    let mut text = String::new();
    for section in &report.lookaside {
        let cosign = if section.use_sigstore_attachments { ", and cosign's in the registry" } else { "" };
        text += &format!("{}\n    {}{cosign}\n", section.scope, section.lookaside);
    }
    if report.folders().next().is_some() {
        text += &format!(
            "\nfile:// is a folder of the node itself: mount it there, or serve it and name the URL with `{of}: lookaside_url:`.\n"
        );
    }
    text
}

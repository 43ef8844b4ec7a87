//! README.txt for clusters that are more than nodes: what to apply, in which order, and what it does to nodes.

use std::collections::BTreeSet;

use manifest_schema::text::escape;

use super::production::RELEASES;
use super::{Report, annotations, mirrors};
use crate::config::ClusterKind;

/// What is done with the documents of each kind.
pub fn clusters(report: &Report, written: &BTreeSet<&str>) -> String {
    let mut text = String::new();
    for kind in &report.kinds {
        text += &match kind {
            ClusterKind::Openshift => openshift(report, written),
            ClusterKind::OpenshiftCosign => openshift_cosign(written),
            ClusterKind::Portieris => portieris(written),
        };
    }
    text
}

fn openshift(report: &Report, written: &BTreeSet<&str>) -> String {
    let mut rows = first(written);
    rows.extend(named(written, "openshift/machine-config-", "reloads CRI-O on each node of the pool"));
    let mut text = format!(
        "\nOpenShift, by simple signatures\n\nWith `oc apply -f`, instead of copying files, in this order:\n\n{}",
        table(&rows)
    );
    text += "\nThat policy.json and registries.d are reloaded and no node is drained is the default node disruption policy. Versions without\n\
        one, and clusters with another, may drain and reboot nodes. The keys are in policy.json: a key file in any other place would\n\
        have every node rebooted. machine-config-ROLE.bu is the same for Butane.\n\n\
        The MachineConfigs are called 999-...: of two that write one file the last by name counts. The cluster writes policy.json\n\
        too (99-...-generated-registries) if it has a ClusterImagePolicy, as every one has from OpenShift 4.21 on, an ImagePolicy or\n\
        a list of allowed or blocked registries. This one's policy.json is then what counts: what the cluster changes in its own\n\
        later, as with an update, reaches nodes only when the command is run again with that file. Namespaces with an ImagePolicy\n\
        are judged by a file of their own, in which these demands are not: have none. Every pool needs a MachineConfig of its own\n\
        (--role), also those made from workers.\n";
    if let Some(in_use) = &report.in_use {
        let file = escape(in_use.file.raw());
        text += &format!("\nAccepted of what is in use, by {file}:\n\n");
        for image in &in_use.images {
            text += &format!("{}\n    {}\n", image.image, image.digest);
            text += &image.rules.iter().map(|rule| format!("    {}\n", escape(rule))).collect::<String>();
        }
    }
    text
}

fn openshift_cosign(written: &BTreeSet<&str>) -> String {
    let policies = named(written, "openshift/cluster-image-policy-", "reloads CRI-O on every node");
    if policies.is_empty() {
        return "\nOpenShift, by cosign signatures\n\nNo image policy can be written: see what was left out.\n".into();
    }
    let mut rows = first(written);
    rows.extend(policies);
    let mut text = format!(
        "\nOpenShift, by cosign signatures\n\nWith `oc apply -f`, instead of copying files, in this order:\n\n{}",
        table(&rows)
    );
    text += "\nImage policies (config.openshift.io/v1) are there from OpenShift 4.20 on; before that they are a technology preview, behind a\n\
        feature gate. By the default node disruption policy no node is drained for them.\n\n\
        For single namespaces apply openshift/image-policy-*.yaml with `-n NAMESPACE` instead; a ClusterImagePolicy for the same\n\
        names takes their place. Image policies know cosign keys only, no OpenPGP keys: what production signed before it had a cosign\n\
        key is refused until `sealift-import resign` has run. They know no refusal of single digests: what must not run is refused\n\
        because its signatures are gone. Do not give the same nodes policy.json and registries.d of this folder, or a MachineConfig\n\
        of another: registries.d then names a scope twice, and every pull fails.\n";
    text
}

fn portieris(written: &BTreeSet<&str>) -> String {
    let rows: Vec<_> = [
        ["portieris/key.yaml", "the production certificates, in the namespace portieris"],
        ["portieris/cluster-image-policy.yaml", "all namespaces that have no ImagePolicy"],
        ["portieris/image-policy.yaml", "with `-n NAMESPACE`: single namespaces, instead"],
    ]
    .into_iter()
    .filter(|[file, _]| written.contains(file))
    .map(|row| row.map(String::from))
    .collect();
    format!(
        "\nPortieris\n\nWith `kubectl apply -f`, in this order:\n\n{}\nOf all policies the one with the longest name that fits decides, and without one images are denied. Take away what Portieris\n\
         was installed with, which accepts everything (`*`). A namespace with an ImagePolicy is judged by that alone. Portieris asks\n\
         the registry in an image's name, not a mirror; nodes are judged by their own policy.json beside it.\n",
        table(&rows)
    )
}

/// What image objects of OpenShift are told.
pub fn annotations(report: &Report) -> String {
    format!(
        "\n{} is for OpenShift: with `sh`, and logged in as somebody who may annotate images, it tells the\n\
         cluster's image objects what scanners said of them, and which must not run ({} digests, {} of them denied).\n\
         Images that the cluster does not know are passed over: run it again when it has new ones.\n",
        annotations::FILE,
        report.annotated,
        report.annotated_denied
    )
}

/// What there is for OpenShift although no kind of it was asked for.
pub fn other_openshift(written: &BTreeSet<&str>) -> String {
    let rows = first(written);
    if rows.is_empty() {
        return String::new();
    }
    format!("\nOpenShift\n\nWith `oc apply -f`, in this order:\n\n{}", table(&rows))
}

/// What comes first in every OpenShift cluster.
fn first(written: &BTreeSet<&str>) -> Vec<[String; 2]> {
    let mut rows = Vec::new();
    if written.iter().any(|file| file.starts_with(RELEASES)) {
        rows.push([RELEASES.to_string(), "nothing on nodes".to_string()]);
    }
    let sets = [mirrors::DIGESTS, mirrors::TAGS].into_iter().filter(|set| written.contains(set));
    rows.extend(sets.map(|set| [set.into(), "registries.conf, node by node: nodes may be drained".into()]));
    rows
}

/// The documents whose names begin alike.
fn named(written: &BTreeSet<&str>, start: &str, does: &str) -> Vec<[String; 2]> {
    let documents = written.iter().filter(|file| file.starts_with(start) && file.ends_with(".yaml"));
    documents.map(|file| [(*file).into(), does.into()]).collect()
}

fn table(rows: &[[String; 2]]) -> String {
    let rows: Vec<_> = rows.iter().map(|row| row.to_vec()).collect();
    console::table(&["FILE", "WHAT IT DOES"], &rows)
}

/// What nodes keep of the policy that they have.
pub fn merged(report: &Report) -> String {
    let Some(merged) = &report.merged else { return String::new() };
    let file = escape(&merged.file);
    let default = merged.default.join(" and ");
    let mut text = format!("\nWhat was kept of {file}\n\ndefault\n    {}\n", escape(&default));
    for kept in &merged.kept {
        let scope = if kept.scope.is_empty() { "all of it" } else { &kept.scope };
        text +=
            &format!("{}: {}\n    {}\n", escape(&kept.transport), escape(scope), escape(&kept.demands.join(" and ")));
    }
    for scope in &merged.removed {
        text += &format!("docker: {}\n    no longer there: an earlier hand-over wrote it\n", escape(scope));
    }
    text
}

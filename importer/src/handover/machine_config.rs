//! OpenShift by simple signatures: a MachineConfig for each pool that writes policy.json and registries.d, and its Butane source.
//!
//! The keys are in policy.json itself (`keyData`): a key file anywhere else would have every node drained and rebooted, while
//! for these two places CRI-O is reloaded. A policy that refuses what the platform runs would stop the cluster, so it is written
//! only with what makes that unlikely: rules of the platform, and [`WithOthers`].

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::OutsideText;
use serde_json::{Value, json};

use super::error::HandOverError;
use super::in_use::WithOthers;
use super::yaml;
use crate::config::Ignition;

/// A machine config pool, by the role that its MachineConfigs name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Role(String);

impl std::str::FromStr for Role {
    type Err = HandOverError;
    /// A name as Kubernetes takes it within another one.
    fn from_str(text: &str) -> Result<Self, HandOverError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let good = text.bytes().all(|b| plain(b) || b == b'-')
            && text.bytes().next().is_some_and(plain)
            && text.bytes().last().is_some_and(plain)
            && text.len() <= 63;
        if good { Ok(Self(text.into())) } else { Err(HandOverError::PoolRole(OutsideText::new(text))) }
    }
}

impl Role {
    /// The pools that every cluster has.
    pub fn usual() -> Vec<Self> {
        ["master", "worker"].map(|role| Self(role.into())).to_vec()
    }
}

/// A file on nodes.
pub struct NodeFile<'a> {
    /// Where it lies there.
    pub path: String,
    /// What it holds.
    pub text: &'a str,
}

/// The name of a MachineConfig. Of two that write one file the last one by name counts, and the platform's own are called 99-...:
/// this one is behind them in every pool.
fn name(role: &Role) -> String {
    format!("999-sealift-production-{}", role.0)
}

/// A file of the folder.
pub fn path(role: &Role) -> String {
    format!("openshift/machine-config-{}.yaml", role.0)
}

/// The files, by their names in the folder.
pub fn files(
    roles: &[Role],
    ignition: Ignition,
    on_nodes: &[NodeFile<'_>],
    _accepted: &WithOthers,
) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for role in roles {
        files.insert(path(role), yaml(&machine_config(role, ignition, on_nodes)));
        files.insert(format!("openshift/machine-config-{}.bu", role.0), yaml(&butane(role, ignition, on_nodes)));
    }
    files
}

fn metadata(role: &Role) -> Value {
    json!({ "name": name(role), "labels": { "machineconfiguration.openshift.io/role": role.0 } })
}

/// A file whose content is `contents`; everybody may read it.
fn file(on_node: &NodeFile<'_>, contents: &Value) -> Value {
    json!({ "path": on_node.path, "mode": 0o644, "overwrite": true, "contents": contents })
}

fn machine_config(role: &Role, ignition: Ignition, on_nodes: &[NodeFile<'_>]) -> Value {
    let data = |text: &str| format!("data:text/plain;charset=utf-8;base64,{}", STANDARD.encode(text));
    let files: Vec<Value> =
        on_nodes.iter().map(|on_node| file(on_node, &json!({ "source": data(on_node.text) }))).collect();
    json!({
        "apiVersion": "machineconfiguration.openshift.io/v1",
        "kind": "MachineConfig",
        "metadata": metadata(role),
        "spec": { "config": { "ignition": { "version": ignition.version() }, "storage": { "files": files } } },
    })
}

fn butane(role: &Role, ignition: Ignition, on_nodes: &[NodeFile<'_>]) -> Value {
    let files: Vec<Value> = on_nodes.iter().map(|on_node| file(on_node, &json!({ "inline": on_node.text }))).collect();
    json!({
        "variant": "openshift",
        "version": ignition.butane(),
        "metadata": metadata(role),
        "storage": { "files": files },
    })
}

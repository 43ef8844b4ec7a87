//! Clusters that ask for images by the names of their origin, and get them from production.
//!
//! A pull through a mirror is judged by the name that was asked for (containers/image looks up policy.json's scope by it, and the
//! lookaside by the mirror's). So each origin gets a scope with `remapIdentity`, beside the mirror itself: either alone pulls nothing.

use std::collections::{BTreeMap, BTreeSet};

use manifest_schema::{Repository, Scope};
use serde::Serialize;
use serde_json::{Value, json};
use signing::MovedIdentity;

use super::LeftOut;
use super::places::rest;
use crate::config::Mirrors;
use crate::site::Site;

/// A part of an origin, and where it lies in production.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Mirror {
    /// What is asked for.
    pub origin: Scope,
    /// Where it is pulled from.
    pub production: Scope,
    /// The stream that brings it.
    pub stream: String,
}

impl Mirror {
    /// What signatures of its images say, as nodes have to read it.
    pub fn identity(&self) -> MovedIdentity {
        MovedIdentity::RemapIdentity { prefix: self.origin.to_string(), signed_prefix: self.production.to_string() }
    }
}

/// The mirrors of a site, and the origins that would need two.
pub fn of(site: &Site) -> (Vec<Mirror>, Vec<LeftOut>) {
    let mut places: BTreeMap<&Scope, BTreeSet<&Scope>> = BTreeMap::new();
    let mut streams: BTreeMap<&Scope, Vec<String>> = BTreeMap::new();
    for (stream, rules) in site.all_rules() {
        for mapping in rules.to.mappings.iter().filter(|mapping| mapping.from != mapping.to) {
            places.entry(&mapping.from).or_default().insert(&mapping.to);
            streams.entry(&mapping.from).or_default().push(stream.into());
        }
    }
    let (mut mirrors, mut left_out) = (Vec::new(), Vec::new());
    for (origin, to) in places {
        let streams = streams.remove(origin).unwrap_or_default();
        match to.iter().collect::<Vec<_>>().as_slice() {
            [production] => mirrors.push(Mirror {
                origin: origin.clone(),
                production: (**production).clone(),
                stream: streams.join(", "),
            }),
            several => {
                let several: Vec<_> = several.iter().map(ToString::to_string).collect();
                let reason = format!("no mirror: it lies in {}, and a policy can name one", several.join(" and "));
                left_out.push(LeftOut { scope: Some(origin.to_string()), streams, reason });
            }
        }
    }
    (mirrors, left_out)
}

/// What a repository of production is called where it comes from.
pub fn origins<'m>(mirrors: &'m [Mirror], repository: &'m Repository) -> impl Iterator<Item = String> {
    let name = repository.to_string();
    mirrors.iter().filter_map(move |mirror| {
        let origin = format!("{}{}", mirror.origin, rest(&name, &mirror.production.to_string())?);
        // A mirror of a part of it would take it elsewhere.
        let inside = |other: &Mirror| rest(&origin, &other.origin.to_string()).is_some();
        let longest = mirrors.iter().filter(|other| inside(other)).max_by_key(|other| other.origin.specificity());
        (longest == Some(mirror)).then_some(origin)
    })
}

/// The files, by their names in the folder.
pub fn files(mirrors: &[Mirror], how: Mirrors) -> BTreeMap<String, Vec<u8>> {
    if mirrors.is_empty() {
        return BTreeMap::new();
    }
    let mut files = BTreeMap::from([(CONF.to_string(), registries_conf(mirrors, how).into_bytes())]);
    if matches!(how, Mirrors::Digest | Mirrors::Both) {
        files.insert(DIGESTS.into(), mirror_set("ImageDigestMirrorSet", "imageDigestMirrors", mirrors));
    }
    if matches!(how, Mirrors::Tag | Mirrors::Both) {
        files.insert(TAGS.into(), mirror_set("ImageTagMirrorSet", "imageTagMirrors", mirrors));
    }
    files
}

/// For podman, buildah and skopeo.
pub const CONF: &str = "registries.conf.d/sealift-mirrors.conf";
/// For OpenShift: what is asked for by digest.
pub const DIGESTS: &str = "openshift/image-digest-mirror-set.yaml";
/// For OpenShift: what is asked for by tag.
pub const TAGS: &str = "openshift/image-tag-mirror-set.yaml";

/// `config.openshift.io/v1`. The origin is never asked: nodes behind the gap could not reach it, and it vouches for nothing.
fn mirror_set(kind: &str, member: &str, mirrors: &[Mirror]) -> Vec<u8> {
    let row = |mirror: &Mirror| {
        json!({
            "source": mirror.origin,
            "mirrors": [mirror.production],
            "mirrorSourcePolicy": "NeverContactSource",
        })
    };
    let rows: Vec<Value> = mirrors.iter().map(row).collect();
    super::yaml(&json!({
        "apiVersion": "config.openshift.io/v1",
        "kind": kind,
        "metadata": { "name": "sealift" },
        "spec": { member: rows },
    }))
}

/// containers-registries.conf(5). Scopes are hosts with paths: TOML takes them as they are.
fn registries_conf(mirrors: &[Mirror], how: Mirrors) -> String {
    let pull = match how {
        Mirrors::None | Mirrors::Both => None,
        Mirrors::Digest => Some("digest-only"),
        Mirrors::Tag => Some("tag-only"),
    };
    let mut text = String::new();
    for Mirror { origin, production, .. } in mirrors {
        text += &format!(
            "[[registry]]\nprefix = \"{origin}\"\nlocation = \"{origin}\"\nblocked = true\n\n[[registry.mirror]]\nlocation = \"{production}\"\n"
        );
        text += &pull.map(|pull| format!("pull-from-mirror = \"{pull}\"\n")).unwrap_or_default();
        text.push('\n');
    }
    text
}

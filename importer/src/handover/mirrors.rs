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
use crate::config::{Mapping, Mirrors};
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

/// What stands in for the origins of a site, and what cannot.
#[derive(Debug, Default)]
pub struct Found {
    /// The mirrors.
    pub mirrors: Vec<Mirror>,
    /// Origins that have none: nothing is pulled by their names, though they may lie in an origin that has one.
    pub refused: Vec<Scope>,
    /// Why they have none.
    pub left_out: Vec<LeftOut>,
}

/// The mirrors of a site.
pub fn of(site: &Site) -> Found {
    let mappings: Vec<(&str, &Mapping)> = site
        .all_rules()
        .into_iter()
        .flat_map(|(stream, rules)| rules.to.mappings.iter().map(move |mapping| (stream, mapping)))
        .collect();
    between(&mappings)
}

/// Of these mappings, each with its stream, those that can be said of mirrors: the name that is asked for must lead to one place in
/// production, which no other name leads to, and be no name of production itself.
fn between(mappings: &[(&str, &Mapping)]) -> Found {
    let mut found = Found::default();
    let origins: BTreeSet<&Scope> = mappings.iter().map(|(_, mapping)| &mapping.from).collect();
    for origin in origins {
        let of_origin = || mappings.iter().filter(|(_, mapping)| mapping.from == *origin);
        let streams: BTreeSet<String> = of_origin().map(|(stream, _)| stream.to_string()).collect();
        let places: BTreeSet<&Scope> = of_origin().map(|(_, mapping)| &mapping.to).collect();
        let production = mappings.iter().map(|(_, mapping)| &mapping.to).find(|part| part.overlaps(origin));
        let reason = match (places.iter().collect::<Vec<_>>().as_slice(), production) {
            (_, Some(part)) => format!("no mirror: it is a name of production too ({part})"),
            ([place], None) => match shared(mappings, origin, place) {
                None => {
                    let streams = streams.into_iter().collect::<Vec<_>>().join(", ");
                    let (origin, production) = (origin.clone(), (**place).clone());
                    found.mirrors.push(Mirror { origin, production, stream: streams });
                    continue;
                }
                Some(other) => {
                    format!("no mirror: what comes from {other} lies there too, and signatures do not tell them apart")
                }
            },
            (several, None) => {
                let several: Vec<_> = several.iter().map(ToString::to_string).collect();
                format!("no mirror: it lies in {}, and a name can lead to one", several.join(" and "))
            }
        };
        found.left_out.push(LeftOut {
            scope: Some(origin.to_string()),
            streams: streams.into_iter().collect(),
            reason,
        });
        if production.is_none() {
            found.refused.push(origin.clone());
        }
    }
    found
}

/// Another origin whose images lie in the same part of production, under names that this one may ask for.
fn shared<'m>(mappings: &'m [(&str, &Mapping)], origin: &Scope, place: &Scope) -> Option<&'m Scope> {
    let other = |(_, mapping): &&(&str, &Mapping)| mapping.from != *origin && mapping.to.overlaps(place);
    // A part of the origin that lies where it would lie anyway is no other.
    let is_the_same = |mapping: &Mapping| {
        let (inner, outer) = ((&mapping.from, &mapping.to), (origin, place));
        leads(outer, inner) || leads(inner, outer)
    };
    mappings
        .iter()
        .filter(other)
        .map(|(_, mapping)| mapping)
        .find(|mapping| !is_the_same(mapping))
        .map(|mapping| &mapping.from)
}

/// Whether a mapping takes the origin of another one where that takes it.
fn leads(outer: (&Scope, &Scope), inner: (&Scope, &Scope)) -> bool {
    let (from, to) = (inner.0.to_string(), inner.1.to_string());
    rest(&from, &outer.0.to_string()).is_some_and(|rest| format!("{}{rest}", outer.1) == to)
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
pub fn files(found: &Found, how: Mirrors) -> BTreeMap<String, Vec<u8>> {
    let mirrors = &found.mirrors;
    if mirrors.is_empty() {
        return BTreeMap::new();
    }
    let mut files = BTreeMap::from([(CONF.to_string(), registries_conf(found, how).into_bytes())]);
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
fn registries_conf(found: &Found, how: Mirrors) -> String {
    let pull = match how {
        Mirrors::None | Mirrors::Both => None,
        Mirrors::Digest => Some("digest-only"),
        Mirrors::Tag => Some("tag-only"),
    };
    let mut text = String::new();
    let blocked =
        |origin: &Scope| format!("[[registry]]\nprefix = \"{origin}\"\nlocation = \"{origin}\"\nblocked = true\n\n");
    text.extend(found.refused.iter().map(blocked));
    for Mirror { origin, production, .. } in &found.mirrors {
        text += &blocked(origin);
        text += &format!("[[registry.mirror]]\nlocation = \"{production}\"\n");
        text += &pull.map(|pull| format!("pull-from-mirror = \"{pull}\"\n")).unwrap_or_default();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mappings: &[(&str, &str, &str)]) -> Found {
        let mapping = |(_, from, to): &(&str, &str, &str)| Mapping {
            from: from.parse().expect("a scope"),
            to: to.parse().expect("a scope"),
        };
        let parsed: Vec<Mapping> = mappings.iter().map(mapping).collect();
        between(&mappings.iter().zip(&parsed).map(|((stream, ..), mapping)| (*stream, mapping)).collect::<Vec<_>>())
    }

    fn pairs(found: &Found) -> Vec<(String, String)> {
        found.mirrors.iter().map(|m| (m.origin.to_string(), m.production.to_string())).collect()
    }

    fn names(mirrors: &[Mirror], repository: &str) -> Vec<String> {
        origins(mirrors, &repository.parse().expect("a repository")).collect()
    }

    #[test]
    fn the_longest_origin_decides_where_a_name_leads() {
        let found = found(&[("a", "dev.example", "prod.example/dev"), ("a", "dev.example/x", "prod.example/other")]);
        assert_eq!(found.left_out, []);
        assert_eq!(found.mirrors.len(), 2);
        assert_eq!(names(&found.mirrors, "prod.example/dev/api"), ["dev.example/api"]);
        assert_eq!(names(&found.mirrors, "prod.example/other/api"), ["dev.example/x/api"]);
        // Nobody gets there by this name: the part has a place of its own.
        assert_eq!(names(&found.mirrors, "prod.example/dev/x/api"), [""; 0]);
        assert_eq!(names(&found.mirrors, "elsewhere.example/api"), [""; 0]);
    }

    #[test]
    fn two_origins_in_one_place_do_not_stand_in_for_each_other() {
        for to in ["prod.example/x", "prod.example", "prod.example/x/y"] {
            let found = found(&[("a", "dev.example/a", "prod.example"), ("a", "vendor.example", to)]);
            assert_eq!(pairs(&found), []);
            assert_eq!(found.refused.len(), 2);
            assert!(found.left_out[0].reason.contains("what comes from vendor.example lies there too"), "{found:?}");
        }
        // A part that lies where it would lie anyway is no other origin.
        let part = found(&[("a", "dev.example", "prod.example"), ("b", "dev.example/x", "prod.example/x")]);
        assert_eq!(part.left_out, []);
        assert_eq!(part.mirrors.len(), 2);
    }

    #[test]
    fn an_origin_that_goes_to_two_places_is_refused_also_below_one_that_has_a_mirror() {
        let found = found(&[
            ("a", "dev.example", "prod.example/a"),
            ("b", "dev.example/x", "prod.example/b"),
            ("c", "dev.example/x", "prod.example/c"),
        ]);
        assert_eq!(pairs(&found), [("dev.example".to_string(), "prod.example/a".to_string())]);
        assert_eq!(found.refused, ["dev.example/x".parse().expect("a scope")]);
        assert_eq!(found.left_out[0].streams, ["b", "c"]);
        let conf = registries_conf(&found, Mirrors::Both);
        assert!(
            conf.contains("prefix = \"dev.example/x\"\nlocation = \"dev.example/x\"\nblocked = true\n\n[["),
            "{conf}"
        );
        assert_eq!(conf.matches("[[registry.mirror]]").count(), 1);
    }

    #[test]
    fn a_name_of_production_has_no_mirror() {
        for (from, to) in
            [("r.example/a", "r.example/a/prod"), ("r.example/a/b", "r.example/a"), ("r.example", "r.example")]
        {
            let found = found(&[("a", from, to)]);
            assert_eq!((pairs(&found), &found.refused[..]), (vec![], &[][..]), "production's own scope decides");
            assert!(found.left_out[0].reason.contains("it is a name of production too"), "{found:?}");
        }
    }
}

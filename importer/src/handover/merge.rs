//! The policy that nodes have now, with this site's rules put into it.
//!
//! What answers what:
//!
//! | the file | answer |
//! |---|---|
//! | accepts whatever it does not name | refused until somebody says what becomes of that ([`MergeDefault`]) |
//! | has a rule of its own for a scope of this site | [`HandOverError::PolicyScope`], unless it is the same or an earlier hand-over wrote it |
//! | has a rule for a part of such a scope, which would decide there | [`HandOverError::PolicyPart`], unless it is the same or refuses |
//! | has rules of an earlier hand-over for what is no longer said | taken out; where something wider would accept then, refused |
//! | is read differently by nodes | read as strictly as they do: nothing unknown, nothing twice |

use std::collections::BTreeMap;
use std::path::Path;

use manifest_schema::OutsideText;
use serde::Serialize;
use serde_json::{Map, Value, json};
use signing::{ImagePolicy, PolicyError};

use super::earlier::Earlier;
use super::error::HandOverError;
use super::policy::Requirement;
use crate::config::MergeDefault;
use crate::error::Error;

/// The transport of registries.
const DOCKER: &str = "docker";

/// A policy.json of nodes. Its keys are on the nodes, and were not read.
#[derive(Debug)]
pub struct Present {
    path: OutsideText,
    default: Value,
    transports: BTreeMap<String, BTreeMap<String, Value>>,
}

/// A rule of the file that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// The transport.
    pub transport: String,
    /// The scope; empty for all of the transport.
    pub scope: String,
    /// What it demands: the types of the requirements.
    pub demands: Vec<String>,
}

/// What was put into the file, and what is left of it.
#[derive(Debug, Default, Serialize)]
pub struct MergeReport {
    /// The file.
    pub file: String,
    /// What decides where no scope does: the types of the requirements.
    pub default: Vec<String>,
    /// The rules that stay.
    pub kept: Vec<Kept>,
    /// The scopes of an earlier hand-over that are no longer there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
}

impl MergeReport {
    /// Whether any image of a registry is accepted that no scope names.
    pub fn accepts_anything(&self) -> bool {
        let whole = self.kept.iter().find(|kept| kept.transport == DOCKER && kept.scope.is_empty());
        let demands = whole.map_or(&self.default, |kept| &kept.demands);
        demands.iter().all(|demand| demand == "insecureAcceptAnything")
    }

    /// Whether rules by cosign signatures stay: on OpenShift an image policy of the cluster has written them.
    pub fn has_cosign(&self) -> bool {
        self.kept.iter().any(|kept| kept.demands.iter().any(|demand| demand == "sigstoreSigned"))
    }
}

impl Present {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::ImagePolicy`]; [`HandOverError::ClusterInput`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let bytes = super::read(path)?;
        let failed = |source| Error::ImagePolicy(PolicyError::File { path: path.into(), source: Box::new(source) });
        Self::parse(&bytes, path).map_err(failed)
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Self, PolicyError> {
        ImagePolicy::check_format(bytes)?;
        let unread = |e: serde_json::Error| PolicyError::Json(OutsideText::new(e.to_string()));
        let mut document: Map<String, Value> = serde_json::from_slice(bytes).map_err(unread)?;
        let transports = document.remove("transports").unwrap_or_else(|| json!({}));
        let default = document.remove("default").unwrap_or_else(reject);
        let transports = serde_json::from_value(transports).map_err(unread)?;
        Ok(Self { path: OutsideText::new(path.display().to_string()), default, transports })
    }

    /// Puts rules for registries into it; `earlier` knows what a hand-over before this one wrote.
    ///
    /// # Errors
    /// [`HandOverError::PolicyDefault`], [`HandOverError::PolicyScope`], [`HandOverError::PolicyPart`]; those of reading the ledger.
    pub fn merge(
        mut self,
        ours: &BTreeMap<String, Vec<Requirement>>,
        earlier: &Earlier<'_>,
        default: Option<MergeDefault>,
    ) -> Result<(String, MergeReport), Error> {
        self.decide_default(default)?;
        let theirs = self.transports.remove(DOCKER).unwrap_or_default();
        let mut docker: BTreeMap<String, Value> = BTreeMap::new();
        let mut removed = Vec::new();
        for (scope, rule) in theirs {
            let is_same = |ours: &Vec<Requirement>| rule == json!(ours);
            if let Some(mine) = ours.get(&scope) {
                if !is_same(mine) && !earlier.wrote_instead(&scope, &rule, mine)? {
                    return Err(self.taken(&scope, &rule));
                }
            } else if earlier.wrote(&scope, &rule)? {
                removed.push(scope);
            } else {
                let around = ours.iter().filter(|(outer, _)| is_part(&scope, outer));
                if let Some((outer, mine)) = around.max_by_key(|(outer, _)| outer.len())
                    && !is_same(mine)
                    && !accepts_nothing(&rule)
                {
                    let (file, found) = (self.path.clone(), demands(&rule).join(" and "));
                    let (scope, outer) = (OutsideText::new(&scope), outer.clone());
                    return Err(HandOverError::PolicyPart { file, scope, outer, found }.into());
                }
                docker.insert(scope, rule);
            }
        }
        docker.extend(ours.iter().map(|(scope, rule)| (scope.clone(), json!(rule))));
        for scope in &removed {
            let is_ours = ours.keys().any(|outer| is_part(scope, outer));
            if !is_ours && !accepts_nothing(decides(&docker, &self.default, scope)) {
                docker.insert(scope.clone(), reject());
            }
        }
        self.transports.insert(DOCKER.into(), docker);
        let report = self.report(ours, removed);
        let text = json!({ "default": self.default, "transports": self.transports });
        Ok((format!("{text:#}\n"), report))
    }

    /// What becomes of images that no scope names.
    fn decide_default(&mut self, default: Option<MergeDefault>) -> Result<(), Error> {
        let whole = self.transports.get(DOCKER).and_then(|scopes| scopes.get("")).unwrap_or(&self.default);
        if accepts_nothing(whole) && accepts_nothing(&self.default) {
            return Ok(());
        }
        match default {
            Some(MergeDefault::Keep) => Ok(()),
            Some(MergeDefault::Reject) => {
                self.default = reject();
                self.transports.get_mut(DOCKER).map(|scopes| scopes.remove(""));
                Ok(())
            }
            None => {
                let found = if accepts_nothing(whole) { &self.default } else { whole };
                Err(HandOverError::PolicyDefault { file: self.path.clone(), found: demands(found).join(" and ") }
                    .into())
            }
        }
    }

    fn taken(&self, scope: &str, rule: &Value) -> Error {
        let (file, found) = (self.path.clone(), demands(rule).join(" and "));
        HandOverError::PolicyScope { file, scope: OutsideText::new(scope), found }.into()
    }

    fn report(&self, ours: &BTreeMap<String, Vec<Requirement>>, removed: Vec<String>) -> MergeReport {
        let mut kept = Vec::new();
        for (transport, scopes) in &self.transports {
            let theirs = scopes.iter().filter(|(scope, _)| transport != DOCKER || !ours.contains_key(*scope));
            kept.extend(theirs.map(|(scope, rule)| Kept {
                transport: transport.clone(),
                scope: scope.clone(),
                demands: demands(rule),
            }));
        }
        MergeReport { file: self.path.raw().into(), default: demands(&self.default), kept, removed }
    }
}

fn reject() -> Value {
    json!([{ "type": "reject" }])
}

/// The types of the requirements.
fn demands(rule: &Value) -> Vec<String> {
    let kind = |requirement: &Value| requirement["type"].as_str().unwrap_or_default().to_string();
    rule.as_array().into_iter().flatten().map(kind).collect()
}

/// All requirements must be met, and `reject` never is.
fn accepts_nothing(rule: &Value) -> bool {
    demands(rule).iter().any(|demand| demand == "reject")
}

/// Whether a scope is about a part of what another one is about. A host's `:` begins a port, so that is another host.
pub(super) fn is_part(scope: &str, outer: &str) -> bool {
    let rest = scope.strip_prefix(outer).unwrap_or_default();
    rest.starts_with('/') || (outer.contains('/') && rest.starts_with([':', '@']))
}

/// The rule that decides about a scope that has none of its own.
fn decides<'r>(docker: &'r BTreeMap<String, Value>, default: &'r Value, scope: &str) -> &'r Value {
    let outer = docker.iter().filter(|(outer, _)| is_part(scope, outer)).max_by_key(|(outer, _)| outer.len());
    let host = scope.split(['/', ':']).next().unwrap_or_default();
    let wildcards = docker.iter().filter(|(name, _)| name.strip_prefix('*').is_some_and(|end| host.ends_with(end)));
    let found = outer.or_else(|| wildcards.max_by_key(|(name, _)| name.len())).map(|(_, rule)| rule);
    found.or_else(|| docker.get("")).unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_scope_decides_then_a_wildcard_then_the_whole() {
        let anything = json!([{ "type": "insecureAcceptAnything" }]);
        let mut docker = BTreeMap::from([
            ("a.example".to_string(), anything.clone()),
            ("a.example/x".to_string(), reject()),
            ("*.example".to_string(), reject()),
            ("*.b.example".to_string(), anything.clone()),
            (String::new(), anything),
        ]);
        let refused =
            |docker: &BTreeMap<String, Value>, scope: &str| accepts_nothing(decides(docker, &reject(), scope));
        for (scope, is_refused) in [
            ("a.example/x/y", true),
            ("a.example/x:1", true),
            ("a.example/xy", false),
            ("a.example:5000/z", true),
            ("c.example/z", true),
            ("c.b.example:5000/z", false),
            ("a.test/z", false),
        ] {
            assert_eq!(refused(&docker, scope), is_refused, "{scope}");
        }
        docker.remove("");
        assert!(refused(&docker, "a.test/z"), "the default");
    }
}

//! For clusters that pull from the staging registry: they accept what the image policies of the streams accept at the origin, by
//! the signatures that images had there, and nothing else.
//!
//! What answers what:
//!
//! | somebody | answer |
//! |---|---|
//! | puts an image of their own into staging | [`NodePolicy`]: refused by default; every scope has the origin's demands |
//! | puts a signed image where the stream does not bring it | `remapIdentity`: the signature must name the origin that lands there |
//! | has a key for one part of the origin, and uses it for another | [`Places::scopes`]: the demands change where those of the origin do; where no image lands, `reject` |
//! | lets images of two origins land in one place | no policy can say both: `reject`, and it is told |
//! | demands what no other name can be asked for | [`Unmovable`](signing::Unmovable): `reject`, and it is told |
//! | exchanges a key file while this runs | the bytes that the policy was read with are the ones that are copied |

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use manifest_schema::{Reference, Scope};
use signing::{Demand, ImagePolicy, Moved};

use super::places::{Line, Places, rest};
use super::policy::{Keys, NodePolicy, Requirement};
use super::registries_d::{self, Section, Urls};
use super::{LeftOut, Made, OriginRow, Report, ScopeRow, node_folder, readme};
use crate::config::Mapping;
use crate::error::Error;
use crate::site::{Site, Staging};

/// Makes the files. `key_dir` is where the keys will lie on the nodes.
///
/// # Errors
/// [`Error::NoStaging`], [`super::HandOverError::KeyDir`], and those of [`Urls::of`].
pub fn make(site: &Site, key_dir: &Path, urls: &Urls) -> Result<Made, Error> {
    let staging = site.staging().ok_or(Error::NoStaging)?;
    let key_dir = node_folder(key_dir)?;
    let streams: Vec<Stream<'_>> = site
        .all_rules()
        .into_iter()
        .map(|(name, rules)| Stream {
            name,
            images: rules.images.as_ref(),
            origins: rules.origins.as_deref(),
            to: &rules.to.mappings,
            releases: &rules.releases,
        })
        .collect();
    let mut made = rules(&streams, &staging.to.mappings, Keys::new(&key_dir));
    let sections = sections(staging, urls, &made.scopes)?;
    made.left_out.extend(streams.iter().flat_map(Stream::releases));
    let mut files = BTreeMap::from([
        ("policy.json".to_string(), made.policy_json()),
        ("registries.d/sealift-staging.yaml".to_string(), registries_d::text(&sections).into_bytes()),
    ]);
    files.extend(made.keys.files().map(|(name, bytes)| (format!("keys/{name}"), bytes.to_vec())));
    let Rules { scopes, left_out, keys, .. } = made;
    let report = Report { key_dir, scopes, keys: keys.rows(), lookaside: sections, left_out, ..Report::default() };
    files.insert("README.txt".into(), readme::staging(&report).into_bytes());
    Ok(Made { files, report })
}

/// A stream, as far as it matters here.
#[derive(Debug)]
pub(super) struct Stream<'a> {
    pub name: &'a str,
    pub images: Option<&'a ImagePolicy>,
    pub origins: Option<&'a [Scope]>,
    pub to: &'a [Mapping],
    pub releases: &'a [Scope],
}

impl<'a> Stream<'a> {
    fn line(&self) -> Line<'a> {
        let names = self.images.map(ImagePolicy::docker_names).unwrap_or_default();
        Line { origins: self.origins, to: self.to, names }
    }

    /// Images that are received without signatures of their own.
    fn releases(&self) -> Option<LeftOut> {
        let of: Vec<_> = self.releases.iter().map(ToString::to_string).collect();
        let reason = format!("images that a release image of {} lists have no signatures of their own", of.join(", "));
        let listed = self.images.is_some() && !of.is_empty();
        listed.then(|| LeftOut { scope: None, streams: vec![self.name.into()], reason })
    }
}

/// What the policy says.
#[derive(Debug)]
pub(super) struct Rules {
    docker: BTreeMap<String, Vec<Requirement>>,
    pub scopes: Vec<ScopeRow>,
    pub left_out: Vec<LeftOut>,
    pub keys: Keys,
}

impl Rules {
    pub fn policy_json(&self) -> Vec<u8> {
        NodePolicy::new(&self.docker).to_text().into_bytes()
    }
}

/// What is demanded at one name, by the origins whose images lie there.
struct Said<'a> {
    demands: Vec<Demand<'a>>,
    origins: Vec<OriginRow>,
    /// Why what an origin demands is not said.
    reason: Option<String>,
}

pub(super) fn rules(streams: &[Stream<'_>], staging: &[Mapping], mut keys: Keys) -> Rules {
    let places = Places::new(streams.iter().map(Stream::line).collect(), staging);
    let mut points: Vec<(String, bool, Said<'_>)> = Vec::new();
    for (scope, named) in places.scopes() {
        let moved = |(n, origin): (usize, Scope)| {
            let stream: &Stream<'_> = &streams[n];
            (stream, origin.to_string(), stream.images.map(|policy| policy.moved(&origin, &scope)))
        };
        let said = Said::of(places.origins(&scope).into_iter().map(moved).collect());
        points.push((scope.to_string(), named, said));
    }
    for image in places.images() {
        let moved = |(n, origin): (usize, Reference)| {
            let stream: &Stream<'_> = &streams[n];
            let moved = stream.images.map(|policy| policy.moved_image(&origin, image.repository()));
            (stream, origin.to_string(), moved)
        };
        let said = Said::of(places.origins_of_image(&image).into_iter().map(moved).collect());
        points.push((image.to_string(), true, said));
    }
    // What encloses something comes before it.
    points.sort_by_key(|(name, ..)| name.len());
    let (mut docker, mut scopes, mut left_out) = (BTreeMap::new(), Vec::new(), Vec::new());
    let mut kept: Vec<(&str, &Said<'_>)> = Vec::new();
    for (n, (name, named, said)) in points.iter().enumerate() {
        let around = points[..n].iter().rev().find(|(outer, ..)| encloses(outer, name)).map(|(.., said)| said);
        if let Some(reason) = said.reason.as_ref().filter(|_| around.is_none_or(|around| !around.is_left_out_as(said)))
        {
            left_out.push(LeftOut { scope: Some(name.clone()), streams: said.streams(), reason: reason.clone() });
        }
        let outer = kept.iter().rev().find(|(outer, _)| encloses(outer, name));
        let is_refused_anyway = said.refuses() && outer.is_none_or(|(_, outer)| outer.refuses());
        // What a policy says stands there all the same.
        let by_a_policy = *named && said.origins.iter().any(|origin| origin.policy.is_some());
        if is_refused_anyway && !by_a_policy {
            continue;
        }
        kept.push((name, said));
        let requirements: Vec<Requirement> = said.demands.iter().map(|demand| keys.requirement(demand)).collect();
        scopes.push(said.row(name, &requirements));
        docker.insert(name.clone(), requirements);
    }
    scopes.sort_by(|a, b| a.scope.cmp(&b.scope));
    left_out.sort_by(|a, b| a.scope.cmp(&b.scope));
    for (line, stream) in streams.iter().enumerate() {
        for (_, mapping) in stream.to.iter().enumerate().filter(|(n, _)| !places.has_place(line, *n)) {
            let reason = format!("what comes from {} has no place in staging", mapping.from);
            left_out.push(LeftOut { scope: None, streams: vec![stream.name.into()], reason });
        }
    }
    Rules { docker, scopes, left_out, keys }
}

/// Whether a name lies below another one; an image lies below its repository.
fn encloses(outer: &str, name: &str) -> bool {
    outer != name && (rest(name, outer).is_some() || repository_of(name).is_some_and(|r| rest(r, outer).is_some()))
}

/// The repository of a reference; of a scope, nothing.
fn repository_of(name: &str) -> Option<&str> {
    let image: Reference = name.parse().ok()?;
    name.get(..image.repository().to_string().len())
}

impl<'a> Said<'a> {
    /// From each origin, with what its policy demands there.
    fn of(candidates: Vec<(&Stream<'a>, String, Option<Moved<'a>>)>) -> Self {
        let mut origins = Vec::new();
        let mut all: Vec<Result<Vec<Demand<'a>>, String>> = Vec::new();
        for (stream, origin, moved) in candidates {
            let row = |policy| OriginRow { stream: stream.name.into(), origin, policy };
            let (row, demands) = match moved {
                Some(Moved { scope, demands }) => (row(Some(scope)), demands.map_err(|e| e.to_string())),
                None => (
                    row(None),
                    Err("the stream has no image policy (`images:`), so nothing says whose signatures count".into()),
                ),
            };
            origins.push(row);
            if !all.contains(&demands) {
                all.push(demands);
            }
        }
        let (demands, reason) = match all.len() {
            0 => (vec![Demand::Reject], None),
            1 => match all.remove(0) {
                Ok(demands) => (demands, None),
                Err(reason) => (vec![Demand::Reject], Some(reason)),
            },
            _ => {
                let of: Vec<_> = origins.iter().map(|row| format!("{} ({})", row.origin, row.stream)).collect();
                let reason = format!("images of {} lie there, and no policy can say both", of.join(" and "));
                (vec![Demand::Reject], Some(reason))
            }
        };
        Self { demands, origins, reason }
    }

    fn refuses(&self) -> bool {
        self.demands.contains(&Demand::Reject)
    }

    fn streams(&self) -> Vec<String> {
        let streams: BTreeSet<_> = self.origins.iter().map(|row| row.stream.clone()).collect();
        streams.into_iter().collect()
    }

    /// Whether this is said already where something else would be said.
    fn is_left_out_as(&self, other: &Self) -> bool {
        self.reason == other.reason && self.streams() == other.streams()
    }

    fn row(&self, scope: &str, requirements: &[Requirement]) -> ScopeRow {
        ScopeRow {
            scope: scope.into(),
            demands: requirements.iter().map(Requirement::kind).collect(),
            identities: requirements.iter().filter_map(|r| r.identity().cloned()).collect(),
            origins: self.origins.clone(),
        }
    }
}

/// Where the signatures of each part of the staging registry lie.
fn sections(staging: &Staging, urls: &Urls, scopes: &[ScopeRow]) -> Result<Vec<Section>, Error> {
    let parts: BTreeSet<&Scope> = staging.to.mappings.iter().map(|mapping| &mapping.to).collect();
    let registries: BTreeSet<&str> = parts.iter().map(|part| part.registry()).collect();
    let registries: Vec<&str> = registries.into_iter().collect();
    let urls = urls.of(&registries, |registry| staging.root(registry))?;
    let of: BTreeMap<&str, String> = registries.into_iter().zip(urls).collect();
    let sigstore = |part: &str| {
        let touches = |name: &str| name == part || encloses(part, name) || encloses(name, part);
        scopes.iter().any(|row| row.demands.contains(&"sigstoreSigned") && touches(&row.scope))
    };
    let section = |part: &Scope| {
        let scope = part.to_string();
        let lookaside = of.get(part.registry()).cloned();
        lookaside.map(|lookaside| Section { use_sigstore_attachments: sigstore(&scope), scope, lookaside })
    };
    Ok(parts.into_iter().filter_map(section).collect())
}

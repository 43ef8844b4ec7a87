//! Where the name spaces of origins lie in the staging registry.
//!
//! A stream's `to:` leads from the origin to production, and `staging: to:` from there to staging; in each the longest matching
//! `from` decides. So a part of staging holds images of one part of an origin, of several, or none, and this changes at a
//! bounded number of names ([`Places::scopes`]): below such a name, up to the next one, it is the same for all repositories.

use std::collections::{BTreeMap, BTreeSet};

use manifest_schema::{Reference, Scope};

use crate::config::Mapping;

/// What a stream has to do with names.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    /// Where its images may come from; anywhere if `None`.
    pub origins: Option<&'a [Scope]>,
    /// From origin to production.
    pub to: &'a [Mapping],
    /// The names that its image policy has.
    pub names: Vec<&'a str>,
}

/// Streams, and where their images lie in staging.
#[derive(Debug)]
pub struct Places<'a> {
    lines: Vec<Line<'a>>,
    staging: &'a [Mapping],
    ways: Vec<Way>,
}

/// All that goes through one mapping of a stream and one of staging, unless a longer one takes it.
#[derive(Debug)]
struct Way {
    line: usize,
    /// Which mappings: the stream's, and staging's.
    through: (usize, usize),
    from: String,
    to: String,
}

impl<'a> Places<'a> {
    /// The places of these streams.
    pub fn new(lines: Vec<Line<'a>>, staging: &'a [Mapping]) -> Self {
        let mut ways = Vec::new();
        for (line, of) in lines.iter().enumerate() {
            for (m, mapping) in of.to.iter().enumerate() {
                for (n, stage) in staging.iter().enumerate() {
                    let [origin, production, waits, staged] =
                        [&mapping.from, &mapping.to, &stage.from, &stage.to].map(ToString::to_string);
                    let (from, to) = match (rest(&production, &waits), rest(&waits, &production)) {
                        (Some(rest), _) => (origin, staged + rest),
                        // Only a part of what the stream brings lands there.
                        (None, Some(rest)) => (origin + rest, staged),
                        (None, None) => continue,
                    };
                    ways.push(Way { line, through: (m, n), from, to });
                }
            }
        }
        Self { lines, staging, ways }
    }

    /// The names in staging at which something may change; with `true` those where the images of a stream's mapping begin, or
    /// that a policy names.
    pub fn scopes(&self) -> BTreeMap<Scope, bool> {
        let mut scopes = BTreeMap::new();
        let mut add = |name: String, named: bool| {
            if let Ok(scope) = name.parse() {
                *scopes.entry(scope).or_insert(false) |= named;
            }
        };
        for way in &self.ways {
            let line = &self.lines[way.line];
            add(way.to.clone(), true);
            for name in &line.names {
                way.place(name).into_iter().for_each(|name| add(name, true));
            }
            let mappings = line.to.iter().map(|mapping| mapping.from.to_string());
            let origins = line.origins.unwrap_or_default().iter().map(ToString::to_string);
            let others = self.ways.iter().filter(|other| other.line == way.line).map(|other| other.from.clone());
            for name in mappings.chain(origins).chain(others) {
                way.place(&name).into_iter().for_each(|name| add(name, false));
            }
        }
        scopes
    }

    /// The parts of origins whose images lie in a part of staging, each with the number of its stream.
    pub fn origins(&self, scope: &Scope) -> Vec<(usize, Scope)> {
        let origin = |name: String| name.parse().ok();
        self.origins_of(&scope.to_string()).filter_map(|(line, name)| Some((line, origin(name)?))).collect()
    }

    /// The single images in staging that a policy names at their origin.
    pub fn images(&self) -> BTreeSet<Reference> {
        let mut images = BTreeSet::new();
        for way in &self.ways {
            for image in self.lines[way.line].names.iter().filter_map(|name| single(name)) {
                let place = way.place(&image.repository().to_string()).and_then(|name| name.parse().ok());
                images.extend(place.map(|repository| image.in_repository(repository)));
            }
        }
        images
    }

    /// What single images in staging are called at their origins, each with the number of its stream.
    pub fn origins_of_image(&self, image: &Reference) -> Vec<(usize, Reference)> {
        let origin = |name: String| name.parse().ok().map(|repository| image.in_repository(repository));
        let name = image.repository().to_string();
        self.origins_of(&name).filter_map(|(line, name)| Some((line, origin(name)?))).collect()
    }

    /// Whether anything that goes through a mapping of a stream has a place in staging.
    pub fn has_place(&self, line: usize, mapping: usize) -> bool {
        self.ways.iter().any(|way| way.line == line && way.through.0 == mapping)
    }

    fn origins_of(&self, name: &str) -> impl Iterator<Item = (usize, String)> {
        self.ways.iter().filter_map(move |way| {
            let origin = format!("{}{}", way.from, rest(name, &way.to)?);
            let line = &self.lines[way.line];
            let may = line.origins.is_none_or(|origins| origins.iter().any(|o| is_below(&origin, o)));
            (may && self.through(line, &origin) == Some(way.through)).then_some((way.line, origin))
        })
    }

    /// The mappings that take a part of an origin to staging.
    fn through(&self, line: &Line<'_>, origin: &str) -> Option<(usize, usize)> {
        let m = longest(line.to, origin)?;
        let mapping = &line.to[m];
        let production = format!("{}{}", mapping.to, rest(origin, &mapping.from.to_string())?);
        Some((m, longest(self.staging, &production)?))
    }
}

impl Way {
    /// Where a part of the origin would lie.
    fn place(&self, origin: &str) -> Option<String> {
        Some(format!("{}{}", self.to, rest(origin, &self.from)?))
    }
}

/// The mapping that decides, as in [`Rules`](crate::destination::Rules): the longest, and the last of two alike.
fn longest(mappings: &[Mapping], name: &str) -> Option<usize> {
    let matching = mappings.iter().enumerate().filter(|(_, mapping)| is_below(name, &mapping.from));
    matching.max_by_key(|(_, mapping)| mapping.from.specificity()).map(|(n, _)| n)
}

fn is_below(name: &str, scope: &Scope) -> bool {
    rest(name, &scope.to_string()).is_some()
}

/// What a name has behind a scope that it lies in: nothing, or a path with its `/`.
pub(super) fn rest<'n>(name: &'n str, scope: &str) -> Option<&'n str> {
    name.strip_prefix(scope).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A policy's scope that is one tag or one digest. With both it is never meant, nor is one that is not written in full.
fn single(name: &str) -> Option<Reference> {
    let image: Reference = name.parse().ok()?;
    let full = Reference::parse_normalized(name).is_ok_and(|normalized| normalized == image);
    (full && image.tag().is_some() != image.digest().is_some()).then_some(image)
}

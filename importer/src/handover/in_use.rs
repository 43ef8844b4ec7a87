//! The images that clusters run, judged by the policy that they are to get: a policy that refuses one of them would stop it, or
//! the platform itself, when its node comes back.

use std::path::{Path, PathBuf};

use commands::settings;
use manifest_schema::text::escape;
use manifest_schema::{OutsideText, Reference, Scope};
use registry::source::SourceRef;
use serde::Serialize;
use signing::{ImagePolicy, PolicyError};

use super::error::HandOverError;
use super::mirrors::Mirror;
use super::places::rest;
use super::read;
use crate::error::Error;
use crate::site::Site;
use crate::trust::{Cluster, Counted, ImageVerdict};

/// What nodes would judge by.
pub struct Nodes<'a> {
    /// The file whose rules were kept.
    pub merged: Option<&'a Path>,
    /// policy.json
    pub policy: &'a [u8],
    /// What is written for registries.d: the name of the file, and its text.
    pub registries_d: (&'a str, &'a [u8]),
    /// What else nodes have there.
    pub others: &'a [PathBuf],
    /// What production stands in for.
    pub mirrors: &'a [Mirror],
    /// The parts of production.
    pub parts: &'a [(&'a Scope, &'a str)],
}

impl Nodes<'_> {
    /// Whether an image has a name that this site vouches for.
    fn is_ours(&self, image: &Reference) -> bool {
        let parts = self.parts.iter().map(|(part, _)| *part).chain(self.mirrors.iter().map(|mirror| &mirror.origin));
        parts.into_iter().any(|part| part.contains(image.repository()))
    }
}

/// Images in use, all of them accepted by the policy: nothing else makes one of these.
#[derive(Debug, Clone, Serialize)]
#[must_use]
pub struct Accepted {
    /// The list.
    pub file: OutsideText,
    /// The images, and what they were judged by.
    pub images: Vec<Judged>,
    /// How many of them are not this site's: the platform's, where the list has them.
    pub others: usize,
}

/// Images in use, some of them of others: the policy was tried with more than what production signs.
#[derive(Debug)]
#[must_use]
pub struct WithOthers(());

impl Accepted {
    /// What a MachineConfig is written with.
    ///
    /// # Errors
    /// [`HandOverError::OnlyOwnImages`].
    pub fn with_others(&self) -> Result<WithOthers, HandOverError> {
        match self.others {
            0 => Err(HandOverError::OnlyOwnImages { file: self.file.clone(), images: self.images.len() }),
            _ => Ok(WithOthers(())),
        }
    }
}

/// An image that is accepted.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    /// As it is listed.
    pub image: String,
    /// Its digest.
    pub digest: String,
    /// The parts of the policy that decide.
    pub rules: Vec<String>,
}

/// One line of the list.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// What clusters call it.
    image: Reference,
    /// Where it is.
    at: Reference,
}

/// Judges a list of images.
///
/// # Errors
/// [`HandOverError::ImagesInUse`] names those that are refused; [`HandOverError::ImagesInUseList`]; [`HandOverError::ImageInUse`] if one cannot be read.
pub fn judge(list: &Path, nodes: &Nodes<'_>, site: &Site) -> Result<Accepted, Error> {
    let file = OutsideText::new(list.display().to_string());
    let lines = lines(&read(list)?, &file, nodes.mirrors)?;
    let cluster = cluster(nodes, site)?;
    let (mut images, mut refused) = (Vec::new(), Vec::new());
    for Line { image, at } in &lines {
        let failed = |source| HandOverError::ImageInUse { image: image.to_string(), source: Box::new(source) };
        let asked: SourceRef = at.to_string().parse().map_err(|e| failed(Error::SourceRef(e)))?;
        let verdict = cluster.image_as(&asked, Some(image), &site.registries).map_err(failed)?;
        match verdict.accepted {
            true => images.push(judged(image, &verdict)),
            false => refused.push(format!("{image} ({})", why(&verdict))),
        }
    }
    match refused.is_empty() {
        true => Ok(Accepted { file, images, others: lines.iter().filter(|line| !nodes.is_ours(&line.image)).count() }),
        false => Err(HandOverError::ImagesInUse { file, all: lines.len(), refused }.into()),
    }
}

/// One image a line, and behind it where it is, if that is elsewhere; what production stands in for is found there.
fn lines(bytes: &[u8], file: &OutsideText, mirrors: &[Mirror]) -> Result<Vec<Line>, Error> {
    let wrong = |line: usize, reason: String| HandOverError::ImagesInUseList { file: file.clone(), line, reason };
    let text = std::str::from_utf8(bytes).map_err(|e| wrong(0, e.to_string()))?;
    let mut found = Vec::new();
    for (n, line) in (1..).zip(text.lines()) {
        let reference =
            |text: &str| Reference::parse_normalized(text).map_err(|e| wrong(n, format!("`{}`: {e}", escape(text))));
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let (image, at) = match words.as_slice() {
            [] => continue,
            [image] => (reference(image)?, None),
            [image, at] => (reference(image)?, Some(reference(at)?)),
            _ => return Err(wrong(n, "expected IMAGE, or IMAGE and where it is".into()).into()),
        };
        let at = at.unwrap_or_else(|| mirrored(&image, mirrors));
        found.push(Line { image, at });
    }
    // What nobody asked about was not accepted.
    if found.is_empty() { Err(wrong(0, "it lists no image".into()).into()) } else { Ok(found) }
}

/// Where nodes get an image: from production, if that stands in for its origin.
fn mirrored(image: &Reference, mirrors: &[Mirror]) -> Reference {
    let name = image.repository().to_string();
    let inside = |mirror: &&Mirror| rest(&name, &mirror.origin.to_string()).is_some();
    let Some(mirror) = mirrors.iter().filter(inside).max_by_key(|mirror| mirror.origin.specificity()) else {
        return image.clone();
    };
    let rest = rest(&name, &mirror.origin.to_string()).unwrap_or_default();
    match format!("{}{rest}", mirror.production).parse() {
        Ok(repository) => image.in_repository(repository),
        Err(_) => image.clone(),
    }
}

fn cluster(nodes: &Nodes<'_>, site: &Site) -> Result<Cluster, Error> {
    let folder =
        tempfile::tempdir().map_err(|source| HandOverError::HandOver { path: std::env::temp_dir(), source })?;
    let (name, bytes) = nodes.registries_d;
    let put = |name: &Path, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).map_err(|source| HandOverError::HandOver { path, source })
    };
    put(Path::new(name), bytes)?;
    // As on the nodes: in the place of the file that a hand-over before this one wrote.
    for others in nodes.others {
        let failed = |source| HandOverError::ClusterFolder { path: others.clone(), source };
        for entry in std::fs::read_dir(others).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let file = Path::new(path.file_name().unwrap_or_default());
            if path.extension().is_some_and(|ending| ending == "yaml") && file != Path::new(name) {
                put(file, &read(&path)?)?;
            }
        }
    }
    let registries_d = settings::registries_d(&[folder.path().into()])?;
    let failed = |source: PolicyError| {
        let file = nodes.merged.unwrap_or(Path::new("policy.json")).display().to_string();
        HandOverError::NodePolicy { file: OutsideText::new(file), source: Box::new(source) }
    };
    let policy = ImagePolicy::parse(nodes.policy, Path::new("/etc/containers")).map_err(failed)?;
    Ok(Cluster { policy, registries_d, counted: Counted::default(), now: site.now })
}

fn judged(image: &Reference, verdict: &ImageVerdict) -> Judged {
    let rule = |scope: &str, requirement: &str| format!("{scope}: {requirement}");
    let mut rules: Vec<String> = verdict
        .counted()
        .filter_map(|manifest| manifest.verdict.as_ref())
        .flat_map(|verdict| verdict.requirements.iter().map(|r| rule(&verdict.scope, &r.requirement)))
        .collect();
    rules.sort();
    rules.dedup();
    Judged { image: image.to_string(), digest: verdict.digest.to_string(), rules }
}

/// Why an image is refused: what its first manifest that is says.
fn why(verdict: &ImageVerdict) -> String {
    let refused = verdict.counted().filter_map(|m| m.verdict.as_ref()).find(|verdict| !verdict.accepted);
    let Some(refused) = refused else { return "it has a manifest that is not there".into() };
    let first = refused.requirements.iter().find(|requirement| !requirement.accepted);
    let first = first.map(|r| format!("{}: {}", r.requirement, r.reasons.join("; "))).unwrap_or_default();
    format!("{}: {first}", refused.scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_say_what_images_are_called_and_where_they_are() {
        let mirror = |origin: &str, production: &str| Mirror {
            origin: origin.parse().expect("a scope"),
            production: production.parse().expect("a scope"),
            stream: "a".into(),
        };
        let mirrors = [mirror("dev.example/x", "prod.example/y"), mirror("dev.example", "prod.example/dev")];
        let file = OutsideText::new("list");
        let read = |text: &str| -> Result<Vec<String>, String> {
            let lines = lines(text.as_bytes(), &file, &mirrors).map_err(|e| e.to_string())?;
            Ok(lines.iter().map(|line| format!("{} {}", line.image, line.at)).collect())
        };
        assert_eq!(
            read(
                "# a comment\n\ndev.example/a:1 # in use\ndev.example/x/b:2\nq.example/r:3  m.example/r:3\nz.example/c:4\n"
            ),
            Ok([
                "dev.example/a:1 prod.example/dev/a:1",
                "dev.example/x/b:2 prod.example/y/b:2",
                "q.example/r:3 m.example/r:3",
                "z.example/c:4 z.example/c:4",
            ]
            .map(String::from)
            .to_vec())
        );
        let refused = |text: &str| read(text).map(|_| ()).expect_err(text);
        assert!(refused("# nothing\n").contains("it lists no image"));
        assert!(refused("\na b c\n").contains("list, line 2: expected IMAGE"));
        assert!(refused("dev.example/A:1").contains("list, line 1: `dev.example/A:1`"));
    }
}

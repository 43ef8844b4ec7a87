//! What a person asked for, and what the image found there is called.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use manifest_schema::digest::DigestError;
use manifest_schema::reference::ReferenceError;
use manifest_schema::text::{escape, is_unprintable};
use manifest_schema::{Digest, OutsideText, Reference, Repository, TagRef};

use super::error::SourceError;

/// Where an image is and how it is read there (containers-transports(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// A registry: `docker://`, and what has no transport.
    Docker,
    /// An OCI image layout in a folder: `oci:`.
    Oci,
    /// A tar archive of an OCI image layout: `oci-archive:`.
    OciArchive,
    /// skopeo's folder of a manifest and blobs: `dir:`.
    Dir,
    /// What `docker save` writes, of today or of old: `docker-archive:`.
    DockerArchive,
}

impl Transport {
    const FILES: [Transport; 4] = [Transport::Oci, Transport::OciArchive, Transport::DockerArchive, Transport::Dir];

    /// How it is written before a reference, with its colon.
    pub fn prefix(self) -> &'static str {
        match self {
            Transport::Docker => "docker://",
            Transport::Oci => "oci:",
            Transport::OciArchive => "oci-archive:",
            Transport::Dir => "dir:",
            Transport::DockerArchive => "docker-archive:",
        }
    }
}

/// Transports of other tools that are not read here. `docker:` is none of them: there is an image of that name.
const OTHER_TRANSPORTS: [&str; 6] = ["docker-daemon:", "containers-storage:", "ostree:", "sif:", "tarball:", "atomic:"];

/// The text does not say which image is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceRefError {
    /// Characters that would not simply appear, so that the text can be shown as it is.
    #[error("`{}` has characters that cannot be printed", escape(.0))]
    Unprintable(String),
    /// A transport that is not read.
    #[error("`{}`: expected docker://, oci:, oci-archive:, docker-archive: or dir:", escape(.0))]
    Transport(String),
    /// Not an image reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// No folder or file.
    #[error("`{}` names no folder or file", escape(.0))]
    Path(String),
    /// A name given with `=` where it cannot be given, or not a full reference.
    #[error("`{}`: {reason}", escape(.text))]
    Name {
        /// What was given.
        text: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// Not a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// What follows `:@` is not a number.
    #[error("`{}`: expected the position of an image, such as :@0", escape(.0))]
    Position(String),
}

/// What a person asked for:
///
/// - `docker://r.example/x:1`, `r.example/x@sha256:…`, `busybox` (filled in as the Docker client does);
/// - `oci:folder`, `oci:folder:name`, `oci:folder@sha256:…`, `oci:folder:@sha256:…`;
/// - `oci-archive:file` in the same forms;
/// - `docker-archive:file`, `docker-archive:file:busybox:1`, `docker-archive:file:@0` (counted from 0);
/// - `dir:folder`, `dir:folder@sha256:…` (the image, or one of its instances).
///
/// `=r.example/x:1` at the end of all but the first names what has no full name, or another name than it should have.
/// The path ends at the first colon, as in containers/image, but after `dir:`, where no name can follow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceRef {
    text: String,
    pub(super) target: Target,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Target {
    Registry(Reference),
    File { transport: Transport, path: PathBuf, wanted: Wanted },
}

/// Which image of a layout or an archive is wanted, and how it is to be called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    /// A name; for a docker archive the whole reference.
    pub(crate) name: Option<String>,
    pub(crate) digest: Option<Digest>,
    /// The position in the archive's list, from 0.
    pub(crate) position: Option<usize>,
    /// What follows `=`.
    pub(crate) called: Option<TagRef>,
}

impl Wanted {
    /// What was asked for, for a message.
    pub(crate) fn shown(&self) -> OutsideText {
        let mut text = self.name.clone().unwrap_or_default();
        if let Some(digest) = &self.digest {
            text = format!("{text}@{digest}");
        }
        if let Some(position) = self.position {
            text = format!("@{position}");
        }
        OutsideText::new(text)
    }

    /// Whether an entry with these names has the wanted one.
    pub(crate) fn names(&self, names: &[String], digest: &Digest) -> bool {
        let Some(wanted) = &self.name else { return true };
        let pinned = self.digest.map(|_| format!("{wanted}@{digest}"));
        names.iter().any(|name| name == wanted || Some(name) == pinned.as_ref())
    }
}

impl SourceRef {
    /// Where the image is and how it is read there.
    pub fn transport(&self) -> Transport {
        match &self.target {
            Target::Registry(_) => Transport::Docker,
            Target::File { transport, .. } => *transport,
        }
    }

    /// The reference, if the image is in a registry.
    pub fn reference(&self) -> Option<&Reference> {
        match &self.target {
            Target::Registry(reference) => Some(reference),
            Target::File { .. } => None,
        }
    }

    /// The folder or archive, if the image is in one.
    pub fn path(&self) -> Option<&Path> {
        match &self.target {
            Target::Registry(_) => None,
            Target::File { path, .. } => Some(path),
        }
    }

    /// The name given with `=`.
    pub fn called(&self) -> Option<&TagRef> {
        match &self.target {
            Target::Registry(_) => None,
            Target::File { wanted, .. } => wanted.called.as_ref(),
        }
    }

    /// The same image with its digest pinned and its name, `origin`, as it is. An image of a docker archive has no digest
    /// before it is read, and is returned as it is.
    pub fn pinned(&self, digest: &Digest, origin: &Reference) -> SourceRef {
        match &self.target {
            Target::Registry(reference) => {
                let pinned = reference.with_digest(*digest);
                Self { text: format!("{}{pinned}", Transport::Docker.prefix()), target: Target::Registry(pinned) }
            }
            Target::File { transport: Transport::DockerArchive, .. } => self.clone(),
            Target::File { transport, path, wanted } => {
                let name = origin.tag().filter(|_| wanted.digest.is_none() && origin.digest().is_none());
                let called = name.map(|tag| TagRef { repository: origin.repository().clone(), tag: tag.clone() });
                let Some(called) = called.filter(|c| full(&c.to_string()).is_some()) else { return self.clone() };
                let text = format!("{}{}@{digest}={called}", transport.prefix(), path.display());
                let wanted = Wanted { digest: Some(*digest), called: Some(called), ..Wanted::default() };
                Self { text, target: Target::File { transport: *transport, path: path.clone(), wanted } }
            }
        }
    }

    /// The same image with a relative path taken from this folder.
    pub fn relative_to(&self, base: &Path) -> SourceRef {
        match &self.target {
            Target::File { transport, path, wanted } if path.is_relative() && base != Path::new("") => {
                let rest = &self.text[transport.prefix().len() + path.as_os_str().len()..];
                let path = base.join(path);
                let text = format!("{}{}{rest}", transport.prefix(), path.display());
                Self { text, target: Target::File { transport: *transport, path, wanted: wanted.clone() } }
            }
            _ => self.clone(),
        }
    }
}

impl fmt::Display for SourceRef {
    /// As it was asked for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for SourceRef {
    type Err = SourceRefError;
    fn from_str(text: &str) -> Result<Self, SourceRefError> {
        let short = || text.chars().take(300).collect::<String>();
        if text.chars().any(is_unprintable) {
            return Err(SourceRefError::Unprintable(short()));
        }
        let from = |target| Ok(Self { text: text.into(), target });
        if let Some(rest) = text.strip_prefix(Transport::Docker.prefix()) {
            return from(Target::Registry(registry(rest)?));
        }
        for transport in Transport::FILES {
            if let Some(rest) = text.strip_prefix(transport.prefix()) {
                return from(file(transport, rest)?);
            }
        }
        if text.contains("://") || OTHER_TRANSPORTS.iter().any(|t| text.starts_with(t)) {
            return Err(SourceRefError::Transport(short()));
        }
        from(Target::Registry(registry(text)?))
    }
}

fn registry(text: &str) -> Result<Reference, SourceRefError> {
    if text.contains('=') {
        let reason = "an image of a registry has a name; another cannot be given with =";
        return Err(SourceRefError::Name { text: text.chars().take(300).collect(), reason });
    }
    Ok(Reference::parse_normalized(text)?)
}

fn file(transport: Transport, text: &str) -> Result<Target, SourceRefError> {
    let mut wanted = Wanted::default();
    let mut rest = text;
    if let Some((left, name)) = text.rsplit_once('=') {
        wanted.called = Some(called(name)?);
        rest = left;
    }
    if transport != Transport::DockerArchive
        && let Some(at) = rest.rfind("@sha256:").or_else(|| rest.rfind("@sha512:"))
    {
        let (left, digest) = rest.split_at(at);
        wanted.digest = Some(digest.trim_start_matches('@').parse()?);
        rest = left;
    }
    let (path, name) = match transport {
        // A colon before the digest, as after the other transports.
        Transport::Dir if wanted.digest.is_some() => (rest.strip_suffix(':').unwrap_or(rest), ""),
        Transport::Dir => (rest, ""),
        _ => rest.split_once(':').unwrap_or((rest, "")),
    };
    if path.is_empty() {
        return Err(SourceRefError::Path(text.chars().take(300).collect()));
    }
    match (transport, name.strip_prefix('@')) {
        _ if name.is_empty() => {}
        (Transport::DockerArchive, Some(position)) => {
            let position = position.parse().map_err(|_| SourceRefError::Position(name.chars().take(100).collect()))?;
            wanted.position = Some(position);
        }
        (Transport::DockerArchive, None) => {
            let reference = Reference::parse_normalized(name)?;
            if reference.digest().is_some() {
                let reason = "an image of a docker archive is chosen by its tag or its position, not by a digest";
                return Err(SourceRefError::Name { text: name.chars().take(300).collect(), reason });
            }
            wanted.name = Some(reference.to_string());
        }
        _ => wanted.name = Some(name.into()),
    }
    Ok(Target::File { transport, path: path.into(), wanted })
}

/// The name after `=`.
fn called(text: &str) -> Result<TagRef, SourceRefError> {
    let reason = "what follows = must be a full reference with a tag, such as registry.dev.example/payments/api:1.0";
    full(text)
        .and_then(|reference| reference.to_string().parse().ok())
        .ok_or_else(|| SourceRefError::Name { text: text.chars().take(300).collect(), reason })
}

/// A reference that names its registry beyond doubt: a host with a dot or a port, or `localhost`.
pub(crate) fn full(text: &str) -> Option<Reference> {
    let reference: Reference = text.parse().ok()?;
    let registry = reference.repository().registry();
    (registry.contains(['.', ':']) || registry == "localhost").then_some(reference)
}

/// What an image of a layout or archive is called: the name given with `=`, else its own first full name, else
/// `localhost/<folder or archive>:<its last name, or latest>`. What was chosen by digest alone gets no tag.
pub(crate) fn origin(
    wanted: &Wanted,
    names: &[String],
    digest: &Digest,
    path: &Path,
) -> Result<Reference, SourceError> {
    let place = || OutsideText::new(path.to_string_lossy());
    if let Some(called) = &wanted.called {
        return Ok(Reference::tagged(called.repository.clone(), called.tag.clone()));
    }
    let by_digest = wanted.digest.is_some() && wanted.name.is_none();
    for name in names {
        let Some(reference) = full(name) else { continue };
        if reference.digest().is_some_and(|named| named != digest) {
            return Err(SourceError::NameDigest {
                place: place(),
                name: OutsideText::new(name),
                found: Box::new(*digest),
            });
        }
        return Ok(match (by_digest, wanted.digest) {
            (true, _) => Reference::pinned(reference.repository().clone(), *digest),
            (false, Some(_)) => reference.with_digest(*digest),
            (false, None) => reference,
        });
    }
    let unnamed = |name: &str| SourceError::Unnamed { place: place(), name: OutsideText::new(name) };
    let folder = repository_name(path);
    let repository = Repository::new("localhost", &folder).map_err(|_| unnamed(&folder))?;
    if by_digest {
        return Ok(Reference::pinned(repository, *digest));
    }
    let tag = names.last().map_or("latest", String::as_str);
    let reference = Reference::tagged(repository, tag.parse().map_err(|_| unnamed(tag))?);
    Ok(if wanted.digest.is_some() { reference.with_digest(*digest) } else { reference })
}

/// The last part of a path, without `.tar`, as the path of a repository.
fn repository_name(path: &Path) -> String {
    let last = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = last(path).or_else(|| last(&path.canonicalize().ok()?)).unwrap_or_default().to_lowercase();
    let name = name.strip_suffix(".tar").unwrap_or(&name);
    let mut out = String::new();
    let mut separator = None;
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            if let Some(separator) = separator.take().filter(|_| !out.is_empty()) {
                out.push(separator);
            }
            out.push(c);
        } else {
            // Of several separators in a row one `-` is left; a single `.` or `_` stays.
            separator = Some(if separator.is_none() && matches!(c, '.' | '_') { c } else { '-' });
        }
    }
    out.truncate(128);
    let out = out.trim_end_matches(['.', '_', '-']);
    if out.is_empty() { "image".into() } else { out.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(text: &str) -> (String, Wanted) {
        match text.parse::<SourceRef>().expect(text).target {
            Target::File { path, wanted, .. } => (path.to_string_lossy().into_owned(), wanted),
            Target::Registry(reference) => panic!("{text}: {reference}"),
        }
    }

    #[test]
    fn registries_are_the_default() {
        for (text, reference) in [
            ("docker://r.example/x:1", "r.example/x:1"),
            ("r.example/x", "r.example/x:latest"),
            ("busybox", "docker.io/library/busybox:latest"),
            ("docker:24", "docker.io/library/docker:24"),
        ] {
            let source: SourceRef = text.parse().expect(text);
            assert_eq!(source.reference().expect("a registry").to_string(), reference);
            assert_eq!((source.transport(), source.to_string()), (Transport::Docker, text.to_string()));
        }
        let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse().expect("a digest");
        let origin: Reference = "localhost/a:b".parse().expect("a reference");
        let pinned = "busybox:1".parse::<SourceRef>().expect("a reference").pinned(&digest, &origin);
        assert_eq!(pinned.to_string(), format!("docker://docker.io/library/busybox:1@{digest}"));
        assert_eq!(pinned.to_string().parse::<SourceRef>().expect("reads back"), pinned);
        let layout: SourceRef = "oci:a:b".parse().expect("a layout");
        let pinned = layout.pinned(&digest, &origin);
        assert_eq!(pinned.to_string(), format!("oci:a@{digest}=localhost/a:b"));
        assert_eq!(pinned.to_string().parse::<SourceRef>().expect("reads back"), pinned);
        assert_eq!(pinned.pinned(&digest, &origin), pinned);
        let archive: SourceRef = "docker-archive:a:b:1".parse().expect("an archive");
        assert_eq!(archive.pinned(&digest, &origin), archive);
    }

    #[test]
    fn paths_and_names_are_told_apart() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let name = |text: &str| Some(text.to_string());
        let (path, w) = wanted("oci:build/web");
        assert_eq!((path.as_str(), w), ("build/web", Wanted::default()));
        let (path, w) = wanted("oci:build/web:r.example:5000/x:1=r.example/y:2");
        assert_eq!((path.as_str(), w.name), ("build/web", name("r.example:5000/x:1")));
        assert_eq!(w.called.expect("a name").to_string(), "r.example/y:2");
        for text in [format!("oci-archive:w.tar@{digest}"), format!("oci-archive:w.tar:@{digest}")] {
            let (path, w) = wanted(&text);
            assert_eq!((path.as_str(), w.name, w.digest), ("w.tar", None, digest.parse().ok()));
        }
        let (_, w) = wanted(&format!("oci:d:1.0@{digest}"));
        assert_eq!((w.name, w.digest.is_some()), (name("1.0"), true));
        assert_eq!(wanted("docker-archive:w.tar:busybox:1").1.name, name("docker.io/library/busybox:1"));
        assert_eq!(wanted("docker-archive:w.tar:@3").1.position, Some(3));
        assert_eq!(wanted("oci:a=b=localhost/x:1").0, "a=b");
        let (path, w) = wanted("dir:a:1.0=r.example/y:2");
        assert_eq!((path.as_str(), w.name, w.called.is_some()), ("a:1.0", None, true), "a colon is part of the path");
        for text in [format!("dir:a@{digest}"), format!("dir:a:@{digest}")] {
            assert_eq!((wanted(&text).0.as_str(), wanted(&text).1.digest), ("a", digest.parse().ok()));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, why) in [
            ("", "empty"),
            ("oci:", "no folder or file"),
            ("oci::x", "no folder or file"),
            ("dir:", "no folder or file"),
            ("dir:=r.example/x:1", "no folder or file"),
            ("dir:x=web", "what follows ="),
            ("docker-daemon:x:1", "expected docker://"),
            ("https://r.example/x:1", "expected docker://"),
            ("oci:d=web", "what follows ="),
            ("oci:d=a/web:1", "what follows ="),
            ("oci:d=r.example/web", "what follows ="),
            ("r.example/x:1=r.example/y:1", "has a name"),
            ("oci:d@sha256:00", "not a digest"),
            ("docker-archive:f:@x", "position"),
            ("docker-archive:f:UPPER:1", "not an image reference"),
            ("r.example/UPPER", "lower-case"),
            ("oci:d\u{1b}[2J", "cannot be printed"),
        ] {
            let error = text.parse::<SourceRef>().expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn images_without_a_full_name_are_local() {
        let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse().expect("a digest");
        let named = |names: &[&str], wanted: &Wanted, path: &str| {
            let names: Vec<_> = names.iter().map(|n| n.to_string()).collect();
            origin(wanted, &names, &digest, Path::new(path)).map(|r| r.to_string())
        };
        let any = Wanted::default();
        for (names, path, expected) in [
            (vec!["1.0"], "build/My Web.tar", "localhost/my-web:1.0"),
            (vec![], "build/web_x", "localhost/web_x:latest"),
            (vec![], "___", "localhost/image:latest"),
            (vec![], "a--__b.c.tar", "localhost/a-b.c:latest"),
            (vec!["docker.io/library/b:1", "1"], "x", "docker.io/library/b:1"),
            (vec!["1", "r.example/b:1"], "x", "r.example/b:1"),
        ] {
            assert_eq!(named(&names, &any, path).expect(path), expected);
        }
        assert!(matches!(named(&["a/b:1"], &any, "x"), Err(SourceError::Unnamed { .. })));
        let other = format!("r.example/x:1@sha256:{}", "00".repeat(32));
        assert!(matches!(named(&[&other], &any, "x"), Err(SourceError::NameDigest { .. })));
        let by_digest = Wanted { digest: Some(digest), ..Wanted::default() };
        assert_eq!(named(&["r.example/b:1"], &by_digest, "x").expect("pinned"), format!("r.example/b@{digest}"));
    }
}

//! Image references, after the grammar of the distribution project's `reference` package.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::json::string_serde;
use crate::text::escape;

/// The text is not a reference, or not one of the kind that is needed here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The grammar is broken.
    #[error("`{}` is not an image reference: {reason}", escape(.text))]
    Grammar {
        /// What was given.
        text: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// Not a scope.
    #[error("`{}` is not a scope: expected host[:port][/path], such as registry.dev.example/payments", escape(.0))]
    Scope(String),
}

fn grammar(text: &str, reason: &'static str) -> ReferenceError {
    ReferenceError::Grammar { text: text.chars().take(300).collect(), reason }
}

/// A repository with the registry that holds it: `host[:port]/path`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    registry: String,
    path: String,
}

impl Repository {
    /// Joins a registry's `host[:port]` and a repository's path.
    ///
    /// # Errors
    /// [`ReferenceError::Grammar`] if either does not follow the grammar.
    pub fn new(registry: &str, path: &str) -> Result<Self, ReferenceError> {
        if !is_registry(registry) {
            return Err(grammar(registry, "expected a registry as host[:port]"));
        }
        if !is_path(path) {
            return Err(grammar(
                path,
                "a repository's path is lower-case letters and digits, separated by / . _ or -, at most 255 characters",
            ));
        }
        Ok(Self { registry: registry.into(), path: path.into() })
    }

    /// The registry, as `host[:port]`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path in the registry, without the host.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl FromStr for Repository {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (registry, path) = text.split_once('/').ok_or_else(|| grammar(text, "expected host[:port]/path"))?;
        Self::new(registry, path)
    }
}

string_serde!(Repository, "Repository", "^[^/]+/[a-z0-9][a-z0-9._/-]*$");

/// A tag: `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        let b = text.as_bytes();
        let ok = (1..=128).contains(&b.len()) && word(b[0]) && b.iter().all(|&c| word(c) || matches!(c, b'.' | b'-'));
        if ok { Ok(Self(text.into())) } else { Err(grammar(text, "a tag is 1 to 128 of A-Z a-z 0-9 _ . -")) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_serde!(Tag, "Tag", "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$");

/// A full reference: a repository with a tag, a digest, or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    repository: Repository,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference as a person types it: `docker.io/library/` and `:latest` are filled in as the Docker client
    /// does.
    ///
    /// # Errors
    /// [`ReferenceError::Grammar`].
    pub fn parse_normalized(text: &str) -> Result<Self, ReferenceError> {
        let (name, tag, digest) = split(text)?;
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if looks_like_host(first) => (first, rest.to_string()),
            Some(_) => ("docker.io", name.to_string()),
            None => ("docker.io", format!("library/{name}")),
        };
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        let path = if registry == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path };
        let repository = Repository::new(registry, &path)?;
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".parse()?),
            (tag, _) => tag,
        };
        Ok(Self { repository, tag, digest })
    }

    /// A reference by tag.
    pub fn tagged(repository: Repository, tag: Tag) -> Self {
        Self { repository, tag: Some(tag), digest: None }
    }

    /// A reference by digest.
    pub fn pinned(repository: Repository, digest: Digest) -> Self {
        Self { repository, tag: None, digest: Some(digest) }
    }

    /// The same reference with its digest pinned; a tag stays.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The same tag and digest in another repository.
    pub fn in_repository(&self, repository: Repository) -> Self {
        Self { repository, ..self.clone() }
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest, if there is one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.repository, f)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;
    /// Reads a fully written reference: host, path, and a tag or a digest.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (name, tag, digest) = split(text)?;
        let repository: Repository = name.parse()?;
        if tag.is_none() && digest.is_none() {
            return Err(grammar(text, "expected a tag or a digest"));
        }
        Ok(Self { repository, tag, digest })
    }
}

string_serde!(Reference, "Reference", "^[^/]+/[^@]+(@(sha256|sha512):[0-9a-f]+)?$");

/// A repository and a tag: something that can move.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagRef {
    /// The repository.
    pub repository: Repository,
    /// The tag.
    pub tag: Tag,
}

impl fmt::Display for TagRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

impl FromStr for TagRef {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        match text.parse::<Reference>()? {
            Reference { repository, tag: Some(tag), digest: None } => Ok(Self { repository, tag }),
            _ => Err(grammar(text, "expected host/path:tag")),
        }
    }
}

string_serde!(TagRef, "TagRef", "^[^/]+/[^@]+:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$");

/// A repository and a digest: something that cannot move.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinnedRef {
    /// The repository.
    pub repository: Repository,
    /// The digest of the image manifest or index.
    pub digest: Digest,
}

impl fmt::Display for PinnedRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

/// A part of the name space: `host[:port]` or `host[:port]/path`, matched on `/` boundaries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(String);

impl Scope {
    /// Whether the repository lies in this scope.
    pub fn contains(&self, repository: &Repository) -> bool {
        self.strip(repository).is_some()
    }

    /// What is left of the repository's name after this scope: empty, or a path without a leading `/`.
    pub fn strip(&self, repository: &Repository) -> Option<String> {
        let name = repository.to_string();
        let rest = name.strip_prefix(&self.0)?;
        match rest.strip_prefix('/') {
            Some(path) => Some(path.into()),
            None if rest.is_empty() => Some(String::new()),
            None => None,
        }
    }

    /// Whether a repository could lie in both scopes.
    pub fn overlaps(&self, other: &Scope) -> bool {
        let within = |a: &str, b: &str| a == b || a.strip_prefix(b).is_some_and(|r| r.starts_with('/'));
        within(&self.0, &other.0) || within(&other.0, &self.0)
    }

    /// The registry, as `host[:port]`.
    pub fn registry(&self) -> &str {
        self.0.split('/').next().unwrap_or(&self.0)
    }

    /// Appends a path to this scope, which gives a repository.
    ///
    /// # Errors
    /// [`ReferenceError::Grammar`] if the result is not a repository, for example when both are empty of path.
    pub fn join(&self, path: &str) -> Result<Repository, ReferenceError> {
        if path.is_empty() { self.0.parse() } else { format!("{}/{path}", self.0).parse() }
    }

    /// The scope's length, to find the most specific of several.
    pub fn specificity(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Scope {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let ok = match text.split_once('/') {
            None => is_registry(text),
            Some((registry, path)) => is_registry(registry) && is_path(path),
        };
        if ok { Ok(Self(text.into())) } else { Err(ReferenceError::Scope(text.chars().take(300).collect())) }
    }
}

string_serde!(Scope, "Scope", "^[^/:]+(:[0-9]+)?(/[a-z0-9][a-z0-9._/-]*)?$");

/// Splits `name[:tag][@digest]`.
fn split(text: &str) -> Result<(&str, Option<Tag>, Option<Digest>), ReferenceError> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            let digest =
                digest.parse().map_err(|_| grammar(text, "the digest is not sha256:<64 hex> or sha512:<128 hex>"))?;
            (rest, Some(digest))
        }
        None => (text, None),
    };
    let slash = rest.rfind('/').map_or(0, |i| i + 1);
    let (name, tag) = match rest[slash..].find(':') {
        Some(colon) => (&rest[..slash + colon], Some(rest[slash + colon + 1..].parse()?)),
        None => (rest, None),
    };
    if name.is_empty() {
        return Err(grammar(text, "the name is empty"));
    }
    Ok((name, tag, digest))
}

fn looks_like_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// `host[:port]`: DNS labels, an IPv4 address, or an IPv6 address in brackets.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((v6, rest)) => {
                if v6.parse::<std::net::Ipv6Addr>().is_err() {
                    return false;
                }
                match rest.strip_prefix(':') {
                    Some(port) => (None, Some(port)),
                    None if rest.is_empty() => (None, None),
                    None => return false,
                }
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let host_ok = host.is_none_or(|host| {
        host.len() <= 253
            && host.split('.').all(|label| {
                let b = label.as_bytes();
                (1..=63).contains(&b.len())
                    && b.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'-')
                    && b[0] != b'-'
                    && b[b.len() - 1] != b'-'
            })
    });
    let port_ok = port.is_none_or(|p| {
        !p.is_empty() && p.len() <= 5 && p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|n| n > 0)
    });
    host_ok && port_ok
}

/// `path-component ["/" path-component]*`, where a component is `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_path(text: &str) -> bool {
    fn component(text: &str) -> bool {
        let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let b = text.as_bytes();
        if b.is_empty() || !alnum(b[0]) || !alnum(b[b.len() - 1]) {
            return false;
        }
        let mut separator = String::new();
        for &c in b {
            if alnum(c) {
                if !matches!(separator.as_str(), "" | "." | "_" | "__") && separator.bytes().any(|s| s != b'-') {
                    return false;
                }
                separator.clear();
            } else if matches!(c, b'.' | b'_' | b'-') {
                separator.push(c as char);
            } else {
                return false;
            }
        }
        true
    }
    text.len() <= 255 && text.split('/').all(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in_as_the_docker_client_does() {
        for (given, full) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("a/b:1", "docker.io/a/b:1"),
            ("index.docker.io/x", "docker.io/library/x:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("127.0.0.1:5000/x/y:v1", "127.0.0.1:5000/x/y:v1"),
            ("[::1]:5000/x:v1", "[::1]:5000/x:v1"),
        ] {
            assert_eq!(Reference::parse_normalized(given).expect(given).to_string(), full);
        }
        let digest = format!("sha256:{}", "ab".repeat(32));
        let both = format!("r.example/x:1@{digest}");
        assert_eq!(both.parse::<Reference>().expect("both").to_string(), both);
        assert_eq!(Reference::parse_normalized(&format!("r.example/x@{digest}")).expect("pinned").tag(), None);
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            ":1",
            "r.example/",
            "r.example/X:1",
            "r.example/a//b:1",
            "r.example/../b:1",
            "r.example/a:",
            "r.example/a:-x",
            "r.example/a@sha256:00",
            "r.example:99999/a:1",
            "r.example:/a:1",
            "-r.example/a:1",
            "r.example/a___b:1",
            "r.example/a\u{202e}:1",
            "r.example/a:1\n",
            "[::zz]/a:1",
            "r.example/a.-b:1",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
        assert!("r.example/a--b__c.d:1".parse::<Reference>().is_ok());
        assert!("r.example/a".parse::<Reference>().is_err(), "neither tag nor digest");
    }

    #[test]
    fn scopes_match_on_boundaries() {
        let repo: Repository = "r.example/pay/api".parse().expect("a repository");
        for (scope, rest) in [
            ("r.example", Some("pay/api")),
            ("r.example/pay", Some("api")),
            ("r.example/pay/api", Some("")),
            ("r.example/pa", None),
            ("r.exampl", None),
            ("other.example", None),
        ] {
            let scope: Scope = scope.parse().expect("a scope");
            assert_eq!(scope.strip(&repo).as_deref(), rest, "{scope}");
        }
        let scope = |s: &str| s.parse::<Scope>().expect("a scope");
        assert!(scope("r.example").overlaps(&scope("r.example/pay")));
        assert!(!scope("r.example/pay").overlaps(&scope("r.example/payments")));
        assert!(scope("r.example").join("").is_err());
    }
}

//! Which names a signature may give an image (`signedIdentity`), and the references of containers/image.

use std::fmt;

use manifest_schema::{Reference, Repository};

/// A reference as containers/image reads it in signatures and policies: a name, and maybe a tag, a digest or both.
///
/// Not a [`Reference`]: a signature may name a repository alone, and what it names need not be a digest or a host that we
/// could carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    name: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Named {
    /// Reads a name as the Docker client does: `busybox` is `docker.io/library/busybox`. No tag is filled in.
    pub fn parse_normalized(text: &str) -> Option<Self> {
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 64 && text.bytes().all(hex) {
            // It could be the id of an image.
            return None;
        }
        let (host, rest) = match text.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
            _ => ("docker.io", text),
        };
        let host = if host == "index.docker.io" { "docker.io" } else { host };
        let library = if host == "docker.io" && !rest.contains('/') { "library/" } else { "" };
        Self::parse_literal(&format!("{host}/{library}{rest}"))
    }

    /// Reads a name that is written in full.
    pub fn parse_full(text: &str) -> Option<Self> {
        Self::parse_normalized(text).filter(|named| named.to_string() == text)
    }

    fn parse_literal(text: &str) -> Option<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_string())),
            None => (text, None),
        };
        let path = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[path..].split_once(':') {
            Some((last, tag)) => (&rest[..path + last.len()], Some(tag.to_string())),
            None => (rest, None),
        };
        let good = is_name(name)
            && name.len() <= 255
            && tag.as_deref().is_none_or(is_tag)
            && digest.as_deref().is_none_or(is_digest);
        good.then(|| Self { name: name.into(), tag, digest })
    }

    /// The name an image has under the `docker` transport. A tag beside a digest is dropped, as podman and CRI-O do, since
    /// the transport takes no reference with both.
    pub fn of(reference: &Reference) -> Self {
        let digest = reference.digest().map(ToString::to_string);
        let tag = reference.tag().filter(|_| digest.is_none()).map(ToString::to_string);
        Self { tag, digest, ..Self::repository(reference.repository()) }
    }

    /// The name of a repository.
    pub fn repository(repository: &Repository) -> Self {
        let full = repository.to_string();
        // `docker.io/busybox` has the name `docker.io/library/busybox`.
        Self::parse_normalized(&full).unwrap_or(Self { name: full, tag: None, digest: None })
    }

    /// The name without tag and digest.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has a tag.
    pub fn has_tag(&self) -> bool {
        self.tag.is_some()
    }

    /// Whether it has neither a tag nor a digest.
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Which identities in a signature are accepted for an image (`signedIdentity`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SignedIdentity {
    MatchExact,
    MatchRepoDigestOrExact,
    MatchRepository,
    ExactReference(Named),
    ExactRepository(Named),
    RemapIdentity { prefix: String, signed_prefix: String },
}

impl SignedIdentity {
    /// Whether a signature that names the image `signed` counts for the image that is called `image`; an image of a
    /// transport without Docker references has no such name.
    pub fn accepts(&self, image: Option<&Named>, signed: &str) -> bool {
        let Some(signed) = Named::parse_normalized(signed) else { return false };
        match self {
            Self::MatchExact => image.is_some_and(|image| exact(image, &signed)),
            Self::MatchRepoDigestOrExact => image.is_some_and(|image| repository_digest_or_exact(image, &signed)),
            Self::MatchRepository => image.is_some_and(|image| image.name == signed.name),
            Self::ExactReference(wanted) => exact(wanted, &signed),
            Self::ExactRepository(wanted) => wanted.name == signed.name,
            Self::RemapIdentity { prefix, signed_prefix } => image
                .and_then(|image| renamed(image, prefix, signed_prefix))
                .is_some_and(|image| repository_digest_or_exact(&image, &signed)),
        }
    }

    /// The name of the kind, for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::MatchExact => "matchExact",
            Self::MatchRepoDigestOrExact => "matchRepoDigestOrExact",
            Self::MatchRepository => "matchRepository",
            Self::ExactReference(_) => "exactReference",
            Self::ExactRepository(_) => "exactRepository",
            Self::RemapIdentity { .. } => "remapIdentity",
        }
    }

    /// What is accepted for an image, for people.
    pub fn wanted(&self, image: Option<&Named>) -> String {
        let kind = self.kind();
        let image = match (self, image) {
            (Self::ExactReference(wanted), _) => return format!("{kind} wants {wanted}"),
            (Self::ExactRepository(wanted), _) => return format!("{kind} wants {}", wanted.name),
            (_, None) => return format!("{kind} accepts none for an image without a Docker reference"),
            (Self::RemapIdentity { prefix, signed_prefix }, Some(image)) => {
                match renamed(image, prefix, signed_prefix) {
                    Some(image) => image,
                    None => return format!("{kind} makes no reference of {image}"),
                }
            }
            (_, Some(image)) => image.clone(),
        };
        match self {
            Self::MatchExact => format!("{kind} wants {image}"),
            Self::MatchRepository => format!("{kind} wants {}", image.name),
            _ if image.tag.is_none() => format!("{kind} wants a tag or digest of {}", image.name),
            _ => format!("{kind} wants {image}"),
        }
    }
}

fn exact(wanted: &Named, signed: &Named) -> bool {
    !wanted.is_name_only() && !signed.is_name_only() && wanted == signed
}

fn repository_digest_or_exact(image: &Named, signed: &Named) -> bool {
    if signed.is_name_only() {
        return false;
    }
    match (&image.tag, &image.digest) {
        (Some(_), _) => image == signed,
        // That the digests agree is checked with the manifest.
        (None, Some(_)) => image.name == signed.name,
        (None, None) => false,
    }
}

/// The image's name with `prefix` replaced, if that is a name; the same name if it does not lie below `prefix`.
pub(super) fn renamed(image: &Named, prefix: &str, signed_prefix: &str) -> Option<Named> {
    let Some(name) = rename(&image.name, prefix, signed_prefix) else { return Some(image.clone()) };
    Named::parse_full(&Named { name, ..image.clone() }.to_string())
}

/// A name with `prefix` replaced, if it lies below it.
pub(super) fn rename(name: &str, prefix: &str, signed_prefix: &str) -> Option<String> {
    let rest = name.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
    Some(format!("{signed_prefix}{rest}"))
}

/// What `remapIdentity` may have as a prefix: a host, or a name that begins with one.
pub(super) fn is_prefix(text: &str) -> bool {
    is_host(text) || (is_name(text) && text.split_once('/').is_some_and(|(first, _)| is_host(first)))
}

/// `[host[:port]/]component[/component]...` of the distribution project's `reference` package.
fn is_name(text: &str) -> bool {
    let path = |path: &str| path.split('/').all(is_component);
    path(text) || text.split_once('/').is_some_and(|(first, rest)| is_host(first) && path(rest))
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |label: &str| {
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = label.as_bytes();
        edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    };
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let v6 = |inner: &str| !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    let host = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) => v6(inner),
        None => host.split('.').all(label),
    };
    host && port.is_none_or(digits)
}

/// Runs of `a-z0-9`, between them one `.`, one or two `_`, or any number of `-`.
fn is_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let edge = |b: Option<u8>| b.is_some_and(word);
    edge(text.bytes().next())
        && edge(text.bytes().last())
        && text
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// The digests containers/image can compute.
fn is_digest(text: &str) -> bool {
    let hex = |hex: &str, length| hex.len() == length && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match text.split_once(':') {
        Some(("sha256", rest)) => hex(rest, 64),
        Some(("sha384", rest)) => hex(rest, 96),
        Some(("sha512", rest)) => hex(rest, 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:20bf21ed457b390829cdbeec8795a7bea1626991fda603e0d01b4e7f60427e55";

    #[test]
    fn names_are_read_as_the_docker_client_does() {
        let long = "a".repeat(255 - "r.example/".len());
        for (text, full) in [
            ("busybox", "docker.io/library/busybox"),
            ("busybox:1", "docker.io/library/busybox:1"),
            ("docker.io/busybox", "docker.io/library/busybox"),
            ("index.docker.io/busybox", "docker.io/library/busybox"),
            ("index.docker.io/a/b", "docker.io/a/b"),
            ("team/app", "docker.io/team/app"),
            ("localhost/app", "localhost/app"),
            ("localhost:5000/app:1", "localhost:5000/app:1"),
            ("r.example/team/app", "r.example/team/app"),
            ("R.Example/app", "R.Example/app"),
            ("r.example/a__b.c---d_e", "r.example/a__b.c---d_e"),
            ("host:5000", "docker.io/library/host:5000"),
            ("[::1]:5000/app", "[::1]:5000/app"),
            ("my_host.x/app", "my_host.x/app"),
            (&format!("r.example/{long}"), &format!("r.example/{long}")),
            (&format!("r.example/app@{DIGEST}"), &format!("r.example/app@{DIGEST}")),
            (&format!("r.example/app:1@{DIGEST}"), &format!("r.example/app:1@{DIGEST}")),
        ] {
            assert_eq!(Named::parse_normalized(text).map(|n| n.to_string()).as_deref(), Some(full), "{text}");
            assert!(Named::parse_full(full).is_some(), "{full}");
            assert_eq!(Named::parse_full(text).is_some(), text == full, "{text}");
        }
        for text in [
            "",
            "/app",
            "r.example/",
            "r.example/App",
            "Team/app",
            "r.example/app:",
            "r.example/app:.1",
            "r.example/app@",
            "r.example/app@sha256:20bf",
            "r.example/app@md5:d41d8cd98f00b204e9800998ecf8427e",
            "r.example/app:1:2",
            "r.example/a..b",
            "r.example/a___b",
            "r.example/-a",
            "r.example/a-",
            "r.example//a",
            "r.example:port/a",
            "-r.example/a",
            "r.example/a b",
            "r.example/ä",
            "docker://r.example/a:1",
            &DIGEST[7..],
            &format!("r.example/{long}a"),
            &format!("r.example/a:{}", "1".repeat(129)),
        ] {
            assert_eq!(Named::parse_normalized(text), None, "{text}");
        }
    }

    fn image(text: &str) -> Named {
        Named::of(&text.parse().expect("a reference"))
    }

    #[test]
    fn an_images_own_name() {
        assert_eq!(image("docker.io/busybox:1").to_string(), "docker.io/library/busybox:1");
        assert_eq!(image(&format!("r.example/a:1@{DIGEST}")).to_string(), format!("r.example/a@{DIGEST}"));
    }

    /// Rows: how the image is called, what the signature says, and which of matchExact, matchRepoDigestOrExact and
    /// matchRepository accept that.
    #[test]
    fn identities_that_follow_the_image() {
        let by_digest = format!("r.example/team/app@{DIGEST}");
        let both = format!("r.example/team/app:1@{DIGEST}");
        let other_digest = by_digest.replace("20bf", "20be");
        for (name, signed, expected) in [
            ("r.example/team/app:1", "r.example/team/app:1", [true, true, true]),
            ("r.example/team/app:1", "r.example/team/app:2", [false, false, true]),
            ("r.example/team/app:1", "r.example/team/app", [false, false, true]),
            ("r.example/team/app:1", by_digest.as_str(), [false, false, true]),
            ("r.example/team/app:1", both.as_str(), [false, false, true]),
            ("r.example/team/app:latest", "r.example/team/app", [false, false, true]),
            ("r.example/team/app:1", "r.example/team/app2:1", [false, false, false]),
            ("r.example/team/app:1", "r.example:443/team/app:1", [false, false, false]),
            ("r.example/team/app:1", "R.example/team/app:1", [false, false, false]),
            ("r.example/team/app:1", "r.example/team/App:1", [false, false, false]),
            ("r.example/team/app:1", "", [false, false, false]),
            ("docker.io/library/busybox:1", "busybox:1", [true, true, true]),
            ("docker.io/library/busybox:1", "index.docker.io/busybox:1", [true, true, true]),
            (by_digest.as_str(), by_digest.as_str(), [true, true, true]),
            (by_digest.as_str(), other_digest.as_str(), [false, true, true]),
            (by_digest.as_str(), "r.example/team/app:1", [false, true, true]),
            (by_digest.as_str(), "r.example/team/app", [false, false, true]),
            (by_digest.as_str(), "r.example/team/other:1", [false, false, false]),
        ] {
            let kinds =
                [SignedIdentity::MatchExact, SignedIdentity::MatchRepoDigestOrExact, SignedIdentity::MatchRepository];
            let found = kinds.each_ref().map(|kind| kind.accepts(Some(&image(name)), signed));
            assert_eq!(found, expected, "{name} signed as {signed}");
            for kind in kinds {
                assert!(!kind.accepts(None, signed), "an image without a name, {signed}");
            }
        }
    }

    #[test]
    fn identities_that_are_fixed() {
        let named = |text| Named::parse_normalized(text).expect("a name");
        let by_digest = format!("busybox@{DIGEST}");
        for (wanted, signed, reference, repository) in [
            ("r.example/a:1", "r.example/a:1", true, true),
            ("r.example/a:1", "r.example/a:2", false, true),
            ("r.example/a:1", "r.example/a", false, true),
            ("busybox:1", "docker.io/library/busybox:1", true, true),
            (by_digest.as_str(), by_digest.as_str(), true, true),
            (by_digest.as_str(), "busybox:1", false, true),
            ("r.example/a:1", "r.example/b:1", false, false),
            ("r.example/a:1", "not a reference", false, false),
        ] {
            for image in [None, Some(image("x.example/y:z"))] {
                let accepts = |kind: SignedIdentity| kind.accepts(image.as_ref(), signed);
                assert_eq!(accepts(SignedIdentity::ExactReference(named(wanted))), reference, "{wanted} {signed}");
                assert_eq!(accepts(SignedIdentity::ExactRepository(named(wanted))), repository, "{wanted} {signed}");
            }
        }
    }

    #[test]
    fn identities_that_are_renamed() {
        let by_digest = format!("mirror.example/vendor/app@{DIGEST}");
        for (prefix, signed_prefix, name, signed, expected) in [
            ("mirror.example", "vendor.example", "mirror.example/app:1", "vendor.example/app:1", true),
            ("mirror.example", "vendor.example", "mirror.example/app:1", "mirror.example/app:1", false),
            ("mirror.example", "vendor.example", "mirror.example/app:1", "vendor.example/app:2", false),
            ("mirror.example", "vendor.example", "mirror.example:5000/app:1", "mirror.example:5000/app:1", true),
            ("mirror.example", "vendor.example", "mirror.example:5000/app:1", "vendor.example:5000/app:1", false),
            ("mirror.example/vendor", "vendor.example", "mirror.example/vendor/app:1", "vendor.example/app:1", true),
            ("mirror.example/vendor", "vendor.example", "mirror.example/vendors/app:1", "vendor.example/app:1", false),
            (
                "mirror.example/vendor",
                "vendor.example",
                "mirror.example/vendors/app:1",
                "mirror.example/vendors/app:1",
                true,
            ),
            ("mirror.example/vendor/app", "v.example/a/b", "mirror.example/vendor/app:1", "v.example/a/b:1", true),
            // A repository cannot become a host alone.
            ("mirror.example/app", "vendor.example", "mirror.example/app:1", "vendor.example:1", false),
            ("mirror.example", "docker.io", "mirror.example/library/busybox:1", "busybox:1", true),
            // `docker.io/busybox` is not how the name is written in full.
            ("mirror.example", "docker.io", "mirror.example/busybox:1", "busybox:1", false),
            ("mirror.example/vendor", "vendor.example", by_digest.as_str(), "vendor.example/app:7", true),
            ("mirror.example/vendor", "vendor.example", by_digest.as_str(), "vendor.example/app", false),
        ] {
            let kind = SignedIdentity::RemapIdentity { prefix: prefix.into(), signed_prefix: signed_prefix.into() };
            assert_eq!(kind.accepts(Some(&image(name)), signed), expected, "{prefix} {signed_prefix} {name} {signed}");
            assert!(!kind.accepts(None, signed));
        }
    }

    #[test]
    fn prefixes() {
        for good in ["r.example", "r.example:5000", "localhost", "r.example/a", "r.example:5000/a/b__c", "ns/short"] {
            assert!(is_prefix(good), "{good}");
        }
        for bad in [
            "",
            "/",
            "r.example/",
            "r.example/A",
            "r.example/a:1",
            "r.example/a@sha256:20",
            "a_b",
            "*.example",
            "r.example:",
        ] {
            assert!(!is_prefix(bad), "{bad}");
        }
    }
}

//! What is attached to an image: simple signatures, referrers, and how the tags are called that lead to referrers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::reference::Tag;

/// A simple signature of a document (containers/image, `containers-signature(5)`).
///
/// Its bytes are a blob of the admission section with the media type
/// [`SIMPLE_SIGNATURE`](crate::MediaType::SIMPLE_SIGNATURE).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageSignature {
    /// The image manifest or index that it was found for.
    pub subject: Digest,
    /// The digest of the signature's bytes.
    pub digest: Digest,
    /// Where it was found.
    pub found: Found,
}

/// Where a simple signature was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// On a lookaside server (containers-registries.d(5)).
    Lookaside,
    /// In the registry (`X-Registry-Supports-Signatures`).
    Registry,
    /// In a file beside the image, as skopeo's `dir:` keeps it.
    Folder,
    /// In a store of OpenShift release signatures.
    ReleaseStore,
    /// Made on packing, with the release key.
    Made,
}

impl Found {
    /// The word in the manifest and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Found::Lookaside => "lookaside",
            Found::Registry => "registry",
            Found::Folder => "folder",
            Found::ReleaseStore => "release-store",
            Found::Made => "made",
        }
    }
}

/// A document that refers to another one: an OCI referrer (image-spec 1.1, `subject`), or what a digest tag names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Referrer {
    /// What it refers to: a document of the image, or one of a referrer listed before.
    pub subject: Digest,
    /// The document that refers.
    pub digest: Digest,
    /// The digest tag that names it at the origin. Without one the document names its subject itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<DigestTag>,
}

/// A tag that is made from the digest of what it is attached to (cosign): `<algorithm>-<hex>.<suffix>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DigestTag {
    /// Signatures: `.sig`.
    Sig,
    /// Attestations: `.att`.
    Att,
    /// A bill of materials: `.sbom`.
    Sbom,
}

impl DigestTag {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sig, Self::Att, Self::Sbom];

    /// The suffix without its dot.
    pub fn suffix(self) -> &'static str {
        match self {
            DigestTag::Sig => "sig",
            DigestTag::Att => "att",
            DigestTag::Sbom => "sbom",
        }
    }

    /// The tag for what it is attached to; `None` if no tag is that long (SHA-512).
    pub fn for_subject(self, subject: &Digest) -> Option<Tag> {
        format!("{}-{}.{}", subject.algorithm().name(), subject.hex(), self.suffix()).parse().ok()
    }
}

/// The tag under which a registry without referrers API keeps the list of a document's referrers (distribution-spec 1.1,
/// "Referrers Tag Schema"): the algorithm cut off after 32 characters, the hash after 64.
pub fn referrers_tag(subject: &Digest) -> Tag {
    let hex = subject.hex();
    let text = format!("{}-{}", subject.algorithm().name(), &hex[..hex.len().min(64)]);
    text.parse().unwrap_or_else(|_| unreachable!("a tag by construction"))
}

/// Whether a tag is one that is made from a digest: that of the tag schema, or a [`DigestTag`] or another one like it.
pub fn is_made_from_digest(tag: &Tag) -> bool {
    let Some((algorithm, rest)) = tag.as_str().split_once('-') else { return false };
    let hex = rest.split_once('.').map_or(rest, |(hex, _)| hex);
    let of = |length: usize| hex.len() == length && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    matches!((algorithm, of(64)), ("sha256" | "sha512", true)) || (algorithm == "sha512" && of(128))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_follow_from_the_digest() {
        let short = Digest::Sha256([0xab; 32]);
        let hex = "ab".repeat(32);
        assert_eq!(referrers_tag(&short).as_str(), format!("sha256-{hex}"));
        assert_eq!(
            DigestTag::Sig.for_subject(&short).map(|t| t.to_string()).as_deref(),
            Some(&*format!("sha256-{hex}.sig"))
        );
        let long = Digest::Sha512([0xab; 64]);
        assert_eq!(referrers_tag(&long).as_str(), format!("sha512-{hex}"));
        assert_eq!(DigestTag::Att.for_subject(&long), None);
        for (text, is) in [
            (format!("sha256-{hex}"), true),
            (format!("sha256-{hex}.sig"), true),
            (format!("sha512-{hex}.whatever"), true),
            (format!("sha256-{}", &hex[1..]), false),
            (format!("sha1-{hex}"), false),
            ("2.3.1".into(), false),
            ("sealift-abababababababab".into(), false),
        ] {
            assert_eq!(is_made_from_digest(&text.parse().expect("a tag")), is, "{text}");
        }
    }
}

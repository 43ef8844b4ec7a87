//! From origin references to production references.

use manifest_schema::{Image, Reference, Repository, Scope, Tag, TagRef};

use crate::config::Mapping;
use crate::error::Error;

/// Where an image of a stream goes: the longest matching `from` decides.
///
/// # Errors
/// [`Error::NoDestination`] if none matches, [`Error::BadDestination`] if the result is no repository.
pub fn destination(image: &Image, rules: &Rules) -> Result<TagRef, Error> {
    let repository = rules.map(image.origin.repository(), &image.origin)?;
    Ok(TagRef { repository, tag: tag_for(&image.origin, image) })
}

/// Where an image waits that is to go to a place in production.
///
/// # Errors
/// As [`destination`].
pub fn staging(production: &TagRef, rules: &Rules) -> Result<TagRef, Error> {
    let named = Reference::tagged(production.repository.clone(), production.tag.clone());
    Ok(TagRef { repository: rules.map(&production.repository, &named)?, tag: production.tag.clone() })
}

/// The destination rules of a stream.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Prefix to prefix.
    pub mappings: Vec<Mapping>,
    /// Where everything else goes: `host/path:tag` becomes `P/path:tag`.
    pub prefix: Option<Scope>,
}

impl Rules {
    /// The repository for another one, which `named` has in errors.
    fn map(&self, from: &Repository, named: &Reference) -> Result<Repository, Error> {
        let matching = |m: &&Mapping| m.from.contains(from);
        let longest = self.mappings.iter().filter(matching).max_by_key(|m| m.from.specificity());
        let mapped = match (longest, &self.prefix) {
            (Some(m), _) => m.to.join(&m.from.strip(from).unwrap_or_default()),
            (None, Some(prefix)) => prefix.join(from.path()),
            (None, None) => return Err(Error::NoDestination { origin: Box::new(named.clone()) }),
        };
        mapped.map_err(|source| Error::BadDestination { origin: Box::new(named.clone()), source })
    }
}

/// The reference's tag; one made from the digest if it has none, so that garbage collection keeps the image.
fn tag_for(origin: &Reference, image: &Image) -> Tag {
    match origin.tag() {
        Some(tag) => tag.clone(),
        None => {
            let hex = image.digest.hex();
            // Sixteen hexadecimal digits behind a word are a tag by its grammar.
            format!("sealift-{}", &hex[..16]).parse().unwrap_or_else(|_| unreachable!("a tag by construction"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifest_schema::{Digest, MediaType, OutsideText};

    fn image(origin: &str) -> Image {
        Image {
            asked: OutsideText::new(origin),
            origin: origin.parse().expect("a reference"),
            digest: Digest::Sha256([0xab; 32]),
            media_type: MediaType::OCI_INDEX.parse().expect("a media type"),
            size: 1,
            platforms: vec![],
            sparse: false,
            signatures: vec![],
            referrers: vec![],
            release: vec![],
        }
    }
    fn mapping(from: &str, to: &str) -> Mapping {
        Mapping { from: from.parse().expect("a scope"), to: to.parse().expect("a scope") }
    }

    #[test]
    fn the_longest_match_decides_and_digests_get_a_tag() {
        let rules = Rules {
            mappings: vec![mapping("dev.example", "prod.example/all"), mapping("dev.example/pay", "prod.example/p")],
            prefix: Some("prod.example/rest".parse().expect("a scope")),
        };
        let to = |origin: &str| destination(&image(origin), &rules).expect(origin).to_string();
        assert_eq!(to("dev.example/pay/api:1"), "prod.example/p/api:1");
        assert_eq!(to("dev.example/payments/api:1"), "prod.example/all/payments/api:1");
        assert_eq!(to("other.example/x/y:1"), "prod.example/rest/x/y:1");
        let pinned = format!("dev.example/pay/api@sha256:{}", "ab".repeat(32));
        assert_eq!(to(&pinned), "prod.example/p/api:sealift-abababababababab");
        assert_eq!(to(&format!("dev.example/pay/api:1@sha256:{}", "ab".repeat(32))), "prod.example/p/api:1");
    }

    #[test]
    fn what_no_rule_matches_goes_nowhere() {
        let rules = Rules { mappings: vec![mapping("dev.example/pay", "prod.example")], prefix: None };
        assert!(matches!(destination(&image("dev.example/x:1"), &rules), Err(Error::NoDestination { .. })));
        assert!(matches!(destination(&image("dev.example/pay:1"), &rules), Err(Error::BadDestination { .. })));
    }
}

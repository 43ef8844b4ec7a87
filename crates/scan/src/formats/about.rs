//! What a report names as its subject.

use manifest_schema::{Digest, OutsideText};

use super::wrong;
use crate::report::{About, Format, ReadError};

impl About {
    /// A name as it stands in the report; `name@sha256:…` and an OCI package URL tell a digest as well.
    pub(crate) fn name(&mut self, name: impl Into<String>) {
        let name = name.into();
        if name.is_empty() {
            return;
        }
        self.digests.extend(digest_of_name(&name));
        self.names.insert(OutsideText::new(name));
    }

    /// What the format says is a digest.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn digest(&mut self, format: Format, digest: &str) -> Result<(), ReadError> {
        self.digests.insert(digest.parse().map_err(|error| wrong(format, format!("{error}")))?);
        Ok(())
    }

    /// `repository@sha256:…`, as `RepoDigests` of several programs has them.
    ///
    /// # Errors
    /// What follows the `@` is no digest.
    pub(crate) fn repo_digest(&mut self, format: Format, name: String) -> Result<(), ReadError> {
        if let Some((_, digest)) = name.rsplit_once('@') {
            self.digest(format, digest)?;
        }
        self.name(name);
        Ok(())
    }
}

/// The digest in a reference `name@sha256:…` or in the version of a package URL of type `oci` or `docker`.
pub(crate) fn digest_of_name(name: &str) -> Option<Digest> {
    if !name.starts_with("pkg:") {
        return name.rsplit_once('@')?.1.parse().ok();
    }
    // What follows the version of a package URL may have an `@` as well.
    let name = name.split(['?', '#']).next()?;
    let is_image = name.starts_with("pkg:oci/") || name.starts_with("pkg:docker/");
    let version = name.rsplit_once('@').filter(|_| is_image)?.1;
    version.replace("%3A", ":").replace("%3a", ":").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_told_by_references_and_package_urls_of_images() {
        let (three, four) = ("3".repeat(64), "4".repeat(64));
        let expected = format!("sha256:{three}").parse().ok();
        let of = |name: &str| digest_of_name(&name.replace("<3>", &three).replace("<4>", &four));
        for name in [
            "registry.example/shop/cart@sha256:<3>",
            "registry.example/shop/cart:1@sha256:<3>",
            "pkg:oci/cart@sha256:<3>",
            "pkg:oci/cart@sha256%3A<3>?repository_url=registry.example/a@sha256:<4>",
            "pkg:docker/shop/cart@sha256%3a<3>#a@sha256:<4>",
        ] {
            assert_eq!(of(name), expected, "{name}");
        }
        for name in ["cart:1", "cart@sha256:<3>4", "pkg:oci/cart?a=b@sha256:<4>", "pkg:generic/cart@sha256:<3>", "@"] {
            assert_eq!(of(name), None, "{name}");
        }
    }
}

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
    let after = name.rsplit_once('@')?.1;
    if name.starts_with("pkg:") && !name.starts_with("pkg:oci/") && !name.starts_with("pkg:docker/") {
        return None;
    }
    let end = after.find(['?', '#']).unwrap_or(after.len());
    after[..end].replace("%3A", ":").replace("%3a", ":").parse().ok()
}

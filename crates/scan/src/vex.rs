//! Statements of exploitability, and which of them answers a finding.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use manifest_schema::{Digest, OutsideText, Timestamp};
use packageurl::PackageUrl;

use crate::judge::ImageFacts;
use crate::report::{Finding, Product, Statement, Status};

/// What is said of an image's vulnerabilities.
pub(crate) struct Statements<'s> {
    /// By each name of the vulnerability.
    by_name: BTreeMap<&'s str, Vec<Said<'s>>>,
    image: BTreeSet<Digest>,
}

#[derive(Clone, Copy)]
struct Said<'s> {
    digest: Digest,
    own: bool,
    statement: &'s Statement,
}

/// What answers a finding.
pub(crate) struct Answer<'s> {
    pub(crate) status: Status,
    pub(crate) digest: Digest,
    pub(crate) own: bool,
    pub(crate) justification: Option<&'s OutsideText>,
}

impl<'s> Statements<'s> {
    /// Statements, each with the digest of what has it, and whether it is of this site's own.
    pub(crate) fn new(image: &ImageFacts, said: impl Iterator<Item = (Digest, &'s Statement, bool)>) -> Self {
        let mut by_name: BTreeMap<&str, Vec<Said<'_>>> = BTreeMap::new();
        for (digest, statement, own) in said {
            for name in &statement.vulnerability {
                by_name.entry(name.raw()).or_default().push(Said { digest, own, statement });
            }
        }
        let platforms = image.platforms.iter().flat_map(|p| [Some(p.digest), p.config]).flatten();
        Self { by_name, image: platforms.chain([image.digest]).collect() }
    }

    /// What counts of all that is said of a finding: this site's own before what was brought, then the latest; of two at one
    /// time the one that excuses less.
    pub(crate) fn answer(&self, finding: &Finding) -> Option<Answer<'s>> {
        let said = finding.names().filter_map(|name| self.by_name.get(name.raw())).flatten();
        let said = said.filter(|said| said.statement.products.iter().any(|product| self.is_about(product, finding)));
        let rank = |said: &&Said<'_>| {
            let excuses = matches!(said.statement.status, Status::NotAffected | Status::Fixed);
            (said.own, said.statement.at.map(Timestamp::unix), !excuses)
        };
        let Said { digest, own, statement } = *said.max_by_key(rank)?;
        Some(Answer { status: statement.status, digest, own, justification: statement.justification.as_ref() })
    }

    fn is_about(&self, product: &Product, finding: &Finding) -> bool {
        let has = |id: &OutsideText| same_package(id.raw(), finding);
        let is_image = !product.digests.is_disjoint(&self.image)
            || product.ids.iter().filter_map(|id| image_digest(id.raw())).any(|digest| self.image.contains(&digest));
        match product.parts.is_empty() {
            true => is_image || product.ids.iter().any(has),
            false => is_image && product.parts.iter().any(has),
        }
    }
}

/// The digest of an image in a package URL of type `oci`: its version.
fn image_digest(id: &str) -> Option<Digest> {
    let url = PackageUrl::from_str(id).ok().filter(|url| url.ty() == "oci")?;
    url.version()?.parse().ok()
}

/// Whether an id names the package that a finding is in: package URLs by all that the id says, anything else by being equal.
fn same_package(id: &str, finding: &Finding) -> bool {
    let Some(found) = &finding.purl else { return false };
    if id == found.raw() {
        return true;
    }
    let (Ok(said), Ok(found)) = (PackageUrl::from_str(id), PackageUrl::from_str(found.raw())) else { return false };
    said.ty() == found.ty()
        && said.namespace() == found.namespace()
        && said.name() == found.name()
        && said.version().is_none_or(|version| found.version() == Some(version))
        && said.qualifiers().iter().all(|(key, value)| found.qualifiers().get(key) == Some(value))
        && said.subpath().is_none_or(|path| found.subpath() == Some(path))
}

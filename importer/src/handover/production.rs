//! For clusters that run what is in production: they accept what a production key signed under the name by which it is pulled, and
//! nothing else.
//!
//! What answers what:
//!
//! | somebody | answer |
//! |---|---|
//! | puts an image of their own into production | [`NodePolicy`]: refused by default, and every part of production demands a signature |
//! | gives a signed image another name, or moves a tag back | the signature must name what is pulled: the default of `signedIdentity`, matchRepoDigestOrExact |
//! | puts the signatures of a withdrawn image back | pulled by digest it is refused, signed or not ([`Denied`]); by tag, deny.json says so |
//! | has the key of another role called production's | [`Site::production_certificates`] |
//! | has a production key that was revoked since | its certificate is left out, and it is told |
//! | exchanges a certificate while this runs | what was read is what is copied |

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ledger::{Act, EntryNumber, Ledger};
use manifest_schema::{Digest, OutsideText, Reference, Repository, Scope, Timestamp};
use serde::Serialize;
use signing::{Certificates, KeyFile};

use super::mirrors::Found;
use super::policy::{Keys, NodePolicy, Requirement};
use super::registries_d::{self, Section, Urls};
use super::{LeftOut, Made, OriginRow, Report, ScopeRow, mirrors, node_folder, readme};
use crate::config::Mirrors;
use crate::error::Error;
use crate::site::Site;

/// An image that was withdrawn, and has not been signed since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Denied {
    /// What it was called in production.
    pub reference: Reference,
    /// The digest of an index or image manifest.
    pub digest: Digest,
    /// When it was withdrawn.
    pub withdrawn: Timestamp,
    /// The ledger's entry.
    pub entry: EntryNumber,
    /// Why.
    pub reason: OutsideText,
    /// Whether the digest is refused in all of its repository: no other tag has it with signatures.
    pub refused: bool,
}

/// deny.json
#[derive(Serialize)]
struct DenyList<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    ledger: String,
    images: &'a [Denied],
}

/// Makes the files. `key_dir` is where the keys will lie on the nodes.
///
/// # Errors
/// [`Error::KeyDir`], [`Error::Missing`], those of [`Urls::of`], and of reading the ledger.
pub fn make(
    site: &Site,
    ledger: &Ledger,
    certificates: &Certificates,
    mirrors: Mirrors,
    key_dir: &Path,
    urls: &Urls,
) -> Result<Made, Error> {
    let key_dir = node_folder(key_dir)?;
    let places = site.production_places()?;
    let parts: BTreeSet<&Scope> = site.production_scopes().into_iter().collect();
    let registries: BTreeSet<&str> = parts.iter().map(|part| part.registry()).collect();
    let registries: Vec<&str> = registries.into_iter().collect();
    let urls = urls.of(&registries, |registry| places.root(registry))?;
    let urls: BTreeMap<&str, String> = registries.into_iter().zip(urls).collect();
    let denied = denied(ledger)?;

    let mut keys = Keys::new(&key_dir);
    let certificate = KeyFile { path: PathBuf::from("production.asc"), bytes: certificates.keyring(site.now)? };
    let signed = keys.signed_by(&certificate, None);
    let mut docker: BTreeMap<String, Vec<Requirement>> =
        parts.iter().map(|part| (part.to_string(), vec![signed.clone()])).collect();
    let mut scopes: Vec<ScopeRow> = parts.iter().map(|part| row(site, part, &signed)).collect();
    let found = if mirrors == Mirrors::None { Found::default() } else { mirrors::of(site) };
    for mirror in &found.mirrors {
        let signed = keys.signed_by(&certificate, Some(mirror.identity()));
        scopes.push(ScopeRow {
            scope: mirror.origin.to_string(),
            demands: vec![signed.kind()],
            identities: vec![mirror.identity()],
            origins: Vec::new(),
        });
        docker.insert(mirror.origin.to_string(), vec![signed]);
    }
    for origin in &found.refused {
        docker.insert(origin.to_string(), vec![Requirement::Reject]);
    }
    for image in denied.iter().filter(|image| image.refused) {
        let repository = image.reference.repository();
        for name in std::iter::once(repository.to_string()).chain(mirrors::origins(&found.mirrors, repository)) {
            docker.insert(format!("{name}@{}", image.digest), vec![Requirement::Reject]);
        }
    }
    let section = |part: &&Scope| {
        let lookaside = urls.get(part.registry()).cloned();
        lookaside.map(|lookaside| Section { scope: part.to_string(), lookaside, use_sigstore_attachments: false })
    };
    let lookaside: Vec<_> = parts.iter().filter_map(section).collect();
    let list = DenyList { kind: "sealift/deny-list/1", ledger: ledger.id().to_string(), images: &denied };
    let mut files = BTreeMap::from([
        ("policy.json".to_string(), NodePolicy::new(&docker).to_bytes()),
        ("deny.json".to_string(), json(&list)),
        ("registries.d/sealift-production.yaml".to_string(), registries_d::text(&lookaside).into_bytes()),
    ]);
    files.extend(mirrors::files(&found, mirrors));
    files.extend(keys.files().map(|(name, bytes)| (format!("keys/{name}"), bytes.to_vec())));
    let Found { mirrors, mut left_out, .. } = found;
    left_out.extend(certificates.info(site.now).into_iter().filter_map(|certificate| {
        let reason = format!("production key {}: {}", certificate.fingerprint, certificate.refused?);
        Some(LeftOut { scope: None, streams: Vec::new(), reason })
    }));
    let unknown = site.signing_keys()?.into_iter().filter(|fingerprint| !certificates.has_key(fingerprint));
    left_out.extend(unknown.map(|fingerprint| {
        let reason = format!("production key {fingerprint}, which signs now: it is not among the certificates");
        LeftOut { scope: None, streams: Vec::new(), reason }
    }));
    let report = Report { key_dir, scopes, keys: keys.rows(), lookaside, left_out, mirrors, denied };
    files.insert("README.txt".into(), readme::production(&report).into_bytes());
    Ok(Made { files, report })
}

/// What was withdrawn and not signed since.
fn denied(ledger: &Ledger) -> Result<Vec<Denied>, Error> {
    let rows = ledger.all_withdrawn()?;
    let withdrawn: BTreeSet<(&Reference, &Digest)> = rows.iter().map(|(_, image, digest)| (image, digest)).collect();
    let mut signed: BTreeMap<(&Repository, &Digest), bool> = BTreeMap::new();
    let mut reasons: BTreeMap<EntryNumber, OutsideText> = BTreeMap::new();
    let mut denied = Vec::new();
    for (at, reference, digest) in &rows {
        let is_signed = match signed.entry((reference.repository(), digest)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                let signatures = ledger.signatures_in(reference.repository(), digest)?;
                *place.insert(signatures.iter().any(|s| !withdrawn.contains(&(&s.reference, digest))))
            }
        };
        let reason = match reasons.entry(at.entry) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(place) => {
                let missing = || Error::from(ledger::Error::NoSuchEntry(at.entry));
                let Act::Withdrawn(act) = ledger.entry(at.entry)?.ok_or_else(missing)?.entry.act else {
                    return Err(missing());
                };
                place.insert(act.reason).clone()
            }
        };
        denied.push(Denied {
            reference: reference.clone(),
            digest: *digest,
            withdrawn: at.time,
            entry: at.entry,
            reason,
            refused: !is_signed,
        });
    }
    Ok(denied)
}

fn json(list: &DenyList<'_>) -> Vec<u8> {
    // Strings, numbers, lists and names.
    let text = serde_json::to_string_pretty(list);
    text.map(|text| text + "\n").unwrap_or_else(|_| unreachable!("JSON by construction")).into_bytes()
}

fn row(site: &Site, part: &Scope, signed: &Requirement) -> ScopeRow {
    let mut origins = Vec::new();
    for (stream, rules) in site.all_rules() {
        let inside = rules.to.mappings.iter().filter(|mapping| part.overlaps(&mapping.to));
        origins.extend(inside.map(|mapping| OriginRow {
            stream: stream.into(),
            origin: mapping.from.to_string(),
            policy: None,
        }));
    }
    ScopeRow { scope: part.to_string(), demands: vec![signed.kind()], identities: Vec::new(), origins }
}

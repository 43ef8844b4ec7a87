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

use super::clusters::{Material, REGISTRIES_D, Wanted};
use super::earlier::Earlier;
use super::merge::Present;
use super::mirrors::Found;
use super::policy::{Keys, NodePolicy, Requirement};
use super::registries_d::{self, Section, Urls};
use super::{LeftOut, Made, OriginRow, Report, ScopeRow, annotations, mirrors, node_folder, readme};
use crate::config::{ClusterKind, Mirrors};
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

/// What to make files from, beside the site.
pub struct Asked<'a> {
    /// Whose signatures count.
    pub certificates: &'a Certificates,
    /// For which pulls production stands in for the origins.
    pub mirrors: Mirrors,
    /// Where the keys will lie on the nodes.
    pub key_dir: &'a Path,
    /// Where signatures are.
    pub urls: &'a Urls,
    /// For which clusters, and what their nodes have already.
    pub wanted: &'a Wanted,
}

/// Makes the files.
///
/// # Errors
/// [`super::HandOverError::KeyDir`], [`Error::Missing`], those of [`Urls::of`], [`Wanted::check_urls`], [`Present::merge`] and [`Wanted::files`], and of reading the ledger.
pub fn make(site: &Site, ledger: &Ledger, asked: &Asked<'_>) -> Result<Made, Error> {
    let Asked { certificates, wanted, .. } = asked;
    wanted.check()?;
    let key_dir = node_folder(asked.key_dir)?;
    let places = site.production_places()?;
    let parts: BTreeSet<&Scope> = site.production_scopes().into_iter().collect();
    let registries: BTreeSet<&str> = parts.iter().map(|part| part.registry()).collect();
    let registries: Vec<&str> = registries.into_iter().collect();
    let urls = asked.urls.of(&registries, |registry| places.root(registry))?;
    wanted.check_urls(urls.iter().map(String::as_str), asked.urls.are_given())?;
    let urls: BTreeMap<&str, String> = registries.into_iter().zip(urls).collect();
    let denied = denied(ledger)?;
    let found = if asked.mirrors == Mirrors::None { Found::default() } else { mirrors::of(site) };

    // A key file on nodes of OpenShift would have them rebooted.
    let mut keys = if wanted.has(ClusterKind::Openshift) { Keys::inline() } else { Keys::new(&key_dir) };
    let keyring = KeyFile { path: PathBuf::from("production.asc"), bytes: certificates.keyring(site.now)? };
    let (mut docker, mut scopes) = rules(site, &parts, &found, &denied, &keyring, &mut keys);
    for (row, rule) in wanted.platform.rules(&mut keys, &docker)? {
        docker.insert(row.scope.clone(), vec![rule]);
        scopes.push(row);
    }
    let (policy, merged) = match &wanted.merge_policy {
        None => (NodePolicy::new(&docker).to_text(), None),
        Some(file) => {
            let earlier = Earlier::new(&key_dir, certificates, &found.mirrors, ledger);
            let (policy, merged) = Present::load(file)?.merge(&docker, &earlier, wanted.merge_default)?;
            (policy, Some(merged))
        }
    };
    let section = |part: &&Scope| {
        let lookaside = urls.get(part.registry()).cloned();
        lookaside.map(|lookaside| Section { scope: part.to_string(), lookaside, use_sigstore_attachments: false })
    };
    let lookaside: Vec<_> = parts.iter().filter_map(section).collect();
    let registries_d = registries_d::text(&lookaside);
    let material = Material {
        policy: &policy,
        keys: &keys,
        registries_d: &registries_d,
        keyring: &keyring.bytes,
        parts: parts.iter().filter_map(|part| Some((*part, urls.get(part.registry())?.as_str()))).collect(),
        mirrors: &found.mirrors,
        denied: &denied,
    };
    let clusters = wanted.files(site, &material)?;

    let list = DenyList { kind: "sealift/deny-list/1", ledger: ledger.id().to_string(), images: &denied };
    let mut files = BTreeMap::from([("deny.json".to_string(), json(&list))]);
    files.extend(mirrors::files(&found, asked.mirrors));
    files.extend(keys.files().map(|(name, bytes)| (format!("keys/{name}"), bytes.to_vec())));
    files.extend(clusters.files);
    let is_denied = |digest: &Digest| denied.iter().any(|image| image.refused && image.digest == *digest);
    let releases = site.release_config_maps()?;
    let (withdrawn, releases): (Vec<_>, Vec<_>) = releases.into_iter().partition(|(digest, _)| is_denied(digest));
    let of_release = |(digest, map): &(Digest, Vec<u8>)| (releases_file(digest), map.clone());
    files.extend(releases.iter().map(of_release));
    let annotations = annotations::of(ledger, &denied)?;
    if annotations.len() > 0 {
        files.insert(annotations::FILE.into(), annotations::script(&annotations));
    }
    files.insert("policy.json".into(), policy.into_bytes());
    files.insert(format!("registries.d/{REGISTRIES_D}"), registries_d.into_bytes());

    let Found { mirrors, mut left_out, .. } = found;
    left_out.extend(without_keys(site, certificates)?);
    left_out.extend(clusters.left_out);
    left_out.extend(withdrawn.into_iter().map(|(digest, _)| {
        let reason = format!("signatures of the release {digest}: it was withdrawn");
        LeftOut { scope: None, streams: Vec::new(), reason }
    }));
    let report = Report {
        key_dir,
        scopes,
        keys: keys.rows(),
        lookaside,
        left_out,
        mirrors,
        denied,
        kinds: wanted.kinds.iter().copied().collect(),
        merged,
        in_use: clusters.in_use,
        releases: releases.into_iter().map(|(digest, _)| digest).collect(),
        annotated: annotations.len(),
        annotated_denied: annotations.denied(),
    };
    let written: BTreeSet<&str> = files.keys().map(String::as_str).collect();
    let readme = readme::production(&report, &written);
    files.insert("README.txt".into(), readme.into_bytes());
    Ok(Made { files, report })
}

/// Where the signatures of release images are.
pub const RELEASES: &str = "openshift/release-signatures/";

fn releases_file(release: &Digest) -> String {
    format!("{RELEASES}{}-{}.yaml", release.algorithm().name(), release.hex())
}

/// The rules of this site, and what they are for people.
fn rules(
    site: &Site,
    parts: &BTreeSet<&Scope>,
    found: &Found,
    denied: &[Denied],
    keyring: &KeyFile,
    keys: &mut Keys,
) -> (BTreeMap<String, Vec<Requirement>>, Vec<ScopeRow>) {
    let signed = keys.signed_by(keyring, None);
    let mut docker: BTreeMap<String, Vec<Requirement>> =
        parts.iter().map(|part| (part.to_string(), vec![signed.clone()])).collect();
    let mut scopes: Vec<ScopeRow> = parts.iter().map(|part| row(site, part, &signed)).collect();
    for mirror in &found.mirrors {
        let signed = keys.signed_by(keyring, Some(mirror.identity()));
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
    (docker, scopes)
}

/// Keys of production whose signatures clusters will not accept.
fn without_keys(site: &Site, certificates: &Certificates) -> Result<Vec<LeftOut>, Error> {
    let left_out = |reason| LeftOut { scope: None, streams: Vec::new(), reason };
    let refused = certificates.info(site.now).into_iter().filter_map(|certificate| {
        Some(left_out(format!("production key {}: {}", certificate.fingerprint, certificate.refused?)))
    });
    let unknown = site.signing_keys()?.into_iter().filter(|fingerprint| !certificates.has_key(fingerprint));
    let unknown = unknown.map(|fingerprint| {
        left_out(format!("production key {fingerprint}, which signs now: it is not among the certificates"))
    });
    Ok(refused.chain(unknown).collect())
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

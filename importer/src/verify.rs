//! `verify`: steps 0 to 4 without pushing. It goes on after a problem wherever something is left to check.

use std::path::Path;

use blobs::VerifyingReader;
use console::{Explain, Fault, Progress};
use manifest_schema::{BundleId, Digest, Sequence, Stream};
use serde::Serialize;

use crate::admit;
use crate::authenticate::{Authenticated, authenticate};
use crate::error::Error;
use crate::open;
use crate::push::{Stop, read_all};
use crate::site::Site;

/// The result of a verification.
#[derive(Debug, Serialize)]
pub struct Verification {
    /// The bundle, once it was authenticated.
    pub bundle: Option<Verified>,
    /// What was checked, step by step.
    pub checks: Vec<Check>,
}

/// An authenticated bundle.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// Its id.
    pub id: BundleId,
    /// Its release line.
    pub stream: Stream,
    /// Its number.
    pub sequence: Sequence,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Fingerprints of the certificates that signed the manifest.
    pub signers: Vec<String>,
}

/// One check.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// The problem; `None` if it is good.
    pub problem: Option<String>,
    #[serde(skip)]
    failure: Option<(Fault, Option<String>)>,
}

impl Verification {
    /// The problems.
    pub fn problems(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|c| c.problem.is_some())
    }

    /// The highest exit code and the hint that belongs to it; `None` if all is good.
    pub fn worst(&self) -> Option<(Fault, Option<String>)> {
        self.checks.iter().filter_map(|c| c.failure.clone()).max_by_key(|(fault, _)| *fault)
    }

    fn note<T>(&mut self, name: &str, result: Result<T, Error>) -> Option<T> {
        let (value, problem, failure) = match result {
            Ok(value) => (Some(value), None, None),
            Err(e) => {
                let mut text = e.to_string();
                let mut next = std::error::Error::source(&e);
                while let Some(cause) = next {
                    text += &format!(": {cause}");
                    next = cause.source();
                }
                (None, Some(text), Some((e.fault(), e.hint())))
            }
        };
        self.checks.push(Check { name: name.into(), problem, failure });
        value
    }
}

/// Verifies a bundle. Nothing is written anywhere.
pub fn verify(site: &Site, folder: &Path, progress: &Progress) -> Verification {
    let mut v = Verification { bundle: None, checks: Vec::new() };
    let Some(sealed) = v.note("seal", open::seal(site, folder)) else { return v };
    files(&mut v, &sealed, progress);
    let Some(identities) = v.note("identity", site.identities()) else { return v };
    let Some(opened) = v.note("open", sealed.open(&identities)) else { return v };
    let Some(bundle) = v.note("manifest", authenticate(opened)) else { return v };
    v.bundle = Some(describe(&bundle));
    match site.read_ledger() {
        Ok(Some(ledger)) => {
            v.note("sequence", admit::sequence(Some(&ledger), &bundle));
        }
        Ok(None) => {}
        Err(e) => {
            v.note::<()>("sequence", Err(e));
        }
    }
    v.note("expiry", admit::expiry(site, bundle.manifest.get()));
    v.note("origins and destinations", admit::destinations(&bundle));
    if let Some((graph, evidence)) = v.note("image manifests", admit::documents(&bundle)) {
        for judged in v.note("signatures", admit::judged(site, &bundle, &graph, &evidence)).into_iter().flatten() {
            v.note(&format!("image policy for {}", judged.origin), judged.accept());
        }
    }
    progress.begin("verifying blobs", bundle.manifest.get().total_bytes());
    let mut wrong = Vec::new();
    let read = read_all(&bundle, |blob, mut content| {
        let item = progress.item(&blob.digest.to_string(), blob.size);
        let checked = VerifyingReader::new(item.reader(&mut content), blob.digest, blob.size).finish();
        match checked {
            Ok(_) => Ok(()),
            Err(e) => match blobs::BlobError::of(&e) {
                Some(problem) => {
                    wrong.push(problem.clone());
                    // The next blob begins where this one ends.
                    std::io::copy(&mut content, &mut std::io::sink()).map(|_| ()).map_err(Stop::Content)
                }
                None => Err(Stop::Content(e)),
            },
        }
    });
    progress.end();
    for problem in wrong {
        v.note::<()>("blob", Err(Error::Blob(problem)));
    }
    v.note("volumes", read);
    v
}

/// Every file against the seal: all damage is named, not only the first.
fn files(v: &mut Verification, sealed: &open::Sealed<'_>, progress: &Progress) {
    let seal = sealed.seal.get();
    let names: Vec<&str> = seal.files().map(|(name, _)| name).collect();
    progress.begin("checking files", sealed.folder.sizes(&names));
    match bundle::check_files(&sealed.folder, seal, |n| progress.advance(n)) {
        Err(e) => {
            v.note::<()>("files", Err(e.into()));
        }
        Ok(states) => {
            for state in states {
                let file = sealed.folder.path().join(&state.name);
                let result = match state.found {
                    Some(found) if state.is_good() || found == state.expected => Ok(()),
                    Some(found) => Err(Error::Damaged { file, expected: state.expected, found }),
                    None => match state.unreadable {
                        Some(reason) => Err(Error::UnreadableFile { file, reason }),
                        None => Err(Error::MissingFile { file }),
                    },
                };
                v.note(&format!("file {}", state.name), result);
            }
        }
    }
    progress.end();
}

fn describe(bundle: &Authenticated<'_>) -> Verified {
    let m = bundle.manifest.get();
    Verified {
        id: m.bundle,
        stream: m.stream.clone(),
        sequence: m.sequence,
        manifest: bundle.digest,
        signers: bundle.manifest.signers().iter().map(|s| s.fingerprint.to_string()).collect(),
    }
}

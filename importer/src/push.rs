//! Step 4: verified and pushed. Each blob streams from the medium through its digest check into the registry.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use blobs::VerifyingReader;
use bundle::Contents;
use console::Progress;
use manifest_schema::{Blob, Digest, Repository};

use crate::admit::{Admitted, Placement};
use crate::authenticate::Authenticated;
use crate::error::Error;

/// How often the volumes are read for blobs that a passing fault of the registry kept from being pushed: a streamed blob
/// cannot be sent again without reading it again.
const PASSES: u32 = 4;
/// So many blobs in a row that fail for a passing reason say that it does not pass: each had its own retries.
const GIVE_UP: u32 = 5;

/// A bundle whose blobs are all in the registry, and whose volumes are what was sealed.
#[must_use]
pub struct Pushed<'s> {
    pub(crate) admitted: Admitted<'s>,
}

/// Pushes every blob that an image needs; those that are there already are only verified.
///
/// # Errors
/// [`Error`] names the blob or volume. Sound blobs that came before may lie in the registry, unreferenced.
pub fn push<'s>(admitted: Admitted<'s>, progress: &Progress) -> Result<Pushed<'s>, Error> {
    let users = admitted.placement.users(|closure| closure.blobs.iter());
    let mut open: BTreeMap<Digest, BTreeSet<Repository>> = users;
    let (mut pass, mut in_a_row) = (1, 0);
    loop {
        let mut failed = one_pass(&admitted, &open, &mut in_a_row, progress)?;
        let Some((digest, last)) = failed.pop_last() else { return Ok(Pushed { admitted }) };
        if pass == PASSES {
            return Err(last);
        }
        let count = failed.len() + 1;
        progress.warn(format_args!("{count} blobs are tried again, the last one {digest}: {last}"));
        open.retain(|d, _| *d == digest || failed.contains_key(d));
        std::thread::sleep(Duration::from_secs(1 << (pass - 1)));
        pass += 1;
    }
}

/// Reads every volume once, whole; its ciphertext is held against the seal in the same read. Gives the blobs that failed
/// for a passing reason; `in_a_row` counts those since the last that did not.
fn one_pass(
    admitted: &Admitted<'_>,
    open: &BTreeMap<Digest, BTreeSet<Repository>>,
    in_a_row: &mut u32,
    progress: &Progress,
) -> Result<BTreeMap<Digest, Error>, Error> {
    let mut failed = BTreeMap::new();
    let bundle = &admitted.bundle;
    progress.begin("verifying and pushing", bundle.manifest.get().total_bytes());
    read_all(bundle, |blob, content| {
        let item = progress.item(&blob.digest.to_string(), blob.size);
        let mut content = VerifyingReader::new(item.reader(content), blob.digest, blob.size);
        let result = match open.get(&blob.digest) {
            Some(repositories) => {
                let placed = place(&admitted.placement, blob, repositories, &mut content);
                *in_a_row = if placed.is_ok() { 0 } else { *in_a_row + 1 };
                placed
            }
            None => Ok(()),
        };
        let result = match result {
            // The medium failed under the upload: reading on would only hide why.
            Err(Error::Registry(registry::Error::Read { source, .. })) if registry::Error::of(&source).is_none() => {
                return Err(Stop::Content(source));
            }
            Err(Error::Registry(e)) if !e.is_transient() && !e.is_content() => {
                return Err(Stop::Ours(Box::new(e.into())));
            }
            other => other,
        };
        // What the registry did not take is verified all the same. If the content is at fault, that is what counts.
        let _verified = content.finish().map_err(Stop::Content)?;
        match result {
            Err(Error::Registry(e)) if e.is_transient() => {
                if *in_a_row >= GIVE_UP {
                    return Err(Stop::Ours(Box::new(e.into())));
                }
                progress.warn(format_args!("{e}; the blob is tried again later"));
                failed.insert(blob.digest, Error::Registry(e));
                Ok(())
            }
            other => other.map_err(|e| Stop::Ours(Box::new(e))),
        }
    })?;
    progress.end();
    Ok(failed)
}

/// Why reading a blob stopped.
pub(crate) enum Stop {
    /// The content was wrong or could not be read.
    Content(io::Error),
    /// Anything else.
    Ours(Box<Error>),
}

/// Reads all blobs of all volumes in order. The whole ciphertext of each volume must be what was sealed.
pub(crate) fn read_all(
    bundle: &Authenticated<'_>,
    mut act: impl FnMut(&Blob, &mut (dyn io::Read + Send)) -> Result<(), Stop>,
) -> Result<(), Error> {
    let manifest = bundle.manifest.get();
    for (index, sealed) in bundle.sealed.seal.get().volumes.iter().enumerate() {
        let wrong = |e| bundle.sealed.diagnose(index, e);
        let file = bundle.sealed.folder.open_file(&sealed.name)?;
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let mut contents = Contents::open(file, &bundle.identities, manifest, &bundle.digest, number).map_err(wrong)?;
        while let Some((blob, content)) = contents.next_blob().map_err(wrong)? {
            act(blob, content.into_inner()).map_err(|stop| match stop {
                Stop::Content(e) => wrong(Contents::content_error(e)),
                Stop::Ours(e) => *e,
            })?;
        }
        let found = contents.finish().map_err(wrong)?;
        if found != sealed.digest {
            return Err(Error::Damaged {
                file: bundle.sealed.folder.path().join(&sealed.name),
                expected: sealed.digest,
                found,
            });
        }
    }
    Ok(())
}

/// Puts a blob into every repository that needs it: found there, streamed once, mounted, or read back through the check.
fn place<R: io::Read + Send>(
    placement: &Placement,
    blob: &Blob,
    repositories: &BTreeSet<Repository>,
    content: &mut VerifyingReader<R>,
) -> Result<(), Error> {
    let mut missing = Vec::new();
    let mut holder: Option<&Repository> = None;
    for repository in repositories {
        if placement.client(repository)?.has_blob(&blob.digest, blob.size)? {
            tracing::info!("{repository} has {}", blob.digest);
            holder = holder.or(Some(repository));
        } else {
            missing.push(repository);
        }
    }
    let mut missing = missing.into_iter();
    if holder.is_none()
        && let Some(first) = missing.next()
    {
        let _pushed = placement.client(first)?.push_blob(content)?;
        tracing::info!("{first}: pushed {}", blob.digest);
        holder = Some(first);
    }
    for repository in missing {
        let client = placement.client(repository)?;
        let Some(from) = holder else { break };
        if from.registry() == repository.registry() && client.mount_blob(&blob.digest, from)? {
            tracing::info!("{repository}: mounted {} from {from}", blob.digest);
            continue;
        }
        let copy = placement.client(from)?.fetch_blob(&blob.digest, blob.size)?;
        let _pushed = client.push_blob(&mut VerifyingReader::new(copy, blob.digest, blob.size))?;
        tracing::info!("{repository}: copied {} from {from}", blob.digest);
    }
    Ok(())
}

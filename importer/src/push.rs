//! Step 4: verified and pushed. Each blob streams from the medium through its digest check into the registry.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blobs::VerifyingReader;
use blobs::pipe::{PipeReader, Pool};
use blobs::threads::{self, Turns};
use console::Progress;
use ledger::{Ledger, Subject};
use manifest_schema::{Blob, Digest, Manifest, Repository, Stored};
use registry::{RepositoryClient, UploadJournal, UploadMark};

use crate::admit::{Admitted, Placement};
use crate::authenticate::Authenticated;
use crate::error::Error;
use crate::media::{Media, Staged};
use crate::present::{self, Users};
use crate::reading::{self, Dealer, Ended, Run, Stop};

/// How often the volumes are read for blobs that a passing fault of the registry kept from being pushed: a streamed blob
/// cannot be sent again without reading it again.
const PASSES: u32 = 4;
/// So many blobs in a row that fail for a passing reason say that it does not pass: each had its own retries.
const GIVE_UP: u32 = 5;

/// From this size on, in bytes, an upload is made in chunks that a later run can continue. In one piece it is faster by up to
/// a third, which is worth more as long as sending it again costs little.
const CONTINUED: u64 = 512 << 20;

/// So many such uploads are made at once: each holds a chunk in memory. As many as volumes are read at once, or the others would
/// wait with all buffers full.
const CONTINUED_AT_ONCE: usize = 2;

/// A bundle whose blobs are all in the registry.
#[must_use]
pub struct Pushed<'s> {
    pub(crate) admitted: Admitted<'s>,
}

/// Pushes every blob that an image needs, several at once. Volumes are read as they come to hand, and not at all if the
/// registry has everything that is in them; each that is read must be what was sealed.
///
/// # Errors
/// [`Error`] names the blob or volume. Sound blobs that came before may lie in the registry, unreferenced.
pub fn push<'s>(
    admitted: Admitted<'s>,
    jobs: usize,
    ledger: &mut Ledger,
    progress: &Progress,
) -> Result<Pushed<'s>, Error> {
    if let Media::Staged(staged) = &admitted.bundle.media {
        promote(&admitted, staged, jobs, progress)?;
        return Ok(Pushed { admitted });
    }
    let bundle = &admitted.bundle;
    let manifest = bundle.manifest.get();
    let users = admitted.placement.users(|closure| closure.blobs.iter());
    let sizes = manifest.blobs_by_digest();
    let present = present::ask(&admitted.placement, &users, &sizes, jobs)?;
    let unneeded = match bundle.media {
        Media::Folders(_) => unneeded(manifest, &users, &present),
        Media::Piped(_) | Media::Staged(_) => BTreeSet::new(),
    };
    if !unneeded.is_empty() {
        let numbers: Vec<_> = unneeded.iter().map(ToString::to_string).collect();
        progress.say(format_args!("the registry has all that is in volume {}: not read", numbers.join(", ")));
    }
    let mut runs = Run::all(manifest, &unneeded);
    let to_read = |b: &&Blob| b.stored.pieces().any(|p| runs.iter().any(|r| r.has(p.volume)));
    progress.begin("verifying and pushing", manifest.blobs.iter().filter(to_read).map(|b| b.size).sum());
    let volumes_at_once = bundle.media.volumes_at_once(jobs).min(runs.len()).max(1);
    let pusher = Pusher {
        admitted: &admitted,
        users: &users,
        present: &present,
        journal: Journal { ledger: Mutex::new(ledger), subject: &admitted.subject },
        buffers: reading::buffers(),
        continued: Turns::new(CONTINUED_AT_ONCE.max(volumes_at_once)),
        uploads: jobs.div_ceil(volumes_at_once),
        in_a_row: AtomicU32::new(0),
        stopped: AtomicBool::new(false),
        progress,
    };
    if bundle.media.waits() {
        while !runs.is_empty() {
            pusher.run(runs.remove(at_hand(&runs, &bundle.media.here())))?;
        }
    } else {
        threads::for_each_until(&pusher.stopped, volumes_at_once, runs, |run| pusher.run(run))?;
    }
    progress.end();
    for (digest, from) in &admitted.placement.base {
        if let (Some(blob), Some(repositories)) = (sizes.get(digest), users.get(digest)) {
            spread(&admitted.placement, blob, from, repositories.iter())?;
        }
    }
    Ok(Pushed { admitted })
}

/// Puts what waits into production: found there, mounted, or copied through the digest check.
fn promote(admitted: &Admitted<'_>, staged: &Staged, jobs: usize, progress: &Progress) -> Result<(), Error> {
    let placement = &admitted.placement;
    let sizes = admitted.bundle.manifest.get().blobs_by_digest();
    let users = placement.users(|closure| closure.blobs.iter());
    let present = present::ask(placement, &users, &sizes, jobs)?;
    let mut waits_at: BTreeMap<Digest, &RepositoryClient> = BTreeMap::new();
    for placed in &placement.images {
        if let Some(client) = staged.waits_at(&placed.image.origin) {
            waits_at.extend(placed.closure.blobs.iter().map(|digest| (*digest, client)));
        }
    }
    let missing: Vec<_> = users
        .iter()
        .filter_map(|(digest, needed)| {
            let there = present.get(digest);
            let missing: Vec<_> = needed.iter().filter(|r| there.is_none_or(|t| !t.contains(*r))).collect();
            (!missing.is_empty()).then_some((sizes.get(digest)?, there.and_then(BTreeSet::first), missing))
        })
        .collect();
    progress.begin("promoting", missing.iter().map(|(blob, ..)| blob.size).sum());
    threads::for_each(jobs, missing, |(blob, holder, missing)| {
        let source = match holder {
            Some(repository) => placement.client(repository)?,
            None => *waits_at.get(&blob.digest).ok_or(Error::NoBlob { digest: blob.digest })?,
        };
        spread(placement, blob, source, missing.into_iter())?;
        progress.advance(blob.size);
        Ok::<_, Error>(())
    })?;
    progress.end();
    Ok(())
}

/// The volumes that hold nothing that the registry still needs.
fn unneeded(manifest: &Manifest, users: &Users, present: &Users) -> BTreeSet<u32> {
    let mut unneeded: BTreeSet<u32> = (1..=manifest.volumes.count).collect();
    for blob in &manifest.blobs {
        if users.get(&blob.digest).is_some_and(|needed| present.get(&blob.digest) != Some(needed))
            && let Some((first, last)) = blob.stored.volumes()
        {
            (first..=last).for_each(|number| {
                unneeded.remove(&number);
            });
        }
    }
    unneeded
}

/// What is at hand comes first; otherwise the next in order, for which the reader waits.
fn at_hand(runs: &[Run], here: &BTreeSet<u32>) -> usize {
    runs.iter().position(|run| (run.first..=run.last).all(|number| here.contains(&number))).unwrap_or(0)
}

/// Pushes what is in volumes.
struct Pusher<'p, 's> {
    admitted: &'p Admitted<'s>,
    users: &'p Users,
    /// Who had what before anything was pushed.
    present: &'p Users,
    journal: Journal<'p>,
    buffers: Arc<Pool>,
    continued: Turns,
    /// Blobs of one run that are pushed at once.
    uploads: usize,
    /// Blobs that failed since the last that did not.
    in_a_row: AtomicU32,
    /// Another run has failed: what is under way need not go on.
    stopped: AtomicBool,
    progress: &'p Progress,
}

impl Pusher<'_, '_> {
    /// Reads a run until every blob in it has been pushed.
    fn run(&self, run: Run) -> Result<(), Error> {
        let (mut pass, mut again) = (1, None);
        loop {
            let media = &self.admitted.bundle.media;
            let mut failed = media.reading(|| self.pass(run, again.as_ref()))?;
            let Some((digest, last)) = failed.pop_last() else { return Ok(()) };
            if pass == PASSES || matches!(self.admitted.bundle.media, Media::Piped(_)) {
                return Err(last);
            }
            let count = failed.len() + 1;
            self.progress.warn(format_args!("{count} blobs are tried again, the last one {digest}: {last}"));
            again = Some(failed.into_keys().chain([digest]).collect());
            std::thread::sleep(Duration::from_secs(1 << (pass - 1)));
            pass += 1;
        }
    }

    /// Reads the volumes of a run once, and pushes every blob, or only some again. Gives those that failed for a passing reason.
    fn pass(&self, run: Run, only: Option<&BTreeSet<Digest>>) -> Result<BTreeMap<Digest, Error>, Error> {
        let bundle = &self.admitted.bundle;
        let failed = Mutex::new(BTreeMap::new());
        let dealer = Dealer { hands: self.uploads, buffers: &self.buffers, stopped: &self.stopped };
        let ended = dealer.deal(bundle, run, |blob, content| {
            if let Some(e) = self.upload(blob, content, only)? {
                failed.lock().unwrap_or_else(PoisonError::into_inner).insert(blob.digest, e);
            }
            Ok(())
        })?;
        if let Ended::Stream { seal, signature } = ended {
            stream_sealed(bundle, seal, &signature)?;
        }
        Ok(failed.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Pushes a blob, and checks it to its end whatever the registry says. Gives an error that may pass.
    fn upload(&self, blob: &Blob, content: PipeReader, only: Option<&BTreeSet<Digest>>) -> Result<Option<Error>, Stop> {
        let item = self.progress.item(&blob.digest.to_string(), blob.size);
        let mut content = VerifyingReader::new(item.reader(content), blob.digest, blob.size);
        let result = match self.users.get(&blob.digest) {
            Some(repositories) if only.is_none_or(|only| only.contains(&blob.digest)) => {
                let placed = self.place(blob, repositories, &mut content);
                match placed {
                    Ok(()) => self.in_a_row.store(0, Ordering::Relaxed),
                    Err(_) => {
                        self.in_a_row.fetch_add(1, Ordering::Relaxed);
                    }
                }
                placed
            }
            _ => Ok(()),
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
                if self.in_a_row.load(Ordering::Relaxed) >= GIVE_UP {
                    return Err(Stop::Ours(Box::new(e.into())));
                }
                self.progress.warn(format_args!("{e}; the blob is tried again later"));
                Ok(Some(Error::Registry(e)))
            }
            Err(other) => Err(Stop::Ours(Box::new(other))),
            Ok(()) => Ok(None),
        }
    }

    /// Puts a blob into every repository that needs it: found there, streamed once, mounted, or read back through the check.
    fn place<R: io::Read + Send>(
        &self,
        blob: &Blob,
        repositories: &BTreeSet<Repository>,
        content: &mut VerifyingReader<R>,
    ) -> Result<(), Error> {
        let placement = &self.admitted.placement;
        let mut missing = Vec::new();
        let mut holder: Option<&Repository> = None;
        for repository in repositories {
            if self.present.get(&blob.digest).is_some_and(|p| p.contains(repository)) {
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
            let client = placement.client(first)?;
            // Between two parts somebody may have to change media: no request may wait for that.
            let in_parts = matches!(blob.stored, Stored::Parts { .. });
            let _pushed = match in_parts || blob.size >= CONTINUED {
                true => {
                    let _turn = self.continued.take();
                    client.push_or_continue(content, &self.journal)?
                }
                false => client.push_blob(content)?,
            };
            tracing::info!("{first}: pushed {}", blob.digest);
            holder = Some(first);
        }
        match holder {
            Some(holder) => spread(placement, blob, placement.client(holder)?, missing),
            None => Ok(()),
        }
    }
}

/// Step 0 of a bundle that came through a pipe, as late as it must be: the seal is the one that follows from the manifest,
/// and it is signed like the manifest. What comes without has not been released.
pub(crate) fn stream_sealed(bundle: &Authenticated<'_>, seal: Vec<u8>, signature: &[u8]) -> Result<(), Error> {
    let stream = bundle.stream.clone();
    let authentic = bundle
        .rules
        .trust
        .verify_detached(seal, signature)
        .map_err(|source| Error::SealRejected { stream, source: Box::new(source) })?;
    let expected = bundle::stream_seal(bundle.manifest.get(), &bundle.digest);
    if *authentic.get() == expected { Ok(()) } else { Err(Error::OtherStreamSeal) }
}

/// How far uploads have come, kept in the ledger's working state.
struct Journal<'l> {
    ledger: Mutex<&'l mut Ledger>,
    subject: &'l Subject,
}

impl UploadJournal for Journal<'_> {
    fn mark(&self, repository: &Repository, digest: &Digest) -> Option<UploadMark> {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let found = ledger.upload_mark(self.subject, &repository.to_string(), digest);
        let found = found.inspect_err(|e| tracing::warn!("how far the upload came is not known: {e}")).ok()??;
        Some(UploadMark { location: found.0, offset: found.1 })
    }

    fn note(&self, repository: &Repository, digest: &Digest, mark: Option<&UploadMark>) {
        let mark = mark.map(|mark| (mark.location.as_str(), mark.offset));
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(e) = ledger.note_upload(self.subject, &repository.to_string(), digest, mark) {
            tracing::warn!("how far the upload came cannot be noted: {e}");
        }
    }
}

/// Puts a blob that one repository has into others: found there, mounted, or read back through the check.
fn spread<'r>(
    placement: &Placement,
    blob: &Blob,
    source: &RepositoryClient,
    repositories: impl Iterator<Item = &'r Repository>,
) -> Result<(), Error> {
    let from = source.repository();
    for repository in repositories.filter(|repository| *repository != from) {
        let client = placement.client(repository)?;
        if client.has_blob(&blob.digest, blob.size)? {
            continue;
        }
        if from.registry() == repository.registry() && client.mount_blob(&blob.digest, from)? {
            tracing::info!("{repository}: mounted {} from {from}", blob.digest);
            continue;
        }
        let copy = source.fetch_blob(&blob.digest, blob.size)?;
        let _pushed = client.push_blob(&mut VerifyingReader::new(copy, blob.digest, blob.size))?;
        tracing::info!("{repository}: copied {} from {from}", blob.digest);
    }
    Ok(())
}

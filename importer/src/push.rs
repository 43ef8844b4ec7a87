//! Step 4: verified and pushed. Each blob streams from the medium through its digest check into the registry.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use blobs::VerifyingReader;
use bundle::{BlobContent, Contents, Range};
use console::Progress;
use ledger::{Ledger, Subject};
use manifest_schema::{Blob, Digest, Manifest, Repository, Stored};
use registry::{RepositoryClient, UploadJournal, UploadMark};

use crate::admit::{Admitted, Placement};
use crate::authenticate::Authenticated;
use crate::error::Error;
use crate::media::{FromMedia, Media};

/// How often the volumes are read for blobs that a passing fault of the registry kept from being pushed: a streamed blob
/// cannot be sent again without reading it again.
const PASSES: u32 = 4;
/// So many blobs in a row that fail for a passing reason say that it does not pass: each had its own retries.
const GIVE_UP: u32 = 5;

/// From this size on, in bytes, an upload is made in chunks that a later run can continue. In one piece it is faster by up to
/// a third, which is worth more as long as sending it again costs little.
const CONTINUED: u64 = 512 << 20;

/// A bundle whose blobs are all in the registry, and whose volumes are what was sealed.
#[must_use]
pub struct Pushed<'s> {
    pub(crate) admitted: Admitted<'s>,
}

/// Pushes every blob that an image needs; those that are there already are only verified. Volumes are read as they come to
/// hand; those that an earlier run finished are not read again if the registry still has what they hold.
///
/// # Errors
/// [`Error`] names the blob or volume. Sound blobs that came before may lie in the registry, unreferenced.
pub fn push<'s>(admitted: Admitted<'s>, ledger: &Ledger, progress: &Progress) -> Result<Pushed<'s>, Error> {
    let users = admitted.placement.users(|closure| closure.blobs.iter());
    let bundle = &admitted.bundle;
    let manifest = bundle.manifest.get();
    let finished = finished(&admitted, &users, ledger)?;
    if !finished.is_empty() {
        let numbers: Vec<_> = finished.iter().map(ToString::to_string).collect();
        progress.say(format_args!("already done: volume {}", numbers.join(", ")));
    }
    let mut runs = Run::all(manifest, &finished);
    let to_read = |b: &&Blob| b.stored.pieces().any(|p| runs.iter().any(|r| r.has(p.volume)));
    progress.begin("verifying and pushing", manifest.blobs.iter().filter(to_read).map(|b| b.size).sum());
    let journal = Journal { ledger, subject: &admitted.subject };
    let mut pusher = Pusher { admitted: &admitted, users: &users, journal, in_a_row: 0, progress };
    while !runs.is_empty() {
        let next = if bundle.media.waits() { at_hand(&runs, &bundle.media.here()) } else { 0 };
        for (number, ciphertext) in pusher.run(runs.remove(next))? {
            ledger.note_finished_volume(&admitted.subject, number, &ciphertext)?;
        }
    }
    progress.end();
    let sizes = manifest.blobs_by_digest();
    for (digest, from) in &admitted.placement.base {
        if let (Some(blob), Some(repositories)) = (sizes.get(digest), users.get(digest)) {
            spread(&admitted.placement, blob, from, repositories.iter())?;
        }
    }
    Ok(Pushed { admitted })
}

/// Volumes that must be read behind each other, because a blob goes on from one to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub first: u32,
    pub last: u32,
}

impl Run {
    /// The runs of a bundle, without the volumes that are finished.
    pub fn all(manifest: &Manifest, finished: &BTreeSet<u32>) -> Vec<Self> {
        let mut goes_on = BTreeSet::new();
        for (first, last) in manifest.blobs.iter().filter_map(|b| b.stored.volumes()) {
            // A blob of which one volume is finished is there as a whole.
            if (first..=last).all(|number| !finished.contains(&number)) {
                goes_on.extend(first..last);
            }
        }
        let mut runs: Vec<Self> = Vec::new();
        for number in (1..=manifest.volumes.count).filter(|number| !finished.contains(number)) {
            match runs.last_mut() {
                Some(run) if run.last + 1 == number && goes_on.contains(&run.last) => run.last = number,
                _ => runs.push(Self { first: number, last: number }),
            }
        }
        runs
    }

    fn has(&self, number: u32) -> bool {
        (self.first..=self.last).contains(&number)
    }
}

/// The volumes that an earlier run finished, if the registry still has all that is in them.
fn finished(admitted: &Admitted<'_>, users: &Users, ledger: &Ledger) -> Result<BTreeSet<u32>, Error> {
    let mut finished = ledger.finished_volumes(&admitted.subject)?;
    if finished.is_empty() || matches!(admitted.bundle.media, Media::Piped(_)) {
        return Ok(BTreeSet::new());
    }
    for blob in &admitted.bundle.manifest.get().blobs {
        let Some((first, last)) = blob.stored.volumes() else { continue };
        if !(first..=last).any(|number| finished.contains(&number)) {
            continue;
        }
        for repository in users.get(&blob.digest).into_iter().flatten() {
            if !admitted.placement.client(repository)?.has_blob(&blob.digest, blob.size)? {
                (first..=last).for_each(|number| {
                    finished.remove(&number);
                });
            }
        }
    }
    Ok(finished)
}

/// The repositories that need a blob.
type Users = BTreeMap<Digest, BTreeSet<Repository>>;

/// What is at hand comes first; otherwise the next in order, for which the reader waits.
fn at_hand(runs: &[Run], here: &BTreeSet<u32>) -> usize {
    runs.iter().position(|run| (run.first..=run.last).all(|number| here.contains(&number))).unwrap_or(0)
}

/// Pushes what is in volumes.
struct Pusher<'p, 's> {
    admitted: &'p Admitted<'s>,
    users: &'p Users,
    journal: Journal<'p>,
    /// Blobs that failed since the last that did not.
    in_a_row: u32,
    progress: &'p Progress,
}

impl Pusher<'_, '_> {
    /// Reads a run until every blob in it has been pushed. Gives the volumes, with the digest of their ciphertext.
    fn run(&mut self, run: Run) -> Result<Ciphertexts, Error> {
        let (mut pass, mut again) = (1, None);
        loop {
            let media = &self.admitted.bundle.media;
            let (mut failed, ended) = media.reading(|| self.pass(run, again.as_ref()))?;
            let Some((digest, last)) = failed.pop_last() else { return Ok(ended) };
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

    /// Reads the volumes of a run once, whole; their ciphertext is held against the seal in the same read. Pushes every blob, or
    /// only some again. Gives those that failed for a passing reason, and the volumes.
    fn pass(
        &mut self,
        run: Run,
        only: Option<&BTreeSet<Digest>>,
    ) -> Result<(BTreeMap<Digest, Error>, Ciphertexts), Error> {
        let mut failed = BTreeMap::new();
        let bundle = &self.admitted.bundle;
        let ended = read_blobs(bundle, Range::Volumes(run.first, run.last), true, |content| {
            let (blob, is_whole) = (content.blob(), content.is_whole());
            let item = self.progress.item(&blob.digest.to_string(), blob.size);
            let mut content = item.reader(content);
            if !is_whole {
                // It is there as a whole since an earlier run; the reader checks each part.
                return io::copy(&mut content, &mut io::sink()).map(|_| ()).map_err(Stop::Content);
            }
            let mut content = VerifyingReader::new(content, blob.digest, blob.size);
            let wanted = self.users.get(&blob.digest).filter(|_| only.is_none_or(|only| only.contains(&blob.digest)));
            let result = match wanted {
                Some(repositories) => {
                    let placed = place(&self.admitted.placement, blob, repositories, &mut content, &self.journal);
                    self.in_a_row = if placed.is_ok() { 0 } else { self.in_a_row + 1 };
                    placed
                }
                None => Ok(()),
            };
            let result = match result {
                // The medium failed under the upload: reading on would only hide why.
                Err(Error::Registry(registry::Error::Read { source, .. }))
                    if registry::Error::of(&source).is_none() =>
                {
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
                    if self.in_a_row >= GIVE_UP {
                        return Err(Stop::Ours(Box::new(e.into())));
                    }
                    self.progress.warn(format_args!("{e}; the blob is tried again later"));
                    failed.insert(blob.digest, Error::Registry(e));
                    Ok(())
                }
                other => other.map_err(|e| Stop::Ours(Box::new(e))),
            }
        })?;
        match ended {
            Ended::Volumes(ended) => Ok((failed, ended)),
            Ended::Stream { seal, signature } => {
                stream_sealed(bundle, seal, &signature)?;
                Ok((failed, Vec::new()))
            }
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

/// Why reading a blob stopped.
pub(crate) enum Stop {
    /// The content was wrong or could not be read.
    Content(io::Error),
    /// Anything else.
    Ours(Box<Error>),
}

/// Volumes that were read to their end, with the digest of their ciphertext.
type Ciphertexts = Vec<(u32, Digest)>;

/// What stood at the end.
pub(crate) enum Ended {
    /// Nothing more. The volumes that were read to their end, with the digest of their ciphertext.
    Volumes(Ciphertexts),
    /// The seal of a stream, not judged yet.
    Stream { seal: Vec<u8>, signature: Vec<u8> },
}

/// Reads blobs of a bundle in the manifest's order. If whole volumes are read, the ciphertext of each must be what was
/// sealed. `last` says that nothing will be read again.
pub(crate) fn read_blobs<'b>(
    bundle: &'b Authenticated<'_>,
    range: Range,
    last: bool,
    mut act: impl FnMut(&mut BlobContent<'_, 'b, FromMedia<'b>>) -> Result<(), Stop>,
) -> Result<Ended, Error> {
    let manifest = bundle.manifest.get();
    let first = match range {
        Range::Admission => 1,
        Range::Volumes(first, _) => first,
    };
    let media = &bundle.media;
    let mut contents = Contents::open(media.volumes(last), &bundle.identities, manifest, bundle.digest, range)
        .map_err(|e| media.judge(first, e))?;
    loop {
        let stopped = match contents.next_blob() {
            Ok(Some(mut blob)) => act(&mut blob),
            Ok(None) => break,
            Err(e) => Err(Stop::Content(e)),
        };
        stopped.map_err(|stop| match stop {
            Stop::Content(e) => media.judge(contents.volume(), e),
            Stop::Ours(e) => *e,
        })?;
    }
    let number = contents.volume();
    let wrong = |e| media.judge(number, e);
    match (range, media) {
        (Range::Admission, _) => Ok(Ended::Volumes(Vec::new())),
        (Range::Volumes(..), Media::Folders(_)) => {
            contents.finish().map(|volumes| Ended::Volumes(volumes.ended)).map_err(wrong)
        }
        (Range::Volumes(..), Media::Piped(_)) => {
            let (seal, signature) = contents.finish_stream().map_err(wrong)?;
            Ok(Ended::Stream { seal, signature })
        }
    }
}

/// How far uploads have come, kept in the ledger's working state.
struct Journal<'l> {
    ledger: &'l Ledger,
    subject: &'l Subject,
}

impl UploadJournal for Journal<'_> {
    fn mark(&self, repository: &Repository, digest: &Digest) -> Option<UploadMark> {
        let found = self.ledger.upload_mark(self.subject, &repository.to_string(), digest);
        let found = found.inspect_err(|e| tracing::warn!("how far the upload came is not known: {e}")).ok()??;
        Some(UploadMark { location: found.0, offset: found.1 })
    }

    fn note(&self, repository: &Repository, digest: &Digest, mark: Option<&UploadMark>) {
        let mark = mark.map(|mark| (mark.location.as_str(), mark.offset));
        if let Err(e) = self.ledger.note_upload(self.subject, &repository.to_string(), digest, mark) {
            tracing::warn!("how far the upload came cannot be noted: {e}");
        }
    }
}

/// Puts a blob into every repository that needs it: found there, streamed once, mounted, or read back through the check.
fn place<R: io::Read + Send>(
    placement: &Placement,
    blob: &Blob,
    repositories: &BTreeSet<Repository>,
    content: &mut VerifyingReader<R>,
    journal: &Journal<'_>,
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
        let client = placement.client(first)?;
        // Between two parts somebody may have to change media: no request may wait for that.
        let in_parts = matches!(blob.stored, Stored::Parts { .. });
        let _pushed = match in_parts || blob.size >= CONTINUED {
            true => client.push_or_continue(content, journal)?,
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

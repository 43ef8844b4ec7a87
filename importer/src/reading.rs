//! The blobs of a bundle, read in the order of its manifest, and dealt out to several threads.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use blobs::pipe::{PipeReader, PipeWriter, Pool, pipe};
use bundle::{BlobContent, Contents, Range};
use manifest_schema::{Blob, Manifest};

use crate::authenticate::Authenticated;
use crate::error::Error;
use crate::media::{FromMedia, Media};

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

    pub fn has(&self, number: u32) -> bool {
        (self.first..=self.last).contains(&number)
    }
}

/// Why reading a blob stopped.
pub(crate) enum Stop {
    /// The content was wrong or could not be read.
    Content(io::Error),
    /// Anything else.
    Ours(Box<Error>),
}

/// What stood at the end.
pub(crate) enum Ended {
    /// Nothing more.
    Volumes,
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
        (Range::Admission, _) => Ok(Ended::Volumes),
        (Range::Volumes(..), Media::Folders(_) | Media::Staged(_)) => {
            contents.finish().map(|_| Ended::Volumes).map_err(wrong)
        }
        (Range::Volumes(..), Media::Piped(_)) => {
            let (seal, signature) = contents.finish_stream().map_err(wrong)?;
            Ok(Ended::Stream { seal, signature })
        }
    }
}

/// Bytes that may be read ahead of those who take blobs, in buffers of this size: while one large blob ends, the next begin.
const AHEAD: usize = 48 << 20;
const BUFFER: usize = 256 << 10;

/// Buffers for all that is read ahead.
pub(crate) fn buffers() -> Arc<Pool> {
    Pool::new(BUFFER, AHEAD / BUFFER)
}

/// Deals blobs out.
pub(crate) struct Dealer<'d> {
    /// How many threads take them.
    pub hands: usize,
    /// What is read ahead.
    pub buffers: &'d Arc<Pool>,
    /// Something else has failed: what is under way need not go on.
    pub stopped: &'d AtomicBool,
}

/// A blob on its way from the medium to whoever takes it.
struct Dealt<'b> {
    blob: &'b Blob,
    content: PipeReader,
}

impl Dealer<'_> {
    /// Reads the volumes of a run once, whole; their ciphertext is held against the seal in the same read. Each blob is given
    /// to `take` on one of the threads, which must read it to its end or fail. Of a blob that is not in the run as a whole,
    /// only its parts are checked.
    ///
    /// # Errors
    /// What went wrong with the medium, or the first error of `take`; [`Error::Stopped`].
    pub fn deal<'b>(
        &self,
        bundle: &'b Authenticated<'_>,
        run: Run,
        take: impl Fn(&'b Blob, PipeReader) -> Result<(), Stop> + Sync,
    ) -> Result<Ended, Error> {
        let stop = Mutex::new(None);
        let found = || stop.lock().unwrap_or_else(PoisonError::into_inner);
        let stops = || self.stopped.load(Ordering::Relaxed) || found().is_some();
        let work = |to_do: Arc<Mutex<Receiver<Dealt<'b>>>>| {
            let next = || to_do.lock().unwrap_or_else(PoisonError::into_inner).recv();
            while let Ok(Dealt { blob, content }) = next() {
                if let Err(e) = take(blob, content) {
                    found().get_or_insert(e);
                    return;
                }
            }
        };
        let ended = std::thread::scope(|scope| {
            let (deals, to_do) = sync_channel::<Dealt<'_>>(0);
            // It goes with the last hand: nobody waits for them in vain.
            let to_do = Arc::new(Mutex::new(to_do));
            for _ in 0..self.hands.max(1) {
                let (to_do, work) = (to_do.clone(), &work);
                scope.spawn(move || work(to_do));
            }
            drop(to_do);
            read_blobs(bundle, Range::Volumes(run.first, run.last), true, |content| {
                if !content.is_whole() {
                    return io::copy(content, &mut io::sink()).map(|_| ()).map_err(Stop::Content);
                }
                let (mut writer, reader) = pipe(self.buffers);
                let dealt = deals.send(Dealt { blob: content.blob(), content: reader }).is_ok();
                let taken = dealt && copy(content, &mut writer, stops).map_err(Stop::Content)? && writer.end().is_ok();
                if taken && !stops() { Ok(()) } else { Err(Stop::Ours(Box::new(Error::Stopped))) }
            })
        });
        let stop = stop.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (ended, stop) {
            _ if self.stopped.load(Ordering::Relaxed) => Err(Error::Stopped),
            // Whoever took a blob has only seen that nothing more came.
            (Err(e), _) if !matches!(e, Error::Stopped) => Err(e),
            (_, Some(Stop::Content(e))) => Err(bundle.media.judge(run.last, e)),
            (_, Some(Stop::Ours(e))) => Err(*e),
            (ended, None) => ended,
        }
    }
}

/// Copies into a pipe. Whether all of it went in: the other end may have gone, or there is no use in it any more.
///
/// # Errors
/// Of the content. The other end only learns that nothing more comes.
fn copy(content: &mut impl io::Read, writer: &mut PipeWriter, stops: impl Fn() -> bool) -> io::Result<bool> {
    loop {
        let mut buffer = writer.buffer();
        buffer.fill(content)?;
        if buffer.is_empty() {
            return Ok(true);
        }
        if stops() || writer.send(buffer).is_err() {
            return Ok(false);
        }
    }
}

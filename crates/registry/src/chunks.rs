//! Uploads in chunks (OCI distribution specification, "Pushing a blob in chunks").
//!
//! A chunk is held in memory until the registry has taken it. Nothing is open while its bytes are read, which may take
//! hours where a medium has to be changed.

use std::io::Read;
use std::time::{Duration, Instant};

use blobs::VerifyingReader;
use ureq::http::Method;
use ureq::http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};

use crate::client::RepositoryClient;
use crate::error::Error;
use crate::host::Action;
use crate::quirks::SMALLEST_CHUNK;
use crate::retry::{Backoff, is_transient_status};
use crate::transport::{Answer, Payload, Request};
use crate::upload::{PushedBlob, Session, lost_session, reading_failed, way};

pub(crate) const IN_CHUNKS: &str = "in chunks";

/// After reading for so long, the registry is asked for the upload before it gets the chunk. That is safe to repeat, so a
/// connection that was closed meanwhile, or a token that has expired, is noticed there.
const PAUSE: Duration = Duration::from_secs(1);

/// An upload on its way.
pub(crate) struct Upload {
    pub(crate) session: Session,
    /// How many bytes the registry holds.
    pub(crate) at: u64,
    /// Bytes that were read and that the registry does not hold yet.
    pub(crate) unsent: Vec<u8>,
    /// The size of a chunk in bytes, unless the registry wants others.
    pub(crate) chunk: u64,
}

impl Upload {
    pub(crate) fn new(session: Session, chunk: u64) -> Self {
        Self { session, at: 0, unsent: Vec::new(), chunk }
    }
}

impl RepositoryClient {
    /// PATCH after PATCH, then an empty PUT. What the registry holds already is read, and not sent. `taken` is called
    /// whenever the registry has taken more.
    pub(crate) fn push_chunks<R: Read + Send>(
        &self,
        upload: &mut Upload,
        blob: &mut VerifyingReader<R>,
        taken: &mut dyn FnMut(&Upload),
        what: &str,
    ) -> Result<PushedBlob, Error> {
        let new_backoff = || Backoff::new(self.host().transport().config().retries);
        let (from, mut backoff) = (upload.at, new_backoff());
        let held = from.saturating_sub(blob.position());
        std::io::copy(&mut blob.by_ref().take(held), &mut std::io::sink()).map_err(|e| reading_failed(e, what))?;
        loop {
            let began = Instant::now();
            let length = self.host().quirks().chunk(upload.chunk).max(upload.session.chunk_min);
            read_chunk(blob, &mut upload.unsent, length, what)?;
            if upload.unsent.is_empty() {
                break;
            }
            if began.elapsed() > PAUSE {
                // Whatever it says, the chunk's own answer decides.
                let _ = self.received(&mut upload.session, what);
            }
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(upload.unsent.len());
            let sent = self.push_chunk(upload, length, &mut backoff, what)?;
            if sent == length {
                backoff = new_backoff();
            }
            if sent > 0 {
                upload.at += sent as u64;
                upload.unsent.drain(..sent);
                taken(upload);
            }
        }
        self.complete(upload, blob, from, what)
    }

    /// The PUT after the last chunk.
    fn complete<R: Read>(
        &self,
        upload: &Upload,
        blob: &VerifyingReader<R>,
        from: u64,
        what: &str,
    ) -> Result<PushedBlob, Error> {
        let (digest, size) = (*blob.digest(), blob.size());
        let all_sent = upload.at == size && blob.position() == size;
        let mut request = self.completing(&upload.session, &digest, what);
        request.payload = Payload::Bytes(&[]);
        let (status, server, outcome) = match self.host().send(self.access(Action::Push), request) {
            Ok(answer) => {
                let (status, server) = (answer.status, answer.url.authority());
                (Some(status), server, self.finish(answer, &digest, size, all_sent, what))
            }
            Err(error) => (None, String::new(), Err(error)),
        };
        let error = match outcome {
            Ok(pushed) => {
                self.host().quirks().chunks_worked = true;
                return Ok(pushed);
            }
            Err(error) => error,
        };
        // The first answer may have been lost, and the upload with it.
        if all_sent && matches!(status, None | Some(404)) && matches!(self.has_blob(&digest, size), Ok(true)) {
            return Ok(PushedBlob { digest, size });
        }
        let mut quirks = self.host().quirks();
        match status {
            // Some registries take chunks and can't put them together.
            Some(status @ 400..500) if from == 0 && !quirks.chunks_worked && !is_transient_status(status) => {
                quirks.refused_chunks();
                Err(way(error, IN_CHUNKS, server, what))
            }
            _ => Err(error),
        }
    }

    /// Sends a chunk of so many bytes. Gives how many of them the registry took; none if it has to be cut smaller.
    fn push_chunk(
        &self,
        upload: &mut Upload,
        length: usize,
        backoff: &mut Backoff,
        what: &str,
    ) -> Result<usize, Error> {
        let Upload { session, at, unsent, chunk: wanted } = upload;
        let (at, wanted, chunk) = (*at, *wanted, unsent.get(..length).unwrap_or(unsent));
        let end = at + chunk.len() as u64;
        let may_be_smaller = chunk.len() as u64 > SMALLEST_CHUNK.max(session.chunk_min);
        loop {
            let mut request = Request::new(Method::PATCH, session.url.clone(), what)
                .header(CONTENT_TYPE, "application/octet-stream")
                .header(CONTENT_RANGE, format!("{at}-{}", end - 1));
            request.payload = Payload::Bytes(chunk);
            // Some registries take a chunk twice, if it comes twice.
            request.once = true;
            let mut told = None;
            let error = match self.host().send(self.access(Action::Push), request) {
                Ok(answer) if matches!(answer.status, 201 | 202 | 204) => {
                    return self.chunk_taken(session, answer, end, what).map(|()| chunk.len());
                }
                Ok(answer) if answer.status == 413 && may_be_smaller && self.host().quirks().refused_length(wanted) => {
                    answer.discard();
                    return Ok(0);
                }
                Ok(answer) if answer.status == 416 || is_transient_status(answer.status) => {
                    told = answer.header(RANGE).and_then(|range| held(&range)).filter(|_| answer.status == 416);
                    answer.into_error(what)
                }
                Ok(answer) => return Err(self.chunk_refused(answer, at, what)),
                Err(error @ Error::Network { .. }) => error,
                Err(error) => return Err(error),
            };
            if !backoff.wait(None) {
                return Err(error);
            }
            let held = match self.received(session, what) {
                Ok(held) => held.or(told),
                // Nobody can say yet; the upload may be there still.
                Err(_) if told.is_none() && error.is_transient() => return Err(error),
                Err(_) => told,
            };
            let taken = held.and_then(|held| usize::try_from(held.checked_sub(at)?).ok());
            match taken.filter(|taken| *taken <= chunk.len()) {
                Some(0) => {
                    // A server that limits bodies may just close the connection.
                    let broke = matches!(error, Error::Network { .. });
                    if broke && may_be_smaller && self.host().quirks().refused_length(wanted) {
                        return Ok(0);
                    }
                }
                Some(taken) => return Ok(taken),
                None => {
                    let server = self.repository().registry().to_string();
                    return Err(way(error, IN_CHUNKS, server, what));
                }
            }
        }
    }

    /// Takes the next location, and checks how much the registry says it holds.
    fn chunk_taken(&self, session: &mut Session, answer: Answer, end: u64, what: &str) -> Result<(), Error> {
        if let Some(location) = answer.header(LOCATION) {
            session.url = self.host().transport().step(&answer.url, &location, what, false)?;
        }
        let held = answer.header(RANGE).and_then(|range| held(&range));
        // Of a first chunk of one byte, `0-0` says nothing.
        if let Some(held) = held.filter(|held| *held != end && end > 1) {
            let error = answer.malformed(what, format!("it holds {held} bytes after {end} were sent"));
            return Err(way(error, IN_CHUNKS, answer.url.authority(), what));
        }
        answer.discard();
        Ok(())
    }

    /// Remembers what a refusal says about this registry.
    fn chunk_refused(&self, answer: Answer, at: u64, what: &str) -> Error {
        let (status, server) = (answer.status, answer.url.authority());
        let error = answer.into_error(what);
        match status {
            400 | 404 | 405 | 411 | 413 | 415 | 501 if at == 0 && !lost_session(&error) => {
                self.host().quirks().refused_chunks();
            }
            401 | 404 => {}
            _ => return error,
        }
        way(error, IN_CHUNKS, server, what)
    }

    /// How many bytes the registry holds of an upload, if it says.
    ///
    /// # Errors
    /// It could not be asked.
    fn received(&self, session: &mut Session, what: &str) -> Result<Option<u64>, Error> {
        let request = Request::new(Method::GET, session.url.clone(), what);
        let answer = self.host().send(self.access(Action::Push), request)?;
        match answer.status {
            200..300 => {}
            status if is_transient_status(status) => return Err(answer.into_error(what)),
            _ => {
                answer.discard();
                return Ok(None);
            }
        }
        let held = answer.header(RANGE).map_or(Some(0), |range| held(&range));
        if let Some(location) = answer.header(LOCATION) {
            match self.host().transport().step(&answer.url, &location, what, false) {
                Ok(url) => session.url = url,
                Err(_) => return Ok(None),
            }
        }
        answer.discard();
        Ok(held)
    }
}

/// Reads until a chunk of so many bytes is full, or the blob ends.
pub(crate) fn read_chunk<R: Read>(
    blob: &mut VerifyingReader<R>,
    unsent: &mut Vec<u8>,
    length: u64,
    what: &str,
) -> Result<(), Error> {
    let missing = length.saturating_sub(unsent.len() as u64);
    let coming = missing.min(blob.size().saturating_sub(blob.position()));
    // A vector that grows by itself would take up to twice as much.
    unsent.reserve_exact(usize::try_from(coming).unwrap_or(0));
    blob.by_ref().take(missing).read_to_end(unsent).map_err(|e| reading_failed(e, what))?;
    Ok(())
}

/// How many bytes `Range: 0-<last>` says.
pub(crate) fn held(range: &str) -> Option<u64> {
    let range = range.trim();
    let (first, last) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    match (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?) {
        // What registries say of an empty upload too.
        (0, 0) => Some(0),
        (0, last) => last.checked_add(1),
        _ => None,
    }
}

//! Uploads of blobs (OCI distribution specification, "Pushing blobs").
//!
//! A blob goes up in one request if the registry takes that, and in chunks if it has shown that it does not. Either
//! way its bytes come from a [`VerifyingReader`], which keeps the last byte of wrong content back, so the upload of
//! such a blob never becomes complete; it is cancelled.

use std::io::{self, Read};

use blobs::{BlobError, VerifiedBytes, VerifyingReader};
use manifest_schema::{Digest, OutsideText, Repository};
use ureq::http::Method;
use ureq::http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};

use crate::client::{RepositoryClient, content_digest, same};
use crate::error::Error;
use crate::host::{Access, Action};
use crate::quirks::SMALLEST_CHUNK;
use crate::retry::{Backoff, is_transient_status};
use crate::transport::{Answer, Payload, Request};
use crate::url::{Url, encode};

/// The largest chunk that a registry can ask for (`OCI-Chunk-Min-Length`), in bytes.
const LARGEST_CHUNK: u64 = 64 << 20;

const WHOLE: &str = "in one request";
const IN_CHUNKS: &str = "in chunks";

/// Proof that a registry took a blob, under the right digest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct PushedBlob {
    digest: Digest,
    size: u64,
}

impl PushedBlob {
    /// The blob's digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The blob's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// An upload that has begun.
struct Session {
    /// The latest location.
    url: Url,
    /// The smallest chunk the registry takes, in bytes.
    chunk_min: u64,
}

impl RepositoryClient {
    /// Mounts a blob that the same registry has in another repository. `false` if the registry does not do that.
    ///
    /// # Errors
    /// Anything but an answer; [`Error::Digest`] if the registry names another digest.
    pub fn mount_blob(&self, digest: &Digest, from: &Repository) -> Result<bool, Error> {
        let what = format!("{}@{digest}", self.repository());
        if !from.registry().eq_ignore_ascii_case(self.repository().registry()) {
            return Ok(false);
        }
        let path = format!("blobs/uploads/?mount={}&from={}", encode(&digest.to_string()), encode(from.path()));
        let request = Request::new(Method::POST, self.url(&what, &path)?, &what);
        let access = Access { repository: self.repository(), action: Action::Push, from: Some(from) };
        let answer = match self.host().send(access, request) {
            // A token server may refuse a token for both repositories.
            Err(Error::Denied { .. }) => return Ok(false),
            answer => answer?,
        };
        match answer.status {
            201 => {
                same(content_digest(&answer, &what)?, digest, &what, &answer.url.authority())?;
                answer.discard();
                Ok(true)
            }
            202 => {
                if let Ok(session) = self.session(answer, &what) {
                    self.cancel(&session, &what);
                }
                Ok(false)
            }
            400..500 if !is_transient_status(answer.status) => {
                answer.discard();
                Ok(false)
            }
            _ => Err(answer.into_error(&what)),
        }
    }

    /// Pushes a blob while it is read and checked.
    ///
    /// The bytes can be sent once only. After an error that [is transient](Error::is_transient) the blob has to be
    /// read from its beginning again; the way of the next upload may be another, since refusals are remembered.
    ///
    /// # Errors
    /// [`Error::Content`] if the blob is not what its digest promises; nothing is in the registry then.
    pub fn push_blob<R: Read + Send>(&self, blob: &mut VerifyingReader<R>) -> Result<PushedBlob, Error> {
        let what = format!("{}@{}", self.repository(), blob.digest());
        if blob.position() != 0 {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "its first bytes have been read already");
            return Err(Error::Read { what, source });
        }
        let session = self.open_session(&what)?;
        self.upload(session, blob, &what)
    }

    /// Pushes a small blob, again after a transient failure.
    ///
    /// # Errors
    /// As [`RepositoryClient::push_blob`].
    pub fn push_small_blob(&self, blob: &VerifiedBytes) -> Result<PushedBlob, Error> {
        let what = format!("{}@{}", self.repository(), blob.digest());
        let mut backoff = Backoff::new(self.host().transport().config().retries);
        loop {
            let session = self.open_session(&what)?;
            let mut reader = VerifyingReader::new(blob.bytes(), *blob.digest(), blob.bytes().len() as u64);
            match self.upload(session, &mut reader, &what) {
                Err(error) if error.is_transient() && backoff.wait(None) => {}
                outcome => return outcome,
            }
        }
    }

    fn open_session(&self, what: &str) -> Result<Session, Error> {
        let request = Request::new(Method::POST, self.url(what, "blobs/uploads/")?, what);
        let answer = self.host().send(self.access(Action::Push), request)?;
        if answer.status == 202 { self.session(answer, what) } else { Err(answer.into_error(what)) }
    }

    fn session(&self, answer: Answer, what: &str) -> Result<Session, Error> {
        let Some(location) = answer.header(LOCATION) else {
            return Err(answer.malformed(what, "an upload was begun without a Location"));
        };
        let url = self.host().transport().step(&answer.url, &location, what, false)?;
        let chunk_min = answer.header("oci-chunk-min-length").and_then(|v| v.trim().parse().ok()).unwrap_or(0);
        if chunk_min > LARGEST_CHUNK {
            return Err(answer.malformed(what, format!("OCI-Chunk-Min-Length is {chunk_min}")));
        }
        answer.discard();
        Ok(Session { url, chunk_min })
    }

    fn upload<R: Read + Send>(
        &self,
        mut session: Session,
        blob: &mut VerifyingReader<R>,
        what: &str,
    ) -> Result<PushedBlob, Error> {
        let chunked = self.host().quirks().chunked;
        let outcome = match chunked {
            false => self.push_whole(&session, blob, what),
            true => self.push_chunks(&mut session, blob, what),
        };
        if outcome.is_err() {
            self.cancel(&session, what);
        }
        outcome
    }

    /// One PUT with the whole blob.
    fn push_whole<R: Read + Send>(
        &self,
        session: &Session,
        blob: &mut VerifyingReader<R>,
        what: &str,
    ) -> Result<PushedBlob, Error> {
        let (digest, size) = (*blob.digest(), blob.size());
        if size == 0 {
            // No byte will be asked for, and yet it is to be checked.
            let _ = blob.read(&mut [0]).map_err(|e| reading_failed(e, what))?;
        }
        let mut source = Source { reader: blob, failure: None };
        let mut request = self.completing(session, &digest, what);
        request.payload = if size == 0 { Payload::Bytes(&[]) } else { Payload::Stream(&mut source, size) };
        let outcome = self.host().send(self.access(Action::Push), request);
        if let Some(error) = source.failure.take() {
            return Err(reading_failed(error, what));
        }
        let all_sent = source.reader.position() == size;
        match outcome {
            Ok(answer) => {
                let (status, server) = (answer.status, answer.url.authority());
                match self.finish(answer, &digest, size, all_sent, what) {
                    Err(error) if status == 401 || lost_session(&error) => Err(way(error, WHOLE, server, what)),
                    Err(error) if refuses_whole(status, &error) => {
                        self.host().quirks().refused_whole();
                        Err(way(error, WHOLE, server, what))
                    }
                    Ok(pushed) => {
                        let mut quirks = self.host().quirks();
                        quirks.largest_whole = quirks.largest_whole.max(size);
                        Ok(pushed)
                    }
                    Err(error) => Err(error),
                }
            }
            Err(error) => {
                if all_sent && matches!(self.has_blob(&digest, size), Ok(true)) {
                    return Ok(PushedBlob { digest, size });
                }
                let mut quirks = self.host().quirks();
                if matches!(error, Error::Network { lasting: false, .. }) && size > quirks.largest_whole {
                    // A server that limits bodies may just close the connection.
                    quirks.refused_whole();
                }
                Err(error)
            }
        }
    }

    /// PATCH after PATCH, then an empty PUT.
    fn push_chunks<R: Read + Send>(
        &self,
        session: &mut Session,
        blob: &mut VerifyingReader<R>,
        what: &str,
    ) -> Result<PushedBlob, Error> {
        let (digest, size) = (*blob.digest(), blob.size());
        let new_backoff = || Backoff::new(self.host().transport().config().retries);
        let (mut at, mut held, mut backoff) = (0, Vec::new(), new_backoff());
        loop {
            let length = usize::try_from(self.host().quirks().chunk.max(session.chunk_min)).unwrap_or(usize::MAX);
            let missing = length.saturating_sub(held.len()) as u64;
            blob.by_ref().take(missing).read_to_end(&mut held).map_err(|e| reading_failed(e, what))?;
            if held.is_empty() {
                break;
            }
            let chunk = held.get(..length).unwrap_or(&held);
            let taken = self.push_chunk(session, at, chunk, &mut backoff, what)?;
            if taken == chunk.len() {
                backoff = new_backoff();
            }
            at += taken as u64;
            held.drain(..taken);
        }
        let mut request = self.completing(session, &digest, what);
        request.payload = Payload::Bytes(&[]);
        let answer = self.host().send(self.access(Action::Push), request)?;
        let (status, server) = (answer.status, answer.url.authority());
        let outcome = self.finish(answer, &digest, size, at == size, what);
        let mut quirks = self.host().quirks();
        match outcome {
            Ok(pushed) => {
                quirks.chunks_worked = true;
                Ok(pushed)
            }
            // Some registries take chunks and can't put them together.
            Err(error) if matches!(status, 400..500) && !quirks.chunks_worked && !is_transient_status(status) => {
                quirks.refused_chunks();
                Err(way(error, IN_CHUNKS, server, what))
            }
            Err(error) => Err(error),
        }
    }

    /// Sends one chunk. Gives how many bytes of it the registry took; none if it has to be cut smaller.
    fn push_chunk(
        &self,
        session: &mut Session,
        at: u64,
        chunk: &[u8],
        backoff: &mut Backoff,
        what: &str,
    ) -> Result<usize, Error> {
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
                Ok(answer) if answer.status == 413 && may_be_smaller && self.host().quirks().refused_length() => {
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
            let taken = self.received(session, what).or(told).and_then(|held| held.checked_sub(at));
            match taken.and_then(|taken| usize::try_from(taken).ok()).filter(|taken| *taken <= chunk.len()) {
                Some(0) => {
                    // A server that limits bodies may just close the connection.
                    let broke = matches!(error, Error::Network { .. });
                    if broke && may_be_smaller && self.host().quirks().refused_length() {
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
    fn received(&self, session: &mut Session, what: &str) -> Option<u64> {
        let request = Request::new(Method::GET, session.url.clone(), what);
        let answer = self.host().send(self.access(Action::Push), request).ok()?;
        if !matches!(answer.status, 200..300) {
            return None;
        }
        let held = answer.header(RANGE).map_or(Some(0), |range| held(&range));
        if let Some(location) = answer.header(LOCATION) {
            session.url = self.host().transport().step(&answer.url, &location, what, false).ok()?;
        }
        held
    }

    fn completing<'a>(&self, session: &Session, digest: &Digest, what: &'a str) -> Request<'a> {
        let url = session.url.clone().with_query("digest", &digest.to_string());
        Request::new(Method::PUT, url, what).header(CONTENT_TYPE, "application/octet-stream")
    }

    /// The registry's answer to the PUT that completes an upload.
    fn finish(
        &self,
        answer: Answer,
        digest: &Digest,
        size: u64,
        all_sent: bool,
        what: &str,
    ) -> Result<PushedBlob, Error> {
        if !matches!(answer.status, 201 | 204) {
            return Err(answer.into_error(what));
        }
        if !all_sent {
            return Err(answer.malformed(what, "the upload was answered as complete before it was"));
        }
        same(content_digest(&answer, what)?, digest, what, &answer.url.authority())?;
        answer.discard();
        Ok(PushedBlob { digest: *digest, size })
    }

    /// Ends an upload that will not be completed. A registry that can't be told will forget it by itself.
    fn cancel(&self, session: &Session, what: &str) {
        let mut request = Request::new(Method::DELETE, session.url.clone(), what);
        request.once = true;
        match self.host().send(self.access(Action::Push), request) {
            Ok(answer) => answer.discard(),
            Err(error) => tracing::debug!(%error, "the upload could not be cancelled"),
        }
    }
}

/// The blob, with the failure that its reader had: the HTTP library's own error would not tell.
struct Source<'a, R> {
    reader: &'a mut VerifyingReader<R>,
    failure: Option<io::Error>,
}

impl<R: Read> Read for Source<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.reader.read(buf) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.failure = Some(e);
                    return Err(io::Error::other("the blob could not be read"));
                }
                done => return done,
            }
        }
    }
}

fn reading_failed(error: io::Error, what: &str) -> Error {
    match BlobError::of(&error) {
        Some(content) => Error::Content(content.clone()),
        None => Error::Read { what: what.into(), source: error },
    }
}

fn way(error: Error, way: &'static str, server: String, what: &str) -> Error {
    Error::Way { what: what.into(), server, way, source: Box::new(error) }
}

/// How many bytes `Range: 0-<last>` says.
fn held(range: &str) -> Option<u64> {
    let range = range.trim();
    let (first, last) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    match (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?) {
        // What registries say of an empty upload too.
        (0, 0) => Some(0),
        (0, last) => last.checked_add(1),
        _ => None,
    }
}

/// Whether the registry has forgotten the upload, as one of several servers behind a name may.
fn lost_session(error: &Error) -> bool {
    said(error).is_some_and(|said| said.raw().contains("BLOB_UPLOAD_"))
}

/// Whether the status is how registries, and the servers in front of them, refuse a blob for being in one request.
fn refuses_whole(status: u16, error: &Error) -> bool {
    match status {
        405 | 411 | 413 | 415 | 501 => true,
        404 => said(error).is_some_and(|said| said.raw().is_empty() || said.raw().contains("BLOB_UNKNOWN")),
        _ => false,
    }
}

fn said(error: &Error) -> Option<&OutsideText> {
    match error {
        Error::NotFound { said, .. } | Error::Status { said, .. } => Some(said),
        _ => None,
    }
}

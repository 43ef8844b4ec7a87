//! Uploads of blobs (OCI distribution specification, "Pushing blobs").
//!
//! A blob goes up in one request if the registry takes that, and in chunks if it has shown that it does not. Either
//! way its bytes come from a [`VerifyingReader`], which keeps the last byte of wrong content back, so the upload of
//! such a blob never becomes complete; it is cancelled.

use std::io::{self, Read};

use blobs::{BlobError, VerifiedBytes, VerifyingReader};
use manifest_schema::{Digest, OutsideText, Repository};
use ureq::http::Method;
use ureq::http::header::{CONTENT_TYPE, LOCATION};

use crate::chunks::Upload;
use crate::client::{RepositoryClient, content_digest, same};
use crate::error::Error;
use crate::host::{Access, Action};
use crate::quirks::CHUNK;
use crate::retry::{Backoff, is_transient_status};
use crate::transport::{Answer, Payload, Request};
use crate::url::{Url, encode};

/// The largest chunk that a registry can ask for (`OCI-Chunk-Min-Length`), in bytes.
const LARGEST_CHUNK: u64 = 64 << 20;

const WHOLE: &str = "in one request";

/// Proof that a registry took a blob, under the right digest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct PushedBlob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
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
pub(crate) struct Session {
    /// The latest location.
    pub(crate) url: Url,
    /// The smallest chunk the registry takes, in bytes.
    pub(crate) chunk_min: u64,
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
        let what = self.unread(blob)?;
        let session = self.open_session(&what)?;
        self.upload(session, blob, &what)
    }

    /// The blob's name in errors, if none of its bytes has been read.
    pub(crate) fn unread<R: Read>(&self, blob: &VerifyingReader<R>) -> Result<String, Error> {
        let what = format!("{}@{}", self.repository(), blob.digest());
        if blob.position() == 0 {
            return Ok(what);
        }
        let source = io::Error::new(io::ErrorKind::InvalidInput, "its first bytes have been read already");
        Err(Error::Read { what, source })
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

    pub(crate) fn open_session(&self, what: &str) -> Result<Session, Error> {
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
        session: Session,
        blob: &mut VerifyingReader<R>,
        what: &str,
    ) -> Result<PushedBlob, Error> {
        let chunked = self.host().quirks().chunked;
        let mut upload = Upload::new(session, CHUNK);
        let outcome = match chunked {
            false => self.push_whole(&upload.session, &[], blob, what),
            true => self.push_chunks(&mut upload, blob, &mut |_| {}, what),
        };
        if outcome.is_err() {
            self.cancel(&upload.session, what);
        }
        outcome
    }

    /// One PUT with the whole blob; `begun` are the bytes of it that have been read already.
    pub(crate) fn push_whole<R: Read + Send>(
        &self,
        session: &Session,
        begun: &[u8],
        blob: &mut VerifyingReader<R>,
        what: &str,
    ) -> Result<PushedBlob, Error> {
        let (digest, size) = (*blob.digest(), blob.size());
        if size == 0 {
            // No byte will be asked for, and yet it is to be checked.
            let _ = blob.read(&mut [0]).map_err(|e| reading_failed(e, what))?;
        }
        let mut source = Source { begun, reader: blob, failure: None };
        let mut request = self.completing(session, &digest, what);
        request.payload = if size == 0 { Payload::Bytes(&[]) } else { Payload::Stream(&mut source, size) };
        let outcome = self.host().send(self.access(Action::Push), request);
        if let Some(error) = source.failure.take() {
            return Err(reading_failed(error, what));
        }
        let all_sent = source.begun.is_empty() && source.reader.position() == size;
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

    pub(crate) fn completing<'a>(&self, session: &Session, digest: &Digest, what: &'a str) -> Request<'a> {
        let url = session.url.clone().with_query("digest", &digest.to_string());
        Request::new(Method::PUT, url, what).header(CONTENT_TYPE, "application/octet-stream")
    }

    /// The registry's answer to the PUT that completes an upload.
    pub(crate) fn finish(
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
    pub(crate) fn cancel(&self, session: &Session, what: &str) {
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
    begun: &'a [u8],
    reader: &'a mut VerifyingReader<R>,
    failure: Option<io::Error>,
}

impl<R: Read> Read for Source<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.begun.is_empty() {
            return self.begun.read(buf);
        }
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

pub(crate) fn reading_failed(error: io::Error, what: &str) -> Error {
    match BlobError::of(&error) {
        Some(content) => Error::Content(content.clone()),
        None => Error::Read { what: what.into(), source: error },
    }
}

pub(crate) fn way(error: Error, way: &'static str, server: String, what: &str) -> Error {
    Error::Way { what: what.into(), server, way, source: Box::new(error) }
}

/// Whether the registry has forgotten the upload, as one of several servers behind a name may.
pub(crate) fn lost_session(error: &Error) -> bool {
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

//! Uploads that a later run continues (OCI distribution specification, "Resuming an upload after interruption").
//!
//! After each chunk that the registry took, a journal is told where the upload is and how far it has come. The next run
//! reads the blob from its first byte again, so that its digest is checked over all of it, and sends what is missing. A
//! journal's marks are not trusted: an upload is continued only at the registry's own server, and only if that says that
//! it still holds what it had taken.

use std::fmt;
use std::io::Read;

use blobs::VerifyingReader;
use manifest_schema::{Digest, Repository};
use ureq::http::Method;
use ureq::http::header::{LOCATION, RANGE};

use crate::chunks::{Upload, held, read_chunk};
use crate::client::RepositoryClient;
use crate::error::Error;
use crate::host::Action;
use crate::quirks::LARGE_CHUNK;
use crate::retry::is_transient_status;
use crate::transport::Request;
use crate::upload::{PushedBlob, Session, reading_failed, way};
use crate::url::Url;

const CONTINUED: &str = "as the rest of an earlier upload";

/// How far an upload has come.
#[derive(Clone, PartialEq, Eq)]
pub struct UploadMark {
    /// Where the upload is at the registry: a URL, which may hold a token for it.
    pub location: String,
    /// How many bytes the registry had taken.
    pub offset: u64,
}

impl fmt::Debug for UploadMark {
    /// Without the location.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadMark").field("offset", &self.offset).finish_non_exhaustive()
    }
}

/// Where marks are kept between runs. One that is lost costs no more than sending the blob again.
pub trait UploadJournal {
    /// The mark of a blob on its way to a repository.
    fn mark(&self, repository: &Repository, digest: &Digest) -> Option<UploadMark>;

    /// Replaces it; `None` removes it.
    fn note(&self, repository: &Repository, digest: &Digest, mark: Option<&UploadMark>);
}

/// Keeps nothing: every upload begins anew.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoJournal;

impl UploadJournal for NoJournal {
    fn mark(&self, _: &Repository, _: &Digest) -> Option<UploadMark> {
        None
    }

    fn note(&self, _: &Repository, _: &Digest, _: Option<&UploadMark>) {}
}

impl RepositoryClient {
    /// Pushes a blob while it is read and checked, going on where an earlier run was interrupted.
    ///
    /// The blob's reader may take its time: up to 16 MiB are held in memory, and no request is under way while they are
    /// read. To a registry that takes no chunks a larger blob goes as [`RepositoryClient::push_blob`] sends it.
    ///
    /// After an error the upload stays as it is where a later run may continue it, which the journal then says: the
    /// blob could not be read, the registry not be reached, or was busy. Otherwise it is cancelled.
    ///
    /// # Errors
    /// [`Error::Content`] if the blob is not what its digest promises; nothing is in the registry then.
    pub fn push_or_continue<R: Read + Send>(
        &self,
        blob: &mut VerifyingReader<R>,
        journal: &dyn UploadJournal,
    ) -> Result<PushedBlob, Error> {
        let what = self.unread(blob)?;
        if blob.size() <= LARGE_CHUNK {
            return self.push_small_blob(&blob.read_whole().map_err(|e| reading_failed(e, &what))?);
        }
        if self.host().quirks().refuses_chunks() {
            return self.push_blob(blob);
        }
        let own = self.url(&what, "blobs/uploads/")?;
        let (repository, digest) = (self.repository(), *blob.digest());
        let mut upload = None;
        if let Some(mark) = journal.mark(repository, &digest) {
            upload = self.upload_to_continue(&own, &mark, blob.size(), &what)?;
            if upload.is_none() {
                journal.note(repository, &digest, None);
            }
        }
        let (mut upload, continued) = match upload {
            Some(upload) => (upload, true),
            None => (self.begin_upload(blob, &what)?, false),
        };
        let mut noted = continued;
        let mut note = |upload: &Upload| {
            let location = Some(&upload.session.url).filter(|url| own.may_share_credentials(url));
            let mark = location.map(|url| UploadMark { location: url.to_string(), offset: upload.at });
            noted = mark.is_some();
            journal.note(repository, &digest, mark.as_ref());
        };
        let outcome = self.push_chunks(&mut upload, blob, &mut note, &what);
        match &outcome {
            Err(error) if noted && leaves_upload(error) => return outcome,
            Err(_) => self.cancel(&upload.session, &what),
            Ok(_) => {}
        }
        if noted {
            journal.note(repository, &digest, None);
        }
        match outcome {
            Err(Error::Way { .. }) if upload.at == 0 && self.host().quirks().refuses_chunks() => {
                self.push_rest(&upload, blob, &what)
            }
            Err(error) if continued && !error.is_content() && !error.is_transient() => {
                Err(way(error, CONTINUED, repository.registry().into(), &what))
            }
            outcome => outcome,
        }
    }

    /// Reads the first chunk and begins an upload for it.
    fn begin_upload<R: Read>(&self, blob: &mut VerifyingReader<R>, what: &str) -> Result<Upload, Error> {
        let mut first = Vec::new();
        let length = self.host().quirks().chunk(LARGE_CHUNK);
        read_chunk(blob, &mut first, length, what)?;
        Ok(Upload { session: self.open_session(what)?, at: 0, unsent: first, chunk: LARGE_CHUNK })
    }

    /// The upload that a mark tells of, if the registry can go on with it.
    ///
    /// # Errors
    /// The registry could not be asked.
    fn upload_to_continue(&self, own: &Url, mark: &UploadMark, size: u64, what: &str) -> Result<Option<Upload>, Error> {
        let at_registry = |from: &Url, location: &str| {
            let url = self.host().transport().step(from, location, what, false).ok();
            url.filter(|url| own.may_share_credentials(url))
        };
        let Some(url) = at_registry(own, &mark.location) else { return Ok(None) };
        let answer = match self.host().send(self.access(Action::Push), Request::new(Method::GET, url.clone(), what)) {
            Ok(answer) if matches!(answer.status, 401 | 403 | 429) => return Err(answer.into_error(what)),
            Ok(answer) => answer,
            Err(error) if leaves_upload(&error) => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "the upload cannot be continued");
                return Ok(None);
            }
        };
        let held = answer.header(RANGE).filter(|_| answer.status == 204).and_then(|range| held(&range));
        // More than was noted is there if the last answer got lost.
        let at = held.filter(|held| (mark.offset.max(1)..=size).contains(held));
        let url = match answer.header(LOCATION) {
            Some(location) => at_registry(&answer.url, &location),
            None => Some(url),
        };
        tracing::debug!(what, status = answer.status, ?held, "an upload to continue");
        answer.discard();
        let Some((at, url)) = at.zip(url) else { return Ok(None) };
        let session = Session { url, chunk_min: 0 };
        Ok(Some(Upload { session, at, unsent: Vec::new(), chunk: LARGE_CHUNK }))
    }

    /// In one request, what the registry would not take in chunks: the first of them is in memory still.
    fn push_rest<R: Read + Send>(
        &self,
        refused: &Upload,
        blob: &mut VerifyingReader<R>,
        what: &str,
    ) -> Result<PushedBlob, Error> {
        let session = self.open_session(what)?;
        let outcome = self.push_whole(&session, &refused.unsent, blob, what);
        if outcome.is_err() {
            self.cancel(&session, what);
        }
        outcome
    }
}

/// Whether a later run may find the upload as it is.
fn leaves_upload(error: &Error) -> bool {
    match error {
        Error::Network { .. } | Error::Tls { .. } | Error::Denied { .. } | Error::Read { .. } => true,
        Error::Status { status, .. } => is_transient_status(*status),
        // Credentials that are refused now may be replaced.
        Error::Way { source, .. } => matches!(**source, Error::Denied { .. }),
        other => other.is_configuration(),
    }
}

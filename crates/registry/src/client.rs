//! One repository of a registry: documents, blobs and tags (OCI distribution specification 1.1).

use std::io::Read;
use std::sync::Arc;

use blobs::{Hasher, VerifiedBytes};
use manifest_schema::{Digest, LIMITS, MediaType, OutsideText, Repository, Tag};
use ureq::http::Method;
use ureq::http::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, RANGE};

use crate::error::Error;
use crate::host::{Access, Action, Host};
use crate::retry::Backoff;
use crate::stream::{BlobSource, BlobStream};
use crate::transport::{Answer, Payload, Request};

const CONTENT_DIGEST: &str = "docker-content-digest";
const SUBJECT: &str = "oci-subject";
/// How often a manifest is offered to a registry that does not see the blobs under it yet.
const SETTLING_ATTEMPTS: u32 = 3;

/// A document as a registry gave it.
#[derive(Debug, Clone)]
#[must_use]
pub struct FetchedDocument {
    /// Its media type: the `Content-Type`, or the document's own word where the registry says nothing useful.
    pub media_type: MediaType,
    /// The bytes, checked against the digest asked for; for a tag, under the digest that the registry names.
    pub document: VerifiedBytes,
}

/// Proof that a registry took a document and names it by the right digest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct PushedDocument {
    digest: Digest,
    subject: Option<Digest>,
}

impl PushedDocument {
    /// The document's digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The subject under which the registry lists the document as a referrer. `None` for a document with a `subject`
    /// means that the registry has no referrers API and the client keeps the list (distribution specification,
    /// "Pushing Manifests with Subject").
    pub fn subject(&self) -> Option<&Digest> {
        self.subject.as_ref()
    }
}

/// One repository. Cheap to clone.
#[derive(Clone)]
pub struct RepositoryClient {
    host: Arc<Host>,
    repository: Repository,
}

impl RepositoryClient {
    pub(crate) fn new(host: Arc<Host>, repository: Repository) -> Self {
        Self { host, repository }
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Fetches what a tag names now.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Digest`] if the registry names another digest than the content has.
    pub fn fetch_tag(&self, tag: &Tag) -> Result<FetchedDocument, Error> {
        let what = format!("{}:{tag}", self.repository);
        let answer = self.manifest(Method::GET, tag.as_str(), &what)?;
        let (named, server) = (answer.digest(CONTENT_DIGEST, &what)?, answer.url.authority());
        let (media_type, bytes) = document(answer, &what)?;
        let document = match named {
            None => VerifiedBytes::of(bytes),
            Some(named) => checked(bytes, named, &what, &server)?,
        };
        Ok(FetchedDocument { media_type: media_type_of(media_type, &document, &what, &server)?, document })
    }

    /// Fetches an index or manifest by digest and checks it.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Digest`] if the content is another.
    pub fn fetch_document(&self, digest: &Digest) -> Result<FetchedDocument, Error> {
        let what = format!("{}@{digest}", self.repository);
        let answer = self.manifest(Method::GET, &digest.to_string(), &what)?;
        let (named, server) = (answer.digest(CONTENT_DIGEST, &what)?, answer.url.authority());
        let (media_type, bytes) = document(answer, &what)?;
        let document = checked(bytes, *digest, &what, &server)?;
        agrees(named, document.bytes(), &what, &server)?;
        Ok(FetchedDocument { media_type: media_type_of(media_type, &document, &what, &server)?, document })
    }

    /// The digest that a tag names now, as the registry says. `None` if there is no such tag.
    ///
    /// # Errors
    /// Anything but an answer to the question.
    pub fn head_tag(&self, tag: &Tag) -> Result<Option<Digest>, Error> {
        let what = format!("{}:{tag}", self.repository);
        let answer = match self.manifest(Method::HEAD, tag.as_str(), &what) {
            Ok(answer) => answer,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        match answer.digest(CONTENT_DIGEST, &what)? {
            Some(digest) if answer.status == 200 => Ok(Some(digest)),
            _ => match self.fetch_tag(tag) {
                Ok(fetched) => Ok(Some(*fetched.document.digest())),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// Whether the registry has an index or manifest.
    ///
    /// # Errors
    /// Anything but an answer to the question; [`Error::Digest`] if the registry names another digest.
    pub fn has_document(&self, digest: &Digest) -> Result<bool, Error> {
        let what = format!("{}@{digest}", self.repository);
        match self.manifest(Method::HEAD, &digest.to_string(), &what) {
            Ok(answer) => {
                let (found, server) = (answer.digest(CONTENT_DIGEST, &what)?, answer.url.authority());
                same(found, digest, &what, &server).map(|()| true)
            }
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the registry has a blob, of this size in bytes.
    ///
    /// # Errors
    /// [`Error::Size`] and [`Error::Digest`] if it has another one under that digest; anything but an answer.
    pub fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, Error> {
        let what = format!("{}@{digest}", self.repository);
        let url = self.url(&what, &format!("blobs/{digest}"))?;
        let answer = self.host.send(self.access(Action::Pull), Request::new(Method::HEAD, url, &what))?;
        match answer.status {
            200 => {
                let server = answer.url.authority();
                same(answer.digest(CONTENT_DIGEST, &what)?, digest, &what, &server)?;
                match answer.content_length() {
                    Some(found) if found != size => Err(Error::Size { what, server, expected: size, found }),
                    _ => Ok(true),
                }
            }
            404 => Ok(false),
            _ => Err(answer.into_error(&what)),
        }
    }

    /// Fetches a blob. The bytes are not verified yet: wrap the reader in a `VerifyingReader`.
    ///
    /// A download that breaks is continued where it broke. A failure of the reader carries an [`Error`], see
    /// [`Error::of`].
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Size`] if the registry announces another size.
    pub fn fetch_blob(&self, digest: &Digest, size: u64) -> Result<Box<dyn Read + Send>, Error> {
        let source = Blob { client: self.clone(), digest: *digest, size };
        let body = source.open(0)?;
        Ok(Box::new(BlobStream::new(source, body, size, self.host.transport().config().retries)))
    }

    /// Pushes an index or manifest under its digest. Everything it refers to must be there before.
    ///
    /// # Errors
    /// [`Error::Digest`] if the registry names another digest for it.
    pub fn push_document(&self, document: &VerifiedBytes, media_type: &MediaType) -> Result<PushedDocument, Error> {
        let digest = document.digest();
        let what = format!("{}@{digest}", self.repository);
        let (confirmed, subject) = self.put(&digest.to_string(), document, media_type, &what)?;
        if !confirmed && !self.has_document(digest)? {
            return Err(Error::NotFound { what, said: OutsideText::new("the registry took it, but does not have it") });
        }
        Ok(PushedDocument { digest: *digest, subject })
    }

    /// Makes a tag name a document, and returns only if the registry names the right digest for it then.
    ///
    /// # Errors
    /// [`Error::Digest`] if the registry names another digest.
    pub fn push_tag(&self, tag: &Tag, document: &VerifiedBytes, media_type: &MediaType) -> Result<(), Error> {
        let what = format!("{}:{tag}", self.repository);
        let (confirmed, _) = self.put(tag.as_str(), document, media_type, &what)?;
        if confirmed {
            return Ok(());
        }
        match self.head_tag(tag)? {
            None => Err(Error::NotFound { what, said: OutsideText::new("the registry took it, but does not have it") }),
            named => agrees(named, document.bytes(), &what, self.repository.registry()),
        }
    }

    /// Deletes an index or manifest; also if it is not there. `false` if the registry does not allow it.
    ///
    /// # Errors
    /// Anything but an answer.
    pub fn delete_document(&self, digest: &Digest) -> Result<bool, Error> {
        let what = format!("{}@{digest}", self.repository);
        let url = self.url(&what, &format!("manifests/{digest}"))?;
        let answer = match self.host.send(self.access(Action::Delete), Request::new(Method::DELETE, url, &what)) {
            // A token server may refuse such a token.
            Err(Error::Denied { .. }) => return Ok(false),
            answer => answer?,
        };
        match answer.status {
            200 | 202 | 204 | 404 => Ok(true),
            400 | 401 | 403 | 405 | 501 => Ok(false),
            _ => Err(answer.into_error(&what)),
        }
    }

    pub(crate) fn access(&self, action: Action) -> Access<'_> {
        Access { repository: &self.repository, action, from: None }
    }

    pub(crate) fn url(&self, what: &str, path: &str) -> Result<crate::url::Url, Error> {
        self.host.url(what, &format!("/v2/{}/{path}", self.repository.path()))
    }

    /// Asks for a manifest. A HEAD that the registry does not know is given back as it is.
    fn manifest(&self, method: Method, reference: &str, what: &str) -> Result<Answer, Error> {
        let url = self.url(what, &format!("manifests/{reference}"))?;
        let is_head = method == Method::HEAD;
        let request = Request::new(method, url, what).header(ACCEPT, MediaType::DOCUMENTS.join(", "));
        let answer = self.host.send(self.access(Action::Pull), request)?;
        match answer.status {
            200 => Ok(answer),
            400 | 405 | 501 if is_head => {
                // Such an answer has no words, and says nothing yet.
                answer.discard();
                self.manifest(Method::GET, reference, what)
            }
            _ => Err(answer.into_error(what)),
        }
    }

    /// Puts a manifest. Gives whether the registry confirmed the digest, and the subject it listed it under.
    fn put(
        &self,
        reference: &str,
        document: &VerifiedBytes,
        media_type: &MediaType,
        what: &str,
    ) -> Result<(bool, Option<Digest>), Error> {
        let mut settling = Backoff::new(SETTLING_ATTEMPTS);
        loop {
            let url = self.url(what, &format!("manifests/{reference}"))?;
            let mut request = Request::new(Method::PUT, url, what).header(CONTENT_TYPE, media_type.as_str());
            request.payload = Payload::Bytes(document.bytes());
            let answer = self.host.send(self.access(Action::Push), request)?;
            if matches!(answer.status, 200..300) {
                let server = answer.url.authority();
                let named = answer.digest(CONTENT_DIGEST, what)?;
                let subject = answer.digest(SUBJECT, what)?;
                let confirmed = answer.status == 201 && named.is_some();
                answer.discard();
                agrees(named, document.bytes(), what, &server)?;
                return Ok((confirmed, subject));
            }
            let error = answer.into_error(what);
            let unseen = match &error {
                Error::NotFound { said, .. } | Error::Status { said, .. } => said.raw().contains("BLOB_UNKNOWN"),
                _ => false,
            };
            if !unseen || !settling.wait(None) {
                return Err(error);
            }
        }
    }
}

/// A blob of a repository, to be opened at any byte.
struct Blob {
    client: RepositoryClient,
    digest: Digest,
    size: u64,
}

impl BlobSource for Blob {
    fn open(&self, at: u64) -> Result<Box<dyn Read + Send>, Error> {
        let Self { client, digest, size } = self;
        let what = self.what();
        let url = client.url(&what, &format!("blobs/{digest}"))?;
        let mut request = Request::new(Method::GET, url, &what);
        if at > 0 {
            request = request.header(RANGE, format!("bytes={at}-"));
        }
        request.blob = true;
        let answer = client.host.send(client.access(Action::Pull), request)?;
        let expected = match answer.status {
            200 => *size,
            206 if at > 0 => {
                let said = answer.header(CONTENT_RANGE).unwrap_or_default();
                if !said.trim().starts_with(&format!("bytes {at}-")) {
                    return Err(
                        answer.malformed(&what, format!("asked for bytes from {at}, Content-Range is `{said}`"))
                    );
                }
                size.saturating_sub(at)
            }
            _ => return Err(answer.into_error(&what)),
        };
        if let Some(found) = answer.content_length().filter(|found| *found != expected) {
            return Err(Error::Size { what, server: answer.url.authority(), expected, found });
        }
        let whole = answer.status == 200;
        let mut body: Box<dyn Read + Send> = Box::new(answer.into_reader());
        if whole && at > 0 {
            // The registry knows no ranges: what was read already is read again.
            let skipped = std::io::copy(&mut body.by_ref().take(at), &mut std::io::sink());
            if skipped.ok() != Some(at) {
                return Ok(Box::new(std::io::empty()));
            }
        }
        Ok(body)
    }

    fn what(&self) -> String {
        format!("{}@{}", self.client.repository, self.digest)
    }

    fn server(&self) -> String {
        self.client.repository.registry().to_string()
    }
}

/// The body of a manifest's answer, with its `Content-Type`.
fn document(answer: Answer, what: &str) -> Result<(Option<String>, Vec<u8>), Error> {
    let media_type = answer.header(CONTENT_TYPE);
    Ok((media_type, answer.bytes(what, LIMITS.document)?))
}

/// The media type of a document: what the registry says if that is one of a document, else what the document says.
fn media_type_of(
    header: Option<String>,
    document: &VerifiedBytes,
    what: &str,
    server: &str,
) -> Result<MediaType, Error> {
    #[derive(serde::Deserialize)]
    struct Own {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
    }
    let header = header.unwrap_or_default();
    let header = header.split(';').next().unwrap_or_default().trim().parse::<MediaType>().ok();
    if let Some(media_type) = header.as_ref().filter(|m| m.is_document()) {
        return Ok(media_type.clone());
    }
    let own = serde_json::from_slice::<Own>(document.bytes()).ok().and_then(|own| own.media_type?.parse().ok());
    own.or(header).ok_or_else(|| Error::Malformed {
        what: what.into(),
        server: server.into(),
        reason: OutsideText::new("neither the answer nor the document names a media type"),
    })
}

fn checked(bytes: Vec<u8>, digest: Digest, what: &str, server: &str) -> Result<VerifiedBytes, Error> {
    agrees(Some(digest), &bytes, what, server)?;
    VerifiedBytes::check(bytes, digest).map_err(Error::Content)
}

/// Whether the digest a registry names, if it does, is that of these bytes.
fn agrees(named: Option<Digest>, bytes: &[u8], what: &str, server: &str) -> Result<(), Error> {
    let Some(named) = named else { return Ok(()) };
    let mut hasher = Hasher::new(named.algorithm());
    hasher.update(bytes);
    same(Some(named), &hasher.finish(), what, server)
}

/// Whether the digest a registry names, if it does, is this one.
pub(crate) fn same(named: Option<Digest>, expected: &Digest, what: &str, server: &str) -> Result<(), Error> {
    match named {
        Some(found) if found.algorithm() == expected.algorithm() && found != *expected => Err(Error::Digest {
            what: what.into(),
            server: server.into(),
            expected: Box::new(*expected),
            found: Box::new(found),
        }),
        _ => Ok(()),
    }
}

pub(crate) fn content_digest(answer: &Answer, what: &str) -> Result<Option<Digest>, Error> {
    answer.digest(CONTENT_DIGEST, what)
}

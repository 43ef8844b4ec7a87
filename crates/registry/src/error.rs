//! What can go wrong between this program and a registry.

use std::io;
use std::path::PathBuf;

use blobs::BlobError;
use manifest_schema::{Digest, LIMITS, OutsideText};

/// Why a registry could not be asked, or why its answer is refused.
///
/// `what` is the reference, blob or server that was asked about; it is made from parsed types and may be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    // ---- configuration of this side ----
    /// A file of this machine could not be read: one of credentials or certificates, or one that a `file:` URL names.
    #[error("cannot read {}", OutsideText::new(.path.to_string_lossy()).escaped())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of credentials is not of the form containers-auth.json(5) describes.
    #[error("{} is not a credentials file: {}", OutsideText::new(.path.to_string_lossy()).escaped(), .reason.escaped())]
    CredentialsFile {
        /// The file.
        path: PathBuf,
        /// Which rule it breaks; no content.
        reason: OutsideText,
    },
    /// A credential helper could not be run or gave no usable answer.
    #[error("credential helper docker-credential-{}: {}", .helper.escaped(), .reason.escaped())]
    CredentialHelper {
        /// The helper's name, without `docker-credential-`.
        helper: OutsideText,
        /// What went wrong; no secret.
        reason: OutsideText,
    },
    /// A certificate or key in certs.d cannot be used.
    #[error("{} cannot be used: {}", OutsideText::new(.path.to_string_lossy()).escaped(), .reason.escaped())]
    CertificateFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: OutsideText,
    },
    /// The environment names a proxy that cannot be used. The value may hold a password and is not shown.
    #[error("the environment variable {variable} does not name a usable proxy: {reason}")]
    Proxy {
        /// The variable.
        variable: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// A setting cannot be used.
    #[error("{setting} cannot be used: {reason}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// Why.
        reason: &'static str,
    },

    // ---- the way to the server ----
    /// The server could not be reached, or the connection broke.
    #[error("{what}: no connection to {server}: {}", .reason.escaped())]
    Network {
        /// What was asked about.
        what: String,
        /// The server, as `host[:port]`.
        server: String,
        /// What happened.
        reason: OutsideText,
        /// The name of the server does not resolve, or nothing is configured that could answer: asking again at once
        /// is no use.
        lasting: bool,
    },
    /// The server's certificate is not accepted, or TLS failed otherwise.
    #[error("{what}: TLS with {server} failed: {}", .reason.escaped())]
    Tls {
        /// What was asked about.
        what: String,
        /// The server, as `host[:port]`.
        server: String,
        /// Why.
        reason: OutsideText,
    },
    /// The server does not speak HTTP as it should.
    #[error("{what}: {server} does not answer as an HTTP server: {}", .reason.escaped())]
    NotHttp {
        /// What was asked about.
        what: String,
        /// The server, as `host[:port]`.
        server: String,
        /// Why.
        reason: OutsideText,
    },
    /// A URL, `Location` or token realm is not followed.
    #[error("{what}: `{}` is not followed: {reason}", .url.escaped())]
    Url {
        /// What was asked about.
        what: String,
        /// The URL.
        url: OutsideText,
        /// Why.
        reason: &'static str,
    },
    /// More redirects than are followed.
    #[error("{what}: more than {} redirects", LIMITS.redirects)]
    Redirects {
        /// What was asked about.
        what: String,
    },

    // ---- answers ----
    /// The registry does not have it.
    #[error("{what}: not found{}", Said(.said))]
    NotFound {
        /// What was asked about.
        what: String,
        /// The registry's own words.
        said: OutsideText,
    },
    /// The registry wants other credentials, or these may not do it.
    #[error("{what}: {server} denies access (status {status}{})", Said(.said))]
    Denied {
        /// What was asked about.
        what: String,
        /// The server, as `host[:port]`.
        server: String,
        /// 401 or 403.
        status: u16,
        /// The registry's own words.
        said: OutsideText,
    },
    /// The registry answered with a status that is an error here.
    #[error("{what}: {server} answered with status {status}{}", Said(.said))]
    Status {
        /// What was asked about.
        what: String,
        /// The server, as `host[:port]`.
        server: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words.
        said: OutsideText,
    },
    /// The answer is larger than is read of an answer of this kind.
    #[error("{what}: the answer has more than {limit} bytes")]
    TooLarge {
        /// What was asked about.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The list is longer than is read of a list of this kind.
    #[error("{what}: more than {limit} are listed")]
    TooMany {
        /// What was asked about.
        what: String,
        /// The limit.
        limit: usize,
    },
    /// The answer is not of the form that it should have.
    #[error("{what}: the answer of {server} is malformed: {}", .reason.escaped())]
    Malformed {
        /// What was asked about.
        what: String,
        /// The server, as `host[:port]`.
        server: String,
        /// What is wrong.
        reason: OutsideText,
    },
    /// The registry names, or sent, other content than was asked for.
    #[error("{what}: expected {expected}, {server} has {found}")]
    Digest {
        /// What was asked about.
        what: String,
        /// The server, as `host[:port]`.
        server: String,
        /// The digest of what was asked for or sent.
        expected: Box<Digest>,
        /// The registry's digest.
        found: Box<Digest>,
    },
    /// The registry says that a blob has another size than its descriptor.
    #[error("{what}: expected {expected} bytes, {server} has {found}")]
    Size {
        /// What was asked about.
        what: String,
        /// The server, as `host[:port]`.
        server: String,
        /// The size in the descriptor, in bytes.
        expected: u64,
        /// The size the registry says, in bytes.
        found: u64,
    },

    // ---- referrers and signatures ----
    /// A document does not refer to the one it is to be listed under.
    #[error("{what}: its subject is not {subject}")]
    Subject {
        /// The document.
        what: String,
        /// What it should refer to.
        subject: Box<Digest>,
    },
    /// Others changed the list of referrers each time before a change of this side became visible.
    #[error("{what}: the list of referrers was changed by others {attempts} times in a row")]
    Contended {
        /// The tag with the list.
        what: String,
        /// How often it was tried.
        attempts: u32,
    },

    // ---- uploads ----
    /// The blob that was to be pushed is not what its digest promises. The upload has not been completed.
    #[error("the blob to be pushed is not what its digest promises")]
    Content(#[source] BlobError),
    /// The blob that was to be pushed could not be read. The upload has not been completed.
    #[error("{what}: cannot read the blob to be pushed")]
    Read {
        /// The blob, with the repository it was to go to.
        what: String,
        /// What reading it said.
        source: io::Error,
    },
    /// The registry does not take the blob in the way it was sent; the next attempt will be made in another way.
    #[error("{what}: {server} does not take the blob {way}")]
    Way {
        /// The blob, with the repository it was to go to.
        what: String,
        /// The server, as `host[:port]`.
        server: String,
        /// The way that failed.
        way: &'static str,
        /// What happened.
        source: Box<Error>,
    },
}

impl Error {
    /// Whether a file, variable or setting of this side is at fault.
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            Error::File { .. }
                | Error::CredentialsFile { .. }
                | Error::CredentialHelper { .. }
                | Error::CertificateFile { .. }
                | Error::Proxy { .. }
                | Error::Setting { .. }
        )
    }

    /// Whether the same request may succeed later: the network, an overloaded server, an interrupted upload.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Network { .. } | Error::Way { .. } | Error::Contended { .. } => true,
            Error::Status { status, .. } => crate::retry::is_transient_status(*status),
            Error::Read { source, .. } => Error::of(source).is_some_and(Error::is_transient),
            Error::File { .. }
            | Error::CredentialsFile { .. }
            | Error::CredentialHelper { .. }
            | Error::CertificateFile { .. }
            | Error::Proxy { .. }
            | Error::Setting { .. }
            | Error::Tls { .. }
            | Error::NotHttp { .. }
            | Error::Url { .. }
            | Error::Redirects { .. }
            | Error::NotFound { .. }
            | Error::Denied { .. }
            | Error::TooLarge { .. }
            | Error::TooMany { .. }
            | Error::Subject { .. }
            | Error::Malformed { .. }
            | Error::Digest { .. }
            | Error::Size { .. }
            | Error::Content(_) => false,
        }
    }

    /// Whether the *blob being pushed* was wrong, and not the registry or the way to it.
    pub fn is_content(&self) -> bool {
        matches!(self, Error::Content(_))
    }

    /// The registry error inside an I/O error of a reader that [`fetch_blob`](crate::RepositoryClient::fetch_blob)
    /// gave, if that is what it is.
    pub fn of(error: &io::Error) -> Option<&Error> {
        error.get_ref()?.downcast_ref()
    }
}

/// `: <the registry's own words>`, or nothing.
struct Said<'a>(&'a OutsideText);

impl std::fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.raw().is_empty() { Ok(()) } else { write!(f, ": {}", self.0.escaped()) }
    }
}

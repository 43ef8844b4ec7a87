//! Signature trees over HTTP, for sites without a web server: what readers of lookaside trees ask for, and nothing else.
//!
//! What answers what:
//!
//! | somebody | answer |
//! |---|---|
//! | asks for a folder, another file, or a path that leads elsewhere | 404, as for what is not there: [`Wanted`] has the two forms of names that there are |
//! | puts a link into a tree | [`Lookaside`] opens every component without following links |
//! | sends slowly, sends much, keeps connections open | [`HEADERS`], [`HEAD`], [`CONNECTION`], [`CONNECTIONS`] |
//! | keeps what was withdrawn in a cache | `Cache-Control: no-cache`, also with a 404: a signature may come |
//!
//! Readers count signatures up until the first 404, and take any other status for a failure. So there are 200 and 404 only; a file
//! that cannot be read is a 404, and its reason goes to the log.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use manifest_schema::{Digest, LIMITS, Repository};
use rustls::ServerConfig;
use signing::Lookaside;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::config::LookasideConfig;
use crate::error::Error;

/// How long a request's head may take.
const HEADERS: Duration = Duration::from_secs(10);
/// The size of a request's head, in bytes: the least that the library takes.
const HEAD: usize = 8192;
/// How long a connection may stay, whatever it does. Readers connect again.
const CONNECTION: Duration = Duration::from_secs(60);
/// Connections at once; more wait to be accepted.
const CONNECTIONS: usize = 256;

/// The trees that are served.
#[derive(Debug, Clone)]
pub struct Trees {
    /// The signatures of images. With several registries, each below its host.
    pub images: LookasideConfig,
    /// The signatures of OpenShift release images, if there is such a folder.
    pub releases: Option<PathBuf>,
}

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// `[/HOST]/REPOSITORY@ALGORITHM=HEX/signature-N`
    Image(Repository, Digest, usize),
    /// `/ALGORITHM=HEX/signature-N`
    Release(Digest, usize),
}

impl Wanted {
    /// Reads a path. One tree has no host in its paths; its repositories get a made-up one.
    fn parse(path: &str, has_hosts: bool) -> Option<Self> {
        let (folder, file) = path.strip_prefix('/')?.rsplit_once('/')?;
        let number = number(file)?;
        match folder.split_once('@') {
            None => Some(Self::Release(digest(folder)?, number)),
            Some((name, of)) => {
                let name = if has_hosts { name.into() } else { format!("one.invalid/{name}") };
                Some(Self::Image(name.parse().ok()?, digest(of)?, number))
            }
        }
    }
}

/// `signature-N`, as it is written.
fn number(file: &str) -> Option<usize> {
    let digits = file.strip_prefix("signature-")?;
    let number: usize = digits.parse().ok()?;
    (number.to_string() == digits && (1..=LIMITS.lookaside_signatures).contains(&number)).then_some(number)
}

/// `ALGORITHM=HEX`, as it is written.
fn digest(folder: &str) -> Option<Digest> {
    let (algorithm, hex) = folder.split_once('=')?;
    let digest: Digest = format!("{algorithm}:{hex}").parse().ok()?;
    (digest.hex() == hex).then_some(digest)
}

impl Trees {
    /// Whether all folders are there and can be read: later, what cannot be read is a 404, and looks as if nothing were signed.
    ///
    /// # Errors
    /// [`Error::ServedFolder`] names the first that is not.
    pub fn are_readable(&self) -> Result<(), Error> {
        self.images.roots().into_iter().chain(&self.releases).try_for_each(|root| {
            // The name in it takes the leave to search, too.
            let read = std::fs::read_dir(root.join("."));
            read.map(|_| ()).map_err(|source| Error::ServedFolder { path: root.clone(), source })
        })
    }

    /// What is there for a path.
    fn find(&self, path: &str) -> Option<Vec<u8>> {
        let has_hosts = matches!(self.images, LookasideConfig::PerHost(_));
        let found = match Wanted::parse(path, has_hosts)? {
            Wanted::Image(repository, digest, number) => {
                let root = self.images.root_for(&repository)?;
                Lookaside::new(root).signature(&Lookaside::path_for(&repository, &digest), number)
            }
            Wanted::Release(digest, number) => {
                Lookaside::new(self.releases.as_ref()?).signature(&Lookaside::release_path(&digest), number)
            }
        };
        found.unwrap_or_else(|e| {
            tracing::warn!("{path}: {}", console::chain(&e));
            None
        })
    }

    fn asked(&self, request: &Request<Incoming>) -> Option<Vec<u8>> {
        let asks = matches!(*request.method(), Method::GET | Method::HEAD) && request.uri().query().is_none();
        let found = asks.then(|| self.find(request.uri().path())).flatten();
        tracing::debug!("{} {}: {}", request.method(), request.uri(), if found.is_some() { 200 } else { 404 });
        found
    }
}

/// 200 with what was found, or 404.
fn response(found: Option<Vec<u8>>) -> Response<Full<Bytes>> {
    let status = if found.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    let mut response = Response::new(Full::new(Bytes::from(found.unwrap_or_default())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

/// Serves until the program is told to end (SIGTERM, SIGINT). `ready` is called with the address once it can be asked.
///
/// # Errors
/// [`Error::Serve`] if the address cannot be had.
pub fn serve(
    trees: Trees,
    address: SocketAddr,
    tls: Option<ServerConfig>,
    ready: impl FnOnce(SocketAddr) -> Result<(), Error>,
) -> Result<(), Error> {
    let failed = |source| Error::Serve { address, source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let mut ends =
            [signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::interrupt()).map_err(failed)?];
        ready(listener.local_addr().map_err(failed)?)?;
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let [terminate, interrupt] = &mut ends;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = accept(Arc::new(trees), listener, tls) => {}
        }
        Ok(())
    })
}

async fn accept(trees: Arc<Trees>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Of one connection, or no file can be opened at the moment.
            Err(e) => {
                tracing::warn!("a connection cannot be accepted: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (trees, tls) = (Arc::clone(&trees), tls.clone());
        tokio::spawn(async move {
            let connection = async {
                match tls {
                    None => converse(trees, stream).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => converse(trees, stream).await,
                        Err(e) => tracing::debug!("no TLS: {e}"),
                    },
                }
            };
            let _ = tokio::time::timeout(CONNECTION, connection).await;
            drop(place);
        });
    }
}

async fn converse(trees: Arc<Trees>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let trees = Arc::clone(&trees);
        async move {
            let found = tokio::task::spawn_blocking(move || trees.asked(&request)).await;
            Ok::<_, Infallible>(response(found.ok().flatten()))
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(HEAD);
    if let Err(e) = server.serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!("a connection ended: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "7a0edbc37b327075e554b10f05c60cf36778cc77acefa98a2910ca68c94ad8b2";

    #[test]
    fn only_the_names_of_signatures_are_asked_for() {
        let image = format!("/payments/api@sha256={HEX}/signature-3");
        let digest: Digest = format!("sha256:{HEX}").parse().expect("a digest");
        let expected = Wanted::Image("one.invalid/payments/api".parse().expect("a repository"), digest, 3);
        assert_eq!(Wanted::parse(&image, false), Some(expected));
        let hosted = format!("/registry.prod.example:5000/payments/api@sha256={HEX}/signature-1");
        let expected =
            Wanted::Image("registry.prod.example:5000/payments/api".parse().expect("a repository"), digest, 1);
        assert_eq!(Wanted::parse(&hosted, true), Some(expected));
        let release = Wanted::parse(&format!("/sha256={HEX}/signature-1"), false);
        assert_eq!(release, Some(Wanted::Release(digest, 1)));
        for wrong in [
            "",
            "/",
            "//",
            "/payments/api",
            &format!("/payments/api@sha256={HEX}"),
            &format!("/payments/api@sha256={HEX}/"),
            &format!("/payments/api@sha256={HEX}/signature-0"),
            &format!("/payments/api@sha256={HEX}/signature-01"),
            &format!("/payments/api@sha256={HEX}/signature-128"),
            &format!("/payments/api@sha256={HEX}/signature-+1"),
            &format!("/payments/api@sha256={HEX}/signature-1/"),
            &format!("/payments/api@sha256={HEX}/../signature-1"),
            &format!("/payments/../api@sha256={HEX}/signature-1"),
            &format!("/payments//api@sha256={HEX}/signature-1"),
            &format!("/../api@sha256={HEX}/signature-1"),
            &format!("/%2e%2e/api@sha256={HEX}/signature-1"),
            &format!("/payments/api@sha256%3D{HEX}/signature-1"),
            &format!("/payments/api@sha256={}/signature-1", HEX.to_uppercase()),
            &format!("/payments/api@sha256={}/signature-1", &HEX[1..]),
            &format!("/payments/api@sha256={HEX}@x/signature-1"),
            &format!("/Payments/api@sha256={HEX}/signature-1"),
            &format!("payments/api@sha256={HEX}/signature-1"),
            &format!("/x/sha256={HEX}/signature-1"),
        ] {
            assert_eq!(Wanted::parse(wrong, false), None, "{wrong}");
        }
    }
}

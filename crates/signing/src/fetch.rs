//! Reading signatures over the network, with somebody else's network (containers/image, `signature-protocols.md` and
//! `docker/docker_image_src.go`; openshift/library-go, `pkg/verify`).

use std::error::Error as StdError;

use manifest_schema::text::escape;
use manifest_schema::{Digest, LIMITS, Repository};

use crate::policy::SignatureFile;

/// How signatures are fetched: by whoever knows proxies, certificates and file URLs.
pub trait FetchSmall {
    /// Why something cannot be fetched.
    type Error;

    /// Fetches a URL of at most `limit` bytes.
    ///
    /// `None` means that it is not there: status 404, or no such file. A directory that would hold it may be missing too.
    ///
    /// # Errors
    /// For anything else, such as status 403; it fails the whole read, since a signature that was withheld could be the one
    /// that matters.
    fn fetch(&self, url: &str, limit: u64) -> Result<Option<Vec<u8>>, Self::Error>;
}

/// Why signatures cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FetchSignaturesError<E: StdError + 'static> {
    /// One of them cannot be fetched.
    #[error("{}: cannot be fetched", escape(url))]
    Fetch {
        /// Which.
        url: String,
        /// Why.
        source: E,
    },
    /// What is there is no signature.
    #[error("{}: it is {reason}; containers/image refuses the image because of it", escape(url))]
    NotASignature {
        /// Which.
        url: String,
        /// What it is.
        reason: &'static str,
    },
    /// More than there may be.
    #[error("{}: more than {limit} signatures", escape(url))]
    TooMany {
        /// The first one too many.
        url: String,
        /// How many there may be.
        limit: usize,
    },
}

/// Fetches the signatures of an image from a lookaside tree: `<base>/<path>@<algorithm>=<hex>/signature-<N>`, N from 1 to the
/// first that is missing.
///
/// # Errors
/// [`FetchSignaturesError`].
pub fn fetch_signatures<F: FetchSmall>(
    base: &str,
    repository: &Repository,
    digest: &Digest,
    fetch: &F,
) -> Result<Vec<Vec<u8>>, FetchSignaturesError<F::Error>>
where
    F::Error: StdError + 'static,
{
    let folder = format!("/{}@{}={}", repository.path(), digest.algorithm().name(), digest.hex());
    let limit = LIMITS.lookaside_signatures;
    let (signatures, next) = fetch_numbered(base, &folder, limit, fetch)?;
    // Readers fail if there is one more, so there is none in an honest tree.
    if let Some(url) = next {
        let there = fetch.fetch(&url, LIMITS.signature);
        if there.map_err(|source| FetchSignaturesError::Fetch { url: url.clone(), source })?.is_some() {
            return Err(FetchSignaturesError::TooMany { url, limit });
        }
    }
    Ok(signatures)
}

/// Fetches the signatures of an OpenShift release from a store: `<store>/<algorithm>=<hex>/signature-<N>`, N from 1 to the
/// first that is missing, at most 9. No repository is part of the path.
///
/// # Errors
/// [`FetchSignaturesError`].
pub fn fetch_release_signatures<F: FetchSmall>(
    store: &str,
    digest: &Digest,
    fetch: &F,
) -> Result<Vec<Vec<u8>>, FetchSignaturesError<F::Error>>
where
    F::Error: StdError + 'static,
{
    /// The cluster version operator asks for no more.
    const LIMIT: usize = 9;
    let folder = format!("/{}={}", digest.algorithm().name(), digest.hex());
    Ok(fetch_numbered(store.trim_end_matches('/'), &folder, LIMIT, fetch)?.0)
}

/// Up to `limit` signatures, and the URL of the next one if all of those were there.
#[allow(clippy::type_complexity)]
fn fetch_numbered<F: FetchSmall>(
    base: &str,
    folder: &str,
    limit: usize,
    fetch: &F,
) -> Result<(Vec<Vec<u8>>, Option<String>), FetchSignaturesError<F::Error>>
where
    F::Error: StdError + 'static,
{
    // What is behind a path stays behind it.
    let (base, query) = base.split_at(base.find(['?', '#']).unwrap_or(base.len()));
    let url = |number: usize| format!("{base}{folder}/signature-{number}{query}");
    let mut signatures = Vec::new();
    while signatures.len() < limit {
        let url = url(signatures.len() + 1);
        let fetched = fetch.fetch(&url, LIMITS.signature);
        match fetched.map_err(|source| FetchSignaturesError::Fetch { url: url.clone(), source })? {
            None => return Ok((signatures, None)),
            Some(bytes) => {
                if let Err(reason) = SignatureFile::read(&bytes) {
                    return Err(FetchSignaturesError::NotASignature { url, reason });
                }
                signatures.push(bytes);
            }
        }
    }
    Ok((signatures, Some(url(limit + 1))))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;

    const HEX: &str = "20bf21ed457b390829cdbeec8795a7bea1626991fda603e0d01b4e7f60427e55";

    /// A web server: what it has, what it fails at, and what it was asked for.
    #[derive(Default)]
    struct Server {
        files: BTreeMap<String, Vec<u8>>,
        forbidden: Option<String>,
        asked: RefCell<Vec<String>>,
    }

    impl FetchSmall for Server {
        type Error = std::io::Error;
        fn fetch(&self, url: &str, limit: u64) -> Result<Option<Vec<u8>>, Self::Error> {
            assert_eq!(limit, LIMITS.signature);
            self.asked.borrow_mut().push(url.into());
            match &self.forbidden {
                Some(forbidden) if forbidden == url => Err(std::io::Error::other("403")),
                _ => Ok(self.files.get(url).cloned()),
            }
        }
    }

    fn server(count: usize) -> Server {
        let url = |n| format!("https://sig.example/tree/team/app@sha256={HEX}/signature-{n}");
        Server { files: (1..=count).map(|n| (url(n), vec![0xa3, 1])).collect(), ..Server::default() }
    }

    fn fetch(server: &Server) -> Result<Vec<Vec<u8>>, FetchSignaturesError<std::io::Error>> {
        let digest = format!("sha256:{HEX}").parse().expect("a digest");
        let repository = "r.example:5000/team/app".parse().expect("a repository");
        fetch_signatures("https://sig.example/tree", &repository, &digest, server)
    }

    #[test]
    fn up_to_the_first_that_is_missing() {
        assert_eq!(fetch(&server(0)).expect("none").len(), 0);
        let three = server(3);
        assert_eq!(fetch(&three).expect("three").len(), 3);
        assert_eq!(three.asked.borrow().len(), 4);
        let mut hole = server(3);
        hole.files.retain(|url, _| !url.ends_with("-2"));
        assert_eq!(fetch(&hole).expect("one").len(), 1);
        let full = server(LIMITS.lookaside_signatures);
        assert_eq!(fetch(&full).expect("full").len(), 127);
        assert!(matches!(fetch(&server(128)), Err(FetchSignaturesError::TooMany { limit: 127, .. })));
    }

    #[test]
    fn one_bad_file_fails_the_read() {
        let name = |server: &Server, n: usize| server.files.keys().nth(n - 1).cloned().expect("a file");
        for bad in [&b""[..], b"<html>404</html>", b"-----BEGIN PGP MESSAGE-----\n"] {
            let mut server = server(2);
            let second = name(&server, 2);
            server.files.insert(second.clone(), bad.to_vec());
            assert!(
                matches!(fetch(&server), Err(FetchSignaturesError::NotASignature { url, .. }) if url == second),
                "{bad:?}"
            );
        }
        let mut forbidden = server(2);
        forbidden.forbidden = Some(name(&forbidden, 2));
        assert!(matches!(fetch(&forbidden), Err(FetchSignaturesError::Fetch { .. })));
        let mut at_the_end = server(0);
        at_the_end.forbidden = Some(format!("https://sig.example/tree/team/app@sha256={HEX}/signature-1"));
        assert!(matches!(fetch(&at_the_end), Err(FetchSignaturesError::Fetch { .. })));
    }

    #[test]
    fn release_stores() {
        let url = |n| format!("https://mirror.example/signatures/sha256={HEX}/signature-{n}");
        let server = Server { files: (1..=12).map(|n| (url(n), vec![0xa3, 1])).collect(), ..Server::default() };
        let digest = format!("sha256:{HEX}").parse().expect("a digest");
        for store in ["https://mirror.example/signatures", "https://mirror.example/signatures/"] {
            assert_eq!(fetch_release_signatures(store, &digest, &server).expect("nine").len(), 9);
        }
        assert_eq!(server.asked.borrow().len(), 18);
    }

    #[test]
    fn a_query_stays_at_the_end() {
        let server = Server::default();
        let digest = format!("sha256:{HEX}").parse().expect("a digest");
        let repository = "r.example/app".parse().expect("a repository");
        fetch_signatures("https://sig.example/t?key=1", &repository, &digest, &server).expect("none");
        assert_eq!(server.asked.borrow()[0], format!("https://sig.example/t/app@sha256={HEX}/signature-1?key=1"));
    }
}

//! One registry: how it is reached, how it wants to be asked, and what has been learned of it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use manifest_schema::{Algorithm, OutsideText, Repository};
use ureq::http::Method;
use ureq::http::header::WWW_AUTHENTICATE;

use crate::auth::{Authenticator, Scheme};
use crate::challenge;
use crate::credentials::CredentialFiles;
use crate::error::Error;
use crate::quirks::Quirks;
use crate::retry::Backoff;
use crate::transport::{Answer, Request, Transport};
use crate::url::Url;

/// The header in which a registry says that it keeps simple signatures.
const SUPPORTS_SIGNATURES: &str = "x-registry-supports-signatures";

/// What a request wants to do.
#[derive(Clone, Copy)]
pub(crate) struct Access<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) action: Action,
    /// A second repository, to read from.
    pub(crate) from: Option<&'a Repository>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Pull,
    Push,
    Delete,
}

impl Access<'_> {
    /// The scopes of a token for it (distribution project, "Token scope documentation"). Some registries read the
    /// first one only, and some give no push without pull.
    pub(crate) fn scopes(&self) -> Vec<String> {
        let actions = match self.action {
            Action::Pull => "pull",
            Action::Push => "pull,push",
            Action::Delete => "pull,push,delete",
        };
        let mut scopes = vec![format!("repository:{}:{actions}", self.repository.path())];
        if let Some(from) = self.from.filter(|from| *from != self.repository) {
            scopes.push(format!("repository:{}:pull", from.path()));
        }
        scopes
    }
}

/// One registry.
pub(crate) struct Host {
    /// `host[:port]` as references name it.
    registry: String,
    transport: Arc<Transport>,
    base: Mutex<Option<Url>>,
    authenticator: Authenticator,
    quirks: Mutex<Quirks>,
    supports_signatures: AtomicBool,
    /// Where there is no referrers API: the parents of repositories, and the algorithm of the digests asked for.
    without_referrers: Mutex<HashSet<(String, Algorithm)>>,
}

impl Host {
    pub(crate) fn new(registry: &str, transport: Arc<Transport>, files: Arc<CredentialFiles>) -> Self {
        Self {
            registry: registry.to_ascii_lowercase(),
            base: Mutex::default(),
            authenticator: Authenticator::new(transport.clone(), files),
            transport,
            quirks: Mutex::new(Quirks::new(registry)),
            supports_signatures: AtomicBool::new(false),
            without_referrers: Mutex::default(),
        }
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(crate) fn quirks(&self) -> MutexGuard<'_, Quirks> {
        self.quirks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the registry says, where it is asked for `/v2/`, that it keeps simple signatures.
    pub(crate) fn supports_signatures(&self, what: &str) -> Result<bool, Error> {
        self.base(what)?;
        Ok(self.supports_signatures.load(Ordering::SeqCst))
    }

    /// Whether the registry has shown that it has no referrers API for this repository.
    pub(crate) fn lacks_referrers(&self, repository: &Repository, algorithm: Algorithm) -> bool {
        let lacking = self.without_referrers.lock().unwrap_or_else(PoisonError::into_inner);
        lacking.contains(&(parent(repository), algorithm))
    }

    /// Remembers that the API as a whole is not there: for the repositories beside this one too. A server in front of
    /// several registries tells them apart by how paths begin, so it need not be the same for all.
    pub(crate) fn has_no_referrers(&self, repository: &Repository, algorithm: Algorithm) {
        let mut lacking = self.without_referrers.lock().unwrap_or_else(PoisonError::into_inner);
        lacking.insert((parent(repository), algorithm));
    }

    /// A URL of this registry.
    pub(crate) fn url(&self, what: &str, path: &str) -> Result<Url, Error> {
        let base = self.base(what)?;
        base.join(path).map_err(|fault| Error::Url {
            what: what.into(),
            url: OutsideText::new(path),
            reason: fault.reason(),
        })
    }

    /// Sends a request with the credentials for it; once more with new ones if they are refused and it can be sent
    /// again.
    pub(crate) fn send(&self, access: Access<'_>, mut request: Request<'_>) -> Result<Answer, Error> {
        let base = self.base(request.what)?;
        if !base.may_share_credentials(&request.url) {
            return self.transport.send(&mut request);
        }
        let what = request.what;
        let authorize = |asked: Option<&str>| {
            let value = self.authenticator.authorization(&base, access, asked, what)?;
            Ok::<_, Error>(value.map(|value| (value, base.clone())))
        };
        request.authorization = authorize(None)?;
        let answer = self.transport.send(&mut request)?;
        if answer.status != 401 || !base.may_share_credentials(&answer.url) {
            return Ok(answer);
        }
        let asked = self.authenticator.refused(access, &challenges(&answer));
        let Some(asked) = asked.filter(|_| request.is_replayable()) else { return Ok(answer) };
        answer.discard();
        request.authorization = authorize(asked.as_deref())?;
        self.transport.send(&mut request)
    }

    /// Where the registry answers, found by asking for `/v2/` once.
    fn base(&self, what: &str) -> Result<Url, Error> {
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(base) = &*base {
            return Ok(base.clone());
        }
        let candidates = self.candidates(what)?;
        let mut backoff = Backoff::new(self.transport.config().retries);
        loop {
            let error = match self.probe(&candidates, what) {
                Ok(found) => {
                    *base = Some(found.clone());
                    return Ok(found);
                }
                Err(error) => error,
            };
            let lasting = matches!(error, Error::Network { lasting: true, .. });
            if lasting || !error.is_transient() || !backoff.wait(None) {
                return Err(error);
            }
        }
    }

    /// The first candidate that answers as a registry.
    fn probe(&self, candidates: &[Url], what: &str) -> Result<Url, Error> {
        let mut failure = None;
        for candidate in candidates {
            match self.ping(candidate, what) {
                Ok(()) => return Ok(candidate.clone()),
                // It does speak TLS, and that says more than what it made of plain HTTP.
                Err(error @ Error::Tls { .. }) if !matches!(failure, Some(Error::Network { .. })) => {
                    failure = Some(error);
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or(Error::NotFound { what: what.into(), said: OutsideText::default() }))
    }

    /// Over TLS, unless this machine or the configuration says otherwise.
    fn candidates(&self, what: &str) -> Result<Vec<Url>, Error> {
        let host = if self.registry == "docker.io" { "registry-1.docker.io" } else { &self.registry };
        let url = |https| {
            Url::of_host(https, host, "/").map_err(|fault| Error::Url {
                what: what.into(),
                url: OutsideText::new(host),
                reason: fault.reason(),
            })
        };
        let (tls, plain) = (url(true)?, url(false)?);
        if !self.transport.may_be_plain(&plain) {
            return Ok(vec![tls]);
        }
        if !crate::proxy::is_loopback(plain.host()) {
            return Ok(vec![plain]);
        }
        Ok(if self.transport.certificates().folder(&tls).is_some() { vec![tls, plain] } else { vec![plain, tls] })
    }

    fn ping(&self, base: &Url, what: &str) -> Result<(), Error> {
        let url = base.join("/v2/").unwrap_or_else(|_| base.clone());
        let mut request = Request::new(Method::GET, url, what);
        request.once = true;
        let answer = self.transport.send(&mut request)?;
        match answer.status {
            200..300 | 401 => {
                self.authenticator.learn(Scheme::choose(&challenges(&answer)));
                let signatures = answer.header(SUPPORTS_SIGNATURES).is_some_and(|value| value.trim() == "1");
                self.supports_signatures.store(signatures, Ordering::SeqCst);
                answer.discard();
                Ok(())
            }
            _ => Err(answer.into_error(&format!("{} (registry API at /v2/)", self.registry))),
        }
    }
}

/// The path of a repository without its last part, if it has several.
fn parent(repository: &Repository) -> String {
    let path = repository.path();
    path.rsplit_once('/').map_or(path, |(parent, _)| parent).to_string()
}

fn challenges(answer: &Answer) -> Vec<challenge::Challenge> {
    answer.headers(WWW_AUTHENTICATE).iter().flat_map(|header| challenge::parse(header)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::proxy::Proxies;
    use crate::tls::Certificates;

    #[test]
    fn registries_are_asked_where_they_answer() {
        let config = Config { plain_http: vec!["plain.example:5000".into()], ..Config::default() };
        let transport = Transport::new(config, Certificates::new(Vec::new()), Proxies::default()).expect("a transport");
        let (transport, files) = (Arc::new(transport), Arc::new(CredentialFiles::new(None, |_| None)));
        let asked = |registry: &str| {
            let host = Host::new(registry, transport.clone(), files.clone());
            host.candidates("x").expect(registry).iter().map(Url::to_string).collect::<Vec<_>>()
        };
        assert_eq!(asked("docker.io"), ["https://registry-1.docker.io/"]);
        assert_eq!(asked("Docker.IO"), ["https://registry-1.docker.io/"]);
        assert_eq!(asked("docker.io:5000"), ["https://docker.io:5000/"], "another server");
        assert_eq!(asked("r.example"), ["https://r.example/"]);
        assert_eq!(asked("plain.example:5000"), ["http://plain.example:5000/"]);
        assert_eq!(asked("plain.example"), ["https://plain.example/"], "another port");
        assert_eq!(asked("127.0.0.1:5000"), ["http://127.0.0.1:5000/", "https://127.0.0.1:5000/"]);
    }
}

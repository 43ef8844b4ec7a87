//! HTTP exchanges with limits: one agent per server, redirects followed here, so that credentials never go along.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use manifest_schema::{Digest, LIMITS, OutsideText};
use rustls::AlertDescription;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderName, LOCATION, RETRY_AFTER, WARNING};
use ureq::http::{self, HeaderMap, HeaderValue, Method};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, SendBody};

use crate::config::Config;
use crate::error::Error;
use crate::names::Names;
use crate::proxy::{Proxies, is_loopback};
use crate::retry::{Backoff, is_transient_status, retry_after};
use crate::tls::Certificates;
use crate::url::Url;

/// How long an exchange may take that carries no blob.
const SHORT_EXCHANGE: Duration = Duration::from_secs(900);
/// Response headers, in bytes.
const RESPONSE_HEAD: usize = 64 << 10;
/// Connections to one server that are kept: as many as there are requests at once, or they are made anew all the time.
const IDLE: usize = 64;
/// Registry warnings that are remembered, so that each is shown once.
const WARNINGS: usize = 100;

/// What is sent with a request.
pub(crate) enum Payload<'a> {
    Empty,
    /// Can be sent again.
    Bytes(&'a [u8]),
    /// Can be sent once: exactly so many bytes.
    Stream(&'a mut dyn Read, u64),
}

/// One request.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// What it is about, for errors.
    pub(crate) what: &'a str,
    pub(crate) headers: Vec<(HeaderName, String)>,
    /// Credentials, and the server they are for.
    pub(crate) authorization: Option<(HeaderValue, Url)>,
    pub(crate) payload: Payload<'a>,
    /// Whether the answer is a blob, which may take its time.
    pub(crate) blob: bool,
    /// Whether servers without TLS may be asked that are not named in the configuration: for content that is checked
    /// by its digest or signature, without credentials.
    pub(crate) any_server: bool,
    /// Whether the payload is a credential, which goes to no other server.
    pub(crate) secret_payload: bool,
    /// Whether it is sent once only, since a server might have acted on it although no answer came.
    pub(crate) once: bool,
}

impl<'a> Request<'a> {
    pub(crate) fn new(method: Method, url: Url, what: &'a str) -> Self {
        let (headers, authorization, payload) = (Vec::new(), None, Payload::Empty);
        Self {
            method,
            url,
            what,
            headers,
            authorization,
            payload,
            blob: false,
            any_server: false,
            secret_payload: false,
            once: false,
        }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn is_replayable(&self) -> bool {
        !matches!(self.payload, Payload::Stream(..))
    }
}

/// The agents of this process.
pub(crate) struct Transport {
    config: Config,
    certificates: Certificates,
    proxies: Proxies,
    names: Names,
    agents: Mutex<HashMap<(bool, String), Agent>>,
    warnings: Mutex<HashSet<String>>,
}

impl Transport {
    pub(crate) fn new(config: Config, certificates: Certificates, proxies: Proxies) -> Result<Self, Error> {
        if HeaderValue::from_str(&config.user_agent).is_err() {
            return Err(Error::Setting { setting: "the user agent", reason: "it is not a header value" });
        }
        let (agents, warnings) = (Mutex::default(), Mutex::default());
        Ok(Self { config, certificates, proxies, names: Names::default(), agents, warnings })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Whether this server may be asked without TLS.
    pub(crate) fn may_be_plain(&self, url: &Url) -> bool {
        let with_port = format!("{}:{}", url.host(), url.port());
        let named = |name: &String| name.eq_ignore_ascii_case(url.host()) || name.eq_ignore_ascii_case(&with_port);
        is_loopback(url.host()) || self.config.plain_http.iter().any(named)
    }

    /// Sends a request, again after a transient failure if it can be sent again, and follows redirects.
    ///
    /// The last answer is given whatever its status.
    pub(crate) fn send(&self, request: &mut Request<'_>) -> Result<Answer, Error> {
        let mut backoff = Backoff::new(if request.is_replayable() && !request.once { self.config.retries } else { 1 });
        loop {
            let outcome = self.follow(request);
            let wait = match &outcome {
                Ok(answer) if is_transient_status(answer.status) => answer.retry_after(),
                Err(Error::Network { lasting: false, .. }) => None,
                _ => return outcome,
            };
            if !backoff.wait(wait) {
                return outcome;
            }
            match outcome {
                Ok(answer) => answer.discard(),
                Err(error) => tracing::debug!(%error, "asking again"),
            }
        }
    }

    fn follow(&self, request: &mut Request<'_>) -> Result<Answer, Error> {
        let mut url = request.url.clone();
        for _ in 0..=LIMITS.redirects {
            let answer = self.exchange(request, &url)?;
            tracing::debug!(method = %request.method, what = request.what, server = url.authority(), status = answer.status);
            let follows = match request.method {
                Method::GET | Method::HEAD => matches!(answer.status, 301 | 302 | 303 | 307 | 308),
                _ => matches!(answer.status, 307 | 308) && request.is_replayable() && !request.secret_payload,
            };
            if !follows {
                return Ok(answer);
            }
            let Some(location) = answer.header(LOCATION) else { return Ok(answer) };
            let next = self.step(&url, &location, request.what, request.any_server)?;
            answer.discard();
            url = next;
        }
        Err(Error::Redirects { what: request.what.into() })
    }

    /// Where a `Location` leads: never from TLS to plain HTTP, and to plain HTTP only where that is allowed.
    pub(crate) fn step(&self, from: &Url, location: &str, what: &str, any_server: bool) -> Result<Url, Error> {
        let refused = |reason| Error::Url { what: what.into(), url: OutsideText::new(location), reason };
        let next = from.join(location).map_err(|fault| refused(fault.reason()))?;
        if from.is_https() && !next.is_https() {
            return Err(refused("it leads from https to http"));
        }
        if !next.is_https() && !any_server && !self.may_be_plain(&next) && next.authority() != from.authority() {
            return Err(refused("it leads to a server that may not be asked without TLS"));
        }
        Ok(next)
    }

    /// One exchange, without redirects.
    fn exchange(&self, request: &mut Request<'_>, url: &Url) -> Result<Answer, Error> {
        let what = request.what;
        let malformed = || Error::Url {
            what: what.into(),
            url: OutsideText::new(format!("{url:?}")),
            reason: "it does not make a valid request",
        };
        let mut head = http::Request::builder().method(request.method.clone()).uri(url.to_string());
        for (name, value) in &request.headers {
            head = head.header(name, value);
        }
        // Compressed answers would have another length than the registry's size.
        head = head.header("Accept-Encoding", "identity");
        let authorization = request.authorization.as_ref().filter(|(_, server)| server.may_share_credentials(url));
        if let Some((value, _)) = authorization {
            head = head.header(AUTHORIZATION, value);
        }
        let agent = self.agent(url, what)?;
        let limit = if request.blob || !request.is_replayable() { None } else { Some(SHORT_EXCHANGE) };
        macro_rules! run {
            ($head:expr, $body:expr) => {
                agent.run(
                    agent.configure_request($head.body($body).map_err(|_| malformed())?).timeout_global(limit).build(),
                )
            };
        }
        let answer = match &mut request.payload {
            Payload::Empty if request.method == Method::POST => run!(head, &[][..]),
            Payload::Empty => run!(head, ()),
            Payload::Bytes(bytes) => run!(head, *bytes),
            Payload::Stream(reader, size) => {
                let mut exact = Exact { inner: *reader, left: *size };
                run!(head.header(CONTENT_LENGTH, *size), SendBody::from_reader(&mut exact))
            }
        };
        let answer = answer.map_err(|e| {
            self.names.forget();
            self.by_proxy(classify(e, what, url), url)
        })?;
        let (parts, body) = answer.into_parts();
        let answer = Answer { status: parts.status.as_u16(), url: url.clone(), headers: parts.headers, body };
        self.show_warnings(&answer);
        Ok(answer)
    }

    /// Says through which proxy a connection could not be made.
    fn by_proxy(&self, mut error: Error, url: &Url) -> Error {
        if let (Error::Network { server, .. }, Some(proxy)) = (&mut error, self.proxies.for_server(url)) {
            server.push_str(&format!(" through the proxy {}:{}", proxy.host(), proxy.port()));
        }
        error
    }

    fn agent(&self, url: &Url, what: &str) -> Result<Agent, Error> {
        let key = (url.is_https(), url.authority());
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(self.proxies.for_server(url))
            .user_agent(self.config.user_agent.clone())
            .max_response_header_size(RESPONSE_HEAD)
            .max_idle_connections(IDLE)
            .max_idle_connections_per_host(IDLE)
            .timeout_connect(Some(self.config.connect_timeout))
            .timeout_resolve(Some(self.config.connect_timeout))
            .timeout_per_read(Some(self.config.stall_timeout))
            .timeout_per_write(Some(self.config.stall_timeout));
        let config = if url.is_https() { config.tls_config(self.certificates.config(url)?) } else { config };
        let agent = Agent::with_parts(config.build(), DefaultConnector::default(), self.names.clone());
        tracing::debug!(what, server = url.authority(), "new server");
        agents.insert(key, agent.clone());
        Ok(agent)
    }

    /// Shows each `Warning: 299` once (distribution specification, "Warnings").
    fn show_warnings(&self, answer: &Answer) {
        for value in answer.headers.get_all(WARNING) {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let Some(text) = text.strip_prefix("299 ") else { continue };
            let text = OutsideText::new(text.strip_prefix("- ").unwrap_or(text));
            let server = answer.url.authority();
            let mut seen = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.len() < WARNINGS && seen.insert(format!("{server} {}", text.raw())) {
                tracing::warn!("{server} warns: {}", text.escaped());
            }
        }
    }
}

/// Gives exactly so many bytes, or fails: an upload must not wait for bytes that never come.
struct Exact<'a> {
    inner: &'a mut dyn Read,
    left: u64,
}

impl Read for Exact<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let Some(buf) = buf.get_mut(..want) else { return Ok(0) };
        let n = self.inner.read(buf)?;
        if n == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }
}

/// A registry's answer. Its headers and body are not trusted.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The server that answered.
    pub(crate) url: Url,
    headers: HeaderMap,
    body: Body,
}

impl Answer {
    /// A header's value, if it is there and printable.
    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> Option<String> {
        self.headers.get(name)?.to_str().ok().map(str::to_string)
    }

    /// All values of a header.
    pub(crate) fn headers(&self, name: HeaderName) -> Vec<String> {
        self.headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_string).collect()
    }

    /// All values of a header, also those with characters that are not printable; what is no UTF-8 is replaced.
    pub(crate) fn texts(&self, name: HeaderName) -> Vec<String> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }

    /// A header that holds a digest.
    pub(crate) fn digest(&self, name: &'static str, what: &str) -> Result<Option<Digest>, Error> {
        match self.headers.get(name) {
            None => Ok(None),
            Some(value) => {
                let text = String::from_utf8_lossy(value.as_bytes());
                let digest = text.trim().parse().map_err(|_| self.malformed(what, format!("{name} is `{text}`")))?;
                Ok(Some(digest))
            }
        }
    }

    /// `Content-Length`, in bytes.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH)?.trim().parse().ok()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.header(RETRY_AFTER).and_then(|value| retry_after(&value, Timestamp::now()))
    }

    /// The whole body, at most `limit` bytes.
    pub(crate) fn bytes(self, what: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let (url, mut bytes) = (self.url.clone(), Vec::new());
        self.into_reader()
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|e| classify(ureq::Error::from(e), what, &url))?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge { what: what.into(), limit });
        }
        Ok(bytes)
    }

    /// The body as a stream.
    pub(crate) fn into_reader(self) -> impl Read + Send + 'static {
        self.body.into_with_config().limit(u64::MAX).reader()
    }

    /// Reads away a short rest, so that the connection can serve again.
    pub(crate) fn discard(self) {
        // Whatever goes wrong here concerns the next request, which will notice.
        let _ = io::copy(&mut self.into_reader().take(64 << 10), &mut io::sink());
    }

    /// What an answer of this status means, where it is not the one hoped for.
    pub(crate) fn into_error(self, what: &str) -> Error {
        let (status, server, what) = (self.status, self.url.authority(), what.to_string());
        let said = self.bytes(&what, LIMITS.registry_answer).map(|body| words(&body)).unwrap_or_default();
        match status {
            401 | 403 => Error::Denied { what, server, status, said },
            404 => Error::NotFound { what, said },
            400..500 if says_absent(&said) => Error::NotFound { what, said },
            _ => Error::Status { what, server, status, said },
        }
    }

    pub(crate) fn malformed(&self, what: &str, reason: impl Into<String>) -> Error {
        Error::Malformed { what: what.into(), server: self.url.authority(), reason: OutsideText::new(reason) }
    }
}

#[derive(serde::Deserialize)]
struct Errors {
    errors: Vec<Words>,
}

#[derive(serde::Deserialize)]
struct Words {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The registry's own words from an error's body (distribution specification, "Error codes").
fn words(body: &[u8]) -> OutsideText {
    let Ok(errors) = serde_json::from_slice::<Errors>(body) else {
        return OutsideText::default();
    };
    let list: Vec<_> = errors
        .errors
        .iter()
        .take(4)
        .map(|e| if e.message.is_empty() { e.code.clone() } else { format!("{} ({})", e.code, e.message) })
        .collect();
    OutsideText::new(list.join(", "))
}

/// Some registries say "no such thing" with another status than 404.
fn says_absent(said: &OutsideText) -> bool {
    let code = said.raw().split(' ').next().unwrap_or_default();
    matches!(code, "MANIFEST_UNKNOWN" | "NAME_UNKNOWN" | "NOT_FOUND")
}

/// What a failure of the HTTP library means.
pub(crate) fn classify(error: ureq::Error, what: &str, url: &Url) -> Error {
    let (what, server) = (what.to_string(), url.authority());
    let network = |reason: String, lasting| Error::Network {
        what: what.clone(),
        server: server.clone(),
        reason: OutsideText::new(reason),
        lasting,
    };
    let tls = |error: &rustls::Error| {
        let mut reason = error.to_string();
        if format!("{error:?}").contains("CaUsedAsEndEntity") {
            reason.push_str(
                "; the server uses its certificate authority's own certificate, which is not accepted even if it is \
                 trusted: give the server a certificate that the authority signed",
            );
        }
        if matches!(error, rustls::Error::AlertReceived(alert) if is_about_client(*alert)) {
            reason.push_str("; the server wants a client certificate, by an authority that it trusts");
        }
        Error::Tls { what: what.clone(), server: server.clone(), reason: OutsideText::new(reason) }
    };
    match error {
        ureq::Error::Rustls(e) => tls(&e),
        ureq::Error::Io(e) => match e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(e) => tls(e),
            None => network(e.to_string(), is_unknown_name(&e.to_string())),
        },
        ureq::Error::Timeout(e) => network(format!("timeout ({e})"), false),
        ureq::Error::HostNotFound => network("the name does not resolve".into(), true),
        e @ (ureq::Error::ConnectionFailed | ureq::Error::BodyStalled) => network(e.to_string(), false),
        ureq::Error::ConnectProxyFailed(e) => network(format!("it refused: {e}"), true),
        ureq::Error::Tls(e) => Error::Tls { what, server, reason: OutsideText::new(e) },
        e => Error::NotHttp { what, server, reason: OutsideText::new(e.to_string()) },
    }
}

/// Whether the system's resolver, whose failures have no kind of their own, says that there is no such name.
fn is_unknown_name(failure: &str) -> bool {
    let said = failure.strip_prefix("failed to lookup address information: ");
    said.is_some_and(|said| !["Temporary", "Try again"].iter().any(|later| said.starts_with(later)))
}

/// Whether the alert is what a server says of a client's certificate, or of none (RFC 8446, 6.2).
fn is_about_client(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_step_leads_from_https_to_http() {
        let config = Config { plain_http: vec!["Plain.example:5000".into()], ..Config::default() };
        let transport = Transport::new(config, Certificates::new(Vec::new()), Proxies::default()).expect("a transport");
        let step = |from: &str, to: &str| transport.step(&Url::parse(from).expect(from), to, "x", false);
        assert!(step("https://r.example/v2/", "https://cdn.example/x").is_ok());
        for to in ["http://r.example/x", "http://127.0.0.1/x", "http://plain.example:5000/x"] {
            let error = step("https://r.example/v2/", to).expect_err(to).to_string();
            assert!(error.contains("from https to http"), "{error}");
        }
        assert!(step("http://plain.example:5000/", "http://plain.example:5000/x").is_ok());
        assert!(step("http://127.0.0.1:5000/", "http://plain.example:5000/x").is_ok());
        assert!(step("http://127.0.0.1:5000/", "http://plain.example/x").is_err(), "another port");
        assert!(step("http://127.0.0.1:5000/", "https://other.example/x").is_ok());
    }

    #[test]
    fn a_name_that_does_not_exist_is_not_asked_for_again() {
        let lookup = |said: &str| {
            let failure = io::Error::other(format!("failed to lookup address information: {said}"));
            let url = Url::parse("https://r.example/").expect("a URL");
            matches!(classify(ureq::Error::Io(failure), "x", &url), Error::Network { lasting: true, .. })
        };
        assert!(lookup("Name or service not known") && lookup("No address associated with hostname"));
        assert!(!lookup("Temporary failure in name resolution"));
        assert!(!is_unknown_name("Connection refused (os error 111)"));
    }

    #[test]
    fn a_user_agent_is_a_header() {
        let config = Config { user_agent: "x\r\ny".into(), ..Config::default() };
        assert!(Transport::new(config, Certificates::new(Vec::new()), Proxies::default()).is_err());
    }
}

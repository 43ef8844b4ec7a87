//! Credentials on requests: Basic (RFC 7617), and Bearer as the distribution project's token servers do it.
//!
//! Credentials go to the registry's own server and to the token realm it names, nowhere else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use manifest_schema::{LIMITS, OutsideText, Repository};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use ureq::http::header::CONTENT_TYPE;
use ureq::http::{HeaderValue, Method};

use crate::challenge::Challenge;
use crate::credentials::{CredentialFiles, Credentials};
use crate::error::Error;
use crate::host::Access;
use crate::transport::{Answer, Payload, Request, Transport};
use crate::url::{Url, encode};

/// A token is good for this long even if its server says less or nothing.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Longer scopes than this are not asked for because a registry says so.
const SCOPE_LENGTH: usize = 2000;

/// How a registry wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scheme {
    Open,
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Scheme {
    /// The best of several challenges that is understood here.
    pub(crate) fn choose(challenges: &[Challenge]) -> Self {
        let bearer = challenges.iter().find(|c| c.scheme == "bearer").and_then(|c| {
            let realm = c.get("realm")?.to_string();
            Some(Scheme::Bearer { realm, service: c.get("service").map(str::to_string) })
        });
        let basic = || challenges.iter().any(|c| c.scheme == "basic").then_some(Scheme::Basic);
        bearer.or_else(basic).unwrap_or(Scheme::Open)
    }
}

/// The credentials and tokens for one registry.
pub(crate) struct Authenticator {
    transport: Arc<Transport>,
    files: Arc<CredentialFiles>,
    scheme: Mutex<Scheme>,
    credentials: Mutex<HashMap<Repository, Option<Credentials>>>,
    tokens: Mutex<HashMap<String, Token>>,
}

struct Token {
    value: SecretString,
    good_until: Instant,
}

impl Authenticator {
    pub(crate) fn new(transport: Arc<Transport>, files: Arc<CredentialFiles>) -> Self {
        let (scheme, credentials, tokens) = (Mutex::new(Scheme::Open), Mutex::default(), Mutex::default());
        Self { transport, files, scheme, credentials, tokens }
    }

    pub(crate) fn learn(&self, scheme: Scheme) {
        *lock(&self.scheme) = scheme;
    }

    /// The `Authorization` for a request to the registry at `base`; with a token for the scope `asked`, if the
    /// registry asked for one.
    pub(crate) fn authorization(
        &self,
        base: &Url,
        access: Access<'_>,
        asked: Option<&str>,
        what: &str,
    ) -> Result<Option<HeaderValue>, Error> {
        let scheme = lock(&self.scheme).clone();
        match scheme {
            Scheme::Open => Ok(None),
            Scheme::Basic => match self.credentials(access.repository)? {
                Some(Credentials::Password { user, password })
                | Some(Credentials::Identity { password: Some((user, password)), .. }) => {
                    basic(&user, &password).map(Some)
                }
                _ => Ok(None),
            },
            Scheme::Bearer { realm, service } => {
                let scopes = access.scopes();
                let key = scopes.join(" ");
                let mut tokens = lock(&self.tokens);
                if let Some(token) = tokens.get(&key).filter(|t| asked.is_none() && t.good_until > Instant::now()) {
                    return bearer(&token.value).map(Some);
                }
                let scopes = asked.map_or(scopes, |asked| asked.split(' ').map(str::to_string).collect());
                let credentials = self.credentials(access.repository)?;
                let realm = self.realm(base, &realm, what)?;
                let token = self.fetch(&realm, service.as_deref(), &scopes, credentials.as_ref(), what)?;
                let value = bearer(&token.value)?;
                tokens.insert(key, token);
                Ok(Some(value))
            }
        }
    }

    /// Takes note of a 401. `Some` if it is worth asking again, with the scope that the registry asked for, if it did.
    pub(crate) fn refused(&self, access: Access<'_>, challenges: &[Challenge]) -> Option<Option<String>> {
        let now = Scheme::choose(challenges);
        let known = lock(&self.scheme).clone();
        let changed = now != Scheme::Open && now != known;
        if changed {
            self.learn(now);
        }
        let is_bearer = matches!(*lock(&self.scheme), Scheme::Bearer { .. });
        if is_bearer {
            lock(&self.tokens).remove(&access.scopes().join(" "));
        }
        let asked = challenges
            .iter()
            .find(|c| c.scheme == "bearer" && c.get("error") == Some("insufficient_scope"))
            .and_then(|c| c.get("scope"))
            .filter(|scope| !scope.is_empty() && scope.len() <= SCOPE_LENGTH);
        (changed || is_bearer).then(|| asked.map(str::to_string))
    }

    fn credentials(&self, repository: &Repository) -> Result<Option<Credentials>, Error> {
        let mut known = lock(&self.credentials);
        if let Some(found) = known.get(repository) {
            return Ok(found.clone());
        }
        let found = self.files.find(repository)?;
        known.insert(repository.clone(), found.clone());
        Ok(found)
    }

    /// Checks where tokens come from: over TLS, unless the registry itself goes without and the realm may too.
    fn realm(&self, base: &Url, realm: &str, what: &str) -> Result<Url, Error> {
        let refused = |reason| Error::Url { what: what.into(), url: OutsideText::new(realm), reason };
        let url = Url::parse(realm).map_err(|fault| refused(fault.reason()))?;
        let plain_allowed = !base.is_https() && (self.transport.may_be_plain(&url) || url.host() == base.host());
        if !url.is_https() && !plain_allowed {
            return Err(refused("credentials are not sent to a token server without TLS"));
        }
        Ok(url)
    }

    fn fetch(
        &self,
        realm: &Url,
        service: Option<&str>,
        scopes: &[String],
        credentials: Option<&Credentials>,
        what: &str,
    ) -> Result<Token, Error> {
        let what = &format!("{what}: token");
        let mut password = None;
        match credentials {
            Some(Credentials::Identity { token, password: beside }) => {
                match self.exchange_identity(realm, service, scopes, token, what)? {
                    Some(answer) => return read_token(answer, what),
                    None => password = beside.as_ref().map(|(user, password)| (user, password)),
                }
            }
            Some(Credentials::Password { user, password: own }) => password = Some((user, own)),
            None => {}
        }
        let mut url = realm.clone();
        if let Some(service) = service {
            url = url.with_query("service", service);
        }
        for scope in scopes {
            url = url.with_query("scope", scope);
        }
        let mut request = Request::new(Method::GET, url, what);
        if let Some((user, password)) = password {
            request.url = request.url.with_query("account", user);
            request.authorization = Some((basic(user, password)?, realm.clone()));
        }
        let answer = self.transport.send(&mut request)?;
        if answer.status == 200 { read_token(answer, what) } else { Err(answer.into_error(what)) }
    }

    /// OAuth 2, "Refreshing an Access Token" (RFC 6749, 6). `None` if the server does not know it.
    fn exchange_identity(
        &self,
        realm: &Url,
        service: Option<&str>,
        scopes: &[String],
        token: &SecretString,
        what: &str,
    ) -> Result<Option<Answer>, Error> {
        let form = Zeroizing::new(format!(
            "grant_type=refresh_token&client_id=sealift&service={}&scope={}&refresh_token={}",
            encode(service.unwrap_or_default()),
            encode(&scopes.join(" ")),
            encode(token.expose_secret())
        ));
        let mut request =
            Request::new(Method::POST, realm.clone(), what).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        request.payload = Payload::Bytes(form.as_bytes());
        request.secret_payload = true;
        let answer = self.transport.send(&mut request)?;
        match answer.status {
            200 => Ok(Some(answer)),
            404 | 405 => {
                answer.discard();
                Ok(None)
            }
            _ => Err(answer.into_error(what)),
        }
    }
}

#[derive(serde::Deserialize)]
struct TokenAnswer {
    token: Option<SecretString>,
    access_token: Option<SecretString>,
    #[serde(default)]
    expires_in: serde_json::Value,
}

fn read_token(answer: Answer, what: &str) -> Result<Token, Error> {
    let malformed = answer.malformed(what, "there is no token in it");
    let bytes = Zeroizing::new(answer.bytes(what, LIMITS.registry_answer)?);
    let Ok(parsed) = serde_json::from_slice::<TokenAnswer>(&bytes) else { return Err(malformed) };
    let given = |token: Option<SecretString>| token.filter(|t| !t.expose_secret().is_empty());
    let Some(value) = given(parsed.token).or_else(|| given(parsed.access_token)) else { return Err(malformed) };
    Ok(Token { value, good_until: Instant::now() + lifetime(&parsed.expires_in) })
}

/// How long a token is used: nine tenths of what its server says.
fn lifetime(expires_in: &serde_json::Value) -> Duration {
    let said = expires_in.as_u64().map_or(SHORTEST, Duration::from_secs).clamp(SHORTEST, LONGEST);
    said / 10 * 9
}

fn basic(user: &str, password: &SecretString) -> Result<HeaderValue, Error> {
    let pair = Zeroizing::new(format!("{user}:{}", password.expose_secret()));
    secret_header(&Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes()))))
}

fn bearer(token: &SecretString) -> Result<HeaderValue, Error> {
    secret_header(&Zeroizing::new(format!("Bearer {}", token.expose_secret())))
}

fn secret_header(text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Error::Setting { setting: "a token", reason: "it has characters that no header can hold" })?;
    value.set_sensitive(true);
    Ok(value)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::challenge::parse;
    use crate::config::Config;
    use crate::host::Action;
    use crate::proxy::Proxies;
    use crate::tls::Certificates;

    #[test]
    fn bearer_comes_before_basic() {
        let both = parse(r#"Basic realm="x", Bearer realm="https://a.example/t",service=s"#);
        let bearer = Scheme::Bearer { realm: "https://a.example/t".into(), service: Some("s".into()) };
        assert_eq!(Scheme::choose(&both), bearer);
        assert_eq!(Scheme::choose(&parse("Bearer service=s, Basic realm=x")), Scheme::Basic, "a bearer without realm");
        assert_eq!(Scheme::choose(&parse("Negotiate")), Scheme::Open);
    }

    #[test]
    fn a_token_is_used_until_its_time_is_over() {
        let tokens = testkit::Proxy::alone();
        for (n, life) in [(1, 300), (2, 7200)] {
            let body = format!(r#"{{"token":"t{n}","expires_in":{life}}}"#);
            tokens.rule(testkit::Rule::new(testkit::Fault::Answer(200, Vec::new(), body.into_bytes())).nth(n));
        }
        let transport =
            Transport::new(Config::default(), Certificates::new(Vec::new()), Proxies::default()).expect("a transport");
        let authenticator = Authenticator::new(transport.into(), CredentialFiles::new(None, |_| None).into());
        authenticator.learn(Scheme::Bearer { realm: tokens.url(), service: None });
        let base = Url::parse("http://127.0.0.1:5000/").expect("a URL");
        let repository = "127.0.0.1:5000/a".parse().expect("a repository");
        let access = Access { repository: &repository, action: Action::Pull, from: None };
        let used = || {
            let value = authenticator.authorization(&base, access, None, "x").expect("a token").expect("a header");
            value.to_str().expect("text").to_string()
        };
        // The clock does not move here; the time that the token has does.
        let left = |change: &dyn Fn(&mut Instant)| {
            let mut tokens = lock(&authenticator.tokens);
            let token = tokens.values_mut().next().expect("a token");
            change(&mut token.good_until);
            token.good_until.saturating_duration_since(Instant::now()).as_secs()
        };
        assert_eq!([used(), used()], ["Bearer t1", "Bearer t1"]);
        assert!((200..=270).contains(&left(&|_| {})));
        let _ = left(&|until| *until = Instant::now());
        assert_eq!([used(), used()], ["Bearer t2", "Bearer t2"]);
        assert!((6000..=6480).contains(&left(&|_| {})));
        assert_eq!(tokens.seen().len(), 2);
    }

    #[test]
    fn lifetimes_are_bounded() {
        let seconds = |json: &str| lifetime(&serde_json::from_str(json).expect("json")).as_secs();
        assert_eq!(seconds("300"), 270);
        assert_eq!([seconds("null"), seconds("1"), seconds("-5"), seconds("\"x\"")], [54; 4]);
        assert_eq!(seconds("18446744073709551615"), 77760);
    }

    #[test]
    fn secrets_are_not_shown() {
        let value = basic("user", &SecretString::from("very secret")).expect("a header");
        assert!(!format!("{value:?}").contains(&BASE64_STANDARD.encode("user:very secret")));
        assert!(bearer(&SecretString::from("a\r\nX: y")).is_err());
    }
}

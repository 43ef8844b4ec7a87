//! Credentials for registries, where containers-auth.json(5) and the Docker client keep them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use manifest_schema::{LIMITS, OutsideText, Repository};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::error::Error;
use crate::tls::read_limited;

/// What proves to a registry who is asking.
#[derive(Debug, Clone)]
pub(crate) enum Credentials {
    Password {
        user: String,
        password: SecretString,
    },
    /// A refresh token for the registry's token server (OAuth 2), perhaps with a password for servers that do not take
    /// it.
    Identity {
        token: SecretString,
        password: Option<(String, SecretString)>,
    },
}

/// The files to look in.
pub(crate) struct CredentialFiles {
    paths: Vec<PathBuf>,
    /// A file that was named must be there.
    named: bool,
}

impl CredentialFiles {
    /// `authfile` alone if given, then `REGISTRY_AUTH_FILE` alone, then the standard files.
    pub(crate) fn new(authfile: Option<&Path>, variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.as_os_str().is_empty());
        if let Some(path) = authfile.map(PathBuf::from).or_else(|| variable("REGISTRY_AUTH_FILE")) {
            return Self { paths: vec![path], named: true };
        }
        let runtime = match variable("XDG_RUNTIME_DIR") {
            Some(folder) => Some(folder.join("containers/auth.json")),
            // As podman does for a session without a runtime folder.
            None => std::fs::metadata("/proc/self")
                .ok()
                .map(|own| format!("/run/containers/{}/auth.json", own.uid()).into()),
        };
        let home = variable("HOME");
        let config = variable("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
        let docker = variable("DOCKER_CONFIG").or_else(|| home.map(|home| home.join(".docker")));
        let paths = [
            runtime,
            config.map(|folder| folder.join("containers/auth.json")),
            docker.map(|folder| folder.join("config.json")),
        ];
        Self { paths: paths.into_iter().flatten().collect(), named: false }
    }

    /// The credentials for a repository: those of the first file that has any.
    pub(crate) fn find(&self, repository: &Repository) -> Result<Option<Credentials>, Error> {
        for path in &self.paths {
            let bytes = match read_limited(path) {
                Ok(bytes) => bytes,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && !self.named => continue,
                Err(source) => return Err(Error::File { path: path.clone(), source }),
            };
            let file = AuthFile::parse(path, &bytes)?;
            if let Some(found) = file.find(path, repository)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<SecretString>,
    identitytoken: Option<SecretString>,
    username: Option<String>,
    password: Option<SecretString>,
}

impl AuthFile {
    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        // The parser's own message may quote a secret.
        serde_json::from_slice(bytes).map_err(|e| {
            malformed(path, format!("not the JSON it should be, at line {} column {}", e.line(), e.column()))
        })
    }

    fn find(&self, path: &Path, repository: &Repository) -> Result<Option<Credentials>, Error> {
        let scopes = scopes(repository);
        if let Some(helper) = scopes.iter().find_map(|scope| lookup(&self.cred_helpers, scope)) {
            return ask_helper(helper, repository.registry());
        }
        for scope in &scopes {
            let entry = lookup(&self.auths, scope).map(|entry| entry.credentials(path, scope));
            if let Some(Some(credentials)) = entry.transpose()? {
                return Ok(Some(credentials));
            }
        }
        match &self.creds_store {
            Some(helper) if !helper.is_empty() => ask_helper(helper, repository.registry()),
            _ => Ok(None),
        }
    }
}

/// `host/a/b`, `host/a`, `host`: the most specific first.
fn scopes(repository: &Repository) -> Vec<String> {
    let mut name = format!("{}/{}", canonical_host(repository.registry()), repository.path());
    let mut scopes = Vec::new();
    loop {
        scopes.push(name.clone());
        match name.rfind('/') {
            Some(slash) => name.truncate(slash),
            None => return scopes,
        }
    }
}

fn lookup<'a, T>(map: &'a BTreeMap<String, T>, scope: &str) -> Option<&'a T> {
    map.iter().find(|(key, _)| canonical_key(key) == scope).map(|(_, value)| value)
}

/// Docker writes `https://host/v1/`, podman `host` or `host/namespace`.
fn canonical_key(key: &str) -> String {
    let stripped = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let name = stripped.unwrap_or(key).trim_end_matches('/');
    let (host, path) = name.split_once('/').map_or((name, ""), |(host, path)| (host, path));
    let host = canonical_host(host);
    if stripped.is_some() || matches!(path, "" | "v1" | "v2") { host } else { format!("{host}/{path}") }
}

fn canonical_host(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    if matches!(host.as_str(), "index.docker.io" | "registry-1.docker.io") { "docker.io".into() } else { host }
}

impl Entry {
    /// `None` for an entry that only marks that a helper has the secret.
    fn credentials(&self, path: &Path, scope: &str) -> Result<Option<Credentials>, Error> {
        let given = |secret: &Option<SecretString>| secret.clone().filter(|s| !s.expose_secret().is_empty());
        let password = match given(&self.auth) {
            Some(auth) => Some(Self::decoded(&auth, path, scope)?),
            None => self.username.clone().zip(given(&self.password)),
        }
        .filter(|(_, password)| !password.expose_secret().is_empty());
        Ok(match (given(&self.identitytoken), password) {
            (Some(token), password) => Some(Credentials::Identity { token, password }),
            (None, Some((user, password))) => Some(Credentials::Password { user, password }),
            (None, None) => None,
        })
    }

    fn decoded(auth: &SecretString, path: &Path, scope: &str) -> Result<(String, SecretString), Error> {
        let bad = || malformed(path, format!("the auth value for {scope} is not base64 of user:password"));
        let decoded = Zeroizing::new(BASE64_STANDARD.decode(auth.expose_secret().trim()).map_err(|_| bad())?);
        let decoded = std::str::from_utf8(&decoded).map_err(|_| bad())?;
        let (user, password) = decoded.split_once(':').ok_or_else(bad)?;
        // Older Docker clients pad the password with zero bytes.
        Ok((user.into(), SecretString::from(password.trim_end_matches('\0'))))
    }
}

/// The answer of `docker-credential-<helper> get`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: SecretString,
}

/// Runs a credential helper (github.com/docker/docker-credential-helpers).
fn ask_helper(helper: &str, registry: &str) -> Result<Option<Credentials>, Error> {
    let failed =
        |reason: String| Error::CredentialHelper { helper: OutsideText::new(helper), reason: OutsideText::new(reason) };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if helper.is_empty() || !helper.chars().all(plain) {
        return Err(failed("the name is not one of a program".into()));
    }
    let server = match canonical_host(registry).as_str() {
        "docker.io" => "https://index.docker.io/v1/".to_string(),
        _ => registry.to_string(),
    };
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input fails by its exit code.
        let _ = stdin.write_all(server.as_bytes());
    }
    let mut answer = Zeroizing::new(Vec::new());
    if let Some(stdout) = child.stdout.take() {
        stdout.take(LIMITS.registry_answer).read_to_end(&mut answer).map_err(|e| failed(e.to_string()))?;
    }
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    if !status.success() {
        let words = String::from_utf8_lossy(&answer);
        if words.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(format!("{status}: {}", words.trim())));
    }
    let answer: HelperAnswer =
        serde_json::from_slice(&answer).map_err(|_| failed("its answer is not the JSON it should be".into()))?;
    Ok(Some(match answer.username.as_str() {
        "<token>" => Credentials::Identity { token: answer.secret, password: None },
        _ => Credentials::Password { user: answer.username, password: answer.secret },
    }))
}

fn malformed(path: &Path, reason: impl Into<String>) -> Error {
    Error::CredentialsFile { path: path.into(), reason: OutsideText::new(reason) }
}

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn find(json: &str, repository: &str) -> Result<Option<String>, Error> {
        let file = AuthFile::parse(Path::new("auth.json"), json.as_bytes())?;
        let found = file.find(Path::new("auth.json"), &repository.parse().unwrap())?;
        Ok(found.map(|credentials| match credentials {
            Credentials::Password { user, password } => format!("{user}:{}", password.expose_secret()),
            Credentials::Identity { token, password } => {
                format!("token {} {}", token.expose_secret(), password.is_some())
            }
        }))
    }

    fn auths(list: &[(&str, &str)]) -> String {
        let auths: BTreeMap<_, _> = list
            .iter()
            .map(|(key, pair)| (*key, serde_json::json!({ "auth": BASE64_STANDARD.encode(pair) })))
            .collect();
        serde_json::json!({ "auths": auths }).to_string()
    }

    #[test]
    fn the_most_specific_key_counts() {
        let json = auths(&[
            ("r.example", "host:1"),
            ("r.example/pay", "pay:2"),
            ("r.example/pay/api", "api:3"),
            ("https://old.example/v1/", "old:4"),
            ("https://index.docker.io/v1/", "hub:5:6"),
            ("port.example:5000", "port:7"),
        ]);
        for (repository, expected) in [
            ("r.example/pay/api", Some("api:3")),
            ("r.example/pay/api/v2", Some("api:3")),
            ("r.example/pay/web", Some("pay:2")),
            ("r.example/payments", Some("host:1")),
            ("R.example/x", Some("host:1")),
            ("old.example/x", Some("old:4")),
            ("docker.io/library/x", Some("hub:5:6")),
            ("port.example:5000/x", Some("port:7")),
            ("port.example/x", None),
            ("sub.r.example/x", None),
        ] {
            assert_eq!(find(&json, repository).unwrap().as_deref(), expected, "{repository}");
        }
    }

    #[test]
    fn an_identity_token_comes_before_a_password() {
        let both = r#"{"auths":{"r.example":{"auth":"dTpw","identitytoken":"t"}}}"#;
        assert_eq!(find(both, "r.example/x").unwrap().as_deref(), Some("token t true"));
        let token = r#"{"auths":{"r.example":{"auth":"dTo=","identitytoken":"t"}}}"#;
        assert_eq!(find(token, "r.example/x").unwrap().as_deref(), Some("token t false"));
        assert_eq!(find(r#"{"auths":{"r.example":{}}}"#, "r.example/x").unwrap(), None);
    }

    #[test]
    fn a_malformed_file_is_named_and_its_secrets_are_not_shown() {
        for json in [
            r#"{"auths":{"r.example":{"auth":"c2VjcmV0"}}}"#,
            r#"{"auths":{"r.example":{"auth":"secret!"}}}"#,
            r#"{"auths":{"r.example":"secret"}}"#,
            r#"{"auths":"secret"#,
            "secret",
            "",
        ] {
            let error = find(json, "r.example/x").unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("auth.json") && !shown.contains("secret"), "{shown}");
        }
    }

    #[test]
    fn a_file_that_is_named_is_the_only_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(path("run/containers")).unwrap();
        std::fs::create_dir_all(path("home/.docker")).unwrap();
        std::fs::write(path("run/containers/auth.json"), auths(&[("run.example", "a:b"), ("both.example", "run:1")]))
            .unwrap();
        std::fs::write(path("home/.docker/config.json"), auths(&[("home.example", "c:d"), ("both.example", "home:1")]))
            .unwrap();
        std::fs::write(path("named.json"), auths(&[("named.example", "e:f")])).unwrap();
        let user = |files: &CredentialFiles, host: &str| match files.find(&Repository::new(host, "x").unwrap()).unwrap()
        {
            Some(Credentials::Password { user, .. }) => Some(user),
            _ => None,
        };
        let environment = |name: &str| match name {
            "XDG_RUNTIME_DIR" => Some(path("run")),
            "HOME" => Some(path("home")),
            _ => None,
        };
        let standard = CredentialFiles::new(None, environment);
        assert_eq!(user(&standard, "run.example").as_deref(), Some("a"));
        assert_eq!(user(&standard, "home.example").as_deref(), Some("c"));
        assert_eq!(user(&standard, "both.example").as_deref(), Some("run"));
        let named = CredentialFiles::new(Some(&path("named.json")), environment);
        assert_eq!((user(&named, "named.example").as_deref(), user(&named, "run.example")), (Some("e"), None));
        let variable = |name: &str| (name == "REGISTRY_AUTH_FILE").then(|| path("named.json"));
        assert_eq!(user(&CredentialFiles::new(None, variable), "named.example").as_deref(), Some("e"));
        let missing = CredentialFiles::new(Some(&path("missing.json")), environment);
        assert!(matches!(missing.find(&Repository::new("r.example", "x").unwrap()), Err(Error::File { .. })));
    }

    /// Runs itself again with another `PATH`, which this process may not change for its other threads.
    #[test]
    fn helpers_are_asked() {
        use std::os::unix::fs::PermissionsExt;

        if std::env::var_os("REGISTRY_TEST_HELPERS").is_none() {
            let folder = tempfile::tempdir().unwrap();
            for (name, script) in [
                ("good", r#"read -r host; [ "$1" = get ] && printf '{"Username":"u-%s","Secret":"s"}' "$host""#),
                ("token", r#"cat >/dev/null; printf '{"Username":"<token>","Secret":"t"}'"#),
                ("none", "cat >/dev/null; echo 'credentials not found in native keychain'; exit 1"),
                ("broken", "echo boom; exit 3"),
                ("odd", "echo secret"),
            ] {
                let path = folder.path().join(format!("docker-credential-{name}"));
                std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
            let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "credentials::tests::helpers_are_asked"])
                .envs([("PATH", path.as_str()), ("REGISTRY_TEST_HELPERS", "1")])
                .status()
                .unwrap();
            assert!(status.success());
            return;
        }
        let helper = |name: &str| format!(r#"{{"credHelpers":{{"r.example":"{name}"}},"credsStore":"token"}}"#);
        assert_eq!(find(&helper("good"), "r.example/x").unwrap().as_deref(), Some("u-r.example:s"));
        assert_eq!(find(&helper("none"), "r.example/x").unwrap(), None);
        assert_eq!(find(&helper("good"), "other.example/x").unwrap().as_deref(), Some("token t false"), "the store");
        let hub = r#"{"auths":{"https://index.docker.io/v1/":{}},"credsStore":"good"}"#;
        assert_eq!(find(hub, "docker.io/x").unwrap().as_deref(), Some("u-https://index.docker.io/v1/:s"));
        for (name, said) in [("broken", "boom"), ("odd", "not the JSON"), ("missing", "No such file"), ("../x", "name")]
        {
            let error = find(&helper(name), "r.example/x").unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains("secret"), "{error}");
        }
    }
}

//! Certificates: the system's authorities, and those in `certs.d` (containers-certs.d(5)).

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use manifest_schema::{LIMITS, OutsideText};
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::error::Error;
use crate::url::Url;

/// Where the certificates for servers are.
pub(crate) struct Certificates {
    folders: Vec<PathBuf>,
    system: OnceLock<Vec<Certificate<'static>>>,
}

/// The standard `certs.d` folders, the first to be asked first.
pub(crate) fn standard_folders(home: Option<&Path>) -> Vec<PathBuf> {
    let own = home.map(|home| home.join(".config/containers/certs.d"));
    own.into_iter().chain(["/etc/containers/certs.d".into(), "/etc/docker/certs.d".into()]).collect()
}

impl Certificates {
    pub(crate) fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders, system: OnceLock::new() }
    }

    /// The folder for this server, named `host` or `host:port`. The first of several counts, whole.
    pub(crate) fn folder(&self, url: &Url) -> Option<PathBuf> {
        let with_port = format!("{}:{}", url.host(), url.port());
        self.folders
            .iter()
            .flat_map(|folder| [folder.join(&with_port), folder.join(url.authority())])
            .find(|folder| folder.is_dir())
    }

    /// What TLS with this server takes.
    pub(crate) fn config(&self, url: &Url) -> Result<TlsConfig, Error> {
        let mut roots = self.system().clone();
        let mut client = None;
        if let Some(folder) = self.folder(url) {
            for path in files(&folder)? {
                match path.extension().and_then(|e| e.to_str()) {
                    Some("crt") => roots.extend(authorities(&path)?),
                    Some("cert") if client.is_some() => {
                        return Err(unusable(&path, "there is more than one client certificate for this server"));
                    }
                    Some("cert") => client = Some(client_certificate(&path)?),
                    Some("key") if !path.with_extension("cert").is_file() => {
                        return Err(unusable(&path, "there is no .cert of the same name"));
                    }
                    _ => {}
                }
            }
        }
        Ok(TlsConfig::builder().root_certs(RootCerts::Specific(roots.into())).client_cert(client).build())
    }

    fn system(&self) -> &Vec<Certificate<'static>> {
        self.system.get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::debug!(error = %OutsideText::new(error.to_string()).escaped(), "a system certificate is not used");
            }
            found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect()
        })
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::File { path: folder.into(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        files.push(entry.map_err(failed)?.path());
        if files.len() > LIMITS.folder_entries {
            return Err(unusable(folder, "it has too many files"));
        }
    }
    files.sort();
    Ok(files)
}

fn authorities(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let chain = chain(path)?;
    let mut store = RootCertStore::empty();
    for der in &chain {
        store.add(der.clone()).map_err(|e| unusable(path, e.to_string()))?;
    }
    Ok(chain.iter().map(|der| Certificate::from_der(der).to_owned()).collect())
}

/// Reads a pair and checks that key and certificate belong together.
fn client_certificate(path: &Path) -> Result<ClientCert, Error> {
    let chain = chain(path)?;
    let key_path = path.with_extension("key");
    if !key_path.is_file() {
        return Err(unusable(path, "there is no .key of the same name"));
    }
    let pem = read(&key_path)?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| unusable(&key_path, "it is not an unencrypted private key in PEM form"))?;
    CertifiedKey::from_der(chain.clone(), key, &rustls::crypto::ring::default_provider())
        .map_err(|e| unusable(&key_path, format!("it does not fit the certificate beside it: {e}")))?;
    let key = PrivateKey::from_pem(&pem).map_err(|_| unusable(&key_path, "it is not a private key in PEM form"))?;
    let chain: Vec<_> = chain.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    Ok(ClientCert::new_with_certs(&chain, key))
}

/// All certificates of a PEM file; at least one.
fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(unusable(path, "there is no certificate in PEM form in it")),
        Err(e) => Err(unusable(path, e.to_string())),
    }
}

fn read(path: &Path) -> Result<secrecy::zeroize::Zeroizing<Vec<u8>>, Error> {
    read_limited(path).map_err(|source| Error::File { path: path.into(), source })
}

/// Reads a configuration file whole, at most [`LIMITS.config`](manifest_schema::Limits::config) bytes of it.
pub(crate) fn read_limited(path: &Path) -> io::Result<secrecy::zeroize::Zeroizing<Vec<u8>>> {
    let mut bytes = secrecy::zeroize::Zeroizing::new(Vec::new());
    File::open(path)?.take(LIMITS.config + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMITS.config {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {} bytes", LIMITS.config)));
    }
    Ok(bytes)
}

fn unusable(path: &Path, reason: impl Into<String>) -> Error {
    Error::CertificateFile { path: path.into(), reason: OutsideText::new(reason) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn make(folder: &Path, name: &str, kind: [&str; 2]) {
        let at = |extension: &str| folder.join(format!("{name}.{extension}"));
        testkit::run_ok(
            testkit::command("openssl", folder)
                .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
                .args(["-days", "1", "-subj", "/CN=test", "-keyout"])
                .arg(at(kind[1]))
                .arg("-out")
                .arg(at(kind[0])),
        );
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        if !testkit::need(&["openssl"]) {
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let url = Url::parse("https://r.example:5000/").unwrap();
        let folder = root.path().join("r.example:5000");
        std::fs::create_dir(&folder).unwrap();
        let config = || Certificates::new(vec![root.path().into()]).config(&url);
        let failure = || config().err().map(|e| e.to_string()).unwrap_or_default();
        let at = |name: &str| folder.join(name);

        make(&folder, "client", ["cert", "key"]);
        make(&folder, "ca", ["crt", "key.unused"]);
        assert!(config().is_ok_and(|c| c.client_cert().is_some()));

        std::fs::rename(at("client.key"), at("kept")).unwrap();
        assert!(failure().contains("client.cert") && failure().contains("no .key"), "{}", failure());
        std::fs::copy(at("ca.key.unused"), at("client.key")).unwrap();
        assert!(failure().contains("client.key") && failure().contains("does not fit"), "{}", failure());
        std::fs::write(at("client.key"), "secret garbage").unwrap();
        assert!(failure().contains("client.key") && !failure().contains("garbage"), "{}", failure());
        std::fs::remove_file(at("client.cert")).unwrap();
        assert!(failure().contains("no .cert"), "{}", failure());
        std::fs::remove_file(at("client.key")).unwrap();
        for garbage in ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(at("ca.crt"), garbage).unwrap();
            assert!(failure().contains("ca.crt"), "{garbage}: {}", failure());
        }
        let other = Url::parse("https://r.example/").unwrap();
        assert!(Certificates::new(vec![root.path().into()]).config(&other).is_ok(), "another port's folder");
    }
}

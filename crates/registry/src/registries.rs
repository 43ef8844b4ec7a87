//! All registries a program talks to, behind one value that is cheap to share.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use manifest_schema::{OutsideText, Repository};
use ureq::http::Method;

use crate::client::RepositoryClient;
use crate::config::Config;
use crate::credentials::CredentialFiles;
use crate::error::Error;
use crate::host::Host;
use crate::proxy::Proxies;
use crate::tls::{Certificates, standard_folders};
use crate::transport::{Request, Transport};
use crate::url::Url;

/// The registries: their connections, tokens, and what has been learned of them.
#[derive(Clone)]
pub struct Registries(Arc<Inner>);

struct Inner {
    transport: Arc<Transport>,
    files: Arc<CredentialFiles>,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
}

impl Registries {
    /// Reads the environment (proxies, where credentials are); asks nobody yet.
    ///
    /// # Errors
    /// [`Error::Proxy`] and [`Error::Setting`].
    pub fn new(config: Config) -> Result<Self, Error> {
        let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let proxies = Proxies::read(|name| std::env::var(name).ok())?;
        let files = CredentialFiles::new(config.authfile.as_deref(), path);
        let home = path("HOME");
        let folders = config.certs_dirs.clone().unwrap_or_else(|| standard_folders(home.as_deref().map(Path::new)));
        let transport = Transport::new(config, Certificates::new(folders), proxies)?;
        Ok(Self(Arc::new(Inner { transport: transport.into(), files: files.into(), hosts: Mutex::default() })))
    }

    /// One repository. Nothing is asked yet.
    pub fn repository(&self, repository: &Repository) -> RepositoryClient {
        let mut hosts = self.0.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let host = hosts.entry(repository.registry().to_ascii_lowercase()).or_insert_with(|| {
            Arc::new(Host::new(repository.registry(), self.0.transport.clone(), self.0.files.clone()))
        });
        RepositoryClient::new(host.clone(), repository.clone())
    }

    /// Fetches from a foreign layer's URL, without credentials. The content is not verified yet.
    ///
    /// # Errors
    /// As [`RepositoryClient::fetch_blob`]; [`Error::Url`] for anything but an http or https URL.
    pub fn fetch_url(&self, url: &str, size: u64) -> Result<Box<dyn Read + Send>, Error> {
        let (answer, what) = self.get(url, true)?;
        if answer.status != 200 {
            return Err(answer.into_error(&what));
        }
        match answer.content_length() {
            Some(found) if found != size => {
                Err(Error::Size { what, server: answer.url.authority(), expected: size, found })
            }
            _ => Ok(Box::new(answer.into_reader())),
        }
    }

    /// Fetches a small file that some signature vouches for, such as one in a lookaside tree, without credentials.
    /// `None` if it is not there.
    ///
    /// # Errors
    /// As [`Registries::fetch_url`]; [`Error::TooLarge`] if it has more than `limit` bytes.
    pub fn fetch_file(&self, url: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let (answer, what) = self.get(url, false)?;
        match answer.status {
            200 => answer.bytes(&what, limit).map(Some),
            404 | 410 => Ok(None),
            _ => Err(answer.into_error(&what)),
        }
    }

    fn get(&self, url: &str, blob: bool) -> Result<(crate::transport::Answer, String), Error> {
        let what = OutsideText::new(url).escaped().to_string();
        let url = Url::parse(url).map_err(|fault| Error::Url {
            what: what.clone(),
            url: OutsideText::new(url),
            reason: fault.reason(),
        })?;
        let mut request = Request::new(Method::GET, url, &what);
        request.blob = blob;
        request.any_server = true;
        let answer = self.0.transport.send(&mut request)?;
        Ok((answer, what))
    }
}

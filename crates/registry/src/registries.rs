//! All registries a program talks to, behind one value that is cheap to share.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use manifest_schema::{OutsideText, Repository};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
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

    /// Fetches a small file that some signature vouches for, such as one in a lookaside tree: over http or https, without
    /// credentials, or from this machine (`file:///...`). `None` if it is not there.
    ///
    /// # Errors
    /// As [`Registries::fetch_url`]; [`Error::TooLarge`] if it has more than `limit` bytes; [`Error::File`] if a file
    /// cannot be read or is no regular file. Every status but 200, 404 and 410 is an error.
    pub fn fetch_small(&self, url: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        if let Some(file) = local_file(url)? {
            return read_small(&file, url, limit);
        }
        let (answer, what) = self.get(url, false)?;
        match answer.status {
            200 => answer.bytes(&what, limit).map(Some),
            404 | 410 => {
                answer.discard();
                Ok(None)
            }
            _ => Err(answer.into_error(&what)),
        }
    }

    fn get(&self, url: &str, blob: bool) -> Result<(crate::transport::Answer, String), Error> {
        let what = shown(url);
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

/// The path of a `file` URL (RFC 8089), `None` for a URL of another scheme.
fn local_file(url: &str) -> Result<Option<PathBuf>, Error> {
    let scheme = url.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("file:"));
    let Some(rest) = scheme.and_then(|_| url.get(5..)) else { return Ok(None) };
    let refused = |reason| Error::Url { what: shown(url), url: OutsideText::new(url), reason };
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(rest) => rest.strip_prefix("localhost").filter(|path| path.starts_with('/')).unwrap_or(rest),
    };
    if !path.starts_with('/') {
        return Err(refused("a file URL is an absolute path of this machine, such as file:///var/lib/sigstore"));
    }
    if path.contains(['?', '#']) {
        return Err(refused("a file URL has neither a query nor a fragment"));
    }
    let bytes = decoded(path).filter(|bytes| !bytes.contains(&0));
    let bytes = bytes.ok_or_else(|| refused("it is not a URL"))?;
    Ok(Some(OsString::from_vec(bytes).into()))
}

/// Undoes percent-encoding; `None` if there is a `%` without two hexadecimal digits behind it.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    Some(out)
}

/// Reads a regular file of this machine. A pipe or a device is refused, not waited for.
fn read_small(path: &Path, url: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let failed = |source| Error::File { path: path.into(), source };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file: File = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => file.into(),
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(failed(errno.into())),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge { what: shown(url), limit });
    }
    Ok(Some(bytes))
}

fn shown(url: &str) -> String {
    OutsideText::new(url).escaped().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_urls_are_absolute_paths_of_this_machine() {
        for (url, path) in [
            ("file:///var/lib/sigstore/a@sha256=00/signature-1", "/var/lib/sigstore/a@sha256=00/signature-1"),
            ("FILE:/a", "/a"),
            ("file://localhost/a%20b%2fc", "/a b/c"),
            ("file:///%C3%a4/\u{e4}", "/\u{e4}/\u{e4}"),
        ] {
            assert_eq!(local_file(url).expect(url), Some(PathBuf::from(path)), "{url}");
        }
        for url in ["https://r.example/file:///a", "http://file/", "fil", "", "\u{e4}\u{e4}\u{e4}"] {
            assert_eq!(local_file(url).expect(url), None, "{url}");
        }
        for url in [
            "file:",
            "file:a",
            "file://",
            "file://host.example/a",
            "file://localhostile/a",
            "file:///a?b",
            "file:///a#b",
            "file:///a%",
            "file:///a%4",
            "file:///a%zz",
            "file:///a%+1",
            "file:///a%00",
        ] {
            assert!(matches!(local_file(url), Err(Error::Url { .. })), "{url}");
        }
    }
}

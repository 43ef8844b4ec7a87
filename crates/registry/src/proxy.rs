//! Which proxy stands before which server, from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
//!
//! A loopback address is never asked through a proxy.

use std::net::IpAddr;

use ipnet::IpNet;
use ureq::{Proxy, ProxyProtocol};

use crate::error::Error;
use crate::url::Url;

/// The proxies of this process.
#[derive(Default)]
pub(crate) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exceptions: Vec<Exception>,
}

/// One entry of `NO_PROXY`.
enum Exception {
    Everything,
    Network(IpNet),
    /// A host and all below it, perhaps at one port only.
    Name {
        suffix: String,
        port: Option<u16>,
    },
}

impl Proxies {
    /// Reads the variables, in upper or lower case, through `variable`.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let first = |names: &[&'static str]| -> Result<Option<Proxy>, Error> {
            for &name in names {
                if let Some(value) = variable(name).filter(|value| !value.trim().is_empty()) {
                    return proxy(name, value.trim()).map(Some);
                }
            }
            Ok(None)
        };
        let exceptions = variable("NO_PROXY").or_else(|| variable("no_proxy")).unwrap_or_default();
        Ok(Self {
            http: first(&["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])?,
            https: first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])?,
            exceptions: exceptions.split([',', ' ']).filter_map(exception).collect(),
        })
    }

    /// The proxy to ask this server through.
    pub(crate) fn for_server(&self, url: &Url) -> Option<Proxy> {
        if is_loopback(url.host()) || self.exceptions.iter().any(|e| e.matches(url)) {
            return None;
        }
        if url.is_https() { self.https.clone() } else { self.http.clone() }
    }
}

/// Whether a URL's host is this machine, by its name alone.
pub(crate) fn is_loopback(host: &str) -> bool {
    match address(host) {
        Some(address) => address.is_loopback(),
        None => host == "localhost" || host.ends_with(".localhost"),
    }
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn proxy(variable: &'static str, value: &str) -> Result<Proxy, Error> {
    let proxy = Proxy::new(value).map_err(|_| Error::Proxy { variable, reason: "it is not a URL" })?;
    match proxy.protocol() {
        ProxyProtocol::Http | ProxyProtocol::Https => Ok(proxy),
        _ => Err(Error::Proxy { variable, reason: "only http and https proxies are supported" }),
    }
}

fn exception(text: &str) -> Option<Exception> {
    let text = text.trim().to_ascii_lowercase();
    if text.is_empty() {
        return None;
    }
    if text == "*" {
        return Some(Exception::Everything);
    }
    if let Ok(network) = text.parse() {
        return Some(Exception::Network(network));
    }
    if let Some(address) = address(&text) {
        return Some(Exception::Network(address.into()));
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (text.as_str(), None),
        },
        _ => (text.as_str(), None),
    };
    let suffix = name.trim_start_matches('*').trim_start_matches('.').to_string();
    if suffix.is_empty() { None } else { Some(Exception::Name { suffix, port }) }
}

impl Exception {
    fn matches(&self, url: &Url) -> bool {
        match self {
            Exception::Everything => true,
            Exception::Network(network) => address(url.host()).is_some_and(|address| network.contains(&address)),
            Exception::Name { suffix, port } => {
                let within = match url.host().strip_suffix(suffix.as_str()) {
                    Some(rest) => rest.is_empty() || rest.ends_with('.'),
                    None => false,
                };
                within && port.is_none_or(|port| port == url.port())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(list: &[(&str, &str)]) -> Proxies {
        Proxies::read(|name| list.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string())).expect("proxies")
    }

    fn host_for(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.for_server(&Url::parse(url).expect(url)).map(|p| format!("{}:{}", p.host(), p.port()))
    }

    #[test]
    fn each_scheme_has_its_proxy_and_loopback_none() {
        let set = proxies(&[("https_proxy", "http://u:p@secure.example:3128"), ("ALL_PROXY", "plain.example:8080")]);
        assert_eq!(host_for(&set, "https://r.example/").as_deref(), Some("secure.example:3128"));
        assert_eq!(host_for(&set, "http://r.example/").as_deref(), Some("plain.example:8080"));
        for local in ["http://127.0.0.1:5000/", "https://localhost/", "http://[::1]:5000/", "http://127.9.9.9/"] {
            assert_eq!(host_for(&set, local), None, "{local}");
        }
        assert_eq!(host_for(&Proxies::default(), "https://r.example/"), None);
    }

    #[test]
    fn exceptions_are_names_ports_and_networks() {
        let set = proxies(&[
            ("ALL_PROXY", "http://p.example:1"),
            ("NO_PROXY", "corp.example, .inner.example,r.example:5000,10.0.0.0/8,[fd00::1], *.star.example,192.0.2.7"),
        ]);
        for direct in [
            "https://corp.example/",
            "https://a.corp.example/",
            "https://a.inner.example/",
            "https://r.example:5000/",
            "http://10.3.4.5:80/",
            "http://[fd00::1]/",
            "https://x.star.example/",
            "https://192.0.2.7/",
        ] {
            assert_eq!(host_for(&set, direct), None, "{direct}");
        }
        for through in ["https://notcorp.example/", "https://r.example/", "http://11.0.0.1/", "https://10.example/"] {
            assert!(host_for(&set, through).is_some(), "{through}");
        }
        assert_eq!(host_for(&proxies(&[("ALL_PROXY", "http://p:1"), ("no_proxy", "*")]), "https://r.example/"), None);
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_an_error_without_its_password() {
        for value in ["socks5://u:secret@p.example:1080", "ftp://u:secret@p.example", "http://u:secret@"] {
            let Err(error) = Proxies::read(|n| (n == "HTTPS_PROXY").then(|| value.to_string())) else {
                panic!("accepted {value}");
            };
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("HTTPS_PROXY") && !shown.contains("secret"), "{shown}");
        }
    }
}

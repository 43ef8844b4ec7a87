//! The URLs a client of a registry meets, and which of them are the same server (RFC 3986, RFC 6454).

use std::fmt;

use ureq::http::Uri;

/// An absolute `http` or `https` URL without user information and fragment.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    https: bool,
    /// Host in lower case, an IPv6 address in brackets.
    host: String,
    port: u16,
    /// Path and query; starts with `/`.
    target: String,
}

/// Why a text is not a URL that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UrlFault {
    Grammar,
    Scheme,
    UserInfo,
}

impl UrlFault {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            UrlFault::Grammar => "it is not a URL",
            UrlFault::Scheme => "only http and https URLs are followed",
            UrlFault::UserInfo => "a URL with a user name in it is not followed",
        }
    }
}

impl Url {
    /// Joins a registry's `host[:port]` and a path.
    pub(crate) fn of_host(https: bool, host: &str, path: &str) -> Result<Self, UrlFault> {
        Self::parse(&format!("{}://{host}{path}", if https { "https" } else { "http" }))
    }

    /// Reads an absolute URL.
    pub(crate) fn parse(text: &str) -> Result<Self, UrlFault> {
        let text = text.split('#').next().unwrap_or_default();
        let (scheme, rest) = text.split_once("://").ok_or(UrlFault::Grammar)?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(UrlFault::Scheme),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).ok_or(UrlFault::Grammar)?;
        if authority.contains('@') {
            return Err(UrlFault::UserInfo);
        }
        let target = if target.starts_with('/') { target.to_string() } else { format!("/{target}") };
        let uri: Uri = format!("{scheme}://{authority}{target}").parse().map_err(|_| UrlFault::Grammar)?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(UrlFault::Grammar)?.to_ascii_lowercase();
        let port = match uri.port() {
            Some(port) => port.as_u16(),
            None if authority.len() != host.len() => return Err(UrlFault::Grammar),
            None => default_port(https),
        };
        Ok(Self { https, host, port, target })
    }

    /// Resolves what a `Location` header says against this URL. Dot segments are left to the server.
    pub(crate) fn join(&self, reference: &str) -> Result<Self, UrlFault> {
        let reference = reference.trim();
        let colon = reference.find("://");
        if colon.is_some_and(|colon| !reference.get(..colon).unwrap_or_default().contains(['/', '?', '#'])) {
            return Self::parse(reference);
        }
        if reference.starts_with("//") {
            return Self::parse(&format!("{}:{reference}", self.scheme()));
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let target = if reference.starts_with('/') {
            reference.to_string()
        } else if reference.starts_with('?') {
            format!("{path}{reference}")
        } else {
            let folder = path.rfind('/').and_then(|slash| path.get(..=slash)).unwrap_or("/");
            format!("{folder}{reference}")
        };
        Self::parse(&format!("{}://{}{target}", self.scheme(), self.authority()))
    }

    /// Appends a query parameter; what is there already stays as it is.
    pub(crate) fn with_query(mut self, name: &str, value: &str) -> Self {
        self.target.push(if self.target.contains('?') { '&' } else { '?' });
        self.target.push_str(name);
        self.target.push('=');
        self.target.push_str(&encode(value));
        self
    }

    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `host` or `host:port`, the port only where it is not the scheme's own.
    pub(crate) fn authority(&self) -> String {
        if self.port == default_port(self.https) { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }

    /// Whether credentials meant for this server may be sent to the other: the same host and port, not less protected.
    /// From port 80 to the same host's port 443 is the usual step to TLS.
    pub(crate) fn may_share_credentials(&self, other: &Url) -> bool {
        let same_port = self.port == other.port || (!self.https && other.https && self.port == 80 && other.port == 443);
        self.host == other.host && same_port && (other.https || !self.https)
    }

    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.target)
    }
}

impl fmt::Debug for Url {
    /// Without the query, which may carry somebody's signature.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "{}://{}{path}", self.scheme(), self.authority())
    }
}

fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect(text)
    }

    #[test]
    fn locations_resolve_against_the_request() {
        let base = url("https://R.example:5000/v2/a/blobs/uploads/?mount=x");
        for (location, expected) in [
            ("/v2/a/blobs/uploads/1?_state=q", "https://r.example:5000/v2/a/blobs/uploads/1?_state=q"),
            ("https://other.example:443/x", "https://other.example/x"),
            ("HTTPS://other.example", "https://other.example/"),
            ("//other.example/x", "https://other.example/x"),
            ("7?_state=https://q.example/", "https://r.example:5000/v2/a/blobs/uploads/7?_state=https://q.example/"),
            ("?n=1", "https://r.example:5000/v2/a/blobs/uploads/?n=1"),
            ("http://[::1]:80/x#frag", "http://[::1]/x"),
        ] {
            assert_eq!(base.join(location).expect(location).to_string(), expected);
        }
        let location = base.join("/u/1?_state=a%2Bb").expect("a location").with_query("digest", "sha256:0a");
        assert_eq!(location.to_string(), "https://r.example:5000/u/1?_state=a%2Bb&digest=sha256%3A0a");
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "r.example",
            "http://",
            "https:///x",
            "http://a:b/",
            "http://a:99999/",
            "http://a b/",
            "http://a/\r\nX: y",
        ] {
            assert_eq!(Url::parse(bad), Err(UrlFault::Grammar), "{bad:?}");
        }
        assert_eq!(Url::parse("file:///etc/passwd"), Err(UrlFault::Scheme));
        assert_eq!(Url::parse("https://r.example@evil.example/"), Err(UrlFault::UserInfo));
    }

    #[test]
    fn credentials_stay_with_their_server() {
        let own = url("https://r.example/v2/");
        assert!(own.may_share_credentials(&url("https://r.example:443/other")));
        for other in
            ["http://r.example/", "https://r.example:444/", "https://cdn.r.example/", "https://r.example.evil/"]
        {
            assert!(!own.may_share_credentials(&url(other)), "{other}");
        }
        assert!(url("http://r.example/").may_share_credentials(&url("https://r.example/")));
        assert!(!url("http://r.example:81/").may_share_credentials(&url("https://r.example/")));
    }
}

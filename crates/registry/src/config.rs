//! What a program sets before it talks to registries.

use std::path::PathBuf;
use std::time::Duration;

/// How registries are asked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The only credentials file to use. `None` = `REGISTRY_AUTH_FILE` if set, else the standard ones
    /// (containers-auth.json(5)).
    pub authfile: Option<PathBuf>,
    /// Folders with certificates per server, the first with one for the server counts. `None` = the standard ones
    /// (containers-certs.d(5)).
    pub certs_dirs: Option<Vec<PathBuf>>,
    /// Servers, as `host` or `host:port`, that are asked without TLS. Loopback addresses need not be named.
    pub plain_http: Vec<String>,
    /// How often one request is made before its failure counts, and how often a download is continued that breaks without
    /// getting on.
    pub retries: u32,
    /// The `User-Agent`.
    pub user_agent: String,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a server may send, or take, nothing at all. Some check a large blob before they answer.
    pub stall_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            authfile: None,
            certs_dirs: None,
            plain_http: Vec::new(),
            retries: 5,
            user_agent: concat!("sealift/", env!("CARGO_PKG_VERSION")).into(),
            connect_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(600),
        }
    }
}

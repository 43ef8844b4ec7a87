//! `serve`: signatures, over HTTP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use console::Failure;
use manifest_schema::{LIMITS, OutsideText};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Import;
use crate::error::Error;
use crate::serve::{Trees, serve};

/// Serves production's signatures, or staging's, to clusters over HTTP, where no web server does
///
/// It answers what readers of signatures ask for, and nothing else, until it is ended. Any other web server does as well.
#[derive(Debug, Args)]
pub struct Serve {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", env = "SEALIFT_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The certificate for HTTPS, with those between, in PEM
    #[arg(long, value_name = "FILE", env = "SEALIFT_TLS_CERTIFICATE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Its key, in PEM
    #[arg(long, value_name = "FILE", env = "SEALIFT_TLS_KEY", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Serve the signatures that images had at their origin, for clusters that pull from the staging registry
    #[arg(long)]
    staging: bool,
    /// The configuration [default: import.yaml]
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "SEALIFT_CONFIG",
        default_value = "import.yaml",
        hide_default_value = true
    )]
    config: PathBuf,
}

impl Serve {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub fn run(self) -> Result<(), Failure> {
        self.serve().map_err(|e| Failure::new(&e))
    }

    fn serve(self) -> Result<(), Error> {
        let config = Import::load(&self.config)?;
        let trees = match self.staging {
            true => Trees { images: config.staging.ok_or(Error::NoStaging)?.lookaside, releases: None },
            false => Trees { images: config.production.lookaside, releases: config.production.release_signatures },
        };
        trees.are_readable()?;
        let tls = match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(tls(certificate, key)?),
            _ => None,
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        serve(trees, self.listen, tls, |address| {
            console::say(&format!("serving {scheme}://{address}"));
            Ok(())
        })
    }
}

fn tls(certificate: &Path, key: &Path) -> Result<ServerConfig, Error> {
    let wrong = |path: &Path| {
        let path = path.to_path_buf();
        move |reason: String| Error::TlsFile { path, reason: OutsideText::new(reason) }
    };
    let read = |path: &Path| {
        let read = console::read_text(path, LIMITS.config);
        read.map_err(|source| commands::Error::ReadConfig { path: path.into(), source })
    };
    let chain = read(certificate)?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| wrong(certificate)(e.to_string()))?;
    if chain.is_empty() {
        return Err(wrong(certificate)("holds no certificate in PEM".into()));
    }
    let secret = PrivateKeyDer::from_pem_slice(read(key)?.as_bytes()).map_err(|e| wrong(key)(e.to_string()))?;
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|e| wrong(certificate)(e.to_string()))?.with_no_client_auth();
    let mut config = config.with_single_cert(chain, secret).map_err(|e| wrong(key)(e.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

//! A bare HTTP client: no retries, no redirects, no opinion on status codes.

use std::collections::BTreeMap;

use base64::Engine as _;
use ureq::http;

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The client of one registry.
pub struct Client {
    agent: ureq::Agent,
    authorization: Option<String>,
}

impl Client {
    /// `ca`: the only root certificate believed, in PEM. `user`: name and password.
    pub fn new(ca: Option<&[u8]>, user: Option<(&str, &str)>) -> Self {
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(std::time::Duration::from_secs(60)));
        if let Some(ca) = ca {
            let ca = ureq::tls::Certificate::from_pem(ca).expect("a certificate");
            let roots = ureq::tls::RootCerts::new_with_certs(&[ca]);
            config = config.tls_config(ureq::tls::TlsConfig::builder().root_certs(roots).build());
        }
        let basic = |(name, password)| {
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}")))
        };
        Self { agent: config.build().new_agent(), authorization: user.map(basic) }
    }

    /// Sends a request.
    #[track_caller]
    pub fn send(&self, method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let answer = match method {
            "GET" | "HEAD" | "DELETE" => self.agent.run(request.body(()).expect("a request")),
            _ => self.agent.run(request.body(body).expect("a request")),
        };
        let mut answer = answer.unwrap_or_else(|e| panic!("{method} {url}: {e}"));
        let headers = answer.headers().iter();
        let headers = headers.map(|(k, v)| (k.to_string(), String::from_utf8_lossy(v.as_bytes()).into())).collect();
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(1 << 30).read_to_vec();
        Answer { status, headers, body: body.unwrap_or_else(|e| panic!("{method} {url}: {e}")) }
    }
}

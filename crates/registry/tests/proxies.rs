//! The proxies that the environment names. It belongs to a whole process, so each case runs in one of its own.

#![allow(clippy::unwrap_used)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use blobs::{VerifiedBytes, VerifyingReader};
use manifest_schema::Repository;
use registry::{Config, Error, Registries};
use testkit::{Options, Registry, need};

/// A name that never resolves (RFC 2606).
const NAME: &str = "registry.example";

/// A proxy that makes tunnels (RFC 9110, 9.3.6), all to the same server, whatever name they are for.
struct Tunnels {
    host: String,
    seen: Arc<Mutex<Vec<Vec<String>>>>,
}

impl Tunnels {
    /// `login`: who may use it, as `user:password`.
    fn to(upstream: &str, login: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (upstream, seen) = (upstream.to_string(), Arc::default());
        let shared: Arc<Mutex<Vec<_>>> = Arc::clone(&seen);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (upstream, seen) = (upstream.clone(), shared.clone());
                thread::spawn(move || tunnel(client, &upstream, login, &seen));
            }
        });
        Self { host, seen }
    }

    /// The first line of each request so far, without repetitions.
    fn asked(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.seen.lock().unwrap().iter().map(|head| head[0].clone()).collect();
        lines.dedup();
        lines
    }
}

fn tunnel(
    mut client: TcpStream,
    upstream: &str,
    login: Option<&str>,
    seen: &Mutex<Vec<Vec<String>>>,
) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = Vec::new();
    for line in reader.by_ref().lines() {
        match line? {
            line if line.is_empty() => break,
            line => head.push(line),
        }
    }
    let wanted = login.map(|login| format!("Proxy-Authorization: Basic {}", BASE64_STANDARD.encode(login)));
    let refused = wanted.is_some_and(|wanted| !head.contains(&wanted));
    let is_tunnel = head.first().is_some_and(|line| line.starts_with("CONNECT "));
    seen.lock().unwrap().push(head);
    if refused || !is_tunnel {
        return client.write_all(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let server = TcpStream::connect(upstream)?;
    client.write_all(b"HTTP/1.1 200 Tunnel\r\n\r\n")?;
    let (mut to_server, mut from_server) = (server.try_clone()?, server);
    thread::spawn(move || {
        let _ = io::copy(&mut reader, &mut to_server);
        to_server.shutdown(Shutdown::Both)
    });
    io::copy(&mut from_server, &mut client)?;
    client.shutdown(Shutdown::Both)
}

/// Pushes a blob to a registry and reads it back, in a process with these variables only. Gives `done`, or the error.
fn go(host: &str, certs: Option<&Registry>, variables: &[(&str, &str)]) -> String {
    let home = tempfile::tempdir().unwrap();
    let certs_dir = home.path().join("certs.d");
    if let Some(registry) = certs {
        std::fs::create_dir_all(certs_dir.join(NAME)).unwrap();
        std::fs::copy(registry.ca(), certs_dir.join(NAME).join("ca.crt")).unwrap();
    }
    let mut command = testkit::command(std::env::current_exe().unwrap(), home.path());
    command.args(["--exact", "there_and_back", "--nocapture"]);
    command.envs(variables.iter().copied()).env("TEST_HOST", host).env("TEST_CERTS", certs_dir);
    let ran = testkit::run_ok(&mut command);
    let outcome = ran.stdout.split_once("outcome: ").and_then(|(_, rest)| rest.lines().next());
    outcome.unwrap_or_else(|| panic!("{ran}")).to_string()
}

#[test]
fn there_and_back() {
    // What the other tests run, each in a process with an environment of its own; alone it has nothing to do.
    let (Ok(host), Some(certs)) = (std::env::var("TEST_HOST"), std::env::var_os("TEST_CERTS")) else { return };
    let plain_http = vec![format!("{NAME}:5000")];
    let config = Config { certs_dirs: Some(vec![certs.into()]), plain_http, retries: 1, ..Config::default() };
    match exchange(config, &host) {
        Ok(()) => println!("outcome: done"),
        Err(error) => println!("outcome: {error}"),
    }
}

fn exchange(config: Config, host: &str) -> Result<(), Error> {
    let client = Registries::new(config)?.repository(&Repository::new(host, "a/b").unwrap());
    let blob = VerifiedBytes::of(vec![7; 100_000]);
    let pushed = client.push_small_blob(&blob)?;
    let body = client.fetch_blob(pushed.digest(), pushed.size())?;
    assert!(VerifyingReader::new(body, *pushed.digest(), pushed.size()).finish().is_ok());
    Ok(())
}

#[test]
fn tls_goes_through_the_tunnel_of_https_proxy() {
    if !need(&["docker-registry", "openssl"]) {
        return;
    }
    let registry = Registry::with(Options { tls: true, ..Options::default() });
    let proxy = Tunnels::to(registry.host(), Some("ann:p@ss:word"));
    let url = format!("http://ann:p%40ss%3Aword@{}", proxy.host);
    assert_eq!(go(NAME, Some(&registry), &[("HTTPS_PROXY", &url)]), "done");
    assert_eq!(proxy.asked(), [format!("CONNECT {NAME}:443 HTTP/1.1")]);
    assert_eq!(registry.linked_blobs().len(), 1);

    // The proxy's name and password are nobody else's business.
    assert!(!registry.log().contains("ann"));
    let error = go(NAME, None, &[("HTTPS_PROXY", &url)]);
    assert!(error.contains("TLS with registry.example failed"), "the tunnel is not trusted: {error}");

    let wrong = format!("http://ann:s3cret@{}", proxy.host);
    let error = go(NAME, Some(&registry), &[("HTTPS_PROXY", &wrong)]);
    let through = format!("no connection to {NAME} through the proxy {}", proxy.host);
    assert!(error.contains(&through) && error.contains("407") && !error.contains("s3cret"), "{error}");
}

#[test]
fn plain_http_goes_through_http_proxy() {
    if !need(&["docker-registry"]) {
        return;
    }
    let (registry, host) = (Registry::start(), format!("{NAME}:5000"));
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let proxy = Tunnels::to(registry.host(), None);
        assert_eq!(go(&host, None, &[(variable, &proxy.host)]), "done", "{variable}");
        assert_eq!(proxy.asked(), [format!("CONNECT {host} HTTP/1.1")]);
        assert!(proxy.seen.lock().unwrap().iter().flatten().all(|line| !line.starts_with("Proxy-Authorization")));
    }
    let proxy = Tunnels::to(registry.host(), None);
    let error = go(&host, None, &[("HTTPS_PROXY", &proxy.host)]);
    assert!(error.contains(&format!("no connection to {host}: ")), "that is for TLS: {error}");
    assert!(proxy.asked().is_empty());
}

#[test]
fn exceptions_and_loopback_go_without() {
    if !need(&["docker-registry"]) {
        return;
    }
    let registry = Registry::start();
    let proxy = Tunnels::to(registry.host(), None);
    for exception in [NAME, "example", "*"] {
        let error = go(NAME, None, &[("HTTPS_PROXY", &proxy.host), ("NO_PROXY", exception)]);
        assert!(error.contains(&format!("no connection to {NAME}: ")), "{exception}: {error}");
    }
    let all = [("ALL_PROXY", proxy.host.as_str()), ("HTTP_PROXY", &proxy.host), ("HTTPS_PROXY", &proxy.host)];
    assert_eq!(go(registry.host(), None, &all), "done");
    assert!(proxy.asked().is_empty(), "{:?}", proxy.asked());
    assert_eq!(registry.linked_blobs().len(), 1);
}

#[test]
fn a_proxy_that_is_not_there_is_named() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let error = go(NAME, None, &[("HTTPS_PROXY", &nobody)]);
    assert!(error.contains(&format!("no connection to {NAME} through the proxy {nobody}: ")), "{error}");
    let error = go(NAME, None, &[("HTTPS_PROXY", "socks5://127.0.0.1:1")]);
    assert!(error.contains("HTTPS_PROXY") && error.contains("only http and https"), "{error}");
}

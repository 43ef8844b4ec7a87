//! What the tests against a server with faults share.

use blobs::VerifyingReader;
use manifest_schema::{Digest, Repository};
use registry::{Config, Registries, RepositoryClient};
use testkit::{Fault, Proxy, Registry, Rule};

pub fn registries(config: Config) -> Registries {
    Registries::new(Config { certs_dirs: Some(Vec::new()), ..config }).unwrap()
}

pub fn client(host: &str) -> RepositoryClient {
    registries(Config::default()).repository(&Repository::new(host, "a/b").unwrap())
}

pub fn content(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

pub fn reader(bytes: &[u8], digest: Digest) -> VerifyingReader<&[u8]> {
    VerifyingReader::new(bytes, digest, bytes.len() as u64)
}

pub fn headers(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect()
}

pub fn answer(status: u16, list: &[(&str, &str)], body: &[u8]) -> Fault {
    Fault::Answer(status, headers(list), body.to_vec())
}

/// A server without a registry that answers `/v2/` as an open registry does.
pub fn open_server() -> Proxy {
    let server = Proxy::alone();
    server.rule(Rule::new(Fault::status(200)).path("/v2/").nth(1));
    server
}

/// Makes a server want tokens; with it, the server that gives them, and a client with these `auths`.
pub fn token_servers(server: Proxy, auths: &str) -> (Proxy, Proxy, RepositoryClient, tempfile::TempDir) {
    let tokens = Proxy::alone();
    let challenge = format!(r#"Bearer realm="{}/token",service="the registry""#, tokens.url());
    server.rule(Rule::new(Fault::status_with(401, "www-authenticate", &challenge)).path("/v2/").nth(1));
    let folder = tempfile::tempdir().unwrap();
    let authfile = folder.path().join("auth.json");
    std::fs::write(&authfile, auths.replace("HOST", server.host())).unwrap();
    let registries = registries(Config { authfile: Some(authfile), ..Config::default() });
    let client = registries.repository(&Repository::new(server.host(), "a/b").unwrap());
    (server, tokens, client, folder)
}

/// Uploads that hold bytes. (This registry leaves an empty upload's notes behind when one is cancelled.)
pub fn open_uploads(registry: &Registry) -> usize {
    registry.snapshot().keys().filter(|path| path.contains("/_uploads/") && path.ends_with("/data")).count()
}

/// The `Content-Range` of every chunk.
pub fn sent(proxy: &Proxy) -> Vec<String> {
    proxy.seen().iter().filter_map(|s| s.header("content-range").map(str::to_string)).collect()
}

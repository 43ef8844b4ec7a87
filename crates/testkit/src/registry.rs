//! Debian's `docker-registry` on the loopback, its storage in a temporary folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use manifest_schema::Digest;
use manifest_schema::MediaType;
use serde_json::Value;
use tempfile::TempDir;

use crate::http::{Answer, Client};
use crate::tools::{command, run_ok};

/// How the registry is set up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Only this user, with this password, may do anything.
    pub user: Option<(&'a str, &'a str)>,
    /// HTTPS, with a certificate for 127.0.0.1, localhost and registry.example by a CA of its own.
    pub tls: bool,
    /// HTTPS for clients with a certificate by the same CA only, such as the one in [`Registry::client_certs_dir`].
    /// Requests through this type have none.
    pub client_certificates: bool,
    /// Manifests and blobs may be deleted through the API.
    pub delete: bool,
    /// Writing is refused.
    pub read_only: bool,
}

/// A running registry. It ends with this value, or with the process that holds it.
pub struct Registry {
    folder: TempDir,
    child: Child,
    host: String,
    scheme: &'static str,
    client: Client,
}

impl Registry {
    /// A plain HTTP registry that anyone may write to.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// A registry with these options.
    pub fn with(options: Options<'_>) -> Self {
        let folder = tempfile::Builder::new().prefix("registry").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("data")).unwrap();
        let mut config = serde_json::json!({
            "version": "0.1",
            "log": { "level": "info" },
            "storage": {
                "filesystem": { "rootdirectory": at("data") },
                "delete": { "enabled": options.delete },
                "maintenance": { "uploadpurging": { "enabled": false }, "readonly": { "enabled": options.read_only } }
            },
            "http": { "addr": "127.0.0.1:0", "secret": "testkit" }
        });
        let tls = options.tls || options.client_certificates;
        if tls {
            make_certificates(folder.path());
            config["http"]["tls"] = serde_json::json!({ "certificate": at("leaf.crt"), "key": at("leaf.key") });
        }
        if options.client_certificates {
            config["http"]["tls"]["clientcas"] = serde_json::json!([at("ca.crt")]);
        }
        if let Some((name, password)) = options.user {
            let line = run_ok(command("htpasswd", folder.path()).args(["-Bbn", "-C", "4", name, password])).stdout;
            fs::write(at("htpasswd"), line).unwrap();
            config["auth"] = serde_json::json!({ "htpasswd": { "realm": "testkit", "path": at("htpasswd") } });
        }
        // JSON is YAML too.
        fs::write(at("config.yml"), config.to_string()).unwrap();
        let log = fs::File::create(at("log")).unwrap();
        // The shell waits for its standard input to end, which also happens when this process is killed.
        const RUN: &str = "docker-registry serve config.yml & read -r line; kill -9 $!; wait";
        let child = command("sh", folder.path())
            .args(["-c", RUN])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("sh");
        let ca = tls.then(|| fs::read(at("ca.crt")).unwrap());
        let scheme = if tls { "https" } else { "http" };
        let client = Client::new(ca.as_deref(), options.user);
        let mut registry = Self { host: String::new(), folder, child, scheme, client };
        registry.host = registry.wait_for_address();
        registry
    }

    fn wait_for_address(&self) -> String {
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            let log = self.log();
            if let Some((_, rest)) = log.split_once("listening on ") {
                let address = rest.split([',', '"', ' ', '\n']).next().unwrap_or_default();
                if rest.len() > address.len() {
                    return address.into();
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("docker-registry did not start:\n{}", self.log());
    }

    /// `127.0.0.1:<port>`
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `http://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.host)
    }

    /// What the registry has written to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The CA's certificate, in PEM, of a registry with TLS.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// A folder in the form of `/etc/containers/certs.d` that holds the CA's certificate for this registry.
    pub fn certs_dir(&self) -> PathBuf {
        let dir = self.folder.path().join("certs.d");
        fs::create_dir_all(dir.join(&self.host)).unwrap();
        fs::copy(self.ca(), dir.join(&self.host).join("ca.crt")).unwrap();
        dir
    }

    /// Such a folder that also holds a client's certificate by that CA, with its key.
    pub fn client_certs_dir(&self) -> PathBuf {
        let (folder, dir) = (self.folder.path(), self.folder.path().join("client-certs.d"));
        let own = dir.join(&self.host);
        fs::create_dir_all(&own).unwrap();
        issue_certificate(folder, "client", "extendedKeyUsage=clientAuth\n");
        for (from, to) in [("ca.crt", "ca.crt"), ("client.crt", "client.cert"), ("client.key", "client.key")] {
            fs::copy(folder.join(from), own.join(to)).unwrap();
        }
        dir
    }

    /// An `auth.json` with this registry's credentials.
    pub fn authfile(&self, name: &str, password: &str) -> PathBuf {
        use base64::Engine as _;
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
        let path = self.folder.path().join("auth.json");
        fs::write(&path, serde_json::json!({ "auths": { &self.host: { "auth": auth } } }).to_string()).unwrap();
        path
    }

    // Requests.

    /// Sends a request; `path` begins with a slash or is a whole URL.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let url = if path.starts_with('/') { format!("{}{path}", self.url()) } else { path.into() };
        self.client.send(method, &url, headers, body)
    }

    /// `GET` that accepts all the media types of image documents.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[("accept", &MediaType::DOCUMENTS.join(", "))], &[])
    }

    /// `PUT`
    #[track_caller]
    pub fn put(&self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        self.send("PUT", path, &[("content-type", content_type)], body)
    }

    /// Uploads a blob, unless it is there.
    #[track_caller]
    pub fn put_blob(&self, repository: &str, digest: &Digest, bytes: &[u8]) {
        if self.send("HEAD", &format!("/v2/{repository}/blobs/{digest}"), &[], &[]).status == 200 {
            return;
        }
        let opened = self.send("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], &[]);
        assert_eq!(opened.status, 202, "{}", opened.text());
        let url = format!("{}&digest={digest}", opened.headers["location"]);
        let done = self.put(&url, "application/octet-stream", bytes);
        assert_eq!(done.status, 201, "{digest}: {}", done.text());
    }

    /// Puts an image manifest or index under a tag or digest.
    #[track_caller]
    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) {
        let done = self.put(&format!("/v2/{repository}/manifests/{tag}"), media_type, bytes);
        assert_eq!(done.status, 201, "{repository}:{tag}: {}", done.text());
    }

    /// Pushes an image of a layout with everything below it, children first; returns its digest.
    #[track_caller]
    pub fn load_layout(&self, layout: &Path, name: &str, repository: &str, tag: &str) -> Digest {
        let entry = crate::layout::find(layout, name);
        self.load_document(layout, &entry, repository, Some(tag))
    }

    /// Pushes all images of `fixtures/images` this registry can hold (not those by SHA-512) to the repositories and tags
    /// of their references.
    pub fn load_fixtures(&self) {
        for name in crate::layout::REGISTRY_FIXTURES {
            let (repository, tag) = crate::layout::repository_and_tag(name);
            self.load_layout(&crate::layout::fixtures(), name, repository, tag);
        }
    }

    fn load_document(&self, layout: &Path, descriptor: &Value, repository: &str, tag: Option<&str>) -> Digest {
        let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
        let bytes = crate::layout::blob(layout, &digest);
        let document: Value = serde_json::from_slice(&bytes).unwrap();
        let list = |key: &str| document[key].as_array().cloned().unwrap_or_default();
        for child in list("manifests") {
            self.load_document(layout, &child, repository, None);
        }
        for blob in list("layers").iter().chain(document.get("config")) {
            let digest: Digest = blob["digest"].as_str().unwrap().parse().unwrap();
            self.put_blob(repository, &digest, &crate::layout::blob(layout, &digest));
        }
        let media_type = descriptor["mediaType"].as_str().unwrap();
        self.put_manifest(repository, tag.unwrap_or(&digest.to_string()), media_type, &bytes);
        digest
    }

    // What is on the registry's disk.

    fn storage(&self) -> PathBuf {
        self.folder.path().join("data/docker/registry/v2")
    }

    /// Every file of the storage with the digest of its content. Equal before and after: nothing was written, not even an
    /// upload begun.
    pub fn snapshot(&self) -> BTreeMap<String, Digest> {
        let mut files = BTreeMap::new();
        walk(&self.storage(), &mut |path| {
            // An upload's files come and go while it runs.
            if let Ok(bytes) = fs::read(path) {
                files.insert(self.relative(path), blobs::sha256(&bytes));
            }
        });
        files
    }

    /// Nothing was ever written.
    pub fn is_empty(&self) -> bool {
        self.snapshot().is_empty()
    }

    /// All blobs, image manifests among them, as their content is: with the wrong name they would be missing here.
    pub fn uploaded_blobs(&self) -> BTreeSet<Digest> {
        let mut found = BTreeSet::new();
        for (path, content) in self.snapshot() {
            if let ["blobs", "sha256", _, hex, "data"] = path.split('/').collect::<Vec<_>>()[..] {
                assert_eq!(content.hex(), hex, "the registry holds other bytes than it says");
                found.insert(content);
            }
        }
        found
    }

    /// `<repository>@<digest>` of all manifests.
    pub fn manifests(&self) -> BTreeSet<String> {
        self.links("/_manifests/revisions/").map(|(repo, rest)| format!("{repo}@{}", as_digest(&rest))).collect()
    }

    /// `<repository>@<digest>` of all blobs that a repository may give out.
    pub fn linked_blobs(&self) -> BTreeSet<String> {
        self.links("/_layers/").map(|(repo, rest)| format!("{repo}@{}", as_digest(&rest))).collect()
    }

    /// `<repository>:<tag>` of all tags, with what they name.
    pub fn tags(&self) -> BTreeMap<String, Digest> {
        self.links("/_manifests/tags/")
            .filter_map(|(repo, rest)| {
                let tag = rest.strip_suffix("/current/link")?;
                let file = self.storage().join(format!("repositories/{repo}/_manifests/tags/{rest}"));
                // The registry empties the file before it writes what the tag names now.
                let named = || fs::read_to_string(&file).unwrap().parse().ok();
                let named = (0..100).find_map(|_| {
                    named().or_else(|| {
                        std::thread::sleep(std::time::Duration::from_millis(10));
                        None
                    })
                });
                Some((format!("{repo}:{tag}"), named.expect("a tag that names a digest")))
            })
            .collect()
    }

    /// Uploads that were begun and neither completed nor cancelled.
    pub fn open_uploads(&self) -> usize {
        let sessions: BTreeSet<_> =
            self.links("/_uploads/").map(|(repo, rest)| (repo, rest.split('/').next().map(String::from))).collect();
        sessions.len()
    }

    fn links(&self, below: &'static str) -> impl Iterator<Item = (String, String)> {
        self.snapshot().into_keys().filter_map(move |path| {
            let (repo, rest) = path.strip_prefix("repositories/")?.split_once(below)?;
            Some((repo.into(), rest.into()))
        })
    }

    /// Loses a blob, as a registry with a broken disk does.
    pub fn lose_blob(&self, digest: &Digest) {
        fs::remove_file(self.blob_file(digest)).unwrap();
        let link = format!("{}/{}/link", digest.algorithm().name(), digest.hex());
        for path in self.snapshot().into_keys().filter(|p| p.ends_with(&link)) {
            fs::remove_file(self.storage().join(path)).unwrap();
        }
    }

    /// Changes a byte of a blob on the registry's disk.
    pub fn damage_blob(&self, digest: &Digest) {
        let mut bytes = fs::read(self.blob_file(digest)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(self.blob_file(digest), bytes).unwrap();
    }

    fn blob_file(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.storage().join(format!("blobs/{}/{}/{hex}/data", digest.algorithm().name(), &hex[..2]))
    }

    fn relative(&self, path: &Path) -> String {
        path.strip_prefix(self.storage()).unwrap().to_str().unwrap().into()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn as_digest(rest: &str) -> String {
    rest.trim_end_matches("/link").replace('/', ":")
}

/// Calls for every file below a folder; a folder that is missing has none.
pub fn walk(dir: &Path, file: &mut impl FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, file) } else { file(&path) }
    }
}

const NEW_KEY: &str = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

/// Makes `ca.crt`, and `leaf.crt` with `leaf.key` signed by it, for the loopback.
pub fn make_certificates(dir: &Path) {
    openssl(dir, &format!("{NEW_KEY} -x509 -keyout ca.key -out ca.crt -days 30 -subj /CN=testkit-ca"));
    issue_certificate(dir, "leaf", "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:registry.example\n");
}

/// A certificate by the CA in this folder: `<name>.crt` with `<name>.key`.
fn issue_certificate(dir: &Path, name: &str, extensions: &str) {
    fs::write(dir.join(format!("{name}.ext")), format!("basicConstraints=CA:FALSE\n{extensions}")).unwrap();
    openssl(dir, &format!("{NEW_KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
    let by_ca = "-CA ca.crt -CAkey ca.key -CAcreateserial -days 30";
    openssl(dir, &format!("x509 -req -in {name}.csr {by_ca} -extfile {name}.ext -out {name}.crt"));
}

fn openssl(dir: &Path, args: &str) {
    run_ok(command("openssl", dir).current_dir(dir).args(args.split(' ')));
}

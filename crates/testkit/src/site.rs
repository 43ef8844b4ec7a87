//! Both sides of an air gap in a temporary folder: registries, keys, ledger, configurations.
//!
//! ```no_run
//! # if !testkit::need(testkit::Site::NEEDS) { return; }
//! let site = testkit::Site::new();
//! let bundle = site.packed(42);
//! site.receive(&bundle, &[]).expect_code(0);
//! assert_eq!(site.production.tags().len(), 1);
//! ```
//!
//! The configurations are JSON values (JSON is YAML too) that a test may change before it runs a program.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ledger::{Checked, Checker, Created, Custody, Fingerprint, Ledger, Signer, Stamp};
use manifest_schema::{Digest, LIMITS, OutsideText, Reference, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use signing::{Algorithm, Certificates, KeyRequest, Lookaside, SecretKey, Trust};
use tempfile::TempDir;

use crate::layout::{API, Layout, closure, fixtures, repository_and_tag};
use crate::registry::Registry;
use crate::tools::{Ran, command, run, run_ok, sealift_export, sealift_import};

/// An OpenPGP key without a passphrase, with its files.
pub struct Key {
    pub secret: SecretKey,
    /// Upper-case hexadecimal.
    pub fingerprint: String,
    /// `<name>.secret.asc`
    pub secret_file: PathBuf,
    /// `<name>.asc`
    pub certificate_file: PathBuf,
    /// `<name>.revocation.asc`
    pub revocation_file: PathBuf,
}

impl Key {
    /// A P-256 key: quickly made, and read by every verifier. Its files are written to a folder.
    pub fn new(folder: &Path, name: &str) -> Self {
        // Old enough for any SOURCE_DATE_EPOCH that a test would use.
        Self::with(folder, name, "2024-01-01T00:00:00Z", None)
    }

    /// A key with a date and an expiry.
    pub fn with(folder: &Path, name: &str, created: &str, expires: Option<&str>) -> Self {
        let time = |text: &str| text.parse::<Timestamp>().expect("a time");
        let request = KeyRequest {
            user_id: format!("{name} <{name}@example.com>"),
            algorithm: Algorithm::P256,
            passphrase: None,
            expires: expires.map(time),
            created: time(created),
        };
        let made = signing::generate(&request).expect("a key");
        let at = |end: &str| folder.join(format!("{name}{end}"));
        let key = Self {
            secret: SecretKey::from_bytes(
                made.secret_armored.expose_secret().as_bytes(),
                Path::new(name),
                || -> Result<SecretString, signing::Error> { panic!("a passphrase was asked for") },
            )
            .expect("the key just made"),
            fingerprint: made.fingerprint.to_string(),
            secret_file: at(".secret.asc"),
            certificate_file: at(".asc"),
            revocation_file: at(".revocation.asc"),
        };
        write_secret(&key.secret_file, made.secret_armored.expose_secret());
        fs::write(&key.certificate_file, &made.certificate_armored).unwrap();
        fs::write(&key.revocation_file, &made.revocation_armored).unwrap();
        key
    }

    /// An armored detached signature, dated now.
    pub fn sign(&self, document: &[u8]) -> Vec<u8> {
        self.secret.sign_detached_armored(document).expect("a signature")
    }

    /// The same key, with a certification by another: in its certificate file, and in what the secret key hands out.
    pub fn certified_by(mut self, issuer: &Key) -> Self {
        let certified = issuer.secret.certify(&self.secret.certificates(), Timestamp::now()).expect("a certification");
        fs::write(&self.certificate_file, &certified).unwrap();
        let certified = Certificates::from_bytes(&certified, &self.certificate_file).expect("a certificate");
        self.secret = self.secret.with_certificate(&certified).expect("the same key");
        self
    }

    /// What a policy.json says so that simple signatures of this key count.
    pub fn signed_by(&self) -> Value {
        json!([{ "type": "signedBy", "keyType": "GPGKeys", "keyPath": self.certificate_file }])
    }

    /// Adds the revocation to the certificate file: from now on the key is revoked for whoever reads it.
    pub fn revoke(&self) {
        let both = [fs::read(&self.certificate_file).unwrap(), fs::read(&self.revocation_file).unwrap()].concat();
        fs::write(&self.certificate_file, both).unwrap();
    }
}

/// What a program may leave behind on the importing side. Equal before and after: it left nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    pub registry: BTreeMap<String, Digest>,
    /// The files of the lookaside tree.
    pub lookaside: BTreeMap<String, Digest>,
    /// The number of the ledger's last entry, and its hash.
    pub ledger: (String, String),
}

/// Both sides.
pub struct Site {
    folder: TempDir,
    /// Where developers push: has all the fixtures.
    pub origin: Registry,
    /// Where clusters pull: empty.
    pub production: Registry,
    pub release_key: Key,
    pub production_key: Key,
    pub ledger_key: Key,
    /// The age identity, `AGE-SECRET-KEY-1...`.
    pub identity: String,
    /// Its recipient, `age1...`.
    pub recipient: String,
    /// `release.yaml`
    pub release: Value,
    /// `import.yaml`
    pub import: Value,
}

impl Site {
    /// The programs that a site needs.
    pub const NEEDS: &[&str] = &["docker-registry"];

    /// Stream `payments`, one image (`payments/api:2.3.1`, both platforms), one release key, one production registry.
    pub fn new() -> Self {
        let (origin, production) = (Registry::start(), Registry::start());
        origin.load_fixtures();
        Self::between(origin, production)
    }

    /// A site with these registries. `origin` must have what the release lists.
    pub fn between(origin: Registry, production: Registry) -> Self {
        let folder = tempfile::Builder::new().prefix("site").tempdir().unwrap();
        for name in ["export/home", "import/home", "import/trust", "media"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let import_dir = folder.path().join("import");
        let release_key = Key::new(&folder.path().join("export"), "release");
        fs::copy(&release_key.certificate_file, import_dir.join("trust/release.asc")).unwrap();
        let production_key = Key::new(&import_dir, "production");
        let identity = age::x25519::Identity::generate();
        let recipient = identity.to_public().to_string();
        let identity = identity.to_string().expose_secret().to_string();
        write_secret(&import_dir.join("enclave.key"), &identity);
        let stamp = Stamp { now: Timestamp::now(), tool: "testkit".parse().expect("a line"), by: None };
        let production_fingerprint = production_key.fingerprint.parse().expect("a fingerprint");
        let facts = Created { production: Some(production_fingerprint), ledger_key: None };
        let ledger_key = Key::new(&import_dir, "ledger").certified_by(&production_key);
        let custody = ledger_custody(&ledger_key.secret, &import_dir);
        let ledger = Ledger::create(&import_dir.join("ledger.db"), &stamp, facts, Some(&custody)).expect("a ledger");
        let (repository, tag) = repository_and_tag(API);
        let from = format!("{}/payments", origin.host());
        let release = json!({
            "stream": "payments",
            "recipients": [&recipient],
            "sign": { "key": "release.secret.asc" },
            "images": [format!("{}/{repository}:{tag}", origin.host())],
        });
        let import = json!({
            "identity": "enclave.key",
            "ledger": { "file": "ledger.db", "id": ledger.to_string(), "sign": { "key": "ledger.secret.asc" } },
            "streams": { "payments": {
                "release": { "certificates": ["trust/release.asc"], "threshold": 1 },
                "origins": [&from],
                "to": [{ "from": &from, "to": format!("{}/payments", production.host()) }],
            } },
            "production": { "sign": { "key": "production.secret.asc" }, "lookaside": "sigstore/" },
        });
        Self {
            folder,
            origin,
            production,
            release_key,
            production_key,
            ledger_key,
            identity,
            recipient,
            release,
            import,
        }
    }

    /// The exporting side's folder: `release.yaml`, the release key.
    pub fn export_dir(&self) -> PathBuf {
        self.folder.path().join("export")
    }

    /// The importing side's folder: `import.yaml`, identity, production key, ledger, `trust/`, `sigstore/`.
    pub fn import_dir(&self) -> PathBuf {
        self.folder.path().join("import")
    }

    /// Where bundles are made.
    pub fn media(&self) -> PathBuf {
        self.folder.path().join("media")
    }

    /// The lookaside tree.
    pub fn lookaside(&self) -> PathBuf {
        self.import_dir().join("sigstore")
    }

    /// The ledger, to write into it what no program would.
    pub fn open_ledger(&self) -> Ledger {
        let path = self.import_dir().join("ledger.db");
        let open = || Ledger::open(&path, None, Some(ledger_custody(&self.ledger_key.secret, &self.import_dir())));
        // A program that another test has just started holds this process's lock for a moment.
        for _ in 0..50 {
            match open() {
                Err(ledger::Error::Busy { .. }) => std::thread::sleep(std::time::Duration::from_millis(100)),
                other => return other.expect("the ledger"),
            }
        }
        open().expect("the ledger")
    }

    /// Another folder, made on first use.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join("scratch").join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Lists these fixtures (full references as in `testkit::layout`) in `release.yaml`, from the origin.
    pub fn list_fixtures(&mut self, names: &[&str]) {
        let at_origin = |name: &&str| {
            let (repository, tag) = repository_and_tag(name);
            format!("{}/{repository}:{tag}", self.origin.host())
        };
        self.release["images"] = names.iter().map(at_origin).collect();
    }

    /// Puts the image [`API`] at the origin under another name too, as `repository` and `tag`, and lists it beside what is listed.
    pub fn list_api_as(&mut self, repository: &str, tag: &str) -> Digest {
        let name = format!("{}/{repository}:{tag}", self.origin.host());
        self.release["images"].as_array_mut().unwrap().push(name.into());
        self.origin.load_layout(&fixtures(), API, repository, tag)
    }

    /// Has everything that `production` (a host) would get wait in a registry, with signatures in `qa-sigstore/`.
    pub fn stage(&mut self, production: &str, staging: &Registry) {
        self.import["staging"] =
            json!({ "to": [{ "from": production, "to": staging.host() }], "lookaside": "qa-sigstore/" });
    }

    /// A site whose releases wait in a staging registry.
    pub fn staged() -> (Self, Registry) {
        let (mut site, staging) = (Self::new(), Registry::start());
        let production = site.production.host().to_string();
        site.stage(&production, &staging);
        (site, staging)
    }

    /// Has the exporting side look for signatures of the origin's images: in a lookaside tree, and in the form of cosign.
    pub fn look_for_signatures(&mut self) {
        let configuration = self.scratch("registries.d");
        let lookaside = format!("file://{}", self.signatures_at_origin().root().display());
        let section = json!({ "lookaside": lookaside, "use-sigstore-attachments": true });
        let text = json!({ "docker": { self.origin.host(): section } }).to_string();
        fs::write(configuration.join("origin.yaml"), text).unwrap();
        self.release["registries_d"] = json!([configuration]);
    }

    /// The lookaside tree of the origin.
    pub fn signatures_at_origin(&self) -> Lookaside {
        Lookaside::new(self.scratch("lookaside"))
    }

    /// The documents of the image [`API`] at the origin: its index and image manifests.
    pub fn documents_at_origin(&self) -> Vec<Digest> {
        let (repository, _) = repository_and_tag(API);
        let is_document = |d: &Digest| self.origin.get(&format!("/v2/{repository}/manifests/{d}")).status == 200;
        closure(&fixtures(), API).into_iter().filter(is_document).collect()
    }

    /// Signs the image [`API`] at the origin.
    pub fn sign_at_origin(&self, signer: &Key) {
        let (repository, tag) = repository_and_tag(API);
        let name: Reference = format!("{}/{repository}:{tag}", self.origin.host()).parse().unwrap();
        for document in self.documents_at_origin() {
            let signature = signer.secret.sign_simple(&name, &document, Timestamp::now(), "test").unwrap();
            self.signatures_at_origin().add(name.repository(), &document, &signature).unwrap();
        }
    }

    /// Gives a stream an image policy: these scopes of `docker`, and nothing else.
    pub fn judge_images(&mut self, stream: &str, docker: &Value) {
        let policy = json!({ "default": [{ "type": "reject" }], "transports": { "docker": docker } });
        let name = format!("{stream}.policy.json");
        fs::write(self.import_dir().join(&name), policy.to_string()).unwrap();
        self.import["streams"][stream]["images"] = name.into();
    }

    /// Lists one image with these layers, from the origin, where it is `payments/large:<tag>`.
    pub fn list_layers(&mut self, tag: &str, layers: &[&[u8]]) -> Digest {
        let mut layout = Layout::new();
        let name = format!("registry.dev.example/payments/large:{tag}");
        let image = layout.image(layers);
        layout.name(&name, &image);
        self.release["images"] = json!([format!("{}/payments/large:{tag}", self.origin.host())]);
        self.origin.load_layout(layout.path(), &name, "payments/large", tag)
    }

    /// Lists a fixture straight from the committed layout, as `oci:`, under its own reference, which the stream may
    /// then claim.
    pub fn list_from_layout(&mut self, name: &str) {
        self.release["images"] = json!([format!("oci:{}:{name}", fixtures().display())]);
        let to = format!("{}/payments", self.production.host());
        let stream = &mut self.import["streams"]["payments"];
        stream["origins"] = json!(["registry.dev.example/payments"]);
        stream["to"] = json!([{ "from": "registry.dev.example/payments", "to": to }]);
    }

    /// `sealift-export` in the exporting side's folder, with `release.yaml` as it is now.
    pub fn export(&self, args: &[&str]) -> Command {
        fs::write(self.export_dir().join("release.yaml"), self.release.to_string()).unwrap();
        let mut command = sealift_export(&self.export_dir().join("home"));
        command.current_dir(self.export_dir()).args(args);
        command
    }

    /// `sealift-import` in the importing side's folder, with `import.yaml` as it is now.
    pub fn import(&self, args: &[&str]) -> Command {
        fs::write(self.import_dir().join("import.yaml"), self.import.to_string()).unwrap();
        let mut command = sealift_import(&self.import_dir().join("home"));
        command.current_dir(self.import_dir()).args(args);
        command
    }

    /// Packs under a sequence number, into the media folder.
    #[track_caller]
    pub fn pack(&self, sequence: u64, args: &[&str]) -> Ran {
        let sequence = sequence.to_string();
        run(self.export(&["pack", "--sequence", &sequence]).arg("--output").arg(self.media()).args(args))
    }

    /// Packs, which must succeed; returns the bundle's folder.
    #[track_caller]
    pub fn packed(&self, sequence: u64) -> PathBuf {
        self.pack(sequence, &[]).expect_code(0);
        let folder = self.media().join(format!("payments-{sequence}"));
        assert!(folder.join("SHA256SUMS.asc").is_file(), "{} is not sealed", folder.display());
        folder
    }

    /// Receives a bundle.
    #[track_caller]
    pub fn receive(&self, bundle: &Path, args: &[&str]) -> Ran {
        run(self.import(&["receive"]).arg(bundle).args(args))
    }

    /// A copy of a bundle, to be changed.
    pub fn copy(&self, bundle: &Path, name: &str) -> PathBuf {
        // The folder's own name belongs to the bundle.
        let to = self.scratch(name).join(bundle.file_name().unwrap());
        crate::hostile::copy(bundle, &to);
        to
    }

    /// What the importing side holds now.
    pub fn traces(&self) -> Traces {
        let ledger = Ledger::open_read_only(&self.import_dir().join("ledger.db"), None).expect("the ledger");
        let head = ledger.head().expect("the ledger's head");
        let mut lookaside = BTreeMap::new();
        crate::registry::walk(&self.lookaside(), &mut |file| {
            let name = file.strip_prefix(self.lookaside()).unwrap().display().to_string();
            lookaside.insert(name, blobs::sha256(&fs::read(file).unwrap()));
        });
        let ledger = (head.number.to_string(), head.hash.to_string());
        Traces { registry: self.production.snapshot(), lookaside, ledger }
    }

    /// Copies an image out of production with stock skopeo, whose policy accepts signatures of the production key only.
    #[track_caller]
    pub fn skopeo_verifies(&self, repository: &str, tag: &str) -> Ran {
        let home = self.scratch("skopeo");
        let lookaside = format!("file://{}", self.lookaside().display());
        let registries = json!({ "default-docker": { "lookaside": lookaside } });
        fs::create_dir_all(home.join("registries.d")).unwrap();
        fs::write(home.join("registries.d/default.yaml"), registries.to_string()).unwrap();
        let requirement = json!({
            "type": "signedBy", "keyType": "GPGKeys", "keyPath": self.production_key.certificate_file,
            "signedIdentity": { "type": "matchExact" },
        });
        let policy = json!({
            "default": [{ "type": "reject" }],
            "transports": { "docker": { self.production.host(): [requirement] } },
        });
        fs::write(home.join("policy.json"), policy.to_string()).unwrap();
        let to = tempfile::tempdir_in(&home).unwrap();
        run(command("skopeo", &home)
            .args([
                "--policy",
                "policy.json",
                "--registries.d",
                "registries.d",
                "copy",
                "--all",
                "--src-tls-verify=false",
            ])
            .args(["--remove-signatures"])
            .arg(format!("docker://{}/{repository}:{tag}", self.production.host()))
            .arg(format!("dir:{}", to.path().display()))
            .current_dir(&home))
    }

    /// Opens all volumes with stock tools only, into a folder that is then an OCI layout.
    #[track_caller]
    pub fn unpack_with_stock_tools(&self, bundle: &Path) -> PathBuf {
        let to = self.scratch("unpacked");
        const UNPACK: &str = r#"set -e -o pipefail; for v in "$1"/*.tar.zst.age; do age -d -i "$2" "$v" | zstd -d | tar -x -C "$3"; done"#;
        let key = self.import_dir().join("enclave.key");
        run_ok(command("bash", &to).args(["-c", UNPACK, "bash"]).arg(bundle).arg(key).arg(&to));
        to
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

/// Keeps a ledger with this key as `sealift-import` does.
fn ledger_custody(key: &SecretKey, folder: &Path) -> Custody {
    struct Ours(SecretKey);
    impl Signer for Ours {
        fn fingerprint(&self) -> Fingerprint {
            self.0.fingerprint().as_str().parse().expect("a fingerprint")
        }
        fn certificate(&self) -> Result<Vec<u8>, OutsideText> {
            self.0.certificate_armored().map_err(|e| OutsideText::new(e.to_string()))
        }
        fn sign(&self, document: &[u8]) -> Result<Vec<u8>, OutsideText> {
            self.0.sign_statement(document, Timestamp::now()).map_err(|e| OutsideText::new(e.to_string()))
        }
    }
    struct Statements;
    impl Checker for Statements {
        fn check(&self, statement: &[u8], certificates: &[u8]) -> Result<Checked, OutsideText> {
            let certificates = Certificates::from_bytes(certificates, Path::new("ledger")).expect("certificates");
            let trust = Trust::new(certificates, 1, Timestamp::now()).expect("trust").as_signed();
            let verified = trust.verify_statement(statement, LIMITS.config);
            let authentic = verified.map_err(|e| OutsideText::new(e.to_string()))?;
            let signers = authentic.signers().iter().map(|s| s.fingerprint.as_str().parse().expect("a fingerprint"));
            Ok(Checked { document: authentic.get().clone(), signers: signers.collect() })
        }
    }
    let second = folder.join("ledger.db.head");
    Custody { signer: Box::new(Ours(key.clone())), checker: Box::new(Statements), second }
}

fn write_secret(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

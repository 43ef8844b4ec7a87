//! An image in a registry and in folders, and what skopeo and we say of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use manifest_schema::{Digest, Reference, Timestamp};
use serde_json::{Value, json};
use signing::{ImagePolicy, PolicyImage, PolicyName};
use testkit::Registry;
use testkit::tools::{Ran, command, run};

use crate::Verdicts;

/// An image that has no layers, so that copying it takes no time.
pub struct Image {
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
}

pub const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

impl Image {
    pub fn new() -> Self {
        let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "size": config.len(),
                "digest": blobs::sha256(&config),
            },
            "layers": [],
        });
        Self { config, manifest: manifest.to_string().into_bytes() }
    }

    pub fn digest(&self) -> Digest {
        blobs::sha256(&self.manifest)
    }

    /// Writes it in the form of `dir:`, with its signatures.
    pub fn write(&self, folder: &Path, signatures: &[&[u8]]) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("version"), "Directory Transport Version: 1.1\n").unwrap();
        std::fs::write(folder.join("manifest.json"), &self.manifest).unwrap();
        std::fs::write(folder.join(blobs::sha256(&self.config).hex()), &self.config).unwrap();
        write_numbered(folder, signatures);
    }
}

pub fn write_numbered(folder: &Path, signatures: &[&[u8]]) {
    std::fs::create_dir_all(folder).unwrap();
    for (n, signature) in (1..).zip(signatures) {
        std::fs::write(folder.join(format!("signature-{n}")), signature).unwrap();
    }
}

/// The verdict of a `skopeo copy`; stops the test if it failed for another reason than its policy or the signatures.
pub fn copied(ran: &Ran) -> (bool, String) {
    if ran.code == Some(0) {
        return (true, String::new());
    }
    let why = ran.stderr.lines().last().unwrap_or_default().to_string();
    let known = [
        "Source image rejected",
        "invalid policy in",
        "reading signatures",
        "nrecognized signature format",
        "rror parsing signature storage configuration",
        "parsing /",
    ];
    assert!(known.iter().any(|k| why.contains(k)), "unexpected failure\n{ran}");
    (false, why)
}

/// Our verdict for an image under a policy file; a policy that cannot be loaded accepts nothing.
pub fn judged(policy: &Path, image: &PolicyImage<'_>) -> (bool, String) {
    match ImagePolicy::load(policy) {
        Ok(policy) => {
            let verdict = policy.judge(image, Timestamp::now());
            (verdict.accepted, format!("{verdict:?}"))
        }
        Err(e) => (false, format!("{e}: {:?}", std::error::Error::source(&e).map(ToString::to_string))),
    }
}

/// Everything that the cases of one test share: an image in a registry that has every name, and a home without
/// configuration but for that.
pub struct World {
    pub image: Image,
    pub registry: Registry,
    pub home: tempfile::TempDir,
    pub number: AtomicUsize,
}

/// The names the image has. The registry itself is on the loopback; `registries.conf` leads there.
pub const REPOSITORIES: [&str; 7] = [
    "registry.dev.example/team/app",
    "registry.dev.example:5000/team/app",
    "registry.dev.example:5000/team/sub/app",
    "registry.dev.example/teams/app",
    "a.b.wild.example/app",
    "docker.io/library/busybox",
    "docker.io/team/app",
];
pub const TAGS: [&str; 2] = ["1", "latest"];

impl World {
    pub fn new() -> Self {
        let (image, registry) = (Image::new(), Registry::start());
        let home = tempfile::tempdir().unwrap();
        let mut conf = String::new();
        let mut hosts = BTreeSet::new();
        for name in REPOSITORIES {
            let (host, path) = name.split_once('/').unwrap();
            registry.put_blob(path, &blobs::sha256(&image.config), &image.config);
            for tag in TAGS {
                registry.put_manifest(path, tag, OCI, &image.manifest);
            }
            if hosts.insert(host) {
                let location = registry.host();
                write!(conf, "[[registry]]\nprefix = \"{host}\"\nlocation = \"{location}\"\ninsecure = true\n\n")
                    .unwrap();
            }
        }
        let folder = home.path().join(".config/containers");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("registries.conf"), conf).unwrap();
        Self { image, registry, home, number: AtomicUsize::new(0) }
    }

    /// A folder of its own for one case.
    pub fn folder(&self) -> PathBuf {
        let folder = self.home.path().join(format!("case-{}", self.number.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&folder).unwrap();
        folder
    }

    /// The verdict of `skopeo copy` from a source, with a policy file and signatures in a lookaside tree.
    pub fn skopeo(&self, folder: &Path, source: &str, signatures: &[&[u8]]) -> (bool, String) {
        let registries = folder.join("registries.d");
        std::fs::create_dir(&registries).unwrap();
        let tree = folder.join("tree");
        let located = format!("default-docker:\n  lookaside: file://{}\n  sigstore: file://{0}\n", tree.display());
        std::fs::write(registries.join("default.yaml"), located).unwrap();
        if let Some(name) = source.strip_prefix("docker://") {
            let path = REPOSITORIES.iter().find_map(|repository| {
                let rest = name.strip_prefix(repository)?;
                rest.starts_with([':', '@']).then(|| repository.split_once('/').unwrap().1)
            });
            let digest = self.image.digest();
            write_numbered(&tree.join(format!("{}@sha256={}", path.unwrap(), digest.hex())), signatures);
        }
        let mut skopeo = self.command(&folder.join("policy.json"), &registries);
        skopeo.arg(source).arg(format!("dir:{}", folder.join("out").display()));
        copied(&run(&mut skopeo))
    }

    pub fn command(&self, policy: &Path, registries: &Path) -> Command {
        let mut skopeo = command("skopeo", self.home.path());
        skopeo.arg("--policy").arg(policy).arg("--registries.d").arg(registries).arg("copy");
        skopeo
    }

    /// Compares one case of an image in the registry.
    pub fn compare(&self, verdicts: &Verdicts, case: &str, policy: &Value, name: &str, signatures: &[&[u8]]) {
        let folder = self.folder();
        std::fs::write(folder.join("policy.json"), policy.to_string()).unwrap();
        let theirs = self.skopeo(&folder, &format!("docker://{name}"), signatures);
        let reference: Reference = name.parse().unwrap();
        let ours = self.ours(&folder, PolicyName::Docker(&reference), signatures);
        verdicts.compare(case, ours, theirs);
    }

    /// Compares one case of an image in a folder.
    pub fn compare_folder(&self, verdicts: &Verdicts, case: &str, policy: &str, signatures: &[&[u8]]) {
        let folder = self.folder();
        let image = folder.join("image");
        self.image.write(&image, signatures);
        std::fs::write(folder.join("policy.json"), policy).unwrap();
        let theirs = self.skopeo(&folder, &format!("dir:{}", image.display()), &[]);
        let scope = image.canonicalize().unwrap();
        let name = PolicyName::Other { transport: "dir", scope: scope.to_str().unwrap() };
        let ours = self.ours(&folder, name, signatures);
        verdicts.compare(case, ours, theirs);
    }

    /// Our verdict by the policy in a folder, which is not needed afterwards.
    fn ours(&self, folder: &Path, name: PolicyName<'_>, simple: &[&[u8]]) -> (bool, String) {
        let image = PolicyImage { name, digests: &[self.image.digest()], simple, sigstore: &[] };
        let ours = judged(&folder.join("policy.json"), &image);
        std::fs::remove_dir_all(folder).unwrap();
        ours
    }
}

/// The requirement that accepts everything.
pub const ACCEPT: &str = "insecureAcceptAnything";

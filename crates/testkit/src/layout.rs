//! OCI layouts: the committed ones, and small ones made on the spot.

use std::fs;
use std::path::{Path, PathBuf};

use manifest_schema::{Digest, MediaType};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const BUSYBOX: &str = "registry.dev.example/payments/busybox:1.36";
pub const API: &str = "registry.dev.example/payments/api:2.3.1";
pub const NESTED: &str = "registry.dev.example/payments/nested:1";
pub const LEGACY: &str = "registry.dev.example/payments/legacy:1";
pub const CHART: &str = "registry.dev.example/payments/chart:0.1.0";
pub const SHA512: &str = "registry.dev.example/payments/sha512:1";

/// The fixtures that Debian's registry can hold.
pub const REGISTRY_FIXTURES: [&str; 5] = [BUSYBOX, API, NESTED, LEGACY, CHART];

pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub const HELM_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
pub const HELM_CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The layout with the committed images (`fixtures/README.md`).
pub fn fixtures() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/images");
    path.canonicalize().expect("fixtures/images")
}

/// `payments/api` and `2.3.1` of `registry.dev.example/payments/api:2.3.1`.
pub fn repository_and_tag(reference: &str) -> (&str, &str) {
    reference.split_once('/').and_then(|(_, rest)| rest.rsplit_once(':')).expect("HOST/PATH:TAG")
}

/// A blob of a layout.
#[track_caller]
pub fn blob(layout: &Path, digest: &Digest) -> Vec<u8> {
    let path = layout.join(digest.layout_path());
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The descriptor in a layout's `index.json` that has this name.
#[track_caller]
pub fn find(layout: &Path, name: &str) -> Value {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    let entry = entries.iter().find(|e| e["annotations"][REF_NAME] == name);
    entry.unwrap_or_else(|| panic!("{name} is not in {}", layout.display())).clone()
}

/// The digest that a name of a layout has.
#[track_caller]
pub fn digest(layout: &Path, name: &str) -> Digest {
    find(layout, name)["digest"].as_str().unwrap().parse().unwrap()
}

/// All digests at and below a descriptor: documents, configurations, layers.
pub fn closure(layout: &Path, name: &str) -> std::collections::BTreeSet<Digest> {
    let mut found = std::collections::BTreeSet::new();
    let mut open = vec![find(layout, name)];
    while let Some(descriptor) = open.pop() {
        let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
        let media_type = descriptor["mediaType"].as_str().unwrap();
        if found.insert(digest) && MediaType::DOCUMENTS.contains(&media_type) {
            let document: Value = serde_json::from_slice(&blob(layout, &digest)).unwrap();
            for key in ["manifests", "layers"] {
                open.extend(document[key].as_array().cloned().unwrap_or_default());
            }
            open.extend(document.get("config").cloned());
        }
    }
    found
}

/// A layout in a temporary folder. Descriptors are JSON values, so that a test can write any nonsense.
pub struct Layout {
    folder: TempDir,
    names: Vec<Value>,
}

impl Default for Layout {
    fn default() -> Self {
        Self::new()
    }
}

impl Layout {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("layout").tempdir().unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let mut layout = Self { folder, names: Vec::new() };
        layout.write_index();
        layout
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Stores a blob; returns its descriptor.
    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = blobs::sha256(bytes);
        fs::write(self.path().join(digest.layout_path()), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() })
    }

    /// Stores a document (index, image manifest) as compact JSON; returns its descriptor.
    pub fn document(&self, document: &Value) -> Value {
        let media_type = document["mediaType"].as_str().unwrap_or(MediaType::OCI_MANIFEST);
        self.blob(media_type, document.to_string().as_bytes())
    }

    /// An image manifest of this configuration and these layers.
    pub fn manifest(&self, media_type: &str, config: &Value, layers: &[Value]) -> Value {
        let document = json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers });
        self.document(&document)
    }

    /// An OCI image for linux/amd64 whose layers are these bytes, each a tar archive of one file.
    pub fn image(&self, layers: &[&[u8]]) -> Value {
        self.image_for("amd64", layers)
    }

    /// An OCI image for a processor.
    pub fn image_for(&self, architecture: &str, layers: &[&[u8]]) -> Value {
        let tars: Vec<_> = layers.iter().enumerate().map(|(i, bytes)| tar_of(&format!("file-{i}"), bytes)).collect();
        self.image_of(architecture, &tars)
    }

    /// An OCI image of these archives, lowest first.
    pub fn image_of(&self, architecture: &str, tars: &[Vec<u8>]) -> Value {
        let config = config(architecture, tars);
        let config = self.blob(MediaType::OCI_CONFIG, config.to_string().as_bytes());
        let layers: Vec<_> = tars.iter().map(|tar| self.blob(MediaType::OCI_LAYER_TAR, tar)).collect();
        self.manifest(MediaType::OCI_MANIFEST, &config, &layers)
    }

    /// A Docker schema 2 image for linux/amd64 with one (uncompressed) layer.
    pub fn docker_image(&self, bytes: &[u8]) -> Value {
        let tar = tar_of("file", bytes);
        let config = self.blob(DOCKER_CONFIG, config("amd64", std::slice::from_ref(&tar)).to_string().as_bytes());
        let layer = self.blob("application/vnd.docker.image.rootfs.diff.tar", &tar);
        self.manifest(MediaType::DOCKER_MANIFEST, &config, &[layer])
    }

    /// A Helm chart whose archive is these bytes.
    pub fn chart(&self, bytes: &[u8]) -> Value {
        let config = self.blob(HELM_CONFIG, br#"{"name":"chart","version":"0.1.0","apiVersion":"v2"}"#);
        self.manifest(MediaType::OCI_MANIFEST, &config, &[self.blob(HELM_CHART, bytes)])
    }

    /// An index of these entries, without platforms. Of `DOCKER_LIST` type if the first entry is a Docker manifest.
    pub fn index(&self, entries: &[Value]) -> Value {
        let docker = entries.first().is_some_and(|e| e["mediaType"] == MediaType::DOCKER_MANIFEST);
        let media_type = if docker { MediaType::DOCKER_LIST } else { MediaType::OCI_INDEX };
        self.document(&json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": entries }))
    }

    /// An OCI image for linux/amd64 and linux/arm64/v8.
    pub fn multi(&self, layers: &[&[u8]]) -> Value {
        let amd64 = with_platform(self.image_for("amd64", layers), "amd64", None);
        let arm64 = with_platform(self.image_for("arm64", layers), "arm64", Some("v8"));
        self.index(&[amd64, arm64])
    }

    /// Names a descriptor in `index.json`; returns its digest.
    pub fn name(&mut self, name: &str, descriptor: &Value) -> Digest {
        let mut entry = descriptor.clone();
        entry["annotations"] = json!({ REF_NAME: name });
        self.names.push(entry);
        self.write_index();
        descriptor["digest"].as_str().unwrap().parse().unwrap()
    }

    /// The layout as an OCI archive.
    pub fn archive(&self, to: &Path) {
        let mut tar = tar::Builder::new(fs::File::create(to).unwrap());
        tar.append_dir_all(".", self.path()).unwrap();
        tar.finish().unwrap();
    }

    fn write_index(&mut self) {
        let index = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": self.names });
        fs::write(self.path().join("index.json"), index.to_string()).unwrap();
    }
}

/// A descriptor as an index's entry for a platform.
pub fn with_platform(mut descriptor: Value, architecture: &str, variant: Option<&str>) -> Value {
    descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
    if let Some(variant) = variant {
        descriptor["platform"]["variant"] = variant.into();
    }
    descriptor
}

/// A tar archive of one file.
pub fn tar_of(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, name, bytes).unwrap();
    tar.into_inner().unwrap()
}

fn config(architecture: &str, layers: &[Vec<u8>]) -> Value {
    let diffs: Vec<_> = layers.iter().map(|tar| blobs::sha256(tar).to_string()).collect();
    json!({
        "created": "2025-01-01T00:00:00Z", "architecture": architecture, "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": diffs },
        "history": diffs.iter().map(|_| json!({ "created_by": "testkit" })).collect::<Vec<_>>(),
    })
}

/// Bytes that no compression makes smaller, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

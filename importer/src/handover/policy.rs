//! A policy.json for nodes, and the key files that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::OutsideText;
use serde::Serialize;
use serde_json::Value;
use signing::sigstore::SigstoreKey;
use signing::{Certificates, Demand, KeyFile, KeySource, MovedIdentity};

/// A policy.json that refuses what it does not name.
#[derive(Debug, Serialize)]
pub struct NodePolicy<'a> {
    default: [Requirement; 1],
    transports: BTreeMap<&'static str, &'a BTreeMap<String, Vec<Requirement>>>,
}

impl<'a> NodePolicy<'a> {
    /// A policy for images of registries.
    pub fn new(docker: &'a BTreeMap<String, Vec<Requirement>>) -> Self {
        Self { default: [Requirement::Reject], transports: BTreeMap::from([("docker", docker)]) }
    }

    /// policy.json.
    pub fn to_text(&self) -> String {
        // Strings, lists and maps with strings for keys.
        let text = serde_json::to_string_pretty(self);
        text.map(|text| text + "\n").unwrap_or_else(|_| unreachable!("JSON by construction"))
    }
}

/// A requirement, as policy.json has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Requirement {
    /// Every image.
    InsecureAcceptAnything,
    /// No image.
    Reject,
    /// A simple signature.
    SignedBy {
        /// The kind of keys.
        key_type: &'static str,
        /// The keys.
        #[serde(flatten)]
        keys: NodeKeys,
        /// What it calls the image; if `None`, as it is pulled.
        #[serde(skip_serializing_if = "Option::is_none")]
        signed_identity: Option<MovedIdentity>,
    },
    /// A cosign signature.
    SigstoreSigned {
        /// The keys.
        #[serde(flatten)]
        keys: NodeKeys,
        /// What it calls the image.
        signed_identity: MovedIdentity,
    },
}

/// Keys, as policy.json names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeKeys {
    /// A file.
    KeyPath(String),
    /// Files.
    KeyPaths(Vec<String>),
    /// Base64.
    KeyData(String),
    /// Base64.
    KeyDatas(Vec<String>),
}

impl Requirement {
    /// Its type.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::InsecureAcceptAnything => "insecureAcceptAnything",
            Self::Reject => "reject",
            Self::SignedBy { .. } => "signedBy",
            Self::SigstoreSigned { .. } => "sigstoreSigned",
        }
    }

    /// What it demands signatures to say, if it asks for any.
    pub fn identity(&self) -> Option<&MovedIdentity> {
        match self {
            Self::InsecureAcceptAnything | Self::Reject => None,
            Self::SignedBy { signed_identity, .. } => signed_identity.as_ref(),
            Self::SigstoreSigned { signed_identity, .. } => Some(signed_identity),
        }
    }
}

/// The key files that nodes need, under names that two of them share only if their content is the same.
#[derive(Debug)]
pub struct Keys {
    /// The folder that holds them on the nodes; if `None`, they are in policy.json itself.
    folder: Option<String>,
    files: BTreeMap<String, Key>,
}

#[derive(Debug)]
struct Key {
    bytes: Vec<u8>,
    kind: &'static str,
    fingerprints: Vec<String>,
    from: BTreeSet<OutsideText>,
}

/// A key file, for people.
#[derive(Debug, Serialize)]
pub struct KeyRow {
    /// Its name in the folder of keys; none if policy.json has the key itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What it holds: `OpenPGP` or `cosign`.
    pub kind: &'static str,
    /// The fingerprints of the keys in it.
    pub fingerprints: Vec<String>,
    /// The names of the files that it was copied from.
    pub from: Vec<OutsideText>,
}

impl Keys {
    /// No keys yet; `folder` is where they will lie on the nodes.
    pub fn new(folder: &str) -> Self {
        Self { folder: Some(folder.into()), files: BTreeMap::new() }
    }

    /// No keys yet; those that come are written into policy.json.
    pub fn inline() -> Self {
        Self { folder: None, files: BTreeMap::new() }
    }

    /// Takes in the keys of a demand.
    pub fn requirement(&mut self, demand: &Demand<'_>) -> Requirement {
        match demand {
            Demand::Anything => Requirement::InsecureAcceptAnything,
            Demand::Reject => Requirement::Reject,
            Demand::SignedBy { keys, identity } => Requirement::SignedBy {
                key_type: "GPGKeys",
                keys: self.keys(keys, openpgp),
                signed_identity: Some(identity.clone()),
            },
            Demand::SigstoreSigned { keys, identity } => {
                Requirement::SigstoreSigned { keys: self.keys(keys, cosign), signed_identity: identity.clone() }
            }
        }
    }

    /// Takes in certificates, any of which may have signed an image: as it is pulled, or as `identity` says.
    pub fn signed_by(&mut self, file: &KeyFile, identity: Option<MovedIdentity>) -> Requirement {
        let keys = self.keys(&KeySource::Path(file.clone()), openpgp);
        Requirement::SignedBy { key_type: "GPGKeys", keys, signed_identity: identity }
    }

    fn keys(&mut self, source: &KeySource, of: impl Fn(&KeyFile) -> (&'static str, Key)) -> NodeKeys {
        let folder = self.folder.clone();
        let mut known = |file: &KeyFile| {
            let (ending, key) = of(file);
            let name = format!("{}.{ending}", blobs::sha256(&file.bytes).hex());
            // Without its folder, which depends on where the configuration is read from.
            let from = OutsideText::new(file.path.file_name().unwrap_or_default().to_string_lossy());
            self.files.entry(name.clone()).or_insert(key).from.insert(from);
            name
        };
        let data = |data: &Vec<u8>| STANDARD.encode(data);
        match (source, folder) {
            (KeySource::Path(file), Some(folder)) => NodeKeys::KeyPath(format!("{folder}/{}", known(file))),
            (KeySource::Paths(files), Some(folder)) => {
                NodeKeys::KeyPaths(files.iter().map(|file| format!("{folder}/{}", known(file))).collect())
            }
            (KeySource::Path(file), None) => {
                known(file);
                NodeKeys::KeyData(data(&file.bytes))
            }
            (KeySource::Paths(files), None) => {
                files.iter().for_each(|file| drop(known(file)));
                NodeKeys::KeyDatas(files.iter().map(|file| data(&file.bytes)).collect())
            }
            (KeySource::Data(bytes), _) => NodeKeys::KeyData(data(bytes)),
            (KeySource::Datas(all), _) => NodeKeys::KeyDatas(all.iter().map(data).collect()),
        }
    }

    /// The same policy with the keys themselves instead of these files: it can be judged by where the files are not.
    pub fn written_into(&self, policy: &str) -> String {
        // Written as JSON by this program.
        let mut document: Value = serde_json::from_str(policy).unwrap_or_else(|_| unreachable!("JSON by construction"));
        self.replace_paths(&mut document);
        document.to_string()
    }

    fn replace_paths(&self, value: &mut Value) {
        match value {
            Value::Array(list) => list.iter_mut().for_each(|value| self.replace_paths(value)),
            Value::Object(members) => {
                let path = members.get("keyPath").and_then(Value::as_str);
                if let Some(key) = path.and_then(|path| self.at(path)) {
                    members.remove("keyPath");
                    members.insert("keyData".into(), STANDARD.encode(&key.bytes).into());
                }
                members.values_mut().for_each(|value| self.replace_paths(value));
            }
            _ => {}
        }
    }

    /// The key file that nodes have in a place.
    fn at(&self, path: &str) -> Option<&Key> {
        self.files.get(path.strip_prefix(self.folder.as_deref()?)?.strip_prefix('/')?)
    }

    /// The files, by name.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let files = self.files.iter().filter(|_| self.folder.is_some());
        files.map(|(name, key)| (name.as_str(), key.bytes.as_slice()))
    }

    /// What they are.
    pub fn rows(&self) -> Vec<KeyRow> {
        let row = |(name, key): (&String, &Key)| KeyRow {
            file: self.folder.as_ref().map(|_| name.clone()),
            kind: key.kind,
            fingerprints: key.fingerprints.clone(),
            from: key.from.iter().cloned().collect(),
        };
        self.files.iter().map(row).collect()
    }
}

fn openpgp(file: &KeyFile) -> (&'static str, Key) {
    let certificates = Certificates::from_bytes(&file.bytes, Path::new(""));
    // A file with a revocation alone has none.
    let fingerprints = certificates.map(|c| c.fingerprints().iter().map(ToString::to_string).collect());
    let armored = std::str::from_utf8(&file.bytes).is_ok();
    (if armored { "asc" } else { "gpg" }, key(file, "OpenPGP", fingerprints.unwrap_or_default()))
}

fn cosign(file: &KeyFile) -> (&'static str, Key) {
    let key_in_it = SigstoreKey::from_pem(&file.bytes);
    ("pub", key(file, "cosign", key_in_it.map(|key| vec![key.fingerprint()]).unwrap_or_default()))
}

fn key(file: &KeyFile, kind: &'static str, fingerprints: Vec<String>) -> Key {
    Key { bytes: file.bytes.clone(), kind, fingerprints, from: BTreeSet::new() }
}

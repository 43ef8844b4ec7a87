//! `release.yaml`: what a release consists of. Every key is also a flag.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use commands::settings::{self, SignConfig};
use manifest_schema::document::Platform;
use manifest_schema::{LabelKey, LabelValue, LedgerId, Sequence, Stream};
use registry::source::SourceRef;
use scan::Gate;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::base::file_named;
use crate::error::Error;
use crate::media::{Medium, Share, VolumeSize};
use crate::reports::Attach;

/// The content of `release.yaml`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Release {
    /// The release line that the importing side has configured.
    pub stream: Option<Stream>,
    /// The place in the release line: a number higher than that of the release before, or `time` for the current time as
    /// YYYYMMDDhhmmss (UTC).
    pub sequence: Option<SequenceSpec>,
    /// Who can open the bundle: age recipients (`age1...`, also of plugins) and SSH keys (`ssh-ed25519 AAAA...`).
    pub recipients: Vec<String>,
    /// Files with a recipient a line.
    pub recipients_files: Vec<PathBuf>,
    /// Who signs: one key, or a list of them.
    pub sign: Signers,
    /// The images: `docker://` (the default), `oci:`, `oci-archive:`, `docker-archive:` or `dir:`.
    pub images: Vec<ImageSpec>,
    /// Only these platforms of multi-platform images (all if empty).
    pub platforms: Vec<PlatformSpec>,
    /// Allow an index of which only some platforms are carried.
    pub sparse_index: bool,
    /// Which referrers are carried: `all` (the default), `none`, or types separated by commas (`sig`, `att`, `sbom`, or
    /// artifact types).
    pub referrers: Option<String>,
    /// Folders that say where signatures are, as in containers-registries.d(5); the usual ones if there are none.
    pub registries_d: Vec<PathBuf>,
    /// Sign the images with the release key too, as `skopeo copy --sign-by` would.
    pub sign_images: bool,
    /// The images are OpenShift release images: every image that they list is packed too.
    pub release: bool,
    /// Stores of OpenShift release signatures: URLs, or folders relative to this file's.
    pub release_signatures: Vec<String>,
    /// Reports of scanners: `FILE`, carried with the image that it names, or `FILE=IMAGE`.
    pub attach: Vec<String>,
    /// The same, with files found from this one's folder.
    #[serde(skip)]
    pub attached: Vec<Attach>,
    /// What must be so before an image is packed.
    pub gate: Option<Gate>,
    /// Labels for people, shown on LABEL.txt: ticket, classification.
    #[serde(deserialize_with = "manifest_schema::json::unique_map")]
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// When the importing side shall stop admitting the bundle: a time (2026-01-31T09:00:00Z) or a span (30d, 12h).
    pub expires: Option<String>,
    /// The folder in which the bundle's folder is made.
    pub output: Option<PathBuf>,
    /// How the bundle is cut into files and laid on media.
    pub volumes: VolumesConfig,
    /// An earlier bundle that the other side still has, of which nothing is carried again: its name (`payments-41`) if it was
    /// packed here, its manifest.json, a receipt for it (a file, or the short form), or `latest`: the newest that receipts say
    /// is delivered.
    pub base: Option<String>,
    /// The ledger that must have the base, by its id; all that are known if none is named.
    pub base_ledger: Option<LedgerId>,
    /// What production reports back.
    pub receipts: ReceiptsConfig,
    /// The importing program, to be carried for a first installation.
    pub with_importer: Option<PathBuf>,
    /// Blobs that are fetched at once.
    pub jobs: Option<NonZeroUsize>,
}

/// Which receipts count.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReceiptsConfig {
    /// Certificates of the ledgers that sign receipts: files, or folders of them.
    pub certificates: Vec<PathBuf>,
}

/// How a bundle is cut.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VolumesConfig {
    /// The largest file: `fat32` (the default), `none`, or a size.
    pub size: Option<VolumeSize>,
    /// What one medium holds: `cd`, `dvd`, `dvd-dl`, `bd`, `bd-dl`, or a size.
    pub media: Option<Medium>,
    /// Recovery data for each volume (PAR2), as a share of its size: `10%`.
    pub recovery: Option<Share>,
}

/// The release keys: one, or a list.
#[derive(Debug, Clone, Default)]
pub struct Signers(pub Vec<SignConfig>);

impl<'de> Deserialize<'de> for Signers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
        struct Visit;
        impl<'de> serde::de::Visitor<'de> for Visit {
            type Value = Signers;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a key (`{key: FILE}` or `{by: FINGERPRINT}`), or a list of keys")
            }
            fn visit_unit<E: serde::de::Error>(self) -> Result<Signers, E> {
                Ok(Signers::default())
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Signers, A::Error> {
                SignConfig::deserialize(MapAccessDeserializer::new(map)).map(|one| Signers(vec![one]))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, list: A) -> Result<Signers, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Signers)
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

impl JsonSchema for Signers {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Signers".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let one = generator.subschema_for::<SignConfig>();
        schemars::json_schema!({ "anyOf": [one, { "type": "array", "items": one }, { "type": "null" }] })
    }
}

/// One image of the list.
#[derive(Debug, Clone)]
pub struct ImageSpec(pub SourceRef);

impl<'de> Deserialize<'de> for ImageSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for ImageSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Image".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "[docker://]HOST/PATH[:TAG][@DIGEST], oci:DIR[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME], dir:DIR; =FULL/NAME:TAG behind it names what has no full name"
        })
    }
}

/// A platform of the list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct PlatformSpec(pub Platform);

/// A sequence number, or `time`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceSpec {
    /// This number.
    Number(Sequence),
    /// The current time.
    Time,
}

impl std::str::FromStr for SequenceSpec {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "time" {
            return Ok(Self::Time);
        }
        let number: u64 = text.parse().map_err(|_| "expected a number, or `time`".to_string())?;
        Sequence::try_from(number).map(Self::Number).map_err(|e| e.to_string())
    }
}

impl<'de> Deserialize<'de> for SequenceSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl serde::de::Visitor<'_> for Visit {
            type Value = SequenceSpec;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number from 1, or `time`")
            }
            fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<SequenceSpec, E> {
                Sequence::try_from(n).map(SequenceSpec::Number).map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<SequenceSpec, E> {
                u64::try_from(n)
                    .map_err(|_| E::custom("a sequence number is at least 1"))
                    .and_then(|n| self.visit_u64(n))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SequenceSpec, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

impl JsonSchema for SequenceSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Sequence".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "oneOf": [
                { "type": "integer", "minimum": 1, "maximum": 9_007_199_254_740_991_u64 },
                { "const": "time" }
            ]
        })
    }
}

impl Release {
    /// Reads a file. Paths in it are relative to its folder.
    ///
    /// # Errors
    /// The file's name and the line.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let mut release: Release = settings::load(path)?;
        let base = path.parent().unwrap_or(Path::new(""));
        let relative = |p: &mut PathBuf| *p = base.join(&*p);
        release.recipients_files.iter_mut().for_each(relative);
        release.sign.0.iter_mut().for_each(|sign| sign.make_relative_to(base));
        release.registries_d.iter_mut().for_each(relative);
        for store in release.release_signatures.iter_mut().filter(|store| !store.contains("://")) {
            *store = base.join(&*store).display().to_string();
        }
        let folders = release.output.iter_mut().filter(|output| output.as_os_str() != "-");
        folders.chain(&mut release.with_importer).for_each(relative);
        release.receipts.certificates.iter_mut().for_each(relative);
        if let Some(file) = release.base.as_deref().and_then(|named| file_named(named, base)) {
            release.base = Some(file.display().to_string());
        }
        release.attached = release.attach.iter().map(|text| Attach::within(base, text)).collect();
        release.gate.iter_mut().for_each(|gate| gate.make_relative_to(base));
        for image in &mut release.images {
            image.0 = image.0.relative_to(base);
        }
        Ok(release)
    }
}

/// The JSON schema of `release.yaml` (`exporter/release.schema.json`), as text.
pub fn json_schema() -> String {
    manifest_schema::json::schema_text(&schemars::schema_for!(Release))
}

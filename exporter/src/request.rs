//! Stage 1: arguments and configuration, resolved once. No later stage sees either.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bundle::Recipients;
use clap::Args;
use commands::gate::ScanGate;
use commands::settings::{self, KeySource, SignArgs, Talk};
use console::Progress;
use console::args::{JobArgs, RegistryArgs};
use manifest_schema::document::Platform;
use manifest_schema::{BundleId, LabelKey, LabelValue, LedgerId, OutsideText, Sequence, Stream, Timestamp};
use registry::Registries;
use registry::source::SourceRef;
use scan::Gate;
use serde::Serialize;
use signing::{RegistriesD, SecretKey};

use crate::attached::Referrers;
use crate::base::{BaseBundle, Remark, Search};
use crate::config::{Release, SequenceSpec};
use crate::error::Error;
use crate::layout::Cut;
use crate::media::{Medium, Share, VolumeSize};
use crate::planned::Planned;
use crate::receipts::{Judge, Receipts};
use crate::reports::{Attach, Reports};

/// What to pack. Every flag is also a key of release.yaml.
#[derive(Debug, Clone, Args)]
pub struct RequestArgs {
    /// Images: [docker://]HOST/PATH[:TAG][@DIGEST], oci:DIR[:NAME], oci-archive:FILE[:NAME],
    /// docker-archive:FILE[:NAME], dir:DIR; =HOST/PATH:TAG behind it names what has no full name
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    /// The release file [default: release.yaml, if it is there]
    #[arg(short, long, value_name = "FILE", env = "SEALIFT_FILE")]
    pub file: Option<PathBuf>,
    /// A file with an image a line; empty lines and lines that begin with # are skipped
    #[arg(long, value_name = "FILE", env = "SEALIFT_IMAGES_FILE")]
    pub images_file: Vec<PathBuf>,
    /// The release line
    #[arg(long, env = "SEALIFT_STREAM")]
    pub stream: Option<Stream>,
    /// The place in the release line: a number higher than the last, or `time`
    #[arg(long, env = "SEALIFT_SEQUENCE")]
    pub sequence: Option<SequenceSpec>,
    /// Who can open the bundle (age1... or ssh-ed25519 AAAA...)
    #[arg(short, long = "recipient", value_name = "RECIPIENT", env = "SEALIFT_RECIPIENT", value_delimiter = ',')]
    pub recipients: Vec<String>,
    /// A file with a recipient a line
    #[arg(short = 'R', long, value_name = "FILE", env = "SEALIFT_RECIPIENTS_FILE")]
    pub recipients_file: Vec<PathBuf>,
    /// Only this platform (os/arch[/variant]) of multi-platform images
    #[arg(long = "platform", value_name = "PLATFORM", env = "SEALIFT_PLATFORM", value_delimiter = ',')]
    pub platforms: Vec<Platform>,
    /// Allow an index of which only some platforms are carried
    #[arg(long, env = "SEALIFT_SPARSE_INDEX")]
    pub sparse_index: bool,
    /// Which referrers are carried: all, none, or types (sig, att, sbom, or artifact types) [default: all]
    #[arg(long, value_name = "CHOICE", env = "SEALIFT_REFERRERS")]
    pub referrers: Option<String>,
    /// Folder that says where signatures are, as in containers-registries.d(5) [default: the usual folders]
    #[arg(long, value_name = "DIR", env = "SEALIFT_REGISTRIES_D")]
    pub registries_d: Vec<PathBuf>,
    /// Sign the images with the release key too, as `skopeo copy --sign-by` would
    #[arg(long, env = "SEALIFT_SIGN_IMAGES")]
    pub sign_images: bool,
    /// The images are OpenShift release images: pack every image that they list, too
    #[arg(long, env = "SEALIFT_RELEASE")]
    pub release: bool,
    /// With --release: a store of release signatures, as a URL or folder; several may be given
    #[arg(long, value_name = "URL|DIR", env = "SEALIFT_RELEASE_SIGNATURES", value_delimiter = ',')]
    pub release_signatures: Vec<String>,
    /// A report of a scanner, carried with the image that it names, or with IMAGE; several may be given
    #[arg(long, value_name = "FILE[=IMAGE]", env = "SEALIFT_ATTACH", value_delimiter = ',')]
    pub attach: Vec<String>,
    /// A file (YAML) with what reports must say, in place of `gate:` of the release file
    #[arg(long, value_name = "FILE", env = "SEALIFT_GATE")]
    pub gate: Option<PathBuf>,
    /// A label for people, shown on LABEL.txt
    #[arg(long = "label", value_name = "NAME=VALUE", env = "SEALIFT_LABEL", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// Not to be admitted after this time (2026-01-31T09:00:00Z) or span (30d, 12h)
    #[arg(long, value_name = "TIME", env = "SEALIFT_EXPIRES")]
    pub expires: Option<String>,
    /// The folder in which the bundle's folder is made [default: .]; `-` writes one stream to stdout
    #[arg(short, long, value_name = "DIR", env = "SEALIFT_OUTPUT")]
    pub output: Option<PathBuf>,
    /// The largest file: fat32 (4 GiB - 1), none, or a size (700MB, 2GiB) [default: fat32]
    #[arg(long, value_name = "SIZE", env = "SEALIFT_VOLUME_SIZE")]
    pub volume_size: Option<VolumeSize>,
    /// Lay the bundle out on media, with a folder for each: cd, dvd, dvd-dl, bd, bd-dl, or a size (64GB)
    #[arg(long, value_name = "MEDIUM", env = "SEALIFT_MEDIA")]
    pub media: Option<Medium>,
    /// Add recovery data (PAR2) to each volume, as a share of its size (10%)
    #[arg(long, value_name = "SHARE", env = "SEALIFT_RECOVERY")]
    pub recovery: Option<Share>,
    /// Leave out the layers of an earlier bundle that the other side has: its name if it was packed here, its manifest.json, a
    /// receipt for it (a file, or the short form), or `latest`: the newest that receipts say is delivered
    #[arg(long, value_name = "NAME|FILE|RECEIPT", env = "SEALIFT_BASE")]
    pub base: Option<String>,
    /// The ledger that must have the base, by its id [default: all that are known]
    #[arg(long, value_name = "ID", env = "SEALIFT_BASE_LEDGER")]
    pub base_ledger: Option<LedgerId>,
    #[command(flatten)]
    /// Which receipts count.
    pub receipts: ReceiptArgs,
    /// Put the importing program on the medium, for a first installation
    #[arg(long, value_name = "FILE", env = "SEALIFT_WITH_IMPORTER")]
    pub with_importer: Option<PathBuf>,
    #[command(flatten)]
    /// Where the record is.
    pub state: StateArgs,
    /// Use this bundle id (a UUID of version 7) instead of a new one
    #[arg(long, value_name = "UUID", env = "SEALIFT_BUNDLE_ID")]
    pub bundle_id: Option<BundleId>,
    #[command(flatten)]
    /// How much is done at once.
    pub jobs: JobArgs,
    #[command(flatten)]
    /// The release key.
    pub sign: SignArgs,
    #[command(flatten)]
    /// Registry access.
    pub registry: RegistryArgs,
}

/// Which receipts count.
#[derive(Debug, Clone, Default, Args)]
pub struct ReceiptArgs {
    /// Certificate of a ledger whose receipts count, or a folder of them; several may be given
    #[arg(long, value_name = "FILE", env = "SEALIFT_RECEIPT_TRUST", value_delimiter = ',')]
    pub receipt_trust: Vec<PathBuf>,
}

/// Where the record is.
#[derive(Debug, Clone, Default, Args)]
pub struct StateArgs {
    /// Where the record of what was packed and received is kept, outside the medium [default: the XDG state folder]
    #[arg(long, value_name = "DIR", env = "SEALIFT_STATE")]
    pub state: Option<PathBuf>,
}

impl StateArgs {
    /// The folder that is named, or the usual one.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn folder(self) -> Result<PathBuf, Error> {
        self.state.map_or_else(state_folder, Ok)
    }
}

/// What to pack, complete and checked.
pub struct Request {
    /// The release line.
    pub stream: Stream,
    /// The number, or `time`.
    pub sequence: SequenceSpec,
    /// The images as asked for.
    pub images: Vec<SourceRef>,
    /// Who can open the bundle.
    pub recipients: Vec<String>,
    /// Only these platforms; all if empty.
    pub platforms: Vec<Platform>,
    /// Allow sparse indexes.
    pub sparse_index: bool,
    /// Which referrers are carried.
    pub referrers: Referrers,
    /// Where signatures are looked for.
    pub registries_d: RegistriesD,
    /// The folders that say so, if they were named.
    pub registries_d_folders: Vec<PathBuf>,
    /// Sign the images with the release key.
    pub sign_images: bool,
    /// The images are OpenShift release images, whose payload is packed too.
    pub release: bool,
    /// Stores of release signatures, as URLs.
    pub release_signatures: Vec<String>,
    /// Reports that are attached to images.
    pub reports: Reports,
    /// What reports must say.
    pub gate: Option<ScanGate>,
    /// Labels.
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// End of admission.
    pub expires: Option<Expiry>,
    /// Where the bundle's folder is made.
    pub output: PathBuf,
    /// How it is cut into volumes.
    pub cut: Cut,
    /// What the other side has already.
    pub base: Option<BaseBundle>,
    /// A name for it that means the same later.
    pub base_name: Option<String>,
    /// The receipts, and the certificates that they are judged by.
    pub receipts: Receipts,
    /// The files that those come from.
    pub receipt_trust: Vec<PathBuf>,
    /// What is to be said before packing: of the base, and of what receipts show.
    pub remarks: Vec<Remark>,
    /// The importing program that is put on the medium.
    pub with_importer: Option<PathBuf>,
    /// Where the record is kept.
    pub state: PathBuf,
    /// A bundle id to use.
    pub bundle_id: Option<BundleId>,
    /// When the export began: now, or `SOURCE_DATE_EPOCH`.
    pub now: Timestamp,
    /// The program that the manifest names; this one, unless what an earlier version packed is made again.
    pub tool: LabelValue,
    /// Blobs that are fetched, and images that are looked up, at once.
    pub jobs: usize,
    /// The release keys that are named.
    pub sign: Vec<KeySource>,
    /// Registries.
    pub registries: Registries,
}

/// When a bundle expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expiry {
    /// At this time.
    At(Timestamp),
    /// So many seconds after it was created.
    After(i64),
}

impl std::str::FromStr for Expiry {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Expires(manifest_schema::OutsideText::new(text));
        if let Ok(time) = text.parse() {
            return Ok(Self::At(time));
        }
        let unit = match text.bytes().last() {
            Some(b'h') => 3600,
            Some(b'd') => 86_400,
            Some(b'w') => 7 * 86_400,
            _ => return Err(bad()),
        };
        let count: i64 = text[..text.len() - 1].parse().map_err(|_| bad())?;
        if (1..=100_000).contains(&count) { Ok(Self::After(count * unit)) } else { Err(bad()) }
    }
}

/// What makes two requests the same: the same command takes over its own unfinished bundle.
#[derive(Serialize)]
struct Identity<'a> {
    stream: &'a Stream,
    sequence: String,
    images: Vec<String>,
    recipients: &'a [String],
    platforms: &'a [Platform],
    sparse_index: bool,
    referrers: &'a Referrers,
    sign_images: bool,
    release: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reports: Vec<(manifest_schema::Digest, OutsideText, Option<String>)>,
    labels: &'a BTreeMap<LabelKey, LabelValue>,
    expires: Option<Expiry>,
    volume_size: VolumeSize,
    media: Option<Medium>,
    recovery: Option<Share>,
    base: Option<manifest_schema::Digest>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    base_lacks: &'a [manifest_schema::Digest],
}

impl Request {
    /// Joins flags, environment and release file; flags win, lists are added up.
    ///
    /// # Errors
    /// [`Error`] names what is missing or wrong.
    pub fn resolve(args: RequestArgs) -> Result<Self, Error> {
        let release = release_file(args.file.as_deref())?;
        let mut images: Vec<SourceRef> = release.images.into_iter().map(|i| i.0).collect();
        for text in &args.images {
            images.push(text.parse()?);
        }
        for file in &args.images_file {
            for (number, line) in settings::lines(file)? {
                let image: SourceRef = line.parse().map_err(|source| Error::ImagesFile {
                    file: file.clone(),
                    line: number,
                    source: Box::new(source),
                })?;
                images.push(image.relative_to(file.parent().unwrap_or(Path::new(""))));
            }
        }
        if images.is_empty() {
            return Err(Error::Missing("an image"));
        }
        let mut labels = release.labels;
        for label in &args.labels {
            let (key, value) =
                label.split_once('=').ok_or_else(|| Error::LabelFlag(manifest_schema::OutsideText::new(label)))?;
            let key = key.parse().map_err(Error::Label)?;
            labels.insert(key, value.parse().map_err(Error::Label)?);
        }
        let mut recipients = [release.recipients, args.recipients].concat();
        recipients = recipients.iter().map(|r| bundle::parse_recipient(r)).collect::<Result<_, _>>()?;
        for file in release.recipients_files.iter().chain(&args.recipients_file) {
            for (number, line) in settings::lines(file)? {
                let wrong = |e| {
                    // What such a file holds by mistake may be a secret: it is not repeated.
                    let source = (!matches!(e, bundle::AgeError::Recipient(_))).then(|| Box::new(e));
                    Error::RecipientsFile { file: file.clone(), line: number, source }
                };
                recipients.push(bundle::parse_recipient(&line).map_err(wrong)?);
            }
        }
        recipients.sort();
        recipients.dedup();
        let mut platforms: Vec<_> = release.platforms.into_iter().map(|p| p.0).chain(args.platforms).collect();
        platforms.sort();
        platforms.dedup();
        let sign = KeySource::several(args.sign, release.sign.0)?;
        let registries_d_folders = [release.registries_d, args.registries_d].concat();
        let expires = args.expires.or(release.expires).map(|text| text.parse()).transpose()?;
        let state = args.state.folder()?;
        let stream = args.stream.or(release.stream).ok_or(Error::Missing("a stream"))?;
        let sequence = args.sequence.or(release.sequence).ok_or(Error::Missing("a sequence"))?;
        let now = now()?;
        let receipt_trust = [release.receipts.certificates, args.receipts.receipt_trust].concat();
        let receipts = Receipts::new(state.clone(), Judge::load(&receipt_trust)?);
        let number = match sequence {
            SequenceSpec::Number(number) => number,
            SequenceSpec::Time => crate::record::by_time(now)?,
        };
        let ledger = args.base_ledger.or(release.base_ledger);
        let search = Search { stream: &stream, sequence: number, ledger, receipts: &receipts };
        let base = args.base.or(release.base).map(|named| search.find(&named)).transpose()?;
        let (base, base_name, mut remarks, marks) = match base {
            None => (None, None, Vec::new(), Vec::new()),
            Some(found) => (Some(found.bundle), Some(found.name), found.remarks, found.marks),
        };
        remarks.extend(receipts.foreseen(&stream, number, marks)?);
        let here = args.attach.iter().map(|text| Attach::within(Path::new(""), text));
        let attach: Vec<Attach> = release.attached.into_iter().chain(here).collect();
        let with_importer = args.with_importer.or(release.with_importer);
        let cut = Cut {
            volume_size: args.volume_size.or(release.volumes.size).unwrap_or_default(),
            medium: args.media.or(release.volumes.media),
            recovery: args.recovery.or(release.volumes.recovery),
            tool: tool_size(with_importer.as_deref())?,
            sealing: 0,
        };
        Ok(Self {
            stream,
            sequence,
            images,
            recipients,
            platforms,
            sparse_index: args.sparse_index || release.sparse_index,
            referrers: args.referrers.or(release.referrers).map(|text| text.parse()).transpose()?.unwrap_or_default(),
            registries_d: settings::registries_d(&registries_d_folders)?,
            registries_d_folders,
            sign_images: args.sign_images || release.sign_images,
            release: args.release || release.release,
            release_signatures: stores([release.release_signatures, args.release_signatures].concat())?,
            reports: Reports::load(&attach, now)?,
            gate: gate(args.gate.as_deref(), release.gate)?,
            labels,
            expires,
            output: args.output.or(release.output).unwrap_or_else(|| ".".into()),
            cut,
            base,
            base_name,
            receipts,
            receipt_trust,
            remarks,
            with_importer,
            state,
            bundle_id: args.bundle_id,
            now,
            tool: this_tool()?,
            jobs: args.jobs.or(release.jobs),
            sign,
            registries: settings::registries(args.registry, concat!("sealift-export/", env!("CARGO_PKG_VERSION")))?,
        })
    }

    /// What is needed to pack a plan: what it says, and of flags, environment and release file the keys, the output and the
    /// registries.
    ///
    /// # Errors
    /// [`Error::FixedByPlan`] for a flag that would change the plan; otherwise as [`Request::resolve`].
    pub fn of_plan(args: RequestArgs, plan: &Planned) -> Result<Self, Error> {
        let given = [
            ("--images-file", !args.images_file.is_empty()),
            ("--stream", args.stream.is_some()),
            ("--sequence", args.sequence.is_some()),
            ("--recipient", !args.recipients.is_empty()),
            ("--recipients-file", !args.recipients_file.is_empty()),
            ("--platform", !args.platforms.is_empty()),
            ("--sparse-index", args.sparse_index),
            ("--referrers", args.referrers.is_some()),
            ("--registries-d", !args.registries_d.is_empty()),
            ("--sign-images", args.sign_images),
            ("--release", args.release),
            ("--release-signatures", !args.release_signatures.is_empty()),
            ("--attach", !args.attach.is_empty()),
            ("--label", !args.labels.is_empty()),
            ("--expires", args.expires.is_some()),
            ("--bundle-id", args.bundle_id.is_some()),
            ("--volume-size", args.volume_size.is_some()),
            ("--media", args.media.is_some()),
            ("--recovery", args.recovery.is_some()),
            ("--base", args.base.is_some()),
            ("--base-ledger", args.base_ledger.is_some()),
        ];
        if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) {
            return Err(Error::FixedByPlan { flag });
        }
        let release = release_file(args.file.as_deref())?;
        let (manifest, sources) = (plan.manifest(), plan.sources());
        let with_importer = args.with_importer.or(release.with_importer);
        let cut = plan.cut(with_importer.as_deref())?;
        let state = args.state.folder()?;
        let receipt_trust = [release.receipts.certificates, args.receipts.receipt_trust].concat();
        let receipts = Receipts::new(state.clone(), Judge::load(&receipt_trust)?);
        let remarks = receipts.foreseen(&manifest.stream, manifest.sequence, Vec::new())?;
        Ok(Self {
            stream: manifest.stream.clone(),
            sequence: SequenceSpec::Number(manifest.sequence),
            images: sources.images.iter().map(|i| i.parse()).collect::<Result<_, _>>()?,
            recipients: sources.recipients.clone(),
            platforms: sources.platforms.clone(),
            sparse_index: sources.sparse_index,
            referrers: sources.referrers.parse()?,
            registries_d: settings::registries_d(&sources.registries_d)?,
            registries_d_folders: sources.registries_d.clone(),
            sign_images: false,
            release: sources.release,
            release_signatures: sources.release_signatures.clone(),
            reports: plan.reports()?,
            gate: gate(args.gate.as_deref(), release.gate)?,
            labels: manifest.labels.clone(),
            expires: manifest.expires.map(Expiry::At),
            output: args.output.or(release.output).unwrap_or_else(|| ".".into()),
            cut,
            base: BaseBundle::left_to(manifest),
            base_name: None,
            receipts,
            receipt_trust,
            remarks,
            with_importer,
            state,
            bundle_id: Some(manifest.bundle),
            now: manifest.created,
            tool: this_tool()?,
            jobs: args.jobs.or(release.jobs),
            sign: KeySource::several(args.sign, release.sign.0)?,
            registries: settings::registries(args.registry, concat!("sealift-export/", env!("CARGO_PKG_VERSION")))?,
        })
    }

    /// From now on, what was planned is asked for, whatever tags name now.
    ///
    /// # Errors
    /// If the plan's images cannot be read.
    pub(crate) fn repeat(&mut self, plan: &Planned) -> Result<(), Error> {
        let (manifest, sources) = (plan.manifest(), plan.sources());
        self.images = sources.images.iter().map(|i| i.parse()).collect::<Result<_, _>>()?;
        self.base = BaseBundle::left_to(manifest);
        self.cut = plan.cut(self.with_importer.as_deref())?;
        self.reports = plan.reports()?;
        // It was judged when it was packed, by the rules and the time of then.
        self.gate = None;
        self.tool = manifest.tool.clone();
        self.sign_images = false;
        Ok(())
    }

    /// The recipients, ready to encrypt to.
    ///
    /// # Errors
    /// If there is none.
    pub fn recipients(&self) -> Result<Recipients, Error> {
        let recipients = Recipients::parse(self.recipients.iter().map(String::as_str))?;
        Ok(recipients.with_talk(std::sync::Arc::new(Talk::default())))
    }

    /// Unlocks the release keys and proves each with a trial signature.
    ///
    /// # Errors
    /// [`Error`] says what is wrong with which key; also if there is none, one twice, or one that vouches for receipts too.
    pub fn unlock(&self) -> Result<Vec<SecretKey>, Error> {
        let keys = unlock(&self.sign)?;
        if let Some(ledgers) = self.receipts.judge().certificates() {
            for key in &keys {
                signing::distinct_roles(&[("ledger", ledgers), ("release", &key.certificates())])?;
            }
        }
        Ok(keys)
    }

    /// Says what is to be said before packing.
    pub(crate) fn say_remarks(&self, progress: &Progress) {
        for remark in &self.remarks {
            match remark {
                Remark::Say(text) => progress.say(text),
                Remark::Warn(text) => progress.warn(text),
            }
        }
    }

    /// Whether the bundle is written to stdout as one stream.
    pub fn is_stream(&self) -> bool {
        self.output.as_os_str() == "-"
    }

    /// `<stream>-<sequence>` for a sequence number.
    pub fn name(&self, sequence: Sequence) -> String {
        format!("{}-{sequence}", self.stream)
    }

    /// The digest of what was asked for.
    pub fn digest(&self) -> String {
        let identity = Identity {
            stream: &self.stream,
            sequence: match self.sequence {
                SequenceSpec::Number(n) => n.to_string(),
                SequenceSpec::Time => "time".into(),
            },
            images: self.images.iter().map(ToString::to_string).collect(),
            recipients: &self.recipients,
            platforms: &self.platforms,
            sparse_index: self.sparse_index,
            referrers: &self.referrers,
            sign_images: self.sign_images,
            release: self.release,
            // Not when they were made: of a file without a time of its own that is when it was copied here.
            reports: self.reports.noted().into_iter().map(|noted| (noted.digest, noted.name, noted.image)).collect(),
            labels: &self.labels,
            expires: self.expires,
            volume_size: self.cut.volume_size,
            media: self.cut.medium,
            recovery: self.cut.recovery,
            base: self.base.as_ref().map(|base| base.base.manifest),
            base_lacks: self.base.as_ref().map_or(&[], |base| &base.lacks),
        };
        blobs::sha256(&serde_json::to_vec(&identity).unwrap_or_default()).to_string()
    }
}

/// Unlocks release keys and proves each with a trial signature.
///
/// # Errors
/// [`Error`] says what is wrong with which key; also if there is none, or one twice.
pub(crate) fn unlock(sources: &[KeySource]) -> Result<Vec<SecretKey>, Error> {
    let mut keys: Vec<SecretKey> = Vec::new();
    for source in sources {
        let key = source.unlock(Timestamp::now())?;
        if keys.iter().any(|known| known.fingerprint() == key.fingerprint()) {
            return Err(Error::SameSigner(key.fingerprint()));
        }
        keys.push(key);
    }
    if keys.is_empty() { Err(Error::Missing("a release key")) } else { Ok(keys) }
}

/// The release file that is named, the one that is there, or an empty one.
pub(crate) fn release_file(named: Option<&Path>) -> Result<Release, Error> {
    let default = Path::new("release.yaml");
    match named {
        Some(file) => Release::load(file),
        None if default.exists() => Release::load(default),
        None => Ok(Release::default()),
    }
}

/// What reports must say: by the file that a flag names, or the release file.
fn gate(named: Option<&Path>, configured: Option<Gate>) -> Result<Option<ScanGate>, Error> {
    let gate = match named {
        Some(path) => Some(ScanGate::from_file(path)),
        None => configured.map(|gate| ScanGate::load(gate.scan)),
    };
    Ok(gate.transpose()?)
}

fn this_tool() -> Result<LabelValue, Error> {
    concat!("sealift-export ", env!("CARGO_PKG_VERSION")).parse().map_err(Error::Label)
}

/// Bytes of the importing program.
pub(crate) fn tool_size(path: Option<&Path>) -> Result<u64, Error> {
    let Some(path) = path else { return Ok(0) };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(metadata.len()),
        Ok(_) => Err(Error::Importer { path: path.into(), source: std::io::Error::other("it is no file") }),
        Err(source) => Err(Error::Importer { path: path.into(), source }),
    }
}

/// Stores of signatures as URLs; what is no URL is a folder.
fn stores(given: Vec<String>) -> Result<Vec<String>, Error> {
    let store = |text: String| {
        if ["http://", "https://", "file://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Ok(text);
        }
        let path = std::path::absolute(&text).map_err(|source| Error::Output { path: text.clone().into(), source })?;
        Ok(format!("file://{}", path.display()))
    };
    given.into_iter().map(store).collect()
}

/// Now, or what `SOURCE_DATE_EPOCH` says (reproducible-builds.org).
fn now() -> Result<Timestamp, Error> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text
            .parse()
            .ok()
            .and_then(Timestamp::from_unix)
            .ok_or_else(|| Error::SourceDateEpoch(manifest_schema::OutsideText::new(text))),
        Err(_) => Ok(Timestamp::now()),
    }
}

fn state_folder() -> Result<PathBuf, Error> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join("sealift"))
        .ok_or(Error::Missing("a state folder (--state; neither XDG_STATE_HOME nor HOME is set)"))
}

//! The exporter's record, outside the medium: which request became which bundle.
//!
//! It lets the same command take over its own unfinished bundle, keeps another request from doing so, and keeps one
//! sequence number from being released twice with different content.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use bundle::{SealedFile, WrittenPart, WrittenVolume};
use manifest_schema::{
    Base, Blob, BundleId, Digest, LIMITS, Manifest, OutsideText, Section, Sequence, Stream, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::config::SequenceSpec;
use crate::error::Error;
use crate::planned::{Planned, Sources};
use crate::reports::Reports;
use crate::request::Request;
use crate::seal::Sealed;

/// The record of one bundle.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    #[serde(rename = "type")]
    kind: String,
    /// Digest of the request.
    request: String,
    bundle: BundleId,
    stream: Stream,
    sequence: Sequence,
    created: Timestamp,
    /// Digest of the signed manifest, from the moment it was signed.
    manifest: Option<Digest>,
    /// The volumes of that manifest that are finished in the folder that is being made.
    #[serde(default)]
    volumes: BTreeMap<u32, FinishedVolume>,
    /// Set when the bundle was sealed.
    sealed: Option<Finished>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Finished {
    folder: PathBuf,
    bytes: u64,
    /// The seal's revision.
    revision: u32,
    /// The digest of the importing program, if it is on the first medium.
    #[serde(default)]
    tool: Option<Digest>,
    /// Every volume as it was sealed last.
    #[serde(default)]
    volumes: BTreeMap<u32, FinishedVolume>,
    /// The folder has its name: it was released.
    #[serde(default)]
    named: bool,
    /// Until it has, what was sealed before.
    #[serde(default)]
    before: Option<Box<Finished>>,
}

/// A finished volume, as it lies on a medium.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinishedVolume {
    /// Digest of the ciphertext.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// The parts of blobs in it: blob, number and own digest.
    parts: Vec<(Digest, u32, Digest)>,
    /// Its recovery data: file name and digest.
    recovery: Vec<(String, Digest)>,
    /// Of volume 1, the digest of the manifest's signatures in it.
    #[serde(default)]
    signatures: Option<Digest>,
}

impl FinishedVolume {
    pub(crate) fn new(written: WrittenVolume, recovery: Vec<SealedFile>, signatures: Option<Digest>) -> Self {
        Self {
            digest: written.digest,
            size: written.size,
            parts: written.parts.into_iter().map(|p| (p.blob, p.number, p.digest)).collect(),
            recovery: recovery.into_iter().map(|f| (f.name, f.digest)).collect(),
            signatures,
        }
    }

    /// Whether it holds these signatures of the manifest, or is to hold none.
    pub(crate) fn holds(&self, signatures: Option<Digest>) -> bool {
        signatures.is_none() || self.signatures == signatures
    }

    /// The parts of blobs in it.
    pub(crate) fn parts(&self) -> impl Iterator<Item = WrittenPart> + '_ {
        self.parts.iter().map(|(blob, number, digest)| WrittenPart { blob: *blob, number: *number, digest: *digest })
    }

    /// Its recovery data.
    pub(crate) fn recovery(&self) -> impl Iterator<Item = SealedFile> + '_ {
        self.recovery.iter().map(|(name, digest)| SealedFile { name: name.clone(), digest: *digest })
    }
}

const KIND: &str = "sealift/export-record/1";
/// The manifest, in a bundle's folder of the record.
const MANIFEST: &str = "manifest.json";
/// The plan, there too: with it single volumes can be made again.
const PLAN: &str = "plan";
/// Which layers each image has, there too: production may not hold every image.
const LAYERS: &str = "layers.json";
const LAYERS_KIND: &str = "sealift/export-layers/1";

/// Which layers each image has.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageLayers {
    #[serde(rename = "type")]
    kind: String,
    /// The digest of the manifest.
    manifest: Digest,
    /// For each image, in the manifest's order: places among the manifest's layers, from 0.
    images: Vec<Vec<usize>>,
}

/// A bundle's name, held by this process until it is dropped.
pub struct Claim {
    record: Record,
    folder: PathBuf,
    output: PathBuf,
    _lock: File,
}

/// Claims the bundle that a request is to become.
///
/// # Errors
/// If another process holds it, another request has it, or it lies there complete without a record.
pub fn claim(request: &Request) -> Result<Claim, Error> {
    if !request.is_stream() && !request.output.is_dir() {
        return Err(Error::NoOutput(request.output.clone()));
    }
    let bundles = request.state.join("bundles");
    let digest = request.digest();
    let (mut sequence, by_time) = match request.sequence {
        SequenceSpec::Number(n) => (n, false),
        SequenceSpec::Time => match unfinished(request, &bundles, &digest)? {
            Some(sequence) => (sequence, true),
            None => (by_time(request.now)?, true),
        },
    };
    loop {
        match claim_number(request, &bundles, &digest, sequence) {
            // Two releases within one second.
            Err(Error::OtherRequest { .. } | Error::Exists { .. }) if by_time => {
                sequence = Sequence::try_from(sequence.get() + 1).map_err(Error::Id)?;
            }
            other => return other,
        }
    }
}

fn claim_number(request: &Request, bundles: &Path, digest: &str, sequence: Sequence) -> Result<Claim, Error> {
    let name = request.name(sequence);
    let folder = bundles.join(&name);
    let state = |source| Error::State { path: folder.clone(), source };
    std::fs::create_dir_all(&folder).map_err(state)?;
    let lock = File::options().create(true).truncate(false).write(true).open(folder.join("lock")).map_err(state)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::Busy { name }),
        Err(TryLockError::Error(e)) => return Err(state(e)),
    }
    let complete = request.output.join(&name);
    let partial = request.output.join(format!("{name}.partial"));
    let same = |record: &Record| record.request == digest && request.bundle_id.is_none_or(|id| id == record.bundle);
    let taken = |record| {
        let claim = Claim { record, folder: folder.clone(), output: request.output.clone(), _lock: lock };
        claim.save()?;
        Ok(claim)
    };
    match load(&folder)? {
        // Of a stream nobody knows here how far it came: what was begun goes on under its own id.
        Some(record) if request.is_stream() && record.manifest.is_some() && same(&record) => return taken(record),
        // What was begun and left nothing behind does not hold the number, nor does it hold its date.
        Some(record) if record.sealed.is_some() || partial.exists() || complete.exists() => {
            if same(&record) {
                return taken(record);
            }
            return Err(Error::OtherRequest { name, partial: partial.exists().then_some(partial) });
        }
        None if complete.exists() => return Err(Error::Exists { path: complete }),
        None if partial.exists() => return Err(Error::ForeignPartial { path: partial }),
        Some(_) | None => {}
    }
    taken(Record {
        kind: KIND.into(),
        request: digest.into(),
        bundle: request.bundle_id.unwrap_or_else(BundleId::generate),
        stream: request.stream.clone(),
        sequence,
        created: request.now,
        manifest: None,
        volumes: BTreeMap::new(),
        sealed: None,
    })
}

/// Claims a bundle that was sealed before, to make volumes of it again.
///
/// # Errors
/// [`Error::NotPacked`] if this request was not packed with this state folder.
pub fn claim_sealed(request: &Request) -> Result<Claim, Error> {
    if !request.output.is_dir() {
        return Err(Error::NoOutput(request.output.clone()));
    }
    let bundles = request.state.join("bundles");
    let digest = request.digest();
    let name = match request.sequence {
        SequenceSpec::Number(number) => Some(request.name(number)),
        SequenceSpec::Time => newest_sealed(request, &bundles, &digest)?.map(|number| request.name(number)),
    };
    let not_packed = || Error::NotPacked { name: name.clone().unwrap_or_else(|| request.stream.to_string()) };
    let folder = bundles.join(name.as_ref().ok_or_else(not_packed)?);
    let state = |source| Error::State { path: folder.clone(), source };
    if !folder.is_dir() {
        return Err(not_packed());
    }
    let lock = File::options().create(true).truncate(false).write(true).open(folder.join("lock")).map_err(state)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::Busy { name: name.unwrap_or_default() }),
        Err(TryLockError::Error(e)) => return Err(state(e)),
    }
    let record = load(&folder)?.filter(|record| record.request == digest).ok_or_else(not_packed)?;
    let mut claim = Claim { record, folder: folder.clone(), output: request.output.clone(), _lock: lock };
    claim.settle()?;
    if claim.record.sealed.is_some() { Ok(claim) } else { Err(not_packed()) }
}

/// A bundle that was sealed with this state folder.
#[derive(Debug, Clone)]
pub(crate) struct SealedBundle {
    /// Which one, with the digest of its manifest.
    pub base: Base,
    /// When its export began.
    pub created: Timestamp,
    folder: PathBuf,
}

/// The bundle of this name that was sealed with this state folder.
///
/// # Errors
/// What cannot be read.
pub(crate) fn sealed(state: &Path, name: &str) -> Result<Option<SealedBundle>, Error> {
    let folder = state.join("bundles").join(name);
    Ok(load(&folder)?.and_then(|record| record.into_sealed(folder)))
}

/// Every bundle that was sealed with this state folder.
///
/// # Errors
/// What cannot be read.
pub(crate) fn all_sealed(state: &Path) -> Result<Vec<SealedBundle>, Error> {
    let bundles = state.join("bundles");
    let folder = |record: &Record| bundles.join(format!("{}-{}", record.stream, record.sequence));
    Ok(records(&bundles)?.into_iter().filter_map(|record| record.clone().into_sealed(folder(&record))).collect())
}

impl Record {
    fn into_sealed(self, folder: PathBuf) -> Option<SealedBundle> {
        self.sealed?;
        let Self { bundle, stream, sequence, created, .. } = self;
        Some(SealedBundle { base: Base { bundle, stream, sequence, manifest: self.manifest? }, created, folder })
    }
}

impl SealedBundle {
    /// Where its manifest is.
    pub fn path(&self) -> PathBuf {
        self.folder.join(MANIFEST)
    }

    /// Its manifest, which must be the one that was sealed.
    ///
    /// # Errors
    /// [`Error::Base`].
    pub fn manifest(&self) -> Result<Manifest, Error> {
        let wrong = |reason: String| Error::Base { path: self.path(), reason: OutsideText::new(reason) };
        let text = console::read_text(&self.path(), LIMITS.manifest).map_err(|e| wrong(e.to_string()))?;
        let (expected, found) = (self.base.manifest, blobs::sha256(text.as_bytes()));
        if found != expected {
            return Err(wrong(format!("changed since it was sealed: expected {expected}, found {found}")));
        }
        Manifest::parse(text.as_bytes()).map_err(|e| wrong(e.to_string()))
    }

    /// The layers of each image, in the manifest's order.
    ///
    /// # Errors
    /// [`Error::Base`]; also if the bundle was packed before this was kept.
    pub fn image_layers<'m>(&self, manifest: &'m Manifest) -> Result<Vec<Vec<&'m Blob>>, Error> {
        let path = self.folder.join(LAYERS);
        let wrong = |reason: String| Error::Base { path: path.clone(), reason: OutsideText::new(reason) };
        let text = console::read_text(&path, LIMITS.manifest).map_err(|e| wrong(e.to_string()))?;
        let kept: ImageLayers = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        if (kept.kind.as_str(), kept.manifest, kept.images.len())
            != (LAYERS_KIND, self.base.manifest, manifest.images.len())
        {
            return Err(wrong("it is not about this manifest".into()));
        }
        let layers: Vec<&Blob> = manifest.blobs.iter().filter(|b| b.section == Section::Layers).collect();
        let of_image = |places: Vec<usize>| places.into_iter().map(|at| layers.get(at).copied()).collect();
        let images: Option<Vec<Vec<&Blob>>> = kept.images.into_iter().map(of_image).collect();
        images.ok_or_else(|| wrong("it names a layer that is not there".into()))
    }
}

impl Claim {
    /// `<stream>-<sequence>`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.record.stream, self.record.sequence)
    }

    /// The bundle's id.
    pub fn bundle(&self) -> BundleId {
        self.record.bundle
    }

    /// The bundle's sequence.
    pub fn sequence(&self) -> Sequence {
        self.record.sequence
    }

    /// When the export first began.
    pub fn created(&self) -> Timestamp {
        self.record.created
    }

    /// The revision of the next seal: volumes that are made again have other ciphertext, for which the old seal is none.
    pub(crate) fn revision(&self) -> u32 {
        self.record.sealed.as_ref().map_or(1, |s| s.revision.saturating_add(1))
    }

    /// The folder while the bundle is not sealed.
    pub fn partial(&self) -> PathBuf {
        self.output.join(format!("{}.partial", self.name()))
    }

    /// The folder when it is.
    pub fn complete(&self) -> PathBuf {
        self.output.join(self.name())
    }

    /// The folder while volumes are made again.
    pub(crate) fn revision_partial(&self) -> PathBuf {
        self.output.join(format!("{}.revision-{}.partial", self.name(), self.revision()))
    }

    /// The folder of volumes that were made again.
    pub(crate) fn revision_complete(&self) -> PathBuf {
        self.output.join(format!("{}.revision-{}", self.name(), self.revision()))
    }

    /// The plan of the bundle, once its manifest was noted.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn plan(&self) -> Result<Planned, Error> {
        Planned::open(&self.folder.join(PLAN))
    }

    /// Every volume as it was sealed last.
    pub(crate) fn sealed_volumes(&self) -> BTreeMap<u32, FinishedVolume> {
        self.record.sealed.as_ref().map(|sealed| sealed.volumes.clone()).unwrap_or_default()
    }

    /// The volumes that are finished in the folder that is being made.
    pub(crate) fn volumes(&self) -> &BTreeMap<u32, FinishedVolume> {
        &self.record.volumes
    }

    /// Notes a finished volume.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub(crate) fn note_volume(&mut self, number: u32, volume: FinishedVolume) -> Result<(), Error> {
        self.record.volumes.insert(number, volume);
        self.save()
    }

    /// Forgets the volumes that are not as they were.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub(crate) fn keep_volumes(&mut self, keep: impl Fn(u32) -> bool) -> Result<(), Error> {
        self.record.volumes.retain(|number, _| keep(*number));
        self.save()
    }

    /// The digest of the importing program that is on the first medium, as sealed before.
    pub(crate) fn tool(&self) -> Option<Digest> {
        self.record.sealed.as_ref().and_then(|sealed| sealed.tool)
    }

    /// Where signatures of images are kept that were made for this bundle.
    pub(crate) fn signatures(&self) -> PathBuf {
        self.folder.join("signatures")
    }

    /// The finished bundle, if this request has been packed and its folder is still there.
    ///
    /// # Errors
    /// If a folder of that name is there that this request did not make.
    pub fn finished(&self) -> Result<Option<Sealed>, Error> {
        let path = self.complete();
        if !path.exists() {
            return Ok(None);
        }
        // The folder gets its name as the last step: it is complete even if the record was cut off before noting so.
        let read = |folder: &Path| {
            let folder = bundle::Folder::open(folder).ok()?;
            bundle::Seal::parse(&folder.read_file(bundle::SEAL, LIMITS.seal).ok()?).ok()
        };
        let seal = read(&path).or_else(|| read(&path.join(bundle::medium_name(1))));
        match seal {
            Some(seal) if seal.bundle == self.record.bundle && Some(seal.manifest) == self.record.manifest => {
                let bytes = self.record.sealed.as_ref().map(|s| s.bytes);
                let volumes = (1..=u32::try_from(seal.volumes.len()).unwrap_or(u32::MAX)).collect();
                Ok(Some(Sealed {
                    path,
                    bundle: seal.bundle,
                    manifest: seal.manifest,
                    revision: seal.revision,
                    media: seal.split.then(|| seal.media()),
                    volumes,
                    bytes,
                    tool: seal.tool,
                }))
            }
            _ => Err(Error::Exists { path }),
        }
    }

    /// Notes the signed manifest, and which layers each of its images has. A number that was released once cannot get other
    /// content.
    ///
    /// # Errors
    /// [`Error::Released`] if a sealed bundle of this name had another manifest.
    pub(crate) fn note_manifest(
        &mut self,
        sources: Sources,
        manifest: &Manifest,
        bytes: &[u8],
        image_layers: Vec<Vec<usize>>,
        reports: &Reports,
    ) -> Result<(), Error> {
        let digest = blobs::sha256(bytes);
        if self.record.sealed.is_some() && self.record.manifest != Some(digest) {
            return Err(Error::Released { name: self.name() });
        }
        if self.record.manifest != Some(digest) {
            self.record.volumes.clear();
        }
        self.record.manifest = Some(digest);
        if !self.plan().is_ok_and(|plan| plan.digest() == digest) {
            let plan = self.folder.join(PLAN);
            match std::fs::remove_dir_all(&plan) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::State { path: plan, source: e });
                }
                _ => Planned::write(&plan, sources, manifest, reports)?,
            };
        }
        let layers = ImageLayers { kind: LAYERS_KIND.into(), manifest: digest, images: image_layers };
        let layers = serde_json::to_vec(&layers)
            .map_err(|e| Error::State { path: self.folder.join(LAYERS), source: e.into() })?;
        self.write(LAYERS, &layers)?;
        self.write(MANIFEST, bytes)?;
        self.save()
    }

    /// Notes that the bundle is about to get its final name: from here on its number stands for this content.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub(crate) fn note_sealed(&mut self, sealed: &Sealed, volumes: BTreeMap<u32, FinishedVolume>) -> Result<(), Error> {
        self.record.manifest = Some(sealed.manifest);
        let before = self.record.sealed.take().map(|before| Box::new(Finished { before: None, ..before }));
        self.record.sealed = Some(Finished {
            folder: sealed.path.clone(),
            bytes: sealed.bytes.unwrap_or(0),
            revision: sealed.revision,
            tool: sealed.tool,
            volumes,
            named: false,
            before,
        });
        self.save()
    }

    /// Notes that the folder has its name.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub(crate) fn note_named(&mut self) -> Result<(), Error> {
        if let Some(sealed) = &mut self.record.sealed {
            (sealed.named, sealed.before) = (true, None);
        }
        self.save()
    }

    /// A run that was killed between noting a seal and giving the folder its name released nothing: what was sealed before
    /// stands.
    fn settle(&mut self) -> Result<(), Error> {
        let Some(sealed) = self.record.sealed.as_ref().filter(|sealed| !sealed.named) else { return Ok(()) };
        let mut unnamed = sealed.folder.clone().into_os_string();
        unnamed.push(".partial");
        if sealed.folder.exists() || !Path::new(&unnamed).exists() {
            return self.note_named();
        }
        self.record.sealed = sealed.before.clone().map(|before| *before);
        self.save()
    }

    fn save(&self) -> Result<(), Error> {
        let bytes = serde_json::to_vec_pretty(&self.record)
            .map_err(|e| Error::State { path: self.folder.clone(), source: e.into() })?;
        self.write("record.json", &bytes)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        replace(&self.folder, name, bytes).map_err(|source| Error::State { path: self.folder.join(name), source })
    }
}

/// Writes a file beside the old one and puts it in its place.
pub(crate) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let new = folder.join(format!("{name}.new"));
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, folder.join(name))?;
    File::open(folder)?.sync_all()
}

fn load(folder: &Path) -> Result<Option<Record>, Error> {
    let path = folder.join("record.json");
    let text = match console::read_text(&path, LIMITS.config) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::State { path, source }),
    };
    match serde_json::from_str::<Record>(&text) {
        Ok(record) if record.kind == KIND => Ok(Some(record)),
        Ok(record) => Err(Error::Record { path, reason: OutsideText::new(format!("type {}", record.kind)) }),
        Err(e) => Err(Error::Record { path, reason: OutsideText::new(e.to_string()) }),
    }
}

/// With `sequence: time` the number is not in the request: an unfinished bundle of the same request keeps its own, unless
/// a newer one of the stream has been sealed meanwhile.
fn unfinished(request: &Request, bundles: &Path, digest: &str) -> Result<Option<Sequence>, Error> {
    let (mut found, mut newest_sealed) = (None, None);
    for record in records(bundles)?.into_iter().filter(|r| r.stream == request.stream) {
        let name = request.name(record.sequence);
        let unfinished = request.output.join(format!("{name}.partial")).exists();
        if record.request == digest && unfinished {
            found = found.max(Some(record.sequence));
        } else if record.sealed.is_some() {
            newest_sealed = newest_sealed.max(Some(record.sequence));
        }
    }
    Ok(found.filter(|_| found > newest_sealed))
}

/// `YYYYMMDDhhmmss` in UTC.
pub(crate) fn by_time(now: Timestamp) -> Result<Sequence, Error> {
    let digits: String = now.to_string().chars().filter(char::is_ascii_digit).collect();
    let number = digits.parse::<u64>().unwrap_or(0);
    Sequence::try_from(number).map_err(Error::Id)
}

/// With `sequence: time`: the newest sealed bundle of the same request.
fn newest_sealed(request: &Request, bundles: &Path, digest: &str) -> Result<Option<Sequence>, Error> {
    let records = records(bundles)?;
    let same = records.into_iter().filter(|r| r.stream == request.stream && r.request == digest && r.sealed.is_some());
    Ok(same.map(|r| r.sequence).max())
}

fn records(bundles: &Path) -> Result<Vec<Record>, Error> {
    let state = |source| Error::State { path: bundles.into(), source };
    let entries = match std::fs::read_dir(bundles) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(state(e)),
    };
    let mut records = Vec::new();
    for entry in entries {
        records.extend(load(&entry.map_err(state)?.path())?);
    }
    Ok(records)
}

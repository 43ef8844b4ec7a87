//! The archives of `docker save`.
//!
//! Today's are OCI image layouts with a `manifest.json` beside them, and are read as layouts. The old ones hold a
//! configuration and uncompressed layers without an image manifest, so one is made. It depends on nothing but the bytes
//! of the configuration and the layers: the same archive has the same digest always and everywhere. For that every
//! layer is read once when the archive is opened, and compared with the `diff_ids` of the configuration.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use blobs::{Hasher, VerifiedBytes, sha256};
use manifest_schema::document::WrittenDescriptor;
use manifest_schema::{Algorithm, Descriptor, Digest, DigestTag, Document, LIMITS, MediaType, OutsideText, Reference};
use serde::{Deserialize, Serialize};

use crate::Registries;
use crate::layout::{Entry, Layout, read_document, small};
use crate::referrers::FoundReferrer;
use crate::source::error::SourceError;
use crate::source::reference::{Wanted, full, origin};
use crate::source::tar_index::{Section, TarIndex, plain_name};
use crate::source::{Resolved, Source};

const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// An archive, opened and listed, shared by the images that are taken from it.
pub(crate) enum Archive {
    Layout(Arc<Layout>),
    Old(OldArchive),
}

/// An archive without image manifests.
pub(crate) struct OldArchive {
    files: TarIndex,
    images: Vec<SavedImage>,
    by_name: HashMap<String, Vec<usize>>,
    /// The layers that have been read: digest and media type, by place in the archive and `diff_id`.
    measured: Mutex<BTreeMap<(u64, Digest), Measured>>,
}

/// The digest and media type of a layer.
type Measured = (Digest, &'static str);

/// An image of an old archive, and its names.
struct SavedImage {
    saved: Saved,
    names: Vec<String>,
}

impl Archive {
    /// Opens an archive.
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        let files = TarIndex::open(path)?;
        let saved = saved(&files)?;
        if files.file("oci-layout")?.is_some() && files.file("index.json")?.is_some() {
            let mut entries = Layout::entries(&files)?;
            name_entries(&files, &mut entries, &saved.unwrap_or_default());
            return Ok(Self::Layout(Arc::new(Layout::new(Box::new(files), entries))));
        }
        let saved = saved.ok_or_else(|| SourceError::Missing { file: files.at("manifest.json") })?;
        OldArchive::new(files, saved).map(Self::Old)
    }

    /// The wanted image. The layers of one of an old archive are read, each once.
    pub(crate) fn source(
        &self,
        path: &Path,
        wanted: &Wanted,
        registries: &Registries,
    ) -> Result<Box<dyn Source>, SourceError> {
        Ok(match self {
            Self::Layout(layout) => Box::new(layout.clone().source(path, wanted, registries)?),
            Self::Old(archive) => Box::new(archive.convert(path, wanted)?),
        })
    }
}

/// Reads `manifest.json`, if there is one.
fn saved(archive: &TarIndex) -> Result<Option<Vec<Saved>>, SourceError> {
    let at = || archive.at("manifest.json");
    let Some(section) = archive.file("manifest.json")? else { return Ok(None) };
    let saved: Vec<Saved> = serde_json::from_slice(&small(section, at())?)
        .map_err(|e| SourceError::Json { file: at(), reason: OutsideText::new(e.to_string()) })?;
    Ok(Some(saved))
}

/// A name as the Docker client understands it; `None` if it is not one.
fn normalized(name: &str) -> Option<String> {
    Some(Reference::parse_normalized(name).ok()?.to_string())
}

/// Gives entries of a layout that have no full name in an annotation the tags that `manifest.json` lists for their
/// configuration.
fn name_entries(files: &TarIndex, entries: &mut [Entry], saved: &[Saved]) {
    let config_of = |d: &Descriptor| {
        let document = read_document(files, &d.digest, d.size).ok()?;
        match Document::parse(document.bytes(), &d.media_type).ok()? {
            Document::Manifest { config, .. } => Some(config.digest.layout_path()),
            Document::Index { .. } => None,
        }
    };
    let mut by_config: HashMap<&str, Vec<&Saved>> = HashMap::new();
    for image in saved {
        by_config.entry(&image.config).or_default().push(image);
    }
    for entry in entries {
        if entry.names.iter().any(|name| full(name).is_some()) || saved.is_empty() {
            continue;
        }
        let Some(config) = config_of(&entry.descriptor) else { continue };
        let images = by_config.get(config.as_str()).into_iter().flatten();
        let tags: Vec<_> =
            images.flat_map(|s| s.repo_tags.iter().flatten()).filter_map(|tag| normalized(tag)).collect();
        if !tags.is_empty() {
            entry.names = tags;
        }
    }
}

impl OldArchive {
    fn new(files: TarIndex, saved: Vec<Saved>) -> Result<Self, SourceError> {
        let mut images = Vec::new();
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, saved) in saved.into_iter().enumerate() {
            let mut names = Vec::new();
            for tag in saved.repo_tags.iter().flatten() {
                names.push(normalized(tag).ok_or_else(|| SourceError::Json {
                    file: files.at("manifest.json"),
                    reason: OutsideText::new(format!("`{tag}` is not an image reference")),
                })?);
            }
            for name in &names {
                let positions = by_name.entry(name.clone()).or_default();
                if positions.last() != Some(&at) {
                    positions.push(at);
                }
            }
            images.push(SavedImage { saved, names });
        }
        Ok(Self { files, images, by_name, measured: Mutex::default() })
    }

    /// The wanted image and the names it may have.
    fn choose(&self, wanted: &Wanted) -> Result<(&Saved, Vec<String>), SourceError> {
        let shown = || {
            let name = |SavedImage { saved, names }: &SavedImage| {
                if names.is_empty() { vec![saved.config.clone()] } else { names.clone() }
            };
            self.images.iter().flat_map(name).map(OutsideText::new).collect::<Vec<_>>()
        };
        let place = || self.files.place();
        if self.images.is_empty() {
            return Err(SourceError::Empty { place: place() });
        }
        let all: Vec<usize>;
        let likely = match (&wanted.name, &wanted.position) {
            (Some(name), _) => self.by_name.get(name).map_or(&[][..], Vec::as_slice),
            (None, Some(position)) => std::slice::from_ref(position),
            (None, None) => {
                all = (0..self.images.len()).collect();
                &all
            }
        };
        let fits = |at: &&usize| wanted.position.is_none_or(|p| p == **at);
        let found: Vec<_> = likely.iter().filter(fits).filter_map(|at| self.images.get(*at)).collect();
        match found.as_slice() {
            [] => Err(SourceError::NoSuchImage { place: place(), asked: wanted.shown(), names: shown() }),
            [SavedImage { saved, names }] => match &wanted.name {
                Some(name) => Ok((saved, vec![name.clone()])),
                None if names.len() > 1 && wanted.called.is_none() => {
                    Err(SourceError::Several { place: place(), names: shown() })
                }
                None => Ok((saved, names.clone())),
            },
            _ if wanted.name.is_some() => {
                let file = self.files.at("manifest.json");
                let reason = format!("it lists `{}` more than once", wanted.name.as_deref().unwrap_or_default());
                Err(SourceError::Json { file, reason: OutsideText::new(reason) })
            }
            _ => Err(SourceError::Several { place: place(), names: shown() }),
        }
    }

    /// The digest and media type of a layer, which is read unless it has been already: layers without content are often
    /// one file, listed many times, and images share layers.
    fn measure(&self, section: &Section, name: &str, diff_id: &Digest) -> Result<Measured, SourceError> {
        let measured = || self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (section.offset(), *diff_id);
        if let Some(known) = measured().get(&key) {
            return Ok(*known);
        }
        let found = measure(section.clone(), diff_id, &self.files.at(name))?;
        measured().insert(key, found);
        Ok(found)
    }
}

/// The image manifest that is made, its members in the order in which they are written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    schema_version: u8,
    media_type: &'static str,
    config: WrittenDescriptor,
    layers: Vec<WrittenDescriptor>,
}

impl OldArchive {
    /// Makes an OCI image of the wanted image's files.
    fn convert(&self, path: &Path, wanted: &Wanted) -> Result<DockerArchive, SourceError> {
        let (image, names) = self.choose(wanted)?;
        let archive = &self.files;
        let config_section = find(archive, &image.config)?;
        let config = small(config_section.clone(), archive.at(&image.config))?;
        let config_digest = check_config_name(archive, &image.config, &config)?;
        let diff_ids = diff_ids(archive, &image.config, &config)?;
        let listed = image.layers.as_deref().unwrap_or_default();
        if listed.len() != diff_ids.len() || listed.len() > LIMITS.children {
            let (expected, found) = (diff_ids.len(), listed.len());
            return Err(SourceError::LayerCount { file: archive.at(&image.config), expected, found });
        }
        let written = |media_type: &str, digest, size| match media_type.parse() {
            Ok(media_type) => Ok(WrittenDescriptor { media_type, digest, size, annotations: BTreeMap::new() }),
            Err(source) => Err(SourceError::Document { file: archive.place(), source }),
        };
        let mut content = BTreeMap::from([(config_digest, config_section)]);
        let mut layers = Vec::new();
        for (name, diff_id) in listed.iter().zip(&diff_ids) {
            let section = find(archive, name)?;
            let size = section.size();
            let (digest, media_type) = self.measure(&section, name, diff_id)?;
            layers.push(written(media_type, digest, size)?);
            content.insert(digest, section);
        }
        let made = Made {
            schema_version: 2,
            media_type: MediaType::OCI_MANIFEST,
            config: written(MediaType::OCI_CONFIG, config_digest, config.len() as u64)?,
            layers,
        };
        let refused = |source| SourceError::Document { file: archive.place(), source };
        let bytes = serde_json::to_vec(&made)
            .map_err(|e| SourceError::Json { file: archive.place(), reason: OutsideText::new(e.to_string()) })?;
        let media_type: MediaType = MediaType::OCI_MANIFEST.parse().map_err(refused)?;
        Document::parse(&bytes, &media_type).map_err(refused)?;
        let document = VerifiedBytes::of(bytes);
        let origin = origin(wanted, &names, document.digest(), path)?;
        let resolved = Resolved { origin, media_type, document, moved: None };
        Ok(DockerArchive { place: archive.place(), resolved, content })
    }
}

/// A file that `manifest.json` names, or the one a link of that name leads to.
fn find(archive: &TarIndex, name: &str) -> Result<Section, SourceError> {
    let missing = || SourceError::Missing { file: archive.at(name) };
    archive.file_through_links(&plain_name(name).ok_or_else(missing)?)?.ok_or_else(missing)
}

/// The digest of a configuration. Most tools name the file by it (`<hex>.json`, `sha256:<hex>`); it must be right then.
fn check_config_name(archive: &TarIndex, name: &str, config: &[u8]) -> Result<Digest, SourceError> {
    let found = sha256(config);
    let last = name.rsplit('/').next().unwrap_or(name);
    let hex = last.strip_suffix(".json").unwrap_or(last);
    let hex = hex.strip_prefix("sha256:").unwrap_or(hex);
    match format!("sha256:{hex}").parse::<Digest>() {
        Ok(expected) if expected != found => Err(SourceError::ConfigName {
            file: archive.at(name),
            expected: Box::new(expected),
            found: Box::new(found),
        }),
        _ => Ok(found),
    }
}

/// The digests of the uncompressed layers, as the configuration lists them.
fn diff_ids(archive: &TarIndex, name: &str, config: &[u8]) -> Result<Vec<Digest>, SourceError> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: RootFs,
    }
    #[derive(Deserialize)]
    struct RootFs {
        #[serde(default)]
        diff_ids: Option<Vec<Digest>>,
    }
    let config: Config = serde_json::from_slice(config)
        .map_err(|e| SourceError::Json { file: archive.at(name), reason: OutsideText::new(e.to_string()) })?;
    Ok(config.rootfs.diff_ids.unwrap_or_default())
}

/// Hashes what is read through it.
struct Tee<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hasher.update(buf.get(..n).unwrap_or_default());
        Ok(n)
    }
}

/// Reads a layer once: its digest and media type, after its uncompressed content was compared with the `diff_id`.
fn measure(section: Section, diff_id: &Digest, file: &OutsideText) -> Result<Measured, SourceError> {
    let failed = |source| SourceError::Io { file: file.clone(), source };
    let mut magic = Vec::new();
    section.clone().take(2).read_to_end(&mut magic).map_err(failed)?;
    let gzip = magic == b"\x1f\x8b";
    let as_stored = Tee { inner: section, hasher: Hasher::new(Algorithm::Sha256) };
    let (digest, uncompressed) = if gzip {
        let stored = BufReader::with_capacity(128 << 10, as_stored);
        let mut layer = Tee { inner: flate2::bufread::MultiGzDecoder::new(stored), hasher: hasher_of(diff_id) };
        let size = copy(&mut (&mut layer).take(LIMITS.blob + 1)).map_err(failed)?;
        if size > LIMITS.blob {
            return Err(SourceError::TooLarge { file: file.clone(), size, limit: LIMITS.blob });
        }
        let mut stored = layer.inner.into_inner();
        copy(&mut stored).map_err(failed)?;
        (stored.into_inner().hasher.finish(), layer.hasher.finish())
    } else {
        let mut layer = as_stored;
        if diff_id.algorithm() == Algorithm::Sha256 {
            copy(&mut layer).map_err(failed)?;
            let digest = layer.hasher.finish();
            (digest, digest)
        } else {
            let mut layer = Tee { inner: layer, hasher: hasher_of(diff_id) };
            copy(&mut layer).map_err(failed)?;
            (layer.inner.hasher.finish(), layer.hasher.finish())
        }
    };
    if uncompressed != *diff_id {
        return Err(SourceError::DiffId {
            file: file.clone(),
            expected: Box::new(*diff_id),
            found: Box::new(uncompressed),
        });
    }
    Ok((digest, if gzip { OCI_LAYER_GZIP } else { MediaType::OCI_LAYER_TAR }))
}

fn hasher_of(digest: &Digest) -> Hasher {
    Hasher::new(digest.algorithm())
}

/// Reads to the end in large steps; the number of bytes.
fn copy(reader: &mut impl Read) -> io::Result<u64> {
    io::copy(&mut BufReader::with_capacity(128 << 10, reader), &mut io::sink())
}

/// An image made of an old archive. Nothing belongs to it: its manifest is made anew, so nobody can have signed it there.
struct DockerArchive {
    place: OutsideText,
    resolved: Resolved,
    /// Where the configuration and the layers lie.
    content: BTreeMap<Digest, Section>,
}

impl DockerArchive {
    fn missing(&self, digest: &Digest) -> SourceError {
        SourceError::Missing { file: OutsideText::new(format!("{}: {digest}", self.place.raw())) }
    }
}

impl Source for DockerArchive {
    fn resolve(&self) -> Result<Resolved, SourceError> {
        Ok(self.resolved.clone())
    }

    fn document(&self, digest: &Digest, _size: u64) -> Result<VerifiedBytes, SourceError> {
        let top = &self.resolved.document;
        if top.digest() == digest { Ok(top.clone()) } else { Err(self.missing(digest)) }
    }

    fn blob(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        let section = self.content.get(&blob.digest).ok_or_else(|| self.missing(&blob.digest))?;
        Ok(Box::new(section.clone()))
    }

    fn referrers(&self, _subject: &Digest) -> Result<Vec<FoundReferrer>, SourceError> {
        Ok(Vec::new())
    }

    fn digest_tag(&self, _: &Digest, _: DigestTag) -> Result<Option<(MediaType, VerifiedBytes)>, SourceError> {
        Ok(None)
    }

    fn simple_signatures(&self, _manifest: &Digest) -> Result<Vec<Vec<u8>>, SourceError> {
        Ok(Vec::new())
    }
}

//! Images made by hand, and how a test reads them back.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use blobs::{Hasher, VerifyingReader, sha256};
use manifest_schema::{Algorithm, Digest, Document, MediaType};
use registry::Registries;
use registry::source::{Resolved, Source, SourceError, SourceRef};
use tempfile::TempDir;

/// A folder for one test, and the registries that a source may ask.
pub struct Place {
    pub folder: TempDir,
    pub registries: Registries,
}

impl Place {
    pub fn new() -> Self {
        let quick = registry::Config { retries: 0, ..registry::Config::default() };
        let registries = Registries::new(quick).expect("a configuration");
        Self { folder: TempDir::new().expect("a folder"), registries }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Opens `<transport>:<this folder>/<rest>`.
    pub fn open(&self, transport: &str, rest: &str) -> Result<Box<dyn Source>, SourceError> {
        let text = format!("{transport}:{}/{rest}", self.folder.path().display());
        text.parse::<SourceRef>().expect(&text).open(&self.registries)
    }

    pub fn resolve(&self, transport: &str, rest: &str) -> Resolved {
        let source = self.open(transport, rest).expect(rest);
        source.resolve().expect(rest)
    }

    /// The message with all causes; what was asked for must be refused.
    pub fn refused(&self, transport: &str, rest: &str) -> String {
        match self.open(transport, rest) {
            Ok(_) => panic!("{transport}:{rest} was opened"),
            Err(error) => chain(&error),
        }
    }
}

/// A message with all its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A source that must be refused while it is read; the message with all causes.
pub fn read_refused(source: &dyn Source) -> String {
    match read_all(source) {
        Ok(digests) => panic!("all {} parts were read", digests.len()),
        Err(message) => message,
    }
}

/// Reads an image to its last blob and checks every digest; all digests.
pub fn read_all(source: &dyn Source) -> Result<BTreeSet<Digest>, String> {
    fn walk(
        source: &dyn Source,
        bytes: &[u8],
        media_type: &MediaType,
        seen: &mut BTreeSet<Digest>,
    ) -> Result<(), String> {
        match Document::parse(bytes, media_type).map_err(|e| chain(&e))? {
            Document::Index { children, .. } => {
                for child in children {
                    let d = child.descriptor;
                    let document = source.document(&d.digest, d.size).map_err(|e| chain(&e))?;
                    assert_eq!(document.digest(), &d.digest);
                    seen.insert(d.digest);
                    walk(source, document.bytes(), &d.media_type, seen)?;
                }
            }
            Document::Manifest { config, layers, .. } => {
                for d in layers.iter().chain([&config]) {
                    let reader = source.blob(d).map_err(|e| chain(&e))?;
                    let blob = VerifyingReader::new(reader, d.digest, d.size).finish().map_err(|e| chain(&e))?;
                    assert_eq!((blob.digest(), blob.size()), (&d.digest, d.size));
                    seen.insert(d.digest);
                }
            }
        }
        Ok(())
    }
    let resolved = source.resolve().map_err(|e| chain(&e))?;
    let mut seen = BTreeSet::from([*resolved.document.digest()]);
    walk(source, resolved.document.bytes(), &resolved.media_type, &mut seen)?;
    Ok(seen)
}

pub fn sha512(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(bytes);
    hasher.finish()
}

/// Files by name, to be written as a folder or as an archive.
#[derive(Clone, Default)]
pub struct Tree(pub BTreeMap<String, Vec<u8>>);

/// What points to a document: descriptor members as JSON.
#[derive(Clone)]
pub struct Pointer {
    pub media_type: String,
    pub digest: Digest,
    pub size: usize,
}

impl Pointer {
    pub fn json(&self, extra: &str) -> String {
        format!(r#"{{"mediaType":"{}","digest":"{}","size":{}{extra}}}"#, self.media_type, self.digest, self.size)
    }

    /// With the annotation that names it.
    pub fn named(&self, name: &str) -> String {
        self.json(&format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#))
    }
}

impl Tree {
    pub fn file(&mut self, name: &str, bytes: impl Into<Vec<u8>>) -> &mut Self {
        self.0.insert(name.into(), bytes.into());
        self
    }

    pub fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Pointer {
        self.blob_named(media_type, bytes, sha256(bytes))
    }

    pub fn blob_named(&mut self, media_type: &str, bytes: &[u8], digest: Digest) -> Pointer {
        self.file(&digest.layout_path(), bytes);
        Pointer { media_type: media_type.into(), digest, size: bytes.len() }
    }

    /// A container image of one layer.
    pub fn image(&mut self, content: &str) -> Pointer {
        let layer = layer(content);
        let config = self.blob(MediaType::OCI_CONFIG, config(&[&layer]).as_bytes());
        let layer = self.blob(MediaType::OCI_LAYER_TAR, &layer);
        self.manifest(&config, &[layer])
    }

    pub fn manifest(&mut self, config: &Pointer, layers: &[Pointer]) -> Pointer {
        let layers: Vec<_> = layers.iter().map(|l| l.json("")).collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
            MediaType::OCI_MANIFEST,
            config.json(""),
            layers.join(",")
        );
        self.blob(MediaType::OCI_MANIFEST, manifest.as_bytes())
    }

    pub fn index(&mut self, children: &[String]) -> Pointer {
        let index = index_json(children);
        self.blob(MediaType::OCI_INDEX, index.as_bytes())
    }

    /// Completes a layout with these entries.
    pub fn layout(&mut self, entries: &[String]) -> &mut Self {
        self.file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#).file("index.json", index_json(entries))
    }

    pub fn write_folder(&self, folder: &Path) {
        for (name, bytes) in &self.0 {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, bytes).expect("a file");
        }
    }

    pub fn tar(&self) -> tar::Builder<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in &self.0 {
            entry(&mut tar, tar::EntryType::Regular, name, bytes);
        }
        tar
    }

    pub fn write_tar(&self, path: &Path) {
        std::fs::write(path, self.tar().into_inner().expect("an archive")).expect("a file");
    }
}

fn index_json(children: &[String]) -> String {
    format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, children.join(","))
}

/// Appends an entry; the name is written as it is, whatever it is.
pub fn entry(tar: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str, bytes: &[u8]) {
    tar.append(&header(kind, name, bytes.len() as u64), bytes).expect("an entry");
}

pub fn link(tar: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str, target: &str) {
    let mut header = header(kind, name, 0);
    header.set_link_name_literal(target).expect("a target");
    header.set_cksum();
    tar.append(&header, std::io::empty()).expect("an entry");
}

pub fn header(kind: tar::EntryType, name: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    let bytes = name.as_bytes();
    assert!(bytes.len() <= 100, "{name}");
    header.as_old_mut().name[..bytes.len()].copy_from_slice(bytes);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

/// A layer with one file.
pub fn layer(content: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    entry(&mut tar, tar::EntryType::Regular, "file", content.as_bytes());
    tar.into_inner().expect("an archive")
}

/// A configuration for these uncompressed layers.
pub fn config(layers: &[&[u8]]) -> String {
    let ids: Vec<_> = layers.iter().map(|l| format!("\"{}\"", sha256(l))).collect();
    format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    )
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).expect("compressed");
    out.finish().expect("compressed")
}

/// Runs a real program; `None` if it is not installed, which only CI may not have.
pub fn run(program: &str, args: &[&str]) -> Option<String> {
    match Command::new(program).args(args).output() {
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program} {args:?}: {error}");
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            assert!(std::env::var_os("CI").is_none(), "{program} is missing");
            println!("skipped: {program} is not installed");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// A layout of one image named `1.0`, in `folder/web`.
pub fn web(place: &Place) -> Pointer {
    let mut tree = Tree::default();
    let image = tree.image("hello");
    tree.layout(&[image.named("1.0")]).write_folder(&place.path("web"));
    image
}

/// An archive as `docker save` wrote it before version 25: the layers in folders of their own.
pub fn old_save(tags: &str, layers: &[(&str, &[u8])], config: &str) -> Tree {
    let mut tree = Tree::default();
    let config_name = format!("{}.json", sha256(config.as_bytes()).hex());
    let names: Vec<_> = layers.iter().map(|(name, _)| format!("{name:?}")).collect();
    let manifest = format!(r#"[{{"Config":"{config_name}","RepoTags":{tags},"Layers":[{}]}}]"#, names.join(","));
    tree.file(&config_name, config).file("manifest.json", manifest);
    for (name, bytes) in layers {
        tree.file(name, *bytes);
    }
    tree
}

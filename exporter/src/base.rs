//! The base of an incremental bundle: an earlier one, of which the other side still has what this one leaves out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use manifest_schema::{Base, Blob, Digest, LIMITS, Manifest, OutsideText, Section, Stored, Stream};

use crate::error::Error;

/// An earlier bundle.
#[derive(Debug, Clone)]
pub struct BaseBundle {
    /// Which one.
    pub base: Base,
    /// Its layers, with their sizes in bytes. Documents, configurations and signatures are always carried: admission needs
    /// them.
    layers: HashMap<Digest, u64>,
}

impl BaseBundle {
    /// Reads the manifest of a bundle: of the one of this name that was packed with this state folder, or a file.
    ///
    /// # Errors
    /// [`Error::Base`].
    pub fn load(named: &str, state: &Path, stream: &Stream) -> Result<Self, Error> {
        let path = if named.contains('/') || named.ends_with(".json") {
            PathBuf::from(named)
        } else {
            crate::record::sealed_manifest(state, named)?
        };
        let wrong = |reason: String| Error::Base { path: path.clone(), reason: OutsideText::new(reason) };
        let text = console::read_text(&path, LIMITS.manifest).map_err(|e| wrong(e.to_string()))?;
        let manifest = Manifest::parse(text.as_bytes()).map_err(|e| wrong(e.to_string()))?;
        if manifest.stream != *stream {
            return Err(wrong(format!("it is of stream {}, and not of {stream}", manifest.stream)));
        }
        let layers = |b: &&Blob| b.section == Section::Layers;
        Ok(Self {
            base: Base {
                bundle: manifest.bundle,
                stream: manifest.stream.clone(),
                sequence: manifest.sequence,
                manifest: blobs::sha256(text.as_bytes()),
            },
            layers: manifest.blobs.iter().filter(layers).map(|b| (b.digest, b.size)).collect(),
        })
    }

    /// What a planned manifest leaves to its base.
    pub fn left_to(manifest: &Manifest) -> Option<Self> {
        let base = manifest.base.clone()?;
        let left = |b: &&Blob| b.stored == Stored::Base;
        Some(Self { base, layers: manifest.blobs.iter().filter(left).map(|b| (b.digest, b.size)).collect() })
    }

    /// Whether the other side has a blob.
    pub fn has(&self, digest: &Digest, size: u64, section: Section) -> bool {
        section == Section::Layers && self.layers.get(digest) == Some(&size)
    }
}

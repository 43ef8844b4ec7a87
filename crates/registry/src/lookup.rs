//! Finding entries of a layout's `index.json` without going through all of them: as many images may be asked for as are
//! listed.

use std::collections::HashMap;

use manifest_schema::{Digest, DigestTag};

use crate::layout::Entry;

/// The positions of entries, by what they are asked for.
#[derive(Default)]
pub(crate) struct Lookup {
    by_name: HashMap<String, Vec<usize>>,
    by_digest: HashMap<Digest, Vec<usize>>,
    by_tag: HashMap<String, Vec<usize>>,
    /// By what `cosign save` says they belong to, and as what.
    saved: HashMap<(Digest, DigestTag), Vec<usize>>,
}

impl Lookup {
    pub(crate) fn of(entries: &[Entry]) -> Self {
        let mut lookup = Self::default();
        // The one document that all images of a reference are, as `cosign save` says; `None` if they are several.
        let mut images: HashMap<Option<&str>, Option<Digest>> = HashMap::new();
        for (at, entry) in entries.iter().enumerate() {
            let digest = entry.descriptor.digest;
            lookup.by_digest.entry(digest).or_default().push(at);
            for name in &entry.names {
                add(&mut lookup.by_name, name, at);
            }
            for tag in entry.tags() {
                add(&mut lookup.by_tag, tag, at);
            }
            if entry.is_cosign_image() {
                let one = images.entry(entry.image_ref.as_deref()).or_insert(Some(digest));
                *one = one.filter(|one| *one == digest);
            }
        }
        for (at, entry) in entries.iter().enumerate() {
            let Some(tag) = entry.cosign_tag() else { continue };
            if let Some(Some(image)) = images.get(&entry.image_ref.as_deref()) {
                lookup.saved.entry((*image, tag)).or_default().push(at);
            }
        }
        lookup
    }

    /// Those of this name.
    pub(crate) fn named(&self, name: &str) -> &[usize] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// Those that are this document.
    pub(crate) fn of_digest(&self, digest: &Digest) -> &[usize] {
        self.by_digest.get(digest).map_or(&[], Vec::as_slice)
    }

    /// Those of this tag, whether their names are full or not.
    pub(crate) fn tagged(&self, tag: &str) -> &[usize] {
        self.by_tag.get(tag).map_or(&[], Vec::as_slice)
    }

    /// Those that `cosign save` says were attached to an image, if all images of that reference are this document.
    pub(crate) fn saved(&self, image: &Digest, tag: DigestTag) -> &[usize] {
        self.saved.get(&(*image, tag)).map_or(&[], Vec::as_slice)
    }
}

/// Adds a position to those of a name; an entry may have the name twice.
fn add<'a>(to: &mut HashMap<String, Vec<usize>>, name: impl Into<std::borrow::Cow<'a, str>>, at: usize) {
    let positions = to.entry(name.into().into_owned()).or_default();
    if positions.last() != Some(&at) {
        positions.push(at);
    }
}

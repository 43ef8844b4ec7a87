//! OpenShift releases: a release image lists, in one of its layers, every image that the release consists of.

use std::collections::BTreeSet;

use blobs::VerifyingReader;
use console::Progress;
use manifest_schema::manifest::ReleaseList;
use manifest_schema::release::{IMAGE_REFERENCES, ImageReferences};
use manifest_schema::{Descriptor, Digest};
use registry::source::{Source, SourceRef};
use registry::{LayerSays, find_in_layer};

use crate::error::Error;
use crate::resolve::{Layers, ResolvedImage, Walk};

/// The images of a release, as its image manifests list them, each once. The layers that say so are put among what decides
/// on admission, so that the other side can see for itself what the release image vouches for.
///
/// # Errors
/// [`Error::NotARelease`] if an image manifest lists nothing; otherwise what failed.
pub(crate) fn members(
    walk: &mut Walk,
    image: &mut ResolvedImage,
    layers: &Layers,
    source: &dyn Source,
    progress: &Progress,
) -> Result<Vec<SourceRef>, Error> {
    let mut members = Vec::new();
    let mut seen = BTreeSet::new();
    for (manifest, layers) in layers {
        let (list, deciding) = list(image, manifest, layers, source)?;
        progress.say(format_args!(
            "{}: release {} with {} images",
            image.origin,
            list.name.escaped(),
            list.images.len()
        ));
        for component in list.images {
            if seen.insert(component.reference.clone()) {
                members.push(format!("docker://{}", component.reference).parse()?);
            }
        }
        for layer in &deciding {
            walk.admit(layer);
        }
        image.release.push(ReleaseList { manifest: *manifest, layers: deciding });
    }
    Ok(members)
}

/// What an image manifest lists, and its topmost layers from the one that says so.
fn list(
    image: &ResolvedImage,
    manifest: &Digest,
    layers: &[Descriptor],
    source: &dyn Source,
) -> Result<(ImageReferences, Vec<Digest>), Error> {
    let origin = || Box::new(image.origin.clone());
    for (at, layer) in layers.iter().enumerate().rev() {
        let content = VerifyingReader::new(source.blob(layer)?, layer.digest, layer.size);
        let says = find_in_layer(content, IMAGE_REFERENCES);
        match says.map_err(|source| Error::ReleaseLayer { origin: origin(), layer: layer.digest, source })? {
            LayerSays::Nothing => {}
            LayerSays::Removed => break,
            LayerSays::Content(bytes) => {
                let list =
                    ImageReferences::parse(&bytes).map_err(|source| Error::ReleaseList { origin: origin(), source })?;
                return Ok((list, layers[at..].iter().map(|l| l.digest).collect()));
            }
        }
    }
    Err(Error::NotARelease { origin: origin(), manifest: *manifest })
}

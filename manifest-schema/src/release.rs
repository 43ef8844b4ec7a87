//! What an OpenShift release consists of: the file `release-manifests/image-references` of its release image.

use serde::Deserialize;

use crate::limits::LIMITS;
use crate::reference::Reference;
use crate::text::{OutsideText, escape};

/// Where a release image keeps its list, relative to its root.
pub const IMAGE_REFERENCES: &str = "release-manifests/image-references";

/// The images that a release consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReferences {
    /// The release's own name, such as `4.14.1`.
    pub name: OutsideText,
    /// Its images, each with a digest, in the order listed.
    pub images: Vec<Component>,
}

/// One image of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// What it is called in the release, such as `cluster-version-operator`.
    pub name: OutsideText,
    /// Where it is; always with a digest.
    pub reference: Reference,
}

/// Why a list of a release's images is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageReferencesError {
    /// Too large.
    #[error("{IMAGE_REFERENCES} has {size} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Not an image stream.
    #[error("{IMAGE_REFERENCES} is not an ImageStream of image.openshift.io/v1: {}", escape(.0))]
    Shape(String),
    /// An image that is not named by its digest.
    #[error("{IMAGE_REFERENCES}: `{}` is not an image with a digest", escape(.0))]
    Unpinned(String),
}

/// The members that matter; there are others.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageStream {
    kind: String,
    api_version: String,
    #[serde(default)]
    metadata: Metadata,
    spec: Spec,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Spec {
    tags: Vec<TagSpec>,
}

#[derive(Deserialize)]
struct TagSpec {
    name: String,
    from: From,
}

#[derive(Deserialize)]
struct From {
    kind: String,
    name: String,
}

impl ImageReferences {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ImageReferencesError`]; among others, if an image is not named by its digest.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageReferencesError> {
        let size = bytes.len() as u64;
        if size > LIMITS.document {
            return Err(ImageReferencesError::TooLarge { size, limit: LIMITS.document });
        }
        let stream: ImageStream =
            serde_json::from_slice(bytes).map_err(|e| ImageReferencesError::Shape(e.to_string()))?;
        if stream.kind != "ImageStream" || stream.api_version != "image.openshift.io/v1" {
            return Err(ImageReferencesError::Shape(format!("it is a {} of {}", stream.kind, stream.api_version)));
        }
        if stream.spec.tags.is_empty() || stream.spec.tags.len() > LIMITS.children {
            let found = stream.spec.tags.len();
            return Err(ImageReferencesError::Shape(format!("{found} images; expected 1 to {}", LIMITS.children)));
        }
        let component = |tag: TagSpec| {
            let reference = Some(&tag.from).filter(|from| from.kind == "DockerImage");
            let reference = reference.and_then(|from| Reference::parse_normalized(&from.name).ok());
            match reference.filter(|r| r.digest().is_some()) {
                Some(reference) => Ok(Component { name: OutsideText::new(tag.name), reference }),
                None => Err(ImageReferencesError::Unpinned(tag.from.name)),
            }
        };
        let images = stream.spec.tags.into_iter().map(component).collect::<Result<_, _>>()?;
        Ok(Self { name: OutsideText::new(stream.metadata.name), images })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(kind: &str, from_kind: &str, image: &str) -> String {
        format!(
            r#"{{"kind":"{kind}","apiVersion":"image.openshift.io/v1","metadata":{{"name":"4.14.1","creationTimestamp":null}},
            "spec":{{"lookupPolicy":{{"local":false}},"tags":[{{"name":"cli","annotations":{{"a":"b"}},"from":{{"kind":"{from_kind}","name":"{image}"}}}}]}}}}"#
        )
    }

    #[test]
    fn a_release_lists_images_by_digest() {
        let image = format!("quay.io/openshift-release-dev/ocp-v4.0-art-dev@sha256:{}", "ab".repeat(32));
        let read = ImageReferences::parse(sample("ImageStream", "DockerImage", &image).as_bytes()).expect("a release");
        assert_eq!(read.name.raw(), "4.14.1");
        assert_eq!(read.images[0].reference.to_string(), image);
        for (text, why) in [
            (sample("Image", "DockerImage", &image), "it is a Image"),
            (sample("ImageStream", "ImageStreamTag", &image), "not an image with a digest"),
            (sample("ImageStream", "DockerImage", "quay.io/x/y:latest"), "not an image with a digest"),
            (sample("ImageStream", "DockerImage", "\\u001b[2J"), "\\u{1b}[2J` is not an image"),
            ("{}".into(), "missing field"),
            (r#"{"kind":"ImageStream","apiVersion":"image.openshift.io/v1","spec":{"tags":[]}}"#.into(), "0 images"),
        ] {
            let error = ImageReferences::parse(text.as_bytes()).expect_err(why).to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}

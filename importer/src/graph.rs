//! The documents of a bundle, checked against each other and against the manifest.
//!
//! A reader of documents can be lied to by whoever made them; here descriptor, media type and content must agree, every
//! blob must be one that an image needs, and a document must stand behind everything it refers to (so that pushing in the
//! bundle's order always finds the children there).

use std::collections::{BTreeSet, HashMap, HashSet};

use blobs::VerifiedBytes;
use manifest_schema::{
    Blob, Descriptor, Digest, Document, Image, LIMITS, Manifest, OutsideText, PlatformManifest, Section,
};

use crate::error::Error;

/// What each image of a bundle consists of.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<Digest, Node>,
    /// What the manifest lists as referrers.
    referrers: HashSet<Digest>,
}

#[derive(Debug)]
struct Node {
    children: Vec<(Digest, Option<manifest_schema::document::Platform>)>,
    /// Children of an index that the bundle leaves out.
    absent: bool,
    /// Configuration and layers.
    blobs: Vec<Digest>,
    is_index: bool,
    /// Whether it has layers of a file system.
    is_image: bool,
    /// Whether it could be run, as far as that can be told.
    may_run: bool,
    /// The document that it says it refers to.
    subject: Option<Digest>,
    /// What it is, for people, if it is listed as a referrer.
    kind: Option<OutsideText>,
    /// How many levels of indexes and manifests lie below it.
    depth: usize,
}

/// Everything below one image.
#[derive(Debug, Default)]
pub struct Closure {
    /// Indexes and image manifests, the image itself among them.
    pub documents: BTreeSet<Digest>,
    /// Documents of what refers to it.
    pub attached: BTreeSet<Digest>,
    /// Configurations and layers, of what refers to it too.
    pub blobs: BTreeSet<Digest>,
    /// Simple signatures, which no registry keeps as blobs.
    pub signatures: BTreeSet<Digest>,
    /// Image manifests in the index's order.
    pub platforms: Vec<PlatformManifest>,
    /// Entries of an index are left out.
    pub sparse: bool,
}

impl Graph {
    /// The graph of a manifest's documents, none of which has been seen yet.
    pub fn of(manifest: &Manifest) -> Self {
        let referrers = manifest.images.iter().flat_map(|i| &i.referrers).map(|r| r.digest).collect();
        Self { nodes: HashMap::new(), referrers }
    }

    /// Takes in the next document of the admission section.
    ///
    /// # Errors
    /// [`Error::Document`] or [`Error::Inconsistent`].
    pub fn add(&mut self, blob: &Blob, bytes: &VerifiedBytes, listed: &HashMap<Digest, &Blob>) -> Result<(), Error> {
        let document = Document::parse(bytes.bytes(), &blob.media_type)
            .map_err(|source| Error::Document { digest: blob.digest, source })?;
        let wrong = |reason: String| Error::Inconsistent { digest: blob.digest, reason };
        let is_index = blob.media_type.is_index();
        let (subject, kind) = (document.attached().subject, self.referrers.contains(&blob.digest));
        let kind = kind.then(|| OutsideText::new(signing::sigstore::EvidenceKind::of_document(&document).label()));
        let is_image = match &document {
            Document::Manifest { layers, .. } => layers.iter().any(|l| l.media_type.is_image_layer()),
            Document::Index { .. } => false,
        };
        let may_run = document.may_run();
        let (children, blobs) = (vec![], vec![]);
        let mut node = Node { children, absent: false, blobs, is_index, is_image, may_run, subject, kind, depth: 0 };
        match document {
            Document::Index { children, .. } => {
                for child in children {
                    let d = &child.descriptor;
                    match (self.nodes.get(&d.digest), listed.get(&d.digest)) {
                        (Some(below), Some(b)) => {
                            agrees(d, b).map_err(wrong)?;
                            if b.media_type != d.media_type {
                                return Err(wrong(format!(
                                    "{} is {}, listed as {}",
                                    d.digest, d.media_type, b.media_type
                                )));
                            }
                            node.depth = node.depth.max(below.depth + 1);
                            node.children.push((d.digest, child.platform));
                        }
                        (None, Some(_)) => return Err(wrong(format!("its entry {} stands behind it", d.digest))),
                        (_, None) => node.absent = true,
                    }
                }
                if node.depth > LIMITS.nesting {
                    return Err(wrong(format!("indexes are nested too deeply: at most {} levels", LIMITS.nesting)));
                }
            }
            Document::Manifest { config, layers, .. } => {
                for (d, section) in
                    std::iter::once((&config, Section::Admission)).chain(layers.iter().map(|l| (l, Section::Layers)))
                {
                    let Some(b) = listed.get(&d.digest) else {
                        return Err(wrong(format!("{} is not in the bundle", d.digest)));
                    };
                    agrees(d, b).map_err(wrong)?;
                    if b.media_type.is_document() {
                        return Err(wrong(format!("{} is both a blob and a {}", d.digest, b.media_type)));
                    }
                    if section == Section::Admission && b.section != Section::Admission {
                        return Err(wrong(format!("the configuration {} stands among the layers", d.digest)));
                    }
                    node.blobs.push(d.digest);
                }
            }
        }
        self.nodes.insert(blob.digest, node);
        Ok(())
    }

    /// Checks the images of the manifest, once every document was taken in.
    ///
    /// # Errors
    /// [`Error::Inconsistent`].
    pub fn check(&self, manifest: &Manifest) -> Result<(), Error> {
        let mut reached = BTreeSet::new();
        let mut references = 0;
        for image in &manifest.images {
            let closure = self.closure(image)?;
            let wrong = |reason: &str| Error::Inconsistent { digest: image.digest, reason: reason.into() };
            if closure.sparse != image.sparse {
                return Err(wrong("the manifest does not say truly whether entries of the index are left out"));
            }
            if closure.platforms != image.platforms {
                return Err(wrong("its platforms are not those that the manifest lists"));
            }
            references += closure.documents.len() + closure.attached.len() + closure.blobs.len();
            references += image.signatures.len() + image.referrers.len();
            if references > LIMITS.references {
                return Err(wrong("the images of the bundle refer to more documents and blobs than are accepted"));
            }
            reached.extend(closure.documents);
            reached.extend(closure.attached);
            reached.extend(closure.blobs);
            reached.extend(closure.signatures);
        }
        match manifest.blobs.iter().find(|b| !reached.contains(&b.digest)) {
            Some(b) => Err(Error::Inconsistent { digest: b.digest, reason: "no image of the bundle needs it".into() }),
            None => Ok(()),
        }
    }

    /// Everything below an image, and what is attached to it.
    ///
    /// # Errors
    /// [`Error::Inconsistent`] if the image is not among the documents, or something is attached to what is none of its
    /// documents.
    pub fn closure(&self, image: &Image) -> Result<Closure, Error> {
        let mut closure = Closure::default();
        self.walk(&image.digest, None, &mut closure)?;
        for signature in &image.signatures {
            if !closure.documents.contains(&signature.subject) {
                let reason = format!("it signs {}, which is no document of {}", signature.subject, image.origin);
                return Err(Error::Inconsistent { digest: signature.digest, reason });
            }
            closure.signatures.insert(signature.digest);
        }
        for referrer in &image.referrers {
            let wrong = |reason: String| Err(Error::Inconsistent { digest: referrer.digest, reason });
            let subject = &referrer.subject;
            if !closure.documents.contains(subject) && !closure.attached.contains(subject) {
                return wrong(format!(
                    "it is listed as a referrer of {subject}, which is no document of {}",
                    image.origin
                ));
            }
            let says = self.nodes.get(&referrer.digest).and_then(|node| node.subject);
            if referrer.tag.is_none() && says != Some(*subject) {
                return wrong(format!("it is listed as a referrer of {subject}, but does not refer to it"));
            }
            let mut below = Closure::default();
            self.walk(&referrer.digest, None, &mut below)?;
            if below.sparse {
                return wrong("it is a referrer of which entries are missing".into());
            }
            closure.attached.extend(below.documents.difference(&closure.documents));
            closure.blobs.extend(below.blobs);
        }
        Ok(closure)
    }

    /// The first of an image's attached documents that could be run, if there is one.
    pub fn attached_image(&self, closure: &Closure) -> Option<Digest> {
        closure.attached.iter().find(|d| self.nodes.get(d).is_some_and(|node| node.is_image)).copied()
    }

    /// Whether these are the topmost layers of an image manifest, in order.
    pub fn has_topmost(&self, manifest: &Digest, layers: &[Digest]) -> bool {
        // The first blob is the configuration.
        let all = self.nodes.get(manifest).filter(|node| !node.is_index).and_then(|node| node.blobs.get(1..));
        all.is_some_and(|all| !layers.is_empty() && all.ends_with(layers))
    }

    /// Whether an image manifest could be run.
    pub fn may_run(&self, manifest: &Digest) -> bool {
        self.nodes.get(manifest).is_none_or(|node| node.may_run)
    }

    /// The configuration of an image manifest.
    pub fn config(&self, manifest: &Digest) -> Option<Digest> {
        self.nodes.get(manifest).filter(|node| !node.is_index).and_then(|node| node.blobs.first()).copied()
    }

    /// What a document that is listed as a referrer is, for people.
    pub fn kind(&self, referrer: &Digest) -> Option<&OutsideText> {
        self.nodes.get(referrer)?.kind.as_ref()
    }

    fn walk(
        &self,
        digest: &Digest,
        platform: Option<manifest_schema::document::Platform>,
        closure: &mut Closure,
    ) -> Result<(), Error> {
        let node = self.nodes.get(digest).ok_or_else(|| Error::Inconsistent {
            digest: *digest,
            reason: "it is not among the bundle's documents".into(),
        })?;
        // A document can only refer to one before it, so there are no loops, and only to a bounded depth; one that is
        // reached twice counts once.
        if !closure.documents.insert(*digest) {
            return Ok(());
        }
        closure.sparse |= node.absent;
        closure.blobs.extend(&node.blobs);
        if !node.is_index {
            closure.platforms.push(PlatformManifest { platform, digest: *digest });
        }
        for (child, platform) in &node.children {
            self.walk(child, platform.clone(), closure)?;
        }
        Ok(())
    }
}

fn agrees(descriptor: &Descriptor, blob: &Blob) -> Result<(), String> {
    if descriptor.size == blob.size {
        Ok(())
    } else {
        Err(format!("{} has {} bytes, listed with {}", blob.digest, descriptor.size, blob.size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifest_schema::manifest::ManifestType;
    use manifest_schema::{BundleId, MediaType, OutsideText, Volumes};

    #[test]
    fn images_that_share_many_blobs_do_not_multiply_them_without_end() {
        let number = |n: u32| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&n.to_be_bytes());
            Digest::Sha256(bytes)
        };
        let document = number(u32::MAX);
        let blobs = (0..LIMITS.children as u32).map(number).collect();
        let node = Node {
            children: vec![],
            absent: false,
            blobs,
            is_index: false,
            is_image: true,
            may_run: true,
            subject: None,
            kind: None,
            depth: 0,
        };
        let graph = Graph { nodes: [(document, node)].into(), ..Graph::default() };
        let image = |n: usize| Image {
            asked: OutsideText::new("x"),
            origin: format!("r.example/x:{n}").parse().expect("a reference"),
            digest: document,
            media_type: MediaType::OCI_MANIFEST.parse().expect("a media type"),
            size: 1,
            platforms: vec![PlatformManifest { platform: None, digest: document }],
            sparse: false,
            signatures: vec![],
            referrers: vec![],
            release: vec![],
        };
        let manifest = |images: usize| Manifest {
            kind: ManifestType::V1,
            requires: vec![],
            bundle: BundleId::generate(),
            stream: "payments".parse().expect("a stream"),
            sequence: 1.try_into().expect("a sequence"),
            created: "2026-01-31T09:00:00Z".parse().expect("a time"),
            expires: None,
            tool: "test".parse().expect("a line"),
            labels: Default::default(),
            volumes: Volumes { count: 1, admission: 1 },
            base: None,
            images: (0..images).map(image).collect(),
            blobs: vec![],
            extensions: Default::default(),
        };
        assert!(graph.check(&manifest(2)).is_ok());
        let many = LIMITS.references / LIMITS.children + 1;
        let error = graph.check(&manifest(many)).expect_err("too many");
        assert!(error.to_string().contains("more documents and blobs than are accepted"), "{error}");
    }
}

//! A manifest does not contradict itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::digest::Digest;
use crate::limits::LIMITS;
use crate::manifest::{Blob, Image, Manifest, ManifestError, Section};
use crate::stored::Stored;

impl Manifest {
    pub(super) fn check(&self) -> Result<(), ManifestError> {
        let wrong = |text: String| Err(ManifestError::Inconsistent(text));
        if self.images.is_empty() || self.images.len() > LIMITS.images {
            return wrong(format!("{} images; expected 1 to {}", self.images.len(), LIMITS.images));
        }
        if self.blobs.len() > LIMITS.blobs {
            return wrong(format!("{} blobs; at most {} are accepted", self.blobs.len(), LIMITS.blobs));
        }
        if self.labels.len() > LIMITS.labels {
            return wrong(format!("{} labels; at most {} are accepted", self.labels.len(), LIMITS.labels));
        }
        if self.expires.is_some_and(|e| e <= self.created) {
            return wrong("it expires before it was created".into());
        }
        let v = self.volumes;
        if v.count == 0 || v.count > LIMITS.volumes || v.admission == 0 || v.admission > v.count {
            return wrong(format!("{} volumes, {} of them for admission", v.count, v.admission));
        }
        self.check_blobs()?;
        let blobs = self.blobs_by_digest();
        let mut origins = BTreeSet::new();
        for image in &self.images {
            if !origins.insert(&image.origin) {
                return wrong(format!("{} is listed twice", image.origin));
            }
            if image.origin.digest().is_some_and(|d| *d != image.digest) {
                return wrong(format!("{} is listed with {}", image.origin, image.digest));
            }
            if !image.media_type.is_document() {
                return wrong(format!("{}: media type {}", image.origin, image.media_type));
            }
            for digest in image.platforms.iter().map(|p| &p.digest).chain([&image.digest]) {
                match blobs.get(digest) {
                    Some(b) if b.section == Section::Admission && b.media_type.is_document() => {}
                    _ => return wrong(format!("{}: {digest} is not in the admission section", image.origin)),
                }
            }
            let blob = blobs[&image.digest];
            if blob.size != image.size || blob.media_type != image.media_type {
                return wrong(format!("{}: its blob has another size or media type", image.origin));
            }
            check_attachments(image, &blobs)?;
        }
        Ok(())
    }

    fn check_blobs(&self) -> Result<(), ManifestError> {
        let wrong = |text: String| Err(ManifestError::Inconsistent(text));
        let mut seen = BTreeSet::new();
        let mut total = 0_u64;
        // The last volume that something was in, and the last of them for the admission section.
        let (mut at, mut admission) = (1_u32, 1_u32);
        let mut in_layers = false;
        for blob in &self.blobs {
            let digest = blob.digest;
            if !seen.insert(digest) {
                return wrong(format!("{digest} is listed twice"));
            }
            if blob.size > LIMITS.blob {
                return wrong(format!("{digest}: {} bytes; at most {} are accepted", blob.size, LIMITS.blob));
            }
            total = total.saturating_add(blob.size);
            let admitted = blob.section == Section::Admission;
            if admitted && in_layers {
                return wrong(format!("{digest} is out of order"));
            }
            in_layers = !admitted;
            if !admitted && blob.media_type.is_document() {
                return wrong(format!("{digest}: a {} among the layers", blob.media_type));
            }
            if admitted && blob.media_type.is_document() && blob.size > LIMITS.document {
                return wrong(format!("{digest}: {} bytes of {}", blob.size, blob.media_type));
            }
            match &blob.stored {
                Stored::Base if admitted || self.base.is_none() => {
                    return wrong(format!("{digest} is left to a base, and must not be or there is none"));
                }
                Stored::Parts { sizes, .. }
                    if sizes.len() < 2
                        || sizes.contains(&0)
                        || sizes.iter().fold(0_u64, |sum, size| sum.saturating_add(*size)) != blob.size =>
                {
                    return wrong(format!("the parts of {digest} do not make {} bytes", blob.size));
                }
                Stored::Whole { .. } | Stored::Parts { .. } | Stored::Base => {}
            }
            for piece in blob.stored.pieces() {
                // Each volume but the first begins with something new, and none is left out.
                let new = piece.part.is_some_and(|part| part.number > 1);
                if piece.volume < at + u32::from(new) || piece.volume > at + 1 || piece.volume > self.volumes.count {
                    return wrong(format!("{digest} is out of order or in a volume that does not exist"));
                }
                at = piece.volume;
            }
            if admitted {
                admission = at;
            }
        }
        if at != self.volumes.count || admission != self.volumes.admission {
            let v = self.volumes;
            return wrong(format!(
                "{} volumes, {} of them for admission, where {at} and {admission} are used",
                v.count, v.admission
            ));
        }
        if let Some(base) =
            self.base.as_ref().filter(|base| base.stream != self.stream || base.sequence >= self.sequence)
        {
            return wrong(format!(
                "its base is {} {}, which is not before it in its stream",
                base.stream, base.sequence
            ));
        }
        if self.base.is_some() && !self.blobs.iter().any(|b| b.stored == Stored::Base) {
            return wrong("it has a base, and leaves nothing to it".into());
        }
        if total > LIMITS.total {
            return wrong(format!("{total} bytes in all; at most {} are accepted", LIMITS.total));
        }
        Ok(())
    }
}

/// Signatures and referrers: listed once, in the admission section, of something that is a document.
fn check_attachments(image: &Image, blobs: &HashMap<Digest, &Blob>) -> Result<(), ManifestError> {
    let wrong = |text: String| Err(ManifestError::Inconsistent(format!("{}: {text}", image.origin)));
    let count = image.signatures.len() + image.referrers.len() + image.release.len();
    if count > LIMITS.attachments {
        return wrong(format!("{count} signatures and referrers; at most {} are accepted", LIMITS.attachments));
    }
    let admitted = |digest: &Digest| blobs.get(digest).filter(|b| b.section == Section::Admission);
    let is_document = |digest: &Digest| admitted(digest).is_some_and(|b| b.media_type.is_document());
    let (mut seen, mut subjects) = (BTreeSet::new(), BTreeMap::<_, usize>::new());
    for signature in &image.signatures {
        let digest = &signature.digest;
        match admitted(digest) {
            Some(b) if b.media_type.is_simple_signature() && b.size <= LIMITS.signature => {}
            _ => return wrong(format!("{digest} is not a simple signature of the admission section")),
        }
        if !is_document(&signature.subject) {
            return wrong(format!("{digest} signs {}, which is no document of the bundle", signature.subject));
        }
        if !seen.insert((signature.subject, *digest)) {
            return wrong(format!("the signature {digest} is listed twice"));
        }
        let of_subject = subjects.entry(signature.subject).or_default();
        *of_subject += 1;
        if *of_subject > LIMITS.lookaside_signatures {
            let limit = LIMITS.lookaside_signatures;
            return wrong(format!("{} has more than {limit} signatures", signature.subject));
        }
    }
    let mut seen = BTreeSet::new();
    for list in &image.release {
        if !seen.insert(list.manifest) {
            return wrong(format!("the release list of {} is listed twice", list.manifest));
        }
        if !image.platforms.iter().any(|p| p.digest == list.manifest) || list.layers.is_empty() {
            return wrong(format!("{} is not one of its image manifests, or has no layers", list.manifest));
        }
        if let Some(missing) = list.layers.iter().find(|layer| admitted(layer).is_none()) {
            return wrong(format!("the layer {missing} is not in the admission section"));
        }
    }
    let (mut seen, mut tags) = (BTreeSet::new(), BTreeSet::new());
    for referrer in &image.referrers {
        let digest = &referrer.digest;
        if !is_document(digest) || !is_document(&referrer.subject) || *digest == referrer.subject {
            return wrong(format!("{digest}, which refers to {}, is not in the admission section", referrer.subject));
        }
        if !seen.insert(referrer) {
            return wrong(format!("the referrer {digest} is listed twice"));
        }
        if let Some(tag) = referrer.tag
            && !tags.insert((referrer.subject, tag))
        {
            return wrong(format!(
                "two documents are listed under the tag `.{}` of {}",
                tag.suffix(),
                referrer.subject
            ));
        }
    }
    Ok(())
}

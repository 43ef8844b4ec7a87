//! The documents of a bundle, image manifests and indexes, as they stand in its admission section.

use std::io::Read;

use blobs::{VerifiedBytes, VerifyingReader, threads};
use bundle::Range;
use manifest_schema::{Blob, Document, LIMITS};

use crate::authenticate::Authenticated;
use crate::error::Error;
use crate::evidence::Evidence;
use crate::graph::Graph;
use crate::media::{Media, is_kept};
use crate::reading::{Stop, read_blobs};

/// Every document of the admission section, checked; and what the images are to be judged by.
pub fn read<'s>(bundle: &Authenticated<'s>) -> Result<(Graph, Evidence<'s>), Error> {
    bundle.media.reading(|| read_once(bundle))
}

fn read_once<'s>(bundle: &Authenticated<'s>) -> Result<(Graph, Evidence<'s>), Error> {
    let manifest = bundle.manifest.get();
    let listed = manifest.blobs_by_digest();
    let (mut graph, mut evidence) = (Graph::of(manifest), Evidence::of(manifest, bundle.rules));
    let all = manifest.blobs.iter().filter(|b| b.media_type.is_document()).map(|b| b.size).sum::<u64>();
    let mut held = (all <= LIMITS.held_documents).then(Vec::new);
    for_each_admitted(bundle, Evidence::wants, |blob, bytes| {
        if blob.media_type.is_document() {
            graph.add(blob, &bytes, &listed)?;
            if let Some(held) = &mut held {
                held.push(bytes.clone());
            }
        }
        evidence.take(blob, bytes)
    })?;
    graph.check(manifest)?;
    if let Some(held) = held {
        let _ = bundle.documents.set(held);
    }
    Ok((graph, evidence))
}

/// Hands on the indexes and image manifests of the admission section in order, checked against their digests.
pub fn for_each_document(
    bundle: &Authenticated<'_>,
    mut act: impl FnMut(&Blob, &VerifiedBytes) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(held) = bundle.documents.get() else {
        let is_document = |blob: &Blob| blob.media_type.is_document();
        return bundle.media.reading(|| for_each_admitted(bundle, is_document, |blob, bytes| act(blob, &bytes)));
    };
    let blobs = bundle.manifest.get().blobs_by_digest();
    for document in held {
        if let Some(blob) = blobs.get(document.digest()) {
            act(blob, document)?;
        }
    }
    Ok(())
}

/// Hands on what is kept of a bundle that is to wait, checked.
pub(crate) fn for_each_kept(
    bundle: &Authenticated<'_>,
    mut act: impl FnMut(&Blob, &VerifiedBytes) -> Result<(), Error>,
) -> Result<(), Error> {
    bundle.media.reading(|| for_each_admitted(bundle, is_kept, |blob, bytes| act(blob, &bytes)))
}

/// Documents that wait to be handed on together: at most so many, and so many bytes.
const TOGETHER: usize = 256;
const TOGETHER_BYTES: u64 = 8 << 20;

/// As [`for_each_document`], several at once. What a document refers to still comes before it.
pub(crate) fn for_each_document_at_once(
    bundle: &Authenticated<'_>,
    jobs: usize,
    act: impl Fn(&Blob, &VerifiedBytes) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let listed = bundle.manifest.get().blobs_by_digest();
    let mut waiting: Vec<VerifiedBytes> = Vec::new();
    let mut bytes = 0;
    let hand_on = |waiting: &mut Vec<VerifiedBytes>| {
        let all = std::mem::take(waiting);
        for (level, jobs) in [(Level::Manifest, jobs), (Level::Index, jobs), (Level::IndexOfIndexes, 1)] {
            let of_level = |document: &&VerifiedBytes| {
                listed.get(document.digest()).is_some_and(|blob| Level::of(blob, document) == level)
            };
            let documents: Vec<_> = all.iter().filter(of_level).collect();
            threads::for_each(jobs, documents, |document| act(listed[document.digest()], document))?;
        }
        Ok::<_, Error>(())
    };
    for_each_document(bundle, |blob, document| {
        waiting.push(document.clone());
        bytes += blob.size;
        if waiting.len() >= TOGETHER || bytes >= TOGETHER_BYTES {
            bytes = 0;
            hand_on(&mut waiting)?;
        }
        Ok(())
    })?;
    hand_on(&mut waiting)
}

/// What a document can refer to.
#[derive(PartialEq, Eq)]
enum Level {
    Manifest,
    Index,
    /// It may refer to another of its kind, and has to wait for its turn.
    IndexOfIndexes,
}

impl Level {
    fn of(blob: &Blob, document: &VerifiedBytes) -> Self {
        if !blob.media_type.is_index() {
            return Self::Manifest;
        }
        match Document::parse(document.bytes(), &blob.media_type) {
            Ok(Document::Index { children, .. })
                if !children.iter().any(|child| child.descriptor.media_type.is_index()) =>
            {
                Self::Index
            }
            _ => Self::IndexOfIndexes,
        }
    }
}

/// Reads the admission section, and hands on the blobs that are wanted, in order, checked against their digests.
pub(crate) fn for_each_admitted(
    bundle: &Authenticated<'_>,
    wanted: impl Fn(&Blob) -> bool,
    mut act: impl FnMut(&Blob, VerifiedBytes) -> Result<(), Error>,
) -> Result<(), Error> {
    each_admitted(bundle, |blob, content| {
        if !wanted(blob) {
            return Ok(());
        }
        let bytes = VerifiedBytes::read(content, blob.digest, blob.size).map_err(Stop::Content)?;
        act(blob, bytes).map_err(|e| Stop::Ours(Box::new(e)))
    })
}

/// Reads the admission section, and shows every blob as it streams by; what is not read of it is read past. All of it is
/// checked against its digest.
pub(crate) fn each_admitted(
    bundle: &Authenticated<'_>,
    mut look: impl FnMut(&Blob, &mut dyn Read) -> Result<(), Stop>,
) -> Result<(), Error> {
    if let Media::Staged(staged) = &bundle.media {
        return staged.each_admitted(bundle.manifest.get(), look);
    }
    read_blobs(bundle, Range::Admission, false, |content| {
        let blob = content.blob();
        let mut content = VerifyingReader::new(content, blob.digest, blob.size);
        look(blob, &mut content)?;
        content.finish().map(|_| ()).map_err(Stop::Content)
    })
    .map(|_| ())
}

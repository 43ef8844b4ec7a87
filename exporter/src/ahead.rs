//! Answers of registries that are fetched ahead, so that several images are resolved at once.
//!
//! Images are resolved one after the other, so that the manifest and what is said depend on nothing but the answers. Before
//! that, for a number of images, the same walk is done on several threads for its questions only: what it makes of the
//! answers is thrown away, its errors too. The walk that counts then finds the answers here. An error is no answer, so
//! the walk that counts asks again, and fails by itself.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blobs::{VerifiedBytes, threads};
use commands::settings::SmallFiles;
use manifest_schema::{Descriptor, Digest, DigestTag, MediaType, Reference, Repository};
use registry::source::{Resolved, Source, SourceError, SourceRef, Sources};
use registry::{FoundReferrer, Registries};
use signing::FetchSmall;

use crate::attached::{self, Carry};
use crate::request::Request;
use crate::resolve::{Context, ResolvedImage, Talk, Walk};

/// Bytes of answers that are remembered at a time; others are asked for again.
const ROOM: usize = 32 << 20;
/// What an answer takes besides the bytes in it.
const ENTRY: usize = 1 << 10;

/// Answers, each fetched once however many ask.
pub(crate) struct Answers {
    resolved: Known<Reference, Resolved>,
    documents: Known<(Repository, Digest, u64), VerifiedBytes>,
    referrers: Known<(Repository, Digest), Vec<FoundReferrer>>,
    tags: Known<(Repository, Digest, DigestTag), Option<(MediaType, VerifiedBytes)>>,
    signatures: Known<(Repository, Digest), Vec<Vec<u8>>>,
    files: Known<(String, u64), Option<Vec<u8>>>,
    /// Bytes that may still be remembered.
    room: AtomicUsize,
}

impl Default for Answers {
    fn default() -> Self {
        Self::with_room(ROOM)
    }
}

impl Answers {
    fn with_room(bytes: usize) -> Self {
        Self {
            resolved: Known::default(),
            documents: Known::default(),
            referrers: Known::default(),
            tags: Known::default(),
            signatures: Known::default(),
            files: Known::default(),
            room: AtomicUsize::new(bytes),
        }
    }

    /// Takes room for an answer, if there is enough.
    fn takes(&self, bytes: usize) -> bool {
        let taken =
            self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes + ENTRY));
        if taken.is_err() {
            // A smaller one might fit, but is not worth another round of questions.
            self.room.store(0, Ordering::Relaxed);
        }
        taken.is_ok()
    }

    fn is_full(&self) -> bool {
        self.room.load(Ordering::Relaxed) == 0
    }
}

/// Answers to questions of one kind.
struct Known<K, V>(Mutex<HashMap<K, Slot<V>>>);

/// One answer. Whoever asks holds it, so that others wait for the answer instead of asking too.
type Slot<V> = Arc<Mutex<Option<V>>>;

impl<K, V> Default for Known<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Known<K, V> {
    fn get<E>(
        &self,
        of: &Answers,
        key: K,
        size: impl Fn(&V) -> usize,
        ask: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        let slot = lock(&self.0).entry(key).or_default().clone();
        let mut slot = lock(&slot);
        if let Some(answer) = &*slot {
            return Ok(answer.clone());
        }
        let answer = ask()?;
        if of.takes(size(&answer)) {
            *slot = Some(answer.clone());
        }
        Ok(answer)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An image of a registry whose answers are remembered.
pub(crate) struct Remembered<'a> {
    pub(crate) source: &'a dyn Source,
    pub(crate) reference: &'a Reference,
    pub(crate) answers: &'a Answers,
}

impl Remembered<'_> {
    fn repository(&self) -> Repository {
        self.reference.repository().clone()
    }
}

impl Source for Remembered<'_> {
    fn resolve(&self) -> Result<Resolved, SourceError> {
        let size = |resolved: &Resolved| resolved.document.bytes().len();
        self.answers.resolved.get(self.answers, self.reference.clone(), size, || self.source.resolve())
    }

    fn document(&self, digest: &Digest, size: u64) -> Result<VerifiedBytes, SourceError> {
        let key = (self.repository(), *digest, size);
        let ask = || self.source.document(digest, size);
        self.answers.documents.get(self.answers, key, |document| document.bytes().len(), ask)
    }

    fn blob(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        self.source.blob(blob)
    }

    fn referrers(&self, subject: &Digest) -> Result<Vec<FoundReferrer>, SourceError> {
        let key = (self.repository(), *subject);
        self.answers.referrers.get(self.answers, key, |list| list.len() * ENTRY, || self.source.referrers(subject))
    }

    fn digest_tag(&self, subject: &Digest, tag: DigestTag) -> Result<Option<(MediaType, VerifiedBytes)>, SourceError> {
        let key = (self.repository(), *subject, tag);
        let size = |named: &Option<(MediaType, VerifiedBytes)>| named.as_ref().map_or(0, |(_, d)| d.bytes().len());
        self.answers.tags.get(self.answers, key, size, || self.source.digest_tag(subject, tag))
    }

    fn simple_signatures(&self, manifest: &Digest) -> Result<Vec<Vec<u8>>, SourceError> {
        let key = (self.repository(), *manifest);
        let size = |signatures: &Vec<Vec<u8>>| signatures.iter().map(Vec::len).sum();
        self.answers.signatures.get(self.answers, key, size, || self.source.simple_signatures(manifest))
    }
}

/// Signature files that are remembered.
pub(crate) struct RememberedFiles<'a> {
    pub(crate) registries: &'a Registries,
    pub(crate) answers: &'a Answers,
}

impl FetchSmall for RememberedFiles<'_> {
    type Error = registry::Error;
    fn fetch(&self, url: &str, limit: u64) -> Result<Option<Vec<u8>>, registry::Error> {
        let size = |file: &Option<Vec<u8>>| file.as_ref().map_or(0, Vec::len);
        let ask = || SmallFiles(self.registries).fetch(url, limit);
        self.answers.files.get(self.answers, (url.into(), limit), size, ask)
    }
}

/// Asks what resolving these images of registries will ask, on as many threads as the request says.
pub(crate) fn fetch(request: &Request, carry: &Carry<'_>, answers: &Answers, places: &Sources, images: &[&SourceRef]) {
    let images: Vec<_> = images.iter().filter_map(|image| Some((*image, image.reference()?))).collect();
    if request.jobs < 2 || images.is_empty() {
        return;
    }
    let context = Context { request, carry: carry.found_only(), talk: Talk::nowhere(), answers };
    let walked: Mutex<Vec<(usize, ResolvedImage)>> = Mutex::default();
    // Nothing is begun after an error or without room: the walk that counts will end there, or asks for itself.
    let _ = threads::for_each(request.jobs, images.iter().enumerate(), |(at, (image, reference))| {
        if answers.is_full() {
            return Err(());
        }
        let source = places.open(image).map_err(drop)?;
        let source = Remembered { source: source.as_ref(), reference, answers };
        let (image, _) = Walk::thrown_away().image(&context, image.to_string(), &source, at).map_err(drop)?;
        lock(&walked).push((at, image));
        Ok(())
    });
    let mut walked = walked.into_inner().unwrap_or_else(PoisonError::into_inner);
    walked.sort_unstable_by_key(|(at, _)| *at);
    // Each document of an image by itself: an index has many.
    let documents = walked.iter().flat_map(|(at, image)| image.documents.iter().map(move |d| (*at, image, *d)));
    let documents: Vec<_> = documents.collect();
    let _ = threads::for_each(request.jobs, documents, |(at, image, document)| {
        let Some((asked, reference)) = images.get(at).filter(|_| !answers.is_full()) else { return Err(()) };
        let source = places.open(asked).map_err(drop)?;
        let source = Remembered { source: source.as_ref(), reference, answers };
        let mut image = image.with_documents(vec![document]);
        attached::collect(&mut Walk::thrown_away(), &mut image, asked, &source, &context).map_err(drop)
    });
}

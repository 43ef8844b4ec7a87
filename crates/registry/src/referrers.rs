//! Documents that refer to another one: OCI referrers (distribution specification 1.1, "Listing Referrers" and "Referrers
//! Tag Schema") and the tags that cosign gives signatures, attestations and SBOMs.
//!
//! A list says what it likes. It is read with limits, and an entry counts only once its document has been fetched and
//! names the subject, which is up to the caller.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use blobs::{Hasher, VerifiedBytes};
use manifest_schema::document::Attached;
use manifest_schema::{Descriptor, Digest, DigestTag, Document, LIMITS, MediaType, OutsideText, Tag, referrers_tag};
use oci_spec::image as oci;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use ureq::http::Method;
use ureq::http::header::{ACCEPT, CONTENT_TYPE, LINK};

use crate::client::{FetchedDocument, RepositoryClient};
use crate::error::Error;
use crate::host::Action;
use crate::link::next_page;
use crate::retry::Backoff;
use crate::transport::Request;

/// How often a list is changed before other writers have won.
const ATTEMPTS: u32 = 5;
/// How long another writer has for a change of its own.
const PAUSE: Duration = Duration::from_millis(200);

/// A document that is said to refer to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundReferrer {
    /// The document.
    pub descriptor: Descriptor,
    /// What kind of artifact the list says it is. Some registries say something else than the document.
    pub artifact_type: Option<OutsideText>,
}

impl RepositoryClient {
    /// What the registry lists as referring to a document, by its referrers API or, where it has none, by the tag schema;
    /// each once, in the order listed. Nobody has checked the claims: whoever fetches a document looks at its `subject`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if what is listed is no index; [`Error::TooMany`] over
    /// [`LIMITS.referrers`](manifest_schema::Limits::referrers); anything but an answer.
    pub fn list_referrers(&self, subject: &Digest) -> Result<Vec<FoundReferrer>, Error> {
        let (what, pages) = match self.fetch_referrers(subject)? {
            Some(pages) => (format!("{}@{subject}: referrers", self.repository()), pages),
            None => {
                let tag = referrers_tag(subject);
                // Some mirrors (oc-mirror) tag an image with its own digest. That is no list.
                let named = self.fetch_tag_if_there(&tag)?.filter(|named| !is(&named.document, subject));
                let listed = named.map(|named| self.list_under(&tag, named)).transpose()?;
                (format!("{}:{tag}", self.repository()), listed.into_iter().collect())
            }
        };
        let mut found = Referrers::default();
        for page in &pages {
            found.add(page.bytes()).map_err(|fault| fault.into_error(&what, self.repository().registry()))?;
        }
        Ok(found.list)
    }

    /// What the registry's referrers API lists: the pages of an OCI index, whose claims nobody has checked. `None` if the
    /// registry has no such API ("Listing Referrers"). Where its absence has shown, as a page that is not there at all
    /// rather than in the registry's own words, the repository and those beside it are not asked again.
    ///
    /// # Errors
    /// Anything but an answer; [`Error::TooLarge`] if the list does not end; [`Error::Malformed`] if its pages lead in a
    /// circle, or if it is not clear whether there are more.
    pub fn fetch_referrers(&self, subject: &Digest) -> Result<Option<Vec<VerifiedBytes>>, Error> {
        if self.host().lacks_referrers(self.repository(), subject.algorithm()) {
            return Ok(None);
        }
        let what = format!("{}@{subject}: referrers", self.repository());
        let mut url = self.url(&what, &format!("referrers/{subject}"))?;
        let mut pages = Vec::new();
        let mut left = LIMITS.document;
        let mut asked = HashSet::from([url.to_string()]);
        loop {
            let request = Request::new(Method::GET, url, &what).header(ACCEPT, MediaType::OCI_INDEX);
            let answer = self.host().send(self.access(Action::Pull), request)?;
            let media_type = answer.header(CONTENT_TYPE).unwrap_or_default();
            let is_index = media_type.split(';').next().is_some_and(|m| m.trim() == MediaType::OCI_INDEX);
            match answer.status {
                200 if is_index => {}
                404 if pages.is_empty() => {
                    if answer.bytes(&what, LIMITS.registry_answer).is_ok_and(|body| is_no_page(&body)) {
                        self.host().has_no_referrers(self.repository(), subject.algorithm());
                    }
                    return Ok(None);
                }
                200 | 400 | 405 | 406 if pages.is_empty() => {
                    answer.discard();
                    return Ok(None);
                }
                200 => return Err(answer.malformed(&what, format!("a page is of type `{media_type}`"))),
                _ => return Err(answer.into_error(&what)),
            }
            let next =
                next_page(&answer.texts(LINK)).map_err(|fault| answer.malformed(&what, format!("Link: {fault}")))?;
            let next = next.map(|next| self.host().transport().step(&answer.url, &next, &what, false)).transpose()?;
            if let Some(next) = next.as_ref().filter(|next| !asked.insert(next.to_string())) {
                return Err(answer.malformed(&what, format!("its pages lead in a circle, back to {next}")));
            }
            let page = answer.bytes(&what, left)?;
            // An empty page counts too.
            left = left.saturating_sub(page.len().max(1024) as u64);
            pages.push(VerifiedBytes::of(page));
            match next {
                Some(next) if left > 0 => url = next,
                Some(_) => return Err(Error::TooLarge { what, limit: LIMITS.document }),
                None => return Ok(Some(pages)),
            }
        }
    }

    /// What a digest tag of cosign names, such as `sha256-<hex>.sig`; `None` if there is no such tag.
    ///
    /// # Errors
    /// As [`RepositoryClient::fetch_tag`].
    pub fn fetch_digest_tag(&self, subject: &Digest, kind: DigestTag) -> Result<Option<FetchedDocument>, Error> {
        match kind.for_subject(subject) {
            Some(tag) => self.fetch_tag_if_there(&tag),
            None => Ok(None),
        }
    }

    /// Adds a document to the list that the tag schema keeps of what refers to its subject, where the registry did not say
    /// that it does so itself ([`PushedDocument::subject`](crate::PushedDocument::subject); "Pushing Manifests with
    /// Subject"). The document must be there already. What is listed stays; a document that is listed is not listed again.
    ///
    /// The list is read again afterwards. Two writers of this process wait for one another; another program may be faster,
    /// and then the change is made anew, a few times. The specification has nothing that would exclude each loss.
    ///
    /// # Errors
    /// [`Error::Subject`] if the document refers to something else; [`Error::Malformed`] if the tag names something that
    /// is no such list; [`Error::Contended`]; [`Error::TooMany`] and [`Error::TooLarge`] if it were too long then.
    pub fn add_referrer_to_tag(
        &self,
        subject: &Digest,
        referrer: &VerifiedBytes,
        media_type: &MediaType,
    ) -> Result<(), Error> {
        let digest = referrer.digest();
        let what = format!("{}@{digest}", self.repository());
        let about = About::read(referrer.bytes(), media_type).map_err(|reason| self.malformed(&what, reason))?;
        if about.subject != Some(*subject) {
            return Err(Error::Subject { what, subject: Box::new(*subject) });
        }
        let tag = referrers_tag(subject);
        let entry = about.entry(referrer, media_type);
        let what = format!("{}:{tag}", self.repository());

        let lock = Lock::of(&what);
        let _held = lock.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut backoff = Backoff::new(ATTEMPTS);
        loop {
            let present = self.fetch_list(&tag, subject)?;
            let present = present.as_ref().map(VerifiedBytes::bytes);
            if present.is_some_and(|list| lists(list, digest)) {
                return Ok(());
            }
            let list = with_entry(present, &entry).map_err(|fault| fault.into_error(&what, self.server()))?;
            match self.push_tag(&tag, &VerifiedBytes::of(list), &index_type(&what, self.server())?) {
                // Another writer's list is there already, or the own one: the next look says which.
                Ok(()) | Err(Error::Digest { .. }) => {}
                Err(error) => return Err(error),
            }
            if self.fetch_list(&tag, subject)?.is_some_and(|list| lists(list.bytes(), digest)) {
                return Ok(());
            }
            if !backoff.wait(Some(PAUSE)) {
                return Err(Error::Contended { what, attempts: ATTEMPTS });
            }
        }
    }

    /// The list for a subject that its tag names, `None` if there is no such tag.
    fn fetch_list(&self, tag: &Tag, subject: &Digest) -> Result<Option<VerifiedBytes>, Error> {
        match self.fetch_tag_if_there(tag)? {
            Some(named) if is(&named.document, subject) => {
                let reason = format!("the tag is for a list of referrers and names the image itself, {subject}");
                Err(self.malformed(&format!("{}:{tag}", self.repository()), reason))
            }
            Some(named) => self.list_under(tag, named).map(Some),
            None => Ok(None),
        }
    }

    /// The list that a tag of the tag schema names.
    fn list_under(&self, tag: &Tag, named: FetchedDocument) -> Result<VerifiedBytes, Error> {
        let what = format!("{}:{tag}", self.repository());
        if named.media_type.as_str() != MediaType::OCI_INDEX {
            let reason = format!(
                "the tag is for a list of referrers (an OCI index) and names a document of type {}",
                named.media_type
            );
            return Err(self.malformed(&what, reason));
        }
        Referrers::default().add(named.document.bytes()).map_err(|fault| fault.into_error(&what, self.server()))?;
        Ok(named.document)
    }

    fn fetch_tag_if_there(&self, tag: &Tag) -> Result<Option<FetchedDocument>, Error> {
        match self.fetch_tag(tag) {
            Ok(found) => Ok(Some(found)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn server(&self) -> &str {
        self.repository().registry()
    }

    fn malformed(&self, what: &str, reason: String) -> Error {
        Fault::NoList(reason).into_error(what, self.server())
    }
}

/// Why a list is refused.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is no list.
    NoList(String),
    /// It lists more than [`LIMITS.referrers`](manifest_schema::Limits::referrers).
    TooMany,
    /// It would be too large.
    TooLarge,
}

impl Fault {
    fn into_error(self, what: &str, server: &str) -> Error {
        let what = what.to_string();
        match self {
            Fault::NoList(reason) => Error::Malformed { what, server: server.into(), reason: OutsideText::new(reason) },
            Fault::TooMany => Error::TooMany { what, limit: LIMITS.referrers },
            Fault::TooLarge => Error::TooLarge { what, limit: LIMITS.document },
        }
    }
}

/// What has been listed, each once.
#[derive(Default)]
pub(crate) struct Referrers {
    pub(crate) list: Vec<FoundReferrer>,
    positions: HashMap<Digest, usize>,
}

impl Referrers {
    /// Adds what an OCI index lists.
    pub(crate) fn add(&mut self, index: &[u8]) -> Result<(), Fault> {
        let no_list = |reason: String| Fault::NoList(reason);
        let media_type: MediaType = MediaType::OCI_INDEX.parse().map_err(|e| no_list(format!("{e}")))?;
        let document = Document::parse(index, &media_type).map_err(|e| no_list(e.to_string()))?;
        let raw: oci::ImageIndex = serde_json::from_slice(index).map_err(|e| no_list(e.to_string()))?;
        for (child, raw) in document.children().iter().zip(raw.manifests()) {
            let artifact_type = raw.artifact_type().as_ref().map(|t| OutsideText::new(t.to_string()));
            self.push(FoundReferrer { descriptor: child.descriptor.clone(), artifact_type })?;
        }
        Ok(())
    }

    /// Adds one, if it is not listed.
    pub(crate) fn push(&mut self, found: FoundReferrer) -> Result<(), Fault> {
        let digest = found.descriptor.digest;
        if let Some(listed) = self.positions.get(&digest).and_then(|at| self.list.get(*at)) {
            let (one, other) = (&listed.descriptor, &found.descriptor);
            if (&one.media_type, one.size) != (&other.media_type, other.size) {
                return Err(Fault::NoList(format!("it lists {digest} twice, with another size or media type")));
            }
            return Ok(());
        }
        if self.list.len() >= LIMITS.referrers {
            return Err(Fault::TooMany);
        }
        self.positions.insert(digest, self.list.len());
        self.list.push(found);
        Ok(())
    }
}

/// What a document says of itself that a list of referrers repeats.
pub(crate) struct About {
    pub(crate) subject: Option<Digest>,
    pub(crate) artifact_type: Option<OutsideText>,
    annotations: BTreeMap<String, String>,
}

impl About {
    /// Reads an index or image manifest.
    pub(crate) fn read(bytes: &[u8], media_type: &MediaType) -> Result<Self, String> {
        let document = Document::parse(bytes, media_type).map_err(|e| e.to_string())?;
        let annotations = if media_type.is_index() {
            serde_json::from_slice::<oci::ImageIndex>(bytes).map(|index| index.annotations().clone())
        } else {
            serde_json::from_slice::<oci::ImageManifest>(bytes).map(|manifest| manifest.annotations().clone())
        };
        let annotations = annotations.map_err(|e| e.to_string())?.unwrap_or_default().into_iter().collect();
        let Attached { subject, artifact_type, .. } = document.attached().clone();
        Ok(Self { subject, artifact_type, annotations })
    }

    /// The entry of a list.
    fn entry(&self, document: &VerifiedBytes, media_type: &MediaType) -> Value {
        let mut entry = json!({
            "mediaType": media_type.as_str(),
            "digest": document.digest().to_string(),
            "size": document.bytes().len(),
        });
        if let Some(artifact_type) = &self.artifact_type {
            entry["artifactType"] = json!(artifact_type.raw());
        }
        if !self.annotations.is_empty() {
            entry["annotations"] = json!(self.annotations);
        }
        entry
    }
}

/// Whether the body of a 404 is what servers say for a path that leads nowhere. A registry that has the API answers in
/// JSON, whatever it does not know.
fn is_no_page(body: &[u8]) -> bool {
    !body.is_empty() && serde_json::from_slice::<IgnoredAny>(body).is_err()
}

/// Whether a document has this digest, by whichever algorithm.
fn is(document: &VerifiedBytes, digest: &Digest) -> bool {
    let mut hasher = Hasher::new(digest.algorithm());
    hasher.update(document.bytes());
    hasher.finish() == *digest
}

fn lists(index: &[u8], digest: &Digest) -> bool {
    let mut listed = Referrers::default();
    listed.add(index).is_ok() && listed.positions.contains_key(digest)
}

/// The list with one more entry; what is in it stays as it is.
fn with_entry(index: Option<&[u8]>, entry: &Value) -> Result<Vec<u8>, Fault> {
    let no_list = |reason: String| Fault::NoList(reason);
    let mut list = match index {
        Some(bytes) => serde_json::from_slice(bytes).map_err(|e| no_list(e.to_string()))?,
        None => json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [] }),
    };
    let entries = list.get_mut("manifests").and_then(Value::as_array_mut);
    let entries = entries.ok_or_else(|| no_list("`manifests` is missing".into()))?;
    entries.push(entry.clone());
    let bytes = serde_json::to_vec(&list).map_err(|e| no_list(e.to_string()))?;
    if bytes.len() as u64 > LIMITS.document {
        return Err(Fault::TooLarge);
    }
    Referrers::default().add(&bytes)?;
    Ok(bytes)
}

fn index_type(what: &str, server: &str) -> Result<MediaType, Error> {
    MediaType::OCI_INDEX.parse().map_err(|e| Fault::NoList(format!("{e}")).into_error(what, server))
}

type Locks = Mutex<HashMap<String, Arc<Mutex<()>>>>;

/// The lock of one list, for all of this process.
struct Lock(Arc<Mutex<()>>, String);

impl Lock {
    fn of(list: &str) -> Self {
        let mut locks = Self::all().lock().unwrap_or_else(PoisonError::into_inner);
        Self(locks.entry(list.into()).or_default().clone(), list.into())
    }

    fn all() -> &'static Locks {
        static LOCKS: OnceLock<Locks> = OnceLock::new();
        LOCKS.get_or_init(Locks::default)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut locks = Self::all().lock().unwrap_or_else(PoisonError::into_inner);
        // Those who wait hold a copy each.
        if Arc::strong_count(&self.0) == 2 {
            locks.remove(&self.1);
        }
    }
}

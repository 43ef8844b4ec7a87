//! Whether each image may enter, judged by the stream's image policy, and what was found of everything attached to it.
//!
//! The policy is judged over *origin* references: what the sender calls an image is a claim until one of its signatures
//! says the same. Without a policy the signed manifest alone vouches for what it lists, and the ledger says so.

use std::collections::{BTreeMap, HashMap};

use ledger::{EvidenceKind, RecordedEvidence, Vouched};
use manifest_schema::manifest::ReleaseList;
use manifest_schema::release::ImageReferences;
use manifest_schema::{Digest, DigestTag, Image, LabelValue, OutsideText, Reference, Timestamp};
use registry::LayerSays;
use serde::Serialize;
use signing::{ImagePolicy, PolicyImage, PolicyName, PolicyVerdict, SigstoreSignature};

use crate::error::Error;
use crate::evidence::Evidence;
use crate::graph::{Closure, Graph};
use crate::site::StreamRules;

/// What the policy says of an image, whatever it says.
#[derive(Debug, Clone, Serialize)]
#[must_use]
pub struct Judged {
    /// The image, as the sender calls it.
    pub origin: Reference,
    /// Its digest.
    pub digest: Digest,
    /// The policy's verdict on every document of the image, if there is a policy.
    pub verdicts: Vec<DocumentVerdict>,
    /// Everything attached to it, and what was found of it.
    pub evidence: Vec<RecordedEvidence>,
    #[serde(skip)]
    vouched: Result<Vouched, Refusal>,
}

/// Why an image may not enter.
#[derive(Debug, Clone)]
enum Refusal {
    /// The policy refuses one of its documents.
    Verdict(Box<DocumentVerdict>),
    /// Something attached to it could be run, and was not judged.
    Attached(Digest),
}

/// An image that may enter, and why.
#[derive(Debug, Clone)]
#[must_use]
pub struct Provenance {
    vouched: Vouched,
    evidence: Vec<RecordedEvidence>,
}

impl Judged {
    /// The image may enter, or the first of its documents may not.
    ///
    /// # Errors
    /// [`Error::PolicyRefused`] with the reasons; [`Error::AttachedImage`].
    pub fn accept(self) -> Result<Provenance, Error> {
        match self.vouched {
            Ok(vouched) => Ok(Provenance { vouched, evidence: self.evidence }),
            Err(Refusal::Verdict(verdict)) => Err(Error::PolicyRefused { origin: Box::new(self.origin), verdict }),
            Err(Refusal::Attached(digest)) => Err(Error::AttachedImage { origin: Box::new(self.origin), digest }),
        }
    }

    /// Lets an image in that the policy refuses, if an accepted release lists it, under this very name. What a scope of its
    /// own rejects stays refused: that somebody wrote down, where a default only says nothing of it.
    pub fn vouched_by(&mut self, releases: &Releases) {
        let (Err(Refusal::Verdict(verdict)), Some(by)) = (&self.vouched, releases.members.get(&self.origin)) else {
            return;
        };
        let verdict = &verdict.verdict;
        if verdict.is_by_default() || verdict.requirements.iter().all(|r| r.requirement != "reject") {
            self.vouched = Ok(Vouched::Release { by: *by });
        }
    }

    /// Whether the policy accepted this document because of a signature, and not because it accepts anything.
    fn is_signed(&self, document: &Digest) -> bool {
        let signed = |v: &DocumentVerdict| {
            v.verdict.accepted && v.verdict.requirements.iter().any(|r| r.accepted && r.signer.is_some())
        };
        self.vouched.is_ok() && self.verdicts.iter().any(|v| v.digest == *document && signed(v))
    }

    /// What vouches for the image; `None` if it is refused.
    pub fn vouched(&self) -> Option<&Vouched> {
        self.vouched.as_ref().ok()
    }

    /// Why it is refused.
    pub fn refused(&self) -> Option<String> {
        self.vouched.as_ref().err().map(|refusal| match refusal {
            Refusal::Verdict(verdict) => format!("{}: {}", verdict.digest, reasons(verdict)),
            Refusal::Attached(digest) => format!("{digest} is attached to it, and is an image itself"),
        })
    }
}

impl Provenance {
    /// Whether a signature attached to it counts; `None` if it was not judged, or is not attached to it.
    pub fn is_verified(&self, signature: &Digest) -> Option<bool> {
        self.evidence.iter().find(|row| row.digest == *signature)?.verified
    }

    /// About how many bytes the ledger's entry has for it.
    fn recorded_size(&self) -> u64 {
        self.evidence.iter().map(|row| serde_json::to_vec(row).map_or(0, |bytes| bytes.len() as u64 + 1)).sum()
    }

    /// What the ledger says of it.
    pub fn into_record(self) -> (Vouched, Vec<RecordedEvidence>) {
        (self.vouched, self.evidence)
    }
}

/// All of the images may enter, and the ledger can take in the end what was found of them: at most `limit` bytes.
///
/// # Errors
/// As [`Judged::accept`]; [`Error::TooMuchToRecord`].
pub fn accept(judged: Vec<Judged>, limit: u64) -> Result<HashMap<Reference, Provenance>, Error> {
    let name = |judged: Judged| Ok((judged.origin.clone(), judged.accept()?));
    let accepted: HashMap<_, _> = judged.into_iter().map(name).collect::<Result<_, Error>>()?;
    let found = accepted.values().map(Provenance::recorded_size).sum();
    if found > limit { Err(Error::TooMuchToRecord { found, limit }) } else { Ok(accepted) }
}

/// The policy's verdict on one document.
#[derive(Debug, Clone, Serialize)]
pub struct DocumentVerdict {
    /// The image manifest or index.
    pub digest: Digest,
    /// The platform of an image manifest, if the index says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Whether it is an index.
    pub is_index: bool,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: PolicyVerdict,
}

/// What accepted releases list.
#[derive(Debug, Default)]
pub struct Releases {
    /// Each image listed, by its digest under its name, and the release image's manifest that lists it.
    members: HashMap<Reference, Digest>,
}

impl Releases {
    /// The lists of release images that have to be read: those of image manifests that a signature vouches for, of images
    /// that the stream takes for release images.
    ///
    /// # Errors
    /// [`Error::Inconsistent`] if the layers of one are not the topmost of its image manifest: another might hide the list.
    pub fn to_read<'i>(
        images: &'i [Image],
        judged: &[Judged],
        graph: &Graph,
        rules: &StreamRules,
    ) -> Result<Vec<&'i ReleaseList>, Error> {
        let judged: HashMap<&Reference, &Judged> = judged.iter().map(|j| (&j.origin, j)).collect();
        let signed = |image: &Image, list: &ReleaseList| {
            judged.get(&image.origin).is_some_and(|judged| judged.is_signed(&list.manifest))
        };
        let mut lists = Vec::new();
        let may_list = |i: &&Image| rules.releases.iter().any(|scope| scope.contains(i.origin.repository()));
        for image in images.iter().filter(may_list) {
            for list in image.release.iter().filter(|list| signed(image, list)) {
                if !graph.has_topmost(&list.manifest, &list.layers) {
                    let reason = "the layers listed for its release are not its topmost ones".into();
                    return Err(Error::Inconsistent { digest: list.manifest, reason });
                }
                lists.push(list);
            }
        }
        Ok(lists)
    }

    /// Takes in a release image's list, from what its topmost layers say of the file.
    ///
    /// # Errors
    /// [`Error::Inconsistent`] if there is no such file; [`Error::ReleaseList`] if it is not a list.
    pub fn add(&mut self, list: &ReleaseList, says: &HashMap<Digest, LayerSays>) -> Result<(), Error> {
        let decides = list.layers.iter().rev().filter_map(|l| says.get(l)).find(|s| **s != LayerSays::Nothing);
        let Some(LayerSays::Content(bytes)) = decides else {
            let reason = "it does not list the images of a release".into();
            return Err(Error::Inconsistent { digest: list.manifest, reason });
        };
        let parsed = ImageReferences::parse(bytes);
        let parsed = parsed.map_err(|source| Error::ReleaseList { digest: list.manifest, source })?;
        for image in parsed.images {
            self.members.entry(image.reference).or_insert(list.manifest);
        }
        Ok(())
    }
}

/// What a policy judges an image as: by its tag if it has one. A digest beside the tag is no weaker name, so it must not
/// make the policy ask for less.
pub(crate) fn named(origin: &Reference) -> Reference {
    match origin.tag() {
        Some(tag) => Reference::tagged(origin.repository().clone(), tag.clone()),
        None => origin.clone(),
    }
}

/// Judges one image.
///
/// # Errors
/// [`Error::Label`] if the policy's scope cannot be recorded.
pub fn judge(
    image: &Image,
    closure: &Closure,
    graph: &Graph,
    evidence: &Evidence<'_>,
    rules: &StreamRules,
    at: AsOf,
) -> Result<Judged, Error> {
    let platforms: BTreeMap<Digest, Option<String>> =
        closure.platforms.iter().map(|p| (p.digest, p.platform.as_ref().map(ToString::to_string))).collect();
    // In the index's order, and what a person would look at first: a refused platform says more than a refused index.
    let indexes = closure.documents.iter().filter(|d| !platforms.contains_key(d));
    let documents = closure.platforms.iter().map(|p| &p.digest).chain(indexes);
    let origin = named(&image.origin);
    let mut rows = Vec::new();
    let mut verdicts = Vec::new();
    for document in documents {
        let found = Found::of(image, document, evidence);
        rows.extend(found.unreadable());
        let Some(policy) = &rules.images else {
            rows.extend(found.unjudged());
            continue;
        };
        let judging = Judging { policy, name: PolicyName::Docker(&origin), digests: &found.digests, at };
        rows.extend(found.judged(&judging));
        let mut verdict = judging.judge(&found.simple(), &found.sigstore);
        found.explain(&mut verdict);
        let platform = platforms.get(document).cloned();
        let is_index = platform.is_none();
        verdicts.push(DocumentVerdict { digest: *document, platform: platform.flatten(), is_index, verdict });
    }
    rows.extend(bundles(image, evidence));
    rows.extend(referrers(image, graph, evidence, &rows));
    // An index that lists what was not judged, or nothing, must say for itself that it may.
    let complete = !closure.sparse && !closure.platforms.is_empty();
    let by_platforms = rules.allow_unsigned_index && complete;
    let passes = |v: &DocumentVerdict| v.verdict.accepted || (v.is_index && by_platforms);
    let vouched = match (&rules.images, verdicts.iter().find(|v| !passes(v)), graph.attached_image(closure)) {
        (None, ..) => Ok(Vouched::Manifest),
        (Some(_), _, Some(attached)) => Err(Refusal::Attached(attached)),
        (Some(_), Some(refused), _) => Err(Refusal::Verdict(Box::new(refused.clone()))),
        (Some(_), None, None) => Ok(Vouched::Policy { scopes: scopes(&verdicts)? }),
    };
    Ok(Judged { origin: image.origin.clone(), digest: image.digest, verdicts, evidence: rows, vouched })
}

/// The scopes of the policy that decided, each once.
fn scopes(verdicts: &[DocumentVerdict]) -> Result<Vec<LabelValue>, Error> {
    let mut scopes: Vec<LabelValue> = Vec::new();
    for verdict in verdicts {
        let scope = verdict.verdict.scope.chars().take(200).collect::<String>().parse().map_err(Error::Label)?;
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    Ok(scopes)
}

/// The signatures of one document.
struct Found<'a> {
    subject: Digest,
    digests: Vec<Digest>,
    files: Vec<(Digest, &'a [u8])>,
    /// Each with the digest of its payload.
    sigstore: Vec<SigstoreSignature>,
    payloads: Vec<Digest>,
    /// Documents under its `.sig` tag that hold no signatures, and why.
    faults: Vec<(Digest, String)>,
}

impl<'a> Found<'a> {
    fn of(image: &'a Image, document: &'a Digest, evidence: &'a Evidence<'_>) -> Self {
        let (sigstore, faults) = evidence.cosign(image, document);
        Self {
            subject: *document,
            digests: evidence.digests(document),
            files: evidence.simple(image, document).map(|(s, bytes)| (s.digest, bytes)).collect(),
            payloads: sigstore.iter().map(|s| blobs::sha256(&s.payload)).collect(),
            sigstore,
            faults,
        }
    }

    /// What should hold cosign signatures and does not. It counts for nothing, which is for the policy to judge.
    fn unreadable(&self) -> Vec<RecordedEvidence> {
        let fault = |(digest, fault): &(Digest, String)| RecordedEvidence {
            verified: Some(false),
            note: Some(short(fault)),
            ..self.row(EvidenceKind::CosignSignature, *digest)
        };
        self.faults.iter().map(fault).collect()
    }

    /// Adds to a refusal what could not be looked at.
    fn explain(&self, verdict: &mut PolicyVerdict) {
        for met in verdict.requirements.iter_mut().filter(|r| !r.accepted && r.requirement == "sigstoreSigned") {
            let faults = self.faults.iter().map(|(digest, fault)| format!("{digest}: {fault}"));
            met.reasons.extend(faults.map(|f| short(&f).escaped().to_string()));
        }
    }

    fn simple(&self) -> Vec<&'a [u8]> {
        self.files.iter().map(|(_, bytes)| *bytes).collect()
    }

    fn row(&self, kind: EvidenceKind, digest: Digest) -> RecordedEvidence {
        RecordedEvidence { kind, subject: self.subject, digest, what: None, verified: None, signer: None, note: None }
    }

    fn unjudged(&self) -> Vec<RecordedEvidence> {
        let note = Some(OutsideText::new("not judged: no image policy"));
        let simple = self.files.iter().map(|(digest, _)| self.row(EvidenceKind::SimpleSignature, *digest));
        let cosign = self.payloads.iter().map(|digest| self.row(EvidenceKind::CosignSignature, *digest));
        simple.chain(cosign).map(|row| RecordedEvidence { note: note.clone(), ..row }).collect()
    }

    /// Each signature alone, so that it can be said of each whether it counts.
    fn judged(&self, judging: &Judging<'_>) -> Vec<RecordedEvidence> {
        let simple = self.files.iter().map(|(digest, bytes)| {
            let row = self.row(EvidenceKind::SimpleSignature, *digest);
            explained(row, judging.judge(&[bytes], &[]), "signedBy")
        });
        let cosign = self.payloads.iter().zip(&self.sigstore).map(|(digest, signature)| {
            let row = self.row(EvidenceKind::CosignSignature, *digest);
            explained(row, judging.judge(&[], std::slice::from_ref(signature)), "sigstoreSigned")
        });
        simple.chain(cosign).collect()
    }
}

/// The times to judge by.
#[derive(Debug, Clone, Copy)]
pub struct AsOf {
    /// When this site received what is judged, by its own record: expiry and weakness are judged as of then.
    pub received: Timestamp,
    /// Now: what is revoked by now does not count.
    pub now: Timestamp,
}

impl AsOf {
    /// For what comes in now.
    pub fn now(now: Timestamp) -> Self {
        Self { received: now, now }
    }
}

/// One document under one name, and the policy that is asked.
pub(crate) struct Judging<'a> {
    pub(crate) policy: &'a ImagePolicy,
    pub(crate) name: PolicyName<'a>,
    pub(crate) digests: &'a [Digest],
    pub(crate) at: AsOf,
}

impl Judging<'_> {
    pub(crate) fn judge(&self, simple: &[&[u8]], sigstore: &[SigstoreSignature]) -> PolicyVerdict {
        let image = PolicyImage { name: self.name, digests: self.digests, simple, sigstore };
        self.policy.judge_as_received(&image, self.at.received, self.at.now)
    }
}

/// What the verdict on one signature says of it.
fn explained(row: RecordedEvidence, verdict: PolicyVerdict, requirement: &str) -> RecordedEvidence {
    let mut reasons = Vec::new();
    for met in verdict.requirements {
        if let (true, Some(signer)) = (met.accepted, met.signer) {
            let signer = Some(OutsideText::new(signer));
            return RecordedEvidence {
                verified: Some(true),
                signer,
                what: met.identity.map(|i| short(i.raw())),
                ..row
            };
        }
        if met.requirement == requirement {
            reasons.extend(met.reasons);
        }
    }
    if reasons.is_empty() {
        let note = OutsideText::new(format!("not judged: the policy asks for no such signature ({})", verdict.scope));
        return RecordedEvidence { note: Some(note), ..row };
    }
    RecordedEvidence { verified: Some(false), note: Some(short(&reasons.join("; "))), ..row }
}

/// The sigstore bundles that refer to the image: whose they are, and whether that could be verified.
fn bundles(image: &Image, evidence: &Evidence<'_>) -> Vec<RecordedEvidence> {
    let mut rows = Vec::new();
    for referrer in &image.referrers {
        let digests = evidence.digests(&referrer.subject);
        for (digest, bundle) in evidence.bundles(&referrer.digest) {
            let row = RecordedEvidence {
                kind: EvidenceKind::SigstoreBundle,
                subject: referrer.subject,
                digest: *digest,
                what: bundle.what.as_ref().map(|w| short(w.raw())),
                verified: bundle.verified,
                signer: bundle.signer.clone(),
                note: bundle.note.as_ref().map(|n| short(n.raw())),
            };
            rows.push(match digests.iter().any(|d| bundle.about.contains(d)) {
                true => row,
                false => RecordedEvidence {
                    verified: Some(false),
                    signer: None,
                    note: Some(OutsideText::new("it is about something else")),
                    ..row
                },
            });
        }
    }
    rows
}

/// What is recorded of text from outside: enough to see what it is.
fn short(text: &str) -> OutsideText {
    const LIMIT: usize = 300;
    match text.char_indices().nth(LIMIT) {
        Some((cut, _)) => OutsideText::new(format!("{}…", &text[..cut])),
        None => OutsideText::new(text),
    }
}

/// The documents that refer to the image. Those with cosign signatures or sigstore bundles are told of by these.
fn referrers(
    image: &Image,
    graph: &Graph,
    evidence: &Evidence<'_>,
    signatures: &[RecordedEvidence],
) -> Vec<RecordedEvidence> {
    let row = |r: &manifest_schema::Referrer| RecordedEvidence {
        kind: EvidenceKind::Referrer,
        subject: r.subject,
        digest: r.digest,
        what: graph.kind(&r.digest).map(|k| short(k.raw())),
        verified: None,
        signer: None,
        note: None,
    };
    let told = |r: &&manifest_schema::Referrer| {
        let signed = || signatures.iter().any(|s| s.kind == EvidenceKind::CosignSignature && s.subject == r.subject);
        (r.tag == Some(DigestTag::Sig) && signed()) || evidence.bundles(&r.digest).next().is_some()
    };
    image.referrers.iter().filter(|r| !told(r)).map(row).collect()
}

/// The first reason of a refusal, on one line.
pub(crate) fn reasons(verdict: &DocumentVerdict) -> String {
    let refused = verdict.verdict.requirements.iter().filter(|r| !r.accepted);
    let lines = refused.map(|r| format!("{}: {}", r.requirement, r.reasons.join("; ")));
    let lines: Vec<String> = lines.collect();
    manifest_schema::text::escape(&lines.join("; ")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_ledger_can_take_is_refused() {
        let digest = blobs::sha256(b"image");
        let row = RecordedEvidence {
            kind: EvidenceKind::Referrer,
            subject: digest,
            digest,
            what: None,
            verified: None,
            signer: None,
            note: Some(OutsideText::new("x".repeat(100))),
        };
        let size = serde_json::to_vec(&row).expect("a row").len() as u64 + 1;
        let judged = |n: u32| Judged {
            origin: format!("r.example/x:{n}").parse().expect("a reference"),
            digest,
            verdicts: vec![],
            evidence: vec![row.clone()],
            vouched: Ok(Vouched::Manifest),
        };
        assert_eq!(accept(vec![judged(1), judged(2)], 2 * size).expect("it just fits").len(), 2);
        let refused = accept(vec![judged(1), judged(2)], 2 * size - 1);
        assert!(matches!(refused, Err(Error::TooMuchToRecord { found, .. }) if found == 2 * size));
    }
}

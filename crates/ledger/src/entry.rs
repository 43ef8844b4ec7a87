//! Entries: what they say, and their bytes.
//!
//! An entry is compact JSON that we serialised; its bytes are what is hashed, and later signed. Two different byte
//! strings never mean the same entry: what reads differently when written again is refused.

use manifest_schema::manifest::PlatformManifest;
use manifest_schema::text::escape;
use manifest_schema::{BundleId, Digest, LIMITS, LabelKey, LabelValue, OutsideText, Reference, Sequence, Stream};
use manifest_schema::{TagRef, Timestamp};
use serde::{Deserialize, Serialize};

use crate::names::{EntryHash, EntryNumber, Fingerprint, LedgerId};

/// An entry's `type`, its first member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryType {
    /// Format 1.
    #[serde(rename = "sealift/ledger-entry/1")]
    V1,
}

/// One entry, in the order its members are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// `sealift/ledger-entry/1`.
    #[serde(rename = "type")]
    pub kind: EntryType,
    /// The ledger the entry belongs to.
    pub ledger: LedgerId,
    /// Its place.
    pub number: EntryNumber,
    /// The hash of the entry before it; zeros in the first.
    pub previous: EntryHash,
    /// When it was written. Never before the time of the entry before it.
    pub time: Timestamp,
    /// The program that wrote it, with its version.
    pub tool: LabelValue,
    /// What happened.
    pub act: Act,
}

/// What an entry records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Act {
    /// The ledger was created. The first entry, and no other.
    Created(Created),
    /// A bundle was admitted and its number reserved.
    Begun(Begun),
    /// Production signatures and tags are about to be made.
    Signing(Signing),
    /// A bundle is in production.
    Recorded(Recorded),
    /// A bundle was refused after its manifest had been authenticated.
    Refused(Refused),
}

impl Act {
    /// The kind of act, as it is written.
    pub fn kind(&self) -> &'static str {
        match self {
            Act::Created(_) => "created",
            Act::Begun(_) => "begun",
            Act::Signing(_) => "signing",
            Act::Recorded(_) => "recorded",
            Act::Refused(_) => "refused",
        }
    }

    /// The bundle the act is about, if it is about one.
    pub fn subject(&self) -> Option<&Subject> {
        match self {
            Act::Created(_) => None,
            Act::Begun(a) => Some(&a.subject),
            Act::Signing(a) => Some(&a.subject),
            Act::Recorded(a) => Some(&a.subject),
            Act::Refused(a) => Some(&a.subject),
        }
    }
}

/// The bundle that an entry is about. All four members together say which: a number or an id alone is a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// The bundle's id.
    pub bundle: BundleId,
    /// Its release line.
    pub stream: Stream,
    /// Its place in the release line.
    pub sequence: Sequence,
    /// The digest of its signed manifest.
    pub manifest: Digest,
}

/// Facts known when a ledger is created.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Created {
    /// The production key's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub production: Option<Fingerprint>,
    /// The ledger key's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_key: Option<Fingerprint>,
}

/// A bundle is admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begun {
    /// The bundle.
    pub subject: Subject,
}

/// Signatures and tags are about to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signing {
    /// The bundle.
    pub subject: Subject,
    /// The production key's certificate; none where no production signatures are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub production: Option<Fingerprint>,
    /// What will be signed. Empty where no production signatures are made.
    pub images: Vec<Announced>,
}

/// One signature that is about to be made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announced {
    /// The production reference that the signature will name.
    pub reference: Reference,
    /// The digest that it will name.
    pub digest: Digest,
}

/// A bundle is in production.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// The bundle.
    pub subject: Subject,
    /// The certificates whose signatures on the manifest were valid.
    pub signers: Vec<Fingerprint>,
    /// The images, in the manifest's order.
    pub images: Vec<RecordedImage>,
    /// The production signatures.
    pub signatures: Vec<RecordedSignature>,
    /// The tags that moved.
    pub tags: Vec<MovedTag>,
    /// The checks that no policy was configured for.
    pub no_policy: Vec<LabelKey>,
    /// Who had the bundle on its way, as they stated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handover: Vec<RecordedHandover>,
}

/// A statement of custody that lay beside a bundle. It is a claim; nothing that the importer did depended on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedHandover {
    /// The digest of the statement's bytes.
    pub statement: Digest,
    /// Its number among those of its medium.
    pub number: u32,
    /// When it was made, as it says.
    pub at: Timestamp,
    /// Who handed over.
    pub by: LabelValue,
    /// Who took over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<LabelValue>,
    /// The number on the bag's seal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bag: Option<LabelValue>,
    /// The certificate that signed it, if its signature is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<Fingerprint>,
    /// Whether that is the certificate of a courier known here.
    pub known: bool,
}

/// An image in production.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedImage {
    /// The reference that the sender claims for it.
    pub origin: Reference,
    /// Where it is now.
    pub production: TagRef,
    /// The digest of its index or image manifest.
    pub digest: Digest,
    /// The image manifests below it; the image itself if it is no index.
    pub platforms: Vec<PlatformManifest>,
    /// What vouched for it.
    pub vouched: Vouched,
    /// What is attached to it, and what was found of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<RecordedEvidence>,
}

/// Why an image was let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Vouched {
    /// The signed manifest lists it; no image policy was configured.
    Manifest,
    /// The image policy accepted it and every document below it.
    Policy {
        /// The parts of the policy that decided, such as `docker: registry.dev.example/payments`.
        scopes: Vec<LabelValue>,
    },
    /// A release image that the policy accepted lists it by its digest.
    Release {
        /// The digest of that release image's manifest.
        by: Digest,
    },
}

/// Something that was attached to an image: a signature, or a document that refers to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedEvidence {
    /// What kind of evidence it is.
    pub kind: EvidenceKind,
    /// The document that it is about.
    pub subject: Digest,
    /// Its own digest: of a signature's bytes or payload, of a referrer's document.
    pub digest: Digest,
    /// The reference that a verified signature names; what a referrer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<OutsideText>,
    /// Whether its signature was verified; absent if it was not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// The key or identity that it was verified with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<OutsideText>,
    /// Why it does not count, or was not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<OutsideText>,
}

/// A kind of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// A simple signature (OpenPGP).
    SimpleSignature,
    /// A signature in the form of cosign, under a `.sig` tag.
    CosignSignature,
    /// A sigstore bundle.
    SigstoreBundle,
    /// A document that refers to the image.
    Referrer,
}

impl EvidenceKind {
    /// For tables.
    pub fn as_str(self) -> &'static str {
        match self {
            EvidenceKind::SimpleSignature => "simple signature",
            EvidenceKind::CosignSignature => "cosign signature",
            EvidenceKind::SigstoreBundle => "sigstore bundle",
            EvidenceKind::Referrer => "referrer",
        }
    }
}

/// A production signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedSignature {
    /// The reference that it names.
    pub reference: Reference,
    /// The digest that it names.
    pub digest: Digest,
    /// Its file below the lookaside tree; of a cosign signature the tag that it is under.
    pub path: OutsideText,
    /// The SHA-256 digest of that file; of a cosign signature that of its payload.
    pub file: Digest,
}

/// A tag that moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MovedTag {
    /// The tag.
    pub tag: TagRef,
    /// What it names now.
    pub digest: Digest,
    /// What it named before, if it was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
}

/// A bundle is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// The bundle.
    pub subject: Subject,
    /// Why.
    pub reason: OutsideText,
}

/// Why bytes are not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Too large.
    #[error("the entry has {size} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Not strict JSON of this format.
    #[error("the entry is not valid: {}", escape(.0))]
    Json(String),
    /// Valid, but not as this program writes it.
    #[error("the entry is not in canonical form")]
    NotCanonical,
}

impl Entry {
    /// The bytes that are hashed: compact JSON, members in the order of these types.
    ///
    /// # Errors
    /// [`EntryError::TooLarge`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, EntryError> {
        let bytes = serde_json::to_vec(self).map_err(|e| EntryError::Json(e.to_string()))?;
        within_limit(bytes.len() as u64)?;
        Ok(bytes)
    }

    /// Reads an entry strictly.
    ///
    /// # Errors
    /// [`EntryError`] says which rule the bytes break.
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        within_limit(bytes.len() as u64)?;
        if !bytes.starts_with(b"{\"type\":") {
            return Err(EntryError::Json("the first member is not `type`".into()));
        }
        let entry: Entry = serde_json::from_slice(bytes).map_err(|e| EntryError::Json(e.to_string()))?;
        if entry.to_bytes()? == bytes { Ok(entry) } else { Err(EntryError::NotCanonical) }
    }
}

/// Checks an entry's size in bytes.
pub(crate) fn within_limit(size: u64) -> Result<(), EntryError> {
    let limit = LIMITS.ledger_entry;
    if size > limit { Err(EntryError::TooLarge { size, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = concat!(
        r#"{"type":"sealift/ledger-entry/1","ledger":"7f3c2b1a-0000-4000-8000-000000000001","number":1,"#,
        r#""previous":"0000000000000000000000000000000000000000000000000000000000000000","#,
        r#""time":"2026-01-31T09:00:00Z","tool":"sealift-import 0.1.0","#,
        r#""act":{"created":{"production":"567E347AD0044ADE55BA8A5F199E2F91FD431D51"}}}"#
    );

    #[test]
    fn bytes_read_back_as_written() {
        let entry = Entry::parse(FIRST.as_bytes()).expect("an entry");
        assert_eq!(entry.number, EntryNumber::FIRST);
        assert_eq!(entry.to_bytes().expect("bytes"), FIRST.as_bytes());
    }

    #[test]
    fn an_entry_of_before_statements_were_recorded_stays_what_it_is() {
        let subject = concat!(
            r#"{"bundle":"019c133c-3ed0-7b6e-9d3c-52e5d1a7f0c4","stream":"payments","sequence":42,"#,
            r#""manifest":"sha256:7a0edbc37b327075e554b10f05c60cf36778cc77acefa98a2910ca68c94ad8b2"}"#
        );
        let members = r#""signers":[],"images":[],"signatures":[],"tags":[],"no_policy":[]"#;
        let act = |more| format!(r#""act":{{"recorded":{{"subject":{subject},{members}{more}}}}}}}"#);
        let head = FIRST.split_once(r#""act""#).expect("an act").0;
        let parse = |more| Entry::parse(format!("{head}{}", act(more)).as_bytes());
        assert!(matches!(parse("").expect("an entry").act, Act::Recorded(r) if r.handover.is_empty()));
        assert_eq!(parse(r#","handover":[]"#), Err(EntryError::NotCanonical));
        let statement = r#""statement":"sha256:7a0edbc37b327075e554b10f05c60cf36778cc77acefa98a2910ca68c94ad8b2""#;
        let one =
            format!(r#","handover":[{{{statement},"number":1,"at":"2026-01-31T09:00:00Z","by":"Ada","known":false}}]"#);
        assert!(matches!(parse(&one).expect("an entry").act, Act::Recorded(r) if r.handover[0].signer.is_none()));
    }

    #[test]
    fn only_one_byte_string_means_an_entry() {
        let fingerprint = "567E347AD0044ADE55BA8A5F199E2F91FD431D51";
        for (what, bad) in [
            ("space", FIRST.replacen(",", ", ", 1)),
            ("trailing", format!("{FIRST}\n")),
            ("unknown member", FIRST.replace(r#""act""#, r#""note":1,"act""#)),
            ("unknown act", FIRST.replace("created", "creation")),
            ("repeated member", FIRST.replace(r#""number":1,"#, r#""number":1,"number":1,"#)),
            ("other order", FIRST.replace(r#""type":"sealift/ledger-entry/1","#, "")),
            ("other type", FIRST.replace("ledger-entry/1", "manifest/1")),
            ("lower-case fingerprint", FIRST.replace(fingerprint, &fingerprint.to_lowercase())),
            ("null", FIRST.replace(&format!("\"{fingerprint}\""), "null")),
            ("escape", FIRST.replace("sealift-import", r"sealift\u002dimport")),
            ("member of the act", FIRST.replace(r#"{"production""#, r#"{"x":1,"production""#)),
            ("two acts", FIRST.replace(r#""act":{"#, r#""act":{"begun":{},"#)),
            ("number", FIRST.replace(r#""number":1"#, r#""number":1.0"#)),
        ] {
            assert_ne!(bad, FIRST, "{what}");
            assert!(Entry::parse(bad.as_bytes()).is_err(), "{what}: {bad}");
        }
    }
}

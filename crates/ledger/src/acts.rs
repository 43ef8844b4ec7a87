//! What each kind of entry says.

use std::collections::BTreeMap;

use manifest_schema::manifest::PlatformManifest;
use manifest_schema::{
    BundleId, Digest, LabelKey, LabelValue, OutsideText, Reference, Sequence, Stream, TagRef, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::head::{Head, Mark};
use crate::names::Fingerprint;

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
    /// When its manifest was signed, as the newest of its signatures says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<Timestamp>,
    /// The newest such time of its stream, if that is later: somebody's clock was wrong, or a signature was dated back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_signed: Option<Timestamp>,
}

/// A bundle's images wait for their promotion: in a staging registry, or in production without tags and signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Received {
    /// The bundle.
    pub subject: Subject,
    /// The certificates whose signatures on the manifest were valid.
    pub signers: Vec<Fingerprint>,
    /// The images, in the manifest's order.
    pub images: Vec<ReceivedImage>,
    /// The checks that no policy was configured for.
    pub no_policy: Vec<LabelKey>,
    /// Who had the bundle on its way, as they stated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handover: Vec<RecordedHandover>,
    /// The rules that reports of scanners were judged by, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<OutsideText>,
}

/// An image that waits for its promotion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceivedImage {
    /// The image, and where it is to go.
    pub image: RecordedImage,
    /// Where it is in the staging registry; none if it waits in production.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging: Option<TagRef>,
}

/// Someone approved a bundle. What counts is the statement, and that it still verifies when the bundle is promoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approved {
    /// The bundle.
    pub subject: Subject,
    /// The approver's certificate.
    pub approver: Fingerprint,
    /// The digest of the statement.
    pub statement: Digest,
    /// Until when the statement counts.
    pub not_after: Timestamp,
    /// The statement with its signature, as a file.
    pub file: OutsideText,
}

/// Someone took an approval back, for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalWithdrawn {
    /// The bundle.
    pub subject: Subject,
    /// The approver's certificate.
    pub approver: Fingerprint,
    /// The digest of the approval's statement.
    pub approval: Digest,
    /// The statement that withdraws it, with its signature, as a file.
    pub file: OutsideText,
}

/// A bundle will not be promoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejected {
    /// The bundle.
    pub subject: Subject,
    /// Why.
    pub reason: OutsideText,
}

/// Somebody let a bundle pass rules that refuse it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overridden {
    /// The bundle.
    pub subject: Subject,
    /// The rules.
    pub rules: Vec<Rule>,
    /// Why.
    pub reason: OutsideText,
}

/// A rule that can be overridden for one bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Nothing older than what has reached production.
    Rollback,
    /// Nothing after its end.
    Expired,
    /// One bundle for each number of a stream.
    Number,
    /// A base that the ledger has as published.
    Base,
    /// No entry before the time of the last one.
    Clock,
    /// As many approvals as are configured.
    Approvals,
    /// No image that was withdrawn.
    Withdrawn,
    /// No image whose reports of scanners are not enough.
    Scan,
    /// No image that the site's own scanner refuses.
    Scanner,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Rule; 9] = [
        Rule::Rollback,
        Rule::Expired,
        Rule::Number,
        Rule::Base,
        Rule::Clock,
        Rule::Approvals,
        Rule::Withdrawn,
        Rule::Scan,
        Rule::Scanner,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Rule::Rollback => "rollback",
            Rule::Expired => "expired",
            Rule::Number => "number",
            Rule::Base => "base",
            Rule::Clock => "clock",
            Rule::Approvals => "approvals",
            Rule::Withdrawn => "withdrawn",
            Rule::Scan => "scan",
            Rule::Scanner => "scanner",
        }
    }
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
    /// The tags that will move away from another image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<MovedTag>,
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
    /// The rules that reports of scanners were judged by, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<OutsideText>,
    /// Images that were left out because their tag names another one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<TagRef>,
    /// The approvals that counted: the digests of their statements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Digest>,
    /// Who promoted it, where that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoter: Option<PromotedBy>,
}

/// Who promoted a bundle. What counts is the statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromotedBy {
    /// The promoter's certificate.
    pub promoter: Fingerprint,
    /// The statement with its signature, as a file.
    pub file: OutsideText,
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
    /// What reports of scanners said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<RecordedScan>,
}

/// What reports of scanners said of an image, by the rules of then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedScan {
    /// The SHA-256 digest of the rules that it was judged by, whose text the entry has; none if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Digest>,
    /// The reports, those that did not count too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<RecordedReport>,
    /// How many vulnerabilities counted, by severity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub findings: BTreeMap<LabelKey, u64>,
    /// How many rules that are not kept counted, by severity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<LabelKey, u64>,
    /// What was found and did not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excused: Vec<RecordedExcuse>,
    /// What the importing side's own scanner said, for each image manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scanner: Vec<RecordedScanner>,
    /// Why the rules refuse it, if it was let in all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<OutsideText>,
}

/// A report of a scanner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedReport {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its format.
    pub format: LabelKey,
    /// The program that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<OutsideText>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Timestamp>,
    /// What it tells of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<LabelKey>,
    /// The image manifests that it counted for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub covers: Vec<Digest>,
    /// How many vulnerabilities it has, by severity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub findings: BTreeMap<LabelKey, u64>,
    /// How many rules it says are not kept, by severity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<LabelKey, u64>,
    /// Why it did not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused: Option<OutsideText>,
}

/// What the importing side's own scanner said of an image manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedScanner {
    /// The image manifest.
    pub manifest: Digest,
    /// The command as it was configured.
    pub command: OutsideText,
    /// The SHA-256 digest of what it wrote.
    pub output: Digest,
    /// What it wrote, if that was a report in a known format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<RecordedReport>,
    /// What it found and did not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excused: Vec<RecordedExcuse>,
    /// Why it does not let the image pass, if it was let in all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<OutsideText>,
}

/// Something that was found and did not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedExcuse {
    /// The vulnerability or rule.
    pub id: OutsideText,
    /// The package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<OutsideText>,
    /// How bad it is.
    pub severity: LabelKey,
    /// What excuses it.
    pub because: OutsideText,
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

/// Images in production have more signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resigned {
    /// The bundle that brought the images.
    pub subject: Subject,
    /// The production key's certificate.
    pub production: Fingerprint,
    /// The signatures.
    pub signatures: Vec<RecordedSignature>,
}

/// Images lost their production signatures, and are on the list of what must not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdrawn {
    /// What lost its signatures: the index or image manifest, and each image manifest below it.
    pub images: Vec<Announced>,
    /// Why.
    pub reason: OutsideText,
}

/// Files for clusters were made: what they are to accept, and what must not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandedOver {
    /// Which clusters they are for.
    pub clusters: Clusters,
    /// The files, by their names in the folder.
    pub files: Vec<HandedFile>,
    /// How many images are on the list of what must not run.
    pub denied: u64,
}

/// Which clusters files are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clusters {
    /// Those that pull from production.
    Production,
    /// Those that pull from the staging registry.
    Staging,
}

impl Clusters {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Clusters::Production => "production",
            Clusters::Staging => "staging",
        }
    }
}

/// A file for clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandedFile {
    /// Its name in the folder.
    pub name: OutsideText,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// Another key signs the ledger's heads from here on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyChanged {
    /// The certificate of the key before; none if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Fingerprint>,
    /// The new key's certificate.
    pub to: Fingerprint,
    /// Both certificates, armored.
    pub certificates: OutsideText,
    /// The statement of the change ([`KeyChange`]), signed by both keys, as a file.
    ///
    /// [`KeyChange`]: crate::KeyChange
    pub file: OutsideText,
}

/// The ledger goes on although it is not what a head says that it was shown: an old copy was put back, for example.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adopted {
    /// Why.
    pub reason: OutsideText,
    /// The heads that it does not have.
    pub heads: Vec<Head>,
    /// How far streams had come by those heads.
    pub marks: Vec<Mark>,
}

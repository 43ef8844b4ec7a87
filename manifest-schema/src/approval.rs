//! Approvals: what somebody asks to have approved, who approves it until when, who takes that back, and who promotes
//! (docs/format.md, "Approvals").
//!
//! Each is compact JSON of one line whose first member is `type`, and is read only as the very bytes it is written as. All
//! but the request are signed, as a statement: a file of that line and a signature over it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{BundleId, Sequence, Stream, Timestamp};
use crate::json::string_serde;
use crate::ledger::LedgerId;
use crate::limits::LIMITS;
use crate::reference::{Reference, TagRef};
use crate::text::{LabelValue, escape};

/// What may be approved. An action that is not known here approves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// To sign a bundle's images for production, and to move its tags.
    Promote,
}

/// A request's `type`, its first member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestType {
    /// Format 1.
    #[serde(rename = "sealift/approval-request/1")]
    V1,
}

/// What is to be approved, for an approver on another machine. It is not signed: an approval counts only if what it lists is
/// what is promoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRequest {
    /// `sealift/approval-request/1`.
    #[serde(rename = "type")]
    pub kind: RequestType,
    /// What is asked for.
    pub action: Action,
    /// The ledger of the site that asks.
    pub ledger: LedgerId,
    /// The bundle.
    pub bundle: BundleId,
    /// Its release line.
    pub stream: Stream,
    /// Its place there.
    pub sequence: Sequence,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Its images, in the manifest's order.
    pub images: Vec<RequestedImage>,
}

/// An image that is to be approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestedImage {
    /// The reference that it is to have in production.
    pub production: TagRef,
    /// The digest of its index or image manifest.
    pub digest: Digest,
    /// The reference that the sender claims for it. For people: no approval names it.
    pub origin: Reference,
}

/// An approval's `type`, its first member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApprovalType {
    /// Format 1.
    #[serde(rename = "sealift/approval/1")]
    V1,
}

/// One person's approval, in the order its members are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// `sealift/approval/1`.
    #[serde(rename = "type")]
    pub kind: ApprovalType,
    /// Makes two approvals of the same thing differ, so that one can be taken back.
    pub id: ApprovalId,
    /// What is approved.
    pub action: Action,
    /// The ledger of the site that it is approved for.
    pub ledger: LedgerId,
    /// The bundle.
    pub bundle: BundleId,
    /// Its release line.
    pub stream: Stream,
    /// Its place there.
    pub sequence: Sequence,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The images. No other counts as approved.
    pub images: Vec<ApprovedImage>,
    /// When it was made.
    pub made: Timestamp,
    /// From when on it does not count any more.
    pub not_after: Timestamp,
    /// Anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<LabelValue>,
    /// The program that made it, with its version.
    pub tool: LabelValue,
}

/// An image, and the very reference that it is to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovedImage {
    /// The production reference.
    pub production: TagRef,
    /// The digest of its index or image manifest.
    pub digest: Digest,
}

/// A withdrawal's `type`, its first member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WithdrawalType {
    /// Format 1.
    #[serde(rename = "sealift/approval-withdrawal/1")]
    V1,
}

/// Somebody's own approval that must never count again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalWithdrawal {
    /// `sealift/approval-withdrawal/1`.
    #[serde(rename = "type")]
    pub kind: WithdrawalType,
    /// The ledger that the approval names.
    pub ledger: LedgerId,
    /// The bundle that it names.
    pub bundle: BundleId,
    /// The digest of the approval's document, without its line end.
    pub approval: Digest,
    /// When the withdrawal was made.
    pub made: Timestamp,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<LabelValue>,
}

/// The `type` of a statement of who promotes, its first member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PromotionType {
    /// Format 1.
    #[serde(rename = "sealift/promotion/1")]
    V1,
}

/// Who promotes says so, where an approval of the same person must not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promotion {
    /// `sealift/promotion/1`.
    #[serde(rename = "type")]
    pub kind: PromotionType,
    /// The ledger of the site.
    pub ledger: LedgerId,
    /// The bundle.
    pub bundle: BundleId,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The images that are promoted.
    pub images: Vec<ApprovedImage>,
    /// When the statement was made.
    pub made: Timestamp,
}

/// An approval's id: a random UUID (version 4 of RFC 9562), in lower case with hyphens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApprovalId(uuid::Uuid);

impl ApprovalId {
    /// A new id.
    pub fn generate() -> Self {
        Self(uuid::Uuid::new_v4())
    }
}

impl FromStr for ApprovalId {
    type Err = ApprovalError;
    fn from_str(text: &str) -> Result<Self, ApprovalError> {
        match uuid::Uuid::try_parse(text) {
            Ok(id) if id.get_version_num() == 4 && id.hyphenated().to_string() == text => Ok(Self(id)),
            _ => Err(ApprovalError::Id(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

string_serde!(ApprovalId, "ApprovalId", "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$");

/// Why bytes are not such a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// Too large.
    #[error("{size} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Not strict JSON of this format.
    #[error("not {what}: {}", escape(.reason))]
    Json {
        /// What it should be.
        what: &'static str,
        /// Which rule it breaks.
        reason: String,
    },
    /// Valid, but not as this program writes it.
    #[error("not in canonical form")]
    NotCanonical,
    /// Not an approval's id.
    #[error("`{}` is not an approval's id: expected a UUID of version 4 in lower case", escape(.0))]
    Id(String),
    /// More images than a bundle has.
    #[error("{found} images; at most {limit} are accepted")]
    Images {
        /// How many.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// An image that is listed twice, or a reference with two digests.
    #[error("{0} is listed twice")]
    Twice(TagRef),
    /// It would never count.
    #[error("made at {made}, and not to count after {not_after}")]
    Ended {
        /// When it was made.
        made: Timestamp,
        /// Until when it counts.
        not_after: Timestamp,
    },
}

/// A document of one line.
pub trait OneLine: Serialize + DeserializeOwned {
    /// What it is, with its article.
    const WHAT: &'static str;

    /// Whether its members fit together.
    ///
    /// # Errors
    /// [`ApprovalError`] says which do not.
    fn check(&self) -> Result<(), ApprovalError>;

    /// The bytes to keep and to sign: compact JSON, without a line end.
    ///
    /// # Errors
    /// As [`OneLine::parse`].
    fn to_bytes(&self) -> Result<Vec<u8>, ApprovalError> {
        self.check()?;
        let bytes = serde_json::to_vec(self).map_err(|e| json::<Self>(e.to_string()))?;
        within_limit(&bytes)?;
        Ok(bytes)
    }

    /// Reads it strictly: exactly the bytes that [`OneLine::to_bytes`] gives.
    ///
    /// # Errors
    /// [`ApprovalError`] says which rule the bytes break.
    fn parse(bytes: &[u8]) -> Result<Self, ApprovalError> {
        within_limit(bytes)?;
        if !bytes.starts_with(b"{\"type\":") {
            return Err(json::<Self>("the first member is not `type`".into()));
        }
        let document: Self = serde_json::from_slice(bytes).map_err(|e| json::<Self>(e.to_string()))?;
        if document.to_bytes()? == bytes { Ok(document) } else { Err(ApprovalError::NotCanonical) }
    }
}

fn json<T: OneLine>(reason: String) -> ApprovalError {
    ApprovalError::Json { what: T::WHAT, reason }
}

fn within_limit(bytes: &[u8]) -> Result<(), ApprovalError> {
    let (size, limit) = (bytes.len() as u64, LIMITS.approval);
    if size > limit { Err(ApprovalError::TooLarge { size, limit }) } else { Ok(()) }
}

impl OneLine for ApprovalRequest {
    const WHAT: &'static str = "a request for an approval";

    /// Two origins may become one image; one reference never becomes two.
    fn check(&self) -> Result<(), ApprovalError> {
        within_images(self.images.len())?;
        let (mut digests, mut seen) = (HashMap::new(), HashSet::new());
        for image in &self.images {
            let digest = *digests.entry(&image.production).or_insert(image.digest);
            if digest != image.digest || !seen.insert((&image.production, &image.origin)) {
                return Err(ApprovalError::Twice(image.production.clone()));
            }
        }
        Ok(())
    }
}

impl ApprovalRequest {
    /// What an approval lists: each image once.
    pub fn approved(&self) -> Vec<ApprovedImage> {
        let image = |i: &RequestedImage| ApprovedImage { production: i.production.clone(), digest: i.digest };
        ApprovedImage::once(self.images.iter().map(image))
    }
}

impl ApprovedImage {
    /// The images, each once, in their order.
    pub fn once(images: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut seen = HashSet::new();
        images.into_iter().filter(|i| seen.insert((i.production.clone(), i.digest))).collect()
    }
}

impl OneLine for Approval {
    const WHAT: &'static str = "an approval";

    fn check(&self) -> Result<(), ApprovalError> {
        let (made, not_after) = (self.made, self.not_after);
        if not_after <= made {
            return Err(ApprovalError::Ended { made, not_after });
        }
        each_once(&self.images)
    }
}

impl OneLine for ApprovalWithdrawal {
    const WHAT: &'static str = "the withdrawal of an approval";

    fn check(&self) -> Result<(), ApprovalError> {
        Ok(())
    }
}

impl OneLine for Promotion {
    const WHAT: &'static str = "a statement of who promotes";

    fn check(&self) -> Result<(), ApprovalError> {
        each_once(&self.images)
    }
}

fn within_images(found: usize) -> Result<(), ApprovalError> {
    let limit = LIMITS.images;
    if found > limit { Err(ApprovalError::Images { found, limit }) } else { Ok(()) }
}

fn each_once(images: &[ApprovedImage]) -> Result<(), ApprovalError> {
    within_images(images.len())?;
    let mut seen = HashSet::new();
    match images.iter().find(|image| !seen.insert(&image.production)) {
        Some(image) => Err(ApprovalError::Twice(image.production.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEDGER: &str =
        r#""ledger":"7f3c2b1a-0000-4000-8000-000000000001","bundle":"019c133c-3ed0-7b6e-9d3c-52e5d1a7f0c4","#;
    const MANIFEST: &str = r#""manifest":"sha256:7a0edbc37b327075e554b10f05c60cf36778cc77acefa98a2910ca68c94ad8b2","#;
    const DIGEST: &str = "sha256:cbb888f27dfd53f5372d94f3d26ef25884a7f5d4e8adfb882eef7ccd40889e46";

    fn image(tag: &str, more: &str) -> String {
        format!(r#"{{"production":"registry.prod.example/payments/api:{tag}","digest":"{DIGEST}"{more}}}"#)
    }

    fn images() -> String {
        format!(r#""images":[{},{}]"#, image("1", ""), image("2", ""))
    }

    fn request() -> String {
        let origin = |tag: &str| format!(r#","origin":"registry.dev.example/payments/api:{tag}""#);
        format!(
            r#"{{"type":"sealift/approval-request/1","action":"promote",{LEDGER}"stream":"payments","sequence":42,{MANIFEST}"images":[{},{}]}}"#,
            image("1", &origin("1")),
            image("2", &origin("2"))
        )
    }

    fn approval() -> String {
        format!(
            r#"{{"type":"sealift/approval/1","id":"b1946ac9-2d2c-4a6e-8b1c-0123456789ab","action":"promote",{LEDGER}"stream":"payments","sequence":42,{MANIFEST}{},"made":"2026-02-01T09:00:00Z","not_after":"2026-02-03T09:00:00Z","note":"CHG-1234","tool":"sealift-import 0.1.0"}}"#,
            images()
        )
    }

    fn withdrawal() -> String {
        format!(
            r#"{{"type":"sealift/approval-withdrawal/1",{LEDGER}"approval":"{DIGEST}","made":"2026-02-01T09:00:00Z","reason":"a bug"}}"#
        )
    }

    fn promotion() -> String {
        format!(r#"{{"type":"sealift/promotion/1",{LEDGER}{MANIFEST}{},"made":"2026-02-01T09:00:00Z"}}"#, images())
    }

    /// Whether these bytes are read, and if so that they are written again as they are.
    fn read<T: OneLine>(text: &str) -> bool {
        match T::parse(text.as_bytes()) {
            Ok(document) => document.to_bytes().expect("bytes") == text.as_bytes(),
            Err(_) => false,
        }
    }

    type Change = (&'static str, String, String);

    /// Every change is refused, and so is what any document must not be.
    fn refuses<T: OneLine>(good: &str, changes: &[Change]) {
        assert!(read::<T>(good), "{good}");
        let s = String::from;
        let common = [
            ("another type", s("/1\""), s("/2\"")),
            ("type is not first", good[..good.find(',').expect("a comma") + 1].into(), s("{")),
            ("a space", s(","), s(", ")),
            ("an unknown member", s(r#""ledger""#), s(r#""x":1,"ledger""#)),
            ("a repeated member", s(LEDGER), s(LEDGER).repeat(2)),
            ("a ledger's id of another version", s("-4000-"), s("-7000-")),
            ("an upper-case ledger's id", s("7f3c2b1a"), s("7F3C2B1A")),
            ("a bundle's id of another version", s("-7b6e-"), s("-4b6e-")),
            ("an escape", s("sealift/"), s(r"sealift\/")),
        ];
        for (what, from, to) in common.iter().chain(changes) {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{what}");
            assert!(!read::<T>(&bad), "{what}: {bad}");
        }
        for bad in [format!("{good}\n"), format!(" {good}"), format!("{good}{good}"), "null".into(), String::new()] {
            assert!(!read::<T>(&bad), "{bad}");
        }
        let ledger_first = good.replacen(&good[1..good.find(',').expect("a comma") + 1], "", 1);
        let error = T::parse(ledger_first.as_bytes()).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("the first member is not `type`"), "{error}");
        let large = vec![b'{'; usize::try_from(LIMITS.approval).expect("small") + 1];
        assert!(matches!(T::parse(&large), Err(ApprovalError::TooLarge { .. })));
    }

    fn change(what: &'static str, from: &str, to: &str) -> Change {
        (what, from.into(), to.into())
    }

    /// What goes for every list of images.
    fn of_images() -> Vec<Change> {
        vec![
            change("a reference without a tag", "api:1\"", "api\""),
            change("a reference by digest", "api:1\"", &format!("api@{DIGEST}\"")),
            change("an upper-case digest", "\"sha256:cbb", "\"sha256:CBB"),
            change("an unknown member of an image", r#"{"production""#, r#"{"x":1,"production""#),
            change("no digest", &format!(r#","digest":"{DIGEST}""#), ""),
        ]
    }

    #[test]
    fn only_one_byte_string_means_a_request() {
        let mut changes = of_images();
        changes.extend([
            change("an unknown action", "\"promote\"", "\"withdraw\""),
            change("sequence 0", ":42", ":0"),
            change("no origin", r#","origin":"registry.dev.example/payments/api:1""#, ""),
        ]);
        // An image may have come from two origins, and then stands there twice.
        let both =
            request().replace("\"registry.prod.example/payments/api:2", "\"registry.prod.example/payments/api:1");
        assert!(read::<ApprovalRequest>(&both), "{both}");
        let request_of_both = ApprovalRequest::parse(both.as_bytes()).expect("a request");
        assert_eq!((request_of_both.images.len(), request_of_both.approved().len()), (2, 1));
        let twice = both.replace("dev.example/payments/api:2", "dev.example/payments/api:1");
        assert!(!read::<ApprovalRequest>(&twice), "{twice}");
        let other = both.replacen("e46", "e47", 1);
        assert!(!read::<ApprovalRequest>(&other), "one reference, two digests: {other}");
        refuses::<ApprovalRequest>(&request(), &changes);
    }

    #[test]
    fn only_one_byte_string_means_an_approval() {
        let mut changes = of_images();
        changes.extend([
            change("an image twice", "api:2", "api:1"),
            change("no id", r#""id":"b1946ac9-2d2c-4a6e-8b1c-0123456789ab","#, ""),
            change("an id of another version", "-4a6e-", "-1a6e-"),
            change("an unknown action", "\"promote\"", "\"withdraw\""),
            change("two actions", "\"promote\"", "[\"promote\",\"promote\"]"),
            change("sequence 0", ":42", ":0"),
            change("no end", r#""not_after":"2026-02-03T09:00:00Z","#, ""),
            change("an end of null", r#""not_after":"2026-02-03T09:00:00Z""#, r#""not_after":null"#),
            change("an end that is its beginning", "2026-02-03", "2026-02-01"),
            change("a time that is not UTC", "09:00:00Z\",\"not", "09:00:00+00:00\",\"not"),
            change("a note of null", r#""note":"CHG-1234""#, r#""note":null"#),
            change("a note of two lines", "CHG-1234", r"CHG-1234\nCHG-1235"),
            change("an escape in a text", "CHG", r"\u0043HG"),
        ]);
        refuses::<Approval>(&approval(), &changes);
        let without = approval().replace(r#""note":"CHG-1234","#, "");
        assert!(read::<Approval>(&without), "{without}");
    }

    #[test]
    fn only_one_byte_string_means_a_withdrawal() {
        refuses::<ApprovalWithdrawal>(
            &withdrawal(),
            &[
                change("no approval", &format!(r#""approval":"{DIGEST}","#), ""),
                change("a reason of null", r#""reason":"a bug""#, r#""reason":null"#),
                change("no time", r#""made":"2026-02-01T09:00:00Z","#, ""),
            ],
        );
    }

    #[test]
    fn only_one_byte_string_means_a_promotion() {
        let mut changes = of_images();
        changes.push(change("an image twice", "api:2", "api:1"));
        refuses::<Promotion>(&promotion(), &changes);
    }

    #[test]
    fn no_document_is_read_as_another() {
        let documents = [request(), approval(), withdrawal(), promotion()];
        for (i, text) in documents.iter().enumerate() {
            let is = [
                read::<ApprovalRequest>(text),
                read::<Approval>(text),
                read::<ApprovalWithdrawal>(text),
                read::<Promotion>(text),
            ];
            assert_eq!(is.iter().position(|is| *is), Some(i), "{text}");
            assert_eq!(is.iter().filter(|is| **is).count(), 1, "{text}");
        }
    }

    #[test]
    fn ids_are_random() {
        let id = ApprovalId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_ne!(ApprovalId::generate(), id);
        assert!(BundleId::generate().to_string().parse::<ApprovalId>().is_err());
    }
}

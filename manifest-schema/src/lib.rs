//! What both sides of the air gap agree on: references, digests, the signed manifest of a bundle, receipts.
//!
//! Data only: no input or output, no cryptography. Everything here is parsed once, strictly, into a type that
//! cannot hold a wrong value, so no later stage looks at a string again.

pub mod approval;
pub mod attachment;
pub mod digest;
pub mod document;
pub mod handover;
pub mod ids;
pub mod json;
pub mod ledger;
pub mod limits;
pub mod manifest;
pub mod receipt;
pub mod reference;
pub mod release;
pub mod span;
pub mod stored;
pub mod text;

pub use approval::{
    Action, Approval, ApprovalError, ApprovalId, ApprovalRequest, ApprovalWithdrawal, ApprovedImage, OneLine,
    Promotion, RequestedImage,
};
pub use attachment::{DigestTag, Found, ImageSignature, Referrer, is_made_from_digest, referrers_tag};
pub use digest::{Algorithm, Digest};
pub use document::{Descriptor, Document, MediaType};
pub use handover::{CheckedVolumes, Statement, StatementError, StatementType, VolumeNumbers};
pub use ids::{BundleId, Sequence, Stream, Timestamp};
pub use ledger::{EntryHash, EntryNumber, LedgerId, LedgerNameError, TreeHash};
pub use limits::{LIMITS, Limits};
pub use manifest::{Base, Blob, Image, Manifest, PlatformManifest, Section, Volumes};
pub use receipt::{
    Contradiction, Receipt, ReceiptError, ReceiptHead, ReceiptImage, ReceiptType, ShortReceipt, ShortReceiptError,
};
pub use reference::{PinnedRef, Reference, Repository, Scope, Tag, TagRef};
pub use span::{Span, SpanError};
pub use stored::{Part, Piece, Stored};
pub use text::{LabelKey, LabelValue, OutsideText};

/// The JSON schema of the signed manifest (`manifest-schema/manifest.schema.json`), as text.
pub fn manifest_json_schema() -> String {
    json::schema_text(&schemars::schema_for!(Manifest))
}

//! Entries: what they say, and their bytes.
//!
//! An entry is compact JSON that we serialised; its bytes are what is hashed, and later signed. Two different byte
//! strings never mean the same entry: what reads differently when written again is refused.

use std::io;

use manifest_schema::text::escape;
use manifest_schema::{LIMITS, LabelValue, Timestamp};
use serde::{Deserialize, Serialize};

use crate::acts::{
    Adopted, ApprovalWithdrawn, Approved, Begun, Created, HandedOver, KeyChanged, Overridden, Received, Recorded,
    Refused, Rejected, Resigned, Signing, Subject, Withdrawn,
};
use crate::names::{EntryHash, EntryNumber, LedgerId};

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
    /// Who ran it, as the operating system says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<LabelValue>,
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
    /// A bundle's images wait for their promotion.
    Received(Received),
    /// Someone approved a bundle.
    Approved(Approved),
    /// Someone took an approval back.
    ApprovalWithdrawn(ApprovalWithdrawn),
    /// A bundle will not be promoted.
    Rejected(Rejected),
    /// Somebody let a bundle pass a rule that refuses it.
    Overridden(Overridden),
    /// Production signatures and tags are about to be made.
    Signing(Signing),
    /// Some images of a bundle are in production; the rest waits.
    Promoted(Recorded),
    /// A bundle is in production, or what was left of it.
    Recorded(Recorded),
    /// A bundle was refused after its manifest had been authenticated.
    Refused(Refused),
    /// More signatures are about to be made for images in production.
    Resigning(Signing),
    /// Images in production have more signatures.
    Resigned(Resigned),
    /// Images lost their production signatures.
    Withdrawn(Withdrawn),
    /// Files for clusters were made.
    HandedOver(HandedOver),
    /// Another key signs the ledger's heads from here on.
    KeyChanged(KeyChanged),
    /// The ledger goes on although it is not what a head says that it was shown.
    Adopted(Adopted),
}

impl Act {
    /// The kind of act, as it is written.
    pub fn kind(&self) -> &'static str {
        match self {
            Act::Created(_) => "created",
            Act::Begun(_) => "begun",
            Act::Received(_) => "received",
            Act::Approved(_) => "approved",
            Act::ApprovalWithdrawn(_) => "approval-withdrawn",
            Act::Rejected(_) => "rejected",
            Act::Overridden(_) => "overridden",
            Act::Signing(_) => "signing",
            Act::Promoted(_) => "promoted",
            Act::Recorded(_) => "recorded",
            Act::Refused(_) => "refused",
            Act::Resigning(_) => "resigning",
            Act::Resigned(_) => "resigned",
            Act::Withdrawn(_) => "withdrawn",
            Act::HandedOver(_) => "handed-over",
            Act::KeyChanged(_) => "key-changed",
            Act::Adopted(_) => "adopted",
        }
    }

    /// The bundle the act is about, if it is about one.
    pub fn subject(&self) -> Option<&Subject> {
        match self {
            Act::Created(_) | Act::Withdrawn(_) | Act::HandedOver(_) | Act::KeyChanged(_) | Act::Adopted(_) => None,
            Act::Begun(a) => Some(&a.subject),
            Act::Received(a) => Some(&a.subject),
            Act::Approved(a) => Some(&a.subject),
            Act::ApprovalWithdrawn(a) => Some(&a.subject),
            Act::Rejected(a) => Some(&a.subject),
            Act::Overridden(a) => Some(&a.subject),
            Act::Signing(a) | Act::Resigning(a) => Some(&a.subject),
            Act::Promoted(a) | Act::Recorded(a) => Some(&a.subject),
            Act::Refused(a) => Some(&a.subject),
            Act::Resigned(a) => Some(&a.subject),
        }
    }
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
        let mut same = Same(bytes);
        match serde_json::to_writer(&mut same, &entry) {
            Ok(()) if same.0.is_empty() => Ok(entry),
            _ => Err(EntryError::NotCanonical),
        }
    }
}

/// Takes exactly these bytes.
struct Same<'a>(&'a [u8]);

impl io::Write for Same<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.strip_prefix(bytes).ok_or(io::ErrorKind::InvalidData)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
    fn the_type_comes_first() {
        let (kind, rest) = FIRST.split_once(',').expect("members");
        let (ledger, rest) = rest.split_once(',').expect("members");
        let swapped = format!("{{{ledger},{},{rest}", &kind[1..]);
        assert_eq!(Entry::parse(swapped.as_bytes()), Err(EntryError::Json("the first member is not `type`".into())));
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        let limit = LIMITS.ledger_entry;
        assert_eq!(within_limit(limit), Ok(()));
        let bytes = vec![0; limit as usize + 1];
        assert_eq!(Entry::parse(&bytes), Err(EntryError::TooLarge { size: limit + 1, limit }));
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

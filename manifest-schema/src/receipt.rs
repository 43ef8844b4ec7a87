//! Receipts: what production says to the other side about one bundle (docs/format.md, "Receipts").
//!
//! A receipt says nothing that did not come from the other side: no production reference, no host, no person.

mod short;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

pub use short::{ShortReceipt, ShortReceiptError};

use crate::digest::Digest;
use crate::ids::{BundleId, Sequence, Stream, Timestamp};
use crate::ledger::{EntryHash, EntryNumber, LedgerId, TreeHash};
use crate::limits::LIMITS;
use crate::reference::Reference;
use crate::text::{LabelValue, escape};

/// A receipt's `type`, its first member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReceiptType {
    /// Format 1.
    #[serde(rename = "sealift/receipt/1")]
    V1,
}

/// A bundle that was received, in the order the members are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// `sealift/receipt/1`.
    #[serde(rename = "type")]
    pub kind: ReceiptType,
    /// The ledger that has the bundle recorded.
    pub ledger: LedgerId,
    /// The bundle.
    pub bundle: BundleId,
    /// Its release line.
    pub stream: Stream,
    /// Its place there.
    pub sequence: Sequence,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// When it was recorded.
    pub published: Timestamp,
    /// Its images that production holds. One that was left out is not here.
    pub images: Vec<ReceiptImage>,
    /// The highest number of the stream that has reached production.
    pub newest: Sequence,
    /// The state of the ledger.
    pub head: ReceiptHead,
    /// When the receipt was made.
    pub made: Timestamp,
    /// The program that made it, with its version.
    pub tool: LabelValue,
}

/// An image that production holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptImage {
    /// What the bundle's manifest calls it.
    pub origin: Reference,
    /// Its digest, as in the manifest.
    pub digest: Digest,
    /// Since when production holds that digest.
    pub since: Timestamp,
}

/// A state of a ledger: its last entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptHead {
    /// The entry's number: how many there are.
    pub number: EntryNumber,
    /// The entry's hash, and by the chain that of every entry before it.
    pub hash: EntryHash,
    /// The root of the tree over all entries.
    pub root: TreeHash,
    /// The entry's time.
    pub time: Timestamp,
}

/// Why bytes are not a receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Too large.
    #[error("{size} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Not strict JSON of this format.
    #[error("not a receipt: {}", escape(.0))]
    Json(String),
    /// Valid, but not as this program writes it.
    #[error("not in canonical form")]
    NotCanonical,
    /// A member that says what it cannot.
    #[error("{0}")]
    Wrong(&'static str),
}

impl Receipt {
    /// How every receipt begins.
    pub const BEGINNING: &str = r#"{"type":"sealift/receipt/"#;

    /// The bytes to sign: compact JSON, without a line end.
    ///
    /// # Errors
    /// As [`Receipt::parse`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, ReceiptError> {
        self.check()?;
        let bytes = serde_json::to_vec(self).map_err(|e| ReceiptError::Json(e.to_string()))?;
        within_limit(&bytes)?;
        Ok(bytes)
    }

    /// Reads a receipt strictly: exactly the bytes that [`Receipt::to_bytes`] gives.
    ///
    /// # Errors
    /// [`ReceiptError`] says which rule the bytes break.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptError> {
        within_limit(bytes)?;
        if !bytes.starts_with(b"{\"type\":") {
            return Err(ReceiptError::Json("the first member is not `type`".into()));
        }
        let receipt: Self = serde_json::from_slice(bytes).map_err(|e| ReceiptError::Json(e.to_string()))?;
        if receipt.to_bytes()? == bytes { Ok(receipt) } else { Err(ReceiptError::NotCanonical) }
    }

    /// `<stream>-<sequence>`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.stream, self.sequence)
    }

    /// Its short form.
    pub fn short(&self) -> ShortReceipt {
        ShortReceipt::new(self.stream.clone(), self.sequence, self.bundle, &self.manifest)
    }

    /// What this and another receipt say that no ledger can say which only ever grew.
    pub fn contradiction(&self, other: &Self) -> Option<Contradiction> {
        if self.ledger != other.ledger {
            return None;
        }
        let (first, second) = if self.made <= other.made { (self, other) } else { (other, self) };
        let (old, new) = (&first.head, &second.head);
        if old.number == new.number && old != new {
            return Some(Contradiction::Forked { number: old.number, first: old.hash, second: new.hash });
        }
        if first.made < second.made && new.number < old.number {
            let (had, has) = (old.number, new.number);
            return Some(Contradiction::WentBack { at: first.made, had, then: second.made, has });
        }
        if first.stream != second.stream {
            return None;
        }
        let (fewer, more) = if old.number <= new.number { (first, second) } else { (second, first) };
        if more.newest < fewer.newest {
            return Some(Contradiction::MarkFell { stream: first.stream.clone(), had: fewer.newest, has: more.newest });
        }
        let record = |r: &Self| (r.bundle, r.sequence, r.manifest, r.published);
        let same = first.bundle == second.bundle || first.sequence == second.sequence;
        (same && record(first) != record(second)).then(|| Contradiction::OtherRecord { name: first.name() })
    }

    fn check(&self) -> Result<(), ReceiptError> {
        if self.images.len() > LIMITS.images {
            return Err(ReceiptError::Wrong("more images than a bundle can hold"));
        }
        let origins: HashSet<_> = self.images.iter().map(|image| &image.origin).collect();
        if origins.len() != self.images.len() {
            return Err(ReceiptError::Wrong("an image is listed twice"));
        }
        if self.newest < self.sequence {
            return Err(ReceiptError::Wrong("the newest of the stream is older than the bundle"));
        }
        if self.published > self.head.time {
            return Err(ReceiptError::Wrong("the bundle was recorded after the ledger's last entry"));
        }
        if self.head.time > self.made || self.images.iter().any(|image| image.since > self.made) {
            return Err(ReceiptError::Wrong("made before what it says has happened"));
        }
        Ok(())
    }
}

fn within_limit(bytes: &[u8]) -> Result<(), ReceiptError> {
    let (size, limit) = (bytes.len() as u64, LIMITS.receipt);
    if size > limit { Err(ReceiptError::TooLarge { size, limit }) } else { Ok(()) }
}

/// What two receipts of one ledger say that cannot both be true of a ledger which only ever grew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// One number, two entries.
    #[error("its entry {number} has hash {first} in one receipt and {second} in the other, or another tree or time")]
    Forked {
        /// The entry.
        number: EntryNumber,
        /// Its hash in the receipt that was made first.
        first: EntryHash,
        /// Its hash in the other.
        second: EntryHash,
    },
    /// Entries are gone.
    #[error("it had {had} entries on {at}, and {has} on {then}")]
    WentBack {
        /// When there were more.
        at: Timestamp,
        /// How many.
        had: EntryNumber,
        /// When there were fewer.
        then: Timestamp,
        /// How many.
        has: EntryNumber,
    },
    /// A stream's high-water mark fell.
    #[error("{stream} had come to {had}, and later only to {has}")]
    MarkFell {
        /// The release line.
        stream: Stream,
        /// How far it had come.
        had: Sequence,
        /// How far after that.
        has: Sequence,
    },
    /// One bundle or number, two records.
    #[error("it has two different records of {name}")]
    OtherRecord {
        /// `<stream>-<sequence>`.
        name: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIPT: &str = concat!(
        r#"{"type":"sealift/receipt/1","ledger":"7f3c2b1a-0000-4000-8000-000000000001","#,
        r#""bundle":"019c133c-3ed0-7b6e-9d3c-52e5d1a7f0c4","stream":"payments","sequence":42,"#,
        r#""manifest":"sha256:7a0edbc37b327075e554b10f05c60cf36778cc77acefa98a2910ca68c94ad8b2","#,
        r#""published":"2026-02-01T08:30:00Z","#,
        r#""images":[{"origin":"registry.dev.example/payments/api:2.3.1","#,
        r#""digest":"sha256:cbb888f27dfd53f5372d94f3d26ef25884a7f5d4e8adfb882eef7ccd40889e46","#,
        r#""since":"2026-02-01T08:30:00Z"}],"newest":43,"#,
        r#""head":{"number":17,"hash":"533ee486bb525630298980cea1dc781aa4a14141eee8042d0cc4f01c57733279","#,
        r#""root":"c9a7e0d3f4f0e2f5b4a58dbe3b1c8a2dcb3a0b4cf6be52f51a7b9aeb6a4a2d10","#,
        r#""time":"2026-02-03T10:00:00Z"},"made":"2026-02-03T10:00:05Z","tool":"sealift-import 0.1.0"}"#
    );

    fn receipt() -> Receipt {
        Receipt::parse(RECEIPT.as_bytes()).expect("a receipt")
    }

    #[test]
    fn a_receipt_reads_back_as_written() {
        let receipt = receipt();
        assert_eq!((receipt.name().as_str(), receipt.images.len()), ("payments-42", 1));
        assert_eq!(receipt.to_bytes().expect("bytes"), RECEIPT.as_bytes());
        assert!(RECEIPT.starts_with(Receipt::BEGINNING));
        assert!(receipt.short().is_of(&receipt.stream, receipt.sequence, &receipt.bundle, &receipt.manifest));
        let nothing = Receipt { images: Vec::new(), ..receipt };
        assert_eq!(Receipt::parse(&nothing.to_bytes().expect("bytes")), Ok(nothing));
    }

    #[test]
    fn only_one_byte_string_means_a_receipt() {
        for (what, from, to) in [
            ("another type", "receipt/1", "manifest/1"),
            ("another format", "receipt/1", "receipt/2"),
            ("type is not first", r#"{"type":"sealift/receipt/1","#, "{"),
            ("a space", ",", ", "),
            ("an unknown member", r#""newest""#, r#""host":"registry.prod.example","newest""#),
            ("a repeated member", r#""newest":43,"#, r#""newest":43,"newest":43,"#),
            ("a member of an image", r#""since""#, r#""production":"registry.prod.example/api:1","since""#),
            ("a member of the head", r#""root""#, r#""signer":"Ada","root""#),
            ("a missing member", r#""newest":43,"#, ""),
            ("a null", r#""sequence":42"#, r#""sequence":null"#),
            ("a number with a fraction", r#""sequence":42"#, r#""sequence":42.0"#),
            ("an escape", "sealift-import", r"sealift\u002dimport"),
            ("a bundle's id for the ledger's", "7f3c2b1a-0000-4000", "7f3c2b1a-0000-7000"),
            ("an upper-case hash", "533ee486", "533EE486"),
            ("a short hash", "533ee486", "533ee4"),
            ("an upper-case digest", "7a0edbc3", "7A0EDBC3"),
            ("an origin without a host", "registry.dev.example/payments/api", "api"),
            ("entry 0", r#""number":17"#, r#""number":0"#),
            ("a mark below the bundle", r#""newest":43"#, r#""newest":41"#),
            ("recorded after the last entry", r#""published":"2026-02-01"#, r#""published":"2026-02-04"#),
            ("made before the last entry", r#""made":"2026-02-03T10:00:05Z""#, r#""made":"2026-02-03T09:59:59Z""#),
            ("held after it was made", r#""since":"2026-02-01"#, r#""since":"2026-02-04"#),
        ] {
            let bad = RECEIPT.replacen(from, to, 1);
            assert_ne!(bad, RECEIPT, "{what}");
            assert!(Receipt::parse(bad.as_bytes()).is_err(), "{what}: {bad}");
        }
        let (before, image) = RECEIPT.split_once(r#""images":["#).expect("images");
        let (image, after) = image.split_once(']').expect("the end");
        let twice = format!(r#"{before}"images":[{image},{image}]{after}"#);
        assert_eq!(Receipt::parse(twice.as_bytes()), Err(ReceiptError::Wrong("an image is listed twice")));
        for bad in [format!("{RECEIPT}\n"), format!(" {RECEIPT}"), RECEIPT.replace("0.1.0", &"9".repeat(257))] {
            assert!(Receipt::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let large = vec![b'{'; usize::try_from(LIMITS.receipt).expect("small") + 1];
        assert!(matches!(Receipt::parse(&large), Err(ReceiptError::TooLarge { .. })));
    }

    #[test]
    fn a_receipt_for_as_many_images_as_a_bundle_can_hold_fits() {
        let image = receipt().images.remove(0);
        let long = format!("registry.dev.example/{}/api:{}", "a".repeat(240), "9".repeat(128));
        let image = ReceiptImage { origin: Reference::parse_normalized(&long).expect("a name"), ..image };
        let one = serde_json::to_vec(&image).expect("bytes").len() + 1;
        assert!((one * LIMITS.images) as u64 + 1000 < LIMITS.receipt, "{one} bytes an image");
    }

    #[test]
    fn receipts_of_a_ledger_that_was_put_back_or_forked_contradict_each_other() {
        let first = receipt();
        let later = |number: u64, newest: u64, made: &str| {
            let mut later = first.clone();
            later.head.number = EntryNumber::try_from(number).expect("a number");
            (later.head.hash, later.head.root) = (EntryHash::from([1; 32]), TreeHash::from([2; 32]));
            later.newest = Sequence::try_from(newest).expect("a number");
            later.made = made.parse().expect("a time");
            later
        };
        let contradict = |a: &Receipt, b: &Receipt| {
            assert_eq!(a.contradiction(b), b.contradiction(a), "the order does not matter");
            a.contradiction(b)
        };
        assert_eq!(contradict(&first, &first.clone()), None);
        let honest = later(18, 43, "2026-02-04T00:00:00Z");
        assert_eq!(contradict(&first, &honest), None);
        // Made at the same second, around an entry.
        assert_eq!(contradict(&first, &later(18, 43, "2026-02-03T10:00:05Z")), None);

        let forked = later(17, 43, "2026-02-04T00:00:00Z");
        assert!(matches!(contradict(&first, &forked), Some(Contradiction::Forked { .. })));
        let mut root = first.clone();
        root.head.root = TreeHash::from([9; 32]);
        assert!(matches!(contradict(&first, &root), Some(Contradiction::Forked { .. })));
        let back = later(16, 43, "2026-02-04T00:00:00Z");
        assert!(matches!(contradict(&first, &back), Some(Contradiction::WentBack { .. })));
        let fell = later(18, 42, "2026-02-04T00:00:00Z");
        assert!(matches!(contradict(&first, &fell), Some(Contradiction::MarkFell { .. })));
        let mut other = honest.clone();
        other.manifest = other.images[0].digest;
        assert!(matches!(contradict(&first, &other), Some(Contradiction::OtherRecord { .. })));
        other = honest.clone();
        other.bundle = BundleId::generate();
        assert!(matches!(contradict(&first, &other), Some(Contradiction::OtherRecord { .. })));

        // Another ledger may say anything; another stream has its own mark and numbers.
        let elsewhere = Receipt { ledger: LedgerId::generate(), ..back };
        assert_eq!(contradict(&first, &elsewhere), None);
        let stream = Receipt { stream: "other".parse().expect("a stream"), ..fell };
        assert_eq!(contradict(&first, &stream), None);
    }
}

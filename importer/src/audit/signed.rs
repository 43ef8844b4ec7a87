//! Heads that a ledger key signed, wherever they were kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ledger::{EntryNumber, Head, HeadStatement, Known, LaterKey, Ledger, Mark, Proof};
use manifest_schema::{LIMITS, OutsideText, Receipt, ReceiptHead, Timestamp};
use serde::Serialize;
use signing::{Certificates, Fingerprint, Trust};

use super::{AuditError, read};
use crate::access::to_ledger;
use crate::error::Error;

/// The keys whose signature on a head counts, each with the entry by which another key took over: it signs for none from there
/// on.
pub struct LedgerKeys {
    certificates: Certificates,
    /// Whether what they signed counts after they have expired.
    as_signed: bool,
    counting: BTreeMap<Fingerprint, Option<EntryNumber>>,
}

/// A head that a ledger key signed.
///
/// Only [`LedgerKeys::judge`] and [`LedgerKeys::read`] make one:
///
/// ```compile_fail
/// fn forged(signed: importer::audit::signed::SignedHead) -> importer::audit::signed::SignedHead {
///     importer::audit::signed::SignedHead { signed_at: manifest_schema::Timestamp::now(), ..signed }
/// }
/// ```
#[derive(Debug, Clone, Serialize)]
#[must_use]
pub struct SignedHead {
    head: Head,
    /// How far streams had come by it, as far as the statement says.
    #[serde(skip)]
    marks: Vec<Mark>,
    key: Fingerprint,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<OutsideText>,
    signed_at: Timestamp,
}

impl SignedHead {
    /// The head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The head, and how far streams had come by it.
    pub fn known(&self) -> Known {
        Known { head: self.head, marks: self.marks.clone() }
    }

    /// The certificate of the key that signed it.
    pub fn key(&self) -> &Fingerprint {
        &self.key
    }

    /// When the signature says that it was made.
    pub fn signed_at(&self) -> Timestamp {
        self.signed_at
    }

    /// Who signed, and when, for people.
    pub fn by(&self) -> String {
        let user = self.user_id.as_ref().map(|user| format!(" ({})", user.escaped())).unwrap_or_default();
        format!("key {}{user} at {}", self.key, self.signed_at)
    }
}

/// What a statement says of a ledger's state.
struct Claim {
    head: Head,
    marks: Vec<Mark>,
    /// The key that the statement names, if it names one.
    key: Option<ledger::Fingerprint>,
}

/// How a head is taken from a statement.
type Take = fn(&[u8]) -> Result<Claim, OutsideText>;

/// The statements that carry a head: how each begins, and how the head is taken from it. The ledger key signs all of them.
const STATEMENTS: [(&str, Take); 2] = [(r#"{"type":"sealift/ledger-head/"#, of_head), (Receipt::BEGINNING, of_receipt)];

fn of_head(document: &[u8]) -> Result<Claim, OutsideText> {
    let HeadStatement { head, key, marks, .. } = HeadStatement::parse(document)?;
    Ok(Claim { head, marks, key: Some(key) })
}

fn of_receipt(document: &[u8]) -> Result<Claim, OutsideText> {
    let Receipt { ledger, head, stream, newest, .. } =
        Receipt::parse(document).map_err(|e| OutsideText::new(e.to_string()))?;
    let ReceiptHead { number, hash, root, time } = head;
    Ok(Claim {
        head: Head { ledger, number, hash, root, time },
        marks: vec![Mark { stream, sequence: newest }],
        key: None,
    })
}

impl LedgerKeys {
    /// The keys that a ledger has had, by its entries, and those that somebody knows otherwise. What a key of a ledger signed
    /// counts for ever, so that an old head still shows what the ledger had.
    ///
    /// # Errors
    /// If the ledger cannot be read, or has no key.
    pub fn of(ledger: &Ledger, known: Option<&Certificates>) -> Result<Self, Error> {
        let not_signed = || ledger::Error::NotSigned(ledger.path().into());
        let keys = ledger.keys()?;
        let ends = keys.iter().skip(1).map(|(entry, _)| Some(*entry)).chain([None]);
        let mut counting: BTreeMap<Fingerprint, _> =
            keys.iter().zip(ends).filter_map(|((_, key), end)| Some((key.as_str().parse().ok()?, end))).collect();
        if counting.is_empty() {
            return Err(not_signed().into());
        }
        let mut bytes = ledger.certificates()?;
        if let Some(known) = known {
            for fingerprint in known.fingerprints() {
                bytes.extend(known.armored(&fingerprint)?);
                counting.entry(fingerprint).or_insert(None);
            }
        }
        let certificates = Certificates::from_bytes(&bytes, Path::new("the ledger's certificates"))?;
        Ok(Self { certificates, as_signed: true, counting })
    }

    /// All these certificates, as long as they are good.
    pub fn all(certificates: Certificates) -> Self {
        let counting = certificates.fingerprints().into_iter().map(|key| (key, None)).collect();
        Self { certificates, as_signed: false, counting }
    }

    /// Judges a statement that carries a head.
    ///
    /// # Errors
    /// Why it is no head that one of the keys signed.
    pub fn judge(&self, statement: &[u8], now: Timestamp) -> Result<SignedHead, OutsideText> {
        let text = |e: &dyn std::error::Error| OutsideText::new(console::chain(e));
        let trust = Trust::new(self.certificates.clone(), 1, now).map_err(|e| text(&e))?;
        let trust = if self.as_signed { trust.as_signed() } else { trust };
        let authentic = trust.verify_statement(statement, LIMITS.config).map_err(|e| text(&e))?;
        let document = authentic.get().strip_suffix(b"\n").unwrap_or(authentic.get());
        let known = STATEMENTS.iter().find(|(beginning, _)| document.starts_with(beginning.as_bytes()));
        let (_, take) = known.ok_or_else(|| OutsideText::new("the statement is of a type that carries no head"))?;
        let Claim { head, marks, key } = take(document)?;
        let named = |signer: &Fingerprint| key.as_ref().is_none_or(|key| key.as_str() == signer.as_str());
        let counts = |signer: &Fingerprint| self.counting.contains_key(signer) && named(signer);
        let Some(signer) = authentic.signers().iter().find(|signer| counts(&signer.fingerprint)) else {
            let signers: Vec<_> = authentic.signers().iter().map(|s| s.fingerprint.to_string()).collect();
            let expected = key.map_or_else(String::new, |key| format!(", though it names {key}"));
            return Err(OutsideText::new(format!("it is signed by {}{expected}", signers.join(", "))));
        };
        if let Some(end) = self.counting.get(&signer.fingerprint).copied().flatten().filter(|end| head.number >= *end) {
            let (key, number) = (&signer.fingerprint, head.number);
            return Err(OutsideText::new(format!(
                "it is of entry {number}, and key {key} signs for none from entry {end} on"
            )));
        }
        let (key, user_id, signed_at) = (signer.fingerprint.clone(), signer.user_id.clone(), signer.signed_at);
        Ok(SignedHead { head, marks, key, user_id, signed_at })
    }

    /// Reads and judges a file that carries a head: a statement (a head, a receipt), or a proof.
    ///
    /// # Errors
    /// [`AuditError::Read`], [`AuditError::NoHead`].
    pub fn read(&self, path: &Path, now: Timestamp) -> Result<SignedHead, AuditError> {
        let no_head = |reason| AuditError::NoHead { path: path.into(), reason };
        let mut bytes = read(path, LIMITS.proof)?;
        if bytes.starts_with(Proof::BEGINNING.as_bytes()) {
            let proof = Proof::parse(&bytes).map_err(|e| no_head(OutsideText::new(console::chain(&e))))?;
            bytes = proof.head.raw().as_bytes().to_vec();
        }
        self.judge(&bytes, now).map_err(no_head)
    }
}

/// The ledger keys of these certificates, for a ledger that may not know them.
///
/// # Errors
/// If one of the certificates cannot be encoded.
pub fn later_keys(certificates: &Certificates) -> Result<Vec<LaterKey>, Error> {
    let later = |key: Fingerprint| Ok(LaterKey { certificate: certificates.armored(&key)?, key: to_ledger(&key) });
    certificates.fingerprints().into_iter().map(later).collect()
}

/// A head that was kept elsewhere, and what the ledger says of it.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// The file.
    pub file: PathBuf,
    /// The head.
    #[serde(flatten)]
    pub signed: SignedHead,
    /// What the ledger says of it.
    pub standing: ledger::HeadStanding,
}

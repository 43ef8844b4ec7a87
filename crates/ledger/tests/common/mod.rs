//! A ledger in a temporary folder, and acts to write to it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use ledger::{
    Announced, ApprovalWithdrawn, Approved, Begun, Checked, Checker, Created, Custody, EntryNumber, EvidenceKind,
    Fingerprint, Head, Known, Ledger, LedgerId, MovedTag, Overridden, Received, ReceivedImage, Recorded,
    RecordedEvidence, RecordedHandover, RecordedImage, RecordedSignature, Refused, Rejected, Resigned, Rule, Signer,
    Signing, Stamp, Subject, Vouched, Withdrawn,
};
use manifest_schema::manifest::PlatformManifest;
use manifest_schema::{BundleId, Digest, OutsideText, Reference, Sequence, Timestamp};

/// The tables of the record that schema 1 has.
pub const TABLES: [&str; 10] =
    ["entry", "act", "bundle", "signing", "recorded", "image", "platform", "signature", "tag", "refusal"];
/// Those that came with schema 3.
pub const TABLES_OF_3: [&str; 12] = [
    "node",
    "signed",
    "received",
    "approval",
    "approval_withdrawal",
    "rejection",
    "override",
    "promoted",
    "withdrawal",
    "ledger_key",
    "adoption",
    "mark",
];

pub const START: i64 = 1_770_000_000;
const CERTIFICATE: &str = "567E347AD0044ADE55BA8A5F199E2F91FD431D51";

pub struct Place {
    pub folder: tempfile::TempDir,
    pub path: PathBuf,
    pub id: LedgerId,
    /// The ledger key.
    pub key: char,
}

pub fn place() -> Place {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.db");
    let facts = Created { production: Some(certificate()), ledger_key: None };
    let id = Ledger::create(&path, &stamp(0), facts, Some(&custody(&path, 'A'))).expect("a ledger");
    Place { folder, path, id, key: 'A' }
}

/// The certificate of a ledger key.
pub fn ledger_key(letter: char) -> Fingerprint {
    letter.to_string().repeat(40).parse().expect("a fingerprint")
}

/// What it takes to write to a ledger.
pub fn custody(path: &Path, letter: char) -> Custody {
    let second = path.with_extension("db.head");
    Custody { signer: Box::new(Key(ledger_key(letter))), checker: Box::new(Keys), second }
}

/// A key that signs with a hash: good enough where nobody forges. A statement is the document's line, then a line for each
/// signature.
pub struct Key(pub Fingerprint);

impl Key {
    fn line(&self, document: &[u8]) -> String {
        let hash = blobs::sha256(&[b"secret of ", self.0.as_str().as_bytes(), document].concat());
        format!("{} {hash}\n", self.0)
    }
}

impl Signer for Key {
    fn fingerprint(&self) -> Fingerprint {
        self.0.clone()
    }
    fn certificate(&self) -> Result<Vec<u8>, OutsideText> {
        // As long as one for RSA.
        Ok(format!("{}\n{}\n", "x".repeat(2500), self.0).into_bytes())
    }
    fn sign(&self, document: &[u8]) -> Result<Vec<u8>, OutsideText> {
        Ok([document, b"\n", self.line(document).as_bytes()].concat())
    }
}

pub struct Keys;

impl Checker for Keys {
    fn check(&self, statement: &[u8], certificates: &[u8]) -> Result<Checked, OutsideText> {
        let text = std::str::from_utf8(statement).map_err(|_| OutsideText::new("not text"))?;
        let (document, signatures) = text.split_once('\n').ok_or_else(|| OutsideText::new("one line"))?;
        let known: Vec<Key> =
            String::from_utf8_lossy(certificates).lines().filter_map(|l| Some(Key(l.parse().ok()?))).collect();
        let mut signers = Vec::new();
        for line in signatures.split_inclusive('\n') {
            let key = known.iter().find(|key| key.line(document.as_bytes()) == line);
            signers.push(key.ok_or_else(|| OutsideText::new("a bad signature"))?.0.clone());
        }
        if signers.is_empty() {
            return Err(OutsideText::new("nobody signed"));
        }
        Ok(Checked { document: document.as_bytes().to_vec(), signers })
    }
}

/// Puts the signatures of two statements behind one document.
pub fn join(one: &[u8], two: &[u8]) -> Result<Vec<u8>, OutsideText> {
    let signature = two.splitn(2, |b| *b == b'\n').nth(1).unwrap_or_default();
    Ok([one, signature].concat())
}

/// A head of which nothing else is known.
pub fn known(head: Head) -> Known {
    Known { head, marks: Vec::new() }
}

impl Place {
    pub fn open(&self) -> Ledger {
        self.try_open().expect("the ledger opens")
    }

    pub fn try_open(&self) -> Result<Ledger, ledger::Error> {
        Ledger::open(&self.path, Some(&self.id), Some(self.custody()))
    }

    pub fn custody(&self) -> Custody {
        custody(&self.path, self.key)
    }

    /// Puts an old copy of the file in place of the ledger.
    pub fn put_back(&self, copy: &[u8]) {
        for end in ["db-wal", "db-shm"] {
            let _ = std::fs::remove_file(self.path.with_extension(end));
        }
        std::fs::write(&self.path, copy).expect("put back");
    }

    pub fn read(&self) -> Ledger {
        Ledger::open_read_only(&self.path, Some(&self.id)).expect("the ledger opens")
    }

    /// A connection as any other program would make it.
    pub fn raw(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(&self.path).expect("SQLite opens the file")
    }
}

pub fn certificate() -> Fingerprint {
    CERTIFICATE.parse().expect("a fingerprint")
}

pub fn stamp(seconds: i64) -> Stamp {
    Stamp {
        now: Timestamp::from_unix(START + seconds).expect("a time"),
        tool: "sealift-import 0.1.0".parse().expect("a label"),
        by: Some("ada (uid 1000)".parse().expect("a label")),
    }
}

pub fn digest(text: &str) -> Digest {
    blobs::sha256(text.as_bytes())
}

/// A bundle whose id and manifest follow from its number.
pub fn subject(stream: &str, sequence: u64) -> Subject {
    let hex = digest(&format!("{stream} {sequence}")).hex();
    let bundle: BundleId =
        format!("{}-{}-7{}-8{}-{}", &hex[..8], &hex[8..12], &hex[12..15], &hex[15..18], &hex[18..30])
            .parse()
            .expect("a bundle id");
    Subject {
        bundle,
        stream: stream.parse().expect("a stream"),
        sequence: Sequence::try_from(sequence).expect("a sequence"),
        manifest: digest(&format!("manifest {stream} {sequence}")),
    }
}

pub fn begun(subject: &Subject) -> Begun {
    Begun {
        subject: subject.clone(),
        signed: Some(stamp(subject.sequence.get().cast_signed()).now),
        newest_signed: None,
    }
}

pub fn signing(subject: &Subject) -> Signing {
    let recorded = recorded(subject);
    let images = recorded.signatures.into_iter().map(|s| Announced { reference: s.reference, digest: s.digest });
    Signing { subject: subject.clone(), production: Some(certificate()), images: images.collect(), tags: vec![] }
}

pub fn recorded(subject: &Subject) -> Recorded {
    let Subject { stream, sequence, .. } = subject;
    let tag = format!("registry.prod.example/{stream}/api:{sequence}");
    let index = digest(&format!("index {stream} {sequence}"));
    let amd64 = digest(&format!("amd64 {stream} {sequence}"));
    let reference: Reference = tag.parse().expect("a reference");
    Recorded {
        subject: subject.clone(),
        signers: vec![certificate()],
        images: vec![RecordedImage {
            origin: format!("registry.dev.example/{stream}/api:{sequence}").parse().expect("a reference"),
            production: tag.parse().expect("a tag"),
            digest: index,
            platforms: vec![PlatformManifest {
                platform: Some("linux/amd64".parse().expect("a platform")),
                digest: amd64,
            }],
            vouched: Vouched::Policy { scopes: vec!["docker: registry.dev.example".parse().expect("a scope")] },
            evidence: vec![RecordedEvidence {
                kind: EvidenceKind::SimpleSignature,
                subject: amd64,
                digest: digest("evidence"),
                what: Some(OutsideText::new("registry.dev.example/api:1")),
                verified: Some(true),
                signer: Some(OutsideText::new("AB".repeat(20))),
                note: None,
            }],
            scan: None,
        }],
        signatures: [index, amd64]
            .into_iter()
            .map(|digest| RecordedSignature {
                reference: reference.clone(),
                digest,
                path: OutsideText::new(format!("{stream}/api@sha256={}/signature-1", digest.hex())),
                file: self::digest(&format!("signature {digest}")),
            })
            .collect(),
        tags: vec![MovedTag {
            tag: tag.parse().expect("a tag"),
            digest: index,
            previous: Some(self::digest("before")),
        }],
        no_policy: vec!["scan-gate".parse().expect("a key")],
        gate: None,
        handover: vec![RecordedHandover {
            statement: digest("statement"),
            number: 1,
            at: stamp(0).now,
            by: "Ada".parse().expect("a name"),
            to: None,
            bag: Some("4711".parse().expect("a number")),
            signer: Some(certificate()),
            known: true,
        }],
        skipped: vec![],
        approvals: vec![],
        promoter: None,
    }
}

pub fn refused(subject: &Subject) -> Refused {
    Refused { subject: subject.clone(), reason: OutsideText::new("the \u{1b}[31mpolicy\u{202e} says no") }
}

/// A whole import.
pub fn import(ledger: &mut Ledger, stream: &str, sequence: u64, seconds: i64) -> EntryNumber {
    let subject = subject(stream, sequence);
    let _ = ledger.begin(&stamp(seconds), begun(&subject)).expect("begun");
    ledger.signing(&stamp(seconds + 1), signing(&subject)).expect("announced");
    ledger.record(&stamp(seconds + 2), recorded(&subject)).expect("recorded")
}

pub fn received(subject: &Subject) -> Received {
    let recorded = recorded(subject);
    let staging = format!("registry.qa.example/{}/api:{}", subject.stream, subject.sequence);
    let waits = |image| ReceivedImage { image, staging: Some(staging.parse().expect("a tag")) };
    Received {
        subject: subject.clone(),
        signers: recorded.signers,
        images: recorded.images.into_iter().map(waits).collect(),
        no_policy: recorded.no_policy,
        gate: None,
        handover: recorded.handover,
    }
}

pub fn approved(subject: &Subject, letter: char) -> Approved {
    let statement = digest(&format!("{letter} approves {}", subject.bundle));
    let file = OutsideText::new("a statement\nand a signature\n");
    Approved { subject: subject.clone(), approver: ledger_key(letter), statement, not_after: stamp(1_000).now, file }
}

pub fn approval_withdrawn(subject: &Subject, letter: char) -> ApprovalWithdrawn {
    let Approved { subject, approver, statement: approval, file, .. } = approved(subject, letter);
    ApprovalWithdrawn { subject, approver, approval, file }
}

pub fn rejected(subject: &Subject) -> Rejected {
    Rejected { subject: subject.clone(), reason: OutsideText::new("the scanner found something") }
}

pub fn overridden(subject: &Subject, rules: &[Rule]) -> Overridden {
    Overridden { subject: subject.clone(), rules: rules.to_vec(), reason: OutsideText::new("the board said so") }
}

pub fn resigned(subject: &Subject) -> Resigned {
    Resigned { subject: subject.clone(), production: certificate(), signatures: recorded(subject).signatures }
}

pub fn withdrawn(subject: &Subject) -> Withdrawn {
    Withdrawn { images: signing(subject).images, reason: OutsideText::new("CVE-2026-1") }
}

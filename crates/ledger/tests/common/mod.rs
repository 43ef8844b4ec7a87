//! A ledger in a temporary folder, and acts to write to it.
#![allow(dead_code)]

use std::path::PathBuf;

use ledger::{
    Announced, Begun, Created, EntryNumber, EvidenceKind, Fingerprint, Ledger, LedgerId, MovedTag, Recorded,
    RecordedEvidence, RecordedHandover, RecordedImage, RecordedSignature, Refused, Signing, Stamp, Subject, Vouched,
};
use manifest_schema::manifest::PlatformManifest;
use manifest_schema::{BundleId, Digest, OutsideText, Reference, Sequence, Timestamp};

pub const START: i64 = 1_770_000_000;
const CERTIFICATE: &str = "567E347AD0044ADE55BA8A5F199E2F91FD431D51";

pub struct Place {
    pub folder: tempfile::TempDir,
    pub path: PathBuf,
    pub id: LedgerId,
}

pub fn place() -> Place {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.db");
    let facts = Created { production: Some(certificate()), ledger_key: None };
    let id = Ledger::create(&path, &stamp(0), facts).expect("a ledger");
    Place { folder, path, id }
}

impl Place {
    pub fn open(&self) -> Ledger {
        Ledger::open(&self.path, Some(&self.id)).expect("the ledger opens")
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
    Begun { subject: subject.clone() }
}

pub fn signing(subject: &Subject) -> Signing {
    let recorded = recorded(subject);
    let images = recorded.signatures.into_iter().map(|s| Announced { reference: s.reference, digest: s.digest });
    Signing { subject: subject.clone(), production: Some(certificate()), images: images.collect() }
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

//! A small world of its own: a certificate authority, a certificate transparency log, a log of signatures, and a trusted
//! root that names them. One field changed gives a bundle with one flaw.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::Digest;
use manifest_schema::digest::to_hex;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::EncodePublicKey;
use serde_json::{Value, json};

use crate::common::time;

pub const SUBJECT: &str = "release@dev.example";
pub const ISSUER: &str = "https://accounts.dev.example";

fn sha256(bytes: &[u8]) -> Vec<u8> {
    blobs::sha256(bytes).as_bytes().to_vec()
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// A P-256 key made of one number.
#[derive(Clone, Copy, PartialEq)]
pub struct Key(pub u8);

impl Key {
    fn secret(self) -> SigningKey {
        SigningKey::from_slice(&[self.0; 32]).unwrap()
    }

    pub fn sign(self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.secret().sign(message);
        signature.to_der().as_bytes().to_vec()
    }

    pub fn spki(self) -> Vec<u8> {
        self.secret().verifying_key().to_public_key_der().unwrap().as_bytes().to_vec()
    }

    /// The identifier of a log with this key (RFC 6962 section 3.2).
    fn id(self) -> Vec<u8> {
        sha256(&self.spki())
    }
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match content.len() {
        n @ 0..128 => out.push(n as u8),
        n @ 128..256 => out.extend([0x81, n as u8]),
        n => out.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    [out, content].concat()
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    tlv(0x30, &[&tlv(6, &[oid]), critical, &tlv(4, &[value])])
}

fn certificate(
    issuer: (&str, Key),
    subject: Option<&str>,
    key: Key,
    validity: [&str; 2],
    extensions: &[Vec<u8>],
) -> Vec<u8> {
    let tbs = to_be_signed(issuer.0, subject, key, validity, extensions);
    let signature = issuer.1.sign(&tbs);
    tlv(0x30, &[&tbs, &ECDSA_SHA256, &tlv(3, &[&[0], &signature])])
}

const ECDSA_SHA256: [u8; 12] = [0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

fn to_be_signed(issuer: &str, subject: Option<&str>, key: Key, validity: [&str; 2], extensions: &[Vec<u8>]) -> Vec<u8> {
    let name = |name: &str| {
        let common = tlv(0x30, &[&tlv(6, &[&[0x55, 4, 3]]), &tlv(12, &[name.as_bytes()])]);
        tlv(0x30, &[&tlv(0x31, &[&common])])
    };
    let [from, until] = validity.map(|time| tlv(0x17, &[time.as_bytes()]));
    let subject = subject.map_or_else(|| tlv(0x30, &[]), name);
    tlv(
        0x30,
        &[
            &tlv(0xa0, &[&[2, 1, 2]]),
            &[2, 1, 7],
            &ECDSA_SHA256,
            &name(issuer),
            &tlv(0x30, &[&from, &until]),
            &subject,
            &key.spki(),
            &tlv(0xa3, &[&tlv(0x30, &[&extensions.concat()])]),
        ],
    )
}

/// What a bundle is made of. The default is good.
#[derive(Clone)]
pub struct Forge {
    pub subject: &'static str,
    pub issuer: &'static str,
    /// Who issues the certificate; the trusted root has number 1.
    pub authority: Key,
    /// Who promises that the certificate is public; the trusted root has number 2.
    pub transparency: Key,
    /// Who promises that the entry is in the log; the trusted root has number 3.
    pub promise: Key,
    /// Who signs the log's checkpoint; the trusted root has number 3.
    pub checkpoint: Key,
    /// Whom the certificate is for.
    pub certified: Key,
    /// Who signs.
    pub signer: Key,
    pub validity: [&'static str; 2],
    pub logged_at: &'static str,
    pub code_signing: bool,
    pub with_sct: bool,
    /// Whether the log's tree contains the entry.
    pub included: bool,
    /// The statement in the envelope; none for a bare message signature over the digest below.
    pub statement: Option<Vec<u8>>,
    /// What the log says was signed, if not what was.
    pub logged_statement: Option<Vec<u8>>,
    /// Content of a bare message.
    pub message: Vec<u8>,
}

impl Forge {
    pub fn new(statement: Option<Vec<u8>>) -> Self {
        Self {
            subject: SUBJECT,
            issuer: ISSUER,
            authority: Key(1),
            transparency: Key(2),
            promise: Key(3),
            checkpoint: Key(3),
            certified: Key(4),
            signer: Key(4),
            validity: ["250101000000Z", "250101001000Z"],
            logged_at: "2025-01-01T00:05:00Z",
            code_signing: true,
            with_sct: true,
            included: true,
            statement,
            logged_statement: None,
            message: b"a manifest".to_vec(),
        }
    }

    fn leaf(&self) -> Vec<u8> {
        let mut extensions = vec![
            extension(&[0x55, 0x1d, 15], true, &[3, 2, 7, 0x80]),
            extension(&[0x55, 0x1d, 17], true, &tlv(0x30, &[&tlv(0x81, &[self.subject.as_bytes()])])),
            extension(&[0x2b, 6, 1, 4, 1, 0x83, 0xbf, 0x30, 1, 8], false, &tlv(12, &[self.issuer.as_bytes()])),
        ];
        let purpose = if self.code_signing { 3 } else { 1 };
        extensions.push(extension(&[0x55, 0x1d, 37], false, &tlv(0x30, &[&[6, 8, 0x2b, 6, 1, 5, 5, 7, 3, purpose]])));
        let precertificate = to_be_signed("authority", None, self.certified, self.validity, &extensions);
        if self.with_sct {
            let at = (u64::try_from(time("2025-01-01T00:00:00Z").unix()).unwrap() * 1000).to_be_bytes();
            let length = &(precertificate.len() as u32).to_be_bytes()[1..];
            let issuer = sha256(&self.authority.spki());
            let signed = [&[0, 0], at.as_slice(), &[0, 1], &issuer, length, &precertificate, &[0, 0]].concat();
            let signature = self.transparency.sign(&signed);
            let length = (signature.len() as u16).to_be_bytes();
            let id = self.transparency.id();
            let sct = [&[0], id.as_slice(), &at, &[0, 0], &[4, 3], &length, &signature].concat();
            let one = [(sct.len() as u16).to_be_bytes().as_slice(), &sct].concat();
            let list = [(one.len() as u16).to_be_bytes().as_slice(), &one].concat();
            let oid = [0x2b, 6, 1, 4, 1, 0xd6, 0x79, 2, 4, 2];
            extensions.push(extension(&oid, false, &tlv(4, &[&list])));
        }
        certificate(("authority", self.authority), None, self.certified, self.validity, &extensions)
    }

    /// The bundle.
    pub fn bundle(&self) -> Value {
        let leaf = self.leaf();
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", b64(&leaf));
        let (content, body, kind) = match &self.statement {
            Some(statement) => {
                let signature = self.signer.sign(&pae(statement));
                let logged = self.logged_statement.as_ref().unwrap_or(statement);
                let hash = |bytes: &[u8]| json!({ "algorithm": "sha256", "value": to_hex(&sha256(bytes)) });
                let body = json!({ "apiVersion": "0.0.1", "kind": "dsse", "spec": {
                    "envelopeHash": hash(b"not looked at"), "payloadHash": hash(logged),
                    "signatures": [{ "signature": b64(&signature), "verifier": b64(&pem) }] } });
                (json!({ "dsseEnvelope": envelope(statement, &signature) }), body, "dsse")
            }
            None => {
                let signature = self.signer.sign(&self.message);
                let hash = sha256(&self.message);
                let logged = self.logged_statement.as_ref().map_or(hash.clone(), |message| sha256(message));
                let body = json!({ "apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
                    "data": { "hash": { "algorithm": "sha256", "value": to_hex(&logged) } },
                    "signature": { "content": b64(&signature), "publicKey": { "content": b64(&pem) } } } });
                (json!({ "messageSignature": message(&hash, &signature) }), body, "hashedrekord")
            }
        };
        let body = body.to_string().into_bytes();
        let at = time(self.logged_at).unix();
        let log = self.promise.id();
        let promised = json!({ "body": b64(&body), "integratedTime": at, "logID": to_hex(&log), "logIndex": 0 });
        let promise = self.promise.sign(promised.to_string().as_bytes());

        let leaf_hash = sha256(&[&[0], body.as_slice()].concat());
        let sibling = sha256(b"\0another entry");
        let first = if self.included { leaf_hash } else { sha256(b"\0no such entry") };
        let root = sha256(&[&[1], first.as_slice(), &sibling].concat());
        let note = format!("log.dev.example\n2\n{}\n", b64(&root));
        let signed = [&self.checkpoint.id()[..4], &self.checkpoint.sign(note.as_bytes())].concat();
        let checkpoint = format!("{note}\n\u{2014} log.dev.example {}\n", b64(signed));

        let mut bundle = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": { "rawBytes": b64(&leaf) },
                "tlogEntries": [{
                    "logIndex": "0",
                    "logId": { "keyId": b64(&log) },
                    "kindVersion": { "kind": kind, "version": "0.0.1" },
                    "integratedTime": at.to_string(),
                    "inclusionPromise": { "signedEntryTimestamp": b64(promise) },
                    "inclusionProof": { "logIndex": "0", "rootHash": b64(&root), "treeSize": "2",
                        "hashes": [b64(&sibling)], "checkpoint": { "envelope": checkpoint } },
                    "canonicalizedBody": b64(&body),
                }],
            },
        });
        bundle.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
        bundle
    }
}

/// An in-toto statement about these digests.
pub fn statement(subjects: &[Digest], predicate_type: &str) -> Vec<u8> {
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|digest| json!({ "name": "image", "digest": { digest.algorithm().name(): digest.hex() } }))
        .collect();
    let statement = json!({ "_type": "https://in-toto.io/Statement/v1", "subject": subjects,
        "predicateType": predicate_type, "predicate": {} });
    statement.to_string().into_bytes()
}

/// What the signature of an envelope is over.
pub fn pae(statement: &[u8]) -> Vec<u8> {
    let kind = "application/vnd.in-toto+json";
    [format!("DSSEv1 {} {kind} {} ", kind.len(), statement.len()).as_bytes(), statement].concat()
}

pub fn envelope(statement: &[u8], signature: &[u8]) -> Value {
    json!({ "payload": b64(statement), "payloadType": "application/vnd.in-toto+json",
        "signatures": [{ "sig": b64(signature) }] })
}

pub fn message(hash: &[u8], signature: &[u8]) -> Value {
    json!({ "messageDigest": { "algorithm": "SHA2_256", "digest": b64(hash) }, "signature": b64(signature) })
}

/// The trusted root of this world.
pub fn trusted_root() -> Value {
    let always = json!({ "start": "2024-01-01T00:00:00Z" });
    let log = |key: Key| {
        json!({ "baseUrl": "https://log.dev.example", "hashAlgorithm": "SHA2_256",
            "publicKey": { "rawBytes": b64(key.spki()), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": always },
            "logId": { "keyId": b64(key.id()) } })
    };
    let extensions =
        [extension(&[0x55, 0x1d, 19], true, &[0x30, 3, 1, 1, 0xff]), extension(&[0x55, 0x1d, 15], true, &[3, 2, 1, 6])];
    let validity = ["240101000000Z", "440101000000Z"];
    let authority = certificate(("authority", Key(1)), Some("authority"), Key(1), validity, &extensions);
    json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [log(Key(3))],
        "ctlogs": [log(Key(2))],
        "certificateAuthorities": [{ "uri": "https://ca.dev.example", "validFor": always,
            "certChain": { "certificates": [{ "rawBytes": b64(authority) }] } }],
    })
}

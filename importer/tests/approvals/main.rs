//! Approvals: made here and elsewhere, taken back, and everything that keeps one from counting.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod flow;
mod judged;
mod rules;
mod withdrawals;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use importer::Error;
use importer::approvals::{self, Approvals};
use importer::site::{ProductionArgs, SiteArgs};
use ledger::{Approved, Begun, EntryNumber, Received, ReceivedImage, RecordedImage, Stamp, Subject, Vouched};
use manifest_schema::{ApprovalId, BundleId, Digest, OutsideText, Sequence, TagRef, Timestamp};
use serde_json::{Value, json};
use signing::Fingerprint;
use testkit::{Key, Ran, Site, run, sealift_import};

/// A site where `payments-42` waits for its promotion, and three people who may approve.
struct Enclave {
    site: Site,
    ada: Key,
    ben: Key,
    cleo: Key,
    /// `payments-42`
    subject: Subject,
}

impl Enclave {
    /// Needs so many approvals.
    fn new(threshold: usize) -> Self {
        let mut site = Site::new();
        let people = site.scratch("people");
        let [ada, ben, cleo] = ["ada", "ben", "cleo"].map(|name| Key::new(&people, name));
        let files = [&ada, &ben, &cleo].map(|key| &key.certificate_file);
        site.import["approvers"] = json!({ "certificates": files, "threshold": threshold });
        let subject = let_wait(&site, 42);
        Self { site, ada, ben, cleo, subject }
    }

    /// What is to be promoted.
    fn wanted(&self) -> Vec<(TagRef, Digest)> {
        images().into_iter().map(|image| (image.production, image.digest)).collect()
    }

    /// `sealift-import approve` in the importing side's folder.
    fn approve(&self, args: &[&str]) -> Ran {
        run(self.site.import(&["approve"]).args(args))
    }

    /// The same on a machine that has neither configuration nor ledger.
    fn elsewhere(&self, args: &[&str]) -> Ran {
        let home = self.site.scratch("elsewhere");
        run(sealift_import(&home).current_dir(&home).arg("approve").args(args))
    }

    /// How the approvals stand.
    fn standing(&self) -> Value {
        self.approve(&["payments-42", "--list", "--json"]).expect_code(0).json()
    }

    /// What `promote` would be told.
    fn counted(&self) -> Result<Approvals, Error> {
        self.counted_for(None)
    }

    fn counted_for(&self, promoter: Option<&Key>) -> Result<Approvals, Error> {
        let site = resolve(&self.site)?;
        let promoter: Option<Fingerprint> = promoter.map(|key| key.fingerprint.parse().unwrap());
        let ledger = site.read_ledger()?.unwrap();
        approvals::counted(&site, &ledger, &self.subject, &self.wanted(), promoter.as_ref())
    }

    /// An honest approval, as a document that a test may change.
    fn document(&self) -> Value {
        let now = Timestamp::now();
        let images: Vec<_> =
            self.wanted().iter().map(|(tag, digest)| json!({ "production": tag, "digest": digest })).collect();
        json!({
            "type": "sealift/approval/1", "id": ApprovalId::generate(), "action": "promote",
            "ledger": self.site.import["ledger"]["id"], "bundle": self.subject.bundle, "stream": "payments", "sequence": 42,
            "manifest": self.subject.manifest, "images": images,
            "made": now, "not_after": later(86_400), "tool": "sealift-import 0.1.0",
        })
    }

    /// Puts a statement into the ledger past all checks, with an entry that says that Ada has made it.
    fn force(&self, statement: &Statement) -> EntryNumber {
        let approved = Approved {
            subject: self.subject.clone(),
            approver: self.ada.fingerprint.parse().unwrap(),
            statement: statement.digest(),
            not_after: later(86_400),
            file: OutsideText::whole(statement.text()),
        };
        self.site.open_ledger().approved(&stamp(), approved).unwrap()
    }
}

/// A statement's file.
struct Statement(Vec<u8>);

impl Statement {
    /// Any document, with the members in the order that approvals have them, signed by anyone.
    fn signed(document: &Value, key: &Key) -> Self {
        Self::of(&compact(document), key)
    }

    fn of(document: &[u8], key: &Key) -> Self {
        Self(key.secret.sign_statement(document, Timestamp::now()).unwrap())
    }

    fn line(&self) -> &[u8] {
        self.0.split(|b| *b == b'\n').next().unwrap()
    }

    fn digest(&self) -> Digest {
        blobs::sha256(self.line())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// Writes it to a file.
    fn to(&self, site: &Site, name: &str) -> PathBuf {
        let path = site.scratch("statements").join(name);
        fs::write(&path, &self.0).unwrap();
        path
    }
}

/// Compact JSON with the members in the order in which they are written; `serde_json::Value` sorts them.
fn compact(document: &Value) -> Vec<u8> {
    const ORDER: [&str; 16] = [
        "type",
        "id",
        "action",
        "ledger",
        "bundle",
        "stream",
        "sequence",
        "manifest",
        "images",
        "approval",
        "made",
        "not_after",
        "note",
        "reason",
        "tool",
        "more",
    ];
    fn text(value: &Value) -> String {
        match value {
            Value::Object(members) => {
                let place = |name: &String| match name.as_str() {
                    "production" => 0,
                    "digest" => 1,
                    "origin" => 2,
                    other => ORDER.iter().position(|n| *n == other).unwrap(),
                };
                let mut names: Vec<_> = members.keys().collect();
                names.sort_by_key(|name| place(name));
                let members: Vec<_> = names.iter().map(|n| format!("{}:{}", json!(n), text(&members[*n]))).collect();
                format!("{{{}}}", members.join(","))
            }
            Value::Array(values) => format!("[{}]", values.iter().map(text).collect::<Vec<_>>().join(",")),
            other => other.to_string(),
        }
    }
    text(document).into_bytes()
}

fn later(seconds: i64) -> Timestamp {
    Timestamp::from_unix(Timestamp::now().unix() + seconds).unwrap()
}

fn stamp() -> Stamp {
    Stamp { now: Timestamp::now(), tool: "a test".parse().unwrap(), by: None }
}

/// The images of a bundle that waits.
fn images() -> Vec<RecordedImage> {
    let image = |name: &str| RecordedImage {
        origin: format!("registry.dev.example/payments/{name}").parse().unwrap(),
        production: format!("registry.prod.example/payments/{name}").parse().unwrap(),
        digest: blobs::sha256(name.as_bytes()),
        platforms: Vec::new(),
        vouched: Vouched::Manifest,
        evidence: Vec::new(),
        scan: None,
    };
    vec![image("api:2.3.1"), image("web:1.0")]
}

/// Brings a bundle into the state in which `receive` leaves one that waits.
fn let_wait(site: &Site, sequence: u64) -> Subject {
    let subject = Subject {
        bundle: BundleId::generate(),
        stream: "payments".parse().unwrap(),
        sequence: Sequence::try_from(sequence).unwrap(),
        manifest: blobs::sha256(format!("the manifest of {sequence}").as_bytes()),
    };
    let mut ledger = site.open_ledger();
    let _ = ledger.begin(&stamp(), Begun { subject: subject.clone(), signed: None, newest_signed: None }).unwrap();
    let received = Received {
        subject: subject.clone(),
        signers: vec![site.release_key.fingerprint.parse().unwrap()],
        images: images().into_iter().map(|image| ReceivedImage { image, staging: None }).collect(),
        no_policy: Vec::new(),
        gate: None,
        handover: Vec::new(),
    };
    ledger.received(&stamp(), received).unwrap();
    subject
}

/// The site as the program sees it.
fn resolve(site: &Site) -> Result<importer::Site, Error> {
    resolve_with(site, &[])
}

fn resolve_with(site: &Site, args: &[&str]) -> Result<importer::Site, Error> {
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        site: SiteArgs,
        #[command(flatten)]
        production: ProductionArgs,
    }
    let config = site.import_dir().join("import.yaml");
    fs::write(&config, site.import.to_string()).unwrap();
    let config = ["test", "--config", config.to_str().unwrap()];
    let cli = Cli::parse_from(config.into_iter().chain(args.iter().copied()));
    importer::Site::resolve(cli.site, cli.production)
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn key(key: &Key) -> &str {
    path(&key.secret_file)
}

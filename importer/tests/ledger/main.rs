//! What an auditor does: heads kept elsewhere, proofs, exports, backups; and keys of the ledger.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod export;
mod heads;
mod keys;
mod proof;
mod reading;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use importer::access::{LedgerAccess, LedgerArgs, stamp};
use ledger::{
    Announced, ApprovalWithdrawn, Approved, Begun, EntryNumber, Fingerprint, Ledger, MovedTag, Overridden, Received,
    ReceivedImage, Recorded, RecordedImage, Rejected, Rule, Signing, Subject, Vouched, Withdrawn,
};
use manifest_schema::manifest::PlatformManifest;
use manifest_schema::{BundleId, Digest, OutsideText, Sequence, Timestamp};
use tempfile::TempDir;
use testkit::{Ran, run, run_ok, sealift_import};

/// A site as `init` makes it, without registries. What comes in is written by the library.
pub(crate) struct Desk {
    folder: TempDir,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self::with(&["--algorithm", "p256"])
    }

    pub(crate) fn with(args: &[&str]) -> Self {
        let desk = Self { folder: tempfile::Builder::new().prefix("desk").tempdir().unwrap() };
        run_ok(desk.program().current_dir(desk.folder.path()).args(["init", "site", "--no-passphrase"]).args(args));
        desk
    }

    fn program(&self) -> Command {
        let home = self.folder.path().join("home");
        fs::create_dir_all(&home).unwrap();
        sealift_import(&home)
    }

    /// The site's folder.
    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.path().join("site")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// `sealift-import` in the site's folder.
    pub(crate) fn import(&self, args: &[&str]) -> Command {
        let mut command = self.program();
        command.current_dir(self.dir()).args(args);
        command
    }

    /// `sealift-import ledger`.
    #[track_caller]
    pub(crate) fn ledger(&self, args: &[&str]) -> Ran {
        run(self.import(&["ledger"]).args(args))
    }

    /// The same in a folder where there is nothing else.
    #[track_caller]
    pub(crate) fn elsewhere(&self, args: &[&str]) -> Ran {
        let elsewhere = self.folder.path().join("elsewhere");
        fs::create_dir_all(&elsewhere).unwrap();
        run(self.program().current_dir(elsewhere).arg("ledger").args(args))
    }

    /// The ledger, to write to it.
    pub(crate) fn open(&self) -> Ledger {
        self.open_with("ledger.secret.asc")
    }

    /// The same with another key.
    pub(crate) fn open_with(&self, key: &str) -> Ledger {
        self.try_open_with(key).unwrap()
    }

    pub(crate) fn try_open_with(&self, key: &str) -> Result<Ledger, importer::Error> {
        let args = LedgerArgs {
            ledger: Some(self.file("ledger.db")),
            ledger_key: Some(self.file(key)),
            ..LedgerArgs::default()
        };
        LedgerAccess::find(args, None).unwrap().open(Timestamp::now())
    }

    pub(crate) fn read(&self) -> Ledger {
        Ledger::open_read_only(&self.file("ledger.db"), None).unwrap()
    }

    /// The number of entries.
    pub(crate) fn entries(&self) -> u64 {
        self.read().head().unwrap().number.get()
    }

    /// All of the ledger's files, to be put back.
    pub(crate) fn save(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = fs::read_dir(self.dir()).unwrap().map(|e| e.unwrap().path());
        let of_ledger = files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("ledger.db"));
        of_ledger.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    pub(crate) fn put_back(&self, saved: &[(PathBuf, Vec<u8>)]) {
        for (path, _) in self.save() {
            fs::remove_file(path).unwrap();
        }
        for (path, bytes) in saved {
            fs::write(path, bytes).unwrap();
        }
    }

    /// Another key, in a folder of its own.
    pub(crate) fn keygen(&self, role: &str, folder: &str) -> PathBuf {
        run_ok(&mut self.import(&["keygen", role, "--no-passphrase", "--algorithm", "p256", "-o", folder]));
        self.file(folder).join(format!("{role}.secret.asc"))
    }

    /// Writes what the ledger proves, and gives the file.
    #[track_caller]
    pub(crate) fn prove(&self, about: &str, name: &str) -> PathBuf {
        let file = self.file(name);
        self.ledger(&["prove", about, "-o", text(&file)]).expect_code(0);
        file
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn digest(text: &str) -> Digest {
    blobs::sha256(text.as_bytes())
}

pub(crate) fn fingerprint(letter: char) -> Fingerprint {
    letter.to_string().repeat(40).parse().unwrap()
}

pub(crate) fn outside(text: &str) -> OutsideText {
    OutsideText::new(text)
}

/// A bundle of a stream.
pub(crate) fn subject(stream: &str, sequence: u64) -> Subject {
    Subject {
        bundle: BundleId::generate(),
        stream: stream.parse().unwrap(),
        sequence: Sequence::try_from(sequence).unwrap(),
        manifest: digest(&format!("manifest {stream} {sequence}")),
    }
}

/// An index with one platform, called after the bundle.
pub(crate) fn image(subject: &Subject) -> RecordedImage {
    let name = format!("{} {}", subject.stream, subject.sequence);
    RecordedImage {
        origin: format!("registry.dev.example/{}/api:{}", subject.stream, subject.sequence).parse().unwrap(),
        production: format!("registry.prod.example/{}/api:{}", subject.stream, subject.sequence).parse().unwrap(),
        digest: digest(&format!("index {name}")),
        platforms: vec![PlatformManifest {
            platform: Some("linux/amd64".parse().unwrap()),
            digest: digest(&format!("amd64 {name}")),
        }],
        vouched: Vouched::Manifest,
        evidence: vec![],
        scan: None,
    }
}

pub(crate) fn record(subject: &Subject) -> Recorded {
    let image = image(subject);
    Recorded {
        subject: subject.clone(),
        signers: vec![fingerprint('E')],
        tags: vec![MovedTag {
            tag: image.production.clone(),
            digest: image.digest,
            previous: Some(digest("what was there")),
        }],
        images: vec![image],
        signatures: vec![],
        no_policy: vec![],
        gate: None,
        handover: vec![],
        skipped: vec![],
        approvals: vec![],
        promoter: None,
    }
}

pub(crate) fn begin(ledger: &mut Ledger, subject: &Subject) {
    let begun = Begun { subject: subject.clone(), signed: Some(Timestamp::now()), newest_signed: None };
    let _ = ledger.begin(&stamp().unwrap(), begun).unwrap();
}

pub(crate) fn announce(ledger: &mut Ledger, subject: &Subject) {
    let image = image(subject);
    let images = vec![Announced { reference: image.production.to_string().parse().unwrap(), digest: image.digest }];
    let signing = Signing { subject: subject.clone(), production: Some(fingerprint('F')), images, tags: vec![] };
    ledger.signing(&stamp().unwrap(), signing).unwrap();
}

/// A bundle from its beginning to production.
pub(crate) fn bring_in(ledger: &mut Ledger, stream: &str, sequence: u64) -> Subject {
    let subject = subject(stream, sequence);
    begin(ledger, &subject);
    announce(ledger, &subject);
    ledger.record(&stamp().unwrap(), record(&subject)).unwrap();
    subject
}

/// A bundle with everything that there is: two approvals, of which one is taken back, an override, a withdrawal.
pub(crate) fn bring_in_with_everything(ledger: &mut Ledger, stream: &str, sequence: u64) -> Subject {
    let subject = subject(stream, sequence);
    let stamp = stamp().unwrap();
    begin(ledger, &subject);
    let waits = ReceivedImage { image: image(&subject), staging: Some("registry.qa.example/api:1".parse().unwrap()) };
    let received = Received {
        subject: subject.clone(),
        signers: vec![fingerprint('E')],
        images: vec![waits],
        no_policy: vec!["scan-gate".parse().unwrap()],
        gate: None,
        handover: vec![],
    };
    ledger.received(&stamp, received).unwrap();
    for letter in ['A', 'B'] {
        let approved = Approved {
            subject: subject.clone(),
            approver: fingerprint(letter),
            statement: digest(&format!("statement of {letter}")),
            not_after: Timestamp::now(),
            file: outside("a statement"),
        };
        ledger.approved(&stamp, approved).unwrap();
    }
    let withdrawn = ApprovalWithdrawn {
        subject: subject.clone(),
        approver: fingerprint('B'),
        approval: digest("statement of B"),
        file: outside("a statement"),
    };
    ledger.approval_withdrawn(&stamp, withdrawn).unwrap();
    let overridden =
        Overridden { subject: subject.clone(), rules: vec![Rule::Approvals], reason: outside("=the board said so") };
    ledger.override_rules(&stamp, overridden).unwrap();
    announce(ledger, &subject);
    let record = Recorded { approvals: vec![digest("statement of A")], ..record(&subject) };
    ledger.record(&stamp, record).unwrap();
    let image = image(&subject);
    let images = vec![Announced { reference: image.production.to_string().parse().unwrap(), digest: image.digest }];
    ledger.withdrawn(&stamp, Withdrawn { images, reason: outside(HOSTILE) }).unwrap();
    subject
}

pub(crate) fn reject(ledger: &mut Ledger, subject: &Subject, reason: &str) {
    let rejected = Rejected { subject: subject.clone(), reason: outside(reason) };
    ledger.rejected(&stamp().unwrap(), rejected).unwrap();
}

/// What somebody may write who wants to be taken for something else.
pub(crate) const HOSTILE: &str = "</td><script>alert(1)</script>\u{1b}[2J\u{202e}\r\n=1+1,\"";

pub(crate) fn first() -> EntryNumber {
    EntryNumber::FIRST
}

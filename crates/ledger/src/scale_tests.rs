//! Large ledgers: how they are filled, and how long they take. `scripts/bench --only ledger` runs what is ignored here.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use manifest_schema::manifest::PlatformManifest;
use manifest_schema::{Digest, OutsideText, Sequence, TagRef};
use serde_json::{Value, json};

use crate::append::write_entry;
use crate::common::{Keys, custody, stamp};
use crate::{
    Act, Announced, Approved, Begun, Created, Custody, Entry, EntryNumber, EntryType, EvidenceKind, Filter,
    Fingerprint, Head, Ledger, MovedTag, Overridden, Received, ReceivedImage, Recorded, RecordedEvidence,
    RecordedHandover, RecordedImage, RecordedSignature, Refused, Rule, Signing, Stamp, Subject, Vouched,
};

/// Writes entries without asking whether they may follow one another, many in a transaction.
pub(crate) struct Filler<'a> {
    transaction: rusqlite::Transaction<'a>,
    path: &'a Path,
    head: Head,
    stamp: Stamp,
}

impl<'a> Filler<'a> {
    pub(crate) fn new(ledger: &'a mut Ledger, stamp: Stamp) -> Self {
        let head = ledger.head().expect("a head");
        Self { transaction: ledger.connection.transaction().expect("a transaction"), path: &ledger.path, head, stamp }
    }

    pub(crate) fn add(&mut self, act: Act) {
        let Stamp { now: time, tool, by } = self.stamp.clone();
        let Head { ledger, number, hash: previous, .. } = self.head;
        let entry = Entry { kind: EntryType::V1, ledger, number: number.next(), previous, time, tool, by, act };
        write_entry(&self.transaction, self.path, &entry).expect("written");
        let hash = crate::entry_hash(&entry.to_bytes().expect("bytes"));
        self.head = Head { number: entry.number, hash, ..self.head };
    }

    pub(crate) fn commit(self) {
        self.transaction.commit().expect("committed");
    }

    /// As a ledger does it, after every act.
    fn sign(self, custody: &Custody) {
        let head = crate::query::head(&self.transaction, self.path, self.head.ledger).expect("a head");
        let signed = crate::custody::sign(&self.transaction, self.path, custody, head).expect("signed");
        self.commit();
        crate::custody::write_second(&custody.second, &signed).expect("written");
    }
}

/// A site whose releases come from some streams in turn, five images in each. Every other stream has a staging registry and
/// two approvers.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) streams: u64,
}

/// The image that is in every release.
const EVERYWHERE: u64 = 4;

impl Shape {
    fn subject(self, release: u64) -> Subject {
        let hex = digest(&["bundle", &release.to_string()]).hex();
        let time = format!("{:012x}", 1_770_000_000_000_u64 + release * 60_000);
        let id = format!("{}-{}-7{}-8{}-{}", &time[..8], &time[8..], &hex[..3], &hex[3..6], &hex[6..18]);
        Subject {
            bundle: id.parse().expect("a bundle id"),
            stream: format!("team-{}", release % self.streams).parse().expect("a stream"),
            sequence: Sequence::try_from(release / self.streams + 1).expect("a sequence"),
            manifest: digest(&["manifest", &release.to_string()]),
        }
    }

    fn tag(self, release: u64, image: u64) -> TagRef {
        let Subject { stream, sequence, .. } = self.subject(release);
        format!("registry.prod.example/{stream}/service-{image}:1.{sequence}").parse().expect("a tag")
    }

    /// An image's digest, and those of the image manifests below it. A service changes with every third release.
    fn digests(self, release: u64, image: u64) -> (Digest, Vec<Digest>) {
        let Subject { stream, sequence, .. } = self.subject(release);
        let version = (sequence.get() / 3).to_string();
        let of = |what: &str| digest(&[what, &stream.to_string(), &image.to_string(), &version]);
        match image {
            0 => (of("index"), vec![of("amd64"), of("arm64")]),
            EVERYWHERE => (digest(&["everywhere"]), vec![digest(&["everywhere"])]),
            _ => (of("image"), vec![of("image")]),
        }
    }

    fn recorded(self, release: u64) -> Recorded {
        let subject = self.subject(release);
        let images: Vec<_> = (0..5)
            .map(|n| {
                let (digest, below) = self.digests(release, n);
                let platform = |(digest, name): (Digest, &str)| PlatformManifest {
                    platform: Some(name.parse().expect("a platform")),
                    digest,
                };
                let tag = self.tag(release, n).to_string();
                RecordedImage {
                    origin: tag.replace(".prod.", ".dev.").parse().expect("a reference"),
                    production: self.tag(release, n),
                    digest,
                    evidence: below.iter().flat_map(|d| evidence(*d)).collect(),
                    scan: None,
                    platforms: below.into_iter().zip(["linux/amd64", "linux/arm64"]).map(platform).collect(),
                    vouched: Vouched::Policy { scopes: vec!["docker: registry.dev.example".parse().expect("a scope")] },
                }
            })
            .collect();
        let documents = |image: &RecordedImage| {
            let mut digests = vec![image.digest];
            digests.extend(image.platforms.iter().map(|p| p.digest).filter(|d| *d != image.digest));
            digests
        };
        let sign = |image: &RecordedImage| {
            let (tag, path) = (image.production.clone(), image.production.repository.to_string());
            documents(image).into_iter().map(move |digest| RecordedSignature {
                reference: tag.to_string().parse().expect("a reference"),
                digest,
                path: OutsideText::new(format!("{path}@sha256={}/signature-1", digest.hex())),
                file: self::digest(&["signature", &digest.to_string()]),
            })
        };
        let moved =
            |image: &RecordedImage| MovedTag { tag: image.production.clone(), digest: image.digest, previous: None };
        Recorded {
            signers: vec![key('C')],
            signatures: images.iter().flat_map(sign).collect(),
            tags: images.iter().map(moved).collect(),
            images,
            no_policy: vec!["scan-gate".parse().expect("a key")],
            gate: None,
            handover: vec![handover(&subject, 1), handover(&subject, 2)],
            skipped: vec![],
            approvals: vec![],
            promoter: None,
            subject,
        }
    }

    fn signing(self, release: u64) -> Signing {
        let Recorded { subject, signatures, .. } = self.recorded(release);
        let images = signatures.into_iter().map(|s| Announced { reference: s.reference, digest: s.digest }).collect();
        Signing { subject, production: Some(key('D')), images, tags: vec![] }
    }

    /// The acts of a release.
    fn acts(self, release: u64) -> Vec<Act> {
        let (subject, recorded) = (self.subject(release), self.recorded(release));
        let signed = Some(stamp(release.cast_signed() * 60).now);
        let mut acts = vec![Act::Begun(Begun { subject: subject.clone(), signed, newest_signed: None })];
        if release.is_multiple_of(2) {
            let staging = |image: RecordedImage| ReceivedImage { staging: Some(image.production.clone()), image };
            acts.push(Act::Received(Received {
                subject: subject.clone(),
                signers: recorded.signers.clone(),
                images: recorded.images.iter().cloned().map(staging).collect(),
                no_policy: recorded.no_policy.clone(),
                gate: None,
                handover: recorded.handover.clone(),
            }));
            acts.extend(['E', 'F'].map(|approver| {
                Act::Approved(Approved {
                    subject: subject.clone(),
                    approver: key(approver),
                    statement: digest(&["approval", &approver.to_string(), &release.to_string()]),
                    not_after: stamp(release.cast_signed() * 60 + 86_400).now,
                    file: OutsideText::new(format!("{}\n{}", "statement ".repeat(40), "signature ".repeat(80))),
                })
            }));
        }
        if release % 50 == 7 {
            let reason = OutsideText::new("tag registry.prod.example/team/service:1 names another image");
            acts.push(Act::Refused(Refused { subject: subject.clone(), reason }));
            let (rules, reason) = (vec![Rule::Approvals], OutsideText::new("the board said so"));
            acts.push(Act::Overridden(Overridden { subject, rules, reason }));
        }
        acts.extend([Act::Signing(self.signing(release)), Act::Recorded(recorded)]);
        acts
    }
}

fn digest(parts: &[&str]) -> Digest {
    blobs::sha256(parts.join(" ").as_bytes())
}

fn key(letter: char) -> Fingerprint {
    letter.to_string().repeat(40).parse().expect("a fingerprint")
}

fn evidence(subject: Digest) -> [RecordedEvidence; 2] {
    [EvidenceKind::SimpleSignature, EvidenceKind::Referrer].map(|kind| RecordedEvidence {
        kind,
        subject,
        digest: digest(&["evidence", &subject.to_string()]),
        what: Some(OutsideText::new("registry.dev.example/team/service:1")),
        verified: Some(true),
        signer: Some(OutsideText::new("AB".repeat(20))),
        note: None,
    })
}

fn handover(subject: &Subject, number: u32) -> RecordedHandover {
    RecordedHandover {
        statement: digest(&["handover", &subject.manifest.to_string(), &number.to_string()]),
        number,
        at: stamp(0).now,
        by: "Ada Lovelace".parse().expect("a name"),
        to: Some("Charles Babbage".parse().expect("a name")),
        bag: Some("4711".parse().expect("a number")),
        signer: Some(key('A')),
        known: true,
    }
}

/// Makes a ledger of at least so many entries. Gives the number of its releases.
pub(crate) fn fill(path: &Path, entries: u64, shape: Shape) -> u64 {
    let custody_of = || custody(path, 'A');
    Ledger::create(path, &stamp(0), Created::default(), Some(&custody_of())).expect("a ledger");
    let mut ledger = Ledger::open(path, None, Some(custody_of())).expect("it opens");
    let mut release = 0_u64;
    loop {
        let mut filler = Filler::new(&mut ledger, stamp(release.cast_signed() * 60));
        for _ in 0..500 {
            shape.acts(release).into_iter().for_each(|act| filler.add(act));
            release += 1;
            if filler.head.number.get() >= entries {
                break;
            }
        }
        let is_done = filler.head.number.get() >= entries;
        filler.sign(&custody_of());
        if is_done {
            return release;
        }
    }
}

// --- Measuring.

/// What `scripts/bench` says: the ledger, how many entries it is to have, of how many streams.
fn asked() -> (PathBuf, u64, Shape) {
    let variable = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let number = |name| variable(name).parse().expect("a number");
    (variable("LEDGER").into(), number("ENTRIES"), Shape { streams: number("STREAMS") })
}

fn say(figures: &Value) {
    println!("\nfigures {figures}");
}

fn timed<T>(times: u64, mut act: impl FnMut(u64) -> T) -> Value {
    let one = |n| {
        let start = Instant::now();
        let _ = std::hint::black_box(act(n));
        start.elapsed()
    };
    spread((0..times).map(one).collect())
}

/// Milliseconds: in the middle, and the most.
fn spread(mut took: Vec<Duration>) -> Value {
    took.sort();
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    json!([ms(took[took.len() / 2]), ms(took[took.len() - 1])])
}

/// A number below `below` that looks random.
fn pick(n: u64, below: u64) -> u64 {
    let hash = crate::entry_hash(&n.to_be_bytes());
    u64::from_be_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes")) % below
}

/// Peak memory of this process since it was last set back, in bytes.
fn peak(set_back: bool) -> u64 {
    if set_back {
        std::fs::write("/proc/self/clear_refs", "5").expect("the peak is set back");
    }
    let status = std::fs::read_to_string("/proc/self/status").expect("this process");
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("its peak memory");
    line.trim().strip_suffix(" kB").expect("in kB").parse::<u64>().expect("a number") * 1024
}

#[test]
#[ignore = "a figure, not a test"]
fn filled() {
    let (path, entries, shape) = asked();
    let start = Instant::now();
    let releases = fill(&path, entries, shape);
    let seconds = start.elapsed().as_secs_f64();
    let bytes = std::fs::metadata(&path).expect("the ledger").len();
    say(&json!({"releases": releases, "seconds": seconds, "bytes": bytes}));
}

#[test]
#[ignore = "a figure, not a test"]
fn verified() {
    let (path, ..) = asked();
    let ledger = Ledger::open_read_only(&path, None).expect("it opens");
    let before = peak(true);
    let start = Instant::now();
    let verified = ledger.verify(&Keys).expect("it is right");
    let seconds = start.elapsed().as_secs_f64();
    say(&json!({"entries": verified.head.number, "seconds": seconds, "before": before, "peak": peak(false)}));
}

#[test]
#[ignore = "a figure, not a test"]
fn questions_asked() {
    let (path, _, shape) = asked();
    let ledger = Ledger::open_read_only(&path, None).expect("it opens");
    let head = ledger.head().expect("a head");
    let count = "SELECT count(*) FROM bundle";
    let releases = ledger.connection.query_row(count, [], |r| r.get::<_, i64>(0)).expect("a count").cast_unsigned();
    let times = 200;
    let release = |n| pick(n, releases);
    let read = |what: bool| assert!(what, "nothing was found");
    let number = |n| EntryNumber::try_from(pick(n, head.number.get()) + 1).expect("a number");
    let questions = json!({
        "list: the newest 100": timed(times, |_| ledger.bundles(&Filter::default()).expect("read")),
        "list: the newest 100 of a stream": timed(times, |n| {
            let stream = Some(shape.subject(release(n)).stream);
            ledger.bundles(&Filter { stream, ..Filter::default() }).expect("read")
        }),
        "list: 100 from the middle": timed(times, |n| {
            ledger.bundles(&Filter { before: Some(number(n)), ..Filter::default() }).expect("read")
        }),
        "refusals: the newest 100": timed(times, |_| ledger.refusals(&Filter::default()).expect("read")),
        "show: a bundle and its entries": timed(times, |n| {
            read(ledger.bundle(&shape.subject(release(n)).bundle).expect("read").is_some());
        }),
        "show: a bundle by its number": timed(times, |n| {
            let s = shape.subject(release(n));
            read(ledger.state_of(&s.stream, s.sequence).expect("read").is_some());
        }),
        "which images have a digest": timed(times, |n| {
            read(!ledger.images_by_digest(&shape.digests(release(n), 1).0, 100).expect("read").is_empty());
        }),
        "which images have an image manifest": timed(times, |n| {
            read(!ledger.images_by_digest(&shape.digests(release(n), 0).1[1], 100).expect("read").is_empty());
        }),
        "which images have a digest that every bundle has": timed(10, |_| {
            read(!ledger.images_by_digest(&shape.digests(0, EVERYWHERE).0, 100).expect("read").is_empty());
        }),
        "signatures of a digest": timed(times, |n| {
            read(!ledger.signatures_by_digest(&shape.digests(release(n), 1).0, 100).expect("read").is_empty());
        }),
        "signatures of a digest that every bundle has": timed(10, |_| {
            read(!ledger.signatures_by_digest(&shape.digests(0, EVERYWHERE).0, 100).expect("read").is_empty());
        }),
        "moves of a tag": timed(times, |n| {
            read(!ledger.moves_of(&shape.tag(release(n), 2), 100).expect("read").is_empty());
        }),
        "approvals of a bundle": timed(times, |n| ledger.approvals(&shape.subject(release(n)).bundle).expect("read")),
        "prove: an entry and its inclusion": timed(times, |n| {
            let entry = ledger.entry(number(n)).expect("read").expect("an entry");
            let proof = ledger.inclusion_proof(number(n), head.number).expect("read").expect("a proof");
            read(crate::proves(crate::leaf(&entry.bytes), number(n), head.number.get(), &proof, &head.root));
        }),
        "standing of a head": timed(times, |n| {
            let entry = ledger.entry(number(n)).expect("read").expect("an entry");
            ledger.standing_of(&Head { number: number(n), hash: entry.hash, ..head }).expect("read")
        }),
        "how far streams have come": timed(times, |_| ledger.marks().expect("read")),
        "the last entry": timed(times, |_| ledger.head().expect("read")),
    });
    drop(ledger);
    let open = || Ledger::open(&path, None, Some(custody(&path, 'A'))).expect("it opens");
    let opened = timed(10, |_| open());
    let mut ledger = open();
    let at = stamp(releases.cast_signed() * 60);
    let (mut begun, mut signing, mut recorded) = (Vec::new(), Vec::new(), Vec::new());
    for n in releases..releases + times {
        let acts = (shape.subject(n), shape.signing(n), shape.recorded(n));
        let start = Instant::now();
        let signed = Some(at.now);
        let _ = ledger.begin(&at, Begun { subject: acts.0, signed, newest_signed: None }).expect("begun");
        begun.push(start.elapsed());
        let start = Instant::now();
        ledger.signing(&at, acts.1).expect("announced");
        signing.push(start.elapsed());
        let start = Instant::now();
        ledger.record(&at, acts.2).expect("recorded");
        recorded.push(start.elapsed());
    }
    let appended = json!({"begun": spread(begun), "signing": spread(signing), "recorded": spread(recorded)});
    say(&json!({"questions": questions, "open": opened, "appended": appended}));
}

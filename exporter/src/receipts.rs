//! Receipts: what production says it has received. They are judged anew each time they are used, with the certificates that
//! are configured then.
//!
//! | attack or accident | answer |
//! |---|---|
//! | a receipt that nobody's ledger made, or one changed in any byte | [`Judge::judge`], the only place where a [`Receipt`] becomes `Authentic` |
//! | a ledger key that was revoked after it signed | kept receipts are judged again: [`Receipts::kept`] |
//! | a receipt for another stream | [`delivered`] |
//! | a bundle of another exporter, or with another content, under a name that was packed here | [`delivered`]: id and manifest must be those of the record |
//! | an image that was left out in production | [`Delivered::lacks`]; `base.rs` counts the layers of images that are held |
//! | a ledger that was put back or forked | [`Receipts::add`] holds every receipt of a ledger against every other, and keeps what contradicts |

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use manifest_schema::{
    BundleId, Contradiction, Digest, Image, LIMITS, LedgerId, Manifest, Receipt, Sequence, ShortReceipt, Stream,
    Timestamp,
};
use signing::{Authentic, Certificates, Trust};

use crate::base::Remark;
use crate::error::Error;
use crate::record::{self, SealedBundle};

/// What a person may give where a receipt is expected.
pub(crate) enum Given {
    /// A file with a receipt.
    File { path: PathBuf, bytes: Vec<u8> },
    /// The short form of one.
    Short(ShortReceipt),
    /// A file with something else.
    Other { path: PathBuf, bytes: Vec<u8> },
}

impl Given {
    /// Reads a short form.
    ///
    /// # Errors
    /// [`Error::ShortReceipt`]; `None` if the text is not meant to be one.
    pub fn short(text: &str) -> Result<Option<Self>, Error> {
        let read = || text.parse().map(Self::Short).map_err(Error::ShortReceipt);
        ShortReceipt::is_meant(text).then(read).transpose()
    }

    /// Reads a file: what it is, its content says.
    ///
    /// # Errors
    /// [`Error::ReceiptRead`], [`Error::ShortReceipt`].
    pub fn file(path: &Path) -> Result<Self, Error> {
        let bytes = read(path).map_err(|source| Error::ReceiptRead { path: path.into(), source })?;
        if bytes.starts_with(Receipt::BEGINNING.as_bytes()) {
            return Ok(Self::File { path: path.into(), bytes });
        }
        match std::str::from_utf8(&bytes).ok().map(Self::short).transpose()?.flatten() {
            Some(short) => Ok(short),
            None => Ok(Self::Other { path: path.into(), bytes }),
        }
    }
}

/// Whether a file holds a receipt or the short form of one, by its beginning.
pub(crate) fn is_receipt(path: &Path) -> bool {
    let mut beginning = Vec::new();
    if !path.is_file() || fs::File::open(path).and_then(|f| f.take(64).read_to_end(&mut beginning)).is_err() {
        return false;
    }
    beginning.starts_with(Receipt::BEGINNING.as_bytes()) || ShortReceipt::is_meant(&String::from_utf8_lossy(&beginning))
}

/// Reads a file that holds a receipt or a manifest.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let limit = LIMITS.manifest.max(LIMITS.receipt + LIMITS.signature);
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Whose receipts count.
#[derive(Debug, Clone, Default)]
pub struct Judge(Option<Trust>);

impl Judge {
    /// Takes the certificates of ledgers; without any, no receipt counts.
    ///
    /// # Errors
    /// If a file cannot be used.
    pub fn load(files: &[PathBuf]) -> Result<Self, Error> {
        if files.is_empty() {
            return Ok(Self(None));
        }
        Ok(Self(Some(Trust::new(Certificates::load(files)?, 1, Timestamp::now())?)))
    }

    /// The certificates, if there are any.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.0.as_ref().map(Trust::certificates)
    }

    /// Judges a receipt: the signature first, then what it says.
    ///
    /// # Errors
    /// [`Error::NoReceiptTrust`], [`Error::ReceiptRejected`], [`Error::ReceiptForm`].
    pub fn judge(&self, path: &Path, bytes: &[u8]) -> Result<Authentic<Receipt>, Error> {
        let trust = self.0.as_ref().ok_or_else(|| Error::NoReceiptTrust { path: path.into() })?;
        let line = trust
            .verify_statement(bytes, LIMITS.receipt + 1)
            .map_err(|source| Error::ReceiptRejected { path: path.into(), source })?;
        line.parse(|line| Receipt::parse(line.strip_suffix(b"\n").unwrap_or(line)))
            .map_err(|source| Error::ReceiptForm { path: path.into(), source })
    }
}

/// A receipt, and the bundle that it is about as it was packed here.
#[derive(Debug, Clone)]
pub(crate) struct Delivered {
    pub sealed: SealedBundle,
    pub manifest: Manifest,
    receipt: Authentic<Receipt>,
}

/// Finds the bundle of a receipt in the record.
///
/// # Errors
/// [`Error::ReceiptUnknown`] if it was not packed here, [`Error::ReceiptOther`] if something else was packed under its name,
/// or if it lists an image that the bundle does not have.
pub(crate) fn delivered(state: &Path, receipt: Authentic<Receipt>) -> Result<Delivered, Error> {
    let r = receipt.get();
    let name = r.name();
    let sealed = record::sealed(state, &name)?;
    let sealed = sealed.ok_or_else(|| Error::ReceiptUnknown { name: name.clone(), bundle: r.bundle })?;
    let other =
        |what, expected: String, found: String| Error::ReceiptOther { name: name.clone(), what, expected, found };
    if sealed.base.bundle != r.bundle {
        return Err(other("bundle", sealed.base.bundle.to_string(), r.bundle.to_string()));
    }
    if sealed.base.manifest != r.manifest {
        return Err(other("manifest", sealed.base.manifest.to_string(), r.manifest.to_string()));
    }
    let manifest = sealed.manifest()?;
    let packed: HashSet<_> = manifest.images.iter().map(|image| (&image.origin, image.digest)).collect();
    if let Some(foreign) = r.images.iter().find(|image| !packed.contains(&(&image.origin, image.digest))) {
        let images = format!("one of {} images", manifest.images.len());
        return Err(other("image", images, format!("{} with {}", foreign.origin, foreign.digest)));
    }
    Ok(Delivered { sealed, manifest, receipt })
}

impl Delivered {
    pub fn receipt(&self) -> &Receipt {
        self.receipt.get()
    }

    /// The images of the bundle that production does not hold, by the receipt.
    pub fn lacks(&self) -> impl Iterator<Item = &Image> {
        let held: HashSet<Digest> = self.receipt().images.iter().map(|image| image.digest).collect();
        self.manifest.images.iter().filter(move |image| !held.contains(&image.digest))
    }
}

/// Finds the bundle of a short form in the record.
///
/// # Errors
/// [`Error::ReceiptUnknown`], [`Error::ReceiptOther`].
pub(crate) fn reported(state: &Path, short: &ShortReceipt) -> Result<SealedBundle, Error> {
    let name = short.name();
    let sealed = record::sealed(state, &name)?;
    let sealed = sealed.ok_or_else(|| Error::ReceiptUnknown { name: name.clone(), bundle: short.bundle() })?;
    let base = &sealed.base;
    if short.is_of(&base.stream, base.sequence, &base.bundle, &base.manifest) {
        return Ok(sealed);
    }
    let expected = ShortReceipt::new(base.stream.clone(), base.sequence, base.bundle, &base.manifest);
    Err(Error::ReceiptOther { name, what: "short form", expected: expected.to_string(), found: short.to_string() })
}

/// The receipts in the state folder.
#[derive(Debug, Clone)]
pub struct Receipts {
    state: PathBuf,
    judge: Judge,
}

/// A receipt in the state folder that counts.
#[derive(Debug, Clone)]
pub(crate) struct KeptReceipt {
    pub path: PathBuf,
    authentic: Authentic<Receipt>,
}

impl KeptReceipt {
    pub fn receipt(&self) -> &Receipt {
        self.authentic.get()
    }

    pub fn authentic(&self) -> Authentic<Receipt> {
        self.authentic.clone()
    }
}

/// What is kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    /// Receipts that count, older ones of a bundle too if they contradict a newer one.
    pub signed: Vec<KeptReceipt>,
    /// Short forms.
    pub reported: Vec<ShortReceipt>,
    /// What does not count, with the reason.
    pub not_counted: Vec<(PathBuf, String)>,
}

/// What became of a receipt that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is kept.
    Kept,
    /// It is kept, in place of one that was made earlier.
    Instead(Timestamp),
    /// It was there.
    Already,
    /// One that was made later is kept.
    Older(Timestamp),
}

const RECEIPT: &str = "receipt";
const SHORT: &str = "short";

impl Receipts {
    /// The receipts in a state folder.
    pub fn new(state: PathBuf, judge: Judge) -> Self {
        Self { state, judge }
    }

    /// Whose receipts count.
    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// What is kept of a stream, each receipt judged.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(crate) fn kept(&self, stream: &Stream) -> Result<Kept, Error> {
        let mut kept = Kept::default();
        self.read(&self.folder(stream), &mut kept)?;
        Ok(kept)
    }

    /// What receipts show will become of a bundle with this number: a ledger that has a newer one of the stream refuses it.
    /// `more` is what a receipt says that is not kept.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(crate) fn foreseen(&self, stream: &Stream, number: Sequence, more: Vec<Mark>) -> Result<Vec<Remark>, Error> {
        let name = format!("{stream}-{number}");
        let packed_here = record::sealed(&self.state, &name)?.is_some();
        let mut newest: BTreeMap<LedgerId, Mark> = BTreeMap::new();
        for mark in self.kept(stream)?.marks().into_iter().chain(more) {
            let known = newest.entry(mark.ledger).or_insert(mark);
            *known = if known.newest < mark.newest { mark } else { *known };
        }
        let refuses = |mark: &Mark| mark.newest > number || (mark.newest == number && !packed_here);
        let warn = |Mark { ledger, newest, made }: Mark| {
            Remark::Warn(format!("ledger {ledger} has {stream}-{newest} already (as of {made}): it will refuse {name}"))
        };
        Ok(newest.into_values().filter(refuses).map(warn).collect())
    }

    /// What is kept of all streams.
    ///
    /// # Errors
    /// As [`Receipts::kept`].
    pub(crate) fn all_kept(&self) -> Result<Kept, Error> {
        let mut kept = Kept::default();
        for stream in entries(&self.state.join("receipts"))? {
            self.read(&stream, &mut kept)?;
        }
        Ok(kept)
    }

    fn folder(&self, stream: &Stream) -> PathBuf {
        self.state.join("receipts").join(stream.as_str())
    }

    fn read(&self, folder: &Path, kept: &mut Kept) -> Result<(), Error> {
        for path in entries(folder)? {
            let ending = path.extension().and_then(|e| e.to_str());
            let failed = |source| Error::State { path: path.clone(), source };
            match ending {
                Some(RECEIPT) => match self.judge.judge(&path, &read(&path).map_err(failed)?) {
                    Ok(authentic) => kept.signed.push(KeptReceipt { path, authentic }),
                    Err(e) => kept.not_counted.push((path, console::chain(&e))),
                },
                Some(SHORT) => match console::read_text(&path, LIMITS.config).map_err(failed)?.parse() {
                    Ok(short) => kept.reported.push(short),
                    Err(e) => kept.not_counted.push((path, console::chain(&e))),
                },
                // What was cut off while it was written.
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps a receipt. One that was made later takes the place of an earlier one of the same ledger and bundle, unless they
    /// contradict each other: then both stay, to be shown.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn add(
        &self,
        receipt: &Authentic<Receipt>,
        bytes: &[u8],
    ) -> Result<(Outcome, Vec<Contradiction>), Error> {
        let receipt = receipt.get();
        let all = self.all_kept()?;
        let contradictions: Vec<(&KeptReceipt, Contradiction)> = all
            .signed
            .iter()
            .filter_map(|kept| kept.receipt().contradiction(receipt).map(|contradiction| (kept, contradiction)))
            .collect();
        let same = |kept: &&KeptReceipt| {
            let r = kept.receipt();
            (r.ledger, r.bundle, &r.stream, r.sequence)
                == (receipt.ledger, receipt.bundle, &receipt.stream, receipt.sequence)
        };
        let before: Vec<&KeptReceipt> = all.signed.iter().filter(same).collect();
        let newest = before.iter().map(|kept| kept.receipt()).max_by_key(|r| age(r));
        let outcome = match newest {
            None => Outcome::Kept,
            Some(_) if before.iter().any(|kept| kept.receipt() == receipt) => Outcome::Already,
            Some(newest) if age(newest) > age(receipt) => Outcome::Older(newest.made),
            Some(newest) => Outcome::Instead(newest.made),
        };
        let is_newest = matches!(outcome, Outcome::Kept | Outcome::Instead(_));
        if is_newest || (outcome != Outcome::Already && !contradictions.is_empty()) {
            let digest = blobs::sha256(bytes).hex();
            let name = format!("{}.{}.{}.{RECEIPT}", receipt.sequence, receipt.ledger, &digest[..16]);
            self.write(&receipt.stream, &name, bytes)?;
        }
        if is_newest {
            for kept in before {
                let contradicts = |other: &KeptReceipt| kept.receipt().contradiction(other.receipt()).is_some();
                if kept.receipt().contradiction(receipt).is_none() && !all.signed.iter().any(contradicts) {
                    fs::remove_file(&kept.path).map_err(|source| Error::State { path: kept.path.clone(), source })?;
                }
            }
        }
        Ok((outcome, contradictions.into_iter().map(|(_, contradiction)| contradiction).collect()))
    }

    /// Keeps a short form.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn add_reported(&self, short: &ShortReceipt) -> Result<Outcome, Error> {
        let name = format!("{}.{}.{SHORT}", short.sequence(), short.bundle());
        if self.kept(short.stream())?.reported.contains(short) {
            return Ok(Outcome::Already);
        }
        self.write(short.stream(), &name, format!("{short}\n").as_bytes())?;
        Ok(Outcome::Kept)
    }

    fn write(&self, stream: &Stream, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let folder = self.folder(stream);
        let state = |source| Error::State { path: folder.join(name), source };
        fs::create_dir_all(&folder).map_err(state)?;
        record::replace(&folder, name, bytes).map_err(state)
    }
}

/// What is in a folder, in order of the names; nothing if it is not there.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let state = |source| Error::State { path: folder.into(), source };
    let found = match fs::read_dir(folder) {
        Ok(found) => found,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(state(e)),
    };
    let mut paths = found.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>().map_err(state)?;
    paths.sort();
    Ok(paths)
}

/// What makes one receipt newer than another of the same ledger.
fn age(receipt: &Receipt) -> (Timestamp, u64) {
    (receipt.made, receipt.head.number.get())
}

/// How far a ledger has come with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The ledger.
    pub ledger: LedgerId,
    /// The highest number that it has.
    pub newest: Sequence,
    /// When it said so.
    pub made: Timestamp,
}

impl Mark {
    /// As a receipt says.
    pub(crate) fn of(receipt: &Receipt) -> Self {
        Self { ledger: receipt.ledger, newest: receipt.newest, made: receipt.made }
    }
}

impl Kept {
    /// The newest receipt of each ledger for each bundle.
    pub fn newest(&self) -> Vec<&KeptReceipt> {
        let mut newest = BTreeMap::new();
        for kept in &self.signed {
            let r = kept.receipt();
            let known = newest.entry((r.ledger, &r.stream, r.sequence, r.bundle)).or_insert(kept);
            if age(known.receipt()) < age(r) {
                *known = kept;
            }
        }
        newest.into_values().collect()
    }

    /// The same of one stream, by ledger and number.
    pub fn by_ledger(&self) -> BTreeMap<LedgerId, BTreeMap<Sequence, &KeptReceipt>> {
        let mut ledgers: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for kept in self.newest() {
            ledgers.entry(kept.receipt().ledger).or_default().insert(kept.receipt().sequence, kept);
        }
        ledgers
    }

    /// The bundles that each ledger has.
    pub fn ledgers(&self) -> BTreeMap<LedgerId, HashSet<BundleId>> {
        let mut ledgers: BTreeMap<_, HashSet<_>> = BTreeMap::new();
        for receipt in self.signed.iter().map(KeptReceipt::receipt) {
            ledgers.entry(receipt.ledger).or_default().insert(receipt.bundle);
        }
        ledgers
    }

    /// How far ledgers have come, as each receipt says.
    pub fn marks(&self) -> Vec<Mark> {
        self.signed.iter().map(|kept| Mark::of(kept.receipt())).collect()
    }

    /// Receipts of one ledger that contradict each other.
    pub fn contradictions(&self) -> Vec<(LedgerId, Contradiction)> {
        let mut found = Vec::new();
        for (at, kept) in self.signed.iter().enumerate() {
            let others = self.signed[at + 1..].iter().map(KeptReceipt::receipt);
            found.extend(others.filter_map(|r| Some((r.ledger, kept.receipt().contradiction(r)?))));
        }
        found.dedup();
        found
    }
}

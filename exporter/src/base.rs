//! The base of an incremental bundle: an earlier one, of which the other side still has what this one leaves out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use manifest_schema::{
    Base, Blob, Digest, LedgerId, Manifest, OutsideText, Section, Sequence, ShortReceipt, Stored, Stream,
};

use crate::error::Error;
use crate::receipts::{self, Delivered, Given, Kept, KeptReceipt, Mark, Receipts};
use crate::record;

/// The base that says: the newest bundle that is known to be delivered.
const LATEST: &str = "latest";
/// So many images are named in a remark.
const SHOWN: usize = 5;

/// An earlier bundle.
#[derive(Debug, Clone)]
pub struct BaseBundle {
    /// Which one.
    pub base: Base,
    /// Its images that production does not hold, as a receipt says.
    pub lacks: Vec<Digest>,
    /// Its layers that the other side has, with their sizes in bytes. Documents, configurations and signatures are always
    /// carried: admission needs them.
    layers: HashMap<Digest, u64>,
}

/// A base that was named in some way.
#[derive(Debug)]
pub struct FoundBase {
    /// The base.
    pub bundle: BaseBundle,
    /// A name that means the same later.
    pub name: String,
    /// What is to be said of it.
    pub remarks: Vec<Remark>,
    /// How far ledgers have come, by its receipts.
    pub marks: Vec<Mark>,
}

/// Something to be said before packing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// A fact.
    Say(String),
    /// Something that must not be missed.
    Warn(String),
}

/// What is known where a base is looked for.
pub struct Search<'a> {
    /// The release line of the bundle.
    pub stream: &'a Stream,
    /// Its number.
    pub sequence: Sequence,
    /// The ledger that must have the base, if one was named.
    pub ledger: Option<LedgerId>,
    /// The receipts, and the record they are held against.
    pub receipts: &'a Receipts,
}

/// The file that a base is named by, if it is: any other is `latest`, a short form, or the name of a bundle.
pub(crate) fn file_named(named: &str, folder: &Path) -> Option<PathBuf> {
    if named == LATEST || ShortReceipt::is_meant(named) {
        return None;
    }
    let path = folder.join(named);
    // A receipt may have any name.
    (named.contains('/') || named.ends_with(".json") || receipts::is_receipt(&path)).then_some(path)
}

impl Search<'_> {
    /// Finds a base: `latest`, the name of a bundle that was packed with this state folder, its manifest, a receipt for it, or
    /// the short form of one.
    ///
    /// # Errors
    /// [`Error`] says why it cannot be one.
    pub fn find(&self, named: &str) -> Result<FoundBase, Error> {
        if named == LATEST {
            return self.latest();
        }
        if let Some(short) = Given::short(named)? {
            return self.given(short);
        }
        if let Some(path) = file_named(named, Path::new("")) {
            let given = Given::file(&path).map_err(|e| match e {
                Error::ReceiptRead { path, source } => {
                    Error::Base { path, reason: OutsideText::new(source.to_string()) }
                }
                other => other,
            });
            return self.given(given?);
        }
        let state = self.receipts.state();
        let sealed = record::sealed(state, named)?.ok_or_else(|| Error::Base {
            path: state.join("bundles").join(named),
            reason: OutsideText::new("no bundle of this name was packed and sealed here"),
        })?;
        let bundle = self.whole(&sealed.path(), &sealed.manifest()?, sealed.base.manifest)?;
        Ok(FoundBase { bundle, name: named.into(), remarks: Vec::new(), marks: Vec::new() })
    }

    fn given(&self, given: Given) -> Result<FoundBase, Error> {
        match given {
            Given::Other { path, bytes } => {
                let manifest = Manifest::parse(&bytes)
                    .map_err(|e| Error::Base { path: path.clone(), reason: OutsideText::new(e.to_string()) })?;
                let bundle = self.whole(&path, &manifest, blobs::sha256(&bytes))?;
                Ok(FoundBase { bundle, name: path.display().to_string(), remarks: Vec::new(), marks: Vec::new() })
            }
            Given::Short(short) => self.reported(&short),
            Given::File { path, bytes } => {
                let receipt = self.receipts.judge().judge(&path, &bytes)?;
                let (name, found, ledger) = (receipt.get().name(), &receipt.get().stream, receipt.get().ledger);
                if found != self.stream {
                    let (found, expected) = (found.clone(), self.stream.clone());
                    return Err(Error::ReceiptStream { name, found, expected });
                }
                if let Some(expected) = self.ledger.filter(|expected| *expected != ledger) {
                    return Err(Error::ReceiptLedger { name, found: ledger, expected });
                }
                let delivered = receipts::delivered(self.receipts.state(), receipt)?;
                let unknown = self.not_known_to_have(&delivered)?;
                let mut found = self.held(&[delivered], Some(path))?;
                found.remarks.extend(unknown);
                Ok(found)
            }
        }
    }

    /// Other ledgers that receive the stream, and of which no receipt says that they have this bundle.
    fn not_known_to_have(&self, base: &Delivered) -> Result<Vec<Remark>, Error> {
        let (mut ledgers, name) = (self.receipts.kept(self.stream)?.ledgers(), base.receipt().name());
        ledgers.retain(|ledger, has| {
            self.ledger.is_none() && *ledger != base.receipt().ledger && !has.contains(&base.sealed.base.bundle)
        });
        let warn = |ledger| {
            Remark::Warn(format!(
                "base {name}: ledger {ledger} is not known to have it, and refuses the bundle if it has not"
            ))
        };
        Ok(ledgers.into_keys().map(warn).collect())
    }

    /// A bundle of which nobody says that an image was left out.
    fn whole(&self, path: &Path, manifest: &Manifest, digest: Digest) -> Result<BaseBundle, Error> {
        if manifest.stream != *self.stream {
            let reason = format!("it is of stream {}, and not of {}", manifest.stream, self.stream);
            return Err(Error::Base { path: path.into(), reason: OutsideText::new(reason) });
        }
        let base = Base {
            bundle: manifest.bundle,
            stream: manifest.stream.clone(),
            sequence: manifest.sequence,
            manifest: digest,
        };
        let layers = manifest.blobs.iter().filter(|b| b.section == Section::Layers);
        Ok(BaseBundle { base, lacks: Vec::new(), layers: layers.map(|b| (b.digest, b.size)).collect() })
    }

    /// The bundle of a short form: a hint.
    fn reported(&self, short: &ShortReceipt) -> Result<FoundBase, Error> {
        if short.stream() != self.stream {
            let (found, expected) = (short.stream().clone(), self.stream.clone());
            return Err(Error::ReceiptStream { name: short.name(), found, expected });
        }
        let sealed = receipts::reported(self.receipts.state(), short)?;
        let bundle = self.whole(&sealed.path(), &sealed.manifest()?, sealed.base.manifest)?;
        let name = short.name();
        let hint = format!(
            "base {name}: a short form is a hint that nobody signed, and does not say which images production holds; receive proves it"
        );
        Ok(FoundBase { bundle, name, remarks: vec![Remark::Warn(hint)], marks: Vec::new() })
    }

    /// A bundle of which each of these ledgers has what its receipt lists. All are receipts for one bundle.
    fn held(&self, delivered: &[Delivered], path: Option<PathBuf>) -> Result<FoundBase, Error> {
        let Some(Delivered { sealed, manifest, .. }) = delivered.first() else {
            return Err(self.nothing("there is no receipt".into()));
        };
        let mut bundle = self.whole(&sealed.path(), manifest, sealed.base.manifest)?;
        let lacks: HashSet<Digest> = delivered.iter().flat_map(Delivered::lacks).map(|image| image.digest).collect();
        let name = format!("{}-{}", sealed.base.stream, sealed.base.sequence);
        let ledgers: Vec<String> = delivered
            .iter()
            .map(|d| format!("ledger {} (since {})", d.receipt().ledger, d.receipt().published))
            .collect();
        let marks = delivered.iter().map(|d| Mark::of(d.receipt())).collect();
        let mut remarks = vec![Remark::Say(format!("base {name}: delivered to {}", ledgers.join(", ")))];
        if lacks.is_empty() {
            return Ok(FoundBase { bundle, name, remarks, marks });
        }
        bundle.layers.clear();
        let mut left_out = Vec::new();
        for (image, layers) in manifest.images.iter().zip(sealed.image_layers(manifest)?) {
            if lacks.contains(&image.digest) {
                left_out.push(image.origin.to_string());
            } else {
                bundle.layers.extend(layers.into_iter().map(|b: &Blob| (b.digest, b.size)));
            }
        }
        let (count, all) = (left_out.len(), manifest.images.len());
        left_out.truncate(SHOWN);
        let (some, more) = (left_out.join(", "), if count > SHOWN { ", ..." } else { "" });
        let text =
            format!("base {name}: {count} of its {all} images are not held there, and count for nothing: {some}{more}");
        remarks.push(Remark::Say(text));
        bundle.lacks = lacks.into_iter().collect();
        bundle.lacks.sort();
        let name = path.map_or(LATEST.into(), |path| path.display().to_string());
        Ok(FoundBase { bundle, name, remarks, marks })
    }

    /// The newest bundle before this one that all known ledgers have, or the ledger that was named; what nobody signed counts
    /// only where there are no receipts.
    fn latest(&self) -> Result<FoundBase, Error> {
        let kept = self.receipts.kept(self.stream)?;
        let mut remarks: Vec<Remark> = kept
            .not_counted
            .iter()
            .map(|(path, why)| Remark::Warn(format!("{}: does not count: {why}", path.display())))
            .collect();
        let mut by_ledger = kept.by_ledger();
        if let Some(ledger) = self.ledger {
            by_ledger.retain(|id, _| *id == ledger);
            if by_ledger.is_empty() {
                return Err(self.nothing(format!("there is no receipt of ledger {ledger}")));
            }
        }
        let mut found = match by_ledger.is_empty() {
            true => self.newest_reported(&kept)?,
            false => self.newest_of_all(&by_ledger.into_values().collect::<Vec<_>>())?,
        };
        remarks.append(&mut found.remarks);
        Ok(FoundBase { remarks, ..found })
    }

    fn newest_of_all(&self, ledgers: &[BTreeMap<Sequence, &KeptReceipt>]) -> Result<FoundBase, Error> {
        let Some((first, others)) = ledgers.split_first() else {
            return Err(self.nothing("there is no receipt".into()));
        };
        for (sequence, receipt) in first.range(..self.sequence).rev() {
            let of_others = others.iter().map(|ledger| ledger.get(sequence).copied());
            let Some(all) = std::iter::once(Some(*receipt)).chain(of_others).collect::<Option<Vec<_>>>() else {
                continue;
            };
            let delivered = all.iter().map(|kept| receipts::delivered(self.receipts.state(), kept.authentic()));
            match delivered.collect::<Result<Vec<_>, _>>() {
                Ok(delivered) => {
                    let only = (all.len() == 1).then(|| receipt.path.clone());
                    return self.held(&delivered, only);
                }
                // Packed elsewhere.
                Err(Error::ReceiptUnknown { .. } | Error::ReceiptOther { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        let newest = |ledger: &BTreeMap<Sequence, &KeptReceipt>| {
            let (sequence, kept) = ledger.last_key_value()?;
            Some(format!("the newest receipt of ledger {} is for {sequence}", kept.receipt().ledger))
        };
        let each: Vec<String> = ledgers.iter().filter_map(newest).collect();
        Err(self.nothing(each.join(", ")))
    }

    fn newest_reported(&self, kept: &Kept) -> Result<FoundBase, Error> {
        if let (Some((path, _)), true) = (kept.not_counted.first(), kept.reported.is_empty()) {
            // Only what was kept by somebody with certificates: say what is missing now.
            if self.receipts.judge().certificates().is_none() {
                return Err(Error::NoReceiptTrust { path: path.clone() });
            }
        }
        let mut before: Vec<_> = kept.reported.iter().filter(|short| short.sequence() < self.sequence).collect();
        before.sort_by_key(|short| short.sequence());
        for short in before.into_iter().rev() {
            match self.reported(short) {
                Err(Error::ReceiptUnknown { .. } | Error::ReceiptOther { .. }) => {}
                other => return other,
            }
        }
        Err(self.nothing("there is no receipt that counts".into()))
    }

    fn nothing(&self, reason: String) -> Error {
        Error::NothingDelivered { stream: self.stream.clone(), sequence: self.sequence, reason }
    }
}

impl BaseBundle {
    /// What a planned manifest leaves to its base.
    pub fn left_to(manifest: &Manifest) -> Option<Self> {
        let base = manifest.base.clone()?;
        let left = manifest.blobs.iter().filter(|b| b.stored == Stored::Base);
        Some(Self { base, lacks: Vec::new(), layers: left.map(|b| (b.digest, b.size)).collect() })
    }

    /// Whether the other side has a blob.
    pub fn has(&self, digest: &Digest, size: u64, section: Section) -> bool {
        section == Section::Layers && self.layers.get(digest) == Some(&size)
    }
}

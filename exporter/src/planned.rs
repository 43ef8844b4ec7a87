//! A plan in a folder, for several people to sign on several machines before it is packed.
//!
//! | file | content |
//! |---|---|
//! | `manifest.json` | the manifest, byte for byte as it will be packed: this is what is signed |
//! | `sealift-plan.json` | what `pack` needs beyond the manifest to carry it out; not signed |
//! | `reports/` | the reports of scanners that are to be packed, each named by its digest |
//! | `<fingerprint>.signature.asc` | one signer's detached signature over `manifest.json` |
//! | `<fingerprint>.certificate.asc` | that signer's certificate |
//!
//! Each signer adds files of their own, so copies that were signed apart are joined by copying the files together. The
//! certificates prove that a signature is over this manifest, and no more: whom to trust is the importing side's to say.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use blobs::sha256;
use manifest_schema::document::Platform;
use manifest_schema::{Digest, Image, LIMITS, Manifest, OutsideText, Timestamp};
use serde::{Deserialize, Serialize};
use signing::{Certificates, Fingerprint, SecretKey, Trust};

use crate::error::Error;
use crate::layout::Cut;
use crate::media::{Medium, Share, VolumeSize};
use crate::reports::{Noted, Reports};
use crate::request::Request;

const PLAN: &str = "sealift-plan.json";
const MANIFEST: &str = "manifest.json";
const SIGNATURE: &str = ".signature.asc";
const CERTIFICATE: &str = ".certificate.asc";
const REPORTS: &str = "reports";
const KIND: &str = "sealift/plan/1";

/// What packing needs beyond the manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sources {
    #[serde(rename = "type")]
    kind: String,
    /// The digest of `manifest.json`.
    manifest: Digest,
    /// The images, pinned to their digests.
    pub images: Vec<String>,
    /// Who can open the bundle.
    pub recipients: Vec<String>,
    /// Only these platforms; all if empty.
    pub platforms: Vec<Platform>,
    /// Allow sparse indexes.
    pub sparse_index: bool,
    /// Which referrers are carried.
    pub referrers: String,
    /// Folders that say where signatures are; the usual ones if there are none.
    pub registries_d: Vec<PathBuf>,
    /// The images are OpenShift release images.
    pub release: bool,
    /// Stores of release signatures, as URLs.
    pub release_signatures: Vec<String>,
    /// Reports, whose files lie in the folder too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<Noted>,
    /// The largest file.
    pub volume_size: VolumeSize,
    /// What one medium holds.
    pub media: Option<Medium>,
    /// Recovery data.
    pub recovery: Option<Share>,
    /// Bytes left on the first medium for the importing program.
    pub importer_bytes: u64,
}

impl Sources {
    /// What packing a request needs, of which the images are pinned; the manifest's digest is filled in when it is
    /// written.
    pub fn new(request: &Request, images: Vec<String>) -> Self {
        Self {
            kind: KIND.into(),
            manifest: sha256(b""),
            images,
            recipients: request.recipients.clone(),
            platforms: request.platforms.clone(),
            sparse_index: request.sparse_index,
            referrers: request.referrers.to_string(),
            registries_d: request.registries_d_folders.iter().map(absolute).collect(),
            release: request.release,
            release_signatures: request.release_signatures.clone(),
            reports: request.reports.noted(),
            volume_size: request.cut.volume_size,
            media: request.cut.medium,
            recovery: request.cut.recovery,
            importer_bytes: request.cut.tool,
        }
    }
}

/// The plan may be carried out in another folder.
fn absolute(path: &PathBuf) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.clone())
}

/// A planned release that is to be signed and packed.
#[derive(Debug)]
pub struct Planned {
    folder: PathBuf,
    sources: Sources,
    manifest: Manifest,
    bytes: Vec<u8>,
}

/// Signatures over a planned manifest, each verified against the certificate beside it.
pub(crate) struct PlanSignatures {
    /// Whose.
    pub signers: Vec<Fingerprint>,
    /// The files' content.
    pub signatures: Vec<Vec<u8>>,
}

impl Planned {
    /// Whether a folder holds a plan.
    pub fn is_at(folder: &Path) -> bool {
        folder.join(PLAN).is_file()
    }

    /// Writes a new folder.
    pub(crate) fn write(
        folder: &Path,
        mut sources: Sources,
        manifest: &Manifest,
        reports: &Reports,
    ) -> Result<Digest, Error> {
        let bytes = manifest.to_bytes()?;
        sources.manifest = sha256(&bytes);
        let fail = |path: &Path| {
            let path = path.to_path_buf();
            move |source: std::io::Error| match source.kind() {
                ErrorKind::AlreadyExists => Error::PlanExists(path),
                _ => Error::Output { path, source },
            }
        };
        fs::create_dir(folder).map_err(fail(folder))?;
        reports.keep(&folder.join(REPORTS))?;
        let plan =
            serde_json::to_vec_pretty(&sources).map_err(|e| Error::Output { path: folder.into(), source: e.into() })?;
        // The manifest first: a folder that was cut off is none.
        for (name, bytes) in [(MANIFEST, &bytes), (PLAN, &plan)] {
            let path = folder.join(name);
            console::write_new(&path, bytes).map_err(fail(&path))?;
        }
        Ok(sources.manifest)
    }

    /// Reads a folder; `manifest.json` must be the one that was planned.
    ///
    /// # Errors
    /// [`Error::PlanFile`], [`Error::PlanChanged`].
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let wrong =
            |name: &str, reason: String| Error::PlanFile { path: folder.join(name), reason: OutsideText::new(reason) };
        let text = read(&folder.join(PLAN), LIMITS.config)?;
        let sources: Sources = serde_json::from_slice(&text).map_err(|e| wrong(PLAN, e.to_string()))?;
        if sources.kind != KIND {
            return Err(wrong(PLAN, format!("type {}", sources.kind)));
        }
        let bytes = read(&folder.join(MANIFEST), LIMITS.manifest)?;
        let found = sha256(&bytes);
        if found != sources.manifest {
            return Err(Error::PlanChanged { path: folder.join(MANIFEST), expected: sources.manifest, found });
        }
        let manifest = Manifest::parse(&bytes)?;
        for recipient in &sources.recipients {
            bundle::parse_recipient(recipient)?;
        }
        Ok(Self { folder: folder.into(), sources, manifest, bytes })
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest's digest.
    pub fn digest(&self) -> Digest {
        self.sources.manifest
    }

    /// The reports that are to be packed.
    ///
    /// # Errors
    /// If one is not what it was.
    pub(crate) fn reports(&self) -> Result<Reports, Error> {
        Reports::kept(&self.folder.join(REPORTS), &self.sources.reports)
    }

    /// What packing needs beyond it.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// How the bundle is cut; the importing program must fit where it was planned to be.
    ///
    /// # Errors
    /// [`Error::Importer`] if it does not.
    pub(crate) fn cut(&self, importer: Option<&Path>) -> Result<Cut, Error> {
        let Sources { volume_size, media, recovery, importer_bytes, .. } = self.sources;
        if let Some(path) = importer
            && media.is_some()
            && crate::request::tool_size(Some(path))? > importer_bytes
        {
            let source = std::io::Error::other(format!("it is larger than planned, which is {importer_bytes} bytes"));
            return Err(Error::Importer { path: path.into(), source });
        }
        Ok(Cut { volume_size, medium: media, recovery, tool: importer_bytes, sealing: 0 })
    }

    /// Adds a key's signature over the manifest, with its certificate. `false` if it has signed before.
    ///
    /// # Errors
    /// If the key fails, a file cannot be written, or a signature of this key is there that is over something else.
    pub fn sign(&self, key: &SecretKey) -> Result<bool, Error> {
        let signer = key.fingerprint();
        let path = |end: &str| self.folder.join(format!("{signer}{end}"));
        let (signature, certificate) = (path(SIGNATURE), path(CERTIFICATE));
        if signature.symlink_metadata().is_ok() {
            self.verify(&signer)?;
            return Ok(false);
        }
        let bytes = key.sign_detached_armored(&self.bytes)?;
        let put = |path: &Path, bytes: &[u8]| {
            crate::record::replace(&self.folder, &path.file_name().unwrap_or_default().to_string_lossy(), bytes)
                .map_err(|source| Error::Output { path: path.into(), source })
        };
        put(&certificate, &key.certificate_armored()?)?;
        put(&signature, &bytes)?;
        Ok(true)
    }

    /// Takes over the signatures of others from another folder with the same plan.
    ///
    /// # Errors
    /// If one cannot be read or written.
    pub(crate) fn take_signatures(&self, other: &Self) -> Result<(), Error> {
        if self.folder == other.folder {
            return Ok(());
        }
        for signer in other.signatures()?.signers {
            for end in [CERTIFICATE, SIGNATURE] {
                let name = format!("{signer}{end}");
                let bytes = read(&other.folder.join(&name), LIMITS.signature.max(LIMITS.config))?;
                crate::record::replace(&self.folder, &name, &bytes)
                    .map_err(|source| Error::Output { path: self.folder.join(&name), source })?;
            }
        }
        Ok(())
    }

    /// The signatures that were added, each verified now.
    ///
    /// # Errors
    /// [`Error::PlanSignature`] for one that is over something else, or whose key is not good now.
    pub(crate) fn signatures(&self) -> Result<PlanSignatures, Error> {
        let signers = self.signers()?;
        let signatures = signers.iter().map(|signer| self.verify(signer)).collect::<Result<_, _>>()?;
        Ok(PlanSignatures { signers, signatures })
    }

    fn signers(&self) -> Result<Vec<Fingerprint>, Error> {
        let fail = |source| Error::PlanRead { path: self.folder.clone(), source };
        let mut signers = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            let Some(signer) = name.to_str().and_then(|n| n.strip_suffix(SIGNATURE)) else { continue };
            let signer: Fingerprint = signer.parse().map_err(|_| Error::PlanFile {
                path: self.folder.join(&name),
                reason: OutsideText::new("its name is not a fingerprint"),
            })?;
            signers.push(signer);
        }
        signers.sort();
        Ok(signers)
    }

    /// The signatures that were added, as far as they are good now; `left_out` is told of the others.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub(crate) fn good_signatures(&self, left_out: &mut dyn FnMut(&Error)) -> Result<PlanSignatures, Error> {
        let mut good = PlanSignatures { signers: Vec::new(), signatures: Vec::new() };
        for signer in self.signers()? {
            match self.verify(&signer) {
                Ok(signature) => {
                    good.signers.push(signer);
                    good.signatures.push(signature);
                }
                Err(e) => left_out(&e),
            }
        }
        Ok(good)
    }

    fn verify(&self, signer: &Fingerprint) -> Result<Vec<u8>, Error> {
        let path = self.folder.join(format!("{signer}{SIGNATURE}"));
        let certificate = self.folder.join(format!("{signer}{CERTIFICATE}"));
        let signature = read(&path, LIMITS.signature)?;
        let certificates = Certificates::load(std::slice::from_ref(&certificate))?;
        if certificates.fingerprints() != [signer.clone()] {
            let reason = OutsideText::new("it is not the certificate of the fingerprint in its name");
            return Err(Error::PlanFile { path: certificate, reason });
        }
        match Trust::new(certificates, 1, Timestamp::now())?.verify_detached(self.bytes.clone(), &signature) {
            Ok(_) => Ok(signature),
            Err(source) => Err(Error::PlanSignature { path, source }),
        }
    }

    /// Demands that what is about to be packed is what was planned, to the byte.
    pub(crate) fn demand(&self, now: &Manifest, bytes: &[u8]) -> Result<(), Error> {
        if bytes == self.bytes {
            return Ok(());
        }
        let planned = &self.manifest;
        let what = if planned.tool != now.tool {
            format!("it was planned by {}, and this is {}", planned.tool, now.tool)
        } else if let Some((a, b)) = planned.images.iter().zip(&now.images).find(|(a, b)| a != b) {
            if a.origin != b.origin || a.digest != b.digest {
                format!("{} was {} and is {} {}", a.origin, a.digest, b.origin, b.digest)
            } else {
                attached(a, b)
            }
        } else if planned.blobs != now.blobs || planned.images.len() != now.images.len() {
            "other blobs belong to its images".into()
        } else {
            "the manifest would be another one".into()
        };
        Err(Error::Unplanned { name: planned.name(), what })
    }
}

/// What was attached to an image and is not now. More than was planned is never taken.
fn attached(planned: &Image, now: &Image) -> String {
    let signatures = |image: &Image| image.signatures.iter().map(|s| (s.subject, s.digest)).collect::<Vec<_>>();
    let referrers = |image: &Image| image.referrers.iter().map(|r| (r.subject, r.digest)).collect::<Vec<_>>();
    let there = [signatures(now), referrers(now)].concat();
    let all = [signatures(planned), referrers(planned)].concat();
    match all.iter().find(|attached| !there.contains(attached)) {
        Some((subject, digest)) => format!("{}: {digest} is not attached to {subject} any more", planned.origin),
        None => format!("{}: what is attached to it is found in another place or order", planned.origin),
    }
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    use std::io::Read;
    let fail = |source| Error::PlanRead { path: path.into(), source };
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(fail)?.take(limit + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > limit { Err(fail(ErrorKind::FileTooLarge.into())) } else { Ok(bytes) }
}

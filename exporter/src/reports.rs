//! Reports of scanners that are attached to images: each travels byte for byte, as an OCI referrer of what it is about
//! (image specification 1.1, "subject"), so that production's registry has it where tools look for it.
//!
//! What answers what:
//!
//! | mistake | answer |
//! |---|---|
//! | a report that was cut off, or is none | [`Report::read`] refuses it, with the line |
//! | a report of another image | the digests that it names must be of the image: [`Error::ReportOfAnother`] |
//! | several images, and none said | the report's own digests and names decide, or nobody: [`Error::ReportForWhich`] |
//! | an image that is not in the release | every report must have found its place: [`Reports::all_attached`] |
//! | a report that changes while it is packed | its digest was taken first; what is read later is checked against it |

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use blobs::{VerifiedBytes, VerifyingReader, sha256};
use manifest_schema::{
    Descriptor, Digest, DigestTag, Image, LIMITS, MediaType, OutsideText, Reference, Referrer, Timestamp,
};
use registry::FoundReferrer;
use registry::source::{Resolved, Source, SourceError};
use scan::{Format, Report};
use serde::{Deserialize, Serialize};

use crate::attached::Evidence;
use crate::error::Error;
use crate::resolve::{Place, ResolvedImage, Tree, Walk};

/// A file, and the image that it is about: `FILE` or `FILE=IMAGE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// The report.
    pub file: PathBuf,
    /// The image, as it is asked for or called.
    pub image: Option<String>,
}

impl Attach {
    /// What a text says whose files are found from a folder. Both parts may have a `=`: the longest file that is there counts, or
    /// else the first `=`.
    pub fn within(folder: &Path, text: &str) -> Self {
        let whole = folder.join(text);
        if whole.exists() {
            return Self { file: whole, image: None };
        }
        let pairs = text.match_indices('=').map(|(at, _)| (folder.join(&text[..at]), text[at + 1..].to_string()));
        let mut pairs: Vec<(PathBuf, String)> = pairs.collect();
        let there = pairs.iter().rposition(|(file, _)| file.is_file()).unwrap_or(0);
        match pairs.is_empty() {
            true => Self { file: whole, image: None },
            false => {
                let (file, image) = pairs.swap_remove(there);
                Self { file, image: Some(image) }
            }
        }
    }
}

/// A report, as it is noted for packing the same again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Noted {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its file's name.
    pub name: OutsideText,
    /// When it was made.
    pub dated: Option<Timestamp>,
    /// The image, if one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// A report that was read.
#[derive(Debug)]
pub(crate) struct ReportFile {
    path: PathBuf,
    noted: Noted,
    size: u64,
    media_type: &'static str,
    report: Report,
}

/// The reports of a release.
#[derive(Debug, Default)]
pub struct Reports {
    files: Vec<ReportFile>,
}

/// A report that was attached to an image.
pub(crate) struct Attached<'r> {
    /// Its place among the reports.
    pub at: usize,
    /// The document that it refers to.
    pub subject: Digest,
    /// The report.
    pub file: &'r ReportFile,
}

const EMPTY: &[u8] = b"{}";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

impl Reports {
    /// Reads reports. A file's time counts where the report has none of its own, but never later than `now`.
    ///
    /// # Errors
    /// [`Error::ReportFile`], [`Error::Report`].
    pub(crate) fn load(attach: &[Attach], now: Timestamp) -> Result<Self, Error> {
        let mut files = Vec::new();
        for Attach { file, image } in attach {
            let (bytes, modified) = read(file)?;
            let report = Report::read(&bytes).map_err(|why| Error::Report { path: file.clone(), why })?;
            let dated = report.created.or_else(|| modified.map(|time| time.min(now)));
            let name = OutsideText::new(file.file_name().unwrap_or_default().to_string_lossy());
            let noted = Noted { digest: sha256(&bytes), name, dated, image: image.clone() };
            files.push(ReportFile::new(file.clone(), noted, &bytes, report));
        }
        Ok(Self { files })
    }

    /// Reads again what was noted, from a folder that [`Reports::keep`] filled.
    ///
    /// # Errors
    /// [`Error::ReportFile`]; [`Error::ReportChanged`].
    pub(crate) fn kept(folder: &Path, noted: &[Noted]) -> Result<Self, Error> {
        let mut files = Vec::new();
        for noted in noted {
            let path = folder.join(noted.digest.hex());
            let (bytes, _) = read(&path)?;
            if sha256(&bytes) != noted.digest {
                return Err(Error::ReportChanged { path, expected: noted.digest });
            }
            let report = Report::read(&bytes).map_err(|why| Error::Report { path: path.clone(), why })?;
            files.push(ReportFile::new(path, noted.clone(), &bytes, report));
        }
        Ok(Self { files })
    }

    /// What is to be noted.
    pub(crate) fn noted(&self) -> Vec<Noted> {
        self.files.iter().map(|file| file.noted.clone()).collect()
    }

    /// The files, each with the image that was named.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&Path, Option<&str>)> {
        self.files.iter().map(|file| (file.path.as_path(), file.noted.image.as_deref()))
    }

    /// Copies every report into a folder, by its digest, so that the same can be packed again.
    ///
    /// # Errors
    /// [`Error::ReportChanged`]; or if one cannot be read or written.
    pub(crate) fn keep(&self, folder: &Path) -> Result<(), Error> {
        let fail = |source| Error::Output { path: folder.into(), source };
        if !self.files.is_empty() {
            std::fs::create_dir_all(folder).map_err(fail)?;
        }
        for file in &self.files {
            let (bytes, _) = read(&file.path)?;
            if sha256(&bytes) != file.noted.digest {
                return Err(Error::ReportChanged { path: file.path.clone(), expected: file.noted.digest });
            }
            crate::record::replace(folder, &file.noted.digest.hex(), &bytes).map_err(fail)?;
        }
        Ok(())
    }

    /// Where the bytes are read when they are packed.
    pub(crate) fn source(&self) -> Box<dyn Source> {
        let files = self.files.iter().map(|file| (file.noted.digest, file.path.clone())).collect();
        Box::new(Files(files))
    }

    /// Attaches to an image what is about it. `source` is [`Reports::source`], the first of all sources; `called` is how the
    /// image was planned, if it was; `only` says that no other image was asked for.
    ///
    /// # Errors
    /// [`Error::ReportOfAnother`].
    pub(crate) fn attach(
        &self,
        walk: &mut Walk,
        image: &mut ResolvedImage,
        source: &dyn Source,
        called: &[&Image],
        only: bool,
    ) -> Result<Vec<Attached<'_>>, Error> {
        let origin = image.origin.clone();
        let place = Place { origin: &origin, source, number: 0 };
        let mut tree = Tree { attached: true, ..Tree::default() };
        let mut attached = Vec::new();
        for (at, file) in self.files.iter().enumerate() {
            if !file.is_for(image, called, only) {
                continue;
            }
            let subject = file.subject(image)?;
            let bytes = VerifiedBytes::of(file.referrer(&subject)?);
            let digest = *bytes.digest();
            let media_type = media_type(MediaType::OCI_MANIFEST)?;
            let descriptor = Descriptor { media_type, digest, size: bytes.bytes().len() as u64, urls: Vec::new() };
            attached.push(Attached { at, subject: subject.digest, file });
            let referrer = Referrer { subject: subject.digest, digest, tag: None };
            if image.referrers.contains(&referrer) {
                continue;
            }
            image.referrers.push(referrer);
            let kind = OutsideText::new(format!("{} report", file.report.format));
            image.evidence.push(Evidence {
                subject: subject.digest,
                digest,
                kind,
                found: "attached".into(),
                claims: None,
            });
            walk.keep(bytes.clone());
            walk.document(&mut tree, &place, &descriptor, bytes, None, None, 0)?;
        }
        if image.signatures.len() + image.referrers.len() > LIMITS.attachments {
            return Err(Error::TooManyReferrers { origin: Box::new(origin) });
        }
        image.blobs.append(&mut tree.blobs);
        Ok(attached)
    }

    /// Demands that every report was attached to something.
    ///
    /// # Errors
    /// [`Error::ReportNamesImage`], [`Error::ReportOfAnother`], [`Error::ReportForWhich`].
    pub(crate) fn all_attached(&self, attached: &BTreeSet<usize>, images: &[ResolvedImage]) -> Result<(), Error> {
        match self.files.iter().enumerate().find(|(at, _)| !attached.contains(at)).map(|(_, file)| file) {
            None => Ok(()),
            Some(ReportFile { path, noted: Noted { image: Some(image), .. }, .. }) => {
                Err(Error::ReportNamesImage { path: path.clone(), image: OutsideText::new(image) })
            }
            Some(file) => {
                let about = &file.report.about;
                let is_named = |image: &&ResolvedImage| {
                    about.names.iter().any(|name| names(image, &image.asked, &image.origin, name.raw()))
                };
                if let (Some(image), Some(named)) = (images.iter().find(is_named), about.digests.first()) {
                    let (path, origin) = (file.path.clone(), Box::new(image.origin.clone()));
                    return Err(Error::ReportOfAnother { path, origin, named: *named });
                }
                let digests = about.digests.iter().map(|digest| OutsideText::new(digest.to_string()));
                let names: Vec<OutsideText> = digests.chain(about.names.iter().cloned()).collect();
                Err(Error::ReportForWhich { path: file.path.clone(), names })
            }
        }
    }
}

fn media_type(text: &str) -> Result<MediaType, Error> {
    text.parse().map_err(|_| Error::Missing("a media type"))
}

/// The bytes of a file, and its time.
fn read(path: &Path) -> Result<(Vec<u8>, Option<Timestamp>), Error> {
    let fail = |source| Error::ReportFile { path: path.into(), source };
    let file = File::open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if !metadata.is_file() {
        return Err(fail(std::io::Error::other("it is no regular file")));
    }
    let mut bytes = Vec::new();
    file.take(LIMITS.report + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > LIMITS.report {
        return Err(fail(std::io::Error::other(format!("it has more than {} bytes", LIMITS.report))));
    }
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    Ok((bytes, modified.and_then(|since| Timestamp::from_unix(i64::try_from(since.as_secs()).ok()?))))
}

/// What a report is attached to.
struct Subject {
    media_type: MediaType,
    digest: Digest,
    size: u64,
}

impl ReportFile {
    fn new(path: PathBuf, noted: Noted, bytes: &[u8], report: Report) -> Self {
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        let media_type = match (report.format, first) {
            (Format::CycloneDx, Some(b'<')) => "application/vnd.cyclonedx+xml",
            (Format::Spdx, Some(b'{')) => "application/spdx+json",
            (Format::Spdx, _) => "text/spdx",
            (format, _) if format.media_type().is_some() => format.media_type().unwrap_or_default(),
            (Format::Other, _) => "application/octet-stream",
            (_, Some(b'<')) => "application/xml",
            _ => "application/json",
        };
        Self { path, noted, size: bytes.len() as u64, media_type, report }
    }

    /// What it says.
    pub(crate) fn report(&self) -> &Report {
        &self.report
    }

    /// How it is noted.
    pub(crate) fn noted(&self) -> &Noted {
        &self.noted
    }

    /// Whether it is for an image.
    fn is_for(&self, image: &ResolvedImage, called: &[&Image], only: bool) -> bool {
        let names = |text: &str| {
            let planned = called.iter().any(|said| names(image, &said.asked, &said.origin, text));
            planned || names(image, &image.asked, &image.origin, text)
        };
        if let Some(named) = &self.noted.image {
            return names(named);
        }
        let about = &self.report.about;
        if !about.digests.is_empty() {
            let known: BTreeSet<Digest> = digests(image).into_keys().collect();
            return !about.digests.is_disjoint(&known) || only;
        }
        only || about.names.iter().any(|name| names(name.raw()))
    }

    /// What of the image it is about: one of its image manifests, if it names that and no other.
    fn subject(&self, image: &ResolvedImage) -> Result<Subject, Error> {
        let top = &image.top;
        let whole = Subject { media_type: top.media_type.clone(), digest: top.digest, size: top.size };
        let named = &self.report.about.digests;
        if named.is_empty() {
            return Ok(whole);
        }
        let known = digests(image);
        let meant: BTreeSet<Option<Digest>> = named.iter().filter_map(|digest| known.get(digest).copied()).collect();
        if meant.is_empty() {
            let first = *named.first().unwrap_or(&top.digest);
            let (path, origin) = (self.path.clone(), Box::new(image.origin.clone()));
            return Err(Error::ReportOfAnother { path, origin, named: first });
        }
        let platforms: Vec<Digest> = meant.into_iter().flatten().collect();
        let one = match platforms.as_slice() {
            [one] => image.manifests.iter().find(|manifest| manifest.descriptor.digest == *one),
            _ => None,
        };
        Ok(one.map_or(whole, |manifest| Subject {
            media_type: manifest.descriptor.media_type.clone(),
            digest: manifest.descriptor.digest,
            size: manifest.descriptor.size,
        }))
    }

    /// The document that refers to what it is about.
    fn referrer(&self, subject: &Subject) -> Result<Vec<u8>, Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Document<'a> {
            schema_version: u32,
            media_type: &'static str,
            artifact_type: String,
            config: Part<'a>,
            layers: [Part<'a>; 1],
            subject: Part<'a>,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            annotations: BTreeMap<&'static str, String>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Part<'a> {
            media_type: &'a str,
            digest: Digest,
            size: u64,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            annotations: BTreeMap<&'static str, &'a str>,
        }
        let format = self.report.format;
        let artifact_type = match format.media_type() {
            Some(_) => self.media_type.to_string(),
            None => format!("application/vnd.sealift.report.{format}.v1"),
        };
        let part = |media_type, digest, size| Part { media_type, digest, size, annotations: BTreeMap::new() };
        let report = Part {
            annotations: [("org.opencontainers.image.title", self.noted.name.raw())].into(),
            ..part(self.media_type, self.noted.digest, self.size)
        };
        let created = self.noted.dated.map(|time| ("org.opencontainers.image.created", time.to_string()));
        let document = Document {
            schema_version: 2,
            media_type: MediaType::OCI_MANIFEST,
            artifact_type,
            config: part(EMPTY_TYPE, sha256(EMPTY), EMPTY.len() as u64),
            layers: [report],
            subject: part(subject.media_type.as_str(), subject.digest, subject.size),
            annotations: created.into_iter().collect(),
        };
        serde_json::to_vec(&document).map_err(|e| Error::Output { path: self.path.clone(), source: e.into() })
    }
}

/// Every digest by which a report may name an image: `None` stands for the whole of it.
fn digests(image: &ResolvedImage) -> HashMap<Digest, Option<Digest>> {
    let mut known = HashMap::from([(image.top.digest, None)]);
    for manifest in &image.manifests {
        let digest = manifest.descriptor.digest;
        known.insert(manifest.config, Some(digest));
        if digest != image.top.digest {
            known.insert(digest, Some(digest));
        }
    }
    known
}

/// Whether a text names an image: as it was asked for, by its reference, its repository, or its digest.
fn names(image: &ResolvedImage, asked: &OutsideText, origin: &Reference, text: &str) -> bool {
    let bare = text.strip_prefix("docker://").unwrap_or(text);
    if asked.raw() == text || asked.raw() == bare || origin.to_string() == bare {
        return true;
    }
    if bare == image.top.digest.to_string() || bare == origin.repository().to_string() {
        return true;
    }
    let Ok(reference) = bare.parse::<Reference>() else { return false };
    let is_it = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digests(image).contains_key(digest),
        (None, tag) => tag == origin.tag(),
    };
    reference.repository() == origin.repository() && is_it
}

/// The files of reports, and the empty configuration.
struct Files(HashMap<Digest, PathBuf>);

impl Files {
    fn missing(&self, digest: &Digest) -> SourceError {
        SourceError::Missing { file: OutsideText::new(digest.to_string()) }
    }
}

impl Source for Files {
    fn resolve(&self) -> Result<Resolved, SourceError> {
        Err(SourceError::Missing { file: OutsideText::new("an image") })
    }

    fn document(&self, digest: &Digest, _: u64) -> Result<VerifiedBytes, SourceError> {
        Err(self.missing(digest))
    }

    fn blob(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send + '_>, SourceError> {
        if blob.digest == sha256(EMPTY) {
            return Ok(Box::new(Cursor::new(EMPTY)));
        }
        let path = self.0.get(&blob.digest).ok_or_else(|| self.missing(&blob.digest))?;
        let fail = |source| SourceError::Io { file: OutsideText::new(path.display().to_string()), source };
        Ok(Box::new(VerifyingReader::new(File::open(path).map_err(fail)?, blob.digest, blob.size)))
    }

    fn referrers(&self, _: &Digest) -> Result<Vec<FoundReferrer>, SourceError> {
        Ok(Vec::new())
    }

    fn digest_tag(&self, _: &Digest, _: DigestTag) -> Result<Option<(MediaType, VerifiedBytes)>, SourceError> {
        Ok(None)
    }

    fn simple_signatures(&self, _: &Digest) -> Result<Vec<Vec<u8>>, SourceError> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_and_its_image_may_both_have_an_equals_sign() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["cdx.json", "job=7.json"] {
            std::fs::write(folder.path().join(name), "{}").expect("a file");
        }
        let says = |text: &str| {
            let Attach { file, image } = Attach::within(folder.path(), text);
            (file.file_name().expect("a name").to_string_lossy().into_owned(), image)
        };
        let image = || Some("oci:web:1=registry.example/web:1".to_string());
        assert_eq!(says("cdx.json"), ("cdx.json".into(), None));
        assert_eq!(says("job=7.json"), ("job=7.json".into(), None));
        assert_eq!(says("cdx.json=oci:web:1=registry.example/web:1"), ("cdx.json".into(), image()));
        assert_eq!(says("job=7.json=oci:web:1=registry.example/web:1"), ("job=7.json".into(), image()));
        assert_eq!(says("gone.json=x"), ("gone.json".into(), Some("x".into())));
        assert_eq!(says("gone.json"), ("gone.json".into(), None));
    }

    #[test]
    fn a_report_that_has_changed_since_it_was_read_is_neither_packed_nor_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("notes");
        std::fs::write(&file, "notes").expect("a file");
        let attach = Attach { file: file.clone(), image: None };
        let reports = Reports::load(&[attach], Timestamp::now()).expect("a report");
        let media_type = media_type("text/plain").expect("a media type");
        let descriptor = Descriptor { media_type, digest: sha256(b"notes"), size: 5, urls: Vec::new() };
        let packed = || {
            let mut bytes = Vec::new();
            let source = reports.source();
            source.blob(&descriptor).expect("a file").read_to_end(&mut bytes).map(|_| bytes)
        };
        let kept = || reports.keep(&folder.path().join("kept"));
        assert_eq!(packed().expect("what was read"), b"notes");
        kept().expect("what was read");
        std::fs::write(&file, "other").expect("a file");
        packed().expect_err("it has changed");
        assert!(matches!(kept(), Err(Error::ReportChanged { .. })));
    }
}

//! The content of a volume, written by the manifest and read by the manifest.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::PathBuf;

use age::secrecy::ExposeSecret;
use blobs::{VerifyingReader, sha256};
use bundle::{Contents, ContentsError, Head, Identities, Recipients, SourceBlob, VolumeError, write_volume};
use manifest_schema::manifest::{ManifestType, Stored};
use manifest_schema::{
    Blob, BundleId, Digest, Image, Manifest, MediaType, OutsideText, PlatformManifest, Section, Volumes,
};

struct Memory(HashMap<Digest, Vec<u8>>);

#[derive(Debug)]
struct Failed(String);

impl From<VolumeError> for Failed {
    fn from(error: VolumeError) -> Self {
        Self(error.to_string())
    }
}

impl SourceBlob for Memory {
    type Error = Failed;
    fn open<'s>(&'s self, blob: &Blob) -> Result<VerifyingReader<Box<dyn Read + Send + 's>>, Failed> {
        let bytes = self.0.get(&blob.digest).ok_or_else(|| Failed("absent".into()))?;
        Ok(VerifyingReader::new(Box::new(Cursor::new(bytes)), blob.digest, blob.size))
    }
    fn failed(&self, blob: &Blob, error: io::Error) -> Failed {
        Failed(format!("{}: {error}", blob.digest))
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    identities: Identities,
    recipients: Recipients,
    manifest: Manifest,
    bytes: Vec<u8>,
    source: Memory,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let made = bundle::generate_identity("2026-01-31T09:00:00Z", None).expect("an identity");
        let key = dir.path().join("enclave.key");
        std::fs::write(&key, made.file.expose_secret()).expect("written");
        let identities = Identities::load(&key, || Err("asked".into())).expect("loaded");
        let media = |text: &str| text.parse::<MediaType>().expect("a media type");
        let mut source = Memory(HashMap::new());
        let mut blob = |content: Vec<u8>, media_type, section| {
            let (digest, size) = (sha256(&content), content.len() as u64);
            source.0.insert(digest, content);
            Blob { digest, size, media_type, section, stored: Stored::Whole { volume: 1 } }
        };
        let config = blob(b"{}".to_vec(), media(MediaType::OCI_CONFIG), Section::Admission);
        let document = blob(b"{\"a\":1}".to_vec(), media(MediaType::OCI_MANIFEST), Section::Admission);
        let layer = blob(vec![7; 300_000], media(MediaType::OCI_LAYER_TAR), Section::Layers);
        let image = Image {
            asked: OutsideText::new("r.example/x:1"),
            origin: "r.example/x:1".parse().expect("a reference"),
            digest: document.digest,
            media_type: document.media_type.clone(),
            size: document.size,
            platforms: vec![PlatformManifest { platform: None, digest: document.digest }],
            sparse: false,
            signatures: vec![],
            referrers: vec![],
            release: vec![],
        };
        let manifest = Manifest {
            kind: ManifestType::V1,
            requires: vec![],
            bundle: BundleId::generate(),
            stream: "payments".parse().expect("a stream"),
            sequence: 42.try_into().expect("a sequence"),
            created: "2026-01-31T09:00:00Z".parse().expect("a time"),
            expires: None,
            tool: "test".parse().expect("a line"),
            labels: BTreeMap::new(),
            volumes: Volumes { count: 1, admission: 1 },
            base: None,
            images: vec![image],
            blobs: vec![config, document, layer],
            extensions: BTreeMap::new(),
        };
        let bytes = manifest.to_bytes().expect("a sound manifest");
        let recipients = Recipients::parse([made.recipient.as_str()]).expect("a recipient");
        Self { dir, identities, recipients, manifest, bytes, source }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("volume")
    }

    fn write(&self) -> Result<Digest, Failed> {
        let written =
            write_volume(&self.path(), &self.recipients, &self.manifest, &self.bytes, b"signature", &self.source)?;
        Ok(written.digest)
    }

    fn file(&self) -> File {
        File::open(self.path()).expect("the volume")
    }
}

#[test]
fn what_was_written_is_read_in_the_manifests_order() {
    let fixture = Fixture::new();
    let sealed = fixture.write().expect("written");
    let head = Head::read(fixture.file(), &fixture.identities).expect("a head");
    assert_eq!(
        (head.untrusted_manifest.as_slice(), head.untrusted_signature.as_slice()),
        (&*fixture.bytes, &b"signature"[..])
    );

    let digest = sha256(&fixture.bytes);
    let mut contents =
        Contents::open(fixture.file(), &fixture.identities, &fixture.manifest, &digest, 1).expect("opened");
    let mut seen = Vec::new();
    while let Some((blob, content)) = contents.next_blob().expect("a blob") {
        seen.push(*content.finish().expect("right").digest());
        assert_eq!(seen.last(), Some(&blob.digest));
    }
    assert_eq!(seen, fixture.manifest.blobs.iter().map(|b| b.digest).collect::<Vec<_>>());
    assert_eq!(contents.finish().expect("the end"), sealed);

    let mut admission =
        Contents::open_admission(fixture.file(), &fixture.identities, &fixture.manifest, &digest, 1).expect("opened");
    let mut count = 0;
    while let Some((blob, content)) = admission.next_blob().expect("a blob") {
        assert_eq!(blob.section, Section::Admission);
        let _ = content.finish().expect("right");
        count += 1;
    }
    assert_eq!(count, 2);
}

#[test]
fn a_volume_with_another_manifest_is_refused() {
    let fixture = Fixture::new();
    fixture.write().expect("written");
    let other = sha256(b"another manifest");
    let opened = Contents::open(fixture.file(), &fixture.identities, &fixture.manifest, &other, 1);
    assert!(matches!(opened.err(), Some(ContentsError::OtherManifest { expected, .. }) if expected == other));
}

#[test]
fn a_blob_that_is_not_what_its_digest_promises_is_never_packed() {
    let mut fixture = Fixture::new();
    let layer = fixture.manifest.blobs[2].digest;
    fixture.source.0.insert(layer, vec![8; 300_000]);
    let error = fixture.write().expect_err("wrong content");
    assert!(error.0.contains(&layer.to_string()), "{}", error.0);
    fixture.source.0.insert(layer, vec![7; 299_999]);
    std::fs::remove_file(fixture.path()).expect("removed");
    assert!(fixture.write().expect_err("cut").0.contains("299999"));
}

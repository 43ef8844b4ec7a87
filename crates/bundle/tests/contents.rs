//! The content of volumes, written by the manifest and read by the manifest.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::PathBuf;

use blobs::{VerifyingReader, sha256};
use bundle::{
    Contents, ContentsError, Head, Identities, Output, Outputs, Packer, Packing, Range, Recipients, SourceBlob,
    VolumeBound, VolumeError, WrittenPart, WrittenVolume,
};
use manifest_schema::manifest::ManifestType;
use manifest_schema::{
    Blob, BundleId, Digest, Image, Manifest, MediaType, OutsideText, PlatformManifest, Section, Stored, Volumes,
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

/// The volumes of a fixture, as they lie in its folder.
struct Files<'f> {
    fixture: &'f Fixture,
    ended: Vec<(u32, Digest)>,
}

impl bundle::Volumes for Files<'_> {
    fn open(&mut self, number: u32) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(self.fixture.path(number))?))
    }
    fn ended(&mut self, number: u32, digest: Digest) -> io::Result<()> {
        self.ended.push((number, digest));
        Ok(())
    }
}

/// Volumes that are written into a fixture's folder.
struct Made<'f> {
    fixture: &'f Fixture,
    written: Vec<WrittenVolume>,
}

impl Outputs<Failed> for Made<'_> {
    fn open(&mut self, number: u32) -> Result<Box<dyn Output>, Failed> {
        Ok(Box::new(File::create(self.fixture.path(number)).expect("created")))
    }
    fn ended(&mut self, _: u32, volume: WrittenVolume) -> Result<(), Failed> {
        self.written.push(volume);
        Ok(())
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

const BIG: usize = 300_000;

impl Fixture {
    /// A configuration, an image manifest, a layer of [`BIG`] bytes and a small one.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let (recipient, identities) = common::identity(dir.path());
        let media = |text: &str| text.parse::<MediaType>().expect("a media type");
        let mut source = Memory(HashMap::new());
        let mut blob = |content: Vec<u8>, media_type, section| {
            let (digest, size) = (sha256(&content), content.len() as u64);
            source.0.insert(digest, content);
            Blob { digest, size, media_type, section, stored: Stored::Whole { volume: 1 } }
        };
        let config = blob(b"{}".to_vec(), media(MediaType::OCI_CONFIG), Section::Admission);
        let document = blob(b"{\"a\":1}".to_vec(), media(MediaType::OCI_MANIFEST), Section::Admission);
        let content = (0..BIG).map(|n| (n * 7 % 251) as u8).collect();
        let big = blob(content, media(MediaType::OCI_LAYER_TAR), Section::Layers);
        let small = blob(vec![9; 1000], media(MediaType::OCI_LAYER_TAR), Section::Layers);
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
            blobs: vec![config, document, big, small],
            extensions: BTreeMap::new(),
        };
        let bytes = manifest.to_bytes().expect("a sound manifest");
        let recipients = Recipients::parse([recipient.as_str()]).expect("a recipient");
        Self { dir, identities, recipients, manifest, bytes, source }
    }

    /// The big layer in three parts, the small one behind the last of them: four volumes, of which the first holds the
    /// admission section only.
    fn in_parts() -> Self {
        let mut fixture = Self::new();
        let sizes = vec![100_000, 150_000, 50_000];
        fixture.manifest.blobs[2].stored = Stored::Parts { volume: 2, sizes };
        fixture.manifest.blobs[3].stored = Stored::Whole { volume: 4 };
        fixture.manifest.volumes.count = 4;
        fixture.bytes = fixture.manifest.to_bytes().expect("a sound manifest");
        fixture
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.path().join(format!("volume-{number}"))
    }

    fn file(&self, number: u32) -> Box<dyn Read + Send> {
        Box::new(File::open(self.path(number)).expect("the volume"))
    }

    fn packer(&self) -> Packer<'_, Memory> {
        let packing = Packing {
            recipients: &self.recipients,
            manifest: &self.manifest,
            manifest_bytes: &self.bytes,
            signature: b"signature",
            source: &self.source,
        };
        Packer::new(packing, 2)
    }

    /// Writes these volumes; `known` are the parts in others.
    fn write(&self, numbers: &[u32], known: &[WrittenPart]) -> Result<Vec<WrittenVolume>, Failed> {
        let packer = self.packer();
        let mut made = Made { fixture: self, written: Vec::new() };
        for run in bundle::runs(&self.manifest, numbers) {
            packer.volumes(&run, known, &mut made)?;
        }
        Ok(made.written)
    }

    fn contents(&self, range: Range) -> Result<Contents<'_, Files<'_>>, ContentsError> {
        let files = Files { fixture: self, ended: Vec::new() };
        Contents::open(files, &self.identities, &self.manifest, sha256(&self.bytes), range).map_err(ContentsError::of)
    }

    /// Reads a range. Gives the digests of what was whole, and how many blobs were not.
    fn read(&self, range: Range) -> Result<(Vec<Digest>, usize), ContentsError> {
        let mut contents = self.contents(range)?;
        let (mut whole, mut others) = (Vec::new(), 0);
        while let Some(mut content) = contents.next_blob().map_err(ContentsError::of)? {
            let (blob, is_whole) = (content.blob(), content.is_whole());
            if is_whole {
                let verified = VerifyingReader::new(content, blob.digest, blob.size).finish();
                whole.push(*verified.map_err(ContentsError::of)?.digest());
            } else {
                io::copy(&mut content, &mut io::sink()).map_err(ContentsError::of)?;
                others += 1;
            }
        }
        contents.finish().map_err(ContentsError::of)?;
        Ok((whole, others))
    }
}

fn digests(blobs: &[Blob]) -> Vec<Digest> {
    blobs.iter().map(|b| b.digest).collect()
}

#[test]
fn what_was_written_is_read_in_the_manifests_order() {
    let fixture = Fixture::new();
    let sealed = fixture.write(&[1], &[]).expect("written")[0].digest;
    let head = Head::read(fixture.file(1), &fixture.identities).expect("a head");
    assert_eq!(
        (head.untrusted_manifest.as_slice(), head.untrusted_signature.as_slice()),
        (&*fixture.bytes, &b"signature"[..])
    );
    let (whole, others) = fixture.read(Range::Volumes(1, 1)).expect("read");
    assert_eq!((whole, others), (digests(&fixture.manifest.blobs), 0));
    let contents = fixture.contents(Range::Volumes(1, 1));
    assert!(contents.expect("opened").finish().is_err(), "what was not read stands before the end");

    let mut admission = fixture.contents(Range::Admission).expect("opened");
    let mut seen = Vec::new();
    while let Some(mut content) = admission.next_blob().expect("a blob") {
        assert_eq!(content.blob().section, Section::Admission);
        seen.push(content.blob().digest);
        io::copy(&mut content, &mut io::sink()).expect("read");
    }
    assert_eq!(seen, digests(&fixture.manifest.blobs[..2]));

    let mut all = fixture.contents(Range::Volumes(1, 1)).expect("opened");
    while let Some(mut content) = all.next_blob().expect("a blob") {
        io::copy(&mut content, &mut io::sink()).expect("read");
    }
    assert_eq!(all.finish().expect("the end").ended, [(1, sealed)]);
}

#[test]
fn a_blob_in_parts_is_read_over_its_volumes() {
    let fixture = Fixture::in_parts();
    let written = fixture.write(&[1, 2, 3, 4], &[]).expect("written");
    assert_eq!(written.iter().map(|v| v.parts.len()).collect::<Vec<_>>(), [0, 1, 1, 1]);
    assert_eq!(fixture.read(Range::Volumes(1, 4)).expect("read"), (digests(&fixture.manifest.blobs), 0));
    assert_eq!(fixture.read(Range::Volumes(2, 4)).expect("read"), (digests(&fixture.manifest.blobs[2..]), 0));
    // One volume alone: its parts are read and checked, and are not the blob.
    assert_eq!(fixture.read(Range::Volumes(3, 3)).expect("read"), (vec![], 1));
    assert_eq!(fixture.read(Range::Volumes(4, 4)).expect("read"), (digests(&fixture.manifest.blobs[3..]), 1));
    let mut contents = fixture.contents(Range::Volumes(2, 4)).expect("opened");
    let mut bytes = Vec::new();
    contents.next_blob().expect("a blob").expect("the big one").read_to_end(&mut bytes).expect("read");
    assert_eq!(&bytes, &fixture.source.0[&fixture.manifest.blobs[2].digest]);
    assert_eq!(contents.volume(), 4);
}

#[test]
fn a_volume_made_again_has_the_same_content_and_other_ciphertext() {
    let fixture = Fixture::in_parts();
    let first = fixture.write(&[1, 2, 3, 4], &[]).expect("written");
    let known: Vec<_> = first.iter().flat_map(|v| v.parts.clone()).collect();
    let again = fixture.write(&[3], &known).expect("written again");
    assert_eq!(again[0].parts, first[2].parts);
    assert_ne!(again[0].digest, first[2].digest);
    assert_eq!(fixture.read(Range::Volumes(1, 4)).expect("read").0.len(), 4);
}

#[test]
fn a_part_that_differs_from_what_lies_in_another_volume_is_not_packed() {
    let mut fixture = Fixture::in_parts();
    let mut known = fixture.write(&[1, 2], &[]).expect("written")[1].parts.clone();
    known[0].digest = sha256(b"other bytes");
    fixture.write(&[2], &known).expect_err("the part that is made again was another");
    let error = fixture.write(&[3, 4], &known).expect_err("part 1 was another").0;
    assert!(error.contains("part 1 is not what was written before"), "{error}");
    // What is not written must be right as well: the last byte is in part 3.
    let layer = fixture.manifest.blobs[2].digest;
    fixture.source.0.get_mut(&layer).expect("the layer")[BIG - 1] ^= 1;
    let error = fixture.write(&[2], &[]).expect_err("part 3 is wrong").0;
    assert!(error.contains(&layer.to_string()), "{error}");
}

#[test]
fn volumes_out_of_place_are_refused() {
    let fixture = Fixture::in_parts();
    fixture.write(&[1, 2, 3, 4], &[]).expect("written");
    std::fs::copy(fixture.path(3), fixture.path(2)).expect("copied");
    let error = fixture.read(Range::Volumes(2, 4)).expect_err("volume 3 twice");
    assert!(matches!(&error, ContentsError::Derived(name) if name == "sealift/volume.json"), "{error}");
    // Of another bundle with the same layout.
    let other = Fixture::in_parts();
    other.write(&[2], &[]).expect("written");
    std::fs::copy(other.path(2), fixture.path(2)).expect("copied");
    assert!(fixture.read(Range::Volumes(2, 4)).is_err());
}

/// A manifest whose parts are cut elsewhere than those in the volume.
#[test]
fn a_part_of_another_size_is_refused() {
    let mut fixture = Fixture::in_parts();
    fixture.write(&[1, 2, 3, 4], &[]).expect("written");
    fixture.manifest.blobs[2].stored = Stored::Parts { volume: 2, sizes: vec![100_001, 149_999, 50_000] };
    let error = fixture.read(Range::Volumes(2, 4)).expect_err("another cut");
    assert!(matches!(error, ContentsError::Size { expected: 100_001, found: 100_000, .. }), "{error}");
}

#[test]
fn a_volume_with_another_manifest_is_refused() {
    let fixture = Fixture::new();
    fixture.write(&[1], &[]).expect("written");
    let other = sha256(b"another manifest");
    let files = Files { fixture: &fixture, ended: Vec::new() };
    let opened = Contents::open(files, &fixture.identities, &fixture.manifest, other, Range::Volumes(1, 1));
    let error = ContentsError::of(opened.err().expect("refused"));
    assert!(matches!(error, ContentsError::OtherManifest { expected, .. } if expected == other));
}

#[test]
fn a_blob_that_is_not_what_its_digest_promises_is_never_packed() {
    let mut fixture = Fixture::new();
    let layer = fixture.manifest.blobs[2].digest;
    fixture.source.0.insert(layer, vec![8; BIG]);
    let error = fixture.write(&[1], &[]).expect_err("wrong content");
    assert!(error.0.contains(&layer.to_string()), "{}", error.0);
    fixture.source.0.insert(layer, vec![7; BIG - 1]);
    assert!(fixture.write(&[1], &[]).expect_err("cut").0.contains("299999"));
}

#[test]
fn a_stream_ends_with_its_seal() {
    let fixture = Fixture::new();
    let file = File::create(fixture.path(1)).expect("created");
    fixture.packer().stream(Box::new(file), b"the seal", b"its signature", || Ok(())).expect("sent");
    let mut contents = fixture.contents(Range::Volumes(1, 1)).expect("opened");
    while let Some(mut content) = contents.next_blob().expect("a blob") {
        io::copy(&mut content, &mut io::sink()).expect("read");
    }
    let sealed = contents.finish_stream().expect("the seal");
    assert_eq!(sealed, (b"the seal".to_vec(), b"its signature".to_vec()));
    assert!(fixture.read(Range::Volumes(1, 1)).is_err(), "it is not a volume of a folder");
    fixture.write(&[1], &[]).expect("written");
    let mut contents = fixture.contents(Range::Volumes(1, 1)).expect("opened");
    while let Some(mut content) = contents.next_blob().expect("a blob") {
        io::copy(&mut content, &mut io::sink()).expect("read");
    }
    assert!(contents.finish_stream().is_err(), "a volume of a folder has no seal inside");
}

#[test]
fn no_volume_is_larger_than_its_bound() {
    for length in [0, 1, 511, 512, 131_072, 1_000_000, 3_000_000] {
        let mut fixture = Fixture::new();
        let content = testkit::layout::noise(1, length);
        let blob = &mut fixture.manifest.blobs[2];
        (blob.digest, blob.size) = (sha256(&content), length as u64);
        fixture.source.0.insert(blob.digest, content);
        fixture.bytes = fixture.manifest.to_bytes().expect("sound");
        let index = fixture.manifest.layout_index().len() as u64;
        let mut bound = VolumeBound::first(fixture.bytes.len() as u64, index, 1);
        for blob in &fixture.manifest.blobs {
            bound = bound.blob(blob.size);
        }
        // The signature's own bound is generous; without it the bound is close.
        let written = &fixture.write(&[1], &[]).expect("written")[0];
        assert!(written.size <= bound.bytes(), "{length}: {} > {}", written.size, bound.bytes());
        assert!(bound.bytes() < written.size + (64 << 10) + 40_000, "{length}: {} << {}", written.size, bound.bytes());
    }
    let later = VolumeBound::later(1);
    for limit in [20_000, 1 << 20, 1 << 32] {
        let room = later.room_for_part(limit);
        assert!(later.part(room).bytes() <= limit && later.part(room + 1).bytes() > limit, "{limit}");
    }
}

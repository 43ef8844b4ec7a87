use super::*;

fn sample() -> Manifest {
    let digest = Digest::Sha256([7; 32]);
    let media_type: MediaType = MediaType::OCI_MANIFEST.parse().expect("a media type");
    Manifest {
        kind: ManifestType::V1,
        requires: vec![],
        bundle: BundleId::generate(),
        stream: "payments".parse().expect("a stream"),
        sequence: 42.try_into().expect("a sequence"),
        created: "2026-01-31T09:00:00Z".parse().expect("a time"),
        expires: None,
        tool: "sealift-export 0.1.0".parse().expect("a line"),
        labels: BTreeMap::new(),
        volumes: Volumes { count: 1, admission: 1 },
        base: None,
        images: vec![Image {
            asked: OutsideText::new("docker://r.example/x:1"),
            origin: "r.example/x:1".parse().expect("a reference"),
            digest,
            media_type: media_type.clone(),
            size: 10,
            platforms: vec![PlatformManifest { platform: None, digest }],
            sparse: false,
            signatures: vec![],
            referrers: vec![],
            release: vec![],
        }],
        blobs: vec![
            Blob { digest, size: 10, media_type, section: Section::Admission, stored: Stored::Whole { volume: 1 } },
            Blob {
                digest: Digest::Sha512([9; 64]),
                size: 1 << 40,
                media_type: MediaType::OCI_LAYER_TAR.parse().expect("a media type"),
                section: Section::Layers,
                stored: Stored::Whole { volume: 1 },
            },
        ],
        extensions: BTreeMap::new(),
    }
}

fn refused(text: &str, why: &str) {
    let error = Manifest::parse(text.as_bytes()).expect_err(why).to_string();
    assert!(error.contains(why), "expected `{why}` in: {error}");
}

#[test]
fn a_manifest_reads_back_as_written_and_type_comes_first() {
    let bytes = sample().to_bytes().expect("bytes");
    assert!(bytes.starts_with(br#"{"type":"sealift/manifest/1","requires":"#));
    assert_eq!(Manifest::parse(&bytes).expect("the same"), sample_with(&bytes));
}

fn sample_with(bytes: &[u8]) -> Manifest {
    serde_json::from_slice(bytes).expect("the manifest")
}

#[test]
fn reading_is_strict() {
    let good = String::from_utf8(sample().to_bytes().expect("bytes")).expect("text");
    refused(&format!("{good} "), "trailing");
    refused(&format!("{good}{good}"), "trailing");
    refused(&format!(" {good}"), "first member");
    refused(&good.replacen("{\"type\"", "{\"x\":1,\"type\"", 1), "first member");
    refused(&good.replacen("manifest/1", "manifest/2", 1), "expected sealift/manifest/1");
    refused(&good.replacen("manifest/1", "receipt/1", 1), "expected sealift/manifest/1");
    refused(&good.replacen("\"stream\"", "\"stream\":\"a\",\"stream\"", 1), "duplicate field");
    refused(&good.replacen("\"stream\"", "\"strEam\":1,\"stream\"", 1), "unknown field");
    refused(&good.replacen("\"labels\":{}", "\"labels\":{\"a\":\"1\",\"a\":\"2\"}", 1), "duplicate key");
    refused(&good.replacen("\"labels\":{}", "\"labels\":{\"a\":\"\\u001b[2J\"}", 1), "printable");
    refused(&good.replacen("\"sequence\":42", "\"sequence\":0", 1), "sequence");
    refused(&good.replacen("\"sequence\":42", "\"sequence\":42.5", 1), "expected u64");
    refused(&good.replacen("\"asked\"", "\"extra\":0,\"asked\"", 1), "unknown field");
    refused(&good.replacen("{\"whole\":{\"volume\":1}}", "{\"whole\":{\"volume\":1,\"x\":1}}", 1), "unknown field");
    refused(&good.replacen("{\"whole\":{\"volume\":1}}", "{\"whole\":{\"volume\":2}}", 1), "does not exist");
    refused(&good.replacen("1099511627776", "18446744073709551615", 1), "at most");
    refused(&good.replacen("\"size\":10", "\"size\":11", 1), "another size");
    refused(&good.replacen("\"count\":1", "\"count\":10000", 1), "10000 volumes");
}

#[test]
fn what_is_required_is_said_before_unknown_keys_are_complained_of() {
    let good = String::from_utf8(sample().to_bytes().expect("bytes")).expect("text");
    let newer =
        good.replacen("\"requires\":[]", "\"requires\":[{\"feature\":\"parts\",\"since\":\"0.2\"}],\"news\":1", 1);
    refused(&newer, "needs sealift >= 0.2 (feature `parts`)");
}

#[test]
fn extensions_may_hold_anything() {
    let good = String::from_utf8(sample().to_bytes().expect("bytes")).expect("text");
    let extended = format!("{},\"extensions\":{{\"site\":{{\"x\":[1,2]}}}}}}", &good[..good.len() - 1]);
    assert_eq!(Manifest::parse(extended.as_bytes()).expect("accepted").extensions.len(), 1);
    let doubled = format!("{},\"extensions\":{{\"a\":1,\"a\":2}}}}", &good[..good.len() - 1]);
    refused(&doubled, "duplicate key");
}

#[test]
fn a_manifest_that_contradicts_itself_is_neither_written_nor_read() {
    let broken: [fn(&mut Manifest); 8] = [
        |m| m.images.clear(),
        |m| m.images.push(m.images[0].clone()),
        |m| m.blobs.push(m.blobs[0].clone()),
        |m| m.blobs.swap(0, 1),
        |m| m.blobs.remove(0).size = 0,
        |m| m.blobs[0].section = Section::Layers,
        |m| m.expires = Some(m.created),
        |m| m.images[0].digest = Digest::Sha256([8; 32]),
    ];
    for (i, change) in broken.into_iter().enumerate() {
        let mut m = sample();
        change(&mut m);
        assert!(m.to_bytes().is_err(), "case {i} is written");
        let raw = serde_json::to_vec(&m).expect("json");
        assert!(Manifest::parse(&raw).is_err(), "case {i} is read");
    }
}

#[test]
fn blobs_stand_in_volumes_one_after_the_other() {
    let layer = |n: u8, stored| Blob {
        digest: Digest::Sha256([n; 32]),
        size: 10,
        media_type: MediaType::OCI_LAYER_TAR.parse().expect("a media type"),
        section: Section::Layers,
        stored,
    };
    let whole = |volume| Stored::Whole { volume };
    let parts = |volume, sizes: &[u64]| Stored::Parts { volume, sizes: sizes.into() };
    let with = |count, layers: &[Stored]| {
        let mut m = sample();
        m.volumes.count = count;
        m.blobs.truncate(1);
        m.blobs.extend((20..).zip(layers).map(|(n, stored)| layer(n, stored.clone())));
        m
    };
    let base = || Base {
        bundle: BundleId::generate(),
        stream: "payments".parse().expect("a stream"),
        sequence: 41.try_into().expect("a sequence"),
        manifest: Digest::Sha256([8; 32]),
    };
    for (count, layers) in [
        (1, vec![whole(1)]),
        (2, vec![whole(1), whole(2), whole(2)]),
        (2, vec![whole(2)]),
        (3, vec![parts(1, &[3, 3, 4]), whole(3)]),
        (3, vec![parts(2, &[5, 5])]),
        (4, vec![whole(1), parts(1, &[5, 5]), parts(2, &[1, 1, 8]), whole(4)]),
    ] {
        let bytes = with(count, &layers).to_bytes().unwrap_or_else(|e| panic!("{layers:?}: {e}"));
        Manifest::parse(&bytes).unwrap_or_else(|e| panic!("{layers:?}: {e}"));
    }
    for (count, layers) in [
        (1, vec![whole(2)]),
        (2, vec![whole(1)]),
        (3, vec![whole(1), whole(3)]),
        (2, vec![whole(2), whole(1)]),
        (2, vec![whole(0), whole(2)]),
        (1, vec![parts(1, &[10])]),
        (2, vec![parts(1, &[5, 6])]),
        (2, vec![parts(1, &[4, 5])]),
        (3, vec![parts(1, &[10, 0, 0])]),
        (2, vec![parts(1, &[u64::MAX, 11])]),
        (2, vec![parts(1, &[3, 3, 4])]),
        (4, vec![parts(3, &[5, 5])]),
        (2, vec![whole(2), parts(1, &[5, 5])]),
        (1, vec![Stored::Base]),
    ] {
        let m = with(count, &layers);
        assert!(m.to_bytes().is_err(), "written: {count} {layers:?}");
        assert!(Manifest::parse(&serde_json::to_vec(&m).expect("json")).is_err(), "read: {count} {layers:?}");
    }
    let mut incremental = with(1, &[Stored::Base, whole(1)]);
    incremental.base = Some(base());
    let bytes = incremental.to_bytes().expect("a base");
    assert_eq!(Manifest::parse(&bytes).expect("a base").total_bytes(), 20, "what is carried");
    for (stream, sequence) in [("payments", 42), ("other", 41)] {
        let mut wrong = incremental.clone();
        let base = wrong.base.as_mut().expect("a base");
        base.stream = stream.parse().expect("a stream");
        base.sequence = sequence.try_into().expect("a sequence");
        assert!(wrong.to_bytes().is_err(), "only what came before in the stream is a base");
    }
    // Documents and configurations are always carried, and a base that nothing is left to is none.
    incremental.blobs[0].stored = Stored::Base;
    assert!(incremental.to_bytes().is_err());
    let mut idle = with(1, &[whole(1)]);
    idle.base = Some(base());
    assert!(idle.to_bytes().is_err());
    // The admission section ends where it is said to end.
    let mut wrong = with(2, &[whole(2)]);
    wrong.volumes.admission = 2;
    assert!(wrong.to_bytes().is_err());
    // A layer in front of the end of the admission section.
    let mut early = with(2, &[]);
    early.blobs.insert(0, layer(30, whole(1)));
    early.blobs[1].stored = whole(2);
    early.volumes.admission = 2;
    assert!(early.to_bytes().is_err());
}

/// A manifest with one image, one signature, one referrer and the list of a release.
fn with_attachments() -> Manifest {
    let digest = |n| Digest::Sha256([n; 32]);
    let blob = |n, media_type: &str, section| Blob {
        digest: digest(n),
        size: 10,
        media_type: media_type.parse().expect("a media type"),
        section,
        stored: Stored::Whole { volume: 1 },
    };
    let mut manifest = sample();
    manifest.blobs = vec![
        blob(3, MediaType::OCI_LAYER_TAR, Section::Admission),
        blob(7, MediaType::OCI_MANIFEST, Section::Admission),
        blob(4, MediaType::SIMPLE_SIGNATURE, Section::Admission),
        blob(5, MediaType::OCI_MANIFEST, Section::Admission),
        blob(6, MediaType::OCI_LAYER_TAR, Section::Layers),
    ];
    let image = &mut manifest.images[0];
    image.signatures = vec![ImageSignature { subject: digest(7), digest: digest(4), found: crate::Found::Lookaside }];
    image.referrers = vec![Referrer { subject: digest(7), digest: digest(5), tag: Some(crate::DigestTag::Sig) }];
    image.release = vec![ReleaseList { manifest: digest(7), layers: vec![digest(3)] }];
    manifest
}

#[test]
fn what_is_attached_is_listed_once_and_in_the_admission_section() {
    let digest = |n| Digest::Sha256([n; 32]);
    with_attachments().to_bytes().expect("a good manifest");
    type Edit = fn(&mut Image, &dyn Fn(u8) -> Digest);
    let cases: [(&str, Edit); 14] = [
        ("is not a simple signature", |i, d| i.signatures[0].digest = d(3)),
        ("is not a simple signature", |i, d| i.signatures[0].digest = d(9)),
        ("which is no document of the bundle", |i, d| i.signatures[0].subject = d(3)),
        ("which is no document of the bundle", |i, d| i.signatures[0].subject = d(9)),
        ("is listed twice", |i, _| i.signatures.push(i.signatures[0].clone())),
        ("is not in the admission section", |i, d| i.referrers[0].digest = d(6)),
        ("is not in the admission section", |i, d| i.referrers[0].subject = d(3)),
        ("is not in the admission section", |i, d| i.referrers[0].digest = d(7)),
        ("is listed twice", |i, _| i.referrers.push(i.referrers[0].clone())),
        ("two documents are listed under the tag `.sig`", |i, d| {
            i.referrers.push(Referrer { digest: d(8), ..i.referrers[0].clone() });
        }),
        ("is not one of its image manifests", |i, d| i.release[0].manifest = d(5)),
        ("or has no layers", |i, _| i.release[0].layers.clear()),
        ("is not in the admission section", |i, d| i.release[0].layers = vec![d(6)]),
        ("is listed twice", |i, _| i.release.push(i.release[0].clone())),
    ];
    for (why, edit) in cases {
        let mut manifest = with_attachments();
        if why.starts_with("two documents") {
            let mut more = manifest.blobs[3].clone();
            more.digest = digest(8);
            manifest.blobs.insert(4, more);
        }
        edit(&mut manifest.images[0], &digest);
        let error = manifest.to_bytes().expect_err(why).to_string();
        assert!(error.contains(why), "expected `{why}` in: {error}");
    }
}

#[test]
fn what_is_attached_is_bounded() {
    let number = |n: u32| {
        let mut bytes = [9; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        Digest::Sha256(bytes)
    };
    let mut manifest = with_attachments();
    let signature = manifest.blobs[2].clone();
    for n in 0..LIMITS.lookaside_signatures as u32 {
        manifest.blobs.insert(2, Blob { digest: number(n), ..signature.clone() });
        let image = &mut manifest.images[0];
        image.signatures.push(ImageSignature { digest: number(n), ..image.signatures[0].clone() });
    }
    let error = manifest.to_bytes().expect_err("too many for one document").to_string();
    assert!(error.contains("more than 127 signatures"), "{error}");
    let mut manifest = with_attachments();
    let image = &mut manifest.images[0];
    image.referrers = vec![image.referrers[0].clone(); LIMITS.attachments];
    let error = manifest.to_bytes().expect_err("too many in all").to_string();
    assert!(error.contains("at most 10000 are accepted"), "{error}");
}

//! What belongs to the images of a layout: referrers, digest tags, files with signatures.

use blobs::sha256;
use manifest_schema::{Digest, DigestTag, LIMITS, MediaType, referrers_tag};
use registry::source::{Source, SourceError};

use crate::images::*;

const SBOM: &str = "application/spdx+json";

/// A document that refers to another, its type in `artifactType`.
fn referrer(tree: &mut Tree, subject: &Pointer, name: &str) -> Pointer {
    let config = tree.blob("application/vnd.oci.empty.v1+json", b"{}");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","artifactType":"{SBOM}","config":{},"layers":[],"subject":{},"annotations":{{"name":"{name}"}}}}"#,
        MediaType::OCI_MANIFEST,
        config.json(""),
        subject.json(""),
    );
    tree.blob(MediaType::OCI_MANIFEST, manifest.as_bytes())
}

fn digests(source: &dyn Source, subject: &Digest) -> Vec<Digest> {
    source.referrers(subject).expect("a list").iter().map(|found| found.descriptor.digest).collect()
}

fn annotated(pointer: &Pointer, annotations: &[(&str, &str)]) -> String {
    let annotations: Vec<_> = annotations.iter().map(|(key, value)| format!("{key:?}:{value:?}")).collect();
    pointer.json(&format!(r#","annotations":{{{}}}"#, annotations.join(",")))
}

/// Opens an image in a folder and in an archive of it.
fn both(place: &Place, tree: &Tree, name: &str, rest: &str) -> [Box<dyn Source>; 2] {
    tree.write_folder(&place.path(name));
    tree.write_tar(&place.path(&format!("{name}.tar")));
    [
        place.open("oci", &format!("{name}{rest}")).expect("a layout"),
        place.open("oci-archive", &format!("{name}.tar{rest}")).expect("an archive"),
    ]
}

#[test]
fn documents_that_name_their_subject_are_found() {
    let place = Place::new();
    let mut tree = Tree::default();
    let (image, other) = (tree.image("image"), tree.image("other"));
    let (first, second) = (referrer(&mut tree, &image, "first"), referrer(&mut tree, &image, "second"));
    let of_first = referrer(&mut tree, &first, "of first");
    let chart = tree.blob("text/plain", b"no document");
    let listed = [&first, &first, &second, &of_first, &chart].map(|pointer| pointer.json(""));
    tree.layout(&[[image.named("1"), other.named("2")].as_slice(), &listed].concat());
    for source in both(&place, &tree, "all", ":1") {
        assert_eq!(digests(&*source, &image.digest), [first.digest, second.digest], "each once");
        assert_eq!(digests(&*source, &first.digest), [of_first.digest]);
        assert!(digests(&*source, &other.digest).is_empty());
        let found = source.referrers(&image.digest).expect("a list");
        assert_eq!(found[0].artifact_type.as_ref().map(|t| t.raw()), Some(SBOM));
        assert!(source.document(&first.digest, first.size as u64).is_ok());
    }
    // One that is listed and cannot be read might be a referrer.
    std::fs::remove_file(place.path("all").join(second.digest.layout_path())).expect("removed");
    let source = place.open("oci", "all:1").expect("a layout");
    assert!(matches!(source.referrers(&image.digest), Err(SourceError::Missing { .. })));
    std::fs::write(place.path("all").join(second.digest.layout_path()), vec![b'{'; second.size]).expect("written");
    assert!(matches!(source.referrers(&image.digest), Err(SourceError::Content { .. })));
}

#[test]
fn entries_under_the_tags_of_a_registry_are_found() {
    let place = Place::new();
    for full in [false, true] {
        let mut tree = Tree::default();
        let image = tree.image("image");
        let (named, listed) = (referrer(&mut tree, &image, "named"), referrer(&mut tree, &image, "listed"));
        let list = tree.index(&[listed.json(&format!(r#","artifactType":"{SBOM}""#)), named.json("")]);
        let (sig, att) = (tree.image("signature"), tree.image("attestation"));
        let tag = |tag: String| if full { format!("r.example/x:{tag}") } else { tag };
        let hex = image.digest.hex();
        tree.layout(&[
            image.json(""),
            named.json(""),
            list.named(&tag(referrers_tag(&image.digest).to_string())),
            sig.named(&tag(format!("sha256-{hex}.sig"))),
            att.named(&tag(format!("sha256-{hex}.att"))),
        ]);
        // What belongs to it is no image beside it.
        for source in both(&place, &tree, &format!("tags-{full}"), "") {
            assert_eq!(source.resolve().expect("an image").document.digest(), &image.digest);
            assert_eq!(digests(&*source, &image.digest), [named.digest, listed.digest]);
            let tag = |kind| source.digest_tag(&image.digest, kind).expect("an answer").map(|(_, d)| *d.digest());
            assert_eq!([tag(DigestTag::Sig), tag(DigestTag::Att)], [Some(sig.digest), Some(att.digest)]);
            assert_eq!(tag(DigestTag::Sbom), None);
            assert!(source.digest_tag(&sig.digest, DigestTag::Sig).expect("an answer").is_none());
        }
    }
    let mut tree = Tree::default();
    let (image, other) = (tree.image("image"), tree.image("other"));
    let tag = format!("sha256-{}", image.digest.hex());
    let sig = format!("{tag}.sig");
    tree.layout(&[image.named("1"), other.named(&tag), image.named(&sig), other.named(&format!("r.example/x:{sig}"))]);
    for source in both(&place, &tree, "wrong", ":1") {
        let error = chain(&source.referrers(&image.digest).expect_err("no list"));
        assert!(error.contains(&tag) && error.contains("list of referrers"), "{error}");
        assert!(matches!(source.digest_tag(&image.digest, DigestTag::Sig), Err(SourceError::Twice { .. })));
    }
    let mut tree = Tree::default();
    let many: Vec<_> = (0..=LIMITS.referrers)
        .map(|n| image.json("").replace(&image.digest.hex(), &sha256(&n.to_le_bytes()).hex()))
        .collect();
    let image = tree.image("image");
    let (list, lie) = (tree.index(&many), tree.blob(MediaType::OCI_INDEX, b"{}"));
    tree.layout(&[image.named("1"), list.named(&tag)]);
    for source in both(&place, &tree, "many", ":1") {
        assert!(matches!(source.referrers(&image.digest), Err(SourceError::TooMany { .. })));
    }
    tree.layout(&[image.named("1"), lie.named(&tag)]);
    for source in both(&place, &tree, "lie", ":1") {
        assert!(source.referrers(&image.digest).is_err());
    }
}

#[test]
fn an_image_under_its_own_digest_is_no_list() {
    let place = Place::new();
    let mut tree = Tree::default();
    let image = tree.image("image");
    let index = tree.index(&[image.json("")]);
    for (name, document) in [("image", &image), ("index", &index)] {
        tree.layout(&[document.named(referrers_tag(&document.digest).as_str())]);
        tree.file("signature-1", "signature");
        for source in both(&place, &tree, name, "") {
            assert_eq!(source.resolve().expect("an image").document.digest(), &document.digest);
            assert!(digests(&*source, &document.digest).is_empty());
            assert_eq!(source.simple_signatures(&document.digest).expect("a file").len(), 1);
        }
    }
}

#[test]
fn what_cosign_saved_is_tied_to_its_image_or_left_out() {
    const REF: &str = "dev.cosignproject.cosign/imageRef";
    let kind = |name: &'static str| ("kind", name);
    let (an_image, sigs, atts) = (
        kind("dev.cosignproject.cosign/image"),
        kind("dev.cosignproject.cosign/sigs"),
        kind("dev.cosignproject.cosign/atts"),
    );
    let place = Place::new();
    let mut tree = Tree::default();
    let (a, b) = (tree.image("a"), tree.image("b"));
    let (sig_a, sig_b, att_a) = (tree.image("sig a"), tree.image("sig b"), tree.image("att a"));
    let tag = |source: &dyn Source, of: &Pointer, kind| {
        source.digest_tag(&of.digest, kind).expect("an answer").map(|(_, document)| *document.digest())
    };
    // One image to a layout, as cosign saved first.
    tree.layout(&[annotated(&a, &[an_image]), annotated(&sig_a, &[sigs]), annotated(&att_a, &[atts])]);
    for source in both(&place, &tree, "one", "") {
        assert_eq!(source.resolve().expect("an image").document.digest(), &a.digest);
        assert_eq!(tag(&*source, &a, DigestTag::Sig), Some(sig_a.digest));
        assert_eq!(tag(&*source, &a, DigestTag::Att), Some(att_a.digest));
        assert_eq!(tag(&*source, &a, DigestTag::Sbom), None);
        assert_eq!(tag(&*source, &b, DigestTag::Sig), None);
    }
    // Several, told apart by their reference.
    let (ref_a, ref_b) = ((REF, "r.example/a:1"), (REF, "r.example/b:1"));
    let named =
        |pointer: &Pointer, name| annotated(pointer, &[an_image, name, ("org.opencontainers.image.ref.name", name.1)]);
    tree.layout(&[
        named(&a, ref_a),
        named(&b, ref_b),
        annotated(&sig_b, &[sigs, ref_b, ("org.opencontainers.image.ref.name", ref_b.1)]),
        annotated(&sig_a, &[sigs, ref_a]),
    ]);
    for source in both(&place, &tree, "two", ":r.example/b:1") {
        assert_eq!(source.resolve().expect("an image").document.digest(), &b.digest, "and not its signature");
        assert_eq!(tag(&*source, &a, DigestTag::Sig), Some(sig_a.digest));
        assert_eq!(tag(&*source, &b, DigestTag::Sig), Some(sig_b.digest));
    }
    // Which image it belongs to is not said.
    for (name, entries) in [
        ("two images", [annotated(&a, &[an_image]), annotated(&b, &[an_image])]),
        ("another reference", [annotated(&a, &[an_image, ref_a]), annotated(&b, &[an_image, ref_b])]),
        ("no image", [a.named("1"), b.named("2")]),
    ] {
        tree.layout(&[entries.as_slice(), &[annotated(&sig_a, &[sigs])]].concat());
        tree.write_folder(&place.path(name));
        let source = place.open("oci", &format!("{name}@{}=r.example/x:1", a.digest)).expect(name);
        assert_eq!(tag(&*source, &a, DigestTag::Sig), None, "{name}");
    }
    tree.layout(&[annotated(&a, &[an_image]), annotated(&sig_a, &[sigs]), annotated(&sig_b, &[sigs])]);
    tree.write_folder(&place.path("twice"));
    let source = place.open("oci", "twice").expect("one image");
    assert!(matches!(source.digest_tag(&a.digest, DigestTag::Sig), Err(SourceError::Twice { .. })));
    tree.layout(&[annotated(&sig_a, &[sigs])]);
    tree.write_folder(&place.path("none"));
    assert!(matches!(place.open("oci", "none"), Err(SourceError::Empty { .. })));
}

#[test]
fn signatures_lie_beside_a_layout() {
    let place = Place::new();
    let mut tree = Tree::default();
    let inner = tree.image("hello");
    let index = tree.index(&[inner.json(r#","platform":{"os":"linux","architecture":"amd64"}"#)]);
    tree.layout(&[index.json("")]);
    let hex = inner.digest.hex();
    tree.file("signature-1", "one").file("signature-2", "two").file("signature-4", "behind a hole");
    tree.file(&format!("{hex}.signature-1"), "of the instance")
        .file(&format!("{}.signature-1", index.digest.hex()), "two");
    tree.file(&format!("{}.signature-2", index.digest.hex()), "three");
    for source in both(&place, &tree, "one", "") {
        assert_eq!(source.simple_signatures(&index.digest).expect("files"), [b"one".as_slice(), b"two", b"three"]);
        assert_eq!(source.simple_signatures(&inner.digest).expect("files"), [b"of the instance"]);
        assert!(source.simple_signatures(&sha256(b"other")).expect("none").is_empty());
    }
    // With a second image nobody knows whose they are; what belongs to the image is no second one.
    let second = tree.image("second");
    let (sig, sbom) = (tree.image("signature"), referrer(&mut tree, &index, "sbom"));
    let sig = sig.named(&format!("sha256-{}.sig", index.digest.hex()));
    tree.layout(&[index.named("1"), second.named("2")]);
    for source in both(&place, &tree, "two", ":1") {
        assert_eq!(source.simple_signatures(&index.digest).expect("files"), [b"two".as_slice(), b"three"]);
    }
    tree.layout(&[index.named("1"), index.named("2"), sig, sbom.json("")]);
    for source in both(&place, &tree, "attached", ":1") {
        assert_eq!(source.simple_signatures(&index.digest).expect("files").len(), 3);
    }
}

#[test]
fn files_with_signatures_are_bounded_and_regular() {
    let place = Place::new();
    let fresh = |name: &str, change: &dyn Fn(&mut Tree)| {
        let mut tree = Tree::default();
        let image = tree.image("hello");
        tree.layout(&[image.json("")]);
        change(&mut tree);
        let [source, archive] = both(&place, &tree, name, "");
        let (one, other) = (source.simple_signatures(&image.digest), archive.simple_signatures(&image.digest));
        assert_eq!(one.is_ok(), other.is_ok());
        one
    };
    let many = |count: usize| {
        move |tree: &mut Tree| (1..=count).for_each(|n| _ = tree.file(&format!("signature-{n}"), n.to_string()))
    };
    assert_eq!(fresh("most", &many(LIMITS.lookaside_signatures)).expect("files").len(), LIMITS.lookaside_signatures);
    let error = fresh("many", &many(LIMITS.lookaside_signatures + 1)).expect_err("too many");
    assert!(matches!(error, SourceError::TooMany { .. }), "{error}");
    let large = vec![0; LIMITS.signature as usize + 1];
    let error = fresh("large", &|tree| _ = tree.file("signature-1", large.clone())).expect_err("too large");
    assert!(matches!(error, SourceError::TooLarge { .. }), "{error}");

    let image = web(&place);
    std::os::unix::fs::symlink("/etc/hostname", place.path("web/signature-1")).expect("a link");
    let source = place.open("oci", "web").expect("a layout");
    assert!(matches!(source.simple_signatures(&image.digest), Err(SourceError::NotRegular { .. })));
}

#[test]
fn nothing_belongs_to_an_old_docker_archive() {
    let place = Place::new();
    let layer = layer("hello");
    old_save(r#"["r.example/x:1"]"#, &[("a/layer.tar", &layer)], &config(&[&layer])).write_tar(&place.path("old.tar"));
    let source = place.open("docker-archive", "old.tar").expect("an archive");
    let digest = *source.resolve().expect("an image").document.digest();
    assert!(source.referrers(&digest).expect("none").is_empty());
    assert!(source.digest_tag(&digest, DigestTag::Sig).expect("none").is_none());
    assert!(source.simple_signatures(&digest).expect("none").is_empty());
}

//! Folders in skopeo's `dir:` form.

use std::path::{Path, PathBuf};

use blobs::sha256;
use manifest_schema::{Digest, DigestTag, MediaType};
use registry::source::{SourceError, SourceRef};
use testkit::{Gpg, need, run_ok};

use crate::images::*;

/// A folder as skopeo writes it.
fn folder(place: &Place, name: &str, image: &str) -> (PathBuf, Digest) {
    let layer = layer(image);
    let config = config(&[&layer]);
    let descriptor = |media_type: &str, bytes: &[u8]| {
        Pointer { media_type: media_type.into(), digest: sha256(bytes), size: bytes.len() }.json("")
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
        MediaType::OCI_MANIFEST,
        descriptor(MediaType::OCI_CONFIG, config.as_bytes()),
        descriptor(MediaType::OCI_LAYER_TAR, &layer)
    );
    let mut tree = Tree::default();
    tree.file("version", "Directory Transport Version: 1.1\n").file("manifest.json", manifest.as_bytes());
    tree.file(&sha256(config.as_bytes()).hex(), config.as_bytes()).file(&sha256(&layer).hex(), layer);
    tree.write_folder(&place.path(name));
    (place.path(name), sha256(manifest.as_bytes()))
}

#[test]
fn a_folder_is_read_whole_or_by_digest() {
    let place = Place::new();
    let (_, digest) = folder(&place, "web", "hello");
    for (asked, origin) in [
        ("web".to_string(), "localhost/web:latest".to_string()),
        ("web=r.example/pay/web:2".into(), "r.example/pay/web:2".into()),
        (format!("web@{digest}"), format!("localhost/web@{digest}")),
        (format!("web@{digest}=r.example/pay/web:2"), "r.example/pay/web:2".into()),
    ] {
        let source = place.open("dir", &asked).expect(&asked);
        let resolved = source.resolve().expect(&asked);
        assert_eq!(resolved.origin.to_string(), origin, "{asked}");
        assert_eq!((resolved.document.digest(), resolved.media_type.as_str()), (&digest, MediaType::OCI_MANIFEST));
        assert_eq!(read_all(&*source).expect(&asked).len(), 3);
        assert!(source.simple_signatures(&digest).expect("none").is_empty());
        assert!(source.referrers(&digest).expect("none").is_empty());
        assert!(source.digest_tag(&digest, DigestTag::Sig).expect("none").is_none());
        // As `plan --lock` writes it.
        let text = format!("dir:{}/{asked}", place.folder.path().display());
        let pinned = text.parse::<SourceRef>().expect(&text).pinned(&digest, &resolved.origin);
        let again = pinned.to_string().parse::<SourceRef>().expect("reads back");
        assert_eq!(again.open(&place.registries).expect("opens").resolve().expect("an image").origin, resolved.origin);
    }
    let error = place.refused("dir", &format!("web@{}", sha256(b"")));
    assert!(error.contains(&format!("it holds `{digest}`")), "{error}");
    assert!(matches!(place.open("dir", "elsewhere"), Err(SourceError::Missing { .. })));
    let base = place.folder.path();
    let relative = "dir:web=r.example/x:1".parse::<SourceRef>().expect("a folder").relative_to(base);
    assert_eq!(relative.to_string(), format!("dir:{}/web=r.example/x:1", base.display()));
    assert!(relative.open(&place.registries).is_ok());
}

#[test]
fn a_folder_that_lies_is_refused() {
    let place = Place::new();
    let layer_name = sha256(&layer("hello")).hex();
    let change = |name: &str, change: &dyn Fn(&Path)| {
        let (path, _) = folder(&place, name, "hello");
        change(&path);
        match place.open("dir", name) {
            Ok(source) => read_refused(&*source),
            Err(error) => chain(&error),
        }
    };
    let write = |file: &str, bytes: &[u8]| {
        let (file, bytes) = (file.to_string(), bytes.to_vec());
        move |path: &Path| std::fs::write(path.join(&file), &bytes).expect("written")
    };
    let remove = |file: &str| {
        let file = file.to_string();
        move |path: &Path| std::fs::remove_file(path.join(&file)).expect("removed")
    };
    let link = |file: &str| {
        let file = file.to_string();
        move |path: &Path| {
            std::fs::rename(path.join(&file), path.join("moved")).expect("moved");
            std::os::unix::fs::symlink("moved", path.join(&file)).expect("a link");
        }
    };
    let same_size = vec![b'x'; layer("hello").len()];
    type Change<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Change<'_>, &str); 11] = [
        ("version", &write("version", b"Directory Transport Version: 2.0\n"), "Version: 2.0`, expected"),
        ("no version", &write("version", b"1.1"), "`1.1`, expected"),
        ("long version", &write("version", &[b'1'; 300]), "300 bytes; at most 256"),
        ("no manifest", &remove("manifest.json"), "manifest.json is missing"),
        ("no image", &write("manifest.json", b"{}"), "manifest.json is refused"),
        ("large", &write("manifest.json", &vec![b' '; 5 << 20]), "at most 4194304"),
        ("layer gone", &remove(&layer_name), "is missing"),
        ("layer changed", &write(&layer_name, &same_size), "expected sha256"),
        ("layer longer", &write(&layer_name, b"x"), "found 1"),
        ("manifest link", &link("manifest.json"), "is a link; only a regular file"),
        ("layer link", &link(&layer_name), "is a link; only a regular file"),
    ];
    for (name, apply, why) in cases {
        let error = change(name, apply);
        assert!(error.contains(why), "{name}: {error}");
    }
    let (path, digest) = folder(&place, "signature", "hello");
    std::os::unix::fs::symlink("manifest.json", path.join("signature-1")).expect("a link");
    let source = place.open("dir", "signature").expect("a folder");
    assert!(matches!(source.simple_signatures(&digest), Err(SourceError::NotRegular { .. })));
    // Some folders have no version.
    let (path, _) = folder(&place, "old", "hello");
    std::fs::remove_file(path.join("version")).expect("removed");
    assert!(place.open("dir", "old").is_ok());
}

#[test]
fn foreign_layers_and_other_digests_have_their_names() {
    let place = Place::new();
    let layer = layer("hello");
    let digest = sha512(&layer);
    let config = config(&[&layer]);
    let config_pointer =
        Pointer { media_type: MediaType::OCI_CONFIG.into(), digest: sha256(config.as_bytes()), size: config.len() };
    let layers = [
        Pointer { media_type: MediaType::OCI_LAYER_TAR.into(), digest, size: layer.len() }.json(""),
        Pointer {
            media_type: "application/vnd.oci.image.layer.nondistributable.v1.tar".into(),
            digest: sha256(b"elsewhere"),
            size: 9,
        }
        .json(""),
    ];
    let manifest =
        format!(r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#, config_pointer.json(""), layers.join(","));
    for name in [digest.hex(), format!("sha512-{}", digest.hex())] {
        let mut tree = Tree::default();
        tree.file("version", "Directory Transport Version: 1.2\n").file("manifest.json", manifest.as_bytes());
        tree.file(&config_pointer.digest.hex(), config.as_bytes()).file(&name, layer.clone());
        let folder = place.path(&name[..10]);
        tree.write_folder(&folder);
        let source = place.open("dir", &name[..10]).expect("an image without its own media type");
        let error = read_refused(&*source);
        assert!(error.contains(&format!("foreign layer {} cannot be fetched", sha256(b"elsewhere"))), "{error}");
        std::fs::write(folder.join(sha256(b"elsewhere").hex()), b"elsewhere").expect("written");
        assert!(read_all(&*source).expect("all").contains(&digest));
    }
}

#[test]
fn skopeos_signed_folders_are_read() {
    if !need(&["skopeo", "gpg"]) {
        return;
    }
    let (place, gpg) = (Place::new(), Gpg::new());
    let key = gpg.generate("signer@example.org", "rsa2048");
    let second = gpg.generate("second@example.org", "rsa2048");
    let mut layout = testkit::Layout::new();
    let (one, multi) = (layout.image(&[b"hello", b"world"]), layout.multi(&[b"many"]));
    let (one, multi) = (layout.name("one", &one), layout.name("multi", &multi));
    let policy = place.path("policy.json");
    std::fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).expect("written");
    let copy = |from: &str, to: &str, more: &[&str]| {
        let mut command = gpg.with_home("skopeo", &["--policy", text(&policy), "copy"]);
        run_ok(command.args(more).args([from, &format!("dir:{}", text(&place.path(to)))]));
    };
    let from = |name: &str| format!("oci:{}:{name}", layout.path().display());
    let payload = |signature: &[u8]| {
        std::fs::write(place.path("signature"), signature).expect("written");
        run_ok(gpg.command().arg("--decrypt").arg(place.path("signature"))).stdout
    };
    let sign = ["--preserve-digests", "--sign-by", &key, "--sign-identity", "r.example/x:1"];
    copy(&from("one"), "one", &sign);
    let source = place.open("dir", "one=r.example/x:1").expect("a folder");
    assert_eq!(source.resolve().expect("an image").document.digest(), &one);
    assert_eq!(read_all(&*source).expect("all").len(), 4);
    let found = source.simple_signatures(&one).expect("a signature");
    assert_eq!(found.len(), 1);
    let said = payload(&found[0]);
    assert!(said.contains("r.example/x:1") && said.contains(&one.to_string()), "{said}");

    // Signed again, by another; as a Docker image, whose manifest is another.
    let dir = format!("dir:{}", text(&place.path("one")));
    copy(&dir, "again", &["--sign-by", &second, "--sign-identity", "r.example/x:2"]);
    let source = place.open("dir", "again").expect("a folder");
    let found = source.simple_signatures(&one).expect("signatures");
    assert_eq!(found.len(), 2);
    assert!(payload(&found[1]).contains("r.example/x:2"));
    copy(&from("one"), "docker", &["--format", "v2s2", "--sign-by", &key, "--sign-identity", "r.example/x:1"]);
    let source = place.open("dir", "docker").expect("a folder");
    let resolved = source.resolve().expect("an image");
    assert_eq!(resolved.media_type.as_str(), MediaType::DOCKER_MANIFEST);
    assert_eq!(read_all(&*source).expect("all").len(), 4);
    assert!(payload(&source.simple_signatures(resolved.document.digest()).expect("one")[0]).contains("r.example"));

    // Every instance of an index has its own.
    copy(&from("multi"), "multi", &[&["--all"], sign.as_slice()].concat());
    let source = place.open("dir", "multi").expect("a folder");
    let resolved = source.resolve().expect("an index");
    assert_eq!((resolved.document.digest(), resolved.media_type.as_str()), (&multi, MediaType::OCI_INDEX));
    read_all(&*source).expect("all");
    let document = manifest_schema::Document::parse(resolved.document.bytes(), &resolved.media_type).expect("an index");
    let signed = |digest: &Digest| {
        let found = source.simple_signatures(digest).expect("files");
        assert_eq!(found.len(), 1, "{digest}");
        assert!(payload(&found[0]).contains(&digest.to_string()), "{digest}");
    };
    signed(&multi);
    for child in document.children() {
        signed(&child.descriptor.digest);
        // An instance alone, with its signature.
        let asked = format!("multi@{}=r.example/x:1", child.descriptor.digest);
        let alone = place.open("dir", &asked).expect("an instance");
        assert_eq!(alone.resolve().expect("an image").document.digest(), &child.descriptor.digest);
        assert_eq!(alone.simple_signatures(&child.descriptor.digest).expect("one").len(), 1);
        read_all(&*alone).expect("all of it");
    }
    assert_eq!(document.children().len(), 2);
    // An instance that is damaged, or missing.
    let child = &document.children()[0].descriptor;
    assert!(matches!(source.document(&child.digest, child.size + 1), Err(SourceError::Size { .. })));
    assert!(matches!(source.document(&child.digest, 5 << 20), Err(SourceError::TooLarge { .. })));
    let file = place.path("multi").join(format!("{}.manifest.json", child.digest.hex()));
    std::fs::write(&file, vec![b'x'; child.size as usize]).expect("written");
    assert!(matches!(source.document(&child.digest, child.size), Err(SourceError::Content { .. })));
    std::fs::remove_file(&file).expect("removed");
    assert!(matches!(source.document(&child.digest, child.size), Err(SourceError::Missing { .. })));
}

#[test]
fn a_published_folder_is_read_with_its_signatures() {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let data = std::env::var_os("SEALIFT_TEST_DATA").map_or_else(default, PathBuf::from);
    let folder = data.join("redhat/noo-bundle-image");
    if !folder.is_dir() {
        println!("skipped: {} is not there; SEALIFT_TEST_DATA names another folder", folder.display());
        return;
    }
    let place = Place::new();
    let text = format!("dir:{}=registry.redhat.io/albo/aws-load-balancer-operator-bundle:0.0.1", folder.display());
    let source = text.parse::<SourceRef>().expect(&text).open(&place.registries).expect(&text);
    let resolved = source.resolve().expect("an image");
    assert_eq!(resolved.media_type.as_str(), MediaType::DOCKER_MANIFEST);
    assert_eq!(read_all(&*source).expect("every part").len(), 3);
    let found = source.simple_signatures(resolved.document.digest()).expect("files");
    let files: Vec<_> =
        (1..=4).map(|n| std::fs::read(folder.join(format!("signature-{n}"))).expect("a file")).collect();
    assert_eq!(found, files);
}

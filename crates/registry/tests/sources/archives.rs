//! The archives of `docker save`, of old and of today.

use std::path::Path;

use blobs::sha256;
use registry::source::{Source, SourceError, Sources};

use crate::images::*;

/// Writes an image as a layout, the way an importer would.
fn write_layout(source: &dyn Source, folder: &Path) {
    let resolved = source.resolve().expect("an image");
    let mut tree = Tree::default();
    let document = tree.blob(resolved.media_type.as_str(), resolved.document.bytes());
    let parsed = manifest_schema::Document::parse(resolved.document.bytes(), &resolved.media_type).expect("parsed");
    let manifest_schema::Document::Manifest { config, layers, .. } = parsed else { panic!("an image") };
    for d in layers.iter().chain([&config]) {
        let mut bytes = Vec::new();
        source.blob(d).expect("a blob").read_to_end(&mut bytes).expect("read");
        tree.blob(d.media_type.as_str(), &bytes);
    }
    tree.layout(&[document.named("out")]).write_folder(folder);
}

#[test]
fn an_archive_of_docker_save_always_has_the_same_digest() {
    let place = Place::new();
    web(&place);
    let from = format!("oci:{}:1.0", text(&place.path("web")));
    let archive = place.path("saved.tar");
    let to = format!("docker-archive:{}:busybox:1", text(&archive));
    if run("skopeo", &["copy", &from, &to]).is_none() {
        return;
    }
    let source = place.open("docker-archive", "saved.tar:busybox:1").expect("an archive");
    let first = source.resolve().expect("an image");
    assert_eq!(first.origin.to_string(), "docker.io/library/busybox:1");
    assert_eq!(read_all(&*source).expect("all").len(), 3);
    // The made manifest is fixed: these bytes must not change between versions.
    let layer = layer("hello");
    let expected = format!(
        concat!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"#,
            r#""application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"#,
            r#""application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}]}}"#
        ),
        sha256(config(&[&layer]).as_bytes()),
        config(&[&layer]).len(),
        sha256(&layer),
        layer.len()
    );
    assert_eq!(String::from_utf8_lossy(first.document.bytes()), expected);

    std::fs::copy(&archive, place.path("copy.tar")).expect("copied");
    for asked in ["copy.tar", "copy.tar:@0", "copy.tar=r.example/b:2"] {
        assert_eq!(place.resolve("docker-archive", asked).document, first.document);
    }
    write_layout(&*source, &place.path("out"));
    let shown = run("skopeo", &["inspect", "--raw", &format!("oci:{}:out", text(&place.path("out")))]);
    assert_eq!(shown.as_deref(), Some(expected.as_str()));
    let back = format!("docker-archive:{}", text(&place.path("back.tar")));
    run("skopeo", &["copy", &format!("oci:{}:out", text(&place.path("out"))), &back]);
    let again = place.resolve("docker-archive", "back.tar");
    assert_eq!(again.document, first.document, "there and back again");
    assert_eq!(again.origin.to_string(), "localhost/back:latest");
}

#[test]
fn links_and_compressed_layers_of_an_old_archive_are_read() {
    let place = Place::new();
    let (a, b) = (layer("a"), layer("b"));
    let stored = gzip(&b);
    let mut tree = old_save(
        r#"["app:1"]"#,
        &[("x/layer.tar", &a), ("y/layer.tar", &a), ("b.tar.gz", &stored)],
        &config(&[&a, &a, &b]),
    );
    let plain = {
        tree.write_tar(&place.path("plain.tar"));
        place.resolve("docker-archive", "plain.tar")
    };
    tree.0.remove("y/layer.tar");
    for (name, kind, target) in [
        ("symlink.tar", tar::EntryType::Symlink, "../x/layer.tar"),
        ("hardlink.tar", tar::EntryType::Link, "x/layer.tar"),
    ] {
        let mut tar = tree.tar();
        entry(&mut tar, tar::EntryType::Directory, "y/", b"");
        link(&mut tar, kind, "y/layer.tar", target);
        std::fs::write(place.path(name), tar.into_inner().expect("an archive")).expect("a file");
        let source = place.open("docker-archive", name).expect(name);
        let resolved = source.resolve().expect(name);
        assert_eq!(resolved.document, plain.document);
        assert_eq!(resolved.origin.to_string(), "docker.io/library/app:1");
        let digests = read_all(&*source).expect(name);
        assert!(digests.contains(&sha256(&stored)) && digests.contains(&sha256(&a)), "{name}");
        let manifest = String::from_utf8_lossy(resolved.document.bytes()).into_owned();
        assert_eq!(manifest.matches("layer.v1.tar+gzip\"").count(), 1, "{manifest}");
    }
}

#[test]
fn what_docker_save_writes_today_is_read_as_a_layout() {
    let place = Place::new();
    let mut tree = Tree::default();
    let (a, b) = (tree.image("a"), tree.image("b"));
    let annotated = |image: &Pointer, name: &str, tag: &str| {
        image.json(&format!(
            r#","annotations":{{"io.containerd.image.name":"{name}","org.opencontainers.image.ref.name":"{tag}"}}"#
        ))
    };
    let config = sha256(config(&[&layer("b")]).as_bytes());
    let saved = format!(r#"[{{"Config":"{}","RepoTags":["b:7"],"Layers":[]}}]"#, config.layout_path());
    tree.layout(&[annotated(&a, "docker.io/library/a:7", "7"), b.json("")]).file("manifest.json", saved);
    tree.write_tar(&place.path("two.tar"));
    for (asked, image, origin) in [
        ("two.tar:a:7", &a, "docker.io/library/a:7"),
        ("two.tar:b:7", &b, "docker.io/library/b:7"),
        ("two.tar:@1", &b, "docker.io/library/b:7"),
        ("two.tar:@0=r.example/a:1", &a, "r.example/a:1"),
    ] {
        let source = place.open("docker-archive", asked).expect(asked);
        let resolved = source.resolve().expect(asked);
        assert_eq!((resolved.origin.to_string().as_str(), resolved.document.digest()), (origin, &image.digest));
        assert_eq!(read_all(&*source).expect(asked).len(), 3);
    }
    let error = place.refused("docker-archive", "two.tar");
    assert!(error.contains("`docker.io/library/a:7`, `docker.io/library/b:7`"), "{error}");
    assert!(place.refused("docker-archive", "two.tar:@2").contains("no image `@2`"));
    // One image under two names.
    let mut tree = Tree::default();
    let a = tree.image("a");
    let entries = [annotated(&a, "docker.io/library/a:7", "7"), annotated(&a, "docker.io/library/a:8", "8")];
    tree.layout(&entries).write_tar(&place.path("names.tar"));
    assert!(matches!(place.open("docker-archive", "names.tar"), Err(SourceError::Several { .. })));
    assert_eq!(place.resolve("docker-archive", "names.tar=r.example/a:1").document.digest(), &a.digest);
}

#[test]
fn an_old_archive_that_contradicts_itself_is_refused() {
    let place = Place::new();
    let (a, b) = (layer("a"), layer("b"));
    let good = config(&[&a]);
    let honest = old_save(r#"["app:1"]"#, &[("l.tar", &a)], &good);
    let changed = |change: &dyn Fn(&mut Tree)| {
        let mut tree = honest.clone();
        change(&mut tree);
        tree
    };
    let replace = |tree: &mut Tree, from: &str, to: &str| {
        let manifest = String::from_utf8_lossy(&tree.0["manifest.json"]).replace(from, to);
        tree.file("manifest.json", manifest);
    };
    let cut = gzip(&a);
    for (name, tree, why) in [
        ("swapped", changed(&|t| _ = t.file("l.tar", b.as_slice())), "the uncompressed layer is sha256:"),
        ("gzipped", changed(&|t| _ = t.file("l.tar", gzip(&b))), "the uncompressed layer is sha256:"),
        ("cut", changed(&|t| _ = t.file("l.tar", &cut[..cut.len() - 9])), "cannot read"),
        ("fewer", changed(&|t| replace(t, "\"l.tar\"", "")), "has 1 layers, the archive's list has 0"),
        (
            "more",
            changed(&|t| replace(t, "\"l.tar\"", "\"l.tar\",\"l.tar\"")),
            "has 1 layers, the archive's list has 2",
        ),
        ("gone", changed(&|t| replace(t, "\"l.tar\"", "\"m.tar\"")), "m.tar is missing"),
        ("outside", changed(&|t| replace(t, "\"l.tar\"", "\"../l.tar\"")), "../l.tar is missing"),
        (
            "config",
            changed(&|t| _ = t.file(&format!("{}.json", sha256(good.as_bytes()).hex()), "{}")),
            "the name promises",
        ),
        ("tag", changed(&|t| replace(t, "app:1", "App\\u001b:1")), "`App\\u{1b}:1` is not an image reference"),
        ("twice", changed(&|t| replace(t, "}]", "},{\"Config\":\"x\",\"RepoTags\":[\"app:1\"]}]")), "more than once"),
        ("json", changed(&|t| _ = t.file("manifest.json", "[{}")), "manifest.json cannot be used"),
        ("empty", changed(&|t| _ = t.file("manifest.json", "[]")), "holds no image"),
        ("none", changed(&|t| _ = t.0.remove("manifest.json")), "manifest.json is missing"),
    ] {
        tree.write_tar(&place.path(name));
        let error = place.refused("docker-archive", &format!("{name}:app:1"));
        assert!(error.contains(why), "{name}: {error}");
        assert!(!error.contains('\u{1b}'));
    }
    for (name, kind, target) in [
        ("up", tar::EntryType::Symlink, "../../etc/passwd"),
        ("root", tar::EntryType::Symlink, "/etc/passwd"),
        ("hard-up", tar::EntryType::Link, "../l.tar"),
        ("hard-root", tar::EntryType::Link, "/etc/passwd"),
        ("circle", tar::EntryType::Symlink, "l.tar"),
        ("nowhere", tar::EntryType::Link, "nowhere.tar"),
    ] {
        let mut tree = honest.clone();
        tree.0.remove("l.tar");
        let mut tar = tree.tar();
        link(&mut tar, kind, "l.tar", target);
        std::fs::write(place.path(name), tar.into_inner().expect("an archive")).expect("a file");
        let error = place.refused("docker-archive", name);
        assert!(error.contains("`l.tar` is a link that leads to no file of the archive"), "{name}: {error}");
    }
}

#[test]
fn images_of_an_old_archive_share_what_was_read_of_it() {
    let place = Place::new();
    let bytes = layer("shared");
    let tree = old_save(r#"["r.example/a:1","r.example/a:2"]"#, &[("l/layer.tar", &bytes)], &config(&[&bytes]));
    let path = place.path("old.tar");
    tree.write_tar(&path);
    let open = |sources: &Sources, tag: u8| {
        let text = format!("docker-archive:{}:r.example/a:{tag}", path.display());
        sources.open(&text.parse().expect(&text))
    };
    let sources = Sources::new(&place.registries);
    let first = open(&sources, 1).expect("converted").resolve().expect("an image");
    // The same file, with another layer and another list in it.
    let mut archive = std::fs::read(&path).expect("the archive");
    for part in [b"shared".as_slice(), b"r.example/a:2"] {
        let at = archive.windows(part.len()).position(|bytes| bytes == part).expect("it is there");
        archive[at] = b'x';
    }
    std::fs::write(&path, archive).expect("written");
    assert!(open(&Sources::new(&place.registries), 2).is_err());
    assert!(open(&Sources::new(&place.registries), 1).is_err());
    let second = open(&sources, 2).expect("listed and measured before").resolve().expect("an image");
    assert_eq!(second.document, first.document);
    assert_eq!(second.origin.to_string(), "r.example/a:2");
}

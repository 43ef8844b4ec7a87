//! OCI image layouts, in folders and in archives.

use blobs::sha256;
use manifest_schema::MediaType;
use registry::source::{SourceError, Sources};

use crate::images::*;

#[test]
fn a_layout_is_read_by_name_by_digest_or_as_the_only_one() {
    let place = Place::new();
    let image = web(&place);
    for (asked, origin) in [
        ("web".to_string(), "localhost/web:1.0".to_string()),
        ("web:1.0".into(), "localhost/web:1.0".into()),
        ("web:1.0=r.example/pay/web:2".into(), "r.example/pay/web:2".into()),
        (format!("web@{}", image.digest), format!("localhost/web@{}", image.digest)),
        (format!("web:@{}", image.digest), format!("localhost/web@{}", image.digest)),
        (format!("web:1.0@{}", image.digest), format!("localhost/web:1.0@{}", image.digest)),
    ] {
        let source = place.open("oci", &asked).expect(&asked);
        let resolved = source.resolve().expect(&asked);
        assert_eq!(resolved.origin.to_string(), origin, "{asked}");
        assert_eq!(resolved.document.digest(), &image.digest);
        assert_eq!(resolved.media_type.as_str(), MediaType::OCI_MANIFEST);
        assert_eq!(read_all(&*source).expect(&asked).len(), 3);
    }
    let error = place.refused("oci", "web:2.0");
    assert!(error.contains("no image `2.0`; it holds `1.0`"), "{error}");
    let error = place.refused("oci", &format!("web:2.0@{}", image.digest));
    assert!(error.contains("no image `2.0@sha256:"), "{error}");
    let error = place.refused("oci", &format!("web@{}", sha256(b"")));
    assert!(error.contains("no image `@sha256:e3b0"), "{error}");
    assert!(matches!(place.open("oci", "elsewhere"), Err(SourceError::Missing { .. })));
}

#[test]
fn of_several_images_one_must_be_chosen() {
    let place = Place::new();
    let mut tree = Tree::default();
    let (a, b, hidden) = (tree.image("a"), tree.image("b"), tree.image("hidden"));
    let entries =
        [a.named("r.example:5000/a:1"), b.named("b\\u001b[2J"), a.named("twice"), b.named("twice"), a.json("")];
    tree.layout(&entries).write_folder(&place.path("many"));
    let error = place.refused("oci", "many");
    assert!(error.contains("`r.example:5000/a:1`, `b\\u{1b}[2J`, `twice`"), "{error}");
    let error = place.refused("oci", "many:twice");
    assert!(error.contains("`twice` more than once: sha256:"), "{error}");
    let resolved = place.resolve("oci", "many:r.example:5000/a:1");
    assert_eq!((resolved.origin.to_string().as_str(), resolved.document.digest()), ("r.example:5000/a:1", &a.digest));
    // Full and missing names do not agree on a repository, so a digest alone does not say what the image is called.
    assert!(matches!(place.open("oci", &format!("many@{}", a.digest)), Err(SourceError::Several { .. })));
    let asked = format!("many@{}=r.example/x:1", a.digest);
    assert_eq!(place.resolve("oci", &asked).origin.to_string(), "r.example/x:1");
    let asked = format!("many@{}", hidden.digest);
    let resolved = place.resolve("oci", &asked);
    assert_eq!(resolved.media_type.as_str(), MediaType::OCI_MANIFEST, "found by its own shape");
    assert_eq!(resolved.origin.to_string(), format!("localhost/{asked}"));

    let mut tree = Tree::default();
    tree.layout(&[]).write_folder(&place.path("none"));
    assert!(matches!(place.open("oci", "none"), Err(SourceError::Empty { .. })));
    let mut tree = Tree::default();
    let image = tree.image("a");
    let lie = format!("r.example/a:1@{}", b.digest);
    tree.layout(&[image.named(&lie)]).write_folder(&place.path("lie"));
    assert!(matches!(place.open("oci", "lie"), Err(SourceError::NameDigest { .. })));
}

#[test]
fn any_artifact_is_read_and_nested_indexes_and_sha512() {
    let place = Place::new();
    let mut tree = Tree::default();
    let config = tree.blob("application/vnd.cncf.helm.config.v1+json", b"{\"name\":\"chart\"}");
    let content = b"a chart's archive";
    let chart = tree.blob_named("application/vnd.cncf.helm.chart.content.v1.tar+gzip", content, sha512(content));
    let chart = tree.manifest(&config, &[chart]);
    let image = tree.image("x");
    let inner = tree.index(&[image.json(r#","platform":{"os":"linux","architecture":"amd64"}"#)]);
    let outer = tree.index(&[inner.json(""), chart.json("")]);
    tree.layout(&[outer.named("r.example/all:1")]).write_folder(&place.path("all"));
    let source = place.open("oci", "all").expect("an index");
    let digests = read_all(&*source).expect("every part");
    assert_eq!(digests.len(), 2 + 3 + 3, "two indexes, an image, a chart");
    assert!(digests.contains(&sha512(content)));

    // Long names are written in two ways by GNU tar.
    for format in ["gnu", "pax"] {
        let archive = place.path(&format!("{format}.tar"));
        let all = place.path("all");
        let args = ["-C", text(&all), "--format", format, "-cf", text(&archive), "."];
        if run("tar", &args).is_none() {
            return;
        }
        let source = place.open("oci-archive", &format!("{format}.tar:r.example/all:1")).expect(format);
        assert_eq!(read_all(&*source).expect(format), digests);
    }
}

#[test]
fn images_of_skopeo_and_umoci_are_read() {
    let place = Place::new();
    let image = web(&place);
    let (layout, archive) = (place.path("web"), place.path("web.tar"));
    let from = format!("oci:{}:1.0", text(&layout));
    let to = format!("oci-archive:{}:r.example/web:1", text(&archive));
    if run("skopeo", &["copy", "--preserve-digests", &from, &to]).is_none() {
        return;
    }
    let source = place.open("oci-archive", "web.tar").expect("an archive");
    let resolved = source.resolve().expect("an image");
    assert_eq!(resolved.origin.to_string(), "r.example/web:1");
    assert_eq!(resolved.document.digest(), &image.digest);
    assert_eq!(read_all(&*source).expect("all").len(), 3);

    let layout = place.path("umoci");
    let name = format!("{}:new", text(&layout));
    if run("umoci", &["init", "--layout", text(&layout)]).is_none() {
        return;
    }
    run("umoci", &["new", "--image", &name]);
    std::fs::write(place.path("file"), "content").expect("a file");
    run("umoci", &["insert", "--rootless", "--image", &name, text(&place.path("file")), "/file"]);
    let source = place.open("oci", "umoci:new").expect("a layout");
    assert_eq!(source.resolve().expect("an image").origin.to_string(), "localhost/umoci:new");
    assert_eq!(read_all(&*source).expect("all").len(), 3);
}

#[test]
fn both_archives_of_podman_save_are_read() {
    let place = Place::new();
    let image = web(&place);
    let folder = |name: &str| text(&place.path(name)).to_string();
    let (root, runroot) = (folder("root"), folder("run"));
    let podman = |args: &[&str]| {
        let own = ["--root", &root, "--runroot", &runroot, "--storage-driver", "vfs"];
        run("podman", &[own.as_slice(), args].concat())
    };
    let name = "r.example/pay/web:1";
    let (from, given) = (format!("oci:{}:1.0", folder("web")), folder("given.tar"));
    if run("skopeo", &["copy", &from, &format!("docker-archive:{given}:{name}")]).is_none()
        || podman(&["load", "--quiet", "-i", &given]).is_none()
    {
        return;
    }
    for format in ["oci-archive", "docker-archive"] {
        podman(&["save", "--quiet", "--format", format, "-o", &folder(format), name]);
        let source = place.open(format, format).expect(format);
        let resolved = source.resolve().expect(format);
        assert_eq!(resolved.origin.to_string(), name);
        assert_eq!(read_all(&*source).expect(format).len(), 3);
    }
    let made = place.resolve("docker-archive", "docker-archive").document;
    assert_eq!(made.digest(), &image.digest, "the layer and the configuration are the ones that went in");
}

/// Something that refers to an image.
fn about(tree: &mut Tree, subject: &Pointer) -> Pointer {
    let config = tree.blob("application/vnd.oci.empty.v1+json", b"{}").json("");
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","artifactType":"application/spdx+json","config":{config},"layers":[],"subject":{}}}"#,
        MediaType::OCI_MANIFEST,
        subject.json("")
    );
    tree.blob(MediaType::OCI_MANIFEST, manifest.as_bytes())
}

#[test]
fn what_several_images_are_taken_from_is_listed_and_searched_once() {
    let place = Place::new();
    for transport in ["oci", "oci-archive", "docker-archive"] {
        let mut tree = Tree::default();
        let (a, b) = (tree.image("a"), tree.image("b"));
        let (of_a, of_b) = (about(&mut tree, &a), about(&mut tree, &b));
        let entries = [a.named("r.example/a:1"), b.named("r.example/b:1"), of_a.json(""), of_b.json("")];
        tree.layout(&entries);
        let path = place.path(transport);
        if transport == "oci" {
            tree.write_folder(&path);
        } else {
            tree.write_tar(&path);
        }
        let open = |sources: &Sources, name: &str| {
            let text = format!("{transport}:{}:r.example/{name}:1", path.display());
            sources.open(&text.parse().expect(&text))
        };
        let sources = Sources::new(&place.registries);
        let first = open(&sources, "a").expect("listed");
        assert_eq!(first.referrers(&a.digest).expect("a referrer")[0].descriptor.digest, of_a.digest);
        if transport == "oci" {
            std::fs::write(path.join("index.json"), "").expect("written");
            std::fs::remove_file(path.join(of_b.digest.layout_path())).expect("removed");
        } else {
            std::fs::remove_file(&path).expect("removed");
            std::fs::write(&path, "").expect("written");
        }
        assert!(open(&Sources::new(&place.registries), "b").is_err(), "{transport}");
        let second = open(&sources, "b").expect("listed before");
        assert_eq!(second.resolve().expect("an image").document.digest(), &b.digest);
        assert_eq!(second.referrers(&b.digest).expect("found before")[0].descriptor.digest, of_b.digest);
    }
}

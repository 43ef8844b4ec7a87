//! Images of a registry, and layers that are kept elsewhere.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use blobs::sha256;
use manifest_schema::MediaType;
use registry::source::{SourceError, SourceRef};

use crate::images::*;

/// Debian's registry on a free port, stopped at the end of the test.
struct Server(Child, String);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

fn serve(place: &Place) -> Option<Server> {
    run("docker-registry", &["--version"])?;
    let host = format!("127.0.0.1:{}", free_port());
    let config = place.path("config.yml");
    let storage = place.path("storage");
    let yaml = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n",
        text(&storage)
    );
    std::fs::write(&config, yaml).expect("a file");
    let child = Command::new("docker-registry")
        .arg("serve")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let server = Server(child, host);
    let begun = Instant::now();
    while TcpStream::connect(&server.1).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the registry does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(server)
}

#[test]
fn an_image_of_a_registry_is_read_and_a_moved_tag_is_told() {
    let place = Place::new();
    let first = web(&place);
    let mut tree = Tree::default();
    let second = tree.image("second");
    tree.layout(&[second.named("2.0")]).write_folder(&place.path("second"));
    let Some(server) = serve(&place) else { return };
    let host = &server.1;
    let push = |layout: &str, name: &str| {
        let from = format!("oci:{}:{name}", text(&place.path(layout)));
        let to = format!("docker://{host}/pay/web:1");
        run("skopeo", &["copy", "--preserve-digests", "--dest-tls-verify=false", &from, &to])
    };
    if push("web", "1.0").is_none() {
        return;
    }
    let open = |text: &str| text.parse::<SourceRef>().expect(text).open(&place.registries).expect(text);
    let tag = format!("{host}/pay/web:1");
    let source = open(&format!("docker://{tag}"));
    let resolved = source.resolve().expect("an image");
    assert_eq!(resolved.origin.to_string(), tag);
    assert_eq!((resolved.document.digest(), resolved.media_type.as_str()), (&first.digest, MediaType::OCI_MANIFEST));
    assert_eq!(resolved.moved, None);
    assert_eq!(read_all(&*source).expect("every part").len(), 3);
    let size = first.size as u64;
    assert!(source.document(&first.digest, size).is_ok());
    assert!(matches!(source.document(&first.digest, size + 1), Err(SourceError::Size { .. })));

    let pinned = tag.parse::<SourceRef>().expect("a reference").pinned(&first.digest, &resolved.origin);
    assert_eq!(open(&pinned.to_string()).resolve().expect("an image").moved, None);
    push("second", "2.0");
    let resolved = open(&pinned.to_string()).resolve().expect("an image");
    assert_eq!(resolved.origin.to_string(), format!("{tag}@{}", first.digest));
    assert_eq!((resolved.document.digest(), resolved.moved), (&first.digest, Some(second.digest)));
    let error = open(&format!("{host}/pay/web:none")).resolve().expect_err("no such tag");
    assert!(matches!(error, SourceError::Registry(_)), "{error:?}");
}

/// Answers every request with these bytes.
fn answer(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let asked = stream.read(&mut request).unwrap_or(0);
            assert!(!String::from_utf8_lossy(&request[..asked]).to_lowercase().contains("authorization"));
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&bytes)).ok();
        }
    });
    format!("http://{address}/layer")
}

#[test]
fn foreign_layers_are_carried_if_they_can_be_fetched() {
    const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    let place = Place::new();
    let bytes = layer("licensed");
    let good = answer(bytes.clone());
    let gone = format!("http://127.0.0.1:{}/layer", free_port());
    let write = |name: &str, media_type: &str, urls: &[&str]| {
        let mut tree = Tree::default();
        let configuration = tree.blob(MediaType::OCI_CONFIG, config(&[&bytes]).as_bytes());
        let urls = serde_json::to_string(urls).expect("JSON");
        let (digest, size) = (sha256(&bytes), bytes.len());
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{{"mediaType":"{media_type}","digest":"{digest}","size":{size},"urls":{urls}}}]}}"#,
            configuration.json("")
        );
        let manifest = tree.blob(MediaType::OCI_MANIFEST, manifest.as_bytes());
        tree.layout(&[manifest.named("1")]).write_folder(&place.path(name));
        place.open("oci", name).expect(name)
    };
    let source = write("both", FOREIGN, &[&gone, &good]);
    assert!(read_all(&*source).expect("the second url answers").contains(&sha256(&bytes)));
    let source = write("plain", MediaType::OCI_LAYER_TAR, &[&good]);
    assert!(read_all(&*source).is_ok(), "urls are asked for whatever the media type");
    let error = read_refused(&*write("gone", FOREIGN, &[&gone, "ftp://x\u{1b}/y"]));
    assert!(error.contains(&format!("{} cannot be fetched", sha256(&bytes))), "{error}");
    assert!(error.contains(&gone) && error.contains("ftp://x\\u{1b}/y"), "{error}");
    let error = read_refused(&*write("none", FOREIGN, &[]));
    assert!(error.contains("(urls: none)"), "{error}");
    let wrong = answer(layer("another!"));
    let error = read_refused(&*write("wrong", FOREIGN, &[&wrong]));
    assert!(error.contains(&format!("expected {}", sha256(&bytes))), "{error}");
}

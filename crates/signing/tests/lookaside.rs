//! The lookaside tree: numbering, links, races.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::{Gpg, from_now, have, key, request, trust};
use manifest_schema::{Digest, LIMITS, Reference, Repository, Timestamp};
use signing::{Lookaside, LookasideError};

fn repository() -> Repository {
    "registry.example:5000/payments/api".parse().unwrap()
}

fn digest() -> Digest {
    blobs::sha256(b"a manifest")
}

#[test]
fn signatures_are_numbered_without_holes() {
    let folder = tempfile::tempdir().unwrap();
    let tree = Lookaside::new(folder.path().join("made/when/needed"));
    assert_eq!(tree.read(&repository(), &digest()).unwrap(), Vec::<Vec<u8>>::new());
    for (number, bytes) in [b"\x90one", b"\x90two", b"\x90thr"].into_iter().enumerate() {
        assert_eq!(tree.add(&repository(), &digest(), bytes).unwrap() as usize, number + 1);
    }
    assert_eq!(tree.read(&repository(), &digest()).unwrap(), [b"\x90one", b"\x90two", b"\x90thr"]);
    let path = Lookaside::path_for(&repository(), &digest());
    assert_eq!(path, Path::new(&format!("payments/api@sha256={}", digest().hex())));
    let directory = tree.root().join(path);
    let names: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "nothing temporary stays: {names:?}");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&directory), 0o755);
    assert_eq!(mode(directory.parent().unwrap()), 0o755);
    assert_eq!(mode(&directory.join("signature-1")), 0o644);

    std::fs::remove_file(directory.join("signature-2")).unwrap();
    assert_eq!(tree.add(&repository(), &digest(), b"\x90new").unwrap(), 2, "a hole is filled");
    assert_eq!(std::fs::read(directory.join("signature-3")).unwrap(), b"\x90thr", "and nothing replaced");
}

#[test]
fn several_writers_never_lose_a_signature() {
    let folder = tempfile::tempdir().unwrap();
    let tree = Lookaside::new(folder.path());
    let mut numbers: Vec<u32> = std::thread::scope(|scope| {
        let add = |i: u8| {
            let tree = &tree;
            scope.spawn(move || tree.add(&repository(), &digest(), &[0x90, i]).unwrap())
        };
        let threads: Vec<_> = (0..16).map(add).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=16).collect::<Vec<_>>());
    let mut found = tree.read(&repository(), &digest()).unwrap();
    found.sort();
    assert_eq!(found, (0..16).map(|i| vec![0x90, i]).collect::<Vec<_>>());
}

#[test]
fn a_full_tree_is_left_readable() {
    let folder = tempfile::tempdir().unwrap();
    let tree = Lookaside::new(folder.path());
    let directory = folder.path().join(Lookaside::path_for(&repository(), &digest()));
    std::fs::create_dir_all(&directory).unwrap();
    for number in 1..=LIMITS.lookaside_signatures {
        std::fs::write(directory.join(format!("signature-{number}")), b"\x90").unwrap();
    }
    assert_eq!(tree.read(&repository(), &digest()).unwrap().len(), 127);
    let full = tree.add(&repository(), &digest(), b"\x90");
    assert!(matches!(full, Err(LookasideError::Full { limit: 127, .. })));
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 127);
    std::fs::write(directory.join("signature-128"), b"\x90").unwrap();
    assert!(matches!(tree.read(&repository(), &digest()), Err(LookasideError::Full { .. })));
}

#[test]
fn nothing_is_reached_through_links() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let tree = Lookaside::new(folder.path());
    let not_plain = |error| matches!(error, LookasideError::NotPlain { .. });
    symlink(outside.path(), folder.path().join("payments")).unwrap();
    assert!(not_plain(tree.add(&repository(), &digest(), b"\x90").unwrap_err()));
    assert!(not_plain(tree.read(&repository(), &digest()).unwrap_err()));
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "nothing was written outside");

    std::fs::remove_file(folder.path().join("payments")).unwrap();
    let directory = folder.path().join(Lookaside::path_for(&repository(), &digest()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(outside.path().join("secret"), b"\x90").unwrap();
    symlink(outside.path().join("secret"), directory.join("signature-1")).unwrap();
    assert!(not_plain(tree.read(&repository(), &digest()).unwrap_err()));
    assert!(not_plain(tree.add(&repository(), &digest(), b"\x90").unwrap_err()));
    std::fs::remove_file(directory.join("signature-1")).unwrap();
    std::fs::create_dir(directory.join("signature-1")).unwrap();
    assert!(not_plain(tree.read(&repository(), &digest()).unwrap_err()));
}

#[test]
fn a_tree_that_readers_refuse_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let tree = Lookaside::new(folder.path());
    let bad =
        |bytes: &[u8]| matches!(tree.add(&repository(), &digest(), bytes), Err(LookasideError::NotASignature { .. }));
    assert!(bad(b"-----BEGIN PGP MESSAGE-----"));
    assert!(bad(b"<html>"));
    assert!(bad(b""));
    let large = vec![0x90; (1 << 20) + 1];
    assert!(matches!(tree.add(&repository(), &digest(), &large), Err(LookasideError::TooLarge { .. })));
    let directory = folder.path().join(Lookaside::path_for(&repository(), &digest()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("signature-1"), b"<html>").unwrap();
    let error = tree.add(&repository(), &digest(), b"\x90").unwrap_err();
    assert!(error.to_string().contains("signature-1: not a simple signature"), "{error}");
}

#[test]
fn a_repeated_run_finds_its_own_signature() {
    let folder = tempfile::tempdir().unwrap();
    let tree = Lookaside::new(folder.path());
    let ((made, secret), (other, other_secret)) = (key(&request("production")), key(&request("other")));
    let reference: Reference = "registry.example:5000/payments/api:1".parse().unwrap();
    let second: Reference = "registry.example:5000/payments/api:2".parse().unwrap();
    let trust = trust(&[&made.certificate_armored, &other.certificate_armored], 1);
    let has = |reference: &Reference, digest: &Digest| {
        tree.find_signature(&repository(), digest, reference, &made.fingerprint, &trust).unwrap().is_some()
    };
    assert!(!has(&reference, &digest()));
    let sign = |key: &signing::SecretKey, reference: &Reference| {
        let bytes = key.sign_simple(reference, &digest(), Timestamp::now(), "x").unwrap();
        tree.add(&repository(), &digest(), &bytes).unwrap()
    };
    sign(&other_secret, &reference);
    assert!(!has(&reference, &digest()), "by another key");
    sign(&secret, &second);
    assert!(!has(&reference, &digest()), "for another reference");
    assert_eq!(sign(&secret, &reference), 3);
    assert!(has(&reference, &digest()));
    assert!(!has(&reference, &blobs::sha256(b"another manifest")));
}

/// The tree is what containers/image reads: skopeo checks the policy while it copies.
#[test]
fn skopeo_reads_the_tree() {
    if !have(&["skopeo", "docker-registry", "gpg"]) {
        return;
    }
    let gpg = Gpg::new();
    let Some(registry) = Registry::start(gpg.home.path()) else { panic!("the registry did not start") };
    let host = format!("127.0.0.1:{}", registry.port);
    let layout = gpg.home.path().join("image");
    write_layout(&layout);
    let skopeo = |args: &[&str]| {
        let mut command = gpg.command("skopeo");
        command.args(args).output().unwrap()
    };
    let image = format!("docker://{host}/payments/api:1");
    let (policy, registries) = (gpg.write("policy.json", b"{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}"), {
        let folder = gpg.home.path().join("registries.d");
        std::fs::create_dir(&folder).unwrap();
        let url = format!("default-docker: {{lookaside: 'file://{}/tree'}}\n", gpg.home.path().display());
        std::fs::write(folder.join("default.yaml"), url).unwrap();
        folder.to_str().unwrap().to_string()
    });
    let source = format!("oci:{}:x", layout.display());
    let pushed = skopeo(&["--policy", &policy, "copy", "--dest-tls-verify=false", &source, &image]);
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &image]).stdout;
    let digest = blobs::sha256(&raw);

    let (made, secret) = key(&request("production"));
    let certificate = gpg.write("production.asc", &made.certificate_armored);
    let scope = serde_json::json!({ &host: [{
        "type": "signedBy", "keyType": "GPGKeys", "keyPath": certificate, "signedIdentity": {"type": "matchExact"},
    }]});
    let strict = serde_json::json!({"default": [{"type": "reject"}], "transports": {"docker": scope}});
    let strict = gpg.write("strict.json", strict.to_string().as_bytes());
    let pull = |target: &str| {
        let target = format!("dir:{}", gpg.home.path().join(target).display());
        let args =
            ["--policy", &strict, "--registries.d", &registries, "copy", "--src-tls-verify=false", &image, &target];
        skopeo(&args)
    };
    assert!(!pull("unsigned").status.success(), "no signature yet");
    let tree = Lookaside::new(gpg.home.path().join("tree"));
    let reference: Reference = format!("{host}/payments/api:1").parse().unwrap();
    let signature = secret.sign_simple(&reference, &digest, from_now(-5), "sealift").unwrap();
    tree.add(reference.repository(), &digest, &signature).unwrap();
    let pulled = pull("signed");
    assert!(pulled.status.success(), "{}", String::from_utf8_lossy(&pulled.stderr));
}

/// An OCI layout with one image of one empty layer.
fn write_layout(layout: &Path) {
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let blob = |bytes: &[u8], media_type: &str| {
        let digest = blobs::sha256(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        serde_json::json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let layer = blob(&[0; 1024], "application/vnd.oci.image.layer.v1.tar");
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    });
    let config = blob(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": [layer],
    });
    let mut manifest = blob(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json");
    manifest["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "x"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
    std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// Debian's registry on a free port, ended with the value.
struct Registry {
    child: std::process::Child,
    port: u16,
}

impl Registry {
    fn start(folder: &Path) -> Option<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}/registry}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            folder.display()
        );
        std::fs::write(folder.join("registry.yml"), config).ok()?;
        let mut command = std::process::Command::new("docker-registry");
        command.arg("serve").arg(folder.join("registry.yml"));
        let null = std::process::Stdio::null;
        let child = command.stdout(null()).stderr(null()).spawn().ok()?;
        let registry = Self { child, port };
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(registry);
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        None
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_a_killed_process_left_behind_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let tree = Lookaside::new(folder.path());
    let (_, secret) = key(&request("production"));
    let reference: Reference = "registry.example:5000/payments/api:1".parse().unwrap();
    let bytes = secret.sign_simple(&reference, &digest(), Timestamp::now(), "x").unwrap();
    tree.add(&repository(), &digest(), &bytes).unwrap();
    let directory = folder.path().join(Lookaside::path_for(&repository(), &digest()));
    // Above the largest process id that Linux gives; and a process that is there.
    let (dead, alive) = (directory.join(".signature.4194305.0"), directory.join(".signature.1.0"));
    for file in [&dead, &alive] {
        std::fs::write(file, "half").unwrap();
    }
    tree.add(&repository(), &digest(), &bytes).unwrap();
    assert!(!dead.exists() && alive.exists());
    assert_eq!(tree.read(&repository(), &digest()).unwrap().len(), 2);
}

#[test]
fn signatures_are_taken_out_and_the_others_move_down() {
    let folder = tempfile::tempdir().unwrap();
    let tree = Lookaside::new(folder.path().join("tree"));
    assert_eq!(tree.remove(&repository(), &digest(), |_| true).unwrap(), 0);
    assert!(!tree.root().exists(), "nothing is made");
    for bytes in [b"\x90a", b"\x90b", b"\x90c", b"\x90d"] {
        tree.add(&repository(), &digest(), bytes).unwrap();
    }
    assert_eq!(tree.remove(&repository(), &digest(), |bytes| bytes == b"\x90x").unwrap(), 0);
    assert_eq!(tree.remove(&repository(), &digest(), |bytes| bytes[1] % 2 == 1).unwrap(), 2);
    assert_eq!(tree.read(&repository(), &digest()).unwrap(), [b"\x90b", b"\x90d"]);
    let directory = tree.root().join(Lookaside::path_for(&repository(), &digest()));
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 2, "nothing temporary stays");
    let mode = std::fs::metadata(directory.join("signature-1")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o644);
    // A file that no reader takes is as good as any other here, and goes only if it is meant.
    std::fs::write(directory.join("signature-3"), b"<html>").unwrap();
    assert_eq!(tree.remove(&repository(), &digest(), |bytes| bytes == b"\x90b").unwrap(), 1);
    assert_eq!(tree.read(&repository(), &digest()).unwrap(), [&b"\x90d"[..], b"<html>"]);
    assert_eq!(tree.remove(&repository(), &digest(), |_| true).unwrap(), 2);
    assert!(!directory.exists() && directory.parent().unwrap().exists());
    assert_eq!(tree.add(&repository(), &digest(), b"\x90e").unwrap(), 1);

    // What else lies in the directory stays, and so does the directory.
    let others = ["signature-0", "signature-02", "signature-2.bak"].map(|name| directory.join(name));
    others.iter().for_each(|other| std::fs::write(other, "").unwrap());
    assert_eq!(tree.remove(&repository(), &digest(), |_| true).unwrap(), 1);
    assert!(others.iter().all(|other| other.exists()) && !directory.join("signature-1").exists());
}

#[test]
fn nothing_is_taken_out_through_links() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tree = Lookaside::new(folder.path());
    let relative = Lookaside::path_for(&repository(), &digest());
    std::fs::create_dir_all(outside.path().join(relative.file_name().unwrap())).unwrap();
    let there = outside.path().join(relative.file_name().unwrap()).join("signature-1");
    std::fs::write(&there, b"\x90").unwrap();
    symlink(outside.path(), folder.path().join("payments")).unwrap();
    let refused = |error| matches!(error, LookasideError::NotPlain { .. });
    assert!(refused(tree.remove(&repository(), &digest(), |_| true).unwrap_err()));
    assert!(there.exists());

    std::fs::remove_file(folder.path().join("payments")).unwrap();
    tree.add(&repository(), &digest(), b"\x90").unwrap();
    symlink(&there, folder.path().join(&relative).join("signature-2")).unwrap();
    assert!(refused(tree.remove(&repository(), &digest(), |_| true).unwrap_err()));
    assert!(there.exists() && folder.path().join(&relative).join("signature-1").exists(), "nothing was begun");
}

#[test]
fn what_a_killed_process_left_behind_is_removed_with_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let tree = Lookaside::new(folder.path());
    tree.add(&repository(), &digest(), b"\x90").unwrap();
    let directory = folder.path().join(Lookaside::path_for(&repository(), &digest()));
    std::fs::write(directory.join(".signature.4194305.0"), "half").unwrap();
    assert_eq!(tree.remove(&repository(), &digest(), |_| true).unwrap(), 1);
    assert!(!directory.exists());
    // Killed before the last step: an empty directory.
    std::fs::create_dir(&directory).unwrap();
    assert_eq!(tree.remove(&repository(), &digest(), |_| true).unwrap(), 0);
    assert!(!directory.exists());
}

#[test]
fn more_files_than_readers_take_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let tree = Lookaside::new(folder.path());
    let directory = folder.path().join(Lookaside::path_for(&repository(), &digest()));
    std::fs::create_dir_all(&directory).unwrap();
    for number in 1..=128 {
        std::fs::write(directory.join(format!("signature-{number}")), [0x90, number]).unwrap();
    }
    let full = tree.remove(&repository(), &digest(), |_| true);
    assert!(matches!(full, Err(LookasideError::Full { limit: 127, .. })));
    std::fs::remove_file(directory.join("signature-128")).unwrap();
    assert_eq!(tree.remove(&repository(), &digest(), |bytes| bytes[1] != 127).unwrap(), 126);
    assert_eq!(tree.read(&repository(), &digest()).unwrap(), [[0x90, 127]]);
}

#[test]
fn who_writes_waits_for_others_who_write() {
    use rustix::fs::{FlockOperation, flock};
    let folder = tempfile::tempdir().unwrap();
    let tree = &Lookaside::new(folder.path());
    let directory = &folder.path().join(Lookaside::path_for(&repository(), &digest()));
    let wait = || std::thread::sleep(std::time::Duration::from_millis(50));
    let locked = || {
        let directory = std::fs::File::open(directory).unwrap();
        flock(&directory, FlockOperation::LockExclusive).unwrap();
        directory
    };
    tree.add(&repository(), &digest(), b"\x90one").unwrap();
    std::thread::scope(|scope| {
        let lock = locked();
        let adding = scope.spawn(|| tree.add(&repository(), &digest(), b"\x90two").unwrap());
        wait();
        assert!(!adding.is_finished());
        assert_eq!(tree.read(&repository(), &digest()).unwrap(), [b"\x90one"]);
        drop(lock);
        assert_eq!(adding.join().unwrap(), 2);

        let lock = locked();
        let removing = scope.spawn(|| tree.remove(&repository(), &digest(), |_| true).unwrap());
        wait();
        assert!(!removing.is_finished());
        assert_eq!(tree.read(&repository(), &digest()).unwrap().len(), 2);
        // Another process takes everything out, or puts another directory in its place: it is what counts afterwards.
        std::fs::remove_dir_all(directory).unwrap();
        drop(lock);
        assert_eq!(removing.join().unwrap(), 0);
        for again in [false, true] {
            std::fs::create_dir(directory).unwrap();
            let lock = locked();
            let adding = scope.spawn(|| tree.add(&repository(), &digest(), b"\x90").unwrap());
            wait();
            std::fs::remove_dir_all(directory).unwrap();
            if again {
                std::fs::create_dir(directory).unwrap();
                std::fs::write(directory.join("signature-1"), b"\x90").unwrap();
            }
            drop(lock);
            assert_eq!(adding.join().unwrap(), if again { 2 } else { 1 });
            assert!(directory.join("signature-1").exists());
            std::fs::remove_dir_all(directory).unwrap();
        }
    });
}

/// Signatures come and go at once, the directory too; none that stays is lost, and none ends up behind a hole.
#[test]
fn adding_and_removing_at_once_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let tree = &Lookaside::new(folder.path());
    let remove = || tree.remove(&repository(), &digest(), |bytes| bytes[1] == b'g').unwrap();
    let writers = 4;
    std::thread::scope(|scope| {
        let add = |writer: u8| {
            scope.spawn(move || {
                for i in 0..12 {
                    tree.add(&repository(), &digest(), &[0x90, b'g', writer, i]).unwrap();
                    if i % 4 == 0 {
                        tree.add(&repository(), &digest(), &[0x90, b's', writer, i]).unwrap();
                    }
                }
            })
        };
        let adding: Vec<_> = (0..writers).map(add).collect();
        while !adding.iter().all(|thread| thread.is_finished()) {
            remove();
            tree.read(&repository(), &digest()).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    });
    remove();
    let mut left = tree.read(&repository(), &digest()).unwrap();
    left.sort();
    let expected: Vec<_> = (0..writers).flat_map(|w| [0, 4, 8].map(|i| vec![0x90, b's', w, i])).collect();
    assert_eq!(left, expected);
    let directory = folder.path().join(Lookaside::path_for(&repository(), &digest()));
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), expected.len());
}

/// The directory is removed as often as it is made.
#[test]
fn a_directory_that_goes_away_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let tree = &Lookaside::new(folder.path());
    std::thread::scope(|scope| {
        let adds = scope.spawn(move || {
            for i in 0..100 {
                tree.add(&repository(), &digest(), &[0x90, i]).unwrap();
            }
        });
        while !adds.is_finished() {
            tree.remove(&repository(), &digest(), |_| true).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        tree.remove(&repository(), &digest(), |_| true).unwrap();
    });
    assert!(tree.read(&repository(), &digest()).unwrap().is_empty());
}

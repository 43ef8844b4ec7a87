//! `trust check`: the verdict is that of skopeo with the same policy.json and registries.d, platform by platform.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use manifest_schema::{Digest, DigestTag, MediaType, Reference, Repository, Timestamp};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use signing::Lookaside;
use signing::sigstore::{Attachment, SigstoreSecretError, SigstoreSecretKey, generate_sigstore};
use tempfile::TempDir;
use testkit::layout::{API, Layout, closure, fixtures, repository_and_tag};
use testkit::modern::{Features, Modern};
use testkit::proxy::{Fault, Proxy, Rule};
use testkit::{Gpg, Key, Ran, Registry, Site, command, need, run, run_ok, sealift_import};

/// Name of the image of two platforms in a registry.
const IMAGE: &str = "team/app:1";
const PLATFORMS: [&str; 2] = ["linux/amd64", "linux/arm64/v8"];

/// A cluster's two files, and folders.
struct Cluster {
    folder: TempDir,
}

impl Cluster {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("cluster").tempdir().unwrap();
        let cluster = Self { folder };
        for name in ["home", "registries.d", "lookaside"] {
            fs::create_dir(cluster.at(name)).unwrap();
        }
        cluster
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where signatures of a registry's images lie; and whether cosign signatures are looked for.
    fn registries_d(&self, host: &str, url: &str, attachments: bool) {
        let section = json!({ "lookaside": url, "use-sigstore-attachments": attachments });
        fs::write(self.at("registries.d/a.yaml"), json!({ "docker": { host: section } }).to_string()).unwrap();
    }

    /// Signatures lie in this machine's tree.
    fn tree_for(&self, host: &str) {
        let url = format!("file://{}", self.at("lookaside").display());
        let section = json!({ "lookaside": url, "lookaside-staging": url });
        fs::write(self.at("registries.d/a.yaml"), json!({ "docker": { host: section } }).to_string()).unwrap();
    }

    fn policy(&self, default: &str, transports: &Value) {
        let policy = json!({ "default": [{ "type": default }], "transports": transports });
        fs::write(self.at("policy.json"), policy.to_string()).unwrap();
    }

    /// `trust check` with the two files.
    fn check(&self, image: &str, args: &[&str]) -> Ran {
        let mut command = sealift_import(&self.at("home"));
        command.args(["trust", "check", "--json", image, "--policy"]).arg(self.at("policy.json"));
        run(command.arg("--registries-d").arg(self.at("registries.d")).args(args))
    }

    /// Whether skopeo copies the image for a platform, with the two files.
    fn skopeo(&self, image: &str, platform: &str) -> Ran {
        let mut parts = platform.split('/');
        let mut command = command("skopeo", &self.at("home"));
        command.arg("--policy").arg(self.at("policy.json")).arg("--registries.d").arg(self.at("registries.d"));
        for flag in ["--override-os", "--override-arch", "--override-variant"] {
            command.args(parts.next().map(|part| [flag, part]).into_iter().flatten());
        }
        let out = tempfile::tempdir_in(self.folder.path()).unwrap();
        command.args(["copy", "-q", "--src-tls-verify=false", "--remove-signatures", image]);
        run(command.arg(format!("dir:{}", out.path().display())))
    }

    /// Both give the same verdict for each platform; returns ours.
    #[track_caller]
    fn same_as_skopeo(&self, image: &str, expected: [bool; 2]) -> Ran {
        let ours = self.check(image, &[]);
        let report = ours.json();
        for (platform, expected) in PLATFORMS.into_iter().zip(expected) {
            let theirs = self.skopeo(image, platform);
            assert_eq!(theirs.code == Some(0), expected, "{platform}: skopeo\n{theirs}");
            let row = row(&report, platform);
            assert_eq!(row["verdict"]["accepted"], expected, "{platform}\n{theirs}\n{ours}");
            assert_eq!(row["counted"], true);
            let alone = self.check(image, &["--platform", platform]);
            assert_eq!(alone.code, Some(if expected { 0 } else { 3 }), "{alone}");
        }
        let all = expected.iter().all(|e| *e);
        assert_eq!((ours.code, &report["accepted"]), (Some(if all { 0 } else { 3 }), &json!(all)), "{ours}");
        ours
    }
}

/// The row of a platform, or of a kind.
#[track_caller]
fn row(report: &Value, name: &str) -> Value {
    let rows = report["images"][0]["manifests"].as_array().unwrap();
    let found = rows.iter().find(|m| m["platform"] == name || (m["kind"] == name && m["platform"].is_null()));
    found.unwrap_or_else(|| panic!("no {name} in {report:#}")).clone()
}

fn signed_by(certificate: &Path, identity: Value) -> Value {
    json!([{ "type": "signedBy", "keyType": "GPGKeys", "keyPath": certificate, "signedIdentity": identity }])
}

fn kind(kind: &str) -> Value {
    json!({ "type": kind })
}

/// A key for cosign signatures; its public half is in the file's name with `.pub`.
fn cosign_key(file: &Path) -> SigstoreSecretKey {
    let made = generate_sigstore(None).unwrap();
    fs::write(file.with_extension("pub"), &made.public_pem).unwrap();
    fs::write(file, made.secret_pem.expose_secret()).unwrap();
    let no_passphrase = || -> Result<_, SigstoreSecretError> { panic!("not encrypted") };
    SigstoreSecretKey::load(file, no_passphrase).unwrap()
}

/// Signs a manifest in a registry as `cosign sign --key` would.
fn attach(registry: &Registry, key: &SigstoreSecretKey, reference: &Reference, digest: &Digest) {
    let repository = reference.repository().path();
    let signature = key.sign_image(reference, digest, Timestamp::now(), "test").unwrap();
    let bytes = Attachment::new().with(&signature).unwrap().to_bytes().unwrap();
    registry.put_blob(repository, &blobs::sha256(&signature.payload), &signature.payload);
    registry.put_blob(repository, &bytes.config_digest, &bytes.config);
    let tag = DigestTag::Sig.for_subject(digest).unwrap().to_string();
    registry.put_manifest(repository, &tag, MediaType::OCI_MANIFEST, &bytes.manifest);
}

/// A layout with the image.
fn layout() -> Layout {
    let mut layout = Layout::new();
    let image = layout.multi(&[b"content"]);
    layout.name("app", &image);
    layout
}

/// A registry with the image as skopeo signed it, and the certificates of the signer and of somebody else.
struct Signed {
    cluster: Cluster,
    registry: Registry,
    right: PathBuf,
    wrong: PathBuf,
}

impl Signed {
    fn new() -> Self {
        let (cluster, registry, gpg) = (Cluster::new(), Registry::start(), Gpg::new());
        let signer = gpg.generate("Images <images@example.com>", "rsa3072");
        let right = cluster.at("right.asc");
        fs::write(&right, gpg.export(&signer)).unwrap();
        let wrong = Key::new(&cluster.at("home"), "wrong").certificate_file;
        cluster.tree_for(registry.host());
        let layout = layout();
        run_ok(
            gpg.with_home("skopeo", &["--insecure-policy", "--registries.d"])
                .arg(cluster.at("registries.d"))
                .args(["copy", "-q", "--all", "--preserve-digests", "--dest-tls-verify=false", "--sign-by", &signer])
                .arg(format!("oci:{}:app", layout.path().display()))
                .arg(format!("docker://{}/{IMAGE}", registry.host())),
        );
        Self { cluster, registry, right, wrong }
    }

    fn name(&self) -> String {
        format!("docker://{}/{IMAGE}", self.registry.host())
    }

    fn repository(&self) -> Repository {
        self.name()["docker://".len()..].rsplit_once(':').unwrap().0.parse().unwrap()
    }

    fn digest(&self, name: &str) -> Digest {
        self.cluster.policy("insecureAcceptAnything", &json!({}));
        row(&self.cluster.check(&self.name(), &[]).json(), name)["digest"].as_str().unwrap().parse().unwrap()
    }

    fn signature(&self, digest: &Digest) -> PathBuf {
        self.cluster.at("lookaside").join(Lookaside::path_for(&self.repository(), digest)).join("signature-1")
    }
}

#[test]
fn the_verdict_is_that_of_skopeo() {
    if !need(&["docker-registry", "skopeo", "gpg"]) {
        return;
    }
    let signed = Signed::new();
    let (cluster, right, wrong) = (&signed.cluster, &signed.right, &signed.wrong);
    let host = signed.registry.host().to_string();
    let repository = signed.repository().to_string();
    let (name, index) = (signed.name(), signed.digest("index"));
    let pinned = format!("docker://{repository}@{index}");
    // The same bytes under another name, with the signatures of the first one.
    signed.registry.load_layout(layout().path(), "app", "copies/app", "1");
    let from = cluster.at("lookaside").join("team");
    fs::create_dir(cluster.at("lookaside/copies")).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap().path();
        let to = cluster.at("lookaside/copies").join(entry.file_name().unwrap());
        fs::create_dir(&to).unwrap();
        fs::copy(entry.join("signature-1"), to.join("signature-1")).unwrap();
    }
    let copy = format!("docker://{host}/copies/app:1");
    let remap = |from: &str, to: &str| json!({ "type": "remapIdentity", "prefix": from, "signedPrefix": to });
    let exactly = |reference: &str| json!({ "type": "exactReference", "dockerReference": reference });
    let repo = |repository: &str| json!({ "type": "exactRepository", "dockerRepository": repository });
    let both = [signed_by(right, kind("matchExact")), signed_by(wrong, kind("matchExact"))];
    let both: Vec<&Value> = both.iter().flat_map(|list| list.as_array().unwrap()).collect();
    let copies = format!("{host}/copies");
    let cases: Vec<(&str, Value, bool)> = vec![
        (&name, json!({}), false),
        (&name, json!({ &host: [kind("insecureAcceptAnything")] }), true),
        (&name, json!({ &host: signed_by(right, kind("matchRepoDigestOrExact")) }), true),
        (&name, json!({ &host: signed_by(wrong, kind("matchRepoDigestOrExact")) }), false),
        (&name, json!({ &host: both }), false),
        (&name, json!({ &host: [kind("reject")], &repository: signed_by(right, kind("matchExact")) }), true),
        (
            &name,
            json!({ &host: signed_by(right, kind("matchExact")), format!("{repository}:1"): [kind("reject")] }),
            false,
        ),
        (&name, json!({ "": [kind("insecureAcceptAnything")], &host: [kind("reject")] }), false),
        (&name, json!({ &host: signed_by(right, exactly(&format!("{repository}:1"))) }), true),
        (&name, json!({ &host: signed_by(right, exactly(&format!("{repository}:2"))) }), false),
        (&name, json!({ &host: signed_by(right, repo(&repository)) }), true),
        (&name, json!({ &host: signed_by(right, repo("r.example/team/app")) }), false),
        (&pinned, json!({ &host: signed_by(right, kind("matchRepoDigestOrExact")) }), true),
        (&pinned, json!({ &host: signed_by(right, kind("matchExact")) }), false),
        (&copy, json!({ &host: signed_by(right, kind("matchExact")) }), false),
        (&copy, json!({ &host: signed_by(right, repo(&repository)) }), true),
        (&copy, json!({ &host: signed_by(right, remap(&copies, &format!("{host}/team"))) }), true),
        (&copy, json!({ &host: signed_by(right, remap(&copies, "r.example/team")) }), false),
        (&copy, json!({ &host: signed_by(right, remap("r.example", &format!("{host}/team"))) }), false),
    ];
    for (image, docker, expected) in cases {
        cluster.policy("reject", &json!({ "docker": docker }));
        let ran = cluster.same_as_skopeo(image, [expected; 2]);
        assert_eq!(
            ran.stderr.contains("refused: the policy refuses 2 of the 2 manifests that count"),
            !expected,
            "{ran}"
        );
    }

    cluster.policy("reject", &json!({ "docker": { &host: signed_by(right, kind("matchExact")) } }));
    let report = cluster.check(&name, &[]).json();
    assert_eq!(report["images"][0]["digest"], json!(index));
    let list = row(&report, "index");
    assert_eq!((&list["verdict"]["accepted"], &list["counted"]), (&json!(true), &json!(false)));
    assert_eq!(report["policy"], json!(cluster.at("policy.json")));
    let url = format!("file://{} (as registries.d says)", cluster.at("lookaside").display());
    assert_eq!(report["images"][0]["signatures"], json!(url));

    // One platform's signature is missing: that platform only.
    let arm = signed.digest(PLATFORMS[1]);
    let file = signed.signature(&arm);
    let kept = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    cluster.policy("reject", &json!({ "docker": { &host: signed_by(right, kind("matchExact")) } }));
    cluster.same_as_skopeo(&name, [true, false]);
    // The index's: neither podman nor CRI-O asks, but one may.
    fs::write(&file, &kept).unwrap();
    fs::remove_file(signed.signature(&index)).unwrap();
    cluster.same_as_skopeo(&name, [true, true]);
    cluster.check(&name, &["--index"]).expect_code(3).expect_stderr("refuses 1 of the 3 manifests");
    // Another platform's signature in its place.
    fs::copy(signed.signature(&signed.digest(PLATFORMS[0])), &file).unwrap();
    cluster.policy("reject", &json!({ "docker": { &host: signed_by(right, kind("matchExact")) } }));
    let ran = cluster.same_as_skopeo(&name, [true, false]);
    assert!(ran.stdout.contains("it is for sha256:"), "{ran}");

    let mut command = sealift_import(&cluster.at("home"));
    command.args(["trust", "check", &name, "--policy"]).arg(cluster.at("policy.json"));
    let shown = run(command.arg("--registries-d").arg(cluster.at("registries.d"))).expect_code(3);
    let lines: Vec<&str> = shown.stdout.lines().collect();
    assert!(lines[0].ends_with("policy.json") && lines[0].starts_with("policy "), "{shown}");
    let line = |begin: &str| *lines.iter().find(|l| l.starts_with(begin)).unwrap_or_else(|| panic!("{begin}\n{shown}"));
    assert!(line("linux/amd64").contains(&format!("yes       docker: {host}: signedBy  signed by ")), "{shown}");
    assert!(line("linux/arm64/v8").contains(&format!("NO        docker: {host}: signedBy  signature 1: ")), "{shown}");
    assert!(line("index (not asked for)").contains("NO "), "{shown}");
    let refused = line(&format!("REFUSED {arm} (linux/arm64/v8): docker: {host}: signedBy: signature 1: "));
    assert!(refused.contains("it is for sha256:"), "{shown}");
    assert_eq!(lines.iter().filter(|l| l.starts_with("REFUSED")).count(), 1, "{shown}");
}

#[test]
fn a_nodes_own_files_are_the_default() {
    if !need(&["docker-registry", "skopeo", "gpg"]) {
        return;
    }
    let signed = Signed::new();
    let (cluster, name) = (&signed.cluster, signed.name());
    let host = signed.registry.host().to_string();
    cluster.policy("reject", &json!({ "docker": { &host: signed_by(&signed.right, kind("matchExact")) } }));
    let check = || run(sealift_import(&cluster.at("home")).args(["trust", "check", "--json", &name]));
    let own = cluster.at("home/.config/containers");
    fs::create_dir_all(&own).unwrap();
    fs::copy(cluster.at("policy.json"), own.join("policy.json")).unwrap();
    fs::create_dir(own.join("registries.d")).unwrap();
    fs::copy(cluster.at("registries.d/a.yaml"), own.join("registries.d/a.yaml")).unwrap();
    let report = check().expect_code(0).json();
    assert_eq!(report["policy"], json!(own.join("policy.json")));
    assert_eq!(report["registries_d"], json!([own.join("registries.d")]));

    // Without a folder of the user's own it is the system's, which knows nothing of this registry and need not exist.
    fs::remove_dir_all(own.join("registries.d")).unwrap();
    let report = check().expect_code(3).json();
    assert_eq!(report["registries_d"], json!(["/etc/containers/registries.d"]));
    assert_eq!(row(&report, PLATFORMS[0])["verdict"]["accepted"], false);
}

#[test]
fn signatures_that_cannot_be_read_fail() {
    if !need(&["docker-registry", "skopeo", "gpg"]) {
        return;
    }
    let signed = Signed::new();
    let (cluster, name) = (&signed.cluster, signed.name());
    let host = signed.registry.host().to_string();
    let file = signed.signature(&signed.digest(PLATFORMS[0]));
    let kept = fs::read(&file).unwrap();
    cluster.policy("reject", &json!({ "docker": { &host: signed_by(&signed.right, kind("matchExact")) } }));
    let fails = |url: &str| {
        let ran = cluster.check(&name, &[]).expect_code(1).expect_stderr("cannot be read").expect_stderr(url);
        assert_eq!(ran.stdout, "");
        assert_ne!(cluster.skopeo(&name, PLATFORMS[0]).code, Some(0));
    };
    fs::write(&file, "<html>not found</html>").unwrap();
    fails("/signature-1: it is ");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    fails("/signature-1");
    fs::remove_dir(&file).unwrap();
    fs::write(&file, &kept).unwrap();
    cluster.check(&name, &[]).expect_code(0);

    // A server: what it does not have is missing, what it withholds is an error.
    let server = Proxy::alone();
    cluster.registries_d(&host, &server.url(), false);
    server.rule(Rule::new(Fault::status(404)));
    let report = cluster.check(&name, &[]).expect_code(3).json();
    let reasons = &row(&report, PLATFORMS[0])["verdict"]["requirements"][0]["reasons"];
    assert_eq!(*reasons, json!(["there is no signature"]));
    let server = Proxy::alone();
    cluster.registries_d(&host, &server.url(), false);
    server.rule(Rule::new(Fault::status(403)));
    cluster.check(&name, &["--retries", "1"]).expect_code(1).expect_stderr("signature-1");

    // The image itself.
    let missing = format!("docker://{host}/team/other:1");
    cluster.check(&missing, &[]).expect_code(1);
    cluster
        .check(&name, &["--platform", "linux/riscv64"])
        .expect_code(2)
        .expect_stderr("has nothing for linux/riscv64");
    cluster.check(&name, &["--production"]).expect_code(2).expect_stderr("--production goes with a bundle only");
    cluster.check("docker-daemon:a", &[]).expect_code(2);
    cluster.check("./nowhere", &[]).expect_code(2);
}

#[test]
fn a_policy_that_is_none() {
    let cluster = Cluster::new();
    let image = format!("oci:{}:{API}", fixtures().display());
    let refused = |text: &str, says: &str| {
        fs::write(cluster.at("policy.json"), text).unwrap();
        let ran = cluster.check(&image, &[]).expect_code(2).expect_stderr("policy.json").expect_stderr(says);
        assert_eq!(ran.stdout, "");
    };
    refused("{", "not a usable image policy");
    refused(r#"{"default":[{"type":"reject"}],"defaults":[]}"#, "defaults");
    refused(r#"{"default":[{"type":"reject","key":"a"}]}"#, "key");
    refused(r#"{"default":[]}"#, "default");
    refused(r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"nowhere.asc"}]}"#, "nowhere.asc");
    fs::remove_file(cluster.at("policy.json")).unwrap();
    cluster.check(&image, &[]).expect_code(2).expect_stderr("cannot be read");
    cluster.policy("reject", &json!({}));
    fs::write(cluster.at("registries.d/a.yaml"), "docker: [").unwrap();
    cluster.check(&image, &[]).expect_code(2).expect_stderr("a.yaml");
    fs::write(cluster.at("registries.d/a.yaml"), "").unwrap();

    // Without flags: the user's own files.
    let own = cluster.at("home/.config/containers");
    fs::create_dir_all(own.join("registries.d")).unwrap();
    fs::write(own.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    let report =
        run(sealift_import(&cluster.at("home")).args(["trust", "check", "--json", &image])).expect_code(0).json();
    assert_eq!(
        (&report["policy"], &report["registries_d"]),
        (&json!(own.join("policy.json")), &json!([own.join("registries.d")]))
    );
}

#[test]
fn folders_and_archives() {
    if !need(&["docker-registry", "skopeo", "gpg"]) {
        return;
    }
    let signed = Signed::new();
    let cluster = &signed.cluster;
    let (dir, oci, archive) = (cluster.at("folder"), layout(), cluster.at("app.tar"));
    oci.archive(&archive);
    cluster.policy("insecureAcceptAnything", &json!({}));
    let copy = ["--insecure-policy", "--registries.d"];
    let mut command = command("skopeo", &cluster.at("home"));
    command.args(copy).arg(cluster.at("registries.d")).args(["copy", "-q", "--all", "--src-tls-verify=false"]);
    run_ok(command.arg(signed.name()).arg(format!("dir:{}", dir.display())));
    let repository = signed.repository().to_string();
    let identity = json!({ "type": "exactRepository", "dockerRepository": repository });
    // By the path as it is without links.
    let real = cluster.folder.path().canonicalize().unwrap();
    std::os::unix::fs::symlink(&dir, cluster.at("link")).unwrap();
    let dirs = [format!("dir:{}", dir.display()), format!("dir:{}", cluster.at("link").display())];
    for (transport, expected) in [
        (json!({ "": signed_by(&signed.right, identity.clone()) }), true),
        (
            json!({ real.join("folder").to_str().unwrap(): signed_by(&signed.right, identity.clone()), "": [kind("reject")] }),
            true,
        ),
        (json!({ real.to_str().unwrap(): signed_by(&signed.wrong, identity.clone()) }), false),
        (json!({ real.to_str().unwrap(): signed_by(&signed.right, kind("matchRepository")) }), false),
        (json!({ real.join("link").to_str().unwrap(): [kind("insecureAcceptAnything")] }), false),
    ] {
        cluster.policy("reject", &json!({ "dir": transport }));
        for dir in &dirs {
            cluster.same_as_skopeo(dir, [expected; 2]);
        }
    }

    // What lies beside a layout is ours: containers/image does not look.
    for entry in fs::read_dir(&dir).unwrap() {
        let name = entry.unwrap().file_name();
        if name.to_str().unwrap().contains(".signature-") {
            fs::copy(dir.join(&name), oci.path().join(&name)).unwrap();
        }
    }
    let (oci, archive) =
        (format!("oci:{}:app", oci.path().display()), format!("oci-archive:{}:app", archive.display()));
    for (transport, image) in [("oci", &oci), ("oci-archive", &archive)] {
        cluster.policy("reject", &json!({ transport: { "": signed_by(&signed.right, identity.clone()) } }));
        let ran = cluster.same_as_skopeo(image, [false; 2]);
        let note = format!("containers/image reads no signatures of {transport}: images");
        assert_eq!(row(&ran.json(), PLATFORMS[0])["note"], json!(note));
        cluster.policy("reject", &json!({ transport: { "": [kind("insecureAcceptAnything")] } }));
        cluster.same_as_skopeo(image, [true; 2]);
    }
    // Under the name that it would have in a registry, with the signatures that are there for that name.
    let host = signed.registry.host();
    cluster.policy("reject", &json!({ "docker": { host: signed_by(&signed.right, kind("matchExact")) } }));
    cluster.check(&format!("{oci}={host}/{IMAGE}"), &["--index"]).expect_code(0);
    cluster.check(&format!("{oci}={host}/team/app:2"), &[]).expect_code(3);
    cluster.check(&format!("{oci}={host}/team/other:1"), &[]).expect_code(3);
    cluster.check(&oci, &[]).expect_code(3);
    // With those beside it too.
    cluster.policy("reject", &json!({ "docker": { host: signed_by(&signed.right, identity) } }));
    cluster.check(&format!("{oci}={host}/team/other:1"), &[]).expect_code(0);
    cluster.check(&format!("{archive}={host}/team/other:1"), &[]).expect_code(3);
}

#[test]
fn a_registry_that_keeps_signatures_is_asked_instead_of_the_lookaside_tree() {
    if !need(&["docker-registry", "skopeo", "gpg"]) {
        return;
    }
    let signed = Signed::new();
    let (cluster, gpg) = (&signed.cluster, Gpg::new());
    let modern = Modern::start(Features { signatures: true, ..Features::default() });
    let host = modern.host().to_string();
    let name = format!("docker://{host}/{IMAGE}");
    cluster.tree_for(&host);
    modern.registry().load_layout(layout().path(), "app", "team/app", "1");
    let own = gpg.generate("Kept <kept@example.com>", "rsa3072");
    let certificate = cluster.at("kept.asc");
    fs::write(&certificate, gpg.export(&own)).unwrap();
    // The tree has signatures for the same digests and path, which nobody looks at.
    let repository = json!({ "type": "exactRepository", "dockerRepository": signed.repository().to_string() });
    cluster.policy("reject", &json!({ "docker": { &host: signed_by(&signed.right, repository) } }));
    cluster.same_as_skopeo(&name, [false; 2]);
    let layout = layout();
    run_ok(
        gpg.with_home("skopeo", &["--insecure-policy", "--registries.d"])
            .arg(cluster.at("registries.d"))
            .args(["copy", "-q", "--all", "--preserve-digests", "--dest-tls-verify=false", "--sign-by", &own])
            .arg(format!("oci:{}:app", layout.path().display()))
            .arg(&name),
    );
    cluster.policy("reject", &json!({ "docker": { &host: signed_by(&certificate, kind("matchExact")) } }));
    let ran = cluster.same_as_skopeo(&name, [true; 2]);
    assert_eq!(ran.json()["images"][0]["signatures"], "kept by the registry");
}

#[test]
fn cosign_signatures_count_where_registries_d_says_so() {
    if !need(Site::NEEDS) {
        return;
    }
    let (cluster, registry) = (Cluster::new(), Registry::start());
    let layout = layout();
    registry.load_layout(layout.path(), "app", "team/app", "1");
    let host = registry.host().to_string();
    let name = format!("docker://{host}/{IMAGE}");
    let key = cosign_key(&cluster.at("right"));
    cosign_key(&cluster.at("wrong"));
    let policy = |file: &str| {
        let identity = kind("matchExact");
        let requirement = json!({ "type": "sigstoreSigned", "keyPath": cluster.at(file), "signedIdentity": identity });
        cluster.policy("reject", &json!({ "docker": { &host: [requirement] } }));
    };
    policy("right.pub");
    let platforms: Vec<Digest> = PLATFORMS
        .iter()
        .map(|p| row(&cluster.check(&name, &[]).json(), p)["digest"].as_str().unwrap().parse().unwrap())
        .collect();
    let reference: Reference = format!("{host}/{IMAGE}").parse().unwrap();
    for digest in &platforms {
        attach(&registry, &key, &reference, digest);
    }
    let empty = format!("file://{}", cluster.at("lookaside").display());
    let refused = cluster.check(&name, &[]).expect_code(3).json();
    assert!(row(&refused, PLATFORMS[0])["note"].as_str().unwrap().contains("use-sigstore-attachments"), "{refused:#}");
    cluster.registries_d(&host, &empty, true);
    let accepted = cluster.check(&name, &[]).expect_code(0).json();
    let requirement = &row(&accepted, PLATFORMS[1])["verdict"]["requirements"][0];
    assert_eq!(requirement["signer"], json!(key.public().fingerprint()));
    cluster.check(&name, &["--index"]).expect_code(3);
    cluster.registries_d(&host, &empty, false);
    cluster.check(&name, &[]).expect_code(3);
    cluster.registries_d(&host, &empty, true);
    policy("wrong.pub");
    let refused = cluster.check(&name, &[]).expect_code(3).json();
    assert_eq!(row(&refused, PLATFORMS[0])["note"], Value::Null);

    // What is under the tag and is not what cosign writes fails, as in containers/image.
    let list = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [] }).to_string();
    let tag = DigestTag::Sig.for_subject(&platforms[0]).unwrap().to_string();
    registry.put_manifest("team/app", &tag, MediaType::OCI_INDEX, list.as_bytes());
    policy("right.pub");
    cluster.check(&name, &[]).expect_code(1).expect_stderr("cannot be read");
    cluster.check(&name, &["--platform", PLATFORMS[1]]).expect_code(0);
}

#[test]
fn attestations_and_missing_manifests_are_shown_and_do_not_count() {
    if !need(Site::NEEDS) {
        return;
    }
    let (cluster, registry) = (Cluster::new(), Registry::start());
    let mut layout = Layout::new();
    let platform = |mut descriptor: Value, os: &str, architecture: &str| {
        descriptor["platform"] = json!({ "os": os, "architecture": architecture });
        descriptor
    };
    let amd64 = platform(layout.image_for("amd64", &[b"a"]), "linux", "amd64");
    let attestation = platform(layout.chart(b"attestation"), "unknown", "unknown");
    let image = layout.index(&[amd64.clone(), attestation.clone()]);
    layout.name("app", &image);
    let nothing = layout.index(std::slice::from_ref(&attestation));
    layout.name("nothing", &nothing);
    for name in ["app", "nothing"] {
        registry.load_layout(layout.path(), name, "team/app", name);
    }
    let host = registry.host().to_string();
    let key = Key::new(&cluster.at("home"), "images");
    cluster.tree_for(&host);
    let reference: Reference = format!("{host}/team/app:app").parse().unwrap();
    let digest = amd64["digest"].as_str().unwrap().parse().unwrap();
    let signature = key.secret.sign_simple(&reference, &digest, Timestamp::now(), "test").unwrap();
    Lookaside::new(cluster.at("lookaside")).add(reference.repository(), &digest, &signature).unwrap();
    cluster.policy("reject", &json!({ "docker": { &host: signed_by(&key.certificate_file, kind("matchExact")) } }));
    let name = format!("{host}/team/app:app");
    let report = cluster.check(&name, &[]).expect_code(0).json();
    let rows = report["images"][0]["manifests"].as_array().unwrap();
    let shown: Vec<_> = rows.iter().map(|r| (r["kind"].as_str().unwrap(), r["counted"].as_bool().unwrap())).collect();
    assert_eq!(shown, [("index", false), ("manifest", true), ("attestation", false)]);
    assert_eq!(row(&report, "unknown/unknown")["verdict"]["accepted"], false);
    cluster.check(&name, &["--attestations"]).expect_code(3).expect_stderr("refuses 1 of the 2 manifests");
    cluster.policy("insecureAcceptAnything", &json!({}));
    let nothing = format!("{host}/team/app:nothing");
    cluster.check(&nothing, &[]).expect_code(3).expect_stderr("no image manifest that a cluster could run");
    cluster.check(&nothing, &["--attestations"]).expect_code(3);

    // An entry without a platform is taken for any, if there is none for it.
    let any = layout.image_for("amd64", &[b"any"]);
    let any = layout.index(&[any, amd64.clone()]);
    layout.name("any", &any);
    let any = format!("oci:{}:any", layout.path().display());
    for (platform, chosen) in [("linux/amd64", "linux/amd64"), ("linux/s390x", "manifest")] {
        let report = cluster.check(&any, &["--platform", platform]).expect_code(0).json();
        let counted = report["images"][0]["manifests"].as_array().unwrap().iter().filter(|m| m["counted"] == true);
        assert_eq!(counted.collect::<Vec<_>>(), [&row(&report, chosen)]);
        assert!(!need(&["skopeo"]) || cluster.skopeo(&any, platform).code == Some(0), "{platform}");
    }

    // An index of which an entry is missing, in a layout: no registry here would take it.
    let missing = layout.image_for("arm64", &[b"b"]);
    let gone: Digest = missing["digest"].as_str().unwrap().parse().unwrap();
    let sparse = layout.index(&[amd64, platform(missing, "linux", "arm64")]);
    layout.name("sparse", &sparse);
    fs::remove_file(layout.path().join(gone.layout_path())).unwrap();
    let sparse = format!("oci:{}:sparse", layout.path().display());
    let report = cluster.check(&sparse, &[]).expect_code(0).json();
    let absent = row(&report, "linux/arm64");
    assert_eq!((&absent["counted"], &absent["verdict"]), (&json!(false), &Value::Null));
    cluster.check(&sparse, &["--platform", "linux/arm64"]).expect_code(1).expect_stderr("it is not there");
    cluster.check(&sparse, &["--platform", "linux/amd64"]).expect_code(0);
}

#[test]
fn the_images_of_a_bundle_before_and_after_it_is_received() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let cluster = Cluster::new();
    let (origin, production) = (site.origin.host().to_string(), site.production.host().to_string());
    site.release["sign_images"] = true.into();
    let (repository, tag) = repository_and_tag(API);
    let at_origin: Reference = format!("{origin}/{repository}:{tag}").parse().unwrap();
    let key = cosign_key(&cluster.at("cosign"));
    for digest in closure(&fixtures(), API) {
        if site.origin.get(&format!("/v2/{repository}/manifests/{digest}")).status == 200 {
            attach(&site.origin, &key, &at_origin, &digest);
        }
    }
    let bundle = site.packed(1);
    let check = |image: &str, args: &[&str]| {
        let mut command = site.import(&["trust", "check", "--json", image]);
        command.arg("--policy").arg(cluster.at("policy.json"));
        run(command.arg("--registries-d").arg(cluster.at("registries.d")).args(args))
    };
    let text = bundle.to_str().unwrap();
    let (release, own) = (site.import_dir().join("trust/release.asc"), &site.production_key.certificate_file);

    // As what the sender calls them, by what the bundle carries.
    cluster.policy("reject", &json!({ "docker": { &origin: signed_by(&release, kind("matchExact")) } }));
    let report = check(text, &["--index"]).expect_code(0).json();
    assert_eq!(report["images"][0]["manifests"].as_array().unwrap().len(), 3);
    assert_eq!(report["images"][0]["signatures"], "in the bundle");
    check(text, &["--production"]).expect_code(3);
    cluster.policy("reject", &json!({ "docker": { &origin: signed_by(own, kind("matchExact")) } }));
    check(text, &[]).expect_code(3).expect_stderr("refuses 2 of the 2 manifests");
    // Cosign signatures count where registries.d says so: for the origin's name, or for production's, where they go too.
    let identity = json!({ "type": "exactRepository", "dockerRepository": at_origin.repository().to_string() });
    let cosigned =
        json!([{ "type": "sigstoreSigned", "keyPath": cluster.at("cosign.pub"), "signedIdentity": identity }]);
    cluster.policy("reject", &json!({ "docker": { &origin: cosigned, &production: cosigned } }));
    let nowhere = format!("file://{}", cluster.at("lookaside").display());
    for (host, args) in [(&origin, &["--index"][..]), (&production, &["--index", "--production"][..])] {
        cluster.registries_d(host, &nowhere, false);
        let refused = check(text, args).expect_code(3).json();
        assert!(row(&refused, "index")["note"].as_str().unwrap().contains("use-sigstore-attachments"), "{refused:#}");
        cluster.registries_d(host, &nowhere, true);
        check(text, args).expect_code(0);
    }
    // The bundle is refused as elsewhere.
    check(text, &["--config", "nowhere.yaml"]).expect_code(2);
    let other = Key::new(&site.scratch("other"), "other");
    let strangers =
        ["--identity", "enclave.key", "--trust", other.certificate_file.to_str().unwrap(), "--to", &production];
    fs::rename(site.import_dir().join("import.yaml"), site.scratch("away").join("import.yaml")).unwrap();
    check(text, &strangers).expect_code(3).expect_stderr("the seal is not signed");
    check(site.media().to_str().unwrap(), &[]).expect_code(3).expect_stderr("there is no seal");

    // As what they are called in production, by what is signed there.
    let section = json!({ "lookaside": format!("file://{}", site.lookaside().display()) });
    fs::write(cluster.at("registries.d/a.yaml"), json!({ "docker": { &production: section } }).to_string()).unwrap();
    cluster.policy("reject", &json!({ "docker": { &production: signed_by(own, kind("matchExact")) } }));
    let before = check(text, &["--production"]).expect_code(3).json();
    assert_eq!(before["images"][0]["judged_as"], json!(format!("docker: {production}/{repository}:{tag}")));
    site.receive(&bundle, &[]).expect_code(0);
    check(text, &["--production", "--index"]).expect_code(0);
    check(text, &[]).expect_code(3);
    let name = format!("docker://{production}/{repository}:{tag}");
    let report = check(&name, &["--index"]).expect_code(0).json();
    let rows = report["images"][0]["manifests"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    for row in rows {
        let requirement = &row["verdict"]["requirements"][0];
        assert_eq!((&row["verdict"]["accepted"], &row["counted"]), (&json!(true), &json!(true)), "{row}");
        assert_eq!(requirement["signer"], json!(site.production_key.fingerprint));
        assert_eq!(requirement["identity"], json!(format!("{production}/{repository}:{tag}")));
    }
    check(&format!("{production}/{repository}@{}", report["images"][0]["digest"].as_str().unwrap()), &[])
        .expect_code(3);
}

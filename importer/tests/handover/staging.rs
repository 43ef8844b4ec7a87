//! `handover staging`: clusters that try out what waits.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use manifest_schema::{Digest, DigestTag, MediaType, Reference, Repository, Timestamp};
use serde_json::{Value, json};
use signing::Lookaside;
use signing::sigstore::{Attachment, SigstoreSecretError, SigstoreSecretKey, generate_sigstore};
use testkit::layout::{API, Layout, digest, fixtures};
use testkit::{Key, Node, Ran, Registry, Site, command, need, run};

const NEEDS: &[&str] = &["docker-registry", "skopeo"];
const NAME: &str = "payments/api:2.3.1";

/// A site with a staging registry, and the folder for its QA cluster.
struct Qa {
    site: Site,
    staging: Registry,
    signer: Key,
    other: Key,
}

impl Qa {
    fn new() -> Self {
        let (mut site, staging) = Site::staged();
        site.look_for_signatures();
        let keys = site.scratch("keys");
        let (signer, other) = (Key::new(&keys, "images"), Key::new(&keys, "other"));
        Self { site, staging, signer, other }
    }

    /// The folder that is handed over.
    fn folder(&self) -> PathBuf {
        self.site.scratch("handed").join("qa")
    }

    fn signed_as(&self, key: &Key, identity: &Value) -> Value {
        let mut requirement = key.signed_by();
        requirement[0]["signedIdentity"] = identity.clone();
        requirement
    }

    /// `handover staging`, for nodes that have the keys where they lie in the folder.
    fn handover(&self, args: &[&str]) -> Ran {
        let mut command = self.site.import(&["handover", "staging"]);
        run(command.arg(self.folder()).arg("--key-dir").arg(self.folder().join("keys")).args(args))
    }

    fn handed(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.folder().join(name)).unwrap()).unwrap()
    }

    fn origin(&self) -> Reference {
        format!("{}/{NAME}", self.site.origin.host()).parse().unwrap()
    }

    fn received(&self) {
        let bundle = self.site.packed(1);
        self.site.receive(&bundle, &[]).expect_code(0);
    }

    fn tree(&self) -> Lookaside {
        Lookaside::new(self.site.import_dir().join("qa-sigstore"))
    }

    /// Whether a node takes an image, with stock skopeo and the files of the folder.
    #[track_caller]
    fn takes(&self, image: &str) -> Ran {
        self.node().takes(image)
    }

    /// `trust check` with the files of the folder.
    fn check(&self, image: &str) -> Ran {
        let mut command = self.site.import(&["trust", "check", image]);
        command.arg("--policy").arg(self.folder().join("policy.json"));
        run(command.arg("--registries-d").arg(self.folder().join("registries.d")))
    }

    #[track_caller]
    fn refuses(&self, image: &str) {
        self.node().refuses(image);
    }

    fn node(&self) -> Node {
        Node::new(self.folder(), self.site.scratch("node"))
    }
}

#[test]
fn a_dry_run_writes_no_folder_and_no_entry() {
    if !need(Site::NEEDS) {
        return;
    }
    let qa = Qa::new();
    let ledger = qa.site.import_dir().join("ledger.db");
    let entries = || {
        let ledger = ledger::Ledger::open_read_only(&ledger, None).unwrap();
        ledger.entries(ledger::EntryNumber::FIRST).count()
    };
    let before = entries();
    let ran = qa.handover(&["--dry-run"]).expect_code(0);
    assert!(ran.stdout.contains("would be written: ") && ran.stdout.contains("On every node, in this order"), "{ran}");
    assert!(!qa.folder().join("policy.json").exists());
    assert_eq!(entries(), before);
}

/// Copies a folder of signatures: what whoever may write into staging's tree can do.
fn copy_signatures(tree: &Lookaside, from: &Reference, to: &Reference, digest: &Digest) {
    for signature in tree.read(from.repository(), digest).unwrap() {
        tree.add(to.repository(), digest, &signature).unwrap();
    }
}

#[test]
fn a_cluster_takes_what_was_received_with_its_origins_signatures_and_nothing_else() {
    if !need(NEEDS) {
        return;
    }
    let mut qa = Qa::new();
    qa.site.sign_at_origin(&qa.signer);
    qa.received();
    // Without an image policy there is nothing to verify with.
    let ran = qa.handover(&[]).expect_code(0);
    assert!(ran.stderr.contains("(stream payments): the stream has no image policy"), "{ran}");
    qa.refuses(&format!("{}/{NAME}", qa.staging.host()));

    let docker = json!({ qa.site.origin.host(): qa.signer.signed_by() });
    qa.site.judge_images("payments", &docker);
    let ran = qa.handover(&[]).expect_code(0);
    assert!(ran.stdout.contains("README.txt says where they go"), "{ran}");
    assert_eq!(ran.stderr, "", "nothing to warn of");

    let host = qa.staging.host().to_string();
    let image: Reference = format!("{host}/{NAME}").parse().unwrap();
    let pinned = format!("{host}/payments/api@{}", digest(&fixtures(), API));
    qa.takes(&image.to_string()).expect_code(0);
    qa.takes(&pinned).expect_code(0);

    // The same image under another tag, and in another repository with the signatures that it has.
    qa.staging.load_layout(&fixtures(), API, "payments/api", "9");
    qa.staging.load_layout(&fixtures(), API, "payments/other", "2.3.1");
    qa.refuses(&format!("{host}/payments/api:9"));
    let other: Reference = format!("{host}/payments/other:2.3.1").parse().unwrap();
    for document in qa.site.documents_at_origin() {
        copy_signatures(&qa.tree(), &image, &other, &document);
    }
    qa.refuses(&other.to_string());
    qa.refuses(&format!("{host}/payments/other@{}", digest(&fixtures(), API)));

    // Somebody else's: without a signature, with one by another key, with one by the right key for another image.
    let own = own_image(&qa.staging, "payments/mine", "1");
    let mine: Reference = format!("{host}/payments/mine:1").parse().unwrap();
    qa.refuses(&mine.to_string());
    let at_origin: Reference = format!("{}/payments/mine:1", qa.site.origin.host()).parse().unwrap();
    for name in [&at_origin, &mine] {
        let signature = qa.other.secret.sign_simple(name, &own, Timestamp::now(), "test").unwrap();
        qa.tree().add(mine.repository(), &own, &signature).unwrap();
    }
    qa.refuses(&mine.to_string());
    // The right key, but under the name in staging, which nobody at the origin would sign.
    let signature = qa.signer.secret.sign_simple(&mine, &own, Timestamp::now(), "test").unwrap();
    qa.tree().add(mine.repository(), &own, &signature).unwrap();
    qa.refuses(&mine.to_string());
    let signature = qa.signer.secret.sign_simple(&at_origin, &own, Timestamp::now(), "test").unwrap();
    qa.tree().add(mine.repository(), &own, &signature).unwrap();
    qa.takes(&mine.to_string()).expect_code(0);
    // Beside what the stream brings.
    qa.staging.load_layout(&fixtures(), API, "elsewhere", "1");
    qa.refuses(&format!("{host}/elsewhere:1"));

    // trust check says the same of the same files.
    qa.check(&image.to_string()).expect_code(0);
    qa.check(&other.to_string()).expect_code(3);
    podman(&qa, &image.to_string(), &other.to_string());

    // A key that is revoked, and handed over anew.
    qa.signer.revoke();
    qa.handover(&[]).expect_code(0);
    qa.refuses(&image.to_string());
}

/// podman takes the one image, and refuses the other.
fn podman(qa: &Qa, good: &str, bad: &str) {
    if !need(&["podman"]) {
        return;
    }
    let home = qa.site.scratch("podman");
    let configuration = home.join(".config/containers");
    fs::create_dir_all(&configuration).unwrap();
    fs::create_dir_all(home.join(".run")).unwrap();
    symlink(qa.folder().join("policy.json"), configuration.join("policy.json")).unwrap();
    symlink(qa.folder().join("registries.d"), configuration.join("registries.d")).unwrap();
    let pull = |image: &str| {
        let mut command = command("podman", &home);
        command.arg("--root").arg(home.join("root")).arg("--runroot").arg(home.join("runroot"));
        run(command
            .args(["--storage-driver", "vfs", "pull", "-q", "--tls-verify=false"])
            .arg(format!("docker://{image}")))
    };
    pull(good).expect_code(0);
    let refused = pull(bad);
    assert!(refused.code != Some(0) && refused.stderr.contains("Source image rejected"), "{refused}");
}

/// Puts an image of one's own into a registry.
fn own_image(registry: &Registry, repository: &str, tag: &str) -> Digest {
    let mut layout = Layout::new();
    let image = layout.image(&[b"somebody else's"]);
    layout.name("mine", &image);
    registry.load_layout(layout.path(), "mine", repository, tag)
}

/// Debian's skopeo refuses `sigstoreSigned` whatever the signature; `trust check` judges it as containers/image does.
#[test]
fn cosign_signatures_of_the_origin_count_too() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut qa = Qa::new();
    let public = qa.site.scratch("keys").join("cosign.pub");
    let key = cosign_key(&public);
    for document in qa.site.documents_at_origin() {
        attach(&qa.site.origin, &key, qa.origin().repository(), &qa.origin(), &document);
    }
    let docker = json!({ qa.site.origin.host(): [{ "type": "sigstoreSigned", "keyPath": public }] });
    qa.site.judge_images("payments", &docker);
    qa.received();
    let report = qa.handover(&["--json"]).expect_code(0).json();
    assert_eq!(report["lookaside"][0]["use_sigstore_attachments"], true);
    assert_eq!(report["keys"][0]["fingerprints"], json!([key.public().fingerprint()]));
    let host = qa.staging.host().to_string();
    qa.check(&format!("{host}/{NAME}")).expect_code(0);
    qa.staging.load_layout(&fixtures(), API, "payments/api", "9");
    qa.check(&format!("{host}/payments/api:9")).expect_code(3);
    let own = own_image(&qa.staging, "payments/mine", "1");
    let mine: Reference = format!("{host}/payments/mine:1").parse().unwrap();
    let at_origin: Reference = format!("{}/payments/mine:1", qa.site.origin.host()).parse().unwrap();
    let other = cosign_key(&qa.site.scratch("keys").join("other.pub"));
    for (key, name, code) in [(&other, &at_origin, 3), (&key, &mine, 3), (&key, &at_origin, 0)] {
        attach(&qa.staging, key, mine.repository(), name, &own);
        qa.check(&mine.to_string()).expect_code(code);
    }
}

/// A key for cosign signatures, with its public half in a file.
fn cosign_key(public: &Path) -> SigstoreSecretKey {
    use secrecy::ExposeSecret;
    let made = generate_sigstore(None).unwrap();
    let secret = public.with_extension("key");
    fs::write(public, &made.public_pem).unwrap();
    fs::write(&secret, made.secret_pem.expose_secret()).unwrap();
    let no_passphrase = || -> Result<_, SigstoreSecretError> { panic!("not encrypted") };
    SigstoreSecretKey::load(&secret, no_passphrase).unwrap()
}

/// Signs a manifest in a registry as `cosign sign --key` would.
pub(crate) fn attach(
    registry: &Registry,
    key: &SigstoreSecretKey,
    at: &Repository,
    reference: &Reference,
    digest: &Digest,
) {
    let repository = at.path();
    let signature = key.sign_image(reference, digest, Timestamp::now(), "test").unwrap();
    let bytes = Attachment::new().with(&signature).unwrap().to_bytes().unwrap();
    registry.put_blob(repository, &blobs::sha256(&signature.payload), &signature.payload);
    registry.put_blob(repository, &bytes.config_digest, &bytes.config);
    let tag = DigestTag::Sig.for_subject(digest).unwrap().to_string();
    registry.put_manifest(repository, &tag, MediaType::OCI_MANIFEST, &bytes.manifest);
}

/// Two streams with nested scopes, single images, a more specific mapping of staging, and demands that have no other name: each
/// row with skopeo.
#[test]
fn stock_skopeo_reads_the_rules_as_they_are_meant() {
    if !need(NEEDS) {
        return;
    }
    let mut qa = Qa::new();
    let (production, staging) = (qa.site.production.host().to_string(), qa.staging.host().to_string());
    let stream = qa.site.import["streams"]["payments"].clone();
    let with = |from: &str, to: &str| {
        let mut stream = stream.clone();
        stream["origins"] = json!([from]);
        stream["to"] = json!([{ "from": from, "to": format!("{production}/{to}") }]);
        stream
    };
    qa.site.import["streams"] = json!({
        "payments": with("dev.example/pay", "p"),
        "tools": with("tools.example", "t"),
        "free": with("free.example", "f"),
    });
    qa.site.import["staging"]["to"] = json!([
        { "from": production, "to": format!("{staging}/qa") },
        { "from": format!("{production}/p/slow"), "to": format!("{staging}/slow") },
    ]);
    let by = Key::signed_by;
    let (one, two) = (&qa.signer, &qa.other);
    let identity = |kind: &str| json!({ "type": kind });
    let remap = json!({ "type": "remapIdentity", "prefix": "tools.example/old", "signedPrefix": "ci.example/out" });
    let payments = json!({
        "dev.example": by(one),
        "dev.example/pay/secret": by(two),
        "dev.example/pay/api:1": by(two),
        "dev.example/pay/exact": qa.signed_as(one, &identity("matchExact")),
        "dev.example/pay/exact/app:1": qa.signed_as(one, &identity("matchExact")),
        "dev.example/pay/open": [{ "type": "insecureAcceptAnything" }],
    });
    let tools = json!({ "": qa.signed_as(one, &remap) });
    qa.site.judge_images("payments", &payments);
    qa.site.judge_images("tools", &tools);
    let (one, two) = (&qa.signer, &qa.other);
    let ran = qa.handover(&[]).expect_code(0);
    for warning in [
        format!("{staging}/qa/p/exact (stream payments): policies have no signedIdentity matchExact"),
        format!("{staging}/qa/f (stream free): the stream has no image policy"),
        format!("{staging}/qa/p/open: any image is accepted, as the image policy says of dev.example/pay/open"),
    ] {
        assert!(ran.stderr.contains(&warning), "{warning}\n{ran}");
    }
    assert_eq!(qa.handed("policy.json")["transports"]["docker"][format!("{staging}/qa/p/exact")][0]["type"], "reject");

    let mut layout = Layout::new();
    let image = layout.image(&[b"content"]);
    let digest = layout.name("app", &image);
    for (n, (place, signed, key, taken)) in [
        ("qa/p/app:1", "dev.example/pay/app:1", one, true),
        ("qa/p/app:1", "dev.example/pay/app:1", two, false),
        ("qa/p/app:1", "dev.example/pay/app:2", one, false),
        ("qa/p/app:1", "dev.example/pay:1", one, false),
        ("qa/p/app@", "dev.example/pay/app:2", one, true),
        ("qa/p/app@", "dev.example/pay/other:2", one, false),
        // A scope within, with another key.
        ("qa/p/secret/app:1", "dev.example/pay/secret/app:1", two, true),
        ("qa/p/secret/app:1", "dev.example/pay/secret/app:1", one, false),
        // A single image.
        ("qa/p/api:1", "dev.example/pay/api:1", two, true),
        ("qa/p/api:1", "dev.example/pay/api:1", one, false),
        ("qa/p/api:2", "dev.example/pay/api:2", one, true),
        ("qa/p/api@", "dev.example/pay/api:1", one, true),
        ("qa/p/exact/app:1", "dev.example/pay/exact/app:1", one, true),
        ("qa/p/exact/app:2", "dev.example/pay/exact/app:2", one, false),
        ("qa/p/exact/app@", "dev.example/pay/exact/app:1", one, false),
        ("qa/p/open/app:1", "dev.example/pay/app:7", two, true),
        // A more specific mapping of staging: nothing of it at the place of the others.
        ("slow/app:1", "dev.example/pay/slow/app:1", one, true),
        ("slow/app:1", "dev.example/pay/app:1", one, false),
        ("qa/p/slow/app:1", "dev.example/pay/slow/app:1", one, false),
        // The other stream, whose policy has a remapIdentity of its own.
        ("qa/t/app:1", "tools.example/app:1", one, true),
        ("qa/t/app:1", "dev.example/pay/app:1", one, false),
        ("qa/t/old/app:1", "ci.example/out/app:1", one, true),
        ("qa/t/old/app:1", "tools.example/old/app:1", one, false),
        // No policy, no stream.
        ("qa/f/app:1", "free.example/app:1", one, false),
        ("qa/app:1", "dev.example/app:1", one, false),
        ("app:1", "dev.example/app:1", one, false),
    ]
    .into_iter()
    .enumerate()
    {
        let case = format!("{n}: {place}, signed {signed} by {}", key.fingerprint);
        let (repository, tag) = place.split_once([':', '@']).unwrap();
        qa.staging.load_layout(layout.path(), "app", repository, if tag.is_empty() { "any" } else { tag });
        let image: Reference = match tag {
            "" => format!("{staging}/{repository}@{digest}"),
            tag => format!("{staging}/{repository}:{tag}"),
        }
        .parse()
        .unwrap();
        let _ = fs::remove_dir_all(qa.site.import_dir().join("qa-sigstore"));
        let signature = key.secret.sign_simple(&signed.parse().unwrap(), &digest, Timestamp::now(), "test").unwrap();
        qa.tree().add(image.repository(), &digest, &signature).unwrap();
        let ran = qa.takes(&image.to_string());
        assert_eq!(ran.code == Some(0), taken, "{case}\n{ran}");
        assert!(taken || ran.stderr.contains("Source image rejected"), "{case}\n{ran}");
    }
}

/// A folder with everything in it.
fn snapshot(folder: &Path) -> Vec<(String, Vec<u8>, u32)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(&inner).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o755, "{}", path.display());
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            files.push((name, fs::read(&path).unwrap(), path.metadata().unwrap().permissions().mode() & 0o7777));
        }
    }
    files.sort();
    files
}

#[test]
fn the_folder_is_replaced_as_a_whole_and_only_if_nothing_else_is_in_it() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut qa = Qa::new();
    let docker = json!({ qa.site.origin.host(): qa.signer.signed_by() });
    qa.site.judge_images("payments", &docker);
    let key_dir = "/etc/pki/qa";
    let handover = |qa: &Qa| {
        let mut command = qa.site.import(&["handover", "staging", "--key-dir", key_dir]);
        // As if another user's umask hid everything.
        let shown: Vec<_> = command.arg(qa.folder()).get_args().map(|a| a.to_owned()).collect();
        let mut shell = testkit::command("sh", &qa.site.scratch("shell"));
        shell.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(command.get_program()).args(shown);
        run(shell.current_dir(qa.site.import_dir()))
    };
    handover(&qa).expect_code(0);
    let first = snapshot(&qa.folder());
    assert!(first.iter().all(|(_, _, mode)| *mode == 0o644), "{first:?}");
    let certificate = fs::read(&qa.signer.certificate_file).unwrap();
    let key = format!("{}.asc", blobs::sha256(&certificate).hex());
    let names: Vec<_> = first.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["README.txt", &format!("keys/{key}"), "policy.json", "registries.d/sealift-staging.yaml"]);
    assert_eq!(first[1].1, certificate);
    let requirement = &qa.handed("policy.json")["transports"]["docker"][format!("{}/payments", qa.staging.host())][0];
    assert_eq!(requirement["keyPath"], format!("{key_dir}/{key}"));
    // The same again is the same, and nothing is left beside it.
    handover(&qa).expect_code(0);
    assert_eq!(snapshot(&qa.folder()), first);
    let beside = || fs::read_dir(qa.folder().parent().unwrap()).unwrap().count();
    assert_eq!(beside(), 1);
    // What the record says, sha256sum says.
    let readme = String::from_utf8(first[0].1.clone()).unwrap();
    let sums: String = readme
        .lines()
        .filter(|l| l.split_once("  ").is_some_and(|(hex, _)| hex.len() == 64))
        .fold(String::new(), |sums, line| sums + line + "\n");
    fs::write(qa.site.scratch("sums").join("SHA256SUMS"), &sums).unwrap();
    let mut check = command("sha256sum", &qa.site.scratch("sums"));
    run(check.arg("-c").arg(qa.site.scratch("sums").join("SHA256SUMS")).current_dir(qa.folder())).expect_code(0);
    assert_eq!(sums.lines().count(), 3);

    // Another configuration gives other files, and those of before are gone.
    let docker = json!({ qa.site.origin.host(): qa.other.signed_by() });
    qa.site.judge_images("payments", &docker);
    handover(&qa).expect_code(0);
    let second = snapshot(&qa.folder());
    assert!(second.len() == 4 && second[1].0 != first[1].0, "{second:?}");

    // What is somebody else's, or was changed, stays as it is, and is named.
    let folder = qa.folder();
    type Change = Box<dyn Fn(&Path)>;
    let changes: [(&str, Change); 6] = [
        ("notes.txt", Box::new(|folder| fs::write(folder.join("notes.txt"), "mine").unwrap())),
        ("keys/more.asc", Box::new(|folder| fs::write(folder.join("keys/more.asc"), "mine").unwrap())),
        ("policy.json", Box::new(|folder| fs::write(folder.join("policy.json"), "{}").unwrap())),
        ("README.txt", Box::new(|folder| fs::write(folder.join("README.txt"), "mine").unwrap())),
        ("more", Box::new(|folder| fs::create_dir(folder.join("more")).unwrap())),
        (
            "policy.json",
            Box::new(|folder| {
                fs::rename(folder.join("policy.json"), folder.parent().unwrap().join("moved")).unwrap();
                symlink(folder.parent().unwrap().join("moved"), folder.join("policy.json")).unwrap();
            }),
        ),
    ];
    for (name, change) in changes {
        change(&folder);
        let before = snapshot(&folder);
        let refused = handover(&qa).expect_code(2);
        let path = folder.join(name).display().to_string();
        let refused = refused.expect_stderr(&format!("{path}: `handover staging` did not write it, or it was changed"));
        assert!(refused.stderr.contains("hint: name another folder"), "{refused}");
        assert_eq!(snapshot(&folder), before, "{name}");
        fs::remove_dir_all(&folder).unwrap();
        handover(&qa).expect_code(0);
    }
    // A link, a file, a folder of somebody else; an empty one will do.
    fs::remove_dir_all(&folder).unwrap();
    let elsewhere = folder.with_file_name("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, &folder).unwrap();
    handover(&qa).expect_code(2).expect_stderr("did not write it");
    let slash = format!("{}/", folder.display());
    run(qa.site.import(&["handover", "staging"]).arg(slash)).expect_code(2).expect_stderr("did not write it");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    fs::remove_file(&folder).unwrap();
    fs::write(&folder, "mine").unwrap();
    handover(&qa).expect_code(2).expect_stderr("did not write it");
    assert_eq!(fs::read(&folder).unwrap(), b"mine");
    fs::remove_file(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("policy.json"), "{}").unwrap();
    handover(&qa).expect_code(2).expect_stderr("policy.json: `handover staging` did not write it");
    fs::remove_file(folder.join("policy.json")).unwrap();
    handover(&qa).expect_code(0);
    assert_eq!(snapshot(&folder), second);
}

#[test]
fn what_is_configured_wrongly_writes_nothing() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut qa = Qa::new();
    let docker = json!({ qa.site.origin.host(): qa.signer.signed_by() });
    qa.site.judge_images("payments", &docker);
    let handover = |qa: &Qa, args: &[&str]| {
        let mut command = qa.site.import(&["handover", "staging"]);
        let ran = run(command.arg(qa.folder()).args(args)).expect_code(2);
        assert!(!qa.folder().exists(), "{ran}");
        ran
    };
    handover(&qa, &["--key-dir", "keys"]).expect_stderr("--key-dir keys: expected an absolute path");
    handover(&qa, &["--lookaside-url", "sigstore"]).expect_stderr("lookaside URL `sigstore`: expected http://");
    handover(&qa, &["--lookaside-url", "a.example=https://s.example"]).expect_stderr("no lookaside URL is configured");
    qa.site.import["staging"]["lookaside_url"] = "https://s.example/?x".into();
    handover(&qa, &[]).expect_stderr("without ? and #");
    let staging = qa.site.import["staging"].take();
    qa.site.import.as_object_mut().unwrap().remove("staging");
    handover(&qa, &[]).expect_stderr("no staging registry is configured");
    // The configured URL counts, unless a flag says another.
    qa.site.import["staging"] = staging;
    qa.site.import["staging"]["lookaside_url"] = json!({ qa.staging.host(): "https://s.example/qa/" });
    let yaml = |args: &[&str]| {
        qa.handover(args).expect_code(0);
        fs::read_to_string(qa.folder().join("registries.d/sealift-staging.yaml")).unwrap()
    };
    assert_eq!(yaml(&[]), format!("docker:\n  \"{}\":\n    lookaside: \"https://s.example/qa\"\n", qa.staging.host()));
    assert!(yaml(&["--lookaside-url", "http://t.example"]).contains("\"http://t.example\""));
}

#[test]
fn the_report_says_what_was_written_and_what_was_left_out() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut qa = Qa::new();
    let host = qa.site.origin.host().to_string();
    let data = "LS0t";
    let rekor = json!([{ "type": "sigstoreSigned", "keyPath": "cosign.pub", "rekorPublicKeyData": data }]);
    cosign_key(&qa.site.import_dir().join("cosign.pub"));
    let docker = json!({ format!("{host}/payments"): qa.signer.signed_by(), format!("{host}/payments/log"): rekor });
    qa.site.judge_images("payments", &docker);
    qa.site.import["streams"]["payments"]["releases"] = json!([format!("{host}/payments/release")]);
    let ran = qa.handover(&["--json"]).expect_code(0);
    let report = ran.json();
    let scope = format!("{}/payments", qa.staging.host());
    assert_eq!(report["result"], "written");
    assert_eq!(report["files"].as_array().unwrap().len(), 4);
    assert_eq!(report["scopes"][0]["scope"], scope);
    assert_eq!(
        report["scopes"][0]["origins"],
        json!([{ "stream": "payments", "origin": format!("{host}/payments"), "policy": format!("docker: {host}/payments") }])
    );
    assert_eq!(report["keys"][0]["fingerprints"], json!([qa.signer.fingerprint]));
    assert_eq!(report["keys"][0]["from"], json!(["images.asc"]));
    let left_out = report["left_out"].as_array().unwrap();
    assert_eq!(left_out.len(), 2, "{report:#}");
    assert_eq!(left_out[0]["scope"], format!("{scope}/log"));
    assert!(left_out[0]["reason"].as_str().unwrap().contains("Rekor"), "{report:#}");
    assert!(left_out[1]["reason"].as_str().unwrap().contains("have no signatures of their own"), "{report:#}");
    let readme = fs::read_to_string(qa.folder().join("README.txt")).unwrap();
    for text in
        ["Rekor", "have no signatures of their own", &qa.signer.fingerprint, &scope, "/etc/containers/policy.json"]
    {
        assert!(readme.contains(text), "{text}\n{readme}");
    }
    assert_eq!(ran.stderr.matches("left out: ").count(), 2, "{ran}");
}

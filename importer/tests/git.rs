//! Signatures in a git working tree: one commit for each import, made by the real git.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use common::acts;
use manifest_schema::{Reference, Timestamp};
use serde_json::json;
use signing::Lookaside;
use testkit::layout::{API, BUSYBOX, digest, fixtures};
use testkit::{Fault, Key, Node, Proxy, Ran, Rule, Site, command, need, run, run_ok};

const NEEDS: &[&str] = &["docker-registry", "git"];
const NAME: &str = "payments/api:2.3.1";
/// Where the tree lies in the repository.
const TREE: &str = "production/sigstore";

/// A site whose signatures lie in a repository that has one commit.
struct Repository {
    site: Site,
    path: PathBuf,
}

impl Repository {
    fn new() -> Self {
        let mut site = Site::new();
        let path = site.scratch("signatures");
        site.import["production"]["lookaside"] = json!(path.join(TREE));
        site.import["production"]["lookaside_git"] = json!({ "author": "Sealift <sealift@prod.example>" });
        let repository = Self { site, path };
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository.by_hand("README", "Signatures of production.\n");
        repository
    }

    /// Somebody's git: in the working tree, with a name.
    fn command(&self) -> std::process::Command {
        let mut command = command("git", &self.site.scratch("somebody"));
        command.current_dir(&self.path).args(["-c", "user.name=Somebody", "-c", "user.email=somebody@prod.example"]);
        command
    }

    #[track_caller]
    fn git(&self, args: &[&str]) -> String {
        run_ok(self.command().args(args)).stdout.trim().into()
    }

    #[track_caller]
    fn by_hand(&self, name: &str, text: &str) {
        fs::write(self.path.join(name), text).unwrap();
        self.git(&["add", name]);
        self.git(&["commit", "--quiet", "-m", "By hand"]);
    }

    fn commits(&self) -> Vec<String> {
        self.git(&["log", "--reverse", "--format=%s"]).lines().skip(1).map(Into::into).collect()
    }

    fn message(&self) -> String {
        self.git(&["log", "-1", "--format=%B"])
    }

    fn state(&self) -> String {
        self.git(&["status", "--porcelain", "--untracked-files=all"])
    }

    /// The files of the tree in the last commit.
    fn committed(&self) -> Vec<String> {
        let list = self.git(&["ls-tree", "-r", "--name-only", "HEAD", "--", TREE]);
        list.lines().map(|line| line[TREE.len() + 1..].into()).collect()
    }

    fn there(&self) -> Vec<String> {
        common::files(&self.path.join(TREE)).into_keys().collect()
    }

    fn import(&self, args: &[&str]) -> Ran {
        run(&mut self.site.import(args))
    }

    fn image(&self) -> Reference {
        format!("{}/{NAME}", self.site.production.host()).parse().unwrap()
    }

    /// The folder of the index's signatures, relative to the tree.
    fn folder(&self) -> PathBuf {
        Lookaside::path_for(self.image().repository(), &digest(&fixtures(), API))
    }

    fn signature_by(&self, key: &Key) -> Vec<u8> {
        let image = digest(&fixtures(), API);
        key.secret.sign_simple(&self.image(), &image, Timestamp::now(), "test").unwrap()
    }

    fn last_entry(&self) -> String {
        common::ledger(&self.site).head().unwrap().number.to_string()
    }
}

#[test]
fn an_import_is_one_commit_and_a_clone_of_it_is_enough_for_a_cluster() {
    if !need(&[NEEDS, &["skopeo", "podman"]].concat()) {
        return;
    }
    let mut repository = Repository::new();
    repository.site.list_fixtures(&[API, BUSYBOX]);
    // What somebody else is about to commit elsewhere stays as it is.
    fs::write(repository.path.join("README"), "Signatures of production, and how to read them.\n").unwrap();
    repository.git(&["add", "README"]);
    fs::write(repository.path.join("notes"), "mine").unwrap();
    let (site, bundle) = (&repository.site, repository.site.packed(7));
    let ran = site.receive(&bundle, &[]).expect_code(0).expect_stderr("committed in ");
    assert_eq!(acts(site), ["created", "begun", "signing", "recorded"], "{ran}");
    let files = repository.there();
    assert_eq!(repository.commits(), [format!("Import payments-7: {} signatures", files.len())]);
    assert_eq!(repository.committed(), files);
    assert_eq!(repository.git(&["diff", "--name-only", "HEAD~1", "HEAD"]).lines().count(), files.len());
    assert_eq!(repository.state(), "M  README\n?? notes");

    let (message, ledger) = (repository.message(), common::ledger(site));
    let image = digest(&fixtures(), API);
    for line in [
        "Sealift-Stream: payments".into(),
        "Sealift-Sequence: 7".into(),
        format!("Sealift-Image: {}@{image}", repository.image()),
        format!("Sealift-Ledger: {}", ledger.id()),
        format!("Sealift-Entry: {}", repository.last_entry()),
    ] {
        assert!(message.lines().any(|there| there == line), "{line}\n{message}");
    }
    assert_eq!(message.matches("Sealift-Image").count(), 2, "{message}");
    let who = repository.git(&["log", "-1", "--format=%an <%ae> %cn <%ce>"]);
    assert_eq!(who, "Sealift <sealift@prod.example> Sealift <sealift@prod.example>");

    // Nothing is left to do, and nothing is done.
    let head = repository.git(&["rev-parse", "HEAD"]);
    site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(repository.git(&["rev-parse", "HEAD"]), head);

    let clone = site.scratch("clone");
    run_ok(repository.command().args(["clone", "--quiet"]).arg(&repository.path).arg(clone.join("signatures")));
    let folder = site.scratch("handed").join("production");
    let url = format!("file://{}", clone.join("signatures").join(TREE).display());
    let mut handover = site.import(&["handover", "production", "--lookaside-url", &url]);
    run_ok(handover.arg(&folder).arg("--key-dir").arg(folder.join("keys")));
    let node = Node::new(&folder, site.scratch("node"));
    node.pulls(&repository.image().to_string()).expect_code(0);
    fs::remove_dir_all(clone.join("signatures")).unwrap();
    node.refuses(&repository.image().to_string());
}

#[test]
fn changes_of_somebody_else_are_refused_by_name_before_anything_is_signed() {
    if !need(NEEDS) {
        return;
    }
    let repository = Repository::new();
    let site = &repository.site;
    site.receive(&site.packed(1), &[]).expect_code(0);
    let head = repository.git(&["rev-parse", "HEAD"]);
    let next = site.packed(2);
    let tree = repository.path.join(TREE);
    let signature = repository.folder().join("signature-1");
    let foreign = repository.signature_by(&Key::new(&site.import_dir(), "foreign"));
    let ours = repository.signature_by(&site.production_key);
    let elsewhere = Lookaside::path_for(repository.image().repository(), &blobs::sha256(b"x")).join("signature-1");
    type Change<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let write = |path: &Path, bytes: &[u8]| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let (second, elsewhere) = (repository.folder().join("signature-2"), elsewhere.as_path());
    let names = |path: &Path| path.display().to_string();
    let (signature_name, second_name, elsewhere_name) = (names(&signature), names(&second), names(elsewhere));
    // A signature of ours, where nodes do not look for it.
    let recorded = fs::read(tree.join(&signature)).unwrap();
    let unread_name = signature_name.replace("sha256=", "sha256:");
    let changes: [Change<'_>; 9] = [
        (&unread_name, Box::new(|| write(&tree.join(&unread_name), &recorded))),
        ("notes", Box::new(|| write(&tree.join("notes"), b"mine"))),
        (&signature_name, Box::new(|| write(&tree.join(&signature), b"changed"))),
        (&signature_name, Box::new(|| write(&tree.join(&signature), &ours))),
        (&signature_name, Box::new(|| fs::remove_file(tree.join(&signature)).unwrap())),
        (&second_name, Box::new(|| write(&tree.join(&second), &foreign))),
        // By the production key, but not announced in the ledger.
        (&second_name, Box::new(|| write(&tree.join(&second), &ours))),
        (&elsewhere_name, Box::new(|| write(&tree.join(elsewhere), &ours))),
        (
            &second_name,
            Box::new(|| {
                write(&tree.join(&second), &foreign);
                repository.git(&["add", TREE]);
                fs::remove_file(tree.join(&second)).unwrap();
            }),
        ),
    ];
    let image = repository.image().to_string();
    for (number, (name, change)) in changes.iter().enumerate() {
        change();
        let before = (site.traces(), repository.there());
        for command in [
            vec!["receive", next.to_str().unwrap()],
            vec!["resign"],
            vec!["withdraw", &image, "--reason", "CVE-2026-1"],
        ] {
            let ran = repository.import(&command).expect_code(3).expect_stderr("the ledger says nothing of it: ");
            assert!(ran.stderr.contains(*name), "{number}: {name}\n{ran}");
        }
        assert_eq!((site.traces(), repository.there()), before, "{number}");
        assert_eq!(repository.git(&["rev-parse", "HEAD"]), head);
        repository.git(&["reset", "--quiet", "--hard"]);
        repository.git(&["clean", "--quiet", "--force", "-d"]);
    }
    site.receive(&next, &[]).expect_code(0);
    assert_eq!(repository.state(), "");
}

#[test]
fn a_commit_that_failed_hides_nothing_and_the_same_command_makes_it() {
    if !need(NEEDS) {
        return;
    }
    let repository = Repository::new();
    let (site, bundle) = (&repository.site, repository.site.packed(1));
    let lock = repository.path.join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    for _ in 0..2 {
        let ran = site.receive(&bundle, &[]).expect_code(1).expect_stderr("index.lock");
        assert!(ran.stderr.contains("published and recorded; its signatures are not committed"), "{ran}");
    }
    assert_eq!(acts(site), ["created", "begun", "signing", "recorded"]);
    assert!(site.production.tags().contains_key(NAME));
    assert!(repository.commits().is_empty());
    // Only files with the names of signatures are.
    let (folder, beside) = (repository.path.join(TREE).join(repository.folder()), site.scratch("beside"));
    let (signature, away) = (folder.join("signature-1"), beside.join("signature-1"));
    fs::rename(&signature, folder.join("signature-01")).unwrap();
    repository.import(&["resign"]).expect_code(3).expect_stderr("signature-01");
    fs::rename(folder.join("signature-01"), &away).unwrap();
    std::os::unix::fs::symlink(&away, &signature).unwrap();
    repository.import(&["resign"]).expect_code(3).expect_stderr("signature-1");
    fs::rename(&away, &signature).unwrap();
    fs::remove_file(&lock).unwrap();
    let ran = site.receive(&bundle, &[]).expect_code(0);
    assert!(ran.stdout.contains("already received"), "{ran}");
    assert_eq!(repository.commits(), ["Import payments-1: 3 signatures"]);
    assert_eq!((repository.committed(), repository.state()), (repository.there(), String::new()));

    // Somebody was quicker than the commit: nothing is hidden by that either.
    fs::write(repository.path.join(TREE).join("notes"), "mine").unwrap();
    site.receive(&bundle, &[]).expect_code(1).expect_stderr("the signatures are not committed");
    fs::remove_file(repository.path.join(TREE).join("notes")).unwrap();

    // The same for a withdrawal; the next command of any kind makes the commit.
    fs::write(&lock, "").unwrap();
    let image = repository.image().to_string();
    let ran = repository.import(&["withdraw", &image, "--reason", "CVE-2026-1"]).expect_code(1);
    assert!(ran.stdout.contains("3 signatures taken away"), "{ran}");
    assert!(ran.stderr.contains("done and recorded; it is not committed"), "{ran}");
    fs::remove_file(&lock).unwrap();
    repository.import(&["resign"]).expect_code(0);
    assert_eq!(repository.commits().len(), 2);
    assert_eq!((repository.committed(), repository.state()), (vec![], String::new()));
}

#[test]
fn a_receive_that_was_killed_while_it_signed_ends_in_one_commit() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    let bundle = repository.site.packed(1);
    let proxy = Proxy::before(&repository.site.production);
    proxy.rule(Rule::new(Fault::Delay(Duration::from_millis(30))));
    let to = format!("{}/payments", proxy.host());
    repository.site.import["streams"]["payments"]["to"][0]["to"] = to.clone().into();
    let mut receive = repository.site.import(&["receive"]);
    let mut child = receive.arg(&bundle).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while repository.there().iter().filter(|name| name.ends_with("/signature-1")).count() < 3 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(acts(&repository.site), ["created", "begun", "signing"]);
    assert_ne!(repository.state(), "");
    // Others go on meanwhile, and leave these alone.
    repository.import(&["resign"]).expect_code(0);
    assert!(repository.commits().is_empty());
    // With another signature among them, they do not.
    let another = repository.path.join(TREE).join(repository.folder()).join("signature-2");
    fs::write(&another, repository.signature_by(&Key::new(&repository.site.import_dir(), "foreign"))).unwrap();
    repository.site.receive(&bundle, &[]).expect_code(3).expect_stderr("signature-2");
    fs::remove_file(&another).unwrap();
    repository.site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(repository.commits(), ["Import payments-1: 3 signatures"]);
    assert_eq!((repository.committed(), repository.state()), (repository.there(), String::new()));
}

#[test]
fn only_what_an_interrupted_run_announced_is_its_own() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    let site = &mut repository.site;
    // The same image elsewhere, and another one beside it.
    site.list_api_as("payments/web", "1.0");
    site.release["images"].as_array_mut().unwrap().push(format!("{}/payments/api:other", site.origin.host()).into());
    site.origin.load_layout(&fixtures(), BUSYBOX, "payments/api", "other");
    let bundle = site.packed(1);
    let proxy = Proxy::before(&site.production);
    site.import["streams"]["payments"]["to"][0]["to"] = format!("{}/payments", proxy.host()).into();
    proxy.rule(Rule::new(Fault::status(403)).method("PUT").path("/manifests/2.3.1"));
    site.receive(&bundle, &[]).expect_code(1);
    assert_eq!(acts(site), ["created", "begun", "signing"]);
    let another = repository.path.join(TREE).join(repository.folder()).join("signature-2");
    let sign = |name: &str, of: &str| {
        let reference: Reference = format!("{}/{name}", proxy.host()).parse().unwrap();
        let digest = digest(&fixtures(), of);
        repository.site.production_key.secret.sign_simple(&reference, &digest, Timestamp::now(), "test").unwrap()
    };
    for signature in [
        sign(NAME, BUSYBOX),
        sign("payments/api:other", API),
        sign("payments/web:1.0", API),
        sign("payments/api:9", API),
    ] {
        fs::write(&another, signature).unwrap();
        repository.import(&["resign"]).expect_code(3).expect_stderr("signature-2");
    }
    fs::remove_file(&another).unwrap();
    // What is about to be written is left alone.
    fs::write(another.with_file_name(".signature.x"), "").unwrap();
    repository.import(&["resign"]).expect_code(0);
    proxy.clear();
    repository.site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(repository.commits().len(), 1);
}

#[test]
fn without_the_key_what_a_run_announced_is_left_alone_and_nothing_else() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    let site = &mut repository.site;
    let proxy = Proxy::before(&site.production);
    site.import["streams"]["payments"]["to"][0]["to"] = format!("{}/payments", proxy.host()).into();
    site.list_fixtures(&[BUSYBOX]);
    site.receive(&site.packed(1), &[]).expect_code(0);
    site.list_fixtures(&[API]);
    proxy.rule(Rule::new(Fault::status(403)).method("PUT").path("/manifests/2.3.1"));
    site.receive(&site.packed(2), &[]).expect_code(1);
    site.import["production"]["sign"]["key"] = "away.secret.asc".into();
    let busybox = format!("{}/payments/busybox:1.36", proxy.host());
    let elsewhere = Lookaside::path_for(repository.image().repository(), &blobs::sha256(b"x"));
    let elsewhere = repository.path.join(TREE).join(elsewhere);
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("signature-1"), repository.signature_by(&repository.site.production_key)).unwrap();
    let withdraw = ["withdraw", &busybox, "--reason", "CVE-2026-1"];
    repository.import(&withdraw).expect_code(3).expect_stderr("signature-1");
    fs::remove_dir_all(&elsewhere).unwrap();
    repository.import(&withdraw).expect_code(0);
    assert_eq!(repository.commits().len(), 2);
}

#[test]
fn what_is_withdrawn_under_one_name_is_one_commit_and_does_not_stand_for_others() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    repository.site.list_api_as("payments/api", "alias");
    repository.site.list_api_as("payments/web", "1.0");
    repository.site.receive(&repository.site.packed(1), &[]).expect_code(0);
    let host = repository.site.production.host().to_string();
    let withdraw = |name: &str| {
        repository.import(&["withdraw", &format!("{host}/{name}"), "--reason", "a mistake"]).expect_code(0);
        assert!(repository.commits().last().unwrap().starts_with("Withdraw "), "{:?}", repository.commits());
        assert_eq!(repository.state(), "");
    };
    let by_hand = repository.path.join(TREE).join(repository.folder()).join("signature-1");
    withdraw("payments/web:1.0");
    fs::remove_file(&by_hand).unwrap();
    repository.import(&["resign"]).expect_code(3).expect_stderr("signature-1");
    repository.git(&["checkout", "--quiet", "--", "."]);
    withdraw("payments/api:alias");
    // What was withdrawn was the other name.
    let before = repository.commits();
    fs::remove_file(&by_hand).unwrap();
    repository.import(&["resign"]).expect_code(3).expect_stderr("the ledger says nothing of it");
    assert_eq!(repository.commits(), before);
    repository.git(&["checkout", "--quiet", "--", "."]);
    // Its content is as it was committed.
    fs::set_permissions(&by_hand, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    repository.import(&["resign"]).expect_code(3).expect_stderr("signature-1");
}

#[test]
fn what_resign_adds_and_withdraw_removes_is_committed_and_what_stays_moves_up() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    repository.site.list_fixtures(&[API, BUSYBOX]);
    let bundle = repository.site.packed(1);
    repository.site.receive(&bundle, &[]).expect_code(0);
    // Somebody adds a signature of his own, and commits it.
    let kept = repository.signature_by(&Key::new(&repository.site.import_dir(), "kept"));
    let folder = repository.path.join(TREE).join(repository.folder());
    fs::write(folder.join("signature-2"), &kept).unwrap();
    repository.git(&["add", TREE]);
    repository.git(&["commit", "--quiet", "-m", "By hand"]);

    let second = Key::new(&repository.site.import_dir(), "second");
    repository.site.import["production"]["sign"]["key"] = "second.secret.asc".into();
    let files = repository.there().len() - 1;
    repository.import(&["resign"]).expect_code(0);
    assert_eq!(repository.commits().last().unwrap(), &format!("Sign payments-1 again: {files} signatures"));
    assert!(repository.message().contains(&format!("Sealift-Entry: {}", repository.last_entry())));
    assert_eq!((repository.committed(), repository.state()), (repository.there(), String::new()));

    // What was signed again has ended: one more by the same key is somebody else's.
    fs::write(folder.join("signature-4"), repository.signature_by(&second)).unwrap();
    repository.import(&["resign"]).expect_code(3).expect_stderr("signature-4");
    fs::remove_file(folder.join("signature-4")).unwrap();

    let image = repository.image().to_string();
    let before = repository.there();
    let lock = repository.path.join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    repository.import(&["withdraw", &image, "--reason", "CVE-2026-1\nSealift-Entry: 1"]).expect_code(1);
    fs::remove_file(&lock).unwrap();
    // What nobody has withdrawn does not go with it.
    fs::remove_dir_all(&folder).unwrap();
    repository.import(&["resign"]).expect_code(3).expect_stderr("signature-2");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("signature-1"), &kept).unwrap();
    repository.import(&["resign"]).expect_code(0);
    assert_eq!(repository.commits().last().unwrap(), "Withdraw 1 image");
    let message = repository.message();
    assert!(message.contains("Sealift-Reason: CVE-2026-1\\u{a}Sealift-Entry: 1\n"), "{message}");
    assert!(message.contains(&format!("Sealift-Image: {image}@{}\n", digest(&fixtures(), API))), "{message}");
    assert_eq!((repository.committed(), repository.state()), (repository.there(), String::new()));
    let gone: Vec<_> = before.iter().filter(|name| !repository.there().contains(name)).collect();
    assert_eq!(gone.len(), 6, "{gone:?}");
    let stays = run_ok(
        repository.command().args(["show", &format!("HEAD:{TREE}/{}/signature-1", repository.folder().display())]),
    );
    assert_eq!(stays.stdout, String::from_utf8_lossy(&kept));
    run_ok(&mut repository.site.import(&["ledger", "verify"]));
}

#[test]
fn a_withdrawal_that_was_interrupted_is_one_commit_once_it_has_ended() {
    if !need(NEEDS) {
        return;
    }
    let repository = Repository::new();
    let (site, image) = (&repository.site, repository.image().to_string());
    site.receive(&site.packed(1), &[]).expect_code(0);
    let kept: Vec<_> = common::files(&repository.path.join(TREE)).into_iter().collect();
    let lock = repository.path.join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    repository.import(&["withdraw", &image, "--reason", "CVE-2026-1"]).expect_code(1);
    fs::remove_file(&lock).unwrap();
    // As if it had been killed after the first of three.
    for (name, bytes) in &kept[1..] {
        let path = repository.path.join(TREE).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    repository.import(&["resign"]).expect_code(0);
    assert_eq!(repository.commits().len(), 1, "not yet");
    repository.import(&["withdraw", &image, "--reason", "again"]).expect_code(0);
    assert_eq!(repository.commits()[1..], ["Withdraw 1 image"]);
    assert_eq!((repository.committed(), repository.state()), (vec![], String::new()));
}

#[test]
fn a_promotion_is_a_commit_and_what_waits_is_none() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    let (production, staging) = (repository.site.production.host(), testkit::Registry::start());
    repository.site.import["staging"] = json!({
        "to": [{ "from": production, "to": staging.host() }],
        "lookaside": repository.path.join("qa-sigstore"),
    });
    let bundle = repository.site.packed(1);
    repository.site.receive(&bundle, &[]).expect_code(0);
    assert!(repository.commits().is_empty());
    let lock = repository.path.join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    fs::create_dir_all(repository.path.join(TREE)).unwrap();
    fs::write(repository.path.join(TREE).join("notes"), "mine").unwrap();
    repository.import(&["promote", "payments-1"]).expect_code(3).expect_stderr("sigstore/notes");
    assert_eq!(repository.site.production.tags().len(), 0);
    fs::remove_file(repository.path.join(TREE).join("notes")).unwrap();
    let ran = repository.import(&["promote", "payments-1"]).expect_code(1);
    assert!(ran.stderr.contains("published and recorded; its signatures are not committed"), "{ran}");
    fs::remove_file(&lock).unwrap();
    repository.import(&["promote", "payments-1"]).expect_code(0);
    assert_eq!(repository.commits(), ["Import payments-1: 3 signatures"]);
}

#[test]
fn a_station_makes_the_commit_that_is_missing_of_a_bundle_received_before() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    repository.site.import["watch"] = json!({ "into": "production" });
    let bundle = repository.site.packed(1);
    let lock = repository.path.join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    repository.site.receive(&bundle, &[]).expect_code(1);
    fs::remove_file(&lock).unwrap();
    let mut station = repository.site.import(&["receive", "--watch"]);
    let mut child = station.arg(bundle.parent().unwrap()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let since = std::time::Instant::now();
    while repository.commits().is_empty() && since.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(100));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(repository.commits(), ["Import payments-1: 3 signatures"]);
}

#[test]
fn trees_of_two_registries_in_one_repository_change_in_one_commit() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    let second = testkit::Registry::start();
    repository.site.list_fixtures(&[API, BUSYBOX]);
    let stream = &mut repository.site.import["streams"]["payments"];
    let (from, to) = (stream["to"][0]["from"].as_str().unwrap(), stream["to"][0]["to"].as_str().unwrap());
    let busybox = json!({ "from": format!("{from}/busybox"), "to": format!("{}/payments/busybox", second.host()) });
    stream["to"] = json!([{ "from": from, "to": to }, busybox]);
    // The first at the very top of the working tree.
    let trees = [(repository.site.production.host(), ""), (second.host(), "second")];
    let trees = trees.into_iter().map(|(host, folder)| (host.to_string(), json!(repository.path.join(folder))));
    repository.site.import["production"]["lookaside"] = serde_json::Value::Object(trees.collect());
    fs::remove_file(repository.path.join("README")).unwrap();
    repository.git(&["commit", "--quiet", "--all", "-m", "By hand"]);
    let bundle = repository.site.packed(1);
    repository.site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(repository.commits().len(), 2, "{:?}", repository.commits());
    let list = repository.git(&["ls-tree", "-r", "--name-only", "HEAD"]);
    assert!(list.lines().any(|name| name.starts_with("payments/api@sha256=")), "{list}");
    assert!(list.lines().any(|name| name.starts_with("second/payments/busybox@sha256=")), "{list}");
    assert_eq!(repository.state(), "");
}

#[test]
fn nothing_of_the_environment_and_no_hook_has_a_part_in_it() {
    if !need(NEEDS) {
        return;
    }
    let repository = Repository::new();
    let (site, ran) = (&repository.site, repository.site.scratch("ran"));
    for hook in ["pre-commit", "commit-msg", "prepare-commit-msg", "post-commit", "reference-transaction", "pre-push"] {
        use std::os::unix::fs::PermissionsExt;
        let path = repository.path.join(".git/hooks").join(hook);
        fs::write(&path, format!("#!/bin/sh\nenv >{}/{hook}\nexit 1\n", ran.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    // Nor what git is told to pass over.
    fs::write(repository.path.join(".git/info/exclude"), "sigstore\nnotes\n").unwrap();
    fs::create_dir_all(repository.path.join(TREE)).unwrap();
    fs::write(repository.path.join(TREE).join("notes"), "mine").unwrap();
    for (key, value) in [("commit.gpgSign", "true"), ("gpg.program", "false"), ("core.autocrlf", "true")] {
        run_ok(repository.command().args(["config", key, value]));
    }
    let bundle = site.packed(1);
    let elsewhere = site.scratch("elsewhere");
    let mut receive = site.import(&["receive"]);
    receive.arg(&bundle).envs([("GIT_DIR", &elsewhere), ("GIT_INDEX_FILE", &elsewhere.join("index"))]);
    receive.envs([("GIT_WORK_TREE", &elsewhere), ("GIT_OBJECT_DIRECTORY", &elsewhere)]);
    receive.envs([("GIT_AUTHOR_NAME", "Mallory"), ("GIT_AUTHOR_DATE", "2001-01-01T00:00:00Z")]);
    run(&mut receive).expect_code(0);
    assert_eq!(repository.git(&["log", "-1", "--format=%an %cn %G?"]), "Sealift Sealift N");
    assert!(!repository.git(&["log", "-1", "--format=%ad"]).contains("2001"));
    assert_eq!(fs::read_dir(&ran).unwrap().count(), 0, "a hook ran");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    let file = format!("HEAD:{TREE}/{}/signature-1", repository.folder().display());
    let committed = repository.command().args(["cat-file", "blob", &file]).output().unwrap().stdout;
    assert_eq!(committed, fs::read(repository.path.join(TREE).join(repository.folder()).join("signature-1")).unwrap());
}

#[test]
fn each_import_has_a_branch_at_a_remote_repository_and_one_that_is_down_is_pushed_to_later() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    let remote = repository.site.scratch("remote");
    let settings = json!({ "author": "Sealift <sealift@prod.example>", "remote": "origin", "branch": "review/*" });
    repository.site.import["production"]["lookaside_git"] = settings;
    repository.git(&["remote", "add", "origin", remote.join("signatures.git").to_str().unwrap()]);
    let bundle = repository.site.packed(1);
    // Pushing is tried when everything is there, and does not stand in the way of the next import.
    for _ in 0..2 {
        let ran = repository.site.receive(&bundle, &[]).expect_code(1).expect_stderr("`git push` failed");
        assert!(ran.stderr.contains("published and recorded; its signatures are not committed and pushed"), "{ran}");
        assert!(ran.stderr.contains("the signatures are committed, and not pushed"), "{ran}");
    }
    assert_eq!(repository.commits().len(), 1);
    repository.site.receive(&repository.site.packed(2), &[]).expect_code(1).expect_stderr("warning: ");
    assert_eq!(acts(&repository.site).iter().filter(|act| **act == "recorded").count(), 2);
    let home = repository.site.scratch("somebody");
    let bare =
        |args: &[&str]| run_ok(command("git", &home).arg("-C").arg(remote.join("signatures.git")).args(args)).stdout;
    run_ok(repository.command().args(["init", "--quiet", "--bare"]).arg(remote.join("signatures.git")));
    repository.site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(bare(&["for-each-ref", "--format=%(refname)"]), "refs/heads/review/payments-1.entry-4\n");
    assert_eq!(bare(&["rev-parse", "review/payments-1.entry-4"]).trim(), repository.git(&["rev-parse", "HEAD"]));
    // A branch that was merged and removed does not come back.
    bare(&["update-ref", "-d", "refs/heads/review/payments-1.entry-4"]);
    repository.site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(bare(&["for-each-ref"]), "");
    let image = repository.image().to_string();
    repository.import(&["withdraw", &image, "--reason", "CVE-2026-1"]).expect_code(0);
    let branch = format!("refs/heads/review/withdrawn.entry-{}", repository.last_entry());
    assert_eq!(bare(&["for-each-ref", "--format=%(refname)"]).trim(), branch);

    // To one branch: also after a rebase.
    repository.site.import["production"]["lookaside_git"]["branch"] = json!(null);
    repository.git(&["push", "--quiet", "origin", "main"]);
    bare(&["symbolic-ref", "HEAD", "refs/heads/main"]);
    let other = repository.site.scratch("other").join("clone");
    run_ok(repository.command().args(["clone", "--quiet"]).arg(remote.join("signatures.git")).arg(&other));
    fs::write(other.join("README"), "changed").unwrap();
    run_ok(repository.command().current_dir(&other).args(["commit", "--quiet", "--all", "-m", "Elsewhere"]));
    run_ok(repository.command().current_dir(&other).args(["push", "--quiet", "origin", "main"]));
    let allowed = ["--override", "withdrawn", "--reason", "the report was wrong"];
    let third = repository.site.packed(3);
    repository.site.receive(&third, &allowed).expect_code(1).expect_stderr("git pull --rebase");
    repository.git(&["pull", "--quiet", "--rebase", "origin", "main"]);
    repository.site.receive(&third, &allowed).expect_code(0);
    assert_eq!(bare(&["rev-parse", "main"]).trim(), repository.git(&["rev-parse", "HEAD"]));
    assert_eq!(repository.commits().last().unwrap(), "Import payments-3: 3 signatures");
}

#[test]
fn the_branch_of_an_import_ends_with_it() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    let remote = repository.site.scratch("remote").join("signatures.git");
    repository.site.import["production"]["lookaside_git"] =
        json!({ "author": "Sealift <sealift@prod.example>", "remote": remote, "branch": "review/*" });
    repository.site.receive(&repository.site.packed(1), &[]).expect_code(1);
    repository.site.list_fixtures(&[BUSYBOX]);
    repository.site.receive(&repository.site.packed(2), &[]).expect_code(1);
    run_ok(repository.command().args(["init", "--quiet", "--bare"]).arg(&remote));
    repository.import(&["resign"]).expect_code(0);
    let heads = ["HEAD~1", "HEAD"].map(|commit| repository.git(&["rev-parse", commit]));
    let mut list = repository.command();
    let list = run_ok(list.arg("-C").arg(&remote).args(["for-each-ref", "--format=%(objectname)"])).stdout;
    assert_eq!(list.lines().collect::<Vec<_>>(), heads);
}

#[test]
fn a_repository_that_cannot_take_a_commit_is_refused_before_anything_is_published() {
    if !need(NEEDS) {
        return;
    }
    let mut repository = Repository::new();
    let bundle = repository.site.packed(1);
    let before = repository.site.traces();
    let refused = |repository: &Repository, says: &str| {
        repository.site.receive(&bundle, &[]).expect_code(2).expect_stderr(says);
        assert_eq!(repository.site.traces(), before, "{says}");
    };
    let good = repository.site.import["production"].clone();
    let broken = [
        (json!({ "author": "Sealift" }), "expected NAME <ADDRESS>"),
        (json!({ "remote": "--upload-pack=x" }), "is not a remote repository"),
        (json!({ "author": "S <s@x>", "remote": "origin", "branch": "a..b/*" }), "is not the name of a branch"),
        (json!({ "author": "S <s@x>", "remote": "origin", "branch": "-x" }), "is not the name of a branch"),
        (json!({}), "git does not know who the author is"),
    ];
    run_ok(repository.command().args(["config", "user.useConfigOnly", "true"]));
    for (settings, says) in broken {
        repository.site.import["production"]["lookaside_git"] = settings;
        refused(&repository, says);
    }
    // git says that over several lines, some of them empty.
    let ran = repository.site.receive(&bundle, &[]).expect_code(2);
    assert!(ran.stderr.contains("Please tell me who you are") && !ran.stderr.contains("; ;"), "{ran}");
    repository.site.import["production"] = good.clone();
    repository.site.import["production"]["lookaside"] = json!("sigstore/");
    refused(&repository, "expected a folder in a git working tree");
    repository.site.import["production"] = good;
    for attributes in ["* filter=lfs", "sigstore/** text", "signature-* ident"] {
        fs::create_dir_all(repository.path.join("production")).unwrap();
        repository.by_hand("production/.gitattributes", &format!("{attributes}\n"));
        refused(&repository, "git would change signatures");
    }
    let good = "* text=auto filter=lfs\nsignature-* -filter -ident -text -working-tree-encoding\n";
    repository.by_hand("production/.gitattributes", good);
    let head = repository.git(&["rev-parse", "HEAD"]);
    for name in ["MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply"] {
        let path = repository.path.join(".git").join(name);
        fs::write(&path, &head).unwrap();
        refused(&repository, "is in progress");
        fs::remove_file(path).unwrap();
    }
    repository.git(&["checkout", "--quiet", "--detach"]);
    repository.site.import["production"]["lookaside_git"]["remote"] = json!("origin");
    refused(&repository, "no branch is checked out");
    // Without a remote any commit will do, and the flags say the same.
    repository.site.import["production"].as_object_mut().unwrap().remove("lookaside_git");
    repository.site.receive(&bundle, &["--git-author", "Ada <ada@prod.example>"]).expect_code(0);
    assert_eq!(repository.commits().last().unwrap(), "Import payments-1: 3 signatures");
}

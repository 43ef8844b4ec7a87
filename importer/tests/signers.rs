//! Several release signers: on one machine, and each on their own.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::shows_no_control_characters;
use serde_json::json;
use testkit::hostile::{self, MANIFEST};
use testkit::layout::{API, BUSYBOX, fixtures};
use testkit::{Gpg, Key, Ran, Site, need, run};

/// A site that demands two of three signers.
struct Board {
    site: Site,
    alice: Key,
    bob: Key,
}

impl Board {
    fn new() -> Self {
        let mut site = Site::new();
        let folder = site.scratch("keys");
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| Key::new(&folder, name));
        for key in [&alice, &bob, &carol] {
            let name = key.certificate_file.file_name().unwrap();
            fs::copy(&key.certificate_file, site.import_dir().join("trust").join(name)).unwrap();
        }
        fs::remove_file(site.import_dir().join("trust/release.asc")).unwrap();
        site.import["streams"]["payments"]["release"] = json!({ "certificates": ["trust"], "threshold": 2 });
        site.release.as_object_mut().unwrap().remove("sign");
        Self { site, alice, bob }
    }

    /// A machine of its own: a folder with a home, and no registry.
    fn machine(&self, name: &str, args: &[&str]) -> Ran {
        let folder = self.site.scratch(name);
        run(testkit::sealift_export(&folder.join("home")).current_dir(&folder).args(args))
    }

    fn plan(&self, name: &str) -> PathBuf {
        let folder = self.site.scratch("plans").join(name);
        run(self.site.export(&["plan", "--sequence", "42", "--write"]).arg(&folder)).expect_code(0);
        folder
    }

    fn pack_plan(&self, plan: &Path, args: &[&str]) -> Ran {
        run(self.site.export(&["pack"]).arg(plan).arg("--output").arg(self.site.media()).args(args))
    }

    fn bundle(&self) -> PathBuf {
        self.site.media().join("payments-42")
    }
}

fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Copies a plan as people do: into a folder of another machine.
fn copy(from: &Path, to: PathBuf) -> PathBuf {
    fs::create_dir_all(&to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    to
}

#[test]
fn two_distinct_signers_satisfy_a_threshold_of_two() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut board = Board::new();
    let (alice, bob) = (board.alice.secret_file.clone(), board.bob.secret_file.clone());
    let twice = board.site.pack(42, &["--sign-key", arg(&alice), "--sign-key", arg(&alice)]).expect_code(2);
    twice.expect_stderr("is named twice");
    board.site.pack(41, &["--sign-key", arg(&alice)]).expect_code(0);
    let alone = board.site.receive(&board.site.media().join("payments-41"), &[]).expect_code(3);
    alone.expect_stderr("1 of 2 required signatures");

    board.site.release["sign"] = json!([{ "key": alice }, { "key": bob }]);
    let bundle = board.site.packed(42);
    let label = fs::read_to_string(bundle.join("LABEL.txt")).unwrap();
    for key in [&board.alice, &board.bob] {
        assert!(label.contains(&format!("Signed by:   {}", key.fingerprint)), "{label}");
    }

    // The same signer twice is one signer: in the seal, and in the manifest.
    let once = board.site.copy(&bundle, "once");
    let seal = fs::read(once.join("SHA256SUMS")).unwrap();
    let by_alice = [board.alice.sign(&seal), board.alice.sign(&seal)].concat();
    fs::write(once.join("SHA256SUMS.asc"), by_alice).unwrap();
    board.site.receive(&once, &[]).expect_code(3).expect_stderr("which counts once");
    let once = board.site.copy(&bundle, "once-inside");
    let mut opened = common::open(&board.site, &once);
    opened.sign_manifest(&|bytes| [board.alice.sign(bytes), board.alice.sign(bytes)].concat());
    opened.encrypt(&board.site.identity);
    hostile::reseal(&once, &|bytes| [board.alice.sign(bytes), board.bob.sign(bytes)].concat());
    let refused = board.site.receive(&once, &[]).expect_code(3).expect_stderr("the manifest is not signed");
    refused.expect_stderr("which counts once");

    board.site.receive(&bundle, &[]).expect_code(0);
}

#[test]
fn signers_on_several_machines_release_together() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut board = Board::new();
    board.site.release["labels"] = json!({ "ticket": "CHG-1" });
    let plan = board.plan("p");
    let again = run(board.site.export(&["plan", "--sequence", "42", "--write"]).arg(&plan)).expect_code(2);
    again.expect_stderr("is already there");

    // Each signer has a copy, a key, and nothing else; what they sign is shown.
    let (at_alice, at_bob) = (copy(&plan, board.site.scratch("alice/p")), copy(&plan, board.site.scratch("bob/p")));
    let shown = board.machine("alice", &["sign", "p", "--sign-key", arg(&board.alice.secret_file)]).expect_code(0);
    let digest = testkit::layout::digest(&fixtures(), API).to_string();
    for words in [digest.as_str(), "payments/api:2.3.1", &board.site.recipient, "ticket: CHG-1", "signed: "] {
        assert!(shown.stdout.contains(words), "{words}\n{shown}");
    }
    shows_no_control_characters(&shown).unwrap();
    let again = board.machine("alice", &["sign", "p", "--sign-key", arg(&board.alice.secret_file)]).expect_code(0);
    assert!(again.stdout.contains("already signed"), "{again}");
    let said =
        board.machine("bob", &["sign", "p", "--json", "--sign-key", arg(&board.bob.secret_file)]).expect_code(0).json();
    assert_eq!(said["signers"], json!([{ "key": board.bob.fingerprint, "result": "signed" }]));
    copy(&at_alice, plan.clone());
    copy(&at_bob, plan.clone());

    // The tag moves after the plan; what was planned is packed. The seal needs somebody who can sign here.
    board.site.origin.load_layout(&fixtures(), BUSYBOX, "payments/api", "2.3.1");
    let nobody = board.pack_plan(&plan, &[]).expect_code(2);
    nobody.expect_stderr("the seal needs the signature of a release key").expect_stderr("hint: ");
    let changed = board.pack_plan(&plan, &["--label", "a=b", "--sign-key", arg(&board.alice.secret_file)]);
    changed.expect_code(2).expect_stderr("--label would change the plan");
    board.pack_plan(&plan, &["--sign-key", arg(&board.alice.secret_file)]).expect_code(0);
    let bundle = board.bundle();
    let label = fs::read_to_string(bundle.join("LABEL.txt")).unwrap();
    assert!(label.contains(&board.alice.fingerprint) && label.contains(&board.bob.fingerprint), "{label}");
    let opened = common::open(&board.site, &bundle);
    assert_eq!(opened.content(MANIFEST), fs::read(plan.join("manifest.json")).unwrap());
    assert_eq!(opened.manifest()["images"][0]["digest"], digest);
    board.site.receive(&bundle, &[]).expect_code(3).expect_stderr("the seal is not signed");

    // Bob signs the seal, holding it against the plan he signed; then there are two.
    let seal = ["sign", arg(&bundle), "--plan", "p", "--sign-key", arg(&board.bob.secret_file)];
    let shown = board.machine("bob", &seal).expect_code(0);
    assert!(shown.stdout.contains("revision 1") && shown.stdout.contains("[ticket]:    CHG-1"), "{shown}");
    assert!(board.machine("bob", &seal).expect_code(0).stdout.contains("already signed"));
    let again = board.pack_plan(&plan, &["--sign-key", arg(&board.alice.secret_file)]).expect_code(0);
    assert!(again.stdout.contains("already packed"), "{again}");
    board.site.receive(&bundle, &[]).expect_code(0);
    let shown = run(&mut board.site.import(&["ledger", "show", "payments-42"])).expect_code(0);
    assert!(
        shown.stdout.contains(&board.alice.fingerprint) && shown.stdout.contains(&board.bob.fingerprint),
        "{shown}"
    );
}

#[test]
fn what_was_changed_after_the_plan_is_not_packed() {
    if !need(Site::NEEDS) {
        return;
    }
    let board = Board::new();
    let alice = ["--sign-key", arg(&board.alice.secret_file)];
    let plan = board.plan("p");
    let sign = |plan: &Path| board.machine("alice", &["sign", arg(plan), "--sign-key", arg(&board.alice.secret_file)]);
    sign(&plan).expect_code(0);

    // A byte of the manifest, for whoever signs or packs next.
    let changed = copy(&plan, board.site.scratch("plans/changed"));
    let text = fs::read_to_string(changed.join("manifest.json")).unwrap();
    let edited = text.replacen("\"sequence\":42", "\"sequence\":43", 1);
    assert_ne!(text, edited);
    fs::write(changed.join("manifest.json"), &edited).unwrap();
    sign(&changed).expect_code(3).expect_stderr("changed since it was planned");
    board.pack_plan(&changed, &alice).expect_code(3).expect_stderr("changed since it was planned");

    // The same by somebody who knows where the digest stands: the signatures are over something else.
    let forged = copy(&changed, board.site.scratch("plans/forged"));
    let digest = |text: &str| blobs::sha256(text.as_bytes()).to_string();
    let fixed = fs::read_to_string(plan.join("sealift-plan.json")).unwrap().replace(&digest(&text), &digest(&edited));
    fs::write(forged.join("sealift-plan.json"), fixed).unwrap();
    board.pack_plan(&forged, &alice).expect_code(3).expect_stderr("not a good signature over this plan's manifest");
    sign(&forged).expect_code(3).expect_stderr("not a good signature over this plan's manifest");

    // Sources that give something else.
    let moved = copy(&plan, board.site.scratch("plans/moved"));
    let other = testkit::layout::digest(&fixtures(), BUSYBOX).to_string();
    board.site.origin.load_layout(&fixtures(), BUSYBOX, "payments/api", "other");
    let own = testkit::layout::digest(&fixtures(), API).to_string();
    let fixed = fs::read_to_string(plan.join("sealift-plan.json")).unwrap().replace(&own, &other);
    fs::write(moved.join("sealift-plan.json"), fixed).unwrap();
    board.pack_plan(&moved, &alice).expect_code(3).expect_stderr("payments-42 is not what was planned any more");

    // A signature of another plan, or with another's certificate, under a signer's name.
    let other = board.plan("other");
    let signature = |plan: &Path| plan.join(format!("{}.signature.asc", board.alice.fingerprint));
    sign(&other).expect_code(0);
    let stolen = copy(&plan, board.site.scratch("plans/stolen"));
    fs::copy(signature(&other), signature(&stolen)).unwrap();
    board.pack_plan(&stolen, &alice).expect_code(3).expect_stderr("not a good signature over this plan's manifest");
    let renamed = copy(&plan, board.site.scratch("plans/renamed"));
    let bob = |end: &str| renamed.join(format!("{}.{end}.asc", board.bob.fingerprint));
    fs::copy(signature(&plan), bob("signature")).unwrap();
    board.pack_plan(&renamed, &alice).expect_code(2).expect_stderr(".certificate.asc");
    fs::copy(&board.alice.certificate_file, bob("certificate")).unwrap();
    board.pack_plan(&renamed, &alice).expect_code(3).expect_stderr("not the certificate of the fingerprint");
    fs::copy(&board.bob.certificate_file, bob("certificate")).unwrap();
    board.pack_plan(&renamed, &alice).expect_code(3).expect_stderr("unknown key");

    // An expired signer is told so here, not on the other side.
    let (created, expires) = ("2024-01-01T00:00:00Z", Some("2025-01-01T00:00:00Z"));
    let old = Key::with(&board.site.scratch("keys"), "old", created, expires);
    let late = copy(&plan, board.site.scratch("plans/late"));
    let bytes = fs::read(late.join("manifest.json")).unwrap();
    let backdated = old.secret.sign_detached_at(&bytes, "2024-06-01T00:00:00Z".parse().unwrap()).unwrap();
    fs::write(late.join(format!("{}.signature.asc", old.fingerprint)), backdated).unwrap();
    fs::copy(&old.certificate_file, late.join(format!("{}.certificate.asc", old.fingerprint))).unwrap();
    board.pack_plan(&late, &alice).expect_code(3).expect_stderr("the key expired on 2025-01-01");
    assert!(!board.bundle().exists());
    board.pack_plan(&plan, &alice).expect_code(0);
}

#[test]
fn a_seal_is_signed_only_over_the_files_that_are_there() {
    if !need(Site::NEEDS) {
        return;
    }
    let board = Board::new();
    let (plan, other) = (board.plan("p"), board.plan("other"));
    board.pack_plan(&plan, &["--sign-key", arg(&board.alice.secret_file)]).expect_code(0);
    let bob = arg(&board.bob.secret_file);
    let sign = |bundle: &Path, args: &[&str]| {
        board.machine("bob", &[&["sign", arg(bundle), "--sign-key", bob], args].concat())
    };
    let case = |name: &str, change: &dyn Fn(&Path)| {
        let folder = board.site.copy(&board.bundle(), name);
        change(&folder);
        folder
    };
    let before = fs::read(board.bundle().join("SHA256SUMS.asc")).unwrap();
    // Of the same bundle id, but with a label more.
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(plan.join("manifest.json")).unwrap()).unwrap();
    let same = board.site.scratch("plans").join("same");
    let id = manifest["bundle"].as_str().unwrap();
    run(board.site.export(&["plan", "--sequence", "42", "--bundle-id", id, "--label", "a=b", "--write"]).arg(&same))
        .expect_code(0);
    for plan in [&other, &same] {
        sign(&board.bundle(), &["--plan", arg(plan)]).expect_code(3).expect_stderr("not packed from this plan");
    }
    let flipped = case("flipped", &|f| hostile::flip_bit(&hostile::volume_file(f, 1)));
    sign(&flipped, &[]).expect_code(4).expect_stderr("missing or damaged");
    let missing = case("missing", &|f| fs::remove_file(f.join("LABEL.txt")).unwrap());
    sign(&missing, &[]).expect_code(4).expect_stderr("LABEL.txt");
    let unsigned = case("unsigned", &|f| fs::remove_file(f.join("SHA256SUMS.asc")).unwrap());
    sign(&unsigned, &[]).expect_code(3).expect_stderr("there is no seal");
    let garbled = case("garbled", &|f| {
        let name = f.join("SHA256SUMS.asc");
        let text = fs::read_to_string(&name).unwrap();
        fs::write(&name, format!("note\n{text}")).unwrap();
    });
    sign(&garbled, &[]).expect_code(3).expect_stderr("the signatures cannot be joined");
    let edited = case("edited", &|f| hostile::edit_seal(f, |text| text.replace("LABEL.txt", "LABEL.md")));
    sign(&edited, &[]).expect_code(3).expect_stderr("SHA256SUMS, line 2");
    sign(&board.site.scratch("empty"), &[]).expect_code(2).expect_stderr("neither a plan");
    assert_eq!(fs::read(board.bundle().join("SHA256SUMS.asc")).unwrap(), before);
    // The other signer's own file is no signature of Bob's over the manifest: two have signed the seal, one the manifest.
    sign(&board.bundle(), &["--plan", arg(&plan)]).expect_code(0);
    let refused = board.site.receive(&board.bundle(), &[]).expect_code(3);
    refused.expect_stderr("the manifest is not signed as stream payments demands");
}

#[test]
fn keys_in_gpg_agent_release_and_sign_for_production() {
    if !need(&[Site::NEEDS, &["gpg", "gpg-agent", "skopeo"]].concat()) {
        return;
    }
    let mut site = Site::new();
    let (gpg, production) = (Gpg::new(), Gpg::new());
    let [first, second] =
        ["rsa3072", "ed25519"].map(|algorithm| gpg.generate(&format!("{algorithm} <r@example.com>"), algorithm));
    let third = production.generate("production <p@example.com>", "rsa3072");
    for key in [&first, &second] {
        fs::write(site.import_dir().join(format!("trust/{key}.asc")), gpg.export(key)).unwrap();
    }
    site.import["streams"]["payments"]["release"] =
        json!({ "certificates": [format!("trust/{first}.asc"), format!("trust/{second}.asc")], "threshold": 2 });
    site.import["production"]["sign"] = json!({ "by": third });
    site.release["sign"] = json!([{ "by": first }, { "by": second }]);
    let export = |args: &[&str]| run(site.export(args).env("GNUPGHOME", gpg.home()).arg("--output").arg(site.media()));
    let nowhere = run(site.export(&["pack", "--sequence", "1"]).env("GNUPGHOME", production.home())).expect_code(2);
    nowhere.expect_stderr("GnuPG's keyring has no certificate").expect_stderr("hint: check the fingerprint");
    export(&["pack", "--sequence", "41", "--sign-by", &second]).expect_code(0);
    site.receive(&site.media().join("payments-41"), &[]).expect_code(3).expect_stderr("1 of 2 required");
    export(&["pack", "--sequence", "42"]).expect_code(0);

    let bundle = site.media().join("payments-42");
    let receive =
        |args: &[&str]| run(site.import(&["receive"]).arg(&bundle).env("GNUPGHOME", production.home()).args(args));
    let key = arg(&site.production_key.secret_file).to_string();
    receive(&["--sign-by", &third, "--sign-key", &key]).expect_code(2).expect_stderr("several signing keys");
    receive(&["--sign-certificate", &key]).expect_code(2).expect_stderr("goes with --sign-by only");
    receive(&[]).expect_code(0);
    fs::write(&site.production_key.certificate_file, production.export(&third)).unwrap();
    let tags = site.production.tags();
    let (repository, tag) = tags.keys().next().unwrap().rsplit_once(':').unwrap();
    site.skopeo_verifies(repository, tag).expect_code(0);

    // A release key cannot sign for production, wherever it is held.
    site.import["production"]["sign"] = json!({ "by": first });
    fs::remove_dir_all(site.media().join("payments-42")).unwrap();
    run(site.export(&["pack", "--sequence", "43"]).env("GNUPGHOME", gpg.home()).arg("--output").arg(site.media()))
        .expect_code(0);
    let ran = run(site.import(&["receive"]).arg(site.media().join("payments-43")).env("GNUPGHOME", gpg.home()));
    ran.expect_code(2).expect_stderr("each role needs a key of its own");

    for (sign, words) in [
        (json!({ "key": "a", "by": first }), "either `key: FILE`, or `by: FINGERPRINT`"),
        (json!({}), "either `key: FILE`, or `by: FINGERPRINT`"),
        (json!({ "by": "abc" }), "not a key fingerprint"),
        (json!([{ "key": "a", "card": 1 }]), "card"),
        (json!("release.asc"), "a list of keys"),
    ] {
        site.release["sign"] = sign;
        run(&mut site.export(&["pack", "--sequence", "44"])).expect_code(2).expect_stderr(words);
    }
}

#[test]
fn a_passphrase_file_unlocks_a_key_in_gpg_agent() {
    if !need(&[Site::NEEDS, &["gpg", "gpg-agent"]].concat()) {
        return;
    }
    let mut site = Site::new();
    let gpg = Gpg::new();
    let make =
        ["--passphrase", "correct horse", "--quick-generate-key", "locked <l@example.com>", "ed25519", "sign", "never"];
    testkit::run_ok(gpg.command().args(make));
    let listed = testkit::run_ok(gpg.command().args(["--with-colons", "--list-secret-keys"])).stdout;
    let key = listed.lines().find_map(|l| l.strip_prefix("fpr:")).unwrap().trim_matches(':').to_string();
    testkit::run_ok(&mut gpg.with_home("gpgconf", &["--kill", "gpg-agent"]));
    fs::write(site.import_dir().join("trust/release.asc"), gpg.export(&key)).unwrap();
    fs::write(site.export_dir().join("passphrase"), "correct horse\n").unwrap();
    site.release["sign"] = json!({ "by": key });
    let pack = |site: &Site, variable: &str| {
        let mut pack = site.export(&["pack", "--sequence", "42", "--output"]);
        pack.arg(site.media()).env("GNUPGHOME", gpg.home());
        if !variable.is_empty() {
            pack.env("SEALIFT_SIGN_PASSPHRASE", variable);
        }
        run(&mut pack)
    };
    // No terminal for the agent's own pinentry; a wrong one; the right one.
    pack(&site, "").expect_code(2).expect_stderr("gpg-agent has no way to ask").expect_stderr("GPG_TTY");
    let wrong = pack(&site, "wrong").expect_code(2).expect_stderr("wrong passphrase");
    assert!(!wrong.stderr.contains("correct"), "{wrong}");
    site.release["sign"]["passphrase_file"] = "passphrase".into();
    pack(&site, "").expect_code(0);
    site.receive(&site.media().join("payments-42"), &[]).expect_code(0);
}

//! The keys of a ledger, and ledgers made or copied: `certify`, `rotate-key`, `create`, `backup`, `init`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use importer::access::stamp;
use ledger::{Act, Begun};
use manifest_schema::Timestamp;
use signing::Certificates;
use testkit::{Gpg, Key, need, run};

use crate::{Desk, bring_in, digest, first, subject, text};

/// Whether a certificate of one file is certified by a certificate of another.
fn certified(desk: &Desk, file: &str, by: &str) -> bool {
    let load = |name: &str| Certificates::load(&[desk.file(name)]).unwrap();
    let certificates = load(file);
    let key = certificates.fingerprints().remove(0);
    certificates.certified_by(&key, &load(by), manifest_schema::Timestamp::now()).is_ok()
}

#[test]
fn init_has_the_production_key_certify_the_ledger_key() {
    let desk = Desk::new();
    assert!(certified(&desk, "ledger.asc", "production.asc"));
    let created = desk.read().entry(first()).unwrap().unwrap().entry.act;
    let production = Certificates::load(&[desk.file("production.asc")]).unwrap().fingerprints().remove(0);
    assert!(matches!(&created, Act::Created(c) if c.production.as_ref().unwrap().as_str() == production.as_str()));
    // What the ledger hands out carries it from the first entry on.
    let proof = desk.prove("1", "proof.json");
    desk.elsewhere(&["check-proof", text(&proof), "--certificate", text(&desk.file("production.asc"))]).expect_code(0);
}

#[test]
fn init_with_a_production_key_of_its_own_asks_it_to_certify_or_says_what_to_do() {
    if !need(&["gpg"]) {
        return;
    }
    let desk = Desk::new();
    let init = |folder: &str, key: &std::path::Path| {
        let args = ["init", folder, "--no-passphrase", "--algorithm", "p256", "--sign-key", text(key)];
        run(&mut desk.import(&args))
    };
    let given = Key::new(&desk.dir(), "given");
    init("with-given", &given.secret_file).expect_code(0);
    assert!(certified(&desk, "with-given/ledger.asc", "given.asc"));

    // A file with the secret of a signing subkey only: the primary key is in a safe.
    let gpg = Gpg::new();
    let key = gpg.generate("production <production@example.com>", "rsa3072");
    testkit::run_ok(gpg.command().args(["--passphrase", "", "--quick-add-key", &key, "rsa3072", "sign", "never"]));
    let subkeys = testkit::run_ok(gpg.command().args(["--armor", "--export-secret-subkeys", &key])).stdout;
    let file = desk.file("subkey.secret.asc");
    fs::write(&file, subkeys).unwrap();
    let made = init("with-subkey", &file).expect_code(0);
    assert!(made.stderr.contains("warning: the ledger key cannot be certified by the production key"), "{made}");
    assert!(made.stderr.contains("--quick-sign-key"), "{made}");
    assert!(desk.file("with-subkey/import.yaml").exists());
    // As the hint says.
    gpg.import(&fs::read(desk.file("with-subkey/ledger.asc")).unwrap());
    let ledger = Certificates::load(&[desk.file("with-subkey/ledger.asc")]).unwrap().fingerprints().remove(0);
    testkit::run_ok(gpg.command().args(["--yes", "-u", &key, "--quick-sign-key", ledger.as_str()]));
    fs::write(desk.file("with-subkey/ledger.asc"), gpg.export(ledger.as_str())).unwrap();
    fs::write(desk.file("primary.asc"), gpg.export(&key)).unwrap();
    let in_it = |args: &[&str]| run(desk.import(&["ledger"]).current_dir(desk.file("with-subkey")).args(args));
    in_it(&["prove", "1", "-o", "proof.json"]).expect_code(0);
    in_it(&["check-proof", "proof.json", "--certificate", "../primary.asc"]).expect_code(0);

    // Before anything is made.
    let broken = desk.file("broken.secret.asc");
    fs::write(&broken, "no key").unwrap();
    init("with-broken", &broken).expect_code(2);
    assert!(!desk.file("with-broken/enclave.key").exists() && !desk.file("with-broken/ledger.db").exists());
}

#[test]
fn a_certificate_file_of_another_key_or_with_a_revocation_is_refused() {
    let desk = Desk::new();
    desk.keygen("ledger", "other");
    let wrong = desk.ledger(&["certify", "--ledger-certificate", "other/ledger.asc"]).expect_code(2);
    wrong
        .expect_stderr("other/ledger.asc: not the certificate of the ledger key")
        .expect_stderr("hint: name the right file");
    let honest = fs::read(desk.file("ledger.asc")).unwrap();
    let revoked = [honest.clone(), fs::read(desk.file("ledger.revocation.asc")).unwrap()].concat();
    fs::write(desk.file("ledger.asc"), revoked).unwrap();
    for command in [&["certify"][..], &["adopt", "--reason", "x"]] {
        desk.ledger(command).expect_code(2).expect_stderr("the key was revoked");
    }
    fs::write(desk.file("ledger.asc"), honest).unwrap();
    desk.ledger(&["certify", "--sign-key", "ledger.secret.asc"]).expect_code(2).expect_stderr("two roles");
    desk.ledger(&["certify"]).expect_code(0);
    fs::copy(desk.file("ledger.secret.asc"), desk.file("plain.key")).unwrap();
    let nowhere = desk.ledger(&["certify", "--ledger-key", "plain.key"]).expect_code(2);
    nowhere.expect_stderr("a file for the ledger key's certificate is missing").expect_stderr("--ledger-certificate");
    desk.ledger(&["certify", "--ledger-key", "plain.key", "--ledger-certificate", "new.asc"]).expect_code(2);
    desk.ledger(&["certify", "--ledger-key", "plain.key", "--ledger-certificate", "ledger.asc"]).expect_code(0);
}

#[test]
fn the_ledger_key_is_changed_with_both_signatures() {
    // As large as keys get: a key change holds two certificates and two signatures.
    let desk = Desk::with(&["--algorithm", "rsa4096"]);
    let old = desk.read().key().unwrap().unwrap();
    let args = ["keygen", "ledger", "--no-passphrase", "--algorithm", "rsa4096", "-o", "new"];
    testkit::run_ok(&mut desk.import(&args));
    let new = desk.file("new/ledger.secret.asc");
    desk.ledger(&["rotate-key"]).expect_code(2);
    desk.ledger(&["rotate-key", "--new-key", "ledger.secret.asc"])
        .expect_code(2)
        .expect_stderr("signs the ledger's heads already");
    // Nobody else's: neither is it certified.
    let others = desk.file("approvers");
    fs::create_dir_all(&others).unwrap();
    let approver = testkit::Key::new(&others, "ada");
    let certificate = fs::read(&approver.certificate_file).unwrap();
    let config = fs::read_to_string(desk.file("import.yaml")).unwrap();
    fs::write(desk.file("import.yaml"), format!("{config}\napprovers: {{certificates: [approvers/ada.asc]}}\n"))
        .unwrap();
    desk.ledger(&["rotate-key", "--new-key", text(&approver.secret_file)])
        .expect_code(2)
        .expect_stderr("configured for two roles, ledger and approver");
    desk.ledger(&["certify", "--ledger-key", text(&approver.secret_file)])
        .expect_code(2)
        .expect_stderr("configured for two roles, ledger and approver");
    assert_eq!(fs::read(&approver.certificate_file).unwrap(), certificate);
    assert_eq!(desk.read().key().unwrap().unwrap(), old);
    let said = desk.ledger(&["rotate-key", "--new-key", text(&new)]).expect_code(0);
    assert!(said.stderr.contains(&format!("sign: {{key: {}}}", new.display())), "{said}");
    let key = desk.read().key().unwrap().unwrap();
    assert_ne!(key, old);
    assert!(certified(&desk, "new/ledger.asc", "production.asc"));
    desk.ledger(&["verify", "--certificate", "production.asc"]).expect_code(0);
    let entry = desk.read().entry(2.try_into().unwrap()).unwrap().unwrap().entry;
    let Act::KeyChanged(changed) = entry.act else { panic!("{:?}", entry.act) };
    let certificates = Certificates::from_bytes(changed.certificates.raw().as_bytes(), &new).unwrap();
    assert_eq!(certificates.count(), 2);
    let trust = signing::Trust::new(certificates, 2, manifest_schema::Timestamp::now()).unwrap();
    let statement = trust.verify_statement(changed.file.raw().as_bytes(), 1 << 20).unwrap();
    assert_eq!(statement.signers().len(), 2);
    // The old key writes no more, the new one does.
    let config = fs::read_to_string(desk.file("import.yaml")).unwrap();
    desk.ledger(&["certify"]).expect_code(2).expect_stderr(&format!("its heads are signed by key {key}, given {old}"));
    fs::write(desk.file("import.yaml"), config.replace("key: \"ledger.secret.asc\"", "key: new/ledger.secret.asc"))
        .unwrap();
    desk.ledger(&["certify"]).expect_code(0);
}

#[test]
fn a_ledger_is_made_alone_with_a_key_that_is_there_or_a_new_one() {
    let desk = Desk::new();
    let ledger = |args: &[&str]| desk.ledger(&[&["create"], args].concat());
    ledger(&[]).expect_code(2).expect_stderr("ledger.db: exists already");
    // With the keys of the configuration.
    let made = ledger(&["--ledger", "second.db", "--config", "import.yaml"]).expect_code(0);
    assert!(made.stderr.contains("under `ledger:`: id: "), "{made}");
    let id = made.stdout.trim();
    desk.ledger(&["verify", "--ledger", "second.db", "--ledger-id", id, "--certificate", "production.asc"])
        .expect_code(0);
    assert!(desk.file("second.db.head").exists());
    // With a new one, beside the ledger; certified, if a production key is named.
    fs::create_dir(desk.file("third")).unwrap();
    let new = ["--ledger", "third/ledger.db", "--no-passphrase", "--algorithm", "p256"];
    let made = ledger(&[&new[..], &["--sign-key", "production.secret.asc", "--json"]].concat()).expect_code(0);
    assert!(made.json()["ledger"].is_string() && desk.file("third/ledger.revocation.asc").exists());
    assert!(certified(&desk, "third/ledger.asc", "production.asc"));
    ledger(&new).expect_code(2).expect_stderr("exists already");
    fs::create_dir(desk.file("fourth")).unwrap();
    let new = ["--ledger", "fourth/ledger.db", "--no-passphrase", "--algorithm", "p256"];
    ledger(&new).expect_code(0).expect_stderr("warning: no production key certifies the ledger key");
    fs::remove_file(desk.file("fourth/ledger.db")).unwrap();
    ledger(&new).expect_code(2).expect_stderr("fourth/ledger.secret.asc: is already there");
}

#[test]
fn a_backup_is_verified_and_can_be_gone_on_with() {
    let desk = Desk::new();
    bring_in(&mut desk.open(), "payments", 1);
    let writer = desk.open();
    let copy = desk.file("copy.db");
    let said = desk.ledger(&["backup", text(&copy)]).expect_code(0);
    let head = desk.read().head().unwrap();
    assert!(said.stdout.contains("4 entries up to") && said.stdout.contains(&head.hash.to_string()), "{said}");
    drop(writer);
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    desk.ledger(&["backup", text(&copy)]).expect_code(2).expect_stderr("exists already");
    let json = desk.ledger(&["backup", "other.db", "--json"]).expect_code(0).json();
    assert_eq!(json["head"]["hash"], head.hash.to_string());
    desk.ledger(&["verify", "--ledger", text(&copy), "--certificate", "production.asc"]).expect_code(0);
    desk.ledger(&["prove", &digest("index payments 1").to_string(), "--ledger", text(&copy)]).expect_code(0);
    // Put back, it lacks what came since; that has to be said once.
    bring_in(&mut desk.open(), "payments", 2);
    for end in ["-wal", "-shm"] {
        let _ = fs::remove_file(desk.file(&format!("ledger.db{end}")));
    }
    fs::copy(&copy, desk.file("ledger.db")).unwrap();
    desk.ledger(&["certify"]).expect_code(1).expect_stderr("put back from an old copy");
    desk.ledger(&["adopt", "--reason", "restored"]).expect_code(0);
    bring_in(&mut desk.open(), "payments", 3);
    desk.ledger(&["verify"]).expect_code(0);
}

/// All of a ledger's files.
type Files = Vec<(PathBuf, Vec<u8>)>;

/// A ledger whose key ends in some seconds, and what was made with it in its time: a head (`kept`), a proof, the ledger as it was,
/// and as it was once a third key had taken over; and a writer that still holds it. None if that took too long.
struct Ending {
    desk: Desk,
    ends: Timestamp,
    saved: Files,
    changed_in_time: Files,
    writer: ledger::Ledger,
}

impl Ending {
    fn within(seconds: i64) -> Option<Self> {
        let desk = Desk::new();
        let ends = Timestamp::from_unix(Timestamp::now().unix() + seconds).unwrap();
        let in_time = |ran: testkit::Ran| (Timestamp::now() < ends).then(|| ran.expect_code(0));
        let until = ends.to_string();
        let args =
            ["keygen", "ledger", "--no-passphrase", "--algorithm", "rsa3072", "--expires", &until, "-o", "short"];
        in_time(testkit::run(&mut desk.import(&args)))?;
        in_time(desk.ledger(&["rotate-key", "--new-key", "short/ledger.secret.asc"]))?;
        let config = fs::read_to_string(desk.file("import.yaml")).unwrap();
        let config = config.replace("key: \"ledger.secret.asc\"", "key: short/ledger.secret.asc");
        fs::write(desk.file("import.yaml"), config).unwrap();
        fs::write(desk.file("kept"), in_time(desk.ledger(&["head"]))?.stdout).unwrap();
        in_time(desk.ledger(&["prove", "1", "-o", "proof.json"]))?;
        let saved = desk.save();
        let third = desk.keygen("ledger", "third");
        in_time(desk.ledger(&["rotate-key", "--new-key", text(&third)]))?;
        let changed_in_time = desk.save();
        desk.put_back(&saved);
        let writer = (Timestamp::now() < ends).then(|| desk.try_open_with("short/ledger.secret.asc").ok())??;
        (Timestamp::now() < ends).then_some(Self { desk, ends, saved, changed_in_time, writer })
    }
}

#[test]
fn a_ledger_whose_key_has_expired_is_read_and_goes_on_with_the_key_extended() {
    if !need(&["gpg"]) {
        return;
    }
    let ending = [8, 40, 200].into_iter().find_map(Ending::within).expect("this machine is too slow");
    let Ending { desk, ends, saved, changed_in_time, mut writer } = ending;
    let (key, third) = (desk.file("short/ledger.secret.asc"), desk.file("third/ledger.secret.asc"));
    let proof = desk.file("proof.json");
    while Timestamp::now() <= ends {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }

    // Who holds the ledger when the key ends writes no more: nobody would believe the head.
    let subject = subject("payments", 1);
    let begun = Begun { subject: subject.clone(), signed: Some(Timestamp::now()), newest_signed: None };
    let refused = writer.begin(&stamp().unwrap(), begun);
    assert!(matches!(&refused, Err(ledger::Error::Key { .. })), "{refused:?}");
    assert!(refused.unwrap_err().to_string().contains("the key expired on"));
    drop(writer);
    assert_eq!(desk.entries(), 2);
    // What it signed in its time stays good.
    desk.ledger(&["verify"]).expect_code(0);
    desk.ledger(&["verify", "--head", "kept", "--certificate", "production.asc"]).expect_code(0);
    desk.ledger(&["head"]).expect_code(0);
    desk.ledger(&["export", "--format", "html", "-o", "page.html"]).expect_code(0);
    // Outside of its ledger nobody can tell when it signed.
    let check = ["check-proof", text(&proof), "--certificate", "production.asc"];
    desk.ledger(&check).expect_code(3).expect_stderr("the key expired");
    // Nor does the ledger end with a key that was changed in time.
    desk.put_back(&changed_in_time);
    desk.ledger(&["verify", "--head", "kept"]).expect_code(0);
    desk.ledger(&["certify", "--ledger-key", text(&third)]).expect_code(0);
    desk.put_back(&saved);
    // It signs nothing any more.
    let expired = desk.ledger(&["certify"]).expect_code(2);
    expired.expect_stderr("expired").expect_stderr("hint:");

    let gpg = Gpg::new();
    gpg.import(&fs::read(&key).unwrap());
    let fingerprint = Certificates::load(&[desk.file("short/ledger.asc")]).unwrap().fingerprints().remove(0);
    testkit::run_ok(gpg.command().args(["--passphrase", "", "--quick-set-expire", fingerprint.as_str(), "1y"]));
    fs::write(desk.file("short/ledger.asc"), gpg.export(fingerprint.as_str())).unwrap();
    let export = ["--passphrase", "", "--armor", "--export-secret-keys", fingerprint.as_str()];
    fs::write(&key, testkit::run_ok(gpg.command().args(export)).stdout).unwrap();
    desk.ledger(&["certify"]).expect_code(0);
    desk.ledger(&["verify", "--certificate", "production.asc"]).expect_code(0);
}

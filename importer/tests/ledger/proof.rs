//! `ledger prove` and `check-proof`: what holds, and what does not.

use std::fs;
use std::path::Path;

use ledger::{About, HeadStatement, Proof};
use manifest_schema::OutsideText;
use signing::SecretKey;
use testkit::layout::{API, digest as fixture, fixtures};
use testkit::{Key, Ran, Site, need, run, run_ok};

use crate::{Desk, HOSTILE, bring_in, bring_in_with_everything, common, digest, image, text};

#[track_caller]
fn check(desk: &Desk, proof: &Path, certificate: &Path, args: &[&str]) -> Ran {
    desk.elsewhere(&[&["check-proof", text(proof), "--certificate", text(certificate)], args].concat())
}

fn parsed(path: &Path) -> Proof {
    Proof::parse(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_received_image_is_proven_to_whoever_has_productions_certificate() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let bundle = site.packed(42);
    site.receive(&bundle, &[]).expect_code(0);
    let digest = fixture(&fixtures(), API).to_string();
    run_ok(&mut site.import(&["ledger", "prove", &digest, "-o", "proof.json"]));
    let proof = site.import_dir().join("proof.json");
    let elsewhere = site.scratch("auditor");
    let certificate = &site.production_key.certificate_file;
    let check = |args: &[&str]| {
        let mut command = testkit::sealift_import(&elsewhere);
        run(command.current_dir(&elsewhere).args(["ledger", "check-proof", text(&proof)]).args(args))
    };
    let good = check(&["--certificate", text(certificate)]).expect_code(0);
    for said in [
        format!("image        {digest}"),
        format!("production   {}/payments/api:2.3.1", site.production.host()),
        format!("origin       {}/payments/api:2.3.1 (as claimed)", site.origin.host()),
        "bundle       payments-42 ".into(),
        format!("released by  key {}", site.release_key.fingerprint),
        format!("the key is certified by {}", site.production_key.fingerprint),
        format!("head signed by key {}", site.ledger_key.fingerprint),
        "withdrawn    no entry in this proof says so".into(),
        ", run by ".into(),
    ] {
        assert!(good.stdout.contains(&said), "expected `{said}`\n{good}");
    }
    let json = check(&["--certificate", text(certificate), "--digest", &digest, "--json"]).expect_code(0).json();
    assert_eq!(json["images"][0]["subject"]["sequence"], 42);
    assert_eq!(json["ledger"], site.import["ledger"]["id"]);
    let id = site.import["ledger"]["id"].as_str().unwrap();
    check(&["--certificate", text(certificate), "--ledger-id", id]).expect_code(0);
    check(&[]).expect_code(2).expect_stderr("--certificate");
    // Another site's production key.
    let other = Key::new(&elsewhere, "production");
    let refused = check(&["--certificate", text(&other.certificate_file)]).expect_code(3);
    refused.expect_stderr(&format!("expected a certification by {}, found none", other.fingerprint));
    // Of its platforms too.
    let platform = json["images"][0]["image"]["platforms"][0]["digest"].as_str().unwrap().to_string();
    let of_platform = run_ok(&mut site.import(&["ledger", "prove", &platform])).stdout;
    fs::write(&proof, of_platform).unwrap();
    let good = check(&["--certificate", text(certificate)]).expect_code(0);
    assert!(good.stdout.contains(&format!("of it        {platform} (linux/amd64)")), "{good}");
}

#[test]
fn a_proof_tells_approvals_overrides_and_withdrawals() {
    let desk = Desk::new();
    let subject = bring_in_with_everything(&mut desk.open(), "payments", 1);
    bring_in(&mut desk.open(), "payments", 2);
    let digest = image(&subject).digest.to_string();
    let proof = desk.prove(&digest, "proof.json");
    let good = check(&desk, &proof, &desk.file("production.asc"), &["--digest", &digest]).expect_code(0);
    common::shows_no_control_characters(&good).unwrap();
    let approved = |letter: &str| format!("approved     by {}, at ", letter.repeat(40));
    for said in [
        "begun        at ",
        "received     at ",
        &approved("A"),
        &approved("B"),
        "; it counted\n",
        "; it did not count; withdrawn at ",
        "overridden   approvals, at ",
        ": =the board said so\n",
        "signing      at ",
        "recorded     at ",
        "in place of  sha256:",
        "withdrawn    at ",
        "as registry.prod.example/payments/api:1: </td><script>",
    ] {
        assert!(good.stdout.contains(said), "expected `{said}`\n{good}");
    }
    assert!(!good.stdout.contains("no entry in this proof says so"), "{good}");
    let json = check(&desk, &proof, &desk.file("production.asc"), &["--json"]).expect_code(0).json();
    assert_eq!(json["images"][0]["withdrawals"][0]["reason"], HOSTILE);
    assert_eq!(json["images"][0]["overrides"][0]["rules"], serde_json::json!(["approvals"]));
    assert_eq!(json["images"][0]["approvals"].as_array().unwrap().len(), 2);
    // Left out, it is not told; what counted is missed.
    let mut shorter = parsed(&proof);
    shorter.entries.retain(|entry| !entry.entry.raw().contains("\"approved\""));
    fs::write(&proof, shorter.to_bytes().unwrap()).unwrap();
    let good = check(&desk, &proof, &desk.file("production.asc"), &[]).expect_code(0);
    assert!(good.stdout.contains("whose entry is not in the proof"), "{good}");
    assert!(good.stdout.contains("that it has nothing else, and nothing newer, is not proven"), "{good}");
}

/// A way to change a proof, and what must be said of it.
type Forgery<'a> = (&'static str, Box<dyn Fn(&mut Proof) + 'a>, &'static str);

/// The script of docs/format.md, which checks a proof with stock tools.
fn script(desk: &Desk) -> impl Fn(&Path, &Path) -> Ran {
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format.md")).unwrap();
    let script = document.split_once("cat >check-proof <<'END'\n").unwrap().1.split_once("\nEND\n").unwrap().0;
    // A socket's path is short.
    let home = tempfile::Builder::new().prefix("gpg").tempdir_in("/tmp").unwrap();
    let file = desk.file("check-proof");
    fs::write(&file, script).unwrap();
    move |proof, certificate| {
        let mut command = testkit::command("bash", home.path());
        run(command.env("TMPDIR", home.path()).arg(&file).arg(proof).arg(certificate))
    }
}

#[test]
fn what_was_changed_exchanged_or_signed_by_somebody_else_is_refused() {
    let (desk, other) = (Desk::new(), Desk::new());
    bring_in(&mut desk.open(), "payments", 1);
    let earlier = parsed(&desk.prove("4", "earlier.json"));
    bring_in(&mut desk.open(), "payments", 2);
    bring_in(&mut other.open(), "payments", 1);
    bring_in(&mut other.open(), "payments", 2);
    let honest = desk.prove(&digest("index payments 1").to_string(), "proof.json");
    let foreign = parsed(&other.prove(&digest("index payments 1").to_string(), "proof.json"));
    let bare = Key::new(&desk.dir(), "bare");
    // In the name of `bare`, over a tree with one entry, which says what he likes.
    let made_up = |proof: &mut Proof, key: &SecretKey| {
        let mut head = HeadStatement::parse(proof.head.raw().lines().next().unwrap().as_bytes()).unwrap();
        head.key = key.fingerprint().as_str().parse().unwrap();
        let statement =
            key.sign_statement(&serde_json::to_vec(&head).unwrap(), manifest_schema::Timestamp::now()).unwrap();
        proof.head = whole(statement);
    };
    let replaced = |from: &'static str, to: &'static str| {
        move |proof: &mut Proof| {
            let text = proof.entries[2].entry.raw();
            assert!(text.contains(from), "{text}");
            proof.entries[2].entry = OutsideText::whole(text.replace(from, to));
        }
    };
    let wanted = digest("an image that never came in");
    let forgeries: Vec<Forgery<'_>> = vec![
        (
            "a changed byte of an entry",
            Box::new(replaced("payments/api:1", "payments/api:9")),
            "entry 4 is not in the tree",
        ),
        (
            "another image in an entry",
            Box::new(|p| {
                let digest = digest("index payments 1").to_string();
                let text = p.entries[2].entry.raw().replace(&digest, &wanted.to_string());
                p.entries[2].entry = OutsideText::whole(text);
                p.about = About::Digest(wanted);
            }),
            "entry 4 is not in the tree",
        ),
        (
            "another entry's path",
            Box::new(|p| p.entries[0].path = p.entries[1].path.clone()),
            "entry 2 is not in the tree",
        ),
        ("a path without its end", Box::new(|p| p.entries[1].path.truncate(1)), "entry 3 is not in the tree"),
        ("another number", Box::new(|p| p.entries[2].number = 5.try_into().unwrap()), "entry 5 is not in the tree"),
        (
            "an entry of another ledger",
            Box::new(|p| p.entries[2] = foreign.entries[2].clone()),
            "entry 4 is not in the tree",
        ),
        (
            "the head of another ledger",
            Box::new(|p| p.head = foreign.head.clone()),
            "not a head that a key of this ledger",
        ),
        (
            "head and certificate of another ledger",
            Box::new(|p| (p.head, p.certificate) = (foreign.head.clone(), foreign.certificate.clone())),
            "expected a certification by",
        ),
        ("another ledger's proof", Box::new(|p| *p = foreign.clone()), "expected a certification by"),
        ("another image", Box::new(|p| p.about = About::Digest(wanted)), "proves nothing about image"),
        ("another entry", Box::new(|p| p.about = About::Entry(5.try_into().unwrap())), "which it says to prove"),
        (
            "a head that was changed",
            Box::new(|p| p.head = OutsideText::whole(p.head.raw().replacen("\"number\":7", "\"number\":8", 1))),
            "not a head that a key of this ledger",
        ),
        (
            "a head by another key, with its certificate",
            Box::new(|p| {
                made_up(p, &bare.secret);
                p.certificate = whole(bare.secret.certificate_armored().unwrap());
            }),
            "expected a certification by",
        ),
        (
            "a head by another key, with both certificates",
            Box::new(|p| {
                made_up(p, &bare.secret);
                let both =
                    [p.certificate.raw().as_bytes().to_vec(), bare.secret.certificate_armored().unwrap()].concat();
                p.certificate = whole(both);
            }),
            "expected a certification by",
        ),
        ("no certificate", Box::new(|p| p.certificate = OutsideText::whole("")), "not a head"),
        ("no entries", Box::new(|p| p.entries.clear()), "proves nothing about image"),
        ("entries twice", Box::new(|p| p.entries.extend(p.entries.clone())), "does not come after"),
        ("a head from before", Box::new(|p| p.head = earlier.head.clone()), "is not in the tree"),
    ];
    let certificate = desk.file("production.asc");
    check(&desk, &honest, &certificate, &[]).expect_code(0);
    let script = need(&["bash", "gpg", "jq"]).then(|| script(&desk));
    if let Some(script) = &script {
        let printed = script(&honest, &certificate).expect_code(0).stdout;
        let entries: Vec<_> = parsed(&honest).entries.into_iter().map(|e| e.entry.raw().to_string() + "\n").collect();
        assert_eq!(printed, entries.concat());
    }
    let mut wrong = Vec::new();
    for (what, forge, says) in forgeries {
        let mut proof = parsed(&honest);
        forge(&mut proof);
        let file = desk.file("forged.json");
        fs::write(&file, proof.to_bytes().unwrap()).unwrap();
        let refused = check(&desk, &file, &certificate, &[]);
        common::shows_no_control_characters(&refused).unwrap();
        if refused.code != Some(3) || !refused.stderr.contains(says) || !refused.stdout.is_empty() {
            wrong.push(format!("=== {what}: expected `{says}`\n{refused}"));
        }
        // What the entries say of the image is left to its reader.
        let of_reader = ["proves nothing about image", "which it says to prove", "does not come after"];
        if let Some(script) = script.as_ref().filter(|_| !of_reader.contains(&says)) {
            let refused = script(&file, &certificate);
            if refused.code == Some(0) {
                wrong.push(format!("=== {what}, by the script\n{refused}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // What is asked for must be in it.
    let digest_of = |n: u64| digest(&format!("index payments {n}")).to_string();
    check(&desk, &honest, &certificate, &["--digest", &digest_of(1)]).expect_code(0);
    check(&desk, &honest, &certificate, &["--digest", &digest_of(2)])
        .expect_code(3)
        .expect_stderr("proves nothing about");
    let id = other.read().id().to_string();
    check(&desk, &honest, &certificate, &["--ledger-id", &id]).expect_code(3).expect_stderr(&format!("expected {id}"));
    // And it is written in one way only.
    let pretty = fs::read_to_string(&honest).unwrap().replacen(",", ", ", 1);
    fs::write(desk.file("pretty.json"), pretty).unwrap();
    check(&desk, &desk.file("pretty.json"), &certificate, &[]).expect_code(3).expect_stderr("not in canonical form");
    fs::write(desk.file("empty.json"), "").unwrap();
    check(&desk, &desk.file("empty.json"), &certificate, &[]).expect_code(3).expect_stderr("not a proof");
    check(&desk, Path::new("nowhere"), &certificate, &[]).expect_code(2).expect_stderr("nowhere: cannot be read");
}

fn whole(bytes: Vec<u8>) -> OutsideText {
    OutsideText::whole(String::from_utf8(bytes).unwrap())
}

#[test]
fn a_ledger_key_that_nobody_certified_proves_nothing_until_it_is_certified() {
    let desk = Desk::new();
    bring_in(&mut desk.open(), "payments", 1);
    // As if the ledger had been made before production certified its key.
    let bare = desk.keygen("ledger", "bare");
    desk.ledger(&[
        "rotate-key",
        "--new-key",
        text(&bare),
        "--ledger",
        "ledger.db",
        "--ledger-key",
        "ledger.secret.asc",
    ])
    .expect_code(0)
    .expect_stderr("warning: no production key certifies the new key");
    let flags = ["--ledger-key", text(&bare)];
    let prove = |name: &str| {
        let file = desk.file(name);
        desk.ledger(&[&["prove", &digest("index payments 1").to_string(), "-o", text(&file)], &flags[..]].concat())
            .expect_code(0);
        file
    };
    let certificate = desk.file("production.asc");
    let uncertified = prove("one.json");
    let refused = check(&desk, &uncertified, &certificate, &[]).expect_code(3);
    refused.expect_stderr("found none").expect_stderr("`sealift-import ledger certify`");
    // Who has the key's own certificate needs no other.
    let given = check(&desk, &uncertified, &desk.file("bare/ledger.asc"), &[]).expect_code(0);
    assert!(given.stdout.contains("the key is one that was given"), "{given}");
    let entries = desk.entries();
    let said = desk.ledger(&[&["certify"], &flags[..]].concat()).expect_code(0);
    assert!(said.stdout.contains("certified by"), "{said}");
    assert_eq!(desk.entries(), entries, "no entry says so");
    check(&desk, &prove("two.json"), &certificate, &[]).expect_code(0);
    // The ledger has it: whoever has a copy of the ledger alone can prove.
    fs::rename(desk.file("bare/ledger.asc"), desk.file("bare/away.asc")).unwrap();
    check(&desk, &prove("three.json"), &certificate, &[]).expect_code(0);
    // A key that was revoked since proves nothing to those who know.
    let revoked =
        [fs::read(desk.file("bare/away.asc")).unwrap(), fs::read(desk.file("bare/ledger.revocation.asc")).unwrap()];
    fs::write(desk.file("revoked.asc"), revoked.concat()).unwrap();
    let known = desk.file("revoked.asc");
    check(&desk, &desk.file("three.json"), &certificate, &["--certificate", text(&known)])
        .expect_code(3)
        .expect_stderr("revoked");
    desk.ledger(&["verify", "--certificate", "production.asc"]).expect_code(0);
}

#[test]
fn proofs_hold_after_the_keys_have_changed() {
    let desk = Desk::with(&[]);
    bring_in(&mut desk.open(), "payments", 1);
    let image = digest("index payments 1").to_string();
    let before = desk.prove(&image, "before.json");
    // The ledger's key, then production's.
    let new = desk.keygen("ledger", "new");
    let rotated = desk.ledger(&["rotate-key", "--new-key", text(&new)]).expect_code(0);
    assert!(rotated.stderr.contains("in import.yaml"), "{rotated}");
    desk.ledger(&["list"]).expect_code(0);
    desk.ledger(&["certify"]).expect_code(2).expect_stderr("hint: name the right key");
    let after = desk.prove(&image, "after.json");
    assert_ne!(parsed(&before).head, parsed(&after).head);
    for proof in [&before, &after] {
        check(&desk, proof, &desk.file("production.asc"), &["--digest", &image]).expect_code(0);
    }
    let production = desk.keygen("production", "new");
    let certify = ["certify", "--ledger-key", text(&new), "--sign-key", text(&production)];
    desk.ledger(&certify).expect_code(0);
    let last = desk.prove(&image, "last.json");
    for certificate in ["production.asc", "new/production.asc"] {
        check(&desk, &last, &desk.file(certificate), &[]).expect_code(0);
    }
    check(&desk, &after, &desk.file("new/production.asc"), &[]).expect_code(3);
    let shown = desk.ledger(&["log"]).expect_code(0);
    assert!(shown.stdout.contains("key-changed"), "{shown}");
}

#[test]
fn any_entry_can_be_proven_and_what_is_not_there_cannot() {
    let desk = Desk::new();
    let subject = {
        let mut ledger = desk.open();
        let subject = bring_in(&mut ledger, "payments", 1);
        let refused = ledger::Refused { subject: subject.clone(), reason: OutsideText::new(HOSTILE) };
        ledger.refused(&importer::access::stamp().unwrap(), refused).unwrap();
        subject
    };
    let certificate = desk.file("production.asc");
    let refusal = desk.prove("5", "refusal.json");
    let shown = check(&desk, &refusal, &certificate, &[]).expect_code(0);
    common::shows_no_control_characters(&shown).unwrap();
    assert!(shown.stdout.contains(": refused\n") && shown.stdout.contains(&subject.bundle.to_string()), "{shown}");
    let refused = check(&desk, &refusal, &certificate, &["--digest", &image(&subject).digest.to_string()]);
    refused.expect_code(3).expect_stderr("proves nothing about image");
    desk.ledger(&["prove", "6"]).expect_code(2).expect_stderr("the ledger has no entry 6");
    desk.ledger(&["prove", "0"]).expect_code(2);
    let unknown = digest("unknown").to_string();
    desk.ledger(&["prove", &unknown]).expect_code(2).expect_stderr(&format!("the ledger has no image {unknown}"));
    let taken = desk.ledger(&["prove", "1", "-o", "refusal.json"]).expect_code(2);
    taken.expect_stderr("refusal.json: is already there");
    let stdout = desk.ledger(&["prove", "1", "-o", "-"]).expect_code(0).stdout;
    assert!(Proof::parse(stdout.as_bytes()).is_ok());
}

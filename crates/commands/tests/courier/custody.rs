//! Statements of who handed over what.

use std::fs;
use std::path::{Path, PathBuf};

use bundle::{HANDOVER, SEAL};
use commands::check::{Options, Report, check_bundle, text};
use commands::handover::{Chain, CourierSignature};
use console::{Fault, Progress};
use manifest_schema::Statement;
use signing::Certificates;
use testkit::Key;
use testkit::hostile::flip_bit;

use crate::release::{Release, digest, run};

fn hand_over(folders: &[PathBuf], by: &str, args: &[&str]) -> Result<(), (Fault, String)> {
    run(folders, &[&["--hand-over", "--by", by], args].concat())
}

fn statement(folder: &Path, number: u32) -> Statement {
    Statement::parse(&fs::read(file(folder, number)).unwrap()).unwrap()
}

fn file(folder: &Path, number: u32) -> PathBuf {
    folder.join(HANDOVER).join(format!("{number:04}.json"))
}

fn report(release: &Release, folders: &[PathBuf], couriers: &[&Key]) -> Report {
    let files: Vec<PathBuf> = couriers.iter().map(|key| key.certificate_file.clone()).collect();
    let couriers = (!files.is_empty()).then(|| Certificates::load(&files).unwrap());
    check_bundle(folders, &Options { couriers, ..release.trust() }, &Progress::new(true)).unwrap()
}

fn chain(release: &Release, folder: &Path, couriers: &[&Key]) -> Chain {
    report(release, &[folder.into()], couriers).handover.remove(0)
}

/// Three statements: Ada's, unsigned; Ben's and Cleo's, signed.
fn three(release: &Release) -> (PathBuf, Key, Key) {
    let folder = release.pack("out", 1, &[]).remove(0);
    let [ben, cleo] = ["ben", "cleo"].map(|name| Key::new(release.dir.path(), name));
    let folders = [folder.clone()];
    hand_over(&folders, "Ada", &["--to", "Ben", "--bag", "4711"]).unwrap();
    hand_over(&folders, "Ben", &["--to", "Cleo", "--sign-key", &ben.secret_file.display().to_string()]).unwrap();
    let note = ["--note", "the bag was wet", "--sign-key", &cleo.secret_file.display().to_string()];
    hand_over(&folders, "Cleo", &note).unwrap();
    (folder, ben, cleo)
}

#[test]
fn each_statement_binds_the_one_before() {
    let release = Release::single();
    let (folder, ben, cleo) = three(&release);
    let first = statement(&folder, 1);
    assert_eq!((first.bundle, first.seal, first.previous), (release.id, digest(&folder, SEAL), None));
    assert_eq!((first.by.to_string(), first.to.unwrap().to_string()), ("Ada".into(), "Ben".into()));
    assert_eq!((first.bag.unwrap().to_string(), first.volumes.good.to_string()), ("4711".into(), "1-3".into()));
    let statements = folder.join(HANDOVER);
    assert_eq!(statement(&folder, 2).previous, Some(digest(&statements, "0001.json")));
    assert_eq!(statement(&folder, 3).previous, Some(digest(&statements, "0002.json")));
    let mut names: Vec<_> = fs::read_dir(&statements).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    let signed = ["0002.cert.asc", "0002.json", "0002.json.asc", "0003.cert.asc", "0003.json", "0003.json.asc"];
    assert_eq!(names, [&["0001.json"], &signed[..]].concat());

    let found = chain(&release, &folder, &[]);
    assert!(found.problems.is_empty(), "{found:?}");
    let signers: Vec<_> =
        found.statements.iter().map(|s| s.signature.signer().map(|(f, known)| (f.to_string(), known))).collect();
    assert_eq!(signers, [None, Some((ben.fingerprint.clone(), false)), Some((cleo.fingerprint.clone(), false))]);
    let found = chain(&release, &folder, &[&ben]);
    assert!(
        matches!(&found.statements[1].signature, CourierSignature::Known(c) if c.fingerprint.as_str() == ben.fingerprint)
    );
    assert!(matches!(found.statements[2].signature, CourierSignature::Unknown(_)));

    let report = report(&release, std::slice::from_ref(&folder), &[&ben]);
    let said = text(&report);
    for words in ["Ada", "4711", "3 good", "not signed", "not known here", "note of statement 3: the bag was wet"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("not part of the bundle"), "{said}");
    let json = serde_json::to_value(&report).unwrap();
    let row = &json["handover"][0]["statements"][1];
    assert_eq!((&row["number"], &row["signature"]["state"]), (&2.into(), &"known".into()), "{row}");
    // Statements in a folder that is checked with a certificate only: nothing more is signed.
    let trust = release.key.certificate_file.display().to_string();
    run(&[folder], &["--trust", &trust, "--couriers", &ben.certificate_file.display().to_string()]).unwrap();
}

/// What the chain says after something was done to it; the check itself must not mind.
fn after(release: &Release, folder: &Path, couriers: &[&Key], change: impl FnOnce(&Path)) -> String {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|e| e.path().is_file()) {
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    testkit::hostile::copy(&folder.join(HANDOVER), &copy.path().join(HANDOVER));
    change(&copy.path().join(HANDOVER));
    let report = report(release, &[copy.path().into()], couriers);
    report.verdict(true).unwrap();
    let chain = &report.handover[0];
    assert_eq!(text(&report).matches("warning: ").count(), chain.problems.len());
    chain.problems.join("\n")
}

fn edit(file: PathBuf, from: &str, to: &str) {
    let before = fs::read_to_string(&file).unwrap();
    let now = before.replace(from, to);
    assert_ne!(before, now);
    fs::write(file, now).unwrap();
}

/// What is done to the folder of statements, and each problem that follows.
type Case<'a> = (&'a str, Box<dyn Fn(&Path) + 'a>, Vec<String>);

#[test]
fn a_broken_chain_is_told_and_is_no_error() {
    let release = Release::single();
    let (folder, ben, cleo) = three(&release);
    let after = |change: &dyn Fn(&Path)| after(&release, &folder, &[&ben, &cleo], change);
    assert_eq!(after(&|_| ()), "");
    let follows = |n: u32| format!("statement {n} does not follow from the one before it");
    let cases: Vec<Case<'_>> = vec![
        ("an unsigned one changed", Box::new(|d| edit(d.join("0001.json"), "4711", "4712")), vec![follows(2)]),
        (
            "a signed one changed",
            Box::new(|d| edit(d.join("0002.json"), "Cleo", "Zoe")),
            vec![follows(3), "statement 2: the signature does not count".into()],
        ),
        (
            "the last one changed",
            Box::new(|d| edit(d.join("0003.json"), "wet", "dry")),
            vec!["statement 3: the sig".into()],
        ),
        (
            "one missing",
            Box::new(|d| fs::remove_file(d.join("0002.json")).unwrap()),
            vec!["statements are missing: 2".into()],
        ),
        (
            "two exchanged",
            Box::new(|d| {
                fs::rename(d.join("0002.json"), d.join("x")).unwrap();
                fs::rename(d.join("0003.json"), d.join("0002.json")).unwrap();
                fs::rename(d.join("x"), d.join("0003.json")).unwrap();
            }),
            vec![
                "statement 2 calls itself 3".into(),
                follows(2),
                "statement 3 calls itself 2".into(),
                follows(3),
                "statement 2: the signature does not count".into(),
                "statement 3: the signature does not count".into(),
            ],
        ),
        (
            "a malformed one",
            Box::new(|d| edit(d.join("0001.json"), "{", "{ ")),
            vec!["statement 1: not a statement".into(), follows(2)],
        ),
        (
            "a far one",
            Box::new(|d| fs::write(d.join("1000.json.asc"), "").unwrap()),
            vec!["statements are missing: 4-1000".into()],
        ),
        (
            "a stranger",
            Box::new(|d| fs::write(d.join("1001.json\u{1b}[2J"), "").unwrap()),
            vec!["1 files do not belong there, such as `1001.json\\u{1b}[2J`".into()],
        ),
        (
            "a link",
            Box::new(|d| {
                fs::remove_file(d.join("0003.json")).unwrap();
                std::os::unix::fs::symlink("/etc/passwd", d.join("0003.json")).unwrap();
            }),
            vec!["`0003.json` is a symbolic link".into()],
        ),
        (
            "a giant",
            Box::new(|d| fs::write(d.join("0003.json"), vec![b'{'; 65 << 10]).unwrap()),
            vec!["more than 65536 bytes".into()],
        ),
        (
            "another's signature",
            Box::new(|d| {
                fs::write(d.join("0002.json.asc"), cleo.sign(&fs::read(d.join("0001.json")).unwrap())).unwrap()
            }),
            vec!["statement 2: the signature does not count".into()],
        ),
        (
            "no folder",
            Box::new(|d| {
                fs::remove_dir_all(d).unwrap();
                fs::write(d, "").unwrap();
            }),
            vec!["`handover` is not a folder".into()],
        ),
    ];
    for (what, change, expected) in cases {
        let said = after(&*change);
        assert_eq!(said.lines().count(), expected.len(), "{what}: {said}");
        for words in expected {
            assert!(said.contains(&words), "{what}: {words}: {said}");
        }
    }
    // A signature by a known courier whose certificate here is revoked does not count because of an older copy beside it.
    ben.revoke();
    assert!(after(&|_| ()).contains("statement 2: the signature does not count"));
}

#[test]
fn statements_are_about_one_bundle_and_its_seals() {
    let release = Release::single();
    let other = Release::single();
    let folder = release.pack("out", 1, &[]).remove(0);
    let others = other.pack("out", 1, &[]);
    hand_over(&others, "Ada", &[]).unwrap();
    testkit::hostile::copy(&others[0].join(HANDOVER), &folder.join(HANDOVER));
    let problems = chain(&release, &folder, &[]).problems;
    assert_eq!(problems, [format!("statement 1 is about bundle {}", other.id)]);
    let (fault, said) = hand_over(std::slice::from_ref(&folder), "Ben", &[]).unwrap_err();
    assert!(fault == Fault::Usage && said.contains("--statements"), "{said}");

    // A volume was sent again, with a new seal, between two statements.
    let first = release.pack("first", 1, &[]).remove(0);
    hand_over(std::slice::from_ref(&first), "Ada", &[]).unwrap();
    let second = release.pack("second", 2, &[2]).remove(0);
    testkit::hostile::copy(&first.join(HANDOVER), &second.join(HANDOVER));
    hand_over(std::slice::from_ref(&second), "Ben", &[]).unwrap();
    assert_eq!(statement(&second, 2).seal, digest(&second, SEAL));
    let alone = chain(&release, &second, &[]).problems;
    assert_eq!(alone, [format!("statement 1 is about a seal that is not here, {}", digest(&first, SEAL))]);
    let both = report(&release, &[second, first], &[]);
    assert!(both.handover.iter().all(|chain| chain.problems.is_empty()), "{:?}", both.handover);
}

#[test]
fn each_medium_has_its_own_statements() {
    let release = Release::split();
    let media = release.pack("out", 1, &[]);
    flip_bit(&release.volume(&media[1], 4));
    let (fault, _) = hand_over(&media[..2], "Ada", &[]).unwrap_err();
    assert_eq!(fault, Fault::Damaged, "damage is handed over too, and told");
    let volumes = |n: usize| statement(&media[n], 1).volumes;
    assert_eq!((volumes(0).good.to_string(), volumes(0).damaged.is_empty()), ("1-2".into(), true));
    assert_eq!((volumes(1).good.to_string(), volumes(1).damaged.to_string()), ("3".into(), "4".into()));
    fs::remove_file(release.volume(&media[0], 1)).unwrap();
    hand_over(&media[..1], "Ben", &[]).unwrap_err();
    assert_eq!(statement(&media[0], 2).volumes.missing.to_string(), "1");
    assert!(!media[2].join(HANDOVER).exists());
}

#[test]
fn statements_can_be_kept_beside_a_medium_that_cannot_be_written() {
    let release = Release::split();
    let media = release.pack("out", 1, &[]);
    // As on a read-only medium, no folder can be made there.
    fs::write(media[0].join(HANDOVER), "").unwrap();
    let (fault, said) = hand_over(&media[..2], "Ada", &[]).unwrap_err();
    assert_eq!(fault, Fault::Failed);
    assert!(said.contains("the statement cannot be written") && said.contains("--statements DIR"), "{said}");
    assert!(!file(&media[1], 1).exists(), "nothing is written before all folders can be");

    let beside = release.path("beside");
    let statements = ["--statements", &beside.display().to_string()];
    for by in ["Ada", "Ben"] {
        hand_over(&media[..2], by, &statements).unwrap();
    }
    let second = Statement::parse(&fs::read(beside.join("0002.json")).unwrap()).unwrap();
    assert_eq!((second.by.to_string(), second.volumes.good.to_string()), ("Ben".into(), "1-4".into()));
    let options = Options { statements: Some(beside.clone()), ..release.trust() };
    let report = check_bundle(&media[..2], &options, &Progress::new(true)).unwrap();
    let chain = report.handover.last().unwrap();
    assert_eq!((&chain.folder, chain.statements.len(), chain.problems.len()), (&beside, 2, 0));
    run(&media[1..2], &["--statements", "/nowhere"]).unwrap();
}

#[test]
fn a_read_only_folder_is_told_before_anything_is_read() {
    use std::os::unix::fs::PermissionsExt;
    let release = Release::single();
    let folder = release.pack("out", 1, &[]).remove(0);
    let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    if fs::write(folder.join("try"), "").is_ok() {
        eprintln!("skipped: this user can write everywhere");
        return mode(0o755);
    }
    let said = hand_over(std::slice::from_ref(&folder), "Ada", &[]).unwrap_err();
    mode(0o755);
    assert!(said.0 == Fault::Failed && said.1.contains("--statements DIR"), "{}", said.1);
}

#[test]
fn nothing_is_followed_or_overwritten() {
    let release = Release::single();
    let folder = release.pack("out", 1, &[]).remove(0);
    let elsewhere = release.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, folder.join(HANDOVER)).unwrap();
    hand_over(std::slice::from_ref(&folder), "Ada", &[]).unwrap_err();
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);

    fs::remove_file(folder.join(HANDOVER)).unwrap();
    fs::create_dir(folder.join(HANDOVER)).unwrap();
    fs::write(folder.join(HANDOVER).join("0001.json.asc"), "left").unwrap();
    let (fault, said) = hand_over(std::slice::from_ref(&folder), "Ada", &[]).unwrap_err();
    assert!(fault == Fault::Failed && said.contains("0001.json"), "{said}");
    assert_eq!(fs::read(folder.join(HANDOVER).join("0001.json.asc")).unwrap(), b"left");
}

#[test]
fn a_statement_needs_a_name_and_a_key_of_its_own() {
    let release = Release::single();
    let folders = release.pack("out", 1, &[]);
    for args in [
        &["--hand-over"][..],
        &["--by", "Ada"],
        &["--bag", "1"],
        &["--hand-over", "--by", " "],
        &["--hand-over", "--by", "Ada\u{1b}[2J"],
        &["--hand-over", "--by", &"A".repeat(257)],
    ] {
        assert_eq!(run(&folders, args).unwrap_err().0, Fault::Usage, "{args:?}");
    }
    let [secret, public] = [&release.key.secret_file, &release.key.certificate_file].map(|f| f.display().to_string());
    let (fault, said) = hand_over(&folders, "Ada", &["--trust", &public, "--sign-key", &secret]).unwrap_err();
    assert!(fault == Fault::Usage && said.contains("two roles"), "{said}");
    let (fault, _) = run(&folders, &["--trust", &public, "--couriers", &public]).unwrap_err();
    assert_eq!(fault, Fault::Usage);
    assert!(!folders[0].join(HANDOVER).exists());
}

//! What people and scripts see: JSON that parses, exit codes, the state of the world, configurations, text from outside.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{acts, release_again, shows_no_control_characters};
use serde_json::json;
use testkit::layout::{API, digest, fixtures};
use testkit::{Fault, Gpg, Proxy, Ran, Rule, Site, need, run, run_ok, sealift_export, sealift_import};

#[test]
fn every_command_that_reports_can_do_so_as_json() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let plan = run(&mut site.export(&["plan", "--sequence", "42", "--json"])).expect_code(0).json();
    assert_eq!(plan["images"][0]["digest"], digest(&fixtures(), API).to_string());
    let packed = site.pack(42, &["--json"]).expect_code(0).json();
    assert_eq!(packed["result"], "packed");
    let bundle = site.media().join("payments-42");
    assert_eq!(packed["bundle"]["path"], bundle.display().to_string());
    let id = packed["bundle"]["bundle"].as_str().unwrap();

    let trust = site.import_dir().join("trust/release.asc");
    for mut command in [site.export(&["check", "--json"]), site.import(&["check", "--json"])] {
        let checked = run(command.arg(&bundle).arg("--trust").arg(&trust)).expect_code(0).json();
        assert_eq!((&checked["bundle"], &checked["name"]), (&json!(id), &json!("payments-42")));
        assert_eq!(checked["signed_by"], json!([site.release_key.fingerprint]));
        assert_eq!(checked["files"].as_array().unwrap().len(), 2);
    }
    let inspected = run(site.import(&["inspect", "--json"]).arg(&bundle)).expect_code(0).json();
    assert_eq!(inspected["manifest"]["bundle"], id);
    assert_eq!(inspected["manifest_digest"], packed["bundle"]["manifest"]);
    assert_eq!(inspected["signers"][0]["fingerprint"], site.release_key.fingerprint);
    let verified = run(site.import(&["verify", "--json"]).arg(&bundle)).expect_code(0).json();
    assert_eq!(verified["bundle"]["id"], id);
    assert!(verified["checks"].as_array().unwrap().iter().all(|c| c["problem"].is_null()), "{verified}");
    let dry = site.receive(&bundle, &["--dry-run", "--json"]).expect_code(0).json();
    assert_eq!((&dry["result"], &dry["images"][0]["tag"]), (&json!("would be received"), &json!("new")));
    assert!(site.production.is_empty(), "a dry run writes nothing");
    assert_eq!(acts(&site), ["created"]);

    let received = site.receive(&bundle, &["--json"]).expect_code(0).json();
    assert_eq!(received["result"], "received");
    assert_eq!(received["bundle"]["production"], site.production_key.fingerprint);
    assert_eq!(site.receive(&bundle, &["--json"]).expect_code(0).json()["result"], "already received");
    for args in [&["ledger", "list"][..], &["ledger", "show", id], &["ledger", "verify"]] {
        let said = run(site.import(args).arg("--json")).expect_code(0);
        assert!(said.json().is_object() || said.json().is_array(), "{said}");
    }

    // Problems are data too: all of them, and the exit code of the worst.
    testkit::hostile::flip_bit(&bundle.join("LABEL.txt"));
    testkit::hostile::flip_bit(&testkit::hostile::volume_file(&bundle, 1));
    let damaged = run(site.import(&["verify", "--json"]).arg(&bundle)).expect_code(4);
    let problems = damaged.json()["checks"].as_array().unwrap().iter().filter(|c| c["problem"].is_string()).count();
    assert!(problems >= 2, "{damaged}");
    let checked = run(site.import(&["check", "--json"]).arg(&bundle)).expect_code(4);
    assert_eq!(checked.json()["files"].as_array().unwrap().len(), 2);
    assert!(checked.stderr.contains("2 of 2 sealed files"), "{checked}");
}

#[test]
fn exit_codes_and_the_state_line_say_who_is_at_fault_and_what_was_done() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(42);
    let here = site.scratch("home");
    for program in [sealift_export, sealift_import] {
        run(program(&here).arg("--version")).expect_code(0);
        run(&mut program(&here)).expect_code(2);
        run(program(&here).arg("nonsense")).expect_code(2);
    }
    run(&mut site.import(&["check", "/nowhere"])).expect_code(2).expect_stderr("/nowhere: not found");
    site.receive(Path::new("/nowhere"), &[]).expect_code(2).expect_stderr("state: nothing was published");

    // The registry is away: nothing of the bundle's fault, and worth another try.
    let to = site.import["streams"]["payments"]["to"][0]["to"].clone();
    site.import["streams"]["payments"]["to"][0]["to"] = "127.0.0.1:1/payments".into();
    let away = site.receive(&bundle, &["--retries", "0"]).expect_code(1).expect_stderr("127.0.0.1:1");
    assert!(away.stderr.contains("hint: ") && away.stderr.contains("state: nothing was published"), "{away}");
    assert_eq!(acts(&site), ["created"], "a failure is no refusal");

    // Tags move one after the other; where it stops is said.
    let proxy = Proxy::before(&site.production);
    site.import["streams"]["payments"]["to"][0]["to"] = format!("{}/payments", proxy.host()).into();
    site.list_fixtures(&[API, testkit::layout::BUSYBOX]);
    let bundle = site.packed(43);
    proxy.rule(Rule::new(Fault::status(500)).method("PUT").path("/payments/busybox/manifests/1.36"));
    let half = site.receive(&bundle, &["--retries", "0"]).expect_code(1);
    assert!(half.stderr.contains("state: 1 of 2 images published; run the same command again to continue"), "{half}");
    assert_eq!(site.production.tags().len(), 1);
    proxy.clear();
    site.receive(&bundle, &[]).expect_code(0);
    assert_eq!(site.production.tags().len(), 2);
    site.import["streams"]["payments"]["to"][0]["to"] = to;
}

/// Both configuration files with a flaw, and what must be said of it.
#[test]
fn a_flaw_in_a_configuration_is_named_with_its_line() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let bundle = site.packed(42);
    let plan = |text: &str| {
        fs::write(site.export_dir().join("other.yaml"), text).unwrap();
        run(&mut site.export(&["plan", "--file", "other.yaml"]))
    };
    let verify = |text: &str| {
        fs::write(site.import_dir().join("other.yaml"), text).unwrap();
        run(site.import(&["verify", "--config", "other.yaml"]).arg(&bundle))
    };
    let release = "stream: payments\nsequence: 42\nrecipients: [age1x]\nimages:\n  - registry.dev.example/x:1\n";
    let release_flaws = [
        (format!("{release}colour: blue\n"), "6", "colour"),
        (release.replace("42", "many"), "2", "number"),
        (release.replace("42", "0"), "2", "sequence number"),
        (release.replace("stream: payments", "stream: Payments"), "1", "stream name"),
        (format!("{release}stream: web\n"), "6", "stream"),
        (format!("{release}labels: {{a: x, a: y}}\n"), "6", "a"),
        (release.replace("x:1", "X:1"), "5", "registry.dev.example/X:1"),
        (format!("{release}platforms: [linux]\n"), "6", "linux"),
    ];
    let import = "identity: enclave.key\nledger: {file: ledger.db, id: x}\nstreams: {}\nproduction:\n  sign: {key: production.secret.asc}\n  lookaside: sigstore/\n";
    let stream = "streams:\n  payments:\n    release: {certificates: [trust/release.asc], threshold: 1}\n    origins: [r.example]\n    to: [{from: r.example, to: p.example}]\n";
    let import_flaws = [
        (format!("{import}colour: blue\n"), "7", "colour"),
        (import.replace("streams: {}", "streams: []"), "3", "map"),
        (format!("{import}on_existing_tag: overwrite\n"), "7", "overwrite"),
        (format!("{import}clock_tolerance: -1\n"), "7", "-1"),
        (import.replace("streams: {}\n", &stream.replace("origins", "origin")), "6", "origin"),
        (import.replace("streams: {}\n", &stream.replace("threshold: 1", "threshold: one")), "5", "one"),
        (import.replace("streams: {}\n", &stream.replace("from: r.example", "from: r example")), "7", "r example"),
        (import.replace("  payments:", "  Payments:"), "", ""),
        (import.replace("  lookaside: sigstore/\n", ""), "", "lookaside"),
    ];
    let check = |ran: Ran, line: &str, word: &str, text: &str| {
        shows_no_control_characters(&ran).unwrap();
        assert!(ran.code == Some(2) && ran.stderr.contains("other.yaml"), "{text}\n{ran}");
        let named = [format!("line {line}"), format!(":{line}:")].iter().any(|l| ran.stderr.contains(l));
        assert!(line.is_empty() || named, "line {line} is not named\n{text}\n{ran}");
        assert!(ran.stderr.contains(word), "`{word}` is not named\n{text}\n{ran}");
    };
    for (text, line, word) in release_flaws {
        check(plan(&text), line, word, &text);
    }
    for (text, line, word) in import_flaws.into_iter().filter(|(text, ..)| text != import) {
        check(verify(&text), line, word, &text);
    }
    // What is quoted from a file is quoted safely.
    check(plan(&format!("{release}\"\\u001b[2J\\u202e\": 1\n")), "6", "", "a hostile key");
    check(plan("stream: \u{202e}x\u{1b}[2J\n"), "", "", "hostile bytes");
    check(verify("identity: [\u{202e}\n"), "", "", "hostile bytes");
}

/// `init`, without a passphrase and quickly.
fn init(mut program: std::process::Command, folder: &Path) -> Ran {
    run(program.arg("init").arg(folder).args(["--no-passphrase", "--algorithm", "p256"]))
}

#[test]
fn init_makes_all_that_the_first_bundle_needs() {
    if !need(&["docker-registry", "skopeo"]) {
        return;
    }
    let site = Site::new();
    let home = site.scratch("home");
    let (export, import) = (site.scratch("first").join("export"), site.scratch("first").join("import"));
    let made = init(sealift_import(&home), &import).expect_code(0);
    assert!(made.stdout.trim().ends_with("import.yaml"), "{made}");
    let recipient = fs::read_to_string(import.join("enclave.recipient")).unwrap();
    init(sealift_export(&home), &export).expect_code(0);
    let all = |folder: &Path| common::files(folder).into_keys().collect::<Vec<_>>();
    assert_eq!(all(&export), ["release.asc", "release.revocation.asc", "release.secret.asc", "release.yaml"]);
    let expected = ["enclave.key", "enclave.recipient", "import.yaml"];
    assert!(expected.iter().all(|name| all(&import).contains(&name.to_string())), "{:?}", all(&import));
    let secrets = ["production.secret.asc", "production.revocation.asc", "enclave.key"].map(|name| import.join(name));
    for path in secrets.iter().chain(&[export.join("release.secret.asc"), export.join("release.revocation.asc")]) {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    // A second time nothing is overwritten, whatever is left of the first.
    let (before_export, before_import) = (common::files(&export), common::files(&import));
    for missing in [None, Some("release.yaml"), Some("release.asc")] {
        if let Some(name) = missing {
            fs::remove_file(export.join(name)).unwrap();
        }
        init(sealift_export(&home), &export).expect_code(2).expect_stderr("is already there");
    }
    init(sealift_import(&home), &import).expect_code(2).expect_stderr("is already there");
    assert_eq!(common::files(&import), before_import);
    for (name, bytes) in before_export {
        let path = export.join(&name);
        assert!(!path.exists() || fs::read(&path).unwrap() == bytes, "{name}");
        fs::write(path, bytes).unwrap();
    }

    // As they are, both are read; what is missing is said.
    let pack = |args: &[&str]| run(sealift_export(&home).current_dir(&export).arg("pack").args(args));
    let receive = |bundle: &Path| run(sealift_import(&home).current_dir(&import).arg("receive").arg(bundle));
    pack(&[]).expect_code(2).expect_stderr("an image is missing");

    // Filled in as the comments say.
    let release = fs::read_to_string(export.join("release.yaml")).unwrap();
    let image = format!("{}/payments/api:2.3.1", site.origin.host());
    let release = release
        .replace("stream: my-release", "stream: payments")
        .replace("recipients: []", &format!("recipients: [{}]", recipient.trim()))
        .replace("images: []", &format!("images:\n  - {image}"));
    fs::write(export.join("release.yaml"), release).unwrap();
    let packed = pack(&["--json"]).expect_code(0).json();
    let bundle = Path::new(packed["bundle"]["path"].as_str().unwrap());
    let bundle = export.join(bundle);
    receive(&bundle).expect_code(3).expect_stderr("stream payments is not configured");

    fs::copy(export.join("release.asc"), import.join("trust/release.asc")).unwrap();
    let template = fs::read_to_string(import.join("import.yaml")).unwrap();
    let mut text = String::new();
    let mut in_streams = false;
    for line in template.lines() {
        in_streams = line.starts_with("streams:") || (in_streams && line.starts_with('#'));
        text += match line.strip_prefix('#').filter(|_| in_streams) {
            Some(rest) => rest,
            None if in_streams => "streams:",
            None => line,
        };
        text.push('\n');
    }
    assert_ne!(text, template);
    let text = text
        .replace("registry.dev.example", site.origin.host())
        .replace("registry.prod.example", site.production.host());
    fs::write(import.join("import.yaml"), text).unwrap();
    receive(&bundle).expect_code(0);
    assert_eq!(site.production.tags()["payments/api:2.3.1"], digest(&fixtures(), API));
    assert!(receive(&bundle).expect_code(0).stdout.contains("already received"));
    for command in ["list", "verify"] {
        run(sealift_import(&home).current_dir(&import).args(["ledger", command])).expect_code(0);
    }
}

#[test]
fn a_site_without_a_configuration_says_the_same_with_flags() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let bundle = site.packed(42);
    let dir = site.import_dir();
    let at = |name: &str| dir.join(name).display().to_string();
    let (trust, identity, ledger) = (at("trust/release.asc"), at("enclave.key"), at("ledger.db"));
    let (key, lookaside, to) = (at("production.secret.asc"), at("sigstore"), site.production.host().to_string());
    let elsewhere = site.scratch("elsewhere");
    let receive =
        |args: &[&str]| run(sealift_import(&elsewhere).current_dir(&elsewhere).arg("receive").arg(&bundle).args(args));
    let ledger_key = at("ledger.secret.asc");
    let all: [(&str, &str); 7] = [
        ("--trust", &trust),
        ("--to", &to),
        ("--identity", &identity),
        ("--ledger", &ledger),
        ("--ledger-key", &ledger_key),
        ("--sign-key", &key),
        ("--lookaside", &lookaside),
    ];
    for leave_out in 0..all.len() {
        let some = all.iter().enumerate().filter(|(i, _)| *i != leave_out).flat_map(|(_, (k, v))| [*k, *v]);
        let ran = receive(&some.collect::<Vec<_>>());
        // Without --to there is no destination, which is the bundle's own fault as far as this site knows.
        let code = if all[leave_out].0 == "--to" { 3 } else { 2 };
        assert!(ran.code == Some(code) && ran.stderr.contains("hint: "), "without {}\n{ran}", all[leave_out].0);
    }
    let whole: Vec<&str> = all.iter().flat_map(|(k, v)| [*k, *v]).collect();
    receive(&[&whole[..], &["--stream", "web"]].concat()).expect_code(3).expect_stderr("stream payments");
    receive(&[&whole[..], &["--origin", "other.example"]].concat()).expect_code(3).expect_stderr("may not carry");
    receive(&whole).expect_code(0);
    assert_eq!(site.production.tags()["payments/api:2.3.1"], digest(&fixtures(), API));
}

const HOSTILE: &str = "oci:\u{1b}[2J\u{202e}gpj.exe\u{9b}2J\r\n\u{2066}x\u{7f}";

#[test]
fn text_from_outside_is_shown_and_does_nothing() {
    if !need(&["docker-registry", "gpg"]) {
        return;
    }
    let mut site = Site::new();
    // Whoever has the release key can write anything into `asked`; a user id is written by whoever made the key.
    let gpg = Gpg::new();
    let user_id = "release \u{202e}moc.elpmaxe@esaeler";
    let fingerprint = gpg.generate(user_id, "rsa3072");
    let certificate = site.import_dir().join("trust/other.asc");
    fs::write(&certificate, gpg.export(&fingerprint)).unwrap();
    site.import["streams"]["payments"]["release"]["certificates"] = json!(["trust/release.asc", certificate]);
    let bundle = site.packed(42);
    release_again(&site, &bundle, |m| m["images"][0]["asked"] = HOSTILE.into());
    let mut opened = common::open(&site, &bundle);
    opened.sign_manifest(&|bytes| gpg.sign_detached(&fingerprint, bytes));
    common::seal(&site, &bundle, &opened);

    let quiet = |ran: &Ran| shows_no_control_characters(ran).unwrap_or_else(|e| panic!("{e}"));
    for args in [&["inspect"][..], &["inspect", "--json"], &["verify"], &["verify", "--json"]] {
        quiet(&run(site.import(args).arg(&bundle)).expect_code(0));
    }
    let inspected = run(site.import(&["inspect"]).arg(&bundle)).expect_code(0);
    for words in ["oci:\\u{1b}[2J\\u{202e}gpj.exe\\u{9b}2J\\u{d}\\u{a}", "\\u{202e}moc.elpmaxe"] {
        assert!(inspected.stdout.contains(words), "{words}\n{inspected}");
    }
    let json = run(site.import(&["inspect", "--json"]).arg(&bundle)).expect_code(0).json();
    assert_eq!(json["manifest"]["images"][0]["asked"], HOSTILE, "JSON carries it whole");
    assert_eq!(json["signers"][0]["user_id"], user_id);

    // What a registry says.
    let proxy = Proxy::before(&site.production);
    let to = site.import["streams"]["payments"]["to"][0]["to"].clone();
    site.import["streams"]["payments"]["to"][0]["to"] = format!("{}/payments", proxy.host()).into();
    let said = json!({ "errors": [{ "code": "DENIED", "message": HOSTILE, "detail": HOSTILE }] }).to_string();
    for (status, body) in [(403, said.clone().into_bytes()), (400, HOSTILE.into()), (409, said.into_bytes())] {
        proxy.clear();
        let headers =
            vec![("content-type".into(), "application/json".into()), ("warning".into(), "299 - \"x\"".into())];
        proxy.rule(Rule::new(Fault::Answer(status, headers, body)).method("POST"));
        let failed = site.receive(&bundle, &["--retries", "0"]);
        assert!(failed.code == Some(1) && failed.stderr.contains(&status.to_string()), "{failed}");
        quiet(&failed);
    }
    proxy.clear();
    site.import["streams"]["payments"]["to"][0]["to"] = to;

    for args in [&[][..], &["--dry-run"], &["--dry-run", "--json"], &["-v"], &["--json"]] {
        quiet(&site.receive(&bundle, args).expect_code(0));
    }
    for args in
        [&["ledger", "list"][..], &["ledger", "show", "payments-42"], &["ledger", "show", "payments-42", "--json"]]
    {
        quiet(&run(&mut site.import(args)).expect_code(0));
    }
    quiet(&run(&mut site.import(&["ledger", "show", HOSTILE])).expect_code(2));
    quiet(&site.receive(Path::new("/nowhere/\u{1b}[2J\u{202e}x"), &[]).expect_code(2));

    // On the way out: what a registry or a layout calls an image.
    let plan = |image: &str| run(&mut site.export(&["plan", "--sequence", "43", image]));
    for image in [HOSTILE, "registry.dev.example/x:\u{1b}[2J", "oci:/nowhere/\u{202e}x"] {
        let refused = plan(image);
        assert!(refused.code != Some(0), "{refused}");
        quiet(&refused);
    }
    let mut layout = testkit::Layout::new();
    let image = layout.image(&[b"x"]);
    layout.name(HOSTILE, &image);
    let refused = plan(&format!("oci:{}", layout.path().display()));
    assert!(refused.code != Some(0), "{refused}");
    quiet(&refused);
    run_ok(&mut site.export(&["plan", "--sequence", "43"]));
}

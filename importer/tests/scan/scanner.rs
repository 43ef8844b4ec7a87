//! A scanner of production's own: what it is given, what it may say, and that nothing is signed without it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use manifest_schema::Digest;
use serde_json::{Value, json};
use testkit::layout::{API, BUSYBOX, blob, fixtures};
use testkit::{Fault, Proxy, Ran, Rule, Site, need, run};

use super::{api, attached, check, recorded, trivy, write};

/// A program for `sh` in the importing side's folder, as the command of a configuration.
fn script(site: &Site, text: &str, arguments: &[&str]) -> Value {
    let path = site.import_dir().join("scanner.sh");
    fs::write(&path, text).unwrap();
    let mut command = vec!["sh".to_string(), path.display().to_string()];
    command.extend(arguments.iter().map(|argument| argument.to_string()));
    json!(command)
}

/// A folder for image data that only this user can reach.
fn plaintext(site: &Site) -> PathBuf {
    let folder = site.scratch("plaintext");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

fn is_empty(folder: &std::path::Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

/// Nothing is signed and no tag is there.
fn assert_nothing_is_published(site: &Site) {
    assert!(site.production.tags().is_empty());
    assert!(site.traces().lookaside.is_empty());
}

#[test]
fn a_stock_program_reads_the_archive_and_nothing_of_it_stays() {
    if !need(&["docker-registry", "skopeo"]) {
        return;
    }
    let mut site = Site::new();
    let folder = plaintext(&site);
    // Left by a run that was killed.
    let left = folder.join("sealift-scan-killed");
    fs::create_dir(&left).unwrap();
    fs::write(left.join(".lock"), "").unwrap();
    fs::write(left.join("image.tar"), "image data").unwrap();
    site.import["scan"] = json!({
        "command": ["skopeo", "inspect", "--config", "oci-archive:{archive}"], "plaintext_dir": folder,
    });
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0).expect_stderr("scanning ");
    assert!(is_empty(&folder));
    let scan = recorded(&site);
    assert_eq!(scan.scanner.len(), 2, "each image manifest once: {:?}", scan.scanner);
    assert!(scan.scanner.iter().all(|said| said.refused.is_none() && said.report.is_none()));
    assert_eq!(scan.scanner[0].command.raw(), "skopeo inspect --config oci-archive:{archive}");
    run(&mut site.import(&["ledger", "show", "payments-1"])).expect_code(0).expect_stdout("scanned here: sha256:");
}

#[test]
fn with_staging_it_is_given_the_reference_there() {
    if !need(&["docker-registry", "skopeo"]) {
        return;
    }
    let (mut site, staging) = Site::staged();
    site.receive(&site.packed(1), &[]).expect_code(0);
    let seen = site.scratch("seen").join("references");
    let text = r#"echo "$2 $4 $3" >> "$1"; exec skopeo inspect --tls-verify=false "docker://$2""#;
    let seen_text = seen.display().to_string();
    let command = script(&site, text, &[&seen_text, "{reference}", "{platform}", "{digest}"]);
    site.import["scan"] = json!({ "command": command });
    run(&mut site.import(&["promote", "payments-1"])).expect_code(0);
    let seen = fs::read_to_string(seen).unwrap();
    assert_eq!(seen.lines().count(), 2);
    for (line, platform) in seen.lines().zip(["linux/amd64", "linux/arm64/v8"]) {
        assert!(line.starts_with(&format!("{}/payments/api@sha256:", staging.host())), "{line}");
        let rest = line.split_once('@').unwrap().1;
        let digest = rest.split(' ').next().unwrap();
        assert_eq!(rest, format!("{digest} {digest} {platform}"));
    }
}

/// Receives with a scanner that is this program.
fn receive(site: &mut Site, text: &str) -> Ran {
    let command = script(site, text, &["{reference}", "{report}"]);
    site.import["scan"] = json!({ "command": command, "timeout": 2 });
    site.receive(&site.media().join("payments-1"), &[])
}

#[test]
fn what_fails_or_says_nothing_refuses_the_image_and_nothing_is_signed() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.packed(1);
    for (text, why) in [
        ("echo found > $2; echo a virus >&2; exit 1", "it ended with exit code 1: a virus"),
        ("echo Eicar FOUND; echo > $2; exit 1", "it ended with exit code 1: Eicar FOUND"),
        ("exit 0", "it wrote nothing"),
        (": > $2", "it wrote nothing"),
        ("ln -s /etc/passwd $2", "its report is no regular file"),
        ("truncate --size=67108865 $2", "it wrote more than 67108864 bytes"),
        ("echo good > $2; sleep 60", "it took longer than 2 seconds"),
        ("echo good > $2; kill -9 $$", "signal 9 ended it"),
        ("echo '{' > $2", "its report does not count: it cannot be read: line"),
    ] {
        let refused = receive(&mut site, text).expect_code(3).expect_stderr(why);
        refused.expect_stderr("the scanner refuses").expect_stderr("nothing was published");
        assert_nothing_is_published(&site);
    }
    site.import["scan"] = json!({ "command": ["/no/such/program", "{reference}"] });
    let cannot = site.receive(&site.media().join("payments-1"), &[]).expect_code(2);
    cannot.expect_stderr("the scanner /no/such/program cannot be started");
    site.import["scan"] = json!({ "command": ["no-such-program", "{reference}"] });
    site.receive(&site.media().join("payments-1"), &[])
        .expect_code(2)
        .expect_stderr("no-such-program cannot be started");
    assert_nothing_is_published(&site);
    // Once more, and somebody says why.
    let command = script(&site, "exit 1", &["{reference}"]);
    site.import["scan"] = json!({ "command": command });
    let bundle = site.media().join("payments-1");
    site.receive(&bundle, &["--override", "scan", "--reason", "CHG-3"]).expect_code(3);
    let passed = site.receive(&bundle, &["--override", "scanner", "--reason", "CHG-3"]).expect_code(0);
    passed.expect_stderr("warning: let in all the same, by ledger entry");
    let refused = recorded(&site).scanner.into_iter().filter_map(|said| said.refused).count();
    assert_eq!(refused, 2, "both image manifests were scanned");
}

#[test]
fn what_writes_too_much_or_leaves_something_behind_refuses_the_image() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.packed(1);
    for (text, why) in [
        ("echo good > $2; head -c 67108865 /dev/zero", "it wrote more than 67108864 bytes"),
        // While it goes on.
        ("echo good > $2; head -c 67108865 /dev/zero; sleep 60", "it wrote more than 67108864 bytes"),
        ("echo good > $2; setsid sleep 12 & sleep 1", "something that it started goes on, and cannot be ended"),
    ] {
        receive(&mut site, text).expect_code(3).expect_stderr(why);
        assert_nothing_is_published(&site);
    }
    // What takes too long is ended, and not waited for.
    let began = std::time::Instant::now();
    receive(&mut site, "echo good > $2; sleep 40").expect_code(3).expect_stderr("it took longer than 2 seconds");
    assert!(began.elapsed() < std::time::Duration::from_secs(30));
}

#[test]
fn nothing_that_it_started_goes_on_and_it_cannot_hold_us_up() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.packed(1);
    let mark = site.scratch("marks").join("late");
    let text = format!("(sleep 4; echo late > {}) & echo good > $2", mark.display());
    receive(&mut site, &text).expect_code(0);
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert!(!mark.exists());
}

#[test]
fn what_it_finds_is_judged_by_the_gate() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = attached(&trivy(&api(), 1, &[]));
    site.packed(1);
    site.import["gate"] = json!({ "scan": { "max": { "critical": 0 } } });
    let mut found = trivy(&api(), 0, &[("CVE-2026-7", "CRITICAL")]);
    found["Metadata"] = json!({});
    let file = write(&site, "found.json", &found);
    let text = format!("cat {} > $2", file.display());
    receive(&mut site, &text).expect_code(3).expect_stderr("CVE-2026-7 in openssl");
    assert_nothing_is_published(&site);
    // A report of another image.
    let mut other = trivy(&api(), 0, &[]);
    other["Metadata"] = json!({ "ImageID": format!("sha256:{}", "7".repeat(64)) });
    write(&site, "found.json", &other);
    receive(&mut site, &text).expect_code(3).expect_stderr("it names another image's digest");
    // What it found counts, whatever it says that it looked at.
    let mut folder = trivy(&api(), 0, &[("CVE-2026-7", "CRITICAL")]);
    folder["ArtifactType"] = "filesystem".into();
    folder["Metadata"] = json!({});
    write(&site, "found.json", &folder);
    receive(&mut site, &text).expect_code(3).expect_stderr("CVE-2026-7 in openssl");
    // A report that is made while this goes on is not in the future, however long it takes.
    let mut later = trivy(&api(), -1, &[]);
    later["Metadata"] = json!({});
    write(&site, "found.json", &later);
    receive(&mut site, &text).expect_code(3).expect_stderr("its time is in the future");
    // What it tells nothing of is not asked of it.
    let sbom = json!({ "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": [] });
    write(&site, "found.json", &sbom);
    receive(&mut site, &text).expect_code(0);
    let said = recorded(&site).scanner.into_iter().next().unwrap();
    assert_eq!(said.report.unwrap().format.to_string(), "cyclone-dx");
    assert_eq!(said.output, blobs::sha256(sbom.to_string().as_bytes()));
}

#[test]
fn what_was_judged_before_is_not_asked_of_it_and_it_may_name_the_image_by_its_configuration() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = attached(&trivy(&api(), 1, &[]));
    let components = json!([{ "type": "library", "name": "openssl", "version": "3.0.1" }]);
    let sbom = json!({ "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components });
    write(&site, "sbom.json", &sbom);
    site.release["attach"] = json!(["trivy.json", "sbom.json"]);
    let reports = site.scratch("reports");
    let index: Value = serde_json::from_slice(&blob(&fixtures(), &api())).unwrap();
    for entry in index["manifests"].as_array().unwrap() {
        let digest: Digest = entry["digest"].as_str().unwrap().parse().unwrap();
        let manifest: Value = serde_json::from_slice(&blob(&fixtures(), &digest)).unwrap();
        let mut found = trivy(&api(), 30, &[("CVE-2026-7", "CRITICAL")]);
        found["Metadata"] = json!({ "ImageID": manifest["config"]["digest"] });
        fs::write(reports.join(digest.hex()), found.to_string()).unwrap();
    }
    let text = format!("cat {}/${{1##*:}}", reports.display());
    let command = script(&site, &text, &["{reference}"]);
    site.import["scan"] = json!({ "command": command });
    site.import["gate"] = json!({ "scan": { "required": ["sbom"], "max": { "critical": 0 }, "max_age": "7d" } });
    site.receive(&site.packed(1), &[]).expect_code(3).expect_stderr("CVE-2026-7 in openssl");
    // An exception counts, by the image's name at its origin or in production.
    for (sequence, host) in [(2, site.origin.host().to_string()), (3, site.production.host().to_string())] {
        let exception = json!({
            "id": "CVE-2026-7", "images": [format!("{host}/payments")], "expires": "2999-01-01", "reason": "not reachable",
        });
        site.import["gate"]["scan"]["exceptions"] = json!([exception]);
        site.receive(&site.packed(sequence), &[]).expect_code(0);
    }
}

#[test]
fn without_a_gate_it_still_counts_what_the_program_says_must_stop_a_release() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.packed(1);
    let file = write(&site, "check.json", &check(true));
    let text = format!("cat {} > $2", file.display());
    receive(&mut site, &text).expect_code(3).expect_stderr("no root");
    assert_nothing_is_published(&site);
    write(&site, "check.json", &check(false));
    receive(&mut site, &text).expect_code(0);
}

#[test]
fn what_can_be_scanned_is_scanned_once() {
    if !need(Site::NEEDS) {
        return;
    }
    // Under two names.
    let mut site = Site::new();
    site.list_api_as("payments/web", "1.0");
    let seen = site.scratch("seen").join("references");
    let command = script(&site, &format!("echo $1 | tee -a {}", seen.display()), &["{reference}"]);
    site.import["scan"] = json!({ "command": command });
    site.receive(&site.packed(1), &[]).expect_code(0);
    assert_eq!(fs::read_to_string(&seen).unwrap().lines().count(), 2);
    // Not what is left out.
    let command = script(&site, "exit 1", &["{reference}"]);
    site.import["scan"] = json!({ "command": command });
    site.list_fixtures(&[API]);
    site.production.load_layout(&fixtures(), BUSYBOX, "payments/api", "2.3.1");
    site.receive(&site.packed(3), &["--on-existing-tag", "skip"]).expect_code(0);
}

#[test]
fn what_the_registry_has_changed_is_not_scanned() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let folder = plaintext(&site);
    let proxy = Proxy::before(&site.production);
    site.import["streams"]["payments"]["to"][0]["to"] = format!("{}/payments", proxy.host()).into();
    site.import["scan"] = json!({ "command": ["tar", "--list", "--file={archive}"], "plaintext_dir": folder });
    let bundle = site.packed(1);
    proxy.rule(Rule::new(Fault::FlipAnswer(10)).method("GET").path("/blobs/sha256:"));
    site.receive(&bundle, &[]).expect_code(1).expect_stderr("cannot be read for the scanner");
    assert!(is_empty(&folder));
    assert_nothing_is_published(&site);
    proxy.clear();
    site.receive(&bundle, &[]).expect_code(0);
}

#[test]
fn it_runs_once_for_an_image_and_is_judged_for_each_of_its_names() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_api_as("payments/web", "1.0");
    let mut found = trivy(&api(), 0, &[("CVE-2026-7", "CRITICAL")]);
    found["Metadata"] = json!({});
    let file = write(&site, "found.json", &found);
    let runs = site.scratch("runs").join("count");
    let text = format!("echo >> {}; cat {}", runs.display(), file.display());
    let command = script(&site, &text, &["{reference}"]);
    site.import["scan"] = json!({ "command": command });
    let api_only = format!("{}/payments/api", site.production.host());
    let exception =
        |images: Vec<String>| json!([{ "id": "CVE-2026-7", "images": images, "expires": "2999-01-01", "reason": "r" }]);
    // What came along says nothing: the gate asks for none of it.
    let rules = |images| json!({ "scan": { "max": { "critical": 0 }, "exceptions": exception(images) } });
    write(&site, "good.json", &trivy(&api(), 0, &[]));
    site.import["gate"] = rules(vec![api_only.clone()]);
    site.release["attach"] = json!(["good.json"]);
    let with_report = site.packed(2);
    let refused = site.receive(&with_report, &[]).expect_code(3);
    assert!(
        refused.stderr.contains("payments/web:1.0 (sha256:") && !refused.stderr.contains("payments/api:2.3.1 ("),
        "{refused}"
    );
    assert_eq!(fs::read_to_string(&runs).unwrap().lines().count(), 2, "once for each image manifest");
    let web = format!("{}/payments/web", site.production.host());
    site.import["gate"] = rules(vec![api_only, web]);
    site.receive(&with_report, &[]).expect_code(0);
    let excused = recorded(&site).scanner[0].excused.clone();
    assert_eq!(excused[0].id.raw(), "CVE-2026-7");
}

#[test]
fn an_image_is_scanned_whatever_its_layers_are_called() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let mut layout = testkit::Layout::new();
    let config = layout.blob("application/vnd.oci.image.config.v1+json", br#"{"architecture":"amd64","os":"linux"}"#);
    let layer = layout.blob("application/x-tar-gzip", b"layer");
    let image = layout.manifest("application/vnd.oci.image.manifest.v1+json", &config, &[layer]);
    layout.name("registry.dev.example/payments/odd:1", &image);
    site.origin.load_layout(layout.path(), "registry.dev.example/payments/odd:1", "payments/odd", "1");
    site.release["images"] = json!([format!("{}/payments/odd:1", site.origin.host())]);
    site.packed(1);
    receive(&mut site, "exit 1").expect_code(3).expect_stderr("it ended with exit code 1");
    assert_nothing_is_published(&site);
}

#[test]
fn what_it_unpacks_lies_where_image_data_may_lie() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(1);
    let folder = plaintext(&site);
    let seen = site.scratch("seen").join("folders");
    let command = script(&site, &format!("pwd >> {0}; echo $TMPDIR | tee -a {0}", seen.display()), &["{reference}"]);
    site.import["scan"] = json!({ "command": command, "plaintext_dir": folder });
    site.receive(&bundle, &[]).expect_code(0);
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.lines().count() == 4 && seen.lines().all(|line| line.starts_with(folder.to_str().unwrap())), "{seen}");
    assert!(is_empty(&folder));
}

#[test]
fn it_is_given_no_keys() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(1);
    let seen = site.scratch("seen").join("environment");
    let files = site.scratch("seen").join("files");
    let text = format!("env | tee {}; ls /proc/self/fd > {}", seen.display(), files.display());
    let command = script(&site, &text, &["{reference}"]);
    site.import["scan"] = json!({ "command": command, "environment": ["ROX_API_TOKEN"] });
    let mut import = site.import(&["receive"]);
    import.env("SEALIFT_SIGN_PASSPHRASE", "secret").env("ROX_API_TOKEN", "token").env("OTHER", "secret").arg(&bundle);
    run(&mut import).expect_code(0);
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains("ROX_API_TOKEN=token") && seen.contains("PATH="), "{seen}");
    assert!(!seen.contains("secret"), "{seen}");
    // None but those that anything started here would have.
    let here = run(testkit::command("ls", &site.scratch("home")).arg("/proc/self/fd")).expect_code(0).stdout;
    assert_eq!(fs::read_to_string(files).unwrap(), here);
}

#[test]
fn a_command_that_cannot_work_is_refused_at_once() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(1);
    for (scan, why) in [
        (json!({ "command": [] }), "it names no program"),
        (json!({ "command": ["trivy", "image"] }), "{reference} or {archive} is missing"),
        (json!({ "command": ["trivy", "{archive}"] }), "scan.plaintext_dir is not configured"),
        (json!({ "command": ["x", "{reference}"], "environment": ["SEALIFT_SIGN_PASSPHRASE"] }), "not handed on"),
    ] {
        site.import["scan"] = scan;
        site.receive(&bundle, &[]).expect_code(2).expect_stderr(why);
    }
    // Others could reach the image there.
    let folder = site.scratch("open");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    site.import["scan"] = json!({ "command": ["cat", "{archive}"], "plaintext_dir": folder });
    site.receive(&bundle, &[]).expect_code(2).expect_stderr("others can reach it (mode 755, expected 700)");
    assert_nothing_is_published(&site);
    // On the command line, where the configuration has none.
    site.receive(&bundle, &["--scan-command", "echo {reference}"]).expect_code(2).expect_stderr("and this one has it");
    site.import.as_object_mut().unwrap().remove("scan");
    site.receive(&bundle, &["--scan-command", "echo {reference}"]).expect_code(0);
    assert_eq!(recorded(&site).scanner.len(), 2);
}

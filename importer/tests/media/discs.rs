//! Several media: laid out, brought one at a time, mixed up, missing.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::hostile::{self, flip_bit, volume_file};
use testkit::layout::noise;
use testkit::{Site, need, run, run_ok};

use crate::{is_in_production, large, names, packed, receive};

const MEDIUM: &str = "4MiB";

fn on_discs(site: &mut Site) -> (manifest_schema::Digest, PathBuf) {
    let digest = large(site);
    let bundle = packed(site, 1, &["--media", MEDIUM, "--volume-size", "1MiB", "--with-importer", "release.yaml"]);
    assert_eq!(names(&bundle), ["medium-1", "medium-2"]);
    (digest, bundle)
}

#[test]
fn a_bundle_is_laid_out_on_media_and_received_from_all_of_them() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (digest, bundle) = on_discs(&mut site);
    let plan =
        run(&mut site.export(&["plan", "--sequence", "1", "--media", MEDIUM, "--volume-size", "1MiB", "--json"]));
    let plan = plan.expect_code(0).json();
    let media = plan["media"].as_array().unwrap();
    assert_eq!(media.len(), 2);
    for medium in media {
        let folder = bundle.join(format!("medium-{}", medium["number"]));
        let used: u64 = names(&folder).iter().map(|name| fs::metadata(folder.join(name)).unwrap().len()).sum();
        assert!(used <= medium["at_most_bytes"].as_u64().unwrap(), "{used} of {medium}");
        assert!(medium["at_most_bytes"].as_u64() <= medium["capacity"].as_u64());
        assert!(names(&folder).contains(&"LABEL.txt".into()) && names(&folder).contains(&"SHA256SUMS.asc".into()));
    }
    let text =
        run(&mut site.export(&["plan", "--sequence", "1", "--media", MEDIUM, "--volume-size", "1MiB"])).expect_code(0);
    assert!(text.stdout.contains("medium 2 of 2: at most"), "{text}");
    // Only one of them: which volumes are on the other is said.
    let missing = receive(&site, &[&bundle.join("medium-1")], &[]).expect_code(4);
    assert!(missing.stderr.contains("are missing (medium 2)"), "{missing}");
    assert!(missing.stderr.contains("state: nothing was published"), "{missing}");
    receive(&site, &[&bundle.join("medium-2"), &bundle.join("medium-1")], &[]).expect_code(0);
    is_in_production(&site, &digest);
    let again = receive(&site, &[&bundle], &[]).expect_code(0);
    assert!(again.stdout.contains("already received"), "{again}");
}

/// The importing program is on the first medium, and what the label says of it is true.
#[test]
fn the_importing_program_travels_on_the_first_medium() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (_, bundle) = on_discs(&mut site);
    let carried = bundle.join("medium-1/sealift-import");
    let bytes = fs::read(&carried).unwrap();
    assert_eq!(bytes, fs::read(site.export_dir().join("release.yaml")).unwrap());
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&carried).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(!bundle.join("medium-2/sealift-import").exists());
    let label = fs::read_to_string(bundle.join("medium-1/LABEL.txt")).unwrap();
    let digest = blobs::sha256(&bytes);
    assert!(label.contains(&format!("Program:     sealift-import  {digest}")), "{label}");
    assert!(label.contains("by another way"), "{label}");
    if need(&["sha256sum"]) {
        run_ok(
            testkit::command("sha256sum", &bundle)
                .args(["-c", "--ignore-missing", "SHA256SUMS"])
                .current_dir(bundle.join("medium-1")),
        );
    }
    run(site.import(&["check"]).arg(&bundle)).expect_code(0);
    flip_bit(&carried);
    run(site.import(&["check"]).arg(&bundle)).expect_code(4);
    let verified = run(site.import(&["verify"]).arg(&bundle)).expect_code(4);
    assert!(verified.stdout.contains("PROBLEM  file sealift-import"), "{verified}");
    // Made again, the first medium needs it, and no more of it than there was room left for.
    let again = ["--media", MEDIUM, "--volume-size", "1MiB", "--volume", "1"];
    let without = site.pack(1, &again).expect_code(2);
    assert!(without.stderr.contains("the importing program (--with-importer)"), "{without}");
    fs::write(site.export_dir().join("larger"), vec![1; bytes.len() + 1]).unwrap();
    let larger = site.pack(1, &[&again[..], &["--with-importer", "larger"]].concat()).expect_code(2);
    assert!(larger.stderr.contains("it is larger than planned"), "{larger}");
    site.pack(1, &[&again[..], &["--with-importer", "release.yaml"]].concat()).expect_code(0);
}

/// A child that asks for media, with what it says.
struct Asking {
    child: std::process::Child,
    said: BufReader<std::process::ChildStderr>,
}

impl Asking {
    fn new(site: &Site, drive: &Path) -> Self {
        let mut command = site.import(&["receive", "--prompt"]);
        command.arg(drive).stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        // A test that waits for the wrong words ends.
        let pid = child.id().to_string();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(90));
            std::process::Command::new("kill").args(["-9", &pid]).stderr(Stdio::null()).status()
        });
        Self { child, said }
    }

    /// Reads on to a line that holds a text.
    #[track_caller]
    fn until(&mut self, text: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.said.read_line(&mut line).unwrap(), 0, "expected `{text}` in:\n{all}");
            all += &line;
            if line.contains(text) {
                return line;
            }
        }
    }

    fn answer(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    #[track_caller]
    fn ends_with(mut self, code: i32) -> String {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.said, &mut rest).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(code), "{rest}");
        rest
    }
}

#[test]
fn one_drive_is_enough() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (digest, bundle) = on_discs(&mut site);
    let other = packed(&site, 2, &["--media", MEDIUM, "--volume-size", "1MiB"]);
    let drive = site.scratch("mnt").join("cdrom");
    let insert = |folder: &Path| {
        if drive.exists() {
            fs::remove_dir_all(&drive).unwrap();
        }
        hostile::copy(folder, &drive);
    };
    insert(&bundle.join("medium-2"));
    let mut asking = Asking::new(&site, &drive);
    // Not the first one: it is only checked.
    asking.until("volume 1 of 7 of payments-1 (on medium 1 of 2), please");
    // The disc can be taken out: nothing on it is held open.
    let open = fs::read_dir(format!("/proc/{}/fd", asking.child.id())).unwrap();
    let held: Vec<_> =
        open.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok()).filter(|to| to.starts_with(&drive)).collect();
    assert!(held.is_empty(), "{held:?}");
    insert(&bundle.join("medium-2"));
    asking.answer("");
    asking.until("good");
    asking.until("volume 1 of 7 of payments-1 (on medium 1 of 2), please");
    insert(&other.join("medium-1"));
    asking.answer("");
    asking.until("this does not help: ");
    asking.until("volume 1 of 7");
    insert(&bundle.join("medium-1"));
    asking.answer("");
    let wanted = asking.until("please");
    assert!(wanted.contains("(on medium 2 of 2)"), "{wanted}");
    assert!(site.production.tags().is_empty());
    insert(&bundle.join("medium-1"));
    asking.answer("");
    asking.until("(on medium 2 of 2), please");
    // Named instead of put into the drive.
    fs::remove_dir_all(&drive).unwrap();
    asking.answer(&bundle.join("medium-2").display().to_string());
    asking.ends_with(0);
    is_in_production(&site, &digest);
}

#[test]
fn nobody_brings_the_last_disc() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (digest, bundle) = on_discs(&mut site);
    let mut asking = Asking::new(&site, &bundle.join("medium-1"));
    asking.until("(on medium 2 of 2), please");
    let rest = asking.ends_with(4);
    assert!(rest.contains("is missing (medium 2)") && rest.contains("nothing was published"), "{rest}");
    assert!(rest.contains("sealift-export pack --volume"), "{rest}");
    assert!(site.production.tags().is_empty());
    // Tomorrow it is there: what was done is not done again.
    let ran = receive(&site, &[&bundle], &[]).expect_code(0);
    assert!(ran.stderr.contains("the registry has all that is in volume 1: not read"), "{ran}");
    is_in_production(&site, &digest);
}

#[test]
fn media_of_another_bundle_are_refused_by_name() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (_, bundle) = on_discs(&mut site);
    let other = packed(&site, 2, &["--media", MEDIUM, "--volume-size", "1MiB"]);
    let before = site.traces();
    let ran = receive(&site, &[&bundle.join("medium-1"), &other.join("medium-2")], &[]).expect_code(3);
    assert!(ran.stderr.contains("holds payments-2") && ran.stderr.contains("and not payments-1"), "{ran}");
    // Its volume under this bundle's name.
    let mixed = site.copy(&bundle.join("medium-2"), "mixed");
    let number = names(&mixed).iter().find_map(|n| n.split('.').nth(1)?.parse().ok()).unwrap();
    fs::copy(volume_file(&other.join("medium-2"), number), volume_file(&mixed, number)).unwrap();
    receive(&site, &[&bundle.join("medium-1"), &mixed], &[]).expect_code(4).expect_stderr("differs from the seal");
    assert!(site.production.tags().is_empty());
    assert_eq!(before.lookaside, site.traces().lookaside);
}

/// Waits for a condition, for as long as a slow machine may take.
#[track_caller]
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_station_receives_what_is_mounted() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (digest, bundle) = on_discs(&mut site);
    let mounts = site.scratch("media");
    let refused = run(site.import(&["receive", "--watch"]).arg(&mounts)).expect_code(2);
    assert!(refused.stderr.contains("--watch receives into staging"), "{refused}");
    site.import["watch"] = json!({ "into": "production" });
    site.import["clock_tolerance"] = 1.into();
    site.import["on_existing_tag"] = "replace".into();
    let mut station = site.import(&["receive", "--watch"]).arg(&mounts).spawn().unwrap();
    // What is no bundle, and what nobody here trusts, is left alone.
    fs::create_dir_all(mounts.join("stick/photos")).unwrap();
    let forged = site.scratch("prepared").join("forged");
    hostile::copy(&bundle.join("medium-1"), &forged);
    hostile::sign_seal(&forged, &|bytes| testkit::Key::new(&site.scratch("mallory"), "mallory").sign(bytes));
    fs::rename(&forged, mounts.join("forged")).unwrap();
    hostile::copy(&bundle.join("medium-1"), &mounts.join("one"));
    eventually("the first medium", || !site.production.uploaded_blobs().is_empty());
    assert!(site.production.tags().is_empty());
    hostile::copy(&bundle.join("medium-2"), &mounts.join("two/payments-1"));
    eventually("the tag", || !site.production.tags().is_empty());
    let recorded = || run(&mut site.import(&["ledger", "list", "--json"])).stdout.contains("\"recorded\"");
    eventually("the ledger entry", recorded);
    is_in_production(&site, &digest);
    // Two releases on one stick, made long after the station was started: the earlier one comes first.
    site.list_layers("1", &[b"ten"]);
    let ten = packed(&site, 10, &[]);
    site.list_layers("1", &[b"nine"]);
    let nine = packed(&site, 9, &[]);
    site.list_layers("1", &[b"old"]);
    let old = packed(&site, 11, &["--expires", &in_seconds(3)]);
    std::thread::sleep(Duration::from_secs(4));
    hostile::copy(&old, &mounts.join("stick/payments-11"));
    let stick = site.scratch("prepared").join("both");
    hostile::copy(&ten, &stick.join("payments-10"));
    hostile::copy(&nine, &stick.join("payments-9"));
    fs::rename(&stick, mounts.join("both")).unwrap();
    let rows = || run(&mut site.import(&["ledger", "list", "--json"])).json();
    let count = |status: &str| rows().to_string().matches(status).count();
    eventually("both releases", || count("\"recorded\"") >= 3);
    station.kill().unwrap();
    station.wait().unwrap();
    let rows = rows();
    assert!(!rows.to_string().contains("\"sequence\":11"), "it had expired when it was put in: {rows}");
}

/// A station that is running, with what it says.
struct Station {
    child: std::process::Child,
    said: std::sync::mpsc::Receiver<String>,
    mounts: PathBuf,
    made: PathBuf,
}

impl Station {
    fn new(site: &mut Site) -> Self {
        site.import["watch"] = json!({ "into": "production" });
        let (mounts, made) = (site.scratch("media"), site.scratch("made"));
        let mut command = site.import(&["receive", "--watch"]);
        let mut child = command.arg(&mounts).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (says, said) = std::sync::mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| says.send(line)));
        let station = Self { child, said, mounts, made };
        station.until("watching");
        station
    }

    /// Puts a medium in, with all that is on it.
    fn mount(&self, folder: &Path, name: &str) {
        hostile::copy(folder, &self.made.join(name));
        self.put_back(name);
    }

    fn put_back(&self, name: &str) {
        fs::rename(self.made.join(name), self.mounts.join(name)).unwrap();
    }

    fn take_out(&self, name: &str) {
        fs::rename(self.mounts.join(name), self.made.join(name)).unwrap();
    }

    /// What is said up to a line that holds a text.
    #[track_caller]
    fn until(&self, text: &str) -> String {
        let mut all = String::new();
        loop {
            match self.said.recv_timeout(Duration::from_secs(30)) {
                Ok(line) => all += &format!("{line}\n"),
                Err(_) => panic!("expected `{text}` in:\n{all}"),
            }
            if all.lines().last().is_some_and(|line| line.contains(text)) {
                return all;
            }
        }
    }

    /// What is said while it looks at its folder at least once.
    fn while_it_looks(&self) -> String {
        std::thread::sleep(Duration::from_secs(5));
        self.said.try_iter().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nobody brings the last disc of one bundle; the next bundle does not wait for it.
#[test]
fn a_station_receives_what_is_whole_while_another_lacks_a_disc() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_layers("1", &[&noise(1, 8_500_000)]);
    let bundle = packed(&site, 1, &["--media", MEDIUM, "--volume-size", "1MiB"]);
    assert_eq!(names(&bundle).len(), 3);
    let digest = site.list_layers("2", &[b"whole"]);
    let next = packed(&site, 2, &[]);
    let station = Station::new(&mut site);
    station.mount(&bundle.join("medium-1"), "one");
    station.until("(on medium 2 of 3)");
    station.mount(&bundle.join("medium-2"), "two");
    station.until("(on medium 3 of 3)");
    station.mount(&next, "three");
    eventually("the tag", || !site.production.tags().is_empty());
    assert_eq!(site.production.tags().values().collect::<Vec<_>>(), [&digest]);
}

/// What is copied in slowly is tried again as it grows; once it was received, what is written beside it changes nothing.
#[test]
fn a_station_receives_what_is_copied_in_slowly() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_layers("1", &[b"slow"]);
    let bundle = packed(&site, 1, &[]);
    let whole = fs::read(volume_file(&bundle, 1)).unwrap();
    fs::write(volume_file(&bundle, 1), &whole[..10]).unwrap();
    let station = Station::new(&mut site);
    station.mount(&bundle, "slow");
    station.until("waiting for volume 1 of 1");
    assert_eq!(station.while_it_looks(), "", "as long as nothing changes");
    fs::write(volume_file(&station.mounts.join("slow"), 1), &whole).unwrap();
    station.until("1 images published");
    eventually("the tag", || !site.production.tags().is_empty());
    fs::write(station.mounts.join("slow/CUSTODY-1.txt"), "later").unwrap();
    let said = station.while_it_looks();
    assert!(!said.contains("slow"), "{said}");
}

/// The disc is pulled out while it is read, so that nothing is there when the next one is waited for.
#[test]
fn a_station_notices_another_bundle_after_a_disc_was_pulled_out() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (_, bundle) = on_discs(&mut site);
    let digest = site.list_layers("2", &[b"whole"]);
    let next = packed(&site, 2, &[]);
    let station = Station::new(&mut site);
    station.mount(&bundle.join("medium-1"), "one");
    station.until("verifying and pushing");
    station.take_out("one");
    station.until("waiting for");
    station.mount(&next, "next");
    eventually("the tag", || !site.production.tags().is_empty());
    assert_eq!(site.production.tags().values().collect::<Vec<_>>(), [&digest]);
}

/// A damaged copy is read once, and again when its medium was cleaned.
#[test]
fn a_station_reads_a_damaged_volume_once() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let digest = large(&mut site);
    let bundle = packed(&site, 1, &["--volume-size", "1MiB"]);
    flip_bit(&volume_file(&bundle, 3));
    let station = Station::new(&mut site);
    station.mount(&bundle, "disc");
    let mut said = station.until("waiting for volume 3");
    said += &station.while_it_looks();
    assert_eq!(said.matches("another copy is looked for").count(), 1, "{said}");
    station.take_out("disc");
    station.while_it_looks();
    flip_bit(&volume_file(&station.made.join("disc"), 3));
    station.put_back("disc");
    eventually("the tag", || !site.production.tags().is_empty());
    is_in_production(&site, &digest);
}

/// What is said at the end is about what was being done, and not about the bundle before.
#[test]
fn a_station_that_loses_its_folder_says_that_nothing_is_being_received() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_layers("1", &[b"whole"]);
    let bundle = packed(&site, 1, &[]);
    let station = Station::new(&mut site);
    station.mount(&bundle, "one");
    station.until("1 images published");
    let recorded = || run(&mut site.import(&["ledger", "list", "--json"])).stdout.contains("\"recorded\"");
    eventually("the ledger entry", recorded);
    fs::rename(&station.mounts, station.made.join("gone")).unwrap();
    let said = station.until("state: ");
    assert!(said.contains("state: nothing is being received"), "{said}");
}

/// A time so many seconds from now.
fn in_seconds(seconds: i64) -> String {
    manifest_schema::Timestamp::from_unix(manifest_schema::Timestamp::now().unix() + seconds).unwrap().to_string()
}

/// A FAT32 stick and an ISO 9660 disc, made with stock tools and of just the capacity that was planned with, hold what was
/// laid out for them, and give it back.
#[test]
fn media_are_real_file_systems() {
    if !need(Site::NEEDS) || !need(&["mformat", "mcopy", "xorriso"]) {
        return;
    }
    // FAT32 has at least 65 525 clusters: this is about the smallest such stick.
    const CAPACITY: u64 = 36 << 20;
    let mut site = Site::new();
    let layers = [noise(1, 9_000_000), noise(2, 20_000_000), noise(3, 9_000_000), noise(4, 20_000_000)];
    let digest = site.list_layers("1", &layers.each_ref().map(Vec::as_slice));
    let bundle = packed(&site, 1, &["--media", "36MiB", "--volume-size", "8MiB", "--recovery", "10%"]);
    let media = names(&bundle);
    assert_eq!(media, ["medium-1", "medium-2"]);
    let used: u64 = files(&bundle.join("medium-1")).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(used > CAPACITY / 100 * 85, "the first medium is nearly full: {used}");
    let home = site.scratch("images");
    let mut read = Vec::new();
    for (n, medium) in media.iter().enumerate() {
        let (folder, back) = (bundle.join(medium), site.scratch(&format!("back-{medium}")));
        if n == 0 {
            let image = home.join("stick.img");
            fs::File::create(&image).unwrap().set_len(CAPACITY).unwrap();
            run_ok(testkit::command("mformat", &home).arg("-F").arg("-i").arg(&image).arg("::"));
            run_ok(testkit::command("mcopy", &home).arg("-s").arg("-i").arg(&image).args(files(&folder)).arg("::"));
            run_ok(testkit::command("mcopy", &home).arg("-s").arg("-i").arg(&image).arg("::*").arg(&back));
        } else {
            let image = home.join("disc.iso");
            run_ok(
                testkit::command("xorriso", &home)
                    .args(["-as", "mkisofs", "-quiet", "-R", "-J", "-o"])
                    .arg(&image)
                    .arg(&folder),
            );
            assert!(fs::metadata(&image).unwrap().len() <= CAPACITY, "the disc holds it");
            run_ok(
                testkit::command("xorriso", &home)
                    .args(["-osirrox", "on", "-indev"])
                    .arg(&image)
                    .args(["-extract", "/"])
                    .arg(&back),
            );
        }
        assert_eq!(names(&back), names(&folder));
        read.push(back);
    }
    let folders: Vec<&Path> = read.iter().map(PathBuf::as_path).collect();
    run(site.import(&["check"]).args(&folders)).expect_code(0);
    receive(&site, &folders, &[]).expect_code(0);
    is_in_production(&site, &digest);
}

fn files(folder: &Path) -> Vec<PathBuf> {
    names(folder).iter().map(|name| folder.join(name)).collect()
}

/// A second signer signs the seal of every medium at once.
#[test]
fn a_bundle_on_media_is_signed_by_several() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (_, bundle) = on_discs(&mut site);
    let second = testkit::Key::new(&site.scratch("second"), "second");
    let trusting = |folder: &Path| run(site.import(&["check", "--trust"]).arg(&second.certificate_file).arg(folder));
    trusting(&bundle).expect_code(3);
    let sign = |word: &str| {
        let ran = run(site.export(&["sign", "--sign-key"]).arg(&second.secret_file).arg(&bundle)).expect_code(0);
        assert!(ran.stdout.contains(&format!("{word}: {}", second.fingerprint)), "{ran}");
    };
    sign("signed");
    sign("already signed");
    trusting(&bundle).expect_code(0);
    for medium in names(&bundle) {
        trusting(&bundle.join(medium)).expect_code(0);
    }
    run(site.import(&["inspect"]).arg(bundle.join("medium-1"))).expect_code(0);
    // What is damaged is not signed.
    flip_bit(&volume_file(&bundle.join("medium-2"), 6));
    run(site.export(&["sign", "--sign-key"]).arg(&second.secret_file).arg(&bundle)).expect_code(4);
}

/// What is asked for is made again on the other side, long after the first disc was judged.
#[test]
fn a_disc_that_is_made_while_somebody_waits_is_taken() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (digest, bundle) = on_discs(&mut site);
    site.import["clock_tolerance"] = 1.into();
    let mut asking = Asking::new(&site, &bundle.join("medium-1"));
    asking.until("(on medium 2 of 2), please");
    std::thread::sleep(Duration::from_secs(3));
    let second = names(&bundle.join("medium-2")).into_iter().filter(|name| name.ends_with(".age"));
    let numbers: Vec<_> =
        second.map(|name| name.split('.').nth(1).unwrap().trim_start_matches('0').to_string()).collect();
    site.pack(1, &["--media", MEDIUM, "--volume-size", "1MiB", "--volume", &numbers.join(",")]).expect_code(0);
    let again = site.media().join("payments-1.revision-2");
    assert_eq!(names(&again), ["medium-2"]);
    let seal = fs::read_to_string(again.join("medium-2/SHA256SUMS")).unwrap();
    assert!(seal.contains("  sealift-import\n"), "the seal still names what is on the first medium: {seal}");
    asking.answer(&again.display().to_string());
    asking.ends_with(0);
    is_in_production(&site, &digest);
}

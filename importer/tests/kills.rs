//! `kill -9` at any moment, then the same command again: it ends as if nothing had happened.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use common::{SavedLedger, acts, files, signatures};
use manifest_schema::Digest;
use serde_json::json;
use testkit::hostile::{self, MANIFEST_SIGNATURE, TarEntry};
use testkit::layout::{API, BUSYBOX, noise};
use testkit::{Fault, Opened, Proxy, Ran, Registry, Rule, Site, need, run};

/// How many moments are tried, spread over the requests of a run that nobody interrupts.
const MOMENTS: usize = 10;

/// The number of the request after which the run is killed.
fn request(moment: usize, of: usize) -> usize {
    (of * (2 * moment + 1) / (2 * MOMENTS)).max(1)
}

/// A proxy that keeps each request waiting, long enough for the program to be killed meanwhile.
fn slow(registry: &Registry) -> Proxy {
    let proxy = Proxy::before(registry);
    proxy.rule(Rule::new(Fault::Delay(Duration::from_millis(10))));
    proxy
}

/// Starts a command and kills it when something has happened. Whether it was still running then.
fn killed_when(command: &mut Command, happened: impl Fn() -> bool) -> bool {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !happened() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let running = child.try_wait().unwrap().is_none();
    // SIGKILL
    child.kill().unwrap();
    child.wait().unwrap();
    running
}

/// What a run leaves behind on the importing side, without times.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    tags: BTreeMap<String, Digest>,
    manifests: BTreeSet<String>,
    blobs: BTreeSet<String>,
    content: BTreeSet<Digest>,
    signatures: Vec<String>,
    acts: Vec<&'static str>,
}

impl Left {
    fn by(site: &Site) -> Self {
        run(&mut site.import(&["ledger", "verify"])).expect_code(0);
        Self {
            tags: site.production.tags(),
            manifests: site.production.manifests(),
            blobs: site.production.linked_blobs(),
            content: site.production.uploaded_blobs(),
            // A signature that a killed run was writing is hidden, and nobody reads it.
            signatures: signatures(site).into_keys().collect(),
            acts: acts(site),
        }
    }
}

/// An empty production registry behind a slow proxy, an empty signature tree and a ledger that knows nothing.
fn begin_anew(site: &mut Site, ledger: &SavedLedger) -> Proxy {
    site.production = Registry::start();
    let proxy = slow(&site.production);
    site.import["streams"]["payments"]["to"][0]["to"] = format!("{}/payments", proxy.host()).into();
    let _ = std::fs::remove_dir_all(site.lookaside());
    ledger.put_back(site);
    proxy
}

#[test]
fn a_killed_receive_is_continued_by_the_same_command() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_fixtures(&[API, BUSYBOX]);
    let bundle = site.packed(42);
    let ledger = SavedLedger::of(&site);

    let proxy = begin_anew(&mut site, &ledger);
    site.receive(&bundle, &[]).expect_code(0);
    let whole = proxy.seen().len();
    drop(proxy);
    let expected = Left::by(&site);
    assert_eq!(expected.acts, ["created", "begun", "signing", "recorded"]);
    assert_eq!(expected.signatures.len(), expected.manifests.len());
    assert!(expected.signatures.iter().all(|s| s.ends_with("/signature-1")), "{expected:?}");

    for moment in 0..MOMENTS {
        let proxy = begin_anew(&mut site, &ledger);
        let at = request(moment, whole);
        assert!(killed_when(site.import(&["receive"]).arg(&bundle), || proxy.seen().len() >= at));
        // The same command, on the same way.
        let again = site.receive(&bundle, &[]).expect_code(0);
        assert_eq!(Left::by(&site), expected, "killed after request {at} of {whole}\n{again}");
        drop(proxy);
    }

    // Moments that are too short to be met by chance.
    type Happened = fn(&Site, &Proxy) -> bool;
    let moments: [(&str, Happened); 6] = [
        ("the first signature", |site, _| !signatures(site).is_empty()),
        ("some signatures", |site, _| signatures(site).len() >= 3),
        ("the first image manifest", |_, proxy| proxy.count("PUT", "/manifests/sha256:") > 0),
        ("a tag is about to move", |_, proxy| proxy.count("PUT", "/manifests/2.3.1") > 0),
        ("a tag has moved", |site, _| !site.production.tags().is_empty()),
        ("all tags have moved", |site, _| site.production.tags().len() == 2),
    ];
    for (name, happened) in moments {
        let proxy = begin_anew(&mut site, &ledger);
        let running = killed_when(site.import(&["receive"]).arg(&bundle), || happened(&site, &proxy));
        let there = signatures(&site).len();
        let again = site.receive(&bundle, &[]).expect_code(0);
        assert_eq!(Left::by(&site), expected, "{name} ({there} signatures, running: {running})\n{again}");
    }
}

/// A site whose releases wait in a staging registry, with production empty behind a slow proxy.
fn begin_stages_anew(site: &mut Site, ledger: &SavedLedger, staging: &Registry) -> Proxy {
    let proxy = begin_anew(site, ledger);
    site.stage(proxy.host(), staging);
    proxy
}

#[test]
fn a_killed_promotion_is_continued_by_the_same_command() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    site.list_fixtures(&[API, BUSYBOX]);
    let bundle = site.packed(42);
    let ledger = SavedLedger::of(&site);
    let staging = Registry::start();
    let promote = ["promote", "payments-42"];

    let proxy = begin_stages_anew(&mut site, &ledger, &staging);
    site.receive(&bundle, &[]).expect_code(0);
    let before = proxy.seen().len();
    run(&mut site.import(&promote)).expect_code(0);
    let whole = proxy.seen().len() - before;
    drop(proxy);
    let expected = Left::by(&site);
    assert_eq!(expected.acts, ["created", "begun", "received", "signing", "recorded"]);

    for moment in 0..MOMENTS {
        let proxy = begin_stages_anew(&mut site, &ledger, &staging);
        let first = proxy.seen().len();
        let at = first + request(moment, whole);
        // Into staging too; of the images' blobs all are there already.
        let receiving = moment % 2 == 0;
        if receiving {
            let noted = site.import_dir().join("ledger.db.head");
            let before = fs::read(&noted).unwrap();
            killed_when(site.import(&["receive"]).arg(&bundle), || fs::read(&noted).is_ok_and(|now| now != before));
        }
        site.receive(&bundle, &[]).expect_code(0);
        let reached = || proxy.seen().len() >= at;
        assert!(killed_when(&mut site.import(&promote), reached), "request {at}");
        let again = run(&mut site.import(&promote)).expect_code(0);
        assert_eq!(Left::by(&site), expected, "killed after request {at} of {whole}\n{again}");
        drop(proxy);
    }
}

/// The content of a bundle, without what differs from run to run.
fn content(site: &Site, bundle: &Path) -> Vec<testkit::hostile::TarEntry> {
    let opened = Opened::open(bundle, 1, &site.identity);
    opened.entries.into_iter().filter(|e| e.header_name() != MANIFEST_SIGNATURE).collect()
}

#[test]
fn a_killed_pack_is_continued_by_the_same_command() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let proxy = slow(&site.origin);
    let from = format!("{}/payments", proxy.host());
    site.release["images"] = json!([format!("{from}/api:2.3.1"), format!("{from}/busybox:1.36")]);
    site.import["streams"]["payments"]["origins"] = json!([from]);
    site.import["streams"]["payments"]["to"][0]["from"] = from.into();
    let pack = |site: &Site, name: &str| {
        let mut pack =
            site.export(&["pack", "--sequence", "42", "--bundle-id", "01890a5d-ac96-774b-bcce-b302099a8057"]);
        pack.env("SOURCE_DATE_EPOCH", "1767225600").arg("--output").arg(site.scratch(name));
        pack.arg("--state").arg(site.scratch(&format!("{name}-state")));
        pack
    };
    run(&mut pack(&site, "whole")).expect_code(0);
    let whole = proxy.seen().len();
    let expected = content(&site, &site.scratch("whole").join("payments-42"));

    let taken_over = |name: &str, happened: &dyn Fn(&Path, usize) -> bool| {
        let (folder, before) = (site.scratch(name), proxy.seen().len());
        killed_when(&mut pack(&site, name), || happened(&folder, proxy.seen().len() - before));
        // What is there is either sealed, or is not a bundle.
        let bundle = folder.join("payments-42");
        if bundle.exists() {
            run(site.import(&["verify"]).arg(&bundle)).expect_code(0);
        }
        let again = run(&mut pack(&site, name)).expect_code(0);
        let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["payments-42"], "killed after {name}\n{again}");
        run(site.import(&["verify"]).arg(&bundle)).expect_code(0);
        assert!(content(&site, &bundle) == expected, "killed after {name}\n{again}");
        assert!(run(&mut pack(&site, name)).expect_code(0).stdout.starts_with("already packed"));
    };
    for moment in 0..MOMENTS {
        let at = request(moment, whole);
        taken_over(&format!("request-{at}"), &|_, seen| seen >= at);
    }
    // While it is sealed no registry is asked.
    for file in ["payments-42.0001.tar.zst.age", "LABEL.txt", "SHA256SUMS", "SHA256SUMS.asc"] {
        let name = format!("payments-42.partial/{file}");
        taken_over(file, &|folder, seen| {
            (folder.join(&name).exists() && seen == whole) || folder.join("payments-42").exists()
        });
    }
}

// Moments chosen by chance.

/// How many rounds of each command. `scripts/kills` makes more of them.
fn rounds() -> usize {
    std::env::var("SEALIFT_KILLS").map_or(6, |rounds| rounds.parse().expect("SEALIFT_KILLS: a number"))
}

/// Chance that can be had again: its seed is printed, and taken from `SEALIFT_SEED`.
struct Chance {
    state: u64,
    rounds: usize,
    /// Runs that were killed, and those that had ended before.
    killed: usize,
    late: usize,
}

impl Chance {
    fn new(what: &str, rounds: usize) -> Self {
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos().into();
        let seed: u64 =
            std::env::var("SEALIFT_SEED").map_or_else(|_| now(), |s| s.parse().expect("SEALIFT_SEED: a number"));
        println!("{what}: {rounds} rounds, SEALIFT_SEED={seed}");
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, rounds, killed: 0, late: 0 }
    }

    fn below(&mut self, limit: u64) -> u64 {
        for (shift, left) in [(13, true), (7, false), (17, true)] {
            self.state ^= if left { self.state << shift } else { self.state >> shift };
        }
        (self.state >> 16) % limit.max(1)
    }

    fn moment(&mut self, within: Duration) -> Duration {
        Duration::from_micros(self.below(within.as_micros() as u64))
    }

    /// Kills a command at a moment of the time that it takes when nobody kills it, at times twice in a row, and runs it
    /// to its end. Tells the moments with what the last run said.
    fn until_done(&mut self, whole: &mut Duration, command: impl Fn() -> Command) -> (String, Ran) {
        let mut moments = Vec::new();
        for n in 0..1 + usize::from(self.below(3) == 0) {
            let (moment, begun) = (self.moment(*whole), Instant::now());
            if killed_when(&mut command(), || begun.elapsed() >= moment) {
                self.killed += 1;
            } else {
                self.late += 1;
                // It takes less time than was thought; a second run does anyway.
                *whole = if n == 0 { begun.elapsed().min(*whole) } else { *whole };
            }
            moments.push(format!("{} ms", moment.as_millis()));
        }
        (format!("killed after {}", moments.join(" and ")), run(&mut command()))
    }

    #[track_caller]
    fn report(&self, what: &str, wrong: &[String]) {
        println!(
            "{what}: killed {} times, {} times it had ended before; {} rounds failed",
            self.killed,
            self.late,
            wrong.len()
        );
        assert!(wrong.is_empty(), "{} of {} rounds\n{}", wrong.len(), self.rounds, wrong.join("\n"));
    }
}

/// How long a command takes that must succeed.
#[track_caller]
fn timed(command: &mut Command) -> Duration {
    let begun = Instant::now();
    run(command).expect_code(0);
    begun.elapsed()
}

fn check(what: &str, holds: bool) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// The entries of all volumes of a bundle, without what differs from run to run.
fn contents(site: &Site, bundle: &Path) -> BTreeMap<String, Vec<TarEntry>> {
    let open = |name: &String| {
        let path = bundle.join(name);
        let number = name.split('.').nth(1)?.parse().ok().filter(|_| name.ends_with(".age"))?;
        let entries = Opened::open(path.parent()?, number, &site.identity).entries;
        Some((name.clone(), entries.into_iter().filter(|e| e.header_name() != MANIFEST_SIGNATURE).collect()))
    };
    files(bundle).keys().filter_map(open).collect()
}

/// Whether every file of a bundle is what its seal says, and no other is there.
fn is_whole(site: &Site, folders: &[&Path]) -> Result<(), String> {
    let certificate = &site.release_key.certificate_file;
    let ran = run(site.import(&["check", "--json", "--trust"]).arg(certificate).args(folders));
    let good = |report: serde_json::Value| {
        let files = report["files"].as_array().unwrap();
        files.iter().all(|f| f["state"] == "good") && report["not_sealed"].as_array().unwrap().is_empty()
    };
    check(&format!("check\n{ran}"), ran.code == Some(0) && good(ran.json()))?;
    let ran = run(site.import(&["verify", "-q"]).args(folders));
    check(&format!("verify\n{ran}"), ran.code == Some(0))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A release of which one layer comes in parts, from a registry.
fn in_parts(site: &mut Site) {
    site.list_layers("1", &[&noise(1, 300_000), &noise(2, 1_900_000), &noise(3, 200_000)]);
}

/// Packs that, in a folder of its own and with a record of its own.
fn pack_in(site: &Site, name: &str, volume_size: &str, args: &[&str]) -> (PathBuf, Command) {
    let mut command = site.export(&["pack", "--sequence", "1", "--volume-size", volume_size]);
    command.args(args).args(["--bundle-id", "01890a5d-ac96-774b-bcce-b302099a8057"]);
    command.env("SOURCE_DATE_EPOCH", "1767225600");
    let folder = site.scratch(name);
    command.arg("--output").arg(&folder).arg("--state").arg(site.scratch(&format!("{name}-state")));
    (folder, command)
}

const SMALLEST: &str = "1MiB";
const PLAIN: &[&str] = &["--recovery", "20%"];
const ON_MEDIA: &[&str] = &["--recovery", "20%", "--media", "4MiB"];

#[test]
fn a_pack_that_is_killed_at_random_moments() {
    if !need(Site::NEEDS) {
        return;
    }
    const WHAT: &str = "pack";
    let (mut site, mut chance) = (Site::new(), Chance::new(WHAT, rounds()));
    in_parts(&mut site);
    let mut whole = [("whole", PLAIN), ("whole-media", ON_MEDIA)].map(|(name, args)| {
        let (folder, mut command) = pack_in(&site, name, SMALLEST, args);
        let time = timed(&mut command);
        let bundle = folder.join("payments-1");
        let listed = |folder: &Path| files(folder).into_keys().collect::<Vec<_>>();
        (args, time, contents(&site, &bundle), listed(&folder), listed(&site.scratch(&format!("{name}-state"))))
    });
    assert!(whole[0].2.len() >= 3 && names(&site.scratch("whole-media").join("payments-1")).len() >= 2);
    let mut round = |n: usize| -> Result<(), String> {
        let (args, time, content, listed, state) = &mut whole[n % 2];
        let name = format!("round-{n}");
        let (folder, _) = pack_in(&site, &name, SMALLEST, args);
        let bundle = folder.join("payments-1");
        let (moments, again) = chance.until_done(time, || pack_in(&site, &name, SMALLEST, args).1);
        let judge = || {
            check("the same command fails", again.code == Some(0))?;
            let found: Vec<_> = files(&folder).into_keys().collect();
            check(&format!("other files: {found:?}"), found == *listed && names(&folder) == ["payments-1"])?;
            let found: Vec<_> = files(&site.scratch(&format!("{name}-state"))).into_keys().collect();
            check(&format!("other files of the record: {found:?}"), found == *state)?;
            is_whole(&site, &[&bundle])?;
            check("other content", contents(&site, &bundle) == *content)?;
            let once_more = run(&mut pack_in(&site, &name, SMALLEST, args).1);
            check(&format!("it packs again\n{once_more}"), once_more.stdout.starts_with("already packed"))
        };
        let judged = judge().map_err(|e| format!("=== round {n}, {args:?}, {moments}: {e}\n{again}"));
        fs::remove_dir_all(folder).unwrap();
        judged
    };
    let wrong: Vec<_> = (0..rounds()).filter_map(|n| round(n).err()).collect();
    chance.report(WHAT, &wrong);
}

#[test]
fn a_pack_of_single_volumes_that_is_killed_at_random_moments() {
    if !need(Site::NEEDS) {
        return;
    }
    const WHAT: &str = "pack --volume";
    let (mut site, mut chance) = (Site::new(), Chance::new(WHAT, rounds()));
    in_parts(&mut site);
    let (folder, mut command) = pack_in(&site, "again", SMALLEST, PLAIN);
    run(&mut command).expect_code(0);
    let bundle = folder.join("payments-1");
    let mut content = contents(&site, &bundle);
    content.retain(|name, _| name.contains(".0001.") || name.contains(".0003."));
    assert_eq!(content.len(), 2);
    let again = || pack_in(&site, "again", SMALLEST, &["--recovery", "20%", "--volume", "1,3", "--json"]).1;
    let mut time = timed(&mut again());
    let judge = |ran: &Ran| {
        check("the same command fails", ran.code == Some(0))?;
        let made = PathBuf::from(ran.json()["bundle"]["path"].as_str().unwrap());
        let left: Vec<_> = names(&folder).into_iter().filter(|name| name.ends_with(".partial")).collect();
        check(&format!("unfinished folders: {left:?}"), left.is_empty())?;
        check("other content", contents(&site, &made) == content)?;
        // With the volumes that were not made again.
        let rest = site.copy(&bundle, "rest");
        for name in content.keys() {
            fs::remove_file(rest.join(name)).unwrap();
        }
        for command in ["check", "verify"] {
            let ran = run(site.import(&[command]).arg(&made).arg(&rest));
            check(&format!("{command}\n{ran}"), ran.code == Some(0))?;
        }
        Ok::<(), String>(())
    };
    let mut wrong = Vec::new();
    // Moments that are too short to be met by chance: the record has the new seal, which is not in its place yet.
    for file in ["LABEL.txt", "SHA256SUMS", "SHA256SUMS.asc"] {
        let revision = |name: &String| name.split("revision-").nth(1)?.parse::<u32>().ok();
        let next = names(&folder).iter().filter_map(revision).max().unwrap() + 1;
        let done = folder.join(format!("payments-1.revision-{next}"));
        let partial = folder.join(format!("payments-1.revision-{next}.partial"));
        killed_when(&mut again(), || partial.join(file).exists() || done.exists());
        let ran = run(&mut again());
        wrong.extend(judge(&ran).err().map(|e| format!("=== killed at {file}: {e}\n{ran}")));
    }
    for n in 0..rounds() {
        for name in names(&folder).iter().filter(|name| *name != "payments-1") {
            fs::remove_dir_all(folder.join(name)).unwrap();
        }
        let (moments, ran) = chance.until_done(&mut time, again);
        wrong.extend(judge(&ran).err().map(|e| format!("=== round {n}, {moments}: {e}\n{ran}")));
    }
    chance.report(WHAT, &wrong);
}

/// Volumes of a revision that nobody ever got are in no later seal.
#[test]
fn a_killed_revision_is_not_what_later_seals_speak_of() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    in_parts(&mut site);
    let (folder, mut command) = pack_in(&site, "again", SMALLEST, PLAIN);
    run(&mut command).expect_code(0);
    let bundle = folder.join("payments-1");
    let again =
        |number: &str| pack_in(&site, "again", SMALLEST, &["--recovery", "20%", "--volume", number, "--json"]).1;
    // The record has the new seal by the time that the label is written. A run that is too fast has made a revision.
    let mut newest = bundle.clone();
    let killed = (2..20).any(|revision| {
        let done = folder.join(format!("payments-1.revision-{revision}"));
        let partial = folder.join(format!("payments-1.revision-{revision}.partial"));
        killed_when(&mut again("3"), || partial.join("LABEL.txt").exists() || done.exists());
        if done.exists() {
            newest = done;
        }
        partial.exists()
    });
    assert!(killed, "no run was killed while it sealed");
    let made = PathBuf::from(run(&mut again("2")).expect_code(0).json()["bundle"]["path"].as_str().unwrap());
    let name = hostile::volume_file(&bundle, 3).file_name().unwrap().to_str().unwrap().to_string();
    let sealed = |folder: &Path| {
        let seal = fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
        seal.lines().find(|line| line.ends_with(&name)).unwrap().to_string()
    };
    assert_eq!(sealed(&made), sealed(&newest), "volume 3 is what it was");
    // In place of what they replace, the new files make a whole bundle.
    for (name, bytes) in files(&newest).into_iter().chain(files(&made)) {
        fs::write(bundle.join(name), bytes).unwrap();
    }
    is_whole(&site, &[&bundle]).unwrap();
}

#[test]
fn a_repair_that_is_killed_at_random_moments() {
    if !need(Site::NEEDS) {
        return;
    }
    const WHAT: &str = "check --repair";
    let (mut site, mut chance) = (Site::new(), Chance::new(WHAT, rounds()));
    in_parts(&mut site);
    let (folder, mut command) = pack_in(&site, "whole", SMALLEST, &["--recovery", "100%"]);
    run(&mut command).expect_code(0);
    let whole = files(&folder.join("payments-1"));
    let damaged = |name: &str| {
        let bundle = site.copy(&folder.join("payments-1"), name);
        for number in [1, 2] {
            let volume = hostile::volume_file(&bundle, number);
            hostile::truncate(&volume, fs::metadata(&volume).unwrap().len() / 2);
        }
        fs::remove_file(hostile::volume_file(&bundle, 3)).unwrap();
        bundle
    };
    let repair = |bundle: &Path| {
        let mut command = site.import(&["check", "--repair"]);
        command.arg(bundle);
        command
    };
    let mut time = timed(&mut repair(&damaged("first")));
    let mut wrong = Vec::new();
    for n in 0..rounds() {
        let bundle = damaged("round");
        let (moments, ran) = chance.until_done(&mut time, || repair(&bundle));
        if ran.code != Some(0) || files(&bundle) != whole {
            wrong.push(format!("=== round {n}, {moments}: {:?}\n{ran}", names(&bundle)));
        }
        fs::remove_dir_all(site.scratch("round")).unwrap();
    }
    chance.report(WHAT, &wrong);
}

#[test]
fn a_receive_that_is_killed_at_random_moments() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    in_parts(&mut site);
    receive_killed("receive", site, "1MiB", rounds());
}

/// A layer that is uploaded in chunks, which a later run goes on with.
#[test]
fn a_receive_in_chunks_that_is_killed_at_random_moments() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let layer: Vec<u8> = (0..(70 << 20) / 4096).flat_map(|page| [page as u8; 4096]).collect();
    site.list_layers("1", &[&noise(1, 10_000), &layer]);
    receive_killed("receive in chunks", site, "24MiB", rounds().div_ceil(3));
}

#[track_caller]
fn receive_killed(what: &str, mut site: Site, volume_size: &str, rounds: usize) {
    let mut chance = Chance::new(what, rounds);
    let (folder, mut command) = pack_in(&site, "whole", volume_size, &[]);
    run(&mut command).expect_code(0);
    let bundle = folder.join("payments-1");
    let ledger = SavedLedger::of(&site);
    let begin = |site: &mut Site| {
        site.production = Registry::start();
        site.import["streams"]["payments"]["to"][0]["to"] = format!("{}/payments", site.production.host()).into();
        let _ = fs::remove_dir_all(site.lookaside());
        ledger.put_back(site);
    };
    let receive = |site: &Site| {
        let mut command = site.import(&["receive"]);
        command.arg(&bundle);
        command
    };
    let mut time = timed(&mut receive(&site));
    let (expected, listed) = (Left::by(&site), names(&site.import_dir()));
    assert_eq!(expected.acts, ["created", "begun", "signing", "recorded"]);
    let (mut wrong, mut left_open) = (Vec::new(), 0);
    for n in 0..rounds {
        begin(&mut site);
        let (moments, ran) = chance.until_done(&mut time, || receive(&site));
        let judge = || {
            check("the same command fails", ran.code == Some(0))?;
            let left = Left::by(&site);
            check(&format!("expected {expected:?}\nfound {left:?}"), left == expected)?;
            let found = names(&site.import_dir());
            check(&format!("other files: {found:?}"), found == listed)?;
            let once_more = run(&mut receive(&site));
            check(&format!("received again\n{once_more}"), once_more.stdout.contains("already received"))
        };
        wrong.extend(judge().err().map(|e| format!("=== round {n}, {moments}: {e}\n{ran}")));
        left_open += site.production.open_uploads();
    }
    // Of an upload that was begun a moment before, nobody knows.
    println!("{what}: {left_open} uploads are left that nobody completes");
    chance.report(what, &wrong);
}

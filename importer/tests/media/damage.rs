//! Every kind of damage against every share of recovery data: what `check`, `check --repair`, `receive` and stock `par2`
//! make of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use manifest_schema::Digest;
use serde_json::Value;
use testkit::hostile::{self, volume_file};
use testkit::layout::noise;
use testkit::{Ran, Site, need, run};

use crate::common::{Leaves, SavedLedger, World, files};
use crate::{names, packed, receive};

/// Bytes of a slice of the smallest volumes, and of a sector.
const SLICE: u64 = 16 << 10;
const SECTOR: u64 = 4096;

/// What is said of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// Nothing is wrong with it.
    Good,
    /// It can be repaired.
    Yes,
    /// There is too little recovery data.
    TooLittle,
    /// There is none that is of use.
    NoData,
    /// There is no such damage with this share.
    NoCase,
}

use Said::{Good, NoCase, NoData, TooLittle, Yes};

/// A copy of a bundle that is being damaged.
struct Hurt {
    folder: PathBuf,
    /// Another bundle of the same name, packed with the same share.
    foreign: PathBuf,
    number: u32,
}

impl Hurt {
    fn volume(&self) -> PathBuf {
        // It may be gone already.
        self.folder.join(format!("payments-1.{:04}.tar.zst.age", self.number))
    }

    fn recovery(&self) -> Vec<PathBuf> {
        let begin = format!("payments-1.{:04}.vol", self.number);
        names(&self.folder).iter().filter(|n| n.starts_with(&begin)).map(|n| self.folder.join(n)).collect()
    }

    /// How many slices can be repaired.
    fn blocks(&self) -> u64 {
        self.recovery().iter().map(|path| packets(&fs::read(path).unwrap()).len() as u64).sum()
    }

    /// Zeroes a sector in each of so many slices, spread over the volume.
    fn zero(&self, count: u64) {
        let mut bytes = fs::read(self.volume()).unwrap();
        let slices = (bytes.len() as u64).div_ceil(SLICE);
        assert!(count <= slices, "{count} of {slices}");
        for n in 0..count {
            let at = (n * slices / count * SLICE) as usize;
            let end = bytes.len().min(at + SECTOR as usize);
            bytes[at..end].fill(0);
        }
        fs::write(self.volume(), bytes).unwrap();
    }

    /// Damages one recovery block.
    fn lose_block(&self) {
        let path = &self.recovery()[0];
        let mut bytes = fs::read(path).unwrap();
        let at = packets(&bytes)[0] + 1000;
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    fn lose_recovery(&self) {
        self.recovery().iter().for_each(|path| fs::remove_file(path).unwrap());
    }

    fn edit(&self, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.volume()).unwrap();
        edit(&mut bytes);
        fs::write(self.volume(), bytes).unwrap();
    }
}

/// Where recovery blocks are in a file of PAR2.
fn packets(bytes: &[u8]) -> Vec<usize> {
    const KIND: &[u8] = b"PAR 2.0\0RecvSlic";
    (0..bytes.len().saturating_sub(KIND.len()))
        .filter(|at| bytes[*at] == b'P' && bytes[*at..].starts_with(KIND))
        .collect()
}

/// One kind of damage.
struct Case {
    name: &'static str,
    number: u32,
    damage: fn(&Hurt),
    /// Without recovery data, and with 5 %, 20 % and 100 % of it.
    said: [Said; 4],
    /// What stock `par2` says, where that is something else.
    stock: Option<[Said; 4]>,
}

fn case(name: &'static str, said: [Said; 4], damage: fn(&Hurt)) -> Case {
    Case { name, number: 2, damage, said, stock: None }
}

fn cases() -> Vec<Case> {
    let at = |number, case| Case { number, ..case };
    let always_repairable = [NoData, Yes, Yes, Yes];
    let only_all = [NoData, TooLittle, TooLittle, Yes];
    let sound = [NoCase, Good, Good, Good];
    vec![
        case("a flipped bit", always_repairable, |h| hostile::flip_bit(&h.volume())),
        at(1, case("a flipped bit in the first volume", always_repairable, |h| hostile::flip_bit(&h.volume()))),
        at(3, case("a flipped bit in the last volume", always_repairable, |h| hostile::flip_bit(&h.volume()))),
        case("a zeroed sector", always_repairable, |h| h.zero(1)),
        case("as many zeroed sectors as there are blocks", [NoCase, Yes, Yes, Yes], |h| h.zero(h.blocks())),
        case("one zeroed sector more", [NoCase, TooLittle, TooLittle, NoCase], |h| h.zero(h.blocks() + 1)),
        case("the last byte is missing", always_repairable, |h| hostile::truncate(&h.volume(), 1)),
        case("half of it is missing", only_all, |h| h.edit(|bytes| bytes.truncate(bytes.len() / 2))),
        case("an empty file", only_all, |h| h.edit(Vec::clear)),
        case("appended bytes", always_repairable, |h| h.edit(|bytes| bytes.extend([0; 700]))),
        // Slices are looked for at their own places only; stock `par2` searches.
        Case {
            stock: Some([NoCase, Yes, Yes, Yes]),
            ..case("a byte put in", only_all, |h| h.edit(|bytes| bytes.insert(0, 7)))
        },
        case("a missing volume", only_all, |h| fs::remove_file(h.volume()).unwrap()),
        at(1, case("the first volume is missing", only_all, |h| fs::remove_file(h.volume()).unwrap())),
        case("a foreign volume", only_all, |h| {
            fs::copy(volume_file(&h.foreign, h.number), h.volume()).unwrap();
        }),
        // To its own recovery data such a volume is as it should be.
        Case {
            stock: Some([NoCase; 4]),
            ..case("a foreign volume with its recovery data", [NoCase, NoData, NoData, NoData], |h| {
                for path in h.recovery().iter().chain([&h.volume()]) {
                    fs::copy(h.foreign.join(path.file_name().unwrap()), path).unwrap();
                }
            })
        },
        case("a damaged recovery file", sound, Hurt::lose_block),
        case("all recovery files are missing", sound, Hurt::lose_recovery),
        case("a flipped bit, and all recovery files are missing", [NoCase, NoData, NoData, NoData], |h| {
            hostile::flip_bit(&h.volume());
            h.lose_recovery();
        }),
        case("a sector for each block that is not damaged", [NoCase, Yes, Yes, Yes], |h| {
            h.zero(h.blocks() - 1);
            h.lose_block();
        }),
        case("one sector more than blocks that are not damaged", [NoCase, TooLittle, TooLittle, TooLittle], |h| {
            h.zero(h.blocks());
            h.lose_block();
        }),
    ]
}

/// Packed once for all damage.
struct Packed {
    site: Site,
    bundle: PathBuf,
    foreign: PathBuf,
    digest: Digest,
    /// The place in [`Case::said`].
    column: usize,
}

impl Packed {
    fn new(column: usize) -> Self {
        let mut site = Site::new();
        let digest = site.list_layers("1", &[&noise(1, 300_000), &noise(2, 1_100_000)]);
        let mut args = vec!["--volume-size", "1MiB"];
        args.extend([&[][..], &["--recovery", "5%"], &["--recovery", "20%"], &["--recovery", "100%"]][column]);
        let bundle = packed(&site, 1, &args);
        assert_eq!(names(&bundle).iter().filter(|n| n.ends_with(".age")).count(), 3);
        let (foreign, state) = (site.scratch("foreign"), site.scratch("foreign-state"));
        let mut pack = site.export(&["pack", "--sequence", "1"]);
        run(pack.args(&args).arg("--output").arg(&foreign).arg("--state").arg(state)).expect_code(0);
        Self { site, bundle, foreign: foreign.join("payments-1"), digest, column }
    }
}

/// All cases with one share; what went wrong is reported together.
#[track_caller]
fn matrix(column: usize) {
    if !need(Site::NEEDS) {
        return;
    }
    let mut packed = Packed::new(column);
    let with_par2 = need(&["par2"]);
    let ledger = SavedLedger::of(&packed.site);
    let to = packed.site.import["streams"]["payments"]["to"][0]["to"].clone();
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for (n, case) in cases().into_iter().enumerate().filter(|(_, case)| case.said[column] != NoCase) {
        // A place of its own in the registry, so that nothing is there yet.
        let place = to.as_str().unwrap().replace("/payments", &format!("/case-{n}/payments"));
        packed.site.import["streams"]["payments"]["to"][0]["to"] = place.into();
        tried += 1;
        if let Err(problem) = one(&packed, &case, with_par2) {
            wrong.push(format!("=== {}: {problem}", case.name));
        }
        ledger.put_back(&packed.site);
        fs::remove_dir_all(packed.site.scratch("case")).unwrap();
    }
    assert!(wrong.is_empty(), "{} of {tried} cases\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn damage_without_recovery_data() {
    matrix(0);
}

#[test]
fn damage_with_a_share_of_5_percent() {
    matrix(1);
}

#[test]
fn damage_with_a_share_of_20_percent() {
    matrix(2);
}

#[test]
fn damage_with_a_share_of_100_percent() {
    matrix(3);
}

type Files = BTreeMap<String, Vec<u8>>;

fn one(packed: &Packed, case: &Case, with_par2: bool) -> Result<(), String> {
    let (site, said) = (&packed.site, case.said[packed.column]);
    let folder = site.copy(&packed.bundle, "case");
    let hurt = Hurt { folder: folder.clone(), foreign: packed.foreign.clone(), number: case.number };
    (case.damage)(&hurt);
    let (whole, damaged) = (files(&packed.bundle), files(&folder));
    if whole == damaged {
        return Err("nothing was damaged".into());
    }
    let stock = case.stock.map_or(said, |stock| stock[packed.column]);
    if with_par2 && stock != NoCase && !hurt.recovery().is_empty() {
        stock_agrees(site, &hurt, stock, &whole)?;
    }
    let name = format!("payments-1.{:04}.tar.zst.age", case.number);

    let checked = run(site.import(&["check", "--json"]).arg(&folder));
    is_said_by_check(&checked, said, case.number, &damaged)?;
    holds(&folder, &damaged).map_err(|e| format!("check: {e}\n{checked}"))?;

    let before = World::of(site);
    let received = receive(site, &[&folder], &[]);
    match said {
        Good => is_received(site, &received, &packed.digest)?,
        said => is_refused(site, &received, said, case.number, &before)?,
    }

    let repaired = run(site.import(&["check", "--repair", "--json"]).arg(&folder));
    let expected = if matches!(said, Good | Yes) { 0 } else { 4 };
    if repaired.code != Some(expected) {
        return Err(format!("check --repair: expected exit code {expected}\n{repaired}"));
    }
    let done: &[&str] = if said == Yes { &[&name] } else { &[] };
    let listed: Vec<_> = array(&repaired.json(), "repaired").iter().map(|v| v.as_str().unwrap().to_string()).collect();
    if listed != done {
        return Err(format!("check --repair: expected {done:?} to be repaired\n{repaired}"));
    }
    let mut expected = damaged;
    if said == Yes {
        expected.insert(name.clone(), whole[&name].clone());
    }
    holds(&folder, &expected).map_err(|e| format!("check --repair: {e}\n{repaired}"))?;
    if said == Yes {
        is_received(site, &receive(site, &[&folder], &[]), &packed.digest)?;
    }
    Ok(())
}

/// What a member of a report lists; nothing if it is not there.
fn array(report: &Value, key: &str) -> Vec<Value> {
    report[key].as_array().cloned().unwrap_or_default()
}

fn is_said_by_check(checked: &Ran, said: Said, number: u32, damaged: &Files) -> Result<(), String> {
    let name = format!("payments-1.{number:04}.tar.zst.age");
    let code = if said == Good { 0 } else { 4 };
    if checked.code != Some(code) {
        return Err(format!("check: expected exit code {code}\n{checked}"));
    }
    let report = checked.json();
    for file in array(&report, "files").iter().filter(|file| file["kind"] == "volume") {
        let (state, repairable) = match said {
            said if file["name"] != name.as_str() || said == Good => ("good", Value::Null),
            said => {
                let word = match said {
                    Yes => "yes",
                    TooLittle => "too-little",
                    _ => "no-data",
                };
                (if damaged.contains_key(&name) { "damaged" } else { "missing" }, word.into())
            }
        };
        if file["state"] != state || file["repairable"] != repairable {
            return Err(format!("check: expected {state} and {repairable} of {}\n{checked}", file["name"]));
        }
    }
    let text = match said {
        Good => return Ok(()),
        Yes => format!("recovery data can repair volume {number}: run the same command with --repair"),
        _ => format!("volume {number} must be sent again: `sealift-export pack --volume {number}`"),
    };
    match checked.stderr.contains(&text) && checked.stderr.contains(&name) {
        true => Ok(()),
        false => Err(format!("check: expected `{text}` and `{name}`\n{checked}")),
    }
}

fn is_refused(site: &Site, received: &Ran, said: Said, number: u32, before: &World) -> Result<(), String> {
    let after = World::of(site);
    if received.code != Some(4) {
        return Err(format!("receive: expected exit code 4\n{received}"));
    }
    let text = match said {
        Yes => "recovery data can repair it: `sealift-import check --repair".to_string(),
        _ => format!("`sealift-export pack --volume {number}`"),
    };
    let suffices = "(its recovery data does not suffice)";
    for text in [text.as_str(), "state: nothing was published"] {
        if !received.stderr.contains(text) {
            return Err(format!("receive: expected `{text}`\n{received}"));
        }
    }
    let names_it = [format!(".{number:04}.tar.zst.age"), format!("volume {number} ")];
    if !names_it.iter().any(|name| received.stderr.contains(name)) {
        return Err(format!("receive: does not name volume {number}\n{received}"));
    }
    // Of a volume that is not there, nobody is told why.
    if !received.stderr.contains("missing") && received.stderr.contains(suffices) != (said == TooLittle) {
        return Err(format!("receive: `{suffices}` where it is {said:?}\n{received}"));
    }
    let nothing = before.leaves_only(Leaves::Nothing, &after);
    nothing.or_else(|_| before.leaves_only(Leaves::Blobs, &after)).map_err(|e| format!("receive: {e}\n{received}"))
}

fn is_received(site: &Site, received: &Ran, digest: &Digest) -> Result<(), String> {
    let to = site.import["streams"]["payments"]["to"][0]["to"].as_str().unwrap().split_once('/').unwrap().1;
    if received.code != Some(0) {
        return Err(format!("receive: expected exit code 0\n{received}"));
    }
    match site.production.tags().get(&format!("{to}/large:1")) == Some(digest) {
        true => Ok(()),
        false => Err(format!("receive: {digest} is not in production\n{received}")),
    }
}

/// Checks that a folder holds these files and no others.
fn holds(folder: &Path, expected: &Files) -> Result<(), String> {
    let found = files(folder);
    let all: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let different: Vec<_> = all.into_iter().filter(|name| found.get(*name) != expected.get(*name)).collect();
    if different.is_empty() { Ok(()) } else { Err(format!("other files than expected: {different:?}")) }
}

/// Lets stock `par2` repair a copy.
fn stock_agrees(site: &Site, hurt: &Hurt, said: Said, whole: &Files) -> Result<(), String> {
    let copy = site.scratch("case").join("stock");
    hostile::copy(&hurt.folder, &copy);
    let first = hurt.recovery()[0].file_name().unwrap().to_owned();
    let ran = run(testkit::command("par2", &copy).args(["repair", "-q"]).arg(first).current_dir(&copy));
    let (volume, good) = (hurt.volume(), matches!(said, Good | Yes));
    let name = volume.file_name().unwrap().to_str().unwrap();
    let is_whole = fs::read(copy.join(name)).is_ok_and(|bytes| bytes == whole[name]);
    match (ran.code == Some(0), is_whole) == (good, good) {
        true => Ok(()),
        false => Err(format!("par2: expected {said:?}, the volume is whole: {is_whole}\n{ran}")),
    }
}

/// What happens to the seal, the exit code of `check`, of `check` with the sender's certificate and of `receive`, and what
/// the latter says.
type SealCase = (&'static str, fn(&Path), [i32; 3], &'static str);

const SEAL: &str = "SHA256SUMS";
const SIGNATURE: &str = "SHA256SUMS.asc";

fn seal_cases() -> Vec<SealCase> {
    fn edit(folder: &Path, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(folder.join(name)).unwrap();
        edit(&mut bytes);
        fs::write(folder.join(name), bytes).unwrap();
    }
    /// Another digit in the digest of a file.
    fn other_digest(folder: &Path, end: &str) {
        hostile::edit_seal(folder, |text| {
            let line = text.lines().find(|line| line.ends_with(end)).unwrap();
            let digit = if line.starts_with('0') { "1" } else { "0" };
            text.replace(line, &format!("{digit}{}", &line[1..]))
        });
    }
    const REJECTED: &str = "the seal is not signed";
    vec![
        ("the digest of a volume", |f| other_digest(f, ".0002.tar.zst.age"), [4, 3, 3], REJECTED),
        ("the digest of a recovery file", |f| other_digest(f, ".par2"), [0, 3, 3], REJECTED),
        ("the digest of the label", |f| other_digest(f, "LABEL.txt"), [4, 3, 3], REJECTED),
        (
            "the number of a volume",
            |f| hostile::edit_seal(f, |text| text.replace(".0002.tar", ".0006.tar")),
            [3, 3, 3],
            "SHA256SUMS, line",
        ),
        ("the last byte is missing", |f| hostile::truncate(&f.join(SEAL), 1), [4, 4, 4], "cut short"),
        (
            "a missing line",
            |f| edit(f, SEAL, |b| b.truncate(b[..b.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1)),
            // Without the certificate, a file that no seal names.
            [0, 3, 3],
            REJECTED,
        ),
        ("an empty seal", |f| edit(f, SEAL, Vec::clear), [4, 4, 4], "cut short"),
        ("no seal", |f| fs::remove_file(f.join(SEAL)).unwrap(), [3, 3, 3], "there is no seal"),
        ("a flipped bit in the signature", |f| hostile::flip_bit(&f.join(SIGNATURE)), [0, 3, 3], REJECTED),
        ("half a signature", |f| edit(f, SIGNATURE, |b| b.truncate(b.len() / 2)), [4, 4, 4], "cut short"),
        ("no signature", |f| fs::remove_file(f.join(SIGNATURE)).unwrap(), [3, 3, 3], "there is no seal"),
    ]
}

/// The volumes are good, and no repair touches them, whatever a damaged seal says of them.
#[test]
fn a_damaged_seal() {
    if !need(Site::NEEDS) {
        return;
    }
    let Packed { site, bundle, .. } = Packed::new(2);
    let (mut wrong, cases) = (Vec::new(), seal_cases());
    let certificate = site.release_key.certificate_file.display().to_string();
    for (name, damage, [check, trusting, received], says) in &cases {
        let folder = site.copy(&bundle, "case");
        damage(&folder);
        let (damaged, before) = (files(&folder), site.traces());
        let mut tries = vec![
            (check, site.import(&["check", "--repair"])),
            (trusting, site.import(&["check", "--repair", "--trust", &certificate])),
            (received, site.import(&["receive"])),
        ];
        for (code, command) in &mut tries {
            let ran = run(command.arg(&folder));
            if ran.code != Some(**code) {
                wrong.push(format!("=== {name}: expected exit code {code}\n{ran}"));
            }
            if let Err(e) = holds(&folder, &damaged) {
                wrong.push(format!("=== {name}: {e}\n{ran}"));
            }
            let is_receive = ran.command.contains(" receive");
            if is_receive && !(ran.stderr.contains(says) && ran.stderr.contains("state: nothing was published")) {
                wrong.push(format!("=== {name}: expected `{says}`\n{ran}"));
            }
        }
        if site.traces() != before {
            wrong.push(format!("=== {name}: something was written"));
        }
        fs::remove_dir_all(site.scratch("case")).unwrap();
    }
    assert!(wrong.is_empty(), "{} problems with {} cases\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// What is beyond repair is sent again, and is protected as the first one was.
#[test]
fn a_volume_that_was_made_again_helps_where_recovery_data_does_not() {
    if !need(Site::NEEDS) {
        return;
    }
    let Packed { mut site, bundle, digest, .. } = Packed::new(2);
    let place = |site: &mut Site, name: &str| {
        let to = format!("{}/{name}/payments", site.production.host());
        site.import["streams"]["payments"]["to"][0]["to"] = to.into();
    };
    let hurt = |number| Hurt { folder: bundle.clone(), foreign: bundle.clone(), number };
    hurt(2).zero(20);
    hurt(3).zero(1);
    let ran = receive(&site, &[&bundle], &[]).expect_code(4);
    assert!(ran.stderr.contains("`sealift-export pack --volume 2` (its recovery data does not suffice)"), "{ran}");
    // What can be repaired is, though another volume cannot be.
    let ran = run(site.import(&["check", "--repair", "--json"]).arg(&bundle)).expect_code(4);
    assert_eq!(array(&ran.json(), "repaired"), ["payments-1.0003.tar.zst.age"], "{ran}");
    assert!(ran.stderr.contains("1 of "), "{ran}");

    let args = ["--volume-size", "1MiB", "--recovery", "20%", "--volume", "2"];
    let ran = site.pack(1, &args).expect_code(0);
    let again = site.media().join("payments-1.revision-2");
    let ledger = SavedLedger::of(&site);
    // Beside the damaged set, in whatever order.
    for (name, folders) in [("first", [&bundle, &again]), ("last", [&again, &bundle])] {
        ledger.put_back(&site);
        place(&mut site, name);
        let folders = folders.map(PathBuf::as_path);
        run(site.import(&["check"]).args(folders)).expect_code(0);
        is_received(&site, &receive(&site, &folders, &[]), &digest).unwrap_or_else(|e| panic!("{e}\n{ran}"));
    }
    // Damaged in its turn, it has recovery data of its own; that of the first one is no help.
    let whole = files(&again);
    hostile::flip_bit(&volume_file(&again, 2));
    ledger.put_back(&site);
    place(&mut site, "repaired");
    let ran = receive(&site, &[&bundle, &again], &[]).expect_code(4);
    assert!(ran.stderr.contains("nothing was published") && ran.stderr.contains("0002.tar.zst.age"), "{ran}");
    run(site.import(&["check"]).arg(&bundle).arg(&again)).expect_code(4).expect_stderr("--repair");
    let before = files(&bundle);
    run(site.import(&["check", "--repair"]).arg(&bundle).arg(&again)).expect_code(0);
    assert!(files(&again) == whole && files(&bundle) == before);
    is_received(&site, &receive(&site, &[&bundle, &again], &[]), &digest).unwrap();
    // Copied over the damaged one, with its recovery data and its seal.
    for (name, bytes) in &whole {
        fs::write(bundle.join(name), bytes).unwrap();
    }
    ledger.put_back(&site);
    place(&mut site, "over");
    run(site.import(&["check"]).arg(&bundle)).expect_code(0);
    is_received(&site, &receive(&site, &[&bundle], &[]), &digest).unwrap();
}

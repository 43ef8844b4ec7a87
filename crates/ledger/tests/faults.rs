//! Every write, killed or failing. strace stands for the bad moment and the bad disk.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;
use ledger::{Created, EntryNumber, Error, Head, HeadStatement, Ledger, Standing};
use manifest_schema::OutsideText;
use tempfile::TempDir;
use testkit::need;

/// What the writer writes: the acts of its entries, in order.
const ACTS: [&str; 11] = [
    "created",
    "begun",
    "received",
    "approved",
    "signing",
    "promoted",
    "recorded",
    "key-changed",
    "adopted",
    "begun",
    "refused",
];
const ALL: u64 = ACTS.len() as u64;

// --- The writer: this program, as a child.

const LEDGER: &str = "LEDGER_TO_WRITE_TO";
const RETRIES: &str = "HOW_OFTEN_TO_TRY_AGAIN";
const ENTRIES: &str = "HOW_MANY_ENTRIES_TO_WRITE";

/// Does nothing by itself. As the child of the other tests it makes a ledger, unless it is there, and writes the acts that
/// it lacks. It says each that it was told is written, and each failure.
#[test]
fn writer() {
    let Some(path) = std::env::var_os(LEDGER) else { return };
    let number = |name, default| std::env::var(name).map_or(default, |n| n.parse().expect("a number"));
    let mut writer = Writer { path: path.into(), ledger: None, retries: number(RETRIES, 0) };
    std::process::exit(i32::from(writer.write(number(ENTRIES, ALL)).is_err()));
}

struct Writer {
    path: PathBuf,
    ledger: Option<Ledger>,
    retries: u64,
}

impl Writer {
    fn write(&mut self, entries: u64) -> Result<(), Error> {
        self.again(|w| match Ledger::create(&w.path, &stamp(1), Created::default(), Some(&custody(&w.path, 'A'))) {
            Ok(_) | Err(Error::Exists(_)) => Ok(()),
            Err(e) => Err(e),
        })?;
        // The last that is there is done once more.
        for number in self.again(Self::entries)?..=entries {
            let entry = self.again(|w| w.act(number))?;
            assert_eq!(entry, number);
            let entry =
                self.again(|w| Ledger::open_read_only(&w.path, None)?.entry(number.try_into().expect("a number")))?;
            println!("\nacknowledged {number} {}", entry.expect("an entry").hash);
        }
        Ok(())
    }

    fn again<T>(&mut self, act: impl Fn(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        loop {
            match act(self) {
                Err(e) => {
                    println!("\nfailed {e:?}\nmessage {e}");
                    self.retries = self.retries.checked_sub(1).ok_or(e)?;
                }
                ok => return ok,
            }
        }
    }

    fn ledger(&mut self) -> Result<&mut Ledger, Error> {
        if self.ledger.is_none() {
            self.ledger = Some(open(&self.path)?);
        }
        Ok(self.ledger.as_mut().expect("an open ledger"))
    }

    fn entries(&mut self) -> Result<u64, Error> {
        Ok(Ledger::open_read_only(&self.path, None)?.verify(&Keys)?.head.number.get())
    }

    fn act(&mut self, number: u64) -> Result<u64, Error> {
        let (s, other) = (subject("payments", 1), subject("payments", 2));
        let at = stamp(number.cast_signed());
        // Where the same call again would be another entry.
        let once = matches!(number, 1 | 6 | 8 | 9 | 11);
        if once && self.entries()? >= number {
            return Ok(number);
        }
        if number == 9 {
            return self.adopt(&at);
        }
        let ledger = self.ledger()?;
        let entry = match number {
            2 => begin(ledger, &at, &s)?,
            3 => ledger.received(&at, received(&s))?,
            4 => ledger.approved(&at, approved(&s, 'C'))?,
            5 => ledger.signing(&at, signing(&s))?,
            6 => ledger.promoted(&at, recorded(&s))?,
            7 => ledger.record(&at, recorded(&s))?,
            8 => ledger.change_key(&at, Box::new(Key(ledger_key('B'))), join)?,
            10 => begin(ledger, &at, &other)?,
            _ => ledger.refused(&at, refused(&other))?,
        };
        Ok(entry.get())
    }

    /// Shows the ledger a head that it does not have, and adopts it.
    fn adopt(&mut self, at: &ledger::Stamp) -> Result<u64, Error> {
        match self.ledger() {
            Ok(ledger) => {
                let head = Head { number: LOST.try_into().expect("a number"), ..ledger.head()? };
                ledger.note_shown(&head)?;
            }
            Err(Error::Behind { .. }) => {}
            Err(e) => return Err(e),
        }
        self.ledger = None;
        let reason = OutsideText::new("it never had it");
        Ok(Ledger::adopt(&self.path, None, custody(&self.path, 'B'), at, reason)?.get())
    }
}

/// The number of a head that no ledger has.
const LOST: u64 = 1000;

fn begin(ledger: &mut Ledger, at: &ledger::Stamp, subject: &ledger::Subject) -> Result<EntryNumber, Error> {
    let (Standing::New { entry } | Standing::Resumed { entry, .. } | Standing::AlreadyRecorded { entry, .. }) =
        ledger.begin(at, begun(subject))?;
    Ok(entry)
}

/// Opens a ledger with the key that is its own.
fn open(path: &Path) -> Result<Ledger, Error> {
    let key = Ledger::open_read_only(path, None)?.key()?.expect("a key").as_str().chars().next().expect("a letter");
    Ledger::open(path, None, Some(custody(path, key)))
}

// --- Running it.

/// In memory if possible: this is about the order of writes, and takes thousands of them.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

fn ledger_in(folder: &TempDir) -> PathBuf {
    folder.path().join("ledger.db")
}

/// The writer as a command that comes behind another one.
fn writer_behind(command: &str, arguments: &[&str], path: &Path) -> Command {
    let mut command = Command::new(command);
    command.args(arguments).arg(std::env::current_exe().expect("this program"));
    command.args(["--exact", "writer", "--nocapture", "--test-threads=1"]).env(LEDGER, path);
    command
}

/// A child has the locks of its parent until it has become another program: no lock is held while one is made.
static FORK: Mutex<()> = Mutex::new(());

fn run(command: &mut Command) -> Output {
    let child = {
        let _alone = FORK.lock();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
    };
    child.wait_with_output().expect("it ends")
}

/// Runs the writer under strace.
fn traced(path: &Path, retries: u64, options: &[&str]) -> Output {
    let trace = path.with_extension("trace");
    let arguments = [&["-f", "-o", trace.to_str().expect("UTF-8")], options].concat();
    run(writer_behind("strace", &arguments, path).env(RETRIES, retries.to_string()))
}

/// How often the writer makes each of these calls. Behind `only`, if it is given, is the one file that counts.
fn calls(names: &str, only: &[&str]) -> BTreeMap<String, usize> {
    let folder = folder();
    let path = ledger_in(&folder);
    let output = traced(&path, 0, &[&["-e", &format!("trace={names}")], only].concat());
    assert!(output.status.success(), "{output:?}");
    let mut by_thread = BTreeMap::<_, usize>::new();
    for line in std::fs::read_to_string(path.with_extension("trace")).expect("the trace").lines() {
        let (thread, call) = line.split_once(' ').expect("a thread");
        if let Some((name, _)) = call.trim_start().split_once('(') {
            *by_thread.entry((name.to_string(), thread.to_string())).or_default() += 1;
        }
    }
    // strace counts by thread, and one of them writes.
    let mut most = BTreeMap::new();
    for ((name, _), times) in by_thread {
        let entry = most.entry(name).or_default();
        *entry = times.max(*entry);
    }
    most
}

/// Whether every moment is to be tried, however long that takes.
fn all() -> bool {
    std::env::var_os("SEALIFT_ALL").is_some()
}

/// Each of these calls with its number, but of writes to the database every so many only.
fn moments(names: &str, only: &[&str], every: usize) -> Vec<(String, usize)> {
    let calls = calls(names, only);
    assert!(!calls.is_empty(), "no {names}");
    let every = |call: &str| if call == "pwrite64" && !all() { every } else { 1 };
    calls
        .into_iter()
        .flat_map(|(call, times)| (1..=times).step_by(every(&call)).map(move |n| (call.clone(), n)))
        .collect()
}

/// Does something for every item, on two threads.
fn each<T: Sync>(items: &[T], act: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    act(item);
                }
            });
        }
    });
}

// --- What must be then.

/// What the writer was told is written: numbers and hashes.
fn acknowledged(output: &Output) -> Vec<(u64, String)> {
    let text = String::from_utf8_lossy(&output.stdout);
    let said = text.lines().filter_map(|line| line.strip_prefix("acknowledged ")?.split_once(' '));
    said.map(|(number, hash)| (number.parse().expect("a number"), hash.to_string())).collect()
}

/// The failures that the writer was told, as they are shown for debugging.
fn failures(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter_map(|line| line.strip_prefix("failed ").map(ToString::to_string)).collect()
}

/// The ledger is right, has what was acknowledged, and can be written to. One that was not made yet is not there at all.
/// Gives the number of its entries.
fn check(path: &Path, output: &Output) -> u64 {
    let acknowledged = acknowledged(output);
    if !path.exists() {
        assert_eq!(acknowledged, []);
        return 0;
    }
    let ledger = Ledger::open_read_only(path, None).expect("it opens");
    let head = ledger.verify(&Keys).expect("it is right").head;
    for (number, hash) in &acknowledged {
        let entry = ledger.entry((*number).try_into().expect("a number")).expect("it is read");
        assert_eq!(&entry.expect("it is there").hash.to_string(), hash, "{number}");
    }
    let last = acknowledged.last().map_or(0, |(number, _)| *number);
    let _alone = FORK.lock();
    match open(path) {
        Ok(_) => assert_eq!(second_of(path).head, head),
        // It was shown a head that it does not have, and was not adopted yet.
        Err(Error::Behind { head: shown, .. }) => {
            assert_eq!((shown.number.get(), head.number.get(), last), (LOST, 8, 8))
        }
        Err(e) => panic!("{e}"),
    }
    head.number.get()
}

/// As [`check`]; and there is at most one act more than was acknowledged.
fn check_no_more(path: &Path, output: &Output) {
    let entries = check(path, output);
    let last = acknowledged(output).last().map_or(0, |(number, _)| *number);
    assert!(entries <= last + 1, "{entries} entries, {last} acknowledged");
}

fn second_of(path: &Path) -> HeadStatement {
    let second = std::fs::read_to_string(custody(path, 'A').second).expect("the second file");
    HeadStatement::parse(second.lines().next().expect("a line").as_bytes()).expect("a head")
}

/// Writes without any fault: it ends as if there had been none.
fn finish(path: &Path) {
    let output = run(&mut writer_behind("env", &[], path));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(check(path, &output), ALL);
    let ledger = Ledger::open_read_only(path, None).expect("it opens");
    let acts: Vec<_> = ledger.entries(EntryNumber::FIRST).map(|e| e.expect("an entry").entry.act.kind()).collect();
    assert_eq!(acts, ACTS);
}

/// Runs a part of a test, and says what it was about if it fails.
fn about<T>(what: &str, part: impl FnOnce() -> T) -> T {
    struct Say<'a>(&'a str);
    impl Drop for Say<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("that was: {}", self.0);
            }
        }
    }
    let _say = Say(what);
    part()
}

// --- The tests.

#[test]
fn killed_at_any_write() {
    if !need(&["strace"]) {
        return;
    }
    // What changes a file or a folder, and what makes a change last.
    let names = "pwrite64,write,fsync,?rename,?renameat,renameat2,ftruncate,?unlink,unlinkat,?link,linkat";
    each(&moments(names, &[], 5), |(call, n)| {
        about(&format!("{call} {n}: killed"), || {
            let folder = folder();
            let path = ledger_in(&folder);
            let kill = format!("inject={call}:signal=KILL:when={n}");
            let output = traced(&path, 0, &["-e", &format!("trace={call}"), "-e", &kill]);
            assert!(!output.status.success(), "it was not killed: {output:?}");
            check_no_more(&path, &output);
            finish(&path);
        });
    });
}

/// What the errors of a failing call are.
const TOLD: [&str; 3] = ["Full", "Database", "Io"];

/// Lets calls fail, once or from then on, and the writer try once more. `only`: options that say which calls count.
fn failing(moments: &[(String, usize)], errors: &[&str], only: impl Fn(&Path) -> Vec<String> + Sync, on: &str) {
    let told = AtomicUsize::new(0);
    each(moments, |(call, n)| {
        for error in errors {
            about(&format!("{call} {n}{on}: {error}"), || {
                let folder = folder();
                let path = ledger_in(&folder);
                let (trace, fail) = (format!("trace={call}"), format!("inject={call}:error={error}:when={n}{on}"));
                let only = only(&path);
                let options: Vec<_> = only.iter().map(String::as_str).chain(["-e", &trace, "-e", &fail]).collect();
                let output = traced(&path, 1, &options);
                let failures = failures(&output);
                let known = |failure: &String| TOLD.iter().any(|name| failure.starts_with(name));
                assert!(failures.iter().all(known), "{failures:?}");
                let full = |f: &String| f.starts_with("Full") || f.contains("shared memory");
                assert!(*error != "ENOSPC" || failures.iter().all(full), "{failures:?}");
                told.fetch_add(usize::from(!failures.is_empty()), Ordering::Relaxed);
                if on.is_empty() {
                    // What failed once, and was tried once more, is there.
                    assert!(output.status.success(), "{output:?}");
                    assert_eq!(acknowledged(&output).len() as u64, ALL);
                }
                check_no_more(&path, &output);
                finish(&path);
            });
        }
    });
    let (told, of) = (told.load(Ordering::Relaxed), moments.len() * errors.len());
    assert!(told * 3 > of, "told {told} of {of}: most failures must be");
}

fn anything(_: &Path) -> Vec<String> {
    Vec::new()
}

#[test]
fn what_fails_once_is_told_and_can_be_done_again() {
    if !need(&["strace"]) {
        return;
    }
    failing(&moments("pwrite64", &[], 32), &["ENOSPC", "EIO"], anything, "");
    failing(&moments("fsync", &[], 1), &["EIO"], anything, "");
    failing(&moments("?rename,renameat2,ftruncate,?unlink", &[], 1), &["EIO"], anything, "");
}

#[test]
fn what_fails_for_good_is_told_and_nothing_is_lost() {
    if !need(&["strace"]) {
        return;
    }
    failing(&moments("pwrite64", &[], 32), &["ENOSPC"], anything, "+");
    failing(&moments("fsync", &[], 1), &["EIO"], anything, "+");
}

#[test]
fn a_second_file_that_cannot_be_written_is_told_and_nothing_is_lost() {
    if !need(&["strace"]) {
        return;
    }
    let second = |path: &Path| ["-P".into(), format!("{}.new", custody(path, 'A').second.display())].to_vec();
    for on in ["", "+"] {
        failing(
            &(1..=ALL as usize).map(|n| ("write".into(), n)).collect::<Vec<_>>(),
            &["ENOSPC", "EACCES"],
            second,
            on,
        );
    }
}

// --- A disk that is full, and one that cannot be written to.

/// What the shell does with mounts of its own, if it may: with `$writer` for the writer, and `$1` for a folder that stays.
fn with_mounts(script: &str, kept: &Path) -> Option<Output> {
    let unshare = ["--map-root-user", "--mount", "sh", "-euc"];
    let may = run(Command::new("unshare").args(unshare).arg("mount -t tmpfs none /mnt"));
    if !may.status.success() {
        println!("skipped: no mounts of our own: {}", String::from_utf8_lossy(&may.stderr).trim_end());
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(unshare).args([script, "sh"]).arg(kept).env("LEDGER", LEDGER);
    command.env("program", std::env::current_exe().expect("this program"));
    Some(run(&mut command))
}

const WRITER: &str = r#"writer() { env "$LEDGER=$1" "$program" --exact writer --nocapture --test-threads=1; }"#;

#[test]
fn a_full_disk_is_told_and_nothing_is_lost() {
    if !need(&["unshare"]) {
        return;
    }
    // From no room at all to enough of it: the ledger and its log take about a megabyte.
    for kib in (0..1400).step_by(100) {
        let folder = folder();
        let script = format!(
            r#"{WRITER}
            mount -t tmpfs -o size={}k none /mnt
            writer /mnt/ledger.db && echo enough
            df /mnt
            mkdir "$1/full" && cp -a /mnt/. "$1/full"
            mount -o remount,size=10m /mnt
            mkdir "$1/room" && writer /mnt/ledger.db >"$1/room/said" && cp -a /mnt/. "$1/room""#,
            kib.max(4)
        );
        let Some(output) = with_mounts(&script, folder.path()) else { return };
        about(&format!("{kib} KiB: {output:?}"), || {
            assert!(output.status.success());
            let failures = failures(&output);
            assert!(failures.iter().all(|f| f.starts_with("Full")));
            assert_eq!(failures.is_empty(), String::from_utf8_lossy(&output.stdout).contains("enough"));
            check_no_more(&folder.path().join("full/ledger.db"), &output);
            check(&folder.path().join("room/ledger.db"), &output);
            finish(&folder.path().join("room/ledger.db"));
        });
    }
}

#[test]
fn a_file_system_that_cannot_be_written_to_is_told_and_read_from() {
    if !need(&["unshare"]) {
        return;
    }
    let folder = folder();
    let script = format!(
        r#"{WRITER}
        mount -t tmpfs none /mnt
        export {ENTRIES}=5; writer /mnt/ledger.db
        mount -o remount,ro /mnt
        export {ENTRIES}=6; writer /mnt/ledger.db && exit 1
        mount -o remount,rw /mnt
        cp -a /mnt/. "$1""#
    );
    let Some(output) = with_mounts(&script, folder.path()) else { return };
    assert!(output.status.success(), "{output:?}");
    let failures = failures(&output);
    assert!(
        matches!(&failures[..], [one] if one.starts_with("Io") && one.contains("ReadOnlyFilesystem")),
        "{output:?}"
    );
    assert_eq!(check(&ledger_in(&folder), &output), 5);
    finish(&ledger_in(&folder));
}

#[test]
fn a_file_that_may_not_grow_is_told_and_nothing_is_lost() {
    // A signal kills a program that makes a file too large, unless it is ignored.
    for signal in ["trap '' XFSZ;", ""] {
        for kib in (0..600).step_by(60) {
            let folder = folder();
            let path = ledger_in(&folder);
            let shell = format!(r#"{signal} ulimit -c 0; ulimit -f {}; exec "$0" "$@""#, kib * 2);
            let output = run(&mut writer_behind("sh", &["-c", &shell], &path));
            about(&format!("{kib} KiB {signal} {output:?}"), || {
                let known = |failure: &String| TOLD.iter().any(|name| failure.starts_with(name));
                assert!(failures(&output).iter().all(known));
                assert!(output.status.success() || signal.is_empty() || failures(&output).len() == 1);
                check_no_more(&path, &output);
                finish(&path);
            });
        }
    }
}

//! Runs the writer, and says what must be then.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ledger::{EntryNumber, Error, HeadStatement, Ledger};
use tempfile::TempDir;

use crate::common::*;
use crate::writer::{ACTS, ALL, LEDGER, LOST, RETRIES, open};

/// In memory if possible: this is about the order of writes, and takes thousands of them.
pub fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

pub fn ledger_in(folder: &TempDir) -> PathBuf {
    folder.path().join("ledger.db")
}

/// The writer as a command that comes behind another one.
pub fn writer_behind(command: &str, arguments: &[&str], path: &Path) -> Command {
    let mut command = Command::new(command);
    command.args(arguments).arg(std::env::current_exe().expect("this program"));
    command.args(["--exact", "writer", "--nocapture", "--test-threads=1"]).env(LEDGER, path);
    command
}

/// A child has the locks of its parent until it has become another program: no lock is held while one is made.
static FORK: Mutex<()> = Mutex::new(());

pub fn run(command: &mut Command) -> Output {
    let child = {
        let _alone = FORK.lock();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
    };
    child.wait_with_output().expect("it ends")
}

/// Runs the writer under strace.
pub fn traced(path: &Path, retries: u64, options: &[&str]) -> Output {
    let trace = path.with_extension("trace");
    let arguments = [&["-f", "-o", trace.to_str().expect("UTF-8")], options].concat();
    run(writer_behind("strace", &arguments, path).env(RETRIES, retries.to_string()))
}

/// How often the writer makes each of these calls.
pub fn calls(names: &str) -> BTreeMap<String, usize> {
    let folder = folder();
    let path = ledger_in(&folder);
    let output = traced(&path, 0, &["-e", &format!("trace={names}")]);
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
pub fn all() -> bool {
    std::env::var_os("SEALIFT_ALL").is_some()
}

/// Each of these calls with its number, but of writes to the database, which are many, every so many only, and of others more.
pub fn moments(names: &str, every: usize) -> Vec<(String, usize)> {
    let calls = calls(names);
    assert!(!calls.is_empty(), "no {names}");
    let every = |call: &str| match call {
        _ if all() => 1,
        "pwrite64" => every,
        _ => (every / 8).max(1),
    };
    calls
        .into_iter()
        .flat_map(|(call, times)| (1..=times).step_by(every(&call)).map(move |n| (call.clone(), n)))
        .collect()
}

/// Does something for every item, on two threads.
pub fn each<T: Sync>(items: &[T], act: impl Fn(&T) + Sync) {
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
pub fn acknowledged(output: &Output) -> Vec<(u64, String)> {
    let text = String::from_utf8_lossy(&output.stdout);
    let said = text.lines().filter_map(|line| line.strip_prefix("acknowledged ")?.split_once(' '));
    said.map(|(number, hash)| (number.parse().expect("a number"), hash.to_string())).collect()
}

/// The failures that the writer was told, as they are shown for debugging.
pub fn failures(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter_map(|line| line.strip_prefix("failed ").map(ToString::to_string)).collect()
}

/// The ledger is right, has what was acknowledged, and can be written to. One that was not made yet is not there at all.
/// Gives the number of its entries.
pub fn check(path: &Path, output: &Output) -> u64 {
    check_acknowledged(path, &acknowledged(output))
}

/// The same, of what was acknowledged.
pub fn check_acknowledged(path: &Path, acknowledged: &[(u64, String)]) -> u64 {
    if !path.exists() {
        assert_eq!(acknowledged, []);
        return 0;
    }
    let ledger = Ledger::open_read_only(path, None).expect("it opens");
    let head = ledger.verify(&Keys).expect("it is right").head;
    for (number, hash) in acknowledged {
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
pub fn check_no_more(path: &Path, output: &Output) {
    let entries = check(path, output);
    let last = acknowledged(output).last().map_or(0, |(number, _)| *number);
    assert!(entries <= last + 1, "{entries} entries, {last} acknowledged");
}

pub fn second_of(path: &Path) -> HeadStatement {
    let second = std::fs::read_to_string(custody(path, 'A').second).expect("the second file");
    HeadStatement::parse(second.lines().next().expect("a line").as_bytes()).expect("a head")
}

/// Writes without any fault: it ends as if there had been none.
pub fn finish(path: &Path) {
    let output = run(&mut writer_behind("env", &[], path));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(check(path, &output), ALL);
    let ledger = Ledger::open_read_only(path, None).expect("it opens");
    let acts: Vec<_> = ledger.entries(EntryNumber::FIRST).map(|e| e.expect("an entry").entry.act.kind()).collect();
    assert_eq!(acts, ACTS);
}

/// Runs a part of a test, and says what it was about if it fails.
pub fn about<T>(what: &str, part: impl FnOnce() -> T) -> T {
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

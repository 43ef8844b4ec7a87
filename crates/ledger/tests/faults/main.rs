//! Every write, killed, failing or lost. strace stands for the bad moment and the bad disk.

#[path = "../common/mod.rs"]
mod common;
mod power;
mod running;
mod writer;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;
use running::*;
use testkit::need;
use writer::{ALL, ENTRIES, LEDGER};

/// Does nothing by itself: it is what the other tests start as their child.
#[test]
fn writer() {
    writer::write_if_told_to();
}

#[test]
fn killed_at_any_write() {
    if !need(&["strace"]) {
        return;
    }
    // What changes a file or a folder, and what makes a change last.
    let names = "pwrite64,write,fsync,fdatasync,?rename,?renameat,renameat2,ftruncate,?unlink,unlinkat,?link,linkat";
    each(&moments(names, 8), |(call, n)| {
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
    failing(&moments("pwrite64", 32), &["ENOSPC", "EIO"], anything, "");
    failing(&moments("fsync,fdatasync", 32), &["EIO"], anything, "");
    failing(&moments("?rename,renameat2,ftruncate,?unlink", 1), &["EIO"], anything, "");
}

#[test]
fn what_fails_for_good_is_told_and_nothing_is_lost() {
    if !need(&["strace"]) {
        return;
    }
    failing(&moments("pwrite64", 32), &["ENOSPC"], anything, "+");
    failing(&moments("fsync,fdatasync", 32), &["EIO"], anything, "+");
}

#[test]
fn a_second_file_that_cannot_be_written_is_told_and_nothing_is_lost() {
    if !need(&["strace"]) {
        return;
    }
    let second = |path: &Path| ["-P".into(), format!("{}.new", custody(path, 'A').second.display())].to_vec();
    for on in ["", "+"] {
        let writes: Vec<_> = (1..=ALL as usize).map(|n| ("write".into(), n)).collect();
        failing(&writes, &["ENOSPC", "EACCES"], second, on);
    }
}

// --- A disk that is full, and one that cannot be written to.

/// What the shell does with mounts of its own, if it may. `$1` is a folder that outlives them.
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

/// The writer, for the shell.
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

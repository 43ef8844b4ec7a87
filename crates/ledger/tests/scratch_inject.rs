//! Killed while writing: the ledger opens, verifies, and has everything that was acknowledged.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::*;
use ledger::{EntryNumber, Ledger, Standing};

const LEDGER: &str = "LEDGER_TO_WRITE_TO";

/// Does nothing by itself. As the child of the other test it imports bundles until it is killed, and says each entry
/// that it was told is written.
#[test]
fn writer() {
    let Some(path) = std::env::var_os(LEDGER) else { return };
    let mut ledger = Ledger::open(path.as_ref(), None).expect("the ledger opens");
    let newest = ledger.newest(&subject("payments", 1).stream).expect("read").map_or(0, |s| s.get());
    let said = |entry: EntryNumber| println!("\nacknowledged {entry}");
    for sequence in newest.max(1)..newest + 100_000 {
        let s = subject("payments", sequence);
        match ledger.begin(&stamp(1), begun(&s)).expect("begun or resumed") {
            Standing::New { entry } => said(entry),
            Standing::Resumed { .. } => {}
            Standing::AlreadyRecorded { .. } => continue,
        }
        said(ledger.signing(&stamp(1), signing(&s)).expect("announced"));
        said(ledger.record(&stamp(1), recorded(&s)).expect("recorded"));
    }
}

fn acknowledged(line: &str) -> Option<u64> {
    line.strip_prefix("acknowledged ")?.parse().ok()
}


#[test]
fn inject() {
    for call in ["pwrite64", "fdatasync", "fsync", "ftruncate", "unlink", "openat"] {
        let mut killed = 0;
        for n in 1..90 {
            let place = place();
            import(&mut place.open(), "payments", 1, 0);
            let child = Command::new("timeout").args(["-s", "KILL", "0.6", "strace", "-f", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &format!("inject={call}:signal=KILL:when={n}")])
                .arg(std::env::current_exe().unwrap()).args(["--exact", "writer", "--nocapture"])
                .env(LEDGER, &place.path).stdout(Stdio::piped()).stderr(Stdio::null()).output().unwrap();
            let out = String::from_utf8_lossy(&child.stdout);
            let last = out.lines().filter_map(acknowledged).last().unwrap_or(4);
            std::thread::sleep(Duration::from_millis(20));
            let ledger = place.open();
            let v = ledger.verify().expect("right");
            assert!(v.head.number.get() >= last, "{call} {n}: {} < {last}", v.head.number);
            killed += 1;
            if n % 30 == 0 { eprintln!("{call} {n}: head {} last {last}", v.head.number); }
        }
        eprintln!("{call}: {killed}");
    }
}

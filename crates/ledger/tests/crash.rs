//! Killed while writing: the ledger opens, verifies, and has everything that was acknowledged.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::*;
use ledger::{EntryNumber, Error, Ledger, Standing};

const LEDGER: &str = "LEDGER_TO_WRITE_TO";

/// Does nothing by itself. As the child of the other test it imports bundles until it is killed, and says each entry
/// that it was told is written.
#[test]
fn writer() {
    let Some(path) = std::env::var_os(LEDGER) else { return };
    let mut ledger = Ledger::open(path.as_ref(), None, Some(custody(path.as_ref(), 'A'))).expect("the ledger opens");
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
fn nothing_acknowledged_is_lost_when_killed() {
    let place = place();
    let mut last = 0;
    for round in 0..12_u64 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "writer", "--nocapture"])
            .env(LEDGER, &place.path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the writer starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        // The first acknowledgement of a round is waited for, so that the writer is killed while it writes.
        let first = lines.by_ref().map_while(Result::ok).find_map(|l| acknowledged(&l)).expect("the writer writes");
        assert!(first >= last, "round {round}: {first} after {last}");
        let busy = place.try_open();
        assert!(matches!(busy, Err(Error::Busy { process: Some(p), .. }) if p == child.id()), "{busy:?}");
        std::thread::sleep(Duration::from_millis(round * 7));
        child.kill().expect("killed");
        child.wait().expect("gone");
        last = lines.map_while(Result::ok).filter_map(|l| acknowledged(&l)).last().unwrap_or(first);

        let ledger = place.open();
        let verified = ledger.verify(&Keys).expect("the ledger is right");
        assert!(verified.head.number.get() >= last, "{} < {last}", verified.head.number);
    }
}

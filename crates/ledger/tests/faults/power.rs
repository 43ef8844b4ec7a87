//! Power cuts: what was written and not synchronised may be gone, in whole or in part. The calls of a whole run are done
//! again on a disk that is made up, which forgets.

use std::collections::BTreeMap;
use std::path::Path;

use testkit::need;

use crate::running::*;

/// A file, apart from its name.
#[derive(Default, Clone)]
struct File {
    durable: Vec<u8>,
    /// Writes and changes of its size that were not synchronised.
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Size(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write { at, bytes: new } => {
                bytes.resize(bytes.len().max(at + new.len()), 0);
                bytes[*at..at + new.len()].copy_from_slice(new);
            }
            Change::Size(size) => bytes.resize(*size, 0),
        }
    }

    /// As it may come out: each sector or not.
    fn torn(&self, chance: &mut impl FnMut() -> bool) -> Vec<Change> {
        match self {
            Change::Size(_) if chance() => vec![self.clone()],
            Change::Size(_) => vec![],
            Change::Write { at, bytes } => {
                let (mut parts, mut from) = (Vec::new(), 0);
                while from < bytes.len() {
                    let to = ((at + from) / 512 + 1) * 512 - at;
                    let part = &bytes[from..to.min(bytes.len())];
                    if chance() {
                        parts.push(Change::Write { at: at + from, bytes: part.to_vec() });
                    }
                    from = to;
                }
                parts
            }
        }
    }
}

/// Names, each with the number of its file.
type Names = BTreeMap<String, usize>;

/// A folder on a disk that keeps only what was synchronised: a file's bytes with the file, names with the folder.
#[derive(Default, Clone)]
struct Disk {
    files: Vec<File>,
    names: Names,
    /// How the names were after each change since the folder was synchronised; first, as they were then.
    pending: Vec<Names>,
}

/// What becomes of that which was not synchronised.
enum Lost {
    All,
    Nothing,
    /// Some sectors, and the names of some moment. The number says which.
    Some(u64),
}

impl Disk {
    fn new() -> Self {
        Self { pending: vec![Names::new()], ..Self::default() }
    }

    fn file(&mut self, name: &str) -> &mut File {
        let number = self.names[name];
        &mut self.files[number]
    }

    fn change_names(&mut self, change: impl FnOnce(&mut Names)) {
        change(&mut self.names);
        self.pending.push(self.names.clone());
    }

    fn make(&mut self, name: &str) {
        let number = self.files.len();
        self.files.push(File::default());
        self.change_names(|names| {
            names.insert(name.to_string(), number);
        });
    }

    fn synchronise(&mut self, name: &str) {
        let file = self.file(name);
        for change in std::mem::take(&mut file.pending) {
            change.apply(&mut file.durable);
        }
    }

    fn synchronise_names(&mut self) {
        self.pending = vec![self.names.clone()];
    }

    /// What is there when the power is back.
    fn after_a_power_cut(&self, folder: &Path, lost: &Lost) {
        let mut random = match lost {
            Lost::Some(seed) => *seed,
            _ => 0,
        };
        let mut next = || {
            // xorshift64
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let names = match lost {
            Lost::All => &self.pending[0],
            Lost::Nothing => &self.names,
            Lost::Some(_) => &self.pending[next() as usize % self.pending.len()],
        };
        for (name, number) in names {
            let File { durable, pending } = &self.files[*number];
            let mut bytes = durable.clone();
            for change in pending {
                match lost {
                    Lost::All => {}
                    Lost::Nothing => change.apply(&mut bytes),
                    Lost::Some(_) => change.torn(&mut || next() % 2 == 0).iter().for_each(|c| c.apply(&mut bytes)),
                }
            }
            std::fs::write(folder.join(name), bytes).expect("written");
        }
    }
}

/// A call of the writer that changes something, from strace's output.
#[derive(Debug)]
enum Call {
    Open {
        name: String,
        truncate: bool,
    },
    Write {
        name: String,
        at: Option<usize>,
        bytes: Vec<u8>,
    },
    Size {
        name: String,
        size: usize,
    },
    Sync {
        name: String,
    },
    SyncNames,
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
    /// An entry that the writer was told is written: number and hash.
    Acknowledged(u64, String),
}

/// Reads `\x2f\x64...`, as strace writes every string with `-xx`.
fn unhex(text: &str) -> Vec<u8> {
    let digits = text.split("\\x").skip(1);
    digits.map(|digits| u8::from_str_radix(digits, 16).expect("two digits")).collect()
}

fn calls_in(trace: &str, folder: &Path) -> Vec<Call> {
    let prefix = format!("{}/", folder.display());
    let name_of = |path: &str| path.strip_prefix(&prefix).filter(|name| !name.contains('/')).map(ToString::to_string);
    let text = |quoted: &str| String::from_utf8_lossy(&unhex(quoted)).into_owned();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((call, rest)) = line.split_once(' ').and_then(|(_, call)| call.trim_start().split_once('(')) else {
            continue;
        };
        if rest.contains(" = -1 ") || !rest.contains(") = ") {
            continue;
        }
        let quoted: Vec<_> = rest.split('"').skip(1).step_by(2).collect();
        // The file behind the first descriptor, and the numbers behind the bytes.
        let of_descriptor = rest.split_once('<').and_then(|(_, rest)| Some(text(rest.split_once('>')?.0)));
        let arguments = rest.rsplit_once(") = ").expect("a result").0;
        let last_number = || arguments.rsplit(", ").next().and_then(|n| n.parse().ok()).expect("a number");
        let described = of_descriptor.as_deref().and_then(name_of);
        match (call, described) {
            ("openat", _) if rest.contains("O_CREAT") => {
                if let Some(name) = name_of(&text(quoted[0])) {
                    calls.push(Call::Open { name, truncate: rest.contains("O_TRUNC") });
                }
            }
            ("pwrite64", Some(name)) => {
                calls.push(Call::Write { name, at: Some(last_number()), bytes: unhex(quoted[0]) });
            }
            ("write", Some(name)) => calls.push(Call::Write { name, at: None, bytes: unhex(quoted[0]) }),
            ("write", None) => {
                let text = text(quoted[0]);
                if let Some((number, hash)) = text.trim().strip_prefix("acknowledged ").and_then(|l| l.split_once(' '))
                {
                    calls.push(Call::Acknowledged(number.parse().expect("a number"), hash.to_string()));
                }
            }
            ("ftruncate", Some(name)) => calls.push(Call::Size { name, size: last_number() }),
            ("fsync" | "fdatasync", Some(name)) => calls.push(Call::Sync { name }),
            ("fsync" | "fdatasync", None) if of_descriptor.as_deref() == folder.to_str() => calls.push(Call::SyncNames),
            ("rename" | "renameat" | "renameat2", _) => {
                let name = |n: usize| name_of(&text(quoted[n])).expect("a file in the folder");
                calls.push(Call::Rename { from: name(0), to: name(1) });
            }
            ("unlink" | "unlinkat", _) => {
                calls.push(Call::Remove { name: name_of(&text(quoted[0])).expect("a file in the folder") });
            }
            ("link" | "linkat", _) => panic!("a link: {line}"),
            _ => {}
        }
    }
    calls
}

#[test]
fn what_was_acknowledged_outlives_a_power_cut() {
    if !need(&["strace"]) {
        return;
    }
    let folder = folder();
    let path = ledger_in(&folder);
    let names =
        "openat,pwrite64,write,ftruncate,fsync,fdatasync,?rename,?renameat,renameat2,?unlink,unlinkat,?link,linkat";
    let output = traced(&path, 0, &["-y", "-xx", "-s", "1000000", "-e", &format!("trace={names}")]);
    assert!(output.status.success(), "{output:?}");
    let trace = std::fs::read_to_string(path.with_extension("trace")).expect("the trace");
    let calls = calls_in(&trace, folder.path());

    // The second file may lie in another folder, so the ledger's name does not wait for it.
    let place = |is: &dyn Fn(&Call) -> bool| calls.iter().position(is).expect("such a call");
    let named = place(&|c| matches!(c, Call::Rename { to, .. } if to == "ledger.db"));
    let second = place(&|c| matches!(c, Call::Open { name, .. } if name == "ledger.db.head.new"));
    assert!(calls[named..second].iter().any(|c| matches!(c, Call::SyncNames)), "{:?}", &calls[named..second]);

    // Every moment, with the disk and what was acknowledged.
    let (mut disk, mut acknowledged, mut moments) = (Disk::new(), Vec::new(), Vec::new());
    for call in &calls {
        match call {
            Call::Open { name, truncate } => match disk.names.contains_key(name) {
                false => disk.make(name),
                true if *truncate => disk.file(name).pending.push(Change::Size(0)),
                true => {}
            },
            Call::Write { name, at, bytes } => {
                // Only what was just made or cut to nothing is written without a place; it begins there.
                let at = at.unwrap_or_else(|| appended(disk.file(name)));
                disk.file(name).pending.push(Change::Write { at, bytes: bytes.clone() });
            }
            Call::Size { name, size } => disk.file(name).pending.push(Change::Size(*size)),
            Call::Sync { name } => disk.synchronise(name),
            Call::SyncNames => disk.synchronise_names(),
            Call::Rename { from, to } => disk.change_names(|names| {
                let number = names.remove(from).expect("a file");
                names.insert(to.clone(), number);
            }),
            Call::Remove { name } => disk.change_names(|names| {
                names.remove(name);
            }),
            Call::Acknowledged(number, hash) => acknowledged.push((*number, hash.clone())),
        }
        let is_due = matches!(call, Call::Acknowledged(..));
        moments.push((is_due, disk.clone(), acknowledged.clone()));
    }
    assert!(calls.len() > 500 && acknowledged.len() == 11, "{} calls", calls.len());
    let every = if all() { 1 } else { 7 };
    let moments: Vec<_> =
        moments.into_iter().enumerate().filter(|(n, (is_due, ..))| *is_due || n % every == 0).collect();
    each(&moments, |(n, (is_due, disk, acknowledged))| {
        for (what, lost) in [("all", Lost::All), ("some", Lost::Some(*n as u64 + 1)), ("nothing", Lost::Nothing)] {
            about(&format!("a power cut after call {n}, {:?}: {what} of it is lost", calls[*n]), || {
                let folder = crate::running::folder();
                disk.after_a_power_cut(folder.path(), &lost);
                if *is_due {
                    let last = acknowledged.last().map(|(number, _)| *number);
                    let second = second_of(&ledger_in(&folder)).head.number.get();
                    assert_eq!(Some(second), last, "the second file has it too");
                }
                check_acknowledged(&ledger_in(&folder), acknowledged);
            });
        }
    });
}

/// Where the next byte of a file goes.
fn appended(file: &File) -> usize {
    let mut bytes = file.durable.clone();
    file.pending.iter().for_each(|change| change.apply(&mut bytes));
    bytes.len()
}

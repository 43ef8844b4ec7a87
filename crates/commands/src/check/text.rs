//! A report for people.

use bundle::{CheckedFile, FileKind, Repairable, Verdict};

use crate::check::report::{Presence, Report};
use crate::handover;

/// The report as text; its last line is how fast the media were read.
pub fn text(report: &Report) -> String {
    let mut text = format!("bundle {} {}, seal revision {}\n", report.name, report.bundle, report.revision);
    match &report.signed_by {
        Some(signers) => text += &format!("seal signed by {}\n", signers.join(", ")),
        None => text += "seal signature not checked: name the sender's certificate with --trust\n",
    }
    let several = report.folders.len() > 1;
    if several {
        for folder in &report.folders {
            text += &format!("{}: seal revision {}", folder.path.display(), folder.revision);
            match &folder.signed_by {
                Some(signers) if report.signed_by.as_ref() != Some(signers) => {
                    text += &format!(", signed by {}\n", signers.join(", "));
                }
                _ => text.push('\n'),
            }
        }
    }
    for medium in &report.media {
        let word = match medium.state {
            Presence::Here => "here",
            Presence::PartlyHere => "partly here",
            Presence::NotHere => "not here",
        };
        text += &format!("medium {}: {word}, volumes {}\n", medium.number, medium.volumes);
    }
    text += &files(report, several);
    let others: Vec<_> = report.others().filter_map(|f| f.volume).map(|number| number.to_string()).collect();
    if report.media.is_empty() && !others.is_empty() {
        text += &format!("these volumes were made again, and come without the others: {}\n", others.join(", "));
    }
    for name in &report.repaired {
        text += &format!("repaired: {name}\n");
    }
    for reason in &report.not_repaired {
        text += &format!("not repaired: {reason}\n");
    }
    for name in &report.not_sealed {
        text += &format!("not part of the bundle: {}\n", name.escaped());
    }
    for file in report.replaced() {
        let folder = file.folder.as_ref().map_or("-".into(), |f| f.display().to_string());
        text += &format!("warning: {}: {} in {folder}; there is a good copy\n", file.name, file.state.as_str());
    }
    let lost = report.recovery_problems().count();
    if lost > 0 {
        text += &format!(
            "warning: {lost} recovery files are missing or damaged; the volumes do not need them as long as they are good\n"
        );
    }
    for chain in &report.handover {
        text += &handover::text(chain);
    }
    text += &format!(
        "read {} in {:.1} s: {}/s\n",
        console::bytes(report.bytes),
        report.seconds,
        console::bytes(report.bytes_per_second)
    );
    text
}

/// One row a file. Recovery files of a volume that are all good are one row together; what is on another medium is in none.
fn files(report: &Report, several: bool) -> String {
    let mut rows = Vec::new();
    let mut files = report.files.iter().filter(|f| f.state != Verdict::Elsewhere).peekable();
    while let Some(file) = files.next() {
        let mut cells = vec![file.name.clone(), size(file.size), state(file)];
        if is_good_recovery(file) {
            let (mut count, mut bytes) = (1, file.size.unwrap_or(0));
            let together = |next: &&CheckedFile| {
                is_good_recovery(next) && (next.volume, &next.folder) == (file.volume, &file.folder)
            };
            while let Some(next) = files.next_if(together) {
                count += 1;
                bytes += next.size.unwrap_or(0);
            }
            if count > 1 {
                cells = vec![format!("  recovery data, {count} files"), size(Some(bytes)), state(file)];
            }
        }
        if several {
            cells.push(file.folder.as_ref().map_or("-".into(), |f| f.display().to_string()));
        }
        rows.push(cells);
    }
    let header = ["FILE", ">SIZE", "STATE", "FOLDER"];
    console::table(if several { &header } else { &header[..3] }, &rows)
}

fn is_good_recovery(file: &CheckedFile) -> bool {
    file.kind == FileKind::Recovery && file.state == Verdict::Good && file.revisions.is_empty()
}

fn size(size: Option<u64>) -> String {
    size.map_or("-".into(), console::bytes)
}

fn state(file: &CheckedFile) -> String {
    let mut text = file.state.as_str().to_string();
    if let Some(reason) = &file.unreadable {
        text += &format!(" ({reason})");
    }
    if !file.revisions.is_empty() {
        let revisions: Vec<String> = file.revisions.iter().map(u32::to_string).collect();
        text += &format!(" by seal revision {}", revisions.join(" and "));
    }
    match file.repairable {
        Some(Repairable::Yes) => text += ", can be repaired",
        Some(Repairable::TooLittle) => text += ", too little recovery data",
        Some(Repairable::NoData) | None => {}
    }
    text
}

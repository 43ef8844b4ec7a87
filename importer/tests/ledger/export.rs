//! `ledger export`: the same entries as lines, as a table, as a page.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::{Desk, HOSTILE, begin, bring_in, bring_in_with_everything, common, first, reject, subject, text};

/// A ledger with every kind of act that is about bundles, and what a spreadsheet would take for a formula.
fn filled() -> Desk {
    let desk = Desk::new();
    let mut ledger = desk.open();
    bring_in_with_everything(&mut ledger, "payments", 1);
    bring_in(&mut ledger, "web", 1);
    for (n, reason) in (2..).zip(["=HYPERLINK(\"http://x\")", "+1", "-1", "@SUM(1)", "\t=1", " =1", HOSTILE]) {
        let subject = subject("payments", n);
        begin(&mut ledger, &subject);
        reject(&mut ledger, &subject, reason);
    }
    desk
}

#[test]
fn json_lines_hold_every_entry_byte_for_byte() {
    let desk = filled();
    let lines = desk.ledger(&["export", "--format", "jsonl"]).expect_code(0).stdout;
    let stored: Vec<_> = desk.read().entries(first()).map(|e| e.unwrap()).collect();
    assert_eq!(lines.lines().count(), stored.len());
    for (line, stored) in lines.lines().zip(&stored) {
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&value["number"], &value["hash"]),
            (&stored.entry.number.get().into(), &stored.hash.to_string().into())
        );
        let entry = line.split_once("\"entry\":").unwrap().1.strip_suffix('}').unwrap();
        assert_eq!(blobs::sha256(entry.as_bytes()).hex(), stored.hash.to_string());
    }
    let numbers = |args: &[&str]| {
        let said = desk.ledger(&[&["export", "--format", "jsonl"], args].concat()).expect_code(0).stdout;
        said.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["number"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let last = desk.entries();
    assert_eq!(numbers(&["--from", &last.to_string()]), [last]);
    assert_eq!(numbers(&["--from", &(last + 1).to_string()]), [0; 0]);
    assert_eq!(numbers(&["--stream", "web"]), [11, 12, 13]);
    assert_eq!(numbers(&["--stream", "web", "--from", "12"]), [12, 13]);
    desk.ledger(&["export", "--format", "jsonl", "--from", "0"]).expect_code(2);
    desk.ledger(&["export"]).expect_code(2);
}

/// The cells of a table (RFC 4180).
fn table(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut chars) = (false, text.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => cell.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {
                assert_eq!(chars.next(), Some('\n'));
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            c => cell.push(c),
        }
    }
    assert!(!quoted && row.is_empty() && cell.is_empty());
    rows
}

#[test]
fn the_table_has_a_row_for_each_image_and_no_formulas() {
    let desk = filled();
    let said = desk.ledger(&["export", "--format", "csv"]).expect_code(0);
    assert!(
        said.stdout.chars().all(|c| matches!(c, '\r' | '\n') || !manifest_schema::text::is_unprintable(c)),
        "{said}"
    );
    let rows = table(&said.stdout);
    let (header, rows) = rows.split_first().unwrap();
    assert!(rows.iter().all(|row| row.len() == header.len()));
    let column = |name: &str| header.iter().position(|h| h == name).unwrap_or_else(|| panic!("no {name}"));
    let cells = |row: &[String], names: &[&str]| names.iter().map(|n| row[column(n)].clone()).collect::<Vec<_>>();
    for cell in rows.iter().flatten() {
        assert!(!cell.trim_start().starts_with(['=', '+', '-', '@', '\t', '\r']), "{cell}");
    }
    let of = |act: &str| rows.iter().filter(|row| row[column("act")] == act).collect::<Vec<_>>();
    assert_eq!((of("recorded").len(), of("received").len(), of("withdrawn").len()), (2, 1, 1));
    let recorded = cells(of("recorded")[0], &["stream", "sequence", "production", "origin_as_claimed"]);
    let tag = |host: &str| format!("registry.{host}.example/payments/api:1");
    assert_eq!(recorded, ["payments", "1", &tag("prod"), &tag("dev")]);
    assert!(of("recorded")[0][column("in_place_of")].starts_with("sha256:"));
    assert_eq!(cells(of("received")[0], &["staging", "keys"]), ["registry.qa.example/api:1", &"E".repeat(40)]);
    assert_eq!(cells(of("approved")[0], &["keys"]), ["A".repeat(40)]);
    assert_eq!(cells(of("overridden")[0], &["note"]), ["approvals: =the board said so"]);
    let notes: Vec<_> = of("rejected").iter().map(|row| row[column("note")].clone()).collect();
    let expected = ["'=HYPERLINK(\"http://x\")", "'+1", "'-1", "'@SUM(1)", "\\u{9}=1", "' =1"];
    assert_eq!(notes[..6], expected);
    assert!(notes[6].contains("<script>") && notes[6].ends_with("\\u{d}\\u{a}=1+1,\""), "{}", notes[6]);
    assert!(of("withdrawn")[0][column("run_by")].contains("uid"));
    // One row for each entry at least, in order.
    let numbers: Vec<u64> = rows.iter().map(|row| row[0].parse().unwrap()).collect();
    assert!(numbers.is_sorted() && numbers.len() as u64 == desk.entries());
}

#[test]
fn the_page_says_what_was_verified_and_holds_nothing_but_text() {
    let desk = filled();
    let file = desk.file("page.html");
    desk.ledger(&["export", "--format", "html", "-o", text(&file)]).expect_code(0);
    let page = fs::read_to_string(&file).unwrap();
    let head = desk.read().head().unwrap();
    for said in
        ["good at 20", &head.hash.to_string(), &head.root.to_string(), "Signed by", "Sealift ledger key", "rejected"]
    {
        assert!(page.contains(said), "{said}");
    }
    let lower = page.to_lowercase();
    for never in ["<script", "javascript:", "http://", "https://", " src=", " href=", " onload", "<img", "<link"] {
        let found = lower.match_indices(never).map(|(i, _)| &page[i..(i + 40).min(page.len())]).collect::<Vec<_>>();
        // What somebody wrote as a reason is there as text, with its quotes encoded.
        let in_text = never == "http://" && found.len() == 1 && found[0].contains("&quot;");
        assert!(found.is_empty() || in_text, "{never}: {found:?}");
    }
    assert!(page.contains("&lt;/td&gt;&lt;script&gt;"), "{page}");
    assert!(page.chars().all(|c| c == '\n' || !manifest_schema::text::is_unprintable(c)));
    assert_eq!(lower.matches("<tr>").count(), lower.matches("</tr>").count());
    // Only what is right is put on paper.
    let wrong = desk.file("wrong.html");
    let mut bytes = fs::read(desk.file("ledger.db")).unwrap();
    let at = bytes.windows(4).rposition(|w| w == b"+1\"}").expect("a reason");
    bytes[at + 1] = b'2';
    fs::write(desk.file("ledger.db"), bytes).unwrap();
    desk.ledger(&["export", "--format", "html", "-o", text(&wrong)]).expect_code(1).expect_stderr("was changed");
    assert!(!wrong.exists());
    desk.ledger(&["export", "--format", "csv", "-o", text(&wrong)]).expect_code(1).expect_stderr("was changed");
    assert!(!wrong.exists(), "an export that fails leaves nothing");
}

#[test]
fn a_file_appears_whole_and_never_in_place_of_another() {
    let desk = filled();
    for format in ["jsonl", "csv", "html"] {
        let file = desk.file(&format!("export.{format}"));
        let export = ["export", "--format", format, "-o", text(&file)];
        desk.ledger(&export).expect_code(0);
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions()) & 0o777;
        assert_eq!(mode, 0o600, "it says as much as the ledger");
        let bytes = fs::read(&file).unwrap();
        desk.ledger(&export).expect_code(2).expect_stderr("is already there");
        assert_eq!(fs::read(&file).unwrap(), bytes);
        assert!(desk.ledger(&["export", "--format", format, "-o", "-"]).expect_code(0).stdout.len() == bytes.len());
    }
    desk.ledger(&["export", "--format", "csv", "-o", "nowhere/x.csv"]).expect_code(1).expect_stderr("nowhere/x.csv");
    let left = common::files(&desk.dir());
    assert!(!left.keys().any(|name| name.starts_with(".sealift")), "{:?}", left.keys());
    // A reader that has seen enough is no failure.
    let mut export = desk.import(&["ledger", "export", "--format", "csv"]);
    let mut child = export.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

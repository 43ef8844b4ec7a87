//! Data on stdout.

use std::io::{self, Write};

use serde::Serialize;

/// Text as it may go to a terminal. Text from outside has been escaped where it was put in; paths are as the person named
/// them, or as they lie on a medium, and are made harmless here.
pub(crate) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            c if manifest_schema::text::is_unprintable(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// Prints text. A reader that went away (`| head`) is no error.
///
/// # Errors
/// Any other error of stdout.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(visible(text).as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Says something on stderr. Nobody may be listening (`2>&1 | head`, a full disk): that is no reason to stop half-way.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{}", visible(text));
}

/// Prints a value as JSON, indented. Characters that would not simply appear are written as JSON's own escapes: the value
/// stays the same, and a terminal is not moved.
///
/// # Errors
/// As [`print`].
pub fn print_json(value: &impl Serialize) -> io::Result<()> {
    print(&json_text(value).map_err(io::Error::other)?)
}

fn json_text(value: &impl Serialize) -> serde_json::Result<String> {
    let mut text = String::new();
    // Outside of strings JSON has none of these characters but line breaks.
    for c in serde_json::to_string_pretty(value)?.chars() {
        if c != '\n' && manifest_schema::text::is_unprintable(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                text += &format!("\\u{unit:04x}");
            }
        } else {
            text.push(c);
        }
    }
    text.push('\n');
    Ok(text)
}

/// Bytes for people: `1.5 MiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A table with aligned columns. Columns of numbers (by their header's leading `>`) are aligned to the right.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let right: Vec<bool> = header.iter().map(|h| h.starts_with('>')).collect();
    let header: Vec<String> = header.iter().map(|h| h.trim_start_matches('>').to_string()).collect();
    let mut widths = vec![0; header.len()];
    for row in std::iter::once(&header).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(&widths).zip(&right) {
            let fill = " ".repeat(width - cell.chars().count());
            match right {
                true => line += &format!("{fill}{cell}  "),
                false => line += &format!("{cell}{fill}  "),
            }
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_tables_are_readable() {
        assert_eq!(
            [bytes(0), bytes(1023), bytes(1024), bytes(1536 << 10), bytes(1 << 50)],
            ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "1.0 PiB"]
        );
        assert_eq!(visible("a\n\u{1b}[2J\u{202e}\\é"), "a\n\\u{1b}[2J\\u{202e}\\é");
        let value = "a\u{202e}\u{9b}\u{e0041}\u{7f}\u{1b}\n\\\"é";
        let text = json_text(&[value]).expect("JSON");
        assert_eq!(text, "[\n  \"a\\u202e\\u009b\\udb40\\udc41\\u007f\\u001b\\n\\\\\\\"é\"\n]\n");
        assert_eq!(serde_json::from_str::<[String; 1]>(&text).expect("the value")[0], value);
        let text = table(&["NAME", ">SIZE"], &[vec!["a".into(), "10".into()], vec!["long".into(), "9".into()]]);
        assert_eq!(text, "NAME  SIZE\na       10\nlong     9\n");
    }
}

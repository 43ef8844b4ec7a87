//! JSON lines: `{"number":..,"hash":..,"entry":<the entry's bytes>}`.

use std::io::Write;

use manifest_schema::text::is_unprintable;

use super::{Failed, Selected, line};

/// Writes one line for each entry. The bytes of the entries are JSON of one line, and are written as they are, so that they
/// have the hash; for a terminal, what would not simply appear is escaped, as JSON does.
pub(super) fn write(out: &mut impl Write, entries: Selected<'_>, escaped: bool) -> Result<(), Failed> {
    entries.each(|stored| {
        let entry = String::from_utf8_lossy(&stored.bytes);
        let text = format!("{{\"number\":{},\"hash\":\"{}\",\"entry\":{entry}}}", stored.entry.number, stored.hash);
        if escaped { line(out, &escape(&text)) } else { line(out, &text) }
    })
}

fn escape(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unprintable(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                text += &format!("\\u{unit:04x}");
            }
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_escaped_and_means_the_same() {
        let value = "a\u{202e}\u{9b}\u{e0041}é\\\"";
        let json = serde_json::to_string(value).expect("JSON");
        let shown = escape(&json);
        assert!(!shown.chars().any(is_unprintable), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).expect("JSON"), value);
    }
}

//! A page to read and to print: complete in itself, without scripts. Everything in it passes one encoder.

use std::fmt;
use std::io::Write;

use ledger::{EntryNumber, Ledger, Verified};
use manifest_schema::text::is_unprintable;
use manifest_schema::{Stream, Timestamp};

use super::{Failed, Selected, line};
use crate::access::LedgerChecker;
use crate::audit::AuditError;
use crate::audit::signed::{LedgerKeys, SignedHead};
use crate::commands::ledger::acts;
use crate::error::Error;

/// The top of the page: what was verified.
pub(super) struct Page {
    verified: Verified,
    signed: Option<SignedHead>,
    stream: Option<Stream>,
    now: Timestamp,
}

impl Page {
    /// Verifies the ledger.
    pub(super) fn of(ledger: &Ledger, stream: Option<&Stream>) -> Result<Self, Error> {
        let now = Timestamp::now();
        let verified = ledger.verify(&LedgerChecker)?;
        let signed = match &verified.key {
            Some(_) => {
                let (kept, _) = ledger.checked_head(&LedgerChecker)?;
                let no_head = |reason| AuditError::NoHead { path: ledger.path().into(), reason };
                Some(LedgerKeys::of(ledger, None)?.judge(&kept.statement, now).map_err(no_head)?)
            }
            None => None,
        };
        Ok(Self { verified, signed, stream: stream.cloned(), now })
    }

    /// The last entry that was verified.
    pub(super) fn last(&self) -> EntryNumber {
        self.verified.head.number
    }

    pub(super) fn write(&self, out: &mut impl Write, entries: Selected<'_>) -> Result<(), Failed> {
        let Verified { head, begun, recorded, refused, .. } = &self.verified;
        line(out, HEAD.trim_end())?;
        line(out, &format!("<h1>Ledger {}</h1>\n<table class=\"facts\">", Text(&head.ledger.to_string())))?;
        let signed = self.signed.as_ref().map_or("heads are not signed".into(), SignedHead::by);
        let which = match (&self.stream, entries.from.get()) {
            (None, 1) => "all".into(),
            (None, from) => format!("from {from}"),
            (Some(stream), from) => format!("of stream {stream}, from {from}"),
        };
        for (what, text) in [
            ("Verified", format!("good at {}: every entry, the tables, the signed head", self.now)),
            ("Entries", format!("{}; the last of {}", head.number, head.time)),
            ("Bundles", format!("{begun} begun, {recorded} recorded; {refused} refusals")),
            ("Head", head.hash.to_string()),
            ("Tree", head.root.to_string()),
            ("Signed by", signed),
            ("Shown here", format!("{which}, up to {}", head.number)),
        ] {
            line(out, &format!("<tr><th>{what}</th><td>{}</td></tr>", Text(&text)))?;
        }
        line(
            out,
            "</table>\n<table class=\"entries\">\n<thead><tr><th>Entry</th><th>Time</th><th>Act</th><th>Bundle</th><th>Run by</th><th>What</th></tr></thead>\n<tbody>",
        )?;
        entries.each(|stored| {
            let entry = &stored.entry;
            let bundle = entry.act.subject().map(|s| format!("{} {}", acts::name(s), s.bundle)).unwrap_or_default();
            let by = entry.by.as_ref().map(ToString::to_string).unwrap_or_default();
            let cells = [entry.number.to_string(), entry.time.to_string(), entry.act.kind().into(), bundle, by];
            let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", Text(cell))).collect();
            let lines = acts::lines(&entry.act);
            let lines: String = lines.iter().map(|text| format!("<div>{}</div>", Text(text))).collect();
            let hash = Text(&stored.hash.to_string()).to_string();
            line(out, &format!("<tr>{cells}<td>{lines}<div class=\"hash\">{hash}</div></td></tr>"))
        })?;
        line(out, "</tbody>\n</table>\n</body>\n</html>")?;
        Ok(())
    }
}

/// The encoder of this output, for text between tags.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if is_unprintable(c) => write!(f, "{}", c.escape_unicode())?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Ledger</title>
<style>
body { font: 10pt sans-serif; margin: 1.5em; color: #000; background: #fff; }
table { border-collapse: collapse; margin-bottom: 1.5em; }
th, td { text-align: left; vertical-align: top; padding: 0.2em 0.6em; border-bottom: 1px solid #bbb; }
td { overflow-wrap: anywhere; }
td div { white-space: pre-wrap; }
.facts th { white-space: nowrap; }
.entries td:nth-child(1) { text-align: right; }
.entries td:nth-child(-n+3) { white-space: nowrap; overflow-wrap: normal; }
.hash { color: #666; font: 8pt monospace; }
thead { display: table-header-group; }
tr { break-inside: avoid-page; }
@page { margin: 1.5cm; }
</style>
</head>
<body>
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        let hostile = "</div><script>alert('x')</script>&amp;\"\u{202e}\u{1b}[2J";
        let shown = Text(hostile).to_string();
        assert!(!shown.contains(['<', '>', '"', '\'', '\u{202e}', '\u{1b}']), "{shown}");
        assert!(shown.starts_with("&lt;/div&gt;&lt;script&gt;") && shown.contains("&amp;amp;"), "{shown}");
    }
}

//! Text from outside: labels, annotations, user ids, registry messages.
//!
//! [`OutsideText`] has no `Display`: an output must choose its encoder. [`escape`] is the encoder of terminals,
//! logs and `LABEL.txt`.

use std::fmt;
use std::str::FromStr;

use crate::json::string_serde;

/// Whether a character would do something other than appear: control and escape characters, line and paragraph
/// separators, bidirectional overrides, zero-width characters, tags, private use.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{10ffff}'
            | '\u{3164}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{fe00}'..='\u{fe0f}')
}

/// Shows text from outside on one line of a terminal, a log or a plain text file: every character that would not
/// simply appear is written as `\u{…}`, a backslash as `\\`.
pub fn escape(text: &str) -> impl fmt::Display + '_ {
    struct Escaped<'a>(&'a str);
    impl fmt::Display for Escaped<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            use fmt::Write;
            for c in self.0.chars() {
                if c == '\\' {
                    f.write_str("\\\\")?;
                } else if is_unprintable(c) {
                    write!(f, "{}", c.escape_unicode())?;
                } else {
                    f.write_char(c)?;
                }
            }
            Ok(())
        }
    }
    Escaped(text)
}

/// Text that somebody else wrote. It has no `Display`; [`OutsideText::escaped`] shows it safely.
#[derive(
    Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct OutsideText(String);

impl OutsideText {
    /// Takes text from outside, at most `LIMIT` characters of it.
    pub fn new(text: impl Into<String>) -> Self {
        const LIMIT: usize = 2000;
        let mut text = text.into();
        if let Some((cut, _)) = text.char_indices().nth(LIMIT) {
            text.truncate(cut);
            text.push('…');
            text.shrink_to_fit();
        }
        Self(text)
    }

    /// Takes all of a text, such as a statement with its signature, whose length was bounded before.
    pub fn whole(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text for a terminal, a log line or `LABEL.txt`.
    pub fn escaped(&self) -> impl fmt::Display + '_ {
        escape(&self.0)
    }

    /// The text as it is, for comparing and for encoders of other outputs. Never print it.
    pub fn raw(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for OutsideText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escaped())
    }
}

/// A label's name or value breaks the rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The name does not follow the grammar.
    #[error("`{}` is not a label name: expected a lower-case letter or digit, then up to 62 of a-z 0-9 . _ -", escape(.0))]
    Key(String),
    /// The value is too long or has characters that would not simply appear.
    #[error("`{}` is not a label value: expected one printable line of at most 256 bytes", escape(.0))]
    Value(String),
}

/// The name of a label: `[a-z0-9][a-z0-9._-]{0,62}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelKey(String);

impl FromStr for LabelKey {
    type Err = LabelError;
    fn from_str(text: &str) -> Result<Self, LabelError> {
        let alnum = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let b = text.as_bytes();
        let ok = (1..=63).contains(&b.len())
            && alnum(b[0])
            && b.iter().all(|&c| alnum(c) || matches!(c, b'.' | b'_' | b'-'));
        if ok { Ok(Self(text.into())) } else { Err(LabelError::Key(text.chars().take(80).collect())) }
    }
}

impl fmt::Display for LabelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_serde!(LabelKey, "LabelKey", "^[a-z0-9][a-z0-9._-]{0,62}$");

/// The value of a label: one printable line of at most 256 bytes.
///
/// Characters that would not simply appear are refused, so a label may be shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelValue(String);

impl FromStr for LabelValue {
    type Err = LabelError;
    fn from_str(text: &str) -> Result<Self, LabelError> {
        if text.len() <= 256 && !text.chars().any(is_unprintable) {
            Ok(Self(text.into()))
        } else {
            Err(LabelError::Value(text.chars().take(300).collect()))
        }
    }
}

impl fmt::Display for LabelValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_serde!(LabelValue, "LabelValue", "^[^\\u0000-\\u001f\\u007f]{0,256}$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_the_cursor_is_shown() {
        let hostile = "a\x1b[2J\u{202e}txt\r\n\u{200b}\\\u{7}é";
        assert_eq!(escape(hostile).to_string(), "a\\u{1b}[2J\\u{202e}txt\\u{d}\\u{a}\\u{200b}\\\\\\u{7}é");
        assert!("x\u{202e}".parse::<LabelValue>().is_err());
        assert!("x\x1b".parse::<LabelValue>().is_err());
        assert!("x".repeat(257).parse::<LabelValue>().is_err());
        assert_eq!("Ünï cöde 42".parse::<LabelValue>().expect("printable").to_string(), "Ünï cöde 42");
        assert!("Ticket".parse::<LabelKey>().is_err());
        assert!("ticket".parse::<LabelKey>().is_ok());
    }
}

//! The client's side of an Assuan connection (the GnuPG project's "Developing with Assuan", chapter 2): one command, then
//! data, status and inquiries until `OK` or `ERR`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use manifest_schema::OutsideText;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::AgentError;

/// The longest line either side may send, with its line feed.
const LINE: u64 = 1002;
/// The most data one command may answer; a signature of the largest RSA key has some 2 KiB.
const DATA: usize = 64 << 10;
/// Lines of one answer; status lines are few.
const LINES: usize = 1000;
/// How long the agent may take to answer where nobody is asked for anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest passphrase that the agent takes, in bytes.
const PASSPHRASE: usize = 255;

/// A connection to an agent.
pub(super) struct Connection {
    reader: BufReader<UnixStream>,
}

/// Whether somebody may have to act before the agent answers: type a PIN, touch a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// The agent answers by itself.
    Short,
    /// A person takes as long as a person takes.
    ForPerson,
}

impl Connection {
    /// Connects and reads the greeting.
    pub(super) fn open(socket: &Path) -> Result<Self, AgentError> {
        let failed = |e: io::Error| AgentError::Unreachable { socket: socket.into(), reason: e.to_string() };
        let stream = UnixStream::connect(socket).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut connection = Self { reader: BufReader::new(stream) };
        connection.patience(Wait::Short)?;
        connection.answer(None)?;
        Ok(connection)
    }

    /// Sends a command and gives the data of its answer. An inquiry for a passphrase is answered with the one given, once.
    pub(super) fn command(
        &mut self,
        command: &str,
        passphrase: Option<&SecretString>,
        wait: Wait,
    ) -> Result<Vec<u8>, AgentError> {
        self.patience(wait)?;
        self.send(&Zeroizing::new(format!("{command}\n").into_bytes()))?;
        self.answer(passphrase)
    }

    fn patience(&mut self, wait: Wait) -> Result<(), AgentError> {
        let timeout = (wait == Wait::Short).then_some(PATIENCE);
        self.reader.get_ref().set_read_timeout(timeout).map_err(|e| AgentError::Broken(e.to_string()))
    }

    fn send(&mut self, line: &[u8]) -> Result<(), AgentError> {
        if line.len() as u64 > LINE {
            return Err(AgentError::Protocol("a command would be too long".into()));
        }
        self.reader.get_mut().write_all(line).map_err(|e| AgentError::Broken(e.to_string()))
    }

    fn answer(&mut self, passphrase: Option<&SecretString>) -> Result<Vec<u8>, AgentError> {
        let (mut data, mut asked) = (Vec::new(), 0);
        for _ in 0..LINES {
            let line = self.line()?;
            let (word, rest) = match line.iter().position(|b| *b == b' ') {
                Some(at) => (&line[..at], &line[at + 1..]),
                None => (&line[..], &[][..]),
            };
            match word {
                b"OK" => return Ok(data),
                b"ERR" => {
                    let text = String::from_utf8_lossy(rest);
                    let (code, text) = text.split_once(' ').unwrap_or((&text, ""));
                    let code = code.parse().map_err(|_| unexpected(&line))?;
                    let error = AgentError::of_code(code, text);
                    // Asked again after an answer: the answer was wrong, whatever the cancelled inquiry is called.
                    return Err(if asked > 1 { AgentError::WrongPassphrase } else { error });
                }
                b"D" => {
                    data.extend(unescape(rest).ok_or_else(|| unexpected(&line))?);
                    if data.len() > DATA {
                        return Err(AgentError::Protocol(format!("an answer has more than {DATA} bytes")));
                    }
                }
                b"INQUIRE" => {
                    let wanted = rest.starts_with(b"PASSPHRASE");
                    asked += usize::from(wanted);
                    match passphrase {
                        Some(passphrase) if wanted && asked == 1 => self.tell(passphrase)?,
                        _ => self.send(b"CAN\n")?,
                    }
                }
                // Status, comments, and nothing at all.
                b"S" | b"" => {}
                _ if word.starts_with(b"#") => {}
                _ => return Err(unexpected(&line)),
            }
        }
        Err(AgentError::Protocol(format!("an answer has more than {LINES} lines")))
    }

    fn tell(&mut self, passphrase: &SecretString) -> Result<(), AgentError> {
        let bytes = passphrase.expose_secret().as_bytes();
        if bytes.len() > PASSPHRASE {
            return Err(AgentError::LongPassphrase { limit: PASSPHRASE });
        }
        // Its final size from the start, so that no copy of the secret stays behind in memory.
        let mut line = Zeroizing::new(Vec::with_capacity(8 + 3 * PASSPHRASE));
        line.extend_from_slice(b"D ");
        escape_into(&mut line, bytes);
        line.extend_from_slice(b"\n");
        self.send(&line)?;
        self.send(b"END\n")
    }

    fn line(&mut self) -> Result<Vec<u8>, AgentError> {
        let mut line = Vec::new();
        (&mut self.reader).take(LINE).read_until(b'\n', &mut line).map_err(|e| AgentError::Broken(e.to_string()))?;
        match line.pop() {
            Some(b'\n') => Ok(line),
            Some(_) if line.len() as u64 + 1 == LINE => Err(AgentError::Protocol("a line is too long".into())),
            _ => Err(AgentError::Broken("the agent closed the connection".into())),
        }
    }
}

fn unexpected(line: &[u8]) -> AgentError {
    let text = String::from_utf8_lossy(line);
    let short: String = text.chars().take(80).collect();
    AgentError::Protocol(format!("`{}`", OutsideText::new(short).escaped()))
}

/// Escapes what would end a line, begin an escape, or be cut off.
fn escape_into(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'%' | b'\r' | b'\n' | b'\\' | 0 => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            other => out.push(*other),
        }
    }
}

/// Text as an argument: spaces become `+`, and everything that is not plain is escaped.
pub(super) fn plus_escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(char::from(byte)),
            other => out += &format!("%{other:02X}"),
        }
    }
    out
}

fn unescape(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            out.push(first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        let digit = |b: u8| char::from(b).to_digit(16);
        out.push(u8::try_from(digit(digits[0])? << 4 | digit(digits[1])?).ok()?);
        rest = tail;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent that says these lines, whatever it is told.
    fn said(lines: &[u8], passphrase: Option<&str>) -> (Result<Vec<u8>, AgentError>, Vec<u8>) {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        theirs.write_all(lines).expect("written");
        theirs.shutdown(std::net::Shutdown::Write).expect("shut");
        let mut connection = Connection { reader: BufReader::new(ours) };
        let answer = connection.command("PKSIGN", passphrase.map(SecretString::from).as_ref(), Wait::Short);
        drop(connection);
        let mut told = Vec::new();
        let _ = theirs.read_to_end(&mut told);
        (answer, told)
    }

    #[test]
    fn answers_are_read_within_their_bounds() {
        assert_eq!(said(b"S X\n# c\nD a%0Ab%25\nD +c\nOK done\n", None).0.expect("data"), b"a\nb%+c");
        let long = [b"S ".as_slice(), &[b'x'; 2000], b"\nOK\n"].concat();
        assert!(matches!(said(&long, None).0, Err(AgentError::Protocol(_))));
        let much = [b"D ".as_slice(), &[b'x'; 990], b"\n"].concat().repeat(100);
        assert!(matches!(said(&much, None).0, Err(AgentError::Protocol(_))));
        assert!(matches!(said(&b"S x\n".repeat(2000), None).0, Err(AgentError::Protocol(_))));
        for (lines, protocol) in [(&b""[..], false), (b"D abc", false), (b"HELLO\n", true), (b"D %4\nOK\n", true)] {
            let answer = said(lines, None).0.expect_err("no answer");
            assert_eq!(matches!(answer, AgentError::Protocol(_)), protocol, "{lines:?}: {answer:?}");
        }
        let error = said(b"WHAT \x1b[2J\n", None).0.expect_err("refused").to_string();
        assert!(!error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn a_passphrase_is_told_once_and_only_when_asked() {
        let (answer, told) = said(b"INQUIRE PASSPHRASE\nOK\n", Some("a%b\nc"));
        answer.expect("unlocked");
        assert_eq!(told, b"PKSIGN\nD a%25b%0Ac\nEND\n");
        assert_eq!(said(b"INQUIRE CIPHERTEXT\nOK\n", Some("secret")).1, b"PKSIGN\nCAN\n");
        assert_eq!(said(b"INQUIRE PASSPHRASE\nOK\n", None).1, b"PKSIGN\nCAN\n");
        let (answer, told) = said(b"INQUIRE PASSPHRASE\nINQUIRE PASSPHRASE\nERR 67109141 x\n", Some("no"));
        assert!(matches!(answer, Err(AgentError::WrongPassphrase)), "{answer:?}");
        assert_eq!(told, b"PKSIGN\nD no\nEND\nCAN\n");
        let long = "x".repeat(256);
        assert!(matches!(
            said(b"INQUIRE PASSPHRASE\nOK\n", Some(&long)).0,
            Err(AgentError::LongPassphrase { limit: 255 })
        ));
    }

    #[test]
    fn errors_say_what_a_person_can_act_on() {
        let error = |line: &str| said(line.as_bytes(), None).0.expect_err("an error");
        assert!(matches!(error("ERR 67108881 No secret key <GPG Agent>\n"), AgentError::NoSecretKey));
        assert!(matches!(error("ERR 67108875 Bad passphrase <GPG Agent>\n"), AgentError::WrongPassphrase));
        assert!(matches!(error("ERR 83886179 Operation cancelled <Pinentry>\n"), AgentError::Cancelled));
        assert!(matches!(error("ERR 67108949 No pinentry <GPG Agent>\n"), AgentError::NoPinentry(_)));
        assert!(matches!(error("ERR 83918950 Inappropriate ioctl for device <Pinentry>\n"), AgentError::NoPinentry(_)));
        assert!(matches!(error("ERR 100663408 Card not present <SCD>\n"), AgentError::NoCard));
        assert!(matches!(error("ERR 67108924 Not supported <GPG Agent>\n"), AgentError::Refused(_)));
        assert!(matches!(error("ERR nothing\n"), AgentError::Protocol(_)));
    }
}

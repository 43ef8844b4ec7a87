//! Textual encoding of keys (RFC 7468), as OpenSSL, Go and cosign write it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;

/// One block: what its first line says it is, and its bytes.
pub(crate) struct Block {
    pub(crate) label: String,
    pub(crate) bytes: Zeroizing<Vec<u8>>,
}

/// The blocks of a file; text around them is passed over.
pub(crate) fn blocks(file: &[u8]) -> Result<Vec<Block>, &'static str> {
    let text = std::str::from_utf8(file).map_err(|_| "it is not text")?;
    let mut blocks = Vec::new();
    let mut lines = text.lines().map(str::trim_end);
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|l| l.strip_suffix("-----")) else { continue };
        let end = format!("-----END {label}-----");
        let mut body = Zeroizing::new(String::with_capacity(text.len()));
        loop {
            match lines.next() {
                Some(line) if line == end => break,
                Some(line) if line.contains(':') => return Err("a block has headers, as old encrypted keys do"),
                Some(line) => body.push_str(line.trim_start()),
                None => return Err("a block does not end"),
            }
        }
        let bytes = STANDARD.decode(body.as_bytes()).map_err(|_| "a block is not base64")?;
        blocks.push(Block { label: label.into(), bytes: Zeroizing::new(bytes) });
    }
    Ok(blocks)
}

/// Writes one block.
pub(crate) fn write(label: &str, bytes: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(bytes));
    let mut text = Zeroizing::new(String::with_capacity(body.len() + body.len() / 64 + 2 * label.len() + 40));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

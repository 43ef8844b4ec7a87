//! Signed statements: one file that is a document and its signatures.
//!
//! The first line is the document, JSON without a line end in it; the rest is one armored block of detached signatures over
//! that line *with* its end. So stock tools take it apart:
//!
//! ```text
//! head -n 1 FILE > document; tail -n +2 FILE > signature; gpg --verify signature document
//! ```
//!
//! Nothing stands before, between or behind the two, and lines end with a line feed alone.

use manifest_schema::Timestamp;

use crate::packets::{armored, join_signatures};
use crate::rejected::Rejected;
use crate::trust::{Authentic, Trust};
use crate::{Error, SecretKey};

/// What a document begins with: its type is its first member, and is one of ours.
const BEGIN: &[u8] = br#"{"type":"sealift/"#;
const EXPECTED: &str = "a line of JSON that begins with `{\"type\":\"sealift/`";
const SIGNATURES: &str = "one armored block of signatures behind the first line";

impl SecretKey {
    /// Signs a document and gives the file: the document, a line end, and an armored signature over both.
    ///
    /// # Errors
    /// [`Error::Statement`] for a document that is not one line or does not begin with `{"type":"sealift/`;
    /// [`Error::Sign`].
    pub fn sign_statement(&self, document: &[u8], now: Timestamp) -> Result<Vec<u8>, Error> {
        if !document.starts_with(BEGIN) {
            return Err(Error::Statement { expected: EXPECTED, found: "another beginning" });
        }
        if document.iter().any(|b| matches!(b, b'\n' | b'\r')) {
            return Err(Error::Statement { expected: EXPECTED, found: "a line end in it" });
        }
        let line = [document, b"\n"].concat();
        let signature = self.sign_detached_at(&line, now)?;
        Ok([line, signature].concat())
    }
}

/// Takes a statement apart: the first line with its end, and the armored signatures over it. Nothing is verified.
///
/// # Errors
/// [`Rejected`] if there is anything else in the file.
pub fn split_statement(bytes: &[u8]) -> Result<(&[u8], &[u8]), Rejected> {
    let form = |expected, found| Err(Rejected::Form { expected, found });
    let Some(end) = bytes.iter().position(|b| *b == b'\n') else { return form(EXPECTED, "no line end") };
    let (line, signature) = bytes.split_at(end + 1);
    if !line.starts_with(BEGIN) {
        return form(EXPECTED, "another beginning");
    }
    let Ok(text) = std::str::from_utf8(signature) else { return form(SIGNATURES, "bytes that are not text") };
    if line.contains(&b'\r') || text.chars().any(|c| c.is_control() && c != '\n') {
        return form("lines that end with a line feed", "control characters");
    }
    let one = matches!(armored(text).blocks[..], [(_, block)] if block.len() == text.len());
    let plain =
        text.starts_with("-----BEGIN PGP SIGNATURE-----\n") && text.ends_with("\n-----END PGP SIGNATURE-----\n");
    if !one || !plain {
        return form(SIGNATURES, "something else, or something beside it");
    }
    Ok((line, signature))
}

/// Joins statements of the same document, signed by several keys, into one.
///
/// Nothing is verified.
///
/// # Errors
/// [`Rejected`] if one of them is no statement, or another document.
pub fn join_statements(files: &[&[u8]]) -> Result<Vec<u8>, Rejected> {
    let split = files.iter().map(|file| split_statement(file)).collect::<Result<Vec<_>, _>>()?;
    let (lines, signatures): (Vec<_>, Vec<_>) = split.into_iter().unzip();
    let Some((line, others)) = lines.split_first() else { return Err(Rejected::NoSignature) };
    if others.iter().any(|other| other != line) {
        return Err(Rejected::Form { expected: "statements of the same document", found: "another document" });
    }
    Ok([line, join_signatures(&signatures)?.as_slice()].concat())
}

impl Trust {
    /// Verifies a statement, of which the document has at most `limit` bytes, and gives the document without its line end.
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn verify_statement(&self, bytes: &[u8], limit: u64) -> Result<Authentic<Vec<u8>>, Rejected> {
        let (line, signature) = split_statement(bytes)?;
        let found = line.len() as u64 - 1;
        if found > limit {
            return Err(Rejected::LongDocument { found, limit });
        }
        self.verify_detached(line.into(), signature)?
            .parse(|line| Ok(line.strip_suffix(b"\n").unwrap_or(line).to_vec()))
    }
}

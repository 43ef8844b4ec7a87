//! Content digests as the OCI image specification writes them (`descriptor.md`, "Digests").

use std::fmt;
use std::str::FromStr;

use crate::json::string_serde;

/// The hash functions the OCI image specification registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name in a digest and in a layout's path: `sha256` or `sha512`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }
}

/// A content digest, `sha256:<64 hex>` or `sha512:<128 hex>`, in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digest {
    /// A SHA-256 digest.
    Sha256([u8; 32]),
    /// A SHA-512 digest.
    Sha512([u8; 64]),
}

impl Digest {
    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Digest::Sha256(_) => Algorithm::Sha256,
            Digest::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The hash itself.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Digest::Sha256(b) => b,
            Digest::Sha512(b) => b,
        }
    }

    /// The hash in lower-case hexadecimal.
    pub fn hex(&self) -> String {
        to_hex(self.as_bytes())
    }

    /// `blobs/<alg>/<hex>`: where an OCI layout keeps the blob (`image-layout.md`).
    pub fn layout_path(&self) -> String {
        format!("blobs/{}/{}", self.algorithm().name(), self.hex())
    }
}

/// Bytes in lower-case hexadecimal.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        out.push(DIGITS[usize::from(b >> 4)] as char);
        out.push(DIGITS[usize::from(b & 15)] as char);
    }
    out
}

/// Reads exactly `N` bytes of lower-case hexadecimal; `None` for anything else.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    fn nibble(c: u8) -> Option<u8> {
        match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        }
    }
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(out)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm().name())?;
        f.write_str(":")?;
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a digest that can be carried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a digest: expected sha256:<64 hex> or sha512:<128 hex> in lower case", crate::text::escape(.0))]
pub struct DigestError(pub String);

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let parsed = match text.split_once(':') {
            Some(("sha256", hex)) => from_hex(hex).map(Digest::Sha256),
            Some(("sha512", hex)) => from_hex(hex).map(Digest::Sha512),
            _ => None,
        };
        parsed.ok_or_else(|| DigestError(text.chars().take(160).collect()))
    }
}

string_serde!(Digest, "Digest", "^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_read_back_as_written() {
        for text in [format!("sha256:{}", "0f".repeat(32)), format!("sha512:{}", "a9".repeat(64))] {
            let digest: Digest = text.parse().expect("a digest");
            assert_eq!(digest.to_string(), text);
            assert_eq!(digest.layout_path(), format!("blobs/{}", text.replace(':', "/")));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            String::new(),
            "sha256".into(),
            format!("sha256:{}", "0f".repeat(31)),
            format!("sha256:{}", "0F".repeat(32)),
            format!("sha512:{}", "0f".repeat(32)),
            format!("md5:{}", "0f".repeat(16)),
            format!("sha256:{}\n", "0f".repeat(32)),
            format!("sha256:../{}", "0f".repeat(31)),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text:?}");
        }
    }
}

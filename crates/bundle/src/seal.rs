//! The seal, `SHA256SUMS`: "this is released, and this is all of it" (docs/format.md, section 3).
//!
//! A comment line that `sha256sum -c` skips, then a line a file in the form it reads. The release keys sign these bytes.

use manifest_schema::digest::from_hex;
use manifest_schema::{BundleId, Digest, LIMITS};

use crate::names::{LABEL, parse_volume_name};

/// A sealed file: its name in the folder and its SHA-256 digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedFile {
    /// File name, without a path.
    pub name: String,
    /// Digest of the file's bytes (of a volume: the ciphertext).
    pub digest: Digest,
}

/// A parsed seal. It is worth nothing until its bytes are authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// The bundle.
    pub bundle: BundleId,
    /// 1 for the first seal; a re-made volume comes with a higher one.
    pub revision: u32,
    /// The digest of the manifest that the bundle carries.
    pub manifest: Digest,
    /// `<stream>-<sequence>`, from the volumes' names.
    pub name: String,
    /// The label's digest.
    pub label: Digest,
    /// The volumes in order, number 1 first.
    pub volumes: Vec<SealedFile>,
}

/// Why a seal is refused.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A line is not what it should be.
    #[error("SHA256SUMS, line {line}: expected {expected}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What should stand there.
        expected: &'static str,
    },
    /// Something is missing.
    #[error("SHA256SUMS: {0}")]
    Incomplete(&'static str),
}

impl Seal {
    /// The bytes to sign.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("# sealift/seal/1 {} {} {}\n", self.bundle, self.revision, self.manifest);
        text += &format!("{}  {LABEL}\n", self.label.hex());
        for file in &self.volumes {
            text += &format!("{}  {}\n", file.digest.hex(), file.name);
        }
        text.into_bytes()
    }

    /// Reads a seal strictly: exactly the form that [`Seal::to_bytes`] writes.
    ///
    /// # Errors
    /// [`SealError`] names the line.
    pub fn parse(bytes: &[u8]) -> Result<Self, SealError> {
        let wrong = |line, expected| Err(SealError::Line { line, expected });
        let text = match std::str::from_utf8(bytes) {
            Ok(text) if text.is_ascii() && bytes.len() as u64 <= LIMITS.seal => text,
            _ => return Err(SealError::Incomplete("expected ASCII text of a bounded size")),
        };
        let Some(text) = text.strip_suffix('\n') else {
            return Err(SealError::Incomplete("the last line is cut"));
        };
        let mut lines = text.split('\n').enumerate().map(|(i, line)| (i + 1, line));
        let head = lines.next().map_or("", |(_, line)| line);
        let fields: Vec<_> = head.split(' ').collect();
        const HEAD: &str = "`# sealift/seal/1 <bundle id> <revision> <manifest digest>`";
        let ["#", "sealift/seal/1", bundle, revision, manifest] = fields[..] else { return wrong(1, HEAD) };
        let (Ok(bundle), Ok(revision), Ok(manifest)) =
            (bundle.parse(), parse_revision(revision).ok_or(()), manifest.parse::<Digest>())
        else {
            return wrong(1, HEAD);
        };
        let mut label = None;
        let mut name: Option<String> = None;
        let mut volumes = Vec::new();
        for (n, line) in lines {
            let Some((hex, file)) = line.split_once("  ") else { return wrong(n, "`<sha256>  <file>`") };
            let Some(digest) = from_hex(hex).map(Digest::Sha256) else {
                return wrong(n, "a SHA-256 digest in lower-case hexadecimal");
            };
            if n == 2 {
                if file != LABEL {
                    return wrong(n, "LABEL.txt first");
                }
                label = Some(digest);
                continue;
            }
            let number = u32::try_from(n - 2).unwrap_or(u32::MAX);
            match parse_volume_name(file) {
                Some((bundle_name, found))
                    if found == number
                        && number <= LIMITS.volumes
                        && name.as_deref().is_none_or(|name| name == bundle_name) =>
                {
                    name = Some(bundle_name.into());
                    volumes.push(SealedFile { name: file.into(), digest });
                }
                _ => return wrong(n, "the volumes of one bundle, numbered from 0001, each once"),
            }
        }
        match (label, name) {
            (Some(label), Some(name)) => Ok(Self { bundle, revision, manifest, name, label, volumes }),
            _ => Err(SealError::Incomplete("it names no volume")),
        }
    }
}

fn parse_revision(text: &str) -> Option<u32> {
    text.parse().ok().filter(|n: &u32| *n >= 1 && n.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Seal {
        Seal {
            bundle: BundleId::generate(),
            revision: 1,
            manifest: Digest::Sha256([1; 32]),
            name: "payments-42".into(),
            label: Digest::Sha256([2; 32]),
            volumes: (1..=2)
                .map(|n| SealedFile {
                    name: crate::volume_name("payments-42", n),
                    digest: Digest::Sha256([n as u8; 32]),
                })
                .collect(),
        }
    }

    #[test]
    fn a_seal_reads_back_as_written() {
        let seal = sample();
        assert_eq!(Seal::parse(&seal.to_bytes()).expect("the seal"), seal);
    }

    #[test]
    fn anything_else_is_refused() {
        let good = String::from_utf8(sample().to_bytes()).expect("text");
        for (from, to) in [
            ("seal/1", "seal/2"),
            (" 1 sha256", " 0 sha256"),
            (" 1 sha256", " 01 sha256"),
            ("LABEL.txt", "LABEL.md"),
            ("payments-42.0002", "payments-42.0003"),
            ("payments-42.0002", "payments-41.0002"),
            ("payments-42.0001", "../payments-42.0001"),
            ("payments-42.0001", "\u{1b}[2Jpayments-42.0001"),
            ("payments-42.0001", "payments_42.0001"),
            ("  payments-42.0001", " *payments-42.0001"),
            ("\n", "\r\n"),
            ("0202", "0G02"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            assert!(Seal::parse(bad.as_bytes()).is_err(), "{from} -> {to}");
        }
        assert!(Seal::parse(good.trim_end().as_bytes()).is_err(), "cut");
        assert!(Seal::parse(format!("{good}\n").as_bytes()).is_err(), "an empty line");
        assert!(Seal::parse(good.lines().take(2).fold(String::new(), |t, l| t + l + "\n").as_bytes()).is_err());
        assert!(Seal::parse(b"").is_err());
    }
}

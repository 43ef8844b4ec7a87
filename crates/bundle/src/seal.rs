//! The seal, `SHA256SUMS`: "this is released, and this is all of it" (docs/format.md, section 3).
//!
//! A comment line that `sha256sum -c` skips, then a line a file in the form it reads. The release keys sign these bytes.

use manifest_schema::digest::from_hex;
use manifest_schema::{BundleId, Digest, LIMITS};

use crate::names::{LABEL, TOOL, is_recovery_name, parse_volume_name};

/// A sealed file: its name in the folder and its SHA-256 digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedFile {
    /// File name, without a path.
    pub name: String,
    /// Digest of the file's bytes (of a volume: the ciphertext).
    pub digest: Digest,
}

/// A sealed volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedVolume {
    /// File name, without a path.
    pub name: String,
    /// Digest of the ciphertext.
    pub digest: Digest,
    /// The medium that it is on, from 1.
    pub medium: u32,
    /// Its recovery data, on the same medium.
    pub recovery: Vec<SealedFile>,
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
    /// Of volumes that were made again, those that come with this seal; none if all do.
    pub again: Vec<u32>,
    /// The label's digest. It is on every medium.
    pub label: Digest,
    /// The digest of the importing program, if it is on the first medium.
    pub tool: Option<Digest>,
    /// The bundle is split among media. Otherwise everything is on one.
    pub split: bool,
    /// The volumes in order, number 1 first.
    pub volumes: Vec<SealedVolume>,
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
        if !self.again.is_empty() {
            let numbers: Vec<_> = self.again.iter().map(ToString::to_string).collect();
            text += &format!("# again {}\n", numbers.join(" "));
        }
        text += &format!("{}  {LABEL}\n", self.label.hex());
        if let Some(tool) = &self.tool {
            text += &format!("{}  {TOOL}\n", tool.hex());
        }
        let mut medium = 0;
        for volume in &self.volumes {
            if self.split && volume.medium != medium {
                medium = volume.medium;
                text += &format!("# medium {medium}\n");
            }
            text += &format!("{}  {}\n", volume.digest.hex(), volume.name);
            for file in &volume.recovery {
                text += &format!("{}  {}\n", file.digest.hex(), file.name);
            }
        }
        text.into_bytes()
    }

    /// How many media the bundle is on.
    pub fn media(&self) -> u32 {
        self.volumes.last().map_or(1, |volume| volume.medium)
    }

    /// A volume, numbered from 1.
    pub fn volume(&self, number: u32) -> Option<&SealedVolume> {
        self.volumes.get(usize::try_from(number).ok()?.checked_sub(1)?)
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
        let mut seal = Self {
            bundle,
            revision,
            manifest,
            name: String::new(),
            again: Vec::new(),
            label: manifest,
            tool: None,
            split: false,
            volumes: Vec::new(),
        };
        // The label stands behind this line, if it is there.
        let mut label_line = 2;
        let mut medium = 1;
        // A medium begins with a volume.
        let mut opened = false;
        for (n, line) in lines {
            if let Some(numbers) = line.strip_prefix("# again ").filter(|_| n == 2) {
                seal.again = numbers.split(' ').map(|n| n.parse().unwrap_or(0)).collect();
                label_line = 3;
                let rising = seal.again.is_sorted_by(|a, b| a < b) && seal.again.first() > Some(&0);
                if revision < 2 || !rising || numbers.split(' ').zip(&seal.again).any(|(text, n)| text != n.to_string())
                {
                    return wrong(n, "the numbers of volumes that were made again, rising");
                }
                continue;
            }
            if let Some(number) = line.strip_prefix("# medium ") {
                let next = if seal.volumes.is_empty() { 1 } else { medium + 1 };
                let in_place = n > label_line && !opened && (seal.split || seal.volumes.is_empty());
                if !in_place || number != next.to_string() {
                    return wrong(n, "the media numbered from 1, each in front of its volumes");
                }
                (medium, seal.split, opened) = (next, true, true);
                continue;
            }
            let Some((hex, file)) = line.split_once("  ") else { return wrong(n, "`<sha256>  <file>`") };
            let Some(digest) = from_hex(hex).map(Digest::Sha256) else {
                return wrong(n, "a SHA-256 digest in lower-case hexadecimal");
            };
            if n == label_line {
                if file != LABEL {
                    return wrong(n, "LABEL.txt first");
                }
                seal.label = digest;
                continue;
            }
            if n == label_line + 1 && file == TOOL {
                seal.tool = Some(digest);
                continue;
            }
            if let Some(volume) = seal.volumes.last_mut().filter(|v| !opened && is_recovery_name(file, &v.name)) {
                if volume.recovery.iter().any(|other| other.name == file) {
                    return wrong(n, "recovery data listed once");
                }
                volume.recovery.push(SealedFile { name: file.into(), digest });
                continue;
            }
            let number = u32::try_from(seal.volumes.len() + 1).unwrap_or(u32::MAX);
            match parse_volume_name(file) {
                Some((name, found))
                    if found == number && number <= LIMITS.volumes && (number == 1 || seal.name == name) =>
                {
                    seal.name = name.into();
                    seal.volumes.push(SealedVolume { name: file.into(), digest, medium, recovery: Vec::new() });
                    opened = false;
                }
                _ => return wrong(n, "the volumes of one bundle, numbered from 0001, each once"),
            }
        }
        if seal.again.last().is_some_and(|last| *last as usize > seal.volumes.len()) {
            return wrong(2, "volumes of this bundle");
        }
        if seal.volumes.is_empty() || opened {
            return Err(SealError::Incomplete("it names no volume"));
        }
        Ok(seal)
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
            again: vec![],
            label: Digest::Sha256([2; 32]),
            tool: None,
            split: false,
            volumes: (1..=2)
                .map(|n| SealedVolume {
                    name: crate::volume_name("payments-42", n),
                    digest: Digest::Sha256([n as u8; 32]),
                    medium: 1,
                    recovery: vec![],
                })
                .collect(),
        }
    }

    /// On two media, with recovery data and the importing program.
    fn split() -> Seal {
        let mut seal = sample();
        seal.tool = Some(Digest::Sha256([3; 32]));
        seal.split = true;
        seal.volumes[1].medium = 2;
        for (n, volume) in (1..).zip(&mut seal.volumes) {
            for first in [0, 4] {
                let name = format!("payments-42.{n:04}.vol{first:03}+4.par2");
                volume.recovery.push(SealedFile { name, digest: Digest::Sha256([9; 32]) });
            }
        }
        seal
    }

    #[test]
    fn a_seal_reads_back_as_written() {
        let again = Seal { revision: 2, again: vec![1, 2], ..split() };
        for seal in [sample(), split(), again] {
            assert_eq!(Seal::parse(&seal.to_bytes()).expect("the seal"), seal);
        }
        let mut one = sample();
        one.split = true;
        assert_eq!(Seal::parse(&one.to_bytes()).expect("one medium, marked"), one);
    }

    #[test]
    fn media_and_recovery_data_stand_in_their_places_only() {
        let good = String::from_utf8(split().to_bytes()).expect("text");
        for (from, to) in [
            ("# medium 1\n", ""),
            ("# medium 2", "# medium 3"),
            ("# medium 2", "# medium 02"),
            ("# medium 2\n", "# medium 2\n# medium 3\n"),
            ("# medium 1", "# medium 1 "),
            ("  sealift-import", "  sealift-export"),
            ("0001.vol000+4", "0002.vol000+4"),
            ("0001.vol004+4", "0001.vol000+4"),
            ("0001.vol004+4", "0001.vol+4"),
            ("0001.vol004+4", "0001.vol004-4"),
            ("0001.vol004+4", "0001./../vol004+4"),
            (".par2", ".par3"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            assert!(Seal::parse(bad.as_bytes()).is_err(), "{from} -> {to}");
        }
        for tail in ["# medium 3\n", "# a remark\n"] {
            assert!(Seal::parse(format!("{good}{tail}").as_bytes()).is_err(), "{tail}");
        }
        let lines: Vec<&str> = good.lines().collect();
        for (a, b) in [(1, 2), (2, 3), (3, 4), (4, 5), (6, 7), (7, 8)] {
            let mut swapped = lines.clone();
            swapped.swap(a, b);
            let text: String = swapped.iter().flat_map(|l| [*l, "\n"]).collect();
            assert!(Seal::parse(text.as_bytes()).is_err(), "lines {a} and {b}");
        }
    }

    #[test]
    fn what_was_made_again_is_said_in_one_way() {
        let good = String::from_utf8(Seal { revision: 3, again: vec![1, 2], ..sample() }.to_bytes()).expect("text");
        for to in [
            "",
            "# again 2 1\n",
            "# again 1 1\n",
            "# again 0 1\n",
            "# again 01 2\n",
            "# again 1  2\n",
            "# again \n",
            "# again 1 3\n",
        ] {
            let bad = good.replacen("# again 1 2\n", to, 1);
            assert!(to.is_empty() || Seal::parse(bad.as_bytes()).is_err(), "{to}");
        }
        let first = good.replacen(" 3 sha256", " 1 sha256", 1);
        assert!(Seal::parse(first.as_bytes()).is_err(), "nothing was made before");
        let late = good.replacen("# again 1 2\n", "", 1) + "# again 1 2\n";
        assert!(Seal::parse(late.as_bytes()).is_err());
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

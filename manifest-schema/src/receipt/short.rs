//! The short form of a receipt, for sites where only paper goes back.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, from_hex, to_hex};
use crate::ids::{BundleId, Sequence, Stream};
use crate::text::escape;

/// What a short form of any format begins with.
const ANY: &str = "SEALIFT-R";
/// What one of this format begins with.
const BEGINNING: &str = "SEALIFT-R1";
/// The characters of QR's alphanumeric mode, in the order of their values (ISO/IEC 18004).
const ALPHABET: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:";
/// The largest prime below 36 * 36, the number of pairs of check characters.
const MODULUS: usize = 1291;

/// Which bundle was received, in one line to be printed, read out, typed or scanned:
/// `SEALIFT-R1/<stream>/<sequence>/<bundle id>/<first 16 digits of the manifest's digest>/<check>`.
///
/// It is a hint and proves nothing: nobody signed it, and it does not say which images production holds. A bundle that is
/// built on a wrong one is refused by `receive`, which proves the base anyway.
///
/// The two check characters are those of a pure system in the manner of ISO 7064, with modulus 1291 and radix 45, over all
/// that stands before them. The modulus is a prime above the number of characters, so any single wrong character is found;
/// the powers of 45 repeat after 645 places only, so any two characters that changed places are found.
///
/// ```
/// use manifest_schema::ShortReceipt;
/// let printed = "SEALIFT-R1/PAYMENTS/42/019C 133C 3ED0 7B6E 9D3C 52E5 D1A7 F0C4/7A0E DBC3 7B32 7075/96";
/// let short: ShortReceipt = printed.parse()?;
/// assert_eq!(short.grouped(), printed);
/// assert_eq!(short.to_string(), printed.replace(' ', ""));
/// # Ok::<(), manifest_schema::ShortReceiptError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortReceipt {
    stream: Stream,
    sequence: Sequence,
    bundle: BundleId,
    /// How the manifest's digest begins.
    manifest: [u8; 8],
}

/// The text is not the short form of a receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShortReceiptError {
    /// Something else, or of another format.
    #[error("it does not begin with {BEGINNING}/")]
    Beginning,
    /// A character that is in no short form.
    #[error("`{}` is in no short form", escape(&.0.to_string()))]
    Character(char),
    /// Cut, or something added.
    #[error("it has {0} parts between slashes; a whole one has 6")]
    Parts(usize),
    /// Mistyped.
    #[error("its check characters `{}` do not fit what stands before them: something was mistyped", escape(.0))]
    Check(String),
    /// The check characters fit, and still it is none.
    #[error("`{}` is not {what}", escape(.text))]
    Part {
        /// What should stand there.
        what: &'static str,
        /// What does.
        text: String,
    },
}

impl ShortReceipt {
    /// For a bundle with this manifest.
    pub fn new(stream: Stream, sequence: Sequence, bundle: BundleId, manifest: &Digest) -> Self {
        let mut beginning = [0; 8];
        beginning.iter_mut().zip(manifest.as_bytes()).for_each(|(to, from)| *to = *from);
        Self { stream, sequence, bundle, manifest: beginning }
    }

    /// Whether a text is meant to be one: whether it begins like one of any format.
    pub fn is_meant(text: &str) -> bool {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).take(16).collect();
        let text = text.to_ascii_uppercase();
        let format = text.strip_prefix(ANY).and_then(|rest| rest.split_once('/'));
        format.is_some_and(|(format, _)| !format.is_empty() && format.bytes().all(|b| b.is_ascii_digit()))
    }

    /// The release line.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The place there.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// The bundle.
    pub fn bundle(&self) -> BundleId {
        self.bundle
    }

    /// `<stream>-<sequence>`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.stream, self.sequence)
    }

    /// Whether it is that of a bundle with this manifest.
    pub fn is_of(&self, stream: &Stream, sequence: Sequence, bundle: &BundleId, manifest: &Digest) -> bool {
        *self == Self::new(stream.clone(), sequence, *bundle, manifest)
    }

    /// The same with spaces in the long numbers, for people who type it.
    pub fn grouped(&self) -> String {
        self.written(|hex| {
            let groups: Vec<_> = hex.as_bytes().chunks(4).map(String::from_utf8_lossy).collect();
            groups.join(" ")
        })
    }

    fn written(&self, long: impl Fn(String) -> String) -> String {
        let bundle = self.bundle.to_string().replace('-', "").to_ascii_uppercase();
        let manifest = to_hex(&self.manifest).to_ascii_uppercase();
        let stream = self.stream.as_str().to_ascii_uppercase();
        let text = |bundle, manifest| format!("{BEGINNING}/{stream}/{}/{bundle}/{manifest}/", self.sequence);
        let check = check(&text(bundle.clone(), manifest.clone())).unwrap_or_default();
        text(long(bundle), long(manifest)) + &check
    }
}

impl fmt::Display for ShortReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(|hex| hex))
    }
}

impl FromStr for ShortReceipt {
    type Err = ShortReceiptError;

    /// Reads it in upper or lower case, with or without spaces.
    fn from_str(text: &str) -> Result<Self, ShortReceiptError> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_uppercase();
        let found: Vec<&str> = text.split('/').collect();
        if found[0] != BEGINNING {
            return Err(ShortReceiptError::Beginning);
        }
        let [_, stream, sequence, bundle, manifest, last] = found[..] else {
            return Err(ShortReceiptError::Parts(found.len()));
        };
        if check(&text[..text.len() - last.len()])? != last {
            return Err(ShortReceiptError::Check(last.chars().take(20).collect()));
        }
        let wrong = |what, text: &str| ShortReceiptError::Part { what, text: text.chars().take(80).collect() };
        let number = || sequence.parse().ok().and_then(|n: u64| Sequence::try_from(n).ok());
        let uuid = || {
            let b = from_hex::<16>(&bundle.to_ascii_lowercase())?;
            let hex = |part: &[u8]| to_hex(part);
            let parts = [hex(&b[..4]), hex(&b[4..6]), hex(&b[6..8]), hex(&b[8..10]), hex(&b[10..])];
            parts.join("-").parse().ok()
        };
        let short = Self {
            stream: stream.to_ascii_lowercase().parse().map_err(|_| wrong("a stream", stream))?,
            sequence: number().ok_or_else(|| wrong("a sequence number", sequence))?,
            bundle: uuid().ok_or_else(|| wrong("a bundle's id", bundle))?,
            manifest: from_hex(&manifest.to_ascii_lowercase())
                .ok_or_else(|| wrong("the beginning of a manifest's digest", manifest))?,
        };
        if short.to_string() == text { Ok(short) } else { Err(wrong("a sequence number", sequence)) }
    }
}

/// The check characters behind a text.
fn check(text: &str) -> Result<String, ShortReceiptError> {
    let mut sum = 0;
    for c in text.chars() {
        let value = ALPHABET.iter().position(|known| char::from(*known) == c);
        sum = (sum * ALPHABET.len() + value.ok_or(ShortReceiptError::Character(c))?) % MODULUS;
    }
    Ok([sum / 36, sum % 36].map(|digit| char::from(ALPHABET[digit])).iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(stream: &str, sequence: u64) -> ShortReceipt {
        let manifest = "sha256:7a0edbc37b327075e554b10f05c60cf36778cc77acefa98a2910ca68c94ad8b2";
        ShortReceipt::new(
            stream.parse().expect("a stream"),
            Sequence::try_from(sequence).expect("a number"),
            "019c133c-3ed0-7b6e-9d3c-52e5d1a7f0c4".parse().expect("an id"),
            &manifest.parse().expect("a digest"),
        )
    }

    fn samples() -> [ShortReceipt; 4] {
        [
            sample("payments", 42),
            sample("a", 1),
            sample("0-9--z", 20_260_131_090_000),
            sample(&"x-".repeat(31), (1 << 53) - 1),
        ]
    }

    #[test]
    fn it_is_read_as_it_is_printed_or_typed() {
        for short in samples() {
            let text = short.to_string();
            for typed in [text.clone(), short.grouped(), text.to_ascii_lowercase(), format!(" {}\n", short.grouped())] {
                assert_eq!(typed.parse(), Ok(short.clone()), "{typed}");
                assert!(ShortReceipt::is_meant(&typed), "{typed}");
            }
            assert!(text.bytes().all(|b| ALPHABET.contains(&b) && b != b' '), "{text}");
        }
        for other in ["payments-42", "sealift-release.json", "SEALIFT-R/x", "./SEALIFT-R1/x", "", "SEALIFT-R1"] {
            assert!(!ShortReceipt::is_meant(other), "{other}");
        }
        assert!(ShortReceipt::is_meant("sealift-r2/x"), "of a later format");
    }

    #[test]
    fn one_wrong_character_is_always_found() {
        for short in samples() {
            let text = short.to_string();
            for at in 0..text.len() {
                for c in (b' '..=b'~').map(char::from).filter(|c| *c != ' ') {
                    let mut wrong = text.clone();
                    wrong.replace_range(at..=at, &c.to_string());
                    if wrong.to_ascii_uppercase() != text {
                        assert!(wrong.parse::<ShortReceipt>().is_err(), "{wrong}");
                    }
                }
            }
        }
    }

    #[test]
    fn any_two_characters_that_changed_places_are_found() {
        for short in samples() {
            let text: Vec<char> = short.to_string().chars().collect();
            for at in 0..text.len() {
                for other in at + 1..text.len() {
                    let mut wrong = text.clone();
                    wrong.swap(at, other);
                    let wrong: String = wrong.into_iter().collect();
                    if text[at] != text[other] {
                        assert!(wrong.parse::<ShortReceipt>().is_err(), "{wrong}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        use ShortReceiptError as E;
        let text = sample("payments", 42).to_string();
        let checked = |body: &str| format!("{body}{}", check(body).expect("characters of the alphabet"));
        let id = "019C133C3ED07B6E9D3C52E5D1A7F0C4";
        let cut = &text[..text.len() - 3];
        for (bad, error) in [
            (text.replace("R1", "R2"), E::Beginning),
            ("payments-42".into(), E::Beginning),
            (cut.into(), E::Parts(5)),
            (format!("{text}/"), E::Parts(7)),
            (text.replace("42", "43"), E::Check("96".into())),
            (text.replace("42", "4é"), E::Character('é')),
            (
                checked(&format!("SEALIFT-R1/PAYMENTS/042/{id}/7A0EDBC37B327075/")),
                E::Part { what: "a sequence number", text: "042".into() },
            ),
            (
                checked(&format!("SEALIFT-R1/PAYMENTS/0/{id}/7A0EDBC37B327075/")),
                E::Part { what: "a sequence number", text: "0".into() },
            ),
            (
                checked(&format!("SEALIFT-R1/-/42/{id}/7A0EDBC37B327075/")),
                E::Part { what: "a stream", text: "-".into() },
            ),
            (
                checked(&format!("SEALIFT-R1/PAYMENTS/42/{}/7A0EDBC37B327075/", id.replace("7B6E", "4B6E"))),
                E::Part { what: "a bundle's id", text: id.replace("7B6E", "4B6E") },
            ),
            (
                checked(&format!("SEALIFT-R1/PAYMENTS/42/{id}/7A0EDBC37B3270/")),
                E::Part { what: "the beginning of a manifest's digest", text: "7A0EDBC37B3270".into() },
            ),
        ] {
            assert_eq!(bad.parse::<ShortReceipt>(), Err(error), "{bad}");
        }
    }
}

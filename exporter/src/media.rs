//! Sizes: how large a file may be, what a medium holds, how much recovery data is added.

use std::fmt;
use std::str::FromStr;

use manifest_schema::OutsideText;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;

/// The largest file of FAT32.
const FAT32: u64 = (1 << 32) - 1;
/// What is asked of a volume or medium at least.
const SMALLEST: u64 = 1 << 20;
/// Clusters are up to this large, and a file takes whole ones.
const CLUSTER: u64 = 64 << 10;

/// Media by name, with their capacity in bytes. Of DVDs the smaller of the two kinds (DVD+R, DVD-R DL).
const MEDIA: [(&str, u64); 5] = [
    ("cd", 360_000 * 2048),
    ("dvd", 2_295_104 * 2048),
    ("dvd-dl", 4_171_712 * 2048),
    ("bd", 12_219_392 * 2048),
    ("bd-dl", 24_438_784 * 2048),
];

/// The largest file that a bundle may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeSize {
    /// So many bytes.
    AtMost(u64),
    /// No limit.
    Unlimited,
}

impl Default for VolumeSize {
    fn default() -> Self {
        Self::AtMost(FAT32)
    }
}

impl VolumeSize {
    /// The limit in bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Self::AtMost(bytes) => bytes,
            Self::Unlimited => u64::MAX,
        }
    }
}

impl FromStr for VolumeSize {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "none" => Ok(Self::Unlimited),
            "fat32" => Ok(Self::AtMost(FAT32)),
            _ => size(text).map(Self::AtMost).ok_or_else(|| Error::VolumeSize(OutsideText::new(text))),
        }
    }
}

impl fmt::Display for VolumeSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(FAT32) => f.write_str("fat32"),
            Self::AtMost(bytes) => write!(f, "{bytes}"),
            Self::Unlimited => f.write_str("none"),
        }
    }
}

/// What one medium holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Medium {
    /// In bytes.
    pub capacity: u64,
}

impl Medium {
    /// What is left for files, in bytes: file systems keep some for themselves (the two tables of FAT take up to 1/64 of a
    /// small medium and 1/512 of a large one, ISO 9660 up to half a mebibyte).
    pub fn for_files(self) -> u64 {
        let file_system = (self.capacity / 64).min(16 << 20) + self.capacity / 512;
        self.capacity.saturating_sub(file_system + (512 << 10))
    }
}

/// What a file takes on a medium, in bytes.
pub fn on_medium(file: u64) -> u64 {
    file.div_ceil(CLUSTER).saturating_mul(CLUSTER)
}

impl FromStr for Medium {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let named = MEDIA.iter().find(|(name, _)| *name == text).map(|(_, capacity)| *capacity);
        let capacity = named.or_else(|| size(text)).filter(|bytes| *bytes >= 4 * SMALLEST);
        capacity.map(|capacity| Self { capacity }).ok_or_else(|| Error::Medium(OutsideText::new(text)))
    }
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match MEDIA.iter().find(|(_, capacity)| *capacity == self.capacity) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}", self.capacity),
        }
    }
}

/// How much recovery data a volume gets, in hundredths of its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(pub u8);

impl Share {
    /// As the bundle takes it.
    pub(crate) fn of_volume(self) -> bundle::recovery::Share {
        bundle::recovery::Share::percent(self.0).unwrap_or(bundle::recovery::Share::ALL)
    }
}

impl FromStr for Share {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
        number.filter(|n| (1..=100).contains(n)).map(Self).ok_or_else(|| Error::Recovery(OutsideText::new(text)))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// A size in bytes, with a unit if there is one, of at least [`SMALLEST`].
fn size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit: u64 = match &text[end..] {
        "" | "B" => 1,
        "KB" | "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "TiB" | "T" => 1 << 40,
        _ => return None,
    };
    text[..end].parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes >= SMALLEST && *bytes <= 1 << 50)
}

macro_rules! text_form {
    ($kind:ty, $name:literal, $description:literal) => {
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visit;
                impl serde::de::Visitor<'_> for Visit {
                    type Value = $kind;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($description)
                    }
                    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<$kind, E> {
                        n.to_string().parse().map_err(E::custom)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$kind, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Visit)
            }
        }
        impl JsonSchema for $kind {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": ["string", "integer"], "description": $description })
            }
        }
    };
}

text_form!(VolumeSize, "VolumeSize", "fat32, none, or a size: bytes, or a number with KB, MB, GB, KiB, MiB, GiB");
text_form!(Medium, "Medium", "cd, dvd, dvd-dl, bd, bd-dl, or a size: bytes, or a number with MB, GB, MiB, GiB");
text_form!(Share, "Recovery", "a share in percent, from 1% to 100%");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_as_written_and_nothing_else_is_taken() {
        for (text, bytes) in
            [("fat32", FAT32), ("none", u64::MAX), ("700MB", 700_000_000), ("2GiB", 2 << 30), ("1M", 1 << 20)]
        {
            let size: VolumeSize = text.parse().expect(text);
            assert_eq!(size.bytes(), bytes, "{text}");
            assert_eq!(size.to_string().parse::<VolumeSize>().expect(text), size);
        }
        for text in ["", "0", "1", "-1", "1.5GB", "4 GB", "GB", "9999999TB", "fat16", "1048575"] {
            assert!(text.parse::<VolumeSize>().is_err(), "{text}");
        }
        for text in ["cd", "dvd", "dvd-dl", "bd", "bd-dl", "64000000"] {
            assert_eq!(text.parse::<Medium>().expect(text).to_string(), text);
        }
        assert!("2MiB".parse::<Medium>().is_err(), "there must be room for something");
        for (text, share) in [("10%", 10), ("10", 10), ("100%", 100)] {
            assert_eq!(text.parse::<Share>().expect(text), Share(share));
        }
        for text in ["0%", "101%", "%", "ten", "10.5%"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_system_gets_its_part() {
        // mkfs.fat on 64 MiB: clusters of 512 bytes, two tables of 4 bytes a cluster.
        let small = Medium { capacity: 64 << 20 };
        assert!(small.for_files() + 2 * 4 * ((64 << 20) / 512) + 32 * 512 <= small.capacity);
        let dvd: Medium = "dvd".parse().expect("dvd");
        assert!(dvd.for_files() > dvd.capacity / 100 * 99);
    }
}

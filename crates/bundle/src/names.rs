//! Names of the files in a bundle's folder.

/// The label.
pub const LABEL: &str = "LABEL.txt";
/// The seal.
pub const SEAL: &str = "SHA256SUMS";
/// The seal's signatures.
pub const SEAL_SIGNATURE: &str = "SHA256SUMS.asc";

/// The importing program, if the bundle carries it for a first installation.
pub const TOOL: &str = "sealift-import";
/// The folder of statements of custody, which no seal covers.
pub const HANDOVER: &str = "handover";

/// What the name of each volume ends in.
const VOLUME: &str = ".tar.zst.age";

/// The file name of a volume, numbered from 1: `payments-42.0001.tar.zst.age`.
pub fn volume_name(bundle_name: &str, number: u32) -> String {
    format!("{bundle_name}.{number:04}{VOLUME}")
}

/// The bundle name and number of a volume's file name. The name has the characters of `<stream>-<sequence>` and no others:
/// it may be shown, and it leads nowhere.
pub(crate) fn parse_volume_name(name: &str) -> Option<(&str, u32)> {
    let (bundle_name, number) = name.strip_suffix(VOLUME)?.rsplit_once('.')?;
    let number: u32 = number.parse().ok()?;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if bundle_name.is_empty() || !bundle_name.bytes().all(plain) {
        return None;
    }
    (number >= 1 && volume_name(bundle_name, number) == name).then_some((bundle_name, number))
}

/// Whether this is the name of recovery data of a volume: `payments-42.0001.vol000+100.par2`.
pub(crate) fn is_recovery_name(name: &str, volume: &str) -> bool {
    let Some(rest) = volume.strip_suffix(VOLUME).and_then(|stem| name.strip_prefix(stem)) else { return false };
    let Some(blocks) = rest.strip_prefix(".vol").and_then(|rest| rest.strip_suffix(".par2")) else { return false };
    let digits = |text: &str| (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    blocks.split_once('+').is_some_and(|(first, count)| digits(first) && digits(count))
}

/// The folder of a medium, if a bundle is on several: `medium-2`.
pub fn medium_name(number: u32) -> String {
    format!("medium-{number}")
}

/// The number of a folder that [`medium_name`] names.
pub(crate) fn medium_number(name: &str) -> Option<u32> {
    let number = name.strip_prefix("medium-")?.parse().ok()?;
    (number >= 1 && medium_name(number) == name).then_some(number)
}

/// Whether a file looks like a volume, of whatever bundle.
pub(crate) fn is_volume_like(name: &str) -> bool {
    name.ends_with(VOLUME)
}

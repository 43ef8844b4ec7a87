//! A report that was damaged is refused, or says at least what it said before. It never panics.

use scan::{Format, Report};

use crate::{sample, samples};

#[test]
fn a_report_that_was_cut_off_is_refused() {
    for name in samples().iter().filter(|name| !name.ends_with(".spdx")) {
        let text = sample(name);
        let text = text.trim_end();
        for end in (1..text.len()).step_by(97).chain(text.len().saturating_sub(40)..text.len()) {
            let read = Report::read(&text.as_bytes()[..end]);
            assert!(read.is_err(), "{name} cut after {end} bytes says {read:?}");
        }
    }
}

#[test]
fn a_report_with_another_byte_is_refused_or_read() {
    for name in samples() {
        let text = sample(&name);
        let whole = Report::read(text.as_bytes()).unwrap();
        for at in (0..text.len()).step_by(7) {
            for byte in [text.as_bytes()[at] ^ 1, b'"', b'}', b']', b'>', b' ', 0] {
                let mut bytes = text.clone().into_bytes();
                bytes[at] = byte;
                says_nothing_or_something(&bytes);
                // A member of another name is one that is not known, and passed over; an advisory of two CVEs is of one and
                // something else if one of them is not named so.
                let is_in_cve =
                    text.match_indices("CVE-").any(|(start, name)| (start..start + name.len()).contains(&at));
                if !is_in_name(&text, at)
                    && !is_in_cve
                    && let Ok(report) = Report::read(&bytes)
                {
                    let says_less = count(&report) < count(&whole);
                    let is_of_less = !report.kinds.is_superset(&whole.kinds);
                    assert!(!says_less || is_of_less, "{name} with {byte} at {at} says {report:?}");
                }
            }
        }
    }
}

fn count(report: &Report) -> usize {
    report.findings.len() + report.failed.len() + report.statements.len()
}

/// Whether a byte is of the name of a member, in the samples of JSON that are here.
fn is_in_name(text: &str, at: usize) -> bool {
    let start = text[..at].rfind(['"', '\n']).filter(|at| text.as_bytes()[*at] == b'"');
    let end = text[at..].find('"').map(|end| &text[at + end + 1..]);
    start.is_some() && end.is_some_and(|rest| rest.starts_with(':')) || text[at..].starts_with("\":")
}

#[test]
fn random_damage_does_not_panic() {
    let mut random = Random(0x5ea1_1f70_2026_0203);
    let samples: Vec<Vec<u8>> = samples().iter().map(|name| sample(name).into_bytes()).collect();
    for round in 0..4000 {
        let mut bytes = samples[round % samples.len()].clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            let length = random.below(40).min(bytes.len() - at);
            match random.below(5) {
                0 => bytes[at] = random.below(256) as u8,
                1 => drop(bytes.drain(at..at + length)),
                2 => {
                    let part = bytes[at..at + length].to_vec();
                    let to = random.below(bytes.len());
                    bytes.splice(to..to, part);
                }
                3 => bytes.truncate(at.max(1)),
                _ => {
                    let other = &samples[random.below(samples.len())];
                    let from = random.below(other.len());
                    let part = other[from..(from + length).min(other.len())].to_vec();
                    bytes.splice(at..at, part);
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        says_nothing_or_something(&bytes);
    }
}

/// What is not recognised any more must not say anything.
fn says_nothing_or_something(bytes: &[u8]) {
    if let Ok(report) = Report::read(bytes)
        && report.format == Format::Other
    {
        assert!(report.kinds.is_empty() && report.findings.is_empty() && report.failed.is_empty());
    }
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

//! Which programs write what into SARIF.

use super::log::{Found, Rule};

/// How a program uses SARIF.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scanner {
    /// Vulnerabilities, misconfigurations, secrets and licences, of images and of other things.
    Trivy,
    /// Vulnerabilities of images alone.
    Images,
    Other,
}

impl Scanner {
    pub(super) fn by_name(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "trivy" => Self::Trivy,
            "grype" | "anchore container vulnerability report (t0)" | "docker scout" | "snyk container" => Self::Images,
            _ => Self::Other,
        }
    }

    pub(super) fn is_vulnerability(self, id: &str, rule: Option<&Rule>) -> bool {
        let has_tag = rule.and_then(|rule| rule.properties.as_ref()?.0.tags.as_ref());
        let has_tag = has_tag.is_some_and(|tags| tags.0.iter().any(|tag| tag == "vulnerability"));
        self == Self::Images || has_tag || vulnerability_in(id).is_some()
    }
}

/// The id of CVE or GitHub in that of a rule, which often has more.
pub(super) fn vulnerability_in(rule: &str) -> Option<&str> {
    if let Some(at) = rule.find("CVE-") {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let year = digits(&rule[at + 4..]);
        let number = rule.get(at + 4 + year..)?.strip_prefix('-').map_or(0, digits);
        return (year == 4 && number >= 4).then(|| &rule[at..at + 4 + year + 1 + number]);
    }
    let at = rule.find("GHSA-")?;
    rule.get(at..at + "GHSA-xxxx-xxxx-xxxx".len())
}

/// What scanners of images tell in lines `Name: value`: Trivy in the message of a result, Grype in the help of its rule.
#[derive(Default)]
pub(super) struct Told<'a>([&'a str; 2]);

impl<'a> Told<'a> {
    pub(super) fn of(result: &'a Found, rule: Option<&'a Rule>) -> Self {
        let help = rule.and_then(|rule| rule.help.as_ref()?.0.text.as_deref());
        Self([result.message.0.text.as_deref().unwrap_or_default(), help.unwrap_or_default()])
    }

    /// The first value of one of these names.
    pub(super) fn value(&self, names: &[&str]) -> Option<&'a str> {
        let is_one = |key: &str| names.iter().any(|name| key.trim().eq_ignore_ascii_case(name));
        let lines = self.0.iter().flat_map(|text| text.lines()).filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(key, _)| is_one(key)).map(|(_, value)| value.trim());
        values.next().filter(|value| !value.is_empty())
    }
}

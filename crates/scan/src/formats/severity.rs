//! The words and numbers for how bad something is.

use crate::report::Severity;

impl Severity {
    /// The word of a program. All that are read use a selection of these, in any case.
    pub(crate) fn from_word(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "critical" | "defcon1" => Self::Critical,
            "high" | "important" => Self::High,
            "medium" | "moderate" => Self::Medium,
            "low" => Self::Low,
            "negligible" | "none" | "info" | "informational" => Self::Negligible,
            _ => Self::Unknown,
        }
    }

    /// The rating of a base score (CVSS 3.1, section 5), which is used for version 2 and 4 as well.
    pub(crate) fn from_score(score: f64) -> Self {
        match score {
            s if s >= 9.0 => Self::Critical,
            s if s >= 7.0 => Self::High,
            s if s >= 4.0 => Self::Medium,
            s if s > 0.0 => Self::Low,
            0.0 => Self::Negligible,
            _ => Self::Unknown,
        }
    }

    /// The word of a program, or where that says nothing the worst of the scores.
    pub(crate) fn from_word_or_scores(word: &str, scores: impl IntoIterator<Item = f64>) -> Self {
        match Self::from_word(word) {
            Self::Unknown => scores.into_iter().map(Self::from_score).max().unwrap_or(Self::Unknown),
            known => known,
        }
    }
}

//! When a request is made again, and how long to wait before.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// The longest wait a server can ask for.
const LONGEST: Duration = Duration::from_secs(60);

/// Statuses that say "not now". 499 and 522 come from proxies in front of registries.
pub(crate) fn is_transient_status(status: u16) -> bool {
    matches!(status, 408 | 429 | 499 | 500 | 502 | 503 | 504 | 522)
}

/// The waits between the attempts of one request.
pub(crate) struct Backoff {
    attempts_left: u32,
    waits: u32,
}

impl Backoff {
    /// `attempts` counts the first one too.
    pub(crate) fn new(attempts: u32) -> Self {
        Self { attempts_left: attempts.saturating_sub(1), waits: 0 }
    }

    /// Waits before the next attempt; `false` if there is none.
    pub(crate) fn wait(&mut self, retry_after: Option<Duration>) -> bool {
        if self.attempts_left == 0 {
            return false;
        }
        self.attempts_left -= 1;
        let wait = retry_after.map_or_else(|| step(self.waits), |wait| wait.min(LONGEST));
        self.waits += 1;
        std::thread::sleep(wait);
        true
    }
}

/// A quarter of a second once, for a connection that merely broke; then 2 s, doubled each time.
fn step(waits: u32) -> Duration {
    match waits {
        0 => Duration::from_millis(250),
        n => Duration::from_secs(1).saturating_mul(1 << n.min(10)).min(LONGEST),
    }
}

/// The wait that a `Retry-After` header asks for: seconds or an HTTP date (RFC 9110, 10.2.3).
pub(crate) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(value.parse().map_or(LONGEST, Duration::from_secs));
    }
    let date = DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-11-23T04:00:00Z".parse().expect("a time");
        for (value, wait) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("99999999999999999999999", Some(60)),
            ("Mon, 23 Nov 2026 04:00:30 GMT", Some(30)),
            ("Mon, 23 Nov 2026 03:00:00 GMT", Some(0)),
            ("-3", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now), wait.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn attempts_end() {
        let mut backoff = Backoff::new(3);
        assert!(backoff.wait(Some(Duration::ZERO)));
        assert!(backoff.wait(Some(Duration::ZERO)));
        assert!(!backoff.wait(Some(Duration::ZERO)));
        assert!(!Backoff::new(0).wait(None));
        assert_eq!([step(0), step(1), step(2), step(3)].map(|s| s.as_millis()), [250, 2000, 4000, 8000]);
        assert_eq!(step(u32::MAX), LONGEST);
    }
}

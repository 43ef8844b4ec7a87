//! Between OpenPGP's times and ours.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use manifest_schema::Timestamp;

/// A time from an OpenPGP packet; OpenPGP's 32 bits always fit.
pub(crate) fn from_system(time: SystemTime) -> Option<Timestamp> {
    let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    Timestamp::from_unix(i64::try_from(seconds).ok()?)
}

/// A time for sequoia; times before 1970 become 1970.
pub(crate) fn to_system(time: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.unix()).unwrap_or(0))
}

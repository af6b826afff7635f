//! Calendar of quotas, for tests at any time of the year.

use std::{
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

/// Returns the `utc_offset` with which it was noon when a test of this process first asked: a quota of a day or more
/// with this offset does not start anew during a test.
pub fn offset_at_noon() -> &'static str {
    static OFFSET: OnceLock<String> = OnceLock::new();
    OFFSET.get_or_init(|| {
        let hours = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs() / 3_600;
        let ahead = 12 - i64::try_from(hours % 24).expect("an hour of a day");
        format!("{ahead:+03}:00")
    })
}

//! Throttle for warnings: at most one per cause and interval, however many requests fail.

use alloc::string::String;

use crate::redis::Failure;
use crate::units::Micros;

/// Minimum time between two warnings of one cause.
const INTERVAL: Micros = Micros::from_secs(10);

/// Time of the last warning and number of suppressed warnings, by cause.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    last: [Option<Micros>; Failure::ALL.len()],
    suppressed: [u64; Failure::ALL.len()],
}

impl Warnings {
    /// Returns the line to log, or `None` if this cause was logged within the last 10 s.
    pub(super) fn line(&mut self, now: Micros, cause: Failure, detail: &str) -> Option<String> {
        let index = Failure::ALL.iter().position(|&known| known == cause)?;
        let (last, suppressed) = (self.last.get_mut(index)?, self.suppressed.get_mut(index)?);
        if last.is_some_and(|last| now.minus(last) < INTERVAL) {
            *suppressed = suppressed.saturating_add(1);
            return None;
        }
        *last = Some(now);
        let since = match core::mem::take(suppressed) {
            0 => String::new(),
            n => format!(" ({n} more since the last warning of this cause)"),
        };
        Some(format!("redis {}: {detail}{since}", cause.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_logged_once_in_ten_seconds_and_the_rest_are_counted() {
        let mut warnings = Warnings::default();
        assert_eq!(warnings.line(Micros(5), Failure::Reset, "gone").as_deref(), Some("redis reset: gone"));
        for second in 1..10 {
            assert_eq!(warnings.line(Micros::from_secs(second), Failure::Reset, "gone"), None);
        }
        let later = warnings.line(Micros::from_secs(11), Failure::Reset, "gone");
        assert_eq!(later.as_deref(), Some("redis reset: gone (9 more since the last warning of this cause)"));
    }

    #[test]
    fn causes_do_not_silence_each_other() {
        let mut warnings = Warnings::default();
        assert!(warnings.line(Micros(0), Failure::Reset, "gone").is_some());
        assert!(warnings.line(Micros(0), Failure::Auth, "WRONGPASS").is_some());
    }
}

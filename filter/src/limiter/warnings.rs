//! One warning per cause and interval, however many requests it hits.

use alloc::string::String;

use crate::redis::Failure;
use crate::units::Micros;

/// The least time between two warnings of one cause.
const INTERVAL: Micros = Micros::from_secs(10);

/// When each cause was last warned about.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    last: [Option<Micros>; Failure::ALL.len()],
    withheld: [u64; Failure::ALL.len()],
}

impl Warnings {
    /// The line to log, unless this cause was logged within the last ten seconds.
    pub(super) fn say(&mut self, now: Micros, cause: Failure, detail: &str) -> Option<String> {
        let index = Failure::ALL.iter().position(|&known| known == cause)?;
        let (last, withheld) = (self.last.get_mut(index)?, self.withheld.get_mut(index)?);
        if last.is_some_and(|last| now.minus(last) < INTERVAL) {
            *withheld = withheld.saturating_add(1);
            return None;
        }
        *last = Some(now);
        let since = match core::mem::take(withheld) {
            0 => String::new(),
            n => format!(" ({n} more like it since the last such line)"),
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
        assert_eq!(warnings.say(Micros(5), Failure::Reset, "gone").as_deref(), Some("redis reset: gone"));
        for second in 1..10 {
            assert_eq!(warnings.say(Micros::from_secs(second), Failure::Reset, "gone"), None);
        }
        let later = warnings.say(Micros::from_secs(11), Failure::Reset, "gone");
        assert_eq!(later.as_deref(), Some("redis reset: gone (9 more like it since the last such line)"));
    }

    #[test]
    fn causes_do_not_silence_each_other() {
        let mut warnings = Warnings::default();
        assert!(warnings.say(Micros(0), Failure::Reset, "gone").is_some());
        assert!(warnings.say(Micros(0), Failure::Auth, "WRONGPASS").is_some());
    }
}

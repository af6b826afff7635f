//! When a user's requests are due.

use std::time::Duration;

/// How often a user sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// The next as soon as the last was answered.
    Closed,
    /// Evenly spaced; > 0.
    PerSecond(f64),
    /// This many at once, then again after `every`; `size` ≥ 1.
    Bursts {
        /// Requests in a burst.
        size: u64,
        /// From one burst's start to the next one's.
        every: Duration,
    },
}

impl Pace {
    /// When the `nth` request (from 0) is due, after the start.
    pub(super) fn due(self, nth: u64) -> Duration {
        match self {
            Self::Closed => Duration::ZERO,
            Self::PerSecond(rate) => Duration::try_from_secs_f64(nth as f64 / rate).unwrap_or(Duration::MAX),
            Self::Bursts { size, every } => {
                let bursts = u32::try_from(nth / size.max(1)).unwrap_or(u32::MAX);
                every.checked_mul(bursts).unwrap_or(Duration::MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_when_the_pace_says() {
        let millis = |pace: Pace| (0..5).map(|nth| pace.due(nth).as_millis()).collect::<Vec<_>>();
        assert_eq!(millis(Pace::Closed), [0, 0, 0, 0, 0]);
        assert_eq!(millis(Pace::PerSecond(4.0)), [0, 250, 500, 750, 1000]);
        assert_eq!(millis(Pace::Bursts { size: 2, every: Duration::from_secs(3) }), [0, 0, 3000, 3000, 6000]);
        assert_eq!(Pace::PerSecond(0.0).due(1), Duration::MAX);
    }
}

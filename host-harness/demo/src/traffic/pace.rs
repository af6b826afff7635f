//! Schedule of a user's requests.

use std::time::Duration;

/// Rate at which a user sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Closed loop: each request follows the response to the one before.
    Closed,
    /// Evenly spaced requests; requests per second, > 0.
    PerSecond(f64),
    /// `size` requests at once, every `every`; `size` ≥ 1.
    Bursts {
        /// Number of requests in a burst.
        size: u64,
        /// Time from the start of a burst to the start of the next.
        every: Duration,
    },
}

impl Pace {
    /// Time from the start of the run until the `nth` request (from 0) is due.
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

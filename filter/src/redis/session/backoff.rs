//! Backoff between connection attempts, with jitter, so that a fleet of proxies does not reconnect at the same time.

use crate::redis::Failure;
use crate::units::{Micros, Random};

const SHORTEST: Micros = Micros::from_millis(50);
const LONGEST: Micros = Micros::from_secs(5);

/// Exponential backoff: steps double from 50 ms to 5 s, and each wait is uniform in the upper half of `0..=step`.
#[derive(Debug)]
pub(super) struct Backoff {
    step: Micros,
    longest: Micros,
    jitter: Random,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self { step: SHORTEST, longest: LONGEST, jitter: Random::new(seed) }
    }

    /// Sets the longest step, 5 s otherwise.
    pub(super) fn set_longest(&mut self, longest: Micros) {
        self.longest = longest;
    }

    /// Returns the wait after one more failure. `Auth` starts with the longest step: wrong credentials stay wrong until
    /// an operator changes them.
    pub(super) fn after(&mut self, cause: Failure) -> Micros {
        if cause == Failure::Auth {
            self.step = LONGEST;
        }
        let wait = self.jittered(self.step, 2);
        self.step = self.step.times(2).min(self.longest);
        wait
    }

    /// Resets the step to 50 ms, after a connection has served a call.
    pub(super) fn reset(&mut self) {
        self.step = SHORTEST;
    }

    /// Returns `span` less a random part, of at most `span` divided by `part`.
    pub(super) fn jittered(&mut self, span: Micros, part: u64) -> Micros {
        let slack = span.0.checked_div(part).unwrap_or_default();
        span.minus(Micros(self.jitter.below(slack.saturating_add(1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_50_ms_to_5_s_and_stay_there() {
        let mut backoff = Backoff::new(1);
        for longest in [50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000] {
            let wait = backoff.after(Failure::Reset);
            assert!(wait <= Micros::from_millis(longest) && wait >= Micros::from_millis(longest / 2), "{wait:?}");
        }
        backoff.reset();
        assert!(backoff.after(Failure::Reset) <= Micros::from_millis(50));
    }

    #[test]
    fn refused_credentials_are_not_tried_again_for_seconds() {
        assert!(Backoff::new(1).after(Failure::Auth) >= Micros::from_millis(2_500));
    }

    #[test]
    fn workers_with_different_seeds_wait_differently() {
        let waits: std::collections::HashSet<_> =
            (0..100).map(|seed| Backoff::new(seed).after(Failure::Reset)).collect();
        assert!(waits.len() > 90, "{} different waits of 100", waits.len());
    }
}

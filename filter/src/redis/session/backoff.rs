//! When to try again, and by how much to stray from it, so that a fleet of proxies does not come back as one.

use crate::{redis::Failure, units::Micros};

const SHORTEST: Micros = Micros::from_millis(50);
const LONGEST: Micros = Micros::from_secs(5);

/// Exponential backoff, 50 ms doubling to 5 s, each wait taken evenly from the upper half of `0..=step`.
#[derive(Debug)]
pub(super) struct Backoff {
    step: Micros,
    jitter: Jitter,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self { step: SHORTEST, jitter: Jitter::new(seed) }
    }

    /// The wait after one more failure. Credentials do not mend themselves in a moment: `Auth` waits longest at
    /// once.
    pub(super) fn after(&mut self, cause: Failure) -> Micros {
        if cause == Failure::Auth {
            self.step = LONGEST;
        }
        let wait = self.stray(self.step, 2);
        self.step = self.step.times(2).min(LONGEST);
        wait
    }

    /// A connection was of use: the next failure is a first one.
    pub(super) fn reset(&mut self) {
        self.step = SHORTEST;
    }

    /// `span` less up to one `part`th of it.
    pub(super) fn stray(&mut self, span: Micros, part: u64) -> Micros {
        let slack = span.0.checked_div(part).unwrap_or_default();
        span.minus(Micros(self.jitter.below(slack.saturating_add(1))))
    }
}

/// Marsaglia's xorshift64: deterministic from its seed, and good enough to spread timers.
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    fn new(seed: u64) -> Self {
        // Zero is the one state that it never leaves; neighbouring seeds must not begin alike.
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9).max(1))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.checked_rem(bound).unwrap_or_default()
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
    fn two_workers_do_not_come_back_together() {
        let waits: std::collections::HashSet<_> =
            (0..100).map(|seed| Backoff::new(seed).after(Failure::Reset)).collect();
        assert!(waits.len() > 90, "{} different waits of 100", waits.len());
    }
}

//! Fixed windows: a number of tokens in each of the windows that follow each other since 1970-01-01T00:00Z.
//!
//! The algorithm is cheap and easy to explain, but admits up to twice the limit around the turn of a window. Redis
//! keeps the window's start and the tokens spent in it. This is the specification; Redis runs `fixed_window.lua` beside
//! it.

use core::num::NonZeroU64;

use super::arguments::Arguments;
use super::bounds::{AlgorithmError, MAX_LIMIT, limit_within, window_within};
use super::decision::{BucketDecision, Level};
use crate::limit::charge::MAX_AMOUNT;
use crate::units::{Micros, Tokens};

/// Limit of a number of tokens in each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedWindow {
    limit: u64,
    window: NonZeroU64,
}

impl FixedWindow {
    /// Returns a limit of `limit` tokens in each `window`; 0 blocks every request.
    ///
    /// # Errors
    /// Where `limit` is over 2³², or `window` is zero or over 71 years.
    pub fn new(limit: impl Into<u64>, window: Micros) -> Result<Self, AlgorithmError> {
        Ok(Self { limit: limit_within(limit.into(), MAX_LIMIT)?, window: window_within(window)? })
    }

    /// Returns a limit of `limit` tokens or nano-USD in each `window`, for a [budget](super::Budget).
    ///
    /// # Errors
    /// Where `limit` is 2⁵³ or more, or `window` is zero or over 71 years.
    pub fn of_amounts(limit: u64, window: Micros) -> Result<Self, AlgorithmError> {
        Ok(Self { limit: limit_within(limit, MAX_AMOUNT)?, window: window_within(window)? })
    }

    /// Tokens in each window.
    #[must_use]
    pub fn limit(&self) -> Tokens {
        Tokens(self.limit)
    }

    /// The windows' length.
    #[must_use]
    pub fn window(&self) -> Micros {
        Micros(self.window.get())
    }

    pub(in crate::limit) fn span(&self, now: Micros) -> Span {
        let start = now.minus(Micros(now.0 % self.window));
        Span { start, end: start.plus(self.window()) }
    }

    pub(super) fn arguments(&self, cost: Tokens) -> Arguments {
        Arguments::of_count("f", cost, self.limit(), [self.window(), Micros::ZERO])
    }
}

/// Window from `start` until just before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::limit) struct Span {
    pub(in crate::limit) start: Micros,
    pub(in crate::limit) end: Micros,
}

/// State of a bucket in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::limit) struct WindowCount {
    start: Micros,
    used: u64,
}

#[cfg(not(target_arch = "wasm32"))]
impl WindowCount {
    /// Gives back what a request spent at `at`, if its window is not over.
    pub(in crate::limit) fn give_back(&mut self, at: Micros, cost: u64) -> bool {
        let is_given = self.start <= at;
        if is_given {
            self.used = self.used.saturating_sub(cost);
        }
        is_given
    }
}

impl Span {
    /// Reads the state before the decision, as Redis does. Returns the tokens used in the window.
    pub(in crate::limit) fn look(self, state: &mut Option<WindowCount>) -> u64 {
        match state {
            Some(count) if count.start >= self.start => {
                // The clock was set back: tokens spent in a later window count in this window.
                count.start = self.start;
                count.used
            }
            _ => 0,
        }
    }

    /// Spends `cost`, as Redis does after [`look`](Self::look).
    pub(in crate::limit) fn spend(self, state: &mut Option<WindowCount>, cost: Tokens) {
        let used = self.look(state).saturating_add(cost.0);
        *state = Some(WindowCount { start: self.start, used });
    }

    pub(super) fn decide(self, now: Micros, limit: Tokens, used: u64, cost: Tokens) -> BucketDecision {
        let until_end = self.end.minus(now);
        // A bucket that a larger limit left overdrawn counts as used up.
        let used = used.min(limit.0);
        let used_after = used.saturating_add(cost.0);
        let level = |used: u64| Level {
            remaining: Tokens(limit.0.saturating_sub(used)),
            reset: if used > 0 { until_end } else { Micros::ZERO },
        };
        let admits = used_after <= limit.0;
        BucketDecision {
            capacity: limit,
            period: Some(self.end.minus(self.start)),
            admits,
            retry_after: (cost <= limit).then_some(if admits { Micros::ZERO } else { until_end }),
            delay: Micros::ZERO,
            before: level(used),
            after: level(used_after),
            granted: None,
            held: Tokens(0),
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fixed(limit: u64, window: u64) -> FixedWindow {
        FixedWindow::new(limit, Micros(window)).unwrap()
    }

    #[test]
    fn a_window_ends_when_the_next_begins() {
        let hourly = fixed(10, 3_600_000_000);
        let span = hourly.span(Micros(7_199_999_999));
        assert_eq!(span, Span { start: Micros(3_600_000_000), end: Micros(7_200_000_000) });
        assert_eq!(hourly.span(Micros(7_200_000_000)).start, span.end);
    }

    #[test]
    fn retry_after_is_the_next_window_and_none_for_a_cost_above_the_limit() {
        let span = fixed(10, 100).span(Micros(1_030));
        let denied = span.decide(Micros(1_030), Tokens(10), 8, Tokens(3));
        assert_eq!((denied.admits, denied.retry_after, denied.before.remaining), (false, Some(Micros(70)), Tokens(2)));
        assert_eq!(span.decide(Micros(1_030), Tokens(10), 0, Tokens(11)).retry_after, None);
        assert!(!span.decide(Micros(1_030), Tokens(10), 10, Tokens(u64::MAX)).admits);
    }

    #[test]
    fn a_window_is_full_again_at_its_end_and_at_once_if_nothing_is_used() {
        let span = fixed(10, 100).span(Micros(1_030));
        let reset = |used| span.decide(Micros(1_030), Tokens(10), used, Tokens(1)).before.reset;
        assert_eq!([0, 1].map(reset), [Micros::ZERO, Micros(70)]);
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_its_limit(
            limit in 1_u64..20,
            window in 1_u64..5_000,
            history in proptest::collection::vec((0_u64..1_500, 0_u64..8), 1..200),
        ) {
            let fixed = fixed(limit, window);
            let (mut now, mut state) = (Micros(1 << 40), None);
            let mut spent = std::collections::HashMap::<Micros, u64>::new();
            for (pause, cost) in history {
                now = now.plus(Micros(pause));
                let span = fixed.span(now);
                let used = span.look(&mut state);
                if span.decide(now, fixed.limit(), used, Tokens(cost)).admits {
                    span.spend(&mut state, Tokens(cost));
                    *spent.entry(span.start).or_default() += cost;
                } else {
                    prop_assert!(spent.get(&span.start).copied().unwrap_or(0) + cost > limit, "denied without need");
                }
            }
            prop_assert!(spent.values().all(|&spent| spent <= limit));
        }
    }

    #[test]
    fn what_is_given_back_counts_in_its_own_window_only() {
        let spent = WindowCount { start: Micros(100), used: 5 };
        for (at, used) in [(101, 3), (100, 3), (99, 5)] {
            let mut count = spent;
            assert_eq!(count.give_back(Micros(at), 2), used == 3, "spent at {at}");
            assert_eq!(count, WindowCount { used, ..spent }, "spent at {at}");
        }
    }
}

//! Sliding log, the exact sliding window: a log of all spends limits the tokens in *any* window, wherever it begins.
//!
//! Redis keeps a list, the oldest entry first, of a time, the sum of all costs so far, and the entry's own cost: the
//! sum over a window is a difference of two entries. Bisection finds the entries that have left the window, and the
//! next request that spends removes them. A list takes about 30 bytes for each request; a sorted set, the usual choice,
//! takes three times as much, and needs a member for each token of a cost. Even so a sliding log is for small limits.
//!
//! This is the specification; Redis runs `sliding_log.lua` beside it.

use alloc::collections::VecDeque;
use core::num::NonZeroU64;

use super::arguments::Arguments;
use super::bounds::{AlgorithmError, MAX_LOGGED, limit_within, window_within};
use super::decision::{BucketDecision, BucketState, Level};
use crate::units::{Micros, Tokens};

/// Limit of a number of tokens in any window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlidingLog {
    limit: u64,
    window: NonZeroU64,
}

/// State of a bucket in Redis: times and costs, the oldest first.
pub(in crate::limit) type Log = VecDeque<(Micros, u64)>;

impl SlidingLog {
    /// Returns a limit of `limit` tokens in any `window`; 0 blocks every request.
    ///
    /// # Errors
    /// Where `limit` is over 10,000, or `window` is zero or over 71 years.
    pub fn new(limit: impl Into<u64>, window: Micros) -> Result<Self, AlgorithmError> {
        Ok(Self { limit: limit_within(limit.into(), MAX_LOGGED)?, window: window_within(window)? })
    }

    /// Tokens in any window.
    #[must_use]
    pub fn limit(&self) -> Tokens {
        Tokens(self.limit)
    }

    /// The window's length.
    #[must_use]
    pub fn window(&self) -> Micros {
        Micros(self.window.get())
    }

    /// Reads the state before the decision, as Redis does. Returns the tokens used, with the µs until `cost` is
    /// admitted, 0 where it is admitted now, and the µs until no token is used.
    pub(in crate::limit) fn look(&self, log: &mut Log, now: Micros, cost: Tokens) -> BucketState {
        // The clock was set back: costs of a later time count as spent now.
        let later = log.iter().filter(|(time, _)| *time > now).map(|(_, cost)| cost).sum();
        log.retain(|(time, _)| *time <= now);
        if later > 0 {
            log.push_back((now, later));
        }
        let alive = || log.iter().filter(|&&(time, _)| self.leaves(time) > now);
        let used: u64 = alive().map(|(_, cost)| cost).sum();
        let reset = alive().next_back().map_or(Micros::ZERO, |&(time, _)| self.leaves(time).minus(now));
        let mut excess = used.saturating_add(cost.0).saturating_sub(self.limit);
        let mut wait = Micros::ZERO;
        if cost <= self.limit() {
            for &(time, cost) in alive() {
                if excess == 0 {
                    break;
                }
                excess = excess.saturating_sub(cost);
                wait = self.leaves(time).minus(now);
            }
        }
        BucketState { used, more: [wait.0, reset.0] }
    }

    /// Whether one of the newest `most` entries has that time, or all of them are later.
    #[cfg(not(target_arch = "wasm32"))]
    pub(in crate::limit) fn has_entry(log: &Log, when: Micros, most: usize) -> bool {
        let not_later = log.iter().rev().take(most).find(|(time, _)| *time <= when);
        not_later.map_or(log.len() >= most, |(time, _)| *time == when)
    }

    /// Spends `cost`, as Redis does after [`look`](Self::look).
    pub(in crate::limit) fn spend(&self, log: &mut Log, now: Micros, cost: Tokens) {
        log.retain(|&(time, _)| self.leaves(time) > now);
        log.push_back((now, cost.0));
    }

    pub(super) fn arguments(&self, cost: Tokens) -> Arguments {
        Arguments::of_count("l", cost, self.limit(), [self.window(), Micros::ZERO])
    }

    pub(super) fn decide(
        &self,
        BucketState { used, more: [wait, reset] }: BucketState,
        cost: Tokens,
    ) -> BucketDecision {
        // A bucket that a larger limit left overdrawn counts as used up.
        let used = used.min(self.limit);
        let used_after = used.saturating_add(cost.0);
        let admits = used_after <= self.limit;
        let level = |used: u64, reset| Level { remaining: Tokens(self.limit.saturating_sub(used)), reset };
        let before = level(used, Micros(reset));
        BucketDecision {
            capacity: self.limit(),
            period: Some(self.window()),
            admits,
            retry_after: (cost <= self.limit()).then_some(if admits { Micros::ZERO } else { Micros(wait) }),
            delay: Micros::ZERO,
            before,
            after: if cost.0 > 0 { level(used_after, self.window()) } else { before },
            granted: None,
            held: Tokens(0),
        }
    }

    /// Time at which an entry of `time` leaves the window.
    fn leaves(&self, time: Micros) -> Micros {
        time.plus(self.window())
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_window_holds_at_most_the_limit_and_nothing_is_denied_without_need(
            limit in 1_u64..20,
            window in 1_u64..5_000,
            history in proptest::collection::vec((0_u64..1_500, 1_u64..8), 1..200),
        ) {
            let sliding = SlidingLog::new(limit, Micros(window)).unwrap();
            let (mut now, mut log) = (Micros(1 << 40), Log::new());
            let mut spent: Vec<(u64, u64)> = Vec::new();
            for (pause, cost) in history {
                now = now.plus(Micros(pause));
                let state = sliding.look(&mut log, now, Tokens(cost));
                let decision = sliding.decide(state, Tokens(cost));
                if decision.admits {
                    sliding.spend(&mut log, now, Tokens(cost));
                    spent.push((now.0, cost));
                }
                let in_window: u64 = spent.iter().filter(|(time, _)| time + window > now.0).map(|(_, cost)| cost).sum();
                prop_assert!(in_window <= limit);
                prop_assert!(decision.admits || in_window + cost > limit);
                match decision.retry_after {
                    None => prop_assert!(cost > limit),
                    Some(wait) => {
                        let admits = |at: Micros| {
                            let state = sliding.look(&mut log.clone(), at, Tokens(cost));
                            sliding.decide(state, Tokens(cost)).admits
                        };
                        prop_assert!(decision.admits || (admits(now.plus(wait)) && !admits(now.plus(wait).minus(Micros(1)))));
                    }
                }
            }
        }
    }

    #[test]
    fn a_spend_removes_entries_as_soon_as_they_have_left_the_window() {
        let sliding = SlidingLog::new(9_u64, Micros(10)).unwrap();
        let mut log = Log::new();
        [100, 101, 110].iter().for_each(|time| sliding.spend(&mut log, Micros(*time), Tokens(1)));
        assert_eq!(log, [(Micros(101), 1), (Micros(110), 1)]);
    }

    #[test]
    fn a_cost_is_back_after_a_window_and_no_cost_changes_nothing() {
        let sliding = SlidingLog::new(9_u64, Micros(10)).unwrap();
        let state = BucketState { used: 3, more: [0, 4] };
        let level = |remaining, reset| Level { remaining: Tokens(remaining), reset: Micros(reset) };
        assert_eq!(sliding.decide(state, Tokens(2)).after, level(4, 10));
        assert_eq!(sliding.decide(state, Tokens(0)).after, level(6, 4));
    }

    #[test]
    fn a_look_neither_fills_the_log_nor_postpones_its_reset() {
        let sliding = SlidingLog::new(9_u64, Micros(10)).unwrap();
        let mut log = Log::new();
        sliding.spend(&mut log, Micros(100), Tokens(3));
        let reset = |now| sliding.look(&mut log, Micros(now), Tokens(1)).more[1];
        assert_eq!([101, 104].map(reset), [9, 6]);
        assert_eq!(log, [(Micros(100), 3)]);
    }

    #[test]
    fn what_was_spent_at_a_later_time_counts_from_now_on_when_the_clock_is_set_back() {
        let sliding = SlidingLog::new(9_u64, Micros(10)).unwrap();
        let mut log: Log = [(Micros(95), 1), (Micros(200), 2), (Micros(205), 3)].into();
        assert_eq!(sliding.look(&mut log, Micros(100), Tokens(1)).used, 6);
        assert_eq!(log, [(Micros(95), 1), (Micros(100), 5)]);
    }

    #[test]
    fn an_entry_is_found_among_the_newest_or_counts_as_found_behind_them() {
        let log: Log = [(Micros(10), 1), (Micros(20), 1), (Micros(30), 1)].into();
        let has = |when, most| SlidingLog::has_entry(&log, Micros(when), most);
        assert_eq!([10, 20, 30].map(|when| has(when, 9)), [true; 3]);
        assert_eq!([9, 15, 31].map(|when| has(when, 9)), [false; 3]);
        assert!(has(10, 2) && has(15, 1), "all that are searched are later");
        assert!(!has(25, 2));
    }
}

//! The sliding window, exact: a log of what was spent and when. At most so many in *any* window, wherever it begins.
//!
//! Redis keeps a list, the oldest first, of a time, a cost, and the sum of all costs so far: the sum over a window is
//! a difference of two entries, and what has left the window is found by bisection and cut off by the next request
//! that spends. A list takes about 30 bytes for each request; a sorted set, the usual choice, takes three times that
//! and cannot tell a cost without a member for each token. It is for small limits all the same.
//!
//! This is the specification; `sliding_log.lua` beside it is what Redis runs.

use alloc::collections::VecDeque;
use core::num::NonZeroU64;

use super::algorithm::{AlgorithmError, Arguments, BucketState, limit_within, window_within};
use super::bucket_decision::{BucketDecision, Level};
use crate::units::{Micros, Tokens};

/// The greatest limit: about 300 kB in Redis for each bucket.
const MAX_LOGGED: u64 = 10_000;

/// At most so many in any window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlidingLog {
    limit: u64,
    window: NonZeroU64,
}

/// What Redis keeps of a bucket: times and costs, the oldest first.
pub(super) type Log = VecDeque<(Micros, u64)>;

impl SlidingLog {
    /// At most `limit` in any `window`; 0 blocks every request.
    ///
    /// # Errors
    /// Where `limit` is over 10,000, or `window` is zero or over 2⁵¹ µs.
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

    /// What Redis does before it decides: how much is used, and how long until `cost` is admitted, where it is not
    /// now, and until nothing is used.
    pub(super) fn look(&self, log: &mut Log, now: Micros, cost: Tokens) -> BucketState {
        // Where the clock was set back, what was spent later was spent now.
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

    /// What Redis does after [`look`](Self::look) where `cost` is spent.
    pub(super) fn spend(&self, log: &mut Log, now: Micros, cost: Tokens) {
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
        // A limit that was larger leaves its window used up and no worse.
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
        }
    }

    /// When what was spent at `time` is in the window no longer.
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
                let seen = sliding.look(&mut log, now, Tokens(cost));
                let decision = sliding.decide(seen, Tokens(cost));
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
                            let seen = sliding.look(&mut log.clone(), at, Tokens(cost));
                            sliding.decide(seen, Tokens(cost)).admits
                        };
                        prop_assert!(decision.admits || (admits(now.plus(wait)) && !admits(now.plus(wait).minus(Micros(1)))));
                    }
                }
            }
        }
    }
}

//! Sliding window, approximate: two counters, of the current fixed window and of the window before. The window before
//! counts in proportion to the part of it that the sliding window still covers (Cloudflare, "How we built rate limiting
//! capable of scaling to millions of domains").
//!
//! The arithmetic is in integers, and rounds so that it never admits a request that the exact formula denies. The
//! result is an estimate: it assumes that the tokens of the window before were spent evenly. This is the specification;
//! Redis runs `sliding_window.lua` beside it.

use core::num::NonZeroU64;

use super::arguments::Arguments;
use super::bounds::{AlgorithmError, MAX_LIMIT, limit_within, window_within};
use super::decision::{BucketDecision, Level};
use super::rate::quotient;
use crate::limit::charge::MAX_AMOUNT;
use crate::units::{Micros, Tokens};

/// Greatest product in Lua, of a count and the rest of a window in ticks.
const MAX_PRODUCT: u128 = 1 << 52;
/// Most steps of the window before's weight for amounts up to 2⁵³: Lua multiplies whole multiples of the steps apart.
const MAX_STEPS: u64 = 1 << 26;

/// Limit of a number of tokens in any window, as estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlidingWindow {
    limit: u64,
    window: NonZeroU64,
    /// Step of the window before's weight, in µs. 1 for all but huge limits and windows.
    tick: NonZeroU64,
}

/// State of a bucket in Redis: the tokens spent in the window from `start`, and in the window before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::limit) struct WindowCounts {
    start: Micros,
    current: u64,
    before: u64,
}

#[cfg(not(target_arch = "wasm32"))]
impl WindowCounts {
    /// Gives back what a request spent at `at`, in this window or in the window before.
    pub(in crate::limit) fn give_back(&mut self, at: Micros, cost: u64, window: Micros) -> bool {
        if self.start <= at {
            self.current = self.current.saturating_sub(cost);
        } else if self.start.minus(window) <= at {
            self.before = self.before.saturating_sub(cost);
        } else {
            return false;
        }
        true
    }
}

impl SlidingWindow {
    /// Returns a limit of `limit` tokens in any `window`, as estimated; 0 blocks every request.
    ///
    /// # Errors
    /// Where `limit` is over 2³², or `window` is zero or over 71 years.
    pub fn new(limit: impl Into<u64>, window: Micros) -> Result<Self, AlgorithmError> {
        let (limit, window) = (limit_within(limit.into(), MAX_LIMIT)?, window_within(window)?);
        let product = u128::from(limit).saturating_mul(u128::from(window.get()));
        let tick = u64::try_from(product.div_ceil(MAX_PRODUCT)).ok().and_then(NonZeroU64::new);
        Ok(Self { limit, window, tick: tick.unwrap_or(NonZeroU64::MIN) })
    }

    /// Returns a limit of `limit` tokens or nano-USD in any `window`, for a [budget](super::Budget).
    ///
    /// # Errors
    /// Where `limit` is 2⁵³ or more, or `window` is zero or over 71 years.
    pub fn of_amounts(limit: u64, window: Micros) -> Result<Self, AlgorithmError> {
        let (limit, window) = (limit_within(limit, MAX_AMOUNT)?, window_within(window)?);
        let tick = NonZeroU64::new(window.get().div_ceil(MAX_STEPS));
        Ok(Self { limit, window, tick: tick.unwrap_or(NonZeroU64::MIN) })
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

    /// Reads the state before the decision, as Redis does. Returns the tokens spent in this window, and in the window
    /// before. Both may exceed the limit where another proxy has a larger limit; the state keeps all of them.
    pub(in crate::limit) fn look(&self, state: &mut Option<WindowCounts>, now: Micros) -> [u64; 2] {
        let start = self.start(now);
        let Some(counts) = state else { return [0, 0] };
        if counts.start >= start {
            // The clock was set back: tokens spent in a later window count in this window.
            counts.start = start;
            return [counts.current, counts.before];
        }
        [0, if counts.start.plus(self.window()) == start { counts.current } else { 0 }]
    }

    /// Spends `cost`, as Redis does after [`look`](Self::look).
    pub(in crate::limit) fn spend(&self, state: &mut Option<WindowCounts>, now: Micros, cost: Tokens) {
        let [current, before] = self.look(state, now);
        *state = Some(WindowCounts { start: self.start(now), current: current.saturating_add(cost.0), before });
    }

    /// Keeps the larger of these counts and those of the state, as a heal does: the tokens spent in the window of `when`,
    /// and in the window before. Returns whether that changed the state; `None` if nothing is left of the counts.
    #[cfg(not(target_arch = "wasm32"))]
    pub(in crate::limit) fn keep_larger(
        &self,
        state: &mut Option<WindowCounts>,
        now: Micros,
        when: Micros,
        counts: [u64; 2],
    ) -> Option<bool> {
        let (start, own) = (self.start(now), self.start(when));
        let counts = match counts {
            [current, _] if own.plus(self.window()) == start => [0, current],
            counts if own >= start => counts,
            _ => return None,
        };
        let found = self.look(state, now);
        let larger = [counts[0].max(found[0]), counts[1].max(found[1])];
        if larger != found {
            *state = Some(WindowCounts { start, current: larger[0], before: larger[1] });
        }
        (counts != [0, 0]).then_some(larger != found)
    }

    pub(super) fn arguments(&self, cost: Tokens) -> Arguments {
        Arguments::of_count("s", cost, self.limit(), [self.window(), Micros(self.tick.get())])
    }

    /// Used part of the limit, rounded up. A count above the limit counts as the limit.
    pub(in crate::limit) fn used(&self, now: Micros, counts: [u64; 2]) -> u64 {
        let [current, before] = counts.map(|count| count.min(self.limit));
        current.saturating_add(self.part(now, before))
    }

    /// Part of the tokens of the window before that still counts, rounded up.
    pub(super) fn part(&self, now: Micros, before: u64) -> u64 {
        let weight = self.window().minus(self.elapsed(now)).0.div_ceil(self.tick.get()).min(self.ticks());
        let ticks = self.ticks().max(1);
        match before.checked_mul(weight) {
            Some(product) => product.div_ceil(ticks),
            None => {
                let (whole, rest) = (before.checked_div(ticks), before.checked_rem(ticks));
                let rest = rest.unwrap_or(0).saturating_mul(weight).div_ceil(ticks);
                whole.unwrap_or(0).saturating_mul(weight).saturating_add(rest)
            }
        }
    }

    pub(super) fn decide(&self, now: Micros, counts: [u64; 2], cost: Tokens) -> BucketDecision {
        // A bucket that a larger limit left overdrawn counts as used up.
        let [current, before] = counts.map(|count| count.min(self.limit));
        let used = self.used(now, counts).min(self.limit);
        let used_after = used.saturating_add(cost.0);
        let until_next = self.window().minus(self.elapsed(now));
        let level = |used: u64, current: u64| Level {
            remaining: Tokens(self.limit.saturating_sub(used)),
            reset: match (current, before) {
                (0, 0) => Micros::ZERO,
                (0, _) => until_next,
                _ => until_next.plus(self.window()),
            },
        };
        let admits = used_after <= self.limit;
        let wait = || self.wait(now, [current, before], cost);
        BucketDecision {
            capacity: self.limit(),
            period: Some(self.window()),
            admits,
            retry_after: (cost <= self.limit()).then(|| if admits { Micros::ZERO } else { wait() }),
            delay: Micros::ZERO,
            before: level(used, current),
            after: level(used_after, current.saturating_add(cost.0)),
            granted: None,
            held: Tokens(0),
        }
    }

    /// Time until `cost`, which is within the limit but denied now, is admitted: until the older of two windows has a
    /// small enough weight. That is in this window, or in the next window, for which this is the window before.
    fn wait(&self, now: Micros, [current, before]: [u64; 2], cost: Tokens) -> Micros {
        let until_next = self.window().minus(self.elapsed(now));
        let room = self.limit.saturating_sub(cost.0);
        match room.checked_sub(current) {
            Some(room) => until_next.minus(self.left_when(before, room)),
            None => until_next.plus(self.window()).minus(self.left_when(current, room)),
        }
    }

    /// Rest of a window when `before` counts for no more than `room`, which is less than `before`.
    fn left_when(&self, before: u64, room: u64) -> Micros {
        let weight = match room.checked_mul(self.ticks()) {
            Some(product) => product.checked_div(before).unwrap_or(0),
            None => {
                let product = u128::from(room).saturating_mul(self.ticks().into());
                u64::try_from(quotient(product, before.max(1).into())).unwrap_or(0)
            }
        };
        Micros(weight).times(self.tick.get())
    }

    fn ticks(&self) -> u64 {
        self.window.get() / self.tick
    }

    fn elapsed(&self, now: Micros) -> Micros {
        Micros(now.0 % self.window)
    }

    pub(super) fn start(&self, now: Micros) -> Micros {
        now.minus(self.elapsed(now))
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::super::bounds::MAX_WINDOW;
    use super::*;

    fn sliding(limit: u64, window: u64) -> SlidingWindow {
        SlidingWindow::new(limit, Micros(window)).unwrap()
    }

    #[test]
    fn the_window_before_counts_in_proportion_to_its_covered_part() {
        // Cloudflare's example: 42 in the minute before, 18 in the 15 s of this.
        let minute = sliding(50, 60_000_000);
        let now = Micros(60_000_000_000 + 15_000_000);
        assert_eq!(minute.used(now, [18, 42]), 50, "49.5 requests, rounded up");
        assert!(!minute.decide(now, [18, 42], Tokens(1)).admits);
    }

    #[test]
    fn a_huge_limit_in_a_huge_window_stays_exact_in_lua() {
        let huge = sliding(MAX_LIMIT, MAX_WINDOW.0);
        let product = u128::from(huge.ticks()) << 32;
        assert!(product <= MAX_PRODUCT && huge.ticks() > 1 << 19, "{} ticks", huge.ticks());
        assert_eq!(sliding(1_000, 60_000_000).tick.get(), 1);
    }

    fn shapes() -> impl Strategy<Value = (u64, u64)> {
        prop_oneof![(1_u64..30, 1_u64..5_000), (1..=MAX_LIMIT, 1..=MAX_WINDOW.0)]
    }

    proptest! {
        #[test]
        fn a_sliding_window_never_admits_a_request_that_the_formula_denies(
            (limit, window) in shapes(), now in 0_u64..(1 << 52), current: u64, before: u64, cost: u64,
        ) {
            let [current, before, cost] = [current, before, cost].map(|n| n % (limit + 1));
            let sliding = sliding(limit, window);
            if sliding.decide(Micros(now), [current, before], Tokens(cost)).admits && cost > 0 {
                let left = u128::from(window - now % window);
                let [limit, window, current, before, cost] = [limit, window, current, before, cost].map(u128::from);
                prop_assert!(before * left + (current + cost) * window <= limit * window);
            }
        }

        #[test]
        fn a_denial_ends_after_the_wait_and_not_before(
            (limit, window) in shapes(), now in 0_u64..(1 << 52), current: u64, before: u64, cost in 1_u64..(1 << 32),
        ) {
            let [current, before] = [current, before].map(|n| n % (limit + 1));
            let cost = Tokens(1 + cost % limit);
            let sliding = sliding(limit, window);
            let now = Micros(now);
            let decision = sliding.decide(now, [current, before], cost);
            let wait = decision.retry_after.unwrap();
            prop_assert_eq!(decision.admits, wait == Micros::ZERO);
            let admits_after = |wait: Micros| {
                let mut state = Some(WindowCounts { start: sliding.start(now), current, before });
                let then = now.plus(wait);
                let counts = sliding.look(&mut state, then);
                sliding.decide(then, counts, cost).admits
            };
            prop_assert!(admits_after(wait));
            prop_assert!(wait == Micros::ZERO || !admits_after(wait.minus(Micros(1))));
        }

        #[test]
        fn no_fixed_window_and_no_sliding_estimate_exceeds_the_limit(
            limit in 1_u64..20,
            window in 1_u64..5_000,
            history in proptest::collection::vec((0_u64..1_500, 0_u64..8), 1..200),
        ) {
            let sliding = sliding(limit, window);
            let (mut now, mut state) = (Micros(1 << 40), None);
            let mut spent = std::collections::HashMap::<Micros, u64>::new();
            for (pause, cost) in history {
                now = now.plus(Micros(pause));
                let counts = sliding.look(&mut state, now);
                if sliding.decide(now, counts, Tokens(cost)).admits {
                    sliding.spend(&mut state, now, Tokens(cost));
                    *spent.entry(sliding.start(now)).or_default() += cost;
                }
                let of = |start: Micros| spent.get(&start).copied().unwrap_or(0);
                let (this, last) = (of(sliding.start(now)), of(sliding.start(now).minus(Micros(window))));
                prop_assert_eq!(sliding.look(&mut state, now), [this, last]);
                prop_assert!(this <= limit);
            }
        }
    }

    #[test]
    fn what_is_given_back_counts_in_the_window_of_its_spend_and_not_beyond_two_windows() {
        let spent = WindowCounts { start: Micros(100), current: 5, before: 7 };
        for (at, current, before) in [(109, 3, 7), (100, 3, 7), (99, 5, 5), (90, 5, 5), (89, 5, 7)] {
            let mut counts = spent;
            assert_eq!(counts.give_back(Micros(at), 2, Micros(10)), at >= 90);
            assert_eq!(counts, WindowCounts { current, before, ..spent }, "spent at {at}");
        }
    }

    #[test]
    fn a_window_that_only_the_one_before_fills_is_whole_at_its_end() {
        let ten = sliding(9, 10);
        let reset = |counts| ten.decide(Micros(103), counts, Tokens(0)).before.reset;
        assert_eq!([[0, 0], [0, 1], [1, 0], [1, 1]].map(reset), [0, 7, 17, 17].map(Micros));
    }

    #[test]
    fn of_remembered_counts_and_those_of_the_state_the_larger_are_kept() {
        let ten = sliding(9, 10);
        let kept = |when, counts| {
            let mut state = Some(WindowCounts { start: Micros(100), current: 3, before: 2 });
            let result = ten.keep_larger(&mut state, Micros(105), Micros(when), counts);
            (result, state.map(|counts| [counts.current, counts.before]))
        };
        assert_eq!(kept(101, [5, 1]), (Some(true), Some([5, 2])), "of this window");
        assert_eq!(kept(101, [3, 2]), (Some(false), Some([3, 2])));
        assert_eq!(kept(95, [6, 9]), (Some(true), Some([3, 6])), "of the window before");
        assert_eq!(kept(95, [0, 9]), (None, Some([3, 2])), "nothing is left");
        assert_eq!(kept(85, [6, 9]), (None, Some([3, 2])));
    }
}

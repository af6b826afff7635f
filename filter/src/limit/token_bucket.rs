//! Token bucket as a generic cell rate algorithm (GCRA, ITU-T I.371), which counts in parts of tokens, so that every
//! rate is exact: see [`Rate`].
//!
//! With a `max_delay`, tokens may be spent before they exist: the request is held until they do (*shaping*). Its tokens
//! are reserved in Redis at once, so that no other request can take them.
//!
//! This is the specification, together with a bucket's [state](super::token_state). Redis runs `token_bucket_head.lua`
//! and `token_bucket_tail.lua` beside it, or `token_bucket_mixed.lua` where a request has limits of other algorithms.
//! All of them decide alike.

use core::num::NonZeroU64;

use super::algorithm::{Arguments, signed};
use super::bucket_decision::{BucketDecision, Level};
use super::rate::{MOST_TOKENS_PER_MICRO, Rate, Units};
use super::token_state::TokenState;
use crate::units::{Micros, Tokens};

/// Token bucket: its capacity, its rate and its longest delay. The bucket's state is in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    capacity: NonZeroU64,
    /// The configured rate, or the nearest slower rate that Lua can count.
    rate: Rate,
    max_delay: Micros,
}

/// Numbers that a token bucket cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenBucketError {
    /// A rate above the greatest that Envoy's numbers can express.
    #[error("expected at most {MOST_TOKENS_PER_MICRO} tokens per µs, found {tokens} in {interval} µs", interval = .interval.0)]
    TooFast {
        /// Tokens per interval, as configured.
        tokens: u64,
        /// The interval, as configured.
        interval: Micros,
    },
    /// An empty bucket would take longer to fill than Lua's numbers can count.
    #[error("expected a bucket that fills within 142 years, found {capacity} tokens of {emission} µs each", emission = .emission.0)]
    TooSlow {
        /// The bucket's capacity, as configured.
        capacity: u64,
        /// The time for one token to arrive.
        emission: Micros,
    },
    /// An empty bucket would take longer to fill, together with the longest delay, than Lua's numbers can count; or at
    /// millions of tokens per microsecond, more tokens flow in meanwhile than Lua's numbers can count to 0.006 %.
    #[error("expected a delay within 142 years, and fewer tokens that flow in meanwhile, found {max_delay} µs", max_delay = .max_delay.0)]
    TooLong {
        /// The delay, as configured.
        max_delay: Micros,
    },
}

impl TokenBucket {
    /// Returns a bucket of `max_tokens` tokens, into which `tokens_per_fill` tokens flow evenly per `fill_interval`.
    ///
    /// # Errors
    /// Where the rate is above 2³² tokens per microsecond, or an empty bucket takes over 2⁵² µs to fill.
    pub fn new(
        max_tokens: NonZeroU64,
        tokens_per_fill: NonZeroU64,
        fill_interval: Micros,
    ) -> Result<Self, TokenBucketError> {
        let too_fast = TokenBucketError::TooFast { tokens: tokens_per_fill.get(), interval: fill_interval };
        let wanted = Rate::new(tokens_per_fill, fill_interval).ok_or(too_fast)?;
        let too_slow = TokenBucketError::TooSlow {
            capacity: max_tokens.get(),
            emission: wanted.time_for(Units(wanted.per_token())),
        };
        let rate = wanted.countable(Tokens(max_tokens.get()), Micros::ZERO).ok_or(too_slow)?;
        Ok(Self { capacity: max_tokens, rate, max_delay: Micros::ZERO })
    }

    /// Returns the same bucket, which also admits requests whose tokens will exist within `max_delay`, and holds them
    /// until then.
    ///
    /// # Errors
    /// Where `max_delay` and the time to fill are over 2⁵² µs together.
    pub fn with_max_delay(self, max_delay: Micros) -> Result<Self, TokenBucketError> {
        let rate = self.rate.countable(self.capacity(), max_delay).ok_or(TokenBucketError::TooLong { max_delay })?;
        if rate.is_noticeably_slower_than(&self.rate) {
            return Err(TokenBucketError::TooLong { max_delay });
        }
        Ok(Self { rate, max_delay, ..self })
    }

    /// Tokens in a full bucket.
    #[must_use]
    pub fn capacity(&self) -> Tokens {
        Tokens(self.capacity.get())
    }

    /// Rate at which the bucket fills.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Time for one token to arrive, rounded up. ≥ 1 µs.
    #[must_use]
    pub fn emission(&self) -> Micros {
        self.time_for(Tokens(1))
    }

    /// Time for an empty bucket to fill, rounded up, ≤ 2⁵² µs.
    #[must_use]
    pub fn fill_time(&self) -> Micros {
        self.time_for(self.capacity())
    }

    /// Time for that many tokens to arrive, rounded up.
    #[must_use]
    pub fn time_for(&self, tokens: Tokens) -> Micros {
        self.rate.time_for(self.rate.units(tokens))
    }

    /// Longest time for which a request may be held until its tokens exist. Zero: no request is held.
    #[must_use]
    pub fn max_delay(&self) -> Micros {
        self.max_delay
    }

    /// Most units that a bucket may lack of being full: its capacity, and the units that flow in within the longest
    /// delay. ≤ 2⁵².
    #[must_use]
    pub fn room(&self) -> Units {
        let ahead = self.max_delay.times(self.rate.per_micro());
        Units(self.full().0.saturating_add(ahead.0))
    }

    /// Price of `cost` tokens, in units. One unit more than [`room`](Self::room) where `cost` exceeds the capacity:
    /// that request is never admitted.
    #[must_use]
    pub fn price(&self, cost: Tokens) -> Units {
        // No overflow where `cost` is at most the capacity: its units are below 2⁵³.
        let units = cost.0.wrapping_mul(self.rate.per_token());
        if cost <= self.capacity() { Units(units) } else { Units(self.room().0.saturating_add(1)) }
    }

    /// Whether a bucket that lacks `lack` of being full admits a request of `cost` tokens, at once or
    /// [held](Self::delay).
    ///
    /// `lack` is zero for a full bucket, the capacity for an empty bucket, and more where requests are held.
    #[must_use]
    pub fn admits(&self, lack: Units, cost: Tokens) -> bool {
        self.lack_after(lack, cost) <= self.room()
    }

    /// Time for which an admitted request must be held until its tokens exist.
    #[must_use]
    pub fn delay(&self, lack: Units, cost: Tokens) -> Micros {
        self.rate.time_for(Units(self.lack_after(lack, cost).0.saturating_sub(self.full().0)))
    }

    /// Whole tokens in a bucket that lacks `lack`, rounded down.
    #[must_use]
    pub fn remaining(&self, lack: Units) -> Tokens {
        Tokens(self.full().0.saturating_sub(lack.0).checked_div(self.rate.per_token()).unwrap_or(0))
    }

    /// Time until `cost` tokens would be admitted, if no other request spends. Zero where they are admitted now.
    ///
    /// `None` when `cost` exceeds the capacity: waiting cannot help.
    #[must_use]
    pub fn retry_after(&self, lack: Units, cost: Tokens) -> Option<Micros> {
        let missing = || Units(self.lack_after(lack, cost).0.saturating_sub(self.room().0));
        (cost <= self.capacity()).then(|| self.rate.time_for(missing()))
    }

    /// Units that a bucket lacks after `cost` is spent, where it lacked `lack` before.
    pub(super) fn lack_after(&self, lack: Units, cost: Tokens) -> Units {
        Units(lack.0.saturating_add(self.price(cost).0))
    }

    /// Units of a full bucket: an empty bucket lacks all of them.
    pub(super) fn full(&self) -> Units {
        Units(self.capacity.get().wrapping_mul(self.rate.per_token()))
    }

    /// Reads the state before the decision, as Redis does. Returns the units that the bucket lacks of being full.
    pub(super) fn look(&self, state: &mut Option<TokenState>, now: Micros) -> Units {
        let open = TokenState::open(state.as_ref(), now, self, &[]);
        let lack = open.lack();
        if let Some(changed) = open.changed() {
            *state = Some(changed);
        }
        lack
    }

    /// Spends `cost`, as Redis does after [`look`](Self::look).
    pub(super) fn spend(&self, state: &mut Option<TokenState>, now: Micros, cost: Tokens) {
        let open = TokenState::open(state.as_ref(), now, self, &[]);
        *state = Some(open.spend(self.price(cost), None));
    }

    pub(super) fn arguments(&self, cost: Tokens) -> Arguments {
        let [Units(price), Units(room)] = [self.price(cost), self.room()];
        Arguments { letter: "t", cost: price, limit: room, more: [self.unit(), signed(self.rate.per_micro())] }
    }

    /// Units of a token as scripts take them: negated where the bucket delays requests.
    pub(super) fn unit(&self) -> i64 {
        let unit = signed(self.rate.per_token());
        if self.max_delay > Micros::ZERO { unit.wrapping_neg() } else { unit }
    }

    /// Level of a bucket that lacks `lack`.
    pub(super) fn level(&self, lack: Units) -> Level {
        Level { remaining: self.remaining(lack), reset: self.rate.time_for(lack) }
    }

    pub(super) fn decide(&self, lack: Units, cost: Tokens) -> BucketDecision {
        // Results of the methods above, with common parts computed once: this runs for each request.
        let (after, room) = (self.lack_after(lack, cost), self.room());
        let admits = after <= room;
        let time_beyond = |level: Units| self.rate.time_for(Units(after.0.saturating_sub(level.0)));
        let retry_after = match admits {
            true => Some(Micros::ZERO),
            false => (cost <= self.capacity()).then(|| time_beyond(room)),
        };
        let is_held = admits && self.max_delay > Micros::ZERO;
        BucketDecision {
            capacity: self.capacity(),
            period: Some(self.fill_time()),
            admits,
            retry_after,
            delay: if is_held { time_beyond(self.full()) } else { Micros::ZERO },
            before: self.level(lack),
            after: self.level(after),
            granted: None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use core::num::NonZeroU32;
    use core::time::Duration;

    use governor::clock::FakeRelativeClock;
    use governor::middleware::NoOpMiddleware;
    use governor::nanos::Nanos;
    use governor::state::{InMemoryState, NotKeyed};
    use governor::{Quota, RateLimiter};
    use proptest::prelude::*;

    use super::*;

    fn bucket(capacity: u64, tokens: u64, interval: Micros) -> Result<TokenBucket, TokenBucketError> {
        let nonzero = |n| NonZeroU64::new(n).expect("a test's bucket has tokens");
        TokenBucket::new(nonzero(capacity), nonzero(tokens), interval)
    }

    #[test]
    fn a_rate_that_is_no_whole_number_of_microseconds_per_token_is_exact() {
        let thirds = bucket(3, 3, Micros::from_secs(1)).unwrap();
        assert_eq!((thirds.emission(), thirds.fill_time()), (Micros(333_334), Micros::from_secs(1)));
        let minute = bucket(60_000_000, 50_000_000, Micros::from_secs(60)).unwrap();
        assert_eq!(minute.fill_time(), Micros::from_secs(72));
        assert_eq!(minute.time_for(Tokens(50_000_000)), Micros::from_secs(60));
        let bytes = bucket(10_000_000, 10_000_000, Micros::from_secs(1)).unwrap();
        assert_eq!((bytes.fill_time(), bytes.time_for(Tokens(25))), (Micros::from_secs(1), Micros(3)));
    }

    #[test]
    fn envoys_largest_numbers_are_exact_to_the_last_token() {
        let largest = bucket(u32::MAX.into(), u32::MAX.into(), Micros(1)).unwrap();
        assert_eq!(largest.remaining(largest.price(Tokens(7))), Tokens(u64::from(u32::MAX) - 7));
        assert!(bucket(u32::MAX.into(), 1, Micros(1 << 20)).is_ok());
        let odd = bucket(u32::MAX.into(), 4_294_967_291, Micros::from_secs(4_000_000_000)).unwrap();
        assert!(odd.fill_time() >= Micros::from_secs(4_000_000_003));
    }

    #[test]
    fn a_delay_in_which_more_tokens_flow_in_than_can_be_counted_is_refused() {
        let fast = bucket(1, 1_000_000, Micros(1)).unwrap();
        assert!(fast.with_max_delay(Micros::from_secs(60)).is_ok());
        let odd = bucket(1, 1_000_000_007, Micros(999)).unwrap();
        assert!(matches!(odd.with_max_delay(Micros::from_secs(60)), Err(TokenBucketError::TooLong { .. })));
        let fastest = bucket(1, u32::MAX.into(), Micros(7)).unwrap();
        assert!(matches!(fastest.with_max_delay(Micros::from_secs(60)), Err(TokenBucketError::TooLong { .. })));
    }

    #[test]
    fn rates_beyond_envoys_numbers_and_fill_times_beyond_lua_are_refused() {
        let too_fast = bucket(1, (1 << 32) + 1, Micros(1)).unwrap_err();
        assert_eq!(too_fast.to_string(), "expected at most 4294967296 tokens per µs, found 4294967297 in 1 µs");
        let too_slow = bucket(1 << 40, 1, Micros::from_secs(1)).unwrap_err();
        assert!(matches!(too_slow, TokenBucketError::TooSlow { .. }));
        assert!(bucket(u64::MAX, 1, Micros(u64::MAX)).is_err());
    }

    #[test]
    fn a_cost_above_the_capacity_is_never_admitted_and_waiting_does_not_help() {
        let ten = bucket(10, 10, Micros::from_secs(1)).unwrap();
        for cost in [11, 12, u64::MAX] {
            assert!(!ten.admits(Units(0), Tokens(cost)));
            assert_eq!(ten.retry_after(Units(0), Tokens(cost)), None);
        }
        assert!(ten.admits(Units(0), Tokens(10)));
    }

    #[test]
    fn retry_after_is_the_first_instant_that_admits() {
        let ten = bucket(10, 10, Micros::from_secs(1)).unwrap();
        // A token is 100,000 units.
        let empty = ten.full();
        let wait = ten.retry_after(empty, Tokens(3)).unwrap();
        assert_eq!(wait, Micros(300_000));
        assert!(ten.admits(Units(empty.0 - wait.0), Tokens(3)));
        assert!(!ten.admits(Units(empty.0 - wait.0 + 1), Tokens(3)));
    }

    #[test]
    fn remaining_is_rounded_down() {
        let ten = bucket(10, 10, Micros::from_secs(1)).unwrap();
        assert_eq!(ten.remaining(Units(1)), Tokens(9));
        assert_eq!(ten.remaining(Units(0)), Tokens(10));
        assert_eq!(ten.remaining(Units(u64::MAX)), Tokens(0));
    }

    #[test]
    fn a_request_whose_tokens_come_soon_enough_is_held_until_they_do() {
        let shaped = bucket(10, 10, Micros::from_secs(1)).unwrap().with_max_delay(Micros::from_secs(1)).unwrap();
        let empty = shaped.full();
        assert!(shaped.admits(empty, Tokens(10)));
        assert_eq!(shaped.delay(empty, Tokens(10)), Micros::from_secs(1));
        assert_eq!(shaped.delay(Units(300_000), Tokens(5)), Micros::ZERO);
        let queue_is_full = Units(empty.0 + 1_000_000);
        assert!(!shaped.admits(queue_is_full, Tokens(1)));
        assert_eq!(shaped.retry_after(queue_is_full, Tokens(1)), Some(Micros(100_000)));
        assert_eq!(shaped.remaining(queue_is_full), Tokens(0));
    }

    #[test]
    fn holding_does_not_help_a_cost_above_the_capacity() {
        let shaped = bucket(10, 10, Micros::from_secs(1)).unwrap().with_max_delay(Micros::from_secs(60)).unwrap();
        assert!(!shaped.admits(Units(0), Tokens(11)));
        assert_eq!(shaped.retry_after(Units(0), Tokens(11)), None);
    }

    #[test]
    fn a_delay_beyond_lua_is_refused() {
        let ten = bucket(10, 10, Micros::from_secs(1)).unwrap();
        assert!(matches!(ten.with_max_delay(Micros(1 << 52)), Err(TokenBucketError::TooLong { .. })));
        assert!(ten.with_max_delay(Micros(u64::MAX)).is_err());
    }

    type Governor = RateLimiter<NotKeyed, InMemoryState, FakeRelativeClock, NoOpMiddleware<Nanos>>;

    proptest! {
        /// Same decisions as governor's GCRA, an independent implementation of the same definition.
        #[test]
        fn decides_as_governor_does(
            capacity in 1_u32..50,
            emission in 1_u64..3_000_000,
            history in proptest::collection::vec((0_u64..6_000_000, 1_u32..60), 1..200),
        ) {
            let ours = bucket(capacity.into(), 1, Micros(emission)).unwrap();
            let clock = FakeRelativeClock::default();
            let quota = Quota::with_period(Duration::from_micros(emission)).unwrap()
                .allow_burst(NonZeroU32::new(capacity).unwrap());
            let oracle: Governor = RateLimiter::direct_with_clock(quota, clock.clone());

            let mut lack = Units(0);
            for (pause, cost) in history {
                clock.advance(Duration::from_micros(pause));
                lack = Units(lack.0.saturating_sub(pause));
                let theirs = matches!(oracle.check_n(NonZeroU32::new(cost).unwrap()), Ok(Ok(())));
                let cost = Tokens(cost.into());
                prop_assert_eq!(ours.admits(lack, cost), theirs);
                if theirs {
                    lack = ours.lack_after(lack, cost);
                }
            }
        }

        /// Requests that go on from a shaped bucket within any window keep to its rate, however they arrive.
        #[test]
        fn held_requests_leave_in_turn_and_no_faster_than_the_rate(
            capacity in 1_u64..10,
            emission in 1_u64..1_000,
            max_delay in 0_u64..5_000,
            history in proptest::collection::vec((0_u64..1_500, 1_u64..6), 1..100),
        ) {
            let shaped = bucket(capacity, 1, Micros(emission)).unwrap().with_max_delay(Micros(max_delay)).unwrap();
            let (mut now, mut full_at) = (Micros(1 << 40), None);
            let mut left: Vec<(u64, u64)> = Vec::new();
            for (pause, cost) in history {
                now = now.plus(Micros(pause));
                let lack = shaped.look(&mut full_at, now);
                if shaped.admits(lack, Tokens(cost)) {
                    shaped.spend(&mut full_at, now, Tokens(cost));
                    let delay = shaped.delay(lack, Tokens(cost));
                    prop_assert!(delay.0 <= max_delay);
                    left.push((now.plus(delay).0, cost));
                }
            }
            for (i, &(since, _)) in left.iter().enumerate() {
                let mut spent = 0;
                for &(then, cost) in &left[i..] {
                    prop_assert!(then >= since, "in turn");
                    spent += cost;
                    prop_assert!(spent * emission <= capacity * emission + (then - since));
                }
            }
        }

        /// Same decisions as a bucket of exact fractions, at any rate.
        #[test]
        fn decides_as_a_bucket_of_fractions_does(
            capacity in 1_u64..100,
            tokens in 1_u64..1_000_000,
            interval in 1_u64..1_000_000,
            history in proptest::collection::vec((0_u64..50_000, 0_u64..110), 1..100),
        ) {
            let ours = bucket(capacity, tokens, Micros(interval)).unwrap();
            let (mut now, mut state) = (Micros(1 << 50), None);
            // Tokens times the interval.
            let (full, mut spent) = (u128::from(capacity) * u128::from(interval), 0_u128);
            for (pause, cost) in history {
                now = now.plus(Micros(pause));
                spent = spent.saturating_sub(u128::from(pause) * u128::from(tokens));
                let lack = ours.look(&mut state, now);
                let after = spent + u128::from(cost) * u128::from(interval);
                prop_assert_eq!(ours.admits(lack, Tokens(cost)), after <= full);
                prop_assert_eq!(u128::from(ours.remaining(lack).0), (full - spent) / u128::from(interval));
                let wait = after.saturating_sub(full).div_ceil(tokens.into());
                let expected = (cost <= capacity).then(|| Micros(wait.try_into().unwrap()));
                prop_assert_eq!(ours.retry_after(lack, Tokens(cost)), expected);
                if after <= full {
                    ours.spend(&mut state, now, Tokens(cost));
                    spent = after;
                }
            }
        }
    }
}

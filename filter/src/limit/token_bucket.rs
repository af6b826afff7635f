//! The token bucket as a generic cell rate algorithm (GCRA, ITU-T I.371): instead of a token count, a bucket
//! keeps one instant, the *theoretical arrival time* (TAT) at which it would be full again.
//!
//! With a `max_delay`, tokens may be spent before they exist: such a request is held until they do (*shaping*).
//! What it waits for is reserved in Redis at once, so that nobody can come between.
//!
//! This is the specification; `token_bucket.lua` beside it is what Redis runs, and `token_bucket_mixed.lua` where
//! other algorithms take part. They do the same.

use core::num::NonZeroU64;

use super::algorithm::Arguments;
use super::judgement::{Judgement, Level};
use crate::units::{Micros, Tokens};

/// The longest time an empty bucket may take to fill: 2⁵² µs, about 142 years.
///
/// Lua counts in doubles, exact to 2⁵³; Redis' clock stands at about 2⁵¹ µs until the year 2041, so that the
/// sum of both stays exact.
const MAX_FILL_TIME: Micros = Micros(1 << 52);

/// A token bucket's shape: how many tokens it holds and how fast it fills. Its state is in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    capacity: NonZeroU64,
    emission: NonZeroU64,
    max_delay: Micros,
}

/// Why a token bucket cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenBucketError {
    /// More than one token per microsecond, the finest step of Redis' clock.
    #[error("expected at most 1000000 tokens per second, found {tokens} in {interval} µs", interval = .interval.0)]
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
    /// Together with the longest delay, an empty bucket would take longer to fill than Lua's numbers can count.
    #[error("expected a delay that ends within 142 years, found {max_delay} µs", max_delay = .max_delay.0)]
    TooLong {
        /// The delay, as configured.
        max_delay: Micros,
    },
}

impl TokenBucket {
    /// A bucket of `max_tokens` tokens, into which `tokens_per_fill` tokens flow, evenly, per `fill_interval`.
    ///
    /// The time per token is rounded *up* to a whole microsecond, so that the bucket is never faster than
    /// configured.
    ///
    /// # Errors
    /// Where the rate is above one token per microsecond, or an empty bucket takes over 2⁵² µs to fill.
    pub fn new(
        max_tokens: NonZeroU64,
        tokens_per_fill: NonZeroU64,
        fill_interval: Micros,
    ) -> Result<Self, TokenBucketError> {
        let too_fast = TokenBucketError::TooFast { tokens: tokens_per_fill.get(), interval: fill_interval };
        if fill_interval.0 < tokens_per_fill.get() {
            return Err(too_fast);
        }
        let emission = NonZeroU64::new(fill_interval.0.div_ceil(tokens_per_fill.get())).ok_or(too_fast)?;
        if Micros(emission.get()).times(max_tokens.get()) > MAX_FILL_TIME {
            return Err(TokenBucketError::TooSlow { capacity: max_tokens.get(), emission: Micros(emission.get()) });
        }
        Ok(Self { capacity: max_tokens, emission, max_delay: Micros::ZERO })
    }

    /// The same bucket, but requests whose tokens will exist within `max_delay` are admitted, and held until then.
    ///
    /// # Errors
    /// Where `max_delay` and the time to fill are over 2⁵² µs together.
    pub fn with_max_delay(self, max_delay: Micros) -> Result<Self, TokenBucketError> {
        let delayed = Self { max_delay, ..self };
        if delayed.room() > MAX_FILL_TIME { Err(TokenBucketError::TooLong { max_delay }) } else { Ok(delayed) }
    }

    /// Tokens in a full bucket.
    #[must_use]
    pub fn capacity(&self) -> Tokens {
        Tokens(self.capacity.get())
    }

    /// Time for one token to arrive, ≥ 1 µs.
    #[must_use]
    pub fn emission(&self) -> Micros {
        Micros(self.emission.get())
    }

    /// Time for an empty bucket to fill: `capacity · emission`, ≤ 2⁵² µs.
    #[must_use]
    pub fn fill_time(&self) -> Micros {
        self.emission().times(self.capacity.get())
    }

    /// How long a request may be held until its tokens exist. Zero: not at all.
    #[must_use]
    pub fn max_delay(&self) -> Micros {
        self.max_delay
    }

    /// The most that a bucket may lack of being full: its fill time, and what may be spent ahead. ≤ 2⁵² µs.
    #[must_use]
    pub fn room(&self) -> Micros {
        self.fill_time().plus(self.max_delay)
    }

    /// What `cost` tokens are worth in time. Just more than [`room`](Self::room) where `cost` exceeds the capacity,
    /// however far: such a request is never admitted.
    #[must_use]
    pub fn price(&self, cost: Tokens) -> Micros {
        if cost <= self.capacity() { self.emission().times(cost.0) } else { self.room().plus(Micros(1)) }
    }

    /// Whether a bucket that lacks `lack` of being full admits a request of `cost` tokens, at once or
    /// [held](Self::delay).
    ///
    /// `lack` is how far the TAT lies ahead of now: zero for a full bucket, `fill_time` for an empty one, more where
    /// requests are held.
    #[must_use]
    pub fn admits(&self, lack: Micros, cost: Tokens) -> bool {
        lack.plus(self.price(cost)) <= self.room()
    }

    /// How long a request that is admitted must be held until its tokens exist.
    #[must_use]
    pub fn delay(&self, lack: Micros, cost: Tokens) -> Micros {
        lack.plus(self.price(cost)).minus(self.fill_time())
    }

    /// Whole tokens in a bucket that lacks `lack`, rounded down.
    #[must_use]
    pub fn remaining(&self, lack: Micros) -> Tokens {
        Tokens(self.fill_time().minus(lack).0 / self.emission)
    }

    /// Time until `cost` tokens would be admitted, if nobody else spends. Zero where they are admitted now.
    ///
    /// `None` when `cost` exceeds the capacity: waiting cannot help.
    #[must_use]
    pub fn retry_after(&self, lack: Micros, cost: Tokens) -> Option<Micros> {
        (cost <= self.capacity()).then(|| lack.plus(self.price(cost)).minus(self.room()))
    }

    /// What Redis does before it decides: how far a bucket that is full at `full_at` is from full now. One that was
    /// larger, or that a clock which was set back has filled ahead, is empty and no worse, and fills from now on.
    pub(super) fn look(&self, full_at: &mut Option<Micros>, now: Micros) -> Micros {
        let lack = full_at.unwrap_or(now).minus(now);
        if lack <= self.room() {
            return lack;
        }
        *full_at = Some(now.plus(self.room()));
        self.room()
    }

    /// What Redis does after [`look`](Self::look) where `cost` is spent.
    pub(super) fn spend(&self, full_at: &mut Option<Micros>, now: Micros, cost: Tokens) {
        *full_at = Some(full_at.unwrap_or(now).max(now).plus(self.price(cost)));
    }

    pub(super) fn arguments(&self, cost: Tokens) -> Arguments {
        let [price, room] = [self.price(cost), self.room()];
        Arguments { letter: "t", cost: price.0, limit: room.0, more: [0, 0] }
    }

    /// How full a bucket is that lacks `lack`.
    pub(super) fn level(&self, lack: Micros) -> Level {
        Level { remaining: self.remaining(lack), reset: lack }
    }

    pub(super) fn judge(&self, lack: Micros, cost: Tokens) -> Judgement {
        let admits = self.admits(lack, cost);
        Judgement {
            capacity: self.capacity(),
            period: Some(self.fill_time()),
            admits,
            retry_after: self.retry_after(lack, cost),
            delay: if admits { self.delay(lack, cost) } else { Micros::ZERO },
            before: self.level(lack),
            after: self.level(lack.plus(self.price(cost))),
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
    fn a_rate_that_is_no_whole_number_of_microseconds_is_rounded_to_the_slower() {
        let thirds = bucket(1, 3, Micros::from_secs(1)).unwrap();
        assert_eq!(thirds.emission(), Micros(333_334));
    }

    #[test]
    fn rates_beyond_the_clock_and_fill_times_beyond_lua_are_refused() {
        let too_fast = bucket(1, 1_000_001, Micros::from_secs(1)).unwrap_err();
        assert_eq!(too_fast.to_string(), "expected at most 1000000 tokens per second, found 1000001 in 1000000 µs");
        let too_slow = bucket(1 << 40, 1, Micros::from_secs(1)).unwrap_err();
        assert!(matches!(too_slow, TokenBucketError::TooSlow { .. }));
        assert!(bucket(u64::MAX, 1, Micros(u64::MAX)).is_err());
    }

    #[test]
    fn a_cost_above_the_capacity_is_never_admitted_and_waiting_does_not_help() {
        let ten = bucket(10, 10, Micros::from_secs(1)).unwrap();
        for cost in [11, 12, u64::MAX] {
            assert!(!ten.admits(Micros::ZERO, Tokens(cost)));
            assert_eq!(ten.retry_after(Micros::ZERO, Tokens(cost)), None);
        }
        assert!(ten.admits(Micros::ZERO, Tokens(10)));
    }

    #[test]
    fn retry_after_is_the_first_instant_that_admits() {
        let ten = bucket(10, 10, Micros::from_secs(1)).unwrap();
        let empty = ten.fill_time();
        let wait = ten.retry_after(empty, Tokens(3)).unwrap();
        assert_eq!(wait, Micros(300_000));
        assert!(ten.admits(empty.minus(wait), Tokens(3)));
        assert!(!ten.admits(empty.minus(wait).plus(Micros(1)), Tokens(3)));
    }

    #[test]
    fn remaining_is_rounded_down() {
        let ten = bucket(10, 10, Micros::from_secs(1)).unwrap();
        assert_eq!(ten.remaining(Micros(1)), Tokens(9));
        assert_eq!(ten.remaining(Micros::ZERO), Tokens(10));
        assert_eq!(ten.remaining(Micros(u64::MAX)), Tokens(0));
    }

    #[test]
    fn a_request_whose_tokens_come_soon_enough_is_held_until_they_do() {
        let shaped = bucket(10, 10, Micros::from_secs(1)).unwrap().with_max_delay(Micros::from_secs(1)).unwrap();
        let empty = shaped.fill_time();
        assert!(shaped.admits(empty, Tokens(10)));
        assert_eq!(shaped.delay(empty, Tokens(10)), Micros::from_secs(1));
        assert_eq!(shaped.delay(Micros(300_000), Tokens(5)), Micros::ZERO);
        let queue_is_full = empty.plus(Micros::from_secs(1));
        assert!(!shaped.admits(queue_is_full, Tokens(1)));
        assert_eq!(shaped.retry_after(queue_is_full, Tokens(1)), Some(Micros(100_000)));
        assert_eq!(shaped.remaining(queue_is_full), Tokens(0));
    }

    #[test]
    fn holding_does_not_help_a_cost_above_the_capacity() {
        let shaped = bucket(10, 10, Micros::from_secs(1)).unwrap().with_max_delay(Micros::from_secs(60)).unwrap();
        assert!(!shaped.admits(Micros::ZERO, Tokens(11)));
        assert_eq!(shaped.retry_after(Micros::ZERO, Tokens(11)), None);
    }

    #[test]
    fn a_delay_beyond_lua_is_refused() {
        let ten = bucket(10, 10, Micros::from_secs(1)).unwrap();
        assert!(matches!(ten.with_max_delay(Micros(1 << 52)), Err(TokenBucketError::TooLong { .. })));
        assert!(ten.with_max_delay(Micros(u64::MAX)).is_err());
    }

    type Governor = RateLimiter<NotKeyed, InMemoryState, FakeRelativeClock, NoOpMiddleware<Nanos>>;

    proptest! {
        /// The same histories, decided by governor's GCRA, which was written by others from the same definition.
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

            let mut lack = Micros::ZERO;
            for (pause, cost) in history {
                clock.advance(Duration::from_micros(pause));
                lack = lack.minus(Micros(pause));
                let theirs = matches!(oracle.check_n(NonZeroU32::new(cost).unwrap()), Ok(Ok(())));
                let cost = Tokens(cost.into());
                prop_assert_eq!(ours.admits(lack, cost), theirs);
                if theirs {
                    lack = lack.plus(ours.price(cost));
                }
            }
        }

        /// However requests come, what goes on from a shaped bucket within any window keeps to the rate.
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
    }
}

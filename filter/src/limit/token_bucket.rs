//! The token bucket as a generic cell rate algorithm (GCRA, ITU-T I.371): instead of a token count, a bucket
//! keeps one instant, the *theoretical arrival time* (TAT) at which it would be full again.
//!
//! This is the specification; `token_bucket.lua` beside it is what Redis runs.

use std::num::NonZeroU64;

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
        Ok(Self { capacity: max_tokens, emission })
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

    /// What `cost` tokens are worth in time. One emission more than [`fill_time`](Self::fill_time) where
    /// `cost` exceeds the capacity, however far: such a request is never admitted.
    #[must_use]
    pub fn price(&self, cost: Tokens) -> Micros {
        self.emission().times(cost.0.min(self.capacity.get().saturating_add(1)))
    }

    /// Whether a bucket that lacks `lack` of being full admits a request of `cost` tokens.
    ///
    /// `lack` is how far the TAT lies ahead of now: zero for a full bucket, `fill_time` for an empty one.
    #[must_use]
    pub fn admits(&self, lack: Micros, cost: Tokens) -> bool {
        lack.plus(self.price(cost)) <= self.fill_time()
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
        (cost <= self.capacity()).then(|| lack.plus(self.price(cost)).minus(self.fill_time()))
    }
}

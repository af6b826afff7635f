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

use super::arguments::{Arguments, signed};
use super::bounds::TokenBucketError;
use super::decision::{BucketDecision, Level};
use super::rate::{Rate, Units};
use crate::units::{Micros, Tokens};

/// Token bucket: its capacity, its rate and its longest delay. The bucket's state is in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    capacity: NonZeroU64,
    /// The configured rate, or the nearest slower rate that Lua can count.
    rate: Rate,
    max_delay: Micros,
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

    /// Returns the bucket of a script's arguments, which delays no requests: the units of a token, the units that flow in
    /// per µs, and the units of a full bucket. `None` where one of them is zero.
    #[cfg(not(target_arch = "wasm32"))]
    pub(in crate::limit) fn of_units(per_token: u64, per_micro: u64, full: u64) -> Option<Self> {
        let rate = Rate::of_units(per_token, per_micro)?;
        let capacity = NonZeroU64::new(full.checked_div(per_token)?)?;
        Some(Self { capacity, rate, max_delay: Micros::ZERO })
    }

    /// Returns a bucket of another capacity and rate, with the same longest delay. `None` where an empty bucket would
    /// take over 2⁵² µs to fill.
    pub(in crate::limit) fn resized(self, capacity: NonZeroU64, rate: Rate) -> Option<Self> {
        let rate = rate.countable(Tokens(capacity.get()), self.max_delay)?;
        Some(Self { capacity, rate, ..self })
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
    pub(in crate::limit) fn full(&self) -> Units {
        Units(self.capacity.get().wrapping_mul(self.rate.per_token()))
    }

    pub(super) fn arguments(&self, cost: Tokens) -> Arguments {
        let [Units(price), Units(room)] = [self.price(cost), self.room()];
        Arguments { letter: "t", cost: price, limit: room, more: [self.unit(), signed(self.rate.per_micro())] }
    }

    /// Units of a token as scripts take them: negated where the bucket delays requests.
    pub(in crate::limit) fn unit(&self) -> i64 {
        let unit = signed(self.rate.per_token());
        if self.max_delay > Micros::ZERO { unit.wrapping_neg() } else { unit }
    }

    /// Level of a bucket that lacks `lack`.
    pub(super) fn level(&self, lack: Units) -> Level {
        Level { remaining: self.remaining(lack), reset: self.rate.time_for(lack) }
    }

    pub(in crate::limit) fn decide(&self, lack: Units, cost: Tokens) -> BucketDecision {
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
            held: Tokens(0),
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests;

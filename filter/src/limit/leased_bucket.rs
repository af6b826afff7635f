//! The leased token bucket: a worker takes several tokens at once and serves later requests from memory.
//!
//! Time is cut into epochs of a lease's length, by Redis' clock. A lease of one epoch is good until the next one
//! ends, and then ends *as if it had been used up just then*, unless its worker has *settled* it before: has said how
//! much of it was used, and how much comes back. A bucket's [state](super::bucket_state) has what is spent, and beside it
//! what is leased and until when. Buckets of which nothing is leased read it as well: what is leased is spent.
//!
//! Why it never admits more than `capacity + window / emission` within any window, although leased tokens are used
//! later than they are taken, and the bucket fills meanwhile: what is out is *lacking*, however long it is out. So
//! let `A` be what an empty-handed observer who sees every use at once would find available, in the bucket and in
//! leases together: the capacity, less what is spent, less what was used of leases and Redis does not know of. `A` is
//! never above the capacity. It is never below zero, as nothing is spent or leased but of what all that is spent and
//! out leave free. It grows at the bucket's rate at most. A use makes it less by its price at once; to settle that use,
//! or to let the lease end, moves the price to what is spent and changes nothing, or makes it less where nothing had
//! been used. So what is used between two instants is at most `A` at the first, and what it grew by since.
//!
//! That needs workers that tell the truth once: one that does not know whether its word arrived must not repeat it,
//! but let the lease end. What exceeds a lease is taken for used first. It also needs a clock that is not set; one
//! that is set back leaves everything as it is, from now on.
//!
//! This is the specification; `leased_bucket.lua` beside it is what Redis runs.

use alloc::string::{String, ToString};
use core::fmt::Write;
use core::num::NonZeroU64;

use super::algorithm::{AlgorithmError, Arguments, Seen};
use super::bucket_state::{BucketState, OpenBucket};
use super::judgement::Judgement;
use super::rate::{MOST_UNITS, Units};
use super::token_bucket::TokenBucket;
use crate::units::{Micros, Tokens};

const MIN_TTL: Micros = Micros::from_millis(100);
const MAX_TTL: Micros = Micros::from_secs(60);
/// The most leases of one bucket that end at different times: more than two are of configurations that differ.
const MAX_LEASES: usize = 8;

/// A token bucket of which workers may take tokens ahead, and what a worker asks of it besides its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeasedBucket {
    bucket: TokenBucket,
    ttl: NonZeroU64,
    ask: LeaseAsk,
}

/// What a worker asks besides its request. By default nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeaseAsk {
    /// How many tokens it would take ahead. It is granted at most half of what is free after the request, and only
    /// with a request that goes on; one may cost nothing.
    pub want: Tokens,
    /// What becomes of tokens that it took before, in whatever order. Heard even with a request that is denied.
    pub settled: [Settled; 2],
}

/// What became of leased tokens that end at one time. All zero: of none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    /// The [grant's](Grant::ends). Where that has passed, nobody listens.
    pub ends: Micros,
    /// So many were used since they were granted. Each must be told once.
    pub used: Tokens,
    /// So many come back, and will never be used.
    pub unused: Tokens,
}

/// Tokens that were taken ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// How many, ≥ 1.
    pub tokens: Tokens,
    /// When they end by Redis' clock, by which they are to be [settled](Settled).
    pub ends: Micros,
    /// How long they may be used, from Redis' now: more than one epoch, and two at most. As nobody knows how
    /// long the reply took, a worker counts from before it asked.
    pub valid_for: Micros,
}

impl LeasedBucket {
    /// That bucket, with leases of `ttl`: each is good for more than that, and for twice that at most.
    ///
    /// # Errors
    /// Where `ttl` is not within 0.1 to 60 s, or where the bucket holds requests until their tokens exist.
    pub fn new(bucket: TokenBucket, ttl: Micros) -> Result<Self, AlgorithmError> {
        let within = if (MIN_TTL..=MAX_TTL).contains(&ttl) { NonZeroU64::new(ttl.0) } else { None };
        let nonzero = within.ok_or(AlgorithmError::Lease { min: MIN_TTL, max: MAX_TTL, found: ttl })?;
        if bucket.max_delay() > Micros::ZERO {
            return Err(AlgorithmError::LeasedAndHeld { found: bucket.max_delay() });
        }
        Ok(Self { bucket, ttl: nonzero, ask: LeaseAsk::default() })
    }

    /// What is leased from.
    #[must_use]
    pub fn bucket(&self) -> &TokenBucket {
        &self.bucket
    }

    /// How long a lease is good for, at least: the length of an epoch. 0.1 to 60 s.
    #[must_use]
    pub fn ttl(&self) -> Micros {
        Micros(self.ttl.get())
    }

    /// The same bucket, of which a worker asks this besides.
    #[must_use]
    pub fn asking(self, ask: LeaseAsk) -> Self {
        Self { ask, ..self }
    }

    /// What a worker asks besides.
    #[must_use]
    pub fn asks_for(&self) -> LeaseAsk {
        self.ask
    }

    /// What Redis does before it decides: settles what is settled. Says what the bucket lacks of being full, what is
    /// out included; how many tokens are granted, if the request goes on; and when they would end.
    pub(super) fn look(&self, state: &mut Option<BucketState>, now: Micros, cost: Tokens) -> Seen {
        let open = BucketState::open(state.as_ref(), now, &self.bucket, &self.ask.settled);
        let (lack, granted) = (open.lack(), self.grants(&open, cost));
        if let Some(changed) = open.changed() {
            *state = Some(changed);
        }
        Seen { used: lack.0, more: [granted.0, self.ends(now).0] }
    }

    /// What Redis does after [`look`](Self::look) where the request goes on, and costs or is granted something.
    pub(super) fn spend(&self, state: &mut Option<BucketState>, now: Micros, cost: Tokens) {
        let open = BucketState::open(state.as_ref(), now, &self.bucket, &[]);
        let granted = self.grants(&open, cost);
        let leased = (granted > Tokens(0)).then(|| (self.ends(now), self.bucket.rate().units(granted)));
        *state = Some(open.spend(self.bucket.price(cost), leased));
    }

    pub(super) fn arguments(&self, cost: Tokens) -> Arguments {
        Arguments { letter: "b", ..self.bucket.arguments(cost) }
    }

    /// The last of its arguments of the mixed script, which is no number.
    pub(super) fn asks(&self) -> String {
        let rate = self.bucket.rate();
        let mut asks = [rate.per_micro(), self.ttl.get(), self.ask.want.0].map(|n| n.to_string()).join(" ");
        // Nobody holds more, and so Lua can count it.
        let most = Tokens(MOST_UNITS.checked_div(rate.per_token()).unwrap_or(0));
        for Settled { ends, used, unused } in self.ask.settled {
            if used.max(unused) > Tokens(0) {
                let [used, unused] = [used, unused].map(|tokens| tokens.min(most).0);
                _ = write!(asks, " {} {used} {unused}", ends.0);
            }
        }
        asks
    }

    pub(super) fn judge(&self, now: Micros, seen: Seen, cost: Tokens) -> Judgement {
        let (lack, [granted, ends]) = (Units(seen.used), seen.more);
        let after = self.bucket.lack_after(lack, cost).0.saturating_add(self.bucket.rate().units(Tokens(granted)).0);
        let grant = Grant { tokens: Tokens(granted), ends: Micros(ends), valid_for: Micros(ends).minus(now) };
        Judgement {
            after: self.bucket.level(Units(after)),
            granted: (granted > 0).then_some(grant),
            ..self.bucket.judge(lack, cost)
        }
    }

    /// How many tokens a worker is granted besides a request: at most half of those that it leaves.
    fn grants(&self, open: &OpenBucket, cost: Tokens) -> Tokens {
        if open.leases() >= MAX_LEASES {
            return Tokens(0);
        }
        let free = self.bucket.full().0.saturating_sub(self.bucket.lack_after(open.lack(), cost).0);
        let whole = free.checked_div(self.bucket.rate().units(Tokens(2)).0).unwrap_or(0);
        self.ask.want.min(Tokens(whole))
    }

    /// When tokens end that are granted now.
    fn ends(&self, now: Micros) -> Micros {
        self.ttl().times((now.0 / self.ttl).saturating_add(2))
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    const SECOND: Micros = Micros::from_secs(1);

    /// `capacity` tokens, one a second, leased for ten.
    fn leased(capacity: u64) -> LeasedBucket {
        LeasedBucket::new(bucket(capacity), Micros::from_secs(10)).unwrap()
    }

    fn bucket(capacity: u64) -> TokenBucket {
        TokenBucket::new(NonZeroU64::new(capacity).unwrap(), NonZeroU64::MIN, SECOND).unwrap()
    }

    fn wanting(want: u64) -> LeaseAsk {
        LeaseAsk { want: Tokens(want), ..LeaseAsk::default() }
    }

    /// Of a lease that was taken in that epoch.
    fn settling(epoch: u64, used: u64, unused: u64) -> LeaseAsk {
        let ends = Micros::from_secs(10 * (epoch + 2));
        let settled = Settled { ends, used: Tokens(used), unused: Tokens(unused) };
        LeaseAsk { want: Tokens(0), settled: [settled, Settled::default()] }
    }

    /// Looks and spends `secs` after the beginning of the epoch 100. What was lacking, and what is granted.
    fn ask(leased: &LeasedBucket, state: &mut Option<BucketState>, secs: u64, cost: u64) -> (u64, Option<Grant>) {
        let now = Micros::from_secs(1_000 + secs);
        let seen = leased.look(state, now, Tokens(cost));
        let judgement = leased.judge(now, seen, Tokens(cost));
        if judgement.admits && (cost > 0 || judgement.granted.is_some()) {
            leased.spend(state, now, Tokens(cost));
        }
        (seen.used / SECOND.0, judgement.granted)
    }

    #[test]
    fn leases_that_end_too_soon_or_too_late_and_buckets_that_hold_requests_are_refused() {
        let said = |bucket, ttl| LeasedBucket::new(bucket, ttl).unwrap_err().to_string();
        assert_eq!(said(bucket(9), Micros(99_999)), "expected a lease of 100000 to 60000000 µs, found 99999 µs");
        assert!(LeasedBucket::new(bucket(9), Micros::from_secs(61)).is_err());
        let held = bucket(9).with_max_delay(SECOND).unwrap();
        assert_eq!(said(held, SECOND), "expected no delay where tokens are leased, found 1000000 µs");
    }

    #[test]
    fn at_most_half_of_what_a_request_leaves_is_granted() {
        for (want, cost, granted) in [(9, 0, 5), (3, 0, 3), (9, 1, 4), (9, 2, 4), (9, 9, 0), (9, 11, 0)] {
            let (_, grant) = ask(&leased(10).asking(wanting(want)), &mut None, 3, cost);
            assert_eq!(grant.map_or(0, |grant| grant.tokens.0), granted, "{want} wanted, {cost} spent");
        }
        let (_, grant) = ask(&leased(10).asking(wanting(9)), &mut None, 3, 0);
        assert_eq!(
            grant,
            Some(Grant { tokens: Tokens(5), ends: Micros::from_secs(1_020), valid_for: Micros::from_secs(17) })
        );
    }

    #[test]
    fn what_is_out_does_not_fill_in_again_until_it_is_settled_or_ends() {
        let (plain, mut state) = (leased(10), None);
        ask(&plain.asking(wanting(4)), &mut state, 0, 2);
        let lacks = |state: &mut Option<BucketState>, secs| ask(&plain, state, secs, 0).0;
        assert_eq!([1, 2, 19].map(|secs| lacks(&mut state, secs)), [5, 4, 4]);
        assert_eq!([20, 21, 24].map(|secs| lacks(&mut state, secs)), [4, 3, 0], "the epoch after it is over");
    }

    #[test]
    fn what_was_used_fills_in_from_when_it_is_settled_and_the_rest_is_back_at_once() {
        let (plain, mut state) = (leased(10), None);
        ask(&plain.asking(wanting(5)), &mut state, 0, 0);
        ask(&plain.asking(settling(100, 2, 1)), &mut state, 12, 0);
        assert_eq!(ask(&plain, &mut state, 12, 0).0, 4, "two that were used, two that are out");
        assert_eq!(ask(&plain, &mut state, 14, 0).0, 2);
        ask(&plain.asking(settling(101, 0, 2)), &mut state, 14, 0);
        ask(&plain.asking(settling(99, 0, 2)), &mut state, 14, 0);
        assert_eq!(ask(&plain, &mut state, 14, 0).0, 2, "nothing was leased then");
        ask(&plain.asking(settling(100, 9, 9)), &mut state, 14, 0);
        assert_eq!(ask(&plain, &mut state, 14, 0).0, 2, "what is too much is taken for used first");
        assert_eq!(ask(&plain, &mut state, 16, 0).0, 0);
    }

    #[test]
    fn a_limit_that_was_larger_leaves_an_empty_bucket_that_fills_when_its_leases_end() {
        let mut state = None;
        ask(&leased(100).asking(wanting(50)), &mut state, 0, 40);
        let smaller = leased(10);
        let now = Micros::from_secs(1_001);
        let seen = smaller.look(&mut state, now, Tokens(1));
        let judgement = smaller.judge(now, seen, Tokens(1));
        assert_eq!((judgement.admits, judgement.before.remaining), (false, Tokens(0)));
        assert_eq!(judgement.retry_after, Some(SECOND));
        assert_eq!(ask(&smaller, &mut state, 20, 0).0, 10);
        assert_eq!(ask(&smaller, &mut state, 21, 0).0, 9);
    }

    #[test]
    fn what_is_leased_is_as_many_tokens_at_another_rate() {
        let mut state = None;
        ask(&leased(40).asking(wanting(10)), &mut state, 0, 0);
        let faster = TokenBucket::new(NonZeroU64::new(40).unwrap(), NonZeroU64::new(2).unwrap(), SECOND).unwrap();
        let faster = LeasedBucket::new(faster, Micros::from_secs(10)).unwrap();
        let now = Micros::from_secs(1_000);
        let seen = faster.look(&mut state, now, Tokens(1));
        assert_eq!(faster.judge(now, seen, Tokens(1)).before.remaining, Tokens(30));
    }

    #[test]
    fn leases_of_different_lengths_end_one_after_the_other() {
        let (longer, mut state) = (leased(20), None);
        let shorter = LeasedBucket::new(bucket(20), SECOND).unwrap();
        ask(&longer.asking(wanting(5)), &mut state, 0, 0);
        ask(&shorter.asking(wanting(2)), &mut state, 0, 0);
        // The 2 tokens are back at 4 s, and 4 of the 5 that are spent at 20 s are still lacking at 21 s.
        assert_eq!(ask(&longer, &mut state, 21, 0).0, 4);
    }

    #[test]
    fn only_what_is_settled_is_sent() {
        assert_eq!(leased(10).asks(), "1 10000000 0");
        assert_eq!(leased(10).asking(wanting(7)).asks(), "1 10000000 7");
        assert_eq!(leased(10).asking(settling(179, 3, 0)).asks(), "1 10000000 0 1810000000 3 0");
    }
}

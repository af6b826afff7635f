//! Leased token bucket: a worker leases several tokens at once and admits later requests from memory.
//!
//! Redis' clock is divided into epochs of a lease's length. A lease of one epoch is valid until the next epoch ends,
//! and then ends *as if all its tokens were used at that time*, unless its worker has *settled* it before: has reported
//! the tokens used and the tokens returned. A bucket's [state](super::token_state) has the units spent, and beside them
//! the units leased and the ends of their leases. Token buckets without leases read that state too: leased tokens are
//! spent.
//!
//! Why the bucket never admits more than `capacity + window / emission` within any window, although leased tokens are
//! used later than they are taken, and the bucket fills meanwhile: leased tokens are *lacking* as long as the lease
//! lasts. Let `A` be the tokens available in the bucket and in leases together, if every use were known at once: the
//! capacity, less the tokens spent, less the leased tokens whose use Redis does not know of. `A` is never above the
//! capacity. `A` is never below zero, as only tokens that are neither spent nor leased can be spent or leased. `A`
//! grows at most at the bucket's rate. A use reduces `A` by its price at once; to settle that use, or to let the lease
//! end, moves the price to the tokens spent, which leaves `A` as it is, or reduces it where tokens were unused. So the
//! tokens used between two instants are at most `A` at the first instant plus its growth since.
//!
//! The proof needs workers that report each use once: a worker that does not know whether a report arrived must not
//! repeat it, but let the lease end. If a report exceeds its lease, used tokens count first. The proof also needs a
//! clock that is not set; if the clock is set back, the state counts from the new time on, unchanged.
//!
//! This is the specification; Redis runs `leased_bucket.lua` beside it.

use alloc::string::{String, ToString};
use core::fmt::Write;
use core::num::NonZeroU64;

use super::arguments::Arguments;
use super::bounds::{AlgorithmError, MAX_LEASE_TTL, MIN_LEASE_TTL};
use super::decision::{BucketDecision, BucketState};
use super::lease::{Grant, LeaseRequest, Settlement};
use super::rate::{MOST_UNITS, Units};
use super::token_bucket::TokenBucket;
use super::token_state::{OpenBucket, TokenState};
use crate::units::{Micros, Tokens};

/// Most leases of one bucket with different ends: more than two come from configurations that differ.
const MAX_LEASES: usize = 8;

/// Token bucket of which workers may lease tokens ahead, with a worker's lease request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeasedBucket {
    bucket: TokenBucket,
    ttl: NonZeroU64,
    request: LeaseRequest,
}

impl LeasedBucket {
    /// Returns `bucket` with leases of `ttl`: each is valid for more than `ttl`, and for at most twice `ttl`.
    ///
    /// # Errors
    /// Where `ttl` is not within 0.1 to 60 s, or where the bucket holds requests until their tokens exist.
    pub fn new(bucket: TokenBucket, ttl: Micros) -> Result<Self, AlgorithmError> {
        let within = if (MIN_LEASE_TTL..=MAX_LEASE_TTL).contains(&ttl) { NonZeroU64::new(ttl.0) } else { None };
        let nonzero = within.ok_or(AlgorithmError::Lease { min: MIN_LEASE_TTL, max: MAX_LEASE_TTL, found: ttl })?;
        if bucket.max_delay() > Micros::ZERO {
            return Err(AlgorithmError::LeasedAndHeld { found: bucket.max_delay() });
        }
        Ok(Self { bucket, ttl: nonzero, request: LeaseRequest::default() })
    }

    /// Reads a leased bucket from a script's arguments: the units of a token, the room in units, and
    /// [`lease_argument`](Self::lease_argument). `None` where they are of no leased bucket.
    #[cfg(not(target_arch = "wasm32"))]
    pub(in crate::limit) fn of_arguments(unit: u64, room: u64, argument: &str) -> Option<Self> {
        let numbers = argument.split(' ').map(str::parse).collect::<Result<alloc::vec::Vec<u64>, _>>().ok()?;
        let [per_micro, ttl, want, settled @ ..] = numbers.as_slice() else { return None };
        let mut request = LeaseRequest { want: Tokens(*want), ..LeaseRequest::default() };
        for (place, numbers) in request.settled.iter_mut().zip(settled.chunks(3)) {
            let [ends, used, unused] = *numbers else { return None };
            *place = Settlement { ends: Micros(ends), used: Tokens(used), unused: Tokens(unused) };
        }
        let bucket = TokenBucket::of_units(unit, *per_micro, room)?;
        Some(Self { bucket, ttl: NonZeroU64::new(*ttl)?, request })
    }

    /// The token bucket from which tokens are leased.
    #[must_use]
    pub fn bucket(&self) -> &TokenBucket {
        &self.bucket
    }

    /// Shortest time for which a lease is valid: the length of an epoch, 0.1 to 60 s.
    #[must_use]
    pub fn ttl(&self) -> Micros {
        Micros(self.ttl.get())
    }

    /// The same bucket, with a worker's lease request.
    #[must_use]
    pub fn with_request(self, request: LeaseRequest) -> Self {
        Self { request, ..self }
    }

    /// The worker's lease request.
    #[must_use]
    pub fn request(&self) -> LeaseRequest {
        self.request
    }

    /// Reads the state before the decision, as Redis does, and applies the settlements. Returns the units that the
    /// bucket lacks of being full, leased units included; the tokens granted if the request goes on; and the end of
    /// that lease.
    pub(in crate::limit) fn look(&self, state: &mut Option<TokenState>, now: Micros, cost: Tokens) -> BucketState {
        let open = TokenState::open(state.as_ref(), now, &self.bucket.shape(), &self.request.settled);
        let (lack, granted) = (open.lack(), self.grants(&open, cost));
        if let Some(changed) = open.changed() {
            *state = Some(changed);
        }
        BucketState { used: lack.0, more: [granted.0, self.ends(now).0] }
    }

    /// Spends `cost` and leases the grant, as Redis does after [`look`](Self::look), where the request goes on and one
    /// of them is not zero.
    pub(in crate::limit) fn spend(&self, state: &mut Option<TokenState>, now: Micros, cost: Tokens) {
        let open = TokenState::open(state.as_ref(), now, &self.bucket.shape(), &[]);
        let granted = self.grants(&open, cost);
        let leased = (granted > Tokens(0)).then(|| (self.ends(now), self.bucket.rate().units(granted)));
        *state = Some(open.spend(self.bucket.price(cost), leased));
    }

    pub(super) fn arguments(&self, cost: Tokens) -> Arguments {
        Arguments { letter: "b", ..self.bucket.arguments(cost) }
    }

    /// Last of the bucket's arguments of the mixed script, a string: units per µs, epoch and tokens wanted, then the
    /// settlements.
    pub(in crate::limit) fn lease_argument(&self) -> String {
        let rate = self.bucket.rate();
        let mut argument = [rate.per_micro(), self.ttl.get(), self.request.want.0].map(|n| n.to_string()).join(" ");
        // No worker has more tokens, and Lua can count their units.
        let most = Tokens(MOST_UNITS.checked_div(rate.per_token()).unwrap_or(0));
        for Settlement { ends, used, unused } in self.request.settled {
            if used.max(unused) > Tokens(0) {
                let [used, unused] = [used, unused].map(|tokens| tokens.min(most).0);
                _ = write!(argument, " {} {used} {unused}", ends.0);
            }
        }
        argument
    }

    pub(super) fn decide(&self, now: Micros, state: BucketState, cost: Tokens) -> BucketDecision {
        let (lack, [granted, ends]) = (Units(state.used), state.more);
        let after = self.bucket.lack_after(lack, cost).0.saturating_add(self.bucket.rate().units(Tokens(granted)).0);
        let grant = Grant { tokens: Tokens(granted), ends: Micros(ends), valid_for: Micros(ends).minus(now) };
        BucketDecision {
            after: self.bucket.level(Units(after)),
            granted: (granted > 0).then_some(grant),
            ..self.bucket.decide(lack, cost)
        }
    }

    /// Tokens granted to the worker beside a request of `cost` tokens: at most half of the tokens that it leaves.
    fn grants(&self, open: &OpenBucket, cost: Tokens) -> Tokens {
        if open.leases() >= MAX_LEASES {
            return Tokens(0);
        }
        let free = self.bucket.full().0.saturating_sub(self.bucket.lack_after(open.lack(), cost).0);
        let whole = free.checked_div(self.bucket.rate().units(Tokens(2)).0).unwrap_or(0);
        self.request.want.min(Tokens(whole))
    }

    /// End of a lease that is granted now.
    fn ends(&self, now: Micros) -> Micros {
        self.ttl().times((now.0 / self.ttl).saturating_add(2))
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    const SECOND: Micros = Micros::from_secs(1);

    /// Bucket of `capacity` tokens, 1 a second, with leases of 10 s.
    fn leased(capacity: u64) -> LeasedBucket {
        LeasedBucket::new(bucket(capacity), Micros::from_secs(10)).unwrap()
    }

    fn bucket(capacity: u64) -> TokenBucket {
        TokenBucket::new(NonZeroU64::new(capacity).unwrap(), NonZeroU64::MIN, SECOND).unwrap()
    }

    fn wanting(want: u64) -> LeaseRequest {
        LeaseRequest { want: Tokens(want), ..LeaseRequest::default() }
    }

    /// Settlement of a lease that was granted in `epoch`.
    fn settling(epoch: u64, used: u64, unused: u64) -> LeaseRequest {
        let ends = Micros::from_secs(10 * (epoch + 2));
        let settled = Settlement { ends, used: Tokens(used), unused: Tokens(unused) };
        LeaseRequest { want: Tokens(0), settled: [settled, Settlement::default()] }
    }

    /// Decides a request `secs` after the beginning of epoch 100, and spends. Returns the tokens lacking before, and
    /// the grant.
    fn decide(leased: &LeasedBucket, state: &mut Option<TokenState>, secs: u64, cost: u64) -> (u64, Option<Grant>) {
        let now = Micros::from_secs(1_000 + secs);
        let before = leased.look(state, now, Tokens(cost));
        let decision = leased.decide(now, before, Tokens(cost));
        if decision.admits && (cost > 0 || decision.granted.is_some()) {
            leased.spend(state, now, Tokens(cost));
        }
        (before.used / SECOND.0, decision.granted)
    }

    #[test]
    fn leases_that_end_too_soon_or_too_late_and_buckets_that_hold_requests_are_refused() {
        let error = |bucket, ttl| LeasedBucket::new(bucket, ttl).unwrap_err().to_string();
        assert_eq!(error(bucket(9), Micros(99_999)), "expected a lease of 100000 to 60000000 µs, found 99999 µs");
        assert!(LeasedBucket::new(bucket(9), Micros::from_secs(61)).is_err());
        let held = bucket(9).with_max_delay(SECOND).unwrap();
        assert_eq!(error(held, SECOND), "expected no delay where tokens are leased, found 1000000 µs");
    }

    #[test]
    fn at_most_half_of_what_a_request_leaves_is_granted() {
        for (want, cost, granted) in [(9, 0, 5), (3, 0, 3), (9, 1, 4), (9, 2, 4), (9, 9, 0), (9, 11, 0)] {
            let (_, grant) = decide(&leased(10).with_request(wanting(want)), &mut None, 3, cost);
            assert_eq!(grant.map_or(0, |grant| grant.tokens.0), granted, "{want} wanted, {cost} spent");
        }
        let (_, grant) = decide(&leased(10).with_request(wanting(9)), &mut None, 3, 0);
        assert_eq!(
            grant,
            Some(Grant { tokens: Tokens(5), ends: Micros::from_secs(1_020), valid_for: Micros::from_secs(17) })
        );
    }

    #[test]
    fn leased_tokens_do_not_flow_back_until_the_lease_is_settled_or_ends() {
        let (plain, mut state) = (leased(10), None);
        decide(&plain.with_request(wanting(4)), &mut state, 0, 2);
        let lacks = |state: &mut Option<TokenState>, secs| decide(&plain, state, secs, 0).0;
        assert_eq!([1, 2, 19].map(|secs| lacks(&mut state, secs)), [5, 4, 4]);
        assert_eq!([20, 21, 24].map(|secs| lacks(&mut state, secs)), [4, 3, 0], "the next epoch is over");
    }

    #[test]
    fn used_tokens_flow_back_from_their_settlement_on_and_unused_tokens_are_back_at_once() {
        let (plain, mut state) = (leased(10), None);
        decide(&plain.with_request(wanting(5)), &mut state, 0, 0);
        decide(&plain.with_request(settling(100, 2, 1)), &mut state, 12, 0);
        assert_eq!(decide(&plain, &mut state, 12, 0).0, 4, "two used, two leased");
        assert_eq!(decide(&plain, &mut state, 14, 0).0, 2);
        decide(&plain.with_request(settling(101, 0, 2)), &mut state, 14, 0);
        decide(&plain.with_request(settling(99, 0, 2)), &mut state, 14, 0);
        assert_eq!(decide(&plain, &mut state, 14, 0).0, 2, "no lease of that epoch");
        decide(&plain.with_request(settling(100, 9, 9)), &mut state, 14, 0);
        assert_eq!(decide(&plain, &mut state, 14, 0).0, 2, "used tokens count first");
        assert_eq!(decide(&plain, &mut state, 16, 0).0, 0);
    }

    #[test]
    fn a_limit_that_was_larger_leaves_an_empty_bucket_that_fills_when_its_leases_end() {
        let mut state = None;
        decide(&leased(100).with_request(wanting(50)), &mut state, 0, 40);
        let smaller = leased(10);
        let now = Micros::from_secs(1_001);
        let before = smaller.look(&mut state, now, Tokens(1));
        let decision = smaller.decide(now, before, Tokens(1));
        assert_eq!((decision.admits, decision.before.remaining), (false, Tokens(0)));
        assert_eq!(decision.retry_after, Some(SECOND));
        assert_eq!(decide(&smaller, &mut state, 20, 0).0, 10);
        assert_eq!(decide(&smaller, &mut state, 21, 0).0, 9);
    }

    #[test]
    fn what_is_leased_is_as_many_tokens_at_another_rate() {
        let mut state = None;
        decide(&leased(40).with_request(wanting(10)), &mut state, 0, 0);
        let faster = TokenBucket::new(NonZeroU64::new(40).unwrap(), NonZeroU64::new(2).unwrap(), SECOND).unwrap();
        let faster = LeasedBucket::new(faster, Micros::from_secs(10)).unwrap();
        let now = Micros::from_secs(1_000);
        let seen = faster.look(&mut state, now, Tokens(1));
        assert_eq!(faster.decide(now, seen, Tokens(1)).before.remaining, Tokens(30));
    }

    #[test]
    fn leases_of_different_lengths_end_one_after_the_other() {
        let (longer, mut state) = (leased(20), None);
        let shorter = LeasedBucket::new(bucket(20), SECOND).unwrap();
        decide(&longer.with_request(wanting(5)), &mut state, 0, 0);
        decide(&shorter.with_request(wanting(2)), &mut state, 0, 0);
        // The 2 tokens are back at 4 s, and 4 of the 5 that are spent at 20 s are still lacking at 21 s.
        assert_eq!(decide(&longer, &mut state, 21, 0).0, 4);
    }

    #[test]
    fn the_model_of_the_scripts_reads_a_lease_from_its_arguments() {
        let own = leased(10).with_request(LeaseRequest { want: Tokens(7), ..settling(179, 3, 2) });
        let arguments = own.arguments(Tokens(1));
        assert_eq!(arguments.letter, "b");
        let per_token = own.bucket.rate().per_token();
        assert_eq!(LeasedBucket::of_arguments(per_token, own.bucket.full().0, &own.lease_argument()), Some(own));
    }

    #[test]
    fn a_request_leaves_what_neither_it_nor_the_worker_has() {
        let wanting = leased(10).with_request(wanting(9));
        let now = Micros::from_secs(1_003);
        let seen = wanting.look(&mut None, now, Tokens(1));
        assert_eq!(wanting.decide(now, seen, Tokens(1)).after.remaining, Tokens(5));
    }

    #[test]
    fn empty_settlements_are_not_sent() {
        assert_eq!(leased(10).lease_argument(), "1 10000000 0");
        assert_eq!(leased(10).with_request(wanting(7)).lease_argument(), "1 10000000 7");
        assert_eq!(leased(10).with_request(settling(179, 3, 0)).lease_argument(), "1 10000000 0 1810000000 3 0");
    }

    #[test]
    fn a_request_that_leaves_no_token_to_lease_gets_no_grant() {
        assert_eq!(decide(&leased(10).with_request(wanting(9)), &mut None, 3, 9).1, None);
        assert_eq!(decide(&leased(10), &mut None, 3, 1).1, None, "none is wanted");
    }

    #[test]
    fn grants_of_one_epoch_are_one_lease() {
        let (wants_one, mut state) = (leased(100).with_request(wanting(1)), None);
        for nth in 1..=2 * MAX_LEASES {
            let granted = decide(&wants_one, &mut state, 0, 0).1.map(|grant| grant.tokens);
            assert_eq!(granted, Some(Tokens(1)), "grant {nth}");
        }
    }

    #[test]
    fn a_bucket_has_leases_of_at_most_eight_ends() {
        let mut state = None;
        let mut granted = |secs| {
            let leased = LeasedBucket::new(bucket(100), Micros::from_secs(secs)).unwrap().with_request(wanting(1));
            decide(&leased, &mut state, 0, 0).1.is_some()
        };
        assert_eq!([1, 2, 3, 4, 5, 8, 9, 10].map(&mut granted), [true; MAX_LEASES]);
        assert!(!granted(11), "1,012 s is a ninth end");
    }
}

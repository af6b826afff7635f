//! What the scripts do to what Redis keeps: the specification that they are held against.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::algorithm::{Algorithm, BucketState};
use super::check::{BucketCheck, Check};
use super::concurrency::Leases;
use super::fixed_window::Counted;
use super::held_slots::{HeldSlots, SlotOwner};
use super::sliding_log::Log;
use super::sliding_window::Weighted;
use super::token_state::TokenState;
use super::verdict::Verdict;
use crate::units::Micros;

/// Buckets, kept in memory and never expired.
#[derive(Debug, Clone, Default)]
pub struct Model {
    buckets: BTreeMap<Vec<u8>, State>,
}

/// What is kept of a bucket. A key has one algorithm, so that only one of these is ever other than empty.
#[derive(Debug, Clone, Default)]
struct State {
    tokens: Option<TokenState>,
    counted: Option<Counted>,
    weighted: Option<Weighted>,
    log: Log,
    leases: Leases,
}

impl Model {
    /// Decides a request as Redis does when its clock stands at `now`.
    pub fn decide(&mut self, now: Micros, check: &Check) -> Verdict {
        let seen: Vec<BucketState> = check.buckets().map(|bucket| self.bucket(&bucket.key).look(bucket, now)).collect();
        let verdict = check.decide(now, &seen);
        for (bucket, outcome) in check.buckets().zip(&verdict.outcomes) {
            if outcome.spent || outcome.granted.is_some() {
                self.bucket(&bucket.key).spend(bucket, now, check.owner());
            }
        }
        verdict
    }

    /// What [`HeldSlots::release_call`] does. How many slots were held.
    pub fn release(&mut self, holds: &HeldSlots) -> usize {
        holds.slots().filter(|(key, lease)| self.bucket(key).leases.remove(&(holds.owner(), *lease)).is_some()).count()
    }

    /// What [`HeldSlots::renew_call`] does. How many slots are still held.
    pub fn renew(&mut self, now: Micros, holds: &HeldSlots) -> usize {
        let renewed =
            holds.slots().filter(|(key, lease)| match self.bucket(key).leases.get_mut(&(holds.owner(), *lease)) {
                Some(end) if *end > now => {
                    *end = now.plus(*lease);
                    true
                }
                _ => false,
            });
        renewed.count()
    }

    /// What [`Check::refund_call`] does. How many buckets got tokens back.
    pub fn refund(&mut self, check: &Check, verdict: &Verdict) -> usize {
        let refunded = check.buckets().zip(&verdict.outcomes).filter(|(check, outcome)| {
            let Algorithm::TokenBucket(bucket) = check.algorithm else { return false };
            let Some(state) = &mut self.bucket(&check.key).tokens else { return false };
            outcome.spent && state.refund(verdict.now, &bucket, outcome.reset, bucket.price(check.cost))
        });
        refunded.count()
    }

    fn bucket(&mut self, key: &[u8]) -> &mut State {
        self.buckets.entry(key.to_vec()).or_default()
    }
}

impl State {
    fn look(&mut self, check: &BucketCheck, now: Micros) -> BucketState {
        let only = |used| BucketState { used, more: [0, 0] };
        match &check.algorithm {
            Algorithm::TokenBucket(bucket) => only(bucket.look(&mut self.tokens, now).0),
            Algorithm::LeasedBucket(leased) => leased.look(&mut self.tokens, now, check.cost),
            Algorithm::SlidingLog(log) => log.look(&mut self.log, now, check.cost),
            Algorithm::SlidingWindow(sliding) => {
                let counts = sliding.look(&mut self.weighted, now);
                BucketState { used: sliding.used(now, counts), more: counts }
            }
            Algorithm::FixedWindow(fixed) => only(fixed.span(now).look(&mut self.counted)),
            Algorithm::Quota(quota) => only(quota.span(now).look(&mut self.counted)),
            Algorithm::Concurrency(concurrency) => only(concurrency.look(&mut self.leases, now, check.cost)),
            Algorithm::NoTokens => BucketState::default(),
        }
    }

    fn spend(&mut self, check: &BucketCheck, now: Micros, owner: SlotOwner) {
        match &check.algorithm {
            Algorithm::TokenBucket(bucket) => bucket.spend(&mut self.tokens, now, check.cost),
            Algorithm::LeasedBucket(leased) => leased.spend(&mut self.tokens, now, check.cost),
            Algorithm::SlidingLog(log) => log.spend(&mut self.log, now, check.cost),
            Algorithm::SlidingWindow(sliding) => sliding.spend(&mut self.weighted, now, check.cost),
            Algorithm::FixedWindow(fixed) => fixed.span(now).spend(&mut self.counted, check.cost),
            Algorithm::Quota(quota) => quota.span(now).spend(&mut self.counted, check.cost),
            Algorithm::Concurrency(concurrency) => concurrency.spend(&mut self.leases, now, owner),
            Algorithm::NoTokens => {}
        }
    }
}

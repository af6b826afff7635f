//! Model of Redis: the specification of the scripts, against which tests compare them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::algorithm::{Algorithm, BucketState};
use super::check::{BucketCheck, Check};
use super::concurrency::Leases;
use super::fixed_window::WindowCount;
use super::held_slots::{HeldSlots, SlotOwner};
use super::sliding_log::Log;
use super::sliding_window::WindowCounts;
use super::token_state::TokenState;
use super::verdict::Verdict;
use crate::units::Micros;

/// Buckets in memory, which never expire.
#[derive(Debug, Clone, Default)]
pub struct Model {
    buckets: BTreeMap<Vec<u8>, State>,
}

/// State of a bucket. A key has one algorithm, so that at most one of the fields is not empty.
#[derive(Debug, Clone, Default)]
struct State {
    tokens: Option<TokenState>,
    window: Option<WindowCount>,
    sliding: Option<WindowCounts>,
    log: Log,
    leases: Leases,
}

impl Model {
    /// Decides a request as Redis does at `now` by its clock.
    pub fn decide(&mut self, now: Micros, check: &Check) -> Verdict {
        let states: Vec<BucketState> =
            check.buckets().map(|bucket| self.bucket(&bucket.key).look(bucket, now)).collect();
        let verdict = check.decide(now, &states);
        for (bucket, outcome) in check.buckets().zip(&verdict.outcomes) {
            if outcome.spent || outcome.granted.is_some() {
                self.bucket(&bucket.key).spend(bucket, now, check.owner());
            }
        }
        verdict
    }

    /// Releases slots as [`HeldSlots::release_call`] does. Returns the number of slots that were held.
    pub fn release(&mut self, held: &HeldSlots) -> usize {
        held.slots().filter(|(key, lease)| self.bucket(key).leases.remove(&(held.owner(), *lease)).is_some()).count()
    }

    /// Renews slots as [`HeldSlots::renew_call`] does. Returns the number of slots that are still held.
    pub fn renew(&mut self, now: Micros, held: &HeldSlots) -> usize {
        let renewed =
            held.slots().filter(|(key, lease)| match self.bucket(key).leases.get_mut(&(held.owner(), *lease)) {
                Some(end) if *end > now => {
                    *end = now.plus(*lease);
                    true
                }
                _ => false,
            });
        renewed.count()
    }

    /// Refunds tokens as [`Check::refund_call`] does. Returns the number of buckets refunded.
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
                let counts = sliding.look(&mut self.sliding, now);
                BucketState { used: sliding.used(now, counts), more: counts }
            }
            Algorithm::FixedWindow(fixed) => only(fixed.span(now).look(&mut self.window)),
            Algorithm::Quota(quota) => only(quota.span(now).look(&mut self.window)),
            Algorithm::Concurrency(concurrency) => only(concurrency.look(&mut self.leases, now, check.cost)),
            Algorithm::NoTokens => BucketState::default(),
        }
    }

    fn spend(&mut self, check: &BucketCheck, now: Micros, owner: SlotOwner) {
        match &check.algorithm {
            Algorithm::TokenBucket(bucket) => bucket.spend(&mut self.tokens, now, check.cost),
            Algorithm::LeasedBucket(leased) => leased.spend(&mut self.tokens, now, check.cost),
            Algorithm::SlidingLog(log) => log.spend(&mut self.log, now, check.cost),
            Algorithm::SlidingWindow(sliding) => sliding.spend(&mut self.sliding, now, check.cost),
            Algorithm::FixedWindow(fixed) => fixed.span(now).spend(&mut self.window, check.cost),
            Algorithm::Quota(quota) => quota.span(now).spend(&mut self.window, check.cost),
            Algorithm::Concurrency(concurrency) => concurrency.spend(&mut self.leases, now, owner),
            Algorithm::NoTokens => {}
        }
    }
}

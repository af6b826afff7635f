//! Model of Redis: the specification of the scripts, against which tests compare them.

use alloc::collections::BTreeMap;
#[cfg(not(target_arch = "wasm32"))]
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::bucket::BucketCheck;
use super::request::Check;
use super::reservations::{Reservation, Reservations};
use super::slots::HeldSlots;
use super::verdict::Verdict;
#[cfg(not(target_arch = "wasm32"))]
use crate::limit::algorithm::Units;
use crate::limit::algorithm::{
    Algorithm, BucketState, BudgetState, Leases, Log, SettleResult, SlotOwner, TokenState, WindowCount, WindowCounts,
};

use crate::units::Micros;

/// Buckets in memory. Those that tests decide as [`Check`]s never expire.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub(super) buckets: BTreeMap<Vec<u8>, State>,
    /// Registries of workers, by key.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) registries: BTreeMap<Vec<u8>, super::heartbeat::Registry>,
    /// Times at which operators have reset buckets, by key.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) resets: BTreeMap<Vec<u8>, Micros>,
    /// Whether keys never expire.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) keeps_keys: bool,
}

/// State of a bucket. A key has one algorithm, so that at most one of the fields is not empty.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) tokens: Option<TokenState>,
    /// Time at which Redis lets a token bucket's key expire; `None` where it is not known, or keys are kept.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) expires: Option<Micros>,
    /// Times at which units or tokens were given back to the bucket, and how many.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) given: VecDeque<(Micros, Units)>,
    pub(super) window: Option<WindowCount>,
    pub(super) sliding: Option<WindowCounts>,
    pub(super) log: Log,
    pub(super) leases: Leases,
    pub(super) budget: Option<BudgetState>,
}

impl Model {
    /// Decides a request as Redis does at `now` by its clock.
    pub fn decide(&mut self, now: Micros, check: &Check) -> Verdict {
        let states: Vec<BucketState> =
            check.buckets().map(|bucket| self.bucket(&bucket.key).look(bucket, now, check.owner())).collect();
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

    /// Settles reservations as [`Reservations::settle_call`] does, by what the request has cost each of them.
    pub fn settle(
        &mut self,
        now: Micros,
        reservations: &Reservations,
        cost: &dyn Fn(usize) -> u64,
        is_unknown: bool,
    ) -> Vec<SettleResult> {
        let owner = reservations.owner();
        let mut settle = |of: &Reservation| {
            let state = &mut self.bucket(&of.key).budget;
            BudgetState::settle(state, &of.budget, now, owner, cost(of.limit), is_unknown)
        };
        reservations.as_slice().iter().map(&mut settle).collect()
    }

    /// Renews reservations as [`renew_budgets_call`](super::renew_budgets_call) does. Returns the number of open ones.
    pub fn renew_budgets(&mut self, now: Micros, reservations: &Reservations) -> usize {
        let owner = reservations.owner();
        let mut renew = |of: &&Reservation| {
            let state = self.bucket(&of.key).budget.as_mut();
            state.is_some_and(|state| state.renew(now, owner, of.budget.lease()))
        };
        reservations.as_slice().iter().filter(&mut renew).count()
    }

    /// Refunds tokens as [`Check::refund_call`] does. Returns the number of buckets refunded.
    pub fn refund(&mut self, check: &Check, verdict: &Verdict) -> usize {
        let refunded = check.buckets().zip(&verdict.outcomes).filter(|(check, outcome)| {
            let Algorithm::TokenBucket(bucket) = check.algorithm else { return false };
            let Some(state) = &mut self.bucket(&check.key).tokens else { return false };
            outcome.spent && state.refund(verdict.now, &bucket.shape(), outcome.reset, bucket.price(check.cost))
        });
        refunded.count()
    }

    pub(super) fn bucket(&mut self, key: &[u8]) -> &mut State {
        self.buckets.entry(key.to_vec()).or_default()
    }
}

/// Data of a virtual Redis as a whole.
#[cfg(not(target_arch = "wasm32"))]
impl Model {
    /// Returns a model whose keys never expire: for comparisons with a Redis on a settable clock.
    #[must_use]
    pub fn keeping_keys() -> Self {
        Self { keeps_keys: true, ..Self::default() }
    }

    /// Deletes all buckets of a limit's key, which makes them full, as an operator's reset does. Returns whether there
    /// were any.
    pub fn reset(&mut self, now: Micros, limit_key: &[u8]) -> bool {
        let own = |key: &&Vec<u8>| super::bucket::limit_key(key) == limit_key;
        let keys: Vec<Vec<u8>> = self.buckets.keys().filter(own).cloned().collect();
        self.buckets.retain(|key, _| !keys.contains(key));
        self.resets.extend(keys.iter().map(|key| (key.clone(), now)));
        !keys.is_empty()
    }

    /// Deletes all buckets.
    pub fn clear(&mut self) {
        self.buckets.clear();
        self.registries.clear();
        self.resets.clear();
    }

    /// Deletes one bucket: the `nth` of all, counted around. Returns its key; `None` if there is no bucket.
    pub fn evict(&mut self, nth: usize) -> Option<Vec<u8>> {
        let key = self.buckets.keys().nth(nth.checked_rem(self.buckets.len())?).cloned()?;
        self.buckets.remove(&key);
        Some(key)
    }

    /// Amounts settled and reserved in the window of a budget, as of its last call; what is settled of a token bucket is
    /// in units. `None` where there is no budget.
    #[must_use]
    pub fn budget(&self, key: &[u8]) -> Option<(u64, u64)> {
        Some(self.buckets.get(key)?.budget.as_ref()?.amounts())
    }

    /// Amounts settled and reserved at `now` in the window of a budget's last call, in tokens or nano-USD. `None` where
    /// there is no budget.
    #[must_use]
    pub fn budget_at(&self, now: Micros, key: &[u8]) -> Option<(u64, u64)> {
        Some(self.buckets.get(key)?.budget.as_ref()?.amounts_at(now))
    }

    /// Number of slots whose leases have not ended at `now` by Redis' clock, without those that were taken before the
    /// clock was set back: they end later than their own leases from now.
    #[must_use]
    pub fn slots(&self, now: Micros) -> usize {
        let ends = |(_, lease): (_, Micros), end: Micros| end > now && end <= now.plus(lease);
        let all = self.buckets.values().flat_map(|state| &state.leases);
        all.filter(|(slot, end)| ends(**slot, **end)).count()
    }
}

impl State {
    pub(super) fn look(&mut self, check: &BucketCheck, now: Micros, owner: SlotOwner) -> BucketState {
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
            Algorithm::Budget(budget) => budget.look(&mut self.budget, now, owner),
            Algorithm::NoTokens => BucketState::default(),
        }
    }

    pub(super) fn spend(&mut self, check: &BucketCheck, now: Micros, owner: SlotOwner) {
        match &check.algorithm {
            Algorithm::TokenBucket(bucket) => bucket.spend(&mut self.tokens, now, check.cost),
            Algorithm::LeasedBucket(leased) => leased.spend(&mut self.tokens, now, check.cost),
            Algorithm::SlidingLog(log) => log.spend(&mut self.log, now, check.cost),
            Algorithm::SlidingWindow(sliding) => sliding.spend(&mut self.sliding, now, check.cost),
            Algorithm::FixedWindow(fixed) => fixed.span(now).spend(&mut self.window, check.cost),
            Algorithm::Quota(quota) => quota.span(now).spend(&mut self.window, check.cost),
            Algorithm::Concurrency(concurrency) => concurrency.spend(&mut self.leases, now, owner),
            Algorithm::Budget(budget) => budget.reserve(&mut self.budget, now, owner, check.cost),
            Algorithm::NoTokens => {}
        }
    }
}

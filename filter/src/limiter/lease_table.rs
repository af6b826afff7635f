//! Lease table: tokens that a worker has leased from Redis, and spends on requests without calling Redis.
//!
//! The size of a lease follows the rate of its key: enough for half a lease's time, and at most twice the last lease.
//! Tokens unused for that time are returned, and so are those of a lease that is about to end. A report that may have
//! been lost is never repeated: Redis counts the tokens as used when the lease ends, and so admits less, never more.
//!
//! A request that waits for other limits has taken its tokens but not used them, and they are not reported until the
//! request is decided. Reported tokens could not be given back, nor would another request's use of them be reported at
//! its time.

#[cfg(test)]
mod stories;
#[cfg(test)]
mod tests;

use alloc::rc::Rc;
use alloc::vec::Vec;

use crate::limit::{Algorithm, BucketCheck, Check, Grant, LeaseRequest, LeasedBucket, Outcome, Settlement};
use crate::table::Recent;
use crate::units::{Micros, Tokens};

/// Maximum number of keys, with leased tokens or only a known rate.
const MAX_KEYS: usize = 10_000;
/// Maximum size of the first lease of a key.
const FIRST_LEASE_TOKENS: u64 = 8;
/// Minimum size of a lease.
const MIN_LEASE_TOKENS: u64 = 2;
/// Divisor: a lease is refilled once at most 1/4 of the last grant is left.
const REFILL_BELOW_FRACTION: u64 = 4;
/// Divisor: a lease is at most 1/4 of the bucket's capacity.
const MAX_LEASE_FRACTION: u64 = 4;
/// Divisor: remaining tokens are returned 1/8 of the lease's time before it ends.
const BEFORE_END: u64 = 8;
/// Maximum number of keys whose tokens are returned in one tick.
const MAX_CALLS: usize = 64;

/// Maximum time for which tokens are spent without a reply of Redis, which would tell an override of the key.
const CONFIRM_WITHIN: Micros = Micros::from_secs(1);

/// Leases of one worker.
#[derive(Debug)]
pub(super) struct LeaseTable {
    keys: Recent<Lease>,
    sweep_at: Option<Micros>,
    /// Whether keys have overrides, which Redis must be able to tell within [`CONFIRM_WITHIN`].
    has_overrides: bool,
}

/// Lease of one bucket.
#[derive(Debug)]
struct Lease {
    leased: LeasedBucket,
    limit: usize,
    max: Tokens,
    /// Leased tokens of at most two ends, the earlier end first.
    held: [HeldLease; 2],
    /// Tokens that remained in Redis at the last reply.
    redis_remaining: Tokens,
    /// Tokens spent since `since`.
    spent: u64,
    since: Micros,
    used_at: Micros,
    /// Number of tokens granted last.
    granted: u64,
    /// Whether a call that requests tokens is in flight.
    is_refilling: bool,
    /// Time at which the last call was sent that Redis has answered: it had the override that is applied.
    confirmed_at: Micros,
    /// Text of the key's override that is applied to `leased`.
    applied: Option<Rc<[u8]>>,
}

/// Tokens that a request has spent from a lease.
#[derive(Debug)]
pub(super) struct SpentFromLease {
    pub(super) outcome: Outcome,
    /// Whether the lease is due for a [refill](LeaseTable::refill).
    pub(super) is_low: bool,
    ends: Micros,
}

/// Leased tokens that end at one time.
#[derive(Debug, Clone, Copy, Default)]
struct HeldLease {
    ends: Micros,
    until: Micros,
    left: u64,
    /// Used tokens that are not reported to Redis yet.
    used: u64,
}

/// Bucket check that leased tokens have served, without Redis.
#[derive(Debug)]
pub(super) struct LeaseSpend {
    pub(super) check: BucketCheck,
    pub(super) spent: SpentFromLease,
}

/// Background call that refills or returns leases.
#[derive(Debug)]
pub(super) struct LeaseRefill {
    pub(super) check: Check,
    pub(super) sent_at: Micros,
    /// Whether the call repeats a settlement.
    pub(super) is_repeated: bool,
}

impl LeaseRefill {
    pub(super) fn check(&self) -> &Check {
        &self.check
    }
}

impl LeaseTable {
    #[inline(never)]
    pub(super) fn new(has_overrides: bool) -> Self {
        Self { keys: Recent::new(MAX_KEYS), sweep_at: None, has_overrides }
    }

    /// Spends the cost of a request from leased tokens of one end. `None` if there are too few, or if an override has
    /// changed the bucket since: then the check must be sent to Redis.
    pub(super) fn spend(&mut self, now: Micros, check: &BucketCheck) -> Option<SpentFromLease> {
        let lease = self.keys.get_mut(&check.key)?;
        if !matches!(&check.algorithm, Algorithm::LeasedBucket(leased) if lease.is_of(leased)) {
            return None;
        }
        lease.expire(now);
        // An override of the key holds within a second.
        if self.has_overrides && lease.confirmed_at.plus(CONFIRM_WITHIN) <= now {
            return None;
        }
        let ends = lease.take(check.cost.0)?;
        lease.spent = lease.spent.saturating_add(check.cost.0);
        Some(SpentFromLease { outcome: lease.outcome(check), is_low: lease.is_low(), ends })
    }

    /// Handles the decision on a request that spent leased tokens: they are used if the request is admitted, else they
    /// are available again. If their lease has ended meanwhile, Redis counts them as used.
    pub(super) fn decided(&mut self, now: Micros, check: &BucketCheck, spent: &SpentFromLease, is_admitted: bool) {
        let Some(lease) = self.keys.get_mut(&check.key) else { return };
        let Some(held) = lease.held.iter_mut().find(|held| held.ends == spent.ends) else { return };
        let tokens = if is_admitted { &mut held.used } else { &mut held.left };
        *tokens = tokens.saturating_add(check.cost.0);
        if is_admitted {
            lease.used_at = now;
        }
        let due = lease.return_at();
        self.sweep_by(due);
    }

    /// Adds a lease request to a check that is sent to Redis: the tokens to lease, and the report of used tokens.
    pub(super) fn request(&mut self, now: Micros, max: Tokens, check: &mut BucketCheck) {
        let Algorithm::LeasedBucket(leased) = check.algorithm else { return };
        if self.keys.get_mut(&check.key).is_none() {
            self.keys.insert(&check.key, Lease::new(leased, check.limit, max, now));
        }
        if let Some(lease) = self.keys.get_mut(&check.key) {
            let settled = (!lease.is_of(&leased)).then(|| lease.replace(now, leased, max));
            lease.spent = lease.spent.saturating_add(check.cost.0);
            lease.used_at = now;
            let want = if lease.is_refilling { Tokens(0) } else { lease.want(now) };
            lease.is_refilling |= want > Tokens(0);
            let settled = settled.unwrap_or_else(|| lease.settle());
            lease.applied.clone_from(&check.applied);
            check.algorithm = Algorithm::LeasedBucket(leased.with_request(LeaseRequest { want, settled }));
        }
    }

    /// Handles the end of a bucket's call: its outcome, or `None` if it failed.
    pub(super) fn on_outcome(&mut self, sent_at: Micros, check: &BucketCheck, outcome: Option<&Outcome>) {
        let Algorithm::LeasedBucket(leased) = check.algorithm else { return };
        let Some(lease) = self.keys.get_mut(&check.key) else { return };
        if leased.request().want > Tokens(0) {
            lease.is_refilling = false;
        }
        let Some(outcome) = outcome else { return };
        lease.confirmed_at = lease.confirmed_at.max(sent_at);
        lease.redis_remaining = outcome.remaining;
        // Tokens of a bucket with other numbers are not spent: they may be beyond the limit of this one.
        if let Some(grant) = outcome.granted.filter(|_| lease.is_of(&leased)) {
            lease.hold(sent_at, grant);
            self.sweep_by(sent_at.plus(half(leased.ttl())));
        }
    }

    /// Returns the check that leases more tokens for a bucket, if its lease is low.
    pub(super) fn refill(&mut self, now: Micros, check: &BucketCheck) -> Option<BucketCheck> {
        let lease = self.keys.get_mut(&check.key)?;
        if !lease.is_low() {
            return None;
        }
        let want = lease.want(now);
        lease.is_refilling = want > Tokens(0);
        lease.is_refilling.then(|| {
            let request = LeaseRequest { want, settled: lease.settle() };
            let algorithm = Algorithm::LeasedBucket(lease.leased.with_request(request));
            BucketCheck { algorithm, cost: Tokens(0), ..check.clone() }
        })
    }

    fn sweep_by(&mut self, at: Micros) {
        self.sweep_at = Some(self.sweep_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Returns the checks that return the tokens of leases that are unused or about to end, and report their used
    /// tokens.
    pub(super) fn due_returns(&mut self, now: Micros) -> Vec<BucketCheck> {
        let mut returns = Vec::new();
        if self.sweep_at.is_none_or(|at| at > now) {
            return returns;
        }
        let mut next: Option<Micros> = None;
        self.keys.for_each(|key, lease| {
            lease.expire(now);
            if lease.is_settled() {
                return;
            }
            let due = lease.return_at();
            if due > now || returns.len() >= MAX_CALLS {
                next = Some(next.map_or(due, |at| at.min(due)).max(now.plus(Micros::from_millis(10))));
                return;
            }
            let request = LeaseRequest { want: Tokens(0), settled: lease.settle_due(now) };
            let algorithm = Algorithm::LeasedBucket(lease.leased.with_request(request));
            let key = key.to_vec();
            returns.push(BucketCheck {
                limit: lease.limit,
                window: 0,
                key,
                algorithm,
                cost: Tokens(0),
                enforced: true,
                applied: lease.applied.clone(),
            });
        });
        self.sweep_at = next;
        returns
    }

    /// Time at which [`due_returns`](Self::due_returns) is to be called next.
    pub(super) fn next_sweep(&self) -> Option<Micros> {
        self.sweep_at
    }
}

impl Lease {
    fn new(leased: LeasedBucket, limit: usize, max: Tokens, now: Micros) -> Self {
        Self {
            leased,
            limit,
            max: max.min(Tokens(leased.bucket().capacity().0 / MAX_LEASE_FRACTION)),
            held: [HeldLease::default(); 2],
            redis_remaining: Tokens(0),
            spent: 0,
            since: now,
            used_at: now,
            granted: 0,
            is_refilling: false,
            confirmed_at: now,
            applied: None,
        }
    }

    /// Whether the bucket is the same as when its tokens were leased.
    fn is_of(&self, leased: &LeasedBucket) -> bool {
        self.leased.bucket() == leased.bucket()
    }

    /// Replaces the bucket after an override has changed it, and returns the settlement of all leased tokens.
    fn replace(&mut self, now: Micros, leased: LeasedBucket, max: Tokens) -> [Settlement; 2] {
        let held = core::mem::take(&mut self.held);
        *self = Self { is_refilling: self.is_refilling, ..Self::new(leased, self.limit, max, now) };
        held.map(|held| Settlement { ends: held.ends, used: Tokens(held.used), unused: Tokens(held.left) })
    }

    fn left(&self) -> u64 {
        self.held.iter().fold(0, |sum, held| sum.saturating_add(held.left))
    }

    /// Whether few tokens are left and no call requests more.
    fn is_low(&self) -> bool {
        !self.is_refilling && self.left() <= self.granted / REFILL_BELOW_FRACTION
    }

    fn is_settled(&self) -> bool {
        self.held.iter().all(|held| held.left == 0 && held.used == 0)
    }

    /// Drops leased tokens that have ended, which Redis counts as used.
    fn expire(&mut self, now: Micros) {
        for held in &mut self.held {
            if held.until <= now {
                *held = HeldLease::default();
            }
        }
    }

    /// Takes `cost` tokens of one end, the earlier one if it has enough, and returns that end.
    fn take(&mut self, cost: u64) -> Option<Micros> {
        let held = self.held.iter_mut().find(|held| held.left > 0 && held.left >= cost)?;
        held.left = held.left.saturating_sub(cost);
        Some(held.ends)
    }

    /// Takes the report of used tokens. Each used token is reported once.
    fn settle(&mut self) -> [Settlement; 2] {
        self.held.each_mut().map(|held| {
            let used = Tokens(core::mem::take(&mut held.used));
            Settlement { ends: held.ends, used, unused: Tokens(0) }
        })
    }

    /// Time at which leased tokens should be returned.
    fn return_at(&self) -> Micros {
        let before_end = self.before_end();
        let ends = self.held.iter().filter(|held| held.left > 0).map(|held| held.until.minus(before_end));
        ends.fold(self.idle_at(), Micros::min)
    }

    fn idle_at(&self) -> Micros {
        self.used_at.plus(half(self.leased.ttl()))
    }

    /// Time before the end of a lease at which its remaining tokens are returned.
    fn before_end(&self) -> Micros {
        Micros(self.leased.ttl().0 / BEFORE_END)
    }

    /// Takes the settlement of tokens about to end, or of all tokens if the lease is unused.
    fn settle_due(&mut self, now: Micros) -> [Settlement; 2] {
        let (is_idle, before_end) = (self.idle_at() <= now, self.before_end());
        if is_idle {
            // The next lease of the key starts small.
            (self.granted, self.spent) = (0, 0);
        }
        self.held.each_mut().map(|held| {
            if !is_idle && held.until.minus(before_end) > now {
                return Settlement::default();
            }
            let held = core::mem::take(held);
            Settlement { ends: held.ends, used: Tokens(held.used), unused: Tokens(held.left) }
        })
    }

    fn hold(&mut self, sent_at: Micros, Grant { tokens, ends, valid_for }: Grant) {
        self.granted = tokens.0;
        let until = sent_at.plus(valid_for);
        let [older, newer] = &mut self.held;
        if newer.ends != ends {
            // The older tokens have ended, or there are none.
            *older = core::mem::replace(newer, HeldLease { ends, until, left: 0, used: 0 });
        }
        newer.left = newer.left.saturating_add(tokens.0);
        newer.until = newer.until.min(until);
    }

    /// Number of tokens to lease: the expected spending of half a lease's time, at the rate since the last lease
    /// request. 0 for a new key, whose rate is not known.
    fn want(&mut self, now: Micros) -> Tokens {
        let elapsed = now.minus(self.since).0;
        let Some(expected) = self.spent.saturating_mul(half(self.leased.ttl()).0).checked_div(elapsed) else {
            return Tokens(0);
        };
        (self.spent, self.since) = (0, now);
        let most = self.granted.saturating_mul(2).max(FIRST_LEASE_TOKENS);
        // In addition to the tokens that are left when a refill is due.
        let room = self.max.0.saturating_add(self.max.0 / REFILL_BELOW_FRACTION).saturating_sub(self.left());
        let want = expected.min(most).min(self.max.0).min(room);
        Tokens(if want < MIN_LEASE_TOKENS { 0 } else { want })
    }

    /// Outcome of a request that spent from the lease.
    fn outcome(&self, check: &BucketCheck) -> Outcome {
        let bucket = self.leased.bucket();
        let remaining = Tokens(self.redis_remaining.0.saturating_add(self.left())).min(bucket.capacity());
        Outcome {
            limit: check.limit,
            window: check.window,
            cost: check.cost,
            capacity: bucket.capacity(),
            period: Some(bucket.fill_time()),
            admitted: true,
            enforced: true,
            spent: true,
            remaining,
            retry_after: Some(Micros::ZERO),
            reset: bucket.time_for(Tokens(bucket.capacity().0.saturating_sub(remaining.0))),
            delay: Micros::ZERO,
            granted: None,
            held: Tokens(0),
        }
    }
}

fn half(span: Micros) -> Micros {
    Micros(span.0 / 2)
}

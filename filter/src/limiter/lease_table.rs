//! Tokens that a worker has taken ahead, and serves requests from without asking.
//!
//! How many are taken follows what a key spends: enough for half a lease's time, twice as many as the last time at
//! most. Tokens that are not used in that time are returned, and those of a lease that ends. What may have been lost on
//! its way is never told twice: Redis takes it for used when its lease ends, and so admits less, never more.
//!
//! A request that waits for other limits has taken its tokens, but not used them: nothing of them is told until it goes
//! on. Else it could neither have them back, nor would what others use in its place be told at their time.

#[cfg(test)]
mod stories;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use super::recent::Recent;
use crate::limit::{Algorithm, BucketCheck, Grant, LeaseRequest, LeasedBucket, Outcome, Settled};
use crate::units::{Micros, Tokens};

/// Keys of which tokens, or only a rate, are known.
const MAX_KEYS: usize = 10_000;
/// The most that is taken at first.
const FIRST_LEASE_TOKENS: u64 = 8;
/// Less is not worth taking.
const MIN_LEASE_TOKENS: u64 = 2;
/// More is taken when no more than this part of the last is left.
const REFILL_BELOW_FRACTION: u64 = 4;
/// A lease is this part of a bucket at most.
const MAX_LEASE_FRACTION: u64 = 4;
/// What is left of a lease is returned so long before it ends: this part of its time.
const BEFORE_END: u64 = 8;
/// Keys that are returned, or taken ahead for, in one tick.
const MAX_CALLS: usize = 64;

/// One worker's.
#[derive(Debug)]
pub(super) struct LeaseTable {
    keys: Recent<Lease>,
    sweep_at: Option<Micros>,
}

/// What is held of one bucket.
#[derive(Debug)]
struct Lease {
    leased: LeasedBucket,
    limit: usize,
    max: Tokens,
    /// Of at most two ends, the earlier first.
    held: [HeldLease; 2],
    /// What Redis had beside, when last heard of.
    beside: Tokens,
    /// Tokens spent since.
    spent: u64,
    since: Micros,
    used_at: Micros,
    /// How many were granted last.
    granted: u64,
    /// A call that wants some is with Redis.
    is_asking: bool,
}

/// What a request has spent from a lease.
#[derive(Debug)]
pub(super) struct SpentFromLease {
    pub(super) outcome: Outcome,
    /// Whether it is time to take [more](LeaseTable::runs_low).
    pub(super) is_low: bool,
    ends: Micros,
}

/// Tokens that end at one time.
#[derive(Debug, Clone, Copy, Default)]
struct HeldLease {
    ends: Micros,
    until: Micros,
    left: u64,
    /// And not told yet.
    used: u64,
}

impl LeaseTable {
    pub(super) fn new() -> Self {
        Self { keys: Recent::new(MAX_KEYS), sweep_at: None }
    }

    /// Spends what a request costs from what is held, all of one end. `None` where that is not enough, or where an
    /// override has changed the bucket since: Redis must be asked.
    pub(super) fn spend(&mut self, now: Micros, check: &BucketCheck) -> Option<SpentFromLease> {
        let lease = self.keys.get_mut(&check.key)?;
        if !matches!(&check.algorithm, Algorithm::LeasedBucket(leased) if lease.is_of(leased)) {
            return None;
        }
        lease.expire(now);
        let ends = lease.take(check.cost.0)?;
        lease.spent = lease.spent.saturating_add(check.cost.0);
        Some(SpentFromLease { outcome: lease.outcome(check), is_low: lease.is_low(), ends })
    }

    /// A request that has spent is decided. It goes on, and what it spent is used; or it does not, and that is there
    /// again. Where its lease has ended meanwhile, Redis takes it for used.
    pub(super) fn decided(&mut self, now: Micros, check: &BucketCheck, spent: &SpentFromLease, goes_on: bool) {
        let Some(lease) = self.keys.get_mut(&check.key) else { return };
        let Some(held) = lease.held.iter_mut().find(|held| held.ends == spent.ends) else { return };
        let tokens = if goes_on { &mut held.used } else { &mut held.left };
        *tokens = tokens.saturating_add(check.cost.0);
        if goes_on {
            lease.used_at = now;
        }
        let due = lease.due();
        self.sweep_by(due);
    }

    /// A request must ask Redis: what is to be said and asked besides.
    pub(super) fn ask(&mut self, now: Micros, max: Tokens, check: &mut BucketCheck) {
        let Algorithm::LeasedBucket(leased) = check.algorithm else { return };
        if self.keys.get_mut(&check.key).is_none() {
            self.keys.insert(&check.key, Lease::new(leased, check.limit, max, now));
        }
        if let Some(lease) = self.keys.get_mut(&check.key) {
            let given_back = (!lease.is_of(&leased)).then(|| lease.change(now, leased, max));
            lease.spent = lease.spent.saturating_add(check.cost.0);
            lease.used_at = now;
            let want = if lease.is_asking { Tokens(0) } else { lease.want(now) };
            lease.is_asking |= want > Tokens(0);
            let settled = given_back.unwrap_or_else(|| lease.settle());
            check.algorithm = Algorithm::LeasedBucket(leased.asking(LeaseRequest { want, settled }));
        }
    }

    /// The call of a bucket has come to its end: with this outcome, or with none.
    pub(super) fn answered(&mut self, asked_at: Micros, check: &BucketCheck, outcome: Option<&Outcome>) {
        let Algorithm::LeasedBucket(leased) = check.algorithm else { return };
        let Some(lease) = self.keys.get_mut(&check.key) else { return };
        if leased.asks_for().want > Tokens(0) {
            lease.is_asking = false;
        }
        let Some(outcome) = outcome else { return };
        lease.beside = outcome.remaining;
        if let Some(grant) = outcome.granted {
            lease.hold(asked_at, grant);
            self.sweep_by(asked_at.plus(half(leased.ttl())));
        }
    }

    /// A bucket of which it is time to take more, though there are some left: what to ask.
    pub(super) fn runs_low(&mut self, now: Micros, check: &BucketCheck) -> Option<BucketCheck> {
        let lease = self.keys.get_mut(&check.key)?;
        if !lease.is_low() {
            return None;
        }
        let want = lease.want(now);
        lease.is_asking = want > Tokens(0);
        lease.is_asking.then(|| {
            let ask = LeaseRequest { want, settled: lease.settle() };
            let algorithm = Algorithm::LeasedBucket(lease.leased.asking(ask));
            BucketCheck { algorithm, cost: Tokens(0), ..check.clone() }
        })
    }

    fn sweep_by(&mut self, at: Micros) {
        self.sweep_at = Some(self.sweep_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// What is to be returned, or told of, as nobody uses it or its lease ends.
    pub(super) fn idle(&mut self, now: Micros) -> Vec<BucketCheck> {
        let mut idle = Vec::new();
        if self.sweep_at.is_none_or(|at| at > now) {
            return idle;
        }
        let mut next: Option<Micros> = None;
        for (key, lease) in self.keys.iter_mut() {
            lease.expire(now);
            if lease.is_settled() {
                continue;
            }
            let due = lease.due();
            if due > now || idle.len() >= MAX_CALLS {
                next = Some(next.map_or(due, |at| at.min(due)).max(now.plus(Micros::from_millis(10))));
                continue;
            }
            let ask = LeaseRequest { want: Tokens(0), settled: lease.give_back(now) };
            let algorithm = Algorithm::LeasedBucket(lease.leased.asking(ask));
            let key = key.to_vec();
            idle.push(BucketCheck { limit: lease.limit, window: 0, key, algorithm, cost: Tokens(0), enforced: true });
        }
        self.sweep_at = next;
        idle
    }

    /// When [`idle`](Self::idle) is to be asked next.
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
            beside: Tokens(0),
            spent: 0,
            since: now,
            used_at: now,
            granted: 0,
            is_asking: false,
        }
    }

    /// Whether the bucket is as it was when tokens were taken from it.
    fn is_of(&self, leased: &LeasedBucket) -> bool {
        self.leased.bucket() == leased.bucket()
    }

    /// An override has changed the bucket: all that is held goes back, and the next tokens are taken from it as it is
    /// now.
    fn change(&mut self, now: Micros, leased: LeasedBucket, max: Tokens) -> [Settled; 2] {
        let held = core::mem::take(&mut self.held);
        *self = Self { is_asking: self.is_asking, ..Self::new(leased, self.limit, max, now) };
        held.map(|held| Settled { ends: held.ends, used: Tokens(held.used), unused: Tokens(held.left) })
    }

    fn left(&self) -> u64 {
        self.held.iter().fold(0, |sum, held| sum.saturating_add(held.left))
    }

    /// Whether it is time to ask for more, and nobody does.
    fn is_low(&self) -> bool {
        !self.is_asking && self.left() <= self.granted / REFILL_BELOW_FRACTION
    }

    fn is_settled(&self) -> bool {
        self.held.iter().all(|held| held.left == 0 && held.used == 0)
    }

    /// What has ended is gone, as Redis has it.
    fn expire(&mut self, now: Micros) {
        for held in &mut self.held {
            if held.until <= now {
                *held = HeldLease::default();
            }
        }
    }

    /// Takes `cost` tokens of one end, the earlier if it has as many. Which end.
    fn take(&mut self, cost: u64) -> Option<Micros> {
        let held = self.held.iter_mut().find(|held| held.left > 0 && held.left >= cost)?;
        held.left = held.left.saturating_sub(cost);
        Some(held.ends)
    }

    /// What was used, which is told now and never again.
    fn settle(&mut self) -> [Settled; 2] {
        self.held.each_mut().map(|held| {
            let used = Tokens(core::mem::take(&mut held.used));
            Settled { ends: held.ends, used, unused: Tokens(0) }
        })
    }

    /// When what is held should be given back.
    fn due(&self) -> Micros {
        let before_end = self.before_end();
        let ends = self.held.iter().filter(|held| held.left > 0).map(|held| held.until.minus(before_end));
        ends.fold(self.idle_at(), Micros::min)
    }

    fn idle_at(&self) -> Micros {
        self.used_at.plus(half(self.leased.ttl()))
    }

    /// So long before a lease ends, what is left of it should be on its way.
    fn before_end(&self) -> Micros {
        Micros(self.leased.ttl().0 / BEFORE_END)
    }

    /// What was used, and what was not: of what ends, or of all where nobody uses it.
    fn give_back(&mut self, now: Micros) -> [Settled; 2] {
        let (is_idle, before_end) = (self.idle_at() <= now, self.before_end());
        if is_idle {
            // Who comes again starts small.
            (self.granted, self.spent) = (0, 0);
        }
        self.held.each_mut().map(|held| {
            if !is_idle && held.until.minus(before_end) > now {
                return Settled::default();
            }
            let held = core::mem::take(held);
            Settled { ends: held.ends, used: Tokens(held.used), unused: Tokens(held.left) }
        })
    }

    fn hold(&mut self, asked_at: Micros, Grant { tokens, ends, valid_for }: Grant) {
        self.granted = tokens.0;
        let until = asked_at.plus(valid_for);
        let [older, newer] = &mut self.held;
        if newer.ends != ends {
            // The older one has ended, or is empty.
            *older = core::mem::replace(newer, HeldLease { ends, until, left: 0, used: 0 });
        }
        newer.left = newer.left.saturating_add(tokens.0);
        newer.until = newer.until.min(until);
    }

    /// What half a lease's time would spend, at the rate since Redis was last asked for any. Of a key that is new,
    /// there is none yet.
    fn want(&mut self, now: Micros) -> Tokens {
        let elapsed = now.minus(self.since).0;
        let Some(expected) = self.spent.saturating_mul(half(self.leased.ttl()).0).checked_div(elapsed) else {
            return Tokens(0);
        };
        (self.spent, self.since) = (0, now);
        let most = self.granted.saturating_mul(2).max(FIRST_LEASE_TOKENS);
        // Besides what is left when it is time to ask for more.
        let room = self.max.0.saturating_add(self.max.0 / REFILL_BELOW_FRACTION).saturating_sub(self.left());
        let want = expected.min(most).min(self.max.0).min(room);
        Tokens(if want < MIN_LEASE_TOKENS { 0 } else { want })
    }

    /// What a request is told that was served from here.
    fn outcome(&self, check: &BucketCheck) -> Outcome {
        let bucket = self.leased.bucket();
        let remaining = Tokens(self.beside.0.saturating_add(self.left())).min(bucket.capacity());
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
        }
    }
}

fn half(span: Micros) -> Micros {
    Micros(span.0 / 2)
}

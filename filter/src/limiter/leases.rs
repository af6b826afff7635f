//! Tokens that a worker has taken ahead, and serves requests from without asking.
//!
//! How many are taken follows what a key spends: enough for half a lease's time, twice as many as the last time at
//! most. Tokens that are not used in that time are returned. What may have been lost on its way is never told twice:
//! Redis takes it for used when its lease ends, and so admits less, never more.

use super::recent::Recent;
use crate::limit::{Algorithm, Asked, Grant, LeaseAsk, LeasedBucket, Outcome, Settled};
use crate::units::{Micros, Tokens};

/// Keys of which tokens, or only a rate, are known.
const MAX_KEYS: usize = 10_000;
/// The most that is taken at first.
const FIRST: u64 = 8;
/// Less is not worth taking.
const LEAST: u64 = 2;
/// A lease is this part of a bucket at most.
const SHARE: u64 = 4;
/// Keys that are returned, or taken ahead for, in one tick.
const MAX_CALLS: usize = 64;

/// One worker's.
#[derive(Debug)]
pub(super) struct Leases {
    keys: Recent<Lease>,
    sweep_at: Option<Micros>,
}

/// What is held of one bucket.
#[derive(Debug)]
struct Lease {
    leased: LeasedBucket,
    limit: usize,
    max: Tokens,
    /// Of at most two epochs, the older first.
    held: [Held; 2],
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
pub(super) struct Spent {
    pub(super) outcome: Outcome,
    epoch: u64,
}

/// Tokens of one epoch.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    epoch: u64,
    until: Micros,
    left: u64,
    /// And not told yet.
    used: u64,
}

impl Leases {
    pub(super) fn new() -> Self {
        Self { keys: Recent::new(MAX_KEYS), sweep_at: None }
    }

    /// Spends what a request costs from what is held, of one epoch. `None` where that is not enough: Redis must be
    /// asked.
    pub(super) fn spend(&mut self, now: Micros, asked: &Asked) -> Option<Spent> {
        let lease = self.keys.get_mut(&asked.key)?;
        lease.expire(now);
        let epoch = lease.take(asked.cost.0)?;
        lease.spent = lease.spent.saturating_add(asked.cost.0);
        lease.used_at = now;
        Some(Spent { outcome: lease.outcome(asked), epoch })
    }

    /// A request did not go on: what it spent was not used. Where that was told already, it is lost.
    pub(super) fn unspend(&mut self, asked: &Asked, spent: &Spent) {
        if let Some(lease) = self.keys.get_mut(&asked.key)
            && let Some(held) = lease.held.iter_mut().find(|held| held.epoch == spent.epoch)
        {
            let back = held.used.min(asked.cost.0);
            held.used = held.used.saturating_sub(back);
            held.left = held.left.saturating_add(back);
        }
    }

    /// A request must ask Redis: what is to be said and asked besides.
    pub(super) fn ask(&mut self, now: Micros, max: Tokens, asked: &mut Asked) {
        let Algorithm::LeasedBucket(leased) = asked.algorithm else { return };
        if self.keys.get_mut(&asked.key).is_none() {
            self.keys.insert(&asked.key, Lease::new(leased, asked.limit, max, now));
        }
        if let Some(lease) = self.keys.get_mut(&asked.key) {
            lease.spent = lease.spent.saturating_add(asked.cost.0);
            lease.used_at = now;
            let want = if lease.is_asking { Tokens(0) } else { lease.want(now) };
            lease.is_asking |= want > Tokens(0);
            let settled = lease.settle();
            asked.algorithm = Algorithm::LeasedBucket(leased.asking(LeaseAsk { want, settled }));
        }
    }

    /// The call of a bucket has come to its end: with this outcome, or with none.
    pub(super) fn answered(&mut self, asked_at: Micros, asked: &Asked, outcome: Option<&Outcome>) {
        let Algorithm::LeasedBucket(leased) = asked.algorithm else { return };
        let Some(lease) = self.keys.get_mut(&asked.key) else { return };
        if leased.asks_for().want > Tokens(0) {
            lease.is_asking = false;
        }
        let Some(outcome) = outcome else { return };
        lease.beside = outcome.remaining;
        if let Some(grant) = outcome.granted {
            lease.hold(asked_at, grant);
            let sweep_at = asked_at.plus(half(leased.ttl()));
            self.sweep_at = Some(self.sweep_at.map_or(sweep_at, |at| at.min(sweep_at)));
        }
    }

    /// A bucket of which it is time to take more, though there are some left: what to ask.
    pub(super) fn runs_low(&mut self, now: Micros, asked: &Asked) -> Option<Asked> {
        let lease = self.keys.get_mut(&asked.key)?;
        let is_low = lease.left() <= lease.granted / 4;
        if lease.is_asking || !is_low {
            return None;
        }
        let want = lease.want(now);
        lease.is_asking = want > Tokens(0);
        lease.is_asking.then(|| {
            let ask = LeaseAsk { want, settled: lease.settle() };
            let algorithm = Algorithm::LeasedBucket(lease.leased.asking(ask));
            Asked { algorithm, cost: Tokens(0), ..asked.clone() }
        })
    }

    /// What is to be returned, or told of, as nobody uses it.
    pub(super) fn idle(&mut self, now: Micros) -> Vec<Asked> {
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
            let due = lease.used_at.plus(half(lease.leased.ttl()));
            if due > now || idle.len() >= MAX_CALLS {
                next = Some(next.map_or(due, |at| at.min(due)).max(now.plus(Micros::from_millis(10))));
                continue;
            }
            let ask = LeaseAsk { want: Tokens(0), settled: lease.give_up() };
            let algorithm = Algorithm::LeasedBucket(lease.leased.asking(ask));
            let key = key.to_vec();
            idle.push(Asked { limit: lease.limit, window: 0, key, algorithm, cost: Tokens(0), enforced: true });
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
            max: max.min(Tokens(leased.bucket().capacity().0 / SHARE)),
            held: [Held::default(); 2],
            beside: Tokens(0),
            spent: 0,
            since: now,
            used_at: now,
            granted: 0,
            is_asking: false,
        }
    }

    fn left(&self) -> u64 {
        self.held.iter().fold(0, |sum, held| sum.saturating_add(held.left))
    }

    fn is_settled(&self) -> bool {
        self.held.iter().all(|held| held.left == 0 && held.used == 0)
    }

    /// What has ended is gone, as Redis has it.
    fn expire(&mut self, now: Micros) {
        for held in &mut self.held {
            if held.until <= now {
                *held = Held::default();
            }
        }
    }

    /// Takes `cost` tokens of one epoch, the older if it has as many. Which epoch.
    fn take(&mut self, cost: u64) -> Option<u64> {
        let held = self.held.iter_mut().find(|held| held.left > 0 && held.left >= cost)?;
        held.left = held.left.saturating_sub(cost);
        held.used = held.used.saturating_add(cost);
        Some(held.epoch)
    }

    /// What was used, which is told now and never again.
    fn settle(&mut self) -> [Settled; 2] {
        self.held.each_mut().map(|held| {
            let used = Tokens(std::mem::take(&mut held.used));
            Settled { epoch: held.epoch, used, unused: Tokens(0) }
        })
    }

    /// What was used and what was not: all of it.
    fn give_up(&mut self) -> [Settled; 2] {
        // Who comes again starts small.
        (self.granted, self.spent) = (0, 0);
        self.held.each_mut().map(|held| {
            let held = std::mem::take(held);
            Settled { epoch: held.epoch, used: Tokens(held.used), unused: Tokens(held.left) }
        })
    }

    fn hold(&mut self, asked_at: Micros, Grant { tokens, epoch, valid_for }: Grant) {
        self.granted = tokens.0;
        let until = asked_at.plus(valid_for);
        let [older, newer] = &mut self.held;
        if newer.epoch != epoch {
            // The older one ends with the epoch that has ended, or is empty.
            *older = std::mem::replace(newer, Held { epoch, until, left: 0, used: 0 });
        }
        newer.left = newer.left.saturating_add(tokens.0);
        newer.until = newer.until.min(until);
    }

    /// What half a lease's time would spend, at the rate since Redis was last asked for any.
    fn want(&mut self, now: Micros) -> Tokens {
        let elapsed = now.minus(self.since).0.max(1);
        let expected = self.spent.saturating_mul(half(self.leased.ttl()).0).checked_div(elapsed).unwrap_or(0);
        (self.spent, self.since) = (0, now);
        let most = self.granted.saturating_mul(2).max(FIRST);
        let want = expected.min(most).min(self.max.0);
        Tokens(if want < LEAST { 0 } else { want })
    }

    /// What a request is told that was served from here.
    fn outcome(&self, asked: &Asked) -> Outcome {
        let bucket = self.leased.bucket();
        let remaining = Tokens(self.beside.0.saturating_add(self.left())).min(bucket.capacity());
        Outcome {
            limit: asked.limit,
            window: asked.window,
            cost: asked.cost,
            capacity: bucket.capacity(),
            period: Some(bucket.fill_time()),
            admitted: true,
            enforced: true,
            spent: true,
            remaining,
            retry_after: Some(Micros::ZERO),
            reset: bucket.fill_time().minus(bucket.emission().times(remaining.0)),
            delay: Micros::ZERO,
            granted: None,
        }
    }
}

fn half(span: Micros) -> Micros {
    Micros(span.0 / 2)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::limit::TokenBucket;

    const MS: fn(u64) -> Micros = Micros::from_millis;

    /// 1,000 tokens, 1,000 a second, leased for a second.
    fn asked(cost: u64) -> Asked {
        let thousand = NonZeroU64::new(1_000).unwrap();
        let bucket = TokenBucket::new(thousand, thousand, Micros::from_secs(1)).unwrap();
        let algorithm = Algorithm::LeasedBucket(LeasedBucket::new(bucket, Micros::from_secs(1)).unwrap());
        Asked { limit: 0, window: 0, key: b"key".to_vec(), algorithm, cost: Tokens(cost), enforced: true }
    }

    fn asks(asked: &Asked) -> LeaseAsk {
        match asked.algorithm {
            Algorithm::LeasedBucket(leased) => leased.asks_for(),
            _ => unreachable!("a leased bucket"),
        }
    }

    fn granted(asked: &Asked, tokens: u64, epoch: u64) -> Outcome {
        let bucket = asked.algorithm;
        let Algorithm::LeasedBucket(leased) = bucket else { unreachable!("a leased bucket") };
        let grant = Grant { tokens: Tokens(tokens), epoch, valid_for: MS(1_500) };
        Outcome {
            granted: (tokens > 0).then_some(grant),
            remaining: Tokens(500),
            ..Lease::new(leased, 0, Tokens(0), MS(0)).outcome(asked)
        }
    }

    /// Asks at `now`, and is granted so many of what it wants.
    fn ask(leases: &mut Leases, now: Micros, most: u64, epoch: u64) -> LeaseAsk {
        let mut call = asked(1);
        leases.ask(now, Tokens(100), &mut call);
        let ask = asks(&call);
        leases.answered(now, &call, Some(&granted(&call, ask.want.0.min(most), epoch)));
        ask
    }

    fn spends(leases: &mut Leases, now: Micros) -> bool {
        leases.spend(now, &asked(1)).is_some()
    }

    /// Holds eight of the epoch 7 until 1.501 s.
    fn eight() -> Leases {
        let mut leases = Leases::new();
        assert_eq!(ask(&mut leases, MS(0), 0, 7).want, Tokens(8), "as if its rate were endless");
        assert_eq!(ask(&mut leases, MS(1), 8, 7).want, Tokens(8));
        leases
    }

    #[test]
    fn what_is_held_serves_and_no_more() {
        let mut leases = eight();
        for left in (0..8).rev() {
            let paid = leases.spend(MS(2), &asked(1)).unwrap();
            assert_eq!((paid.outcome.admitted, paid.outcome.remaining), (true, Tokens(500 + left)));
        }
        assert!(!spends(&mut leases, MS(2)));
    }

    #[test]
    fn what_has_ended_serves_nobody() {
        let mut leases = eight();
        assert!(spends(&mut leases, MS(1_500)));
        assert!(!spends(&mut leases, MS(1_501)), "counted from when it was asked for");
        assert_eq!(ask(&mut leases, MS(1_600), 0, 8).settled, [Settled::default(); 2], "Redis took it for used");
    }

    #[test]
    fn each_use_is_told_once() {
        let mut leases = eight();
        (0..3).for_each(|_| assert!(spends(&mut leases, MS(2))));
        let told = ask(&mut leases, MS(3), 0, 7).settled;
        assert_eq!(told.map(|settled| (settled.epoch, settled.used.0, settled.unused.0)), [(0, 0, 0), (7, 3, 0)]);
        assert!(ask(&mut leases, MS(4), 0, 7).settled.iter().all(|settled| settled.used == Tokens(0)));
    }

    #[test]
    fn a_request_that_does_not_go_on_gives_its_token_back_unless_it_was_told() {
        let mut leases = eight();
        let first = leases.spend(MS(2), &asked(8)).unwrap();
        assert!(!spends(&mut leases, MS(2)));
        leases.unspend(&asked(8), &first);
        let second = leases.spend(MS(2), &asked(8)).unwrap();
        ask(&mut leases, MS(3), 0, 7);
        leases.unspend(&asked(8), &second);
        assert!(!spends(&mut leases, MS(3)));
    }

    #[test]
    fn a_token_of_one_epoch_is_not_given_back_to_another() {
        let mut leases = eight();
        let old = leases.spend(MS(2), &asked(1)).unwrap();
        ask(&mut leases, MS(1_600), 0, 9);
        assert!(ask(&mut leases, MS(1_601), 8, 9).want > Tokens(0));
        while spends(&mut leases, MS(1_700)) {}
        leases.unspend(&asked(1), &old);
        assert!(!spends(&mut leases, MS(1_700)));
    }

    #[test]
    fn more_is_taken_before_the_last_is_used_and_one_call_at_a_time() {
        let mut leases = eight();
        (0..5).for_each(|_| assert!(spends(&mut leases, MS(2))));
        assert_eq!(leases.runs_low(MS(3), &asked(1)), None);
        assert!(spends(&mut leases, MS(3)));
        let ahead = leases.runs_low(MS(3), &asked(1)).unwrap();
        assert_eq!((ahead.cost, asks(&ahead).want), (Tokens(0), Tokens(16)), "twice as many");
        assert_eq!(leases.runs_low(MS(3), &asked(1)), None);
        leases.answered(MS(3), &ahead, Some(&granted(&ahead, 16, 7)));
        (0..18).for_each(|_| assert!(spends(&mut leases, MS(4))));
    }

    #[test]
    fn a_slow_key_takes_nothing_ahead_and_a_large_one_only_its_share() {
        let mut leases = Leases::new();
        ask(&mut leases, MS(0), 0, 1);
        assert_eq!(ask(&mut leases, MS(900), 0, 1).want, Tokens(0), "one a second");
        let mut leases = eight();
        for round in 2..20 {
            while spends(&mut leases, MS(round)) {}
            let want = ask(&mut leases, MS(round), 1_000, 7).want;
            assert!(want <= Tokens(100), "{want:?}");
        }
    }

    #[test]
    fn what_nobody_uses_is_returned() {
        let mut leases = eight();
        assert!(spends(&mut leases, MS(2)));
        assert_eq!(leases.next_sweep(), Some(MS(501)));
        assert_eq!(leases.idle(MS(501)), [], "used since");
        let idle = leases.idle(MS(511));
        assert_eq!(asks(&idle[0]).settled[1], Settled { epoch: 7, used: Tokens(1), unused: Tokens(7) });
        assert!(!spends(&mut leases, MS(511)));
        assert_eq!((leases.idle(MS(600)), leases.next_sweep()), (vec![], None));
    }
}

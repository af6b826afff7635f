//! What Redis denied, and until when it would again: until then nobody asks.
//!
//! A denial says when its tokens exist, and nobody can make them exist sooner but an operator, who resets a bucket,
//! or a worker that returns what it had leased. So a denial is believed for a second at most, and a change of
//! overrides forgets all of them. Concurrency limits are not remembered: a place may come free at any time.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use super::recent::Recent;
use crate::limit::{BucketCheck, Check, Outcome, Verdict};
use crate::respond::LocalReply;
use crate::units::{Micros, Tokens};

/// How long a denial is believed: how soon an operator's reset is heeded.
const MAX_AGE: Micros = Micros::from_secs(1);

/// One worker's.
#[derive(Debug)]
pub(super) struct DenyCache {
    buckets: Recent<CacheEntry>,
}

#[derive(Debug)]
struct CacheEntry {
    /// What was denied. More would be denied as well, but told to wait for longer.
    cost: Tokens,
    until: Micros,
    /// Which of these outcomes it is.
    place: usize,
    said: Rc<CachedDenial>,
}

/// What Redis said of all buckets of a request that it denied.
#[derive(Debug)]
pub(super) struct CachedDenial {
    verdict: Verdict,
    /// Of the buckets' keys.
    fingerprint: u64,
    /// By the worker's clock, not later than Redis decided.
    since: Micros,
    /// What clients were told last: gRPC's, and others.
    replies: RefCell<[Option<CachedReply>; 2]>,
}

/// An answer, and until when others get it too.
#[derive(Debug)]
struct CachedReply {
    until: Micros,
    reply: Rc<LocalReply>,
}

/// What is remembered of a request's buckets.
#[derive(Debug)]
pub(super) enum CacheHit {
    /// All that was said of just these.
    All(Rc<CachedDenial>),
    /// What was said of those that deny.
    Denying(Verdict),
}

impl DenyCache {
    /// Of at most so many buckets.
    pub(super) fn new(max: usize) -> Self {
        Self { buckets: Recent::new(max) }
    }

    /// Redis decided this of a request that asked at `asked_at`.
    pub(super) fn learn(&mut self, asked_at: Micros, check: &Check, verdict: &Verdict) {
        let said = Rc::new(CachedDenial {
            verdict: verdict.clone(),
            fingerprint: fingerprint(check.buckets()),
            since: asked_at,
            replies: RefCell::default(),
        });
        for (place, (check, outcome)) in check.buckets().zip(&verdict.outcomes).enumerate() {
            if outcome.enforced && !outcome.admitted && outcome.period.is_some() {
                let until = asked_at.plus(outcome.retry_after.unwrap_or(MAX_AGE).min(MAX_AGE));
                let denial = CacheEntry { cost: check.cost, until, place, said: Rc::clone(&said) };
                self.buckets.insert(&check.key, denial);
            }
        }
    }

    /// What Redis would say again of a request: `None` where no limit is known to deny it. Of a request that runs into
    /// just the buckets that an earlier one ran into, it has what Redis said of all of them; else, of those that deny.
    pub(super) fn recall(&mut self, now: Micros, check: &[BucketCheck]) -> Option<CacheHit> {
        if self.buckets.is_empty() {
            return None;
        }
        let mut verdict = Verdict { admitted: false, now: Micros::ZERO, outcomes: Vec::new() };
        for bucket in check.iter().filter(|check| check.enforced) {
            let known = self.buckets.get_mut(&bucket.key);
            let Some(denial) = known.filter(|denial| denial.until > now && denial.cost == bucket.cost) else {
                continue;
            };
            let said = &denial.said;
            if said.is_of(check) {
                return Some(CacheHit::All(Rc::clone(said)));
            }
            let age = now.minus(said.since);
            verdict.now = said.verdict.now.plus(age);
            verdict.outcomes.extend(said.verdict.outcomes.get(denial.place).map(|outcome| aged(outcome, age)));
        }
        (!verdict.outcomes.is_empty()).then_some(CacheHit::Denying(verdict))
    }

    /// Nothing is known any more.
    pub(super) fn forget(&mut self) {
        self.buckets.clear();
    }
}

impl CacheHit {
    /// What Redis would say again at `now`.
    pub(super) fn verdict(&self, now: Micros) -> Verdict {
        match self {
            Self::All(said) => said.verdict_at(now),
            Self::Denying(verdict) => verdict.clone(),
        }
    }
}

impl CachedDenial {
    /// What is said at `now` of one bucket, without Redis.
    pub(super) fn of_one(now: Micros, verdict: Verdict) -> Self {
        Self { verdict, fingerprint: 0, since: now, replies: RefCell::default() }
    }

    /// Whether it holds at `now` for this one of a bucket: its cost is the same, and what it said to wait is not over.
    pub(super) fn is_alike(&self, now: Micros, check: &BucketCheck) -> bool {
        let holds = |outcome: &Outcome| {
            let until = self.since.plus(outcome.retry_after.unwrap_or(MAX_AGE).min(MAX_AGE));
            outcome.cost == check.cost && now < until
        };
        self.verdict.outcomes.first().is_some_and(holds)
    }

    /// What Redis said then.
    pub(super) fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// What a client was told, if another would be told the same.
    pub(super) fn reply(&self, now: Micros, is_grpc: bool) -> Option<Rc<LocalReply>> {
        let [of_grpc, of_others] = &*self.replies.borrow();
        let kept = if is_grpc { of_grpc } else { of_others };
        kept.as_ref().filter(|told| now < told.until).map(|told| Rc::clone(&told.reply))
    }

    /// A client is told this.
    pub(super) fn keep_reply(&self, now: Micros, is_grpc: bool, reply: &Rc<LocalReply>) {
        let age = now.minus(self.since);
        // Clients are told whole seconds, rounded up.
        let until_another = |span: Micros| {
            let left = span.minus(age);
            let whole = left.to_secs_ceil().checked_sub(1)?;
            Some(left.minus(Micros::from_secs(whole)))
        };
        let spans = self.verdict.outcomes.iter().flat_map(|outcome| [Some(outcome.reset), outcome.retry_after]);
        let soonest = spans.flatten().filter_map(until_another).min().unwrap_or(MAX_AGE);
        let [of_grpc, of_others] = &mut *self.replies.borrow_mut();
        *(if is_grpc { of_grpc } else { of_others }) =
            Some(CachedReply { until: now.plus(soonest), reply: Rc::clone(reply) });
    }

    fn verdict_at(&self, now: Micros) -> Verdict {
        let age = now.minus(self.since);
        let Verdict { admitted, now, outcomes } = &self.verdict;
        let outcomes = outcomes.iter().map(|outcome| aged(outcome, age)).collect();
        Verdict { admitted: *admitted, now: now.plus(age), outcomes }
    }

    /// Whether these are just the buckets. One of them is.
    fn is_of(&self, check: &[BucketCheck]) -> bool {
        let are_one = check.len() == 1 && self.verdict.outcomes.len() == 1;
        are_one || self.fingerprint == fingerprint(check.iter())
    }
}

/// The same, a while later. What has become of tokens meanwhile is not told: there are no fewer than that.
fn aged(outcome: &Outcome, age: Micros) -> Outcome {
    Outcome {
        retry_after: outcome.retry_after.map(|wait| wait.minus(age)),
        reset: outcome.reset.minus(age),
        ..*outcome
    }
}

/// FNV-1a. Who makes two requests of one fingerprint is told of a bucket that is not theirs how full it is, if they
/// know that it was denied within the second.
fn fingerprint<'a>(check: impl Iterator<Item = &'a BucketCheck>) -> u64 {
    check.fold(0xcbf2_9ce4_8422_2325, |hash, check| {
        // Another limit may be the one that denies another cost.
        let bytes = check.key.iter().copied().chain([0]).chain(check.cost.0.to_be_bytes());
        bytes.fold(hash, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    })
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use super::*;
    use crate::limit::{Algorithm, Algorithms, BucketState, Concurrency, SlotOwner, TokenBucket};

    const NOW: Micros = Micros::from_secs(50);
    const REDIS: Micros = Micros::from_secs(1_795_132_800);
    const MS: fn(u64) -> Micros = Micros::from_millis;

    /// Ten tokens, one each 100 ms.
    fn check(cost: u64, enforced: bool) -> Vec<BucketCheck> {
        let ten = NonZeroU64::new(10).unwrap();
        let bucket = TokenBucket::new(ten, ten, Micros::from_secs(1)).unwrap();
        Algorithms::from(bucket).checks(0, b"key", Tokens(cost), enforced).collect()
    }

    /// After Redis denied a request that cost so much, of a bucket that was empty.
    fn denied(cost: u64) -> DenyCache {
        let mut cache = DenyCache::new(100);
        let check = Check::new(check(cost, true), SlotOwner::default());
        let verdict = check.decide(REDIS, &[BucketState { used: 1_000_000, more: [0, 0] }]);
        assert!(!verdict.admitted);
        cache.learn(NOW, &check, &verdict);
        cache
    }

    #[test]
    fn what_was_denied_is_denied_until_its_token_exists() {
        let mut cache = denied(1);
        let verdict = cache.recall(NOW.plus(MS(60)), &check(1, true)).unwrap().verdict(NOW.plus(MS(60)));
        assert!(!verdict.admitted);
        assert_eq!(verdict.now, REDIS.plus(MS(60)));
        assert_eq!((verdict.outcomes[0].retry_after, verdict.outcomes[0].reset), (Some(MS(40)), MS(940)));
        assert!(cache.recall(NOW.plus(MS(100)).minus(Micros(1)), &check(1, true)).is_some());
        assert!(cache.recall(NOW.plus(MS(100)), &check(1, true)).is_none());
    }

    #[test]
    fn what_costs_more_or_less_is_asked() {
        let mut cache = denied(5);
        assert!(cache.recall(NOW, &check(4, true)).is_none());
        assert!(cache.recall(NOW, &check(6, true)).is_none());
        assert!(cache.recall(NOW, &check(5, true)).is_some());
    }

    #[test]
    fn who_pays_a_limit_another_cost_is_not_told_of_its_denial() {
        let mut cache = DenyCache::new(100);
        let both = |cost_of_slow| {
            let mut slow = check(cost_of_slow, true).remove(0);
            (slow.limit, slow.key) = (1, b"slow".to_vec());
            vec![check(1, true).remove(0), slow]
        };
        let check = Check::new(both(10), SlotOwner::default());
        let verdict = check.decide(REDIS, &[1_000_000, 500_000].map(|used| BucketState { used, more: [0, 0] }));
        assert_eq!(verdict.outcomes.iter().map(|outcome| outcome.admitted).collect::<Vec<_>>(), [false, false]);
        cache.learn(NOW, &check, &verdict);
        let now = NOW.plus(MS(1));
        let told = |recalled: Option<CacheHit>| recalled.map(|recalled| recalled.verdict(now).outcomes.len());
        assert_eq!(told(cache.recall(now, &both(10))), Some(2));
        assert_eq!(told(cache.recall(now, &both(1))), Some(1), "the other would admit that");
    }

    #[test]
    fn a_shadow_is_always_asked() {
        assert!(denied(1).recall(NOW, &check(1, false)).is_none());
    }

    #[test]
    fn no_denial_is_believed_for_longer_than_a_second() {
        let mut cache = denied(11);
        let verdict = cache.recall(NOW.plus(MS(999)), &check(11, true)).unwrap().verdict(NOW.plus(MS(999)));
        assert_eq!(verdict.outcomes[0].retry_after, None, "waiting cannot help");
        assert!(cache.recall(NOW.plus(MS(1_000)), &check(11, true)).is_none());
    }

    #[test]
    fn what_operators_changed_is_asked_again() {
        let mut cache = denied(1);
        cache.forget();
        assert!(cache.recall(NOW, &check(1, true)).is_none());
    }

    #[test]
    fn slots_in_flight_are_always_asked_for() {
        let one = Concurrency::new(NonZeroU64::MIN, Micros::from_secs(60)).unwrap();
        let buckets: Vec<BucketCheck> =
            Algorithms::new(&[Algorithm::Concurrency(one)]).unwrap().checks(0, b"key", Tokens(1), true).collect();
        let check = Check::new(buckets.clone(), SlotOwner::default());
        let mut cache = DenyCache::new(100);
        cache.learn(NOW, &check, &check.decide(REDIS, &[BucketState { used: 1, more: [0, 0] }]));
        assert!(cache.recall(NOW, &buckets).is_none());
    }

    #[test]
    fn an_answer_is_given_again_until_a_second_of_it_is_over() {
        let mut cache = denied(1);
        let mut said = |now| match cache.recall(now, &check(1, true)) {
            Some(CacheHit::All(said)) => said,
            other => panic!("{other:?}"),
        };
        let reply = Rc::new(crate::respond::bad_request(crate::descriptor::BadRequest::Body, false));
        // The bucket is full in 1 s, a token is there in 100 ms: both are told as 1 s, and 60 ms later as well.
        let then = NOW.plus(MS(20));
        said(then).keep_reply(then, false, &reply);
        assert!(said(then).reply(then, true).is_none(), "gRPC is told otherwise");
        for millis in [20, 60, 99] {
            let now = NOW.plus(MS(millis));
            assert!(said(now).reply(now, false).is_some(), "{millis} ms");
        }
        let over = NOW.plus(MS(100));
        assert!(said(then).reply(over, false).is_none(), "there is nothing to wait for any more");
    }
}

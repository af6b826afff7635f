//! Deny cache: answers repeats locally until the next token exists, at most 1 s.
//!
//! A denial says when its tokens will exist. They can exist earlier only if an operator resets the bucket or a worker
//! returns leased tokens. Therefore an entry lives for 1 s at most, and a change of overrides clears the cache.
//! Denials of concurrency limits are not cached, nor those of budgets where only open requests are in the way: a slot may
//! be released at any time, as may what a request has reserved.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;

use crate::limit::{BucketCheck, Check, Outcome, Rate, Verdict};
use crate::response::{ClientProtocol, LocalReply};
use crate::table::Recent;
use crate::units::{Micros, Tokens};

/// Maximum age of an entry, and so the maximum time until an operator's reset takes effect.
const MAX_AGE: Micros = Micros::from_secs(1);

/// Deny cache of one worker.
#[derive(Debug)]
pub(super) struct DenyCache {
    buckets: Recent<CacheEntry>,
    /// Whether requests carry numbers of limits, so that requests for one bucket may have different limits.
    has_carried_numbers: bool,
}

#[derive(Debug)]
struct CacheEntry {
    /// Cost that was denied. The entry applies to this cost only: a higher cost has a later retry-after.
    cost: Tokens,
    /// Numbers of the bucket that denied, where requests carry them. The entry applies to a bucket of these numbers
    /// only: one with greater numbers may admit the request.
    numbers: Option<Box<(Tokens, Option<Rate>)>>,
    until: Micros,
    /// Index of the bucket's outcome in `denial`.
    index: usize,
    denial: Rc<CachedDenial>,
}

/// Verdict on a denied request, for all its buckets.
#[derive(Debug)]
pub(super) struct CachedDenial {
    verdict: Verdict,
    /// Keys and costs of the buckets; empty for a request with one bucket.
    buckets: Box<[(Box<[u8]>, Tokens)]>,
    /// Time of the verdict by the worker's clock, not later than Redis decided.
    since: Micros,
    /// Last local replies: to HTTP clients, and to clients of one other protocol.
    replies: RefCell<[Option<CachedReply>; 2]>,
}

/// Local reply, and the time until which further requests get it unchanged.
#[derive(Debug)]
struct CachedReply {
    until: Micros,
    reply: Rc<LocalReply>,
}

/// Cached denial of a request.
#[derive(Debug)]
pub(super) enum CacheHit {
    /// The verdict on a request with exactly the same buckets and costs.
    All(Rc<CachedDenial>),
    /// The outcomes of the buckets that deny, from verdicts on other requests.
    Denying(Verdict),
}

impl DenyCache {
    /// Creates a cache of at most `max` buckets. `has_carried_numbers` is whether requests carry numbers of limits.
    #[inline(never)]
    pub(super) fn new(max: usize, has_carried_numbers: bool) -> Self {
        Self { buckets: Recent::new(max), has_carried_numbers }
    }

    /// Caches Redis' verdict on a request that arrived at `arrived_at`, by each bucket that denies it.
    pub(super) fn insert(&mut self, arrived_at: Micros, check: &Check, verdict: &Verdict) {
        let is_one = verdict.outcomes.len() == 1;
        let buckets = check.buckets().filter(|_| !is_one).map(|check| (check.key.as_slice().into(), check.cost));
        let denial = Rc::new(CachedDenial {
            verdict: verdict.clone(),
            buckets: buckets.collect(),
            since: arrived_at,
            replies: RefCell::default(),
        });
        for (index, (check, outcome)) in check.buckets().zip(&verdict.outcomes).enumerate() {
            if outcome.enforced && !outcome.admitted && outcome.period.is_some() && !outcome.is_only_reserved() {
                let until = arrived_at.plus(outcome.retry_after.unwrap_or(MAX_AGE).min(MAX_AGE));
                let numbers = self.has_carried_numbers.then(|| Box::new(check.algorithm.numbers()));
                let entry = CacheEntry { cost: check.cost, numbers, until, index, denial: Rc::clone(&denial) };
                self.buckets.insert(&check.key, entry);
            }
        }
    }

    /// Looks a request up. `None` if no bucket is known to deny it. The hit has the outcomes of all buckets if an
    /// earlier request had exactly the same buckets, else only of those that deny.
    pub(super) fn lookup(&mut self, now: Micros, check: &[BucketCheck]) -> Option<CacheHit> {
        if self.buckets.is_empty() {
            return None;
        }
        let mut verdict = Verdict::default();
        for bucket in check.iter().filter(|check| check.enforced) {
            let entry = self.buckets.get_mut(&bucket.key);
            let Some(entry) = entry.filter(|entry| entry.until > now && entry.cost == bucket.cost) else {
                continue;
            };
            if entry.numbers.as_deref().is_some_and(|numbers| *numbers != bucket.algorithm.numbers()) {
                continue;
            }
            let denial = &entry.denial;
            // The other buckets of that request may have had other numbers.
            let is_whole = !self.has_carried_numbers || check.len() == 1;
            if is_whole && denial.is_of(check) {
                return Some(CacheHit::All(Rc::clone(denial)));
            }
            let age = now.minus(denial.since);
            verdict.now = denial.verdict.now.plus(age);
            verdict.outcomes.extend(denial.verdict.outcomes.get(entry.index).map(|outcome| aged(outcome, age)));
        }
        (!verdict.outcomes.is_empty()).then_some(CacheHit::Denying(verdict))
    }

    /// Removes all entries.
    pub(super) fn clear(&mut self) {
        self.buckets.clear();
    }
}

impl CacheHit {
    /// The cached verdict, with its waits reduced to those at `now`.
    pub(super) fn verdict(&self, now: Micros) -> Verdict {
        match self {
            Self::All(denial) => denial.verdict_at(now),
            Self::Denying(verdict) => verdict.clone(),
        }
    }
}

impl CachedDenial {
    /// Creates a denial at `now` by one bucket, without Redis.
    pub(super) fn of_one(now: Micros, verdict: Verdict) -> Self {
        Self { verdict, buckets: Box::default(), since: now, replies: RefCell::default() }
    }

    /// Whether the denial applies to this check of its bucket at `now`: the cost is the same, and its retry-after has
    /// not passed.
    pub(super) fn applies_to(&self, now: Micros, check: &BucketCheck) -> bool {
        let holds = |outcome: &Outcome| {
            let until = self.since.plus(outcome.retry_after.unwrap_or(MAX_AGE).min(MAX_AGE));
            outcome.cost == check.cost && now < until
        };
        self.verdict.outcomes.first().is_some_and(holds)
    }

    /// The verdict as of the time of the denial.
    pub(super) fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Returns the last local reply, if a new one at `now` would be the same.
    pub(super) fn reply(&self, now: Micros, protocol: ClientProtocol) -> Option<Rc<LocalReply>> {
        let [of_http, of_other] = &*self.replies.borrow();
        let kept = match protocol {
            ClientProtocol::Http => of_http.as_ref(),
            other => of_other.as_ref().filter(|cached| cached.reply.protocol() == other),
        };
        kept.filter(|cached| now < cached.until).map(|cached| Rc::clone(&cached.reply))
    }

    /// Keeps a local reply for further requests.
    pub(super) fn keep_reply(&self, now: Micros, reply: &Rc<LocalReply>) {
        let age = now.minus(self.since);
        // Headers have whole seconds, rounded up.
        let until_another = |span: Micros| {
            let left = span.minus(age);
            let whole = left.to_secs_ceil().checked_sub(1)?;
            Some(left.minus(Micros::from_secs(whole)))
        };
        let spans = self.verdict.outcomes.iter().flat_map(|outcome| [Some(outcome.reset), outcome.retry_after]);
        let soonest = spans.flatten().filter_map(until_another).min().unwrap_or(MAX_AGE);
        let [of_http, of_other] = &mut *self.replies.borrow_mut();
        let kept = if reply.protocol() == ClientProtocol::Http { of_http } else { of_other };
        *kept = Some(CachedReply { until: now.plus(soonest), reply: Rc::clone(reply) });
    }

    fn verdict_at(&self, now: Micros) -> Verdict {
        let age = now.minus(self.since);
        let Verdict { admitted, now, outcomes, is_local } = &self.verdict;
        let outcomes = outcomes.iter().map(|outcome| aged(outcome, age)).collect();
        Verdict { admitted: *admitted, now: now.plus(age), outcomes, is_local: *is_local }
    }

    /// Whether the denial is of exactly these buckets and costs. At least one of the buckets has this denial.
    fn is_of(&self, check: &[BucketCheck]) -> bool {
        match &*self.buckets {
            [] => check.len() == 1,
            buckets => are_same(buckets, check),
        }
    }
}

#[inline(never)]
fn are_same(buckets: &[(Box<[u8]>, Tokens)], check: &[BucketCheck]) -> bool {
    // Of another cost, another bucket may be the one that denies.
    buckets.iter().map(|(key, cost)| (&**key, *cost)).eq(check.iter().map(|check| (check.key.as_slice(), check.cost)))
}

/// The outcome after `age`: its waits are shorter. The remaining tokens are unchanged: a lower bound.
fn aged(outcome: &Outcome, age: Micros) -> Outcome {
    Outcome {
        retry_after: outcome.retry_after.map(|wait| wait.minus(age)),
        reset: outcome.reset.minus(age),
        ..*outcome
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use super::*;
    use crate::descriptor::BadRequest;
    use crate::limit::{Algorithm, Algorithms, BucketState, Concurrency, SlotOwner, TokenBucket};
    use crate::response::{ErrorStatus, ResponseConfig, Responses, bad_request};

    const NOW: Micros = Micros::from_secs(50);
    const REDIS: Micros = Micros::from_secs(1_795_132_800);
    const MS: fn(u64) -> Micros = Micros::from_millis;

    /// Check of a bucket of 10 tokens, one each 100 ms.
    fn check(cost: u64, enforced: bool) -> Vec<BucketCheck> {
        let ten = NonZeroU64::new(10).unwrap();
        let bucket = TokenBucket::new(ten, ten, Micros::from_secs(1)).unwrap();
        Algorithms::from(bucket).checks(0, b"key", Tokens(cost), enforced).collect()
    }

    /// Cache after Redis denied a request of this cost from an empty bucket.
    fn denied(cost: u64) -> DenyCache {
        let mut cache = DenyCache::new(100, false);
        let check = Check::new(check(cost, true), SlotOwner::default());
        let verdict = check.decide(REDIS, &[BucketState { used: 1_000_000, more: [0, 0] }]);
        assert!(!verdict.admitted);
        cache.insert(NOW, &check, &verdict);
        cache
    }

    #[test]
    fn a_repeat_is_denied_until_its_token_exists() {
        let mut cache = denied(1);
        let verdict = cache.lookup(NOW.plus(MS(60)), &check(1, true)).unwrap().verdict(NOW.plus(MS(60)));
        assert!(!verdict.admitted);
        assert_eq!(verdict.now, REDIS.plus(MS(60)));
        assert_eq!((verdict.outcomes[0].retry_after, verdict.outcomes[0].reset), (Some(MS(40)), MS(940)));
        assert!(cache.lookup(NOW.plus(MS(100)).minus(Micros(1)), &check(1, true)).is_some());
        assert!(cache.lookup(NOW.plus(MS(100)), &check(1, true)).is_none());
    }

    #[test]
    fn a_repeat_of_another_cost_is_sent_to_redis() {
        let mut cache = denied(5);
        assert!(cache.lookup(NOW, &check(4, true)).is_none());
        assert!(cache.lookup(NOW, &check(6, true)).is_none());
        assert!(cache.lookup(NOW, &check(5, true)).is_some());
    }

    #[test]
    fn a_repeat_with_another_cost_at_one_limit_does_not_get_that_limits_denial() {
        let mut cache = DenyCache::new(100, false);
        let both = |cost_of_slow| {
            let mut slow = check(cost_of_slow, true).remove(0);
            (slow.limit, slow.key) = (1, b"slow".to_vec());
            vec![check(1, true).remove(0), slow]
        };
        let check = Check::new(both(10), SlotOwner::default());
        let verdict = check.decide(REDIS, &[1_000_000, 500_000].map(|used| BucketState { used, more: [0, 0] }));
        assert_eq!(verdict.outcomes.iter().map(|outcome| outcome.admitted).collect::<Vec<_>>(), [false, false]);
        cache.insert(NOW, &check, &verdict);
        let now = NOW.plus(MS(1));
        let cached = |hit: Option<CacheHit>| hit.map(|hit| hit.verdict(now).outcomes.len());
        assert_eq!(cached(cache.lookup(now, &both(10))), Some(2));
        assert_eq!(cached(cache.lookup(now, &both(1))), Some(1), "the other limit would admit this cost");
    }

    /// Both keys have the FNV-1a hash 0xffc0_eee1_dbcf_3345: a client can compute such keys in minutes, unless the
    /// hash has a secret key.
    #[test]
    fn a_key_with_the_same_fnv_hash_does_not_get_the_other_keys_outcome() {
        let [key, other] = [b"gu8fbb6pq2pfap", b"a4c65bzri156gs"];
        assert_eq!(fnv(key), fnv(other));
        let with_shared = |key: &[u8]| {
            let mut own = check(1, true).remove(0);
            (own.limit, own.key) = (1, key.to_vec());
            vec![own, check(1, true).remove(0)]
        };
        let check = Check::new(with_shared(key), SlotOwner::default());
        let verdict = check.decide(REDIS, &[0, 1_000_000].map(|used| BucketState { used, more: [0, 0] }));
        let mut cache = DenyCache::new(100, false);
        cache.insert(NOW, &check, &verdict);
        let mut limits = |key| {
            let verdict = cache.lookup(NOW, &with_shared(key)).unwrap().verdict(NOW);
            verdict.outcomes.iter().map(|outcome| outcome.limit).collect::<Vec<_>>()
        };
        assert_eq!(limits(key), [1, 0]);
        assert_eq!(limits(other), [0], "only the bucket that both requests share");
    }

    fn fnv(key: &[u8]) -> u64 {
        let add = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        key.iter().fold(0xcbf2_9ce4_8422_2325, add)
    }

    #[test]
    fn a_limit_in_shadow_mode_is_always_sent_to_redis() {
        assert!(denied(1).lookup(NOW, &check(1, false)).is_none());
    }

    #[test]
    fn no_denial_is_cached_for_longer_than_a_second() {
        let mut cache = denied(11);
        let verdict = cache.lookup(NOW.plus(MS(999)), &check(11, true)).unwrap().verdict(NOW.plus(MS(999)));
        assert_eq!(verdict.outcomes[0].retry_after, None, "waiting cannot help");
        assert!(cache.lookup(NOW.plus(MS(1_000)), &check(11, true)).is_none());
    }

    /// A claim may be greater than that of the last request, or give a faster rate.
    #[test]
    fn a_denial_under_a_number_that_requests_carry_denies_no_request_with_another_number() {
        let bucket = |capacity: u64, fill: u64| {
            let [capacity, fill] = [capacity, fill].map(|number| NonZeroU64::new(number).unwrap());
            let bucket = TokenBucket::new(capacity, fill, Micros::from_secs(1)).unwrap();
            Algorithms::from(bucket).checks(0, b"key", Tokens(1), true).collect::<Vec<_>>()
        };
        let check = Check::new(bucket(10, 10), SlotOwner::default());
        let mut cache = DenyCache::new(100, true);
        cache.insert(NOW, &check, &check.decide(REDIS, &[BucketState { used: 1_000_000, more: [0, 0] }]));
        assert!(matches!(cache.lookup(NOW, &bucket(10, 10)), Some(CacheHit::All(_))));
        for other in [bucket(11, 10), bucket(10, 11), bucket(9, 10)] {
            assert!(cache.lookup(NOW, &other).is_none());
        }
    }

    #[test]
    fn a_cleared_cache_denies_nothing() {
        let mut cache = denied(1);
        cache.clear();
        assert!(cache.lookup(NOW, &check(1, true)).is_none());
    }

    #[test]
    fn denials_of_concurrency_limits_are_not_cached() {
        let one = Concurrency::new(NonZeroU64::MIN, Micros::from_secs(60)).unwrap();
        let buckets: Vec<BucketCheck> =
            Algorithms::new(&[Algorithm::Concurrency(one)]).unwrap().checks(0, b"key", Tokens(1), true).collect();
        let check = Check::new(buckets.clone(), SlotOwner::default());
        let mut cache = DenyCache::new(100, false);
        cache.insert(NOW, &check, &check.decide(REDIS, &[BucketState { used: 1, more: [0, 0] }]));
        assert!(cache.lookup(NOW, &buckets).is_none());
    }

    #[test]
    fn a_local_reply_is_shared_until_one_of_its_seconds_changes() {
        let mut cache = denied(1);
        let mut denial = |now| match cache.lookup(now, &check(1, true)) {
            Some(CacheHit::All(denial)) => denial,
            other => panic!("{other:?}"),
        };
        let responses = Responses::new(ResponseConfig::default(), Vec::new(), ErrorStatus::SERVICE_UNAVAILABLE);
        let reply = Rc::new(bad_request(&responses, BadRequest::Body, ClientProtocol::Http));
        // The bucket is full in 1 s, a token exists in 100 ms: the headers have 1 s for both, and 60 ms later as well.
        let then = NOW.plus(MS(20));
        denial(then).keep_reply(then, &reply);
        assert!(denial(then).reply(then, ClientProtocol::Grpc).is_none(), "the gRPC reply differs");
        for millis in [20, 60, 99] {
            let now = NOW.plus(MS(millis));
            assert!(denial(now).reply(now, ClientProtocol::Http).is_some(), "{millis} ms");
        }
        let reply = Rc::new(bad_request(&responses, BadRequest::Body, ClientProtocol::Grpc));
        denial(then).keep_reply(then, &reply);
        for protocol in [ClientProtocol::Http, ClientProtocol::Grpc] {
            assert_eq!(denial(then).reply(then, protocol).map(|reply| reply.protocol()), Some(protocol));
        }
        assert!(denial(then).reply(then, ClientProtocol::ConnectUnary).is_none(), "the Connect reply differs");
        let over = NOW.plus(MS(100));
        assert!(denial(then).reply(over, ClientProtocol::Http).is_none(), "the token exists");
    }
}

//! Check of one bucket, and its outcome for a decision.

use alloc::rc::Rc;
use alloc::vec::Vec;

use super::verdict::Outcome;
use crate::limit::algorithm::{Algorithm, BucketDecision, BucketState};
use crate::units::{Micros, Tokens};

/// Check of one bucket for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketCheck {
    /// The limit's index in the configuration.
    pub limit: usize,
    /// The window's index within the limit. A limit's windows follow each other.
    pub window: usize,
    /// The bucket's key in Redis.
    pub key: Vec<u8>,
    /// The algorithm by which the bucket admits.
    pub algorithm: Algorithm,
    /// Tokens that the request costs.
    pub cost: Tokens,
    /// Whether a denial by this bucket denies the request; not in shadow mode.
    pub enforced: bool,
    /// Text of the override of the limit's key that has been applied to the algorithm. `None` where none has.
    pub applied: Option<Rc<[u8]>>,
}

impl BucketCheck {
    /// Key of the limit: see `limit_key`.
    #[must_use]
    pub fn limit_key(&self) -> &[u8] {
        limit_key(&self.key)
    }

    /// Whether the bucket may hold the request until its tokens exist.
    #[must_use]
    pub fn may_delay(&self) -> bool {
        matches!(self.algorithm, Algorithm::TokenBucket(bucket) if self.enforced && bucket.max_delay() > Micros::ZERO)
    }

    /// Whether a request that goes on changes the bucket: it costs something, or is settled by what it has cost.
    #[must_use]
    pub fn spends(&self) -> bool {
        self.cost.0 > 0 || matches!(self.algorithm, Algorithm::Budget(_))
    }

    /// Sets the part of the cost that is the request's own tokens, where the cost is an estimate.
    pub fn set_floor(&mut self, floor: u64) {
        if let Algorithm::Budget(budget) = self.algorithm {
            self.algorithm = Algorithm::Budget(budget.with_floor(floor));
        }
    }

    /// Part of the cost that is the request's own tokens, where the cost is an estimate.
    #[must_use]
    pub fn floor(&self) -> u64 {
        if let Algorithm::Budget(budget) = self.algorithm { budget.floor() } else { 0 }
    }

    /// Sets the bucket's longest delay to zero, so that it admits at once or not at all.
    pub fn never_delays(&mut self) {
        if let Algorithm::TokenBucket(bucket) = self.algorithm {
            self.algorithm = Algorithm::TokenBucket(bucket.with_max_delay(Micros::ZERO).unwrap_or(bucket));
        }
    }

    /// The denial of a bucket that an operator has blocked for `wait`, `None` until further notice: Redis is not
    /// called.
    ///
    /// A calendar period, whose length depends on the date, has its length in January 1970.
    #[must_use]
    pub fn blocked(&self, wait: Option<Micros>) -> Outcome {
        Outcome {
            admitted: false,
            remaining: Tokens(0),
            retry_after: wait,
            reset: wait.unwrap_or_default(),
            delay: Micros::ZERO,
            ..self.outcome(&self.algorithm.decide(Micros::ZERO, BucketState::default(), self.cost), false)
        }
    }

    /// The outcome at `now` for a request that spends nothing, given the bucket's state.
    pub(super) fn peek(&self, now: Micros, state: BucketState) -> Outcome {
        self.outcome(&self.algorithm.decide(now, state, self.cost), false)
    }

    /// The outcome of `decision`: a request that goes on pays its cost and takes its grant, another does neither.
    pub(in crate::limit) fn outcome(&self, decision: &BucketDecision, goes_on: bool) -> Outcome {
        let spent = goes_on && self.spends();
        let granted = decision.granted.filter(|_| goes_on);
        let level = if spent || granted.is_some() { decision.after } else { decision.before };
        Outcome {
            limit: self.limit,
            window: self.window,
            cost: self.cost,
            capacity: decision.capacity,
            period: decision.period,
            admitted: decision.admits,
            enforced: self.enforced,
            spent,
            remaining: level.remaining,
            retry_after: decision.retry_after,
            reset: level.reset,
            delay: decision.delay,
            granted,
            held: decision.held,
        }
    }
}

/// Returns the key of the limit of a bucket's key, without the suffix that tells the state of one of several algorithms.
pub(super) fn limit_key(key: &[u8]) -> &[u8] {
    let is_suffix = |at: &usize| {
        let tag = key.get(at.wrapping_add(1)..).unwrap_or_default();
        tag.first().is_some_and(u8::is_ascii_lowercase) && !tag.contains(&b':')
    };
    let suffix = key.iter().rposition(|byte| *byte == b'#').filter(is_suffix);
    suffix.and_then(|at| key.get(..at)).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU64;

    use super::*;
    use crate::limit::TokenBucket;

    #[test]
    fn a_bucket_that_an_operator_blocked_denies_whatever_it_holds() {
        let ten = NonZeroU64::new(10).unwrap();
        let bucket = TokenBucket::new(ten, ten, Micros::from_secs(60)).unwrap();
        let algorithm = Algorithm::TokenBucket(bucket);
        let check = BucketCheck {
            limit: 3,
            window: 0,
            key: Vec::new(),
            algorithm,
            cost: Tokens(1),
            enforced: true,
            applied: None,
        };
        let blocked = check.blocked(Some(Micros::from_secs(9)));
        assert_eq!((blocked.limit, blocked.admitted, blocked.spent), (3, false, false));
        assert_eq!((blocked.capacity, blocked.period), (Tokens(10), Some(Micros::from_secs(60))));
        assert_eq!((blocked.remaining, blocked.retry_after), (Tokens(0), Some(Micros::from_secs(9))));
        assert_eq!(check.blocked(None).retry_after, None);
    }

    #[test]
    fn a_limits_key_is_a_buckets_key_without_the_tag_of_an_algorithm() {
        for (key, of_limit) in [
            ("weir:a:alice", "weir:a:alice"),
            ("weir:a:alice#token2", "weir:a:alice"),
            ("weir:a:alice#month+60", "weir:a:alice"),
            ("weir:a:#0123ABCD", "weir:a:#0123ABCD"),
            ("weir:a:#0123ABCD#log1000000", "weir:a:#0123ABCD"),
            ("shop#a:b:alice", "shop#a:b:alice"),
            ("shop#a:b:alice#token", "shop#a:b:alice"),
        ] {
            let algorithm = Algorithm::NoTokens;
            let (key, cost) = (key.as_bytes().to_vec(), Tokens(1));
            let check = BucketCheck { limit: 0, window: 0, key, algorithm, cost, enforced: true, applied: None };
            assert_eq!(check.limit_key(), of_limit.as_bytes());
        }
    }
}

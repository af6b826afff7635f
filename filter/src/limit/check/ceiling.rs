//! Ceiling of a bucket: the most that it admits within a span, and its denial when that is used up, for requests that
//! are denied without a call to Redis.

use super::bucket::BucketCheck;
use super::verdict::Outcome;
use crate::limit::algorithm::{Algorithm, BucketState};
use crate::units::{Micros, Tokens};

/// Slots of a concurrency limit that are assumed to be released while a request is decided, beyond the limit's number.
const FREED: u64 = 64;
/// Retry-after of a denial where the time on Redis' clock is unknown.
const SOON: Micros = Micros::from_secs(1);

impl BucketCheck {
    /// Whether the bucket can deny the request.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.enforced && self.cost.0 > 0
    }

    /// Tokens or slots that the request takes from the bucket.
    #[must_use]
    pub fn takes(&self) -> Tokens {
        if let Algorithm::Concurrency(_) = self.algorithm { Tokens(self.cost.0.min(1)) } else { self.cost }
    }

    /// The most that the bucket admits within `span`, whatever it holds at first. `u64::MAX` where the number exceeds
    /// 64 bits.
    #[must_use]
    #[inline(never)]
    pub fn at_most_within(&self, span: Micros) -> Tokens {
        // What is reserved may be free again at any time.
        if let Algorithm::Budget(_) = self.algorithm {
            return Tokens(u64::MAX);
        }
        let decision = self.algorithm.decide(Micros::ZERO, BucketState::default(), Tokens(0));
        let capacity = decision.capacity.0;
        // A span may touch two windows, however short it is; a token bucket fills in proportion to the span.
        let (first, span) = match self.algorithm {
            Algorithm::TokenBucket(bucket) => (capacity, span.plus(bucket.max_delay())),
            Algorithm::LeasedBucket(_) => (capacity, span),
            Algorithm::Concurrency(_) => (capacity.saturating_mul(2).saturating_add(FREED), span),
            _ => (capacity.saturating_mul(2), span),
        };
        // `tokens` per `each` µs.
        let (tokens, each) = match (self.algorithm.token_bucket(), self.algorithm) {
            (Some(bucket), _) => (bucket.rate().per_micro(), bucket.rate().per_token()),
            // Slots are released when their leases end.
            (None, Algorithm::Concurrency(concurrency)) => (capacity, concurrency.lease().0),
            (None, _) => (capacity, decision.period.unwrap_or_default().0),
        };
        let flow = span.0.checked_mul(tokens).and_then(|flow| flow.checked_div(each));
        Tokens(flow.map_or(u64::MAX, |flow| first.saturating_add(flow).saturating_add(1)))
    }

    /// The denial of an empty bucket at `now`, by Redis' clock. Where the time is unknown, retry-after and reset are at
    /// most 1 s.
    #[must_use]
    #[inline(never)]
    pub fn exhausted(&self, now: Option<Micros>) -> Outcome {
        let used = self.algorithm.arguments(self.cost).limit;
        let more = if let Algorithm::SlidingWindow(_) = self.algorithm { [used, 0] } else { [SOON.0; 2] };
        let state = match self.algorithm {
            Algorithm::LeasedBucket(_) => BucketState { used, more: [0, 0] },
            _ => BucketState { used, more },
        };
        let outcome = self.outcome(&self.algorithm.decide(now.unwrap_or_default(), state, self.cost), false);
        let at_most = |wait: Micros| if now.is_none() { wait.min(SOON) } else { wait };
        Outcome {
            admitted: false,
            delay: Micros::ZERO,
            retry_after: outcome.retry_after.map(at_most),
            reset: at_most(outcome.reset),
            ..outcome
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use core::num::NonZeroU64;

    use proptest::prelude::*;

    use super::*;
    use crate::limit::{
        Algorithms, Check, Concurrency, FixedWindow, Model, Period, Quota, SlidingLog, SlidingWindow, SlotOwner,
        TokenBucket,
    };

    const NOW: Micros = Micros::from_secs(1_795_132_801);

    fn algorithms(limit: u64, window: Micros) -> Vec<Algorithm> {
        let limit = NonZeroU64::new(limit).unwrap();
        let bucket = TokenBucket::new(limit, limit, window).unwrap();
        let lease = window.max(Micros::from_secs(1));
        vec![
            Algorithm::TokenBucket(bucket),
            Algorithm::TokenBucket(bucket.with_max_delay(Micros::from_millis(700)).unwrap()),
            Algorithm::FixedWindow(FixedWindow::new(limit, window).unwrap()),
            Algorithm::SlidingWindow(SlidingWindow::new(limit, window).unwrap()),
            Algorithm::SlidingLog(SlidingLog::new(limit, window).unwrap()),
            Algorithm::Quota(Quota::new(limit, Period::Minute, 0).unwrap()),
            Algorithm::Concurrency(Concurrency::new(limit, lease).unwrap()),
        ]
    }

    fn check(algorithm: Algorithm, cost: u64) -> BucketCheck {
        Algorithms::new(&[algorithm]).unwrap().checks(0, b"key", Tokens(cost), true).next().unwrap()
    }

    proptest! {
        /// No bucket admits more within a span than its ceiling, however requests arrive.
        #[test]
        fn no_bucket_admits_more(
            limit in 1_u64..20, window in 100_000_u64..3_000_000, start in 0_u64..60_000_000,
            history in prop::collection::vec((0_u64..300_000, 1_u64..5), 1..150),
        ) {
            for algorithm in algorithms(limit, Micros(window)) {
                // No slot is released before its lease ends.
                let (mut model, mut now) = (Model::default(), NOW.plus(Micros(start)));
                let mut admitted: Vec<(Micros, u64)> = Vec::new();
                for (nth, (pause, cost)) in history.iter().enumerate() {
                    now = now.plus(Micros(*pause));
                    let bucket = check(algorithm, *cost);
                    let takes = bucket.takes().0;
                    let check = Check::new(vec![bucket.clone()], SlotOwner::new(1, u64::try_from(nth).unwrap()));
                    if model.decide(now, &check).admitted {
                        admitted.push((now, takes));
                    }
                    for (first, &(since, _)) in admitted.iter().enumerate() {
                        let all: u64 = admitted[first..].iter().map(|(_, cost)| cost).sum();
                        prop_assert!(all <= bucket.at_most_within(now.minus(since)).0, "{algorithm:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_exhausted_bucket_denies_like_an_empty_one() {
        for algorithm in algorithms(10, Micros::from_secs(10)) {
            let outcome = check(algorithm, 1).exhausted(Some(NOW));
            assert!(
                !outcome.admitted && !outcome.spent && outcome.remaining == Tokens(0) && outcome.delay == Micros::ZERO,
                "{algorithm:?}: {outcome:?}"
            );
            let wait = outcome.retry_after.unwrap();
            assert!(wait > Micros::ZERO && wait <= Micros::from_secs(60), "{algorithm:?}: {wait:?}");
            let soon = check(algorithm, 1).exhausted(None);
            assert!(soon.retry_after.unwrap() <= SOON && soon.reset <= SOON, "{algorithm:?}: {soon:?}");
        }
        let bucket = algorithms(10, Micros::from_secs(10))[0];
        assert_eq!(check(bucket, 3).exhausted(Some(NOW)).retry_after, Some(Micros::from_secs(3)));
        assert_eq!(check(bucket, 11).exhausted(Some(NOW)).retry_after, None, "waiting cannot help");
    }

    #[test]
    fn a_bucket_that_fills_within_a_microsecond_admits_as_much_as_flows_in() {
        let nonzero = |n| NonZeroU64::new(n).unwrap();
        let bucket = TokenBucket::new(nonzero(3), nonzero(10), Micros(1)).unwrap();
        assert_eq!(check(Algorithm::TokenBucket(bucket), 1).at_most_within(Micros(100)), Tokens(1_004));
    }

    #[test]
    fn slots_that_are_returned_while_requests_are_undecided_are_counted() {
        let slots = Algorithm::Concurrency(Concurrency::new(10_u64, Micros::from_secs(60)).unwrap());
        assert_eq!(check(slots, 1).at_most_within(Micros::ZERO), Tokens(10 + 10 + FREED + 1));
    }

    #[test]
    fn a_ceiling_beyond_64_bits_is_the_greatest_number() {
        let window = FixedWindow::new(1_u64 << 32, Micros(1)).unwrap();
        assert_eq!(check(Algorithm::FixedWindow(window), 1).at_most_within(Micros(1 << 32)), Tokens(u64::MAX));
    }
}

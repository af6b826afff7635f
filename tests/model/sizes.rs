//! A bucket in Redis with several configurations that differ in size, rate or leases: a canary, an override that some
//! workers have not read yet, a redeploy. Spent tokens stay spent.

use std::cell::RefCell;
use std::num::NonZeroU64;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use redis::Commands;
use weir_filter::limit::{
    Algorithm, BucketCheck, Check, FixedWindow, LeaseRequest, LeasedBucket, Model, Outcome, SlotOwner, TokenBucket,
};
use weir_filter::units::{Micros, Tokens};

use crate::histories::{Ask, ask, leased_bucket, seconds, token_bucket};
use crate::store::Store;

/// 2026-11-20T00:00Z, in µs.
const TODAY: u64 = 1_795_132_800_000_000;
const KEY: &str = "bucket";

fn n(n: u64) -> NonZeroU64 {
    NonZeroU64::new(n).unwrap()
}

/// Returns a bucket of `capacity` tokens that refills `tokens` per `secs`.
fn bucket(capacity: u64, tokens: u64, secs: u64) -> TokenBucket {
    TokenBucket::new(n(capacity), n(tokens), Micros::from_secs(secs)).unwrap()
}

fn leased(bucket: TokenBucket) -> Algorithm {
    Algorithm::LeasedBucket(LeasedBucket::new(bucket, Micros::from_secs(10)).unwrap())
}

/// Returns a check of this cost. With `is_mixed`, a limit of another algorithm applies, too, so that the script for all
/// algorithms decides.
fn check(algorithm: Algorithm, cost: u64, is_mixed: bool) -> Check {
    let check = |limit, key: &str, algorithm, cost| BucketCheck {
        limit,
        window: 0,
        key: key.into(),
        algorithm,
        cost: Tokens(cost),
        enforced: true,
        applied: None,
    };
    let wide = Algorithm::FixedWindow(FixedWindow::new(n(1 << 32), Micros(1 << 50)).unwrap());
    let other = is_mixed.then(|| check(1, "other", wide, 0));
    Check::new([check(0, KEY, algorithm, cost)].into_iter().chain(other).collect(), SlotOwner::default())
}

/// A Redis with a settable clock, by which keys expire.
struct Redis {
    store: Store,
    now: u64,
    is_mixed: bool,
}

/// Runs a story with each of the two scripts.
fn by_both_scripts(story: impl Fn(&mut Redis)) {
    for is_mixed in [false, true] {
        let Some(store) = Store::with_settable_clock() else { return };
        let mut redis = Redis { store: store.that_expires_keys(), now: TODAY, is_mixed };
        redis.passes(0);
        story(&mut redis);
    }
}

impl Redis {
    fn passes(&mut self, secs: u64) {
        self.now += secs * 1_000_000;
        self.store.set_clock(Micros(self.now));
    }

    fn asks(&mut self, algorithm: Algorithm, cost: u64) -> Outcome {
        self.store.decide(&check(algorithm, cost, self.is_mixed)).unwrap().outcomes[0]
    }

    fn admits(&mut self, bucket: TokenBucket) -> bool {
        self.asks(Algorithm::TokenBucket(bucket), 1).admitted
    }

    /// Sends `requests` at the same time, and returns how many are admitted.
    fn crowd(&mut self, bucket: TokenBucket, requests: u64) -> usize {
        (0..requests).filter(|_| self.admits(bucket)).count()
    }
}

#[test]
fn a_denial_by_a_smaller_bucket_adds_no_tokens_to_a_larger_one() {
    by_both_scripts(|redis| {
        let (large, small) = (bucket(50, 1, 60), bucket(5, 1, 60));
        assert_eq!(redis.crowd(large, 60), 50);
        for _ in 0..3 {
            assert!(!redis.admits(small));
            assert_eq!(redis.crowd(large, 60), 0, "only refilled tokens admit requests");
        }
        redis.passes(60);
        assert_eq!(redis.crowd(small, 9) + redis.crowd(large, 60), 1);
        redis.passes(120);
        assert_eq!(redis.crowd(large, 1) + redis.crowd(small, 9) + redis.crowd(large, 60), 2);
    });
}

#[test]
fn a_bucket_that_is_made_smaller_is_empty_and_has_no_debt() {
    by_both_scripts(|redis| {
        let (large, small) = (bucket(50, 1, 60), bucket(5, 1, 60));
        redis.crowd(large, 50);
        let denied = redis.asks(Algorithm::TokenBucket(small), 1);
        assert_eq!((denied.admitted, denied.remaining), (false, Tokens(0)));
        assert_eq!((denied.retry_after, denied.reset), (Some(Micros::from_secs(60)), Micros::from_secs(300)));
        redis.passes(180);
        assert_eq!(redis.crowd(small, 9), 3);
        redis.passes(60);
        assert_eq!(redis.crowd(small, 9), 1);
        redis.passes(299);
        assert_eq!(redis.crowd(small, 9), 4);
        redis.passes(301);
        assert_eq!(redis.crowd(small, 9), 5);
        assert_eq!(redis.crowd(large, 60), 14 - 13, "13 of 14 refilled tokens were spent");
    });
}

#[test]
fn a_bucket_that_is_made_larger_has_more_tokens_at_once() {
    by_both_scripts(|redis| {
        assert_eq!(redis.crowd(bucket(5, 1, 60), 9), 5);
        assert_eq!(redis.crowd(bucket(50, 1, 60), 60), 45);
    });
}

#[test]
fn a_canary_with_twice_the_rate_admits_at_least_as_much_as_the_others() {
    by_both_scripts(|redis| {
        let (old, new) = (bucket(10, 10, 60), bucket(10, 20, 60));
        redis.crowd(old, 10);
        let mut admitted = [0, 0];
        for second in 0..120 {
            redis.passes(1);
            let by_new = redis.asks(Algorithm::TokenBucket(new), 0).remaining;
            let by_old = redis.asks(Algorithm::TokenBucket(old), 0).remaining;
            assert!(by_new >= by_old, "{second}");
            admitted[second % 2] += redis.crowd(if second % 2 == 0 { old } else { new }, 1);
        }
        assert!(admitted[1] >= admitted[0], "{admitted:?}");
        assert!((20..=40).contains(&admitted.iter().sum::<usize>()), "{admitted:?}");
    });
}

#[test]
fn tokens_stay_spent_at_a_lower_rate_when_the_former_rate_would_have_refilled_them() {
    by_both_scripts(|redis| {
        let (before, after) = (bucket(10, 10, 60), bucket(10, 10, 3_600));
        assert_eq!(redis.crowd(before, 11), 10);
        redis.passes(5);
        assert_eq!(redis.crowd(after, 11), 0);
        redis.passes(100);
        assert_eq!(redis.crowd(after, 11), 0, "one token refills in 6 minutes");
        redis.passes(260);
        assert_eq!(redis.crowd(after, 11), 1);
        assert_eq!(redis.crowd(before, 11), 0);
    });
}

#[test]
fn a_higher_rate_applies_at_once() {
    by_both_scripts(|redis| {
        let (before, after) = (bucket(10, 10, 3_600), bucket(10, 10, 60));
        assert_eq!(redis.crowd(before, 11), 10);
        redis.passes(6);
        let denied = redis.asks(Algorithm::TokenBucket(before), 1);
        assert_eq!(denied.retry_after, Some(Micros::from_secs(354)));
        assert_eq!(redis.crowd(after, 11), 1);
        let denied = redis.asks(Algorithm::TokenBucket(after), 1);
        assert_eq!(denied.retry_after, Some(Micros::from_secs(6)));
        redis.passes(60);
        assert_eq!(redis.crowd(after, 11), 10);
    });
}

#[test]
fn rates_with_a_fraction_of_a_microsecond_per_token_are_exact() {
    by_both_scripts(|redis| {
        let mut takes = |algorithm, cost| redis.asks(algorithm, cost);
        let minute = Algorithm::TokenBucket(bucket(60_000_000, 50_000_000, 60));
        let all = takes(minute, 60_000_000);
        assert_eq!((all.admitted, all.period, all.reset), (true, Some(Micros::from_secs(72)), Micros::from_secs(72)));
        assert_eq!(takes(minute, 50_000_000).retry_after, Some(Micros::from_secs(60)));
        redis.passes(60);
        assert!(!redis.asks(minute, 50_000_001).admitted);
        assert!(redis.asks(minute, 50_000_000).admitted);
    });
    by_both_scripts(|redis| {
        let bytes = Algorithm::TokenBucket(bucket(20_000_000, 10_000_000, 1));
        assert!(redis.asks(bytes, 20_000_000).admitted);
        assert_eq!(redis.asks(bytes, 25).retry_after, Some(Micros(3)));
        redis.passes(1);
        assert_eq!(redis.asks(bytes, 10_000_001).retry_after, Some(Micros(1)));
        assert!(redis.asks(bytes, 10_000_000).admitted);
        assert_eq!(redis.asks(bytes, 0).remaining, Tokens(0));
    });
    by_both_scripts(|redis| {
        let largest = TokenBucket::new(n((1 << 32) - 1), n((1 << 32) - 1), Micros(1)).unwrap();
        let largest = Algorithm::TokenBucket(largest);
        assert!(redis.asks(largest, (1 << 32) - 1).admitted);
        assert_eq!(redis.asks(largest, 1).retry_after, Some(Micros(1)));
        assert_eq!(redis.asks(largest, 0).remaining, Tokens(0));
    });
}

#[test]
fn a_bucket_of_an_earlier_version_is_read() {
    by_both_scripts(|redis| {
        redis.store.forget_shadow();
        let ten = bucket(10, 10, 60);
        let full_at = redis.now + 30_000_000;
        let _: () = redis.store.redis.set(KEY, full_at).unwrap();
        let before = redis.asks(Algorithm::TokenBucket(ten), 0);
        assert_eq!((before.remaining, before.reset), (Tokens(5), Micros::from_secs(30)));
        assert_eq!(redis.crowd(ten, 11), 5);
        redis.passes(6);
        assert_eq!(redis.crowd(ten, 11), 1);
    });
    by_both_scripts(|redis| {
        redis.store.forget_shadow();
        // The limit was larger, or the clock was set back.
        let full_at = redis.now + 3_600_000_000;
        let _: () = redis.store.redis.set(KEY, full_at).unwrap();
        assert_eq!(redis.crowd(bucket(10, 10, 60), 11), 0);
        redis.passes(6);
        assert_eq!(redis.crowd(bucket(10, 10, 60), 11), 1);
    });
    by_both_scripts(|redis| {
        redis.store.forget_shadow();
        let _: () = redis.store.redis.set(KEY, "no bucket, as long as a state has bytes or longer").unwrap();
        assert_eq!(redis.crowd(bucket(10, 10, 60), 11), 10, "a malformed bucket counts as full");
    });
}

#[test]
fn a_clock_that_is_set_back_adds_no_tokens_and_the_bucket_refills_from_then() {
    by_both_scripts(|redis| {
        let ten = bucket(10, 10, 60);
        assert_eq!(redis.crowd(ten, 11), 10);
        redis.now -= 3_600_000_000;
        redis.passes(0);
        assert_eq!(redis.crowd(bucket(3, 10, 60), 11), 0, "the denied request sets the time of the bucket");
        redis.passes(12);
        assert_eq!(redis.crowd(ten, 11), 2);
    });
}

#[test]
fn a_bucket_with_leases_and_the_same_bucket_without_share_their_tokens() {
    let Some(store) = Store::with_settable_clock() else { return };
    let mut redis = Redis { store: store.that_expires_keys(), now: TODAY, is_mixed: false };
    redis.passes(0);
    let plain = bucket(20, 10, 60);
    assert_eq!(redis.crowd(plain, 10), 10);
    let Algorithm::LeasedBucket(asking) = leased(plain) else { unreachable!("a leased bucket") };
    let wants = LeaseRequest { want: Tokens(4), ..LeaseRequest::default() };
    let taken = redis.asks(Algorithm::LeasedBucket(asking.with_request(wants)), 1);
    assert_eq!((taken.admitted, taken.remaining), (true, Tokens(5)));
    assert_eq!(taken.granted.unwrap().tokens, Tokens(4));
    assert_eq!(redis.crowd(plain, 30), 5, "leased tokens count as spent");
    redis.passes(20);
    assert_eq!(redis.crowd(plain, 30), 3, "leased tokens refill once the lease has ended");
    assert!(!redis.asks(leased(plain), 1).admitted);
}

#[test]
fn a_proxy_without_max_delay_leaves_held_requests_their_tokens() {
    by_both_scripts(|redis| {
        let plain = bucket(10, 10, 60);
        let shaped = plain.with_max_delay(Micros::from_secs(60)).unwrap();
        assert_eq!(redis.crowd(shaped, 30), 20, "ten requests pass and ten are held");
        redis.passes(30);
        assert_eq!(redis.crowd(plain, 9), 0);
        redis.passes(36);
        assert_eq!(redis.crowd(plain, 9), 1, "after 60 s all held requests have their tokens");
    });
}

/// A request: clock change in µs, configuration, cost, whether the script for all algorithms decides, and lease ask.
type Event = (i64, usize, u64, bool, Ask);

#[test]
fn configurations_that_differ_are_decided_as_specified() {
    let Some(store) = Store::with_settable_clock() else { return };
    let store = RefCell::new(store);
    let algorithm = prop_oneof![2 => token_bucket().boxed(), 1 => leased_bucket().boxed()];
    let event = (seconds(), 0_usize..4, prop_oneof![1 => Just(0), 3 => 1_u64..14], any::<bool>(), ask());
    TestRunner::new(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })
        .run(&(vec(algorithm, 2..4), vec(event, 1..80)), |(algorithms, events): (Vec<Algorithm>, Vec<Event>)| {
            let store = &mut *store.borrow_mut();
            store.clear();
            let (mut model, mut now) = (Model::default(), TODAY);
            for (pause, which, cost, is_mixed, ask) in events {
                now = now.saturating_add_signed(pause);
                store.set_clock(Micros(now));
                let plain = check(algorithms[which % algorithms.len()], cost, is_mixed);
                let check = plain.buckets().cloned().map(|check| ask.of(now, check)).collect();
                let check = Check::new(check, SlotOwner::default());
                prop_assert_eq!(store.decide(&check), Ok(model.decide(Micros(now), &check)));
            }
            Ok(())
        })
        .unwrap();
}

/// A history that the test above has found: a lease is granted as the clock is set back, so that the script writes the
/// bucket twice.
#[test]
fn a_lease_that_is_granted_as_a_clock_is_set_back_is_kept_as_specified() {
    let Some(mut store) = Store::with_settable_clock() else { return };
    let per = |capacity, tokens, micros| TokenBucket::new(n(capacity), n(tokens), Micros(micros)).unwrap();
    let leased = |bucket| Algorithm::LeasedBucket(LeasedBucket::new(bucket, Micros::from_secs(1)).unwrap());
    let shaped = per(5, 13, 604_225).with_max_delay(Micros(743_662)).unwrap();
    let algorithms = [leased(per(22, 1, 50_793)), leased(per(31, 1, 1_440_436)), Algorithm::TokenBucket(shaped)];
    let (mut model, mut now) = (Model::default(), TODAY);
    let events = [(0, 0, 4, 0), (0, 0, 4, 0), (0, 1, 9, 6), (418_311, 2, 3, 0), (-1, 0, 0, 3), (0, 0, 0, 0)];
    for (pause, which, cost, want) in events {
        now = now.saturating_add_signed(pause);
        store.set_clock(Micros(now));
        let plain = check(algorithms[which], cost, false);
        let check = plain.buckets().cloned().map(|check| match check.algorithm {
            Algorithm::LeasedBucket(bucket) => {
                let ask = LeaseRequest { want: Tokens(want), ..LeaseRequest::default() };
                BucketCheck { algorithm: Algorithm::LeasedBucket(bucket.with_request(ask)), ..check }
            }
            _ => check,
        });
        let check = Check::new(check.collect(), SlotOwner::default());
        assert_eq!(store.decide(&check), Ok(model.decide(Micros(now), &check)));
    }
}

#[test]
fn configurations_that_differ_admit_no_more_than_the_largest_and_fastest_of_them() {
    let Some(store) = Store::with_settable_clock() else { return };
    let store = RefCell::new(store.that_expires_keys());
    let shape = (1_u64..40, 1_u64..9, 1_u64..300_000);
    let event = (prop_oneof![2 => Just(0), 2 => 0_u64..300_000, 1 => 0_u64..3_000_000], 0_usize..4, 1_u64..9);
    TestRunner::new(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })
        .run(&(vec(shape, 2..5), vec((event, any::<bool>()), 1..100)), |(shapes, events)| {
            let store = &mut *store.borrow_mut();
            store.clear();
            let (mut now, mut admitted) = (TODAY, Vec::new());
            for ((pause, which, cost), is_mixed) in events {
                now += pause;
                store.set_clock(Micros(now));
                let (capacity, tokens, interval) = shapes[which % shapes.len()];
                let bucket = TokenBucket::new(n(capacity), n(tokens), Micros(interval)).unwrap();
                let check = check(Algorithm::TokenBucket(bucket), cost, is_mixed);
                if store.decide(&check).unwrap().admitted {
                    admitted.push((now, cost));
                }
            }
            let capacity = shapes.iter().map(|shape| shape.0).max().unwrap();
            let fastest = shapes.iter().max_by(|one, other| (one.1 * other.2).cmp(&(other.1 * one.2))).unwrap();
            for (i, &(since, _)) in admitted.iter().enumerate() {
                let mut spent = 0;
                for &(until, cost) in &admitted[i..] {
                    spent += cost;
                    prop_assert!(spent * fastest.2 <= capacity * fastest.2 + (until - since) * fastest.1);
                }
            }
            Ok(())
        })
        .unwrap();
}

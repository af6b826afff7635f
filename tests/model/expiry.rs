//! Expiry: the keys that Redis keeps, and their times to live by its own clock.

use std::num::NonZeroU64;
use std::thread;
use std::time::{Duration, Instant};

use redis::Commands;
use weir_filter::limit::{
    Algorithm, Algorithms, Check, Concurrency, FixedWindow, LeaseRequest, LeasedBucket, Outcome, Period, Quota,
    Settlement, SlidingLog, SlidingWindow, SlotOwner, TokenBucket,
};
use weir_filter::units::{Micros, Tokens};

use crate::store::Store;

fn n(n: u64) -> NonZeroU64 {
    NonZeroU64::new(n).unwrap()
}

fn bucket(capacity: u64, emission: Micros) -> TokenBucket {
    TokenBucket::new(n(capacity), NonZeroU64::MIN, emission).unwrap()
}

fn leased(bucket: TokenBucket) -> LeasedBucket {
    LeasedBucket::new(bucket, Micros::from_secs(60)).unwrap()
}

/// Returns each algorithm but concurrency with a limit of ten per `window`. Quotas are per hour or longer, as a minute
/// may end during a test.
fn ten_of_each(window: Micros) -> Vec<Algorithm> {
    let quota = |period| Algorithm::Quota(Quota::new(n(10), period, 90).unwrap());
    let mut all = vec![
        Algorithm::TokenBucket(bucket(10, Micros(window.0 / 10))),
        Algorithm::TokenBucket(bucket(10, Micros(window.0 / 10)).with_max_delay(Micros::from_secs(9)).unwrap()),
        Algorithm::LeasedBucket(leased(bucket(10, Micros(window.0 / 10)))),
        Algorithm::SlidingLog(SlidingLog::new(n(10), window).unwrap()),
        Algorithm::SlidingWindow(SlidingWindow::new(n(10), window).unwrap()),
        Algorithm::FixedWindow(FixedWindow::new(n(10), window).unwrap()),
    ];
    all.extend(Period::ALL.into_iter().skip(1).map(quota));
    all
}

fn check(algorithms: &[Algorithm], cost: u64) -> Check {
    let windows = Algorithms::new(algorithms).unwrap();
    Check::new(windows.checks(0, b"bucket", Tokens(cost), true).collect(), SlotOwner::new(1, 1))
}

fn keys(store: &mut Store) -> Vec<String> {
    store.redis.keys("*").unwrap()
}

/// Returns the milliseconds until the only key expires.
fn ttl(store: &mut Store) -> i64 {
    let keys = keys(store);
    assert_eq!(keys.len(), 1, "{keys:?}");
    store.redis.pttl(&keys[0]).unwrap()
}

/// Returns the milliseconds since an instant, rounded up, and one for the rounding of Redis.
fn since(instant: Instant) -> i64 {
    i64::try_from(instant.elapsed().as_millis()).unwrap() + 2
}

/// Waits until there is no key, for at most 30 s.
fn gone(store: &mut Store, what: impl std::fmt::Debug) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !keys(store).is_empty() {
        assert!(Instant::now() < deadline, "the key of {what:?} still exists");
        thread::sleep(Duration::from_millis(5));
    }
}

fn only(store: &mut Store, algorithm: Algorithm, cost: u64) -> Outcome {
    store.decide(&check(&[algorithm], cost)).unwrap().outcomes[0]
}

#[test]
fn a_key_expires_when_its_bucket_is_full() {
    let Some(mut store) = Store::start() else { return };
    for algorithm in ten_of_each(Micros::from_secs(600)) {
        store.clear();
        only(&mut store, algorithm, 0);
        assert_eq!(keys(&mut store), [""; 0], "a request of cost 0 to a full bucket writes no key: {algorithm:?}");

        for cost in [3, 1, 2] {
            let asked = Instant::now();
            let spent = only(&mut store, algorithm, cost);
            assert!(spent.admitted && spent.reset > Micros::ZERO);
            let until = i64::try_from(spent.reset.to_millis_ceil()).unwrap();
            let found = ttl(&mut store);
            // A key that keeps its expiry has it rounded up at an earlier moment, by up to a millisecond more.
            let (least, most) = (until - since(asked), until + 1);
            assert!((least..=most).contains(&found), "{algorithm:?}: expected {least} to {most} ms, found {found} ms");
        }
    }
}

#[test]
fn a_key_with_leases_expires_when_the_bucket_is_full_even_after_their_late_use() {
    let Some(mut store) = Store::start() else { return };
    let ten = leased(bucket(10, Micros::from_secs(60)));
    let ask = |store: &mut Store, ask: LeaseRequest| only(store, Algorithm::LeasedBucket(ten.with_request(ask)), 0);
    ask(&mut store, LeaseRequest { want: Tokens(0), ..LeaseRequest::default() });
    assert_eq!(keys(&mut store), [""; 0]);

    let asked = Instant::now();
    let grant = ask(&mut store, LeaseRequest { want: Tokens(4), ..LeaseRequest::default() }).granted.unwrap();
    assert_eq!(grant.tokens, Tokens(4));
    let until = i64::try_from(grant.valid_for.plus(Micros::from_secs(240)).to_millis_ceil()).unwrap();
    let found = ttl(&mut store);
    let least = until - since(asked);
    assert!((least..=until).contains(&found), "expected {least} to {until} ms, found {found} ms");

    let returned = Settlement { ends: grant.ends, used: Tokens(0), unused: Tokens(4) };
    ask(&mut store, LeaseRequest { want: Tokens(0), settled: [returned, Settlement::default()] });
    gone(&mut store, "a bucket that is full again");
}

#[test]
fn settled_leases_count_even_if_the_request_is_denied() {
    let Some(mut store) = Store::start() else { return };
    let ten = leased(bucket(10, Micros::from_secs(600)));
    let mut ask = |ask: LeaseRequest, cost| only(&mut store, Algorithm::LeasedBucket(ten.with_request(ask)), cost);
    let grant = ask(LeaseRequest { want: Tokens(5), ..LeaseRequest::default() }, 0).granted.unwrap();
    let settled = Settlement { ends: grant.ends, used: Tokens(1), unused: Tokens(4) };
    let denied = ask(LeaseRequest { want: Tokens(9), settled: [settled, Settlement::default()] }, 10);
    assert_eq!((denied.admitted, denied.granted, denied.remaining), (false, None, Tokens(9)));
    assert_eq!(ask(LeaseRequest::default(), 0).remaining, Tokens(9));
}

#[test]
fn a_full_bucket_has_no_key() {
    let Some(mut store) = Store::start() else { return };
    for algorithm in ten_of_each(Micros::from_millis(60)).into_iter().take(6) {
        let spent = only(&mut store, algorithm, 10);
        assert!(spent.spent, "{algorithm:?}");
        gone(&mut store, algorithm);
        let full = only(&mut store, algorithm, 0);
        assert_eq!((full.remaining, full.reset), (Tokens(10), Micros::ZERO), "{algorithm:?}");
    }
}

#[test]
fn a_denied_request_writes_nothing() {
    let Some(mut store) = Store::start() else { return };
    for algorithm in ten_of_each(Micros::from_secs(600)) {
        store.clear();
        only(&mut store, algorithm, 8);
        let key = keys(&mut store).remove(0);
        let before = store.command(&["DUMP", &key]);
        let denied = only(&mut store, algorithm, 12);
        assert!(!denied.admitted && !denied.spent, "{algorithm:?}");
        assert_eq!(store.command(&["DUMP", &key]), before, "{algorithm:?}");
    }
}

#[test]
fn slots_are_kept_for_a_lease_and_deleted_when_returned() {
    let Some(mut store) = Store::start() else { return };
    let algorithm = Algorithm::Concurrency(Concurrency::new(n(2), Micros::from_secs(60)).unwrap());
    only(&mut store, algorithm, 0);
    assert_eq!(keys(&mut store), [""; 0]);
    let check = check(&[algorithm], 1);
    let asked = Instant::now();
    let verdict = store.decide(&check).unwrap();
    let found = ttl(&mut store);
    assert!((60_000 - since(asked)..=60_000).contains(&found), "{found} ms");

    let holds = check.held_slots(&verdict).unwrap();
    store.command(&["PEXPIRE", "bucket#concurrency", "5000"]);
    let scripts = store.scripts.clone();
    let asked = Instant::now();
    assert_eq!(store.count(&holds.renew_call(&scripts)), 1);
    let found = ttl(&mut store);
    assert!((60_000 - since(asked)..=60_000).contains(&found), "the lease is renewed: {found} ms");

    assert_eq!(store.count(&holds.release_call(&scripts)), 1);
    assert_eq!(keys(&mut store), [""; 0]);
    assert_eq!(store.count(&holds.release_call(&scripts)), 0, "a second release returns no slot");
    assert_eq!(store.count(&holds.renew_call(&scripts)), 0, "a returned slot is not renewed");
}

#[test]
fn several_slots_are_returned_in_one_call() {
    let Some(mut store) = Store::start() else { return };
    let windows =
        Algorithms::new(&[Algorithm::Concurrency(Concurrency::new(n(2), Micros::from_secs(60)).unwrap())]).unwrap();
    let check = |limit, key: &'static [u8]| windows.checks(limit, key, Tokens(1), true);
    let check = Check::new(check(0, b"a").chain(check(1, b"b")).collect(), SlotOwner::new(1, 1));
    let verdict = store.decide(&check).unwrap();
    let holds = check.held_slots(&verdict).unwrap();
    let scripts = store.scripts.clone();
    assert_eq!(store.count(&holds.renew_call(&scripts)), 2);
    assert_eq!(store.count(&holds.release_call(&scripts)), 2);
    assert_eq!(keys(&mut store), [""; 0]);
}

#[test]
fn every_key_has_a_time_to_live() {
    let Some(mut store) = Store::start() else { return };
    let mut all = ten_of_each(Micros::from_secs(600));
    // A limit has at most one token bucket of a rate.
    all.drain(1..3);
    all.truncate(7);
    all.push(Algorithm::Concurrency(Concurrency::new(n(10), Micros::from_secs(60)).unwrap()));
    for _ in 0..20 {
        let check = check(&all, 1);
        let verdict = store.decide(&check).unwrap();
        if let Some(call) = check.refund_call(&verdict, &store.scripts) {
            assert_eq!(store.count(&call), i64::from(verdict.admitted));
        }
    }
    let keys = keys(&mut store);
    assert_eq!(keys.len(), 8);
    for key in keys {
        assert!(store.redis.pttl::<_, i64>(&key).unwrap() > 0, "{key}");
    }
}

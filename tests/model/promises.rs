//! Guarantees to operators and clients, as examples beside the random histories.

use std::num::NonZeroU64;

use redis::Commands;
use weir_filter::limit::{
    Algorithm, Algorithms, BucketCheck, Check, Concurrency, FixedWindow, LeasedBucket, MIXED_SCRIPT, Model, Period,
    Quota, Scripts, SlidingLog, SlidingWindow, SlotOwner, TOKEN_BUCKETS_SCRIPT, TokenBucket,
};
use weir_filter::redis::{Reply, Script};
use weir_filter::units::{Micros, Tokens};

use crate::store::Store;

fn n(n: u64) -> NonZeroU64 {
    NonZeroU64::new(n).unwrap()
}

fn per_hour(limit: u64) -> Algorithm {
    Algorithm::FixedWindow(FixedWindow::new(n(limit), Micros::from_secs(3_600)).unwrap())
}

fn per_day(limit: u64) -> Algorithm {
    Algorithm::SlidingLog(SlidingLog::new(n(limit), Micros::from_secs(86_400)).unwrap())
}

fn token_bucket(capacity: u64) -> TokenBucket {
    TokenBucket::new(n(capacity), NonZeroU64::MIN, Micros::from_secs(60)).unwrap()
}

fn check(limit: usize, algorithms: &[Algorithm], enforced: bool) -> Vec<BucketCheck> {
    Algorithms::new(algorithms)
        .unwrap()
        .checks(limit, format!("limit{limit}").as_bytes(), Tokens(1), enforced)
        .collect()
}

fn remaining(store: &mut Store, check: Vec<BucketCheck>) -> Vec<u64> {
    let looks = check.into_iter().map(|check| BucketCheck { cost: Tokens(0), ..check });
    let verdict = store.decide(&Check::new(looks.collect(), SlotOwner::default())).unwrap();
    verdict.outcomes.iter().map(|outcome| outcome.remaining.0).collect()
}

#[test]
fn hashes_of_scripts_equal_those_of_redis() {
    let Some(mut store) = Store::start() else { return };
    for source in [TOKEN_BUCKETS_SCRIPT, MIXED_SCRIPT] {
        let loaded: String = redis::cmd("SCRIPT").arg("LOAD").arg(source).query(&mut store.redis).unwrap();
        assert_eq!(Script::new(source).sha1_hex(), loaded);
    }
}

#[test]
fn a_request_that_one_window_denies_spends_from_no_other_window() {
    let Some(mut store) = Store::start() else { return };
    let hourly_and_daily = [per_hour(2), per_day(5)];
    let other = Algorithm::TokenBucket(token_bucket(9));
    let both = || [check(0, &hourly_and_daily, true), check(1, &[other], true)].concat();
    for expected in [true, true, false, false, false] {
        assert_eq!(store.decide(&Check::new(both(), SlotOwner::default())).unwrap().admitted, expected);
    }
    assert_eq!(remaining(&mut store, both()), [0, 3, 7]);
}

#[test]
fn a_limit_in_shadow_mode_that_would_deny_spends_nothing_and_denies_nothing() {
    let Some(mut store) = Store::start() else { return };
    let with_shadow = || [check(0, &[per_hour(2), per_day(5)], false), check(1, &[per_day(9)], true)].concat();
    for would_admit in [true, true, false, false] {
        let verdict = store.decide(&Check::new(with_shadow(), SlotOwner::default())).unwrap();
        assert!(verdict.admitted);
        assert_eq!(verdict.outcomes.iter().map(|o| o.spent).collect::<Vec<_>>(), [would_admit, would_admit, true]);
    }
    assert_eq!(remaining(&mut store, with_shadow()), [0, 3, 5]);
}

#[test]
fn a_limit_in_shadow_mode_spends_from_all_of_its_token_buckets_or_none() {
    let Some(mut store) = Store::start() else { return };
    let slower = TokenBucket::new(n(5), NonZeroU64::MIN, Micros::from_secs(3_600)).unwrap();
    let buckets = [Algorithm::TokenBucket(token_bucket(2)), Algorithm::TokenBucket(slower)];
    for _ in 0..4 {
        store.decide(&Check::new(check(0, &buckets, false), SlotOwner::default())).unwrap();
    }
    assert_eq!(remaining(&mut store, check(0, &buckets, false)), [0, 3]);
}

#[test]
fn a_limit_with_a_new_algorithm_starts_a_new_count_and_fails_no_request() {
    let Some(mut store) = Store::start() else { return };
    let secs = Micros::from_secs;
    let all = [
        Algorithm::TokenBucket(token_bucket(3)),
        per_hour(3),
        per_day(3),
        Algorithm::SlidingWindow(SlidingWindow::new(n(3), secs(3_600)).unwrap()),
        Algorithm::Concurrency(Concurrency::new(n(3), secs(60)).unwrap()),
        Algorithm::SlidingLog(SlidingLog::new(n(3), secs(3_600)).unwrap()),
        Algorithm::FixedWindow(FixedWindow::new(n(3), secs(60)).unwrap()),
    ];
    for algorithm in all {
        let check = Check::new(check(0, &[algorithm], true), SlotOwner::default());
        assert_eq!(store.decide(&check).unwrap().outcomes[0].remaining, Tokens(2), "{algorithm:?}");
    }
}

#[test]
fn concurrency_is_limited_and_slots_of_a_dead_proxy_become_free() {
    let Some(mut store) = Store::with_settable_clock() else { return };
    let two = [Algorithm::Concurrency(Concurrency::new(n(2), Micros::from_secs(10)).unwrap())];
    let check = |request| Check::new(check(0, &two, true), SlotOwner::new(1, request));
    let mut at = |secs: u64, request| {
        store.set_clock(Micros::from_secs(1_795_132_800 + secs));
        store.decide(&check(request)).unwrap().admitted
    };
    assert_eq!([at(0, 1), at(5, 2), at(9, 3), at(10, 4), at(10, 5), at(15, 6)], [true, true, false, true, false, true]);
}

#[test]
fn a_shaped_bucket_releases_requests_one_by_one_and_refunds_only_the_last() {
    let Some(mut store) = Store::with_settable_clock() else { return };
    store.set_clock(Micros::from_secs(1_795_132_800));
    let shaped = token_bucket(1).with_max_delay(Micros::from_secs(180)).unwrap();
    let check = Check::new(check(0, &[Algorithm::TokenBucket(shaped)], true), SlotOwner::default());
    let mut ask = || store.decide(&check).unwrap();
    let [first, second, third, fourth, denied] = [ask(), ask(), ask(), ask(), ask()];
    let delays = [&first, &second, &third, &fourth].map(|verdict| verdict.delay().to_secs_ceil());
    assert_eq!(delays, [0, 60, 120, 180]);
    assert_eq!((denied.admitted, denied.outcomes[0].retry_after), (false, Some(Micros::from_secs(60))));

    let scripts = store.scripts.clone();
    let mut goes_away = |verdict| store.count(&check.refund_call(verdict, &scripts).unwrap());
    assert_eq!(goes_away(&third), 0, "the fourth request is queued after the third");
    assert_eq!(goes_away(&fourth), 1);
    assert_eq!(goes_away(&fourth), 0, "a second refund changes nothing");
    assert_eq!(goes_away(&third), 1);
    assert!(check.refund_call(&denied, &scripts).is_none());
    assert_eq!(store.decide(&check).unwrap().delay(), Micros::from_secs(120));
}

#[test]
fn a_sliding_log_at_its_limit_takes_less_than_400_kb() {
    let Some(mut store) = Store::start() else { return };
    let log = Algorithm::SlidingLog(SlidingLog::new(n(10_000), Micros::from_secs(3_600)).unwrap());
    let check = Algorithms::new(&[log]).unwrap().checks(0, b"limit", Tokens(1), true).collect();
    let check = Check::new(check, SlotOwner::default());
    let admitted = (0..10_001).filter(|_| store.decide(&check).unwrap().admitted).count();
    assert_eq!(admitted, 10_000);
    let bytes: u64 = redis::cmd("MEMORY").arg("USAGE").arg("limit#log3600000000").query(&mut store.redis).unwrap();
    assert!(bytes < 400_000, "{bytes} bytes");
    assert_eq!(store.redis.llen::<_, u64>("limit#log3600000000").unwrap(), 10_000);
}

#[test]
fn at_the_start_of_a_window_the_previous_window_counts_in_full() {
    let Some(mut store) = Store::with_settable_clock() else { return };
    // The limit is so large that weights are rounded to steps, which do not divide the window.
    let (limit, window) = (1 << 32, 1_795_132_801_000_003 / 999);
    let sliding = Algorithm::SlidingWindow(SlidingWindow::new(n(limit), Micros(window)).unwrap());
    let windows = Algorithms::new(&[sliding]).unwrap();
    let ask = |cost| Check::new(windows.checks(0, b"limit", Tokens(cost), true).collect(), SlotOwner::default());
    let mut model = Model::default();
    for (now, cost, admits) in [
        (window * 999 - 1, limit / 2, true),
        (window * 999, limit / 2 + 1, false),
        (window * 999, limit / 2, true),
        (window * 999 + window / 2, limit / 4 + 1, false),
    ] {
        store.set_clock(Micros(now));
        let verdict = store.decide(&ask(cost)).unwrap();
        assert_eq!(verdict.admitted, admits, "{cost} at {now}");
        assert_eq!(verdict, model.decide(Micros(now), &ask(cost)));
    }
}

/// Proxies that read no overrides of keys, among them older versions, leave states that do not hide them.
#[test]
fn a_key_has_its_override_whichever_scripts_have_written_its_state() {
    let Some(mut store) = Store::start() else { return };
    let bucket = token_bucket(9);
    let hour = Micros::from_secs(3_600);
    let kinds = [
        Algorithm::TokenBucket(bucket),
        Algorithm::TokenBucket(bucket.with_max_delay(hour).unwrap()),
        Algorithm::LeasedBucket(LeasedBucket::new(bucket, Micros::from_secs(60)).unwrap()),
        Algorithm::FixedWindow(FixedWindow::new(n(9), hour).unwrap()),
        Algorithm::Quota(Quota::new(n(9), Period::Month, 0).unwrap()),
        Algorithm::SlidingWindow(SlidingWindow::new(n(9), hour).unwrap()),
        Algorithm::SlidingLog(SlidingLog::new(n(9), hour).unwrap()),
        Algorithm::Concurrency(Concurrency::new(n(9), hour).unwrap()),
    ];
    let (reading, ignoring) = (Scripts::new(true), Scripts::new(false));
    // Alone, and in a request with another limit.
    let other = check(1, &[kinds[3]], true);
    for (kind, others) in kinds.into_iter().flat_map(|kind| [(kind, vec![]), (kind, other.clone())]) {
        let checks = [check(0, &[kind], true), others].concat();
        let request = Check::new(checks, SlotOwner::new(7, 1));
        for writers in [&[][..], &[&ignoring], &[&reading], &[&reading, &ignoring], &[&ignoring, &reading]] {
            let before: Vec<Reply> = writers.iter().map(|scripts| store.run(&request.call(scripts))).collect();
            store.set_override("limit0", "blocked");
            for scripts in [&ignoring, &ignoring] {
                assert!(matches!(store.run(&request.call(scripts)), Reply::Bulk(_)), "{kind:?}");
            }
            let Reply::Array(texts) = store.run(&request.call(&reading)) else {
                panic!("{kind:?}: the override of a key is hidden by a state of {before:?}")
            };
            assert_eq!(texts[0], Reply::Bulk(b"blocked".to_vec()));
            store.set_override("limit0", "");
            assert!(matches!(store.run(&request.call(&reading)), Reply::Bulk(_)), "{kind:?}");
            store.clear();
        }
    }
}

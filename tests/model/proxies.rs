//! Proxies with different limits on one Redis: a canary, an override that some workers have not read yet.
//!
//! All proxies together admit no more than the largest limit in force, no lease ends early, and a denied request writes
//! nothing. The tests of token buckets are in `sizes`.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use redis::Commands;
use weir_filter::limit::{
    Algorithm, Algorithms, Check, Concurrency, FixedWindow, HeldSlots, Model, Period, Quota, SlidingLog, SlidingWindow,
    SlotOwner,
};
use weir_filter::units::{Micros, Tokens};

use crate::store::Store;

/// 2026-11-20T00:00Z, in µs.
const TODAY: u64 = 1_795_132_800_000_000;
const SECOND: u64 = 1_000_000;
const PLACES: &str = "limit#concurrency";

fn secs(secs: u64) -> Micros {
    Micros::from_secs(secs)
}

fn sliding(limit: u64, window: Micros) -> Algorithm {
    Algorithm::SlidingWindow(SlidingWindow::new(limit, window).unwrap())
}

fn slots(max: u64, lease: u64) -> Algorithm {
    Algorithm::Concurrency(Concurrency::new(max, Micros(lease)).unwrap())
}

fn check(algorithm: Algorithm, request: u64, cost: u64) -> Check {
    let windows = Algorithms::new(&[algorithm]).unwrap();
    Check::new(windows.checks(0, b"limit", Tokens(cost), true).collect(), SlotOwner::new(7, request))
}

/// A request: µs since the request before it, whether the second proxy sends it, and the cost.
type Request = (u64, bool, u64);

/// Admitted requests: time in µs, and cost.
type Spent = [(u64, u64)];

/// Replays random histories on two proxies, each with one of the limits, under one key. `holds` returns whether the
/// requests admitted up to `now` keep the guarantee.
fn two_proxies_keep(
    kind: impl Strategy<Value = [Algorithm; 2]>,
    pause: std::ops::Range<u64>,
    holds: impl Fn([Algorithm; 2], &Spent, u64) -> bool,
) {
    let Some(store) = Store::with_settable_clock() else { return };
    let store = RefCell::new(store);
    let request = (prop_oneof![1 => Just(0), 3 => pause], any::<bool>(), prop_oneof![1 => Just(0), 5 => 1_u64..6]);
    let history = (kind, proptest::collection::vec(request, 1..60));
    TestRunner::new(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })
        .run(&history, |(proxies, requests): ([Algorithm; 2], Vec<Request>)| {
            let store = &mut *store.borrow_mut();
            store.clear();
            let (mut model, mut now, mut spent) = (Model::default(), TODAY, Vec::new());
            for (i, (pause, second, cost)) in requests.into_iter().enumerate() {
                now += pause;
                store.set_clock(Micros(now));
                let check = check(proxies[usize::from(second)], i.try_into().unwrap(), cost);
                let before = store.dump();
                let verdict = store.decide(&check).map_err(TestCaseError::fail)?;
                prop_assert_eq!(&verdict, &model.decide(Micros(now), &check));
                if verdict.outcomes[0].spent {
                    spent.push((now, cost));
                } else {
                    prop_assert_eq!(store.dump(), before, "a request that spends nothing must not write");
                }
                prop_assert!(holds(proxies, &spent, now), "{:?}", spent);
            }
            Ok(())
        })
        .unwrap();
}

fn limits() -> impl Strategy<Value = [u64; 2]> {
    [1_u64..12, 1_u64..40]
}

fn window() -> impl Strategy<Value = Micros> {
    (1_u64..10_000_000).prop_map(Micros)
}

/// Returns the larger of two limits.
fn larger(proxies: [Algorithm; 2]) -> u64 {
    let limit = |algorithm: &Algorithm| match algorithm {
        Algorithm::SlidingLog(log) => log.limit(),
        Algorithm::SlidingWindow(sliding) => sliding.limit(),
        Algorithm::FixedWindow(fixed) => fixed.limit(),
        Algorithm::Quota(quota) => quota.limit(),
        Algorithm::Concurrency(slots) => slots.max(),
        other => panic!("{other:?}"),
    };
    proxies.iter().map(limit).max().unwrap().0
}

fn in_window(spent: &Spent, first: u64, end: u64) -> u64 {
    spent.iter().filter(|(time, _)| (first..end).contains(time)).map(|(_, cost)| cost).sum()
}

#[test]
fn logs_of_two_sizes_admit_no_more_than_the_larger_in_any_window() {
    let kind = (limits(), window()).prop_map(|(limits, window)| {
        limits.map(|limit| Algorithm::SlidingLog(SlidingLog::new(limit, window).unwrap()))
    });
    two_proxies_keep(kind, 0..3 * SECOND, |proxies, spent, now| {
        let Algorithm::SlidingLog(log) = proxies[0] else { return false };
        in_window(spent, now - log.window().0 + 1, now + 1) <= larger(proxies)
    });
}

#[test]
fn approximate_windows_of_two_sizes_admit_no_more_than_the_larger_by_the_estimate() {
    let kind = (limits(), window()).prop_map(|(limits, window)| limits.map(|limit| sliding(limit, window)));
    two_proxies_keep(kind, 0..3 * SECOND, |proxies, spent, now| {
        let Algorithm::SlidingWindow(sliding) = proxies[0] else { return false };
        let window = sliding.window().0;
        let start = now - now % window;
        let [this, before] = [start, start - window].map(|start| u128::from(in_window(spent, start, start + window)));
        let (left, limit) = (u128::from(start + window - now), u128::from(larger(proxies)));
        // The estimate bounds admissions, so that it is checked when a request spends.
        let is_last = spent.last().is_some_and(|(time, _)| *time == now);
        !is_last || before.min(limit) * left + this * u128::from(window) <= limit * u128::from(window)
    });
}

#[test]
fn fixed_windows_of_two_sizes_admit_no_more_than_the_larger() {
    let kind = (limits(), window()).prop_map(|(limits, window)| {
        limits.map(|limit| Algorithm::FixedWindow(FixedWindow::new(limit, window).unwrap()))
    });
    two_proxies_keep(kind, 0..3 * SECOND, |proxies, spent, now| {
        let Algorithm::FixedWindow(fixed) = proxies[0] else { return false };
        let start = now - now % fixed.window().0;
        in_window(spent, start, start + fixed.window().0) <= larger(proxies)
    });
}

#[test]
fn quotas_of_two_sizes_admit_no_more_than_the_larger() {
    let kind = (limits(), proptest::sample::select(&Period::ALL[..3]))
        .prop_map(|(limits, period)| limits.map(|limit| Algorithm::Quota(Quota::new(limit, period, 0).unwrap())));
    two_proxies_keep(kind, 0..4_000 * SECOND, |proxies, spent, now| {
        let Algorithm::Quota(quota) = proxies[0] else { return false };
        let length = SECOND * if quota.period() == Period::Minute { 60 } else { 3_600 };
        let length = if quota.period() == Period::Day { 24 * length } else { length };
        let start = now - now % length;
        in_window(spent, start, start + length) <= larger(proxies)
    });
}

/// Slots of a request, and the end of their lease in µs.
type Held = (HeldSlots, u64);

#[test]
fn slots_of_two_leases_never_exceed_the_larger_limit_and_no_lease_ends_early() {
    let Some(store) = Store::with_settable_clock() else { return };
    let store = RefCell::new(store);
    let proxy = || (1_u64..5, SECOND..20 * SECOND);
    let event = (0_u64..3 * SECOND, any::<bool>(), 0_u8..4, any::<prop::sample::Index>());
    let history = ([proxy(), proxy()], proptest::collection::vec(event, 1..60));
    TestRunner::new(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })
        .run(&history, |(proxies, events)| {
            let store = &mut *store.borrow_mut();
            store.clear();
            let scripts = store.scripts.clone();
            let (mut now, mut held): (u64, Vec<Held>) = (TODAY, Vec::new());
            for (i, (pause, second, event, which)) in events.into_iter().enumerate() {
                now += pause;
                store.set_clock(Micros(now));
                held.retain(|(_, end)| *end > now);
                let (max, lease) = proxies[usize::from(second)];
                match event {
                    0 if !held.is_empty() => {
                        let (holds, _) = held.remove(which.index(held.len()));
                        prop_assert_eq!(store.count(&holds.release_call(&scripts)), 1);
                    }
                    1 if !held.is_empty() => {
                        let nth = which.index(held.len());
                        let (holds, end) = &mut held[nth];
                        prop_assert_eq!(store.count(&holds.renew_call(&scripts)), 1, "the lease has not ended");
                        *end = now + holds.slots().next().unwrap().1.0;
                    }
                    _ => {
                        let check = check(slots(max, lease), i.try_into().unwrap(), 1);
                        let verdict = store.decide(&check).map_err(TestCaseError::fail)?;
                        let has_room = u64::try_from(held.len()).unwrap() < max;
                        prop_assert_eq!(verdict.admitted, has_room, "{} in flight of {}", held.len(), max);
                        held.extend(check.held_slots(&verdict).map(|holds| (holds, now + lease)));
                    }
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_proxy_with_a_shorter_lease_does_not_shorten_the_leases_of_others() {
    let Some(mut store) = Store::with_settable_clock() else { return };
    let mut at = |secs: u64, lease, request| {
        store.set_clock(Micros(TODAY + secs * SECOND));
        store.decide(&check(slots(5, lease), request, 1)).unwrap().admitted
    };
    assert!((0..4).all(|request| at(0, 60 * SECOND, request)));
    assert_eq!([at(0, SECOND, 4), at(0, SECOND, 5), at(0, 60 * SECOND, 6)], [true, false, false]);
    let later = [at(2, SECOND, 7), at(2, SECOND, 8), at(2, 60 * SECOND, 9)];
    assert_eq!(later, [true, false, false], "four requests are in flight on leases of 60 s");
    assert_eq!([at(59, SECOND, 10), at(59, SECOND, 11)], [true, false]);
    assert!((20..25).all(|request| at(61, SECOND, request)), "the leases of 60 s have ended");
}

#[test]
fn a_proxy_with_a_shorter_lease_does_not_expire_the_slots_of_others() {
    let Some(mut store) = Store::start() else { return };
    let scripts = store.scripts.clone();
    let take = |store: &mut Store, lease, request| {
        let check = check(slots(5, lease), request, 1);
        let verdict = store.decide(&check).unwrap();
        check.held_slots(&verdict).unwrap()
    };
    let ttl = |store: &mut Store| store.redis.pttl::<_, i64>(PLACES).unwrap();
    let long = take(&mut store, 60 * SECOND, 1);
    let short = take(&mut store, SECOND, 2);
    assert!((58_000..=60_000).contains(&ttl(&mut store)), "{}", ttl(&mut store));
    assert_eq!(store.count(&short.renew_call(&scripts)), 1);
    assert!((50_000..=60_000).contains(&ttl(&mut store)), "{}", ttl(&mut store));
    assert_eq!(store.count(&long.release_call(&scripts)), 1);
    take(&mut store, SECOND, 3);
    assert!(ttl(&mut store) <= 1_000, "the key lives no longer than the longest lease");
}

#[test]
fn after_a_clock_is_set_back_slots_of_a_dead_proxy_become_free_within_their_leases() {
    let Some(mut store) = Store::with_settable_clock() else { return };
    let mut at = |secs: u64, lease, request| {
        store.set_clock(Micros(TODAY + secs * SECOND));
        store.decide(&check(slots(4, lease), request, 1)).unwrap().admitted
    };
    // The clock is an hour ahead; the leases are of 10 s and 60 s.
    assert!([at(3_600, 10 * SECOND, 1), at(3_600, 10 * SECOND, 2), at(3_600, 60 * SECOND, 3)].iter().all(|it| *it));
    assert_eq!([at(0, SECOND, 4), at(0, SECOND, 5)], [true, false]);
    assert_eq!([at(9, SECOND, 6), at(9, SECOND, 7)], [true, false], "the leases of 10 s have not ended");
    let free = [at(10, 5 * SECOND, 8), at(10, 5 * SECOND, 9), at(10, 5 * SECOND, 10), at(11, 5 * SECOND, 11)];
    assert_eq!(free, [true, true, true, false], "the lease of 60 s has not ended");
    assert!((12..16).all(|request| at(60, SECOND, request)));
}

#[test]
fn slots_of_an_earlier_version_count_until_their_leases_end() {
    let Some(mut store) = Store::with_settable_clock() else { return };
    let ends = (TODAY + 60 * SECOND).to_string();
    store.forget_shadow();
    store.command(&["ZADD", PLACES, &ends, "0123456789abcdef"]);
    let mut at = |secs: u64, request| {
        store.set_clock(Micros(TODAY + secs * SECOND));
        store.decide(&check(slots(2, SECOND), request, 1)).unwrap().admitted
    };
    assert_eq!([at(0, 1), at(0, 2), at(30, 3), at(30, 4)], [true, false, true, false]);
    assert_eq!([at(60, 5), at(60, 6)], [true, true]);
}

#[test]
fn a_proxy_with_a_smaller_limit_keeps_the_count_of_the_previous_window() {
    let Some(mut store) = Store::with_settable_clock() else { return };
    let mut ask = |micros: u64, limit, cost| {
        store.set_clock(Micros(TODAY + micros));
        store.decide(&check(sliding(limit, secs(60)), 1, cost)).unwrap()
    };
    assert!(ask(0, 100, 100).admitted);
    // A tenth of the previous window counts: half a request if its count is clamped to 5, ten of all 100.
    let in_the_next = 60 * SECOND + 54 * SECOND;
    assert!(ask(in_the_next, 5, 1).admitted);
    assert_eq!(
        ask(in_the_next, 100, 0).outcomes[0].remaining,
        Tokens(89),
        "ten of the previous window's 100 count, and one of this window"
    );
    assert!(!ask(in_the_next, 100, 90).admitted);
    assert!(ask(in_the_next, 100, 89).admitted);
    assert!(!ask(in_the_next, 5, 1).admitted);
    assert_eq!(ask(in_the_next + SECOND, 200, 0).outcomes[0].remaining, Tokens(101));
}

//! Budgets: random histories of reservations, settlements and lost leases, in Redis as in the specification; and the
//! ledger, sweeps and expiry in a real Redis.

use std::cell::RefCell;
use std::num::NonZeroU64;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use redis::Commands;
use weir_filter::limit::{
    Algorithm, Algorithms, BucketCheck, Charge, Charged, Check, Fallback, FixedWindow, Ledger, MAX_AMOUNT, Model,
    OnLost, Period, Quota, Reservations, SettleResult, SlidingWindow, SlotOwner, TokenBucket, Verdict, Weights,
    WhenShort, read_results, renew_budgets_call,
};
use weir_filter::redis::Reply;
use weir_filter::units::{Micros, Tokens};

use crate::histories::{any_algorithm, seconds};
use crate::store::Store;

/// 2026-11-20T00:00Z, in µs.
const TODAY: u64 = 1_795_132_800_000_000;
const SECOND: i64 = 1_000_000;

fn charge(lease: Micros, on_lost: OnLost, when_short: WhenShort) -> Charge {
    Charge {
        of: Charged::Tokens(Weights::all(1_000, 1_000)),
        reserve: None,
        when_short,
        lease,
        on_lost,
        on_missing_usage: Fallback::Estimate,
        on_disconnect: Fallback::Seen,
        soft_limit: None,
    }
}

/// Estimates and costs are shares of the limit, so that a few requests fill the largest.
#[derive(Debug, Clone)]
enum Event {
    /// A request: the limits that apply, each with the estimate in percent, whether it is enforced, the request's own part
    /// of the estimate in percent, and whether the limit has its second form.
    Request(Vec<(usize, u64, bool, u64, bool)>),
    /// An earlier request ends: with its cost in percent of the limit, and whether its outcome is unknown.
    Settle(usize, u64, bool),
    /// An earlier request renews its leases.
    Renew(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let share = || prop_oneof![1 => Just(0), 6 => 0_u64..60, 1 => 0_u64..120];
    let limit = (0_usize..3, share(), prop_oneof![4 => Just(true), 1 => Just(false)], 0_u64..100, any::<bool>());
    prop_oneof![
        4 => vec(limit, 1..4).prop_map(|mut limits| {
            limits.sort_by_key(|limit| limit.0);
            limits.dedup_by_key(|limit| limit.0);
            Event::Request(limits)
        }),
        3 => (0_usize..30, prop_oneof![4 => 0_u64..60, 1 => 0_u64..250], prop_oneof![3 => Just(false), 1 => Just(true)])
            .prop_map(|(which, percent, is_unknown)| Event::Settle(which, percent, is_unknown)),
        2 => (0_usize..30).prop_map(Event::Renew),
    ]
}

fn limit() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 1_u64..60, 1 => 1..=MAX_AMOUNT, 1 => MAX_AMOUNT - 60..=MAX_AMOUNT]
}

fn window() -> impl Strategy<Value = Micros> {
    prop_oneof![1_u64..10, 1_u64..10_000_000, Just(1_000_000), Just(60_000_000)].prop_map(Micros)
}

fn fixed() -> impl Strategy<Value = Algorithm> {
    (limit(), window())
        .prop_map(|(limit, window)| Algorithm::FixedWindow(FixedWindow::of_amounts(limit, window).unwrap()))
}

fn sliding() -> impl Strategy<Value = Algorithm> {
    (limit(), window())
        .prop_map(|(limit, window)| Algorithm::SlidingWindow(SlidingWindow::of_amounts(limit, window).unwrap()))
}

fn quota() -> impl Strategy<Value = Algorithm> {
    (limit(), select(&Period::ALL), -840_i32..=840)
        .prop_map(|(limit, period, offset)| Algorithm::Quota(Quota::of_amounts(limit, period, offset).unwrap()))
}

fn bucket() -> impl Strategy<Value = Algorithm> {
    (1_u64..60, prop_oneof![Just(1), 1_u64..50], 1_u64..3_000_000).prop_map(|(capacity, tokens, interval)| {
        let n = |n| NonZeroU64::new(n).unwrap();
        Algorithm::TokenBucket(TokenBucket::new(n(capacity), n(tokens), Micros(interval)).unwrap())
    })
}

fn any_base() -> BoxedStrategy<Algorithm> {
    prop_oneof![fixed(), sliding(), quota(), bucket()].boxed()
}

fn reserving(base: BoxedStrategy<Algorithm>) -> impl Strategy<Value = Algorithm> {
    let on_lost = select(&[OnLost::Estimate, OnLost::Input, OnLost::Refund]);
    let when_short = select(&[WhenShort::Deny, WhenShort::TakeRest]);
    (base, 1_000_000_u64..20_000_000, on_lost, when_short).prop_map(|(base, lease, on_lost, when_short)| {
        base.reserving(&charge(Micros(lease), on_lost, when_short)).unwrap()
    })
}

fn pauses() -> BoxedStrategy<i64> {
    prop_oneof![9 => seconds(), 1 => -DAY..40 * DAY, 1 => 0..4_000 * SECOND].boxed()
}

const DAY: i64 = 86_400 * SECOND;

#[test]
fn reserving_fixed_windows_are_as_specified() {
    any_history_is_as_specified(300, || reserving(fixed().boxed()).boxed());
}

#[test]
fn reserving_sliding_windows_are_as_specified() {
    any_history_is_as_specified(300, || reserving(sliding().boxed()).boxed());
}

#[test]
fn reserving_quotas_are_as_specified() {
    any_history_is_as_specified(300, || reserving(quota().boxed()).boxed());
}

#[test]
fn reserving_token_buckets_are_as_specified() {
    any_history_is_as_specified(400, || reserving(bucket().boxed()).boxed());
}

#[test]
fn budgets_among_limits_of_all_algorithms_are_as_specified() {
    any_history_is_as_specified(400, || prop_oneof![2 => reserving(any_base()), 1 => any_algorithm()].boxed());
}

fn any_history_is_as_specified(cases: u32, algorithm: impl Fn() -> BoxedStrategy<Algorithm>) {
    let Some(store) = Store::with_settable_clock() else { return };
    let store = RefCell::new(store);
    let forms = vec(prop::array::uniform2(algorithm()), 3);
    let history = (forms, vec((pauses(), event()), 1..70));
    let settled = RefCell::new([0_usize; 5]);
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() })
        .run(&history, |(limits, events)| {
            let found = replay(&mut store.borrow_mut(), &limits, &events)?;
            for (sum, found) in settled.borrow_mut().iter_mut().zip(found) {
                *sum += found;
            }
            Ok(())
        })
        .unwrap();
    let settled = settled.into_inner();
    assert!(settled.iter().all(|found| *found > 100), "each result of a settlement is met: {settled:?}");
}

/// Replays a history in Redis and in the model. Returns how often each result of a settlement was met.
fn replay(store: &mut Store, limits: &[[Algorithm; 2]], events: &[(i64, Event)]) -> Result<[usize; 5], TestCaseError> {
    store.clear();
    let (mut model, mut now, mut met) = (Model::default(), TODAY, [0; 5]);
    let mut decided: Vec<(Check, Verdict)> = Vec::new();
    for (nth, (pause, event)) in (0_u64..).zip(events) {
        now = now.saturating_add_signed(*pause);
        store.set_clock(Micros(now));
        // The latest requests first.
        let earlier = |which: &usize| decided.iter().rev().nth(*which);
        match event {
            Event::Request(of) => {
                let buckets = of.iter().flat_map(|(limit, percent, enforced, floor, second)| {
                    let algorithm = limits[*limit][usize::from(*second)];
                    let estimate = share(algorithm.limit().0, *percent);
                    let windows = Algorithms::new(&[algorithm]).unwrap();
                    let checks = windows.checks(*limit, format!("limit{limit}"), Tokens(estimate), *enforced);
                    let with_floor = |mut check: BucketCheck| {
                        check.set_floor(share(estimate, *floor));
                        check
                    };
                    checks.map(with_floor).collect::<Vec<_>>()
                });
                let check = Check::new(buckets.collect(), SlotOwner::new(7, nth));
                let before = store.dump();
                let seen = store.look(check.as_slice()).map_err(TestCaseError::fail)?;
                let expected = model.decide(Micros(now), &check);
                if expected.outcomes.iter().zip(check.as_slice()).all(|(_, check)| is_budget(check)) {
                    prop_assert_eq!(store.dump(), before, "a look writes nothing");
                }
                for (seen, expected) in seen.iter().zip(&expected.outcomes) {
                    prop_assert_eq!((seen.admitted, seen.held), (expected.admitted, expected.held));
                }
                prop_assert_eq!(store.decide(&check), Ok(expected.clone()));
                decided.push((check, expected));
            }
            Event::Settle(which, percent, is_unknown) => {
                let Some((check, verdict)) = earlier(which) else { continue };
                let own = if *is_unknown { check.possible_reservations() } else { check.reservations(verdict) };
                let Some(own) = own else { continue };
                let cost = |limit: usize| {
                    let of = check.buckets().find(|check| check.limit == limit).unwrap();
                    share(of.algorithm.limit().0, *percent)
                };
                for result in settle(store, &own, &cost, *is_unknown) {
                    met[ALL.iter().position(|its| *its == result).unwrap()] += 1;
                }
                let expected = model.settle(Micros(now), &own, &cost, *is_unknown);
                let again = settle(store, &own, &cost, *is_unknown);
                prop_assert!(again.iter().all(|result| *result == SettleResult::Nothing), "{:?}", again);
                prop_assert_eq!(model.settle(Micros(now), &own, &cost, *is_unknown), again);
                prop_assert_eq!(expected.len(), own.as_slice().len());
            }
            Event::Renew(which) => {
                let Some(own) = earlier(which).and_then(|(check, _)| check.possible_reservations()) else { continue };
                let renewed = store.count(&renewal(&own, store));
                prop_assert_eq!(renewed, i64::try_from(model.renew_budgets(Micros(now), &own)).unwrap());
            }
        }
    }
    Ok(met)
}

const ALL: [SettleResult; 5] =
    [SettleResult::Within, SettleResult::Overrun, SettleResult::Late, SettleResult::Unreserved, SettleResult::Nothing];

fn is_budget(check: &BucketCheck) -> bool {
    matches!(check.algorithm, Algorithm::Budget(_))
}

fn share(of: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(of) * u128::from(percent) / 100).unwrap().min(MAX_AMOUNT)
}

/// Settles, and returns the results; the virtual Redis has the same.
fn settle(store: &mut Store, own: &Reservations, cost: &dyn Fn(usize) -> u64, is_unknown: bool) -> Vec<SettleResult> {
    let call = own.settle_call(cost, is_unknown, None, &store.scripts.clone());
    let reply = store.run(&call);
    read_results(&reply).unwrap_or_else(|| panic!("{reply:?}")).0
}

fn renewal(own: &Reservations, store: &Store) -> weir_filter::redis::Call {
    let all: Vec<_> = own.as_slice().iter().map(|of| (of.key.as_slice(), own.owner(), of.budget)).collect();
    renew_budgets_call(&all, &store.scripts)
}

fn budget(algorithm: Algorithm) -> Algorithm {
    algorithm.reserving(&charge(Micros::from_secs(60), OnLost::Estimate, WhenShort::Deny)).unwrap()
}

fn month(limit: u64) -> Algorithm {
    budget(Algorithm::Quota(Quota::of_amounts(limit, Period::Month, 0).unwrap()))
}

fn tokens(capacity: u64) -> Algorithm {
    let minute = Micros::from_secs(60);
    let n = NonZeroU64::new(capacity).unwrap();
    budget(Algorithm::TokenBucket(TokenBucket::new(n, n, minute).unwrap()))
}

fn ask(store: &mut Store, algorithms: &[Algorithm], request: u64, cost: u64) -> (Check, Verdict) {
    let checks = algorithms.iter().enumerate().flat_map(|(limit, algorithm)| {
        let windows = Algorithms::new(&[*algorithm]).unwrap();
        windows.checks(limit, format!("limit{limit}"), Tokens(cost), true).collect::<Vec<_>>()
    });
    let check = Check::new(checks.collect(), SlotOwner::new(1, request));
    let verdict = store.decide(&check).unwrap();
    (check, verdict)
}

#[test]
fn each_request_has_one_entry_in_the_ledger_however_often_it_is_settled() {
    let Some(mut store) = Store::start() else { return };
    let both = [month(1_000), tokens(500)];
    let (check, verdict) = ask(&mut store, &both, 1, 300);
    let own = check.reservations(&verdict).unwrap();
    let fields = vec![("id", b"1".to_vec()), ("model", b"any".to_vec())];
    let ledger = Ledger { stream: b"ledger", max_len: 1_000, fields };
    let call = own.settle_call(&|limit| [120, 400][limit], false, Some(&ledger), &store.scripts.clone());
    assert_eq!(store.run(&call), Reply::Bulk(b"OV".to_vec()));
    for _ in 0..3 {
        assert_eq!(store.run(&call), Reply::Bulk(b"--".to_vec()));
    }
    type Entry = (String, Vec<(String, String)>);
    let entries: Vec<Entry> = redis::cmd("XRANGE").arg("ledger").arg("-").arg("+").query(&mut store.redis).unwrap();
    let expected = [("reserved", "300 300 "), ("outcome", "OV"), ("id", "1"), ("model", "any")];
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].1, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let state: String = store.redis.hget("limit0#budgetmonth0", "w").unwrap();
    assert_eq!(state.split_whitespace().skip(1).collect::<Vec<_>>(), ["120", "0", "0"]);
}

#[test]
fn a_lost_reservation_has_an_entry_once_a_settlement_has_told_the_ledger() {
    let Some(mut store) = Store::with_settable_clock() else { return };
    store.set_clock(Micros(TODAY));
    let month = month(1_000);
    let (check, verdict) = ask(&mut store, &[month], 1, 300);
    ask(&mut store, &[month], 0x0a0b, 200);
    let own = check.reservations(&verdict).unwrap();
    let ledger = Ledger { stream: b"the ledger", max_len: 1_000, fields: vec![("id", b"1".to_vec())] };
    let call = own.settle_call(&|_| 120, false, Some(&ledger), &store.scripts.clone());
    store.run(&call);
    store.set_clock(Micros(TODAY + 61_000_000));
    ask(&mut store, &[month], 3, 1);
    ask(&mut store, &[month], 4, 1);
    type Entry = (String, Vec<(String, String)>);
    let entries: Vec<Entry> = redis::cmd("XRANGE").arg("the ledger").arg("-").arg("+").query(&mut store.redis).unwrap();
    let expected = [
        ("id", "0b0a0000000000000100000000000000"),
        ("source", "lost"),
        ("key", "limit0#budgetmonth0"),
        ("reserved", "200 "),
        ("amounts", "200 "),
    ];
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1].1, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn a_ledger_that_refuses_its_entry_does_not_keep_a_request_from_being_settled() {
    let Some(mut store) = Store::start() else { return };
    let (check, verdict) = ask(&mut store, &[month(1_000)], 1, 300);
    let ledger = Ledger { stream: b"ledger", max_len: 1_000, fields: vec![("id", b"1".to_vec())] };
    store.command(&["SET", "ledger", "no stream"]);
    let scripts = store.scripts.clone();
    let call = check.reservations(&verdict).unwrap().settle_call(&|_| 120, false, Some(&ledger), &scripts);
    assert_eq!(read_results(&store.run(&call)), Some((vec![SettleResult::Within], true)));
    assert_eq!(read_results(&store.run(&call)), Some((vec![SettleResult::Nothing], false)));
}

#[test]
fn a_request_that_another_limit_denies_reserves_nothing() {
    let Some(mut store) = Store::start() else { return };
    let both = [month(1_000), tokens(500)];
    let (check, verdict) = ask(&mut store, &both, 1, 600);
    assert!(!verdict.admitted && check.reservations(&verdict).is_none());
    let keys: Vec<String> = store.redis.keys("*").unwrap();
    assert_eq!(keys, [""; 0]);
}

/// The leases of 1,000 requests of a proxy that has died end at once: later calls sweep them in steps.
#[test]
fn a_thousand_lost_reservations_are_swept_in_steps_and_charged_once() {
    let Some(mut store) = Store::with_settable_clock() else { return };
    store.forget_shadow();
    for algorithm in [month(1_000_000), tokens(1_000_000)] {
        store.clear();
        store.set_clock(Micros(TODAY));
        for request in 0..1_000 {
            assert!(ask(&mut store, &[algorithm], request, 7).1.admitted);
        }
        store.set_clock(Micros(TODAY + 61_000_000));
        let mut calls = 0;
        loop {
            let (_, verdict) = ask(&mut store, &[algorithm], 5_000 + calls, 0);
            calls += 1;
            if verdict.outcomes[0].held == Tokens(0) {
                break;
            }
            assert!(calls < 30, "{:?} are left", verdict.outcomes[0].held);
        }
        assert!(calls > 5, "{calls} calls have swept all");
        let (_, verdict) = ask(&mut store, &[algorithm], 9_000, 1_000_000 - 7_000 + 1);
        assert!(!verdict.admitted, "what is lost is charged");
        let (_, verdict) = ask(&mut store, &[algorithm], 9_001, 1_000_000 - 7_000);
        assert!(verdict.admitted, "once: {verdict:?}");
    }
}

#[test]
fn a_budget_is_kept_an_hour_beyond_its_last_lease() {
    let Some(mut store) = Store::start() else { return };
    for (algorithm, key, least) in [
        (tokens(60), "limit0#budgettoken", 3_660),
        (
            budget(Algorithm::FixedWindow(FixedWindow::of_amounts(60, Micros::from_secs(9)).unwrap())),
            "limit0#budgetfixed9000000",
            3_660,
        ),
        (
            budget(Algorithm::SlidingWindow(SlidingWindow::of_amounts(60, Micros::from_secs(40_000)).unwrap())),
            "limit0#budgetsliding40000000000",
            40_000,
        ),
        (month(60), "limit0#budgetmonth0", 28 * 86_400),
    ] {
        let (check, verdict) = ask(&mut store, &[algorithm], 1, 60);
        let ttl = |store: &mut Store| store.redis.pttl::<_, i64>(key).unwrap() / 1_000;
        let found = ttl(&mut store);
        assert!((least - 2..=least + 40_000 + 62 * 86_400).contains(&found), "{key}: {found} s");
        store.command(&["PEXPIRE", key, "9000"]);
        let own = check.reservations(&verdict).unwrap();
        assert_eq!(store.count(&renewal(&own, &store)), 1);
        assert!(ttl(&mut store) >= 3_658, "{key}");
    }
}

//! Budgets: random histories of reservations, settlements and lost leases, in Redis as in the specification.

mod in_redis;

use std::cell::RefCell;
use std::num::NonZeroU64;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use weir_filter::limit::{
    Algorithm, Algorithms, BucketCheck, Charge, Charged, Check, Fallback, FixedWindow, Ledger, MAX_AMOUNT, Model,
    NearLimit, OnLost, Period, Quota, Reservations, SettleResult, SlidingWindow, SlotOwner, TokenBucket, Verdict,
    Weights, WhenShort, read_results, renew_budgets_call,
};
use weir_filter::redis::Reply;
use weir_filter::units::{Micros, Tokens};

use crate::histories::{any_algorithm, seconds};
use crate::store::Store;

/// Entry of a stream: its ID, and its names and values.
type Entry = (String, Vec<(String, String)>);

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
    /// The check of an earlier request arrives once more, or late: behind its settlement.
    Again(usize),
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
        1 => (0_usize..9).prop_map(Event::Again),
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
    let lease = prop_oneof![1 => Just(1_000_000), 2 => 1_000_000_u64..20_000_000];
    (base, lease, on_lost, when_short).prop_map(|(base, lease, on_lost, when_short)| {
        base.reserving(&charge(Micros(lease), on_lost, when_short)).unwrap()
    })
}

fn pauses() -> BoxedStrategy<i64> {
    prop_oneof![9 => seconds(), 1 => -DAY..40 * DAY, 1 => 0..4_000 * SECOND, 2 => Just(SECOND)].boxed()
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
            Event::Again(which) => {
                let Some((check, _)) = earlier(which) else { continue };
                prop_assert_eq!(store.decide(check), Ok(model.decide(Micros(now), check)));
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

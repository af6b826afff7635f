//! Random histories of requests, ends of requests and clock changes: Redis decides as the specification does.

use std::cell::RefCell;
use std::num::NonZeroU64;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use weir_filter::limit::{
    Algorithm, Algorithms, BucketCheck, Check, Concurrency, FixedWindow, LeaseRequest, LeasedBucket, Model, Outcome,
    Period, Quota, Settlement, SlidingLog, SlidingWindow, SlotOwner, TokenBucket, Verdict, bounds,
};
use weir_filter::units::{Micros, Tokens};

use crate::store::Store;

/// 2026-11-20T00:00Z, in µs.
const TODAY: u64 = 1_795_132_800_000_000;
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

#[derive(Debug, Clone)]
enum Event {
    /// A request: the limits that apply, with the cost, whether the limit is enforced, and the ask of a leased bucket.
    Request(Vec<(usize, u64, bool, Ask)>),
    /// An earlier request ends: its index among all earlier requests, modulo their number.
    End(usize),
    /// An earlier request renews its leases.
    Renew(usize),
    /// The client of an earlier request, which may be held, disconnects.
    GoAway(usize),
}

/// Tokens wanted, and two settlements: epochs ago, tokens used and tokens unused. Settlements may be false.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    want: u64,
    settled: [(i64, u64, u64); 2],
}

#[derive(Debug, Clone)]
struct History {
    limits: Vec<Vec<Algorithm>>,
    start: u64,
    /// Clock changes in µs, which may be negative, and the event after each.
    events: Vec<(i64, Event)>,
}

#[test]
fn token_buckets_are_decided_as_specified() {
    any_history_is_decided_as_specified(500, || token_bucket().boxed(), seconds().boxed());
}

#[test]
fn leased_buckets_are_decided_as_specified() {
    any_history_is_decided_as_specified(700, || leased_bucket().boxed(), seconds().boxed());
}

#[test]
fn sliding_logs_are_decided_as_specified() {
    any_history_is_decided_as_specified(500, || sliding_log().boxed(), seconds().boxed());
}

#[test]
fn approximate_sliding_windows_are_decided_as_specified() {
    any_history_is_decided_as_specified(500, || sliding_window().boxed(), seconds().boxed());
}

#[test]
fn fixed_windows_are_decided_as_specified() {
    any_history_is_decided_as_specified(300, || fixed_window().boxed(), seconds().boxed());
}

#[test]
fn quotas_are_decided_as_specified() {
    any_history_is_decided_as_specified(700, || quota().boxed(), any_pause().boxed());
}

#[test]
fn requests_in_flight_are_decided_as_specified() {
    any_history_is_decided_as_specified(500, || concurrency().boxed(), seconds().boxed());
}

#[test]
fn mixtures_of_all_algorithms_are_decided_as_specified() {
    any_history_is_decided_as_specified(700, any_algorithm, prop_oneof![9 => seconds(), 1 => any_pause()].boxed());
}

#[test]
fn a_look_returns_what_the_next_request_finds_and_writes_nothing() {
    any_history_is_as_specified(300, any_algorithm, seconds().boxed(), look_and_replay);
}

fn any_history_is_decided_as_specified(
    cases: u32,
    algorithm: impl Fn() -> BoxedStrategy<Algorithm>,
    pause: BoxedStrategy<i64>,
) {
    any_history_is_as_specified(cases, algorithm, pause, |store, history| replay(store, history, |_, _, _| Ok(())));
}

fn any_history_is_as_specified(
    cases: u32,
    algorithm: impl Fn() -> BoxedStrategy<Algorithm>,
    pause: BoxedStrategy<i64>,
    replay: impl Fn(&mut Store, &History) -> Result<(), TestCaseError>,
) {
    let Some(store) = Store::with_settable_clock() else { return };
    let store = RefCell::new(store);
    let windows = proptest::collection::vec(algorithm(), 1..4)
        .prop_filter("windows that are alike", |algorithms| Algorithms::new(algorithms).is_ok());
    let limits = proptest::collection::vec(windows, 3);
    let history = (limits, start(), proptest::collection::vec((pause, event()), 1..80))
        .prop_map(|(limits, start, events)| History { limits, start, events });
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() })
        .run(&history, |history| replay(&mut store.borrow_mut(), &history))
        .unwrap();
}

/// Looks into the buckets of each request before Redis decides it: with a third of its limits, and with its limits.
fn look_and_replay(store: &mut Store, history: &History) -> Result<(), TestCaseError> {
    let mut latest = 0;
    replay(store, history, |store, check, expected| {
        let check: Vec<BucketCheck> = check.buckets().cloned().collect();
        let before = store.dump();
        let third: Vec<BucketCheck> =
            check.iter().map(|check| BucketCheck { algorithm: third(&check.algorithm), ..check.clone() }).collect();
        store.look(&third).map_err(TestCaseError::fail)?;
        let seen = store.look(&check).map_err(TestCaseError::fail)?;
        if expected.now.0 >= latest {
            prop_assert_eq!(store.dump(), before);
        }
        latest = expected.now.0.max(latest);
        for (seen, told) in seen.iter().zip(&expected.outcomes) {
            let level = if told.spent || told.granted.is_some() { seen } else { told };
            let unspent =
                Outcome { spent: false, granted: None, remaining: level.remaining, reset: level.reset, ..*told };
            prop_assert_eq!(*seen, unspent);
        }
        Ok(())
    })
}

/// Returns the same algorithm with a third of the limit, rounded up.
fn third(algorithm: &Algorithm) -> Algorithm {
    let third = |of: Tokens| n(of.0.div_ceil(3));
    match algorithm {
        Algorithm::NoTokens | Algorithm::Budget(_) => *algorithm,
        Algorithm::TokenBucket(bucket) => {
            Algorithm::TokenBucket(TokenBucket::new(third(bucket.capacity()), n(1), bucket.emission()).unwrap())
        }
        Algorithm::LeasedBucket(leased) => {
            let (capacity, emission) = (leased.bucket().capacity(), leased.bucket().emission());
            let bucket = TokenBucket::new(third(capacity), n(1), emission).unwrap();
            Algorithm::LeasedBucket(LeasedBucket::new(bucket, leased.ttl()).unwrap())
        }
        Algorithm::SlidingLog(log) => Algorithm::SlidingLog(SlidingLog::new(third(log.limit()), log.window()).unwrap()),
        Algorithm::SlidingWindow(sliding) => {
            Algorithm::SlidingWindow(SlidingWindow::new(third(sliding.limit()), sliding.window()).unwrap())
        }
        Algorithm::FixedWindow(fixed) => {
            Algorithm::FixedWindow(FixedWindow::new(third(fixed.limit()), fixed.window()).unwrap())
        }
        Algorithm::Quota(quota) => {
            Algorithm::Quota(Quota::new(third(quota.limit()), quota.period(), quota.offset_minutes()).unwrap())
        }
        Algorithm::Concurrency(slots) => {
            Algorithm::Concurrency(Concurrency::new(third(slots.max()), Micros::from_secs(1)).unwrap())
        }
    }
}

/// Replays a history in Redis and in the model, and compares their verdicts. `meet` gets each check before Redis does,
/// with the verdict of the model.
fn replay(
    store: &mut Store,
    history: &History,
    mut meet: impl FnMut(&mut Store, &Check, &Verdict) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    store.clear();
    let limits: Vec<Algorithms> = history.limits.iter().map(|windows| Algorithms::new(windows).unwrap()).collect();
    let mut model = Model::default();
    let mut decided: Vec<(Check, Verdict)> = Vec::new();
    let mut now = history.start;
    for (i, (pause, event)) in history.events.iter().enumerate() {
        now = now.saturating_add_signed(*pause);
        store.set_clock(Micros(now));
        let earlier = |which: &usize| decided.get(which % decided.len().max(1));
        match event {
            Event::Request(check) => {
                let check = check.iter().flat_map(|(limit, cost, enforced, ask)| {
                    let key = format!("limit{limit}");
                    let check = limits[*limit].checks(*limit, key.as_bytes(), Tokens(*cost), *enforced);
                    check.map(|check| ask.of(now, check)).collect::<Vec<_>>()
                });
                let check = Check::new(check.collect(), SlotOwner::new(7, i.try_into().unwrap()));
                let expected = model.decide(Micros(now), &check);
                meet(store, &check, &expected)?;
                prop_assert_eq!(store.decide(&check), Ok(expected.clone()));
                decided.push((check, expected));
            }
            Event::End(which) => {
                let Some(holds) = earlier(which).and_then(|(check, verdict)| check.held_slots(verdict)) else {
                    continue;
                };
                let released = store.count(&holds.release_call(&store.scripts.clone()));
                prop_assert_eq!(released, i64::try_from(model.release(&holds)).unwrap());
            }
            Event::Renew(which) => {
                let Some(holds) = earlier(which).and_then(|(check, _)| check.possible_slots()) else { continue };
                let renewed = store.count(&holds.renew_call(&store.scripts.clone()));
                prop_assert_eq!(renewed, i64::try_from(model.renew(Micros(now), &holds)).unwrap());
            }
            Event::GoAway(which) => {
                let Some((check, verdict)) = earlier(which) else { continue };
                let Some(call) = check.refund_call(verdict, &store.scripts) else { continue };
                prop_assert_eq!(store.count(&call), i64::try_from(model.refund(check, verdict)).unwrap());
            }
        }
    }
    Ok(())
}

fn event() -> impl Strategy<Value = Event> {
    let check = (0_usize..3, prop_oneof![1 => Just(0), 3 => 0_u64..14], proptest::bool::weighted(0.7), ask());
    let request = proptest::collection::vec(check, 1..4).prop_map(|mut check| {
        // Each limit applies to a request at most once.
        check.sort_unstable_by_key(|&(limit, ..)| limit);
        check.dedup_by_key(|&mut (limit, ..)| limit);
        Event::Request(check)
    });
    prop_oneof![
        8 => request,
        1 => (0_usize..80).prop_map(Event::End),
        1 => (0_usize..80).prop_map(Event::Renew),
        1 => (0_usize..80).prop_map(Event::GoAway),
    ]
}

fn start() -> impl Strategy<Value = u64> {
    // Times around the turn of a year, a leap day, and the end of February 2100, which has no leap day; and times up to
    // the year 2112, close to the largest integers that Lua's numbers hold exactly.
    let turns = [1_798_761_600, 1_835_481_600, 4_107_542_400_u64].map(|second| second * 1_000_000);
    let around = (proptest::sample::select(turns.to_vec()), -3 * DAY..2 * DAY);
    prop_oneof![
        Just(TODAY),
        around.prop_map(|(turn, off)| turn.saturating_add_signed(off)),
        TODAY..(1 << 52) - 3_000_000_000_000,
    ]
}

/// Clock changes in µs: mostly forwards, sometimes zero, sometimes backwards.
pub(crate) fn seconds() -> impl Strategy<Value = i64> {
    prop_oneof![2 => Just(0), 1 => 0_i64..10, 7 => -SECOND / 2..3 * SECOND, 1 => -30 * SECOND..30 * SECOND]
}

fn any_pause() -> impl Strategy<Value = i64> {
    prop_oneof![seconds(), -3_600 * SECOND..20_000 * SECOND, -2 * DAY..40 * DAY, 0..700 * DAY]
}

fn n(n: u64) -> NonZeroU64 {
    NonZeroU64::new(n).unwrap()
}

pub(crate) fn any_algorithm() -> BoxedStrategy<Algorithm> {
    prop_oneof![
        token_bucket(),
        leased_bucket(),
        sliding_log(),
        sliding_window(),
        fixed_window(),
        quota(),
        concurrency()
    ]
    .boxed()
}

pub(crate) fn token_bucket() -> impl Strategy<Value = Algorithm> {
    let delay = prop_oneof![Just(0), 0_u64..10_000_000];
    (1_u64..30, prop_oneof![Just(1), 1_u64..50], 1_u64..3_000_000, delay).prop_map(
        |(capacity, tokens, interval, delay)| {
            let bucket = TokenBucket::new(n(capacity), n(tokens), Micros(interval)).unwrap();
            Algorithm::TokenBucket(bucket.with_max_delay(Micros(delay)).unwrap())
        },
    )
}

fn window() -> impl Strategy<Value = Micros> {
    prop_oneof![1_u64..10, 1_u64..10_000_000, Just(1_000_000)].prop_map(Micros)
}

pub(crate) fn leased_bucket() -> impl Strategy<Value = Algorithm> {
    let ttl = prop_oneof![Just(1_000_000), 100_000_u64..5_000_000, 100_000_u64..60_000_000];
    (1_u64..60, prop_oneof![Just(1), 1_u64..50], 1_u64..3_000_000, ttl).prop_map(|(capacity, tokens, interval, ttl)| {
        let bucket = TokenBucket::new(n(capacity), n(tokens), Micros(interval)).unwrap();
        Algorithm::LeasedBucket(LeasedBucket::new(bucket, Micros(ttl)).unwrap())
    })
}

pub(crate) fn ask() -> impl Strategy<Value = Ask> {
    let tokens = || prop_oneof![6 => Just(0), 12 => 0_u64..12, 1 => any::<u64>()];
    let epochs_ago = prop_oneof![4 => Just(0), 3 => Just(1), 2 => -2_i64..4, 1 => any::<i64>()];
    let settled = (epochs_ago, tokens(), tokens());
    let settled = prop_oneof![Just((0, 0, 0)), settled];
    (tokens(), [settled.clone(), settled]).prop_map(|(want, settled)| Ask { want, settled })
}

impl Ask {
    pub(crate) fn of(&self, now: u64, check: BucketCheck) -> BucketCheck {
        let Algorithm::LeasedBucket(leased) = check.algorithm else { return check };
        let settled = self.settled.map(|(epochs_ago, used, unused)| Settlement {
            ends: leased.ttl().times((now / leased.ttl().0).saturating_add_signed(2_i64.saturating_sub(epochs_ago))),
            used: Tokens(used),
            unused: Tokens(unused),
        });
        let leased = leased.with_request(LeaseRequest { want: Tokens(self.want), settled });
        BucketCheck { algorithm: Algorithm::LeasedBucket(leased), ..check }
    }
}

fn sliding_log() -> impl Strategy<Value = Algorithm> {
    (1_u64..30, window()).prop_map(|(limit, window)| Algorithm::SlidingLog(SlidingLog::new(n(limit), window).unwrap()))
}

fn sliding_window() -> impl Strategy<Value = Algorithm> {
    let huge = (1..=bounds::MAX_LIMIT, 1..=bounds::MAX_WINDOW.0).prop_map(|(limit, window)| (limit, Micros(window)));
    prop_oneof![4 => (1_u64..30, window()), 1 => huge]
        .prop_map(|(limit, window)| Algorithm::SlidingWindow(SlidingWindow::new(n(limit), window).unwrap()))
}

fn fixed_window() -> impl Strategy<Value = Algorithm> {
    (1_u64..30, window())
        .prop_map(|(limit, window)| Algorithm::FixedWindow(FixedWindow::new(n(limit), window).unwrap()))
}

fn quota() -> impl Strategy<Value = Algorithm> {
    (1_u64..60, proptest::sample::select(&Period::ALL), -840_i32..=840)
        .prop_map(|(limit, period, offset)| Algorithm::Quota(Quota::new(n(limit), period, offset).unwrap()))
}

fn concurrency() -> impl Strategy<Value = Algorithm> {
    (1_u64..6, 1_000_000_u64..20_000_000)
        .prop_map(|(max, lease)| Algorithm::Concurrency(Concurrency::new(n(max), Micros(lease)).unwrap()))
}

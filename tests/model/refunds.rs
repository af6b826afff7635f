//! Refunds of delayed requests that have gone, where keys have overrides: a refund returns what its own request has
//! spent, whatever rate and size it was decided by, and no more.

use std::cell::RefCell;
use std::num::NonZeroU64;
use std::rc::Rc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use redis::Commands;
use weir_filter::limit::{
    Algorithm, Algorithms, BucketCheck, Check, Concurrency, FixedWindow, Model, SlotOwner, TokenBucket, Verdict,
};
use weir_filter::units::{Micros, Tokens};

use crate::histories::{any_algorithm, seconds, token_bucket};
use crate::store::Store;

/// 2026-11-20T00:00Z, in µs.
const TODAY: u64 = 1_795_132_800_000_000;
const KEY: &str = "bucket";

fn n(n: u64) -> NonZeroU64 {
    NonZeroU64::new(n).unwrap()
}

/// Returns a bucket that refills `tokens` per `secs`, and delays requests for at most 600 s.
fn shaped(capacity: u64, tokens: u64, secs: u64) -> Algorithm {
    let bucket = TokenBucket::new(n(capacity), n(tokens), Micros::from_secs(secs)).unwrap();
    Algorithm::TokenBucket(bucket.with_max_delay(Micros::from_secs(600)).unwrap())
}

/// Returns the check of a request, by a caller that has applied the override `text`; empty for none.
fn check(algorithms: &[Algorithm], cost: u64, text: &str, request: u64) -> Check {
    let applied: Option<Rc<[u8]>> = (!text.is_empty()).then(|| text.as_bytes().into());
    let windows = Algorithms::new(algorithms).unwrap();
    let checks =
        windows.checks(0, KEY, Tokens(cost), true).map(|check| BucketCheck { applied: applied.clone(), ..check });
    Check::new(checks.collect(), SlotOwner::new(7, request))
}

#[derive(Debug, Clone)]
enum Event {
    /// The operator sets one of the overrides, or removes it (0).
    Override(usize),
    /// A request of this cost.
    Request(u64),
    /// The client of an earlier request has gone.
    GoAway(usize),
    /// An earlier request ends: its slots are released.
    End(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => (0_usize..4).prop_map(Event::Override),
        4 => prop_oneof![1 => Just(0), 5 => 1_u64..9].prop_map(Event::Request),
        2 => prop_oneof![Just(0), 0_usize..20].prop_map(Event::GoAway),
        1 => (0_usize..20).prop_map(Event::End),
    ]
}

/// The limit has one algorithm or several, and each override others: another rate, size or kind.
#[test]
fn refunds_under_overrides_are_as_specified() {
    let Some(store) = Store::with_settable_clock() else { return };
    let store = RefCell::new(store);
    let windows = prop_oneof![
        2 => token_bucket().prop_map(|bucket| vec![bucket]).boxed(),
        1 => vec(any_algorithm(), 1..3).prop_filter("alike", |all| Algorithms::new(all).is_ok()).boxed(),
    ];
    let history = (vec(windows, 4), vec((seconds(), event()), 1..60));
    let refunded = RefCell::new(0);
    TestRunner::new(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })
        .run(&history, |(limits, events)| {
            *refunded.borrow_mut() += replay(&mut store.borrow_mut(), &limits, &events)?;
            Ok(())
        })
        .unwrap();
    let refunded = refunded.into_inner();
    assert!(refunded > 1_000, "only {refunded} refunds");
}

/// Returns the number of buckets refunded.
fn replay(store: &mut Store, limits: &[Vec<Algorithm>], events: &[(i64, Event)]) -> Result<usize, TestCaseError> {
    store.clear();
    let (mut model, mut now, mut chosen) = (Model::default(), TODAY, 0);
    let mut decided: Vec<(Check, Verdict)> = Vec::new();
    let mut all_refunded = 0;
    for (nth, (pause, event)) in events.iter().enumerate() {
        now = now.saturating_add_signed(*pause);
        store.set_clock(Micros(now));
        // The latest requests first: only they are refunded.
        let earlier = |which: &usize| decided.iter().rev().nth(*which);
        match event {
            Event::Override(which) => {
                chosen = *which;
                store.set_override(KEY, &text(chosen));
            }
            Event::Request(cost) => {
                let check = check(&limits[chosen], *cost, &text(chosen), nth as u64);
                let expected = model.decide(Micros(now), &check);
                prop_assert_eq!(store.decide(&check), Ok(expected.clone()));
                decided.push((check, expected));
            }
            Event::GoAway(which) => {
                let Some((check, verdict)) = earlier(which) else { continue };
                let Some(call) = check.refund_call(verdict, &store.scripts) else { continue };
                let refunded = model.refund(check, verdict);
                prop_assert_eq!(store.count(&call), i64::try_from(refunded).unwrap());
                all_refunded += refunded;
            }
            Event::End(which) => {
                let held = earlier(which).and_then(|(check, verdict)| check.held_slots(verdict));
                let Some(held) = held else { continue };
                let released = store.count(&held.release_call(&store.scripts.clone()));
                prop_assert_eq!(released, i64::try_from(model.release(&held)).unwrap());
            }
        }
    }
    Ok(all_refunded)
}

/// Text of an override; the scripts only compare it.
fn text(which: usize) -> String {
    if which == 0 { String::new() } else { format!("override {which}") }
}

/// A store with one limit: 1 token, 1 a minute.
struct Story {
    store: Store,
    text: &'static str,
    algorithms: Vec<Algorithm>,
    requests: u64,
}

impl Story {
    fn start() -> Option<Self> {
        let mut store = Store::with_settable_clock()?;
        store.set_clock(Micros(TODAY));
        Some(Self { store, text: "", algorithms: vec![shaped(1, 1, 60)], requests: 0 })
    }

    fn overrides(&mut self, text: &'static str, algorithms: &[Algorithm]) {
        self.store.set_override(KEY, text);
        (self.text, self.algorithms) = (text, algorithms.to_vec());
    }

    fn asks(&mut self) -> (Check, Verdict) {
        self.requests += 1;
        let check = check(&self.algorithms, 1, self.text, self.requests);
        let verdict = self.store.decide(&check).unwrap();
        (check, verdict)
    }

    /// Sends a request, and returns for how many seconds it is delayed.
    fn delay(&mut self) -> u64 {
        let (_, verdict) = self.asks();
        assert!(verdict.admitted, "{verdict:?}");
        verdict.delay().to_secs_ceil()
    }

    fn goes_away(&mut self, (check, verdict): &(Check, Verdict)) -> i64 {
        let call = check.refund_call(verdict, &self.store.scripts).unwrap();
        self.store.count(&call)
    }

    /// Whether the bucket's state lets the next request read the override: its speed is positive.
    fn makes_requests_read(&mut self) -> bool {
        let key = if self.algorithms.len() == 1 { KEY.to_owned() } else { format!("{KEY}#token") };
        let state: Vec<u8> = self.store.redis.get(key).unwrap();
        i64::from_be_bytes(state[24..32].try_into().unwrap()) > 0
    }
}

#[test]
fn a_delayed_request_under_an_override_that_goes_away_leaves_its_turn_to_the_next() {
    let Some(mut story) = Story::start() else { return };
    let quota = Algorithm::FixedWindow(FixedWindow::new(n(100), Micros::from_secs(3_600)).unwrap());
    let slots = Algorithm::Concurrency(Concurrency::new(n(9), Micros::from_secs(60)).unwrap());
    for (text, algorithms, turn) in [
        ("a lower rate", vec![shaped(1, 1, 120)], 120),
        ("a higher rate", vec![shaped(1, 3, 60)], 20),
        ("a larger burst", vec![shaped(3, 1, 60)], 60),
        ("a larger burst at a lower rate", vec![shaped(5, 2, 180)], 90),
        ("another kind besides", vec![shaped(1, 1, 60), quota], 60),
        ("slots besides", vec![shaped(1, 1, 60), slots], 60),
    ] {
        story.store.clear();
        story.store.set_clock(Micros(TODAY));
        story.overrides(text, &algorithms);
        while story.delay() == 0 {}
        let (second, third) = (story.asks(), story.asks());
        assert_eq!(
            [&second, &third].map(|(_, verdict)| verdict.delay().to_secs_ceil()),
            [2 * turn, 3 * turn],
            "{text}"
        );
        assert_eq!(story.goes_away(&second), 0, "the third is behind the second: {text}");
        assert_eq!(story.goes_away(&third), 1, "{text}");
        assert_eq!(story.goes_away(&third), 0, "once only: {text}");
        assert_eq!(story.delay(), 3 * turn, "{text}");
        assert!(story.makes_requests_read(), "{text}");
    }
}

#[test]
fn a_delayed_request_goes_away_after_its_key_has_got_an_override_or_lost_it() {
    let Some(mut story) = Story::start() else { return };
    assert_eq!(story.delay(), 0);
    let before = story.asks();
    story.overrides("twice the rate", &[shaped(1, 2, 60)]);
    assert_eq!(story.goes_away(&before), 1, "nobody has spent since");
    assert!(story.makes_requests_read(), "a refund does not hide the override");
    assert_eq!(story.delay(), 30, "one token is spent, at the new rate");

    // A request at the new rate is behind: what it waits for is settled.
    let under = story.asks();
    story.overrides("", &[shaped(1, 1, 60)]);
    let behind = story.asks();
    assert_eq!(story.goes_away(&under), 0);
    assert_eq!(story.goes_away(&behind), 1);
    assert!(!story.makes_requests_read());
}

#[test]
fn a_request_with_another_number_of_its_own_is_refunded_unless_others_have_spent() {
    let Some(mut story) = Story::start() else { return };
    // Two clients of one key carry their own limits: 1 a minute, and 6 a minute.
    let (slow, fast) = (vec![shaped(1, 1, 60)], vec![shaped(6, 6, 60)]);
    assert_eq!(story.delay(), 0);
    story.algorithms = fast.clone();
    while story.delay() == 0 {}
    let (held, waits) = (story.asks(), story.asks());
    assert_eq!(waits.1.delay(), held.1.delay().plus(Micros::from_secs(10)));
    story.algorithms = slow;
    let slow = story.asks();
    assert_eq!(story.goes_away(&waits), 0, "the slow client's turn is behind");
    assert_eq!(story.goes_away(&slow), 1);
    story.algorithms = fast;
    let again = story.asks();
    assert_eq!(again.1.delay(), waits.1.delay().plus(Micros::from_secs(10)), "the slow client's token is free again");
}

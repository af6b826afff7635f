//! Requests that give back what they spent, since a bucket in another hash slot of a cluster denied them: no bucket
//! admits more than it would without them. The store compares each reply with that of the virtual Redis.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::NonZeroU64;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use weir_filter::limit::{Algorithm, BucketCheck, Check, Model, SlotOwner, TokenBucket, Verdict};
use weir_filter::units::{Micros, Tokens};

use crate::histories::{any_algorithm, seconds};
use crate::store::Store;

/// 2026-11-20T00:00Z, in µs.
const TODAY: u64 = 1_795_132_800_000_000;

#[derive(Debug, Clone)]
enum Event {
    /// A request of this cost.
    Request(u64),
    /// An earlier request, counted from the latest one, gives back.
    GiveBack(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![3 => (0_u64..9).prop_map(Event::Request), 2 => (0_usize..12).prop_map(Event::GiveBack)]
}

fn check(algorithm: Algorithm, cost: u64, request: usize) -> Check {
    let (key, cost) = (b"{bucket}".to_vec(), Tokens(cost));
    let bucket = BucketCheck { limit: 0, window: 0, key, algorithm, cost, enforced: true, applied: None };
    Check::new(vec![bucket], SlotOwner::new(7, request as u64))
}

#[test]
fn requests_that_stay_admitted_would_be_admitted_without_those_that_gave_back() {
    let Some(store) = Store::with_settable_clock() else { return };
    let store = RefCell::new(store);
    let given = RefCell::new(BTreeMap::<&str, (i64, i64)>::new());
    let pause = prop_oneof![2 => Just(0), 1 => 0_i64..2_000_000, 1 => seconds()];
    let history = (any_algorithm(), vec((pause, event()), 1..60));
    TestRunner::new(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })
        .run(&history, |(algorithm, events)| {
            let (all, tried) = replay(&mut store.borrow_mut(), algorithm, &events)?;
            let mut given = given.borrow_mut();
            let of_kind = given.entry(kind(&algorithm)).or_default();
            (of_kind.0, of_kind.1) = (of_kind.0 + all, of_kind.1 + tried);
            Ok(())
        })
        .unwrap();
    let given = given.into_inner();
    assert!(given.len() == 7 && given.values().all(|(given, _)| *given > 0), "given back, and tried: {given:?}");
}

/// Token bucket on the store's clock, from which each request spends one µs after the one before.
struct Bucket<'a> {
    store: &'a mut Store,
    algorithm: Algorithm,
    now: u64,
    requests: usize,
}

impl<'a> Bucket<'a> {
    fn new(store: &'a mut Store, max_tokens: u64, per_second: u64) -> Self {
        let [capacity, fill] = [max_tokens, per_second].map(|tokens| NonZeroU64::new(tokens).unwrap());
        let bucket = TokenBucket::new(capacity, fill, Micros::from_secs(1)).unwrap();
        store.clear();
        Self { store, algorithm: Algorithm::TokenBucket(bucket), now: TODAY, requests: 0 }
    }

    fn wait(&mut self, pause: Micros) {
        self.now += pause.0;
    }

    fn spend(&mut self, cost: u64) -> Option<(Check, Verdict)> {
        (self.now, self.requests) = (self.now + 1, self.requests + 1);
        self.store.set_clock(Micros(self.now));
        let check = check(self.algorithm, cost, self.requests);
        let verdict = self.store.decide(&check).unwrap();
        verdict.admitted.then_some((check, verdict))
    }

    fn give_back(&mut self, (check, verdict): &(Check, Verdict)) -> i64 {
        self.now += 1;
        self.store.set_clock(Micros(self.now));
        let call = check.give_back_call(verdict, &self.store.scripts).unwrap();
        self.store.count(&call)
    }
}

/// The second request would have found the tokens that the first has given back: they would have flowed in sooner.
#[test]
fn tokens_that_flow_in_while_two_requests_wait_are_there_once() {
    let Some(mut store) = Store::with_settable_clock() else { return };
    let mut bucket = Bucket::new(&mut store, 20, 1);
    let [one, other] = [10, 10].map(|cost| bucket.spend(cost).unwrap());
    bucket.wait(Micros::from_secs(5));
    assert_eq!(bucket.give_back(&one), 1);
    bucket.wait(Micros::from_secs(5));
    assert!(bucket.spend(10).is_some());
    bucket.give_back(&other);
    assert!(bucket.spend(11).is_none());
    assert!(bucket.spend(9).is_some());
}

/// Competitors have emptied the bucket, so that nothing has flowed in because of these requests.
#[test]
fn a_fast_bucket_that_others_keep_busy_gets_all_back() {
    let Some(mut store) = Store::with_settable_clock() else { return };
    let mut bucket = Bucket::new(&mut store, 50, 1_000);
    assert!(bucket.spend(30).is_some());
    let denied: Vec<_> = (0..20).map(|_| bucket.spend(1).unwrap()).collect();
    bucket.wait(Micros::from_millis(10));
    // The last write before the first is given back.
    assert!(bucket.spend(1).is_some());
    assert_eq!(denied.iter().map(|denied| bucket.give_back(denied)).sum::<i64>(), 20);
    assert!(bucket.spend(50 - (30 - 10) - 1).is_some());
    assert!(bucket.spend(1).is_none());
}

/// The log beside the bucket does not have all that others have given back since.
#[test]
fn a_request_gets_less_back_where_others_have_got_too_much_back_to_know() {
    let Some(mut store) = Store::with_settable_clock() else { return };
    let mut bucket = Bucket::new(&mut store, 200, 1_000);
    let others: Vec<_> = (0..100).map(|_| bucket.spend(1).unwrap()).collect();
    let large = bucket.spend(100).unwrap();
    assert_eq!(others.iter().map(|other| bucket.give_back(other)).sum::<i64>(), 100);
    bucket.wait(Micros::from_millis(100));
    assert!(bucket.spend(100).is_some());
    bucket.give_back(&large);
    assert!(bucket.spend(102).is_none());
    assert!(bucket.spend(99).is_some());
}

fn kind(algorithm: &Algorithm) -> &'static str {
    match algorithm {
        Algorithm::TokenBucket(bucket) if bucket.max_delay() > Micros::ZERO => "delaying bucket",
        Algorithm::TokenBucket(_) => "token bucket",
        Algorithm::LeasedBucket(_) => "leased bucket",
        Algorithm::SlidingLog(_) => "sliding log",
        Algorithm::SlidingWindow(_) => "sliding window",
        Algorithm::FixedWindow(_) => "fixed window",
        _ => "quota",
    }
}

/// Returns how many requests gave back, and how many were asked to.
fn replay(store: &mut Store, algorithm: Algorithm, events: &[(i64, Event)]) -> Result<(i64, i64), TestCaseError> {
    store.clear();
    let (mut now, mut given, mut tried) = (TODAY, 0, 0);
    let mut admitted: Vec<(u64, Check, Verdict)> = Vec::new();
    for (nth, (pause, event)) in events.iter().enumerate() {
        // Requests of one µs are one to a sliding log.
        now = now.saturating_add(pause.unsigned_abs()).saturating_add(1);
        store.set_clock(Micros(now));
        match event {
            Event::Request(cost) => {
                let check = check(algorithm, *cost, nth);
                let verdict = store.decide(&check).map_err(TestCaseError::fail)?;
                if verdict.admitted {
                    admitted.push((now, check, verdict));
                }
            }
            Event::GiveBack(which) => {
                let Some(place) = admitted.len().checked_sub(which + 1) else { continue };
                let (_, check, verdict) = &admitted[place];
                let Some(call) = check.give_back_call(verdict, &store.scripts) else { continue };
                let count = store.count(&call);
                (given, tried) = (given + count, tried + 1);
                if count == 1 {
                    admitted.remove(place);
                }
            }
        }
    }
    let mut alone = Model::default();
    for (at, check, _) in &admitted {
        let verdict = alone.decide(Micros(*at), check);
        prop_assert!(verdict.admitted, "{:?} at {}: {:?}", check, at, verdict);
    }
    Ok((given, tried))
}

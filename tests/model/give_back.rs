//! Requests that give back what they spent, since a bucket in another hash slot of a cluster denied them: no bucket
//! admits more than it would without them. The store compares each reply with that of the virtual Redis.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use weir_filter::limit::{Algorithm, BucketCheck, Check, Model, SlotOwner, Verdict};
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

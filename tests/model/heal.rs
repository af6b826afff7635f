//! Heals: a Redis that has lost data gets the states back that workers remember. The store compares each reply with
//! that of the virtual Redis.

use std::cell::RefCell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use weir_filter::limit::{
    Algorithm, BucketCheck, Check, LastState, RESET_SCRIPT, RESTORED, SlotOwner, VOID, heal_call,
};
use weir_filter::redis::Reply;
use weir_filter::units::{Micros, Tokens};

use crate::histories::{any_algorithm, seconds};
use crate::store::Store;

/// 2026-11-20T00:00Z, in µs.
const TODAY: u64 = 1_795_132_800_000_000;
const WORKERS: usize = 3;

#[derive(Debug, Clone)]
enum Event {
    /// A request of a worker.
    Request { worker: usize, cost: u64 },
    /// A worker sends the state that it remembers.
    Heal { worker: usize },
    /// Redis loses the bucket.
    Lose,
}

fn event() -> impl Strategy<Value = Event> {
    let worker = 0..WORKERS;
    prop_oneof![
        6 => (worker.clone(), 0_u64..9).prop_map(|(worker, cost)| Event::Request { worker, cost }),
        2 => worker.prop_map(|worker| Event::Heal { worker }),
        1 => Just(Event::Lose),
    ]
}

fn bucket(algorithm: Algorithm, cost: u64) -> BucketCheck {
    let (key, cost) = (b"bucket".to_vec(), Tokens(cost));
    BucketCheck { limit: 0, window: 0, key, algorithm, cost, enforced: true, applied: None }
}

/// Worker with the state that it remembers, as the filter does.
#[derive(Debug, Clone, Copy, Default)]
struct Worker {
    last: Option<LastState>,
}

impl Worker {
    /// Decides a request. Returns the tokens that it spent, and the state that Redis has lost by its reply, with these.
    fn request(&mut self, store: &mut Store, check: &Check) -> Result<(u64, Option<LastState>), TestCaseError> {
        let reply = store.run(&check.call(&store.scripts));
        let verdict = check.read(&reply).map_err(|malformed| TestCaseError::fail(malformed.to_string()))?;
        let (mut spent, mut lost) = (0, None);
        for (nth, (bucket, outcome)) in check.buckets().zip(&verdict.outcomes).enumerate() {
            let Some(state) = check.state_before(&reply, nth).filter(|_| outcome.spent) else { continue };
            spent += bucket.cost.0;
            match &mut self.last {
                Some(last) if last.is_of_later_reply(verdict.now) => {}
                Some(last) => {
                    let mut plain = *last;
                    let is_plain = plain.follow_plain(verdict.now, outcome);
                    if !is_plain && last.exceeds(verdict.now, bucket, state) {
                        last.lose(outcome);
                        lost = Some(*last);
                    }
                    if let Some(next) = LastState::after(verdict.now, bucket, outcome, state) {
                        // Both ways lead to the same state.
                        if is_plain {
                            prop_assert_eq!(plain, next);
                        }
                        *last = next;
                    }
                }
                None => self.last = LastState::after(verdict.now, bucket, outcome, state),
            }
        }
        Ok((spent, lost))
    }

    fn heal(store: &mut Store, state: LastState) -> u8 {
        let call = heal_call(&[(b"bucket"[..].into(), state)], &store.scripts);
        let reply = store.run(&call);
        match reply {
            Reply::Bulk(results) if results.len() == 1 => results[0],
            other => panic!("malformed reply {other:?}"),
        }
    }
}

/// Returns the tokens that are left in the bucket.
fn remaining(store: &mut Store, algorithm: Algorithm) -> Result<u64, TestCaseError> {
    let check = Check::new(vec![bucket(algorithm, 0)], SlotOwner::default());
    store.decide(&check).map(|verdict| verdict.outcomes[0].remaining.0).map_err(TestCaseError::fail)
}

/// Whether a bucket is healed as it was after the last request. The tokens of a request that is held may be refunded.
fn heals_exactly(algorithm: &Algorithm) -> bool {
    match algorithm {
        Algorithm::TokenBucket(bucket) => bucket.max_delay() == Micros::ZERO,
        other => !matches!(other, Algorithm::Concurrency(_) | Algorithm::LeasedBucket(_)),
    }
}

/// A heal leaves no more than there was, and a second one changes nothing.
#[test]
fn heals_leave_no_more_than_there_was() {
    let Some(store) = Store::with_settable_clock() else { return };
    let store = RefCell::new(store);
    let pause = prop_oneof![2 => Just(0), 2 => 0_i64..2_000_000, 1 => seconds()];
    let history = (any_algorithm(), vec((pause, event()), 1..80));
    TestRunner::new(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })
        .run(&history, |(algorithm, events)| {
            let mut store = store.borrow_mut();
            store.clear();
            let (mut now, mut workers) = (TODAY, [Worker::default(); WORKERS]);
            for (nth, (pause, event)) in events.into_iter().enumerate() {
                now = now.saturating_add_signed(pause).max(1);
                store.set_clock(Micros(now));
                match event {
                    Event::Request { worker, cost } => {
                        let check = Check::new(vec![bucket(algorithm, cost)], SlotOwner::new(7, nth as u64));
                        workers[worker].request(&mut store, &check)?;
                    }
                    Event::Heal { worker } => {
                        let Some(state) = workers[worker].last else { continue };
                        let before = remaining(&mut store, algorithm)?;
                        let healed = Worker::heal(&mut store, state);
                        let after = remaining(&mut store, algorithm)?;
                        prop_assert!(after <= before, "{before} tokens became {after}");
                        if healed != RESTORED {
                            prop_assert_eq!(before, after);
                        }
                        // A second heal with the same state changes nothing.
                        let again = Worker::heal(&mut store, state);
                        prop_assert!(again != RESTORED, "{:?} after {:?}", again, healed);
                    }
                    Event::Lose => {
                        store.clear();
                        store.set_clock(Micros(now));
                    }
                }
            }
            Ok(())
        })
        .unwrap();
}

/// A bucket is as if nothing had been lost if its only worker heals it before the first request after a loss, and the
/// clock only goes forward; an exact sliding window may have less left.
#[test]
fn a_worker_that_remembers_everything_restores_everything() {
    let Some(store) = Store::with_settable_clock() else { return };
    let Some(other) = Store::with_settable_clock() else { return };
    let stores = RefCell::new((store, other));
    let pause = prop_oneof![2 => Just(0_u64), 2 => 0_u64..2_000_000, 1 => 0_u64..400_000_000];
    let history = (any_algorithm(), vec((pause, 0_u64..9, prop::bool::weighted(0.2)), 1..60));
    TestRunner::new(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })
        .run(&history, |(algorithm, events)| {
            prop_assume!(heals_exactly(&algorithm));
            let (store, other) = &mut *stores.borrow_mut();
            [&mut *store, &mut *other].into_iter().for_each(Store::clear);
            let (mut now, mut worker) = (TODAY, Worker::default());
            for (nth, (pause, cost, is_lost)) in events.into_iter().enumerate() {
                now += pause;
                [&mut *store, &mut *other].into_iter().for_each(|store| store.set_clock(Micros(now)));
                if is_lost {
                    store.clear();
                    store.set_clock(Micros(now));
                    if let Some(state) = worker.last {
                        Worker::heal(store, state);
                    }
                }
                let (found, expected) = (remaining(store, algorithm)?, remaining(other, algorithm)?);
                match algorithm {
                    Algorithm::SlidingLog(_) => prop_assert!(found <= expected, "{found} left instead of {expected}"),
                    _ => prop_assert_eq!(found, expected),
                }
                let check = Check::new(vec![bucket(algorithm, cost)], SlotOwner::new(7, nth as u64));
                let (spent, lost) = worker.request(store, &check)?;
                prop_assert_eq!(lost, None, "the reply shows a loss");
                if spent > 0 {
                    other.decide(&check).map_err(TestCaseError::fail)?;
                }
            }
            Ok(())
        })
        .unwrap();
}

/// A reply shows the loss to a worker that does not know of it, and the heal after it restores what was spent before.
#[test]
fn a_reply_shows_that_redis_has_lost_a_bucket() {
    let Some(store) = Store::with_settable_clock() else { return };
    let store = RefCell::new(store);
    let history = (any_algorithm(), vec(1_u64..4, 1..10));
    TestRunner::new(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })
        .run(&history, |(algorithm, costs)| {
            prop_assume!(heals_exactly(&algorithm));
            let mut store = store.borrow_mut();
            store.clear();
            store.set_clock(Micros(TODAY));
            let mut worker = Worker::default();
            let mut spent = 0;
            for (nth, cost) in costs.into_iter().enumerate() {
                let check = Check::new(vec![bucket(algorithm, cost)], SlotOwner::new(7, nth as u64));
                spent += worker.request(&mut store, &check)?.0;
            }
            prop_assume!(spent > 0 && worker.last.is_some_and(|last| last.until() > Micros(TODAY + 1)));
            store.set_clock(Micros(TODAY + 1));
            let left = remaining(&mut store, algorithm)?;
            store.clear();
            store.set_clock(Micros(TODAY + 1));
            let check = Check::new(vec![bucket(algorithm, 1)], SlotOwner::new(8, 1));
            let (_, lost) = worker.request(&mut store, &check)?;
            let Some(lost) = lost else { return Err(TestCaseError::fail("the loss was not noticed")) };
            Worker::heal(&mut store, lost);
            let after = remaining(&mut store, algorithm)?;
            prop_assert!(after <= left, "{left} tokens became {after}");
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_bucket_that_an_operator_has_reset_is_not_healed() {
    let Some(mut store) = Store::start() else { return };
    let algorithm = Algorithm::FixedWindow(
        weir_filter::limit::FixedWindow::new(10_u64, Micros::from_secs(3_600 * 24 * 365)).unwrap(),
    );
    let mut worker = Worker::default();
    let check = Check::new(vec![bucket(algorithm, 4)], SlotOwner::default());
    worker.request(&mut store, &check).unwrap();
    let reset = |store: &mut Store| {
        store.command(&["EVAL", RESET_SCRIPT, "2", "bucket", "bucket#reset", "60000"]);
        remaining(store, algorithm).unwrap()
    };
    assert_eq!(reset(&mut store), 10);
    let last = worker.last.unwrap();
    assert_eq!(Worker::heal(&mut store, last), VOID);
    assert_eq!(remaining(&mut store, algorithm).unwrap(), 10);
    // A state of after the reset heals again.
    let mut worker = Worker::default();
    worker.request(&mut store, &check).unwrap();
    store.command(&["DEL", "bucket"]);
    assert_eq!(Worker::heal(&mut store, worker.last.unwrap()), RESTORED);
    assert_eq!(remaining(&mut store, algorithm).unwrap(), 6);
}

//! Posts of what workers have admitted without Redis, and heartbeats by which Redis grants them shares. The store
//! compares each reply with that of the virtual Redis.

use std::cell::RefCell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use weir_filter::limit::{Algorithm, BucketCheck, Check, Claim, Heartbeat, SlotOwner, post_call};
use weir_filter::units::{Micros, Tokens};

use crate::histories::{any_algorithm, seconds};
use crate::store::Store;

/// 2026-11-20T00:00Z, in µs.
const TODAY: u64 = 1_795_132_800_000_000;

fn bucket(algorithm: Algorithm, cost: u64) -> BucketCheck {
    let (key, cost) = (b"bucket".to_vec(), Tokens(cost));
    BucketCheck { limit: 0, window: 0, key, algorithm, cost, enforced: true, applied: None }
}

/// A post leaves at most its cost less, and never less than nothing; the requests after it are decided alike.
#[test]
fn posts_spend_as_specified() {
    let Some(store) = Store::with_settable_clock() else { return };
    let store = RefCell::new(store);
    let pause = prop_oneof![2 => Just(0), 1 => 0_i64..2_000_000, 1 => seconds()];
    let history = (any_algorithm(), vec((pause, any::<bool>(), 0_u64..9), 1..60));
    TestRunner::new(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })
        .run(&history, |(algorithm, events)| {
            // Limits of requests in flight have no posts.
            prop_assume!(!matches!(algorithm, Algorithm::Concurrency(_)));
            let mut store = store.borrow_mut();
            store.clear();
            // A worker posts to the bucket from which it leased.
            let posted = match algorithm {
                Algorithm::LeasedBucket(leased) => Algorithm::TokenBucket(*leased.bucket()),
                other => other,
            };
            let mut now = TODAY;
            for (nth, (pause, is_post, cost)) in events.into_iter().enumerate() {
                now = now.saturating_add_signed(pause).max(1);
                store.set_clock(Micros(now));
                let level = |store: &mut Store| {
                    let check = Check::new(vec![bucket(posted, 0)], SlotOwner::default());
                    store.decide(&check).map(|verdict| verdict.outcomes[0].remaining.0).map_err(TestCaseError::fail)
                };
                if is_post {
                    let before = level(&mut store)?;
                    let call = post_call(&[bucket(posted, cost)], &store.scripts);
                    prop_assert_eq!(store.count(&call), 1);
                    let after = level(&mut store)?;
                    prop_assert!(
                        after <= before && after >= before.saturating_sub(cost),
                        "{} {} {}",
                        before,
                        cost,
                        after
                    );
                } else {
                    let check = Check::new(vec![bucket(algorithm, cost)], SlotOwner::new(7, nth as u64));
                    store.decide(&check).map_err(TestCaseError::fail)?;
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn shares_are_granted_as_specified_and_are_at_most_1_together() {
    let Some(store) = Store::with_settable_clock() else { return };
    let store = RefCell::new(store);
    // A pause, a worker, its load, and whether the reply is lost.
    let beats = vec((0_u64..1_500_000, 0_usize..5, 0_u64..2_000_000, prop::bool::weighted(0.1)), 1..120);
    TestRunner::new(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })
        .run(&(beats, 1_u32..200), |(beats, parts)| {
            let mut store = store.borrow_mut();
            store.clear();
            let (mut now, mut held, mut seen) = (TODAY, [0_u32; 5], [TODAY; 5]);
            let ttl = Micros::from_secs(600);
            for (pause, worker, load, is_lost) in beats {
                now += pause * 20;
                store.set_clock(Micros(now));
                let claim = Claim { registry: b"registry".to_vec(), load, held: held[worker], parts };
                let reply = store.run(&Heartbeat::default().call(worker as u64, ttl, &[claim]));
                let numbers: Vec<u32> = Heartbeat::read(&reply).collect();
                let [workers, granted] = numbers[..] else { panic!("{reply:?}") };
                prop_assert!((1..=5).contains(&workers));
                seen[worker] = now;
                if !is_lost {
                    held[worker] = granted;
                }
                // A worker that is forgotten has none: it would be told so by its next heartbeat.
                let known = held.iter().zip(seen).filter(|(_, seen)| now - seen <= ttl.0 / 2);
                let sum: u32 = known.map(|(held, _)| held).sum();
                prop_assert!(sum <= parts, "{:?} of {}", held, parts);
            }
            Ok(())
        })
        .unwrap();
}
